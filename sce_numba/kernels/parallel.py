"""The one place that decides whether a loop runs serial or parallel; the bits are the same.

A parallel region is entered by one thread at a time and never in a forked child: Numba's
threading layers abort the process otherwise.  A caller that may not enter doesn't wait: it runs
the serial loop, which releases the GIL.
"""

from __future__ import annotations

import os
import threading
from typing import Any

from numba import get_num_threads

from .compile import Loop

# Below this number of elements, starting the threads costs about as much as they save: two threads
# took as long as one for 2^15 float32 elements, and three quarters of the time for 2^16.
CROSSOVER = 1 << 16

_launch = threading.Lock()
_forked = False


def _after_fork() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def run(loop: Loop, size: int, *arguments: Any) -> Any:
    """Run a loop over ``size`` elements, parallel where that is worth it and safe."""
    if size < CROSSOVER or _forked or get_num_threads() == 1 or not _launch.acquire(blocking=False):
        return loop.serial(*arguments)
    try:
        return loop.parallel(*arguments)
    finally:
        _launch.release()
