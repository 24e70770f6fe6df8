"""Rows of columns of Parquet and Arrow files, read a block at a time by pyarrow."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

PARQUET = (".parquet", ".pq")
SUFFIXES = (*PARQUET, ".arrow", ".feather")
# What pyarrow reads of a column at once.
BUFFER = 1 << 20

# From a number of rows to the record batches of a part, of about as many rows.
Reader = Callable[[int], Iterator[Any]]


def table_parts(path: str, column: str) -> list[TablePart]:
    """Return the row groups of a Parquet file, or the record batches of an Arrow file.

    Several names, with commas between them, are columns side by side.
    """
    try:
        import pyarrow
    except ImportError:
        raise ValueError("it needs pyarrow: pip install 'sce_numba[arrow]'") from None
    # The others keep tens of megabytes of what was freed.
    pyarrow.set_memory_pool(pyarrow.system_memory_pool())
    columns = column.split(",")
    parts = list((_row_groups if path.endswith(PARQUET) else _record_batches)(path, columns))
    offset = 0
    for part in parts:
        part.offset = offset
        offset += part.rows
    return parts


class TablePart:
    """The rows of some columns in one row group or record batch, read from front to back."""

    # Known when they are read.
    shape = dtype = None

    def __init__(self, path: str, columns: list[str], rows: int, size: int, reader: Reader) -> None:
        self.path, self.columns = path, columns
        self.name = f"{path}:{','.join(columns)}"
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
        """Return rows, in memory that pyarrow owns or in a copy.

        After an error of the file, rather than of the values in these rows, the rest is lost.
        """
        if self._error is not None:
            raise self._error
        try:
            if self._batches is None:
                self._batches = self._reader(stop - start)
            while self._position + sum(len(batch) for batch in self._ready) < stop:
                batch = next(self._batches)
                # A file may promise more values than it holds, or lists beyond their values:
                # nothing else keeps these from being read from foreign memory.
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
        rows = [self._side_by_side(batch) for batch in pieces if len(batch)]
        return rows[0] if len(rows) == 1 else np.concatenate(rows)

    def _side_by_side(self, batch: Any) -> np.ndarray:
        columns = [_values(batch.column(name)) for name in self.columns]
        return columns[0] if len(columns) == 1 else np.column_stack(columns)

    def close(self) -> None:
        """Free what has been read; the next read starts anew."""
        self._batches, self._ready = None, deque()
        self._position, self._error = 0, None


def _row_groups(path: str, columns: list[str]) -> Iterator[TablePart]:
    from pyarrow.parquet import ParquetFile

    with ParquetFile(path) as file:
        metadata, names = file.metadata, file.schema_arrow.names
    _check_names(columns, names)

    def read(number: int, rows: int) -> Iterator[Any]:
        with ParquetFile(
            path,
            metadata=metadata,
            buffer_size=BUFFER,
            pre_buffer=False,
            page_checksum_verification=True,
        ) as file:
            # The operands are read in threads of their own.
            yield from file.iter_batches(rows, [number], columns, use_threads=False)

    leaves = [metadata.schema.column(number) for number in range(metadata.num_columns)]
    starts = tuple(f"{column}." for column in columns)
    wanted = [leaf for leaf in leaves if f"{leaf.path}.".startswith(starts)]
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        # The metadata of its columns would know better, but damaged ones end the process.
        size = 8 * group.num_rows * len(wanted)
        if any(leaf.max_repetition_level for leaf in wanted):
            size += group.total_byte_size
        yield TablePart(path, columns, group.num_rows, size, partial(read, number))


def _record_batches(path: str, columns: list[str]) -> Iterator[TablePart]:
    import pyarrow as pa

    # Mapped, it would be counted sooner, but one that shrinks meanwhile would end the process.
    with pa.OSFile(path) as source:
        with pa.ipc.open_file(source) as file:
            names = file.schema.names
        _check_names(columns, names)
        fields = [names.index(column) for column in columns]
        options = pa.ipc.IpcReadOptions(included_fields=fields)
        found: list[tuple[int, int | None, int, Exception | None]] = []
        with pa.ipc.open_file(source, options=options) as file:
            for number in range(file.num_record_batches):
                rows, size, fault = None, 0, None
                try:
                    batch = file.get_batch(number)
                    rows = len(batch)
                    # Whether buffers are as long as they must be: that reads none of the values.
                    batch.validate()
                    size = batch.nbytes
                except Exception as error:
                    fault = error
                found.append((number, rows, size, fault))

    def read(number: int, _rows: int) -> Iterator[Any]:
        with pa.OSFile(path) as source, pa.ipc.open_file(source, options=options) as file:
            yield file.get_batch(number)

    for number, rows, size, fault in _with_known_rows(path, found):
        part = TablePart(path, columns, rows, size, partial(read, number))
        if fault is not None:
            part.readable, part.shortage = 0, " ".join(str(fault).split())
        yield part


def _with_known_rows(path: str, found: list[Any]) -> list[Any]:
    """Join batches from the first to the last of unknown length, which together have the rest."""
    unknown = [at for at, (_, rows, *_) in enumerate(found) if rows is None]
    if unknown and len(unknown) < len(found):
        from pyarrow.dataset import dataset

        first, last = unknown[0], unknown[-1]
        others = found[:first] + found[last + 1 :]
        rest = dataset(path, format="ipc").count_rows() - sum(rows for _, rows, *_ in others)
        found = [*found[:first], (first, rest, 0, found[first][-1]), *found[last + 1 :]]
    broken = [(rows, fault) for _, rows, _, fault in found if fault]
    # A batch that says it has no rows, and yet can't be read, may have had some.
    vague = any(not rows or rows < 0 for rows, _ in broken)
    if broken and (vague or len(broken) == len(found)):
        raise broken[0][1]
    return found


def _check_names(columns: list[str], names: list[str]) -> None:
    for column in columns:
        if column not in names:
            raise ValueError(f"no column {column!r}; its columns are {', '.join(names)}")


def _values(column: Any) -> np.ndarray:
    """Return a column of numbers as a vector, one of lists of equal length as a matrix."""
    import pyarrow as pa

    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if column.null_count:
        raise ValueError(f"{column.null_count:,} values are null")
    kind = column.type
    if pa.types.is_fixed_size_list(kind):
        width = kind.list_size
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        widths = np.unique(np.diff(column.offsets.to_numpy()))
        if widths.size > 1:
            raise ValueError(f"its lists have between {widths[0]} and {widths[-1]} values")
        width = int(widths.sum())
    elif pa.types.is_boolean(kind):
        return _values(column.cast(pa.uint8())).view(np.bool_)
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
        # Not by `to_numpy`, which imports pandas: 40 MB.
        return np.from_dlpack(column)
    else:
        raise ValueError(f"a column of {kind}")
    return _values(column.flatten()).reshape(len(column), width)
