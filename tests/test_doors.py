"""Every public function and method, with operands of every library: the right value, or a refusal.

Each of them has a row in ROWS; one without a row fails.
"""

import importlib
import inspect
import re

import numpy as np
import pytest

import sce_numba as sce

SIZE = 4  # as many rows as columns, so that no shape tells what is transposed
RNG = np.random.default_rng(18)
VALUES = {
    "labels": RNG.random((SIZE, SIZE)) < 0.4,
    "logits": RNG.normal(0, 3, (SIZE, SIZE)).astype(np.float32),
    "losses": RNG.random((SIZE, SIZE)).astype(np.float32),
    "loss": RNG.random((SIZE, SIZE)).astype(np.float32),
    "weights": RNG.random((SIZE, SIZE)),
    "where": RNG.random((SIZE, SIZE)) < 0.7,
    "pos_weight": 1 + RNG.random((SIZE, SIZE)),
}
VALUES["multi_class_labels"] = VALUES["labels"]
DATA = "logits", "losses", "loss"  # what the other operands go by


# ---- The functions ---------------------------------------------------------------------------


def update(labels, logits, weights, where, pos_weight):
    loss = sce.LossAccumulator("weighted_mean", pos_weight=pos_weight)
    loss.update(labels, logits, weights, where)
    return loss.result(np.float32)


def evaluated(**operands):
    found = sce.evaluate(**operands, reduction="weighted_mean")
    return np.float32(found.loss)


def total(loss):
    with sce.collect_losses():
        sce.add_loss(loss)
        sce.add_loss(loss)
        return sce.get_total_loss()


def regularization(loss):
    with sce.collect_losses():
        sce.add_loss(loss, sce.GraphKeys.REGULARIZATION_LOSSES)
        return sce.get_regularization_loss()


def unreduced(function):
    def call(**operands):
        return function(**operands, reduction="none")

    return call


def of_pytorch(multi_class_labels, weights, where, pos_weight):
    torch = pytest.importorskip("torch")
    from sce_numba.torch import sigmoid_cross_entropy

    loss = sigmoid_cross_entropy(
        multi_class_labels,
        torch.from_numpy(VALUES["logits"]),
        weights,
        where=where,
        pos_weight=pos_weight,
    )
    return loss.numpy()


WEIGHED = "multi_class_labels", "logits", "weights", "where", "pos_weight"
FOCAL = "labels", "logits", "weights", "where"
# Whatever takes no arrays: numbers, texts, accumulators.
NONE = None
# The operands that are arrays, and the functions to call with them.
ROWS = {
    "sigmoid_cross_entropy": (WEIGHED, sce.sigmoid_cross_entropy),
    "sigmoid_cross_entropy, unreduced": (WEIGHED, unreduced(sce.sigmoid_cross_entropy)),
    "sigmoid_cross_entropy_value_and_grad": (WEIGHED, sce.sigmoid_cross_entropy_value_and_grad),
    "sigmoid_cross_entropy_gradient": (("labels", "logits"), sce.sigmoid_cross_entropy_gradient),
    "sigmoid_cross_entropy_gradient_hessian": (WEIGHED, sce.sigmoid_cross_entropy_gradient_hessian),
    "sigmoid_cross_entropy_with_logits": (
        ("labels", "logits"),
        sce.sigmoid_cross_entropy_with_logits,
    ),
    "sigmoid_focal_cross_entropy": (FOCAL, sce.sigmoid_focal_cross_entropy),
    "sigmoid_focal_cross_entropy, unreduced": (FOCAL, unreduced(sce.sigmoid_focal_cross_entropy)),
    "sigmoid_focal_cross_entropy_value_and_grad": (
        FOCAL,
        sce.sigmoid_focal_cross_entropy_value_and_grad,
    ),
    "weighted_cross_entropy_with_logits": (
        ("labels", "logits", "pos_weight"),
        sce.weighted_cross_entropy_with_logits,
    ),
    "compute_weighted_loss": (("losses", "weights"), sce.compute_weighted_loss),
    "compute_weighted_loss, unreduced": (
        ("losses", "weights"),
        unreduced(sce.compute_weighted_loss),
    ),
    "torch.sigmoid_cross_entropy": (
        ("multi_class_labels", "weights", "where", "pos_weight"),
        of_pytorch,
    ),
    "LossAccumulator": (("labels", "logits", "weights", "where", "pos_weight"), update),
    "LossAccumulator.update": (("labels", "logits", "weights", "where", "pos_weight"), update),
    "LossAccumulator.update_arrow": NONE,  # names of columns
    "LossAccumulator.merge": NONE,
    "LossAccumulator.reset": NONE,
    "LossAccumulator.result": NONE,
    "evaluate": (("labels", "logits", "weights", "where"), evaluated),  # one pos_weight a class
    "Evaluation": NONE,
    "Evaluation.by_class": NONE,
    "Evaluation.head": NONE,
    "Evaluation.plot": NONE,
    "Evaluation.to_dict": NONE,
    "Evaluation.to_html": NONE,
    "Evaluation.to_pandas": NONE,
    "add_loss": (("loss",), total),
    "get_total_loss": (("loss",), total),
    "get_regularization_loss": (("loss",), regularization),
    "get_regularization_losses": (("loss",), regularization),
    "get_losses": NONE,
    "collect_losses": NONE,
    "CollectedLosses": NONE,
    "GraphKeys": NONE,
    "Reduction": NONE,
    "Reduction.all": NONE,
    "Reduction.validate": NONE,
    "show_versions": NONE,
}
TAKING_ARRAYS = [name for name, row in ROWS.items() if row]


def test_every_public_function_and_method_has_a_row():
    public = set()
    for name in sce.__all__:
        value = getattr(sce, name)
        if inspect.isclass(value):
            public |= {
                f"{name}.{method}"
                for method, member in vars(value).items()
                if not method.startswith("_") and (callable(member) or hasattr(member, "__func__"))
            }
        if callable(value):
            public.add(name)
    module = pytest.importorskip("torch") and importlib.import_module("sce_numba.torch")
    public |= {
        f"torch.{name}"
        for name, value in vars(module).items()
        if inspect.isfunction(value)
        and value.__module__ == module.__name__
        and not name.startswith("_")
    }
    assert {name.partition(",")[0] for name in ROWS} == public


def test_every_operand_is_in_its_row():
    for name in TAKING_ARRAYS:
        function = getattr(sce, name, None)
        if inspect.isfunction(function) and name not in ("add_loss", "evaluate"):
            operands = set(inspect.signature(function).parameters) & set(VALUES)
            assert operands <= set(ROWS[name][0]), name


# ---- The libraries ---------------------------------------------------------------------------


def columns(names="abcd"):
    return list(names)


def frame_of_pandas(array, _name, index=None, names="abcd"):
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame(array, index, columns(names))


def frame_of_polars(array, _name, names="abcd"):
    polars = pytest.importorskip("polars")
    return polars.DataFrame(array, columns(names), orient="row")


def table_of_arrow(array, _name, names="abcd"):
    arrow = pytest.importorskip("pyarrow")
    return arrow.table([arrow.array(column) for column in array.T], columns(names))


def lists_of_polars(array, _name):
    return pytest.importorskip("polars").Series(array)


def lists_of_arrow(array, _name):
    arrow = pytest.importorskip("pyarrow")
    return arrow.FixedSizeListArray.from_arrays(arrow.array(array.ravel()), SIZE)


def data_array(array, _name):
    xarray = pytest.importorskip("xarray")
    return xarray.DataArray(array, {"class": columns()}, ("row", "class"))


def variable(array, _name):
    return pytest.importorskip("xarray").Variable(("row", "class"), array)


def transposed(convert):
    return lambda array, name: (
        convert(array, name) if name in DATA else convert(array, name).transpose("class", "row")
    )


def dask(array, _name):
    return pytest.importorskip("dask.array").from_array(array, 3)


def data_array_of_dask(array, name):
    return data_array(array, name).chunk(row=3)


def tensor(array, _name):
    return pytest.importorskip("torch").from_numpy(array)


def jax(array, _name):
    if array.dtype == np.float64:
        return array
    return pytest.importorskip("jax").numpy.asarray(array)


RIGHT = {
    "pandas": frame_of_pandas,
    "polars": frame_of_polars,
    "polars, lists": lists_of_polars,
    "Arrow": table_of_arrow,
    "Arrow, lists": lists_of_arrow,
    "DataArray": data_array,
    "Variable": variable,
    "Dask": dask,
    "DataArray of Dask": data_array_of_dask,
    "PyTorch": tensor,
    "JAX": jax,
}
# Right as a whole: one by one they have nothing to go by.
RIGHT_TOGETHER = RIGHT | {
    "DataArray, transposed": transposed(data_array),
    "Variable, transposed": transposed(variable),
    "DataArray of Dask, transposed": transposed(data_array_of_dask),
}


def other_rows(array, name):
    """Return a frame whose rows are not in the order of those of the logits."""
    rows = np.arange(SIZE) if name in DATA else np.arange(SIZE)[::-1]
    return frame_of_pandas(array[rows], name, rows)


def other_columns(frame):
    def convert(array, name):
        order = slice(None) if name in DATA else slice(None, None, -1)
        return frame(array[:, order], name, names="abcd"[order])

    return convert


def other_coordinates(array, name):
    given = data_array(array, name)
    return given if name in DATA else given.assign_coords({"class": list("abce")})


def other_dimensions(kind):
    def convert(array, name):
        given = kind(array, name)
        return given if name in DATA else given.rename({"class": "kind"})

    return convert


def renamed_variable(array, name):
    dims = "row", "class" if name in DATA else "kind"
    return pytest.importorskip("xarray").Variable(dims, array)


REFUSED_TOGETHER = {
    "pandas, other rows": other_rows,
    "pandas, other columns": other_columns(frame_of_pandas),
    "polars, other columns": other_columns(frame_of_polars),
    "Arrow, other columns": other_columns(table_of_arrow),
    "DataArray, other coordinates": other_coordinates,
    "DataArray, other dimensions": other_dimensions(data_array),
    "Variable, other dimensions": renamed_variable,
}


def sparse(array, _name):
    return pytest.importorskip("scipy.sparse").csr_array(array)


def lazy(array, name):
    return frame_of_polars(array, name).lazy()


def missing(array, _name):
    pandas = pytest.importorskip("pandas")
    frame = frame_of_pandas(array, None).convert_dtypes()
    frame.iloc[1, 1] = pandas.NA
    return frame


def missing_in_lists(array, _name):
    values = array.tolist()
    values[1][1] = None
    return pytest.importorskip("polars").Series(values)


def with_gradient(array, name):
    given = tensor(array, name)
    return given.requires_grad_() if given.is_floating_point() else given.to("meta")


REFUSED = {
    "scipy.sparse": sparse,
    "polars, lazy": lazy,
    "pandas, missing": missing,
    "polars, missing in lists": missing_in_lists,
    "PyTorch, with a gradient": with_gradient,
}


# ---- What comes of it ------------------------------------------------------------------------


def numbers(result):
    """Return what a function returned as a list of NumPy arrays."""
    if isinstance(result, tuple):
        return [array for part in result for array in numbers(part)]
    if hasattr(result, "dims"):
        result = result.transpose("row", "class").data
    if hasattr(result, "compute"):
        result = result.compute(scheduler="synchronous")
    return [np.asarray(result)]


def given(names, convert):
    return {name: convert(VALUES[name].copy(), name) for name in names}


def assert_right(found, row):
    names, function = row
    right = numbers(function(**{name: VALUES[name] for name in names}))
    for result, value in zip(numbers(found), right, strict=True):
        np.testing.assert_allclose(result, value, rtol=2.4e-7)


@pytest.mark.parametrize("library", RIGHT_TOGETHER)
@pytest.mark.parametrize("name", TAKING_ARRAYS)
def test_operands_of_one_library_give_the_right_value(name, library):
    names, function = ROWS[name]
    if library not in RIGHT and not set(names) & set(DATA):
        convert = RIGHT[library.partition(",")[0]]  # beside tensors axes go by position
    else:
        convert = RIGHT_TOGETHER[library]
    assert_right(function(**given(names, convert)), ROWS[name])


@pytest.mark.parametrize("library", RIGHT)
@pytest.mark.parametrize("name", TAKING_ARRAYS)
def test_each_operand_of_another_library_gives_the_right_value(name, library):
    names, function = ROWS[name]
    for one in names:
        operands = {other: VALUES[other].copy() for other in names}
        operands[one] = RIGHT[library](operands[one], one)
        assert_right(function(**operands), ROWS[name])


@pytest.mark.parametrize("library", REFUSED_TOGETHER)
@pytest.mark.parametrize("name", TAKING_ARRAYS)
def test_operands_that_do_not_go_together_are_refused_by_name(name, library):
    names, function = ROWS[name]
    data = [operand for operand in names if operand in DATA]
    for one in set(names) - set(data):
        if not data:
            continue  # nothing that has names to go by
        operands = {other: VALUES[other].copy() for other in names}
        for operand in (one, *data):
            operands[operand] = REFUSED_TOGETHER[library](operands[operand], operand)
        with pytest.raises((ValueError, TypeError), match=f"`{one}`"):
            function(**operands)


@pytest.mark.parametrize("library", REFUSED)
@pytest.mark.parametrize("name", TAKING_ARRAYS)
def test_each_operand_that_cannot_be_read_is_refused_by_name(name, library):
    names, function = ROWS[name]
    for one in set(names) - {"loss"}:
        operands = {other: VALUES[other].copy() for other in names}
        operands[one] = REFUSED[library](operands[one], one)
        named = re.escape(f"`{one}`")
        with pytest.raises((ValueError, TypeError), match=named):
            function(**operands)
