"""From an array of any layout to a contiguous block in its own dtype, and back.

A block is a range of elements in the order of the logical shape, the last axis fastest.  Where
it lies contiguous in memory it is used in place; else it is gathered into scratch memory the
size of one block.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from llvmlite import ir

from .dtypes import DTYPES, FLOAT32, SMALL
from .lanes import (
    LANES,
    Lanes,
    apart,
    branch,
    for_each,
    integer,
    least,
    loop,
    loop_while,
    select,
    when,
)
from .memory import at, copy, copy_elements, pointer
from .operand import Operand, load, own_format
from .small_floats import rounded
from .streaming import copy_past_caches, prefetch_line
from .view import Array


@apart("i")
def _offset_of(array: Array, start: Any) -> tuple[Any]:
    def along(k: Any, offset: Any, rest: Any) -> tuple[Any, Any]:
        axis = array.rank - 1 - k
        length = array.length(axis)
        return offset + (rest % length) * array.stride(axis), rest // length

    offset, rest = loop(array.rank - 1, (integer(start, 0), start), along)
    return (offset + rest * array.stride(integer(start, 0)),)


def offset_of(array: Array, start: Any) -> Any:
    """Return the distance in bytes of element number ``start`` from the first."""
    return _offset_of(array, start)[0]


def _for_each_run(
    array: Array, start: Any, size: Any, visit: Callable[[Any, Any, Any, Any, Any], None]
) -> None:
    """Visit the runs of elements along the last axis, those of a plane that are whole at once.

    Of runs that are evenly apart: address, elements before, elements of each, how many, and bytes
    from one to the next.
    """
    last = array.rank - 1
    columns, stride = array.length(last), array.stride(last)
    above = select(last > 0, last - 1, last)
    rows = select(last > 0, array.length(above), integer(size, 1))
    next_row = array.stride(above)
    row, position = start // columns, start % columns
    zero, one = integer(size, 0), integer(size, 1)

    def following(
        done: Any, position: Any, row: Any, in_plane: Any, address: Any
    ) -> tuple[Any, ...]:
        count, left = least(columns - position, size - done), rows - in_plane
        whole = select(count == columns, least(left, (size - done) // columns), one)
        visit(address + position * stride, done, count, whole, next_row)
        is_last = whole == left
        (address,) = branch(
            is_last,
            lambda: (array.address + offset_of(array, (row + whole) * columns),),
            lambda: (address + whole * next_row,),
        )
        in_plane = select(is_last, zero, in_plane + whole)
        return done + whole * count, zero, row + whole, in_plane, address

    first = array.address + offset_of(array, row * columns)
    state = zero, position, row, row % rows, first
    loop_while(state, lambda done, *_: done < size, following)


def _fill(count: Any, source: Any, target: Any, size: int) -> None:
    """Repeat an element."""
    if not isinstance(source, Lanes):
        copy_elements(count, source, 0, target, size, size, False)
        return
    builder, lanes = source.builder, 4 * LANES // size
    kind = ir.IntType(8 * size)
    value = builder.load(pointer(source, kind))
    vector = ir.VectorType(kind, lanes)
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.IntType(32)(0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [ir.IntType(32)(0)] * lanes)
    all_lanes = builder.shuffle_vector(one, one, mask)

    def step(k: Any) -> None:
        to = pointer(target + k * (lanes * size), vector)
        builder.store(all_lanes, to, align=size)

    steps = count // lanes
    for_each(steps, step)
    done = steps * lanes
    copy_elements(count - done, source, 0, target + done * size, size, size, False)


@apart("")
def _copy_run(
    array: Array, size: Any, source: Any, step: Any, target: Any, target_step: Any
) -> tuple[Any, ...]:
    """Copy elements, so many bytes apart, to others, swapping their bytes as the array has it."""
    itemsize, swapped = array.itemsize, array.is_swapped

    def of_size(width: int) -> None:
        def as_they_are() -> None:
            def apart_or_one() -> None:
                when(step == 0, lambda: _fill(size, source, target, width))
                copied = select(step == 0, integer(size, 0), size)
                copy_elements(copied, source, step, target, target_step, width, False)

            together = (step == width) & (target_step == width)
            when(together, lambda: copy(source, target, size * width))
            when(together == 0, apart_or_one)

        def in_other_order() -> None:
            copy_elements(size, source, step, target, target_step, width, True)

        when(swapped == 0, as_they_are)
        if width > 1:
            when(swapped, in_other_order)

    for width in (1, 2, 4, 8):
        when(itemsize == width, partial(of_size, width))
    return ()


# Bytes that are copied at a time.
_WIDTHS = [1, 2, 4, 8, 16, 32, 64]


@apart("")
def _copy_runs(
    width: int, count: Any, size: Any, source: Any, step: Any, target: Any, ahead: Any
) -> tuple[Any, ...]:
    """Copy runs of ``size`` bytes, so many at a time; the last of a run overlap those before."""

    def run(k: Any) -> None:
        first, to = source + k * step, target + k * size

        def part(place: Any) -> None:
            copy(first + place, to + place, integer(size, width))

        def asked(j: Any) -> None:
            prefetch_line(first + j * width + ahead, level=2)
            part(j * width)

        if width < _WIDTHS[-1]:
            asked(integer(size, 0))
        else:
            for_each(size // width, asked)
        part(size - width)

    for_each(count, run)
    return ()


@apart("")
def gather(array: Array, start: Any, size: Any, target: Any, ahead: Any) -> tuple[Any, ...]:
    """Copy elements ``start`` to ``start + size``; ask for memory ``ahead`` bytes behind them."""
    stride, itemsize = array.stride(array.rank - 1), array.itemsize
    together = (stride == itemsize) & (array.is_swapped == 0)

    def visit(address: Any, done: Any, count: Any, runs: Any, step: Any) -> None:
        to, run = target + done * itemsize, count * itemsize
        for width in _WIDTHS:
            fits = run >= width
            if width < _WIDTHS[-1]:
                fits = fits & (run < 2 * width)
            copied = partial(_copy_runs, width, runs, run, address, step, to, ahead)
            when(together & fits, copied)

        def one(k: Any) -> None:
            _copy_run(array, count, address + k * step, stride, to + k * run, itemsize)

        when(together == 0, lambda: for_each(runs, one))

    _for_each_run(array, start, size, visit)
    return ()


def end_of(array: Array) -> Any:
    """Return the address behind the last element in memory."""

    def axis(k: Any, end: Any) -> tuple[Any]:
        step = array.stride(k)
        return (end + select(step > 0, step, integer(step, 0)) * (array.length(k) - 1),)

    (end,) = loop(array.rank, (array.address + array.itemsize,), axis)
    return end


@apart("")
def _scatter(array: Array, start: Any, size: Any, source: Any) -> tuple[Any, ...]:
    """Copy contiguous memory to elements ``start`` to ``start + size``."""
    stride, itemsize = array.stride(array.rank - 1), array.itemsize

    def visit(address: Any, done: Any, count: Any, runs: Any, step: Any) -> None:
        def one(k: Any) -> None:
            first = source + (done + k * count) * itemsize
            _copy_run(array, count, first, itemsize, address + k * step, stride)

        for_each(runs, one)

    _for_each_run(array, start, size, visit)
    return ()


@apart("i")
def _in_place(array: Array, start: Any, size: Any) -> tuple[Any]:
    itemsize, last = array.itemsize, array.rank - 1

    def joined(axis: Any, run: Any) -> Any:
        # An axis before the first has no stride; its place is read all the same.
        before = select(axis > 0, axis - 1, axis)
        return (axis > 0) & (array.stride(before) == run * itemsize)

    def join(axis: Any, run: Any) -> tuple[Any, Any]:
        return axis - 1, run * array.length(axis - 1)

    # Axes that another operand keeps apart may follow one another without gaps in this one.
    _, run = loop_while((last, array.length(last)), joined, join)
    fits = array.is_plain & (array.stride(last) == itemsize) & (start % run + size <= run)
    return branch(
        fits,
        lambda: (array.address + offset_of(array, start),),
        lambda: (integer(start, 0),),
    )


def address_in_place(array: Array, start: Any, size: Any) -> Any:
    """Return the address of elements that lie contiguous, 0 if they do not."""
    return _in_place(array, start, size)[0]


@apart("iii")
def _read(array: Array, start: Any, size: Any, raw: Any) -> tuple[Any, ...]:
    def given() -> tuple[Any, ...]:
        address = address_in_place(array, start, size)
        when(address == 0, lambda: gather(array, start, size, raw, integer(start, 0)))
        return (select(address == 0, raw, address),)

    (address,) = branch(array.address == 0, lambda: (integer(start, 0),), given)
    return address, array.code, array.itemsize


def read(array: Array, start: Any, size: Any, raw: Any) -> Operand:
    """Return the contiguous elements from number ``start`` on.

    They are where they lie, or gathered in ``raw``, scratch memory of 8 bytes an element.
    """
    return Operand(*_read(array, start, size, raw))


@apart("")
def _round_to_small(size: Any, values: Any, target: Any, code: int) -> tuple[Any, ...]:
    """Write float32 numbers in a dtype of fewer bits, a vector at a time, the last one whole."""
    dtype = DTYPES[code]
    assert dtype.small is not None
    itemsize, form = dtype.itemsize, dtype.small

    def step(k: Any) -> None:
        value = load(np.float32, values + k * (4 * LANES), FLOAT32, LANES)
        small, to = rounded(form, value), target + k * (itemsize * LANES)
        if not isinstance(small, Lanes):
            at(to, LANES, f"u{itemsize}")[:] = small.astype(f"u{itemsize}")
            return
        vector = ir.VectorType(ir.IntType(8 * itemsize), LANES)
        narrow = small.builder.trunc(small.value, vector)
        small.builder.store(narrow, pointer(to, vector), align=itemsize)

    for_each((size + (LANES - 1)) // LANES, step)
    return ()


@apart("")
def write(
    dtype: Any, array: Array, start: Any, size: Any, values: Any, raw: Any, past_caches: Any
) -> tuple[Any, ...]:
    """Write contiguous ``values``, in the dtype computed in, to elements ``start`` and following.

    Both memories have room for whole steps.
    """
    if dtype is np.float32:
        for code in SMALL:
            when(array.code == code, partial(_round_to_small, size, values, raw, code))
    same = array.code == own_format(dtype)[0]
    source = select(same, values, raw)
    address = address_in_place(array, start, size)
    streamed = same & past_caches

    def lies() -> None:
        when(streamed, lambda: copy_past_caches(dtype, size, source, address))
        when(streamed == 0, lambda: copy(source, address, size * array.itemsize))

    when(address != 0, lies)
    when(address == 0, lambda: _scatter(array, start, size, source))
    return ()
