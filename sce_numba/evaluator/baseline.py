"""Two models on the same rows: the difference of their losses, with a confidence interval.

The interval comes from the bootstrap: rows are drawn with replacement, many times, and the
difference is computed each time.  To bound the memory, rows are put into bags of equal size at
random, and whole bags are drawn; while there are fewer rows than bags, each row is a bag.

The differences of single rows, of any magnitude, are counted in a histogram of logarithmic bins,
which are joined into a few of about the same width for the result.
"""

from __future__ import annotations

import numpy as np

import sce_numba as sce

from .result import Baseline
from .rows import Formula, Rows, quotient

BAGS, DRAWS, AT_A_TIME = 4096, 2000, 100
CONFIDENCE = 0.95
# Differences of either sign are counted in 64 bins an octave, from 2^-24 to 2^16 (the outermost
# hold what is beyond), and joined into 10.  The float64s of one bin share their leading bits.
PER_OCTAVE, SMALLEST, GREATEST, BINS = 64, -24, 16, 10
SHIFT = 52 - PER_OCTAVE.bit_length() + 1
FINE = PER_OCTAVE * (GREATEST - SMALLEST)
# The share of rows that may differ by more than the last finite edge.
OUTER_SHARE = 0.01


class Comparison:
    """The comparison of two models on the rows so far."""

    def __init__(self, name: str, formula: Formula) -> None:
        self._name, self._reduction = name, formula.reduction
        self._rng = np.random.default_rng(0)
        self._loss = sce.LossAccumulator(*formula)
        # For each bag: the difference of the sums of losses, and the denominator.
        self._bags = np.zeros((2, BAGS))
        self._order = np.arange(BAGS)
        self._rows = 0
        # Negative differences, from the greatest magnitude on, then positive ones from the least.
        self._bins = np.zeros(2 * FINE, np.int64)
        self._equal = 0

    def add(self, rows: Rows, logits: np.ndarray) -> None:
        """Add rows, given the logits of the baseline."""
        logits = logits.reshape(rows.logits.shape)
        self._loss.update(rows.labels, logits, rows.weights, rows.where)
        numerator, denominator, *_ = rows.sums.rows.T
        baseline, *_ = rows.sums_for(logits).rows.T
        differences = numerator - baseline
        self._count(quotient(self._reduction, differences, denominator)[denominator != 0])
        bags = self._next_bags(len(rows))
        for total, values in zip(self._bags, (differences, denominator), strict=True):
            total += np.bincount(bags, values, BAGS)

    def _count(self, differences: np.ndarray) -> None:
        """Count rows by their differences, without those that are NaN."""
        bins = np.abs(differences).view(np.int64) >> SHIFT
        bins -= (1023 + SMALLEST) * PER_OCTAVE
        np.clip(bins, 0, FINE - 1, out=bins)
        bins = np.where(differences < 0, ~bins, bins) + FINE
        self._bins += np.bincount(bins, minlength=2 * FINE)
        # 0 was counted in the first bin of positive differences, and NaN in the last one.
        equal = int(np.count_nonzero(differences == 0))
        self._equal += equal
        self._bins[FINE] -= equal
        self._bins[-1] -= np.count_nonzero(differences != differences)

    def _coarse_bins(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the edges of a few bins, and how many rows are in each."""
        octaves, parts = np.divmod(np.arange(1, FINE), PER_OCTAVE)
        inner = np.ldexp(1 + parts / PER_OCTAVE, octaves + SMALLEST)
        # How many rows are at least as far from 0 as each bin, from the innermost on.
        beyond = (self._bins[FINE:] + self._bins[:FINE][::-1])[::-1].cumsum()[::-1]
        last = np.count_nonzero(beyond[1:] > OUTER_SHARE * beyond[0])
        chosen = np.searchsorted(inner, inner[min(last, FINE - 2)] * np.arange(1, BINS + 1) / BINS)
        chosen = np.unique(chosen) + 1
        starts = np.concatenate([FINE - chosen[::-1], [FINE], FINE + chosen])
        distances = inner[chosen - 1]
        edges = np.concatenate([[-np.inf], -distances[::-1], [0], distances, [np.inf]])
        return edges, np.add.reduceat(self._bins, np.append(0, starts))

    def _next_bags(self, count: int) -> np.ndarray:
        chunks: list[np.ndarray] = []
        while count:
            position = self._rows % BAGS
            if position == 0 and self._rows:
                self._order = self._rng.permutation(BAGS)
            chunks.append(self._order[position : position + count])
            self._rows += chunks[-1].size
            count -= chunks[-1].size
        return np.concatenate(chunks) if chunks else self._order[:0]

    def result(self) -> Baseline:
        """Return the comparison."""
        used, loss = self._bags[:, : min(self._rows, BAGS)], float(self._loss.result())
        samples = [self._draw(used) for _ in range(DRAWS // AT_A_TIME)]
        quantiles = [0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2]
        bounds = np.quantile(np.concatenate(samples), quantiles) if used.size else [np.nan, np.nan]
        # For equal models this is exactly 0, unlike the difference of two rounded losses.
        difference = float(quotient(self._reduction, *self._bags.sum(axis=1)))
        low, high = map(float, bounds)
        edges, counts = self._coarse_bins()
        return Baseline(
            self._name, loss, difference, (low, high), CONFIDENCE, edges, counts, self._equal
        )

    def _draw(self, bags: np.ndarray) -> np.ndarray:
        """Return the differences of a few bootstrap samples."""
        count = bags.shape[1]
        chosen = self._rng.integers(0, max(count, 1), (AT_A_TIME, count))
        difference, denominator = (values[chosen].sum(axis=1) for values in bags)
        return quotient(self._reduction, difference, denominator)
