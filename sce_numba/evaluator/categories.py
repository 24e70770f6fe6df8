"""Which group the rows of a column belong to: one for each value, or bins of many numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

# Of so many different values a column may be, unless they are numbers.
MOST = 1000
# So many different numbers have a group each; more are put into so many groups of neighbours.
EXACT, BINS = 32, 10
# Numbers are close together whose range, so many times, is less than the least of them.
CLOSE = 8
# Bits of a float64 that tell which numbers are held together until all are seen: sign, exponent
# and seven more, by which neighbours differ by less than a hundredth.  They are those of a distance
# where the first numbers are close together, as dates and times are.
_KEY_BITS = 19
_SIGN = np.uint64(1 << 63)
_SHIFT = np.uint64(64 - _KEY_BITS)

NULL, NAN = 0, 1


class Categories:
    """The groups that values have had so far: texts, truth values, dates."""

    MISSING = ("null",)

    def __init__(self, name: str) -> None:
        self._name = name
        self._codes: dict[str | None, int] = {None: NULL}

    @property
    def number(self) -> int:
        """How many groups there are."""
        return len(self._codes)

    def codes(self, local: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """Return the groups of rows, given which of some names each has, a negative one if none."""
        # A dictionary may hold more than the rows have.
        used = np.zeros(len(names) + 1, bool)
        used[local] = True
        own = np.full(used.size, NULL)
        for place in np.flatnonzero(used[:-1]).tolist():
            own[place] = self._codes.setdefault(names[place], len(self._codes))
        if len(self._codes) > MOST + 1:
            raise ValueError(
                f"--by {self._name}: there are more than {MOST:,} different values; a column of "
                "fewer is needed, of kinds or ranges say"
            )
        found: np.ndarray = own[local]
        return found

    def groups(self, _counts: np.ndarray) -> tuple[list[str], np.ndarray]:
        """Return names in order, and where among them each group belongs."""
        texts = sorted(name for name in self._codes if name is not None)
        places = {name: place for place, name in enumerate([*texts, None])}
        # The text is not what is missing.
        names = ["'null'" if text == "null" else text for text in texts]
        return [*names, "null"], np.array([places[name] for name in self._codes])


class Numbers:
    """The groups that numbers have had so far."""

    MISSING = ("null", "NaN")

    def __init__(self) -> None:
        # In order, until there are too many of them. Integers stay what they are: those of 64 bits
        # have digits that float64 lacks.
        self._values: np.ndarray | None = np.zeros(0, np.bool_)
        self._value_codes = np.zeros(0, np.int64)
        self._origin = 0.0
        self._of_key = np.zeros(0, np.int64)
        self._keys: list[int] = []

    @property
    def number(self) -> int:
        """How many groups there are."""
        return 2 + (len(self._keys) if self._values is None else self._values.size)

    def codes(
        self, values: np.ndarray, null: np.ndarray | None, regroup: Callable[[np.ndarray, int], Any]
    ) -> np.ndarray:
        """Return the groups of rows.

        Where they become other ones, ``regroup`` is told which, and how many.
        """
        missing = values != values if null is None else null | (values != values)
        whole = not missing.any()
        numbers = values if whole else values[~missing]
        if numbers.dtype.kind not in "iu":
            numbers = numbers.astype(np.float64)
            numbers += 0.0  # one zero, not two
        own = self._exact(numbers)
        if own is None:
            numbers = numbers.astype(np.float64)
            if self._values is not None:
                self._hold_by_key(numbers, regroup)
            own = self._by_key(numbers)
        if whole:
            return own
        found = np.full(values.shape, NAN)
        found[~missing] = own
        if null is not None:
            found[null] = NULL
        return found

    def _exact(self, numbers: np.ndarray) -> np.ndarray | None:
        if self._values is None:
            return None
        while True:
            known = self._values
            # Quicker than a search, which can't be foreseen by the processor.
            places = np.zeros(numbers.size, np.uint8)
            for value in known:
                places += (numbers > value).view(np.uint8)
            # Behind the last is what is greater than it.
            padded = np.append(known, known[-1:])
            strange = padded[places] != numbers if known.size else np.ones(numbers.shape, np.bool_)
            if not strange.any():
                return self._value_codes[places]
            new = np.unique(numbers[strange])
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
        self._values, self._of_key = None, np.full(1 << _KEY_BITS, -1)
        self._origin = _origin_of(np.append(values, following))
        # Their sums go along.
        targets = np.array([NULL, NAN] + [0] * codes.size)
        targets[codes] = self._by_key(values)
        regroup(targets, self.number)

    def _by_key(self, numbers: np.ndarray) -> np.ndarray:
        keys = _keys(numbers - self._origin)
        found: np.ndarray = self._of_key[keys]
        if found.size and found.min() < 0:
            new = np.unique(keys[found < 0])
            self._of_key[new] = self.number + np.arange(new.size)
            self._keys += new.tolist()
            found = self._of_key[keys]
        return found

    def groups(self, counts: np.ndarray) -> tuple[list[str], np.ndarray]:
        """Return names in order, and where among them each group belongs."""
        places = np.zeros(self.number, np.int64)
        if self._values is not None:
            names = _shown(self._values.tolist())
            places[self._value_codes] = np.arange(len(names))
        else:
            names = []
            keys = np.array(self._keys)
            order = np.argsort(keys)
            upto = np.cumsum(counts[2:][order])
            # A group ends where it has its share.
            bins = (upto - 1) * BINS // max(int(upto[-1]), 1) if upto.size else upto
            bins = np.unique(np.maximum(bins, 0), return_inverse=True)[1].reshape(-1)
            places[2 + order] = bins
            starts = np.flatnonzero(np.diff(bins)) + 1
            edges = _briefly(_least_of(keys[order][starts]) + self._origin)
            if edges:
                between = [f"{one} to {two}" for one, two in pairwise(edges)]
                names = [f"below {edges[0]}", *between, f"from {edges[-1]}"]
            else:
                names = ["all"]
        places[[NULL, NAN]] = len(names), len(names) + 1
        return [*names, "null", "NaN"], places


def _origin_of(values: np.ndarray) -> float:
    """Return the least of values that are far from 0 and near to each other, else 0."""
    values = values[np.isfinite(values)]
    if not values.size or CLOSE * np.ptp(values) >= np.abs(values).min():
        return 0.0
    return float(values.min())


def _keys(numbers: np.ndarray) -> np.ndarray:
    """Return the first bits of numbers, changed so that they have the order of the numbers."""
    bits = numbers.view(np.uint64)
    signs = (numbers.view(np.int64) >> 63).view(np.uint64)
    keys: np.ndarray = ((bits ^ (signs | _SIGN)) >> _SHIFT).view(np.int64)
    return keys


def _least_of(keys: np.ndarray) -> np.ndarray:
    """Return the least number of each key."""
    bits = keys.astype(np.uint64) << _SHIFT
    least: np.ndarray = np.where(bits >= _SIGN, bits ^ _SIGN, ~bits).view(np.float64)
    return least


def _briefly(values: np.ndarray) -> list[str]:
    """Return numbers with four digits, or as many as tell them apart."""
    texts = [f"{value:.4g}" for value in values.tolist()]
    for digits in range(5, 18):
        if len(set(texts)) == len(texts):
            break
        rounded = (float(f"{value:.{digits}g}") for value in values.tolist())
        texts = [np.format_float_positional(value, trim="-") for value in rounded]
    return texts


def _shown(values: list[float]) -> list[str]:
    """Return numbers with as few digits as tell them apart."""
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
