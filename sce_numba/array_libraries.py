"""Arrays of other libraries: whose functions take them over, and how the rest become NumPy arrays.

No library is imported here: an object of one proves that it is there already.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from typing import Any

import numpy as np

from .kernels.dtypes import CODES
from .messages import shown, values_are

# Arrays that NumPy would compute, or strip of their names: the library, its class, and the module
# of this package that takes over.  Those of xarray come first, as they may hold Dask arrays.
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
    """Tell at once, of most operands, that they are NumPy's own."""
    return _PLAIN.issuperset(map(type, operands.values()))


def has_names(operand: Any) -> bool:
    """Tell whether an operand is xarray's, whose axes have names."""
    return _is_a(operand, "xarray", "DataArray", "Variable")


def has_labels(operand: Any) -> bool:
    """Tell whether an operand's rows or columns have names, by which it can be compared."""
    return _has_index(operand) or bool(columns_of(operand))


def is_column(operand: Any) -> bool:
    """Tell whether an operand is a column that is read as an array, and not computed with."""
    return _is_a(operand, "pandas", "Series") or _is_a(operand, "polars", "Series")


def _has_index(operand: Any) -> bool:
    return _is_a(operand, "pandas", "Series", "DataFrame")


def _is_a(operand: Any, library: str, *names: str) -> bool:
    """Tell whether an object is of a class of a library, without importing that."""
    module = sys.modules.get(library)
    return module is not None and issubclass(
        type(operand), tuple(getattr(module, name) for name in names if hasattr(module, name))
    )


def readable(value: Any) -> Any:
    """Return what NumPy reads right, without a copy if it can; ValueError if values are missing."""
    for kind in type(value).__mro__:
        read = _READERS.get(kind.__module__.partition(".")[0])
        if read is not None:
            return read(value)
    return value


def check_order(operands: dict[str, Any]) -> None:
    """Refuse operands whose rows or columns have names that stand in different orders.

    All is paired by position, as in NumPy; pandas itself would pair by what rows and columns are
    called.  What is broadcast along an axis may call it anything.
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
    """Return what the columns of a frame are called."""
    if _is_a(operand, "pyarrow", "Table", "RecordBatch"):
        return list(operand.schema.names)
    if _is_a(operand, "pandas", "DataFrame") or _is_a(operand, "polars", "DataFrame"):
        return list(operand.columns)
    return []


def _check_columns(columns: dict[str, list[Any]], operands: dict[str, Any]) -> None:
    if not columns:
        return
    first = _first(columns)
    theirs = columns.pop(first)
    for name, own in columns.items():
        # Columns called otherwise, as `is_cat` and `score_cat` are, can only go by position.
        if own == theirs or len(own) != len(theirs) or set(own) != set(theirs):
            continue
        libraries = [type(operands[key]).__module__.partition(".")[0] for key in (name, first)]
        order = f"{first}.{'column_names' if libraries[1] == 'pyarrow' else 'columns'}"
        if libraries[0] != libraries[1]:
            order = f"list({order})"
        mend = f".select({order})" if libraries[0] == "pyarrow" else f"[{order}]"
        raise ValueError(
            f"Arguments `{name}` and `{first}` have their columns in different orders, "
            f"{shown(own)} and {shown(theirs)}, and would be paired by position. Pass "
            f"`{name}{mend}`."
        )


def _check_rows(rows: dict[str, Any]) -> None:
    if not rows:
        return
    first = _first(rows)
    theirs = rows.pop(first)
    for name, own in rows.items():
        broadcast = name in ("weights", "pos_weight", "where") and len(own) == 1
        if len(own) != len(theirs) or len(own) == 0 or broadcast or own.equals(theirs):
            continue
        # By what they look like: a missing value in an index can't be compared.
        pairs = zip(map(shown, own), map(shown, theirs), strict=True)
        alike = 0, (shown(own[0]), shown(theirs[0]))
        row, (one, two) = next((at for at in enumerate(pairs) if len(set(at[1])) > 1), alike)
        raise ValueError(
            f"Arguments `{name}` and `{first}` have different indexes, {one} and "
            f"{two} in row {row}, and would be paired by position. Pass "
            f"`{name}.reindex({first}.index)` to pair them by index, or `{name}.to_numpy()` if "
            "their order is the same."
        )


def _first(named: dict[str, Any]) -> str:
    """Return which operand the others are compared with: the logits, if they have names."""
    return next((name for name in ("logits", "losses") if name in named), next(iter(named)))


def _read_pandas(value: Any) -> Any:
    """Read a column, or columns, of which NumPy would make objects, and NaN of missing values."""
    if getattr(value, "ndim", 0) == 2:
        dtypes = list(value.dtypes)
        # Of bool beside numbers pandas itself makes objects.
        alike = len({getattr(dtype, "kind", "") == "b" for dtype in dtypes}) < 2
        if alike and all(isinstance(dtype, np.dtype) for dtype in dtypes):
            return value
        columns = {at: np.asarray(_read_pandas(value.iloc[:, at])) for at in range(len(dtypes))}
        _refuse_nested(value.columns[at] for at, column in columns.items() if column.ndim > 1)
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
    """Read a column; of lists of one length, as an array of a dimension more."""
    _refuse_missing(column.null_count())
    kind = type(column.dtype).__name__
    if kind not in ("Array", "List"):
        return column
    rows = len(column)
    lengths = [column.dtype.size] if kind == "Array" else column.list.len().unique().to_list()
    length = _one_length(lengths)
    # Of an empty list polars would make a missing value.
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
    """Read a column; of lists of one length, as an array of a dimension more."""
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
    # Where the type tells the length, there need be no rows to tell it.
    if hasattr(lists.type, "list_size"):
        length = int(lists.type.list_size)
    else:
        length = _one_length(compute.unique(compute.list_value_length(lists)).to_pylist())
    values = np.asarray(_read_arrow_column(lists.flatten()))
    return values.reshape(len(lists), length, *values.shape[1:])


def with_mask(column: Any) -> np.ndarray:
    """Return a column as an array; if values are missing, as a masked one of the others' dtype.

    NumPy itself would make floats of integers, whose last digits would be lost.
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
    """Return an Arrow column whose missing values are counted: not those of what it refers to."""
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
    """Return what to do with a value of a dtype that no function takes, in its own library.

    ``text`` is what labels that are text are called.
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
    """Return the code that gives an argument another shape: lists and columns have no method."""
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
    """Return the length of all lists of a column, or 0 where there is none."""
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
