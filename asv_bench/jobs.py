"""The jobs that are compared: a loss of a set of arrays, with its derivatives or without."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np


class Job:
    """One loss of one set of arrays, with as many derivatives as there are."""

    def __init__(
        self,
        name: str,
        labels: Any,
        logits: Any,
        weights: Any = None,
        *,
        smoothing: float = 0.0,
        reduction: str = "weighted_sum_by_nonzero_weights",
        derivatives: int = 0,
        axis: int | None = None,
    ) -> None:
        self.name, self.labels, self.logits, self.weights = name, labels, logits, weights
        self.smoothing, self.reduction, self.derivatives = smoothing, reduction, derivatives
        self.axis = axis
        self.none = reduction == "none"
        self.out = [np.empty_like(logits) for _ in range(1 if self.none else derivatives)]


def jobs() -> list[Job]:
    """Return the jobs, on the same data in every run."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (8192, 2048)).astype(np.float32)
    hard = rng.random(logits.shape) < 0.5
    labels = hard.astype(np.float32)
    rows, columns, full = (
        rng.random(shape).astype(np.float32) for shape in ((8192, 1), (1, 2048), logits.shape)
    )
    thin = rng.normal(0, 3, (10**6, 10)).astype(np.float32)
    thin_labels, thin_rows = (thin > 0).astype(np.float32), rng.random((10**6, 1), np.float32)
    square = labels[:512, :512].copy(), logits[:512, :512].copy()
    small = labels[:32, :10].copy(), logits[:32, :10].copy()
    found = [
        Job("default, float32 labels", labels, logits),
        Job("default, bool labels", hard, logits),
        Job("default, int64 labels", hard.astype(np.int64), logits),
        Job("smoothing 0.1, [B,1] weights", labels, logits, rows, smoothing=0.1),
        Job("[1,C] weights", labels, logits, columns),
        Job("full weights, MEAN", labels, logits, full, reduction="weighted_mean"),
        Job("NONE into out", labels, logits, reduction="none"),
        Job("value and gradient", labels, logits, derivatives=1),
        Job("gradient and hessian", labels, logits, derivatives=2),
        Job("float64, default", labels.astype(np.float64), logits.astype(np.float64)),
        Job("float16 logits", labels, logits.astype(np.float16)),
        Job("one loss per row", labels, logits, axis=-1),
        Job("one loss per column", labels, logits, axis=0),
        Job("10^6 x 10, one loss per row", thin_labels, thin, axis=-1),
        Job("10^6 x 10, [B,1] weights", thin_labels, thin, thin_rows),
        Job("512 x 512", *square),
        Job("512 x 512, value and gradient", *square, derivatives=1),
        Job("32 x 10", *small),
        Job("32 x 10, value and gradient", *small, derivatives=1),
    ]
    try:
        bfloat16 = importlib.import_module("ml_dtypes").bfloat16
    except ImportError:
        return found
    return [*found, Job("bfloat16 logits", labels, logits.astype(bfloat16))]
