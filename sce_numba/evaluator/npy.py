"""Rows of ``.npy`` files and of the members of ``.npz`` archives, read a block at a time.

Blocks are read, not mapped: pages of a mapped file count as memory of the process, and a file that
is cut short, or a disk that fails, would end the process instead of raising an error.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from typing import IO, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .places import archive_at, opened, shown, size_of

# Unlike numpy.load, it never suggests unpickling a text file; older NumPy gives it no types.
NPY: Any = np.lib.format
Array: TypeAlias = npt.NDArray[Any]
# The .npy format has no name for bfloat16.
BFLOAT16_AS_SAVED = np.dtype("V2")


class NpyPart:
    """The rows of one array in a file; an array without dimensions is one row."""

    offset = 0

    def __init__(self, path: str, member: str = "") -> None:
        self.path, self.member = path, member
        self.name = f"{shown(path)}:{member}" if member else shown(path)
        self._file: IO[bytes] | None = None
        with self._open() as file:
            version = NPY.read_magic(file)
            read_header = {
                (1, 0): NPY.read_array_header_1_0,
                (2, 0): NPY.read_array_header_2_0,
            }.get(version)
            if read_header is None:
                name = ".".join(map(str, version))
                raise ValueError(
                    f"its header has the version {name} of the .npy format; 1.0 and 2.0 can be "
                    "read, which NumPy writes for all arrays of numbers"
                )
            shape, self._fortran, self.dtype = read_header(file)
            self._data = file.tell()
        if self.dtype == BFLOAT16_AS_SAVED:
            self.dtype = _bfloat16()
        if self.dtype.hasobject:
            raise ValueError("an array of Python objects")
        if self.dtype.names:
            raise ValueError("an array with field names")
        # NumPy accepts any int, and bool is one.
        if any(type(length) is not int or length < 0 for length in shape):
            raise ValueError(f"its header has the shape {shape}; lengths are integers from 0 on")
        self.shape: tuple[int, ...] = shape
        self.rows = shape[0] if shape else 1
        self._row = shape[1:]
        self.row_bytes = math.prod(self._row) * self.dtype.itemsize
        if self.rows and not self.row_bytes:
            # No file could be too short for such rows, however many its header declares.
            raise ValueError(f"its header has the shape {shape}, whose rows have no elements")
        # A truncated file has fewer rows than its header declares.
        self.readable = self.rows
        missing = self._data + self.rows * self.row_bytes - self._size()
        self.shortage = f"{missing:,} bytes are missing at its end"
        if missing > 0:
            self.readable = (
                0 if self._fortran else max(self.rows - -(-missing // self.row_bytes), 0)
            )

    def _open(self) -> IO[bytes]:
        if not self.member:
            return opened(self.path)
        # The archive stays open as long as its member.
        with archive_at(self.path) as archive:
            return archive.open(f"{self.member}.npy")

    def _size(self) -> int:
        if not self.member:
            return size_of(self.path)
        with archive_at(self.path) as archive:
            return archive.getinfo(f"{self.member}.npy").file_size

    def read(self, start: int, stop: int, memory: Array) -> Array:
        """Read rows into ``memory``, an array of at least as many bytes, and return them."""
        if stop > self.readable:
            raise ValueError(self.shortage)
        if self._file is None:
            self._file = self._unpacked() if self._fortran and self.member else self._open()
        memory = memory[: (stop - start) * self.row_bytes]
        if not self._fortran:
            self._fill(memory, self._data + start * self.row_bytes)
            rows: Array = memory.view(self.dtype).reshape((stop - start, *self._row))
            return rows
        itemsize = self.dtype.itemsize
        columns = memory.reshape(math.prod(self._row), (stop - start) * itemsize)
        for index, column in enumerate(columns):
            self._fill(column, self._data + (index * self.rows + start) * itemsize)
        rows = memory.view(self.dtype).reshape((stop - start, *self._row), order="F")
        return rows

    def _unpacked(self) -> IO[bytes]:
        """Copy a member to an unnamed temporary file.

        A block needs bytes of every column, but archives can only be read from front to back.
        """
        free = shutil.disk_usage(tempfile.gettempdir()).free
        if self._size() > free:
            raise ValueError(
                f"in Fortran order it must be unpacked, but its {self._size():,} bytes are more "
                f"than the {free:,} that {tempfile.gettempdir()} has room for: set TMPDIR"
            )
        copy = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
        try:
            with self._open() as member:
                shutil.copyfileobj(member, copy, 1 << 20)
        except BaseException:
            copy.close()
            raise
        return copy

    def _fill(self, memory: Array, position: int) -> None:
        assert self._file is not None
        self._file.seek(position)
        remaining = memory.data
        while remaining:
            count = self._file.readinto(remaining)  # type: ignore[attr-defined]
            if not count:
                raise ValueError("it has become shorter")
            remaining = remaining[count:]

    def close(self) -> None:
        """Close the file; the next read opens it again."""
        if self._file is not None:
            self._file.close()
        self._file = None


def _bfloat16() -> np.dtype[Any]:
    try:
        from ml_dtypes import bfloat16
    except ImportError:
        raise ValueError("an array of bfloat16 needs ml_dtypes: pip install ml_dtypes") from None
    dtype: np.dtype[Any] = np.dtype(bfloat16)
    return dtype


def member_names(archive: str) -> list[str]:
    """List the arrays of an ``.npz`` archive."""
    with archive_at(archive) as members:
        return [name[:-4] for name in members.namelist() if name.endswith(".npy")]
