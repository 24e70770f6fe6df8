"""What sigmoid cross entropy is worth exactly, and how far from it a result may lie.

The formula is written as published and evaluated by mpmath with 200 bits, so that neither its
cancellations nor its rounding can be seen in a double. Beside each value stand two allowances:
what this library promises, and what TensorFlow, which rounds every step, can reach.
"""

import math

import ml_dtypes
import mpmath
import numpy as np

NONE = "none"
SUM = "weighted_sum"
MEAN = "weighted_mean"
SUM_OVER_BATCH_SIZE = "weighted_sum_over_batch_size"
SUM_BY_NONZERO_WEIGHTS = "weighted_sum_by_nonzero_weights"
REDUCTIONS = (NONE, SUM, MEAN, SUM_OVER_BATCH_SIZE, SUM_BY_NONZERO_WEIGHTS)

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
HALF_TYPES = (np.dtype(np.float16), BFLOAT16)

# Bits after the leading one, and the exponent of the smallest normal number.
_FORMATS = {
    np.dtype(ml_dtypes.float8_e4m3fn): (3, -6),
    np.dtype(ml_dtypes.float8_e5m2): (2, -14),
    np.dtype(np.float16): (10, -14),
    BFLOAT16: (7, -126),
    np.dtype(np.float32): (23, -126),
    np.dtype(np.float64): (52, -1022),
}

_mp = mpmath.MPContext()
_mp.prec = 200


def _literal_loss(label, logit, label_smoothing):
    x, z, s = _mp.mpf(logit), _mp.mpf(label), _mp.mpf(label_smoothing)
    z = z * (1 - s) + s / 2
    return float(max(x, 0) - x * z + _mp.log1p(_mp.exp(-abs(x))))


def as_given(values):
    """Return labels or weights with all their digits, whatever the dtype of the logits."""
    return np.asarray(values).astype(np.float64)


def exact_loss(labels, logits, label_smoothing=0):
    """Return the unweighted losses, each rounded once, to float64."""
    logits = np.asarray(logits)
    labels = as_given(labels)
    elements = np.frompyfunc(lambda z, x: _literal_loss(z, x, label_smoothing), 2, 1)
    # mpmath hands a NaN back as a float and raises the processor's flag on the way.
    with np.errstate(invalid="ignore"):
        return np.asarray(elements(labels, logits.astype(np.float64)), dtype=np.float64)


def ulp(values, dtype):
    """Return the distance between neighbours of `dtype` at each value."""
    bits, smallest = _FORMATS[np.dtype(dtype)]
    _, exponent = np.frexp(np.abs(np.asarray(values, dtype=np.float64)))
    return np.ldexp(1.0, np.maximum(exponent - 1, smallest) - bits)


def quick_loss(labels, logits, wide):
    """Return the losses computed in `wide`, a type exact beside that of the logits."""
    x, z = logits.astype(wide), labels.astype(wide)
    # For labels of 24 or 53 bits the difference loses nothing that shows.
    return np.where(x > 0, x * (1 - z), -x * z) + np.log1p(np.exp(-np.abs(x)))


def derivatives(labels, logits, label_smoothing=0, pos_weight=1):
    """Return loss, gradient and hessian of every element, in longdouble.

    The loss is q z' softplus(-x) + (1 - z') softplus(x); the others are its derivatives.
    """
    x = np.asarray(logits).astype(np.longdouble)
    z = as_given(labels).astype(np.longdouble)
    q = as_given(pos_weight).astype(np.longdouble)
    s = np.longdouble(label_smoothing)
    positive, negative = q * (z * (1 - s) + s / 2), (1 - z) * (1 - s) + s / 2
    rest = np.exp(-np.abs(x))
    low, high = rest / (1 + rest), 1 / (1 + rest)  # sigmoids of -|x| and |x|
    of_x, of_minus_x = np.where(x < 0, low, high), np.where(x < 0, high, low)
    with np.errstate(invalid="ignore"):
        loss = positive * (np.log1p(rest) + np.maximum(-x, 0))
        loss = loss + negative * (np.log1p(rest) + np.maximum(x, 0))
        gradient = negative * of_x - positive * of_minus_x
        # Where one term is nearly the other, their difference has a better form.
        near = np.where(x < 0, positive, negative) - (positive + negative) * low
        gradient = np.where(low < 0.1, np.where(x < 0, -near, near), gradient)
    hessian = (positive + negative) * low * high
    return loss, gradient, np.where(np.isnan(x), x, hessian)


def gradient_error(labels, logits, label_smoothing=0, pos_weight=1):
    """Return the promised bound on the error of each unweighted gradient, before it is scaled.

    2 ULP at label 0 or 1, else 2 ULP of the greater of sigmoid and label; where positives are
    weighted, of that times the weight.
    """
    logits = np.asarray(logits)
    precision = np.float64 if logits.dtype == np.float64 else np.float32
    _, gradient, _ = derivatives(labels, logits, label_smoothing, pos_weight)
    z = smoothed(labels, logits.dtype, label_smoothing)
    q = as_given(pos_weight)
    x = logits.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        greater = np.maximum(1 / (1 + np.exp(-x)), np.abs(z)) * np.maximum(1, np.abs(q))
    hard = ((z == 0) | (z == 1)) & (q == 1)
    unit = ulp(np.where(hard, np.abs(gradient), np.maximum(greater, np.abs(1 - z))), precision)
    return np.where(np.isfinite(x) & np.isfinite(z), (2 + 2.0**-8) * unit, 0)


def scaled_gradient(labels, logits, label_smoothing, pos_weight, weights, reduction):
    """Return the gradient of a reduced loss and the bound on its error."""
    logits = np.asarray(logits)
    precision = np.float64 if logits.dtype == np.float64 else np.float32
    w = np.broadcast_to(as_given(weights), logits.shape)
    _, gradient, _ = derivatives(labels, logits, label_smoothing, pos_weight)
    denominator = {
        NONE: 1.0,
        SUM: 1.0,
        MEAN: _sum(w),
        SUM_OVER_BATCH_SIZE: float(logits.size),
        SUM_BY_NONZERO_WEIGHTS: float(np.count_nonzero(w)),
    }[reduction]
    if denominator == 0:
        return np.zeros(logits.shape), np.zeros(logits.shape)
    with np.errstate(invalid="ignore", over="ignore"):
        scale = w / denominator
        value = (scale * gradient).astype(np.float64)
        error = np.abs(scale) * gradient_error(labels, logits, label_smoothing, pos_weight)
        # Weight times 1 / denominator, and that times the gradient, round as well.
        rounding = np.where(scale == 1, 0, 2.5) * ulp(value, precision)
        return value, error + rounding + _last_rounding(value, logits.dtype)


def loss_error(labels, logits, label_smoothing, losses):
    """Return the promised bound on the error of each unweighted loss, before a half type rounds it.

    2 ULP at label 0 or 1 and 2.5 between. A label outside [0, 1] sets the terms against each
    other, so the unit there is that of the largest term.
    """
    logits = np.asarray(logits)
    precision = np.float64 if logits.dtype == np.float64 else np.float32
    x = np.abs(logits.astype(np.float64))
    z = smoothed(labels, logits.dtype, label_smoothing)
    hard = (z == 0) | (z == 1)
    given = as_given(labels)
    outside = (given < 0) | (given > 1)
    with np.errstate(invalid="ignore", over="ignore"):
        unit = ulp(
            np.where(outside, np.maximum(1, x * np.maximum(1, np.abs(z))), losses), precision
        )
    # The reference itself was rounded to float64.
    rounding = 0.5 if precision is np.float64 else 0.0
    return (np.where(hard, 2, 2.5) + rounding) * unit


def tensorflow_error(labels, logits, label_smoothing, full_float64=False):
    """Return what rounding each step in the type of the logits (float32 at most) may cost."""
    logits = np.asarray(logits)
    eps = 1e-6
    if logits.dtype in HALF_TYPES:
        eps = 2.0 ** (1 - _FORMATS[logits.dtype][0])
    elif full_float64 and logits.dtype == np.float64:
        eps = 1e-15
    x = np.abs(logits.astype(np.float64))
    z = np.abs(smoothed(labels, logits.dtype, label_smoothing))
    with np.errstate(invalid="ignore", over="ignore"):
        return eps * (1 + x) * (1 + z)


def tensorflow_error_of_given(losses):
    """Return the same for losses handed over: float32 rounding, and no subnormal numbers."""
    return 1e-6 * np.abs(np.where(np.isfinite(losses), losses, 0)) + 2.0**-120


def smoothed(labels, logits_dtype, label_smoothing):
    """Return the labels after smoothing, in float64."""
    z = as_given(labels)
    return z * (1 - label_smoothing) + label_smoothing / 2


def weighted(losses, errors, weights, reduction, dtype, sum_error=0.0):
    """Return the weighted, reduced value and the bound that `errors` of the losses lead to.

    `sum_error` is the relative error of the sum of weights that MEAN divides by.
    """
    losses = np.asarray(losses, dtype=np.float64)
    precision = np.float64 if dtype == np.float64 else np.float32
    w = np.broadcast_to(as_given(weights), losses.shape)
    with np.errstate(invalid="ignore", over="ignore"):
        products = w * losses
        errors = np.abs(w) * errors + np.where(w == 1, 0, ulp(products, precision))
        if reduction == NONE:
            return products, errors + _last_rounding(products, dtype)
        count = {
            SUM: 1.0,
            MEAN: _sum(w),
            SUM_OVER_BATCH_SIZE: float(losses.size),
            SUM_BY_NONZERO_WEIGHTS: float(np.count_nonzero(w)),
        }[reduction]
        if count == 0 or losses.size == 0:
            return np.float64(0), np.float64(0)
        value = np.float64(_sum(products)) / count
        # Sums run in float64, and terms of both signs may cancel in them.
        errors = errors + 2.0**-49 * np.abs(products)
        error = _sum(errors) / abs(count) + ulp(value, dtype)
        if reduction == MEAN:
            error += sum_error * abs(value) * _sum(np.abs(w)) / abs(count)
    return value, error


def _last_rounding(values, dtype):
    return 0.5 * ulp(values, dtype) if dtype in HALF_TYPES else 0.0


def _sum(values):
    return math.fsum(values.flat) if np.isfinite(values).all() else float(values.sum())


def disagreements(actual, value, allowed):
    """Return a mask of the elements that are neither within `allowed` nor the same NaN or inf."""
    actual, value = np.asarray(actual), np.asarray(value, dtype=np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        rounded = value.astype(actual.dtype).astype(np.float64)
        actual = actual.astype(np.float64)
        close = np.isfinite(actual) & np.isfinite(value) & (np.abs(actual - value) <= allowed)
    return ~(close | (actual == rounded) | (np.isnan(actual) & np.isnan(value)))


def assert_within(actual, value, allowed, context=""):
    """Fail, showing the worst few elements, unless `actual` is within `allowed` of `value`."""
    bad = disagreements(actual, value, allowed)
    if bad.any():
        allowed = np.broadcast_to(allowed, bad.shape)
        lines = [
            f"  at {tuple(int(i) for i in index)}: {np.asarray(actual)[tuple(index)]!r}, "
            f"not {np.asarray(value)[tuple(index)]!r} ± {allowed[tuple(index)]:.3g}"
            for index in np.argwhere(bad)[:5]
        ]
        raise AssertionError(f"{context}: {bad.sum()} of {bad.size} differ\n" + "\n".join(lines))
