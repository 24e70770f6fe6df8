"""More elements than 32 bits can count: views that take next to no memory give the right answer.

Logits and labels of 2^31 elements and more are broadcast views, or memory that was mapped and never
written to, which all lies in one page of zeros.  Gradients and element losses would take memory of
their own, and are not tried.

A file that is too short for its array is refused by NumPy when it is mapped.  A file that somebody
else shortens later ends the process at the first access (SIGBUS), in NumPy's functions as in these:
nobody can catch that, so a file must keep its length while it is in use.
"""

import math
import mmap
import sys

import numpy as np
import pytest

import sce_numba as sce

pytestmark = pytest.mark.thorough

ROWS, COLUMNS = 2**16 + 1, 2**15 + 3
SIZE = ROWS * COLUMNS
assert SIZE > 2**31
# Of Linux; the module has it since Python 3.13.
MAP_NORESERVE = 0x4000


@pytest.fixture
def broadcast():
    """Return labels, logits and the mean loss of a row."""
    logits = np.linspace(-2, 2, COLUMNS, dtype=np.float32)
    labels = np.arange(COLUMNS) % 2 == 0
    x = logits.astype(np.float64)
    mean = np.mean(np.maximum(x, 0) - x * labels + np.log1p(np.exp(-np.abs(x))))
    return *(np.broadcast_to(array, (ROWS, COLUMNS)) for array in (labels, logits)), mean


def test_denominators_count_beyond_32_bits(broadcast):
    labels, logits, mean = broadcast
    weights = (np.arange(ROWS) % 3).astype(np.float32)[:, None]
    total = mean * float(weights.sum())
    for reduction, expected in (
        ("weighted_sum", total * COLUMNS),
        ("weighted_mean", mean),
        ("weighted_sum_by_nonzero_weights", total / np.count_nonzero(weights)),
        ("weighted_sum_over_batch_size", total / ROWS),
    ):
        loss = sce.sigmoid_cross_entropy(labels, logits, weights, reduction=reduction)
        assert loss == pytest.approx(expected, rel=2e-7)


def test_the_last_of_many_rows_are_included_alone(broadcast):
    labels, logits, mean = broadcast
    last = np.arange(ROWS)[:, None] >= ROWS - 5
    loss = sce.sigmoid_cross_entropy(labels, logits, where=last, reduction="weighted_sum")
    assert loss == pytest.approx(5 * COLUMNS * mean, rel=2e-7)
    where = np.broadcast_to(last, labels.shape)
    loss = sce.sigmoid_cross_entropy(labels, logits, 3.0, where=where, reduction="weighted_mean")
    assert loss == pytest.approx(mean, rel=2e-7)


def test_losses_already_computed_may_be_as_many():
    losses = np.broadcast_to(np.float16(0.5), (ROWS, COLUMNS))
    assert sce.compute_weighted_loss(losses) == 0.5


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs memory without a cost")
@pytest.mark.parametrize("shape", [(SIZE,), (SIZE // 2, 2), (ROWS, COLUMNS)])
def test_contiguous_arrays_are_read_to_their_end(shape):
    size = math.prod(shape)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
    logits = np.frombuffer(mmap.mmap(-1, 2 * size, flags), np.float16).reshape(shape)
    labels = np.frombuffer(mmap.mmap(-1, size, flags), bool).reshape(shape)
    weights = np.ones((1, 2), np.float32) if shape[-1] == 2 else 1.0
    weights = np.ones((ROWS, 1), np.float32) if shape == (ROWS, COLUMNS) else weights
    loss = sce.sigmoid_cross_entropy(labels, logits, weights, reduction="weighted_mean")
    assert loss == np.float16(math.log(2))
    # Of so many losses the last alone is only seen if it is infinite.
    logits.reshape(-1)[-1] = -np.inf
    labels.reshape(-1)[-1] = True
    loss = sce.sigmoid_cross_entropy(labels, logits, weights, reduction="weighted_mean")
    assert loss == np.inf


def test_a_file_that_is_too_short_is_refused_when_it_is_mapped(tmp_path):
    path = tmp_path / "logits"
    np.zeros(100, np.float32).tofile(path)
    with pytest.raises(ValueError, match="mmap length is greater than file size"):
        np.memmap(path, np.float32, "r", shape=(101,))
    mapped = np.memmap(path, np.float32, "r", shape=(100,))
    assert sce.sigmoid_cross_entropy(mapped, mapped) == np.float32(math.log(2))
