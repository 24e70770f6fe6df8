"""Arrays of other libraries: which of them are not to be read as NumPy arrays at once.

No library is imported here: an object of one proves that it is there already.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

# Arrays that NumPy would compute, or strip of their names: the library, its class, and the module
# of this package that takes over.  DataArrays come first, as they may hold Dask arrays.
_DOORS = (("dask.array", "Array", ".dask"),)
# What nearly all calls are made with, and nobody else computes with.
_PLAIN = frozenset({np.ndarray, float, int, list, type(None)})


def door_for(*operands: Any) -> Callable[..., Any] | None:
    """Return the function that computes with these operands, or None if NumPy can read them.

    It takes the public function that was called, and what it was called with by name.
    """
    if _PLAIN.issuperset(map(type, operands)):
        return None
    for library, name, module in _DOORS:
        if library in sys.modules:
            kind = getattr(sys.modules[library], name, ())
            if any(issubclass(type(operand), kind) for operand in operands):
                door: Callable[..., Any] = importlib.import_module(module, __package__).call
                return door
    return None
