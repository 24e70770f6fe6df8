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

from .report import add_page, facts, facts_in_words, in_columns, write

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


def processor_seconds(code: str, folder: str = "") -> float:
    """Return what a process that runs some code takes of the processors, in seconds."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": folder} if folder else None
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, cwd="/")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=5, help="processes of each kind (5)")
    add_page(parser)
    options = parser.parse_args()
    units, beside = [], []
    cold: dict[str, list[float]] = {name: [] for name in CALLS}
    warm: dict[str, list[float]] = {name: [] for name in CALLS}
    sizes = {}
    for _ in range(options.rounds):
        for name, call in CALLS.items():
            units.append(processor_seconds(UNIT))
            beside.append(processor_seconds(WITH_PACKAGE))
            with tempfile.TemporaryDirectory() as folder:
                cold[name].append(processor_seconds(ARRAYS + call, folder))
                warm[name].append(processor_seconds(ARRAYS + call, folder))
                sizes[name] = sum(file.stat().st_size for file in Path(folder).rglob("*.nbc"))
    unit = median(units)
    rows = [["first call of a process", "empty cache", "full cache", "kept"]]
    for name in CALLS:
        seconds = (median(found[name]) for found in (cold, warm))
        cells = (f"{found:.2f} s, {found / unit:.2f} x" for found in seconds)
        rows.append([name, *cells, f"{sizes[name] / 1000:.0f} kB"])
    with tempfile.TemporaryDirectory() as folder:
        seconds = processor_seconds(COMPILE, folder)
        files = [file.stat().st_size for file in Path(folder).rglob("*.nbc")]
    said = facts(" ".join(["python -m asv_bench.first_call", *sys.argv[1:]]), [])
    words = "\n\n".join(
        [
            in_columns(rows),
            f"x: of the {unit:.2f} s of a process that imports Numba and compiles one trivial "
            f"function; where this package is installed, it takes {median(beside) / unit:.2f} x "
            f"that. `python -m sce_numba compile` takes {seconds:.0f} s, and keeps "
            f"{sum(files) / 1e6:.1f} MB in {len(files)} files.",
            facts_in_words(said),
        ]
    )
    print(words)
    write(words, options.page, "asv_bench.first_call")


if __name__ == "__main__":
    main()
