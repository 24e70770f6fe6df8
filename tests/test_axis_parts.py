"""Losses along axes of data in parts are those of all the data, whatever the parts are."""

import pickle
import random
from fractions import Fraction

import axis_calls
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sce_numba as sce
from sce_numba.exact_sums import ADDITIONS, ExactSums


def data(rows=60, classes=7, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((rows, classes))
    return rng.random((rows, classes)) < 0.4, logits, rng.random((rows, classes))


@pytest.mark.parametrize("reduction", axis_calls.REDUCED)
@pytest.mark.parametrize("keepdims", [False, True])
def test_batches_come_to_the_loss_of_all_data(reduction, keepdims):
    labels, logits, weights = data()
    loss = sce.LossAccumulator(reduction, 0.1, [2.0] * 7, axis=0, keepdims=keepdims)
    for rows in (slice(0, 17), slice(17, 18), slice(18, 60)):
        loss.update(labels[rows], logits[rows], weights[rows], labels[rows] | (logits[rows] > 0))
    expected = sce.sigmoid_cross_entropy(
        labels,
        logits,
        weights,
        0.1,
        reduction=reduction,
        pos_weight=[2.0] * 7,
        where=labels | (logits > 0),
        axis=0,
        keepdims=keepdims,
    )
    np.testing.assert_allclose(loss.result(), expected, rtol=1e-15)
    assert loss.result().shape == expected.shape
    assert loss.result(np.float32).dtype == np.float32
    assert loss.count == logits.size


def test_random_batches_agree_with_the_formula():
    for seed in range(200):
        call = axis_calls.draw_call(random.Random(seed))
        rank = np.ndim(call["logits"])
        call["axis"] = (
            tuple({0, *(axis % rank for axis in np.atleast_1d(call["axis"]).astype(int))})
            if rank
            else ()
        )
        options = {name: call.get(name) for name in ("pos_weight", "axis", "keepdims")}
        loss = sce.LossAccumulator(call["reduction"], call.get("label_smoothing", 0), **options)
        given = call["multi_class_labels"], call["logits"], call.get("weights", 1.0)
        loss.update(*given, call.get("where"))
        found = loss.result(np.asarray(call["logits"]).dtype.newbyteorder("="))
        assert axis_calls.agrees(found, call), seed


def test_neither_order_nor_merging_changes_a_bit():
    labels, logits, weights = data()
    orders = [list(range(60)) for _ in range(3)]
    for order in orders[1:]:
        random.Random(0).shuffle(order)
    found = []
    for order in orders:
        parts = [sce.LossAccumulator("weighted_mean", axis=0) for _ in range(4)]
        for place, row in enumerate(order):
            cut = slice(row, row + 1)
            parts[place % 4].update(labels[cut], logits[cut], weights[cut])
        found.append(sum(pickle.loads(pickle.dumps(part)) for part in parts).result())
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_axes_that_stay_must_agree():
    labels, logits, _ = data()
    loss = sce.LossAccumulator(axis=0)
    loss.update(labels, logits)
    before = loss.result()
    with pytest.raises(ValueError, match=r"have the shape \(3,\); those before had \(7,\)"):
        loss.update(labels[:, :3], logits[:, :3])
    np.testing.assert_array_equal(loss.result(), before)
    assert loss.count == logits.size


def test_the_axis_of_the_batch_must_be_reduced():
    labels, logits, _ = data()
    with pytest.raises(ValueError, match="leaves axis 0 of logits"):
        sce.LossAccumulator(axis=1).update(labels, logits)
    for axis in (0, -2, (0,), (0, -1)):
        sce.LossAccumulator(axis=axis).update(labels, logits)


def test_accumulators_of_other_axes_are_not_merged():
    with pytest.raises(ValueError, match="must have the same axis"):
        sce.LossAccumulator(axis=0).merge(sce.LossAccumulator())
    with pytest.raises(ValueError, match="must have the same keepdims"):
        sce.LossAccumulator(axis=0).merge(sce.LossAccumulator(axis=0, keepdims=True))


def test_without_updates_there_is_no_result():
    loss = sce.LossAccumulator(axis=0)
    with pytest.raises(ValueError, match="before the first update"):
        loss.result()
    loss.update(*data()[:2])
    loss.reset()
    with pytest.raises(ValueError, match="before the first update"):
        loss.result()
    assert "axis=(0,)" in repr(loss)


@pytest.mark.parametrize("axis", [0.5, True, "0"])
def test_an_axis_that_is_no_integer_is_refused(axis):
    with pytest.raises(TypeError, match="`axis` must be"):
        sce.LossAccumulator(axis=axis)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.floats(), min_size=3, max_size=3), max_size=6))
def test_sums_side_by_side_lose_no_bit(rows):
    sums = ExactSums(3)
    for row in rows:
        sums.add(np.array(row))
    for k in range(3):
        column = [row[k] for row in rows]
        finite = [x for x in column if np.isfinite(x)]
        exact = sum(map(Fraction, finite), Fraction(0))
        assert Fraction(sums[k].units, 1 << 1074) == exact
        rest = sum(x for x in column if not np.isfinite(x))
        assert sums[k].not_finite == rest or np.isnan([sums[k].not_finite, rest]).all()


def test_digits_are_carried_before_they_overflow():
    sums, other = ExactSums(2), ExactSums(2)
    for part in (sums, other):
        part.add(np.array([1e300, -1e-300]))
        part.additions = ADDITIONS
    sums.merge(other)
    sums.merge(other)
    assert sums.additions <= 2 * ADDITIONS
    assert sums[0].units == 3 * (Fraction(1e300) * (1 << 1074))
    assert sums[1].units == -3 * (Fraction(1e-300) * (1 << 1074))
