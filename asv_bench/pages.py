"""The results of asv on one page that loads nothing: it needs neither a network nor a server.

asv's own pages ask a server for the numbers, and public servers for what draws them.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from asv.benchmarks import Benchmarks
from asv.commands.compare import _is_result_better as is_better
from asv.commands.compare import unroll_result
from asv.config import Config
from asv.results import Results, iter_results
from asv.util import human_value, is_na

from sce_numba.evaluator.html import document, figure
from sce_numba.evaluator.markup import table, text
from sce_numba.evaluator.pictures import BLUE, GRID, ORANGE, Picture

# From one process to the next, memory that the system lays out otherwise makes 15 %.
FACTOR = 1.2


class Step(NamedTuple):
    """A value, its ratio to that of the commit before, and what ``asv compare`` says to both."""

    commit: str
    value: float | None
    ratio: float
    verdict: str

    def words(self, unit: str) -> str:
        """Return the value, and in brackets the rest."""
        rest = "" if math.isnan(self.ratio) else f"{self.ratio:.2f} {self.verdict}"
        return human_value(self.value, unit) + (rest and f" ({rest.rstrip()})")


def steps(measured: Iterable[Any]) -> Iterator[Step]:
    """Yield the steps of values, each with its commit and asv's statistics and samples."""
    last = None
    for commit, value, *noise in measured:
        ratio, verdict = math.nan, ""
        if last is not None and not is_na(value):
            old, old_noise = last
            ratio = value / old if old else math.inf * value
            if is_better(old, value, old_noise, noise, FACTOR):
                verdict = "WORSE"
            elif is_better(value, old, noise, old_noise, FACTOR):
                verdict = "better"
        yield Step(commit, value, ratio, verdict)
        # What failed, or was skipped, is nothing to compare with.
        last = last if is_na(value) else (value, noise)


def cases(results: list[Results], benchmark: dict[str, Any]) -> dict[str, list[Step]]:
    """Return the steps of a benchmark, the oldest first, for each choice of its parameters."""
    key, params = benchmark["name"], benchmark["params"]
    found: dict[str, list[Any]] = {}
    for result in results:
        commit = f"{result.commit_hash[:8]} {np.datetime64(result.date, 'ms').astype('M8[D]')}"
        kinds = result.get_result_value, result.get_result_stats, result.get_result_samples
        measured = (get(key, params) for get in kinds)
        for name, *point in unroll_result(key, params, *measured):
            found.setdefault(name, []).append((commit, *point))
    return {name: list(steps(points)) for name, points in found.items()}


def draw(found: dict[str, list[Step]], commits: list[str], canvas: Any) -> None:
    """Draw lines of the cases, relative to their first values, on a band of what is no change."""
    axes = canvas.subplots()
    axes.axhspan(1 / FACTOR, FACTOR, color=GRID)
    for case in found.values():
        values = np.array([step.value for step in case], float)
        first = next(iter(values[values > 0]), math.nan)
        worse = any(step.verdict == "WORSE" for step in case)
        axes.plot(values / first, marker="o", color=ORANGE if worse else BLUE)
    axes.set_xticks((0, len(commits) - 1), (commits[0], commits[-1]))
    axes.set_ylabel("relative to the first")


def page(conf: Config) -> str:
    """Return a document with what changed, then a table and a picture of each benchmark."""
    benchmarks = Benchmarks.load(conf)
    places: dict[str, list[Results]] = {}
    for result in sorted(iter_results(conf.results_dir), key=lambda result: result.date):
        places.setdefault(f"{result.params['machine']}, {result.env_name}", []).append(result)
    changes, shown = [], ""
    for (key, benchmark), (place, results) in itertools.product(
        sorted(benchmarks.items()), sorted(places.items())
    ):
        having = [result for result in results if key in result.get_result_keys(benchmarks)]
        if not having:
            continue
        found, unit = cases(having, benchmark), benchmark["unit"]
        commits = [step.commit for step in next(iter(found.values()))]
        changes += [
            [name, step.ratio, step.verdict, step.commit, place]
            for name, case in found.items()
            for step in case
            if step.verdict
        ]
        rows = [
            [name.removeprefix(key) or "all", *(step.words(unit) for step in case[::-1])]
            for name, case in found.items()
        ]
        title = f"{key} in {unit} on {place}"
        shown += f'<h2>{text(key)}</h2>\n<div class="pictures">\n'
        shown += table(["case", *commits[::-1]], rows, title, "numbers")
        if len(commits) > 1:
            words = f"{title}: lines of cases relative to the first commit, orange where WORSE"
            drawn = Picture(title, words, 3.0, partial(draw, found, commits))
            shown += figure(shown.count("<figure>"), drawn)
        shown += "</div>\n"
    changes.sort(key=lambda change: -change[1])
    head = ["benchmark", "ratio", "verdict", "commit", "machine and environment"]
    told = f"""<p>Beside a value is its ratio to that of the commit before, which is WORSE or better
by a factor of {FACTOR}, and beyond asv's estimate of the noise.</p>
{table(head, changes, f"{len(changes):,} changes, the worst first")}"""
    return document(text(f"Benchmarks of {conf.project}"), told + shown)


def main() -> None:
    """Write the page of what asv measured in this folder."""
    # The folders that asv's settings name are beside them.
    os.chdir(Path(__file__).parent)
    conf = Config.load()
    file = Path(conf.html_dir).resolve() / "results.html"
    file.parent.mkdir(exist_ok=True)
    file.write_text(page(conf), encoding="utf-8")
    print(file)


if __name__ == "__main__":
    main()
