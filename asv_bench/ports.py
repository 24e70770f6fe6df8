"""Compare the loops of the kernels with what the ports of a processor allow.

``python -m asv_bench.ports`` compiles the loops over blocks of the usual operands for several
processors, and has llvm-mca, of LLVM 19 or later, tell what a step takes by the tables of each:

* dispatch: what it takes that so many instructions can begin in a cycle;
* ports: the work of the busiest kind of port, if it never waits;
* the estimate, with latencies, and with as many instructions waiting as there is room for.

For the processor at hand it times what the caches hold, on one thread.  Seconds are told in cycles
by a loop in which each instruction waits for the one before.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import numba
import numpy as np

import sce_numba as sce
from sce_numba.kernels.block import step_of
from sce_numba.kernels.jobs import Job

from .report import add_page, facts, in_columns, write
from .spills import (
    AARCH64,
    DTYPES,
    JUMP,
    LOOPS,
    X86_64,
    assembly_of,
    blocks,
    busiest,
    functions,
    loops_of,
    processor,
)


class Processor(NamedTuple):
    """One that code runs on, by LLVM's name, and the one that it is compiled for."""

    runs: str
    compiled: str
    triple: str = X86_64


class Cycles(NamedTuple):
    """What a step takes."""

    dispatch: float
    ports: float
    estimate: float


PROCESSORS = {
    "Zen 3": Processor("znver3", "znver3"),
    "Skylake": Processor("skylake", "skylake"),
    "Neoverse N1": Processor("neoverse-n1", "neoverse-n1", AARCH64),
    "Zen 4, AVX2": Processor("znver4", "haswell"),
    "Zen 4": Processor("znver4", "znver4"),
}
ROWS = *Cycles._fields, "measured"
MEASURED = "mean", "mean and gradient", "`NONE`"
# Bytes of arrays that are timed: the difference has no overhead of a call, and all is in cache.
SMALL, LARGE = 1 << 16, 1 << 18
REPEATS = 2000


def shortest_way(function: str) -> list[str]:
    """Return the instructions of the loop that multiplies most, by its shortest way round."""
    text, following = blocks(function)
    loops = loops_of(following)
    head = busiest(text, loops)
    best: dict[str, list[str]] = {}
    ways = [(text[head], head)]
    while ways:
        lines, last = ways.pop(0)
        for name in following[last] & loops[head]:
            longer = lines + (text[name] if name != head else [])
            if name not in best or len(longer) < len(best[name]):
                best[name] = longer
                if name != head:
                    ways.append((longer, name))
    return [line for line in best[head] if not JUMP.match(line)]


def analyser() -> str:
    """Return the command llvm-mca, the latest that is installed."""
    names = [*(f"llvm-mca-{version}" for version in range(30, 18, -1)), "llvm-mca"]
    found = next(filter(shutil.which, names), None)
    if found is None:
        raise SystemExit("llvm-mca is not installed; it is part of LLVM: apt-get install llvm-19")
    return found


def analysed(lines: list[str], cpu: str, triple: str) -> Cycles:
    """Return what llvm-mca says of a step."""
    iterations = 300

    def numbers(*options: str) -> dict[str, float]:
        command = [analyser(), f"-mtriple={triple}", f"-mcpu={cpu}", *options]
        program = subprocess.run(
            command, input="\n".join(lines), capture_output=True, text=True, check=True
        )
        found = re.findall(r"^([A-Z][\w ]+):\s+([\d.]+)$", program.stdout, re.MULTILINE)
        return {name: float(number) for name, number in found}

    found = numbers(f"-iterations={iterations}")
    # The busiest port alone, as if no end of instructions began in a cycle.
    ports = numbers("-iterations=1", "-dispatch=100000")
    return Cycles(
        found["Total uOps"] / iterations / found["Dispatch Width"],
        ports["Block RThroughput"],
        found["Total Cycles"] / iterations,
    )


@numba.njit
def _chain(count: int, seed: int) -> int:
    value = seed
    for _ in range(count):
        # Each waits for the one before, and takes a cycle.
        value = (value ^ seed) + seed
        value = (value ^ seed) + seed
        value = (value ^ seed) + seed
        value = (value ^ seed) + seed
    return value


def least(call: Callable[[], Any], repeats: int) -> float:
    """Return the least of the seconds that a call takes."""
    found = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        found = min(found, time.perf_counter() - start)
    return found


def measure() -> dict[str, float]:
    """Return the cycles of an element, by loop and dtype, and those of a second."""
    rng, count = np.random.default_rng(0), 100_000
    _chain(1, 1)
    hertz = 8 * count / least(lambda: _chain(count, 12345), 100)
    found = {"hertz": hertz}
    for dtype in map(np.dtype, DTYPES):
        seconds: dict[str, list[float]] = {}
        for size in (SMALL // dtype.itemsize, LARGE // dtype.itemsize):
            x, z = rng.normal(0, 3, size).astype(dtype), rng.random(size).astype(dtype)
            out = np.empty_like(x)
            calls = (
                lambda x=x, z=z: sce.sigmoid_cross_entropy(z, x),
                lambda x=x, z=z, out=out: sce.sigmoid_cross_entropy_value_and_grad(
                    z, x, grad_out=out
                ),
                lambda x=x, z=z, out=out: sce.sigmoid_cross_entropy(
                    z, x, reduction="none", out=out
                ),
            )
            for name, call in zip(MEASURED, calls, strict=True):
                seconds.setdefault(name, []).append(least(call, REPEATS))
        elements = (LARGE - SMALL) // dtype.itemsize
        for name, (small, large) in seconds.items():
            found[f"{name}, {dtype.name}"] = (large - small) / elements * hertz
    return found


def measured_as(compiled: str) -> dict[str, float]:
    """Return what code for a processor takes on this one."""
    environment = {**os.environ, "NUMBA_NUM_THREADS": "1"}
    if compiled != llvm.get_host_cpu_name():
        environment |= {"NUMBA_CPU_NAME": compiled, "NUMBA_CPU_FEATURES": ""}
    command = [sys.executable, "-m", "asv_bench.ports", "--measure"]
    program = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(program.stdout)
    return found


def rows() -> list[list[str]]:
    """Return the table."""
    host = llvm.get_host_cpu_name()
    found = [["loop", "dtype", "", *PROCESSORS]]
    for loop, dtype in itertools.product(MEASURED, map(np.dtype, DTYPES)):
        found += [[loop, dtype.name, what] for what in ROWS]
    for own in PROCESSORS.values():
        times = measured_as(own.compiled) if own.runs == host else {}
        with processor(own.compiled, own.triple) as machine:
            for k, (loop, dtype) in enumerate(itertools.product(MEASURED, DTYPES)):
                kind, form, function = LOOPS[loop]
                code = functions(assembly_of(Job(kind, dtype, form), machine))[function]
                step = analysed(shortest_way(code), own.runs, own.triple)
                for line, cycles in enumerate(step, 1 + len(ROWS) * k):
                    found[line].append(f"{cycles / step_of(dtype):.2f}")
                time = times.get(f"{loop}, {np.dtype(dtype).name}")
                found[len(ROWS) * (k + 1)].append(f"{time:.2f}" if time else "")
    return found


def main() -> None:
    """Analyse, measure, and print what was found."""
    parser = argparse.ArgumentParser(
        prog="python -m asv_bench.ports",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    add_page(parser)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure()))
        return
    said = facts("python -m asv_bench.ports", [])
    version = subprocess.run([analyser(), "--version"], capture_output=True, text=True, check=True)
    major = re.search(r"LLVM version (\d+)", version.stdout)
    words = (
        f"Cycles an element:\n\n{in_columns(rows())}\n\n"
        f"All but what was measured by llvm-mca of LLVM {major.group(1) if major else '?'}. "
        f"Measured on {said['date']} by `python -m asv_bench.ports`, on one thread of "
        f"{said['processor']}; {', '.join(said['versions'])}."
    )
    print(words)
    write(words, options.page, "asv_bench.ports")


if __name__ == "__main__":
    main()
