"""Standard streams that are closed, full or broken pipes."""

from __future__ import annotations

import io
import logging
import os
import sys
from contextlib import suppress

from sce_numba.messages import printable


def replace_closed() -> None:
    """Open the null device in place of closed streams, lest a file get their descriptors.

    What any library writes to descriptor 2 would go into that file.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # It gets the lowest free descriptor, which is this one.
            os.open(os.devnull, os.O_RDWR)
    if sys.stderr is None:
        # Without it, Python prints on stdout what is for stderr.
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115


def write_what_can_be() -> None:
    """Have standard output escape letters that its encoding lacks, as a name may have some."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def say(line: str) -> None:
    """Print a line on standard error, if it can be written to."""
    with suppress(OSError):
        print(printable(line), file=sys.stderr, flush=True)


def tell_of_compilation() -> None:
    """Log on a terminal that code is being compiled, for somebody who waits."""
    if sys.stderr is not None and sys.stderr.isatty():
        logger = logging.getLogger("sce_numba")
        logger.addHandler(logging.StreamHandler(sys.stderr))
        logger.setLevel(logging.INFO)


def drop_unwritten() -> None:
    """Discard output that can't be written: at exit Python would write it again, and complain."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
