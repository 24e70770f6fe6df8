"""The same bits on processors with and without fused multiply-adds, and with shorter vectors."""

import os
import platform
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64"), reason="this is no x86 processor"
)

CALLS = """
import hashlib, numba, numpy as np, sce_numba as sce
rng = np.random.default_rng(8)
for dtype in (np.float32, np.float64):
    logits = (rng.normal(0, 1, (37, 130)) * 10.0 ** rng.integers(-3, 3, (37, 130))).astype(dtype)
    logits[0, :6] = 0.0, -0.0, np.inf, -np.inf, np.nan, np.finfo(dtype).max
    labels = (1 - rng.random(logits.shape) * 10.0 ** rng.integers(-9, 1, (37, 130))).astype(dtype)
    finite = np.clip(np.nan_to_num(logits), -80, 80)
    results = [
        sce.sigmoid_cross_entropy(labels, logits, label_smoothing=0.1, reduction="none"),
        sce.sigmoid_cross_entropy(labels, logits, reduction="none"),
        sce.sigmoid_cross_entropy(labels, finite),
        *sce.sigmoid_cross_entropy_value_and_grad(labels, finite),
    ]
    for result in results:
        same_nan = np.where(np.isnan(result), np.nan, result)  # its sign and payload may differ
        print(hashlib.sha256(same_nan.tobytes()).hexdigest())

@numba.njit
def of_numbers(label, logit):
    return sce.sigmoid_cross_entropy_with_logits(labels=label, logits=logit)

print([of_numbers(0.25, dtype(1.5)).hex() for dtype in (np.float32, np.float64)])
"""

TRIPLES = """
import numpy as np
from numba import njit
from numba.extending import intrinsic
from sce_numba.kernels.fused import fma
from sce_numba.kernels.lanes import Lanes

@intrinsic
def fused(typing, a, b, c):
    def codegen(context, builder, signature, given):
        return fma(*(Lanes(builder, value) for value in given)).value
    return a(a, b, c), codegen

@njit
def every(triples):
    out = np.empty(len(triples), triples.dtype)
    for k in range(len(triples)):
        out[k] = fused(triples[k, 0], triples[k, 1], triples[k, 2])
    return out

triples = np.load("triples.npy")
np.save("results.npy", every(triples))
"""


def run(code, cpu, folder):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder)}
    if cpu:
        environment |= {"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": ""}
    program = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=folder
    )
    assert program.returncode == 0, program.stderr
    return program.stdout


def test_bits_are_the_same_on_avx2_and_without_fused_instructions(tmp_path):
    here = run(CALLS, "", tmp_path)
    assert run(CALLS, "haswell", tmp_path) == here
    assert run(CALLS, "nehalem", tmp_path) == here


def nearest(exact, dtype):
    """Return an exact number rounded to the nearest of a dtype, ties to even."""
    guess = dtype(float(exact))
    around = [np.nextafter(guess, dtype(-np.inf)), guess, np.nextafter(guess, dtype(np.inf))]
    even = [int(value.view(f"u{value.itemsize}")) & 1 for value in around]
    sizes = [abs(Fraction(float(value)) - exact) for value in around]
    return min(zip(sizes, even, around, strict=True))[2]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_and_sums_are_rounded_once_where_no_instruction_does(dtype, tmp_path):
    rng = np.random.default_rng(4)
    count, digits = 3000, np.finfo(dtype).nmant
    a, b = (rng.uniform(1, 2, count) * 2.0 ** rng.integers(-9, 9, count) for _ in range(2))
    # Addends that cancel the product but for its last bits, and such as are as great.
    c = -a * b * (1 + rng.choice([0, 1, 2.0**-digits, 2.0 ** (2 - digits)], count))
    # Products half-way between two numbers, and addends too small for twice as many digits.
    a[::3] = rng.integers(2**digits, 2 ** (digits + 1), len(a[::3]))
    b[::3] = 3.0
    c[::3] = rng.choice([-1, 1], len(c[::3])) * 2.0 ** rng.integers(-70, -20, len(c[::3]))
    triples = np.stack([a, b, c], 1).astype(dtype)
    if dtype is np.float64:
        triples[:300, 0] *= 2.0**950
        triples[:300, 2] *= 2.0**950
    np.save(tmp_path / "triples.npy", triples)
    run(TRIPLES, "nehalem", tmp_path)
    exact = [a * b + c for a, b, c in ([Fraction(float(v)) for v in row] for row in triples)]
    expected = np.array([nearest(value, dtype) for value in exact])
    np.testing.assert_array_equal(np.load(tmp_path / "results.npy"), expected)
