"""Every element loss is within its promised number of ULP, wherever a formula might slip.

`tools/exhaustive_ulp.py` goes through all float32 logits; here are a sample of them, dense where
the formulas change: around 0, multiples of ln 2, the ends of the exponential, powers of two.
"""

import numpy as np
import pytest
from reference import derivatives, quick_loss, ulp

import sce_numba as sce

SOFT_LABELS = [0.05, 0.5, 0.95, 0.999, "random"]


def neighbourhood(points, dtype, steps):
    """Return all numbers of `dtype` within so many steps of the points, of both signs."""
    points = np.abs(np.asarray(points, dtype))
    integer = np.int32 if dtype == np.float32 else np.int64
    bits = points.view(integer)[:, None] + np.arange(-steps, steps + 1, dtype=integer)
    magnitudes = np.unique(np.abs(bits)).view(dtype)
    magnitudes = magnitudes[np.isfinite(magnitudes)]
    return np.concatenate([magnitudes, -magnitudes])


def sample(dtype, count, steps):
    """Return logits: a random part in every scale, and the neighbourhood of each breakpoint."""
    rng = np.random.default_rng(5)
    end = 104 if dtype == np.float32 else 746
    smallest = -149 if dtype == np.float32 else -1074
    breakpoints = [
        np.arange(1, 2 * end) * np.log(2) / 2,
        np.arange(1, end),
        np.exp2(np.arange(smallest, 20, dtype=np.float64)),
        [0.0, 87.0, 87.33655, 103.97, 104.0, 708.0, 708.4, 745.13, 745.2],
    ]
    return np.concatenate(
        [
            rng.uniform(-end, end, count // 2).astype(dtype),
            (rng.choice([-1, 1], count // 2) * np.exp2(rng.uniform(-40, 8, count // 2))).astype(
                dtype
            ),
            neighbourhood(np.concatenate(breakpoints), dtype, steps),
        ]
    )


def worst_ulp(labels, logits, wide):
    """Return the greatest error of the element losses, in ULP of the exact value."""
    actual = sce.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)
    exact = quick_loss(labels, logits, wide)
    spacing = np.spacing(np.abs(exact).astype(logits.dtype)).astype(wide)
    return float(np.max(np.abs(actual.astype(wide) - exact) / spacing))


def labels_like(logits, label):
    if label == "random":
        return np.random.default_rng(6).random(logits.shape).astype(logits.dtype)
    return np.full(logits.shape, label, logits.dtype)


@pytest.fixture(scope="module")
def single():
    logits = sample(np.float32, 8_000_000, 3000)
    assert logits.size >= 10_000_000
    return logits


@pytest.fixture(scope="module")
def double():
    logits = sample(np.float64, 600_000, 100)
    assert logits.size >= 1_000_000
    return logits


@pytest.mark.parametrize("label", [0, 1])
def test_float32_is_within_2_ulp_for_hard_labels(single, label):
    assert worst_ulp(labels_like(single, label), single, np.float64) <= 2


@pytest.mark.parametrize("label", SOFT_LABELS)
def test_float32_is_within_2_and_a_half_ulp_for_soft_labels(single, label):
    assert worst_ulp(labels_like(single, label), single, np.float64) <= 2.5


needs_longdouble = pytest.mark.skipif(
    np.finfo(np.longdouble).nmant < 63, reason="longdouble is no wider than float64 here"
)


@needs_longdouble
@pytest.mark.parametrize("label", [0, 1, *SOFT_LABELS])
def test_float64_is_within_2_and_a_half_ulp(double, label):
    assert worst_ulp(labels_like(double, label), double, np.longdouble) <= 2.5


@needs_longdouble
@pytest.mark.parametrize("label", [0, 1])
def test_float64_is_within_2_ulp_for_hard_labels(double, label):
    assert worst_ulp(labels_like(double, label), double, np.longdouble) <= 2


@pytest.mark.parametrize("smoothing", [0, pytest.param(1e-4, marks=pytest.mark.thorough), 0.1])
@pytest.mark.parametrize("pos_weight", [pytest.param(0.3, marks=pytest.mark.thorough), 3.0])
@pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=needs_longdouble)])
def test_losses_with_weighted_positives_are_within_4_ulp(dtype, pos_weight, smoothing):
    logits = sample(dtype, 1_000_000, 20)
    for label in (0, 1, "random"):
        labels = labels_like(logits, label)
        actual = sce.sigmoid_cross_entropy(
            labels, logits, 1.0, smoothing, reduction="none", pos_weight=pos_weight
        )
        exact, _, _ = derivatives(labels, logits, smoothing, pos_weight)
        assert np.max(np.abs(actual - exact) / ulp(exact.astype(np.float64), dtype)) <= 4
