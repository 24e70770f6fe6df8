"""From checked arguments to the kernel that reads them as they lie, and to the result's dtype."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numba import float32, float64, int64, types, uint8, void

from .arguments import NATIVE, dtype_code
from .kernels import loss as kernel
from .kernels.block import SHORT
from .kernels.compile import Loop
from .kernels.divisor import SUM, divisor, is_known
from .kernels.gradient import HESSIAN, LOSSES, TOTAL, differentiate
from .kernels.operand import FLOAT16, FLOAT32, FLOAT64
from .kernels.parallel import CROSSOVER, run
from .layout import Layout, computed_in, layout_of
from .reduction import CODES, Reduction


class _Loops:
    """The loops that compute in one dtype."""

    def __init__(self, dtype: type[np.floating[Any]], real: Any) -> None:
        self.dtype = np.dtype(dtype)
        # What a loop takes its dtype from, and the weight where there is none.
        self.one = np.ones(1, dtype)
        memory, raw = (types.Array(kind, 1, "C", readonly=True) for kind in (real, uint8))
        described = memory, types.Array(int64, 1, "C"), types.Array(int64, 2, "C"), int64, int64
        scalars = float64, float64, int64
        self.reduce_rows = Loop(
            kernel.reduce_rows, float64(raw, raw, memory, *[int64] * 5, *scalars)
        )
        self.reduce_elements = Loop(
            kernel.reduce_elements, float64(raw, raw, memory, *[int64] * 7, *scalars)
        )
        self.reduce_any = Loop(kernel.reduce_any, float64(*described, int64, *scalars))
        result = types.Array(real, 1, "C")
        self.write_contiguous = Loop(
            kernel.write_contiguous, void(raw, raw, memory, result, *[int64] * 7, float64, float64)
        )
        self.write_any = Loop(kernel.write_any, void(*described, int64, float64, float64))
        self.denominator = Loop(kernel.denominator, float64(*described, int64, float64, int64))
        self.differentiate = Loop(
            differentiate, float64(*described, int64, *[float64] * 3, int64, int64)
        )


_SINGLE, _DOUBLE = _Loops(np.float32, float32), _Loops(np.float64, float64)
_BYTE = np.dtype(np.uint8)
# By number, the native dtypes that are read in place: labels with their code, logits with the
# loops as well.
_LABELS: dict[int, Any] = {dtype.num: (dtype, dtype_code(dtype)) for dtype in NATIVE}
_LOGITS: dict[int, Any] = {
    np.dtype(kind).num: (np.dtype(kind), code, loops)
    for kind, code, loops in (
        ("e", FLOAT16, _SINGLE),
        ("f", FLOAT32, _SINGLE),
        ("d", FLOAT64, _DOUBLE),
    )
}
# What a weight or label smoothing may be to be taken as it is.
_NUMBERS = {bool, int, float, *(dtype.type for dtype in NATIVE)}
# Bits of `flags.num`: C order and aligned, and writeable as well.
_C_ORDER = 0x101
_WRITEABLE = 0x501
_NONE = -1
# Smaller numbers overflow no dtype, which would be warned of.
_SAFE = 65504.0
_EVERY_CODE = CODES | {Reduction.NONE: _NONE}


def _loops_for(dtype: np.dtype[Any]) -> _Loops:
    return _DOUBLE if computed_in(dtype) == _DOUBLE.dtype else _SINGLE


def evaluate_in_place(
    labels: Any, logits: Any, weights: Any, smoothing: Any, reduction: Any, out: Any = None
) -> Any:
    """Return the loss for the commonest arguments, None for all others.

    These are arrays of native dtype in C order, with valid numbers beside them.  Finding that
    out takes a tenth of the time that checking and describing any arrays takes.
    """
    common = _common(labels, logits, smoothing, reduction)
    if common is None:
        return None
    code, x_code, z_code, loops = common
    dtype, shape, size = logits.dtype, logits.shape, logits.size
    x, z = logits.ravel().view(_BYTE), labels.ravel().view(_BYTE)
    smoothing = float(smoothing)
    if type(weights) in _NUMBERS:
        weight = _finite(weights)
        if weight is None:
            return None
        flat, steps = loops.one, (0, 0, size)
    else:
        found = _steps_in_place(weights, shape, loops.dtype)
        if found is None:
            if code == _NONE or out is not None or not _are_weights(weights, shape):
                return None
            arrays = {kernel.LOGITS: logits, kernel.LABELS: labels, kernel.WEIGHTS: weights}
            return reduce(arrays, 1.0, smoothing, code)
        flat, weight, steps = weights.ravel(), 1.0, found
    if code == _NONE:
        if dtype is not loops.dtype:
            return None
        if out is None:
            out = np.empty(shape, dtype)
        elif not _is_result(out, logits) or any(
            np.may_share_memory(out, other)
            for other in (logits, labels, flat)
            if other is not logits or out is not logits
        ):
            return None
        result = out.ravel(), x_code, z_code, 1, size, *steps, weight, smoothing
        run(loops.write_contiguous, size, x, z, flat, *result)
        return out
    if out is not None:
        return None
    place = x, z, flat, x_code, z_code, 1, size
    if size < CROSSOVER and flat is loops.one:
        value = loops.reduce_rows.serial(*place, 0, weight, smoothing, code)
    elif flat is loops.one:
        value = run(loops.reduce_rows, size, *place, 0, weight, smoothing, code)
    else:
        value = run(loops.reduce_elements, size, *place, *steps, weight, smoothing, code)
    return as_scalar(value, dtype)


def _common(
    labels: Any, logits: Any, smoothing: Any, reduction: Any
) -> tuple[int, int, int, _Loops] | None:
    """Return the codes of reduction, logits and labels, and the loops, for the commonest calls."""
    if (
        type(logits) is not np.ndarray
        or type(labels) is not np.ndarray
        or type(smoothing) not in _NUMBERS
        or type(reduction) not in (Reduction, str)
    ):
        return None
    dtype, code = logits.dtype, _EVERY_CODE.get(reduction)
    native, x_code, loops = _LOGITS.get(dtype.num, (None, 0, _SINGLE))
    labels_native, z_code = _LABELS.get(labels.dtype.num, (None, 0))
    if (
        code is None
        or dtype is not native
        or labels.dtype is not labels_native
        or labels.shape != logits.shape
        or logits.flags.num & labels.flags.num & _C_ORDER != _C_ORDER
        or logits.size == 0
        or not 0 <= smoothing <= 1
    ):
        return None
    return code, x_code, z_code, loops


def differentiate_in_place(
    labels: Any, logits: Any, weights: Any, smoothing: Any, reduction: Any, grad_out: Any
) -> tuple[Any, np.ndarray] | None:
    """Return the reduced loss and its gradient for the commonest arguments, else None."""
    common = _common(labels, logits, smoothing, reduction)
    if common is None or common[0] == _NONE:
        return None
    arrays, weight = {kernel.LOGITS: logits, kernel.LABELS: labels}, 1.0
    if type(weights) in _NUMBERS:
        found = _finite(weights)
        if found is None:
            return None
        weight = found
    elif _are_weights(weights, logits.shape):
        arrays[kernel.WEIGHTS] = weights
    else:
        return None
    if grad_out is None:
        gradient = np.empty(logits.shape, logits.dtype)
    elif _is_result(grad_out, logits) and not any(
        np.may_share_memory(grad_out, other)
        for other in arrays.values()
        if other is not logits or grad_out is not logits
    ):
        gradient = grad_out
    else:
        return None
    arrays[kernel.GRADIENT] = gradient
    return differentiate_loss(arrays, weight, float(smoothing), common[0]), gradient


def _finite(number: Any) -> float | None:
    """Return a number as a float, or None if it is not finite."""
    try:
        weight = float(number)
    except OverflowError:  # of an integer
        return None
    return weight if weight - weight == 0 else None


def _are_weights(weights: Any, shape: tuple[int, ...]) -> bool:
    """Tell whether weights are an array that is broadcast to this shape, and no single number."""
    return (
        type(weights) is np.ndarray
        and weights.dtype is _LABELS.get(weights.dtype.num, (None,))[0]
        and weights.ndim == len(shape)
        and weights.size != 1
        and all(size in (1, other) for size, other in zip(weights.shape, shape, strict=True))
    )


def _is_result(out: Any, logits: np.ndarray) -> bool:
    """Tell whether results for logits in C order can be written to ``out`` as it lies."""
    return (
        type(out) is np.ndarray
        and out.dtype is logits.dtype
        and out.shape == logits.shape
        and out.flags.num & _WRITEABLE == _WRITEABLE
    )


def _steps_in_place(weights: Any, shape: Any, dtype: Any) -> tuple[int, int, int] | None:
    """Return row step, column step and length of rows for the commonest weights of a matrix."""
    if (
        type(weights) is not np.ndarray
        or weights.dtype is not dtype
        or weights.ndim != 2
        or len(shape) != 2
        or weights.flags.num & _C_ORDER != _C_ORDER
        or weights.size == 1
    ):
        return None
    rows, columns = shape
    if columns < SHORT:
        if weights.shape == (rows, 1):
            return 1, 0, columns
        if weights.shape == (1, columns):
            return 0, 1, columns
    return (0, 1, rows * columns) if weights.shape == shape else None


def reduce(arrays: dict[int, np.ndarray], weight: float, smoothing: float, reduction: int) -> Any:
    """Return the reduced loss; ``arrays`` are those of the kernels' operands that there are."""
    value = _reduce(arrays, weight, smoothing, reduction)
    return as_scalar(value, arrays[kernel.LOGITS].dtype)


def sums(
    arrays: dict[int, np.ndarray], weight: float, smoothing: float, reduction: int
) -> tuple[float, float, float]:
    """Return the sum of the weighted losses, what the reduction divides it by, what it lost."""
    lost = ctypes.c_double()
    numerator = _reduce(arrays, weight, smoothing, -ctypes.addressof(lost))
    return numerator, denominator(arrays, weight, reduction), lost.value


def _reduce(
    arrays: dict[int, np.ndarray], weight: float, smoothing: float, reduction: int
) -> float:
    size = arrays[kernel.LOGITS].size
    if size == 0:
        return 0.0
    loops = _loops_for(arrays[kernel.LOGITS].dtype)
    layout = layout_of(arrays)
    scalars = weight, smoothing, reduction
    if not layout.is_contiguous:
        return float(run(loops.reduce_any, size, *_described(loops, arrays, layout), *scalars))
    arguments = _direct_arguments(arrays, layout, loops.one)
    place, steps = (layout.rows, layout.columns), layout.weight_steps
    if layout.by_element:
        last = int(layout.shape[-1])
        return float(run(loops.reduce_elements, size, *arguments, *place, *steps, last, *scalars))
    return float(run(loops.reduce_rows, size, *arguments, *place, steps[0], *scalars))


def _direct_arguments(arrays: dict[int, np.ndarray], layout: Layout, one: np.ndarray) -> list[Any]:
    """Return logits and labels as bytes, weights, and dtype codes."""
    operands = [arrays[kernel.LOGITS], arrays[kernel.LABELS]]
    raw = [layout.ravel(array).view(_BYTE) for array in operands]
    codes = [dtype_code(array.dtype) for array in operands]
    weights = layout.ravel(arrays[kernel.WEIGHTS]) if kernel.WEIGHTS in arrays else one
    return [*raw, weights, *codes]


def write(
    arrays: dict[int, np.ndarray], weight: float, smoothing: float, out: np.ndarray | None
) -> np.ndarray:
    """Return the weighted element losses, in ``out`` if given."""
    logits = arrays[kernel.LOGITS]
    if out is None:
        out = result_like(logits)
    if logits.size == 0:
        return out
    loops = _loops_for(logits.dtype)
    arrays = arrays | {kernel.RESULT: out}
    layout = layout_of(arrays)
    if layout.is_contiguous:
        *raw, x_code, z_code = _direct_arguments(arrays, layout, loops.one)
        flat = *raw, layout.ravel(out), x_code, z_code
        place = layout.rows, layout.columns, *layout.weight_steps, int(layout.shape[-1])
        run(loops.write_contiguous, logits.size, *flat, *place, weight, smoothing)
    else:
        described = _described(loops, arrays, layout)
        run(loops.write_any, logits.size, *described, weight, smoothing)
    return out


def differentiate_loss(
    arrays: dict[int, np.ndarray], weight: float, smoothing: float, reduction: int | None
) -> Any:
    """Write the gradient of the reduced loss to its place in ``arrays``, and return the loss.

    Without a reduction the gradient is that of the sum, and the losses have a place in ``arrays``.
    """
    gradient = arrays[kernel.GRADIENT]
    if reduction is None:
        _differentiate(arrays, weight, weight, smoothing, LOSSES)
        return arrays[kernel.RESULT]
    divisor = denominator(arrays, weight, reduction)
    numerator, _ = differentiate_sum(arrays, weight, smoothing, divisor)
    return as_scalar(numerator / divisor if divisor != 0 else 0.0, gradient.dtype)


def differentiate_sum(
    arrays: dict[int, np.ndarray], weight: float, smoothing: float, divisor: float
) -> tuple[float, float]:
    """Write the gradient of the sum over ``divisor``; return the sum, and what rounding it lost.

    A divisor of 0 gives 0 throughout.
    """
    if divisor == 0:
        arrays[kernel.GRADIENT][...] = 0
        return 0.0, 0.0
    lost = ctypes.c_double()
    scalars = weight, weight / divisor, smoothing, TOTAL, -ctypes.addressof(lost)
    return _differentiate(arrays, *scalars), lost.value


def gradient_hessian(arrays: dict[int, np.ndarray], weight: float, smoothing: float) -> None:
    """Write weighted gradients and, as results, hessians to their places in ``arrays``."""
    _differentiate(arrays, weight, weight, smoothing, HESSIAN)


def _differentiate(
    arrays: dict[int, np.ndarray],
    weight: float,
    scale: float,
    smoothing: float,
    second: int,
    total_code: int = SUM,
) -> float:
    size = arrays[kernel.LOGITS].size
    if size == 0:
        return 0.0
    loops = _loops_for(arrays[kernel.LOGITS].dtype)
    scalars = weight, scale, smoothing, second, total_code
    return float(run(loops.differentiate, size, *_described(loops, arrays), *scalars))


def denominator(arrays: dict[int, np.ndarray], weight: float, reduction: int) -> float:
    """Return what the reduction divides by, which weights and ``where`` alone decide."""
    logits, weights = arrays[kernel.LOGITS], arrays.get(kernel.WEIGHTS)
    size = logits.size
    if size == 0 or is_known(reduction, weights is not None, kernel.WHERE in arrays):
        count = float(size)
        return float(divisor(reduction, weight, count, count, count))
    loops = _loops_for(logits.dtype)
    counted = {row: arrays[row] for row in (kernel.WEIGHTS, kernel.WHERE) if row in arrays}
    uses = 1
    # A broadcast weight counts once for each of its uses.
    if weights is not None and kernel.WHERE not in arrays:
        logits, uses = weights, size // weights.size
    described = _described(loops, {kernel.LOGITS: logits} | counted)
    return uses * float(run(loops.denominator, logits.size, *described, weight, reduction))


def _described(
    loops: _Loops, arrays: dict[int, np.ndarray], layout: Layout | None = None
) -> tuple[Any, ...]:
    """Return what the loops over operands of any layout want to know of them."""
    layout = layout or layout_of(arrays)
    table = layout.operands_table(arrays)
    return loops.one, layout.shape, table, layout.rows, layout.columns, layout.by_element


def result_like(logits: np.ndarray) -> np.ndarray:
    """Return memory for a result: the shape and layout of the logits, in native byte order."""
    dtype = logits.dtype
    return np.empty_like(logits, dtype=dtype if dtype.isnative else dtype.newbyteorder("="))


def as_scalar(value: float, dtype: np.dtype[Any]) -> Any:
    """Return a float64 rounded, once, to a scalar of ``dtype``."""
    if dtype.kind == "f" and abs(value) < _SAFE:  # `errstate` takes longer than all the rest
        return dtype.type(value)
    with np.errstate(over="ignore"):
        if dtype.kind == "f" or np.isnan(value):
            return dtype.type(value)
        # bfloat16 is made from float32: round to odd on the way, lest it be rounded twice.
        single = np.float32(value)
        if np.isfinite(single) and float(single) != value:
            bits = int(single.view(np.int32))
            single = np.int32((bits - (abs(float(single)) > abs(value))) | 1).view(np.float32)
        return dtype.type(single)
