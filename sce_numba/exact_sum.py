"""An exact sum of float64 numbers, which does not depend on their order."""

from __future__ import annotations

import math

# Every finite float64 is an integer multiple of the unit 2^-1074.
UNIT_BITS = 1074


class ExactSum:
    """The exact sum of the numbers so far: an integer of units, and the sum of non-finite ones."""

    def __init__(self) -> None:
        self.units = 0
        self.not_finite = 0.0

    def add(self, value: float) -> None:
        """Add a number, which may be infinite or NaN."""
        if math.isfinite(value):
            numerator, denominator = value.as_integer_ratio()
            self.units += numerator << UNIT_BITS + 1 - denominator.bit_length()
        else:
            self.not_finite += value

    def merge(self, other: ExactSum) -> None:
        """Add the numbers of another sum."""
        self.units += other.units
        self.not_finite += other.not_finite

    def copy(self) -> ExactSum:
        """Return a sum of the same numbers."""
        result = ExactSum()
        result.merge(self)
        return result

    def __bool__(self) -> bool:
        return self.units != 0 or self.not_finite != 0

    def __float__(self) -> float:
        """Return the sum, rounded once."""
        one = ExactSum()
        one.add(1.0)
        return self / one

    def __truediv__(self, other: ExactSum) -> float:
        """Return the quotient of two sums, rounded once."""
        if self.not_finite != 0 or other.not_finite != 0:
            return self._sign_or_not_finite() / other._sign_or_not_finite()
        try:
            return self.units / other.units
        except OverflowError:
            return math.inf if (self.units > 0) == (other.units > 0) else -math.inf

    def _sign_or_not_finite(self) -> float:
        """Return the sum if it is not finite, else its sign."""
        if self.not_finite != 0:
            return self.not_finite
        return float((self.units > 0) - (self.units < 0))
