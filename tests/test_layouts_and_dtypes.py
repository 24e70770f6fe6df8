"""Every dtype, rank, memory layout and broadcast of weights gives the exact value."""

import ml_dtypes
import numpy as np
import pytest
from reference import REDUCTIONS, assert_within, exact_loss, loss_error, weighted

import sce_numba as sce

LOGITS_DTYPES = [
    ml_dtypes.float8_e4m3fn,
    ml_dtypes.float8_e5m2,
    np.float16,
    ml_dtypes.bfloat16,
    np.float32,
    np.float64,
]
LABELS_DTYPES = [
    bool,
    *(f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)),
    *LOGITS_DTYPES,
]
SHAPES = [
    (),
    (1,),
    (7,),
    (300,),
    (1100,),
    (3, 5),
    (1, 4),
    (5, 1),
    (3, 300),
    (2, 3, 4),
    (2, 1, 3, 5),
]


def unaligned(array):
    memory = np.empty(array.nbytes + 1, np.uint8)
    view = np.frombuffer(memory, array.dtype, array.size, 1).reshape(array.shape)
    view[...] = array
    return view


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def spread(array):
    return np.repeat(array, 3, axis=-1)[..., ::3]


LAYOUTS = {
    "contiguous": np.ascontiguousarray,
    "Fortran order": np.asfortranarray,
    "strided": spread,
    "reversed": lambda array: np.flip(np.flip(array).copy()),
    "other byte order": lambda array: array.astype(array.dtype.newbyteorder()),
    "unaligned": unaligned,
    "read-only": read_only,
    "last axes swapped": lambda array: array.swapaxes(-1, -2).copy().swapaxes(-1, -2),
}


def example(shape, labels_dtype=np.float32, logits_dtype=np.float32):
    """Return labels 0 and 1, and logits, of some shape."""
    rng = np.random.default_rng(7)
    labels = (rng.random(shape) < 0.5).astype(labels_dtype)
    logits = rng.normal(0, 5, shape).astype(logits_dtype)
    return np.asarray(labels), np.asarray(logits)


def weights_shapes(shape):
    """Return every shape that TensorFlow lets weights have, with one dimension or more kept."""
    for kept in range(2 ** len(shape)):
        yield tuple(size if kept >> k & 1 else 1 for k, size in enumerate(shape))


def assert_exact(labels, logits, weights=1.0, smoothing=0.0, reductions=REDUCTIONS):
    losses = exact_loss(labels, logits, smoothing)
    errors = loss_error(labels, logits, smoothing, losses)
    for reduction in reductions:
        value, allowed = weighted(
            losses, errors, weights, reduction, logits.dtype.newbyteorder("=")
        )
        actual = sce.sigmoid_cross_entropy(labels, logits, weights, smoothing, reduction=reduction)
        assert_within(actual, value, allowed, f"{reduction}, weights {np.shape(weights)}")
        assert actual.dtype == logits.dtype.newbyteorder("=")
        assert actual.shape == (logits.shape if reduction == "none" else ())


@pytest.mark.parametrize("logits_dtype", LOGITS_DTYPES)
@pytest.mark.parametrize("labels_dtype", LABELS_DTYPES)
def test_every_labels_dtype_meets_every_logits_dtype(labels_dtype, logits_dtype):
    assert_exact(*example((3, 7), labels_dtype, logits_dtype), smoothing=0.1)


@pytest.mark.parametrize("shape", SHAPES)
def test_weights_of_every_broadcast_shape(shape):
    labels, logits = example(shape)
    rng = np.random.default_rng(3)
    for weights_shape in weights_shapes(shape):
        weights = rng.integers(-1, 3, weights_shape).astype(np.float32)
        assert_exact(labels, logits, weights, reductions=["none", "weighted_sum"])
        assert_exact(labels, logits, abs(weights), smoothing=0.2)


@pytest.mark.parametrize("weights_dtype", LABELS_DTYPES)
@pytest.mark.parametrize("logits_dtype", LOGITS_DTYPES)
def test_every_weights_dtype(weights_dtype, logits_dtype):
    labels, logits = example((6, 4), bool, logits_dtype)
    assert_exact(labels, logits, (np.arange(24).reshape(6, 4) % 5).astype(weights_dtype))
    assert_exact(labels, logits, (np.arange(6).reshape(6, 1) % 4).astype(weights_dtype))
    assert_exact(labels, logits, np.array(3).astype(weights_dtype)[()])


@pytest.mark.parametrize("labels_layout", LAYOUTS)
@pytest.mark.parametrize("logits_layout", LAYOUTS)
def test_every_layout_meets_every_other(labels_layout, logits_layout):
    for shape in [(6, 5), (4, 280), (2, 3, 4)]:
        labels, logits = example(shape, np.int32)
        weights = np.linspace(0.5, 2, shape[0], dtype=np.float32).reshape(
            shape[:1] + (1,) * (len(shape) - 1)
        )
        arranged = LAYOUTS[labels_layout](labels), LAYOUTS[logits_layout](logits)
        for reduction in ("none", "weighted_mean"):
            expected = sce.sigmoid_cross_entropy(labels, logits, weights, 0.1, reduction=reduction)
            actual = sce.sigmoid_cross_entropy(*arranged, weights, 0.1, reduction=reduction)
            np.testing.assert_allclose(actual, expected, rtol=1e-7, atol=0)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_out_of_every_layout(layout, dtype):
    labels, logits = example((6, 5), np.uint8, dtype)
    out = LAYOUTS[layout](np.zeros_like(logits))
    out = out if out.flags.writeable else out.copy()
    logits = logits.astype(out.dtype)
    expected = sce.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)
    assert sce.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits, out=out) is out
    np.testing.assert_array_equal(out, expected)


def test_a_broadcast_view_of_more_elements_than_32_bits_can_count():
    logits = np.broadcast_to(np.float16(0), (2**16, 2**15 + 1))
    labels = np.broadcast_to(np.True_, logits.shape)
    assert sce.sigmoid_cross_entropy(labels, logits) == np.float16(np.log(2))


def test_array_likes_are_taken():
    class Column:
        def __array__(self, dtype=None, copy=None):
            return np.array([0.5, -0.5])

    assert_exact(np.array([1.0, 0.0]), np.array([0.5, -0.5]))
    assert sce.sigmoid_cross_entropy((1, 0), Column()) == sce.sigmoid_cross_entropy(
        [True, False], [0.5, -0.5]
    )
    assert sce.sigmoid_cross_entropy([1], [0.5]).dtype == np.float64


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (2, 0, 4)])
@pytest.mark.parametrize("reduction", sce.Reduction)
def test_an_empty_array_gives_0(shape, reduction):
    empty = np.empty(shape, np.float32)
    for weights in (1.0, 0.0, float("nan"), np.ones([1] * len(shape)), np.ones(shape)):
        loss = sce.sigmoid_cross_entropy(empty, empty, weights, reduction=reduction)
        assert loss.dtype == np.float32
        assert loss.shape == (shape if reduction == "none" else ())
        assert not loss.any()


@pytest.mark.parametrize("dtype", LOGITS_DTYPES)
@pytest.mark.parametrize("shape", [(40,), (8, 300)])
def test_where_is_as_if_the_elements_were_deleted(shape, dtype):
    labels, logits = example(shape, np.float32, dtype)
    rng = np.random.default_rng(5)
    weights = rng.integers(0, 3, shape).astype(np.float32)
    included = rng.random(shape) < 0.6
    spoilt, spoilt_labels = logits.copy(), labels.copy()
    spoilt[~included] = np.nan
    spoilt_labels[~included] = np.nan
    for reduction in REDUCTIONS[1:]:
        for w, left in ((2.5, 2.5), (weights, weights[included])):
            expected = sce.sigmoid_cross_entropy(
                labels[included], logits[included], left, 0.1, reduction=reduction
            )
            actual = sce.sigmoid_cross_entropy(
                spoilt_labels, spoilt, w, 0.1, reduction=reduction, where=included
            )
            np.testing.assert_allclose(
                actual.astype(float), expected.astype(float), rtol=2 * ml_dtypes.finfo(dtype).eps
            )


def test_where_broadcasts_by_numpys_rule_and_leaves_zeros_behind():
    labels, logits = example((4, 3))
    where = np.array([True, False, True])
    losses = sce.sigmoid_cross_entropy(labels, logits, reduction="none", where=where)
    full = sce.sigmoid_cross_entropy(labels, logits, reduction="none")
    np.testing.assert_array_equal(losses, np.where(where, full, 0))
    assert sce.sigmoid_cross_entropy(labels, logits, where=False) == 0


@pytest.mark.parametrize("kind", [bool, np.float16, np.float32, np.float64, np.int32, np.int64])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("columns", [1, 3, 16, 17, 255])
def test_operands_broadcast_over_short_rows_are_those_that_are_copied(columns, dtype, kind):
    # Blocks go across rows here, and begin and end inside of them.
    shape = (2 * 4096 // columns + 3, columns)
    rng = np.random.default_rng(columns)
    logits = rng.normal(0, 3, shape).astype(dtype)
    labels = rng.random(shape) < 0.5

    def some(*shape):
        return (rng.random(shape) * 5).astype(kind)

    every_other = some(2 * shape[0], 1)[::2]
    for weights in (some(shape[0], 1), some(1, columns), every_other, every_other[::-1]):
        for pos_weight in (None, some(columns), weights):
            given = {"weights": weights, "pos_weight": pos_weight}
            copied = {
                name: value if value is None else np.broadcast_to(value, shape).copy()
                for name, value in given.items()
            }
            for function, options in (
                (sce.sigmoid_cross_entropy, {"reduction": "weighted_sum"}),
                (sce.sigmoid_cross_entropy, {"reduction": "none"}),
                (sce.sigmoid_cross_entropy_value_and_grad, {"reduction": "weighted_sum"}),
                (sce.sigmoid_cross_entropy_gradient_hessian, {}),
            ):
                found = function(labels, logits, **given, **options)
                due = function(labels, logits, **copied, **options)
                pairs = zip(found, due, strict=True) if type(due) is tuple else [(found, due)]
                for one, other in pairs:
                    # Perhaps of another loop, with logarithms merged, or rounded twice: a single
                    # weight beside float32 logits, which multiplies in their dtype.
                    if one.ndim == 0 or weights.size == 1:
                        np.testing.assert_array_max_ulp(one, other)
                    else:
                        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "dtype",
    ["float32", *(pytest.param(d, marks=pytest.mark.thorough) for d in ("float16", "float64"))],
)
@pytest.mark.parametrize("of_logits", ["<", ">"])
@pytest.mark.parametrize("of_results", ["<", ">"])
@pytest.mark.parametrize("shape", [(6, 5), (300, 500)])
def test_results_go_to_out_in_either_byte_order(dtype, of_logits, of_results, shape):
    labels, given = example(shape, bool, dtype)
    given = given.astype(given.dtype.newbyteorder(of_logits))
    other = given.dtype.newbyteorder(of_results)
    for function, options, shapes in (
        (sce.sigmoid_cross_entropy, {"reduction": "none"}, {"out": shape}),
        (sce.sigmoid_cross_entropy, {"axis": 0}, {"out": shape[1:]}),
        (sce.sigmoid_cross_entropy, {"groups": np.arange(shape[0]) % 3}, {"out": (3,)}),
        (sce.sigmoid_cross_entropy_value_and_grad, {}, {"grad_out": shape}),
        (sce.sigmoid_focal_cross_entropy, {"reduction": "none"}, {"out": shape}),
    ):
        outs = {name: np.empty(own, other) for name, own in shapes.items()}
        due = function(labels, given, **options)
        found = function(labels, given, **options, **outs)
        for one, expected in zip(found, due, strict=True):
            np.testing.assert_array_equal(one, expected)
    losses = sce.sigmoid_cross_entropy(labels, given, reduction="none")
    in_place = given.view(other)
    sce.sigmoid_cross_entropy(labels, given, reduction="none", out=in_place)
    np.testing.assert_array_equal(in_place, losses)
