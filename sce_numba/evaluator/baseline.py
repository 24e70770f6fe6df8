"""Two models on the same rows: the difference of their losses, and how sure it is.

Rows are drawn anew, with replacement, many times, and the difference is computed each time: the
bootstrap.  To do so in bounded memory, rows are put into bags, at random and equally many in each,
and whole bags are drawn; as long as there are fewer rows than bags, each has one of its own.
"""

from __future__ import annotations

import numpy as np

import sce_numba as sce

from .result import Baseline
from .rows import Formula, Rows, quotient

BAGS, DRAWS, AT_A_TIME = 4096, 2000, 100
CONFIDENCE = 0.95


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

    def add(self, rows: Rows, logits: np.ndarray) -> None:
        """Add rows, given the logits of the baseline."""
        logits = np.atleast_1d(logits)
        self._loss.update(rows.labels, logits, rows.weights, rows.where)
        ours, theirs = rows.losses, rows.sums(logits)
        difference = (ours[0] - theirs[0]) + (ours[1] - theirs[1])
        bags = self._bags_of(len(rows))
        for total, values in zip(self._bags, (difference, ours[2]), strict=True):
            total += np.bincount(bags, values, BAGS)

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
        """Return the comparison; the difference is that of pairs, as is its interval."""
        used, theirs = self._bags[:, : min(self._rows, BAGS)], float(self._loss.result())
        samples = [self._drawn(used) for _ in range(DRAWS // AT_A_TIME)]
        sides = [0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2]
        interval = np.quantile(np.concatenate(samples), sides) if used.size else [np.nan, np.nan]
        low, high = (float(side) for side in interval)
        difference = float(quotient(self._reduction, *used.sum(axis=1)))
        return Baseline(self._name, theirs, difference, (low, high), CONFIDENCE)

    def _drawn(self, bags: np.ndarray) -> np.ndarray:
        """Return the differences of some draws."""
        number = bags.shape[1]
        chosen = self._rng.integers(0, max(number, 1), (AT_A_TIME, number))
        difference, by = (values[chosen].sum(axis=1) for values in bags)
        return quotient(self._reduction, difference, by)
