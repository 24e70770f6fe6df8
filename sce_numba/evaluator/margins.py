"""The sums of rows and those of classes, in one pass over their elements."""

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
    """Sums of losses, of what these are divided by, of labels, and how many elements count.

    What losses are divided by is how many count where ``Reduction.SUM`` divides by 1.
    """

    # Those of each class, a field at a time, and what rounding has lost in them.
    classes: np.ndarray
    # Those of each row, side by side.
    rows: np.ndarray


class _Layout(Layout):
    """How arrays lie whose last axis has the columns."""

    def _flattened(self, arrays: dict[int, np.ndarray]) -> list[int]:
        words = super()._flattened(arrays)
        size, columns = arrays[LOGITS].size, arrays[LOGITS].shape[-1]
        words[ROWS], words[COLUMNS], words[GROUPS] = size // columns, columns, 1
        return words


def margins_of(given: Operands) -> Margins:
    """Return the sums of all rows, and of their last axis; numbers without one are rows of one."""
    arrays, _, weight, smoothing, reduction = given
    assert reduction is not None
    if arrays[LOGITS].ndim < 2:
        arrays = {row: array.reshape(-1, 1) for row, array in arrays.items()}
    logits = arrays[LOGITS] = np.ascontiguousarray(arrays[LOGITS])
    places = padded(logits.shape[-1]) * FIELDS
    sums = np.zeros(2 * places + math.prod(logits.shape[:-1]) * FIELDS)
    if logits.size:
        key = "margins", *key_of(arrays)
        layout = found(key) or remember(key, _Layout(arrays))
        add_margins(arrays, layout, weight, smoothing, reduction or SUM_OVER_BATCH_SIZE, sums)
    classes = sums[: 2 * places].reshape(2, FIELDS, -1)[..., : logits.shape[-1]]
    rows = sums[2 * places :].reshape(*logits.shape[:-1], FIELDS)
    inner = tuple(range(1, rows.ndim - 1))
    return Margins(classes, rows.sum(axis=inner) if inner else rows)
