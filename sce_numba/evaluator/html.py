"""The result of an evaluation as HTML: a self-contained page, and a short form for notebooks."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from importlib import resources
from typing import Any

from .markup import LONGEST_NAME, shown, table, text
from .pictures import COLORS, Picture, pictures, plain, require_matplotlib, shown_groups
from .result import Baseline, Evaluation
from .svg import svg

# Rows of a table on a page and in a notebook; of more groups, those of greatest loss are shown.
ROWS, FEW_ROWS = 100, 10


def page(evaluation: Evaluation) -> str:
    """Return a self-contained document of the whole result, for any screen, light or dark.

    Parameters
    ----------
    evaluation
        What was found.

    Returns
    -------
    str
        The same document for the same results: it does not tell how long they took.
    """
    require_matplotlib()
    title = f"Sigmoid cross entropy of {text(evaluation.settings['logits'], LONGEST_NAME)}"
    figures = [figure(index, picture) for index, picture in enumerate(pictures(evaluation))]
    terms = (f"<div><dt>{term}</dt><dd>{value}</dd></div>" for term, value in facts(evaluation))
    first = "\n".join(terms)
    return document(
        title,
        f"""<dl>
{first}
</dl>
{notes(evaluation)}{comparison(evaluation.baseline)}<div class="pictures">
{"".join(figures)}</div>
<div class="tables">
{"".join(tables(evaluation, ROWS))}{settings(evaluation)}</div>
""",
    )


def document(title: str, main: str) -> str:
    """Return a self-contained document, given its title and its content as HTML."""
    script = read("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # The policy keeps whatever a name might smuggle in from being run or loaded.
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; \
style-src 'unsafe-inline'; script-src 'sha256-{digest}'">
<title>{title}</title>
<style>
{colors()}{read("page.css")}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{main}</main>
<script>{script}</script>
</body>
</html>
"""


def fragment(evaluation: Evaluation) -> str:
    """Return a short form for notebooks, without pictures.

    Parameters
    ----------
    evaluation
        What was found.

    Returns
    -------
    str
        An element of HTML.
    """
    # Styles of notebooks for lists of terms have them overlap where there is little room.
    first = " · ".join(f"{term} <strong>{value}</strong>" for term, value in facts(evaluation))
    return (
        f"<div>\n<p>{first}</p>\n{notes(evaluation)}"
        f"{comparison(evaluation.baseline)}{''.join(tables(evaluation, FEW_ROWS))}</div>"
    )


def read(name: str) -> str:
    """Return the content of a file in this folder."""
    return (resources.files(__package__) / name).read_text(encoding="utf-8")


def colors() -> str:
    """Return style sheet variables for the colours of a light page and of a dark one."""
    light, dark = (
        "".join(f" --{name}: {pair[side]};" for name, pair in COLORS.items()) for side in (0, 1)
    )
    return f":root {{{light} }}\n@media (prefers-color-scheme: dark) {{ :root {{{dark} }} }}\n"


def facts(evaluation: Evaluation) -> Iterator[tuple[str, str]]:
    """Yield the most important numbers, as pairs of a term and its value."""
    values: dict[str, Any] = {**evaluation.losses, "elements": evaluation.elements}
    if evaluation.elements_ignored is not None:
        values["elements ignored"] = evaluation.elements_ignored
    values["divided by"] = evaluation.denominator
    if evaluation.calibration is not None:
        values["expected calibration error"] = evaluation.calibration.expected_error
    for name, value in values.items():
        words = text(name.replace("_", " "))
        digits = 7 if name in evaluation.losses else 4
        yield words, shown(value, digits)


def notes(evaluation: Evaluation) -> str:
    """Return a list of what limits the result: missing rows, and warnings."""
    items = [f"partial: {evaluation.partial}"] if evaluation.partial else []
    if evaluation.rows_skipped:
        items.append(f"{evaluation.rows_skipped:,} rows were skipped")
    lines = "".join(f"<li>{text(line)}</li>\n" for line in items + evaluation.warnings)
    return f'<ul class="warnings">\n{lines}</ul>\n' if lines else ""


def comparison(baseline: Baseline | None) -> str:
    """Return a sentence that compares the model with another one."""
    if baseline is None:
        return ""
    low, high = baseline.interval
    return (
        f"<p>Baseline {text(baseline.name, LONGEST_NAME)}: loss {shown(baseline.loss)}, difference "
        f"{shown(baseline.difference)}, {100 * baseline.confidence:g} % interval from {shown(low)} "
        f"to {shown(high)}; {baseline.verdict}.</p>\n"
    )


def figure(index: int, picture: Picture) -> str:
    """Return a picture with its caption, and with its numbers if no table below has them."""
    name = f"picture-{index}"
    image = svg(picture).replace("<svg", f'<svg role="img" aria-labelledby="{name}"', 1)
    numbers = ""
    if picture.numbers:
        rows = zip(*(column.tolist() for column in picture.numbers.values()), strict=True)
        inner = table(list(picture.numbers), rows, f"Numbers of the {picture.name}", "numbers")
        numbers = f"<details><summary>Numbers</summary>\n{inner}</details>\n"
    caption = f'<figcaption id="{name}">{text(picture.words)}</figcaption>'
    return f"<figure>\n{image}{caption}\n{numbers}</figure>\n"


def tables(evaluation: Evaluation, most: int) -> Iterator[str]:
    """Yield a table for each kind of groups, and for single rows."""
    for name, which, groups in shown_groups(evaluation, most):
        rows = [list(row.values()) for row in groups.rows()]
        yield table([name, "loss (nats)", "mean label", "elements"], rows, f"By {name}: {which}")
    if evaluation.worst:
        worst = [
            [row.row, row.loss, plain(row.file, LONGEST_NAME), row.row_in_file]
            for row in evaluation.worst[:most]
        ]
        head = ["row", "loss (nats)", "file", "row in the file"]
        yield table(head, worst, "Rows of greatest loss")
    if evaluation.skipped:
        skipped = [
            [problem["file"], span(problem["rows"]), problem["reason"]]
            for problem in evaluation.skipped[:most]
        ]
        caption = f"Skipped: {len(skipped):,} of {len(evaluation.skipped):,}"
        yield table(["file", "rows", "reason"], skipped, caption)


def span(rows: tuple[int, int] | None) -> str:
    """Return the first and the last row of a range as text."""
    return f"{rows[0]:,} to {rows[1] - 1:,}" if rows else "all"


def settings(evaluation: Evaluation) -> str:
    """Return a table of the settings of an evaluation."""
    values = {
        **evaluation.settings,
        "shape": " x ".join(map(str, evaluation.shape)) or "scalar",
        "labels_dtype": evaluation.labels_dtype,
        "logits_dtype": evaluation.logits_dtype,
    }
    rows = [
        [name.replace("_", " "), ", ".join(map(str, value)) if type(value) is list else str(value)]
        for name, value in values.items()
        if value is not None and value != []
    ]
    return table(["setting", "value"], rows, "Settings", "settings")
