"""Compare the loss of what an engine holds: this package's accumulators and the engine's own words.

``python -m asv_bench.engines`` holds the same rows in Spark, Ray, DuckDB and Polars, those that are
installed, in memory and on as many CPUs.  The weighted mean of the losses is computed in turns by
accumulators, as on the page ``docs/engines.md``, and by the formula in the language of the engine
(in NumPy for Ray, which has none); once for one class, a number a row, and once for 64, lists.
"""

from __future__ import annotations

import argparse
import os
import pickle
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import sce_numba as sce

from .report import (
    add_outputs,
    as_json,
    beside,
    duration,
    facts,
    facts_in_words,
    in_columns,
    saved,
    write,
)
from .timing import Timing, measure

# By rows and engine, as ``65,536 x 64: Spark``, and by who computes.
Found = dict[str, dict[str, Timing]]

CLASSES = 64
REDUCTION = sce.Reduction.MEAN
NAMES = {"labels": "y", "logits": "x", "weights": "w"}
CPUS = len(os.sched_getaffinity(0))


class Rows(NamedTuple):
    """Labels, logits and weights, as a table and as arrays."""

    table: pa.Table
    labels: np.ndarray
    logits: np.ndarray
    weights: np.ndarray


class Engine(NamedTuple):
    """A loss by accumulators, and by the engine alone."""

    ours: Callable[[], float]
    theirs: Callable[[], float]


def draw(rows: int, classes: int) -> Rows:
    """Return data of so many rows: of numbers for one class, else of lists."""
    rng = np.random.default_rng(0)
    logits = rng.normal(-1, 2, (rows, classes)).astype(np.float32)
    labels = (rng.random(logits.shape, np.float32) < 0.3).astype(np.int8)
    weights = rng.random((rows, 1), np.float32)
    columns = {"y": pa.array(labels.ravel()), "x": pa.array(logits.ravel())}
    if classes > 1:
        ends = pa.array(np.arange(0, logits.size + 1, classes, dtype=np.int32))
        columns = {name: pa.ListArray.from_arrays(ends, c) for name, c in columns.items()}
    table = pa.table({**columns, "w": pa.array(weights.ravel())})
    return Rows(table, labels, logits, weights)


def part(batches: Iterator[Any]) -> bytes:
    """Return the pickled loss of batches."""
    loss = sce.LossAccumulator(REDUCTION)
    for batch in batches:
        loss.update_arrow(batch, **NAMES)
    return pickle.dumps(loss)


def total(parts: Iterator[bytes]) -> float:
    """Return the loss of all parts."""
    return float(sum(map(pickle.loads, parts), sce.LossAccumulator(REDUCTION)).result())


def spark_session() -> Any:
    """Return a session of Spark on all CPUs."""
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = sys.executable
    builder = SparkSession.builder.master(f"local[{CPUS}]").config("spark.driver.memory", "6g")
    session = builder.config("spark.ui.enabled", "false").getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    return session


def spark_mean(frame: Any, classes: int) -> float:
    """Return the loss in the SQL of Spark; the frame is new, as one that ran keeps its sums."""
    loss = "greatest(x, 0) - x * y + log1p(exp(-abs(x)))"
    numerator, denominator = f"sum(w * ({loss}))", "sum(w)"
    if classes > 1:
        losses = f"zip_with(x, y, (x, y) -> {loss})"
        numerator = f"sum(w * aggregate({losses}, 0D, (a, b) -> a + b))"
        denominator = "sum(w * size(x))"
    return frame.selectExpr(f"{numerator} / {denominator}").collect()[0][0]


def spark(rows: Rows) -> Engine:
    """Hold the rows in the cache of Spark."""
    frame = spark_session().createDataFrame(rows.table).repartition(2 * CPUS).cache()
    frame.count()

    def row(batches: Iterator[Any]) -> Iterator[Any]:
        yield pa.record_batch({"loss": [part(batches)]})

    def ours() -> float:
        return total(found.loss for found in frame.mapInArrow(row, "loss binary").collect())

    return Engine(ours, lambda: spark_mean(frame, rows.logits.shape[1]))


def spark_files(rows: Rows) -> Engine:
    """Hold the rows in Parquet files, which accumulators read by pyarrow in the workers."""
    session, folder = spark_session(), tempfile.mkdtemp()
    shards = np.array_split(np.arange(len(rows.table)), 2 * CPUS)
    paths = [f"{folder}/{number}.parquet" for number in range(len(shards))]
    for path, shard in zip(paths, shards, strict=True):
        pq.write_table(rows.table.slice(shard[0], len(shard)), path)
    names = session.createDataFrame([(path,) for path in paths], "path string")
    names = names.repartition(len(paths)).cache()

    def row(batches: Iterator[Any]) -> Iterator[Any]:
        found = (path for batch in batches for path in batch["path"].to_pylist())
        yield pa.record_batch({"loss": [part(map(pq.read_table, found))]})

    def ours() -> float:
        return total(found.loss for found in names.mapInArrow(row, "loss binary").collect())

    return Engine(ours, lambda: spark_mean(session.read.parquet(folder), rows.logits.shape[1]))


def ray(rows: Rows) -> Engine:
    """Hold the rows in the object store of Ray."""
    import ray

    ray.init(num_cpus=CPUS, include_dashboard=False, log_to_driver=False, ignore_reinit_error=True)
    ray.data.DataContext.get_current().enable_progress_bars = False
    dataset = ray.data.from_arrow(rows.table).repartition(2 * CPUS).materialize()

    def row(batch: Any) -> Any:
        return pa.table({"loss": [part([batch])]})

    def sums(batch: dict[str, np.ndarray]) -> dict[str, list[float]]:
        x, y, w = batch["x"], batch["y"], batch["w"]
        if x.dtype == object:
            x, y = np.stack(x), np.stack(y)
        w = w.reshape(-1, *[1] * (x.ndim - 1))
        losses = np.maximum(x, 0) - x * y + np.log1p(np.exp(-np.abs(x)))
        return {
            "numerator": [(w * losses).sum(dtype=np.float64)],
            "denominator": [np.broadcast_to(w, x.shape).sum(dtype=np.float64)],
        }

    def ours() -> float:
        parts = dataset.map_batches(row, batch_format="pyarrow", batch_size=None)
        return total(found["loss"] for found in parts.take_all())

    def theirs() -> float:
        found = dataset.map_batches(sums, batch_format="numpy", batch_size=None).take_all()
        return sum(f["numerator"] for f in found) / sum(f["denominator"] for f in found)

    return Engine(ours, theirs)


def duckdb(rows: Rows) -> Engine:
    """Hold the rows in a table of DuckDB."""
    import duckdb

    session = duckdb.connect(config={"threads": CPUS})
    session.from_arrow(rows.table).create("held")

    source = "held"
    if rows.logits.shape[1] > 1:
        source = "(SELECT unnest(x) AS x, unnest(y) AS y, w FROM held)"
    loss = "greatest(x, 0) - x * y + ln(1 + exp(-abs(x)))"
    query = f"SELECT sum(w * ({loss})) / sum(w) FROM {source}"
    return Engine(
        lambda: total([part([session.table("held")])]),
        lambda: session.execute(query).fetchall()[0][0],
    )


def polars(rows: Rows) -> Engine:
    """Hold the rows in a frame of polars."""
    import polars as pl

    frame = pl.from_arrow(rows.table)

    x, y, w = pl.col("x"), pl.col("y"), pl.col("w")
    losses = pl.max_horizontal(x, 0) - x * y + (-x.abs()).exp().log1p()
    lazy = frame.lazy().explode("x", "y") if rows.logits.shape[1] > 1 else frame.lazy()
    mean = lazy.select((w * losses).sum() / w.sum())
    return Engine(lambda: total([part([frame])]), lambda: mean.collect(engine="streaming").item())


ENGINES = {
    "Spark": ("pyspark", spark),
    "Spark, Parquet files": ("pyspark", spark_files),
    "Ray": ("ray", ray),
    "DuckDB": ("duckdb", duckdb),
    "Polars": ("polars", polars),
}


def run(installed: list[str], elements: int, rounds: int) -> Found:
    """Return the timings of engines."""
    taken = {}
    for classes in (1, CLASSES):
        rows = draw(elements // classes, classes)
        expected = sce.sigmoid_cross_entropy(
            rows.labels, rows.logits, rows.weights, reduction=REDUCTION
        )
        for name in installed:
            engine = ENGINES[name][1](rows)
            for call in engine:
                np.testing.assert_allclose(call(), expected, 1e-4, err_msg=name)
            title = f"{len(rows.table):,} x {classes}: {name}"
            taken[title] = measure(engine._asdict(), rounds)
            print(title, *beside(taken[title]), sep=" | ", file=sys.stderr, flush=True)
    return taken


def table(found: Found) -> str:
    """Return a row for each engine and kind of rows."""
    lines = [["rows", "engine", "accumulators", "the engine's own formula", "ratio"]]
    for title, timings in found.items():
        own, ratio = beside(timings)
        lines.append([*title.split(": "), own, duration(timings["theirs"].median), ratio])
    return in_columns(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="timings of each call (15)")
    parser.add_argument("--elements", type=int, default=1 << 22, help="number of logits (2^22)")
    add_outputs(parser)
    options = parser.parse_args()
    if options.saved:
        said, found = saved(options.saved)
    else:
        installed = [name for name, (library, _) in ENGINES.items() if find_spec(library)]
        found = run(installed, options.elements, options.rounds)
        libraries = *dict.fromkeys(ENGINES[name][0] for name in installed), "pyarrow"
        command = " ".join(["python -m asv_bench.engines", *sys.argv[1:]])
        said = facts(command, [f"{name} {version(name)}" for name in libraries])
    words = f"{table(found)}\n\n{facts_in_words(said)}"
    print(as_json(said, found) if options.json else words)
    write(words, options.page, "asv_bench.engines")


if __name__ == "__main__":
    main()
