"""The formulas under every kernel: exp(-|x|), log1p on [0, 1], and log1p beyond it.

They are written over lanes (see ``lanes``) of float32 or float64 and have neither branches nor
calls.

* ``exp(-|x|) = 2^n e^r`` with ``n = rint(-|x|/ln 2)`` and ``r = -|x| - n ln 2`` in two steps
  (Cody and Waite); ``e^r = 1 + r + r^2 p(r)``.
* ``log1p(t) = t + t^2 h(t - c)`` on ``0 <= t <= 1``, where ``t = exp(-|x|)`` always lies, so that
  no exponent has to be taken apart.
* ``log1p(u) = k ln 2 + log1p(f)`` with ``1 + u = 2^k (1 + f)`` for a product of many ``1 + t``.

``p`` and ``h`` are minimax in relative error; ``python tools/minimax.py`` makes them and
prints the bounds quoted here.  NaN and infinities come back as the value at the clamp: the
linear part of the loss, ``max(x, 0) - x z``, carries them into the result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .fused import fma
from .lanes import absolute, bits, from_bits, select, to_float64, to_int64
from .side_by_side import side_by_side

# An even number that lifts the exponent of the smallest subnormal number into the normal ones.
RAISED = 64

LOG2E = float.fromhex("0x1.71547652b82fep+0")


@dataclass(frozen=True)
class _Format:
    """What the formulas need to know of a floating-point format."""

    fraction: int  # bits after the leading one
    bias: int
    log2e: float
    ln2: tuple[float, float]  # high part, with room for a factor n, and low part
    normal: float  # exp(normal) is a normal number, with a power of two to spare
    smallest: float  # exp(smallest) rounds to 0
    p: tuple[float, ...]
    h: tuple[float, ...]
    center: float  # c, what h is in powers about
    h_chains: int

    @property
    def magic(self) -> float:
        """Adding it leaves the nearest integer in the low bits of the significand."""
        return 1.5 * 2.0**self.fraction


# fmt: off
FORMATS: dict[Any, _Format] = {
    np.float32: _Format(
        fraction=23,
        bias=127,
        log2e=float.fromhex("0x1.715476p+0"),
        ln2=(float.fromhex("0x1.62e4p-1"), float.fromhex("0x1.7f7d1cp-20")),
        normal=-87.0,
        smallest=-104.0,
        # on |r| <= ln(2)/2, lowest first: relative error of e^r <= 2^-27.96
        p=(
            0.4999999403953552, 0.1666652113199234, 0.04166838899254799,
            0.008368710055947304, 0.0013814613921567798,
        ),
        # on [0, 1], lowest first: relative error of log1p(t) <= 2^-27.40.  About 1/2, the rounding
        # of the first coefficient would cost more than a bit of that.
        h=(
            -0.3498530089855194, 0.15118171274662018, -0.07128041237592697,
            0.03528781235218048, -0.018071375787258148, 0.009517215192317963,
            -0.004584081470966339, 0.0023677877616137266, -0.0033184809144586325,
        ),
        center=43 / 64,
        h_chains=1,
    ),
    np.float64: _Format(
        fraction=52,
        bias=1023,
        log2e=LOG2E,
        ln2=(float.fromhex("0x1.62e42fefa3800p-1"), float.fromhex("0x1.ef35793c76730p-45")),
        normal=-708.0,
        smallest=-745.2,
        # relative error of e^r <= 2^-60.27
        p=(
            0.5, 0.16666666666666682, 0.041666666666666095,
            0.008333333333317048, 0.0013888888889115425, 0.00019841269896350334,
            2.4801586926894004e-05, 2.7557234896066278e-06, 2.755758171641275e-07,
            2.5112024716967936e-08, 2.0826644366673748e-09,
        ),
        # relative error of log1p(t) <= 2^-56.03
        h=(
            -0.37813956756734246, 0.17922493693603653, -0.09323036636366755,
            0.05108344610558803, -0.02894318316482139, 0.016788742475653068,
            -0.009909900734007928, 0.005929012144231963, -0.0035856659911958234,
            0.0021876359125154285, -0.0013445069943194812, 0.000831478725687876,
            -0.0005168190724251534, 0.0003225198509836997, -0.00020293423888243685,
            0.00012933992136908746, -7.906434577803548e-05, 4.405246732376016e-05,
            -3.3343839760824107e-05, 3.345873118930527e-05, -1.6599358459380286e-05,
        ),
        center=1 / 2,
        h_chains=4,
    ),
}
# float64 with the digits that sums of float32 losses need.
COARSE = "float64, coarse"
FORMATS[COARSE] = replace(
    FORMATS[np.float64],
    # relative error of log1p(t) <= 2^-30.22
    h=(
        -0.3781395678122119, 0.17922490960762408, -0.0932302432311035,
        0.05108537395819003, -0.028950096043001642, 0.01675526338042944,
        -0.009793718297647653, 0.006111970735965268, -0.004303212603984289,
        0.002072939821268557,
    ),
    h_chains=2,
)
# fmt: on


def _as_it_is(x: Any) -> Any:
    return x


def _polynomial(
    x: Any, coefficients: tuple[float, ...], chains: int, after: Callable[[Any], Any] = _as_it_is
) -> Any:
    """Return sum c_k x^k, in one, two or four interleaved chains.

    More of them keep the processor from waiting for each step to end, but take more steps.  Each
    step is handed to ``after``.
    """
    square = x * x
    power = {1: x, 2: square, 4: square * square}[chains]
    sums = []
    for first in range(chains):
        *lower, value = coefficients[first::chains]
        for c in reversed(lower):
            value = after(fma(power, value, c))
        sums.append(value)
    if chains == 1:
        return sums[0]
    halves = [fma(x, odd, even) for even, odd in zip(sums[::2], sums[1::2], strict=True)]
    return halves[0] if chains == 2 else fma(square, halves[1], halves[0])


def positive_part(x: Any) -> Any:
    """Return max(x, 0) by comparing bits as integers; 0 or NaN for NaN."""
    pattern = bits(x)
    return from_bits(select(pattern > 0, pattern, 0))


def sign_of(dtype: Any, x: Any) -> Any:
    """Return an integer that has the sign bit of x and no other."""
    return bits(x) & (-(2**31) if dtype is np.float32 else -(2**63))


def _size_bits(dtype: Any, x: Any, least: float) -> Any:
    """Return the bits of |x|, or of -least if that is smaller."""
    # The bits of numbers that are not negative have their order, with NaN above all.
    size, limit = bits(absolute(x)), int(bits(np.array(-least, dtype)))
    return select(size < limit, size, limit)


def _reduced(dtype: Any, size_bits: Any, raised: int = 0) -> tuple[Any, Any]:
    """Return (r, shifted) for -|x|; the low bits of shifted are n + raised."""
    form = FORMATS[dtype]
    size, magic = from_bits(size_bits), form.magic + raised
    shifted = fma(size, -form.log2e, magic)
    n = shifted - magic
    high, low = form.ln2
    return fma(n, -low, fma(n, -high, -size)), shifted


def _exp_reduced_less_one(dtype: Any, r: Any, after: Callable[[Any], Any] = _as_it_is) -> Any:
    """Return e^r - 1 for a reduced argument."""
    after = side_by_side if dtype is np.float64 else after
    return fma(r * r, _polynomial(r, FORMATS[dtype].p, 2, after), r)


def exp_minus_abs_and_rest(dtype: Any, x: Any, fine: bool = False) -> tuple[Any, Any]:
    """Return t and a tiny d for exp(-|x|) = t (1 + d), subnormal results included.

    With a ``fine`` d this has some digits more.
    """
    form = FORMATS[dtype]
    size_bits = _size_bits(dtype, x, form.smallest)
    r, shifted = _reduced(dtype, size_bits, RAISED)
    square, p = r * r, _polynomial(r, form.p, 2, side_by_side)
    less_one = fma(square, p, r)
    e = 1.0 + less_one
    # 2^RAISED times too large, no result is subnormal until the product, which is rounded once.
    raised = from_bits(bits(e) + (bits(shifted) << form.fraction))
    # What both sums lost; that it is to be divided by e, between 0.7 and 1.5, doesn't show.
    d = fma(square, p, r - (e - 1.0))
    if fine:
        n, (high, low) = shifted - (form.magic + RAISED), form.ln2
        d = d + fma(n, -low, fma(n, -high, -from_bits(size_bits)) - r)
    return raised * 2.0**-RAISED, d


def exp_minus_abs_wide(x: Any) -> Any:
    """Return exp(-|x|) of float32 with the digits that rounding to it loses, in float64."""
    return end_exp_minus_abs_wide(*begin_exp_minus_abs_wide(x))


def begin_exp_minus_abs_wide(x: Any) -> tuple[Any, Any]:
    """Begin what ``end_exp_minus_abs_wide`` ends: return r, and n with the bias of float64."""
    size_bits = _size_bits(np.float32, x, FORMATS[np.float32].normal)
    r, shifted = _reduced(np.float32, size_bits, FORMATS[np.float64].bias)
    # What follows in float64 fills the registers.
    return side_by_side(r), bits(shifted)


def end_exp_minus_abs_wide(r: Any, exponent: Any) -> Any:
    """Return what ``exp_minus_abs_wide`` does."""
    less_one = side_by_side(_exp_reduced_less_one(np.float32, r, side_by_side))
    # Only the low bits of the exponent stay.
    power = from_bits(to_int64(exponent) << FORMATS[np.float64].fraction)
    return fma(power, to_float64(less_one), power)


def begin_exp_minus_abs_normal(dtype: Any, x: Any) -> tuple[Any, Any]:
    """Begin what ``end_exp_minus_abs_normal`` ends: return r, and n in an exponent's place."""
    form = FORMATS[dtype]
    r, shifted = _reduced(dtype, _size_bits(dtype, x, form.normal))
    return r, bits(shifted) << form.fraction


def end_exp_minus_abs_normal(dtype: Any, r: Any, exponent: Any) -> Any:
    """Return exp(-|x|), but never less than exp(-87) (float32) or exp(-708) (float64)."""
    return from_bits(bits(1.0 + _exp_reduced_less_one(dtype, r)) + exponent)


def vanished(dtype: Any) -> tuple[float, int]:
    """Return the r and the exponent for which ``end_exp_minus_abs_normal`` gives 0."""
    form = FORMATS[dtype]
    return 0.0, -(form.bias << form.fraction)


def log1p(dtype: Any, t: Any, in_one_piece: bool = False) -> Any:
    """Return log(1 + t) for 0 <= t <= 1.

    Of float32, parts side by side are faster only in code of one piece.
    """
    form = FORMATS[dtype]
    after = side_by_side if in_one_piece and dtype is np.float32 else _as_it_is
    return fma(t * t, _polynomial(t - form.center, form.h, form.h_chains, after), t)


def sigmoid_from_exp(t: Any, d: Any) -> Any:
    """Return sigmoid(-|x|) for exp(-|x|) = t (1 + d)."""
    v = 1.0 + t
    s = t / v
    # With what the sum lost, and with d, it is s + (1 - s) rest but for terms that don't show.
    rest = fma(-s, v, t)
    rest = fma(s, d - (t - (v - 1.0)), rest)
    return fma(1.0 - s, rest, s)


def log1p_coarse(u: Any) -> Any:
    """Return log(1 + u) for float64 u >= 0, as precise as sums of float32 losses need it."""
    form = FORMATS[np.float64]
    v = 1.0 + u
    k = (bits(v) >> form.fraction) - form.bias
    m = from_bits(bits(v) - (k << form.fraction))
    f = select(v < 2.0, u, m - 1.0)
    return fma(to_float64(k), form.ln2[0], log1p(COARSE, f))


def log1p_wide(u: Any) -> Any:
    """Return log(1 + u) for float64 u >= 0, as precise for tiny u as ``log1p``."""
    form = FORMATS[np.float64]
    v = 1.0 + u
    # 1 + u = v + lost exactly, whichever of 1 and u is the greater (Knuth).
    part = v - u
    lost = (1.0 - part) + (u - (v - part))
    k = (bits(v) >> form.fraction) - form.bias
    m = from_bits(bits(v) - (k << form.fraction))
    f = fma(lost, from_bits((form.bias - k) << form.fraction), m - 1.0)
    n = to_float64(k)
    high, low = form.ln2
    return fma(n, high, fma(n, low, log1p(np.float64, f)))
