"""How the arrays of a call lie, worked out once for all that lie so: a flattened view of them.

Axes of length 1 are dropped, the rest are put in the order of the logits' memory, and
neighbours that every array steps through evenly are joined.  A contiguous array of any rank
thus becomes one row; ``[batch, 1]`` or ``[1, classes]`` weights make it rows and columns, with
a stride of 0 along what is broadcast.  Nothing is copied.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from typing import Any, NamedTuple

import numpy as np

from .arguments import dtype_code
from .kernels import loss as kernel
from .kernels.block import SHORT
from .kernels.staging import ADDRESS, STRIDES

# Where NumPy's C struct of an array holds the address of the first element: behind what every
# object of CPython begins with.  `__array_interface__` takes as long as a small kernel to tell it.
_DATA = object.__basicsize__


def _data_field(array: np.ndarray) -> int:
    """Return the address of the first element, from the struct of the array."""
    return ctypes.c_ssize_t.from_address(id(array) + _DATA).value


def _interface(array: np.ndarray) -> int:
    """Return the address of the first element, as any Python tells it."""
    found: int = array.__array_interface__["data"][0]
    return found


_PROBE = np.zeros(1)
_IS_THERE = sys.implementation.name == "cpython" and _data_field(_PROBE) == _interface(_PROBE)
address = _data_field if _IS_THERE else _interface

_SINGLE, _DOUBLE = np.dtype(np.float32), np.dtype(np.float64)

# Of so many layouts those last used are remembered.
REMEMBERED = 256


class _Operand(NamedTuple):
    """What matters of an array but for its address; ``row`` is that of the kernels' table."""

    row: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    is_aligned: bool


class Layout(NamedTuple):
    """The flattened view of some arrays."""

    axes: list[int]  # the axes of the arrays that are left, the slowest first
    shape: np.ndarray  # the joined axes
    table: np.ndarray  # the operands table, without addresses
    rows: int
    columns: int
    by_element: bool  # whether the weight varies along a row
    weight_steps: tuple[int, int]  # elements from row to row and from column to column
    is_contiguous: bool  # whether the loops over contiguous logits and labels apply

    def operands_table(self, arrays: dict[int, np.ndarray]) -> np.ndarray:
        """Return the table that tells the kernels where each array lies, and how to read it."""
        table: np.ndarray = self.table.copy()
        for row, array in arrays.items():
            table[row, ADDRESS] = address(array)
        return table

    def ravel(self, array: np.ndarray) -> Any:
        """Return a contiguous array as one dimension in the order of the view, without a copy."""
        rest = [k for k in range(array.ndim) if k not in self.axes]
        return array.transpose(rest + self.axes).reshape(-1)


def computed_in(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype in which losses of logits of a dtype are computed."""
    return _DOUBLE if dtype.kind == "f" and dtype.itemsize == 8 else _SINGLE


def layout_of(arrays: dict[int, np.ndarray]) -> Layout:
    """Return the flattened view; all arrays but the weights have the shape of the logits."""
    operands = [
        (row, array.dtype, array.shape, array.strides, array.flags.aligned)
        for row, array in arrays.items()
    ]
    return _layout(tuple(operands))


@functools.lru_cache(REMEMBERED)
def _layout(given: tuple[tuple[Any, ...], ...]) -> Layout:
    operands = {fields[0]: _Operand(*fields) for fields in given}
    logits = operands[kernel.LOGITS]
    axes = [k for k, size in enumerate(logits.shape) if size != 1]
    axes.sort(key=lambda k: -abs(logits.strides[k]))
    shape: list[int] = []
    strides: dict[int, list[int]] = {row: [] for row in operands}
    for k in axes:
        size = logits.shape[k]
        steps = {row: a.strides[k] if a.shape[k] != 1 else 0 for row, a in operands.items()}
        if shape and all(strides[row][-1] == steps[row] * size for row in operands):
            shape[-1] *= size
            for row in operands:
                strides[row][-1] = steps[row]
        else:
            shape.append(size)
            for row in operands:
                strides[row].append(steps[row])
    if not shape:
        shape, strides = [1], {row: [a.dtype.itemsize] for row, a in operands.items()}
    size, columns = int(np.prod(shape, dtype=np.int64)), shape[-1]
    if columns < SHORT:  # too short to be worth a tile: blocks go across
        columns = size
    weight_steps = [0, 0]
    if kernel.WEIGHTS in operands:
        itemsize = operands[kernel.WEIGHTS].dtype.itemsize
        weight_steps = [step // itemsize for step in [0, *strides[kernel.WEIGHTS]]][-2:]
    varies = kernel.WEIGHTS in operands and (
        columns != shape[-1] or strides[kernel.WEIGHTS][-1] != 0
    )
    return Layout(
        axes,
        np.array(shape, np.int64),
        _table(operands, strides),
        size // columns,
        columns,
        varies or kernel.WHERE in operands or kernel.POS_WEIGHT in operands,
        (weight_steps[0], weight_steps[1]),
        _are_contiguous(operands, shape, strides),
    )


def _table(operands: dict[int, _Operand], strides: dict[int, list[int]]) -> np.ndarray:
    """Return the operands table without addresses."""
    table = np.zeros((kernel.OPERANDS, STRIDES + len(strides[kernel.LOGITS])), np.int64)
    for row, operand in operands.items():
        native = operand.dtype.isnative
        itemsize, code = operand.dtype.itemsize, dtype_code(operand.dtype)
        direct = operand.is_aligned and native
        table[row] = np.array([0, code, itemsize, direct, not native, *strides[row]])
    return table


def _are_contiguous(
    operands: dict[int, _Operand], shape: list[int], strides: dict[int, list[int]]
) -> bool:
    """Tell whether logits, labels and results lie in the order of the view, without gaps.

    Weights, which are none or of the dtype that is computed in, may be broadcast along rows or
    along columns.
    """
    if kernel.LABELS not in operands or kernel.WHERE in operands or kernel.POS_WEIGHT in operands:
        return False
    computed = computed_in(operands[kernel.LOGITS].dtype)
    for row, operand in operands.items():
        if not operand.is_aligned or not operand.dtype.isnative:
            return False
        if row in (kernel.WEIGHTS, kernel.RESULT) and operand.dtype != computed:
            return False
        if row != kernel.WEIGHTS and not _has_no_gaps(shape, strides[row], operand.dtype.itemsize):
            return False
    if kernel.WEIGHTS not in operands:
        return True
    steps, weights = strides[kernel.WEIGHTS], operands[kernel.WEIGHTS]
    packed = any(
        _has_no_gaps(weights.shape[::order], weights.strides[::order], weights.dtype.itemsize)
        for order in (1, -1)
    )
    varies_both_ways = len(steps) == 2 and steps[0] and steps[1]
    return (
        len(steps) <= 2 and steps[-1] in (0, computed.itemsize) and packed and not varies_both_ways
    )


def _has_no_gaps(shape: Any, strides: Any, itemsize: int) -> bool:
    """Tell whether elements follow each other in memory, those of the last axis the closest."""
    expected = itemsize
    for size, step in zip(reversed(shape), reversed(strides), strict=True):
        if size != 1 and step != expected:
            return False
        expected *= size
    return True
