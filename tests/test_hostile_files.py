"""``evaluate`` beside files that lie, are damaged or change, and streams closed or full."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import sce_numba as sce

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(sce.__file__).parents[1])}
PROGRAM = "python -m sce_numba"


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    """Work in a folder with labels and logits."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(19)
    np.save("labels.npy", rng.random((100, 5)) < 0.3)
    np.save("logits.npy", rng.normal(0, 3, (100, 5)))


# ---- Standard streams -----------------------------------------------------------------------


def shell(line, buffered=True):
    """Run the program as a shell does; return its status, and what the streams left say."""
    environment = {**ENVIRONMENT, "PYTHON": sys.executable}
    environment["PYTHONUNBUFFERED"] = "" if buffered else "1"
    done = subprocess.run(
        ["sh", "-c", f'"$PYTHON" -m sce_numba {line}'],
        env=environment,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("redirection", [">&-", ">/dev/full"])
@pytest.mark.parametrize(
    ("command", "buffered"),
    [
        ("evaluate labels.npy logits.npy", True),
        ("versions", True),
        ("versions", False),
        ("--help", True),
        ("--help", False),
    ],
)
def test_output_that_can_not_be_written_has_one_line_and_a_status(command, redirection, buffered):
    why = {">&-": "it is closed", ">/dev/full": "No space left on device"}[redirection]
    said = f"{PROGRAM}: error: cannot write to standard output ({why})\n"
    assert shell(f"{command} {redirection}", buffered) == (3, "", said)


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
def test_without_standard_error_there_is_a_result_or_a_status(redirection, buffered):
    status, out, err = shell(f"evaluate labels.npy logits.npy --json {redirection}", buffered)
    assert (status, json.loads(out)["shape"], err) == (0, [100, 5], "")
    # What is for standard error does not come out where a result is expected.
    assert shell(f"evaluate labels.npy gone.npy {redirection}", buffered) == (2, "", "")


def test_without_any_stream_there_is_a_status():
    assert shell("evaluate labels.npy logits.npy <&- >&- 2>&-") == (3, "", "")
    assert shell("evaluate labels.npy logits.npy >&- 2>/dev/full") == (3, "", "")
    assert shell("evaluate labels.npy logits.npy <&-")[0] == 0
