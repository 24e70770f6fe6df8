"""A progress bar on a terminal, drawn by tqdm where it is installed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def progress(rows: int) -> Iterator[Callable[[int], Any]]:
    """Yield a function to call with every number of rows that are done."""
    if sys.stderr.isatty():
        try:
            from tqdm import tqdm
        except ImportError:
            pass
        else:
            with tqdm(total=rows, unit="row", unit_scale=True, leave=False) as bar:
                yield bar.update
            return
    yield lambda _rows: None
