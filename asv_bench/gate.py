"""Tell what a change made slower or faster, beyond the noise.

``python -m asv_bench.gate`` compares the working tree with the branch main, or with the commit that
is given.  Both versions, and the older one once more, run the benchmarks ``WATCHED`` in processes
of their own that take turns.  What the older version takes beside itself is the noise.  Processes
are started afresh several times, because where memory and code happen to lie differs from process
to process, and stays for as long as they live.  Ends with status 1 if something became slower.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import os
import random
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from .gate_worker import PAUSE

HERE = Path(__file__).resolve().parent

# Of all the benchmarks of asv, those that matter most.
WATCHED = (
    "call_overhead.Call.time_default",
    "call_overhead.CallWithGradient.time_value_and_grad",
    "forward.Dtype.time_loss(512 x 512, float32)",
    "forward.Dtype.time_loss(512 x 512, float64)",
    "forward.Dtype.time_loss(8192 x 2048, float32)",
    "forward.Reduction.time_loss(512 x 512, none)",
    "gradient.ValueAndGrad.time_value_and_grad(512 x 512, float32)",
    "gradient.ValueAndGrad.time_value_and_grad(8192 x 2048, float32)",
)
OLD, AGAIN, NEW = "old", "old again", "new"

# Less than this is not told: where code happens to lie in memory can make as much.
SMALL = math.log(1.05)
# What the old version differs from itself on a busy machine.
LOUD = 1.2
# Launches that a verdict takes, as one at either end is left out.
LEAST = 4
# Least seconds by benchmark and version.
Launch = dict[str, dict[str, float]]


class Verdict(NamedTuple):
    """What became of a benchmark: ratios of times, new over old."""

    change: float
    low: float
    high: float
    noise: float  # the factor by which the old version differs from itself
    moved: bool


def change_and_noise(seconds: dict[str, float]) -> tuple[float, float]:
    """Return the logarithms of both for one launch."""
    old, again, new = (math.log(seconds[version]) for version in (OLD, AGAIN, NEW))
    return new - (old + again) / 2, abs(again - old)


def verdict(launches: list[dict[str, float]]) -> Verdict:
    """Compare seconds by version, one of each for every launch.

    The change of a launch is that from the mean of both old ones, its noise that between them.
    Leaving out one launch at either end, ``low`` to ``high`` are the changes of the others, and
    ``noise`` is the greatest of the others.  The benchmark moved if all the changes lie beyond the
    noise, and are not small.
    """
    changes, noises = zip(*map(change_and_noise, launches), strict=True)
    low, high = sorted(changes)[1], sorted(changes)[-2]
    noise = sorted(noises)[-2]
    least = max(noise, SMALL)
    moved = low > least or high < -least
    change = statistics.median(changes)
    return Verdict(math.exp(change), math.exp(low), math.exp(high), math.exp(noise), moved)


class Worker:
    """A process that times one version of the package."""

    def __init__(self, version: Path, cache: Path, data: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(version), "NUMBA_CACHE_DIR": str(cache)}
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "gate_worker.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=data,
            env=environment,
        )

    def ask(self, name: str) -> None:
        """Start a benchmark."""
        assert self._process.stdin
        self._process.stdin.write(f"{name}\n")
        self._process.stdin.flush()

    def answer(self) -> float:
        """Return the seconds it took; -1 where the version has no such function."""
        assert self._process.stdout
        answer = self._process.stdout.readline().strip()
        if not answer:
            raise SystemExit("gate: a benchmark failed, see above")
        return float(answer)

    def time(self, name: str) -> float:
        """Run a benchmark once."""
        self.ask(name)
        return self.answer()

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


@contextlib.contextmanager
def workers(places: dict[str, Path], data: Path) -> Iterator[dict[str, Worker]]:
    """Start a process for each version; the two old ones share their compiled code."""
    started = {version: Worker(place, place / "cache", data) for version, place in places.items()}
    try:
        yield started
    finally:
        for worker in started.values():
            worker.close()


def launch(places: dict[str, Path], data: Path, rounds: int) -> Launch:
    """Return the least seconds of each version, by benchmark, in one set of processes.

    Whatever else the machine does only adds to the time, so the least is nearest to the truth.
    """
    found = {}
    with workers(places, data) as started:
        for name in prepare_all(started):
            seconds: dict[str, list[float]] = {version: [] for version in started}
            for _ in range(rounds):
                for version in random.sample(list(started), len(started)):
                    seconds[version].append(started[version].time(name))
            found[name] = {version: min(of) for version, of in seconds.items()}
    return found


def prepare_all(started: dict[str, Worker]) -> list[str]:
    """Let all processes set up, at once, and return the benchmarks that every version has."""
    for name in WATCHED:
        for worker in started.values():
            worker.ask(name)
    answers = {worker: [worker.answer() for _ in WATCHED] for worker in started.values()}
    return [
        name for i, name in enumerate(WATCHED) if all(found[i] >= 0 for found in answers.values())
    ]


def unpack(commit: str, place: Path) -> None:
    """Write the package as it was at a commit."""
    archive = subprocess.run(
        ["git", "archive", commit, "sce_numba"], cwd=HERE.parent, capture_output=True
    )
    if archive.returncode:
        raise SystemExit(f"gate: {archive.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(place, filter="data")


def write_data(data: Path) -> None:
    """Write the arrays of the benchmarks."""
    code = "from benchmarks.data import setup_cache; setup_cache()"
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    subprocess.run([sys.executable, "-c", code], cwd=data, env=environment, check=True)


def say(words: str) -> None:
    """Tell how far it is, at once, beside the report."""
    print(words, file=sys.stderr, flush=True)


def compare(commit: str, launches: int, rounds: int) -> dict[str, Verdict]:
    """Return what became of each benchmark since a commit."""
    with tempfile.TemporaryDirectory() as folder:
        old, new, data = (Path(folder, name) for name in ("old", "new", "data"))
        unpack(commit, old)
        # A copy, so that the tree may be edited meanwhile.
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(HERE.parent / "sce_numba", new / "sce_numba", ignore=ignored)
        data.mkdir()
        write_data(data)
        places = {OLD: old, AGAIN: old, NEW: new}
        say("compiling")
        with workers({OLD: old, NEW: new}, data) as started:
            prepare_all(started)
        expected = launches * seconds_of_launch(places, data, rounds)
        say(f"{launches} launches, about {expected / 60:.1f} minutes")
        found = repeated(lambda: launch(places, data, rounds), launches)
    if len(found) < LEAST:
        raise SystemExit(
            f"gate: after {len(found)} launches there is no verdict, {LEAST} are needed"
        )
    return {name: verdict([seconds[name] for seconds in found]) for name in found[0]}


def repeated(run: Callable[[], Launch], launches: int) -> list[Launch]:
    """Run launches, and tell how far it is after each; Ctrl-C leaves those that are done."""
    found: list[Launch] = []
    start = time.monotonic()
    try:
        for number in range(1, launches + 1):
            found.append(run())
            left = (time.monotonic() - start) / number * (launches - number)
            say(f"launch {number} of {launches}, {left / 60:.1f} minutes to go; {farthest(found)}")
    except KeyboardInterrupt:
        say(f"interrupted after {len(found)} of {launches} launches")
    return found


def seconds_of_launch(places: dict[str, Path], data: Path, rounds: int) -> float:
    """Return about how long a launch takes, by one of a single round."""
    start = time.monotonic()
    found = launch(places, data, 1)
    trial = time.monotonic() - start
    a_round = sum(PAUSE + 2 * seconds for by in found.values() for seconds in by.values())
    return trial + (rounds - 1) * a_round


def farthest(found: list[Launch]) -> str:
    """Return what changed most in the launches so far, and by how much."""
    changes = {
        name: statistics.median(change_and_noise(seconds[name])[0] for seconds in found)
        for name in found[0]
    }
    name = max(changes, key=lambda name: abs(changes[name]))
    return f"farthest from 1: {math.exp(changes[name]):.2f}, {name}"


def report(found: dict[str, Verdict]) -> str:
    """Return a line for each benchmark, and what moved."""
    lines = [f"{'time of new over old':<65} change   within       noise"]
    for name, verdict in found.items():
        word = ("faster" if verdict.change < 1 else "SLOWER") if verdict.moved else ""
        within = f"{verdict.low:.2f} to {verdict.high:.2f}"
        line = f"{name:<65} {verdict.change:5.2f}   {within}  ±{verdict.noise - 1:5.1%}  {word}"
        lines.append(line.rstrip())
    moved = [verdict for verdict in found.values() if verdict.moved]
    slower = sum(verdict.change > 1 for verdict in moved)
    lines.append(f"gate: {slower} slower, {len(moved) - slower} faster, of {len(found)}")
    if any(verdict.noise > LOUD for verdict in found.values()):
        lines.append("gate: the machine was busy, and changes that the noise covers don't show")
    return "\n".join(lines)


def main() -> int:
    """Compare, and print what moved."""
    parser = argparse.ArgumentParser(
        prog="python -m asv_bench.gate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("commit", nargs="?", default="main", help="compare with this (main)")
    parser.add_argument("--launches", type=int, default=8, help="sets of processes (8)")
    parser.add_argument("--rounds", type=int, default=15, help="timings in each of them (15)")
    options = parser.parse_args()
    if options.launches < LEAST:
        parser.error(f"--launches must be {LEAST} or more, because one at either end is left out")
    found = compare(options.commit, options.launches, options.rounds)
    print(report(found))
    return int(any(verdict.moved and verdict.change > 1 for verdict in found.values()))


if __name__ == "__main__":
    sys.exit(main())
