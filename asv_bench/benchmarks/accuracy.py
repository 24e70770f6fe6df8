"""The greatest error in ULP over logits of every magnitude.

``tools/exhaustive_ulp.py`` tries all float32 logits; these are enough to see a change.
"""

import math

import numpy as np
from mpmath import mp, mpf

import sce_numba as sce

from .data import needs


def ulp(actual, exact, smallest):
    """Return the greatest distance from exact values, in the spacing of numbers of the dtype."""
    digits = np.finfo(actual.dtype).nmant + 1
    spacing = np.ldexp(1.0, np.maximum(np.frexp(exact)[1] - digits, smallest))
    return float((np.abs(actual - exact) / spacing).max())


class Float32:
    """Every 4099th float32, against float64."""

    params = ([0, 1],)
    param_names = ("label",)
    unit = "ULP"

    def setup(self, label):
        logits = np.arange(0, 2**32, 4099, np.uint32).view(np.float32)
        self.logits = logits[np.isfinite(logits)]
        self.labels = np.full_like(self.logits, label)
        x = self.logits.astype(np.float64)
        t = np.exp(-np.abs(x))
        self.loss = np.where(x > 0, x * (1 - label), -x * label) + np.log1p(t)
        smaller = t / (1 + t)
        self.gradient = np.where(x < 0, smaller - label, (1 - label) - smaller)

    def track_loss(self, label):
        loss = sce.sigmoid_cross_entropy_with_logits(labels=self.labels, logits=self.logits)
        return ulp(loss, self.loss, -149)

    def track_sum(self, label):
        some = np.abs(self.logits) < 100
        total = sce.sigmoid_cross_entropy(
            self.labels[some], self.logits[some], reduction="weighted_sum"
        )
        return ulp(total, math.fsum(self.loss[some]), -149)


class Float32Gradient:
    """The same of the gradient."""

    params = ([0, 1],)
    param_names = ("label",)
    unit = "ULP"

    def setup(self, label):
        needs(sce, "sigmoid_cross_entropy_value_and_grad")
        Float32.setup(self, label)

    def track_gradient(self, label):
        _, gradient = sce.sigmoid_cross_entropy_value_and_grad(
            self.labels, self.logits, reduction="weighted_sum"
        )
        return ulp(gradient, self.gradient, -149)


class Float64:
    """Some thousand float64 logits, against 40 digits."""

    params = ([0, 1],)
    param_names = ("label",)
    unit = "ULP"

    def setup(self, label):
        rng = np.random.default_rng(0)
        size = np.exp2(rng.uniform(-40, 9, 2000))
        self.logits = size * rng.choice([-1, 1], size.size)
        self.labels = np.full_like(self.logits, label)

    def track_loss(self, label):
        with mp.workdps(40):
            exact = [
                max(x, mpf(0)) - x * label + mp.log1p(mp.exp(-abs(x)))
                for x in map(mpf, self.logits.tolist())
            ]
            loss = sce.sigmoid_cross_entropy_with_logits(labels=self.labels, logits=self.logits)
            return max(
                float(abs(mpf(value) - true) / mpf(math.ulp(float(true))))
                for value, true in zip(loss.tolist(), exact, strict=True)
            )
