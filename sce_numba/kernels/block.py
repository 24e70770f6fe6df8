"""The loss over one block: contiguous logits, labels and weights that fit the first-level cache.

With ``x`` logits, ``z`` labels, ``w`` weights and smoothed labels ``z' = a z + b``, where
``a = 1 - s`` and ``b = s / 2`` for label smoothing ``s``, the loss of an element is::

    max(x, 0) - x z' + log1p(exp(-|x|))
        = a (max(x, 0) - x z) + b |x| + log1p(exp(-|x|))

The second form is the one computed: no term of it cancels another for labels in [0, 1].  Where
``|x|`` is infinite the first one is taken literally, so that NaN appears where it is due.

Each function is a few plain passes over the block, and each pass is a loop that the compiler
turns into vector code.  Sums run in float64.  Where the weight is constant over the block,
logarithms are merged: ``sum log1p(t_i) = log1p(u)`` with ``u = prod(1 + t_i) - 1``, which is
kept relatively exact, however small the ``t_i``, by ``u <- u t + (u + t)``.
"""

from __future__ import annotations

import numpy as np
from numba.extending import register_jitable

from .softplus import OPTIONS, exp_minus_abs, exp_minus_abs_normal, log1p, log1p_wide

# Elements in a block.  Part of the definition of every sum: the blocks, and the order in which
# they are added, depend on the shapes alone, never on the number of threads.
BLOCK = 4096
# A block is read in steps of this many elements, and each of them carries a product of 1 + t
# through all steps; 16 factors of at most 2 leave float32 far from overflow.
LANES = 256
# A shorter block is computed in float64 throughout, because its errors don't average out.
SHORT = 256
# In a smaller sum the exponentials that exp_minus_abs_normal keeps from underflowing would show.
TINY = 1e-26

# Only sums may be reordered, and only by the compiler, in the same way at every run.
SUM_OPTIONS = OPTIONS | {"fastmath": {"contract", "reassoc"}}


@register_jitable(**OPTIONS)
def losses(x, z, a, b, out):
    """Write the loss of every element to ``out``."""
    zero = x.dtype.type(0)
    if b == zero:
        for i in range(x.size):
            linear = (x[i] if x[i] > zero else zero) - x[i] * z[i]
            out[i] = linear + log1p(exp_minus_abs(x[i]))
    else:
        infinity = x.dtype.type(np.inf)
        for i in range(x.size):
            positive = x[i] if x[i] > zero else zero
            linear = a * (positive - x[i] * z[i]) + b * abs(x[i])
            literal = positive - x[i] * (a * z[i] + b)
            linear = literal if abs(x[i]) == infinity else linear
            out[i] = linear + log1p(exp_minus_abs(x[i]))


@register_jitable(**OPTIONS)
def copy(source, target):
    """Copy, converting to the dtype of ``target``."""
    for i in range(source.size):
        target[i] = source[i]


@register_jitable(**OPTIONS)
def weigh(values, w):
    """Multiply ``values`` by ``w`` in place."""
    for i in range(w.size):
        values[i] *= w[i]


@register_jitable(**SUM_OPTIONS)
def total(values):
    """Return the sum."""
    result = 0.0
    for i in range(values.size):
        result += np.float64(values[i])
    return result


@register_jitable(**SUM_OPTIONS)
def weighted_total(values, w):
    """Return (sum w value, sum w, number of w that are not 0)."""
    numerator, weight, present = 0.0, 0.0, 0.0
    for i in range(w.size):
        v = np.float64(w[i])
        numerator += v * np.float64(values[i])
        weight += v
        present += 1.0 if v != 0.0 else 0.0
    return numerator, weight, present


@register_jitable(**SUM_OPTIONS)
def _total_smoothed(linear, x, a, b):
    """Return sum a linear + b |x|."""
    result = 0.0
    for i in range(linear.size):
        result += a * np.float64(linear[i]) + b * np.float64(abs(x[i]))
    return result


@register_jitable(**OPTIONS)
def _step(x, z, linear, u):
    """Write max(x, 0) - x z to ``linear``, and multiply 1 + u by 1 + exp(-|x|)."""
    zero = x.dtype.type(0)
    for i in range(x.size):
        linear[i] = (x[i] if x[i] > zero else zero) - x[i] * z[i]
        t = exp_minus_abs_normal(x[i])
        u[i] = u[i] * t + (u[i] + t)


@register_jitable(**OPTIONS)
def _total_log1p(u):
    for i in range(u.size):
        u[i] = log1p_wide(u[i])
    return total(u)


@register_jitable(**OPTIONS)
def _total_merged(x, z, a, b, scratch):
    """Return the sum of the losses, with a logarithm for every LANES-th part of the block."""
    size = x.size
    u, linear = scratch[:LANES], scratch[LANES : 2 * LANES]
    u[:] = 0
    result = 0.0
    for start in range(0, size, LANES):
        logits, labels = x[start : start + LANES], z[start : start + LANES]
        part = linear[: logits.size]
        _step(logits, labels, part, u[: logits.size])
        result += total(part) if b == 0.0 else _total_smoothed(part, logits, a, b)
    return result + _total_log1p(u[:size])


@register_jitable(**OPTIONS)
def _losses_double(x, z, a, b, scratch):
    """Return the losses, computed in float64, in scratch memory of 3 float64 an element."""
    size = x.size
    logits, labels, out = scratch[:size], scratch[size : 2 * size], scratch[2 * size : 3 * size]
    copy(x, logits)
    copy(z, labels)
    losses(logits, labels, a, b, out)
    return out


@register_jitable(**OPTIONS)
def total_loss(x, z, weight, a, b, scratch, double):
    """Return sum weight loss; ``scratch`` is like x, ``double`` 3 float64 an element."""
    finite = abs(weight) < np.inf
    if finite and x.size >= SHORT:
        loss = _total_merged(x, z, a, b, scratch)
        if TINY < abs(loss) < np.inf:
            return weight * loss
    out = _losses_double(x, z, a, b, double)
    if finite:
        return weight * total(out)
    for i in range(out.size):  # the product with a loss of 0 is NaN
        out[i] *= weight
    return total(out)


@register_jitable(**OPTIONS)
def total_weighted_loss(x, z, w, a, b, scratch, double):
    """Return (sum w loss, sum w, number of w that are not 0); scratch as above."""
    if x.size >= SHORT:
        losses(x, z, x.dtype.type(a), x.dtype.type(b), scratch)
        return weighted_total(scratch, w)
    return weighted_total(_losses_double(x, z, a, b, double), w)
