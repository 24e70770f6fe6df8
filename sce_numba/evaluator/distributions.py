"""How logits and probabilities are distributed, counted block by block in one table of bins."""

from __future__ import annotations

import numpy as np

from sce_numba.evaluation import count_in_bins
from sce_numba.kernels import view
from sce_numba.kernels.bins import FIELDS, HALVES, LOGITS, PROBABILITIES, SPAN
from sce_numba.layout import layout_of

from .result import Calibration, LogitHistogram
from .rows import Rows


class Distributions:
    """Counts of elements, sums of labels and of probabilities, by probability and by logit."""

    def __init__(self) -> None:
        self._table = np.zeros((PROBABILITIES, LOGITS, FIELDS))

    def add(self, rows: Rows) -> None:
        """Count the elements of some rows."""
        arrays = {view.LOGITS: rows.logits, view.LABELS: rows.labels}
        if rows.where is not None:
            arrays[view.WHERE] = rows.where
        if rows.logits.size:
            count_in_bins(arrays, layout_of(arrays), self._table)

    def calibration(self) -> Calibration:
        """Return mean labels beside mean probabilities."""
        counts, labels, predictions, _ = self._table.sum(axis=1).T
        with np.errstate(invalid="ignore"):
            means = predictions / counts, labels / counts
        error = np.abs(predictions - labels).sum() / counts.sum() if counts.any() else np.nan
        edges = np.linspace(0, 1, PROBABILITIES + 1)
        return Calibration(edges, *means, counts.astype(np.int64), float(error))

    def logits(self) -> LogitHistogram:
        """Return a histogram of the logits of label 0 and of those of label 1."""
        counts, labels, *_ = self._table.sum(axis=0).T
        inner = np.arange(-SPAN * HALVES, SPAN * HALVES + 1) / HALVES
        return LogitHistogram(np.concatenate([[-np.inf], inner, [np.inf]]), counts - labels, labels)
