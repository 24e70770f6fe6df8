"""Files that are written beside their place, and put there once they are whole."""

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
    """A file that takes the place of another one, or of none, when it is finished."""

    def __init__(self, path: str) -> None:
        self.path, self.is_there = path, False
        try:
            _check_place(path)
            # A link stays, and what it leads to is replaced.
            self._place = os.path.realpath(path)
            folder = os.path.dirname(self._place)
            number, self._beside = tempfile.mkstemp(prefix=".sce_numba-", dir=folder)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ValueError(f"cannot write {path} ({reason})") from None
        self.file: IO[bytes] = os.fdopen(number, "w+b")

    def finish(self) -> None:
        """Put the file in its place."""
        self.file.close()
        os.chmod(self._beside, self._mode())
        os.replace(self._beside, self._place)
        self.is_there = True

    def _mode(self) -> int:
        """Return who may read and write: as before or, of a new file, as `open` would have it."""
        with suppress(OSError):
            return stat.S_IMODE(os.stat(self._place).st_mode)
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask

    def drop(self) -> None:
        """Remove what was written, unless it is in its place."""
        if not self.is_there:
            with suppress(OSError):
                os.remove(self._beside)


def _check_place(path: str) -> None:
    """Refuse what would not become a file, or would be one no longer: a device."""
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
        If it can't be written, or no longer.
    """
    opened = Output(path)
    try:
        yield opened
    # Whatever could not be read has been told as what it is.
    except OSError as error:
        raise ValueError(f"cannot write {path} ({error.strerror or error})") from None
    finally:
        with suppress(OSError):
            opened.file.close()
        opened.drop()


class RowWriter:
    """One loss a row, in order, in a ``.npy`` or Parquet file."""

    def __init__(self, to: Output, rows: int) -> None:
        self._to = to
        self._table: Any = None
        self._waiting: list[np.ndarray] = []
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
        self._waiting.append(losses)
        if sum(map(len, self._waiting)) >= GROUP:
            self._write_group()

    def skip(self, rows: int) -> None:
        """Write NaN for rows that have no loss, as many as a damaged header may say."""
        while rows > 0:
            count = min(rows, GROUP)
            self.add(np.full(count, np.nan))
            rows -= count

    def finish(self) -> None:
        """Put the file in its place."""
        if self._table is not None:
            self._write_group()
            self._table.close()
        self._to.finish()

    def close(self) -> None:
        """End what pyarrow writes while its file is open: it would try to, and complain, later."""
        if self._table is not None:
            with suppress(OSError):
                self._table.close()

    def _write_group(self) -> None:
        pa, _ = _pyarrow()
        if self._waiting:
            column = pa.array(np.concatenate(self._waiting))
            self._table.write_table(pa.table([column], self._schema))
            self._waiting = []


def is_same_file(path: str, other: str) -> bool:
    """Tell whether two paths lead to one file, which need not be there yet."""
    with suppress(OSError):
        return os.path.samefile(path, other)
    return os.path.realpath(path) == os.path.realpath(other)


def check_row_file(path: str, rows: int) -> None:
    """Refuse a file of losses that can't be written, by its name or for want of room."""
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
