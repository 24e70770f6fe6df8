"""All that is used of Numba's internals, which may change in any release.

So ``pyproject.toml`` has an upper bound on Numba.  Before raising it, run
``tests/test_numba_internals.py``, which tells by name what a release has changed.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from numba import config, njit
from numba.core.caching import CompileResultCacheImpl
from numba.core.cgutils import get_or_insert_function
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target
from numba.core.typing.templates import AbstractTemplate, AttributeTemplate, infer_global
from numba.np.numpy_support import as_dtype
from numba.np.ufunc import parallel

__all__ = [
    "AbstractTemplate",
    "AttributeTemplate",
    "as_dtype",
    "cache_search",
    "function_type",
    "get_or_insert_function",
    "global_compiler_lock",
    "infer_global",
    "keep_with_code",
    "number_of_threads",
    "object_code",
    "refresh",
    "set_number_of_threads",
    "target",
]


def target() -> tuple[str, str, str]:
    """Return the triple, name and features of the processor that Numba compiles for."""
    processor: tuple[str, str, str] = cpu_target.target_context.codegen().magic_tuple()
    return processor


def refresh() -> None:
    """Let a compilation that has begun see functions that were defined since."""
    cpu_target.typing_context.refresh()
    cpu_target.target_context.refresh()


def cache_search(altered: Callable[[type], type]) -> Any:
    """Return Numba's search for a cache folder, with each of its locators altered.

    It is called with a function, and has a ``locator``.
    """

    class Search(CompileResultCacheImpl):
        _locator_classes = tuple(map(altered, CompileResultCacheImpl._locator_classes))

    return Search


# For use after the threads have started.  Numba's public functions take a lock that forks share.


def number_of_threads() -> int:
    """Return how many threads Numba would use for calls of this thread."""
    count: int = parallel._get_num_threads()
    return count


def set_number_of_threads(count: int) -> None:
    """Set how many threads Numba uses for calls of this thread."""
    parallel._set_num_threads(count)


def function_type(*arguments: Any) -> Any:
    """Return the ctypes type of a function of Numba that is called by its address.

    It takes pointers to a result and an exception first, and returns 0 if none was raised.
    """
    return ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, *arguments)


def object_code(
    function: Callable[..., Any], signature: tuple[Any, ...], **options: Any
) -> tuple[str, bytes]:
    """Return the symbol of a compiled function, and the object file that defines it."""
    disabled, config.DISABLE_JIT = config.DISABLE_JIT, False
    try:
        dispatcher = njit(**options)(function)
        dispatcher.compile(signature)
    finally:
        config.DISABLE_JIT = disabled
    result = dispatcher.overloads[signature]
    _, _, (code, _) = result.library.serialize_using_object_code()
    return str(result.fndesc.llvm_func_name), bytes(code)


def keep_with_code(context: Any, builder: Any, value: Any) -> None:
    """Pickle a value with the function that is being compiled, and with all its callers.

    It is unpickled before their code is loaded.
    """
    context.declare_env_global(builder.module, context.get_env_name(context.fndesc))
    context.environment.consts.append(value)
