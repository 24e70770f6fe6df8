"""Reading operands in their own dtype: contiguous elements in, lanes of float32 or float64 out.

The dtype is a number known only at run time, so that one compiled loop serves all of them; the
branch that it costs for each vector always goes the same way.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir

from .dtypes import BOOL, DTYPES, FLOAT32, FLOAT64, FLOATS, MISSING
from .lanes import Lanes, apart, constant, when
from .memory import at, copy, on_stack, pointer
from .side_by_side import side_by_side
from .small_floats import widened

# Bytes in a line of the caches.
LINE = 64

_FLOAT, _DOUBLE = ir.FloatType(), ir.DoubleType()


def own_format(dtype: Any) -> tuple[int, int]:
    """Return code and bytes an element of a dtype that is computed in."""
    return (FLOAT32, 4) if dtype is np.float32 else (FLOAT64, 8)


class Operand(NamedTuple):
    """Where the elements of a block lie: their address, dtype code and bytes an element."""

    address: Any
    code: Any
    itemsize: Any


ABSENT = Operand(0, MISSING, 0)


def is_absent(operand: Operand) -> bool:
    """Tell whether it is known, while code is made, that an operand isn't there."""
    return isinstance(operand.code, int) and operand.code == MISSING


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
        return [FLOAT32, MISSING] + ([FLOAT64] if dtype is np.float64 else [])
    if flags_only:
        return [BOOL, MISSING]
    if floats_only:
        return [code for code in FLOATS if code != FLOAT64 or dtype is np.float64]
    return list(range(MISSING + 1))


def load(dtype: Any, address: Any, code: Any, count: int, **options: bool) -> Any:
    """Return ``count`` lanes, converted to ``dtype``, of the operand at ``address``."""
    return load_each(dtype, [address], code, count, **options)[0]


def load_each(
    dtype: Any,
    addresses: list[Any],
    code: Any,
    count: int,
    floats_only: bool = False,
    flags_only: bool = False,
    own_only: bool = False,
) -> list[Any]:
    """Do as ``load`` for several places at once, which takes one branch."""
    first = addresses[0]
    if not isinstance(first, Lanes):
        return [_load_array(dtype, address, code, count) for address in addresses]
    builder = first.builder
    kind = ir.VectorType(_FLOAT if dtype is np.float32 else _DOUBLE, count)

    def values(number: int) -> list[ir.Value]:
        return [_load_as(builder, kind, address.value, number) for address in addresses]

    if isinstance(code, int):
        return [Lanes(builder, value) for value in values(code)]
    function = builder.function
    impossible, done = (
        function.append_basic_block("lanes.impossible"),
        function.append_basic_block("lanes.loaded"),
    )
    switch = builder.switch(code.value, impossible)
    found = []
    codes, (own, _) = _codes(dtype, floats_only, flags_only, own_only), own_format(dtype)
    # The first to be asked for, lest each step jump through a table.
    switch.set_weights([1] + [1000 if number == own else 1 for number in codes])
    for number in codes:
        case = function.append_basic_block(f"lanes.dtype.{number}")
        switch.add_case(ir.Constant(code.value.type, number), case)
        builder.position_at_end(case)
        found.append((values(number), builder.block))
        builder.branch(done)
    builder.position_at_end(impossible)
    builder.unreachable()
    builder.position_at_end(done)
    results = [builder.phi(kind) for _ in addresses]
    for loaded, block in found:
        for result, value in zip(results, loaded, strict=True):
            result.add_incoming(value, block)
    return [Lanes(builder, result) for result in results]


def _load_array(dtype: Any, address: int, code: int, count: int) -> Any:
    if code == MISSING:
        return np.ones(count, dtype)
    name, _, itemsize, small = DTYPES[code]
    if small is None:
        return at(address, count, name).astype(dtype)
    return widened(small, at(address, count, f"u{itemsize}").astype(np.int32)).astype(dtype)


def _load_as(builder: ir.IRBuilder, kind: ir.VectorType, address: ir.Value, code: int) -> ir.Value:
    if code == MISSING:
        return ir.Constant(kind, [ir.Constant(kind.element, 1.0)] * kind.count)
    _, sort, itemsize, small = DTYPES[code]
    if small is not None and small.width == 8:
        # Apart: its constants would take registers from the dtypes that are common.
        memory = on_stack(Lanes(builder, address), 4 * kind.count)
        _widen(Lanes(builder, address), memory, kind.count, code)
        return _load_as(builder, kind, memory.value, FLOAT32)
    element: ir.Type = ir.IntType(8 * itemsize)
    if code in (FLOAT32, FLOAT64):
        element = _FLOAT if code == FLOAT32 else _DOUBLE
    raw_kind = ir.VectorType(element, kind.count)
    raw = builder.load(builder.inttoptr(address, raw_kind.as_pointer()), align=itemsize)
    if element == kind.element:
        return raw
    if code == FLOAT64:
        return builder.fptrunc(raw, kind)
    if sort == "f":
        if small is not None:
            integers = ir.VectorType(ir.IntType(32), kind.count)
            raw = widened(small, Lanes(builder, builder.zext(raw, integers))).value
        return raw if raw.type == kind else builder.fpext(raw, kind)
    if sort == "b":
        zero, one = (ir.Constant(kind, [ir.Constant(kind.element, x)] * kind.count) for x in (0, 1))
        # AVX2 makes bytes longer as it loads them, but not flags.
        integers = Lanes(builder, builder.zext(raw, ir.VectorType(ir.IntType(32), kind.count)))
        return builder.select((side_by_side(integers) != 0).value, one, zero)
    return (builder.uitofp if sort == "u" else builder.sitofp)(raw, kind)


@apart("")
def _widen(address: Any, target: Any, count: int, code: int) -> tuple[Any, ...]:
    """Write numbers of 8 bits as float32."""
    form, builder = DTYPES[code].small, address.builder
    assert form is not None
    kind = ir.VectorType(ir.IntType(8), count)
    raw = builder.load(pointer(address, kind), align=1)
    integers = builder.zext(raw, ir.VectorType(ir.IntType(32), count))
    store(widened(form, Lanes(builder, integers)), target)
    return ()


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
