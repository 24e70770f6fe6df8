"""The package works where a system lacks what Linux has.

A program that takes away what there is here runs in a process of its own, as much is asked for
while modules are imported.
"""

import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import sce_numba as sce
from sce_numba.kernels import fused, machine_code, numba_internals, parallel
from sce_numba.kernels.jobs import KINDS, NAMES, Job
from sce_numba.kernels.tiles import Form

TESTS = Path(__file__).parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

# What other systems lack.  NumPy and Numba have come to terms with that themselves.
NO_PROC = """
import sys
def refuse(event, arguments):
    if event == "open" and str(arguments[0]).startswith(("/proc", "/sys")):
        raise FileNotFoundError(arguments[0])
sys.addaudithook(refuse)
"""
NOT_LINUX = f"""
import mmap, os, signal, numpy, numba
{NO_PROC}
for module, names in [
    (os, "fork forkpty register_at_fork wait4 sched_getaffinity sched_setaffinity geteuid getuid "
         "O_NOFOLLOW O_NONBLOCK RTLD_NOLOAD mkfifo openpty killpg"),
    (signal, "SIGKILL SIGALRM alarm setitimer"),
    (mmap, "MADV_HUGEPAGE"),
]:
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
MODULES = ["fcntl", "grp", "pty", "pwd", "resource", "termios"]
for name in MODULES:
    sys.modules[name] = None
numpy.longdouble = numpy.float64
"""
EVERYTHING = """
import importlib, json, pkgutil, sys
import numpy as np
import sce_numba as sce
from sce_numba import processes
from sce_numba.__main__ import main
from sce_numba.kernels import parallel

for library in ("jax", "sklearn", "torch"):  # which have needs of their own
    sys.modules[library] = None
for module in pkgutil.walk_packages(sce.__path__, "sce_numba."):
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as error:  # the library that it is for
        assert error.name not in MODULES, error
rng = np.random.default_rng(1)
logits = rng.normal(0, 3, (300, 400))
labels = rng.random(logits.shape) < 0.4
loss, gradient = sce.sigmoid_cross_entropy_value_and_grad(labels, logits)
np.save("labels.npy", labels)
np.save("logits.npy", logits)
status = main(["evaluate", "labels.npy", "logits.npy"])
print(json.dumps([loss, gradient.sum(), parallel._cpus(), processes.is_home(), status]))
"""


def run(code, folder, **settings):
    environment = ENVIRONMENT | {"NUMBA_CACHE_DIR": str(folder / "cache")} | settings
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_package_works_without_what_other_systems_lack(tmp_path):
    found = json.loads(run(NOT_LINUX + EVERYTHING, tmp_path).splitlines()[-1])
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 3, (300, 400))
    loss, gradient = sce.sigmoid_cross_entropy_value_and_grad(rng.random((300, 400)) < 0.4, logits)
    assert found == [loss, gradient.sum(), os.cpu_count(), True, 0]


@pytest.mark.thorough
def test_tests_and_examples_can_be_imported_without_what_other_systems_lack(tmp_path):
    arguments = ["--collect-only", "-q", "-p", "no:cacheprovider", str(TESTS)]
    examples = [str(path) for path in (TESTS.parent / "examples").glob("*.py")]
    code = (
        f"{NOT_LINUX}\nimport pytest, runpy\n"
        "sys.modules['distributed'] = None\n"  # which asks what system it is
        f"assert pytest.main({arguments!r}) == 0\n"
        f"for path in {examples!r}:\n"
        "    try:\n"
        "        runpy.run_path(path)\n"
        "    except ModuleNotFoundError as error:\n"
        "        assert error.name not in MODULES, error\n"
    )
    run(code, TESTS.parent)


OWN_THREADS = """
import numba
@numba.njit(parallel=True)
def own(n):
    total = 0
    for k in numba.prange(n):
        total += k
    return total
own(1000)
"""
# As where the package is on the path without being installed: Numba doesn't import it.
NOT_INSTALLED = """
from numba.core import entrypoints
entrypoints._already_initialized = True
"""
IS_HOME = "from sce_numba import processes; print(processes.is_home())"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system can't fork")
@pytest.mark.parametrize(
    ("before", "is_home"),
    [
        (NO_PROC, True),
        (NO_PROC + "import numba", True),
        # It might be a child in which these threads are missing: nothing tells.
        (NO_PROC + NOT_INSTALLED + OWN_THREADS, False),
        (NO_PROC + NOT_INSTALLED + OWN_THREADS + "import os; del os.fork", True),
        (NO_PROC + "import sce_numba" + OWN_THREADS, True),
    ],
)
def test_without_proc_a_process_whose_threads_came_first_is_taken_for_a_fork(
    tmp_path, before, is_home
):
    assert run(f"{before}\n{IS_HOME}", tmp_path) == f"{is_home}\n"


def test_without_proc_the_environment_is_that_of_now(monkeypatch):
    monkeypatch.setattr(Path, "read_bytes", lambda path: (_ for _ in ()).throw(OSError()))
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert parallel._at_the_start.__wrapped__("OMP_NUM_THREADS") == "3"


def test_without_affinities_all_cpus_are_counted(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    monkeypatch.setattr(parallel, "_kept_quota", lambda: float("inf"))
    assert parallel._count_cpus() == 6


def test_a_b_plus_c_is_rounded_once_where_longdouble_is_float64(monkeypatch):
    monkeypatch.setattr(fused, "LONGDOUBLE_IS_WIDER", False)
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((2, 2000)) * 2.0 ** rng.integers(-60, 60, (2, 2000))
    near = -(a * b) * (1 + rng.integers(-3, 4, 2000) * 2.0**-52)
    c = np.where(rng.random(2000) < 0.7, near, rng.standard_normal(2000))
    triples = zip(a, b, c, strict=True)
    exact = [float(Fraction(x) * Fraction(y) + Fraction(z)) for x, y, z in triples]
    np.testing.assert_array_equal(fused.fma(a, b, c), exact)
    huge = np.float64(1e301)
    assert fused.fma(huge, 1e-10, 5.0) == float(Fraction(1e301) * Fraction(1e-10) + 5)


# What LLVM makes for a processor needs no such processor.  That of Apple has the code of Linux.
PLATFORMS = {
    "Linux on x86-64": ("x86_64-unknown-linux-gnu", "x86-64"),
    "Linux on aarch64": ("aarch64-unknown-linux-gnu", "generic"),
    "Windows on x86-64": ("x86_64-pc-windows-msvc-elf", "x86-64"),
}
# Of the system's functions.  The last two are names of ELF's, and of Windows's check of the stack.
NEEDED = {b"memcpy", b"_GLOBAL_OFFSET_TABLE_", b"__chkstk"}


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize(
    "kind", [k if k == "weights" else pytest.param(k, marks=pytest.mark.thorough) for k in KINDS]
)
def test_code_for_each_platform_calls_next_to_nothing_of_the_system(platform, kind, monkeypatch):
    import llvmlite.binding as llvm

    numba_internals.target()  # gets LLVM ready
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    triple, cpu = PLATFORMS[platform]
    monkeypatch.setattr(numba_internals, "target", lambda: (triple, cpu, ""))
    try:
        machine = llvm.Target.from_triple(triple).create_target_machine(
            cpu, "", 3, codemodel="jitdefault"
        )
    except RuntimeError as error:
        pytest.skip(f"this llvmlite makes no code for it: {error}")
    job = Job(kind, np.float32, Form(kind not in ("across", "groups"), kind != "groups"))
    code = machine.emit_object(machine_code.optimized(job, machine))
    sections = {part.name(): part.data() for part in llvm.ObjectFileRef.from_data(code).sections()}
    names = set(sections[b".strtab"].split(b"\0")) - {b""}
    own = (b"sce_numba.", b".", b"$", b"<")
    assert {name for name in names if not name.startswith(own)} <= NEEDED
    assert {f"sce_numba.{job.name}.{name}".encode() for name in NAMES} <= names
