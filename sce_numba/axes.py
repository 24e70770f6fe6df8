"""The loss along some axes: which these are, and the kernels that reduce them."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from . import arguments, evaluation
from .kernels.array_address import address
from .kernels.axis_sums import PARTS, QUOTIENT
from .kernels.axis_view import FIELDS, PITCH, RANGES, axis_words, flatten_axes
from .kernels.block import GREATEST, SMALLEST
from .kernels.compile import kernel
from .kernels.divisor import SUM, divisor, is_known
from .kernels.view import (
    GRADIENT,
    LOGITS,
    OPERANDS,
    RANK,
    RESULT,
    SHAPE,
    STRIDES,
    WEIGHTS,
    WHERE,
)
from .layout import Layout, computed_in, found, key_of, layout_of, remember, table_of
from .messages import shown
from .operands import Operands

# An axis, some of them, or None for all.
Axis = int | Sequence[int] | None


class Axes(NamedTuple):
    """Which axes of the logits are reduced, and whether they stay with a length of 1."""

    reduced: tuple[int, ...]
    keepdims: bool

    @functools.lru_cache(256)  # noqa: B019
    def shape(self, lengths: tuple[int, ...], keepdims: bool | None = None) -> tuple[int, ...]:
        """Return the shape of the results."""
        keep = self.keepdims if keepdims is None else keepdims
        return tuple(
            1 if axis in self.reduced else length
            for axis, length in enumerate(lengths)
            if keep or axis not in self.reduced
        )


def are_given(axis: Any, keepdims: Any, dim: Any = None) -> bool:
    """Tell whether there may be several results, or one with axes of its own."""
    return axis is not None or keepdims is not False or dim is not None


def options(axis: Any, keepdims: Any, dim: Any) -> dict[str, Any]:
    """Return those of the arguments that are given, by name, for other libraries' arrays."""
    named = {} if dim is None else {"dim": dim}
    return {"axis": axis, "keepdims": keepdims, **named}


def as_flag(keepdims: Any) -> bool:
    """Return ``keepdims``, which must be True or False."""
    if not isinstance(keepdims, (bool, np.bool_)):
        raise TypeError(f"Argument `keepdims` must be True or False, got {shown(keepdims)}.")
    return bool(keepdims)


def numbers_of(axis: Any) -> tuple[int, ...] | None:
    """Return the axes that were named, None for all of them."""
    if axis is None:
        return None
    numbers = []
    for one in axis if isinstance(axis, (tuple, list)) else (axis,):
        try:
            number = operator.index(one)
        except TypeError:
            number = None
        if number is None or isinstance(one, (bool, np.bool_)):
            mend = " Pass names of axes of a DataArray as `dim`." if isinstance(one, str) else ""
            raise TypeError(
                "Argument `axis` must be None, an integer or a tuple of integers, got "
                f"{shown(axis)}.{mend}"
            )
        numbers.append(number)
    return tuple(numbers)


def as_axes(axis: Any, keepdims: Any, rank: int) -> Axes:
    """Return checked axes."""
    keep, numbers = as_flag(keepdims), numbers_of(axis)
    if numbers is None:
        return Axes(tuple(range(rank)), keep)
    for number in numbers:
        if not -rank <= number < rank:
            allowed = f"from {-rank} to {rank - 1}" if rank else "none: it has no axes"
            raise ValueError(
                f"Argument `axis` names axis {number} of an array of {rank} dimensions; allowed "
                f"are {allowed}."
            )
    found = sorted(number % rank for number in numbers)
    if len(set(found)) < len(found):
        raise ValueError(f"Argument `axis` must name no axis twice, got {shown(axis)}.")
    return Axes(tuple(found), keep)


class _Layout(Layout):
    """What reductions of arrays that lie alike have in common."""

    def __init__(self, arrays: dict[int, np.ndarray], axes: Axes, by_element: bool) -> None:
        """Take arrays as ``Layout`` does; ``by_element`` says that weights are read so anyway."""
        self._axes, self._by_element = axes, by_element
        super().__init__(arrays)
        dtype: Any = self.computed
        self.code = kernel("along" if self._along else "across", dtype, self.form)

    def _flattened(self, arrays: dict[int, np.ndarray]) -> list[int]:
        lengths = arrays[LOGITS].shape
        rank = len(lengths)
        flags = [int(axis in self._axes.reduced) for axis in range(rank)]
        others = [1 - flag for flag in flags]
        words = [0] * axis_words(rank)
        given = lengths, table_of(arrays), flags, others, [0] * rank, self._by_element, words
        self._along = flatten_axes(*given, [0] * (rank + 2))
        plan = SHAPE + words[RANK] + OPERANDS * (STRIDES + words[RANK])
        # How many sums have to be kept.
        self.numbers = FIELDS * words[plan + PITCH] * words[plan + RANGES]
        return words


def _run(
    arrays: dict[int, np.ndarray],
    axes: Axes,
    weight: float,
    smoothing: float,
    reduction: int,
    wanted: int,
) -> None:
    """Write results; of parts there are as many as are wanted, behind one another."""
    # An array of the logits' shape in which whatever is reduced takes no step.
    kept = axes.shape(arrays[LOGITS].shape, keepdims=True)
    results = arrays[RESULT] if wanted == QUOTIENT else arrays[RESULT][0]
    arrays = arrays | {RESULT: results.reshape(kept)}
    by_element = WEIGHTS in arrays and _must_be_read(arrays[WEIGHTS], axes)
    key = axes.reduced, by_element, *key_of(arrays)
    layout: Any = found(key) or remember(key, _Layout(arrays, axes, by_element))
    sums = np.empty(layout.numbers)
    place = address(sums) if layout.numbers else 0
    rest = weight, smoothing, reduction, wanted, place
    evaluation.reduce_along(arrays, layout, layout.code, *rest)


def _must_be_read(weights: np.ndarray, axes: Axes) -> bool:
    """Tell whether weights that are alike within each result must meet its elements even so.

    The product of an infinite one with a loss of 0 is NaN.
    """
    for axis in axes.reduced:
        if weights.shape[axis] != 1 and weights.strides[axis] != 0:
            return True
    first = tuple(slice(1) if axis in axes.reduced else slice(None) for axis in range(weights.ndim))
    with np.errstate(all="ignore"):
        return not math.isfinite(np.add.reduce(weights[first], axis=None, dtype=np.float64))


def evaluate(given: Operands, axis: Any, keepdims: Any, dim: Any = None, out: Any = None) -> Any:
    """Return the losses along axes, which are checked first, as is ``out``."""
    arrays, layout, weight, smoothing, reduction = given
    axes, code = given_axes(arrays, reduction, axis, keepdims, dim)
    shape = axes.shape(arrays[LOGITS].shape)
    checked = None if out is None else arguments.as_out(out, arrays, shape=shape)
    result = reduce((arrays, layout, weight, smoothing, code), axes, checked)
    return result if out is None else out


def evaluate_and_differentiate(
    given: Operands, axis: Any, keepdims: Any, dim: Any, out: Any, grad_out: Any
) -> tuple[Any, np.ndarray]:
    """Return the losses along axes, and the gradient of their sum, as ``evaluate`` does."""
    arrays, layout, weight, smoothing, reduction = given
    axes, code = given_axes(arrays, reduction, axis, keepdims, dim)
    checked, gradient = as_results(arrays, axes.shape(arrays[LOGITS].shape), out, grad_out)
    operands = arrays, layout, weight, smoothing, code
    # First the losses: the gradient may take the place of the logits.
    loss = reduce(operands, axes, checked)
    differentiate(operands, denominators(operands, axes), gradient)
    return loss if out is None else out, gradient if grad_out is None else grad_out


def as_results(
    arrays: dict[int, np.ndarray], shape: tuple[int, ...], out: Any, grad_out: Any
) -> tuple[np.ndarray | None, np.ndarray]:
    """Return checked memory for losses of a shape, if it is given, and for the gradient."""
    checked = None
    if out is not None:
        checked = arguments.as_out(out, arrays, shape=shape)
        arrays = arrays | {RESULT: checked}
    if grad_out is None:
        return checked, evaluation.result_like(arrays[LOGITS])
    return checked, arguments.as_out(grad_out, arrays, "grad_out")


def given_axes(
    arrays: dict[int, np.ndarray], reduction: int | None, axis: Any, keepdims: Any, dim: Any = None
) -> tuple[Axes, int]:
    """Return checked axes, and the reduction, which must not be ``Reduction.NONE``."""
    if dim is not None:
        raise TypeError(
            f"Argument `dim` is {shown(dim)}, but only the axes of a DataArray of xarray have "
            "names. Pass numbers as `axis`."
        )
    axes = as_axes(axis, keepdims, arrays[LOGITS].ndim)
    if reduction is None:
        raise ValueError(
            "Arguments `axis` and `keepdims` need a reduction, got `Reduction.NONE`, which leaves "
            "every element. Choose another one, such as `Reduction.MEAN`."
        )
    return axes, reduction


def reduce(given: Operands, axes: Axes, out: np.ndarray | None = None) -> Any:
    """Return the loss of each result, in ``out`` if given."""
    arrays, _, weight, smoothing, reduction = given
    assert reduction is not None
    logits = arrays[LOGITS]
    shape = axes.shape(logits.shape)
    if len(axes.reduced) == logits.ndim:
        # All elements: what is returned without axes.
        value = evaluation.evaluate(given)
        if out is not None:
            out[...] = value
        elif shape:
            out = np.full(shape, value)
        return value if out is None else out
    if out is None:
        dtype = logits.dtype
        out = np.empty(shape, dtype if dtype.isnative else dtype.newbyteorder("="))
    if logits.size == 0:
        out[...] = 0
    else:
        _run(arrays | {RESULT: out}, axes, weight, smoothing, reduction, QUOTIENT)
    return out


def sums(
    given: Operands, axes: Axes, memory: np.ndarray | None = None, wanted: int = PARTS
) -> np.ndarray:
    """Return the sum of the weighted losses of each result, what that lost, and the divisor.

    Those of them that are wanted are written to ``memory`` if that is given.
    """
    arrays, _, weight, smoothing, reduction = given
    assert reduction is not None
    logits = arrays[LOGITS]
    count = math.prod(axes.shape(logits.shape))
    if memory is None or memory.size < wanted * count:
        memory = np.empty(wanted * count)
    parts = memory[: wanted * count].reshape(wanted, count)
    if logits.size > 0:
        _run(arrays | {RESULT: parts}, axes, weight, smoothing, reduction, wanted)
    else:
        parts[:2] = 0
        parts[2:] = reduction == SUM
    return parts


def known_denominator(given: Operands, axes: Axes) -> float | None:
    """Return what all results are divided by, where their number of elements decides it."""
    arrays, _, weight, _, reduction = given
    assert reduction is not None
    if not is_known(reduction, WEIGHTS in arrays, WHERE in arrays):
        return None
    count = float(math.prod(arrays[LOGITS].shape[axis] for axis in axes.reduced))
    return float(divisor(reduction, weight, count, count, count))


def denominators(given: Operands, axes: Axes) -> np.ndarray:
    """Return what each result is divided by, which weights and ``where`` alone decide.

    It has as many axes as the logits, all of length 1 where it is one number for all results.
    """
    arrays, _, weight, _, reduction = given
    assert reduction is not None
    logits = arrays[LOGITS]
    known = known_denominator(given, axes)
    if known is not None:
        return np.full((1,) * logits.ndim, known)
    counted = {row: arrays[row] for row in (WEIGHTS, WHERE) if row in arrays}
    counted = {LOGITS: np.broadcast_to(np.float32(1.0), logits.shape), **counted}
    parts = sums((counted, None, weight, 0.0, reduction), axes)
    by: np.ndarray = parts[2].reshape(axes.shape(logits.shape, keepdims=True))
    return by


def differentiate(given: Operands, by: np.ndarray, gradient: np.ndarray) -> None:
    """Write the gradient of the sum of the results, given what they are divided by.

    Each element has a weight over the denominator of its result.  Of those as many are made at a
    time as fit the caches.
    """
    arrays, _, weight, smoothing, _ = given
    if gradient.size == 0:
        return
    if by.size == 1:
        _differentiate(arrays | {GRADIENT: gradient}, weight, smoothing, float(by.item()))
        return
    # A denominator of 0 gives 0, whatever the elements are.
    counts = by != 0
    with np.errstate(over="ignore"):
        factors = np.divide(weight, by, out=np.zeros_like(by), where=counts)
    weights = arrays.get(WEIGHTS, np.ones((1,) * gradient.ndim))
    arrays = {row: np.broadcast_to(a, gradient.shape) for row, a in arrays.items()}
    spread = np.broadcast_shapes(weights.shape, by.shape)
    for part in parts_of(spread, gradient.shape, _AT_A_TIME):
        with np.errstate(invalid="ignore", over="ignore"):
            own = np.multiply(cut(weights, part), cut(factors, part), dtype=np.float64)
        chosen = {row: array[part] for row, array in arrays.items()}
        if not counts.all():
            kept = cut(counts, part) & chosen.get(WHERE, np.True_)
            chosen[WHERE] = np.broadcast_to(kept, chosen[LOGITS].shape)
        chosen[WEIGHTS] = _as_computed(own, gradient.dtype)
        chosen[GRADIENT] = gradient[part]
        _differentiate(chosen, 1.0, smoothing, 1.0)


def _differentiate(
    arrays: dict[int, np.ndarray], weight: float, smoothing: float, by: float
) -> None:
    evaluation.differentiate_sum(arrays, layout_of(arrays), weight, smoothing, by, 0)


# Elements of weights that are made at a time.
_AT_A_TIME = 1 << 16


def parts_of(
    spread: tuple[int, ...], shape: tuple[int, ...], most: int
) -> Iterator[tuple[slice, ...]]:
    """Cut arrays of a shape so that those of the shape ``spread`` beside them stay small."""
    if not spread:
        yield ()
        return
    axis = max(range(len(spread)), key=lambda axis: spread[axis])
    step = max(most * spread[axis] // math.prod(spread), 1)
    whole = [slice(None)] * len(shape)
    for start in range(0, shape[axis], step):
        yield (*whole[:axis], slice(start, start + step), *whole[axis + 1 :])


def cut(array: np.ndarray, part: tuple[slice, ...]) -> np.ndarray:
    """Return what belongs to a part of the logits: all along axes that are broadcast."""
    own = zip(array.shape, part[len(part) - array.ndim :], strict=True)
    # With an ellipsis what is left without axes is an array still.
    chosen: Any = (..., *[slice(None) if length == 1 else cut for length, cut in own])
    found: np.ndarray = array[chosen]
    return found


def _as_computed(weights: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Return weights in the dtype that is computed in, unless they are out of its range."""
    if computed_in(dtype) == np.float64:
        return weights
    sizes = np.abs(weights[weights != 0])
    inside = (sizes >= SMALLEST) & (sizes <= GREATEST)
    return weights.astype(np.float32) if inside.all() else weights
