"""The gradient beside the value, in one pass: blocks of logits and labels in, derivatives out.

The exponential of an element serves its loss and its derivatives.  What the gradient is multiplied
by, weight over denominator, is known before the pass (``denominator``).
"""

from __future__ import annotations

import numpy as np
from numba import prange
from numba.extending import register_jitable

from .block import (
    BLOCK,
    SHORT,
    STEP_BYTES,
    TINY,
    Operands,
    add_step,
    add_weighted_step,
    described,
    in_own_dtype,
    merge_step,
    not_excluded,
    number,
    read_step,
    scratch_for_tails,
    step_of,
    steps_of,
    sum_merged,
    total_exact,
)
from .elements import gradient, hessian, linear_part, loss
from .lanes import before, block_function, branch, constant, loop, select, spread
from .loss import (
    GRADIENT,
    LABELS,
    LOGITS,
    LOST,
    NUMERATOR,
    POS_WEIGHT,
    RESULT,
    STREAMED,
    WEIGHTS,
    WHERE,
    add_row,
    add_up,
    plan,
    tile_of,
)
from .operand import FLOAT32, FLOAT64, ONE, address_of, at, load, store
from .softplus import OPTIONS, exp_minus_abs_and_rest, sigmoid_from_exp
from .staging import ADDRESS, address_in_place, copy_past_caches, read, write
from .streaming import LINE, fence

# Lines are copied this many steps after they were written, which must be at least two.
LAG = 3
# What goes with the gradient: a sum of losses, the losses, or the hessian.
TOTAL, LOSSES, HESSIAN = 0, 1, 2


@block_function(results=2)
def _differentiate(dtype, size, merged, second, scale, at, ready, lines, *rest):
    """Write whole steps of gradients and return the sum of the losses and what it lost.

    ``merged`` says that all weights are 1 and that nothing is excluded.  Gradients, and the losses
    or hessians that may go with them, are multiplied by ``scale``.

    Gradients are written to scratch memory ``at``.  Where ``lines`` is not 0, whole lines of the
    caches are copied from there, beginning at ``ready``, past the caches to ``lines``: ``LAG``
    steps behind, so that memory and arithmetic are busy at the same time.  The next three
    arguments say the same of losses or hessians.
    """
    width, given = step_of(dtype), Operands(*rest[3:])
    code = FLOAT32 if dtype is np.float32 else FLOAT64
    scales = spread(scale, dtype, width)
    zero = constant(size, 0.0, np.float64)

    def put(k, values, at, ready, lines):
        store(values, at + k * STEP_BYTES)

        def copy():
            behind = (k - LAG) * STEP_BYTES
            store(load(dtype, ready + behind, code, width), lines + behind, past_caches=True)
            return ()

        branch((lines != 0) & (k >= LAG), copy, lambda: ())

    def step(k, u, total, lost):
        element, w, included = read_step(dtype, dtype, k, size, given)
        t, d = exp_minus_abs_and_rest(dtype, element.x)
        s = sigmoid_from_exp(t, d)
        slope = gradient(element, s)

        def one_logarithm():
            put(k, slope * scales, at, ready, lines)
            left = size - k * width
            (kept,) = branch(
                left < width, lambda: (select(before(left, width), t, 0.0),), lambda: (t,)
            )
            return merge_step(dtype, u, kept), *add_step(dtype, total, lost, linear_part(element))

        def elements():
            factors = w * scales
            # Once more, as the scale may be infinite or NaN.
            (slopes,) = included(slope * factors)
            put(k, slopes, at, ready, lines)

            (values,) = branch(
                second == HESSIAN, lambda: (hessian(element, s),), lambda: (loss(element, t),)
            )

            def sum_up():
                return add_weighted_step(dtype, total, lost, values, w)

            def put_values():
                (weighted,) = included(values * factors)
                put(k, weighted, *rest[:3])
                return total, lost

            return u, *branch(second == TOTAL, sum_up, put_values)

        return branch(merged != 0, one_logarithm, elements)

    return sum_merged(*loop(steps_of(dtype, size), (zero, zero, zero), step))


@register_jitable(**OPTIONS)
def _places(values, place):
    """Return where ``_differentiate`` writes: scratch, where its lines begin, and the lines."""
    scratch, head = address_of(values), -place % LINE
    return (scratch, scratch + head, place + head) if place != 0 else (scratch, scratch, 0)


@register_jitable(**OPTIONS)
def _deliver(shape, operand, start, values, place, raw, past_caches):
    """Write what ``_differentiate`` has not yet copied to its place."""
    if place == 0:
        write(shape, operand, start, values, raw, past_caches)
        return
    step = STEP_BYTES // values.itemsize
    copied = max((values.size + step - 1) // step - LAG, 0) * step
    head = -place % LINE // values.itemsize if copied > 0 else 0
    result = at(place, values.size, values.dtype)
    for i in range(head):
        result[i] = values[i]
    copy_past_caches(values[head + copied :], result[head + copied :])


@register_jitable(**OPTIONS)
def _place_past_caches(shape, operands, row, code, start, size):
    """Return the address of results that are to be written past the caches, else 0."""
    own = operands[row, ADDRESS]
    if own == 0:
        return 0
    # Operands that are overwritten may have to be read once more.
    for other in range(RESULT):
        if operands[other, ADDRESS] == own:
            return 0
    return address_in_place(shape, operands[row], code, start, size)


def differentiate(
    like, shape, operands, rows, columns, by_element, weight, scale, smoothing, second
):
    """Write gradients times ``scale``, and return the sum of the losses times ``weight``.

    The operands may be of any dtype and layout; what is computed is in the dtype of ``like``.
    """
    a, b = 1.0 - smoothing, 0.5 * smoothing
    code = FLOAT32 if like.itemsize == 4 else FLOAT64
    step = STEP_BYTES // like.itemsize
    past_caches = rows * columns * like.itemsize >= STREAMED
    in_row, tiles, groups = plan(rows, columns)
    partials = np.zeros((groups, 5))
    for index in prange(groups):
        group = np.int64(index)
        raw = np.empty((7, BLOCK), np.uint64)
        results = np.empty((2, BLOCK), like.dtype)
        tails = scratch_for_tails()
        for tile in range(tiles * group // groups, tiles * (group + 1) // groups):
            row, column, size = tile_of(tile, in_row, columns)
            start = row * columns + column
            x = read(shape, operands[LOGITS], start, size, raw[0])
            z = read(shape, operands[LABELS], start, size, raw[1])
            w = q = keep = 0, ONE, 0
            own = 1.0
            if by_element:
                w = read(shape, operands[WEIGHTS], start, size, raw[2])
                w = in_own_dtype(like, w, size, raw[5], tails)
                q = read(shape, operands[POS_WEIGHT], start, size, raw[3])
                q = in_own_dtype(like, q, size, raw[6], tails)
                keep = read(shape, operands[WHERE], start, size, raw[4])
                q = not_excluded(like, q, keep, size, raw[6])
            elif operands[WEIGHTS, ADDRESS] != 0:
                own = number(read(shape, operands[WEIGHTS], start, 1, raw[2]))
            merged = np.int64(second == TOTAL and not by_element)
            place = other_place = 0
            if past_caches:
                place = _place_past_caches(shape, operands, GRADIENT, code, start, size)
                other_place = _place_past_caches(shape, operands, RESULT, code, start, size)
            values, others = results[0, :size], results[1, :size]
            places = _places(values, place) + _places(others, other_place)
            given = described(x, z, w, q, keep, size, step, 1.0, a, b, tails)
            mode = size, merged, second, scale * own
            total, lost = _differentiate(like, mode + places + given)
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
    sums = add_up(partials)
    return weight * (sums[NUMERATOR] + sums[LOST])
