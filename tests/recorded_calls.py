"""Three hundred calls of the public functions, and digests that tell whether a bit has changed.

    python -m tests.recorded_calls

writes ``recorded_calls.json`` anew.  The arguments are made of random bits by sums, products,
comparisons and casts only, which come out alike in every version of NumPy and on every processor;
and each call has a seed of its own, so that a change to one leaves those after it as they are.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import sce_numba as sce

PATH = Path(__file__).with_suffix(".json")
NONE = sce.Reduction.NONE
REDUCTIONS = list(dict.fromkeys(sce.Reduction.all()))
COMMON = "weights label_smoothing pos_weight where"
# How many calls of each function, the reductions that they take in turn, and other arguments.
FUNCTIONS: dict[str, tuple[int, list[sce.Reduction], str]] = {
    "sigmoid_cross_entropy": (100, REDUCTIONS, f"multi_class_labels {COMMON} out"),
    "sigmoid_cross_entropy_with_logits": (30, [], "labels out"),
    "weighted_cross_entropy_with_logits": (30, [], "labels pos_weight out"),
    "compute_weighted_loss": (40, REDUCTIONS, "weights"),
    "sigmoid_cross_entropy_value_and_grad": (
        50,
        REDUCTIONS,
        f"multi_class_labels {COMMON} out grad_out",
    ),
    "sigmoid_cross_entropy_gradient": (12, [], "labels"),
    "sigmoid_cross_entropy_gradient_hessian": (
        18,
        [],
        f"multi_class_labels {COMMON} grad_out hess_out",
    ),
    "LossAccumulator": (20, REDUCTIONS[1:], f"labels {COMMON}"),
}
FLOATS = ["float16", "float32", "float64"]
# Seven, which has no divisor in common with the number of reductions: all pairs come in turn.
LOSSES = [*FLOATS, "int32", "float32", "float64", "int64"]
LABELS = ["bool", *[f"{sign}int{bits}" for bits in (8, 16, 32, 64) for sign in ("", "u")], *FLOATS]
# None, one and several tiles of 4096, rows of more and less than 256, with and without a remainder
# of 16 lanes; and, from 2^16 elements on, what threads share.
SHAPES: list[tuple[int, ...]] = [(), (1,), (7,), (255,), (256,), (257,), (4096,), (4097,), (9001,)]
SHAPES += [(70_001,), (200_003,), (0,), (3, 0), (1, 1), (5, 3), (32, 10), (17, 255), (9, 256)]
SHAPES += [(6, 257), (3, 4099), (2, 8200), (70, 1000), (260, 257), (2000, 33), (20_000, 10)]
SHAPES += [(300, 650), (70_000, 1), (1, 66_000), (2, 3, 5), (4, 1, 300), (5, 40, 400), (40, 90, 20)]
OF_OUTS = ["C", "F", "every other", "reversed"]
LAYOUTS = [*OF_OUTS, "every other row", "transposed", "broadcast", "swapped bytes"]
EDGES = [0.0, -0.0, 1e-45, 1e-38, 1e-4, 17.4, -88.0, 104.0, -745.0, 1e4]
NONFINITE = [float("inf"), -float("inf"), float("nan")]


def laid_out(array: np.ndarray, layout: str) -> np.ndarray:
    """Return an array in another memory layout; if broadcast, one that repeats its first row."""
    if layout == "F":
        return np.array(array, order="F")
    if layout == "swapped bytes":
        return array.astype(array.dtype.newbyteorder())
    if layout == "reversed":
        backwards = (..., *[slice(None, None, -1)] * array.ndim)
        return array[backwards].copy()[backwards]
    if layout.startswith("every other") and array.ndim:
        axes = 1 if layout.endswith("row") else array.ndim
        shape = tuple(2 * n for n in array.shape[:axes]) + array.shape[axes:]
        view = np.zeros(shape, array.dtype)[(slice(None, None, 2),) * axes]
        view[...] = array
        return view
    if layout == "transposed" and array.ndim:
        return array.swapaxes(0, -1).copy().swapaxes(0, -1)
    if layout == "broadcast" and array.ndim:
        return np.broadcast_to(array[:1], array.shape)
    return array


class Call:
    """A call: what it is in words, its arguments, and the digest of its results."""

    def __init__(self, seed: int, function: str, turn: int) -> None:
        _, reductions, names = FUNCTIONS[function]
        self.takes = names.split()
        self.rng = np.random.Generator(np.random.PCG64(seed))
        self.function, self.words = function, [function]
        # Arguments that all lie in C order, and nothing beside them, take paths of their own.
        self.plain = self.chance(0.3)
        self.settings: dict[str, Any] = {}
        if reductions:
            self.add(self.settings, "reduction", reductions[turn % len(reductions)])
        self.elementwise = self.settings.get("reduction", NONE) == NONE
        dtypes = LOSSES if function == "compute_weighted_loss" else FLOATS
        self.dtype, self.labels = dtypes[turn % len(dtypes)], LABELS[(turn + turn // 12) % 12]
        # One NaN hides all else in a sum, but not beside it; integers hold none.
        self.nonfinite = 0.2 if self.elementwise else 0.04
        self.nonfinite *= self.dtype in FLOATS
        shape = self.pick(SHAPES)
        self.draw_settings(shape)
        # The batches of an accumulator; other functions have one.
        shapes = [shape, (3, *shape[1:]) if shape else (), shape]
        count = len(shapes) if function == "LossAccumulator" else 1
        self.batches = [self.drawn_batch(own) for own in shapes[:count]]
        self.draw_outs(shape)

    def pick(self, choices: Any) -> Any:
        return choices[int(self.rng.random() * len(choices))]

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def mixed(self, share: float, some: list[Any], others: np.ndarray) -> np.ndarray:
        """Return an array that has some of a few values in a share of its elements."""
        values = np.array(some)[(self.rng.random(others.shape) * len(some)).astype(np.int64)]
        return np.where(self.rng.random(others.shape) < share, values, others)

    def add(self, given: dict[str, Any], name: str, value: Any, dtype: str = "") -> None:
        """Add an argument, and tell of it; laid out in some way if it is an array of a dtype."""
        told = str(value)
        if dtype:
            layout = "C" if self.plain else self.pick(LAYOUTS)
            told = f"{dtype} {value.shape} {layout}"
            value = laid_out(np.asarray(value).astype(dtype), layout)
        given[name] = value
        self.words.append(f"{name} {told}")

    def drawn_part(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return numbers from 0 to 1 that broadcast to a shape: by row, by column, or each."""
        rows, columns = self.pick([(True, False), (False, True), (True, True)])
        return self.rng.random([n if (columns if k else rows) else 1 for k, n in enumerate(shape)])

    def draw_settings(self, shape: tuple[int, ...]) -> None:
        if "label_smoothing" in self.takes and self.chance(0.5):
            self.add(self.settings, "label_smoothing", self.pick([0.1, 0.25, 0.9, 1]))
        needed = self.function == "weighted_cross_entropy_with_logits"
        if needed or ("pos_weight" in self.takes and not self.plain and self.chance(0.4)):
            if self.chance(0.3):
                self.add(self.settings, "pos_weight", self.pick([0.5, 3, 2.75]))
                return
            # The batches of an accumulator have columns in common, and not rows.
            of_columns = self.function == "LossAccumulator" or self.chance(0.4)
            values = self.rng.random(shape[1:]) if of_columns else self.drawn_part(shape)
            self.add(self.settings, "pos_weight", values * 4, self.pick([*FLOATS, "int32"]))

    def drawn_batch(self, shape: tuple[int, ...]) -> dict[str, Any]:
        given: dict[str, Any] = {}
        spread = self.pick([2, 16, 200]) if self.dtype in FLOATS else 200
        values = (self.rng.random(shape) - 0.5) * spread
        if self.dtype in FLOATS and self.chance(0.3):
            values = self.mixed(0.2, EDGES, values)
        if self.chance(self.nonfinite):
            values = self.mixed(0.01, NONFINITE, values)
        name = "losses" if self.function == "compute_weighted_loss" else "logits"
        self.add(given, name, values, self.dtype)
        if name == "logits":
            # Soft labels of floats, hard ones of all, and now and then some outside.
            values = self.mixed(1.0, [0, 1], values)
            if self.labels in FLOATS and self.chance(0.7):
                values = self.mixed(0.3, [0.0, 1.0, 1 - 2.0**-30], self.rng.random(shape))
            elif self.labels != "bool" and self.chance(0.2):
                values = self.mixed(0.1, [2, 2 if "u" in self.labels else -1], values)
            self.add(given, self.takes[0], values, self.labels)
        if "weights" in self.takes and self.chance(0.75):
            self.draw_weights(given, shape)
        if "where" in self.takes and not self.plain and self.chance(0.3):
            self.add(given, "where", self.drawn_part(shape) < 0.8, "bool")
        return given

    def draw_weights(self, given: dict[str, Any], shape: tuple[int, ...]) -> None:
        if self.chance(0.2):
            self.add(given, "weights", self.pick([2.5, 0.3, 1e-3, -1.0, 0.0, 3, 7, True]))
            return
        dtype = self.pick(["float32", "float64", "int32", "int64", "bool"])
        values = self.drawn_part(shape) * 4
        if self.chance(0.3):
            values = self.mixed(0.4, [0.0, -0.0, -1.5], values)
        if dtype in FLOATS and self.chance(self.nonfinite):
            values = self.mixed(0.01, NONFINITE, values)
        # Of bools all but 0 would be True.
        self.add(given, "weights", values > 1 if dtype == "bool" else values, dtype)

    def draw_outs(self, shape: tuple[int, ...]) -> None:
        """Give memory for what has the shape of the logits; once at most that of the logits."""
        logits = self.batches[0].get("logits")
        may_be_logits = logits is not None and logits.flags.writeable
        for name in ("out", "grad_out", "hess_out"):
            if name not in self.takes or (name == "out" and not self.elementwise):
                continue
            if self.chance(0.5):
                continue
            if may_be_logits and self.chance(0.4):
                layout, out, may_be_logits = "that of logits", logits, False
            else:
                layout = "C" if self.plain else self.pick(OF_OUTS)
                out = laid_out(np.zeros(shape, logits.dtype), layout)
            self.settings[name] = out
            self.words.append(f"{name} {layout}")

    def __str__(self) -> str:
        return ", ".join(self.words)

    def results(self) -> list[Any]:
        if self.function != "LossAccumulator":
            found = getattr(sce, self.function)(**self.settings, **self.batches[0])
            return list(found) if isinstance(found, tuple) else [found]
        total, found = sce.LossAccumulator(**self.settings), []
        for batch in self.batches:
            total.update(**batch)
            found += [total.result(), total.result(np.float32)]
        return found

    def digest(self) -> str:
        sha = hashlib.sha256()
        for result in self.results():
            bits = np.array(result)
            if bits.dtype.kind == "f":
                bits[np.isnan(bits)] = np.nan  # its sign and payload may differ
            sha.update(f"{bits.dtype.str} {bits.shape} ".encode() + bits.tobytes())
        return sha.hexdigest()[:16]


def calls() -> Iterator[Call]:
    turns = [(name, k) for name, (count, *_) in FUNCTIONS.items() for k in range(count)]
    for seed, (name, turn) in enumerate(turns):
        yield Call(seed, name, turn)


def digests() -> list[list[str]]:
    return [[str(call), call.digest()] for call in calls()]


if __name__ == "__main__":
    rows = ",\n".join(json.dumps(row) for row in digests())
    PATH.write_text(f"[\n{rows}\n]\n")
