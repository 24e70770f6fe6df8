"""The rows of greatest loss."""

from __future__ import annotations

import numpy as np

from .result import WorstRow
from .rows import Rows


class Worst:
    """The rows of greatest loss so far; NaN is the greatest, and of equal losses the first wins."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._rows: list[WorstRow] = []

    def add(self, rows: Rows, start: int, file: str, start_in_file: int) -> None:
        """Consider rows, given their start in all the data, and their file and start in it."""
        losses = _ranked(rows.values)
        if len(self._rows) == self._count:
            least = _ranked(np.array([self._rows[-1].loss]))[0]
            candidates = np.flatnonzero(losses > least)
        else:
            candidates = np.arange(losses.size)
        if candidates.size > self._count:
            order = np.argsort(-losses[candidates], kind="stable")[: self._count]
            candidates = candidates[order]
        self._rows += [
            WorstRow(start + row, file, start_in_file + row, float(rows.values[row]))
            for row in candidates.tolist()
        ]
        self._rows.sort(key=lambda row: (-_ranked(np.array([row.loss]))[0], row.row))
        del self._rows[self._count :]

    def rows(self) -> list[WorstRow]:
        """Return the rows, the worst first."""
        return self._rows


def _ranked(losses: np.ndarray) -> np.ndarray:
    return np.where(losses != losses, np.inf, losses)
