"""Rows of several operands, cut into blocks that fit the cache and read ahead of their use."""

from __future__ import annotations

import re
from collections import defaultdict, deque
from collections.abc import Collection, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from .operands import Part, Shard, other_row_shape, reason_of

# Large enough to amortise the overhead of a block, small enough to stay in the cache.
BLOCK_BYTES = 1 << 21
# How many blocks are read in advance: tables are decoded in pages, so some blocks take longer.
AHEAD = 2
# Problems of one kind that are listed; of more, the first is listed and the others are counted.
LISTED = 3
# The files of each operand, by its name; labels come first.
Operands: TypeAlias = dict[str, list[Shard]]


@dataclass
class Piece:
    """Some rows of one part."""

    part: Part
    start: int
    stop: int

    @property
    def rows(self) -> tuple[int, int]:
        """The same rows, counted from the start of the file."""
        return self.part.offset + self.start, self.part.offset + self.stop


@dataclass
class Problem:
    """Rows ``[start, stop)`` of a file that could not be evaluated, or all of them, and why."""

    role: str
    file: str
    rows: tuple[int, int] | None
    reason: str

    @property
    def kind(self) -> tuple[str, str]:
        """What problems of one kind share: their reason without file names and numbers."""
        return self.role, re.sub(r"\S*(\d|/|\.\w)\S*", "", self.reason)

    def as_dict(self) -> dict[str, Any]:
        """Return the problem as the report shows it."""
        return {"file": self.file, "rows": self.rows, "reason": self.reason}

    def __str__(self) -> str:
        where = f", rows {self.rows[0]} to {self.rows[1] - 1}" if self.rows else ""
        return f"cannot read {self.file}{where} ({self.reason})"

    def absorb(self, other: Problem) -> bool:
        """Extend this problem by the same one in the rows that follow; tell whether it was."""
        same = (self.file, self.reason) == (other.file, other.reason)
        if not (same and self.rows and other.rows and self.rows[1] == other.rows[0]):
            return False
        self.rows = self.rows[0], other.rows[1]
        return True


def problem_lines(problems: list[Problem]) -> list[str]:
    """Return a line for each problem; of a kind that many files share, one with their number."""
    kinds: dict[Any, list[Problem]] = defaultdict(list)
    for problem in problems:
        kinds[problem.kind].append(problem)
    lines: list[str] = []
    for alike in kinds.values():
        if len(alike) <= LISTED:
            lines += map(str, alike)
        else:
            lines.append(f"{alike[0]}, and {len(alike) - 1:,} more like it, to {alike[-1].file}")
    return lines


@dataclass
class Block:
    """The same rows of every operand: their arrays, or the problem in reading them."""

    pieces: dict[str, Piece]
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    problem: Problem | None = None

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self.pieces["logits"].stop - self.pieces["logits"].start

    def problem_of(self, role: str, reason: str) -> Problem:
        """Return a problem with the rows of one operand."""
        piece = self.pieces[role]
        return Problem(role, piece.part.name, piece.rows, reason)


def drop_unreadable(operands: Operands) -> list[Problem]:
    """Remove the shards that can't be read, and the shards of other operands paired with them.

    Raises
    ------
    ValueError
        If the operands have different numbers of files, so that none is paired, or of rows.
    """
    for shards in operands.values():
        _note_other_row_shapes(shards)
    counts = {role: len(shards) for role, shards in operands.items()}
    paired = len(set(counts.values())) == 1
    if paired:
        for role, shards in operands.items():
            for first, shard in zip(operands["labels"], shards, strict=True):
                if shard.rows != first.rows and not (shard.error or first.error):
                    shard.error = f"{role} {shard.shape}, but labels {first.shape} in {first.name}"
                    if role in ("weights", "where") and shard.shape == first.row_shape:
                        row = (1, *shard.shape)
                        shard.error += f"; for all rows alike it must have the shape {row}"
    problems = [
        Problem(role, shard.name, None, shard.error)
        for role, shards in operands.items()
        for shard in shards
        if shard.error
    ]
    if problems and not paired:
        raise ValueError(
            f"{'; '.join(problem_lines(problems))}; it can't be skipped, because the operands have "
            f"{list(counts.values())} files, and nothing tells which rows would be left"
        )
    bad = {n for shards in operands.values() for n, shard in enumerate(shards) if shard.error}
    for shards in operands.values():
        shards[:] = [shard for index, shard in enumerate(shards) if index not in bad]
    rows = {role: sum(shard.rows for shard in shards) for role, shards in operands.items()}
    if len(set(rows.values())) > 1:
        listed = ", ".join(f"{count:,} of {role}" for role, count in rows.items())
        raise ValueError(f"there must be as many rows of each, but there are {listed}")
    return problems


def _note_other_row_shapes(shards: list[Shard]) -> None:
    """Mark the files whose rows differ in shape from those of the first file."""
    first: tuple[str, tuple[int, ...]] | None = None
    for shard in shards:
        shape = shard.row_shape
        if shape is None or shard.error:
            continue
        first = first or (shard.name, shape)
        if shape != first[1]:
            shard.error = other_row_shape(shape, first[1], first[0])


def missing_rows(operands: Operands) -> list[Problem]:
    """Return the rows that files lack, though their headers declare them."""
    return [
        Problem(role, part.name, (part.readable, part.rows), part.shortage)
        for role, shards in operands.items()
        for shard in shards
        for part in shard.parts
        if part.readable < part.rows
    ]


def cut(operands: Operands) -> Iterator[dict[str, Piece]]:
    """Cut operands of equally many rows into blocks, each within one part of every operand.

    Where a file is cut short, its readable rows end a block.  Rows that it lacks, which may be as
    many as a header says, are one block.
    """
    parts = [[part for shard in shards for part in shard.parts] for shards in operands.values()]
    cursors = [[0, 0] for _ in operands]
    while True:
        heads = []
        for sequence, cursor in zip(parts, cursors, strict=True):
            while cursor[0] < len(sequence) and cursor[1] == sequence[cursor[0]].rows:
                cursor[:] = cursor[0] + 1, 0
            if cursor[0] == len(sequence):
                return
            heads.append((sequence[cursor[0]], cursor[1]))
        ends = [part.readable if start < part.readable else part.rows for part, start in heads]
        rows = min(end - start for end, (_, start) in zip(ends, heads, strict=True))
        if all(start < part.readable for part, start in heads):
            rows = min(rows, max(1, BLOCK_BYTES // max(1, *(part.row_bytes for part, _ in heads))))
        pieces = [Piece(part, start, start + rows) for part, start in heads]
        yield dict(zip(operands, pieces, strict=True))
        for cursor in cursors:
            cursor[1] += rows


def read_ahead(cuts: Iterator[dict[str, Piece]], roles: Collection[str]) -> Generator[Block]:
    """Read blocks in advance, with a thread for each operand.

    The arrays of a block are overwritten once the next one is asked for.
    """
    readers = {role: ThreadPoolExecutor(1, "sce_numba-read") for role in roles}
    memories = {role: [_Memory() for _ in range(AHEAD + 1)] for role in roles}

    def begin(index: int, pieces: dict[str, Piece]) -> dict[str, Future[Any]]:
        is_readable = all(piece.start < piece.part.readable for piece in pieces.values())
        return {
            role: readers[role].submit(
                _read if is_readable else _skip, piece, memories[role][index % (AHEAD + 1)]
            )
            for role, piece in pieces.items()
        }

    try:
        pending: deque[tuple[dict[str, Piece], dict[str, Future[Any]]]] = deque()
        for index, pieces in enumerate(cuts):
            pending.append((pieces, begin(index, pieces)))
            if len(pending) > AHEAD:
                yield _finish(*pending.popleft())
        while pending:
            yield _finish(*pending.popleft())
    finally:
        for reader in readers.values():
            reader.shutdown(cancel_futures=True)


class _Memory:
    """A reusable buffer for the rows of an operand: new pages of memory cost time."""

    def __init__(self) -> None:
        self._array = np.empty(1, np.uint8)

    def of(self, size: int) -> np.ndarray:
        if self._array.size < size:
            self._array = np.empty(size, np.uint8)
        return self._array


def _read(piece: Piece, memory: _Memory) -> np.ndarray:
    part = piece.part
    size = (piece.stop - piece.start) * part.row_bytes
    rows = part.read(piece.start, piece.stop, memory.of(size))
    if piece.stop == part.rows:
        part.close()
    return rows


def _skip(piece: Piece, memory: _Memory) -> np.ndarray:
    """Read nothing, where rows of some operand are missing; raise if they are those of this one."""
    if piece.start >= piece.part.readable:
        raise ValueError(piece.part.shortage)
    return memory.of(0)


def _finish(pieces: dict[str, Piece], futures: dict[str, Future[Any]]) -> Block:
    block = Block(pieces)
    for role, future in futures.items():
        try:
            block.arrays[role] = future.result()
        # A damaged file can fail in any layer: disk, compression, encoding.
        except Exception as error:
            block.problem = block.problem or block.problem_of(role, reason_of(error))
    return block
