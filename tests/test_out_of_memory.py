"""Where memory runs out a call raises MemoryError: a part of a result is never taken for all of it.

A library that is loaded before all others fails one `malloc` after another, on whichever thread it
is, while each loop runs.
"""

import json
import os
import shutil
import subprocess
import sys

import pytest

COMPILER = shutil.which("cc") or shutil.which("gcc")

needs_compiler = pytest.mark.skipif(
    not sys.platform.startswith("linux") or COMPILER is None,
    reason="replaces malloc by a library that a C compiler makes for Linux",
)

MALLOC = """
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>

void *__libc_malloc(size_t);

static atomic_long least, number, seen;

/* Fail the allocation of at least `bytes` bytes that comes after `after` others; none for 0. */
void fail_malloc(long bytes, long after)
{
    atomic_store(&seen, 0);
    atomic_store(&number, after);
    atomic_store(&least, bytes);
}

/* Return how many there were. */
long seen_mallocs(void)
{
    atomic_store(&least, 0);
    return atomic_load(&seen);
}

void *malloc(size_t size)
{
    long bytes = atomic_load(&least);
    if (bytes && size >= (size_t)bytes && atomic_fetch_add(&seen, 1) == atomic_load(&number)) {
        errno = ENOMEM;
        return NULL;
    }
    return __libc_malloc(size);
}
"""

# Every loop, on as many threads as are asked for, also where there are fewer CPUs.
CALLS = """
import ctypes, json, sys
import numba, numpy as np
import sce_numba as sce
from sce_numba import evaluation

kind, threads, shape = sys.argv[1], int(sys.argv[2]), (int(sys.argv[3]), 2048)
ran = set()

def run(loop, _size, call, groups):
    ran.add(loop.job.name)
    return loop.serial(call) if kind == "serial" else loop.parallel(call, groups, threads)

evaluation.run, evaluation.CROSSOVER = run, 0
numba.set_num_threads(threads)

rng = np.random.default_rng(7)
logits = rng.normal(0, 4, shape).astype(np.float32)
labels = rng.random(shape) < 0.4
weights = rng.random(shape).astype(np.float32)
across = np.asfortranarray(logits)
short = logits.reshape(-1, 16), labels.reshape(-1, 16), weights.reshape(-1, 16)[:, :1].copy()
out, other = np.empty_like(logits), np.empty_like(logits)
loss, derived = sce.sigmoid_cross_entropy, sce.sigmoid_cross_entropy_value_and_grad
calls = {
    "totals": lambda: loss(labels, logits),
    "totals, a weight for each row": lambda: loss(labels, logits, weights[:, :1]),
    "totals by element": lambda: loss(labels, logits, weights),
    "totals of short rows": lambda: loss(short[1], short[0], short[2]),
    "totals, staged": lambda: loss(labels, across, weights, where=labels, pos_weight=weights[:1]),
    "weights": lambda: derived(labels, logits, weights, where=labels, grad_out=out),
    "losses": lambda: loss(labels, logits, reduction="none", out=out),
    "losses of short rows": lambda: loss(
        short[1], short[0], short[2], reduction="none", out=out.reshape(short[0].shape)
    ),
    "losses, staged": lambda: loss(labels, across, weights, reduction="none", out=out),
    "slopes": lambda: derived(labels, logits, grad_out=out),
    "slopes, staged": lambda: derived(labels, across, weights, grad_out=out),
    "slopes, with losses": lambda: derived(
        labels, logits, weights, reduction="none", out=other, grad_out=out
    ),
}
"""

COMPILED = """
import sce_numba.njit

@numba.njit
def rows(labels, logits):
    return sce.sigmoid_cross_entropy(labels, logits)

@numba.njit
def elements(labels, logits, weights):
    return sce.sigmoid_cross_entropy(labels, logits, weights)

@numba.njit
def write(labels, logits):
    return sce.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)

@numba.njit
def write_any(labels, logits, weights):
    return sce.sigmoid_cross_entropy(labels, logits, weights, reduction="none")

@numba.njit
def derive(labels, logits, weights):
    return sce.sigmoid_cross_entropy_value_and_grad(labels, logits, weights)

calls = {
    "totals": lambda: rows(labels, logits),
    "totals, staged": lambda: elements(labels, across, weights),
    "losses": lambda: write(labels, logits),
    "losses, staged": lambda: write_any(labels, across, weights),
    "denominator and differentiate": lambda: derive(labels, logits, weights),
}
ran = {"compiled by the caller"}
"""

FAIL = """
import threading
from sce_numba.kernels import compile

def new_scratch():
    evaluation.scratch = compile._Scratch()

def run_apart(work):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

library = ctypes.CDLL(None)
library.fail_malloc.argtypes = ctypes.c_long, ctypes.c_long
library.seen_mallocs.restype = ctypes.c_long
# Not what Numba and its threads need for themselves, who end the process without it.
least = 512

def answer(call):
    found = call()
    return [np.array(part) for part in (found if isinstance(found, tuple) else (found,))]

def attempt(call, after):
    out[...], other[...] = np.nan, np.nan
    run_apart(new_scratch)  # so that this thread has none yet
    library.fail_malloc(least, after)
    try:
        found = call()
    except BaseException as error:
        return library.seen_mallocs(), type(error).__name__
    seen = library.seen_mallocs()
    same = all(map(np.array_equal, answer(lambda: found), expected))
    return seen, "right" if same else "wrong"

outcomes = {}
for name, call in calls.items():
    expected, outcomes[name] = answer(call), []
    for after in range(1000):
        seen, outcome = attempt(call, after)
        outcomes[name].append(outcome)
        if seen <= after:
            break
print(json.dumps([outcomes, sorted(ran)]))
"""

# A thread that fails for whatever reason: Numba leaves out what it had to do.
LEFT_OUT = """
from sce_numba.kernels import compile
deal = compile._DEAL.loop
def left_out(function, call, groups, *rest):
    compile._shared.memory[2][:] = 0  # what a call with more groups has left
    return deal(function, call, groups - 1, *rest)
compile._DEAL.loop = left_out
outcomes = {}
for name, call in calls.items():
    try:
        call()
        outcomes[name] = ["wrong"]
    except MemoryError:
        outcomes[name] = ["MemoryError"]
print(json.dumps([outcomes, sorted(ran)]))
"""

LOOPS = [
    "losses_float32",
    "losses_float32_by_element",
    "losses_float32_staged_by_element",
    "slopes_float32",
    "slopes_float32_by_element",
    "slopes_float32_staged_by_element",
    "totals_float32",
    "totals_float32_by_element",
    "totals_float32_staged_by_element",
    "weights_float32_staged_by_element",
]


@pytest.fixture(scope="module")
def malloc(tmp_path_factory):
    folder = tmp_path_factory.mktemp("malloc")
    source, made = folder / "malloc.c", folder / "malloc.so"
    source.write_text(MALLOC)
    subprocess.run([COMPILER, "-shared", "-fPIC", "-O1", "-o", made, source], check=True)
    return made


def outcomes(code, kind, threads, rows=96, **settings):
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "NUMBA_NUM_THREADS": "4",
        **settings,
    }
    done = subprocess.run(
        [sys.executable, "-c", code, kind, str(threads), str(rows)],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@needs_compiler
@pytest.mark.parametrize(
    ("kind", "threads"), [("serial", 1), ("parallel", 1), ("parallel", 2), ("parallel", 4)]
)
def test_a_loop_without_an_allocation_raises_an_exception(malloc, kind, threads):
    found, loops = outcomes(CALLS + FAIL, kind, threads, LD_PRELOAD=str(malloc))
    assert loops == LOOPS
    for name, results in found.items():
        *failed, last = results
        assert (name, set(failed) - {"MemoryError"}, last) == (name, set(), "right")
    assert sum(len(results) > 1 for results in found.values()) > 3


@pytest.mark.thorough
@needs_compiler
def test_so_does_a_function_that_the_user_compiles(malloc):
    found, _ = outcomes(CALLS + COMPILED + FAIL, "serial", 1, LD_PRELOAD=str(malloc))
    for name, results in found.items():
        *failed, last = results
        assert (name, set(failed) - {"MemoryError"}, last) == (name, set(), "right")
    assert sum(len(results) > 1 for results in found.values()) > 3


def test_a_loop_without_the_work_of_a_thread_raises_an_exception():
    found, _ = outcomes(CALLS + LEFT_OUT, "parallel", 2)
    assert {name for name, results in found.items() if results != ["MemoryError"]} == set()
