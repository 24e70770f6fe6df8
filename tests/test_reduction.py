"""``Reduction`` has TensorFlow's names, strings and denominators."""

import numpy as np
import pytest

import sce_numba as sce
from sce_numba import Reduction
from sce_numba.reduction import CODES

ROWS = np.ones((3, 1))

STRINGS = {
    "NONE": "none",
    "SUM": "weighted_sum",
    "MEAN": "weighted_mean",
    "SUM_OVER_BATCH_SIZE": "weighted_sum_over_batch_size",
    "SUM_BY_NONZERO_WEIGHTS": "weighted_sum_by_nonzero_weights",
    "SUM_OVER_NONZERO_WEIGHTS": "weighted_sum_by_nonzero_weights",
}


def test_members_are_their_strings():
    assert {name: str(getattr(Reduction, name)) for name in STRINGS} == STRINGS
    assert all(getattr(Reduction, name) == value for name, value in STRINGS.items())
    assert f"{Reduction.SUM}" == "weighted_sum"


def test_all_lists_six_names_of_five_values():
    assert list(Reduction.all()) == [
        "none",
        "weighted_sum",
        "weighted_mean",
        "weighted_sum_over_batch_size",
        "weighted_sum_by_nonzero_weights",
        "weighted_sum_by_nonzero_weights",
    ]


@pytest.mark.parametrize("key", [*STRINGS.values(), *Reduction])
def test_members_and_strings_are_valid_everywhere(key):
    Reduction.validate(key)
    sce.sigmoid_cross_entropy([1.0], [0.0], reduction=key)


@pytest.mark.parametrize("weight", [0.0, -0.0, 0, False])
def test_a_denominator_of_0_gives_0_even_under_nan(weight):
    for weights in (weight, np.full((2, 1), weight), np.full((2, 2), weight)):
        for reduction in (Reduction.MEAN, Reduction.SUM_BY_NONZERO_WEIGHTS):
            loss = sce.sigmoid_cross_entropy(
                np.ones((2, 2)), np.full((2, 2), np.nan), weights, reduction=reduction
            )
            assert loss == 0


def test_a_zero_weight_does_not_hide_nan():
    logits, weights = np.array([np.nan, 1.0]), np.array([0.0, 1.0])
    for reduction in (Reduction.SUM, Reduction.MEAN, Reduction.SUM_OVER_BATCH_SIZE):
        assert np.isnan(sce.sigmoid_cross_entropy([1, 1], logits, weights, reduction=reduction))
    losses = sce.sigmoid_cross_entropy([1, 1], logits, weights, reduction=Reduction.NONE)
    np.testing.assert_array_equal(np.isnan(losses), [True, False])


def test_weights_that_cancel_give_a_mean_of_0():
    assert (
        sce.sigmoid_cross_entropy([1, 0], [3.0, 5.0], [1.0, -1.0], reduction="weighted_mean") == 0
    )


def test_a_class_weight_of_0_is_counted_once_for_each_example():
    losses = np.ones((3, 2), np.float32)
    weights = np.array([[1.0, 0.0]])
    assert sce.compute_weighted_loss(losses, weights) == 1.0
    assert sce.compute_weighted_loss(losses, weights, reduction="weighted_sum") == 3.0
    assert (
        sce.compute_weighted_loss(losses, weights, reduction="weighted_sum_over_batch_size") == 0.5
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_sums_too_large_for_the_dtype_are_infinite_without_a_warning(dtype):
    largest = np.full(4, np.finfo(dtype).max, dtype)
    assert sce.compute_weighted_loss(largest, reduction="weighted_sum") == np.inf
    assert sce.compute_weighted_loss(largest, 2.0, reduction="none")[0] == np.inf
    if dtype is not np.float64:
        assert sce.compute_weighted_loss(largest) == largest[0]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(300,), (5000,), (3, 257), (70_000,)])
def test_losses_already_computed_are_weighed_and_reduced_whatever_their_number(shape, dtype):
    losses = np.random.default_rng(9).integers(-8, 64, shape).astype(dtype) / dtype(8)
    rows = np.arange(1.0, 1 + shape[0]).reshape(-1, *[1] * (len(shape) - 1)) % 4
    for weights in (1.0, 2.0, rows):
        w = np.broadcast_to(weights, shape)
        total = float((w * losses.astype(float)).sum())
        expected = {
            "weighted_sum_over_batch_size": total / w.size,
            "weighted_mean": total / w.sum(),
            "weighted_sum_by_nonzero_weights": total / np.count_nonzero(w),
        }
        for reduction, value in expected.items():
            actual = sce.compute_weighted_loss(losses, weights, reduction=reduction)
            assert actual == pytest.approx(value, rel=float(np.finfo(dtype).eps))
        strided = np.repeat(losses, 2, axis=-1)[..., ::2]
        assert sce.compute_weighted_loss(strided, weights) == sce.compute_weighted_loss(
            losses, weights
        )


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("MEAN", "weighted_mean"),
        ("sum", "weighted_sum"),
        ("SUM", "weighted_sum"),
        ("Reduction.MEAN", "weighted_mean"),
        ("Weighted_Mean", "weighted_mean"),
        ("sum_over_batch_size", "weighted_sum_over_batch_size"),
        ("sum_by_nonzero_weights", "weighted_sum_by_nonzero_weights"),
        ("SUM_OVER_NONZERO_WEIGHTS", "weighted_sum_by_nonzero_weights"),
        ("NONE", "none"),
        (None, "none"),
    ],
)
def test_the_string_of_a_constant_is_told_for_its_name(key, meant):
    with pytest.raises(ValueError, match=rf"\. Did you mean '{meant}'\?$"):
        Reduction.validate(key)


def test_both_are_told_that_a_mean_may_be():
    both = "'weighted_mean', or 'weighted_sum_over_batch_size', as in PyTorch"
    with pytest.raises(ValueError, match=rf"\. Did you mean {both}\?$"):
        Reduction.validate("mean")


@pytest.mark.parametrize("key", ["average", "", 3, b"mean"])
def test_nothing_is_told_for_what_is_no_name(key):
    with pytest.raises(ValueError, match=r"weights'\.$"):
        Reduction.validate(key)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.int64])
def test_integer_losses_come_to_the_integer_part_of_their_loss(dtype):
    # As TensorFlow casts them to float32, and what they come to back.
    losses, weights = np.array([[1, 2, 6], [0, 3, 5]], dtype), [[1.0], [0.5]]
    for reduction, value in (
        ("weighted_sum", 13),
        ("weighted_mean", 2),  # 13 / 4.5
        ("weighted_sum_by_nonzero_weights", 2),  # 13 / 6
        ("weighted_sum_over_batch_size", 2),
    ):
        found = sce.compute_weighted_loss(losses, weights, reduction=reduction)
        assert (found, found.dtype) == (value, dtype)
    found = sce.compute_weighted_loss(losses, weights, reduction="none")
    np.testing.assert_array_equal(found, [[1, 2, 6], [0, 1, 2]])
    assert found.dtype == dtype
    if np.dtype(dtype).kind == "i":
        assert sce.compute_weighted_loss(losses, -0.5) == -1  # -8.5 / 6
    assert sce.compute_weighted_loss(losses, 0.0) == 0


def test_what_the_command_line_takes_is_what_is_suggested():
    from sce_numba.command_line.evaluate import parse_reduction

    for text in ("mean", "MEAN", "weighted_mean", "Reduction.MEAN"):
        assert parse_reduction(text) is Reduction.MEAN
    with pytest.raises(ValueError, match="Did you mean 'weighted_mean'"):
        sce.sigmoid_cross_entropy([1], [0.0], reduction="mean")


@pytest.mark.parametrize(
    "door",
    [
        lambda *given: sce.sigmoid_cross_entropy(*given, reduction="weighted_sum"),
        lambda *given: sce.sigmoid_cross_entropy(*given, 2.0, reduction="weighted_sum"),
        lambda *given: sce.sigmoid_cross_entropy(*given, ROWS, reduction="weighted_sum"),
        lambda *given: sce.sigmoid_cross_entropy_value_and_grad(*given, reduction="weighted_sum"),
        lambda *given: sce.sigmoid_cross_entropy_value_and_grad(
            *given, ROWS, reduction="weighted_sum"
        ),
        lambda *given: sce.compute_weighted_loss(*given, reduction="weighted_sum"),
        lambda *given: sce.LossAccumulator("weighted_sum").update(*given),
    ],
)
def test_a_reduction_that_no_divisor_is_known_for_is_an_error_everywhere(door, monkeypatch):
    monkeypatch.setitem(CODES, "weighted_sum", 4)
    with pytest.raises(ValueError, match="no divisor"):
        door(np.ones((3, 2)), np.ones((3, 2)))
