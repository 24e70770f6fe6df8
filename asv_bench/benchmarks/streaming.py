"""Data that come batch by batch."""

import sce_numba as sce

from .data import load, needs, rounds, setup_cache  # noqa: F401

BATCHES = 50


class Accumulator:
    """Batches of 512 x 512, or of 32 x 10; 50 a sample."""

    params = ([(512, 512), (32, 10)],)
    param_names = ("batch",)

    def setup(self, batch):
        needs(sce, "LossAccumulator")
        rows, columns = batch
        self.labels, self.logits = (
            array[:rows, :columns].copy() for array in load("512 x 512", label_dtype="bool")
        )
        self.total, self.other = sce.LossAccumulator(), sce.LossAccumulator()
        self.total.update(self.labels, self.logits)
        self.other.update(self.labels, self.logits)

    def time_update(self, batch):
        for _ in range(BATCHES):
            self.total.update(self.labels, self.logits)

    def time_merge(self, batch):
        for _ in range(BATCHES):
            self.total.merge(self.other)

    def time_result(self, batch):
        for _ in range(BATCHES):
            self.total.result()
