"""All results that are asked for beside the loss of all rows and of the classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .baseline import Comparison
from .course import CourseOfRows
from .distributions import Distributions
from .rows import Formula, Rows
from .slices import Slices
from .worst import Worst


class Details:
    """The results of the blocks so far, but for their total."""

    def __init__(
        self,
        formula: Formula,
        rows: int,
        columns: Sequence[str] = (),
        baseline: str | None = None,
        worst: int = 0,
        distributions: bool = False,
    ) -> None:
        self._slices = {name: Slices(name, formula) for name in columns}
        self._comparison = Comparison(baseline, formula) if baseline is not None else None
        self._worst = Worst(worst) if worst else None
        self._distributions = Distributions() if distributions else None
        self._course = CourseOfRows(rows) if distributions else None

    def add(
        self,
        rows: Rows,
        columns: dict[str, Any],
        baseline: np.ndarray | None,
        start: int,
        in_file: tuple[str, int],
    ) -> None:
        """Add rows, with their columns, the baseline's logits, and their start, also in a file."""
        for name, slices in self._slices.items():
            slices.add(columns[name], rows)
        if self._comparison and baseline is not None:
            self._comparison.add(rows, baseline)
        if self._worst:
            self._worst.add(rows, start, *in_file)
        if self._distributions and self._course:
            self._distributions.add(rows)
            self._course.add(rows, start)

    def results(self, rows: int) -> dict[str, Any]:
        """Return the results of so many rows, by the names of ``Evaluation``."""
        results: dict[str, Any] = {
            "slices": {name: slices.groups() for name, slices in self._slices.items()}
        }
        if self._comparison:
            results["baseline"] = self._comparison.result()
        if self._worst:
            results["worst"] = self._worst.rows()
        if self._distributions and self._course:
            results["calibration"] = self._distributions.calibration()
            results["logits"] = self._distributions.logits()
            results["course"] = self._course.course(rows)
        return results
