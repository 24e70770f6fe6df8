"""Compiled code on disk: one file for each piece, verified by checksums.

Numba finds the folder of the cache, but the files are our own.  Numba's have an index beside them:
two processes that write at once leave an index with the other's code, its key depends neither on
parallel loops nor on the other source files that a function calls, and a damaged file raises an
error, or crashes.  Here a file holds one piece of compiled code, after a checksum of all sources
and one of the code: whatever is truncated, damaged or stale is compiled anew.  A file that another
user could have written is not loaded.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import logging
import os
import time
import uuid
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
from numba import config

from ..private_files import NotPrivateError, make_private, read_private, write_private
from . import numba_internals

_log = logging.getLogger("sce_numba")

# Seconds after which an unfinished file must be that of a process that was killed.
_LEFT_BEHIND = 3600

# Why folders were refused in the last search for one.
_refused: list[str] = []


@cache
def _say(text: str) -> None:
    _log.info(text)


@cache
def sources() -> bytes:
    """Return a digest of the sources of everything that is compiled; empty if there are none."""
    digest = hashlib.sha256()
    # Unlike a glob of the folder, this works in a zip file, too.
    files = importlib.resources.files(__package__).iterdir()
    texts = {file.name: file.read_bytes() for file in files if file.name.endswith(".py")}
    for name in sorted(texts):
        digest.update(name.encode() + b"\0" + hashlib.sha256(texts[name]).digest())
    return digest.digest() if texts else b""


def _make(folder: str) -> None:
    try:
        make_private(folder)
    except NotPrivateError as error:
        _refused.append(str(error))
        raise


def _careful(locator: type) -> type:
    """Return one of Numba's cache locators, restricted to folders only this user can write to."""

    class Careful(locator):
        def ensure_cache_path(self) -> None:
            _make(self.get_cache_path())
            super().ensure_cache_path()

    return Careful


_Folder = numba_internals.cache_search(_careful)


def header(code: bytes) -> bytes:
    """Return the checksums that come before the code in a file."""
    return sources() + hashlib.sha256(code).digest()


def _is_of_other_sources(file: Path) -> bool:
    """Tell whether a file was written by another version of this package."""
    try:
        if not file.is_file():
            return False
        with file.open("rb") as opened:
            return opened.read(32) != sources()
    except OSError:
        return False


class Cache:
    """A file of compiled code, found by the key of the code and verified by checksums."""

    def __init__(self, name: str, key: Any) -> None:
        """Raise an exception if there is no folder for files, or no source to detect stale code."""
        _refused.clear()
        self._locator = _Folder(header).locator
        _make(self.folder)  # NUMBA_CACHE_LOCATOR_CLASSES may name others
        self._locator.ensure_cache_path()
        if not sources():
            raise RuntimeError("there is no source that a checksum could be made of")
        # The target names the CPU and its features: CPUs that differ can share a folder.
        versions = llvmlite.__version__, config.OPT, numba_internals.target()
        digest = hashlib.sha256(repr((key, versions)).encode()).hexdigest()[:32]
        self.file = Path(self.folder, f"sce_numba.{name}.{digest}.nbc")

    @property
    def folder(self) -> str:
        """The folder of the file."""
        return str(self._locator.get_cache_path())

    def load(self) -> bytes | None:
        """Return compiled code from disk, or None if there is none that is valid."""
        try:
            content = read_private(self.file)
        except FileNotFoundError:
            return None
        except Exception as error:
            _log.debug("%s can't be read (%s), and is compiled anew", self.file, error)
            return None
        code = content[64:]
        if content[:64] != header(code):
            _log.debug("%s is stale or damaged, and is compiled anew", self.file)
            return None
        return code

    def save(self, code: bytes) -> None:
        """Write the file atomically; failing to is not an error, as the cache only saves time."""
        file = self.file
        unfinished = file.with_name(f"{file.name}.{uuid.uuid4().hex[:8]}.tmp")
        try:
            try:
                write_private(unfinished, header(code) + code)
                os.replace(unfinished, file)
            finally:
                unfinished.unlink(missing_ok=True)
            for other in file.parent.glob("sce_numba.*.tmp"):
                if other.stat().st_mtime < time.time() - _LEFT_BEHIND:
                    other.unlink()
            for other in file.parent.glob("sce_numba.*.nbc"):
                if _is_of_other_sources(other):
                    other.unlink(missing_ok=True)
        except OSError as error:
            _log.debug("%s can't be written: %s", file, error)


def cache_for(name: str, key: Any = None) -> Cache | None:
    """Return a cache of compiled code, or None if there can't be one; log what is unusual."""
    try:
        cache = Cache(name, key)
    except Exception:  # Numba's reasons are many: no place, no such locator, a name it can't read
        _say(
            f"compiling in memory, in every process anew, as {why_not()}; "
            "set NUMBA_CACHE_DIR to a folder that only you can write to"
        )
        return None
    if _refused:
        _say(f"keeping compiled code in {cache.folder}, as {why_not()}")
    return cache


def cache_folder() -> str | None:
    """Return the folder of compiled code, or None if there is none that can be written to."""
    try:
        return Cache("", None).folder
    except Exception:  # as in `cache_for`
        return None


def why_not() -> str:
    """Return why folders were refused in the last search, or why there is none."""
    return ", ".join(dict.fromkeys(_refused)) or "there is no folder to keep compiled code in"
