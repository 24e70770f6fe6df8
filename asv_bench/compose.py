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
from typing import Any

import numba
import numpy as np
from numba import njit, prange

import sce_numba as sce

from . import timing
from .report import add_page, facts, facts_in_words, in_columns, write
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


FREE_ORDER = {"reassoc", "nsz", "contract"}


def measure(size: int, threads: int, rounds: int) -> dict[str, str]:
    """Return the ratio of each kind of user's code."""
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
    ratios = {}
    for kernel, users in groups:
        found = timing.measure({"kernel": kernel, **users}, rounds)
        for name in users:
            ratios[name] = f"{found['kernel'].median / found[name].median:.2f}"
            print(f"{threads} threads: {name} {ratios[name]}", file=sys.stderr, flush=True)
    return ratios


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25, help="calls of each kind (25)")
    parser.add_argument("--size", type=int, default=22, metavar="POWER", help="of two (22)")
    add_page(parser)
    options = parser.parse_args()
    found = {}
    for threads in sorted({1, numba.get_num_threads()}):
        numba.set_num_threads(threads)
        found[threads] = measure(1 << options.size, threads, options.rounds)
    rows = [["loop of the user", *(f"{n} thread{'s' * (n > 1)}" for n in found)]]
    rows += [[name, *(ratios.get(name, "") for ratios in found.values())] for name in found[1]]
    said = facts(" ".join(["python -m asv_bench.compose", *sys.argv[1:]]), [])
    words = f"{in_columns(rows)}\n\n{facts_in_words(said)}"
    print(words)
    write(words, options.page, "asv_bench.compose")


if __name__ == "__main__":
    main()
