"""The loss as a PyTorch function: right values and derivatives, however they are asked for."""

import gc
import subprocess
import sys
import threading
from collections import deque

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


def test_the_third_derivative_is_that_of_pytorch():
    labels, logits = data(torch.float64)

    def third(loss):
        for _ in range(3):
            (loss,) = torch.autograd.grad(loss.sum(), logits, create_graph=True)
        return loss

    ours = third(sigmoid_cross_entropy(labels, logits))
    torch.testing.assert_close(ours, third(loss_of(logits, labels.double())))


def loss_of_soft_labels(reduction, given):
    """Return a loss of labels and logits, and both of these, which require gradients."""
    labels, logits = data(torch.float64)
    labels = (0.1 + 0.8 * labels.double()).requires_grad_()

    def loss(labels, logits):
        return sigmoid_cross_entropy(labels, logits, reduction=reduction, **given)

    return loss, labels, logits


@pytest.mark.parametrize("given", [{}, options()], ids=["plain", "all options"])
@pytest.mark.parametrize("reduction", sce.Reduction)
def test_labels_that_require_a_gradient_get_theirs(reduction, given):
    loss, labels, logits = loss_of_soft_labels(reduction, given)
    assert torch.autograd.gradcheck(loss, (labels, logits))
    assert torch.autograd.gradcheck(loss, (labels, logits.detach()))
    assert torch.autograd.gradgradcheck(loss, (labels, logits))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_gradient_of_labels_is_that_of_pytorch(dtype):
    labels, logits = data(dtype)
    labels = labels.to(dtype).requires_grad_()
    q = options()["pos_weight"].to(dtype)
    for extra in {}, {"pos_weight": q}:
        ours = torch.autograd.grad(
            3 * sigmoid_cross_entropy(labels, logits, **extra), (labels, logits)
        )
        theirs = torch.autograd.grad(3 * loss_of(logits, labels, **extra), (labels, logits))
        torch.testing.assert_close(ours, theirs)


# ---- Half precision -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("reduction", sce.Reduction)
def test_half_gradients_are_rounded_after_they_are_scaled(dtype, reduction):
    labels, logits = data(dtype, 256, 512)
    random = torch.Generator().manual_seed(3)
    given = {"weights": torch.rand(256, 1, generator=random), "reduction": reduction}
    loss = sigmoid_cross_entropy(labels, logits, **given)
    seed = torch.full_like(loss, 1.0 if reduction == "weighted_sum" else 1024.0)
    loss.backward(seed)
    wide = logits.detach().double().requires_grad_()
    sigmoid_cross_entropy(labels, wide, **given).backward(seed.double())
    error = (logits.grad.double() - wide.grad).abs()
    half_a_step = torch.finfo(dtype).eps / 2
    smallest = 6e-8 if dtype == torch.float16 else 0
    assert (error <= 1.01 * half_a_step * wide.grad.abs() + smallest / 2).all()


def test_loss_scaling_keeps_small_float16_gradients():
    labels, logits = data(torch.float16, 1024, 1024)
    sigmoid_cross_entropy(labels, logits).backward(torch.tensor(32768.0, dtype=torch.float16))
    wide = logits.detach().double().requires_grad_()
    (32768.0 * loss_of(wide, labels.double())).backward()
    assert (logits.grad == 0).double().mean() < 1e-4  # rounded first, 3 % are
    error = (logits.grad.double() - wide.grad).norm() / wide.grad.norm()
    assert error < 3e-4


@pytest.fixture
def gradients(monkeypatch):
    """Return a list that gets an entry for every gradient that is computed."""
    module, found = sys.modules["sce_numba.torch"], []

    def counted(compute):
        def spy(*args, **given):
            found.append(1)
            return compute(*args, **given)

        return spy

    monkeypatch.setattr(module, "_scales", deque([1.0, 1.0], 2), raising=False)
    for owner, name in (
        (sce.losses, "sigmoid_cross_entropy_value_and_grad"),
        (module, "gradient_of_part"),
    ):
        monkeypatch.setattr(owner, name, counted(getattr(owner, name)))
    return found


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scales", [[1.0, 1.0, 1.0], [64.0, 64.0, 64.0], [8.0, 64.0, 8.0]])
@pytest.mark.parametrize("reduction", ["none", "weighted_mean"])
def test_a_half_gradient_is_computed_once_a_step(dtype, scales, reduction, gradients):
    labels, logits = data(dtype)
    given = options() | {"reduction": reduction}
    values = sce.sigmoid_cross_entropy(labels, logits.detach(), **given)
    found = []
    for scale in [*scales[:2], *scales]:
        gradients.clear()
        loss = sigmoid_cross_entropy(labels, logits, **given)
        found += torch.autograd.grad(loss, logits, torch.full_like(loss, scale))
        np.testing.assert_array_equal(loss.detach().double(), values.astype(np.float64))
    assert len(gradients) == 1
    # Which scale was expected does not show in the bits.
    loss = sigmoid_cross_entropy(labels, logits, **given)
    again = torch.autograd.grad(loss, logits, torch.full_like(loss, 2.0), retain_graph=True)
    again = torch.autograd.grad(loss, logits, torch.full_like(loss, scales[-1]))
    assert torch.equal(found[-1], again[0])
    assert torch.equal(found[-1], found[-3 if scales[0] == scales[-1] else -1])


@pytest.mark.parametrize("scale", [float("inf"), float("nan"), 0.0])
def test_a_scale_that_is_not_finite_shows_in_half_gradients(scale):
    labels, logits = data(torch.float16)
    sigmoid_cross_entropy(labels, logits).backward(torch.tensor(scale, dtype=torch.float16))
    assert not logits.grad.any() if scale == 0 else not logits.grad.isfinite().any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_losses_are_float32_under_autocast_as_pytorchs_are(dtype):
    labels, features = data(torch.float32, 64, 32)
    model = torch.nn.Linear(32, 32)
    found = []
    for loss in (
        lambda logits: sigmoid_cross_entropy(labels, logits),
        lambda logits: loss_of(logits, labels.float()),
    ):
        model.zero_grad()
        with torch.autocast("cpu", dtype):
            logits = model(features)
            value = loss(logits)
        assert logits.dtype == dtype
        assert value.dtype == torch.float32
        (65536 * value).backward()  # which is infinite as float16
        found.append([value.detach(), *(parameter.grad for parameter in model.parameters())])
    torch.testing.assert_close(*found, rtol=1e-3, atol=0.125 if dtype == torch.float16 else 1.0)
    assert all(tensor.isfinite().all() for tensor in found[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_second_derivatives_in_half_precision_are_rounded_once(dtype):
    labels, logits = data(dtype, 256, 256)
    found = []
    for x in (logits, logits.detach().double().requires_grad_()):
        (first,) = torch.autograd.grad(
            1024 * sigmoid_cross_entropy(labels, x), x, create_graph=True
        )
        found.append(torch.autograd.grad(first, x, torch.ones_like(first))[0].double())
    torch.testing.assert_close(*found, rtol=2 * torch.finfo(dtype).eps, atol=6e-8)


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


# ---- Transforms -----------------------------------------------------------------------------


def both(labels, given=None):
    """Return this loss and that of PyTorch as functions of logits."""
    given = given or {}
    return (
        lambda logits: sigmoid_cross_entropy(labels, logits, **given),
        lambda logits: loss_of(logits, labels.to(logits.dtype), **given),
    )


@pytest.mark.parametrize(
    "transform",
    [
        torch.func.grad,
        torch.func.jacrev,
        torch.func.jacfwd,
        torch.func.hessian,
        torch.func.vmap,
        lambda f: torch.func.vmap(torch.func.grad(f)),
        lambda f: torch.func.grad(lambda x: torch.func.vmap(f)(x).pow(2).sum()),
        lambda f: torch.func.grad(lambda x: torch.func.grad(f)(x).pow(2).sum()),
        lambda f: torch.func.jacrev(torch.func.jacrev(f)),
        lambda f: torch.func.jacfwd(torch.func.jacfwd(f)),
        lambda f: lambda x: torch.func.jvp(f, (x,), (x.cos(),)),
        lambda f: lambda x: torch.func.vjp(f, x)[1](torch.ones((), dtype=x.dtype)),
        lambda f: lambda x: torch.func.jvp(torch.func.grad(f), (x,), (x.cos(),)),
    ],
    ids=[
        *("grad", "jacrev", "jacfwd", "hessian", "vmap", "vmap of grad", "grad of vmap"),
        *("grad of grad", "jacrev of jacrev", "jacfwd of jacfwd", "jvp", "vjp", "jvp of grad"),
    ],
)
# PyTorch's own forward mode warns of a part of PyTorch.
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
def test_transforms_find_what_they_find_for_pytorchs_loss(transform):
    labels, logits = data(torch.float64, 6, 3)
    one_row = torch.tensor([True, False, True])
    for x in logits.detach(), logits.detach()[:1].expand(6, 3):
        # Functions to be mapped see a row at a time.
        for target in (labels, one_row):
            ours, theirs = both(target)
            try:
                expected = transform(theirs)(x)
            except (ValueError, RuntimeError):
                continue
            torch.testing.assert_close(transform(ours)(x), expected)


def test_labels_and_weights_may_be_mapped_too():
    labels, logits = data(torch.float64, 6, 3)
    weights = torch.rand(6, 3, dtype=torch.float64)
    labels, x = labels.double(), logits.detach()
    f = torch.func.vmap(torch.func.grad(sigmoid_cross_entropy, 1))
    g = torch.func.vmap(torch.func.grad(loss_of))
    torch.testing.assert_close(f(labels, x, weights), g(x, labels, weights))
    f = torch.func.vmap(sigmoid_cross_entropy, in_dims=(1, 1, None))
    found = f(labels, x, weights[:, 0])
    expected = torch.stack([loss_of(x[:, i], labels[:, i], weights[:, 0]) for i in range(3)])
    torch.testing.assert_close(found, expected)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("given", [{}, options()], ids=["plain", "all options"])
@pytest.mark.parametrize("reduction", sce.Reduction)
def test_forward_mode_and_batches_of_gradients_pass_gradcheck(reduction, given):
    loss, labels, logits = loss_of_soft_labels(reduction, given)
    assert torch.autograd.gradcheck(
        loss, (labels, logits), check_forward_ad=True, check_batched_grad=True
    )
    assert torch.autograd.gradgradcheck(loss, (labels, logits), check_fwd_over_rev=True)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
def test_a_tangent_is_never_lost():
    labels, logits = data(torch.float64)
    x, v = logits.detach(), torch.rand(ROWS, COLUMNS, dtype=torch.float64)
    ours, theirs = both(labels)
    with torch.autograd.forward_ad.dual_level():
        tangents = []
        for loss in (ours, theirs):
            dual = torch.autograd.forward_ad.make_dual(x, v)
            tangents.append(torch.autograd.forward_ad.unpack_dual(loss(dual)).tangent)
            dual = torch.autograd.forward_ad.make_dual(x.clone().requires_grad_(), v)
            (gradient,) = torch.autograd.grad(loss(dual), dual)
            tangents.append(torch.autograd.forward_ad.unpack_dual(gradient).tangent)
            seed = torch.autograd.forward_ad.make_dual(
                torch.ones(()).double(), torch.tensor(2.0).double()
            )
            (gradient,) = torch.autograd.grad(loss(logits), logits, seed)
            tangents.append(torch.autograd.forward_ad.unpack_dual(gradient).tangent)
        torch.testing.assert_close(tangents[:3], tangents[3:])
        for name in "weights", "pos_weight":
            dual = torch.autograd.forward_ad.make_dual(torch.ones(ROWS, 1), torch.ones(ROWS, 1))
            with pytest.raises(ValueError, match=f"`{name}` has a tangent, but only logits and"):
                sigmoid_cross_entropy(labels, logits, **{name: dual})


def test_a_batch_of_gradients_is_that_of_pytorch():
    labels, logits = data(torch.float64)
    seeds = torch.rand(4, dtype=torch.float64)
    found = [
        torch.autograd.grad(loss(logits), logits, seeds, is_grads_batched=True)
        for loss in both(labels)
    ]
    torch.testing.assert_close(*found)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
def test_a_tangent_of_labels_is_not_lost_in_the_gradient_of_logits():
    labels, logits = data(torch.float64)
    v = torch.rand(ROWS, COLUMNS, dtype=torch.float64)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(labels.double(), v)
        (gradient,) = torch.autograd.grad(sigmoid_cross_entropy(dual, logits), logits)
        tangent = torch.autograd.forward_ad.unpack_dual(gradient).tangent
    torch.testing.assert_close(tangent, -v / v.numel())


def test_a_plain_call_does_not_pay_for_transforms(monkeypatch):
    labels, logits = data()

    def refuse(*_):
        raise AssertionError("PyTorch reads the signature of the function that transforms need")

    monkeypatch.setattr(torch.autograd.function.inspect, "signature", refuse)
    sigmoid_cross_entropy(labels, logits).backward()
    with torch.no_grad():
        sigmoid_cross_entropy(labels, logits)
    sigmoid_cross_entropy(labels, logits.detach())


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
    with pytest.raises(ValueError, match="`weights` requires a gradient, but only logits and lab"):
        sigmoid_cross_entropy(labels, logits, weights)
    with pytest.raises(ValueError, match="`pos_weight` requires a gradient, but only logits and"):
        sigmoid_cross_entropy(labels, logits, pos_weight=weights)


def test_labels_and_logits_that_are_exchanged_are_refused():
    labels, logits = data()
    for other in labels, labels.float(), labels.int(), 0.1 + 0.8 * labels:
        with pytest.raises(ValueError, match="seem to be exchanged: labels come first"):
            sigmoid_cross_entropy(logits, other)


@pytest.mark.parametrize("shape", [(6, 5), (5, 5), (2, 3, 5)])
@pytest.mark.parametrize("kind", [torch.as_tensor, np.asarray, list])
def test_weights_may_be_one_for_each_class_as_those_of_pytorch_are(shape, kind):
    random = torch.Generator().manual_seed(5)
    logits = torch.randn(shape, generator=random, dtype=torch.float64, requires_grad=True)
    labels = torch.rand(shape, generator=random, dtype=torch.float64)
    weights = [0.5, 2.0, 0.25, 1.0, 3.0]
    ours = sigmoid_cross_entropy(labels, logits, kind(weights))
    theirs = loss_of(logits, labels, torch.tensor(weights, dtype=torch.float64))
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(
        torch.autograd.grad(ours, logits), torch.autograd.grad(theirs, logits)
    )


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
    for other in (labels.int(), logits.detach().to(torch.float8_e5m2)):
        with pytest.raises(TypeError, match=r"`logits` must be float16.* Pass `logits.float\(\)`"):
            sigmoid_cross_entropy(labels, other)
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
