"""The pages of the site show what runs, and the reference lists everything public.

The Python of the pages is run as doctests.
"""

import os
import re
import shutil
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


def test_commands_of_the_package_run(tmp_path):
    # Some write files.
    folder = shutil.copytree(PACKAGE / "example_data", tmp_path / "example_data")
    own = {command for command in commands() if command.startswith("python -m sce_numba")}
    assert own
    for command in own:
        program = subprocess.run(
            [sys.executable, *command.split()[1:]],
            capture_output=True,
            cwd=folder,
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
