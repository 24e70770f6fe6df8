"""The loop over tiles: a whole array in, the sums that a reduction is made of out.

The logical array is ``rows`` rows of ``columns`` elements; a tile, at most one block, never
crosses a row.  Tiles are dealt out in at most ``GROUPS`` groups of neighbours; each group is
summed in order, and the groups are added in order.  Which thread ran a group cannot be seen in the
result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .block import BLOCK, TAIL, TAILS, Block, in_own_dtype, number
from .elements import SIGMOID, Formula
from .fused import two_sum
from .lanes import absolute, branch, integer, least, loop, real, select
from .memory import on_stack
from .operand import ABSENT, LINE, Operand
from .short_rows import BESIDE, read_across
from .staging import offset_of, read
from .view import LABELS, LOGITS, POS_WEIGHT, SMOOTHING, WEIGHTS, WHERE, Call

# A group has at least this many tiles, to amortise its overhead, and there are at most so many.
TILES, GROUPS = 4, 256

# Scratch memory of a thread, in rows of 8 bytes an element: for the operands as they are gathered,
# for weights as they are converted, and for results.
ROW = 8 * (BLOCK + BESIDE)
CONVERTED, RESULTS = 5, 7
SCRATCH = 9 * ROW


def from_a_line_on(address: int) -> int:
    """Return the address of the next line of the caches: scratch memory had better begin there."""
    return (address + LINE - 1) & -LINE


class Form(NamedTuple):
    """How the arrays of a call lie, and of which loss; there is code of its own for each choice.

    Where they are not ``staged``, logits, labels and results are used in place, and there is
    neither ``where`` nor ``pos_weight``.  Where they are not taken ``by_element``, there is one
    weight for each row of the view.
    """

    staged: bool
    by_element: bool
    formula: Formula = SIGMOID


class Sums(NamedTuple):
    """What tiles come to: the sum and what its rounding lost, and what it may be divided by."""

    numerator: Any
    lost: Any
    weight: Any  # the sum of the weights
    present: Any  # how many weights are not 0
    count: Any  # how many elements there are


def no_sums(example: Any) -> Sums:
    """Return the sums of nothing."""
    return Sums(*(real(example, 0.0) for _ in Sums._fields))


def add(one: Sums, two: Sums) -> Sums:
    """Return the sums of more tiles, in this order."""
    numerator, rest = two_sum(one.numerator, two.numerator)
    finite = absolute(numerator) < np.inf
    return Sums(
        numerator,
        select(finite, one.lost + (rest + two.lost), one.lost),
        one.weight + two.weight,
        one.present + two.present,
        one.count + two.count,
    )


def row_sums(numerator: Any, lost: Any, weight: Any, size: Any) -> Sums:
    """Return the sums of ``size`` elements of one weight."""
    present = select(weight != 0.0, size, real(size, 0.0))
    return Sums(numerator, lost, weight * size, present, size)


def tile_loop(call: Call, group: Any, tile: Callable[[Any, Any], Sums], head: Any = 0) -> Sums:
    """Return the sums of a group of tiles, given what one comes to: first element and size.

    Of a row, the first tile has ``head`` elements more than the others.
    """
    columns = call.columns
    in_row = (columns - head + (BLOCK - 1)) // BLOCK
    in_row = select(in_row > 1, in_row, integer(group, 1))
    tiles, groups = call.rows * in_row, call.groups
    first, stop = tiles * group // groups, tiles * (group + 1) // groups

    def following(k: Any, *sums: Any) -> tuple[Any, ...]:
        index = first + k
        row, place = index // in_row, index % in_row
        column = select(place > 0, head + place * BLOCK, integer(group, 0))
        size = least(head + (place + 1) * BLOCK, columns) - column
        return tuple(add(Sums(*sums), tile(row * columns + column, size)))

    return Sums(*loop(stop - first, tuple(no_sums(group)), following))


class Weights(NamedTuple):
    """What weighs and excludes the elements of a tile."""

    row: Any  # one number for all of them
    each: Operand
    keep: Operand


def open_weights(
    dtype: Any, form: Form, call: Call, start: Any, size: Any, scratch: Any, tails: Any
) -> Weights:
    """Return what weighs and excludes the elements of a tile."""
    array, place = call.array(WEIGHTS), scratch + WEIGHTS * ROW
    if form.by_element:
        each = read_across(array, start, size, place)
        each = in_own_dtype(dtype, each, size, scratch + CONVERTED * ROW, tails)
        keep = ABSENT
        if form.staged:
            keep = read(call.array(WHERE), start, size, scratch + WHERE * ROW)
        return Weights(real(size, 1.0), each, keep)

    def row_weight() -> Any:
        if form.staged:
            return number(read(array, start, integer(size, 1), place))
        return number(Operand(array.address + offset_of(array, start), array.code, array.itemsize))

    (weight,) = branch(array.address != 0, row_weight, lambda: (real(size, 1.0),))
    return Weights(weight, ABSENT, ABSENT)


def open_tile(
    dtype: Any, form: Form, call: Call, start: Any, size: Any, scratch: Any
) -> tuple[Block, Any]:
    """Return the operands of a tile, and the weight of all its elements."""
    one, tails = real(size, 1.0), on_stack(size, TAIL * TAILS)

    def taken(row: int) -> Operand:
        array = call.array(row)
        if form.staged:
            return read(array, start, size, scratch + row * ROW)
        itemsize = array.itemsize
        return Operand(array.address + start * itemsize, array.code, itemsize)

    weight, w, keep = open_weights(dtype, form, call, start, size, scratch, tails)
    q = ABSENT
    if form.by_element and form.staged:
        place = scratch + POS_WEIGHT * ROW
        q = read_across(call.array(POS_WEIGHT), start, size, place)
        q = in_own_dtype(dtype, q, size, scratch + (CONVERTED + 1) * ROW, tails)
    smoothing = call.number(SMOOTHING)
    rest = 1.0 - smoothing, 0.5 * smoothing, one, integer(size, 0), tails, smoothing != 0.0
    parameters = tuple(call.parameter(k) for k in range(len(form.formula.usual)))
    operands = size, taken(LOGITS), taken(LABELS), w, q, keep
    return Block(*operands, *rest, form.formula, parameters), weight
