"""The gradient beside the value, in one pass: blocks of logits and labels in, derivatives out.

The exponential of an element serves its loss and its derivatives.  What the gradient is multiplied
by, weight over denominator, is known before the pass (``denominator``).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import prange
from numba.extending import register_jitable

from .block import (
    BLOCK,
    SHORT,
    STEP_BYTES,
    TINY,
    Operands,
    Pair,
    add_step,
    add_weighted_step,
    described,
    described_pair,
    in_own_dtype,
    in_precision,
    is_wide,
    merge_step,
    not_excluded,
    number,
    read_pair,
    read_step,
    scratch_for_tails,
    step_of,
    steps_of,
    sum_lanes,
    sum_merged,
    total_exact,
)
from .elements import gradient, hessian, linear_part, loss
from .environment import enter_default, leave_default
from .lanes import (
    before,
    block_function,
    branch,
    constant,
    loop,
    rounded,
    select,
    spread,
    to_float64,
)
from .loss import (
    DONE,
    GRADIENT,
    LABELS,
    LOGITS,
    POS_WEIGHT,
    RESULT,
    STREAMED,
    SUMS,
    WEIGHTS,
    WHERE,
    add_row,
    plan,
    reduced,
    tile_of,
)
from .operand import FLOAT32, FLOAT64, ONE, address_of, at, load, store
from .scratch import thread, threads, zeros
from .short_rows import BESIDE, read_across
from .softplus import OPTIONS, exp_minus_abs_and_rest, sigmoid_from_exp
from .staging import ADDRESS, address_in_place, copy_past_caches, read, write
from .streaming import LINE, fence

# Lines are copied this many steps after they were written, which must be at least two.
LAG = 3
# What goes with the gradient: a sum of losses, the losses, or the hessian.
TOTAL, LOSSES, HESSIAN = 0, 1, 2


class _Target(NamedTuple):
    """Where the results of a block go.

    A step that is not whole goes to scratch memory, and so do all where ``at`` is ``scratch``.
    Where ``lines`` is not 0, whole lines of the caches are copied from there, beginning at
    ``ready``, past the caches to ``lines``: ``LAG`` steps behind, so that memory and arithmetic are
    busy at the same time.
    """

    at: Any
    scratch: Any
    ready: Any
    lines: Any


def _put(dtype: Any, k: Any, size: Any, values: Any, target: _Target) -> None:
    """Write the results of step k."""
    width, code = step_of(dtype), FLOAT32 if dtype is np.float32 else FLOAT64
    last = size - k * width < width
    store(values, select(last, target.scratch, target.at) + k * STEP_BYTES)

    def copy():
        behind = (k - LAG) * STEP_BYTES
        lanes = load(dtype, target.ready + behind, code, width)
        store(lanes, target.lines + behind, past_caches=True)
        return ()

    branch((target.lines != 0) & (k >= LAG), copy, lambda: ())


@block_function(results=2)
def _differentiate_merged(dtype, size, scale, *rest):
    """Write gradients times ``scale``; return the sum of the losses and what it lost.

    All weights are 1 and nothing is excluded.
    """
    width, target, given = step_of(dtype), _Target(*rest[:4]), Pair(*rest[4:])
    zero = constant(size, 0.0, np.float64)

    def step(k, u, total, lost):
        left = size - k * width
        x, element_in = read_pair(dtype, k, size, given, ahead=True)
        t, d = exp_minus_abs_and_rest(dtype, x)
        s = sigmoid_from_exp(t, d)

        def compute(own):
            element = element_in(own)
            slopes = gradient(element, s) * spread(scale, own, width)
            return rounded(slopes, dtype), to_float64(linear_part(element))

        slopes, linear = in_precision(dtype, given.z_code == FLOAT64, compute)
        _put(dtype, k, size, slopes, target)
        (kept,) = branch(left < width, lambda: (select(before(left, width), t, 0.0),), lambda: (t,))
        total, lost = add_step(dtype, total, lost, linear)
        return merge_step(dtype, u, kept), total, lost

    return sum_merged(*loop(steps_of(dtype, size), (zero, zero, zero), step))


@block_function(results=2)
def _differentiate(dtype, size, second, scale, *rest):
    """Write gradients times ``scale``; return the sum of the losses and what it lost.

    Instead of the sum, losses or hessians may be written, times ``scale`` as well.
    """
    width = step_of(dtype)
    target, other, given = _Target(*rest[:4]), _Target(*rest[4:8]), Operands(*rest[8:])
    zero = constant(size, 0.0, np.float64)

    def step(k, total, lost):
        def compute(own):
            x, element, w, included = read_step(dtype, own, k, size, given)
            t, d = exp_minus_abs_and_rest(dtype, x)
            s = sigmoid_from_exp(t, d)
            factors = w * spread(scale, own, width)
            # Once more, as the scale may be infinite or NaN.
            (slopes,) = included(gradient(element, s) * factors)
            _put(dtype, k, size, rounded(slopes, dtype), target)
            (values,) = branch(
                second == HESSIAN, lambda: (hessian(element, s),), lambda: (loss(element, t),)
            )

            def put_values():
                (weighted,) = included(values * factors)
                _put(dtype, k, size, rounded(weighted, dtype), other)
                return total, lost

            return branch(
                second == TOTAL,
                lambda: add_weighted_step(dtype, total, lost, values, w),
                put_values,
            )

        return in_precision(dtype, given.wide != 0, compute)

    return sum_lanes(*loop(steps_of(dtype, size), (zero, zero), step))


@register_jitable(**OPTIONS)
def _target(values, place, past_caches):
    """Return the ``_Target`` of a block, with scratch memory in ``values``."""
    scratch, head = address_of(values), -place % LINE
    if place == 0:
        return scratch, scratch, scratch, 0
    if past_caches:
        return scratch, scratch, scratch + head, place + head
    return place, scratch, scratch, 0


@register_jitable(**OPTIONS)
def _deliver(shape, operand, start, values, place, raw, past_caches):
    """Write what has not been written to its place yet."""
    if place == 0:
        write(shape, operand, start, values, raw, past_caches)
        return
    step = STEP_BYTES // values.itemsize
    result = at(place, values.size, values.dtype)
    if not past_caches:
        for i in range(values.size - values.size % step, values.size):
            result[i] = values[i]
        return
    copied = max((values.size + step - 1) // step - LAG, 0) * step
    head = -place % LINE // values.itemsize if copied > 0 else 0
    for i in range(head):
        result[i] = values[i]
    copy_past_caches(values[head + copied :], result[head + copied :])


@register_jitable(**OPTIONS)
def _place_of(shape, operands, row, code, start, size):
    """Return the address of results that can be written while operands are read, else 0."""
    own = operands[row, ADDRESS]
    if own == 0:
        return 0
    # Operands that are overwritten may have to be read once more.
    for other in range(RESULT):
        if operands[other, ADDRESS] == own:
            return 0
    return address_in_place(shape, operands[row], code, start, size)


def differentiate(
    like, shape, operands, rows, columns, by_element, weight, scale, smoothing, second, total_code
):
    """Write gradients times ``scale``, and return the sum of the losses times ``weight``.

    ``total_code`` is ``SUM``, or less the address of a float64 for what rounding that sum lost.

    The operands may be of any dtype and layout; what is computed is in the dtype of ``like``.
    """
    code = FLOAT32 if like.itemsize == 4 else FLOAT64
    step = STEP_BYTES // like.itemsize
    past_caches = rows * columns * like.itemsize >= STREAMED
    in_row, tiles, groups = plan(rows, columns)
    partials = zeros(groups, SUMS)
    memory = np.empty((threads(), 7, BLOCK + BESIDE), np.uint64)
    memory_for_results = np.empty((threads(), 2, BLOCK), like.dtype)
    memory_for_tails = scratch_for_tails(threads())
    for index in prange(groups):
        group = np.int64(index)
        before, smooth, factor = enter_default((smoothing, scale))
        a, b = 1.0 - smooth, 0.5 * smooth
        raw, results = memory[thread()], memory_for_results[thread()]
        tails = memory_for_tails[thread()]
        for tile in range(tiles * group // groups, tiles * (group + 1) // groups):
            row, column, size = tile_of(tile, in_row, columns)
            start = row * columns + column
            x = read(shape, operands[LOGITS], start, size, raw[0])
            z = read(shape, operands[LABELS], start, size, raw[1])
            w = q = keep = 0, ONE, 0
            own = 1.0
            if by_element:
                w = read_across(shape, operands[WEIGHTS], start, size, raw[2])
                w = in_own_dtype(like, w, size, raw[5], tails)
                q = read_across(shape, operands[POS_WEIGHT], start, size, raw[3])
                q = in_own_dtype(like, q, size, raw[6], tails)
                keep = read(shape, operands[WHERE], start, size, raw[4])
                q = not_excluded(q, keep, size, raw[6])
            elif operands[WEIGHTS, ADDRESS] != 0:
                own = number(read(shape, operands[WEIGHTS], start, 1, raw[2]))
            place = _place_of(shape, operands, GRADIENT, code, start, size)
            other_place = _place_of(shape, operands, RESULT, code, start, size)
            values, others = results[0, :size], results[1, :size]
            target = _target(values, place, past_caches)
            wide = is_wide(like, z, w, q, factor * own)
            merged = second == TOTAL and not by_element
            if merged and not is_wide(like, w, w, w, factor * own):
                pair = described_pair(x, z, size, step, a, b, tails)
                total, lost = _differentiate_merged(like, (size, factor * own) + target + pair)  # noqa: RUF005
            else:
                other = _target(others, other_place, past_caches)
                given = described(x, z, w, q, keep, size, step, 1.0, wide, a, b, tails)
                mode = size, second, factor * own
                total, lost = _differentiate(like, mode + target + other + given)
            total, lost = own * total, own * lost
            if second == TOTAL and not (size >= SHORT and TINY < abs(total) < np.inf):
                found = total_exact(like, x, z, w, q, keep, size, own, 0, a, b, tails)
                total, lost = found[0], found[1]
            add_row(partials[group], total, lost, own, size)
            # Only now, as the gradient may take the place of the logits.
            _deliver(shape, operands[GRADIENT], start, values, place, raw[0], past_caches)
            if second != TOTAL:
                _deliver(shape, operands[RESULT], start, others, other_place, raw[0], past_caches)
        if past_caches:
            fence()
        partials[group, DONE] = leave_default(before, 1.0)
    return reduced(partials, weight, total_code)
