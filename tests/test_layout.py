"""What the kernels are told of arrays leads them to every element, in one order for all arrays.

And a call like one that was checked before returns what that did, to the last bit.
"""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import REDUCTIONS

import sce_numba as sce
from sce_numba import evaluation, losses
from sce_numba import layout as layouts
from sce_numba.kernels import array_address
from sce_numba.kernels.array_address import address
from sce_numba.kernels.tiles import Form
from sce_numba.kernels.view import (
    COLUMNS,
    FIELD,
    LABELS,
    LOGITS,
    OPERANDS,
    RANK,
    ROWS,
    SHAPE,
    STRIDES,
    WEIGHTS,
    WHERE,
)
from sce_numba.layout import Layout, layout_of
from sce_numba.operands import recognised
from sce_numba.reduction import CODES


def shape_of(layout):
    return tuple(layout.words[SHAPE : SHAPE + layout.words[RANK]])


def view_of(layout, arrays, row):
    """Return what a kernel sees of an array: the joined axes, from the address on."""
    shape = shape_of(layout)
    width = STRIDES + len(shape)
    table = layout.words[SHAPE + len(shape) :][: OPERANDS * width].reshape(OPERANDS, width)
    return np.lib.stride_tricks.as_strided(arrays[row], shape, tuple(table[row, STRIDES:]))


@st.composite
def operands(draw):
    """Draw logits, labels in a memory order of their own, and weights broadcast along some axes."""
    shape = tuple(draw(st.lists(st.integers(1, 4), max_size=4)))
    numbers = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    axes = range(len(shape))

    def laid_out(array):
        if not shape:
            return np.asarray(array)
        order, step = draw(st.permutations(axes)), draw(st.sampled_from([1, 2]))
        packed = np.ascontiguousarray(array.transpose(order)).transpose(np.argsort(order))
        return np.repeat(packed, step, axis=-1)[..., ::step]

    kept = [draw(st.booleans()) for _ in axes]
    where = tuple(slice(None) if keep else slice(1) for keep in kept)
    arrays = {LOGITS: laid_out(numbers + 0.5), LABELS: laid_out(numbers)}
    return arrays | {WEIGHTS: laid_out(numbers[where] + 0.25)}


@given(operands())
def test_every_array_is_seen_whole_and_in_the_order_of_the_logits(arrays):
    layout = layout_of(arrays)
    logits, labels, weights = (view_of(layout, arrays, row) for row in (LOGITS, LABELS, WEIGHTS))
    assert sorted(logits.ravel()) == sorted(arrays[LOGITS].ravel())
    np.testing.assert_array_equal(labels, logits - 0.5)
    whole = np.broadcast_to(arrays[WEIGHTS], arrays[LOGITS].shape)
    expected = dict(zip(arrays[LOGITS].ravel(), whole.ravel(), strict=True))
    assert list(weights.ravel()) == [expected[logit] for logit in logits.ravel()]
    assert layout.words[ROWS] * layout.words[COLUMNS] == arrays[LOGITS].size


@pytest.mark.parametrize("shape", [(), (1,), (6,), (1, 6), (2, 3, 4), (2, 1, 3)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_in_one_order_without_gaps_are_one_row(shape, order):
    array = np.zeros(shape, order=order)
    layout = layout_of({LOGITS: array, LABELS: array.copy("K")})
    assert layout.form == Form(staged=False, by_element=False)
    assert (layout.words[ROWS], layout.words[COLUMNS]) == (1, array.size)
    assert shape_of(layout) == (array.size,)


def form_of(**others):
    logits = np.zeros((3, 2000), np.float32)
    arrays = {LOGITS: logits, LABELS: logits} | {WEIGHTS: np.ones((3, 1), np.float32)}
    rows = {"weights": WEIGHTS, "where": WHERE, "labels": LABELS}
    return layout_of(arrays | {rows[name]: array for name, array in others.items()}).form


def test_weights_of_rows_need_no_code_for_weights_of_elements():
    assert form_of() == Form(staged=False, by_element=False)
    assert form_of(weights=np.ones((1, 2000))) == Form(staged=False, by_element=True)


def test_what_has_to_be_gathered_or_left_out_is_staged():
    assert form_of(labels=np.zeros((3, 4000), bool)[:, ::2]) == Form(True, False)
    assert form_of(weights=np.ones((3, 1), ">f4")) == Form(True, False)
    assert form_of(where=np.ones((3, 2000), bool)) == Form(True, True)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(5),
        np.zeros((4, 6))[1:, ::-2],
        np.zeros(3, ">f4"),
        np.frombuffer(bytes(17), np.uint8)[1:].view(np.float64),
        np.broadcast_to(np.float16(1), (2, 3)),
        np.zeros((0, 3)),
        np.zeros(()),
        np.zeros(3).view(np.ma.MaskedArray),
    ],
    ids=["plain", "strided", "swapped", "unaligned", "broadcast", "empty", "number", "subclass"],
)
def test_the_address_is_that_of_the_array_interface(array):
    assert address(array) == array.__array_interface__["data"][0]


def test_a_call_may_tell_addresses_rather_than_objects(monkeypatch):
    labels, logits = np.float32([[0, 1], [1, 0]]), np.float32([[1, 2], [3, 4]])
    operands = {LOGITS: logits, LABELS: labels}
    expected = sce.sigmoid_cross_entropy(labels, logits)
    assert Layout(operands).words[FIELD] == array_address.FIELD
    monkeypatch.setattr(array_address, "FIELD", 0)
    monkeypatch.setattr(evaluation, "handle", array_address.address)
    given = operands, Layout(operands), 1.0, 0.0, CODES[sce.Reduction.SUM_BY_NONZERO_WEIGHTS]
    assert evaluation.evaluate(given) == expected


def test_a_layout_that_is_remembered_holds_no_address():
    first, second = (np.full((2, 3), value) for value in (1.0, 2.0))
    assert layout_of({LOGITS: first}) is layout_of({LOGITS: second})
    losses = [sce.sigmoid_cross_entropy(array, array) for array in (first, second)]
    assert losses[0] != losses[1]


def same(one, two):
    return type(one) is type(two) and np.asarray(one).tobytes() == np.asarray(two).tobytes()


WEIGHT = {
    "float": 0.75,
    "int": 3,
    "bool": True,
    "zero": 0,
    "float32": np.float32(0.3),
    "int8": np.int8(-2),
    "infinite": np.float64(np.inf),
    "nan": np.float16(np.nan),
    "rows": np.linspace(0, 2, 6, dtype=np.float32)[:, None],
    "rows, float64": np.linspace(0, 2, 6)[:, None],
    "columns, integers": np.arange(5)[None],
    "elements, bool": np.eye(6, 5, dtype=bool),
    "one": np.full((1, 1), 0.3),
}


@pytest.mark.parametrize("weights", WEIGHT.values(), ids=WEIGHT)
@pytest.mark.parametrize("smoothing", [0, 0.1, np.float32(0.1), True, np.int64(1)])
def test_a_call_like_one_before_is_recognised_and_returns_the_same(weights, smoothing, monkeypatch):
    rng = np.random.default_rng(6)
    logits = rng.normal(0, 4, (6, 5)).astype(np.float32)
    labels, where = rng.random((2, *logits.shape)) < 0.4
    known = []

    def seen(*given, **options):
        found = recognised(*given, **options)
        known.append(found is not None)
        return found

    monkeypatch.setattr(losses, "recognised", seen)
    layouts._remembered.clear()

    def results():
        found = []
        for reduction, more in itertools.product(
            REDUCTIONS, ({}, {"where": where}, {"pos_weight": 2}, {"pos_weight": logits[:1]})
        ):
            options = {"label_smoothing": smoothing, "reduction": reduction} | more
            found.append(sce.sigmoid_cross_entropy(labels, logits, weights, **options))
            found += sce.sigmoid_cross_entropy_value_and_grad(labels, logits, weights, **options)
        return found

    first = results()
    assert not known[0]
    known.clear()
    assert all(map(same, first, results()))
    finite_number = np.ndim(weights) == 0 and np.isfinite(weights)
    assert set(known) == {bool(finite_number or np.size(weights) > 1)}


def test_what_was_refused_is_refused_again():
    labels, logits = np.zeros((3, 2), bool), np.zeros((3, 2))
    sce.sigmoid_cross_entropy(labels, logits)
    for _ in range(2):
        with pytest.raises(ValueError, match="same shape"):
            sce.sigmoid_cross_entropy(labels[:2], logits)
        with pytest.raises(ValueError, match="broadcast"):
            sce.sigmoid_cross_entropy(labels, logits, np.ones((3, 3)))
        with pytest.raises(TypeError, match="where"):
            sce.sigmoid_cross_entropy(labels, logits, where=np.ones((3, 2)))
        with pytest.raises(TypeError, match="masked"):
            sce.sigmoid_cross_entropy(labels, np.ma.masked_array(logits, labels))
        with pytest.raises(ValueError, match="label_smoothing"):
            sce.sigmoid_cross_entropy(labels, logits, label_smoothing=2)


def test_no_more_layouts_are_remembered_than_is_said():
    for size in range(1, 2 * layouts.REMEMBERED):
        sce.sigmoid_cross_entropy(np.zeros(size), np.zeros(size))
    assert len(layouts._remembered) <= layouts.REMEMBERED
