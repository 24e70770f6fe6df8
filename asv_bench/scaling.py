"""Say what more CPUs bring: a model of a call's time, fitted on this machine, and read beyond it.

``python -m asv_bench.scaling`` times the default loss of float32 logits and labels on one thread
and on all, and fits::

    T(n, p) = e + r log2 p + max(a n ceil(G / p) / G, b n / m(p))

with the overhead ``e`` of a call, the cost ``r`` of a parallel region, ``a`` seconds an element in
cache, ``b`` bytes an element, and ``m`` bytes a second from memory; what caches hold has no second
term.  The elements come in ``G`` groups of tiles, which are dealt out once: a thread has at most
``ceil(G / p)``.  How far the model is from what was measured stands beside it.  For machines with
more CPUs the fitted numbers are kept, and m(p) is p m(1), up to a bandwidth that is assumed.
"""

from __future__ import annotations

import argparse
import sys
from math import ceil
from statistics import median
from typing import Any, NamedTuple

import numba
import numpy as np

from sce_numba.kernels.flatten import groups_of
from sce_numba.kernels.parallel import CROSSOVER

from .cost_model import BYTES, SMALLEST, arrays, caches, on_one_thread
from .jobs import Job
from .peers import OURS, THREADS, keep_to_equal_threads, ours
from .report import add_outputs, as_json, duration, facts, facts_in_words, in_columns, saved, write
from .roofline import read_two
from .timing import Call, Timing, repeats_of, seconds_of, timing_of

# Powers of two: elements that L2 holds, and those that a fit is compared with.
IN_CACHE, SIZES = (13, 14, 15, 16, 17), (16, 17, 18, 19, 20, 24, 26)
# Machines on paper: CPUs, and bytes a second from memory (two and twelve channels of DDR5).
ASSUMED = ((8, 70e9), (64, 350e9))
# Seconds that calls are timed in a row.
IN_A_ROW = 0.03
Seconds = dict[tuple[int, int], float]  # by power of two and threads
Timings = dict[str, dict[str, Timing]]  # the same


class Model(NamedTuple):
    """The fitted numbers."""

    overhead: float
    region: float
    element: float
    memory: dict[int, float]  # bytes a second, by threads
    cache: int  # elements that caches hold

    def seconds(self, size: int, threads: int, bandwidth: float = float("inf")) -> float:
        """Return the time of a call."""
        if size < CROSSOVER:
            threads = 1
        groups = groups_of(1, size)
        work = self.element * size * -(-groups // threads) / groups
        if size > self.cache:
            read = self.memory.get(threads) or min(threads * self.memory[1], bandwidth)
            work = max(work, BYTES * size / read)
        return self.overhead + self.region * np.log2(threads) + work


def in_a_row(calls: dict[int, Call], rounds: int) -> dict[int, Timing]:
    """Return timings of calls that follow each other, for which no thread has to be woken."""
    repeats = {
        key: ceil(IN_A_ROW / seconds_of(call, repeats_of(call))) for key, call in calls.items()
    }
    turns = [
        {key: seconds_of(call, repeats[key]) for key, call in calls.items()} for _ in range(rounds)
    ]
    return {key: timing_of([turn[key] for turn in turns]) for key in calls}


def timed(rounds: int) -> tuple[Timings, dict[str, float]]:
    """Return timings of calls, and bytes a second of reading the largest arrays."""
    labels, logits = arrays(max(SIZES))
    found: Timings = {}
    for power in sorted({SMALLEST, *IN_CACHE, *SIZES}):
        size = 1 << power
        call = ours(Job("", labels[:size], logits[:size]))
        calls = {1: on_one_thread(call, size), THREADS: call}
        found[f"{power}"] = {f"{p}": timing for p, timing in in_a_row(calls, rounds).items()}
        print(f"measured: 2^{power}", file=sys.stderr, flush=True)

    def reading(threads: int) -> float:
        numba.set_num_threads(threads)
        try:
            return in_a_row({0: lambda: read_two(logits, labels)}, rounds)[0].median
        finally:
            numba.set_num_threads(THREADS)

    return found, {f"{p}": BYTES * logits.size / reading(p) for p in {1, THREADS}}


def fitted(seconds: Seconds, memory: dict[int, float], cache: int) -> Model:
    """Fit the model: sizes that L2 holds, and the least that enter a region."""
    overhead = seconds[SMALLEST, 1]
    element = median((seconds[power, 1] - overhead) / (1 << power) for power in IN_CACHE)
    model = Model(overhead, 0.0, element, memory, cache)
    entered = [power for power in SIZES if CROSSOVER <= 1 << power <= cache]
    most = max(threads for _, threads in seconds)
    region = median(seconds[power, most] - model.seconds(1 << power, most) for power in entered)
    return model._replace(region=max(region, 0.0) / np.log2(max(most, 2)))


def in_words(seconds: Seconds, model: Model) -> str:
    """Return the model, how well it holds, and what it says of more CPUs."""
    both = sorted({threads for _, threads in seconds})
    heads = [f"{p} thread{'s' * (p > 1)}" for p in both]
    here = [["elements", *(f"{head}, {what}" for head in heads for what in ("measured", "model"))]]
    paper = [["elements", *(f"{cpus} CPUs, model" for cpus, _ in ASSUMED)]]
    paper[0] += [f"one thread / {cpus} CPUs" for cpus, _ in ASSUMED]
    for power in SIZES:
        size = 1 << power
        one = model.seconds(size, 1)
        row = [f"2^{power}"]
        for threads in both:
            row += [duration(seconds[power, threads]), duration(model.seconds(size, threads))]
        here.append(row)
        more = [model.seconds(size, *assumed) for assumed in ASSUMED]
        ratios = (f"{one / other:.1f}" for other in more)
        paper.append([f"2^{power}", *map(duration, more), *ratios])
    off = [
        abs(model.seconds(1 << power, threads) / seconds[power, threads] - 1)
        for power in SIZES
        for threads in both
    ]
    groups = groups_of(1, 1 << max(SIZES))
    costs = {
        cpus: -(-groups // cpus) * cpus / groups - 1 for cpus in (6, 8, 12, 24, 48, 64, 96, 128)
    }
    uneven = ", ".join(f"{cost:.0%} on {cpus}" for cpus, cost in costs.items())
    read = ", ".join(f"{rate / 1e9:.0f} GB/s by {p}" for p, rate in sorted(model.memory.items()))
    assumed = " and ".join(f"{rate / 1e9:.0f} GB/s for {cpus}" for cpus, rate in ASSUMED)
    return "\n\n".join(
        [
            in_columns(here),
            in_columns(paper),
            f"Overhead {duration(model.overhead)}, region {duration(model.region)} for each "
            f"doubling of threads, {model.element * 1e9:.3f} ns an element in cache, memory read "
            f"at {read}. The model is off by {median(off):.0%} in the middle and by {max(off):.0%} "
            f"at most. More CPUs are on paper: the same cores, and {assumed}.",
            f"What it costs that {groups} groups are dealt out once, where arithmetic is the "
            f"bound: {uneven} CPUs.",
        ]
    )


def modelled(found: Timings, said: dict[str, Any]) -> str:
    """Return the model of a run in words."""
    seconds = {
        (int(power), int(threads)): timing.median
        for power, by in found.items()
        for threads, timing in by.items()
    }
    memory = {int(threads): rate for threads, rate in said["memory"].items()}
    return in_words(seconds, fitted(seconds, memory, said["cache"]))


def main() -> None:
    """Measure, fit, and print or write to a page."""
    parser = argparse.ArgumentParser(
        prog="python -m asv_bench.scaling",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=15, help="timings of each call (15)")
    add_outputs(parser)
    options = parser.parse_args()
    if options.saved:
        said, found = saved(options.saved)
    else:
        keep_to_equal_threads()
        found, memory = timed(options.rounds)
        said = facts(" ".join(["python -m asv_bench.scaling", *sys.argv[1:]]), [OURS])
        said |= {"memory": memory, "cache": max(caches().values(), default=1 << 25) // BYTES}
    words = f"{modelled(found, said)}\n\n{facts_in_words(said)}"
    print(as_json(said, found) if options.json else words)
    write(words, options.page, "asv_bench.scaling")


if __name__ == "__main__":
    main()
