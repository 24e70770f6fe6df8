"""Compare the loss and its gradient in JAX: this package's function and that of optax.

``python -m asv_bench.jax_training_step`` runs ``jax.value_and_grad`` of the mean of
``sce_numba.jax.sigmoid_cross_entropy`` and of ``optax.sigmoid_binary_cross_entropy``, both under
``jax.jit``, in turns, on the same arrays and as many threads, and prints medians: of this package
the time, of optax how many times as long it took.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import jax
import numpy as np
import optax

from sce_numba.jax import sigmoid_cross_entropy

from .report import add_outputs, as_json, beside, facts, facts_in_words, saved, table_beside, write
from .timing import Timing, measure

SIZES = (8192, 2048), (512, 512), (32, 10)


def optax_loss(labels: jax.Array, logits: jax.Array) -> jax.Array:
    """Return the mean loss as one writes it with optax."""
    return optax.sigmoid_binary_cross_entropy(logits, labels).mean()


def run(rounds: int) -> dict[str, dict[str, Timing]]:
    """Return the timings of each job and shape, by loss."""
    losses = {"sce_numba.jax": sigmoid_cross_entropy, "optax": optax_loss}
    jobs = {
        "value and gradient": lambda loss: jax.value_and_grad(loss, argnums=1),
        "value": lambda loss: loss,
    }
    timings = {}
    for shape in SIZES:
        rng = np.random.default_rng(0)
        logits = jax.numpy.asarray(rng.normal(0, 3, shape).astype(np.float32))
        labels = jax.numpy.asarray((rng.random(shape) < 0.5).astype(np.float32))
        for job, prepare in jobs.items():
            steps = {name: jax.jit(prepare(loss)) for name, loss in losses.items()}

            def step(name: str, steps: Any = steps, of: Any = (labels, logits)) -> Any:
                return jax.block_until_ready(steps[name](*of))

            leaves = [jax.tree.leaves(step(name)) for name in steps]
            for own, other in zip(*leaves, strict=True):
                np.testing.assert_allclose(own, other, 1e-4, 1e-7)
            calls = {name: lambda name=name, step=step: step(name) for name in steps}
            title = f"{job}, {shape[0]} x {shape[1]}"
            timings[title] = measure(calls, rounds)
            print(title, *beside(timings[title]), sep=" | ", file=sys.stderr, flush=True)
    return timings


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="timings of each call (15)")
    add_outputs(parser)
    options = parser.parse_args()
    if options.saved:
        said, found = saved(options.saved)
    else:
        found = run(options.rounds)
        command = " ".join(["python -m asv_bench.jax_training_step", *sys.argv[1:]])
        said = facts(command, [f"JAX {jax.__version__}", f"optax {optax.__version__}"])
    words = f"{table_beside('under jit', found)}\n\n{facts_in_words(said)}"
    print(as_json(said, found) if options.json else words)
    write(words, options.page, "asv_bench.jax_training_step")


if __name__ == "__main__":
    main()
