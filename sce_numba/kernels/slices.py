"""Add the sums of rows, which are side by side (see ``margins``), to those of their slices.

The call has the sums of the rows where the logits of others are, numbers of slices where the labels
are (int64), and the sums of the slices as results.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .dtypes import FLOAT64
from .lanes import for_each
from .margins import FIELDS
from .memory import get
from .operand import load, store
from .tiles import Form, Sums, no_sums
from .view import LABELS, LOGITS, RESULT, Call


def add_to_slices(_dtype: Any, _form: Form, call: Call, group: Any, _scratch: Any) -> Sums:
    """Add rows to the sums of their slices; the columns of the view are their number."""
    rows, codes, slices = (call.array(row).address for row in (LOGITS, LABELS, RESULT))

    def add(k: Any) -> None:
        address = slices + get(codes, k) * (8 * FIELDS)
        sums = load(np.float64, address, FLOAT64, FIELDS)
        store(sums + load(np.float64, rows + k * (8 * FIELDS), FLOAT64, FIELDS), address)

    for_each(call.columns, add)
    return no_sums(group)
