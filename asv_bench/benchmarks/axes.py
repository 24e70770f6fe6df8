"""Several losses: along axes, and by group."""

import numpy as np

import sce_numba as sce

from .data import CALLS, SHAPES, load, rounds, setup_cache  # noqa: F401


class Axis:
    """A loss per class, and per example."""

    params = (list(SHAPES), [0, -1])
    param_names = ("shape", "axis")

    def setup(self, shape, axis):
        self.labels, self.logits = load(shape)

    def time_loss(self, shape, axis):
        for _ in range(CALLS[shape]):
            sce.sigmoid_cross_entropy(self.labels, self.logits, axis=axis)

    def time_losses_computed_already(self, shape, axis):
        for _ in range(CALLS[shape]):
            sce.compute_weighted_loss(self.logits, axis=axis)

    def time_value_and_grad(self, shape, axis):
        for _ in range(CALLS[shape]):
            sce.sigmoid_cross_entropy_value_and_grad(self.labels, self.logits, axis=axis)

    def time_accumulator(self, shape, axis):
        loss = sce.LossAccumulator(axis=(0, axis) if axis else axis)
        for _ in range(CALLS[shape]):
            loss.update(self.labels, self.logits)


class Groups:
    """A loss for each of some groups of rows."""

    params = (list(SHAPES), [10, 100_000])
    param_names = ("shape", "groups")

    def setup(self, shape, groups):
        self.labels, self.logits = load(shape)
        self.groups = np.random.default_rng(0).integers(0, groups, len(self.logits))

    def time_loss(self, shape, groups):
        options = {"groups": self.groups, "num_groups": groups}
        for _ in range(CALLS[shape]):
            sce.sigmoid_cross_entropy(self.labels, self.logits, **options)
