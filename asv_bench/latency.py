"""Time single calls, also beside other work: p50, p90, p99 and the longest.

``python -m asv_bench.latency`` times calls back to back, or with a pause before each, in the
settings that a shared machine knows: idle; a busy loop on each CPU; one CPU after the first call; a
quota of one CPU's time, for which it makes a control group (Linux, mostly as root); four processes
at once; and the threads of other packages in the same process.  Each line holds the calls of
several processes, which take turns with those of the other packages.  ``one thread`` is this
package with ``NUMBA_NUM_THREADS=1``, with which all others are compared: by p50, and where
processes run at once by throughput.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import functools
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from . import peers
from .jobs import Job
from .peers import OURS
from .report import (
    add_outputs,
    as_json,
    duration,
    facts,
    facts_in_words,
    in_columns,
    saved,
    times,
    without_version,
    write,
)
from .timing import Call

SETTINGS = ("idle", "busy", "one CPU", "quota", "four processes", "other pools")
PEERS = ("one thread", "sce_numba", "pytorch", "pytorch compiled", "xla")
ALONE = f"{OURS}, one thread"
# The settings of the picture, and their calls; the tables have all.
CHARTED, CALLS_CHARTED = ("idle", "busy"), "back to back"
BUSY = "while True: pass"
COLUMNS = 512
CONTROL_GROUPS = Path("/sys/fs/cgroup")


class Latency(NamedTuple):
    """Seconds of single calls."""

    p50: float
    p90: float
    p99: float
    longest: float
    mean: float


# By setting and calls, as ``idle: loss of 2^18, back to back``, and by package.
Found = dict[str, dict[str, Latency]]


def latency_of(seconds: list[float]) -> Latency:
    """Return the percentiles of single calls."""
    return Latency(*map(float, np.percentile(seconds, [50, 90, 99, 100])), float(np.mean(seconds)))


def call_of(peer: str, job: str, size: int) -> tuple[str, Call]:
    """Return a package with its version, and its call: the mean loss, or its gradient as well."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (size // COLUMNS, COLUMNS)).astype(np.float32)
    labels = (rng.random(logits.shape) < 0.3).astype(np.float32)
    name = ALONE if peer == "one thread" else OURS
    prepare: Callable[[Job], Call | None] = peers.ours
    if peer.startswith("pytorch"):
        name, prepare = peers.torch_peers()[peer == "pytorch compiled"]
    elif peer == "xla":
        name, prepare = peers.tensorflow_peers()[-1]
    call = prepare(Job(peer, labels, logits, derivatives=int(job == "gradient")))
    assert call is not None
    return name, call


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


def worker(peer: str, job: str, size: int, gap: float, calls: int, setting: str) -> Any:
    """Return the package, and the seconds of single calls in this process."""
    if setting == "other pools":
        start_other_pools()
    name, call = call_of(peer, job, size)
    call()
    if setting == "one CPU":
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    for _ in range(5):
        call()
    print(flush=True)  # ready: processes that run at once begin at once
    sys.stdin.read()
    seconds = []
    for _ in range(calls):
        if gap:
            time.sleep(gap)
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return name, seconds


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


@contextlib.contextmanager
def quota() -> Iterator[Path]:
    """Make a control group that has the time of one CPU, of version 1 or 2, and remove it again."""
    old = CONTROL_GROUPS / "cpu"
    place = Path(tempfile.mkdtemp(prefix="latency", dir=old if old.exists() else CONTROL_GROUPS))
    try:
        if not (place / "cgroup.procs").exists():
            raise FileNotFoundError(errno.ENOENT, "none are mounted")
        if old.exists():
            (place / "cpu.cfs_period_us").write_text("100000")
            (place / "cpu.cfs_quota_us").write_text("100000")
        else:
            (place / "cpu.max").write_text("100000 100000")
        yield place / "cgroup.procs"
    finally:
        place.rmdir()


def measured(peer: str, *rest: Any, setting: str) -> tuple[str, list[float]]:
    """Return a package, and the seconds of calls in processes of their own."""
    environment = dict(os.environ)
    if peer == "one thread":
        environment["NUMBA_NUM_THREADS"] = "1"
    command = [sys.executable, "-m", "asv_bench.latency", "--worker"]
    command.append(json.dumps([peer, *rest, setting]))
    count = 4 if setting == "four processes" else 1
    with contextlib.ExitStack() as stack:
        stack.enter_context(beside(setting))
        enter = None
        if setting == "quota":
            try:
                processes = stack.enter_context(quota())
            except OSError as error:
                raise RuntimeError(f"no control group: {error.strerror}") from None
            enter = functools.partial(processes.write_text, "0")  # 0 is who writes
        start, go = os.pipe()
        running = [
            subprocess.Popen(
                command,
                env=environment,
                stdin=start,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                preexec_fn=enter,
            )
            for _ in range(count)
        ]
        os.close(start)
        for process in running:
            assert process.stdout
            process.stdout.readline()
        os.close(go)
        outputs = [process.communicate() for process in running]
    for process, (_, error) in zip(running, outputs, strict=True):
        if process.returncode:
            raise RuntimeError((error.strip().splitlines() or ["it failed"])[-1])
    answers = [json.loads(out.splitlines()[-1]) for out, _ in outputs]
    return answers[0][0], [second for _, seconds in answers for second in seconds]


def in_turns(
    packages: list[str], processes: int, *rest: Any, setting: str
) -> tuple[dict[str, Latency], dict[str, str]]:
    """Return each package's latency, from a process of each, then the next of each, and failures.

    A package is named with its version, one that fails as it was given.
    """
    found: dict[str, list[float]] = {}
    failed: dict[str, str] = {}
    for _ in range(processes):
        for package in packages:
            if package not in failed:
                try:
                    name, seconds = measured(package, *rest, setting=setting)
                    found.setdefault(name, []).extend(seconds)
                except RuntimeError as error:
                    failed[package] = str(error)
    return {name: latency_of(seconds) for name, seconds in found.items()}, failed


def run(given: argparse.Namespace) -> tuple[Found, list[str]]:
    """Return the latencies of what was asked for, and what failed."""
    found: Found = {}
    failures: dict[str, dict[str, None]] = {}
    for setting in given.settings:
        for job in given.jobs:
            for size in given.sizes:
                for gap in given.gaps:
                    calls = f"{job} of 2^{size}, {f'{gap:g} ms between' if gap else CALLS_CHARTED}"
                    rest = job, 1 << size, gap / 1e3, given.calls
                    taken, failed = in_turns(given.peers, given.processes, *rest, setting=setting)
                    found[f"{setting}: {calls}"] = taken
                    for peer, error in failed.items():
                        failures.setdefault(f"{peer}: {error}", {})[setting] = None
                    for name, one in taken.items():
                        cells = " ".join(map(duration, one))
                        print(f"{setting}: {calls}: {name}: {cells}", file=sys.stderr, flush=True)
    return found, [f"{what} ({', '.join(where)})" for what, where in failures.items()]


def tables(found: Found) -> str:
    """Return a table for each setting, with the packages below each kind of call."""
    settings: dict[str, Found] = {}
    for title, packages in found.items():
        setting, calls = title.split(": ")
        settings.setdefault(setting, {})[calls] = packages
    return "\n\n".join(map(table, settings, settings.values()))


def table(setting: str, found: Found) -> str:
    """Return the table of one setting."""
    together = setting == "four processes"
    rows = [[setting, "p50", "p90", "p99", "longest", "throughput" if together else "p50, ratio"]]
    for calls, packages in found.items():
        rows.append([f"**{calls}**", *[""] * 5])
        alone = packages.get(ALONE)
        for name, one in packages.items():
            ratio = ""
            if alone:
                ratio = times(alone.mean / one.mean if together else one.p50 / alone.p50)
            rows.append([without_version(name), *map(duration, one[:4]), ratio])
    return in_columns(rows)


def in_words(found: Found, said: dict[str, Any]) -> str:
    """Return the tables, and what they mean."""
    calls, processes = said["calls"], said["processes"]
    failed = f" Not measured: {'; '.join(said['failed'])}." if said["failed"] else ""
    return "\n\n".join(
        [
            tables(found),
            f"A line is of {processes} x {calls} calls (processes x calls in each), or of four "
            f"times as many where four run at once. Ratio and throughput are relative to one "
            f"thread in the same setting.{failed}",
            facts_in_words(said),
        ]
    )


def main() -> None:
    """Measure, print tables or JSON, and draw."""
    parser = argparse.ArgumentParser(
        prog="python -m asv_bench.latency",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=PEERS)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=SETTINGS)
    parser.add_argument("--jobs", nargs="+", choices=("loss", "gradient"), default=["loss"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[18, 20], help="log2 (18 20)")
    parser.add_argument("--gaps", nargs="+", type=float, default=[0, 5], help="ms (0 5)")
    parser.add_argument("--calls", type=int, default=500, help="of a process (500)")
    parser.add_argument("--processes", type=int, default=3, help="of a line, in turns (3)")
    add_outputs(parser)
    parser.add_argument("--chart", type=Path, metavar="FOLDER", help="write latency.svg, .png")
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(worker(*json.loads(options.worker))))
        return
    if options.saved:
        said, found = saved(options.saved, Latency)
    else:
        found, failed = run(options)
        names = [name for packages in found.values() for name in packages]
        said = facts(f"python -m asv_bench.latency {shlex.join(sys.argv[1:])}".strip(), names)
        said |= {"calls": options.calls, "processes": options.processes, "failed": failed}
    words = in_words(found, said)
    print(as_json(said, found) if options.json else words)
    write(words, options.page, "asv_bench.latency")
    if options.chart:
        from .chart import draw_latency

        shown = [title for title in found if title.endswith(CALLS_CHARTED)]
        shown = [title for title in shown if title.startswith(CHARTED)] or list(found)
        draw_latency({title: found[title] for title in shown}, options.chart)


if __name__ == "__main__":
    main()
