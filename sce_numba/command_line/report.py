"""The result of an evaluation, as lines for people and as JSON for machines.

Both are generated piece by piece: there may be a million classes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from sce_numba.evaluator.result import Evaluation, Groups
from sce_numba.evaluator.units import with_unit
from sce_numba.messages import printable


def as_json(result: Evaluation) -> Iterator[str]:
    """Yield a result as one JSON object, whose last list is that of the classes."""
    yield json_text(result.head() | {"by_class": []}).removesuffix("]}")
    for index, row in enumerate(result.by_class()):
        yield (", " if index else "") + json_text(row)
    yield "]}\n"


def json_text(value: Any) -> str:
    """Return a value as JSON."""
    return json.dumps(_json_value(value), allow_nan=False)


def _json_value(value: Any) -> Any:
    """Return a value with numbers that JSON lacks as strings that Python and JavaScript parse."""
    if isinstance(value, dict):
        return {key: _json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_value(item) for item in value]
    if not isinstance(value, float | np.floating):
        return value
    if np.isnan(value):
        return "NaN"
    if np.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return float(value)


def as_lines(result: Evaluation) -> Iterator[str]:
    """Yield a result as aligned lines, with groups as tables below them."""
    for key, value in _lines(result).items():
        if value is not None and value != []:
            yield f"{key:<21}{value}\n"
    if result.classes:
        yield from _table("class", result.classes)
    for column, groups in result.slices.items():
        yield from _table(column, groups)
    if result.worst:
        yield f"\n{'worst row':>12} {'loss':>25}  file, row in it\n"
        for row in result.worst:
            yield f"{row.row:>12} {row.loss!s:>25}  {printable(row.file)}, {row.row_in_file}\n"


def _lines(result: Evaluation) -> dict[str, Any]:
    baseline = result.baseline
    if baseline:
        low, high = baseline.interval
        interval = f"{baseline.confidence:.0%} interval: {low:+.4g} to {high:+.4g}"
    bytes_a_second = result.bytes_read / result.seconds
    elements_a_second = with_unit(result.elements / result.seconds, "")
    return {
        **{key.replace("_", " "): value for key, value in result.losses.items()},
        "partial": result.partial,
        "reduction": result.settings["reduction"],
        "shape": " x ".join(map(str, result.shape)) or "scalar",
        **{
            words: result.settings[name]
            for name, (words, *usual) in _SHOWN.items()
            if result.settings[name] not in usual
        },
        "divided by": f"{result.denominator:.17g}" if result.denominator != 1 else None,
        "elements ignored": result.elements_ignored,
        "baseline loss": baseline and baseline.loss,
        "difference": baseline and f"{baseline.difference:+.4g} ({interval})",
        "labels dtype": result.labels_dtype or None,
        "logits dtype": result.logits_dtype or None,
        "time": with_unit(result.seconds, "s") if result.elements else None,
        "speed": f"{with_unit(bytes_a_second, 'B/s')}, {elements_a_second.rstrip()} elements/s"
        if result.elements
        else None,
        "rows skipped": result.rows_skipped or None,
    }


# The settings that are shown: their names in words, and default values, which are not shown.
_SHOWN: dict[str, tuple[Any, ...]] = {
    "weights": ("weights", "1", 1.0),
    "pos_weight": ("weight of positives", None),
    "label_smoothing": ("label smoothing", 0.0),
    "positive": ("positive label", None),
}


def _table(title: str, groups: Groups) -> Iterator[str]:
    title, names = printable(title), [printable(name) or "(empty)" for name in groups.names]
    # Spaces between the columns, however long their values are.
    width = max(7, len(title), *map(len, names)) if names else 7
    yield f"\n{title:>{width}} {'loss':>25} {'mean label':>12} {'elements':>12}\n"
    for name, row in zip(names, groups.rows(), strict=True):
        numbers = f"{row['loss']!s:>25} {row['mean_label']:>12.6g} {row['elements']:>12}"
        yield f"{name:>{width}} {numbers}\n"
