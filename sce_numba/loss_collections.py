"""Loss collections, which TensorFlow 1 keeps in its graph, inside a ``with`` block.

TensorFlow's eager mode records no losses, and neither does this package outside a block.
"""

from __future__ import annotations

import inspect
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from .arguments import as_array
from .array_libraries import is_column
from .messages import shown
from .reduction import Reduction


class GraphKeys:
    """Names of collections, as in TensorFlow.

    Attributes
    ----------
    LOSSES : str
        ``"losses"``, the collection that every loss joins unless told otherwise.
    REGULARIZATION_LOSSES : str
        ``"regularization_losses"``, which ``get_total_loss`` adds.
    """

    LOSSES = "losses"
    REGULARIZATION_LOSSES = "regularization_losses"


# The losses of a block: scope name (None where none was given), collection, value.
_Recorded = list[tuple["str | None", str, Any]]
_innermost: ContextVar[_Recorded | None] = ContextVar("sce_numba_losses", default=None)


class CollectedLosses:
    """A live view of the default collection of one block: iterable, sized, indexable."""

    def __init__(self, recorded: _Recorded) -> None:
        self._recorded = recorded

    def _losses(self) -> list[Any]:
        return _matching(self._recorded, None, GraphKeys.LOSSES)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._losses())

    def __len__(self) -> int:
        return len(self._losses())

    def __getitem__(self, index: int) -> Any:
        return self._losses()[index]

    def __repr__(self) -> str:
        return f"CollectedLosses({self._losses()!r})"


def _matching(recorded: _Recorded, scope: str | None, loss_collection: str) -> list[Any]:
    return [
        loss
        for name, collection, loss in recorded
        if collection == loss_collection
        and (not scope or (name is not None and re.match(scope, name)))
    ]


@contextmanager
def collect_losses() -> Iterator[CollectedLosses]:
    """Record the losses computed inside the ``with`` block.

    The block stands in for TensorFlow's graph.  Blocks nest: the innermost one records.  Each
    thread and each asyncio task has blocks of its own.

    Yields
    ------
    CollectedLosses
        The losses in the collection ``GraphKeys.LOSSES``, in the order of their computation;
        still readable after the block has ended.

    Notes
    -----
    A call that fails, for whatever reason, records nothing.  What was recorded before stays.

    Examples
    --------
    >>> import numpy as np
    >>> import sce_numba as sce
    >>> with sce.collect_losses() as losses:
    ...     _ = sce.sigmoid_cross_entropy([1.0], [0.0], scope="first")
    ...     _ = sce.sigmoid_cross_entropy([1.0], [0.0], weights=2.0, scope="second")
    ...     total = sce.get_total_loss()
    >>> len(losses), round(float(total), 6)
    (2, 2.079442)
    """
    recorded: _Recorded = []
    token = _innermost.set(recorded)
    try:
        yield CollectedLosses(recorded)
    finally:
        _innermost.reset(token)


def is_recorded(function: Callable[..., Any]) -> bool:
    """Tell whether a public function records its loss."""
    return "loss_collection" in inspect.signature(function).parameters


def record(
    loss: Any,
    scope: str | None,
    loss_collection: str | None,
    reduction: str | None = None,
    several: bool = False,
) -> None:
    """Record a loss under its scope name, if a block is open and a collection is named.

    One that is not reduced, or to ``several`` results, stays out of the default collection, whose
    total is a number.
    """
    recorded = _innermost.get()
    if recorded is None or not loss_collection:
        return
    unreduced = reduction is not None and str.__str__(reduction) == Reduction.NONE
    if (unreduced or several) and loss_collection == GraphKeys.LOSSES:
        of = "of `Reduction.NONE`" if unreduced else "along an axis"
        _warn(
            f"Losses {of} are not recorded, as no total could be made of them and "
            "others. Pass `loss_collection=None`, or record what they come to with `add_loss`."
        )
        return
    recorded.append((scope, loss_collection, loss))


def _warn(message: str) -> None:
    """Warn, with the location of the line that called this package."""
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_globals.get("__name__", "").startswith(f"{__package__}."):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)


def add_loss(loss: Any, loss_collection: str | None = GraphKeys.LOSSES) -> None:
    """Record a loss computed elsewhere in the innermost ``collect_losses`` block.

    Parameters
    ----------
    loss : scalar, array or tensor
        The value to record.
    loss_collection : str or None
        The collection to add it to; ``None`` records nothing.

    Notes
    -----
    Outside a block nothing is recorded, as in TensorFlow's eager mode.

    Examples
    --------
    >>> import sce_numba as sce
    >>> with sce.collect_losses() as losses:
    ...     sce.add_loss(0.5)
    >>> list(losses)
    [0.5]
    """
    record(loss, None, loss_collection)


def get_losses(scope: str | None = None, loss_collection: str = GraphKeys.LOSSES) -> list[Any]:
    """Return the losses recorded so far in the innermost ``collect_losses`` block.

    Parameters
    ----------
    scope : str, optional
        Only losses whose scope name matches this regular expression from its start, as
        TensorFlow's filter does; losses without a name never match.
    loss_collection : str
        The collection to read.

    Returns
    -------
    list
        A new list; empty outside a block.

    Examples
    --------
    >>> import sce_numba as sce
    >>> with sce.collect_losses():
    ...     _ = sce.sigmoid_cross_entropy([1.0], [0.0], scope="head/a")
    ...     _ = sce.sigmoid_cross_entropy([1.0], [0.0], scope="tail")
    ...     len(sce.get_losses()), len(sce.get_losses("head"))
    (2, 1)
    """
    recorded = _innermost.get()
    return [] if recorded is None else _matching(recorded, scope, loss_collection)


def get_regularization_losses(scope: str | None = None) -> list[Any]:
    """Return the losses recorded in the collection ``GraphKeys.REGULARIZATION_LOSSES``.

    Nothing joins it by itself: ``add_loss(loss, GraphKeys.REGULARIZATION_LOSSES)`` does that.

    Parameters
    ----------
    scope : str, optional
        As for ``get_losses``.

    Returns
    -------
    list
        A new list; empty outside a ``collect_losses`` block.

    Examples
    --------
    >>> import sce_numba as sce
    >>> with sce.collect_losses():
    ...     sce.add_loss(0.5, sce.GraphKeys.REGULARIZATION_LOSSES)
    ...     sce.get_regularization_losses()
    [0.5]
    """
    return get_losses(scope, GraphKeys.REGULARIZATION_LOSSES)


def get_regularization_loss(
    scope: str | None = None, name: str | None = "total_regularization_loss"
) -> Any:
    """Return the sum of the losses recorded in ``GraphKeys.REGULARIZATION_LOSSES``.

    Parameters
    ----------
    scope : str, optional
        As for ``get_losses``.
    name : str, optional
        Accepted for TensorFlow's sake, and unused.

    Returns
    -------
    NumPy scalar or array
        The sum, as ``get_total_loss`` returns it; a float32 0 if there are none, as TensorFlow's.

    Raises
    ------
    ValueError
        If the losses differ in shape or dtype.

    Examples
    --------
    >>> import sce_numba as sce
    >>> print(sce.get_regularization_loss())
    0.0
    """
    losses = get_regularization_losses(scope)
    return _sum(losses) if losses else np.float32(0)


def get_total_loss(
    add_regularization_losses: bool = True,
    name: str | None = "total_loss",
    scope: str | None = None,
    *,
    loss_collection: str = GraphKeys.LOSSES,
) -> Any:
    """Return the sum of the losses recorded in the innermost ``collect_losses`` block.

    Parameters
    ----------
    add_regularization_losses : bool
        Whether to add those of the collection ``GraphKeys.REGULARIZATION_LOSSES``.
    name : str, optional
        Accepted for TensorFlow's sake, and unused.
    scope : str, optional
        As for ``get_losses``; it selects among the losses of both collections.
    loss_collection : str
        The collection to sum.

    Returns
    -------
    NumPy scalar or array
        The sum, in the shape and dtype that the recorded losses share; lazy if they are, and of
        tensors that ``add_loss`` was given a tensor, with its gradient.

    Raises
    ------
    ValueError
        If nothing was recorded, or the losses differ in shape or dtype.
    TypeError
        If the first argument is a text, which ``scope`` must have been meant for.

    Examples
    --------
    >>> import sce_numba as sce
    >>> with sce.collect_losses():
    ...     sce.add_loss(0.5)
    ...     sce.add_loss(1.0)
    ...     sce.add_loss(0.25, sce.GraphKeys.REGULARIZATION_LOSSES)
    ...     float(sce.get_total_loss()), float(sce.get_total_loss(False))
    (1.75, 1.5)
    """
    if isinstance(add_regularization_losses, (str, bytes)):
        raise TypeError(
            "Argument `add_regularization_losses` comes first, as in TensorFlow, and is True or "
            "False. Pass a scope by name: "
            f"`get_total_loss(scope={shown(add_regularization_losses)})`."
        )
    losses = get_losses(scope, loss_collection)
    if add_regularization_losses:
        losses += get_regularization_losses(scope)
    if not losses:
        raise ValueError(
            f"No losses to sum in the collection {loss_collection!r}: call get_total_loss inside "
            "a `with collect_losses()` block, after the losses."
        )
    return _sum(losses)


def _sum(losses: list[Any]) -> Any:
    """Return the sum of one or more losses, as a new array."""
    # Arrays and tensors of other libraries are not converted: lazy ones stay lazy.
    losses = [loss if _is_array(loss) else as_array(loss, "loss") for loss in losses]
    kinds = {(tuple(loss.shape), str(getattr(loss.dtype, "name", loss.dtype))) for loss in losses}
    if len(kinds) > 1:
        differing = ", ".join(f"{dtype} of shape {shape}" for shape, dtype in sorted(kinds))
        raise ValueError(f"Losses to sum must have the same shape and dtype, got {differing}.")
    # Makes a copy; tensors have no common method for that.
    total = losses[0] * 1
    for loss in losses[1:]:
        total = total + loss
    return total


def _is_array(loss: Any) -> bool:
    return hasattr(loss, "shape") and hasattr(loss, "dtype") and not is_column(loss)
