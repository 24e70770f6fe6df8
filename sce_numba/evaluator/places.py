"""Access to files on a disk, in a remote store that fsspec knows, or on standard input."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import sys
import tempfile
import zipfile
from contextlib import suppress
from typing import IO, Any

# What the command line calls standard input.
STDIN = "-"
# Files are read more than once, and replaced as a whole, which needs a regular file.
NO_FILE = "a pipe or device, not a file on a disk"
# The magic bytes that files of a format begin with, and the suffix of their names.
_MAGIC = {b"PAR1": ".parquet", b"ARROW1": ".arrow", b"\xff\xff\xff\xff": ".arrow"}


def is_remote(path: str) -> bool:
    """Tell whether a path is a URL, as ``s3://bucket/file``."""
    return "://" in path


@functools.cache
def _store(protocol: str) -> Any:
    try:
        import fsspec
    except ImportError:
        raise ValueError("URLs need fsspec: pip install 'sce_numba[remote]'") from None
    try:
        return fsspec.filesystem(protocol)
    except (ImportError, ValueError) as error:
        raise ValueError(f"{protocol}:// can't be read: {error}") from None


def store_of(url: str) -> Any:
    """Return the file system of fsspec for a URL; ValueError if there is none."""
    return _store(url.partition("://")[0])


def opened(path: str) -> IO[bytes]:
    """Open a file to be read."""
    file: IO[bytes] = (store_of(path).open if is_remote(path) else open)(path, "rb")
    return file


def size_of(path: str) -> int:
    """Return how many bytes a file has."""
    return int(store_of(path).size(path)) if is_remote(path) else os.stat(path).st_size


def archive_at(path: str) -> zipfile.ZipFile:
    """Open an archive to be read."""
    return zipfile.ZipFile(opened(path) if is_remote(path) else path)


def shown(path: str) -> str:
    """Return the name of a file in messages."""
    return STDIN if path in _copies else path


_copies: list[str] = []


def copy_of_stdin() -> str:
    """Return the path of a copy of standard input, which is removed when the program ends.

    It must be complete before any of it counts, and each operand reads it by itself.
    """
    if not _copies:
        if sys.stdin is None or sys.stdin.isatty():
            raise ValueError("nothing comes from standard input: pipe an Arrow stream into it")
        file = tempfile.NamedTemporaryFile(delete=False, prefix="sce_numba-")  # noqa: SIM115
        atexit.register(_remove, file.name)
        with file:
            shutil.copyfileobj(sys.stdin.buffer, file, 1 << 20)
        with open(file.name, "rb") as copy:
            start = copy.read(8)
        suffix = next((suffix for magic, suffix in _MAGIC.items() if start.startswith(magic)), None)
        if suffix is None:
            raise ValueError(
                "neither Arrow nor Parquet: what can be piped are Arrow streams and files, and "
                "Parquet files"
            )
        os.rename(file.name, file.name + suffix)
        atexit.register(_remove, file.name + suffix)
        _copies.append(file.name + suffix)
    return _copies[0]


def _remove(path: str) -> None:
    with suppress(OSError):
        os.remove(path)
