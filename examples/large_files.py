"""Evaluate data sets larger than the memory it takes: ``.npy`` shards and Parquet files.

``python examples/large_files.py FOLDER --gigabytes 2`` writes both, each of that size, and prints
for each: the loss, that of one call on a part that fits into memory, the peak memory of the
process, and how fast it read beside reading the same files into NumPy alone.  Needs pyarrow.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
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


def evaluate(labels: object, logits: object) -> tuple[dict, int]:
    """Return the report of the command line, and its peak memory."""
    printed, peak = run("-m", "sce_numba", "evaluate", labels, logits, "--json")
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


def main() -> None:
    """Write, evaluate, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--keep", action="store_true", help="don't remove the data in the end")
    arguments = parser.parse_args()
    folder = arguments.folder / "large_files"
    # In a process of its own: the memory of a parent counts for a child's peak.
    writer = get_context("spawn").Process(target=write, args=(folder, arguments.gigabytes))
    writer.start()
    writer.join()
    try:
        labels, logits = sorted(folder.glob("labels/*")), sorted(folder.glob("logits/*"))
        tables = sorted(folder.glob("table/*"))
        show(".npy shards", f"{folder}/labels", f"{folder}/logits", READ_NPY, labels + logits)
        show("Parquet", f"{folder}/table:label", f"{folder}/table:logit", READ_PARQUET, tables)
        one_call = sce.sigmoid_cross_entropy(np.load(labels[0]), np.load(logits[0]))
        print(f"the first shard in one call:  {float(one_call)!r}")
        for pair in ((labels[0], logits[0]), (f"{tables[0]}:label", f"{tables[0]}:logit")):
            print(f"  by the command line:        {evaluate(*pair)[0]['loss']!r}  {pair[1]}")
    finally:
        if not arguments.keep:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
