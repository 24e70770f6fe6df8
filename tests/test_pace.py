"""Threads are asked where they pay, and let alone where they don't."""

import os
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

import sce_numba as sce
from sce_numba.kernels import parallel
from sce_numba.kernels.pace import EVERY, LEARNT, LONGEST, SHARE, Pace


def calls(pace, count, alone, threads):
    """Return which of so many calls run on threads, when those take what ``threads(call)`` says."""
    on_threads = []
    for call in range(count):
        on_threads.append(pace.pays())
        if on_threads[-1]:
            pace.took_threads(threads(call))
        else:
            pace.took_alone(alone)
    return on_threads


def test_threads_that_pay_are_asked_but_for_the_calls_that_tell_what_one_takes():
    found = calls(Pace(), 10 * EVERY, 1.0, lambda call: 0.6)
    assert found.count(False) <= LEARNT + 10


@pytest.mark.parametrize("slower", [1.05, 1.5, 5.0, 80.0])
def test_trials_of_threads_that_never_pay_cost_a_small_share_of_the_time(slower):
    found = calls(Pace(), 4 * LONGEST, 1.0, lambda call: slower)
    first = 5  # which tell that they don't pay
    assert (found.count(True) - first) * (slower - 1) <= len(found) / SHARE * 1.1


def test_threads_that_take_a_hundred_times_as_long_are_in_no_percentile():
    pace = Pace()
    calls(pace, 8, 1.0, lambda call: 100.0)
    assert calls(pace, 20 * LONGEST, 1.0, lambda call: 100.0).count(True) < 20 * LONGEST / 1000


def test_a_slow_call_that_the_others_make_up_for_takes_nothing_from_the_threads():
    found = calls(Pace(), 4000, 1.0, lambda call: 80.0 if call % 400 == 9 else 0.6)
    assert found.count(False) <= LEARNT + 4000 / EVERY


def test_two_slow_calls_that_calls_before_them_made_up_for_take_nothing_from_the_threads():
    found = calls(Pace(), 4000, 1.0, lambda call: 3.0 if call % 100 in (98, 99) else 0.6)
    assert found.count(False) <= LEARNT + 4000 / EVERY


def test_slow_calls_that_the_others_do_not_make_up_for_end_the_use_of_threads():
    found = calls(Pace(), 4000, 1.0, lambda call: 8.0 if call % 10 == 9 else 0.6)
    assert found.count(True) < 400


def test_threads_that_pay_again_are_asked_again():
    pace = Pace()
    calls(pace, 2 * LONGEST, 1.0, lambda call: 80.0)
    calls(pace, 2 * SHARE * 80, 1.0, lambda call: 0.6)
    assert calls(pace, 100, 1.0, lambda call: 0.6).count(True) >= 99


def test_what_one_thread_takes_is_learnt_anew():
    pace = Pace()
    calls(pace, EVERY, 1.0, lambda call: 0.6)
    calls(pace, 40 * EVERY, 3.0, lambda call: 0.6)
    assert pace.alone == pytest.approx(3.0, rel=0.05)


def test_the_bits_are_the_same_while_threads_are_judged(monkeypatch):
    rng = np.random.default_rng(5)
    logits = rng.normal(0, 4, (300, 1100)).astype(np.float32)
    labels = rng.random(logits.shape) < 0.4
    monkeypatch.setattr(parallel, "_paces", {})
    found = {
        sce.sigmoid_cross_entropy_value_and_grad(labels, logits)[1].tobytes() for _ in range(8)
    }
    with parallel.one_thread():
        found.add(sce.sigmoid_cross_entropy_value_and_grad(labels, logits)[1].tobytes())
    assert len(found) == 1


@pytest.mark.parametrize("given", [{}, {"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": "7"}])
def test_the_environment_is_afterwards_as_it_was(given):
    code = (
        "import os; before = dict(os.environ)\n"
        "from sce_numba.kernels import parallel\n"
        "parallel._layer(); assert dict(os.environ) == before\n"
    )
    environment = {k: v for k, v in os.environ.items() if "OMP" not in k} | given
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinities")
def test_an_affinity_that_is_narrowed_later_counts():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert parallel._count_cpus() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert parallel._count_cpus() <= len(before)


def test_cpus_are_counted_again_after_a_moment(monkeypatch):
    counts, clock = iter([2, 1]), SimpleNamespace(monotonic=lambda: now)
    monkeypatch.setattr(parallel, "_counted", (8, float("-inf")))
    monkeypatch.setattr(parallel, "_count_cpus", lambda: next(counts))
    monkeypatch.setattr(parallel, "time", clock)
    now = 0.0
    assert parallel._cpus() == 2
    now = parallel.COUNT_HOLDS / 2
    assert parallel._cpus() == 2
    now = parallel.COUNT_HOLDS * 2
    assert parallel._cpus() == 1


class SlowOnThreads:
    """A loop that takes 2 ms on more threads than one, and notes how it was run."""

    def __init__(self):
        self.ran = []

    def serial(self, _call):
        self.ran.append("serial")

    def parallel(self, _call, _groups, _threads):
        self.ran.append("parallel")
        time.sleep(0.002)


def test_a_pause_of_the_threads_is_spent_on_the_serial_loop(monkeypatch):
    monkeypatch.setattr(parallel, "_paces", {})
    monkeypatch.setattr(parallel, "_cpus", lambda: 4)
    monkeypatch.setattr(parallel, "_layer", lambda: "omp")
    monkeypatch.setattr(parallel, "number_of_threads", lambda: 4)
    loop = SlowOnThreads()
    for _ in range(1000):
        parallel.run(loop, parallel.CROSSOVER, b"", 1)
    assert loop.ran.count("parallel") < 20
    assert len(loop.ran) == 1000
