"""How the arrays of a call lie, worked out once for all that lie so (see ``kernels.flatten``)."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy import ndarray  # quicker to look up

from .arguments import dtype_code
from .kernels import array_address
from .kernels.compile import kernel
from .kernels.dtypes import MISSING
from .kernels.elements import SIGMOID, Formula
from .kernels.flatten import flatten, words_of
from .kernels.operand import own_format
from .kernels.tiles import Form
from .kernels.view import (
    BY_ELEMENT,
    COLUMNS,
    FIELD,
    GRADIENT,
    GROUPS,
    LABELS,
    LOGITS,
    OPERANDS,
    RANK,
    RESULT,
    ROWS,
    SHAPE,
    STAGED,
    STRIDES,
    WEIGHTS,
    WHERE,
)

_SINGLE, _DOUBLE = np.dtype(np.float32), np.dtype(np.float64)
# Bits of `flags.num`: aligned, and in C order as well.
_ALIGNED, _C_ORDER = 0x100, 0x101

_RESULTS = RESULT, GRADIENT

# Of so many layouts at most is remembered what they are.
REMEMBERED = 256
_remembered: dict[tuple[Any, ...], Layout] = {}
found = _remembered.get
L = TypeVar("L", bound="Layout")


class Layout:
    """What some arrays have in common with all that lie as they do, and what reads them."""

    def __init__(
        self,
        arrays: dict[int, np.ndarray],
        computed: Any = None,
        formula: Formula = SIGMOID,
        *parameters: float,
    ) -> None:
        """Take the arrays by their rows in the kernels' layout, the logits first.

        They are broadcast to the shape of the logits, whose dtype decides which one is computed in.
        """
        logits = arrays[LOGITS]
        self.computed = computed = computed or computed_in(logits.dtype).type
        words = self._flattened(arrays)
        self.words = np.array(words + [0] * len(parameters), np.int64)
        behind = words_of(words[RANK])
        self.words.view(np.float64)[behind : behind + len(parameters)] = parameters
        self.words[FIELD] = array_address.FIELD
        self.formula: tuple[Any, ...] = formula, *parameters
        self.address = array_address.address(self.words)
        self.groups, self.size = words[GROUPS], logits.size
        self.form = form = Form(bool(words[STAGED]), bool(words[BY_ELEMENT]), formula)
        # What adds up losses, writes losses, and writes gradients; compiled when first called.
        self.totals, self.losses, self.slopes = (
            kernel(kind, computed, form) for kind in ("totals", "losses", "slopes")
        )
        # What adds up weights, which is of one form as to what is read.
        self.weights = kernel("weights", computed, Form(True, form.by_element))
        self._counted: Layout | None = None
        self._with_new: dict[tuple[int, ...], Layout] = {}

    def _flattened(self, arrays: dict[int, np.ndarray]) -> list[int]:
        """Return the words of the view."""
        shape = arrays[LOGITS].shape
        words = [0] * words_of(len(shape))
        code, _ = own_format(self.computed)
        flatten(shape, table_of(arrays), code, words, [0] * (len(shape) + 1))
        return words

    def with_results(self, arrays: dict[int, np.ndarray], new: bool) -> Layout:
        """Return the layout of arrays that lie so, with the results that are among them.

        All that are ``new`` lie in one way.
        """
        rows = tuple(arrays)
        if new:
            layout = self._with_new.get(rows)
            if layout is None:
                layout = self._with_new[rows] = Layout(arrays, None, *self.formula)
            return layout
        key = self, *rows, *key_of({row: arrays[row] for row in _RESULTS if row in arrays})
        return found(key) or remember(key, Layout(arrays, None, *self.formula))

    def of(self, arrays: dict[int, np.ndarray], formula: Formula, *parameters: float) -> Layout:
        """Return the layout of arrays that lie so, for another loss than the plain one."""
        key = self, formula, *parameters
        return found(key) or remember(key, Layout(arrays, None, formula, *parameters))

    def counted(self, arrays: dict[int, np.ndarray]) -> Layout:
        """Return the layout of those of the arrays that decide a divisor.

        The logits are not read: without ``where`` they have the shape of the weights.
        """
        if self._counted is None:
            deciding = {row: arrays[row] for row in (WEIGHTS, WHERE) if row in arrays}
            shape = {LOGITS: arrays[LOGITS if WHERE in arrays else WEIGHTS]}
            self._counted = Layout(shape | deciding, self.computed)
        return self._counted


class RowLayout:
    """How the sums of rows lie, for the kernels that add them to those of groups."""

    def __init__(self, count: int) -> None:
        self.words = np.zeros(SHAPE + 1 + OPERANDS * (STRIDES + 1), np.int64)
        self.words[[ROWS, COLUMNS, GROUPS, RANK, SHAPE]] = 1, count, 1, 1, count
        self.words[FIELD] = array_address.FIELD
        self.address = array_address.address(self.words)


def computed_in(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype in which losses of logits of a dtype are computed."""
    return _DOUBLE if dtype.kind == "f" and dtype.itemsize == 8 else _SINGLE


def remembered(arrays: dict[int, Any]) -> Layout | None:
    """Return the layout of arrays, if others that lie as they do have had one.

    It has one only if it passed every check of dtypes and shapes.  What isn't an array has none.
    """
    return found(key_of(arrays))


def layout_of(arrays: dict[int, np.ndarray]) -> Layout:
    """Return the layout of arrays that were checked; the logits are not empty."""
    key = key_of(arrays)
    return found(key) or remember(key, Layout(arrays))


def remember(key: tuple[Any, ...], layout: L) -> L:
    """Return a layout, which from now on is found by its key."""
    if len(_remembered) >= REMEMBERED:
        _remembered.clear()
    _remembered[key] = layout
    return layout


def table_of(arrays: dict[int, np.ndarray]) -> list[list[Any]]:
    """Return a row for each operand of the kernels, as ``flatten`` takes them."""
    rank = arrays[LOGITS].ndim
    table: list[list[Any]] = [[MISSING] + [0] * (STRIDES - 1 + rank) for _ in range(OPERANDS)]
    for row, array in arrays.items():
        dtype = array.dtype
        steps = [
            step if size != 1 else 0 for step, size in zip(array.strides, array.shape, strict=True)
        ]
        plain = array.flags.aligned and dtype.isnative
        table[row] = [dtype_code(dtype), dtype.itemsize, plain, not dtype.isnative]
        table[row] += [0] * (rank - array.ndim) + steps
    return table


def key_of(arrays: dict[int, Any]) -> tuple[Any, ...]:
    """Return what decides a layout, of arrays in C order their shapes and dtypes; or nothing."""
    key: tuple[Any, ...] = ()
    flags, first = _C_ORDER, LOGITS
    if LABELS in arrays:  # both at once take half the time
        x, z = arrays[LOGITS], arrays[LABELS]
        if type(x) is not ndarray or type(z) is not ndarray:
            return ()
        flags, first = x.flags.num & z.flags.num & _C_ORDER, LABELS + 1
        key = x.dtype, x.shape, z.dtype, z.shape
        if len(arrays) == 2 and flags == _C_ORDER:
            return key
    for row, array in arrays.items():
        if row >= first:
            if type(array) is not ndarray:
                return ()
            flags &= array.flags.num
            key += row, array.dtype, array.shape
    if flags != _C_ORDER:
        key += tuple((array.flags.num & _ALIGNED, array.strides) for array in arrays.values())
    return key
