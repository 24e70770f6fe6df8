"""The gradient beside the value, in one pass: blocks of logits and labels in, derivatives out.

The exponential of an element serves its loss and its derivatives.  What the gradient is multiplied
by, weight over denominator, is known before the pass (``denominator``).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .block import (
    SHORT,
    STEP_BYTES,
    TINY,
    Block,
    add_step,
    add_weighted_step,
    branch_on_usual,
    in_precision,
    is_wide,
    merge_step,
    read_pair,
    read_step,
    step_of,
    steps_of,
    sum_lanes,
    sum_merged,
    total_exact,
    with_tails,
)
from .divisor import SUM
from .dtypes import FLOAT64
from .from_memory import to_float64_from_memory
from .lanes import (
    absolute,
    apart,
    before,
    branch,
    constant,
    integer,
    loop,
    rounded,
    select,
    spread,
    to_float64,
    when,
)
from .loss import STREAMED, address_of_own
from .memory import copy
from .operand import LINE, load, own_format, store
from .softplus import exp_minus_abs_and_rest
from .staging import write
from .streaming import copy_past_caches, fence
from .tiles import RESULTS, ROW, Form, Sums, open_tile, row_sums, tile_loop
from .view import GRADIENT, RESULT, SCALE, SECOND, Call

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
    width, (code, _) = step_of(dtype), own_format(dtype)
    last = size - k * width < width
    store(values, select(last, target.scratch, target.at) + k * STEP_BYTES)

    def copy_a_step() -> None:
        behind = (k - LAG) * STEP_BYTES
        lanes = load(dtype, target.ready + behind, code, width)
        store(lanes, target.lines + behind, past_caches=True)

    when((target.lines != 0) & (k >= LAG), copy_a_step)


@apart("ff")
def _differentiate_merged(dtype: Any, block: Block, target: _Target) -> tuple[Any, Any]:
    """Write gradients times the scale; return the sum of the losses and what it lost.

    All weights are 1 and nothing is excluded.
    """
    width, size, linear_part = step_of(dtype), block.size, block.formula.linear_part
    assert linear_part is not None
    block = with_tails(block, width)
    zero = constant(size, 0.0, np.float64)

    def step(k: Any, u: Any, total: Any, lost: Any) -> tuple[Any, ...]:
        left = size - k * width
        x, element_in = read_pair(dtype, k, block, ahead=True)
        t, d = exp_minus_abs_and_rest(dtype, x)

        def compute(computed: Any) -> tuple[Any, Any]:
            element = element_in(computed)
            slopes = block.formula.gradient(element, t, d) * spread(block.scale, computed, width)
            _put(dtype, k, size, rounded(slopes, dtype), target)
            return add_step(dtype, total, lost, to_float64_from_memory(linear_part(element)))

        total, lost = in_precision(dtype, block.z.code == FLOAT64, compute)
        (kept,) = branch(left < width, lambda: (select(before(left, width), t, 0.0),), lambda: (t,))
        return merge_step(dtype, u, kept), total, lost

    return sum_merged(*loop(steps_of(dtype, size), (zero, zero, zero), step))


@apart("ff")
def _differentiate(
    dtype: Any, block: Block, second: Any, target: _Target, other: _Target
) -> tuple[Any, Any]:
    """Write gradients times the scale; return the sum of the losses and what it lost.

    Instead of the sum, losses or hessians may be written, times the scale as well.
    """
    width, size, formula = step_of(dtype), block.size, block.formula
    loss, gradient, hessian = formula.loss, formula.gradient, formula.hessian
    block = with_tails(block, width)
    zero = constant(size, 0.0, np.float64)

    def step(k: Any, total: Any, lost: Any) -> tuple[Any, Any]:
        def compute(computed: Any) -> tuple[Any, Any]:
            x, element, w, included = read_step(dtype, computed, k, block)
            given = formula.begin(dtype, x, element)
            factors = w * spread(block.scale, computed, width)
            # Once more, as the scale may be infinite or NaN.
            (slopes,) = included(gradient(*given) * factors)
            _put(dtype, k, size, rounded(slopes, dtype), target)

            def curvature() -> tuple[Any]:
                assert hessian is not None
                return (hessian(*given),)

            is_second = second == HESSIAN if hessian else False
            (values,) = branch(is_second, curvature, lambda: (loss(*given),))

            def put_values() -> tuple[Any, Any]:
                (weighted,) = included(values * factors)
                _put(dtype, k, size, rounded(weighted, dtype), other)
                return total, lost

            return branch(
                second == TOTAL,
                lambda: add_weighted_step(dtype, total, lost, values, w),
                put_values,
            )

        return in_precision(dtype, block.wide != 0, compute)

    return sum_lanes(*loop(steps_of(dtype, size), (zero, zero), step))


def _target(place: Any, scratch: Any, past_caches: Any) -> _Target:
    """Return the ``_Target`` of a block whose results lie at ``place``, or 0 for elsewhere."""
    zero = integer(place, 0)
    streamed = past_caches & (place != 0)
    direct = (place != 0) & (streamed == 0)
    head = select(streamed, -place & (LINE - 1), zero)
    return _Target(
        select(direct, place, scratch),
        scratch,
        scratch + head,
        select(streamed, place + head, zero),
    )


@apart("")
def _deliver_in_place(
    dtype: Any, size: Any, place: Any, scratch: Any, past_caches: Any
) -> tuple[Any, ...]:
    """Write what ``_put`` has not written to its place yet."""
    width = step_of(dtype)
    _, itemsize = own_format(dtype)

    def last_step() -> None:
        done = size - (size & (width - 1))
        copy(scratch + done * itemsize, place + done * itemsize, (size - done) * itemsize)

    def what_lags_behind() -> None:
        steps = steps_of(dtype, size) - LAG
        copied = select(steps > 0, steps * width, integer(size, 0))
        head = select(copied > 0, (-place & (LINE - 1)) // itemsize, integer(size, 0))
        copy(scratch, place, head * itemsize)
        done = head + copied
        copy_past_caches(dtype, size - done, scratch + done * itemsize, place + done * itemsize)

    when(past_caches, what_lags_behind)
    when(past_caches == 0, last_step)
    return ()


class _Results:
    """One of the results of a tile: where it goes, and what brings it there."""

    def __init__(
        self,
        dtype: Any,
        form: Form,
        call: Call,
        row: int,
        start: Any,
        size: Any,
        scratch: Any,
        past_caches: Any,
    ) -> None:
        self.dtype, self.form, self.start, self.size = dtype, form, start, size
        self.array, self.past_caches = call.array(row), past_caches
        self.raw = scratch
        self.scratch = scratch + (RESULTS + GRADIENT - row) * ROW
        self.place = self._place(call)
        self.target = _target(self.place, self.scratch, past_caches)

    def _place(self, call: Call) -> Any:
        """Return where results can be written while operands are read, else 0."""
        zero, address = integer(self.size, 0), self.array.address
        # Operands that are overwritten may have to be read once more.
        taken = address == 0
        for other in range(RESULT):
            taken = taken | (call.array(other).address == address)
        if self.form.staged:
            (place,) = branch(
                taken,
                lambda: (zero,),
                lambda: (address_of_own(self.dtype, self.array, self.start, self.size),),
            )
            return place
        return select(taken, zero, address + self.start * self.array.itemsize)

    def deliver(self) -> None:
        """Write what has not been written to its place yet."""
        dtype, size, scratch, past = self.dtype, self.size, self.scratch, self.past_caches

        def elsewhere() -> None:
            # Only now, as the gradient may take the place of the logits.
            if self.form.staged:
                write(dtype, self.array, self.start, size, scratch, self.raw, past)
                return
            _, itemsize = own_format(dtype)
            place = self.array.address + self.start * itemsize
            when(past, lambda: copy_past_caches(dtype, size, scratch, place))
            when(past == 0, lambda: copy(scratch, place, size * itemsize))

        in_place = dtype, size, self.place, scratch, past
        when(self.place != 0, lambda: _deliver_in_place(*in_place))
        when(self.place == 0, elsewhere)


def slopes(dtype: Any, form: Form, call: Call, group: Any, scratch: Any) -> Sums:
    """Write the gradients of a group of tiles, times the scale, and return the losses' sum."""
    second, scale = call.number(SECOND), call.number(SCALE)
    past_caches = call.rows * call.columns * own_format(dtype)[1] >= STREAMED

    def tile(start: Any, size: Any) -> Sums:
        block, weight = open_tile(dtype, form, call, start, size, scratch)
        place = start, size, scratch, past_caches
        first = _Results(dtype, form, call, GRADIENT, *place)
        other = _Results(dtype, form, call, RESULT, *place)
        factor = scale * weight
        wide = is_wide(dtype, factor, block.z, block.w, block.q)
        block = block._replace(scale=factor, wide=wide)

        def usual() -> Any:
            def compute(known: Block) -> Any:
                return _differentiate(dtype, known, second, first.target, other.target)

            own = block.formula.usual
            return branch_on_usual(dtype, block, compute) if own else compute(block)

        if form.by_element or not block.formula.linear_part:
            total, lost = usual()
        else:
            # What the labels are is looked at there.
            mergeable = (second == TOTAL) & (is_wide(dtype, factor) == 0)
            total, lost = branch(
                mergeable,
                lambda: branch_on_usual(
                    dtype, block, lambda known: _differentiate_merged(dtype, known, first.target)
                ),
                usual,
            )
        total, lost = weight * total, weight * lost
        magnitude = absolute(total)
        good = (size >= SHORT) & (magnitude > TINY) & (magnitude < np.inf)

        def exact() -> Any:
            alone = block._replace(scale=weight)
            return total_exact(alone, integer(size, SUM))[:2]

        total, lost = branch((second != TOTAL) | good, lambda: (total, lost), exact)
        first.deliver()
        when(second != TOTAL, other.deliver)
        return row_sums(total, lost, weight, to_float64(size))

    sums = tile_loop(call, group, tile)
    fence(group, past_caches)
    return sums
