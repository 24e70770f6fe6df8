"""The focal loss of an element: cross entropy that counts for less where it is small.

Lin, Goyal, Girshick, He and Dollár, "Focal loss for dense object detection", 2017.  With logit
``x``, label ``z``, smoothed as in ``elements`` to ``p = z'`` and ``n = 1 - z'``, and the plain loss
``ce``::

    loss = (alpha_p p + alpha_n n) (1 - p_t)^gamma ce,  p_t = p sigmoid(x) + n sigmoid(-x)

``q = 1 - p_t`` would lose all its digits where the prediction is good.  With ``s = sigmoid(-|x|)``,
which is at most 1/2, and with ``c = n`` for x >= 0, ``c = p`` for x < 0, it is a sum of terms that
are not negative, and so is, for labels 0 and 1, the derivative but for the sign of x::

    q  = c (1 - 2 s) + s
    q' = sign(x) (2 c - 1) s (1 - s)
    d loss / dx = alpha q^gamma (ce' + gamma q' / q ce)

An error of ``q`` appears gamma times in its power, so that either comes in two parts, of which the
second is what rounding lost of the first.  The power of the whole part of gamma is a product; that
of the rest is ``exp(rest log q)``, with ``log q = k ln 2 + log1p(f)`` for ``q = 2^k (1 + f)``.

The plain loss takes infinite logits literally, and thus this one does.  A negative ``q``, of labels
outside [0, 1], has no power but those of whole numbers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from . import elements
from .elements import Element, Formula
from .fused import fma, two_sum
from .lanes import (
    absolute,
    bits,
    branch,
    from_bits,
    loop_while,
    real,
    rounded,
    select,
    spread_like,
    to_dtype,
    to_float64,
)
from .softplus import FORMATS, RAISED, exp_minus_abs_and_rest, log1p, sign_of

# The power of so much of gamma is a product; with more the error would grow less than the time.
_FACTORS = 16.0
# With a greater exponent a power of anything less than 1 is 0, as it is with this one.
_GREATEST = 2.0**100
# A number in two parts.
_Pair = tuple[Any, Any]


class _Parameters(NamedTuple):
    """The numbers that the formula takes: weights, and gamma in three parts that add up to it."""

    alpha_p: Any
    alpha_n: Any
    whole: Any
    rest: Any  # a number of float32, and what that has lost
    rest_low: Any


class _Shares(NamedTuple):
    """What loss and gradient have in common: see the formulas above."""

    s: Any
    rest: Any  # 1 - s
    difference: Any  # 2 c - 1
    alpha: Any
    q: Any
    power: _Pair


def _exact_product(a: Any, b: Any) -> _Pair:
    product = a * b
    return product, fma(a, b, -product)


def _shares(element: Element, t: Any, d: Any) -> _Shares:
    dtype, x, z, a, b = element.dtype, element.x, element.z, element.a, element.b
    parameters = _Parameters(*element.parameters)
    other = 1.0 - z
    p, n, n_low = fma(a, z, b), fma(a, other, b), (1.0 - other) - z
    below = sign_of(dtype, x) < 0
    c, c_low = select(below, p, n), select(below, 0.0, n_low)
    # As in `softplus.sigmoid_from_exp`, but with both parts.
    v = 1.0 + t
    s = t / v
    rest = 1.0 - s
    s_low = rest * fma(s, d - (t - (v - 1.0)), fma(-s, v, t))
    # With w = 1 - 2 s.
    difference, w = fma(c, 2.0, -1.0), fma(s, -2.0, 1.0)
    q = fma(c, w, s)
    lost = fma(c_low, w, fma(c, w, -q) + s) + c * fma(s, -2.0, 1.0 - w)
    power = _power(dtype, (q, fma(-difference, s_low, lost)), parameters)
    alpha_p, alpha_n = (spread_like(number, dtype, x) for number in parameters[:2])
    alpha = fma(alpha_p, p, fma(alpha_n, n, alpha_n * n_low))
    return _Shares(s, rest, difference, alpha, q, power)


def _times(one: _Pair, two: _Pair) -> _Pair:
    product, lost = _exact_product(one[0], two[0])
    return product, fma(one[0], two[1], fma(one[1], two[0], lost))


def parts_of(gamma: float) -> tuple[float, float, float]:
    """Return three numbers that add up to gamma, a whole one and one of float32 among them."""
    whole = min(gamma // 1.0, _FACTORS)
    rest = min(gamma - whole, _GREATEST)
    short = np.float64(np.float32(rest))
    return whole, short, rest - short


def _power(dtype: Any, q: _Pair, parameters: _Parameters) -> _Pair:
    """Return q^gamma; the usual square is not worth a loop."""
    whole, rest = parameters.whole, parameters.rest

    def of_any() -> _Pair:
        one = spread_like(real(rest, 1.0), dtype, q[0])
        first = branch(
            rest != 0.0, lambda: _part_of_one(dtype, *q, parameters), lambda: (one, one - one)
        )
        return loop_while(
            (*first, real(rest, 0.0)),
            lambda _power, _low, k: k < whole,
            lambda power, low, k: (*_times((power, low), q), k + 1.0),
        )[:2]

    return branch((whole == 2.0) & (rest == 0.0), lambda: _times(q, q), of_any)


def _part_of_one(dtype: Any, q: Any, q_low: Any, parameters: _Parameters) -> _Pair:
    """Return q^(rest + rest_low) for 0 <= q <= 1, NaN for less."""
    form = FORMATS[dtype]
    rest, rest_low = (spread_like(number, dtype, q) for number in parameters[3:])
    raised = q * 2.0**RAISED  # a normal number
    k = (bits(raised) >> form.fraction) - form.bias
    m = from_bits(bits(raised) - (k << form.fraction))
    shrink = from_bits((form.bias - k) << form.fraction)
    f = fma(q_low * 2.0**RAISED, shrink, m - 1.0)
    n, (ln2, ln2_low) = rounded(to_float64(k - RAISED), dtype), form.ln2
    first, second = n * ln2, fma(n, ln2_low, log1p(dtype, f))  # log q; the first is exact
    (one, one_low), (two, two_low) = _exact_product(rest, first), _exact_product(rest, second)
    total, lost = two_sum(one, two)
    total, more = two_sum(total, rest_low * first)
    lost = (lost + more) + (one_low + fma(rest_low, second, two_low))
    power, d = exp_minus_abs_and_rest(dtype, total)
    power = select(q < 0.0, np.nan, power)
    return power, power * (d + lost)


def _given(element: Element, t: Any, d: Any) -> tuple[Any, ...]:
    """Return what loss and gradient begin with: t and d as wide as the element, shares and ce."""
    plain = element._replace(has_q=False)
    shares = _shares(element, to_dtype(t, element.dtype), to_dtype(d, element.dtype))
    return plain, shares, elements.loss(plain, t, d)


def loss(element: Element, t: Any, d: Any) -> Any:
    """Return the loss."""
    _, shares, ce = _given(element, t, d)
    power, low = shares.power
    # The plain loss leaves out d, which changes it by s d.
    lost = power * (shares.s * to_dtype(d, element.dtype))
    # Of an infinite one the low part would make NaN.
    result = select(absolute(ce) == np.inf, ce, fma(power, ce, fma(low, ce, lost)))
    return shares.alpha * result


def gradient(element: Element, t: Any, d: Any) -> Any:
    """Return the gradient."""
    plain, shares, ce = _given(element, t, d)
    s, rest, difference, alpha, q, (power, low) = shares
    dtype, x, parameters = element.dtype, element.x, _Parameters(*element.parameters)
    gamma = parameters.whole + (parameters.rest + parameters.rest_low)
    share = select(q == 0.0, 1.0, s / q)  # where q is 0 so is s, and both are the same
    growth = spread_like(gamma, dtype, x) * (difference * share) * (rest * ce)
    growth = select(absolute(x) == np.inf, 0.0, growth)  # where ce is infinite or NaN
    slope = elements.gradient(plain, t, d) + from_bits(bits(growth) ^ sign_of(dtype, x))
    return alpha * fma(power, slope, low * slope)


FOCAL = Formula("focal", loss, gradient, None, None, parameters=len(_Parameters._fields))
