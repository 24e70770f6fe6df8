"""Folders and files that no other user can write to, as code that is loaded runs as this user.

The rules are those of ``ssh`` for its keys.  A folder and all its parents must belong to this user
or to root, and nobody else may write there; in a parent with the sticky bit, such as ``/tmp``,
others may, as they can't replace what isn't theirs.  A group without other members, as Debian makes
for each user, may write as well.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path


class NotPrivateError(OSError):
    """The error that others may write to a file or folder, or that its path is relative."""


def make_private(folder: str) -> None:
    """Make a folder and its parents where they are missing, if only this user may write there.

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
    # A link can be replaced by its owner, and by anyone who may write to its folder.
    for target in dict.fromkeys((path, Path(os.path.realpath(path)))):
        for part in (*reversed(target.parents), target):
            if not os.path.lexists(part):
                # Python itself lets everyone read its `__pycache__`.
                mode = 0o755 if part.name == "__pycache__" else 0o700
                with contextlib.suppress(FileExistsError):
                    part.mkdir(mode)
            _refuse_if_shared(part, os.lstat(part), holds_others=part != target)


def read_private(file: Path) -> bytes:
    """Return the content of a file that nobody else could have written.

    Raises
    ------
    NotPrivateError
        If it is not a regular file, or others may write to it.
    OSError
        If it can't be read, or is a link.
    """
    # Without O_NONBLOCK, a pipe would be waited for.
    extra = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with open(file, "rb", opener=lambda path, flags: os.open(path, flags | extra)) as opened:
        status = os.fstat(opened.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise NotPrivateError(f"{file} is not a regular file")
        _refuse_if_shared(file, status)
        return opened.read()


def write_private(file: Path, content: bytes) -> None:
    """Make a new file that nobody else can read or write."""
    with open(file, "xb", opener=lambda path, flags: os.open(path, flags, 0o600)) as opened:
        opened.write(content)


def _refuse_if_shared(path: Path, status: os.stat_result, holds_others: bool = False) -> None:
    if not hasattr(os, "geteuid"):  # on Windows the mode tells nothing
        return
    owners = {0, os.geteuid()}
    if holds_others:
        # A sandbox may show root as another user, who owns `/`.
        owners.add(os.stat("/").st_uid)
    if status.st_uid not in owners:
        raise NotPrivateError(f"{path} belongs to another user")
    if stat.S_ISLNK(status.st_mode) or (holds_others and status.st_mode & stat.S_ISVTX):
        return
    by_group = status.st_mode & stat.S_IWGRP and not _nobody_else_is_in(status.st_gid)
    if by_group or status.st_mode & stat.S_IWOTH:
        raise NotPrivateError(f"{path} may be written to by others")


def _nobody_else_is_in(group: int) -> bool:
    import grp
    import pwd

    try:
        this_user = pwd.getpwuid(os.geteuid()).pw_name
        entry = grp.getgrgid(group)
    except KeyError:
        return False
    members = {*entry.gr_mem, *(user.pw_name for user in pwd.getpwall() if user.pw_gid == group)}
    # A directory service doesn't list its users: then the name of the group decides.
    return (members or {entry.gr_name}) <= {this_user, "root"}
