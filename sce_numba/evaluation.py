"""From checked arguments to the compiled code that reads them as they lie, and to a result."""

from __future__ import annotations

import ctypes
import struct
from typing import Any

import numpy as np

from .arguments import NATIVE
from .kernels.array_address import address
from .kernels.compile import Kernel, kernel
from .kernels.divisor import SUM, check, divisor, is_known
from .kernels.gradient import HESSIAN, LOSSES, TOTAL
from .kernels.parallel import CROSSOVER, run
from .kernels.tiles import Form
from .kernels.view import (
    GRADIENT,
    LABELS,
    LOGITS,
    OPERANDS,
    RESULT,
    WEIGHTS,
    WHERE,
    WORDS,
)
from .layout import Layout, computed_in, layout_in_c_order, layout_of
from .reduction import CODES, Reduction

# The words of a call, in the order of `kernels.view`.
_pack = struct.Struct(f"={WORDS - 3}q3d").pack

# By number, the native dtypes that are read as they are.
_READABLE: dict[int, Any] = {dtype.num: dtype for dtype in NATIVE}
# What a weight or label smoothing may be to be taken as it is.
_NUMBERS = {bool, int, float, *(dtype.type for dtype in NATIVE)}
# Bits of `flags.num`: C order and aligned, and writeable as well.
_C_ORDER = 0x101
_WRITEABLE = 0x501
_NONE = -1
# Smaller numbers overflow no dtype, which would be warned of.
_SAFE = 65504.0
_EVERY_CODE = CODES | {Reduction.NONE: _NONE}


def evaluate_in_place(
    labels: Any, logits: Any, weights: Any, smoothing: Any, reduction: Any, out: Any = None
) -> Any:
    """Return the loss for the commonest arguments, None for all others.

    These are arrays of native dtype in C order, with valid numbers beside them.  Finding that
    out takes a tenth of the time that checking any arguments takes.
    """
    code = _common(labels, logits, smoothing, reduction)
    if code is None:
        return None
    arrays = {LOGITS: logits, LABELS: labels}
    weight = _enter_weights(arrays, weights)
    if weight is None:
        return None
    weighing = arrays.get(WEIGHTS)
    if code != _NONE:
        if out is not None:
            return None
        layout = layout_in_c_order(logits, labels, weighing)
        if weighing is None and logits.size < CROSSOVER:
            places = address(logits), address(labels), 0, 0, 0, 0, 0
            numbers = check(code), TOTAL, 0, weight, float(smoothing), 1.0
            value = layout.totals.whole(_pack(layout.address, *places, *numbers), 0)
            return as_scalar(value, logits.dtype)
        value = _run(layout, layout.totals, arrays, weight, float(smoothing), code)
        return as_scalar(value, logits.dtype)
    if out is None:
        out = np.empty(logits.shape, logits.dtype)
    elif not _is_result(out, logits, arrays):
        return None
    arrays[RESULT] = out
    layout = layout_in_c_order(logits, labels, weighing, RESULT)
    _run(layout, layout.losses, arrays, weight, float(smoothing))
    return out


def _common(labels: Any, logits: Any, smoothing: Any, reduction: Any) -> int | None:
    """Return the code of the reduction for the commonest calls."""
    if (
        type(logits) is not np.ndarray
        or type(labels) is not np.ndarray
        or type(smoothing) not in _NUMBERS
        or type(reduction) not in (Reduction, str)
    ):
        return None
    dtype, code = logits.dtype, _EVERY_CODE.get(reduction)
    if (
        code is None
        or dtype.kind != "f"
        or dtype is not _READABLE.get(dtype.num)
        or labels.dtype is not _READABLE.get(labels.dtype.num)
        or labels.shape != logits.shape
        or logits.flags.num & labels.flags.num & _C_ORDER != _C_ORDER
        or logits.size == 0
        or not 0 <= smoothing <= 1
    ):
        return None
    return code


def differentiate_in_place(
    labels: Any, logits: Any, weights: Any, smoothing: Any, reduction: Any, grad_out: Any
) -> tuple[Any, np.ndarray] | None:
    """Return the reduced loss and its gradient for the commonest arguments, else None."""
    code = _common(labels, logits, smoothing, reduction)
    if code is None or code == _NONE:
        return None
    arrays = {LOGITS: logits, LABELS: labels}
    weight = _enter_weights(arrays, weights)
    if weight is None:
        return None
    if grad_out is None:
        gradient = np.empty(logits.shape, logits.dtype)
    elif _is_result(grad_out, logits, arrays):
        gradient = grad_out
    else:
        return None
    arrays[GRADIENT] = gradient
    layout = layout_in_c_order(logits, labels, arrays.get(WEIGHTS), GRADIENT)
    return differentiate_loss(arrays, weight, float(smoothing), code, layout), gradient


def _enter_weights(arrays: dict[int, np.ndarray], weights: Any) -> float | None:
    """Add an array of weights to the others; return the number that multiplies all weights.

    None is for what has to be checked in full.
    """
    if type(weights) in _NUMBERS:
        return _finite(weights)
    if not _are_weights(weights, arrays[LOGITS].shape):
        return None
    arrays[WEIGHTS] = weights
    return 1.0


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
        and weights.dtype is _READABLE.get(weights.dtype.num)
        and weights.ndim == len(shape)
        and weights.size != 1
        and weights.flags.num & _C_ORDER == _C_ORDER
        and all(size in (1, other) for size, other in zip(weights.shape, shape, strict=True))
    )


def _is_result(out: Any, logits: np.ndarray, arrays: dict[int, np.ndarray]) -> bool:
    """Tell whether results for logits in C order can be written to ``out`` as it lies."""
    return (
        type(out) is np.ndarray
        and out.dtype is logits.dtype
        and out.shape == logits.shape
        and out.flags.num & _WRITEABLE == _WRITEABLE
        and not any(
            np.may_share_memory(out, other)
            for other in arrays.values()
            if other is not logits or out is not logits
        )
    )


def _run(
    layout: Layout,
    code: Kernel,
    arrays: dict[int, np.ndarray],
    weight: float,
    smoothing: float,
    reduction: int = SUM,
    scale: float = 1.0,
    second: int = TOTAL,
    lost: int = 0,
) -> float:
    """Run a job; ``arrays`` are those of the kernels' operands that there are."""
    places = [0] * OPERANDS
    for row, array in arrays.items():
        places[row] = address(array)
    call = _pack(layout.address, *places, check(reduction), second, lost, weight, smoothing, scale)
    size = arrays[LOGITS].size
    if size < CROSSOVER:
        return code.serial(call, layout.groups)
    return float(run(code, size, call, layout.groups))


def reduce(arrays: dict[int, np.ndarray], weight: float, smoothing: float, reduction: int) -> Any:
    """Return the reduced loss; ``arrays`` are those of the kernels' operands that there are."""
    logits, value = arrays[LOGITS], 0.0
    if logits.size > 0:
        layout = layout_of(arrays)
        value = _run(layout, layout.totals, arrays, weight, smoothing, reduction)
    return as_scalar(value, logits.dtype)


def sums(
    arrays: dict[int, np.ndarray], weight: float, smoothing: float, reduction: int
) -> tuple[float, float, float]:
    """Return the sum of the weighted losses, what the reduction divides it by, what it lost."""
    by = denominator(arrays, weight, reduction)
    if arrays[LOGITS].size == 0:
        return 0.0, by, 0.0
    lost = ctypes.c_double()
    place = ctypes.addressof(lost)
    layout = layout_of(arrays)
    numerator = _run(layout, layout.totals, arrays, weight, smoothing, lost=place)
    return numerator, by, lost.value


def write(
    arrays: dict[int, np.ndarray], weight: float, smoothing: float, out: np.ndarray | None
) -> np.ndarray:
    """Return the weighted element losses, in ``out`` if given."""
    logits = arrays[LOGITS]
    if out is None:
        out = result_like(logits)
    if logits.size > 0:
        arrays = arrays | {RESULT: out}
        layout = layout_of(arrays)
        _run(layout, layout.losses, arrays, weight, smoothing)
    return out


def differentiate_loss(
    arrays: dict[int, np.ndarray],
    weight: float,
    smoothing: float,
    reduction: int | None,
    layout: Layout | None = None,
) -> Any:
    """Write the gradient of the reduced loss to its place in ``arrays``, and return the loss.

    Without a reduction the gradient is that of the sum, and the losses have a place in ``arrays``.
    """
    gradient = arrays[GRADIENT]
    if reduction is None:
        _differentiate(arrays, weight, weight, smoothing, LOSSES)
        return arrays[RESULT]
    by = denominator(arrays, weight, reduction)
    numerator, _ = differentiate_sum(arrays, weight, smoothing, by, layout)
    return as_scalar(numerator / by if by != 0 else 0.0, gradient.dtype)


def differentiate_sum(
    arrays: dict[int, np.ndarray],
    weight: float,
    smoothing: float,
    divisor: float,
    layout: Layout | None = None,
) -> tuple[float, float]:
    """Write the gradient of the sum over ``divisor``; return the sum, and what rounding it lost.

    A divisor of 0 gives 0 throughout.
    """
    if divisor == 0:
        arrays[GRADIENT][...] = 0
        return 0.0, 0.0
    lost = ctypes.c_double()
    place = ctypes.addressof(lost)
    scale = weight / divisor
    total = _differentiate(arrays, weight, scale, smoothing, TOTAL, place, layout)
    return total, lost.value


def gradient_hessian(arrays: dict[int, np.ndarray], weight: float, smoothing: float) -> None:
    """Write weighted gradients and, as results, hessians to their places in ``arrays``."""
    _differentiate(arrays, weight, weight, smoothing, HESSIAN)


def _differentiate(
    arrays: dict[int, np.ndarray],
    weight: float,
    scale: float,
    smoothing: float,
    second: int,
    lost: int = 0,
    layout: Layout | None = None,
) -> float:
    if arrays[LOGITS].size == 0:
        return 0.0
    layout = layout or layout_of(arrays)
    return _run(layout, layout.slopes, arrays, weight, smoothing, SUM, scale, second, lost)


def denominator(arrays: dict[int, np.ndarray], weight: float, reduction: int) -> float:
    """Return what the reduction divides by, which weights and ``where`` alone decide."""
    logits, weights = arrays[LOGITS], arrays.get(WEIGHTS)
    size = logits.size
    check(reduction)
    if size == 0 or is_known(reduction, weights is not None, WHERE in arrays):
        count = float(size)
        return float(divisor(reduction, weight, count, count, count))
    counted = {row: arrays[row] for row in (WEIGHTS, WHERE) if row in arrays}
    uses = 1
    # A broadcast weight counts once for each of its uses.
    if weights is not None and WHERE not in arrays:
        logits, uses = weights, size // weights.size
    computed: Any = computed_in(arrays[LOGITS].dtype).type
    counted = {LOGITS: logits} | counted
    layout = layout_of(counted)
    code = kernel("weights", computed, Form(True, layout.form.by_element))
    return uses * _run(layout, code, counted, weight, 0.0, reduction)


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
