"""``evaluate``: the loss of arrays in files, which need not fit into memory."""

from __future__ import annotations

import argparse
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from typing import Any

import numpy as np

import sce_numba as sce
from sce_numba.kernels.parallel import one_thread
from sce_numba.reduction import named

from .blocks import ROLES, Block, Problem, cut, drop_unreadable, missing_rows, read_ahead
from .npy import NpyPart
from .operands import find_shards, other_row_shape, pair_by_name, reason_of
from .progress import progress
from .report import as_json, as_lines
from .streams import say
from .total import Total

REDUCTIONS = ", ".join(reduction.name for reduction in sce.Reduction)
STOPPED = 1
INTERRUPTED = 130

FILES = """\
An ARRAY is a .npy file; FILE.npz:MEMBER, one array of an archive; FILE.parquet:COLUMN, where lists
are rows of classes, as are several columns: FILE.parquet:X1,X2,X3 (.arrow and .feather, too: pip
install 'sce_numba[arrow]'); or a folder of such files or a quoted pattern, 'logits/*.npy',
'FOLDER:COLUMN', whose files are put one behind the other by the numbers in their names. Files of
labels, logits and weights need not end at the same rows.
"""
REPORT = """\
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
        help="a number, or an ARRAY that broadcasts to the logits (default: 1)",
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


def evaluate(arguments: argparse.Namespace) -> int:
    """Run the command."""
    try:
        run = Run(arguments)
        with interrupts() as interrupted:
            run.until(interrupted.is_set)
    except (ValueError, TypeError, MemoryError) as error:
        arguments.fail(str(error))
    if run.problems and run.rows_done == 0:
        arguments.fail("; ".join(map(str, run.problems)))
    for problem in run.problems:
        say(f"{'skipped' if run.skips else 'stopped'}: {problem}")
    if not run.skips and run.problems:
        status, why = STOPPED, "stopped by an error"
    elif run.rows_left:
        status, why = INTERRUPTED, "interrupted"
    else:
        status, why = 0, ""
    report = run.report(why)
    sys.stdout.writelines(as_json(report) if arguments.json else as_lines(report))
    return status


class Run:
    """An evaluation: what is to be read, and what has come of it."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.skips = arguments.on_error == "skip"
        self._reduction = arguments.reduction
        self._new_total = partial(
            Total, arguments.reduction, arguments.label_smoothing, arguments.by_class
        )
        self._total = self._new_total()
        self._operands = [find_shards(arguments.labels), find_shards(arguments.logits)]
        self._weights = self._find_weights(arguments.weights)
        pair_by_name(self._operands, ROLES)
        self.problems = drop_unreadable(self._operands)
        if not self.skips:
            self.problems += missing_rows(self._operands)
            if self.problems:
                raise ValueError("; ".join(map(str, self.problems)))
        logits = self._operands[1]
        self._rows = sum(shard.rows for shard in logits)
        # Until there are rows to tell: those of tables have no shape before they are read.
        self._shape = logits[0].shape if logits else (0,)
        # Of each operand: the first file that rows were read from, and the shape of a row.
        self._first_rows: list[tuple[str, tuple[int, ...]]] = []
        self._dtypes: list[set[str]] = [set() for _ in self._operands]
        self.rows_done = self.rows_lost = self._bytes = 0
        self._seconds = 0.0

    def _find_weights(self, text: str) -> Any:
        """Return weights that are the same for all rows; None if each row has its own."""
        try:
            return float(text)
        except ValueError:
            shards = find_shards(text)
        parts = shards[0].parts
        if len(shards) == len(parts) == 1 and isinstance(parts[0], NpyPart) and parts[0].rows == 1:
            try:
                with closing(parts[0]) as part:
                    return part.read(0, 1, np.empty(part.row_bytes, np.uint8)).reshape(part.shape)
            # As everywhere, damage may show in any layer.
            except Exception as error:
                raise ValueError(f"cannot read {text} ({reason_of(error)})") from None
        self._operands.append(shards)
        return None

    @property
    def rows_left(self) -> int:
        """The number of rows that were not come to."""
        return self._rows - self.rows_done - self.rows_lost

    def until(self, ended: Callable[[], bool]) -> None:
        """Evaluate block after block."""
        with ExitStack() as stack:
            for shards in self._operands:
                for shard in shards:
                    for part in shard.parts:
                        stack.callback(part.close)
            # The other CPUs are for those who read, which takes longer than evaluating.
            stack.enter_context(one_thread())
            blocks = stack.enter_context(
                closing(read_ahead(cut(self._operands), len(self._operands)))
            )
            update = stack.enter_context(progress(self._rows))
            self._evaluate(blocks, update, ended)

    def _evaluate(
        self, blocks: Iterable[Block], update: Callable[[int], Any], ended: Callable[[], bool]
    ) -> None:
        start = None
        for block in blocks:
            if ended():
                break
            if start is None:
                self._add(block, self._new_total())
                start = time.perf_counter()
            problem = self._add(block, self._total)
            self._seconds = time.perf_counter() - start
            if problem is None:
                self.rows_done += block.rows
                self._bytes += sum(array.nbytes for array in block.arrays)
            else:
                self.rows_lost += block.rows
                if not (self.problems and self.problems[-1].absorb(problem)):
                    self.problems.append(problem)
                if not self.skips:
                    break
            update(block.rows)

    def _add(self, block: Block, total: Total) -> Problem | None:
        """Add a block to a total, or tell why that can't be done."""
        if block.problem is not None:
            return block.problem
        rows = [
            (piece.part.name, array.shape[1:])
            for piece, array in zip(block.pieces, block.arrays, strict=True)
        ]
        # What the headers say has been compared; the shapes in tables show here.
        for piece, (name, shape), (first, expected) in zip(
            block.pieces, rows, self._first_rows, strict=False
        ):
            if shape != expected:
                return Problem(name, piece.rows, other_row_shape(shape, expected, first))
        labels, logits, *others = block.arrays
        weights = self._weights
        if others:
            weights = others[0]
            # A column of a table is that of the rows.
            if weights.ndim == 1 and not isinstance(block.pieces[2].part, NpyPart):
                weights = weights.reshape(-1, *[1] * (logits.ndim - 1))
        if self._shape == ():
            labels, logits = labels.reshape(()), logits.reshape(())
        try:
            total.add(labels, logits, weights)
        except (ValueError, TypeError) as error:
            piece = block.pieces[1]
            return Problem(piece.part.name, piece.rows, reason_of(error))
        self._first_rows = self._first_rows or rows
        for dtypes, array in zip(self._dtypes, block.arrays, strict=True):
            dtypes.add(str(array.dtype))
        self._shape = logits.shape
        return None

    def report(self, why_partial: str) -> dict[str, Any]:
        """Return what there is to say, under the names that JSON has."""
        shape = [self.rows_done, *self._shape[1:]] if self._shape else []
        elements = math.prod(shape) if self.rows_done else 0
        seconds = max(self._seconds, 1e-9)
        passed = self.rows_done + self.rows_lost
        partial_of = f"{why_partial} after {passed:,} of {self._rows:,} rows"
        return {
            **self._total.values(),
            "partial": partial_of if why_partial else None,
            "reduction": self._reduction.value,
            "shape": shape,
            "labels_dtype": ", ".join(sorted(self._dtypes[0])),
            "logits_dtype": ", ".join(sorted(self._dtypes[1])),
            "seconds": seconds,
            "elements_per_second": elements / seconds,
            "bytes_per_second": self._bytes / seconds,
            "rows_skipped": self.rows_lost,
            "skipped": [problem.__dict__ for problem in self.problems],
            "by_class": self._total.classes(),
        }


@contextmanager
def interrupts() -> Iterator[threading.Event]:
    """Note the first Ctrl-C; the second one interrupts as usual."""
    noted = threading.Event()

    def note(_number: int, _frame: Any) -> None:
        noted.set()
        signal.signal(signal.SIGINT, before)

    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield noted
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)
