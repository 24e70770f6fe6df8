"""The focal loss of an element: cross entropy that counts for less where it is small.

Lin, Goyal, Girshick, He and Dollár, "Focal loss for dense object detection", 2017.  With logit
``x``, label ``z``, smoothed as in ``elements`` to ``p = z'`` and ``n = 1 - z'``, and the plain loss
``ce``::

    loss = (alpha_p p + alpha_n n) (1 - p_t)^gamma ce,  p_t = p sigmoid(x) + n sigmoid(-x)

``q = 1 - p_t`` would lose all its digits where the prediction is good.  With ``t = exp(-|x|)``,
``r = 1 / (1 + t)``, and with ``c, o = n, p`` for x >= 0, ``c, o = p, n`` for x < 0, it is a sum of
terms that are not negative, and so is, for labels 0 and 1, the derivative but for the sign of x::

    q  = top r,  top = c + o t
    q' = sign(x) (2 c - 1) t r^2
    d loss / dx = alpha q^gamma (ce' + gamma q' / q ce)

An error of ``q`` appears gamma times in its power, so that what either is made of comes in two
parts, of which the second, ``_low``, is what rounding lost of the first.  For labels 0 and 1 little
is lost: steps that have no others skip the rest, which changes none of their bits.  The power of
the whole part of gamma is a product; that of a half is a root, that of any other rest is ``exp(rest
log q)``, with ``log q = k ln 2 + log1p(f)`` for ``q = 2^k (1 + f)``.

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
    differ,
    from_bits,
    loop_while,
    real,
    rounded,
    select,
    spread_like,
    square_root,
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

    element: Element
    t: _Pair
    c: Any
    share: _Pair  # t / top
    r: Any
    r_more: Any  # what r lacks, in relation to it
    factor: _Pair  # alpha q^gamma
    ce: Any


def _exact_product(a: Any, b: Any) -> _Pair:
    product = a * b
    return product, fma(a, b, -product)


def begin(narrow: Any, x: Any, element: Element) -> _Shares:
    """Return what loss and gradient have in common."""
    t, d = exp_minus_abs_and_rest(narrow, x, fine=True)
    ce = elements.loss(element._replace(has_q=False), t, d)
    dtype, x, z, a, b = element.dtype, element.x, element.z, element.a, element.b
    t, d = to_dtype(t, dtype), to_dtype(d, dtype)
    t_low, other, parameters = t * d, 1.0 - z, _Parameters(*element.parameters)
    p, n = branch(element.smooth, lambda: (fma(a, z, b), fma(a, other, b)), lambda: (z, other))
    below = sign_of(dtype, x) < 0
    c, o = select(below, p, n), select(below, n, p)
    alpha_p, alpha_n = parameters.alpha_p, parameters.alpha_n
    positive, negative = spread_like(alpha_p, dtype, x), spread_like(alpha_n, dtype, x)

    def rounded_off() -> Any:
        """Return what alpha lacks as alpha_p and alpha_n are rounded to float32."""
        if dtype is np.float64:
            return c - c
        low_p, low_n = (
            spread_like(alpha - to_float64(rounded(alpha, dtype)), dtype, x)
            for alpha in (alpha_p, alpha_n)
        )
        return fma(low_p, p, low_n * n)

    def of_hard_labels() -> tuple[Any, ...]:
        top, share = (fma(o, t, c), o * t_low), (fma(c, t, o), c * t_low)
        return *top, *share, fma(positive, p, negative * n), rounded_off()

    def of_any() -> tuple[Any, ...]:
        other_low = (1.0 - other) - z
        product, product_low = _exact_product(o, t)
        top, lost = two_sum(c, product)
        lost = fma(other_low, select(below, t, 1.0), lost + product_low)
        top_low = fma(o, t_low, lost)
        by = select(top == 0.0, 1.0, top)
        share = select(top == 0.0, 1.0, t / by)  # where top is 0 so is t, and both are the same
        share_low = (fma(-share, top, t) + fma(-share, top_low, t_low)) / by
        one, one_low = _exact_product(positive, p)
        two, two_low = _exact_product(negative, n)
        alpha, lost = two_sum(one, two)
        alpha_low = fma(negative, other_low, lost + (one_low + two_low)) + rounded_off()
        return top, top_low, share, share_low, alpha, alpha_low

    top, top_low, *share, alpha, alpha_low = branch(differ(c * o, c - c), of_any, of_hard_labels)
    r = 1.0 / (1.0 + t)
    r_more = fma(-r, t_low, fma(-r, t, 1.0 - r))
    q, q_low = _exact_product(top, r)
    power, low = _power(dtype, (q, fma(q, r_more, fma(top_low, r, q_low))), parameters)
    factor, factor_low = _exact_product(alpha, power)
    factor_low = fma(alpha_low, power, fma(alpha, low, factor_low))
    return _Shares(element, (t, t_low), c, tuple(share), r, r_more, (factor, factor_low), ce)


def _times(one: _Pair, two: _Pair) -> _Pair:
    product, lost = _exact_product(one[0], two[0])
    return product, fma(one[0], two[1], fma(one[1], two[0], lost))


def parts_of(gamma: float) -> tuple[float, float, float]:
    """Return three numbers that add up to gamma, a whole one and one of float32 among them."""
    # Numba would compile a function for `min`.
    whole = gamma // 1.0 if gamma < _FACTORS else _FACTORS
    rest = gamma - whole if gamma < _GREATEST else _GREATEST
    short = np.float64(np.float32(rest))
    return whole, short, rest - short


def _power(dtype: Any, q: _Pair, parameters: _Parameters) -> _Pair:
    """Return q^gamma; the usual square is not worth a loop."""
    whole, rest = parameters.whole, parameters.rest

    def of_none() -> _Pair:
        one = spread_like(real(rest, 1.0), dtype, q[0])
        return one, one - one

    def of_any() -> _Pair:
        first = branch(
            rest == 0.0,
            of_none,
            lambda: branch(
                rest + parameters.rest_low == 0.5,
                lambda: _root(dtype, *q),
                lambda: _part_of_one(dtype, *q, parameters),
            ),
        )
        return loop_while(
            (*first, real(rest, 0.0)),
            lambda _power, _low, k: k < whole,
            lambda power, low, k: (*_times((power, low), q), k + 1.0),
        )[:2]

    return branch((whole == 2.0) & (rest == 0.0), lambda: _times(q, q), of_any)


def _root(dtype: Any, q: Any, q_low: Any) -> _Pair:
    """Return the square root; NaN of less than 0."""
    root, one = square_root(q), FORMATS[dtype].bias << FORMATS[dtype].fraction
    # Bits of a number and of its reciprocal lie about as far from those of 1: good to an eighth.
    reciprocal = from_bits(2 * one - bits(root))
    return root, (fma(-root, root, q) + q_low) * (0.5 * reciprocal)


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
    # Only their sum is small where q is near 1.
    total, more = two_sum(total, rest_low * (first + second))
    lost = (lost + more) + (one_low + two_low)
    power, d = exp_minus_abs_and_rest(dtype, total, fine=True)
    power = select(q < 0.0, np.nan, power)
    return power, power * (d + lost)


def loss(*given: Any) -> Any:
    """Return the loss."""
    shares = _Shares(*given)
    (factor, factor_low), (_, t_low) = shares.factor, shares.t
    factor = factor + factor_low
    # The plain loss leaves out d, which changes it by s d.
    return fma(factor, shares.ce, factor * (shares.r * t_low))


def gradient(*given: Any) -> Any:
    """Return the gradient."""
    element, (t, t_low), c, (share, share_low), r, r_more, (factor, factor_low), ce = given
    dtype, x, parameters = element.dtype, element.x, _Parameters(*element.parameters)
    s, s_low = _exact_product(t, r)
    s_low = fma(s, r_more, fma(t_low, r, s_low))
    # growth = gamma q' / q ce, but for its sign
    gamma = spread_like(parameters.whole + (parameters.rest + parameters.rest_low), dtype, x)
    gamma = gamma * fma(c, 2.0, -1.0)
    one, one_low = _exact_product(gamma, share)
    two, two_low = _exact_product(r, ce)
    one_low = fma(gamma, share_low, one_low)
    two_low = fma(r, r * t_low, fma(two, r_more, two_low))
    growth, low = _times((one, one_low), (two, two_low))
    infinite = absolute(x) == np.inf  # then ce is infinite or NaN
    growth, low = (select(infinite, 0.0, part) for part in (growth, low))
    slope = (c - s) + (growth + (low - s_low))
    slope = from_bits(bits(slope) ^ sign_of(dtype, x))
    return fma(factor, slope, factor_low * slope)


_USUAL = _Parameters(None, None, whole=2.0, rest=0.0, rest_low=0.0)
FOCAL = Formula("focal", begin, loss, gradient, None, None, _USUAL)
