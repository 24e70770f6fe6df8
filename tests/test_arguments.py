"""What is refused, and that the message names the argument, shows what was given and mends it."""

import ml_dtypes
import numpy as np
import pytest

import sce_numba as sce

LABELS = np.zeros((4, 3), np.float32)
LOGITS = np.zeros((4, 3), np.float32)


def loss(labels=LABELS, logits=LOGITS, *arguments, **keywords):
    return sce.sigmoid_cross_entropy(labels, logits, *arguments, **keywords)


def refusal(error, *arguments, **keywords):
    """Return the message of the error that the call raises."""
    with pytest.raises(error) as caught:
        loss(*arguments, **keywords)
    return str(caught.value)


def test_labels_are_missed_before_logits():
    assert "`multi_class_labels` must not be None" in refusal(ValueError, None, None)


def test_logits_must_be_given():
    assert "`logits` must not be None" in refusal(ValueError, LABELS, None)


def test_weights_must_be_given():
    assert "`weights` must not be None" in refusal(ValueError, weights=None)


@pytest.mark.parametrize(
    "shape", [(4,), (3,), (4, 1), (1, 3), (3, 4), (12,), (4, 3, 1), (1, 4, 3), ()]
)
def test_labels_of_another_shape_are_refused(shape):
    message = refusal(ValueError, np.zeros(shape, np.float32))
    assert "`multi_class_labels`" in message
    assert str(shape) in message
    assert "(4, 3)" in message


def test_labels_of_the_right_size_are_told_to_reshape():
    assert "`multi_class_labels.reshape((4, 3))`" in refusal(ValueError, np.zeros(12))
    assert "`np.reshape(multi_class_labels, (4, 3))`" in refusal(ValueError, [0] * 12)


def test_transposed_labels_are_not_told_to_reshape():
    message = refusal(ValueError, LABELS.T)
    assert "Transpose one of them" in message
    assert "reshape(" not in message


@pytest.mark.parametrize(
    ("logits", "name"),
    [
        (np.zeros((4, 3), np.int64), "int64"),
        ([[0, 1], [1, 0]], "int64"),
        (np.zeros((4, 3), bool), "bool"),
        (np.zeros((4, 3), np.complex64), "complex64"),
        (np.full((4, 3), "a"), "str"),
        (np.full((4, 3), None), "object"),
        (np.zeros((4, 3), "datetime64[s]"), "datetime64"),
        (np.zeros((4, 3), ml_dtypes.float8_e3m4), "float8_e3m4"),
    ],
)
def test_logits_must_be_floats(logits, name):
    message = refusal(TypeError, np.zeros(np.shape(logits)), logits)
    assert "`logits`" in message
    assert name in message
    assert "float16, bfloat16, float32 or float64" in message
    assert "np.float32)" in message


@pytest.mark.parametrize(
    ("labels", "name"),
    [
        (LABELS.astype(complex), "complex128"),
        (LABELS.astype(object), "object"),
        (LABELS.astype(str), "str"),
        (LABELS.astype(np.int64).view("timedelta64[s]").reshape(4, 3), "timedelta64"),
    ],
)
def test_labels_must_be_real_numbers(labels, name):
    message = refusal(TypeError, labels)
    assert "`multi_class_labels`" in message
    assert name in message
    assert "bool, integer or float" in message


def test_an_integer_weight_must_fit_a_float():
    assert "`weights`" in refusal(ValueError, weights=10**400)
    assert loss(weights=10**30) > 6e29


@pytest.mark.parametrize("weights", ["heavy", 1j, object(), np.array(["1"]), np.array([[None]])])
def test_weights_must_be_real_numbers(weights):
    message = refusal(TypeError, weights=weights)
    assert "`weights`" in message
    assert "bool, integer or float" in message


@pytest.mark.parametrize(
    "shape", [(4,), (3,), (1,), (4, 2), (2, 3), (3, 1), (1, 4), (0, 3), (1, 4, 3), (4, 3, 1)]
)
@pytest.mark.parametrize("reduction", sce.Reduction)
def test_weights_that_tensorflow_refuses_are_refused(shape, reduction):
    message = refusal(ValueError, weights=np.ones(shape), reduction=reduction)
    assert message.startswith("weights can not be broadcast to values")
    assert f"weights.shape={shape}" in message
    assert "values.shape=(4, 3)" in message


def test_one_weight_for_each_example_is_told_its_shape():
    message = refusal(ValueError, weights=np.ones(4))
    assert "[batch, 1]" in message
    assert "weights.reshape((-1, 1))" in message


def test_lists_and_columns_are_told_what_they_can_do():
    columns = pytest.importorskip("pandas").Series(np.ones(4))
    for weights in ([1, 2, 3, 4], columns):
        message = refusal(ValueError, weights=weights)
        assert "np.reshape(weights, (-1, 1))" in message
        assert loss(weights=np.reshape(weights, (-1, 1))) > 0


def test_one_weight_for_each_example_is_refused_even_if_it_could_broadcast():
    square = np.zeros((3, 3), np.float32)
    assert "[batch, 1]" in refusal(ValueError, square, square, np.ones(3))


def test_one_weight_for_each_class_is_told_its_shape():
    assert "weights.reshape((1, 3))" in refusal(ValueError, weights=np.ones(3))


def test_the_dimension_that_does_not_fit_is_named():
    assert "Dimension 1 of the weights must be 1 or 3, not 2" in refusal(
        ValueError, weights=np.ones((4, 2))
    )


@pytest.mark.parametrize("smoothing", [-0.1, 1.1, 2, float("nan"), float("inf")])
def test_label_smoothing_must_be_from_0_to_1(smoothing):
    message = refusal(ValueError, label_smoothing=smoothing)
    assert "`label_smoothing` must be a number from 0 to 1" in message
    assert str(float(smoothing)) in message


@pytest.mark.parametrize("smoothing", [10**400, 10**5000], ids=["10**400", "10**5000"])
def test_label_smoothing_must_fit_a_float(smoothing):
    assert "`label_smoothing` must be a number from 0 to 1" in refusal(
        ValueError, label_smoothing=smoothing
    )


@pytest.mark.parametrize("smoothing", [None, "much", "0.1", b"0", [0.1, 0.2]])
def test_label_smoothing_must_be_a_number(smoothing):
    message = refusal(TypeError, label_smoothing=smoothing)
    assert "`label_smoothing` must be a number" in message
    assert repr(smoothing) in message


@pytest.mark.parametrize("key", ["sum", "mean", "SUM", "", None, 3, ["none"], b"none"])
def test_a_reduction_must_be_one_of_the_constants(key):
    message = refusal(ValueError, reduction=key)
    assert message.startswith(f"Invalid Reduction Key {key!r}. Key should be one of")
    assert "'weighted_mean'" in message


@pytest.mark.parametrize("name", ["multi_class_labels", "logits", "weights", "where"])
def test_masked_arrays_are_sent_to_where(name):
    masked = np.ma.masked_array(np.ones((4, 3), np.float32), mask=np.eye(4, 3, dtype=bool))
    arguments = {"multi_class_labels": LABELS, "logits": LOGITS, name: masked}
    with pytest.raises(TypeError) as caught:
        sce.sigmoid_cross_entropy(**arguments)
    assert f"`{name}` is a masked array" in str(caught.value)
    assert "`where=~mask`" in str(caught.value)


@pytest.mark.parametrize("name", ["multi_class_labels", "logits", "weights", "where"])
def test_masks_are_seen_inside_other_objects(name):
    class Variable:
        def __array__(self, dtype=None, copy=None):
            return np.ma.masked_array(np.ones((4, 3), np.float32), mask=np.eye(4, 3, dtype=bool))

    arguments = {"multi_class_labels": LABELS, "logits": LOGITS, name: Variable()}
    with pytest.raises(TypeError, match=f"`{name}` is a masked array"):
        sce.sigmoid_cross_entropy(**arguments)


@pytest.mark.parametrize("name", ["multi_class_labels", "logits", "weights", "where"])
@pytest.mark.parametrize("error", [RuntimeError, KeyError, TypeError, OverflowError])
def test_objects_that_fail_to_become_arrays_are_named(name, error):
    class Broken:
        def __array__(self, dtype=None, copy=None):
            raise error("not today")

    arguments = {"multi_class_labels": LABELS, "logits": LOGITS, name: Broken()}
    expected = TypeError if error is TypeError else ValueError
    with pytest.raises(expected, match=f"`{name}` can't be read as an array.*not today") as caught:
        sce.sigmoid_cross_entropy(**arguments)
    assert isinstance(caught.value.__cause__, error)


def test_what_can_not_be_shown_is_named_by_its_type():
    class Unshown:
        def __repr__(self):
            raise RuntimeError

    assert "an object of type Unshown" in refusal(ValueError, reduction=Unshown())
    assert "an object of type int" in refusal(ValueError, reduction=10**5000)
    assert "an object of type Unshown" in refusal(TypeError, label_smoothing=Unshown())
    assert len(refusal(ValueError, reduction="sum" * 10**6)) < 1000


def test_any_kind_of_string_may_name_a_reduction():
    class Unhashable(str):
        __hash__ = None

    assert loss(reduction=Unhashable("weighted_sum")) == loss(reduction="weighted_sum")
    assert loss(reduction=np.str_("none")).shape == (4, 3)
    assert "Invalid Reduction Key" in refusal(ValueError, reduction=Unhashable("sum"))


def test_where_must_be_bool():
    message = refusal(TypeError, where=np.ones((4, 3), int))
    assert "`where` must be bool, got int64. Pass a comparison" in message


def test_where_must_broadcast_to_the_logits():
    message = refusal(ValueError, where=np.ones((2, 3), bool))
    assert "`where` of shape (2, 3)" in message
    assert "(4, 3). Its dimensions must be the last ones of the logits, or 1." in message


@pytest.mark.parametrize("name", ["where", "pos_weight"])
def test_a_value_a_row_is_told_how_it_would_do(name):
    message = refusal(ValueError, **{name: np.ones(4, bool)})
    assert f"by {name}.reshape((-1, 1))." in message


def test_integers_in_a_list_are_told_what_makes_them_floats():
    with pytest.raises(TypeError, match=r"for example by `np\.array"):
        sce.sigmoid_cross_entropy([1, 0], [2, -1])


def test_faults_are_named_in_the_order_of_tensorflow():
    wrong = {"label_smoothing": 2, "reduction": "no", "weights": np.ones(7)}
    assert "same shape" in refusal(ValueError, np.zeros(2), **wrong)
    assert "label_smoothing" in refusal(ValueError, **wrong)
    del wrong["label_smoothing"]
    assert "Invalid Reduction Key" in refusal(ValueError, **wrong)
    del wrong["reduction"]
    assert "weights can not be broadcast" in refusal(ValueError, **wrong)


class TestOut:
    """``out`` is refused before anything is written to it."""

    def refusal(self, error, out, logits=LOGITS, labels=LABELS, **keywords):
        keywords = {"reduction": sce.Reduction.NONE} | keywords
        before = np.array(out, copy=True)
        message = refusal(error, labels, logits, out=out, **keywords)
        np.testing.assert_array_equal(out, before)
        return message

    def test_needs_reduction_none(self):
        message = self.refusal(ValueError, np.zeros((4, 3), np.float32), reduction="weighted_sum")
        assert "`out`" in message
        assert "Reduction.NONE" in message

    def test_must_be_an_array(self):
        assert "NumPy array, got list" in self.refusal(TypeError, [[0.0] * 3] * 4)

    def test_must_have_the_shape_of_the_logits(self):
        message = self.refusal(ValueError, np.zeros((3, 4), np.float32))
        assert "(3, 4) and (4, 3)" in message

    def test_must_have_the_dtype_of_the_logits(self):
        assert "float64 and float32" in self.refusal(TypeError, np.zeros((4, 3)))

    def test_must_be_writeable(self):
        out = np.zeros((4, 3), np.float32)
        out.flags.writeable = False
        assert "read-only" in self.refusal(ValueError, out)

    def test_must_not_repeat_its_memory(self):
        out = np.lib.stride_tricks.as_strided(np.zeros(3, np.float32), (4, 3), (0, 4))
        assert "broadcast view" in self.refusal(ValueError, out)

    @pytest.mark.parametrize("strides", [(4, 4), (8, 4), (12, 2), (4, 12), (-4, 4)])
    def test_must_not_step_into_itself(self, strides):
        memory = np.zeros(60, np.float32)[20:]
        out = np.lib.stride_tricks.as_strided(memory, (4, 3), strides)
        assert "share memory" in self.refusal(ValueError, out)

    def test_must_not_be_masked(self):
        out = np.ma.masked_array(np.zeros((4, 3), np.float32), mask=np.eye(4, 3, dtype=bool))
        assert "`out.data`" in self.refusal(TypeError, out)

    def test_may_be_of_a_subclass_whatever_that_says_of_itself(self):
        class Liar(np.ndarray):
            shape = strides = property(lambda self: (7,))

        expected = loss(LABELS, LOGITS, reduction="none")
        for kind in (Liar, np.matrix, np.recarray, np.memmap):
            out = np.zeros((4, 3), np.float32).view(kind)
            assert loss(LABELS, LOGITS, reduction="none", out=out) is out
            np.testing.assert_array_equal(out.view(np.ndarray), expected)

    def test_may_have_any_strides_that_keep_elements_apart(self):
        memory = np.zeros((3, 2, 9), np.float32)
        expected = loss(LABELS, LOGITS, reduction="none")
        for out in (memory[:, :, 1:5].swapaxes(0, 2)[:, 1], memory[::-1, 0, 7:3:-1].T):
            assert loss(LABELS, LOGITS, reduction="none", out=out) is out
            np.testing.assert_array_equal(out, expected)

    def test_must_not_overlap_an_input(self):
        memory = np.zeros(15, np.float32)
        logits, out = memory[:12].reshape(4, 3), memory[3:].reshape(4, 3)
        assert "overlaps" in self.refusal(ValueError, out, logits)
        assert "overlaps" in self.refusal(ValueError, out, LOGITS, labels=logits)

    def test_may_be_the_logits(self):
        logits = np.linspace(-3, 3, 12, dtype=np.float32).reshape(4, 3)
        expected = loss(LABELS, logits, reduction="none")
        assert loss(LABELS, logits, reduction="none", out=logits) is logits
        np.testing.assert_array_equal(logits, expected)


class TestElementwise:
    """``sigmoid_cross_entropy_with_logits`` refuses the same, by its own names."""

    def test_positional_arguments_are_refused(self):
        with pytest.raises(ValueError, match=r"named arguments.*labels=\.\.\., logits=\.\.\."):
            sce.sigmoid_cross_entropy_with_logits(LABELS, LOGITS)

    @pytest.mark.parametrize("name", ["labels", "logits"])
    def test_both_must_be_given(self, name):
        given = {"labels": LABELS, "logits": LOGITS} | {name: None}
        with pytest.raises(ValueError, match=f"`{name}` must not be None"):
            sce.sigmoid_cross_entropy_with_logits(**given)

    def test_shapes_must_be_the_same(self):
        with pytest.raises(ValueError, match=r"`labels` and `logits`.*\(1, 2\) and \(3,\)"):
            sce.sigmoid_cross_entropy_with_logits(labels=[[2, 1]], logits=[1.0, 2.0, 3.0])

    def test_logits_must_be_floats(self):
        with pytest.raises(TypeError, match="`logits` must be float8"):
            sce.sigmoid_cross_entropy_with_logits(labels=[1], logits=[1])


class TestComputeWeightedLoss:
    """``compute_weighted_loss`` refuses the same."""

    def test_losses_must_be_given(self):
        with pytest.raises(ValueError, match="`losses` must not be None"):
            sce.compute_weighted_loss(None)

    def test_losses_must_be_numbers(self):
        for losses in (["1"], [True], [1j]):
            with pytest.raises(TypeError, match=r"`losses` must be float8"):
                sce.compute_weighted_loss(losses)

    def test_what_integers_come_to_must_fit_their_dtype(self):
        losses = np.array([200, 100], np.uint8)
        for weights, reduction, wrong in (
            (1.0, "weighted_sum", "300.0"),
            (2.0, "none", "400.0"),
            (-1.0, "weighted_mean", None),
            (-1.0, "weighted_sum", "-300.0"),
            (np.nan, "weighted_sum", "nan"),
        ):
            if wrong is None:
                assert sce.compute_weighted_loss(losses, weights, reduction=reduction) == 150
                continue
            said = rf"`losses` is of dtype uint8, .* would be {wrong}\..*astype\(np.float32\)"
            with pytest.raises(ValueError, match=said):
                sce.compute_weighted_loss(losses, weights, reduction=reduction)

    def test_weights_must_be_broadcastable(self):
        with pytest.raises(ValueError, match="weights can not be broadcast to values"):
            sce.compute_weighted_loss([[1.0, 2.0]], weights=[1.0, 2.0])

    def test_the_reduction_is_checked_before_the_weights(self):
        with pytest.raises(ValueError, match="Invalid Reduction Key"):
            sce.compute_weighted_loss([[1.0]], weights=[1.0, 2.0], reduction="no")


def test_integer_logits_beside_float_labels_may_be_exchanged():
    scores, truth = np.zeros((4, 3)), np.ones((4, 3), int)
    assert "are labels and logits exchanged?" in refusal(TypeError, scores, truth)
    assert "exchanged" not in refusal(TypeError, truth, truth)
    assert "exchanged" not in refusal(TypeError, scores, truth.astype(str))


def test_targets_are_told_that_they_are_labels():
    with pytest.raises(TypeError, match=r"`targets` of .*_with_logits` is called `labels`"):
        sce.weighted_cross_entropy_with_logits(targets=[1.0], logits=[0.0], pos_weight=2.0)
