"""Register Python functions as handlers of XLA's foreign function interface, without copies.

XLA calls a handler with a frame (see ``xla_frame``) that has the addresses of operands and results.
When a handler is registered, XLA asks it for its version of the interface, and refuses one that it
no longer supports.  ``jax.pure_callback`` needs no frame, but copies its operands and results.

Handlers are called on threads of XLA, which must not wait for Python once it has ended: when the
interpreter exits, computations that nobody waits for may still run.  So XLA calls a few lines of
machine code, the gate, which refuse all calls from then on.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import mmap
import os
import time
from collections.abc import Callable
from ctypes import c_int64, c_size_t, c_void_p
from typing import Any

import jax
import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir

from .xla_frame import (
    EXECUTE,
    INTERNAL,
    MAJOR,
    METADATA,
    MINOR,
    OLDEST_MINOR,
    RESOURCE_EXHAUSTED,
    UNAVAILABLE,
    Api,
    Buffer,
    Buffers,
    Failure,
    Frame,
)

# A function of the attribute `text`, the operands, and the results to write to.
Compute = Callable[[str, list[np.ndarray], list[np.ndarray]], None]

# The size of results, in bytes, from which on large pages pay; NumPy's own threshold.
LARGE = 1 << 22

# XLA's codes of the dtypes that JAX and this package have in common.
_DTYPES: dict[int, np.dtype[Any]] = {
    code: np.dtype(dtype)
    for code, dtype in {
        1: np.bool_,
        2: np.int8,
        3: np.int16,
        4: np.int32,
        5: np.int64,
        6: np.uint8,
        7: np.uint16,
        8: np.uint32,
        9: np.uint64,
        10: np.float16,
        11: np.float32,
        12: np.float64,
        16: jax.numpy.bfloat16,
        19: jax.numpy.float8_e5m2,
        20: jax.numpy.float8_e4m3fn,
    }.items()
}

_HANDLER = ctypes.CFUNCTYPE(c_void_p, ctypes.POINTER(Frame))
_kept: list[Any] = []  # alive until the process ends, as XLA may use them


def register(name: str, compute: Compute) -> None:
    """Register a function under a name for ``jax.ffi.ffi_call``, whose attribute is ``text``."""

    def handle(pointer: Any) -> int | None:
        frame = pointer.contents
        try:
            if frame.extension and frame.extension.contents.type == METADATA:
                _tell_version(frame)
            elif frame.stage == EXECUTE:
                text = frame.attributes.texts[0].contents
                results = _arrays(frame.results)
                for result in results:
                    _use_large_pages(result)
                operands = _arrays(frame.operands)
                compute(ctypes.string_at(text.address, text.size).decode(), operands, results)
        except BaseException as error:  # XLA has no way to hand it on as it is
            return _failure(frame, error)
        return None

    handler = _HANDLER(handle)
    _kept.append(handler)
    address = ctypes.cast(handler, c_void_p).value
    assert address is not None
    capsule = jax.ffi.pycapsule(c_void_p(_behind_the_gate(address)))
    jax.ffi.register_ffi_target(name, capsule, platform="cpu")


def _tell_version(frame: Frame) -> None:
    """Tell XLA the newest version of the interface that both support."""
    # Old versions of XLA don't tell their own.
    version = frame.extension.contents.metadata.contents.version
    their_minor = frame.api.contents.version.minor if frame.api else OLDEST_MINOR
    version.major, version.minor = MAJOR, min(MINOR, their_minor)


def _arrays(buffers: Buffers) -> list[np.ndarray]:
    return [_array(buffers.buffers[index].contents) for index in range(buffers.size)]


def _array(buffer: Buffer) -> np.ndarray:
    """Return the memory of a buffer as an array."""
    shape = tuple(buffer.shape[: buffer.rank])
    dtype = _DTYPES[buffer.dtype]
    size = dtype.itemsize
    for length in shape:
        size *= length
    if size == 0:
        return np.empty(shape, dtype)
    memory: Any = (ctypes.c_byte * size).from_address(buffer.data)
    array: np.ndarray = np.frombuffer(memory, dtype).reshape(shape)
    return array


def _use_large_pages(result: np.ndarray) -> None:
    """Ask for large pages for the memory of a result, as NumPy does for its own.

    XLA allocates the memory of a large result at every call.  Faults of small pages would take
    longer than the computation that writes there.
    """
    advice, page = getattr(mmap, "MADV_HUGEPAGE", None), mmap.PAGESIZE
    if advice is None or result.nbytes < LARGE:
        return
    start = result.ctypes.data
    first = -(-start // page) * page
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).madvise(c_void_p(first), c_size_t(start + result.nbytes - first), advice)


def _failure(frame: Frame, error: BaseException) -> int:
    """Return an error of XLA with the message of an exception of Python."""
    code = RESOURCE_EXHAUSTED if isinstance(error, MemoryError) else INTERNAL
    message = f"{type(error).__name__}: {error}".encode()
    failure = Failure(ctypes.sizeof(Failure), None, message, code)
    return int(frame.api.contents.create_error(failure))


# ---- The gate -------------------------------------------------------------------------------

# The number of calls inside the gate, and whether it is closed.
_inside, _closed = c_int64(0), c_int64(0)
_refusal = Failure(
    ctypes.sizeof(Failure), None, b"sce_numba: the interpreter of Python has ended.", UNAVAILABLE
)


def _behind_the_gate(handler: int) -> int:
    """Return the address of a handler that calls the given one unless the gate is closed.

    A call counts itself as inside before it checks whether the gate is closed; so closing it, and
    then waiting until nobody is inside, misses no call.
    """
    word = ir.IntType(64)
    signature = ir.FunctionType(word, [word])
    module = ir.Module()
    function = ir.Function(module, signature, "gate")
    (frame,) = function.args
    builder = ir.IRBuilder(function.append_basic_block())

    def pointer(address: Any, to: ir.Type = word) -> Any:
        value = word(address) if isinstance(address, int) else address
        return builder.inttoptr(value, to.as_pointer())

    inside = pointer(ctypes.addressof(_inside))
    builder.atomic_rmw("add", inside, word(1), "seq_cst")
    closed = builder.load_atomic(pointer(ctypes.addressof(_closed)), "seq_cst", 8)
    with builder.if_else(builder.icmp_signed("!=", closed, word(0))) as (refused, welcome):
        with refused:
            api = builder.load(pointer(builder.add(frame, word(Frame.api.offset))))
            create = builder.load(pointer(builder.add(api, word(Api.create_error.offset))))
            error = builder.call(pointer(create, signature), [word(ctypes.addressof(_refusal))])
            last_refused = builder.block
        with welcome:
            result = builder.call(pointer(handler, signature), [frame])
            last_welcome = builder.block
    returned = builder.phi(word)
    returned.add_incoming(error, last_refused)
    returned.add_incoming(result, last_welcome)
    builder.atomic_rmw("sub", inside, word(1), "seq_cst")
    builder.ret(returned)
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(codemodel="jitdefault")
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(str(module)), machine)
    engine.finalize_object()
    _kept.append(engine)
    return int(engine.get_function_address("gate"))


@atexit.register
def _close() -> None:
    _closed.value = 1
    while _inside.value:
        time.sleep(0.001)


def _forget() -> None:
    _inside.value = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)  # the child lacks the threads that were inside
