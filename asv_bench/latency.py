"""How long single calls take, also beside other work: p50, p90, p99 and the longest.

Each line of the table holds the calls of three processes, which take turns with those of the other
packages, in the settings that a shared machine knows: idle, a busy loop on each CPU, one CPU after
the first call, four processes at once, and the threads of other packages in the same process.
``one thread`` is this package with ``NUMBA_NUM_THREADS=1``; ``x`` is the p50 over that of one
thread in the same setting.  Where processes run at once, the ratio of the means is that of their
throughputs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from . import peers
from .jobs import Job
from .timing import Call

# p50 and p99 in seconds of each package, by what was measured.
Rows = dict[str, dict[str, tuple[float, float]]]

SETTINGS = ("idle", "busy", "one CPU", "four processes", "other pools")
PEERS = ("one thread", "sce_numba", "pytorch", "pytorch compiled", "xla")
BUSY = "while True: pass"
COLUMNS = 512


def call_of(peer: str, job: str, size: int) -> Call:
    """Return a call of a package: the mean loss, or its gradient as well."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (size // COLUMNS, COLUMNS)).astype(np.float32)
    labels = (rng.random(logits.shape) < 0.3).astype(np.float32)
    prepare: Callable[[Job], Call | None] = peers.ours
    if peer.startswith("pytorch"):
        _, prepare = peers.torch_peers()[peer == "pytorch compiled"]
    elif peer == "xla":
        _, prepare = peers.tensorflow_peers()[-1]
    call = prepare(Job(peer, labels, logits, derivatives=int(job == "gradient")))
    assert call is not None
    return call


def start_other_pools() -> None:
    """Have the packages that are installed do some work on threads of their own."""
    values = np.random.default_rng(0).random((1000, 1000), np.float32)
    with contextlib.suppress(ImportError):
        import torch

        torch.sigmoid(torch.from_numpy(values)).sum()
    with contextlib.suppress(ImportError):
        from sklearn.ensemble import HistGradientBoostingClassifier

        HistGradientBoostingClassifier(max_iter=2).fit(values[:, :8], values[:, 9] > 0.5)
    with contextlib.suppress(ImportError):
        import tensorflow as tf

        tf.function(tf.sigmoid, jit_compile=True)(values)


def worker(peer: str, job: str, size: int, gap: float, calls: int, setting: str) -> list[float]:
    """Return the seconds of single calls in this process."""
    if setting == "other pools":
        start_other_pools()
    call = call_of(peer, job, size)
    call()
    if setting == "one CPU":
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    for _ in range(5):
        call()
    seconds = []
    for _ in range(calls):
        if gap:
            time.sleep(gap)
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return seconds


@contextlib.contextmanager
def beside(setting: str) -> Iterator[None]:
    """Keep each CPU busy, where the setting is that."""
    count = len(os.sched_getaffinity(0)) if setting == "busy" else 0
    loops = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def measured(peer: str, *rest: Any, setting: str) -> list[float]:
    """Return the seconds of calls in processes of their own."""
    environment = dict(os.environ)
    if peer == "one thread":
        environment["NUMBA_NUM_THREADS"] = "1"
    command = [sys.executable, "-m", "asv_bench.latency", "--worker"]
    command.append(json.dumps([peer, *rest, setting]))
    count = 4 if setting == "four processes" else 1
    with beside(setting):
        running = [
            subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            for _ in range(count)
        ]
        outputs = [process.communicate() for process in running]
    for process, (_, error) in zip(running, outputs, strict=True):
        if process.returncode:
            raise RuntimeError((error.strip().splitlines() or ["it failed"])[-1])
    return [second for out, _ in outputs for second in json.loads(out.splitlines()[-1])]


def in_turns(
    packages: list[str], processes: int, *rest: Any, setting: str
) -> dict[str, list[float] | RuntimeError]:
    """Return the seconds of each package's calls: a process of each, then the next of each."""
    found: dict[str, list[float] | RuntimeError] = {package: [] for package in packages}
    for _ in range(processes):
        for package, seconds in found.items():
            if isinstance(seconds, list):
                try:
                    seconds += measured(package, *rest, setting=setting)
                except RuntimeError as error:
                    found[package] = error
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=PEERS[:2])
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=SETTINGS)
    parser.add_argument("--jobs", nargs="+", choices=("loss", "gradient"), default=["loss"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[16, 18, 20, 24], help="log2")
    parser.add_argument("--gaps", nargs="+", type=float, default=[0, 0.2, 5], help="ms")
    parser.add_argument("--calls", type=int, default=500, help="of a process")
    parser.add_argument("--processes", type=int, default=3, help="of a line, in turns")
    parser.add_argument("--chart", type=Path, metavar="FOLDER", help="write latency.svg, .png")
    given = parser.parse_args()
    if given.worker:
        print(json.dumps(worker(*json.loads(given.worker))))
        return
    print(
        "setting         job       size  gap  package           p50 ms    p90    p99    max"
        "   mean     x"
    )
    rows: Rows = {}
    for setting in given.settings:
        for job in given.jobs:
            for size in given.sizes:
                for gap in given.gaps:
                    alone = math.nan
                    rest = job, 1 << size, gap / 1e3, given.calls
                    seconds = in_turns(given.peers, given.processes, *rest, setting=setting)
                    for peer, found in seconds.items():
                        line = f"{setting:15} {job:9} 2^{size:<3} {gap:4g}  {peer:16}"
                        if isinstance(found, RuntimeError):
                            print(line, found)
                            continue
                        ms = np.array([*np.percentile(found, [50, 90, 99, 100]), np.mean(found)])
                        ms *= 1e3
                        alone = ms[0] if peer == "one thread" else alone
                        figures = " ".join(f"{value:6.3f}" for value in ms)
                        print(line, figures, f"{ms[0] / alone:5.2f}", flush=True)
                        title = f"{setting}, {job} of 2^{size}, " + (
                            f"{gap:g} ms between" if gap else "back to back"
                        )
                        rows.setdefault(title, {})[peer] = ms[0] / 1e3, ms[2] / 1e3
    if given.chart:
        from .chart import draw_latency

        draw_latency(rows, given.chart)


if __name__ == "__main__":
    main()
