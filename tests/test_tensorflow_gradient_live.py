"""Gradients and weighted positives beside TensorFlow's, where TensorFlow is installed."""

import os
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest
from gradient_calls import check_calls
from random_calls import LOGITS_DTYPES

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    tf = pytest.importorskip("tensorflow")

pytestmark = pytest.mark.filterwarnings("ignore:::tensorflow")


def test_seeded_gradients_agree_with_tensorflow(capsys):
    def check(call):
        logits = tf.constant(call.logits)
        with tf.GradientTape() as tape:
            tape.watch(logits)
            if call.pos_weight is None:
                loss = tf.compat.v1.losses.sigmoid_cross_entropy(
                    call.labels, logits, call.weights, call.smoothing, reduction=call.reduction
                )
            else:
                labels = tf.cast(call.labels, logits.dtype)
                if call.smoothing:
                    labels = labels * (1 - call.smoothing) + 0.5 * call.smoothing
                losses = tf.nn.weighted_cross_entropy_with_logits(
                    labels, logits, tf.cast(call.pos_weight, logits.dtype)
                )
                loss = tf.compat.v1.losses.compute_weighted_loss(
                    losses, call.weights, reduction=call.reduction
                )
        call.check(loss.numpy(), tape.gradient(loss, logits).numpy())

    check_calls(check, LOGITS_DTYPES, capsys)
