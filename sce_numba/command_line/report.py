"""What an evaluation found, as lines for people and as JSON for machines.

Both come piece by piece: there may be a million classes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from sce_numba.evaluator.result import Evaluation, Groups
from sce_numba.evaluator.units import with_unit
from sce_numba.messages import printable


def as_json(found: Evaluation) -> Iterator[str]:
    """Write a result as one JSON object, whose last list is that of the classes."""
    yield json_text(found.head() | {"by_class": []}).removesuffix("]}")
    for number, row in enumerate(found.by_class()):
        yield (", " if number else "") + json_text(row)
    yield "]}\n"


def json_text(value: Any) -> str:
    """Write one value as JSON."""
    return json.dumps(_json_value(value), allow_nan=False)


def _json_value(value: Any) -> Any:
    """Spell a number that JSON cannot hold as Python and JavaScript both read it back."""
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


def as_lines(found: Evaluation) -> Iterator[str]:
    """Write a result as aligned lines, and groups as tables below them."""
    for key, value in _lines(found).items():
        if value is not None and value != []:
            yield f"{key:<21}{value}\n"
    if found.classes:
        yield from _table("class", found.classes)
    for column, groups in found.slices.items():
        yield from _table(column, groups)
    if found.worst:
        yield f"\n{'worst row':>12} {'loss':>25}  file, row in it\n"
        for row in found.worst:
            yield f"{row.row:>12} {row.loss!s:>25}  {printable(row.file)}, {row.row_in_file}\n"


def _lines(found: Evaluation) -> dict[str, Any]:
    compared = found.baseline
    if compared:
        low, high = compared.interval
        sure = f"{compared.confidence:.0%} interval: {low:+.4g} to {high:+.4g}"
    bytes_a_second = found.bytes_read / found.seconds
    elements_a_second = with_unit(found.elements / found.seconds, "")
    return {
        **{key.replace("_", " "): value for key, value in found.losses.items()},
        "partial": found.partial,
        "reduction": found.settings["reduction"],
        "shape": " x ".join(map(str, found.shape)) or "scalar",
        **{
            words: found.settings[name]
            for name, (words, *usual) in _TOLD.items()
            if found.settings[name] not in usual
        },
        "divided by": f"{found.denominator:.17g}" if found.denominator != 1 else None,
        "elements ignored": found.elements_ignored,
        "baseline loss": compared and compared.loss,
        "difference": compared and f"{compared.difference:+.4g} ({sure})",
        "labels dtype": found.labels_dtype or None,
        "logits dtype": found.logits_dtype or None,
        "time": with_unit(found.seconds, "s") if found.elements else None,
        "speed": f"{with_unit(bytes_a_second, 'B/s')}, {elements_a_second.rstrip()} elements/s"
        if found.elements
        else None,
        "rows skipped": found.rows_skipped or None,
    }


# Settings that are told, how, and unless they are as usual.
_TOLD: dict[str, tuple[Any, ...]] = {
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
