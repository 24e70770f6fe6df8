"""The loss over one block: a run of elements, contiguous in memory, each operand in its own dtype.

With ``x`` logits, ``z`` labels, ``w`` weights and smoothed labels ``z' = a z + b``, where
``a = 1 - s`` and ``b = s / 2`` for label smoothing ``s``, the loss of an element is::

    max(x, 0) - x z' + log1p(exp(-|x|))
        = a (max(x, 0) - x z) + b |x| + log1p(exp(-|x|))

The second form is the one computed: no term of it cancels another for labels in [0, 1].  Where
``|x|`` is infinite the first one is taken literally, so that NaN appears where it is due.

Sums run in float64, what their rounding loses in float64 kernels beside them.  Where the weight
is constant over the block, logarithms are merged: ``sum log1p(t_i) = log1p(u)`` with
``u = prod(1 + t_i) - 1``, which is kept relatively exact, however small the ``t_i``, by
``u <- u t + (u + t)``: four by four in the dtype of the logits, then in float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.extending import register_jitable

from .lanes import (
    LANES,
    absolute,
    before,
    block_function,
    constant,
    fma,
    loop,
    only,
    select,
    split,
    spread,
    to_dtype,
    to_float64,
)
from .operand import ONE, address_of, load, store, tail
from .softplus import OPTIONS, exp_minus_abs, exp_minus_abs_normal, log1p, log1p_wide

# Elements in a block.  Part of the definition of every sum: the blocks, and the order in which
# they are added, depend on the shapes alone, never on the number of threads.  A product of
# (BLOCK / LANES) factors of at most 2 is far from the greatest float64.
BLOCK = 4096
# Elements read at a time, enough to keep the processor from waiting for results.
STEP = 4 * LANES
SHIFT = STEP.bit_length() - 1
# A shorter block is computed in float64 throughout, because its errors don't average out.
SHORT = 256
# In a smaller sum the exponentials that exp_minus_abs_normal keeps from underflowing would show.
TINY = 1e-26
# Bytes of scratch memory a tail needs, and how many tails there are in a block.
TAIL, TAILS = STEP * 8, 4


def _two_sum(a: Any, b: Any) -> tuple[Any, Any]:
    """Return a + b rounded, and exactly what the rounding lost (Knuth)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _add(total: Any, lost: Any, dtype: Any, value: Any) -> tuple[Any, Any]:
    """Add to a float64 sum; the bits that float32 values lose in it don't matter."""
    if dtype is np.float32:
        return total + to_float64(value), lost
    total, rounding = _two_sum(total, value)
    return total, lost + rounding


def _sum_lanes(total: Any, lost: Any) -> tuple[Any, Any]:
    """Add up all lanes, halves first; what was lost is 0 where the sum is not finite."""
    for _ in range(LANES.bit_length() - 1):
        total, rounding = _two_sum(*split(total, 2))
        one, two = split(lost, 2)
        lost = (one + two) + rounding
    total, lost = only(total), only(lost)
    return total, select(absolute(total) < np.inf, lost, 0.0)


def _merge(u: Any, t: Any) -> Any:
    """Return (1 + u) (1 + t) - 1."""
    return fma(u, t, u + t)


@block_function(results=2)
def _total_merged(dtype, size, x, x_code, x_size, z, z_code, z_size, tails, smooth_a, smooth_b):
    """Return the sum of the losses and what it lost, from full-sized exponentials."""
    a, b = spread(smooth_a, dtype, STEP), spread(smooth_b, dtype, STEP)
    zero = constant(size, 0.0, np.float64)
    whole = size >> SHIFT

    def step(k, u, total, lost):
        last = k == whole
        at_x = select(last, tails, x + k * (STEP * x_size))
        at_z = select(last, tails + TAIL, z + k * (STEP * z_size))
        xs = load(dtype, at_x, x_code, STEP, floats_only=True)
        zs = load(dtype, at_z, z_code, STEP)
        linear = fma(-xs, zs, select(xs > 0.0, xs, 0.0))
        for part in split(fma(a, linear, b * absolute(xs)), 4):
            total, lost = _add(total, lost, dtype, part)
        t = exp_minus_abs_normal(dtype, xs)
        t = select(before(size - k * STEP, STEP), t, 0.0)
        four = _merge(*split(_merge(*split(t, 2)), 2))
        return _merge(u, to_float64(four)), total, lost

    u, total, lost = loop((size + (STEP - 1)) >> SHIFT, (zero, zero, zero), step)
    return _sum_lanes(*_add(total, lost, np.float64, log1p_wide(u)))


def _losses(dtype: Any, x: Any, z: Any, a: Any, b: Any) -> Any:
    """Return the loss of every element."""
    positive = select(x > 0.0, x, 0.0)
    size = absolute(x)
    linear = fma(a, fma(-x, z, positive), b * size)
    literal = fma(-x, fma(a, z, b), positive)
    linear = select(size == np.inf, literal, linear)
    return linear + log1p(dtype, exp_minus_abs(dtype, x))


def _read(
    own, dtype, k, size, x, x_code, x_size, z, z_code, z_size, w, w_code, w_size,
    keep, keep_code, tails, labelled, smooth_a, smooth_b, scale,
):  # fmt: skip
    """Return value, weight and inclusion of STEP elements from k STEP on; 0 beyond the last.

    Operands are converted to the dtype ``own`` of the logits, and what follows is computed in
    ``dtype``, which may be wider.
    """
    left = size - k * STEP
    last = left < STEP

    def read(number, address, code, itemsize, **options):
        place = select(last, tails + number * TAIL, address + k * (STEP * itemsize))
        return to_dtype(load(own, place, code, STEP, **options), dtype)

    def everywhere(number):
        return spread(number, dtype, STEP)

    logits = read(0, x, x_code, x_size, floats_only=True)
    labels = read(1, z, z_code, z_size)
    weights = read(2, w, w_code, w_size)
    included = read(3, keep, keep_code, 1, flags_only=True)
    included = select(before(left, STEP), included, 0.0)
    kept = included != 0.0
    logits, labels = select(kept, logits, 0.0), select(kept, labels, 0.0)
    weights = select(kept, weights * everywhere(scale), 0.0)
    losses = _losses(dtype, logits, labels, everywhere(smooth_a), everywhere(smooth_b))
    # Losses that are given stand in the place of the logits.
    return select(everywhere(labelled) != 0.0, losses, logits), weights, included


def _sums(own, dtype, size, operands):
    """Return sum w value, sum w, each with what it lost, and the numbers of w != 0 and of all."""
    zero = constant(size, 0.0, np.float64)
    one = constant(size, 1.0, np.float64)

    def step(k, total, lost, weight, weight_lost, present, included):
        parts = (split(lanes, 4) for lanes in _read(own, dtype, k, size, *operands))
        for value, w, kept in zip(*parts, strict=True):
            weight, weight_lost = _add(weight, weight_lost, dtype, w)
            present = present + select(to_float64(w) != 0.0, one, zero)
            included = included + to_float64(kept)
            if dtype is np.float32:
                total = fma(to_float64(w), to_float64(value), total)
            else:
                product = w * value
                total, lost = _add(total, lost + fma(w, value, -product), dtype, product)
        return total, lost, weight, weight_lost, present, included

    sums = loop((size + (STEP - 1)) >> SHIFT, (zero,) * 6, step)
    numbers = [_sum_lanes(value, zero)[0] for value in sums[4:]]
    return *_sum_lanes(*sums[:2]), *_sum_lanes(*sums[2:4]), *numbers


@block_function(results=6)
def _total_weighted(dtype, size, *operands):
    """Return the sums, computed in the dtype of the logits."""
    return _sums(dtype, dtype, size, operands)


@block_function(results=6)
def _total_exact(dtype, size, *operands):
    """Return the sums, computed in float64."""
    return _sums(dtype, np.float64, size, operands)


@block_function(results=0)
def _write_weighted(dtype, size, out, *operands):
    """Write w value of every element to contiguous memory with room for whole steps."""
    itemsize = np.dtype(dtype).itemsize

    def step(k):
        values, w, _ = _read(dtype, dtype, k, size, *operands)
        store(values * w, out + k * (STEP * itemsize))
        return ()

    loop((size + (STEP - 1)) >> SHIFT, (), step)


@block_function(results=1)
def _number(dtype, address, code):
    return (to_float64(only(load(dtype, address, code, 1))),)


@register_jitable(**OPTIONS)
def number(operand):
    """Return the first element of an operand."""
    return _number(np.empty(0), (operand[0], operand[1]))[0]


@register_jitable(**OPTIONS)
def scratch_for_tails():
    """Return memory for the tails of the operands of a block."""
    return np.empty(TAILS * TAIL // 8, np.float64)


@register_jitable(**OPTIONS)
def _described(x, z, w, keep, size, scale, a, b, tails):
    """Copy the tails of the operands and return the arguments that describe them all.

    ``x``, ``z``, ``w`` and ``keep`` are triples of address, dtype code and bytes an element; a
    missing one has the code ``ONE``.  Without labels the values of ``x`` are the losses.
    """
    memory = address_of(tails)
    tail(x, size, STEP, memory)
    tail(z, size, STEP, memory + TAIL)
    tail(w, size, STEP, memory + 2 * TAIL)
    tail(keep, size, STEP, memory + 3 * TAIL)
    labelled = 0.0 if z[1] == ONE else 1.0
    return x + z + w + (keep[0], keep[1], memory, labelled, a, b, scale)


@register_jitable(**OPTIONS)
def write_block(like, x, z, w, keep, size, scale, a, b, tails, out):
    """Write w value of every element to ``out``, with room for whole steps."""
    operands = _described(x, z, w, keep, size, scale, a, b, tails)
    _write_weighted(like, (size, address_of(out)) + operands)  # noqa: RUF005


@register_jitable(**OPTIONS)
def total_loss(like, x, z, size, weight, a, b, tails):
    """Return sum weight loss, and what it lost."""
    if abs(weight) < np.inf and size >= SHORT:
        memory = address_of(tails)
        tail(x, size, STEP, memory)
        tail(z, size, STEP, memory + TAIL)
        total, lost = _total_merged(like, (size,) + x + z + (memory, a, b))  # noqa: RUF005
        if TINY < abs(total) < np.inf:
            return weight * total, weight * lost
    one = 0, ONE, 0
    operands = _described(x, z, one, one, size, weight, a, b, tails)
    sums = _total_exact(like, (size,) + operands)  # noqa: RUF005
    return sums[0], sums[1]


@register_jitable(**OPTIONS)
def total_weighted_loss(like, x, z, w, keep, size, a, b, tails):
    """Return (sum w value, its loss, sum w, its loss, number of w != 0, number of elements)."""
    operands = _described(x, z, w, keep, size, 1.0, a, b, tails)
    if size >= SHORT:
        sums = _total_weighted(like, (size,) + operands)  # noqa: RUF005
        if TINY < abs(sums[0]) < np.inf or (sums[0] == 0.0 and sums[4] == 0.0):
            return sums
    return _total_exact(like, (size,) + operands)  # noqa: RUF005
