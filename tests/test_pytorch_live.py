"""Gradients and weighted positives beside PyTorch's, where PyTorch is installed."""

import numpy as np
import pytest
from gradient_calls import check_calls
from reference import NONE

import sce_numba as sce

torch = pytest.importorskip("torch")
loss_of = torch.nn.functional.binary_cross_entropy_with_logits

pytestmark = pytest.mark.filterwarnings("ignore")


def test_seeded_gradients_agree_with_pytorch(capsys):
    def tensor(values, logits):
        return torch.tensor(np.asarray(values, np.float64)).to(logits.dtype)

    def check(call):
        logits = torch.tensor(call.logits, requires_grad=True)
        labels = tensor(call.labels.astype(np.float64), logits)
        labels = labels * (1 - call.smoothing) + call.smoothing / 2
        weights = np.broadcast_to(call.weights, call.logits.shape).astype(np.float64)
        pos_weight = None if call.pos_weight is None else tensor(call.pos_weight, logits)
        losses = loss_of(
            logits, labels, tensor(weights, logits), reduction="none", pos_weight=pos_weight
        )
        denominator = {
            "weighted_mean": weights.sum(),
            "weighted_sum_over_batch_size": weights.size,
            "weighted_sum_by_nonzero_weights": np.count_nonzero(weights),
        }.get(call.reduction, 1)
        loss = losses.sum() / denominator if denominator else 0 * losses.sum()
        loss.backward()
        value = losses if call.reduction == NONE else loss
        call.check(value.detach().numpy(), logits.grad.numpy())

    check_calls(check, [np.dtype(np.float32), np.dtype(np.float64)], capsys)


def test_element_losses_with_weighted_positives():
    rng = np.random.default_rng(20170301)
    logits, labels = rng.normal(0, 4, (300, 40)), rng.random((300, 40))
    weight = rng.uniform(0.1, 5, 40)
    theirs = loss_of(
        *map(torch.tensor, (logits, labels)), reduction="none", pos_weight=torch.tensor(weight)
    )
    ours = sce.weighted_cross_entropy_with_logits(labels, logits, weight)
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-12)
