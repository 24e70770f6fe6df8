"""The loss of the rows that have the same value in a column."""

from __future__ import annotations

from typing import Any

import numpy as np

from sce_numba.arrow_columns import category_codes

from .categories import Categories, Numbers
from .result import Groups
from .rows import Formula, Rows, quotient

# The sums of a group: ``Rows.fields``.
FIELDS = 4


class Slices:
    """What the rows so far have come to, by the value that they have in one column."""

    def __init__(self, name: str, formula: Formula) -> None:
        self._name, self._reduction = name, formula.reduction
        self._kinds: Categories | Numbers | None = None
        self._sums = np.zeros((FIELDS, 0))

    def add(self, column: Any, rows: Rows) -> None:
        """Add rows, given their values: an array of NumPy or of Arrow."""
        codes, number = self._codes(column)
        if number > self._sums.shape[1]:
            # As many again, lest each block copy all of them.
            self._sums = np.pad(self._sums, ((0, 0), (0, 2 * number - self._sums.shape[1])))
        found: dict[int, np.ndarray] = {}
        for total, values in zip(self._sums, rows.fields, strict=True):
            if id(values) not in found:
                found[id(values)] = np.bincount(codes, values, total.size)
            total += found[id(values)]

    def _codes(self, column: Any) -> tuple[np.ndarray, int]:
        """Return the groups of rows, and how many there are."""
        local, names = category_codes(column)
        kinds = self._kinds or (Numbers() if names is None else Categories(self._name))
        if isinstance(kinds, Numbers) != (names is None):
            raise ValueError(f"--by {self._name}: numbers in one file, and none in another")
        self._kinds = kinds
        if isinstance(kinds, Categories):
            assert names is not None
            return kinds.codes(local, names), kinds.number
        null = np.ma.getmaskarray(local) if isinstance(local, np.ma.MaskedArray) else None
        return kinds.codes(np.ma.getdata(local), null, self._regroup), kinds.number

    def _regroup(self, targets: np.ndarray, number: int) -> None:
        """Add up the sums of groups that become one."""
        found = np.zeros((FIELDS, number))
        for row, values in zip(found, self._sums, strict=True):
            np.add.at(row, targets[: values.size], values[: targets.size])
        self._sums = found

    def groups(self) -> Groups:
        """Return the losses; missing values are a group if some elements have them."""
        if self._kinds is None:
            return Groups([], *np.zeros((3, 0)))
        names, places = self._kinds.groups(self._sums[3])
        self._regroup(places, len(names))
        numerator, by, labels, counts = self._sums
        with np.errstate(invalid="ignore"):
            means = labels / counts
        kept = np.flatnonzero((counts > 0) | ~np.isin(names, self._kinds.MISSING))
        loss = quotient(self._reduction, numerator, by)[kept]
        return Groups(
            [names[k] for k in kept.tolist()], loss, means[kept], counts[kept].astype(np.int64)
        )
