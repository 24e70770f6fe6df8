"""The loss of the blocks so far: reduced or, without a reduction, its range; and class by class."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

import sce_numba as sce
from sce_numba.sums_along import SumsAlong, sums_of_losses_along

from .ranges import Ranges

# The reduction that divides by how many elements count.
_COUNTED = sce.Reduction.SUM_OVER_BATCH_SIZE


class Total:
    """What blocks have come to."""

    def __init__(
        self,
        reduction: sce.Reduction,
        label_smoothing: float,
        by_class: bool,
        pos_weight: Any = None,
    ) -> None:
        self._is_range = reduction == sce.Reduction.NONE
        self._reduction = sce.Reduction.SUM_OVER_BATCH_SIZE if self._is_range else reduction
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

    def values(self) -> dict[str, Any]:
        """Return the loss, or the least, mean and greatest of its elements."""
        if not self._is_range:
            return {"loss": self._loss.result()}
        least, greatest = self._range if self.elements else (np.nan, np.nan)
        mean = self._loss.result() if self.elements else np.nan
        return {"loss_min": least, "loss_mean": mean, "loss_max": greatest}

    def classes(self) -> Iterable[dict[str, Any]]:
        """Return for every class its loss, the mean of its labels and the number of them."""
        return self._classes or ()

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
        given = labels.astype(np.float64), 1.0, _COUNTED, where
        self._labels.merge(sums_of_losses_along(self._rows, False, *given))

    @property
    def counts(self) -> np.ndarray:
        """How many elements count in each class."""
        return self._labels.denominator.rounded().astype(np.int64)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        losses, labels = self._losses.result(), self._labels.loss(_COUNTED)
        for number, count in enumerate(self.counts.tolist()):
            yield {
                "class": number,
                "loss": float(losses[number]),
                "mean_label": float(labels[number]) if count else np.nan,
                "elements": count,
            }
