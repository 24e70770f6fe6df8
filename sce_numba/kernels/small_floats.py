"""Floats of 8 and 16 bits from and to float32, by whole numbers, for any split of their bits.

A float of ``fraction`` bits after the leading one lies in a float32 with its fraction moved up;
what then is wrong with its exponent, a factor of ``2^(127 - bias)``, is multiplied away, which is
exact and puts subnormal numbers right as well.  The way back rounds once, ties to even.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .lanes import bits, from_bits, select

_INFINITY = 0x7F800000  # the bits of float32's


class SmallFloat(NamedTuple):
    """What its bits mean.

    ``infinity`` are the bits of what is too large, and ``nan`` those of NaN; they are the same
    where there is no infinity.
    """

    width: int
    fraction: int
    bias: int
    infinity: int
    nan: int


def widened(form: SmallFloat, pattern: Any) -> Any:
    """Return float32 lanes, given the bits of small floats as integers of 32 bits."""
    shift = 23 - form.fraction
    if form.bias == 127:  # it is the upper part of a float32
        return from_bits(pattern << shift)
    sign = 1 << (form.width - 1)
    magnitude = pattern & (sign - 1)
    finite = bits(from_bits(magnitude << shift) * 2.0 ** (127 - form.bias))
    found = select(magnitude >= form.infinity, (magnitude << shift) | _INFINITY, finite)
    return from_bits(found | ((pattern & sign) << (32 - form.width)))


def rounded(form: SmallFloat, value: Any) -> Any:
    """Return the bits of the small floats nearest to float32 lanes, ties to even."""
    shift, sign = 23 - form.fraction, 1 << (form.width - 1)
    pattern = bits(value)
    magnitude = pattern & 0x7FFFFFFF
    carried = magnitude + ((1 << (shift - 1)) - 1) + ((magnitude >> shift) & 1)
    normal = (carried - ((127 - form.bias) << 23)) >> shift
    # In this sum the last bit is worth as much as the last bit of a subnormal number.
    power = 1 - form.bias - form.fraction + 23
    subnormal = bits(from_bits(magnitude) + 2.0**power) - ((127 + power) << 23)
    found = select(magnitude < (128 - form.bias) << 23, subnormal, normal)
    found = select(found < form.infinity, found, form.infinity)
    found = select(magnitude > _INFINITY, form.nan, found)
    return found | ((pattern >> (32 - form.width)) & sign)
