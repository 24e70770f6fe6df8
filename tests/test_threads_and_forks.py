"""The same bits from any number of threads, from any thread, and in a forked child."""

import concurrent.futures
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

import sce_numba as sce
from sce_numba.kernels import parallel

SHAPE = (300, 1100)


def example(dtype=np.float32):
    rng = np.random.default_rng(11)
    logits = rng.normal(0, 4, SHAPE).astype(dtype)
    return rng.random(SHAPE) < 0.4, logits, rng.random((SHAPE[0], 1)).astype(dtype)


def every_loss(labels, logits, weights):
    """Return the bytes of losses that take every path through the kernels."""
    return b"".join(
        sce.sigmoid_cross_entropy(z, x, w, 0.1, reduction=reduction).tobytes()
        for z in (labels, labels.astype(logits.dtype))
        for x in (logits, np.asfortranarray(logits))
        for w in (1.0, weights, np.broadcast_to(weights, logits.shape))
        for reduction in ("weighted_mean", "none")
    )


def test_inside_one_thread_no_other_is_asked(monkeypatch):
    asked = []
    monkeypatch.setattr(parallel, "LARGEST", 0)  # all go to the threads, whatever they take
    run = parallel._run_on_threads
    monkeypatch.setattr(parallel, "_run_on_threads", lambda *given: asked.append(1) or run(*given))
    expected = every_loss(*example())
    before = len(asked)
    with parallel.one_thread():
        with parallel.one_thread():
            pass
        assert every_loss(*example()) == expected
        assert len(asked) == before
    every_loss(*example())
    assert len(asked) == 2 * before
    assert before > 0 or numba.get_num_threads() == 1


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_bits_do_not_depend_on_the_number_of_threads(dtype):
    arrays = example(dtype)
    assert arrays[1].size > parallel.CROSSOVER
    expected = every_loss(*arrays)
    threads = numba.get_num_threads()
    try:
        for count in range(1, numba.config.NUMBA_NUM_THREADS + 1):
            numba.set_num_threads(count)
            assert every_loss(*arrays) == expected
    finally:
        numba.set_num_threads(threads)


def test_the_bits_are_the_same_for_one_to_four_threads():
    code = (
        "import hashlib, numba, test_threads_and_forks as test\n"
        "for count in range(1, 5):\n"
        "    numba.set_num_threads(count)\n"
        "    print(hashlib.sha256(test.every_loss(*test.example())).hexdigest())\n"
    )
    environment = {
        **os.environ,
        "NUMBA_NUM_THREADS": "4",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
    }
    program = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert program.returncode == 0, program.stderr
    assert len(program.stdout.split()) == 4
    assert len(set(program.stdout.split())) == 1


def test_threads_may_call_at_once():
    arrays = example()
    expected = every_loss(*arrays)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: every_loss(*arrays), range(32)))
    assert results == [expected] * 32


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system can't fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_may_call():
    arrays = example()
    expected = every_loss(*arrays)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        results = pool.starmap_async(every_loss, [arrays] * 4).get(timeout=120)
    assert results == [expected] * 4
