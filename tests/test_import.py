"""Importing the package is quick and quiet: no framework comes along, nothing is compiled."""

import math
import subprocess
import sys

import sce_numba as sce

FRAMEWORKS = ["tensorflow", "torch", "jax", "scipy", "dask", "xarray", "pandas", "polars"]
FRAMEWORKS += ["pyarrow", "sklearn", "ml_dtypes"]


def run(code):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


def test_import_brings_no_framework():
    found = f"[name for name in {FRAMEWORKS} if name in sys.modules]"
    # Numba itself looks for SciPy.
    assert run(f"import sys, numba, sce_numba; print({found})") == run(
        f"import sys, numba; print({found})"
    )


def test_calls_with_numpy_arrays_bring_no_framework():
    calls = (
        "import sys, numpy as np, sce_numba as sce\n"
        "z, x = np.ones((2, 2), bool), np.zeros((2, 2), np.float32)\n"
        "given = {'weights': np.ones((2, 1)), 'pos_weight': [1, 2], 'where': z}\n"
        "sce.sigmoid_cross_entropy(z, x, **given)\n"
        "sce.sigmoid_cross_entropy_value_and_grad(z, x, **given)\n"
        "sce.sigmoid_cross_entropy_gradient_hessian(z, x, **given)\n"
        "sce.weighted_cross_entropy_with_logits(z, x, 2.0)\n"
        "sce.compute_weighted_loss(x, given['weights'])\n"
    )
    found = f"print([name for name in {FRAMEWORKS} if name in sys.modules])"
    assert run(calls + found) == run(f"import sys, numba; {found}")


def test_completion_offers_what_is_public():
    offered = set(run("import sce_numba as sce; sce.losses; print(*dir(sce))").split())
    assert offered == {*sce.__all__, "boosting", "jax", "njit", "sklearn", "torch"}


def test_what_must_be_imported_first_says_so():
    said = run(
        "import sce_numba as sce\ntry: sce.boosting\nexcept AttributeError as error: print(error)"
    )
    assert said == "module 'sce_numba' has no attribute 'boosting': import sce_numba.boosting first"


def test_import_compiles_nothing():
    assert (
        run(
            "from numba.core import event\n"
            "with event.install_recorder('numba:compile') as recorder:\n"
            "    import sce_numba\n"
            "print(len(recorder.buffer))"
        )
        == "0"
    )


def test_import_starts_no_threads():
    assert run("import sce_numba, threading; print(threading.active_count())") == "1"
    threads = "len(os.listdir('/proc/self/task')) if os.path.exists('/proc/self/task') else 1"
    before = run(f"import os, numba; print({threads})")
    assert run(f"import os, numba, sce_numba; print({threads})") == before


def test_the_package_works_where_nothing_can_be_cached(tmp_path):
    code = (
        "import os; os.environ['NUMBA_CACHE_DIR'] = '/proc/none'\n"
        "import sce_numba as sce\n"
        "print(sce.sigmoid_cross_entropy([1.0], [0.0]))"
    )
    assert math.isclose(float(run(code)), math.log(2), rel_tol=1e-15)


def test_the_package_works_with_compilation_disabled():
    code = (
        "import os; os.environ['NUMBA_DISABLE_JIT'] = '1'\n"
        "import numpy as np, sce_numba as sce\n"
        "labels, logits = np.array([[1, 0, 1]] * 300), np.linspace(-3, 3, 900, dtype='f4')\n"
        "logits = logits.reshape(300, 3)[:, ::-1]\n"
        "print(sce.sigmoid_cross_entropy(labels, logits, np.ones((300, 1)), 0.1))\n"
        "print(sce.sigmoid_cross_entropy(labels, logits, reduction='none').sum())"
    )
    plain = code.replace("'NUMBA_DISABLE_JIT'] = '1'", "'NUMBA_DISABLE_JIT'] = '0'")
    assert run(code).split() == run(plain).split()
