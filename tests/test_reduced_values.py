"""A reduced value is within 1 ULP of the exact one, on data as they come."""

import math

import numpy as np
import pytest
from reference import quick_loss

import sce_numba as sce

ROWS, COLUMNS = 300, 700
RNG = np.random.default_rng(17)


def bernoulli(p):
    return (RNG.random((ROWS, COLUMNS)) < p).astype(np.float32)


def normal(mean, deviation):
    return RNG.normal(mean, deviation, (ROWS, COLUMNS)).astype(np.float32)


def signed(labels, logits):
    """Return logits that are right about the labels."""
    return np.where(labels == 1, np.abs(logits), -np.abs(logits)).astype(np.float32)


def with_outlier(logits):
    logits = logits.copy()
    logits[7, 11] = -12345.678
    return logits


HALF, RARE = bernoulli(0.5), bernoulli(0.01)
DISTRIBUTIONS = {
    "confident and right": (HALF, signed(HALF, normal(12, 4))),
    "confident, a tenth wrong": (
        HALF,
        signed(np.where(bernoulli(0.1), 1 - HALF, HALF), normal(9, 3)),
    ),
    "uncertain": (HALF, normal(0, 0.1)),
    "untrained": (HALF, np.zeros((ROWS, COLUMNS), np.float32)),
    "ordinary": (HALF, normal(0, 2)),
    "imbalanced": (RARE, normal(-4, 1.5)),
    "one huge outlier": (
        np.ones_like(HALF),
        with_outlier(signed(np.ones_like(HALF), normal(15, 2))),
    ),
    "all right around 40": (HALF, signed(HALF, normal(40, 1))),
    "soft labels": (RNG.random((ROWS, COLUMNS)).astype(np.float32), normal(0, 3)),
    "heavy tails": (HALF, RNG.standard_t(1.5, (ROWS, COLUMNS)).astype(np.float32)),
}
WEIGHTS = {
    "none": np.float32(1),
    "rows": RNG.random((ROWS, 1)).astype(np.float32),
    "rows of alternating sign": np.where(np.arange(ROWS) % 2, -1.5, 1).astype(np.float32)[:, None],
    "columns": RNG.random((1, COLUMNS)).astype(np.float32),
    "elements": (RNG.random((ROWS, COLUMNS)) * bernoulli(0.8)).astype(np.float32),
    "alternating sign": np.where(
        np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS) % 2, -1.25, 1
    ).astype(np.float32),
}


def exact_value(labels, logits, weights, reduction):
    weights = np.broadcast_to(weights, logits.shape).astype(np.float64)
    numerator = math.fsum((weights * quick_loss(labels, logits, np.float64)).ravel())
    return (
        numerator
        / {
            "weighted_sum": 1,
            "weighted_mean": math.fsum(weights.ravel()),
            "weighted_sum_over_batch_size": weights.size,
            "weighted_sum_by_nonzero_weights": np.count_nonzero(weights),
        }[reduction]
    )


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize(("labels", "logits"), DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)
def test_reduced_values_are_within_1_ulp(labels, logits, weights):
    for reduction in set(sce.Reduction) - {sce.Reduction.NONE}:
        exact = exact_value(labels, logits, weights, reduction)
        actual = sce.sigmoid_cross_entropy(labels, logits, weights, reduction=reduction)
        error = abs(float(actual) - exact) / float(np.spacing(np.float32(abs(exact))))
        assert error <= 1, f"{reduction}: {error:.2f} ULP"
