"""Losses along axes inside compiled code have the bits of those from Python."""

import numpy as np
import pytest
from numba import njit
from numba.core.errors import TypingError

import sce_numba as sce

RNG = np.random.default_rng(0)
LOGITS = RNG.standard_normal((300, 4, 20))
LABELS = RNG.random((300, 4, 20)) < 0.4
WEIGHTS = RNG.integers(0, 3, (300, 1, 20)).astype(float)


@njit
def along(labels, logits, weights, axis):
    return sce.sigmoid_cross_entropy(
        labels, logits, weights, 0.1, reduction="weighted_mean", axis=axis
    )


@pytest.mark.parametrize("axis", [0, -1, 1])
def test_an_axis_is_known_when_the_code_runs(axis):
    found = along(LABELS, LOGITS, WEIGHTS, axis)
    expected = sce.sigmoid_cross_entropy(
        LABELS, LOGITS, WEIGHTS, 0.1, reduction="weighted_mean", axis=axis
    )
    np.testing.assert_array_equal(found, expected)


def test_axes_that_there_are_not_are_refused():
    with pytest.raises(ValueError, match="names an axis that does not exist"):
        along(LABELS, LOGITS, WEIGHTS, 3)
    with pytest.raises(TypingError, match="`axis` must be None, an integer or a tuple"):
        along(LABELS, LOGITS, WEIGHTS, 0.5)


@pytest.mark.thorough
def test_several_axes_may_stay_with_a_length_of_one():
    @njit
    def losses(values):
        return sce.compute_weighted_loss(values, axis=(0, -1), keepdims=True)

    found = losses(LOGITS)
    np.testing.assert_array_equal(
        found, sce.compute_weighted_loss(LOGITS, axis=(0, -1), keepdims=True)
    )
    assert losses(LOGITS[:0]).tolist() == np.zeros((1, 4, 1)).tolist()


def test_all_axes_leave_a_number():
    @njit
    def number(labels, logits):
        return sce.sigmoid_cross_entropy(labels, logits, axis=(0, 1, 2))

    assert number(LABELS, LOGITS) == sce.sigmoid_cross_entropy(LABELS, LOGITS)
