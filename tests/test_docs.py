"""The pages of the site show what runs, and the reference lists everything public.

The Python of the pages is run as doctests.  Measured numbers stand between the marks of the program
that measures them, and nowhere else.
"""

import doctest
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
TEXTS = [DOCS.parent / "README.md", *PAGES]
PACKAGE = Path(sce.__file__).parent

# What a program of ``asv_bench`` wrote, and its name.
MEASURED = re.compile(r"<!-- (asv_bench\.\w+): begin -->(.*?)<!-- \1: end -->", re.DOTALL)
FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
UNITS = r"(?:[mµn]?s|min|h|seconds?|minutes?|\u00d7|%|x(?! ?\d)|times as|[kMG]i?B)"
COUNTS = r"(?:\d[\d.,]*\s?|(?:two|three|four|five|six|seven|eight|nine|ten|twenty|hundred)\s)"
PARTS = r"(?:tenths?|hundredths?|fractions?) of an? (?:second|minute)"
LOOKS_MEASURED = re.compile(rf"\b(?:{COUNTS}{UNITS}|{PARTS})(?!\w)")
# Bounds that a test holds: of the page, what it says, and where.
TESTED = {
    ("pipeline.md", "2 MiB"): "tests/test_memory.py",
}

# The library that a page comes from, by its table of what both give.
SIDE_BY_SIDE = {
    "tensorflow.md": {"tf": "tensorflow"},
    "torch.md": {"torch": "torch"},
    "keras.md": {"keras": "keras"},
    "sklearn.md": {"sklearn": "sklearn"},
}


def blocks(page, language):
    """Return the code blocks of a page."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def sides(page):
    """Return the rows of a page's table of what both give: their code, ours, and the number."""
    _, table = page.read_text().split("| both give |\n")
    rows = table.split("\n\n")[0].splitlines()[1:]
    for row in rows:
        theirs, ours, value = (cell.strip().strip("`") for cell in row.strip("|").split(" | "))
        yield theirs, ours, float(value)


def names_of(page, **names):
    """Return what a page has imported before that table, and set in the last block before it."""
    before = page.read_text().split("| both give |")[0]
    parse = doctest.DocTestParser().get_examples
    imports = [example for example in parse(before) if re.match("import|from", example.source)]
    for example in imports + parse(before.rpartition("```python")[2]):
        exec(example.source, names)
    return names


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


def test_programs_of_the_repository_named_in_commands_exist():
    for command in commands():
        if not command.startswith("python ") or command.startswith("python -m sce_numba"):
            continue
        program, *rest = command.split()[1:]
        path = rest[0].replace(".", "/") if program == "-m" else program.removesuffix(".py")
        assert (DOCS.parent / path).exists() or (DOCS.parent / f"{path}.py").exists(), command


def test_reference_lists_everything_public():
    reference = (DOCS / "api.rst").read_text()
    listed = re.findall(r"^\.\. (?:auto\w+|data):: (\w+)(?:\(\))?$", reference, re.M)
    assert sorted(listed) == sorted(sce.__all__)


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.name)
def test_measured_numbers_stand_between_the_marks_of_what_measures_them(page):
    text = FENCED.sub("", MEASURED.sub("", page.read_text()))
    text = re.sub(r"\$[^$]*\$", "", text)
    found = {" ".join(number.split()) for number in LOOKS_MEASURED.findall(text)}
    allowed = {number for name, number in TESTED if name == page.name}
    assert found <= allowed, "measure it by a program with --page, or say it without a number"


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.name)
def test_marks_name_a_program_that_writes_between_them(page):
    for name, text in MEASURED.findall(page.read_text()):
        program = DOCS.parent / f"{name.replace('.', '/')}.py"
        assert f'write(words, options.page, "{name}")' in program.read_text()
        assert f"python -m {name}" in text
        assert re.findall("Measured (?!on [0-9-]{10} by `)", text) == [], "when was that?"
        assert f"$ python -m {name} " in page.read_text(), "the page has to tell the command"


@pytest.mark.parametrize("page", SIDE_BY_SIDE)
def test_numbers_side_by_side_are_those_of_this_package(page):
    if page in ("torch.md", "sklearn.md"):
        pytest.importorskip(page.removesuffix(".md"))
    names = names_of(DOCS / page)
    for _, ours, value in sides(DOCS / page):
        assert round(float(eval(ours, names)), 6) == value, ours


@pytest.mark.parametrize("page", SIDE_BY_SIDE)
def test_numbers_side_by_side_are_those_of_the_other_library(page):
    libraries = {name: pytest.importorskip(of) for name, of in SIDE_BY_SIDE[page].items()}
    names = names_of(DOCS / page, **libraries)
    for theirs, _, value in sides(DOCS / page):
        assert float(eval(theirs, names)) == pytest.approx(value, abs=1e-6), theirs
