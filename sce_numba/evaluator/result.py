"""``Evaluation``: the result of an evaluation, for programs, tables, pictures and pages."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Groups:
    """The losses of groups: of classes, or of the values in a column.

    For a group without elements the loss is 0, and the mean of the labels NaN.
    """

    names: Sequence[str]
    loss: np.ndarray
    mean_label: np.ndarray
    elements: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield a dict for each group."""
        columns = self.loss.tolist(), self.mean_label.tolist(), self.elements.tolist()
        for name, loss, mean_label, elements in zip(self.names, *columns, strict=True):
            yield {"name": name, "loss": loss, "mean_label": mean_label, "elements": elements}


@dataclass(frozen=True, eq=False)
class Calibration:
    """How well predicted probabilities match the labels, in bins of probabilities.

    Bin ``k`` has those above ``edges[k]``, to ``edges[k + 1]`` inclusive; the first has 0 as well.
    Means of empty bins are NaN.
    """

    edges: np.ndarray
    mean_prediction: np.ndarray
    mean_label: np.ndarray
    elements: np.ndarray
    # The mean absolute difference of the two means, weighted by the elements of each bin.
    expected_error: float


@dataclass(frozen=True, eq=False)
class LogitHistogram:
    """The distribution of logits by label; a label between 0 and 1 counts in part as each.

    Bin ``k`` has logits above ``edges[k]``, to ``edges[k + 1]`` inclusive; the first edge is
    -infinity and the last one infinity.
    """

    edges: np.ndarray
    negatives: np.ndarray
    positives: np.ndarray


@dataclass(frozen=True, eq=False)
class Course:
    """The mean loss of an element along the rows, in pieces from ``edges[k]`` to before the next.

    It is NaN where no element of the rows counts.
    """

    edges: np.ndarray
    loss: np.ndarray


@dataclass(frozen=True)
class WorstRow:
    """A row of great loss, with its number in all the data and in its file."""

    row: int
    file: str
    row_in_file: int
    loss: float


@dataclass(frozen=True, eq=False)
class Baseline:
    """Another model on the same rows: its loss, and by how much that of this one is greater.

    The interval is one of confidence for the difference, from paired rows.  Of these, ``rows[k]``
    differ by what is between ``edges[k]`` and ``edges[k + 1]``, that nearer to 0 inclusive, and
    ``equal`` by nothing; 0 is an edge, and the outermost are infinite.
    """

    name: str
    loss: float
    difference: float
    interval: tuple[float, float]
    confidence: float
    edges: np.ndarray
    rows: np.ndarray
    equal: int

    @property
    def verdict(self) -> str:
        """The conclusion from the interval, in words."""
        low, high = self.interval
        if high < 0 or low > 0:
            return f"this loss is {'lower' if high < 0 else 'greater'}"
        return "no difference is certain"


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """The result of an evaluation.

    Attributes
    ----------
    loss : float
        The loss; without a reduction, the mean of the elements.
    least, greatest : float or None
        Without a reduction, the range of the elements.
    settings : dict
        What was evaluated and how, by the names of the options, and the versions that did it.
    denominator : float
        What the sum of the losses was divided by.
    shape : tuple of int
        That of the logits that were evaluated.
    elements_ignored : int or None
        How many of them were left out; None where nothing could be.
    labels_dtype, logits_dtype : str
        Those of the data.
    seconds : float
        The time from the end of the first block on.
    bytes_read : int
        Bytes of operands that were evaluated.
    classes : Groups or None
        The loss of each class.
    slices : dict of str to Groups
        The losses of the values in a column, for each column.
    calibration : Calibration or None
        Labels beside predicted probabilities.
    logits : LogitHistogram or None
        The distribution of the logits.
    course : Course or None
        The loss along the rows.
    worst : list of WorstRow
        The rows of greatest loss, the greatest first; NaN is greater than any.
    baseline : Baseline or None
        The comparison with another model.
    partial : str or None
        Why not all rows were evaluated, and how many were.
    rows_skipped : int
        Rows that could not be evaluated.
    skipped : list of dict
        Their files, numbers, and why.
    warnings : list of str
        What can't be meant.
    """

    loss: float
    settings: dict[str, Any]
    denominator: float
    shape: tuple[int, ...]
    labels_dtype: str
    logits_dtype: str
    seconds: float
    bytes_read: int
    least: float | None = None
    greatest: float | None = None
    elements_ignored: int | None = None
    classes: Groups | None = None
    slices: dict[str, Groups] = field(default_factory=dict)
    calibration: Calibration | None = None
    logits: LogitHistogram | None = None
    course: Course | None = None
    worst: list[WorstRow] = field(default_factory=list)
    baseline: Baseline | None = None
    partial: str | None = None
    rows_skipped: int = 0
    skipped: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def elements(self) -> int:
        """The number of logits that were evaluated, ignored ones among them."""
        return math.prod(self.shape)

    @property
    def losses(self) -> dict[str, float]:
        """The loss, or the least, mean and greatest element, by the names that JSON has."""
        if self.least is None or self.greatest is None:
            return {"loss": self.loss}
        return {"loss_min": self.least, "loss_mean": self.loss, "loss_max": self.greatest}

    def __repr__(self) -> str:
        losses = ", ".join(f"{name}={value}" for name, value in self.losses.items())
        reduction = self.settings["reduction"]
        return f"Evaluation({losses}, reduction={reduction!r}, shape={self.shape})"

    def head(self) -> dict[str, Any]:
        """Return everything but the losses of classes, of which there may be a million."""
        values: dict[str, Any] = {
            **self.losses,
            "partial": self.partial,
            "reduction": self.settings["reduction"],
            "shape": list(self.shape),
            "elements_ignored": self.elements_ignored,
            "labels_dtype": self.labels_dtype,
            "logits_dtype": self.logits_dtype,
            "seconds": self.seconds,
            "elements_per_second": self.elements / self.seconds,
            "bytes_per_second": self.bytes_read / self.seconds,
            "rows_skipped": self.rows_skipped,
            "skipped": self.skipped,
            "warnings": self.warnings,
            "denominator": self.denominator,
            "settings": self.settings,
        }
        if self.baseline:
            values["baseline"] = _plain(self.baseline)
        if self.worst:
            values["worst"] = [asdict(row) for row in self.worst]
        for name in ("calibration", "logits", "course"):
            if getattr(self, name) is not None:
                values[name] = _plain(getattr(self, name))
        if self.slices:
            values["by"] = {column: list(rows.rows()) for column, rows in self.slices.items()}
        return values

    def by_class(self) -> Iterator[dict[str, Any]]:
        """Yield a dict for each class."""
        for index, row in enumerate(self.classes.rows() if self.classes else ()):
            yield {"class": index, **row}

    def to_dict(self) -> dict[str, Any]:
        """Return the object that the command line prints as JSON.

        Returns
        -------
        dict
            Strings, numbers, lists and dicts.
        """
        return {**self.head(), "by_class": list(self.by_class())}

    def to_pandas(self) -> Any:
        """Return the losses of all data, of the classes and of the slices as a frame.

        Returns
        -------
        pandas.DataFrame
            Of the columns loss, mean_label and elements; its index has what the rows are of (the
            name of a column, "class" or "all") and which.
        """
        try:
            import pandas as pd
        except ImportError:
            raise ImportError("Frames need pandas: pip install pandas.") from None

        tables = {} if self.classes is None else {"class": self.classes}
        rows = [
            {"by": by, "value": row.pop("name"), **row}
            for by, groups in (tables | self.slices).items()
            for row in groups.rows()
        ]
        everything = {
            "by": "all",
            "value": "",
            "loss": self.loss,
            "mean_label": math.nan,
            "elements": self.elements - (self.elements_ignored or 0),
        }
        return pd.DataFrame([everything, *rows]).set_index(["by", "value"])

    def plot(self) -> Any:
        """Draw what was found, by matplotlib: ``pip install 'sce_numba[report]'``.

        Returns
        -------
        matplotlib.figure.Figure
            One picture of everything that there is to draw.
        """
        from .pictures import plot

        return plot(self)

    def to_html(self) -> str:
        """Return a page of everything that was found, for a browser without network.

        Returns
        -------
        str
            A document of HTML.
        """
        from .html import page

        return page(self)

    def _repr_html_(self) -> str:
        from .html import fragment

        return fragment(self)


def _plain(part: Any) -> dict[str, Any]:
    """Return a part of the result in Python's built-in types."""
    return {
        key: value.tolist() if isinstance(value, np.ndarray) else value
        for key, value in asdict(part).items()
    }
