"""The loss of data in parts, from exact sums that are divided once all parts are merged."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from . import arguments, evaluation
from .exact_sum import ExactSum
from .kernels import view
from .layout import Layout
from .operands import add_weights, checked, known, of_formula, recognised
from .reduction import Reduction


class LossSums:
    """Numerator and denominator of a loss: the sum of weighted losses, and what it is divided by.

    Those of parts of the data are merged in any order.
    """

    def __init__(self, numerator: float = 0.0, denominator: float = 0.0, lost: float = 0.0) -> None:
        self.numerator, self.denominator = ExactSum(), ExactSum()
        self.numerator.add(numerator)
        self.numerator.add(lost)
        self.denominator.add(denominator)

    def merge(self, other: LossSums) -> None:
        """Add the sums of another part."""
        self.numerator.merge(other.numerator)
        self.denominator.merge(other.denominator)

    def copy(self) -> LossSums:
        """Return a copy, which changes by itself."""
        result = LossSums()
        result.merge(self)
        return result

    def loss(self, reduction: str) -> float:
        """Return the quotient; a denominator of exactly 0 gives 0."""
        if reduction == Reduction.SUM:
            # Parts have the denominator 1, and so has their total.
            return float(self.numerator)
        return self.numerator / self.denominator if self.denominator else 0.0


def sums_of_part(
    labels: ArrayLike,
    logits: ArrayLike,
    weights: ArrayLike = 1.0,
    label_smoothing: float = 0,
    reduction: Reduction | str = Reduction.SUM_BY_NONZERO_WEIGHTS,
    *,
    pos_weight: ArrayLike | None = None,
    where: ArrayLike | None = None,
    formula: Sequence[Any] = (),
) -> LossSums:
    """Return the sums of a part of the data.

    Arguments and errors are those of ``sigmoid_cross_entropy``, but for ``Reduction.NONE``; the
    ``formula`` is that of ``operands.of_formula``.
    """
    options = label_smoothing, reduction, pos_weight, where
    operands = recognised(labels, logits, weights, *options)
    if operands is None:
        operands = checked(labels, logits, weights, *options, "labels")
    return _sums(*of_formula(operands, formula))


def sums_of_losses(losses: ArrayLike, weights: ArrayLike, reduction: Reduction | str) -> LossSums:
    """Return the sums of a part of the data, given its losses."""
    arrays = {view.LOGITS: arguments.as_floats(losses, "losses")}
    code, weight = add_weights(arrays, weights, reduction)
    return _sums(arrays, known(arrays), weight, 0.0, code)


def _sums(
    arrays: dict[int, np.ndarray],
    layout: Layout | None,
    weight: float,
    smoothing: float,
    code: int | None,
) -> LossSums:
    assert code is not None
    return LossSums(*evaluation.sums(arrays, layout, weight, smoothing, code))


def denominator_of_part(
    logits: ArrayLike,
    weights: ArrayLike,
    reduction: Reduction | str,
    *,
    where: ArrayLike | None = None,
) -> float:
    """Return the denominator of a reduction; only the shape of the logits matters."""
    arrays = {view.LOGITS: arguments.as_floats(logits, "logits")}
    code, weight = add_weights(arrays, weights, reduction, where=where)
    assert code is not None
    return evaluation.denominator(arrays, known(arrays), weight, code)


def gradient_of_part(
    labels: ArrayLike,
    logits: ArrayLike,
    weights: ArrayLike,
    label_smoothing: float,
    denominator: float,
    *,
    pos_weight: ArrayLike | None = None,
    where: ArrayLike | None = None,
    formula: Sequence[Any] = (),
) -> tuple[np.ndarray, tuple[float, float]]:
    """Return the gradient, given the denominator of all data, and the sum of the losses.

    The sum comes with the error of rounding it to float64.
    """
    options = label_smoothing, Reduction.SUM, pos_weight, where
    operands = checked(labels, logits, weights, *options, "labels")
    arrays, layout, weight, smoothing, _ = of_formula(operands, formula)
    arrays[view.GRADIENT] = evaluation.result_like(arrays[view.LOGITS])
    layout = layout and layout.with_results(arrays, True, view.GRADIENT)
    lost = ctypes.c_double()
    address = ctypes.addressof(lost)
    total = evaluation.differentiate_sum(arrays, layout, weight, smoothing, denominator, address)
    return arrays[view.GRADIENT], (total, lost.value)
