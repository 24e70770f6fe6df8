"""The loss: each kind of argument by itself, in cache and beyond."""

import inspect

import numpy as np

import sce_numba as sce

from .data import CALLS, SHAPES, load, rounds, setup_cache  # noqa: F401


class Dtype:
    """The default reduction of logits and labels of one dtype."""

    params = (list(SHAPES), ["float16", "float32", "float64"])
    param_names = ("shape", "dtype")

    def setup(self, shape, dtype):
        self.labels, self.logits = load(shape, dtype, dtype)

    def time_loss(self, shape, dtype):
        for _ in range(CALLS[shape]):
            sce.sigmoid_cross_entropy(self.labels, self.logits)


class LabelDtype:
    """The default reduction of float32 logits, and labels of another dtype."""

    params = (list(SHAPES), ["bool", "int64", "float64"])
    param_names = ("shape", "labels")

    def setup(self, shape, dtype):
        self.labels, self.logits = load(shape, label_dtype=dtype)

    def time_loss(self, shape, dtype):
        for _ in range(CALLS[shape]):
            sce.sigmoid_cross_entropy(self.labels, self.logits)


class Reduction:
    """Reductions beside the default; the losses of ``none`` go into an array that is there."""

    params = (list(SHAPES), ["none", "weighted_sum", "weighted_mean"])
    param_names = ("shape", "reduction")

    def setup(self, shape, reduction):
        self.labels, self.logits = load(shape)
        self.out = {"out": np.empty_like(self.logits)} if reduction == "none" else {}

    def time_loss(self, shape, reduction):
        for _ in range(CALLS[shape]):
            sce.sigmoid_cross_entropy(self.labels, self.logits, reduction=reduction, **self.out)


class Weights:
    """Weights and smoothing, positives that count more, and elements left out."""

    params = (list(SHAPES), ["[B,1]", "[1,C]", "[B,C]", "pos_weight", "where"])
    param_names = ("shape", "weights")

    def setup(self, shape, kind):
        self.labels, self.logits = load(shape)
        rng = np.random.default_rng(1)
        rows, columns = self.logits.shape
        shapes = {"[B,1]": (rows, 1), "[1,C]": (1, columns), "[B,C]": (rows, columns)}
        if kind == "pos_weight":
            values = rng.random(columns).astype(np.float32)
        elif kind == "where":
            values = rng.random((rows, columns)) < 0.9
        else:
            values = rng.random(shapes[kind]).astype(np.float32)
        name = "weights" if kind in shapes else kind
        if name not in inspect.signature(sce.sigmoid_cross_entropy).parameters:
            raise NotImplementedError(f"this version has no {name}=")
        self.arguments = {name: values, "label_smoothing": 0.1}

    def time_loss(self, shape, kind):
        for _ in range(CALLS[shape]):
            sce.sigmoid_cross_entropy(self.labels, self.logits, **self.arguments)


class Strided:
    """Logits and labels of which every other column is read."""

    params = (list(SHAPES),)
    param_names = ("shape",)

    def setup(self, shape):
        self.labels, self.logits = (array[:, ::2] for array in load(shape))

    def time_loss(self, shape):
        for _ in range(CALLS[shape]):
            sce.sigmoid_cross_entropy(self.labels, self.logits)
