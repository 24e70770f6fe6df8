"""Columns of Arrow record batches as arrays; nulls are masked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def dtype_of(kind: Any) -> np.dtype[Any]:
    """Return the dtype of a column's values, or of those in its lists."""
    import pyarrow as pa

    types, inner = pa.types, kind
    nests = types.is_dictionary, types.is_list, types.is_large_list, types.is_fixed_size_list
    while True:
        if isinstance(inner, pa.BaseExtensionType):
            inner = inner.storage_type
        elif any(is_nest(inner) for is_nest in nests):
            inner = inner.value_type
        else:
            break
    if types.is_string(inner) or types.is_large_string(inner):
        return np.dtype(np.str_)
    if types.is_null(inner):
        return np.dtype(np.bool_)
    if types.is_boolean(inner) or types.is_integer(inner) or types.is_floating(inner):
        dtype: np.dtype[Any] = np.dtype(inner.to_pandas_dtype())
        return dtype
    cast = ": cast it to float64" if types.is_decimal(inner) else ""
    raise ValueError(
        f"a column of {kind}; what can be read are columns of bool, integers, floats and text, "
        f"and of lists of these{cast}"
    )


def side_by_side(batch: Any, names: Sequence[str]) -> np.ndarray:
    """Return columns of a record batch as one array, whose rows are those of the batch."""
    columns = [_values(batch.column(name)) for name in names]
    return columns[0] if len(columns) == 1 else joined(np.column_stack, columns)


def _values(column: Any) -> np.ndarray:
    """Return a column of numbers as a vector, a column of lists of equal length as a matrix.

    Nulls are masked; a list that is null becomes a row of nulls.
    """
    import pyarrow as pa

    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _values(column.dictionary_decode())
    if pa.types.is_null(kind):
        return nulls(len(column), (), np.dtype(np.bool_))
    if column.null_count and kind in (
        pa.float32(),
        pa.float64(),
        pa.int8(),
        pa.int32(),
        pa.int64(),
    ):
        # For common types this takes a tenth of the time.
        null = _values(column.is_null())
        filled: np.ndarray = np.ma.masked_array(_values(column.fill_null(0)), null)
        return filled
    if column.null_count:
        is_present = _values(column.is_valid())
        present = _values(column.drop_null())
        values = nulls(len(column), present.shape[1:], present.dtype)
        values[is_present] = present
        return values
    if pa.types.is_fixed_size_list(kind):
        width = kind.list_size
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        widths = np.unique(np.diff(column.offsets.to_numpy()))
        if widths.size > 1:
            raise ValueError(f"its lists have between {widths[0]} and {widths[-1]} values")
        width = int(widths.sum())
    elif pa.types.is_boolean(kind):
        # A tenth of the time of a cast.
        first, shift = divmod(column.offset, 8)
        bits = np.frombuffer(column.buffers()[1] or b"", np.uint8)[first:]
        flags = np.unpackbits(bits, count=shift + len(column), bitorder="little")
        return flags[shift:].view(np.bool_)
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        # Convert each text once: labels have few different ones.
        codes = column.dictionary_encode()
        texts: np.ndarray = np.array(codes.dictionary.to_pylist(), np.str_)
        return texts.take(_values(codes.indices))
    else:
        # `to_numpy` would import pandas, which takes 40 MB.
        return np.from_dlpack(column)
    values = _values(column.flatten())
    return values.reshape(len(column), width, *values.shape[1:])


def category_codes(column: Any) -> tuple[np.ndarray, list[str] | None]:
    """Return the code of each value, -1 for null, and the names that codes are indices of.

    Numbers have no names: they are returned themselves, with nulls masked.  The column is an array
    of Arrow or of NumPy.
    """
    if isinstance(column, np.ndarray):
        return _codes_of_array(column)
    import pyarrow as pa

    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    types, kind = pa.types, column.type
    inner = kind.value_type if types.is_dictionary(kind) else kind
    if types.is_integer(inner) or types.is_floating(inner):
        return _values(column), None
    if not types.is_dictionary(kind):
        column = column.dictionary_encode()
    codes = np.ma.filled(_values(column.indices).astype(np.int64), -1)
    values = column.dictionary.to_pylist()
    if None in values:
        codes[codes == values.index(None)] = -1
    return codes, [str(value) for value in values]


def _codes_of_array(array: np.ndarray) -> tuple[np.ndarray, list[str] | None]:
    if array.dtype.kind not in "bSUMmO":
        return array, None
    values, missing = np.ma.getdata(array), np.ma.getmaskarray(array)
    if values.dtype.kind == "O":
        missing = missing | missing_in(values)
    elif values.dtype.kind in "mM":
        missing = missing | np.isnat(values)
    elif values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8", "replace")
    names, codes = np.unique(values.astype(np.str_), return_inverse=True)
    return np.where(missing, -1, codes.reshape(-1)), names.tolist()


def missing_in(objects: np.ndarray) -> np.ndarray:
    """Return a mask of the objects that are missing values."""
    missing = np.fromiter(map(_is_missing, objects.flat), np.bool_, objects.size)
    return missing.reshape(objects.shape)


def _is_missing(value: Any) -> bool:
    """Tell whether a value is None, NaN, NaT, or pandas' NA, which has no truth value."""
    try:
        return value is None or bool(value != value)
    except TypeError:
        return True


def joined(join: Callable[..., Any], arrays: list[np.ndarray]) -> np.ndarray:
    """Join arrays with their masks, which NumPy's functions would ignore."""
    shapes = [array.shape[1:] for array in arrays if not is_null(array)]
    if len(shapes) < len(arrays):
        shape = (shapes or [arrays[0].shape[1:]])[0]
        arrays = [nulls(len(a), shape, a.dtype) if is_null(a) else a for a in arrays]
    values: np.ndarray = join([np.ma.getdata(array) for array in arrays])
    if not any(isinstance(array, np.ma.MaskedArray) for array in arrays):
        return values
    masked: np.ndarray = np.ma.masked_array(values, join([np.ma.getmaskarray(a) for a in arrays]))
    return masked


def is_null(rows: np.ndarray) -> bool:
    """Tell whether all values are null; then the length of their lists may be unknown."""
    return isinstance(rows, np.ma.MaskedArray) and bool(np.ma.getmaskarray(rows).all())


def with_lengths(labels: np.ndarray, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both; if the lists of one are all null, with the lengths of the other's."""
    if is_null(logits):
        logits = nulls(len(logits), labels.shape[1:], logits.dtype)
    if is_null(labels):
        labels = nulls(len(labels), logits.shape[1:], labels.dtype)
    return labels, logits


def nulls(rows: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """Return rows of a given shape whose values are all null."""
    masked: np.ndarray = np.ma.masked_array(np.zeros((rows, *shape), dtype), True)
    return masked
