"""The loss of the rows that have the same value in a column."""

from __future__ import annotations

from typing import Any

import numpy as np

from sce_numba.arrow_columns import category_codes
from sce_numba.evaluation import add_to_slices
from sce_numba.kernels.margins import COUNT, FIELDS

from .categories import Categories, Numbers
from .result import Groups
from .rows import Formula, Rows, quotient


class Slices:
    """What the rows so far have come to, by the value that they have in one column."""

    def __init__(self, name: str, formula: Formula) -> None:
        self._name, self._reduction = name, formula.reduction
        self._kinds: Categories | Numbers | None = None
        self._sums = np.zeros((0, FIELDS))

    def add(self, column: Any, rows: Rows) -> None:
        """Add rows, given their values: an array of NumPy or of Arrow."""
        codes, number = self._codes(column)
        if number > len(self._sums):
            # As many again, lest each block copy all of them.
            self._sums = np.pad(self._sums, ((0, 2 * number - len(self._sums)), (0, 0)))
        add_to_slices(rows.own.rows, codes, self._sums, rows.logits.dtype)

    def _codes(self, column: Any) -> tuple[np.ndarray, int]:
        """Return the groups of rows, and how many there are."""
        local, names = category_codes(column)
        kinds = self._kinds or (Numbers() if names is None else Categories(self._name))
        if isinstance(kinds, Numbers) != (names is None):
            raise ValueError(
                f"--by {self._name}: numbers in one file, and none in another; in CSV files "
                "numbers with leading zeros, as 007, are text: put the files into one"
            )
        self._kinds = kinds
        if isinstance(kinds, Categories):
            assert names is not None
            return kinds.codes(local, names), kinds.number
        null = np.ma.getmaskarray(local) if isinstance(local, np.ma.MaskedArray) else None
        return kinds.codes(np.ma.getdata(local), null, self._regroup), kinds.number

    def _regroup(self, targets: np.ndarray, number: int) -> None:
        """Add up the sums of groups that become one."""
        found = np.zeros((number, FIELDS))
        np.add.at(found, targets[: len(self._sums)], self._sums[: targets.size])
        self._sums = found

    def groups(self) -> Groups:
        """Return the losses; missing values are a group if some elements have them."""
        if self._kinds is None:
            return Groups([], *np.zeros((3, 0)))
        names, places = self._kinds.groups(self._sums[:, COUNT])
        self._regroup(places, len(names))
        numerator, by, labels, counts = self._sums.T
        with np.errstate(invalid="ignore"):
            means = labels / counts
        kept = np.flatnonzero((counts > 0) | ~np.isin(names, self._kinds.MISSING))
        loss = quotient(self._reduction, numerator, by)[kept]
        return Groups(
            [names[k] for k in kept.tolist()], loss, means[kept], counts[kept].astype(np.int64)
        )
