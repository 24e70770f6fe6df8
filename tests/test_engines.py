"""The loss of what Spark, Ray, DuckDB and Polars hold has the bits of one call in memory.

Their workers are other processes, of which one may die.
"""

import os
import pickle
import shutil
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from operator import add
from pathlib import Path

import numpy as np
import pytest

import sce_numba as sce

pa = pytest.importorskip("pyarrow")

ROWS, CLASSES = 30_000, 4
RNG = np.random.default_rng(77)
LOGITS = RNG.normal(0, 3, (ROWS, CLASSES)).astype(np.float32)
LABELS = RNG.random((ROWS, CLASSES)) < 0.3
WEIGHTS = RNG.random(ROWS)
COUNTS = RNG.random(ROWS) < 0.8
OPTIONS = {"reduction": "weighted_mean", "label_smoothing": 0.1}
NAMES = {"labels": "y", "logits": "x", "weights": "w", "where": "counts"}


@pytest.fixture(scope="module", params=["of one class", "of four classes"])
def table(request):
    """Return rows with nulls among what doesn't count, of a class each or of a list of them."""
    if request.param == "of one class":
        return pa.table(
            {
                "y": pa.array(LABELS[:, 0], mask=~COUNTS),
                "x": LOGITS[:, 0],
                "w": WEIGHTS,
                "counts": COUNTS,
            }
        )
    lists = {"y": LABELS.astype(np.int8), "x": LOGITS}
    rows = pa.array(np.arange(0, ROWS * CLASSES + 1, CLASSES, dtype=np.int32))
    columns = {k: pa.ListArray.from_arrays(rows, pa.array(v.ravel())) for k, v in lists.items()}
    return pa.table({**columns, "w": WEIGHTS, "counts": COUNTS})


@pytest.fixture(scope="module")
def in_memory(table):
    """Return the loss by one call, a float32 number that no cut into batches can change."""
    several = table["y"].type != pa.bool_()
    labels, logits = (LABELS, LOGITS) if several else (LABELS[:, 0], LOGITS[:, 0])
    weights, counts = (WEIGHTS[:, None], COUNTS[:, None]) if several else (WEIGHTS, COUNTS)
    loss = sce.LossAccumulator(**OPTIONS)
    loss.update(labels, logits, weights, counts)
    value = sce.sigmoid_cross_entropy(labels, logits, weights, where=counts, **OPTIONS)
    # Cuts move the sum by 1e-8 of it at most, and its rounding only near the middle of two numbers.
    assert abs(loss.result() - np.float64(value)) < 0.4 * np.spacing(value)
    return value


def maker(before=lambda: None, **names):
    """Return a function for workers, which can't import this module: from batches to a pickle."""
    names, options = NAMES | names, OPTIONS

    def part(batches):
        loss = sce.LossAccumulator(**options)
        for batch in batches:
            before()
            loss.update_arrow(batch, **{k: name for k, name in names.items() if name})
        return pickle.dumps(loss)

    return part


def total(parts):
    return sum(map(pickle.loads, parts), sce.LossAccumulator(**OPTIONS))


def killer(folder):
    """Return what kills one of the processes that it runs in, when it is called there again."""
    mark, kill, process, signals, calls = Path(folder, "killed"), os.kill, os.getpid, signal, []

    def die_once():
        calls.append(process())
        if len(calls) == 1:
            return
        try:
            mark.touch(exist_ok=False)
        except FileExistsError:
            return
        kill(process(), signals.SIGKILL)

    return die_once


def threads():
    """Return how many threads a call uses, and whether it may enter parallel regions at all."""
    from sce_numba.kernels import parallel
    from sce_numba.processes import is_home

    return parallel._count_cpus() if is_home() else 1


# ---- Spark ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spark():
    sql = pytest.importorskip("pyspark.sql")
    if not shutil.which("java"):
        pytest.skip("Spark needs Java")
    os.environ["PYSPARK_PYTHON"] = sys.executable
    session = (
        sql.SparkSession.builder.master("local[2, 4]")  # a task may fail three times
        .config("spark.ui.enabled", "false")
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", 1000)
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("OFF")
    yield session
    session.stop()


def by_spark(frame, part):
    def row(batches):
        yield pa.record_batch({"loss": [part(batches)]})

    return frame.mapInArrow(row, "loss binary")


@pytest.mark.parametrize("partitions", [1, 7])
def test_spark(spark, table, in_memory, partitions):
    frame = spark.createDataFrame(table).repartition(partitions)
    rows = by_spark(frame, maker()).collect()
    assert len(rows) == partitions
    assert max(len(row.loss) for row in rows) < 1000
    assert total(row.loss for row in rows).result(np.float32) == in_memory


def test_executors_of_spark_merge_in_a_tree(spark, table, in_memory):
    frame = spark.createDataFrame(table).repartition(7)
    losses = by_spark(frame, maker()).rdd.map(lambda row: pickle.loads(row.loss))
    assert losses.treeReduce(add).result(np.float32) == in_memory


def test_partitions_of_spark_may_be_empty(spark, table, in_memory):
    frame = spark.createDataFrame(table).coalesce(2)
    empty = frame.where("w > 2 + rand()")  # which can't be told beforehand
    none = by_spark(empty, maker()).collect()
    assert (total(row.loss for row in none).result(), len(none)) == (0.0, 2)
    rows = by_spark(empty.union(frame), maker()).collect()
    assert (total(row.loss for row in rows).result(np.float32), len(rows)) == (in_memory, 4)


def test_a_worker_of_spark_may_die(spark, table, in_memory, tmp_path):
    frame = spark.createDataFrame(table).repartition(4)
    rows = by_spark(frame, maker(killer(tmp_path))).collect()
    assert (tmp_path / "killed").exists()
    assert total(row.loss for row in rows).result(np.float32) == in_memory


def test_spark_tells_what_can_not_be_read(spark):
    frame = spark.sql("SELECT 1.5 AS y, 0.5F AS x, CAST(NULL AS BOOLEAN) AS empty, now() AS time")
    told = {
        "y": "column 'y' is decimal128(2, 1). Cast it to float64.",
        "empty": "Argument `labels`: 1 value is null. Fill what is null, or drop its rows",
        "time": "column 'time' is timestamp[us, tz=",
        "z": "Argument `labels` names 'z', but none of the columns",
    }
    for name, said in told.items():
        part = maker(labels=name, weights=None, where=None)
        with pytest.raises(Exception, match="Argument `labels`") as failed:
            by_spark(frame, part).collect()
        assert said in str(failed.value)


def test_a_worker_of_spark_has_one_cpu(spark):
    def count(batches):
        yield pa.record_batch({"threads": [threads() for batch in batches if len(batch)]})

    counts = spark.range(10).repartition(2).mapInArrow(count, "threads bigint").collect()
    assert {row.threads for row in counts} == {1}


def test_a_forked_worker_of_spark_may_run_threads(spark):
    part = maker(weights=None, where=None)

    def row(batches):
        before = os.environ["OMP_NUM_THREADS"]
        os.environ["OMP_NUM_THREADS"] = "2"
        loss = part(batches)
        os.environ["OMP_NUM_THREADS"] = before  # the worker has other tasks to do
        from numba.np.ufunc.parallel import _is_initialized

        yield pa.record_batch({"loss": [loss], "started": [bool(_is_initialized)]})

    labels, logits = LABELS.ravel(), LOGITS.ravel()
    frame = spark.createDataFrame(pa.table({"y": labels, "x": logits})).coalesce(1)
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", len(logits))
    found = frame.mapInArrow(row, "loss binary, started boolean").collect()[0]
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", 1000)
    expected = sce.sigmoid_cross_entropy(labels, logits, **OPTIONS)
    assert pickle.loads(found.loss).result(np.float32) == expected
    assert found.started == (threads() > 1)


# ---- Ray ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ray():
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.data")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


def by_ray(dataset, part, **options):
    def row(batch):
        return pa.table({"loss": [part([batch])]})

    rows = dataset.map_batches(row, batch_format="pyarrow", **options).take_all()
    return total(row["loss"] for row in rows)


@pytest.mark.parametrize("rows", [None, 999])
def test_ray(ray, table, in_memory, rows):
    dataset = ray.data.from_arrow(table).repartition(5)
    assert by_ray(dataset, maker(), batch_size=rows).result(np.float32) == in_memory


def test_blocks_of_ray_may_be_empty(ray, table, in_memory):
    dataset = ray.data.from_arrow([table.slice(0, 0), table, table.slice(5, 0)])
    assert by_ray(dataset, maker()).result(np.float32) == in_memory
    none = ray.data.from_arrow(table).filter(lambda row: row["w"] > 2)
    assert by_ray(none, maker()).result() == 0.0


def test_tensors_of_ray_are_rows(ray):
    dataset = ray.data.from_numpy(LOGITS).rename_columns({"data": "x"})
    part = maker(labels="x", weights=None, where=None)
    expected = sce.sigmoid_cross_entropy(LOGITS, LOGITS, **OPTIONS)
    assert by_ray(dataset, part).result(np.float32) == expected


def test_a_worker_of_ray_may_die(ray, table, in_memory, tmp_path):
    """The one that says who it is waits for its end; what it had done is done again."""
    words, process, sleep = tmp_path / "words", os.getpid, time.sleep

    def wait_once():
        try:
            words.touch(exist_ok=False)
        except FileExistsError:
            return
        words.with_suffix(".pid").write_text(str(process()))
        sleep(3600)

    def kill_in_mid_run():
        while not (found := words.with_suffix(".pid")).exists() or not found.read_text():
            time.sleep(0.05)
        os.kill(int(found.read_text()), signal.SIGKILL)

    dataset = ray.data.from_arrow(table).repartition(8)
    with ThreadPoolExecutor(1) as pool:
        killed = pool.submit(kill_in_mid_run)
        assert by_ray(dataset, maker(wait_once)).result(np.float32) == in_memory
        killed.result()


@pytest.mark.parametrize("cpus", [1, 2])
def test_a_worker_of_ray_has_the_cpus_of_its_task(ray, cpus):
    def count(batch):
        return pa.table({"threads": [threads()]})

    rows = ray.data.range(4).map_batches(count, batch_format="pyarrow", num_cpus=cpus).take_all()
    assert {row["threads"] for row in rows} == {min(cpus, threads())}


# ---- On one machine -------------------------------------------------------------------------


def test_duckdb(table, in_memory):
    duckdb = pytest.importorskip("duckdb")
    loss = sce.LossAccumulator(**OPTIONS)
    loss.update_arrow(duckdb.from_arrow(table), **NAMES)
    assert loss.result(np.float32) == in_memory


def test_decimals_and_enums_of_duckdb_are_refused():
    duckdb = pytest.importorskip("duckdb")
    told = {"1.5": "Cast it to float64", "'b'::ENUM('a', 'b')": "Pass whether it is the positive"}
    for label, said in told.items():
        relation = duckdb.sql(f"SELECT {label} AS y, 0.5::FLOAT AS x")
        with pytest.raises(TypeError, match=said):
            sce.LossAccumulator().update_arrow(relation, "y", "x")


def test_polars(table, in_memory):
    pl = pytest.importorskip("polars")
    frame = pl.from_arrow(table)
    loss = sce.LossAccumulator(**OPTIONS)
    loss.update_arrow(frame, **NAMES)
    assert loss.result(np.float32) == in_memory
    part = maker()
    parts = frame.lazy().map_batches(
        lambda batch: pl.DataFrame({"loss": [part([batch])]}),
        schema={"loss": pl.Binary},
        streamable=True,
    )
    assert total(parts.collect(engine="streaming")["loss"]).result(np.float32) == in_memory
