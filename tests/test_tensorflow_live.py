"""The same random calls to TensorFlow and to this library, where TensorFlow is installed.

One generator draws the calls, for two readers: Hypothesis, which shrinks a failure to a small call,
and a seeded loop, which counts. The loop's length is the environment variable SCE_LIVE_CASES:

    SCE_LIVE_CASES=100000 python -m pytest tests/test_tensorflow_live.py -k seeded -s

Each result is compared to the exact value, within this library's promise, and to TensorFlow's,
within that promise and TensorFlow's own rounding (`reference.py` has both). What differs on purpose
is not drawn: float32 overflow, subnormal labels and weights, smoothing outside [0, 1]. It is tested
in `test_tensorflow_golden.py`.
"""

import collections
import os
import random
import time
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest
import reference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_calls import (
    LABELS_DTYPES,
    LAYOUTS,
    LOGITS_DTYPES,
    draw_labels,
    draw_logits,
    draw_shape,
    draw_weights,
    laid_out,
)
from reference import NONE, REDUCTIONS

import sce_numba as sce

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    tf = pytest.importorskip("tensorflow")

pytestmark = pytest.mark.filterwarnings("ignore:::tensorflow")

SEED = 20170301
CASES = int(os.environ.get("SCE_LIVE_CASES", "3000"))
LOSSES = "sigmoid_cross_entropy"
ELEMENTWISE = "sigmoid_cross_entropy_with_logits"
WEIGHTED = "compute_weighted_loss"
THEIRS = {
    LOSSES: tf.compat.v1.losses.sigmoid_cross_entropy,
    ELEMENTWISE: tf.compat.v1.nn.sigmoid_cross_entropy_with_logits,
    WEIGHTED: tf.compat.v1.losses.compute_weighted_loss,
}


class Call:
    """One call: a function, its arguments, and what the result has to be."""

    def __init__(self, rng):
        self.function = rng.choice([LOSSES] * 4 + [ELEMENTWISE, WEIGHTED])
        self.reduction = NONE if self.function == ELEMENTWISE else rng.choice(REDUCTIONS)
        self.dtype = rng.choice(LOGITS_DTYPES)
        self.smoothing = 0
        self.weights = 1.0
        shape = draw_shape(rng)
        self.logits = draw_logits(rng, shape, self.dtype)
        if self.function == ELEMENTWISE:
            self.labels = draw_labels(rng, shape, self.dtype)
            self.arguments = {"labels": self.labels, "logits": self.logits}
        else:
            self.weights = draw_weights(rng, shape)
            self.arguments = {"weights": self.weights, "reduction": self.reduction}
        if self.function == WEIGHTED:
            self.arguments |= {"losses": self.logits}
        if self.function == LOSSES:
            self.labels = draw_labels(rng, shape, rng.choice(LABELS_DTYPES))
            self.smoothing = rng.choice([0, 0, 0.1, 0.5, 1, rng.uniform(0.01, 0.99)])
            self.arguments |= {
                "multi_class_labels": self.labels,
                "logits": self.logits,
                "label_smoothing": self.smoothing,
            }
        if np.isinf(np.asarray(self.weights, np.float64)).any():
            self.keep_losses_from_zero()
        self.layouts = {
            name: rng.choice(LAYOUTS)
            for name, value in self.arguments.items()
            if isinstance(value, np.ndarray)
        }

    def keep_losses_from_zero(self):
        """Change what TensorFlow would round to 0: times inf, that is NaN there and inf here."""
        size = np.abs(self.logits.astype(np.float64))
        self.logits[np.isfinite(size) & ((size > 8) | ((size > 0) & (size < 1e-4)))] = 1
        if self.function == LOSSES:
            self.labels[...] = self.labels > 0

    def __repr__(self):
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        return f"{self.function}({arguments}) with {self.layouts}"

    def ours(self):
        arranged = {
            name: laid_out(self.arguments[name], layout) for name, layout in self.layouts.items()
        }
        return getattr(sce, self.function)(**self.arguments | arranged)

    def theirs(self):
        return THEIRS[self.function](**self.arguments).numpy()

    def expected(self):
        """Return the exact value, our allowance and TensorFlow's."""
        if self.function == WEIGHTED:
            losses = self.logits.astype(np.float64)
            ours, theirs = 0.0, reference.tensorflow_error_of_given(losses)
        else:
            given = self.labels, self.logits, self.smoothing
            losses = reference.exact_loss(*given)
            ours = reference.loss_error(*given, losses)
            theirs = reference.tensorflow_error(*given, self.function == ELEMENTWISE)
        value, ours = reference.weighted(losses, ours, self.weights, self.reduction, self.dtype)
        _, theirs = reference.weighted(
            losses, theirs, self.weights, self.reduction, self.dtype, 1e-6
        )
        return value, ours, theirs

    def check(self):
        ours, theirs = self.ours(), self.theirs()
        value, our_error, their_error = self.expected()
        assert ours.shape == theirs.shape
        # By name, as the order of bytes may stay that of the logits.
        assert ours.dtype.name == theirs.dtype.name
        reference.assert_within(ours, value, our_error, "ours, against the exact value")
        reference.assert_within(theirs, value, their_error, "TensorFlow, against the exact value")
        theirs = np.asarray(theirs).astype(np.float64)
        reference.assert_within(ours, theirs, our_error + their_error, "ours, against TensorFlow")


@settings(
    max_examples=1000,
    derandomize=True,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.randoms(use_true_random=False))
def test_any_call_agrees_with_tensorflow(rng):
    Call(rng).check()


@pytest.mark.parametrize("weights_shape", [(), (900, 1), (1, 1100), (900, 1100)])
def test_a_million_elements_agree_with_tensorflow(weights_shape):
    """Long enough for several threads, too long for the exact reference."""
    generator = np.random.default_rng(SEED)
    labels = generator.random((900, 1100)) < 0.3
    logits = generator.normal(0, 3, labels.shape).astype(np.float32)
    weights = generator.uniform(0.5, 2, weights_shape).astype(np.float32)
    for reduction in REDUCTIONS:
        ours, theirs = (
            function(labels, logits, weights, 0.1, reduction=reduction)
            for function in (sce.sigmoid_cross_entropy, THEIRS[LOSSES])
        )
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=2e-6)


def raised_by(function, **arguments):
    try:
        function(**arguments)
    except Exception as error:
        return type(error).__name__
    return None


@settings(max_examples=200, derandomize=True, deadline=None, print_blob=True)
@given(st.randoms(use_true_random=False))
def test_shapes_are_accepted_and_refused_as_by_tensorflow(rng):
    shape = draw_shape(rng)
    labels = logits = np.ones(shape, np.float32)
    weights = np.ones(changed(rng, shape), np.float32)
    if rng.random() < 0.3:
        labels = np.ones(changed(rng, shape), np.float32)
    for function, arguments in [
        (LOSSES, {"multi_class_labels": labels, "logits": logits, "weights": weights}),
        (ELEMENTWISE, {"labels": labels, "logits": logits}),
        (WEIGHTED, {"losses": logits, "weights": weights}),
    ]:
        theirs = raised_by(THEIRS[function], **arguments)
        assert theirs in (None, "ValueError")
        assert raised_by(getattr(sce, function), **arguments) == theirs


def changed(rng, shape):
    """Return a shape that broadcasting rules might confuse with this one."""
    shape = [rng.choice([n, n, 1, n + 1, 0]) for n in shape]
    if rng.random() < 0.2:
        shape.insert(rng.randrange(len(shape) + 1), rng.choice([1, 2]))
    if shape and rng.random() < 0.2:
        del shape[rng.randrange(len(shape))]
    return tuple(shape)


@pytest.mark.parametrize(
    "wrong",
    [
        {"multi_class_labels": None},
        {"logits": None},
        {"weights": None},
        {"reduction": "sum"},
        {"reduction": "SUM"},
        {"reduction": None},
        # Several faults at once: both name the first of them.
        {"multi_class_labels": None, "logits": None, "reduction": "sum"},
        {"logits": np.ones((3, 2), np.float32), "weights": None},
    ],
    ids=str,
)
def test_refused_arguments(wrong):
    arguments = dict.fromkeys(("multi_class_labels", "logits"), np.ones((2, 3), np.float32)) | wrong
    assert raised_by(THEIRS[LOSSES], **arguments) == "ValueError"
    assert raised_by(sce.sigmoid_cross_entropy, **arguments) == "ValueError"


def test_seeded_calls_agree_with_tensorflow(capsys):
    rng = random.Random(SEED)
    failures = []
    kinds = collections.Counter()
    start = time.perf_counter()
    for _ in range(CASES):
        call = Call(rng)
        kinds[call.function] += 1
        try:
            call.check()
        except Exception as error:
            failures.append(f"{call}\n  {type(error).__name__}: {error}")
    with capsys.disabled():
        print(
            f"\n{CASES} calls ({', '.join(f'{n} {name}' for name, n in kinds.items())}), "
            f"{len(failures)} disagreements, {time.perf_counter() - start:.0f} s"
        )
    assert not failures, "\n".join(failures[:10])
