"""From checked operands to the compiled code that reads them as they lie, and to a result."""

from __future__ import annotations

import ctypes
import functools
import struct
from typing import Any

import numpy as np
from numpy import empty_like  # quicker to look up

from .arguments import as_out
from .kernels.array_address import address, handle
from .kernels.compile import Kernel, kernel, scratch
from .kernels.divisor import SUM, check, divisor
from .kernels.gradient import LOSSES, TOTAL
from .kernels.parallel import CROSSOVER, run
from .kernels.view import (
    ADDRESSES,
    GRADIENT,
    LABELS,
    LAYOUT,
    LOGITS,
    REDUCTION,
    RESULT,
    SCALE,
    SCRATCH_AT,
    WEIGHT,
    WORDS,
)
from .layout import Layout, RowLayout, computed_in
from .operands import Operands

# The words of a call, in the order of `kernels.view`.  Python packs sizes, which are as wide as
# addresses, in less time than other whole numbers.
_pack = struct.Struct(f"{WORDS - 3}n3d").pack

# Smaller numbers overflow no dtype, which would be warned of.
_SAFE = 65504.0
# Dtypes that are not NumPy's own have greater numbers.
_FIRST_OF_OTHERS = 256


def _words(
    arrays: dict[int, np.ndarray],
    weight: float = 1.0,
    smoothing: float = 0.0,
    reduction: int = SUM,
    scale: float = 1.0,
    second: int = TOTAL,
    lost: int = 0,
) -> list[Any]:
    """Return the words of a call but for its layout."""
    words = [0, 0, 0, 0, 0, 0, 0, 0, reduction, second, lost, 0, weight, smoothing, scale]
    for row, array in arrays.items():
        words[ADDRESSES + row] = handle(array)
    return words


def _run(
    layout: Layout | RowLayout, code: Kernel, words: list[Any], in_one_piece: bool = False
) -> float:
    """Run a job on arrays that lie as the layout says; in one piece, on this thread."""
    words[LAYOUT] = layout.address
    if code.needs_scratch:
        words[SCRATCH_AT] = scratch.address
    call = _pack(*words)
    if in_one_piece or layout.size < CROSSOVER:
        return code.serial(call)
    return run(code, layout.size, call, layout.groups)


def evaluate(given: Operands, out: np.ndarray | None = None) -> Any:
    """Return the loss of operands, or their losses, in ``out`` if given."""
    arrays, layout, weight, smoothing, reduction = given
    if reduction is not None:
        if out is not None:
            refuse_out()
        value, code = 0.0, check(reduction)
        if layout is not None:
            value = _run(layout, layout.totals, _words(arrays, weight, smoothing, code))
        return as_scalar(value, arrays[LOGITS].dtype)
    new = out is None
    arrays[RESULT] = result_like(arrays[LOGITS]) if new else as_out(out, arrays)
    if layout is not None:
        layout = layout.with_results(arrays, new, RESULT)
        _run(layout, layout.losses, _words(arrays, weight, smoothing))
    return arrays[RESULT] if out is None else out


def reduce_along(
    arrays: dict[int, np.ndarray],
    layout: Layout,
    code: Kernel,
    weight: float,
    smoothing: float,
    reduction: int,
    wanted: int,
    sums: int,
) -> None:
    """Write results of a reduction along axes, given the address of memory for sums (``axes``)."""
    words = _words(arrays, weight, smoothing, check(reduction), second=wanted, lost=sums)
    _run(layout, code, words)


def sums(
    arrays: dict[int, np.ndarray],
    layout: Layout | None,
    weight: float,
    smoothing: float,
    reduction: int,
) -> tuple[float, float, float]:
    """Return the sum of the weighted losses, what the reduction divides it by, what it lost."""
    by = denominator(arrays, layout, weight, reduction)
    if layout is None:
        return 0.0, by, 0.0
    lost = ctypes.c_double()
    words = _words(arrays, weight, smoothing, lost=ctypes.addressof(lost))
    return _run(layout, layout.totals, words), by, lost.value


def evaluate_and_differentiate(
    given: Operands, out: np.ndarray | None, grad_out: np.ndarray | None
) -> tuple[Any, np.ndarray]:
    """Return the loss of operands, or their losses, and the gradient, in memory that is given."""
    arrays, layout, weight, smoothing, reduction = given
    if reduction is None:
        return differentiate_elements(given, LOSSES, out, "out", grad_out)
    if out is not None:
        refuse_out()
    new = grad_out is None
    arrays[GRADIENT] = result_like(arrays[LOGITS]) if new else as_out(grad_out, arrays, "grad_out")
    value, words = 0.0, _words(arrays, weight, smoothing)
    by = _divisor(arrays, layout, words, reduction)
    if by == 0:
        arrays[GRADIENT][...] = 0
    elif layout is not None:
        layout = layout.with_results(arrays, new, GRADIENT)
        words[SCALE] = weight / by
        value = _run(layout, layout.slopes, words) / by
    loss = as_scalar(value, arrays[LOGITS].dtype)
    return loss, arrays[GRADIENT] if grad_out is None else grad_out


def differentiate_sum(
    arrays: dict[int, np.ndarray],
    layout: Layout | None,
    weight: float,
    smoothing: float,
    divisor: float,
    lost: int,
) -> float:
    """Write the gradient of the sum over ``divisor``, and return the sum.

    What rounding it lost is written to the address ``lost``.  A divisor of 0 gives 0 throughout.
    """
    if divisor == 0:
        arrays[GRADIENT][...] = 0
    if divisor == 0 or layout is None:
        return 0.0
    words = _words(arrays, weight, smoothing, scale=weight / divisor, lost=lost)
    return _run(layout, layout.slopes, words)


def differentiate_elements(
    given: Operands, second: int, out: np.ndarray | None, name: str, grad_out: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return what is the ``second`` to be computed, and weighted gradients, in memory if given.

    The name is that of the argument for the former.
    """
    arrays, layout, weight, smoothing, _ = given
    logits = arrays[LOGITS]
    arrays[RESULT] = result_like(logits) if out is None else as_out(out, arrays, name)
    arrays[GRADIENT] = (
        result_like(logits) if grad_out is None else as_out(grad_out, arrays, "grad_out")
    )
    if layout is not None:
        new = out is None and grad_out is None
        layout = layout.with_results(arrays, new, RESULT, GRADIENT)
        words = _words(arrays, weight, smoothing, scale=weight, second=second)
        _run(layout, layout.slopes, words)
    return (
        arrays[RESULT] if out is None else out,
        arrays[GRADIENT] if grad_out is None else grad_out,
    )


def denominator(
    arrays: dict[int, np.ndarray], layout: Layout | None, weight: float, reduction: int
) -> float:
    """Return what the reduction divides by, which weights and ``where`` alone decide."""
    return _divisor(arrays, layout, _words(arrays, weight), reduction)


def _divisor(
    arrays: dict[int, np.ndarray], layout: Layout | None, words: list[Any], reduction: int
) -> float:
    """Return it, given the words of a call whose reduction is the sum."""
    counted = layout and layout.counted(arrays, reduction)
    if counted is None:
        return _divisor_of_all(reduction, words[WEIGHT], arrays[LOGITS].size)
    words[REDUCTION] = reduction
    by = counted.uses * _run(counted, counted.weights, words)
    words[REDUCTION] = SUM
    return by


@functools.lru_cache(256)
def _divisor_of_all(reduction: int, weight: float, size: int) -> float:
    """Return it where all elements have one weight."""
    count = float(size)
    known: float = divisor(check(reduction), weight, count, count, count)
    return known


def count_in_bins(arrays: dict[int, np.ndarray], layout: Layout, table: np.ndarray) -> None:
    """Add elements to the cells of a table (see ``kernels.bins``)."""
    dtype: Any = layout.computed
    words = _words(arrays, second=address(table))
    _run(layout, kernel("bins", dtype), words, in_one_piece=True)


def add_margins(
    arrays: dict[int, np.ndarray],
    layout: Layout,
    weight: float,
    smoothing: float,
    reduction: int,
    sums: np.ndarray,
) -> None:
    """Add elements to the sums of columns and rows (see ``kernels.margins``)."""
    dtype: Any = layout.computed
    words = _words(arrays, weight, smoothing, check(reduction), second=address(sums))
    _run(layout, kernel("margins", dtype), words, in_one_piece=True)


def add_rows(
    kind: str,
    rows: np.ndarray,
    codes: np.ndarray,
    sums: np.ndarray,
    dtype: np.dtype[Any],
    divisor: float = 1.0,
) -> None:
    """Add sums of rows, for logits of a dtype, to those of their "groups" or "slices".

    See ``kernels.group_sums``, which are told a divisor, and ``kernels.slices``.
    """
    arrays = {LOGITS: rows, LABELS: np.ascontiguousarray(codes, np.int64), RESULT: sums}
    computed: Any = computed_in(dtype).type
    words = _words(arrays, divisor, second=len(rows))
    _run(RowLayout(codes.size), kernel(kind, computed), words, in_one_piece=True)


def refuse_out() -> None:
    """Refuse memory for element losses, which are reduced."""
    raise ValueError("Argument `out` holds element losses: it needs `reduction=Reduction.NONE`.")


def result_like(logits: np.ndarray) -> np.ndarray:
    """Return memory for a result: the shape and layout of the logits, in native byte order."""
    dtype = logits.dtype
    if dtype.isnative:
        return empty_like(logits)
    return empty_like(logits, dtype=dtype.newbyteorder("="))


def as_scalar(value: float, dtype: np.dtype[Any]) -> Any:
    """Return a float64 rounded, once, to a scalar of ``dtype``."""
    own = dtype.num < _FIRST_OF_OTHERS
    if own and -_SAFE < value < _SAFE:  # `errstate` takes longer than all the rest
        return dtype.type(value)
    with np.errstate(over="ignore"):
        if own or np.isnan(value):
            return dtype.type(value)
        # Other dtypes are made from float32: round to odd on the way, lest it be rounded twice.
        single = np.float32(value)
        if np.isfinite(single) and float(single) != value:
            bits = int(single.view(np.int32))
            single = np.int32((bits - (abs(float(single)) > abs(value))) | 1).view(np.float32)
        return dtype.type(single)
