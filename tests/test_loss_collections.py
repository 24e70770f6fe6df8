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
        assert sce.get_total_loss(scope="other") == three


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
        sce.add_loss(np.zeros((2, 4)))
        with pytest.raises(ValueError, match=r"same shape and dtype.*\(\).*\(2, 4\)"):
            sce.get_total_loss()


@pytest.mark.parametrize("call", ["loss", "value_and_grad", "compute_weighted_loss"])
def test_unreduced_losses_stay_out_of_the_total_and_say_so(call):
    calls = {
        "loss": loss,
        "value_and_grad": lambda **options: sce.sigmoid_cross_entropy_value_and_grad(
            LABELS, LOGITS, **options
        ),
        "compute_weighted_loss": lambda **options: sce.compute_weighted_loss(LOGITS, **options),
    }
    with sce.collect_losses() as losses:
        one = loss()
        with pytest.warns(UserWarning, match=r"`Reduction.NONE` .*`loss_collection=None`") as said:
            calls[call](reduction="none")
        assert {warning.filename for warning in said} == {__file__}
        calls[call](reduction="none", loss_collection=None)
        assert sce.get_total_loss() == one
    assert len(losses) == 1


@pytest.mark.parametrize("library", ["dask.array", "xarray"])
def test_unreduced_losses_of_other_libraries_say_so_at_the_call(library):
    module = pytest.importorskip(library)
    logits = module.from_array(LOGITS) if library == "dask.array" else module.DataArray(LOGITS)
    with sce.collect_losses() as losses:
        with pytest.warns(UserWarning, match=r"`Reduction.NONE`") as said:
            sce.sigmoid_cross_entropy(LABELS, logits, reduction="none")
        assert {warning.filename for warning in said} == {__file__}
    assert len(losses) == 0


def test_unreduced_losses_may_have_a_collection_of_their_own():
    with sce.collect_losses():
        elements = loss(reduction="none", loss_collection="elements")
        (kept,) = sce.get_losses(loss_collection="elements")
        assert kept is elements
        total = sce.get_total_loss(loss_collection="elements")
    np.testing.assert_array_equal(total, elements)
    assert not np.shares_memory(total, elements)


# ---- TensorFlow's signatures -----------------------------------------------------------------


def test_the_total_has_the_signature_of_tensorflow():
    with sce.collect_losses():
        head, tail = loss(scope="head"), loss(weights=2.0, scope="tail")
        for total in (
            sce.get_total_loss(True),
            sce.get_total_loss(False),
            sce.get_total_loss(True, "total"),
            sce.get_total_loss(add_regularization_losses=True, name="total_loss", scope=None),
        ):
            assert total == head + tail
        assert sce.get_total_loss(True, "total", "tail") == tail
        assert sce.get_total_loss(scope="head") == head


def test_a_scope_in_the_first_place_is_told_its_name():
    with sce.collect_losses():
        loss(scope="head")
        with pytest.raises(TypeError, match=r"`get_total_loss\(scope='head'\)`"):
            sce.get_total_loss("head")


def test_regularization_losses_have_a_collection_of_their_own_and_join_the_total():
    key = sce.GraphKeys.REGULARIZATION_LOSSES
    assert key == "regularization_losses"
    assert sce.get_regularization_losses() == []
    with sce.collect_losses() as losses:
        one = loss()
        assert sce.get_regularization_loss() == 0
        sce.add_loss(np.float64(0.25), key)
        named = loss(scope="net/one", loss_collection=key)
        assert list(losses) == sce.get_losses() == [one]
        assert sce.get_regularization_losses() == [0.25, named]
        assert sce.get_regularization_losses("net") == [named]
        assert sce.get_regularization_loss() == 0.25 + named
        assert sce.get_regularization_loss("net", "name") == named
        assert sce.get_total_loss() == one + 0.25 + named
        assert sce.get_total_loss(add_regularization_losses=False) == one
        assert sce.get_total_loss(scope="net") == named


def test_regularization_alone_has_a_total():
    with sce.collect_losses():
        sce.add_loss(0.5, sce.GraphKeys.REGULARIZATION_LOSSES)
        assert sce.get_total_loss() == 0.5
        with pytest.raises(ValueError, match="No losses to sum"):
            sce.get_total_loss(False)


# ---- Tensors ---------------------------------------------------------------------------------


def test_the_total_of_tensors_of_pytorch_has_their_gradient():
    torch = pytest.importorskip("torch")
    logits = torch.tensor([0.5, -1.0], requires_grad=True)
    for count in (1, 3):
        logits.grad = None
        with sce.collect_losses():
            for _ in range(count):
                sce.add_loss((logits**2).sum())
            total = sce.get_total_loss()
        assert total.item() == 1.25 * count
        total.backward()
        assert logits.grad.tolist() == [count, -2.0 * count]


def test_tensors_of_other_dtypes_are_not_summed():
    torch = pytest.importorskip("torch")
    with sce.collect_losses():
        sce.add_loss(torch.tensor(1.0))
        sce.add_loss(torch.tensor(1.0, dtype=torch.float64))
        with pytest.raises(ValueError, match=r"same shape and dtype.*torch\.float32.*float64"):
            sce.get_total_loss()


class Tensor:
    """What a tensor of TensorFlow has, which need not be installed: no copies, no such shapes."""

    dtype = np.dtype(np.float32)
    __hash__ = None

    def __init__(self, value):
        self.value = value
        self.shape = iter(())

    def __mul__(self, other):
        return Tensor(self.value * other)

    def __add__(self, other):
        return Tensor(self.value + other.value)


def test_the_total_of_tensors_of_tensorflow_is_a_tensor():
    for count in (1, 2):
        with sce.collect_losses():
            for _ in range(count):
                sce.add_loss(Tensor(1.5))
            total = sce.get_total_loss()
        assert type(total) is Tensor
        assert total.value == 1.5 * count


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
