"""The scalar functions under every kernel: exp(-|x|), log1p on [0, 1], and log1p beyond it.

All three exist in float32 and float64, chosen by the type of the argument, and are free of
branches and of calls, so that a loop over them turns into vector code on any CPU.

* ``exp(-|x|) = 2^n e^r`` with ``n = rint(-|x|/ln 2)`` and ``r = -|x| - n ln 2`` in two steps
  (Cody and Waite); ``e^r = 1 + r + r^2 p(r)``.
* ``log1p(t) = t + t^2 h(t - 1/2)`` on ``0 <= t <= 1``, where ``t = exp(-|x|)`` always lies, so that
  no exponent has to be taken apart.
* ``log1p(u) = k ln 2 + log1p(f)`` with ``1 + u = 2^k (1 + f)`` for a product of several
  ``1 + t``.

``p`` and ``h`` are minimax in relative error; ``python tools/minimax.py`` makes them and
prints the bounds quoted here.  NaN and infinities come back as the value at the clamp: the
linear part of the loss, ``max(x, 0) - x z``, carries them into the result.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload, register_jitable

# "contract" lets a*b + c become one fused multiply-add.  No other fast-math flag may join it:
# "reassoc" would fold (y + MAGIC) - MAGIC away.
OPTIONS: dict[str, Any] = {
    "error_model": "numpy",
    "fastmath": {"contract"},
    "nogil": True,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}

_F = np.float32

HALF_F32, ONE_F32 = _F(0.5), _F(1)
LOG2E_F32 = _F(float.fromhex("0x1.715476p+0"))
LN2_HIGH_F32 = _F(float.fromhex("0x1.62e4p-1"))
LN2_LOW_F32 = _F(float.fromhex("0x1.7f7d1cp-20"))
# Adding 1.5 * 2^23 leaves the nearest integer in the low bits of the significand.
MAGIC_F32 = _F(1.5 * 2**23)
# e^-87 is the last power of two steps above the subnormals, e^-104 rounds to zero.
NORMAL_F32, SMALLEST_F32 = _F(-87), _F(-104)

LOG2E_F64 = float.fromhex("0x1.71547652b82fep+0")
LN2_HIGH_F64 = float.fromhex("0x1.62e42fefa3800p-1")
LN2_LOW_F64 = float.fromhex("0x1.ef35793c76730p-45")
MAGIC_F64 = 1.5 * 2**52
NORMAL_F64, SMALLEST_F64 = -708.0, -745.2

I23, I127, N125 = np.int32(23), np.int32(127), np.int32(-125)
I52, I1023, N1021 = np.int64(52), np.int64(1023), np.int64(-1021)

# fmt: off
# p(r) on |r| <= ln(2)/2, lowest first: relative error of e^r <= 2^-27.96 and 2^-60.27.
P0, P1, P2, P3, P4 = (_F(c) for c in (
    0.4999999403953552, 0.1666652113199234, 0.04166838899254799,
    0.008368710055947304, 0.0013814613921567798,
))
Q0, Q1, Q2, Q3, Q4, Q5, Q6, Q7, Q8, Q9, Q10 = (
    0.5, 0.16666666666666682, 0.041666666666666095,
    0.008333333333317048, 0.0013888888889115425, 0.00019841269896350334,
    2.4801586926894004e-05, 2.7557234896066278e-06, 2.755758171641275e-07,
    2.5112024716967936e-08, 2.0826644366673748e-09,
)
# h(t - 1/2) on [0, 1], lowest first: relative error of log1p(t) <= 2^-25.96 and 2^-56.03.
H0, H1, H2, H3, H4, H5, H6, H7, H8 = (_F(c) for c in (
    -0.37813955545425415, 0.179224893450737, -0.09323185682296753,
    0.05108905956149101, -0.028904998674988747, 0.016656983643770218,
    -0.010177702642977238, 0.006930699106305838, -0.0033184809144586325,
))
(
    G0, G1, G2, G3, G4, G5, G6, G7, G8, G9, G10,
    G11, G12, G13, G14, G15, G16, G17, G18, G19, G20,
) = (
    -0.37813956756734246, 0.17922493693603653, -0.09323036636366755,
    0.05108344610558803, -0.02894318316482139, 0.016788742475653068,
    -0.009909900734007928, 0.005929012144231963, -0.0035856659911958234,
    0.0021876359125154285, -0.0013445069943194812, 0.000831478725687876,
    -0.0005168190724251534, 0.0003225198509836997, -0.00020293423888243685,
    0.00012933992136908746, -7.906434577803548e-05, 4.405246732376016e-05,
    -3.3343839760824107e-05, 3.345873118930527e-05, -1.6599358459380286e-05,
)
# fmt: on


@register_jitable(**OPTIONS)
def _bits_f32(x):
    return np.float32(x).view(np.int32)


@register_jitable(**OPTIONS)
def _bits_f64(x):
    return np.float64(x).view(np.int64)


@register_jitable(**OPTIONS)
def _float32_of(bits):
    return np.int32(bits).view(np.float32)


@register_jitable(**OPTIONS)
def _float64_of(bits):
    return np.int64(bits).view(np.float64)


# The polynomials are evaluated in two or four interleaved chains: one long chain would leave the
# processor waiting for each step to end.
@register_jitable(**OPTIONS)
def _exp_tail_f32(r):
    s = r * r
    even = P0 + s * (P2 + s * P4)
    odd = P1 + s * P3
    return ONE_F32 + (r + s * (even + r * odd))


@register_jitable(**OPTIONS)
def _exp_tail_f64(r):
    s = r * r
    even = Q0 + s * (Q2 + s * (Q4 + s * (Q6 + s * (Q8 + s * Q10))))
    odd = Q1 + s * (Q3 + s * (Q5 + s * (Q7 + s * Q9)))
    return 1.0 + (r + s * (even + r * odd))


@register_jitable(**OPTIONS)
def _exp_minus_abs_f32(x):
    y = -abs(x)
    y = y if y > SMALLEST_F32 else SMALLEST_F32
    shifted = y * LOG2E_F32 + MAGIC_F32
    n = shifted - MAGIC_F32
    e = _exp_tail_f32((y - n * LN2_HIGH_F32) - n * LN2_LOW_F32)
    # 2^n may be subnormal: scale by what the exponent can hold, then once more by the rest.
    k = np.int32(n)
    first = max(k, N125)
    scaled = _float32_of(_bits_f32(e) + np.int32(first << I23))
    return scaled * _float32_of((I127 + (k - first)) << I23)


@register_jitable(**OPTIONS)
def _exp_minus_abs_f64(x):
    y = -abs(x)
    y = y if y > SMALLEST_F64 else SMALLEST_F64
    shifted = y * LOG2E_F64 + MAGIC_F64
    n = shifted - MAGIC_F64
    e = _exp_tail_f64((y - n * LN2_HIGH_F64) - n * LN2_LOW_F64)
    k = np.int64(n)
    first = max(k, N1021)
    scaled = _float64_of(_bits_f64(e) + (first << I52))
    return scaled * _float64_of((I1023 + (k - first)) << I52)


@register_jitable(**OPTIONS)
def _exp_minus_abs_normal_f32(x):
    y = -abs(x)
    y = y if y > NORMAL_F32 else NORMAL_F32
    shifted = y * LOG2E_F32 + MAGIC_F32
    n = shifted - MAGIC_F32
    e = _exp_tail_f32((y - n * LN2_HIGH_F32) - n * LN2_LOW_F32)
    return _float32_of(_bits_f32(e) + np.int32(_bits_f32(shifted) << I23))


@register_jitable(**OPTIONS)
def _exp_minus_abs_normal_f64(x):
    y = -abs(x)
    y = y if y > NORMAL_F64 else NORMAL_F64
    shifted = y * LOG2E_F64 + MAGIC_F64
    n = shifted - MAGIC_F64
    e = _exp_tail_f64((y - n * LN2_HIGH_F64) - n * LN2_LOW_F64)
    return _float64_of(_bits_f64(e) + (_bits_f64(shifted) << I52))


@register_jitable(**OPTIONS)
def _log1p_f32(t):
    v = t - HALF_F32
    s = v * v
    even = H0 + s * (H2 + s * (H4 + s * (H6 + s * H8)))
    odd = H1 + s * (H3 + s * (H5 + s * H7))
    return t + t * t * (even + v * odd)


@register_jitable(**OPTIONS)
def _log1p_f64(t):
    v = t - 0.5
    s = v * v
    q = s * s
    h0 = G0 + q * (G4 + q * (G8 + q * (G12 + q * (G16 + q * G20))))
    h1 = G1 + q * (G5 + q * (G9 + q * (G13 + q * G17)))
    h2 = G2 + q * (G6 + q * (G10 + q * (G14 + q * G18)))
    h3 = G3 + q * (G7 + q * (G11 + q * (G15 + q * G19)))
    return t + t * t * ((h0 + v * h1) + s * (h2 + v * h3))


@register_jitable(**OPTIONS)
def _log1p_wide_f32(u):
    v = ONE_F32 + u
    lost = u - (v - ONE_F32)
    k = np.int32(np.int32(_bits_f32(v) >> I23) - I127)
    m = _float32_of(_bits_f32(v) - np.int32(k << I23))
    f = (m - ONE_F32) + lost * _float32_of((I127 - k) << I23)
    n = np.float32(k)
    return n * LN2_HIGH_F32 + (n * LN2_LOW_F32 + _log1p_f32(f))


@register_jitable(**OPTIONS)
def _log1p_wide_f64(u):
    v = 1.0 + u
    lost = u - (v - 1.0)
    k = (_bits_f64(v) >> I52) - I1023
    m = _float64_of(_bits_f64(v) - (k << I52))
    f = (m - 1.0) + lost * _float64_of((I1023 - k) << I52)
    n = np.float64(k)
    return n * LN2_HIGH_F64 + (n * LN2_LOW_F64 + _log1p_f64(f))


def _by_type(function, single, double):
    """Let ``function`` mean ``single`` for float32 and ``double`` for float64, in compiled code."""

    @overload(function, jit_options=OPTIONS)
    def choose(x):
        chosen = single if x == types.float32 else double
        return lambda x: chosen(x)

    return function


def exp_minus_abs(x):
    """Return exp(-|x|), subnormal results included."""
    return _exp_minus_abs_f32(x) if isinstance(x, np.float32) else _exp_minus_abs_f64(x)


def exp_minus_abs_normal(x):
    """Return exp(-|x|), but never less than exp(-87) (float32) or exp(-708) (float64)."""
    single = isinstance(x, np.float32)
    return _exp_minus_abs_normal_f32(x) if single else _exp_minus_abs_normal_f64(x)


def log1p(t):
    """Return log(1 + t) for 0 <= t <= 1."""
    return _log1p_f32(t) if isinstance(t, np.float32) else _log1p_f64(t)


def log1p_wide(u):
    """Return log(1 + u) for 0 <= u < 2^31, as precise for tiny u as ``log1p``."""
    return _log1p_wide_f32(u) if isinstance(u, np.float32) else _log1p_wide_f64(u)


_by_type(exp_minus_abs, _exp_minus_abs_f32, _exp_minus_abs_f64)
_by_type(exp_minus_abs_normal, _exp_minus_abs_normal_f32, _exp_minus_abs_normal_f64)
_by_type(log1p, _log1p_f32, _log1p_f64)
_by_type(log1p_wide, _log1p_wide_f32, _log1p_wide_f64)
