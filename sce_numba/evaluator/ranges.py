"""Warnings of labels and logits whose range suggests a mistake."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


class Ranges:
    """The ranges of labels and logits so far, as far as they can lead to a warning."""

    def __init__(self) -> None:
        self._labels = self._logits = (math.inf, -math.inf)
        self.nan_labels = 0

    def add(self, labels: np.ndarray, logits: np.ndarray, where: np.ndarray | None) -> None:
        """Extend the ranges by those of a block."""
        # Once there was a 0, labels in [0, 1] change nothing; most data have no others.
        if not (self._labels[0] <= 0 and _are_in_unit_interval(labels)):
            chosen = labels if where is None else labels[where]
            self.nan_labels += int(np.count_nonzero(chosen != chosen))
            self._labels = _widen(self._labels, chosen)
        least, greatest = self._logits
        # Once a logit is outside [0, 1], they are no probabilities, whatever follows.
        if least >= 0 and greatest <= 1:
            self._logits = _widen(self._logits, logits if where is None else logits[where])

    def warnings(self) -> list[str]:
        """Return a sentence for each likely mistake."""
        sentences = []
        if self.nan_labels:
            sentences.append(
                f"{self.nan_labels:,} labels are NaN, and so is the loss: --ignore-label NaN "
                "leaves them out"
            )
        least, greatest = self._labels
        if least < 0 or greatest > 1:
            if least == -1 and greatest <= 1:
                hint = (
                    "--positive 1 if -1 stands for 0, --ignore-label -1 if it stands for a missing "
                    "label"
                )
            elif least >= 1 and greatest == 2:
                hint = "--positive 2 if 2 stands for 1, and 1 for 0"
            elif least >= 0 and greatest <= 100:
                hint = "percentages must be divided by 100"
            else:
                hint = "--ignore-label leaves out a value that stands for a missing label"
            sentences.append(f"labels are from {least:g} to {greatest:g}, but mean 0 to 1: {hint}")
        least, greatest = self._logits
        if 0 <= least < greatest <= 1:
            sentences.append(
                f"logits are all from {least:g} to {greatest:g}: if they are probabilities p, "
                "their logits are log(p / (1 - p))"
            )
        return sentences


def _are_in_unit_interval(array: np.ndarray) -> bool:
    """Tell, from a single maximum, whether all numbers are in [0, 1]; -0.0 may count as outside.

    Read as unsigned integers, the bits of floats have the order of the floats, and those of
    negative numbers and of NaN are greater.
    """
    if array.dtype == np.bool_ or not array.size:
        return True
    if not array.dtype.isnative:
        return False
    bits = f"u{array.dtype.itemsize}"
    return bool(array.view(bits).max() <= np.ones((), array.dtype).view(bits))


def _widen(bounds: tuple[float, float], array: np.ndarray) -> tuple[float, float]:
    """Return a range extended by that of an array, without NaN."""
    if not array.size:
        return bounds
    least: Any = np.fmin.reduce(array, axis=None)
    greatest: Any = np.fmax.reduce(array, axis=None)
    # If all values are NaN, neither bound changes.
    return min(bounds[0], float(least)), max(bounds[1], float(greatest))
