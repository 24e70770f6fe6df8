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
    copy,
    losses,
    total_loss,
    total_weighted_loss,
    weigh,
    weighted_total,
)
from .softplus import OPTIONS
from .staging import ADDRESS, FLOAT32, FLOAT64, at, read, write
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
def _add(sums, numerator, weight, present, count):
    result = sums[NUMERATOR] + numerator
    if abs(result) < np.inf:
        virtual = result - sums[NUMERATOR]
        sums[LOST] += (sums[NUMERATOR] - (result - virtual)) + (numerator - virtual)
    sums[NUMERATOR] = result
    sums[WEIGHT] += weight
    sums[PRESENT] += present
    sums[COUNT] += count


@register_jitable(**OPTIONS)
def _add_row(sums, numerator, weight, size):
    count = np.float64(size)
    _add(sums, numerator, weight * count, count if weight != 0.0 else 0.0, count)


@register_jitable(**OPTIONS)
def _reduced(partials, weight, reduction):
    """Add up the groups; apply the scalar weight and the denominator of the reduction."""
    sums = partials[0]
    for group in range(1, partials.shape[0]):
        part = partials[group]
        _add(sums, part[NUMERATOR], part[WEIGHT], part[PRESENT], part[COUNT])
        sums[LOST] += part[LOST]
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
    logits, labels, weights = x.ctypes.data, z.ctypes.data, w.ctypes.data
    in_row, tiles, groups = _plan(rows, columns)
    partials = np.zeros((groups, 5))
    for index in prange(groups):
        group = np.int64(index)
        sums = partials[group]
        u = np.empty(BLOCK, x.dtype)
        scratch = np.empty(3 * BLOCK, np.float64)
        for tile in range(tiles * group // groups, tiles * (group + 1) // groups):
            row, column, size = _tile(tile, in_row, columns)
            start = (row * columns + column) * x.itemsize
            own = np.float64(at(weights + row * step * x.itemsize, 1, x.dtype)[0])
            numerator = total_loss(
                at(logits + start, size, x.dtype),
                at(labels + start, size, x.dtype),
                own,
                a,
                b,
                u,
                scratch,
            )
            _add_row(sums, numerator, own, size)
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
    logits, labels, weights = x.ctypes.data, z.ctypes.data, w.ctypes.data
    in_row, tiles, groups = _plan(rows, columns)
    partials = np.zeros((groups, 5))
    for index in prange(groups):
        group = np.int64(index)
        sums = partials[group]
        out = np.empty(BLOCK, x.dtype)
        spread = np.empty(BLOCK + 2 * inner + SPREAD if inner < columns else 0, x.dtype)
        scratch = np.empty(3 * BLOCK, np.float64)
        for tile in range(tiles * group // groups, tiles * (group + 1) // groups):
            row, column, size = _tile(tile, in_row, columns)
            start = (row * columns + column) * x.itemsize
            own = weights + (row * row_step + column) * x.itemsize
            if inner < columns:
                all_weights = at(weights, w.size, x.dtype)
                _spread(all_weights, row_step, column_step, inner, column, spread)
                own = spread.ctypes.data + inner * x.itemsize
            numerator, total_weight, present = total_weighted_loss(
                at(logits + start, size, x.dtype),
                at(labels + start, size, x.dtype),
                at(own, size, x.dtype),
                a,
                b,
                out[:size],
                scratch,
            )
            _add(sums, numerator, total_weight, present, np.float64(size))
    return x.dtype.type(_reduced(partials, weight, reduction))


@register_jitable(**OPTIONS)
def _exclude(where, x, z, w):
    """Give the excluded elements a finite loss and the weight 0; return how many are left."""
    zero = x.dtype.type(0)
    left = 0.0
    for i in range(x.size):
        keep = where[i] != 0
        x[i] = x[i] if keep else zero
        z[i] = z[i] if keep else zero
        w[i] = w[i] if keep else zero
        left += 1.0 if keep else 0.0
    return left


@register_jitable(**OPTIONS)
def _read_tile(shape, operands, start, size, weight, raw, scratch):
    """Return logits, labels, weights (``weight`` where not given), and the included elements."""
    own_code = FLOAT32 if scratch.itemsize == 4 else FLOAT64
    x = read(shape, operands[LOGITS], own_code, start, size, raw[0], scratch[0])
    z = x
    if operands[LABELS, ADDRESS] != 0:
        z = read(shape, operands[LABELS], own_code, start, size, raw[1], scratch[1])
    w = scratch[2][:size]
    if operands[WEIGHTS, ADDRESS] == 0:
        w[:] = weight
    else:
        w = read(shape, operands[WEIGHTS], own_code, start, size, raw[2], scratch[2])
    left = np.float64(size)
    if operands[WHERE, ADDRESS] != 0:
        where = read(shape, operands[WHERE], own_code, start, size, raw[3], scratch[3])
        logits, labels, weights = scratch[0][:size], scratch[1][:size], scratch[2][:size]
        copy(x, logits)
        copy(z, labels)
        copy(w, weights)
        x, z, w = logits, labels, weights
        left = _exclude(where, x, z, w)
    return x, z, w, left


def reduce_any(like, shape, operands, rows, columns, by_element, weight, smoothing, reduction):
    """Reduce operands of any dtype and layout, computing in the dtype of ``like``."""
    a, b = 1.0 - smoothing, 0.5 * smoothing
    given = operands[LABELS, ADDRESS] == 0
    in_row, tiles, groups = _plan(rows, columns)
    partials = np.zeros((groups, 5))
    for index in prange(groups):
        group = np.int64(index)
        sums = partials[group]
        raw = np.empty((4, BLOCK), np.uint64)
        scratch = np.empty((5, BLOCK), like.dtype)
        double = np.empty(3 * BLOCK, np.float64)
        for tile in range(tiles * group // groups, tiles * (group + 1) // groups):
            row, column, size = _tile(tile, in_row, columns)
            start = row * columns + column
            x, z, w, left = _read_tile(shape, operands, start, size, 1.0, raw, scratch)
            if given:
                numerator, total_weight, present = weighted_total(x, w)
                _add(sums, numerator, total_weight, present, left)
            elif by_element:
                numerator, total_weight, present = total_weighted_loss(
                    x, z, w, a, b, scratch[4][:size], double
                )
                _add(sums, numerator, total_weight, present, left)
            else:
                own = np.float64(w[0])
                numerator = total_loss(x, z, own, a, b, scratch[4], double)
                _add_row(sums, numerator, own, size)
    return _reduced(partials, weight, reduction)


def write_contiguous(x, z, result, weight, smoothing):
    """Write the weighted losses of contiguous logits and labels, which may be the result too."""
    a, b = x.dtype.type(1.0 - smoothing), x.dtype.type(0.5 * smoothing)
    own_weight = x.dtype.type(weight)
    logits, labels, target = x.ctypes.data, z.ctypes.data, result.ctypes.data
    in_row, tiles, groups = _plan(1, x.size)
    for index in prange(groups):
        group = np.int64(index)
        buffer = np.empty(BLOCK, x.dtype)
        for tile in range(tiles * group // groups, tiles * (group + 1) // groups):
            _, first, size = _tile(tile, in_row, x.size)
            start = first * x.itemsize
            out = buffer[:size]
            losses(at(logits + start, size, x.dtype), at(labels + start, size, x.dtype), a, b, out)
            if weight != 1.0:
                for i in range(size):
                    out[i] *= own_weight
            if x.size * x.itemsize >= STREAMED:
                stream(out, at(target + start, size, x.dtype))
            else:
                copy(out, at(target + start, size, x.dtype))


def write_any(like, shape, operands, rows, columns, weight, smoothing):
    """Write the weighted loss of every element to the operand ``RESULT``."""
    a, b = like.dtype.type(1.0 - smoothing), like.dtype.type(0.5 * smoothing)
    own_code = FLOAT32 if like.itemsize == 4 else FLOAT64
    in_row, tiles, groups = _plan(rows, columns)
    for index in prange(groups):
        group = np.int64(index)
        raw = np.empty((4, BLOCK), np.uint64)
        scratch = np.empty((5, BLOCK), like.dtype)
        for tile in range(tiles * group // groups, tiles * (group + 1) // groups):
            row, column, size = _tile(tile, in_row, columns)
            start = row * columns + column
            out = scratch[4][:size]
            x, z, w, _ = _read_tile(shape, operands, start, size, weight, raw, scratch)
            if operands[LABELS, ADDRESS] == 0:
                copy(x, out)
            else:
                losses(x, z, a, b, out)
            weigh(out, w)
            write(shape, operands[RESULT], own_code, start, out, raw[0])
