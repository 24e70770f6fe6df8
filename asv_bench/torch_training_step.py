"""Compare the loss and its gradient in PyTorch: this package's function and PyTorch's own.

``python -m asv_bench.torch_training_step`` runs forward and backward pass of
``sce_numba.torch.sigmoid_cross_entropy``, of ``binary_cross_entropy_with_logits``, and of this
compiled, in turns, on the same tensors and as many threads, and prints medians.
Logits are a leaf whose gradient is set to None before each step, as an optimizer does.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numba
import torch

import sce_numba as sce
from sce_numba.torch import sigmoid_cross_entropy

from .timing import measure

SIZES = (8192, 2048), (512, 512), (32, 10)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="timings of each call (15)")
    options = parser.parse_args()
    threads = numba.get_num_threads()
    torch.set_num_threads(threads)
    print(f"PyTorch {torch.__version__}, sce_numba {sce.__version__}, {threads} threads")
    theirs = torch.nn.functional.binary_cross_entropy_with_logits
    losses = {
        "sce_numba.torch": lambda logits, labels: sigmoid_cross_entropy(labels, logits),
        "PyTorch eager": theirs,
        "PyTorch compiled": torch.compile(theirs, dynamic=False),
    }
    for shape in SIZES:
        torch.manual_seed(0)
        logits = (3 * torch.randn(shape)).requires_grad_()
        labels = (torch.rand(shape) < 0.5).float()

        def step(loss: Callable[..., torch.Tensor], logits=logits, labels=labels) -> None:
            logits.grad = None
            loss(logits, labels).backward()

        gradients = {}
        for name, loss in losses.items():
            step(loss)
            gradients[name] = logits.grad
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradient, gradients["PyTorch eager"], msg=name)
        calls = {name: lambda loss=loss: step(loss) for name, loss in losses.items()}
        found = measure(calls, options.rounds)
        print(f"{shape[0]} x {shape[1]}, float32, forward and backward")
        ours = found["sce_numba.torch"].median
        for name, timing in found.items():
            seconds = timing.median
            print(f"    {name:<18} {seconds * 1e3:9.4f} ms {seconds / ours:6.1f} x", flush=True)


if __name__ == "__main__":
    main()
