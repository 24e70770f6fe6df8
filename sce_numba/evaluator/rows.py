"""The rows of a block, as all that is told of them takes them, and what each of them comes to."""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from sce_numba.arguments import dtype_code
from sce_numba.axes import Axes, sums
from sce_numba.kernels.dtypes import FLOATS
from sce_numba.kernels.view import LOGITS
from sce_numba.losses import sigmoid_cross_entropy
from sce_numba.operands import add_weights, checked, recognised
from sce_numba.reduction import Reduction

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
        # An array without dimensions is one row.
        self.labels, self.logits = np.atleast_1d(labels), np.atleast_1d(logits)
        self.weights, self.where = weights, where if where is None else np.atleast_1d(where)

    def __len__(self) -> int:
        return len(self.logits)

    @property
    def _axes(self) -> Axes:
        return Axes(tuple(range(1, self.logits.ndim)), False)

    def sums(self, logits: np.ndarray) -> np.ndarray:
        """Return of each row the sum of the losses, what that lost, and what it is divided by."""
        given = self.labels, logits, self.weights, self.where
        if self.where is None:
            return sums_of_losses(self._axes, self.formula, *given)
        # With a mask, twice through memory is quicker than short rows gathered.
        losses = self.formula.elements(self.labels, logits, 1.0, self.where)
        return _summed(self._axes, losses, self.weights, self.formula.reduction, self.where)

    @cached_property
    def losses(self) -> np.ndarray:
        """The sums of the logits."""
        return self.sums(self.logits)

    @cached_property
    def values(self) -> np.ndarray:
        """The loss of each row; 0 where nothing counts."""
        numerator, lost, by = self.losses
        return quotient(self.formula.reduction, numerator + lost, by)

    @cached_property
    def label_sums(self) -> np.ndarray:
        """Of each row the sum of the labels, and how many count."""
        return sums_of_labels(self._axes, self.labels, self.where)

    @cached_property
    def fields(self) -> list[np.ndarray]:
        """What a group of rows adds up: losses, what divides them, labels, and how many count.

        Two that are equal are one array.
        """
        numerator, lost, by = self.losses
        labels, counts = self.label_sums
        return [numerator + lost, counts if np.array_equal(by, counts) else by, labels, counts]


def sums_of_losses(
    axes: Axes,
    formula: Formula,
    labels: np.ndarray,
    logits: np.ndarray,
    weights: Any,
    where: np.ndarray | None,
) -> np.ndarray:
    """Return sums along axes: of the losses, what these lost, and what they are divided by."""
    reduction, smoothing, pos_weight = formula
    given = labels, logits, weights, smoothing, reduction, pos_weight, where
    return sums(recognised(*given) or checked(*given, "labels"), axes)


def sums_of_labels(axes: Axes, labels: np.ndarray, where: np.ndarray | None) -> np.ndarray:
    """Return the sums of labels along axes, and how many count."""
    if dtype_code(labels.dtype) not in FLOATS:
        # To be added up as losses are.
        labels = labels.astype(np.float32 if labels.itemsize <= 2 else np.float64)
    return _summed(axes, labels, 1.0, COUNTED, where)[[0, 2]]


def _summed(
    axes: Axes, losses: np.ndarray, weights: Any, reduction: Reduction, where: np.ndarray | None
) -> np.ndarray:
    """Return what ``sums_of_losses`` does, for losses that are already computed."""
    arrays = {LOGITS: losses}
    code, weight = add_weights(arrays, weights, reduction, where=where)
    return sums((arrays, None, weight, 0.0, code), axes)


def quotient(reduction: Reduction, numerator: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Return losses; a denominator of 0 gives 0."""
    if reduction == Reduction.SUM:
        return numerator
    with np.errstate(all="ignore"):
        return np.where(by != 0, numerator / by, 0.0)
