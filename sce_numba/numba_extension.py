"""The entry point that Numba calls before it first compiles anything, in any program.

The functions of this package are made known to Numba by ``njit``, which is imported once both
Numba compiles and the functions are there; so a program that has no use for them doesn't wait.
"""

from __future__ import annotations

import importlib

_compiling = _importing = False
_defined: list[str] = []


def register() -> None:
    """Note that Numba compiles."""
    global _compiling
    _compiling = True
    _make_known()


def functions_are_defined(by: str = "njit") -> None:
    """Note that there are functions which Numba may meet, and the module that tells it of them."""
    _defined.append(f"{__package__}.{by}")
    _make_known()


def _make_known() -> None:
    global _importing
    # While one of them is imported, Numba may ask for all of them again.
    if not (_compiling and _defined) or _importing:
        return
    _importing = True
    try:
        while _defined:
            importlib.import_module(_defined.pop(0))
    finally:
        _importing = False
    # The functions may be met by a compilation that has begun.
    importlib.import_module(".kernels.numba_internals", __package__).refresh()
