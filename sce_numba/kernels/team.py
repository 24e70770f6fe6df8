"""What compiled code knows of the threads that share a loop, and has the system do with them.

In a virtual machine, a CPU that has been idle for a moment is taken back by the host, and Linux
then thinks that others use it.  So a thread that wakes another often has it wait for the very CPU
on which it does its own part of the loop, and at the end waits for it in turn.  One that has not
begun by then is moved to another CPU; for one that is on another already, nothing changes.
"""

from __future__ import annotations

import ctypes
import sys

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .numba_internals import get_or_insert_function

_INT, _WORD = ir.IntType(32), ir.IntType(64)
_CPUS = 1024  # in a set of CPUs, as the C library has it

# Part of the key of compiled code: that which calls what isn't there would end the process.
CAN_MOVE = sys.platform == "linux" and all(
    hasattr(ctypes.CDLL(None), name)
    for name in ("gettid", "sched_getcpu", "sched_getaffinity", "sched_setaffinity")
)


def _word_at(builder, address):
    return builder.inttoptr(address, _WORD.as_pointer())


def _call(builder, name, *arguments):
    """Call a function of the C library that returns an int."""
    kind = ir.FunctionType(_INT, [argument.type for argument in arguments])
    return builder.call(get_or_insert_function(builder.module, kind, name), arguments)


@intrinsic
def take(_typing, place):
    """Return a whole number in memory, which is one more for whoever asks next."""

    def codegen(_context, builder, _signature, arguments):
        return builder.atomic_rmw("add", _word_at(builder, arguments[0]), _WORD(1), "monotonic")

    return types.int64(types.int64), codegen


@intrinsic
def load(_typing, place):
    """Return a whole number in memory that other threads may write."""

    def codegen(_context, builder, _signature, arguments):
        return builder.load_atomic(_word_at(builder, arguments[0]), "monotonic", 8)

    return types.int64(types.int64), codegen


@intrinsic
def store(_typing, place, number):
    """Write a whole number that other threads may read."""

    def codegen(context, builder, _signature, arguments):
        place, number = arguments
        builder.store_atomic(number, _word_at(builder, place), "monotonic", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def this_thread(_typing):
    """Return the system's number of this thread, or 0 where threads can't be moved."""

    def codegen(_context, builder, _signature, _arguments):
        return builder.sext(_call(builder, "gettid"), _WORD) if CAN_MOVE else _WORD(0)

    return types.int64(), codegen


@intrinsic
def move_away(_typing, thread):
    """Move another thread to any other CPU, if it is on that of this one.

    To be kept off this CPU moves it, and to be let onto it again does not move it back.  Should the
    number be that of a thread that has ended, and have gone to another, the same is done to that.
    """

    def codegen(context, builder, _signature, arguments):
        if CAN_MOVE:
            cpu = builder.zext(_call(builder, "sched_getcpu"), _WORD)
            with builder.goto_entry_block():
                allowed = builder.alloca(ir.ArrayType(_WORD, _CPUS // 64))
            given = builder.trunc(arguments[0], _INT), _WORD(_CPUS // 8), allowed
            failed = _call(builder, "sched_getaffinity", *given)
            with builder.if_then(builder.icmp_signed("==", failed, _INT(0))):
                place = builder.gep(allowed, [_WORD(0), builder.lshr(cpu, _WORD(6))])
                before = builder.load(place)
                this = builder.shl(_WORD(1), builder.and_(cpu, _WORD(63)))
                for those in (builder.and_(before, builder.not_(this)), before):
                    builder.store(those, place)
                    _call(builder, "sched_setaffinity", *given)
        return context.get_dummy_value()

    return types.void(types.int64), codegen
