"""The same bits where the caller, or who started its threads, has subnormal numbers flushed to 0.

`torch.set_flush_denormal(True)` sets the processor so; here the C library does.
"""

import json
import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or platform.machine() != "x86_64",
    reason="sets the register MXCSR where glibc keeps it",
)

ANSWERS = """
import ctypes, hashlib, json, sys
import numba, numpy as np
import sce_numba as sce
from sce_numba import evaluation

kind, start = sys.argv[1], sys.argv[2]
def run(loop, _size, call, groups):
    return loop.serial(call) if kind == "serial" else loop.parallel(call, groups, 4)

evaluation.run = run
numba.set_num_threads(4)
libm = ctypes.CDLL("libm.so.6")

def flush(wanted):
    environment = (ctypes.c_uint32 * 8)()
    libm.fegetenv(environment)
    environment[7] = 0x1F80 | (0x8040 if wanted else 0)
    libm.fesetenv(environment)

def operands():
    rng = np.random.default_rng(3)
    shape = 40, 4096
    # Subnormal numbers; far ones, whose losses and gradients are subnormal; and others.
    for dtype, small, far in (
        ("float16", 3e-5, 10.0), ("float32", 1e-39, 95.0), ("float64", 1e-310, 720.0)
    ):
        logits = rng.choice([small, -small, far, -far, 2.0], shape) * rng.uniform(0.5, 1, shape)
        tiny = (rng.uniform(0.5, 1, shape) * small).astype(dtype)
        yield dtype, rng.random(shape) < 0.5, logits.astype(dtype), tiny

CALLS = {
    "losses": lambda z, x, w: sce.sigmoid_cross_entropy_with_logits(labels=z, logits=x),
    "tiny labels": lambda z, x, w: sce.sigmoid_cross_entropy_with_logits(labels=w, logits=x),
    "tiny pos_weight": lambda z, x, w: sce.weighted_cross_entropy_with_logits(z, x, w[:1]),
    "tiny numbers": lambda z, x, w: sce.sigmoid_cross_entropy(z, x, 1e-39, 1e-39, reduction="none"),
    "a mean": lambda z, x, w: sce.sigmoid_cross_entropy(z, x, label_smoothing=1e-39),
    "a mean of tiny losses": lambda z, x, w: sce.compute_weighted_loss(w, 1e200),
    "weights of rows": lambda z, x, w: sce.sigmoid_cross_entropy(
        z, x, w[:, :1], reduction="weighted_mean"
    ),
    "weights of elements": lambda z, x, w: sce.sigmoid_cross_entropy(
        z, x, w, reduction="weighted_mean"
    ),
    "weights of columns": lambda z, x, w: sce.sigmoid_cross_entropy(z, x, w[:1], reduction="none"),
    "a gradient": lambda z, x, w: sce.sigmoid_cross_entropy_value_and_grad(z, x),
    "a gradient, tiny numbers": lambda z, x, w: sce.sigmoid_cross_entropy_value_and_grad(
        z, x, 1e-39, 1e-39, reduction="weighted_sum"
    )[1],
    "a gradient, tiny weights": lambda z, x, w: sce.sigmoid_cross_entropy_value_and_grad(
        z, x, w, reduction="weighted_mean"
    ),
    "hessians": lambda z, x, w: sce.sigmoid_cross_entropy_gradient_hessian(z, x, w),
}

def digests(every, flushed):
    found = {}
    for dtype, labels, logits, tiny in every:
        for order, x in (("C", logits), ("F", np.asfortranarray(logits))):
            for name, call in CALLS.items():
                flush(flushed)
                answer = call(labels, x, tiny)
                flush(False)
                parts = answer if isinstance(answer, tuple) else (answer,)
                digest = hashlib.sha256(b"".join(np.asarray(part).tobytes() for part in parts))
                found[f"{name}, {dtype}, {order}"] = digest.hexdigest()
    return found

every = list(operands())
# The first call starts the threads.
first = digests(every, start == "flushed")
print(json.dumps([first, digests(every, False), digests(every, True)]))
"""


def digests(kind, start):
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "NUMBA_NUM_THREADS": "4",
    }
    done = subprocess.run(
        [sys.executable, "-c", ANSWERS, kind, start],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def expected():
    return digests("serial", "not flushed")[0]


@pytest.mark.parametrize("kind", ["serial", "parallel"])
@pytest.mark.parametrize(
    "start", [pytest.param("not flushed", marks=pytest.mark.thorough), "flushed"]
)
def test_subnormal_numbers_count_though_the_processor_is_set_to_flush_them(expected, kind, start):
    for found in digests(kind, start):
        assert [name for name in expected if found[name] != expected[name]] == []
