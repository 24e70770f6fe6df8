"""Sigmoid cross entropy on NumPy arrays: TensorFlow's semantics, no framework."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from . import processes as _processes  # noqa: F401

if TYPE_CHECKING:
    from .accumulator import LossAccumulator
    from .evaluator import Evaluation, evaluate
    from .focal import sigmoid_focal_cross_entropy, sigmoid_focal_cross_entropy_value_and_grad
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
    "Evaluation",
    "GraphKeys",
    "LossAccumulator",
    "Reduction",
    "__version__",
    "add_loss",
    "collect_losses",
    "compute_weighted_loss",
    "evaluate",
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
    "sigmoid_focal_cross_entropy",
    "sigmoid_focal_cross_entropy_value_and_grad",
    "weighted_cross_entropy_with_logits",
]

# What is for other libraries, and imports them.
_DOORS = ["boosting", "jax", "njit", "sklearn", "torch"]

# Where each name is defined.  Modules are imported when they are first asked for, so that programs
# which only pass by here, like all that use Numba, don't wait for them.
_MODULES = {
    "accumulator": ["LossAccumulator"],
    "evaluator": ["Evaluation", "evaluate"],
    "focal": ["sigmoid_focal_cross_entropy", "sigmoid_focal_cross_entropy_value_and_grad"],
    "loss_collections": [
        "CollectedLosses",
        "GraphKeys",
        "add_loss",
        "collect_losses",
        "get_losses",
        "get_regularization_loss",
        "get_regularization_losses",
        "get_total_loss",
    ],
    "losses": [
        "compute_weighted_loss",
        "sigmoid_cross_entropy",
        "sigmoid_cross_entropy_gradient",
        "sigmoid_cross_entropy_gradient_hessian",
        "sigmoid_cross_entropy_value_and_grad",
    ],
    "nn": ["sigmoid_cross_entropy_with_logits", "weighted_cross_entropy_with_logits"],
    "reduction": ["Reduction"],
    "versions": ["__version__", "show_versions"],
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name in _MODULES:
            return importlib.import_module(f".{name}", __name__)
        if name not in _MODULE_OF:
            mend = f": import {__name__}.{name} first" if name in _DOORS else ""
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}{mend}")
        value = getattr(importlib.import_module(f".{_MODULE_OF[name]}", __name__), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted([*__all__, *_DOORS])
