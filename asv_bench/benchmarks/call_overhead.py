"""What a call costs beside its elements: 32 x 10 of them.

A sample is 1000 calls, so that milliseconds shown are microseconds a call.
"""

import numpy as np

import sce_numba as sce

from .data import needs, rounds  # noqa: F401

CALLS = 1000


class Call:
    """The usual calls, as they enter by the shortest way, and some that can't."""

    def setup(self):
        rng = np.random.default_rng(0)
        self.logits = rng.normal(0, 3, (32, 10)).astype(np.float32)
        self.labels = (rng.random((32, 10)) < 0.5).astype(np.float32)
        self.weights = rng.random((32, 1)).astype(np.float32)
        self.kept = rng.random((32, 10)) < 0.9
        self.out = np.empty_like(self.logits)

    def time_default(self):
        for _ in range(CALLS):
            sce.sigmoid_cross_entropy(self.labels, self.logits)

    def time_weights_and_smoothing(self):
        for _ in range(CALLS):
            sce.sigmoid_cross_entropy(self.labels, self.logits, self.weights, 0.1)

    def time_where(self):
        for _ in range(CALLS):
            sce.sigmoid_cross_entropy(self.labels, self.logits, where=self.kept)

    def time_none_into_out(self):
        for _ in range(CALLS):
            sce.sigmoid_cross_entropy(self.labels, self.logits, reduction="none", out=self.out)

    def time_elementwise(self):
        for _ in range(CALLS):
            sce.sigmoid_cross_entropy_with_logits(labels=self.labels, logits=self.logits)

    def time_losses_already_computed(self):
        for _ in range(CALLS):
            sce.compute_weighted_loss(self.logits)


class CallWithGradient:
    """Loss and gradient."""

    def setup(self):
        needs(sce, "sigmoid_cross_entropy_value_and_grad")
        Call.setup(self)

    def time_value_and_grad(self):
        for _ in range(CALLS):
            sce.sigmoid_cross_entropy_value_and_grad(self.labels, self.logits)


# What each public function is given, the weights where it takes any.
PAIR = ("multi_class_labels", "logits", "weights")
NEEDED = {
    "sigmoid_cross_entropy": PAIR,
    "sigmoid_cross_entropy_gradient": ("labels", "logits"),
    "sigmoid_cross_entropy_gradient_hessian": PAIR,
    "sigmoid_cross_entropy_value_and_grad": PAIR,
    "sigmoid_cross_entropy_with_logits": ("labels", "logits"),
    "sigmoid_focal_cross_entropy": ("labels", "logits", "weights"),
    "sigmoid_focal_cross_entropy_value_and_grad": ("labels", "logits", "weights"),
    "weighted_cross_entropy_with_logits": ("labels", "logits", "pos_weight"),
    "compute_weighted_loss": ("losses", "weights"),
    "LossAccumulator.update": ("labels", "logits", "weights"),
    "evaluate": ("labels", "logits", "weights"),
}


class PublicFunction:
    """Every public function, with default arguments and with weights of rows, NumPy's float64."""

    params = (list(NEEDED), ["default", "weighted"])
    param_names = ("function", "given")

    def setup(self, function, given):
        Call.setup(self)
        names = {"logits": self.logits, "labels": self.labels, "multi_class_labels": self.labels}
        names |= {"losses": self.logits, "pos_weight": 2.0}
        needed = NEEDED[function]
        self.arguments = {name: names[name] for name in needed if name != "weights"}
        if given == "weighted":
            if "weights" not in needed:
                raise NotImplementedError("this function takes no weights")
            self.arguments["weights"] = self.weights.astype(np.float64)
        name, _, method = function.partition(".")
        self.call = getattr(sce, name)
        if method:
            self.call = getattr(self.call(), method)

    def time_call(self, function, given):
        for _ in range(CALLS):
            self.call(**self.arguments)
