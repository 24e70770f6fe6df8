"""The element-wise functions of ``tf.nn``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike

from . import evaluation, numba_extension
from .array_libraries import dispatcher_for
from .operands import checked, recognised

_Function = TypeVar("_Function", bound=Callable[..., Any])


def sigmoid_cross_entropy_with_logits(
    _sentinel: Any = None,
    labels: ArrayLike | None = None,
    logits: ArrayLike | None = None,
    name: str | None = None,
    *,
    out: np.ndarray | None = None,
) -> np.ndarray:
    r"""Return the sigmoid cross entropy of every element.

    With logits :math:`x` and labels :math:`z` it is

    .. math:: \max(x, 0) - x z + \log(1 + e^{-|x|}).

    Parameters
    ----------
    _sentinel : None
        Catches positional arguments: pass everything by name.
    labels : array_like, the shape of logits
        Labels :math:`z`: bool, integer or float.
    logits : array_like
        Log-odds :math:`x`: a float of 8 to 64 bits, of any rank and memory layout.
    name : str, optional
        Accepted for TensorFlow's sake, and unused.
    out : ndarray, optional
        Where to write the losses: an array of the shape and dtype of logits, which may be the
        logits themselves.

    Returns
    -------
    ndarray
        The losses, in the shape and dtype of logits.

    Raises
    ------
    ValueError
        If an argument is positional, labels or logits are None, or shapes differ.
    TypeError
        If a dtype is not among the above, or an array is masked.

    Notes
    -----
    As TensorFlow's ``tf.nn.sigmoid_cross_entropy_with_logits``; labels of any real dtype are
    taken, where TensorFlow wants that of logits.

    A call that is refused has changed nothing.  After any other exception, such as
    KeyboardInterrupt, ``out`` may hold anything.

    Examples
    --------
    >>> import numpy as np
    >>> import sce_numba as sce
    >>> sce.sigmoid_cross_entropy_with_logits(labels=[True, False], logits=[0.0, -100.0])
    array([6.93147181e-01, 3.72007598e-44])
    """
    if _sentinel is not None:
        raise ValueError(
            "Only call `sigmoid_cross_entropy_with_logits` with named arguments: "
            "(labels=..., logits=..., ...)."
        )
    given = recognised(labels, logits)
    if given is None:
        dispatch = dispatcher_for(labels=labels, logits=logits)
        if dispatch is not None:
            return dispatch(
                sigmoid_cross_entropy_with_logits, labels=labels, logits=logits, out=out
            )
        given = checked(labels, logits, labels_name="labels")
    losses: np.ndarray = evaluation.evaluate(given, out)
    return losses


def _without_targets(function: _Function) -> _Function:
    """Refuse ``targets``, as TensorFlow called labels until 1.14, by what they are called now."""

    @functools.wraps(function)
    def checked(*arguments: Any, **keywords: Any) -> Any:
        if "targets" in keywords:
            raise TypeError(
                f"Argument `targets` of `{function.__name__}` is called `labels`, as in "
                "TensorFlow 2."
            )
        return function(*arguments, **keywords)

    return cast("_Function", checked)


@_without_targets
def weighted_cross_entropy_with_logits(
    labels: ArrayLike,
    logits: ArrayLike,
    pos_weight: ArrayLike,
    name: str | None = None,
    *,
    out: np.ndarray | None = None,
) -> np.ndarray:
    r"""Return the sigmoid cross entropy of every element, positives weighted.

    With logits :math:`x`, labels :math:`z` and the weight :math:`q` of positives it is

    .. math:: -q z \log \sigma(x) - (1 - z) \log(1 - \sigma(x)).

    Parameters
    ----------
    labels : array_like, the shape of logits
        Labels :math:`z`: bool, integer or float.
    logits : array_like
        Log-odds :math:`x`: a float of 8 to 64 bits, of any rank and memory layout.
    pos_weight : array_like
        :math:`q`: a number, or an array that broadcasts to logits by NumPy's rule.  More than 1
        raises recall, less raises precision.
    name : str, optional
        Accepted for TensorFlow's sake, and unused.
    out : ndarray, optional
        Where to write the losses: an array of the shape and dtype of logits, which may be the
        logits themselves.

    Returns
    -------
    ndarray
        The losses, in the shape and dtype of logits.

    Raises
    ------
    ValueError
        If labels, logits or pos_weight are None, or shapes don't fit.
    TypeError
        If a dtype is not among the above, or an array is masked.

    Notes
    -----
    As TensorFlow's ``tf.nn.weighted_cross_entropy_with_logits``; labels and pos_weight of any real
    dtype are taken, and pos_weight may not broadcast the logits to a larger shape.

    A call that is refused has changed nothing.  After any other exception, such as
    KeyboardInterrupt, ``out`` may hold anything.

    Examples
    --------
    >>> import sce_numba as sce
    >>> losses = sce.weighted_cross_entropy_with_logits([1, 0], [0.0, 0.0], pos_weight=3.0)
    >>> print(losses)
    [2.07944154 0.69314718]
    """
    if pos_weight is None:
        raise ValueError("Argument `pos_weight` must not be None.")
    given = recognised(labels, logits, pos_weight=pos_weight)
    if given is None:
        operands = {"labels": labels, "logits": logits, "pos_weight": pos_weight}
        dispatch = dispatcher_for(**operands)
        if dispatch is not None:
            return dispatch(weighted_cross_entropy_with_logits, **operands, out=out)
        given = checked(labels, logits, pos_weight=pos_weight, labels_name="labels")
    losses: np.ndarray = evaluation.evaluate(given, out)
    return losses


numba_extension.functions_are_defined()
