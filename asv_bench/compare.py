"""Compare the speed of sce_numba with what else is installed, and with reading the memory alone.

``python -m asv_bench.compare`` runs every job by every peer in turns, so that a busy moment of the
machine meets them all, and prints medians.  The roofline of a job is a kernel that reads the same
arrays (and writes the result), and does nothing else.  Peers that are not installed are left out.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

import sce_numba as sce

THREADS = numba.get_num_threads()
PAUSE = 0.02
Call = Callable[[], Any]


@numba.njit(parallel=True, fastmath=True)
def read(parts):
    """Read arrays of bytes, in 8-byte words."""
    total = 0
    for part in numba.literal_unroll(parts):
        for i in numba.prange(part.size):
            total += part[i]
    return total


@numba.njit(parallel=True, fastmath=True)
def read_two(a, b):
    """Read two arrays side by side."""
    total = 0.0
    for i in numba.prange(a.size):
        total += a[i] + b[i]
    return total


@numba.njit(parallel=True, fastmath=True)
def read_three(a, b, c):
    """Read three arrays side by side."""
    total = 0.0
    for i in numba.prange(a.size):
        total += a[i] + b[i] + c[i]
    return total


@numba.njit(parallel=True)
def read_and_write(a, b, out):
    """Read two arrays and write a third."""
    for i in numba.prange(a.size):
        out[i] = a[i] + b[i]


@numba.njit(parallel=True)
def read_and_write_two(a, b, out, other):
    """Read two arrays and write two."""
    for i in numba.prange(a.size):
        out[i] = a[i] + b[i]
        other[i] = a[i] - b[i]


class Job:
    """One loss of one set of arrays, with its derivatives or without."""

    def __init__(
        self, name: str, labels: Any, logits: Any, weights: Any = None, *, smoothing: float = 0.0,
        reduction: str = "weighted_sum_by_nonzero_weights", repeats: int = 1, derivatives: int = 0,
    ) -> None:  # fmt: skip
        self.name, self.labels, self.logits, self.weights = name, labels, logits, weights
        self.smoothing, self.reduction, self.repeats = smoothing, reduction, repeats
        self.derivatives, self.none = derivatives, reduction == "none"
        results = 1 if self.none else derivatives
        self.out = [np.empty_like(logits) for _ in range(results)]


def jobs() -> list[Job]:
    """Return the jobs, on the same data in every run."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (8192, 2048)).astype(np.float32)
    hard = rng.random(logits.shape) < 0.5
    labels = hard.astype(np.float32)
    rows = rng.random((8192, 1)).astype(np.float32)
    short = rng.normal(0, 3, (10**6, 10)).astype(np.float32)
    found = [
        Job("default, float32 labels", labels, logits),
        Job("default, bool labels", hard, logits),
        Job("default, int64 labels", hard.astype(np.int64), logits),
        Job("smoothing 0.1, [B,1] weights", labels, logits, rows, smoothing=0.1),
        Job(
            "full weights, MEAN", labels, logits, rng.random(logits.shape).astype(np.float32),
            reduction="weighted_mean",
        ),
        Job("NONE into out", labels, logits, reduction="none"),
        Job("float64, default", labels.astype(np.float64), logits.astype(np.float64)),
        Job("float16 logits", labels, logits.astype(np.float16)),
        Job(
            "10^6 x 10, [B,1] weights", (short > 0).astype(np.float32), short,
            rng.random((10**6, 1)).astype(np.float32),
        ),
        Job("value and gradient", labels, logits, derivatives=1),
        Job("gradient and hessian", labels, logits, derivatives=2),
        Job("512 x 512", labels[:512, :512].copy(), logits[:512, :512].copy(), repeats=20),
        Job("32 x 10", labels[:32, :10].copy(), logits[:32, :10].copy(), repeats=500),
        Job(
            "32 x 10, value and gradient", labels[:32, :10].copy(), logits[:32, :10].copy(),
            repeats=100, derivatives=1,
        ),
    ]  # fmt: skip
    try:
        bfloat16 = importlib.import_module("ml_dtypes").bfloat16
    except ImportError:
        return found
    return [*found, Job("bfloat16 logits", labels, logits.astype(bfloat16))]


def ours(job: Job) -> Call:
    """Return the job done by this package."""
    keywords = {"label_smoothing": job.smoothing, "reduction": job.reduction}
    if job.derivatives == 1:
        return lambda: sce.sigmoid_cross_entropy_value_and_grad(
            job.labels, job.logits, grad_out=job.out[0]
        )
    if job.derivatives == 2:
        return lambda: sce.sigmoid_cross_entropy_gradient_hessian(
            job.labels, job.logits, grad_out=job.out[0], hess_out=job.out[1]
        )
    if job.none:
        keywords["out"] = job.out[0]
    if job.weights is not None:
        keywords["weights"] = job.weights
    if len(keywords) == 2 and not job.smoothing:
        return lambda: sce.sigmoid_cross_entropy(job.labels, job.logits)
    return lambda: sce.sigmoid_cross_entropy(job.labels, job.logits, **keywords)


def roofline(job: Job) -> Call | None:
    """Return what reads (and writes) the same memory."""
    arrays = [job.logits.reshape(-1), job.labels.reshape(-1)]
    if job.weights is not None and job.weights.size == job.logits.size:
        arrays.append(job.weights.reshape(-1))
    if job.logits.size < 10**6:
        return None
    if job.out:
        results = [array.reshape(-1) for array in job.out]
        return lambda: (read_and_write, read_and_write_two)[len(results) - 1](*arrays, *results)
    if any(array.dtype != arrays[0].dtype for array in arrays):
        words = tuple(array.view(np.uint64) for array in arrays)
        return lambda: read(words)
    return lambda: (read_two if len(arrays) == 2 else read_three)(*arrays)


def numpy_peer() -> tuple[str, Callable[[Job], Call]]:
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
                return loss if job.none else loss.mean()
            total = (loss * job.weights).sum()
            return total / (job.weights.sum() * (x.size // job.weights.size))

        return run

    return f"NumPy {np.__version__}", call


def torch_peers() -> list[tuple[str, Callable[[Job], Call | None]]]:
    """PyTorch, eager and compiled."""
    torch = importlib.import_module("torch")
    torch.set_num_threads(THREADS)
    function = torch.nn.functional.binary_cross_entropy_with_logits

    def loss(x: Any, z: Any, w: Any, smoothing: float, none: bool) -> Any:
        z = z.to(x.dtype)
        if smoothing:
            z = z * (1 - smoothing) + smoothing / 2
        if w is None:
            return function(x, z, reduction="none" if none else "mean")
        total = function(x, z, w, reduction="sum")
        return total / (w.sum() * (x.numel() // w.numel()))

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
                    return function(x, z, w, job.smoothing, job.none)

            def differentiate() -> Any:
                value = function(x, z, w, job.smoothing, job.none)
                return torch.autograd.grad(value, x)

            if job.derivatives:
                x.requires_grad_(True)
            return differentiate if job.derivatives else run

        return call

    def tensor(array: Any) -> Any:
        if array.dtype.name == "bfloat16":
            return torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)
        return torch.from_numpy(array)

    def compiled(function: Callable[..., Any]) -> Any:
        torch.compiler.reset()
        return torch.compile(function, dynamic=False)

    name = f"PyTorch {torch.__version__.split('+')[0]}"
    return [(f"{name} eager", of(lambda function: function)), (f"{name} compile", of(compiled))]


def tensorflow_peers() -> list[tuple[str, Callable[[Job], Call | None]]]:
    """TensorFlow 1's function, eager and by XLA."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    tf = importlib.import_module("tensorflow")
    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(THREADS)

    def loss(z: Any, x: Any, w: Any, smoothing: float, reduction: str) -> Any:
        return tf.compat.v1.losses.sigmoid_cross_entropy(z, x, w, smoothing, reduction=reduction)

    def value_and_grad(z: Any, x: Any, w: Any, smoothing: float, reduction: str) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = loss(z, x, w, smoothing, reduction)
        return tape.gradient(value, x)

    def of(prepare: Callable[..., Any]) -> Callable[[Job], Call | None]:
        functions = [prepare(loss), prepare(value_and_grad)]

        def call(job: Job) -> Call | None:
            if job.derivatives == 2:
                return None
            x, z = tf.constant(job.logits), tf.constant(job.labels)
            w = tf.constant(1.0 if job.weights is None else job.weights)
            function = functions[job.derivatives]
            return lambda: function(z, x, w, job.smoothing, job.reduction).numpy()

        return call

    def compiled(function: Callable[..., Any]) -> Any:
        return tf.function(function, jit_compile=True)

    name = f"TensorFlow {tf.__version__}"
    return [(f"{name} eager", of(lambda function: function)), (f"{name} XLA", of(compiled))]


def jax_peers() -> list[tuple[str, Callable[[Job], Call | None]]]:
    """JAX with optax."""
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
                return losses.mean()
            return (losses * w).sum() / (w.sum() * (x.size // w.size))

        compiled = jax.jit(jax.value_and_grad(loss) if job.derivatives else loss)
        x, z = jax.numpy.asarray(job.logits), jax.numpy.asarray(job.labels)
        w = None if job.weights is None else jax.numpy.asarray(job.weights)
        return lambda: jax.block_until_ready(compiled(x, z, w))

    return [(f"JAX {jax.__version__}", call)]


def scikit_learn_peers() -> list[tuple[str, Callable[[Job], Call | None]]]:
    """Return the loss behind scikit-learn's own boosting, which has no reduced value."""
    module = importlib.import_module("sklearn._loss.loss")
    version = importlib.import_module("sklearn").__version__

    def call(job: Job) -> Call | None:
        if job.derivatives != 2:
            return None
        x, z, gradient, hessian = (a.reshape(-1) for a in (job.logits, job.labels, *job.out))
        return lambda: module.HalfBinomialLoss().gradient_hessian(
            z, x, None, gradient, hessian, n_threads=THREADS
        )

    return [(f"scikit-learn {version}", call)]


def peers() -> list[tuple[str, Callable[[Job], Call | None]]]:
    """Return those that are installed."""
    found: list[tuple[str, Callable[[Job], Call | None]]] = [numpy_peer()]
    for make in (torch_peers, tensorflow_peers, jax_peers, scikit_learn_peers):
        try:
            found.extend(make())
        except ImportError:
            continue
    return found


def measure(calls: dict[str, tuple[Call, int]], rounds: int) -> dict[str, float]:
    """Return the median seconds of each call, all of them run in turns.

    A pause lets the threads of the call before fall asleep, and an untimed call wakes the own.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for call, _ in calls.values():
        call()
        call()
    for _ in range(rounds):
        for name, (call, repeats) in calls.items():
            time.sleep(PAUSE)
            call()
            start = time.perf_counter()
            for _ in range(repeats):
                call()
            seconds[name].append((time.perf_counter() - start) / repeats)
    return {name: statistics.median(values) for name, values in seconds.items()}


def one_thread(job: Job, rounds: int) -> float:
    """Return how many times as fast all threads are as one."""
    call = ours(job)

    def alone() -> None:
        numba.set_num_threads(1)
        for _ in range(job.repeats):
            call()
        numba.set_num_threads(THREADS)

    def together() -> None:
        for _ in range(job.repeats):
            call()

    found = measure({"alone": (alone, 1), "together": (together, 1)}, rounds)
    return found["alone"] / found["together"]


def main() -> None:
    """Run everything and print a table, or JSON."""
    parser = argparse.ArgumentParser(prog="python -m asv_bench.compare", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="timings of each call (15)")
    parser.add_argument("--only", default="", help="jobs whose name contains this")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    others = peers()
    report: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {THREADS} threads",
        "versions": {"sce_numba": sce.__version__, "Numba": numba.__version__},
        "milliseconds": {},
    }
    for job in jobs():
        if options.only not in job.name:
            continue
        calls = {"sce_numba": (ours(job), job.repeats)}
        bound = roofline(job)
        if bound is not None:
            calls["roofline"] = (bound, job.repeats)
        for name, make in others:
            call = make(job)
            if call is not None:
                calls[name] = (call, job.repeats)
        found = measure(calls, options.rounds)
        report["milliseconds"][job.name] = {name: value * 1e3 for name, value in found.items()}
        if not options.json:
            print(f"{job.name}: sce_numba {found['sce_numba'] * 1e3:.4g} ms", end="")
            if bound is not None:
                print(f", {found['roofline'] / found['sce_numba']:.0%} of the roofline", end="")
            if job.name == "512 x 512":
                print(f", threads over one {one_thread(job, options.rounds):.2f}", end="")
            print()
            for name in list(found)[2 if bound else 1 :]:
                print(f"    {name:<28} {found[name] / found['sce_numba']:8.1f} x", flush=True)
    if options.json:
        print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
