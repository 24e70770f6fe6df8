"""Print how far float32 losses and gradients lie from the exact ones, in ULP, at all 2^32 logits.

For labels 0 and 1 (or those given as arguments) every bit pattern of float32 is tried.  The exact
values are computed by NumPy in float64.  Logits that are infinite or NaN must give what the formula
gives.  Takes some minutes: ``python tools/exhaustive_ulp.py``.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count

import numpy as np

import sce_numba as sce

CHUNK = 1 << 16
CHUNKS_PER_TASK = 1 << 8
EDGES = np.array([0, 0.5, 0.625, 0.75, 0.875, 1, 1.25, 1.5, 2, 2.5, np.inf])


def loss(labels, logits):
    """Return the losses, the exact ones, and what the formula gives for infinities and NaN."""
    actual = sce.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)
    x, z = logits.astype(np.float64), np.float64(labels[0])
    rest = np.log1p(np.exp(-np.abs(x)))
    exact = np.where(x > 0, x * (1 - z), -x * z) + rest
    return actual, exact, np.maximum(x, 0) - x * z + rest


def gradient(labels, logits):
    """Return the same of the gradients."""
    _, actual = sce.sigmoid_cross_entropy_value_and_grad(labels, logits, reduction="weighted_sum")
    x, z = logits.astype(np.float64), np.float64(labels[0])
    t = np.exp(-np.abs(x))
    s = t / (1 + t)
    exact = np.where(x < 0, s - z, (1 - z) - s)
    return actual, exact, exact


def errors(quantity, first, label):
    """Return the errors of one chunk of bit patterns, and the number of wrong special values."""
    logits = np.arange(first, first + CHUNK, dtype=np.uint32).view(np.float32)
    with np.errstate(all="ignore"):
        actual, exact, formula = quantity(np.full(CHUNK, label, np.float32), logits)
        finite = np.isfinite(logits)
        same = (actual == formula.astype(np.float32)) | (np.isnan(actual) & np.isnan(formula))
        # The distance to the next float32, also where they are subnormal.
        exponent = np.frexp(exact)[1]
        spacing = np.ldexp(1.0, np.maximum(exponent - 24, -149))
        error = (np.abs(actual - exact) / spacing)[finite]
    return error, int(np.count_nonzero(~same & ~finite))


def task(quantity, first, label):
    """Return histogram, greatest error with its logit, and wrong specials of some chunks."""
    counts, greatest, wrong = np.zeros(EDGES.size - 1, np.int64), (0.0, 0.0), 0
    for start in range(first, first + CHUNK * CHUNKS_PER_TASK, CHUNK):
        error, bad = errors(quantity, start, label)
        wrong += bad
        if error.size:
            counts += np.histogram(error, EDGES)[0]
            at = int(np.argmax(error))
            logit = np.uint32(start + at).view(np.float32)
            greatest = max(greatest, (float(error[at]), float(logit)))
    return counts, greatest, wrong


def report(quantity, label):
    """Print the histogram of a quantity at one label."""
    starts = range(0, 1 << 32, CHUNK * CHUNKS_PER_TASK)
    with ThreadPoolExecutor(cpu_count()) as pool:
        results = list(pool.map(lambda start: task(quantity, start, label), starts))
    counts = sum(result[0] for result in results)
    greatest, logit = max(result[1] for result in results)
    print(
        f"{quantity.__name__}, label {label}: {counts.sum():,} finite logits, "
        f"at most {greatest:.4f} ULP at {logit!r}"
    )
    print(f"  infinite or NaN logits that differ from the formula: {sum(r[2] for r in results)}")
    for low, high, count in zip(EDGES[:-1], EDGES[1:], counts, strict=True):
        print(f"  {low:5.3f} to {high:5.3f} ULP  {count:14,}  {count / counts.sum():12.8%}")


def main(labels):
    """Print losses and gradients at every label."""
    for quantity in (loss, gradient):
        for label in labels:
            report(quantity, label)


if __name__ == "__main__":
    main([float(argument) for argument in sys.argv[1:]] or [0.0, 1.0])
