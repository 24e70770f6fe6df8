"""Dask arrays: what building a graph costs, and computing it on threads."""

import sce_numba as sce

from .data import load, setup_cache  # noqa: F401

try:
    import dask.array as da
except ImportError:
    da = None


class Lazy:
    """The default loss of 8192 x 2048 logits in chunks of 1024 rows."""

    def setup(self):
        try:
            import sce_numba.dask  # noqa: F401
        except ImportError:
            raise NotImplementedError("this version has no Dask arrays") from None
        labels, logits = load("8192 x 2048")
        self.operands = [da.from_array(array, chunks=(1024, 2048)) for array in (labels, logits)]
        self.loss = sce.sigmoid_cross_entropy(*self.operands)

    def time_graph(self):
        sce.sigmoid_cross_entropy(*self.operands)

    def time_compute(self):
        self.loss.compute(scheduler="threads")

    def track_tasks_a_chunk(self):
        return len(dict(self.loss.__dask_graph__())) / 8
