"""The sums of a reduction along some axes: dealt out, kept side by side, and divided at the end.

There are ``FIELDS`` numbers for each result, those of ``tiles.Sums``, a vector of one field at a
time.  A strip that is done at once holds them in scratch memory; else each range has its own, in
memory that the call brings along, and they are added up in order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .axis_view import FIELDS, TOGETHER, Plan, kept_of, plan_of
from .divisor import divisor
from .dtypes import FLOAT64, MISSING
from .fused import fma, two_sum
from .lanes import (
    LANES,
    absolute,
    apart,
    branch,
    for_each,
    integer,
    least,
    loop,
    rounded,
    select,
    spread,
    to_float64,
    when,
)
from .memory import on_stack
from .operand import LINE, Operand, advanced, load, own_format, store
from .staging import read, write
from .tiles import Sums, add
from .view import LOST_TO, REDUCTION, RESULT, SECOND, WEIGHT, WEIGHTS, Call

# Bytes of a vector of sums, and from one field of a strip to the next: a few lines more than fields
# take, lest they compete for the same lines of a cache.  Results that are written at a time.
BYTES, FIELD, WRITTEN = 8 * LANES, 8 * TOGETHER + 5 * LINE, 256
# What is asked for: results, or for each of them numerator, what it lost, and divisor, as float64;
# or so many of these, the first ones.
QUOTIENT, PARTS = 0, 3


def for_each_strip(
    call: Call, plan: Plan, group: Any, work: Callable[[Any, Any, Any], None]
) -> None:
    """Do something for the strips and ranges of a group: range, first line, number of lines."""
    strips = (plan.lines + (plan.width - 1)) // plan.width
    units = plan.blocks * strips * plan.ranges
    first, stop = units * group // call.groups, units * (group + 1) // call.groups

    def unit(k: Any) -> None:
        strip = (first + k) // plan.ranges
        column = strip % strips * plan.width
        start = strip // strips * plan.lines + column
        work((first + k) % plan.ranges, start, least(plan.width, plan.lines - column))

    for_each(stop - first, unit)


def place_of_sums(call: Call, plan: Plan, part: Any, line: Any, strip: Any) -> tuple[Any, Any]:
    """Return where the sums of a line from a range go, and how many bytes lie between two fields.

    Those of a ``strip`` that is done at once go there.
    """
    kept = call.number(LOST_TO) + (part * (FIELDS * plan.pitch) + line) * 8
    direct = plan.pitch == 0
    return select(direct, strip, kept), select(direct, integer(part, FIELD), plan.pitch * 8)


def vector(address: Any, lanes: int = LANES) -> Any:
    """Return lanes of sums."""
    return load(np.float64, address, FLOAT64, lanes)


def _divisor(call: Call, sums: Sums) -> Any:
    """Return what lanes of sums are divided by."""
    weight = spread(call.number(WEIGHT), np.float64)
    return divisor(call.number(REDUCTION), weight, sums.weight, sums.present, sums.count)


def _product(a: Any, total: Any, rest: Any) -> tuple[Any, Any]:
    """Return products with sums, and what these lost, if that is a number."""
    product = a * total
    lost = fma(a, total, -product) + a * rest
    return product, select(absolute(lost) < np.inf, lost, 0.0)


def _exact(given: Any, total: Any, rest: Any) -> tuple[Any, Any]:
    """Return a sum and its rest, where it is finite; else what was given, and 0."""
    finite = absolute(total) < np.inf
    return select(finite, total, given), select(finite, rest, 0.0)


@apart("")
def _write_some(
    dtype: Any, alike: bool, call: Call, sums: Any, field: Any, start: Any, size: Any
) -> tuple[Any, ...]:
    """Write at most ``WRITTEN`` results."""
    plan = plan_of(call)
    itemsize = own_format(dtype)[1]
    raw, values = on_stack(size, 8 * WRITTEN + LINE), on_stack(size, PARTS * 8 * WRITTEN)
    step = select(plan.pitch == 0, integer(size, 0), plan.pitch * (8 * FIELDS))
    weights = read(kept_of(call, plan, WEIGHTS), start, size, raw) if alike else None
    reduced, weight = to_float64(plan.reduced), spread(call.number(WEIGHT), np.float64)
    # What all results are divided by where there are no weights.
    shared = divisor(call.number(REDUCTION), call.number(WEIGHT), reduced, reduced, reduced)

    def following(k: Any) -> None:
        first = sums + k * BYTES

        def gather(count: Any, found: Any, between: Any, one: Callable[[Any], Sums]) -> Sums:
            def more(j: Any, *found: Any) -> tuple[Any, ...]:
                return tuple(add(Sums(*found), one(between * (j + 1))))

            return Sums(*loop(count - 1, tuple(found), more))

        def fields(offset: Any) -> Sums:
            def packed(place: Any) -> Sums:
                return Sums(*(vector(first + offset + place + j * field) for j in range(FIELDS)))

            in_block = plan.kept // plan.blocks
            return gather(plan.packed, packed(integer(size, 0)), in_block * 8, packed)

        found = gather(plan.ranges, fields(integer(size, 0)), step, fields)

        def weighted(weights: Operand) -> tuple[Any, ...]:
            place = advanced(weights, k * LANES).address
            w = load(np.float64, place, weights.code, LANES)
            count = spread(reduced, np.float64)
            present = select(w != 0.0, count, 0.0)
            sums = Sums(*_product(w, *found[:2]), w * count, present, count)
            return *sums[:2], _divisor(call, sums)

        if weights is None:
            total, rest, by = *found[:2], _divisor(call, found)
        else:
            total, rest, by = branch(
                weights.code == MISSING,
                lambda: (*found[:2], spread(shared, np.float64)),
                lambda: weighted(weights),
            )
        total, rest = _exact(total, *two_sum(total, rest))

        def put_quotient() -> None:
            quotient = select(by != 0.0, weight * total / select(by != 0.0, by, 1.0), 0.0)
            store(rounded(quotient, dtype), values + k * (LANES * itemsize))

        def put_parts() -> None:
            for j, part in enumerate((*_product(weight, total, rest), by)):
                store(part, values + j * (8 * WRITTEN) + k * BYTES)

        when(call.number(SECOND) == QUOTIENT, put_quotient)
        when(call.number(SECOND) != QUOTIENT, put_parts)

    for_each((size + (LANES - 1)) // LANES, following)
    none = integer(size, 0) != 0

    array = kept_of(call, plan, RESULT)

    def hand_over(j: Any) -> None:
        part = array._replace(address=array.address + plan.kept * 8 * j)
        write(np.float64, part, start, size, values + j * (8 * WRITTEN), raw, none)

    wanted = call.number(SECOND)
    when(wanted == QUOTIENT, lambda: write(dtype, array, start, size, values, raw, none))
    for_each(wanted, hand_over)
    return ()


def write_results(
    dtype: Any, alike: bool, call: Call, sums: Any, field: Any, start: Any, size: Any
) -> None:
    """Write results from number ``start`` on, given the address of their sums.

    Where weights are ``alike`` for all elements of a result, they have yet to be applied.
    """

    def chunk(k: Any) -> None:
        done = k * WRITTEN
        left = least(size - done, integer(start, WRITTEN))
        _write_some(dtype, alike, call, sums + done * 8, field, start + done, left)

    for_each((size + (WRITTEN - 1)) // WRITTEN, chunk)


def write_strip(
    dtype: Any, alike: bool, call: Call, sums: Any, field: Any, start: Any, size: Any
) -> None:
    """Write the results of a strip that was done at once, from column number ``start`` on."""
    packed = plan_of(call).packed
    write_results(dtype, alike, call, sums, field, start // packed, size // packed)


def write_all(dtype: Any, alike: bool, call: Call) -> None:
    """Write all results, where the sums of ranges, or of packed rows, are kept."""
    plan = plan_of(call)
    sums, field = call.number(LOST_TO), plan.pitch * 8
    count = plan.kept // plan.blocks

    def block(k: Any) -> None:
        first = sums + k * (plan.lines // plan.folded) * 8
        write_results(dtype, alike, call, first, field, k * count, count)

    when(plan.pitch != 0, lambda: for_each(plan.blocks, block))
