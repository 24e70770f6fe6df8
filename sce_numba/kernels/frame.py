"""Calls from code that users compile: all that does not depend on types, compiled once for all.

What is compiled into each function of a user is compiled again for every rank, dtype and layout.
So that code does no more than to write a *frame* on its stack and to call one of the functions
below by its name (see ``njit``).  A frame has the words of a call (see ``view``), then those named
here, then a row for each array, then room for what is made of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic, register_jitable

from . import axis_view, divisor, flatten
from .axis_sums import QUOTIENT
from .axis_view import FIELDS, PITCH, RANGES, axis_words, flatten_axes
from .compile import OPTIONS, ByNumba
from .divisor import SUM, is_known
from .dtypes import FLOAT32, FLOAT64, MISSING
from .flatten import words_of
from .jobs import type_of_function
from .lanes import Lanes, branch, call_llvm, to_float64
from .memory import pointer
from .view import (
    ADDRESSES,
    BY_ELEMENT,
    CODE,
    COLUMNS,
    GRADIENT,
    GROUPS,
    ITEMSIZE,
    LABELS,
    LAYOUT,
    LOGITS,
    OPERANDS,
    PLAIN,
    POS_WEIGHT,
    RANK,
    REDUCTION,
    RESULT,
    ROWS,
    SCALE,
    SECOND,
    SHAPE,
    SMOOTHING,
    STRIDES,
    WEIGHT,
    WEIGHTS,
    WHERE,
    WORDS,
)

# Words of a frame: what doesn't fit, 0 if all does, or the row of an array, or one of these words;
# the result; how many numbers of memory a reduction along axes needs; the dtype that is computed
# in; how many numbers the formula is given, -1 for none, and where; how many axes are named, -1 for
# all of them, and where; whether they stay.
MISFIT, VALUE, COUNT, COMPUTED = range(WORDS, WORDS + 4)
PARAMETERS, GIVEN, AXES, TWICE, NAMED, KEEPDIMS = range(WORDS + 4, WORDS + 10)
# The address of the kernel that was chosen, and those of the ones to choose from: where weights are
# taken by row and by element, of the loss and of its divisor, or along and across.
CHOSEN, KERNELS, KERNEL_COUNT = WORDS + 10, WORDS + 11, 4
# Rows of arrays, as those of a layout, with rank and the address of lengths and byte strides.  In
# the place of a weight that is one for all elements is infinity if there is none.
ARRAYS, NDIM, LENGTHS, ROW = KERNELS + KERNEL_COUNT, 3, 4, 5
ROOM = ARRAYS + OPERANDS * ROW


def frame_words(rank: int) -> int:
    """Return how many words a frame may take."""
    return ROOM + 4 * rank + OPERANDS * (STRIDES + rank) + rank + 2 + axis_words(rank)


# Whatever the options of the caller: no fast-math flags come from there, and, as functions that
# are called inherit no `parallel`, no parallel region begins here.
CALLED = OPTIONS | {"forceinline": False}
_jitable = register_jitable(**CALLED)
for _function in (
    flatten.groups_of,
    flatten.join_axes,
    flatten.write_rows,
    flatten.lies_in_order,
    flatten.flatten,
    flatten.words_of,
    axis_view.is_along,
    axis_view.lies_without_gaps,
    axis_view.move_slower,
    axis_view.whole_rows,
    axis_view.packed_rows,
    axis_view.fold_fastest,
    axis_view.run_of,
    axis_view.flatten_axes,
    axis_view.axis_words,
    is_known,
    frame_words,
):
    _jitable(_function)


def _as_lanes(builder: Any, values: Any) -> list[Lanes]:
    return [Lanes(builder, value) for value in values]


@intrinsic
def _pointer(_typing, address):
    def codegen(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.int64)(types.int64), codegen


@intrinsic
def _word(_typing, number):
    """Return the bits of a float64 as a whole number."""

    def codegen(_context, builder, _signature, arguments):
        return builder.bitcast(arguments[0], ir.IntType(64))

    return types.int64(types.float64), codegen


@intrinsic
def _real(_typing, word):
    """Return the float64 that has the bits."""

    def codegen(_context, builder, _signature, arguments):
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(types.int64), codegen


@intrinsic
def _real_at(_typing, address, code):
    """Return the number at an address, float32 or float64 by the code of its dtype."""

    def codegen(_context, builder, _signature, arguments):
        address, code = _as_lanes(builder, arguments)

        def read(kind: ir.Type) -> tuple[Lanes]:
            return (to_float64(Lanes(builder, builder.load(pointer(address, kind), align=1))),)

        single, double = ir.FloatType(), ir.DoubleType()
        return branch(code == FLOAT32, lambda: read(single), lambda: read(double))[0].value

    return types.float64(types.int64, types.int64), codegen


@intrinsic
def _clear(_typing, address, size):
    """Put 0 into so many bytes."""

    def codegen(context, builder, _signature, arguments):
        address, size = _as_lanes(builder, arguments)
        zero, certain = ir.Constant(ir.IntType(8), 0), ir.Constant(ir.IntType(1), 0)
        given = [pointer(address, ir.IntType(8)), zero, size.value, certain]
        call_llvm(builder, "llvm.memset.p0i8.i64", ir.VoidType(), given)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def _run(_typing, kernel, call):
    """Call a kernel by its address."""

    def codegen(_context, builder, _signature, arguments):
        kind = type_of_function("whole").as_pointer()
        return builder.call(builder.inttoptr(arguments[0], kind), arguments[1:])

    return types.float64(types.int64, types.int64), codegen


@intrinsic
def _divisor(_typing, reduction, weight, sum_of_weights, present, count):
    """Return what a reduction divides by (see ``divisor``)."""

    def codegen(_context, builder, _signature, arguments):
        return divisor.divisor(*_as_lanes(builder, arguments)).value

    return types.float64(types.int64, *[types.float64] * 4), codegen


@_jitable
def _words_at(address, count):
    return carray(_pointer(address), count)


@_jitable
def _array(frame, row):
    """Return lengths and byte strides of an array."""
    place = ARRAYS + ROW * row
    rank, lengths = frame[place + NDIM], frame[place + LENGTHS]
    return _words_at(lengths, rank), _words_at(lengths + 8 * rank, rank)


@_jitable
def _size(lengths):
    """Return the number of elements."""
    size = 1
    for axis in range(len(lengths)):
        size *= lengths[axis]
    return size


@_jitable
def _settle_weight(frame):
    """Leave a finite weight of all elements out of the arrays; tell whether it is one.

    As in `arguments.as_weights`: it can be applied to the sum.
    """
    is_one = np.isfinite(_real(frame[WEIGHT]))
    if is_one:
        frame[ADDRESSES + WEIGHTS] = 0
    else:
        frame[WEIGHT] = _word(1.0)
    return is_one


@_jitable
def _misfit(frame, reduced):
    """Return what of shapes and numbers doesn't fit; put 1 for each axis that is reduced."""
    lengths, _ = _array(frame, LOGITS)
    rank = len(lengths)
    for row in (LABELS, WEIGHTS):
        own, _ = _array(frame, row)
        if frame[ARRAYS + ROW * row + CODE] == MISSING or (row == WEIGHTS and len(own) == 0):
            continue
        if len(own) != rank:
            return row
        for axis in range(rank):
            if own[axis] != lengths[axis] and (row == LABELS or own[axis] != 1):
                return row
    if not 0.0 <= _real(frame[SMOOTHING]) <= 1.0:
        return SMOOTHING
    reduced[:] = 1 if frame[AXES] < 0 else 0
    named = _words_at(frame[NAMED], max(frame[AXES], 0))
    for k in range(len(named)):
        axis = named[k] + rank if named[k] < 0 else named[k]
        if not 0 <= axis < rank:
            return AXES
        if reduced[axis] != 0:
            return TWICE
        reduced[axis] = 1
    return 0


@_jitable
def _enter(frame, lengths, table):
    """Describe arrays in the table, broadcast to the logits; return which of them can't be so."""
    table[:] = 0
    for row in (LOGITS, LABELS, WEIGHTS, POS_WEIGHT, WHERE, RESULT, GRADIENT):
        place = ARRAYS + ROW * row
        table[row, CODE] = frame[place + CODE]
        if row == WEIGHTS and _settle_weight(frame):
            table[row, CODE] = MISSING
        if table[row, CODE] == MISSING:
            continue
        table[row, ITEMSIZE], table[row, PLAIN] = frame[place + ITEMSIZE], frame[place + PLAIN]
        own, steps = _array(frame, row)
        ahead = len(lengths) - len(own)
        if ahead < 0:
            return row
        for axis in range(len(own)):
            if own[axis] != 1:
                if own[axis] != lengths[ahead + axis]:
                    return row
                table[row, STRIDES + ahead + axis] = steps[axis]
    return 0


@_jitable
def _opened(address):
    """Return the frame, and of its room: flags of axes, the table of arrays, axes, and words."""
    rank = _words_at(address, ROOM)[ARRAYS + ROW * LOGITS + NDIM]
    frame = _words_at(address, frame_words(rank))
    flags = carray(_pointer(address + 8 * ROOM), (4, rank))
    width, place = STRIDES + rank, ROOM + 4 * rank
    table = carray(_pointer(address + 8 * place), (OPERANDS, width))
    place += OPERANDS * width
    axes = frame[place : place + rank + 2]
    words = frame[place + rank + 2 :]
    words[:] = 0
    frame[LAYOUT] = address + 8 * (place + rank + 2)
    return frame, flags, table, axes, words


def evaluate(address):
    """Compute what the kernels of a frame are for; return nothing, as all is in the frame.

    Where there are kernels of a divisor, the gradient is one of the loss divided by it.
    """
    frame, flags, table, axes, words = _opened(address)
    lengths, _ = _array(frame, LOGITS)
    frame[VALUE], frame[MISFIT] = 0, _misfit(frame, flags[0])
    size = _size(lengths)
    if frame[MISFIT] != 0 or size == 0:
        return
    frame[MISFIT] = _enter(frame, lengths, table)
    if frame[MISFIT] != 0:
        return
    flatten.flatten(lengths, table, frame[COMPUTED], words, axes)
    # Where a plan would be is room enough for what the formula is given.
    given, behind = _words_at(frame[GIVEN], max(frame[PARAMETERS], 0)), words_of(words[RANK])
    for k in range(len(given)):
        words[behind + k] = given[k]
    by_element = 1 if words[BY_ELEMENT] != 0 else 0
    kernel, divides = frame[KERNELS + by_element], frame[KERNELS + 2 + by_element]
    weight, by = _real(frame[WEIGHT]), 1.0
    if divides != 0:
        weighted, excluded = frame[ADDRESSES + WEIGHTS] != 0, table[WHERE, CODE] != MISSING
        if is_known(frame[REDUCTION], weighted, excluded):
            count = np.float64(size)
            by = _divisor(frame[REDUCTION], weight, count, count, count)
        else:
            by = _run(divides, address)
        if by == 0.0:
            _clear(frame[ADDRESSES + GRADIENT], size * table[GRADIENT, ITEMSIZE])
            return
        frame[REDUCTION] = SUM
    frame[SCALE] = _word(weight / by)
    frame[VALUE] = _word(_run(kernel, address) / by)


def evaluate_row(address):
    """As ``evaluate``, for arrays without gaps, in one order, with one weight for all."""
    rank = _words_at(address, ROOM)[ARRAYS + ROW * LOGITS + NDIM]
    frame = _words_at(address, frame_words(rank))
    lengths, _ = _array(frame, LOGITS)
    frame[VALUE], frame[MISFIT] = 0, _misfit(frame, frame[ROOM : ROOM + rank])
    size = _size(lengths)
    if frame[MISFIT] != 0 or size == 0:
        return
    words = frame[ROOM : ROOM + words_of(1)]
    words[:] = 0
    words[ROWS], words[COLUMNS], words[RANK], words[SHAPE] = 1, size, 1, size
    words[GROUPS] = flatten.groups_of(1, size)
    for row in (LOGITS, LABELS, WEIGHTS, RESULT):
        place, own = ARRAYS + ROW * row, SHAPE + 1 + (STRIDES + 1) * row
        words[own + CODE], words[own + ITEMSIZE] = frame[place + CODE], frame[place + ITEMSIZE]
        words[own + STRIDES] = frame[place + ITEMSIZE] if row != WEIGHTS else 0
    _settle_weight(frame)
    frame[LAYOUT] = address + 8 * ROOM
    frame[VALUE] = _word(_run(frame[KERNELS], address))


@_jitable
def _are_finite(frame):
    """Tell whether all weights are finite."""
    code = frame[ARRAYS + ROW * WEIGHTS + CODE]
    if code not in (FLOAT32, FLOAT64):
        return True
    lengths, steps = _array(frame, WEIGHTS)
    inner = len(lengths) - 1
    rows = 1
    for axis in range(inner):
        rows *= lengths[axis]
    columns, step = 1, 0
    if inner >= 0:
        columns, step = lengths[inner], steps[inner]
    finite = True
    for row in range(rows):
        place, rest = frame[ADDRESSES + WEIGHTS], row
        for axis in range(inner - 1, -1, -1):
            place += rest % lengths[axis] * steps[axis]
            rest //= lengths[axis]
        for column in range(columns):
            if not abs(_real_at(place + column * step, code)) < np.inf:
                finite = False
    return finite


def prepare(address):
    """Choose the kernel of a reduction along axes, and lay out its arrays; all is in the frame.

    There also are the lengths of the results, from ``ROOM`` on.
    """
    frame, flags, table, axes, words = _opened(address)
    lengths, _ = _array(frame, LOGITS)
    shape, reduced = flags[0], flags[1]
    frame[COUNT], frame[MISFIT] = 0, _misfit(frame, reduced)
    place, size = 0, _size(lengths)
    for axis in range(len(lengths)):
        if reduced[axis] == 0 or frame[KEEPDIMS] != 0:
            shape[place] = lengths[axis] if reduced[axis] == 0 else 1
            place += 1
    if frame[MISFIT] != 0 or size == 0:
        return
    by_element = not _are_finite(frame)
    frame[MISFIT] = _enter(frame, lengths, table)
    if frame[MISFIT] != 0:
        return
    # The results have the shape of the logits, without a step along what is reduced.
    step = table[LOGITS, ITEMSIZE]
    table[RESULT, CODE], table[RESULT, ITEMSIZE] = table[LOGITS, CODE], step
    table[RESULT, PLAIN] = 1
    for axis in range(len(lengths) - 1, -1, -1):
        if reduced[axis] == 0 and lengths[axis] != 1:
            table[RESULT, STRIDES + axis] = step
            step *= lengths[axis]
    kept, slower = flags[2], flags[3]
    for axis in range(len(lengths)):
        kept[axis], slower[axis] = 1 - reduced[axis], 0
    along = flatten_axes(lengths, table, reduced, kept, slower, by_element, words, axes)
    plan = SHAPE + words[RANK] + OPERANDS * (STRIDES + words[RANK])
    frame[COUNT] = FIELDS * words[plan + PITCH] * words[plan + RANGES]
    frame[SECOND] = QUOTIENT
    kind, taken = 0 if along else 2, 1 if words[BY_ELEMENT] != 0 else 0
    frame[CHOSEN] = frame[KERNELS + kind + taken]


ENTRIES = {
    function.__name__: ByNumba(function, 1, **CALLED)
    for function in (evaluate, evaluate_row, prepare)
}
