"""The loss of all blocks, reduced, or its range without a reduction; and that of each class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import sce_numba as sce
from sce_numba.arguments import as_label_smoothing
from sce_numba.kernels.fused import two_sum
from sce_numba.kernels.margins import COUNT, FIELDS, LABEL
from sce_numba.loss_sums import LossSums, sums_of_part

from .ranges import Ranges
from .result import Groups
from .rows import COUNTED, Formula, Rows, quotient


class Total:
    """The sums of the blocks so far; by class if asked to, or by default if there are classes."""

    def __init__(
        self,
        reduction: sce.Reduction,
        label_smoothing: float,
        by_class: bool | None,
        pos_weight: Any = None,
    ) -> None:
        self._is_range = reduction == sce.Reduction.NONE
        reduction = COUNTED if self._is_range else reduction
        self.formula = Formula(reduction, as_label_smoothing(label_smoothing), pos_weight)
        self._by_class = by_class
        self._sums = LossSums()
        self._range: Any = (np.inf, -np.inf)
        self._classes: _Classes | None = None
        # The number of elements that count.
        self.elements = 0
        self.ranges = Ranges()

    def add(self, rows: Rows) -> None:
        """Add a block; one that raises adds nothing."""
        labels, logits, weights, where = rows.labels, rows.logits, rows.weights, rows.where
        if self._by_class is None:
            self._by_class = logits.ndim > 1
        if self._by_class and logits.ndim < 2:
            raise ValueError("--by-class needs logits with an axis of classes behind that of rows")
        classes = self._classes
        if classes and logits.shape[-1] != classes.size:
            raise ValueError(f"{logits.shape[-1]} classes; before there were {classes.size}")
        if self._by_class:
            # The sums of all elements are those of all classes.
            sums = rows.sums.classes
            self._classes = classes or _Classes(logits.shape[-1], self.formula)
            self._classes.add(sums)
        else:
            reduction, smoothing, pos_weight = self.formula
            operands = labels, logits, weights, smoothing, reduction
            self._sums.merge(sums_of_part(*operands, pos_weight=pos_weight, where=where))
        self.ranges.add(labels, logits, where)
        self.elements += logits.size if where is None else int(np.count_nonzero(where))
        if self._is_range:
            losses = self.formula.elements(labels, logits, weights, where)
            if where is not None:
                losses = losses[where]
            if losses.size:
                least, greatest = self._range
                self._range = np.minimum(least, losses.min()), np.maximum(greatest, losses.max())

    def values(self) -> dict[str, float | None]:
        """Return the loss or, without a reduction, the mean of the elements and their range."""
        loss = self._all().loss(self.formula.reduction)
        if not self._is_range:
            return {"loss": loss}
        least, greatest = self._range if self.elements else (np.nan, np.nan)
        mean = loss if self.elements else np.nan
        return {"loss": float(mean), "least": float(least), "greatest": float(greatest)}

    def is_nan(self) -> bool:
        """Tell whether elements that count have made the loss NaN."""
        return self.elements > 0 and bool(np.isnan(self._all().loss(self.formula.reduction)))

    def denominator(self) -> float:
        """Return what the sum of the losses is divided by."""
        if self.formula.reduction == sce.Reduction.SUM:
            return 1.0
        return float(self._all().denominator)

    def _all(self) -> LossSums:
        return self._classes.all() if self._classes else self._sums

    def classes(self, names: Sequence[str] | None = None) -> Groups | None:
        """Return the loss, the mean label and the number of elements of every class."""
        return self._classes.groups(names) if self._classes else None

    def empty_classes(self) -> list[int]:
        """Return the indices of classes without an element that counts."""
        return np.flatnonzero(self._classes.counts == 0).tolist() if self._classes else []


class _Classes:
    """The sums of each class."""

    def __init__(self, size: int, formula: Formula) -> None:
        self.size, self._reduction = size, formula.reduction
        self._sums, self._compensation = np.zeros((2, FIELDS, size))

    def add(self, sums: np.ndarray) -> None:
        """Add the sums of a block, and their rounding errors."""
        with np.errstate(all="ignore"):
            self._sums, rounding = two_sum(self._sums, sums[0])
            # The error of a sum that is not finite has no meaning.
            self._compensation += np.where(np.isfinite(self._sums), rounding + sums[1], 0.0)

    @property
    def counts(self) -> np.ndarray:
        """How many elements count in each class."""
        counts: np.ndarray = self._sums[COUNT].astype(np.int64)
        return counts

    def all(self) -> LossSums:
        """Return the sums of all classes."""
        result = LossSums()
        for sums in (self._sums, self._compensation):
            for numerator, denominator in sums[:LABEL].T.tolist():
                result.merge(LossSums(numerator, denominator))
        return result

    def groups(self, names: Sequence[str] | None) -> Groups:
        """Return the loss of each class."""
        if names is None:
            names = list(map(str, range(self.size)))
        numerator, denominator, labels, _ = self._sums + self._compensation
        with np.errstate(invalid="ignore"):
            means = labels / self.counts
        return Groups(names, quotient(self._reduction, numerator, denominator), means, self.counts)
