"""The same bits whatever floating-point environment the caller has set.

A program may have told the processor to take subnormal numbers for 0, as does
``torch.set_flush_denormal(True)``, and a thread inherits that from the one that started it.  What
is computed here is computed in the default environment; then that which was set is put back.

Nothing is done on other processors than those of x86.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from .lanes import Lanes, call_llvm

# Of the register MXCSR: the flags of what has happened, and all else as it is by default.
FLAGS, DEFAULT = 0x3F, 0x1F80
_WORD = ir.IntType(32)


def in_default_environment(example: Any, work: Callable[[], Any]) -> Any:
    """Do something in the default environment, with no other than calls of functions in it."""
    if not isinstance(example, Lanes) or not _is_x86(example.builder):
        return work()
    builder = example.builder
    place = builder.alloca(_WORD)
    _access(builder, "stmxcsr", place)
    before = builder.load(place)
    control = builder.and_(before, _WORD(~FLAGS & 0xFFFFFFFF))
    is_other = builder.icmp_unsigned("!=", control, _WORD(DEFAULT))
    _set(builder, is_other, _WORD(DEFAULT))
    result = work()
    _set(builder, is_other, before)
    return result


def _is_x86(builder: ir.IRBuilder) -> bool:
    return str(builder.module.triple).startswith(("x86_64", "i686", "i386"))


def _access(builder: ir.IRBuilder, name: str, place: ir.Value) -> None:
    """Store or load the register."""
    byte = builder.bitcast(place, ir.IntType(8).as_pointer())
    call_llvm(builder, f"llvm.x86.sse.{name}", ir.VoidType(), [byte])


def _set(builder: ir.IRBuilder, wanted: ir.Value, control: ir.Value) -> None:
    place = builder.alloca(_WORD)
    with builder.if_then(wanted, likely=False):
        builder.store(control, place)
        _access(builder, "ldmxcsr", place)
