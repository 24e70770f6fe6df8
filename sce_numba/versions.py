"""``show_versions``: versions, machine and settings for a bug report."""

from __future__ import annotations

import platform

import llvmlite
import llvmlite.binding
import numba
import numpy as np
from numba import config

from .kernels.cache import cache_folder, why_not

__version__ = "0.1.0"


def _vector_bits() -> int:
    features = llvmlite.binding.get_host_cpu_features()
    for name, bits in (("avx512f", 512), ("avx2", 256), ("sve", 128), ("neon", 128)):
        if features.get(name):
            return bits
    return 128


def show_versions() -> None:
    """Print the versions, the machine and the settings that results and speed depend on.

    Examples
    --------
    >>> import sce_numba as sce
    >>> sce.show_versions()
    sce_numba        0.1.0
    ...
    """
    rows = {
        "sce_numba": __version__,
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "Numba": numba.__version__,
        "llvmlite": llvmlite.__version__,
        "platform": platform.platform(),
        "CPU": config.CPU_NAME or llvmlite.binding.get_host_cpu_name(),
        "vector width": f"{_vector_bits()} bits",
        "threads": f"{numba.get_num_threads()} of {config.NUMBA_NUM_THREADS}",
        "threading layer": _threading_layer(),
        "compiled code": "off (NUMBA_DISABLE_JIT)" if config.DISABLE_JIT else "on",
        "cache folder": cache_folder() or f"none, compiling in memory: {why_not()}",
    }
    for name, value in rows.items():
        print(f"{name:<16} {value}")


def _threading_layer() -> str:
    try:
        return str(numba.threading_layer())
    except ValueError:  # no parallel code has run yet
        return f"{config.THREADING_LAYER} (not started)"
