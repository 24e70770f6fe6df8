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
    overload,
    typeof_impl,
)

from . import losses, nn
from .arguments import dtype_code
from .kernels import elements
from .kernels.cache import sources
from .kernels.compile import kernel
from .kernels.divisor import SUM, check
from .kernels.dtypes import FLOAT32, FLOAT64, MISSING
from .kernels.focal import FOCAL
from .kernels.frame import (
    ALPHA,
    ARRAYS,
    AXES,
    CALLED,
    CHOSEN,
    COMPUTED,
    COUNT,
    ENTRIES,
    GAMMA,
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
    SCRATCH_AT,
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
    SECOND,
    SMOOTHING,
    WEIGHT,
    WEIGHTS,
    WHERE,
)
from .loss_collections import GraphKeys
from .reduction import CODES, Reduction

# ---- What is accepted -----------------------------------------------------------------------


def _overload(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    decorate = overload(function, jit_options=CALLED | options, strict=False, prefer_literal=True)
    return decorate


def _given(value: Any) -> bool:
    return not (value is None or isinstance(value, types.NoneType))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, types.Integer, types.Float, types.Boolean))


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


class _Frame:
    """The code that writes a frame (see ``kernels.frame``), given what a function is called with.

    These are the arrays or numbers in the order of their rows, then label smoothing, alpha, gamma,
    the axes, and scratch memory.
    """

    def __init__(self, context: Any, builder: Any, kinds: Any, values: Any) -> None:
        self.context, self.builder, self.kinds, self.values = context, builder, kinds, values
        self.address = on_stack(self.whole(0), 8 * frame_words(kinds[LOGITS].ndim))
        for word in (SECOND, LOST_TO):
            self.put(word, 0)
        for row in range(OPERANDS):
            self.enter(row)
        alpha, gamma, axis, scratch = kinds[OPERANDS + 1 :]
        self.put(SMOOTHING, self.number(OPERANDS, types.float64))
        self.put(PARAMETERS, 0 if not _given(gamma) else 2 if _given(alpha) else 1)
        for word, kind, k in ((ALPHA, alpha, 1), (GAMMA, gamma, 2)):
            if _given(kind):
                self.put(word, self.number(OPERANDS + k, types.float64))
        axes = _axes_of(axis)
        named = on_stack(self.address, 8 * max(len(axes), 1))
        for k, kind in enumerate(axes):
            value = values[OPERANDS + 3]
            own = builder.extract_value(value, k) if isinstance(axis, types.BaseTuple) else value
            put(named, k, Lanes(builder, context.cast(builder, own, kind, types.int64)))
        self.put(AXES, len(axes) if _given(axis) else -1)
        self.put(NAMED, named)
        self.put(SCRATCH_AT, self.array(OPERANDS + 4).data if _given(scratch) else 0)

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

    def array(self, k: int) -> Any:
        return self.context.make_array(self.kinds[k])(self.context, self.builder, self.values[k])

    def enter(self, row: int) -> None:
        """Write what is told of an array, or of a number as one without axes."""
        kind, place = types.unliteral(self.kinds[row]), ARRAYS + ROW * row
        if row == WEIGHTS:
            self.put(WEIGHT, Lanes(self.builder, ir.Constant(ir.DoubleType(), np.inf)))
        if not _given(kind):
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
            found = job and _linked(self.context, self.builder, job, type_of_function(job, "whole"))
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
        _typing, logits, labels, weights, where, pos_weight, result, gradient, smoothing, alpha,
        gamma, axis, scratch,
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
        return returned(*operands, smoothing, alpha, gamma, axis, scratch), codegen

    return call


def _scratch(size: Any) -> Any: ...


@_overload(_scratch)
def _ol_scratch(size: Any) -> Any:
    """Return scratch memory, or None."""
    return (lambda size: np.empty(size, np.uint8)) if size.literal_value else lambda size: None


def _refuse_misfit(misfit: Any, name: Any) -> Any: ...


@_overload(_refuse_misfit)
def _ol_refuse_misfit(misfit: Any, name: Any) -> Any:
    """Raise an exception for what doesn't fit (see ``kernels.frame``)."""
    labels = (
        f"Arguments `{name.literal_value}` and `logits` must have the same shape. Labels are not "
        "broadcast."
    )
    weights = (
        "weights can not be broadcast to values. Weights must be a scalar, or have as many "
        "dimensions as the values, each 1 or equal."
    )

    def refuse(misfit, name):
        if misfit == LABELS:
            raise ValueError(labels)
        if misfit == WEIGHTS:
            raise ValueError(weights)
        if misfit == SMOOTHING:
            raise ValueError("Argument `label_smoothing` must be a number from 0 to 1.")
        if misfit == ALPHA:
            raise ValueError("Argument `alpha` must be a number from 0 to 1, or None.")
        if misfit == GAMMA:
            raise ValueError("Argument `gamma` must be a number of at least 0, and finite.")
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

    return refuse


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


def _formula(gamma: Any) -> elements.Formula:
    return FOCAL if _given(gamma) else elements.SIGMOID


def _evaluate(
    labels: Any, logits: Any, weights: Any, smoothing: Any, code: Any, pos_weight: Any, where: Any,
    alpha: Any, gamma: Any, axis: Any, name: Any,
) -> Any: ...  # fmt: skip


@_overload(_evaluate)
def _ol_evaluate(
    labels: Any, logits: Any, weights: Any, smoothing: Any, code: Any, pos_weight: Any, where: Any,
    alpha: Any, gamma: Any, axis: Any, name: Any,
) -> Any:  # fmt: skip
    """Return the reduced loss, or the losses for ``None`` as the code of the reduction."""
    real, formula = logits.dtype, _formula(gamma)
    direct = _is_direct(labels, logits, weights)
    direct = direct and not (_given(pos_weight) or _given(where) or _given(gamma))
    forms = [Form(False, False)] if direct else [Form(True, e, formula) for e in (False, True)]
    size = 0 if direct else SCRATCH + LINE
    jobs = _jobs("totals" if _given(code) else "losses", real, *forms)
    reduction = code.literal_value if _given(code) else SUM
    words = {COMPUTED: _computed(real), REDUCTION: reduction}
    run = _entry("evaluate_row" if direct else "evaluate", jobs, 0, *words.items())

    def reduce(
        labels, logits, weights, smoothing, code, pos_weight, where, alpha, gamma, axis, name
    ):  # fmt: skip
        found = run(
            logits, labels, weights, where, pos_weight, None, None, smoothing, alpha, gamma, axis,
            _scratch(size),
        )  # fmt: skip
        _refuse_misfit(found[1], name)
        return real(found[2])

    def write(
        labels, logits, weights, smoothing, code, pos_weight, where, alpha, gamma, axis, name
    ):  # fmt: skip
        losses = np.empty_like(logits)
        found = run(
            logits, labels, weights, where, pos_weight, losses, None, smoothing, alpha, gamma,
            axis, _scratch(size),
        )  # fmt: skip
        _refuse_misfit(found[1], name)
        return losses

    return reduce if _given(code) else write


def _differentiate(
    labels: Any, logits: Any, weights: Any, smoothing: Any, code: Any, pos_weight: Any, where: Any,
    alpha: Any, gamma: Any, second: Any, name: Any,
) -> Any: ...  # fmt: skip


@_overload(_differentiate)
def _ol_differentiate(
    labels: Any, logits: Any, weights: Any, smoothing: Any, code: Any, pos_weight: Any, where: Any,
    alpha: Any, gamma: Any, second: Any, name: Any,
) -> Any:  # fmt: skip
    """Return the gradient, and with it what ``second`` says: the loss, the losses or hessians."""
    real, size = logits.dtype, SCRATCH + LINE
    jobs = _jobs("slopes", real, *(Form(True, each, _formula(gamma)) for each in (False, True)))
    reduction = SUM
    if _given(code):
        jobs += _jobs("weights", real, *(Form(True, each) for each in (False, True)))
        reduction = code.literal_value
    words = {COMPUTED: _computed(real), REDUCTION: reduction, SECOND: second.literal_value}
    run = _entry("evaluate", jobs, 0, *words.items())

    def with_loss(
        labels, logits, weights, smoothing, code, pos_weight, where, alpha, gamma, second, name
    ):  # fmt: skip
        gradient = np.empty_like(logits)
        found = run(
            logits, labels, weights, where, pos_weight, None, gradient, smoothing, alpha, gamma,
            None, _scratch(size),
        )  # fmt: skip
        _refuse_misfit(found[1], name)
        return gradient, real(found[2])

    def with_elements(
        labels, logits, weights, smoothing, code, pos_weight, where, alpha, gamma, second, name
    ):  # fmt: skip
        gradient, others = np.empty_like(logits), np.empty_like(logits)
        found = run(
            logits, labels, weights, where, pos_weight, others, gradient, smoothing, alpha, gamma,
            None, _scratch(size),
        )  # fmt: skip
        _refuse_misfit(found[1], name)
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


def _axes_of(axis: Any) -> tuple[Any, ...]:
    """Return the types of the axes that are named."""
    if not _given(axis):
        return ()
    named = axis.types if isinstance(axis, types.BaseTuple) else (axis,)
    return tuple(map(types.unliteral, named))


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
        kind = ir.FunctionType(ir.DoubleType(), [_WORD, _WORD])
        scratch_at: Any = from_a_line_on(places[2])
        builder.call(pointer(get(address, CHOSEN), kind), [address.value, scratch_at.value])
        return context.get_dummy_value()

    operands = labels, logits, weights, pos_weight, where
    return types.void(frame, result, sums, scratch, *operands), codegen


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
    if not _given(code):
        raise TypingError("Argument `axis` needs a reduction, got `Reduction.NONE`.")
    jobs: tuple[Job, ...] = ()
    for kind in ("along", "across"):
        jobs += _jobs(kind, real, *(Form(kind == "along", each) for each in (False, True)))
    words = {COMPUTED: _computed(real), REDUCTION: code.literal_value, KEEPDIMS: int(keep)}
    prepare = _entry("prepare", jobs, logits.ndim if keep else left, *words.items())
    size = SCRATCH + LINE

    def scalar(
        labels, logits, weights, smoothing, code, pos_weight, where, axis, keepdims, name
    ):  # fmt: skip
        return _evaluate(
            labels, logits, weights, smoothing, code, pos_weight, where, None, None, axis, name
        )

    def several(
        labels, logits, weights, smoothing, code, pos_weight, where, axis, keepdims, name
    ):  # fmt: skip
        frame, misfit, _, count, shape = prepare(
            logits, labels, weights, where, pos_weight, None, None, smoothing, None, None, axis,
            None,
        )  # fmt: skip
        _refuse_misfit(misfit, name)
        result = np.zeros(shape, real)
        if logits.size > 0:
            sums, scratch = np.empty(count, np.float64), _scratch(size)
            _finish(frame, result, sums, scratch, labels, logits, weights, pos_weight, where)
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
        return _evaluate(labels, logits, 1.0, 0.0, None, None, None, None, None, None, "labels")

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
        return _evaluate(
            labels, logits, 1.0, 0.0, None, pos_weight, None, None, None, None, "labels"
        )

    return of_numbers if numbers else of_arrays


@_overload(losses.sigmoid_cross_entropy_gradient, forceinline=True)
def _ol_sigmoid_cross_entropy_gradient(labels: Any, logits: Any) -> Any:
    def of_numbers(labels, logits):
        return _gradient_of_numbers(labels, logits, None)

    # Without a second result there is nothing that the blocks of the kernels could do better.
    def of_contiguous(labels, logits):
        if labels.shape != logits.shape:
            _refuse_misfit(LABELS, "labels")
        gradient = np.empty_like(logits)
        x, z, result = logits.reshape(-1), labels.reshape(-1), gradient.reshape(-1)
        for i in range(x.size):
            result[i] = _gradient_of_numbers(z[i], x[i], None)
        return gradient

    def of_arrays(labels, logits):
        return _differentiate(
            labels, logits, 1.0, 0.0, None, None, None, None, None, HESSIAN, "multi_class_labels"
        )[0]

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
            multi_class_labels, logits, weights, label_smoothing, code, pos_weight, where, None,
            None, None, "multi_class_labels",
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
            multi_class_labels, logits, weights, label_smoothing, code, pos_weight, where, None,
            None, second, "multi_class_labels",
        )  # fmt: skip
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
            multi_class_labels, logits, weights, label_smoothing, None, pos_weight, where, None,
            None, HESSIAN, "multi_class_labels",
        )  # fmt: skip

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
        return _evaluate(None, losses, weights, 0.0, code, None, None, None, None, None, "losses")

    def along(
        losses, weights=1.0, scope=None, loss_collection=None, reduction=None, axis=None,
        keepdims=False,
    ):  # fmt: skip
        return _evaluate_along(
            None, losses, weights, 0.0, code, None, None, axis, keepdims, "losses"
        )

    return along if _given(axis) or _flag(keepdims) else of_arrays
