"""The loss of the blocks so far: reduced or, without a reduction, its range; and class by class."""

from __future__ import annotations

from typing import Any

import numpy as np

import sce_numba as sce

from .ranges import Ranges


class Total:
    """What blocks have come to."""

    def __init__(
        self, reduction: sce.Reduction, label_smoothing: float, by_class: bool, pos_weight: Any
    ) -> None:
        self._is_range = reduction == sce.Reduction.NONE
        self._reduction = sce.Reduction.SUM_OVER_BATCH_SIZE if self._is_range else reduction
        self._label_smoothing = label_smoothing
        self._by_class = by_class
        self._pos_weight = pos_weight
        self._loss = self._accumulator(pos_weight)
        self._range: Any = (np.inf, -np.inf)
        self._classes: list[sce.LossAccumulator] = []
        self._labels: Any = ()
        self._counts: Any = ()
        # Of the elements in all blocks, those that count.
        self.elements = 0
        self.ranges = Ranges()

    def _accumulator(self, pos_weight: Any) -> sce.LossAccumulator:
        return sce.LossAccumulator(self._reduction, self._label_smoothing, pos_weight)

    def add(
        self, labels: np.ndarray, logits: np.ndarray, weights: Any, where: np.ndarray | None
    ) -> None:
        """Add a block; one that raises adds nothing."""
        if self._by_class and logits.ndim < 2:
            raise ValueError("--by-class needs logits with an axis of classes behind that of rows")
        self._loss.update(labels, logits, weights, where)
        self.ranges.add(labels, logits, where)
        self.elements += logits.size if where is None else int(np.count_nonzero(where))
        if self._is_range:
            losses = sce.sigmoid_cross_entropy(
                labels,
                logits,
                weights,
                label_smoothing=self._label_smoothing,
                reduction=sce.Reduction.NONE,
                pos_weight=self._pos_weight,
                where=where,
            )
            if where is not None:
                losses = losses[where]
            if losses.size:
                least, greatest = self._range
                self._range = np.minimum(least, losses.min()), np.maximum(greatest, losses.max())
        if self._by_class:
            self._add_classes(labels, logits, weights, where)

    def _add_classes(
        self, labels: np.ndarray, logits: np.ndarray, weights: Any, where: np.ndarray | None
    ) -> None:
        classes = logits.shape[-1]
        if not self._classes:
            self._labels, self._counts = np.zeros(classes), np.zeros(classes, np.int64)
            pos_weights = [self._pos_weight] * classes
            if np.ndim(self._pos_weight):
                pos_weights = list(self._pos_weight)
            self._classes = [self._accumulator(own) for own in pos_weights]
        axes = tuple(range(labels.ndim - 1))
        if where is None:
            self._counts += logits.size // max(classes, 1)
            self._labels += labels.sum(axis=axes, dtype=np.float64)
        else:
            self._counts += np.count_nonzero(where, axis=axes)
            self._labels += labels.sum(axis=axes, dtype=np.float64, where=where)
        # The elements of a class side by side: a copy of the block is faster than many strides.
        columns = [
            np.ascontiguousarray(np.moveaxis(array, -1, 0))
            for array in (labels, logits, where)
            if array is not None
        ]
        for number, loss in enumerate(self._classes):
            own = weights
            if np.ndim(weights):
                own = weights[..., number if weights.shape[-1] > 1 else 0]
            chosen = None if where is None else columns[2][number]
            loss.update(columns[0][number], columns[1][number], own, chosen)

    def values(self) -> dict[str, Any]:
        """Return the loss, or the least, mean and greatest of its elements."""
        if not self._is_range:
            return {"loss": self._loss.result()}
        least, greatest = self._range if self.elements else (np.nan, np.nan)
        mean = self._loss.result() if self.elements else np.nan
        return {"loss_min": least, "loss_mean": mean, "loss_max": greatest}

    def classes(self) -> list[dict[str, Any]]:
        """Return for every class its loss, the mean of its labels and the number of them."""
        return [
            {
                "class": number,
                "loss": loss.result(),
                "mean_label": self._labels[number] / count if count else np.nan,
                "elements": int(count),
            }
            for number, (loss, count) in enumerate(zip(self._classes, self._counts, strict=True))
        ]
