"""a b + c, rounded once on every processor.

The formulas need it where a product and a sum nearly cancel, and all of their bits follow from it.
Where there is no instruction for it, exact products and sums are added with rounding to odd, after
which another rounding is that of the exact result (Boldo and Melquiond, "Emulation of FMA and
correctly rounded sums", 2008).  That takes some twenty instructions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .lanes import (
    Lanes,
    absolute,
    apart,
    bits,
    from_bits,
    is_single,
    llvm_function,
    rounded,
    select,
    to_float64,
)
from .processor import fuses

# x (2^27 + 1) and two differences leave the upper half of x, whose products are exact (Dekker).
HALVE = 2.0**27 + 1
# Greater factors are made smaller before they are halved.
LARGE, SHRINK = 2.0**900, 2.0**-200
# On Windows, and on Apple's processors, it is float64.
LONGDOUBLE_IS_WIDER = np.finfo(np.longdouble).nmant > np.finfo(np.float64).nmant


def fma(a: Any, b: Any, c: Any) -> Any:
    """Return a b + c, rounded once."""
    example = next((value for value in (a, b, c) if isinstance(value, Lanes)), None)
    if example is None:
        dtype = np.result_type(a, b, c)
        if dtype == np.float64 and not LONGDOUBLE_IS_WIDER:
            return _double(*(np.asarray(v, dtype) for v in (a, b, c)))[0]
        wide = np.longdouble if dtype == np.float64 else np.float64
        return (np.asarray(a, wide) * np.asarray(b, wide) + c).astype(dtype)
    values = [v if isinstance(v, Lanes) else example.constant(v) for v in (a, b, c)]
    if fuses():
        return llvm_function("fmuladd", *values)
    (result,) = (_single if is_single(example) else _double)(*values)
    return result


def two_sum(a: Any, b: Any) -> tuple[Any, Any]:
    """Return a + b rounded, and exactly what the rounding lost (Knuth)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


@apart("v")
def _single(a: Any, b: Any, c: Any) -> tuple[Any]:
    """Return a b + c of float32 by float64, in which the product is exact."""
    return (rounded(_odd_sum(to_float64(a) * to_float64(b), to_float64(c)), np.float32),)


@apart("v")
def _double(a: Any, b: Any, c: Any) -> tuple[Any]:
    """Return a b + c of float64."""
    shrink = select(absolute(a) > LARGE, _filled_like(a, SHRINK), 1.0)
    a, c = a * shrink, c * shrink
    product, lost = two_product(a, b)
    low, rest = two_sum(c, lost)
    high, more = two_sum(product, low)
    result = high + _odd_sum(rest, more)
    # Infinite and NaN operands leave NaN in what was lost.
    return (select(result == result, result, a * b + c) / shrink,)


def _filled_like(example: Any, number: Any) -> Any:
    return example.constant(number) if isinstance(example, Lanes) else np.full_like(example, number)


def halves(x: Any) -> tuple[Any, Any]:
    """Return two numbers of half the digits whose sum is x (Dekker)."""
    wide = x * HALVE
    upper = wide - (wide - x)
    return upper, x - upper


def two_product(a: Any, b: Any) -> tuple[Any, Any]:
    """Return a b rounded, and exactly what the rounding lost (Dekker)."""
    product = a * b
    (a_upper, a_lower), (b_upper, b_lower) = halves(a), halves(b)
    lost = a_upper * b_upper - product
    return product, ((lost + a_upper * b_lower) + a_lower * b_upper) + a_lower * b_lower


def _odd_sum(a: Any, b: Any) -> Any:
    """Return a + b, or where that is inexact and even its neighbour towards what was lost."""
    total, lost = two_sum(a, b)
    pattern = bits(total)
    inexact = ((lost > 0.0) | (lost < 0.0)) & ((pattern & 1) == 0)
    outwards = select((lost < 0.0) ^ (total < 0.0), _filled_like(pattern, -1), 1)
    return from_bits(select(inexact, pattern + outwards, pattern))
