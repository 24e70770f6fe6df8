"""How a reduction along axes is dealt out can't be seen in its results, whatever the shape."""

import subprocess
import sys

import axis_calls
import numba
import numpy as np
import pytest
from mpmath import log1p, mp, mpf

import sce_numba as sce
from sce_numba.kernels.axis_view import FOLDED
from sce_numba.kernels.softplus import log1p_coarse
from sce_numba.kernels.view import OPERANDS, RANK, SHAPE, STRIDES
from sce_numba.layout import _remembered

# Lengths and axes: what is reduced lies on both sides of what is kept.
FOLDED_ONES = [
    ((40, 30, 7), (0, 2)),  # columns that don't fill their last vector
    ((20, 50, 17), (0, 2)),
    ((12, 700, 30), (0, 2)),  # several strips
    ((1000, 3, 5), (0, 2)),  # rows that are packed, and a rest of them
    ((1003, 5, 10), (0, 2)),  # the same in parts
    ((6, 40, 100, 16), (1, 3)),  # blocks
    ((10, 9, 8, 40), (0, 1, 3)),
    ((9, 4, 11, 6, 5), (0, 2, 4)),  # kept axes apart
    ((8, 3, 1024), (0, 2)),  # as many neighbours as can be
    ((4, 700, 10), (0, 2)),  # as few rows as can be
]
OTHERS = [
    ((8, 3, 1025), (0, 2)),
    ((3, 90, 9), (0, 2)),
    ((5, 1025), 0),  # rows that don't fill whole vectors
    ((30, 2047), 0),
    ((40, 10, 66), 1),  # small blocks
    ((60, 3, 300), 1),
    ((90, 10, 10), 1),  # runs of a few elements
    ((50, 7, 3), 1),
    ((9, 40, 13, 2), (0, 2)),
    ((90, 129), -1),
]
OPTIONS = {
    "plain": {},
    "float64": {"dtype": "float64"},
    "float16": {"dtype": "float16"},
    "mean": {"reduction": "weighted_mean", "weights": "full"},
    "one weight a class": {"weights": "last"},
    "one weight a row": {"weights": "first"},
    "where": {"where": True},
    "pos_weight": {"pos_weight": True},
    "labels of another layout": {"order": "F", "label_smoothing": 0.1},
}


def drawn(shape, axis, dtype="float32", weights=None, where=False, pos_weight=False, order="C",
          **options):  # fmt: skip
    rng = np.random.default_rng(0)
    logits = (rng.standard_normal(shape) * 4).astype(dtype)
    labels = np.array(rng.random(shape) < 0.3, dtype, order=order)
    own = {
        "full": shape,
        "last": (1,) * (len(shape) - 1) + shape[-1:],
        "first": shape[:1] + (1,) * (len(shape) - 1),
    }
    given = {"multi_class_labels": labels, "logits": logits, "axis": axis, "keepdims": False}
    given["reduction"] = options.pop("reduction", sce.Reduction.SUM_BY_NONZERO_WEIGHTS)
    if weights:
        given["weights"] = rng.integers(0, 3, own[weights]).astype(dtype)
    if where:
        given["where"] = rng.random(shape) < 0.7
    if pos_weight:
        given["pos_weight"] = rng.random(shape[-1:]).astype(np.float32)
    return given | options


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize(("shape", "axis"), FOLDED_ONES + OTHERS)
def test_every_plan_gives_what_the_formula_does(shape, axis, option):
    given = drawn(shape, axis, **OPTIONS[option])
    assert axis_calls.agrees(sce.sigmoid_cross_entropy(**given), given)


@pytest.mark.parametrize(("shape", "axis"), FOLDED_ONES + OTHERS[:2])
def test_neighbours_are_folded_where_that_pays(shape, axis):
    _remembered.clear()
    sce.sigmoid_cross_entropy(**drawn(shape, axis))
    (layout,) = (layout for key, layout in _remembered.items() if axis in key)
    plan = SHAPE + layout.words[RANK] + OPERANDS * (STRIDES + layout.words[RANK])
    folds = (shape, axis) in FOLDED_ONES
    assert layout.words[plan + FOLDED] == (shape[-1] if folds else 1)


@pytest.mark.parametrize("length", [*range(1, 21), 47, 64, 130, 255])
@pytest.mark.parametrize("rows", [1, 15, 16, 17, 300])
def test_how_short_rows_are_read_cannot_be_seen(rows, length):
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((rows, length), np.float32) * 6
    labels = np.array(rng.random((rows, length)) < 0.3, np.float32)
    expected = sce.sigmoid_cross_entropy(labels != 0, logits, axis=-1)
    np.testing.assert_array_equal(sce.sigmoid_cross_entropy(labels, logits, axis=-1), expected)


@pytest.mark.parametrize(
    ("shape", "axis"), [((300, 400, 7), (0, 2)), ((3000, 3, 20), (0, 2)), ((400, 1025), 0)]
)
def test_the_number_of_threads_cannot_be_seen(shape, axis):
    given, before = drawn(shape, axis), numba.get_num_threads()
    expected = sce.sigmoid_cross_entropy(**given)
    numba.set_num_threads(1)
    alone = sce.sigmoid_cross_entropy(**given)
    numba.set_num_threads(before)
    np.testing.assert_array_equal(alone, expected)


# An array at the end of memory: behind it is a page that can't be read.
AT_THE_END = """
import ctypes, mmap, sys
import numpy as np
import sce_numba as sce

libc = ctypes.CDLL(None, use_errno=True)
page = mmap.PAGESIZE

def at_the_end(array):
    size = -(-array.nbytes // page) * page
    memory = mmap.mmap(-1, size + page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    assert libc.mprotect(ctypes.c_void_p(start + size), page, 0) == 0
    found = np.frombuffer(memory, array.dtype, array.size, size - array.nbytes)
    found = found.reshape(array.shape)
    found[...] = array
    return found

rng = np.random.default_rng(0)
for shape, axis in [
    ((9, 1025), 0), ((9, 129), 0), ((70, 20), 0), ((5, 9, 65), 1), ((40, 30, 7), (0, 2)),
    ((90, 10, 10), 1), ((50, 7, 3), 1), ((90, 10), -1), ((3, 300), 1), ((90, 129), -1),
    ((90, 7), -1),
]:
    logits = rng.standard_normal(shape).astype(np.float32)
    for labels in (rng.random(shape) < 0.5, rng.random(shape).astype(np.float32)):
        expected = sce.sigmoid_cross_entropy(labels, logits, axis=axis)
        found = sce.sigmoid_cross_entropy(at_the_end(labels), at_the_end(logits), axis=axis)
        np.testing.assert_array_equal(found, expected)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="protects pages as Linux does")
def test_nothing_is_read_behind_an_array():
    subprocess.run([sys.executable, "-c", AT_THE_END], check=True)


def test_logarithms_of_products_have_the_digits_of_float32_and_more():
    powers = 2.0 ** np.arange(-1000, 960, 7)
    values = [*powers, *np.nextafter(powers, 0), *np.linspace(0.4, 2.1, 500), 1 - 2.0**-53, 0.0]
    found = log1p_coarse(np.array(values))
    with mp.workdps(30):
        exact = [log1p(mpf(value)) for value in values]
        errors = [abs(mpf(a) - b) for a, b in zip(found, exact, strict=True)]
        assert all(error <= b * 2**-30 for error, b in zip(errors, exact, strict=True))
