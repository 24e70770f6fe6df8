"""Add the sums of rows to those of the groups that the rows belong to, one after the other.

The call has the sums of ``n`` rows where the logits of others are (``n`` float64 for each part of
them, see ``axis_sums``), codes of groups where the labels are (int64), and the sums of the groups
as results, all that a group has side by side.  In float64 kernels each is followed by what its
rounding lost.  Where divisors are not among the parts, that of all rows is the weight of the call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .axis_sums import PARTS
from .dtypes import FLOAT64
from .fused import two_sum
from .lanes import (
    absolute,
    branch,
    integer,
    joined,
    least,
    loop,
    real,
    select,
    spread,
    when,
)
from .memory import get, put
from .operand import load, store
from .streaming import prefetch_line
from .tiles import Form, Sums, no_sums
from .view import LABELS, LOGITS, RESULT, SECOND, WEIGHT, Call

# For a group: numerator and denominator, each with what it lost if that matters.
GROUP_FIELDS = {np.float32: 2, np.float64: 4}
# The sums of groups are asked for so many rows early: there may be more than the caches hold.
AHEAD = 16


def add_rows(dtype: Any, _form: Form, call: Call, group: Any, _scratch: Any) -> Sums:
    """Add up rows, of which the call has as many as the view has columns."""
    rows, codes, groups = (call.array(row).address for row in (LOGITS, LABELS, RESULT))
    count, size = call.columns, 8 * GROUP_FIELDS[dtype]

    def field(number: int, k: Any) -> Any:
        return get(rows + (count * number + k) * 8, 0, np.float64)

    def read(place: Any) -> tuple[Any, ...]:
        if dtype is np.float32:
            return (load(np.float64, place, FLOAT64, 2),)
        return tuple(get(place, k, np.float64) for k in range(GROUP_FIELDS[dtype]))

    def write(place: Any, sums: tuple[Any, ...]) -> None:
        if dtype is np.float32:
            store(sums[0], place)
            return
        for k, value in enumerate(sums):
            put(place, k, value)

    def add(total: Any, lost: Any, value: Any, rest: Any) -> tuple[Any, Any]:
        total, rounding = two_sum(total, value)
        # A sum that is not finite has lost nothing.
        rounding = select(absolute(total) < np.inf, rounding + rest, rounding * 0.0)
        return total, lost + select(rounding == rounding, rounding, 0.0)

    def add_row(k: Any, sums: tuple[Any, ...], by: Any) -> tuple[Any, ...]:
        if dtype is np.float32:
            pair = joined([spread(number, np.float64, 1) for number in (field(0, k), by)])
            return (sums[0] + pair,)
        total, lost, weight, weight_lost = sums
        total, lost = add(total, lost, field(0, k), field(1, k))
        return total, lost, *add(weight, weight_lost, by, real(k, 0.0))

    def place_of(k: Any) -> Any:
        return groups + get(codes, k) * size

    def add_all(divisor: Callable[[Any], Any]) -> None:
        # What was written can't be read at once: rows of one group that follow one another are
        # added up before that.
        def row(k: Any, last: Any, *sums: Any) -> tuple[Any, ...]:
            prefetch_line(place_of(least(k + AHEAD, count - 1)))
            place = place_of(k)

            def another() -> tuple[Any, ...]:
                write(last, sums)
                return read(place)

            return place, *add_row(k, branch(place != last, another, lambda: sums), divisor(k))

        first = place_of(integer(count, 0))
        last, *sums = loop(count, (first, *read(first)), row)
        write(last, tuple(sums))

    by, are_parts = call.number(WEIGHT), call.number(SECOND) == PARTS
    when(are_parts, lambda: add_all(lambda k: field(PARTS - 1, k)))
    when(are_parts == 0, lambda: add_all(lambda _: by))
    return no_sums(group)
