"""Loss collections: recorded inside a block, in nobody else's, and nowhere outside one."""

import asyncio
import threading

import numpy as np
import pytest

import sce_numba as sce

# TensorFlow's own AddLossTest.
LOGITS = np.array([[1.2, 0.4, -1.0, -1.1]] * 2)
LABELS = np.array([[1, 0, 0, 1]] * 2)


def loss(**keywords):
    return sce.sigmoid_cross_entropy(LABELS, LOGITS, **keywords)


def test_nothing_is_recorded_outside_a_block():
    loss()
    sce.add_loss(1.0)
    assert sce.get_losses() == []


def test_a_block_records_each_loss_once_in_order():
    with sce.collect_losses() as losses:
        first = loss()
        second = loss(weights=2.0)
        third = sce.compute_weighted_loss([1.0, 2.0])
        assert sce.get_losses() == [first, second, third]
    assert list(losses) == [first, second, third]
    assert sce.get_losses() == []


def test_no_collection_records_nothing():
    with sce.collect_losses() as losses:
        loss(loss_collection=None)
        sce.compute_weighted_loss([1.0], loss_collection=None)
        sce.add_loss(1.0, None)
    assert len(losses) == 0


def test_the_element_wise_function_records_nothing():
    with sce.collect_losses() as losses:
        sce.sigmoid_cross_entropy_with_logits(labels=LABELS, logits=LOGITS)
    assert len(losses) == 0


def test_a_failed_call_records_nothing():
    with sce.collect_losses() as losses, pytest.raises(ValueError, match="weights"):
        loss(weights=np.ones(7))
    assert len(losses) == 0


WRONG = {
    "multi_class_labels": np.zeros((2, 3)),
    "logits": np.zeros((2, 4), int),
    "weights": np.ones(7),
    "label_smoothing": 2,
    "reduction": "mean",
    "pos_weight": "much",
    "where": np.ones((3, 4), bool),
    "out": np.zeros((2, 4), np.float32),
    "grad_out": np.zeros((4, 2)),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("function", ["sigmoid_cross_entropy", "value_and_grad", "hessian"])
def test_a_refused_call_records_nothing_and_leaves_outputs_alone(function, wrong):
    arguments = {"multi_class_labels": LABELS, "logits": LOGITS}
    call, outs = sce.sigmoid_cross_entropy, ["out"]
    if function == "value_and_grad":
        call, outs = sce.sigmoid_cross_entropy_value_and_grad, ["out", "grad_out"]
    if function == "hessian":
        call, outs = sce.sigmoid_cross_entropy_gradient_hessian, ["grad_out", "hess_out"]
    else:
        arguments["reduction"] = "none"
    if wrong in ("out", "grad_out") and wrong not in outs:
        wrong = outs[0]
    if wrong == "reduction" and function == "hessian":
        wrong = "weights"
    memory = {name: np.full(LOGITS.shape, 7.0) for name in outs}
    wrong_value = {wrong: WRONG.get(wrong, WRONG["grad_out"])}
    with sce.collect_losses() as losses, pytest.raises((ValueError, TypeError)):
        call(**arguments | memory | wrong_value)
    assert len(losses) == 0
    for array in memory.values():
        assert (array == 7).all()


def test_collections_are_apart():
    with sce.collect_losses() as losses:
        loss()
        mine = loss(loss_collection="mine")
        assert sce.get_losses(loss_collection="mine") == [mine]
        assert sce.get_total_loss(loss_collection="mine") == mine
    assert len(losses) == 1


def test_scopes_match_from_their_start_and_need_a_name():
    with sce.collect_losses():
        one, two, three = loss(scope="net/one"), loss(scope="net/two"), loss(scope="other/net")
        loss()
        assert sce.get_losses("net") == [one, two]
        assert sce.get_losses(".*net") == [one, two, three]
        assert sce.get_total_loss("other") == three


def test_the_innermost_block_records():
    with sce.collect_losses() as outer:
        loss()
        with sce.collect_losses() as inner:
            loss()
            loss()
        assert (len(outer), len(inner)) == (1, 2)


def test_the_total_is_the_sum():
    with sce.collect_losses():
        values = [loss(weights=w) for w in (1.0, 2.0, 3.0)]
        assert sce.get_total_loss() == values[0] + values[1] + values[2]
        assert sce.get_total_loss().dtype == np.float64


def test_nothing_to_sum_is_an_error():
    with pytest.raises(ValueError, match=r"No losses to sum.*collect_losses"):
        sce.get_total_loss()
    with sce.collect_losses(), pytest.raises(ValueError, match="No losses to sum"):
        sce.get_total_loss()


def test_losses_that_do_not_match_are_not_summed():
    with sce.collect_losses():
        loss()
        loss(reduction=sce.Reduction.NONE)
        with pytest.raises(ValueError, match=r"same shape and dtype.*\(\).*\(2, 4\)"):
            sce.get_total_loss()


def test_the_total_of_unreduced_losses_is_a_new_array():
    with sce.collect_losses() as losses:
        loss(reduction="none")
        total = sce.get_total_loss()
    assert not np.shares_memory(total, losses[0])


def test_threads_do_not_see_each_others_blocks():
    seen = []
    with sce.collect_losses() as losses:
        thread = threading.Thread(target=lambda: seen.append((loss(), sce.get_losses())))
        thread.start()
        thread.join()
    assert seen[0][1] == []
    assert len(losses) == 0


def test_tasks_do_not_see_each_others_blocks():
    async def collect(count):
        with sce.collect_losses() as losses:
            for _ in range(count):
                loss()
                await asyncio.sleep(0)
        return len(losses)

    async def both():
        return await asyncio.gather(collect(2), collect(5))

    assert asyncio.run(both()) == [2, 5]
