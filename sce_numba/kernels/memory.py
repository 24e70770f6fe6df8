"""Numbers in memory, by address: read, written, copied."""

from __future__ import annotations

import collections
import ctypes
from typing import Any

import numpy as np
from llvmlite import ir

from .lanes import Lanes, call_llvm, for_each

# What Python's interpreter has in the place of a stack.
_kept: collections.deque[Any] = collections.deque(maxlen=1024)


def at(address: Any, count: int, dtype: Any) -> np.ndarray:
    """Return the array of ``count`` elements that lies at an address, for Python's interpreter."""
    size = int(count) * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_char * size).from_address(int(address)), dtype)


def pointer(address: Lanes, kind: ir.Type) -> ir.Value:
    """Return an address as a pointer to something of a type."""
    return address.builder.inttoptr(address.value, kind.as_pointer())


def hidden(address: Any) -> Any:
    """Return an address of which LLVM can't tell where it comes from; that takes no instruction."""
    if not isinstance(address, Lanes):
        return address
    kind = ir.FunctionType(ir.IntType(64), [ir.IntType(64)])
    same = ir.InlineAsm(kind, "", "=r,0")
    return Lanes(address.builder, address.builder.call(same, [address.value]))


def get(address: Any, k: Any = 0, dtype: Any = np.int64) -> Any:
    """Return the whole number, or the float64, that is number ``k`` from an address on."""
    place = address + k * 8
    if not isinstance(place, Lanes):
        return at(place, 1, dtype)[0].item()
    kind = ir.IntType(64) if dtype is np.int64 else ir.DoubleType()
    return Lanes(place.builder, place.builder.load(pointer(place, kind)))


def put(address: Any, k: int, value: Any) -> None:
    """Write a number of 64 bits as number ``k`` from an address on."""
    place = address + k * 8
    if not isinstance(place, Lanes):
        at(place, 1, np.int64 if isinstance(value, int) else np.float64)[0] = value
        return
    value = value if isinstance(value, Lanes) else Lanes(place.builder, ir.DoubleType()(value))
    place.builder.store(value.value, pointer(place, value.value.type))


def on_stack(example: Any, size: int) -> Any:
    """Return the address of memory that is there until the function returns."""
    if not isinstance(example, Lanes):
        memory = ctypes.create_string_buffer(size)
        _kept.append(memory)
        return ctypes.addressof(memory)
    builder = example.builder
    with builder.goto_entry_block():
        memory = builder.alloca(ir.ArrayType(ir.IntType(8), size))
        memory.align = 64
        address = builder.ptrtoint(memory, ir.IntType(64))
    return Lanes(builder, address)


def copy(source: Any, target: Any, size: Any) -> None:
    """Copy so many bytes."""
    if not isinstance(size, Lanes):
        ctypes.memmove(int(target), int(source), int(size))
        return
    builder = size.builder
    places = [pointer(address, ir.IntType(8)) for address in (target, source)]
    arguments = [*places, size.value, ir.Constant(ir.IntType(1), 0)]
    call_llvm(builder, "llvm.memcpy.p0i8.p0i8.i64", ir.VoidType(), arguments)


def copy_elements(
    count: Any, source: Any, step: Any, target: Any, target_step: Any, size: int, swapped: bool
) -> None:
    """Copy elements of 1, 2, 4 or 8 bytes, so many bytes apart, wherever they lie."""

    def element(k: Any) -> None:
        one, to = source + k * step, target + k * target_step
        if not isinstance(one, Lanes):
            found = at(one, size, np.uint8)
            at(to, size, np.uint8)[:] = found[::-1] if swapped else found
            return
        builder, kind = one.builder, ir.IntType(8 * size)
        value = builder.load(pointer(one, kind), align=1)
        if swapped and size > 1:
            value = call_llvm(builder, f"llvm.bswap.i{8 * size}", kind, [value])
        builder.store(value, pointer(to, kind), align=1)

    for_each(count, element)
