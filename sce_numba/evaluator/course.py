"""The loss along the rows, in at most 200 pieces of as many rows each."""

from __future__ import annotations

import numpy as np

from sce_numba.kernels.margins import LABEL

from .result import Course
from .rows import Rows

PIECES = 200


class CourseOfRows:
    """The sums of the rows so far, piece by piece."""

    def __init__(self, rows: int) -> None:
        self._step = max(-(-rows // PIECES), 1)
        self._sums = np.zeros((LABEL, -(-rows // self._step)))

    def add(self, rows: Rows, start: int) -> None:
        """Add rows, given the number of the first."""
        first, last = start // self._step, (start + len(rows) - 1) // self._step
        begins = np.maximum(np.arange(first, last + 1) * self._step - start, 0)
        for total, values in zip(self._sums, rows.sums.rows.T[:LABEL], strict=True):
            total[first : last + 1] += np.add.reduceat(values, begins)

    def course(self, rows: int) -> Course:
        """Return the mean loss of each piece, if there were so many rows."""
        pieces = -(-rows // self._step)
        edges = np.minimum(np.arange(pieces + 1) * self._step, rows)
        numerator, denominator = self._sums[:, :pieces]
        with np.errstate(all="ignore"):
            return Course(edges, numerator / denominator)
