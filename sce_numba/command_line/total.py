"""The loss of the blocks so far: reduced or, without a reduction, its range; and class by class."""

from __future__ import annotations

import math
from collections.abc import Iterator
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
        self._loss = sce.LossAccumulator(self._reduction, self._label_smoothing)
        self._least: Any = np.nan
        self._greatest: Any = np.nan
        self._classes: _Classes | None = None

    def add(self, labels: np.ndarray, logits: np.ndarray, weights: Any) -> None:
        """Add a block; one that raises adds nothing."""
        if self._by_class and logits.ndim < 2:
            raise ValueError("--by-class needs logits with an axis of classes behind that of rows")
        classes = self._classes
        if classes and logits.shape[-1] != classes.number:
            raise ValueError(f"{logits.shape[-1]} classes; before there were {classes.number}")
        first = self._loss.count == 0
        self._loss.update(labels, logits, weights)
        if self._elements and logits.size:
            losses = self._losses(labels, logits, weights)
            least, greatest = losses.min(), losses.max()
            self._least = least if first else np.minimum(self._least, least)
            self._greatest = greatest if first else np.maximum(self._greatest, greatest)
        if self._by_class:
            # Rounded to float64 alone, the losses of a class are worth being added exactly.
            losses = self._losses(labels, logits.astype(np.float64), weights)
            self._classes = classes or _Classes(logits.shape[-1], self._reduction)
            self._classes.add(losses, labels, weights)

    def _losses(self, labels: np.ndarray, logits: np.ndarray, weights: Any) -> np.ndarray:
        losses: np.ndarray = sce.sigmoid_cross_entropy(
            labels,
            logits,
            weights,
            label_smoothing=self._label_smoothing,
            reduction=sce.Reduction.NONE,
        )
        return losses

    def values(self) -> dict[str, Any]:
        """Return the loss, or the least, mean and greatest of its elements."""
        if not self._elements:
            return {"loss": self._loss.result()}
        mean = self._loss.result() if self._loss.count else np.nan
        return {"loss_min": self._least, "loss_mean": mean, "loss_max": self._greatest}

    def classes(self) -> Iterator[dict[str, Any]]:
        """Yield for every class its loss and the mean of its labels."""
        if self._classes and self._loss.count:
            yield from self._classes


class _Classes:
    """The losses of classes side by side: an accumulator for each would take a kilobyte each."""

    def __init__(self, number: int, reduction: sce.Reduction) -> None:
        self.number = number
        self._reduction = reduction
        self._losses, self._weights, self._labels = (_Sums(number) for _ in range(3))
        self._count = 0

    def add(self, losses: np.ndarray, labels: np.ndarray, weights: Any) -> None:
        self._count += math.prod(losses.shape[:-1])
        self._losses.add(losses)
        self._labels.add(labels)
        if self._reduction == sce.Reduction.MEAN:
            self._weights.add(np.broadcast_to(weights, losses.shape))
        elif self._reduction == sce.Reduction.SUM_BY_NONZERO_WEIGHTS:
            self._weights.add(np.broadcast_to(np.not_equal(weights, 0), losses.shape))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        losses, labels = self._losses.rounded(), self._labels.rounded()
        divisors = self._weights.rounded()
        if self._reduction == sce.Reduction.SUM:
            divisors += 1
        elif self._reduction == sce.Reduction.SUM_OVER_BATCH_SIZE:
            divisors += self._count
        for number, (loss, divisor) in enumerate(zip(losses, divisors, strict=True)):
            yield {
                "class": number,
                "loss": float(loss) / float(divisor) if divisor else 0.0,
                "mean_label": float(labels[number]) / self._count,
            }


class _Sums:
    """Sums of numbers that come row by row, with twice the digits of float64."""

    def __init__(self, columns: int) -> None:
        self._sums, self._lost = np.zeros((2, columns))

    def add(self, rows: np.ndarray) -> None:
        """Add all rows, halves to halves."""
        rows = rows.astype(np.float64).reshape(-1, rows.shape[-1])
        with np.errstate(invalid="ignore", over="ignore"):
            while len(rows) > 1:
                half = len(rows) // 2
                sums = self._plus(rows[:half], rows[half : 2 * half])
                # Of an odd number the last one waits.
                rows = np.concatenate([sums, rows[2 * half :]])
            for row in rows:
                self._sums = self._plus(self._sums, row)

    def _plus(self, one: np.ndarray, two: np.ndarray) -> np.ndarray:
        sums: np.ndarray = one + two
        rest = sums - one
        lost = (one - (sums - rest)) + (two - rest)
        self._lost += lost.sum(axis=0) if lost.ndim > 1 else lost
        return sums

    def rounded(self) -> np.ndarray:
        """Return the sums; those that aren't finite have lost nothing."""
        with np.errstate(invalid="ignore"):
            return np.where(np.isfinite(self._sums), self._sums + self._lost, self._sums)
