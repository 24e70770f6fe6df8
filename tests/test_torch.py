"""The loss as a PyTorch function: right values and derivatives, however they are asked for."""

import gc
import subprocess
import sys
import threading

import numpy as np
import pytest

import sce_numba as sce

torch = pytest.importorskip("torch")

from sce_numba.torch import sigmoid_cross_entropy  # noqa: E402

loss_of = torch.nn.functional.binary_cross_entropy_with_logits

ROWS, COLUMNS = 30, 7
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def data(dtype=torch.float32, rows=ROWS, columns=COLUMNS):
    """Return labels, and logits that require a gradient."""
    random = torch.Generator().manual_seed(7)
    logits = 3 * torch.randn(rows, columns, generator=random, dtype=torch.float64)
    labels = torch.rand(rows, columns, generator=random) < 0.4
    return labels, logits.to(dtype).requires_grad_()


def address(tensor):
    return (
        tensor.__array_interface__["data"][0]
        if isinstance(tensor, np.ndarray)
        else tensor.data_ptr()
    )


def options():
    random = torch.Generator().manual_seed(11)
    return {
        "weights": torch.rand(ROWS, 1, generator=random),
        "label_smoothing": 0.1,
        "pos_weight": 0.5 + torch.rand(COLUMNS, generator=random),
        "where": torch.rand(ROWS, COLUMNS, generator=random) < 0.9,
    }


# ---- Values and derivatives -----------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", sce.Reduction)
def test_loss_and_gradient_are_those_of_the_arrays(dtype, reduction):
    labels, logits = data(dtype)
    given = options() | {"reduction": reduction}
    loss = sigmoid_cross_entropy(labels, logits, **given)
    loss.backward(torch.ones_like(loss))
    values, gradient = sce.sigmoid_cross_entropy_value_and_grad(labels, logits.detach(), **given)
    for found, expected in ((loss.detach(), values), (logits.grad, gradient)):
        assert found.dtype == dtype
        assert found.shape == expected.shape
        np.testing.assert_array_equal(found.double().numpy(), expected.astype(np.float64))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("given", [{}, options()], ids=["plain", "all options"])
@pytest.mark.parametrize("reduction", sce.Reduction)
def test_gradcheck_passes_once_and_twice(reduction, given):
    labels, logits = data(torch.float64)

    def loss(logits):
        return sigmoid_cross_entropy(labels, logits, reduction=reduction, **given)

    assert torch.autograd.gradcheck(loss, (logits,))
    assert torch.autograd.gradgradcheck(loss, (logits,))


def test_it_is_pytorchs_loss():
    labels, logits = data(torch.float64)
    for reduction, theirs in (("none", "none"), ("weighted_sum", "sum"), ("weighted_mean", "mean")):
        ours = sigmoid_cross_entropy(labels, logits, reduction=reduction)
        other = loss_of(logits, labels.double(), reduction=theirs)
        torch.testing.assert_close(ours, other)
        seed = torch.rand_like(ours)
        torch.testing.assert_close(
            torch.autograd.grad(ours, logits, seed), torch.autograd.grad(other, logits, seed)
        )


def test_gradient_flows_on_through_a_model():
    labels, features = data()
    model = torch.nn.Linear(COLUMNS, COLUMNS)
    (3 * sigmoid_cross_entropy(labels, model(features)) + model.weight.sum()).backward()
    found = [parameter.grad.clone() for parameter in model.parameters()] + [features.grad]
    model.zero_grad()
    features.grad = None
    (3 * loss_of(model(features), labels.float()) + model.weight.sum()).backward()
    expected = [parameter.grad for parameter in model.parameters()] + [features.grad]
    torch.testing.assert_close(found, expected)


def test_the_third_derivative_is_refused():
    labels, logits = data()
    loss = sigmoid_cross_entropy(labels, logits)
    (first,) = torch.autograd.grad(loss, logits, create_graph=True)
    with pytest.raises(RuntimeError, match="no third derivative"):
        torch.autograd.grad(first.pow(2).sum(), logits, create_graph=True)


# ---- Backward passes ------------------------------------------------------------------------


def test_a_graph_that_is_retained_gives_the_same_gradient_again():
    labels, logits = data()
    loss = sigmoid_cross_entropy(labels, logits)
    (first,) = torch.autograd.grad(loss, logits, retain_graph=True)
    expected = first.clone()
    first.mul_(100)  # whoever gets a gradient may change it
    (second,) = torch.autograd.grad(loss, logits, 2 * torch.ones(()), retain_graph=True)
    assert torch.equal(second, 2 * expected)
    second.zero_()
    loss.backward()
    assert torch.equal(logits.grad, expected)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        loss.backward()


def test_gradients_of_several_losses_add_up():
    labels, logits = data()
    one, two = sigmoid_cross_entropy(labels, logits), sigmoid_cross_entropy(~labels, logits)
    single = [torch.autograd.grad(loss, logits, retain_graph=True)[0] for loss in (one, two)]
    (one + two).backward()
    torch.testing.assert_close(logits.grad, single[0] + single[1])
    kept = logits.grad.clone()
    sigmoid_cross_entropy(labels, logits).backward()
    torch.testing.assert_close(logits.grad, kept + single[0])


def test_without_gradients_none_is_computed():
    labels, logits = data()
    with torch.no_grad():
        loss = sigmoid_cross_entropy(labels, logits)
    assert not loss.requires_grad
    assert loss == sigmoid_cross_entropy(labels, logits.detach())
    assert not sigmoid_cross_entropy(labels, logits.detach()).requires_grad
    with torch.inference_mode():
        assert sigmoid_cross_entropy(labels, logits) == loss


def test_any_strides_will_do():
    labels, logits = data(torch.float64, 24, 10)
    for view in (
        lambda x: x.t(),
        lambda x: x[::2, 1::3],
        lambda x: x[:, :1].expand(24, 10),
        lambda x: x.reshape(2, 3, 4, 10).permute(0, 3, 1, 2),
        lambda x: x[0, 0],
        lambda x: x[:0],
    ):
        logits.grad = None
        sigmoid_cross_entropy(view(labels), view(logits)).backward()
        ours, logits.grad = logits.grad, None
        if view(logits).numel():
            loss_of(view(logits), view(labels).double()).backward()
            torch.testing.assert_close(ours, logits.grad)
        else:
            assert not ours.any()


def test_threads_may_train_at_the_same_time():
    labels, logits = data(rows=600, columns=100)
    sigmoid_cross_entropy(labels, logits).backward()
    found = []

    def train():
        for _ in range(20):
            own = logits.detach().clone().requires_grad_()
            sigmoid_cross_entropy(labels, own).backward()
            found.append(torch.equal(own.grad, logits.grad))

    threads = [threading.Thread(target=train) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 80


# ---- Memory ---------------------------------------------------------------------------------


def test_neither_operands_nor_gradient_are_copied(monkeypatch):
    labels, logits = data(torch.bfloat16)
    weights = torch.rand(ROWS, 1)
    seen = {}
    compute = sce.losses.sigmoid_cross_entropy_value_and_grad

    def spy(**given):
        seen.update(given)
        seen["result"] = compute(**given)
        return seen["result"]

    monkeypatch.setattr(sce.losses, "sigmoid_cross_entropy_value_and_grad", spy)
    sigmoid_cross_entropy(labels, logits, weights).backward()
    assert address(seen["logits"]) == address(logits)
    assert address(seen["multi_class_labels"]) == address(labels)
    assert address(seen["weights"]) == address(weights)
    assert address(seen["result"][1]) == address(logits.grad)


@pytest.mark.parametrize("dtype", DTYPES)
def test_memory_of_a_gradient_is_used_again_once_nobody_holds_it(dtype):
    labels, logits = data(dtype, 1024, 1024)

    def gradient():
        return torch.autograd.grad(sigmoid_cross_entropy(labels, logits), logits)[0]

    first = gradient()
    values, view = first.clone(), first[10:].numpy() if dtype != torch.bfloat16 else first[10:]
    taken = address(first)
    del first
    gc.collect()
    other = gradient()  # the view is still there
    assert address(other) != taken
    other.zero_()
    assert torch.equal(torch.as_tensor(view), values[10:])
    taken = address(other)
    del view, other
    gc.collect()
    again = gradient()
    assert address(again) == taken
    assert torch.equal(again, values)


# ---- Arguments ------------------------------------------------------------------------------


def test_what_else_requires_a_gradient_is_refused():
    labels, logits = data()
    weights = torch.ones(ROWS, 1, requires_grad=True)
    with pytest.raises(ValueError, match="`weights` requires a gradient, but only logits"):
        sigmoid_cross_entropy(labels, logits, weights)
    with pytest.raises(ValueError, match="`multi_class_labels` requires a gradient"):
        sigmoid_cross_entropy(logits, logits.detach())


def test_what_is_not_on_the_cpu_is_refused():
    labels, logits = data()
    with pytest.raises(TypeError, match=r"`logits` must be a strided tensor on the CPU, .* meta"):
        sigmoid_cross_entropy(labels, logits.to("meta"))
    with pytest.raises(TypeError, match="`multi_class_labels` must be a strided tensor on the CPU"):
        sigmoid_cross_entropy(labels.to("meta"), logits)
    with pytest.raises(TypeError, match="`logits` must be a strided tensor"):
        sigmoid_cross_entropy(labels, logits.detach().to_sparse())
    with pytest.raises(TypeError, match="`logits` must be a PyTorch tensor, got ndarray"):
        sigmoid_cross_entropy(labels, logits.detach().numpy())


def test_bad_arguments_are_refused_as_those_of_arrays_are():
    labels, logits = data()
    with pytest.raises(ValueError, match="`multi_class_labels` and `logits` must have the same"):
        sigmoid_cross_entropy(labels[1:], logits)
    with pytest.raises(ValueError, match="weights can not be broadcast"):
        sigmoid_cross_entropy(labels, logits, torch.ones(ROWS))
    with pytest.raises(TypeError, match="`logits` must be float16"):
        sigmoid_cross_entropy(labels, labels.int())
    with pytest.raises(ValueError, match="Invalid Reduction Key 'mean'"):
        sigmoid_cross_entropy(labels, logits, reduction="mean")


# ---- torch.compile --------------------------------------------------------------------------

COMPILED = """
import torch
from sce_numba.torch import sigmoid_cross_entropy
assert "torch._dynamo" not in __import__("sys").modules
torch._dynamo.config.error_on_recompile = True
model = torch.nn.Linear(4, 3)
features, labels = torch.ones(5, 4), torch.ones(5, 3)
step = lambda: 2 * sigmoid_cross_entropy(labels, 3 * model(features))
step().backward()
expected = model.weight.grad.clone()
compiled = torch.compile(step, backend="aot_eager")
for _ in range(3):
    model.zero_grad()
    compiled().backward()
    torch.testing.assert_close(model.weight.grad, expected)
print("the same")
"""


def test_it_runs_inside_a_function_that_is_compiled():
    program = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True)
    assert program.stdout == "the same\n", program.stderr
