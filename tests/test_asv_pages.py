"""The page of asv's results shows what asv measured, and needs nothing else to be read."""

import re
from html import unescape
from types import SimpleNamespace

import pytest
from page_reader import Reader, check_that_nothing_is_loaded

asv = pytest.importorskip("asv")

from asv.benchmarks import Benchmarks  # noqa: E402
from asv.config import Config  # noqa: E402
from asv.results import Results  # noqa: E402
from asv.util import write_json  # noqa: E402

from asv_bench import pages  # noqa: E402

HOSTILE = "<img src=//x.y>&amp;"
KINDS = {
    "forward.time_loss": ("seconds", [["'small'", "'large'"]]),
    "memory.peakmem_loss": ("bytes", []),
    f"names.track_{HOSTILE}": (HOSTILE, [[HOSTILE]]),
}
BENCHMARKS = [
    {"name": name, "unit": unit, "params": params, "param_names": ["of"] * len(params)}
    | {"type": "track", "version": "1", "code": "", "timeout": 60}
    for name, (unit, params) in KINDS.items()
]
# What asv measured at each commit, the oldest first; None failed, and NaN was skipped.
COMMITS = {
    "0a" * 20: ([1e-6, 2e-3], [1_000_000], [0.0]),
    "1b" * 20: ([None, 2.1e-3], [1_000_000], [float("nan")]),
    "2c" * 20: ([1.5e-6, 2e-3], [500_000], [2.0]),
}


@pytest.fixture
def conf(tmp_path):
    """Results as asv keeps them."""
    conf = Config()
    conf.project, conf.results_dir = "sce_numba", str(tmp_path)
    Benchmarks(conf, BENCHMARKS).save()
    machine = {"machine": "<b>here"}
    write_json(str(tmp_path / "<b>here" / "machine.json"), machine, 1)
    # Files are found in any order.
    for day, (commit, values) in reversed(list(enumerate(COMMITS.items()))):
        results = Results(machine, {}, commit, day * 86_400_000, "3.13", "python3.13", {})
        for benchmark, value in zip(BENCHMARKS, values, strict=True):
            none = [None] * len(value)
            run = {"result": value, "samples": none, "number": none}
            told = SimpleNamespace(**run, stderr="", errcode=0, profile=None)
            results.add_result(benchmark, told)
        results.save(str(tmp_path))
    return conf


@pytest.fixture
def document(conf):
    return pages.page(conf)


def rows(document):
    """What is in the rows of the tables, by their first cells."""
    found = re.findall(r"<tr>(.*)</tr>", document)
    texts = (re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in found)
    words = ([unescape(re.sub("<[^>]*>", "", text)) for text in row] for row in texts)
    return {first: rest for first, *rest in words}


def test_nothing_is_loaded_from_elsewhere(document):
    check_that_nothing_is_loaded(document)


def test_every_value_stands_beside_its_ratio_the_newest_first(document):
    found = rows(document)
    days = ["2c2c2c2c 1970-01-03", "1b1b1b1b 1970-01-02", "0a0a0a0a 1970-01-01"]
    assert found["case"] == days
    assert found["('large')"] == ["2.00ms (0.95)", "2.10ms (1.05)", "2.00ms"]
    assert found["('small')"] == ["1.50μs (1.50 WORSE)", "failed", "1.00μs"]
    assert found["all"] == ["500k (0.50 better)", "1M (1.00)", "1M"]
    assert found[f"({HOSTILE})"] == ["2.0 (inf WORSE)", "n/a", "0.0"]


def test_what_changed_comes_first(document):
    changes = document[: document.index("<h2>")]
    assert list(rows(changes))[1:] == [
        f"names.track_{HOSTILE}({HOSTILE})",
        "forward.time_loss('small')",
        "memory.peakmem_loss",
    ]
    place = "<b>here, python3.13"
    assert rows(changes)["forward.time_loss('small')"] == [
        *("1.5", "WORSE", "2c2c2c2c 1970-01-03", place)
    ]


def test_a_change_within_the_noise_is_none():
    wide = {"ci_99_a": 0.5, "ci_99_b": 2.5, "repeat": 9}
    measured = [("a", 1.0, wide, None), ("b", 2.0, wide, None)]
    assert [step.verdict for step in pages.steps(measured)] == ["", ""]
    narrow = [("a", 1.0, wide | {"ci_99_b": 1.1}, None), ("b", 2.0, wide | {"ci_99_a": 1.9}, None)]
    assert [step.verdict for step in pages.steps(narrow)] == ["", "WORSE"]


def test_names_stay_text_and_pictures_have_words(document):
    read = Reader(document)
    assert not read.all("b")
    assert HOSTILE in read.words["h2"]
    assert len(read.all("svg")) == len(KINDS)
    for attributes in read.all("svg"):
        assert "relative to the first commit" in read.words[attributes["aria-labelledby"]]


def test_one_commit_has_no_picture(conf, tmp_path):
    for commit in list(COMMITS)[1:]:
        (tmp_path / "<b>here" / f"{commit[:8]}-python3.13.json").unlink()
    document = pages.page(conf)
    assert "<svg" not in document
    assert rows(document)["all"] == ["1M"]
