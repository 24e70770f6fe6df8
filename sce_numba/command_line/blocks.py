"""Rows of several operands, cut into blocks that fit the cache and read ahead of their use."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .operands import Part, Shard, other_row_shape, reason_of

# Large beside the cost of a block, small beside the cache that its evaluation finds it in.
BLOCK_BYTES = 1 << 20
# In the order of the operands; weights need not be among them.
ROLES = ("labels", "logits", "weights")


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
    """Rows that could not be evaluated, from the first to before the last, and why."""

    file: str
    rows: tuple[int, int] | None
    reason: str

    def __str__(self) -> str:
        where = f", rows {self.rows[0]} to {self.rows[1] - 1}" if self.rows else ""
        return f"cannot read {self.file}{where} ({self.reason})"

    def absorb(self, other: Problem) -> bool:
        """Take in a problem of the rows that follow, if it is the same."""
        same = (self.file, self.reason) == (other.file, other.reason)
        if not (same and self.rows and other.rows and self.rows[1] == other.rows[0]):
            return False
        self.rows = self.rows[0], other.rows[1]
        return True


@dataclass
class Block:
    """The same rows of every operand: their arrays, or what was wrong."""

    pieces: list[Piece]
    arrays: list[np.ndarray] = field(default_factory=list)
    problem: Problem | None = None

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self.pieces[0].stop - self.pieces[0].start


def drop_unreadable(operands: list[list[Shard]]) -> list[Problem]:
    """Remove the shards that can't be read, and those that they would have been paired with.

    Raises
    ------
    ValueError
        If the operands have different numbers of files, so that none is paired, or of rows.
    """
    for shards in operands:
        _note_other_row_shapes(shards)
    paired = len({len(shards) for shards in operands}) == 1
    if paired:
        for first, *others in zip(*operands, strict=True):
            for role, shard in zip(ROLES[1:], others, strict=False):
                if shard.rows != first.rows and not (shard.error or first.error):
                    shard.error = f"{role} {shard.shape}, but labels {first.shape} in {first.name}"
    problems = [
        Problem(shard.name, None, shard.error)
        for shards in operands
        for shard in shards
        if shard.error
    ]
    counts = [len(shards) for shards in operands]
    if problems and not paired:
        raise ValueError(
            f"{problems[0]}; it can't be skipped, because the operands have {counts} files, and "
            "nothing tells which rows would be left"
        )
    bad = {n for shards in operands for n, shard in enumerate(shards) if shard.error}
    for shards in operands:
        shards[:] = [shard for number, shard in enumerate(shards) if number not in bad]
    rows = [sum(shard.rows for shard in shards) for shards in operands]
    if len(set(rows)) > 1:
        found = ", ".join(f"{n:,} of {role}" for role, n in zip(ROLES, rows, strict=False))
        raise ValueError(f"there must be as many rows of each, but there are {found}")
    return problems


def _note_other_row_shapes(shards: list[Shard]) -> None:
    """Files make one array only if their rows have the same shape: that of the first file's."""
    first: tuple[str, tuple[int, ...]] | None = None
    for shard in shards:
        shape = shard.row_shape
        if shape is None or shard.error:
            continue
        first = first or (shard.name, shape)
        if shape != first[1]:
            shard.error = other_row_shape(shape, first[1], first[0])


def missing_rows(operands: list[list[Shard]]) -> list[Problem]:
    """Return the rows that files do not have, though they say so."""
    return [
        Problem(part.name, (part.readable, part.rows), part.shortage)
        for shards in operands
        for shard in shards
        for part in shard.parts
        if part.readable < part.rows
    ]


def cut(operands: list[list[Shard]]) -> Iterator[list[Piece]]:
    """Cut operands of equally many rows at the ends of their parts and of blocks.

    Where a file is cut short, its readable rows end a block.  Rows that it lacks, which may be as
    many as a header says, are one block.
    """
    parts = [[part for shard in shards for part in shard.parts] for shards in operands]
    places = [[0, 0] for _ in operands]
    while True:
        here = []
        for found, place in zip(parts, places, strict=True):
            while place[0] < len(found) and place[1] == found[place[0]].rows:
                place[:] = place[0] + 1, 0
            if place[0] == len(found):
                return
            here.append((found[place[0]], place[1]))
        ends = [part.readable if start < part.readable else part.rows for part, start in here]
        rows = min(end - start for end, (_, start) in zip(ends, here, strict=True))
        if all(start < part.readable for part, start in here):
            rows = min(rows, max(1, BLOCK_BYTES // max(1, *(part.row_bytes for part, _ in here))))
        yield [Piece(part, start, start + rows) for part, start in here]
        for place in places:
            place[1] += rows


def read_ahead(cuts: Iterator[list[Piece]], operands: int) -> Generator[Block]:
    """Read blocks, each operand in a thread of its own, while the block before is in use.

    The arrays of a block are overwritten by the block after the next.
    """
    readers = [ThreadPoolExecutor(1, "sce_numba-read") for _ in range(operands)]
    memories = [[_Memory(), _Memory()] for _ in range(operands)]

    def begin(number: int, pieces: list[Piece]) -> list[Future[Any]]:
        wanted = all(piece.start < piece.part.readable for piece in pieces)
        return [
            reader.submit(_read if wanted else _pass, piece, memory[number % 2])
            for reader, piece, memory in zip(readers, pieces, memories, strict=True)
        ]

    try:
        coming: tuple[list[Piece], list[Future[Any]]] | None = None
        for number, pieces in enumerate(cuts):
            following = pieces, begin(number, pieces)
            if coming is not None:
                yield _finish(*coming)
            coming = following
        if coming is not None:
            yield _finish(*coming)
    finally:
        for reader in readers:
            reader.shutdown(cancel_futures=True)


class _Memory:
    """Bytes for the rows of an operand, used again and again: new pages cost time."""

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


def _pass(piece: Piece, memory: _Memory) -> np.ndarray:
    """Read nothing, beside rows that are missing."""
    if piece.start >= piece.part.readable:
        raise ValueError(piece.part.shortage)
    return memory.of(0)


def _finish(pieces: list[Piece], coming: list[Future[Any]]) -> Block:
    block = Block(pieces)
    for piece, rows in zip(pieces, coming, strict=True):
        try:
            block.arrays.append(rows.result())
        # A damaged file can fail in any layer: disk, compression, encoding.
        except Exception as error:
            block.problem = block.problem or Problem(piece.part.name, piece.rows, reason_of(error))
    return block
