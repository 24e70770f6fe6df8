"""The loops over blocks: a whole array in, a reduced value or an array of losses out.

The logical array is ``rows`` rows of ``columns`` elements; a tile, at most one block, never
crosses a row.  Tiles are dealt out in at most ``GROUPS`` groups of neighbours; each group is
summed in order into a place of its own, and the groups are added in order.  Which thread ran a
group cannot be seen in the result.

==================  ==========================================================================
``reduce_rows``       contiguous, one weight for each row (or for everything)
``reduce_elements``   contiguous, a weight for each element, or broadcast over rows too short for
                      a tile of their own
``reduce_any``        operands of any layout (see ``staging``)
``denominator``       what a reduction divides by, alone
``write_contiguous``  contiguous, element by element
``write_any``         operands of any layout, element by element
==================  ==========================================================================
"""

from __future__ import annotations

import numpy as np
from numba import prange
from numba.extending import register_jitable

from .block import (
    BLOCK,
    in_own_dtype,
    not_excluded,
    number,
    scratch_for_tails,
    total_loss,
    total_weighted_loss,
    total_weights,
    write_block,
)
from .divisor import SUM, divisor
from .environment import enter_default, leave_default
from .fused import halves, two_product, two_sum
from .operand import FLOAT32, FLOAT64, ONE, address_of, at, bytes_of
from .scratch import check, thread, threads, zeros
from .short_rows import BESIDE, read_across, scratch_for_weights, spread_weights
from .softplus import OPTIONS
from .staging import ADDRESS, address_in_place, read, write
from .streaming import LINE

# Rows of the operands table; the address of one that is not given is 0.
LOGITS, LABELS, WEIGHTS, WHERE, POS_WEIGHT, RESULT, GRADIENT = 0, 1, 2, 3, 4, 5, 6
OPERANDS = 7
# A group has at least this many tiles, lest its own costs show, and there are at most so many.
TILES, GROUPS = 4, 256

# What a group sums up: numerator and what its rounding lost, sum of the weights, number of
# weights that are not 0, number of elements; and that it has done so.
NUMERATOR, LOST, WEIGHT, PRESENT, COUNT, DONE = 0, 1, 2, 3, 4, 5
SUMS = 6

# Results of at least this many bytes are written past the caches.
STREAMED = 1 << 24

for _formula in (halves, two_product, two_sum):
    register_jitable(**OPTIONS)(_formula)


@register_jitable(**OPTIONS)
def _add(sums, numerator, lost, weight, present, count):
    result, rest = two_sum(sums[NUMERATOR], numerator)
    if abs(result) < np.inf:
        sums[LOST] += rest + lost
    sums[NUMERATOR] = result
    sums[WEIGHT] += weight
    sums[PRESENT] += present
    sums[COUNT] += count


@register_jitable(**OPTIONS)
def add_row(sums, numerator, lost, weight, size):
    """Add what ``size`` elements of one weight come to."""
    count = np.float64(size)
    _add(sums, numerator, lost, weight * count, count if weight != 0.0 else 0.0, count)


@register_jitable(**OPTIONS)
def _add_elements(sums, found, count):
    """Add what a block with a weight for each element comes to."""
    numerator, lost, weight, weight_lost, present = found
    _add(sums, numerator, lost, weight + weight_lost, present, count)


@register_jitable(**OPTIONS)
def _add_up(partials):
    """Return what the groups come to."""
    sums = partials[0]
    for group in range(1, partials.shape[0]):
        part = partials[group]
        _add(sums, part[NUMERATOR], part[LOST], part[WEIGHT], part[PRESENT], part[COUNT])
    return sums


@register_jitable(**OPTIONS)
def _divisor(sums, weight, reduction):
    """Return what a reduction divides by; all weights are to be multiplied by ``weight``."""
    return divisor(reduction, weight, sums[WEIGHT], sums[PRESENT], sums[COUNT])


@register_jitable(**OPTIONS)
def reduced(partials, weight, reduction):
    """Add up the groups; apply the scalar weight and the denominator of the reduction.

    A negative reduction is ``SUM``, and less the address of a float64 for what rounding it lost.
    """
    check(partials[:, DONE])
    before, weight = enter_default((weight,))
    sums = _add_up(partials)
    total, rest = two_sum(sums[NUMERATOR], sums[LOST])
    numerator = weight * total
    if reduction < 0:
        lost = two_product(weight, total)[1] + weight * rest
        at(-reduction, 1, np.float64)[0] = lost if abs(lost) < np.inf else 0.0
        reduction = SUM
    denominator = _divisor(sums, weight, reduction)
    return leave_default(before, numerator / denominator if denominator != 0.0 else 0.0)


@register_jitable(**OPTIONS)
def _groups(tiles):
    """Return how many groups the tiles are dealt out in."""
    return min(GROUPS, (tiles + TILES - 1) // TILES)


@register_jitable(**OPTIONS)
def plan(rows, columns):
    """Return tiles in a row, tiles, and groups."""
    in_row = (columns + BLOCK - 1) // BLOCK
    tiles = rows * in_row
    return in_row, tiles, _groups(tiles)


@register_jitable(**OPTIONS)
def tile_of(index, in_row, columns):
    """Return row, first column and size of a tile."""
    row, first = index // in_row, index % in_row * BLOCK
    return row, first, min(BLOCK, columns - first)


def reduce_rows(x, z, w, x_code, z_code, rows, columns, step, weight, smoothing, reduction):
    """Reduce contiguous logits and labels, given as bytes; the weight of row i is w[i step]."""
    x_size, z_size = bytes_of(x_code), bytes_of(z_code)
    logits, labels, weights = address_of(x), address_of(z), address_of(w)
    in_row, tiles, groups = plan(rows, columns)
    partials = zeros(groups, SUMS)
    memory_for_tails = scratch_for_tails(threads())
    for index in prange(groups):
        group = np.int64(index)
        before, smooth = enter_default((smoothing,))
        a, b = 1.0 - smooth, 0.5 * smooth
        sums = partials[group]
        tails = memory_for_tails[thread()]
        for tile in range(tiles * group // groups, tiles * (group + 1) // groups):
            row, column, size = tile_of(tile, in_row, columns)
            start = row * columns + column
            own = np.float64(at(weights + row * step * w.itemsize, 1, w.dtype)[0])
            own_logits = logits + start * x_size, x_code, x_size
            own_labels = labels + start * z_size, z_code, z_size
            numerator, lost = total_loss(w, own_logits, own_labels, size, own, a, b, tails)
            add_row(sums, numerator, lost, own, size)
        sums[DONE] = leave_default(before, 1.0)
    return reduced(partials, weight, reduction)


def reduce_elements(
    x,
    z,
    w,
    x_code,
    z_code,
    rows,
    columns,
    row_step,
    column_step,
    inner,
    weight,
    smoothing,
    reduction,
):
    """Reduce contiguous logits and labels, given as bytes, with a weight for each element.

    Rows of ``columns`` have weights that are contiguous; where ``columns`` goes across shorter
    rows of ``inner`` elements, their weights are spread first.
    """
    x_size, z_size, w_size = bytes_of(x_code), bytes_of(z_code), w.itemsize
    w_code = FLOAT32 if w_size == 4 else FLOAT64
    logits, labels, weights = address_of(x), address_of(z), address_of(w)
    full = np.int64(w.size == rows * columns)
    in_row, tiles, groups = plan(rows, columns)
    partials = zeros(groups, SUMS)
    memory = scratch_for_weights(w, threads(), BLOCK, inner if inner < columns else 0)
    memory_for_tails = scratch_for_tails(threads())
    for index in prange(groups):
        group = np.int64(index)
        before, smooth = enter_default((smoothing,))
        a, b = 1.0 - smooth, 0.5 * smooth
        sums = partials[group]
        spread = memory[thread()]
        tails = memory_for_tails[thread()]
        for tile in range(tiles * group // groups, tiles * (group + 1) // groups):
            row, column, size = tile_of(tile, in_row, columns)
            start = row * columns + column
            own = weights + (row * row_step + column) * w_size
            if inner < columns:
                own = spread_weights(w, row_step, column_step, inner, column, size, spread)
            own_logits = logits + start * x_size, x_code, x_size
            own_labels = labels + start * z_size, z_code, z_size
            own_weights = own, w_code, w_size
            one = 0, ONE, 0
            found = total_weighted_loss(
                w, own_logits, own_labels, own_weights, one, one, size, full, a, b, tails
            )
            _add_elements(sums, found, np.float64(size))
        if full == 0:
            first, stop = w.size * group // groups, w.size * (group + 1) // groups
            uses = np.float64(rows * columns // w.size)
            part = weights + first * w_size, w_code, w_size
            one = 0, ONE, 0
            own_weight, present, _ = total_weights(w, part, one, stop - first, tails)
            sums[WEIGHT] += uses * own_weight
            sums[PRESENT] += uses * present
        sums[DONE] = leave_default(before, 1.0)
    return reduced(partials, weight, reduction)


def reduce_any(like, shape, operands, rows, columns, by_element, weight, smoothing, reduction):
    """Reduce operands of any dtype and layout, computing in the dtype of ``like``."""
    in_row, tiles, groups = plan(rows, columns)
    partials = zeros(groups, SUMS)
    memory = np.empty((threads(), 7, BLOCK + BESIDE), np.uint64)
    memory_for_tails = scratch_for_tails(threads())
    for index in prange(groups):
        group = np.int64(index)
        before, smooth = enter_default((smoothing,))
        a, b = 1.0 - smooth, 0.5 * smooth
        sums = partials[group]
        raw = memory[thread()]
        tails = memory_for_tails[thread()]
        for tile in range(tiles * group // groups, tiles * (group + 1) // groups):
            row, column, size = tile_of(tile, in_row, columns)
            start = row * columns + column
            x = read(shape, operands[LOGITS], start, size, raw[0])
            z = read(shape, operands[LABELS], start, size, raw[1])
            if by_element:
                w = read_across(shape, operands[WEIGHTS], start, size, raw[2])
                w = in_own_dtype(like, w, size, raw[5], tails)
                q = read_across(shape, operands[POS_WEIGHT], start, size, raw[3])
                q = in_own_dtype(like, q, size, raw[6], tails)
                keep = read(shape, operands[WHERE], start, size, raw[4])
                q = not_excluded(q, keep, size, raw[6])
                found = total_weighted_loss(like, x, z, w, q, keep, size, 1, a, b, tails)
                count = np.float64(size)
                if keep[1] != ONE:
                    count = total_weights(like, w, keep, size, tails)[2]
                _add_elements(sums, found, count)
            else:
                own = 1.0
                if operands[WEIGHTS, ADDRESS] != 0:
                    own = number(read(shape, operands[WEIGHTS], start, 1, raw[2]))
                numerator, lost = total_loss(like, x, z, size, own, a, b, tails)
                add_row(sums, numerator, lost, own, size)
        sums[DONE] = leave_default(before, 1.0)
    return reduced(partials, weight, reduction)


def denominator(like, shape, operands, rows, columns, by_element, weight, reduction):
    """Return what a reduction divides by, from weights and ``where`` of any dtype and layout."""
    in_row, tiles, groups = plan(rows, columns)
    partials = zeros(groups, SUMS)
    memory = np.empty((threads(), 3, BLOCK + BESIDE), np.uint64)
    memory_for_tails = scratch_for_tails(threads())
    for index in prange(groups):
        group = np.int64(index)
        before, _ = enter_default((weight,))
        sums = partials[group]
        raw = memory[thread()]
        tails = memory_for_tails[thread()]
        for tile in range(tiles * group // groups, tiles * (group + 1) // groups):
            row, column, size = tile_of(tile, in_row, columns)
            start = row * columns + column
            if by_element:
                w = read_across(shape, operands[WEIGHTS], start, size, raw[0])
                w = in_own_dtype(like, w, size, raw[2], tails)
                keep = read(shape, operands[WHERE], start, size, raw[1])
                own, present, count = total_weights(like, w, keep, size, tails)
                _add(sums, 0.0, 0.0, own, present, count)
            else:
                own = number(read(shape, operands[WEIGHTS], start, 1, raw[0]))
                add_row(sums, 0.0, 0.0, own, size)
        sums[DONE] = leave_default(before, 1.0)
    check(partials[:, DONE])
    before, weight = enter_default((weight,))
    return leave_default(before, _divisor(_add_up(partials), weight, reduction))


def write_contiguous(
    x, z, w, result, x_code, z_code, rows, columns, row_step, column_step, inner, weight, smoothing
):
    """Write the weighted losses of contiguous logits and labels, given as bytes.

    The weight of element (i, j) is weight w[i row_step + j column_step], in rows as those of
    ``reduce_elements``.  The result may be the logits themselves.
    """
    x_size, z_size, itemsize = bytes_of(x_code), bytes_of(z_code), w.itemsize
    w_code = FLOAT32 if itemsize == 4 else FLOAT64
    logits, labels, target = address_of(x), address_of(z), address_of(result)
    past_caches = result.nbytes >= STREAMED
    # In a single row every tile but the first begins with a line of its own.
    head = (-target % LINE) // itemsize if past_caches and rows == 1 else 0
    in_row = max((columns - head + BLOCK - 1) // BLOCK, 1)
    tiles = rows * in_row
    groups = _groups(tiles)
    memory = scratch_for_weights(w, threads(), BLOCK + head, inner if inner < columns else 0)
    memory_for_tails = scratch_for_tails(threads())
    done = zeros(groups, 1)
    for index in prange(groups):
        group = np.int64(index)
        before, smooth, factor = enter_default((smoothing, weight))
        a, b = 1.0 - smooth, 0.5 * smooth
        spread = memory[thread()]
        tails = memory_for_tails[thread()]
        for tile in range(tiles * group // groups, tiles * (group + 1) // groups):
            row, k = tile // in_row, tile % in_row
            column = head + k * BLOCK if k > 0 else 0
            size = min(head + (k + 1) * BLOCK, columns) - column
            start = row * columns + column
            one = 0, ONE, 0
            own_weights, own = one, factor
            if inner < columns:
                place = spread_weights(w, row_step, column_step, inner, column, size, spread)
                own_weights = place, w_code, itemsize
            elif column_step == 0:
                own = factor * np.float64(w[row * row_step])
            else:
                own_weights = address_of(w) + (row * row_step + column) * itemsize, w_code, itemsize
            own_logits = logits + start * x_size, x_code, x_size
            own_labels = labels + start * z_size, z_code, z_size
            out = at(target + start * itemsize, size, result.dtype)
            write_block(
                out,
                own_logits,
                own_labels,
                own_weights,
                one,
                one,
                size,
                own,
                a,
                b,
                tails,
                past_caches,
            )
        done[group, 0] = leave_default(before, 1.0)
    check(done[:, 0])


def write_any(like, shape, operands, rows, columns, by_element, weight, smoothing):
    """Write the weighted loss of every element to the operand ``RESULT``."""
    own_code = FLOAT32 if like.itemsize == 4 else FLOAT64
    past_caches = rows * columns * like.itemsize >= STREAMED
    in_row, tiles, groups = plan(rows, columns)
    memory = np.empty((threads(), 7, BLOCK + BESIDE), np.uint64)
    results = np.empty((threads(), BLOCK), like.dtype)
    memory_for_tails = scratch_for_tails(threads())
    done = zeros(groups, 1)
    for index in prange(groups):
        group = np.int64(index)
        before, smooth, factor = enter_default((smoothing, weight))
        a, b = 1.0 - smooth, 0.5 * smooth
        raw = memory[thread()]
        buffer = results[thread()]
        tails = memory_for_tails[thread()]
        for tile in range(tiles * group // groups, tiles * (group + 1) // groups):
            row, column, size = tile_of(tile, in_row, columns)
            start = row * columns + column
            x = read(shape, operands[LOGITS], start, size, raw[0])
            z = read(shape, operands[LABELS], start, size, raw[1])
            w = q = keep = 0, ONE, 0
            own = factor
            if by_element:
                w = read_across(shape, operands[WEIGHTS], start, size, raw[2])
                w = in_own_dtype(like, w, size, raw[5], tails)
                q = read_across(shape, operands[POS_WEIGHT], start, size, raw[3])
                q = in_own_dtype(like, q, size, raw[6], tails)
                keep = read(shape, operands[WHERE], start, size, raw[4])
                q = not_excluded(q, keep, size, raw[6])
            elif operands[WEIGHTS, ADDRESS] != 0:
                own = factor * number(read(shape, operands[WEIGHTS], start, 1, raw[2]))
            place = address_in_place(shape, operands[RESULT], own_code, start, size)
            if place != 0:
                out = at(place, size, like.dtype)
                write_block(out, x, z, w, q, keep, size, own, a, b, tails, past_caches)
            else:
                out = buffer[:size]
                write_block(out, x, z, w, q, keep, size, own, a, b, tails, False)
                write(shape, operands[RESULT], start, out, raw[0], False)
        done[group, 0] = leave_default(before, 1.0)
    check(done[:, 0])
