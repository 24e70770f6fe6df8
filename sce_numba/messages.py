"""Values as text in error messages."""

from __future__ import annotations

import unicodedata
from typing import SupportsInt

# The most characters of a value, enough to recognise it.
LONGEST = 200


def shown(value: object) -> str:
    """Return the repr of any value, cut short; it may fail, as that of a huge integer does."""
    try:
        text = repr(value)
    except Exception:
        return f"an object of type {type(value).__name__}"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def printable(text: str) -> str:
    """Return a text without characters that control a terminal, or can't be encoded."""
    categories = {"Cc", "Cs", "Zl", "Zp"}
    return "".join("�" if unicodedata.category(char) in categories else char for char in text)


def values_are(count: SupportsInt) -> str:
    """Return the beginning of a sentence about a number of values."""
    return "1 value is" if count == 1 else f"{int(count):,} values are"
