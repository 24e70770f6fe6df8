"""Compile the loops when they are first needed, each dtype and each of serial and parallel alone.

Importing the package compiles nothing.  Only the outermost loops are cached on disk: cached
functions that call other cached functions can disagree on symbol names when two processes compile
at once.

Numba finds the folder of the cache; the files are our own, because Numba's have an index beside
them.  Two processes that write at once leave an index that names the other's code, its key knows
neither whether a loop is parallel nor what stands in the other files that it calls, and a damaged
file raises, or crashes.  Here a file holds one compiled loop, and begins with a checksum of that
code and of all sources that went into it: whatever is cut short, damaged or stale is compiled anew.
It is a pickle, which is code: one that another user could have written is not loaded.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import logging
import os
import pickle
import sys
import threading
import time
import uuid
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import llvmlite
import numba
import numpy as np
from numba import config, njit
from numba.core.caching import CompileResultCacheImpl, NullCache
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target
from numba.core.serialize import dumps

from ..private_files import NotPrivateError, make_private, read_private, write_private
from .softplus import OPTIONS

_log = logging.getLogger("sce_numba")

# With NUMBA_DISABLE_JIT the formulas are made for Python's interpreter when they are imported, and
# can't be made for the compiler later on; nor the other way round.
_INTERPRETED = bool(config.DISABLE_JIT)

# Bytes, as the main thread has on most systems; what isn't touched takes no memory.
_STACK = 1 << 23

# After so many seconds an unfinished file is that of a process that was killed.
_LEFT_BEHIND = 3600

# Which folders are not used, and why, in the last search for one.
_refused: list[str] = []

# A child that is forked while a thread compiles would inherit a lock that nobody releases, and
# wait for it when it compiles or loads code itself.  So a fork waits for the end of a compilation,
# as it does in `logging` for the end of a message.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=global_compiler_lock.acquire,
        after_in_parent=global_compiler_lock.release,
        after_in_child=global_compiler_lock.release,
    )


@cache
def _sources() -> bytes:
    """Return a digest of the source of everything that is compiled; empty where there is none."""
    digest = hashlib.sha256()
    # Unlike a glob of the folder, this sees into a zip file.
    files = importlib.resources.files(__package__).iterdir()
    sources = {file.name: file.read_bytes() for file in files if file.name.endswith(".py")}
    for name in sorted(sources):
        digest.update(name.encode() + b"\0" + hashlib.sha256(sources[name]).digest())
    return digest.digest() if sources else b""


def _make(folder: str) -> None:
    try:
        make_private(folder)
    except NotPrivateError as error:
        _refused.append(str(error))
        raise


def _careful(locator: type) -> type:
    """Return one of Numba's ways to find a folder, for folders that only this user can write to."""

    class Careful(locator):
        def ensure_cache_path(self) -> None:
            _make(self.get_cache_path())
            super().ensure_cache_path()

    return Careful


class _Folder(CompileResultCacheImpl):
    _locator_classes = tuple(map(_careful, CompileResultCacheImpl._locator_classes))


class _Cache(NullCache):
    """Compiled code of one function on disk: found by what was asked for, believed by checksum."""

    def __init__(self, function: Callable[..., Any], kind: str) -> None:
        """Raise an exception where there is no place for files, or nothing to tell stale code."""
        _refused.clear()
        self._numba = _Folder(function)
        _make(self.cache_path)  # NUMBA_CACHE_LOCATOR_CLASSES may name others
        self._numba.locator.ensure_cache_path()
        self._name, self._kind = function.__name__, kind
        if not _sources():
            raise RuntimeError("there is no source that a checksum could be made of")

    @property
    def cache_path(self) -> str:
        return str(self._numba.locator.get_cache_path())

    def _file(self, signature: Any, codegen: Any) -> Path:
        # The magic tuple names the CPU and its features: machines that share a folder don't share
        # code.  A pickle is for one version of Python and of Numba.
        versions = sys.implementation.cache_tag, numba.__version__, llvmlite.__version__
        key = repr((signature, self._kind, config.OPT, codegen.magic_tuple(), versions))
        digest = hashlib.sha256(key.encode()).hexdigest()[:32]
        return Path(self.cache_path, f"sce_numba.{self._name}.{digest}.nbc")

    def code(self, signature: Any, target_context: Any) -> bytes | None:
        """Return compiled code as it is on disk, or None for whatever reason there is none."""
        file = self._file(signature, target_context.codegen())
        try:
            content = read_private(file)
        except FileNotFoundError:
            return None
        except Exception as error:
            _log.debug("%s can't be read (%s), and is compiled anew", file, error)
            return None
        code = content[32:]
        if content[:32] != hashlib.sha256(_sources() + code).digest():
            _log.debug("%s is stale or damaged, and is compiled anew", file)
            return None
        return code

    def load_overload(self, signature: Any, target_context: Any) -> Any:
        """Return the compile result, or None for whatever reason there is none."""
        target_context.refresh()
        code = self.code(signature, target_context)
        if code is None:
            return None
        try:
            return self._numba.rebuild(target_context, pickle.loads(code))
        except Exception as error:
            _log.debug("code of %s can't be used (%s), and is compiled anew", self._name, error)
            return None

    def save_overload(self, signature: Any, result: Any) -> None:
        """Write a file that appears at once or not at all; without it nothing is wrong but slow."""
        if not self._numba.check_cachable(result):
            return
        file = self._file(signature, result.codegen)
        code = dumps(self._numba.reduce(result))
        unfinished = file.with_name(f"{file.name}.{uuid.uuid4().hex[:8]}.tmp")
        try:
            try:
                write_private(unfinished, hashlib.sha256(_sources() + code).digest() + code)
                os.replace(unfinished, file)
            finally:
                unfinished.unlink(missing_ok=True)
            for other in file.parent.glob("sce_numba.*.tmp"):
                if other.stat().st_mtime < time.time() - _LEFT_BEHIND:
                    other.unlink()
        except OSError as error:
            _log.debug("%s can't be written: %s", file, error)


def cache_folder() -> str | None:
    """Return where compiled code is kept, or None where nothing can be written."""
    try:
        return _Cache(Loop._set, "").cache_path
    except Exception:  # Numba's reasons are many: no place, no such locator, a name it can't read
        return None


def why_not() -> str:
    """Tell why a folder was passed over in the last search, or why there is none."""
    return ", ".join(dict.fromkeys(_refused)) or "there is no folder to keep compiled code in"


@cache
def _say(text: str) -> None:
    _log.info(text)


def _apart(function: Callable[[str], None], name: str) -> None:
    """Call a function where no signal reaches it, and where the stack is large enough.

    Ctrl-C in the middle of a compilation leaves Numba with half a function, which fails whenever
    it is used again in this process.  Python handles signals on the main thread: that one waits
    here, may be interrupted, and the compilation goes on.  And a thread may have been given a stack
    of a few pages, on which the compiler would crash.
    """
    # Where this thread compiles already, it holds the lock that another would wait for.  At the end
    # of the interpreter a new thread never runs, and some versions wait for it.
    if global_compiler_lock.is_locked() or sys.is_finalizing():
        function(name)
    elif threading.current_thread() is threading.main_thread():
        _start(lambda: _on_a_large_stack(lambda: function(name)))()
    else:
        _on_a_large_stack(lambda: function(name))


def _on_a_large_stack(work: Callable[[], None]) -> None:
    # The size is one for all threads that start, so only one of these changes it at a time.
    with global_compiler_lock:
        usual = threading.stack_size(_STACK)
        try:
            join = _start(work)
        finally:
            threading.stack_size(usual)
    join()


def _start(work: Callable[[], None]) -> Callable[[], None]:
    """Start a thread; return what waits for it, and raises what it raised."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    def join() -> None:
        thread.join()
        if failed:
            raise failed[0]

    thread = threading.Thread(target=run, name="sce_numba compiles")
    try:
        thread.start()
    except RuntimeError:  # no thread can be had, for want of memory say
        return work
    return join


def _quiet(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a loop that runs as Python, and warns of NaN and infinity no more than compiled."""

    def run(*arguments: Any) -> Any:
        with np.errstate(all="ignore"):
            return function(*arguments)

    return run


class Loop:
    """A loop over blocks with fixed argument types, compiled when it is first called."""

    serial: Callable[..., Any]  # on the calling thread
    parallel: Callable[..., Any]  # on Numba's threads

    def __init__(self, function: Callable[..., Any], signature: Any) -> None:
        self._function = function
        self._signature = signature
        self._on_disk: dict[str, bool] = {}

    if not TYPE_CHECKING:

        def __getattr__(self, name):
            # Python asks for what isn't there yet.  Numba's lock is the only one: with another
            # (that of `cached_property`) a fork could happen while a thread that waits holds it.
            if name not in ("serial", "parallel"):
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            _apart(self._set, name)
            return self.__dict__[name]

    def _set(self, name: str) -> None:
        with global_compiler_lock:
            if name not in self.__dict__:
                self.__dict__[name] = self._compile(name)

    def is_on_disk(self, kind: str) -> bool:
        """Tell whether code of a kind was on disk when this was first asked."""
        if kind not in self._on_disk:
            try:
                code = _Cache(self._function, kind).code(self._signature, cpu_target.target_context)
            except Exception:  # as in `cache_folder`
                code = None
            self._on_disk[kind] = code is not None
        return self._on_disk[kind]

    def _compile(self, kind: str) -> Callable[..., Any]:
        if _INTERPRETED:
            return _quiet(self._function)
        options = OPTIONS | {"no_cpython_wrapper": False}
        disabled, config.DISABLE_JIT = config.DISABLE_JIT, False
        try:
            dispatcher = njit(parallel=kind == "parallel", **options)(self._function)
            try:
                dispatcher._cache = _Cache(self._function, kind)
                if _refused:
                    _say(f"keeping compiled code in {dispatcher._cache.cache_path}, as {why_not()}")
            except Exception:  # as in `cache_folder`
                _say(
                    f"compiling in memory, in every process anew, as {why_not()}; "
                    "set NUMBA_CACHE_DIR to a folder that only you can write to"
                )
            dispatcher.compile(self._signature)
        finally:
            config.DISABLE_JIT = disabled
        dispatcher.disable_compile()
        return dispatcher  # type: ignore[no-any-return]
