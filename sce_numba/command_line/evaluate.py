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
from sce_numba.arrow_columns import is_null
from sce_numba.kernels.parallel import one_thread
from sce_numba.reduction import named

from .blocks import (
    Block,
    Operands,
    Problem,
    cut,
    drop_unreadable,
    missing_rows,
    read_ahead,
    told,
)
from .fitting import Labels, UnfitError, check_dtype, fit
from .npy import NpyPart
from .operands import Shard, find_shards, other_row_shape, pair_by_name, reason_of
from .progress import progress
from .report import as_json, as_lines
from .streams import say
from .total import Total

REDUCTIONS = ", ".join(reduction.name for reduction in sce.Reduction)
STOPPED = 1
INTERRUPTED = 130
# Classes without elements that are named; of more, the others are counted.
NAMED = 10

FILES = """\
An ARRAY is a .npy file; FILE.npz:MEMBER, one array of an archive; FILE.parquet:COLUMN, where lists
are rows of classes, as are several columns: FILE.parquet:X1,X2,X3 (.arrow and .feather, too: pip
install 'sce_numba[arrow]'); or a folder of such files or a quoted pattern, 'logits/*.npy',
'FOLDER:COLUMN', whose files are put one behind the other by the numbers in their names. Files of
labels, logits, weights and masks need not end at the same rows.
"""
REPORT = """\
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
        arguments.fail("; ".join(told(run.problems)))
    for line in told(run.problems):
        say(f"{'skipped' if run.skips else 'stopped'}: {line}")
    if not run.skips and run.problems:
        status, why = STOPPED, "stopped by an error"
    elif run.rows_left:
        status, why = INTERRUPTED, "interrupted"
    else:
        status, why = 0, ""
    report = run.report(why)
    for line in report["warnings"]:
        say(f"warning: {line}")
    sys.stdout.writelines(as_json(report) if arguments.json else as_lines(report))
    return status


def read_whole(shard: Shard) -> np.ndarray:
    """Read all rows of a small file."""
    if shard.error:
        raise ValueError(f"cannot read {shard.name} ({shard.error})")
    arrays = []
    for part in shard.parts:
        with closing(part):
            try:
                memory = np.empty(part.rows * part.row_bytes, np.uint8)
                arrays.append(part.read(0, part.rows, memory))
            except Exception as error:
                raise ValueError(f"cannot read {shard.name} ({reason_of(error)})") from None
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def read_pos_weight(text: str) -> np.ndarray:
    """Return the weights of positives: one number, or one for each class."""
    try:
        values = np.array([float(number) for number in text.split(",")])
    except ValueError:
        shard, *more = find_shards(text)
        for part in shard.parts:
            check_dtype("pos_weight", part.dtype)
        shape = shard.shape
        if more or len(shape) > 2 or (len(shape) == 2 and shape[0] != 1):
            raise ValueError(
                f"--pos-weight {text}: it must be one file of one number for each class, but "
                f"{'there are more files' if more else f'its shape is {shape}'}"
            ) from None
        values = read_whole(shard)
    if isinstance(values, np.ma.MaskedArray):
        raise ValueError(f"--pos-weight {text}: some of it is null")
    return values.reshape(() if values.size == 1 else -1)


class Run:
    """An evaluation: what is to be read, and what has come of it."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.skips = arguments.on_error == "skip"
        self._reduction = arguments.reduction
        self._labels = Labels(arguments.ignore_label, arguments.positive)
        self._operands: Operands = {
            "labels": find_shards(arguments.labels),
            "logits": find_shards(arguments.logits),
        }
        # What is the same for all rows: what named it, and its values.
        self._constants: dict[str, tuple[str, np.ndarray]] = {}
        self._add_operand("weights", arguments.weights)
        if arguments.where is not None:
            self._add_operand("where", arguments.where)
        pos_weight = None
        if arguments.pos_weight is not None:
            pos_weight = read_pos_weight(arguments.pos_weight)
            self._constants["pos_weight"] = f"--pos-weight {arguments.pos_weight}", pos_weight
        self._new_total = partial(
            Total, arguments.reduction, arguments.label_smoothing, arguments.by_class, pos_weight
        )
        self._total = self._new_total()
        for role, shards in self._operands.items():
            for shard in shards:
                self._check_dtypes(role, shard)
        pair_by_name(self._operands)
        self.problems = drop_unreadable(self._operands)
        if not self.skips:
            self.problems += missing_rows(self._operands)
            if self.problems:
                raise ValueError("; ".join(told(self.problems)))
        logits = self._operands["logits"]
        self._rows = sum(shard.rows for shard in logits)
        # Until there are rows to tell: those of tables have no shape before they are read.
        self._shape = logits[0].shape if logits else (0,)
        # Of each operand: the first file that rows were read from, and the shape of a row.
        self._first_rows: dict[str, tuple[str, tuple[int, ...]]] = {}
        self._dtypes: dict[str, set[str]] = {role: set() for role in self._operands}
        self.rows_done = self.rows_lost = self._bytes = 0
        self._seconds = 0.0

    def _add_operand(self, role: str, text: str) -> None:
        """Find weights or a mask: for each row, or the same for all rows."""
        name = f"--{role} {text}"
        if role == "weights":
            try:
                self._constants[role] = name, np.asarray(float(text))
                return
            except ValueError:
                pass
        shards = find_shards(text)
        parts = shards[0].parts
        if len(shards) == len(parts) == 1 and isinstance(parts[0], NpyPart) and parts[0].rows == 1:
            self._check_dtypes(role, shards[0])
            self._constants[role] = name, read_whole(shards[0])
        else:
            self._operands[role] = shards

    def _check_dtypes(self, role: str, shard: Shard) -> None:
        try:
            for part in shard.parts:
                check_dtype(role, part.dtype, self._labels.positive is not None)
        except UnfitError as error:
            shard.error = shard.error or str(error)

    @property
    def rows_left(self) -> int:
        """The number of rows that were not come to."""
        return self._rows - self.rows_done - self.rows_lost

    def until(self, ended: Callable[[], bool]) -> None:
        """Evaluate block after block."""
        with ExitStack() as stack:
            for shards in self._operands.values():
                for shard in shards:
                    for part in shard.parts:
                        stack.callback(part.close)
            # The other CPUs are for those who read, which takes longer than evaluating.
            stack.enter_context(one_thread())
            blocks = stack.enter_context(closing(read_ahead(cut(self._operands), self._operands)))
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
                self._bytes += sum(array.nbytes for array in block.arrays.values())
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
        files = {role: piece.part.name for role, piece in block.pieces.items()}
        rows = {
            role: (files[role], array.shape[1:])
            for role, array in block.arrays.items()
            if not is_null(array)
        }
        # What the headers say has been compared; the shapes in tables show here.
        for role, (_, shape) in rows.items():
            first, expected = self._first_rows.get(role, ("", shape))
            if shape != expected:
                return block.problem_of(role, other_row_shape(shape, expected, first))
        constants = {role: array for role, (_, array) in self._constants.items()}
        try:
            labels, logits, weights, where = fit(block.arrays | constants, files, self._labels)
            if self._shape == ():
                labels, logits = labels.reshape(()), logits.reshape(())
                where = where if where is None else where.reshape(())
            total.add(labels, logits, weights, where)
        except UnfitError as error:
            if error.role in constants:
                raise ValueError(f"{self._constants[error.role][0]}: {error}") from None
            return block.problem_of(error.role, str(error))
        except (ValueError, TypeError) as error:
            return block.problem_of("logits", reason_of(error))
        self._first_rows = rows | self._first_rows
        for role, array in block.arrays.items():
            self._dtypes[role].add("text" if array.dtype.kind in "SU" else str(array.dtype))
        self._shape = logits.shape
        return None

    def report(self, why_partial: str) -> dict[str, Any]:
        """Return what there is to say, under the names that JSON has."""
        shape = [self.rows_done, *self._shape[1:]] if self._shape else []
        elements = math.prod(shape) if self.rows_done else 0
        seconds = max(self._seconds, 1e-9)
        passed = self.rows_done + self.rows_lost
        partial_of = f"{why_partial} after {passed:,} of {self._rows:,} rows"
        masked = "where" in self._operands or "where" in self._constants or self._labels.ignores
        warnings = self._total.ranges.warnings()
        if not self._total.elements:
            warnings.append("there are no elements: the loss of none is 0")
        elif empty := self._total.empty_classes():
            more = f" and {len(empty) - NAMED:,} more" if len(empty) > NAMED else ""
            which = ", ".join(map(str, empty[:NAMED])) + more
            warnings.append(f"no elements of class {which}: the loss of none is 0")
        return {
            **self._total.values(),
            "partial": partial_of if why_partial else None,
            "reduction": self._reduction.value,
            "shape": shape,
            "elements_ignored": elements - self._total.elements if masked else None,
            "labels_dtype": ", ".join(sorted(self._dtypes["labels"])),
            "logits_dtype": ", ".join(sorted(self._dtypes["logits"])),
            "seconds": seconds,
            "elements_per_second": elements / seconds,
            "bytes_per_second": self._bytes / seconds,
            "rows_skipped": self.rows_lost,
            "skipped": [problem.as_dict() for problem in self.problems],
            "warnings": warnings,
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
