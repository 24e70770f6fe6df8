"""The loss along some axes, where what is kept lies together: a column of the view is a result.

Vectors run over columns, and rows stream past the sums of a strip of them, which stay in the
first-level cache.  Logarithms are merged as in ``block``, down the columns, until the product would
overflow.  Results of few elements have exponentials with the digits that rounding to float32 lost,
and all else in float64, because their errors don't average out.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .axis_sums import BYTES, FIELD, for_each_strip, place_of_sums, vector, write_strip
from .axis_view import FIELDS, plan_of
from .block import SHORT, TINY, add_to, in_precision, merge
from .dtypes import FLOAT64, MISSING
from .elements import Element, linear_part, loss
from .fused import fma
from .lanes import (
    LANES,
    absolute,
    apart,
    before,
    branch,
    constant,
    differ,
    for_each,
    from_bits,
    integer,
    joined,
    least,
    loop,
    loop_while,
    select,
    split,
    spread,
    spread_like,
    to_dtype,
    to_float64,
    when,
)
from .memory import copy
from .operand import ABSENT, store
from .planes import ROWS, Plane, bunch_of, lanes_turned, load_apart, plane, turnable, turned
from .processor import uses_ymm
from .softplus import (
    COARSE,
    begin_exp_minus_abs_normal,
    begin_exp_minus_abs_wide,
    end_exp_minus_abs_normal,
    end_exp_minus_abs_wide,
    exp_minus_abs_and_rest,
    exp_minus_abs_wide,
    log1p_coarse,
    log1p_wide,
)
from .tiles import CONVERTED, ROW, Form, Sums, add, no_sums
from .view import LABELS, LOGITS, POS_WEIGHT, SMOOTHING, WEIGHTS, WHERE, Call

# Rows whose logarithms are merged before their product is used up: factors of at most 2 in
# float64, and where results are float64 few enough for their rounding not to show.
MERGED = {np.float32: 960, np.float64: 2 * LANES}
# Where the product less 1 lies: behind the fields of the sums.
PRODUCT = FIELDS


class _Way(NamedTuple):
    """How rows are added; there is code for each choice."""

    computed: Any  # the dtype that is computed in
    merged: bool  # whether logarithms are merged
    precise: bool = False  # whether exponentials keep the digits that float32 loses
    weighted: bool = False  # whether there are weights that vary within a result
    turned: bool = False  # whether all rows are added at once, turned round; without smoothing


def _place(state: Any, field: int, k: Any) -> Any:
    return state + field * FIELD + k * BYTES


@apart("")
def _add_rows(
    way: _Way,
    call: Call,
    start: Any,
    rows: Any,
    size: Any,
    state: Any,
    scratch: Any,
    first: Any,
    last: Any,
) -> tuple[Any, ...]:
    """Add rows to the sums of a strip, given the number of the first element.

    There are no sums before the ``first`` rows; with the ``last`` products are used up.
    """
    plan, lanes = plan_of(call), lanes_turned() if way.turned else LANES
    zero, place = constant(size, 0.0, np.float64, lanes), (start, rows, size)

    def opened(operand: int) -> Plane:
        if way.turned:
            return turned(way.computed, call.array(operand), start)
        return plane(call.array(operand), plan, *place, scratch + operand * ROW)

    smoothing = call.number(SMOOTHING)
    shared = 1.0 - smoothing, 0.5 * smoothing
    x, z = opened(LOGITS), opened(LABELS)
    if way.merged:
        begin, end = _merged_step(way, x, z, shared)
        fields = [PRODUCT, 0, 1] if way.computed is np.float64 else [PRODUCT, 0]
        most = ROWS if way.computed is np.float32 else ROWS // 2
    else:
        w = opened(WEIGHTS) if way.weighted else Plane(ABSENT)
        begin = _weighted_step(way, x, z, w, opened(WHERE), opened(POS_WEIGHT), shared)

        def end(_rows: int, *sums: Any) -> tuple[Any, ...]:
            return sums

        fields, most = [*range(FIELDS)], ROWS // 2

    def add_column(k: Any) -> None:
        # Turned round, the last vector begins so early that there are elements for all lanes.
        column = least(k * lanes, size - lanes) if way.turned else k * lanes

        def place_of(field: int) -> Any:
            return state + field * FIELD + column * 8

        sums = branch(
            first,
            lambda: (zero,) * len(fields),
            lambda: tuple(vector(place_of(field), lanes) for field in fields),
        )
        done, count = integer(size, 0), most
        while count:
            whole = (rows - done) // count

            def begun(j: Any, *sums: Any, count: int = count, done: Any = done) -> Any:
                row = done + j * count
                for source in (x, z):
                    for ahead in range(0, count, LANES // lanes):
                        source.ask(row + ahead, k)
                return begin(count, row, column, *sums)

            def in_turn(j: Any, *sums: Any, count: int = count, begun: Any = begun) -> Any:
                return end(count, *begun(j, *sums))

            def staggered(j: Any, *pending: Any, count: int = count, begun: Any = begun) -> Any:
                return begun(j + 1, *end(count, *pending))

            if way.turned and uses_ymm() and count == most:
                # A step is begun before the one above is ended, lest each be waited for; of rows
                # that are turned there are enough for one.
                pending = begun(integer(size, 0), *sums)
                sums = end(count, *loop(whole - 1, pending, staggered))
            else:
                sums = loop(whole, sums, in_turn)
            done, count = done + whole * count, count // 2
        if way.merged and not way.turned:
            sums = branch(last, lambda: _used_up(way.computed, zero, *sums), lambda: sums)
            if 1 not in fields:
                when(last, lambda: store(zero, place_of(1)))
        for field, value in zip(fields, sums, strict=True):
            store(value, place_of(field))

    for_each((size + (lanes - 1)) // lanes, add_column)
    if way.turned:
        # Side by side in one loop, the logarithms of few rows are not waited for.
        _use_up(size, state)
    return ()


def _use_up(size: Any, state: Any) -> None:
    """Add the logarithms of products of float32 rows to the sums of a strip, and end it."""
    zero = constant(size, 0.0, np.float64)

    def following(k: Any) -> None:
        u, total = (vector(_place(state, field, k)) for field in (PRODUCT, 0))
        _, total = _used_up(np.float32, zero, u, total)
        store(total, _place(state, 0, k))
        store(zero, _place(state, 1, k))

    for_each((size + (LANES - 1)) // LANES, following)


def _merged_step(way: _Way, x: Plane, z: Plane, shared: Any) -> tuple[Any, Any]:
    """Return what adds rows to product, sum, and what that lost in float64, of a vector.

    That is what begins a step, and what ends it, which takes the exponentials.
    """
    computed = way.computed
    smooth = not way.turned and shared[1] != 0.0
    wide = not way.turned and smooth | (z.operand.code == FLOAT64)

    # All rows in one vector: side by side, they keep the processor busier than one after the other.
    def linear(first: Any, column: Any, rows: int, logits: Any) -> tuple[Any]:
        def compute(dtype: Any) -> tuple[Any]:
            a, b = (spread_like(number, dtype, logits) for number in shared)
            labels = joined(z.load_each(dtype, first, rows, column))
            element = Element(dtype, to_dtype(logits, dtype), labels, a, b, smooth)
            return (to_float64(linear_part(element)),)

        return in_precision(computed, wide, compute) if way.precise else compute(computed)

    def begin(
        rows: int, first: Any, column: Any, u: Any, total: Any, *lost: Any
    ) -> tuple[Any, ...]:
        logits = joined(x.load_each(computed, first, rows, column, floats_only=True))
        rest = lost[0] if lost else None
        for value in split(linear(first, column, rows, logits)[0], rows):
            total, rest = add_to(total, rest, computed, value)
        sums = (total, rest) if lost else (total,)
        if way.precise:
            return u, *sums, *begin_exp_minus_abs_wide(logits)
        return u, *sums, *begin_exp_minus_abs_normal(computed, logits)

    def end(rows: int, u: Any, *given: Any) -> tuple[Any, ...]:
        *sums, r, exponent = given
        if way.precise:
            factors = split(end_exp_minus_abs_wide(r, exponent), rows)
        else:
            factors = split(end_exp_minus_abs_normal(computed, r, exponent), rows)
        while len(factors) > 1:
            factors = [merge(*pair) for pair in zip(factors[::2], factors[1::2], strict=True)]
        return merge(u, to_float64(factors[0])), *sums

    return begin, end


def _weighted_step(
    way: _Way,
    x: Plane,
    z: Plane,
    w: Plane,
    keep: Plane,
    q: Plane,
    shared: Any,
) -> Any:
    """Return what adds rows to the fields of the sums of a vector."""
    computed = way.computed
    # The dtype of losses, and that of their logarithms.
    wide, narrow = (np.float64, COARSE) if way.precise else (computed, computed)

    def add_row(sums: Sums, row: Any, column: Any, flags: Any, *given: Any) -> Sums:
        logits, labels, weights = (select(flags, v, 0.0) for v in given)
        a, b = (spread(number, wide) for number in shared)

        def positives() -> Any:
            return select(flags, q.load_each(wide, row, 1, column)[0], 0.0)

        def losses() -> tuple[Any]:
            has_q, x = q.operand.code != MISSING, to_dtype(logits, wide)
            element = Element(wide, x, labels, a, b, shared[1] != 0.0, has_q, positives, narrow)
            if way.precise:
                return (loss(element, exp_minus_abs_wide(logits), None),)
            return (loss(element, *exp_minus_abs_and_rest(computed, logits)),)

        (values,) = branch(z.operand.code == MISSING, lambda: (to_dtype(logits, wide),), losses)
        values = to_float64(values)
        if computed is np.float32:
            total, lost = fma(weights, values, sums.numerator), sums.lost
        else:
            product = weights * values
            rest = sums.lost + fma(weights, values, -product)
            total, lost = add_to(sums.numerator, rest, computed, product)
        counted = to_float64(select(flags, constant(row, 1.0, computed), 0.0))
        present = select(weights != 0.0, counted, 0.0)
        counts = sums.present + present, sums.count + counted
        return Sums(total, lost, sums.weight + weights, *counts)

    def step(rows: int, first: Any, column: Any, *sums: Any) -> tuple[Any, ...]:
        place = first, rows, column
        flags = [mask != 0.0 for mask in keep.load_each(computed, *place, flags_only=True)]
        logits, labels = x.load_each(computed, *place, floats_only=True), z.load_each(wide, *place)
        weights = w.load_each(np.float64, *place)
        for j, given in enumerate(zip(flags, logits, labels, weights, strict=True)):
            sums = tuple(add_row(Sums(*sums), first + j, column, *given))
        return sums

    return step


def _used_up(computed: Any, zero: Any, u: Any, total: Any, *lost: Any) -> tuple[Any, ...]:
    """Add the logarithms of products to sums; return new products and the sums."""
    logarithm = (log1p_coarse if computed is np.float32 else log1p_wide)(u)
    total, rest = add_to(total, lost[0] if lost else None, computed, logarithm)
    return (zero, total, rest) if lost else (zero, total)


@apart("")
def _add_range(
    dtype: Any, way: _Way, call: Call, part: Any, start: Any, size: Any, state: Any, scratch: Any
) -> tuple[Any, ...]:
    """Add up a range of the rows of a strip."""
    plan = plan_of(call)
    block, column = start // plan.lines, start % plan.lines
    # The number of the strip's first element.
    base = block * (plan.length * plan.lines + plan.rest) + column
    first = plan.length * part // plan.ranges
    stop = plan.length * (part + 1) // plan.ranges

    operands = [LOGITS, LABELS] if way.merged else [LOGITS, LABELS, WEIGHTS, WHERE, POS_WEIGHT]
    arrays = [call.array(operand) for operand in operands]

    def bunch(row: Any, since: Any) -> tuple[Any, Any]:
        place = row * plan.lines + base
        evenly = least(stop - row, plan.inner - row % plan.inner)
        rows = bunch_of(way.computed, plan, place, evenly, size, arrays)
        if way.merged:
            rows = least(rows, MERGED[way.computed] - since)
        since, following = since + rows, row + rows
        full = (since > MERGED[way.computed] - LANES) | (following == stop)
        _add_rows(way, call, place, rows, size, state, scratch, row == first, full)
        return following, select(full, integer(row, 0), since)

    def in_bunches() -> None:
        loop_while((first, integer(size, 0)), lambda row, _: row < stop, bunch)

    if way.merged and way.precise:
        place = first * plan.lines + base, stop - first, size
        fits = call.number(SMOOTHING) == 0.0
        for array in arrays:
            fits = fits & turnable(way.computed, array, plan, *place)
        # These are the first rows and the last.
        at_once = way._replace(turned=True), call, *place, state, scratch, True, True
        when(fits, lambda: _add_rows(*at_once))
        when(fits == 0, in_bunches)
    else:
        in_bunches()
    left = least(plan.rest - column, size)

    def rest() -> None:
        # Of the last vector some lanes are columns that have no element here.
        last = least(left, size - 1) // LANES
        places = [_place(state, field, last) for field in range(FIELDS + 1)]
        before_it = [vector(place) for place in places]
        place, one = plan.length * plan.lines + base, integer(size, 1)
        _add_rows(way, call, place, one, left, state, scratch, one == 0, one == 1)
        added = before(left - last * LANES, LANES)
        for place, value in zip(places, before_it, strict=True):
            store(select(added, vector(place), value), place)

    when((left > 0) & (part == plan.ranges - 1), rest)
    return ()


@apart("f")
def _doubtful(size: Any, state: Any) -> tuple[Any]:
    """Return how many vectors have a sum that is not finite, or too small to be trusted.

    It is 0 where nothing counts.
    """
    zero = constant(size, 0.0, np.float64)

    def following(k: Any, count: Any) -> tuple[Any]:
        magnitude = absolute(vector(_place(state, 0, k)))
        good = (magnitude == 0.0) | ((magnitude > TINY) & (magnitude < np.inf))
        bad = select(good, zero, 1.0)
        bad = select(before(size - k * LANES, LANES), bad, 0.0)
        return (select(differ(bad, zero), count + 1.0, count),)

    return loop((size + (LANES - 1)) // LANES, (0.0 * to_float64(size),), following)


@apart("")
def _fold(count: int, folded: Any, size: Any, state: Any) -> tuple[Any, ...]:
    """Add up neighbours in the first ``count`` fields of the sums of a strip, in place."""

    def fold(lanes: int, first: Any, results: Any) -> None:
        def following(k: Any) -> None:
            column = (first + k * lanes) * folded

            def sums(j: Any) -> Sums:
                fields = []
                for field in range(count):
                    place = state + field * FIELD + (column + j) * 8
                    places = [place + folded * (8 * lane) for lane in range(lanes)]
                    fields.append(from_bits(load_apart(places, 8)))
                zero = fields[0] * 0.0
                return Sums(*fields, *[zero] * (FIELDS - count))

            def more(j: Any, *found: Any) -> tuple[Any, ...]:
                return tuple(add(Sums(*found), sums(j + 1)))

            found = loop(folded - 1, tuple(sums(integer(k, 0))), more)
            for field in range(count):
                store(found[field], state + field * FIELD + (first + k * lanes) * 8)

        for_each(results, following)

    results = size // folded
    whole = results // LANES
    fold(LANES, integer(size, 0), whole)
    fold(1, whole * LANES, results - whole * LANES)
    return ()


def totals_across(dtype: Any, form: Form, call: Call, group: Any, scratch: Any) -> Sums:
    """Add up the losses of a group of strips of columns."""
    plan = plan_of(call)
    state = scratch + CONVERTED * ROW
    exact = _Way(np.float64, merged=False, weighted=form.by_element)
    is_short = plan.reduced < SHORT

    def work(part: Any, line: Any, lines: Any) -> None:
        def by(way: _Way) -> tuple[Any, ...]:
            _add_range(dtype, way, call, part, line, lines, state, scratch)
            return ()

        def checked(way: _Way) -> tuple[Any, ...]:
            by(way)
            when(_doubtful(lines, state)[0] != 0.0, lambda: by(exact))
            return ()

        wide = call.array(LABELS).code == FLOAT64
        if form.by_element:
            if dtype is np.float32:
                wide = wide | (call.array(POS_WEIGHT).code == FLOAT64) | is_short
                way = exact._replace(computed=dtype)
                branch(wide, lambda: checked(way._replace(precise=True)), lambda: checked(way))
            else:
                by(exact)
        elif dtype is np.float32:
            branch(
                is_short | wide,
                lambda: checked(_Way(dtype, merged=True, precise=True)),
                lambda: checked(_Way(dtype, merged=True)),
            )
        else:
            branch(is_short, lambda: by(exact), lambda: checked(_Way(dtype, merged=True)))
        count = FIELDS if form.by_element else 2
        when(plan.folded > 1, lambda: _fold(count, plan.folded, lines, state))
        start, size = line // plan.folded, lines // plan.folded
        place, field = place_of_sums(call, plan, part, start, state)
        direct = plan.pitch == 0
        alike = not form.by_element

        def keep() -> None:
            for j in range(FIELDS):
                copy(state + j * FIELD, place + field * j, size * 8)

        when(direct, lambda: write_strip(dtype, alike, call, place, field, start, size))
        when(direct == 0, keep)

    for_each_strip(call, plan, group, work)
    return no_sums(group)
