"""The loss of the rows with the same value in a column: of each slice of the data."""

from __future__ import annotations

from typing import Any

import numpy as np

from sce_numba.arrow_columns import category_codes
from sce_numba.evaluation import add_rows
from sce_numba.kernels.margins import COUNT, FIELDS

from .categories import Categories, Numbers
from .result import Groups
from .rows import Formula, Rows, quotient


class Slices:
    """The sums of the rows so far, by their values in one column."""

    def __init__(self, name: str, formula: Formula) -> None:
        self._name, self._reduction = name, formula.reduction
        self._categories: Categories | Numbers | None = None
        self._sums = np.zeros((0, FIELDS))

    def add(self, column: Any, rows: Rows) -> None:
        """Add rows, given their values in the column as an array of NumPy or of Arrow."""
        codes, count = self._codes(column)
        if count > len(self._sums):
            # Twice as many, so that not every block copies all of them.
            self._sums = np.pad(self._sums, ((0, 2 * count - len(self._sums)), (0, 0)))
        add_rows("slices", rows.sums.rows, codes, self._sums, rows.logits.dtype)

    def _codes(self, column: Any) -> tuple[np.ndarray, int]:
        """Return the group of each row, and how many groups there are."""
        values, names = category_codes(column)
        categories = self._categories or (Numbers() if names is None else Categories(self._name))
        if isinstance(categories, Numbers) != (names is None):
            raise ValueError(
                f"--by {self._name}: numbers in one file, and none in another; in CSV files "
                "numbers with leading zeros, as 007, are text: put the files into one"
            )
        self._categories = categories
        if isinstance(categories, Categories):
            assert names is not None
            return categories.codes(values, names), categories.count
        null = np.ma.getmaskarray(values) if isinstance(values, np.ma.MaskedArray) else None
        return categories.codes(np.ma.getdata(values), null, self._regroup), categories.count

    def _regroup(self, targets: np.ndarray, count: int) -> None:
        """Move the sums of each group to its new one, adding up those that become one."""
        merged = np.zeros((count, FIELDS))
        np.add.at(merged, targets[: len(self._sums)], self._sums[: targets.size])
        self._sums = merged

    def groups(self) -> Groups:
        """Return the losses; missing values are a group if there are any."""
        if self._categories is None:
            return Groups([], *np.zeros((3, 0)))
        names, positions = self._categories.groups(self._sums[:, COUNT])
        self._regroup(positions, len(names))
        numerator, denominator, labels, counts = self._sums.T
        with np.errstate(invalid="ignore"):
            means = labels / counts
        kept = np.flatnonzero((counts > 0) | ~np.isin(names, self._categories.MISSING))
        loss = quotient(self._reduction, numerator, denominator)[kept]
        return Groups(
            [names[k] for k in kept.tolist()], loss, means[kept], counts[kept].astype(np.int64)
        )
