"""Accumulators take named columns of Arrow data, and say in one sentence what can't be read."""

import datetime
import decimal
import sys

import numpy as np
import pandas as pd
import polars as pl
import pytest
from reference import NONE, REDUCTIONS

import sce_numba as sce

pa = pytest.importorskip("pyarrow")

ROWS, CLASSES = 1000, 4
RNG = np.random.default_rng(12)
LOGITS = RNG.normal(0, 3, (ROWS, CLASSES)).astype(np.float32)
LABELS = RNG.random((ROWS, CLASSES)) < 0.3
WEIGHTS = RNG.uniform(0, 2, ROWS)
COUNTS = RNG.random((ROWS, CLASSES)) < 0.8


def lists(array):
    """Return a column of lists of one length, which its type tells."""
    return pa.FixedSizeListArray.from_arrays(pa.array(array.ravel()), array.shape[1])


def of_any_length(column):
    """Return the same lists in a column whose type tells no length."""
    return column.cast(pa.list_(column.type.value_type))


USUAL = {"y": lists(LABELS), "x": lists(LOGITS), "w": pa.array(WEIGHTS), "counts": lists(COUNTS)}


def of_table(table, labels="y", logits="x", reduction="weighted_mean", pos_weight=None, **options):
    loss = sce.LossAccumulator(reduction, 0.1, pos_weight)
    loss.update_arrow(table, labels, logits, **options)
    return loss


def of_arrays(labels, logits, reduction="weighted_mean", pos_weight=None, **options):
    loss = sce.LossAccumulator(reduction, 0.1, pos_weight)
    loss.update(labels, logits, **options)
    return loss


def refusal(data, labels="y", logits="x", **options):
    """Return the kind of error and the words by which data are refused; nothing is added."""
    loss = sce.LossAccumulator()
    with pytest.raises((TypeError, ValueError)) as refused:
        loss.update_arrow(data, labels, logits, **options)
    assert loss.count == 0
    return refused.type, str(refused.value)


def assert_equal(found, expected):
    assert (found.result(), found.count) == (expected.result(), expected.count)


# ---- What is read ---------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", [name for name in REDUCTIONS if name != NONE])
@pytest.mark.parametrize("change", [lambda column: column, of_any_length])
def test_lists_are_rows_and_weights_go_by_row(reduction, change):
    table = pa.table(USUAL | {name: change(USUAL[name]) for name in ("y", "x", "counts")})
    options = {"reduction": reduction, "pos_weight": [1.0, 2.0, 3.0, 4.0]}
    found = of_table(table, weights="w", where="counts", **options)
    arrays = {"weights": WEIGHTS[:, None], "where": COUNTS}
    assert_equal(found, of_arrays(LABELS, LOGITS, **arrays, **options))


def test_columns_are_classes():
    named = {"y": LABELS, "x": LOGITS, "counts": COUNTS, "w": LOGITS**2}
    names = {role: [f"{role}{k}" for k in range(CLASSES)] for role in named}
    table = pa.table({f"{role}{k}": named[role][:, k] for role in named for k in range(CLASSES)})
    found = of_table(table, names["y"], names["x"], weights=names["w"])
    assert_equal(found, of_arrays(LABELS, LOGITS, weights=LOGITS**2))
    found = of_table(table, names["y"], names["x"], weights=0.5, where=names["counts"])
    assert_equal(found, of_arrays(LABELS, LOGITS, weights=0.5, where=COUNTS))
    found = of_table(table, "y2", "x2", weights="w1", where="counts0")
    arrays = {"weights": LOGITS[:, 1] ** 2, "where": COUNTS[:, 0]}
    assert_equal(found, of_arrays(LABELS[:, 2], LOGITS[:, 2], **arrays))


@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.uint64, np.float16, np.float64])
@pytest.mark.parametrize("float_dtype", [np.float16, np.float32, np.float64])
def test_dtypes_are_those_of_the_columns(dtype, float_dtype):
    labels, logits = LABELS[:, 0].astype(dtype), LOGITS[:, 0].astype(float_dtype)
    table = pa.table({"y": labels, "x": logits})
    assert_equal(of_table(table), of_arrays(labels, logits))


def test_a_dictionary_is_read_as_what_it_stands_for():
    table = pa.table({"y": pa.array([1.0, 0.0, 1.0]).dictionary_encode(), "x": [2.0, -1.0, 0.5]})
    assert_equal(of_table(table), of_arrays([1, 0, 1], [2.0, -1.0, 0.5]))


@pytest.mark.parametrize(
    "as_frame",
    [
        lambda table: table,
        lambda table: table.to_reader(max_chunksize=300),
        lambda table: pd.DataFrame({"y": table["y"].to_numpy(), "x": table["x"].to_numpy()}),
        pl.from_arrow,
    ],
)
def test_frames_are_read_batch_by_batch(as_frame):
    table = pa.table({"y": LABELS[:, 0], "x": LOGITS[:, 0].astype(np.float64)})
    found = of_table(as_frame(table))
    assert found.count == ROWS
    assert found.result() == pytest.approx(
        float(of_arrays(LABELS[:, 0], LOGITS[:, 0].astype(np.float64)).result()), rel=1e-15
    )


def test_batches_of_no_rows_add_nothing():
    for column in (USUAL["x"], of_any_length(USUAL["x"])):
        table = pa.table(USUAL | {"x": column})
        nothing = of_table(table.slice(0, 0), weights="w", pos_weight=[1, 2, 3, 4])
        assert (nothing.result(), nothing.count) == (0.0, 0)
        pieces = pa.concat_tables([table.slice(0, 0), table, table.slice(3, 0)])
        assert_equal(of_table(pieces), of_arrays(LABELS, LOGITS))


# ---- Nulls ----------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["y", "x", "w"])
def test_a_null_may_be_where_nothing_counts(role):
    columns = {"y": LABELS[:, 0], "x": LOGITS[:, 0], "w": WEIGHTS, "counts": COUNTS[:, 0]}
    gaps = pa.array(columns[role], mask=~columns["counts"])
    table = pa.table(columns | {role: gaps})
    found = of_table(table, weights="w", where="counts")
    arrays = {"weights": WEIGHTS, "where": COUNTS[:, 0]}
    assert_equal(found, of_arrays(LABELS[:, 0], LOGITS[:, 0], **arrays))


@pytest.mark.parametrize("kind", ["list<item: bool>", "fixed_size_list<item: bool>[4]", "null"])
def test_a_batch_may_be_of_nulls_where_nothing_counts(kind):
    types = {"list<item: bool>": pa.list_(pa.bool_()), "null": pa.null()}
    nulls = pa.nulls(ROWS, types.get(kind, pa.list_(pa.bool_(), CLASSES)))
    none = pa.array(np.zeros(ROWS, bool))
    for columns in ({"y": nulls}, {"x": pa.nulls(ROWS, USUAL["x"].type)}):
        table = pa.table(USUAL | {"counts": none} | columns)
        found = of_table(table, where="counts", pos_weight=[1, 2, 3, 4])
        assert (found.result(), found.count) == (0.0, LOGITS.size)
        error, said = refusal(table)
        assert error is ValueError
        assert "values are null. Fill what is null, or drop its rows" in said
        assert "rows, or leave them out by `where`" in said


def test_nulls_of_unknown_length_add_nothing():
    nulls = {"y": pa.nulls(5, pa.list_(pa.int8())), "x": pa.nulls(5, pa.list_(pa.float32()))}
    table = pa.table(nulls | {"counts": [False] * 5})
    found = of_table(table, where="counts", pos_weight=[1, 2, 3, 4])
    assert (found.result(), found.count) == (0.0, 0)


def test_a_null_among_what_counts_is_refused():
    table = pa.table({"y": [1, None, 0], "x": [0.0, 1.0, 2.0], "counts": [None, True, True]})
    assert refusal(table) == (
        ValueError,
        "Argument `labels`: 1 value is null. Fill what is null, or drop its rows, or leave them "
        "out by `where`, a column of bool.",
    )
    error, said = refusal(table, where="counts")
    assert (error, said) == (
        ValueError,
        "Argument `where`: 1 value is null. Fill what is null, or drop its rows.",
    )


# ---- What is refused ------------------------------------------------------------------------


NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)


@pytest.mark.parametrize(
    ("role", "values", "said"),
    [
        ("labels", ["yes", "no"], "is string. Pass whether it is the positive one."),
        ("labels", pa.array(["a", "b"]).dictionary_encode(), "Pass whether it is the positive one"),
        ("labels", [decimal.Decimal("1.0")] * 2, "is decimal128(2, 1). Cast it to float64."),
        ("labels", [NOW] * 2, "column 'it' is timestamp[us, tz=UTC]."),
        ("labels", [{"values": [1.0]}] * 2, "`pyspark.ml.functions.vector_to_array`"),
        ("logits", [0, 1], "must be floats, or lists of these, but column 'it' is int64."),
        ("logits", [0, 1], "or are labels and logits exchanged?"),
        ("logits", [decimal.Decimal("1.5")] * 2, "is decimal128(2, 1). Cast it to float64."),
        ("weights", ["1", "2"], "column 'it' is string. Cast it to float64."),
        ("where", [1, 0], "must be bool, or lists of these, but column 'it' is int64."),
    ],
)
def test_what_can_not_be_read_is_refused(role, values, said):
    table = pa.table({"y": [1, 0], "x": [0.5, 1.5], "it": values})
    for rows in (2, 0):
        error, found = refusal(table.slice(0, rows), **{role: "it"})
        assert error is TypeError
        assert found.startswith(f"Argument `{role}` must be ")
        assert said in found


@pytest.mark.parametrize("role", ["labels", "logits", "weights", "where"])
def test_a_name_must_be_that_of_one_column(role):
    table = pa.table([[1.0], [1.0], [1.0]], ["y", "x", "x"])
    error, said = refusal(table, **{"logits": "y", role: "z"})
    assert error is ValueError
    assert said == f"Argument `{role}` names 'z', but none of the columns ['y', 'x', 'x'] " + (
        "have that name."
    )
    assert refusal(table)[1].startswith("Argument `logits` names 'x', but 2 of the columns")
    for wrong in ([], [1], 3j):
        error, said = refusal(table, **{"logits": "y", role: wrong})
        assert (error, said.partition(", got")[0]) == (
            TypeError,
            f"Argument `{role}` must be the name of a column, or a list of names",
        )


def test_rows_must_fit_each_other():
    ragged = pa.table({"y": [[1, 0], [1]], "x": [[0.5, 1.0], [1.0, 2.0]], "two": [[1, 2, 3]] * 2})
    error, said = refusal(ragged)
    assert error is ValueError
    assert "its lists have between 1 and 2 values. Pad them to one length" in said
    assert "as many values in a row, got shapes (2, 3) and (2, 2)" in refusal(ragged, "two")[1]
    assert "can not be broadcast" in refusal(ragged, "x", weights="two")[1]


@pytest.mark.parametrize("data", [{"y": [1]}, None, "table", pl.LazyFrame({"y": [1], "x": [1.0]})])
def test_what_is_no_arrow_data_is_refused(data):
    error, said = refusal(data)
    assert error is TypeError
    assert said.startswith("Argument `batch` must be a RecordBatch or Table of Arrow")
    assert ("Pass `.collect()` of it." in said) == isinstance(data, pl.LazyFrame)


def test_a_frame_that_arrow_can_not_read_is_refused():
    error, said = refusal(pd.DataFrame({"y": [1, "a"], "x": [1.0, 2.0]}, dtype=object))
    assert error is ValueError
    assert said.startswith("Argument `batch` can't be read as Arrow data: ")


def test_all_batches_are_added_or_none():
    good, bad = pa.array([1.0, 2.0]), pa.array([None, 2.0])
    table = pa.table({"y": pa.chunked_array([good, bad]), "x": pa.chunked_array([good, good])})
    assert refusal(table)[0] is ValueError


def test_names_of_pos_weight_must_be_in_the_order_of_the_columns():
    table = pa.table({"y": [1, 0], "z": [0, 1], "a": [1.0, 2.0], "b": [3.0, -1.0]})
    named = pd.Series([2.0, 3.0], index=["a", "b"])
    found = of_table(table, ["y", "z"], ["a", "b"], pos_weight=named)
    assert_equal(found, of_table(table, ["y", "z"], ["a", "b"], pos_weight=[2.0, 3.0]))
    with pytest.raises(ValueError, match="columns in different orders"):
        of_table(table, ["z", "y"], ["b", "a"], pos_weight=named)


def test_without_pyarrow_it_says_what_to_install(monkeypatch):
    frame = pl.DataFrame({"y": [1], "x": [1.0]})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"pip install 'sce_numba\[arrow\]'"):
        of_table(frame)
