"""The margins of a table of elements: the sums of each row and those of each column.

Both come from one pass over the elements.  There are ``FIELDS`` sums: of the weighted losses, of
their denominators, of the labels, and how many elements count.

The view has rows and columns, whatever axes the arrays have.  The call has the address of the sums
as its second number: those of columns, a field at a time, then their compensations in float64
kernels, then those of rows, each with its fields side by side.
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
# Columns in a vector, and elements in a tile, whose fields stay in the caches.
WIDTH, AT_A_TIME = 8, 1024
# Bytes from one field of the elements to the next; there is room for whole steps.
PLANE = 8 * (AT_A_TIME + 64)


class _Mode(NamedTuple):
    """How elements are added; each combination is compiled by itself."""

    computed: Any  # the dtype that is computed in
    stored: Any  # the dtype of the fields of elements
    fields: tuple[int, ...]  # the fields that are added up

    @property
    def divisor(self) -> int:
        """The field that is the divisor: the number of elements, where all weights are 1."""
        return DIVISOR if DIVISOR in self.fields else COUNT


def padded(columns: Any) -> Any:
    """Return the number of columns, rounded up to whole vectors."""
    return (columns + (WIDTH - 1)) // WIDTH * WIDTH


@apart("")
def _write_fields(mode: _Mode, call: Call, block: Block, to: Any) -> tuple[Any, ...]:
    """Write the fields of the elements of a block, a field at a time."""
    dtype, stored, fields = mode
    width, size = step_of(dtype), block.size
    block = with_tails(block, width)
    wide = block.wide != 0 if stored is np.float64 else False

    def step(k: Any) -> None:
        def compute(computed: Any) -> tuple[Any, ...]:
            x, element, w, included = read_step(dtype, computed, k, block, stored, scaled=True)
            (count,) = included(constant(size, 1.0, dtype, width))
            losses = values_of(dtype, x, element, block)
            return w, *(to_dtype(lanes, stored) for lanes in (losses, element.z, count))

        w, losses, labels, count = in_precision(dtype, wide, compute)
        by = divisor(call.number(REDUCTION), 1.0, w, select(w != 0.0, count, 0.0), count)
        values, address = (w * losses, by, labels, count), to + k * (width * own_format(stored)[1])
        for field in fields:
            store(values[field], address + field * PLANE)

    for_each(steps_of(dtype, size), step)
    return ()


def _vector(address: Any, count: int) -> Any:
    return load(np.float64, address, FLOAT64, count)


def _add_to_columns(dtype: Any, address: Any, compensation: Any, values: Any) -> None:
    """Add values to sums; for float32 values the rounding errors don't matter."""
    sums = _vector(address, WIDTH)
    if dtype is np.float32:
        store(sums + values, address)
        return
    total, rest = two_sum(sums, values)
    store(total, address)
    store(select(absolute(total) < np.inf, _vector(compensation, WIDTH) + rest, 0.0), compensation)


@apart("")
def _add_up(
    mode: _Mode, rows: Any, size: Any, source: Any, columns: Any, pitch: Any, to: Any
) -> tuple[Any, ...]:
    """Add the fields of some rows to the sums of their columns and of the rows."""
    code, itemsize = own_format(mode.stored)

    def row(j: Any) -> None:
        def some(k: Any, *totals: Any) -> tuple[Any, ...]:
            inside, sums = before(size - k * WIDTH, WIDTH), []
            for field, total in zip(mode.fields, totals, strict=True):
                address = source + field * PLANE + (j * size + k * WIDTH) * itemsize
                values = select(inside, to_float64(load(mode.stored, address, code, WIDTH)), 0.0)
                address = columns + pitch * field + k * (8 * WIDTH)
                _add_to_columns(mode.computed, address, address + pitch * FIELDS, values)
                sums.append(total + values)
            return tuple(sums)

        zero = constant(size, 0.0, np.float64, WIDTH)
        totals = loop(padded(size) // WIDTH, (zero,) * len(mode.fields), some)
        halves = (one + two for one, two in (split(total, 2) for total in totals))
        by_field = dict(zip(mode.fields, halves, strict=True))
        # Transposed, so that fields are side by side.
        order = NUMERATOR, mode.divisor, LABEL, COUNT
        a, b, c, d = split(interleaved(*(by_field[field] for field in order)), WIDTH // 2)
        address = to + j * (8 * FIELDS)
        store(_vector(address, FIELDS) + ((a + b) + (c + d)), address)

    for_each(rows, row)
    if mode.divisor != DIVISOR:
        copy(columns + pitch * mode.divisor, columns + pitch * DIVISOR, size * 8)
    return ()


def add_margins(dtype: Any, form: Form, call: Call, group: Any, scratch: Any) -> Sums:
    """Add all elements to the sums of their columns and rows."""
    columns = call.columns
    pitch = padded(columns) * 8
    width = least(columns, AT_A_TIME)
    height = integer(group, AT_A_TIME) // width
    pieces, strips = (columns + (width - 1)) // width, (call.rows + (height - 1)) // height
    sums, fields = call.number(SECOND), scratch + RESULTS * ROW

    def tile(index: Any) -> None:
        first, column = index // pieces * height, index % pieces * width
        rows, size = least(height, call.rows - first), least(width, columns - column)
        block, _ = open_tile(dtype, form, call, first * columns + column, rows * size, scratch)
        scale = call.number(WEIGHT)
        block = block._replace(scale=scale, wide=is_wide(dtype, scale, block.z, block.q))

        def add(mode: _Mode, block: Block) -> tuple[Any, ...]:
            _write_fields(mode, call, block, fields)
            to = sums + pitch * (2 * FIELDS) + first * (8 * FIELDS)
            _add_up(mode, rows, size, fields, sums + column * 8, pitch, to)
            return ()

        # A product with a weight needs more digits than float32 has.
        narrow = (block.w.code == MISSING) & (scale == 1.0) & (block.wide == 0)
        branch(
            narrow,
            lambda: add(_Mode(dtype, dtype, (NUMERATOR, LABEL, COUNT)), block._replace(w=ABSENT)),
            lambda: add(_Mode(dtype, np.float64, tuple(range(FIELDS))), block),
        )

    for_each(strips * pieces, tile)
    return no_sums(group)
