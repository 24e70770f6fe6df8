"""From checked operands to the compiled code that reads them as they lie, and to a result."""

from __future__ import annotations

import ctypes
import functools
import struct
from typing import Any

import numpy as np

from .arguments import as_out
from .kernels.array_address import address, handle
from .kernels.compile import Kernel, kernel
from .kernels.divisor import SUM, check, divisor, is_known
from .kernels.gradient import TOTAL
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
    WEIGHT,
    WEIGHTS,
    WHERE,
    WORDS,
)
from .layout import Layout, RowLayout, computed_in
from .operands import Operands

# The words of a call, in the order of `kernels.view`.
_pack = struct.Struct(f"={WORDS - 3}q3d").pack

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
    words = [0, 0, 0, 0, 0, 0, 0, 0, reduction, second, lost, weight, smoothing, scale]
    for row, array in arrays.items():
        words[ADDRESSES + row] = handle(array)
    return words


def _run(layout: Layout, code: Kernel, words: list[Any]) -> float:
    """Run a job on arrays that lie as the layout says."""
    if layout.size < CROSSOVER:
        return _run_here(layout, code, words)
    words[LAYOUT] = layout.address
    return run(code, layout.size, _pack(*words), layout.groups)


def _run_here(layout: Layout | RowLayout, code: Kernel, words: list[Any]) -> float:
    """Run a job on this thread, without a thought of others: it is in one piece."""
    words[LAYOUT] = layout.address
    return code.serial(_pack(*words))


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
    new = enter_result(arrays, RESULT, out, "out")
    if layout is not None:
        layout = layout.with_results(arrays, new)
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


def differentiate_loss(
    arrays: dict[int, np.ndarray],
    layout: Layout | None,
    weight: float,
    smoothing: float,
    reduction: int,
) -> Any:
    """Write the gradient of the reduced loss to its place in ``arrays``, and return the loss."""
    value, words = 0.0, _words(arrays, weight, smoothing)
    by = _divisor(arrays, layout, words, reduction)
    if by == 0:
        arrays[GRADIENT][...] = 0
    elif layout is not None:
        words[SCALE] = weight / by
        value = _run(layout, layout.slopes, words) / by
    return as_scalar(value, arrays[LOGITS].dtype)


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
    arrays: dict[int, np.ndarray],
    layout: Layout | None,
    weight: float,
    smoothing: float,
    second: int,
) -> None:
    """Write weighted gradients and, as results, what is the ``second`` to be computed."""
    if layout is not None:
        words = _words(arrays, weight, smoothing, scale=weight, second=second)
        _run(layout, layout.slopes, words)


def denominator(
    arrays: dict[int, np.ndarray], layout: Layout | None, weight: float, reduction: int
) -> float:
    """Return what the reduction divides by, which weights and ``where`` alone decide."""
    return _divisor(arrays, layout, _words(arrays, weight), reduction)


def _divisor(
    arrays: dict[int, np.ndarray], layout: Layout | None, words: list[Any], reduction: int
) -> float:
    """Return it, given the words of a call whose reduction is the sum."""
    if layout is None or is_known(reduction, WEIGHTS in arrays, WHERE in arrays):
        return _divisor_of_all(reduction, words[WEIGHT], arrays[LOGITS].size)
    counted = layout.counted(arrays)
    # A broadcast weight counts once for each of its uses.
    uses = layout.size // counted.size
    words[REDUCTION] = check(reduction)
    by = uses * _run(counted, counted.weights, words)
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
    _run_here(layout, kernel("bins", dtype), _words(arrays, second=address(table)))


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
    _run_here(layout, kernel("margins", dtype), words)


def add_to_slices(
    rows: np.ndarray, codes: np.ndarray, sums: np.ndarray, dtype: np.dtype[Any]
) -> None:
    """Add sums of rows, for logits of a dtype, to those of slices (see ``kernels.slices``)."""
    arrays = {LOGITS: rows, LABELS: np.ascontiguousarray(codes, np.int64), RESULT: sums}
    computed: Any = computed_in(dtype).type
    _run_here(RowLayout(codes.size), kernel("slices", computed), _words(arrays))


def add_to_groups(
    rows: np.ndarray, codes: np.ndarray, sums: np.ndarray, divisor: float, dtype: np.dtype[Any]
) -> None:
    """Add sums of rows, for logits of a dtype, to those of groups (see ``kernels.group_sums``)."""
    arrays = {LOGITS: rows, LABELS: np.ascontiguousarray(codes, np.int64), RESULT: sums}
    computed: Any = computed_in(dtype).type
    words = _words(arrays, divisor, second=len(rows))
    _run_here(RowLayout(codes.size), kernel("groups", computed), words)


def refuse_out() -> None:
    """Refuse memory for element losses, which are reduced."""
    raise ValueError("Argument `out` holds element losses: it needs `reduction=Reduction.NONE`.")


def enter_result(
    arrays: dict[int, np.ndarray], row: int, given: np.ndarray | None, name: str
) -> bool:
    """Enter memory for a result beside the operands, what was given or new; tell whether it is new.

    The name is that of the argument.
    """
    if given is None:
        arrays[row] = result_like(arrays[LOGITS])
        return True
    arrays[row] = as_out(given, arrays, name)
    return False


def result_like(logits: np.ndarray) -> np.ndarray:
    """Return memory for a result: the shape and layout of the logits, in native byte order."""
    dtype = logits.dtype
    if dtype.isnative:
        return np.empty_like(logits)
    return np.empty_like(logits, dtype=dtype.newbyteorder("="))


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
