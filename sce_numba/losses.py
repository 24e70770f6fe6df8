"""The losses of TensorFlow 1: ``sigmoid_cross_entropy`` and ``compute_weighted_loss``."""

from __future__ import annotations

from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike

from . import arguments, axes, evaluation, numba_extension
from . import groups as grouping
from .array_libraries import check_order, dispatcher_for
from .axes import Axis
from .kernels import view
from .kernels.gradient import HESSIAN
from .loss_collections import GraphKeys, record
from .operands import add_weights, checked, known, recognised
from .reduction import Reduction
from .type_hints import AnyReduction, NoReduction, Out, Plain, Reduced


@overload
def sigmoid_cross_entropy(
    multi_class_labels: Plain, logits: Plain, weights: Plain = ..., label_smoothing: float = ...,
    scope: str | None = ..., loss_collection: str | None = ..., reduction: Reduced = ..., *,
    pos_weight: Plain | None = ..., where: Plain | None = ..., out: None = ..., axis: None = ...,
    keepdims: Literal[False] = ..., dim: None = ..., groups: None = ..., num_groups: None = ...,
) -> np.floating[Any]: ...  # fmt: skip
@overload
def sigmoid_cross_entropy(
    multi_class_labels: Plain, logits: Plain, weights: Plain = ..., label_smoothing: float = ...,
    scope: str | None = ..., loss_collection: str | None = ..., *, reduction: NoReduction,
    pos_weight: Plain | None = ..., where: Plain | None = ..., out: None = ..., axis: None = ...,
    keepdims: Literal[False] = ..., dim: None = ..., groups: None = ..., num_groups: None = ...,
) -> np.ndarray: ...  # fmt: skip
@overload
def sigmoid_cross_entropy(
    multi_class_labels: ArrayLike, logits: ArrayLike, weights: ArrayLike = ...,
    label_smoothing: float = ..., scope: str | None = ..., loss_collection: str | None = ...,
    reduction: AnyReduction = ..., *, pos_weight: ArrayLike | None = ...,
    where: ArrayLike | None = ..., out: Out, axis: Axis = ..., keepdims: bool = ..., dim: Any = ...,
    groups: ArrayLike | None = ..., num_groups: int | None = ...,
) -> Out: ...  # fmt: skip
@overload
def sigmoid_cross_entropy(
    multi_class_labels: ArrayLike, logits: ArrayLike, weights: ArrayLike = ...,
    label_smoothing: float = ..., scope: str | None = ..., loss_collection: str | None = ...,
    reduction: AnyReduction = ..., *, pos_weight: ArrayLike | None = ...,
    where: ArrayLike | None = ..., out: None = ..., axis: Axis = ..., keepdims: bool = ...,
    dim: Any = ..., groups: ArrayLike | None = ..., num_groups: int | None = ...,
) -> Any: ...  # fmt: skip
def sigmoid_cross_entropy(
    multi_class_labels: ArrayLike,
    logits: ArrayLike,
    weights: ArrayLike = 1.0,
    label_smoothing: float = 0,
    scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
    reduction: AnyReduction = Reduction.SUM_BY_NONZERO_WEIGHTS,
    *,
    pos_weight: ArrayLike | None = None,
    where: ArrayLike | None = None,
    out: np.ndarray | None = None,
    axis: Axis = None,
    keepdims: bool = False,
    dim: Any = None,
    groups: ArrayLike | None = None,
    num_groups: int | None = None,
) -> Any:
    r"""Return the weighted, reduced sigmoid cross entropy of logits against labels.

    With logits :math:`x`, labels :math:`z` and label smoothing :math:`s`, the loss of an
    element is

    .. math:: \max(x, 0) - x z' + \log(1 + e^{-|x|})

    with :math:`z' = (1 - s) z + s / 2`, which equals
    :math:`-z' \log \sigma(x) - (1 - z') \log(1 - \sigma(x))` and never overflows.  With a weight
    :math:`q` of positives the first of these two terms is multiplied by it.  The losses are
    weighted and reduced in the same pass over memory.

    Parameters
    ----------
    multi_class_labels : array_like, the shape of logits
        Labels :math:`z`, usually 0, 1 or in between: bool, integer or float, converted as they
        are read, never copied.
    logits : array_like
        Log-odds :math:`x`, unbounded: float8 (e4m3fn or e5m2), float16, bfloat16, float32 or
        float64, of any rank and memory layout.
    weights : array_like
        A number, or an array with the rank of logits whose every dimension is 1 or that of
        logits; ``[batch, 1]`` weighs examples, ``[1, classes]`` classes.
    label_smoothing : float
        :math:`s`, from 0 to 1: moves labels towards 1/2.
    scope : str, optional
        Name under which ``collect_losses`` records the loss.
    loss_collection : str or None
        Collection that the loss is recorded in, inside a ``collect_losses`` block; ``None``
        records nothing.  Losses of ``Reduction.NONE`` are kept out of the default one, with a
        warning.
    reduction : Reduction or str
        What becomes of the weighted losses.
    pos_weight : array_like, optional
        :math:`q`, the weight of positives: a number, or an array that broadcasts to logits by
        NumPy's rule; ``[classes]`` for one a class.
    where : array_like of bool, optional
        Elements to include, broadcast to logits by NumPy's rule.  An excluded element adds
        nothing and counts nowhere, even if its logit or label is NaN.
    out : ndarray, optional
        With ``Reduction.NONE``, where to write the losses: an array of the shape and dtype of
        logits, which may be the logits themselves.  With ``axis``, where to write the results: an
        array of their shape, in memory of its own.
    axis : int or tuple of int, optional
        Axes to reduce, as in ``numpy.sum``; all by default.  Each result has a numerator and a
        denominator of its own: ``axis=-1`` gives the loss of each example, ``axis=0`` that of each
        class.
    keepdims : bool
        Whether reduced axes stay, with a length of 1.
    dim : hashable or iterable of hashable, optional
        Instead of ``axis``, for logits that are a DataArray of xarray: the names of the axes.
    groups : array_like of int, optional
        Instead of ``axis``: the number of the group that a row, along the first axis, belongs to,
        or numbers that broadcast to logits by NumPy's rule, or a categorical column of pandas.
        Each group has a numerator and a denominator of its own, and is a result.
    num_groups : int, optional
        How many groups there are: the number of categories, or the greatest number and one more.
        It must be given where it is more than 2^20 and more than 16 times as many as the numbers.

    Returns
    -------
    scalar or ndarray
        A NumPy scalar of the dtype of logits; with ``Reduction.NONE`` an array of their shape,
        with ``axis`` or ``keepdims`` one of the shape that they leave.  A denominator of exactly 0,
        as of an empty array, gives 0.

    Raises
    ------
    ValueError
        If labels, logits or weights are None, shapes don't fit, label_smoothing is outside
        [0, 1], the reduction is unknown, ``out`` can't be used, or ``axis`` names an axis that
        does not exist, one twice, or any beside ``Reduction.NONE``; or if ``groups`` doesn't fit,
        or has numbers that are negative or not less than ``num_groups``.
    TypeError
        If a dtype is not among the above, an array is masked, ``out`` has another dtype, or
        ``axis`` or ``groups`` holds anything but integers.

    Notes
    -----
    The formula, arguments and defaults are those of TensorFlow's
    ``tf.compat.v1.losses.sigmoid_cross_entropy``.  Sums run in float64, in an order that does
    not depend on the number of threads.

    A call that is refused has changed nothing: ``out`` is as before, and no loss is recorded.
    After any other exception, such as KeyboardInterrupt, ``out`` may hold anything, and no loss
    is recorded.

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
    >>> print(sce.sigmoid_cross_entropy(labels, logits, axis=0))
    [0.55050... 0.18092...]
    >>> print(sce.sigmoid_cross_entropy(labels, logits, groups=[2, 0], num_groups=3))
    [0.51133... 0.         0.22009...]
    """
    by_axis = axes.are_given(axis, keepdims, dim)
    by_group = grouping.are_given(groups, num_groups, by_axis)
    given = recognised(
        multi_class_labels, logits, weights, label_smoothing, reduction, pos_weight, where
    )
    if given is None:
        operands = {
            "multi_class_labels": multi_class_labels,
            "logits": logits,
            "weights": weights,
            "pos_weight": pos_weight,
            "where": where,
        }
        if by_group:
            check_order(operands | {"groups": groups})
        dispatch = dispatcher_for(**operands)
        if dispatch is not None:
            return dispatch(
                sigmoid_cross_entropy,
                **operands,
                label_smoothing=label_smoothing,
                scope=scope,
                loss_collection=loss_collection,
                reduction=reduction,
                out=out,
                **(axes.options(axis, keepdims, dim) if by_axis else {}),
                **({"groups": groups, "num_groups": num_groups} if by_group else {}),
            )
        given = checked(
            multi_class_labels, logits, weights, label_smoothing, reduction, pos_weight, where
        )
    if by_axis:
        loss = axes.evaluate(given, axis, keepdims, dim, out)
    elif by_group:
        loss = grouping.evaluate(given, groups, num_groups, out)
    else:
        loss = evaluation.evaluate(given, out)
    record(
        loss, scope, loss_collection, reduction, several=(by_axis or by_group) and np.ndim(loss) > 0
    )
    return loss


@overload
def sigmoid_cross_entropy_value_and_grad(
    multi_class_labels: Plain, logits: Plain, weights: Plain = ..., label_smoothing: float = ...,
    scope: str | None = ..., loss_collection: str | None = ..., reduction: Reduced = ..., *,
    pos_weight: Plain | None = ..., where: Plain | None = ..., out: None = ...,
    grad_out: np.ndarray | None = ..., axis: None = ..., keepdims: Literal[False] = ...,
    dim: None = ..., groups: None = ..., num_groups: None = ...,
) -> tuple[np.floating[Any], np.ndarray]: ...  # fmt: skip
@overload
def sigmoid_cross_entropy_value_and_grad(
    multi_class_labels: Plain, logits: Plain, weights: Plain = ..., label_smoothing: float = ...,
    scope: str | None = ..., loss_collection: str | None = ..., *, reduction: NoReduction,
    pos_weight: Plain | None = ..., where: Plain | None = ..., out: np.ndarray | None = ...,
    grad_out: np.ndarray | None = ..., axis: None = ..., keepdims: Literal[False] = ...,
    dim: None = ..., groups: None = ..., num_groups: None = ...,
) -> tuple[np.ndarray, np.ndarray]: ...  # fmt: skip
@overload
def sigmoid_cross_entropy_value_and_grad(
    multi_class_labels: ArrayLike, logits: ArrayLike, weights: ArrayLike = ...,
    label_smoothing: float = ..., scope: str | None = ..., loss_collection: str | None = ...,
    reduction: AnyReduction = ..., *, pos_weight: ArrayLike | None = ...,
    where: ArrayLike | None = ..., out: np.ndarray | None = ..., grad_out: np.ndarray | None = ...,
    axis: Axis = ..., keepdims: bool = ..., dim: Any = ..., groups: ArrayLike | None = ...,
    num_groups: int | None = ...,
) -> tuple[Any, Any]: ...  # fmt: skip
def sigmoid_cross_entropy_value_and_grad(
    multi_class_labels: ArrayLike,
    logits: ArrayLike,
    weights: ArrayLike = 1.0,
    label_smoothing: float = 0,
    scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
    reduction: AnyReduction = Reduction.SUM_BY_NONZERO_WEIGHTS,
    *,
    pos_weight: ArrayLike | None = None,
    where: ArrayLike | None = None,
    out: np.ndarray | None = None,
    grad_out: np.ndarray | None = None,
    axis: Axis = None,
    keepdims: bool = False,
    dim: Any = None,
    groups: ArrayLike | None = None,
    num_groups: int | None = None,
) -> tuple[Any, np.ndarray]:
    r"""Return ``sigmoid_cross_entropy`` and its gradient with respect to the logits.

    Both come from one pass over memory, or two with ``axis`` or ``groups``.  With logits
    :math:`x`, smoothed labels :math:`z'`, weights :math:`w`, the weight :math:`q` of positives and
    the denominator :math:`D` of the reduction, an element of the gradient is

    .. math:: \frac{w}{D} \left((1 - z') - (1 + (q - 1) z') \, \sigma(-x)\right),

    which is :math:`w (\sigma(x) - z') / D` for :math:`q = 1`.

    Parameters
    ----------
    multi_class_labels, logits, weights, label_smoothing, scope, loss_collection, reduction
        As those of ``sigmoid_cross_entropy``.
    pos_weight, where, out
        Likewise.  An element that ``where`` excludes has the gradient 0.
    grad_out : ndarray, optional
        Where to write the gradient: an array of the shape and dtype of logits, which may be the
        logits themselves.
    axis, keepdims, dim, groups, num_groups
        As those of ``sigmoid_cross_entropy``; the gradient is that of the sum of the results.

    Returns
    -------
    loss : scalar or ndarray
        What ``sigmoid_cross_entropy`` returns.
    gradient : ndarray
        In the shape and dtype of logits; of several losses, for ``Reduction.NONE`` or with
        ``axis`` or ``groups``, that of their sum.  Where the denominator is exactly 0, so is the
        gradient.

    Raises
    ------
    ValueError, TypeError
        As ``sigmoid_cross_entropy`` does; and if ``grad_out`` can't be used.

    Notes
    -----
    As TensorFlow does, weights are taken as constants: that the denominators of ``MEAN`` and
    ``SUM_BY_NONZERO_WEIGHTS`` depend on them is no part of the gradient.  With labels 0 or 1 an
    unweighted gradient is within 1.25 ULP, however small: it is never 1 less a sigmoid near 1.

    A call that is refused has changed nothing: ``out`` and ``grad_out`` are as before, and no loss
    is recorded.  After any other exception, such as KeyboardInterrupt, they may hold anything, and
    no loss is recorded.

    Examples
    --------
    >>> import numpy as np
    >>> import sce_numba as sce
    >>> logits = np.array([[2.0, -1.0], [0.0, 40.0]])
    >>> loss, gradient = sce.sigmoid_cross_entropy_value_and_grad([[1, 0], [0, 1]], logits)
    >>> print(round(loss, 6))
    0.283334
    >>> print(gradient[1])
    [ 1.25000000e-01 -1.06208856e-18]
    """
    by_axis = axes.are_given(axis, keepdims, dim)
    by_group = grouping.are_given(groups, num_groups, by_axis)
    given = recognised(
        multi_class_labels, logits, weights, label_smoothing, reduction, pos_weight, where
    )
    if given is None:
        operands = {
            "multi_class_labels": multi_class_labels,
            "logits": logits,
            "weights": weights,
            "pos_weight": pos_weight,
            "where": where,
        }
        if by_group:
            check_order(operands | {"groups": groups})
        dispatch = dispatcher_for(**operands)
        if dispatch is not None:
            return dispatch(
                sigmoid_cross_entropy_value_and_grad,
                **operands,
                label_smoothing=label_smoothing,
                scope=scope,
                loss_collection=loss_collection,
                reduction=reduction,
                out=out,
                grad_out=grad_out,
                **(axes.options(axis, keepdims, dim) if by_axis else {}),
                **({"groups": groups, "num_groups": num_groups} if by_group else {}),
            )
        given = checked(
            multi_class_labels, logits, weights, label_smoothing, reduction, pos_weight, where
        )
    if by_axis:
        found: tuple[Any, np.ndarray] = axes.evaluate_and_differentiate(
            given, axis, keepdims, dim, out, grad_out
        )
    elif by_group:
        found = grouping.evaluate_and_differentiate(given, groups, num_groups, out, grad_out)
    else:
        found = evaluation.evaluate_and_differentiate(given, out, grad_out)
    several = (by_axis or by_group) and np.ndim(found[0]) > 0
    record(found[0], scope, loss_collection, reduction, several=several)
    return found


def sigmoid_cross_entropy_gradient(labels: ArrayLike, logits: ArrayLike) -> np.ndarray:
    r"""Return the gradient of every element loss with respect to its logit.

    With logits :math:`x` and labels :math:`z` it is :math:`\sigma(x) - z`: what
    ``sigmoid_cross_entropy_with_logits`` is to losses.  It is meant for the inner loops of code
    compiled by Numba, where it takes numbers as well.

    Parameters
    ----------
    labels : array_like, the shape of logits
        Labels :math:`z`: bool, integer or float.
    logits : array_like
        Log-odds :math:`x`: a float of 8 to 64 bits, of any rank and memory layout.

    Returns
    -------
    ndarray
        The gradient, in the shape and dtype of logits.

    Raises
    ------
    ValueError, TypeError
        As ``sigmoid_cross_entropy`` does.

    Examples
    --------
    >>> import sce_numba as sce
    >>> print(sce.sigmoid_cross_entropy_gradient([1, 0], [0.0, 0.0]))
    [-0.5  0.5]
    >>> from numba import njit
    >>> @njit
    ... def step(label, logit):
    ...     return logit - 0.1 * sce.sigmoid_cross_entropy_gradient(label, logit)
    >>> step(1, 0.0)
    0.05
    """
    given = recognised(labels, logits)
    if given is None:
        dispatch = dispatcher_for(labels=labels, logits=logits)
        if dispatch is not None:
            return dispatch(sigmoid_cross_entropy_gradient, labels=labels, logits=logits)
        given = checked(labels, logits, labels_name="labels")
    _, gradient = evaluation.differentiate_elements(given, HESSIAN, None, "", None)
    return gradient


def sigmoid_cross_entropy_gradient_hessian(
    multi_class_labels: ArrayLike,
    logits: ArrayLike,
    weights: ArrayLike = 1.0,
    label_smoothing: float = 0,
    *,
    pos_weight: ArrayLike | None = None,
    where: ArrayLike | None = None,
    grad_out: np.ndarray | None = None,
    hess_out: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    r"""Return the first and second derivative of every weighted loss by its own logit.

    This is what boosting libraries ask of an objective.  With logits :math:`x`, smoothed labels
    :math:`z'`, weights :math:`w` and :math:`l = 1 + (q - 1) z'` for the weight :math:`q` of
    positives they are

    .. math:: w \left((1 - z') - l \, \sigma(-x)\right), \qquad w \, l \, \sigma(x) \, \sigma(-x).

    Parameters
    ----------
    multi_class_labels, logits, weights, label_smoothing, pos_weight
        As those of ``sigmoid_cross_entropy``.
    where : array_like of bool, optional
        Elements to include, broadcast to logits by NumPy's rule; others have derivatives of 0.
    grad_out, hess_out : ndarray, optional
        Where to write the results: arrays of the shape and dtype of logits, one of which may be
        the logits themselves.

    Returns
    -------
    gradient, hessian : ndarray
        In the shape and dtype of logits.

    Raises
    ------
    ValueError, TypeError
        As ``sigmoid_cross_entropy`` does; and if ``grad_out`` or ``hess_out`` can't be used.

    Notes
    -----
    A call that is refused has changed nothing.  After any other exception, such as
    KeyboardInterrupt, ``grad_out`` and ``hess_out`` may hold anything.

    Examples
    --------
    >>> import sce_numba as sce
    >>> gradient, hessian = sce.sigmoid_cross_entropy_gradient_hessian([1, 0], [0.0, 0.0])
    >>> print(gradient, hessian)
    [-0.5  0.5] [0.25 0.25]
    """
    given = recognised(
        multi_class_labels,
        logits,
        weights,
        label_smoothing,
        pos_weight=pos_weight,
        where=where,
    )
    if given is None:
        operands = {
            "multi_class_labels": multi_class_labels,
            "logits": logits,
            "weights": weights,
            "pos_weight": pos_weight,
            "where": where,
        }
        dispatch = dispatcher_for(**operands)
        if dispatch is not None:
            return dispatch(
                sigmoid_cross_entropy_gradient_hessian,
                **operands,
                label_smoothing=label_smoothing,
                grad_out=grad_out,
                hess_out=hess_out,
            )
        given = checked(
            multi_class_labels,
            logits,
            weights,
            label_smoothing,
            pos_weight=pos_weight,
            where=where,
        )
    second = HESSIAN, hess_out, "hess_out"
    hessian, gradient = evaluation.differentiate_elements(given, *second, grad_out)
    return gradient, hessian


@overload
def compute_weighted_loss(
    losses: Plain, weights: Plain = ..., scope: str | None = ..., loss_collection: str | None = ...,
    reduction: Reduced = ..., *, axis: None = ..., keepdims: Literal[False] = ..., dim: None = ...,
    groups: None = ..., num_groups: None = ...,
) -> np.number[Any]: ...  # fmt: skip
@overload
def compute_weighted_loss(
    losses: Plain, weights: Plain = ..., scope: str | None = ..., loss_collection: str | None = ...,
    *, reduction: NoReduction, axis: None = ..., keepdims: Literal[False] = ..., dim: None = ...,
    groups: None = ..., num_groups: None = ...,
) -> np.ndarray: ...  # fmt: skip
@overload
def compute_weighted_loss(
    losses: ArrayLike, weights: ArrayLike = ..., scope: str | None = ...,
    loss_collection: str | None = ..., reduction: AnyReduction = ..., *, axis: Axis = ...,
    keepdims: bool = ..., dim: Any = ..., groups: ArrayLike | None = ...,
    num_groups: int | None = ...,
) -> Any: ...  # fmt: skip
def compute_weighted_loss(
    losses: ArrayLike,
    weights: ArrayLike = 1.0,
    scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
    reduction: AnyReduction = Reduction.SUM_BY_NONZERO_WEIGHTS,
    *,
    axis: Axis = None,
    keepdims: bool = False,
    dim: Any = None,
    groups: ArrayLike | None = None,
    num_groups: int | None = None,
) -> Any:
    r"""Weigh and reduce losses that are already computed.

    Parameters
    ----------
    losses : array_like
        Element losses :math:`l`: a float of 8 to 64 bits or an integer, of any rank and memory
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
    axis, keepdims, dim, groups, num_groups
        As those of ``sigmoid_cross_entropy``.

    Returns
    -------
    scalar or ndarray
        A NumPy scalar of the dtype of losses; with ``Reduction.NONE`` an array of their shape, with
        ``axis`` or ``keepdims`` one of the shape that they leave.
        Of integers it is the integer part.

    Raises
    ------
    ValueError
        If losses or weights are None, weights don't fit, the reduction is unknown, or the dtype of
        integers can't hold the loss, or ``axis`` can't be used.
    TypeError
        If a dtype is not among the above, an array is masked, or ``axis`` holds anything but
        integers.

    Notes
    -----
    As TensorFlow's ``tf.compat.v1.losses.compute_weighted_loss``, but float64 losses stay
    float64.

    A call that fails records no loss.

    Examples
    --------
    >>> import sce_numba as sce
    >>> print(sce.compute_weighted_loss([1.0, 2.0, 6.0], weights=[1.0, 0.0, 2.0]))
    6.5
    """
    by_axis = axes.are_given(axis, keepdims, dim)
    by_group = grouping.are_given(groups, num_groups, by_axis)
    dispatch = dispatcher_for(losses=losses, weights=weights)
    if dispatch is not None:
        return dispatch(
            compute_weighted_loss,
            losses=losses,
            weights=weights,
            scope=scope,
            loss_collection=loss_collection,
            reduction=reduction,
            **(axes.options(axis, keepdims, dim) if by_axis else {}),
            **({"groups": groups, "num_groups": num_groups} if by_group else {}),
        )
    values, dtype = arguments.as_losses(losses)
    arrays = {view.LOGITS: values}
    code, weight = add_weights(arrays, weights, reduction)
    given = arrays, known(arrays), weight, 0.0, code
    if by_axis:
        loss = axes.evaluate(given, axis, keepdims, dim)
    elif by_group:
        loss = grouping.evaluate(given, groups, num_groups)
    else:
        loss = evaluation.evaluate(given)
    if dtype.kind in "iu":
        loss = arguments.as_integers(loss, dtype)
    record(
        loss, scope, loss_collection, reduction, several=(by_axis or by_group) and np.ndim(loss) > 0
    )
    return loss


numba_extension.functions_are_defined()
