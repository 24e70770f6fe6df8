"""The rows of a block: their operands, and the sums that several results are computed from."""

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
    """The options that define the loss of a row."""

    reduction: Reduction
    label_smoothing: float
    pos_weight: Any

    def elements(
        self, labels: np.ndarray, logits: np.ndarray, weights: Any, where: np.ndarray | None
    ) -> np.ndarray:
        """Return the losses of all elements, in 32 bits or more; 0 for those left out."""
        if logits.dtype.itemsize < 4:
            # They are added up, and should not be rounded to a few digits before.
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
    """The same rows of all operands, with sums that are computed when first asked for."""

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

    def sums_for(self, logits: np.ndarray) -> Margins:
        """Return the sums of these rows, and of their classes, with other logits."""
        reduction, smoothing, pos_weight = self.formula
        operands = self.labels, logits, self.weights, smoothing, reduction, pos_weight, self.where
        return margins_of(recognised(*operands) or checked(*operands, "labels"))

    @cached_property
    def sums(self) -> Margins:
        """The sums of these rows, and of their classes."""
        return self.sums_for(self.logits)

    @cached_property
    def values(self) -> np.ndarray:
        """The loss of each row; 0 where no element counts."""
        return quotient(self.formula.reduction, *self.sums.rows.T[:LABEL])


def quotient(reduction: Reduction, numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Return losses from their numerators and denominators; a denominator of 0 gives 0."""
    if reduction == Reduction.SUM:
        return numerator
    with np.errstate(all="ignore"):
        return np.where(denominator != 0, numerator / denominator, 0.0)
