"""Logits and labels, drawn once for all benchmarks (``setup_cache``), then loaded."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

# In the cache of any CPU, and beyond it.
SHAPES = {"512 x 512": (512, 512), "8192 x 2048": (8192, 2048)}
CALLS = {"512 x 512": 20, "8192 x 2048": 1}
# asv times a commit in so many processes, in turns with those of the other commit: one that another
# program disturbs is then outvoted.
rounds = 4


def setup_cache() -> None:
    """Write the arrays to files in the working directory, where asv starts every benchmark."""
    rng = np.random.default_rng(0)
    for name, shape in SHAPES.items():
        np.save(f"logits {name}.npy", rng.normal(0, 3, shape).astype(np.float32))
        np.save(f"labels {name}.npy", rng.random(shape) < 0.5)


@functools.cache
def load(shape: str, dtype: str = "float32", label_dtype: str = "float32") -> tuple[Any, Any]:
    """Return labels and logits; the same arrays whenever the same are asked for."""
    labels, logits = np.load(f"labels {shape}.npy"), np.load(f"logits {shape}.npy")
    return labels.astype(label_dtype, copy=False), logits.astype(dtype, copy=False)


def needs(package: Any, *names: str) -> None:
    """Make asv skip a benchmark of something that an old commit doesn't have."""
    for name in names:
        if not hasattr(package, name):
            raise NotImplementedError(f"this version has no {name}")
