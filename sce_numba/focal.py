"""The focal loss: sigmoid cross entropy that counts for less where the label is predicted well."""

from __future__ import annotations

import sys
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike

from . import evaluation, numba_extension
from .arguments import as_number
from .array_libraries import dispatcher_for
from .kernels.focal import FOCAL, parts_of
from .operands import checked, of_formula, recognised
from .reduction import Reduction
from .type_hints import AnyReduction, NoReduction, Plain, Reduced


@overload
def sigmoid_focal_cross_entropy(
    labels: Plain, logits: Plain, alpha: float | None = ..., gamma: float = ...,
    weights: Plain = ..., label_smoothing: float = ..., reduction: Reduced = ..., *,
    where: Plain | None = ..., out: None = ...,
) -> np.floating[Any]: ...  # fmt: skip
@overload
def sigmoid_focal_cross_entropy(
    labels: Plain, logits: Plain, alpha: float | None = ..., gamma: float = ...,
    weights: Plain = ..., label_smoothing: float = ..., *, reduction: NoReduction,
    where: Plain | None = ..., out: np.ndarray | None = ...,
) -> np.ndarray: ...  # fmt: skip
@overload
def sigmoid_focal_cross_entropy(
    labels: ArrayLike, logits: ArrayLike, alpha: float | None = ..., gamma: float = ...,
    weights: ArrayLike = ..., label_smoothing: float = ..., reduction: AnyReduction = ..., *,
    where: ArrayLike | None = ..., out: np.ndarray | None = ...,
) -> Any: ...  # fmt: skip
def sigmoid_focal_cross_entropy(
    labels: ArrayLike,
    logits: ArrayLike,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    weights: ArrayLike = 1.0,
    label_smoothing: float = 0,
    reduction: AnyReduction = Reduction.SUM_BY_NONZERO_WEIGHTS,
    *,
    where: ArrayLike | None = None,
    out: np.ndarray | None = None,
) -> Any:
    r"""Return the weighted, reduced focal loss of logits against labels.

    With logits :math:`x`, labels :math:`z`, label smoothing :math:`s` and
    :math:`z' = (1 - s) z + s / 2`, the loss of an element is its cross entropy, which counts for
    less where the label is predicted well:

    .. math::

       \alpha_t \, (1 - p_t)^\gamma \left(\max(x, 0) - x z' + \log(1 + e^{-|x|})\right)

    with :math:`p_t = z' \sigma(x) + (1 - z') \, \sigma(-x)` and
    :math:`\alpha_t = \alpha z' + (1 - \alpha) (1 - z')`.

    Parameters
    ----------
    labels : array_like, the shape of logits
        Labels :math:`z`, usually 0, 1 or in between: bool, integer or float.
    logits : array_like
        Log-odds :math:`x`, unbounded: float16, bfloat16, float32 or float64, of any rank and
        memory layout.
    alpha : float or None
        :math:`\alpha`, from 0 to 1: the weight of positives, that of negatives being
        :math:`1 - \alpha`.  ``None`` leaves out :math:`\alpha_t`.
    gamma : float
        :math:`\gamma`, 0 or more: how much less what is predicted well counts.  With 0 this is
        the cross entropy, weighted by :math:`\alpha_t`.
    weights : array_like
        A number, or an array with the rank of logits whose every dimension is 1 or that of
        logits.
    label_smoothing : float
        :math:`s`, from 0 to 1: moves labels towards 1/2.
    reduction : Reduction or str
        What becomes of the weighted losses.
    where : array_like of bool, optional
        Elements to include, broadcast to logits by NumPy's rule.
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
        If labels, logits or weights are None, shapes don't fit, alpha or label_smoothing is outside
        [0, 1], gamma is negative or not finite, the reduction is unknown, or ``out`` can't be used.
    TypeError
        If a dtype is not among the above, alpha or gamma is no number, an array is masked, or
        ``out`` has another dtype.

    Notes
    -----
    The formula is that of Lin, Goyal, Girshick, He and Dollár, "Focal loss for dense object
    detection", 2017, with the defaults of torchvision's ``sigmoid_focal_loss``; its
    ``reduction="mean"`` is ``Reduction.SUM_OVER_BATCH_SIZE`` here.  As :math:`1 - p_t` is computed
    without a difference, no logit is large enough to lose digits.

    Labels outside [0, 1] may make :math:`1 - p_t` negative: its power is NaN then, unless ``gamma``
    is a whole number of at most 16.

    A call that is refused has changed nothing.  After any other exception, such as
    KeyboardInterrupt, ``out`` may hold anything.

    Examples
    --------
    >>> import numpy as np
    >>> import sce_numba as sce
    >>> labels = np.array([[1, 0], [0, 1]])
    >>> logits = np.array([[2.0, -1.0], [0.5, 3.0]], np.float32)
    >>> print(sce.sigmoid_focal_cross_entropy(labels, logits))
    0.075132...
    >>> losses = sce.sigmoid_focal_cross_entropy(labels, logits, reduction="none")
    >>> print(losses.round(3))
    [[0.    0.017]
     [0.283 0.   ]]
    """
    formula = formula_of(alpha, gamma)
    given = recognised(labels, logits, weights, label_smoothing, reduction, None, where)
    if given is None:
        operands = {"labels": labels, "logits": logits, "weights": weights, "where": where}
        dispatch = dispatcher_for(**operands)
        if dispatch is not None:
            return dispatch(
                sigmoid_focal_cross_entropy,
                **operands,
                alpha=alpha,
                gamma=gamma,
                label_smoothing=label_smoothing,
                reduction=reduction,
                out=out,
            )
        given = checked(
            labels, logits, weights, label_smoothing, reduction, None, where, labels_name="labels"
        )
    return evaluation.evaluate(of_formula(given, formula), out)


@overload
def sigmoid_focal_cross_entropy_value_and_grad(
    labels: Plain, logits: Plain, alpha: float | None = ..., gamma: float = ...,
    weights: Plain = ..., label_smoothing: float = ..., reduction: Reduced = ..., *,
    where: Plain | None = ..., out: None = ..., grad_out: np.ndarray | None = ...,
) -> tuple[np.floating[Any], np.ndarray]: ...  # fmt: skip
@overload
def sigmoid_focal_cross_entropy_value_and_grad(
    labels: Plain, logits: Plain, alpha: float | None = ..., gamma: float = ...,
    weights: Plain = ..., label_smoothing: float = ..., *, reduction: NoReduction,
    where: Plain | None = ..., out: np.ndarray | None = ..., grad_out: np.ndarray | None = ...,
) -> tuple[np.ndarray, np.ndarray]: ...  # fmt: skip
@overload
def sigmoid_focal_cross_entropy_value_and_grad(
    labels: ArrayLike, logits: ArrayLike, alpha: float | None = ..., gamma: float = ...,
    weights: ArrayLike = ..., label_smoothing: float = ..., reduction: AnyReduction = ..., *,
    where: ArrayLike | None = ..., out: np.ndarray | None = ..., grad_out: np.ndarray | None = ...,
) -> tuple[Any, Any]: ...  # fmt: skip
def sigmoid_focal_cross_entropy_value_and_grad(
    labels: ArrayLike,
    logits: ArrayLike,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    weights: ArrayLike = 1.0,
    label_smoothing: float = 0,
    reduction: AnyReduction = Reduction.SUM_BY_NONZERO_WEIGHTS,
    *,
    where: ArrayLike | None = None,
    out: np.ndarray | None = None,
    grad_out: np.ndarray | None = None,
) -> tuple[Any, np.ndarray]:
    r"""Return ``sigmoid_focal_cross_entropy`` and its gradient with respect to the logits.

    Both come from one pass over memory.  With the cross entropy :math:`l` of an element, weights
    :math:`w`, the denominator :math:`D` of the reduction and :math:`q = 1 - p_t`, an element of the
    gradient is

    .. math::

       \frac{w}{D} \alpha_t \left(q^\gamma (\sigma(x) - z')
       + \gamma q^{\gamma - 1} (1 - 2 z') \, \sigma(x) \, \sigma(-x) \, l\right).

    Parameters
    ----------
    labels, logits, alpha, gamma, weights, label_smoothing, reduction, where, out
        As those of ``sigmoid_focal_cross_entropy``.  An element that ``where`` excludes has the
        gradient 0.
    grad_out : ndarray, optional
        Where to write the gradient: an array of the shape and dtype of logits, which may be the
        logits themselves.

    Returns
    -------
    loss : scalar or ndarray
        What ``sigmoid_focal_cross_entropy`` returns.
    gradient : ndarray
        In the shape and dtype of logits; for ``Reduction.NONE`` that of the sum.  Where the
        denominator is exactly 0, so is the gradient.

    Raises
    ------
    ValueError, TypeError
        As ``sigmoid_focal_cross_entropy`` does; and if ``grad_out`` can't be used.

    Notes
    -----
    Weights and labels are constants.  A call that is refused has changed nothing.  After any other
    exception, such as KeyboardInterrupt, ``out`` and ``grad_out`` may hold anything.

    Examples
    --------
    >>> import numpy as np
    >>> import sce_numba as sce
    >>> logits = np.array([[2.0, -1.0], [0.0, 40.0]])
    >>> loss, gradient = sce.sigmoid_focal_cross_entropy_value_and_grad([[1, 0], [0, 1]], logits)
    >>> print(round(loss, 6))
    0.036852
    >>> print(gradient[1])
    [ 5.59287741e-02 -1.43768401e-53]
    """
    formula = formula_of(alpha, gamma)
    given = recognised(labels, logits, weights, label_smoothing, reduction, None, where)
    if given is None:
        operands = {"labels": labels, "logits": logits, "weights": weights, "where": where}
        dispatch = dispatcher_for(**operands)
        if dispatch is not None:
            found: tuple[Any, np.ndarray] = dispatch(
                sigmoid_focal_cross_entropy_value_and_grad,
                **operands,
                alpha=alpha,
                gamma=gamma,
                label_smoothing=label_smoothing,
                reduction=reduction,
                out=out,
                grad_out=grad_out,
            )
            return found
        given = checked(
            labels, logits, weights, label_smoothing, reduction, None, where, labels_name="labels"
        )
    return evaluation.evaluate_and_differentiate(of_formula(given, formula), out, grad_out)


def formula_of(alpha: Any, gamma: Any) -> tuple[Any, ...]:
    """Return the formula and its parameters, in the order of ``kernels.focal``."""
    positive, negative = 1.0, 1.0
    if alpha is not None:
        positive = as_number(alpha, "alpha", "from 0 to 1, or None", 1.0)
        negative = 1.0 - positive
    exponent = as_number(gamma, "gamma", "of at least 0, and finite", sys.float_info.max)
    return FOCAL, positive, negative, *parts_of(exponent)


numba_extension.functions_are_defined("focal_njit")
