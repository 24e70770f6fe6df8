"""Show where the time of a call goes, from 64 elements to 2^27.

``python -m asv_bench.cost_model`` takes the default loss of float32 logits and labels, by this
package on one thread and on all, and by the peers that are installed.  At first time hardly grows
with the elements: it is the overhead of a call.  Then it grows in proportion, and once more where
the arrays leave the caches.  Takes some minutes, and about 12 GB of memory.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sce_numba.kernels.parallel import CROSSOVER, one_thread

from .jobs import Job
from .peers import OURS, THREADS, keep_to_equal_threads, ours, peers
from .report import (
    add_outputs,
    as_json,
    duration,
    facts,
    facts_in_words,
    in_columns,
    saved,
    without_version,
    write,
)
from .roofline import roofline
from .timing import Call, Timing, measure

SMALLEST, LARGEST = 6, 27
# The peers change slowly, and some of them compile for every size.
STEP_OF_PEERS = 3
# One of each kind; the comparison has all.
LINES = ("NumPy", "PyTorch eager", "PyTorch compile", "TensorFlow XLA", "JAX")
BYTES = 8  # an element: logit and label

Curve = dict[int, Timing]


class Landmarks(NamedTuple):
    """Where a curve bends."""

    overhead: float  # seconds of the smallest call
    half: int  # elements from which on the overhead is less than half of the time
    in_cache: float  # seconds an element, the least
    in_memory: float  # seconds an element of the largest call


def landmarks(curve: Curve) -> Landmarks:
    """Read a curve of seconds by elements."""
    overhead = curve[min(curve)].median
    return Landmarks(
        overhead,
        next((size for size in sorted(curve) if curve[size].median >= 2 * overhead), max(curve)),
        min(timing.median / size for size, timing in curve.items()),
        curve[max(curve)].median / max(curve),
    )


def caches() -> dict[str, int]:
    """Return the bytes of the first CPU's caches for data, by name, where Linux tells them."""
    found = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level, kind, size = (
                (folder / name).read_text().strip() for name in ("level", "type", "size")
            )
        except OSError:
            continue
        match = re.fullmatch(r"(\d+)([KM])", size)
        if kind != "Instruction" and match:
            found[f"L{level}"] = int(match.group(1)) << (10 if match.group(2) == "K" else 20)
    return found


def on_one_thread(call: Call, size: int) -> Call:
    """Return a call that uses one thread; a small one does so by itself."""

    def run() -> Any:
        with one_thread():
            return call()

    return run if size >= CROSSOVER else call


def arrays(largest: int) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and logits, as many as this power of two."""
    rng = np.random.default_rng(0)
    logits = rng.standard_normal(1 << largest, np.float32)
    logits *= 3
    return (rng.random(1 << largest, np.float32) < 0.5).astype(np.float32), logits


def run(largest: int, rounds: int) -> dict[str, Curve]:
    """Return a curve for each line."""
    labels, logits = arrays(largest)
    others = [(name, make) for name, make in peers() if without_version(name).startswith(LINES)]
    curves: dict[str, Curve] = {}
    for exponent in range(SMALLEST, largest + 1):
        size = 1 << exponent
        job = Job(f"2^{exponent}", labels[:size], logits[:size])
        calls: dict[str, Call | None] = {
            f"{OURS}, 1 thread": on_one_thread(ours(job), size),
            f"{OURS}, {THREADS} threads": ours(job),
            "roofline": roofline(job),
        }
        if (exponent - SMALLEST) % STEP_OF_PEERS == 0:
            calls.update({name: make(job) for name, make in others})
        timings = measure({name: call for name, call in calls.items() if call}, rounds)
        for name, timing in timings.items():
            curves.setdefault(name, {})[size] = timing
        print(f"measured: {job.name}", file=sys.stderr, flush=True)
    return curves


def in_words(curves: dict[str, Curve]) -> str:
    """Return the landmarks of every curve as a table."""
    rows = [["", "overhead", "overhead is half at", "best per element", "at the largest"]]
    for name, curve in curves.items():
        if name == "roofline":
            continue
        found = landmarks(curve)
        rows.append(
            [
                without_version(name),
                duration(found.overhead),
                f"2^{found.half.bit_length() - 1}",
                f"{found.in_cache * 1e9:.3f} ns",
                f"{found.in_memory * 1e9:.3f} ns",
            ]
        )
    return in_columns(rows)


def main() -> None:
    """Measure, print the landmarks or JSON, and draw."""
    parser = argparse.ArgumentParser(
        prog="python -m asv_bench.cost_model",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=9, help="timings of each call (9)")
    parser.add_argument("--largest", type=int, default=LARGEST, help="power of two (27)")
    add_outputs(parser)
    parser.add_argument("--chart", type=Path, metavar="FOLDER", help="write cost_model.svg, .png")
    options = parser.parse_args()
    if options.saved:
        said, found = saved(options.saved)
        curves = {
            name: {int(size): t for size, t in curve.items()} for name, curve in found.items()
        }
    else:
        keep_to_equal_threads()
        curves = run(options.largest, options.rounds)
        said = facts(" ".join(["python -m asv_bench.cost_model", *sys.argv[1:]]), list(curves))
        said["caches"] = caches()
    words = f"{in_words(curves)}\n\n{facts_in_words(said)}"
    print(as_json(said, curves) if options.json else words)
    write(words, options.page, "asv_bench.cost_model")
    if options.chart:
        from .chart import draw_cost_model

        bends = {name: size / BYTES for name, size in said["caches"].items()}
        draw_cost_model(curves, bends, options.chart)


if __name__ == "__main__":
    main()
