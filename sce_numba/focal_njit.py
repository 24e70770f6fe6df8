"""The focal loss inside what users compile themselves; see ``njit``."""

from . import focal
from .njit import _check_arrays, _loss, _loss_and_gradient
from .njit_calls import public


@public(focal.sigmoid_focal_cross_entropy, "reduction")
def _sigmoid_focal_cross_entropy(call):
    _check_arrays(call)
    return _loss(call)


@public(focal.sigmoid_focal_cross_entropy_value_and_grad, "reduction")
def _sigmoid_focal_cross_entropy_value_and_grad(call):
    _check_arrays(call)
    return _loss_and_gradient(call)
