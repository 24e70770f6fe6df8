"""The pages of the site show what runs, and the reference lists everything public.

The Python of the pages is run as doctests.
"""

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import sce_numba as sce

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = sorted(DOCS.glob("*.md"))
PACKAGE = Path(sce.__file__).parent


def blocks(page, language):
    """Return the code blocks of a page."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def commands():
    for page in PAGES:
        for block in blocks(page, "console"):
            yield from re.findall(r"^\$ (.*)", block, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_is_written_as_doctest(page):
    assert all(block.startswith(">>> ") for block in blocks(page, "python"))
    assert not re.search(r"^```$\n(?=>>> )", page.read_text(), re.MULTILINE)


def test_commands_of_the_package_run():
    own = {command for command in commands() if command.startswith("python -m sce_numba")}
    assert own
    for command in own:
        program = subprocess.run(
            [sys.executable, *command.split()[1:]],
            capture_output=True,
            cwd=PACKAGE / "example_data",
            env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
        )
        assert program.returncode == 0, program.stderr


def test_programs_named_in_commands_exist():
    for command in commands():
        program, *rest = command.split()[1:]
        path = rest[0].replace(".", "/") if program == "-m" else program.removesuffix(".py")
        assert (DOCS.parent / path).exists() or (DOCS.parent / f"{path}.py").exists(), command


def test_reference_lists_everything_public():
    reference = (DOCS / "api.rst").read_text()
    listed = re.findall(r"^\.\. (?:auto\w+|data):: (\w+)(?:\(\))?$", reference, re.M)
    assert sorted(listed) == sorted(sce.__all__)


@pytest.fixture
def objectives():
    """Return the objectives for boosting as the page writes them."""
    (block,) = (b for b in blocks(DOCS / "training.md", "python") if "xgboost_objective" in b)
    namespace = {"sce": sce}
    for example in doctest.DocTestParser().get_examples(block):
        exec(example.source, namespace)
    return namespace


@pytest.fixture(scope="module")
def patients():
    return pytest.importorskip("sklearn.datasets").load_breast_cancer(return_X_y=True)


def test_xgboost_trains_by_the_objective(objectives, patients):
    xgb = pytest.importorskip("xgboost")
    matrix = xgb.DMatrix(*patients)
    model = xgb.train({"base_score": 0.0}, matrix, 20, obj=objectives["xgboost_objective"])
    assert sce.sigmoid_cross_entropy(patients[1], model.predict(matrix, output_margin=True)) < 0.05


def test_lightgbm_trains_by_the_objective(objectives, patients):
    lgb = pytest.importorskip("lightgbm")
    parameters = {"objective": objectives["lightgbm_objective"], "verbosity": -1}
    model = lgb.train(parameters, lgb.Dataset(*patients), 40)
    assert sce.sigmoid_cross_entropy(patients[1], model.predict(patients[0], raw_score=True)) < 0.05
