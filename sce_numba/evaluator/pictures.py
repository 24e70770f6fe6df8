"""The pictures of an evaluation, drawn by matplotlib: in a notebook, and for the pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from ..messages import printable
from ..reduction import Reduction
from .result import Baseline, Calibration, Course, Evaluation, Groups, LogitHistogram

# The width of a phone's screen, in inches, so that text of this size is readable there.
WIDTH = 5.0
FONT_SIZE = 12
# The most groups that have a bar: those of greatest loss.
BARS = 20
LONGEST_NAME = 20
# On a light page and on a dark one. Blue and orange can be told apart by the colour-blind, too
# (after Okabe and Ito), and from either page.
COLORS = {
    "page": ("#ffffff", "#0d1117"),
    "text": ("#1f2328", "#e6edf3"),
    "faint": ("#59636e", "#9198a1"),
    "grid": ("#d1d9e0", "#3d444d"),
    "blue": ("#0072b2", "#56b4e9"),
    "orange": ("#d55e00", "#f28e4b"),
}
PAGE, TEXT, FAINT, GRID, BLUE, ORANGE = (light for light, _ in COLORS.values())
STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": "DejaVu Sans",
    "font.size": FONT_SIZE,
    "axes.titlesize": FONT_SIZE,
    "axes.titlelocation": "left",
    "axes.labelsize": FONT_SIZE,
    "xtick.labelsize": FONT_SIZE - 1,
    "ytick.labelsize": FONT_SIZE - 1,
    "legend.fontsize": FONT_SIZE - 1,
    "legend.frameon": False,
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "axes.edgecolor": FAINT,
    "axes.facecolor": PAGE,
    "figure.facecolor": PAGE,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    # Names are not formulas, whatever signs are in them.
    "text.parse_math": False,
}


@dataclass(frozen=True)
class Picture:
    """One picture: the function that draws it, and its description in words and numbers.

    The numbers of groups are in their tables.
    """

    name: str
    words: str
    height: float
    draw: Callable[[Any], None]
    numbers: dict[str, np.ndarray] = field(default_factory=dict)


def pictures(evaluation: Evaluation) -> list[Picture]:
    """Return the pictures of what was found.

    Parameters
    ----------
    evaluation
        What was found.

    Returns
    -------
    list of Picture
        None of what the evaluation doesn't have.
    """
    drawn = []
    if (baseline := evaluation.baseline) is not None:
        shares = [f"{name} in {share:.3g} %" for name, share in shares_of_rows(baseline).items()]
        words = (
            f"Difference from the baseline, {in_interval(baseline)}, beside 0: {baseline.verdict}. "
            f"Below it a histogram of the differences of single rows: {', '.join(shares)}."
        )
        numbers = {"difference to (nats)": baseline.edges[1:], "rows": baseline.rows}
        draw = partial(draw_baseline, baseline)
        drawn.append(Picture("difference from the baseline", words, 4.2, draw, numbers))
    if (calibration := evaluation.calibration) is not None:
        words = (
            "Reliability curve: the mean label against the mean predicted probability, above the "
            "number of elements in each bin. Expected calibration error "
            f"{number(calibration.expected_error)}."
        )
        numbers = {
            "probability to": calibration.edges[1:],
            "mean prediction": calibration.mean_prediction,
            "mean label": calibration.mean_label,
            "elements": calibration.elements,
        }
        draw = partial(draw_calibration, calibration)
        drawn.append(Picture("reliability curve", words, 4.2, draw, numbers))
    if (logits := evaluation.logits) is not None:
        words = "Histogram of the logits of label 0 and of those of label 1."
        numbers = {
            "logits to": logits.edges[1:],
            "elements of label 0": logits.negatives,
            "elements of label 1": logits.positives,
        }
        draw = partial(draw_logits, logits)
        drawn.append(Picture("histogram of logits", words, 3.4, draw, numbers))
    if (course := evaluation.course) is not None:
        finite = course.loss[np.isfinite(course.loss)]
        span = f", from {number(finite.min())} to {number(finite.max())}" if finite.size else ""
        words = f"Mean loss of an element along the rows{span}."
        numbers = {"from row": course.edges[:-1], "mean loss (nats)": course.loss}
        draw = partial(draw_course, course)
        drawn.append(Picture("loss along the rows", words, 3.4, draw, numbers))
    # A sum over all groups is no mean to compare them with.
    total = None if evaluation.settings["reduction"] == Reduction.SUM else evaluation.loss
    for name, which, groups in shown_groups(evaluation, BARS):
        if not len(groups):
            continue
        title = f"By {plain(name, LONGEST_NAME)}"
        words = f"{title}: bars of the loss and of the mean label of {which}."
        draw = partial(draw_groups, groups, title, total)
        drawn.append(Picture(f"by {name}", words, 1.2 + 0.27 * len(groups), draw))
    return drawn


def shown_groups(evaluation: Evaluation, most: int) -> Iterator[tuple[str, str, Groups]]:
    """Yield each kind of groups: its name, which of them are shown, and their losses.

    If there are more than ``most``, those of greatest loss are shown.  Classes are sorted by their
    losses in any case; the values of a column keep their order, which may be that of numbers.
    """
    if evaluation.classes is not None:
        classes = by_loss(evaluation.classes, most)
        yield "class", share(len(classes), len(evaluation.classes), "classes"), classes
    for name, groups in evaluation.slices.items():
        values = groups if len(groups) <= most else by_loss(groups, most)
        yield name, share(len(values), len(groups), "values"), values


def by_loss(groups: Groups, most: int) -> Groups:
    """Return the groups of greatest loss, the greatest first; NaN is greater than any."""
    chosen = np.lexsort((-groups.loss, ~np.isnan(groups.loss)))[:most]
    return Groups(
        [groups.names[index] for index in chosen],
        groups.loss[chosen],
        groups.mean_label[chosen],
        groups.elements[chosen],
    )


def share(shown: int, of: int, kind: str) -> str:
    """Say how many are shown, and of how many."""
    if shown == of:
        return f"{of:,} {kind}"
    return f"the {shown:,} of {of:,} {kind} with the greatest loss"


def plain(name: object, longest: int) -> str:
    """Return a name that can be drawn, with its middle left out where it is too long."""
    text = str(name) or "(empty)"
    if len(text) > longest:
        half = longest // 2
        # Names with the same beginning differ at the end.
        text = f"{text[:half]}…{text[half + 1 - longest :]}"
    return printable(text)


def number(value: float, digits: int = 4) -> str:
    """Return a number as text, rounded to some significant digits."""
    if (10**digits <= abs(value) or value.is_integer()) and abs(value) < 1e15:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}".replace("nan", "NaN").replace("inf", "∞")


def plot(evaluation: Evaluation) -> Any:
    """Draw all pictures, side by side, on one figure.

    Parameters
    ----------
    evaluation
        What was found.

    Returns
    -------
    matplotlib.figure.Figure
        A figure of ``matplotlib.pyplot``, which shows it.
    """
    require_matplotlib()
    from matplotlib import pyplot, style

    drawn = pictures(evaluation)
    rows = [drawn[start : start + 2] for start in range(0, len(drawn), 2)]
    heights = [max(picture.height for picture in row) for row in rows]
    with style.context(STYLE):
        figure = pyplot.figure(figsize=(2 * WIDTH, sum(heights, 0.1)), layout="constrained")
        if rows:
            panels = figure.subfigures(len(rows), 2, height_ratios=heights, squeeze=False)
            for picture, panel in zip(drawn, panels.flat, strict=False):
                picture.draw(panel)
    return figure


def require_matplotlib() -> None:
    """Raise an error that tells how to install matplotlib, if it is missing."""
    try:
        import matplotlib as matplotlib
    except ImportError:
        raise ImportError("Pictures need matplotlib: pip install 'sce_numba[report]'.") from None


def in_interval(baseline: Baseline) -> str:
    """Return the difference and its interval in words."""
    low, high = (number(side, 3) for side in baseline.interval)
    interval = f"{100 * baseline.confidence:g} % interval {low} to {high}"
    return f"{number(baseline.difference, 3)} ({interval})"


def shares_of_rows(baseline: Baseline) -> dict[str, float]:
    """Return the percentages of rows whose loss is lower than, greater than or equal to before."""
    lower = baseline.rows[baseline.edges[1:] <= 0].sum()
    counts = {"lower": lower, "greater": baseline.rows.sum() - lower, "equal": baseline.equal}
    return {name: 100 * count / max(sum(counts.values()), 1) for name, count in counts.items()}


def draw_baseline(baseline: Baseline, figure: Any) -> None:
    """Draw the difference with its interval, and below it a histogram of those of single rows."""
    mean, rows = figure.subplots(2, 1, height_ratios=(1, 4))
    low, high = baseline.interval
    mean.set_title(f"Baseline: {baseline.verdict}\n{in_interval(baseline)}")
    color = BLUE if high < 0 else ORANGE if low > 0 else FAINT
    mean.axvline(0, color=FAINT, linestyle="--")
    mean.plot(baseline.interval, (0, 0), color=color, linewidth=4, solid_capstyle="round")
    mean.plot(baseline.difference, 0, marker="o", markersize=10, color=color)
    mean.set(xlabel="difference of the losses (nats)", yticks=())
    mean.set_xmargin(0.1)
    mean.locator_params(axis="x", nbins=5)
    mean.spines["left"].set_visible(False)
    edges = baseline.edges.copy()
    # The outermost bins are infinite, and drawn as wide as those next to them.
    edges[0], edges[-1] = 2 * edges[1] - edges[2], 2 * edges[-2] - edges[-3]
    counted = 100 * baseline.rows / max(baseline.rows.sum() + baseline.equal, 1)
    shares = shares_of_rows(baseline)
    for name, color, side in (
        ("lower", BLUE, edges[1:] <= 0),
        ("greater", ORANGE, edges[:-1] >= 0),
    ):
        sides = edges[:-1][side], counted[side], np.diff(edges)[side]
        label = f"{name}: {shares[name]:.3g} %"
        rows.bar(*sides, align="edge", color=color, edgecolor=PAGE, label=label)
    equal = f"; equal: {shares['equal']:.3g} %" if baseline.equal else ""
    rows.set(xlabel=f"difference of a row (nats){equal}", ylabel="% of rows")
    rows.set(xlim=edges[[0, -1]], ylim=(0, None))
    rows.locator_params(axis="x", nbins=7)
    # Between the pictures, where no bar can be.
    rows.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0)


def draw_calibration(calibration: Calibration, figure: Any) -> None:
    """Draw the mean labels of bins against their mean predictions, and their counts below."""
    curve, counts = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    curve.set_title(f"Calibration: expected error {number(calibration.expected_error)}")
    curve.plot((0, 1), (0, 1), linestyle="--", color=FAINT, label="calibrated")
    filled = (calibration.elements > 0) & np.isfinite(calibration.mean_label)
    points = calibration.mean_prediction[filled], calibration.mean_label[filled]
    curve.plot(*points, marker="o", color=BLUE, label="model", clip_on=False)
    # Labels outside [0, 1] may extend the axis.
    least, greatest = np.min(points[1], initial=0), np.max(points[1], initial=1)
    curve.set(xlim=(0, 1), ylim=(least, greatest), ylabel="mean label")
    curve.legend(loc="upper left")
    starts, widths = calibration.edges[:-1], np.diff(calibration.edges)
    counts.bar(starts, calibration.elements, widths, align="edge", color=BLUE, edgecolor=PAGE)
    # From below 1, so that a single element is seen.
    counts.set_ylim(0.5, 2 * max(1, *calibration.elements.tolist()))
    counts.set(yscale="log", xlabel="predicted probability", ylabel="elements")
    counts.minorticks_off()
    shorten_numbers(counts.yaxis)
    figure.align_ylabels()


def draw_logits(logits: LogitHistogram, figure: Any) -> None:
    """Draw the distributions of the logits of label 0 and of label 1."""
    axes = figure.subplots()
    edges = logits.edges.copy()
    # The outermost bins are infinite, and drawn as wide as those next to them.
    edges[0], edges[-1] = 2 * edges[1] - edges[2], 2 * edges[-2] - edges[-3]
    for label, counts, color, filled in (
        (0, logits.negatives, BLUE, True),
        (1, logits.positives, ORANGE, False),
    ):
        total = counts.sum()
        shares = 100 * counts / total if total else counts
        style = {"fill": True, "alpha": 0.5} if filled else {"linewidth": 2}
        axes.stairs(shares, edges, color=color, label=f"label {label} ({total:,.0f})", **style)
    used = np.flatnonzero(logits.negatives + logits.positives)
    if used.size:
        axes.set_xlim(edges[used[0]], edges[used[-1] + 1])
    axes.set(xlabel="logit", ylabel="% of the label's elements")
    axes.locator_params(axis="x", nbins=7, integer=True)
    axes.set_ylim(bottom=0)
    # Between the picture and its title, where no curve can be.
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0)
    axes.set_title("Logits by label", pad=2 * FONT_SIZE)


def draw_course(course: Course, figure: Any) -> None:
    """Draw the loss along the rows."""
    axes = figure.subplots()
    axes.set_title("Loss along the rows")
    finite = np.where(np.isfinite(course.loss), course.loss, np.nan)
    axes.stairs(finite, course.edges, baseline=None, color=BLUE, linewidth=1.5)
    axes.set(xlabel="row", ylabel="mean loss (nats)")
    if course.edges[-1] > course.edges[0]:
        axes.set_xlim(course.edges[0], course.edges[-1])
    shorten_numbers(axes.xaxis)


def draw_groups(groups: Groups, title: str, total: float | None, figure: Any) -> None:
    """Draw bars of the losses of groups, the first on top, beside bars of their mean labels."""
    losses, labels = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    if total is not None and np.isfinite(total):
        title = f"{title} (dashed: all, {number(total)})"
        losses.axvline(total, color=FAINT, linestyle="--")
    losses.set_title(title)
    draw_bars(losses, groups.loss, list(map(number, groups.loss.tolist())), BLUE)
    losses.set_xlabel("loss (nats)")
    shares = 100 * groups.mean_label
    draw_bars(labels, shares, [f"{share:.3g}".replace("nan", "none") for share in shares], ORANGE)
    labels.set_xlabel("mean label (%)")
    losses.set_yticks(range(len(groups)), [plain(name, LONGEST_NAME) for name in groups.names])
    losses.set_ylim(len(groups) - 0.5, -0.5)


def draw_bars(axes: Any, values: np.ndarray, words: list[str], color: str) -> None:
    """Draw horizontal bars, each with its number at its end, but none for what isn't finite."""
    finite = np.where(np.isfinite(values), values, 0)
    bars = axes.barh(range(len(finite)), finite, 0.7, color=color)
    behind = {"facecolor": PAGE, "edgecolor": "none", "pad": 1}
    axes.bar_label(bars, words, padding=4, fontsize=FONT_SIZE - 1, bbox=behind)
    # Room for the numbers.
    axes.set_xmargin(0.35)
    axes.locator_params(axis="x", nbins=3)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)


def shorten_numbers(axis: Any) -> None:
    """Write thousands as k and millions as M."""
    from matplotlib.ticker import EngFormatter

    axis.set_major_formatter(EngFormatter(sep=""))
