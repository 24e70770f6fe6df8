"""Print the polynomial coefficients of ``sce_numba/kernels/softplus.py``.

Each polynomial is the minimax approximation (Remez exchange on the relative error,
in 60-digit arithmetic) of

* ``exp(r)``   as ``1 + r + r^2 p(r)`` on ``|r| <= ln(2)/2``,
* ``log1p(t)`` as ``t + t^2 h(t - c)`` on ``0 <= t <= 1``; about the middle of the interval
  the terms of ``h`` fall off quickly and don't cancel.  For float32, c = 43/64 is a point near it
  where the rounding of coefficients costs little.

The bound printed is that of the polynomial after its coefficients were rounded to the working
precision.  Run it with ``python tools/minimax.py`` (mpmath is in the ``test`` extra).
"""

from mpmath import cos, exp, expm1, linspace, log, log1p, lu_solve, matrix, mp, mpf, pi

mp.dps = 60


def exp_tail(r):
    """Return (e^r - 1 - r) / r^2 and its weight in the relative error of e^r."""
    if abs(r) < mpf(10) ** -20:
        return mpf(1) / 2, r * r
    return (expm1(r) - r) / r**2, r * r / exp(r)


def log1p_tail(t):
    """Return (log1p(t) - t) / t^2 and its weight in the relative error of log1p(t)."""
    if t < mpf(10) ** -20:
        return -mpf(1) / 2, t
    return (log1p(t) - t) / t**2, t * t / log1p(t)


def horner(coefficients, x):
    """Evaluate a polynomial whose lowest coefficient comes first."""
    value = mpf(0)
    for c in reversed(coefficients):
        value = value * x + c
    return value


def error(tail, coefficients, center, x):
    """Relative error, at x, of the function whose tail the polynomial stands for."""
    target, weight = tail(x)
    return (horner(coefficients, x - center) - target) * weight


def extrema(tail, coefficients, center, grid):
    """Return the point of largest error in every stretch where the error keeps its sign."""
    best = []
    for x in grid:
        e = error(tail, coefficients, center, x)
        if best and (e > 0) == (best[-1][1] > 0):
            if abs(e) > abs(best[-1][1]):
                best[-1] = (x, e)
        else:
            best.append((x, e))
    return best


def remez(tail, low, high, degree, center):
    """Return the minimax coefficients, lowest first, of powers of x - center."""
    terms = degree + 1
    middle, half = (low + high) / 2, (high - low) / 2
    points = [middle - half * cos(pi * (2 * k + 1) / (2 * terms + 2)) for k in range(terms + 1)]
    grid = [middle - half * cos(pi * x) for x in linspace(0, 1, 1000)]
    for _ in range(12):
        rows, right = matrix(terms + 1, terms + 1), matrix(terms + 1, 1)
        for i, x in enumerate(points):
            target, weight = tail(x)
            for k in range(terms):
                rows[i, k] = weight * (x - center) ** k
            rows[i, terms] = (-1) ** i
            right[i] = weight * target
        solution = list(lu_solve(rows, right))
        coefficients, level = solution[:terms], abs(solution[terms])
        peaks = extrema(tail, coefficients, center, grid)
        while len(peaks) > terms + 1:
            peaks.pop(0 if abs(peaks[0][1]) < abs(peaks[-1][1]) else -1)
        if len(peaks) < terms + 1 or max(abs(e) for _, e in peaks) < level * mpf("1.0001"):
            break
        points = [x for x, _ in peaks]
    return coefficients


def fit(tail, low, high, degree, center, bits):
    """Return the coefficients, rounded to ``bits`` significant bits, and the error they reach."""
    coefficients = remez(tail, low, high, degree, center)
    with mp.workprec(bits):
        coefficients = [+c for c in coefficients]
    grid = linspace(low, high, 2001)
    return coefficients, max(abs(error(tail, coefficients, center, x)) for x in grid)


def main():
    """Print every table used, with the bound that it achieves."""
    half_ln2, zero, one = log(2) / 2, mpf(0), mpf(1)
    for bits, name, tail, low, high, degree, center in (
        (24, "exp", exp_tail, -half_ln2, half_ln2, 4, zero),
        (24, "log1p", log1p_tail, zero, one, 8, mpf(43) / 64),
        (53, "exp", exp_tail, -half_ln2, half_ln2, 10, zero),
        (53, "log1p", log1p_tail, zero, one, 20, one / 2),
        (53, "log1p, for sums of float32", log1p_tail, zero, one, 9, one / 2),
    ):
        coefficients, bound = fit(tail, low, high, degree, center, bits)
        print(f"# {name}, {bits} bits: relative error <= 2^{float(log(bound, 2)):.2f}")
        for k in range(degree, -1, -1):
            print(f"    {float(coefficients[k])!r},  # x^{k}")


if __name__ == "__main__":
    main()
