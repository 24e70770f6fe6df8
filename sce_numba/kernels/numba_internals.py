"""All that is used of Numba which it promises to nobody, and may change in its next release.

So ``pyproject.toml`` has an upper bound on Numba.  Before it is raised,
``tests/test_numba_internals.py`` tells by name what a release has changed.
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
    found: tuple[str, str, str] = cpu_target.target_context.codegen().magic_tuple()
    return found


def refresh() -> None:
    """Have a compilation that has begun meet functions that were defined since."""
    cpu_target.typing_context.refresh()
    cpu_target.target_context.refresh()


def cache_search(altered: Callable[[type], type]) -> Any:
    """Return Numba's search for a folder of compiled code, with each of its ways altered.

    It is called with a function, and has a ``locator``.
    """

    class Search(CompileResultCacheImpl):
        _locator_classes = tuple(map(altered, CompileResultCacheImpl._locator_classes))

    return Search


# Once its threads have started.  The public functions take a lock that forked processes share.


def number_of_threads() -> int:
    """Return how many threads Numba would use for what this thread calls."""
    count: int = parallel._get_num_threads()
    return count


def set_number_of_threads(count: int) -> None:
    """Set how many threads Numba uses for what this thread calls."""
    parallel._set_num_threads(count)


def function_type(*arguments: Any) -> Any:
    """Return the type, for ctypes, of compiled code that is called by its address.

    It is told where to put the result and an exception, and returns 0 if there is none.
    """
    return ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, *arguments)


def object_code(
    function: Callable[..., Any], signature: tuple[Any, ...], **options: Any
) -> tuple[str, bytes]:
    """Return the name that a function has as compiled code, and the object file with that."""
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
    """Have a value pickled with the function that is being compiled, and with all that call it.

    It is unpickled before their code is loaded.
    """
    context.declare_env_global(builder.module, context.get_env_name(context.fndesc))
    context.environment.consts.append(value)
