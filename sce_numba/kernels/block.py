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

from .divisor import MEAN, SUM, SUM_BY_NONZERO_WEIGHTS
from .dtypes import FLOAT64, MISSING
from .elements import SIGMOID, Element, Formula
from .from_memory import to_float64_from_memory
from .fused import fma, two_sum
from .lanes import (
    LANES,
    absolute,
    apart,
    before,
    branch,
    constant,
    differ,
    for_each,
    integer,
    least,
    loop,
    loop_while,
    only,
    real,
    rounded,
    select,
    split,
    spread,
    to_dtype,
    to_float64,
    when,
)
from .memory import copy
from .operand import (
    LINE,
    Operand,
    advanced,
    copy_tail,
    is_absent,
    load,
    own_format,
    store,
)
from .processor import reads_ahead
from .softplus import (
    begin_exp_minus_abs_normal,
    end_exp_minus_abs_normal,
    log1p_wide,
    vanished,
)
from .streaming import fence, prefetch

# Elements in a block.  Part of the definition of every sum: the blocks, and the order in which
# they are added, depend on the shapes alone, never on the number of threads.  A product of
# (BLOCK / LANES) factors of at most 2 is far from the greatest float64.
BLOCK = 4096
# Bytes of a dtype computed at a time: enough to keep the processor from waiting for results, few
# enough to stay in its registers.
STEP_BYTES = 256
# A shorter block is computed in float64 throughout, because its errors don't average out.
SHORT = 256
# In a smaller sum the clamp of exponentials at exp(-87) would be visible: it is recomputed exactly.
TINY = 1e-26
# The range of normal numbers of float32.
SMALLEST, GREATEST = 2.0**-126, 2.0**128 - 2.0**104
# Bytes of scratch memory a tail needs, and how many tails there are in a block.
TAIL, TAILS = 512, 5


class Block(NamedTuple):
    """The operands of a block of ``size`` elements, and what holds for all of them.

    Without labels the values of ``x`` are the losses.  The dtype of ``w`` and ``q`` is that of what
    is computed, or float64 (see ``in_own_dtype``).  ``wide`` is other than 0 where only float64 has
    the digits, or the range, of what the exponentials are combined with.
    """

    size: Any
    x: Operand
    z: Operand
    w: Operand
    q: Operand
    keep: Operand
    a: Any
    b: Any
    scale: Any
    wide: Any
    tails: Any  # memory for what is left after whole steps, ``TAILS`` times ``TAIL`` bytes
    smooth: Any  # whether b is other than 0
    formula: Formula = SIGMOID
    parameters: tuple[Any, ...] = ()  # the numbers that the formula takes


def with_tails(block: Block, step: int) -> Block:
    """Copy the tails of the operands, so that a block can be read in whole steps; return it."""
    for number, operand in enumerate((block.x, block.z, block.w, block.q, block.keep)):
        copy_tail(operand, block.size, step, block.tails + number * TAIL)
    return block


def step_of(dtype: Any) -> int:
    """Return the number of elements computed at a time."""
    return STEP_BYTES // own_format(dtype)[1]


def steps_of(dtype: Any, size: Any) -> Any:
    """Return the number of steps, the last of which need not be whole."""
    step = step_of(dtype)
    return (size + (step - 1)) >> (step.bit_length() - 1)


def is_late_for(size: Any) -> Any:
    """Tell whether memory has to be asked for early, as the processor would be late."""
    return size < BLOCK if reads_ahead() else True


def add_to(total: Any, lost: Any, dtype: Any, value: Any) -> tuple[Any, Any]:
    """Add to a float64 sum; the bits that float32 values lose in it don't matter."""
    if dtype is np.float32:
        return total + to_float64(value), lost
    total, rounding = two_sum(total, value)
    return total, lost + rounding


def add_step(dtype: Any, total: Any, lost: Any, values: Any) -> tuple[Any, Any]:
    """Add the values of a step to a sum and to what it lost."""
    for value in split(values, step_of(dtype) // LANES):
        total, lost = add_to(total, lost, dtype, value)
    return total, lost


def add_weighted_step(dtype: Any, total: Any, lost: Any, values: Any, w: Any) -> tuple[Any, Any]:
    """Add the products of a step with their weights to a sum and to what it lost."""
    parts = step_of(dtype) // LANES
    for value, weight in zip(split(values, parts), split(w, parts), strict=True):
        if dtype is np.float32:
            total = fma(to_float64(weight), to_float64(value), total)
        else:
            product = weight * value
            total, lost = add_to(total, lost + fma(weight, value, -product), dtype, product)
    return total, lost


def folded(dtype: Any, values: Any) -> Any:
    """Return the values of a step, added up to ``LANES`` of them."""
    for _ in range((step_of(dtype) // LANES).bit_length() - 1):
        one, two = split(values, 2)
        values = one + two
    return values


def sum_lanes(total: Any, lost: Any) -> tuple[Any, Any]:
    """Add up all lanes, halves first; what was lost is 0 where the sum is not finite."""
    for _ in range(LANES.bit_length() - 1):
        total, rounding = two_sum(*split(total, 2))
        one, two = split(lost, 2)
        lost = (one + two) + rounding
    total, lost = only(total), only(lost)
    return total, select(absolute(total) < np.inf, lost, 0.0)


def merge(u: Any, t: Any) -> Any:
    """Return (1 + u) (1 + t) - 1."""
    return fma(u, t, u + t)


def merge_step(dtype: Any, u: Any, t: Any) -> Any:
    """Return (1 + u) times all 1 + t of a step, less 1, in float64."""
    for _ in range((step_of(dtype) // LANES).bit_length() - 1):
        t = merge(*split(t, 2))
    return merge(u, to_float64_from_memory(t))


def sum_merged(u: Any, total: Any, lost: Any) -> tuple[Any, Any]:
    """Add up all lanes of log(1 + u) and of a sum."""
    return sum_lanes(*add_to(total, lost, np.float64, log1p_wide(u)))


def in_precision(
    dtype: Any, wide: Any, compute: Callable[[Any], tuple[Any, ...]]
) -> tuple[Any, ...]:
    """Return what ``compute`` makes in ``dtype``, or in float64 where a block is ``wide``."""
    if dtype is np.float64:
        return compute(dtype)
    return branch(wide, lambda: compute(np.float64), lambda: compute(dtype))


def read_pair(dtype: Any, k: Any, block: Block, ahead: Any) -> tuple[Any, Callable[[Any], Element]]:
    """Return the logits of step k, zeros beyond the last, and what makes elements in some dtype.

    There are logits and labels only.  That dtype may be float64 if the labels are.  With
    ``ahead``, memory is asked for early.
    """
    width, x, z = step_of(dtype), block.x, block.z
    last = block.size - k * width < width
    at_x = select(last, block.tails, x.address + k * (width * x.itemsize))
    at_z = select(last, block.tails + TAIL, z.address + k * (width * z.itemsize))
    prefetch(at_x, x.itemsize, width, ahead)
    prefetch(at_z, z.itemsize, width, ahead)
    logits = load(dtype, at_x, x.code, width, floats_only=True)

    def element(computed: Any) -> Element:
        labels = load(computed, at_z, z.code if computed is dtype else FLOAT64, width)
        a, b = spread(block.a, computed, width), spread(block.b, computed, width)
        return Element(computed, to_dtype(logits, computed), labels, a, b, block.smooth)

    return logits, element


@apart("ff")
def total_merged(dtype: Any, block: Block) -> tuple[Any, Any]:
    """Return the sum of the losses and what it lost, from full-sized exponentials."""
    width, size, linear_part = step_of(dtype), block.size, block.formula.linear_part
    assert linear_part is not None
    block = with_tails(block, width)
    zero = constant(size, 0.0, np.float64)

    # An exponential is begun in one step and ended in the next: side by side, the halves keep the
    # processor busier than one after the other.
    def step(k: Any, u: Any, total: Any, lost: Any, r: Any, exponent: Any) -> tuple[Any, ...]:
        x, element = read_pair(dtype, k, block, ahead=is_late_for(size))
        (linear,) = in_precision(
            dtype,
            block.z.code == FLOAT64,
            lambda own: (to_float64_from_memory(linear_part(element(own))),),
        )
        total, lost = add_step(dtype, total, lost, linear)
        u = merge_step(dtype, u, end_exp_minus_abs_normal(dtype, r, exponent))
        return u, total, lost, *begin_exp_minus_abs_normal(dtype, x)

    steps = steps_of(dtype, size)
    whole = np.int32 if dtype is np.float32 else np.int64
    none, nowhere = vanished(dtype)
    start = constant(size, none, dtype, width), constant(size, nowhere, whole, width)
    u, total, lost, r, exponent = loop(steps, (zero, zero, zero, *start), step)
    t = end_exp_minus_abs_normal(dtype, r, exponent)
    left = size - (steps - 1) * width
    return sum_merged(merge_step(dtype, u, select(before(left, width), t, 0.0)), total, lost)


def read_step(
    logits_dtype: Any,
    dtype: Any,
    k: Any,
    block: Block,
    weights: Any = None,
    scaled: bool = False,
    ahead: Any = True,
) -> tuple[Any, Any, Any, Any]:
    """Return logits and elements of step k, their weights, and what put zeros among them.

    That is a function which puts a zero where an element is excluded, and beyond the last.

    Logits are in the dtype ``logits_dtype``, the elements in ``dtype``, which may be wider, and the
    weights in ``weights`` if that is given, multiplied by the scale if they are to be ``scaled``.
    With ``ahead``, memory is asked for early.
    """
    weights = weights or dtype
    width = step_of(logits_dtype)
    left = block.size - k * width
    last = left < width
    some = last | (block.keep.code != MISSING)

    def read(number: int, operand: Operand, dtype: Any, **options: Any) -> Any:
        place = operand.address + k * (width * operand.itemsize)
        place = select(last, block.tails + number * TAIL, place)
        if number < 3 and not is_absent(operand):
            prefetch(place, operand.itemsize, width, ahead)
        return load(dtype, place, operand.code, width, **options)

    def labels() -> Any:
        if logits_dtype is dtype:
            return read(1, block.z, logits_dtype)
        (z,) = branch(
            block.z.code == FLOAT64,
            lambda: (read(1, block.z._replace(code=FLOAT64, itemsize=8), dtype),),
            lambda: (to_float64(read(1, block.z, logits_dtype)),),
        )
        return z

    def included(*operands: Any) -> Any:
        def kept() -> Any:
            flags = read(4, block.keep, logits_dtype, flags_only=True)
            mask = select(before(left, width), flags, 0.0) != 0.0
            return tuple(select(mask, lanes, 0.0) for lanes in operands)

        return branch(some, kept, lambda: operands)

    def positives() -> Any:
        return included(read(3, block.q, dtype, own_only=True))[0]

    w = read(2, block.w, weights, own_only=True)
    x, z, w = included(
        read(0, block.x, logits_dtype, floats_only=True),
        labels(),
        w * spread(block.scale, weights, width) if scaled else w,
    )
    a, b = spread(block.a, dtype, width), spread(block.b, dtype, width)
    options = block.smooth, block.q.code != MISSING, positives, logits_dtype, block.parameters
    in_one_piece = isinstance(block.x.code, int)
    return x, Element(dtype, to_dtype(x, dtype), z, a, b, *options, in_one_piece), w, included


def values_of(dtype: Any, x: Any, element: Element, block: Block) -> Any:
    """Return the losses; those that are given stand in the place of the logits."""
    formula = block.formula
    (values,) = branch(
        block.z.code == MISSING,
        lambda: (element.x,),
        lambda: (formula.loss(*formula.begin(dtype, x, element)),),
    )
    return values


@apart("fffff")
def _sums(
    dtype: Any, block: Block, reduction: Any, scaled: bool, alike: bool = False
) -> tuple[Any, ...]:
    """Return sum w value and sum w, each with what it lost, and the number of w that are not 0.

    What the reduction doesn't divide by stays 0.  ``alike`` tells that all weights are 1.
    """
    size = block.size
    block = with_tails(block, step_of(dtype))
    zero = constant(size, 0.0, np.float64)

    def step(
        k: Any, total: Any, lost: Any, weight: Any, weight_lost: Any, present: Any
    ) -> tuple[Any, ...]:
        def compute(computed: Any) -> tuple[Any, Any]:
            weights = dtype if isinstance(block.w.code, int) else np.float64
            x, element, w, included = read_step(dtype, computed, k, block, weights, scaled)
            values = values_of(dtype, x, element, block)
            if alike:
                values = folded(dtype, *included(values))
            return to_float64_from_memory(values), w

        values, w = in_precision(dtype, block.wide != 0, compute)
        if alike:
            wide = to_float64(w)
            total, lost = add_to(total, lost, dtype, values)
        else:
            wide = to_float64_from_memory(w)
            total, lost = add_weighted_step(dtype, total, lost, values, wide)

        weight, weight_lost = branch(
            reduction == MEAN,
            lambda: add_step(dtype, weight, weight_lost, wide),
            lambda: (weight, weight_lost),
        )

        def counted() -> tuple[Any]:
            there = select(w != 0.0, constant(size, 1.0, dtype, step_of(dtype)), 0.0)
            return (sum(split(there, step_of(dtype) // LANES), present),)

        (present,) = branch(reduction == SUM_BY_NONZERO_WEIGHTS, counted, lambda: (present,))
        return total, lost, weight, weight_lost, present

    start = (zero,) * 4 + (constant(size, 0.0, dtype),)
    *sums, present = loop(steps_of(dtype, size), start, step)
    present, _ = sum_lanes(to_float64(present), zero)
    return *sum_lanes(*sums[:2]), *sum_lanes(*sums[2:]), present


@apart("ffff")
def total_weights(dtype: Any, block: Block) -> tuple[Any, ...]:
    """Return the sum of weights, what it lost, how many are not 0, and how many are included."""
    size = block.size
    block = with_tails(block, step_of(dtype))
    zero = constant(size, 0.0, np.float64)

    def step(k: Any, total: Any, lost: Any, present: Any, count: Any) -> tuple[Any, ...]:
        one = constant(size, 1.0, dtype, step_of(dtype))
        _, _, w, included = read_step(dtype, dtype, k, block, np.float64)
        total, lost = add_step(dtype, total, lost, w)
        parts = step_of(dtype) // LANES
        present = sum(split(select(w != 0.0, one, 0.0), parts), present)
        return total, lost, present, sum(split(included(one)[0], parts), count)

    zeros = (zero, zero, constant(size, 0.0, dtype), constant(size, 0.0, dtype))
    total, lost, *counts = loop(steps_of(dtype, size), zeros, step)
    return *sum_lanes(total, lost), *(sum_lanes(to_float64(c), zero)[0] for c in counts)


@apart("")
def write_block(dtype: Any, block: Block, out: Any, past_caches: Any) -> tuple[Any, ...]:
    """Write w value of every element to ``out``, past the caches if told so."""
    _, itemsize = own_format(dtype)
    head = least((-out & (LINE - 1)) // itemsize, block.size)
    head = select(past_caches != 0, head, integer(out, 0))
    operands = block.x, block.z, block.w, block.q, block.keep

    def part(first: Any, stop: Any) -> None:
        x, z, w, q, keep = (advanced(operand, first) for operand in operands)
        rest = block._replace(size=stop - first, x=x, z=z, w=w, q=q, keep=keep)
        place = out + first * itemsize
        branch_on_usual(dtype, rest, lambda known: _write_part(dtype, known, place, past_caches))

    when(head != 0, lambda: part(integer(out, 0), head))
    when(head < block.size, lambda: part(head, block.size))
    fence(out, past_caches != 0)
    return ()


@apart("")
def _write_part(dtype: Any, block: Block, out: Any, past_caches: Any) -> tuple[Any, ...]:
    """Write w value of every element; past the caches if ``out`` is the start of a line."""
    width, size = step_of(dtype), block.size
    block = with_tails(block, width)

    def step(k: Any) -> None:
        def compute(computed: Any) -> tuple[Any]:
            ahead = is_late_for(size)
            x, element, w, _ = read_step(dtype, computed, k, block, scaled=True, ahead=ahead)
            return (rounded(values_of(dtype, x, element, block) * w, dtype),)

        (result,) = in_precision(dtype, block.wide != 0, compute)
        last = size - k * width < width
        # The results after the last whole step take the place of the logits there.
        place = select(last, block.tails, out + k * STEP_BYTES)
        ordinary = last | (past_caches == 0)
        when(ordinary, lambda: store(result, place))
        when(ordinary == 0, lambda: store(result, place, past_caches=True))

    for_each(steps_of(dtype, size), step)
    left = size & (width - 1)
    _, itemsize = own_format(dtype)
    copy(block.tails, out + (size - left) * itemsize, left * itemsize)
    return ()


@apart("f")
def number(operand: Operand) -> tuple[Any]:
    """Return the first element of an operand."""
    return (to_float64(only(load(np.float64, operand.address, operand.code, 1))),)


@apart("f")
def _convert(dtype: Any, operand: Operand, size: Any, target: Any, tail: Any) -> tuple[Any]:
    """Write the elements of an operand, converted, to the memory at ``target``, in whole steps.

    Return 1, and write no more, where one of them has digits that ``dtype`` lacks; else 0.
    """
    width = step_of(dtype)
    copy_tail(operand, size, width, tail)

    def step(k: Any, found: Any) -> tuple[Any, Any]:
        last = size - k * width < width
        place = select(last, tail, operand.address + k * (width * operand.itemsize))
        given = load(np.float64, place, operand.code, width)
        converted = rounded(given, dtype)
        store(converted, target + k * STEP_BYTES)
        return k + 1, select(differ(to_float64(converted), given), real(size, 1.0), found)

    steps = steps_of(dtype, size)
    start = integer(size, 0), real(size, 0.0)
    return loop_while(start, lambda k, found: (k < steps) & (found == 0.0), step)[1:]


@apart("iii")
def _in_own_dtype(
    dtype: Any, operand: Operand, size: Any, scratch: Any, tails: Any
) -> tuple[Any, ...]:
    code, itemsize = own_format(dtype)

    def converted() -> tuple[Any, ...]:
        (has_more,) = _convert(dtype, operand, size, scratch, tails)

        def as_float64() -> tuple[Any, ...]:
            def made() -> tuple[Any, ...]:
                _convert(np.float64, operand, size, scratch, tails)
                return scratch, integer(size, FLOAT64), integer(size, 8)

            return branch(operand.code == FLOAT64, lambda: tuple(operand), made)

        def as_it_is() -> tuple[Any, ...]:
            return scratch, integer(size, code), integer(size, itemsize)

        return branch(has_more != 0.0, as_float64, as_it_is)

    needs_none = (operand.code == code) | (operand.code == MISSING)
    return branch(needs_none, lambda: tuple(operand), converted)


def in_own_dtype(dtype: Any, operand: Operand, size: Any, scratch: Any, tails: Any) -> Operand:
    """Return weights in the dtype that is computed in, converted to scratch memory if need be.

    Where they have digits that this dtype lacks they are float64.
    """
    return Operand(*_in_own_dtype(dtype, operand, size, scratch, tails))


def is_wide(dtype: Any, scale: Any, *operands: Operand) -> Any:
    """Tell whether an operand, or what multiplies the weights, is too wide for a dtype."""
    if dtype is np.float64:
        return integer(scale, 0)
    size = absolute(scale)
    wide = ((size > 0.0) & (size < SMALLEST)) | ((size > GREATEST) & (size < np.inf))
    for operand in operands:
        if not is_absent(operand):
            wide = wide | (operand.code == FLOAT64)
    return select(wide, integer(scale, 1), integer(scale, 0))


def branch_on_usual(
    dtype: Any, block: Block, compute: Callable[[Block], tuple[Any, ...]]
) -> tuple[Any, ...]:
    """Return what ``compute`` makes of a block, by code of its own for the usual ones.

    Those have logits, labels and weights of the dtype that is computed in; whether labels are
    smoothed is known as well, or, of a formula with parameters, that they are not.  What need not
    be asked in each step leaves its instructions in one piece.  So do the usual parameters.
    """
    code, itemsize = own_format(dtype)
    x, z = (operand._replace(code=code, itemsize=itemsize) for operand in (block.x, block.z))
    usual, w = (block.x.code == code) & (block.z.code == code), block.w
    if not is_absent(w):
        usual = usual & (w.code == code)
        w = w._replace(code=code, itemsize=itemsize)
    known = block._replace(x=x, z=z, w=w, smooth=False)

    def either() -> tuple[Any, ...]:
        smoothed = known._replace(smooth=True)
        return branch(block.b == 0.0, lambda: compute(known), lambda: compute(smoothed))

    def of_formula() -> tuple[Any, ...]:
        alike, parameters = True, []
        for given, value in zip(known.parameters, known.formula.usual, strict=True):
            alike = alike if value is None else (given == value) & alike
            parameters.append(given if value is None else real(block.size, value))
        special = known._replace(parameters=tuple(parameters))
        return branch(alike, lambda: compute(special), lambda: compute(known))

    if block.formula.usual:
        return branch(usual & (block.b == 0.0), of_formula, lambda: compute(block))
    return branch(usual, either, lambda: compute(block))


def total_loss(dtype: Any, block: Block, weight: Any) -> tuple[Any, Any]:
    """Return sum weight loss, and what it lost, for one weight."""

    def exact() -> Any:
        return total_exact(block._replace(scale=weight), integer(weight, SUM))[:2]

    def usual() -> tuple[Any, Any]:
        def compute(known: Block) -> Any:
            if known.formula.linear_part:
                return total_merged(dtype, known)
            wide = is_wide(dtype, real(known.size, 1.0), known.z)
            return _sums(dtype, known._replace(wide=wide), integer(weight, SUM), False, True)[:2]

        total, lost = branch_on_usual(dtype, block, compute)
        size = absolute(total)
        return branch(
            (size > TINY) & (size < np.inf), lambda: (weight * total, weight * lost), exact
        )

    # Without labels there are no logarithms to merge.
    mergeable = (block.z.code != MISSING) & (absolute(weight) < np.inf) & (block.size >= SHORT)
    return branch(mergeable, usual, exact)


def total_exact(block: Block, reduction: Any) -> Any:
    """Return the sums of ``total_weighted_loss``, computed in float64."""
    return _sums(np.float64, block._replace(wide=0), reduction, True)


def total_weighted_loss(dtype: Any, block: Block, reduction: Any) -> tuple[Any, ...]:
    """Return sum w value and sum w, each with what it lost, and the number of w that are not 0.

    What the reduction doesn't divide by is 0.
    """

    def exact() -> Any:
        return total_exact(block, reduction)

    def computed(known: Block) -> Any:
        # Weights are float64 in sums, whatever they are.
        wide = is_wide(dtype, real(block.size, 1.0), known.z, known.q)
        return _sums(dtype, known._replace(wide=wide), reduction, False)

    def usual() -> tuple[Any, ...]:
        sums = branch_on_usual(dtype, block, computed)
        size = absolute(sums[0])
        return branch((size > TINY) & (size < np.inf), lambda: sums, exact)

    return branch(block.size >= SHORT, usual, exact)
