"""Labels and weights of more digits than the logits keep those that decide the result."""

import math
from functools import partial

import dask.array as da
import numba
import numpy as np
import pytest
import reference
from reference import BFLOAT16, MEAN, NONE, REDUCTIONS, SUM, SUM_BY_NONZERO_WEIGHTS, as_given, ulp

import sce_numba as sce

loss_of = sce.sigmoid_cross_entropy
value_and_grad = sce.sigmoid_cross_entropy_value_and_grad
gradient_hessian = sce.sigmoid_cross_entropy_gradient_hessian

NARROW = [np.float16, BFLOAT16, np.float32]
WIDE = ["labels", "weights", "pos_weight"]
# A few elements, rows shorter and longer than what is computed at a time, and more than a block.
SHAPES = [(3, 7), (40, 33), (3, 700), (2, 4160)]


def drawn_labels(rng, shape):
    """Return labels of which some are so near to 0 or 1 that float32 doesn't tell them apart."""
    near = 10.0 ** -rng.uniform(5, 16, shape)
    return rng.choice([0, 1, 2, 3, 4], shape).choose(
        [np.zeros(shape), np.ones(shape), rng.random(shape), near, 1 - near]
    )


def drawn_weights(rng, shape):
    """Return weights of which some are out of the range of float32."""
    center = rng.choice([-50, 0, 50])
    return rng.uniform(0.1, 1, shape) * 10.0 ** (center + rng.uniform(-9, 9, shape))


def example(dtype, shape, seed, wide, weights_shape=None, pos_weight_shape=()):
    """Return labels, logits, weights and weight of positives, of which some are float64."""
    rng = np.random.default_rng(seed)
    logits = (rng.normal(0, 8, shape) * rng.choice([0.1, 1, 4], shape)).astype(dtype)
    labels = drawn_labels(rng, shape) if "labels" in wide else rng.random(shape) < 0.3
    weights = np.float32(1)
    if "weights" in wide:
        weights = drawn_weights(rng, shape if weights_shape is None else weights_shape)
    pos_weight = drawn_weights(rng, pos_weight_shape) if "pos_weight" in wide else None
    return labels, logits, weights, pos_weight


def elements(labels, logits, smoothing, pos_weight):
    """Return exact loss, gradient and hessian of each element, each with the error allowed."""
    q = 1 if pos_weight is None else pos_weight
    loss, gradient, hessian = reference.derivatives(labels, logits, smoothing, q)
    x, z = logits.astype(np.longdouble), as_given(labels).astype(np.longdouble)
    s = np.longdouble(smoothing)
    n, p = (1 - z) * (1 - s) + s / 2, as_given(q) * (z * (1 - s) + s / 2)
    t = np.exp(-np.abs(x))
    single = partial(ulp, dtype=np.float32)
    # What multiplies an exponential multiplies its error, which is not small where it vanishes.
    vanishing = (n + p) * 2 * single(t)
    terms = np.maximum(np.where(x < 0, p, n), (n + p) * t / (1 + t))
    return (
        (loss, 3 * single(loss) + vanishing),
        (gradient, 2.5 * single(terms) + vanishing),
        (hessian, 3 * single(hessian) + vanishing),
    )


def denominator_of(weights, reduction, size):
    return {
        NONE: 1.0,
        SUM: 1.0,
        MEAN: math.fsum(weights.ravel()),
        SUM_BY_NONZERO_WEIGHTS: float(np.count_nonzero(weights)),
    }.get(reduction, float(size))


def weighted(part, weights, reduction, dtype):
    """Return values and errors of a part of ``elements`` after weighting and reduction."""
    value, error = (np.asarray(array, np.float64) for array in part)
    with np.errstate(over="ignore"):
        return reference.weighted(value, error, weights, reduction, dtype)


def check(labels, logits, weights, pos_weight, smoothing=0.0, reductions=REDUCTIONS):
    """Compare all functions with the exact values of the operands as they are given."""
    dtype = logits.dtype
    losses, slopes, bends = elements(labels, logits, smoothing, pos_weight)
    given = np.broadcast_to(as_given(weights), logits.shape)
    options = {"label_smoothing": smoothing, "pos_weight": pos_weight}
    with np.errstate(over="ignore"):
        for reduction in reductions:
            expected = weighted(losses, weights, reduction, dtype)
            loss = loss_of(labels, logits, weights, reduction=reduction, **options)
            reference.assert_within(loss, *expected, f"loss, {reduction}")
            loss, gradient = value_and_grad(labels, logits, weights, reduction=reduction, **options)
            reference.assert_within(loss, *expected, f"loss with gradient, {reduction}")
            assert loss.dtype == gradient.dtype == dtype
            scale = given / denominator_of(given, reduction, logits.size)
            expected = weighted(slopes, scale, NONE, dtype)
            reference.assert_within(gradient, expected[0], 2 * expected[1], f"slope, {reduction}")
            if reduction != NONE:
                total = sce.LossAccumulator(reduction, smoothing, pos_weight)
                half = len(logits) // 2
                whole = np.ndim(pos_weight) == 2
                for part in [slice(None)] if whole else [slice(half), slice(half, None)]:
                    own = weights[part] if np.shape(weights)[:1] == logits.shape[:1] else weights
                    total.update(labels[part], logits[part], own)
                expected = weighted(losses, weights, reduction, np.dtype(np.float32))
                reference.assert_within(total.result(np.float32), *expected, "accumulator")
        gradient, hessian = gradient_hessian(labels, logits, weights, **options)
        reference.assert_within(gradient, *weighted(slopes, weights, NONE, dtype), "gradient")
        reference.assert_within(hessian, *weighted(bends, weights, NONE, dtype), "hessian")
        assert gradient.dtype == hessian.dtype == dtype


# ---- Where float32 loses all digits ---------------------------------------------------------


LOGITS = np.array([1, 2], np.float32)


@pytest.mark.parametrize("scale", [1e-80, 1e-50, 1e38, 1e39, 1e200])
@pytest.mark.parametrize("count", [1, 400])
def test_weights_that_are_scaled_leave_the_mean_as_it_is(scale, count):
    labels, logits = np.tile([1, 0], count), np.tile(LOGITS, count)
    weights = np.tile([1.0, 2.0], count)
    usual = value_and_grad(labels, logits, weights, reduction=MEAN)
    assert usual[0] == pytest.approx(1.5223726)
    weights *= scale
    loss, gradient = value_and_grad(labels, logits, weights, reduction=MEAN)
    np.testing.assert_allclose(gradient, usual[1], rtol=3e-7)
    losses = loss_of(labels, logits, reduction=NONE)
    others = [
        loss_of(labels, logits, weights, reduction=MEAN),
        sce.compute_weighted_loss(losses, weights, reduction=MEAN),
    ]
    np.testing.assert_allclose([loss, *others], usual[0], rtol=2e-7)


def test_weights_that_float32_takes_for_0():
    loss = loss_of([1.0, 0.0], LOGITS, np.exp([-200.0, -201.0]), reduction=MEAN)
    assert loss == np.float32(0.8010317)
    count = sce.LossAccumulator(SUM_BY_NONZERO_WEIGHTS)
    count.update([1.0, 0.0], LOGITS, [1e-50, 0.0])
    assert count.result() == pytest.approx(1e-50 * math.log1p(math.exp(-1)))


def test_weights_whose_sum_is_all_in_the_last_digits():
    fractions = np.array([0.1, 0.2, -0.3 + 1e-12])
    losses = np.array([1, 2, 4], np.float32)
    for weights in (fractions, (fractions * 1e15).astype(np.int64)):
        exact = math.fsum(weights * losses) / math.fsum(weights)
        assert sce.compute_weighted_loss(losses, weights, reduction=MEAN) == np.float32(exact)


def test_a_label_that_is_almost_1():
    label, logit = np.array([1 - 1e-8]), np.array([20], np.float32)
    loss, gradient = value_and_grad(label, logit)
    assert loss == loss_of(label, logit) == pytest.approx(2.02061156e-07, rel=1e-7)
    assert gradient == pytest.approx(7.93884643e-09, rel=1e-7)
    assert loss_of(label, logit, reduction=NONE) == loss
    assert gradient_hessian(label, logit)[0] == gradient
    assert sce.sigmoid_cross_entropy_gradient(label, logit) == gradient
    # As label smoothing has it, which is applied to the label of an element.
    smoothed = value_and_grad(np.array([1.0]), logit, label_smoothing=2e-8)
    np.testing.assert_allclose((loss, gradient[0]), (smoothed[0], smoothed[1][0]), rtol=2e-7)


def test_a_weight_of_positives_that_is_huge_where_there_are_none():
    for labels in ([0, 0], np.zeros(2)):
        losses = loss_of(labels, LOGITS, reduction=NONE)
        assert loss_of(labels, LOGITS, pos_weight=1e39) == pytest.approx(losses.mean())
        for given in (1e39, np.array([1e39, 1e300])):
            found = sce.weighted_cross_entropy_with_logits(labels, LOGITS, given)
            np.testing.assert_array_equal(found, losses)


@pytest.mark.parametrize("weights", [1e39, [[1e39]], np.full((1, 300), 1e39)])
def test_a_huge_weight_of_a_tiny_loss(weights):
    labels, logits = np.zeros((1, 300)), np.full((1, 300), -20, np.float32)
    expected = np.full((1, 300), 2.0611536e30)
    losses, slopes = value_and_grad(labels, logits, weights, reduction=NONE)
    others = loss_of(labels, logits, weights, reduction=NONE)
    _, sums = value_and_grad(labels, logits, weights, reduction=SUM)
    for found in (losses, slopes, others, sums, *gradient_hessian(labels, logits, weights)):
        np.testing.assert_allclose(found, expected, rtol=2e-7)


# ---- Random operands ------------------------------------------------------------------------


@pytest.mark.parametrize("wide", [*[[name] for name in WIDE], WIDE])
@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_function_is_exact_for_the_operands_as_given(shape, dtype, wide):
    check(*example(dtype, shape, 1, wide))


@pytest.mark.parametrize("weights_shape", [(), (1, 1), (6, 1), (1, 40), (6, 40), (1, 600)])
@pytest.mark.parametrize("pos_weight_shape", [(), (1,), (6, 1), "row"])
def test_every_broadcast_shape(weights_shape, pos_weight_shape):
    for columns in (40, 600):
        shape = (6, columns)
        own = pos_weight_shape if pos_weight_shape != "row" else (columns,)
        if all(n in (1, m) for n, m in zip(weights_shape, shape, strict=False)):
            for seed in range(3):
                check(*example(np.float32, shape, seed, WIDE, weights_shape, own), 0.1)


def test_excluded_elements():
    labels, logits, weights, pos_weight = example(np.float32, (5, 300), 3, WIDE)
    where = np.random.default_rng(5).random(logits.shape) < 0.7
    kept = [a[where] if np.ndim(a) else a for a in (labels, logits, weights)]
    spoilt = [np.where(where, a, np.nan) for a in (labels, weights)]
    q = np.where(where, pos_weight, np.inf)
    for reduction in set(REDUCTIONS) - {NONE}:
        options = {"reduction": reduction}
        loss, gradient = value_and_grad(
            spoilt[0], logits, spoilt[1], pos_weight=q, where=where, **options
        )
        alone, slopes = value_and_grad(*kept, pos_weight=pos_weight, **options)
        assert loss == pytest.approx(alone, rel=2e-7)
        np.testing.assert_allclose(gradient[where], slopes, rtol=3e-7)
        assert not gradient[~where].any()


def test_results_may_take_the_place_of_the_logits():
    labels, logits, weights, pos_weight = example(np.float32, (5, 4200), 4, WIDE)
    given = labels, logits, weights
    options = {"pos_weight": pos_weight, "reduction": NONE}
    losses = loss_of(*given, **options)
    _, gradient = value_and_grad(*given, **options)
    place = logits.copy()
    assert loss_of(labels, place, weights, **options, out=place) is place
    np.testing.assert_array_equal(place, losses)
    place = logits.copy()
    value_and_grad(labels, place, weights, **options, grad_out=place)
    np.testing.assert_array_equal(place, gradient)


def test_dask_gives_the_same():
    labels, logits, weights, pos_weight = example(np.float32, (6, 300), 6, WIDE)
    options = {"pos_weight": pos_weight, "reduction": MEAN}
    loss, gradient = value_and_grad(labels, logits, weights, **options)
    lazy = [da.from_array(array, chunks=(2, 300)) for array in (labels, logits, weights)]
    found, slopes = value_and_grad(*lazy, **options)
    assert found.compute() == pytest.approx(loss, rel=2e-7)
    assert loss_of(*lazy, **options).compute() == pytest.approx(loss, rel=2e-7)
    np.testing.assert_allclose(slopes.compute(), gradient, rtol=3e-7)


@pytest.mark.thorough
def test_compiled_code_gives_the_same():
    @numba.njit
    def ours(labels, logits, weights, pos_weight):
        return sce.sigmoid_cross_entropy_value_and_grad(
            labels, logits, weights, pos_weight=pos_weight, reduction="weighted_mean"
        ), sce.sigmoid_cross_entropy(
            labels, logits, weights, pos_weight=pos_weight, reduction="weighted_mean"
        )

    given = example(np.float32, (6, 300), 6, WIDE, pos_weight_shape=(300,))
    loss, gradient = value_and_grad(*given[:3], pos_weight=given[3], reduction=MEAN)
    (found, slopes), alone = ours(*given)
    np.testing.assert_allclose([found, alone], loss, rtol=2e-7)
    np.testing.assert_allclose(slopes, gradient, rtol=3e-7)


def test_numbers_in_compiled_code():
    @numba.njit
    def ours(label, logit, pos_weight):
        return (
            sce.sigmoid_cross_entropy_with_logits(labels=label, logits=logit),
            sce.sigmoid_cross_entropy_gradient(label, logit),
            sce.weighted_cross_entropy_with_logits(label, logit, pos_weight),
            sce.sigmoid_cross_entropy_gradient_hessian(label, logit, pos_weight=pos_weight),
        )

    label, logit = 1 - 1e-8, np.float32(20)
    loss, gradient, weighted_loss, derivatives = ours(label, logit, 1e39)
    arrays = np.array([label]), np.array([logit])
    assert loss == sce.sigmoid_cross_entropy_with_logits(labels=arrays[0], logits=arrays[1])
    assert gradient == sce.sigmoid_cross_entropy_gradient(*arrays) == pytest.approx(7.93884643e-9)
    assert weighted_loss == sce.weighted_cross_entropy_with_logits(*arrays, 1e39)
    assert derivatives == tuple(gradient_hessian(*arrays, pos_weight=1e39))


# ---- What does not change -------------------------------------------------------------------


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("wide", [*[[name] for name in WIDE], WIDE])
def test_the_number_of_threads_changes_no_bit(wide, reduction):
    labels, logits, weights, pos_weight = example(np.float32, (40, 5000), 8, wide)
    labels, weights = labels * 1.0, weights * np.ones(logits.shape)
    call = partial(
        value_and_grad, labels, logits, weights, pos_weight=pos_weight, reduction=reduction
    )
    alone, threads = numba.get_num_threads(), []
    try:
        for count in (1, alone):
            numba.set_num_threads(count)
            threads.append([*call(), loss_of(*call.args, **call.keywords)])
    finally:
        numba.set_num_threads(alone)
    for one, two in zip(*threads, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("shape", SHAPES)
def test_float64_weights_that_float32_holds_give_the_same_bits(shape, dtype):
    rng = np.random.default_rng(9)
    logits = rng.normal(0, 8, shape).astype(dtype)
    labels, weights, q = rng.random((3, *shape)).astype(np.float32)
    for reduction in REDUCTIONS:
        one, two = (
            [
                *value_and_grad(labels, logits, w, 0.1, reduction=reduction, pos_weight=own),
                loss_of(labels, logits, w, 0.1, reduction=reduction),
            ]
            for w, own in ((weights, q), (weights.astype(float), q.astype(float)))
        )
        for first, second in zip(one, two, strict=True):
            np.testing.assert_array_equal(first, second)
