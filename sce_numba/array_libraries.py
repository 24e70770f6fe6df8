"""Arrays of other libraries: whose functions take them over, and how the rest become NumPy arrays.

No library is imported here: an object of one proves that it is there already.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

# Arrays that NumPy would compute, or strip of their names: the library, its class, and the module
# of this package that takes over.  DataArrays come first, as they may hold Dask arrays.
_DOORS = (("xarray", "DataArray", ".xarray"), ("dask.array", "Array", ".dask"))
# What nearly all calls are made with, and nobody else computes with.
_PLAIN = frozenset({np.ndarray, float, int, list, type(None)})


def door_for(*operands: Any) -> Callable[..., Any] | None:
    """Return the function that computes with these operands, or None if NumPy can read them.

    It takes the public function that was called, and what it was called with by name.
    """
    if _PLAIN.issuperset(map(type, operands)):
        return None
    for library, name, module in _DOORS:
        if library in sys.modules:
            kind = getattr(sys.modules[library], name, ())
            if any(issubclass(type(operand), kind) for operand in operands):
                door: Callable[..., Any] = importlib.import_module(module, __package__).call
                return door
    return None


def readable(value: Any) -> Any:
    """Return what NumPy reads right, without a copy if it can; ValueError if values are missing."""
    for kind in type(value).__mro__:
        read = _READERS.get(kind.__module__.partition(".")[0])
        if read is not None:
            return read(value)
    return value


def _read_pandas(value: Any) -> Any:
    """Read a column, or columns, of which NumPy would make objects, and NaN of missing values."""
    if getattr(value, "ndim", 0) == 2:
        if all(isinstance(dtype, np.dtype) for dtype in value.dtypes):
            return value
        return np.column_stack([_read_pandas(column) for _, column in value.items()])
    numpy_dtype = getattr(getattr(value, "dtype", None), "numpy_dtype", None)
    if numpy_dtype is None:
        return value
    _refuse_missing(int(value.isna().sum()))
    return value.to_numpy(dtype=numpy_dtype)


def _read_polars(value: Any) -> Any:
    if hasattr(value, "null_count"):
        count = value.null_count()
        _refuse_missing(count if isinstance(count, int) else sum(count.row(0)))
    return value


def _read_arrow(value: Any) -> Any:
    columns = getattr(value, "columns", [value])
    _refuse_missing(sum(getattr(column, "null_count", 0) for column in columns))
    return value


def _read_torch(value: Any) -> Any:
    if getattr(value, "requires_grad", False):
        raise ValueError(
            "it requires a gradient, which would be lost. Use "
            "`sce_numba.torch.sigmoid_cross_entropy`, or pass `.detach()` of it."
        )
    return tensor_as_array(value)


def tensor_as_array(tensor: Any) -> Any:
    """Return the memory of a CPU tensor as an array; bfloat16 needs ml_dtypes."""
    torch = sys.modules["torch"]
    if getattr(tensor, "dtype", None) is torch.bfloat16:
        bfloat16 = importlib.import_module("ml_dtypes").bfloat16
        return tensor.view(torch.int16).numpy().view(bfloat16)
    return tensor.numpy() if isinstance(tensor, torch.Tensor) else tensor


def _refuse_missing(count: int) -> None:
    if count:
        raise ValueError(f"{count} values are missing. Fill them, or drop their rows first.")


_READERS: dict[str, Callable[[Any], Any]] = {
    "pandas": _read_pandas,
    "polars": _read_polars,
    "pyarrow": _read_arrow,
    "torch": _read_torch,
}
