"""The loss of the blocks so far: reduced or, without a reduction, its range; and class by class."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

import sce_numba as sce
from sce_numba.kernels.fused import two_sum

from .ranges import Ranges


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
            # Rounded to float64 alone, the losses of a class are worth being added exactly.
            losses = self._losses(labels, logits.astype(np.float64), weights, where)
            self._classes = classes or _Classes(logits.shape[-1], self._reduction)
            self._classes.add(losses, labels, weights, where)

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
    """The losses of classes side by side: an accumulator for each would take a kilobyte each."""

    def __init__(self, number: int, reduction: sce.Reduction) -> None:
        self.number = number
        self._reduction = reduction
        self._losses, self._weights, self._labels = (_Sums(number) for _ in range(3))
        self.counts = np.zeros(number, np.int64)

    def add(
        self, losses: np.ndarray, labels: np.ndarray, weights: Any, where: np.ndarray | None
    ) -> None:
        """Add losses, which are 0 where they don't count, and what they are divided by."""
        if where is None:
            self.counts += math.prod(losses.shape[:-1])
        else:
            self.counts += np.count_nonzero(where, axis=tuple(range(where.ndim - 1)))
        self._losses.add(losses)
        self._labels.add(_chosen(labels, where))
        if self._reduction == sce.Reduction.MEAN:
            self._weights.add(_chosen(np.broadcast_to(weights, losses.shape), where))
        elif self._reduction == sce.Reduction.SUM_BY_NONZERO_WEIGHTS:
            counted = np.broadcast_to(np.not_equal(weights, 0), losses.shape)
            self._weights.add(_chosen(counted, where))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        losses, labels = self._losses.rounded(), self._labels.rounded()
        divisors = self._weights.rounded()
        if self._reduction == sce.Reduction.SUM:
            divisors += 1
        elif self._reduction == sce.Reduction.SUM_OVER_BATCH_SIZE:
            divisors += self.counts
        for number, (loss, divisor) in enumerate(zip(losses, divisors, strict=True)):
            count = int(self.counts[number])
            yield {
                "class": number,
                "loss": float(loss) / float(divisor) if divisor else 0.0,
                "mean_label": float(labels[number]) / count if count else np.nan,
                "elements": count,
            }


def _chosen(array: np.ndarray, where: np.ndarray | None) -> np.ndarray:
    """Return an array with 0 in place of what doesn't count, were it NaN."""
    return array if where is None else np.where(where, array, np.zeros((), array.dtype))


class _Sums:
    """Sums of numbers that come row by row, with twice the digits of float64."""

    def __init__(self, columns: int) -> None:
        self._sums, self._lost = np.zeros((2, columns))

    def add(self, rows: np.ndarray) -> None:
        """Add all rows, halves to halves."""
        rows = rows.astype(np.float64).reshape(math.prod(rows.shape[:-1]), rows.shape[-1])
        with np.errstate(invalid="ignore", over="ignore"):
            while len(rows) > 1:
                half = len(rows) // 2
                sums = self._plus(rows[:half], rows[half : 2 * half])
                # Of an odd number the last one waits.
                rows = np.concatenate([sums, rows[2 * half :]])
            for row in rows:
                self._sums = self._plus(self._sums, row)

    def _plus(self, one: np.ndarray, two: np.ndarray) -> np.ndarray:
        sums, lost = two_sum(one, two)
        self._lost += lost.sum(axis=0) if lost.ndim > 1 else lost
        return np.asarray(sums)

    def rounded(self) -> np.ndarray:
        """Return the sums; those that aren't finite have lost nothing."""
        with np.errstate(invalid="ignore"):
            return np.where(np.isfinite(self._sums), self._sums + self._lost, self._sums)
