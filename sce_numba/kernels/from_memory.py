"""float32 vectors that are converted to float64 on their way from memory.

In registers a half of a vector has to be spread before it is converted, and the upper one be moved
down first: on processors of Intel all of that takes the one port for shuffles.  A load spreads what
it reads.  So the vector is written to the stack and read again, by ports that have little to do:
sums of losses take an eighth less time in AVX2 code.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .dtypes import FLOAT32
from .lanes import Lanes, is_single, to_float64
from .memory import hidden, on_stack
from .operand import load, store
from .processor import is_intel


def to_float64_from_memory(x: Any) -> Any:
    """Convert to float64, as ``to_float64`` does."""
    if not isinstance(x, Lanes) or not is_intel() or not is_single(x):
        return to_float64(x)
    count, builder = x.value.type.count, x.builder
    place = on_stack(x, 4 * count)
    with builder.goto_entry_block():
        # Another address, as far as LLVM can tell, lest it load nothing.
        again = hidden(place)
    store(x, place)
    return load(np.float64, again, FLOAT32, count)
