"""What compiled code is told of a call, in words of 64 bits: the arrays, as a flattened view.

The *call* holds the address of the layout, those of the arrays, and the numbers that go with them.
The *layout* is what many calls share: the joined axes, and for each array a row of dtype code,
bytes an element, whether its memory can be read as it stands (aligned, native byte order), whether
its bytes are swapped, and the byte strides.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .lanes import select
from .memory import get

# Rows of the layout; the address of an array that is not given is 0.
LOGITS, LABELS, WEIGHTS, WHERE, POS_WEIGHT, RESULT, GRADIENT = 0, 1, 2, 3, 4, 5, 6
OPERANDS = 7

# Words of a call: the layout, the arrays' addresses, then whole numbers, of which the last is the
# address of scratch memory for what is done on the calling thread, then float64.
LAYOUT, ADDRESSES = 0, 1
REDUCTION, SECOND, LOST_TO, SCRATCH_AT = 8, 9, 10, 11
WEIGHT, SMOOTHING, SCALE = 12, 13, 14
WORDS = 15

# Words of a layout: rows and columns of the view (a tile never crosses a row), whether the weight
# varies along a row, whether arrays have to be gathered, groups of tiles, axes, and where in the
# objects that a call has for its arrays their addresses are, 0 if it has these themselves (see
# ``array_address``); then the lengths of the axes, then the arrays' rows, then the float64 numbers
# that the formula of the loss takes.
ROWS, COLUMNS, BY_ELEMENT, STAGED, GROUPS, RANK, FIELD, SHAPE = 0, 1, 2, 3, 4, 5, 6, 7
CODE, ITEMSIZE, PLAIN, SWAPPED, STRIDES = 0, 1, 2, 3, 4


class Array(NamedTuple):
    """An array of the flattened view: address of the first element, and its row of the table."""

    address: Any
    row: Any
    shape: Any  # the address of the lengths of the axes, and how many there are
    rank: Any

    @property
    def code(self) -> Any:
        """The dtype."""
        return get(self.row, CODE)

    @property
    def itemsize(self) -> Any:
        """Bytes an element."""
        return get(self.row, ITEMSIZE)

    @property
    def is_plain(self) -> Any:
        """Whether its memory can be read as it stands: aligned, in native byte order."""
        return get(self.row, PLAIN) != 0

    @property
    def is_swapped(self) -> Any:
        """Whether the bytes of each element are in the other order."""
        return get(self.row, SWAPPED) != 0

    def stride(self, axis: Any) -> Any:
        """Return the bytes from one element to the next along an axis."""
        return get(self.row, axis + STRIDES)

    def length(self, axis: Any) -> Any:
        """Return the number of elements along an axis."""
        return get(self.shape, axis)


class Call(NamedTuple):
    """A call as compiled code sees it."""

    address: Any
    layout: Any
    rank: Any

    def array(self, row: int) -> Array:
        """Return one of the arrays."""
        shape, place = self.layout + 8 * SHAPE, self.address + 8 * (ADDRESSES + row)
        held, field = get(place), get(self.layout, FIELD)
        place = select((held != 0) & (field != 0), held + field, place)
        return Array(get(place), self._row(row), shape, self.rank)

    def _row(self, row: int) -> Any:
        return self.layout + 8 * SHAPE + self.rank * 8 + (self.rank + STRIDES) * (8 * row)

    def parameter(self, k: int) -> Any:
        """Return one of the numbers that the formula of the loss takes."""
        return get(self._row(OPERANDS), k, np.float64)

    def number(self, word: int) -> Any:
        """Return one of the numbers that go with the arrays."""
        return get(self.address, word, np.float64 if word >= WEIGHT else np.int64)

    @property
    def rows(self) -> Any:
        """Rows of the view."""
        return get(self.layout, ROWS)

    @property
    def columns(self) -> Any:
        """Elements in a row of the view."""
        return get(self.layout, COLUMNS)

    @property
    def groups(self) -> Any:
        """In how many groups the tiles are dealt out."""
        return get(self.layout, GROUPS)


def opened(address: Any) -> Call:
    """Return the call that lies at an address."""
    layout = get(address, LAYOUT)
    return Call(address, layout, get(layout, RANK))
