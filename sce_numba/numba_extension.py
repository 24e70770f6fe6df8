"""The entry point that Numba calls before it first compiles anything, in any program.

The functions of this package are made known to Numba by ``njit``, which is imported once both
Numba compiles and the functions are there; so a program that has no use for them doesn't wait.
"""

from __future__ import annotations

import importlib

_compiling = _defined = False


def register() -> None:
    """Note that Numba compiles."""
    global _compiling
    _compiling = True
    _make_known()


def functions_are_defined() -> None:
    """Note that there are functions which Numba may meet."""
    global _defined
    _defined = True
    _make_known()


def _make_known() -> None:
    if not (_compiling and _defined):
        return
    importlib.import_module("sce_numba.njit")
    # The functions may be met by a compilation that has begun.
    registry = importlib.import_module("numba.core.registry")
    registry.cpu_target.typing_context.refresh()
    registry.cpu_target.target_context.refresh()
