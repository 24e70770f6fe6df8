"""Random losses along axes, and what they are by the formula, in longdouble."""

import numpy as np
import random_calls as calls
import reference
from reference import MEAN, REDUCTIONS, SUM, SUM_BY_NONZERO_WEIGHTS, SUM_OVER_BATCH_SIZE, ulp

import sce_numba as sce

REDUCED = [reduction for reduction in REDUCTIONS if reduction != reference.NONE]
LENGTHS = [
    0,
    1,
    1,
    2,
    3,
    5,
    7,
    10,
    15,
    16,
    17,
    31,
    48,
    64,
    100,
    255,
    256,
    257,
    300,
    1024,
    1100,
    5000,
]


def draw_shape(rng, most=20_000):
    rank = rng.choice([0, 1, 2, 2, 2, 3, 3, 4, 5])
    shape = [1] * rank
    for axis in rng.sample(range(rank), rank):
        room = max(most // int(np.prod(np.maximum(shape, 1))), 1)
        shape[axis] = rng.choice([n for n in LENGTHS if n <= room and (n or rng.random() < 0.2)])
    return tuple(shape)


def draw_axis(rng, rank):
    """Draw an axis, or some of them, or none."""
    numbers = rng.sample(range(rank), rng.randrange(rank + 1))
    numbers = [number - rank * rng.randrange(2) for number in numbers]
    return numbers[0] if len(numbers) == 1 and rng.random() < 0.7 else tuple(numbers)


def draw_where(rng, shape):
    own = tuple(n if rng.random() < 0.6 else 1 for n in shape[rng.randrange(len(shape) + 1) :])
    share = rng.choice([0.0, 0.1, 0.5, 0.9])
    return np.array(np.random.default_rng(rng.randrange(1 << 30)).random(own) >= share)


def draw_values(rng, shape):
    """Draw logits and labels, quickly."""
    numbers = np.random.default_rng(rng.randrange(1 << 30))
    dtype = rng.choice(calls.LOGITS_DTYPES)
    logits = (numbers.standard_normal(shape) * rng.choice([1.0, 8.0, 40.0])).astype(dtype)
    if rng.random() < 0.15:
        edges = numbers.random(shape) < rng.choice([0.01, 0.3])
        with np.errstate(over="ignore"):
            given = numbers.choice(calls.EDGES, shape).astype(dtype)
        logits = np.where(edges, given, logits)
    kind = rng.choice(calls.LABELS_DTYPES)
    labels = numbers.random(shape) < rng.choice([0.0, 0.3, 1.0])
    labels = labels.astype(kind)
    if kind in calls.LOGITS_DTYPES and rng.random() < 0.5:
        labels = numbers.random(shape).astype(kind)
    return labels, np.asarray(logits, dtype)


def draw_call(rng):
    """Draw the arguments of a call."""
    shape = draw_shape(rng)
    labels, logits = draw_values(rng, shape)
    given = {
        "multi_class_labels": labels,
        "logits": logits,
        "axis": draw_axis(rng, len(shape)),
        "keepdims": rng.random() < 0.3,
        "reduction": rng.choice(REDUCED),
    }
    if rng.random() < 0.5:
        given["weights"] = calls.draw_weights(rng, shape)
    if rng.random() < 0.3:
        given["label_smoothing"] = rng.choice([0.1, 0.5, 1.0])
    if rng.random() < 0.25:
        given["where"] = draw_where(rng, shape)
    if rng.random() < 0.25:
        own = shape[rng.randrange(len(shape) + 1) :]
        given["pos_weight"] = calls.drawn(rng, own, np.dtype(np.float32), lambda: rng.random() * 4)
    for name in ("multi_class_labels", "logits", "weights", "where", "pos_weight"):
        if rng.random() < 0.4 and isinstance(given.get(name), np.ndarray):
            given[name] = calls.laid_out(given[name], rng.choice(calls.LAYOUTS))
    return given


def parts(given):
    """Return weighted losses, their size before terms cancel, weights, and which elements count."""
    logits, labels = np.asarray(given["logits"]), given.get("multi_class_labels")
    where = np.broadcast_to(given.get("where", True), logits.shape)
    weights = reference.as_given(given.get("weights", 1.0)).astype(np.longdouble)
    weights = np.where(where, np.broadcast_to(weights, logits.shape), 0)
    with np.errstate(all="ignore"):
        losses = logits.astype(np.longdouble)
        size = np.abs(losses)
        if labels is not None:
            smoothing, q = given.get("label_smoothing", 0), given.get("pos_weight")
            losses = reference.derivatives(labels, logits, smoothing, 1 if q is None else q)[0]
            # Where the formula is taken literally.
            literal = sce.sigmoid_cross_entropy(
                labels, logits, label_smoothing=smoothing, pos_weight=q, reduction=reference.NONE
            )
            losses = np.where(np.isfinite(logits), losses, literal)
            outside = np.abs(2 * reference.as_given(labels) - 1) > 1
            size = np.where(outside, size * np.abs(reference.as_given(labels)) * 5, np.abs(losses))
        terms = np.where(where, losses * weights, 0)
        return terms, np.where(where, np.abs(size * weights), 0), weights, where


def _divisor(given, weights, where, kept):
    counts = {
        SUM: np.ones_like(weights),
        MEAN: weights,
        SUM_OVER_BATCH_SIZE: where,
        SUM_BY_NONZERO_WEIGHTS: (weights != 0) & where,
    }[given["reduction"]]
    divisor = np.asarray(counts.sum(**kept), np.longdouble)
    return np.ones_like(divisor) if given["reduction"] == SUM else divisor


def expected(given):
    """Return the results rounded to float64, and how far from 0 their terms are."""
    terms, sizes, weights, where = parts(given)
    axis, keepdims = given["axis"], given["keepdims"]
    kept = {"axis": axis, "keepdims": keepdims}
    with np.errstate(all="ignore"):
        divisor = _divisor(given, weights, where, kept)
        safe = np.where(divisor == 0, 1, divisor)
        result = np.where(divisor == 0, 0, terms.sum(**kept) / safe)
        size = np.where(divisor == 0, 0, sizes.sum(**kept) / np.abs(safe))
        if given["reduction"] == MEAN:
            # A sum of weights that cancel has lost what it is divided by.
            size *= np.maximum(np.abs(weights).sum(**kept) / np.abs(safe), 1)
        return result.astype(np.float64), size.astype(np.float64)


def agrees(found, given):
    """Tell whether each result is within 1 ULP of what its terms come to.

    In float64 the terms are no more precise than the results, and these are within 4.
    """
    result, size = expected(given)
    dtype = np.asarray(given["logits"]).dtype
    dtype = dtype if dtype.isnative else dtype.newbyteorder("=")
    if np.shape(found) != result.shape or np.asarray(found).dtype != dtype:
        return False
    found = np.asarray(found).astype(np.float64)
    with np.errstate(all="ignore"):
        rounded = result.astype(dtype).astype(np.float64)
        units = 4.0 if dtype == np.float64 else 1.0
        near = np.abs(found - rounded) <= units * ulp(np.maximum(size, np.abs(result)), dtype)
        huge = np.abs(result) >= np.finfo(np.float32 if dtype.kind == "V" else dtype).max * 0.99
        return bool(
            np.all(near | (found == rounded) | (np.isnan(found) & np.isnan(rounded)) | huge)
        )


def gradient(given):
    """Return the gradient of the sum of the results, in float64, and the error it may have."""
    logits, labels = np.asarray(given["logits"]), np.asarray(given["multi_class_labels"])
    options = given.get("label_smoothing", 0), given.get("pos_weight", 1)
    _, _, weights, where = parts(given)
    kept = {"axis": given["axis"], "keepdims": True}
    with np.errstate(all="ignore"):
        divisor = _divisor(given, weights, where, kept)
        scale = np.where(divisor == 0, 0, weights / np.where(divisor == 0, 1, divisor))
        slopes = reference.derivatives(labels, logits, *options)[1]
        exact = np.where(where & (divisor != 0), slopes * scale, 0).astype(np.float64)
        error = reference.gradient_error(labels, logits, *options) * np.abs(scale)
        if given["reduction"] == MEAN:
            error = error * np.maximum(np.abs(weights).sum(**kept) / np.abs(divisor), 1)
        dtype = logits.dtype if logits.dtype.isnative else logits.dtype.newbyteorder()
        units = ulp(exact, dtype)
        return exact, (2 * error + 2 * units).astype(np.float64)
