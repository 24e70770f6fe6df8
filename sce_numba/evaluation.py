"""From checked arguments to the kernel that reads them as they lie, and to the result's dtype."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import float32, float64, int64, types, void

from .broadcasting import View, flatten, is_contiguous, operands_table, ravel
from .kernels import loss as kernel
from .kernels.block import SHORT
from .kernels.compile import Loop
from .kernels.parallel import CROSSOVER, run
from .reduction import CODES, Reduction


class _Loops:
    """The loops that compute in one dtype."""

    def __init__(self, dtype: type[np.floating[Any]], real: Any) -> None:
        self.dtype = np.dtype(dtype)
        # What a loop takes its dtype from, and the weight where there is none.
        self.one = np.ones(1, dtype)
        memory = types.Array(real, 1, "C", readonly=True)
        described = memory, types.Array(int64, 1, "C"), types.Array(int64, 2, "C"), int64, int64
        scalars = float64, float64, int64
        self.reduce_rows = Loop(kernel.reduce_rows, real(*[memory] * 3, *[int64] * 3, *scalars))
        self.reduce_elements = Loop(
            kernel.reduce_elements, real(*[memory] * 3, *[int64] * 5, *scalars)
        )
        self.reduce_any = Loop(kernel.reduce_any, float64(*described, int64, *scalars))
        result = types.Array(real, 1, "C")
        self.write_contiguous = Loop(
            kernel.write_contiguous, void(memory, memory, result, float64, float64)
        )
        self.write_any = Loop(kernel.write_any, void(*described, float64, float64))


_SINGLE, _DOUBLE = _Loops(np.float32, float32), _Loops(np.float64, float64)
_FLOAT32, _FLOAT64 = _SINGLE.dtype, _DOUBLE.dtype
# Bits of `flags.num`: C order, and aligned.
_IN_PLACE = 0x101


def _loops_for(dtype: np.dtype[Any]) -> _Loops:
    return _DOUBLE if dtype.kind == "f" and dtype.itemsize == 8 else _SINGLE


def _loops_in_place(labels: Any, logits: Any) -> _Loops | None:
    """Return the loops for float32 or float64 arrays of one shape in C order, None for others."""
    if type(logits) is not np.ndarray or type(labels) is not np.ndarray:
        return None
    dtype = logits.dtype
    loops = _SINGLE if dtype is _FLOAT32 else _DOUBLE
    if (
        labels.dtype is dtype is loops.dtype
        and labels.shape == logits.shape
        and logits.flags.num & labels.flags.num & _IN_PLACE == _IN_PLACE
        and 0 < logits.size < CROSSOVER
    ):
        return loops
    return None


def reduce_in_place(labels: Any, logits: Any, weights: Any, smoothing: Any, reduction: Any) -> Any:
    """Return the reduced loss of the commonest small arguments, None for all others.

    These are float32 or float64 arrays in C order, with valid numbers beside them.  Finding that
    out takes a tenth of the time that checking and describing any arrays takes.
    """
    loops = _loops_in_place(labels, logits)
    if (
        loops is None
        or type(smoothing) not in (float, int)
        or type(reduction) not in (Reduction, str)
        or not 0 <= smoothing <= 1
        or reduction not in CODES
    ):
        return None
    dtype, shape, code = loops.dtype, logits.shape, CODES[reduction]
    x, z, size = logits.ravel(), labels.ravel(), logits.size
    smoothing = float(smoothing)
    if type(weights) is float:
        if weights - weights != 0:  # infinite or NaN
            return None
        reduce_rows = loops.reduce_rows.serial
        return dtype.type(reduce_rows(x, z, loops.one, 1, size, 0, weights, smoothing, code))
    if (
        type(weights) is not np.ndarray
        or weights.dtype is not dtype
        or weights.ndim != 2
        or len(shape) != 2
        or weights.flags.num & _IN_PLACE != _IN_PLACE
        or weights.size == 1
    ):
        return None
    columns = shape[1]
    if weights.shape == (shape[0], 1) and columns < SHORT:
        place = 1, 0, columns
    elif weights.shape == (1, columns) and columns < SHORT:
        place = 0, 1, columns
    elif weights.shape == shape:
        place = 0, 1, size
    else:
        return None
    reduce_elements = loops.reduce_elements.serial
    return dtype.type(reduce_elements(x, z, weights.ravel(), 1, size, *place, 1.0, smoothing, code))


def reduce(arrays: dict[int, np.ndarray], weight: float, smoothing: float, reduction: int) -> Any:
    """Return the reduced loss; ``arrays`` are those of the kernels' operands that there are."""
    logits = arrays[kernel.LOGITS]
    size, dtype = logits.size, logits.dtype
    if size == 0:
        return _as_scalar(0.0, dtype)
    loops = _loops_for(dtype)
    view = flatten(arrays)
    scalars = weight, smoothing, reduction
    if _is_direct(arrays, view, loops.dtype):
        flat = [ravel(arrays[row], view) for row in (kernel.LOGITS, kernel.LABELS)]
        weights = loops.one
        steps = [0, 0]
        if kernel.WEIGHTS in arrays:
            weights = ravel(arrays[kernel.WEIGHTS], view)
            steps = [step // logits.itemsize for step in [0, *view.strides[kernel.WEIGHTS]]][-2:]
        arguments = *flat, weights, view.rows, view.columns
        if not view.by_element:
            return dtype.type(run(loops.reduce_rows, size, *arguments, steps[0], *scalars))
        arguments = *arguments, *steps, view.shape[-1]
        return dtype.type(run(loops.reduce_elements, size, *arguments, *scalars))
    described = loops.one, np.array(view.shape, np.int64), operands_table(arrays, view)
    place = view.rows, view.columns, view.by_element
    return _as_scalar(run(loops.reduce_any, size, *described, *place, *scalars), dtype)


def _is_direct(arrays: dict[int, np.ndarray], view: View, dtype: np.dtype[Any]) -> bool:
    """Tell whether a loop over contiguous arrays applies."""
    if kernel.LABELS not in arrays or kernel.WHERE in arrays:
        return False
    if any(array.dtype != dtype for array in arrays.values()):
        return False
    weights = arrays.get(kernel.WEIGHTS)
    if weights is not None:
        steps = view.strides[kernel.WEIGHTS]
        if len(steps) > 2 or steps[-1] not in (0, dtype.itemsize) or not weights.flags.aligned:
            return False
        if not weights.flags.forc or (len(steps) == 2 and steps[0] and steps[1]):
            return False
    return all(
        is_contiguous(arrays[row], view.strides[row], view)
        for row in (kernel.LOGITS, kernel.LABELS)
    )


def write_in_place(labels: Any, logits: Any) -> np.ndarray | None:
    """Return the element losses of the commonest small arguments, None for all others."""
    loops = _loops_in_place(labels, logits)
    if loops is None:
        return None
    out = np.empty(logits.shape, loops.dtype)
    loops.write_contiguous.serial(logits.ravel(), labels.ravel(), out.ravel(), 1.0, 0.0)
    return out


def write(
    arrays: dict[int, np.ndarray], weight: float, smoothing: float, out: np.ndarray | None
) -> np.ndarray:
    """Return the weighted element losses, in ``out`` if given."""
    logits = arrays[kernel.LOGITS]
    if out is None:
        out = np.empty_like(logits, dtype=_native(logits.dtype))
    if logits.size == 0:
        return out
    loops = _loops_for(logits.dtype)
    arrays = arrays | {kernel.RESULT: out}
    view = flatten(arrays)
    direct = kernel.LOGITS, kernel.LABELS, kernel.RESULT
    if arrays.keys() == set(direct) and all(
        arrays[row].dtype == loops.dtype and is_contiguous(arrays[row], view.strides[row], view)
        for row in direct
    ):
        flat = [ravel(arrays[row], view) for row in direct]
        run(loops.write_contiguous, logits.size, *flat, weight, smoothing)
    else:
        described = loops.one, np.array(view.shape, np.int64), operands_table(arrays, view)
        run(loops.write_any, logits.size, *described, view.rows, view.columns, weight, smoothing)
    return out


def _native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype if dtype.isnative else dtype.newbyteorder("=")


def _as_scalar(value: float, dtype: np.dtype[Any]) -> Any:
    """Return a float64 rounded, once, to a scalar of ``dtype``."""
    with np.errstate(over="ignore"):
        if dtype.kind == "f" or np.isnan(value):
            return dtype.type(value)
        # bfloat16 is made from float32: round to odd on the way, lest it be rounded twice.
        single = np.float32(value)
        if np.isfinite(single) and float(single) != value:
            bits = int(single.view(np.int32))
            single = np.int32((bits - (abs(float(single)) > abs(value))) | 1).view(np.float32)
        return dtype.type(single)
