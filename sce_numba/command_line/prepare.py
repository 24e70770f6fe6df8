"""The command ``compile``: fill the cache, for container images and shared folders."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from sce_numba.kernels.cache import cache_folder, why_not
from sce_numba.kernels.compile import compile_all
from sce_numba.kernels.dtypes import DTYPES as DTYPES_OF_ARRAYS
from sce_numba.kernels.dtypes import FLOAT64, FLOATS

from . import streams

# The dtype that logits of each dtype are computed in.
DTYPES = {
    DTYPES_OF_ARRAYS[code].name: np.float64 if code == FLOAT64 else np.float32 for code in FLOATS
}


def add_to(commands: Any) -> None:
    """Add the command to a parser."""
    parser = commands.add_parser(
        "compile",
        help="compile all kernels now, for container images and shared folders",
        description="Compile all kernels and keep the code in the cache, so that no later call "
        "has to wait. The folder is that of NUMBA_CACHE_DIR, where that is set.",
        epilog="Example: NUMBA_CACHE_DIR=/shared/cache sce-numba compile --dtype float32",
    )
    parser.add_argument(
        "--dtype",
        action="append",
        choices=DTYPES,
        help="compile what logits of this dtype need, and no more; may be given more than once",
    )
    parser.set_defaults(run=lambda arguments: run(parser, arguments))


def run(parser: Any, arguments: argparse.Namespace) -> None:
    """Compile all kernels, and print how long it took and the size of the cache."""
    folder = cache_folder()
    if folder is None:
        parser.error(f"{why_not()}; set NUMBA_CACHE_DIR to one that only you can write to")
    dtypes = {DTYPES[name] for name in arguments.dtype or DTYPES}
    streams.say("compiling for this processor, which takes some seconds ...")
    start, processor = time.perf_counter(), time.process_time()
    count = compile_all(dtypes)
    seconds, busy = time.perf_counter() - start, time.process_time() - processor
    size = sum(file.stat().st_size for file in Path(str(folder)).glob("sce_numba.*.nbc"))
    print(f"{count} kernels in {seconds:.1f} s ({busy:.1f} s of processor time)")
    print(f"{size / 1e6:.1f} MB in {folder}")
