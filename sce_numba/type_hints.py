"""What type checkers and editors are told of arguments that decide what a call returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np

from .reduction import Reduction

# What NumPy alone computes with.  The arrays of other libraries may come back as theirs.
Plain: TypeAlias = np.ndarray[Any, Any] | np.generic | float | Sequence[Any]
Out = TypeVar("Out", bound=np.ndarray[Any, Any])

NoReduction: TypeAlias = Literal[Reduction.NONE, "none"]
Reduced: TypeAlias = Literal[
    Reduction.SUM,
    Reduction.MEAN,
    Reduction.SUM_OVER_BATCH_SIZE,
    Reduction.SUM_BY_NONZERO_WEIGHTS,
    Reduction.SUM_OVER_NONZERO_WEIGHTS,
    "weighted_sum",
    "weighted_mean",
    "weighted_sum_over_batch_size",
    "weighted_sum_by_nonzero_weights",
]
AnyReduction: TypeAlias = Reduction | NoReduction | Reduced
