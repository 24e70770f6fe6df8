"""The functions of this package inside what users compile themselves, with ``@numba.njit``.

Numba imports this module when it first compiles anything, by way of an entry point; where the
package is on the path without being installed, ``import sce_numba.njit`` does the same.  Nothing is
compiled before it is used.

Numbers are computed by the formulas of ``kernels.elements``, as code without branches and calls
that LLVM inlines and makes vectors of.  Arrays go through the loops of ``kernels.loss`` and
``kernels.gradient``, the very functions that Python-level calls run, on the calling thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.core.errors import TypingError
from numba.core.typing.templates import AttributeTemplate
from numba.extending import (
    infer_getattr,
    intrinsic,
    lower_getattr_generic,
    overload,
    register_jitable,
    typeof_impl,
)
from numba.np.numpy_support import as_dtype

from . import losses, nn
from .arguments import dtype_code
from .kernels import elements
from .kernels.block import SHORT
from .kernels.divisor import SUM, divisor, is_known
from .kernels.gradient import HESSIAN, LOSSES, TOTAL, differentiate
from .kernels.lanes import Lanes, rounded
from .kernels.loss import (
    GRADIENT,
    LABELS,
    LOGITS,
    OPERANDS,
    POS_WEIGHT,
    RESULT,
    WEIGHTS,
    WHERE,
    denominator,
    reduce_any,
    reduce_rows,
    write_any,
    write_contiguous,
)
from .kernels.operand import address_of
from .kernels.softplus import OPTIONS, exp_minus_abs_and_rest, sigmoid_from_exp
from .kernels.staging import ADDRESS, CODE, ITEMSIZE, PLAIN, STRIDES
from .loss_collections import GraphKeys
from .reduction import CODES, Reduction

# Whatever the options of the caller: no fast-math flags come from there, and, as functions that
# are called inherit no `parallel`, no parallel region begins here.
_OPTIONS = OPTIONS | {"forceinline": False}
_jitable = register_jitable(**_OPTIONS)
for _loop in (reduce_rows, reduce_any, denominator, write_contiguous, write_any, differentiate):
    _jitable(_loop)


def register() -> None:
    """Do nothing: importing this module is what Numba's entry point is for."""


# ---- What is accepted -----------------------------------------------------------------------


def _overload(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    decorate = overload(function, jit_options=_OPTIONS | options, strict=False, prefer_literal=True)
    return decorate


def _given(value: Any) -> bool:
    return not (value is None or isinstance(value, types.NoneType))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, types.Number, types.Boolean))


def _refuse(value: Any, name: str, default: Any = None) -> None:
    if _given(value) and value is not default:
        raise TypingError(f"Argument `{name}` can't be given inside compiled code.")


def _check_kind(value: Any, name: str, *, logits: bool = False) -> None:
    """Refuse what is neither an array nor a number of a dtype that can be computed with."""
    kind = value.dtype if isinstance(value, types.Array) else types.unliteral(value)
    allowed = "float32 or float64" if logits else "bool, integer or float (of at most 64 bits)"
    if logits:
        good = kind in (types.float32, types.float64)
    else:
        real = isinstance(kind, (types.Boolean, types.Integer, types.Float))
        good = real and dtype_code(as_dtype(kind)) is not None
    if not good:
        raise TypingError(
            f"Argument `{name}` must be a number or an array of {allowed} inside compiled code, "
            f"got {value}."
        )


def _are_numbers(labels: Any, logits: Any, labels_name: str = "labels") -> bool:
    """Tell whether labels and logits are numbers, not arrays; refuse all else."""
    for value, name in ((labels, labels_name), (logits, "logits")):
        if not _given(value):
            raise TypingError(f"Argument `{name}` must not be None.")
    _check_kind(labels, labels_name)
    _check_kind(logits, "logits", logits=True)
    arrays = isinstance(labels, types.Array), isinstance(logits, types.Array)
    if arrays[0] != arrays[1]:
        raise TypingError(
            f"Arguments `{labels_name}` and `logits` must both be numbers or both be arrays, got "
            f"{labels} and {logits}."
        )
    return not arrays[0]


def _check_arrays(
    labels: Any, logits: Any, weights: Any, label_smoothing: Any, pos_weight: Any, where: Any
) -> None:
    """Refuse what can't be given beside arrays of labels and logits."""
    if _are_numbers(labels, logits, "multi_class_labels"):
        raise TypingError(
            "Argument `logits` must be an array; use `sigmoid_cross_entropy_with_logits` or "
            "`sigmoid_cross_entropy_gradient` for numbers."
        )
    _check_weights(weights)
    if not _is_number(label_smoothing):
        raise TypingError(
            f"Argument `label_smoothing` must be a number from 0 to 1, got {label_smoothing}."
        )
    if _given(pos_weight):
        _check_kind(pos_weight, "pos_weight")
    if _given(where):
        dtype = where.dtype if isinstance(where, types.Array) else types.unliteral(where)
        if dtype != types.boolean:
            raise TypingError(f"Argument `where` must be bool, got {where}.")


def _check_weights(weights: Any) -> None:
    if not _given(weights):
        raise TypingError("Argument `weights` must not be None.")
    if not _is_number(weights):
        _check_kind(weights, "weights")


def _reduction(value: Any) -> int | None:
    """Return the kernels' code of a reduction, or None for ``Reduction.NONE``."""
    if isinstance(value, types.StringLiteral):
        value = value.literal_value
    if not isinstance(value, str):
        raise TypingError(
            "Argument `reduction` must be known when the code is compiled: a string literal, or a "
            f"member of `Reduction`; got {value}."
        )
    try:
        Reduction.validate(value)
    except ValueError as error:
        raise TypingError(str(error)) from None
    return CODES.get(value)


# A member of Reduction is a literal of its string, wherever it comes from.
_REDUCTION = types.EnumClass(Reduction, types.unicode_type)


@typeof_impl.register(Reduction)
def _typeof_reduction(value: Reduction, _context: Any) -> Any:
    return types.literal(str(value.value))


@infer_getattr
class _Members(AttributeTemplate):
    key = _REDUCTION

    def generic_resolve(self, _kind: Any, name: str) -> Any:
        member = Reduction.__members__.get(name)
        return None if member is None else types.literal(str(member.value))


@lower_getattr_generic(_REDUCTION)
def _member(context: Any, _builder: Any, _kind: Any, _value: Any, _name: str) -> Any:
    return context.get_dummy_value()


# ---- Numbers --------------------------------------------------------------------------------


def _of_numbers(formula: Callable[..., Any]) -> Any:
    """Make a formula over lanes a function of numbers: labels, logits, and weight of positives.

    It returns one number or a tuple of them, in the dtype of the logits.
    """

    @intrinsic
    def compiled(_typing, label, logit, pos_weight):
        real = types.unliteral(logit)
        dtype = np.float32 if real == types.float32 else np.float64
        has_q = _given(pos_weight)
        wide = types.float64 in map(types.unliteral, (label, logit, pos_weight))
        own = np.float64 if wide else dtype

        def codegen(context, builder, signature, arguments):
            def lanes(k: int) -> Lanes:
                kind, to = types.unliteral(signature.args[k]), types.float64 if wide else real
                return Lanes(builder, context.cast(builder, arguments[k], kind, to))

            z, x = lanes(0), Lanes(builder, arguments[1])
            one, zero = z.constant(1.0), z.constant(0.0)
            options = False, has_q, lambda: lanes(2), dtype
            element = elements.Element(own, lanes(1), z, one, zero, *options)
            found = formula(element, *exp_minus_abs_and_rest(dtype, x))
            if isinstance(found, tuple):
                numbers = [rounded(value, dtype).value for value in found]
                return context.make_tuple(builder, signature.return_type, numbers)
            return rounded(found, dtype).value

        returned = types.UniTuple(real, 2) if formula is _both else real
        return returned(label, logit, pos_weight), codegen

    return compiled


def _loss(element: Any, t: Any, _d: Any) -> Any:
    return elements.loss(element, t)


def _slope(element: Any, t: Any, d: Any) -> Any:
    return elements.gradient(element, sigmoid_from_exp(t, d))


def _both(element: Any, t: Any, d: Any) -> tuple[Any, Any]:
    s = sigmoid_from_exp(t, d)
    return elements.gradient(element, s), elements.hessian(element, s)


_loss_of_numbers = _of_numbers(_loss)
_gradient_of_numbers = _of_numbers(_slope)
_derivatives_of_numbers = _of_numbers(_both)


# ---- Arrays ---------------------------------------------------------------------------------


def _as_array(value: Any) -> Any: ...


@_overload(_as_array)
def _(value: Any) -> Any:
    """Return a number, or an array without axes, as an array with one; None as it is."""
    if not _given(value):
        return lambda value: None
    if not isinstance(value, types.Array):
        return lambda value: np.full(1, value)
    return (lambda value: value) if value.ndim else (lambda value: value.reshape(1))


def _enter(table: Any, row: Any, array: Any, shape: Any, name: Any) -> Any: ...


@_overload(_enter)
def _(table: Any, row: Any, array: Any, shape: Any, name: Any) -> Any:
    """Describe an array in its row of the operands table, broadcast to a shape."""
    if not _given(array):
        return lambda table, row, array, shape, name: None
    code, plain = dtype_code(as_dtype(array.dtype)), int(array.aligned)
    message = f"Argument `{name.literal_value}` can not be broadcast to the shape of the logits."

    def enter(table, row, array, shape, name):
        operand = table[row]
        operand[ADDRESS], operand[CODE] = address_of(array), code
        operand[ITEMSIZE], operand[PLAIN] = array.itemsize, plain
        ahead = shape.size - array.ndim
        if ahead < 0:
            raise ValueError(message)
        for axis in range(array.ndim):
            length = array.shape[axis]
            if length not in (1, shape[ahead + axis]):
                raise ValueError(message)
            operand[STRIDES + ahead + axis] = array.strides[axis] if length != 1 else 0

    return enter


@_jitable
def _flatten(shape, table):
    """Do as ``layout_of``, with the operands table in the place of arrays."""
    axes = np.empty(shape.size, np.int64)
    left = 0
    for axis in range(shape.size):
        if shape[axis] != 1:
            step, place = abs(table[LOGITS, STRIDES + axis]), left
            while place > 0 and abs(table[LOGITS, STRIDES + axes[place - 1]]) < step:
                axes[place] = axes[place - 1]
                place -= 1
            axes[place] = axis
            left += 1
    joined, operands = np.ones(max(left, 1), np.int64), table.copy()
    operands[:, STRIDES:] = 0
    last = -1
    for axis in axes[:left]:
        size, steps = shape[axis], table[:, STRIDES + axis]
        if last >= 0 and np.all(operands[:, STRIDES + last] == steps * size):
            joined[last] *= size
        else:
            last += 1
            joined[last] = size
        operands[:, STRIDES + last] = steps
    if last < 0:
        last = 0
        operands[:, STRIDES] = operands[:, ITEMSIZE]
    return joined[: last + 1], operands


@_jitable
def _described(labels, logits, weights, pos_weight, where, result, gradient):
    """Return what the loops over operands of any layout want to know, and a scalar weight."""
    shape = np.array(logits.shape)
    table = np.zeros((OPERANDS, STRIDES + shape.size), np.int64)
    _enter(table, LOGITS, logits, shape, "logits")
    _enter(table, LABELS, labels, shape, "labels")
    _enter(table, POS_WEIGHT, pos_weight, shape, "pos_weight")
    _enter(table, WHERE, where, shape, "where")
    _enter(table, RESULT, result, shape, "result")
    _enter(table, GRADIENT, gradient, shape, "gradient")
    weight = np.float64(weights.flat[0]) if weights.size == 1 else np.inf
    # As in `arguments.as_weights`: one finite weight can be applied to the sum.
    if np.isfinite(weight):
        _enter(table, WEIGHTS, None, shape, "weights")
    else:
        _enter(table, WEIGHTS, weights, shape, "weights")
        weight = 1.0
    joined, operands = _flatten(shape, table)
    columns = joined[-1] if joined[-1] >= SHORT else logits.size
    last = joined.size - 1
    across = columns != joined[last] or operands[WEIGHTS, STRIDES + last] != 0
    by_element = operands[WEIGHTS, ADDRESS] != 0 and across
    by_element |= where is not None or pos_weight is not None
    return (joined, operands, logits.size // columns, columns, np.int64(by_element)), weight


@_jitable
def _hold(*_arrays):
    """Keep arrays, whose addresses are in use, until this is called."""


def _check_shapes(labels: Any, logits: Any, weights: Any, name: Any) -> Any: ...


@_overload(_check_shapes)
def _(labels: Any, logits: Any, weights: Any, name: Any) -> Any:
    """Refuse labels of another shape than the logits, and weights by TensorFlow's rule."""
    message = (
        f"Arguments `{name.literal_value}` and `logits` must have the same shape. Labels are not "
        "broadcast."
    )
    weights_message = (
        "weights can not be broadcast to values. Weights must be a scalar, or have as many "
        "dimensions as the values, each 1 or equal."
    )
    one_rank = not _given(labels) or labels.ndim == logits.ndim
    rank = weights.ndim if isinstance(weights, types.Array) else 0
    if not one_rank:

        def check(labels, logits, weights, name):
            raise ValueError(message)
    elif rank not in (0, logits.ndim):

        def check(labels, logits, weights, name):
            raise ValueError(weights_message)
    else:

        def check(labels, logits, weights, name):
            if labels is not None and labels.shape != logits.shape:
                raise ValueError(message)
            if rank:
                for axis in range(logits.ndim):
                    if weights.shape[axis] not in (1, logits.shape[axis]):
                        raise ValueError(weights_message)

    return check


@_jitable
def _check_smoothing(smoothing):
    if not 0.0 <= smoothing <= 1.0:
        raise ValueError("Argument `label_smoothing` must be a number from 0 to 1.")


def _is_direct(labels: Any, logits: Any, *others: Any) -> bool:
    """Tell whether arrays are known to be contiguous, in one order, with one weight for all."""
    return (
        isinstance(labels, types.Array)
        and labels.ndim == logits.ndim
        and logits.layout == labels.layout
        and logits.layout in "CF"
        and logits.aligned
        and labels.aligned
        and all(not _given(other) or _is_number(other) for other in others)
    )


@_jitable
def _one_or_infinite(weight, real):
    """Return an array of one number, and a finite one, whose product is the weight."""
    if np.isfinite(weight):
        return np.full(1, real(1)), np.float64(weight)
    return np.full(1, real(weight)), 1.0


def _evaluate(
    labels: Any, logits: Any, weights: Any, smoothing: Any, code: Any, pos_weight: Any, where: Any,
    name: Any,
) -> Any: ...  # fmt: skip


@_overload(_evaluate)
def _(
    labels: Any, logits: Any, weights: Any, smoothing: Any, code: Any, pos_weight: Any, where: Any,
    name: Any,
) -> Any:  # fmt: skip
    """Return the reduced loss, or the losses for ``None`` as the code of the reduction."""
    real = logits.dtype
    direct = _is_direct(labels, logits, weights) and not _given(pos_weight) and not _given(where)
    x_code = dtype_code(as_dtype(real))
    z_code = dtype_code(as_dtype(labels.dtype)) if _given(labels) else 0

    def reduce_direct(labels, logits, weights, smoothing, code, pos_weight, where, name):
        _check_shapes(labels, logits, weights, name)
        _check_smoothing(smoothing)
        size = logits.size
        if size == 0:
            return real(0.0)
        one, weight = _one_or_infinite(weights, real)
        scalars = np.float64(smoothing), code
        value = reduce_rows(logits, labels, one, x_code, z_code, 1, size, 0, weight, *scalars)
        return real(value)

    def reduce_described(labels, logits, weights, smoothing, code, pos_weight, where, name):
        _check_shapes(labels, logits, weights, name)
        _check_smoothing(smoothing)
        x, z, w = _as_array(logits), _as_array(labels), _as_array(weights)
        q, keep = _as_array(pos_weight), _as_array(where)
        if x.size == 0:
            return real(0.0)
        described, weight = _described(z, x, w, q, keep, None, None)
        one = np.full(1, real(1))
        value = reduce_any(one, *described, weight, np.float64(smoothing), code)
        _hold(w, q, keep)
        return real(value)

    def write_direct(labels, logits, weights, smoothing, code, pos_weight, where, name):
        _check_shapes(labels, logits, weights, name)
        _check_smoothing(smoothing)
        out = np.empty_like(logits)
        size = logits.size
        if size > 0:
            one, weight = _one_or_infinite(weights, real)
            place = x_code, z_code, 1, size, 0, 0, size
            write_contiguous(logits, labels, one, out, *place, weight, np.float64(smoothing))
        return out

    def write_described(labels, logits, weights, smoothing, code, pos_weight, where, name):
        _check_shapes(labels, logits, weights, name)
        _check_smoothing(smoothing)
        out = np.empty_like(logits)
        x, z, w = _as_array(logits), _as_array(labels), _as_array(weights)
        q, keep = _as_array(pos_weight), _as_array(where)
        if x.size > 0:
            described, weight = _described(z, x, w, q, keep, _as_array(out), None)
            one = np.full(1, real(1))
            write_any(one, *described, weight, np.float64(smoothing))
        _hold(w, q, keep)
        return out

    if _given(code):
        return reduce_direct if direct else reduce_described
    return write_direct if direct else write_described


@_jitable
def _denominator_of(described, real, weight, code, weighted, excluded):
    """Return what the reduction divides by, as does ``evaluation.denominator``."""
    _, _, rows, columns, _ = described
    if is_known(code, weighted, excluded):
        count = np.float64(rows * columns)
        return divisor(code, weight, count, count, count)
    return denominator(np.full(1, real(1)), *described, weight, code)


def _differentiate(
    labels: Any, logits: Any, weights: Any, smoothing: Any, code: Any, pos_weight: Any, where: Any,
    second: Any,
) -> Any: ...  # fmt: skip


@_overload(_differentiate)
def _(
    labels: Any, logits: Any, weights: Any, smoothing: Any, code: Any, pos_weight: Any, where: Any,
    second: Any,
) -> Any:  # fmt: skip
    """Return the gradient, and with it what ``second`` says: the loss, the losses or hessians."""
    real = logits.dtype
    excluded = _given(where)

    def with_loss(labels, logits, weights, smoothing, code, pos_weight, where, second):
        _check_shapes(labels, logits, weights, "multi_class_labels")
        _check_smoothing(smoothing)
        gradient = np.empty_like(logits)
        x, z, w = _as_array(logits), _as_array(labels), _as_array(weights)
        q, keep = _as_array(pos_weight), _as_array(where)
        if x.size == 0:
            return gradient, real(0.0)
        described, weight = _described(z, x, w, q, keep, None, _as_array(gradient))
        weighted = described[1][WEIGHTS, ADDRESS] != 0
        divisor = _denominator_of(described, real, weight, code, weighted, excluded)
        if divisor == 0.0:
            gradient[...] = 0
            return gradient, real(0.0)
        one = np.full(1, real(1))
        scales = weight, weight / divisor, np.float64(smoothing)
        value = differentiate(one, *described, *scales, second, SUM)
        _hold(w, q, keep)
        return gradient, real(value / divisor)

    def with_elements(labels, logits, weights, smoothing, code, pos_weight, where, second):
        _check_shapes(labels, logits, weights, "multi_class_labels")
        _check_smoothing(smoothing)
        gradient, others = np.empty_like(logits), np.empty_like(logits)
        x, z, w = _as_array(logits), _as_array(labels), _as_array(weights)
        q, keep = _as_array(pos_weight), _as_array(where)
        if x.size > 0:
            results = _as_array(others), _as_array(gradient)
            described, weight = _described(z, x, w, q, keep, *results)
            one = np.full(1, real(1))
            scales = weight, weight, np.float64(smoothing)
            differentiate(one, *described, *scales, second, SUM)
        _hold(w, q, keep)
        return gradient, others

    return with_loss if _given(code) else with_elements


# ---- The public functions -------------------------------------------------------------------


@_overload(nn.sigmoid_cross_entropy_with_logits, forceinline=True)
def _(
    _sentinel: Any = None, labels: Any = None, logits: Any = None, name: Any = None, out: Any = None
) -> Any:
    if _given(_sentinel):
        raise TypingError(
            "Only call `sigmoid_cross_entropy_with_logits` with named arguments: "
            "(labels=..., logits=..., ...)."
        )
    _refuse(out, "out")

    def of_numbers(_sentinel=None, labels=None, logits=None, name=None, out=None):
        return _loss_of_numbers(labels, logits, None)

    def of_arrays(_sentinel=None, labels=None, logits=None, name=None, out=None):
        return _evaluate(labels, logits, 1.0, 0.0, None, None, None, "labels")

    return of_numbers if _are_numbers(labels, logits) else of_arrays


@_overload(nn.weighted_cross_entropy_with_logits, forceinline=True)
def _(labels: Any, logits: Any, pos_weight: Any, name: Any = None, out: Any = None) -> Any:
    _refuse(out, "out")
    numbers = _are_numbers(labels, logits)
    if not _given(pos_weight):
        raise TypingError("Argument `pos_weight` must not be None.")
    _check_kind(pos_weight, "pos_weight")
    if numbers and not _is_number(pos_weight):
        raise TypingError("Argument `pos_weight` must be a number beside numbers.")

    def of_numbers(labels, logits, pos_weight, name=None, out=None):
        return _loss_of_numbers(labels, logits, pos_weight)

    def of_arrays(labels, logits, pos_weight, name=None, out=None):
        return _evaluate(labels, logits, 1.0, 0.0, None, pos_weight, None, "labels")

    return of_numbers if numbers else of_arrays


@_overload(losses.sigmoid_cross_entropy_gradient, forceinline=True)
def _(labels: Any, logits: Any) -> Any:
    def of_numbers(labels, logits):
        return _gradient_of_numbers(labels, logits, None)

    # Without a second result there is nothing that the blocks of the kernels could do better.
    def of_contiguous(labels, logits):
        _check_shapes(labels, logits, 1.0, "labels")
        gradient = np.empty_like(logits)
        x, z, result = logits.reshape(-1), labels.reshape(-1), gradient.reshape(-1)
        for i in range(x.size):
            result[i] = _gradient_of_numbers(z[i], x[i], None)
        return gradient

    def of_arrays(labels, logits):
        return _differentiate(labels, logits, 1.0, 0.0, None, None, None, HESSIAN)[0]

    if _are_numbers(labels, logits):
        return of_numbers
    in_c_order = _is_direct(labels, logits) and logits.layout == "C"
    return of_contiguous if in_c_order else of_arrays


@_overload(losses.sigmoid_cross_entropy)
def _(
    multi_class_labels: Any,
    logits: Any,
    weights: Any = 1.0,
    label_smoothing: Any = 0,
    scope: Any = None,
    loss_collection: Any = GraphKeys.LOSSES,
    reduction: Any = Reduction.SUM_BY_NONZERO_WEIGHTS,
    pos_weight: Any = None,
    where: Any = None,
    out: Any = None,
) -> Any:
    _refuse(scope, "scope")
    _refuse(loss_collection, "loss_collection", GraphKeys.LOSSES)
    _refuse(out, "out")
    _check_arrays(multi_class_labels, logits, weights, label_smoothing, pos_weight, where)
    code = _reduction(reduction)

    def of_arrays(
        multi_class_labels, logits, weights=1.0, label_smoothing=0, scope=None,
        loss_collection=None, reduction=None, pos_weight=None, where=None, out=None,
    ):  # fmt: skip
        return _evaluate(
            multi_class_labels, logits, weights, label_smoothing, code, pos_weight, where,
            "multi_class_labels",
        )  # fmt: skip

    return of_arrays


@_overload(losses.sigmoid_cross_entropy_value_and_grad)
def _(
    multi_class_labels: Any,
    logits: Any,
    weights: Any = 1.0,
    label_smoothing: Any = 0,
    scope: Any = None,
    loss_collection: Any = GraphKeys.LOSSES,
    reduction: Any = Reduction.SUM_BY_NONZERO_WEIGHTS,
    pos_weight: Any = None,
    where: Any = None,
    out: Any = None,
    grad_out: Any = None,
) -> Any:
    _refuse(scope, "scope")
    _refuse(loss_collection, "loss_collection", GraphKeys.LOSSES)
    _refuse(out, "out")
    _refuse(grad_out, "grad_out")
    _check_arrays(multi_class_labels, logits, weights, label_smoothing, pos_weight, where)
    code = _reduction(reduction)
    second = LOSSES if code is None else TOTAL

    def of_arrays(
        multi_class_labels, logits, weights=1.0, label_smoothing=0, scope=None,
        loss_collection=None, reduction=None, pos_weight=None, where=None, out=None, grad_out=None,
    ):  # fmt: skip
        gradient, loss = _differentiate(
            multi_class_labels, logits, weights, label_smoothing, code, pos_weight, where, second
        )
        return loss, gradient

    return of_arrays


@_overload(losses.sigmoid_cross_entropy_gradient_hessian, forceinline=True)
def _(
    multi_class_labels: Any,
    logits: Any,
    weights: Any = 1.0,
    label_smoothing: Any = 0,
    pos_weight: Any = None,
    where: Any = None,
    grad_out: Any = None,
    hess_out: Any = None,
) -> Any:
    _refuse(grad_out, "grad_out")
    _refuse(hess_out, "hess_out")
    if _are_numbers(multi_class_labels, logits, "multi_class_labels"):
        for value, name, default in (
            (weights, "weights", 1.0),
            (label_smoothing, "label_smoothing", 0),
            (where, "where", None),
        ):
            if value is not default and value != default:
                raise TypingError(f"Argument `{name}` can't be given beside numbers.")
        if _given(pos_weight) and not _is_number(pos_weight):
            raise TypingError("Argument `pos_weight` must be a number beside numbers.")

        def of_numbers(
            multi_class_labels, logits, weights=1.0, label_smoothing=0, pos_weight=None,
            where=None, grad_out=None, hess_out=None,
        ):  # fmt: skip
            return _derivatives_of_numbers(multi_class_labels, logits, pos_weight)

        return of_numbers
    _check_arrays(multi_class_labels, logits, weights, label_smoothing, pos_weight, where)

    def of_arrays(
        multi_class_labels, logits, weights=1.0, label_smoothing=0, pos_weight=None, where=None,
        grad_out=None, hess_out=None,
    ):  # fmt: skip
        return _differentiate(
            multi_class_labels, logits, weights, label_smoothing, None, pos_weight, where, HESSIAN
        )

    return of_arrays


@_overload(losses.compute_weighted_loss)
def _(
    losses: Any,
    weights: Any = 1.0,
    scope: Any = None,
    loss_collection: Any = GraphKeys.LOSSES,
    reduction: Any = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Any:
    _refuse(scope, "scope")
    _refuse(loss_collection, "loss_collection", GraphKeys.LOSSES)
    if not isinstance(losses, types.Array):
        raise TypingError(f"Argument `losses` must be an array, got {losses}.")
    _check_kind(losses, "losses", logits=True)
    _check_weights(weights)
    code = _reduction(reduction)

    def of_arrays(losses, weights=1.0, scope=None, loss_collection=None, reduction=None):
        return _evaluate(None, losses, weights, 0.0, code, None, None, "losses")

    return of_arrays
