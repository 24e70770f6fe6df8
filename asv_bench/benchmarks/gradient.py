"""Loss and gradient, and gradient and hessian, into arrays that are there."""

import numpy as np

import sce_numba as sce

from .data import CALLS, SHAPES, load, needs, rounds, setup_cache  # noqa: F401


class ValueAndGrad:
    """Loss and gradient in one pass."""

    params = (list(SHAPES), ["float32", "float64"])
    param_names = ("shape", "dtype")

    def setup(self, shape, dtype):
        needs(sce, "sigmoid_cross_entropy_value_and_grad")
        self.labels, self.logits = load(shape, dtype, dtype)
        self.gradient = np.empty_like(self.logits)

    def time_value_and_grad(self, shape, dtype):
        for _ in range(CALLS[shape]):
            sce.sigmoid_cross_entropy_value_and_grad(
                self.labels, self.logits, grad_out=self.gradient
            )


class GradientHessian:
    """What boosting libraries ask of an objective."""

    params = (list(SHAPES),)
    param_names = ("shape",)

    def setup(self, shape):
        needs(sce, "sigmoid_cross_entropy_gradient_hessian")
        self.labels, self.logits = load(shape)
        self.gradient, self.hessian = np.empty_like(self.logits), np.empty_like(self.logits)

    def time_gradient_hessian(self, shape):
        for _ in range(CALLS[shape]):
            sce.sigmoid_cross_entropy_gradient_hessian(
                self.labels, self.logits, grad_out=self.gradient, hess_out=self.hessian
            )
