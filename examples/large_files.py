"""Evaluate data sets larger than the memory it takes: ``.npy`` shards and Parquet files.

``python examples/large_files.py FOLDER --gigabytes 2`` writes both, each of that size, and prints
for each: the loss, that of one call on a part that fits into memory, the peak memory of the
process, and how fast it read beside reading the same files into NumPy alone.  Then it does the same
with Parquet files that have missing labels, and compares the report by class and by three columns
with the loss alone.  Needs pyarrow; the report needs matplotlib.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet

import sce_numba as sce

CLASSES = 64
SHARDS = 8
REPEATS = 15

READ_NPY = """
import sys, time, numpy as np
start = time.perf_counter()
size = sum(np.load(path).nbytes for path in sys.argv[1:])
print(size / (time.perf_counter() - start))
"""
READ_PARQUET = """
import sys, time, numpy as np
from pyarrow import parquet
start = time.perf_counter()
size = 0
for path in sys.argv[1:]:
    for column in parquet.read_table(path, columns=["label", "logit"]).columns:
        size += sum(chunk.flatten().to_numpy().nbytes for chunk in column.chunks)
print(size / (time.perf_counter() - start))
"""


def write(folder: Path, gigabytes: float) -> None:
    """Write the same data as shards of ``.npy`` files and as Parquet files."""
    rows = int(gigabytes * 2**30 / (2 * 4 * CLASSES * SHARDS)) + 1
    for name in ("labels", "logits", "table"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for number in range(SHARDS):
        logits = 3 * rng.standard_normal((rows, CLASSES), dtype=np.float32)
        labels = (rng.random(logits.shape, dtype=np.float32) < 0.3).astype(np.float32)
        np.save(folder / "labels" / f"{number}.npy", labels)
        np.save(folder / "logits" / f"{number}.npy", logits)
        columns = {
            name: pa.FixedSizeListArray.from_arrays(pa.array(array.ravel()), CLASSES)
            for name, array in (("label", labels), ("logit", logits))
        }
        parquet.write_table(
            pa.table(columns),
            folder / "table" / f"{number}.parquet",
            use_dictionary=False,
            row_group_size=1 << 16,
        )


def write_with_columns(folder: Path, gigabytes: float) -> None:
    """Write Parquet files of 20 classes, of whose labels some are null, and three columns."""
    rows = int(gigabytes * 2**30 / (2 * 4 * 20 * SHARDS)) + 1
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for number in range(SHARDS):
        logits = 3 * rng.standard_normal((rows, 20), dtype=np.float32)
        labels = (rng.random(logits.shape, dtype=np.float32) < 0.3).astype(np.float32)
        missing = rng.random(labels.size, dtype=np.float32) < 0.01
        country = pa.array(rng.integers(0, 30, rows).astype(np.int32))
        names = pa.array([f"country {k}" for k in range(30)])
        columns = {
            "label": pa.FixedSizeListArray.from_arrays(pa.array(labels.ravel(), mask=missing), 20),
            "logit": pa.FixedSizeListArray.from_arrays(pa.array(logits.ravel()), 20),
            "country": pa.DictionaryArray.from_arrays(country, names).dictionary_decode(),
            "device": rng.integers(0, 5, rows),
            "age": rng.uniform(18, 90, rows),
        }
        parquet.write_table(
            pa.table(columns),
            folder / f"{number}.parquet",
            use_dictionary=["country"],
            compression="none",
            row_group_size=1 << 16,
        )


def run(*arguments: object) -> tuple[str, int]:
    """Return what a Python process prints, and its peak memory in bytes."""
    with subprocess.Popen(
        [sys.executable, *map(str, arguments)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        printed = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(process.returncode)
    return printed, usage.ru_maxrss * 1024


def evaluate(labels: object, logits: object, *options: object) -> tuple[dict, int]:
    """Return the report of the command line, and its peak memory."""
    printed, peak = run("-m", "sce_numba", "evaluate", labels, logits, "--json", *options)
    return json.loads(printed), peak


def show(name: str, labels: str, logits: str, reading: str, files: list[Path]) -> None:
    """Print the report on one data set."""
    speeds, alone, peaks = [], [], []
    for _ in range(REPEATS):
        report, peak = evaluate(labels, logits)
        speeds.append(report["bytes_per_second"])
        peaks.append(peak)
        alone.append(float(run("-c", reading, *files)[0]))
    rows, classes = report["shape"]
    speed, reading_alone = statistics.median(speeds), statistics.median(alone)
    print(f"{name}: {rows:,} x {classes}, {sum(file.stat().st_size for file in files):,} bytes")
    print(f"  loss                    {report['loss']}")
    print(f"  peak memory             {max(peaks) / 1e6:.0f} MB")
    print(f"  read and evaluated      {speed / 1e9:.2f} GB/s (median of {REPEATS})")
    print(f"  read into NumPy alone   {reading_alone / 1e9:.2f} GB/s")
    print(f"  ratio                   {speed / reading_alone:.2f}")


def show_report(folder: Path, page: Path) -> None:
    """Print how fast a report of everything is beside the loss alone, and what it takes."""
    operands = f"{folder}:label", f"{folder}:logit", "--ignore-label", "null"
    by = [word for name in ("country", "device", "age") for word in ("--by", name)]
    ratios, peaks = [], []
    for _ in range(REPEATS):
        alone, _ = evaluate(*operands)
        report, peak = evaluate(*operands, "--by-class", *by, "--report", page)
        ratios.append(alone["seconds"] / report["seconds"])
        peaks.append(peak)
    rows, classes = report["shape"]
    size = sum(file.stat().st_size for file in folder.glob("*"))
    print(f"Parquet with nulls: {rows:,} x {classes}, {size:,} bytes")
    print(f"  loss alone              {alone['bytes_per_second'] / 1e9:.2f} GB/s")
    print(f"  report                  {report['bytes_per_second'] / 1e9:.2f} GB/s")
    print(f"  ratio                   {statistics.median(ratios):.2f} (median of {REPEATS})")
    print(f"  peak memory             {max(peaks) / 1e6:.0f} MB")
    print(f"  the same loss           {alone['loss'] == report['loss']}")


def in_a_process(function: Callable[..., None], *arguments: object) -> None:
    """Call a function where its memory does not count for the peak of a child."""
    process = get_context("spawn").Process(target=function, args=arguments)
    process.start()
    process.join()


def main() -> None:
    """Write, evaluate, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--keep", action="store_true", help="don't remove the data in the end")
    arguments = parser.parse_args()
    folder = arguments.folder / "large_files"
    in_a_process(write, folder, arguments.gigabytes)
    try:
        labels, logits = sorted(folder.glob("labels/*")), sorted(folder.glob("logits/*"))
        tables = sorted(folder.glob("table/*"))
        show(".npy shards", f"{folder}/labels", f"{folder}/logits", READ_NPY, labels + logits)
        show("Parquet", f"{folder}/table:label", f"{folder}/table:logit", READ_PARQUET, tables)
        one_call = sce.sigmoid_cross_entropy(np.load(labels[0]), np.load(logits[0]))
        print(f"the first shard in one call:  {float(one_call)!r}")
        for pair in ((labels[0], logits[0]), (f"{tables[0]}:label", f"{tables[0]}:logit")):
            print(f"  by the command line:        {evaluate(*pair)[0]['loss']!r}  {pair[1]}")
        in_a_process(write_with_columns, folder / "columns", arguments.gigabytes)
        show_report(folder / "columns", folder / "report.html")
    finally:
        if not arguments.keep:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
