"""Every public function answers under the switches that people debug with, and warns of nothing.

With ``NUMBA_DISABLE_JIT=1`` the formulas run over NumPy arrays in place of vectors of the
processor: slow, and right to the last digits but for the rounding of fused operations.
"""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

CALLS = """
import ml_dtypes
import numpy as np
import sce_numba as sce

def answers(dtype, shape):
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 5, shape).astype(dtype)
    logits.flat[:2] = np.nan, np.inf
    # What is NaN shall not hide the rest of a sum.
    finite = np.isfinite(logits)
    labels = rng.random(shape) < 0.4
    weights = rng.integers(0, 3, (shape[0], 1)).astype(np.float32)
    for reduction in sce.Reduction:
        for weight in (1.0, weights, np.broadcast_to(weights, shape), float("inf")):
            for more in ({}, {"where": finite}, {"where": finite, "pos_weight": 2.0}):
                given = labels, logits, weight, 0.1
                keywords = {"reduction": reduction, **more}
                yield sce.sigmoid_cross_entropy(*given, **keywords)
                yield from sce.sigmoid_cross_entropy_value_and_grad(*given, **keywords)
                for axis in (0, 1) if reduction != sce.Reduction.NONE else ():
                    yield sce.sigmoid_cross_entropy(*given, **keywords, axis=axis)
        yield sce.compute_weighted_loss(logits, weights, reduction=reduction)
    yield from sce.sigmoid_cross_entropy_gradient_hessian(labels, logits, weights)
    yield sce.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits[:, ::-1])
    yield sce.weighted_cross_entropy_with_logits(labels, logits, 3.0)

def every_answer(dtypes, *shapes):
    found = []
    for dtype in dtypes:
        for shape in shapes:
            found += [np.ravel(answer).astype(float).tolist() for answer in answers(dtype, shape)]
    return found
"""

SMALL = f"import json\n{CALLS}\nprint(json.dumps(every_answer([%s], (5, 7), (2, 300))))"
# How far results are apart: a half type may round the other way where its float32 differs in the
# last digit.
DIGITS = {
    "np.float32": 3e-7,
    "np.float64": 1e-15,
    "np.float16": 1e-3,
    "ml_dtypes.bfloat16": 1e-2,
}

# Enough elements for several threads, in a parent and in its child.
DEVELOPMENT = f"""
import os
{CALLS}
from sce_numba.kernels import parallel
every_answer([np.float16, np.float32, np.float64], (5, 7))
rng = np.random.default_rng(5)
logits = rng.normal(0, 3, (300, 400)).astype(np.float32)
assert logits.size > parallel.CROSSOVER
labels = rng.random(logits.shape) < 0.5
before = sce.sigmoid_cross_entropy_value_and_grad(labels, logits)
child = os.fork() if hasattr(os, "fork") else None
after = sce.sigmoid_cross_entropy_value_and_grad(labels, logits)
same = before[0] == after[0] and np.array_equal(before[1], after[1])
if child == 0:
    os._exit(0 if same else 7)
print(same, child is None or os.waitpid(child, 0)[1] == 0)
"""

# Python itself warns of forks beside threads since 3.12; that such a fork is safe is tested.
FORKS = "ignore:This process:DeprecationWarning"


def run(code, *options, **settings):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} | settings
    done = subprocess.run(
        [sys.executable, *options, "-c", code], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize(
    "dtype", ["np.float32", *(pytest.param(d, marks=pytest.mark.thorough) for d in [*DIGITS][1:])]
)
def test_every_function_works_with_compilation_disabled(dtype):
    compiled = json.loads(run(SMALL % dtype, "-W", "error"))
    interpreted = json.loads(run(SMALL % dtype, "-W", "error", NUMBA_DISABLE_JIT="1"))
    assert len(interpreted) == len(compiled) > 300
    for slow, fast in zip(interpreted, compiled, strict=True):
        np.testing.assert_allclose(slow, fast, rtol=DIGITS[dtype], atol=0)


def test_what_was_compiled_stays_so_when_compilation_is_disabled():
    code = (
        "import numba, numpy as np, sce_numba as sce\n"
        "x = np.linspace(-3, 3, 500_000)\n"
        "before = sce.sigmoid_cross_entropy(x > 0, x)\n"
        "numba.config.DISABLE_JIT = True\n"
        "print(sce.sigmoid_cross_entropy(x > 0, x) == before)"
    )
    assert run(code, "-W", "error").strip() == "True"


def test_compilation_that_was_disabled_stays_so_for_others():
    code = (
        "import numba, sce_numba as sce\n"
        "numba.config.DISABLE_JIT = True\n"
        "sce.sigmoid_cross_entropy([1.0], [0.0])\n"
        "print(numba.config.DISABLE_JIT, type(numba.njit(lambda: 1)).__name__)"
    )
    assert run(code).split() == ["True", "function"]


def test_no_function_warns_in_development_mode():
    assert run(DEVELOPMENT, "-X", "dev", "-W", "error", "-W", FORKS).split() == ["True", "True"]
