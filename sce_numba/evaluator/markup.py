"""Text, numbers and tables as HTML, with everything that comes from files escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from .pictures import number, plain

# The longest text that fits into a table, and the longest name in a line.
LONGEST_TEXT, LONGEST_NAME = 300, 60


def text(value: object, longest: int = LONGEST_TEXT) -> str:
    """Return a text that is escaped for HTML."""
    return escape(plain(value, longest))


def shown(value: Any, digits: int = 4) -> str:
    """Return a rounded number, with all its digits in an attribute; other values as text."""
    if isinstance(value, int):
        return f'<data value="{value}">{value:,}</data>'
    if isinstance(value, float):
        exact = str(value).replace("nan", "NaN").replace("inf", "Infinity")
        return f'<data value="{exact}">{number(value, digits)}</data>'
    return text(value)


def table(
    head: Sequence[str], rows: Iterable[Sequence[Any]], caption: str, kind: str = "sortable"
) -> str:
    """Return a table whose rows are named by their first cells.

    Parameters
    ----------
    head
        The names of the columns.
    rows
        What is in the columns, row by row.
    caption
        What the table shows.
    kind
        Its class for style and script.

    Returns
    -------
    str
        The table, which scrolls where it is wider than the page.
    """
    body = [list(row) for row in rows]
    first = body[0] if body else [""] * len(head)
    heads = "".join(
        f'<th scope="col"{alignment(value)}>{text(name)}</th>'
        for name, value in zip(head, first, strict=True)
    )
    lines = "".join(
        f'<tr><th scope="row"{alignment(name)}>{shown(name)}</th>'
        + "".join(f"<td{alignment(value)}>{shown(value)}</td>" for value in values)
        + "</tr>\n"
        for name, *values in body
    )
    # A region that scrolls must be reachable by keyboard.
    return (
        f'<div class="scrolls" role="region" tabindex="0" aria-label="{text(caption)}">\n'
        f'<table class="{kind}">\n<caption>{text(caption)}</caption>\n'
        f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{lines}</tbody>\n</table>\n</div>\n"
    )


def alignment(value: Any) -> str:
    """Return the attribute that aligns a cell: numbers to the right."""
    return ' class="number"' if isinstance(value, int | float) else ""
