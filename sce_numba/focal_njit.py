"""The focal loss inside what users compile themselves; see ``njit``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import TypingError

from . import focal, njit
from .kernels.divisor import SUM
from .kernels.flatten import words_of
from .kernels.focal import FOCAL
from .kernels.gradient import LOSSES, TOTAL
from .kernels.view import LAYOUT, RANK, REDUCTION, SECOND
from .njit import (
    _address_of,
    _as_array,
    _call,
    _check_shapes,
    _check_smoothing,
    _denominator,
    _given,
    _hold,
    _is_number,
    _jitable,
    _overload,
    _refuse,
    _word,
)
from .reduction import Reduction

_jitable(focal.parts_of)
_run_totals, _run_losses, _run_slopes = (
    njit._runner(kind, FOCAL) for kind in ("totals", "losses", "slopes")
)


def _parameters(alpha: Any, gamma: Any) -> Any: ...


@_overload(_parameters)
def _ol_parameters(alpha: Any, gamma: Any) -> Any:
    """Return the parameters of the formula, as ``focal.formula_of`` does."""

    def without_alpha(alpha, gamma):
        if not 0.0 <= gamma < np.inf:
            raise ValueError("Argument `gamma` must be a number of at least 0, and finite.")
        return (1.0, 1.0, *focal.parts_of(np.float64(gamma)))

    def with_alpha(alpha, gamma):
        if not 0.0 <= alpha <= 1.0:
            raise ValueError("Argument `alpha` must be a number from 0 to 1, or None.")
        positive = np.float64(alpha)
        return (positive, 1.0 - positive, *_parameters(None, gamma)[2:])

    return with_alpha if _given(alpha) else without_alpha


@_jitable
def _opened(labels, logits, weights, where, result, gradient, parameters, computed):
    """Return what ``njit._call`` does, with the parameters of the formula."""
    call, words, weight = _call(labels, logits, weights, None, where, result, gradient, computed)
    longer = np.zeros(words.size + len(parameters), np.int64)
    longer[: words.size] = words
    behind = words_of(words[RANK])
    for k in range(len(parameters)):
        longer[behind + k] = _word(parameters[k])
    call[LAYOUT] = _address_of(longer)
    return call, longer, weight


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
    code, real = njit._reduction(reduction), logits.dtype
    computed = njit._computed(real)

    def reduced(
        labels, logits, alpha=0.25, gamma=2.0, weights=1.0, label_smoothing=0, reduction=None,
        where=None, out=None,
    ):  # fmt: skip
        _check_shapes(labels, logits, weights, "labels")
        _check_smoothing(label_smoothing)
        parameters = _parameters(alpha, gamma)
        x, z, w, keep = _as_array(logits), _as_array(labels), _as_array(weights), _as_array(where)
        if x.size == 0:
            return real(0.0)
        call, words, weight = _opened(z, x, w, keep, None, None, parameters, computed)
        call[REDUCTION] = code
        value = _run_totals(real, call, words, (weight, np.float64(label_smoothing), 1.0))
        _hold(x, z, w, keep)
        return real(value)

    def unreduced(
        labels, logits, alpha=0.25, gamma=2.0, weights=1.0, label_smoothing=0, reduction=None,
        where=None, out=None,
    ):  # fmt: skip
        _check_shapes(labels, logits, weights, "labels")
        _check_smoothing(label_smoothing)
        parameters, losses = _parameters(alpha, gamma), np.empty_like(logits)
        x, z, w, keep = _as_array(logits), _as_array(labels), _as_array(weights), _as_array(where)
        if x.size > 0:
            result = _as_array(losses)
            call, words, weight = _opened(z, x, w, keep, result, None, parameters, computed)
            _run_losses(real, call, words, (weight, np.float64(label_smoothing), 1.0))
        _hold(x, z, w, keep)
        return losses

    return unreduced if code is None else reduced


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
    code, real = njit._reduction(reduction), logits.dtype
    computed = njit._computed(real)
    excluded = _given(where)

    def reduced(
        labels, logits, alpha=0.25, gamma=2.0, weights=1.0, label_smoothing=0, reduction=None,
        where=None, out=None, grad_out=None,
    ):  # fmt: skip
        _check_shapes(labels, logits, weights, "labels")
        _check_smoothing(label_smoothing)
        parameters, gradient = _parameters(alpha, gamma), np.empty_like(logits)
        x, z, w, keep = _as_array(logits), _as_array(labels), _as_array(weights), _as_array(where)
        if x.size == 0:
            return real(0.0), gradient
        slopes = _as_array(gradient)
        call, words, weight = _opened(z, x, w, keep, None, slopes, parameters, computed)
        by = _denominator(real, call, words, weight, code, excluded, x.size)
        if by == 0.0:
            gradient[...] = 0
            return real(0.0), gradient
        call[REDUCTION], call[SECOND] = SUM, TOTAL
        numbers = weight, np.float64(label_smoothing), weight / by
        value = _run_slopes(real, call, words, numbers)
        _hold(x, z, w, keep)
        return real(value / by), gradient

    def unreduced(
        labels, logits, alpha=0.25, gamma=2.0, weights=1.0, label_smoothing=0, reduction=None,
        where=None, out=None, grad_out=None,
    ):  # fmt: skip
        _check_shapes(labels, logits, weights, "labels")
        _check_smoothing(label_smoothing)
        parameters = _parameters(alpha, gamma)
        losses, gradient = np.empty_like(logits), np.empty_like(logits)
        x, z, w, keep = _as_array(logits), _as_array(labels), _as_array(weights), _as_array(where)
        if x.size > 0:
            results = _as_array(losses), _as_array(gradient)
            call, words, weight = _opened(z, x, w, keep, *results, parameters, computed)
            call[REDUCTION], call[SECOND] = SUM, LOSSES
            numbers = weight, np.float64(label_smoothing), weight
            _run_slopes(real, call, words, numbers)
        _hold(x, z, w, keep)
        return losses, gradient

    return unreduced if code is None else reduced
