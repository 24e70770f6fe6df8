"""Measured numbers with a prefix and a unit."""

from __future__ import annotations

import math

PREFIXES = {-3: "n", -2: "µ", -1: "m", 0: "", 1: "k", 2: "M", 3: "G", 4: "T"}


def with_unit(value: float, unit: str) -> str:
    """Return a number with three digits, a prefix and a unit: 777 MB/s."""
    if not math.isfinite(value) or value == 0:
        return f"{value:g} {unit}"
    power = max(min(math.floor(math.log10(abs(value)) / 3), max(PREFIXES)), min(PREFIXES))
    digits = f"{value / 1000**power:.3g}"
    if abs(float(digits)) >= 1000 and power < max(PREFIXES):
        power, digits = power + 1, f"{value / 1000 ** (power + 1):.3g}"
    return f"{float(digits):g} {PREFIXES[power]}{unit}"
