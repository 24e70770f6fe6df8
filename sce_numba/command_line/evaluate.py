"""The command ``evaluate``: the loss of arrays in files, which need not fit into memory."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import fields
from typing import Any

import sce_numba as sce
from sce_numba.evaluator.blocks import problem_lines
from sce_numba.evaluator.outputs import output
from sce_numba.evaluator.pictures import require_matplotlib
from sce_numba.evaluator.run import Run, Settings
from sce_numba.reduction import named

from .progress import progress
from .report import as_json, as_lines
from .streams import say

REDUCTIONS = ", ".join(reduction.name for reduction in sce.Reduction)
STOPPED = 1
INTERRUPTED = 130
# The most worst rows that may be asked for.
MOST = 100_000

FILES = """\
An ARRAY is a .npy file; FILE.npz:MEMBER, one array of an archive; FILE.parquet:COLUMN, where lists
are rows of classes, as are several columns: FILE.parquet:X1,X2,X3 (.arrow, .feather, .csv, .tsv and
.csv.gz, too: pip install 'sce_numba[arrow]'); -:COLUMN, of Arrow data from standard input; or a
folder of such files or a quoted pattern, 'logits/*.npy', 'FOLDER:COLUMN', whose files are put one
behind the other by the numbers in their names. URLs, as s3://BUCKET/FILE.parquet:COLUMN, are read
by fsspec (pip install 'sce_numba[remote]'). Files of labels, logits, weights and masks need not end
at the same rows.
"""
REPORT = """\
Example: sce-numba evaluate data/:y data/:score --by country --worst 10 --report report.html

Two files to try it with, labels.npy and logits.npy, are in the package's folder example_data.
Rows are read in blocks, and time is measured from the end of the first block, which may include
compilation. Ctrl-C prints what the rows before it come to. Exit status: 0; 1 if a block could not
be evaluated and the rest was left; 2 if nothing could; 3 if standard output can't be written to;
130 if interrupted. In JSON a number that is not finite is one of the strings "NaN", "Infinity" and
"-Infinity".
"""


def add_to(commands: Any) -> None:
    """Add the command to those of the program."""
    parser = commands.add_parser(
        "evaluate",
        help="compute the loss of arrays in files",
        description=f"Compute the loss of arrays in files of any size. {FILES}",
        epilog=REPORT,
    )
    parser.add_argument("labels", metavar="LABELS", help="an ARRAY of labels in [0, 1]")
    parser.add_argument("logits", metavar="LOGITS", help="an ARRAY of logits, of the same shape")
    parser.add_argument(
        "--weights",
        default="1",
        metavar="W",
        help="a number, or an ARRAY of one for each row, or that broadcasts to the logits "
        "(default: 1)",
    )
    parser.add_argument(
        "--pos-weight",
        metavar="Q",
        help="the weight of positives: a number, one for each class with commas between them, or "
        "an ARRAY of these (default: 1)",
    )
    parser.add_argument(
        "--where",
        metavar="W",
        help="an ARRAY of bool, one for each row or each logit: false leaves it out of everything",
    )
    parser.add_argument(
        "--ignore-label",
        action="append",
        default=[],
        metavar="V",
        help="leave out labels that are V: a number, NaN or null. May be given several times",
    )
    parser.add_argument(
        "--positive",
        metavar="V",
        help="take labels that are V, a number or text, as 1, and the one other value as 0",
    )
    parser.add_argument(
        "--label-smoothing", type=float, default=0.0, metavar="S", help="in [0, 1] (default: 0)"
    )
    parser.add_argument(
        "--reduction",
        type=parse_reduction,
        default="SUM_BY_NONZERO_WEIGHTS",
        metavar="R",
        help=f"{REDUCTIONS} in any case, or TensorFlow's string for one of them "
        "(default: SUM_BY_NONZERO_WEIGHTS). NONE shows the least, mean and greatest element",
    )
    parser.add_argument(
        "--by-class", action="store_true", help="show the loss of every class (the last axis), too"
    )
    parser.add_argument(
        "--class-names",
        metavar="FILE",
        help="the names of the classes, one a line (default: those of columns side by side)",
    )
    parser.add_argument(
        "--by",
        action="append",
        default=[],
        metavar="COLUMN",
        help="show the loss of every value in a column of the same files, or in an ARRAY, too; of "
        "more than 32 numbers, that of ten ranges. May be given several times",
    )
    parser.add_argument(
        "--baseline",
        metavar="LOGITS",
        help="an ARRAY of other logits: show how much greater the loss is than theirs, with an "
        "interval of confidence",
    )
    parser.add_argument(
        "--worst",
        type=parse_count,
        default=0,
        metavar="N",
        help="show the N rows of greatest loss",
    )
    parser.add_argument(
        "--per-row",
        metavar="FILE",
        help="write the loss of every row to a .npy or .parquet file, in order",
    )
    parser.add_argument(
        "--report",
        metavar="FILE",
        help="write a page of HTML with pictures of all this, of calibration and of the logits "
        "(pip install 'sce_numba[report]')",
    )
    parser.add_argument(
        "--on-error",
        choices=["stop", "skip"],
        default="stop",
        help="what to do where a file can't be read: stop, and show what came before, or skip its "
        "rows, and list what was skipped (default: stop)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=evaluate, fail=parser.error)


def parse_reduction(text: str) -> sce.Reduction:
    """Accept the name of a reduction in any case, or TensorFlow's string."""
    reduction = named(text)
    if reduction is None:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {REDUCTIONS}")
    return reduction


def parse_count(text: str) -> int:
    """Accept a number of rows."""
    try:
        count = int(text)
    except ValueError:
        count = -1
    if not 0 <= count <= MOST:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of rows from 0 to {MOST:,}")
    return count


def evaluate(arguments: argparse.Namespace) -> int:
    """Run the command."""
    # Arrow reads this when it is loaded. Its other allocators keep tens of megabytes after they are
    # freed. Only the command sets it: elsewhere the process isn't ours.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    try:
        return _evaluate(arguments)
    except (ValueError, TypeError, MemoryError, ImportError) as error:
        arguments.fail(str(error))
        raise


def _evaluate(arguments: argparse.Namespace) -> int:
    settings = {
        each.name: getattr(arguments, each.name)
        for each in fields(Settings)
        if each.name in arguments
    }
    page = arguments.report
    if page is not None:
        require_matplotlib()
        settings |= {"distributions": True, "by_class": settings["by_class"] or None}
    run = Run(Settings(**settings))
    if page is not None:
        run.check_output("report", page)
    with output(page) if page is not None else nullcontext() as written:
        if page and os.path.splitext(page)[1].lower() not in ("", ".html", ".htm"):
            raise ValueError(f"--report {page}: what can be written is a page of HTML, FILE.html")
        with interrupts() as interrupted, progress(run.rows) as update:
            run.until(interrupted.is_set, update)
        if run.has_failed:
            raise ValueError("; ".join(problem_lines(run.problems)))
        for line in problem_lines(run.problems):
            say(f"{'skipped' if run.skips else 'stopped'}: {line}")
        if not run.skips and run.problems:
            status, why = STOPPED, "stopped by an error"
        elif run.rows_left:
            status, why = INTERRUPTED, "interrupted"
        else:
            status, why = 0, ""
        result = run.result(why)
        if written is not None:
            written.file.write(result.to_html().encode())
            written.finish()
    for line in result.warnings:
        say(f"warning: {line}")
    sys.stdout.writelines(as_json(result) if arguments.json else as_lines(result))
    return status


@contextmanager
def interrupts() -> Iterator[threading.Event]:
    """Yield an event that the first Ctrl-C sets; the second one interrupts as usual."""
    noted = threading.Event()

    def note(_number: int, _frame: Any) -> None:
        noted.set()
        signal.signal(signal.SIGINT, previous)

    previous = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(previous):
        yield noted
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, previous)
