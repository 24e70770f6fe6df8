"""The loss of the blocks so far: reduced or, without a reduction, its range; and class by class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import sce_numba as sce
from sce_numba.sums_along import SumsAlong, sums_of_losses_along

from .ranges import Ranges
from .result import Groups
from .rows import COUNTED, as_floats


class Total:
    """What blocks have come to; by class wherever there are some, if that is left open."""

    def __init__(
        self,
        reduction: sce.Reduction,
        label_smoothing: float,
        by_class: bool | None,
        pos_weight: Any = None,
    ) -> None:
        self._is_range = reduction == sce.Reduction.NONE
        self._reduction = COUNTED if self._is_range else reduction
        self._label_smoothing = label_smoothing
        self._by_class = by_class
        self._pos_weight = pos_weight
        self._loss = sce.LossAccumulator(self._reduction, label_smoothing, pos_weight)
        self._range: Any = (np.inf, -np.inf)
        self._classes: _Classes | None = None
        # Of the elements in all blocks, those that count.
        self.elements = 0
        self.ranges = Ranges()

    def add(
        self,
        labels: np.ndarray,
        logits: np.ndarray,
        weights: Any,
        where: np.ndarray | None = None,
    ) -> None:
        """Add a block; one that raises adds nothing."""
        if self._by_class is None:
            self._by_class = logits.ndim > 1
        if self._by_class and logits.ndim < 2:
            raise ValueError("--by-class needs logits with an axis of classes behind that of rows")
        classes = self._classes
        if classes and logits.shape[-1] != classes.number:
            raise ValueError(f"{logits.shape[-1]} classes; before there were {classes.number}")
        self._loss.update(labels, logits, weights, where)
        self.ranges.add(labels, logits, where)
        self.elements += logits.size if where is None else int(np.count_nonzero(where))
        if self._is_range:
            losses = self._losses(labels, logits, weights, where)
            if where is not None:
                losses = losses[where]
            if losses.size:
                least, greatest = self._range
                self._range = np.minimum(least, losses.min()), np.maximum(greatest, losses.max())
        if self._by_class:
            options = self._reduction, self._label_smoothing, self._pos_weight
            rows = tuple(range(logits.ndim - 1))
            self._classes = classes or _Classes(logits.shape[-1], rows, *options)
            self._classes.add(labels, logits, weights, where)

    def _losses(
        self, labels: np.ndarray, logits: np.ndarray, weights: Any, where: np.ndarray | None
    ) -> np.ndarray:
        losses: np.ndarray = sce.sigmoid_cross_entropy(
            labels,
            logits,
            weights,
            label_smoothing=self._label_smoothing,
            reduction=sce.Reduction.NONE,
            pos_weight=self._pos_weight,
            where=where,
        )
        return losses

    def values(self) -> dict[str, float | None]:
        """Return the loss or, without a reduction, the mean of the elements and their range."""
        if not self._is_range:
            return {"loss": float(self._loss.result())}
        least, greatest = self._range if self.elements else (np.nan, np.nan)
        mean = self._loss.result() if self.elements else np.nan
        return {"loss": float(mean), "least": float(least), "greatest": float(greatest)}

    def denominator(self) -> float:
        """Return what the sum of the losses is divided by."""
        if self._reduction == sce.Reduction.SUM:
            return 1.0
        sums: Any = self._loss._newest().sums
        return float(sums.denominator)

    def classes(self, names: Sequence[str] | None = None) -> Groups | None:
        """Return for every class its loss, the mean of its labels and the number of them."""
        return self._classes.groups(names) if self._classes else None

    def empty_classes(self) -> list[int]:
        """Return the classes of which no element counts."""
        return np.flatnonzero(self._classes.counts == 0).tolist() if self._classes else []


class _Classes:
    """The losses of classes side by side, and what their labels are."""

    def __init__(self, number: int, rows: tuple[int, ...], *options: Any) -> None:
        self.number = number
        self._rows = rows
        self._losses = sce.LossAccumulator(*options, axis=rows)
        self._labels = SumsAlong()

    def add(
        self, labels: np.ndarray, logits: np.ndarray, weights: Any, where: np.ndarray | None
    ) -> None:
        """Add a block."""
        self._losses.update(labels, logits, weights, where)
        # Their mean is that of losses that are labels.
        given = as_floats(labels), 1.0, COUNTED, where
        self._labels.merge(sums_of_losses_along(self._rows, False, *given))

    @property
    def counts(self) -> np.ndarray:
        """How many elements count in each class."""
        return self._labels.denominator.rounded().astype(np.int64)

    def groups(self, names: Sequence[str] | None) -> Groups:
        """Return what there is of each."""
        if names is None:
            names = list(map(str, range(self.number)))
        counts = self.counts
        means = np.where(counts > 0, self._labels.loss(COUNTED), np.nan)
        return Groups(names, self._losses.result(), means, counts)
