"""The functions of this package inside what users compile themselves, with ``@numba.njit``.

This module is imported when Numba first compiles anything in a program that uses the package, by
way of an entry point (see ``numba_extension``); where the package is on the path without being
installed, ``import sce_numba.njit`` does the same.  Nothing is
compiled before it is used.

Numbers are computed by the formulas of ``kernels.elements``, as code without branches and calls
that LLVM inlines and makes vectors of.  Arrays go through the very code that calls from Python run
(see ``kernels.compile``), by its name, on the calling thread: compiled into each function of the
user once more it took LLVM several times as long as all else.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from llvmlite.binding import add_symbol
from numba import TypingError, literal_unroll, types
from numba.extending import (
    infer_getattr,
    intrinsic,
    lower_getattr_generic,
    overload,
    register_jitable,
    typeof_impl,
)

from . import losses, nn
from .arguments import dtype_code
from .kernels import elements
from .kernels.axis_sums import QUOTIENT
from .kernels.axis_view import (
    FIELDS,
    PITCH,
    RANGES,
    axis_words,
    flatten_axes,
    fold_fastest,
    is_along,
    lies_without_gaps,
    move_slower,
    packed_rows,
    run_of,
    whole_rows,
)
from .kernels.cache import sources
from .kernels.compile import OPTIONS, kernel
from .kernels.divisor import SUM, check, divisor, is_known
from .kernels.dtypes import FLOAT32, FLOAT64, MISSING
from .kernels.flatten import (
    flatten,
    groups_of,
    join_axes,
    lies_in_order,
    words_of,
    write_rows,
)
from .kernels.gradient import HESSIAN, LOSSES, TOTAL
from .kernels.jobs import Job, type_of_function
from .kernels.lanes import Lanes, rounded
from .kernels.numba_internals import (
    AttributeTemplate,
    as_dtype,
    get_or_insert_function,
    keep_with_code,
    tuple_setitem,
)
from .kernels.operand import LINE
from .kernels.softplus import exp_minus_abs_and_rest
from .kernels.tiles import SCRATCH, Form, from_a_line_on
from .kernels.view import (
    ADDRESSES,
    BY_ELEMENT,
    CODE,
    COLUMNS,
    GRADIENT,
    GROUPS,
    ITEMSIZE,
    LABELS,
    LAYOUT,
    LOGITS,
    LOST_TO,
    OPERANDS,
    PLAIN,
    POS_WEIGHT,
    RANK,
    REDUCTION,
    RESULT,
    ROWS,
    SCALE,
    SECOND,
    SHAPE,
    SMOOTHING,
    STRIDES,
    WEIGHT,
    WEIGHTS,
    WHERE,
    WORDS,
)
from .loss_collections import GraphKeys
from .reduction import CODES, Reduction

# Whatever the options of the caller: no fast-math flags come from there, and, as functions that
# are called inherit no `parallel`, no parallel region begins here.
_OPTIONS = OPTIONS | {"forceinline": False}
_jitable = register_jitable(**_OPTIONS)
for _function in (
    groups_of,
    join_axes,
    write_rows,
    lies_in_order,
    flatten,
    words_of,
    is_along,
    lies_without_gaps,
    move_slower,
    whole_rows,
    packed_rows,
    fold_fastest,
    run_of,
    flatten_axes,
    axis_words,
    is_known,
    from_a_line_on,
):
    _jitable(_function)


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


def _computed(real: Any) -> int:
    """Return the kernels' code of the dtype that is computed in, for logits of a dtype."""
    return FLOAT32 if real == types.float32 else FLOAT64


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
    labels: Any, logits: Any, weights: Any, label_smoothing: Any, pos_weight: Any, where: Any,
    labels_name: str = "multi_class_labels",
) -> None:  # fmt: skip
    """Refuse what can't be given beside arrays of labels and logits."""
    if _are_numbers(labels, logits, labels_name):
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
    code = CODES.get(value)
    return None if code is None else check(code)


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


def _both(element: Any, t: Any, d: Any) -> tuple[Any, Any]:
    return elements.gradient(element, t, d), elements.hessian(element, t, d)


_loss_of_numbers = _of_numbers(elements.loss)
_gradient_of_numbers = _of_numbers(elements.gradient)
_derivatives_of_numbers = _of_numbers(_both)


# ---- Arrays ---------------------------------------------------------------------------------


def _as_array(value: Any) -> Any: ...


@_overload(_as_array)
def _ol_as_array(value: Any) -> Any:
    """Return a number, or an array without axes, as an array with one; None as it is."""
    if not _given(value):
        return lambda value: None
    if not isinstance(value, types.Array):
        return lambda value: np.full(1, value)
    return (lambda value: value) if value.ndim else (lambda value: value.reshape(1))


def _enter(table: Any, row: Any, array: Any, shape: Any, name: Any) -> Any: ...


@_overload(_enter)
def _ol_enter(table: Any, row: Any, array: Any, shape: Any, name: Any) -> Any:
    """Describe an array in its row, broadcast to a shape; return its address."""
    if not _given(array):

        def enter_none(table, row, array, shape, name):
            table[row, CODE] = MISSING
            return 0

        return enter_none
    dtype, rank, plain = as_dtype(array.dtype), array.ndim, int(array.aligned)
    code, itemsize = dtype_code(dtype), dtype.itemsize
    message = f"Argument `{name.literal_value}` can not be broadcast to the shape of the logits."

    def enter(table, row, array, shape, name):
        table[row, CODE], table[row, ITEMSIZE], table[row, PLAIN] = code, itemsize, plain
        ahead = len(shape) - rank
        if ahead < 0:
            raise ValueError(message)
        for axis in range(rank):
            length = array.shape[axis]
            if length != 1 and length != shape[ahead + axis]:
                raise ValueError(message)
            step = array.strides[axis] if length != 1 else 0
            table[row, STRIDES + ahead + axis] = step
        return _address_of(array)

    return enter


@intrinsic
def _address_of(_typing, array):
    """Return the address of the first element, 0 for None."""

    def codegen(context, builder, signature, arguments):
        if not _given(array):
            return context.get_constant(types.int64, 0)
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.ptrtoint(data, context.get_value_type(types.int64))

    return types.int64(array), codegen


@intrinsic
def _word(_typing, number):
    """Return the bits of a float64 as a whole number."""

    def codegen(context, builder, _signature, arguments):
        return builder.bitcast(arguments[0], context.get_value_type(types.int64))

    return types.int64(types.float64), codegen


@_jitable
def _entered(labels, logits, weights, pos_weight, where, result, gradient):
    """Return the words of a call, the table of its arrays, and a scalar weight."""
    shape = logits.shape
    table = np.zeros((OPERANDS, STRIDES + len(shape)), np.int64)
    call = np.zeros(WORDS, np.int64)
    weight = np.float64(weights.flat[0]) if weights.size == 1 else np.inf
    # As in `arguments.as_weights`: one finite weight can be applied to the sum.
    if np.isfinite(weight):
        table[WEIGHTS, CODE] = MISSING
    else:
        call[ADDRESSES + WEIGHTS] = _enter(table, WEIGHTS, weights, shape, "weights")
        weight = 1.0
    call[ADDRESSES + LOGITS] = _enter(table, LOGITS, logits, shape, "logits")
    call[ADDRESSES + LABELS] = _enter(table, LABELS, labels, shape, "labels")
    call[ADDRESSES + POS_WEIGHT] = _enter(table, POS_WEIGHT, pos_weight, shape, "pos_weight")
    call[ADDRESSES + WHERE] = _enter(table, WHERE, where, shape, "where")
    call[ADDRESSES + RESULT] = _enter(table, RESULT, result, shape, "result")
    call[ADDRESSES + GRADIENT] = _enter(table, GRADIENT, gradient, shape, "gradient")
    return call, table, weight


@_jitable
def _call(labels, logits, weights, pos_weight, where, result, gradient, computed):
    """Return the words of a call and of its layout (see ``kernels.view``), and a scalar weight."""
    shape = logits.shape
    given = labels, logits, weights, pos_weight, where, result, gradient
    call, table, weight = _entered(*given)
    words, axes = np.zeros(words_of(len(shape)), np.int64), np.zeros(len(shape) + 1, np.int64)
    flatten(shape, table, computed, words, axes)
    call[LAYOUT] = _address_of(words)
    return call, words, weight


class _Link:
    """Makes a kernel known to LLVM by the name that compiled code calls it by.

    The code that a user caches is pickled with it: whoever loads that code has the kernel first.
    """

    def __init__(self, job: Job) -> None:
        self.job, self.name = job, job.symbols[0]
        dtype: Any = job.dtype
        add_symbol(self.name, kernel(job.kind, dtype, job.form).whole)

    def __reduce__(self) -> tuple[Any, ...]:
        return relink, (sources(), pickle.dumps(self.job))


def relink(version: bytes, job: bytes) -> _Link:
    """Make a kernel known again; what other sources were compiled to is no longer there.

    Numba, which asks for it with the code that a user has cached, then compiles that anew.  The
    name of this function stands in such files.
    """
    if version != sources() or not version:
        raise FileNotFoundError("the code is that of another version of sce_numba")
    return _Link(pickle.loads(job))


@cache
def _whole(job: Job) -> Any:
    """Return what runs a job in compiled code: a function of the addresses of call and scratch."""

    @intrinsic
    def whole(_typing, call, scratch):
        def codegen(context, builder, _signature, arguments):
            link = _Link(job)
            keep_with_code(context, builder, link)
            kind = type_of_function(job, "whole")
            function = get_or_insert_function(builder.module, kind, link.name)
            return builder.call(function, arguments[: len(kind.args)])

        return types.float64(types.int64, types.int64), codegen

    return whole


def _job(kind: str, real: Any, form: Form) -> Job:
    return Job(kind, np.float32 if real.instance_type == types.float32 else np.float64, form)


def _runner(kind: str, formula: elements.Formula = elements.SIGMOID) -> Any:
    """Return what runs a job in compiled code, given weight, smoothing and scale."""

    def run(real: Any, call: Any, words: Any, numbers: Any) -> Any: ...

    @_overload(run)
    def _ol_run(real: Any, call: Any, words: Any, numbers: Any) -> Any:
        # Which of the two is needed is known only in a call.
        by_element = _whole(_job(kind, real, Form(True, True, formula)))
        by_row = _whole(_job(kind, real, Form(True, False, formula)))

        def run(real, call, words, numbers):
            weight, smoothing, scale = numbers
            call[WEIGHT], call[SMOOTHING] = _word(weight), _word(smoothing)
            call[SCALE] = _word(scale)
            scratch = np.empty(SCRATCH + LINE, np.uint8)
            place = from_a_line_on(_address_of(scratch))
            if words[BY_ELEMENT] != 0:
                result = by_element(_address_of(call), place)
            else:
                result = by_row(_address_of(call), place)
            _hold(words, scratch, call)
            return result

        return run

    return run


_run_totals, _run_losses = _runner("totals"), _runner("losses")
_run_slopes, _run_weights = _runner("slopes"), _runner("weights")


@_jitable
def _hold(*_arrays):
    """Keep arrays, whose addresses are in use, until this is called."""


def _check_shapes(labels: Any, logits: Any, weights: Any, name: Any) -> Any: ...


@_overload(_check_shapes)
def _ol_check_shapes(labels: Any, logits: Any, weights: Any, name: Any) -> Any:
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


def _row_runner(kind: str) -> Any:
    """Return what runs a job for arrays without gaps, in one order, with one weight for all."""

    def run(real: Any, arrays: Any, weight: Any, smoothing: Any, code: Any) -> Any: ...

    @_overload(run)
    def _ol_run(real: Any, arrays: Any, weight: Any, smoothing: Any, code: Any) -> Any:
        whole = _whole(_job(kind, real, Form(False, False)))
        labels, logits, _ = arrays.types
        first = SHAPE + 1
        x, z, w, out = (first + (STRIDES + 1) * k for k in (LOGITS, LABELS, WEIGHTS, RESULT))
        x_dtype, z_dtype = as_dtype(logits.dtype), as_dtype(labels.dtype)
        x_code: Any = dtype_code(x_dtype)
        z_code: Any = dtype_code(z_dtype)
        x_size, z_size = x_dtype.itemsize, z_dtype.itemsize
        length = words_of(1)

        def run(real, arrays, weight, smoothing, code):
            labels, logits, result = arrays
            # Behind the words of the call is one for a weight that has to be an array's.
            call, words = np.zeros(WORDS + 1, np.int64), np.zeros(length, np.int64)
            words[ROWS], words[COLUMNS], words[RANK], words[SHAPE] = 1, logits.size, 1, logits.size
            words[GROUPS] = groups_of(1, logits.size)
            words[x + CODE], words[x + ITEMSIZE], words[x + STRIDES] = x_code, x_size, x_size
            words[z + CODE], words[z + ITEMSIZE], words[z + STRIDES] = z_code, z_size, z_size
            words[w + CODE], words[w + ITEMSIZE] = FLOAT64, 8
            words[out + CODE], words[out + ITEMSIZE], words[out + STRIDES] = x_code, x_size, x_size
            call[LAYOUT], call[REDUCTION] = _address_of(words), code
            call[ADDRESSES + LOGITS] = _address_of(logits)
            call[ADDRESSES + LABELS] = _address_of(labels)
            call[ADDRESSES + RESULT] = _address_of(result)
            factor = np.float64(weight)
            if not np.isfinite(factor):
                call[WORDS], factor = _word(factor), 1.0
                call[ADDRESSES + WEIGHTS] = _address_of(call) + 8 * WORDS
            call[WEIGHT], call[SMOOTHING] = _word(factor), _word(np.float64(smoothing))
            value = whole(_address_of(call), 0)
            _hold(words, call)
            return value

        return run

    return run


_total_row, _write_row = _row_runner("totals"), _row_runner("losses")


@intrinsic
def _divisor(_typing, reduction, weight, sum_of_weights, present, count):
    """Return what a reduction divides by (see ``kernels.divisor``)."""

    def codegen(_context, builder, _signature, arguments):
        return divisor(*(Lanes(builder, value) for value in arguments)).value

    return types.float64(types.int64, *[types.float64] * 4), codegen


def _evaluate(
    labels: Any, logits: Any, weights: Any, smoothing: Any, code: Any, pos_weight: Any, where: Any,
    name: Any,
) -> Any: ...  # fmt: skip


@_overload(_evaluate)
def _ol_evaluate(
    labels: Any, logits: Any, weights: Any, smoothing: Any, code: Any, pos_weight: Any, where: Any,
    name: Any,
) -> Any:  # fmt: skip
    """Return the reduced loss, or the losses for ``None`` as the code of the reduction."""
    real = logits.dtype
    computed = _computed(real)
    direct = _is_direct(labels, logits, weights) and not _given(pos_weight) and not _given(where)

    def reduce_direct(labels, logits, weights, smoothing, code, pos_weight, where, name):
        _check_shapes(labels, logits, weights, name)
        _check_smoothing(smoothing)
        if logits.size == 0:
            return real(0.0)
        return real(_total_row(real, (labels, logits, None), weights, smoothing, code))

    def reduce_any(labels, logits, weights, smoothing, code, pos_weight, where, name):
        _check_shapes(labels, logits, weights, name)
        _check_smoothing(smoothing)
        x, z, w = _as_array(logits), _as_array(labels), _as_array(weights)
        q, keep = _as_array(pos_weight), _as_array(where)
        if x.size == 0:
            return real(0.0)
        call, words, weight = _call(z, x, w, q, keep, None, None, computed)
        call[REDUCTION] = code
        value = _run_totals(real, call, words, (weight, np.float64(smoothing), 1.0))
        _hold(x, z, w, q, keep)
        return real(value)

    def write_direct(labels, logits, weights, smoothing, code, pos_weight, where, name):
        _check_shapes(labels, logits, weights, name)
        _check_smoothing(smoothing)
        out = np.empty_like(logits)
        if logits.size > 0:
            _write_row(real, (labels, logits, out), weights, smoothing, SUM)
        return out

    def write_any(labels, logits, weights, smoothing, code, pos_weight, where, name):
        _check_shapes(labels, logits, weights, name)
        _check_smoothing(smoothing)
        out = np.empty_like(logits)
        x, z, w = _as_array(logits), _as_array(labels), _as_array(weights)
        q, keep = _as_array(pos_weight), _as_array(where)
        if x.size > 0:
            call, words, weight = _call(z, x, w, q, keep, _as_array(out), None, computed)
            _run_losses(real, call, words, (weight, np.float64(smoothing), 1.0))
        _hold(x, z, w, q, keep)
        return out

    if _given(code):
        return reduce_direct if direct else reduce_any
    return write_direct if direct else write_any


@_jitable
def _denominator(real, call, words, weight, code, excluded, size):
    """Return what the reduction divides by, as does ``evaluation.denominator``."""
    if is_known(code, call[ADDRESSES + WEIGHTS] != 0, excluded):
        count = np.float64(size)
        return _divisor(code, weight, count, count, count)
    call[REDUCTION] = code
    return _run_weights(real, call, words, (weight, 0.0, 1.0))


def _differentiate(
    labels: Any, logits: Any, weights: Any, smoothing: Any, code: Any, pos_weight: Any, where: Any,
    second: Any,
) -> Any: ...  # fmt: skip


@_overload(_differentiate)
def _ol_differentiate(
    labels: Any, logits: Any, weights: Any, smoothing: Any, code: Any, pos_weight: Any, where: Any,
    second: Any,
) -> Any:  # fmt: skip
    """Return the gradient, and with it what ``second`` says: the loss, the losses or hessians."""
    real = logits.dtype
    computed = _computed(real)
    excluded = _given(where)

    def with_loss(labels, logits, weights, smoothing, code, pos_weight, where, second):
        _check_shapes(labels, logits, weights, "multi_class_labels")
        _check_smoothing(smoothing)
        gradient = np.empty_like(logits)
        x, z, w = _as_array(logits), _as_array(labels), _as_array(weights)
        q, keep = _as_array(pos_weight), _as_array(where)
        if x.size == 0:
            return gradient, real(0.0)
        call, words, weight = _call(z, x, w, q, keep, None, _as_array(gradient), computed)
        by = _denominator(real, call, words, weight, code, excluded, x.size)
        if by == 0.0:
            gradient[...] = 0
            return gradient, real(0.0)
        call[REDUCTION], call[SECOND] = SUM, second
        numbers = weight, np.float64(smoothing), weight / by
        value = _run_slopes(real, call, words, numbers)
        _hold(x, z, w, q, keep)
        return gradient, real(value / by)

    def with_elements(labels, logits, weights, smoothing, code, pos_weight, where, second):
        _check_shapes(labels, logits, weights, "multi_class_labels")
        _check_smoothing(smoothing)
        gradient, others = np.empty_like(logits), np.empty_like(logits)
        x, z, w = _as_array(logits), _as_array(labels), _as_array(weights)
        q, keep = _as_array(pos_weight), _as_array(where)
        if x.size > 0:
            results = _as_array(others), _as_array(gradient)
            call, words, weight = _call(z, x, w, q, keep, *results, computed)
            call[REDUCTION], call[SECOND] = SUM, second
            _run_slopes(real, call, words, (weight, np.float64(smoothing), weight))
        _hold(x, z, w, q, keep)
        return gradient, others

    return with_loss if _given(code) else with_elements


# ---- Along axes -----------------------------------------------------------------------------


def _count_of_axes(axis: Any, rank: int) -> int:
    """Return how many axes are reduced, which has to be known while code is made."""
    if not _given(axis):
        return rank
    if isinstance(axis, (int, types.Integer)) and not isinstance(axis, (bool, types.Boolean)):
        return 1
    items = axis.types if isinstance(axis, types.BaseTuple) else axis
    if not isinstance(items, tuple) or not all(
        isinstance(own, (int, types.Integer)) for own in items
    ):
        raise TypingError(
            f"Argument `axis` must be None, an integer or a tuple of integers, got {axis}."
        )
    return len(items)


def _flag(keepdims: Any) -> bool:
    keepdims = getattr(keepdims, "literal_value", keepdims)
    if not isinstance(keepdims, bool):
        raise TypingError(
            "Argument `keepdims` must be known when the code is compiled: True or False; got "
            f"{keepdims}."
        )
    return keepdims


def _mark(axis: Any, reduced: Any) -> Any: ...


@_overload(_mark)
def _ol_mark(axis: Any, reduced: Any) -> Any:
    """Put 1 for each axis that is reduced; refuse those that do not exist."""

    def mark_one(axis, reduced):
        rank = reduced.size
        if not -rank <= axis < rank:
            raise ValueError("Argument `axis` names an axis that does not exist.")
        if reduced[axis] != 0:
            raise ValueError("Argument `axis` must name no axis twice.")
        reduced[axis] = 1

    def mark_each(axis, reduced):
        for own in literal_unroll(axis):
            _mark(own, reduced)

    def mark_none(axis, reduced):
        pass

    def mark_all(axis, reduced):
        reduced[:] = 1

    if not _given(axis):
        return mark_all
    if not isinstance(axis, (types.BaseTuple, tuple)):
        return mark_one
    return mark_each if _count_of_axes(axis, 0) else mark_none


def _run_along(real: Any, call: Any, words: Any, numbers: Any, options: Any) -> Any: ...


@_overload(_run_along)
def _ol_run_along(real: Any, call: Any, words: Any, numbers: Any, options: Any) -> Any:
    """Run the loop that the plan is for; ``options`` is whether it is along, and the plan's place.

    Code that takes weights by element is made only where there may be such.
    """
    row_along, row_across = (
        _whole(_job(kind, real, Form(kind == "along", False))) for kind in ("along", "across")
    )
    each_along, each_across = (
        _whole(_job(kind, real, Form(kind == "along", True))) for kind in ("along", "across")
    )

    def run(real, call, words, numbers, options):
        along, plan = options
        call[WEIGHT], call[SMOOTHING] = _word(numbers[0]), _word(numbers[1])
        sums = np.empty(FIELDS * words[plan + PITCH] * words[plan + RANGES], np.float64)
        call[LOST_TO], call[SECOND] = _address_of(sums), QUOTIENT
        scratch = np.empty(SCRATCH + LINE, np.uint8)
        place = from_a_line_on(_address_of(scratch))
        if words[BY_ELEMENT] != 0:
            if along:
                each_along(_address_of(call), place)
            else:
                each_across(_address_of(call), place)
        elif along:
            row_along(_address_of(call), place)
        else:
            row_across(_address_of(call), place)
        _hold(sums, scratch, words, call)

    return run


def _evaluate_along(
    labels: Any, logits: Any, weights: Any, smoothing: Any, code: Any, pos_weight: Any, where: Any,
    axis: Any, keepdims: Any, name: Any,
) -> Any: ...  # fmt: skip


@_overload(_evaluate_along)
def _ol_evaluate_along(
    labels: Any, logits: Any, weights: Any, smoothing: Any, code: Any, pos_weight: Any, where: Any,
    axis: Any, keepdims: Any, name: Any,
) -> Any:  # fmt: skip
    """Return the losses along axes."""
    real, keep = logits.dtype, _flag(keepdims)
    left = max(logits.ndim - _count_of_axes(axis, logits.ndim), 0)
    ones = (1,) * (logits.ndim if keep else left)
    if not _given(code):
        raise TypingError("Argument `axis` needs a reduction, got `Reduction.NONE`.")

    def scalar(
        labels, logits, weights, smoothing, code, pos_weight, where, axis, keepdims, name
    ):  # fmt: skip
        _mark(axis, np.zeros(logits.ndim, np.int64))
        return _evaluate(labels, logits, weights, smoothing, code, pos_weight, where, name)

    def several(
        labels, logits, weights, smoothing, code, pos_weight, where, axis, keepdims, name
    ):  # fmt: skip
        _check_shapes(labels, logits, weights, name)
        _check_smoothing(smoothing)
        reduced = np.zeros(logits.ndim, np.int64)
        _mark(axis, reduced)
        shape, place = ones, 0
        for k in range(logits.ndim):
            if reduced[k] == 0:
                shape = tuple_setitem(shape, place, logits.shape[k])
            if reduced[k] == 0 or keep:
                place += 1
        result = np.zeros(shape, real)
        if logits.size == 0:
            return result
        z, w = _as_array(labels), _as_array(weights)
        q, excluded = _as_array(pos_weight), _as_array(where)
        call, table, weight = _entered(z, logits, w, q, excluded, None, None)
        # The results have the shape of the logits, without a step along what is reduced.
        table[RESULT, CODE], table[RESULT, ITEMSIZE] = table[LOGITS, CODE], result.itemsize
        table[RESULT, PLAIN], step = 1, result.itemsize
        for k in range(logits.ndim - 1, -1, -1):
            if reduced[k] == 0 and logits.shape[k] != 1:
                table[RESULT, STRIDES + k] = step
                step *= logits.shape[k]
        call[ADDRESSES + RESULT], call[REDUCTION] = _address_of(result), code
        words = np.zeros(axis_words(logits.ndim), np.int64)
        axes = np.zeros(logits.ndim + 2, np.int64)
        by_element = not np.isfinite(w).all()
        others = 1 - reduced, np.zeros_like(reduced)
        along = flatten_axes(logits.shape, table, reduced, *others, by_element, words, axes)
        call[LAYOUT] = _address_of(words)
        plan = SHAPE + words[RANK] + OPERANDS * (STRIDES + words[RANK])
        numbers = weight, np.float64(smoothing)
        _run_along(real, call, words, numbers, (along, plan))
        _hold(logits, z, w, q, excluded)
        return result

    return several if left or keep else scalar


# ---- The public functions -------------------------------------------------------------------


@_overload(nn.sigmoid_cross_entropy_with_logits, forceinline=True)
def _ol_sigmoid_cross_entropy_with_logits(
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
def _ol_weighted_cross_entropy_with_logits(
    labels: Any, logits: Any, pos_weight: Any, name: Any = None, out: Any = None
) -> Any:
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
def _ol_sigmoid_cross_entropy_gradient(labels: Any, logits: Any) -> Any:
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
def _ol_sigmoid_cross_entropy(
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
    axis: Any = None,
    keepdims: Any = False,
) -> Any:
    _refuse(scope, "scope")
    _refuse(loss_collection, "loss_collection", GraphKeys.LOSSES)
    _refuse(out, "out")
    _check_arrays(multi_class_labels, logits, weights, label_smoothing, pos_weight, where)
    code = _reduction(reduction)

    def of_arrays(
        multi_class_labels, logits, weights=1.0, label_smoothing=0, scope=None,
        loss_collection=None, reduction=None, pos_weight=None, where=None, out=None, axis=None,
        keepdims=False,
    ):  # fmt: skip
        return _evaluate(
            multi_class_labels, logits, weights, label_smoothing, code, pos_weight, where,
            "multi_class_labels",
        )  # fmt: skip

    def along(
        multi_class_labels, logits, weights=1.0, label_smoothing=0, scope=None,
        loss_collection=None, reduction=None, pos_weight=None, where=None, out=None, axis=None,
        keepdims=False,
    ):  # fmt: skip
        return _evaluate_along(
            multi_class_labels, logits, weights, label_smoothing, code, pos_weight, where, axis,
            keepdims, "multi_class_labels",
        )  # fmt: skip

    return along if _given(axis) or _flag(keepdims) else of_arrays


@_overload(losses.sigmoid_cross_entropy_value_and_grad)
def _ol_sigmoid_cross_entropy_value_and_grad(
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
def _ol_sigmoid_cross_entropy_gradient_hessian(
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
def _ol_compute_weighted_loss(
    losses: Any,
    weights: Any = 1.0,
    scope: Any = None,
    loss_collection: Any = GraphKeys.LOSSES,
    reduction: Any = Reduction.SUM_BY_NONZERO_WEIGHTS,
    axis: Any = None,
    keepdims: Any = False,
) -> Any:
    _refuse(scope, "scope")
    _refuse(loss_collection, "loss_collection", GraphKeys.LOSSES)
    if not isinstance(losses, types.Array):
        raise TypingError(f"Argument `losses` must be an array, got {losses}.")
    _check_kind(losses, "losses", logits=True)
    _check_weights(weights)
    code = _reduction(reduction)

    def of_arrays(
        losses, weights=1.0, scope=None, loss_collection=None, reduction=None, axis=None,
        keepdims=False,
    ):  # fmt: skip
        return _evaluate(None, losses, weights, 0.0, code, None, None, "losses")

    def along(
        losses, weights=1.0, scope=None, loss_collection=None, reduction=None, axis=None,
        keepdims=False,
    ):  # fmt: skip
        return _evaluate_along(
            None, losses, weights, 0.0, code, None, None, axis, keepdims, "losses"
        )

    return along if _given(axis) or _flag(keepdims) else of_arrays
