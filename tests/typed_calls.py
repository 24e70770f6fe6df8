"""What type checkers make of calls: ``mypy`` reads this file, and nothing runs it.

An error that is expected and doesn't come is an error, too.
"""

from typing import Any

import numpy as np
from typing_extensions import assert_type

import sce_numba as sce
from sce_numba import Reduction

LABELS = np.zeros((4, 3), bool)
LOGITS = np.zeros((4, 3), np.float32)


class Lazy:
    """An array of another library, which NumPy could read."""

    def __array__(self) -> np.ndarray:
        return LOGITS


def reductions_that_leave_a_scalar() -> None:
    loss = sce.sigmoid_cross_entropy(LABELS, LOGITS)
    assert_type(loss, np.floating[Any])
    assert_type(loss.item(), float)
    assert_type(sce.sigmoid_cross_entropy([[1, 0]], [[2.0, 3.0]]), np.floating[Any])
    loss = sce.sigmoid_cross_entropy(LABELS, LOGITS, [[1.0]], 0.1, reduction="weighted_mean")
    loss = sce.sigmoid_cross_entropy(LABELS, LOGITS, reduction=Reduction.SUM_OVER_NONZERO_WEIGHTS)
    loss, gradient = sce.sigmoid_cross_entropy_value_and_grad(LABELS, LOGITS, grad_out=LOGITS)
    assert_type(gradient, np.ndarray)
    loss, gradient = sce.sigmoid_focal_cross_entropy_value_and_grad(LABELS, LOGITS)
    loss = sce.sigmoid_focal_cross_entropy(LABELS, LOGITS, reduction=Reduction.SUM)
    assert_type(sce.compute_weighted_loss(LOGITS), np.number[Any])


def no_reduction_leaves_an_array() -> None:
    losses = sce.sigmoid_cross_entropy(LABELS, LOGITS, reduction=Reduction.NONE)
    assert_type(losses, np.ndarray)
    losses = sce.sigmoid_cross_entropy(LABELS, LOGITS, reduction="none")
    assert_type(losses, np.ndarray)
    losses = sce.compute_weighted_loss([1.0, 2.0], reduction="none")
    assert_type(losses, np.ndarray)
    losses = sce.sigmoid_focal_cross_entropy(LABELS, LOGITS, reduction="none", out=LOGITS)
    assert_type(losses, np.ndarray)
    losses, gradient = sce.sigmoid_cross_entropy_value_and_grad(LABELS, LOGITS, reduction="none")
    assert_type((losses, gradient), tuple[np.ndarray, np.ndarray])


def memory_that_is_given_comes_back() -> None:
    out = np.zeros(4, np.float32)
    # Anything but this type would be an error.
    out = sce.sigmoid_cross_entropy(LABELS, LOGITS, axis=-1, out=out)
    out = sce.sigmoid_cross_entropy(LABELS, LOGITS, axis=-1, out=LOGITS)  # type: ignore[arg-type]


def what_depends_on_values_is_left_open(reduction: Reduction, keepdims: bool) -> None:
    assert_type(sce.sigmoid_cross_entropy(LABELS, LOGITS, axis=-1), Any)
    assert_type(sce.sigmoid_cross_entropy(LABELS, LOGITS, keepdims=keepdims), Any)
    assert_type(sce.sigmoid_cross_entropy(LABELS, LOGITS, groups=[0, 1, 1, 0]), Any)
    assert_type(sce.sigmoid_cross_entropy(LABELS, LOGITS, reduction=reduction), Any)
    assert_type(sce.sigmoid_cross_entropy(Lazy(), Lazy()), Any)
    assert_type(sce.sigmoid_cross_entropy(LABELS, LOGITS, Lazy()), Any)


def what_is_no_reduction_is_refused(text: str) -> None:
    sce.sigmoid_cross_entropy(LABELS, LOGITS, reduction="mean")  # type: ignore[call-overload]
    sce.sigmoid_cross_entropy(LABELS, LOGITS, reduction=None)  # type: ignore[call-overload]
    sce.sigmoid_cross_entropy(LABELS, LOGITS, reduction=text)  # type: ignore[call-overload]
    sce.compute_weighted_loss(LOGITS, reduction="sum")  # type: ignore[call-overload]
    sce.LossAccumulator("mean")  # type: ignore[arg-type]
    sce.LossAccumulator("weighted_mean")
