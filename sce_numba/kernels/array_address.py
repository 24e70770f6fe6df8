"""Where an array lies, in less time than NumPy takes to tell."""

from __future__ import annotations

import ctypes
import sys

import numpy as np

# Where NumPy's C struct of an array holds the address of the first element: behind what every
# object of CPython begins with.  `__array_interface__` takes as long as a small kernel to tell it.
_DATA = object.__basicsize__


def _data_field(array: np.ndarray) -> int:
    """Return the address of the first element, from the struct of the array."""
    return ctypes.c_ssize_t.from_address(id(array) + _DATA).value


def _interface(array: np.ndarray) -> int:
    """Return the address of the first element, as any Python tells it."""
    found: int = array.__array_interface__["data"][0]
    return found


_PROBE = np.zeros(1)
_IS_THERE = sys.implementation.name == "cpython" and _data_field(_PROBE) == _interface(_PROBE)
address = _data_field if _IS_THERE else _interface
# What a call says of an array, in a quarter of that time: the object, for compiled code to look
# into at this place; or the address, and 0.
handle, FIELD = (id, _DATA) if _IS_THERE else (_interface, 0)
