"""The pictures: what the peers take and how long calls last in bars, the cost model in lines.

Each is drawn as SVG for a light and for a dark page, and as PNG for what shows no SVG.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.ticker import FixedLocator, FuncFormatter

from .peers import OURS
from .report import duration, times, without_version
from .timing import Timing

# A picture of 480 pixels, which a phone shows nearly as large as it is.
WIDTH = 5.0
# Background, text, lines of the grid, bars of the peers.
THEMES = {
    "": ("#ffffff", "#1f2328", "#d8dee4", "#8c959f"),
    "-dark": ("#0d1117", "#e6edf3", "#30363d", "#6e7681"),
}
# Colours that can be told from each other on both, and by the colour-blind (after Okabe and Ito).
OWN, BOUND = "#e69f00", "#0a9ee0"
LINES = ("#e69f00", "#d55e00", "#0a9ee0", "#009e73", "#cc79a7", "#8f7fee", "#8c959f", "#a0785a")

# The jobs that have a picture, by its name, and what it says they are; the tables have all.
CHARTED = {
    "speed": ("default, float32 labels", "loss of 8192 x 2048 logits"),
    "speed_gradient": ("value and gradient", "loss and gradient of 8192 x 2048 logits"),
}


def save(folder: Path, name: str, draw: Callable[[tuple[str, ...]], Any]) -> None:
    """Write what a function draws in the colours of a theme."""
    folder.mkdir(parents=True, exist_ok=True)
    for suffix, theme in THEMES.items():
        background, text, grid, _ = theme
        style = {
            "font.size": 10,
            "figure.facecolor": background,
            "axes.facecolor": background,
            "axes.edgecolor": grid,
            "axes.labelcolor": text,
            "grid.color": grid,
            "text.color": text,
            "xtick.color": text,
            "ytick.color": text,
            "svg.fonttype": "none",
            "svg.hashsalt": "sce_numba",
            "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],
        }
        with plt.rc_context(style):
            figure = draw(theme)
            figure.savefig(folder / f"{name}{suffix}.svg", metadata={"Date": None})
            if not suffix:
                figure.savefig(folder / f"{name}.png", dpi=125)
            plt.close(figure)


def draw_comparison(jobs: dict[str, dict[str, Timing]], folder: Path) -> None:
    """Write ``speed`` and ``speed_gradient``: bars of time relative to ours."""
    for picture, (name, title) in CHARTED.items():
        if name in jobs:
            save(folder, picture, functools.partial(draw_job, title, jobs[name]))


def draw_job(title: str, timings: dict[str, Timing], theme: tuple[str, ...]) -> Any:
    """Draw the bars of one job, the fastest on top, and the roofline across them."""
    own = timings[OURS].median
    ratios = {
        without_version(peer): timing.median / own
        for peer, timing in sorted(timings.items(), key=lambda pair: -pair[1].median)
        if peer != "roofline"
    }
    start, end = min(ratios.values()) / 2, max(ratios.values()) * 2
    height = 0.9 + 0.2 * len(ratios)
    figure, panel = plt.subplots(figsize=(WIDTH, height), layout="constrained")
    colors = [OWN if peer == OURS else theme[3] for peer in ratios]
    panel.barh(list(ratios), [ratio - start for ratio in ratios.values()], 0.7, start, color=colors)
    for place, ratio in enumerate(ratios.values()):
        panel.text(ratio * 1.08, place, times(ratio), va="center")
    if "roofline" in timings:
        bound = timings["roofline"].median / own
        panel.axvline(bound, color=BOUND, linewidth=1.5, linestyle="--")
        words = f"roofline: {times(bound)}"
        panel.text(0.99, 0.97, words, color=BOUND, ha="right", va="top", transform=panel.transAxes)
    finish_bars(panel, f"{title}: {duration(own)}", (start, end), "{:g}".format, theme)
    figure.supxlabel("time relative to sce_numba (logarithmic)", fontsize=10)
    return figure


def finish_bars(
    panel: Any,
    title: str,
    limits: tuple[float, float],
    number: Callable[[float], str],
    theme: tuple[str, ...],
) -> None:
    """Give a panel of bars its title and a logarithmic axis, whose numbers read as told."""
    panel.set_title(title, fontsize=10, loc="left", color=theme[1])
    panel.set(xscale="log", xlim=limits)
    panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: number(x)))
    panel.minorticks_off()
    panel.grid(axis="x")
    panel.set_axisbelow(True)
    panel.tick_params(length=0)
    panel.spines[["top", "right", "left"]].set_visible(False)


def draw_cost_model(
    curves: dict[str, dict[int, Timing]], caches: dict[str, float], folder: Path
) -> None:
    """Write ``cost_model``: time against elements, and where the caches are full."""

    def draw(theme: tuple[str, ...]) -> Any:
        figure, axes = plt.subplots(figsize=(WIDTH, 5.0), layout="constrained")
        colors = iter(LINES)
        for name, curve in curves.items():
            sizes, seconds = list(curve), [timing.median for timing in curve.values()]
            if name == "roofline":
                style = {"color": theme[1], "linestyle": ":", "label": "reading the arrays"}
            elif name.startswith(OURS):
                style = {"color": next(colors), "linewidth": 2.5, "label": name}
            else:
                style = {"color": next(colors), "marker": "o", "label": without_version(name)}
                style["markersize"] = 3.5
            axes.plot(sizes, seconds, **style)
        sizes = [size for curve in curves.values() for size in curve]
        for name, size in caches.items():
            if min(sizes) < size < max(sizes):
                axes.axvline(size, color=theme[3], linewidth=1, linestyle="--", zorder=0)
                axes.text(size, 0.01, f" {name} full", transform=axes.get_xaxis_transform())
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xlabel("elements (logits and labels, float32: 8 bytes each)")
        axes.set_ylabel("time of a call")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: short_duration(y)))
        axes.xaxis.set_major_locator(FixedLocator([2**k for k in range(6, 28, 3)]))
        axes.minorticks_off()
        axes.grid()
        axes.tick_params(length=0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        return figure

    save(folder, "cost_model", draw)


def draw_latency(found: dict[str, dict[str, Any]], folder: Path) -> None:
    """Write ``latency``: a panel for each setting, p50 and p99 of each package in two bars."""
    rows = {
        title: {without_version(name): (one.p50, one.p99) for name, one in packages.items()}
        for title, packages in found.items()
    }
    seconds = [value for packages in rows.values() for pair in packages.values() for value in pair]
    start, end = min(seconds) / 2, max(seconds) * 8

    def draw(theme: tuple[str, ...]) -> Any:
        count = len(rows)
        figure, panels = plt.subplots(
            count, 1, figsize=(WIDTH, 0.6 + 2.4 * count), layout="constrained", squeeze=False
        )
        for panel, (title, packages) in zip(panels.flat, rows.items(), strict=False):
            names = list(packages)[::-1]
            for which, (shift, color) in enumerate(((0.19, OWN), (-0.19, theme[3]))):
                values = [packages[name][which] for name in names]
                places = [place + shift for place in range(len(names))]
                bars = [value - start for value in values]
                panel.barh(places, bars, 0.36, start, color=color, label=("p50", "p99")[which])
                for place, value in zip(places, values, strict=True):
                    panel.text(value * 1.1, place, duration(value), va="center", fontsize=8)
            panel.set_yticks(range(len(names)), names)
            finish_bars(panel, title, (start, end), short_duration, theme)
        panels.flat[0].legend(frameon=False, loc="upper right")
        figure.supxlabel("time of a call (logarithmic)", fontsize=10)
        return figure

    save(folder, "latency", draw)


def short_duration(seconds: float) -> str:
    """Return a power of ten of seconds with its unit."""
    unit, factor = next(
        pair for pair in (("s", 1), ("ms", 1e3), ("µs", 1e6)) if seconds * pair[1] > 0.9
    )
    return f"{seconds * factor:.0f} {unit}"
