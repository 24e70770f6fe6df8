"""Arrays, columns and tensors of other libraries are read as they are, where possible in place."""

import pickle

import numpy as np
import pytest
from reference import BFLOAT16, NONE

import sce_numba as sce
from sce_numba.arguments import as_array, as_floats

ROWS, COLUMNS = 60, 4
RNG = np.random.default_rng(61)
LABELS = RNG.random((ROWS, COLUMNS)) < 0.4
LOGITS = RNG.normal(0, 3, (ROWS, COLUMNS)).astype(np.float32)
WEIGHTS = RNG.random(ROWS)


def address(array):
    return array.__array_interface__["data"][0]


def expected(column=slice(None), **options):
    return sce.sigmoid_cross_entropy(LABELS[:, column], LOGITS[:, column], **options)


# ---- pandas, polars, Arrow ------------------------------------------------------------------


@pytest.mark.parametrize("logits", ["float32", "Float32", "float[pyarrow]"])
@pytest.mark.parametrize("labels", ["bool", "boolean", "bool[pyarrow]", "int8", "Int64"])
def test_columns_and_frames_of_pandas(logits, labels):
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    scores, truth = pd.DataFrame(LOGITS).astype(logits), pd.DataFrame(LABELS).astype(labels)
    loss = sce.sigmoid_cross_entropy(truth[0], scores[0], pd.Series(WEIGHTS))
    assert loss == expected(0, weights=WEIGHTS)
    assert loss.dtype == np.float32
    assert sce.sigmoid_cross_entropy(truth, scores) == expected()
    losses = sce.sigmoid_cross_entropy_with_logits(labels=truth[1], logits=scores[1])
    np.testing.assert_array_equal(losses, expected(1, reduction=NONE))


@pytest.mark.parametrize("dtype", ["float32", "Float32", "float[pyarrow]"])
def test_a_column_of_pandas_is_not_copied(dtype):
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    column = pd.Series(LOGITS[:, 0].copy()).astype(dtype)
    memory = {
        "float32": lambda: address(column.to_numpy()),
        "Float32": lambda: address(column.array._data),
        "float[pyarrow]": lambda: column.array.__arrow_array__().chunk(0).buffers()[1].address,
    }[dtype]
    assert address(as_floats(column, "logits")) == memory()


@pytest.mark.parametrize("dtype", ["Float32", "float[pyarrow]", "Int64", "boolean"])
def test_missing_values_of_pandas_are_refused(dtype):
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    column = pd.Series([1, None, 0, None], dtype=dtype)
    said = "Argument `labels` can't be read as an array: 2 values are missing"
    logits = np.zeros(4)
    with pytest.raises(ValueError, match=said):
        sce.sigmoid_cross_entropy_with_logits(labels=column, logits=logits)
    frame = pd.DataFrame({"whole": column.bfill().ffill(), "parted": column})
    with pytest.raises(ValueError, match=r"`weights` .* 2 values are missing"):
        sce.sigmoid_cross_entropy(np.ones((4, 2)), np.zeros((4, 2)), frame)


def test_nan_of_pandas_is_a_number_like_any_other():
    pd = pytest.importorskip("pandas")
    column = pd.Series([0.0, np.nan])
    assert np.isnan(sce.sigmoid_cross_entropy([1, 1], column))
    assert sce.sigmoid_cross_entropy([1, 1], column, where=~column.isna()) == pytest.approx(
        np.log(2)
    )


def test_text_of_pandas_is_refused_by_name():
    pd = pytest.importorskip("pandas")
    with pytest.raises(TypeError, match="Argument `multi_class_labels` must be bool, integer"):
        sce.sigmoid_cross_entropy(pd.Series(["yes", "no"]), np.zeros(2))
    with pytest.raises(TypeError, match="Argument `multi_class_labels` must be bool, integer"):
        sce.sigmoid_cross_entropy(pd.Series(["yes", "no"], dtype="category"), np.zeros(2))


def test_columns_and_frames_of_polars():
    pl = pytest.importorskip("polars")
    scores = pl.DataFrame({f"s{k}": LOGITS[:, k] for k in range(COLUMNS)})
    truth = pl.DataFrame({f"t{k}": LABELS[:, k] for k in range(COLUMNS)})
    assert sce.sigmoid_cross_entropy(truth, scores) == expected()
    loss = sce.sigmoid_cross_entropy(truth["t0"], scores["s0"], pl.Series(WEIGHTS))
    assert loss == expected(0, weights=WEIGHTS)
    view = scores["s0"].to_numpy(allow_copy=False)
    assert address(as_floats(scores["s0"], "logits")) == address(view)


def test_missing_values_of_polars_and_arrow_are_refused():
    pl, pa = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    for given in (
        pl.Series([1.0, None]),
        pl.Series([True, None]),
        pl.DataFrame({"a": [1.0, None]}),
        pa.array([1, None]),
        pa.chunked_array([[1.0], [None]]),
        pa.table({"a": [1.0, None]}),
    ):
        with pytest.raises(ValueError, match=r"Argument `logits` .*: 1 value is missing"):
            sce.sigmoid_cross_entropy([1, 0], given)


def test_arrays_of_arrow():
    pa = pytest.importorskip("pyarrow")
    loss = sce.sigmoid_cross_entropy(pa.array(LABELS[:, 0]), pa.array(LOGITS[:, 0]))
    assert loss == expected(0)
    array = pa.array(LOGITS[:, 0])
    assert address(as_floats(array, "logits")) == array.buffers()[1].address
    table = pa.table({f"s{k}": LOGITS[:, k] for k in range(COLUMNS)})
    assert sce.sigmoid_cross_entropy(LABELS, table) == expected()


# ---- xarray ---------------------------------------------------------------------------------


@pytest.fixture
def labelled():
    """Return logits, labels with their axes swapped, and weights of one dimension."""
    xr = pytest.importorskip("xarray")
    coords = {"time": np.arange(ROWS) * 0.5, "kind": list("abcd")}
    logits = xr.DataArray(LOGITS, coords, ("time", "kind"), name="logits")
    labels = xr.DataArray(LABELS, coords, ("time", "kind")).transpose("kind", "time")
    return logits, labels, xr.DataArray(WEIGHTS, {"time": coords["time"]}, ("time",))


def of_every_element(labels, logits, weights, pos_weight):
    both = sce.sigmoid_cross_entropy_value_and_grad(labels, logits, weights, reduction=NONE)
    return [
        sce.sigmoid_cross_entropy(labels, logits, weights, reduction=NONE),
        *both,
        sce.sigmoid_cross_entropy_value_and_grad(labels, logits, weights)[1],
        *sce.sigmoid_cross_entropy_gradient_hessian(labels, logits, weights),
        sce.sigmoid_cross_entropy_gradient(labels, logits),
        sce.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits),
        sce.weighted_cross_entropy_with_logits(labels, logits, pos_weight),
        sce.compute_weighted_loss(logits, weights, reduction=NONE),
    ]


def test_xarray_gets_back_its_dimensions_and_coordinates(labelled):
    logits, labels, weights = labelled
    pos_weight = logits.isel(time=0, drop=True) ** 2
    values = pos_weight.values
    found = of_every_element(labels, logits, weights, pos_weight)
    plain = of_every_element(LABELS, LOGITS, WEIGHTS[:, None], values)
    for result, value in zip(found, plain, strict=True):
        assert type(result) is type(logits)
        assert result.dims == logits.dims
        assert result.coords.equals(logits.coords)
        assert result.dtype == value.dtype
        np.testing.assert_array_equal(result.values, value)


def test_xarray_is_reduced_to_a_scalar(labelled):
    logits, labels, weights = labelled
    options = {"reduction": "weighted_mean"}
    loss = sce.sigmoid_cross_entropy(labels, logits, weights, **options)
    assert loss == expected(weights=WEIGHTS[:, None], **options)
    assert isinstance(loss, np.float32)
    # By position, where the logits have no names.
    assert sce.sigmoid_cross_entropy(labels.T, LOGITS) == expected()
    assert sce.sigmoid_cross_entropy(LABELS, logits) == expected()


def test_xarray_backed_by_dask_stays_lazy(labelled):
    da = pytest.importorskip("dask.array")
    logits, labels, weights = labelled
    lazy = logits.chunk(time=7), labels.chunk(time=20, kind=3), weights
    losses = sce.sigmoid_cross_entropy(lazy[1], lazy[0], weights, reduction=NONE)
    assert isinstance(losses.data, da.Array)
    assert losses.dims == logits.dims
    np.testing.assert_array_equal(losses.values, expected(weights=WEIGHTS[:, None], reduction=NONE))
    loss = sce.sigmoid_cross_entropy(lazy[1], lazy[0], weights)
    assert isinstance(loss, da.Array)
    assert loss.compute() == pytest.approx(expected(weights=WEIGHTS[:, None]), rel=2e-7)


def test_xarray_that_does_not_fit_is_refused_by_name(labelled):
    logits, labels, weights = labelled
    with pytest.raises(ValueError, match="`multi_class_labels` can't be aligned"):
        sce.sigmoid_cross_entropy(labels.isel(time=slice(1, None)), logits)
    with pytest.raises(ValueError, match="`weights` can't be aligned"):
        sce.sigmoid_cross_entropy(labels, logits, weights.assign_coords(time=np.arange(ROWS)))
    with pytest.raises(ValueError, match=r"`weights` has dimensions .*: \['day'\]"):
        sce.sigmoid_cross_entropy(labels, logits, weights.rename(time="day"))
    with pytest.raises(ValueError, match="must have the same shape"):
        sce.sigmoid_cross_entropy(labels.isel(kind=0, drop=True), logits)


def test_what_is_collected_has_its_names(labelled):
    logits, labels, _ = labelled
    with sce.collect_losses():
        sce.sigmoid_cross_entropy(labels, logits, reduction=NONE, loss_collection="elements")
        losses = sce.get_losses(loss_collection="elements")
    assert len(losses) == 1
    assert losses[0].dims == logits.dims


def test_accumulators_take_axes_by_their_names(labelled):
    logits, labels, weights = labelled
    pos_weight = logits.isel(time=0, drop=True) ** 2
    options = {"weights": weights, "where": (logits > -3).transpose("kind", "time")}
    names = sce.LossAccumulator("weighted_mean", pos_weight=pos_weight)
    for rows in (slice(0, 25), slice(25, None)):
        names.update(
            labels.isel(time=rows),
            logits.isel(time=rows),
            **{name: given.isel(time=rows) for name, given in options.items()},
        )
    loss = sce.sigmoid_cross_entropy(
        labels, logits, pos_weight=pos_weight, reduction="weighted_mean", **options
    )
    assert np.float32(names.result()) == pytest.approx(loss, rel=2e-7)
    # As many columns as rows, so that no shape tells what is transposed.
    square = {"time": slice(0, COLUMNS)}
    found, places = sce.LossAccumulator(), sce.LossAccumulator()
    found.update(labels.isel(square), logits.isel(square))
    places.update(LABELS[:COLUMNS], LOGITS[:COLUMNS])
    assert found.result() == places.result()


def test_accumulators_take_arrays_without_names_by_position(labelled):
    logits, labels, _ = labelled
    found, places = sce.LossAccumulator(), sce.LossAccumulator()
    places.update(LABELS, LOGITS)
    found.update(labels.T, LOGITS)
    assert found.result() == places.result()
    found.reset()
    found.update(LABELS, logits)
    assert found.result() == places.result()


def test_accumulators_refuse_by_name_what_cannot_be_aligned(labelled):
    logits, labels, weights = labelled
    loss = sce.LossAccumulator()
    shifted = {"time": np.arange(ROWS)}
    with pytest.raises(ValueError, match="`labels` can't be aligned"):
        loss.update(labels.assign_coords(shifted), logits)
    with pytest.raises(ValueError, match="`weights` can't be aligned"):
        loss.update(labels, logits, weights.assign_coords(shifted))
    with pytest.raises(ValueError, match=r"`where` has dimensions .*: \['day'\]"):
        loss.update(labels, logits, where=(weights > 0.5).rename(time="day"))
    weighed = sce.LossAccumulator(pos_weight=weights.assign_coords(shifted))
    with pytest.raises(ValueError, match="`pos_weight` can't be aligned"):
        weighed.update(labels, logits)
    assert loss.count == weighed.count == 0


def test_a_pos_weight_with_names_is_kept_with_them(labelled):
    _, _, weights = labelled
    given = weights.copy(deep=True)
    first = sce.LossAccumulator(pos_weight=given)
    given[0] = 100.0
    sent = pickle.loads(pickle.dumps(first))
    sent.merge(sce.LossAccumulator(pos_weight=weights))
    for other in (weights.rename(time="day"), weights.values, None):
        with pytest.raises(ValueError, match="must have the same pos_weight"):
            sent.merge(sce.LossAccumulator(pos_weight=other))


def test_accumulators_compute_dask_arrays(labelled):
    da = pytest.importorskip("dask.array")
    logits, labels, weights = labelled
    found, places = sce.LossAccumulator(), sce.LossAccumulator()
    places.update(LABELS, LOGITS, WEIGHTS[:, None])
    found.update(labels.chunk(time=20), logits.chunk(time=7), weights.chunk(time=5))
    assert found.result() == places.result()
    found.reset()
    found.update(da.from_array(LABELS), da.from_array(LOGITS), WEIGHTS[:, None])
    assert found.result() == places.result()


def test_variables_go_by_the_names_of_their_axes(labelled):
    logits, labels, weights = (given.variable for given in labelled)
    square = {"time": slice(0, COLUMNS)}
    found, places = sce.LossAccumulator(), sce.LossAccumulator()
    found.update(labels.isel(square), logits.isel(square), weights.isel(square))
    places.update(LABELS[:COLUMNS], LOGITS[:COLUMNS], WEIGHTS[:COLUMNS, None])
    assert found.result() == places.result()
    with pytest.raises(ValueError, match=r"`labels` has dimensions .*: \['x'\]"):
        found.update(type(labels)(("time", "x"), LABELS), logits)
    # Beside a DataArray, whose coordinates the result gets.
    losses = sce.sigmoid_cross_entropy(labels, labelled[0], weights, reduction=NONE)
    np.testing.assert_array_equal(losses.values, expected(weights=WEIGHTS[:, None], reduction=NONE))
    assert losses.coords.equals(labelled[0].coords)


def test_losses_of_variables_are_variables(labelled):
    logits, labels, weights = (given.variable for given in labelled)
    pos_weight = logits.isel(time=0) ** 2
    found = of_every_element(labels, logits, weights, pos_weight)
    plain = of_every_element(LABELS, LOGITS, WEIGHTS[:, None], pos_weight.values)
    for result, value in zip(found, plain, strict=True):
        assert type(result) is type(logits)
        assert result.dims == logits.dims
        np.testing.assert_array_equal(result.values, value)
    loss = sce.sigmoid_cross_entropy(labels, logits, weights)
    assert loss == expected(weights=WEIGHTS[:, None])
    assert isinstance(loss, np.float32)


def test_variables_of_other_axes_are_refused_by_name(labelled):
    logits, labels, weights = (given.variable for given in labelled)
    with pytest.raises(ValueError, match=r"`weights` has dimensions .*: \['day'\]"):
        sce.sigmoid_cross_entropy(labels, logits, type(weights)("day", WEIGHTS))
    with pytest.raises(ValueError, match=r"`pos_weight` has dimensions .*: \['day'\]"):
        sce.weighted_cross_entropy_with_logits(labels, logits, type(weights)("day", WEIGHTS))


# ---- Tensors --------------------------------------------------------------------------------


def test_tensors_of_pytorch_are_read_in_place():
    torch = pytest.importorskip("torch")
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        logits = torch.from_numpy(LOGITS).to(dtype)
        array = as_floats(logits, "logits")
        assert address(array) == logits.data_ptr()
        assert array.dtype.name == str(dtype).removeprefix("torch.")
        np.testing.assert_array_equal(array.astype(np.float64), logits.double().numpy())
        strided = as_floats(logits.t()[::2], "logits")
        assert address(strided) == logits.data_ptr()
        np.testing.assert_array_equal(strided, array.T[::2])
    labels = torch.from_numpy(LABELS)
    assert address(as_array(labels, "labels")) == labels.data_ptr()
    assert sce.sigmoid_cross_entropy(labels, torch.from_numpy(LOGITS)) == expected()


def test_tensors_whose_gradient_would_be_lost_are_refused():
    torch = pytest.importorskip("torch")
    logits = torch.zeros(3, requires_grad=True)
    with pytest.raises(ValueError, match=r"`logits` .*`sce_numba.torch.sigmoid_cross_entropy`"):
        sce.sigmoid_cross_entropy([1, 0, 1], logits)
    assert sce.sigmoid_cross_entropy([1, 0, 1], logits.detach()) == np.float32(np.log(2))


def test_tensors_of_integers_are_told_to_become_floats():
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match=r"`logits` must be .*`\.float\(\)`"):
        sce.sigmoid_cross_entropy([1, 0, 1], torch.tensor([1, 2, 3]))
    assert sce.sigmoid_cross_entropy([1, 0, 1], torch.tensor([1, 2, 3]).float()) > 0


def test_tensors_outside_the_memory_of_the_cpu_are_refused():
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match=r"Argument `logits` can't be read as an array: .*meta"):
        sce.sigmoid_cross_entropy([1, 0, 1], torch.zeros(3, device="meta"))


def test_arrays_of_jax_are_read_in_place():
    jax = pytest.importorskip("jax")
    for dtype in (np.float16, BFLOAT16, np.float32):
        logits = jax.numpy.asarray(LOGITS.astype(dtype))
        array = as_floats(logits, "logits")
        assert array.dtype == dtype
        assert address(array) == logits.unsafe_buffer_pointer()
    assert sce.sigmoid_cross_entropy(jax.numpy.asarray(LABELS), logits) == expected()


# ---- scikit-learn ---------------------------------------------------------------------------


def test_a_scorer_of_scikit_learn():
    pytest.importorskip("sklearn")
    from sklearn.datasets import load_breast_cancer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import make_scorer
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features, labels = load_breast_cancer(return_X_y=True)
    scorer = make_scorer(
        sce.sigmoid_cross_entropy, greater_is_better=False, response_method="decision_function"
    )
    model = make_pipeline(StandardScaler(), LogisticRegression())
    found = cross_val_score(model, features, labels, scoring=scorer)
    theirs = cross_val_score(model, features, labels, scoring="neg_log_loss")
    np.testing.assert_allclose(found, theirs, rtol=1e-9)
    assert np.all(found < 0)


def test_a_scorer_of_many_labels():
    pytest.importorskip("sklearn")
    from sklearn.datasets import make_multilabel_classification
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss, make_scorer
    from sklearn.multiclass import OneVsRestClassifier

    features, labels = make_multilabel_classification(n_samples=200, random_state=0)
    scorer = make_scorer(
        sce.sigmoid_cross_entropy, greater_is_better=False, response_method="decision_function"
    )
    model = OneVsRestClassifier(LogisticRegression()).fit(features, labels)
    probabilities = model.predict_proba(features)
    theirs = [log_loss(z, p) for z, p in zip(labels.T, probabilities.T, strict=True)]
    assert scorer(model, features, labels) == pytest.approx(-np.mean(theirs), rel=1e-9)


# ---- Columns of lists, and what is missing inside --------------------------------------------


def nested(values):
    """Return columns of these rows, by the name of their kind."""
    pd, pl, pa = (pytest.importorskip(name) for name in ("pandas", "polars", "pyarrow"))
    lists = pa.array(values, pa.list_(pa.float64()))
    width = len(values[0])
    return {
        "polars List": pl.Series(values, dtype=pl.List(pl.Float64)),
        "polars Array": pl.Series(values, dtype=pl.Array(pl.Float64, width)),
        "Arrow List": lists,
        "Arrow LargeList": pa.array(values, pa.large_list(pa.float64())),
        "Arrow FixedSizeList": pa.array(values, pa.list_(pa.float64(), width)),
        "Arrow FixedShapeTensor": pa.ExtensionArray.from_storage(
            pa.fixed_shape_tensor(pa.float64(), [width]),
            pa.array(values, pa.list_(pa.float64(), width)),
        ),
        "Arrow List in chunks": pa.chunked_array([lists[:1], lists[1:]]),
        "part of an Arrow List": pa.concat_arrays([lists, lists])[len(values) :],
        "pandas of Arrow": pd.Series(pd.arrays.ArrowExtensionArray(lists)),
    }


ROWS_OF_LISTS = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
KINDS_OF_LISTS = [
    "polars List",
    "polars Array",
    "Arrow List",
    "Arrow LargeList",
    "Arrow FixedSizeList",
    "Arrow FixedShapeTensor",
    "Arrow List in chunks",
    "part of an Arrow List",
    "pandas of Arrow",
]


@pytest.mark.parametrize("kind", KINDS_OF_LISTS)
def test_lists_of_one_length_are_rows(kind):
    found = as_floats(nested(ROWS_OF_LISTS)[kind], "logits")
    np.testing.assert_array_equal(found, ROWS_OF_LISTS)
    assert found.dtype == np.float64


@pytest.mark.parametrize("kind", KINDS_OF_LISTS)
def test_values_missing_inside_lists_are_refused(kind):
    column = nested([[1.0, None, 3.0], [4.0, 5.0, None]])[kind]
    with pytest.raises(ValueError, match=r"Argument `logits` .*: 2 values are missing"):
        sce.sigmoid_cross_entropy(np.ones((2, 3)), column)


def test_lists_that_are_missing_are_refused():
    pl, pa = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    for column in (pl.Series([[1.0], None]), pa.array([[1.0], None])):
        with pytest.raises(ValueError, match="1 value is missing"):
            as_floats(column, "logits")


def test_lists_that_differ_in_length_are_refused():
    pl, pa = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    rows = [[1.0, 2.0], [3.0]]
    for column in (pl.Series(rows), pa.array(rows)):
        with pytest.raises(ValueError, match="rows differ in length: 1 to 2 values"):
            as_floats(column, "logits")


def test_lists_inside_lists_are_axes():
    pl, pa = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    values = np.arange(12.0).reshape(2, 3, 2)
    for column in (
        pl.Series(values.tolist()),
        pl.Series(values),
        pa.array(values.tolist()),
        pa.FixedShapeTensorArray.from_numpy_ndarray(values),
    ):
        np.testing.assert_array_equal(as_floats(column, "logits"), values)


def test_columns_of_empty_lists_have_no_elements():
    pl, pa = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    for column in (
        pl.Series([[], []], dtype=pl.List(pl.Float64)),
        pa.array([[], []], pa.list_(pa.float64())),
    ):
        assert as_floats(column, "logits").shape == (2, 0)
    empty = as_floats(pl.Series([], dtype=pl.Array(pl.Float32, 3)), "logits")
    assert (empty.shape, empty.dtype) == ((0, 3), np.float32)
    empty = as_floats(pa.array([], pa.list_(pa.float32(), 3)), "logits")
    assert (empty.shape, empty.dtype) == ((0, 3), np.float32)


def test_a_fixed_size_list_is_read_in_place():
    pa = pytest.importorskip("pyarrow")
    column = pa.FixedSizeListArray.from_arrays(pa.array(LOGITS.ravel()), COLUMNS)
    assert address(as_floats(column, "logits")) == column.flatten().buffers()[1].address


def test_frames_with_columns_of_lists_are_told_to_pass_the_column():
    pd, pl, pa = (pytest.importorskip(name) for name in ("pandas", "polars", "pyarrow"))
    columns = {"one": [1.0], "many": [[1.0, 2.0]]}
    table = pa.table(columns)
    for frame in (pl.DataFrame(columns), table, table.to_pandas(types_mapper=pd.ArrowDtype)):
        with pytest.raises(TypeError, match=r"`logits` .*columns \['many'\] .*by itself"):
            sce.sigmoid_cross_entropy([[1, 1]], frame)


def test_values_missing_in_encoded_columns_of_arrow_are_refused():
    pd, pa = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    indices = pa.array([0, 1, 0])
    dictionary = pa.DictionaryArray.from_arrays(indices, pa.array([1.0, None]))
    for column in (
        dictionary,
        pa.table({"a": dictionary}),
        pd.Series(pd.arrays.ArrowExtensionArray(dictionary)),
        pa.RunEndEncodedArray.from_arrays([2, 3], pa.array([1.0, None])),
    ):
        with pytest.raises(ValueError, match="1 value is missing"):
            as_floats(column, "logits")
    whole = pa.DictionaryArray.from_arrays(indices, pa.array([1.0, 2.0]))
    np.testing.assert_array_equal(as_floats(whole, "logits"), [1, 2, 1])
    runs = pa.RunEndEncodedArray.from_arrays([2, 3], pa.array([1.0, 2.0]))
    np.testing.assert_array_equal(as_floats(runs, "logits"), [1, 1, 2])


# ---- What has to be converted first ----------------------------------------------------------


def test_bool_and_integer_columns_may_be_mixed():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": [True, False], "b": [1, 2]})
    np.testing.assert_array_equal(as_array(frame, "labels"), [[1, 1], [0, 2]])
    assert as_array(frame, "labels").dtype == np.int64


def test_sparse_labels_are_told_to_become_dense():
    sparse = pytest.importorskip("scipy.sparse")
    for labels in (sparse.csr_array(np.eye(2)), sparse.coo_matrix(np.eye(2))):
        with pytest.raises(TypeError, match=r"`multi_class_labels` .* sparse .*`.toarray\(\)`"):
            sce.sigmoid_cross_entropy(labels, np.zeros((2, 2)))


def test_an_expression_of_polars_is_told_to_become_a_column():
    pl = pytest.importorskip("polars")
    with pytest.raises(TypeError, match=r"`logits` .*`frame\.select\(expr\)\.to_series\(\)`"):
        sce.sigmoid_cross_entropy([1], pl.col("score"))


def test_what_to_convert_with_is_said_in_the_words_of_the_library():
    pd, pl, pa = (pytest.importorskip(name) for name in ("pandas", "polars", "pyarrow"))
    decimals = pa.array([1, 0]).cast(pa.decimal128(21, 2))
    text = ["yes", "no"]
    for labels, said in (
        (pl.Series(["1.5"]).cast(pl.Decimal(10, 2)), r"`\.cast\(pl\.Float32\)`"),
        (pl.Series(text, dtype=pl.Categorical), "`column == 'yes'`"),
        (pl.Series(text, dtype=pl.Enum(text)), "`column == 'yes'`"),
        (decimals, r"`\.cast\(pa\.float32\(\)\)`"),
        (text, r"`np\.asarray\(multi_class_labels\) == 'yes'`"),
        (pd.Series(text), r"`np\.asarray\(multi_class_labels\) == 'yes'`"),
        (pl.Series(text), r"`np\.asarray\(multi_class_labels\) == 'yes'`"),
        (dict.fromkeys(text), "Pass an array or a list of numbers"),
        (pa.array(text).dictionary_encode(), r"`pc\.equal\(column, 'yes'\)`"),
        (pd.Series(text, dtype="category"), "`column == 'yes'`"),
        (pd.Series(pd.arrays.ArrowExtensionArray(decimals)), r"`\.astype\(np\.float32\)`"),
    ):
        with pytest.raises(TypeError, match=f"`multi_class_labels` must be .*{said}"):
            sce.sigmoid_cross_entropy(labels, np.zeros(len(labels)))
    # What is advised is taken.
    for labels in (
        pl.Series(["1", "0"]).cast(pl.Decimal(10, 2)).cast(pl.Float32),
        decimals.cast(pa.float32()),
        pd.Series(pd.arrays.ArrowExtensionArray(decimals)).astype(np.float32),
        pl.Series(text, dtype=pl.Categorical) == "yes",
        pd.Series(text, dtype="category") == "yes",
        np.asarray(text) == "yes",
        np.asarray(pl.Series(text)) == "yes",
    ):
        np.testing.assert_array_equal(as_array(labels, "labels"), [1, 0])


def test_who_has_none_among_numbers_is_told_of_where():
    said = r"`np\.array\(values, np\.float32\)`\. None becomes NaN, which `where=` leaves out\."
    values, there = [1, None, 0], [True, False, True]
    with pytest.raises(TypeError, match=rf"`multi_class_labels` .*{said}"):
        sce.sigmoid_cross_entropy(values, [0.5, 1.0, -2.0])
    with pytest.raises(TypeError, match=rf"`logits` .*{said}"):
        sce.sigmoid_cross_entropy([1, 0, 0], values)
    labels = np.array(values, np.float32)
    loss = sce.sigmoid_cross_entropy(labels, [0.5, 1.0, -2.0], where=there)
    assert loss == sce.sigmoid_cross_entropy([1, 0], [0.5, -2.0])
    with pytest.raises(TypeError, match=r"np\.float32\)`\.$"):
        sce.sigmoid_cross_entropy([1, 10**30, 0], [0.5, 1.0, -2.0])


def test_tracers_of_jax_are_told_to_stay_outside():
    # A class as JAX has it, which need not be installed.
    tracer = type("Tracer", (), {"__module__": "jax._src.core"})
    kind = type("JVPTracer", (tracer,), {"__module__": "jax._src.interpreters.ad"})
    with pytest.raises(TypeError, match=r"`logits` .* tracer of JAX.*outside `jax\.jit`"):
        sce.sigmoid_cross_entropy([1.0], kind())


def test_lazy_frames_of_polars_are_told_to_collect():
    pl = pytest.importorskip("polars")
    with pytest.raises(TypeError, match=r"`logits` .* LazyFrame.* `.collect\(\)`"):
        sce.sigmoid_cross_entropy([[1.0]], pl.LazyFrame({"a": [1.0]}))


# ---- Rows and columns in another order -------------------------------------------------------


def test_columns_of_pandas_in_another_order_are_refused():
    pd = pytest.importorskip("pandas")
    logits = pd.DataFrame({"a": [2.0, 3.0], "b": [-1.0, -2.0]})
    labels = pd.DataFrame({"b": [0, 0], "a": [1, 1]})
    said = r"`multi_class_labels` .*\['b', 'a'\] and \['a', 'b'\].*labels\[logits.columns\]"
    with pytest.raises(ValueError, match=said):
        sce.sigmoid_cross_entropy(labels, logits)
    with pytest.raises(ValueError, match=r"`labels\[logits.columns\]`"):
        sce.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)
    right = sce.sigmoid_cross_entropy(labels[logits.columns], logits)
    assert right == sce.sigmoid_cross_entropy([[1, 0], [1, 0]], logits)


def test_columns_of_pandas_called_otherwise_go_by_position():
    pd = pytest.importorskip("pandas")
    labels, scores = pd.DataFrame(LABELS).add_prefix("is_"), pd.DataFrame(LOGITS)
    for logits in (scores, scores.add_prefix("score_"), scores.to_numpy()):
        assert sce.sigmoid_cross_entropy(labels, logits) == expected()
    assert sce.sigmoid_cross_entropy(LABELS, scores) == expected()


@pytest.mark.parametrize("frames", [False, True])
def test_rows_of_pandas_with_another_index_are_refused(frames):
    pd = pytest.importorskip("pandas")
    logits = pd.Series([2.0, -1.0, 0.5], index=[0, 7, 3])
    labels = pd.Series([1, 0, 1], index=[0, 3, 7])
    if frames:
        labels, logits = labels.to_frame("a"), logits.to_frame("a")
    with pytest.raises(ValueError, match=r"indexes, 3 and 7 in row 1.*reindex.*to_numpy\(\)"):
        sce.sigmoid_cross_entropy(labels, logits)
    mended = sce.sigmoid_cross_entropy(labels.reindex(logits.index), logits)
    assert mended == sce.sigmoid_cross_entropy([1, 1, 0], [2.0, -1.0, 0.5])
    by_position = sce.sigmoid_cross_entropy(labels.to_numpy(), logits)
    assert by_position == sce.sigmoid_cross_entropy([1, 0, 1], [2.0, -1.0, 0.5])


def test_rows_of_pandas_that_differ_in_number_are_refused_by_their_shapes():
    pd = pytest.importorskip("pandas")
    with pytest.raises(ValueError, match="same shape"):
        sce.sigmoid_cross_entropy(pd.Series([1, 0]), pd.Series([1.0]))
    empty = pd.Series([], index=pd.Index([], dtype=object), dtype=float)
    assert sce.sigmoid_cross_entropy(empty, empty.reset_index(drop=True)) == 0


WEIGHING = {"weights": [1.0, 2.0, 3.0], "where": [True, False, True], "pos_weight": [1.0, 2.0, 4.0]}
SCORES = [2.0, -1.0, 0.5]


def accumulated(labels, logits, weights=1.0, where=None, pos_weight=None):
    loss = sce.LossAccumulator(pos_weight=pos_weight)
    loss.update(labels, logits, weights, where)
    return loss.result()


TAKING_ALL = {"accumulator": accumulated, "loss": sce.sigmoid_cross_entropy}


@pytest.mark.parametrize("name", WEIGHING)
@pytest.mark.parametrize("taking", TAKING_ALL)
def test_what_weighs_rows_of_pandas_has_their_index(taking, name):
    pd = pytest.importorskip("pandas")
    function, rows, truth = TAKING_ALL[taking], [0, 7, 3], [1, 0, 1]
    logits = pd.Series(SCORES, rows)
    own = pd.Series(WEIGHING[name], rows)
    right = function(truth, SCORES, **{name: WEIGHING[name]})
    assert function(truth, logits, **{name: own}) == right
    other = own.sort_index()
    said = rf"`{name}` and `logits` have different indexes, 3 and 7 in row 1.*`{name}.reindex"
    with pytest.raises(ValueError, match=said):
        function(truth, logits, **{name: other})
    assert function(truth, logits, **{name: other.reindex(logits.index)}) == right
    # Beside labels, where the logits have no index.
    with pytest.raises(ValueError, match=rf"`{name}` and `(multi_class_)?labels` have different"):
        function(pd.Series(truth, rows), SCORES, **{name: other})
    # One for all rows, and whatever has no index.
    one = pd.Series(WEIGHING[name][:1], ["any"])
    assert function(truth, logits, **{name: one}) == function(truth, SCORES, **{name: one.values})
    assert function(truth, logits, **{name: other.to_numpy()[[0, 2, 1]]}) == right


@pytest.mark.parametrize("taking", TAKING_ALL)
def test_labels_of_pandas_have_the_index_of_logits(taking):
    pd = pytest.importorskip("pandas")
    logits, labels = pd.Series(SCORES, [0, 7, 3]), pd.Series([1, 1, 0], [0, 3, 7])
    with pytest.raises(ValueError, match=r"labels` and `logits` have different indexes"):
        TAKING_ALL[taking](labels, logits)


@pytest.mark.parametrize("name", ["where", "pos_weight"])
@pytest.mark.parametrize("taking", TAKING_ALL)
def test_a_series_for_each_column_has_the_order_of_the_columns(taking, name):
    pd = pytest.importorskip("pandas")
    function, truth = TAKING_ALL[taking], [[1, 0, 1]] * 2
    logits = pd.DataFrame([SCORES] * 2, columns=list("abc"))
    own = pd.Series(WEIGHING[name], list("abc"))
    right = function(truth, logits.values, **{name: WEIGHING[name]})
    assert function(truth, logits, **{name: own}) == right
    with pytest.raises(ValueError, match=rf"`{name}` .*columns in different orders.*Pass"):
        function(truth, logits, **{name: own[::-1]})
    assert function(truth, logits, **{name: own[::-1][logits.columns]}) == right


def test_frames_that_weigh_have_the_index_and_the_columns_of_the_logits():
    pd = pytest.importorskip("pandas")
    logits = pd.DataFrame([SCORES, SCORES[::-1]], [5, 6], list("abc"))
    truth = [[1, 0, 1]] * 2
    rows, columns = (
        pd.DataFrame({"w": [1.0, 2.0]}, [5, 6]),
        pd.DataFrame([SCORES], columns=list("abc")),
    )
    for weights in (rows, columns):
        assert sce.sigmoid_cross_entropy(truth, logits, weights) == sce.sigmoid_cross_entropy(
            truth, logits, weights.values
        )
    with pytest.raises(ValueError, match="`weights` and `logits` have different indexes"):
        sce.sigmoid_cross_entropy(truth, logits, rows[::-1])
    with pytest.raises(ValueError, match=r"`weights` .*different orders.*`weights\[logits.columns"):
        sce.sigmoid_cross_entropy(truth, logits, columns[list("cab")])
    with pytest.raises(ValueError, match="`weights` and `losses` have different indexes"):
        sce.compute_weighted_loss(logits, rows[::-1])


def test_columns_of_polars_and_arrow_in_another_order_are_refused():
    pd, pl, pa = (pytest.importorskip(name) for name in ("pandas", "polars", "pyarrow"))
    scores, truth = {"a": [2.0, 3.0], "b": [-1.0, -2.0]}, {"b": [0, 0], "a": [1, 1]}
    frames = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "Arrow": pa.table}
    mends = {
        ("polars", "polars"): lambda z, x: z[x.columns],
        ("polars", "pandas"): lambda z, x: z[list(x.columns)],
        ("polars", "Arrow"): lambda z, x: z[list(x.column_names)],
        ("Arrow", "Arrow"): lambda z, x: z.select(x.column_names),
        ("Arrow", "polars"): lambda z, x: z.select(list(x.columns)),
        ("Arrow", "pandas"): lambda z, x: z.select(list(x.columns)),
        ("pandas", "Arrow"): lambda z, x: z[list(x.column_names)],
    }
    right = sce.sigmoid_cross_entropy([[1, 0], [1, 0]], pd.DataFrame(scores))
    for (one, two), mended in mends.items():
        labels, logits = frames[one](truth), frames[two](scores)
        with pytest.raises(ValueError, match=r"\['b', 'a'\] and \['a', 'b'\]"):
            sce.sigmoid_cross_entropy(labels, logits)
        assert sce.sigmoid_cross_entropy(mended(labels, logits), logits) == right


def test_a_pos_weight_of_pandas_is_kept_with_its_index():
    pd = pytest.importorskip("pandas")
    given = pd.Series([1.0, 2.0], list("ab"))
    first = sce.LossAccumulator(pos_weight=given)
    given["a"] = 100.0
    sent = pickle.loads(pickle.dumps(first))
    sent.merge(sce.LossAccumulator(pos_weight=pd.Series([1.0, 2.0], list("ab"))))
    for other in (pd.Series([1.0, 2.0], list("ba")), [1.0, 2.0], None):
        with pytest.raises(ValueError, match="must have the same pos_weight"):
            sent.merge(sce.LossAccumulator(pos_weight=other))


@pytest.mark.parametrize(
    "function", [sce.sigmoid_cross_entropy, sce.sigmoid_cross_entropy_value_and_grad]
)
def test_groups_are_paired_as_other_operands_are(function):
    pd = pytest.importorskip("pandas")
    logits = pd.DataFrame(LOGITS, index=np.arange(ROWS)[::-1])
    groups = pd.Series(np.arange(ROWS) % 2, index=logits.index)
    assert len(function(LABELS, logits, groups=groups)) == 2
    with pytest.raises(ValueError, match="`groups` and `logits` have different indexes"):
        function(LABELS, logits, groups=groups.sort_index())
