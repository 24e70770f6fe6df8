"""From what a call was given to checked operands: arrays by their rows, and the numbers beside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy import ndarray  # quicker to look up
from numpy.typing import ArrayLike

from . import arguments
from .kernels.view import LABELS, LOGITS, POS_WEIGHT, WEIGHTS, WHERE
from .layout import Layout, layout_of, remembered
from .reduction import CODES, Reduction

# The arrays by their rows in the kernels' layout, and how they lie (None for empty ones); what
# multiplies all weights, the label smoothing, and the kernels' code of the reduction (None for
# `Reduction.NONE`).
Operands = tuple[dict[int, np.ndarray], "Layout | None", float, float, "int | None"]

# What a weight or label smoothing may be to be taken as it is.
_NUMBERS = {bool, int, float, *(dtype.type for dtype in arguments.NATIVE)}
_REDUCTIONS = {Reduction, str}


def recognised(
    labels: Any,
    logits: Any,
    weights: Any = 1.0,
    label_smoothing: Any = 0,
    reduction: Any = Reduction.NONE,
    pos_weight: Any = None,
    where: Any = None,
) -> Operands | None:
    """Return the operands of a call like one that was checked before, None for all others.

    Finding that out takes a tenth of the time that the checks take.
    """
    if type(label_smoothing) not in _NUMBERS or not 0 <= label_smoothing <= 1:
        return None
    if type(reduction) not in _REDUCTIONS:
        return None
    code = CODES.get(reduction)
    if code is None and reduction != Reduction.NONE:
        return None
    arrays = {LOGITS: logits, LABELS: labels}
    weight = 1.0
    if type(weights) in _NUMBERS:
        try:
            weight = float(weights)
        except OverflowError:  # of an integer
            return None
        if weight - weight != 0:
            return None
    elif type(weights) is ndarray and weights.size != 1:
        arrays[WEIGHTS] = weights
    else:
        return None
    if pos_weight is not None:
        single = type(pos_weight) in _NUMBERS
        arrays[POS_WEIGHT] = np.asarray(pos_weight) if single else pos_weight
    if where is not None:
        arrays[WHERE] = where
    layout = remembered(arrays)
    if layout is None:
        return None
    return arrays, layout, weight, label_smoothing, code


def checked(
    labels: ArrayLike | None,
    logits: ArrayLike | None,
    weights: ArrayLike = 1.0,
    label_smoothing: float = 0,
    reduction: Reduction | str = Reduction.NONE,
    pos_weight: ArrayLike | None = None,
    where: ArrayLike | None = None,
    labels_name: str = "multi_class_labels",
) -> Operands:
    """Return the operands of a call, or say what is wrong with them."""
    arrays, smoothing = elements(labels, logits, label_smoothing, labels_name)
    code, weight = add_weights(arrays, weights, reduction, pos_weight, where)
    return arrays, known(arrays), weight, smoothing, code


def of_formula(given: Operands, formula: Sequence[Any]) -> Operands:
    """Return the operands of a call for a formula with its parameters; there may be none.

    The plain one, that of ``kernels.elements``, is meant then.
    """
    arrays, layout, weight, smoothing, code = given
    if formula and layout is not None:
        layout = layout.of(arrays, *formula)
    return arrays, layout, weight, smoothing, code


def known(arrays: dict[int, np.ndarray]) -> Layout | None:
    """Return how checked arrays lie, None for empty ones."""
    return layout_of(arrays) if arrays[LOGITS].size > 0 else None


def elements(
    labels_given: ArrayLike | None,
    logits: ArrayLike | None,
    label_smoothing: float,
    labels_name: str = "multi_class_labels",
) -> tuple[dict[int, np.ndarray], float]:
    """Return labels and logits, each for its row of the operands, and the label smoothing."""
    labels, values = arguments.as_labels_and_logits(labels_given, labels_name, logits)
    smoothing = arguments.as_label_smoothing(label_smoothing)
    return {LOGITS: values, LABELS: labels}, smoothing


def add_weights(
    arrays: dict[int, np.ndarray],
    weights: ArrayLike,
    reduction: Reduction | str,
    pos_weight: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> tuple[int | None, float]:
    """Add what weighs and excludes elements; return the reduction's code and a scalar weight."""
    values = arrays[LOGITS]
    code = arguments.as_reduction(reduction)
    weight, weight_array = arguments.as_weights(weights, values)
    if weight_array is not None:
        arrays[WEIGHTS] = weight_array
    if pos_weight is not None:
        arrays[POS_WEIGHT] = arguments.as_pos_weight(pos_weight, values)
    if where is not None:
        arrays[WHERE] = arguments.as_where(where, values)
    return code, weight
