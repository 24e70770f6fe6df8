"""Stores that bypass the caches, for results too large to be found there again.

An ordinary store first reads the line it is going to overwrite; one that writes whole lines past
the caches does not, which saves a quarter of the memory traffic of logits, labels and losses.
"""

from __future__ import annotations

import ctypes

from llvmlite import ir
from numba import config, types
from numba.extending import intrinsic, register_jitable

from .softplus import OPTIONS

LINE = 64


def _move_line(target, source):
    ctypes.memmove(int(target), int(source), LINE)


def _fence():
    pass


if not config.DISABLE_JIT:

    @intrinsic
    def _move_line(_typing, target, source):
        """Copy one line to an address that is a multiple of its size, past the caches."""

        def codegen(_context, builder, _signature, arguments):
            line = ir.VectorType(ir.IntType(64), LINE // 8).as_pointer()
            to, origin = (builder.inttoptr(address, line) for address in arguments)
            store = builder.store(builder.load(origin, align=4), to, align=LINE)
            one = ir.Constant(ir.IntType(32), 1)
            store.set_metadata("nontemporal", builder.module.add_metadata([one]))
            return _context.get_dummy_value()

        return types.void(types.intp, types.intp), codegen

    @intrinsic
    def _fence(_typing):
        """Let other threads see what was stored past the caches."""

        def codegen(context, builder, _signature, _arguments):
            builder.fence("seq_cst")
            return context.get_dummy_value()

        return types.void(), codegen


@register_jitable(**OPTIONS)
def stream(source, target):
    """Copy ``source`` to ``target``, contiguous and of one dtype, past the caches."""
    itemsize = source.itemsize
    per_line = LINE // itemsize
    head = min(-target.ctypes.data % LINE // itemsize, source.size)
    lines = (source.size - head) // per_line
    for i in range(head):
        target[i] = source[i]
    to, origin = target.ctypes.data + head * itemsize, source.ctypes.data + head * itemsize
    for _ in range(lines):
        _move_line(to, origin)
        to += LINE
        origin += LINE
    for i in range(head + lines * per_line, source.size):
        target[i] = source[i]
    _fence()
