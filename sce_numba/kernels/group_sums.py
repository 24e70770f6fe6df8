"""Add the sums of rows to those of the groups that the rows belong to, one after the other.

The call has the sums of ``n`` rows where the logits of others are (``FIELDS`` times ``n`` float64),
codes of groups where the labels are (int64), and the sums of the groups as results, all that a
group has side by side.  In float64 kernels each is followed by what its rounding lost.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .fused import two_sum
from .lanes import absolute, for_each, least, select
from .memory import get, put
from .streaming import prefetch_line
from .tiles import Form, Sums, no_sums
from .view import LABELS, LOGITS, RESULT, Call

# Numerator and what it lost, and denominator.
FIELDS = 3
# For a group: numerator and denominator, each with what it lost if that matters.
GROUP_FIELDS = {np.float32: 2, np.float64: 4}
# The sums of groups are asked for so many rows early: there may be more than the caches hold.
AHEAD = 16


def add_rows(dtype: Any, _form: Form, call: Call, group: Any, _scratch: Any) -> Sums:
    """Add up rows, of which the call has as many as the view has columns."""
    rows, codes, groups = (call.array(row).address for row in (LOGITS, LABELS, RESULT))
    count, size = call.columns, 8 * GROUP_FIELDS[dtype]

    def add(place: Any, value: Any, rest: Any) -> None:
        if dtype is np.float32:
            put(place, 0, get(place, 0, np.float64) + value)
            return
        total, rounding = two_sum(get(place, 0, np.float64), value)
        # A sum that is not finite has lost nothing.
        rounding = select(absolute(total) < np.inf, rounding + rest, rounding * 0.0)
        lost = get(place, 1, np.float64) + select(rounding == rounding, rounding, 0.0)
        put(place, 0, total)
        put(place, 1, lost)

    def row(k: Any) -> None:
        prefetch_line(groups + get(codes, least(k + AHEAD, count - 1)) * size)
        place = groups + get(codes, k) * size
        numerator, lost, by = (
            get(rows + (count * field + k) * 8, 0, np.float64) for field in range(FIELDS)
        )
        add(place, numerator, lost)
        add(place + size // 2, by, numerator * 0.0)

    for_each(count, row)
    return no_sums(group)
