"""Arrays of one shape, and weights broadcast to it, as the flattened view that the kernels read.

Axes of length 1 are dropped, the rest are put in the order of the logits' memory, and
neighbours that every array steps through evenly are joined.  A contiguous array of any rank
thus becomes one row; ``[batch, 1]`` or ``[1, classes]`` weights make it rows and columns, with
a stride of 0 along what is broadcast.  Nothing is copied.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .arguments import dtype_code
from .kernels import loss as kernel
from .kernels.block import SHORT
from .kernels.staging import STRIDES


class View(NamedTuple):
    """The flattened view of some arrays, each known by its row in the kernels' operands table."""

    axes: list[int]  # the axes of the arrays that are left, the slowest first
    shape: list[int]  # the joined axes
    strides: dict[int, list[int]]  # bytes along the joined axes
    rows: int
    columns: int
    by_element: bool  # whether the weight varies along a row


def flatten(arrays: dict[int, np.ndarray]) -> View:
    """Return the flattened view; all arrays but the weights have the shape of the logits."""
    logits = arrays[kernel.LOGITS]
    axes = [k for k, size in enumerate(logits.shape) if size != 1]
    axes.sort(key=lambda k: -abs(logits.strides[k]))
    shape: list[int] = []
    strides: dict[int, list[int]] = {row: [] for row in arrays}
    for k in axes:
        size = logits.shape[k]
        steps = {row: a.strides[k] if a.shape[k] != 1 else 0 for row, a in arrays.items()}
        if shape and all(strides[row][-1] == steps[row] * size for row in arrays):
            shape[-1] *= size
            for row in arrays:
                strides[row][-1] = steps[row]
        else:
            shape.append(size)
            for row in arrays:
                strides[row].append(steps[row])
    if not shape:
        shape, strides = [1], {row: [a.itemsize] for row, a in arrays.items()}
    columns = shape[-1]
    if columns < SHORT:  # too short to be worth a tile: blocks go across
        columns = logits.size
    varies = kernel.WEIGHTS in arrays and (columns != shape[-1] or strides[kernel.WEIGHTS][-1] != 0)
    by_element = varies or kernel.WHERE in arrays or kernel.POS_WEIGHT in arrays
    return View(axes, shape, strides, logits.size // columns, columns, by_element)


def operands_table(arrays: dict[int, np.ndarray], view: View) -> np.ndarray:
    """Return the table that tells the kernels where each array lies, and how to read it."""
    table = np.zeros((kernel.OPERANDS, STRIDES + len(view.shape)), np.int64)
    for row, array in arrays.items():
        native = array.dtype.isnative
        # In the order of the columns: an assignment to each takes three times as long.
        table[row] = [
            array.__array_interface__["data"][0],
            dtype_code(array.dtype),
            array.itemsize,
            array.flags.aligned and native,
            not native,
            *view.strides[row],
        ]
    return table


def is_contiguous(array: np.ndarray, steps: list[int], view: View) -> bool:
    """Tell whether an array lies in memory exactly in the order of the view, without gaps."""
    expected = array.itemsize
    for size, step in zip(reversed(view.shape), reversed(steps), strict=True):
        if step != expected:
            return False
        expected *= size
    return array.flags.aligned


def ravel(array: np.ndarray, view: View) -> Any:
    """Return a contiguous array as one dimension in the order of the view, without a copy."""
    rest = [k for k in range(array.ndim) if k not in view.axes]
    return array.transpose(rest + view.axes).reshape(-1)
