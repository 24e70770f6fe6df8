"""Reuse of the memory of the last large result, once nobody refers to it any more.

Page faults of new memory would take longer than the computation that writes there.
"""

from __future__ import annotations

import numpy as np

# The allocator reuses memory for smaller results by itself.
LARGE = 1 << 20
_released: list[np.ndarray] = []


class _Lease:
    """The base of the arrays on a block of memory, which releases it when the last one is gone."""

    def __init__(self, memory: np.ndarray) -> None:
        self.memory = memory
        self.__array_interface__ = memory.__array_interface__

    def __del__(self) -> None:
        _released[:] = [self.memory]


def memory_like(array: np.ndarray) -> np.ndarray | None:
    """Return an array with the shape and dtype of a large contiguous one; None for other arrays."""
    if array.nbytes < LARGE or not array.flags.c_contiguous or not array.dtype.isnative:
        return None
    try:
        memory = _released.pop()
    except IndexError:
        memory = None
    if memory is None or memory.nbytes != array.nbytes:
        memory = np.empty(array.nbytes, np.uint8)
    return np.asarray(_Lease(memory)).view(array.dtype).reshape(array.shape)
