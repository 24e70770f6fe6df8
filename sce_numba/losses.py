"""The losses of TensorFlow 1: ``sigmoid_cross_entropy`` and ``compute_weighted_loss``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from . import arguments, evaluation
from .kernels import loss as kernel
from .loss_collections import GraphKeys, record
from .reduction import Reduction


def sigmoid_cross_entropy(
    multi_class_labels: ArrayLike,
    logits: ArrayLike,
    weights: ArrayLike = 1.0,
    label_smoothing: float = 0,
    scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
    reduction: Reduction | str = Reduction.SUM_BY_NONZERO_WEIGHTS,
    *,
    where: ArrayLike | None = None,
    out: np.ndarray | None = None,
) -> Any:
    r"""Return the weighted, reduced sigmoid cross entropy of logits against labels.

    With logits :math:`x`, labels :math:`z` and label smoothing :math:`s`, the loss of an
    element is

    .. math:: \max(x, 0) - x z' + \log(1 + e^{-|x|}), \quad z' = (1 - s) z + s / 2,

    which equals :math:`-z' \log \sigma(x) - (1 - z') \log(1 - \sigma(x))` and never overflows.
    It is weighted and reduced in the same pass over memory.

    Parameters
    ----------
    multi_class_labels : array_like, the shape of logits
        Labels :math:`z`, usually 0, 1 or in between: bool, integer or float, converted as they
        are read, never copied.
    logits : array_like
        Log-odds :math:`x`, unbounded: float16, bfloat16, float32 or float64, of any rank and
        memory layout.
    weights : array_like
        A number, or an array with the rank of logits whose every dimension is 1 or that of
        logits; ``[batch, 1]`` weighs examples, ``[1, classes]`` classes.
    label_smoothing : float
        :math:`s`, from 0 to 1: moves labels towards 1/2.
    scope : str, optional
        Name under which ``collect_losses`` records the loss.
    loss_collection : str or None
        Collection that the loss is recorded in, inside a ``collect_losses`` block; ``None``
        records nothing.
    reduction : Reduction or str
        What becomes of the weighted losses.
    where : array_like of bool, optional
        Elements to include, broadcast to logits by NumPy's rule.  An excluded element adds
        nothing and counts nowhere, even if its logit or label is NaN.
    out : ndarray, optional
        With ``Reduction.NONE``, where to write the losses: an array of the shape and dtype of
        logits, which may be the logits themselves.

    Returns
    -------
    scalar or ndarray
        A NumPy scalar of the dtype of logits; with ``Reduction.NONE`` an array of their shape.
        A denominator of exactly 0, as of an empty array, gives 0.

    Raises
    ------
    ValueError
        If labels, logits or weights are None, shapes don't fit, label_smoothing is outside
        [0, 1], the reduction is unknown, or ``out`` can't be used.
    TypeError
        If a dtype is not among the above, an array is masked, or ``out`` has another dtype.

    Notes
    -----
    The formula, arguments and defaults are those of TensorFlow's
    ``tf.compat.v1.losses.sigmoid_cross_entropy``.  Sums run in float64, in an order that does
    not depend on the number of threads.

    Examples
    --------
    >>> import numpy as np
    >>> import sce_numba as sce
    >>> labels = np.array([[1, 0], [0, 1]])
    >>> logits = np.array([[2.0, -1.0], [0.5, 3.0]], np.float32)
    >>> print(sce.sigmoid_cross_entropy(labels, logits))
    0.36571...
    >>> print(sce.sigmoid_cross_entropy(labels, logits, weights=[[1.0], [0.0]]))
    0.22009...
    """
    if where is None and out is None:
        loss = evaluation.evaluate_in_place(
            multi_class_labels, logits, weights, label_smoothing, reduction
        )
        if loss is not None:
            record(loss, scope, loss_collection)
            return loss
    labels, values = arguments.as_labels_and_logits(
        multi_class_labels, "multi_class_labels", logits
    )
    smoothing = arguments.as_label_smoothing(label_smoothing)
    arrays = {kernel.LOGITS: values, kernel.LABELS: labels}
    loss = _weigh(arrays, weights, smoothing, reduction, where, out)
    record(loss, scope, loss_collection)
    return loss


def compute_weighted_loss(
    losses: ArrayLike,
    weights: ArrayLike = 1.0,
    scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
    reduction: Reduction | str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Any:
    r"""Weigh and reduce losses that are already computed.

    Parameters
    ----------
    losses : array_like
        Element losses :math:`l`: float16, bfloat16, float32 or float64, of any rank and memory
        layout.
    weights : array_like
        Weights :math:`w`: a number, or an array with the rank of losses whose every dimension
        is 1 or that of losses.
    scope : str, optional
        Name under which ``collect_losses`` records the loss.
    loss_collection : str or None
        Collection that the loss is recorded in, inside a ``collect_losses`` block.
    reduction : Reduction or str
        :math:`w l` for ``NONE``, else :math:`\sum w l` over the denominator of ``Reduction``.

    Returns
    -------
    scalar or ndarray
        A NumPy scalar of the dtype of losses; with ``Reduction.NONE`` an array of their shape.

    Raises
    ------
    ValueError
        If losses or weights are None, weights don't fit, or the reduction is unknown.
    TypeError
        If a dtype is not among the above, or an array is masked.

    Notes
    -----
    As TensorFlow's ``tf.compat.v1.losses.compute_weighted_loss``, but float64 losses stay
    float64.

    Examples
    --------
    >>> import sce_numba as sce
    >>> print(sce.compute_weighted_loss([1.0, 2.0, 6.0], weights=[1.0, 0.0, 2.0]))
    6.5
    """
    arrays = {kernel.LOGITS: arguments.as_floats(losses, "losses")}
    loss = _weigh(arrays, weights, 0.0, reduction)
    record(loss, scope, loss_collection)
    return loss


def _weigh(
    arrays: dict[int, np.ndarray],
    weights: ArrayLike,
    smoothing: float,
    reduction: Reduction | str,
    where: ArrayLike | None = None,
    out: np.ndarray | None = None,
) -> Any:
    """Check what is left to check and evaluate the loss."""
    values = arrays[kernel.LOGITS]
    code = arguments.as_reduction(reduction)
    weight, weight_array = arguments.as_weights(weights, values)
    if weight_array is not None:
        arrays[kernel.WEIGHTS] = weight_array
    if where is not None:
        arrays[kernel.WHERE] = arguments.as_where(where, values)
    if code is not None:
        if out is not None:
            raise ValueError(
                "Argument `out` holds element losses: it needs `reduction=Reduction.NONE`."
            )
        return evaluation.reduce(arrays, weight, smoothing, code)
    if out is not None:
        arguments.check_out(out, arrays)
    return evaluation.write(arrays, weight, smoothing, out)
