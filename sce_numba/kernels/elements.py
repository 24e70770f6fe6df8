"""Loss, gradient and hessian of an element, as formulas over lanes.

With logit ``x``, label ``z``, smoothed label ``z' = a z + b``, where ``a = 1 - s`` and
``b = s / 2`` for label smoothing ``s``, and the weight ``q`` of positives (1 if none is given)::

    loss     = (1 - z') x + l (log1p(t) + max(-x, 0)),  t = exp(-|x|),  l = 1 + (q - 1) z'
    gradient = (1 - z') - l sigmoid(-x)
    hessian  = l sigmoid(x) sigmoid(-x)

What is computed has no terms that cancel for labels in [0, 1], with ``n = 1 - z' = a (1 - z) + b``,
``p = q z'`` and ``sigmoid(-|x|) = t / (1 + t)``::

    loss     = |x| (n or p) + l log1p(t)               n for x >= 0, p for x < 0;  l = n + p
             = a (max(x, 0) - x z) + b |x| + log1p(t)  without q
    gradient = n - l sigmoid(-|x|)                     for x >= 0
             = -(p - l sigmoid(-|x|))                  for x < 0

Exponential and logarithm are in the dtype of the logits; where another operand is wider, the rest
is in float64, whose digits decide what is left of ``1 - z'``.

Where ``|x|`` is infinite the published form of the loss is taken literally, so that NaN appears
where it is due.

The kernels know a loss as a ``Formula``; this one is ``SIGMOID``, another is in ``focal``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from .fused import fma
from .lanes import absolute, bits, branch, from_bits, select, to_dtype
from .softplus import exp_minus_abs_and_rest, log1p, positive_part, sigmoid_from_exp, sign_of


class Element(NamedTuple):
    """Lanes of elements, with what holds for all of them."""

    dtype: Any
    x: Any
    z: Any
    a: Any
    b: Any
    smooth: Any  # whether b is other than 0
    has_q: Any = False
    q: Callable[[], Any] | None = None  # reads q, where there is one
    narrow: Any = None  # the dtype of the logits, where dtype is wider
    parameters: tuple[Any, ...] = ()  # the numbers that its formula takes
    in_one_piece: bool = False  # whether code has no branches for dtypes


@dataclass(frozen=True)
class Formula:
    """What the kernels know of a loss; the name tells it from others.

    Loss, gradient and hessian are functions of what ``begin`` makes of the dtype and the value of
    logits, and of an element, whose dtype may be wider.
    """

    name: str
    begin: Callable[[Any, Any, Element], tuple[Any, ...]] = field(compare=False, repr=False)
    loss: Callable[..., Any] = field(compare=False, repr=False)
    gradient: Callable[..., Any] = field(compare=False, repr=False)
    hessian: Callable[..., Any] | None = field(compare=False, repr=False)
    # Where logarithms merge, as sum loss = sum linear_part + log prod (1 + t), else None.
    linear_part: Callable[[Element], Any] | None = field(compare=False, repr=False)
    # The numbers that it takes: what they are where code is of its own, or None for any.
    usual: tuple[float | None, ...] = ()


def linear_part(element: Element) -> Any:
    """Return the loss without its logarithm, where there is no ``q`` and ``x`` is finite."""
    x, a, b = element.x, element.a, element.b
    linear = fma(-x, element.z, positive_part(x))
    (linear,) = branch(
        element.smooth, lambda: (fma(a, linear, b * absolute(x)),), lambda: (linear,)
    )
    return linear


def _sides(element: Element) -> tuple[Any, Any, Any]:
    """Return n, p and l, where there is a q."""
    z, a, b = element.z, element.a, element.b
    assert element.q is not None
    q, label, negative = element.q(), fma(a, z, b), fma(a, 1.0 - z, b)
    return negative, q * label, fma(q, label, negative)


def begin(dtype: Any, x: Any, element: Element) -> tuple[Any, ...]:
    """Return the element, and t and d of exp(-|x|) = t (1 + d)."""
    return element, *exp_minus_abs_and_rest(dtype, x)


def loss(element: Element, t: Any, _d: Any) -> Any:
    """Return the loss; that d is left out doesn't show."""
    x, z, a, b = element.x, element.z, element.a, element.b
    size = absolute(x)

    def plain():
        return (fma(-x, z, positive_part(x)),)

    def smoothed():
        linear = fma(a, fma(-x, z, positive_part(x)), b * size)
        literal = fma(-x, fma(a, z, b), positive_part(x))
        return (select(size == np.inf, literal, linear),)

    def weighted():
        negative, positive, both = _sides(element)
        linear = size * select(x < 0.0, positive, negative)
        literal = fma(negative, x, both * positive_part(-x))
        return (select(size == np.inf, literal, linear),)

    (linear,) = branch(element.has_q, weighted, lambda: branch(element.smooth, smoothed, plain))
    logarithm = log1p(element.narrow or element.dtype, t, element.in_one_piece)
    logarithm = to_dtype(logarithm, element.dtype)

    def scaled():
        *_, both = _sides(element)
        return (fma(both, logarithm, linear),)

    (result,) = branch(element.has_q, scaled, lambda: (linear + logarithm,))
    return result


def gradient(element: Element, t: Any, d: Any) -> Any:
    """Return the gradient."""
    x, s = element.x, to_dtype(sigmoid_from_exp(t, d), element.dtype)
    sign = sign_of(element.dtype, x)

    def weighted():
        negative, positive, both = _sides(element)
        side = select(sign < 0, positive, negative)
        return (fma(-both, s, side),)

    def plain():
        side = select(sign < 0, element.z, 1.0 - element.z)
        return (fma(element.a, side, element.b) - s,)

    (size,) = branch(element.has_q, weighted, plain)
    # s is a number even where x is NaN.
    return select(x == x, from_bits(bits(size) ^ sign), x)


def hessian(element: Element, t: Any, d: Any) -> Any:
    """Return the second derivative."""
    s = to_dtype(sigmoid_from_exp(t, d), element.dtype)

    def weighted():
        *_, both = _sides(element)
        return (both * curvature,)

    curvature = fma(-s, s, s)
    (result,) = branch(element.has_q, weighted, lambda: (curvature,))
    return select(element.x == element.x, result, element.x)


SIGMOID = Formula("sigmoid", begin, loss, gradient, hessian, linear_part)
