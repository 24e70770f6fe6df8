"""Floats of 8 and 16 bits are read and rounded to as ml_dtypes and NumPy do, every bit pattern."""

import ml_dtypes
import numpy as np
import pytest

import sce_numba as sce
from sce_numba.kernels.dtypes import CODES, DTYPES, SMALL
from sce_numba.kernels.small_floats import rounded, widened

NAMES = [DTYPES[code].name for code in SMALL]


def small(name):
    dtype = DTYPES[CODES[name]]
    own = np.dtype(getattr(np, name, None) or getattr(ml_dtypes, name))
    return own, np.dtype(f"u{dtype.itemsize}"), dtype.small


def every_value(name):
    own, integers, form = small(name)
    return np.arange(2**form.width, dtype=integers).view(own)


def same(one, two):
    return np.array_equal(one, two, equal_nan=True) and np.array_equal(
        np.signbit(one[one == 0]), np.signbit(two[two == 0])
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_bit_pattern_is_widened_to_its_value(name):
    values = every_value(name)
    _, integers, form = small(name)
    found = widened(form, values.view(integers).astype(np.int32))
    assert same(found, values.astype(np.float32))


@pytest.mark.parametrize("name", NAMES)
def test_rounding_is_to_nearest_and_ties_are_to_even(name):
    own, integers, form = small(name)
    exact = np.unique(every_value(name).astype(np.float32))
    exact = exact[np.isfinite(exact)]
    ties = exact[1:] / 2 + exact[:-1] / 2
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 10**6, dtype=np.uint32).view(np.float32)
    around = [np.nextafter(ties, np.float32(to)) for to in (-np.inf, np.inf)]
    largest = (exact[-1] / 2) * np.linspace(1.8, 2, 1001, dtype=np.float32)
    values = np.concatenate([exact, ties, *around, bits, largest, [np.inf, -np.inf]], dtype="f4")
    with np.errstate(all="ignore"):
        expected = values.astype(own)
        found = rounded(form, values).astype(integers).view(own)
    assert same(found.astype(np.float32), expected.astype(np.float32))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("order", ["C", "F", "strided"])
def test_every_value_has_the_loss_and_gradient_of_its_float32(name, order):
    values = np.stack([every_value(name), every_value(name)[::-1]])
    labels = np.stack([np.zeros(values.shape[1]), np.ones(values.shape[1])]).astype(bool)
    if order == "strided":
        values, labels = np.repeat(values, 2, 1)[:, ::2], np.repeat(labels, 2, 1)[:, ::2]
    else:
        values, labels = np.asarray(values, order=order), np.asarray(labels, order=order)
    for results in (
        lambda x: (sce.sigmoid_cross_entropy_with_logits(labels=labels, logits=x),),
        lambda x: sce.sigmoid_cross_entropy_gradient_hessian(labels, x, 0.7),
        lambda x: sce.sigmoid_cross_entropy_value_and_grad(labels, x, reduction="none"),
    ):
        for found, single in zip(results(values), results(values.astype("f4")), strict=True):
            assert found.dtype == values.dtype
            with np.errstate(over="ignore"):
                expected = single.astype(values.dtype)
            assert same(found.astype(np.float32), expected.astype(np.float32))


@pytest.mark.parametrize("name", NAMES)
def test_the_reduced_loss_is_rounded_once(name):
    own, _, _ = small(name)
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2, (40, 30)).astype(own)
    labels = rng.random(logits.shape).astype(own)
    loss = sce.sigmoid_cross_entropy(labels, logits)
    exact = sce.sigmoid_cross_entropy(labels.astype(np.float64), logits.astype(np.float64))
    assert loss.dtype == own
    with np.errstate(invalid="ignore"):
        values = every_value(name).astype(np.float64)
    assert abs(float(loss) - exact) == min(abs(values[np.isfinite(values)] - exact))
