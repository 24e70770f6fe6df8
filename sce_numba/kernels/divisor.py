"""What each reduction divides the sum of the weighted losses by: one function, for every door.

==========================  ====================================
``SUM``                     1
``MEAN``                    the sum of the weights
``SUM_OVER_BATCH_SIZE``     the number of elements
``SUM_BY_NONZERO_WEIGHTS``  the number of weights that are not 0
==========================  ====================================
"""

from __future__ import annotations

from numba.extending import register_jitable

from .softplus import OPTIONS

SUM, MEAN, SUM_OVER_BATCH_SIZE, SUM_BY_NONZERO_WEIGHTS = 0, 1, 2, 3


@register_jitable(**OPTIONS)
def divisor(reduction, weight, sum_of_weights, present, count):
    """Return what a reduction divides by.

    ``present`` of the ``count`` elements have a weight that is not 0; ``weight`` multiplies all
    weights.
    """
    if reduction == SUM:
        return 1.0
    if reduction == MEAN:
        return weight * sum_of_weights
    if reduction == SUM_OVER_BATCH_SIZE:
        return count
    if reduction == SUM_BY_NONZERO_WEIGHTS:
        return present if weight != 0.0 else 0.0
    raise ValueError("There is no divisor for this reduction.")


@register_jitable(**OPTIONS)
def is_known(reduction, weighted, excluded):
    """Tell whether the number of elements alone decides the divisor, but for a scalar weight."""
    if reduction == SUM:
        return True
    return not excluded and (reduction == SUM_OVER_BATCH_SIZE or not weighted)
