"""``LossAccumulator``: the loss of data that come batch by batch."""

from __future__ import annotations

import importlib
import sys
import threading
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from . import arguments
from .evaluation import as_scalar
from .loss_sums import LossSums, sums_of_part
from .reduction import Reduction


class LossAccumulator:
    r"""Add up the loss of batches, to the loss of all their elements.

    It holds two sums, the numerator :math:`\sum w l` and the denominator of the reduction.  Those
    of a batch are float64; they are added without rounding, so neither the order of updates nor
    that of merging changes the result.

    Parameters
    ----------
    reduction : Reduction or str
        As in ``sigmoid_cross_entropy``, but not ``NONE``.
    label_smoothing : float
        From 0 to 1.
    pos_weight : array_like, optional
        The weight of positives: a number, or an array that broadcasts to the logits of every batch
        by NumPy's rule; a DataArray of xarray goes by the names of its axes.

    Raises
    ------
    ValueError
        If the reduction is unknown or ``NONE``, or label_smoothing is outside [0, 1].
    TypeError
        If label_smoothing or pos_weight are no numbers.

    Notes
    -----
    Updates may come from several threads at once.  An accumulator can be pickled, sent to another
    process and merged there.  A call that raises leaves it as it was.

    Examples
    --------
    >>> import numpy as np
    >>> import sce_numba as sce
    >>> labels, logits = np.array([1, 0, 1, 1]), np.array([2.0, -1.0, 0.5, -3.0])
    >>> loss = sce.LossAccumulator()
    >>> loss.update(labels[:3], logits[:3])
    >>> loss.update(labels[3:], logits[3:])
    >>> print(round(float(loss.result()), 6))
    0.990714
    >>> loss
    LossAccumulator(reduction='weighted_sum_by_nonzero_weights', count=4, value=0.99071...)
    """

    def __init__(
        self,
        reduction: Reduction | str = Reduction.SUM_BY_NONZERO_WEIGHTS,
        label_smoothing: float = 0,
        pos_weight: ArrayLike | None = None,
    ) -> None:
        if arguments.as_reduction(reduction) is None:
            raise ValueError("`Reduction.NONE` leaves no sum: choose another reduction.")
        self._reduction = Reduction(reduction)
        self._label_smoothing = arguments.as_label_smoothing(label_smoothing)
        self._pos_weight: Any = None
        if pos_weight is not None:
            given: Any = pos_weight
            values = arguments.as_labels(given, "pos_weight").copy()
            # Names are kept: each batch has its own order of axes.
            self._pos_weight = given.copy(data=values) if _has_names(given) else values
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Forget all updates.

        Examples
        --------
        >>> import sce_numba as sce
        >>> loss = sce.LossAccumulator("weighted_sum")
        >>> loss.update([1.0], [0.0])
        >>> loss.reset()
        >>> loss
        LossAccumulator(reduction='weighted_sum', count=0, value=0.0)
        """
        with self._lock:
            self._sums = LossSums()
            self._count = 0
            self._dtype: np.dtype[Any] | None = None

    def update(
        self,
        labels: ArrayLike,
        logits: ArrayLike,
        weights: ArrayLike = 1.0,
        where: ArrayLike | None = None,
    ) -> None:
        """Add the loss of a batch.

        Parameters
        ----------
        labels : array_like, the shape of logits
            Labels: bool, integer or float.
        logits : array_like
            Log-odds: float16, bfloat16, float32 or float64, of any shape.
        weights : array_like
            A number, or an array with the rank of logits whose every dimension is 1 or that of
            logits.
        where : array_like of bool, optional
            Elements to include, broadcast to logits by NumPy's rule.

        Raises
        ------
        ValueError, TypeError
            As ``sigmoid_cross_entropy`` does.

        Notes
        -----
        DataArrays of xarray go by the names of their axes, as in ``sigmoid_cross_entropy``.  Dask
        arrays are computed at once.

        Examples
        --------
        >>> import sce_numba as sce
        >>> loss = sce.LossAccumulator("weighted_mean")
        >>> for weight in (1.0, 3.0):
        ...     loss.update([1.0, 0.0], [0.0, 0.0], weights=weight)
        >>> print(round(float(loss.result()), 6))
        0.693147
        """
        operands: dict[str, Any] = {
            "labels": labels,
            "logits": logits,
            "weights": weights,
            "where": where,
            "pos_weight": self._pos_weight,
        }
        if any(map(_has_names, operands.values())):
            operands = importlib.import_module(".xarray", __package__).by_position(operands)
        values = operands["logits"] = arguments.as_floats(operands["logits"], "logits")
        numerator, denominator = sums_of_part(
            **operands, label_smoothing=self._label_smoothing, reduction=self._reduction
        )
        with self._lock:
            self._dtype = _common_dtype(self._dtype, values.dtype)
            self._count += values.size
            self._sums.add(numerator, denominator)

    def merge(self, other: LossAccumulator) -> None:
        """Add all updates of another accumulator, which stays as it is.

        Parameters
        ----------
        other : LossAccumulator
            One of the same reduction, label smoothing and pos_weight.

        Raises
        ------
        TypeError
            If it is no accumulator.
        ValueError
            If one of the three differs.

        Examples
        --------
        >>> import sce_numba as sce
        >>> first, second = sce.LossAccumulator(), sce.LossAccumulator()
        >>> first.update([1.0], [0.0])
        >>> second.update([0.0], [3.0])
        >>> first.merge(second)
        >>> print(round(float(first.result()), 6))
        1.870867
        """
        if not isinstance(other, LossAccumulator):
            raise TypeError(
                f"Argument `other` must be a LossAccumulator, got {type(other).__name__}."
            )
        for name in ("reduction", "label_smoothing", "pos_weight"):
            own, theirs = getattr(self, f"_{name}"), getattr(other, f"_{name}")
            if not _equal(own, theirs):
                raise ValueError(
                    f"Argument `other` must have the same {name}, got {theirs} instead of {own}."
                )
        with other._lock:
            sums = other._sums.copy()
            count, dtype = other._count, other._dtype
        with self._lock:
            if dtype is not None:
                self._dtype = _common_dtype(self._dtype, dtype)
            self._count += count
            self._sums.merge(sums)

    @property
    def count(self) -> int:
        """The number of elements in all updates, those that ``where`` excludes among them."""
        return self._count

    def result(self) -> Any:
        """Return the loss of all updates so far.

        Returns
        -------
        scalar
            A NumPy scalar of the dtype of the logits; where that differed from update to update,
            of the dtype that NumPy promotes them to; float64 before the first update.  A
            denominator of exactly 0 gives 0.

        Examples
        --------
        >>> import sce_numba as sce
        >>> print(sce.LossAccumulator().result())
        0.0
        """
        with self._lock:
            dtype = np.dtype(np.float64) if self._dtype is None else self._dtype
            return as_scalar(self._sums.loss(self._reduction), dtype)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(reduction={self._reduction.value!r}, count={self._count}, "
            f"value={self.result()!s})"
        )

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            state = self.__dict__ | {"_sums": self._sums.copy()}
        del state["_lock"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()


def _has_names(operand: Any) -> bool:
    """Tell whether an operand is xarray's, whose axes have names, without importing that."""
    xarray = sys.modules.get("xarray")
    kinds = (getattr(xarray, "DataArray", ()), getattr(xarray, "Variable", ()))
    return xarray is not None and issubclass(type(operand), kinds)


def _equal(one: Any, two: Any) -> bool:
    """Tell whether two settings are the same: NaN is, other names of axes are not."""
    if _has_names(one) or _has_names(two):
        return type(one) is type(two) and bool(one.equals(two))
    nan_is_equal = isinstance(one, np.ndarray) and isinstance(two, np.ndarray)
    return np.array_equal(one, two, equal_nan=nan_is_equal)


def _common_dtype(one: np.dtype[Any] | None, two: np.dtype[Any]) -> np.dtype[Any]:
    two = two.newbyteorder("=")
    return two if one is None else np.promote_types(one, two)
