"""Dask arrays give lazy results, and what they come to is what the arrays in memory give."""

import os
import signal
import time

import numpy as np
import pytest
from reference import BFLOAT16, NONE

import sce_numba as sce
from sce_numba.kernels import parallel

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")

ROWS, COLUMNS = 300, 70
REDUCTIONS = [reduction for reduction in sce.Reduction if reduction != NONE]
RNG = np.random.default_rng(2026)
LABELS = RNG.random((ROWS, COLUMNS)) < 0.3
LOGITS = RNG.normal(0, 4, (ROWS, COLUMNS)).astype(np.float32)
KEEP = RNG.random((ROWS, COLUMNS)) < 0.9
POS_WEIGHT = RNG.uniform(0.5, 3, COLUMNS)
WEIGHTS = {
    "one": 2.5,
    "rows": RNG.random((ROWS, 1)).astype(np.float32),
    "columns": RNG.random((1, COLUMNS)),
    "elements": RNG.random((ROWS, COLUMNS)) * (RNG.random((ROWS, COLUMNS)) < 0.8),
}


def lazy(array, *chunks):
    """Return a Dask array in chunks of this size, or shorter where the array is."""
    if np.ndim(array) == 0:
        return array
    shape = array.shape
    return da.from_array(array, chunks=tuple(map(min, chunks[-len(shape) :], shape)))


def assert_close(found, expected):
    """Check a loss to 1 ULP, and a gradient to 2: its denominator may be rounded otherwise."""
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    with np.errstate(invalid="ignore"):  # infinite sums of float16
        ulp = np.spacing(np.maximum(np.abs(expected), np.abs(found)))
        error = np.abs(found.astype(np.float64) - expected.astype(np.float64))
    assert np.all((found == expected) | (error <= (2 if found.ndim else 1) * ulp))


# ---- Values ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, BFLOAT16, np.float32, np.float64])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("kind", WEIGHTS)
def test_loss_and_gradient_are_those_in_memory(dtype, reduction, kind):
    logits, weights = LOGITS.astype(dtype), WEIGHTS[kind]
    options = {"label_smoothing": 0.1, "reduction": reduction}
    operands = lazy(LABELS, 100, 70), lazy(logits, 77, 30), lazy(weights, 50, 50)
    loss = sce.sigmoid_cross_entropy(*operands, **options)
    both = sce.sigmoid_cross_entropy_value_and_grad(*operands, **options)
    expected = sce.sigmoid_cross_entropy_value_and_grad(LABELS, logits, weights, **options)
    for result, value in zip((loss, *both), (expected[0], *expected), strict=True):
        assert isinstance(result, da.Array)
        assert (result.shape, result.dtype) == (value.shape, value.dtype)
        assert_close(result.compute(), value)
    assert both[1].chunks == operands[1].chunks


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_pos_weight_and_where_are_taken_as_in_memory(reduction):
    options = {"reduction": reduction}
    expected = sce.sigmoid_cross_entropy_value_and_grad(
        LABELS, LOGITS, WEIGHTS["rows"], **options, pos_weight=POS_WEIGHT, where=KEEP
    )
    found = sce.sigmoid_cross_entropy_value_and_grad(
        lazy(LABELS, 40, 9),
        lazy(LOGITS, 100, 70),
        lazy(WEIGHTS["rows"], 9, 1),
        **options,
        pos_weight=lazy(POS_WEIGHT, 30),
        where=lazy(KEEP, 300, 7),
    )
    for result, value in zip(dask.compute(*found), expected, strict=True):
        assert_close(result, value)


def element_wise(labels, logits, weights, pos_weight, keep):
    """Return all that has the shape of the logits, by the name of what computes it."""
    rest = {"pos_weight": pos_weight, "where": keep}
    return {
        "NONE": sce.sigmoid_cross_entropy(labels, logits, weights, 0.1, reduction=NONE, **rest),
        "NONE and its gradient": sce.sigmoid_cross_entropy_value_and_grad(
            labels, logits, weights, 0.1, reduction=NONE, **rest
        ),
        "gradient": sce.sigmoid_cross_entropy_gradient(labels, logits),
        "gradient and hessian": sce.sigmoid_cross_entropy_gradient_hessian(
            labels, logits, weights, 0.1, **rest
        ),
        "with logits": sce.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits),
        "weighted": sce.weighted_cross_entropy_with_logits(labels, logits, pos_weight),
        "weighted losses": sce.compute_weighted_loss(logits, weights, reduction=NONE),
    }


def as_tuple(value):
    return value if isinstance(value, tuple) else (value,)


@pytest.mark.parametrize("dtype", [BFLOAT16, np.float32, ">f8"])
def test_results_of_every_element_are_those_in_memory_to_the_last_bit(dtype):
    logits, weights = LOGITS.astype(dtype), WEIGHTS["columns"]
    expected = element_wise(LABELS, logits, weights, POS_WEIGHT, KEEP)
    found = element_wise(
        lazy(LABELS, 99, 9),
        lazy(logits, 60, 50),
        lazy(weights, 1, 33),
        lazy(POS_WEIGHT, 11),
        lazy(KEEP, 123, 70),
    )
    for name, values in expected.items():
        for result, value in zip(as_tuple(found[name]), as_tuple(values), strict=True):
            assert result.chunks == ((60,) * 5, (50, 20)), name
            assert result.dtype == value.dtype, name
            np.testing.assert_array_equal(result.compute(), value, err_msg=name)


def test_any_one_operand_may_be_lazy():
    given = {
        "multi_class_labels": LABELS,
        "logits": LOGITS,
        "weights": WEIGHTS["rows"],
        "pos_weight": POS_WEIGHT,
        "where": KEEP,
    }
    expected = sce.sigmoid_cross_entropy(**given)
    for name, operand in given.items():
        loss = sce.sigmoid_cross_entropy(**given | {name: lazy(operand, 50, 20)})
        assert isinstance(loss, da.Array), name
        assert_close(loss.compute(), expected)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (5, 0), (1, 1), (3, 1, 4)])
def test_any_shape_will_do(shape):
    labels, logits = np.ones(shape, np.int8), np.full(shape, 0.5)
    loss, gradient = sce.sigmoid_cross_entropy_value_and_grad(da.from_array(labels), logits)
    expected = sce.sigmoid_cross_entropy_value_and_grad(labels, logits)
    assert loss.compute() == expected[0]
    np.testing.assert_array_equal(gradient.compute(), expected[1])


def test_a_zero_denominator_gives_zero_beside_nan():
    logits = da.from_array(np.array([np.nan, 1.0], np.float32), chunks=1)
    weights = da.from_array(np.array([1.0, -1.0]), chunks=1)
    loss, gradient = sce.sigmoid_cross_entropy_value_and_grad(
        [1, 1], logits, weights, reduction="weighted_mean"
    )
    assert loss.compute() == 0
    assert gradient.compute().tolist() == [0, 0]


def test_the_order_of_computing_cannot_be_seen():
    loss = sce.sigmoid_cross_entropy(lazy(LABELS, 7, 7), lazy(LOGITS, 11, 13))
    serial = loss.compute(scheduler="synchronous").tobytes()
    assert {loss.compute(scheduler="threads").tobytes() for _ in range(5)} == {serial}


# ---- Graphs ---------------------------------------------------------------------------------


def refuse(block):
    raise AssertionError("a block was computed")


def test_nothing_is_computed_early():
    sources = [
        lazy(array, 50, 20).map_blocks(refuse, dtype=array.dtype, meta=array[:0])
        for array in (LABELS, LOGITS, WEIGHTS["rows"], POS_WEIGHT, KEEP)
    ]
    element_wise(*sources)
    labels, logits, weights, pos_weight, keep = sources
    for reduction in REDUCTIONS:
        options = {"reduction": reduction, "pos_weight": pos_weight, "where": keep}
        loss = sce.sigmoid_cross_entropy(labels, logits, weights, **options)
        sce.sigmoid_cross_entropy_value_and_grad(labels, logits, weights, **options)
        sce.compute_weighted_loss(logits, weights, reduction=reduction)
    with pytest.raises(AssertionError, match="a block was computed"):
        loss.compute()


def test_each_block_is_read_once_for_loss_and_gradient():
    read = []

    def source(block):
        read.append(block.shape)
        return block

    logits = lazy(LOGITS, 100, 35).map_blocks(source, dtype=LOGITS.dtype, meta=LOGITS[:0])
    found = sce.sigmoid_cross_entropy_value_and_grad(LABELS, logits, reduction="weighted_mean")
    dask.compute(*found, scheduler="synchronous")
    assert read == [(100, 35)] * 6


def test_a_graph_has_a_few_tasks_for_each_block():
    def tasks(results, blocks):
        logits = da.zeros((blocks, 10), chunks=(1, 10))
        (graph,) = dask.optimize(
            results(da.zeros_like(logits), logits, da.ones((blocks, 1), chunks=(1, 1)))
        )
        return len(dict(graph.__dask_graph__()))

    def both(*operands):
        return sce.sigmoid_cross_entropy_value_and_grad(*operands)[0]

    for results in (sce.sigmoid_cross_entropy, both):
        few, many = tasks(results, 100), tasks(results, 1000)
        assert many <= 10.5 * few
        assert many <= 7 * 1000


# ---- Arguments ------------------------------------------------------------------------------

BAD = {
    "no labels": ((None, LOGITS), {}),
    "no logits": ((LABELS, None), {}),
    "integer logits": ((LABELS, LABELS.astype(int)), {}),
    "complex labels": ((LOGITS.astype(complex), LOGITS), {}),
    "shapes": ((LABELS[1:], LOGITS), {}),
    "transposed": ((LABELS.T, LOGITS), {}),
    "smoothing": ((LABELS, LOGITS, 1.0, 1.5), {}),
    "reduction": ((LABELS, LOGITS), {"reduction": "mean"}),
    "weights of a batch": ((LABELS, LOGITS, WEIGHTS["rows"][:, 0]), {}),
    "weights of another size": ((LABELS, LOGITS, WEIGHTS["rows"][1:]), {}),
    "no weights": ((LABELS, LOGITS, None), {}),
    "pos_weight": ((LABELS, LOGITS), {"pos_weight": POS_WEIGHT[1:]}),
    "where of numbers": ((LABELS, LOGITS), {"where": LOGITS}),
    "where of another shape": ((LABELS, LOGITS), {"where": KEEP[1:]}),
    "masked": ((np.ma.masked_array(LABELS), LOGITS), {}),
}


@pytest.mark.parametrize(("arguments", "options"), BAD.values(), ids=BAD)
@pytest.mark.parametrize(
    "function", [sce.sigmoid_cross_entropy, sce.sigmoid_cross_entropy_value_and_grad]
)
def test_bad_arguments_are_refused_when_the_graph_is_built(function, arguments, options):
    with pytest.raises((ValueError, TypeError)) as expected:
        function(*arguments, **options)
    lazy_arguments = [
        da.from_array(array, asarray=False) if isinstance(array, np.ndarray) else array
        for array in arguments
    ]
    lazy_options = {
        name: da.from_array(value) if isinstance(value, np.ndarray) else value
        for name, value in options.items()
    }
    with pytest.raises(expected.type) as found:
        function(*lazy_arguments, **lazy_options)
    assert str(found.value) == str(expected.value)


def test_the_element_wise_functions_refuse_as_in_memory():
    labels, logits = da.from_array(LABELS), da.from_array(LOGITS)
    with pytest.raises(ValueError, match="Argument `pos_weight` must not be None"):
        sce.weighted_cross_entropy_with_logits(labels, logits, None)
    with pytest.raises(ValueError, match="Arguments `labels` and `logits` must have the same"):
        sce.sigmoid_cross_entropy_with_logits(labels=labels[1:], logits=logits)
    with pytest.raises(TypeError, match="Argument `losses` must be float8"):
        sce.compute_weighted_loss(labels)


@pytest.mark.parametrize("name", ["out", "grad_out"])
def test_memory_for_a_lazy_result_is_refused(name):
    with pytest.raises(TypeError, match=f"Argument `{name}` can't be given with Dask arrays"):
        sce.sigmoid_cross_entropy_value_and_grad(
            da.from_array(LABELS), LOGITS, reduction=NONE, **{name: np.empty_like(LOGITS)}
        )


def unknown(array, *chunks):
    """Return a Dask array whose number of rows is not known, as it comes from a data frame."""
    source = lazy(array, *chunks)
    rest = (array.shape[1],) if array.ndim > 1 else ()
    columns = tuple((size,) for size in rest)
    return source.map_blocks(
        np.array, dtype=array.dtype, chunks=((np.nan,) * source.numblocks[0], *columns)
    )


def test_chunks_of_unknown_sizes_are_taken_as_they_are():
    operands = [unknown(array, 50, COLUMNS) for array in (LABELS, LOGITS, WEIGHTS["rows"])]
    for reduction in REDUCTIONS:
        options = {"reduction": reduction, "where": unknown(KEEP, 50, COLUMNS)}
        found = sce.sigmoid_cross_entropy_value_and_grad(
            *operands, **options, pos_weight=lazy(POS_WEIGHT, 7)
        )
        expected = sce.sigmoid_cross_entropy_value_and_grad(
            LABELS, LOGITS, WEIGHTS["rows"], reduction=reduction, where=KEEP, pos_weight=POS_WEIGHT
        )
        for result, value in zip(dask.compute(*found), expected, strict=True):
            assert_close(result, value)


def test_chunks_of_unknown_sizes_that_may_not_match_are_refused():
    logits = unknown(LOGITS, 50, COLUMNS)
    for labels in (LABELS, lazy(LABELS, 50, COLUMNS), unknown(LABELS, 30, COLUMNS)):
        with pytest.raises(ValueError, match=r"`multi_class_labels` can't .*compute_chunk_sizes"):
            sce.sigmoid_cross_entropy(labels, logits)
    loss = sce.sigmoid_cross_entropy(unknown(LABELS[5:], 50, COLUMNS), logits)
    with pytest.raises(ValueError, match="must have the same shape"):
        loss.compute()


# Four elements in chunks of two; the other mask leaves as many chunks, of one row each.
FEW = {
    "labels": np.array([1.0, 0, 1, 0]),
    "logits": np.array([2.0, -1, 0.5, 3]),
    "weights": np.array([1.0, 5, 1, 7]),
    "where": np.array([True, True, False, True]),
    "pos_weight": np.array([1.0, 2, 3, 4]),
}
EVERY, SOME = np.ones(4, bool), np.array([True, False, False, True])


def filtered(array, mask):
    return da.from_array(array, chunks=2)[da.from_array(mask, chunks=2)]


@pytest.mark.parametrize("name", ["weights", "where", "pos_weight"])
@pytest.mark.parametrize("reduction", [NONE, "weighted_mean"])
def test_a_block_of_one_row_is_not_broadcast(name, reduction):
    labels, logits = (filtered(FEW[key], EVERY) for key in ("labels", "logits"))
    options = {name: filtered(FEW[name], SOME), "reduction": reduction}
    found = [
        sce.sigmoid_cross_entropy(labels, logits, **options),
        *sce.sigmoid_cross_entropy_value_and_grad(labels, logits, **options),
    ]
    if name == "weights":
        found.append(sce.compute_weighted_loss(logits, **options))
    for result in found:
        with pytest.raises(
            ValueError, match=rf"`{name}` has a block of shape \(1,\) beside .*mask"
        ):
            result.compute()


def test_blocks_of_one_row_are_taken_where_all_operands_have_one():
    given = {name: filtered(array, SOME) for name, array in FEW.items()}
    expected = {name: array[SOME] for name, array in FEW.items()}
    for operands in (given, expected):
        operands["multi_class_labels"] = operands.pop("labels")
    assert_close(
        sce.sigmoid_cross_entropy(**given).compute(), sce.sigmoid_cross_entropy(**expected)
    )


def test_an_axis_of_length_one_is_broadcast_beside_chunks_of_unknown_sizes():
    labels, logits = unknown(LABELS, 50, COLUMNS), unknown(LOGITS, 50, COLUMNS)
    for weights in (WEIGHTS["columns"], lazy(WEIGHTS["columns"], 1, COLUMNS)):
        loss = sce.sigmoid_cross_entropy(labels, logits, weights)
        assert_close(loss.compute(), sce.sigmoid_cross_entropy(LABELS, LOGITS, WEIGHTS["columns"]))


def test_weights_with_fewer_rows_than_their_chunks_declare_are_refused():
    labels, logits = lazy(LABELS, 50, COLUMNS), lazy(LOGITS, 50, COLUMNS)
    declared = lazy(WEIGHTS["rows"], 50, 1)
    weights = declared.map_blocks(lambda block: block[:1], chunks=declared.chunks)
    with pytest.raises(ValueError, match=r"`weights` has a block of shape \(1, 1\) .* \(50, 1\)"):
        sce.sigmoid_cross_entropy(labels, logits, weights).compute()


def test_collected_losses_are_lazy():
    labels, logits = lazy(LABELS, 50, 70), lazy(LOGITS, 50, 70)
    with sce.collect_losses() as losses:
        loss = sce.sigmoid_cross_entropy(labels, logits, scope="head")
        sce.sigmoid_cross_entropy_value_and_grad(labels, logits, scope="tail")
        sce.sigmoid_cross_entropy(labels, logits, loss_collection=None)
        assert losses[0] is loss
        total = sce.get_total_loss(scope="head")
        assert isinstance(total, da.Array)
        dask.compute(losses[1], total, scheduler="synchronous")
    assert len(losses) == 2
    assert total.compute() == loss.compute()


# ---- Worker processes -----------------------------------------------------------------------


@pytest.fixture
def client():
    distributed = pytest.importorskip("distributed")
    with (
        # A worker on a busy machine is late, not lost.
        dask.config.set({"distributed.scheduler.worker-ttl": None}),
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
            silence_logs="CRITICAL",
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def wait_for(file):
    """Return the text of a file once it is there."""
    deadline = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < deadline, f"{file.name} did not come"
        time.sleep(0.02)
    return file.read_text()


def test_workers_have_a_thread_each_and_their_parent_has_its_own(client, monkeypatch):
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    if parallel._at_the_start("OMP_NUM_THREADS") is None:
        assert parallel._share() == np.inf
    assert set(client.run(parallel._share).values()) == {1}


def test_the_answer_is_right_though_a_worker_is_killed(client, tmp_path):
    started, killed = tmp_path / "started", tmp_path / "killed"

    def source(block, block_info):
        # The process that comes to this block stays here until it is killed.
        if block_info[0]["chunk-location"][0] == 4 and not killed.exists():
            started.with_suffix(".part").write_text(str(os.getpid()))
            started.with_suffix(".part").rename(started)
            time.sleep(600)
        return block

    logits = lazy(LOGITS, 30, COLUMNS).map_blocks(source, dtype=LOGITS.dtype, meta=LOGITS[:0])
    loss, gradient = sce.sigmoid_cross_entropy_value_and_grad(
        lazy(LABELS, 30, COLUMNS), logits, lazy(WEIGHTS["rows"], 30, 1), reduction="weighted_mean"
    )
    futures = client.compute([loss, gradient])
    worker = int(wait_for(started))
    assert worker in client.run(os.getpid).values()
    killed.touch()
    os.kill(worker, signal.SIGKILL)
    found = client.gather(futures)
    expected = sce.sigmoid_cross_entropy_value_and_grad(
        LABELS, LOGITS, WEIGHTS["rows"], reduction="weighted_mean"
    )
    for result, value in zip(found, expected, strict=True):
        assert_close(result, value)
    assert worker not in client.run(os.getpid).values()
