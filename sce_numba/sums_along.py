"""The losses along axes of data in parts: as ``loss_sums``, with a pair of sums for each result."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from . import arguments
from .axes import Axes, as_axes, sums
from .exact_sums import ExactSums
from .kernels import view
from .operands import Operands, add_weights, checked, known, recognised
from .reduction import Reduction


class SumsAlong:
    """Numerators and denominators of results of one shape, which the first part decides."""

    def __init__(self) -> None:
        self.shape: tuple[int, ...] | None = None
        self.numerator, self.denominator = ExactSums(0), ExactSums(0)

    def merge(self, other: SumsAlong) -> None:
        """Add all that was added to others; ValueError if their results have another shape."""
        if other.shape is None:
            return
        if self.shape is None:
            self.shape = other.shape
            self.numerator, self.denominator = other.numerator.copy(), other.denominator.copy()
            return
        if self.shape != other.shape:
            raise ValueError(
                f"The results of this part have the shape {other.shape}; those before had "
                f"{self.shape}. The axes that are not reduced must be alike in all parts."
            )
        self.numerator.merge(other.numerator)
        self.denominator.merge(other.denominator)

    def copy(self) -> SumsAlong:
        """Return sums of the same parts."""
        result = SumsAlong()
        result.merge(self)
        return result

    def loss(self, reduction: str) -> np.ndarray:
        """Return the quotients; a denominator of exactly 0 gives 0."""
        if self.shape is None:
            raise ValueError("There are no results before the first update, which decides a shape.")
        if reduction == Reduction.SUM:
            # Every part is divided by 1, and so are all of them.
            return self.numerator.rounded().reshape(self.shape)
        return (self.numerator / self.denominator).reshape(self.shape)

    def denominators(self, reduction: str) -> np.ndarray:
        """Return what all data are divided by."""
        assert self.shape is not None
        found = self.denominator.rounded().reshape(self.shape)
        return np.ones_like(found) if reduction == Reduction.SUM else found


def sums_along(
    axis: tuple[int, ...],
    keepdims: bool,
    labels: ArrayLike,
    logits: ArrayLike,
    weights: ArrayLike = 1.0,
    label_smoothing: float = 0,
    reduction: Reduction | str = Reduction.SUM_BY_NONZERO_WEIGHTS,
    *,
    pos_weight: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> SumsAlong:
    """Return the sums of a part of the data; arguments and errors as ``sigmoid_cross_entropy``."""
    options = label_smoothing, reduction, pos_weight, where
    given = recognised(labels, logits, weights, *options)
    if given is None:
        given = checked(labels, logits, weights, *options, "labels")
    axes = as_axes(axis, keepdims, given[0][view.LOGITS].ndim)
    return _sums(given, axes)


def sums_of_losses_along(
    axis: tuple[int, ...],
    keepdims: bool,
    losses: ArrayLike,
    weights: ArrayLike,
    reduction: Reduction | str,
    where: ArrayLike | None = None,
) -> SumsAlong:
    """Return what ``sums_along`` does, for losses that are already computed."""
    arrays = {view.LOGITS: arguments.as_floats(losses, "losses")}
    code, weight = add_weights(arrays, weights, reduction, where=where)
    axes = as_axes(axis, keepdims, arrays[view.LOGITS].ndim)
    return _sums((arrays, known(arrays), weight, 0.0, code), axes)


def _sums(given: Operands, axes: Axes) -> SumsAlong:
    numerator, lost, by = sums(given, axes)
    result = SumsAlong()
    result.shape = axes.shape(given[0][view.LOGITS].shape)
    result.numerator, result.denominator = ExactSums(by.size), ExactSums(by.size)
    result.numerator.add(numerator)
    result.numerator.add(lost)
    result.denominator.add(by)
    return result
