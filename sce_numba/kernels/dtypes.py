"""The dtypes that arrays may have: one table, from which all else follows.

Adding a row is all it takes to add a dtype.
"""

from __future__ import annotations

from typing import NamedTuple

from .small_floats import SmallFloat


class DType(NamedTuple):
    """A dtype as NumPy calls it, its kind as NumPy abbreviates it, and bytes an element."""

    name: str
    kind: str
    itemsize: int
    small: SmallFloat | None = None  # how its bits become a float32, where only formulas tell


# By their codes.  Those that NumPy doesn't have are from ml_dtypes, which need not be installed.
DTYPES = (
    DType("bool", "b", 1),
    DType("int8", "i", 1),
    DType("int16", "i", 2),
    DType("int32", "i", 4),
    DType("int64", "i", 8),
    DType("uint8", "u", 1),
    DType("uint16", "u", 2),
    DType("uint32", "u", 4),
    DType("uint64", "u", 8),
    DType("float8_e4m3fn", "f", 1, SmallFloat(8, fraction=3, bias=7, infinity=0x7F, nan=0x7F)),
    DType("float8_e5m2", "f", 1, SmallFloat(8, fraction=2, bias=15, infinity=0x7C, nan=0x7E)),
    DType("float16", "f", 2, SmallFloat(16, fraction=10, bias=15, infinity=0x7C00, nan=0x7E00)),
    DType("bfloat16", "f", 2, SmallFloat(16, fraction=7, bias=127, infinity=0x7F80, nan=0x7FC0)),
    DType("float32", "f", 4),
    DType("float64", "f", 8),
)
CODES = {dtype.name: code for code, dtype in enumerate(DTYPES)}
BOOL, FLOAT32, FLOAT64 = CODES["bool"], CODES["float32"], CODES["float64"]
# The codes of those that logits may have, and of those that are rounded to by formulas.
FLOATS = [code for code, dtype in enumerate(DTYPES) if dtype.kind == "f"]
SMALL = [code for code in FLOATS if DTYPES[code].small]
# An operand that isn't there, whose every element counts as 1.
MISSING = len(DTYPES)

*_first, _last = (DTYPES[code].name for code in FLOATS)
FLOAT_NAMES = f"{', '.join(_first)} or {_last}"
