"""The rows of a block, as all that is told of them takes them, and what each of them comes to."""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from sce_numba.kernels.margins import LABEL
from sce_numba.losses import sigmoid_cross_entropy
from sce_numba.operands import checked, recognised
from sce_numba.reduction import Reduction

from .margins import Margins, margins_of

# The reduction that divides by how many elements count.
COUNTED = Reduction.SUM_OVER_BATCH_SIZE


class Formula(NamedTuple):
    """What the loss of a row is."""

    reduction: Reduction
    label_smoothing: float
    pos_weight: Any

    def elements(
        self, labels: np.ndarray, logits: np.ndarray, weights: Any, where: np.ndarray | None
    ) -> np.ndarray:
        """Return the losses of all elements, 0 of those that are left out, in 32 bits or more."""
        if logits.dtype.itemsize < 4:
            # To be added up, not to be rounded to a few digits first.
            logits = logits.astype(np.float32)
        losses: np.ndarray = sigmoid_cross_entropy(
            labels,
            logits,
            weights,
            self.label_smoothing,
            reduction=Reduction.NONE,
            pos_weight=self.pos_weight,
            where=where,
        )
        return losses


class Rows:
    """Neighbours in all operands; what several need is computed when it is first asked for."""

    def __init__(
        self,
        formula: Formula,
        labels: np.ndarray,
        logits: np.ndarray,
        weights: Any,
        where: np.ndarray | None,
    ) -> None:
        self.formula = formula
        self.labels, self.logits, self.weights, self.where = labels, logits, weights, where

    def __len__(self) -> int:
        return len(self.logits) if self.logits.ndim else 1

    def margins(self, logits: np.ndarray) -> Margins:
        """Return the sums of these rows, and of their classes, for some logits."""
        reduction, smoothing, pos_weight = self.formula
        given = self.labels, logits, self.weights, smoothing, reduction, pos_weight, self.where
        return margins_of(recognised(*given) or checked(*given, "labels"))

    @cached_property
    def own(self) -> Margins:
        """The sums of the logits."""
        return self.margins(self.logits)

    @cached_property
    def values(self) -> np.ndarray:
        """The loss of each row; 0 where nothing counts."""
        return quotient(self.formula.reduction, *self.own.rows.T[:LABEL])


def quotient(reduction: Reduction, numerator: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Return losses; a denominator of 0 gives 0."""
    if reduction == Reduction.SUM:
        return numerator
    with np.errstate(all="ignore"):
        return np.where(by != 0, numerator / by, 0.0)
