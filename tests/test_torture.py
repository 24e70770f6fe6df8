"""Other people's kinds of processes: the scenarios of ``torture``, with a fiftieth of the calls.

``python tests/torture/run.py`` runs all of them under every threading layer at full length.
"""

import importlib.metadata
import os
import sys
from pathlib import Path

import pytest
from torture import run

from sce_numba.kernels import parallel

# What depends on the threading layer.
LAYERED = [
    "many_threads_call_at_once",
    "fork_of_a_process_that_ran_parallel_code_of_its_own",
    "fork_while_other_threads_call",
    "inside_a_parallel_region_of_the_users",
    "beside_a_parallel_region_of_the_users",
]
# What is run without --all.
ESSENCE = {
    ("many_threads_call_at_once", "omp"),
    ("fork_while_other_threads_call", "omp"),
    ("inside_a_parallel_region_of_the_users", "omp"),
    ("fork_after_a_parallel_call", "unset"),
    ("memory_that_runs_out", "unset"),
}
CELLS = [(name, layer) for name in LAYERED for layer in ("omp", "workqueue", "tbb")]
CELLS += [(name, "unset") for name in run.names() if name not in LAYERED]
assert set(CELLS) >= ESSENCE
CELLS = [
    cell if cell in ESSENCE else pytest.param(*cell, marks=pytest.mark.thorough) for cell in CELLS
]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return run.make_reference(tmp_path_factory.mktemp("torture"), None)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="/proc tells what hangs")
@pytest.mark.parametrize(("name", "layer"), CELLS)
def test_nothing_crashes_hangs_or_is_wrong(name, layer, reference):
    if not run.loads(layer):
        pytest.skip(f"the threading layer {layer} is not to be had")
    outcome = run.run(name, layer, run.QUICK, None, reference, timeout=120)
    assert outcome.good, f"{outcome.text}\n{outcome.details}"
    if outcome.text.startswith("skipped"):
        pytest.skip(outcome.text)


@pytest.mark.skipif(sys.platform != "linux", reason="the loader finds it, or none is made")
def test_the_layer_tbb_is_found_in_its_wheel():
    try:
        importlib.metadata.version("tbb")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("tbb is not installed")
    assert run.loads("tbb")


def test_a_layer_that_cannot_be_had_is_no_error():
    code = (
        "import numba; numba.config.THREADING_LAYER = 'no such layer'\n"
        "import numpy as np, sce_numba as sce\n"
        "x = np.zeros(100_000)\n"
        "assert abs(sce.sigmoid_cross_entropy(x, x) - np.log(2)) < 1e-15"
    )
    status, out, error = run.python(["-c", code], "unset", None, 60)
    assert (status, out, error) == (0, "", "")


CPU_MAX = {"cpu.max": "150000 100000\n"}
V1 = {"cpu.cfs_quota_us": "250000\n", "cpu.cfs_period_us": "100000\n"}
V1_FREE = {"cpu.cfs_quota_us": "-1\n", "cpu.cfs_period_us": "100000\n"}


@pytest.mark.parametrize(
    ("group", "folder", "files", "quota"),
    [
        ("0::/", "", CPU_MAX, 1.5),
        ("0::/a/b", "a/b", CPU_MAX, 1.5),
        ("0::/a/b", "a", CPU_MAX, 1.5),  # a limit on a group holds for those inside
        ("0::/of/the/host", "", CPU_MAX, 1.5),
        ("0::/", "", {"cpu.max": "max 100000\n"}, float("inf")),
        ("0::/", "", {"cpu.max": "nonsense\n"}, float("inf")),
        ("4:cpu,cpuacct:/a", "cpu,cpuacct/a", V1, 2.5),
        ("4:cpu:/of/the/host", "cpu", V1, 2.5),
        ("4:cpu:/", "cpu", V1_FREE, float("inf")),
        ("4:cpuset:/", "cpuset", V1, float("inf")),
        ("4:cpu:/\n0::/", "", CPU_MAX, 1.5),
        ("nonsense", "", {}, float("inf")),
    ],
)
def test_the_quota_of_control_groups_is_read(tmp_path, group, folder, files, quota):
    (tmp_path / "cgroup").write_text(f"{group}\n")
    (tmp_path / "mounted" / folder).mkdir(parents=True)
    for name, text in files.items():
        (tmp_path / "mounted" / folder / name).write_text(text)
    assert parallel._quota(str(tmp_path / "cgroup"), str(tmp_path / "mounted")) == quota


def test_without_control_groups_there_is_no_quota(tmp_path):
    assert parallel._quota(str(tmp_path / "none"), str(tmp_path)) == float("inf")


@pytest.mark.parametrize(
    ("told", "share"),
    [("1", 1), ("3", 3), ("2,4", 2), ("16", 8), ("", 8), ("0", 8), ("-1", 8), ("all", 8)],
)
def test_a_worker_uses_as_many_threads_as_openmp_is_told_to(monkeypatch, told, share):
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    monkeypatch.setattr(parallel, "_kept_quota", lambda: 8.0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.delitem(sys.modules, "distributed.nanny", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    assert parallel._count_cpus() == share
    monkeypatch.setenv("NUMBA_NUM_THREADS", "8")
    assert parallel._count_cpus() == 8


@pytest.mark.parametrize(("cpus", "expected"), [(1, []), (2, [2]), (100, [4])])
def test_no_more_threads_run_than_there_are_cpus(monkeypatch, cpus, expected):
    counts = []

    class Loop:
        def serial(self, _call):
            pass

        def parallel(self, _call, _groups, _threads):
            counts.append(setting[0])

    setting = [4]
    monkeypatch.setattr(parallel, "_cpus", lambda: cpus)
    monkeypatch.setattr(parallel, "_layer", lambda: "tbb")
    monkeypatch.setattr(parallel, "number_of_threads", lambda: setting[0])
    monkeypatch.setattr(
        parallel, "set_number_of_threads", lambda count: setting.__setitem__(0, count)
    )
    parallel.run(Loop(), parallel.CROSSOVER, b"", 1)
    assert counts == expected
    assert setting == [4]


def test_as_many_threads_run_as_numba_is_set_to():
    code = (
        "import numba, numpy as np, sce_numba as sce\n"
        "from sce_numba.kernels import parallel\n"
        "x = np.zeros(100_000)\n"
        "counts = []\n"
        "parallel._cpus, parallel.LARGEST = lambda: 4, 0  # nothing is timed\n"
        "real = parallel._run_on_threads\n"
        "parallel._run_on_threads = lambda loop, *given: (counts.append(given[2]),"
        " real(loop, *given))[1]\n"
        "for count in (4, 1, 3):\n"
        "    numba.set_num_threads(count)\n"
        "    sce.sigmoid_cross_entropy(x, x)\n"
        "    assert numba.get_num_threads() == count\n"
        "assert counts == [4, 3], counts"
    )
    status, out, error = run.python(["-c", code], "unset", None, 60, NUMBA_NUM_THREADS="4")
    assert (status, out, error) == (0, "", "")
