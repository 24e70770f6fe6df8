"""The loss of batches, added up in any order, is the loss of all their elements."""

import concurrent.futures
import copy
import functools
import itertools
import math
import os
import pickle
import random
import signal
import sys
import threading

import numpy as np
import pytest
from reference import BFLOAT16

import sce_numba as sce
from sce_numba import accumulator, exact_sum, loss_sums
from sce_numba.exact_sum import ExactSum

REDUCTIONS = [reduction for reduction in sce.Reduction if reduction != sce.Reduction.NONE]
ROWS, COLUMNS = 400, 37


def data(dtype, seed=3):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 4, (ROWS, COLUMNS)).astype(dtype)
    weights = {
        "one": 2.5,
        "rows": rng.random((ROWS, 1)).astype(np.float32),
        "elements": (rng.random(logits.shape) * (rng.random(logits.shape) < 0.8)),
    }
    return rng.random(logits.shape) < 0.3, logits, weights


def part(weights, rows):
    return weights[rows] if np.ndim(weights) else weights


def split(rng):
    """Return slices of rows, some of them empty."""
    cuts = sorted(rng.choices(range(ROWS + 1), k=rng.randrange(1, 12)))
    return [slice(*pair) for pair in itertools.pairwise([0, *cuts, ROWS])]


def accumulated(batches, labels, logits, weights, **settings):
    parts = []
    for rows in batches:
        loss = sce.LossAccumulator(**settings)
        loss.update(labels[rows], logits[rows], part(weights, rows))
        parts.append(loss)
    return parts


def merged(parts, rng):
    """Merge copies two by two, in whatever order, until there is one."""
    parts = pickle.loads(pickle.dumps(parts))
    while len(parts) > 1:
        rng.shuffle(parts)
        parts[0].merge(parts.pop())
    return parts[0]


def with_interruption(call, place, act):
    """Call, and at one of the bytecodes that add to an accumulator do ``act``; tell if it came."""
    files = {module.__file__ for module in (accumulator, loss_sums, exact_sum)}
    left = place

    def trace(frame, event, _):
        nonlocal left
        if frame.f_code.co_filename not in files:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left == -1:
                act()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)
    return left < 0


@pytest.mark.parametrize("dtype", [np.float16, BFLOAT16, np.float32, np.float64])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("kind", ["one", "rows", "elements"])
def test_any_split_in_any_order_is_within_one_ulp_of_one_call(dtype, reduction, kind):
    labels, logits, weights = data(dtype)
    settings = {"reduction": reduction, "label_smoothing": 0.1}
    expected = sce.sigmoid_cross_entropy(labels, logits, weights[kind], **settings)
    rng = random.Random(f"{dtype}{reduction}{kind}")
    for _ in range(50):
        parts = accumulated(split(rng), labels, logits, weights[kind], **settings)
        total = merged(parts, rng)
        found = total.result(dtype)
        assert found.dtype == logits.dtype
        ulp = np.spacing(np.maximum(abs(expected), abs(found)))
        assert abs(float(found) - float(expected)) <= float(ulp)
        assert merged(parts, rng).result().tobytes() == total.result().tobytes()


def test_pos_weight_and_where_are_taken_as_in_the_loss():
    labels, logits, weights = data(np.float64)
    keep, pos_weight = logits > -3, np.linspace(0.5, 3, COLUMNS)
    loss = sce.LossAccumulator("weighted_mean", pos_weight=pos_weight)
    for rows in (slice(0, 150), slice(150, None)):
        loss.update(labels[rows], logits[rows], weights["rows"][rows], keep[rows])
    expected = sce.sigmoid_cross_entropy(
        labels,
        logits,
        weights["rows"],
        reduction="weighted_mean",
        pos_weight=pos_weight,
        where=keep,
    )
    assert loss.result() == pytest.approx(expected, rel=4e-16)
    assert loss.count == logits.size


def test_a_pos_weight_of_nan_is_taken_as_in_the_loss():
    # It is a number like any other there, and equal to itself here.
    loss = sce.LossAccumulator(pos_weight=[math.nan, 1.0])
    loss.update([0.0, 1.0], [0.0, 0.0])
    expected = sce.sigmoid_cross_entropy([0.0, 1.0], [0.0, 0.0], pos_weight=[math.nan, 1.0])
    np.testing.assert_array_equal(loss.result(), expected)
    assert loss.merge(pickle.loads(pickle.dumps(loss))).count == 4


def test_a_pos_weight_that_changes_later_changes_nothing():
    weight = np.array([2.0])
    loss = sce.LossAccumulator(pos_weight=weight)
    weight[0] = 100.0
    loss.update([1.0], [0.0])
    assert loss.result() == pytest.approx(2 * math.log(2))


def test_updates_from_threads_add_up():
    labels, logits, weights = data(np.float32)
    batches = [slice(k, k + 10) for k in range(0, ROWS, 10)]
    loss, alone = sce.LossAccumulator(), sce.LossAccumulator()
    for rows in batches:
        alone.update(labels[rows], logits[rows], weights["rows"][rows])
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(
            pool.map(
                lambda rows: loss.update(labels[rows], logits[rows], weights["rows"][rows]), batches
            )
        )
    assert loss.result().tobytes() == alone.result().tobytes()
    assert loss.count == logits.size


def test_an_accumulator_may_be_merged_with_itself():
    loss = sce.LossAccumulator("weighted_sum")
    loss.update([1.0], [0.0])
    loss.merge(loss)
    assert loss.result() == pytest.approx(2 * math.log(2))


def three_parts(**settings):
    parts = [sce.LossAccumulator(**settings) for _ in range(3)]
    for number, part in enumerate(parts):
        part.update([1.0, 0.0], [0.5, float(number)])
    return parts


def test_merge_returns_what_was_merged_into():
    first, second, third = three_parts()
    assert first.merge(second).merge(third) is first
    assert first.count == 6


@pytest.mark.parametrize("settings", [{}, {"reduction": "weighted_sum", "pos_weight": [2.0, 3.0]}])
def test_a_sum_of_accumulators_is_a_new_one(settings):
    parts = three_parts(**settings)
    shown = list(map(repr, parts))
    total = sum(parts)
    assert repr(parts[0] + parts[1] + parts[2]) == repr(total)
    assert list(map(repr, parts)) == shown
    assert repr(parts[0].merge(parts[1]).merge(parts[2])) == repr(total)


def test_a_sum_of_one_accumulator_is_not_that_one():
    (part, *_) = three_parts()
    total = sum([part])
    total.update([1.0], [0.0])
    assert (part.count, total.count) == (2, 3)


def test_accumulators_are_added_to_nothing_else():
    for other in (1, 0.5, None, "0"):
        with pytest.raises(TypeError, match="unsupported operand"):
            sce.LossAccumulator() + other
        with pytest.raises(TypeError, match=r"unsupported operand|can only concatenate"):
            other + sce.LossAccumulator()
    with pytest.raises(ValueError, match="`other` must have the same reduction"):
        sce.LossAccumulator() + sce.LossAccumulator("weighted_sum")


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_without_updates_or_with_weights_of_zero_the_loss_is_zero(reduction):
    loss = sce.LossAccumulator(reduction)
    assert loss.result() == 0.0
    loss.update(np.zeros((0, 3)), np.zeros((0, 3), np.float32))
    loss.update([1.0], np.float32([2.0]), weights=0.0)
    assert loss.result() == 0.0
    assert loss.result().dtype == np.float64


def test_a_zero_denominator_gives_zero_beside_nan():
    loss = sce.LossAccumulator("weighted_mean")
    loss.update([1.0], [math.nan], weights=1.0)
    loss.update([1.0], [1.0], weights=-1.0)
    assert loss.result() == 0.0


def test_nan_and_infinity_stay():
    loss = sce.LossAccumulator()
    loss.update([1.0], [-math.inf])
    assert loss.result() == math.inf
    loss.update([1.0], [math.nan])
    assert math.isnan(loss.result())


@pytest.mark.parametrize("dtype", [np.float16, BFLOAT16, ">f4", np.float64])
def test_the_result_is_float64_whatever_the_logits_are(dtype):
    loss = sce.LossAccumulator()
    loss.update([1.0], np.zeros(1, dtype))
    assert type(loss.result()) is np.float64
    assert loss.result() == pytest.approx(math.log(2), rel=1e-7)


def test_logits_of_all_dtypes_go_into_one_accumulator():
    loss = sce.LossAccumulator()
    for dtype in (np.float16, BFLOAT16, np.float64, ">f4", BFLOAT16):
        loss.update([1.0], np.zeros(1, dtype))
    assert loss.count == 5
    assert loss.result() == pytest.approx(math.log(2), rel=1e-7)


def test_a_sum_may_be_more_than_the_dtype_of_its_logits_holds():
    loss = sce.LossAccumulator("weighted_sum")
    loss.update(np.zeros(100_000), np.ones(100_000, np.float16))
    assert loss.result() == pytest.approx(1e5 * math.log1p(math.e), rel=1e-7)
    assert loss.result(np.float16) == math.inf


@pytest.mark.parametrize("dtype", ["float16", BFLOAT16, np.float32, np.dtype(np.float64)])
def test_the_result_is_rounded_to_the_dtype_that_is_asked_for(dtype):
    loss = sce.LossAccumulator()
    loss.update([1.0], [0.3])
    assert loss.result(dtype).dtype == np.dtype(dtype)
    assert loss.result(dtype) == loss.result().astype(dtype)


@pytest.mark.parametrize("dtype", [int, "f16", "complex64", "no dtype", bool, "V2", object()])
def test_a_result_that_is_no_float_is_refused(dtype):
    with pytest.raises(TypeError, match="Argument `dtype` must be float8_e4m3fn, float8_"):
        sce.LossAccumulator().result(dtype)


@pytest.mark.parametrize("change", ["update", "merge", "reset"])
def test_a_change_that_is_interrupted_is_made_whole_or_not_at_all(change):
    other = sce.LossAccumulator("weighted_sum")
    other.update([1.0, 1.0], [0.0, 0.0])
    changes = {
        "update": lambda loss: loss.update([1.0, 1.0], [0.0, 0.0]),
        "merge": lambda loss: loss.merge(other),
        "reset": lambda loss: loss.reset(),
    }

    def interrupt():
        raise KeyboardInterrupt

    before, after = [sce.LossAccumulator("weighted_sum") for _ in range(2)]
    for loss in (before, after):
        loss.update([0.0], [0.0])
    changes[change](after)
    found = set()
    for place in itertools.count():
        loss = pickle.loads(pickle.dumps(before))
        came = with_interruption(lambda loss=loss: changes[change](loss), place, interrupt)
        found.add(repr(loss))
        if not came:
            break
    assert place > 20
    assert found == {repr(before), repr(after)}


@pytest.mark.parametrize("change", ["update", "merge"])
def test_an_update_inside_of_another_counts_as_well(change):
    # As of a signal handler, or of `__del__`.
    other = sce.LossAccumulator("weighted_sum")
    other.update([1.0], [0.0])
    for place in itertools.count():
        loss = sce.LossAccumulator("weighted_sum")
        call = {
            "update": functools.partial(loss.update, [1.0], [0.0]),
            "merge": functools.partial(loss.merge, other),
        }[change]
        inner = functools.partial(loss.update, [1.0, 1.0], [0.0, 0.0])
        came = with_interruption(call, place, inner)
        if not came:
            break
        assert loss.count == 3, place
        assert loss.result() == pytest.approx(3 * math.log(2)), place
    assert place > 20


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system can't fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_child_may_be_forked_while_another_thread_updates(monkeypatch):
    inside, go_on = threading.Event(), threading.Event()
    add = ExactSum.add

    def wait(self, value):
        if threading.current_thread() is not threading.main_thread() and value:
            inside.set()
            go_on.wait()
        add(self, value)

    loss = sce.LossAccumulator("weighted_sum")
    loss.update([1.0], [0.0])
    monkeypatch.setattr(ExactSum, "add", wait)
    thread = threading.Thread(target=loss.update, args=([1.0], [0.0]))
    thread.start()
    inside.wait()
    child = os.fork()
    if not child:
        try:
            signal.alarm(20)  # whose action is to end the child
            loss.update([1.0], [0.0])
        finally:
            os._exit(loss.count)
    go_on.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    assert loss.count == 2


def test_it_is_pickled_and_copied_as_it_is():
    loss = sce.LossAccumulator("weighted_sum", 0.1, [2.0])
    loss.update([1.0], [0.5])
    shown = repr(loss)
    for same in (pickle.loads(pickle.dumps(loss)), copy.copy(loss), copy.deepcopy(loss)):
        assert repr(same) == shown
        same.update([1.0], [0.5])
        assert same.count == 2
    assert repr(loss) == shown


def test_a_pickle_with_the_dtype_of_logits_is_read():
    # As they were when the result had that dtype.
    loss = sce.LossAccumulator("weighted_sum")
    loss.__setstate__(
        {
            "_reduction": sce.Reduction.SUM,
            "_label_smoothing": 0.0,
            "_pos_weight": None,
            "_sums": loss_sums.LossSums(1.5, 1.0),
            "_count": 3,
            "_dtype": np.dtype(np.float32),
        }
    )
    assert repr(loss) == "LossAccumulator(reduction='weighted_sum', count=3, value=1.5)"
    assert "_dtype" not in loss.__getstate__()


def test_a_pickle_with_each_sum_apart_is_read():
    one, three = exact_sum.ExactSum(), exact_sum.ExactSum()
    one.add(1.0)
    three.add(3.0)
    state = {
        "_reduction": sce.Reduction.MEAN,
        "_label_smoothing": 0.0,
        "_pos_weight": None,
        "_numerator": three,
        "_denominator": one,
        "_count": 2,
        "_dtype": np.dtype(np.float32),
    }
    loss = sce.LossAccumulator()
    loss.__setstate__(state)
    assert repr(loss) == "LossAccumulator(reduction='weighted_mean', count=2, value=3.0)"
    assert pickle.loads(pickle.dumps(loss)).merge(loss).count == 4
    del state["_numerator"]
    with pytest.raises(ValueError, match="can't read: it lacks _sums"):
        loss.__setstate__(state)
    assert loss.count == 2


def test_what_it_is_shows():
    loss = sce.LossAccumulator("weighted_mean")
    loss.update([[True], [False]], [[0.0], [0.0]])
    shown = f"LossAccumulator(reduction='weighted_mean', count=2, value={loss.result()})"
    assert repr(loss) == shown


def test_a_refused_update_leaves_it_as_it_was():
    loss = sce.LossAccumulator()
    loss.update([1.0], [0.5])
    before = repr(loss)
    for arguments in [([1.0, 0.0], [0.5]), ([1.0], [1]), ([1.0], [0.5], [[1.0]]), (None, [0.5])]:
        with pytest.raises((ValueError, TypeError), match=r"labels|logits|weights"):
            loss.update(*arguments)
    assert repr(loss) == before


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"reduction": "none"}, "another reduction"),
        ({"reduction": "mean"}, "Invalid Reduction Key 'mean'"),
        ({"label_smoothing": 1.5}, "`label_smoothing` must be a number from 0 to 1"),
    ],
)
def test_settings_are_checked_at_once(settings, words):
    with pytest.raises(ValueError, match=words):
        sce.LossAccumulator(**settings)
    with pytest.raises(TypeError, match="`pos_weight`"):
        sce.LossAccumulator(pos_weight="2")


@pytest.mark.parametrize(
    "settings", [{"reduction": "weighted_sum"}, {"label_smoothing": 0.1}, {"pos_weight": [1, 2]}]
)
def test_accumulators_of_other_settings_are_refused(settings):
    with pytest.raises(ValueError, match=f"`other` must have the same {next(iter(settings))}"):
        sce.LossAccumulator(pos_weight=[1, 3]).merge(
            sce.LossAccumulator(**({"pos_weight": [1, 3]} | settings))
        )
    with pytest.raises(TypeError, match="`other` must be a LossAccumulator, got int"):
        sce.LossAccumulator().merge(3)


def test_a_sum_is_exact():
    rng = random.Random(5)
    values = [rng.uniform(-1, 1) * 2.0 ** rng.randrange(-1070, 1000) for _ in range(2000)]
    one, total = ExactSum(), ExactSum()
    one.add(1.0)
    for value in values:
        total.add(value)
    assert total / one == math.fsum(values)
    total.add(1.7e308)
    total.add(1.7e308)
    assert total / one == math.inf
