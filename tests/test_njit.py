"""Inside code that users compile with Numba the functions are what they are outside of it."""

import importlib.metadata
import inspect
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from numba import float32, float64, njit, prange, typeof
from numba.core.errors import TypingError
from reference import derivatives, gradient_error, quick_loss
from test_ulp import SOFT_LABELS, labels_like, sample

import sce_numba as sce
import sce_numba.focal_njit
import sce_numba.njit  # as Numba does itself where the package is installed
from sce_numba.njit_calls import compiled, public

WEIGHTED_SUM = sce.Reduction.SUM


@njit
def losses_of(labels, logits):
    return sce.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)


@njit
def gradient_of(labels, logits):
    return sce.sigmoid_cross_entropy_gradient(labels, logits)


@njit
def one_by_one(labels, logits):
    losses, gradients = np.empty_like(logits), np.empty_like(logits)
    hessians = np.empty_like(logits)
    for i in range(logits.size):
        losses[i] = sce.sigmoid_cross_entropy_with_logits(labels=labels[i], logits=logits[i])
        gradients[i] = sce.sigmoid_cross_entropy_gradient(labels[i], logits[i])
        _, hessians[i] = sce.sigmoid_cross_entropy_gradient_hessian(labels[i], logits[i])
    return losses, gradients, hessians


def bits(array):
    return np.asarray(array).view(np.int32 if array.dtype == np.float32 else np.int64)


def assert_same(actual, expected):
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.dtype == expected.dtype
    np.testing.assert_array_equal(actual, expected)


def special(dtype):
    tiny = np.finfo(dtype).tiny
    values = [0.0, -0.0, np.inf, -np.inf, np.nan, tiny, -tiny / 8, 87.5, -103.9, 104.5, 745, -1e6]
    return np.array(values, dtype)


THOROUGH = pytest.mark.thorough


@pytest.fixture(scope="module", params=[np.float32, np.float64], ids=["float32", "float64"])
def logits(request):
    return sample(request.param, 200_000, 20)


@pytest.mark.parametrize("label", [0, 1, *SOFT_LABELS])
def test_numbers_are_as_exact_as_arrays(logits, label):
    wide = np.float64 if logits.dtype == np.float32 else np.longdouble
    if np.finfo(wide).nmant < 52 + 11 * (wide is np.longdouble):
        pytest.skip("longdouble is no wider than float64 here")
    labels = labels_like(logits, label)
    losses, gradients, _ = one_by_one(labels, logits)
    exact = quick_loss(labels, logits, wide)
    spacing = np.spacing(np.abs(exact).astype(logits.dtype)).astype(wide)
    assert np.max(np.abs(losses - exact) / spacing) <= (2 if label in (0, 1) else 2.5)
    _, slope, _ = derivatives(labels, logits)
    assert np.all(np.abs(gradients - slope) <= gradient_error(labels, logits))


@pytest.mark.parametrize("label", [0, 1, 0.3])
def test_numbers_have_the_bits_of_arrays(logits, label):
    logits = np.concatenate([logits, special(logits.dtype)])
    labels = np.full(logits.shape, label, logits.dtype)
    losses, gradients, hessians = one_by_one(labels, logits)
    assert_same(losses, sce.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits))
    expected = sce.sigmoid_cross_entropy_gradient_hessian(labels, logits)
    assert_same(gradients, expected[0])
    assert_same(hessians, expected[1])
    assert np.isnan(losses).any()


@pytest.mark.parametrize("options", [{"fastmath": True}, {"error_model": "python"}], ids=str)
def test_options_of_the_caller_change_no_bit_of_a_number(logits, options):
    finite = logits[np.isfinite(logits)]
    labels = labels_like(finite, 0.3)
    for actual, expected in zip(
        njit(**options)(one_by_one.py_func)(labels, finite),
        one_by_one(labels, finite),
        strict=True,
    ):
        assert np.array_equal(bits(actual), bits(expected))


KINDS = [np.uint8, np.int64, np.float32, np.float64]


@pytest.mark.parametrize("kind", [bool, *(pytest.param(k, marks=THOROUGH) for k in KINDS)])
def test_labels_may_be_bool_integer_or_float(kind):
    for dtype in (np.float32, np.float64):
        logits = np.linspace(-30, 30, 301).astype(dtype)
        labels = (np.arange(301) % 3 == 0).astype(kind)
        expected = sce.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)
        assert_same(one_by_one(labels, logits)[0], expected)
        assert_same(losses_of(labels, logits), expected)
        assert_same(gradient_of(labels, logits), sce.sigmoid_cross_entropy_gradient(labels, logits))


def test_a_number_has_the_dtype_of_its_logit():
    returned = {}
    for kind in (np.float32, np.float64):
        losses_of(1, kind(0.0))
        returned[kind] = losses_of.overloads[typeof(1), typeof(kind(0.0))].signature.return_type
    assert returned == {np.float32: float32, np.float64: float64}


def layouts():
    rng = np.random.default_rng(11)
    logits = rng.normal(0, 4, (60, 301)).astype(np.float32)
    labels = rng.random((60, 301)) < 0.4
    cube = np.ascontiguousarray(logits.reshape(4, 15, 301))
    return {
        "C": (labels, logits),
        "F": (labels.T, logits.T),
        "mixed": (labels, np.asfortranarray(logits)),
        "strided": (labels[::2, ::-3], logits[::2, ::-3]),
        "three axes": (labels.reshape(4, 15, 301)[:, ::2], cube[:, ::2]),
        "one axis": (labels.ravel(), logits.ravel()),
        "no axis": (np.asarray(labels[0, 0]), np.asarray(logits[0, 0])),
        "empty": (labels[:0], logits[:0]),
    }


@njit
def smoothed_and_mean(labels, logits, weights):
    return (
        sce.sigmoid_cross_entropy(labels, logits, weights, 0.1),
        sce.sigmoid_cross_entropy(
            multi_class_labels=labels, logits=logits, reduction="weighted_mean"
        ),
    )


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name, marks=[THOROUGH] if name in ("F", "mixed", "strided", "three axes") else []
        )
        for name in layouts()
    ],
)
def test_arrays_of_any_layout_give_the_bits_of_a_call_from_python(name):
    labels, logits = layouts()[name]

    assert_same(losses_of(labels, logits), losses_of.py_func(labels, logits))
    for actual, expected in zip(
        smoothed_and_mean(labels, logits, 2.0),
        smoothed_and_mean.py_func(labels, logits, 2.0),
        strict=True,
    ):
        assert logits.dtype.type(actual) == expected


@njit
def every_reduction(labels, logits, weights):
    return (
        sce.sigmoid_cross_entropy(labels, logits, weights, reduction="weighted_sum"),
        sce.sigmoid_cross_entropy(labels, logits, weights, reduction="weighted_mean"),
        sce.sigmoid_cross_entropy(labels, logits, weights),
        sce.sigmoid_cross_entropy(
            labels, logits, weights, reduction="weighted_sum_over_batch_size"
        ),
    )


@njit
def elements(labels, logits, weights):
    return sce.sigmoid_cross_entropy(labels, logits, weights, reduction="none")


@pytest.mark.parametrize("shape", [(300, 1), (1, 400), (300, 400), (1, 1)])
@pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=THOROUGH)])
def test_weights_are_those_of_a_call_from_python(shape, dtype):
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 3, (300, 400)).astype(dtype)
    labels, weights = rng.integers(0, 2, logits.shape), rng.integers(0, 4, shape) / 4

    # Quarters add up without rounding, in whatever order.
    expected = tuple(every_reduction.py_func(labels, logits, weights))
    assert every_reduction(labels, logits, weights) == expected
    assert_same(elements(labels, logits, weights), elements.py_func(labels, logits, weights))


@pytest.mark.parametrize("weight", [0.0, -2.0, 3, True, np.inf, np.nan])
def test_a_scalar_weight_may_be_any_number(weight):
    logits = np.linspace(-3, 3, 500)
    labels = np.ones(500, bool)

    @njit
    def reduced(labels, logits, weight):
        return sce.sigmoid_cross_entropy(labels, logits, weights=weight)

    np.testing.assert_array_equal(
        reduced(labels, logits, weight), reduced.py_func(labels, logits, weight)
    )


@pytest.mark.thorough
def test_where_and_pos_weight_reach_value_and_gradient():
    rng = np.random.default_rng(4)
    logits = rng.normal(0, 3, (40, 300)).astype(np.float32)
    labels, where = rng.random(logits.shape) < 0.3, rng.random(logits.shape) < 0.8
    rows, classes = rng.integers(1, 5, (40, 1)) / 4, rng.random(300)

    @njit
    def found(labels, logits, rows, classes, where):
        return (
            sce.sigmoid_cross_entropy_value_and_grad(
                labels,
                logits,
                rows,
                0.1,
                pos_weight=classes,
                where=where,
                reduction="weighted_mean",
            ),
            sce.sigmoid_cross_entropy_value_and_grad(labels, logits, 2.0),
            sce.sigmoid_cross_entropy_value_and_grad(labels, logits, rows),
            sce.sigmoid_cross_entropy_value_and_grad(labels, logits, rows, reduction="none"),
            sce.sigmoid_cross_entropy_gradient_hessian(labels, logits, rows, pos_weight=classes),
        )

    arguments = labels, logits, rows, classes, where
    for pair, expected in zip(found(*arguments), found.py_func(*arguments), strict=True):
        for one, other in zip(pair, expected, strict=True):
            assert_same(np.asarray(one, np.float32), other)


def test_the_other_functions_are_there_too():
    logits = np.linspace(-3, 3, 600).reshape(2, 300)
    labels = np.ones((2, 300))

    @njit
    def found(labels, logits):
        losses = sce.weighted_cross_entropy_with_logits(labels, logits, 3.0)
        one = sce.weighted_cross_entropy_with_logits(labels[0, 7], logits[0, 7], pos_weight=3.0)
        return losses, one, sce.compute_weighted_loss(losses, 2.0)

    losses, one, loss = found(labels, logits)
    assert_same(losses, sce.weighted_cross_entropy_with_logits(labels, logits, 3.0))
    assert one == losses[0, 7]
    assert loss == sce.compute_weighted_loss(losses, 2.0)


@pytest.mark.parametrize("reduction", list(sce.Reduction))
def test_a_reduction_may_be_a_member_or_its_string(reduction):
    logits, labels = np.linspace(-3, 3, 300), np.ones(300)
    string = str(reduction)

    @njit
    def by_string(labels, logits):
        return sce.sigmoid_cross_entropy(labels, logits, reduction=string)

    @njit
    def by_member(labels, logits):
        return sce.sigmoid_cross_entropy(labels, logits, reduction=reduction)

    expected = by_member.py_func(labels, logits)
    assert_same(np.asarray(by_string(labels, logits)), expected)
    assert_same(np.asarray(by_member(labels, logits)), expected)


def test_a_reduction_may_be_an_attribute_a_global_or_an_argument():
    logits, labels = np.linspace(-3, 3, 300), np.ones(300)

    @njit
    def attribute(labels, logits):
        return sce.sigmoid_cross_entropy(labels, logits, reduction=sce.Reduction.SUM)

    @njit
    def module_global(labels, logits):
        return sce.sigmoid_cross_entropy(labels, logits, reduction=WEIGHTED_SUM)

    @njit
    def argument(labels, logits, reduction):
        return sce.sigmoid_cross_entropy(labels, logits, reduction=reduction)

    expected = sce.sigmoid_cross_entropy(labels, logits, reduction="weighted_sum")
    assert attribute(labels, logits) == expected
    assert module_global(labels, logits) == expected
    assert argument(labels, logits, sce.Reduction.SUM) == expected
    assert argument(labels, logits, sce.Reduction.NONE).shape == logits.shape


LABELS, LOGITS = np.ones((2, 3)), np.zeros((2, 3))
PUBLIC = [
    sce.compute_weighted_loss,
    sce.sigmoid_cross_entropy,
    sce.sigmoid_cross_entropy_gradient,
    sce.sigmoid_cross_entropy_gradient_hessian,
    sce.sigmoid_cross_entropy_value_and_grad,
    sce.sigmoid_cross_entropy_with_logits,
    sce.sigmoid_focal_cross_entropy,
    sce.sigmoid_focal_cross_entropy_value_and_grad,
    sce.weighted_cross_entropy_with_logits,
]


def call(body):
    """Compile a call of one expression in ``z``, ``x`` and ``w``."""
    found = {}
    exec(f"def function(z, x, w):\n    return sce.{body}", {"sce": sce}, found)
    return njit(found["function"])


@pytest.mark.parametrize("function", PUBLIC, ids=lambda function: function.__name__)
def test_the_arguments_are_those_of_a_call_from_python(function):
    parameters = inspect.signature(function).parameters
    operands = {"multi_class_labels": "z", "labels": "z", "logits": "x", "losses": "x"}
    if function is sce.weighted_cross_entropy_with_logits:
        operands["pos_weight"] = "w"
    operands = {name: value for name, value in operands.items() if name in parameters}

    def refused(*positional, **named):
        arguments = [*positional, *(f"{name}={value}" for name, value in named.items())]
        with pytest.raises(TypingError) as caught:
            call(f"{function.__name__}({', '.join(arguments)})")(LABELS, LOGITS, 1.0)
        return str(caught.value)

    for name, parameter in parameters.items():
        if name == "name":  # anything, which has no meaning
            continue
        # No argument can be complex, which each says by its name.
        said = refused(**operands | {name: "1j"})
        assert f"`{name}`" in said or (name == "_sentinel" and "named arguments" in said)
        if parameter.kind == parameter.KEYWORD_ONLY:
            assert "too many positional arguments" in refused(*["z"] * len(parameters))
    assert "unexpected keyword argument 'other'" in refused(**operands, other=1)


def scaled(losses, weights=2.0, reduction="sum", scope=None, *, axis=None, where=3):
    """Be public, to no end but a test."""


@public(scaled, "reduction")
def _scaled(chosen):
    kept = 1.0 if getattr(chosen.reduction, "literal_value", chosen.reduction) == "sum" else 0.0

    def computed(where, logits, weights, parameters):
        return kept, logits, weights, where, parameters

    return compiled(computed)


def test_what_is_left_out_is_what_python_has_there():
    @njit
    def found(a):
        return scaled(a), scaled(a, where=a), scaled(a, 5, "none"), scaled(losses=a, scope=None)

    assert found(1) == (
        (1.0, 1, 2.0, 3, None),
        (1.0, 1, 2.0, 1, None),
        (0.0, 1, 5, 3, None),
        (1.0, 1, 2.0, 3, None),
    )


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("sigmoid_cross_entropy(z, x, scope='a')", "`scope`"),
        ("sigmoid_cross_entropy(z, x, loss_collection='mine')", "`loss_collection`"),
        ("sigmoid_cross_entropy(z, x, out=x)", "`out`"),
        ("sigmoid_cross_entropy_value_and_grad(z, x, grad_out=x)", "`grad_out`"),
        ("sigmoid_cross_entropy_gradient_hessian(z, x, hess_out=x)", "`hess_out`"),
        ("sigmoid_cross_entropy_with_logits(labels=z, logits=x, out=x)", "`out`"),
        ("sigmoid_cross_entropy_with_logits(z, x)", "named arguments"),
        ("sigmoid_cross_entropy_with_logits(labels=z)", "`logits` must not be None"),
        ("sigmoid_cross_entropy_with_logits(labels=z, logits=1)", "`logits`.*float32 or float64"),
        ("sigmoid_cross_entropy_with_logits(labels=1j, logits=0.0)", "`labels`.*complex"),
        ("sigmoid_cross_entropy_with_logits(labels=z, logits=0.0)", "both be numbers or both"),
        ("sigmoid_cross_entropy(0.0, 1.0)", "`logits` must be an array"),
        ("sigmoid_cross_entropy(z, x, None)", "`weights` must not be None"),
        ("sigmoid_cross_entropy(z, x, where=w)", "`where` must be bool"),
        ("sigmoid_cross_entropy(z, x, label_smoothing='a')", "`label_smoothing`"),
        ("sigmoid_cross_entropy(z, x, reduction='mean')", "Invalid Reduction Key 'mean'"),
        ("sigmoid_cross_entropy(z, x, reduction=str(1))", "`reduction` must be known"),
        ("sigmoid_cross_entropy_gradient_hessian(1.0, 0.0, 2.0)", "`weights`"),
    ],
)
def test_what_can_not_be_given_is_named_when_the_code_is_compiled(body, said):
    with pytest.raises(TypingError, match=said):
        call(body)(LABELS, LOGITS, 1.0)


@pytest.mark.parametrize(
    ("body", "weights", "said"),
    [
        ("sigmoid_cross_entropy(z[1:], x)", 1.0, "`multi_class_labels` and `logits`"),
        ("sigmoid_cross_entropy(z[0], x)", 1.0, "`multi_class_labels` and `logits`"),
        ("sigmoid_cross_entropy_with_logits(labels=z[1:], logits=x)", 1.0, "`labels` and `logits`"),
        ("sigmoid_cross_entropy_with_logits(labels=z[0], logits=x)", 1.0, "`labels` and `logits`"),
        ("sigmoid_cross_entropy_gradient(z[1:], x)", 1.0, "`labels` and `logits`"),
        ("sigmoid_cross_entropy(z, x, w)", np.ones(3), "weights can not be broadcast"),
        ("sigmoid_cross_entropy(z, x, w)", np.ones((3, 2)), "weights can not be broadcast"),
        ("sigmoid_cross_entropy(z, x, pos_weight=w)", np.ones(2), "`pos_weight`"),
        ("sigmoid_cross_entropy(z, x, where=w)", np.ones((1, 2, 3), bool), "`where`"),
        ("sigmoid_cross_entropy(z, x, label_smoothing=w)", 1.5, "`label_smoothing`"),
        ("sigmoid_cross_entropy(z, x, label_smoothing=w)", np.nan, "`label_smoothing`"),
    ],
)
def test_what_does_not_fit_raises_when_the_code_runs(body, weights, said):
    function = call(body)
    with pytest.raises(ValueError, match=said):
        function(LABELS, LOGITS, weights)
    with pytest.raises(ValueError):  # noqa: PT011 - the words are tested elsewhere
        function.py_func(LABELS, LOGITS, weights)


@pytest.mark.parametrize("parallel", [False, True])
def test_a_prange_of_the_user_may_hold_any_of_it(parallel):
    @njit(parallel=parallel, nogil=True)
    def rows_and_elements(labels, logits):
        sums, gradients = np.empty(len(logits)), np.empty_like(logits)
        for i in prange(len(logits)):
            sums[i] = sce.sigmoid_cross_entropy(labels[i], logits[i], reduction="weighted_sum")
            for j in range(logits.shape[1]):
                gradients[i, j] = sce.sigmoid_cross_entropy_gradient(labels[i, j], logits[i, j])
        return sums, gradients, sce.sigmoid_cross_entropy(labels, logits)

    rng = np.random.default_rng(7)
    logits = rng.normal(0, 3, (50, 2000))
    labels = rng.random(logits.shape)
    sums, gradients, loss = rows_and_elements(labels, logits)
    rows = [
        sce.sigmoid_cross_entropy(z, x, reduction="weighted_sum")
        for z, x in zip(labels, logits, strict=True)
    ]
    assert_same(sums, np.array(rows))
    assert_same(gradients, sce.sigmoid_cross_entropy_gradient(labels, logits))
    assert loss == sce.sigmoid_cross_entropy(labels, logits)


# ---- In processes of their own --------------------------------------------------------------

installed = pytest.mark.skipif(
    not any(
        entry.value.startswith("sce_numba.")
        for entry in importlib.metadata.entry_points(group="numba_extensions")
    ),
    reason="the package is on the path but not installed: Numba finds no entry point",
)
USER = """
@njit{options}
def found(labels, logits):
    return (
        sce_numba.sigmoid_cross_entropy(labels, logits, reduction=sce_numba.Reduction.MEAN),
        sce_numba.sigmoid_cross_entropy_with_logits(labels=labels[0], logits=logits[0]),
    )
"""
ASK = "print(*(round(x, 9) for x in found(np.ones(3), np.zeros(3))))\n"
ANSWER = f"{np.log(2):.9f} {np.log(2):.9f}"


def run(*arguments, **options):
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments], capture_output=True, text=True, **options
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


@installed
@pytest.mark.parametrize(
    "imports",
    [
        pytest.param(
            "import sce_numba\nimport numpy as np\nfrom numba import njit\n",
            id="before Numba",
            marks=THOROUGH,
        ),
        pytest.param(
            "import numpy as np\nfrom numba import njit\nnjit(lambda: 1)()\nimport sce_numba\n",
            id="after Numba has compiled",
        ),
    ],
)
def test_the_order_of_imports_does_not_matter(imports):
    assert run("-c", imports + USER.format(options="") + ASK) == ANSWER


def test_neither_import_nor_registration_compiles_anything():
    code = (
        "from numba.core import event\n"
        "with event.install_recorder('numba:compile') as recorder:\n"
        "    import sce_numba.njit\n"
        "    from sce_numba import numba_extension; numba_extension.register()\n"
        "print(len(recorder.buffer))"
    )
    assert run("-c", code) == "0"


@pytest.fixture
def runs_cached_code(tmp_path):
    """Run a function of a user's that Numba caches; return its answer, and whether it compiled."""
    module = "import numpy as np\nfrom numba import njit\nimport sce_numba\n"
    module += USER.format(options="(cache=True)")
    (tmp_path / "mine.py").write_text(module)
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])

    def runs(before=""):
        code = (
            f"{before}\n"
            "from numba.core import event\n"
            "with event.install_recorder('numba:compile') as recorder:\n"
            f"    from mine import *\n    {ASK}"
            "print(len(recorder.buffer) > 0)"
        )
        return run("-c", code, env=environment).splitlines()

    return runs


@installed
def test_code_that_the_user_caches_is_compiled_once(runs_cached_code):
    assert runs_cached_code() == [ANSWER, "True"]
    assert runs_cached_code() == [ANSWER, "False"]


@installed
@pytest.mark.thorough
def test_cached_code_that_calls_kernels_of_other_sources_is_compiled_anew(runs_cached_code):
    other = "from sce_numba.kernels import cache; cache.sources = lambda: b'other'"
    assert runs_cached_code(other) == [ANSWER, "True"]
    assert runs_cached_code() == [ANSWER, "True"]
    assert runs_cached_code() == [ANSWER, "False"]


def test_kernels_are_called_rather_than_compiled_once_more():
    function = call("sigmoid_cross_entropy(z, x)")
    function(LABELS, LOGITS, 1.0)
    (code,) = function.inspect_llvm().values()
    assert re.search(r"declare i32 @\"?sce_numba\.evaluate_row", code)
    assert re.search(r"declare double @\"?sce_numba\.totals_float64\.whole", code)
    assert not re.search(r"define.*sce_numba\.totals", code)
