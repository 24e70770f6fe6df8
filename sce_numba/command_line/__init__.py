"""The commands of ``python -m sce_numba``."""
