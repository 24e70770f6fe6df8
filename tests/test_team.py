"""A thread that has to wait for this CPU is moved to another, and let onto all of them again."""

import ctypes
import os
import threading

import numba
import numpy as np
import pytest
from numba import njit, types

import sce_numba as sce
from sce_numba.kernels import compile as compiled
from sce_numba.kernels import parallel, team
from sce_numba.kernels.numba_internals import object_code
from sce_numba.kernels.operand import LINE

can_move = pytest.mark.skipif(not team.CAN_MOVE, reason="threads can't be moved here")


@njit
def move(thread):
    team.move_away(thread)


@can_move
@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="there is no other CPU",
)
def test_a_thread_that_is_moved_is_on_another_cpu_and_may_be_on_all():
    cpu, this, allowed = ctypes.CDLL(None).sched_getcpu, threading.get_native_id(), set()
    moves = 0
    before = os.sched_getaffinity(0)
    move(this)
    for _ in range(100):
        was = cpu()
        move(this)
        moves += cpu() != was
        allowed |= os.sched_getaffinity(0)
    assert moves > 50  # now and then the system moves it back
    assert allowed == before


@can_move
def test_a_thread_that_may_be_on_one_cpu_stays_there():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        move(threading.get_native_id())
        assert os.sched_getaffinity(0) == {min(before)}
    finally:
        os.sched_setaffinity(0, before)


@can_move
def test_a_number_that_is_no_threads_moves_none():
    move(2**31 - 1)


def test_it_is_known_which_threads_have_begun(monkeypatch):
    monkeypatch.setattr(parallel, "LARGEST", 0)  # all go to the threads, whatever they take
    monkeypatch.setattr(parallel, "_paces", {})  # or took before
    logits = np.linspace(-3, 3, 2 * parallel.CROSSOVER, dtype=np.float32)
    monkeypatch.setattr(compiled._shared, "memory", compiled._memory_for(numba.get_num_threads()))
    for _ in range(3):
        sce.sigmoid_cross_entropy(np.zeros_like(logits), logits)
    _, team_at, _, lines = compiled._shared.memory
    words = lines[team_at - lines.ctypes.data :][:-LINE].view(np.int64)
    threads = {int(word) for word in words[1 :: LINE // 8] if word}
    if threads:
        assert threads <= {int(name) for name in os.listdir("/proc/self/task")}
        # The workqueue has the caller wait, and do no part of its own.
        assert (threading.get_native_id() in threads) == (numba.threading_layer() != "workqueue")
    several = min(parallel._count_cpus(), numba.get_num_threads()) > 1
    assert bool(threads) == (team.CAN_MOVE and several)


@pytest.mark.parametrize("can", [False, pytest.param(True, marks=can_move)])
def test_code_calls_what_moves_threads_where_that_is_there(can, monkeypatch):
    monkeypatch.setattr(team, "CAN_MOVE", can)
    signature = (types.int64,) * 7
    _, code = object_code(compiled.deal, signature, parallel=True, **compiled.OPTIONS)
    for name in (b"gettid", b"sched_getcpu", b"sched_getaffinity", b"sched_setaffinity"):
        assert (name in code) == can
