"""Compile the kernels when they are first needed.

Importing the package compiles nothing.  Each job (see ``jobs``) is compiled by LLVM into an object
file of its own.  Numba compiles one loop, the parallel one over groups of tiles, which calls a job
by its address.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import logging
import os
import sys
import threading
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
from llvmlite import ir
from numba import config, prange, types
from numba.extending import intrinsic

from . import machine_code
from .array_address import address
from .cache import cache_for
from .elements import SIGMOID
from .focal import FOCAL
from .jobs import FORMS, KINDS, OF_FORMULAS, ONE_FORM, PARTIAL, Job, interpreted
from .numba_internals import (
    function_type,
    global_compiler_lock,
    object_code,
)
from .operand import LINE
from .team import CAN_MOVE, load, move_away, store, take, this_thread
from .tiles import GROUPS, SCRATCH, Form, from_a_line_on

_log = logging.getLogger("sce_numba")

OPTIONS: dict[str, Any] = {
    "error_model": "numpy",
    "fastmath": False,  # that of a caller would be inherited
    "nogil": True,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}

# Bytes, as the main thread has on most systems; what isn't touched takes no memory.
_STACK = 1 << 23

# A child that is forked while a thread compiles would inherit a lock that nobody releases, and
# wait for it when it compiles or loads code itself.  So a fork waits for the end of a compilation,
# as it does in `logging` for the end of a message.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=global_compiler_lock.acquire,
        after_in_parent=global_compiler_lock.release,
        after_in_child=global_compiler_lock.release,
    )


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


class _Lazy:
    """An object whose parts are made when they are first asked for, by one thread at a time."""

    _parts: tuple[str, ...] = ()

    if not TYPE_CHECKING:

        def __getattr__(self, name):
            # Python asks for what isn't there yet.  Numba's lock is the only one: with another
            # (that of `cached_property`) a fork could happen while a thread that waits holds it.
            if name not in self._parts:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            _apart(self._set, name)
            return self.__dict__[name]

    def _set(self, name: str) -> None:
        with global_compiler_lock:
            if name not in self.__dict__:
                self._make(name)

    def _make(self, name: str) -> None:
        raise NotImplementedError


def _address_of_bytes(text: bytes) -> int:
    found = ctypes.cast(ctypes.c_char_p(text), ctypes.c_void_p).value
    assert found is not None
    return found


def _code(name: str, key: Any, load: Callable[[bytes], Any], compiled: Callable[[], bytes]) -> Any:
    """Return what ``load`` makes of code that is on disk, or is compiled now and kept there."""
    cache = cache_for(name, key)
    code = cache.load() if cache else None
    if code is not None:
        try:
            return load(code)
        except Exception as error:
            _log.debug("code of %s can't be used (%s), and is compiled anew", name, error)
    _log.info("compiling %s for this processor", name)
    code = compiled()
    found = load(code)
    if cache:
        cache.save(code)
    return found


class Kernel(_Lazy):
    """A job as compiled code, for calls from Python; compiled when it is first called.

    ``serial`` does all of it on this thread, ``parallel`` on Numba's.
    """

    _parts = ("serial", "parallel", "whole", "group", "finish")
    serial: Callable[[bytes], float]
    parallel: Callable[[bytes, int, int], float]
    whole: int
    group: int
    finish: Callable[[bytes, int], float]

    def __init__(self, job: Job) -> None:
        self.job, self.needs_scratch = job, job.needs_scratch

    def _make(self, name: str) -> None:
        if name == "parallel":
            self._make_parallel()
            return
        job = self.job
        # Code that is compiled already calls compiled kernels.
        if config.DISABLE_JIT and name != "whole":
            run, self.group = interpreted(job, "whole"), 0

            def serial(call: bytes) -> float:
                return float(run(_address_of_bytes(call)))

            self.serial = serial
        else:
            load = functools.partial(machine_code.load, job.symbols)
            found = _code(job.name, job, load, functools.partial(machine_code.compiled, job))
            self.whole, self.group = found[0], found[1]
            self.finish = _FINISH(found[2])
            self.serial = _WHOLE(found[0])

    def _make_parallel(self) -> None:
        if self.group:
            _DEAL.loop  # noqa: B018
            self.parallel = self._parallel
        else:  # it runs in Python's interpreter
            self.parallel = lambda call, _groups, _threads: self.serial(call)

    def _parallel(self, call: bytes, groups: int, threads: int) -> float:
        to, team, partials, lines = _shared.memory
        if len(lines) < (threads + 1) * LINE:
            to, team, partials, _ = _shared.memory = _memory_for(threads)
        own = 0
        if self.needs_scratch:
            memory = np.empty(threads * SCRATCH + LINE, np.uint8)
            own = from_a_line_on(address(memory))
        failed = _DEAL.loop(self.group, call, groups, to, own, threads, team)
        result = self.finish(call, to)
        # Numba loses an exception inside a parallel region, and with it what was still to do.
        if failed or partials[PARTIAL - 1] != groups:
            raise MemoryError("A thread could not do its part, most likely for want of memory.")
        return result


class _Scratch(threading.local):
    """Memory for what is done on a thread, kept from its first call for as long as that lives."""

    def __init__(self) -> None:
        self._memory = np.empty(SCRATCH + LINE, np.uint8)
        self.address = from_a_line_on(address(self._memory))


scratch = _Scratch()


class _Shared(threading.local):
    """What a thread shares with those that help it, kept for as long as it lives."""

    memory: tuple[int, int, Any, Any] = 0, 0, (), ()


_shared = _Shared()


def _memory_for(threads: int) -> tuple[int, int, np.ndarray, np.ndarray]:
    """Return memory for sums of groups and lines of threads: where they begin, and themselves."""
    sums, lines = np.zeros(GROUPS * PARTIAL), np.zeros((threads + 1) * LINE, np.uint8)
    return address(sums), from_a_line_on(address(lines)), sums, lines


_WHOLE = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_char_p)
_FINISH = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_char_p, ctypes.c_void_p)


@functools.cache
def kernel(kind: str, dtype: Any, form: Form | None = None) -> Kernel:
    """Return the one kernel that does a job; of some kinds there is one form alone."""
    return Kernel(Job(kind, dtype, form or FORMS[kind]))


def compile_all(dtypes: Collection[Any]) -> int:
    """Compile every job that computes in one of the dtypes; return how many there are."""
    both = (False, True)
    jobs = [
        kernel(kind, dtype, Form(staged, by_element, formula))
        for kind in KINDS
        for dtype, staged, by_element in itertools.product(dtypes, both, both)
        for formula in ((SIGMOID, FOCAL) if kind in OF_FORMULAS else (SIGMOID,))
        if kind not in FORMS and staged is ONE_FORM.get(kind, staged)
    ]
    jobs += [kernel(kind, dtype) for kind in FORMS for dtype in dtypes]
    for code in jobs:
        code.group  # noqa: B018
    from .frame import ENTRIES  # which are made of what is here

    for loop in (_DEAL, *ENTRIES.values()):
        loop.address  # noqa: B018
    return len(jobs)


def deal(function, call, groups, partials, scratch, threads, team):
    """Deal out groups of tiles to threads, each with scratch memory of its own.

    A thread begins with neighbours that are its own in each call, as they may be in its cache, and
    then helps the others, one of which may have had to be woken, or to share its CPU.  In a line of
    the caches for each thread stand how many of its groups are taken, and which thread it is, less
    than 0 until it has begun.  The first looks after those that have not, one after each group.
    """
    for group in range(groups):
        store(partials + (group + 1) * (8 * PARTIAL) - 8, 0)
    for thread in range(threads):
        line = team + thread * LINE
        store(line, 0)
        store(line + 8, -abs(load(line + 8)))
    for index in prange(threads):
        thread = np.int64(index)
        this = this_thread()
        store(team + thread * LINE + 8, this)
        next_one = 1 if thread == 0 else threads  # to look after
        for k in range(threads):
            part = (thread + k) % threads
            first, stop = groups * part // threads, groups * (part + 1) // threads
            taken = team + part * LINE
            group = first + take(taken)
            while group < stop:
                call_group(function, call, group, partials, scratch + thread * SCRATCH)
                group = first + take(taken)
                if next_one < threads:
                    other = -load(team + next_one * LINE + 8)
                    if other > 0 and other != this:
                        move_away(other)
                    next_one += 1


@intrinsic
def call_group(typing, function, call, group, partials, scratch):
    """Call compiled code by its address."""

    def codegen(context, builder, _signature, arguments):
        word = ir.IntType(64)
        kind = ir.FunctionType(ir.VoidType(), [word] * 4)
        builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), arguments[1:])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), codegen


class ByNumba(_Lazy):
    """A function of whole numbers that Numba compiles, kept on disk.

    What Numba makes of it is called by its address as well, so that a process which finds the code
    on disk need not get Numba's compiler ready.
    """

    _parts: tuple[str, ...] = ("address",)
    address: int

    def __init__(self, function: Callable[..., Any], count: int, **options: Any) -> None:
        self._function, self._count, self._options = function, count, options

    def _make(self, _name: str) -> None:
        versions = sys.implementation.cache_tag, numba.__version__, CAN_MOVE
        self.address = _code(self._function.__name__, versions, self._loaded, self._compiled)

    def _compiled(self) -> bytes:
        """Return the name of the compiled function and its object file."""
        name, code = object_code(self._function, (types.int64,) * self._count, **self._options)
        return name.encode() + b"\0" + code

    def _loaded(self, code: bytes) -> int:
        name, _, objects = code.partition(b"\0")
        (found,) = machine_code.load([name.decode()], objects)
        return found


class _Deal(ByNumba):
    """The loop over groups, compiled by Numba when it is first called."""

    _parts = ("address", "loop")

    def _make(self, name: str) -> None:
        if name == "address":
            super()._make(name)
            return
        call = function_type(ctypes.c_void_p, ctypes.c_char_p, *[ctypes.c_void_p] * 5)
        function = call(self.address)
        result, exception = (ctypes.c_void_p * 1)(), (ctypes.c_void_p * 1)()
        self.loop = functools.partial(function, result, exception)

    def _loaded(self, code: bytes) -> int:
        numba.get_num_threads()  # starts the threads, and makes what the code calls known to LLVM
        return super()._loaded(code)


_DEAL = _Deal(deal, 7, parallel=True, **OPTIONS)
