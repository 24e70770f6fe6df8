"""The loss of each group: which group an element belongs to, and the sums of groups."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from . import arguments, axes, evaluation
from .array_libraries import readable
from .axes import Axes, as_results, cut, known_denominator, parts_of, sums
from .exact_sums import ExactSums
from .kernels.axis_sums import PARTS
from .kernels.axis_view import SHORTEST
from .kernels.divisor import SUM
from .kernels.group_sums import GROUP_FIELDS
from .kernels.view import LOGITS
from .layout import computed_in
from .messages import shown
from .operands import Operands, add_weights, checked, known, recognised
from .reduction import Reduction
from .sums_along import SumsAlong

# Rows, or elements, whose sums are held at a time; and numbers that are held of short rows: fewer
# parts take less time.
AT_A_TIME, HELD = 1 << 14, 7 << 15
# Groups that need not be told of by `num_groups`: so many in any case, or for each number given.
# Where more are empty, the numbers are no codes but, say, those of customers.
UNTOLD, UNTOLD_EACH = 1 << 20, 16


def are_given(groups: Any, num_groups: Any, by_axis: bool) -> bool:
    """Tell whether there are groups; refuse a number without any, and groups beside an axis."""
    if groups is None and num_groups is None:
        return False
    if by_axis:
        raise ValueError("Argument `groups` can't be given together with `axis` or `keepdims`.")
    if groups is None:
        raise ValueError("Argument `num_groups` needs `groups`, got None.")
    return True


def evaluate(given: Operands, groups: Any, num_groups: Any, out: Any = None) -> Any:
    """Return the loss of each group; all arguments are checked first."""
    codes, number = _checked(given, groups, num_groups)
    target = None if out is None else arguments.as_out(out, given[0], shape=(number,))
    loss, _ = _losses(given, codes, number, target)
    return loss if out is None else out


def evaluate_and_differentiate(
    given: Operands, groups: Any, num_groups: Any, out: Any, grad_out: Any
) -> tuple[Any, np.ndarray]:
    """Return the loss of each group, and the gradient of their sum, as ``evaluate`` does."""
    codes, number = _checked(given, groups, num_groups)
    target, gradient = as_results(given[0], (number,), out, grad_out)
    # First the losses: the gradient may take the place of the logits.
    loss, by = _losses(given, codes, number, target)
    differentiate(given, codes, by, gradient)
    return loss if out is None else out, gradient if grad_out is None else grad_out


def _checked(given: Operands, groups: Any, num_groups: Any) -> tuple[np.ndarray, int]:
    arrays, *_, code = given
    if code is None:
        raise ValueError(
            "Argument `groups` needs a reduction, got `Reduction.NONE`, which leaves every "
            "element. Choose another one, such as `Reduction.MEAN`."
        )
    return as_codes(groups, num_groups, arrays[LOGITS].shape)


def _losses(
    given: Operands, codes: np.ndarray, number: int, out: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the loss of each group, in ``out`` if given, and what it is divided by."""
    arrays, *_, code = given
    numerator, by = map(_added_up, _totals(given, codes, number))
    if code == SUM:
        by[...] = 1
    # In the memory of the sums, of which there may be many.
    counts = by != 0
    with np.errstate(all="ignore"):
        np.divide(numerator, by, out=numerator, where=counts)
        np.copyto(numerator, 0, where=~counts)
        if out is None:
            dtype = arrays[LOGITS].dtype
            return numerator.astype(dtype if dtype.isnative else dtype.newbyteorder("=")), by
        out[...] = numerator.astype(out.dtype)
    return out, by


def _added_up(parts: np.ndarray) -> np.ndarray:
    """Return sums with what they lost, in their memory."""
    total: np.ndarray = parts[0]
    for lost in parts[1:]:
        total += lost
    return total


def differentiate(given: Operands, codes: np.ndarray, by: np.ndarray, gradient: np.ndarray) -> None:
    """Write the gradient of the sum of the losses of all groups, given what they are divided by."""
    arrays, _, weight, smoothing, code = given
    if gradient.size == 0:
        return
    for part in parts_of(codes.shape, gradient.shape, AT_A_TIME):
        chosen = {row: cut(array, part) for row, array in arrays.items()}
        own = chosen, None, weight, smoothing, code
        axes.differentiate(own, by[cut(codes, part)], cut(gradient, part))


def sums_of_groups(
    num_groups: int | None,
    labels: ArrayLike,
    logits: ArrayLike,
    weights: ArrayLike = 1.0,
    label_smoothing: float = 0,
    reduction: Reduction | str = Reduction.SUM_BY_NONZERO_WEIGHTS,
    *,
    groups: Any,
    pos_weight: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> SumsAlong:
    """Return the sums of the groups in a part of the data, as ``sums_along`` does of results."""
    options = label_smoothing, reduction, pos_weight, where
    given = recognised(labels, logits, weights, *options)
    if given is None:
        given = checked(labels, logits, weights, *options, "labels")
    return _sums(given, groups, num_groups)


def sums_of_grouped_losses(
    num_groups: int | None,
    losses: ArrayLike,
    weights: ArrayLike = 1.0,
    reduction: Reduction | str = Reduction.SUM_BY_NONZERO_WEIGHTS,
    *,
    groups: Any,
) -> SumsAlong:
    """Return what ``sums_of_groups`` does, for losses that are already computed."""
    arrays = {LOGITS: arguments.as_floats(losses, "losses")}
    code, weight = add_weights(arrays, weights, reduction)
    return _sums((arrays, known(arrays), weight, 0.0, code), groups, num_groups)


def _sums(given: Operands, groups: Any, num_groups: int | None) -> SumsAlong:
    codes, number = as_codes(groups, num_groups, given[0][LOGITS].shape)
    result = SumsAlong()
    result.shape = (number,)
    result.numerator, result.denominator = ExactSums(number), ExactSums(number)
    own = result.numerator, result.denominator
    for total, parts in zip(own, _totals(given, codes, number), strict=True):
        for part in parts:
            total.add(part)
    return result


def as_number(num_groups: Any) -> int:
    """Return how many groups there are."""
    said = "Argument `num_groups` must be an integer of at least 0, got"
    try:
        number = operator.index(num_groups)
    except TypeError:
        raise TypeError(f"{said} {shown(num_groups)}.") from None
    if number < 0:
        raise ValueError(f"{said} {number}.")
    return number


def as_codes(groups: Any, num_groups: Any, shape: tuple[int, ...]) -> tuple[np.ndarray, int]:
    """Return codes with as many axes as the logits, of length 1 where they are alike, and how many.

    One a row goes along the first axis; others are broadcast by NumPy's rule.
    """
    number = None if num_groups is None else as_number(num_groups)
    categorical = getattr(groups, "cat", groups)
    if hasattr(categorical, "codes") and hasattr(categorical, "categories"):
        groups = categorical.codes
        number = len(categorical.categories) if number is None else number
    codes = arguments.as_array(groups if type(groups) is np.ndarray else readable(groups), "groups")
    if codes.dtype.kind not in "iu":
        raise TypeError(
            f"Argument `groups` must be integer, or categorical, got {codes.dtype.name}. Number "
            "them, for example with `np.unique(groups, return_inverse=True)[1]`."
        )
    codes = _shaped(codes, shape)
    if codes.size:
        least, most = _range_of(codes)
        allowed = "of at least 0"
        if number is not None:
            allowed += f" and less than `num_groups`, {number}"
        is_told = number is not None
        number = most + 1 if number is None else number
        if least < 0 or most >= number:
            wrong = least if least < 0 else most
            mend = "Raise `num_groups`, or exclude these elements with `where` and renumber them."
            if wrong == -1:
                mend = "Where it stands for a missing group, give that a number of its own."
            elif wrong < 0:
                mend = "Exclude these elements with `where`, and renumber them."
            raise ValueError(f"Argument `groups` must hold numbers {allowed}, got {wrong}. {mend}")
        greatest = max(UNTOLD, UNTOLD_EACH * codes.size)
        if not is_told and number > greatest:
            raise ValueError(
                f"Argument `groups` must hold numbers less than {greatest} where `num_groups` is "
                f"not given, got {most}: each number from 0 on would have a loss. Renumber them, "
                "for example with `np.unique(groups, return_inverse=True)[1]`, or give "
                "`num_groups`."
            )
    return codes, number or 0


def _range_of(codes: np.ndarray) -> tuple[int, int]:
    """Return the least and the greatest code, but 0 for the least where none is negative."""
    # As unsigned numbers negative ones are greater than all others.
    most = int(codes.view(codes.dtype.str.replace("i", "u")).max())
    if most <= np.iinfo(codes.dtype).max:
        return 0, most
    return int(codes.min()), int(codes.max())


def _shaped(codes: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if codes.ndim == 1 and shape and codes.shape == shape[:1]:
        return codes.reshape(-1, *[1] * (len(shape) - 1))
    padded = (1,) * (len(shape) - codes.ndim) + codes.shape
    fits = len(padded) == len(shape) and all(
        own in (1, length) for own, length in zip(padded, shape, strict=True)
    )
    if not fits:
        rows = shape[0] if shape else 0
        raise ValueError(
            f"Argument `groups` of shape {codes.shape} can not be broadcast to logits of shape "
            f"{shape}. Give one number a row, an array of shape ({rows},), or one an element."
        )
    return codes.reshape(padded)


def _totals(given: Operands, codes: np.ndarray, number: int) -> np.ndarray:
    """Return numerators and denominators, each with what they lost if that matters."""
    arrays, _, weight, smoothing, code = given
    logits = arrays[LOGITS]
    shape = logits.shape
    dtype: Any = computed_in(logits.dtype).type
    # Side by side in memory is what a group has.
    totals = np.zeros((number, 2, GROUP_FIELDS[dtype] // 2))
    parts: np.ndarray = totals.transpose(1, 2, 0)
    if logits.size == 0:
        return parts
    reduced = tuple(axis for axis, own in enumerate(codes.shape) if own == 1)
    if len(reduced) == len(shape):
        # One group for all elements; the first axis stands for none.
        reduced = reduced[1:]
        codes = np.broadcast_to(codes, shape[:1] + codes.shape[1:])
    along = Axes(reduced, True)
    by = known_denominator(given, along)
    fields = PARTS if by is None else GROUP_FIELDS[dtype] // 2
    # A shorter row is added up as a whole, and its sum the same whatever part it is in.
    is_short = logits.size < 2 * SHORTEST * codes.size and len(reduced) == len(shape) - 1
    # Where codes have to be copied they go with the sums, those of the part before not yet let go.
    copied = 0 if codes.dtype == np.int64 and codes.flags.c_contiguous else 2
    most = HELD // (fields + copied) if is_short else AT_A_TIME
    memory = np.empty(fields * min(most, codes.size))
    for part in parts_of(codes.shape, shape, most):
        chosen = {row: cut(array, part) for row, array in arrays.items()}
        sums_of_rows = sums((chosen, None, weight, smoothing, code), along, memory, fields)
        own = cut(codes, part)
        evaluation.add_rows("groups", sums_of_rows, own, totals, logits.dtype, by or 0.0)
    return parts
