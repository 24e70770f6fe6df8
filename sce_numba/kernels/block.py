"""The loss over one block: a run of elements, contiguous in memory, each operand in its own dtype.

The formulas of the elements are in ``elements``.  Sums run in float64, what their rounding loses
in float64 kernels beside them.  Where the weight is constant over the block, logarithms are
merged: ``sum log1p(t_i) = log1p(u)`` with ``u = prod(1 + t_i) - 1``, which is kept relatively
exact, however small the ``t_i``, by ``u <- u t + (u + t)``: four by four in the dtype of the
logits, then in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba.extending import register_jitable

from .elements import Element, linear_part, loss
from .fused import fma, two_sum
from .lanes import (
    LANES,
    absolute,
    before,
    block_function,
    branch,
    constant,
    differ,
    loop,
    loop_while,
    only,
    rounded,
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
    log1p_wide,
    vanished,
)
from .streaming import LINE, fence, fetch_ahead

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
# The range of normal numbers of float32.
SMALLEST, GREATEST = 2.0**-126, 2.0**128 - 2.0**104
# Bytes of scratch memory a tail needs, and how many tails there are in a block.
TAIL, TAILS = 512, 5


class Operands(NamedTuple):
    """Where a block lies: addresses, dtype codes and bytes an element of its operands.

    A missing operand has the code ``ONE``.  Without labels the values of ``x`` are the losses.
    The dtype of ``w`` and ``q`` is that of what is computed, or float64 (see ``in_own_dtype``), and
    ``q`` is a number where elements are excluded (see ``not_excluded``).  ``wide`` is other than 0
    where only float64 has the digits, or the range, of what the exponentials are combined with.
    """

    x: Any
    x_code: Any
    x_size: Any
    z: Any
    z_code: Any
    z_size: Any
    w: Any
    w_code: Any
    w_size: Any
    q: Any
    q_code: Any
    q_size: Any
    keep: Any
    keep_code: Any
    tails: Any
    a: Any
    b: Any
    scale: Any
    wide: Any


def step_of(dtype: Any) -> int:
    """Return the number of elements computed at a time."""
    return STEP_BYTES // (4 if dtype is np.float32 else 8)


def steps_of(dtype: Any, size: Any) -> Any:
    """Return the number of steps, the last of which need not be whole."""
    step = step_of(dtype)
    return (size + (step - 1)) >> (step.bit_length() - 1)


def _add(total: Any, lost: Any, dtype: Any, value: Any) -> tuple[Any, Any]:
    """Add to a float64 sum; the bits that float32 values lose in it don't matter."""
    if dtype is np.float32:
        return total + to_float64(value), lost
    total, rounding = two_sum(total, value)
    return total, lost + rounding


def add_step(dtype: Any, total: Any, lost: Any, values: Any) -> tuple[Any, Any]:
    """Add the values of a step to a sum and to what it lost."""
    for value in split(values, step_of(dtype) // LANES):
        total, lost = _add(total, lost, dtype, value)
    return total, lost


def add_weighted_step(dtype: Any, total: Any, lost: Any, values: Any, w: Any) -> tuple[Any, Any]:
    """Add the products of a step with their weights to a sum and to what it lost."""
    parts = step_of(dtype) // LANES
    for value, weight in zip(split(values, parts), split(w, parts), strict=True):
        if dtype is np.float32:
            total = fma(to_float64(weight), to_float64(value), total)
        else:
            product = weight * value
            total, lost = _add(total, lost + fma(weight, value, -product), dtype, product)
    return total, lost


def sum_lanes(total: Any, lost: Any) -> tuple[Any, Any]:
    """Add up all lanes, halves first; what was lost is 0 where the sum is not finite."""
    for _ in range(LANES.bit_length() - 1):
        total, rounding = two_sum(*split(total, 2))
        one, two = split(lost, 2)
        lost = (one + two) + rounding
    total, lost = only(total), only(lost)
    return total, select(absolute(total) < np.inf, lost, 0.0)


def _merge(u: Any, t: Any) -> Any:
    """Return (1 + u) (1 + t) - 1."""
    return fma(u, t, u + t)


def merge_step(dtype: Any, u: Any, t: Any) -> Any:
    """Return (1 + u) times all 1 + t of a step, less 1, in float64."""
    for _ in range((step_of(dtype) // LANES).bit_length() - 1):
        t = _merge(*split(t, 2))
    return _merge(u, to_float64(t))


def sum_merged(u: Any, total: Any, lost: Any) -> tuple[Any, Any]:
    """Add up all lanes of log(1 + u) and of a sum."""
    return sum_lanes(*_add(total, lost, np.float64, log1p_wide(u)))


def in_precision(
    dtype: Any, wide: Any, compute: Callable[[Any], tuple[Any, ...]]
) -> tuple[Any, ...]:
    """Return what ``compute`` makes in ``dtype``, or in float64 where a block is ``wide``."""
    if dtype is np.float64:
        return compute(dtype)
    return branch(wide, lambda: compute(np.float64), lambda: compute(dtype))


class Pair(NamedTuple):
    """Where logits and labels lie that are all there is, as in ``Operands``."""

    x: Any
    x_code: Any
    x_size: Any
    z: Any
    z_code: Any
    z_size: Any
    tails: Any
    a: Any
    b: Any


def read_pair(
    dtype: Any, k: Any, size: Any, given: Pair, ahead: Any
) -> tuple[Any, Callable[[Any], Element]]:
    """Return the logits of step k, zeros beyond the last, and what makes elements in some dtype.

    That dtype may be float64 if the labels are.  With ``ahead``, memory is asked for early.
    """
    width = step_of(dtype)
    last = size - k * width < width
    at_x = select(last, given.tails, given.x + k * (width * given.x_size))
    at_z = select(last, given.tails + TAIL, given.z + k * (width * given.z_size))
    fetch_ahead(at_x, given.x_size, width, ahead)
    fetch_ahead(at_z, given.z_size, width, ahead)
    x = load(dtype, at_x, given.x_code, width, floats_only=True)

    def element(own):
        z = load(own, at_z, given.z_code if own is dtype else FLOAT64, width)
        a, b = spread(given.a, own, width), spread(given.b, own, width)
        return Element(own, to_dtype(x, own), z, a, b, given.b != 0.0)

    return x, element


@block_function(results=2)
def _total_merged(dtype, size, *pair):
    """Return the sum of the losses and what it lost, from full-sized exponentials."""
    width, given = step_of(dtype), Pair(*pair)
    zero = constant(size, 0.0, np.float64)

    # An exponential is begun in one step and ended in the next: side by side, the halves keep the
    # processor busier than one after the other.
    def step(k, u, total, lost, r, exponent):
        x, element = read_pair(dtype, k, size, given, ahead=size < BLOCK)
        (linear,) = in_precision(
            dtype, given.z_code == FLOAT64, lambda own: (to_float64(linear_part(element(own))),)
        )
        total, lost = add_step(dtype, total, lost, linear)
        u = merge_step(dtype, u, end_exp_minus_abs_normal(dtype, r, exponent))
        return u, total, lost, *begin_exp_minus_abs_normal(dtype, x)

    steps = steps_of(dtype, size)
    integer = np.int32 if dtype is np.float32 else np.int64
    none, nowhere = vanished(dtype)
    start = constant(size, none, dtype, width), constant(size, nowhere, integer, width)
    u, total, lost, r, exponent = loop(steps, (zero, zero, zero, *start), step)
    t = end_exp_minus_abs_normal(dtype, r, exponent)
    left = size - (steps - 1) * width
    return sum_merged(merge_step(dtype, u, select(before(left, width), t, 0.0)), total, lost)


def read_step(
    own: Any,
    dtype: Any,
    k: Any,
    size: Any,
    given: Operands,
    weights: Any = None,
    scaled: bool = False,
    ahead: Any = True,
) -> tuple[Any, Any, Any, Any]:
    """Return logits and elements of step k, their weights, and what put zeros among them.

    That is a function which puts a zero where an element is excluded, and beyond the last.

    Logits are in the dtype ``own``, the elements in ``dtype``, which may be wider, and the weights
    in ``weights`` if that is given, multiplied by the scale if they are to be ``scaled``.  With
    ``ahead``, memory is asked for early.
    """
    weights = weights or dtype
    width = step_of(own)
    left = size - k * width
    last = left < width
    some = last | (given.keep_code != ONE)

    def read(number, address, code, itemsize, dtype, **options):
        place = select(last, given.tails + number * TAIL, address + k * (width * itemsize))
        if number < 3:
            fetch_ahead(place, itemsize, width, ahead)
        return load(dtype, place, code, width, **options)

    def labels():
        operand = 1, given.z, given.z_code, given.z_size
        if own is dtype:
            return read(*operand, own)
        (z,) = branch(
            given.z_code == FLOAT64,
            lambda: (read(1, given.z, FLOAT64, 8, dtype),),
            lambda: (to_float64(read(*operand, own)),),
        )
        return z

    def included(*operands):
        def kept():
            flags = read(4, given.keep, given.keep_code, 1, own, flags_only=True)
            mask = select(before(left, width), flags, 0.0) != 0.0
            return tuple(select(mask, lanes, 0.0) for lanes in operands)

        return branch(some, kept, lambda: operands)

    def positives():
        return read(3, given.q, given.q_code, given.q_size, dtype, own_only=True)

    w = read(2, given.w, given.w_code, given.w_size, weights, own_only=True)
    x, z, w = included(
        read(0, given.x, given.x_code, given.x_size, own, floats_only=True),
        labels(),
        w * spread(given.scale, weights, width) if scaled else w,
    )
    a, b = spread(given.a, dtype, width), spread(given.b, dtype, width)
    options = given.b != 0.0, given.q_code != ONE, positives, own
    return x, Element(dtype, to_dtype(x, dtype), z, a, b, *options), w, included


def _values(dtype: Any, x: Any, element: Element, given: Operands) -> Any:
    """Return the losses; those that are given stand in the place of the logits."""
    (values,) = branch(
        given.z_code == ONE,
        lambda: (element.x,),
        lambda: (loss(element, exp_minus_abs(dtype, x)),),
    )
    return values


def _sums(dtype, size, tally, given, scaled):
    """Return sum w value and sum w, each with what it lost, and the number of w that are not 0.

    Without ``tally`` the last three stay 0.
    """
    zero = constant(size, 0.0, np.float64)

    def step(k, total, lost, weight, weight_lost, present):
        def compute(own):
            x, element, w, _ = read_step(dtype, own, k, size, given, np.float64, scaled)
            return to_float64(_values(dtype, x, element, given)), w

        values, w = in_precision(dtype, given.wide != 0, compute)
        total, lost = add_weighted_step(dtype, total, lost, values, w)

        def counted():
            there = select(w != 0.0, constant(size, 1.0, dtype, step_of(dtype)), 0.0)
            return (
                *add_step(dtype, weight, weight_lost, w),
                sum(split(there, step_of(dtype) // LANES), present),
            )

        return total, lost, *branch(tally != 0, counted, lambda: (weight, weight_lost, present))

    start = (zero,) * 4 + (constant(size, 0.0, dtype),)
    *sums, present = loop(steps_of(dtype, size), start, step)
    present, _ = sum_lanes(to_float64(present), zero)
    return *sum_lanes(*sums[:2]), *sum_lanes(*sums[2:]), present


@block_function(results=5)
def _total_weighted(dtype, size, tally, *operands):
    """Return the sums, computed in the dtype of the logits."""
    return _sums(dtype, size, tally, Operands(*operands), scaled=False)


@block_function(results=5)
def _total_exact(dtype, size, tally, *operands):
    """Return the sums, computed in float64."""
    return _sums(np.float64, size, tally, Operands(*operands), scaled=True)


@block_function(results=4)
def _total_weights(dtype, size, *operands):
    """Return the sum of weights, what it lost, how many are not 0, and how many are included."""
    zero = constant(size, 0.0, np.float64)
    given = Operands(*operands)

    def step(k, total, lost, present, count):
        _, _, w, included = read_step(dtype, dtype, k, size, given, np.float64)
        total, lost = add_step(dtype, total, lost, w)
        one = constant(size, 1.0, dtype, step_of(dtype))
        parts = step_of(dtype) // LANES
        present = sum(split(select(w != 0.0, one, 0.0), parts), present)
        return total, lost, present, sum(split(included(one)[0], parts), count)

    zeros = (zero, zero, constant(size, 0.0, dtype), constant(size, 0.0, dtype))
    total, lost, *counts = loop(steps_of(dtype, size), zeros, step)
    return *sum_lanes(total, lost), *(sum_lanes(to_float64(c), zero)[0] for c in counts)


@block_function(results=0)
def _write_weighted(dtype, size, out, rest, past_caches, *operands):
    """Write w value of every element to ``out``, but those after the last whole step to ``rest``.

    With ``past_caches``, ``out`` must be a multiple of the size of a cache line.
    """
    width, given = step_of(dtype), Operands(*operands)

    def step(k):
        def compute(own):
            ahead = size < BLOCK
            x, element, w, _ = read_step(dtype, own, k, size, given, scaled=True, ahead=ahead)
            return (rounded(_values(dtype, x, element, given) * w, dtype),)

        (result,) = in_precision(dtype, given.wide != 0, compute)
        last = size - k * width < width
        place = select(last, rest, out + k * STEP_BYTES)

        def write(**options):
            store(result, place, **options)
            return ()

        branch(last | (past_caches == 0), write, lambda: write(past_caches=True))
        return ()

    loop(steps_of(dtype, size), (), step)


@block_function(results=1)
def _number(dtype, address, code):
    return (to_float64(only(load(dtype, address, code, 1))),)


@register_jitable(**OPTIONS)
def number(operand):
    """Return the first element of an operand."""
    return _number(at(operand[0], 1, np.float64), (operand[0], operand[1]))[0]


@register_jitable(**OPTIONS)
def scratch_for_tails(threads):
    """Return memory for the tails of the operands of a block, a row for each thread."""
    return np.empty((threads, TAILS * TAIL // 8), np.float64)


@register_jitable(**OPTIONS)
def described(x, z, w, q, keep, size, step, scale, wide, a, b, tails):
    """Copy the tails of the operands and return the arguments that describe them all.

    ``x``, ``z``, ``w``, ``q`` and ``keep`` are triples of address, dtype code and bytes an element.
    """
    memory = address_of(tails)
    tail(x, size, step, memory)
    tail(z, size, step, memory + TAIL)
    tail(w, size, step, memory + 2 * TAIL)
    tail(q, size, step, memory + 3 * TAIL)
    tail(keep, size, step, memory + 4 * TAIL)
    return x + z + w + q + (keep[0], keep[1], memory, a, b, scale, np.int64(wide))


@register_jitable(**OPTIONS)
def described_pair(x, z, size, step, a, b, tails):
    """Do as ``described`` for a ``Pair``."""
    memory = address_of(tails)
    tail(x, size, step, memory)
    tail(z, size, step, memory + TAIL)
    return x + z + (memory, a, b)


@block_function(results=1)
def _convert(dtype, size, source, code, itemsize, tail_at, target):
    """Write the elements of an operand, converted, to the memory at ``target``, in whole steps.

    Return 1, and write no more, where one of them has digits that ``dtype`` lacks; else 0.
    """
    width = step_of(dtype)

    def step(k, found):
        last = size - k * width < width
        place = select(last, tail_at, source + k * (width * itemsize))
        given = load(np.float64, place, code, width)
        converted = rounded(given, dtype)
        store(converted, target + k * STEP_BYTES)
        return k + 1, select(differ(to_float64(converted), given), 1.0, found)

    start = size - size, only(constant(size, 0.0, np.float64, 1))
    steps = steps_of(dtype, size)
    return loop_while(start, lambda k, found: (k < steps) & (found == 0.0), step)[1:]


@register_jitable(**OPTIONS)
def _has_digits_beyond(like, operand, size, target, tails):
    address, code, itemsize = operand
    memory = address_of(tails)
    tail(operand, size, STEP_BYTES // like.itemsize, memory)
    return _convert(like, (size, address, code, itemsize, memory, target))[0] != 0.0


@register_jitable(**OPTIONS)
def in_own_dtype(like, operand, size, scratch, tails):
    """Return weights in the dtype of ``like``, converted to scratch memory if they are not.

    Where they have digits that this dtype lacks they are float64.
    """
    own = FLOAT32 if like.itemsize == 4 else FLOAT64
    if operand[1] in (own, ONE):
        return operand
    target = address_of(scratch)
    if not _has_digits_beyond(like, operand, size, target, tails):
        return target, own, like.itemsize
    if operand[1] == FLOAT64:
        return operand
    _has_digits_beyond(tails, operand, size, target, tails)
    return target, FLOAT64, 8


@register_jitable(**OPTIONS)
def is_wide(like, z, w, q, scale):
    """Tell whether an operand, or what multiplies the weights, is too wide for ``like``."""
    if like.itemsize == 8:
        return False
    size = abs(scale)
    beyond = 0.0 < size < SMALLEST or GREATEST < size < np.inf
    return beyond or z[1] == FLOAT64 or w[1] == FLOAT64 or q[1] == FLOAT64


@register_jitable(**OPTIONS)
def not_excluded(operand, keep, size, scratch):
    """Return weights, which are float32 or float64, with zeros where elements are excluded."""
    if operand[1] == ONE or keep[1] == ONE:
        return operand
    target = address_of(scratch)
    if operand[1] == FLOAT32:
        _keep(operand[0], keep[0], size, np.float32, target)
    else:
        _keep(operand[0], keep[0], size, np.float64, target)
    return target, operand[1], operand[2]


@register_jitable(**OPTIONS)
def _keep(address, keep, size, dtype, target):
    flags, given, to = at(keep, size, np.uint8), at(address, size, dtype), at(target, size, dtype)
    for i in range(size):
        to[i] = given[i] if flags[i] != 0 else 0.0


@register_jitable(**OPTIONS)
def _advanced(operand, elements):
    return operand[0] + elements * operand[2], operand[1], operand[2]


@register_jitable(**OPTIONS)
def write_block(out, x, z, w, q, keep, size, scale, a, b, tails, past_caches):
    """Write w value of every element to the array ``out``, past the caches if told so."""
    head = min(-address_of(out) % LINE // out.itemsize, size) if past_caches else 0
    first, stop = 0, head if head > 0 else size
    step = STEP_BYTES // out.itemsize
    # The results after the last whole step take the place of the logits there.
    rest = address_of(tails)
    wide = is_wide(out, z, w, q, scale)
    while first < size:
        part = out[first:stop]
        operands = described(
            _advanced(x, first),
            _advanced(z, first),
            _advanced(w, first),
            _advanced(q, first),
            _advanced(keep, first),
            part.size,
            step,
            scale,
            wide,
            a,
            b,
            tails,
        )
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
    # Without labels there are no logarithms to merge.
    if z[1] != ONE and abs(weight) < np.inf and size >= SHORT:
        pair = described_pair(x, z, size, STEP_BYTES // like.itemsize, a, b, tails)
        total, lost = _total_merged(like, (size,) + pair)  # noqa: RUF005
        if TINY < abs(total) < np.inf:
            return weight * total, weight * lost
    one = 0, ONE, 0
    sums = total_exact(like, x, z, one, one, one, size, weight, 0, a, b, tails)
    return sums[0], sums[1]


@register_jitable(**OPTIONS)
def total_exact(like, x, z, w, q, keep, size, scale, tally, a, b, tails):
    """Return the sums of ``total_weighted_loss``, computed in float64."""
    operands = described(x, z, w, q, keep, size, STEP_BYTES // 8, scale, 0, a, b, tails)
    return _total_exact(like, (size, tally) + operands)  # noqa: RUF005


@register_jitable(**OPTIONS)
def total_weights(like, w, keep, size, tails):
    """Return the sum of weights, how many of them are not 0, and how many are included."""
    one = 0, ONE, 0
    step = STEP_BYTES // like.itemsize
    operands = described(one, one, w, one, keep, size, step, 1.0, 0, 1.0, 0.0, tails)
    total, lost, present, count = _total_weights(like, (size,) + operands)  # noqa: RUF005
    return total + lost, present, count


@register_jitable(**OPTIONS)
def total_weighted_loss(like, x, z, w, q, keep, size, tally, a, b, tails):
    """Return sum w value and sum w, each with what it lost, and the number of w that are not 0.

    Without ``tally`` the last three are 0.
    """
    if size >= SHORT:
        # Weights are float64 in sums, whatever they are.
        wide = is_wide(like, z, z, q, 1.0)
        step = STEP_BYTES // like.itemsize
        operands = described(x, z, w, q, keep, size, step, 1.0, wide, a, b, tails)
        sums = _total_weighted(like, (size, tally) + operands)  # noqa: RUF005
        if TINY < abs(sums[0]) < np.inf:
            return sums
    return total_exact(like, x, z, w, q, keep, size, 1.0, tally, a, b, tails)
