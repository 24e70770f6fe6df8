"""What ``evaluate`` found, as lines for people and as JSON for machines."""

from __future__ import annotations

import json
from typing import Any

import numpy as np


def as_json(report: dict[str, Any]) -> str:
    """Write a report as one JSON object."""
    return json.dumps(_json_value(report), allow_nan=False)


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


def as_lines(report: dict[str, Any]) -> str:
    """Write a report as aligned lines, and the classes as a table below them."""
    tables = ("skipped", "warnings", "by_class")
    lines = [
        f"{key.replace('_', ' '):<21}{_line_value(value)}"
        for key, value in report.items()
        if key not in tables and value is not None and (key != "rows_skipped" or value)
    ]
    if report["by_class"]:
        # Spaces between the columns, however long their values are.
        lines += ["", f"{'class':>7} {'loss':>25} {'mean label':>12}"]
        lines += [
            f"{row['class']:>7} {row['loss']!s:>25} {row['mean_label']:>12.6g}"
            for row in report["by_class"]
        ]
    return "\n".join(lines)


def _line_value(value: Any) -> str:
    """Give a loss all its digits and a measured time four."""
    if isinstance(value, list):
        return " x ".join(map(str, value)) or "scalar"
    return f"{value:.4g}" if type(value) is float else str(value)
