"""Weights of rows too short for a block of their own, spread over the elements of a block.

With ``[batch, 1]`` or ``[1, classes]`` weights and few classes, a block goes across rows.  Its
weights are then written out first, into memory that stays in the first-level cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .block import SHORT
from .lanes import LANES, apart, before, branch, integer, least, loop, loop_while, select, when
from .memory import copy
from .operand import Operand, load, own_format, repeat, store
from .staging import read
from .view import Array


@apart("")
def _spread_rows(
    dtype: Any, weights: Any, step: Any, last: Any, target: Any, count: Any, bound: Any, inner: Any
) -> tuple[Any, ...]:
    """Write ``count`` vectors; the first row ends after ``bound`` elements, others take ``inner``.

    The weight of row i lies ``i step`` bytes from the first, for rows up to ``last``.
    """
    code, itemsize = own_format(dtype)

    def weight(row):
        row = select(row < last, row, last)
        return repeat(load(dtype, weights + row * step, code, 1), LANES)

    def next_row(value, row, bound):
        return select(before(bound, LANES), value, weight(row + 1)), row + 1, bound + inner

    def vector(k, row, bound):
        value, row, bound = loop_while(
            (weight(row), row, bound), lambda value, row, bound: bound < LANES, next_row
        )
        store(value, target + k * (LANES * itemsize))
        return row, bound - LANES

    loop(count, (integer(last, 0), bound), vector)
    return ()


# Elements of scratch memory that may be written beside those of a block.
BESIDE = 2 * SHORT + LANES


def _repeat(source: Any, size: Any, target: Any, wanted: Any) -> None:
    """Write ``size`` bytes again and again, until there are at least as many as wanted."""
    copy(source, target, size)

    def double(done: Any) -> tuple[Any]:
        more = least(done, wanted - done)
        copy(target, target + done, more)
        return (done + more,)

    loop_while((size,), lambda done: done < wanted, double)


@apart("i")
def _spread(array: Array, start: Any, size: Any, target: Any) -> tuple[Any]:
    """Write the elements of an array of two axes that is broadcast along one; return where."""
    itemsize, inner, step = array.itemsize, array.length(1), array.stride(0)
    row, skipped = start // inner, start % inner

    def by_row() -> tuple[Any]:
        first = array.address + row * step
        last = (start + size - 1) // inner - row
        vectors = (size + (LANES - 1)) // LANES
        place = target, vectors, inner - skipped, inner
        # Copied bitwise: only their size matters.
        single = itemsize == 4
        when(single, lambda: _spread_rows(np.float32, first, step, last, *place))
        when(single == 0, lambda: _spread_rows(np.float64, first, step, last, *place))
        return (target,)

    def by_column() -> tuple[Any]:
        _repeat(array.address, inner * itemsize, target, (skipped + size) * itemsize)
        return (target + skipped * itemsize,)

    return branch(array.stride(1) == 0, by_row, by_column)


@apart("iii")
def _read_across(array: Array, start: Any, size: Any, raw: Any) -> tuple[Any, ...]:
    itemsize = array.itemsize
    second = select(array.rank > 1, 1, array.rank - 1)  # there may be no such axis
    step, length = array.stride(second), array.length(second)
    broadcast = (step == 0) | ((array.stride(integer(start, 0)) == 0) & (step == itemsize))
    fits = (itemsize == 4) | (itemsize == 8)
    short = (array.rank == 2) & (length < SHORT) & (array.address != 0)
    quick = short & fits & array.is_plain & broadcast
    return branch(
        quick,
        lambda: (*_spread(array, start, size, raw), array.code, itemsize),
        lambda: tuple(read(array, start, size, raw)),
    )


def read_across(array: Array, start: Any, size: Any, raw: Any) -> Operand:
    """Do as ``staging.read`` for a block across rows, faster where the operand is broadcast.

    The memory ``raw`` must have room for ``BESIDE`` elements more than the block has.
    """
    return Operand(*_read_across(array, start, size, raw))
