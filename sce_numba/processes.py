"""Whether this process may run parallel code: the importing one may, forked children may not."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path


def _may_be_forked_with_threads() -> bool:
    """Tell whether this may be a fork of a process where Numba or GNU OpenMP had threads."""
    try:
        # Bit 6 of the flags, which Linux sets at fork and clears at exec.
        flags = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[6])
        return bool(flags & 0x40) and (_numba_has_threads() or _gnu_openmp_is_loaded())
    except (OSError, ValueError, IndexError):
        # Without /proc a child can't be told from its parent.
        return hasattr(os, "fork") and _numba_has_threads()


def _numba_has_threads() -> bool:
    try:
        sys.modules["numba"].threading_layer()
    except (KeyError, AttributeError, ValueError):  # not imported yet, or in part, or not started
        return False
    return True


def _gnu_openmp_is_loaded() -> bool:
    try:
        ctypes.CDLL("libgomp.so.1", mode=os.RTLD_NOLOAD)
    except OSError:
        return False
    return True


_home = None if _may_be_forked_with_threads() else os.getpid()


def _leave_home() -> None:
    global _home
    _home = None


# The hook misses children that C code forked; comparing process numbers misses a child in another
# namespace, where it may have the number of its parent.  So both are used.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_home)


def is_home() -> bool:
    """Tell whether parallel code may run in this process."""
    return os.getpid() == _home
