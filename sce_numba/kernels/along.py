"""The loss along some axes, where what is reduced lies together: a row of the view is a result."""

from __future__ import annotations

from functools import partial
from typing import Any

from .axis_sums import for_each_strip, place_of_sums, write_strip
from .axis_view import plan_of
from .block import BLOCK
from .lanes import for_each, least, loop, when
from .loss import tile_totals
from .memory import put
from .tiles import RESULTS, ROW, Form, Sums, add, no_sums
from .view import Call


def totals_along(dtype: Any, form: Form, call: Call, group: Any, scratch: Any) -> Sums:
    """Add up the losses of a group of rows."""
    plan = plan_of(call)
    strip = scratch + RESULTS * ROW
    tile = partial(tile_totals, dtype, form, call, scratch)
    tiles = (plan.length + (BLOCK - 1)) // BLOCK

    def work(part: Any, start: Any, size: Any) -> None:
        place, field = place_of_sums(call, plan, part, start, strip)
        first, stop = tiles * part // plan.ranges, tiles * (part + 1) // plan.ranges

        def row(k: Any) -> None:
            def following(j: Any, *sums: Any) -> tuple[Any, ...]:
                column = (first + j) * BLOCK
                count = least(plan.length - column, BLOCK)
                return tuple(add(Sums(*sums), tile((start + k) * plan.length + column, count)))

            for j, value in enumerate(loop(stop - first, tuple(no_sums(k)), following)):
                put(place + field * j + k * 8, 0, value)

        for_each(size, row)
        direct = plan.pitch == 0
        when(direct, lambda: write_strip(dtype, False, call, place, field, start, size))

    for_each_strip(call, plan, group, work)
    return no_sums(group)
