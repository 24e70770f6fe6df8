"""Losses along axes are what NumPy makes of the element losses, in longdouble, rounded once."""

import random
import warnings

import axis_calls
import numba
import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from random_calls import laid_out

import sce_numba as sce

LABELS = np.array([[1, 0, 0], [0, 1, 1]])
LOGITS = np.array([[2.0, -1.0, 0.5], [-3.0, 0.0, 4.0]], np.float32)
CALLS = 200


def call_of(seed):
    return axis_calls.draw_call(random.Random(seed))


def check_calls(seeds):
    wrong = [
        seed
        for seed in seeds
        if not axis_calls.agrees(sce.sigmoid_cross_entropy(**call_of(seed)), call_of(seed))
    ]
    assert wrong == []


def test_random_calls_agree_with_the_formula():
    check_calls(range(CALLS))


@pytest.mark.thorough
def test_five_thousand_random_calls_agree_with_the_formula():
    check_calls(range(CALLS, 5000))


@settings(max_examples=100, deadline=None)
@given(st.randoms(use_true_random=False))
def test_any_call_agrees_with_the_formula(rng):
    given_ = axis_calls.draw_call(rng)
    assert axis_calls.agrees(sce.sigmoid_cross_entropy(**given_), given_)


def test_losses_that_are_computed_already_agree_too():
    for seed in range(100):
        given_ = call_of(seed)
        names = "logits", "weights", "axis", "keepdims", "reduction"
        given_ = {name: given_[name] for name in names if name in given_}
        losses = {"losses" if name == "logits" else name: v for name, v in given_.items()}
        assert axis_calls.agrees(sce.compute_weighted_loss(**losses), given_), seed


def test_integer_losses_stay_integers():
    found = sce.compute_weighted_loss(np.array([[1, 2], [4, 8]]), axis=0)
    assert found.dtype == np.int64
    assert found.tolist() == [2, 5]


@pytest.mark.parametrize("axis", [0, 1, (0, 1), (), -1])
@pytest.mark.parametrize("reduction", axis_calls.REDUCED)
def test_each_result_is_the_loss_of_its_elements_alone(axis, reduction):
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((6, 5))
    labels, weights = rng.random((6, 5)), rng.integers(0, 2, (6, 5)).astype(float)
    kept = sce.sigmoid_cross_entropy(
        labels, logits, weights, reduction=reduction, axis=axis, keepdims=True
    )
    for index in np.ndindex(kept.shape):
        part = tuple(
            slice(None) if length == 1 else slice(k, k + 1)
            for k, length in zip(index, kept.shape, strict=True)
        )
        own = labels[part], logits[part], weights[part]
        alone = sce.sigmoid_cross_entropy(*own, reduction=reduction)
        np.testing.assert_allclose(kept[index], alone, rtol=4e-16)


def test_gradients_are_those_of_the_sum_of_the_results():
    for seed in range(300):
        given_ = call_of(seed)
        loss, gradient = sce.sigmoid_cross_entropy_value_and_grad(**given_)
        assert axis_calls.agrees(loss, given_), seed
        exact, allowed = axis_calls.gradient(given_)
        found = np.asarray(gradient).astype(np.float64)
        with np.errstate(invalid="ignore"):
            near = np.abs(found - exact) <= allowed
        # Weights that are not finite make what they meet so, one way or another.
        assert np.all(near | (found == exact) | (~np.isfinite(found) & ~np.isfinite(exact))), seed


def test_a_gradient_may_take_the_place_of_the_logits():
    expected = sce.sigmoid_cross_entropy_value_and_grad(LABELS, LOGITS, axis=0)
    logits, out = LOGITS.copy(), np.empty(3, np.float32)
    options = {"axis": 0, "grad_out": logits, "out": out}
    loss, gradient = sce.sigmoid_cross_entropy_value_and_grad(LABELS, logits, **options)
    assert loss is out
    assert gradient is logits
    np.testing.assert_array_equal(out, expected[0])
    np.testing.assert_array_equal(logits, expected[1])


def test_the_gradient_is_zero_where_nothing_counts():
    logits = LOGITS.copy()
    logits[0, 1] = np.nan
    where = np.array([True, False, True])
    loss, gradient = sce.sigmoid_cross_entropy_value_and_grad(LABELS, logits, where=where, axis=0)
    assert loss[1] == 0
    assert gradient[:, 1].tolist() == [0, 0]
    assert np.all(gradient[:, ::2] != 0)


@pytest.mark.parametrize(
    "shape", [(64, 6000), (6000, 64), (300, 20, 40), (200_000, 3), (3, 200_000)]
)
def test_the_number_of_threads_cannot_be_seen(shape):
    rng = np.random.default_rng(0)
    logits = rng.standard_normal(shape, np.float32)
    labels, weights = rng.random(shape) < 0.5, rng.random(shape, np.float32)
    before = numba.get_num_threads()
    for axis in (0, -1):
        for weighing in (1.0, weights):
            found = []
            for threads in (1, before):
                numba.set_num_threads(threads)
                for _ in range(3):
                    found.append(sce.sigmoid_cross_entropy(labels, logits, weighing, axis=axis))
            for other in found[1:]:
                np.testing.assert_array_equal(found[0], other)
    numba.set_num_threads(before)


@pytest.mark.parametrize("layout", ["C", "F", "strided", "reversed", "misaligned", "swapped bytes"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_results_go_to_out_however_it_lies(layout, dtype):
    rng = np.random.default_rng(0)
    logits = laid_out(rng.standard_normal((4, 300, 5)).astype(dtype), layout)
    labels = rng.random((4, 300, 5))
    out = laid_out(np.zeros((4, 5), logits.dtype.newbyteorder("=")), layout).view(logits.dtype)
    found = sce.sigmoid_cross_entropy(labels, logits, axis=1, out=out)
    assert found is out
    np.testing.assert_array_equal(out, sce.sigmoid_cross_entropy(labels, logits, axis=1))


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"axis": 2}, ValueError, "`axis` names axis 2"),
        ({"axis": -3}, ValueError, "from -2 to 1"),
        ({"axis": (0, -2)}, ValueError, "no axis twice"),
        ({"axis": 0.0}, TypeError, "`axis` must be None, an integer or a tuple"),
        ({"axis": "time"}, TypeError, "got 'time'. Pass names of axes of a DataArray as `dim`"),
        ({"axis": True}, TypeError, "`axis` must be"),
        ({"axis": "rows"}, TypeError, "`axis` must be"),
        ({"axis": 0, "keepdims": None}, TypeError, "`keepdims` must be True or False"),
        ({"axis": 0, "reduction": "none"}, ValueError, "need a reduction"),
        ({"axis": 0, "shape": (2,)}, ValueError, "`out` must have the shape that `axis` leaves"),
        ({"axis": 0, "dtype": np.float64}, TypeError, "`out` must have the dtype"),
    ],
)
def test_what_is_refused_changes_nothing(options, error, said):
    out = np.full(options.pop("shape", (3,)), 7, options.pop("dtype", np.float32))
    with pytest.raises(error, match=said):
        sce.sigmoid_cross_entropy(LABELS, LOGITS, out=out, **options)
    assert np.all(out == 7)


def test_out_must_have_memory_of_its_own():
    logits = LOGITS.copy()
    with pytest.raises(ValueError, match="`out` overlaps another argument"):
        sce.sigmoid_cross_entropy(LABELS, logits, axis=0, out=logits[1])
    np.testing.assert_array_equal(logits, LOGITS)


def test_one_result_without_axes_is_a_scalar_and_the_same_as_without_axis():
    alone = sce.sigmoid_cross_entropy(LABELS, LOGITS)
    found = sce.sigmoid_cross_entropy(LABELS, LOGITS, axis=(0, 1))
    assert type(found) is np.float32
    assert found == alone
    kept = sce.sigmoid_cross_entropy(LABELS, LOGITS, keepdims=True)
    assert kept.shape == (1, 1)
    assert kept[0, 0] == alone
    out = np.zeros((), np.float32)
    assert sce.sigmoid_cross_entropy(LABELS, LOGITS, axis=(0, 1), out=out) is out
    assert out == alone


def test_several_results_stay_out_of_the_default_collection():
    with sce.collect_losses() as losses:
        sce.sigmoid_cross_entropy(LABELS, LOGITS, axis=(0, 1))
        with pytest.warns(UserWarning, match="Losses along an axis are not recorded"):
            sce.sigmoid_cross_entropy(LABELS, LOGITS, axis=0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            sce.sigmoid_cross_entropy(LABELS, LOGITS, axis=0, loss_collection="classes")
        assert len(losses) == 1
        assert sce.get_losses(loss_collection="classes")[0].shape == (3,)


def test_huge_results_overflow_and_tiny_ones_are_kept():
    logits = np.array([[-100.0, 3e38], [-80.0, 3e38]], np.float32)
    found = sce.sigmoid_cross_entropy(np.zeros((2, 2)), logits, axis=0, reduction="weighted_sum")
    exact = reference.exact_loss(np.zeros((2, 2)), logits).sum(axis=0)
    assert found[0] == np.float32(exact[0])
    assert found[1] == np.inf
