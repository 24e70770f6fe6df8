"""The facts of a run, its tables, and where a page has them."""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import re
import statistics
from pathlib import Path
from typing import Any

import llvmlite.binding
import numba

import sce_numba as sce

from .peers import OURS, THREADS
from .timing import Timing

# Between these lines of a page is what a run wrote there.
BEGIN, END = "<!-- {}: begin -->", "<!-- {}: end -->"

# The peers of each table, which is narrow enough for a page; the last one takes all others.
SIDE_BY_SIDE = ("NumPy", "numexpr"), ("PyTorch", "JAX", "scikit-learn"), ("TensorFlow",), ("",)


def processor() -> str:
    """Return the name that the processor gives itself, where Linux tells it, and LLVM's name."""
    llvm = llvmlite.binding.get_host_cpu_name()
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    except OSError:
        found = None
    return f"{found.group(1)} ({llvm})" if found else f"{platform.machine()} ({llvm})"


def facts(command: str, peers: list[str]) -> dict[str, Any]:
    """Return what a reader has to know to judge the numbers, or to take them again."""
    return {
        "date": datetime.date.today().isoformat(),
        "processor": processor(),
        "threads": THREADS,
        "system": f"{platform.system()} {platform.machine()}",
        "versions": [
            f"sce_numba {sce.__version__}",
            f"Python {platform.python_version()}",
            f"Numba {numba.__version__}",
            *dict.fromkeys(
                found
                for name in peers
                for found in re.findall(r"(?:ONNX )?[\w-]+ \d+\.[\w.]*", name)
            ),
        ],
        "command": command,
    }


def facts_in_words(found: dict[str, Any]) -> str:
    """Return the facts as a sentence."""
    return (
        f"Measured on {found['date']} by `{found['command']}`: {found['processor']}, "
        f"{found['threads']} threads for everyone, {found['system']}; "
        f"{', '.join(found['versions'])}."
    )


def duration(seconds: float) -> str:
    """Return a time with three digits and its unit.

    >>> [duration(seconds) for seconds in (2.2e-6, 0.012345, 3.0)]
    ['2.20 µs', '12.3 ms', '3.00 s']
    """
    unit, factor = next(
        pair
        for pair in (("s", 1), ("ms", 1e3), ("µs", 1e6))
        if seconds * pair[1] >= 1 or pair[1] == 1e6
    )
    value = seconds * factor
    return f"{value:#.3g}".rstrip(".") + f" {unit}"


def times(ratio: float) -> str:
    """Return a ratio with two or more digits.

    >>> [times(ratio) for ratio in (0.912, 2.345, 12.3, 4711.0)]
    ['0.91', '2.3', '12', '4711']
    """
    if ratio < 1:
        return f"{ratio:.2f}"
    return f"{ratio:.1f}" if ratio < 9.95 else f"{ratio:.0f}"


def spread_in_words(timings: list[Timing]) -> str:
    """Return how far apart the timings of a call lie."""
    spreads = [timing.spread for timing in timings]
    return (
        f"Half of the timings of a call lie within ±{statistics.median(spreads):.1%} of their "
        f"median, for the least steady call within ±{max(spreads):.0%}."
    )


def without_version(peer: str) -> str:
    """Return the name of a peer as a column has it.

    >>> without_version("JAX 0.10.2 with optax 0.2.8"), without_version("PyTorch 2.13.0 eager")
    ('JAX with optax', 'PyTorch eager')
    """
    return re.sub(r" \d+\.[\w.]*", "", peer)


def tables(jobs: dict[str, dict[str, Timing]]) -> str:
    """Return tables in Markdown, a row for each job and a column for each peer."""
    peers = list(dict.fromkeys(name for timings in jobs.values() for name in timings))
    others = [name for name in peers if name not in (OURS, "roofline")]
    heads = [["job", OURS, "of the roofline"], ["job"], ["job"], ["job"]]
    found = []
    for head, names in zip(heads, SIDE_BY_SIDE, strict=True):
        beside = [name for name in others if name.startswith(names)]
        others = [name for name in others if name not in beside]
        rows = [[*head, *map(without_version, beside)]]
        for job, timings in jobs.items():
            own = timings[OURS].median
            bound = f"{timings['roofline'].median / own:.0%}" if "roofline" in timings else ""
            row = [job, duration(own), bound][: len(head)]
            row += [times(timings[name].median / own) if name in timings else "" for name in beside]
            rows.append(row)
        if len(rows[0]) > 1:
            found.append(in_columns(rows))
    return "\n\n".join(found)


def beside(timings: dict[str, Timing]) -> list[str]:
    """Return the time of the first call, and how many times as long each of the others took.

    >>> beside({"own": Timing(0.002, 0.002, 0.002), "other": Timing(0.005, 0.005, 0.005)})
    ['2.00 ms', '2.5']
    """
    own, *others = (timing.median for timing in timings.values())
    return [duration(own), *(times(other / own) for other in others)]


def table_beside(head: str, found: dict[str, dict[str, Timing]]) -> str:
    """Return a table with a row for each job: the time of the first, and ratios of the others."""
    rows = [[head, *next(iter(found.values()))]]
    return in_columns(rows + [[job, *beside(timings)] for job, timings in found.items()])


def in_columns(rows: list[list[str]]) -> str:
    """Return rows as a Markdown table, the first column to the left and the others to the right."""
    widths = [max(3, *map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "| " + " | ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ) + " |"
        for row in rows
    ]  # fmt: skip
    rule = "| " + " | ".join(
        "-" * width if i == 0 else "-" * (width - 1) + ":" for i, width in enumerate(widths)
    ) + " |"  # fmt: skip
    return "\n".join([lines[0], rule, *lines[1:]])


def insert(page: str, name: str, text: str) -> str:
    """Return a page with what stands between two marks replaced.

    >>> print(insert("a <!-- x: begin --> old <!-- x: end --> b", "x", "new"))
    a <!-- x: begin -->
    new
    <!-- x: end --> b
    """
    begin, end = BEGIN.format(name), END.format(name)
    if page.count(begin) != 1 or page.count(end) != 1:
        raise ValueError(f"The page must contain {begin!r} and {end!r} once each.")
    before, rest = page.split(begin)
    return f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}"


def as_json(said: dict[str, Any], timings: dict[Any, dict[Any, Any]]) -> str:
    """Return the facts of a run, and its timings as ``seconds``."""
    seconds = {
        job: {name: timing._asdict() for name, timing in by.items()} for job, by in timings.items()
    }
    return json.dumps({**said, "seconds": seconds}, indent=1)


def saved(file: Path, of: Any = Timing) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return the facts and the timings, named tuples, of a run that were written as JSON."""
    said = json.loads(file.read_text(encoding="utf-8"))
    seconds = said.pop("seconds")
    return said, {
        job: {name: of(**timing) for name, timing in by.items()} for job, by in seconds.items()
    }


def add_outputs(parser: argparse.ArgumentParser) -> None:
    """Add the options that keep the numbers of a run, show them again, and write to a page."""
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    parser.add_argument(
        "--from", dest="saved", type=Path, metavar="FILE", help="show what --json printed before"
    )
    add_page(parser)


def add_page(parser: argparse.ArgumentParser) -> None:
    """Add the option that names a page to write to."""
    parser.add_argument("--page", type=Path, metavar="FILE", help="replace the table on a page")


def write(words: str, page: Path | None, name: str) -> None:
    """Write what a tool found between its marks on a page, if one is given."""
    if page:
        text = insert(page.read_text(encoding="utf-8"), name, words)
        page.write_text(text, encoding="utf-8")
