"""``evaluate`` leaves out what is missing, and says what can't be meant, in words for files."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

import sce_numba as sce
from sce_numba.__main__ import main
from sce_numba.evaluator import blocks

ROWS, CLASSES = 400, 5


@pytest.fixture(autouse=True)
def files(monkeypatch, tmp_path):
    """Cut blocks so small that these small files have many, and work in an empty folder."""
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 1000)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def data():
    rng = np.random.default_rng(7)
    logits = rng.normal(0, 3, (ROWS, CLASSES))
    np.save("logits.npy", logits)
    labels = (rng.random(logits.shape) < 0.3).astype(np.float64)
    np.save("labels.npy", labels)
    return labels, logits


@pytest.fixture
def missing():
    """Some elements, all of one row, and none of the last class."""
    missing = np.random.default_rng(8).random((ROWS, CLASSES)) < 0.2
    missing[33], missing[:, -1] = True, False
    return missing


@pytest.fixture
def refusal(capsys):
    """Run ``evaluate``, and return the one line in which it refuses."""

    def run(*arguments):
        with pytest.raises(SystemExit) as stopped:
            main(["evaluate", *arguments])
        output = capsys.readouterr()
        assert (stopped.value.code, output.out, output.err.count("\n")) == (2, "", 1)
        return output.err

    return run


def exact(labels, logits, where=True, pos_weight=1.0):
    """Return the mean of the losses that count, from the formula."""
    losses = (1 - labels) * logits + (1 + (pos_weight - 1) * labels) * np.logaddexp(0, -logits)
    return np.mean(losses, where=where)


def save_table(path, columns, **options):
    pa = pytest.importorskip("pyarrow")
    table = pa.table(columns)
    if path.endswith(".parquet"):
        pytest.importorskip("pyarrow.parquet").write_table(table, path, **options)
    else:
        pytest.importorskip("pyarrow.feather").write_feather(table, path, **options)


def rows_with_nulls(array, missing, rows_too=False):
    """Return lists with None, and None instead of a list where all of it is missing."""
    rows = zip(np.where(missing, None, array).tolist(), missing, strict=True)
    return [None if rows_too and gaps.all() else row for row, gaps in rows]


# ---- Missing labels -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "value", "spelling"),
    [
        (np.float32, np.nan, "NaN"),
        (np.float16, np.nan, "nan"),
        (np.float64, -1, "-1"),
        (np.int8, -1, "-1"),
        (np.int64, 2**53 + 1, str(2**53 + 1)),
        (np.uint8, 255, "255.0"),
    ],
)
def test_an_ignored_label_costs_its_element_and_no_other(
    evaluate, data, missing, dtype, value, spelling
):
    labels, logits = data
    marked = labels.astype(dtype)
    marked[missing] = value
    np.save("marked.npy", marked)
    found, said = evaluate("marked.npy", "logits.npy", "--ignore-label", spelling)
    assert found["loss"] == pytest.approx(exact(labels, logits, ~missing), rel=1e-12)
    assert found["elements_ignored"] == missing.sum()
    assert (found["rows_skipped"], found["warnings"], said) == (0, [], "")


def test_several_labels_may_be_ignored(evaluate, data, missing):
    labels, logits = data
    marked = np.where(missing, -1, labels)
    marked[:50][missing[:50]] = np.nan
    np.save("marked.npy", marked)
    both = ["--ignore-label", "-1", "--ignore-label", "NaN"]
    found, _ = evaluate("marked.npy", "logits.npy", *both)
    assert found["loss"] == pytest.approx(exact(labels, logits, ~missing), rel=1e-12)


@pytest.mark.parametrize("rows_too", [False, True])
@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("name", ["all.parquet", "all.arrow"])
def test_a_null_costs_its_element_and_no_other(
    evaluate, data, missing, capsys, name, fixed, rows_too
):
    pa = pytest.importorskip("pyarrow")
    labels, logits = data
    kind = pa.list_(pa.float32(), CLASSES) if fixed else pa.list_(pa.float32())
    column = pa.array(rows_with_nulls(labels, missing, rows_too), kind)
    save_table(name, {"y": column})
    found, _ = evaluate(f"{name}:y", "logits.npy", "--ignore-label", "null")
    assert found["loss"] == pytest.approx(exact(labels, logits, ~missing), rel=1e-12)
    assert (found["elements_ignored"], found["rows_skipped"]) == (missing.sum(), 0)
    with pytest.raises(SystemExit):
        main(["evaluate", f"{name}:y", "logits.npy"])
    said = capsys.readouterr().err
    assert re.search(
        rf"cannot read {name}:y, rows .* values are null; --ignore-label null leaves them out\)",
        said,
    )


@pytest.mark.parametrize("kind", ["bool_", "int8", "float16", "float64", "null"])
def test_rows_of_nulls_may_fill_whole_blocks(evaluate, data, kind):
    pa = pytest.importorskip("pyarrow")
    labels, logits = data
    missing = np.zeros(ROWS, bool)
    missing[100:300] = True
    if kind == "null":
        missing[:] = True
    column = labels[:, 0].astype(getattr(np, kind, bool)).tolist()
    column = [None if gap else value for value, gap in zip(column, missing, strict=True)]
    save_table("all.parquet", {"y": pa.array(column, getattr(pa, kind)())}, row_group_size=150)
    np.save("column.npy", logits[:, 0])
    found, said = evaluate("all.parquet:y", "column.npy", "--ignore-label", "null")
    assert found["elements_ignored"] == missing.sum()
    if kind == "null":
        assert (found["loss"], said) == (
            0,
            "warning: there are no elements: the loss of none is 0\n",
        )
    else:
        expected = exact(labels[:, 0], logits[:, 0], ~missing)
        assert found["loss"] == pytest.approx(expected, rel=1e-12)


def test_lists_that_are_null_throughout_a_row_group_cost_their_elements(evaluate, data):
    pa = pytest.importorskip("pyarrow")
    labels, logits = data
    column = [None if 100 <= row < 300 else given for row, given in enumerate(labels.tolist())]
    save_table("all.parquet", {"y": pa.array(column)}, row_group_size=100)
    found, _ = evaluate("all.parquet:y", "logits.npy", "--ignore-label", "null", "--by-class")
    keep = np.r_[:100, 300:400]
    assert found["loss"] == pytest.approx(exact(labels[keep], logits[keep]), rel=1e-12)
    assert [row["elements"] for row in found["by_class"]] == [200] * CLASSES


def test_nulls_of_logits_may_be_left_out_by_a_mask(evaluate, data, missing):
    pa = pytest.importorskip("pyarrow")
    labels, logits = data
    save_table("all.parquet", {"x": pa.array(rows_with_nulls(logits, missing))})
    np.save("mask.npy", ~missing)
    found, _ = evaluate("labels.npy", "all.parquet:x", "--where", "mask.npy")
    assert found["loss"] == pytest.approx(exact(labels, logits, ~missing), rel=1e-12)


@pytest.mark.parametrize("shape", [(ROWS, CLASSES), (ROWS, 1), (ROWS,), (1, CLASSES)])
def test_a_mask_is_for_elements_rows_or_classes(evaluate, data, shape):
    labels, logits = data
    mask = np.random.default_rng(9).random(shape) < 0.6
    np.save("mask.npy", mask)
    where = np.broadcast_to(mask.reshape(-1, 1) if mask.ndim == 1 else mask, logits.shape)
    found, _ = evaluate("labels.npy", "logits.npy", "--where", "mask.npy")
    assert found["loss"] == pytest.approx(exact(labels, logits, where), rel=1e-12)
    assert found["elements_ignored"] == ROWS * CLASSES - where.sum()


def test_masks_are_paired_by_name_as_labels_are(evaluate, data, missing):
    labels, logits = data
    for role, array in (("y", labels), ("x", logits), ("m", ~missing)):
        Path(role).mkdir()
        for number in (9, 10):
            np.save(f"{role}/{role}-{number}.npy", array[: 200 - number * 10])
    found, _ = evaluate("y", "x", "--where", "m")
    rows = np.r_[:110, :100]
    expected = exact(labels[rows], logits[rows], ~missing[rows])
    assert found["loss"] == pytest.approx(expected, rel=1e-12)


def test_classes_and_ranges_respect_the_mask(evaluate, data, missing):
    labels, logits = data
    np.save("marked.npy", np.where(missing, np.nan, labels))
    np.save("weights.npy", np.arange(1.0, ROWS + 1))
    options = ["--ignore-label", "NaN", "--by-class", "--weights", "weights.npy"]
    found, _ = evaluate("marked.npy", "logits.npy", *options, "--reduction", "none")
    weighted = np.arange(1.0, ROWS + 1)[:, None] * np.logaddexp(
        0, np.where(labels == 1, -logits, logits)
    )
    assert found["loss_min"] == pytest.approx(weighted[~missing].min(), rel=1e-12)
    assert found["loss_mean"] == pytest.approx(weighted[~missing].mean(), rel=1e-12)
    assert found["loss_max"] == pytest.approx(weighted[~missing].max(), rel=1e-12)
    for number, row in enumerate(found["by_class"]):
        keep = ~missing[:, number]
        assert row["elements"] == keep.sum()
        assert row["mean_label"] == pytest.approx(labels[keep, number].mean(), rel=1e-12)
        assert row["loss"] == pytest.approx(weighted[keep, number].mean(), rel=1e-12)


def test_data_without_an_element_are_told(evaluate, data):
    for rows in (ROWS, 0):
        np.save("mask.npy", np.zeros((rows, 1), bool))
        for name, array in zip(("y.npy", "x.npy"), data, strict=True):
            np.save(name, array[:rows])
        found, said = evaluate("y.npy", "x.npy", "--where", "mask.npy", "--reduction", "sum")
        assert found["loss"] == 0
        assert found["warnings"] == ["there are no elements: the loss of none is 0"]
        assert said == "warning: there are no elements: the loss of none is 0\n"
    np.save("mask.npy", np.arange(CLASSES)[None] % 2 == 0)
    found, said = evaluate("labels.npy", "logits.npy", "--where", "mask.npy", "--by-class")
    assert said == "warning: no elements of class 1, 3: the loss of none is 0\n"
    expected = {"class": 1, "name": "1", "loss": 0, "mean_label": "NaN", "elements": 0}
    assert found["by_class"][1] == expected
    np.save("wide.npy", np.ones((3, 2000)))
    np.save("mask.npy", np.arange(2000)[None] == 0)
    _, said = evaluate("wide.npy", "wide.npy", "--where", "mask.npy", "--by-class")
    assert "no elements of class 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 1,989 more: " in said


# ---- The weight of positives ----------------------------------------------------------------

QS = [0.5, 1.0, 2.0, 4.0, 8.0]


@pytest.mark.parametrize("spelling", ["3", "0.5,1,2,4,8", "q.npy", "row.npy", "all.parquet:q"])
def test_positives_may_be_weighted_alike_or_by_class(evaluate, data, spelling):
    labels, logits = data
    np.save("q.npy", QS)
    np.save("row.npy", [QS])
    if ":" in spelling:
        save_table("all.parquet", {"q": QS})
    expected = 3.0 if spelling == "3" else np.array(QS)
    found, _ = evaluate("labels.npy", "logits.npy", "--pos-weight", spelling, "--by-class")
    assert found["loss"] == pytest.approx(exact(labels, logits, True, expected), rel=1e-12)
    for k, (row, own) in enumerate(
        zip(found["by_class"], np.broadcast_to(expected, CLASSES), strict=True)
    ):
        assert row["loss"] == pytest.approx(exact(labels[:, k], logits[:, k], True, own), rel=1e-12)
    greatest, _ = evaluate(
        "labels.npy", "logits.npy", "--pos-weight", spelling, "--reduction", "none"
    )
    losses = sce.sigmoid_cross_entropy(labels, logits, pos_weight=expected, reduction="none")
    assert greatest["loss_max"] == losses.max()


@pytest.mark.parametrize(
    ("spelling", "words"),
    [
        ("1,2", "--pos-weight 1,2: 2 numbers, but logits have 5 classes"),
        ("labels.npy", "one number for each class, but its shape is (400, 5)"),
        ("gone.npy", "cannot read gone.npy (No such file)"),
        (
            "text.npy",
            "pos_weight are bool, integers or floats of at most 64 bits, but these are text",
        ),
    ],
)
def test_other_weights_of_positives_are_refused_by_their_name(refusal, data, spelling, words):
    np.save("text.npy", ["a"])
    assert words in refusal("labels.npy", "logits.npy", "--pos-weight", spelling)


# ---- What can't be meant --------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.float16, np.float32, np.float64, ">f4"])
@pytest.mark.parametrize(
    ("transform", "words"),
    [
        (lambda y: 2 * y - 1, "labels are from -1 to 1, but mean 0 to 1: --positive 1 if -1"),
        (lambda y: y + 1, "labels are from 1 to 2, but mean 0 to 1: --positive 2 if 2 stands"),
        (lambda y: 100 * y, "labels are from 0 to 100, but mean 0 to 1: percentages must"),
        (lambda y: 101 * y, "labels are from 0 to 101, but mean 0 to 1: --ignore-label"),
        (lambda y: y - 3, "labels are from -3 to -2, but mean 0 to 1: --ignore-label"),
    ],
)
def test_labels_that_can_not_be_meant_are_told(evaluate, data, dtype, transform, words):
    labels, _ = data
    # Sorted: in most blocks there is nothing wrong.
    ordered = np.sort(labels, axis=None).reshape(labels.shape)
    for order in (ordered, ordered[::-1]):
        np.save("odd.npy", transform(order).astype(dtype))
        found, said = evaluate("odd.npy", "logits.npy")
        assert said.startswith(f"warning: {words}")
        assert said.count("\n") == 1
        assert found["warnings"] == [said[len("warning: ") : -1]]


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int16, np.float16, np.float32, ">f8"])
def test_labels_in_the_unit_interval_are_taken_without_a_word(evaluate, data, dtype):
    labels, _ = data
    soft = labels * (0.75 if np.dtype(dtype).kind == "f" else 1)
    for array in (soft, -0.0 * soft, 0 * soft + 1):
        np.save("fine.npy", array.astype(dtype))
        found, said = evaluate("fine.npy", "logits.npy")
        assert (found["warnings"], said) == ([], "")


def test_ignored_labels_are_no_reason_for_a_warning(evaluate, data, missing):
    labels, _ = data
    np.save("marked.npy", np.where(missing, 255, labels))
    assert evaluate("marked.npy", "logits.npy", "--ignore-label", "255")[1] == ""
    assert "labels are from 0 to 255" in evaluate("marked.npy", "logits.npy")[1]


def test_nan_labels_are_told_with_what_leaves_them_out(evaluate, data, missing):
    labels, _ = data
    np.save("marked.npy", np.where(missing, np.nan, labels))
    found, said = evaluate("marked.npy", "logits.npy")
    assert found["loss"] == "NaN"
    assert said == (
        f"warning: {missing.sum()} labels are NaN, and so is the loss: --ignore-label NaN leaves "
        "them out\n"
    )


def test_probabilities_in_the_place_of_logits_are_told(evaluate, data):
    _, logits = data
    p = 1 / (1 + np.exp(-logits))
    np.save("p.npy", p)
    _, said = evaluate("labels.npy", "p.npy")
    assert said == (
        f"warning: logits are all from {p.min():g} to {p.max():g}: if they are probabilities p, "
        "their logits are log(p / (1 - p))\n"
    )
    p[-1, -1] = -0.01
    np.save("p.npy", p)
    assert evaluate("labels.npy", "p.npy")[1] == ""
    np.save("zeros.npy", np.zeros_like(p))  # a model before its first step
    assert evaluate("labels.npy", "zeros.npy")[1] == ""


@pytest.mark.parametrize(
    ("values", "positive"),
    [((-1, 1), "1"), ((1, 2), "2"), ((0, 255), "255"), (("no", "yes"), "yes"), ((b"n", b"y"), "y")],
)
def test_one_of_two_values_may_be_named_positive(evaluate, data, values, positive):
    labels, logits = data
    np.save("two.npy", np.where(labels == 1, values[1], values[0]))
    found, said = evaluate("two.npy", "logits.npy", "--positive", positive, "--by-class")
    assert found["loss"] == pytest.approx(exact(labels, logits), rel=1e-12)
    assert found["by_class"][0]["mean_label"] == pytest.approx(labels[:, 0].mean())
    assert said == ""


def test_a_third_value_is_refused_unless_it_is_ignored(evaluate, refusal, data, missing):
    labels, logits = data
    np.save("three.npy", np.where(missing, "unknown", np.where(labels == 1, "yes", "no")))
    said = refusal("three.npy", "logits.npy", "--positive", "yes")
    assert "cannot read three.npy, rows " in said
    assert re.search("beside --positive yes there are (no and unknown|unknown and no); ", said)
    options = ["--positive", "yes", "--ignore-label", "unknown"]
    found, _ = evaluate("three.npy", "logits.npy", *options)
    assert found["loss"] == pytest.approx(exact(labels, logits, ~missing), rel=1e-12)


@pytest.mark.parametrize("category", [False, True])
@pytest.mark.parametrize("name", ["all.parquet", "all.arrow"])
def test_columns_of_text_with_nulls_may_be_labels(evaluate, data, name, category):
    pa = pytest.importorskip("pyarrow")
    labels, logits = data
    missing = np.arange(ROWS) % 7 == 0
    values = np.where(missing, None, np.where(labels[:, 0] == 1, "yes", "no"))
    column = pa.array(values.tolist())
    save_table(name, {"y": column.dictionary_encode() if category else column})
    np.save("column.npy", logits[:, :1])
    options = ["--positive", "yes", "--ignore-label", "null"]
    found, _ = evaluate(f"{name}:y", "column.npy", *options)
    expected = exact(labels[:, 0], logits[:, 0], ~missing)
    assert found["loss"] == pytest.approx(expected, rel=1e-12)
    assert found["labels_dtype"] == "text"


# ---- Who is to blame ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["text.npy", "logits.npy"],
            "cannot read text.npy (labels are bool, integers or floats of at most 64 bits, but "
            "these are text; of text with two values, --positive yes takes 'yes' as 1)",
        ),
        (["all.parquet:text", "logits.npy"], "cannot read all.parquet:text (labels are bool,"),
        (
            ["all.parquet:decimal", "logits.npy"],
            "all.parquet:decimal (a column of decimal128(3, 2); what can be read are columns of "
            "bool, integers, floats and text, and of lists of these: cast it to float64)",
        ),
        (["all.parquet:date", "logits.npy"], "all.parquet:date (a column of date32[day]; what can"),
        (["logits.npy", "int.npy"], "read int.npy (logits are float8_e4m3fn, float8_e5m2, floa"),
        (["logits.npy", "int.npy"], "but these are int64; labels are named before logits)"),
        (["complex.npy", "logits.npy"], "cannot read complex.npy (labels are bool, integers or"),
        (["bytes.npy", "logits.npy"], "cannot read bytes.npy (labels are bool, integers or floats"),
        (["labels.npy", "logits.npy", "--weights", "text.npy"], "cannot read text.npy (weights ar"),
        (["labels.npy", "logits.npy", "--weights", "two.npy"], "cannot read two.npy, rows 0 to 24"),
        (["labels.npy", "logits.npy", "--weights", "row.npy"], "--weights row.npy: its rows have"),
        (
            ["labels.npy", "logits.npy", "--weights", "classes.npy"],
            "weights (5,), but labels (400, 5) in labels.npy; for all rows alike it must have the "
            "shape (1, 5))",
        ),
        (
            ["labels.npy", "logits.npy", "--where", "int.npy"],
            "cannot read int.npy (a mask is bool, true for what counts, but this is int64)",
        ),
        (
            ["two.npy", "logits.npy"],
            "cannot read two.npy, rows 0 to 24 (its rows have the shape (2,), but those of "
            "logits.npy have (5,); labels are not broadcast)",
        ),
        (["labels.npy", "logits.npy", "--positive", "yes"], "labels.npy, rows 0 to 24 (--positive"),
        (["labels.npy", "logits.npy", "--ignore-label", "no"], "--ignore-label no is text, but "),
        (["labels.npy", "logits.npy", "--label-smoothing", "2"], "error: Argument `label_smooth"),
    ],
)
def test_the_file_at_fault_is_named_with_what_is_taken(refusal, data, arguments, words):
    pa = pytest.importorskip("pyarrow")
    labels, _ = data
    text = np.where(labels[:, 0] == 1, "yes", "no")
    np.save("text.npy", text)
    np.save("int.npy", labels.astype(np.int64))
    np.save("complex.npy", labels.astype(complex))
    np.save("bytes.npy", np.zeros((ROWS, CLASSES), "V1"))
    np.save("two.npy", labels[:, :2])
    np.save("row.npy", labels[:1, :2])
    np.save("classes.npy", labels[0])
    columns = {
        "text": text,
        "decimal": pa.array(np.zeros(ROWS, int)).cast(pa.decimal128(19)).cast(pa.decimal128(3, 2)),
        "date": pa.array(np.zeros(ROWS, "M8[D]")),
    }
    save_table("all.parquet", columns)
    assert words in refusal(*arguments)


def test_one_weight_a_row_needs_no_second_axis(evaluate, data):
    labels, logits = data
    weights = np.arange(ROWS) % 3
    np.save("weights.npy", weights)
    found, _ = evaluate("labels.npy", "logits.npy", "--weights", "weights.npy", "--by-class")
    losses = np.logaddexp(0, np.where(labels == 1, -logits, logits)) * weights[:, None]
    assert found["loss"] == pytest.approx(losses[weights > 0].mean(), rel=1e-12)
    for row, expected in zip(found["by_class"], losses[weights > 0].mean(0), strict=True):
        assert row["loss"] == pytest.approx(expected, rel=1e-12)
    np.save("weights.npy", [2.0])
    found, _ = evaluate("labels.npy", "logits.npy", "--weights", "weights.npy")
    assert found["loss"] == pytest.approx(2 * exact(labels, logits), rel=1e-12)


@pytest.mark.parametrize("shapes", [((-1,), (-1, 1)), ((-1, 1), (-1,)), ((-1, 1, 5), (-1, 5, 1))])
def test_a_row_of_one_number_is_that_number(evaluate, data, shapes):
    labels, logits = data
    for name, array, shape in zip(("y.npy", "x.npy"), data, shapes, strict=True):
        np.save(name, array.reshape(shape))
    assert evaluate("y.npy", "x.npy")[0]["loss"] == pytest.approx(exact(labels, logits), rel=1e-12)


@pytest.mark.parametrize("names", ["{}.npy", "{:c}.npy"])
@pytest.mark.parametrize("mistake", ["rows", "dtype", "shape"])
def test_a_mistake_of_many_files_is_told_once_with_their_number(
    data, capsys, evaluate, names, mistake
):
    labels, logits = data
    spoil = {
        "rows": lambda n: logits[: 3 + n % 4],
        "dtype": lambda n: np.zeros((2, CLASSES), np.int32),
        "shape": lambda n: logits[:2, :3],
    }[mistake]
    for folder in ("y", "x"):
        Path(folder).mkdir()
    for number in range(97, 117):
        np.save("y/" + names.format(number), labels[:2])
        np.save("x/" + names.format(number), spoil(number) if number > 97 else logits[:2])
    _, said = evaluate("y", "x", "--on-error", "skip")
    first, last = names.format(98), names.format(116)
    assert re.fullmatch(
        rf"skipped: cannot read x/{first} \(.*\), and 18 more like it, to x/{last}\n", said
    )
    with pytest.raises(SystemExit):
        main(["evaluate", "y", "x"])
    assert capsys.readouterr().err.count("and 18 more like it") == 1


# ---- What is printed ------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1, 1e-300, 5e-324])
def test_columns_of_classes_are_always_apart(capsys, scale):
    classes = np.full((1, 15), 0.41191230822080357)
    np.save("y.npy", np.full((1, 15), -1.2345678e-308))
    np.save("x.npy", classes)
    assert main(["evaluate", "y.npy", "x.npy", "--by-class", f"--weights=-{scale}"]) == 0
    table = capsys.readouterr().out.split("\n\n")[1].splitlines()
    assert {len(line.split()) for line in table[1:]} == {4}
    losses = sce.sigmoid_cross_entropy(np.full(15, -1.2345678e-308), classes[0], reduction="none")
    for number, line in enumerate(table[1:]):
        own, loss, mean, _ = line.split()
        assert (int(own), float(mean)) == (number, pytest.approx(-1.2345678e-308, rel=1e-4))
        assert float(loss) == pytest.approx(-scale * losses[number], rel=1e-12)


@pytest.mark.parametrize(
    "arguments",
    [
        ["gone.npy", "logits.npy"],
        ["int.npy", "int.npy"],
        ["labels.npy", "logits.npy", "--reduction", "average"],
        ["labels.npy"],
        ["labels.npy", "logits.npy", "more.npy"],
    ],
)
def test_an_error_is_json_too(data, capsys, arguments):
    np.save("int.npy", data[0].astype(int))
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", *arguments, "--json"])
    output = capsys.readouterr()
    assert stopped.value.code == 2
    found = json.loads(output.out)
    assert list(found) == ["error"]
    assert output.err.endswith(f": error: {found['error']}\n")


def test_the_files_of_the_examples_are_named(refusal):
    said = refusal("labels.npy", "logits.npy")
    path = re.search(r"that of the examples is (\S+labels\.npy)\)", said)[1]
    assert np.load(path).shape == (450, 16)
