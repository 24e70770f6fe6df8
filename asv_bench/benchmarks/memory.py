"""The most memory a process took; ``peakmem_arrays_alone`` is what to compare the others with."""

import numpy as np

import sce_numba as sce

from .data import load, needs, setup_cache  # noqa: F401


class Peak:
    """Calls that should need no memory of the size of their arrays, but for their results."""

    def setup(self):
        self.labels, self.logits = load("8192 x 2048", label_dtype="bool")

    def peakmem_arrays_alone(self):
        sce.sigmoid_cross_entropy(self.labels[:1], self.logits[:1])

    def peakmem_loss(self):
        sce.sigmoid_cross_entropy(self.labels, self.logits)

    def peakmem_loss_strided_and_weighted(self):
        weights = np.ones((self.logits.shape[0], 1), np.float32)
        sce.sigmoid_cross_entropy(self.labels[:, ::2], self.logits[:, ::2], weights, 0.1)

    def peakmem_none(self):
        sce.sigmoid_cross_entropy(self.labels, self.logits, reduction="none")


class PeakWithGradient:
    """Loss and gradient, which is an array like the logits."""

    def setup(self):
        needs(sce, "sigmoid_cross_entropy_value_and_grad")
        Peak.setup(self)

    def peakmem_value_and_grad(self):
        sce.sigmoid_cross_entropy_value_and_grad(self.labels, self.logits)
