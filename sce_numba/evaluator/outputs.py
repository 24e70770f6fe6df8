"""Files that are written under a temporary name, and renamed once they are complete."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

import numpy as np

from .npy import NPY
from .places import NO_FILE
from .tables import PARQUET

# Rows in a row group of Parquet.
GROUP = 1 << 17


class Output:
    """A file that appears under its name, or replaces another file, when it is finished."""

    def __init__(self, path: str) -> None:
        self.path, self.is_finished = path, False
        try:
            _check_target(path)
            # A link stays; the file that it leads to is replaced.
            self._target = os.path.realpath(path)
            folder = os.path.dirname(self._target)
            descriptor, self._temporary = tempfile.mkstemp(prefix=".sce_numba-", dir=folder)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ValueError(f"cannot write {path} ({reason})") from None
        self.file: IO[bytes] = os.fdopen(descriptor, "w+b")

    def finish(self) -> None:
        """Rename the file to its final name."""
        self.file.close()
        os.chmod(self._temporary, self._mode())
        os.replace(self._temporary, self._target)
        self.is_finished = True

    def _mode(self) -> int:
        """Return the permissions: those of the file that is replaced, or those `open` would set."""
        with suppress(OSError):
            return stat.S_IMODE(os.stat(self._target).st_mode)
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask

    def drop(self) -> None:
        """Remove the temporary file, unless it is finished."""
        if not self.is_finished:
            with suppress(OSError):
                os.remove(self._temporary)


def _check_target(path: str) -> None:
    """Refuse a path that is a folder or a device, or has no name."""
    if not os.path.basename(path):
        raise ValueError("a folder" if path else "it has no name")
    with suppress(FileNotFoundError):
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise ValueError("a folder")
        if not stat.S_ISREG(mode):
            raise ValueError(NO_FILE)


@contextmanager
def output(path: str) -> Iterator[Output]:
    """Yield a file that is removed unless it is finished.

    Raises
    ------
    ValueError
        If it can't be written.
    """
    opened = Output(path)
    try:
        yield opened
    # Errors of reading have been turned into other exceptions already.
    except OSError as error:
        raise ValueError(f"cannot write {path} ({error.strerror or error})") from None
    finally:
        with suppress(OSError):
            opened.file.close()
        opened.drop()


class RowWriter:
    """Writer of the losses of rows, in order, to a ``.npy`` or Parquet file."""

    def __init__(self, to: Output, rows: int) -> None:
        self._to = to
        self._table: Any = None
        self._pending: list[np.ndarray] = []
        if to.path.endswith(PARQUET):
            pa, parquet = _pyarrow()
            self._schema = pa.schema([("loss", pa.float64())])
            self._table = parquet.ParquetWriter(to.file, self._schema)
        else:
            header = NPY.header_data_from_array_1_0(np.empty(1))
            NPY.write_array_header_1_0(to.file, header | {"shape": (rows,)})

    def add(self, losses: np.ndarray) -> None:
        """Write the losses of the next rows."""
        if self._table is None:
            self._to.file.write(losses.astype(np.float64).data)
            return
        self._pending.append(losses)
        if sum(map(len, self._pending)) >= GROUP:
            self._write_group()

    def skip(self, rows: int) -> None:
        """Write NaN for rows without a loss, of which a damaged header may declare any number."""
        while rows > 0:
            count = min(rows, GROUP)
            self.add(np.full(count, np.nan))
            rows -= count

    def finish(self) -> None:
        """Write the remaining rows, and rename the file to its final name."""
        if self._table is not None:
            self._write_group()
            self._table.close()
        self._to.finish()

    def close(self) -> None:
        """Close pyarrow's writer while its file is open: it would fail, with a warning, later."""
        if self._table is not None:
            with suppress(OSError):
                self._table.close()

    def _write_group(self) -> None:
        pa, _ = _pyarrow()
        if self._pending:
            column = pa.array(np.concatenate(self._pending))
            self._table.write_table(pa.table([column], self._schema))
            self._pending = []


def is_same_file(path: str, other: str) -> bool:
    """Tell whether two paths lead to the same file, which need not exist yet."""
    with suppress(OSError):
        return os.path.samefile(path, other)
    return os.path.realpath(path) == os.path.realpath(other)


def check_row_file(path: str, rows: int) -> None:
    """Refuse a file of losses for its format, or if the disk lacks room for it."""
    if path.endswith(PARQUET):
        _pyarrow()
    elif not path.endswith(".npy"):
        raise ValueError(f"--per-row {path}: what can be written are .npy, .parquet and .pq files")
    folder = os.path.dirname(path) or "."
    if os.path.isdir(folder) and 8 * rows > (room := shutil.disk_usage(folder).free):
        raise ValueError(
            f"--per-row {path}: there is no room for {8 * rows:,} bytes, but for {room:,}"
        )


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ValueError("Parquet needs pyarrow: pip install 'sce_numba[arrow]'") from None
    return pyarrow, parquet
