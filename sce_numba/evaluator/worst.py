"""The rows of greatest loss."""

from __future__ import annotations

import numpy as np

from .result import WorstRow
from .rows import Rows


class Worst:
    """As many rows as are wanted; NaN is worse than any number, of equal ones the first counts."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._found: list[WorstRow] = []

    def add(self, rows: Rows, start: int, file: str, start_in_file: int) -> None:
        """Look at rows, given where they begin."""
        losses = _ranked(rows.values)
        if len(self._found) == self._number:
            least = _ranked(np.array([self._found[-1].loss]))[0]
            candidates = np.flatnonzero(losses > least)
        else:
            candidates = np.arange(losses.size)
        if candidates.size > self._number:
            order = np.argsort(-losses[candidates], kind="stable")[: self._number]
            candidates = candidates[order]
        self._found += [
            WorstRow(start + row, file, start_in_file + row, float(rows.values[row]))
            for row in candidates.tolist()
        ]
        self._found.sort(key=lambda row: (-_ranked(np.array([row.loss]))[0], row.row))
        del self._found[self._number :]

    def rows(self) -> list[WorstRow]:
        """Return them, the worst first."""
        return self._found


def _ranked(losses: np.ndarray) -> np.ndarray:
    return np.where(losses != losses, np.inf, losses)
