"""Arrays of other libraries: dispatch to the modules for some, and conversion of others to NumPy.

No library is imported here: whoever has an array of one has imported it already.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from typing import Any

import numpy as np

from .kernels.dtypes import CODES
from .messages import shown, values_are

# Arrays that NumPy would compute, or strip of their names: the library, the class, and the module
# of this package to dispatch to.  xarray comes first, as its arrays may hold Dask arrays.
_DISPATCHERS = (
    ("xarray", "DataArray", ".xarray"),
    ("xarray", "Variable", ".xarray"),
    ("dask.array", "Array", ".dask"),
)
# Types that need no dispatch: the common case.
_PLAIN = frozenset({np.ndarray, float, int, list, type(None)})


def dispatcher_for(**operands: Any) -> Callable[..., Any] | None:
    """Return the function that computes with these operands, or None if NumPy can read them.

    It takes the public function that was called, and what it was called with by name.
    """
    if are_plain(operands):
        return None
    check_order(operands)
    for library, name, module in _DISPATCHERS:
        if any(_is_a(operand, library, name) for operand in operands.values()):
            dispatch: Callable[..., Any] = importlib.import_module(module, __package__).call
            return dispatch
    return None


def are_plain(operands: dict[str, Any]) -> bool:
    """Tell quickly, for most operands, that NumPy reads them by itself."""
    return _PLAIN.issuperset(map(type, operands.values()))


def has_names(operand: Any) -> bool:
    """Tell whether an operand is xarray's, whose axes have names."""
    return _is_a(operand, "xarray", "DataArray", "Variable")


def has_labels(operand: Any) -> bool:
    """Tell whether the rows or columns of an operand have names."""
    return _has_index(operand) or bool(columns_of(operand))


def is_column(operand: Any) -> bool:
    """Tell whether an operand is a column of pandas or polars, which is read as an array."""
    return _is_a(operand, "pandas", "Series") or _is_a(operand, "polars", "Series")


def _has_index(operand: Any) -> bool:
    return _is_a(operand, "pandas", "Series", "DataFrame")


def _is_a(operand: Any, library: str, *names: str) -> bool:
    """Tell whether an object is of a class of a library, without importing the library."""
    module = sys.modules.get(library)
    return module is not None and issubclass(
        type(operand), tuple(getattr(module, name) for name in names if hasattr(module, name))
    )


def readable(value: Any) -> Any:
    """Return what NumPy reads correctly, if possible without a copy; refuse missing values."""
    for kind in type(value).__mro__:
        read = _READERS.get(kind.__module__.partition(".")[0])
        if read is not None:
            return read(value)
    return value


def check_order(operands: dict[str, Any]) -> None:
    """Refuse operands whose rows or columns have the same names in different orders.

    Operands are paired by position, as in NumPy; pandas itself would align rows and columns by
    name.  Names along an axis that is broadcast don't matter.
    """
    columns = {name: columns_of(operand) for name, operand in operands.items()}
    rows = {name: operand.index for name, operand in operands.items() if _has_index(operand)}
    if any(columns.values()):
        for name in ("pos_weight", "where"):
            if name in rows and operands[name].ndim == 1:  # a number for each column
                columns[name] = list(rows.pop(name))
    _check_columns({name: names for name, names in columns.items() if names}, operands)
    _check_rows(rows)


def columns_of(operand: Any) -> list[Any]:
    """Return the names of a frame's columns; none if it is no frame."""
    if _is_a(operand, "pyarrow", "Table", "RecordBatch"):
        return list(operand.schema.names)
    if _is_a(operand, "pandas", "DataFrame") or _is_a(operand, "polars", "DataFrame"):
        return list(operand.columns)
    return []


def _check_columns(columns: dict[str, list[Any]], operands: dict[str, Any]) -> None:
    if not columns:
        return
    first = _first(columns)
    expected = columns.pop(first)
    for name, names in columns.items():
        # Other names, such as `is_cat` and `score_cat`, can only be paired by position.
        if names == expected or len(names) != len(expected) or set(names) != set(expected):
            continue
        libraries = [type(operands[key]).__module__.partition(".")[0] for key in (name, first)]
        order = f"{first}.{'column_names' if libraries[1] == 'pyarrow' else 'columns'}"
        if libraries[0] != libraries[1]:
            order = f"list({order})"
        hint = f".select({order})" if libraries[0] == "pyarrow" else f"[{order}]"
        raise ValueError(
            f"Arguments `{name}` and `{first}` have their columns in different orders, "
            f"{shown(names)} and {shown(expected)}, and would be paired by position. Pass "
            f"`{name}{hint}`."
        )


def _check_rows(rows: dict[str, Any]) -> None:
    if not rows:
        return
    first = _first(rows)
    expected = rows.pop(first)
    for name, index in rows.items():
        broadcast = name in ("weights", "pos_weight", "where") and len(index) == 1
        if len(index) != len(expected) or len(index) == 0 or broadcast or index.equals(expected):
            continue
        # Compared as text: missing values in an index are not equal to themselves.
        pairs = zip(map(shown, index), map(shown, expected), strict=True)
        alike = 0, (shown(index[0]), shown(expected[0]))
        row, (one, two) = next((item for item in enumerate(pairs) if len(set(item[1])) > 1), alike)
        raise ValueError(
            f"Arguments `{name}` and `{first}` have different indexes, {one} and "
            f"{two} in row {row}, and would be paired by position. Pass "
            f"`{name}.reindex({first}.index)` to pair them by index, or `{name}.to_numpy()` if "
            "their order is the same."
        )


def _first(named: dict[str, Any]) -> str:
    """Return the name of the operand to compare the others with: the logits, if among them."""
    return next((name for name in ("logits", "losses") if name in named), next(iter(named)))


def _read_pandas(value: Any) -> Any:
    """Read a column or a frame; NumPy would make objects of some, and NaN of missing values."""
    if getattr(value, "ndim", 0) == 2:
        dtypes = list(value.dtypes)
        # pandas itself makes objects of bool beside numbers.
        alike = len({getattr(dtype, "kind", "") == "b" for dtype in dtypes}) < 2
        if alike and all(isinstance(dtype, np.dtype) for dtype in dtypes):
            return value
        columns = {k: np.asarray(_read_pandas(value.iloc[:, k])) for k in range(len(dtypes))}
        _refuse_nested(value.columns[k] for k, column in columns.items() if column.ndim > 1)
        return np.column_stack(list(columns.values()))
    dtype = getattr(value, "dtype", None)
    numpy_dtype = getattr(dtype, "numpy_dtype", None)
    if numpy_dtype is None:
        return value
    if numpy_dtype.kind == "O" and hasattr(dtype, "pyarrow_dtype"):
        return _read_arrow(value.array.__arrow_array__())
    _refuse_missing(int(value.isna().sum()))
    return value.to_numpy(dtype=numpy_dtype)


def _read_polars(value: Any) -> Any:
    if type(value).__name__ == "LazyFrame":
        raise TypeError("it is a LazyFrame, which holds no values yet. Pass `.collect()` of it.")
    if type(value).__name__ == "Expr":
        raise TypeError(
            "it is an Expr, which holds no values. Pass `frame.select(expr).to_series()`."
        )
    if not hasattr(value, "null_count"):
        return value
    if not hasattr(value, "get_columns"):
        return _read_polars_column(value)
    columns = value.get_columns()
    _refuse_missing(sum(column.null_count() for column in columns))
    _refuse_nested(column.name for column in columns if column.dtype.is_nested())
    return value


def _read_polars_column(column: Any) -> Any:
    """Read a column; lists of equal length become another dimension."""
    _refuse_missing(column.null_count())
    kind = type(column.dtype).__name__
    if kind not in ("Array", "List"):
        return column
    rows = len(column)
    lengths = [column.dtype.size] if kind == "Array" else column.list.len().unique().to_list()
    length = _one_length(lengths)
    # polars would make a missing value of an empty list.
    values = np.asarray(_read_polars_column(column.explode()[: rows * length]))
    return values.reshape(rows, length, *values.shape[1:])


def _read_arrow(value: Any) -> Any:
    columns = getattr(value, "columns", None)
    if columns is None:
        return _read_arrow_column(value)
    columns = [_decoded(column) for column in columns]
    _refuse_missing(sum(column.null_count for column in columns))
    _refuse_nested(
        name
        for name, column in zip(value.schema.names, columns, strict=True)
        if column.type.num_fields or hasattr(column.type, "storage_type")
    )
    return value


def _read_arrow_column(column: Any) -> Any:
    """Read a column; lists of equal length become another dimension."""
    if not hasattr(column, "null_count"):
        return column
    column = _decoded(column)
    _refuse_missing(column.null_count)
    if hasattr(column.type, "storage_type"):  # an extension, such as a column of tensors
        tensors = column.combine_chunks() if hasattr(column, "chunks") else column
        _read_arrow_column(tensors.storage)  # for values that are missing inside
        return tensors.to_numpy_ndarray() if hasattr(tensors, "to_numpy_ndarray") else column
    if "list" not in str(column.type).partition("<")[0]:
        return column
    lists = column.combine_chunks() if hasattr(column, "chunks") else column
    compute = importlib.import_module("pyarrow.compute")
    # Where the type has the length, no rows are needed to find it.
    if hasattr(lists.type, "list_size"):
        length = int(lists.type.list_size)
    else:
        length = _one_length(compute.unique(compute.list_value_length(lists)).to_pylist())
    values = np.asarray(_read_arrow_column(lists.flatten()))
    return values.reshape(len(lists), length, *values.shape[1:])


def with_mask(column: Any) -> np.ndarray:
    """Return a column as an array; if values are missing, as a masked array of the same dtype.

    NumPy itself would convert integers to floats, and lose their last digits.
    """
    missing: Any = False
    if _is_a(column, "pandas", "Series") and not isinstance(column.dtype, np.dtype):
        missing, select = column.isna(), column.__getitem__
    elif _is_a(column, "polars", "Series") or _is_a(column, "pyarrow", "Array", "ChunkedArray"):
        column = _decoded(column) if hasattr(column, "type") else column
        missing, select = column.is_null(), column.filter
    missing = np.asarray(missing)
    if not missing.any():
        array: np.ndarray = np.asanyarray(column)
        return array
    present = np.asarray(select(~missing))
    values: np.ndarray = np.ma.zeros((missing.size, *present.shape[1:]), present.dtype)
    values[missing], values[~missing] = np.ma.masked, present
    return values


def _decoded(column: Any) -> Any:
    """Return an Arrow column without dictionary or run-end encoding, which hides missing values."""
    kind = str(column.type).partition("<")[0]
    if kind == "dictionary":
        return column.cast(column.type.value_type)
    if kind == "run_end_encoded":
        return importlib.import_module("pyarrow.compute").run_end_decode(column)
    return column


def _read_jax(value: Any) -> Any:
    if any(kind.__name__ == "Tracer" for kind in type(value).__mro__):
        raise TypeError(
            "it is a tracer of JAX, which has no values to read. Use "
            "`sce_numba.jax.sigmoid_cross_entropy`, or call this function outside `jax.jit`, "
            "`jax.grad` and their like."
        )
    return value


def conversion(value: Any, text: str = "") -> str:
    """Return a hint for a value of a dtype that is refused: how to convert it in its library.

    ``text`` is the name of the argument, if it is labels that are text.
    """
    dtype = str(getattr(value, "dtype", getattr(value, "type", "")))
    library = type(value).__module__.partition(".")[0]
    if dtype.startswith(("category", "Categorical", "Enum", "dictionary")):
        equal = "pc.equal(column, 'yes')" if library == "pyarrow" else "column == 'yes'"
        return f"Pass what its categories stand for, for example `{equal}`."
    if text:
        return f"Pass a comparison, for example `np.asarray({text}) == 'yes'`."
    if isinstance(value, Mapping | Set | Iterator):
        return "Pass an array or a list of numbers."
    casts = {"polars": "cast(pl.Float32)", "pyarrow": "cast(pa.float32())", "torch": "float()"}
    cast = casts.get(library, "astype(np.float32)" if hasattr(value, "astype") else "")
    if not cast:
        return "Convert it, for example by `np.array(values, np.float32)`."
    return f"Convert it, for example with `.{cast}`."


def reshaped(value: Any, name: str, shape: tuple[int, ...]) -> str:
    """Return code that reshapes an argument: lists and columns have no method for it."""
    if hasattr(value, "reshape") and not is_column(value):
        return f"{name}.reshape({shape})"
    return f"np.reshape({name}, {shape})"


def _read_scipy(value: Any) -> Any:
    if hasattr(value, "toarray"):
        raise TypeError("it is a sparse array or matrix. Pass `.toarray()` of it.")
    return value


def _read_torch(value: Any) -> Any:
    if getattr(value, "requires_grad", False):
        raise ValueError(
            "it requires a gradient, which would be lost. Use "
            "`sce_numba.torch.sigmoid_cross_entropy`, or pass `.detach()` of it."
        )
    return tensor_as_array(value)


def tensor_as_array(tensor: Any) -> Any:
    """Return the memory of a CPU tensor as an array; bfloat16 and float8 need ml_dtypes."""
    torch = sys.modules["torch"]
    if not isinstance(tensor, torch.Tensor):
        return tensor
    name = str(tensor.dtype).removeprefix("torch.")
    if name not in CODES or hasattr(np, name):
        return tensor.numpy()
    raw = tensor.view(torch.int16 if tensor.itemsize == 2 else torch.uint8)
    return raw.numpy().view(getattr(importlib.import_module("ml_dtypes"), name))


def _refuse_missing(count: int) -> None:
    if count:
        raise ValueError(
            f"{values_are(count)} missing. Fill what is missing, or drop its rows first."
        )


def _refuse_nested(names: Iterable[Any]) -> None:
    nested = list(names)
    if nested:
        raise TypeError(
            f"its columns {nested} hold lists or the like. Pass one such column by itself: lists "
            "of one length are read as a 2-D array."
        )


def _one_length(lengths: list[int]) -> int:
    """Return the common length of the lists in a column, 0 if there are none."""
    if len(lengths) > 1:
        raise ValueError(
            f"its rows differ in length: {min(lengths)} to {max(lengths)} values. Pad them to one "
            "length, and exclude what is padded with `where`."
        )
    return lengths[0] if lengths else 0


_READERS: dict[str, Callable[[Any], Any]] = {
    "pandas": _read_pandas,
    "polars": _read_polars,
    "pyarrow": _read_arrow,
    "jax": _read_jax,
    "scipy": _read_scipy,
    "torch": _read_torch,
}
