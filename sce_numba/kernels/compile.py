"""Compile the loops when they are first needed, each dtype and each of serial and parallel alone.

Importing the package compiles nothing.  Only the outermost loops are cached on disk: cached
functions that call cached functions can disagree on symbol names when two processes compile at
once.  Numba's own cache key knows neither whether a loop is parallel nor what stands in the
other files it calls, so both are added to it here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from numba import config, njit
from numba.core.caching import FunctionCache

from .softplus import OPTIONS


def _digest() -> str:
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()


class _Cache(FunctionCache):
    """Numba's cache of compiled functions, with ``stamp`` as part of every key."""

    stamp: str

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return (*super()._index_key(sig, codegen), self.stamp)


def cache_folder() -> str | None:
    """Return where compiled code is kept, or None where nothing can be written."""
    try:
        return str(_Cache(_digest).cache_path)
    except RuntimeError:
        return None


class Loop:
    """A loop over blocks with fixed argument types, compiled when it is first called."""

    def __init__(self, function: Callable[..., Any], signature: Any) -> None:
        self._function = function
        self._signature = signature

    def _compile(self, parallel: bool) -> Callable[..., Any]:
        if config.DISABLE_JIT:
            return self._function
        options = OPTIONS | {"no_cpython_wrapper": False}
        dispatcher = njit(parallel=parallel, **options)(self._function)
        try:
            cache = _Cache(self._function)
        except RuntimeError:
            pass  # nowhere to write: compile in memory
        else:
            cache.stamp = f"{_digest()} parallel={parallel}"
            dispatcher._cache = cache
        dispatcher.compile(self._signature)
        dispatcher.disable_compile()
        return dispatcher  # type: ignore[no-any-return]

    @cached_property
    def serial(self) -> Callable[..., Any]:
        """The loop on the calling thread."""
        return self._compile(parallel=False)

    @cached_property
    def parallel(self) -> Callable[..., Any]:
        """The loop on Numba's threads."""
        return self._compile(parallel=True)
