"""Two models on the same rows: the difference of their losses, and how sure it is.

Rows are drawn anew, with replacement, many times, and the difference is computed each time: the
bootstrap.  To do so in bounded memory, rows are put into bags, at random and equally many in each,
and whole bags are drawn; as long as there are fewer rows than bags, each has one of its own.

How the differences of rows are distributed, of whatever size they are, is counted in bins whose
edges have a ratio, and told in a few of about the same width, which are joined from these.
"""

from __future__ import annotations

import numpy as np

import sce_numba as sce

from .result import Baseline
from .rows import Formula, Rows, quotient

BAGS, DRAWS, AT_A_TIME = 4096, 2000, 100
CONFIDENCE = 0.95
# Differences of either sign are counted in 64 bins an octave, from 2^-24 to 2^16, with what is
# beyond in the outermost, and told in 10.  In one bin the bits of a float64 begin alike.
IN_OCTAVE, SMALLEST, GREATEST, TOLD = 64, -24, 16, 10
SHIFT = 52 - IN_OCTAVE.bit_length() + 1
FINE = IN_OCTAVE * (GREATEST - SMALLEST)
# Rows that differ more are beyond the last edge but one.
BEYOND = 0.01


class Comparison:
    """What the rows so far have come to, in bags."""

    def __init__(self, name: str, formula: Formula) -> None:
        self._name, self._reduction = name, formula.reduction
        self._rng = np.random.default_rng(0)
        self._loss = sce.LossAccumulator(*formula)
        # Of each bag: the difference of the losses' sums, and the denominator.
        self._bags = np.zeros((2, BAGS))
        self._order = np.arange(BAGS)
        self._rows = 0
        # Of negative differences, the greatest first, and of positive ones.
        self._bins = np.zeros(2 * FINE, np.int64)
        self._equal = 0

    def add(self, rows: Rows, logits: np.ndarray) -> None:
        """Add rows, given the logits of the baseline."""
        logits = logits.reshape(rows.logits.shape)
        self._loss.update(rows.labels, logits, rows.weights, rows.where)
        numerator, by, *_ = rows.own.rows.T
        theirs, *_ = rows.margins(logits).rows.T
        differences = numerator - theirs
        self._count(quotient(self._reduction, differences, by)[by != 0])
        bags = self._bags_of(len(rows))
        for total, values in zip(self._bags, (differences, by), strict=True):
            total += np.bincount(bags, values, BAGS)

    def _count(self, differences: np.ndarray) -> None:
        """Count rows by their differences, but for NaN."""
        places = np.abs(differences).view(np.int64) >> SHIFT
        places -= (1023 + SMALLEST) * IN_OCTAVE
        np.clip(places, 0, FINE - 1, out=places)
        places = np.where(differences < 0, ~places, places) + FINE
        self._bins += np.bincount(places, minlength=2 * FINE)
        # These were in the first and in the last bin of what is greater.
        equal = int(np.count_nonzero(differences == 0))
        self._equal += equal
        self._bins[FINE] -= equal
        self._bins[-1] -= np.count_nonzero(differences != differences)

    def _told_bins(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the edges of a few bins, and how many rows are in each."""
        octaves, parts = np.divmod(np.arange(1, FINE), IN_OCTAVE)
        inner = np.ldexp(1 + parts / IN_OCTAVE, octaves + SMALLEST)
        # How many rows are at least so far from 0, from the innermost bin on.
        beyond = (self._bins[FINE:] + self._bins[:FINE][::-1])[::-1].cumsum()[::-1]
        last = np.count_nonzero(beyond[1:] > BEYOND * beyond[0])
        chosen = np.searchsorted(inner, inner[min(last, FINE - 2)] * np.arange(1, TOLD + 1) / TOLD)
        chosen = np.unique(chosen) + 1
        starts = np.concatenate([FINE - chosen[::-1], [FINE], FINE + chosen])
        outward = inner[chosen - 1]
        edges = np.concatenate([[-np.inf], -outward[::-1], [0], outward, [np.inf]])
        return edges, np.add.reduceat(self._bins, np.append(0, starts))

    def _bags_of(self, count: int) -> np.ndarray:
        found: list[np.ndarray] = []
        while count:
            place = self._rows % BAGS
            if place == 0 and self._rows:
                self._order = self._rng.permutation(BAGS)
            found.append(self._order[place : place + count])
            self._rows += found[-1].size
            count -= found[-1].size
        return np.concatenate(found) if found else self._order[:0]

    def result(self) -> Baseline:
        """Return the comparison."""
        used, theirs = self._bags[:, : min(self._rows, BAGS)], float(self._loss.result())
        samples = [self._drawn(used) for _ in range(DRAWS // AT_A_TIME)]
        sides = [0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2]
        ends = np.quantile(np.concatenate(samples), sides) if used.size else [np.nan, np.nan]
        # Of equal models it is 0, which the difference of two rounded losses need not be.
        difference = float(quotient(self._reduction, *self._bags.sum(axis=1)))
        low, high = map(float, ends)
        edges, counts = self._told_bins()
        return Baseline(
            self._name, theirs, difference, (low, high), CONFIDENCE, edges, counts, self._equal
        )

    def _drawn(self, bags: np.ndarray) -> np.ndarray:
        """Return the differences of some draws."""
        number = bags.shape[1]
        chosen = self._rng.integers(0, max(number, 1), (AT_A_TIME, number))
        difference, by = (values[chosen].sum(axis=1) for values in bags)
        return quotient(self._reduction, difference, by)
