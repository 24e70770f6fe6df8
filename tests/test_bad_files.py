"""Each file that can't be meant has one sentence and the status 2 or 1, by whatever door it comes.

The doors are the operands and options that name files, and ``sce_numba.evaluate``; whoever is
refused finds no report, and no file of losses, but what was there before.
"""

import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

import sce_numba as sce
from sce_numba.__main__ import main
from sce_numba.evaluator import blocks

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
feather = pytest.importorskip("pyarrow.feather")
pytest.importorskip("matplotlib")

ROWS, CLASSES = 1000, 3
rng = np.random.default_rng(24)
LOGITS = rng.normal(0, 3, (ROWS, CLASSES)).astype(np.float32)
LABELS = rng.random(LOGITS.shape) < 0.3
DOORS = ["labels", "logits", "weights", "where", "pos_weight", "by", "baseline", "class_names"]

# What can be seen before a row is evaluated, of any operand.
BAD = {
    "short.npy": "missing at its end",
    "header.npy": "EOF: reading array header",
    "empty.npy": "EOF: reading magic string",
    "text.npy": "the magic string is not correct",
    "objects.npy": "an array of Python objects",
    "fields.npy": "an array with field names",
    "few.npy": "(999, 3)",
    "complex.npy": "complex128",
    "no_elements.npy": "whose rows have no elements",
    "negative.npy": "lengths are integers from 0 on",
    "later.npy": "the version 9.0 of the .npy format",
    "gone.npy": "No such file",
    "link.npy": "No such file",
    "folder": "no data files in this folder",
    "folder:x": "no data files in this folder",
    "all.txt": "neither an array nor an archive of arrays",
    "all.npz": "an archive of x: add :MEMBER",
    "all.npz:z": "its members are x",
    "none.npz:x": "an archive without arrays",
    "short.npz:x": "not an archive of arrays, or one that is cut short",
    "text.npz:x": "EOF: reading magic string",
    "all.parquet": "which column? Add :COLUMN, one of x, n, lists, s",
    "all.parquet:z": "no column 'z'; its columns are x, n, lists, s",
    "all.parquet:s": "a column of struct<",
    "no.parquet:x": "Parquet magic bytes not found",
    "short.parquet:x": "Parquet magic bytes not found",
    "no.arrow:x": "Not an Arrow file",
    "old.feather:x": "Feather of version 1",
    "raised.arrow:x": "",
    "stream.arrow:x": "",
    "no.csv.gz:x": "zlib inflate failed",
    "empty.csv:x": "Empty CSV file",
    "ragged.csv:x": "CSV parse error",
    "sh": "sh/2.npy",
    "moon://x.npy": "moon://",
}
# Of which other doors have another reason.
UNFIT = {"short.npy", "few.npy", "complex.npy", "sh"}
# What shows where it is read.
LATE = {"page.parquet:x": "CRC", "damaged.npz:x": "CRC", "all.parquet:lists": "its lists have"}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return a folder with all of them."""
    folder = tmp_path_factory.mktemp("files")
    before = os.getcwd()
    os.chdir(folder)
    try:
        write_arrays()
        write_tables()
    finally:
        os.chdir(before)
    return folder


def write_header(path, shape, version=(1, 0)):
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
    Path(path).write_bytes(b"\x93NUMPY" + bytes([*version, 118, 0]) + header.encode() + bytes(64))


def write_arrays():
    np.save("labels.npy", LABELS)
    np.save("logits.npy", LOGITS)
    content = Path("logits.npy").read_bytes()
    Path("short.npy").write_bytes(content[:-4])
    Path("header.npy").write_bytes(content[:20])
    Path("empty.npy").write_bytes(b"")
    Path("text.npy").write_text("0.5, 1.5\n")
    np.save("objects.npy", np.array([None]), allow_pickle=True)
    np.save("fields.npy", np.zeros(ROWS, [("a", "f4")]))
    np.save("few.npy", LOGITS[:-1])
    np.save("complex.npy", LOGITS.astype(complex))
    write_header("no_elements.npy", "(1000000000000000, 0)")
    write_header("negative.npy", "(-5,)")
    write_header("later.npy", "(2, 8)", (9, 0))
    Path("link.npy").symlink_to("nowhere.npy")
    Path("folder").mkdir()
    Path("all.txt").write_text("x\ty\n1\t2\n")
    Path("sh").mkdir()
    np.save("sh/1.npy", LOGITS[:500])
    Path("sh/2.npy").write_bytes(b"no")
    np.savez("all.npz", x=LOGITS)
    content = Path("all.npz").read_bytes()
    Path("short.npz").write_bytes(content[:-50])
    Path("damaged.npz").write_bytes(content[:9000] + bytes(100) + content[9100:])
    with zipfile.ZipFile("text.npz", "w") as archive:
        archive.writestr("x.npy", "hello")
    zipfile.ZipFile("none.npz", "w").close()


def write_tables():
    lists = pa.FixedSizeListArray.from_arrays(pa.array(LOGITS.ravel()), CLASSES)
    some = pa.array([[0.5] * CLASSES] * 600 + [[0.5]] * 400, pa.list_(pa.float32()))
    columns = {"x": lists, "n": np.arange(ROWS), "lists": some, "s": [{"a": 1}] * ROWS}
    table = pa.table(columns)
    parquet.write_table(table, "all.parquet", row_group_size=250)
    Path("short.parquet").write_bytes(Path("all.parquet").read_bytes()[:-8])
    options = {"row_group_size": 250, "write_page_checksum": True, "compression": "none"}
    parquet.write_table(table.select(["x"]), "page.parquet", **options)
    group = parquet.ParquetFile("page.parquet").metadata.row_group(2).column(0)
    content = bytearray(Path("page.parquet").read_bytes())
    middle = group.data_page_offset + group.total_compressed_size // 2
    content[middle : middle + 100] = bytes(100)
    Path("page.parquet").write_bytes(content)
    Path("no.parquet").write_bytes(b"PAR1" + bytes(100))
    Path("no.arrow").write_bytes(b"ARROW1" + bytes(100))
    Path("old.feather").write_bytes(b"FEA1" + bytes(100))
    feather.write_feather(table.select(["x"]), "raised.arrow", compression="uncompressed")
    raised = Path("raised.arrow").read_bytes()
    raised = raised.replace(struct.pack("<q", ROWS), struct.pack("<q", 1 << 40))
    Path("raised.arrow").write_bytes(raised)
    with pa.ipc.new_stream("stream.arrow", table.schema) as stream:
        stream.write_table(table, max_chunksize=300)
    content = Path("stream.arrow").read_bytes()
    Path("stream.arrow").write_bytes(content[: len(content) // 2])
    Path("no.csv.gz").write_bytes(b"x\n1\n")
    Path("empty.csv").write_bytes(b"")
    Path("ragged.csv").write_bytes(b"x,y\n1,0\n1\n")


@pytest.fixture(autouse=True)
def outputs(monkeypatch, files, tmp_path):
    """Work beside the files, in small blocks, and write elsewhere: over what is there."""
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 2000)
    monkeypatch.chdir(files)
    written = [tmp_path / "page.html", tmp_path / "rows.npy", tmp_path / "rows.parquet"]
    for path in written:
        path.write_text("before")
    return written


def words(door, name, outputs, *more):
    """Return the words of the command with a file at a door."""
    operands = {"labels": "labels.npy", "logits": "logits.npy"} | {door: name}
    options = [f"--{door.replace('_', '-')}={name}"] if door not in ("labels", "logits") else []
    page, rows, _ = outputs
    given = [*options, "--report", str(page), "--per-row", str(rows), *more]
    return ["evaluate", operands["labels"], operands["logits"], *given]


def untouched(outputs):
    folder = outputs[0].parent
    return [path.read_text() for path in outputs] == ["before"] * 3 and len(
        list(folder.iterdir())
    ) == 3


def reasons(door):
    """Return the files that are bad at a door, and why."""
    if door == "class_names":
        return dict.fromkeys(["gone.txt", "short.npy", "empty.csv", "text.npy"], "")
    nested = {
        "all.parquet:x": "a column of fixed_size_list<",
        "labels.npy": "its rows have the shape",
    }
    return BAD | (nested if door == "by" else {})


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("choice", ["stop", "skip"])
def test_a_bad_file_has_one_line_and_leaves_what_is_there(capsys, outputs, door, choice):
    for name, why in reasons(door).items():
        if choice == "skip" and name == "short.npy" and door != "class_names":
            continue  # its rows but for the last can be read
        with pytest.raises(SystemExit) as stopped:
            main(words(door, name, outputs, "--on-error", choice))
        output = capsys.readouterr()
        assert (stopped.value.code, output.out, output.err.count("\n")) == (2, "", 1), name
        assert name in output.err
        assert why in output.err or name in UNFIT, name
        assert untouched(outputs), name


@pytest.mark.parametrize("door", DOORS)
def test_a_bad_file_is_a_value_error_in_python(outputs, door):
    operands = {"labels": "labels.npy", "logits": "logits.npy"}
    for name, why in reasons(door).items():
        with pytest.raises(ValueError, match=r"\S") as error:
            sce.evaluate(**operands | {door: name}, per_row=outputs[1])
        said = str(error.value)
        assert name in said
        assert why in said or name in UNFIT, name
        assert "\n" not in said
        assert "--" not in said
        assert untouched(outputs), name


@pytest.mark.parametrize("door", ["labels", "logits", "weights", "baseline"])
@pytest.mark.parametrize("name", LATE)
def test_damage_further_in_stops_there_with_what_came_before(capsys, outputs, door, name):
    assert main(words(door, name, outputs, "--json")) == 1
    output = capsys.readouterr()
    stopped, *warnings = output.err.splitlines()
    assert stopped.startswith(f"stopped: cannot read {name}, rows ")
    assert LATE[name] in stopped
    assert all(line.startswith("warning: ") for line in warnings)
    page, rows, _ = outputs
    assert "stopped by an error after" in page.read_text(encoding="utf-8")
    assert rows.read_text() == "before"
    operands = {"labels": "labels.npy", "logits": "logits.npy"} | {door: name}
    with pytest.raises(ValueError, match=f"cannot read {name}, rows "):
        sce.evaluate(**operands, per_row=outputs[2])
    assert outputs[2].read_text() == "before"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device here is always full")
@pytest.mark.parametrize(("option", "place"), [("--report", 0), ("--per-row", 1), ("--per-row", 2)])
def test_a_full_disk_is_told_of_the_file_that_it_has_no_room_for(
    monkeypatch, capsys, outputs, option, place
):
    def full(number, mode):
        os.close(number)
        return open("/dev/full", mode)

    monkeypatch.setattr(os, "fdopen", full)
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", "labels.npy", "logits.npy", option, str(outputs[place])])
    output = capsys.readouterr()
    assert (stopped.value.code, output.out, output.err.count("\n")) == (2, "", 1)
    assert f"cannot write {outputs[place]} (No space left on device)" in output.err
    assert untouched(outputs)


def places(folder):
    """Return what can be no file that is written, and why."""
    os.mkfifo(folder / "pipe.npy")
    (folder / "deeper.npy").mkdir()
    return {
        folder / "pipe.npy": "a pipe or device",
        folder / "deeper.npy": "a folder",
        folder / "gone" / "x.npy": "No such file",
        folder / f"{'x' * 300}.npy": "File name too long",
        folder / "rows.npy" / "x.npy": "Not a directory",
    }


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no such pipes")
@pytest.mark.parametrize("option", ["--report", "--per-row"])
def test_what_can_be_no_file_is_left_as_it_is(capsys, outputs, option):
    folder = outputs[0].parent
    for path, why in places(folder).items():
        with pytest.raises(SystemExit) as stopped:
            main(["evaluate", "labels.npy", "logits.npy", option, str(path)])
        output = capsys.readouterr()
        assert (stopped.value.code, output.out, output.err.count("\n")) == (2, "", 1)
        assert f"cannot write {path} ({why}" in output.err
    assert (folder / "pipe.npy").is_fifo()
    with pytest.raises(SystemExit):
        main(["evaluate", "labels.npy", "logits.npy", option, ""])
    assert capsys.readouterr().err.count("\n") == 1
