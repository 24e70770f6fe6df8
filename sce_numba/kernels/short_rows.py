"""Weights of rows too short for a block of their own, spread over the elements of a block.

With ``[batch, 1]`` or ``[1, classes]`` weights and few classes, a block goes across rows.  Its
weights are then written out first, into memory that stays in the first-level cache.
"""

from __future__ import annotations

import numpy as np
from numba.extending import register_jitable

from .block import SHORT
from .lanes import LANES, before, block_function, loop, loop_while, select
from .operand import FLOAT32, FLOAT64, address_of, at, load, repeat, store
from .softplus import OPTIONS
from .staging import ADDRESS, CODE, ITEMSIZE, PLAIN, STRIDES, read


@block_function(results=0)
def _spread_rows(dtype, weights, step, last, target, count, bound, inner):
    """Write ``count`` vectors; the first row ends after ``bound`` elements, others take ``inner``.

    The weight of row i is weights[i step], for rows up to ``last``.
    """
    code, itemsize = (FLOAT32, 4) if dtype is np.float32 else (FLOAT64, 8)

    def weight(row):
        row = select(row < last, row, last)
        return repeat(load(dtype, weights + row * (step * itemsize), code, 1), LANES)

    def next_row(value, row, bound):
        return select(before(bound, LANES), value, weight(row + 1)), row + 1, bound + inner

    def vector(k, row, bound):
        value, row, bound = loop_while(
            (weight(row), row, bound), lambda value, row, bound: bound < LANES, next_row
        )
        store(value, target + k * (LANES * itemsize))
        return row, bound - LANES

    loop(count, (last - last, bound), vector)


# Elements of scratch memory that may be written beside those of a block.
BESIDE = 2 * SHORT + LANES


@register_jitable(**OPTIONS)
def scratch_for_weights(like, threads, size, inner):
    """Return memory for the weights of a block of ``size`` elements, a row for each thread.

    Rows of length 0 need none.
    """
    return np.empty((threads, size + 2 * inner + LANES if inner > 0 else 0), like.dtype)


@register_jitable(**OPTIONS)
def spread_weights(w, row_step, column_step, inner, first, size, target):
    """Write the weights of ``size`` elements from number ``first`` on; return their address.

    The weight of element (i, j), in rows of ``inner``, is w[i row_step + j column_step], where
    one of the steps is 0.
    """
    row, skipped = first // inner, first % inner
    if column_step == 0:
        start = address_of(w) + row * row_step * w.itemsize
        last = (first + size - 1) // inner - row
        vectors = (size + LANES - 1) // LANES
        place = address_of(target), vectors, inner - skipped, inner
        _spread_rows(target, (start, row_step, last) + place)  # noqa: RUF005
        return address_of(target)
    own = at(address_of(w), inner, w.dtype)
    for k in range(0, skipped + size, inner):
        part = target[k : k + inner]
        for j in range(inner):
            part[j] = own[j]
    return address_of(target) + skipped * w.itemsize


@register_jitable(**OPTIONS)
def _spread_operand(shape, operand, start, size, raw, dtype):
    itemsize = operand[ITEMSIZE]
    steps = operand[STRIDES] // itemsize, operand[STRIDES + 1] // itemsize
    target = at(address_of(raw), size + BESIDE, dtype)
    w = at(operand[ADDRESS], 1, dtype)
    return spread_weights(w, steps[0], steps[1], shape[1], start, size, target)


@register_jitable(**OPTIONS)
def read_across(shape, operand, start, size, raw):
    """Do as ``staging.read`` for a block across rows, faster where the operand is broadcast.

    The memory ``raw`` must have room for ``BESIDE`` elements more than the block has.
    """
    itemsize = operand[ITEMSIZE]
    if (
        shape.size == 2
        and shape[1] < SHORT
        and operand[ADDRESS] != 0
        and operand[PLAIN] != 0
        and operand[STRIDES] % max(itemsize, 1) == 0
        and (
            operand[STRIDES + 1] == 0
            or (operand[STRIDES] == 0 and operand[STRIDES + 1] == itemsize)
        )
    ):
        # Elements are only copied: what they are doesn't matter, but their size.
        if itemsize == 4:
            place = _spread_operand(shape, operand, start, size, raw, np.float32)
            return place, operand[CODE], itemsize
        if itemsize == 8:
            place = _spread_operand(shape, operand, start, size, raw, np.float64)
            return place, operand[CODE], itemsize
    return read(shape, operand, start, size, raw)
