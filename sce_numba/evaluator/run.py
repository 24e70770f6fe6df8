"""The run of an evaluation: it finds the operands, reads them block by block, adds up results."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numba
import numpy as np

import sce_numba as sce
from sce_numba.arguments import dtype_code
from sce_numba.arrow_columns import is_null
from sce_numba.kernels.parallel import one_thread

from .array_part import ArrayPart
from .blocks import (
    Block,
    Operands,
    Problem,
    cut,
    drop_unreadable,
    missing_rows,
    problem_lines,
    read_ahead,
)
from .details import Details
from .fitting import Labels, UnfitError, check_dtype, fit
from .npy import NpyPart
from .operands import (
    Shard,
    column_beside,
    find_shards,
    other_row_shape,
    pair_by_name,
    reason_of,
)
from .outputs import RowWriter, check_row_file, is_same_file, output
from .result import Evaluation
from .rows import Rows
from .tables import BETWEEN, GROUPS, TablePart, is_partition
from .total import Total

# The most classes without elements that a warning names; the others are counted.
NAMED = 10
# The prefix of the roles of columns that name groups.
BY = "by "


@dataclass
class Settings:
    """What to evaluate, and how.

    An operand is the name of files or an array in memory; columns of groups are names, or arrays by
    the names that their groups are told by.
    """

    labels: Any
    logits: Any
    weights: Any = "1"
    pos_weight: Any = None
    where: Any = None
    ignore_label: Sequence[str] = ()
    positive: str | None = None
    label_smoothing: float = 0.0
    reduction: sce.Reduction = sce.Reduction.SUM_BY_NONZERO_WEIGHTS
    by: Sequence[str] | Mapping[str, Any] = ()
    baseline: Any = None
    by_class: bool | None = False
    class_names: Any = None
    per_row: str | None = None
    worst: int = 0
    on_error: str = "stop"
    # Whether to count the distributions of logits and probabilities.
    distributions: bool = False

    def shown(self) -> dict[str, Any]:
        """Return the settings as results show them, and the versions of the libraries."""
        values = {each.name: _shown(getattr(self, each.name)) for each in fields(self)}
        for name in ("by_class", "class_names", "worst", "distributions"):
            del values[name]
        versions = {"version": sce.__version__, "numpy": np.__version__, "numba": numba.__version__}
        return values | {"reduction": self.reduction.value, "by": list(self.by)} | versions


def _shown(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist() if value.size == 1 else f"array of shape {value.shape}"
    return list(value) if isinstance(value, tuple) else value


def read_whole(shard: Shard) -> np.ndarray:
    """Read all rows of a small file."""
    arrays = []
    try:
        if shard.error:
            raise ValueError(shard.error)
        for part in shard.parts:
            with closing(part):
                memory = np.empty(part.rows * part.row_bytes, np.uint8)
                arrays.append(part.read(0, part.rows, memory))
    # A damaged file can fail in any layer.
    except Exception as error:
        raise ValueError(f"cannot read {shard.name} ({reason_of(error)})") from None
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def read_pos_weight(text: str) -> np.ndarray:
    """Return the weights of positives: one number, or one for each class."""
    try:
        values = np.array([float(number) for number in text.split(",")])
    except ValueError:
        shard, *more = find_shards(text)
        try:
            for part in shard.parts:
                check_dtype("pos_weight", part.dtype)
        except UnfitError as error:
            raise ValueError(f"--pos-weight {text}: {error}") from None
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


def read_class_names(given: Any) -> list[str] | None:
    """Return the names of classes, those of a file one a line."""
    if not isinstance(given, str):
        return given if given is None else list(map(str, given))
    try:
        # Some programs begin such a file with a byte order mark.
        with open(given, encoding="utf-8-sig") as file:
            return file.read().splitlines()
    except (OSError, ValueError) as error:
        raise ValueError(f"--class-names {given}: cannot read it ({reason_of(error)})") from None


class Run:
    """An evaluation: the operands to read, and the results so far."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.skips = settings.on_error == "skip"
        self._labels = Labels(list(settings.ignore_label), settings.positive)
        self._operands: Operands = {
            "labels": self._shards("labels", settings.labels),
            "logits": self._shards("logits", settings.logits),
        }
        # Operands that are the same for all rows: the option that gave them, and their values.
        self._constants: dict[str, tuple[str, np.ndarray]] = {}
        self._add_operand("weights", settings.weights)
        if settings.where is not None:
            self._add_operand("where", settings.where)
        if settings.baseline is not None:
            self._operands["baseline"] = self._shards("baseline", settings.baseline)
        # The columns of each operand that names groups.
        self._columns: dict[str, list[str]] = {}
        self._find_columns()
        pos_weight = settings.pos_weight
        if isinstance(pos_weight, str):
            pos_weight = read_pos_weight(pos_weight)
        if pos_weight is not None:
            self._constants["pos_weight"] = f"--pos-weight {settings.pos_weight}", pos_weight
        self._class_names = read_class_names(settings.class_names)
        if self._class_names is None:
            self._class_names = self._names_of_columns()
        for role, shards in self._operands.items():
            for shard in shards:
                self._check_dtypes(role, shard)
        pair_by_name(self._operands)
        self.problems = drop_unreadable(self._operands)
        if not self.skips:
            self.problems += missing_rows(self._operands)
            if self.problems:
                raise ValueError("; ".join(problem_lines(self.problems)))
        logits = self._operands["logits"]
        self.rows = sum(shard.rows for shard in logits)
        # Until rows are read: only they tell the shape in tables.
        self._shape = logits[0].shape if logits else (0,)
        self._new_total = partial(
            Total, settings.reduction, settings.label_smoothing, settings.by_class, pos_weight
        )
        self._total = self._new_total()
        self._new_details = partial(
            Details,
            self._total.formula,
            self.rows,
            list(settings.by),
            None if settings.baseline is None else str(_shown(settings.baseline)),
            settings.worst,
            settings.distributions,
        )
        self._details = self._new_details()
        # For each operand: the first file that rows were read from, and the shape of a row.
        self._first_rows: dict[str, tuple[str, tuple[int, ...]]] = {}
        self._dtypes: dict[str, set[str]] = {role: set() for role in self._operands}
        self.rows_done = self.rows_lost = self._bytes = 0
        self._seconds = 0.0
        self._writer: RowWriter | None = None
        self._notes: list[str] = []

    def _shards(self, role: str, given: Any) -> list[Shard]:
        if isinstance(given, np.ndarray):
            return [Shard(role, [ArrayPart(role, given)])]
        return find_shards(given)

    def check_output(self, option: str, path: str) -> None:
        """Refuse to overwrite a file that is read, or that is another output."""
        paths = [shard.path for shards in self._operands.values() for shard in shards]
        for name in ("weights", "where", "pos_weight", "class_names"):
            given = getattr(self.settings, name)
            if isinstance(given, str):
                paths += filter(os.path.exists, (given, given.rpartition(":")[0]))
        if option != "per_row" and self.settings.per_row is not None:
            paths.append(os.fspath(self.settings.per_row))
        if any(is_same_file(path, other) for other in paths):
            raise ValueError(
                f"--{option.replace('_', '-')} {path}: this file is another argument, too; give a "
                "file of its own"
            )

    def _find_columns(self) -> None:
        """Find the columns that name groups; those in the same files are read together."""
        by, by_operand = self.settings.by, dict[str, list[str]]()
        for name in by:
            given = by[name] if isinstance(by, Mapping) else name
            shards, operand = self._column(name, given)
            if operand and given == name and not is_partition(shards[0].path, name):
                by_operand.setdefault(operand, []).append(name)
            else:
                self._columns[BY + name], self._operands[BY + name] = [name], shards
        for operand, names in by_operand.items():
            role = BY + ", ".join(names)
            self._columns[role] = names
            self._operands[role] = column_beside(operand, BETWEEN.join(names))

    def _column(self, name: str, given: Any) -> tuple[list[Shard], str]:
        """Return a column, and the operand that is in the same files, if there is one."""
        if isinstance(given, np.ndarray):
            return self._shards(BY + name, given), ""
        reasons = []
        for operand in (self.settings.labels, self.settings.logits):
            shards = column_beside(operand, given) if isinstance(operand, str) else []
            # A damaged file is left to be skipped, if the others have the column.
            if not all(shard.error for shard in shards):
                return shards, operand
            reasons += [shard.error for shard in shards]
        try:
            return find_shards(given, True), ""
        except ValueError as error:
            reason = reasons[0] if reasons else error
            if name == given and not isinstance(self.settings.logits, str):
                reason = f"{reason}; beside arrays, give the values: {{{name!r}: values}}"
            raise ValueError(f"--by {name}: {reason}") from None

    def _add_operand(self, role: str, given: Any) -> None:
        """Find weights or a mask: for each row, or the same for all rows."""
        name = f"--{role} {_shown(given)}"
        if role == "weights":
            try:
                self._constants[role] = name, np.asarray(float(given))
                return
            except (TypeError, ValueError):
                pass
        shards = self._shards(role, given)
        parts = shards[0].parts
        small = len(shards) == len(parts) == 1 and isinstance(parts[0], NpyPart | ArrayPart)
        if small and parts[0].rows == 1:
            self._check_dtypes(role, shards[0])
            self._constants[role] = name, read_whole(shards[0])
        else:
            self._operands[role] = shards

    def _check_dtypes(self, role: str, shard: Shard) -> None:
        if role.startswith(BY):
            self._check_groups(shard)
            return
        try:
            for part in shard.parts:
                check_dtype(role, part.dtype, self._labels.positive is not None)
        except UnfitError as error:
            shard.error = shard.error or str(error)
            if isinstance(part, TablePart) and part.dtype.kind == "U" and role != "where":
                shard.error += part.first_text()

    def _check_groups(self, shard: Shard) -> None:
        """Refuse arrays that don't name a group for each row; columns of tables were checked."""
        for part in shard.parts:
            known = dtype_code(part.dtype) is not None or part.dtype.kind in "SUMmO"
            if not known:
                shard.error = shard.error or f"an array of {part.dtype.name}; {GROUPS}"
            if shard.row_shape:
                shape = f"its rows have the shape {shard.row_shape}"
                shard.error = shard.error or f"{shape}, but one value names the group of a row"

    def _check_class_names(self, shape: tuple[int, ...]) -> None:
        given, classes = self.settings.class_names, shape[-1] if len(shape) > 1 else 1
        if given is not None and len(self._class_names or ()) != classes:
            raise ValueError(
                f"--class-names{f' {given}' if isinstance(given, str) else ''}: there are "
                f"{len(self._class_names or ())} names, but logits have {classes} classes"
            )

    def _names_of_columns(self) -> list[str] | None:
        """Return the names of several columns that are classes: of logits, or else of labels."""
        for role in ("logits", "labels"):
            for shard in self._operands[role]:
                part = shard.parts[0] if shard.parts else None
                if isinstance(part, TablePart) and len(part.columns) > 1:
                    return list(part.columns)
        return None

    @property
    def has_failed(self) -> bool:
        """Whether nothing could be evaluated."""
        return bool(self.problems) and not self.rows_done

    @property
    def rows_left(self) -> int:
        """The number of rows that were not reached."""
        return self.rows - self.rows_done - self.rows_lost

    def until(
        self, ended: Callable[[], bool], update: Callable[[int], Any] = lambda _rows: None
    ) -> None:
        """Evaluate block after block until ``ended``; ``update`` is told the rows of each."""
        with ExitStack() as stack:
            if self.settings.per_row is not None:
                path = os.fspath(self.settings.per_row)
                self.check_output("per_row", path)
                check_row_file(path, self.rows)
                self._writer = RowWriter(stack.enter_context(output(path)), self.rows)
                stack.callback(self._writer.close)
            for shards in self._operands.values():
                for shard in shards:
                    for part in shard.parts:
                        stack.callback(part.close)
            # The other CPUs are for the reading threads: reading takes longer than evaluating.
            stack.enter_context(one_thread())
            blocks = stack.enter_context(closing(read_ahead(cut(self._operands), self._operands)))
            self._evaluate(blocks, update, ended)
            if self._writer and self.rows_left == 0 and not self.has_failed:
                self._writer.finish()
            elif self._writer:
                self._notes.append(f"{self.settings.per_row} is not written: it lacks rows")

    def _evaluate(
        self, blocks: Iterable[Block], update: Callable[[int], Any], ended: Callable[[], bool]
    ) -> None:
        start = None
        for block in blocks:
            if ended():
                break
            if start is None:
                self._add(block, self._new_total(), self._new_details(), None)
                start = time.perf_counter()
            problem = self._add(block, self._total, self._details, self._writer)
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
                if self._writer:
                    self._writer.skip(block.rows)
            update(block.rows)

    def _add(
        self, block: Block, total: Total, details: Details, writer: RowWriter | None
    ) -> Problem | None:
        """Add a block to the results, or return why that can't be done."""
        if block.problem is not None:
            return block.problem
        arrays = {role: a for role, a in block.arrays.items() if not role.startswith(BY)}
        files = {role: piece.part.name for role, piece in block.pieces.items()}
        rows = {
            role: (files[role], array.shape[1:])
            for role, array in arrays.items()
            if not is_null(array)
        }
        # Headers have been compared before; the shapes in tables are known only now.
        for role, (_, shape) in rows.items():
            first, expected = self._first_rows.get(role, ("", shape))
            if shape != expected:
                return block.problem_of(role, other_row_shape(shape, expected, first))
        constants = {role: array for role, (_, array) in self._constants.items()}
        try:
            labels, logits, weights, where, baseline = fit(arrays | constants, files, self._labels)
            if self._shape == ():
                labels, logits = labels.reshape(()), logits.reshape(())
                where = where if where is None else where.reshape(())
            block_rows = Rows(total.formula, labels, logits, weights, where)
            total.add(block_rows)
        except UnfitError as error:
            if error.role in constants:
                raise ValueError(f"{self._constants[error.role][0]}: {error}") from None
            return block.problem_of(error.role, str(error))
        except (ValueError, TypeError) as error:
            return block.problem_of("logits", reason_of(error))
        self._check_class_names(logits.shape)
        columns: dict[str, Any] = {}
        for role, names in self._columns.items():
            values: Any = block.arrays[role]
            for name in names:
                alone = isinstance(values, np.ndarray)
                # A single column may have another name in its file.
                columns[name] = values if alone else values.column(name if names[1:] else 0)
        piece = block.pieces["logits"]
        passed = self.rows_done + self.rows_lost
        details.add(block_rows, columns, baseline, passed, (files["logits"], piece.rows[0]))
        if writer:
            writer.add(block_rows.values)
        self._first_rows = rows | self._first_rows
        for role, array in arrays.items():
            self._dtypes[role].add("text" if array.dtype.kind in "SU" else str(array.dtype))
        self._shape = logits.shape
        return None

    def result(self, why_partial: str = "") -> Evaluation:
        """Return the result, of all rows or of those so far."""
        shape = (self.rows_done, *self._shape[1:]) if self._shape else ()
        elements = int(np.prod(shape, dtype=object)) if self.rows_done else 0
        passed = self.rows_done + self.rows_lost
        partial_of = f"{why_partial} after {passed:,} of {self.rows:,} rows"
        masked = "where" in self._operands or "where" in self._constants or self._labels.ignores
        classes = self._total.classes(self._class_names)
        values: dict[str, Any] = self._total.values()
        return Evaluation(
            **values,
            settings=self.settings.shown(),
            denominator=self._total.denominator(),
            shape=shape,
            elements_ignored=elements - self._total.elements if masked else None,
            labels_dtype=", ".join(sorted(self._dtypes["labels"])),
            logits_dtype=", ".join(sorted(self._dtypes["logits"])),
            seconds=max(self._seconds, 1e-9),
            bytes_read=self._bytes,
            classes=classes,
            **self._details.results(passed),
            partial=partial_of if why_partial else None,
            rows_skipped=self.rows_lost,
            skipped=[problem.as_dict() for problem in self.problems],
            warnings=self._warnings(),
        )

    def _warnings(self) -> list[str]:
        warnings = self._total.ranges.warnings() + self._notes
        if self._total.is_nan() and not self._total.ranges.nan_labels:
            warnings.append(
                "the loss is NaN: a logit or a weight is NaN or infinite; --worst 1 names such a "
                "row, and --where leaves elements out"
            )
        if not self._total.elements:
            warnings.append("there are no elements: the loss of none is 0")
        elif empty := self._total.empty_classes():
            more = f" and {len(empty) - NAMED:,} more" if len(empty) > NAMED else ""
            names = self._class_names or empty
            which = ", ".join(str(names[k] if self._class_names else k) for k in empty[:NAMED])
            warnings.append(f"no elements of class {which}{more}: the loss of none is 0")
        return warnings
