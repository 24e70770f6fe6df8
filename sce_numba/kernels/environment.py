"""The same bits whatever floating-point environment the caller has set.

A program may have told the processor to take subnormal numbers for 0, as does
``torch.set_flush_denormal(True)``, and a thread inherits that from the one that started it.  What
is computed here is computed in the default environment; then that which was set is put back.

Nothing is done on other processors than those of x86.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

# Of the register MXCSR: the flags of what has happened, and all else as it is by default.
FLAGS, DEFAULT = 0x3F, 0x1F80
# A bit that flushes results to 0: in the default environment it is none, which LLVM doesn't know.
FLUSH = 0x8000


def enter_default(numbers: tuple[float, ...]) -> Any:
    """Set the default environment; return that which was set, and the numbers.

    To the compiler these are others from here on: nothing made of them can be computed before.
    """
    return 0, *numbers


def leave_default(before: int, number: float) -> float:
    """Set the environment there was; return the number, which has been computed before."""
    return number


if not config.DISABLE_JIT:
    _WORD = ir.IntType(32)

    def _access(builder: ir.IRBuilder, name: str, place: ir.Value) -> None:
        """Store or load the register."""
        byte = ir.IntType(8).as_pointer()
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), [byte]), f"llvm.x86.sse.{name}"
        )
        builder.call(function, [builder.bitcast(place, byte)])

    def _get(builder: ir.IRBuilder) -> ir.Value:
        place = cgutils.alloca_once(builder, _WORD)
        _access(builder, "stmxcsr", place)
        return builder.load(place)

    def _set(builder: ir.IRBuilder, before: ir.Value, wanted: ir.Value) -> None:
        """Set an environment, unless that before is the default one."""
        control = builder.and_(before, _WORD(~FLAGS & 0xFFFFFFFF))
        place = cgutils.alloca_once(builder, _WORD)
        with builder.if_then(builder.icmp_unsigned("!=", control, _WORD(DEFAULT)), likely=False):
            builder.store(wanted, place)
            _access(builder, "ldmxcsr", place)

    def _nothing(builder: ir.IRBuilder) -> ir.Value:
        """Return a 0 of 64 bits that is known only now."""
        return builder.zext(builder.and_(_get(builder), _WORD(FLUSH)), ir.IntType(64))

    def _is_x86(builder: ir.IRBuilder) -> bool:
        return str(builder.module.triple).startswith(("x86_64", "i686", "i386"))

    @intrinsic
    def enter_default(_typing, numbers):
        """Set the default environment; return that which was set, and the numbers."""

        def codegen(context, builder, signature, arguments):
            before, values = _WORD(DEFAULT), cgutils.unpack_tuple(builder, arguments[0])
            if _is_x86(builder):
                before = _get(builder)
                _set(builder, before, _WORD(DEFAULT))
                nothing = _nothing(builder)
                values = [
                    builder.bitcast(
                        builder.or_(builder.bitcast(value, nothing.type), nothing), value.type
                    )
                    for value in values
                ]
            return context.make_tuple(builder, signature.return_type, [before, *values])

        return types.Tuple((types.int32, *numbers))(numbers), codegen

    @intrinsic
    def leave_default(_typing, before, number):
        """Set the environment there was; return the number, which has been computed before."""

        def codegen(context, builder, _signature, arguments):
            before, value = arguments
            if _is_x86(builder):
                nothing = _nothing(builder)
                own = builder.and_(builder.bitcast(value, nothing.type), nothing)
                before = builder.or_(before, builder.trunc(own, _WORD))
                _set(builder, before, before)
            return value

        return types.float64(before, number), codegen
