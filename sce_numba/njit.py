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
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from llvmlite.binding import add_symbol
from numba import TypingError, types
from numba.extending import (
    infer_getattr,
    intrinsic,
    lower_getattr_generic,
    register_jitable,
    typeof_impl,
)

from . import losses, nn
from .arguments import dtype_code
from .kernels import elements
from .kernels.cache import sources
from .kernels.compile import kernel
from .kernels.divisor import SUM, check
from .kernels.dtypes import FLOAT32, FLOAT64, MISSING
from .kernels.frame import (
    ARRAYS,
    AXES,
    CALLED,
    CHOSEN,
    COMPUTED,
    COUNT,
    ENTRIES,
    GIVEN,
    KEEPDIMS,
    KERNEL_COUNT,
    KERNELS,
    LENGTHS,
    MISFIT,
    NAMED,
    NDIM,
    PARAMETERS,
    ROOM,
    ROW,
    TWICE,
    VALUE,
    frame_words,
)
from .kernels.gradient import HESSIAN, LOSSES, TOTAL
from .kernels.jobs import Job, type_of_function
from .kernels.lanes import Lanes, rounded
from .kernels.memory import get, on_stack, pointer, put
from .kernels.numba_internals import (
    AttributeTemplate,
    as_dtype,
    get_or_insert_function,
    keep_with_code,
)
from .kernels.operand import LINE
from .kernels.softplus import exp_minus_abs_and_rest
from .kernels.tiles import SCRATCH, Form, from_a_line_on
from .kernels.view import (
    ADDRESSES,
    CODE,
    LABELS,
    LOGITS,
    LOST_TO,
    OPERANDS,
    POS_WEIGHT,
    REDUCTION,
    RESULT,
    SCRATCH_AT,
    SECOND,
    SMOOTHING,
    WEIGHT,
    WEIGHTS,
    WHERE,
)
from .njit_calls import compiled, is_given, public
from .reduction import CODES, Reduction

# ---- What is accepted -----------------------------------------------------------------------


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, types.Integer, types.Float, types.Boolean))


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


def _are_numbers(call: Any) -> bool:
    """Tell whether labels and logits are numbers, not arrays; refuse what can't be given."""
    labels, logits, name = call.labels, call.logits, call.labels_name
    for value, own in ((labels, name), (logits, "logits")):
        if not is_given(value):
            raise TypingError(f"Argument `{own}` must not be None.")
    _check_kind(labels, name)
    _check_kind(logits, "logits", logits=True)
    numbers = not isinstance(logits, types.Array)
    if numbers == isinstance(labels, types.Array):
        raise TypingError(
            f"Arguments `{name}` and `logits` must both be numbers or both be arrays, got "
            f"{labels} and {logits}."
        )
    _check_weights(call.weights)
    if not _is_number(call.label_smoothing):
        raise TypingError(
            f"Argument `label_smoothing` must be a number from 0 to 1, got {call.label_smoothing}."
        )
    if is_given(call.pos_weight):
        _check_kind(call.pos_weight, "pos_weight")
        if numbers and not _is_number(call.pos_weight):
            raise TypingError("Argument `pos_weight` must be a number beside numbers.")
    if is_given(call.where):
        where = types.unliteral(call.where)
        if getattr(where, "dtype", where) != types.boolean:
            raise TypingError(f"Argument `where` must be bool, got {where}.")
    return numbers


def _check_arrays(call: Any) -> None:
    """Refuse what can't be given, and numbers in the place of arrays."""
    if _are_numbers(call):
        raise TypingError(
            "Argument `logits` must be an array; use `sigmoid_cross_entropy_with_logits` or "
            "`sigmoid_cross_entropy_gradient` for numbers."
        )


def _check_weights(weights: Any) -> None:
    if not is_given(weights):
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


@cache
def _of_numbers(formula: Callable[..., Any]) -> Any:
    """Make a formula over lanes a function of numbers: labels, logits, and weight of positives.

    It returns one number or a tuple of them, in the dtype of the logits.
    """

    @intrinsic
    def compute(_typing, label, logit, pos_weight):
        real = types.unliteral(logit)
        dtype = np.float32 if real == types.float32 else np.float64
        has_q = is_given(pos_weight)
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

    def of_numbers(labels, logits, pos_weight):
        return compute(labels, logits, pos_weight)

    return compiled(of_numbers, forceinline=True)


def _both(element: Any, t: Any, d: Any) -> tuple[Any, Any]:
    return elements.gradient(element, t, d), elements.hessian(element, t, d)


# ---- Arrays ---------------------------------------------------------------------------------


class _Link:
    """Makes a kernel, or an entry, known to LLVM by the name that compiled code calls it by.

    The code that a user caches is pickled with it: whoever loads that code has the kernel first.
    """

    def __init__(self, job: Job | str) -> None:
        self.job = job
        if isinstance(job, str):
            self.name, place = f"sce_numba.{job}", ENTRIES[job].address
        else:
            dtype: Any = job.dtype
            self.name, place = job.symbols[0], kernel(job.kind, dtype, job.form).whole
        add_symbol(self.name, place)

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


_WORD, _POINTER = ir.IntType(64), ir.IntType(8).as_pointer()


def _linked(context: Any, builder: Any, job: Job | str, kind: ir.FunctionType) -> ir.Function:
    """Return a kernel, or an entry, as a function that is called by its name."""
    link = _Link(job)
    keep_with_code(context, builder, link)
    return get_or_insert_function(builder.module, kind, link.name)


def _in_tuple(kind: Any) -> tuple[Any, ...]:
    """Return the types of numbers in a tuple, or of one; of None there are none."""
    if not is_given(kind):
        return ()
    return tuple(map(types.unliteral, kind.types if isinstance(kind, types.BaseTuple) else [kind]))


class _Frame:
    """The code that writes a frame (see ``kernels.frame``), given what a function is called with.

    These are the arrays or numbers in the order of their rows, then label smoothing, the parameters
    of the formula, the axes, and scratch memory.
    """

    def __init__(self, context: Any, builder: Any, kinds: Any, values: Any) -> None:
        self.context, self.builder, self.kinds, self.values = context, builder, kinds, values
        self.address = on_stack(self.whole(0), 8 * frame_words(kinds[LOGITS].ndim))
        for word in (SECOND, LOST_TO):
            self.put(word, 0)
        for row in range(OPERANDS):
            self.enter(row)
        self.put(SMOOTHING, self.number(OPERANDS, types.float64))
        self.enter_numbers(PARAMETERS, GIVEN, OPERANDS + 1, types.float64)
        self.enter_numbers(AXES, NAMED, OPERANDS + 2, types.int64)
        if is_given(kinds[OPERANDS + 3]):
            data: Any = Lanes(builder, builder.ptrtoint(self.array(OPERANDS + 3).data, _WORD))
            self.put(SCRATCH_AT, from_a_line_on(data))

    def whole(self, number: int) -> Lanes:
        return Lanes(self.builder, ir.Constant(_WORD, number))

    def put(self, word: int, value: Any) -> None:
        if isinstance(value, ir.Value):
            value = Lanes(self.builder, self.builder.ptrtoint(value, _WORD))
        put(self.address, word, value if isinstance(value, Lanes) else self.whole(value))

    def number(self, k: int, kind: Any) -> Lanes:
        """Return a number that was given, as one of another type."""
        own = types.unliteral(self.kinds[k])
        return Lanes(self.builder, self.context.cast(self.builder, self.values[k], own, kind))

    def enter_numbers(self, count: int, place: int, k: int, to: Any) -> None:
        """Write how many numbers were given, in a tuple or as one, and where they are; -1 if none.

        They become those of another type.
        """
        kind, value, builder = self.kinds[k], self.values[k], self.builder
        numbers, several = _in_tuple(kind), isinstance(kind, types.BaseTuple)
        memory = on_stack(self.address, 8 * max(len(numbers), 1))
        for index, each in enumerate(numbers):
            own = builder.extract_value(value, index) if several else value
            put(memory, index, Lanes(builder, self.context.cast(builder, own, each, to)))
        self.put(count, len(numbers) if is_given(kind) else -1)
        self.put(place, memory)

    def array(self, k: int) -> Any:
        return self.context.make_array(self.kinds[k])(self.context, self.builder, self.values[k])

    def enter(self, row: int) -> None:
        """Write what is told of an array, or of a number as one without axes."""
        kind, place = types.unliteral(self.kinds[row]), ARRAYS + ROW * row
        if row == WEIGHTS:
            self.put(WEIGHT, Lanes(self.builder, ir.Constant(ir.DoubleType(), np.inf)))
        if not is_given(kind):
            self.put(ADDRESSES + row, 0)
            for word, number in ((CODE, MISSING), (NDIM, 0), (LENGTHS, 0)):
                self.put(place + word, number)
            return
        is_array = isinstance(kind, types.Array)
        item = kind.dtype if is_array else kind
        dtype = as_dtype(item)
        described = [dtype_code(dtype), dtype.itemsize, int(not is_array or kind.aligned)]
        lengths: list[ir.Value] = []
        if is_array:
            array = self.array(row)
            data, ones = array.data, array.nitems
            for part in (array.shape, array.strides):
                lengths += [self.builder.extract_value(part, k) for k in range(kind.ndim)]
        else:
            stored = on_stack(self.address, 8)
            data = pointer(stored, self.context.get_data_type(item))
            self.context.pack_value(self.builder, item, self.number(row, item).value, data)
            ones = ir.Constant(_WORD, 1)
        memory = on_stack(self.address, 8 * max(len(lengths), 1))
        for k, length in enumerate(lengths):
            put(memory, k, Lanes(self.builder, length))
        for word, number in enumerate((*described, len(lengths) // 2, memory)):
            self.put(place + word, number)
        self.put(ADDRESSES + row, data)
        if row == WEIGHTS:
            # One weight for all elements.
            with self.builder.if_then(self.builder.icmp_signed("==", ones, ir.Constant(_WORD, 1))):
                found = self.context.unpack_value(self.builder, item, data, align=1)
                found = self.context.cast(self.builder, found, item, types.float64)
                self.put(WEIGHT, Lanes(self.builder, found))

    def call(self, entry: str, jobs: Sequence[Job], words: dict[int, int]) -> None:
        """Call an entry, given kernels and other words."""
        for word, number in words.items():
            self.put(word, number)
        for k in range(KERNEL_COUNT):
            job = jobs[k] if k < len(jobs) else None
            found = job and _linked(self.context, self.builder, job, type_of_function("whole"))
            self.put(KERNELS + k, found or 0)
        kind = ir.FunctionType(ir.IntType(32), [_POINTER, _POINTER, _WORD])
        # Neither a result nor an exception is put anywhere.
        nowhere = pointer(on_stack(self.address, 8), ir.IntType(8))
        function = _linked(self.context, self.builder, entry, kind)
        self.builder.call(function, [nowhere, nowhere, self.address.value])

    def value(self, word: int) -> ir.Value:
        """Return what stands in the frame."""
        return get(self.address, word, np.float64 if word == VALUE else np.int64).value


def _jobs(kind: str, real: Any, *forms: Form) -> tuple[Job, ...]:
    return tuple(Job(kind, np.float32 if real == types.float32 else np.float64, f) for f in forms)


@cache
def _entry(entry: str, jobs: tuple[Job, ...], rank: int, *words: tuple[int, int]) -> Any:
    """Return what calls an entry in compiled code; see ``_Frame``.

    It returns the address of the frame, what doesn't fit, the value, how many numbers are needed as
    memory, and the shape of results along axes, of a rank.
    """

    @intrinsic
    def call(
        _typing, logits, labels, weights, where, pos_weight, result, gradient, smoothing,
        parameters, axis, scratch,
    ):  # fmt: skip
        def codegen(context, builder, signature, arguments):
            frame = _Frame(context, builder, signature.args, arguments)
            frame.call(entry, jobs, dict(words))
            lengths = [frame.value(ROOM + k) for k in range(rank)]
            shape = context.make_tuple(builder, signature.return_type[4], lengths)
            found = [frame.address.value, *map(frame.value, (MISFIT, VALUE, COUNT)), shape]
            return context.make_tuple(builder, signature.return_type, found)

        word, shape = types.int64, types.UniTuple(types.int64, rank) if rank else types.Tuple(())
        returned = types.Tuple((word, word, types.float64, word, shape))
        operands = logits, labels, weights, where, pos_weight, result, gradient
        return returned(*operands, smoothing, parameters, axis, scratch), codegen

    return call


@register_jitable(**CALLED)
def _scratch():
    return np.empty(SCRATCH + LINE, np.uint8)


@register_jitable(**CALLED)
def _no_scratch():
    return None


@cache
def _refusal(name: str) -> Any:
    """Return what raises an exception for what doesn't fit (see ``kernels.frame``)."""
    labels = f"Arguments `{name}` and `logits` must have the same shape. Labels are not broadcast."
    weights = (
        "weights can not be broadcast to values. Weights must be a scalar, or have as many "
        "dimensions as the values, each 1 or equal."
    )

    def refuse(misfit):
        if misfit == LABELS:
            raise ValueError(labels)
        if misfit == WEIGHTS:
            raise ValueError(weights)
        if misfit == SMOOTHING:
            raise ValueError("Argument `label_smoothing` must be a number from 0 to 1.")
        if misfit == AXES:
            raise ValueError("Argument `axis` names an axis that does not exist.")
        if misfit == TWICE:
            raise ValueError("Argument `axis` must name no axis twice.")
        if misfit == POS_WEIGHT:
            raise ValueError(
                "Argument `pos_weight` can not be broadcast to the shape of the logits."
            )
        if misfit == WHERE:
            raise ValueError("Argument `where` can not be broadcast to the shape of the logits.")

    return compiled(refuse)


def _is_direct(labels: Any, logits: Any, *others: Any) -> bool:
    """Tell whether arrays are known to be contiguous, in one order, with one weight for all."""
    return (
        isinstance(labels, types.Array)
        and labels.ndim == logits.ndim
        and logits.layout == labels.layout
        and logits.layout in "CF"
        and logits.aligned
        and labels.aligned
        and all(not is_given(other) or _is_number(other) for other in others)
    )


@cache
def _evaluate(real: Any, code: int | None, direct: bool, formula: Any, name: str) -> Any:
    """Return code of the reduced loss, or of the losses for None as the code of the reduction."""
    forms = [Form(not direct, each, formula) for each in ([False] if direct else [False, True])]
    jobs = _jobs("losses" if code is None else "totals", real, *forms)
    words = {COMPUTED: _computed(real), REDUCTION: SUM if code is None else code}
    run = _entry("evaluate_row" if direct else "evaluate", jobs, 0, *words.items())
    scratch, refuse = _no_scratch if direct else _scratch, _refusal(name)

    def reduce(labels, logits, weights, label_smoothing, pos_weight, where, parameters, axis=None):
        found = run(
            logits, labels, weights, where, pos_weight, None, None, label_smoothing, parameters,
            axis, scratch(),
        )  # fmt: skip
        refuse(found[1])
        return real(found[2])

    def write(labels, logits, weights, label_smoothing, pos_weight, where, parameters):
        losses = np.empty_like(logits)
        found = run(
            logits, labels, weights, where, pos_weight, losses, None, label_smoothing, parameters,
            None, scratch(),
        )  # fmt: skip
        refuse(found[1])
        return losses

    return compiled(write if code is None else reduce)


def _loss(call: Any, formula: elements.Formula = elements.SIGMOID) -> Any:
    """Return code of the loss, the losses, or the losses along axes."""
    real, code, name = call.logits.dtype, _reduction(call.reduction), call.labels_name
    keep, rank = _flag(call.keepdims), call.logits.ndim
    if is_given(call.axis) or keep:
        left = rank if keep else max(rank - _count_of_axes(call.axis, rank), 0)
        if code is None:
            raise TypingError("Argument `axis` needs a reduction, got `Reduction.NONE`.")
        if left or keep:
            return _evaluate_along(real, code, left, keep, name)
    others = is_given(call.pos_weight), is_given(call.where), formula.usual
    direct = _is_direct(call.labels, call.logits, call.weights) and not any(others)
    return _evaluate(real, code, direct, formula, name)


@cache
def _differentiate(real: Any, code: int | None, second: int, formula: Any, name: str) -> Any:
    """Return code of the gradient, after the loss or the losses, or before the hessians."""
    jobs = _jobs("slopes", real, *(Form(True, each, formula) for each in (False, True)))
    if code is not None:
        jobs += _jobs("weights", real, *(Form(True, each) for each in (False, True)))
    words = {COMPUTED: _computed(real), REDUCTION: SUM if code is None else code, SECOND: second}
    run, refuse = _entry("evaluate", jobs, 0, *words.items()), _refusal(name)

    def with_loss(labels, logits, weights, label_smoothing, pos_weight, where, parameters):
        gradient = np.empty_like(logits)
        found = run(
            logits, labels, weights, where, pos_weight, None, gradient, label_smoothing, parameters,
            None, _scratch(),
        )  # fmt: skip
        refuse(found[1])
        return real(found[2]), gradient

    def with_elements(labels, logits, weights, label_smoothing, pos_weight, where, parameters):
        gradient, others = np.empty_like(logits), np.empty_like(logits)
        found = run(
            logits, labels, weights, where, pos_weight, others, gradient, label_smoothing,
            parameters, None, _scratch(),
        )  # fmt: skip
        refuse(found[1])
        return (gradient, others) if second == HESSIAN else (others, gradient)

    return compiled(with_elements if code is None else with_loss)


def _loss_and_gradient(call: Any, formula: elements.Formula = elements.SIGMOID) -> Any:
    code = _reduction(call.reduction)
    second = LOSSES if code is None else TOTAL
    return _differentiate(call.logits.dtype, code, second, formula, call.labels_name)


def _gradient_and_hessian(call: Any) -> Any:
    return _differentiate(call.logits.dtype, None, HESSIAN, elements.SIGMOID, call.labels_name)


@cache
def _gradient_alone(both: Any) -> Any:
    def first(labels, logits):
        return both(labels, logits, 1.0, 0.0, None, None, None)[0]

    return compiled(first)


@cache
def _gradient_in_c_order() -> Any:
    """Return a loop: without a second result there is nothing that kernels could do better."""
    of_numbers, refuse = _of_numbers(elements.gradient), _refusal("labels")

    def loop(labels, logits):
        if labels.shape != logits.shape:
            refuse(LABELS)
        gradient = np.empty_like(logits)
        x, z, result = logits.reshape(-1), labels.reshape(-1), gradient.reshape(-1)
        for i in range(x.size):
            result[i] = of_numbers(z[i], x[i], None)
        return gradient

    return compiled(loop, forceinline=True)


# ---- Along axes -----------------------------------------------------------------------------


def _count_of_axes(axis: Any, rank: int) -> int:
    """Return how many axes are reduced, which has to be known while code is made."""
    if not is_given(axis):
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


@intrinsic
def _finish(_typing, frame, result, sums, scratch, labels, logits, weights, pos_weight, where):
    """Run the kernel that was chosen for a frame; until then its arrays are kept by being named."""

    def codegen(context, builder, signature, arguments):
        address: Any = Lanes(builder, arguments[0])
        places: list[Any] = []
        for kind, value in zip(signature.args[1:4], arguments[1:4], strict=True):
            data = context.make_array(kind)(context, builder, value).data
            places.append(Lanes(builder, builder.ptrtoint(data, _WORD)))
        put(address, ADDRESSES + RESULT, places[0])
        put(address, LOST_TO, places[1])
        put(address, SCRATCH_AT, from_a_line_on(places[2]))
        kind = type_of_function("whole")
        builder.call(pointer(get(address, CHOSEN), kind), [address.value])
        return context.get_dummy_value()

    operands = labels, logits, weights, pos_weight, where
    return types.void(frame, result, sums, scratch, *operands), codegen


@cache
def _evaluate_along(real: Any, code: int, left: int, keep: bool, name: str) -> Any:
    """Return code of the losses along axes, an array whose rank is ``left``."""
    jobs: tuple[Job, ...] = ()
    for kind in ("along", "across"):
        jobs += _jobs(kind, real, *(Form(kind == "along", each) for each in (False, True)))
    words = {COMPUTED: _computed(real), REDUCTION: code, KEEPDIMS: int(keep)}
    prepare, refuse = _entry("prepare", jobs, left, *words.items()), _refusal(name)

    def along(labels, logits, weights, label_smoothing, pos_weight, where, axis):
        frame, misfit, _, count, shape = prepare(
            logits, labels, weights, where, pos_weight, None, None, label_smoothing, None, axis,
            None,
        )  # fmt: skip
        refuse(misfit)
        result = np.zeros(shape, real)
        if logits.size > 0:
            sums, scratch = np.empty(count, np.float64), _scratch()
            _finish(frame, result, sums, scratch, labels, logits, weights, pos_weight, where)
        return result

    return compiled(along)


# ---- The public functions -------------------------------------------------------------------


@public(nn.sigmoid_cross_entropy_with_logits, "name")
def _sigmoid_cross_entropy_with_logits(call):
    if is_given(call._sentinel):
        raise TypingError(
            "Only call `sigmoid_cross_entropy_with_logits` with named arguments: "
            "(labels=..., logits=..., ...)."
        )
    return _of_numbers(elements.loss) if _are_numbers(call) else _loss(call)


@public(nn.weighted_cross_entropy_with_logits, "name")
def _weighted_cross_entropy_with_logits(call):
    if not is_given(call.pos_weight):
        raise TypingError("Argument `pos_weight` must not be None.")
    return _of_numbers(elements.loss) if _are_numbers(call) else _loss(call)


@public(losses.sigmoid_cross_entropy_gradient)
def _sigmoid_cross_entropy_gradient(call):
    if _are_numbers(call):
        return _of_numbers(elements.gradient)
    in_c_order = _is_direct(call.labels, call.logits) and call.logits.layout == "C"
    return _gradient_in_c_order() if in_c_order else _gradient_alone(_gradient_and_hessian(call))


@public(losses.sigmoid_cross_entropy, "reduction", "keepdims")
def _sigmoid_cross_entropy(call):
    _check_arrays(call)
    return _loss(call)


@public(losses.sigmoid_cross_entropy_value_and_grad, "reduction")
def _sigmoid_cross_entropy_value_and_grad(call):
    _check_arrays(call)
    return _loss_and_gradient(call)


@public(losses.sigmoid_cross_entropy_gradient_hessian)
def _sigmoid_cross_entropy_gradient_hessian(call):
    return _of_numbers(_both) if _are_numbers(call) else _gradient_and_hessian(call)


@public(losses.compute_weighted_loss, "reduction", "keepdims")
def _compute_weighted_loss(call):
    if not isinstance(call.logits, types.Array):
        raise TypingError(f"Argument `losses` must be an array, got {call.logits}.")
    _check_kind(call.logits, "losses", logits=True)
    _check_weights(call.weights)
    return _loss(call)
