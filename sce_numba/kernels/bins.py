"""A joint histogram of probabilities and logits: elements counted in the cells of a table.

A cell is a bin of probabilities and a bin of logits at once, so that one index counts an element in
both.  Bins include their upper edges: those of probabilities are tenths, those of logits halves
from ``-SPAN`` to ``SPAN``, with one more bin beyond each end.

The call has the address of the table as its second number.  A cell holds how many elements it has,
the sum of their labels and that of their probabilities, in float64, and a fourth number that only
pads it to a vector.  Logits that are NaN are in no cell.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .block import Block, read_step, step_of, steps_of, with_tails
from .dtypes import FLOAT64
from .lanes import (
    LANES,
    apart,
    constant,
    for_each,
    integer,
    interleaved,
    select,
    split,
    to_float64,
)
from .memory import get, on_stack
from .operand import load, own_format, store
from .softplus import FORMATS, exp_minus_abs_and_rest, sigmoid_from_exp
from .tiles import Form, Sums, no_sums, open_tile, tile_loop
from .view import SECOND, Call

PROBABILITIES, HALVES, SPAN = 10, 2, 16
LOGITS = 2 * SPAN * HALVES + 2
FIELDS = 4
# The last bits of the sum of an integer and ``FORMATS[dtype].magic``, a float, are that integer.
_LAST_BITS = (1 << 22) - 1


def _bin(dtype: Any, x: Any, low: float, high: float) -> Any:
    """Return x rounded up to an integer and clipped to two bounds; low for NaN."""
    x = select(x > low, x, low)
    x = select(x < high, x, high)
    # Adding a large number rounds: not every processor has an instruction for it.
    magic = FORMATS[dtype].magic
    nearest = (x + magic) - magic
    return select(nearest < x, nearest + 1.0, nearest)


@apart("")
def _count(dtype: Any, block: Block, table: Any) -> tuple[Any, ...]:
    """Add the elements of a block to their cells."""
    width, size = step_of(dtype), block.size
    block = with_tails(block, width)
    code, itemsize = own_format(dtype)
    lane_bytes = FIELDS * itemsize
    memory = on_stack(size, width * lane_bytes)

    def step(k: Any) -> None:
        x, element, _, included = read_step(dtype, dtype, k, block)
        s = sigmoid_from_exp(*exp_minus_abs_and_rest(dtype, x))
        p = select(x > 0.0, 1.0 - s, s)
        row = _bin(dtype, p * float(PROBABILITIES), 1.0, float(PROBABILITIES)) - 1.0
        end = float(SPAN * HALVES)
        column = _bin(dtype, x * float(HALVES), -end, end + 1.0) + end
        # The byte offset of the cell in the table, in the last bits of a float.
        cells = (row * float(LOGITS) + column) * float(8 * FIELDS) + FORMATS[dtype].magic
        ones = select(x == x, constant(size, 1.0, dtype, width), 0.0)
        fields = included(ones, select(x == x, element.z, 0.0), select(x == x, p, 0.0))
        parts = zip(*(split(field, width // LANES) for field in (*fields, cells)), strict=True)
        for index, part in enumerate(parts):
            store(interleaved(*part), memory + lane_bytes * LANES * index)

        def add(lane: Any) -> None:
            lane_fields = memory + lane * lane_bytes
            # In float32 it is the second half of the last 64 bits.
            offset = (get(lane_fields + (lane_bytes - 8)) >> (64 - 8 * itemsize)) & _LAST_BITS
            cell = load(np.float64, table + offset, FLOAT64, FIELDS)
            store(cell + to_float64(load(dtype, lane_fields, code, FIELDS)), table + offset)

        for_each(integer(size, width), add)

    for_each(steps_of(dtype, size), step)
    return ()


def count_elements(dtype: Any, form: Form, call: Call, group: Any, scratch: Any) -> Sums:
    """Add the elements of a group of tiles to their cells."""
    table = call.number(SECOND)

    def tile(start: Any, size: Any) -> Sums:
        block, _ = open_tile(dtype, form, call, start, size, scratch)
        _count(dtype, block, table)
        return no_sums(size)

    return tile_loop(call, group, tile)
