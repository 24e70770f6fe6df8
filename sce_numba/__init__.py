"""Sigmoid cross entropy on NumPy arrays: TensorFlow's semantics, no framework."""

from .accumulator import LossAccumulator
from .loss_collections import (
    CollectedLosses,
    GraphKeys,
    add_loss,
    collect_losses,
    get_losses,
    get_regularization_loss,
    get_regularization_losses,
    get_total_loss,
)
from .losses import (
    compute_weighted_loss,
    sigmoid_cross_entropy,
    sigmoid_cross_entropy_gradient,
    sigmoid_cross_entropy_gradient_hessian,
    sigmoid_cross_entropy_value_and_grad,
)
from .nn import sigmoid_cross_entropy_with_logits, weighted_cross_entropy_with_logits
from .reduction import Reduction
from .versions import __version__, show_versions

__all__ = [
    "CollectedLosses",
    "GraphKeys",
    "LossAccumulator",
    "Reduction",
    "__version__",
    "add_loss",
    "collect_losses",
    "compute_weighted_loss",
    "get_losses",
    "get_regularization_loss",
    "get_regularization_losses",
    "get_total_loss",
    "show_versions",
    "sigmoid_cross_entropy",
    "sigmoid_cross_entropy_gradient",
    "sigmoid_cross_entropy_gradient_hessian",
    "sigmoid_cross_entropy_value_and_grad",
    "sigmoid_cross_entropy_with_logits",
    "weighted_cross_entropy_with_logits",
]
