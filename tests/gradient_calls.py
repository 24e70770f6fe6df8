"""Random calls of value and gradient, to be compared with another implementation.

Every call is compared to the exact value, within this library's promise, and to the other's within
that promise and its own rounding.  SCE_LIVE_CASES tells how many calls are drawn:

    SCE_LIVE_CASES=20000 python -m pytest tests/test_tensorflow_gradient_live.py -s

Not drawn is what differs on purpose: logits of exactly 0 beside a weight of positives, where
TensorFlow takes the slope of another function, and infinite logits.
"""

import os
import random
import time

import numpy as np
import reference
from random_calls import LABELS_DTYPES, LAYOUTS, draw_labels, draw_shape, drawn, laid_out
from reference import NONE, REDUCTIONS

import sce_numba as sce

SEED = 20170301
CASES = int(os.environ.get("SCE_LIVE_CASES", "1000"))


class GradientCall:
    """Random arguments of a loss, and its exact derivatives."""

    def __init__(self, rng, dtypes):
        self.dtype = rng.choice(dtypes)
        self.reduction = rng.choice(REDUCTIONS)
        self.smoothing = rng.choice([0, 0.1, rng.uniform(0.01, 0.99)])
        shape = draw_shape(rng)
        spread = rng.choice([1.0, 8.0, 30.0])
        self.logits = drawn(rng, shape, self.dtype, lambda: rng.uniform(-spread, spread))
        self.logits[self.logits == 0] = 1
        self.labels = draw_labels(rng, shape, rng.choice(LABELS_DTYPES))
        own = rng.choice([(), tuple(n if rng.random() < 0.5 else 1 for n in shape), shape])
        # In eighths, for a float32 sum of them to be exact; sometimes none at all.
        values = rng.choice([lambda: rng.randrange(1, 32) / 8, lambda: rng.choice([0, 0, 1, 2])])
        self.weights = drawn(rng, own, np.dtype(np.float32), values)
        broadcast = shape[rng.randrange(len(shape) + 1) :]
        self.pos_weight = rng.choice(
            [
                None,
                rng.uniform(0.1, 5),
                drawn(rng, broadcast, self.dtype, lambda: rng.uniform(0.1, 5)),
            ]
        )
        self.layouts = [rng.choice(LAYOUTS) for _ in range(2)]

    def __repr__(self):
        return ", ".join(f"{name}={value!r}" for name, value in vars(self).items())

    def ours(self):
        labels, logits = map(laid_out, (self.labels, self.logits), self.layouts)
        return sce.sigmoid_cross_entropy_value_and_grad(
            labels,
            logits,
            self.weights,
            self.smoothing,
            reduction=self.reduction,
            pos_weight=self.pos_weight,
        )

    def check(self, their_loss, their_gradient):
        loss, gradient = self.ours()
        q = 1 if self.pos_weight is None else self.pos_weight
        given = self.labels, self.logits, self.smoothing, q
        value, error = reference.scaled_gradient(*given, self.weights, self.reduction)
        reference.assert_within(gradient, value, error, "ours, against the exact gradient")
        # What rounding costs a framework that computes step by step in the dtype of logits, with
        # terms of the size of weight, label and weight of positives.
        eps = 2.0 ** -{"float16": 8, "bfloat16": 5}.get(self.dtype.name, 19)
        size = np.max(np.abs(self.labels.astype(float)), initial=1) * np.max(q, initial=1).astype(
            float
        )
        unit, _ = reference.scaled_gradient(
            np.zeros(self.logits.shape), np.full(self.logits.shape, 40, self.dtype), 0, 1,
            self.weights, self.reduction,
        )  # fmt: skip
        theirs = np.asarray(their_gradient).astype(np.float64)
        reference.assert_within(
            gradient, theirs, error + eps * size * np.abs(unit) + 1e-37, "ours, against theirs"
        )
        scale = np.max(np.abs(self.logits.astype(float)), initial=1) * size
        total = np.abs(unit) if self.reduction == NONE else np.sum(np.abs(unit))
        reference.assert_within(
            loss, np.asarray(their_loss).astype(np.float64), 4 * eps * scale * total, "the losses"
        )


def check_calls(check, dtypes, capsys):
    """Check `CASES` cases and report all that disagree."""
    rng, failures, start = random.Random(SEED), [], time.perf_counter()
    for _ in range(CASES):
        call = GradientCall(rng, dtypes)
        try:
            check(call)
        except Exception as error:
            failures.append(f"{call}\n  {type(error).__name__}: {error}")
    with capsys.disabled():
        seconds = time.perf_counter() - start
        print(f"\n{CASES} cases, {len(failures)} disagreements, {seconds:.0f} s")
    assert not failures, "\n".join(failures[:10])
