"""Show what the first call of a process costs, with an empty cache of compiled code and a full one.

``python -m asv_bench.first_call`` starts each call in processes of its own and prints the processor
seconds of the whole process, and how many times that is of what a process takes that imports Numba
and compiles one trivial function, without this package.  All are run in turns; medians.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from .report import add_outputs, as_json, facts, facts_in_words, in_columns, saved, write

ARRAYS = """
import numpy as np
x = np.linspace(-4, 4, 320, dtype=np.float32).reshape(32, 10)
z = (x > 1).astype(np.float32)
import sce_numba as sce
"""
LARGE = "X = np.zeros((8192, 2048), np.float32)\n"
DERIVED = "sce.sigmoid_cross_entropy_value_and_grad"
CALLS = {
    "default": "sce.sigmoid_cross_entropy(z, x)",
    "NONE": "sce.sigmoid_cross_entropy(z, x, reduction='none')",
    "value and gradient": f"{DERIVED}(z, x)",
    "gradient and hessian": "sce.sigmoid_cross_entropy_gradient_hessian(z, x)",
    "float64": "sce.sigmoid_cross_entropy(z, x.astype(float))",
    "float16": "sce.sigmoid_cross_entropy(z, x.astype(np.float16))",
    "[B,1] weights": "sce.sigmoid_cross_entropy(z, x, z[:, :1].copy())",
    "strided": "sce.sigmoid_cross_entropy(z[:, ::2], x[:, ::2])",
    "strided gradient, weights": f"{DERIVED}(z[:, ::2], x[:, ::2], z[:, :1])",
    "8192x2048, on all threads": f"{LARGE}sce.sigmoid_cross_entropy(X, X)",
    "the same, value and gradient": f"{LARGE}{DERIVED}(X, X)",
}
# Numba without what else is installed beside it.
UNIT = """
import importlib.metadata
importlib.metadata.entry_points = lambda **given: {}
import numba
numba.njit(lambda x: x + 1)(1.0)
"""
COMPILE = "from sce_numba.__main__ import main\nmain(['compile'])\n"
WITH_PACKAGE = "import importlib.metadata\nimport numba\nnumba.njit(lambda x: x + 1)(1.0)\n"


class FirstCall(NamedTuple):
    """Processor seconds with an empty and a full cache, and the bytes of what is kept."""

    empty: float
    full: float
    kept: int


def processor_seconds(code: str, folder: str = "") -> float:
    """Return what a process that runs some code takes of the processors, in seconds."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": folder} if folder else None
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-c", code]
    subprocess.run(command, env=environment, check=True, cwd="/", stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def run(rounds: int) -> tuple[dict[str, float], dict[str, FirstCall]]:
    """Return what belongs to all calls, and the calls."""
    units, beside = [], []
    cold: dict[str, list[float]] = {name: [] for name in CALLS}
    warm: dict[str, list[float]] = {name: [] for name in CALLS}
    sizes = {}
    for _ in range(rounds):
        for name, call in CALLS.items():
            units.append(processor_seconds(UNIT))
            beside.append(processor_seconds(WITH_PACKAGE))
            with tempfile.TemporaryDirectory() as folder:
                cold[name].append(processor_seconds(ARRAYS + call, folder))
                warm[name].append(processor_seconds(ARRAYS + call, folder))
                sizes[name] = sum(file.stat().st_size for file in Path(folder).rglob("*.nbc"))
    with tempfile.TemporaryDirectory() as folder:
        seconds = processor_seconds(COMPILE, folder)
        files = [file.stat().st_size for file in Path(folder).rglob("*.nbc")]
    shared = {"unit": median(units), "beside": median(beside), "compile": seconds}
    return {**shared, "kept": sum(files), "files": len(files)}, {
        name: FirstCall(median(cold[name]), median(warm[name]), sizes[name]) for name in CALLS
    }


def in_words(found: dict[str, FirstCall], said: dict[str, Any]) -> str:
    """Return the table, and what belongs to all calls."""
    unit = said["unit"]
    rows = [["first call of a process", "empty cache", "full cache", "kept"]]
    for name, call in found.items():
        cells = (f"{seconds:.2f} s, {seconds / unit:.2f} x" for seconds in call[:2])
        rows.append([name, *cells, f"{call.kept / 1000:.0f} kB"])
    return "\n\n".join(
        [
            in_columns(rows),
            f"x: of the {unit:.2f} s of a process that imports Numba and compiles one trivial "
            f"function; where this package is installed, it takes {said['beside'] / unit:.2f} x "
            f"that. `python -m sce_numba compile` takes {said['compile']:.0f} s, and keeps "
            f"{said['kept'] / 1e6:.1f} MB in {said['files']} files.",
            facts_in_words(said),
        ]
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=5, help="processes of each kind (5)")
    add_outputs(parser)
    options = parser.parse_args()
    if options.saved:
        said, by = saved(options.saved, FirstCall)
        found = by["calls"]
    else:
        shared, found = run(options.rounds)
        said = facts(" ".join(["python -m asv_bench.first_call", *sys.argv[1:]]), []) | shared
    words = in_words(found, said)
    print(as_json(said, {"calls": found}) if options.json else words)
    write(words, options.page, "asv_bench.first_call")


if __name__ == "__main__":
    main()
