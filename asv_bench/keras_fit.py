"""Compare epochs of Keras's ``fit`` by this package's loss and by Keras's own.

``python -m asv_bench.keras_fit`` fits, under each backend that is installed, two copies of a model
in turns, an epoch each, and prints how many times as long the median epoch by Keras's loss took.
For TensorFlow, which the package has no function for, the loss is a ``tf.numpy_function`` with its
gradient, and its model runs without XLA.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, NamedTuple

import numba
import numpy as np

import sce_numba as sce

from .report import add_outputs, as_json, facts, facts_in_words, in_columns, saved, times, write
from .timing import Timing, timing_of

BACKENDS = {"torch": "PyTorch", "jax": "JAX", "tensorflow": "TensorFlow"}


class Shape(NamedTuple):
    """A model of dense layers, and its data."""

    features: int
    hidden: int | None
    labels: int
    batch: int
    rows: int

    def __str__(self) -> str:
        hidden = f"{self.hidden} hidden, " if self.hidden else ""
        return f"{self.features} features, {hidden}{self.labels} labels, {self.batch}"


SHAPES = (
    Shape(256, None, 768, 512, 8192),
    Shape(256, 256, 1000, 256, 8192),
    Shape(64, None, 8192, 1024, 4096),
)


def own_loss(backend: str) -> Callable[..., Any]:
    """Return this package's loss as a function of labels and logits of a backend."""
    if backend != "tensorflow":
        loss: Callable[..., Any] = importlib.import_module(
            f"sce_numba.{backend}"
        ).sigmoid_cross_entropy
        return loss
    tf = importlib.import_module("tensorflow")

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def differentiable(labels: Any, logits: Any) -> Any:
        compute = sce.sigmoid_cross_entropy_value_and_grad
        dtypes = [logits.dtype, logits.dtype]
        loss, gradient = tf.numpy_function(compute, [labels, logits], dtypes, stateful=False)
        gradient = tf.ensure_shape(gradient, logits.shape)
        return tf.ensure_shape(loss, []), lambda upstream: (None, upstream * gradient)

    return differentiable  # type: ignore[no-any-return]


def model_of(shape: Shape, loss: Any, compiled: bool | str) -> Any:
    """Return a model ready to fit."""
    import keras

    keras.utils.set_random_seed(0)
    layers = [keras.Input((shape.features,))]
    if shape.hidden:
        layers.append(keras.layers.Dense(shape.hidden, activation="relu"))
    model = keras.Sequential([*layers, keras.layers.Dense(shape.labels)])
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss=loss, jit_compile=compiled)
    return model


def measure(backend: str, rounds: int) -> tuple[list[str], list[list[Timing]]]:
    """Return the versions of a backend, and epochs of each shape, ours and Keras's."""
    import keras

    library = importlib.import_module(backend)
    if backend == "torch":
        library.set_num_threads(numba.config.NUMBA_NUM_THREADS)
    rng = np.random.default_rng(0)
    epochs = []
    for shape in SHAPES:
        features = rng.normal(size=(shape.rows, shape.features)).astype(np.float32)
        labels = (rng.random((shape.rows, shape.labels)) < 0.1).astype(np.float32)
        own_compiled = False if backend == "tensorflow" else "auto"
        models = {
            "sce_numba": model_of(shape, own_loss(backend), own_compiled),
            "Keras": model_of(shape, keras.losses.BinaryCrossentropy(from_logits=True), "auto"),
        }
        seconds: dict[str, list[float]] = {name: [] for name in models}
        losses = {}
        for _ in range(1 + rounds):  # the first compiles
            for name, model in models.items():
                start = time.perf_counter()
                history = model.fit(
                    features, labels, batch_size=shape.batch, shuffle=False, verbose=0
                )
                seconds[name].append(time.perf_counter() - start)
                losses[name] = history.history["loss"][-1]
        np.testing.assert_allclose(*losses.values(), 1e-4)
        epochs.append([timing_of(found[1:]) for found in seconds.values()])
        print(f"{backend}: {shape}: {epochs[-1][0].median:.3f} s", file=sys.stderr, flush=True)
    version = library.__version__.split("+")[0]
    return [f"Keras {keras.__version__}", f"{BACKENDS[backend]} {version}"], epochs


def measured(backend: str, rounds: int) -> tuple[list[str], list[list[Timing]]]:
    """Return the same from a process of its own, as Keras has one backend in each."""
    command = [sys.executable, "-m", "asv_bench.keras_fit", "--rounds", str(rounds)]
    program = subprocess.run(
        [*command, "--worker", backend],
        env={**os.environ, "KERAS_BACKEND": backend},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    versions, epochs = json.loads(program.stdout.splitlines()[-1])
    return versions, [[Timing(*timing) for timing in pair] for pair in epochs]


def table(found: dict[str, dict[str, Timing]]) -> str:
    """Return a row for each shape, and a column for each backend."""
    backends = dict.fromkeys(title.split(": ")[0] for title in found)
    rows = [["model, batches", *backends]]
    for shape in map(str, SHAPES):
        ratios = []
        for backend in backends:
            ours, theirs = found[f"{backend}: {shape}"].values()
            ratios.append(times(theirs.median / ours.median))
        rows.append([shape, *ratios])
    return in_columns(rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="timed epochs of each (15)")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    add_outputs(parser)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(measure(options.worker, options.rounds)))
        return
    if options.saved:
        said, found = saved(options.saved)
    else:
        found, versions = {}, []
        for backend in filter(find_spec, BACKENDS):
            names, epochs = measured(backend, options.rounds)
            versions += names
            for shape, (ours, theirs) in zip(SHAPES, epochs, strict=True):
                found[f"{BACKENDS[backend]}: {shape}"] = {"sce_numba": ours, "Keras": theirs}
        said = facts(" ".join(["python -m asv_bench.keras_fit", *sys.argv[1:]]), versions)
    words = f"{table(found)}\n\n{facts_in_words(said)}"
    print(as_json(said, found) if options.json else words)
    write(words, options.page, "asv_bench.keras_fit")


if __name__ == "__main__":
    main()
