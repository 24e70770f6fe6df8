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
    branch,
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
from .operand import FLOAT32, FLOAT64, ONE, address_of, at, load, store, tail
from .softplus import (
    OPTIONS,
    begin_exp_minus_abs_normal,
    end_exp_minus_abs_normal,
    exp_minus_abs,
    log1p,
    log1p_wide,
    positive_part,
    vanished,
)
from .streaming import LINE, fence

# Elements in a block.  Part of the definition of every sum: the blocks, and the order in which
# they are added, depend on the shapes alone, never on the number of threads.  A product of
# (BLOCK / LANES) factors of at most 2 is far from the greatest float64.
BLOCK = 4096
# Bytes of a dtype computed at a time: enough to keep the processor from waiting for results, few
# enough to stay in its registers.
STEP_BYTES = 256
# A shorter block is computed in float64 throughout, because its errors don't average out.
SHORT = 256
# In a smaller sum it would show that end_exp_minus_abs_normal keeps exponentials from underflowing.
TINY = 1e-26
# Bytes of scratch memory a tail needs, and how many tails there are in a block.
TAIL, TAILS = 512, 4


def _step(dtype: Any) -> int:
    return STEP_BYTES // (4 if dtype is np.float32 else 8)


def _steps(size: Any, step: int) -> Any:
    return (size + (step - 1)) >> (step.bit_length() - 1)


def _parts(lanes: Any, step: int) -> list[Any]:
    return split(lanes, step // LANES)


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
    width = _step(dtype)
    a, b = spread(smooth_a, dtype, width), spread(smooth_b, dtype, width)
    zero = constant(size, 0.0, np.float64)

    def merged(u, t):
        for _ in range((width // LANES).bit_length() - 1):
            t = _merge(*split(t, 2))
        return _merge(u, to_float64(t))

    # An exponential is begun in one step and ended in the next: side by side, the halves keep the
    # processor busier than one after the other.
    def step(k, u, total, lost, r, exponent):
        last = size - k * width < width
        at_x = select(last, tails, x + k * (width * x_size))
        at_z = select(last, tails + TAIL, z + k * (width * z_size))
        xs = load(dtype, at_x, x_code, width, floats_only=True)
        zs = load(dtype, at_z, z_code, width)
        linear = fma(-xs, zs, positive_part(xs))
        (linear,) = branch(
            smooth_b == 0.0, lambda: (linear,), lambda: (fma(a, linear, b * absolute(xs)),)
        )
        for part in _parts(linear, width):
            total, lost = _add(total, lost, dtype, part)
        u = merged(u, end_exp_minus_abs_normal(dtype, r, exponent))
        return u, total, lost, *begin_exp_minus_abs_normal(dtype, xs)

    steps = _steps(size, width)
    integer = np.int32 if dtype is np.float32 else np.int64
    none, nowhere = vanished(dtype)
    start = constant(size, none, dtype, width), constant(size, nowhere, integer, width)
    u, total, lost, r, exponent = loop(steps, (zero, zero, zero, *start), step)
    t = end_exp_minus_abs_normal(dtype, r, exponent)
    left = size - (steps - 1) * width
    u = merged(u, select(before(left, width), t, 0.0))
    return _sum_lanes(*_add(total, lost, np.float64, log1p_wide(u)))


def _losses(dtype: Any, x: Any, z: Any, smooth_a: Any, smooth_b: Any) -> Any:
    """Return the loss of every element."""
    positive = positive_part(x)

    def smoothed():
        a, b = (spread(number, dtype, _step(dtype)) for number in (smooth_a, smooth_b))
        size = absolute(x)
        linear = fma(a, fma(-x, z, positive), b * size)
        literal = fma(-x, fma(a, z, b), positive)
        return (select(size == np.inf, literal, linear),)

    (linear,) = branch(smooth_b == 0.0, lambda: (fma(-x, z, positive),), smoothed)
    return linear + log1p(dtype, exp_minus_abs(dtype, x))


def _read(
    own, dtype, k, size, x, x_code, x_size, z, z_code, z_size, w, w_code, w_size,
    keep, keep_code, tails, smooth_a, smooth_b, scale,
):  # fmt: skip
    """Return values and weights of the elements of step k; weights are 0 beyond the last.

    Operands are converted to the dtype ``own`` of the logits, and what follows is computed in
    ``dtype``, which may be wider.
    """
    width = _step(dtype)
    left = size - k * width
    last = left < width

    def read(number, address, code, itemsize, **options):
        place = select(last, tails + number * TAIL, address + k * (width * itemsize))
        return to_dtype(load(own, place, code, width, **options), dtype)

    logits = read(0, x, x_code, x_size, floats_only=True)
    labels = read(1, z, z_code, z_size)
    weights = read(2, w, w_code, w_size) * spread(scale, dtype, width)

    def some():
        included = read(3, keep, keep_code, 1, flags_only=True)
        kept = select(before(left, width), included, 0.0) != 0.0
        return tuple(select(kept, lanes, 0.0) for lanes in (logits, labels, weights))

    logits, labels, weights = branch(
        last | (keep_code != ONE), some, lambda: (logits, labels, weights)
    )
    # Losses that are given stand in the place of the logits.
    (values,) = branch(
        z_code == ONE,
        lambda: (logits,),
        lambda: (_losses(dtype, logits, labels, smooth_a, smooth_b),),
    )
    return values, weights


def _sums(own, dtype, size, tally, operands):
    """Return sum w value and sum w, each with what it lost, and the number of w that are not 0.

    Without ``tally`` the last three stay 0.
    """
    width = _step(dtype)
    zero = constant(size, 0.0, np.float64)

    def step(k, total, lost, weight, weight_lost, present):
        values, weights = _read(own, dtype, k, size, *operands)
        parts = list(zip(_parts(values, width), _parts(weights, width), strict=True))
        for value, w in parts:
            if dtype is np.float32:
                total = fma(to_float64(w), to_float64(value), total)
            else:
                product = w * value
                total, lost = _add(total, lost + fma(w, value, -product), dtype, product)

        def counted():
            sums = weight, weight_lost, present
            for _, w in parts:
                there = select(w != 0.0, constant(size, 1.0, dtype), 0.0)
                sums = *_add(*sums[:2], dtype, w), sums[2] + there
            return sums

        return total, lost, *branch(tally != 0, counted, lambda: (weight, weight_lost, present))

    start = (zero,) * 4 + (constant(size, 0.0, dtype),)
    *sums, present = loop(_steps(size, width), start, step)
    present, _ = _sum_lanes(to_float64(present), zero)
    return *_sum_lanes(*sums[:2]), *_sum_lanes(*sums[2:]), present


@block_function(results=5)
def _total_weighted(dtype, size, tally, *operands):
    """Return the sums, computed in the dtype of the logits."""
    return _sums(dtype, dtype, size, tally, operands)


@block_function(results=5)
def _total_exact(dtype, size, tally, *operands):
    """Return the sums, computed in float64."""
    return _sums(dtype, np.float64, size, tally, operands)


@block_function(results=3)
def _total_weights(dtype, weights, vectors):
    """Return the sum of whole vectors of weights, what it lost, and how many are not 0."""
    code, itemsize = (FLOAT32, 4) if dtype is np.float32 else (FLOAT64, 8)
    zero, one = (constant(weights, number, np.float64) for number in (0.0, 1.0))

    def vector(k, total, lost, present):
        w = load(dtype, weights + k * (LANES * itemsize), code, LANES)
        return *_add(total, lost, dtype, w), present + select(to_float64(w) != 0.0, one, zero)

    total, lost, present = loop(vectors, (zero,) * 3, vector)
    return *_sum_lanes(total, lost), _sum_lanes(present, zero)[0]


@block_function(results=0)
def _write_weighted(dtype, size, out, rest, past_caches, *operands):
    """Write w value of every element to ``out``, but those after the last whole step to ``rest``.

    With ``past_caches``, ``out`` must be a multiple of the size of a cache line.
    """
    width = _step(dtype)

    def step(k):
        values, w = _read(dtype, dtype, k, size, *operands)
        result = values * w
        last = size - k * width < width
        place = select(last, rest, out + k * STEP_BYTES)

        def write(**options):
            store(result, place, **options)
            return ()

        branch(last | (past_caches == 0), write, lambda: write(past_caches=True))
        return ()

    loop(_steps(size, width), (), step)


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
def _described(x, z, w, keep, size, step, scale, a, b, tails):
    """Copy the tails of the operands and return the arguments that describe them all.

    ``x``, ``z``, ``w`` and ``keep`` are triples of address, dtype code and bytes an element; a
    missing one has the code ``ONE``.  Without labels the values of ``x`` are the losses.
    """
    memory = address_of(tails)
    tail(x, size, step, memory)
    tail(z, size, step, memory + TAIL)
    tail(w, size, step, memory + 2 * TAIL)
    tail(keep, size, step, memory + 3 * TAIL)
    return x + z + w + (keep[0], keep[1], memory, a, b, scale)


@register_jitable(**OPTIONS)
def _advanced(operand, elements):
    return operand[0] + elements * operand[2], operand[1], operand[2]


@register_jitable(**OPTIONS)
def write_block(out, x, z, w, keep, size, scale, a, b, tails, past_caches):
    """Write w value of every element to the array ``out``, past the caches if told so."""
    head = min(-address_of(out) % LINE // out.itemsize, size) if past_caches else 0
    first, stop = 0, head if head > 0 else size
    step = STEP_BYTES // out.itemsize
    while first < size:
        part = out[first:stop]
        operands = _described(
            _advanced(x, first),
            _advanced(z, first),
            _advanced(w, first),
            _advanced(keep, first),
            part.size,
            step,
            scale,
            a,
            b,
            tails,
        )
        # The results after the last whole step take the place of the logits there.
        rest = operands[11]
        place = address_of(part), rest, np.int64(past_caches)
        _write_weighted(out, (part.size,) + place + operands)  # noqa: RUF005
        done = part.size - part.size % step
        results = at(rest, part.size - done, out.dtype)
        for i in range(results.size):
            part[done + i] = results[i]
        first, stop = stop, size
    if past_caches:
        fence()


@register_jitable(**OPTIONS)
def total_loss(like, x, z, size, weight, a, b, tails):
    """Return sum weight loss, and what it lost."""
    if abs(weight) < np.inf and size >= SHORT:
        memory, step = address_of(tails), STEP_BYTES // like.itemsize
        tail(x, size, step, memory)
        tail(z, size, step, memory + TAIL)
        total, lost = _total_merged(like, (size,) + x + z + (memory, a, b))  # noqa: RUF005
        if TINY < abs(total) < np.inf:
            return weight * total, weight * lost
    one = 0, ONE, 0
    operands = _described(x, z, one, one, size, STEP_BYTES // 8, weight, a, b, tails)
    sums = _total_exact(like, (size, 0) + operands)  # noqa: RUF005
    return sums[0], sums[1]


@register_jitable(**OPTIONS)
def total_weights(w):
    """Return the sum of weights and how many of them are not 0."""
    vectors = w.size // LANES
    total, lost, present = _total_weights(w, (address_of(w), vectors))
    for i in range(vectors * LANES, w.size):
        value = np.float64(w[i])
        lost += value
        present += 1.0 if value != 0.0 else 0.0
    return total + lost, present


@register_jitable(**OPTIONS)
def total_weighted_loss(like, x, z, w, keep, size, tally, a, b, tails):
    """Return sum w value and sum w, each with what it lost, and the number of w that are not 0.

    Without ``tally`` the last three are 0.
    """
    if size >= SHORT:
        step = STEP_BYTES // like.itemsize
        operands = _described(x, z, w, keep, size, step, 1.0, a, b, tails)
        sums = _total_weighted(like, (size, tally) + operands)  # noqa: RUF005
        if TINY < abs(sums[0]) < np.inf:
            return sums
    operands = _described(x, z, w, keep, size, STEP_BYTES // 8, 1.0, a, b, tails)
    return _total_exact(like, (size, tally) + operands)  # noqa: RUF005
