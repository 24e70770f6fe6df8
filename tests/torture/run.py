"""Run every scenario under every threading layer, and print what became of it.

    python tests/torture/run.py [--quick] [--only NAME] [--layer LAYER]

A cell of the table says: right answers / calls, or what went wrong.  A scenario hangs when it has
used ``--timeout`` seconds of CPU time, or next to none for a minute: that holds on a machine which
others keep busy, too.  The exit status is the number of bad cells.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).with_name("scenarios.py")
LAYERS = ["unset", "omp", "workqueue", "tbb"]
QUICK = 0.02
IDLE = 60  # seconds


@dataclass
class Outcome:
    text: str
    good: bool
    details: str = ""


def python(arguments, layer, cache, timeout, **settings):
    """Run Python in a session of its own, so that all of it can be ended."""
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_THREADING_LAYER"}
    environment |= settings
    if cache is not None:
        environment["NUMBA_CACHE_DIR"] = cache
    if layer != "unset":
        environment["NUMBA_THREADING_LAYER"] = layer
    process = subprocess.Popen(
        [sys.executable, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    seen, moved = 0.0, time.monotonic()
    while True:
        try:
            out, error = process.communicate(timeout=1)
            return process.returncode, out, error
        except subprocess.TimeoutExpired:
            used = cpu_seconds(process.pid)
            if used > seen + 0.5:
                seen, moved = used, time.monotonic()
            if used > timeout or time.monotonic() - moved > IDLE:
                break
    os.killpg(process.pid, signal.SIGKILL)
    _, error = process.communicate()
    return None, "", error


def cpu_seconds(session):
    """Return the CPU time of all processes of a session, and of their children that ended."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended just now
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session:
                ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def run(name, layer, scale, cache, reference, timeout=300):
    """Run one scenario under one layer."""
    arguments = [str(SCRIPT), name, str(scale), reference]
    # Some scenarios start Numba's threads before this library gets to help with the wheel of TBB.
    library = {"LD_LIBRARY_PATH": f"{sys.prefix}/lib"} if layer == "tbb" else {}
    status, out, error = python(arguments, layer, cache, timeout, **library)
    if status is None:
        return Outcome("HANG", False, error)
    if status:
        return Outcome(f"CRASH ({status})", False, error)
    found = json.loads(out.splitlines()[-1])
    if "skipped" in found:
        return Outcome(f"skipped: {found['skipped']}", True)
    good = found["right"] == found["calls"] > 0
    return Outcome(f"{found['right']}/{found['calls']}", good, error)


def make_reference(folder, cache):
    """Let one thread answer every call, and return the file of the answers' digests."""
    status, out, error = python(
        [str(SCRIPT), "reference", "1", "-"], "unset", cache, 600, NUMBA_NUM_THREADS="1"
    )
    assert status == 0, error
    path = Path(folder, "reference.json")
    path.write_text(out)
    return str(path)


def loads(layer):
    """Tell whether a layer can be had, with what this library does to have it."""
    code = "from sce_numba.kernels import parallel; print(parallel._layer())"
    _, out, _ = python(["-c", code], layer, None, 60)
    return layer == "unset" or out.strip() == layer


def names():
    """Return the names of the scenarios, as they stand in the list of them."""
    listed = SCRIPT.read_text().partition("SCENARIOS = [\n")[2].partition("]")[0]
    return listed.replace(",", " ").split()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a fiftieth of the calls")
    parser.add_argument("--only", help="scenarios whose name contains this")
    parser.add_argument("--layer", choices=LAYERS, help="this threading layer alone")
    parser.add_argument("--timeout", type=float, default=300, help="seconds of CPU time")
    parser.add_argument("--cache", help="folder for compiled code, to be used again")
    options = parser.parse_args()
    layers = [layer for layer in LAYERS if options.layer in (None, layer)]
    bad = 0
    with tempfile.TemporaryDirectory() as temporary:
        cache = options.cache or temporary
        reference = make_reference(temporary, cache)
        without = [layer for layer in layers if not loads(layer)]
        print(f"| scenario | {' | '.join(layers)} |\n|{' --- |' * (len(layers) + 1)}", flush=True)
        for name in names():
            if options.only and options.only not in name:
                continue
            print(f"| {name.replace('_', ' ')} |", end="", flush=True)
            details = ""
            for layer in layers:
                if layer in without:
                    outcome = Outcome("skipped: not to be had", True)
                else:
                    scale = QUICK if options.quick else 1
                    outcome = run(name, layer, scale, cache, reference, options.timeout)
                print(f" {outcome.text} |", end="", flush=True)
                if not outcome.good:
                    bad += 1
                    details += f"\n{layer}: {outcome.details[-1500:]}"
            print(details, flush=True)
    return bad


if __name__ == "__main__":
    sys.exit(main())
