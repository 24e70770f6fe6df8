"""``evaluate`` beside files that lie, are damaged or change, and streams closed or full."""

import json
import os
import shutil
import subprocess
import sys
import tracemalloc
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import sce_numba as sce
from sce_numba.__main__ import main
from sce_numba.command_line.npy import NpyPart
from sce_numba.command_line.total import Total

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


# ---- Memory ---------------------------------------------------------------------------------


def peak_memory(call):
    """Return what a call returns, and the bytes that it had at most."""
    tracemalloc.start()
    try:
        return call(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_member_in_fortran_order_is_not_held_whole(save):
    array = np.asfortranarray(np.arange(4_000_000.0).reshape(20_000, 200))
    save("all.npz", x=array)

    def read():
        with closing(NpyPart("all.npz", "x")) as part:
            rows = part.read(7, 20, np.empty(13 * part.row_bytes, np.uint8))
            return rows, part.read(19_000, 19_001, np.empty(part.row_bytes, np.uint8))

    (rows, row), peak = peak_memory(read)
    np.testing.assert_array_equal(rows, array[7:20])
    np.testing.assert_array_equal(row, array[19_000:19_001])
    assert peak < array.nbytes / 5


def test_a_member_too_large_to_be_unpacked_is_refused(monkeypatch, capsys):
    np.savez_compressed("all.npz", x=np.zeros((100, 5), order="F"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=4000))
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", "labels.npy", "all.npz:x"])
    assert stopped.value.code == 2
    assert "bytes are more than the 4,000 that " in capsys.readouterr().err


def test_a_class_takes_a_few_numbers():
    classes = 100_000
    labels, logits = np.zeros((2, classes), bool), np.zeros((2, classes), np.float32)
    total = Total(sce.Reduction.MEAN, 0.0, by_class=True)

    def run():
        total.add(labels, logits, 1.0)
        return sum(row["loss"] for row in total.classes())

    loss, peak = peak_memory(run)
    assert loss == pytest.approx(classes * np.log(2))
    assert peak < 600 * classes


@pytest.mark.parametrize("reduction", [r for r in sce.Reduction if r != sce.Reduction.NONE])
@pytest.mark.parametrize("shape", [(), (300, 1), (300, 3), (1, 3)])
def test_losses_of_classes_are_those_of_an_accumulator_each(reduction, shape):
    rng = np.random.default_rng(5)
    logits, labels = rng.normal(0, 30, (300, 3)), rng.random((300, 3))
    weights = rng.integers(0, 3, shape) * np.ldexp(1.0, rng.integers(0, 60, shape))
    total = Total(reduction, 0.1, by_class=True)
    for start, stop in ((0, 1), (1, 134), (134, 300)):
        own = weights[start:stop] if shape[:1] == (300,) else weights
        total.add(labels[start:stop], logits[start:stop], own)
    for number, row in enumerate(total.classes()):
        own = np.broadcast_to(weights, logits.shape)[:, number]
        loss = sce.LossAccumulator(reduction, 0.1)
        loss.update(labels[:, number], logits[:, number], own)
        assert abs(row["loss"] - loss.result()) <= 2 * np.spacing(loss.result())
        assert row["mean_label"] == pytest.approx(labels[:, number].mean(), rel=1e-15)
