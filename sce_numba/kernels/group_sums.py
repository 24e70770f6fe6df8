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
from .lanes import absolute, for_each, joined, least, real, select, spread, when
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

    def add_pair(place: Any, one: Any, two: Any) -> None:
        pair = joined([spread(number, np.float64, 1) for number in (one, two)])
        store(load(np.float64, place, FLOAT64, 2) + pair, place)

    def add(place: Any, value: Any, rest: Any) -> None:
        total, rounding = two_sum(get(place, 0, np.float64), value)
        # A sum that is not finite has lost nothing.
        rounding = select(absolute(total) < np.inf, rounding + rest, rounding * 0.0)
        lost = get(place, 1, np.float64) + select(rounding == rounding, rounding, 0.0)
        put(place, 0, total)
        put(place, 1, lost)

    def add_all(divisor: Callable[[Any], Any]) -> None:
        def row(k: Any) -> None:
            prefetch_line(groups + get(codes, least(k + AHEAD, count - 1)) * size)
            place = groups + get(codes, k) * size
            if dtype is np.float32:
                add_pair(place, field(0, k), divisor(k))
            else:
                add(place, field(0, k), field(1, k))
                add(place + size // 2, divisor(k), real(k, 0.0))

        for_each(count, row)

    by, are_parts = call.number(WEIGHT), call.number(SECOND) == PARTS
    when(are_parts, lambda: add_all(lambda k: field(PARTS - 1, k)))
    when(are_parts == 0, lambda: add_all(lambda _: by))
    return no_sums(group)
