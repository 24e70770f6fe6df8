"""The one place that decides whether a loop runs serial or parallel; the bits are the same.

A parallel region is entered only where that is known to be safe; a caller that may not enter
doesn't wait, but runs the serial loop, which releases the GIL.

* One thread at a time: many callers at once keep the CPUs busy without more threads.
* Never in a forked child: the threads did not come along, and GNU OpenMP kills the child.
* Under a layer that isn't thread-safe (workqueue), which aborts when two threads enter and knows
  nothing of ours, only where no other thread could enter: the process has a single Python thread.
* From a few threads only under OpenMP, which keeps a team of threads for each that ever entered.
* With as many threads as Numba is set to, and no more than the CPUs that the process is given: by
  the system, or by Spark, Ray or Dask, which tell their workers by ``OMP_NUM_THREADS``.
* Not inside ``one_thread``, where others have work for the CPUs.
* Not where threads took longer than one of late, as beside other work (``pace``).
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numba
from numba import config

from ..processes import is_home
from .numba_internals import number_of_threads, set_number_of_threads
from .pace import LARGEST, TIMED, Pace

# Below this number of elements, starting the threads costs about as much as they save: two threads
# took as long as one for 2^15 float32 elements, and three quarters of the time for 2^16.
CROSSOVER = 1 << 16

# How often GNU OpenMP looks whether there is work before a thread falls asleep: for up to half a
# millisecond, which outlasts a short pause between two calls.  Where another process is at the CPU
# of a thread that is waited for, a call takes as much longer; its own default is thirty times that.
SPINS = 10_000

# Seconds for which a count of CPUs holds: counting takes a twentieth of the shortest parallel call.
COUNT_HOLDS = 0.01

# So many threads, the main one included, may have a team under OpenMP.
TEAMS = 4


class Loop(Protocol):
    """What can be run on one thread or on many."""

    @property
    def serial(self) -> Callable[[bytes], float]:
        """What runs a call on this thread."""

    @property
    def parallel(self) -> Callable[[bytes, int, int], float]:
        """What deals out so many groups of a call's tiles to so many threads."""


# Which thread may enter, by its only key.  Not a lock: an exception out of a signal handler can
# come between any two steps, before or after it is released as well.
_launch: dict[str, int] = {}
_alone = threading.local()
_counted = 1, float("-inf")  # CPUs, and until when that holds
_paces: dict[tuple[Any, int], Pace] = {}
_teams = {threading.main_thread().ident}


def _quota(groups: str = "/proc/self/cgroup", mounted: str = "/sys/fs/cgroup") -> float:
    """Return how many CPUs' time the control groups of this process get, on Linux."""
    quota = float("inf")
    try:
        lines = Path(groups).read_text().splitlines()
    except OSError:
        return quota
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = Path(mounted, controllers)
        # A limit on a group holds for those inside.  The path may be that of the host, and then
        # the group itself is at the top.
        folder = top / path.strip("/")
        for place in {top, folder, *(up for up in folder.parents if up.is_relative_to(top))}:
            try:
                if controllers:
                    limit = (place / "cpu.cfs_quota_us").read_text()
                    period = (place / "cpu.cfs_period_us").read_text()
                else:
                    limit, period = (place / "cpu.max").read_text().split()
                if limit.strip() != "max" and int(limit) > 0:
                    quota = min(quota, int(limit) / int(period))
            except (OSError, ValueError, ZeroDivisionError):
                continue
    return quota


_kept_quota = cache(_quota)


@cache
def _at_the_start(name: str) -> str | None:
    """Return a variable of the environment as the process was started with it, on Linux."""
    try:
        given = Path("/proc/self/environ").read_bytes().split(b"\0")
    except OSError:
        return os.environ.get(name)
    found = dict(line.partition(b"=")[::2] for line in given).get(name.encode())
    return None if found is None else os.fsdecode(found)


def _share() -> float:
    """Return how many threads OpenMP is told to use, unless Numba, which doesn't ask, is told too.

    Ray sets it anew for each task.  Dask sets it for its workers, and with it in the process that
    starts them, which is not meant.
    """
    if "OMP_NUM_THREADS" not in os.environ or "NUMBA_NUM_THREADS" in os.environ:
        return float("inf")
    dask = "distributed.nanny" in sys.modules
    told = (_at_the_start if dask else os.environ.get)("OMP_NUM_THREADS") or ""
    first, _, _ = told.partition(",")
    return (int(first) if first.strip().isdecimal() else 0) or float("inf")


def _count_cpus() -> int:
    """Return the number of CPUs that this process may keep busy."""
    affinity = getattr(os, "sched_getaffinity", None)
    given = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, int(min(given, _kept_quota(), _share())))


def _cpus() -> int:
    """Return what was counted of late; affinities change, and so do the limits of workers."""
    global _counted
    cpus, until = _counted
    now = time.monotonic()
    if now > until:
        cpus = _count_cpus()
        _counted = cpus, now + COUNT_HOLDS
    return cpus


@contextlib.contextmanager
def _short_spins() -> Iterator[None]:
    """Have GNU OpenMP, which reads its environment once, when it is loaded, wait as ``SPINS`` says.

    Whoever has set how it waits, or has loaded it before, has it as it is.
    """
    if "OMP_WAIT_POLICY" in os.environ or "GOMP_SPINCOUNT" in os.environ:
        yield
        return
    os.environ["GOMP_SPINCOUNT"] = str(SPINS)
    try:
        yield
    finally:
        del os.environ["GOMP_SPINCOUNT"]


@cache
def _layer() -> str | None:
    """Start Numba's threads, and return the name of its threading layer, or None for none."""
    if str(config.THREADING_LAYER).lower() in ("tbb", "safe", "threadsafe", "forksafe"):
        # The wheel of TBB puts its library where the loader doesn't look.
        with contextlib.suppress(OSError):  # not that wheel, or not Linux
            ctypes.CDLL(str(Path(sys.prefix, "lib", "libtbb.so.12")))
    try:
        with _short_spins():
            numba.get_num_threads()
        return numba.threading_layer()  # type: ignore[no-any-return]
    except Exception as error:  # the layer asked for can't be had: no reason not to answer
        logging.getLogger("sce_numba").info("running on one thread: %s", error)
        return None


def _may_enter() -> bool:
    """Tell whether this thread may enter a parallel region; its is the launch."""
    layer = _layer()
    if layer == "tbb":
        return True
    if layer != "omp":
        return layer is not None and len(sys._current_frames()) == 1
    thread = threading.get_ident()
    if thread not in _teams:
        if len(_teams) >= TEAMS:
            _teams.intersection_update(sys._current_frames())  # a team ends with its thread
        if len(_teams) >= TEAMS:
            return False
        _teams.add(thread)
    return True


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Run serial whatever this thread calls inside the ``with`` block."""
    before = getattr(_alone, "wanted", False)
    _alone.wanted = True
    try:
        yield
    finally:
        _alone.wanted = before


def run(loop: Loop, size: int, call: bytes, groups: int) -> float:
    """Run a loop over ``size`` elements, parallel where that is worth it and safe."""
    if size < CROSSOVER or getattr(_alone, "wanted", False) or not is_home():
        return loop.serial(call)
    pace = _paces.get((loop, size.bit_length()))
    if pace is not None and pace.pause > TIMED:
        pace.pause -= 1
        return loop.serial(call)
    if not _may_launch():
        return loop.serial(call)
    try:
        cpus = _cpus()
        if cpus > 1 and _may_enter():
            threads = number_of_threads()
            if threads > 1:
                count = min(threads, cpus)
                return _run_measured(loop, size, call, groups, count, threads)
    finally:
        _launch.clear()
    return loop.serial(call)


def _may_launch() -> bool:
    """Tell whether no other call is at the threads, for ``run``, and note that it now is."""
    thread = threading.get_ident()
    while "thread" in _launch or _launch.setdefault("thread", thread) != thread:
        holder = _launch.get("thread", 0)
        # A call that an exception ended between two steps has left its note behind.
        frame = sys._getframe(1).f_back if holder == thread else sys._current_frames().get(holder)
        while frame is not None and frame.f_code is not run.__code__:
            frame = frame.f_back
        if frame is not None:
            return False
        _launch.clear()
    return True


def _run_measured(loop: Loop, size: int, call: bytes, groups: int, count: int, usual: int) -> float:
    """Run a loop on threads where these pay, else on one; the launch is the caller's."""
    if size > LARGEST:
        return _run_on_threads(loop, call, groups, count, usual)
    key = loop, size.bit_length()
    pace = _paces.get(key) or _paces.setdefault(key, Pace())
    pays = pace.pays()
    _ = loop.parallel if pays else loop.serial  # compiling is not timed
    start = time.perf_counter()
    result = _run_on_threads(loop, call, groups, count, usual) if pays else loop.serial(call)
    learn = pace.took_threads if pays else pace.took_alone
    learn((time.perf_counter() - start) / size)
    return result


def _run_on_threads(loop: Loop, call: bytes, groups: int, count: int, usual: int) -> float:
    if count == usual:
        return loop.parallel(call, groups, count)
    # The setting is that of this thread alone.
    set_number_of_threads(count)
    try:
        return loop.parallel(call, groups, count)
    finally:
        set_number_of_threads(usual)
