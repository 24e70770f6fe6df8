"""Compiled code on disk: one file for each piece, believed by its checksums.

Numba finds the folder of the cache; the files are our own, because Numba's have an index beside
them.  Two processes that write at once leave an index that names the other's code, its key knows
neither whether a loop is parallel nor what stands in the other files that it calls, and a damaged
file raises, or crashes.  Here a file holds one piece of compiled code, and begins with a checksum
of all sources that went into it, and one of the code: whatever is cut short, damaged or stale is
compiled anew.  It is code: one that another user could have written is not loaded.
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

# After so many seconds an unfinished file is that of a process that was killed.
_LEFT_BEHIND = 3600

# Which folders are not used, and why, in the last search for one.
_refused: list[str] = []


@cache
def _say(text: str) -> None:
    _log.info(text)


@cache
def sources() -> bytes:
    """Return a digest of the source of everything that is compiled; empty where there is none."""
    digest = hashlib.sha256()
    # Unlike a glob of the folder, this sees into a zip file.
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
    """Return one of Numba's ways to find a folder, for folders that only this user can write to."""

    class Careful(locator):
        def ensure_cache_path(self) -> None:
            _make(self.get_cache_path())
            super().ensure_cache_path()

    return Careful


_Folder = numba_internals.cache_search(_careful)


def header(code: bytes) -> bytes:
    """Return what stands before the code in a file."""
    return sources() + hashlib.sha256(code).digest()


def _is_of_other_sources(file: Path) -> bool:
    """Tell whether a file was written by another version of this package, in the same place."""
    try:
        if not file.is_file():
            return False
        with file.open("rb") as opened:
            return opened.read(32) != sources()
    except OSError:
        return False


class Cache:
    """Compiled code on disk: found by what was asked for, believed by its checksum."""

    def __init__(self, name: str, key: Any) -> None:
        """Raise an exception where there is no place for files, or nothing to tell stale code."""
        _refused.clear()
        self._locator = _Folder(header).locator
        _make(self.folder)  # NUMBA_CACHE_LOCATOR_CLASSES may name others
        self._locator.ensure_cache_path()
        if not sources():
            raise RuntimeError("there is no source that a checksum could be made of")
        # The target names the CPU and its features: machines that share a folder don't share code.
        versions = llvmlite.__version__, config.OPT, numba_internals.target()
        digest = hashlib.sha256(repr((key, versions)).encode()).hexdigest()[:32]
        self.file = Path(self.folder, f"sce_numba.{name}.{digest}.nbc")

    @property
    def folder(self) -> str:
        """Where the file is."""
        return str(self._locator.get_cache_path())

    def load(self) -> bytes | None:
        """Return compiled code as it is on disk, or None for whatever reason there is none."""
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
        """Write a file that appears at once or not at all; without it nothing is wrong but slow."""
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
    """Return where code is kept, or None where that can't be; tell the user what is unusual."""
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
    """Return where compiled code is kept, or None where nothing can be written."""
    try:
        return Cache("", None).folder
    except Exception:  # as in `cache_for`
        return None


def why_not() -> str:
    """Tell why a folder was passed over in the last search, or why there is none."""
    return ", ".join(dict.fromkeys(_refused)) or "there is no folder to keep compiled code in"
