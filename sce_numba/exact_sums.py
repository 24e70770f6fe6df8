"""An array of exact sums, each as ``ExactSum`` is.

Each is an integer of units of 2^-1074, in digits of ``BITS`` bits, which are carried only after
``ADDITIONS`` additions.  Of the 66 digits that a float64 can reach, only the range that some number
has reached is stored: a few for losses and their weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .exact_sum import UNIT_BITS, ExactSum

BITS = 32
ADDITIONS = 1 << 28


class ExactSums:
    """The sums of the arrays added so far, all of one size."""

    def __init__(self, size: int) -> None:
        # Column k holds the digits of weight 2^(BITS (first + k)) units.
        self.digits, self.first = np.zeros((size, 0), np.int64), 0
        self.not_finite = np.zeros(size)
        self.additions = 0

    def add(self, values: np.ndarray) -> None:
        """Add a float64 to each of the sums."""
        self._make_room(1)
        finite = np.isfinite(values)
        with np.errstate(invalid="ignore"):
            self.not_finite += np.where(finite, 0.0, values)
        fractions, exponents = np.frexp(np.where(finite, values, 0.0))
        wholes = np.ldexp(np.abs(fractions), 53).astype(np.int64)
        if not wholes.any():
            return
        positions = exponents.astype(np.int64) + (UNIT_BITS - 53)
        # Subnormal numbers end in zero bits below the first digit.
        wholes >>= np.minimum(np.maximum(-positions, 0), 63)
        digits, shifts = np.divmod(np.maximum(positions, 0), BITS)
        used = digits[wholes != 0]
        self._hold(int(used.min()), int(used.max()) + 3)
        digits = np.where(wholes != 0, digits - self.first, 0)
        signs = np.where(fractions < 0, -1, 1)
        rows, mask = np.arange(values.size), (1 << BITS) - 1
        low, high = (wholes & mask) << shifts, (wholes >> BITS) << shifts
        self.digits[rows, digits] += signs * (low & mask)
        self.digits[rows, digits + 1] += signs * ((low >> BITS) + (high & mask))
        self.digits[rows, digits + 2] += signs * (high >> BITS)

    def merge(self, other: ExactSums) -> None:
        """Add the numbers of other sums."""
        self._make_room(other.additions)
        count = other.digits.shape[1]
        if count:
            self._hold(other.first, other.first + count)
            start = other.first - self.first
            self.digits[:, start : start + count] += other.digits
        with np.errstate(invalid="ignore"):
            self.not_finite += other.not_finite

    def _hold(self, first: int, stop: int) -> None:
        """Extend the stored range to the digits from ``first`` to before ``stop``."""
        count = self.digits.shape[1]
        span = (self.first, self.first + count) if count else (first, first)
        before, behind = max(span[0] - first, 0), max(stop - span[1], 0)
        if before or behind:
            self.digits = np.pad(self.digits, ((0, 0), (before, behind)))
            self.first = span[0] - before

    def _make_room(self, additions: int) -> None:
        """Carry if that many more additions could overflow a digit."""
        if self.additions + additions > ADDITIONS:
            stop = self.first + self.digits.shape[1]
            self._hold(stop, stop + 1)
            for digit in range(self.digits.shape[1] - 1):
                carried = self.digits[:, digit] >> BITS
                self.digits[:, digit] -= carried << BITS
                self.digits[:, digit + 1] += carried
            self.additions = 1
        self.additions += additions

    def copy(self) -> ExactSums:
        """Return a copy, which changes by itself."""
        result = ExactSums(len(self.digits))
        result.merge(self)
        return result

    def __getitem__(self, index: int) -> ExactSum:
        result = ExactSum()
        digits = self.digits[index]
        for digit in np.flatnonzero(digits).tolist():
            result.units += int(digits[digit]) << (BITS * (self.first + digit))
        result.not_finite = float(self.not_finite[index])
        return result

    def rounded(self) -> np.ndarray:
        """Return the sums, each rounded once."""
        return np.array([float(self[k]) for k in range(len(self.digits))], np.float64)

    def __truediv__(self, other: ExactSums) -> np.ndarray:
        """Return the quotients, each rounded once; 0 where the denominator is exactly 0."""
        quotients: list[Any] = []
        for index in range(len(self.digits)):
            denominator = other[index]
            quotients.append(self[index] / denominator if denominator else 0.0)
        return np.array(quotients, np.float64)
