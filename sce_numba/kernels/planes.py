"""Some rows of a strip of columns, ready to be read in vectors: where they lie, or copied.

Rows whose columns lie together are used in place.  Where it is the rows' neighbours in a column
that lie together, squares of 16 by 16 elements are read and turned round on their way to scratch
memory, or, of the usual dtype, as they are added up.  All else is gathered row by row.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir

from .axis_view import GATHERED, TOGETHER, Plan
from .block import BLOCK
from .lanes import (
    LANES,
    Lanes,
    apart,
    branch,
    for_each,
    from_bits,
    integer,
    lanes_of,
    least,
    select,
    when,
)
from .memory import at, hidden, pointer
from .operand import LINE, Operand, load_each, own_format
from .processor import uses_ymm
from .staging import address_in_place, end_of, gather, offset_of
from .streaming import AHEAD, prefetch_line
from .view import Array

# Rows of a step, at most; and bytes from one line of memory to the next that goes where it does in
# a cache of the first level.
ROWS, WAY = 4, 4096


def bunch_of(dtype: Any, plan: Plan, start: Any, rows: Any, size: Any, arrays: list[Array]) -> Any:
    """Return how many of some rows are read at a time.

    Of long ones that lie in place there are as many as two steps have, lest so many streams of
    memory be read at once, or one, if all of these compete for the same lines of a cache; of short
    ones enough for a block; of rows that are copied no more than fit one.
    """
    lanes, block, steps = (integer(size, n) for n in (LANES, BLOCK, ROWS * TOGETHER))
    if dtype is np.float32:
        between = arrays[0].stride(plan.first - 1) * plan.packed
        steps = select((between & (WAY - 1)) == 0, steps, steps * 2)
    most = select(block // lanes > size, block // size, lanes)
    most = least(rows, least(most, steps // size))
    in_place = most > 0
    for array in arrays:
        there = (array.address == 0) | (_rows_in_place(array, plan, start, most, size) != 0)
        in_place = in_place & there
    return select(in_place, most, least(rows, least(lanes, block // plan.width)))


def _rows_in_place(array: Array, plan: Plan, start: Any, rows: Any, size: Any) -> Any:
    """Return the address of rows that can be read where they lie, in whole vectors; else 0."""
    place = address_in_place(array, start, size)
    vectors = (size + (LANES - 1)) // LANES
    step = array.stride(plan.first - 1) * plan.packed
    last = place + select(step > 0, step, integer(step, 0)) * (rows - 1)
    # Behind the array there may be no memory.
    there = (size & (LANES - 1)) == 0
    there = there | (last + vectors * array.itemsize * LANES < end_of(array) + 1)
    return select(there, place, integer(size, 0))


def lanes_turned() -> int:
    """Return how many columns are turned round at once: as many as there are registers for."""
    return LANES // 2 if uses_ymm() else LANES


class Plane(NamedTuple):
    """Rows of elements, so many bytes apart; and what memory to ask for while they are read.

    That is the line at ``next`` and those ``next_row`` and, for 16 columns, ``next_vector`` bytes
    apart.
    """

    operand: Operand
    step: Any = 0
    next: Any = 0
    next_row: Any = 0
    next_vector: Any = 0
    in_place: Any = 1
    column: Any = None  # bytes from one column to the next, where rows are turned round

    def load_each(
        self, dtype: Any, first: Any, rows: int, column: Any, **options: Any
    ) -> list[Any]:
        """Return a vector of each of some rows, from a column on."""
        if self.column is not None:
            return self._turned(first, rows, column)
        place = self.operand.address + first * self.step + column * self.operand.itemsize
        places = [place + j * self.step for j in range(rows)]
        return load_each(dtype, places, self.operand.code, LANES, **options)

    def _turned(self, first: Any, rows: int, column: Any) -> list[Any]:
        # Of fewer than four rows those before them are read as well.
        place = self.operand.address + (first - (ROWS - rows)) * self.step + column * self.column
        # Else LLVM makes the addresses of all columns before each strip of them, more than fit into
        # registers, and rows of ten take an eighth more time.
        place = hidden(place)
        count = lanes_turned()
        lines = [
            load_apart([place + (k + j) * self.column for k in range(0, count, 4)], 4, ROWS)
            for j in range(4)
        ]
        return [from_bits(row) for row in _turned(lines)[-rows:]]

    def ask(self, row: Any, vector: Any) -> None:
        """Ask for memory that is read after these rows.

        In the first level rows a power of two apart would take each other's places; but what is
        copied is read more than once.
        """
        place = self.next + row * self.next_row + vector * self.next_vector
        is_wide = self.operand.itemsize * LANES > LINE

        def ask(level: int) -> None:
            prefetch_line(place, level)
            when(is_wide, lambda: prefetch_line(place + LINE, level))

        when(self.in_place != 0, lambda: ask(2))
        when(self.in_place == 0, lambda: ask(1))


def _turned(rows: list[Any]) -> list[Any]:
    """Return 4 or 8 columns of 16 rows, or 4 of 8 rows, given in as many vectors.

    Each vector has one of four neighbouring rows, and those 4, 8 and 12 rows below it, of which the
    next four have what does not fit.  Pairs of elements are exchanged between two vectors, then
    pairs of pairs, then quarters of a vector: first what processors do quickly inside a quarter,
    then what moves quarters as a whole.
    """
    quads = []
    for a, b, c, d in zip(rows[::4], rows[1::4], rows[2::4], rows[3::4], strict=True):
        (a, b), (c, d) = _exchanged(a, b, _ONES), _exchanged(c, d, _ONES)
        quads.append([*_exchanged(a, c, _PAIRS), *_exchanged(b, d, _PAIRS)])
    if len(quads) == 1:
        return quads[0]
    pairs = [_exchanged(a, b, _QUARTERS) for a, b in zip(*quads, strict=True)]
    return [pair[k] for k in range(2) for pair in pairs]


# Which lanes of two vectors, one after the other, the first of two new vectors takes; the second
# takes those that are ``distance`` behind.
_ONES = [4 * q + k + LANES * two for q in range(4) for k in range(2) for two in range(2)], 2
_PAIRS = [4 * q + k + LANES * two for q in range(4) for two in range(2) for k in range(2)], 2
_QUARTERS = [8 * q + k + LANES * two for two in range(2) for q in range(2) for k in range(4)], 4


def _exchanged(one: Any, two: Any, how: tuple[list[int], int]) -> list[Any]:
    first, distance = how
    found: list[Any] = []
    count = lanes_of(one)
    # Of shorter vectors, which quarters there are.
    first = [lane % LANES + lane // LANES * count for lane in first if lane % LANES < count]
    for lanes in (first, [lane + distance for lane in first]):
        if not isinstance(one, Lanes):
            found.append(np.concatenate([one, two])[lanes])
            continue
        numbers = [ir.Constant(ir.IntType(32), lane) for lane in lanes]
        mask = ir.Constant(ir.VectorType(ir.IntType(32), count), numbers)
        found.append(Lanes(one.builder, one.builder.shuffle_vector(one.value, two.value, mask)))
    return found


def load_apart(addresses: list[Any], size: int, count: int = 1) -> Any:
    """Return a vector of elements of ``size`` bytes at some addresses, as many at each."""
    if not isinstance(addresses[0], Lanes):
        return np.concatenate([at(address, count, f"i{size}") for address in addresses])
    builder, kind = addresses[0].builder, ir.VectorType(ir.IntType(8 * size), count)
    parts = [builder.load(pointer(address, kind), align=1) for address in addresses]
    while len(parts) > 1:
        lanes = [ir.Constant(ir.IntType(32), lane) for lane in range(2 * parts[0].type.count)]
        mask = ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes)
        parts = [
            builder.shuffle_vector(one, two, mask)
            for one, two in zip(parts[::2], parts[1::2], strict=True)
        ]
    return Lanes(builder, parts[0])


def _store(value: Any, address: Any, size: int) -> None:
    if not isinstance(value, Lanes):
        at(address, LANES, f"i{size}")[:] = value
        return
    value.builder.store(value.value, pointer(address, value.value.type), align=1)


@apart("")
def _turn(
    size: int, plan: Plan, squares: Any, rows: Any, source: Any, step: Any, target: Any
) -> tuple[Any, ...]:
    """Copy squares of elements of ``size`` bytes; columns are ``step`` bytes apart."""
    width = plan.width

    def part(count: int, first: Any, to: Any) -> None:
        """Copy ``count`` rows."""
        beside = LANES // count
        vectors = [
            load_apart([first + step * (start + j + 4 * k) for k in range(beside)], size, count)
            for start in range(0, LANES, 4 * beside)
            for j in range(4)
        ]
        for row, value in enumerate(_turned(vectors)):
            _store(value, to + width * row * size, size)

    def square(k: Any) -> None:
        first, to = source + k * (step * LANES), target + k * (LANES * size)

        def eight(j: Any) -> None:
            part(8, first + j * (8 * size), to + width * j * (8 * size))

        whole = (rows + 3) // 8
        for_each(whole, eight)
        done = whole * 8
        when(done < rows, lambda: part(4, first + done * size, to + width * done * size))

    for_each(squares, square)
    return ()


@apart("iii")
def _copy_rows(
    array: Array, plan: Plan, start: Any, rows: Any, size: Any, target: Any
) -> tuple[Any, ...]:
    """Copy rows of a strip to scratch memory, a strip's width apart; return what comes next."""
    last, itemsize = plan.first - 1, array.itemsize
    step, above = array.stride(array.rank - 1), array.stride(last)
    run = array.length(array.rank - 1)
    column = start % run
    # A square reaches beyond what it needs: so far there must be elements behind it.
    there = (column + size <= run) & (plan.packed == 1) & array.is_plain
    turns = there & (above == itemsize) & (step >= itemsize) & (rows > 1)
    turns = turns & (plan.width == GATHERED)
    spare = run - column - 2 * LANES
    squares = select(spare >= 0, spare // LANES + 1, integer(size, 0))
    squares = select(squares * LANES < size, squares, (size + (LANES - 1)) // LANES)
    squares = select(turns, squares, integer(size, 0))
    first = array.address + offset_of(array, start)
    for width in (1, 2, 4, 8):
        chosen = (itemsize == width) & (squares > 0)
        when(chosen, partial(_turn, width, plan, squares, rows, first, step, target))
    done = squares * LANES
    # The rows that are copied after so many others: of this strip, or the first ones of the next.
    after = least(plan.length, integer(size, LANES))
    first_row = start % (plan.length * plan.lines + plan.rest) // plan.lines

    def row(k: Any) -> None:
        to = target + (k * plan.width + done) * itemsize
        place = start + k * plan.lines
        wraps = first_row + k + after > plan.length - 1
        following = place + select(
            wraps, (after - plan.length) * plan.lines + size, after * plan.lines
        )
        ahead = offset_of(array, following) - offset_of(array, place)
        gather(array, place + done, size - done, to, ahead)

    when(done < size, lambda: for_each(rows, row))
    # The rest of the columns, or the next strip of whole ones.
    line = itemsize * LANES
    vectors = integer(itemsize, LANES)
    return branch(
        plan.length > LANES,
        lambda: (first + line, step * vectors, step),
        lambda: (first + plan.width * step, line * vectors, line),
    )


@apart("iiiiiiii")
def _plane(
    array: Array, plan: Plan, start: Any, rows: Any, size: Any, scratch: Any
) -> tuple[Any, ...]:
    zero = integer(size, 0)

    def given() -> tuple[Any, ...]:
        place = _rows_in_place(array, plan, start, rows, size)

        def copied() -> tuple[Any, ...]:
            following = _copy_rows(array, plan, start, rows, size, scratch)
            return scratch, array.itemsize * plan.width, *following, zero

        step = array.stride(plan.first - 1) * plan.packed
        line = array.itemsize * LANES
        there = place, step, place + step * rows, step, line, integer(size, 1)
        return branch(place != 0, lambda: there, copied)

    address, *rest = branch(array.address == 0, lambda: (zero,) * 6, given)
    return address, array.code, array.itemsize, *rest


def plane(array: Array, plan: Plan, start: Any, rows: Any, size: Any, scratch: Any) -> Plane:
    """Return ``rows`` rows of ``size`` elements, of which element ``start`` of the view is first.

    A row that is read in whole vectors may have anything behind its last element.
    """
    address, code, itemsize, *rest = _plane(array, plan, start, rows, size, scratch)
    return Plane(Operand(address, code, itemsize), *rest)


def turned(dtype: Any, array: Array, start: Any) -> Plane:
    """Return rows as ``plane`` does, that are turned round as they are read.

    They must be ``turnable``.
    """
    code, itemsize = own_format(dtype)
    address, step = array.address + offset_of(array, start), array.stride(array.rank - 1)
    lanes = lanes_turned()
    ahead = address + AHEAD, LINE * lanes // LANES, step * lanes
    return Plane(Operand(address, code, itemsize), itemsize, *ahead, column=step)


def turnable(dtype: Any, array: Array, plan: Plan, start: Any, rows: Any, size: Any) -> Any:
    """Tell whether neighbours in a column lie together, in ``dtype``, and enough of both."""
    code, itemsize = own_format(dtype)
    run, above = array.length(array.rank - 1), array.stride(plan.first - 1)
    fits = (array.address != 0) & (array.code == code) & array.is_plain & (above == itemsize)
    fits = fits & (plan.packed == 1) & (plan.inner == plan.length) & (start % run + size <= run)
    return fits & (rows >= ROWS) & (size >= LANES)
