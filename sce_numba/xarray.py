"""The functions of this package on xarray's DataArrays, whose axes are matched by name.

The public functions come here by themselves when an operand is a DataArray; there is nothing to
call.  What has the shape of the logits comes back with their dimensions and coordinates.  Labels,
weights, ``where`` and ``pos_weight`` that are DataArrays have their axes put in the order of the
logits', whatever dimension they lack is broadcast, and their coordinates must be equal.  Others go
by position, as all do if the logits are no DataArray.  DataArrays backed by Dask stay lazy.
A ``Variable`` is taken as a DataArray without coordinates.

Examples
--------
>>> import numpy as np
>>> import sce_numba as sce
>>> import xarray as xr
>>> logits = xr.DataArray([[2.0, -1.0], [0.0, 3.0]], dims=("day", "kind"))
>>> weights = xr.DataArray([3.0, 1.0], dims="kind")
>>> losses = sce.sigmoid_cross_entropy(logits > 0, logits, weights, reduction="none")
>>> losses.dims
('day', 'kind')
>>> print(losses.mean("day").round(4).values)
[1.2301 0.1809]
>>> by_kind = sce.sigmoid_cross_entropy(logits > 0, logits, dim="day")
>>> by_kind.dims
('kind',)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import xarray as xr

from .axes import Axes, as_axes
from .loss_collections import is_recorded, record

# Types whose axes have names; a Variable has no coordinates to compare.
_NAMED = (xr.DataArray, xr.Variable)
_OPERANDS = {
    "logits",
    "losses",
    "labels",
    "multi_class_labels",
    "weights",
    "where",
    "pos_weight",
    "groups",
}


def call(
    function: Callable[..., Any],
    *,
    scope: str | None = None,
    loss_collection: str | None = None,
    **given: Any,
) -> Any:
    """Return the result of a public function, with the dimensions and coordinates of the logits.

    Parameters
    ----------
    function : callable
        A public function of this package.
    scope, loss_collection
        As in ``sigmoid_cross_entropy``.
    **given
        Its other arguments, by name; at least one operand is a DataArray or a Variable.

    Returns
    -------
    DataArray, Variable, scalar, or two of them
        What the logits are, if these have names and it has their shape; else what the function
        returns for the memory that the DataArrays hold.

    Raises
    ------
    ValueError, TypeError
        As the function does; ValueError also if an operand has a dimension that the logits lack,
        or other coordinates.
    """
    logits = given["losses" if "losses" in given else "logits"]
    dim = given.pop("dim", None)
    if dim is not None:
        given["axis"] = _axis_numbers(dim, given["axis"], logits)
    given = by_position(given)
    if is_recorded(function):
        given["loss_collection"] = None  # the result is recorded below, with its names
    result = function(**given)
    by_axis = "axis" in given
    if isinstance(logits, _NAMED):
        axes = as_axes(given["axis"], given["keepdims"], logits.ndim) if by_axis else None
        first, *others = result if isinstance(result, tuple) else (result,)
        if "groups" not in given:
            first = _by_name(first, logits, axes)
        result = (first, *(_by_name(r, logits) for r in others)) if others else first
    loss = result[0] if isinstance(result, tuple) else result
    several = (by_axis or "groups" in given) and np.ndim(loss) > 0
    record(loss, scope, loss_collection, given.get("reduction"), several=several)
    return result


def _axis_numbers(dim: Any, axis: Any, logits: Any) -> tuple[int, ...]:
    """Return the indices of axes that are given by name."""
    if axis is not None:
        raise ValueError("Arguments `axis` and `dim` can't both be given.")
    if not isinstance(logits, _NAMED):
        raise TypeError(
            "Argument `dim` needs logits that are a DataArray of xarray, whose axes have names. "
            "Pass their numbers as `axis`."
        )
    names = [dim] if isinstance(dim, str) or not isinstance(dim, Iterable) else list(dim)
    unknown = [name for name in names if name not in logits.dims]
    if unknown:
        raise ValueError(
            f"Argument `dim` names dimensions that the logits lack: {unknown}. Those of the logits "
            f"are {list(logits.dims)}."
        )
    return tuple(logits.dims.index(name) for name in names)


def by_position(given: dict[str, Any]) -> dict[str, Any]:
    """Return operands without names, with axes in the order of the logits.

    Parameters
    ----------
    given : dict
        Arguments by name, the logits (or losses) among them.

    Returns
    -------
    dict
        The same, with the arrays that DataArrays and Variables hold in the place of these.  An
        axis that one lacks has length 1; what has no names stays as it is.

    Raises
    ------
    ValueError
        If an operand has a dimension that the logits lack, or other coordinates.
    """
    name = "losses" if "losses" in given else "logits"
    return {
        key: _by_position(value, key, given[name])
        if key in _OPERANDS and isinstance(value, _NAMED)
        else value
        for key, value in given.items()
    }


def _by_position(operand: Any, name: str, logits: Any) -> Any:
    """Return an operand's array with the axes of the logits, of length 1 where it lacks one."""
    if not isinstance(logits, _NAMED) or not operand.dims:
        return operand.data
    unknown = [dim for dim in operand.dims if dim not in logits.dims]
    if unknown:
        raise ValueError(
            f"Argument `{name}` has dimensions that the logits lack: {unknown}. Those of the "
            f"logits are {list(logits.dims)}."
        )
    if isinstance(logits, xr.DataArray) and isinstance(operand, xr.DataArray):
        try:
            xr.align(logits, operand, join="exact", copy=False)
        except ValueError as error:
            raise ValueError(
                f"Argument `{name}` can't be aligned with the logits: {error}"
            ) from error
    variable = operand.variable if isinstance(operand, xr.DataArray) else operand
    return variable.set_dims(logits.dims).data


def _by_name(result: Any, logits: Any, axes: Axes | None = None) -> Any:
    """Return a result with those dimensions and coordinates of the logits that were not reduced."""
    axes = axes or Axes((), False)
    shape = axes.shape(logits.shape)
    if getattr(result, "shape", ()) != shape or (axes.reduced and not shape):
        return result
    reduced = {logits.dims[axis] for axis in axes.reduced}
    dims = [dim for dim in logits.dims if axes.keepdims or dim not in reduced]
    if isinstance(logits, xr.Variable):
        return xr.Variable(dims, result)
    coords = logits.coords
    if reduced:
        coords = coords.to_dataset().drop_dims(reduced, errors="ignore").coords
    return xr.DataArray(result, coords=coords, dims=dims)
