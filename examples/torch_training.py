"""Two PyTorch models trained on the CPU, with PyTorch's loss and, one line changed, with this one.

``patches``: an autoencoder of square patches of two photographs; all 768 numbers of a patch are
predicted, so a good part of an epoch is the loss.  ``digits``: a classifier of 16 labels; there the
loss is next to nothing, and which one it is does not matter.

Both losses train the same model, from the same start, on the same batches, an epoch each in turns.
"""

import argparse
import statistics
import time

import numba
import numpy as np
import torch
from digits_multilabel import label_digits
from sklearn.datasets import load_digits, load_sample_images
from sklearn.feature_extraction.image import extract_patches_2d

from sce_numba.torch import sigmoid_cross_entropy

LOSSES = {
    "PyTorch": lambda logits, labels: torch.nn.functional.binary_cross_entropy_with_logits(
        logits, labels
    ),
    "sce_numba": lambda logits, labels: sigmoid_cross_entropy(labels, logits),
}


def patches():
    """Return patches of 16 x 16 pixels in three colours, which are features and labels alike."""
    found = [
        extract_patches_2d(image, (16, 16), max_patches=8192, random_state=0)
        for image in load_sample_images().images
    ]
    values = torch.from_numpy(np.concatenate(found).reshape(-1, 768)).float() / 255
    return values, values, 64, 512


def digits():
    """Return images of digits and their 16 labels."""
    images, numbers = load_digits(return_X_y=True)
    labels = torch.from_numpy(label_digits(numbers)).float()
    return torch.from_numpy(images).float() / 16, labels, 128, 128


class Training:
    """A model, its optimizer, its loss, and what came of each epoch."""

    def __init__(self, features, labels, hidden, batch, loss):
        torch.manual_seed(0)
        self.features, self.labels, self.batch, self.loss = features, labels, batch, loss
        self.model = torch.nn.Sequential(
            torch.nn.Linear(features.shape[1], hidden),
            torch.nn.ReLU(),
            torch.nn.Linear(hidden, labels.shape[1]),
        )
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3)
        self.curve, self.seconds = [], []

    def epoch(self):
        """Go through the data once."""
        order = torch.randperm(len(self.features), generator=torch.Generator().manual_seed(0))
        start, total = time.perf_counter(), 0.0
        for rows in order.split(self.batch):
            self.optimizer.zero_grad()
            loss = self.loss(self.model(self.features[rows]), self.labels[rows])
            loss.backward()
            self.optimizer.step()
            total += loss.item() * len(rows)
        self.seconds.append(time.perf_counter() - start)
        self.curve.append(total / len(order))


def main():
    """Train, and print times and losses."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(numba.get_num_threads())
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads")
    for data in (patches, digits):
        arguments = data()
        # The first epoch is not timed: code is compiled in it.
        trainings = {name: Training(*arguments, loss) for name, loss in LOSSES.items()}
        for _ in range(options.epochs + 1):
            for training in trainings.values():
                training.epoch()
        theirs, ours = trainings["PyTorch"], trainings["sce_numba"]
        before, after = (statistics.median(t.seconds[1:]) for t in (theirs, ours))
        apart = max(abs(a - b) for a, b in zip(theirs.curve, ours.curve, strict=True))
        shape = " x ".join(map(str, arguments[1].shape))
        print(f"{data.__name__}: {shape} labels")
        print(f"    epoch, PyTorch's loss   {before * 1e3:8.1f} ms")
        print(f"    epoch, this loss        {after * 1e3:8.1f} ms, {before / after:.2f} x as fast")
        print(f"    loss, first and last    {ours.curve[0]:.6f} {ours.curve[-1]:.6f}")
        print(f"    curves differ by        {apart:.1e}")


if __name__ == "__main__":
    main()
