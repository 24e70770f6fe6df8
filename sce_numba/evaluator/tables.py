"""Columns of Parquet, Arrow and CSV files, read a block of rows at a time by pyarrow."""

from __future__ import annotations

import codecs
import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import unquote

import numpy as np

from sce_numba.arrow_columns import dtype_of, joined, side_by_side
from sce_numba.messages import shown as shown_value

from .places import is_remote, opened, shown

PARQUET = (".parquet", ".pq")
CSV = (".csv", ".csv.gz", ".tsv", ".tsv.gz")
SUFFIXES = (*PARQUET, ".arrow", ".feather", *CSV)
# The value in the folder names of a partitioned table that stands for null.
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
GROUPS = "what names groups are text, numbers, bool, dates and categories"
FIELDS = "each line must have as many fields as the first; quote one with a separator in it"
# The separator of the names of columns of groups, which no argument of a command can contain.
BETWEEN = "\0"
# Bytes of a column that pyarrow reads at once.
BUFFER = 1 << 20

ARROW_FILE = b"ARROW1"
FEATHER_1 = b"FEA1"

# Yields the record batches of a part, each of about the given number of rows.
Reader = Callable[[int], Iterator[Any]]


def table_parts(path: str, column: str, as_groups: bool = False) -> list[TablePart]:
    """Return the row groups of a Parquet file, or the record batches of an Arrow file.

    Several names, with commas between them, are columns side by side.  An Arrow stream, whose
    batches can only be read from front to back, is one part, as is a CSV file.  Columns of groups
    are read each as it is, with ``BETWEEN`` between their names; a single one may be that of a
    folder.
    """
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise ValueError("it needs pyarrow: pip install 'sce_numba[arrow]'") from None
    if as_groups and is_partition(path, column):
        parts = [_partition(path, column)]
    else:
        parts = _parts_of(path, column, as_groups)
    offset = 0
    for part in parts:
        part.offset = offset
        offset += part.rows
    return parts


def _parts_of(path: str, column: str | None, as_groups: bool) -> list[TablePart]:
    if path.endswith(PARQUET):
        return list(_row_groups(path, column, as_groups))
    if not path.endswith(CSV):
        return list(_record_batches(path, column, as_groups))
    try:
        return list(_csv_rows(path, column, as_groups))
    except ValueError as error:
        if "CSV parse error: Expected" not in str(error):
            raise
        raise ValueError(f"{error}; {FIELDS}") from None


def _partitions(path: str) -> dict[str, str]:
    """Return the partition keys and values in the folders of a path, such as ``country=DE``."""
    folders = [name for name in os.path.dirname(path).split("/") if "=" in name]
    pairs = (folder.partition("=") for folder in folders)
    return {unquote(name): unquote(value) for name, _, value in pairs}


def is_partition(path: str, name: str) -> bool:
    """Tell whether a name is a partition key in the folders of a file, not a column of it."""
    return name in _partitions(path)


def _partition(path: str, name: str) -> TablePart:
    """Return the rows of a file, each with the partition value of its folder."""
    import pyarrow as pa

    value = _partitions(path)[name]
    rows = sum(part.rows for part in _parts_of(path, None, True))
    column = pa.array([None if value == NO_VALUE else value]).dictionary_encode()

    def read(count: int) -> Iterator[Any]:
        for start in range(0, rows, count):
            codes = pa.array(np.zeros(min(count, rows - start), np.int32))
            yield pa.record_batch([column.take(codes)], [name])

    schema = pa.schema([pa.field(name, column.type)])
    return TablePart(path, _Columns(name, schema, True), rows, 0, read)


def _source(path: str) -> Any:
    """Return a file as pyarrow reads it."""
    import pyarrow as pa

    # A memory map would be faster to scan, but a file that shrinks would end the process.
    return pa.PythonFile(opened(path), "r") if is_remote(path) else pa.OSFile(path)


class TablePart:
    """The rows of some columns in one row group or record batch, read from front to back."""

    # Unknown before rows are read.
    shape = None

    def __init__(self, path: str, columns: _Columns, rows: int, size: int, reader: Reader) -> None:
        self.path, self.columns, self.dtype = path, columns.names, columns.dtype
        self.name = f"{shown(path)}:{','.join(columns.names)}"
        self._as_groups = columns.as_groups
        self.rows = self.readable = rows
        self.row_bytes = -(-size // max(rows, 1))
        self.offset = 0
        self.shortage = ""
        self._reader = reader
        self._batches: Iterator[Any] | None = None
        self._ready: deque[Any] = deque()
        self._position = 0
        self._error: Exception | None = None

    def read(self, start: int, stop: int, memory: np.ndarray) -> np.ndarray:
        """Return rows, in memory that pyarrow owns or in a copy; a masked array if some are null.

        Columns that name groups are returned as one record batch.

        After an error of the file, rather than of values in these rows, every read raises it.
        """
        if self._error is not None:
            raise self._error
        try:
            if self._batches is None:
                self._batches = self._reader(stop - start)
            while self._position + sum(len(batch) for batch in self._ready) < stop:
                batch = next(self._batches)
                # A file may declare more values than it holds, or lists beyond their values:
                # nothing else prevents reads beyond its memory.
                batch.validate(full=True)
                self._ready.append(batch)
        except StopIteration:
            self._error = ValueError("rows are missing at its end")
            raise self._error from None
        except Exception as error:
            self._error = error
            raise
        pieces = []
        while self._position < stop:
            batch = self._ready.popleft()
            used = min(len(batch), stop - self._position)
            unused = min(max(start - self._position, 0), used)
            pieces.append(batch.slice(unused, used - unused))
            if used < len(batch):
                self._ready.appendleft(batch.slice(used))
            self._position += used
        if self._as_groups:
            merged: Any = _one_batch(pieces)
            return merged  # type: ignore[no-any-return]
        rows = [side_by_side(batch, self.columns) for batch in pieces if len(batch)]
        return rows[0] if len(rows) == 1 else joined(np.concatenate, rows)

    def first_text(self) -> str:
        """Return a message about the first text that is no number; empty if all are numbers."""
        row = self.offset
        with suppress(Exception):  # what is wrong with the file itself is told when it is read
            for batch in self._reader(1 << 16):
                batch.validate(full=True)  # as in read
                for values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    for value in values:
                        if isinstance(value, str) and not _is_numeral(value):
                            return f"; row {row} has {shown_value(value)}, which is no number"
                    row += 1
        return ""

    def close(self) -> None:
        """Free the batches that were read; the next read starts from the first row."""
        self._batches, self._ready = None, deque()
        self._position, self._error = 0, None


def _one_batch(batches: list[Any]) -> Any:
    import pyarrow as pa

    if len(batches) == 1:
        return batches[0]
    table = pa.Table.from_batches(batches).unify_dictionaries()
    return table.combine_chunks().to_batches()[0]


class _Columns:
    """The columns that a name selects, and the dtype of their values.

    Names have commas between them, and may have some in them; those of groups have ``BETWEEN``, and
    no dtype that would matter.  Without a name, where the rows alone matter, it is any column.
    """

    def __init__(self, name: str | None, schema: Any, as_groups: bool = False) -> None:
        names, self.as_groups = schema.names, as_groups
        if name is None:
            self.names, self.dtype = names[:1], np.dtype(np.str_)
            return
        self.names = name.split(BETWEEN) if as_groups else _split(name, names) or name.split(",")
        for column in self.names:
            if not name:
                raise ValueError(f"which column? Add :COLUMN, one of {', '.join(names)}")
            if column not in names:
                raise ValueError(f"no column {column!r}; its columns are {', '.join(names)}")
            if names.count(column) > 1:
                raise ValueError(f"{names.count(column)} columns are called {column!r}")
        if as_groups:
            for column in self.names:
                _check_groups(schema.field(column).type)
            self.dtype = np.dtype(np.str_)
            return
        self.dtype = np.result_type(*(dtype_of(schema.field(column).type) for column in self.names))


def _check_groups(kind: Any) -> None:
    import pyarrow as pa

    if pa.types.is_nested(kind) or pa.types.is_binary(kind):
        raise ValueError(f"a column of {kind}; {GROUPS}")


def _split(text: str, names: list[str]) -> list[str]:
    """Split a text at commas into names of columns, the first of them as long as possible."""
    if text in names:
        return [text]
    for comma in (k for k in reversed(range(len(text))) if text[k] == ","):
        if text[:comma] in names and (rest := _split(text[comma + 1 :], names)):
            return [text[:comma], *rest]
    return []


def _row_groups(path: str, name: str | None, as_groups: bool) -> Iterator[TablePart]:
    from pyarrow.parquet import ParquetFile

    # pyarrow closes only files that it has opened itself.
    with _source(path) as source, ParquetFile(source) as file:
        metadata, schema = file.metadata, file.schema_arrow
        columns = _Columns(name, schema, as_groups)

    def read(index: int, rows: int) -> Iterator[Any]:
        with (
            _source(path) as source,
            ParquetFile(
                source,
                metadata=metadata,
                read_dictionary=columns.names if as_groups else None,
                buffer_size=BUFFER,
                pre_buffer=False,
                page_checksum_verification=True,
            ) as file,
        ):
            # Each operand has a reading thread already.
            yield from file.iter_batches(rows, [index], columns.names, use_threads=False)

    leaves = [metadata.schema.column(index) for index in range(metadata.num_columns)]
    starts = tuple(f"{column}." for column in columns.names)
    used = [leaf for leaf in leaves if f"{leaf.path}.".startswith(starts)]
    widths = [_width(schema.field(column).type) for column in columns.names]
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        # The metadata of its columns would be exact, but damaged metadata end the process.
        size = group.num_rows * (8 * len(used) + sum(widths))
        if sum(leaf.max_repetition_level > 0 for leaf in used) > sum(map(bool, widths)):
            size += group.total_byte_size
        yield TablePart(path, columns, group.num_rows, size, partial(read, index))


def _width(kind: Any) -> int:
    """Return the bytes of a list of the column if its type has a fixed size, else 0."""
    import pyarrow as pa

    if not (pa.types.is_fixed_size_list(kind) and pa.types.is_primitive(kind.value_type)):
        return 0
    return int(kind.list_size * kind.value_type.bit_width // 8)


def _csv_rows(path: str, name: str | None, as_groups: bool) -> Iterator[TablePart]:
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import csv

    def unpacked(source: Any) -> Any:
        return pa.CompressedInputStream(source, "gzip") if path.endswith(".gz") else source

    with _source(path) as source:
        parse = csv.ParseOptions(delimiter=_delimiter(path, unpacked(source).read(BUFFER)))

    def open_it(source: Any, **options: Any) -> Any:
        convert = csv.ConvertOptions(strings_can_be_null=True, **options)
        return csv.open_csv(unpacked(source), parse_options=parse, convert_options=convert)

    with _source(path) as source, open_it(source) as file:
        # The first block tells whether a column has numbers, but not whether all are integers.
        fields = [
            pa.field(field.name, pa.float64() if _is_number(field.type) else field.type)
            for field in file.schema
        ]
    columns = _Columns(name, pa.schema(fields), as_groups)
    types = {field.name: field.type for field in fields if field.name in columns.names}

    def read(types: dict[str, Any], _rows: int) -> Iterator[Any]:
        options = {"include_columns": list(types), "column_types": types}
        with _source(path) as source, open_it(source, **options) as file:
            yield from file

    def size_as(types: dict[str, Any]) -> tuple[int, int]:
        rows = size = 0
        for batch in read(types, 0):
            rows, size = rows + len(batch), size + batch.nbytes
        return rows, size

    def has_leading_zeros(column: str) -> bool:
        return any(
            pc.any(pc.match_substring_regex(batch.column(0), r"^[+-]?0\d")).as_py()
            for batch in read({column: pa.string()}, 0)
        )

    numbers = [column for column, kind in types.items() if kind == pa.float64()]
    for column in numbers if as_groups else ():
        # 007 and 7 are two names, though they are the same number.
        if has_leading_zeros(column):
            types[column] = pa.string()
            continue
        # Integers that are identifiers may have more digits than float64 holds.
        for integer in (pa.int64(), pa.uint64()):
            with suppress(pa.ArrowInvalid):
                size_as({column: integer})
                types[column] = integer
                break
    rows, size = size_as(types)
    yield TablePart(path, columns, rows, size, partial(read, types))


def _delimiter(path: str, beginning: bytes) -> str:
    """Return the delimiter of the fields of a CSV file."""
    if beginning.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError("text in UTF-16: save it in UTF-8")
    if path.removesuffix(".gz").endswith(".tsv"):
        return "\t"
    header = beginning.partition(b"\n")[0]
    # Spreadsheets use semicolons where numbers have decimal commas.
    return ";" if b";" in header and b"," not in header else ","


def _is_numeral(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_number(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_null(kind))


def _record_batches(path: str, name: str | None, as_groups: bool) -> Iterator[TablePart]:
    import pyarrow as pa

    with opened(path) as beginning:
        start = beginning.read(len(ARROW_FILE))
    if start.startswith(FEATHER_1):
        raise ValueError("Feather of version 1; what pyarrow.feather.write_feather writes is read")
    is_file = start == ARROW_FILE
    open_it = pa.ipc.open_file if is_file else pa.ipc.open_stream
    with _source(path) as source, open_it(source) as file:
        columns = _Columns(name, file.schema, as_groups)
        fields = [file.schema.names.index(column) for column in columns.names]
    options = pa.ipc.IpcReadOptions(included_fields=fields)
    with _source(path) as source, open_it(source, options=options) as file:
        batches = _with_known_rows(path, _batch_sizes(file)) if is_file else [_stream_size(file)]

    def read(index: int | None, _rows: int) -> Iterator[Any]:
        with _source(path) as source, open_it(source, options=options) as file:
            if index is None:
                yield from file
            else:
                yield file.get_batch(index)

    for index, rows, size, fault in batches:
        part = TablePart(path, columns, rows, size, partial(read, index))
        if fault is not None:
            part.readable, part.shortage = 0, " ".join(str(fault).split())
        yield part


def _batch_sizes(file: Any) -> list[Any]:
    """Return the index, rows (None if unknown), bytes and error (or None) of each batch."""
    sizes: list[tuple[int, int | None, int, Exception | None]] = []
    for index in range(file.num_record_batches):
        rows, size, fault = None, 0, None
        try:
            batch = file.get_batch(index)
            rows = len(batch)
            # Checks the lengths of buffers, without reading the values.
            batch.validate()
            size = batch.nbytes
        except Exception as error:
            fault = error
        sizes.append((index, rows, size, fault))
    return sizes


def _stream_size(file: Any) -> tuple[None, int, int, None]:
    """Return the same for all batches of a stream together: a broken one ends it."""
    rows = size = 0
    for batch in file:
        batch.validate()
        rows, size = rows + len(batch), size + batch.nbytes
    return None, rows, size, None


def _with_known_rows(path: str, batches: list[Any]) -> list[Any]:
    """Join the batches from the first to the last of unknown length, which have the other rows."""
    unknown = [index for index, (_, rows, *_) in enumerate(batches) if rows is None]
    if unknown and len(unknown) < len(batches):
        from pyarrow.dataset import dataset

        first, last = unknown[0], unknown[-1]
        others = batches[:first] + batches[last + 1 :]
        rest = dataset(path, format="ipc").count_rows() - sum(rows for _, rows, *_ in others)
        batches = [*batches[:first], (first, rest, 0, batches[first][-1]), *batches[last + 1 :]]
    broken = [(rows, fault) for _, rows, _, fault in batches if fault]
    # A batch that declares no rows, and yet can't be read, may have had some.
    vague = any(not rows or rows < 0 for rows, _ in broken)
    if broken and (vague or len(broken) == len(batches)):
        raise broken[0][1]
    return batches
