"""The loss of the blocks so far: reduced or, without a reduction, its range; and class by class."""

from __future__ import annotations

from typing import Any

import numpy as np

import sce_numba as sce


class Total:
    """What blocks have come to."""

    def __init__(self, reduction: sce.Reduction, label_smoothing: float, by_class: bool) -> None:
        self._elements = reduction == sce.Reduction.NONE
        self._reduction = sce.Reduction.SUM_OVER_BATCH_SIZE if self._elements else reduction
        self._label_smoothing = label_smoothing
        self._by_class = by_class
        self._loss = self._accumulator()
        self._least: Any = np.nan
        self._greatest: Any = np.nan
        self._classes: list[sce.LossAccumulator] = []
        self._labels: Any = ()

    def _accumulator(self) -> sce.LossAccumulator:
        return sce.LossAccumulator(self._reduction, self._label_smoothing)

    def add(self, labels: np.ndarray, logits: np.ndarray, weights: Any) -> None:
        """Add a block; one that raises adds nothing."""
        if self._by_class and logits.ndim < 2:
            raise ValueError("--by-class needs logits with an axis of classes behind that of rows")
        if self._classes and logits.shape[-1] != len(self._classes):
            raise ValueError(f"{logits.shape[-1]} classes; before there were {len(self._classes)}")
        first = self._loss.count == 0
        self._loss.update(labels, logits, weights)
        if self._elements and logits.size:
            losses = sce.sigmoid_cross_entropy(
                labels,
                logits,
                weights,
                label_smoothing=self._label_smoothing,
                reduction=sce.Reduction.NONE,
            )
            least, greatest = losses.min(), losses.max()
            self._least = least if first else np.minimum(self._least, least)
            self._greatest = greatest if first else np.maximum(self._greatest, greatest)
        if self._by_class:
            self._add_classes(labels, logits, weights)

    def _add_classes(self, labels: np.ndarray, logits: np.ndarray, weights: Any) -> None:
        if not self._classes:
            self._classes = [self._accumulator() for _ in range(logits.shape[-1])]
            self._labels = np.zeros(logits.shape[-1])
        self._labels += labels.sum(axis=tuple(range(labels.ndim - 1)), dtype=np.float64)
        # The elements of a class side by side: a copy of the block is faster than many strides.
        columns = [np.ascontiguousarray(np.moveaxis(array, -1, 0)) for array in (labels, logits)]
        for number, loss in enumerate(self._classes):
            own = weights
            if np.ndim(weights):
                own = weights[..., number if weights.shape[-1] > 1 else 0]
            loss.update(columns[0][number], columns[1][number], own)

    def values(self) -> dict[str, Any]:
        """Return the loss, or the least, mean and greatest of its elements."""
        if not self._elements:
            return {"loss": self._loss.result()}
        mean = self._loss.result() if self._loss.count else np.nan
        return {"loss_min": self._least, "loss_mean": mean, "loss_max": self._greatest}

    def classes(self) -> list[dict[str, Any]]:
        """Return for every class its loss and the mean of its labels."""
        return [
            {
                "class": number,
                "loss": loss.result(),
                "mean_label": self._labels[number] / loss.count,
            }
            for number, loss in enumerate(self._classes)
            if loss.count
        ]
