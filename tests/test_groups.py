"""The loss of each group is that of its elements alone, whichever way they are told apart."""

import random

import axis_calls
import numpy as np
import pytest

import sce_numba as sce
from sce_numba import evaluation
from sce_numba.groups import AT_A_TIME, HELD
from sce_numba.kernels import parallel

RNG = np.random.default_rng(0)
LOGITS = RNG.standard_normal((50, 7)).astype(np.float32)
LABELS = RNG.random((50, 7)) < 0.4
WEIGHTS = RNG.integers(0, 3, (50, 7)).astype(np.float32)
ROWS = RNG.integers(0, 5, 50)


def alone(codes, number, **options):
    """Return the loss of each group, from a call of its own."""
    chosen = [np.broadcast_to(codes, LOGITS.shape) == group for group in range(number)]
    found = [
        sce.sigmoid_cross_entropy(LABELS, LOGITS, WEIGHTS, where=own, **options) for own in chosen
    ]
    return np.array(found, np.float32)


@pytest.mark.parametrize("reduction", axis_calls.REDUCED)
@pytest.mark.parametrize(
    "codes",
    [ROWS, RNG.integers(0, 5, (50, 1)), RNG.integers(0, 5, 7), RNG.integers(0, 5, (50, 7)), 3],
)
@pytest.mark.parametrize("dtype", [np.int8, np.uint64])
def test_each_group_has_the_loss_of_its_elements(reduction, codes, dtype):
    codes = np.asarray(codes).astype(dtype)
    options = {"reduction": reduction, "label_smoothing": 0.1}
    found = sce.sigmoid_cross_entropy(
        LABELS, LOGITS, WEIGHTS, groups=codes, num_groups=6, **options
    )
    assert found.dtype == np.float32
    by_element = codes[:, None] if codes.shape == (50,) else codes
    expected = alone(by_element, 6, **options)
    np.testing.assert_array_max_ulp(found, expected, maxulp=1)
    assert found[5] == 0


def test_random_groups_agree_with_the_formula():
    for seed in range(150):
        rng = random.Random(seed)
        given = axis_calls.draw_call(rng)
        shape = np.shape(given["logits"])
        if not shape:
            continue
        cut = tuple(n if rng.random() < 0.5 else 1 for n in shape)
        codes = np.random.default_rng(seed).integers(0, 3, cut)
        del given["axis"], given["keepdims"]
        found = sce.sigmoid_cross_entropy(**given, groups=codes, num_groups=3)
        assert found.shape == (3,)
        for group in range(3):
            where = (codes == group) & given.get("where", True)
            own = given | {"where": where, "axis": tuple(range(len(shape))), "keepdims": False}
            assert axis_calls.agrees(found[group], own), seed


def test_many_rows_are_added_without_losing_digits():
    logits = RNG.standard_normal((200_000, 3))
    labels, codes = RNG.random((200_000, 3)), RNG.integers(0, 4, 200_000)
    found = sce.sigmoid_cross_entropy(labels, logits, groups=codes)
    for group in range(4):
        own = codes == group
        exact = sce.sigmoid_cross_entropy(labels[own], logits[own])
        np.testing.assert_array_max_ulp(found[group], exact, maxulp=1)


def test_losses_that_are_computed_already_have_groups_too():
    losses = np.abs(LOGITS)
    found = sce.compute_weighted_loss(losses, WEIGHTS, groups=ROWS)
    for group in range(5):
        own = group == ROWS
        exact = sce.compute_weighted_loss(losses[own], WEIGHTS[own])
        np.testing.assert_array_max_ulp(found[group], exact, maxulp=1)


def test_categories_are_groups():
    pandas = pytest.importorskip("pandas")
    names = pandas.Series(list("abcde"))[ROWS].reset_index(drop=True)
    kind = pandas.CategoricalDtype(list("abcdef"))
    expected = sce.sigmoid_cross_entropy(LABELS, LOGITS, groups=ROWS, num_groups=6)
    for column in (names.astype(kind), pandas.Categorical(names, dtype=kind)):
        found = sce.sigmoid_cross_entropy(LABELS, LOGITS, groups=column)
        np.testing.assert_array_equal(found, expected)


def test_results_go_to_out():
    out = np.zeros(10, np.float32)[::2]
    assert sce.sigmoid_cross_entropy(LABELS, LOGITS, groups=ROWS, out=out) is out
    np.testing.assert_array_equal(out, sce.sigmoid_cross_entropy(LABELS, LOGITS, groups=ROWS))


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        (
            {"groups": ROWS - 1},
            ValueError,
            "must hold numbers of at least 0, got -1. Where it stands",
        ),
        ({"groups": ROWS, "num_groups": 4}, ValueError, "less than `num_groups`, 4, got 4. Raise"),
        ({"groups": -2 * ROWS}, ValueError, "of at least 0, got -.*. Exclude these elements"),
        ({"groups": ROWS, "num_groups": 0}, ValueError, "less than `num_groups`, 0, got"),
        ({"groups": ROWS * 1.0}, TypeError, "`groups` must be integer"),
        ({"groups": ROWS[:8]}, ValueError, r"`groups` of shape \(8,\) can not be broadcast"),
        ({"groups": ROWS, "num_groups": -1}, ValueError, "`num_groups` must be an integer"),
        ({"groups": ROWS, "num_groups": 2.5}, TypeError, "`num_groups` must be an integer"),
        ({"num_groups": 5}, ValueError, "`num_groups` needs `groups`"),
        ({"groups": ROWS, "axis": 0}, ValueError, "together with `axis`"),
        ({"groups": ROWS, "reduction": "none"}, ValueError, "needs a reduction"),
    ],
)
def test_groups_that_do_not_fit_are_refused(options, error, said):
    out = np.full(5, 7, np.float32)
    with pytest.raises(error, match=said):
        sce.sigmoid_cross_entropy(LABELS, LOGITS, out=out, **options)
    assert np.all(out == 7)


@pytest.mark.parametrize("least", [2**20 - ROWS.max(), 10**9, 2**63])
def test_numbers_that_are_no_codes_are_refused_before_they_take_memory(least):
    ids = ROWS.astype(np.uint64) + np.uint64(least)
    with pytest.raises(ValueError, match=r"`groups` must .* less than 1048576 .*return_inverse"):
        sce.sigmoid_cross_entropy(LABELS, LOGITS, groups=ids)


def test_there_may_be_many_groups_if_they_are_told_or_have_many_elements():
    codes = ROWS + 2**20
    found = sce.sigmoid_cross_entropy(LABELS, LOGITS, groups=codes, num_groups=codes.max() + 1)
    expected = sce.sigmoid_cross_entropy(LABELS, LOGITS, groups=ROWS)
    np.testing.assert_array_equal(found[2**20 :], expected)
    logits = np.zeros(2**17)
    codes = np.arange(logits.size) * 16
    assert sce.sigmoid_cross_entropy(logits, logits, groups=codes).size == codes[-1] + 1


def test_without_elements_every_group_has_a_loss_of_zero():
    found = sce.sigmoid_cross_entropy(LABELS[:0], LOGITS[:0], groups=ROWS[:0], num_groups=3)
    assert found.tolist() == [0, 0, 0]


def test_batches_come_to_the_groups_of_all_data():
    loss, merged = (sce.LossAccumulator("weighted_mean", num_groups=5) for _ in range(2))
    for rows in (slice(0, 20), slice(20, 50)):
        loss.update(LABELS[rows], LOGITS[rows], WEIGHTS[rows], groups=ROWS[rows])
        part = sce.LossAccumulator("weighted_mean", num_groups=5)
        part.update(LABELS[rows], LOGITS[rows], WEIGHTS[rows], groups=ROWS[rows])
        merged.merge(part)
    expected = sce.sigmoid_cross_entropy(
        LABELS, LOGITS, WEIGHTS, reduction="weighted_mean", groups=ROWS
    )
    np.testing.assert_array_max_ulp(loss.result(np.float32), expected, maxulp=1)
    np.testing.assert_array_equal(loss.result(), merged.result())
    with pytest.raises(ValueError, match="goes together with `num_groups`"):
        loss.update(LABELS, LOGITS)
    with pytest.raises(ValueError, match="goes together with `num_groups`"):
        sce.LossAccumulator().update(LABELS, LOGITS, groups=ROWS)
    with pytest.raises(ValueError, match="less than `num_groups`, 5, got 5"):
        loss.update(LABELS, LOGITS, groups=ROWS + 1)
    np.testing.assert_array_equal(loss.result(), merged.result())


@pytest.mark.parametrize("lazy_groups", [False, True])
def test_dask_arrays_have_groups(lazy_groups):
    da = pytest.importorskip("dask.array")
    labels, logits = (da.from_array(array, chunks=(13, 4)) for array in (LABELS, LOGITS))
    groups = da.from_array(ROWS, chunks=17) if lazy_groups else ROWS
    options = {"groups": groups, "num_groups": 6, "reduction": "weighted_mean"}
    found = sce.sigmoid_cross_entropy(labels, logits, WEIGHTS, **options)
    expected = sce.sigmoid_cross_entropy(LABELS, LOGITS, WEIGHTS, **options | {"groups": ROWS})
    assert found.shape == (6,)
    np.testing.assert_array_max_ulp(found.compute(), expected, maxulp=1)
    losses = sce.compute_weighted_loss(abs(logits), **options)
    own = sce.compute_weighted_loss(np.abs(LOGITS), **options | {"groups": ROWS})
    np.testing.assert_array_max_ulp(losses.compute(), own, maxulp=1)


def test_data_arrays_have_groups_by_dimension():
    xr = pytest.importorskip("xarray")
    labels, logits = (xr.DataArray(array, dims=("row", "kind")) for array in (LABELS, LOGITS))
    groups = xr.DataArray(np.arange(7) % 3, dims="kind")
    found = sce.sigmoid_cross_entropy(labels, logits, groups=groups)
    expected = sce.sigmoid_cross_entropy(LABELS, LOGITS, groups=np.arange(7) % 3)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("reduction", axis_calls.REDUCED)
@pytest.mark.parametrize("codes", [ROWS, RNG.integers(0, 5, (1, 7)), RNG.integers(0, 5, (50, 7))])
def test_the_gradient_is_that_of_the_sum_of_all_groups(reduction, codes):
    options = {"reduction": reduction, "label_smoothing": 0.1}
    own = {"groups": codes, "num_groups": 6}
    loss, gradient = sce.sigmoid_cross_entropy_value_and_grad(
        LABELS, LOGITS, WEIGHTS, **own, **options
    )
    expected = sce.sigmoid_cross_entropy(LABELS, LOGITS, WEIGHTS, **own, **options)
    np.testing.assert_array_equal(loss, expected)
    by_element = np.broadcast_to(codes[:, None] if codes.ndim == 1 else codes, LOGITS.shape)
    for group in range(5):
        chosen = by_element == group
        _, alone = sce.sigmoid_cross_entropy_value_and_grad(
            LABELS, LOGITS, WEIGHTS, where=chosen, **options
        )
        np.testing.assert_array_max_ulp(gradient[chosen], alone[chosen], maxulp=1)


def test_the_gradient_of_groups_may_take_the_place_of_the_logits():
    logits, out = LOGITS.copy(), np.empty(5, np.float32)
    expected = sce.sigmoid_cross_entropy_value_and_grad(LABELS, LOGITS, groups=ROWS)
    loss, gradient = sce.sigmoid_cross_entropy_value_and_grad(
        LABELS, logits, groups=ROWS, out=out, grad_out=logits
    )
    assert loss is out
    assert gradient is logits
    np.testing.assert_array_equal(out, expected[0])
    np.testing.assert_array_equal(logits, expected[1])
    with pytest.raises(ValueError, match="groups"):
        sce.sigmoid_cross_entropy_value_and_grad(LABELS, LOGITS, groups=ROWS, axis=0)


def test_gradients_of_groups_are_lazy_for_dask_and_named_for_xarray():
    da, xr = pytest.importorskip("dask.array"), pytest.importorskip("xarray")
    options = {"num_groups": 6, "reduction": "weighted_mean"}
    expected = sce.sigmoid_cross_entropy_value_and_grad(
        LABELS, LOGITS, WEIGHTS, groups=ROWS, **options
    )
    labels, logits = (da.from_array(array, chunks=(13, 4)) for array in (LABELS, LOGITS))
    found = sce.sigmoid_cross_entropy_value_and_grad(
        labels, logits, WEIGHTS, groups=da.from_array(ROWS, chunks=17), **options
    )
    for lazy, own in zip(found, expected, strict=True):
        np.testing.assert_array_max_ulp(lazy.compute(), own, maxulp=1)
    labels, logits, weights = (
        xr.DataArray(array, dims=("row", "kind")) for array in (LABELS, LOGITS, WEIGHTS)
    )
    loss, gradient = sce.sigmoid_cross_entropy_value_and_grad(
        labels, logits, weights, groups=xr.DataArray(ROWS, dims="row"), **options
    )
    assert gradient.dims == ("row", "kind")
    np.testing.assert_array_equal(loss, expected[0])
    np.testing.assert_array_equal(gradient.to_numpy(), expected[1])


def test_more_elements_may_differ_in_groups_than_are_held_at_a_time():
    shape = (129, 130, 129)
    assert shape[1] * shape[2] > AT_A_TIME
    rng = np.random.default_rng(0)
    losses = rng.integers(0, 8, shape).astype(np.float64)
    codes = rng.integers(0, 3, shape)
    found = sce.compute_weighted_loss(losses, groups=codes, reduction="weighted_sum")
    np.testing.assert_array_equal(found, np.bincount(codes.ravel(), losses.ravel()))


def test_rows_are_added_to_groups_without_asking_for_threads(monkeypatch):
    asked = []

    def run(loop, *rest):
        asked.append(loop.job.kind)
        return parallel.run(loop, *rest)

    monkeypatch.setattr(evaluation, "run", run)
    # Of short rows, so many are held at once.
    rows = HELD // 3
    assert rows >= parallel.CROSSOVER
    logits = np.zeros((rows, 2), np.float32)
    sce.sigmoid_cross_entropy(logits, logits, groups=np.zeros(rows, int))
    assert asked == ["across"]
