"""Compare epochs of Keras's ``fit`` by this package's loss and by Keras's own.

``KERAS_BACKEND=jax python -m asv_bench.keras_fit`` (or ``torch``, ``tensorflow``) fits two copies
of a model in turns, an epoch each, and prints medians.  For TensorFlow, which the package has no
function for, the loss is a ``tf.numpy_function`` with its gradient, and its model runs without XLA.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numba
import numpy as np

import sce_numba as sce


class Shape(NamedTuple):
    """A model of dense layers, and its data."""

    features: int
    hidden: int | None
    labels: int
    batch: int
    rows: int


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
    keras.utils.set_random_seed(0)
    layers = [keras.Input((shape.features,))]
    if shape.hidden:
        layers.append(keras.layers.Dense(shape.hidden, activation="relu"))
    model = keras.Sequential([*layers, keras.layers.Dense(shape.labels)])
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss=loss, jit_compile=compiled)
    return model


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="timed epochs of each (15)")
    options = parser.parse_args()
    backend = keras.backend.backend()
    threads = numba.config.NUMBA_NUM_THREADS
    library = importlib.import_module(backend)
    if backend == "torch":
        library.set_num_threads(threads)
    print(f"Keras {keras.__version__}, {backend} {library.__version__}, {threads} threads")
    rng = np.random.default_rng(0)
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
        for _ in range(1 + options.rounds):  # the first compiles
            for name, model in models.items():
                start = time.perf_counter()
                history = model.fit(
                    features, labels, batch_size=shape.batch, shuffle=False, verbose=0
                )
                seconds[name].append(time.perf_counter() - start)
                losses[name] = history.history["loss"][-1]
        np.testing.assert_allclose(*losses.values(), 1e-4)
        ours, theirs = (statistics.median(found[1:]) for found in seconds.values())
        print(f"{shape}: {ours * 1e3:.0f} ms, Keras {theirs / ours:.2f} x", flush=True)


if __name__ == "__main__":
    main()
