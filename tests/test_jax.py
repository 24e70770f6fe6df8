"""The loss as a function of JAX: right values and derivatives, under every transformation."""

import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import sce_numba as sce

jax = pytest.importorskip("jax", "0.5")

import jax.numpy as jnp  # noqa: E402
from jax.test_util import check_grads  # noqa: E402

from sce_numba import xla, xla_frame  # noqa: E402
from sce_numba.jax import sigmoid_cross_entropy  # noqa: E402

ROWS, COLUMNS = 30, 7
DTYPES = ["float8_e4m3fn", "float8_e5m2", "float16", "bfloat16", "float32", "float64"]


@pytest.fixture(autouse=True)
def wide():
    """Have float64 in JAX, which makes float32 of it otherwise."""
    with jax.enable_x64(True):
        yield


def data(dtype="float32", rows=ROWS, columns=COLUMNS):
    rng = np.random.default_rng(7)
    logits = jnp.asarray(rng.normal(0, 3, (rows, columns))).astype(dtype)
    return jnp.asarray(rng.random((rows, columns)) < 0.4), logits


def options():
    rng = np.random.default_rng(11)
    return {
        "weights": jnp.asarray(rng.random((ROWS, 1))),
        "label_smoothing": 0.1,
        "pos_weight": jnp.asarray(0.5 + rng.random(COLUMNS)),
        "where": jnp.asarray(rng.random((ROWS, COLUMNS)) < 0.9),
    }


def formula(labels, logits):
    """Return the element losses as they are written in JAX."""
    z = labels.astype(logits.dtype)
    return jnp.maximum(logits, 0) - logits * z + jnp.log1p(jnp.exp(-abs(logits)))


def wide_array(array):
    """Return an array of float64, which NumPy can compare."""
    return np.asarray(array).astype(np.float64)


def same(found, expected):
    for own, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert own.dtype == other.dtype
        np.testing.assert_allclose(wide_array(own), wide_array(other), 1e-5, 1e-7)


# ---- Values and derivatives -----------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", sce.Reduction)
@pytest.mark.parametrize("compiled", [False, True])
def test_the_loss_is_that_of_the_arrays(dtype, reduction, compiled):
    labels, logits = data(dtype)
    given = options()

    def loss(labels, logits, weights, pos_weight, where):
        extra = {"label_smoothing": 0.1, "pos_weight": pos_weight, "where": where}
        return sigmoid_cross_entropy(labels, logits, weights, reduction=reduction, **extra)

    function = jax.jit(loss) if compiled else loss
    found = function(labels, logits, given["weights"], given["pos_weight"], given["where"])
    expected = sce.sigmoid_cross_entropy(labels, logits, reduction=reduction, **given)
    assert found.dtype == dtype
    np.testing.assert_array_equal(wide_array(found), wide_array(expected))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("reduction", [key for key in sce.Reduction if key != "none"])
def test_the_gradient_is_that_of_the_arrays(dtype, reduction):
    labels, logits = data(dtype)
    given = options() | {"reduction": reduction}
    step = jax.value_and_grad(lambda logits: sigmoid_cross_entropy(labels, logits, **given))
    expected = sce.sigmoid_cross_entropy_value_and_grad(labels, logits, **given)
    for found in step(logits), jax.jit(step)(logits):
        for own, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(np.asarray(own), other)


def test_it_is_the_loss_of_optax():
    optax = pytest.importorskip("optax")
    labels, logits = data()

    def theirs(logits):
        return optax.sigmoid_binary_cross_entropy(logits, labels).mean()

    def ours(logits):
        return sigmoid_cross_entropy(labels, logits)

    same(jax.value_and_grad(ours)(logits), jax.value_and_grad(theirs)(logits))


@pytest.mark.parametrize("given", [{}, options()], ids=["plain", "all options"])
@pytest.mark.parametrize("reduction", sce.Reduction)
def test_derivatives_by_logits_and_labels_pass_a_check_by_differences(reduction, given):
    labels, logits = data("float64")
    labels = 0.1 + 0.8 * labels.astype("float64")

    def loss(labels, logits):
        return sigmoid_cross_entropy(labels, logits, reduction=reduction, **given)

    check_grads(jax.jit(loss), (labels, logits), order=2, rtol=1e-4)
    check_grads(jax.jit(lambda labels: loss(labels, logits)), (labels,), order=1, rtol=1e-4)


def test_the_third_derivative_is_that_of_the_formula():
    labels, logits = data("float64")

    def third(loss):
        for _ in range(3):
            loss = jax.grad(lambda x, loss=loss: loss(x).sum())
        return jax.jit(loss)(logits)

    ours = third(lambda x: sigmoid_cross_entropy(labels, x))
    same(ours, third(lambda x: formula(labels, x).mean()))


def test_the_hessian_is_that_of_the_formula():
    labels, logits = data("float64", 2, 3)
    ours = jax.hessian(lambda x: sigmoid_cross_entropy(labels, x))(logits)
    same(ours, jax.hessian(lambda x: formula(labels, x).mean())(logits))


def test_an_excluded_nan_harms_no_derivative():
    labels, logits = data("float64")
    logits = logits.at[3, 2].set(jnp.nan)
    loss = jax.grad(lambda x: sigmoid_cross_entropy(labels, x, where=~jnp.isnan(x)))
    assert loss(logits)[3, 2] == 0
    twice = jax.grad(lambda x: (loss(x) ** 2).sum())(logits)
    assert jnp.isfinite(twice).all()


@pytest.mark.parametrize("dtype", DTYPES[:4])
@pytest.mark.parametrize("reduction", ["none", "weighted_mean"])
def test_short_gradients_are_rounded_once_after_they_are_scaled(dtype, reduction):
    labels, logits = data(dtype, 256, 256)

    def scaled(logits, dtype):
        loss = sigmoid_cross_entropy(labels, logits, reduction=reduction)
        return (loss.astype(jnp.float32) * 128).sum()

    found = jax.jit(jax.grad(lambda x: scaled(x, dtype)))(logits)
    exact = jax.grad(lambda x: scaled(x, "float64"))(logits.astype("float64"))
    assert found.dtype == dtype
    error = abs(found.astype("float64") - exact)
    form = jnp.finfo(dtype)
    step = jnp.maximum(float(form.eps) * abs(exact), float(form.smallest_subnormal))
    assert (error <= 1.01 * step / 2).all()


def test_numbers_keep_their_digits_beside_float32():
    labels, logits = data()
    given = {"weights": 0.1, "label_smoothing": 0.3, "pos_weight": 1.1}
    found = sigmoid_cross_entropy(labels, logits, **given)
    assert found == sce.sigmoid_cross_entropy(labels, logits, **given)
    assert jnp.isnan(sigmoid_cross_entropy(labels, logits, float("nan")))


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (2, 3, 4)])
def test_any_shape_will_do(shape):
    logits = jnp.linspace(-2, 2, int(np.prod(shape, dtype=int)), dtype="float32").reshape(shape)
    labels = logits > 0
    found = jax.value_and_grad(lambda x: sigmoid_cross_entropy(labels, x))(logits)
    expected = sce.sigmoid_cross_entropy_value_and_grad(labels, logits)
    same(found, jax.tree.map(jnp.asarray, tuple(map(np.asarray, expected))))


def test_without_float64_arrays_of_numpy_become_float32():
    labels, logits = (np.asarray(array) for array in data("float64"))
    with jax.enable_x64(False):
        found = sigmoid_cross_entropy(labels, logits, np.ones((ROWS, 1)))
    assert found.dtype == np.float32
    assert found == sce.sigmoid_cross_entropy(labels, logits.astype(np.float32))


# ---- Batches --------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", sce.Reduction)
@pytest.mark.parametrize("mapped", [0b000001, 0b000011, 0b111111, 0b111100, 0b010101, 0b101010])
def test_a_batch_is_computed_as_its_parts_are(mapped, reduction):
    rng = np.random.default_rng(5)
    given = options()
    operands = [*data(), given["weights"], given["pos_weight"], given["where"]]
    scale = jnp.asarray(1.0)
    operands.append(scale)
    axes = [0 if mapped >> at & 1 else None for at in range(6)]

    def change(operand):
        if operand.dtype == bool:
            return jnp.stack([operand, ~operand, operand])
        return jnp.stack([operand, *(operand * f for f in rng.random(2).astype("float32"))])

    batch = [
        operand if axis is None else change(operand)
        for operand, axis in zip(operands, axes, strict=True)
    ]

    def loss(labels, logits, weights, pos_weight, where, scale):
        extra = {"pos_weight": pos_weight, "where": where, "reduction": reduction}
        return scale * sigmoid_cross_entropy(labels, logits, weights, **extra)

    def slopes(*operands):
        return jax.grad(lambda logits: loss(operands[0], logits, *operands[2:]).sum())(operands[1])

    for function in loss, slopes:
        found = jax.jit(jax.vmap(function, axes))(*batch)
        for at in range(3):
            part = [
                operand if axis is None else operand[at]
                for operand, axis in zip(batch, axes, strict=True)
            ]
            same(found[at], function(*part))


def test_batches_of_batches_have_axes_anywhere():
    labels, logits = data("float32", 12, 10)
    labels, logits = labels.reshape(2, 3, 2, 10), logits.reshape(2, 3, 2, 10)
    inner = jax.vmap(sigmoid_cross_entropy, (0, 1))
    found = jax.vmap(inner, (0, 2))(labels, logits.transpose(3, 1, 0, 2).swapaxes(0, 3))
    expected = [
        [sce.sigmoid_cross_entropy(labels[i, j], logits[i, j]) for j in range(3)] for i in range(2)
    ]
    np.testing.assert_array_equal(found, np.array(expected))


def test_gradients_of_every_example_are_those_of_their_own_loss():
    labels, logits = data()
    found = jax.vmap(jax.grad(sigmoid_cross_entropy, argnums=1))(labels, logits)
    for z, x, slopes in zip(labels, logits, found, strict=True):
        np.testing.assert_array_equal(slopes, sce.sigmoid_cross_entropy_value_and_grad(z, x)[1])


def test_a_batch_has_second_derivatives():
    labels, logits = data("float64")
    ours = jax.vmap(jax.hessian(sigmoid_cross_entropy, argnums=1))(labels, logits)
    same(ours, jax.vmap(jax.hessian(lambda z, x: formula(z, x).mean(), argnums=1))(labels, logits))


def test_it_runs_inside_a_loop_that_is_compiled():
    labels, logits = data("float64")

    def train(loss):
        step = jax.grad(loss)
        return jax.jit(lambda x: jax.lax.fori_loop(0, 20, lambda _, x: x - step(x), x))(logits)

    ours = train(lambda x: sigmoid_cross_entropy(labels, x))
    same(ours, train(lambda x: formula(labels, x).mean()))


def test_it_may_be_recomputed_instead_of_kept():
    labels, logits = data()

    def loss(x):
        return sigmoid_cross_entropy(labels, x)

    same(jax.grad(jax.checkpoint(loss))(logits), jax.grad(loss)(logits))


# ---- Memory and threads ---------------------------------------------------------------------


def spy_on(monkeypatch, name):
    """Return a list that gets the arguments of every call of a function for arrays."""
    compute, found = getattr(sce.losses, name), []

    def spy(**given):
        found.append(given)
        return compute(**given)

    monkeypatch.setattr(sce.losses, name, spy)
    return found


def test_neither_operands_nor_gradient_are_copied(monkeypatch):
    calls = spy_on(monkeypatch, "sigmoid_cross_entropy_value_and_grad")
    labels, logits = data("float32", 2048, 1024)
    step = jax.jit(jax.value_and_grad(sigmoid_cross_entropy, argnums=1))
    _, gradient = jax.block_until_ready(step(labels, logits))
    (given,) = calls
    for array, name in (
        (labels, "multi_class_labels"),
        (logits, "logits"),
        (gradient, "grad_out"),
    ):
        assert given[name].ctypes.data == array.unsafe_buffer_pointer(), name


def test_a_compiled_step_is_one_call_and_nothing_else():
    labels, logits = data()
    step = jax.jit(jax.value_and_grad(sigmoid_cross_entropy, argnums=1))
    text = step.lower(labels, logits).compile().as_text()
    assert text.count("custom-call(") == 1
    assert not any(word in text for word in ("multiply", "fusion", "copy"))


def test_without_a_derivative_no_gradient_is_computed(monkeypatch):
    calls = spy_on(monkeypatch, "sigmoid_cross_entropy_value_and_grad")
    jax.block_until_ready(sigmoid_cross_entropy(*data()))
    assert calls == []


def test_many_threads_may_call_at_the_same_time():
    labels, logits = data("float32", 512, 512)
    other = logits[:, :256].T @ logits  # work for the threads of XLA

    def loss(x):
        return sigmoid_cross_entropy(labels, x @ other)

    step = jax.jit(jax.value_and_grad(loss))
    features = logits[:, :256] / 100
    expected = jax.tree.map(np.asarray, step(features))
    wrong = []

    def work():
        for _ in range(10):
            found = step(features)
            for own, right in zip(found, expected, strict=True):
                if not np.array_equal(own, right):
                    wrong.append(own)

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


UNFINISHED = """
import jax.numpy as jnp, jax
from sce_numba.jax import sigmoid_cross_entropy
matrix = jnp.eye(512)
labels = jnp.ones((2048, 512))
step = jax.jit(jax.value_and_grad(lambda x: sigmoid_cross_entropy(labels, labels @ x)))
for number in range(20):
    step(matrix * number)
print("the end")
"""


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)


def test_a_program_may_end_before_its_computing_does():
    program = run(UNFINISHED)
    assert (program.returncode, program.stdout, program.stderr) == (0, "the end\n", "")


def test_nobody_is_let_into_an_interpreter_that_has_ended():
    program = run(
        "import jax\n"
        "from sce_numba import xla\n"
        "from sce_numba.jax import sigmoid_cross_entropy\n"
        "before = sigmoid_cross_entropy([1.0], [0.0])\n"
        "xla._close()\n"
        "try:\n"
        "    jax.block_until_ready(sigmoid_cross_entropy([1.0], [0.0]))\n"
        "except Exception as error:\n"
        "    print(round(float(before), 4), 'interpreter of Python has ended' in str(error))\n"
    )
    assert program.stdout == "0.6931 True\n", program.stderr


def test_an_error_inside_is_raised_by_jax(monkeypatch):
    def fail(**given):
        raise MemoryError("no memory for it")

    monkeypatch.setattr(sce.losses, "sigmoid_cross_entropy", fail)
    with pytest.raises((RuntimeError, ValueError), match="MemoryError: no memory for it"):
        jax.block_until_ready(sigmoid_cross_entropy(*data()))


@pytest.mark.parametrize(("theirs", "told"), [(None, 1), (1, 1), (2, 2), (3, 3), (4, 3), (12, 3)])
def test_xla_is_told_a_version_of_its_interface_that_is_known(theirs, told):
    api, metadata = xla_frame.Api(), xla_frame.Metadata()
    extension = xla_frame.Extension(type=xla_frame.METADATA)
    frame = xla_frame.Frame()
    extension.metadata.contents = metadata
    frame.extension.contents = extension
    if theirs is not None:
        api.version.minor = theirs
        frame.api.contents = api
    xla._tell_version(frame)
    assert (metadata.version.major, metadata.version.minor) == (0, told)


# ---- What is refused ------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "shape"), [("weights", (ROWS, 1)), ("pos_weight", (COLUMNS,))])
def test_what_else_is_differentiated_is_refused(name, shape):
    labels, logits = data()

    def loss(value):
        return sigmoid_cross_entropy(labels, logits, **{name: value})

    said = rf"`{name}` is differentiated.*`jax\.lax\.stop_gradient\({name}\)`"
    with pytest.raises(ValueError, match=said):
        jax.grad(loss)(jnp.ones(shape))
    assert not jax.grad(lambda value: loss(jax.lax.stop_gradient(value)))(jnp.ones(shape)).any()


@pytest.mark.parametrize(
    "change",
    [
        {"multi_class_labels": np.ones((3, COLUMNS))},
        {"multi_class_labels": None},
        {"logits": np.ones((ROWS, COLUMNS), int)},
        {"logits": np.ma.masked_array(np.ones((ROWS, COLUMNS)))},
        {"weights": np.ones(ROWS)},
        {"weights": np.ones((ROWS, 1), complex)},
        {"weights": 10**400},
        {"weights": None},
        {"label_smoothing": 1.5},
        {"label_smoothing": "0.1"},
        {"reduction": "mean"},
        {"pos_weight": np.ones(3)},
        {"where": np.ones((ROWS, COLUMNS))},
    ],
    ids=lambda change: next(iter(change)),
)
def test_bad_arguments_are_refused_as_those_of_arrays_are(change):
    labels, logits = data()
    given = {"multi_class_labels": labels, "logits": logits} | change
    with pytest.raises((TypeError, ValueError)) as expected:
        sce.sigmoid_cross_entropy(**given)
    with pytest.raises(type(expected.value)) as found:
        sigmoid_cross_entropy(**given)
    assert str(found.value) == str(expected.value)


def test_bad_arguments_are_refused_while_a_call_is_traced():
    labels, logits = data()
    with pytest.raises(ValueError, match="must have the same shape"):
        jax.jit(sigmoid_cross_entropy).lower(labels[:3], logits)
    with pytest.raises(ValueError, match="weights can not be broadcast"):
        jax.jit(sigmoid_cross_entropy).lower(labels, logits, jnp.ones(ROWS))


def test_a_traced_label_smoothing_is_refused():
    labels, logits = data()
    loss = jax.jit(lambda s: sigmoid_cross_entropy(labels, logits, label_smoothing=s))
    with pytest.raises(TypeError, match=r"`label_smoothing` must be a number"):
        loss(0.1)


def test_what_xla_is_told_does_not_depend_on_the_process():
    labels, logits = data()
    text = str(jax.make_jaxpr(lambda x: sigmoid_cross_entropy(labels, x, 2.0))(logits))
    told = text.split("'text', '")[1].split("'")[0]
    assert json.loads(told)[1:] == ["weighted_sum_by_nonzero_weights", 0.0, 2.0, None]


SEVERAL_DEVICES = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from sce_numba.jax import sigmoid_cross_entropy

rows = PartitionSpec("device")
mesh = Mesh(np.array(jax.devices()), ("device",))
logits = jnp.linspace(-3, 3, 64).reshape(16, 4)
labels = logits > 1
step = jax.value_and_grad(lambda logits: sigmoid_cross_entropy(labels, logits))
parts = jax.shard_map(
    lambda labels, logits: jax.lax.pmean(sigmoid_cross_entropy(labels, logits), "device"),
    mesh=mesh, in_specs=rows, out_specs=PartitionSpec(), check_vma=False,
)
shared = jax.device_put(logits, NamedSharding(mesh, rows))
for found in jax.jit(step)(shared), jax.jit(jax.value_and_grad(lambda x: parts(labels, x)))(shared):
    for own, expected in zip(found, step(logits)):
        np.testing.assert_allclose(own, expected, 1e-6)
print(len(jax.devices()), "devices")
"""


def test_arrays_may_be_on_several_devices():
    program = subprocess.run(
        [sys.executable, "-c", SEVERAL_DEVICES],
        capture_output=True,
        text=True,
        env={**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4"},
    )
    assert program.stdout == "4 devices\n", program.stderr
