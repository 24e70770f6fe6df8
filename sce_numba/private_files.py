"""Folders and files that no other user can write to: what is loaded from them runs as this user.

That is decided as ``ssh`` does for its keys.  A folder, and all that it lies in, belongs to this
user or to root, and nobody else may write there; in a folder with the sticky bit, as ``/tmp`` is,
others may, as they can't replace what isn't theirs.  A group in which nobody else is, as Debian
makes for each user, may write as well.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path


class NotPrivateError(OSError):
    """Others may write to a file or folder, or its path depends on where the process stands."""


def make_private(folder: str) -> None:
    """Make a folder, and those that it lies in, where they are missing and only this user writes.

    Raises
    ------
    NotPrivateError
        If others may write to it, or replace it.
    OSError
        If it can't be made.
    """
    path = Path(folder)
    if not path.is_absolute():
        raise NotPrivateError(f"{folder!r} is a relative path")
    # A link can be replaced by its owner, and by who may write to the folder that it lies in.
    for way in dict.fromkeys((path, Path(os.path.realpath(path)))):
        for part in (*reversed(way.parents), way):
            if not os.path.lexists(part):
                # What Python itself keeps in `__pycache__` is for everyone to read.
                mode = 0o755 if part.name == "__pycache__" else 0o700
                with contextlib.suppress(FileExistsError):
                    part.mkdir(mode)
            _refuse_if_shared(part, os.lstat(part), holds_others=part != way)


def read_private(file: Path) -> bytes:
    """Return what is in a file that nobody else could have written.

    Raises
    ------
    NotPrivateError
        If it is not a regular file, or others may write to it.
    OSError
        If it can't be read, or is a link.
    """
    flags = getattr(os, "O_NOFOLLOW", 0) | getattr(
        os, "O_NONBLOCK", 0
    )  # a pipe would be waited for
    with open(file, "rb", opener=lambda path, own: os.open(path, own | flags)) as opened:
        found = os.fstat(opened.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise NotPrivateError(f"{file} is not a regular file")
        _refuse_if_shared(file, found)
        return opened.read()


def write_private(file: Path, content: bytes) -> None:
    """Make a new file that nobody else can write to, nor read."""
    with open(file, "xb", opener=lambda path, flags: os.open(path, flags, 0o600)) as opened:
        opened.write(content)


def _refuse_if_shared(path: Path, found: os.stat_result, holds_others: bool = False) -> None:
    if not hasattr(os, "geteuid"):  # on Windows the mode tells nothing
        return
    owners = {0, os.geteuid()}
    if holds_others:
        # Where a sandbox doesn't know root, that is who owns everything else.
        owners.add(os.stat("/").st_uid)
    if found.st_uid not in owners:
        raise NotPrivateError(f"{path} belongs to another user")
    if stat.S_ISLNK(found.st_mode) or (holds_others and found.st_mode & stat.S_ISVTX):
        return
    by_group = found.st_mode & stat.S_IWGRP and not _nobody_else_is_in(found.st_gid)
    if by_group or found.st_mode & stat.S_IWOTH:
        raise NotPrivateError(f"{path} may be written to by others")


def _nobody_else_is_in(group: int) -> bool:
    import grp
    import pwd

    try:
        own = pwd.getpwuid(os.geteuid()).pw_name
        entry = grp.getgrgid(group)
    except KeyError:
        return False
    members = {*entry.gr_mem, *(user.pw_name for user in pwd.getpwall() if user.pw_gid == group)}
    # A directory service doesn't list its users: there the name of the group tells.
    return (members or {entry.gr_name}) <= {own, "root"}
