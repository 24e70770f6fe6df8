"""Vectors that are longer than a register, computed side by side and not part after part.

LLVM orders instructions so that few registers are live, and computes one part of a long vector to
its end before it begins another.  Each instruction of a part waits for the one before, and a
processor with few registers, of whose instructions not so many wait at a time, runs out of others.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from .lanes import Lanes, joined, split
from .processor import uses_ymm

# Bytes of a register.
_YMM = 32


def side_by_side(x: Any) -> Any:
    """Return lanes, none of which LLVM uses before all of them are computed.

    That takes no instruction.
    """
    if not isinstance(x, Lanes) or not uses_ymm():
        return x
    kind = x.value.type
    if not isinstance(kind, ir.VectorType):
        return x
    itemsize = 8 if kind.element in (ir.DoubleType(), ir.IntType(64)) else 4
    parts = split(x, max(1, kind.count * itemsize // _YMM))
    kinds, count = [part.value.type for part in parts], len(parts)
    if count == 1:
        return x
    # Nothing, which takes all parts and leaves them in the same registers.
    constraint = ",".join(["=x"] * count + [str(k) for k in range(count)])
    kind = ir.FunctionType(ir.LiteralStructType(kinds), kinds)
    nothing = ir.InlineAsm(kind, "", constraint)
    found = x.builder.call(nothing, [part.value for part in parts])
    return joined([Lanes(x.builder, x.builder.extract_value(found, k)) for k in range(count)])
