"""The rows of a block, as all that is told of them takes them, and what each of them comes to."""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from sce_numba.arguments import dtype_code
from sce_numba.axes import Axes, sums
from sce_numba.kernels.dtypes import FLOATS
from sce_numba.kernels.view import LOGITS
from sce_numba.operands import add_weights, checked, recognised
from sce_numba.reduction import Reduction

# The reduction that divides by how many elements count.
COUNTED = Reduction.SUM_OVER_BATCH_SIZE


class Formula(NamedTuple):
    """What the loss of a row is."""

    reduction: Reduction
    label_smoothing: float
    pos_weight: Any


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
        reduction, smoothing, pos_weight = self.formula
        given = self.labels, logits, self.weights, smoothing, reduction, pos_weight, self.where
        return sums(recognised(*given) or checked(*given, "labels"), self._axes)

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
        arrays = {LOGITS: as_floats(self.labels)}
        code, weight = add_weights(arrays, 1.0, COUNTED, where=self.where)
        numerator, _, by = sums((arrays, None, weight, 0.0, code), self._axes)
        return np.stack([numerator, by])


def quotient(reduction: Reduction, numerator: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Return losses; a denominator of 0 gives 0."""
    if reduction == Reduction.SUM:
        return numerator
    with np.errstate(all="ignore"):
        return np.where(by != 0, numerator / by, 0.0)


def as_floats(labels: np.ndarray) -> np.ndarray:
    """Return labels as floats that hold them, to be added up as losses are."""
    if dtype_code(labels.dtype) in FLOATS:
        return labels
    return labels.astype(np.float32 if labels.itemsize <= 2 else np.float64)
