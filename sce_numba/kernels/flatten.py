"""The flattened view of the arrays of a call, in plain integers, for Python and for Numba.

Axes of length 1 are dropped, the rest are put in the order of the logits' memory, and neighbours
that every array steps through evenly are joined.  A contiguous array of any rank thus becomes one
row; ``[batch, 1]`` or ``[1, classes]`` weights make it rows and columns, with a stride of 0 along
what is broadcast.  Nothing is copied.
"""

from __future__ import annotations

from typing import Any

from .block import BLOCK, SHORT
from .dtypes import MISSING
from .tiles import GROUPS as MOST_GROUPS
from .tiles import TILES
from .view import (
    BY_ELEMENT,
    CODE,
    COLUMNS,
    GRADIENT,
    GROUPS,
    ITEMSIZE,
    LABELS,
    LOGITS,
    OPERANDS,
    PLAIN,
    POS_WEIGHT,
    RANK,
    RESULT,
    ROWS,
    SHAPE,
    STAGED,
    STRIDES,
    WEIGHTS,
    WHERE,
)


def words_of(rank: int) -> int:
    """Return how many words a layout of so many axes may take."""
    most = max(rank, 1)
    return SHAPE + most + OPERANDS * (STRIDES + most)


def groups_of(rows: int, columns: int) -> int:
    """Return in how many groups the tiles of a view are dealt out."""
    tiles = rows * ((columns + BLOCK - 1) // BLOCK)
    return min(MOST_GROUPS, (tiles + TILES - 1) // TILES)


def join_axes(lengths: Any, table: Any, chosen: Any, words: Any, axes: Any, first: int) -> int:
    """Put axes into the view, behind the ``first`` that it has; return how many it has then.

    They are those for which ``chosen`` has another number than 0, the slowest first, without those
    of length 1.  Neighbours that every array steps through evenly are joined.  In the places of the
    view's axes, ``axes`` gets the last of those that were joined, or -1 for an axis of length 1
    that stands for none.
    """
    logits = table[LOGITS]
    count = first
    for axis in range(len(lengths)):
        if lengths[axis] == 1 or chosen[axis] == 0:
            continue
        step, place = abs(logits[STRIDES + axis]), count
        while place > first and abs(logits[STRIDES + axes[place - 1]]) < step:
            axes[place] = axes[place - 1]
            place -= 1
        axes[place] = axis
        count += 1
    left = first
    for k in range(first, count):
        axis = axes[k]
        length = lengths[axis]
        together = left > first
        if together:
            for row in range(OPERANDS):
                steps = table[row]
                if steps[STRIDES + axes[left - 1]] != steps[STRIDES + axis] * length:
                    together = False
        if not together:
            words[SHAPE + left] = 1
            left += 1
        words[SHAPE + left - 1] *= length
        axes[left - 1] = axis
    if left == first:
        words[SHAPE + left], axes[left] = 1, -1
        left += 1
    return left


def write_rows(table: Any, words: Any, axes: Any, rank: int) -> None:
    """Write the number of axes, and the rows of the arrays, given which axes the view has."""
    words[RANK] = rank
    first, width = SHAPE + rank, STRIDES + rank
    for row in range(OPERANDS):
        for k in range(STRIDES):
            words[first + row * width + k] = table[row][k]
        for k in range(rank):
            step = table[row][STRIDES + axes[k]] if axes[k] >= 0 else table[row][ITEMSIZE]
            words[first + row * width + STRIDES + k] = step


def lies_in_order(words: Any, operand: int) -> bool:
    """Tell whether an array can be read as it lies, without gaps, in the order of the view."""
    in_order = bool(words[operand + PLAIN] != 0)
    expected = words[operand + ITEMSIZE]
    for k in range(words[RANK] - 1, -1, -1):
        if words[operand + STRIDES + k] != expected:
            in_order = False
        expected *= words[SHAPE + k]
    return in_order


def flatten(lengths: Any, table: Any, computed: int, words: Any, axes: Any) -> None:
    """Write the layout of arrays to ``words``, which are 0.

    ``table`` has a row for each array, as a layout has, but with the byte strides along all axes of
    the logits, whose ``lengths`` are given; the code of one that isn't there is ``MISSING``.  The
    loss is computed in the dtype ``computed``.  ``axes`` has room for one number more than there
    are axes.
    """
    # All axes are chosen: none has the length 0.
    left = join_axes(lengths, table, lengths, words, axes, 0)
    size = 1
    for k in range(left):
        size *= words[SHAPE + k]
    write_rows(table, words, axes, left)
    first = SHAPE + words[RANK]
    width = STRIDES + words[RANK]
    columns = words[SHAPE + words[RANK] - 1]
    across = columns < SHORT  # too short to be worth a tile: blocks go across
    if across and columns != size:
        columns = size
        varies = True
    else:
        varies = words[first + WEIGHTS * width + width - 1] != 0
    masked = table[WHERE][CODE] != MISSING or table[POS_WEIGHT][CODE] != MISSING
    weighted = table[WEIGHTS][CODE] != MISSING
    words[ROWS], words[COLUMNS] = size // columns, columns
    words[BY_ELEMENT] = masked or (weighted and varies)
    words[GROUPS] = groups_of(words[ROWS], columns)
    words[STAGED] = masked or (weighted and table[WEIGHTS][PLAIN] == 0)
    for row in (LOGITS, LABELS, RESULT, GRADIENT):
        operand = first + row * width
        if words[operand + CODE] == MISSING:
            continue
        if row in (RESULT, GRADIENT) and words[operand + CODE] != computed:
            words[STAGED] = 1
        if not lies_in_order(words, operand):
            words[STAGED] = 1
