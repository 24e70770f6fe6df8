"""``evaluate`` reads files of any size block by block, and says what it could not read."""

import itertools
import json
import os
import re
import select
import signal
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import sce_numba as sce
from sce_numba.__main__ import main
from sce_numba.evaluator import blocks

ROWS, CLASSES = 1000, 7
CUTS = [0, 130, 131, 600, ROWS]  # where the files of logits end
OTHER_CUTS = [0, 400, 950, ROWS]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(sce.__file__).parents[1])}


@pytest.fixture
def data():
    rng = np.random.default_rng(2)
    logits = rng.normal(0, 3, (ROWS, CLASSES)).astype(np.float32)
    return rng.random(logits.shape) < 0.3, logits, rng.random((ROWS, 1))


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch, tmp_path):
    """Cut blocks so small that these small files have many, and work in an empty folder."""
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 2000)
    monkeypatch.chdir(tmp_path)


def save(folder, array, cuts=(0, ROWS), first=1):
    Path(folder).mkdir()
    for number, (start, stop) in enumerate(itertools.pairwise(cuts), first):
        np.save(f"{folder}/shard-{number}.npy", array[start:stop])


def save_table(path, columns, **options):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pa.table(columns)
    if path.endswith((".parquet", ".pq")):
        parquet.write_table(table, path, **options)
    else:
        pytest.importorskip("pyarrow.feather").write_feather(table, path, **options)


def lists(array):
    pa = pytest.importorskip("pyarrow")
    return pa.FixedSizeListArray.from_arrays(pa.array(array.ravel()), array.shape[1])


def assert_close(found, expected):
    expected = np.float32(expected)
    assert abs(np.float32(found) - expected) <= np.spacing(expected)


# ---- What can be read -----------------------------------------------------------------------


@pytest.mark.parametrize("cuts", [[0, ROWS], CUTS, OTHER_CUTS], ids=len)
@pytest.mark.parametrize("reduction", ["sum", "mean", "sum_by_nonzero_weights"])
def test_files_of_a_folder_give_the_loss_of_one_array(evaluate, data, cuts, reduction):
    labels, logits, weights = data
    save("labels", labels, OTHER_CUTS)
    save("logits", logits, CUTS)
    save("weights", weights, cuts)
    found, said = evaluate(
        "labels", "logits", "--weights", "weights", "--reduction", reduction,
        "--label-smoothing", "0.1",
    )  # fmt: skip
    expected = sce.sigmoid_cross_entropy(
        labels, logits, weights, label_smoothing=0.1, reduction=sce.Reduction[reduction.upper()]
    )
    assert_close(found["loss"], expected)
    assert found["shape"] == [ROWS, CLASSES]
    assert (found["partial"], found["skipped"], said) == (None, [], "")


def test_a_pattern_is_taken_in_the_order_of_its_numbers(evaluate, data):
    labels, logits, _ = data
    np.save("labels.npy", labels)
    save("logits", logits, np.linspace(0, ROWS, 13).astype(int))
    found, _ = evaluate("labels.npy", "logits/shard-*.npy")
    assert_close(found["loss"], sce.sigmoid_cross_entropy(labels, logits))


def save_shards(array, names):
    for name, shard in zip(names, np.array_split(array, len(names)), strict=True):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        np.save(name, shard)


@pytest.mark.parametrize(
    ("labels_names", "logits_names"),
    [
        (["y/9.npy", "y/10.npy"], ["x/09.npy", "x/10.npy"]),
        (["y/labels_0.npy", "y/labels_1.npy"], ["x/logits_0.npy", "x/logits_1.npy"]),
        (["y/0.y.npy", "y/1.y.npy"], ["x/0.x.npy", "x/1.x.npy"]),
        (["y/10-a.npy", "y/11-a.npy"], ["x/x-10.npy", "x/x-11.npy"]),
        # By their own numbers these would come in another order: 2 before 10, but "10" after "-2".
        (["y/2.npy", "y/10.npy"], ["x/2/x.npy", "x/10/x.npy"]),
    ],
)
def test_as_many_files_are_paired_by_name(evaluate, data, labels_names, logits_names):
    labels, logits, _ = data
    save_shards(labels, labels_names)
    save_shards(logits, logits_names)
    found, _ = evaluate("y", "x")
    assert_close(found["loss"], sce.sigmoid_cross_entropy(labels, logits))


@pytest.mark.parametrize(
    ("labels_names", "logits_names", "alone"),
    [
        ("abc", "acd", "labels/b.npy"),
        (["s1", "s2", "s3"], ["s2", "s3", "s4"], "labels/s1.npy"),
        (["y_10", "y_11"], ["x_20", "x_21"], "labels/y_10.npy"),
        (["y_0", "y_1", "y_2"], ["x_0", "x_2", "x_3"], "labels/y_1.npy"),
    ],
)
def test_names_that_do_not_correspond_are_refused(data, capsys, labels_names, logits_names, alone):
    save_shards(data[0], [f"labels/{name}.npy" for name in labels_names])
    save_shards(data[1], [f"logits/{name}.npy" for name in logits_names])
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", "labels", "logits"])
    output = capsys.readouterr()
    assert (stopped.value.code, output.out) == (2, "")
    assert f"no file of logits belongs to {alone}: " in output.err


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_members_of_archives_are_read_block_by_block(evaluate, data, write, order):
    labels, logits, _ = data
    write("both.npz", y=np.asarray(labels, order=order), x=np.asarray(logits, order=order))
    np.save("logits.npy", np.asarray(logits, order=order))
    for operand in ("both.npz:x", "logits.npy"):
        found, _ = evaluate("both.npz:y", operand)
        assert_close(found["loss"], sce.sigmoid_cross_entropy(labels, logits))


@pytest.mark.parametrize("name", ["all.parquet", "all.pq", "all.arrow", "all.feather"])
def test_columns_of_lists_are_matrices_and_those_of_weights_are_for_rows(evaluate, data, name):
    labels, logits, weights = data
    columns = {"y": lists(labels), "w": weights[:, 0], "x": lists(logits), "other": weights[:, 0]}
    size = {"row_group_size": 300} if name.endswith((".parquet", ".pq")) else {"chunksize": 300}
    save_table(name, columns, **size)
    found, _ = evaluate(f"{name}:y", f"{name}:x", "--weights", f"{name}:w")
    assert_close(found["loss"], sce.sigmoid_cross_entropy(labels, logits, weights))
    assert found["labels_dtype"] == "bool"
    assert found["logits_dtype"] == "float32"


def test_columns_side_by_side_are_a_matrix_and_lists_may_have_offsets(evaluate, data):
    labels, logits, _ = data
    numbers = {f"x.{k}": logits[:, k] for k in range(CLASSES)}
    save_table("all.parquet", {**numbers, "y": labels.astype(np.int8).tolist()})
    names = ",".join(numbers)
    found, _ = evaluate("all.parquet:y", f"all.parquet:{names}")
    assert_close(found["loss"], sce.sigmoid_cross_entropy(labels, logits))


def test_a_folder_of_tables_beside_arrays(evaluate, data):
    labels, logits, _ = data
    save("labels", labels, CUTS)
    Path("tables/deeper").mkdir(parents=True)
    for number, (start, stop) in enumerate(itertools.pairwise(OTHER_CUTS)):
        folder = "tables/deeper" if number == 2 else "tables"
        save_table(f"{folder}/{number}.parquet", {"x": lists(logits[start:stop])})
    Path("tables/_metadata").write_text("not a table")
    with pytest.raises(SystemExit):
        main(["evaluate", "labels", "tables"])  # without a column
    found, _ = evaluate("labels", "tables/:x")
    assert_close(found["loss"], sce.sigmoid_cross_entropy(labels, logits))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("operand", ["half.npy", "half.npz:x"])
def test_bfloat16_is_what_two_raw_bytes_are(evaluate, data, operand, order):
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    labels, logits, _ = data
    np.save("labels.npy", labels)
    half = np.asarray(logits.astype(bfloat16), order=order)
    np.save("half.npy", half)
    np.savez("half.npz", x=half)
    found, _ = evaluate("labels.npy", operand)
    assert_close(found["loss"], sce.sigmoid_cross_entropy(labels, half.astype(np.float32)))
    assert found["logits_dtype"] == "bfloat16"


@pytest.mark.parametrize("compression", [None, "lz4"])
@pytest.mark.parametrize("name", ["all.arrow", "all.feather"])
def test_arrow_streams_are_read_as_arrow_files_are(evaluate, data, capsys, name, compression):
    pa = pytest.importorskip("pyarrow")
    labels, logits, _ = data
    table = pa.table({"y": lists(labels), "other": ["text"] * ROWS, "x": lists(logits)})
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(name, table.schema, options=options) as stream:
        stream.write_table(table, max_chunksize=300)
    np.save("labels.npy", labels)
    for operand in ("labels.npy", f"{name}:y"):
        found, _ = evaluate(operand, f"{name}:x")
        assert_close(found["loss"], sce.sigmoid_cross_entropy(labels, logits))
        assert found["shape"] == [ROWS, CLASSES]
    content = Path(name).read_bytes()
    Path(name).write_bytes(content[: len(content) // 2])
    with pytest.raises(SystemExit):
        main(["evaluate", "labels.npy", f"{name}:x"])
    assert f"cannot read {name}:x (" in capsys.readouterr().err
    Path("old.feather").write_bytes(b"FEA1" + bytes(100))
    with pytest.raises(SystemExit):
        main(["evaluate", "labels.npy", "old.feather:x"])
    assert "cannot read old.feather:x (Feather of version 1; " in capsys.readouterr().err


@pytest.mark.parametrize("name", ["all.parquet", "all.arrow"])
def test_names_of_columns_may_have_commas_and_colons(evaluate, data, name):
    labels, logits, _ = data
    columns = ["x,1", "a", "x", "m:x,2", "1", "m:1", ","]
    save_table(name, {"y": lists(labels), **dict(zip(columns, logits.T, strict=True))})
    np.save("labels.npy", labels)
    # The longest names win; x alone is followed by another name than 1.
    order = [0, 1, 3, 2, 5, 4]
    chosen = ",".join(columns[k] for k in order)
    np.save("some.npy", labels[:, order])
    found, _ = evaluate("some.npy", f"{name}:{chosen}")
    assert_close(found["loss"], sce.sigmoid_cross_entropy(labels[:, order], logits[:, order]))
    np.save("one.npy", labels[:, 3])
    found, _ = evaluate("one.npy", f"{name}:m:x,2")
    assert_close(found["loss"], sce.sigmoid_cross_entropy(labels[:, 3], logits[:, 3]))


@pytest.mark.parametrize("shape", [(), (1, CLASSES), (1, 1)])
def test_weights_of_one_row_are_those_of_every_row(evaluate, data, shape):
    labels, logits, _ = data
    weights = np.random.default_rng(3).random(shape)
    np.save("labels.npy", labels)
    np.save("logits.npy", logits)
    np.save("weights.npy", weights)
    found, _ = evaluate("labels.npy", "logits.npy", "--weights", "weights.npy")
    assert_close(found["loss"], sce.sigmoid_cross_entropy(labels, logits, weights))


@pytest.mark.parametrize("shape", [None, (ROWS, 1), (ROWS, CLASSES), (1, CLASSES)])
@pytest.mark.parametrize("reduction", ["sum", "mean", "none"])
def test_each_class_has_the_loss_of_its_column(evaluate, data, shape, reduction):
    labels, logits, _ = data
    weights = 2.0 if shape is None else np.random.default_rng(3).random(shape)
    np.save("labels.npy", labels)
    np.save("logits.npy", logits)
    np.save("weights.npy", weights)
    found, _ = evaluate(
        "labels.npy", "logits.npy", "--weights", "weights.npy", "--by-class",
        "--reduction", reduction,
    )  # fmt: skip
    own = np.broadcast_to(weights, logits.shape)
    used = "sum_over_batch_size" if reduction == "none" else reduction
    for number, row in enumerate(found["by_class"]):
        assert row["class"] == number
        expected = sce.sigmoid_cross_entropy(
            labels[:, number],
            logits[:, number],
            own[:, number],
            reduction=sce.Reduction[used.upper()],
        )
        assert_close(row["loss"], expected)
        assert row["mean_label"] == pytest.approx(labels[:, number].mean())
    assert len(found["by_class"]) == CLASSES


def test_classes_are_a_table_below_the_loss(data, capsys):
    labels, logits, _ = data
    np.save("labels.npy", labels)
    np.save("logits.npy", logits)
    assert main(["evaluate", "labels.npy", "logits.npy", "--by-class"]) == 0
    head, table = capsys.readouterr().out.split("\n\n")
    assert "skipped" not in head
    lines = [line.split() for line in table.splitlines()]
    assert lines[0] == ["class", "loss", "mean", "label", "elements"]
    assert [line[0] for line in lines[1:]] == [str(k) for k in range(CLASSES)]


# ---- What can not be read -------------------------------------------------------------------


def spoil(path, where, length=400):
    content = bytearray(Path(path).read_bytes())
    content[where : where + length] = bytes(255 - byte for byte in content[where : where + length])
    Path(path).write_bytes(content)


def truncate(path, by):
    os.truncate(path, os.path.getsize(path) - by)


@pytest.fixture
def shards(data):
    """Folders of labels and logits; one file of logits lacks its last 10 rows and a half."""
    labels, logits, _ = data
    save("labels", labels, CUTS)
    save("logits", logits, CUTS)
    truncate("logits/shard-3.npy", 10 * 4 * CLASSES + 2 * CLASSES)
    return labels, logits


def loss_without(labels, logits, first, stop):
    keep = np.ones((ROWS, 1), bool)
    keep[first:stop] = False
    return sce.sigmoid_cross_entropy(labels, logits, where=keep)


def test_a_short_file_is_named_before_anything_is_computed(shards, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", "labels", "logits"])
    output = capsys.readouterr()
    assert (stopped.value.code, output.out) == (2, "")
    said = "cannot read logits/shard-3.npy, rows 458 to 468 (294 bytes are missing at its end)"
    assert output.err.endswith(f"{said}\n")


def test_skipping_leaves_out_exactly_the_rows_that_are_missing(evaluate, shards):
    found, said = evaluate("labels", "logits", "--on-error", "skip")
    assert_close(found["loss"], loss_without(*shards, 589, 600))
    assert found["shape"] == [ROWS - 11, CLASSES]
    assert found["rows_skipped"] == 11
    reason = "294 bytes are missing at its end"
    assert found["skipped"] == [
        {"file": "logits/shard-3.npy", "rows": [458, 469], "reason": reason}
    ]
    assert said == f"skipped: cannot read logits/shard-3.npy, rows 458 to 468 ({reason})\n"


def test_an_unreadable_file_is_skipped_with_its_partner(evaluate, shards):
    Path("logits/shard-3.npy").write_text("not an array")
    found, said = evaluate("labels", "logits", "--on-error", "skip")
    assert_close(found["loss"], loss_without(*shards, 131, 600))
    assert said.startswith("skipped: cannot read logits/shard-3.npy (the magic string")


def test_an_unreadable_file_without_a_partner_can_not_be_skipped(shards, capsys):
    np.save("labels.npy", shards[0])
    Path("logits/shard-3.npy").write_text("not an array")
    with pytest.raises(SystemExit):
        main(["evaluate", "labels.npy", "logits", "--on-error", "skip"])
    assert "can't be skipped" in capsys.readouterr().err


@pytest.mark.parametrize("choice", ["stop", "skip"])
def test_a_damaged_row_group_is_named_and_the_others_count(evaluate, data, choice):
    labels, logits, _ = data
    np.save("labels.npy", labels)
    options = {"row_group_size": 250, "use_dictionary": False, "write_page_checksum": True}
    save_table("all.parquet", {"x": lists(logits)}, **options)
    group = pytest.importorskip("pyarrow.parquet").ParquetFile("all.parquet").metadata.row_group(2)
    # The whole group is one page, so that none of it can be read.
    spoil(
        "all.parquet", group.column(0).data_page_offset + group.column(0).total_compressed_size // 2
    )
    status = 0 if choice == "skip" else 1
    found, said = evaluate("labels.npy", "all.parquet:x", "--on-error", choice, status=status)
    done = 1000 - 250 if choice == "skip" else 500
    assert found["shape"] == [done, CLASSES]
    expected = loss_without(labels, logits, 500, 750 if choice == "skip" else ROWS)
    assert_close(found["loss"], expected)
    start = re.match(r"(skipped|stopped): cannot read all.parquet:x, rows 500 to (\d+) \(", said)
    assert start[1] == ("skipped" if choice == "skip" else "stopped")
    assert choice == "stop" or start[2] == "749"
    if choice == "stop":
        assert re.fullmatch(r"stopped by an error after \d+ of 1,000 rows", found["partial"])


def test_rows_with_nulls_cost_no_more_than_their_block(evaluate, data):
    labels, logits, _ = data
    column = logits.tolist()
    column[333][2] = None
    column[700] = column[700][:3]
    pa = pytest.importorskip("pyarrow")
    np.save("labels.npy", labels)
    save_table("all.parquet", {"x": pa.array(column, pa.list_(pa.float32()))})
    found, said = evaluate("labels.npy", "all.parquet:x", "--on-error", "skip")
    assert found["rows_skipped"] < 200
    assert [problem["reason"] for problem in found["skipped"]] == [
        "1 value is null; a mask for --where leaves them out",
        "its lists have between 3 and 7 values",
    ]
    for (first, stop), row in zip(
        (problem["rows"] for problem in found["skipped"]), (333, 700), strict=True
    ):
        assert first <= row < stop
    assert len(said.splitlines()) == 2


@pytest.mark.parametrize(
    ("shape", "shown"), [((500, 3), "(3,)"), ((500,), "()"), ((500, 1, 7), "(1, 7)")]
)
def test_a_file_whose_rows_have_another_shape_is_named_before_anything_is_computed(
    data, capsys, shape, shown
):
    save("logits", data[1], [0, 500])
    np.save("logits/shard-2.npy", np.zeros(shape, np.float32))
    # Labels of the same shapes: block by block there is nothing wrong.
    save("labels", data[0], [0, 500])
    np.save("labels/shard-2.npy", np.zeros(shape, bool))
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", "labels", "logits"])
    output = capsys.readouterr()
    assert (stopped.value.code, output.out) == (2, "")
    for name in ("labels", "logits"):
        assert (
            f"cannot read {name}/shard-2.npy (its rows have the shape {shown}, "
            f"but those of {name}/shard-1.npy have (7,))"
        ) in output.err


def test_a_file_whose_rows_have_another_shape_is_skipped_on_demand(evaluate, data):
    labels, logits, _ = data
    save("labels", labels, [0, 500, ROWS])
    save("logits", logits, [0, 500])
    np.save("logits/shard-2.npy", logits[500:, :3])
    found, said = evaluate("labels", "logits", "--on-error", "skip")
    assert_close(found["loss"], sce.sigmoid_cross_entropy(labels[:500], logits[:500]))
    assert said.startswith("skipped: cannot read logits/shard-2.npy (its rows have the shape (3,)")


@pytest.mark.parametrize("name", ["all.parquet", "all.arrow"])
def test_lists_of_another_width_further_in_are_named(evaluate, name):
    pa = pytest.importorskip("pyarrow")
    column = pa.array([[0.0, 1.0]] * 300 + [[0.0, 1.0, 2.0]] * 300, pa.list_(pa.float32()))
    size = {"row_group_size": 300} if name.endswith(".parquet") else {"chunksize": 300}
    save_table(name, {"x": column, "y": column}, **size)
    found, said = evaluate(f"{name}:y", f"{name}:x", status=1)
    assert found["shape"] == [300, 2]
    assert f"cannot read {name}:y, rows 300 to " in said
    assert f"(its rows have the shape (3,), but those of {name}:y have (2,))" in said


@pytest.mark.parametrize("rows", [1001, 100_000, 1 << 40])
@pytest.mark.parametrize("column", ["x", "y"])
def test_an_arrow_file_with_a_raised_number_of_rows_is_refused(data, capsys, rows, column):
    _, logits, _ = data
    pa = pytest.importorskip("pyarrow")
    save_table("all.arrow", {"x": logits[:, 0], "y": lists(logits)}, compression="uncompressed")
    content = Path("all.arrow").read_bytes()
    assert content.count(struct.pack("<q", ROWS))
    raised = content.replace(struct.pack("<q", ROWS), struct.pack("<q", rows))
    Path("all.arrow").write_bytes(raised)
    with pa.memory_map("all.arrow") as source:
        assert pa.ipc.open_file(source).get_batch(0).num_rows == rows
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", f"all.arrow:{column}", f"all.arrow:{column}"])
    output = capsys.readouterr()
    assert (stopped.value.code, output.out, output.err.count("\n")) == (2, "", 1)
    assert f"cannot read all.arrow:{column} (" in output.err


@pytest.mark.parametrize("row", [500, ROWS])
def test_an_arrow_list_that_ends_behind_its_values_is_refused(data, capsys, row):
    pa = pytest.importorskip("pyarrow")
    values = pa.array(data[1].ravel())
    offsets = np.arange(0, len(values) + 1, CLASSES, dtype=np.int32)
    column = pa.ListArray.from_arrays(pa.array(offsets), values)
    save_table("all.arrow", {"x": column}, compression="uncompressed")
    content = Path("all.arrow").read_bytes()
    changed = offsets.copy()
    changed[row] = 10**8
    assert content.count(offsets.tobytes()) == 1
    Path("all.arrow").write_bytes(content.replace(offsets.tobytes(), changed.tobytes()))
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", "all.arrow:x", "all.arrow:x"])
    assert stopped.value.code == 2
    assert re.search(r"cannot read all.arrow:x.* \(In column 0: Invalid: ", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("operands", "words"),
    [
        (["labels.npy", "all.parquet"], "all.parquet (which column? Add :COLUMN, one of x, y, t)"),
        (["labels.npy", "all.parquet:z"], "no column 'z'; its columns are x, y, t"),
        (
            ["labels.npy", "all.parquet:t"],
            "cannot read all.parquet:t (logits are float8_e4m3fn,",
        ),
        (["labels.npy", "empty"], "cannot read empty"),
        (["labels.npy", "all.parquet:y"], "float16, bfloat16, float32 or float64, but"),
        (["labels.npy", "short"], "as many rows of each, but there are 1,000 of labels, 999 of"),
        (["all.parquet:y", "flat.npy", "--by-class"], "axis of classes"),
        (["labels.npy", "logits.npy", "--on-error", "go"], "--on-error"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(data, capsys, operands, words):
    labels, logits, _ = data
    np.save("labels.npy", labels)
    np.save("logits.npy", logits)
    np.save("flat.npy", logits[:, 0])
    save_table(
        "all.parquet", {"x": lists(logits), "y": labels[:, 0].astype(int), "t": ["a"] * ROWS}
    )
    Path("empty").mkdir()
    save("short", logits[:-1], [0, 500, ROWS])
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", *operands])
    output = capsys.readouterr()
    assert (stopped.value.code, output.out, output.err.count("\n")) == (2, "", 1)
    assert words in output.err


def write_header(path, shape, version=(1, 0)):
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
    Path(path).write_bytes(b"\x93NUMPY" + bytes([*version, 118, 0]) + header.encode() + bytes(64))


@pytest.mark.parametrize(
    ("shape", "version", "words"),
    [
        ("(1000000000000000, 0)", (1, 0), "(1000000000000000, 0), whose rows have no elements"),
        ("(-5,)", (1, 0), "(-5,); lengths are integers from 0 on"),
        ("(5, -1)", (1, 0), "(5, -1); lengths are integers from 0 on"),
        ("(True, 8)", (1, 0), "(True, 8); lengths are integers from 0 on"),
        ("(2, 8)", (3, 0), "the version 3.0 of the .npy format; 1.0 and 2.0 can be read"),
        ("(2, 8)", (9, 0), "the version 9.0 of the .npy format; 1.0 and 2.0 can be read"),
    ],
)
def test_a_header_that_makes_no_sense_is_refused(capsys, shape, version, words):
    write_header("bad.npy", shape, version)
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", "bad.npy", "bad.npy"])
    output = capsys.readouterr()
    assert (stopped.value.code, output.out, output.err.count("\n")) == (2, "", 1)
    assert "cannot read bad.npy (its header has the " in output.err
    assert words in output.err


def test_digits_that_are_no_decimals_may_be_in_names(evaluate, data):
    np.save("²1.npy", data[0])
    np.save("²10.npy", data[1])
    assert evaluate("²1.npy", "²10.npy")[0]["shape"] == [ROWS, CLASSES]


def test_pipes_in_a_folder_are_left_alone(data):
    save("labels", data[0])
    save("logits", data[1])
    os.mkfifo("labels/shard-2.npy")
    os.mkfifo("logits/pipe.npy")
    for operand in ("logits", "logits/*.npy"):
        with start("labels", operand, stdout=subprocess.PIPE) as program:
            assert program.wait(60) == 0
            assert b"1000 x 7" in program.stdout.read()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no such pipes")
@pytest.mark.parametrize("name", ["pipe.npy", "/dev/stdin", "/dev/null"])
def test_a_pipe_or_device_is_refused_in_one_line(data, name):
    np.save("labels.npy", data[0])
    os.mkfifo("pipe.npy")
    with start("labels.npy", name, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        said = program.stderr.read().decode()
        assert program.wait(60) == 2
    assert said.count("\n") == 1
    assert f"cannot read {name} (a pipe or device, not a file on a disk" in said


def test_a_link_that_leads_nowhere_is_named(data, capsys):
    save("labels", data[0])
    save("logits", data[1])
    Path("logits/shard-2.npy").symlink_to("gone.npy")
    for operand in ("logits", "logits/*.npy"):
        with pytest.raises(SystemExit):
            main(["evaluate", "labels", operand])
        assert "cannot read logits/shard-2.npy (No such file" in capsys.readouterr().err


def test_links_between_folders_count_no_file_twice(evaluate, data):
    labels, logits, _ = data
    save("labels", labels, [0, 500, ROWS])
    save("logits", logits, [0, 500, ROWS])
    for name in ("labels", "logits"):
        Path(f"{name}/above").symlink_to(".")
        Path(f"{name}/zero").symlink_to(".")
    found, _ = evaluate("labels/**/*.npy", "logits/**/*.npy")
    assert found["shape"] == [ROWS, CLASSES]
    assert_close(found["loss"], sce.sigmoid_cross_entropy(labels, logits))


def test_hidden_files_and_folders_are_matched_by_name_only(evaluate, data):
    labels, logits, _ = data
    save("labels", labels)
    save("logits", logits)
    Path("logits/.checkpoints").mkdir()
    np.save("logits/.checkpoints/shard-9.npy", logits[:1])
    np.save("logits/.shard-9.npy", logits[:1])
    assert evaluate("labels", "logits/**/*.npy")[0]["shape"] == [ROWS, CLASSES]
    np.save("label.npy", labels[:1])
    found, _ = evaluate("label.npy", "logits/**/.checkpoints/*.npy")
    assert found["shape"] == [1, CLASSES]


def test_links_to_the_same_file_count_each(evaluate, data):
    labels, logits, _ = data
    np.save("labels.npy", labels)
    save("logits", np.concatenate([logits, logits + 1]), [0, ROWS, 2 * ROWS])
    Path("labels").mkdir()
    for number in (1, 2):
        Path(f"labels/shard-{number}.npy").symlink_to("../labels.npy")
    for operand in ("labels", "labels/**/*.npy"):
        assert evaluate(operand, "logits")[0]["shape"] == [2 * ROWS, CLASSES]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("empty", "cannot read empty (no data files in this folder or below it): names that end"),
        ("empty:x", "in .npy count or, with :MEMBER or :COLUMN, in .npz, .parquet, .pq, .arrow,"),
        ("all.txt", "cannot read all.txt (neither an array nor an archive of arrays; what can be"),
        ("all.txt:x", ".npy, .npz:MEMBER, and .parquet, .pq, .arrow, .feather, .csv, .csv.gz, "),
        ("labels.npy:x", "cannot read labels.npy:x (not an archive of arrays, or"),
    ],
)
def test_what_holds_no_data_is_told_what_does(data, capsys, name, words):
    np.save("labels.npy", data[0])
    Path("empty/deeper").mkdir(parents=True)
    Path("empty/notes.txt").write_text("")
    Path("all.txt").write_text("x\ty\n1\t2\n")
    with pytest.raises(SystemExit):
        main(["evaluate", "labels.npy", name])
    assert words in capsys.readouterr().err


def test_without_pyarrow_tables_say_what_they_need(data, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    np.save("labels.npy", data[0])
    Path("all.parquet").write_bytes(b"PAR1")
    with pytest.raises(SystemExit):
        main(["evaluate", "labels.npy", "all.parquet:x"])
    assert "pip install 'sce_numba[arrow]'" in capsys.readouterr().err


# ---- On a terminal, and interrupted ---------------------------------------------------------

ENDLESS = 1 << 36  # rows of a file that has no blocks on disk: minutes of reading


@pytest.fixture
def endless():
    for name in ("labels.npy", "logits.npy"):
        header = np.lib.format.header_data_from_array_1_0(np.empty(1, np.float32))
        with Path(name).open("wb") as file:
            np.lib.format.write_array_header_1_0(file, {**header, "shape": (ENDLESS,)})
            file.truncate(file.tell() + 4 * ENDLESS)
    return ["labels.npy", "logits.npy"]


def start(*arguments, **streams):
    command = [sys.executable, "-m", "sce_numba", "evaluate", *arguments]
    return subprocess.Popen(command, env=ENVIRONMENT, **streams)


def read_until(terminal, pattern, seconds=120):
    """Return what a terminal shows until the pattern appears."""
    seen = ""
    while not re.search(pattern, seen):
        ready, _, _ = select.select([terminal], [], [], seconds)
        assert ready, seen
        seen += os.read(terminal, 4096).decode()
    return seen


def test_interrupted_it_prints_what_it_has_and_says_so(endless):
    pytest.importorskip("tqdm")
    fcntl, termios = pytest.importorskip("fcntl"), pytest.importorskip("termios")
    control, terminal = os.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 24, 120, 0, 0))
    with start(*endless, "--json", stdout=subprocess.PIPE, stderr=terminal) as program:
        os.close(terminal)
        # The bar of rows that have been read.
        seen = read_until(control, r"[1-9][MG]/68\.7G")
        program.send_signal(signal.SIGINT)
        report = json.load(program.stdout)
    os.close(control)
    assert program.returncode == 130
    assert "Traceback" not in seen
    done = report["shape"][0]
    assert 0 < done < ENDLESS
    assert report["partial"] == f"interrupted after {done:,} of {ENDLESS:,} rows"
    assert report["loss"] == pytest.approx(np.log(2))


def test_no_bar_is_drawn_in_a_pipe(data):
    np.save("labels.npy", data[0])
    np.save("logits.npy", data[1])
    with start(
        "labels.npy", "logits.npy", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as program:
        assert program.stderr.read() == b""
        assert program.stdout.read().startswith(b"loss ")
    assert program.returncode == 0
