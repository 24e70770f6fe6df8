"""One pass tells the loss of classes, groups and rows, calibration, and a comparison."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest

import sce_numba as sce
from sce_numba.evaluator import blocks
from sce_numba.evaluator.rows import Formula, Rows
from sce_numba.evaluator.units import with_unit

ROWS, CLASSES = 5000, 4
rng = np.random.default_rng(24)
LOGITS = rng.normal(-0.5, 2.5, (ROWS, CLASSES))
P = 1 / (1 + np.exp(-LOGITS))
LABELS = rng.random(LOGITS.shape) < P
LOSSES = np.logaddexp(0, np.where(LABELS, -LOGITS, LOGITS))
COUNTRY = np.array(["DE", "FR", "IT"])[rng.integers(0, 3, ROWS)]
AGE = rng.uniform(18, 90, ROWS)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Cut blocks so small that all is added up of many."""
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 10_000)


@pytest.fixture(scope="module")
def metrics():
    return pytest.importorskip("sklearn.metrics")


# ---- As scikit-learn has it ------------------------------------------------------------------


def test_classes_have_the_log_loss_of_their_column(metrics):
    found = sce.evaluate(LABELS, LOGITS)
    for column, loss in enumerate(found.classes.loss):
        assert loss == pytest.approx(metrics.log_loss(LABELS[:, column], P[:, column]), rel=1e-12)
    np.testing.assert_allclose(found.classes.mean_label, LABELS.mean(axis=0), rtol=1e-14)
    assert found.loss == pytest.approx(metrics.log_loss(LABELS.ravel(), P.ravel()), rel=1e-12)


def test_groups_have_the_log_loss_of_their_rows(metrics):
    found = sce.evaluate(LABELS, LOGITS, by={"country": COUNTRY}).slices["country"]
    assert found.names == ["DE", "FR", "IT"]
    for name, loss, mean, count in zip(
        found.names, found.loss, found.mean_label, found.elements, strict=True
    ):
        rows = name == COUNTRY
        assert loss == pytest.approx(metrics.log_loss(LABELS[rows].ravel(), P[rows].ravel()))
        assert (mean, count) == (pytest.approx(LABELS[rows].mean()), rows.sum() * CLASSES)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bins_are_those_of_a_calibration_curve(dtype):
    calibration_curve = pytest.importorskip("sklearn.calibration").calibration_curve
    found = sce.evaluate(LABELS, LOGITS.astype(dtype)).calibration
    means, predictions = calibration_curve(LABELS.ravel(), P.ravel(), n_bins=10)
    tolerance = 1e-12 if dtype == np.float64 else 1e-6
    np.testing.assert_allclose(found.mean_label, means, rtol=tolerance)
    np.testing.assert_allclose(found.mean_prediction, predictions, rtol=tolerance)
    np.testing.assert_array_equal(found.elements, np.histogram(P, found.edges)[0])
    weights = found.elements / LABELS.size
    assert found.expected_error == pytest.approx(np.sum(weights * abs(means - predictions)))


# ---- Distributions ---------------------------------------------------------------------------


def test_logits_are_counted_by_label_and_at_an_edge_below_it():
    logits = np.array([[-np.inf, -40, -16, -15.9, -0.1, 0, 0.1, 0.5, 16, 16.1, np.inf, np.nan]])
    labels = np.arange(12)[None] % 2 == 0
    found = sce.evaluate(labels, logits)
    counted = np.sum([found.logits.negatives, found.logits.positives], axis=0)
    assert found.logits.edges[[0, 1, -2, -1]].tolist() == [-np.inf, -16, 16, np.inf]
    places = np.searchsorted(found.logits.edges[1:-1], logits[0, :-1])
    np.testing.assert_array_equal(counted, np.bincount(places, minlength=counted.size))
    np.testing.assert_array_equal(
        found.logits.positives, np.bincount(places, labels[0, :-1], counted.size)
    )
    # NaN is in no bin.
    assert found.calibration.elements.sum() == 11


def test_a_label_between_counts_in_parts_on_both_sides():
    found = sce.evaluate(np.full((1, 3), 0.25), np.zeros((1, 3))).logits
    assert (found.positives.sum(), found.negatives.sum()) == (0.75, 2.25)


def test_what_is_left_out_is_in_no_distribution():
    where = rng.random(LOGITS.shape) < 0.5
    logits = np.where(where, LOGITS, np.nan)
    found = sce.evaluate(LABELS, logits, where=where, by={"country": COUNTRY})
    expected = sce.evaluate(LABELS[where], LOGITS[where])
    np.testing.assert_array_equal(found.calibration.elements, expected.calibration.elements)
    np.testing.assert_array_equal(found.logits.positives, expected.logits.positives)
    assert found.elements_ignored == np.count_nonzero(~where)
    for name, loss in zip(found.slices["country"].names, found.slices["country"].loss, strict=True):
        chosen = where & (name == COUNTRY)[:, None]
        assert loss == pytest.approx(LOSSES[chosen].mean())


def test_sums_are_the_same_in_the_interpreter():
    code = (
        "import numpy as np, sce_numba as sce\n"
        "x = np.linspace(-20, 20, 300, dtype='f4').reshape(100, 3)\n"
        "found = sce.evaluate(x > 1, x, where=x != x[3], by={'k': np.arange(100) % 3})\n"
        "print(found.calibration, found.logits, found.classes, found.slices, found.course)"
    )
    printed = [
        subprocess.run(
            [sys.executable, "-c", f"import os; os.environ['NUMBA_DISABLE_JIT'] = '{off}'\n{code}"],
            capture_output=True, text=True, check=True,
        ).stdout
        for off in (0, 1)
    ]  # fmt: skip
    assert printed[0] == printed[1] != ""


def test_the_course_is_the_loss_of_neighbours():
    course = sce.evaluate(LABELS, LOGITS).course
    assert (course.edges[0], course.edges[-1]) == (0, ROWS)
    for start, stop, loss in zip(course.edges, course.edges[1:], course.loss, strict=False):
        assert loss == pytest.approx(LOSSES[start:stop].mean())


# ---- Sums of rows and classes ----------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("weights", [1.0, 0.5, (..., 1), (1,), ()])
@pytest.mark.parametrize("shape", [(9,), (7, 1), (300, 3), (40, 20), (6, 2, 3), (3, 2500)])
def test_rows_and_classes_have_the_sums_of_their_elements(shape, weights, dtype):
    logits = rng.normal(0, 5, shape).astype(dtype)
    labels, where = rng.random(shape) < 0.3, rng.random(shape) < 0.9
    if isinstance(weights, tuple):
        # Some of them are 0: one for each row, one for all, or one for each element.
        lengths = {(..., 1): (*shape[:-1], 1), (1,): (1,) * len(shape), (): shape}[weights]
        weights = rng.integers(0, 3, lengths) / 2
    for order, reduction in zip("CFFC", list(sce.Reduction)[1:], strict=True):
        formula = Formula(reduction, 0.1, 3.0)
        rows = Rows(formula, labels, np.asarray(logits, order=order), weights, where)
        losses = formula.elements(labels, logits.astype(float), weights, where)
        every = np.broadcast_to(weights, shape) * where
        by = {"weighted_mean": every, "weighted_sum_by_nonzero_weights": every != 0}
        fields = losses, by.get(reduction.value, where), labels & where, where
        inner, outer = tuple(range(1, len(shape))), tuple(range(len(shape) - 1))
        expected = np.stack([field.sum(axis=inner) for field in fields], axis=1)
        tolerance = 1e-6 if dtype != np.float64 else 1e-13
        np.testing.assert_allclose(rows.sums.rows, expected, rtol=tolerance)
        if outer:
            expected = np.stack([field.sum(axis=outer) for field in fields])
            np.testing.assert_allclose(rows.sums.classes.sum(axis=0), expected, rtol=tolerance)


def test_the_sum_of_many_rows_has_all_its_digits():
    labels, logits = np.zeros((100_000, 1)), np.full((100_000, 1), 0.1)
    rows = Rows(Formula(sce.Reduction.SUM, 0.0, None), labels, logits, 1.0, None)
    total = rows.sums.classes.sum(axis=0)[0, 0]
    assert total == pytest.approx(100_000 * np.logaddexp(0, 0.1), rel=2**-51, abs=0)


# ---- Groups of numbers -----------------------------------------------------------------------


def test_few_numbers_are_groups_of_their_own():
    stars = np.round(rng.uniform(-1, 1, ROWS), 1) + 0.0
    found = sce.evaluate(LABELS, LOGITS, by={"stars": stars}).slices["stars"]
    assert found.names == [f"{value:g}" for value in np.unique(stars)]
    for value, loss in zip(np.unique(stars), found.loss, strict=True):
        assert loss == pytest.approx(LOSSES[stars == value].mean())


@pytest.mark.parametrize("order", [np.sort, np.array])
def test_many_numbers_are_ten_ranges_of_about_as_many_rows(order):
    age = order(AGE)
    found = sce.evaluate(LABELS, LOGITS, by={"age": age}).slices["age"]
    assert len(found) == 10
    edges = [float(name.split()[-1]) for name in found.names[:-1]]
    assert found.names[0] == f"below {edges[0]:g}"
    assert found.names[-1] == f"from {edges[-1]:g}"
    places = np.searchsorted(edges, age, "right")
    assert np.all(abs(found.elements / LABELS.size - 0.1) < 0.02)
    for place, loss in enumerate(found.loss):
        assert loss == pytest.approx(LOSSES[places == place].mean())


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("spread", [60, 0.5])
def test_numbers_close_together_are_ranges_wherever_they_lie(sign, spread):
    # As are dates that are written as numbers, and seconds since 1970.
    numbers = sign * 20_240_100.0 + rng.uniform(0, spread, ROWS)
    found = sce.evaluate(LABELS, LOGITS, by={"day": numbers}).slices["day"]
    assert len(found) == 10
    assert np.all(abs(found.elements / LABELS.size - 0.1) < 0.02)
    edges = [float(name.split()[-1]) for name in found.names[:-1]]
    expected = np.quantile(numbers, np.arange(1, 10) / 10)
    np.testing.assert_allclose(edges, expected, rtol=0, atol=0.05 * spread)


def test_numbers_of_any_size_have_their_order():
    numbers = np.sort(rng.normal(size=ROWS) * 10.0 ** rng.integers(-300, 300, ROWS))
    found = sce.evaluate(LABELS, LOGITS, by={"x": numbers}).slices["x"]
    assert found.elements.sum() == LABELS.size
    assert len(found) == 10
    edges = [float(name.split()[-1]) for name in found.names[:-1]]
    assert edges == sorted(edges)


def test_missing_values_are_a_group_of_their_own():
    country = COUNTRY.astype(object)
    country[::7] = None
    age = AGE.copy()
    age[::5] = np.nan
    found = sce.evaluate(LABELS, LOGITS, by={"country": country, "age": age}).slices
    assert found["country"].names == ["DE", "FR", "IT", "null"]
    assert found["country"].loss[-1] == pytest.approx(LOSSES[::7].mean())
    assert found["age"].names[-1] == "NaN"
    assert found["age"].loss[-1] == pytest.approx(LOSSES[::5].mean())


def groups_of(values):
    """Return the groups of rows that have these values, over and over, and how many of each."""
    column = np.ma.concatenate([values] * 10) if isinstance(values, np.ndarray) else values * 10
    rows = len(column)
    found = sce.evaluate(LABELS[:rows, 0], LOGITS[:rows, 0], by={"x": column}).slices["x"]
    return dict(zip(found.names, found.elements.tolist(), strict=True))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["null", None, "a"], {"'null'": 10, "a": 10, "null": 10}),
        (np.ma.masked_array([1, 2, 3], [0, 0, 1]), {"1": 10, "2": 10, "null": 10}),
        (np.array(["2026-01-01", "NaT"], "M8[D]"), {"2026-01-01": 10, "null": 10}),
        (np.array([2**53, 2**53 + 1]), {"9007199254740992": 10, "9007199254740993": 10}),
        (np.array([2**64 - 1, 2**64 - 2], np.uint64), {f"{2**64 - 2}": 10, f"{2**64 - 1}": 10}),
        (np.array([1, 1 + 1e-12]), {"1": 10, "1.0000000000010001": 10}),
        (np.array([1700000000.25, 1700000000.5]), {"1700000000.25": 10, "1700000000.5": 10}),
        (np.array([0.1, -0.0, 0.0], np.float32), {"0": 20, "0.1": 10}),
    ],
)
def test_different_values_are_different_groups(values, expected):
    assert groups_of(values) == expected


def test_what_pandas_calls_missing_is_null():
    pd = pytest.importorskip("pandas")
    values = pd.array([True, None, False] * 10, dtype="boolean").astype(object)
    assert groups_of(list(values[:3])) == {"False": 10, "True": 10, "null": 10}


@pytest.mark.parametrize(
    ("library", "column_of"),
    [
        ("pandas", lambda pd, values: pd.Series(values, dtype="Int64")),
        ("pandas", lambda pd, values: pd.Series(pd.array(values, "Int64")).astype("category")),
        ("polars", lambda pl, values: pl.Series(values)),
        ("pyarrow", lambda pa, values: pa.array(values)),
        ("pyarrow", lambda pa, values: pa.array(values).dictionary_encode()),
        ("pyarrow", lambda pa, values: pa.chunked_array([values]).dictionary_encode()),
    ],
)
def test_integers_stay_integers_beside_what_is_missing(library, column_of):
    column = column_of(pytest.importorskip(library), [2**53, None, 2**53 + 1] * 10)
    found = sce.evaluate(LABELS[:30, 0], LOGITS[:30, 0], by={"id": column}).slices["id"]
    assert found.names == [str(2**53), str(2**53 + 1), "null"]
    assert found.elements.tolist() == [10, 10, 10]


def test_columns_of_groups_come_in_a_frame_and_in_the_order_of_its_rows():
    pd = pytest.importorskip("pandas")
    logits = pd.DataFrame(LOGITS[:4], index=[3, 2, 1, 0])
    columns = pd.DataFrame({"a": list("uvuv")}, index=logits.index)
    assert sce.evaluate(LABELS[:4], logits, by=columns).slices["a"].names == ["u", "v"]
    with pytest.raises(ValueError, match=r"`by\['a'\]` and `logits` have different indexes"):
        sce.evaluate(LABELS[:4], logits, by=columns.sort_index())
    for library in ("polars.DataFrame", "pyarrow.table"):
        module, _, name = library.partition(".")
        frame = getattr(pytest.importorskip(module), name)({"a": list("uvuv")})
        assert sce.evaluate(LABELS[:4], LOGITS[:4], by=frame).slices["a"].names == ["u", "v"]


def test_too_many_groups_are_refused():
    with pytest.raises(ValueError, match="`by` user: there are more than 1,000 different values"):
        sce.evaluate(LABELS, LOGITS, by={"user": np.arange(ROWS).astype(str)})


# ---- Rows ------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", list(sce.Reduction))
def test_each_row_has_its_own_loss(tmp_path, reduction):
    weights = rng.integers(0, 3, LOGITS.shape) / 2
    given = {"weights": weights, "label_smoothing": 0.1, "pos_weight": [1.0, 2.0, 0.5, 3.0]}
    sce.evaluate(LABELS, LOGITS, reduction=reduction, per_row=tmp_path / "rows.npy", **given)
    used = "weighted_sum_over_batch_size" if reduction == sce.Reduction.NONE else reduction
    expected = sce.sigmoid_cross_entropy(LABELS, LOGITS, reduction=used, axis=1, **given)
    np.testing.assert_allclose(np.load(tmp_path / "rows.npy"), expected, rtol=1e-13)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.npy"]


def test_losses_of_rows_are_written_to_parquet(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    sce.evaluate(LABELS, LOGITS, per_row=tmp_path / "rows.parquet")
    found = parquet.read_table(tmp_path / "rows.parquet")["loss"].to_numpy()
    np.testing.assert_allclose(found, LOSSES.mean(axis=1), rtol=1e-12)


def test_the_worst_rows_come_first_and_nan_before_them():
    logits = LOGITS.copy()
    logits[[3, 77]] = np.nan
    found = sce.evaluate(LABELS, logits, worst=20).worst
    order = np.argsort(-np.delete(LOSSES.mean(axis=1), [3, 77]))
    expected = [3, 77, *np.delete(np.arange(ROWS), [3, 77])[order][:18].tolist()]
    assert [row.row for row in found] == expected
    assert found[5].loss == pytest.approx(LOSSES[expected[5]].mean())


def test_of_equal_rows_the_first_are_the_worst():
    found = sce.evaluate(np.zeros((ROWS, 2)), np.ones((ROWS, 2)), worst=3).worst
    assert [row.row for row in found] == [0, 1, 2]


# ---- A baseline ------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [400, ROWS])
def test_the_interval_is_that_of_paired_rows(rows):
    other = LOGITS[:rows] + rng.normal(0, 0.3, (rows, CLASSES))
    labels, logits = LABELS[:rows], LOGITS[:rows]
    found = sce.evaluate(labels, logits, baseline=other).baseline
    theirs = np.logaddexp(0, np.where(labels, -other, other)).mean(axis=1)
    differences = LOSSES[:rows].mean(axis=1) - theirs
    assert found.loss == pytest.approx(theirs.mean())
    assert found.difference == pytest.approx(differences.mean(), rel=1e-9)
    # Of so many rows the mean is normal; the bootstrap is known to a few hundredths.
    half = 1.96 * differences.std() / np.sqrt(rows)
    low, high = np.array(found.interval) - differences.mean()
    assert low == pytest.approx(-half, rel=0.15)
    assert high == pytest.approx(half, rel=0.15)


@pytest.mark.parametrize("reduction", ["weighted_sum", "weighted_mean"])
def test_the_interval_has_the_unit_of_the_loss(reduction):
    weights = rng.uniform(0, 2, (ROWS, 1))
    given = {"weights": weights, "reduction": reduction}
    found = sce.evaluate(LABELS, LOGITS, baseline=LOGITS * 1.5, **given)
    expected = sce.sigmoid_cross_entropy(LABELS, LOGITS * 1.5, **given)
    assert found.baseline.loss == pytest.approx(float(expected))
    low, high = found.baseline.interval
    assert low < found.baseline.difference < high < 0


def test_the_same_model_differs_by_nothing():
    for reduction in ("weighted_sum", "weighted_mean"):
        given = {"weights": rng.uniform(0, 2, (ROWS, 1)), "reduction": reduction}
        found = sce.evaluate(LABELS, LOGITS, baseline=LOGITS, **given).baseline
        assert (found.difference, found.interval, found.equal) == (0, (0, 0), ROWS)
        assert not found.rows.any()
    logits = LOGITS.astype(np.float32)
    for by_class in (True, False):
        found = sce.evaluate(LABELS, logits, baseline=logits, by_class=by_class).baseline
        assert (found.difference, found.interval) == (0, (0, 0))


@pytest.mark.parametrize("size", [1e-6, 0.3, 100.0])
def test_rows_are_counted_by_their_differences_of_whatever_size(size):
    other = LOGITS + rng.normal(0, size, LOGITS.shape)
    other[0], other[1] = LOGITS[0], 1e9
    theirs = np.logaddexp(0, np.where(LABELS, -other, other)).mean(axis=1)
    differences = LOSSES.mean(axis=1) - theirs
    found = sce.evaluate(LABELS, LOGITS, baseline=other).baseline
    edges = found.edges
    assert {edges[0], edges[-1], 0.0} <= set(-edges)
    assert len(found.rows) == 22
    # Of one that is near to an edge the last digit matters; the first row is in no bin.
    expected = np.histogram(np.delete(differences, 0), edges)[0]
    assert abs(found.rows - expected).sum() <= 2
    assert (found.equal, found.rows.sum()) == (1, ROWS - 1)
    # Few are beyond, and the bins are of one width.
    assert found.rows[[0, -1]].sum() <= 0.01 * ROWS
    np.testing.assert_allclose(np.diff(edges[1:-1]), edges[-2] / 10, rtol=0.2)


def test_rows_that_have_no_loss_are_in_no_bin():
    logits = LOGITS.copy()
    logits[3] = np.nan
    where = np.arange(ROWS)[:, None] % 5 > 0
    found = sce.evaluate(LABELS, logits, baseline=2 * logits, where=where).baseline
    assert found.rows.sum() + found.equal == ROWS * 4 // 5 - 1


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float8_e5m2"])
def test_a_mask_costs_small_floats_no_digits(name):
    logits = LOGITS[:600].astype(getattr(pytest.importorskip("ml_dtypes"), name, name))
    exact = np.logaddexp(0, np.where(LABELS[:600], -1, 1) * logits.astype(np.float64))
    given = {"by": {"country": COUNTRY[:600]}, "reduction": "none", "baseline": logits, "worst": 1}
    found = sce.evaluate(LABELS[:600], logits, where=np.ones(exact.shape, bool), **given)
    groups = [exact[COUNTRY[:600] == country].mean() for country in ["DE", "FR", "IT"]]
    np.testing.assert_allclose(found.slices["country"].loss, groups, rtol=1e-6)
    assert found.worst[0].loss == pytest.approx(exact.mean(axis=1).max(), rel=1e-6)
    assert (found.least, found.greatest) == pytest.approx((exact.min(), exact.max()), rel=1e-6)


# ---- What it takes and returns ---------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (7,), (0, 3), (6, 2, 3)])
def test_arrays_of_any_rank_are_evaluated(shape):
    logits = np.random.default_rng(1).normal(size=shape)
    found = sce.evaluate(logits > 0.5, logits, worst=1, baseline=logits)
    assert found.shape == shape
    assert found.loss == pytest.approx(float(sce.sigmoid_cross_entropy(logits > 0.5, logits)))


def test_frames_name_their_classes():
    pandas = pytest.importorskip("pandas")
    names = ["cat", "dog", "cow", "pig"]
    frame = pandas.DataFrame(LOGITS, columns=names)
    found = sce.evaluate(LABELS, frame, by={"country": pandas.Series(COUNTRY, dtype="category")})
    assert list(found.classes.names) == names
    table = found.to_pandas()
    assert table.loc[("class", "dog"), "loss"] == pytest.approx(LOSSES[:, 1].mean())
    rows = COUNTRY == "FR"
    assert table.loc[("country", "FR"), "loss"] == pytest.approx(LOSSES[rows].mean())


def test_a_frame_without_pandas_says_what_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        sce.evaluate(LABELS, LOGITS).to_pandas()


def test_a_result_is_plain_data():
    found = sce.evaluate(LABELS, LOGITS, by={"age": AGE}, worst=2, baseline=LOGITS)
    told = json.loads(json.dumps(found.to_dict()))
    assert told["loss"] == found.loss
    assert told["denominator"] == LABELS.size
    assert told["settings"]["reduction"] == told["reduction"]
    assert told["settings"]["version"] == sce.__version__
    assert [row["name"] for row in told["by"]["age"]] == found.slices["age"].names
    assert told["worst"][0]["row"] == found.worst[0].row
    assert sum(told["baseline"]["rows"]) + told["baseline"]["equal"] == ROWS
    assert len(told["course"]["loss"]) == len(told["course"]["edges"]) - 1


def test_labels_of_two_values_and_missing_ones():
    text = np.where(LABELS, "yes", "no").astype("U7")
    text[:, 0] = "unknown"
    found = sce.evaluate(text, LOGITS, positive="yes", ignore_label="unknown")
    assert found.loss == pytest.approx(LOSSES[:, 1:].mean())
    for values in ([0, -1], np.array([0, -1]), {0, -1}):
        found = sce.evaluate(np.where(LABELS, 1, 0), LOGITS, ignore_label=values)
        assert found.elements_ignored == np.count_nonzero(~LABELS)
    numbers = np.where(LABELS, 1, -1)
    found = sce.evaluate(numbers, LOGITS)
    assert found.warnings[0].startswith("labels are from -1 to 1, but mean 0 to 1: `positive` 1")
    assert sce.evaluate(numbers, LOGITS, positive=1).loss == pytest.approx(LOSSES.mean())


def test_labels_of_text_may_be_objects_and_missing():
    texts = np.where(LABELS, "yes", "no").astype(object)
    assert sce.evaluate(texts, LOGITS, positive="yes").loss == pytest.approx(LOSSES.mean())
    texts[7] = None, np.nan, "no", "yes"
    found = sce.evaluate(texts, LOGITS, positive="yes", ignore_label=None)
    assert found.elements_ignored == 2
    with pytest.raises(ValueError, match="2 values are null; `ignore_label` null leaves them out"):
        sce.evaluate(texts, LOGITS, positive="yes")


def test_a_loss_that_is_nan_is_told_of():
    logits = np.where(np.arange(ROWS)[:, None] == 7, np.nan, LOGITS)
    assert "`worst` 1 names such a row" in sce.evaluate(LABELS, logits).warnings[0]
    kept = sce.evaluate(LABELS, logits, where=~np.isnan(logits))
    assert kept.warnings == []


@pytest.mark.filterwarnings("error")
def test_a_page_without_rows_has_no_bars():
    pytest.importorskip("matplotlib")
    nothing = {"by": {"x": []}, "baseline": LOGITS[:0], "worst": 3}
    assert "</html>" in sce.evaluate(LABELS[:0], LOGITS[:0], **nothing).to_html()


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"logits": LOGITS[:, :2]}, ValueError, "must have the same shape"),
        ({"logits": LABELS}, TypeError, "Argument `logits` must be float"),
        ({"weights": np.ones(ROWS)}, ValueError, "weights can not be broadcast to values"),
        ({"where": np.ones((ROWS, 2), bool)}, ValueError, "`where` of shape"),
        ({"pos_weight": np.ones((2, 2))}, ValueError, "`pos_weight` must be a number, or one"),
        ({"pos_weight": [1.0, 2.0]}, ValueError, "`pos_weight`.* 2 numbers, but logits have 4"),
        ({"label_smoothing": 2}, ValueError, "`label_smoothing`"),
        ({"reduction": "average"}, ValueError, "average"),
        ({"baseline": LOGITS[:3]}, ValueError, "`baseline` must have the shape of logits"),
        ({"by": {"x": LOGITS}}, ValueError, "`by` must have one value for each row, of the shape"),
        ({"by": {"x": AGE[:-1]}}, ValueError, "got 'x' of the shape"),
        ({"by": AGE}, TypeError, "`by` must be a mapping of names to values.* got ndarray"),
        ({"by": [AGE]}, TypeError, "`by` must be a mapping of names to values.* got list"),
        ({"by": "age"}, ValueError, "beside arrays, give the values: {'age': values}"),
        ({"by": {"x": AGE + 1j}}, TypeError, "`by` must have text, numbers.* 'x' of complex128"),
        ({"by": {"x": [[1], [2, 3]]}}, ValueError, "`by` can't be read as an array: 'x'"),
        ({"worst": -1}, ValueError, "`worst` must be a number of rows, got -1"),
        ({"class_names": ["a"]}, ValueError, "`class_names`: there are 1 names"),
        ({"class_names": []}, ValueError, "`class_names`: there are 0 names"),
        ({"per_row": "rows.txt"}, ValueError, "`per_row` rows.txt: what can be written are"),
        ({"per_row": "gone/rows.npy"}, ValueError, "cannot write gone/rows.npy"),
        ({"on_error": "go"}, ValueError, "`on_error` must be 'stop' or 'skip', got 'go'"),
        ({"labels": "gone.npy"}, ValueError, "cannot read gone.npy"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(arguments, error, words):
    with pytest.raises(error, match=words):
        sce.evaluate(**{"labels": LABELS, "logits": LOGITS, **arguments})


def test_names_of_files_are_no_options(tmp_path):
    name = str(tmp_path / "a--by --by.npy")
    with pytest.raises(ValueError, match=re.escape(f"cannot read {name} (No such file")):
        sce.evaluate(LABELS, name)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(777e6, "777 MB/s"), (1.5, "1.5 B/s"), (999.9, "1 kB/s"), (0, "0 B/s"), (2e-5, "20 µB/s")],
)
def test_measured_numbers_have_three_digits_and_a_unit(value, shown):
    assert with_unit(value, "B/s") == shown
