"""Nothing is materialised: a reduced loss needs scratch memory for a few blocks, no more.

Nor does anything grow from call to call.  SCE_MEMORY_CALLS tells how many calls are made:

    SCE_MEMORY_CALLS=1000000 python -m pytest tests/test_memory.py -k calls
"""

import json
import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

import sce_numba as sce

MEGABYTES_2 = 2 * 2**20
SHAPE = (8192, 2048)

# The peak of resident memory sees what compiled code allocates, which tracemalloc does not.
RESIDENT = """
import json
import numpy as np
import sce_numba as sce

def status(field):
    for line in open("/proc/self/status"):
        if line.startswith(field):
            return int(line.split()[1]) * 1024

def extra(labels, logits, weights=1.0):
    return extra_of(lambda: sce.sigmoid_cross_entropy(labels, logits, weights, 0.1))

def extra_of(call):
    call()
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before = status("VmRSS")
    call()
    return status("VmHWM") - before

rng = np.random.default_rng(0)
shape = (8192, 2048)
logits = rng.standard_normal(shape, np.float32)
labels = (logits > 0).astype(np.float32)
weights = np.ones(shape, np.float32)
wide = np.ones((8192, 4096), np.float32)
gradient, other = np.zeros_like(logits), np.zeros_like(logits)
kept = weights[0] > 0
groups = np.arange(8192) % 1000
short, many = logits.reshape(-1, 8), (np.arange(logits.size // 8) % 1000).astype(np.int32)

def derived(weights=1.0, function=sce.sigmoid_cross_entropy_value_and_grad, **keywords):
    return extra_of(
        lambda: function(labels, logits, weights, 0.1, grad_out=gradient, **keywords)
    )

print(json.dumps({
    "int64 labels": extra(labels.astype(np.int64), logits),
    "per class": extra_of(lambda: sce.sigmoid_cross_entropy(labels, logits, weights, axis=0)),
    "per example": extra_of(lambda: sce.sigmoid_cross_entropy(labels, logits, axis=-1)),
    "per group": extra_of(lambda: sce.sigmoid_cross_entropy(labels, logits, groups=groups)),
    "per group of short rows": extra_of(
        lambda: sce.sigmoid_cross_entropy(short, short, groups=many)
    ),
    "gradient per class": derived(weights, axis=0, reduction="weighted_mean"),
    "[B, 1] weights": extra(labels, logits, weights[:, :1].copy()),
    "[1, C] weights": extra(labels, logits, weights[:1].copy()),
    "full weights": extra(labels, logits, weights),
    "transposed logits": extra(labels, np.asfortranarray(logits)),
    "all transposed": extra(labels.T, logits.T, weights[:1].T),
    "strided logits": extra(labels, wide[:, ::2]),
    "strided labels": extra(wide[:, 1::2], logits, weights),
    "gradient": derived(),
    "gradient, [B, 1] weights, MEAN": derived(weights[:, :1].copy(), reduction="weighted_mean"),
    "gradient, full weights, MEAN": derived(weights, reduction="weighted_mean"),
    "gradient, pos_weight, where": derived(weights[:1], pos_weight=weights[0], where=kept),
    "gradient and losses": derived(reduction="none", out=other),
    "gradient and hessian": derived(
        function=sce.sigmoid_cross_entropy_gradient_hessian, hess_out=other
    ),
}))
"""


@pytest.fixture(scope="module")
def resident():
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pytest.skip("the peak of resident memory can't be reset on this system")
    # What is freed goes back to the system, or a first call would keep it for the one that counts.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(2**16)}
    done = subprocess.run(
        [sys.executable, "-c", RESIDENT],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_resident_memory_grows_by_less_than_2_mebibytes(resident):
    assert max(resident.values()) < MEGABYTES_2, resident


def arrangements():
    logits = np.zeros(SHAPE, np.float32)
    labels = np.zeros(SHAPE, np.int64)
    wide = np.zeros((SHAPE[0], 2 * SHAPE[1]), np.float32)
    yield labels, logits, 1.0
    yield logits, logits, np.ones((SHAPE[0], 1))
    yield logits, logits, np.ones((1, SHAPE[1]))
    yield logits, logits, logits
    yield labels, np.asfortranarray(logits), 1.0
    yield wide[:, ::2], wide[:, 1::2], 1.0


def test_python_allocates_less_than_2_mebibytes():
    for labels, logits, weights in arrangements():
        sce.sigmoid_cross_entropy(labels, logits, weights)
        tracemalloc.start()
        sce.sigmoid_cross_entropy(labels, logits, weights)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < MEGABYTES_2


# A leak of 16 bytes a call shows in the traced memory even in the shorter run, one of a page every
# hundred calls in the resident memory.  Loops are compiled, and threads have started, before.
GROWTH = """
import gc, json, os, sys, threading, tracemalloc
import numpy as np
import sce_numba as sce

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

rng = np.random.default_rng(0)
logits = rng.standard_normal((6, 5)).astype(np.float32)
labels = (logits > 0).astype(np.int64)
rows, gradient = np.ones((6, 1)), np.zeros_like(logits)
kept = logits[0] > 0

def refused():
    try:
        sce.sigmoid_cross_entropy(labels, logits, rows[:, 0])
    except ValueError:
        return
    raise AssertionError

CALLS = [
    lambda: sce.sigmoid_cross_entropy(labels, logits),
    lambda: sce.sigmoid_cross_entropy(labels.T, logits.T, 2, 0.1, reduction="none"),
    lambda: sce.sigmoid_cross_entropy(labels, logits, rows, pos_weight=2.0, where=kept),
    lambda: sce.sigmoid_cross_entropy_value_and_grad(labels, logits),
    lambda: sce.sigmoid_cross_entropy_value_and_grad(
        labels, logits, rows, grad_out=gradient.copy()
    ),
    lambda: sce.sigmoid_cross_entropy_gradient_hessian(labels, logits, rows),
    lambda: sce.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits),
    lambda: sce.weighted_cross_entropy_with_logits(labels, logits, 3.0),
    lambda: sce.compute_weighted_loss(logits, rows),
    refused,
]

def calls(count):
    for k in range(count):
        CALLS[k % len(CALLS)]()

def growth(count, work):
    # The heap has found its size, and Python its caches, when as much was done before.
    work(max(count // 4, 100))
    gc.collect()
    before = resident()
    work(count)
    gc.collect()
    return resident() - before

def traced(count):
    calls(100)
    tracemalloc.start()
    calls(100)
    gc.collect()
    before, _ = tracemalloc.get_traced_memory()
    calls(count)
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return after - before

class Threads:
    # 64 that stay, for the memory of a thread is not that of a call.
    def __init__(self, number=64):
        self.start, self.end = (threading.Barrier(number + 1) for _ in range(2))
        self.count, self.failed = 0, []
        for _ in range(number):
            threading.Thread(target=self.work, daemon=True).start()

    def work(self):
        while True:
            self.start.wait()
            try:
                calls(self.count)
            except BaseException as error:
                self.failed.append(repr(error))
            self.end.wait()

    def __call__(self, count):
        self.count = count
        self.start.wait()
        self.end.wait()
        assert not self.failed, self.failed

count = int(sys.argv[1])
calls(len(CALLS))
print(json.dumps({
    "resident": growth(count, calls),
    "traced": traced(min(count, 20_000)),
    "64 threads": growth(1000, Threads()),
}))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs the resident memory")
def test_memory_does_not_grow_from_call_to_call():
    count = os.environ.get("SCE_MEMORY_CALLS", "20000")
    done = subprocess.run(
        [sys.executable, "-c", GROWTH, count], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    grown = json.loads(done.stdout)
    assert grown["traced"] < 16 * 1024, grown
    assert grown["resident"] < MEGABYTES_2 // 2, grown
    assert grown["64 threads"] < MEGABYTES_2, grown
