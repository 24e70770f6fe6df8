"""Time calls in turns, so that a busy moment of the machine meets them all."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

Call = Callable[[], Any]

PAUSE = 0.02
SHORTEST = 1e-3


class Timing(NamedTuple):
    """Seconds of one call: the median, and the quartiles about it."""

    median: float
    low: float
    high: float

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles, as a part of the median."""
        return (self.high - self.low) / 2 / self.median


def timing_of(seconds: list[float]) -> Timing:
    """Return median and quartiles."""
    low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return Timing(median, low, high)


def seconds_of(call: Call, repeats: int) -> float:
    """Return the mean time of calls in a row."""
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def repeats_of(call: Call) -> int:
    """Return how many calls in a row are long enough for the clock; the first compiles."""
    call()
    return max(1, math.ceil(SHORTEST / min(seconds_of(call, 1) for _ in range(3))))


def measure(calls: dict[str, Call], rounds: int) -> dict[str, Timing]:
    """Time every call once a round.

    A pause lets the threads of the call before fall asleep, and an untimed call wakes the own.
    """
    repeats = {name: repeats_of(call) for name, call in calls.items()}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            time.sleep(PAUSE)
            call()
            seconds[name].append(seconds_of(call, repeats[name]))
    return {name: timing_of(found) for name, found in seconds.items()}
