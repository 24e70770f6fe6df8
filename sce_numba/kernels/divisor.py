"""What each reduction divides the sum of the weighted losses by: one function, for all callers.

==========================  ====================================
``SUM``                     1
``MEAN``                    the sum of the weights
``SUM_OVER_BATCH_SIZE``     the number of elements
``SUM_BY_NONZERO_WEIGHTS``  the number of weights that are not 0
==========================  ====================================
"""

from __future__ import annotations

from typing import Any

from .lanes import select

SUM, MEAN, SUM_OVER_BATCH_SIZE, SUM_BY_NONZERO_WEIGHTS = 0, 1, 2, 3


def check(reduction: int) -> int:
    """Return the code of a reduction, if its divisor is known."""
    if not SUM <= reduction <= SUM_BY_NONZERO_WEIGHTS:
        raise ValueError("There is no divisor for this reduction.")
    return reduction


def divisor(reduction: Any, weight: Any, sum_of_weights: Any, present: Any, count: Any) -> Any:
    """Return what a reduction divides by.

    ``present`` of the ``count`` elements have a weight that is not 0; ``weight`` multiplies all
    weights.
    """
    others = select(reduction == SUM_OVER_BATCH_SIZE, count, select(weight != 0.0, present, 0.0))
    mean = select(reduction == MEAN, weight * sum_of_weights, others)
    return select(reduction == SUM, 1.0, mean)


def is_known(reduction: int, weighted: bool, excluded: bool) -> bool:
    """Tell whether the number of elements alone decides the divisor, but for a scalar weight."""
    if reduction == SUM:
        return True
    return not excluded and (reduction == SUM_OVER_BATCH_SIZE or not weighted)
