"""``python -m sce_numba compile`` leaves nothing to compile, and says where the code is."""

import os
import subprocess
import sys

import pytest
from test_cache import NOWHERE, environment, files, run

CALLS = """
from sce_numba.kernels import machine_code
def refuse(job):
    raise AssertionError(job.name)
machine_code.compiled = refuse
import numpy as np, sce_numba as sce
x = np.linspace(-3, 3, 70000, dtype=np.{dtype}).reshape(-1, 10)
z = x > 1
for labels, logits in ((z, x), (z[::2], x[::2])):
    for weights in (1.0, labels[:, :1], labels):
        sce.sigmoid_cross_entropy(labels, logits, weights)
        sce.sigmoid_cross_entropy(labels, logits, weights, where=labels, reduction="none")
        sce.sigmoid_cross_entropy_value_and_grad(labels, logits, weights, pos_weight=2.0)
        sce.sigmoid_cross_entropy_gradient_hessian(labels, logits, weights)
print("done")
"""


def compile_now(*words, **settings):
    return subprocess.run(
        [sys.executable, "-m", "sce_numba", "compile", *words],
        capture_output=True,
        text=True,
        env=environment(**settings),
        cwd="/",  # not the checkout, which is another package with a cache of its own
    )


@pytest.mark.thorough
def test_no_call_has_to_compile_afterwards(tmp_path):
    settings = {"NUMBA_CACHE_DIR": str(tmp_path)}
    done = compile_now("--dtype", "float32", **settings)
    assert done.returncode == 0, done.stderr
    assert str(tmp_path) in done.stdout
    assert run(CALLS.format(dtype="float32"), **settings) == ["done"]
    assert run(CALLS.format(dtype="float16"), **settings) == ["done"]
    single = len(files(tmp_path))
    assert compile_now(**settings).returncode == 0
    assert run(CALLS.format(dtype="float64"), **settings) == ["done"]
    assert len(files(tmp_path)) > single


@pytest.mark.parametrize("words", [("--dtype", "int8"), ("--dtype",)])
def test_other_dtypes_are_refused(words):
    assert compile_now(*words).returncode == 2


def test_without_a_folder_there_is_one_line_that_says_so(tmp_path):
    settings = {"NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator"}
    done = compile_now(**settings, NUMBA_CACHE_DIR=NOWHERE)
    assert done.returncode == 2
    assert "set NUMBA_CACHE_DIR" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="this system has no terminals")
def test_who_waits_at_a_terminal_is_told_why(tmp_path):
    for word, expected in (("first", True), ("second", False)):
        controller, terminal = os.openpty()
        done = subprocess.run(
            [sys.executable, "-m", "sce_numba"],
            stdout=subprocess.PIPE,
            stderr=terminal,
            env=environment(NUMBA_CACHE_DIR=str(tmp_path)),
            cwd="/",
        )
        os.close(terminal)
        os.set_blocking(controller, False)
        try:
            said = os.read(controller, 10_000).decode()
        except OSError:  # nothing was written
            said = ""
        os.close(controller)
        assert done.returncode == 0, word
        assert ("compiling totals_float32_by_element for this processor" in said) == expected


def test_the_logger_says_what_is_compiled(tmp_path):
    code = (
        "import logging, sys; logging.basicConfig(stream=sys.stdout, format='%(message)s')\n"
        "logging.getLogger('sce_numba').setLevel('INFO'); import sce_numba as sce\n"
        "sce.sigmoid_cross_entropy([1.0], [0.0], reduction='none')"
    )
    said = "compiling losses_float64 for this processor"
    assert run(code, NUMBA_CACHE_DIR=str(tmp_path)) == said.split()
    assert run(code, NUMBA_CACHE_DIR=str(tmp_path)) == []
