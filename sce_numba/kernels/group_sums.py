"""Add the sums of rows to those of the groups that the rows belong to, one after the other.

The call has the sums of ``n`` rows where the logits of others are (``FIELDS`` times ``n`` float64),
codes of groups where the labels are (int64), and the sums of the groups as results, each field
behind the last.  A group's field holds what rounding lost in the next one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .fused import two_sum
from .lanes import absolute, for_each, select
from .memory import get, put
from .tiles import Form, Sums, no_sums
from .view import LABELS, LOGITS, RESULT, SECOND, Call

# Numerator and what it lost, and denominator.
FIELDS = 3
# For a group: both of them and what they lost.
GROUP_FIELDS = 4


def add_rows(_dtype: Any, _form: Form, call: Call, group: Any, _scratch: Any) -> Sums:
    """Add up rows, of which the call has as many as the view has columns."""
    rows, codes, groups = (call.array(row).address for row in (LOGITS, LABELS, RESULT))
    count, number = call.columns, call.number(SECOND)

    def add(place: Any, value: Any, rest: Any) -> None:
        lost = place + number * 8
        total, rounding = two_sum(get(place, 0, np.float64), value)
        # A sum that is not finite has lost nothing.
        rounding = select(absolute(total) < np.inf, rounding + rest, rounding * 0.0)
        put(lost, 0, get(lost, 0, np.float64) + select(rounding == rounding, rounding, 0.0))
        put(place, 0, total)

    def row(k: Any) -> None:
        place = groups + get(codes, k) * 8
        numerator, lost, by = (
            get(rows + (count * field + k) * 8, 0, np.float64) for field in range(FIELDS)
        )
        add(place, numerator, lost)
        add(place + number * 16, by, numerator * 0.0)

    for_each(count, row)
    return no_sums(group)
