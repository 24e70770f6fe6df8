"""Stores that bypass the caches, for results too large to be found there again.

An ordinary store first reads the line it is going to overwrite; one that writes whole lines past
the caches does not, which saves a quarter of the memory traffic of logits, labels and losses.
"""

from __future__ import annotations

from numba import config, types
from numba.extending import intrinsic

# Bytes in a line of the caches.
LINE = 64


def fence():
    """Let other threads see what was stored past the caches."""


if not config.DISABLE_JIT:

    @intrinsic
    def fence(_typing):
        """Let other threads see what was stored past the caches."""

        def codegen(context, builder, _signature, _arguments):
            builder.fence("seq_cst")
            return context.get_dummy_value()

        return types.void(), codegen
