"""The margins of rows of elements, as of a table: the sums of each row and those of each column.

One pass over the elements makes both.  There are ``FIELDS`` sums: of the weighted losses, of what
the reduction divides them by, of the labels, and how many elements count.

The view has the rows, whatever axes the arrays have.  The call has the address of the sums as its
second number: those of columns, a field at a time, then what these lost in float64 kernels, then
those of rows, each with its fields side by side.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .block import Block, in_precision, is_wide, read_step, step_of, steps_of, values_of, with_tails
from .divisor import divisor
from .dtypes import FLOAT64, MISSING
from .fused import two_sum
from .lanes import (
    absolute,
    apart,
    before,
    branch,
    constant,
    for_each,
    integer,
    interleaved,
    least,
    loop,
    select,
    split,
    to_dtype,
    to_float64,
)
from .memory import copy
from .operand import ABSENT, load, own_format, store
from .tiles import RESULTS, ROW, Form, Sums, no_sums, open_tile
from .view import REDUCTION, SECOND, WEIGHT, Call

FIELDS = 4
NUMERATOR, DIVISOR, LABEL, COUNT = range(FIELDS)
# Columns at a time, and elements: so few that their fields stay in the caches.
WIDTH, AT_A_TIME = 8, 1024
# Bytes from one field of the elements to the next; there is room for whole steps.
PLANE = 8 * (AT_A_TIME + 64)


class _Way(NamedTuple):
    """How elements are added; there is code for each choice."""

    computed: Any  # the dtype that is computed in
    kept: Any  # that of the fields of elements
    fields: tuple[int, ...]  # those that are added up

    @property
    def divisor(self) -> int:
        """The field that is the divisor: how many count, where all weights are 1."""
        return DIVISOR if DIVISOR in self.fields else COUNT


def padded(columns: Any) -> Any:
    """Return how many columns there is room for."""
    return (columns + (WIDTH - 1)) // WIDTH * WIDTH


@apart("")
def _write_fields(way: _Way, call: Call, block: Block, to: Any) -> tuple[Any, ...]:
    """Write what the elements of a block add to sums, a field at a time."""
    dtype, kept, fields = way
    width, size = step_of(dtype), block.size
    block = with_tails(block, width)
    wide = block.wide != 0 if kept is np.float64 else False

    def step(k: Any) -> None:
        def compute(computed: Any) -> tuple[Any, ...]:
            x, element, w, included = read_step(dtype, computed, k, block, kept, scaled=True)
            (count,) = included(constant(size, 1.0, dtype, width))
            losses = values_of(dtype, x, element, block)
            return w, *(to_dtype(lanes, kept) for lanes in (losses, element.z, count))

        w, losses, labels, count = in_precision(dtype, wide, compute)
        by = divisor(call.number(REDUCTION), 1.0, w, select(w != 0.0, count, 0.0), count)
        found, place = (w * losses, by, labels, count), to + k * (width * own_format(kept)[1])
        for field in fields:
            store(found[field], place + field * PLANE)

    for_each(steps_of(dtype, size), step)
    return ()


def _vector(address: Any, count: int) -> Any:
    return load(np.float64, address, FLOAT64, count)


def _add_to_columns(dtype: Any, place: Any, lost: Any, more: Any) -> None:
    """Add to sums; the bits that float32 values lose in them don't matter."""
    known = _vector(place, WIDTH)
    if dtype is np.float32:
        store(known + more, place)
        return
    total, rest = two_sum(known, more)
    store(total, place)
    store(select(absolute(total) < np.inf, _vector(lost, WIDTH) + rest, 0.0), lost)


@apart("")
def _add_up(
    way: _Way, rows: Any, size: Any, source: Any, columns: Any, pitch: Any, to: Any
) -> tuple[Any, ...]:
    """Add what was written of some rows to the sums of their columns, and of their own."""
    code, itemsize = own_format(way.kept)

    def row(j: Any) -> None:
        def some(k: Any, *totals: Any) -> tuple[Any, ...]:
            there, sums = before(size - k * WIDTH, WIDTH), []
            for field, total in zip(way.fields, totals, strict=True):
                place = source + field * PLANE + (j * size + k * WIDTH) * itemsize
                more = select(there, to_float64(load(way.kept, place, code, WIDTH)), 0.0)
                place = columns + pitch * field + k * (8 * WIDTH)
                _add_to_columns(way.computed, place, place + pitch * FIELDS, more)
                sums.append(total + more)
            return tuple(sums)

        zero = constant(size, 0.0, np.float64, WIDTH)
        totals = loop(padded(size) // WIDTH, (zero,) * len(way.fields), some)
        halves = (one + two for one, two in (split(total, 2) for total in totals))
        found = dict(zip(way.fields, halves, strict=True))
        # Turned round, so that fields are side by side.
        order = NUMERATOR, way.divisor, LABEL, COUNT
        a, b, c, d = split(interleaved(*(found[field] for field in order)), WIDTH // 2)
        place = to + j * (8 * FIELDS)
        store(_vector(place, FIELDS) + ((a + b) + (c + d)), place)

    for_each(rows, row)
    if way.divisor != DIVISOR:
        copy(columns + pitch * way.divisor, columns + pitch * DIVISOR, size * 8)
    return ()


def add_margins(dtype: Any, form: Form, call: Call, group: Any, scratch: Any) -> Sums:
    """Add all elements to the sums of their column and of their row."""
    columns = call.columns
    pitch = padded(columns) * 8
    width = least(columns, AT_A_TIME)
    height = integer(group, AT_A_TIME) // width
    pieces, strips = (columns + (width - 1)) // width, (call.rows + (height - 1)) // height
    sums, fields = call.number(SECOND), scratch + RESULTS * ROW

    def tile(number: Any) -> None:
        first, column = number // pieces * height, number % pieces * width
        rows, size = least(height, call.rows - first), least(width, columns - column)
        block, _ = open_tile(dtype, form, call, first * columns + column, rows * size, scratch)
        scale = call.number(WEIGHT)
        block = block._replace(scale=scale, wide=is_wide(dtype, scale, block.z, block.q))

        def by(way: _Way, block: Block) -> tuple[Any, ...]:
            _write_fields(way, call, block, fields)
            to = sums + pitch * (2 * FIELDS) + first * (8 * FIELDS)
            _add_up(way, rows, size, fields, sums + column * 8, pitch, to)
            return ()

        # A product with a weight has more digits than float32.
        narrow = (block.w.code == MISSING) & (scale == 1.0) & (block.wide == 0)
        branch(
            narrow,
            lambda: by(_Way(dtype, dtype, (NUMERATOR, LABEL, COUNT)), block._replace(w=ABSENT)),
            lambda: by(_Way(dtype, np.float64, tuple(range(FIELDS))), block),
        )

    for_each(strips * pieces, tile)
    return no_sums(group)
