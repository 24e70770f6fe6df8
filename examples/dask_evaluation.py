"""The loss of data that lie in files, by Dask on worker processes of this machine.

The first run makes the files: shards of logits, labels and weights of examples, ``--gigabytes`` in
all.  The loss is lazy until ``compute()``; it is then compared with that of one call in memory
(``--no-memory`` skips this, where there isn't enough).  ``--kill`` kills a worker process in the
middle of its work, which changes nothing but the time.

    python examples/dask_evaluation.py FOLDER --gigabytes 2
"""

import argparse
import math
import os
import signal
import time
from pathlib import Path

import dask
import dask.array as da
import numpy as np
from distributed import Client, LocalCluster

import sce_numba as sce

ROWS, COLUMNS = 8192, 2048
NAMES = "labels", "logits", "weights"
OPTIONS = {"label_smoothing": 0.1, "reduction": sce.Reduction.MEAN}


def make_shards(folder, gigabytes):
    """Make what shards are missing, and return how many there are."""
    shards = max(1, math.ceil(gigabytes * 1e9 / (ROWS * (5 * COLUMNS + 4))))
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(shards):
        if shard_file(folder, NAMES[-1], shard).exists():
            continue
        random = np.random.default_rng(shard)
        logits = random.standard_normal((ROWS, COLUMNS), np.float32) * 3 - 2
        arrays = {
            "labels": random.random(logits.shape, np.float32) < 0.1,
            "logits": logits,
            "weights": random.random((ROWS, 1), np.float32),
        }
        for name, array in arrays.items():
            np.save(shard_file(folder, name, shard), array)
    return shards


def shard_file(folder, name, shard):
    return folder / f"{name}-{shard:04}.npy"


def read(file, last_words):
    """Return a shard; leave the number of the process and wait for the end, if told to."""
    if last_words is not None and not last_words.exists():
        partial = last_words.with_suffix(".partial")
        partial.write_text(str(os.getpid()))
        partial.rename(last_words)
        time.sleep(3600)
    return np.load(file)


def lazy(folder, name, shards, last_words=None):
    """Return the array of all shards: one chunk is one file."""
    parts = []
    for shard in range(shards):
        file = shard_file(folder, name, shard)
        header = np.load(file, mmap_mode="r")
        words = last_words if shard == shards // 2 else None
        part = dask.delayed(read, pure=True)(file, words)
        parts.append(da.from_delayed(part, header.shape, header.dtype))
    return da.concatenate(parts)


def in_memory(folder, shards):
    """Return the loss by one call, and its seconds."""
    arrays = []
    for name in NAMES:
        files = [shard_file(folder, name, shard) for shard in range(shards)]
        arrays.append(np.concatenate([np.load(file, mmap_mode="r") for file in files]))
    start = time.perf_counter()
    loss = sce.sigmoid_cross_entropy(*arrays, **OPTIONS)
    return loss, time.perf_counter() - start


def peak_memory():
    """Return the most megabytes that this process has held, or 0 where Linux doesn't tell."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    lines = status.read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM"))


def kill_when_ready(last_words):
    """Kill the process that waits for it, and return its number."""
    while not last_words.exists():
        time.sleep(0.05)
    process = int(last_words.read_text())
    os.kill(process, getattr(signal, "SIGKILL", signal.SIGTERM))  # on Windows they are one
    return process


def main():
    """Make the data, compute the loss in both ways, and print what is to be compared."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the shards are, or are to be made")
    parser.add_argument("--gigabytes", type=float, default=2.0, help="size of the data (2)")
    parser.add_argument("--workers", type=int, default=2, help="worker processes (2)")
    parser.add_argument("--kill", action="store_true", help="kill a worker in mid-run")
    parser.add_argument("--no-memory", action="store_true", help="don't compute in memory")
    options = parser.parse_args()
    shards = make_shards(options.folder, options.gigabytes)
    files = [shard_file(options.folder, name, k) for name in NAMES for k in range(shards)]
    size = sum(file.stat().st_size for file in files)

    last_words = options.folder / "last_words" if options.kill else None
    if last_words is not None:
        last_words.unlink(missing_ok=True)
    labels, logits, weights = (
        lazy(options.folder, name, shards, last_words if name == "logits" else None)
        for name in NAMES
    )
    loss = sce.sigmoid_cross_entropy(labels, logits, weights, **OPTIONS)
    tasks = len(dict(dask.optimize(loss)[0].__dask_graph__()))
    print(f"data          {size / 1e9:.2f} GB, {shards} shards, logits {logits.shape}")
    print(f"graph         {tasks} tasks for {shards} chunks")

    with (
        LocalCluster(
            n_workers=options.workers,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address=None,
            silence_logs="CRITICAL",
        ) as cluster,
        Client(cluster) as client,
    ):
        start = time.perf_counter()
        future = client.compute(loss)
        if last_words is not None:
            print(f"killed        worker process {kill_when_ready(last_words)}", flush=True)
        value = future.result()
        seconds = time.perf_counter() - start
        client.wait_for_workers(options.workers)  # one that was killed is replaced
        peaks = sorted(client.run(peak_memory).values())
    print(f"loss          {value!s} after {seconds:.2f} s on {options.workers} workers")
    print(f"peak memory   {', '.join(f'{peak} MB' for peak in peaks)} a worker")
    if not options.no_memory:
        expected, seconds = in_memory(options.folder, shards)
        ulps = abs(float(value) - float(expected)) / float(np.spacing(expected))
        print(f"in memory     {expected!s} after {seconds:.2f} s")
        print(f"difference    {ulps:.0f} ULP")


if __name__ == "__main__":
    main()
