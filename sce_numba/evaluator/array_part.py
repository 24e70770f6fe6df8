"""An array in memory, read a block of rows at a time, with the interface of files."""

from __future__ import annotations

import math

import numpy as np


class ArrayPart:
    """The rows of one array; an array without dimensions is one row."""

    offset, shortage, path = 0, "", ""

    def __init__(self, name: str, array: np.ndarray) -> None:
        self.name, self._array = name, array
        self.shape, self.dtype = array.shape, array.dtype
        self.rows = self.readable = array.shape[0] if array.shape else 1
        self.row_bytes = math.prod(self.shape[1:]) * array.itemsize

    def read(self, start: int, stop: int, _memory: np.ndarray) -> np.ndarray:
        """Return rows without a copy."""
        return np.atleast_1d(self._array)[start:stop]

    def close(self) -> None:
        """Do nothing: there is no file."""
