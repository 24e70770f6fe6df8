"""``evaluate`` beside files that lie, are damaged or change, and streams closed or full."""

import json
import os
import shutil
import struct
import subprocess
import sys
import tracemalloc
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import file_fuzz
import numpy as np
import pytest

import sce_numba as sce
from sce_numba.__main__ import main
from sce_numba.evaluator import blocks
from sce_numba.evaluator.npy import NpyPart
from sce_numba.evaluator.rows import Rows
from sce_numba.evaluator.total import Total

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
    if not Path("/dev/full").exists():
        pytest.skip("this system has no device that is always full")
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


def test_an_error_that_json_has_no_place_for_is_told():
    status, _, said = shell("evaluate labels.npy gone.npy --json >/dev/full")
    assert (status, said.count("\n")) == (3, 2)
    assert "cannot read gone.npy" in said


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
        total.add(Rows(total.formula, labels, logits, 1.0, None))
        return total.classes().loss.sum()

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
        total.add(Rows(total.formula, labels[start:stop], logits[start:stop], own, None))
    for number, row in enumerate(total.classes().rows()):
        own = np.broadcast_to(weights, logits.shape)[:, number]
        loss = sce.LossAccumulator(reduction, 0.1)
        loss.update(labels[:, number], logits[:, number], own)
        assert abs(row["loss"] - loss.result()) <= 2 * np.spacing(loss.result())
        assert row["mean_label"] == pytest.approx(labels[:, number].mean(), rel=1e-15)


@pytest.mark.parametrize("reduction", [r for r in sce.Reduction if r != sce.Reduction.NONE])
@pytest.mark.parametrize("pos_weight", [3.0, np.array([0.5, 1, 7])])
def test_what_is_left_out_counts_in_no_class(reduction, pos_weight):
    rng = np.random.default_rng(6)
    where = rng.random((300, 3)) < [0.3, 0.7, 0]
    logits, labels = rng.normal(0, 30, (300, 3)), rng.random((300, 3))
    weights = rng.integers(0, 3, (300, 3)) / 2
    for array in (logits, labels, weights):
        array[~where] = np.nan
    total = Total(reduction, 0.1, True, pos_weight)
    for rows in (slice(0, 1), slice(1, 134), slice(134, 300)):
        chosen = labels[rows], logits[rows], weights[rows], where[rows]
        total.add(Rows(total.formula, *chosen))
    assert total.empty_classes() == [2]
    for row, q, keep, *arrays in zip(
        total.classes().rows(), np.broadcast_to(pos_weight, 3), where.T, labels.T, logits.T,
        weights.T,
        strict=True,
    ):  # fmt: skip
        own = [array[keep] for array in arrays]
        loss = sce.LossAccumulator(reduction, 0.1, float(q))
        loss.update(*own)
        assert abs(row["loss"] - loss.result()) <= 2 * np.spacing(loss.result())
        assert row["elements"] == keep.sum()
        mean = own[0].mean() if keep.any() else np.nan
        assert row["mean_label"] == pytest.approx(mean, rel=1e-15, nan_ok=True)


# ---- Files that are damaged, lie or change --------------------------------------------------


def save_arrow(path, compression):
    feather = pytest.importorskip("pyarrow.feather")
    array = np.load("logits.npy")[:, 0]
    table = pytest.importorskip("pyarrow").table({"x": array, "y": np.load("labels.npy")[:, 1]})
    feather.write_feather(table, path, compression=compression, chunksize=20)
    return array, np.load("labels.npy")[:, 1]


def spoil_batches(path, compression, spoilt):
    """Make the buffers of batches too short for their rows, or no compressed data at all."""
    content = Path(path).read_bytes()
    array, _ = save_arrow("whole.arrow", compression="uncompressed")
    if compression == "uncompressed":
        # The length in bytes of the values of 20 rows, in the metadata before them.
        for number in spoilt:
            start = content.index(array[20 * number :][:20].tobytes())
            at = content.rindex(struct.pack("<3q", 0, 160, 160), 0, start)
            content = content[:at] + struct.pack("<3q", 0, 152, 160) + content[at + 24 :]
    else:
        frames = [k for k in range(len(content)) if content.startswith(b"\x04\x22\x4d\x18", k)]
        for number in spoilt:
            # Two columns a batch, of which the labels are too short to be compressed.
            at = frames[number * len(frames) // 5]
            content = content[:at] + b"\xff" * 8 + content[at + 8 :]
    Path(path).write_bytes(content)


@pytest.mark.parametrize("compression", ["uncompressed", "lz4"])
@pytest.mark.parametrize("spoilt", [[0], [2], [4], [1, 2], [0, 3]])
def test_batches_beside_those_that_are_broken_count(evaluate, capsys, compression, spoilt):
    x, y = save_arrow("all.arrow", compression)
    spoil_batches("all.arrow", compression, spoilt)
    lost = spoilt if compression == "uncompressed" else range(spoilt[0], spoilt[-1] + 1)
    kept = np.repeat([number not in lost for number in range(5)], 20)
    np.save("y.npy", y)
    for labels in ("all.arrow:y", "y.npy"):
        found, said = evaluate(labels, "all.arrow:x", "--on-error", "skip")
        assert found["shape"] == [kept.sum()]
        assert found["rows_skipped"] == 100 - kept.sum()
        assert found["loss"] == pytest.approx(sce.sigmoid_cross_entropy(y[kept], x[kept]))
        assert "skipped: cannot read all.arrow:x, rows " in said
        with pytest.raises(SystemExit) as stopped:
            main(["evaluate", labels, "all.arrow:x"])
        assert stopped.value.code == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_a_parquet_file_with_wrong_statistics_ends_no_process():
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    x = np.load("logits.npy")
    lists = pa.ListArray.from_arrays(np.arange(0, 501, 5, dtype=np.int32), x.ravel())
    parquet.write_table(pa.table({"x": lists}), "all.parquet", compression="none")
    # In the footer: at the four levels are 0, 0, 0 and 500 values.  Now there are three levels.
    content = Path("all.parquet").read_bytes()
    levels, wrong = b"\x46\x00\x00\x00\xe8\x07", b"\x36\x00\x00\x80\xe8\x07"
    if levels not in content:
        pytest.skip("this pyarrow writes no such statistics")
    Path("all.parquet").write_bytes(content.replace(levels, wrong))
    code = "import sys; from sce_numba.__main__ import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "evaluate", "labels.npy", "all.parquet:x", "--json"],
        env=ENVIRONMENT, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "(Definition level histogram size mismatch" in json.loads(done.stdout)["error"]


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("lost", ["labels.npy", "logits.npy", "both"])
def test_rows_that_a_header_makes_up_cost_nothing_where_they_are_skipped(evaluate, lost, reduction):
    names = ["labels.npy", "logits.npy"]
    expected = sce.sigmoid_cross_entropy(*map(np.load, names), reduction=f"weighted_{reduction}")
    for name in names:
        content = Path(name).read_bytes()
        made_up = content.replace(b"(100, 5), }" + b" " * 13, b"(1" + b"0" * 15 + b", 5), }")
        assert len(made_up) == len(content) != made_up.count(b"(100, 5)")
        Path(name).write_bytes(made_up)
        if lost != "both" and name != lost:
            # A file that has its rows, in blocks that take no room on the disk, up to a point.
            os.truncate(name, 1 << 42)
    found, said = evaluate(*names, "--on-error", "skip", "--reduction", reduction)
    assert found["shape"] == [100, 5]
    assert found["rows_skipped"] == 10**15 - 100
    assert found["loss"] == pytest.approx(expected)
    assert said.count("\n") <= 2


def change_while_read(monkeypatch, change):
    """Have a file change behind its header, as soon as rows are cut."""
    cut = blocks.cut

    def changing(operands):
        change()
        return cut(operands)

    monkeypatch.setattr("sce_numba.evaluator.run.cut", changing)


@pytest.mark.parametrize("name", ["x.npy", "x.npz:x", "x.parquet:x", "x.arrow:x"])
@pytest.mark.parametrize("change", ["shrunk", "empty", "gone", "replaced"])
def test_a_file_that_changes_while_it_is_read_is_named(monkeypatch, evaluate, name, change):
    path = name.partition(":")[0]
    x = np.load("logits.npy")[:, 0]
    np.save("y.npy", x > 0)
    for folder in (".", "new"):
        Path(folder).mkdir(exist_ok=True)
        if path.endswith("npy"):
            np.save(f"{folder}/{path}", x)
        elif path.endswith("npz"):
            np.savez(f"{folder}/{path}", x=x)
        else:
            pa = pytest.importorskip("pyarrow")
            table = pa.table({"x": x})
            if path.endswith("parquet"):
                pytest.importorskip("pyarrow.parquet").write_table(table, f"{folder}/{path}")
            else:
                pytest.importorskip("pyarrow.feather").write_feather(table, f"{folder}/{path}")
        x = x[:50]

    def act():
        if change == "shrunk":
            os.truncate(path, os.path.getsize(path) // 2)
        elif change == "empty":
            os.truncate(path, 0)
        elif change == "gone":
            os.remove(path)
        else:
            os.replace(f"new/{path}", path)

    change_while_read(monkeypatch, act)
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", "y.npy", name])
    assert stopped.value.code == 2


def test_an_arrow_file_that_shrinks_while_it_is_counted_ends_no_process():
    feather = pytest.importorskip("pyarrow.feather")
    table = pytest.importorskip("pyarrow").table({"x": np.zeros(1 << 20)})
    feather.write_feather(table, "x.arrow", compression="uncompressed", chunksize=1 << 16)
    code = """
import os, sys
import pyarrow
from sce_numba.__main__ import main

opened = pyarrow.ipc.open_file

def open_file(*arguments, **options):
    file = opened(*arguments, **options)
    os.truncate("x.arrow", 5000)
    return file

pyarrow.ipc.open_file = open_file
sys.exit(main(["evaluate", "x.arrow:x", "x.arrow:x"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_patched_files_are_refused_or_read_right():
    pytest.importorskip("resource")
    counts, faults = file_fuzz.run(200, seed=2)
    assert not faults
    assert sum(counts.values()) == 200
    assert {outcome for _, outcome in counts} >= {"answered", "refused"}
