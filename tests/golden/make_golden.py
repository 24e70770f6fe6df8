"""Write TensorFlow's answers to `cases.json` and `arrays.npz`, which tests read without TensorFlow.

Run `python tests/golden/make_golden.py` where TensorFlow 2.21 is installed. The seed is fixed: the
same version of TensorFlow on the same kind of processor writes the same files.

How the cases are built
-----------------------
A case is one set of arguments, and holds TensorFlow's result for every reduction. The groups:

pairwise
    Each factor in `FACTORS` (dtypes, shapes, shapes and values of weights, smoothing, values) meets
    every level of every other factor in at least one case; a greedy search over seeded random rows
    finds them. As many plain random rows follow. The arrays are drawn from the same generator.
longer
    The same draws in arrays long enough for vector loops and their remainders.
edges
    Signed zeros, subnormals, logits where exp saturates, inf and NaN, each against each label.
weights
    What weights do to NaN, to zero denominators and to empty arrays, written by hand.
elementwise
    `tf.nn.sigmoid_cross_entropy_with_logits`; labels have the dtype of logits there.
weighted_loss
    `compute_weighted_loss` on losses given as they are.
tensorflow_tests
    The numbers in TensorFlow's own tests of these functions. `stated` holds what those tests
    expect, where they state it; `places` how many decimal places they ask for.
refused
    Arguments that TensorFlow refuses, with the type and the first words of its exception.
differences
    Where this library differs on purpose. `reason` says which difference it is.

How they are stored
-------------------
`cases.json` holds one case a line. An array is `[dtype, offset, shape]`: where it starts in the
pool of that dtype in `arrays.npz`. bfloat16 is stored as its bits, in uint16.
"""

import itertools
import json
import os
import warnings
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tensorflow as tf

import ml_dtypes
import numpy as np

HERE = Path(__file__).parent
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
REDUCTIONS = (
    "none",
    "weighted_sum",
    "weighted_mean",
    "weighted_sum_over_batch_size",
    "weighted_sum_by_nonzero_weights",
)
LOSSES = "sigmoid_cross_entropy"
ELEMENTWISE = "sigmoid_cross_entropy_with_logits"
WEIGHTED = "compute_weighted_loss"
FUNCTIONS = {
    LOSSES: tf.compat.v1.losses.sigmoid_cross_entropy,
    ELEMENTWISE: tf.compat.v1.nn.sigmoid_cross_entropy_with_logits,
    WEIGHTED: tf.compat.v1.losses.compute_weighted_loss,
}

LOGITS_DTYPES = ("float16", "bfloat16", "float32", "float64")
INTEGER_DTYPES = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
LABELS_DTYPES = ("bool", *INTEGER_DTYPES, *LOGITS_DTYPES)
FACTORS = {
    "logits": LOGITS_DTYPES,
    "labels": LABELS_DTYPES,
    "shape": ((), (7,), (4, 5), (6, 1), (1, 6), (3, 2, 4), (2, 3, 2, 2), (0, 3), (2, 0, 3)),
    "weights_shape": ("scalar", "ones", "first", "last", "full", "odd_axes", "even_axes"),
    "weights_dtype": ("float32", "float64", "float16", "bfloat16", "int32", "bool"),
    "weights_values": ("positive", "signed", "with_zeros", "all_zero", "cancelling"),
    "label_smoothing": (0, 0.1, 0.5, 1),
    "label_values": ("hard", "soft", "outside"),
    "logit_values": ("ordinary", "wide", "edges", "nonfinite"),
}
EDGES = (0.0, -0.0, 1e-3, -1e-3, 17.0, -17.0, 17.4, -17.4, 37.5, -37.5, 88.0, -88.0, 104.0, -104.0)
EDGES += (1e4, -1e4)
NONFINITE = (np.inf, -np.inf, np.nan)


def dtype_named(name):
    return BFLOAT16 if name == "bfloat16" else np.dtype(name)


def tiny_values(dtype):
    """Return the smallest subnormal and the smallest normal number, with both signs."""
    info = ml_dtypes.finfo(dtype)
    normal, subnormal = float(info.smallest_normal), float(info.smallest_subnormal)
    return (normal, -normal, subnormal, -subnormal)


class Golden:
    """The cases, and the pools that their arrays are stored in."""

    def __init__(self):
        self.cases = []
        self.pools = {}
        self.sizes = {}
        self.known = {}

    def add(self, group, function=LOSSES, reductions=REDUCTIONS, **arguments):
        extra = {k: arguments.pop(k) for k in ("stated", "places", "reason") if k in arguments}
        case = {"group": group, "function": function, **self._stored(arguments), **extra}
        if function == ELEMENTWISE:
            case["result"] = self.store(self.call(function, arguments))
        else:
            case["results"] = {
                reduction: self.store(self.call(function, {**arguments, "reduction": reduction}))
                for reduction in reductions
            }
        self.cases.append(case)

    def add_refused(self, function=LOSSES, **arguments):
        case = {"group": "refused", "function": function, **self._stored(arguments)}
        try:
            self.call(function, arguments)
        except Exception as error:
            case["raises"] = type(error).__name__
            case["message"] = str(error)[:60]
            self.cases.append(case)
        else:
            raise AssertionError(f"TensorFlow accepts {case}")

    def call(self, function, arguments):
        return FUNCTIONS[function](**arguments).numpy()

    def _stored(self, arguments):
        plain = (int, float, str, type(None))
        return {
            "arguments": {
                name: value if type(value) in plain else self.store(np.asarray(value))
                for name, value in arguments.items()
            }
        }

    def store(self, array):
        array = np.asarray(array)
        key = (array.dtype.name, array.shape, array.tobytes())
        if key not in self.known:
            offset = self.sizes.get(array.dtype.name, 0)
            bits = array.view(np.uint16) if array.dtype == BFLOAT16 else array
            self.pools.setdefault(array.dtype.name, []).append(bits.ravel())
            self.sizes[array.dtype.name] = offset + array.size
            self.known[key] = [array.dtype.name, offset, list(array.shape)]
        return self.known[key]

    def write(self):
        head = {"tensorflow": tf.__version__, "numpy": np.__version__, "cases": len(self.cases)}
        lines = [json.dumps(line) for line in (head, *self.cases)]
        (HERE / "cases.json").write_text("[\n" + ",\n".join(lines) + "\n]\n")
        pools = {name: np.concatenate(parts) for name, parts in self.pools.items()}
        np.savez_compressed(HERE / "arrays.npz", **pools)


def pairwise_rows(rng):
    """Return rows of levels in which every two levels of different factors meet."""
    levels = list(FACTORS.values())
    missing = {
        ((i, a), (j, b))
        for i, j in itertools.combinations(range(len(levels)), 2)
        for a in range(len(levels[i]))
        for b in range(len(levels[j]))
    }
    rows = []
    while missing:
        wanted = min(missing)
        candidates = rng.integers(0, [len(level) for level in levels], (40, len(levels)))
        for (i, a), (j, b) in [wanted]:
            candidates[:, i], candidates[:, j] = a, b
        covers = [set(itertools.combinations(enumerate(row.tolist()), 2)) for row in candidates]
        best = max(range(len(covers)), key=lambda k: len(missing & covers[k]))
        missing -= covers[best]
        rows.append(candidates[best])
    extra = rng.integers(0, [len(level) for level in levels], (len(rows), len(levels)))
    return [
        {name: levels[level] for (name, levels), level in zip(FACTORS.items(), row, strict=True)}
        for row in (*rows, *extra)
    ]


def draw_labels(rng, shape, dtype, values):
    kind = "f" if dtype == BFLOAT16 else dtype.kind
    if values == "hard" or kind == "b":
        drawn = rng.integers(0, 2, shape)
    elif values == "outside":
        drawn = rng.choice([0, 1, 2] if kind == "u" else [-1, 0, 1, 2], shape)
    elif kind == "f":
        drawn = rng.choice([0, 1, 2**-8, 1 - 2**-8, *rng.uniform(0, 1, 4)], shape)
    else:
        drawn = rng.integers(0, 2, shape)
    return np.asarray(drawn).astype(dtype)


def draw_logits(rng, shape, dtype, values):
    if values == "ordinary":
        drawn = rng.normal(0, 3, shape)
    elif values == "wide":
        drawn = rng.uniform(-100, 100, shape)
    elif values == "edges":
        drawn = rng.choice([*EDGES, *tiny_values(dtype)], shape)
    else:
        drawn = rng.choice([*EDGES, *NONFINITE], shape)
    return np.asarray(drawn).astype(dtype)


def draw_weights(rng, shape, row):
    ndim = len(shape)
    kept = {
        "scalar": (),
        "ones": (False,) * ndim,
        "first": [axis == 0 for axis in range(ndim)],
        "last": [axis == ndim - 1 for axis in range(ndim)],
        "full": (True,) * ndim,
        "odd_axes": [axis % 2 == 1 for axis in range(ndim)],
        "even_axes": [axis % 2 == 0 for axis in range(ndim)],
    }[row["weights_shape"]]
    shape = tuple(n if keep else 1 for n, keep in zip(shape, kept, strict=False))
    dtype = dtype_named(row["weights_dtype"])
    size = int(np.prod(shape))
    values = row["weights_values"]
    if values == "positive":
        drawn = rng.uniform(0.5, 4, size)
    elif values == "signed":
        # Eighths, and most of them positive: no reader of float32 sums may see them cancel.
        drawn = rng.integers(8, 32, size) / 8 * np.where(rng.random(size) < 0.2, -1, 1)
    elif values == "with_zeros":
        drawn = rng.integers(1, 5, size) * (rng.random(size) < 0.6)
    elif values == "all_zero":
        drawn = rng.choice([0.0, -0.0], size)
    else:
        half = rng.integers(1, 5, size // 2)
        drawn = rng.permutation([*half, *-half, *[0] * (size % 2)])
    if dtype.kind == "b":
        drawn = np.asarray(drawn) > 0
    return np.asarray(drawn).astype(dtype).reshape(shape)


def add_pairwise(golden, rng):
    for row in pairwise_rows(rng):
        golden.add(
            "pairwise",
            multi_class_labels=draw_labels(
                rng, row["shape"], dtype_named(row["labels"]), row["label_values"]
            ),
            logits=draw_logits(rng, row["shape"], dtype_named(row["logits"]), row["logit_values"]),
            weights=draw_weights(rng, row["shape"], row),
            label_smoothing=row["label_smoothing"],
        )


def add_longer(golden, rng):
    shape = (37, 41)
    for name, labels_name in zip(LOGITS_DTYPES, ("bool", "int64", "float32", "uint8"), strict=True):
        labels = draw_labels(rng, shape, dtype_named(labels_name), "soft")
        logits = draw_logits(rng, shape, dtype_named(name), "wide")
        for weights_shape in ("ones", "first", "last", "full"):
            row = {"weights_shape": weights_shape, "weights_values": "positive"}
            golden.add(
                "longer",
                multi_class_labels=labels,
                logits=logits,
                weights=draw_weights(rng, shape, {**row, "weights_dtype": "float32"}),
                label_smoothing=0.1 if weights_shape == "last" else 0,
            )


def add_edges(golden):
    for name, smoothing in itertools.product(LOGITS_DTYPES, FACTORS["label_smoothing"]):
        dtype = dtype_named(name)
        for logits in ((*EDGES, *tiny_values(dtype)), NONFINITE):
            labels = (0, 1, 0.25, 0.5, 1 - 2**-8, -1, 2, np.nan)
            logits, labels = np.meshgrid(np.asarray(logits).astype(dtype), labels, indexing="ij")
            golden.add(
                "edges",
                multi_class_labels=labels.astype(dtype),
                logits=logits,
                label_smoothing=smoothing,
            )
            # Without the NaN label, so that sums say something.
            golden.add(
                "edges",
                multi_class_labels=labels[:, :5].astype(np.float32),
                logits=logits[:, :5],
                weights=np.arange(1, 6, dtype=np.float32)[None],
                label_smoothing=smoothing,
            )
            golden.add(
                "elementwise",
                ELEMENTWISE,
                labels=np.asarray(labels * (1 - smoothing) + smoothing / 2).astype(dtype),
                logits=logits,
            )

    # Labels are cast to float32 before anything else: the last two become 0.
    labels = np.array([1 - 2.0**-30, 1 - 2.0**-25, 2.0**-30, 1e-60, 1e-60])
    for dtype in (np.float32, np.float64):
        logits = np.array([12.0, 14.0, -12.0, -np.inf, -1.0], dtype)
        for weights in (1.0, np.array([1, 1, 1, 0, 1])):
            golden.add("edges", multi_class_labels=labels, logits=logits, weights=weights)
        golden.add(
            "edges",
            multi_class_labels=np.array([2**24 + 1, -(2**24) - 1, 2**53 + 1]),
            logits=np.array([-3.0, 5.0, -0.5], dtype),
        )


def add_weights(golden):
    nan, inf = np.nan, np.inf
    labels = np.array([[1, 0, 1], [0, 0, 1]])
    finite = [[0.5, -2.0, 3.0], [1.0, 0.0, -4.0]]
    with_nan = [[nan, -2.0, 3.0], [1.0, 0.0, -4.0]]
    with_inf = [[inf, -inf, 3.0], [1.0, 0.0, -4.0]]
    zero_in_front = [[0, 1, 1], [1, 1, 1]]
    for name in LOGITS_DTYPES:
        dtype = dtype_named(name)
        for logits, weights in [
            (finite, 0.0),
            (finite, -0.0),
            (finite, -1.5),
            (finite, [[1, -1, 2], [-2, 3, -3]]),
            (finite, [[1], [-1]]),
            (finite, [[2, -1, -1]]),
            (finite, [[0], [2]]),
            (finite, [[0, 3, 0]]),
            (finite, [[nan, 1, 1], [1, 1, 1]]),
            (finite, [[inf, 1, 1], [1, 1, 1]]),
            (finite, [[inf, 1, 1], [1, 1, -inf]]),
            (with_nan, zero_in_front),
            (with_nan, [[0], [1]]),
            (with_nan, np.zeros((2, 3))),
            (with_nan, [[1, -1, 2], [-2, 3, -3]]),
            (with_nan, 0.0),
            (with_inf, zero_in_front),
            (with_inf, np.zeros((1, 3))),
            (with_inf, 1.0),
            (np.full((2, 3), nan), np.zeros((2, 1))),
        ]:
            golden.add(
                "weights",
                multi_class_labels=labels,
                logits=np.asarray(logits).astype(dtype),
                weights=np.asarray(weights, dtype=np.float32) if np.ndim(weights) else weights,
            )
        for shape, weights_shape in [
            ((0,), (0,)),
            ((0,), (1,)),
            ((0,), ()),
            ((0, 3), (1, 3)),
            ((0, 3), (0, 1)),
            ((3, 0), (3, 1)),
            ((2, 0, 3, 1), (2, 1, 1, 1)),
        ]:
            for weight in (1.0, 0.0):
                golden.add(
                    "weights",
                    multi_class_labels=np.zeros(shape, np.int64),
                    logits=np.zeros(shape, dtype),
                    weights=np.full(weights_shape, weight, np.float32),
                )


def add_elementwise(golden, rng):
    for name, shape in itertools.product(LOGITS_DTYPES, FACTORS["shape"]):
        dtype = dtype_named(name)
        for label_values, logit_values in [("soft", "ordinary"), ("hard", "wide")]:
            golden.add(
                "elementwise",
                ELEMENTWISE,
                labels=draw_labels(rng, shape, dtype, label_values),
                logits=draw_logits(rng, shape, dtype, logit_values),
            )


LOSSES_3_2_4 = np.arange(24.0).reshape(3, 2, 4)
WEIGHTS_3_2_4 = {
    # shape: values, SUM, MEAN, SUM_BY_NONZERO_WEIGHTS, SUM_OVER_BATCH_SIZE
    (1, 1, 1): ([17], 4692, 11.5, 195.5, 195.5),
    (1, 2, 1): ([17, 3], 2424, 10.1, 101, 101),
    (1, 1, 4): ([17, 0, 2, 5], 1554, 1554 / 144, 1554 / 18, 64.75),
    (3, 1, 1): ([17, 5, 2], 1248, 6.5, 52, 52),
    (3, 2, 1): ([17, 3, 5, 31, 2, 7], 2774, 2774 / 260, 2774 / 24, 2774 / 24),
    (3, 1, 4): (
        [17, 0, 2, 5, 5, 31, 17, 5, 7, 3, 11, 5],
        *(2470, 2470 / 216, 2470 / 22, 2470 / 24),
    ),
    (1, 2, 4): ([17, 0, 2, 5, 3, 13, 11, 2], 1800, 1800 / 159, 1800 / 21, 75),
    (3, 2, 4): (
        [17, 0, 2, 5, 3, 13, 11, 2, 5, 31, 17, 5, 13, 3, 0, 11, 0, 3, 11, 5, 13, 11, 1, 7],
        *(2098, 2098 / 189, 2098 / 21, 2098 / 24),
    ),
}
BROADCAST_WEIGHTS = {
    (): [5],
    (1, 1, 1): [5],
    (1, 1, 4): [5, 7, 11, 3],
    (1, 2, 1): [5, 11],
    (1, 2, 4): [5, 7, 11, 3, 2, 13, 7, 5],
    (3, 1, 1): [5, 7, 11],
    (3, 1, 4): [5, 7, 11, 3, 2, 12, 7, 5, 2, 17, 11, 3],
    (3, 2, 4): [5, 7, 11, 3, 2, 12, 7, 5, 2, 17, 11, 3, 2, 17, 11, 3, 5, 7, 11, 3, 2, 12, 7, 5],
}


def add_weighted_loss(golden, rng):
    for name, shape in itertools.product(LOGITS_DTYPES, FACTORS["shape"]):
        dtype = dtype_named(name)
        for weights_shape, weights_values in [
            ("full", "with_zeros"),
            ("first", "positive"),
            ("last", "cancelling"),
            ("odd_axes", "signed"),
        ]:
            row = {"weights_shape": weights_shape, "weights_values": weights_values}
            golden.add(
                "weighted_loss",
                WEIGHTED,
                losses=draw_logits(rng, shape, dtype, "ordinary"),
                weights=draw_weights(rng, shape, {**row, "weights_dtype": "float32"}),
            )
        losses = np.asarray([0.5, np.nan, np.inf, -np.inf, -3.0, 0.0]).astype(dtype)
        for weights in ([1, 0, 0, 0, 1, 1], [1, 1, 0, 0, 1, 1], [2, 0, 1, 0, 1, 1], np.zeros(6)):
            golden.add(
                "weighted_loss", WEIGHTED, losses=losses, weights=np.asarray(weights, np.float32)
            )
    # inf meets 0, or inf of both signs: Σ w·loss is NaN, though w·Σ loss would not be.
    for name, losses, weights in itertools.product(
        LOGITS_DTYPES,
        ([0.5, 0.0, 3.0], [0.5, -2.0, 3.0], [0.5, 2.0, 3.0]),
        (np.inf, np.array([np.inf], np.float32)),
    ):
        losses = np.asarray(losses).astype(dtype_named(name))
        golden.add("weighted_loss", WEIGHTED, losses=losses, weights=weights)


def add_tensorflow_tests(golden):
    def add(labels, logits, places=3, **more):
        golden.add(
            "tensorflow_tests",
            multi_class_labels=np.asarray(labels),
            logits=logits if isinstance(logits, np.ndarray) else np.asarray(logits, np.float32),
            places=places,
            **more,
        )

    mean = "weighted_sum_by_nonzero_weights"
    correct = [[100, -100, -100], [-100, 100, -100], [-100, -100, 100]]
    wrong = [[0, 0, 1], [1, 0, 0], [0, 1, 0]]
    add(np.eye(3, dtype=np.int32), correct, stated={mean: 0})
    for shape in ((32, 1), (32, 2)):
        ones = np.ones(shape, np.float32)
        add(ones, ones, weights=ones, stated={mean: 0.313})
    add(wrong, correct, stated={mean: 600 / 9})
    measured = np.array([[3, 4, 5], [2, 6, 0], [8, 0, 1]])
    add(wrong, correct, weights=measured, stated={mean: 1700 / 7})
    several = [[1, 0, 1], [1, 1, 0], [0, 1, 1]]
    add(several, [[100, -100, 100], [100, 100, -100], [-100, 100, 100]], stated={mean: 0})
    labels = np.array([[1, 0, 1], [1, 1, 0], [0, 1, 1]])
    logits = np.array([[100, -100, 100], [100, -100, 100], [100, 100, -100]])
    add(labels, logits.astype(np.float64), stated={mean: 400 / 9})
    unreduced = [[0, 0, 0], [0, 100, 100], [100, 0, 100]]
    add(labels.astype(np.int32), logits.astype(np.float32), stated={"none": unreduced})
    add([[1, 0, 1]], [[100, -100, -100]], label_smoothing=0.1, stated={mean: 35})
    add([[1, 0, 0, 1]] * 2, [[1.2, 0.4, -1.0, -1.1]] * 2, stated={})

    x = np.array([-100, -2, -2, 0, 2, 2, 2, 100])
    z = np.array([0, 0, 1, 0, 0, 1, 0.5, 1])
    # Those tests clip the probability that they compare with, which moves both ends by 1e-4.
    clipped = [1.00005e-4, 0.126928011, 2.12692801, 0.693147181]
    clipped += [2.12692801, 0.126928011, 1.12692801, 1.00005e-4]
    for dtype, shape in itertools.product((np.float16, np.float32, np.float64), ((8,), (2, 2, 2))):
        golden.add(
            "tensorflow_tests",
            ELEMENTWISE,
            labels=z.astype(dtype).reshape(shape),
            logits=x.astype(dtype).reshape(shape),
            stated={"none": np.reshape(clipped, shape).tolist()},
            places=3 if dtype != np.float16 else 2,
        )

    everywhere = {"none": LOSSES_3_2_4.tolist(), **dict.fromkeys(REDUCTIONS[2:], 11.5)}
    everywhere["weighted_sum"] = 276

    def add_weighted(weights, stated):
        golden.add(
            "tensorflow_tests",
            WEIGHTED,
            losses=LOSSES_3_2_4,
            weights=weights,
            stated=stated,
            places=4,
        )

    add_weighted(1.0, everywhere)
    add_weighted(17.0, {mean: 195.5})
    for shape, (weights, *stated) in WEIGHTS_3_2_4.items():
        add_weighted(np.ones(shape), everywhere)
        weights = np.reshape(np.asarray(weights, np.float64), shape)
        stated = dict(
            zip(("weighted_sum", "weighted_mean", mean, REDUCTIONS[3]), stated, strict=True)
        )
        add_weighted(weights, {"none": (LOSSES_3_2_4 * weights).tolist(), **stated})
    # Weights that multiply losses of 1 come back as they were broadcast.
    for shape, weights in BROADCAST_WEIGHTS.items():
        weights = np.reshape(np.asarray(weights, np.float32), shape)
        golden.add(
            "tensorflow_tests",
            WEIGHTED,
            losses=np.ones((3, 2, 4), np.float32),
            weights=weights,
            stated={"none": np.broadcast_to(weights, (3, 2, 4)).tolist()},
            places=6,
        )


def add_refused(golden):
    def ones(*shape):
        return np.ones(shape, np.float32)

    for labels, logits in [
        ((3,), (4,)),
        ((3,), (3, 1)),
        ((3, 1), (3,)),
        ((2, 1), (2, 3)),
        ((1, 3), (2, 3)),
        ((3, 2), (2, 3)),
        ((), (1,)),
        ((1,), ()),
        ((6,), (2, 3)),
        ((0, 3), (3, 0)),
    ]:
        golden.add_refused(multi_class_labels=ones(*labels), logits=ones(*logits))
        golden.add_refused(ELEMENTWISE, labels=ones(*labels), logits=ones(*logits))
    golden.add_refused(ELEMENTWISE, labels=ones(3), logits=ones(1, 2))
    for values, weights in [
        ((2, 3), (2,)),
        ((2, 3), (3,)),
        ((3, 3), (3,)),
        ((2, 3), (1,)),
        ((2, 3), (2, 1, 1)),
        ((2, 3), (1, 2, 3)),
        ((2, 3), (0, 3)),
        ((2, 3), (2, 2)),
        ((2, 3), (3, 2)),
        ((4,), (4, 1)),
        ((4,), (1, 1)),
        ((4,), (3,)),
        ((2, 1), (2, 3)),
        ((2, 1), (2,)),
        ((), (1,)),
        ((), (1, 1)),
        ((0, 3), (2, 3)),
        ((1, 3), (0, 3)),
        # TensorFlow's own tests of its broadcasting rule, and of compute_weighted_loss.
        ((3, 2, 4), (1,)),
        ((3, 2, 4), (1, 1)),
        ((3, 2, 4), (3, 2)),
        ((3, 2, 4), (2, 4)),
        ((3, 2, 4), (1, 1, 1, 1)),
        ((3, 2, 4), (3, 2, 4, 1)),
        ((3, 2, 4), (1, 3, 2, 4)),
        ((3, 2, 4), (2, 2, 2, 2)),
        ((3, 2, 4), (3, 1)),
        ((3, 2, 4), (2,)),
        ((3, 2, 4), (3,)),
        ((3, 2, 4, 1), (3, 2, 4, 2)),
    ]:
        golden.add_refused(
            multi_class_labels=ones(*values), logits=ones(*values), weights=ones(*weights)
        )
        golden.add_refused(WEIGHTED, losses=ones(*values), weights=ones(*weights))
    both = {"multi_class_labels": ones(2, 3), "logits": ones(2, 3)}
    golden.add_refused(**{**both, "multi_class_labels": None})
    golden.add_refused(**{**both, "logits": None})
    golden.add_refused(**both, weights=None)
    golden.add_refused(ELEMENTWISE, labels=None, logits=ones(3))
    golden.add_refused(ELEMENTWISE, labels=ones(3), logits=None)
    golden.add_refused(WEIGHTED, losses=ones(3), weights=None)
    for reduction in ("sum", "mean", "SUM", "auto", "sum_over_batch_size", "", "None", None):
        golden.add_refused(**both, reduction=reduction)
        golden.add_refused(WEIGHTED, losses=ones(3), reduction=reduction)
    golden.add_refused(**{**both, "logits": np.ones((2, 3), np.int64)})
    golden.add_refused(**{**both, "logits": np.ones((2, 3), np.complex64)})


def add_differences(golden):
    def add(reason, labels, logits, dtype, reductions=REDUCTIONS, **more):
        golden.add(
            "differences",
            reductions=reductions,
            reason=reason,
            multi_class_labels=np.asarray(labels),
            logits=np.asarray(logits).astype(dtype_named(dtype)),
            **more,
        )

    add("float64_stays", [1.0, 0.0, 0.3], [1.0, -20.0, 0.1], "float64")
    add("float64_stays", [0.0, 0.0], [1e300, 2.0], "float64")
    add("float64_stays", [1.0, 0.0], [1.0, 2.0], "float64", weights=np.array([1e-50, 0.0]))
    add("float64_stays", [0.1, 0.9], [1.0, 2.0], "float64", weights=np.array([1e39, 0.3]))

    add("subnormals_stay", [0, 1, 0], [-100.0, 95.0, -88.0], "float32")
    add("subnormals_stay", [0, 1], [-90.0, 2.0], "bfloat16")
    tiny = np.array([1e-40, 0.0, 2e-40], np.float32)
    add("subnormals_stay", [1, 0, 1], [-30.0, 2.0, -3.0], "float32", weights=tiny)
    golden.add(
        "differences",
        ELEMENTWISE,
        reason="subnormals_stay",
        labels=np.array([0.0, 1.0]),
        logits=np.array([-730.0, 740.0]),
    )

    for smoothing in (-0.1, -1.0, 1.5, 2.0, float("nan")):
        add(
            "smoothing_checked", [1, 0], [2.0, 3.0], "float32", ("none",), label_smoothing=smoothing
        )

    labels = np.array([0.3, 0.7, 0.1, 0.999], np.float32)
    add("label_precision", labels, [100.0, 3.0, 1000.0, 20.0], "float16")
    add("label_precision", labels, [512.0, 3.0, 900.0, 30.0], "bfloat16")

    near_one = np.array([1 - 2**-24, 1 - 2**-20, 1 - 2**-12], np.float32)
    add("no_cancellation", near_one, [12.0, 14.0, 9.0], "float32")
    add("no_cancellation", [1, 1], [17.0, 12.0], "float32", label_smoothing=1e-6)
    add("no_cancellation", near_one, [14.0, 11.0, 9.0], "float32", label_smoothing=2**-15)

    big = np.array([2.0, -2.0, 1.0, 1.0], np.float32)
    reduced = REDUCTIONS[1:]
    add("sums_are_float64", [0] * 4, [3e38, 3e38, 1.0, 2.0], "float32", reduced, weights=big)
    add("sums_are_float64", [0] * 4, [3e38] * 4, "float32", REDUCTIONS[2:])
    add("sums_are_float64", [-1, -1], [65504.0, 1.0], "float16", REDUCTIONS[3:4], weights=0.25)
    # The losses of the heavy weights are 0 in float32: just the sum of weights is hard.
    heavy = np.array([1.0, 1e8, -1e8], np.float32)
    mean = REDUCTIONS[2:3]
    add("sums_are_float64", [1, 0, 0], [1.0, -200.0, -200.0], "float32", mean, weights=heavy)


def main():
    golden = Golden()
    rng = np.random.default_rng(20170301)
    add_pairwise(golden, rng)
    add_longer(golden, rng)
    add_edges(golden)
    add_weights(golden)
    add_elementwise(golden, rng)
    add_weighted_loss(golden, rng)
    add_tensorflow_tests(golden)
    add_refused(golden)
    add_differences(golden)
    golden.write()
    print(f"{len(golden.cases)} cases, TensorFlow {tf.__version__}")


if __name__ == "__main__":
    main()
