"""With a weight for each column the loss is that of weights written out for each element."""

import ml_dtypes
import numpy as np
import pytest
from reference import ulp

import sce_numba as sce
from sce_numba.kernels.columns import COLUMNS, ROWS

REDUCTIONS = [each for each in dict.fromkeys(sce.Reduction.all()) if each != sce.Reduction.NONE]
# One tile, some, those that have what is left, and rows that make no whole step.
SHAPES = [
    (ROWS, COLUMNS),
    (ROWS + 1, COLUMNS + 1),
    (2 * ROWS - 1, 2 * COLUMNS - 1),
    (3 * ROWS + 2, 3 * COLUMNS + 15),
]


def operands(shape, dtype=np.float32, labels=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 4, shape).astype(dtype)
    weights = (rng.random((1, shape[1])) * (rng.random((1, shape[1])) < 0.8)).astype(np.float32)
    return (rng.random(shape) < 0.5).astype(labels), logits, weights


def written_out(labels, logits, weights, **options):
    return sce.sigmoid_cross_entropy(
        labels, logits, np.broadcast_to(weights, logits.shape).copy(), **options
    )


def assert_same(given, dtype=np.float32, **options):
    """Both are within 1 ULP of the exact value."""
    one, other = sce.sigmoid_cross_entropy(*given, **options), written_out(*given, **options)
    np.testing.assert_equal(np.isfinite(one), np.isfinite(other))
    if np.isfinite(one):
        assert abs(np.float64(one) - np.float64(other)) <= 2 * ulp(other, dtype)
    else:
        np.testing.assert_equal(one, other)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_for_any_number_of_rows_and_columns(shape, reduction):
    assert_same(operands(shape), reduction=reduction, label_smoothing=0.1)


@pytest.mark.parametrize("labels", ["?", "i1", "i8", "f2", "f4", "f8"])
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_for_any_dtype(dtype, labels):
    assert_same(operands(SHAPES[1], dtype, labels), dtype)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", ">f4"])
def test_for_weights_of_any_dtype_and_stride(dtype):
    labels, logits, weights = operands(SHAPES[1])
    weights = np.repeat((8 * weights).astype(dtype), 3, axis=1)[:, ::-3]
    assert_same((labels, logits, weights))


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("operand", [1, 2], ids=["logits", "weights"])
def test_what_is_not_finite_meets_each_element(operand, value):
    given = operands(SHAPES[2])
    given[operand][0, 3] = value
    given[1][1, 3], given[0][1, 3] = 1e4, 1  # a loss of 0
    assert_same(given)


def test_an_infinite_loss_of_weight_0_is_not_a_number():
    labels, logits, weights = operands(SHAPES[0])
    logits[5, 7], labels[5, 7], weights[0, 7] = np.inf, 0, 0
    assert np.isnan(sce.sigmoid_cross_entropy(labels, logits, weights))


def test_tiny_losses_of_a_column_count_if_their_weight_is_huge():
    labels, logits, weights = operands(SHAPES[0])
    logits[:, 3], labels[:, 3], weights[:] = -99, 0, 1e-36
    weights[0, 3] = 1e30
    assert_same((labels, logits, weights), reduction="weighted_sum")


def test_more_axes_than_two_are_rows_if_their_weights_are_alike():
    labels, logits, weights = operands((4 * ROWS, COLUMNS))
    flat = sce.sigmoid_cross_entropy(labels, logits, weights)
    deep = (4, ROWS, COLUMNS)
    shaped = labels.reshape(deep), logits.reshape(deep), weights.reshape(1, 1, COLUMNS)
    assert sce.sigmoid_cross_entropy(*shaped) == flat
