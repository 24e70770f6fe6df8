"""The loops over blocks: a whole array in, a reduced value or an array of losses out.

The logical array is ``rows`` rows of ``columns`` elements; a tile, at most one block, never
crosses a row.  Tiles are dealt out in at most ``GROUPS`` groups of neighbours; each group is
summed in order into a place of its own, and the groups are added in order.  Which thread ran a
group cannot be seen in the result.

==================  ==========================================================================
``reduce_rows``     contiguous float32 or float64, one weight for each row (or for everything)
``reduce_elements`` the same, a weight for each element, or broadcast over rows too short for a
                    tile of their own
``reduce_any``      operands of any dtype and layout (see ``staging``)
``write_contiguous``  contiguous float32 or float64, element by element
``write_any``       operands of any dtype and layout, element by element
==================  ==========================================================================
"""

from __future__ import annotations

import numpy as np
from numba import prange
from numba.extending import register_jitable

from .block import (
    BLOCK,
    STEP,
    number,
    scratch_for_tails,
    total_loss,
    total_weighted_loss,
    write_block,
)
from .operand import FLOAT32, FLOAT64, ONE, address_of, at
from .softplus import OPTIONS
from .staging import ADDRESS, read, write
from .streaming import stream

SUM, MEAN, SUM_OVER_BATCH_SIZE, SUM_BY_NONZERO_WEIGHTS = 0, 1, 2, 3
# Rows of the operands table; the address of one that is not given is 0.
LOGITS, LABELS, WEIGHTS, WHERE, RESULT = 0, 1, 2, 3, 4
GROUPS = 256

# What a group sums up: numerator and what its rounding lost, sum of the weights, number of
# weights that are not 0, number of elements.
NUMERATOR, LOST, WEIGHT, PRESENT, COUNT = 0, 1, 2, 3, 4

# Results of at least this many bytes are written past the caches.
STREAMED = 1 << 24

# Weights of short rows are spread this many at a time, into memory with room for one more go.
SPREAD = 16


@register_jitable(**OPTIONS)
def _add(sums, numerator, lost, weight, present, count):
    result = sums[NUMERATOR] + numerator
    if abs(result) < np.inf:
        virtual = result - sums[NUMERATOR]
        sums[LOST] += (sums[NUMERATOR] - (result - virtual)) + (numerator - virtual) + lost
    sums[NUMERATOR] = result
    sums[WEIGHT] += weight
    sums[PRESENT] += present
    sums[COUNT] += count


@register_jitable(**OPTIONS)
def _add_row(sums, numerator, lost, weight, size):
    count = np.float64(size)
    _add(sums, numerator, lost, weight * count, count if weight != 0.0 else 0.0, count)


@register_jitable(**OPTIONS)
def _add_elements(sums, found):
    """Add what a block with a weight for each element comes to."""
    numerator, lost, weight, weight_lost, present, count = found
    _add(sums, numerator, lost, weight + weight_lost, present, count)


@register_jitable(**OPTIONS)
def _reduced(partials, weight, reduction):
    """Add up the groups; apply the scalar weight and the denominator of the reduction."""
    sums = partials[0]
    for group in range(1, partials.shape[0]):
        part = partials[group]
        _add(sums, part[NUMERATOR], part[LOST], part[WEIGHT], part[PRESENT], part[COUNT])
    numerator = weight * (sums[NUMERATOR] + sums[LOST])
    if reduction == SUM:
        return numerator
    denominator = sums[COUNT]
    if reduction == MEAN:
        denominator = weight * sums[WEIGHT]
    elif reduction == SUM_BY_NONZERO_WEIGHTS:
        denominator = sums[PRESENT] if weight != 0.0 else 0.0
    return numerator / denominator if denominator != 0.0 else 0.0


@register_jitable(**OPTIONS)
def _plan(rows, columns):
    """Return tiles in a row, tiles, and groups."""
    in_row = (columns + BLOCK - 1) // BLOCK
    return in_row, rows * in_row, min(GROUPS, rows * in_row)


@register_jitable(**OPTIONS)
def _tile(index, in_row, columns):
    """Return row, first column and size of a tile."""
    row, k = index // in_row, index % in_row
    first = columns * k // in_row
    return row, first, columns * (k + 1) // in_row - first


def reduce_rows(x, z, w, rows, columns, step, weight, smoothing, reduction):
    """Reduce contiguous logits and labels; the weight of row i is w[i step]."""
    a, b = 1.0 - smoothing, 0.5 * smoothing
    itemsize = x.itemsize
    code = FLOAT32 if itemsize == 4 else FLOAT64
    logits, labels, weights = address_of(x), address_of(z), address_of(w)
    in_row, tiles, groups = _plan(rows, columns)
    partials = np.zeros((groups, 5))
    for index in prange(groups):
        group = np.int64(index)
        sums = partials[group]
        tails = scratch_for_tails()
        for tile in range(tiles * group // groups, tiles * (group + 1) // groups):
            row, column, size = _tile(tile, in_row, columns)
            start = (row * columns + column) * itemsize
            own = np.float64(at(weights + row * step * itemsize, 1, x.dtype)[0])
            own_logits = logits + start, code, itemsize
            own_labels = labels + start, code, itemsize
            numerator, lost = total_loss(x, own_logits, own_labels, size, own, a, b, tails)
            _add_row(sums, numerator, lost, own, size)
    return x.dtype.type(_reduced(partials, weight, reduction))


@register_jitable(**OPTIONS)
def _spread(w, row_step, column_step, inner, first, target):
    """Write the weights of the elements from number ``first`` on to ``target``.

    The weight of element (i, j), in rows of ``inner``, is w[i row_step + j column_step], where
    one of the steps is 0.  Rows are written in whole, SPREAD elements at a time, so ``target``
    begins a row early and ends a row and SPREAD elements late.
    """
    row = first // inner
    k = inner - first % inner
    last = target.size - inner - SPREAD
    if column_step == 0:
        while k < last:
            value = w[row * row_step]
            for start in range(k, k + inner, SPREAD):
                part = target[start : start + SPREAD]
                for j in range(SPREAD):
                    part[j] = value
            row += 1
            k += inner
    else:
        while k < last:
            for j in range(inner):
                target[k + j] = w[j * column_step]
            k += inner


def reduce_elements(
    x, z, w, rows, columns, row_step, column_step, inner, weight, smoothing, reduction
):
    """Reduce contiguous logits and labels with a weight for each element.

    Rows of ``columns`` have weights that are contiguous; where ``columns`` goes across shorter
    rows of ``inner`` elements, their weights are spread first.
    """
    a, b = 1.0 - smoothing, 0.5 * smoothing
    itemsize = x.itemsize
    code = FLOAT32 if itemsize == 4 else FLOAT64
    logits, labels, weights = address_of(x), address_of(z), address_of(w)
    in_row, tiles, groups = _plan(rows, columns)
    partials = np.zeros((groups, 5))
    for index in prange(groups):
        group = np.int64(index)
        sums = partials[group]
        spread = np.empty(BLOCK + 2 * inner + SPREAD if inner < columns else 0, x.dtype)
        tails = scratch_for_tails()
        for tile in range(tiles * group // groups, tiles * (group + 1) // groups):
            row, column, size = _tile(tile, in_row, columns)
            start = (row * columns + column) * itemsize
            own = weights + (row * row_step + column) * itemsize
            if inner < columns:
                all_weights = at(weights, w.size, x.dtype)
                _spread(all_weights, row_step, column_step, inner, column, spread)
                own = address_of(spread) + inner * itemsize
            own_logits = logits + start, code, itemsize
            own_labels = labels + start, code, itemsize
            own_weights = own, code, itemsize
            keep = 0, ONE, 0
            found = total_weighted_loss(
                x, own_logits, own_labels, own_weights, keep, size, a, b, tails
            )
            _add_elements(sums, found)
    return x.dtype.type(_reduced(partials, weight, reduction))


def reduce_any(like, shape, operands, rows, columns, by_element, weight, smoothing, reduction):
    """Reduce operands of any dtype and layout, computing in the dtype of ``like``."""
    a, b = 1.0 - smoothing, 0.5 * smoothing
    in_row, tiles, groups = _plan(rows, columns)
    partials = np.zeros((groups, 5))
    for index in prange(groups):
        group = np.int64(index)
        sums = partials[group]
        raw = np.empty((4, BLOCK), np.uint64)
        tails = scratch_for_tails()
        for tile in range(tiles * group // groups, tiles * (group + 1) // groups):
            row, column, size = _tile(tile, in_row, columns)
            start = row * columns + column
            x = read(shape, operands[LOGITS], start, size, raw[0])
            z = read(shape, operands[LABELS], start, size, raw[1])
            if by_element:
                w = read(shape, operands[WEIGHTS], start, size, raw[2])
                keep = read(shape, operands[WHERE], start, size, raw[3])
                found = total_weighted_loss(like, x, z, w, keep, size, a, b, tails)
                _add_elements(sums, found)
            else:
                own = 1.0
                if operands[WEIGHTS, ADDRESS] != 0:
                    own = number(read(shape, operands[WEIGHTS], start, 1, raw[2]))
                numerator, lost = total_loss(like, x, z, size, own, a, b, tails)
                _add_row(sums, numerator, lost, own, size)
    return _reduced(partials, weight, reduction)


def write_contiguous(x, z, result, weight, smoothing):
    """Write the weighted losses of contiguous logits and labels, which may be the result too."""
    a, b = 1.0 - smoothing, 0.5 * smoothing
    itemsize = x.itemsize
    code = FLOAT32 if itemsize == 4 else FLOAT64
    logits, labels, target = address_of(x), address_of(z), address_of(result)
    in_row, tiles, groups = _plan(1, x.size)
    for index in prange(groups):
        group = np.int64(index)
        buffer = np.empty(BLOCK + STEP, x.dtype)
        tails = scratch_for_tails()
        one = 0, ONE, 0
        for tile in range(tiles * group // groups, tiles * (group + 1) // groups):
            _, first, size = _tile(tile, in_row, x.size)
            start = first * itemsize
            own_logits = logits + start, code, itemsize
            own_labels = labels + start, code, itemsize
            write_block(x, own_logits, own_labels, one, one, size, weight, a, b, tails, buffer)
            out = at(target + start, size, x.dtype)
            if x.size * itemsize >= STREAMED:
                stream(buffer[:size], out)
            else:
                for i in range(size):
                    out[i] = buffer[i]


def write_any(like, shape, operands, rows, columns, weight, smoothing):
    """Write the weighted loss of every element to the operand ``RESULT``."""
    a, b = 1.0 - smoothing, 0.5 * smoothing
    in_row, tiles, groups = _plan(rows, columns)
    for index in prange(groups):
        group = np.int64(index)
        raw = np.empty((4, BLOCK), np.uint64)
        buffer = np.empty(BLOCK + STEP, like.dtype)
        tails = scratch_for_tails()
        for tile in range(tiles * group // groups, tiles * (group + 1) // groups):
            row, column, size = _tile(tile, in_row, columns)
            start = row * columns + column
            x = read(shape, operands[LOGITS], start, size, raw[0])
            z = read(shape, operands[LABELS], start, size, raw[1])
            w = read(shape, operands[WEIGHTS], start, size, raw[2])
            keep = read(shape, operands[WHERE], start, size, raw[3])
            write_block(like, x, z, w, keep, size, weight, a, b, tails, buffer)
            write(shape, operands[RESULT], start, buffer[:size], raw[0])
