"""Compare the loss and its gradient in PyTorch: this package's function and PyTorch's own.

``python -m asv_bench.torch_training_step`` runs forward and backward pass of
``sce_numba.torch.sigmoid_cross_entropy``, of ``binary_cross_entropy_with_logits``, and of this
compiled, in turns, on the same tensors and as many threads, and prints medians: of this package
the time, of the others how many times as long they took.
Logits are a leaf whose gradient is set to None before each step, as an optimizer does.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import numba
import torch

from sce_numba.torch import sigmoid_cross_entropy

from .report import add_outputs, as_json, beside, facts, facts_in_words, saved, table_beside, write
from .timing import Timing, measure

SIZES = (8192, 2048), (512, 512), (32, 10)


def run(rounds: int) -> dict[str, dict[str, Timing]]:
    """Return the timings of a step, by shape and loss."""
    torch.set_num_threads(numba.get_num_threads())
    theirs = torch.nn.functional.binary_cross_entropy_with_logits
    losses = {
        "sce_numba.torch": lambda logits, labels: sigmoid_cross_entropy(labels, logits),
        "PyTorch eager": theirs,
        "PyTorch compiled": torch.compile(theirs, dynamic=False),
    }
    found = {}
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
        name = f"{shape[0]} x {shape[1]}"
        found[name] = measure(calls, rounds)
        print(name, *beside(found[name]), sep=" | ", file=sys.stderr, flush=True)
    return found


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
        command = " ".join(["python -m asv_bench.torch_training_step", *sys.argv[1:]])
        said = facts(command, [f"PyTorch {torch.__version__.split('+')[0]}"])
    words = f"{table_beside('forward and backward', found)}\n\n{facts_in_words(said)}"
    print(as_json(said, found) if options.json else words)
    write(words, options.page, "asv_bench.torch_training_step")


if __name__ == "__main__":
    main()
