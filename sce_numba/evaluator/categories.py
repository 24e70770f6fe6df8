"""Which group the rows of a column belong to: one for each value, or bins of many numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

# The most different values that a column may have, unless they are numbers.
MOST = 1000
# Up to 32 different numbers have a group each; more are binned into 10 ranges.
EXACT, BINS = 32, 10
# Numbers are close together if 8 times their range is less than the least magnitude.
CLOSE = 8
# Leading bits of a float64, by which numbers are grouped until all are seen: sign, exponent and
# seven of the mantissa, so that a group spans less than a hundredth.  Where the first numbers are
# close together, as dates and times are, they are the bits of the distance from the least.
_KEY_BITS = 19
_SIGN = np.uint64(1 << 63)
_SHIFT = np.uint64(64 - _KEY_BITS)

NULL, NAN = 0, 1


class Categories:
    """The groups of the values so far that are text, truth values or dates."""

    MISSING = ("null",)

    def __init__(self, name: str) -> None:
        self._name = name
        self._codes: dict[str | None, int] = {None: NULL}

    @property
    def count(self) -> int:
        """How many groups there are."""
        return len(self._codes)

    def codes(self, indices: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """Return the group of each row, given the index of its name, which is negative for none."""
        # A dictionary may hold names that no row has.
        used = np.zeros(len(names) + 1, bool)
        used[indices] = True
        codes = np.full(used.size, NULL)
        for index in np.flatnonzero(used[:-1]).tolist():
            codes[index] = self._codes.setdefault(names[index], len(self._codes))
        if len(self._codes) > MOST + 1:
            raise ValueError(
                f"--by {self._name}: there are more than {MOST:,} different values; a column of "
                "fewer is needed, of kinds or ranges say"
            )
        row_codes: np.ndarray = codes[indices]
        return row_codes

    def groups(self, _counts: np.ndarray) -> tuple[list[str], np.ndarray]:
        """Return the names in order, and the position of each group among them."""
        texts = sorted(name for name in self._codes if name is not None)
        positions = {name: position for position, name in enumerate([*texts, None])}
        # Text that reads "null" is not a missing value.
        names = ["'null'" if text == "null" else text for text in texts]
        return [*names, "null"], np.array([positions[name] for name in self._codes])


class Numbers:
    """The groups of the numbers so far."""

    MISSING = ("null", "NaN")

    def __init__(self) -> None:
        # Sorted; None once there are too many. Integers keep their dtype: those of 64 bits have
        # digits that float64 lacks.
        self._values: np.ndarray | None = np.zeros(0, np.bool_)
        self._value_codes = np.zeros(0, np.int64)
        self._origin = 0.0
        self._code_of_key = np.zeros(0, np.int64)
        self._keys: list[int] = []

    @property
    def count(self) -> int:
        """How many groups there are."""
        return 2 + (len(self._keys) if self._values is None else self._values.size)

    def codes(
        self, values: np.ndarray, null: np.ndarray | None, regroup: Callable[[np.ndarray, int], Any]
    ) -> np.ndarray:
        """Return the group of each row.

        If groups change, ``regroup`` is called with the new one of each, and their number.
        """
        missing = values != values if null is None else null | (values != values)
        complete = not missing.any()
        numbers = values if complete else values[~missing]
        if numbers.dtype.kind not in "iu":
            numbers = numbers.astype(np.float64)
            numbers += 0.0  # one zero, not two
        codes = self._exact(numbers)
        if codes is None:
            numbers = numbers.astype(np.float64)
            if self._values is not None:
                self._hold_by_key(numbers, regroup)
            codes = self._by_key(numbers)
        if complete:
            return codes
        row_codes = np.full(values.shape, NAN)
        row_codes[~missing] = codes
        if null is not None:
            row_codes[null] = NULL
        return row_codes

    def _exact(self, numbers: np.ndarray) -> np.ndarray | None:
        if self._values is None:
            return None
        while True:
            known = self._values
            # Faster than a binary search, whose branches the processor can't predict.
            ranks = np.zeros(numbers.size, np.uint8)
            for value in known:
                ranks += (numbers > value).view(np.uint8)
            # A number greater than the last has the rank behind it.
            padded = np.append(known, known[-1:])
            unseen = padded[ranks] != numbers if known.size else np.ones(numbers.shape, np.bool_)
            if not unseen.any():
                return self._value_codes[ranks]
            new = np.unique(numbers[unseen])
            if known.size + new.size > EXACT:
                return None
            if known.size and known.dtype != new.dtype and np.result_type(known, new).kind == "f":
                # Another file may have another dtype; in float64, integers would lose digits.
                known = known.astype(object)
            codes = np.append(self._value_codes, 2 + known.size + np.arange(new.size))
            order = np.argsort(np.append(known, new))
            self._values, self._value_codes = np.append(known, new)[order], codes[order]

    def _hold_by_key(
        self, following: np.ndarray, regroup: Callable[[np.ndarray, int], Any]
    ) -> None:
        assert self._values is not None
        values, codes = self._values.astype(np.float64), self._value_codes
        self._values, self._code_of_key = None, np.full(1 << _KEY_BITS, -1)
        self._origin = _origin_of(np.append(values, following))
        # The sums of the groups so far move to the groups of their keys.
        targets = np.array([NULL, NAN] + [0] * codes.size)
        targets[codes] = self._by_key(values)
        regroup(targets, self.count)

    def _by_key(self, numbers: np.ndarray) -> np.ndarray:
        keys = _keys(numbers - self._origin)
        codes: np.ndarray = self._code_of_key[keys]
        if codes.size and codes.min() < 0:
            new = np.unique(keys[codes < 0])
            self._code_of_key[new] = self.count + np.arange(new.size)
            self._keys += new.tolist()
            codes = self._code_of_key[keys]
        return codes

    def groups(self, counts: np.ndarray) -> tuple[list[str], np.ndarray]:
        """Return the names in order, and the position of each group among them."""
        positions = np.zeros(self.count, np.int64)
        if self._values is not None:
            names = _shown(self._values.tolist())
            positions[self._value_codes] = np.arange(len(names))
        else:
            names = []
            keys = np.array(self._keys)
            order = np.argsort(keys)
            totals = np.cumsum(counts[2:][order])
            # Quantiles: ranges with about as many elements each.
            bins = (totals - 1) * BINS // max(int(totals[-1]), 1) if totals.size else totals
            bins = np.unique(np.maximum(bins, 0), return_inverse=True)[1].reshape(-1)
            positions[2 + order] = bins
            starts = np.flatnonzero(np.diff(bins)) + 1
            edges = _briefly(_least_of(keys[order][starts]) + self._origin)
            if edges:
                between = [f"{low} to {high}" for low, high in pairwise(edges)]
                names = [f"below {edges[0]}", *between, f"from {edges[-1]}"]
            else:
                names = ["all"]
        positions[[NULL, NAN]] = len(names), len(names) + 1
        return [*names, "null", "NaN"], positions


def _origin_of(values: np.ndarray) -> float:
    """Return the least of values that are close together, else 0."""
    values = values[np.isfinite(values)]
    if not values.size or CLOSE * np.ptp(values) >= np.abs(values).min():
        return 0.0
    return float(values.min())


def _keys(numbers: np.ndarray) -> np.ndarray:
    """Return the leading bits of numbers, as integers in the order of the numbers."""
    bits = numbers.view(np.uint64)
    signs = (numbers.view(np.int64) >> 63).view(np.uint64)
    keys: np.ndarray = ((bits ^ (signs | _SIGN)) >> _SHIFT).view(np.int64)
    return keys


def _least_of(keys: np.ndarray) -> np.ndarray:
    """Return the least number that has each key."""
    bits = keys.astype(np.uint64) << _SHIFT
    least: np.ndarray = np.where(bits >= _SIGN, bits ^ _SIGN, ~bits).view(np.float64)
    return least


def _briefly(values: np.ndarray) -> list[str]:
    """Return numbers as text with four digits, or as many as tell them apart."""
    texts = [f"{value:.4g}" for value in values.tolist()]
    for digits in range(5, 18):
        if len(set(texts)) == len(texts):
            break
        rounded = (float(f"{value:.{digits}g}") for value in values.tolist())
        texts = [np.format_float_positional(value, trim="-") for value in rounded]
    return texts


def _shown(values: list[float]) -> list[str]:
    """Return numbers as text with as few digits as tell them apart."""
    for digits in (7, 9, 17):
        names = [
            str(int(value))
            if math.isfinite(value) and value == int(value) and abs(value) < 2**64
            else f"{value:.{digits}g}"
            for value in values
        ]
        if len(set(names)) == len(names):
            break
    return names
