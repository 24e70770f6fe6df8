"""Leave out pages about what is not installed, and run the others in an empty folder."""

import sys
from importlib.util import find_spec
from shutil import which

import pytest

_LIBRARIES = {
    "jax.md": "jax",
    "torch.md": "torch",
    "boosting.md": "lightgbm",
    "sklearn.md": "sklearn",
}

collect_ignore = [page for page, library in _LIBRARIES.items() if not find_spec(library)]
if not (all(map(find_spec, ("pyspark", "ray", "duckdb", "polars", "pyarrow"))) and which("java")):
    collect_ignore.append("engines.md")


@pytest.fixture(autouse=True)
def _as_a_reader_would(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
