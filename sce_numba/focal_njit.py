"""The focal loss inside what users compile themselves; see ``njit``."""

from __future__ import annotations

from typing import Any

from numba import TypingError

from . import focal, njit
from .kernels.gradient import LOSSES, TOTAL
from .njit import _differentiate, _evaluate, _given, _is_number, _overload, _refuse
from .reduction import Reduction


def _check(
    labels: Any,
    logits: Any,
    alpha: Any,
    gamma: Any,
    weights: Any,
    label_smoothing: Any,
    where: Any,
) -> None:
    """Refuse what can't be given."""
    njit._check_arrays(labels, logits, weights, label_smoothing, None, where, "labels")
    if _given(alpha) and not _is_number(alpha):
        raise TypingError(f"Argument `alpha` must be a number from 0 to 1, or None, got {alpha}.")
    if not _is_number(gamma):
        raise TypingError(f"Argument `gamma` must be a number of at least 0, got {gamma}.")


@_overload(focal.sigmoid_focal_cross_entropy)
def _ol_sigmoid_focal_cross_entropy(
    labels: Any,
    logits: Any,
    alpha: Any = 0.25,
    gamma: Any = 2.0,
    weights: Any = 1.0,
    label_smoothing: Any = 0,
    reduction: Any = Reduction.SUM_BY_NONZERO_WEIGHTS,
    where: Any = None,
    out: Any = None,
) -> Any:
    _refuse(out, "out")
    _check(labels, logits, alpha, gamma, weights, label_smoothing, where)
    code = njit._reduction(reduction)

    def of_arrays(
        labels, logits, alpha=0.25, gamma=2.0, weights=1.0, label_smoothing=0, reduction=None,
        where=None, out=None,
    ):  # fmt: skip
        return _evaluate(
            labels, logits, weights, label_smoothing, code, None, where, alpha, gamma, None,
            "labels",
        )  # fmt: skip

    return of_arrays


@_overload(focal.sigmoid_focal_cross_entropy_value_and_grad)
def _ol_sigmoid_focal_cross_entropy_value_and_grad(
    labels: Any,
    logits: Any,
    alpha: Any = 0.25,
    gamma: Any = 2.0,
    weights: Any = 1.0,
    label_smoothing: Any = 0,
    reduction: Any = Reduction.SUM_BY_NONZERO_WEIGHTS,
    where: Any = None,
    out: Any = None,
    grad_out: Any = None,
) -> Any:
    _refuse(out, "out")
    _refuse(grad_out, "grad_out")
    _check(labels, logits, alpha, gamma, weights, label_smoothing, where)
    code = njit._reduction(reduction)
    second = LOSSES if code is None else TOTAL

    def of_arrays(
        labels, logits, alpha=0.25, gamma=2.0, weights=1.0, label_smoothing=0, reduction=None,
        where=None, out=None, grad_out=None,
    ):  # fmt: skip
        gradient, loss = _differentiate(
            labels, logits, weights, label_smoothing, code, None, where, alpha, gamma, second,
            "labels",
        )  # fmt: skip
        return loss, gradient

    return of_arrays
