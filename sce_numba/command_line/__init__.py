"""What ``python -m sce_numba`` does."""
