"""Reading operands in their own dtype: contiguous elements in, lanes of float32 or float64 out.

The dtype is a number known only at run time, so that one compiled loop serves all of them; the
branch that it costs for each vector always goes the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir

from .lanes import Lanes, apart, constant, when
from .memory import at, copy, pointer

# Bytes in a line of the caches.
LINE = 64

BOOL, INT8, INT16, INT32, INT64 = 0, 1, 2, 3, 4
UINT8, UINT16, UINT32, UINT64 = 5, 6, 7, 8
FLOAT16, BFLOAT16, FLOAT32, FLOAT64 = 9, 10, 11, 12
# An operand that isn't there, whose every element counts as 1.
ONE = 13

_DTYPES: dict[int, Any] = {
    BOOL: np.bool_,
    INT8: np.int8,
    INT16: np.int16,
    INT32: np.int32,
    INT64: np.int64,
    UINT8: np.uint8,
    UINT16: np.uint16,
    UINT32: np.uint32,
    UINT64: np.uint64,
    FLOAT16: np.float16,
    FLOAT32: np.float32,
    FLOAT64: np.float64,
}
_UNSIGNED = {UINT8, UINT16, UINT32, UINT64}
_FLOAT, _DOUBLE = ir.FloatType(), ir.DoubleType()


def own_format(dtype: Any) -> tuple[int, int]:
    """Return code and bytes an element of a dtype that is computed in."""
    return (FLOAT32, 4) if dtype is np.float32 else (FLOAT64, 8)


class Operand(NamedTuple):
    """Where the elements of a block lie: their address, dtype code and bytes an element."""

    address: Any
    code: Any
    itemsize: Any


ABSENT = Operand(0, ONE, 0)


def is_absent(operand: Operand) -> bool:
    """Tell whether it is known, while code is made, that an operand isn't there."""
    return isinstance(operand.code, int) and operand.code == ONE


def advanced(operand: Operand, count: Any) -> Operand:
    """Return an operand without its first elements."""
    if is_absent(operand):
        return operand
    return operand._replace(address=operand.address + count * operand.itemsize)


@apart("")
def _copy_tail(operand: Operand, size: Any, step: int, target: Any) -> tuple[Any, ...]:
    rest = size & (step - 1)

    def copy_rest() -> None:
        zeros = constant(size, 0.0, np.float64, step)
        store(zeros, target)
        start = operand.address + (size - rest) * operand.itemsize
        copy(start, target, rest * operand.itemsize)

    when((rest != 0) & (operand.itemsize != 0), copy_rest)
    return ()


def copy_tail(operand: Operand, size: Any, step: int, target: Any) -> None:
    """Copy what is left of a block after its whole steps of ``step`` elements, zeros behind it."""
    if not is_absent(operand):
        _copy_tail(operand, size, step, target)


def _codes(dtype: Any, floats_only: bool, flags_only: bool, own_only: bool) -> list[int]:
    """Return the dtypes that an operand may have beside logits computed in ``dtype``."""
    if own_only:
        return [FLOAT32, ONE] + ([FLOAT64] if dtype is np.float64 else [])
    if flags_only:
        return [BOOL, ONE]
    if floats_only:
        return [FLOAT16, BFLOAT16, FLOAT32] + ([FLOAT64] if dtype is np.float64 else [])
    return list(range(ONE + 1))


def load(
    dtype: Any,
    address: Any,
    code: Any,
    count: int,
    floats_only: bool = False,
    flags_only: bool = False,
    own_only: bool = False,
) -> Any:
    """Return ``count`` lanes, converted to ``dtype``, of the operand at ``address``."""
    if not isinstance(address, Lanes):
        return _load_array(dtype, address, code, count)
    builder = address.builder
    kind = ir.VectorType(_FLOAT if dtype is np.float32 else _DOUBLE, count)
    if isinstance(code, int):
        return Lanes(builder, _load_as(builder, kind, address.value, code))
    function = builder.function
    impossible, done = (
        function.append_basic_block("lanes.impossible"),
        function.append_basic_block("lanes.loaded"),
    )
    switch = builder.switch(code.value, impossible)
    found = []
    for number in _codes(dtype, floats_only, flags_only, own_only):
        case = function.append_basic_block(f"lanes.dtype.{number}")
        switch.add_case(ir.Constant(code.value.type, number), case)
        builder.position_at_end(case)
        found.append((_load_as(builder, kind, address.value, number), builder.block))
        builder.branch(done)
    builder.position_at_end(impossible)
    builder.unreachable()
    builder.position_at_end(done)
    result = builder.phi(kind)
    for value, block in found:
        result.add_incoming(value, block)
    return Lanes(builder, result)


def _load_array(dtype: Any, address: int, code: int, count: int) -> Any:
    if code == ONE:
        return np.ones(count, dtype)
    if code == BFLOAT16:
        raw = at(address, count, np.uint16).astype(np.uint32) << 16
        return raw.view(np.float32).astype(dtype)
    return at(address, count, np.dtype(_DTYPES[code])).astype(dtype)


def _load_as(builder: ir.IRBuilder, kind: ir.VectorType, address: ir.Value, code: int) -> ir.Value:
    if code == ONE:
        return ir.Constant(kind, [ir.Constant(kind.element, 1.0)] * kind.count)
    itemsize = 2 if code == BFLOAT16 else np.dtype(_DTYPES[code]).itemsize
    element: ir.Type = ir.IntType(8 * itemsize)
    if code in (FLOAT32, FLOAT64):
        element = _FLOAT if code == FLOAT32 else _DOUBLE
    raw_kind = ir.VectorType(element, kind.count)
    raw = builder.load(builder.inttoptr(address, raw_kind.as_pointer()), align=itemsize)
    if element == kind.element:
        return raw
    if code == FLOAT64:
        return builder.fptrunc(raw, kind)
    if code in (FLOAT16, BFLOAT16, FLOAT32):
        single = ir.VectorType(_FLOAT, kind.count)
        convert: dict[int, Callable[..., ir.Value]] = {FLOAT16: _float16, BFLOAT16: _bfloat16}
        value = convert[code](builder, raw, single) if code != FLOAT32 else raw
        return value if kind == single else builder.fpext(value, kind)
    if code == BOOL:
        zero, one = (ir.Constant(kind, [ir.Constant(kind.element, x)] * kind.count) for x in (0, 1))
        none = ir.Constant(raw_kind, [ir.Constant(element, 0)] * kind.count)
        return builder.select(builder.icmp_signed("!=", raw, none), one, zero)
    return (builder.uitofp if code in _UNSIGNED else builder.sitofp)(raw, kind)


def _bfloat16(builder: ir.IRBuilder, raw: ir.Value, single: ir.VectorType) -> ir.Value:
    """Put the bits of a bfloat16 into the upper half of a float32."""
    wide = Lanes(builder, builder.zext(raw, ir.VectorType(ir.IntType(32), single.count)))
    return builder.bitcast((wide << 16).value, single)


def _float16(builder: ir.IRBuilder, raw: ir.Value, single: ir.VectorType) -> ir.Value:
    """Move the bits of a float16 into a float32 and make good for the exponent's bias."""
    integers = ir.VectorType(ir.IntType(32), single.count)
    half = Lanes(builder, builder.zext(raw, integers))
    magnitude = (half & 0x7FFF) << 13
    small = Lanes(builder, builder.bitcast(magnitude.value, single)) * 2.0**112
    bits = Lanes(builder, builder.bitcast(small.value, integers))
    special = magnitude | 0x7F800000
    is_special = magnitude >= 0x7C00 << 13
    chosen = Lanes(builder, builder.select(is_special.value, special.value, bits.value))
    return builder.bitcast((chosen | ((half & 0x8000) << 16)).value, single)


def repeat(x: Any, lanes: int) -> Any:
    """Return lanes that all hold the one element of ``x``."""
    if not isinstance(x, Lanes):
        return np.repeat(x, lanes)
    mask = ir.Constant(
        ir.VectorType(ir.IntType(32), lanes), [ir.Constant(ir.IntType(32), 0)] * lanes
    )
    return Lanes(x.builder, x.builder.shuffle_vector(x.value, x.value, mask))


def store(values: Any, address: Any, past_caches: bool = False) -> None:
    """Write lanes to contiguous memory."""
    if not isinstance(values, Lanes):
        at(address, values.size, values.dtype)[:] = values
        return
    builder, kind = values.builder, values.value.type
    target = pointer(address, kind)
    itemsize = 4 if kind.element == _FLOAT else 8
    written = builder.store(values.value, target, align=LINE if past_caches else itemsize)
    if past_caches:
        one = ir.Constant(ir.IntType(32), 1)
        written.set_metadata("nontemporal", builder.module.add_metadata([one]))
