"""Standard streams that are closed, full or read by nobody."""

from __future__ import annotations

import io
import logging
import os
import sys
from contextlib import suppress

from sce_numba.messages import printable


def replace_closed() -> None:
    """Open the null device in place of closed streams, lest a file take their numbers.

    What is written to number 2, by whatever library, would go into that file.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free, which is this one.
            os.open(os.devnull, os.O_RDWR)
    if sys.stderr is None:
        # Without it Python prints what is for stderr on stdout.
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115


def write_what_can_be() -> None:
    """Have standard output take any text: a name may have letters that its encoding lacks."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def say(line: str) -> None:
    """Print a line on standard error, if that can be."""
    with suppress(OSError):
        print(printable(line), file=sys.stderr, flush=True)


def tell_of_compilation() -> None:
    """Have somebody who waits at a terminal told that code is being compiled."""
    if sys.stderr is not None and sys.stderr.isatty():
        logger = logging.getLogger("sce_numba")
        logger.addHandler(logging.StreamHandler(sys.stderr))
        logger.setLevel(logging.INFO)


def drop_unwritten() -> None:
    """Forget what a stream does not take: Python writes it again, and complains, on its way out."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
