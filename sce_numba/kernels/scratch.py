"""Scratch memory for all threads, taken before a parallel region begins; and proof of its work.

Numba loses an exception inside a parallel region, and what the thread had still to do is missing
from the result.  So nothing is allocated there: each thread has its own row of what was allocated
before.  And each group leaves a mark that it was done, lest anything else be lost.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.core.targetconfig import ConfigStack
from numba.extending import intrinsic, register_jitable
from numba.np.ufunc.parallel import _launch_threads

from .softplus import OPTIONS


def threads() -> int:
    """Return how many rows of scratch memory a loop needs, itself the caller."""
    return 1


def thread() -> int:
    """Return which of the rows is that of this thread."""
    return 0


if not config.DISABLE_JIT:

    def _asked_of_numba(name, otherwise):
        """Make a function that asks Numba's threads in a parallel loop, and no one in a serial one.

        Where no loop is parallel, there need be no threads to ask.
        """

        @intrinsic
        def number(_typing):
            def codegen(context, builder, _signature, _arguments):
                if not ConfigStack().top().auto_parallel.enabled:
                    return context.get_constant(types.intp, otherwise)
                _launch_threads()  # which makes the name known
                kind = ir.FunctionType(cgutils.intp_t, [])
                return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [])

            return types.intp(), codegen

        return number

    threads = _asked_of_numba("get_num_threads", 1)
    thread = _asked_of_numba("get_thread_id", 0)


# In a loop itself `np.zeros` would be a parallel region of its own.
@register_jitable(**OPTIONS)
def zeros(rows, columns):
    """Return an array of zeros."""
    return np.zeros((rows, columns))


@register_jitable(**OPTIONS)
def check(done):
    """Raise an exception if not every group has left its mark."""
    for group in range(done.size):
        if done[group] == 0:
            raise MemoryError("A thread could not do its part, most likely for want of memory.")
