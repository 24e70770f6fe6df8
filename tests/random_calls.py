"""Random arguments for comparisons with other implementations: shapes, dtypes, values, layouts."""

import numpy as np
from reference import BFLOAT16

LOGITS_DTYPES = [np.dtype(t) for t in (np.float16, BFLOAT16, np.float32, np.float64)]
INTEGER_DTYPES = [np.dtype(f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)]
LABELS_DTYPES = [np.dtype(bool), *INTEGER_DTYPES, *LOGITS_DTYPES]
WEIGHTS_DTYPES = [*LOGITS_DTYPES, np.dtype(np.int32), np.dtype(np.int64), np.dtype(bool)]
EDGES = [0.0, 1e-45, 1e-38, 1e-4, 17.0, 17.4, 37.0, 88.0, 104.0, 1e4, float("inf"), float("nan")]
EDGES = [sign * edge for edge in EDGES for sign in (1, -1)]
NONFINITE_WEIGHTS = [float("nan"), float("inf"), -float("inf")]


def drawn(rng, shape, dtype, values):
    flat = [values() for _ in range(int(np.prod(shape)))]
    with np.errstate(over="ignore"):
        return np.array(flat, dtype=np.float64).reshape(shape).astype(dtype)


def draw_shape(rng):
    ndim = rng.randrange(5)
    longest = (1, 12, 5, 3, 3)[ndim]
    shape = [rng.choice([1, *range(1, longest + 1)]) for _ in range(ndim)]
    if shape and rng.random() < 0.05:
        shape[rng.randrange(ndim)] = 0
    return tuple(shape)


def draw_logits(rng, shape, dtype):
    spread = rng.choice([1.0, 8.0, 100.0])
    edges = rng.choice([0.0, 0.0, 0.3])
    return drawn(
        rng,
        shape,
        dtype,
        lambda: rng.choice(EDGES) if rng.random() < edges else rng.uniform(-spread, spread),
    )


def draw_labels(rng, shape, dtype):
    choices = [0, 1]
    outside = rng.random() < 0.2
    if outside and dtype.kind != "b":
        choices += [2] if dtype.kind == "u" else [2, -1]
    soft = dtype in LOGITS_DTYPES and rng.random() < 0.6
    return drawn(
        rng,
        shape,
        dtype,
        # No label is so small that TensorFlow would flush it.
        lambda: rng.choice(choices) if not soft or rng.random() < 0.3 else rng.uniform(0.001, 1),
    )


def draw_weights(rng, shape):
    dtype = rng.choice(WEIGHTS_DTYPES)
    kind = rng.choice(["scalar", "positive", "zeros", "signed", "cancelling", "nonfinite"])
    if kind == "scalar":
        return rng.choice([1.0, 0.0, -0.0, 2.5, -1.0, 3, True])
    shape = tuple(n if rng.random() < 0.5 else 1 for n in shape)
    if rng.random() < 0.1:
        shape = ()
    if kind == "positive":
        # Rounded to eighths, for a float32 sum of them to be exact.
        return drawn(rng, shape, dtype, lambda: rng.randrange(1, 32) / 8)
    if kind == "zeros":
        return drawn(rng, shape, dtype, lambda: rng.choice([0.0, -0.0, 1.0, 2.0]))
    if kind == "signed":
        return drawn(rng, shape, dtype, lambda: rng.randrange(-16, 17) / 8)
    if kind == "nonfinite" and dtype.kind not in "bi":
        return drawn(
            rng,
            shape,
            dtype,
            lambda: rng.choice(NONFINITE_WEIGHTS) if rng.random() < 0.2 else 1.0,
        )
    size = int(np.prod(shape))
    half = [rng.randrange(1, 5) for _ in range(size // 2)]
    values = [*half, *(-w for w in half), *[0] * (size % 2)]
    rng.shuffle(values)
    return np.array(values, dtype=np.float64).astype(dtype).reshape(shape)


LAYOUTS = [
    "C",
    "F",
    "strided",
    "reversed",
    "swapped axes",
    "read-only",
    "misaligned",
    "swapped bytes",
]


def laid_out(array, layout):
    """Return an equal array in another memory layout."""
    if layout == "F":
        return np.array(array, order="F")
    if layout == "strided":
        wide = np.zeros(tuple(2 * n for n in array.shape), array.dtype)
        view = wide[(..., *[slice(None, None, 2)] * array.ndim)]
        view[...] = array
        return view
    if layout == "reversed":
        backwards = (..., *[slice(None, None, -1)] * array.ndim)
        return array[backwards].copy()[backwards]
    if layout == "swapped axes" and array.ndim > 1:
        return array.swapaxes(0, -1).copy().swapaxes(0, -1)
    if layout == "read-only":
        array = array.copy()
        array.flags.writeable = False
    if layout == "misaligned":
        bytes_ = np.zeros(array.nbytes + 1, np.uint8)[1:]
        view = bytes_.view(array.dtype).reshape(array.shape)
        view[...] = array
        return view
    if layout == "swapped bytes" and array.dtype != BFLOAT16:
        return array.astype(array.dtype.newbyteorder())
    return array
