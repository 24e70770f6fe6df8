"""What reads (and writes) the memory of a job and does nothing else: a bound on its speed."""

from __future__ import annotations

import numba
import numpy as np

from .jobs import Job
from .timing import Call

# The caches hold smaller arrays, and memory is no bound then.
SMALLEST = 10**6


@numba.njit(parallel=True, fastmath=True)
def read(parts):
    """Read arrays of bytes, in 8-byte words."""
    total = 0
    for part in numba.literal_unroll(parts):
        for i in numba.prange(part.size):
            total += part[i]
    return total


@numba.njit(parallel=True, fastmath=True)
def read_two(a, b):
    """Read two arrays side by side."""
    total = 0.0
    for i in numba.prange(a.size):
        total += a[i] + b[i]
    return total


@numba.njit(parallel=True, fastmath=True)
def read_three(a, b, c):
    """Read three arrays side by side."""
    total = 0.0
    for i in numba.prange(a.size):
        total += a[i] + b[i] + c[i]
    return total


@numba.njit(parallel=True)
def read_and_write(a, b, out):
    """Read two arrays and write a third."""
    for i in numba.prange(a.size):
        out[i] = a[i] + b[i]


@numba.njit(parallel=True)
def read_and_write_two(a, b, out, other):
    """Read two arrays and write two."""
    for i in numba.prange(a.size):
        out[i] = a[i] + b[i]
        other[i] = a[i] - b[i]


def roofline(job: Job) -> Call | None:
    """Return what reads and writes the memory of a job, or None where caches hold it."""
    if job.logits.size < SMALLEST:
        return None
    arrays = [job.logits.reshape(-1), job.labels.reshape(-1)]
    if job.weights is not None and job.weights.size == job.logits.size:
        arrays.append(job.weights.reshape(-1))
    if job.out:
        results = [array.reshape(-1) for array in job.out]
        return lambda: (read_and_write, read_and_write_two)[len(results) - 1](*arrays, *results)
    if any(array.dtype != arrays[0].dtype for array in arrays):
        words = tuple(array.view(np.uint64) for array in arrays)
        return lambda: read(words)
    return lambda: (read_two if len(arrays) == 2 else read_three)(*arrays)
