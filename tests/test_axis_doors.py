"""Losses along axes of Dask arrays and DataArrays are those of the arrays that they hold."""

import numpy as np
import pytest

import sce_numba as sce

da = pytest.importorskip("dask.array")
xr = pytest.importorskip("xarray")

REDUCTIONS = [reduction for reduction in sce.Reduction if reduction != sce.Reduction.NONE]
RNG = np.random.default_rng(0)
LOGITS = RNG.standard_normal((40, 6, 5)).astype(np.float32)
LABELS = RNG.random((40, 6, 5)) < 0.4
WEIGHTS = RNG.integers(0, 3, (40, 1, 5)).astype(np.float32)
WHERE = RNG.random((6, 5)) < 0.7


def lazy(array):
    return da.from_array(array, chunks=(7, 4, 3)[3 - array.ndim :])


def near(found, expected):
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    np.testing.assert_array_max_ulp(np.asarray(found), np.asarray(expected), maxulp=1)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("axis", [0, -1, (0, 2), (0, 1, 2), ()])
@pytest.mark.parametrize("keepdims", [False, True])
def test_dask_arrays_have_the_losses_of_what_they_hold(reduction, axis, keepdims):
    options = {"reduction": reduction, "axis": axis, "keepdims": keepdims, "label_smoothing": 0.1}
    found, gradient = sce.sigmoid_cross_entropy_value_and_grad(
        lazy(LABELS), lazy(LOGITS), WEIGHTS, where=WHERE, **options
    )
    alone = sce.sigmoid_cross_entropy(lazy(LABELS), LOGITS, WEIGHTS, where=WHERE, **options)
    expected, slopes = sce.sigmoid_cross_entropy_value_and_grad(
        LABELS, LOGITS, WEIGHTS, where=WHERE, **options
    )
    assert isinstance(found, da.Array)
    assert found.shape == np.shape(expected)
    near(found.compute(), expected)
    near(alone.compute(), expected)
    np.testing.assert_allclose(gradient.compute(), slopes, rtol=1e-6, atol=1e-12)


def test_losses_that_are_lazy_are_reduced_along_axes():
    losses = np.abs(LOGITS)
    found = sce.compute_weighted_loss(lazy(losses), WEIGHTS, axis=(0, 1))
    near(found.compute(), sce.compute_weighted_loss(losses, WEIGHTS, axis=(0, 1)))


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"axis": 3}, ValueError, "`axis` names axis 3"),
        ({"axis": 0, "reduction": "none"}, ValueError, "need a reduction"),
        ({"dim": "rows"}, TypeError, "Argument `dim`"),
    ],
)
def test_what_can_not_be_reduced_is_refused_before_anything_is_computed(options, error, said):
    with pytest.raises(error, match=said):
        sce.sigmoid_cross_entropy(lazy(LABELS), lazy(LOGITS), **options)


def named(array, dims=("day", "place", "kind")):
    coords = {
        "day": np.arange(array.shape[0]),
        "kind": list("abcde"),
        "when": ("day", array[:, 0, 0]),
    }
    return xr.DataArray(array, dims=dims, coords=coords, name="logits")


@pytest.mark.parametrize("make", [np.asarray, lazy])
def test_dimensions_that_are_left_come_back_with_their_coordinates(make):
    logits, labels = named(LOGITS), named(LABELS)
    logits, labels = logits.copy(data=make(LOGITS)), labels.copy(data=make(LABELS))
    labels = labels.drop_vars("when")
    loss = sce.sigmoid_cross_entropy(labels, logits, dim=["place", "day"])
    assert loss.dims == ("kind",)
    assert list(loss.coords) == ["kind"]
    near(loss.values, sce.sigmoid_cross_entropy(LABELS, LOGITS, axis=(0, 1)))
    loss, gradient = sce.sigmoid_cross_entropy_value_and_grad(labels, logits, dim="kind")
    assert loss.dims == ("day", "place")
    assert set(loss.coords) == {"day", "when"}
    assert gradient.dims == logits.dims
    kept = sce.sigmoid_cross_entropy(labels, logits, axis=0, keepdims=True)
    assert kept.dims == logits.dims
    assert kept.shape == (1, 6, 5)
    alone = sce.sigmoid_cross_entropy(labels, logits, dim=("day", "place", "kind"))
    assert np.ndim(alone) == 0


def test_names_that_there_are_not_are_refused():
    with pytest.raises(ValueError, match="`dim` names dimensions that the logits lack"):
        sce.sigmoid_cross_entropy(named(LABELS), named(LOGITS), dim="depth")
    with pytest.raises(ValueError, match="can't both be given"):
        sce.sigmoid_cross_entropy(named(LABELS), named(LOGITS), dim="day", axis=0)
    with pytest.raises(TypeError, match="only the axes of a DataArray"):
        sce.sigmoid_cross_entropy(LABELS, LOGITS, dim="day")
    with pytest.raises(TypeError, match="needs logits that are a DataArray"):
        sce.sigmoid_cross_entropy(named(LABELS), LOGITS, dim="day")
