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
from sce_numba import processes
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
    monkeypatch.setattr(parallel, "_paces", {})  # or took before
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


@pytest.fixture
def two_threads(monkeypatch):
    """Let calls go to two threads, which are told from one by the answer."""
    monkeypatch.setattr(parallel, "_cpus", lambda: 2)
    monkeypatch.setattr(parallel, "_may_enter", lambda: True)
    monkeypatch.setattr(processes, "_home", os.getpid())
    monkeypatch.setattr(parallel, "LARGEST", 0)
    monkeypatch.setattr(parallel, "_paces", {})
    monkeypatch.setattr(parallel, "number_of_threads", lambda: 2)


class Interrupt(BaseException):
    pass


def interrupted_at_every_step(function, code):
    """Call a function again and again, ended by an exception at each step of a piece of code."""
    step, count = -1, 0

    def trace(frame, event, argument):
        nonlocal step
        if frame.f_code is not code:
            return None
        frame.f_trace_opcodes = True
        step += event == "opcode"
        if event == "opcode" and step == count:
            raise Interrupt
        return trace

    while True:
        step = -1
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            function()
        except Interrupt:
            pass
        finally:
            sys.settrace(before)
        yield count
        if step < count:
            return
        count += 1


@pytest.mark.parametrize("where", ["on the same thread", "on another thread"])
def test_a_call_is_parallel_after_one_that_was_interrupted_anywhere(two_threads, where):
    class Loop:
        def serial(self, _call):
            return "serial"

        def parallel(self, _call, _groups, _threads):
            return "parallel"

    def call():
        return parallel.run(Loop(), parallel.CROSSOVER, b"", 1)

    pool = concurrent.futures.ThreadPoolExecutor(1)
    steps = 0
    with pool:
        for _ in interrupted_at_every_step(call, parallel.run.__code__):
            found = call() if where == "on the same thread" else pool.submit(call).result()
            assert found == "parallel"
            steps += 1
    assert steps > 20


def test_one_call_at_a_time_is_at_the_threads(two_threads):
    inner = []

    class Loop:
        def serial(self, _call):
            return "serial"

        def parallel(self, _call, _groups, _threads):
            if not inner:
                inner.append(call())
                inner.append(pool.submit(call).result())
            return "parallel"

    def call():
        return parallel.run(Loop(), parallel.CROSSOVER, b"", 1)

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        assert call() == "parallel"
        assert inner == ["serial", "serial"]
        assert pool.submit(call).result() == "parallel"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system can't fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_child_with_the_number_of_its_parent_is_a_child():
    # As in another namespace of processes, where both may be number 1.
    assert processes.is_home()
    child = os.fork()
    if child == 0:
        os._exit(7 if processes.is_home() else 0)
    assert os.waitpid(child, 0)[1] == 0
    assert processes.is_home()


IN_MEMORY = """
import sys, threading
import numba, numpy as np
numba.config.CACHE_DIR = "/dev/null/no-folder"
numba.config.CACHE_LOCATOR_CLASSES = "UserProvidedCacheLocator"
import sce_numba as sce
"""


def said_by(code):
    program = subprocess.run(
        [sys.executable, "-c", IN_MEMORY + code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=600,
    )
    assert (program.returncode, program.stderr) == (0, "")
    return program.stdout.split()


def test_a_thread_with_a_small_stack_may_compile_and_call():
    code = (
        "x = np.zeros(100_000)\n"
        "small = 65536\n"
        "threading.stack_size(small)\n"
        "def work():\n"
        "    for size in (9, 100_000):\n"
        "        given = x[:size]\n"
        "        print(abs(sce.sigmoid_cross_entropy(given, given) - np.log(2)) < 1e-15)\n"
        "thread = threading.Thread(target=work)\n"
        "thread.start()\n"
        "thread.join()\n"
        "print(threading.stack_size() == small)\n"
    )
    assert said_by(code) == ["True"] * 3


@pytest.mark.parametrize("when", ["the last garbage is collected", "functions are called at exit"])
def test_the_first_call_may_come_when_the_interpreter_ends(when):
    code = (
        "class Late:\n"
        "    def __del__(self, loss=sce.sigmoid_cross_entropy, say=print, end=sys.is_finalizing):\n"
        "        say(end(), round(float(loss([1.0], [0.0])), 6), flush=True)\n"
        "late = Late()\n"
    )
    if when == "functions are called at exit":
        code += "import atexit; atexit.register(late.__del__); Late.__del__ = lambda self: None"
    else:
        code += "late.itself = late; del late"
    assert said_by(code) == [str(when.startswith("the last")), "0.693147"]
