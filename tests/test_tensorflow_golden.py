"""TensorFlow's answers, stored in `golden/`, against ours. TensorFlow itself is not needed.

Three values meet here: ours, TensorFlow's, and the exact one (`reference.py`). Ours must lie within
this library's promise of the exact value; TensorFlow's must lie within what its own rounding can
cost, which shows that the exact formula is TensorFlow's formula. NaN and inf must be the same in
all three. Where the two libraries differ on purpose there is a test for each reason, at the end.
"""

import functools
import json
from pathlib import Path

import numpy as np
import pytest
import reference
from reference import BFLOAT16, NONE, SUM, SUM_BY_NONZERO_WEIGHTS, assert_within

import sce_numba as sce

GOLDEN = Path(__file__).parent / "golden"
ELEMENTWISE = "sigmoid_cross_entropy_with_logits"
WEIGHTED = "compute_weighted_loss"


@functools.cache
def pools():
    with np.load(GOLDEN / "arrays.npz", allow_pickle=False) as stored:
        return dict(stored)


def load(stored):
    """Return the array that `[dtype, offset, shape]` names, or a plain argument as it is."""
    if not isinstance(stored, list):
        return stored
    name, offset, shape = stored
    size = int(np.prod(shape))
    array = pools()[name][offset : offset + size].reshape(shape)
    array = array.view(BFLOAT16) if name == "bfloat16" else array
    # TensorFlow's own tests hand over read-only arrays.
    array.flags.writeable = False
    return array


class Case:
    def __init__(self, number, stored):
        self.stored = stored
        self.group = stored["group"]
        self.function = stored["function"]
        self.stated = stored.get("stated", {})
        self.number = number

    def __repr__(self):
        dtypes = [a[0] for a in self.stored["arguments"].values() if isinstance(a, list)]
        return "-".join([self.group, str(self.number), *dtypes])

    @functools.cached_property
    def arguments(self):
        return {name: load(value) for name, value in self.stored["arguments"].items()}

    @property
    def results(self):
        """TensorFlow's result for each reduction; the element-wise function counts as NONE."""
        results = self.stored.get("results") or {NONE: self.stored["result"]}
        return {reduction: load(value) for reduction, value in results.items()}

    def ours(self, reduction):
        arguments = dict(self.arguments)
        if self.function != ELEMENTWISE:
            arguments["reduction"] = reduction
        return getattr(sce, self.function)(**arguments)

    @functools.cached_property
    def given(self):
        """Labels, logits and smoothing, or None where losses are given."""
        a = self.arguments
        if self.function == WEIGHTED:
            return None
        if self.function == ELEMENTWISE:
            return a["labels"], a["logits"], 0
        return a["multi_class_labels"], a["logits"], a.get("label_smoothing", 0)

    @functools.cached_property
    def dtype(self):
        return (self.arguments["losses"] if self.given is None else self.given[1]).dtype

    @functools.cached_property
    def lost(self):
        """Where a loss is infinite by a label that float32 rounds to 0 or 1."""
        if self.given is None or self.dtype == np.float64:
            return np.False_
        labels, logits = (reference.as_given(operand) for operand in self.given[:2])
        rounded = np.isin(labels.astype(np.float32), (0, 1)) & ~np.isin(labels, (0, 1))
        return rounded & np.isinf(logits) & np.isinf(self.exact(NONE)[0])

    @functools.cached_property
    def losses(self):
        if self.given is None:
            return self.arguments["losses"].astype(np.float64)
        return reference.exact_loss(*self.given)

    def exact(self, reduction):
        """Return the exact value and how far ours may be from it."""
        errors = 0.0 if self.given is None else reference.loss_error(*self.given, self.losses)
        weights = self.arguments.get("weights", 1.0)
        return reference.weighted(self.losses, errors, weights, reduction, self.dtype)

    def allowed_to_tensorflow(self, reduction):
        """Return how far TensorFlow's result may be from the exact value."""
        if self.given is None:
            errors = reference.tensorflow_error_of_given(self.losses)
        else:
            errors = reference.tensorflow_error(*self.given, self.function == ELEMENTWISE)
        weights = self.arguments.get("weights", 1.0)
        return reference.weighted(self.losses, errors, weights, reduction, self.dtype, 1e-6)[1]


@functools.cache
def cases():
    stored = json.loads((GOLDEN / "cases.json").read_text())
    assert stored[0]["cases"] == len(stored) - 1
    return [Case(number, case) for number, case in enumerate(stored[1:], 1)]


def of_group(*groups):
    return [case for case in cases() if case.group in groups]


SAME = ("pairwise", "longer", "edges", "weights", "elementwise")
SAME += ("weighted_loss", "tensorflow_tests")
each_same_case = pytest.mark.parametrize("case", of_group(*SAME), ids=repr)
each_case_with_labels_of_float32 = pytest.mark.parametrize(
    "case", [case for case in of_group(*SAME) if not case.lost.any()], ids=repr
)


@each_same_case
def test_ours_is_exact(case):
    for reduction in case.results:
        assert_within(case.ours(reduction), *case.exact(reduction), context=reduction)


@each_same_case
def test_ours_has_tensorflows_shape_and_dtype(case):
    for reduction, theirs in case.results.items():
        ours = case.ours(reduction)
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype == case.dtype


@each_case_with_labels_of_float32
def test_tensorflow_follows_the_exact_formula(case):
    for reduction, theirs in case.results.items():
        value, _ = case.exact(reduction)
        assert_within(theirs, value, case.allowed_to_tensorflow(reduction), context=reduction)


@each_case_with_labels_of_float32
def test_ours_agrees_with_tensorflow(case):
    for reduction, theirs in case.results.items():
        ours = case.ours(reduction)
        _, allowed = case.exact(reduction)
        allowed = allowed + case.allowed_to_tensorflow(reduction)
        assert_within(ours, theirs.astype(np.float64), allowed, context=reduction)


def test_tensorflow_rounds_labels_first_and_has_nan_where_they_decide():
    cases_of_this_kind = [case for case in of_group(*SAME) if case.lost.any()]
    assert cases_of_this_kind
    for case in cases_of_this_kind:
        assert np.isnan(case.results[NONE][case.lost]).all()
        assert (case.ours(NONE)[case.lost] == np.inf).all()


def test_most_float32_losses_equal_tensorflows_within_2_ulp():
    """Keeps the allowance for TensorFlow's rounding from hiding a formula of our own."""
    near = total = 0
    for case in of_group("pairwise", "edges", "elementwise"):
        if case.dtype == np.float32:
            theirs = case.results[NONE].astype(np.float64)
            allowed = 2 * reference.ulp(np.where(np.isfinite(theirs), theirs, 0), np.float32)
            bad = reference.disagreements(case.ours(NONE), theirs, allowed)
            near, total = near + np.count_nonzero(~bad), total + bad.size
    assert near > 0.9 * total


@pytest.mark.parametrize(
    "case", [case for case in of_group("tensorflow_tests") if case.stated], ids=repr
)
def test_numbers_stated_in_tensorflows_own_tests(case):
    for reduction, stated in case.stated.items():
        np.testing.assert_allclose(
            np.asarray(case.ours(reduction), np.float64),
            stated,
            rtol=0,
            atol=0.5 * 10.0 ** -case.stored["places"],
        )


@pytest.mark.parametrize("case", of_group("refused"), ids=repr)
def test_refuses_what_tensorflow_refuses(case):
    # InvalidArgumentError is what an unusable dtype ends in there; NumPy's users expect TypeError.
    expected = {"ValueError": ValueError, "InvalidArgumentError": TypeError}
    with pytest.raises(expected[case.stored["raises"]]) as raised:
        getattr(sce, case.function)(**case.arguments)
    if case.stored["message"].startswith("weights can not be broadcast to values"):
        assert str(raised.value).startswith("weights can not be broadcast to values")


# Differences on purpose


def different(reason):
    found = [case for case in of_group("differences") if case.stored.get("reason") == reason]
    assert found
    return pytest.mark.parametrize("case", found, ids=repr)


def assert_only_ours_is_exact(case):
    """Ours keeps its promise for each reduction, and TensorFlow breaks it for at least one."""
    tensorflow_misses = False
    for reduction, theirs in case.results.items():
        value, allowed = case.exact(reduction)
        assert_within(case.ours(reduction), value, allowed, context=reduction)
        tensorflow_misses |= bool(reference.disagreements(theirs, value, allowed).any())
    assert tensorflow_misses


@different("float64_stays")
def test_float64_is_not_narrowed_to_float32(case):
    assert case.dtype == np.float64
    assert_only_ours_is_exact(case)


@different("subnormals_stay")
def test_results_and_weights_below_the_normal_range_are_not_flushed_to_zero(case):
    assert_only_ours_is_exact(case)
    assert (np.asarray(case.results[NONE]) == 0).any()


@different("label_precision")
def test_labels_keep_float32_precision_beside_half_logits(case):
    assert case.dtype in reference.HALF_TYPES
    assert_only_ours_is_exact(case)


@different("no_cancellation")
def test_labels_near_one_do_not_cancel(case):
    assert_only_ours_is_exact(case)


@different("sums_are_float64")
def test_sums_neither_overflow_nor_lose_small_terms(case):
    assert_only_ours_is_exact(case)


@different("smoothing_checked")
def test_label_smoothing_outside_0_to_1_is_refused(case):
    assert np.isfinite(case.results[NONE]).all()
    with pytest.raises(ValueError, match="label_smoothing"):
        case.ours(NONE)


@pytest.mark.parametrize("dtype", [bool, np.int64, np.float32])
def test_elementwise_function_casts_labels_of_another_dtype(dtype):
    """TensorFlow casts labels in `losses` alone and refuses these."""
    labels = np.array([0, 1, 1]).astype(dtype)
    logits = np.array([0.5, -2.0, 30.0])
    losses = sce.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)
    exact = reference.exact_loss(labels, logits)
    assert_within(losses, exact, reference.loss_error(labels, logits, 0, exact))


def test_where_tensorflow_hides_nan_so_do_we():
    """All weights zero: an average is 0 even of NaN, while a plain sum is NaN."""
    nan = np.full(3, np.nan, np.float32)
    labels, weights = np.zeros(3), np.zeros(3)
    average = sce.sigmoid_cross_entropy(labels, nan, weights, reduction=SUM_BY_NONZERO_WEIGHTS)
    assert average == 0
    assert np.isnan(sce.sigmoid_cross_entropy(labels, nan, weights, reduction=SUM))
