"""The focal loss inside what users compile themselves; see ``njit``."""

from functools import cache

import numpy as np
from numba import TypingError
from numba.extending import register_jitable

from . import focal
from .kernels.focal import FOCAL, parts_of
from .kernels.frame import CALLED
from .njit import _check_arrays, _is_number, _loss, _loss_and_gradient
from .njit_calls import compiled, is_given, public

register_jitable(inline="always", **CALLED)(parts_of)


def _check(call):
    _check_arrays(call)
    if is_given(call.alpha) and not _is_number(call.alpha):
        raise TypingError(
            f"Argument `alpha` must be a number from 0 to 1, or None, got {call.alpha}."
        )
    if not _is_number(call.gamma):
        raise TypingError(f"Argument `gamma` must be a number of at least 0, got {call.gamma}.")


@cache
def _of_alpha_and_gamma(compute):
    """Return code that makes of alpha and gamma the parameters that other code takes."""

    def checked(labels, logits, weights, label_smoothing, where, alpha, gamma):
        positive, negative = 1.0, 1.0
        if alpha is not None:
            positive = float(alpha)
            negative = 1.0 - positive
        if not 0.0 <= positive <= 1.0:
            raise ValueError("Argument `alpha` must be a number from 0 to 1, or None.")
        if not 0.0 <= gamma < np.inf:
            raise ValueError("Argument `gamma` must be a number of at least 0, and finite.")
        whole, rest, rest_low = parts_of(float(gamma))
        parameters = positive, negative, whole, rest, rest_low
        return compute(labels, logits, weights, label_smoothing, None, where, parameters)

    return compiled(checked)


@public(focal.sigmoid_focal_cross_entropy, "reduction")
def _sigmoid_focal_cross_entropy(call):
    _check(call)
    return _of_alpha_and_gamma(_loss(call, FOCAL))


@public(focal.sigmoid_focal_cross_entropy_value_and_grad, "reduction")
def _sigmoid_focal_cross_entropy_value_and_grad(call):
    _check(call)
    return _of_alpha_and_gamma(_loss_and_gradient(call, FOCAL))
