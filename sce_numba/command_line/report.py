"""What ``evaluate`` found, as lines for people and as JSON for machines.

Both come piece by piece: there may be a million classes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np


def as_json(report: dict[str, Any]) -> Iterator[str]:
    """Write a report as one JSON object, whose last list is that of the classes."""
    yield json_text(report | {"by_class": []}).removesuffix("]}")
    for number, row in enumerate(report["by_class"]):
        yield (", " if number else "") + json_text(row)
    yield "]}\n"


def json_text(value: Any) -> str:
    """Write one value as JSON."""
    return json.dumps(_json_value(value), allow_nan=False)


def _json_value(value: Any) -> Any:
    """Spell a number that JSON cannot hold as Python and JavaScript both read it back."""
    if isinstance(value, dict):
        return {key: _json_value(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_json_value(item) for item in value]
    if not isinstance(value, float | np.floating):
        return value
    if np.isnan(value):
        return "NaN"
    if np.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return float(value)


def as_lines(report: dict[str, Any]) -> Iterator[str]:
    """Write a report as aligned lines, and the classes as a table below them."""
    tables = ("skipped", "warnings", "by_class")
    for key, value in report.items():
        if key not in tables and value is not None and (key != "rows_skipped" or value):
            yield f"{key.replace('_', ' '):<21}{_line_value(value)}\n"
    rows = iter(report["by_class"])
    first = next(rows, None)
    if first:
        # Spaces between the columns, however long their values are.
        yield f"\n{'class':>7} {'loss':>25} {'mean label':>12}\n"
        for row in chain([first], rows):
            yield f"{row['class']:>7} {row['loss']!s:>25} {row['mean_label']:>12.6g}\n"


def _line_value(value: Any) -> str:
    """Give a loss all its digits and a measured time four."""
    if isinstance(value, list):
        return " x ".join(map(str, value)) or "scalar"
    return f"{value:.4g}" if type(value) is float else str(value)
