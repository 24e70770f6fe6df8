"""Each package's own way to do a job: this one, and whatever else is installed.

A peer is a name and a function that returns a job as a call, or None where the package has no way
to do it.  All of them run on as many threads as Numba does.
"""

from __future__ import annotations

import importlib
import itertools
import math
import os
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

import sce_numba as sce

from .jobs import Job
from .timing import Call

Peer = tuple[str, Callable[[Job], Call | None]]

OURS = "sce_numba"
# To ask for their number would start them, before the package does in its own way.
THREADS: int = numba.config.NUMBA_NUM_THREADS


def ours(job: Job) -> Call:
    """Return the job done by this package."""
    keywords: dict[str, Any] = {}
    if job.smoothing:
        keywords["label_smoothing"] = job.smoothing
    if job.weights is not None:
        keywords["weights"] = job.weights
    if job.reduction != sce.Reduction.SUM_BY_NONZERO_WEIGHTS:
        keywords["reduction"] = job.reduction
    function: Any = sce.sigmoid_cross_entropy
    if job.axis is not None:
        keywords["axis"] = job.axis
    if job.none:
        keywords["out"] = job.out[0]
    if job.derivatives == 1:
        function, keywords["grad_out"] = sce.sigmoid_cross_entropy_value_and_grad, job.out[0]
    if job.derivatives == 2:
        function = sce.sigmoid_cross_entropy_gradient_hessian
        keywords["grad_out"], keywords["hess_out"] = job.out
    return lambda: function(job.labels, job.logits, **keywords)


def denominator(weights: Any, size: int, reduction: str, package: Any) -> Any:
    """Return what the weighted losses are divided by, computed by a package."""
    found = weights.sum() if reduction == sce.Reduction.MEAN else package.count_nonzero(weights)
    return found * (size // math.prod(weights.shape))


def numpy_peer() -> list[Peer]:
    """NumPy's ufuncs, as one usually writes the loss."""

    def call(job: Job) -> Call:
        def run() -> Any:
            x, z = job.logits, job.labels
            if job.derivatives:
                sigmoid = 1 / (1 + np.exp(-x))
                if job.derivatives == 2:
                    return sigmoid - z, sigmoid * (1 - sigmoid)
                loss = np.maximum(x, 0) - x * z + np.log1p(np.exp(-np.abs(x)))
                return loss.mean(), (sigmoid - z) / x.size
            if job.smoothing:
                z = z * (1 - job.smoothing) + job.smoothing / 2
            loss = np.maximum(x, 0) - x * z + np.log1p(np.exp(-np.abs(x)))
            if job.weights is None:
                return loss if job.none else loss.mean(job.axis)
            return (loss * job.weights).sum() / denominator(
                job.weights, job.logits.size, job.reduction, np
            )

        return run

    return [(f"NumPy {np.__version__}", call)]


def numexpr_peer() -> list[Peer]:
    """Numexpr, which has neither float16 nor a sum on several threads."""
    numexpr = importlib.import_module("numexpr")
    numexpr.set_num_threads(THREADS)

    def call(job: Job) -> Call | None:
        if job.logits.dtype.name not in ("float32", "float64") or job.axis is not None:
            return None
        names = {"x": job.logits, "z": job.labels, "w": job.weights}
        for name, value in (("zero", 0), ("one", 1), ("s", job.smoothing)):
            names[name] = job.logits.dtype.type(value)
        z = "where(z, one, zero)" if job.labels.dtype == bool else "z"
        if job.smoothing:
            z = f"({z} * (one - s) + s * {job.logits.dtype.type(0.5)})"
        loss = f"where(x > zero, x, zero) - x * {z} + log1p(exp(-abs(x)))"
        sigmoid = "one / (one + exp(-x))"

        def evaluate(expression: str, **options: Any) -> Any:
            return numexpr.evaluate(expression, names, **options)

        def run() -> Any:
            if job.derivatives == 2:
                evaluate(f"{sigmoid} - {z}", out=job.out[0], casting="same_kind")
                return evaluate(f"{sigmoid} * (one - {sigmoid})", out=job.out[1])
            if job.none:
                return evaluate(loss, out=job.out[0], casting="same_kind")
            if job.weights is not None:
                return evaluate(f"sum(({loss}) * w)") / denominator(
                    job.weights, job.logits.size, job.reduction, np
                )
            mean = evaluate(f"sum({loss})") / job.logits.size
            if job.derivatives:
                names["n"] = job.logits.dtype.type(job.logits.size)
                evaluate(f"({sigmoid} - {z}) / n", out=job.out[0], casting="same_kind")
            return mean

        return run

    return [(f"numexpr {numexpr.__version__}", call)]


def torch_peers() -> list[Peer]:
    """PyTorch, eager and compiled."""
    torch = importlib.import_module("torch")
    torch.set_num_threads(THREADS)
    function = torch.nn.functional.binary_cross_entropy_with_logits

    def loss(x: Any, z: Any, w: Any, smoothing: float, reduction: str, axis: Any) -> Any:
        z = z.to(x.dtype)
        if smoothing:
            z = z * (1 - smoothing) + smoothing / 2
        if axis is not None:
            return function(x, z, reduction="none").mean(axis)
        if w is None:
            return function(x, z, reduction="none" if reduction == "none" else "mean")
        total = function(x, z, w, reduction="sum")
        return total / denominator(w, x.numel(), reduction, torch)

    def tensor(array: Any) -> Any:
        if array.dtype.name == "bfloat16":
            return torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)
        return torch.from_numpy(array)

    def of(prepare: Callable[..., Any]) -> Callable[[Job], Call | None]:
        def call(job: Job) -> Call | None:
            if job.derivatives == 2:
                return None
            function = prepare(loss)
            x, z, w = (
                None if a is None else tensor(a) for a in (job.logits, job.labels, job.weights)
            )

            def run() -> Any:
                with torch.no_grad():
                    return function(x, z, w, job.smoothing, job.reduction, job.axis)

            def differentiate() -> Any:
                value = function(x, z, w, job.smoothing, job.reduction, job.axis)
                return torch.autograd.grad(value, x)

            if job.derivatives:
                x.requires_grad_(True)
            return differentiate if job.derivatives else run

        return call

    def compiled(function: Callable[..., Any]) -> Any:
        torch.compiler.reset()
        return torch.compile(function, dynamic=False)

    name = f"PyTorch {torch.__version__.split('+')[0]}"
    return [(f"{name} eager", of(lambda function: function)), (f"{name} compile", of(compiled))]


def tensorflow_peers() -> list[Peer]:
    """TensorFlow 1's function: eager, as a graph, and by XLA."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    tf = importlib.import_module("tensorflow")
    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(THREADS)

    def loss(z: Any, x: Any, w: Any, smoothing: float, reduction: str, axis: Any) -> Any:
        if axis is not None:
            losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=z, logits=x)
            return tf.reduce_mean(losses, axis)
        return tf.compat.v1.losses.sigmoid_cross_entropy(z, x, w, smoothing, reduction=reduction)

    def value_and_grad(z: Any, x: Any, w: Any, *rest: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = loss(z, x, w, *rest)
        return tape.gradient(value, x)

    def of(prepare: Callable[..., Any]) -> Callable[[Job], Call | None]:
        functions = [prepare(loss), prepare(value_and_grad)]

        def call(job: Job) -> Call | None:
            if job.derivatives == 2:
                return None
            x, z = tf.constant(job.logits), tf.constant(job.labels)
            w = tf.constant(1.0 if job.weights is None else job.weights)
            function = functions[job.derivatives]
            rest = job.smoothing, job.reduction, job.axis
            return lambda: function(z, x, w, *rest).numpy()

        return call

    name = f"TensorFlow {tf.__version__}"
    return [
        (f"{name} eager", of(lambda function: function)),
        (f"{name} function", of(tf.function)),
        (f"{name} XLA", of(lambda function: tf.function(function, jit_compile=True))),
    ]


def jax_peer() -> list[Peer]:
    """JAX with optax; its threads are one for each CPU that the process may use."""
    jax, optax = importlib.import_module("jax"), importlib.import_module("optax")
    jax.config.update("jax_enable_x64", True)

    def call(job: Job) -> Call | None:
        if job.derivatives == 2:
            return None

        def loss(x: Any, z: Any, w: Any) -> Any:
            z = z.astype(x.dtype)
            if job.smoothing:
                z = z * (1 - job.smoothing) + job.smoothing / 2
            losses = optax.sigmoid_binary_cross_entropy(x, z)
            if job.none:
                return losses
            if w is None:
                return losses.mean(job.axis)
            return (losses * w).sum() / denominator(w, x.size, job.reduction, jax.numpy)

        compiled = jax.jit(jax.value_and_grad(loss) if job.derivatives else loss)
        x, z = jax.numpy.asarray(job.logits), jax.numpy.asarray(job.labels)
        w = None if job.weights is None else jax.numpy.asarray(job.weights)
        return lambda: jax.block_until_ready(compiled(x, z, w))

    return [(f"JAX {jax.__version__} with optax {optax.__version__}", call)]


def scikit_learn_peer() -> list[Peer]:
    """Return the loss behind scikit-learn's own boosting, which takes labels like the logits."""
    module = importlib.import_module("sklearn._loss.loss")
    version = importlib.import_module("sklearn").__version__

    def call(job: Job) -> Call | None:
        dtype, full = job.logits.dtype, job.weights is None or job.weights.size == job.logits.size
        if job.labels.dtype != dtype or dtype.name not in ("float32", "float64") or not full:
            return None
        if job.axis is not None:
            return None
        loss = module.HalfBinomialLoss()
        x, z = job.logits.reshape(-1), job.labels.reshape(-1)
        w = None if job.weights is None else job.weights.reshape(-1)
        out = [array.reshape(-1) for array in job.out]
        losses = out[0] if job.none else np.empty_like(x)
        if job.derivatives == 2:
            return lambda: loss.gradient_hessian(z, x, None, *out, n_threads=THREADS)
        if job.derivatives == 1:
            return lambda: loss.loss_gradient(z, x, w, losses, *out, THREADS)[0].mean()

        def run() -> Any:
            loss.loss(z, x, w, losses, THREADS)
            if job.none:
                return job.out[0]
            if w is None:
                return losses.mean()
            return losses.sum() / denominator(w, x.size, job.reduction, np)

        return run

    return [(f"scikit-learn {version}", call)]


def graph(job: Job, ops: Any, x: Any, z: Any, w: Any) -> list[Any]:
    """Return what a job is to compute, as a graph made by the operations of a package."""
    smooth = job.smoothing
    if smooth:
        z = ops.add(ops.multiply(z, ops.number(1 - smooth)), ops.number(smooth / 2))
    if job.derivatives == 2:
        sigmoid = ops.sigmoid(x)
        curvature = ops.multiply(sigmoid, ops.subtract(ops.number(1), sigmoid))
        return [ops.subtract(sigmoid, z), curvature]
    linear = ops.subtract(ops.relu(x), ops.multiply(x, z))
    losses = ops.add(linear, ops.softplus(ops.negative(ops.abs(x))))
    if job.none:
        return [losses]
    if w is not None:
        return [ops.sum(ops.multiply(losses, w))]
    if not job.derivatives:
        return [ops.mean(losses)]
    share = ops.number(1 / job.logits.size)
    return [ops.mean(losses), ops.multiply(ops.subtract(ops.sigmoid(x), z), share)]


def graph_peer(
    name: str, compile_graph: Callable[[Job, dict[str, Any]], Any], *dtypes: str
) -> Peer:
    """Return a peer that compiles a graph, and takes logits of some dtypes and labels like them."""

    def call(job: Job) -> Call | None:
        dtype = job.logits.dtype
        if job.labels.dtype != dtype or dtype.name not in dtypes or job.axis is not None:
            return None
        given = {"x": job.logits, "z": job.labels, "w": job.weights}
        given = {key: array for key, array in given.items() if array is not None}
        run = compile_graph(job, given)
        if job.weights is None:
            return lambda: run(given)
        size = job.logits.size
        return lambda: run(given)[0] / denominator(job.weights, size, job.reduction, np)

    return name, call


def onnx_runtime_peer() -> list[Peer]:
    """ONNX Runtime."""
    runtime, onnx = importlib.import_module("onnxruntime"), importlib.import_module("onnx")
    helper = onnx.helper

    class Ops:
        """Adds a node for each operation, and returns its name."""

        def __init__(self, dtype: Any) -> None:
            self.dtype, self.nodes, self.numbers = dtype, [], []
            self.names = map("node{}".format, itertools.count())

        def number(self, value: float) -> str:
            name = next(self.names)
            array = np.array(value, self.dtype)
            self.numbers.append(onnx.numpy_helper.from_array(array, name))
            return name

        def __getattr__(self, operation: str) -> Callable[..., str]:
            kind = {"subtract": "Sub", "multiply": "Mul", "negative": "Neg"}.get(operation)
            options: dict[str, int] = {}
            if operation in ("sum", "mean"):
                kind, options = f"Reduce{operation.capitalize()}", {"keepdims": 0}

            def add(*inputs: str) -> str:
                name = next(self.names)
                node = helper.make_node(kind or operation.capitalize(), inputs, [name], **options)
                self.nodes.append(node)
                return name

            return add

    def compile_graph(job: Job, given: dict[str, Any]) -> Any:
        ops = Ops(job.logits.dtype)
        outputs = graph(job, ops, "x", "z", "w" if "w" in given else None)
        kind = helper.np_dtype_to_tensor_dtype(job.logits.dtype)
        model = helper.make_model(
            helper.make_graph(
                ops.nodes,
                "loss",
                [helper.make_tensor_value_info(k, kind, a.shape) for k, a in given.items()],
                [helper.make_tensor_value_info(name, kind, None) for name in outputs],
                ops.numbers,
            ),
            opset_imports=[helper.make_opsetid("", 17)],
            ir_version=8,
        )
        options = runtime.SessionOptions()
        options.intra_op_num_threads = THREADS
        session = runtime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return lambda arrays: session.run(outputs, arrays)

    return [graph_peer(f"ONNX Runtime {runtime.__version__}", compile_graph, "float32")]


def openvino_peer() -> list[Peer]:
    """OpenVINO, told to compute in the dtype of the logits."""
    openvino = importlib.import_module("openvino")
    opset = importlib.import_module("openvino.opset13")

    class Ops:
        """Operations of OpenVINO by the names of ``graph``."""

        def __init__(self, dtype: Any) -> None:
            self.number = lambda value: opset.constant(np.array(value, dtype))
            self.softplus = opset.softplus

        def __getattr__(self, operation: str) -> Callable[..., Any]:
            if operation in ("sum", "mean"):
                reduce = getattr(opset, f"reduce_{operation}")
                return lambda x: reduce(x, opset.constant(np.array([0, 1])), keep_dims=False)
            return getattr(opset, operation)  # type: ignore[no-any-return]

    def compile_graph(job: Job, given: dict[str, Any]) -> Any:
        kind = openvino.Type(job.logits.dtype)
        inputs = {k: opset.parameter(list(a.shape), kind, name=k) for k, a in given.items()}
        outputs = graph(job, Ops(job.logits.dtype), inputs["x"], inputs["z"], inputs.get("w"))
        settings = {"INFERENCE_NUM_THREADS": THREADS, "INFERENCE_PRECISION_HINT": "f32"}
        model = openvino.compile_model(
            openvino.Model(outputs, list(inputs.values())), "CPU", settings
        )
        request = model.create_infer_request()

        def run(arrays: dict[str, Any]) -> list[Any]:
            found = request.infer(list(arrays.values()), share_inputs=True, share_outputs=True)
            return [found[output] for output in model.outputs]

        return run

    version = openvino.__version__.split("-")[0]
    return [graph_peer(f"OpenVINO {version}", compile_graph, "float32", "float64")]


def peers() -> list[Peer]:
    """Return those that are installed."""
    found = numpy_peer()
    makers = (
        numexpr_peer,
        torch_peers,
        tensorflow_peers,
        jax_peer,
        scikit_learn_peer,
        onnx_runtime_peer,
        openvino_peer,
    )
    for make in makers:
        try:
            found.extend(make())
        except ImportError:
            continue
    return found


def keep_to_equal_threads() -> None:
    """Keep this process to as many CPUs as Numba has threads, for packages that count CPUs."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
