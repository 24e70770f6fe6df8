"""The losses: what one tile comes to, as sums for a reduction, or written element by element."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from .block import (
    TAIL,
    TAILS,
    Block,
    is_wide,
    total_loss,
    total_weighted_loss,
    total_weights,
    write_block,
)
from .columns import column_loop, has_columns, rows_of, total_columns
from .dtypes import MISSING
from .lanes import absolute, branch, integer, loop, real, select, to_float64, when
from .memory import on_stack
from .operand import ABSENT, LINE, own_format
from .staging import address_in_place, write
from .tiles import (
    RESULTS,
    ROW,
    Form,
    Sums,
    add,
    no_sums,
    open_tile,
    open_weights,
    row_sums,
    tile_loop,
)
from .view import REDUCTION, RESULT, WEIGHT, Array, Call

# Results of at least this many bytes are written past the caches.
STREAMED = 1 << 24


def totals(dtype: Any, form: Form, call: Call, group: Any, scratch: Any) -> Sums:
    """Return the sums of a group of tiles."""
    own = dtype, form, call, scratch

    def by_row() -> tuple[Any, ...]:
        return tuple(tile_loop(call, group, partial(tile_totals, *own)))

    if form.staged or not form.by_element or not form.formula.linear_part:
        return Sums(*by_row())
    return Sums(
        *branch(
            has_columns(call),
            lambda: column_loop(call, group, partial(_totals_of_columns, *own)),
            by_row,
        )
    )


def _totals_of_columns(
    dtype: Any, form: Form, call: Call, scratch: Any, start: Any, rows: Any, size: Any
) -> Sums:
    """Return the sums of a tile of ``size`` columns, each of which has one weight."""
    block, _ = open_tile(dtype, form, call, start, size, scratch)
    columns = call.columns
    total, lost, weight, weight_lost, present, doubtful = total_columns(
        dtype, block, rows, columns, scratch + RESULTS * ROW
    )

    # Rows that make no step are left, or all of them.
    good = (doubtful == 0.0) & (absolute(total) < np.inf)
    done = select(good, rows - rows % rows_of(dtype), integer(size, 0))
    height = to_float64(done)
    weights = (weight + weight_lost) * height, present * height
    found = total, lost, *weights, to_float64(size) * height
    begun = tuple(select(good, one, 0.0) for one in found)

    def following(k: Any, *sums: Any) -> tuple[Any, ...]:
        row = start + (done + k) * columns
        return tuple(add(Sums(*sums), tile_totals(dtype, form, call, scratch, row, size)))

    return Sums(*loop(rows - done, begun, following))


def tile_totals(dtype: Any, form: Form, call: Call, scratch: Any, start: Any, size: Any) -> Sums:
    """Return the sums of a tile."""
    block, weight = open_tile(dtype, form, call, start, size, scratch)
    count = to_float64(size)
    if not form.by_element:
        return row_sums(*total_loss(dtype, block, weight), weight, count)
    numerator, lost, total, total_lost, present = total_weighted_loss(
        dtype, block, call.number(REDUCTION)
    )
    if form.staged:
        (count,) = branch(
            block.keep.code != MISSING,
            lambda: total_weights(dtype, without_losses(block))[3:],
            lambda: (count,),
        )
    return Sums(numerator, lost, total + total_lost, present, count)


def without_losses(block: Block) -> Block:
    """Return a block of which only the weights count."""
    return block._replace(x=ABSENT, z=ABSENT, q=ABSENT)


def weights(dtype: Any, form: Form, call: Call, group: Any, scratch: Any) -> Sums:
    """Return the sums of a group of tiles without losses: what a reduction divides by."""

    def tile(start: Any, size: Any) -> Sums:
        one, none, tails = real(size, 1.0), real(size, 0.0), on_stack(size, TAIL * TAILS)
        weight, w, keep = open_weights(dtype, form, call, start, size, scratch, tails)
        if not form.by_element:
            return row_sums(none, none, weight, to_float64(size))
        rest = one, none, one, integer(size, 0), tails, False
        block = Block(size, ABSENT, ABSENT, w, ABSENT, keep, *rest)
        total, lost, present, count = total_weights(dtype, block)
        return Sums(none, none, total + lost, present, count)

    return tile_loop(call, group, tile)


def losses(dtype: Any, form: Form, call: Call, group: Any, scratch: Any) -> Sums:
    """Write the weighted losses of a group of tiles."""
    _, itemsize = own_format(dtype)
    array, scale = call.array(RESULT), call.number(WEIGHT)
    past_caches = call.rows * call.columns * itemsize >= STREAMED
    past = select(past_caches, integer(group, 1), 0)
    # In a single row every tile but the first begins with a line of its own.
    aligned = (call.rows == 1) & past_caches
    head = select(aligned, (-array.address & (LINE - 1)) // itemsize, integer(group, 0))

    def tile(start: Any, size: Any) -> Sums:
        block, weight = open_tile(dtype, form, call, start, size, scratch)
        factor = scale * weight
        wide = is_wide(dtype, factor, block.z, block.w, block.q)
        block = block._replace(scale=factor, wide=wide)
        if not form.staged:
            write_block(dtype, block, array.address + start * itemsize, past)
            return no_sums(size)
        place = address_of_own(dtype, array, start, size)
        out = select(place != 0, place, scratch + RESULTS * ROW)
        write_block(dtype, block, out, select(place != 0, past, 0))
        when(place == 0, lambda: write(dtype, array, start, size, out, scratch, False))
        return no_sums(size)

    return tile_loop(call, group, tile, 0 if form.staged else head)


def address_of_own(dtype: Any, array: Array, start: Any, size: Any) -> Any:
    """Return where results lie contiguous, in the dtype that is computed in; else 0."""
    own = array.code == own_format(dtype)[0]
    place = address_in_place(array, start, size)
    return select(own, place, integer(size, 0))
