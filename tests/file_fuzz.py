"""Patch the headers and metadata of good files, and see what ``evaluate`` makes of them.

    python -m tests.file_fuzz --files 10000 --seed 0

Children work under limits of memory and time, each on many files; one that ends by a signal, or
does not end, is blamed on the file at hand, and the next one goes on behind it.  An answer must be
the one that NumPy or pyarrow give, which read the same file anew and check all of it.
"""

import argparse
import contextlib
import io
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np

ROWS, CLASSES = 60, 3
MEMORY = 3 << 30
SECONDS = 20
# What a length, an offset, a type or a version is not, as a rule.
INTEGERS = [0, 1, 2, 3, 7, 59, 61, 127, 128, 255, 256, 65535, 1 << 20, 1 << 31, (1 << 31) - 1]
INTEGERS += [1 << 32, 1 << 40, (1 << 62) + 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]
WORDS = [
    b"<f8", b">f8", b"<f4", b"<f2", b"<i8", b"|b1", b"|O8", b"<U9", b"<c8", b"True", b"False",
    b"(60, 3)", b"(61, 3)", b"(60, 4)", b"(60,)", b"(-1, 3)", b"(1e3,)", b"(600000000, 3)", b"()",
    b"(3, 60)", b"(60, 3, 1)", b"(1 << 60,)", b"(True, 3)", b"'x': 0", b"None", b"((",
]  # fmt: skip


def seeds(folder):
    """Write one good file of every kind, and return their names and operands."""
    rng = np.random.default_rng(0)
    array = rng.random((ROWS, CLASSES))
    np.save(folder / "c.npy", array)
    np.save(folder / "f.npy", np.asfortranarray(array))
    np.savez(folder / "s.npz", x=array, f=np.asfortranarray(array))
    np.savez_compressed(folder / "d.npz", x=array, f=np.asfortranarray(array))
    operands = [("c.npy", ""), ("f.npy", ""), ("s.npz", "x"), ("d.npz", "x")]
    operands += [("s.npz", "f"), ("d.npz", "f")]
    try:
        import pyarrow as pa
        from pyarrow import feather, parquet
    except ImportError:
        return operands
    flat = pa.array(array.ravel())
    table = pa.table(
        {
            "n": array[:, 0],
            "x": pa.FixedSizeListArray.from_arrays(flat, CLASSES),
            "l": pa.ListArray.from_arrays(np.arange(0, 181, 3, dtype=np.int32), flat),
            "b": array[:, 0] > 0.5,
        }
    )
    for name, compression in (("u", "none"), ("z", "snappy")):
        path = folder / f"{name}.parquet"
        parquet.write_table(
            table, path, row_group_size=20, compression=compression, use_dictionary=name == "z"
        )
    for name, compression in (("u.arrow", "uncompressed"), ("z.feather", "lz4")):
        feather.write_feather(table, folder / name, compression=compression, chunksize=20)
    tables = ["u.parquet", "z.parquet", "u.arrow", "z.feather"]
    return operands + [(name, column) for name in tables for column in "nxlb"]


def mutate(content, rng):
    """Change a file in one to three places, mostly where it says what it holds."""
    content = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        kind, size = rng.integers(8), len(content)
        # Headers are in front, footers behind, and in tables between the columns as well.
        ends = [rng.integers(min(size, 200)), size - 1 - rng.integers(min(size, 900))]
        at = int(rng.choice([*ends, rng.integers(size)], p=[0.35, 0.45, 0.2]))
        if kind <= 2:
            width = int(rng.choice([1, 2, 4, 8]))
            at -= at % width if rng.random() < 0.5 else 0
            value = INTEGERS[rng.integers(len(INTEGERS))]
            new = value.to_bytes(9, "little")[:width]
        elif kind == 3:  # an integer of the file, a little or much larger
            width = int(rng.choice([1, 4, 8]))
            at -= at % width
            old = int.from_bytes(content[at : at + width], "little")
            change = int(rng.choice([-8, -1, 1, 4, 8, 64, 1 << 16, 1 << 30]))
            new = ((old + change) % 256**width).to_bytes(width, "little")
        elif kind == 4:  # a number that stands there more than once, wherever it does
            old = int(rng.choice([20, 60, 180, 160, 480, 1440]))
            new_value = INTEGERS[rng.integers(len(INTEGERS))]
            code = "<q" if rng.random() < 0.6 else "<i"
            limit = 1 << (63 if code == "<q" else 31)
            content = bytearray(
                bytes(content).replace(
                    struct.pack(code, old), struct.pack(code, min(new_value, limit - 1))
                )
            )
            continue
        elif kind == 5:
            start = bytes(content).find(b"{'descr'")
            new = WORDS[rng.integers(len(WORDS))]
            if start >= 0:
                at = start + int(rng.choice([10, 34, 50, rng.integers(70)]))
        elif kind == 6:
            del content[at : at + int(rng.choice([1, 8, 100, size]))]
            if not content:
                return b"\0"
            continue
        else:
            new = rng.bytes(int(rng.integers(1, 9)))
        content[at : at + len(new)] = new
    return bytes(content)


def rewrite_member(content, name, rng):
    """Change a member inside of an archive that is right about it."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {info: archive.read(info) for info in archive.infolist()}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for info, data in members.items():
            if info.filename == f"{name}.npy":
                data = mutate(data, rng)
            archive.writestr(info.filename, data, info.compress_type)
    return out.getvalue()


def oracle(path, member):
    """Return the array that a file holds, by NumPy or pyarrow, which check all of it."""
    if path.endswith(".npy"):
        return np.load(path, allow_pickle=False)
    if path.endswith(".npz"):
        with zipfile.ZipFile(path) as archive:
            content = archive.read(f"{member}.npy")
        return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    import pyarrow as pa
    from pyarrow import parquet

    if path.endswith(".parquet"):
        table = parquet.read_table(path, columns=[member], use_threads=False)
    else:
        index = pa.ipc.open_file(path).schema.names.index(member)
        options = pa.ipc.IpcReadOptions(included_fields=[index])
        table = pa.ipc.open_file(path, options=options).read_all()
    table.validate(full=True)
    column = table.column(member).combine_chunks()
    assert column.null_count == 0
    return np.array(column.to_pylist())


def check(path, member, skip):
    """Evaluate a file against itself; return what became of it, and what was wrong."""
    from sce_numba.__main__ import main

    operand = f"{path}:{member}" if member else path
    # Labels may be of any dtype: the file is that, and the logits are where they can be.
    floats = member != "b"
    arguments = [operand, operand if floats else "zeros.npy", "--json", "--reduction", "SUM"]
    arguments += ["--on-error", "skip"] if skip else []
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(["evaluate", *arguments])
    except SystemExit as stopped:
        status = stopped.code
    said = err.getvalue()
    if status == 2:
        one_line = said.count("\n") == 1 and list(json.loads(out.getvalue())) == ["error"]
        return ("refused", "") if one_line else ("wrong", f"said {said!r}")
    report = json.loads(out.getvalue())
    if status == 1 or report["rows_skipped"] or report["skipped"]:
        bound = os.path.getsize(path) * 300  # what compression can do
        done = int(np.prod(report["shape"]))
        ok = said and done <= bound
        return ("in part", "") if ok else ("wrong", f"{done} elements, said {said!r}")
    try:
        z = oracle(path, member)
        x = z if floats else np.zeros(np.shape(z))
        z, x = np.asarray(z, np.float64), np.asarray(x, np.float64)
        with np.errstate(all="ignore"):
            losses = np.maximum(x, 0) - x * z + np.log1p(np.exp(-np.abs(x)))
            expected = losses.sum()
            slack = 1e-3 * np.abs(losses).sum() if np.isfinite(expected) else 0
    except Exception as error:
        return "wrong", f"{report['shape']}, but {type(error).__name__}: {str(error)[:200]}"
    found = float(report["loss"])
    same = abs(found - expected) <= slack if np.isfinite(expected) else not np.isfinite(found)
    if report["shape"] != list(np.shape(z)) or not same:
        return "wrong", f"{report['shape']} {found}, not {np.shape(z)} {expected}"
    return "answered", ""


def make(number, seed, operands):
    """Write file ``number``; return its name, operand and whether to skip errors."""
    rng = np.random.default_rng((seed, number))
    name, member = operands[number % len(operands)]
    content = Path(name).read_bytes()
    if name.endswith(".npz") and rng.random() < 0.5:
        content = rewrite_member(content, member, rng)
    else:
        content = mutate(content, rng)
    path = f"bad{Path(name).suffix}"
    Path(path).write_bytes(content)
    return path, member, bool(rng.integers(2))


def work(first, stop, seed):
    """Be a child: print a line before and a line after each file."""
    import resource  # which Windows lacks

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # What is written by mistake must not fill a disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    operands = json.loads(Path("operands.json").read_text())
    for number in range(first, stop):
        signal.alarm(SECONDS)
        print(json.dumps([number]), flush=True)
        path, member, skip = make(number, seed, operands)
        kind = f"{Path(operands[number % len(operands)][0]).name}"
        try:
            outcome, why = check(path, member, skip)
        except BaseException as error:
            outcome, why = "wrong", f"{type(error).__name__}: {str(error)[:300]}"
        print(json.dumps([number, kind, outcome, why]), flush=True)


def run(files, seed, say=lambda text: None):
    """Return how often each outcome was for each kind of file, and what is wrong."""
    counts, faults = Counter(), []
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with tempfile.TemporaryDirectory() as folder:
        operands = seeds(Path(folder))
        Path(folder, "operands.json").write_text(json.dumps(operands))
        np.save(Path(folder, "zeros.npy"), np.zeros(ROWS))
        number = 0
        while number < files:
            command = [sys.executable, __file__, "--child", str(number), str(files), str(seed)]
            child = subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, text=True
            )
            lines = [json.loads(line) for line in child.stdout.splitlines()]
            assert lines, child.stderr
            for _, kind, outcome, why in filter(lambda line: len(line) > 1, lines):
                counts[kind, outcome] += 1
                if outcome == "wrong":
                    faults.append((_, kind, why))
            number = lines[-1][0] + 1
            if len(lines[-1]) == 1:
                outcome = "hang" if child.returncode == -signal.SIGALRM else "crash"
                kind = operands[lines[-1][0] % len(operands)][0]
                counts[kind, outcome] += 1
                faults.append((lines[-1][0], kind, f"{outcome} {child.returncode}"))
                say(f"{faults[-1]} {child.stderr[-300:]}")
    return counts, faults


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", nargs=3, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return work(*options.child)
    counts, faults = run(options.files, options.seed, lambda text: print(text, flush=True))
    outcomes = ["answered", "in part", "refused", "wrong", "crash", "hang"]
    print(f"| file | {' | '.join(outcomes)} |\n|{' --- |' * (len(outcomes) + 1)}")
    for kind in [*sorted({kind for kind, _ in counts}), "all"]:
        row = [
            sum(n for at, n in counts.items() if at[1] == o and kind in ("all", at[0]))
            for o in outcomes
        ]
        print(f"| {kind} | {' | '.join(map(str, row))} |")
    for fault in faults:
        print(*fault)
    return min(len(faults), 100)


if __name__ == "__main__":
    sys.exit(main())
