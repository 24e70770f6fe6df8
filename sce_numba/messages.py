"""How a value that is refused appears in the message that says so."""

from __future__ import annotations

import unicodedata
from typing import SupportsInt

# Enough to recognise it by.
LONGEST = 200


def shown(value: object) -> str:
    """Return a text for any value: a repr may fail, as that of a huge integer, or never end."""
    try:
        text = repr(value)
    except Exception:
        return f"an object of type {type(value).__name__}"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def printable(text: str) -> str:
    """Return a text from a file without what would steer a terminal, or can't be encoded."""
    kinds = {"Cc", "Cs", "Zl", "Zp"}
    return "".join("�" if unicodedata.category(sign) in kinds else sign for sign in text)


def values_are(count: SupportsInt) -> str:
    """Return the beginning of a sentence on so many values."""
    return "1 value is" if count == 1 else f"{int(count):,} values are"
