"""The sum of losses whose weights are alike down each column, as those of ``[1, classes]`` are.

A weight is applied to the sum of the losses of its column in a tile, ``sum_j w_j sum_i loss_ij``,
and not to each of them.  So the logarithms of a column are merged as those of a block are that has
one weight: its steps have the same vectors, below one another instead of side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .block import (
    TINY,
    Block,
    add_step,
    add_to,
    in_precision,
    merge_step,
    step_of,
    sum_lanes,
)
from .dtypes import FLOAT64, MISSING
from .elements import Element
from .from_memory import to_float64_from_memory
from .fused import fma
from .lanes import (
    LANES,
    absolute,
    apart,
    before,
    constant,
    for_each,
    integer,
    joined,
    least,
    loop,
    select,
    spread,
    to_dtype,
)
from .operand import load, load_each, store
from .softplus import (
    begin_exp_minus_abs_normal,
    end_exp_minus_abs_normal,
    log1p_coarse,
    log1p_wide,
)
from .streaming import prefetch_line
from .tiles import Sums, add, no_sums
from .view import LABELS, WEIGHTS, Call

# Rows and columns of a tile, the last of which have what is left as well: few enough columns for
# their sums to stay in the first-level cache, and so many rows that a logarithm for each column
# takes little of the time.
ROWS, COLUMNS = 64, 256


def has_columns(call: Call) -> Any:
    """Tell whether weights are alike down the columns of a view that has enough of both."""
    alike = call.array(WEIGHTS).stride(integer(call.address, 0)) == 0
    large = (call.rank == 2) & (call.rows >= ROWS) & (call.columns >= COLUMNS)
    return alike & large & (call.array(LABELS).code != MISSING)


def column_loop(call: Call, group: Any, tile: Callable[[Any, Any, Any], Sums]) -> tuple[Any, ...]:
    """Return the sums of a group of tiles, given what one comes to.

    Of a tile the number of the first element, rows and columns are handed over.
    """
    rows, columns = call.rows, call.columns
    down, across = rows // ROWS, columns // COLUMNS
    tiles, groups = down * across, call.groups
    first, stop = tiles * group // groups, tiles * (group + 1) // groups

    def following(k: Any, *sums: Any) -> tuple[Any, ...]:
        part, place = (first + k) // across, (first + k) % across
        row, column = part * ROWS, place * COLUMNS
        height = select(part == down - 1, rows - row, integer(group, ROWS))
        width = select(place == across - 1, columns - column, integer(group, COLUMNS))
        return tuple(add(Sums(*sums), tile(row * columns + column, height, width)))

    return loop(stop - first, tuple(no_sums(group)), following)


def rows_of(dtype: Any) -> int:
    """Return how many rows make a step."""
    return step_of(dtype) // LANES


@apart("ffffff")
def total_columns(dtype: Any, block: Block, rows: Any, columns: Any, state: Any) -> tuple[Any, ...]:
    """Return the sum of the weighted losses of whole steps of rows, and what it lost.

    Then follow the same of the weights of a row, how many of these are not 0, and in how many lanes
    the sum of a column can't be trusted.  Rows are ``columns`` elements apart.  In the memory at
    ``state`` are the product and the sum of each column.
    """
    width, size, linear_part = step_of(dtype), block.size, block.formula.linear_part
    assert linear_part is not None
    vectors, count = rows_of(dtype), (size + (LANES - 1)) // LANES
    fields = 3 if dtype is np.float64 else 2
    zero = constant(size, 0.0, np.float64)

    def first_of(k: Any) -> Any:
        # The last vector begins so early that there are elements for all lanes.
        return least(k * LANES, size - LANES)

    def sums_of(k: Any) -> list[Any]:
        places = [state + (k * fields + field) * (8 * LANES) for field in range(fields)]
        return [load(np.float64, place, FLOAT64, LANES) for place in places]

    def keep(k: Any, *sums: Any) -> None:
        for field, value in enumerate(sums):
            store(value, state + (k * fields + field) * (8 * LANES))

    def add_rows(j: Any) -> None:
        def step(k: Any) -> None:
            first = first_of(k)

            def places(operand: Any) -> list[Any]:
                pitch = columns * operand.itemsize
                start = operand.address + first * operand.itemsize + j * (vectors * pitch)
                for row in range(vectors):
                    prefetch_line(start + (vectors + row) * pitch)
                return [start + row * pitch for row in range(vectors)]

            at_x, at_z = places(block.x), places(block.z)
            logits = joined(load_each(dtype, at_x, block.x.code, LANES, floats_only=True))

            def linear(computed: Any) -> tuple[Any]:
                code = block.z.code if computed is dtype else FLOAT64
                labels = joined(load_each(computed, at_z, code, LANES))
                a, b = (spread(number, computed, width) for number in (block.a, block.b))
                own = Element(computed, to_dtype(logits, computed), labels, a, b, block.smooth)
                return (to_float64_from_memory(linear_part(own)),)

            u, value, *rest = sums_of(k)
            (values,) = in_precision(dtype, block.z.code == FLOAT64, linear)
            t = end_exp_minus_abs_normal(dtype, *begin_exp_minus_abs_normal(dtype, logits))
            value, lost = add_step(dtype, value, rest[0] if rest else None, values)
            keep(k, *[merge_step(dtype, u, t), value, lost][:fields])

        for_each(count, step)

    for_each(count, lambda k: keep(k, *[zero] * fields))
    for_each(rows // vectors, add_rows)

    def column(k: Any, total: Any, lost: Any, *weights: Any) -> tuple[Any, ...]:
        u, value, *more = sums_of(k)
        rest = more[0] if more else zero
        logarithm = (log1p_coarse if dtype is np.float32 else log1p_wide)(u)
        value, rest = add_to(value, rest, np.float64, logarithm)
        again = before(k * LANES - first_of(k), LANES)
        place = block.w.address + first_of(k) * block.w.itemsize
        w = select(again, 0.0, load(np.float64, place, block.w.code, LANES, own_only=True))
        product = w * value
        lost = lost + (fma(w, value, -product) + w * rest)
        total, lost = add_to(total, lost, np.float64, product)
        weight, weight_lost, present, doubtful = weights
        weight, weight_lost = add_to(weight, weight_lost, np.float64, w)
        magnitude = absolute(value)
        good = (magnitude > TINY) & (magnitude < np.inf)
        return (
            total,
            lost,
            weight,
            weight_lost,
            present + select(w != 0.0, constant(size, 1.0, np.float64), 0.0),
            doubtful + select(good, zero, 1.0),
        )

    *sums, present, doubtful = loop(count, (zero,) * 6, column)
    counts = (sum_lanes(lanes, zero)[0] for lanes in (present, doubtful))
    return *sum_lanes(*sums[:2]), *sum_lanes(*sums[2:]), *counts
