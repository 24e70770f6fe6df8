"""Memory for large results that come and go at every step: the last one that nobody holds any more.

New pages of memory cost more time than what is computed into them.
"""

from __future__ import annotations

import numpy as np

# Smaller results find their memory in the caches.
LARGE = 1 << 20
_released: list[np.ndarray] = []


class _Lease:
    """The owner of some memory as its arrays see it, gone when the last of them is."""

    def __init__(self, memory: np.ndarray) -> None:
        self.memory = memory
        self.__array_interface__ = memory.__array_interface__

    def __del__(self) -> None:
        _released[:] = [self.memory]


def memory_like(array: np.ndarray) -> np.ndarray | None:
    """Return an array of the shape and dtype of a large contiguous one; None for all others."""
    if array.nbytes < LARGE or not array.flags.c_contiguous or not array.dtype.isnative:
        return None
    try:
        memory = _released.pop()
    except IndexError:
        memory = None
    if memory is None or memory.nbytes != array.nbytes:
        memory = np.empty(array.nbytes, np.uint8)
    return np.asarray(_Lease(memory)).view(array.dtype).reshape(array.shape)
