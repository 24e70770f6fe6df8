"""Read the operands of ``LossAccumulator.update`` from named columns of Arrow data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from . import arguments
from .array_libraries import check_order, has_labels
from .arrow_columns import dtype_of, side_by_side, with_lengths
from .messages import shown, values_are

# The types of an operand's columns: kinds of NumPy's dtypes, in words, and a hint for other types.
_HOLDS = {
    "labels": ("biuf", "bool, integers or floats", "Pass whether it is the positive one."),
    "logits": ("f", "floats", "Cast it to float32; or are labels and logits exchanged?"),
    "weights": ("biuf", "bool, integers or floats", "Cast it to float64."),
    "where": ("b", "bool", "Pass whether it counts."),
}
_HINTS = {
    "decimal": "Cast it to float64.",
    "struct": "Pass its fields; of a vector of Spark, `pyspark.ml.functions.vector_to_array`.",
}


def operands(
    data: Any, columns: Mapping[str, str | Sequence[str]], pos_weight: Any
) -> Iterator[dict[str, np.ndarray]]:
    """Yield the operands of each record batch as arrays, given the names of their columns.

    If ``pos_weight`` has names, they must be in the order of the columns.
    """
    reader = _reader(data)
    names = {role: _names(role, given, reader.schema) for role, given in columns.items()}
    if has_labels(pos_weight):
        logits = reader.schema.empty_table().select(names["logits"])
        check_order({"logits": logits, "pos_weight": pos_weight})
    # The length of lists is unknown in batches without rows.
    for batch in filter(len, reader):
        fitted = _fitted({role: _read(role, batch, names[role]) for role in names})
        if fitted["logits"].size:
            yield fitted


def _reader(data: Any) -> Any:
    """Return a reader of record batches, for anything with Arrow's stream interface."""
    try:
        import pyarrow as pa
    except ImportError:
        raise ImportError("This needs pyarrow: pip install 'sce_numba[arrow]'.") from None
    if not hasattr(data, "__arrow_c_stream__"):
        lazy = " Pass `.collect()` of it." if type(data).__name__ == "LazyFrame" else ""
        raise TypeError(
            "Argument `batch` must be a RecordBatch or Table of Arrow, or have an "
            f"`__arrow_c_stream__` as frames have, got {type(data).__name__}.{lazy}"
        )
    try:
        return pa.RecordBatchReader.from_stream(data)
    except pa.ArrowInvalid as error:  # columns of objects that are of no one type
        raise ValueError(f"Argument `batch` can't be read as Arrow data: {error}") from error


def _names(role: str, given: Any, schema: Any) -> list[str]:
    """Return the names of an operand's columns, which must exist and have the right types."""
    is_list = isinstance(given, Sequence) and not isinstance(given, str)
    names = list(given) if is_list else [given]
    if not names or not all(isinstance(name, str) for name in names):
        raise TypeError(
            f"Argument `{role}` must be the name of a column, or a list of names, got "
            f"{shown(given)}."
        )
    for name in names:
        indices = schema.get_all_field_indices(name)
        if len(indices) != 1:
            raise ValueError(
                f"Argument `{role}` names {name!r}, but {len(indices) or 'none'} of the columns "
                f"{schema.names} have that name."
            )
        _check_type(role, name, schema.field(indices[0]).type)
    return names


def _check_type(role: str, name: str, kind: Any) -> None:
    kinds, words, hint = _HOLDS[role]
    try:
        if str(kind) == "null" or dtype_of(kind).kind in kinds:
            return
    except ValueError:  # a type that is never read
        hint = next((_HINTS[key] for key in _HINTS if key in str(kind)), hint)
    raise TypeError(
        f"Argument `{role}` must be {words}, or lists of these, but column {name!r} is {kind}. "
        f"{hint}"
    )


def _read(role: str, batch: Any, names: list[str]) -> np.ndarray:
    try:
        return side_by_side(batch, names)
    except ValueError as error:  # lists that differ in length
        raise ValueError(
            f"Argument `{role}` can't be read from {shown(names)}: {error}. Pad them to one "
            "length, and exclude what is padded with `where`."
        ) from error


def _fitted(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return arrays without masks, those of one value a row reshaped to the rank of the logits."""
    labels, logits = with_lengths(arrays["labels"], arrays["logits"])
    if labels.shape != logits.shape:
        raise ValueError(
            "Arguments `labels` and `logits` must have as many values in a row, got shapes "
            f"{labels.shape} and {logits.shape}. Labels are not broadcast."
        )
    fitted = arrays | {"labels": labels, "logits": logits}
    for role in ("weights", "where"):
        if role in fitted and fitted[role].ndim == 1:
            fitted[role] = fitted[role].reshape(-1, *[1] * (logits.ndim - 1))
    where = None
    if "where" in fitted:
        fitted["where"] = _plain("where", fitted["where"], None)
        where = arguments.as_where(fitted["where"], logits)
    if "weights" in fitted:
        arguments.as_weights(np.ma.getdata(fitted["weights"]), logits)
    return {role: _plain(role, array, where) for role, array in fitted.items()}


def _plain(role: str, array: np.ndarray, where: np.ndarray | None) -> np.ndarray:
    """Return values without a mask; only elements that are left out may be null."""
    if not isinstance(array, np.ma.MaskedArray):
        return array
    null = np.ma.getmaskarray(array)
    count = np.count_nonzero(null if where is None else null & where)
    if count:
        hint = "" if role == "where" else ", or leave them out by `where`, a column of bool"
        raise ValueError(
            f"Argument `{role}`: {values_are(count)} null. Fill what is null, or drop its "
            f"rows{hint}."
        )
    return np.asarray(np.ma.getdata(array))
