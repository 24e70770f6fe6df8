"""The gradient and the hessian are the derivatives of the loss, to the last digits."""

import numba
import numpy as np
import pytest
import reference
from reference import BFLOAT16, NONE, REDUCTIONS

import sce_numba as sce

value_and_grad = sce.sigmoid_cross_entropy_value_and_grad
gradient_hessian = sce.sigmoid_cross_entropy_gradient_hessian
SEED = 20170301


def example(dtype=np.float64, shape=(70, 33), seed=SEED):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 4, shape).astype(dtype)
    return (rng.random(shape) < 0.4).astype(np.float32), logits, rng


def weights_of(shape):
    rng = np.random.default_rng(7)
    for own in ((), (shape[0], 1), (1, shape[1]), shape):
        yield rng.uniform(0.5, 2, own)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("pos_weight", [None, 3.0, "classes"])
@pytest.mark.parametrize("smoothing", [0, 0.1])
def test_gradient_is_the_slope_of_the_loss(reduction, pos_weight, smoothing):
    labels, logits, rng = example(shape=(13, 9))
    if pos_weight == "classes":
        pos_weight = rng.uniform(0.2, 5, 9)
    step = 1e-5
    for weights in weights_of(logits.shape):

        def losses(shift, index, weights=weights):
            moved = logits.copy()
            moved[index] += shift
            loss = sce.sigmoid_cross_entropy(
                labels, moved, weights, smoothing, reduction=reduction, pos_weight=pos_weight
            )
            return np.sum(loss)

        _, gradient = value_and_grad(
            labels, logits, weights, smoothing, reduction=reduction, pos_weight=pos_weight
        )
        for index in np.ndindex(logits.shape):
            slope = (losses(step, index) - losses(-step, index)) / (2 * step)
            assert gradient[index] == pytest.approx(slope, rel=1e-6, abs=1e-8)


def test_gradient_is_the_slope_of_the_published_formula():
    rng = np.random.default_rng(SEED)
    logits, step = rng.normal(0, 5, 20_000), 1e-6
    labels, weight = rng.random(logits.shape), rng.uniform(0.1, 10, logits.shape)
    ends = [reference.derivatives(labels, logits + s, 0.1, weight)[0] for s in (step, -step)]
    slopes = (ends[0] - ends[1]) / (2 * step)
    _, gradient = value_and_grad(
        labels, logits, label_smoothing=0.1, reduction="weighted_sum", pos_weight=weight
    )
    np.testing.assert_allclose(gradient, slopes.astype(float), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, BFLOAT16])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("pos_weight", [None, 3.0])
def test_gradient_is_exact_to_the_promise(dtype, reduction, pos_weight):
    labels, logits, _ = example(dtype)
    logits[:2] = [[0], [88]]
    for weights in weights_of(logits.shape):
        weights = weights.astype(np.float32)
        loss, gradient = value_and_grad(
            labels, logits, weights, 0.1, reduction=reduction, pos_weight=pos_weight
        )
        expected, error = reference.scaled_gradient(
            labels, logits, 0.1, 1 if pos_weight is None else pos_weight, weights, reduction
        )
        reference.assert_within(gradient, expected, error)
        assert gradient.dtype == logits.dtype
        alone = sce.sigmoid_cross_entropy(
            labels, logits, weights, 0.1, reduction=reduction, pos_weight=pos_weight
        )
        np.testing.assert_array_equal(loss, alone)


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_derivatives_for_hard_labels_are_within_1_and_2_ulp(dtype, label):
    rng = np.random.default_rng(SEED)
    greatest = 104 if dtype is np.float32 else 745
    logits = np.concatenate(
        [
            rng.uniform(-greatest, greatest, 500_000),
            rng.normal(0, 4, 1_000_000),
            np.ldexp(rng.uniform(-2, 2, 500_000), rng.integers(-140, 8, 500_000)),
        ]
    ).astype(dtype)
    labels = np.full(logits.shape, label)
    _, gradient = value_and_grad(labels, logits, reduction="weighted_sum")
    _, exact, curvature = reference.derivatives(labels, logits)
    spacing = reference.ulp(exact.astype(np.float64), dtype)
    assert np.max(np.abs(gradient - exact) / spacing) <= 1
    _, hessian = gradient_hessian(labels, logits)
    spacing = reference.ulp(curvature.astype(np.float64), dtype)
    assert np.max(np.abs(hessian - curvature) / spacing) <= 2


def test_gradient_of_soft_labels_is_within_2_ulp_of_the_greater_term():
    rng = np.random.default_rng(SEED)
    logits = rng.normal(0, 4, 1_000_000).astype(np.float32)
    labels = rng.random(logits.shape, np.float32)
    _, gradient = value_and_grad(labels, logits, reduction="weighted_sum")
    _, exact, _ = reference.derivatives(labels, logits)
    assert np.all(np.abs(gradient - exact) <= reference.gradient_error(labels, logits))


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("smoothing", [0, 1e-4, 0.1])
@pytest.mark.parametrize("pos_weight", [None, 3.0, pytest.param(0.3, marks=pytest.mark.thorough)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradient_of_tiny_labels_is_exact_to_the_ulp_of_sigmoid_and_label(
    dtype, pos_weight, smoothing, sign
):
    """For large negative logits both are tiny, and so is the error that is allowed."""
    promise = 3 if pos_weight else 2.5 if smoothing else 2
    rng = np.random.default_rng(SEED)
    logits = sign * np.abs(rng.normal(0, 8, 1_000_000)).astype(dtype)
    labels = (10 ** rng.uniform(-8, 0, logits.shape)).astype(dtype)
    _, gradient = value_and_grad(
        labels, logits, label_smoothing=smoothing, reduction="none", pos_weight=pos_weight
    )
    q = pos_weight or 1
    _, exact, _ = reference.derivatives(labels, logits, smoothing, q)
    smoothed = reference.smoothed(labels, dtype, smoothing)
    greater = np.maximum(1 / (1 + np.exp(-logits.astype(np.float64))), smoothed) * max(1, q)
    assert np.max(np.abs(gradient - exact) / reference.ulp(greater, dtype)) <= promise


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_gradient_is_0_at_even_odds(dtype):
    logits = np.array([0.0, -0.0], dtype)
    for labels, smoothing in (([0.5, 0.5], 0), ([0, 1], 1)):
        _, gradient = value_and_grad(labels, logits, label_smoothing=smoothing)
        assert not gradient.any()


def test_gradient_with_weighted_positives_is_right_at_0():
    _, gradient = value_and_grad(
        [1, 0, 1, 0], [0.0, 0.0, -0.0, -0.0], pos_weight=3, reduction="none"
    )
    assert gradient.tolist() == [-1.5, 0.5, -1.5, 0.5]


def test_zero_denominator_gives_zero_loss_and_gradient():
    labels, logits, _ = example()
    logits[0, 0] = np.nan
    signs = np.where(np.arange(logits.shape[0]) % 2, 1.0, -1.0)[:, None]
    for weights, reduction in ((0, "weighted_sum_by_nonzero_weights"), (signs, "weighted_mean")):
        loss, gradient = value_and_grad(labels, logits, weights, reduction=reduction)
        assert loss == 0
        assert not gradient.any()
    for where in (None, False, np.ones((0, 33), bool)):
        loss, gradient = value_and_grad(labels[:0], logits[:0], where=where)
        assert loss == 0
        assert gradient.shape == (0, 33)


def test_nan_and_infinity_stay_in_their_element():
    logits = np.array([np.nan, np.inf, -np.inf, 1.0, 1.0], np.float32)
    labels = np.array([0, 0, 1, np.nan, 0], np.float32)
    _, gradient = value_and_grad(labels, logits, reduction="weighted_sum")
    np.testing.assert_allclose(gradient, [np.nan, 1, -1, np.nan, 1 / (1 + np.exp(-1))], rtol=1e-6)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("size", [(11, 7), (90, 61), (300, 700)])
@pytest.mark.parametrize("pos_weight", [None, 2.5])
def test_where_is_as_if_the_elements_were_deleted(reduction, size, pos_weight):
    labels, logits, rng = example(np.float32, size)
    for weights in weights_of(size):
        weights = np.broadcast_to(weights, size).astype(np.float32)
        where = rng.random(size) < 0.7
        spoilt, marred = logits.copy(), labels.copy()
        spoilt[~where], marred[~where] = np.nan, np.nan
        loss, gradient = value_and_grad(
            marred,
            spoilt,
            np.where(where, weights, np.inf),
            reduction=reduction,
            where=where,
            pos_weight=pos_weight and np.where(where, pos_weight, np.nan),
        )
        rest = labels[where], logits[where], weights[where]
        expected, rest_gradient = value_and_grad(*rest, reduction=reduction, pos_weight=pos_weight)
        if reduction == NONE:
            loss = loss[where]
        np.testing.assert_allclose(loss, expected, rtol=3e-7)
        np.testing.assert_allclose(gradient[where], rest_gradient, rtol=3e-7)
        assert not gradient[~where].any()


def test_where_broadcasts_and_excludes_from_the_hessian():
    labels, logits, _ = example()
    logits[:, 3] = np.nan
    kept = np.arange(33) != 3
    gradient, hessian = gradient_hessian(labels, logits, where=kept)
    assert not gradient[:, 3].any()
    assert not hessian[:, 3].any()
    assert np.all(hessian[:, kept] > 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("pos_weight", [None, 0.25])
def test_hessian_is_the_slope_of_the_gradient(dtype, pos_weight):
    labels, logits, _ = example(dtype)
    q = 1 if pos_weight is None else pos_weight
    for weights in weights_of(logits.shape):
        weights = weights.astype(np.float32)
        gradient, hessian = gradient_hessian(labels, logits, weights, 0.1, pos_weight=pos_weight)
        _, first, second = reference.derivatives(labels, logits, 0.1, q)
        for actual, exact in ((gradient, first), (hessian, second)):
            eps = {2: 1e-3, 4: 6e-7, 8: 1e-15}[logits.itemsize]
            np.testing.assert_allclose(
                actual.astype(float), (weights * exact).astype(float), rtol=eps, atol=eps * 1e-1
            )
        _, same = value_and_grad(
            labels, logits, weights, 0.1, reduction="none", pos_weight=pos_weight
        )
        np.testing.assert_array_equal(gradient, same)


def test_hessian_does_not_vanish_before_it_must():
    _, hessian = gradient_hessian([0, 1], np.array([-100, 80], np.float32))
    np.testing.assert_allclose(hessian, [3.783506e-44, 1.80485e-35], rtol=0.02)


@pytest.mark.parametrize("size", [(40, 50), (600, 700), (2100, 2100)])
def test_gradient_may_take_the_place_of_the_logits(size):
    labels, logits, _ = example(np.float32, size)
    for weights in weights_of(size):
        weights = weights.astype(np.float32)
        loss, gradient = value_and_grad(labels, logits, weights)
        place = logits.copy()
        same_loss, same = value_and_grad(labels, place, weights, grad_out=place)
        assert same is place
        np.testing.assert_array_equal(same, gradient)
        assert same_loss == loss


def test_a_large_gradient_may_take_the_place_of_any_operand():
    """Losses of 0 are computed twice, the second time after the gradients."""
    logits = np.tile(np.array([200, -200], np.float32), 2**21 + 8)
    labels, weights = (logits > 0).astype(np.float32), np.ones_like(logits)
    _, expected = value_and_grad(labels, logits, weights)
    for k in range(3):
        arguments = [labels.copy(), logits.copy(), weights.copy()]
        loss, gradient = value_and_grad(*arguments, grad_out=arguments[k])
        assert loss == 0
        np.testing.assert_array_equal(gradient, expected)


@pytest.mark.parametrize("offset", range(0, 16, 3))
def test_results_past_the_caches_are_complete(offset):
    """More than 16 MiB are written another way, by lines of the caches."""
    labels, logits, _ = example(np.float32, (1024, 4097))
    memory = np.full(2 * (logits.size + 16), np.nan, np.float32)
    grad_out = memory[offset : offset + logits.size].reshape(logits.shape)
    other = memory[logits.size + 16 :][: logits.size].reshape(logits.shape)
    value_and_grad(labels, logits, reduction="none", grad_out=grad_out, out=other)
    expected, hessian = gradient_hessian(labels[:500], logits[:500])
    np.testing.assert_array_equal(grad_out[:500], expected)
    assert np.isnan(memory[:offset]).all()
    assert not np.isnan(grad_out).any()
    losses = sce.sigmoid_cross_entropy(labels, logits, reduction="none")
    np.testing.assert_array_equal(other, losses)
    gradient_hessian(labels, logits, grad_out=grad_out, hess_out=other)
    np.testing.assert_array_equal(other[:500], hessian)
    assert not np.isnan(other).any()


def test_huge_losses_and_tiny_ones_are_summed_exactly():
    for logits in (np.full(1000, -80, np.float32), np.full(1000, 3e38, np.float32)):
        labels = np.zeros(1000, np.float32)
        loss, _ = value_and_grad(labels, logits)
        assert loss == sce.sigmoid_cross_entropy(labels, logits)


@pytest.mark.parametrize("weights", ["rows", "full"])
def test_the_bits_do_not_depend_on_the_threads(weights):
    labels, logits, rng = example(np.float32, (800, 700))
    weights = rng.random((800, 1) if weights == "rows" else (800, 700)).astype(np.float32)
    before, seen = numba.get_num_threads(), set()
    try:
        for threads in range(1, before + 1):
            numba.set_num_threads(threads)
            loss, gradient = value_and_grad(labels, logits, weights, reduction="weighted_mean")
            seen.add((loss.tobytes(), gradient.tobytes()))
    finally:
        numba.set_num_threads(before)
    assert len(seen) == 1


@pytest.mark.parametrize("order", ["F", "strided", "reversed", "swapped bytes"])
def test_any_layout_will_do(order):
    from random_calls import laid_out

    labels, logits, _ = example(np.float32, (60, 50))
    expected_loss, expected = value_and_grad(labels, logits)
    for arrays in ((labels, laid_out(logits, order)), (laid_out(labels, order), logits)):
        loss, gradient = value_and_grad(*arrays)
        np.testing.assert_array_equal(gradient, expected)
        assert loss == pytest.approx(expected_loss, rel=1e-6)
    target = laid_out(np.zeros_like(logits), order)
    value_and_grad(labels, laid_out(logits, order), grad_out=target)
    np.testing.assert_array_equal(target, expected)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"grad_out": np.zeros((2, 2), np.float32)}, TypeError, "`grad_out` must have the dtype"),
        ({"grad_out": np.zeros((2, 3))}, ValueError, "`grad_out` must have the shape"),
        ({"grad_out": [[0.0, 0.0]] * 2}, TypeError, "`grad_out` must be a NumPy array"),
        ({"out": np.zeros((2, 2))}, ValueError, "`out` holds element losses"),
        ({"pos_weight": np.ones(3)}, ValueError, "`pos_weight` of shape (3,)"),
        ({"pos_weight": "3"}, TypeError, "`pos_weight` must be bool, integer or float"),
        ({"where": np.ones(2)}, TypeError, "`where` must be bool"),
    ],
)
def test_bad_arguments_are_named(arguments, error, words):
    with pytest.raises(error) as raised:
        value_and_grad([[0, 1], [1, 0]], np.zeros((2, 2)), **arguments)
    assert words in str(raised.value)


def test_results_may_not_share_memory():
    logits = np.zeros((4, 5))
    with pytest.raises(ValueError, match="`grad_out` overlaps"):
        value_and_grad(logits, logits, reduction="none", out=logits, grad_out=logits)
    with pytest.raises(ValueError, match="`grad_out` overlaps"):
        gradient_hessian(logits, logits, hess_out=logits, grad_out=logits)


def test_weighted_cross_entropy_weighs_the_positive_term():
    rng = np.random.default_rng(SEED)
    logits, labels = rng.normal(0, 5, (40, 30)).astype(np.float32), rng.random((40, 30))
    weight = rng.uniform(0.1, 4, 30)
    losses = sce.weighted_cross_entropy_with_logits(labels, logits, weight)
    exact, _, _ = reference.derivatives(labels, logits, 0, weight)
    np.testing.assert_allclose(losses, exact.astype(float), rtol=5e-7)
    same = sce.sigmoid_cross_entropy(labels, logits, reduction="none", pos_weight=weight)
    np.testing.assert_array_equal(losses, same)
    mean = sce.sigmoid_cross_entropy(labels, logits, pos_weight=weight)
    assert mean == pytest.approx(float(exact.mean()), rel=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weight", [1.0, 2.5, -1.0, 0.0, np.inf])
def test_the_way_for_small_arrays_gives_the_same(dtype, reduction, weight):
    labels, logits, _ = example(dtype, (7, 9))
    for given in (labels, labels.astype(bool)):
        loss, gradient = value_and_grad(given, logits, weight, 0.1, reduction=reduction)
        everywhere = np.ones(logits.shape, bool)
        same_loss, same = value_and_grad(
            given, logits, weight, 0.1, reduction=reduction, where=everywhere
        )
        np.testing.assert_allclose(loss, same_loss, rtol=1e-3 if dtype is np.float16 else 3e-7)
        np.testing.assert_array_equal(gradient, same)
        assert loss.dtype == gradient.dtype == dtype
