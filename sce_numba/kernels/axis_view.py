"""The view of a reduction along some axes: what is kept by what is reduced.

The axes are flattened as in ``flatten``, but those that are kept and those that are reduced each by
themselves.  Which of the two come last in the view, and so which elements meet in a vector, is the
choice between two loops:

``along``   what is reduced lies together and is long: each row of the view is a result
``across``  what is kept lies together, or what is reduced is short: each column is one

Few columns would leave lanes empty.  Where rows of the view follow one another without gaps, so
many of them are *packed* into one that its columns fill whole vectors; these are added up at the
end.  Where what is reduced lies in the middle, the kept axes before it make *blocks*, each of which
is a view of its own.

Where the fastest of what is reduced is short, and the rest lies beyond what is kept, that rest is
reduced first, and then so many neighbours among the columns are *folded* into one result.

The work is dealt out in strips of results, and each strip, where there are few of them, in ranges
of what is reduced.  Sums of ranges are added in order, so the number of threads can't be seen.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .block import BLOCK, SHORT
from .dtypes import MISSING
from .flatten import join_axes, lies_in_order, words_of, write_rows
from .lanes import LANES
from .memory import get
from .tiles import GROUPS as MOST_GROUPS
from .tiles import TILES
from .view import (
    BY_ELEMENT,
    CODE,
    COLUMNS,
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
    Array,
    Call,
)

# Lines in a strip: rows along; columns across, where they lie together and where they don't.  In
# long runs memory is read faster, but so much that is gathered would not stay in the caches.
ROWS_ALONG, TOGETHER, GATHERED = 16, 2048, 256
# There are ranges where strips are fewer than this, and no range is shorter than so many rows.
UNITS, SHORTEST = 16, 64
# More columns than this are not packed, nor fewer rows than make so many; and from so many columns
# on the lanes that a row of them leaves empty don't matter.
PACKABLE, FEWEST, FILLED = 1024, 8, 4 * LANES
# More neighbours than this are not folded, nor any where columns have fewer rows than this.
FOLDABLE, FOLDED_ROWS = 1024, 4
# Sums of a result, see ``tiles.Sums``.
FIELDS = 5

# Words behind those of a layout, for each field of a plan.
KEPT, REDUCED, LINES, LENGTH, REST, WIDTH = range(6)
RANGES, PITCH, FIRST, RANK_KEPT, INNER, PACKED, BLOCKS, FOLDED = range(6, 14)
MORE = 14


class Plan(NamedTuple):
    """How a reduction along some axes is dealt out, as numbers of compiled code."""

    kept: Any  # how many results there are
    reduced: Any  # elements of a result
    lines: Any  # rows along, or columns across in a block, that are added up
    length: Any  # elements of each
    rest: Any  # elements of a block behind the last whole row of packed columns
    width: Any  # lines in a strip
    ranges: Any  # parts of a strip
    pitch: Any  # numbers from one field of the sums to the next; 0 where no sums are kept
    first: Any  # the first kept axis of the view behind the reduced ones
    rank_kept: Any  # how many kept axes the view has, whose lengths follow the plan
    inner: Any  # rows of the view that are evenly apart
    packed: Any  # rows of the view that are one
    blocks: Any  # parts of the view that follow one another
    folded: Any  # neighbours among the columns that are one result


def _place_of_plan(call: Call) -> Any:
    return call.layout + 8 * SHAPE + (call.rank + OPERANDS * (call.rank + STRIDES)) * 8


def plan_of(call: Call) -> Plan:
    """Return the plan behind the layout of a call."""
    place = _place_of_plan(call)
    return Plan(*(get(place, k) for k in range(MORE)))


def kept_of(call: Call, plan: Plan, row: int) -> Array:
    """Return the results, or weights that are alike within each, which have the kept axes only."""
    array = call.array(row)
    return Array(array.address, array.row, _place_of_plan(call) + 8 * MORE, plan.rank_kept)


def axis_words(rank: int) -> int:
    """Return how many words a layout with a plan may take."""
    return words_of(rank + 2) + MORE + rank + 2


def is_along(lengths: Any, table: Any, reduced: Any) -> bool:
    """Tell whether what is reduced lies together and is long."""
    size, fastest, along = 1, 0, True
    for axis in range(len(lengths)):
        if reduced[axis] != 0:
            size *= lengths[axis]
        step = abs(table[LOGITS][STRIDES + axis])
        # Of axes that are broadcast alike the last is taken.
        if lengths[axis] != 1 and (fastest == 0 or step <= fastest):
            fastest, along = max(step, 1), reduced[axis] != 0
    return size >= SHORT and along


def lies_without_gaps(lengths: Any, row: Any) -> bool:
    """Tell whether an array takes up memory without gaps, whatever the order of its axes."""
    dense = bool(row[PLAIN] != 0)
    for axis in range(len(lengths)):
        step, inside = row[STRIDES + axis], row[ITEMSIZE]
        for other in range(len(lengths)):
            if lengths[other] != 1 and row[STRIDES + other] < step:
                inside *= lengths[other]
        if lengths[axis] != 1 and step != inside:
            dense = False
    return dense


def move_slower(lengths: Any, table: Any, reduced: Any, kept: Any, slower: Any) -> int:
    """Move kept axes that are slower than all that is reduced from ``kept`` to ``slower``.

    Return how many blocks they make: none, but for one, where the logits have gaps, where other
    kept axes are not faster than all that is reduced, or where a block would be too small.
    """
    steps = table[LOGITS]
    least, most, size = 0, 0, 1
    for axis in range(len(lengths)):
        if reduced[axis] != 0 and lengths[axis] != 1:
            step = steps[STRIDES + axis]
            least = step if least == 0 else min(least, step)
            most = max(most, step)
            size *= lengths[axis]
    fits = lies_without_gaps(lengths, steps) and least > steps[ITEMSIZE]
    count = 1
    for axis in range(len(lengths)):
        step = steps[STRIDES + axis]
        if reduced[axis] == 0 and lengths[axis] != 1 and step <= most:
            fits = fits and step < least
            count *= lengths[axis]
    blocks = 1
    fills = count >= FILLED or size >= FEWEST * whole_rows(count)
    if fits and fills and count * size >= SHORT:
        for axis in range(len(lengths)):
            if lengths[axis] != 1 and steps[STRIDES + axis] > most:
                kept[axis], slower[axis] = 0, 1
                blocks *= lengths[axis]
    return blocks


def fold_fastest(lengths: Any, table: Any, reduced: Any, kept: Any) -> int:
    """Move reduced axes that are faster than all kept ones from ``reduced`` to ``kept``.

    Return how many elements they have: none, but for one, where these or the others are too many or
    too few for that to pay.
    """
    steps = table[LOGITS]
    least = 0
    for axis in range(len(lengths)):
        step = abs(steps[STRIDES + axis])
        if kept[axis] != 0 and lengths[axis] != 1:
            least = step if least == 0 else min(least, step)
    count, rest = 1, 1
    for axis in range(len(lengths)):
        if reduced[axis] != 0:
            if abs(steps[STRIDES + axis]) < least:
                count *= lengths[axis]
            else:
                rest *= lengths[axis]
    if count > FOLDABLE or rest < FOLDED_ROWS:
        return 1
    for axis in range(len(lengths)):
        if reduced[axis] != 0 and abs(steps[STRIDES + axis]) < least:
            reduced[axis], kept[axis] = 0, 1
    return count


def flatten_axes(
    lengths: Any,
    table: Any,
    reduced: Any,
    kept: Any,
    slower: Any,
    by_element: bool,
    words: Any,
    axes: Any,
) -> bool:
    """Write the layout and the plan of a reduction to ``words``, which are 0; tell if it is along.

    As ``flatten``; ``reduced`` and ``kept`` have another number than 0 for each of their axes, and
    ``slower`` has zeros; all of them are changed.  ``by_element`` says that weights are
    taken so in any case.  ``axes`` has room for two numbers more than there are axes.
    """
    varies = False
    for axis in range(len(lengths)):
        if reduced[axis] != 0 and lengths[axis] != 1 and table[WEIGHTS][STRIDES + axis] != 0:
            varies = True
    along = is_along(lengths, table, reduced)
    folded = fold_fastest(lengths, table, reduced, kept)
    along = along and folded == 1
    before, blocks = 0, 1
    if along:
        middle = join_axes(lengths, table, kept, words, axes, 0)
        rank = join_axes(lengths, table, reduced, words, axes, middle)
        first, kept_axes = 0, middle
    else:
        blocks = move_slower(lengths, table, reduced, kept, slower)
        if blocks > 1:
            before = join_axes(lengths, table, slower, words, axes, 0)
        middle = join_axes(lengths, table, reduced, words, axes, before)
        rank = join_axes(lengths, table, kept, words, axes, middle)
        first, kept_axes = middle, before + rank - middle
    write_rows(table, words, axes, rank)
    start, width = SHAPE + rank, STRIDES + rank
    plan = start + OPERANDS * width
    count, size = 1, 1
    for k in range(rank):
        if k < before or first <= k < first + kept_axes - before:
            count *= words[SHAPE + k]
        else:
            size *= words[SHAPE + k]
    # Weights that are alike for all elements of a result.
    masked = table[WHERE][CODE] != MISSING or table[POS_WEIGHT][CODE] != MISSING
    weighted = table[WEIGHTS][CODE] != MISSING
    bare = table[LABELS][CODE] == MISSING
    words[BY_ELEMENT] = masked or bare or (weighted and (varies or by_element))
    words[STAGED] = masked or (weighted and table[WEIGHTS][PLAIN] == 0)
    in_order = True
    for row in (LOGITS, LABELS):
        if table[row][CODE] != MISSING and not lies_in_order(words, start + row * width):
            in_order = False
    words[STAGED] = along and (words[STAGED] != 0 or not in_order)
    # What has the kept axes only, without those that are folded.
    left = folded
    while left > 1:
        kept_axes -= 1
        left //= words[SHAPE + first + kept_axes - before]
    for k in range(kept_axes):
        axis = k if k < before else first + k - before
        words[plan + MORE + k] = words[SHAPE + axis]
        for row in (RESULT, WEIGHTS):
            own = start + row * width + STRIDES
            if row == RESULT or words[BY_ELEMENT] == 0:
                words[own + k] = words[own + axis]
    inner = count // blocks
    packed = 1
    if not along:
        logits = start + LOGITS * width
        packed = packed_rows(inner, size, words, logits, middle - before, blocks)
    length = size // packed
    lines = inner * packed
    strip = ROWS_ALONG
    if not along:
        # Short runs of what is kept are read row by row from as few places as can be.
        run = inner
        for row in (LOGITS, LABELS):
            own = start + row * width
            if table[row][CODE] != MISSING:
                run = min(run, run_of(words, own, first))
        strip = TOGETHER if packed > 1 or run == inner or run >= GATHERED else GATHERED
        strip = max(strip // folded, 1) * folded
    in_block = (lines + strip - 1) // strip
    strips = blocks * in_block
    most = (length + BLOCK - 1) // BLOCK // TILES if along else length // SHORTEST
    ranges = max(min(UNITS // strips, most), 1)
    words[ROWS], words[COLUMNS] = (count, size) if along else (length, lines)
    words[GROUPS] = min(MOST_GROUPS, strips * ranges)
    words[plan + KEPT], words[plan + REDUCED] = count // folded, size * folded
    words[plan + LINES], words[plan + LENGTH] = lines, length
    words[plan + REST] = (size - length * packed) * inner
    words[plan + WIDTH], words[plan + RANGES] = strip, ranges
    # Packed rows of a block that is done at once are added up where they are.
    together = ranges == 1 and (packed == 1 or in_block == 1)
    words[plan + PITCH] = 0 if together else lines // folded * blocks + LANES
    words[plan + FIRST], words[plan + RANK_KEPT] = first, kept_axes
    words[plan + INNER] = length if packed > 1 else words[SHAPE + middle - 1]
    words[plan + PACKED], words[plan + BLOCKS], words[plan + FOLDED] = packed, blocks, folded
    return along


def run_of(words: Any, own: int, first: int) -> int:
    """Return how many elements of an array lie together along its axes from ``first`` on."""
    run, k = 1, words[RANK] - 1
    while k >= first and words[own + STRIDES + k] == words[own + ITEMSIZE] * run:
        run *= words[SHAPE + k]
        k -= 1
    return run


def whole_rows(count: int) -> int:
    """Return how many rows of ``count`` columns fill whole vectors."""
    one, two = count, LANES
    while two:
        one, two = two, one % two
    return LANES // one


def packed_rows(count: int, size: int, words: Any, logits: int, middle: int, blocks: int) -> int:
    """Return how many rows of the view are taken as one."""
    whole = whole_rows(count)
    if whole == 1 or count >= PACKABLE or middle != 1:
        return 1
    if not lies_in_order(words, logits):
        return 1
    packed = whole * max(min(GATHERED // (whole * count), size // (whole * SHORTEST)), 1)
    # Sums of a block that is done in parts would have to be kept.
    fits = blocks == 1 or packed * count <= TOGETHER
    return packed if fits and size >= FEWEST * packed else 1
