"""How the arrays of a call lie, worked out once for all that lie so (see ``kernels.flatten``)."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from .arguments import NATIVE, dtype_code
from .kernels.array_address import address
from .kernels.compile import kernel
from .kernels.flatten import flatten, words_of
from .kernels.operand import ONE, own_format
from .kernels.tiles import Form
from .kernels.view import (
    BY_ELEMENT,
    GROUPS,
    LABELS,
    LOGITS,
    OPERANDS,
    STAGED,
    STRIDES,
    WEIGHTS,
)

_BY_NUMBER: dict[int, np.dtype[Any]] = {dtype.num: dtype for dtype in NATIVE}
_SINGLE, _DOUBLE = np.dtype(np.float32), np.dtype(np.float64)

# Of so many layouts those last used are remembered.
REMEMBERED = 256


class Layout:
    """What some arrays have in common with all that lie as they do; and what reads them."""

    def __init__(self, words: list[int], dtype: Any) -> None:
        """Take the words of the view, and the dtype that is computed in."""
        self.words = np.array(words, np.int64)
        self.address = address(self.words)
        self.groups = words[GROUPS]
        self.form = form = Form(bool(words[STAGED]), bool(words[BY_ELEMENT]))
        # What adds up losses, writes losses, and writes gradients; compiled when first called.
        self.totals, self.losses, self.slopes = (
            kernel(kind, dtype, form) for kind in ("totals", "losses", "slopes")
        )


def computed_in(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype in which losses of logits of a dtype are computed."""
    return _DOUBLE if dtype.kind == "f" and dtype.itemsize == 8 else _SINGLE


def layout_of(arrays: dict[int, np.ndarray]) -> Layout:
    """Return the flattened view; all arrays but the weights have the shape of the logits.

    They are given by their rows in the kernels' layout, the logits first.
    """
    operands = [
        (row, array.dtype, array.shape, array.strides, array.flags.aligned)
        for row, array in arrays.items()
    ]
    return _layout(tuple(operands))


def layout_in_c_order(
    logits: np.ndarray, labels: np.ndarray, weights: np.ndarray | None, result: int = 0
) -> Layout:
    """Do as ``layout_of`` for native arrays in C order, in less time; 0 for no result."""
    key = logits.dtype.num, labels.dtype.num, logits.shape, result
    if weights is None:
        return _layout_in_c_order(*key)
    return _layout_in_c_order(*key, weights.dtype.num, weights.shape)


@functools.lru_cache(REMEMBERED)
def _layout_in_c_order(
    logits: int,
    labels: int,
    shape: tuple[int, ...],
    result: int,
    weights: int | None = None,
    weights_shape: tuple[int, ...] = (),
) -> Layout:
    shapes = {LOGITS: (logits, shape), LABELS: (labels, shape)}
    if weights is not None:
        shapes[WEIGHTS] = weights, weights_shape
    if result:
        shapes[result] = logits, shape
    operands = []
    for row, (number, shape) in shapes.items():
        dtype, steps, step = _BY_NUMBER[number], [], _BY_NUMBER[number].itemsize
        for size in reversed(shape):
            steps.append(step)
            step *= size
        operands.append((row, dtype, shape, tuple(reversed(steps)), True))
    return _layout(tuple(operands))


@functools.lru_cache(REMEMBERED)
def _layout(operands: tuple[tuple[Any, ...], ...]) -> Layout:
    _, logits, lengths, *_ = operands[0]
    computed = computed_in(logits)
    rank = len(lengths)
    table: list[list[Any]] = [[ONE] + [0] * (STRIDES - 1 + rank) for _ in range(OPERANDS)]
    for row, dtype, shape, strides, is_aligned in operands:
        steps = [step if size != 1 else 0 for step, size in zip(strides, shape, strict=True)]
        plain = is_aligned and dtype.isnative
        table[row] = [dtype_code(dtype), dtype.itemsize, plain, not dtype.isnative, *steps]
    words = [0] * words_of(rank)
    flatten(lengths, table, own_format(computed.type)[0], words, [0] * rank)
    return Layout(words, computed.type)
