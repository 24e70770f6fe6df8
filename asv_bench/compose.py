"""Compare loops that users compile themselves with the kernels of this package.

``python -m asv_bench.compose`` runs, on the same arrays and threads, the Python-level function and
a user's loop around the functions for numbers, or a user's function around those for arrays, in
turns.  A ratio is the time of the package's own kernel over that of the user's code: 1 means that
nothing is lost, less that the user's code is slower.  All are medians.  A table for 2^22 elements;
``--size 16`` for as many as the caches hold.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import njit, prange

import sce_numba as sce

from . import timing
from .report import add_outputs, as_json, facts, facts_in_words, in_columns, saved, write
from .timing import Call

TILE = 4096


def write_losses(labels, logits, out):
    """Write the loss of every element."""
    for i in prange(logits.size):
        out[i] = sce.sigmoid_cross_entropy_with_logits(labels=labels[i], logits=logits[i])


def write_gradients(labels, logits, out):
    """Write the gradient of every element."""
    for i in prange(logits.size):
        out[i] = sce.sigmoid_cross_entropy_gradient(labels[i], logits[i])


def sum_in_float64(labels, logits):
    """Add up losses as one would without further thought."""
    total = 0.0
    for i in prange(logits.size):
        total += sce.sigmoid_cross_entropy_with_logits(labels=labels[i], logits=logits[i])
    return total


def sum_in_float32(labels, logits):
    """Add up losses in float32; to be compiled so that the order of the sum is free."""
    total = np.float32(0.0)
    for i in prange(logits.size):
        total += sce.sigmoid_cross_entropy_with_logits(labels=labels[i], logits=logits[i])
    return total


def sum_of_tiles(labels, logits):
    """Add up what the array function returns for tiles."""
    total = 0.0
    for tile in prange((logits.size + TILE - 1) // TILE):
        part = slice(np.int64(tile) * TILE, (np.int64(tile) + 1) * TILE)
        total += sce.sigmoid_cross_entropy(labels[part], logits[part], reduction="weighted_sum")
    return total


def reduce_arrays(labels, logits):
    """Call the reducing function once."""
    return sce.sigmoid_cross_entropy(labels, logits, reduction="weighted_sum")


def losses_of_arrays(labels, logits):
    """Call the element-wise function once."""
    return sce.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)


class Medians(NamedTuple):
    """Seconds of the package's own kernel, and of the user's code."""

    kernel: float
    user: float


FREE_ORDER = {"reassoc", "nsz", "contract"}


def measure(size: int, threads: int, rounds: int) -> dict[str, Medians]:
    """Return the times of each kind of user's code, and of the kernel beside it."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, size).astype(np.float32)
    labels = (rng.random(size) < 0.5).astype(np.float32)
    out, own = np.empty_like(logits), np.empty_like(logits)
    parallel, total = threads > 1, sce.Reduction.SUM

    def user(function: Callable[..., Any], *results: Any, **options: Any) -> Call:
        code = njit(parallel=parallel, nogil=True, **options)(function)
        return lambda: code(labels, logits, *results)

    def losses() -> Any:
        return sce.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits, out=own)

    def new_losses() -> Any:
        return sce.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)

    # The kernel of the gradient returns the loss as well.
    def gradient() -> Any:
        return sce.sigmoid_cross_entropy_value_and_grad(
            labels, logits, reduction=total, grad_out=own
        )

    def reduced() -> Any:
        return sce.sigmoid_cross_entropy(labels, logits, reduction=total)

    sums = {
        "sum, float64": user(sum_in_float64),
        "sum, float64, order free": user(sum_in_float64, fastmath=FREE_ORDER),
        "sum, float32, order free": user(sum_in_float32, fastmath=FREE_ORDER),
        "sum of tiles": user(sum_of_tiles),
    }
    groups = [
        (losses, {"losses, written": user(write_losses, out)}),
        (gradient, {"gradients, written": user(write_gradients, out)}),
        (reduced, sums),
    ]
    if not parallel:  # one call runs on one thread
        sums["sum, one call"] = user(reduce_arrays)
        groups.append((new_losses, {"losses, one call": user(losses_of_arrays)}))
    medians = {}
    for kernel, users in groups:
        found = timing.measure({"kernel": kernel, **users}, rounds)
        for name in users:
            medians[name] = Medians(found["kernel"].median, found[name].median)
            print(f"{threads} threads: {name} {ratio(medians[name])}", file=sys.stderr, flush=True)
    return medians


def ratio(medians: Medians) -> str:
    """Return how fast the user's code is, relative to the kernel."""
    return f"{medians.kernel / medians.user:.2f}"


def table(found: dict[str, dict[str, Medians]]) -> str:
    """Return a row for each kind of user's code, and a column for each number of threads."""
    rows = [["loop of the user", *found]]
    for name in next(iter(found.values())):
        rows.append([name, *(ratio(by[name]) if name in by else "" for by in found.values())])
    return in_columns(rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25, help="calls of each kind (25)")
    parser.add_argument("--size", type=int, default=22, metavar="POWER", help="of two (22)")
    add_outputs(parser)
    options = parser.parse_args()
    if options.saved:
        said, found = saved(options.saved, Medians)
    else:
        said = facts(" ".join(["python -m asv_bench.compose", *sys.argv[1:]]), [])
        found = {}
        for threads in sorted({1, numba.get_num_threads()}):
            numba.set_num_threads(threads)
            name = f"{threads} thread{'s' * (threads > 1)}"
            found[name] = measure(1 << options.size, threads, options.rounds)
    words = f"{table(found)}\n\n{facts_in_words(said)}"
    print(as_json(said, found) if options.json else words)
    write(words, options.page, "asv_bench.compose")


if __name__ == "__main__":
    main()
