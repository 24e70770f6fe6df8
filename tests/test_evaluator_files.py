"""``evaluate`` reads columns of groups, CSV, folders, URLs and streams, and refuses in one line."""

import gzip
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import sce_numba as sce
from sce_numba.__main__ import main
from sce_numba.evaluator import blocks

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

ROWS, CLASSES = 1000, 3
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(sce.__file__).parents[1])}
rng = np.random.default_rng(5)
LOGITS = rng.normal(0, 3, (ROWS, CLASSES)).astype(np.float32)
LABELS = rng.random(LOGITS.shape) < 0.3
LOSSES = np.logaddexp(0, np.where(LABELS, -1, 1) * LOGITS.astype(np.float64))
COUNTRY = np.array(["DE", "FR", "IT"])[rng.integers(0, 3, ROWS)]
STARS = rng.integers(1, 6, ROWS)


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    """Work in a folder with the same data as arrays and as a table, in many small blocks."""
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 2000)
    monkeypatch.chdir(tmp_path)
    np.save("labels.npy", LABELS)
    np.save("logits.npy", LOGITS)
    parquet.write_table(table(), "all.parquet", row_group_size=300)


def lists(array):
    return pa.FixedSizeListArray.from_arrays(pa.array(array.ravel()), array.shape[1])


def table():
    country = pa.array(COUNTRY, mask=np.arange(ROWS) % 50 == 0)
    columns = {f"x{k}": LOGITS[:, k] for k in range(CLASSES)}
    labels = {f"y{k}": LABELS[:, k] for k in range(CLASSES)}
    return pa.table(
        {"y": lists(LABELS), "x": lists(LOGITS), "country": country, "stars": STARS}
        | columns
        | labels
    )


def refusal(capsys, *arguments):
    """Return the one line in which ``evaluate`` refuses, before it prints anything."""
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", *arguments])
    output = capsys.readouterr()
    assert (stopped.value.code, output.out, output.err.count("\n")) == (2, "", 1)
    return output.err


# ---- Groups ----------------------------------------------------------------------------------


def check_groups(found, names=("country", "stars")):
    values = {
        "country": np.where(np.arange(ROWS) % 50, COUNTRY, "null"),
        "stars": STARS.astype(str),
    }
    assert list(found["by"]) == list(names)
    for name, groups in found["by"].items():
        assert [group["name"] for group in groups] == sorted(set(values[name]))
        for group in groups:
            assert group["loss"] == pytest.approx(
                LOSSES[values[name] == group["name"]].mean(), 1e-6
            )


@pytest.mark.parametrize("labels", ["all.parquet:y", "labels.npy"])
def test_columns_of_the_same_files_are_groups(evaluate, labels):
    found, said = evaluate(labels, "all.parquet:x", "--by", "country", "--by", "stars")
    check_groups(found)
    assert said == ""


def test_columns_of_other_files_are_groups(evaluate):
    np.save("stars.npy", STARS)
    named = "--by", "all.parquet:country", "--by", "stars.npy"
    found, _ = evaluate("labels.npy", "logits.npy", *named)
    assert [group["name"] for group in found["by"]["stars.npy"]] == list("12345")
    assert len(found["by"]["all.parquet:country"]) == 4


def test_dictionaries_may_differ_from_batch_to_batch(evaluate):
    batches = [table().slice(start, 100) for start in range(0, ROWS, 100)]
    schema = pa.schema(
        [pa.field("c", pa.dictionary(pa.int32(), pa.string())), *table().schema.remove(2)]
    )
    with pa.ipc.new_stream("all.arrow", schema) as stream:
        for batch in batches:
            encoded = batch["country"].combine_chunks().dictionary_encode()
            columns = [encoded, *batch.drop_columns("country").columns]
            stream.write_table(pa.table(columns, schema))
    found, _ = evaluate("all.arrow:y", "all.arrow:x", "--by", "c")
    check_groups({"by": {"country": found["by"]["c"]}}, ["country"])


@pytest.mark.parametrize("keys", [["country"], ["country", "stars"]])
def test_folders_of_a_partitioned_table_are_groups(evaluate, keys):
    dataset = pytest.importorskip("pyarrow.dataset")
    schema = table().select(keys).schema
    parts = dataset.partitioning(schema, flavor="hive")
    dataset.write_dataset(table(), "parts", format="parquet", partitioning=parts)
    found, _ = evaluate("parts:y", "parts:x", *(word for key in keys for word in ("--by", key)))
    check_groups(found, keys)
    assert found["loss"] == pytest.approx(LOSSES.mean(), rel=1e-6)


def test_integers_have_all_their_digits_though_dtypes_differ_from_file_to_file(evaluate):
    Path("parts").mkdir()
    for dtype, least in (("int64", 2**53), ("uint64", 2**63), ("float64", 0.5)):
        ids = np.array([least, least + 1, least], dtype)
        columns = {"y": np.ones(3), "x": np.ones(3), "id": ids}
        parquet.write_table(pa.table(columns), f"parts/{dtype}.parquet")
    found, _ = evaluate("parts:y", "parts:x", "--by", "id")
    names = ["0.5", "1.5", *(str(least + k) for least in (2**53, 2**63) for k in (0, 1))]
    assert [group["name"] for group in found["by"]["id"]] == names
    assert [group["elements"] for group in found["by"]["id"]] == [2, 1] * 3


@pytest.mark.parametrize("beside", [[], ["country"]])
def test_any_name_of_a_column_may_be_given(evaluate, beside):
    names = ["two\nlines", "a,b", "a:b", *beside]
    renamed = table().select(["y", "x", "stars", "stars", "stars", "country"])
    parquet.write_table(renamed.rename_columns(["y", "x", *names[:3], "country"]), "t.parquet")
    found, _ = evaluate("t.parquet:y", "t.parquet:x", *(f"--by={name}" for name in names))
    assert list(found["by"]) == names
    assert [group["name"] for group in found["by"][names[0]]] == list("12345")


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ("planet", "--by planet: no column 'planet'; its columns are y, x, country"),
        ("x", "--by x: a column of fixed_size_list<"),
        ("gone.parquet:x", "--by gone.parquet:x: "),
        ("user", "--by user: there are more than 1,000 different values"),
    ],
)
def test_a_column_that_can_be_no_group_is_refused(capsys, column, words):
    twice = pa.concat_tables([table(), table()])
    users = pa.array([f"user {k}" for k in range(2 * ROWS)])
    parquet.write_table(twice.append_column("user", users), "twice.parquet")
    assert words in refusal(capsys, "twice.parquet:y", "twice.parquet:x", "--by", column)


def test_classes_are_called_as_columns_or_as_a_file_says(evaluate, capsys):
    labels, logits = (f"all.parquet:{c}0,{c}1,{c}2" for c in "yx")
    found, _ = evaluate(labels, logits, "--by-class")
    assert [row["name"] for row in found["by_class"]] == ["x0", "x1", "x2"]
    Path("names.txt").write_text("cat\ndog\ncow\n")
    found, _ = evaluate("labels.npy", "logits.npy", "--by-class", "--class-names", "names.txt")
    assert [row["name"] for row in found["by_class"]] == ["cat", "dog", "cow"]
    Path("names.txt").write_text("cat\n")
    said = refusal(capsys, "labels.npy", "logits.npy", "--by-class", "--class-names", "names.txt")
    assert "there are 1 names, but logits have 3 classes" in said
    said = refusal(capsys, "labels.npy", "logits.npy", "--class-names", "gone.txt")
    assert "--class-names gone.txt: cannot read it (No such file" in said


# ---- Rows ------------------------------------------------------------------------------------


def test_rows_that_are_skipped_have_no_loss_and_keep_their_place(evaluate):
    content = Path("logits.npy").read_bytes()
    Path("logits.npy").write_bytes(content[: -100 * CLASSES * 4])
    given = "labels.npy", "logits.npy", "--per-row", "rows.npy", "--worst", "2"
    found, _ = evaluate(*given, "--on-error", "skip")
    rows = np.load("rows.npy")
    np.testing.assert_allclose(rows[:900], LOSSES[:900].mean(axis=1), rtol=1e-6)
    assert np.isnan(rows[900:]).all()
    worst = np.argsort(-LOSSES[:900].mean(axis=1))[:2]
    assert [row["row"] for row in found["worst"]] == worst.tolist()


def test_a_worst_row_is_told_with_its_file(evaluate):
    Path("parts").mkdir()
    for number, part in enumerate(np.array_split(LOGITS, 4)):
        np.save(f"parts/{number}.npy", part)
    found, _ = evaluate("labels.npy", "parts", "--worst", "5")
    for row in found["worst"]:
        assert row["file"] == f"parts/{row['row'] // 250}.npy"
        assert row["row_in_file"] == row["row"] % 250


def test_a_partial_result_leaves_no_file(capsys):
    pa.csv = pytest.importorskip("pyarrow.csv")
    column = lists(LOGITS).to_pylist()
    column[700] = [None] * CLASSES
    values = pa.array(column, pa.list_(pa.float32()))
    parquet.write_table(pa.table({"x": values}), "null.parquet")
    assert main(["evaluate", "labels.npy", "null.parquet:x", "--per-row", "rows.npy"]) == 1
    assert "warning: rows.npy is not written: it lacks rows" in capsys.readouterr().err
    assert not Path("rows.npy").exists()
    assert not [name for name in os.listdir() if name.startswith(".")]


def test_a_file_that_is_there_is_replaced_as_a_whole(evaluate, capsys):
    Path("rows.npy").write_text("what was there")
    with pytest.raises(SystemExit):
        main(["evaluate", "labels.npy", "logits.npy", "--per-row", "rows.npy", "--by", "gone"])
    assert Path("rows.npy").read_text() == "what was there"
    capsys.readouterr()
    evaluate("labels.npy", "logits.npy", "--per-row", "rows.npy")
    assert np.load("rows.npy").shape == (ROWS,)


# ---- What can be read ------------------------------------------------------------------------


def write_csv(name, columns):
    csv = pytest.importorskip("pyarrow.csv")
    text = io.BytesIO()
    delimiter = "\t" if ".tsv" in name else ","
    csv.write_csv(pa.table(columns), text, csv.WriteOptions(delimiter=delimiter))
    content = gzip.compress(text.getvalue()) if name.endswith(".gz") else text.getvalue()
    Path(name).write_bytes(content)


@pytest.mark.parametrize("name", ["all.csv", "all.csv.gz", "all.tsv", "all.tsv.gz"])
def test_csv_is_read_as_any_table(evaluate, name):
    logits = LOGITS.astype(np.float64)
    # The first numbers are whole.
    logits[:300, 0] = np.round(logits[:300, 0])
    columns = {"x,1": logits[:, 0], "x2": logits[:, 1], "yes": np.where(LABELS[:, 0], "y", "n, no")}
    write_csv(name, columns | {"y2": LABELS[:, 1], "country": COUNTRY, "stars": STARS})
    np.save("labels.npy", LABELS[:, :2])
    found, _ = evaluate("labels.npy", f"{name}:x,1,x2", "--by", "country", "--by", "stars")
    expected = sce.sigmoid_cross_entropy(LABELS[:, :2], logits[:, :2])
    assert found["loss"] == pytest.approx(expected, rel=1e-12)
    assert [group["name"] for group in found["by"]["stars"]] == list("12345")
    assert [group["name"] for group in found["by"]["country"]] == ["DE", "FR", "IT"]
    found, _ = evaluate(f"{name}:yes", f"{name}:x,1", "--positive", "y")
    expected = sce.sigmoid_cross_entropy(LABELS[:, 0], logits[:, 0])
    assert found["loss"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["all.csv", "all.csv.gz"])
def test_csv_may_have_semicolons(evaluate, name):
    text = b"y;x;what\n1;0.5;a, b\n0;-2;c\n"
    Path(name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    found, _ = evaluate(f"{name}:y", f"{name}:x", "--by", "what")
    assert found["loss"] == pytest.approx(sce.sigmoid_cross_entropy([1, 0], [0.5, -2.0]))
    assert [group["name"] for group in found["by"]["what"]] == ["a, b", "c"]


@pytest.mark.parametrize("least", [-(2**63), 2**53, 2**63])
@pytest.mark.parametrize("beside", [[], ["--by", "half"]])
def test_integers_of_csv_that_are_groups_have_all_their_digits(evaluate, least, beside):
    values = [least, least + 1, None]
    # What is missing, and the fraction, come after the block that tells types.
    ids = pa.array(values[:2] * 30_000 + values[2:], pa.uint64() if least > 0 else pa.int64())
    ones = np.ones(len(ids))
    write_csv("ids.csv", {"y": ones, "x": ones, "id": ids, "half": np.append(ones[1:], 0.5)})
    found, _ = evaluate("ids.csv:y", "ids.csv:x", "--by", "id", *beside)
    groups = [(group["name"], group["elements"]) for group in found["by"]["id"]]
    assert groups == [(str(least), 30_000), (str(least + 1), 30_000), ("null", 1)]
    assert not beside or [group["name"] for group in found["by"]["half"]] == ["0.5", "1"]


def test_groups_of_csv_keep_their_leading_zeros(evaluate):
    # The zeros come after the block that tells types.
    ids = ["7"] * 600_000 + ["007", "", "0", "10", "08"]
    Path("ids.csv").write_text("y,x,id,half\n" + "".join(f"1,1,{name},0.5\n" for name in ids))
    found, _ = evaluate("ids.csv:y", "ids.csv:x", "--by", "id", "--by", "half")
    groups = {group["name"]: group["elements"] for group in found["by"]["id"]}
    assert groups == {"7": 600_000} | dict.fromkeys(["007", "null", "0", "10", "08"], 1)
    assert [group["name"] for group in found["by"]["half"]] == ["0.5"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cannot read bad.csv:x (Empty CSV file)"),
        (b"y\n1\n", "cannot read bad.csv:x (no column 'x'; its columns are y)"),
        (b"x,y\n1,0\n1\n", "got 1: 1; each line must have as many fields as the first"),
        ("x,y\n1,0\n".encode("utf-16"), "cannot read bad.csv:x (text in UTF-16: save it in UTF-8)"),
        (b"x,y\n1,0\n,0\nn/k,0\n", "but these are text; row 2 has 'n/k', which is no number)"),
        (b"x;y\n1;0\n0,5;0\n", "but these are text; row 1 has '0,5', which is no number)"),
        (b"x,y\n" + b"1,0\n" * 400_000 + b"one,0\n", "cannot read bad.csv:x (In CSV column #0: "),
    ],
)
def test_csv_that_can_not_be_read_is_refused(capsys, content, words):
    Path("bad.csv").write_bytes(content)
    assert words in refusal(capsys, "labels.npy", "bad.csv:x")


def run(*arguments, **options):
    command = [sys.executable, "-m", "sce_numba", "evaluate", *arguments, "--json"]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, **options)


@pytest.mark.parametrize("form", ["stream", "file", "parquet"])
def test_tables_come_from_standard_input(form):
    text = io.BytesIO()
    if form == "parquet":
        parquet.write_table(table(), text)
    else:
        new = pa.ipc.new_stream if form == "stream" else pa.ipc.new_file
        with new(text, table().schema) as writer:
            writer.write_table(table())
    done = run(
        "-:y", "-:x", "--by", "country", "--by", "stars", "--worst", "1", input=text.getvalue()
    )
    assert (done.returncode, done.stderr) == (0, b"")
    found = json.loads(done.stdout)
    check_groups(found)
    assert found["worst"][0]["file"] == "-:x"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"x,y\n1,2\n", b"cannot read -:y (neither Arrow nor Parquet: what can be piped are"),
        (b"", b"cannot read -:y (neither Arrow nor Parquet"),
        (b"ARROW1\0\0", b"cannot read -:y ("),
        (b"PAR1PAR1", b"cannot read -:y ("),
    ],
)
def test_what_can_not_be_read_from_standard_input_is_refused(content, words):
    done = run("-:y", "-:x", input=content)
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
    assert words in done.stderr


def test_urls_are_read_by_fsspec(evaluate, capsys):
    store = pytest.importorskip("fsspec").filesystem("memory")
    for name in ("all.parquet", "labels.npy", "logits.npy"):
        store.pipe(f"/data/{name}", Path(name).read_bytes())
        store.pipe(f"/data/shards/{name}", Path(name).read_bytes())
    np.savez("both.npz", x=LOGITS)
    store.pipe("/data/both.npz", Path("both.npz").read_bytes())
    try:
        url = "memory://data"
        for pair in (
            (f"{url}/all.parquet:y", f"{url}/all.parquet:x"),
            (f"{url}/labels.npy", f"{url}/both.npz:x"),
            ("labels.npy", f"{url}/logi*.npy"),
            ("labels.npy", f"{url}/shards:x"),
        ):
            assert evaluate(*pair)[0]["loss"] == pytest.approx(LOSSES.mean(), rel=1e-6)
        found, _ = evaluate(*(f"{url}/all.parquet:{c}" for c in "yx"), "--by", "country")
        check_groups(found, ["country"])
        said = refusal(capsys, "labels.npy", f"{url}/gone.npy")
        assert "cannot read memory://data/gone.npy (No such file" in said
        store.pipe("/data/short.npy", Path("logits.npy").read_bytes()[:-4])
        assert "4 bytes are missing" in refusal(capsys, "labels.npy", f"{url}/short.npy")
    finally:
        store.rm("/data", recursive=True)


def test_urls_that_nothing_reads_are_refused(capsys, monkeypatch):
    pytest.importorskip("fsspec")
    assert "cannot read moon://x.npy (" in refusal(capsys, "labels.npy", "moon://x.npy")
    monkeypatch.setitem(sys.modules, "fsspec", None)
    said = refusal(capsys, "labels.npy", "sun://x.npy")
    assert "pip install 'sce_numba[remote]'" in said


def test_a_baseline_is_another_file_of_logits(evaluate, capsys):
    np.save("other.npy", 2 * LOGITS)
    found, _ = evaluate("labels.npy", "logits.npy", "--baseline", "other.npy")
    expected = sce.sigmoid_cross_entropy(LABELS, 2 * LOGITS)
    assert found["baseline"]["loss"] == pytest.approx(float(expected), rel=1e-6)
    assert found["baseline"]["name"] == "other.npy"
    low, high = found["baseline"]["interval"]
    assert low < found["baseline"]["difference"] < high
    assert main(["evaluate", "labels.npy", "logits.npy", "--baseline", "other.npy"]) == 0
    lines = capsys.readouterr().out.splitlines()
    difference = next(line for line in lines if line.startswith("difference"))
    assert difference.split()[2:4] == ["(95%", "interval:"]


# ---- Options that make no sense --------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--per-row", "rows.txt"], "what can be written are .npy, .parquet and .pq files"),
        (["--per-row", "gone/rows.npy"], "cannot write gone/rows.npy (No such file or directory)"),
        (["--per-row", "."], "what can be written are"),
        (["--report", "gone/report.html"], "cannot write gone/report.html (No such file"),
        (["--worst", "-1"], "'-1' is no number of rows from 0 to 100,000"),
        (["--worst", "many"], "'many' is no number of rows"),
        (["--baseline", "labels.npy"], "logits are float"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_reading(capsys, arguments, words):
    pytest.importorskip("matplotlib")
    assert words in refusal(capsys, "labels.npy", "logits.npy", *arguments)


@pytest.mark.parametrize("name", ["labels.npy", "./logits.npy", "W.npy", "names.txt", "link.npy"])
@pytest.mark.parametrize("option", ["--report", "--per-row"])
def test_no_output_takes_the_place_of_an_input(capsys, option, name):
    pytest.importorskip("matplotlib")
    np.save("W.npy", np.ones((1, CLASSES)))
    Path("names.txt").write_text("\n".join("abcd"))
    Path("link.npy").symlink_to("logits.npy")
    before = {path.name: path.read_bytes() for path in Path().iterdir() if path.is_file()}
    given = "--weights", "W.npy", "--class-names", "names.txt"
    said = refusal(capsys, "labels.npy", "logits.npy", *given, option, name)
    assert f"{option} {name}: this file is another argument, too" in said
    assert {p.name: p.read_bytes() for p in Path().iterdir() if p.is_file()} == before


def test_two_outputs_are_two_files(capsys):
    pytest.importorskip("matplotlib")
    outputs = "--per-row", "both.npy", "--report", "./both.npy"
    assert "--report ./both.npy: this file is" in refusal(
        capsys, "labels.npy", "logits.npy", *outputs
    )
    assert not Path("both.npy").exists()


def test_a_page_is_not_called_something_else(capsys):
    pytest.importorskip("matplotlib")
    said = refusal(capsys, "labels.npy", "logits.npy", "--report", "page.pdf")
    assert "--report page.pdf: what can be written is a page of HTML, FILE.html" in said
    assert not Path("page.pdf").exists()


@pytest.mark.parametrize(
    ("name", "reason"),
    [("", "it has no name"), (".", "a folder"), ("pipe.npy", "a pipe or device")],
)
def test_only_files_are_replaced(capsys, name, reason):
    pytest.importorskip("matplotlib")
    os.mkfifo("pipe.npy")
    assert reason in refusal(capsys, "labels.npy", "logits.npy", "--report", name)
    assert Path("pipe.npy").is_fifo()
    if name.endswith(".npy"):
        assert reason in refusal(capsys, "labels.npy", "logits.npy", "--per-row", name)


def test_an_output_keeps_its_link_and_who_may_read_it(capsys):
    Path("store").mkdir()
    Path("rows.npy").symlink_to("store/rows")
    for _ in range(2):
        assert main(["evaluate", "labels.npy", "logits.npy", "--per-row", "rows.npy"]) == 0
        Path("store/rows").chmod(0o600)
    assert Path("rows.npy").is_symlink()
    assert np.load("store/rows").shape == LOGITS.shape[:1]
    assert Path("store/rows").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("option", "name"), [("--report", "page.html"), ("--per-row", "rows.npy")])
def test_a_disk_that_is_full_is_told_of_the_file(option, name):
    resource = pytest.importorskip("resource")
    pytest.importorskip("matplotlib")
    np.save("many.npy", np.zeros(100_000, np.float32))
    done = subprocess.run(
        [sys.executable, "-m", "sce_numba", "evaluate", "many.npy", "many.npy", option, name],
        env=ENVIRONMENT, capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert f"error: cannot write {name} (File too large)" in done.stderr
    assert not Path(name).exists()
    assert not list(Path().glob(".sce*"))


def test_a_report_without_matplotlib_says_what_it_needs(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    said = refusal(capsys, "labels.npy", "logits.npy", "--report", "report.html")
    assert "pip install 'sce_numba[report]'" in said


def test_a_report_is_a_page_with_all_that_was_asked_for(evaluate):
    pytest.importorskip("matplotlib")
    found, said = evaluate(
        "all.parquet:y", "all.parquet:x", "--by", "country", "--worst", "3", "--report", "page.html"
    )
    page = Path("page.html").read_text()
    assert said == ""
    assert page.startswith("<!DOCTYPE html>")
    assert {"calibration", "logits", "course", "worst", "by"} <= found.keys()
    assert len(found["by_class"]) == CLASSES
    assert "country" in page


def test_a_difference_that_is_no_number_is_json(evaluate):
    np.save("nan.npy", np.full_like(LOGITS, np.nan))
    found, _ = evaluate("labels.npy", "logits.npy", "--baseline", "nan.npy")
    assert found["baseline"]["interval"] == ["NaN", "NaN"]


def test_names_can_not_steer_a_terminal(capsys):
    names = ["\x1b[31mred", "two\nlines", "", "\udcff", "é"]
    column = pa.array([names[row % 5] if row % 5 != 3 else "w" for row in range(ROWS)])
    parquet.write_table(
        pa.table({"y": LABELS[:, 0], "x": LOGITS[:, 0], "a\tb": column}), "t.parquet"
    )
    assert main(["evaluate", "t.parquet:y", "t.parquet:x", "--by", "a\tb"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:9].strip() for line in lines[-6:]] == [
        "a�b", "(empty)", "�[31mred", "two�lines", "w", "é",
    ]  # fmt: skip
    assert "�[31m" in refusal(capsys, "t.parquet:\x1b[31m", "logits.npy")


def test_letters_that_standard_output_lacks_are_told_by_number():
    done = subprocess.run(
        [sys.executable, "-m", "sce_numba", "evaluate", "labels.npy", "logits.npy", "--worst", "1"],
        env=ENVIRONMENT | {"PYTHONIOENCODING": "ascii"}, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "worst row" in done.stdout


def test_a_file_like_an_option_is_told_how_to_be_given(capsys):
    np.save("-labels.npy", LABELS)
    said = refusal(capsys, "-labels.npy", "logits.npy")
    assert said.endswith("; a file whose name begins with - is given as ./-labels.npy\n")
    assert main(["evaluate", "./-labels.npy", "logits.npy"]) == 0


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "'' (No such file)"),
        ("x" * 300 + ".npy", ".npy (File name too long)"),
        ("x" * 300 + ".parquet:y", ".parquet:y (File name too long)"),
        ("loop.npy", "loop.npy (Too many levels of symbolic links)"),
        ("logits.npy/x.npy", "logits.npy/x.npy (No such file)"),
    ],
)
def test_a_file_that_can_not_be_come_to_is_told_why(capsys, name, reason):
    Path("loop.npy").symlink_to("loop.npy")
    assert f"cannot read {reason}" in refusal(capsys, name, "logits.npy").replace("x" * 300, "")


def test_a_folder_that_can_not_be_read_is_not_left_out(capsys, monkeypatch):
    Path("parts/closed").mkdir(parents=True)
    np.save("parts/logits-1.npy", LOGITS)
    np.save("parts/closed/logits-2.npy", LOGITS)
    scan = os.scandir

    def closed(path):
        if os.path.basename(path) == "closed":
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", closed)
    said = refusal(capsys, "labels.npy", "parts")
    assert f"cannot read {os.path.join('parts', 'closed')} (Permission denied)" in said


@pytest.mark.parametrize("option", ["--positive", "--ignore-label"])
def test_bool_labels_may_be_named_by_words(evaluate, option):
    by_word, by_number = (
        evaluate("labels.npy", "logits.npy", option, value)[0] for value in ("True", "1")
    )
    assert by_word["loss"] == by_number["loss"]


def test_a_byte_order_mark_is_no_part_of_a_name(evaluate):
    Path("names.txt").write_text("a\nb\nc\n", encoding="utf-8-sig")
    options = "--by-class", "--class-names", "names.txt"
    found, _ = evaluate("labels.npy", "logits.npy", *options)
    assert [row["name"] for row in found["by_class"]] == ["a", "b", "c"]


def test_columns_that_can_not_be_told_apart_are_refused(capsys):
    twice = pa.Table.from_arrays([pa.array([1.0])] * 3, names=["y", "x", "x"])
    parquet.write_table(twice, "twice.parquet")
    said = refusal(capsys, "twice.parquet:y", "twice.parquet:x")
    assert "twice.parquet:x (2 columns are called 'x')" in said


# ---- The program -----------------------------------------------------------------------------


def test_every_command_has_an_example(capsys):
    for command in ([], ["evaluate"], ["compile"], ["versions"]):
        with pytest.raises(SystemExit):
            main([*command, "--help"])
        assert "Example:" in capsys.readouterr().out


def test_a_shell_is_told_what_may_follow(tmp_path):
    pytest.importorskip("argcomplete")
    line = "sce-numba evaluate --by"
    environment = {
        **ENVIRONMENT, "_ARGCOMPLETE": "1", "_ARGCOMPLETE_SHELL": "bash", "_ARGCOMPLETE_IFS": "\n",
        "COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_STDOUT_FILENAME": "told",
    }  # fmt: skip
    subprocess.run([sys.executable, "-m", "sce_numba"], env=environment, check=True)
    assert {"--by", "--by-class"} <= set(Path("told").read_text().split())


def test_settings_are_told_where_they_are_given(capsys):
    given = "--weights", "2", "--label-smoothing", "0.1", "--pos-weight", "3"
    assert main(["evaluate", "labels.npy", "logits.npy", *given]) == 0
    lines = dict(
        line.split(maxsplit=1) if line[:5] != "label" else (line[:21].strip(), line[21:])
        for line in capsys.readouterr().out.splitlines()
    )
    assert lines["weights"] == "2"
    assert lines["label smoothing"] == "0.1"
    assert lines["speed"].split()[1] in ("kB/s,", "MB/s,", "GB/s,")
