"""Find the files that an operand names, and open their parts."""

from __future__ import annotations

import glob
import os
import re
import stat
import zipfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from .array_part import ArrayPart
from .npy import NpyPart, member_names
from .places import NO_FILE, STDIN, copy_of_stdin, is_remote, opened, shown, store_of
from .tables import BETWEEN, SUFFIXES, TablePart, table_parts

Part: TypeAlias = NpyPart | TablePart | ArrayPart

TAKEN = f"what can be read is .npy, .npz:MEMBER, and {', '.join(SUFFIXES)} with :COLUMN"

# URLs whose last colon belongs to the protocol, or to a port.
NO_COLUMN = re.compile(r"[^:]*://([^:]*|[^:/]*:\d+/[^:]*)")


@dataclass
class Shard:
    """One file of an operand: its parts in order, or why it can't be read."""

    name: str
    parts: list[Part] = field(default_factory=list)
    error: str = ""
    path: str = ""

    @property
    def rows(self) -> int:
        """The number of rows in all parts."""
        return sum(part.rows for part in self.parts)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array, as far as it is known before rows are read."""
        shape = self.parts[0].shape if len(self.parts) == 1 else None
        return (self.rows,) if shape is None else shape

    @property
    def row_shape(self) -> tuple[int, ...] | None:
        """The shape of a row, or None if it is unknown before rows are read."""
        shape = self.parts[0].shape if self.parts else None
        return None if shape is None else shape[1:]


def find_shards(operand: str, as_groups: bool = False) -> list[Shard]:
    """Return the files that an operand names, in the order of the numbers in their names.

    With ``as_groups``, it is a column of any type, or a key of partition folders.

    Raises
    ------
    ValueError
        If there are none.
    """
    if operand == STDIN or operand.startswith(f"{STDIN}:"):
        try:
            path = copy_of_stdin()
        except (OSError, ValueError) as error:
            raise ValueError(f"cannot read {operand} ({reason_of(error)})") from None
        return [_open(path, operand[len(STDIN) + 1 :], as_groups)]
    paths, pattern, member = _paths(operand)
    if not paths:
        if _is_folder(operand) or _is_folder(pattern):
            raise ValueError(
                f"cannot read {operand} (no data files in this folder or below it): names that end "
                f"in .npy count or, with :MEMBER or :COLUMN, in .npz, {', '.join(SUFFIXES)}"
            )
        example = Path(__file__).parents[1] / "example_data" / operand
        hint = f"; that of the examples is {example}" if os.path.isfile(example) else ""
        raise ValueError(
            f"cannot read {operand or repr(operand)} ({_why_not(operand)}{hint}): give a .npy "
            "file, FILE.npz:MEMBER, FILE.parquet:COLUMN, or a folder or pattern of such files"
        )
    return [_open(path, member, as_groups) for path in paths]


def _why_not(operand: str) -> str:
    """Return why no file was found: it may be there, but inaccessible."""
    for path in (operand, operand.rpartition(":")[0]):
        try:
            os.stat(path)
        except (FileNotFoundError, NotADirectoryError, ValueError):
            pass
        except OSError as error:
            return str(error.strerror)
    return "No such file"


def _refuse_folder(error: OSError) -> None:
    """Raise for a folder that can't be read, rather than leave out its rows."""
    raise ValueError(f"cannot read {error.filename} ({error.strerror})") from None


def column_beside(operand: str, column: str) -> list[Shard]:
    """Return a column of the files that an operand names, or no shards unless all are tables.

    Several of them, with ``BETWEEN`` between their names, are read at once.
    """
    if operand.startswith(f"{STDIN}:"):
        return find_shards(f"{STDIN}:{column}", True)
    paths, *_ = _paths(operand)
    if not paths or not all(path.endswith(SUFFIXES) for path in paths):
        return []
    return [_open(path, column, True) for path in paths]


def pair_by_name(operands: dict[str, list[Shard]]) -> None:
    """Put the files of an operand into the order of the labels' files, if it has as many.

    Names may differ in the folder, the ending, and what all files of an operand have in common.

    Raises
    ------
    ValueError
        If the names do not correspond.
    """
    first = operands["labels"]
    for role, shards in operands.items():
        if shards is first or len(shards) != len(first) or len(shards) == 1:
            continue
        names = _keys(first), _keys(shards)
        if Counter(names[0]) != Counter(names[1]):
            short = _without_common(names[0]), _without_common(names[1])
            if Counter(short[0]) != Counter(short[1]):
                # Report a file without a partner, by those keys that pair the most files.
                both = [sum((Counter(a) & Counter(b)).values()) for a, b in (names, short)]
                keys, others = short if both[1] > both[0] else names
                alone = next((Counter(keys) - Counter(others)).elements())
                raise ValueError(
                    f"no file of {role} belongs to {first[keys.index(alone)].name}: as many files "
                    f"of {role} as of labels are paired by their names, which may differ in the "
                    "folder and in a beginning or an end that all of them share"
                )
            names = short
        positions = {key: position for position, key in reversed(list(enumerate(names[0])))}
        order = sorted(range(len(shards)), key=lambda n: positions[names[1][n]])
        shards[:] = [shards[n] for n in order]


def _keys(shards: list[Shard]) -> list[str]:
    """Return paths without the common folder, file extensions and leading zeros."""
    folder = os.path.commonpath([os.path.dirname(os.path.abspath(shard.path)) for shard in shards])
    names = [os.path.relpath(os.path.abspath(shard.path), folder) for shard in shards]
    return [
        re.sub(r"\d+", lambda m: str(int(m[0])), os.path.splitext(name.removesuffix(".gz"))[0])
        for name in names
    ]


def _without_common(names: list[str]) -> list[str]:
    """Return names without their common prefix and suffix, but cut no number."""
    start = _common_start(names)
    names = [name[start:] for name in names]
    stop = _common_start([name[::-1] for name in names])
    return [name[: len(name) - stop] for name in names]


def _common_start(names: list[str]) -> int:
    pairs = list(zip(min(names), max(names), strict=False))
    count = next((n for n, (a, b) in enumerate(pairs) if a != b), len(pairs))
    return len(re.sub(r"\d+$", "", names[0][:count]))


def other_row_shape(shape: tuple[int, ...], expected: tuple[int, ...], file: str) -> str:
    """Return the message that rows differ in shape from those of another file."""
    return f"its rows have the shape {shape}, but those of {file} have {expected}"


def reason_of(error: BaseException) -> str:
    """Return the message of an error in one line."""
    return " ".join(str(getattr(error, "strerror", None) or error).split()) or repr(error)


def _open(path: str, member: str, as_groups: bool) -> Shard:
    name = f"{shown(path)}:{member.replace(BETWEEN, ',')}" if member else shown(path)
    # A damaged file can fail in any layer: archive, compression, header, array.
    try:
        if not is_remote(path) and not stat.S_ISREG(os.stat(path).st_mode):
            # Opening a pipe may wait forever, and parts of every file are read twice.
            raise ValueError(
                f"{NO_FILE}: save it in a file first; Arrow data may come from standard input, as "
                "-:COLUMN"
            )
        if path.endswith(SUFFIXES):
            return Shard(name, list(table_parts(path, member, as_groups)), path=path)
        archive = _is_archive(path)
        names = member_names(path) if archive else []
        if archive and not names:
            raise ValueError("an archive without arrays")
        if archive and not member:
            raise ValueError(f"an archive of {', '.join(names)}: add :MEMBER")
        if not (archive or path.endswith((".npy", ".npz")) or _is_array(path)):
            raise ValueError(f"neither an array nor an archive of arrays; {TAKEN}")
        if member and not archive:
            raise ValueError("not an archive of arrays, or one that is cut short")
        if member and member not in names:
            raise ValueError(f"its members are {', '.join(names)}")
        return Shard(name, [NpyPart(path, member)], path=path)
    except Exception as error:
        return Shard(name, error=reason_of(error), path=path)


def _paths(operand: str) -> tuple[list[str], str, str]:
    """Return the files that a name stands for, its pattern, and its member or column."""
    paths, pattern, member = _files(operand, ""), operand, ""
    while not paths and ":" in pattern and not NO_COLUMN.fullmatch(pattern):
        # A column may have colons in its name.
        pattern = pattern.rpartition(":")[0]
        member = operand[len(pattern) + 1 :]
        paths = _files(pattern, member) if pattern else []
    return paths, pattern, member


def _is_folder(path: str) -> bool:
    return bool(store_of(path).isdir(path)) if is_remote(path) else os.path.isdir(path)


def _files(pattern: str, member: str) -> list[str]:
    suffixes = (".npz", *SUFFIXES) if member else (".npy", *SUFFIXES)
    if is_remote(pattern):
        paths = _remote_files(pattern, suffixes)
    elif os.path.isdir(pattern):
        paths = [
            os.path.join(folder, name)
            for folder, _, names in os.walk(pattern, onerror=_refuse_folder)
            for name in names
            if name.endswith(suffixes)
            and not name.startswith((".", "_"))
            and _is_wanted(os.path.join(folder, name))
        ]
    elif os.path.exists(pattern):
        paths = [pattern]
    else:
        matches = [path for path in _matches(pattern) if _is_wanted(path)]
        # A link to a folder, even to one above it, leads to files that were matched already. Links
        # to files are kept: one may stand for the same labels beside other logits.
        distinct: dict[tuple[str, str], str] = {}
        for path in sorted(matches, key=len):
            folder, name = os.path.split(path)
            distinct.setdefault((os.path.realpath(folder), name), path)
        paths = list(distinct.values())
    return sorted(paths, key=_natural)


def _remote_files(url: str, suffixes: tuple[str, ...]) -> list[str]:
    try:
        store = store_of(url)
        # The store may have changed since an earlier call.
        store.invalidate_cache()
        if glob.has_magic(url):
            paths = store.glob(url)
        elif store.isdir(url):
            paths = [
                path
                for path in store.find(url)
                if path.endswith(suffixes) and not path.rpartition("/")[2].startswith((".", "_"))
            ]
        else:
            paths = [url] if store.exists(url) else []
    # A store can fail in any layer: name, key, network.
    except Exception as error:
        raise ValueError(f"cannot read {url} ({reason_of(error)})") from None
    return [path if is_remote(path) else store.unstrip_protocol(path) for path in paths]


def _matches(pattern: str) -> list[str]:
    """Return the paths that match a pattern; ``**`` does not follow links to folders.

    `glob.glob` does: with two links to the folder that they are in, it tries 2^40 paths.
    """
    parts = Path(pattern).parts
    if "**" not in parts:
        return glob.glob(pattern)
    first = next(k for k, part in enumerate(parts) if glob.has_magic(part))
    folder = Path(*parts[:first])
    # Hidden files are matched by name only, as in the shell.
    return [
        str(path)
        for path in folder.glob(str(Path(*parts[first:])))
        if all(part in parts or part[0] != "." for part in path.relative_to(folder).parts)
    ]


def _is_wanted(path: str) -> bool:
    """Tell whether a path is a regular file, or a broken link, whose data are missing."""
    return os.path.isfile(path) or not os.path.exists(path)


def _is_archive(path: str) -> bool:
    with opened(path) as file:
        try:
            return zipfile.is_zipfile(file)
        # fsspec raises it for a file that is shorter than the end of an archive.
        except ValueError:
            return False


def _is_array(path: str) -> bool:
    with opened(path) as file:
        return file.read(6) == b"\x93NUMPY"


def _natural(path: str) -> list[tuple[int, str]]:
    """Return a sort key that puts shard-9 before shard-10."""
    return [(int(word), "") if word.isdecimal() else (0, word) for word in re.split(r"(\d+)", path)]
