"""The focal loss and its gradient are those of Lin et al., to a few ULP, however far the logit."""

import mpmath
import numba
import numpy as np
import pytest
from numba import njit
from reference import ulp

import sce_numba as sce

focal = sce.sigmoid_focal_cross_entropy
value_and_grad = sce.sigmoid_focal_cross_entropy_value_and_grad

RNG = np.random.default_rng(11)
LOGITS = RNG.normal(0, 3, (300, 10)).astype(np.float32)
LABELS = RNG.random(LOGITS.shape) < 0.3
WEIGHTS = RNG.random((300, 1))

_mp = mpmath.MPContext()
_mp.prec = 900


def exact(label, logit, alpha, gamma, smoothing=0.0):
    """Return loss and gradient as published, and the unit of the gradient: its terms' size."""
    x, s, gamma = _mp.mpf(float(logit)), _mp.mpf(smoothing), _mp.mpf(gamma)
    p = _mp.mpf(float(label)) * (1 - s) + s / 2
    up, down = 1 / (1 + _mp.exp(-x)), 1 / (1 + _mp.exp(x))
    q = (1 - p) * up + p * down
    ce = p * _mp.log1p(_mp.exp(-x)) + (1 - p) * _mp.log1p(_mp.exp(x))
    weight = 1 if alpha is None else _mp.mpf(alpha) * p + (1 - _mp.mpf(alpha)) * (1 - p)
    one, two = q**gamma * (up - p), gamma * q ** (gamma - 1) * (1 - 2 * p) * up * down * ce
    hard = p in (0, 1)
    size = abs(one) if hard else q**gamma * max(up, p)
    return weight * q**gamma * ce, weight * (one + two), weight * (size + abs(two))


def logits_of(dtype, count=250):
    far = 100 if dtype == np.float16 else 120
    return np.concatenate(
        [
            RNG.normal(0, 3, count),
            RNG.choice([-1, 1], count) * np.exp2(RNG.uniform(-20, 6, count)),
            RNG.uniform(-far, far, count // 2),
            [0.0, -0.0, 20.0, -20.0],
        ]
    ).astype(dtype)


def labels_of(kind, logits):
    return (
        RNG.random(logits.shape).astype(logits.dtype)
        if kind == "soft"
        else np.full_like(logits, kind)
    )


@pytest.mark.parametrize("kind", [0, 1, "soft"])
@pytest.mark.parametrize("alpha", [None, 0.25])
@pytest.mark.parametrize(
    "gamma",
    [2, 4.7, *(pytest.param(g, marks=pytest.mark.thorough) for g in (0, 0.3, 0.5, 1, 1.5, 2.5, 5))],
)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_losses_and_gradients_are_within_4_ulp(dtype, gamma, alpha, kind):
    logits = logits_of(dtype)
    labels = labels_of(kind, logits)
    losses, gradient = value_and_grad(labels, logits, alpha, gamma, reduction="none")
    found = [exact(z, x, alpha, gamma) for z, x in zip(labels, logits, strict=True)]
    loss, slope, size = (
        np.array([float(v) for v in values]) for values in zip(*found, strict=True)
    )
    assert np.max(np.abs(losses.astype(np.float64) - loss) / ulp(loss, dtype)) <= 4
    # What is a difference for soft labels is measured by the greater of its terms.
    assert np.max(np.abs(gradient.astype(np.float64) - slope) / ulp(size, dtype)) <= 4


@pytest.mark.parametrize("gamma", [0.3, 0.7, 1.5])
def test_powers_of_nearly_1_have_all_their_digits(gamma):
    # Digits of gamma beyond those of float32 meet the two parts of a logarithm that cancel.
    logits = -np.linspace(20, 40, 50)
    losses = focal(np.ones_like(logits), logits, None, gamma, reduction="none")
    loss = np.array([float(exact(1, x, None, gamma)[0]) for x in logits])
    assert np.max(np.abs(losses - loss) / ulp(loss, np.float64)) <= 4


@pytest.mark.parametrize("smoothing", [1e-6, 0.1, 1.0])
def test_labels_are_smoothed_as_in_the_cross_entropy(smoothing):
    logits = logits_of(np.float64)
    for label in (0.0, 1.0):
        labels = np.full_like(logits, label)
        losses = focal(labels, logits, 0.25, 2.0, label_smoothing=smoothing, reduction="none")
        loss = [float(exact(label, x, 0.25, 2.0, smoothing)[0]) for x in logits]
        np.testing.assert_allclose(losses, loss, rtol=1e-14)


def test_the_error_grows_slowly_with_gamma():
    logits = logits_of(np.float64)
    losses = focal(np.zeros_like(logits), logits, None, 20.5, reduction="none")
    loss = np.array([float(exact(0, x, None, 20.5)[0]) for x in logits])
    assert np.max(np.abs(losses - loss) / ulp(loss, np.float64)) <= 12


def test_without_alpha_and_gamma_it_is_the_cross_entropy():
    plain = sce.sigmoid_cross_entropy(LABELS, LOGITS, WEIGHTS, 0.1, reduction="none")
    found = focal(LABELS, LOGITS, None, 0, WEIGHTS, 0.1, reduction="none")
    np.testing.assert_allclose(found, plain, rtol=1e-6)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_a_better_prediction_never_costs_more(gamma):
    logits = np.linspace(-50, 50, 20_001)
    losses = focal(np.ones_like(logits), logits, gamma=gamma, reduction="none")
    assert (np.diff(losses) <= 0).all()
    assert (losses[:-1] > 0).all()


def test_the_gradient_is_the_slope_of_the_loss():
    logits, labels = RNG.normal(0, 3, 500), RNG.random(500)
    for gamma in (0.7, 2.0, 3.0):
        _, gradient = value_and_grad(labels, logits, 0.3, gamma, reduction="none")
        above, below = (
            focal(labels, logits + step, 0.3, gamma, reduction="none") for step in (1e-6, -1e-6)
        )
        np.testing.assert_allclose(gradient, (above - below) / 2e-6, atol=1e-8)


def test_infinite_logits_and_nan_give_what_they_give_in_the_cross_entropy():
    logits = np.array([np.inf, -np.inf, np.inf, -np.inf, np.nan])
    labels = np.array([0.0, 1.0, 1.0, 0.0, 1.0])
    plain, slopes = sce.sigmoid_cross_entropy_value_and_grad(labels, logits, reduction="none")
    losses, gradient = value_and_grad(labels, logits, None, reduction="none")
    np.testing.assert_array_equal(losses, plain)
    np.testing.assert_array_equal(gradient, np.where(np.abs(slopes) == 1, slopes, 0 * slopes))


@pytest.mark.parametrize("reduction", list(sce.Reduction)[1:])
@pytest.mark.parametrize("where", [None, LOGITS > -4])
@pytest.mark.parametrize("weights", [1.0, 2.5, WEIGHTS])
def test_a_reduction_is_that_of_the_losses(weights, where, reduction):
    losses = focal(LABELS, LOGITS, 0.4, 1.5, reduction="none").astype(np.float64)
    kept = np.ones(LOGITS.shape, bool) if where is None else where
    each = np.broadcast_to(weights, LOGITS.shape)[kept].reshape(-1, 1)
    expected = sce.compute_weighted_loss(losses[kept].reshape(-1, 1), each, reduction=reduction)
    loss, gradient = value_and_grad(LABELS, LOGITS, 0.4, 1.5, weights, 0, reduction, where=where)
    assert loss == pytest.approx(expected, rel=3e-7)
    assert loss == pytest.approx(
        focal(LABELS, LOGITS, 0.4, 1.5, weights, 0, reduction, where=where), rel=3e-7
    )
    assert where is None or not gradient[~where].any()


@pytest.mark.parametrize("gamma", [2.0, 1.5])
def test_memory_layout_does_not_change_a_bit(gamma):
    expected = value_and_grad(LABELS, LOGITS, gamma=gamma, reduction="none")
    wide = np.zeros((600, 20), np.float32)[::2, ::2]
    wide[...] = LOGITS
    for logits in (np.asfortranarray(LOGITS), wide, LOGITS.astype(">f4")):
        for found, value in zip(
            value_and_grad(LABELS, logits, gamma=gamma, reduction="none"), expected, strict=True
        ):
            np.testing.assert_array_equal(found, value)
    logits = LOGITS.copy()
    assert focal(LABELS, logits, gamma=gamma, reduction="none", out=logits) is logits
    np.testing.assert_array_equal(logits, expected[0])


def test_the_number_of_threads_does_not_change_a_bit():
    logits = RNG.normal(0, 3, (2000, 700)).astype(np.float32)
    labels = logits > RNG.normal(0, 3, logits.shape)
    several = value_and_grad(labels, logits)
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        one = value_and_grad(labels, logits)
    finally:
        numba.set_num_threads(before)
    assert one[0] == several[0]
    np.testing.assert_array_equal(one[1], several[1])


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("alpha", -0.1, ValueError),
        ("alpha", 1.5, ValueError),
        ("alpha", np.nan, ValueError),
        ("alpha", "0.25", TypeError),
        ("gamma", -1.0, ValueError),
        ("gamma", np.inf, ValueError),
        ("gamma", [2.0, 3.0], TypeError),
        ("gamma", None, TypeError),
    ],
)
def test_other_alphas_and_gammas_are_refused_before_anything_is_written(name, value, error):
    out = np.full_like(LOGITS, 7)
    with pytest.raises(error, match=f"`{name}`"):
        focal(LABELS, LOGITS, reduction="none", out=out, **{name: value})
    assert (out == 7).all()


@njit
def compiled(labels, logits, weights, where):
    return (sce.sigmoid_focal_cross_entropy(labels, logits),)


@njit
def compiled_losses(labels, logits, weights, where):
    return (
        sce.sigmoid_focal_cross_entropy(
            labels, logits, None, 1.5, weights, 0.1, reduction="none", where=where
        ),
    )


@njit
def compiled_gradients(labels, logits, weights, where):
    return (
        *sce.sigmoid_focal_cross_entropy_value_and_grad(
            labels, logits, 0.3, 3.0, weights, where=where
        ),
        *sce.sigmoid_focal_cross_entropy_value_and_grad(labels, logits, reduction="none"),
    )


@pytest.mark.parametrize(
    "function",
    [
        compiled,
        *(
            pytest.param(function, marks=pytest.mark.thorough)
            for function in (compiled_losses, compiled_gradients)
        ),
    ],
)
def test_compiled_code_computes_the_same_bits(function):
    given = LABELS, LOGITS, WEIGHTS, LOGITS > -4
    for found, expected in zip(function(*given), function.py_func(*given), strict=True):
        np.testing.assert_array_equal(found, expected)


@njit
def compiled_with(labels, logits, alpha, gamma):
    return sce.sigmoid_focal_cross_entropy(labels, logits, alpha, gamma)


@pytest.mark.parametrize(
    ("alpha", "gamma", "name"),
    [(-0.1, 2.0, "alpha"), (np.nan, 2.0, "alpha"), (0.5, -1.0, "gamma"), (0.5, np.inf, "gamma")],
)
def test_compiled_code_refuses_other_alphas_and_gammas(alpha, gamma, name):
    with pytest.raises(ValueError, match=f"`{name}` must be a number"):
        compiled_with(LABELS, LOGITS, alpha, gamma)


@pytest.mark.parametrize("reduction", ["none", "weighted_mean"])
def test_dask_arrays_give_the_loss_in_memory(reduction):
    da = pytest.importorskip("dask.array")
    lazy = [da.from_array(array, chunks=(70, 10)) for array in (LABELS, LOGITS)]
    rest = 0.3, 1.5, WEIGHTS, 0.1, reduction
    np.testing.assert_array_equal(focal(*lazy, *rest).compute(), focal(LABELS, LOGITS, *rest))
    for found, expected in zip(
        value_and_grad(*lazy, *rest), value_and_grad(LABELS, LOGITS, *rest), strict=True
    ):
        np.testing.assert_allclose(found.compute(), expected, rtol=3e-7)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
@pytest.mark.parametrize("alpha", [0.25, None])
def test_pytorch_agrees(alpha, gamma):
    torch = pytest.importorskip("torch")
    x = torch.tensor(LOGITS.astype(np.float64), requires_grad=True)
    z = torch.tensor(LABELS.astype(np.float64))
    # As in torchvision's `sigmoid_focal_loss`.
    p = torch.sigmoid(x)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(x, z, reduction="none")
    loss = loss * (1 - (p * z + (1 - p) * (1 - z))) ** gamma
    if alpha is not None:
        loss = (alpha * z + (1 - alpha) * (1 - z)) * loss
    loss.sum().backward()
    losses, gradient = value_and_grad(
        LABELS, LOGITS.astype(np.float64), alpha, gamma, reduction="none"
    )
    np.testing.assert_allclose(losses, loss.detach().numpy(), rtol=1e-9)
    np.testing.assert_allclose(gradient, x.grad.numpy(), rtol=1e-9)


def test_optax_agrees():
    optax = pytest.importorskip("optax")
    theirs = optax.sigmoid_focal_loss(LOGITS, LABELS.astype(np.float32), alpha=0.25, gamma=2.0)
    np.testing.assert_allclose(
        focal(LABELS, LOGITS, reduction="none"), theirs, rtol=1e-3, atol=1e-7
    )
