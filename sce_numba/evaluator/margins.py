"""The sums of rows and those of classes, from one pass over the elements."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from sce_numba.evaluation import add_margins
from sce_numba.kernels.divisor import SUM_OVER_BATCH_SIZE
from sce_numba.kernels.margins import FIELDS, padded
from sce_numba.kernels.view import COLUMNS, GROUPS, LOGITS, ROWS
from sce_numba.layout import Layout, found, key_of, remember
from sce_numba.operands import Operands


class Margins(NamedTuple):
    """Sums of losses, of their denominators and of labels, and how many elements count.

    For ``Reduction.SUM``, which divides by 1, the denominator is how many elements count.
    """

    # Those of each class, a field at a time, and their rounding errors.
    classes: np.ndarray
    # Those of each row, side by side.
    rows: np.ndarray


class _Layout(Layout):
    """The layout of arrays as rows and columns, the last axis being that of the columns."""

    def _flattened(self, arrays: dict[int, np.ndarray]) -> list[int]:
        words = super()._flattened(arrays)
        size, columns = arrays[LOGITS].size, arrays[LOGITS].shape[-1]
        words[ROWS], words[COLUMNS], words[GROUPS] = size // columns, columns, 1
        return words


def margins_of(operands: Operands) -> Margins:
    """Return the sums of each row and of each class; 1-D arrays have one class."""
    arrays, _, weight, smoothing, reduction = operands
    assert reduction is not None
    if arrays[LOGITS].ndim < 2:
        arrays = {row: array.reshape(-1, 1) for row, array in arrays.items()}
    logits = arrays[LOGITS] = np.ascontiguousarray(arrays[LOGITS])
    class_sums = padded(logits.shape[-1]) * FIELDS
    sums = np.zeros(2 * class_sums + math.prod(logits.shape[:-1]) * FIELDS)
    if logits.size:
        key = "margins", *key_of(arrays)
        layout = found(key) or remember(key, _Layout(arrays))
        add_margins(arrays, layout, weight, smoothing, reduction or SUM_OVER_BATCH_SIZE, sums)
    classes = sums[: 2 * class_sums].reshape(2, FIELDS, -1)[..., : logits.shape[-1]]
    rows = sums[2 * class_sums :].reshape(*logits.shape[:-1], FIELDS)
    inner = tuple(range(1, rows.ndim - 1))
    return Margins(classes, rows.sum(axis=inner) if inner else rows)
