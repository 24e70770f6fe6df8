"""The scorer of scikit-learn: the loss of whatever estimators and labels scikit-learn has."""

import pickle

import numpy as np
import pytest

import sce_numba as sce

sklearn = pytest.importorskip("sklearn", "1.4")

from sklearn.base import clone  # noqa: E402
from sklearn.calibration import CalibratedClassifierCV  # noqa: E402
from sklearn.datasets import load_breast_cancer, make_multilabel_classification  # noqa: E402
from sklearn.ensemble import RandomForestClassifier  # noqa: E402
from sklearn.linear_model import LinearRegression, LogisticRegression  # noqa: E402
from sklearn.metrics import log_loss  # noqa: E402
from sklearn.model_selection import (  # noqa: E402
    GridSearchCV,
    KFold,
    cross_val_score,
    cross_validate,
)
from sklearn.multiclass import OneVsRestClassifier  # noqa: E402
from sklearn.multioutput import MultiOutputClassifier  # noqa: E402
from sklearn.naive_bayes import GaussianNB  # noqa: E402
from sklearn.neighbors import KNeighborsClassifier  # noqa: E402
from sklearn.neural_network import MLPClassifier  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.svm import LinearSVC  # noqa: E402

from sce_numba.sklearn import sigmoid_cross_entropy_scorer  # noqa: E402

RNG = np.random.default_rng(3)
FEATURES, LABELS = load_breast_cancer(return_X_y=True)
FEATURES = StandardScaler().fit_transform(FEATURES)[:, :5]
WORDS = np.where(LABELS == 1, "well", "ill")  # sorted, "well" comes second
WEIGHTS = RNG.random(len(LABELS)) + 0.5
MANY_FEATURES, INDICATOR = make_multilabel_classification(
    n_samples=300, n_features=10, n_classes=4, random_state=0
)
MANY_WEIGHTS = RNG.random(len(INDICATOR)) + 0.5
SCORER = sigmoid_cross_entropy_scorer()


def mean_log_loss(indicator, probabilities, weights=None):
    """Return the mean over labels of what scikit-learn says of each."""
    return np.mean(
        [
            log_loss(labels, column, sample_weight=weights, labels=[0, 1])
            for labels, column in zip(indicator.T, np.asarray(probabilities).T, strict=True)
        ]
    )


# ---- Two classes ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "estimator",
    [
        LogisticRegression(),
        make_pipeline(StandardScaler(), LogisticRegression()),
        GaussianNB(),  # probabilities only
        KNeighborsClassifier(),  # that are 0 and 1
        RandomForestClassifier(20, random_state=0),
        CalibratedClassifierCV(LinearSVC()),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
@pytest.mark.parametrize("labels", [LABELS, LABELS.astype(bool), WORDS], ids=["int", "bool", "str"])
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["unweighted", "weighted"])
def test_it_is_the_negative_log_loss(estimator, labels, weights):
    model = clone(estimator).fit(FEATURES[::2], labels[::2])
    probabilities = model.predict_proba(FEATURES)
    expected = log_loss(labels, probabilities, sample_weight=weights)
    found = SCORER(model, FEATURES, labels, sample_weight=weights)
    assert isinstance(found, float)
    assert found == pytest.approx(-expected, rel=1e-12)


def test_the_second_class_is_positive_whatever_it_is_called():
    model = LogisticRegression().fit(FEATURES, WORDS)
    assert list(model.classes_) == ["ill", "well"]
    logits = model.decision_function(FEATURES)
    assert SCORER(model, FEATURES, WORDS) == -sce.sigmoid_cross_entropy(LABELS, logits)
    only = WORDS == "well"
    part = SCORER(model, FEATURES[only], WORDS[only])
    assert part == -sce.sigmoid_cross_entropy(np.ones(only.sum()), logits[only])


def test_labels_may_be_a_list_or_a_column():
    model = LogisticRegression().fit(FEATURES, LABELS)
    expected = SCORER(model, FEATURES, LABELS)
    assert SCORER(model, FEATURES, LABELS.tolist()) == expected
    assert SCORER(model, FEATURES, LABELS[:, np.newaxis]) == expected
    frame = pytest.importorskip("pandas").DataFrame({"label": LABELS})
    assert SCORER(model, FEATURES, frame) == expected
    assert SCORER(model, FEATURES, frame["label"]) == expected


def test_small_probabilities_keep_their_digits():
    class Sure:
        classes_ = np.array([0, 1])

        def predict_proba(self, features):
            return np.array([[1 - 1e-12, 1e-12], [1e-12, 1 - 1e-12]])

    assert SCORER(Sure(), None, [1, 1]) == pytest.approx(np.log(1e-12) / 2, rel=1e-12)
    assert SCORER(Sure(), None, [0, 1]) == pytest.approx(-1e-12, rel=1e-3)


def test_smoothing_and_weights_of_positives_are_those_of_the_loss():
    model = LogisticRegression().fit(FEATURES, WORDS)
    scorer = sigmoid_cross_entropy_scorer(label_smoothing=0.1, pos_weight=3.0)
    logits = model.decision_function(FEATURES)
    expected = sce.sigmoid_cross_entropy(LABELS, logits, label_smoothing=0.1, pos_weight=3.0)
    assert scorer(model, FEATURES, WORDS) == -expected


# ---- Several labels -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "estimator",
    [
        OneVsRestClassifier(LogisticRegression()),
        OneVsRestClassifier(GaussianNB()),
        MultiOutputClassifier(LogisticRegression()),  # a list of probabilities
        RandomForestClassifier(20, random_state=0),  # likewise
        MLPClassifier((5,), max_iter=20, random_state=0),
    ],
    ids=["decisions", "probabilities", "outputs", "forest", "network"],
)
@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("weights", [None, MANY_WEIGHTS], ids=["unweighted", "weighted"])
def test_it_is_the_mean_of_the_labels_log_losses(estimator, count, weights):
    indicator = INDICATOR[:, :count]
    model = clone(estimator).fit(MANY_FEATURES, indicator)
    probabilities = model.predict_proba(MANY_FEATURES)
    if isinstance(probabilities, list):
        probabilities = np.column_stack([part[:, 1] for part in probabilities])
    expected = mean_log_loss(indicator, probabilities, weights)
    found = SCORER(model, MANY_FEATURES, indicator, sample_weight=weights)
    assert found == pytest.approx(-expected, rel=1e-10)


@pytest.mark.parametrize("form", ["csr_matrix", "csc_array", "coo_matrix"])
def test_an_indicator_may_be_sparse(form):
    sparse = pytest.importorskip("scipy.sparse")
    model = OneVsRestClassifier(LogisticRegression()).fit(MANY_FEATURES, INDICATOR)
    found = SCORER(model, MANY_FEATURES, getattr(sparse, form)(INDICATOR))
    assert found == pytest.approx(SCORER(model, MANY_FEATURES, INDICATOR), rel=1e-14)


def test_each_of_several_labels_may_have_words_for_classes():
    words = np.where(INDICATOR == 1, "yes", "no")
    model = MultiOutputClassifier(LogisticRegression()).fit(MANY_FEATURES, words)
    plain = MultiOutputClassifier(LogisticRegression()).fit(MANY_FEATURES, INDICATOR)
    found = SCORER(model, MANY_FEATURES, words)
    assert found == pytest.approx(SCORER(plain, MANY_FEATURES, INDICATOR), rel=1e-12)


def test_a_weight_of_positives_for_each_label():
    model = OneVsRestClassifier(LogisticRegression()).fit(MANY_FEATURES, INDICATOR)
    scorer = sigmoid_cross_entropy_scorer(pos_weight=[1.0, 2.0, 3.0, 4.0])
    logits = model.decision_function(MANY_FEATURES)
    expected = sce.sigmoid_cross_entropy(INDICATOR, logits, pos_weight=[1.0, 2.0, 3.0, 4.0])
    assert scorer(model, MANY_FEATURES, INDICATOR) == -expected


# ---- Inside scikit-learn --------------------------------------------------------------------


def test_cross_validation_and_searches_find_what_they_find_by_log_loss():
    for scoring in SCORER, "neg_log_loss":
        scores = cross_val_score(LogisticRegression(), FEATURES, WORDS, scoring=scoring)
        search = GridSearchCV(LogisticRegression(), {"C": [0.01, 1.0, 100.0]}, scoring=scoring)
        search.fit(FEATURES, WORDS)
        found = *scores, search.best_score_, search.best_params_["C"]
        if scoring is SCORER:
            ours = found
    np.testing.assert_allclose(ours, found, rtol=1e-12)


def test_it_is_one_of_several_scorers():
    scoring = {"ours": SCORER, "theirs": "neg_log_loss", "accuracy": "accuracy"}
    found = cross_validate(LogisticRegression(), FEATURES, WORDS, scoring=scoring)
    np.testing.assert_allclose(found["test_ours"], found["test_theirs"], rtol=1e-12)
    search = GridSearchCV(LogisticRegression(), {"C": [1.0]}, scoring=scoring, refit="ours")
    search.fit(FEATURES, WORDS, sample_weight=WEIGHTS)
    assert search.cv_results_["mean_test_ours"].shape == (1,)


def test_it_crosses_to_other_processes():
    copy = pickle.loads(pickle.dumps(sigmoid_cross_entropy_scorer(pos_weight=2.0)))
    model = LogisticRegression().fit(FEATURES, WORDS)
    assert copy(model, FEATURES, WORDS) == sigmoid_cross_entropy_scorer(pos_weight=2.0)(
        model, FEATURES, WORDS
    )


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def expected_scores(fitted_with, scored_with):
    """Return the scores of folds, computed one by one."""
    found = []
    for train, test in KFold(3).split(FEATURES):
        given = {} if fitted_with is None else {"sample_weight": fitted_with[train]}
        model = LogisticRegression().fit(FEATURES[train], WORDS[train], **given)
        weights = None if scored_with is None else scored_with[test]
        found.append(
            -log_loss(WORDS[test], model.predict_proba(FEATURES[test]), sample_weight=weights)
        )
    return found


@pytest.mark.usefixtures("routing")
@pytest.mark.parametrize(("fitted", "scored"), [(True, False), (False, True), (True, True)])
def test_weights_are_routed_where_they_are_requested(fitted, scored):
    scorer = sigmoid_cross_entropy_scorer().set_score_request(sample_weight=scored)
    model = LogisticRegression().set_fit_request(sample_weight=fitted)
    given = {"scoring": scorer, "cv": KFold(3)}
    found = cross_val_score(model, FEATURES, WORDS, params={"sample_weight": WEIGHTS}, **given)
    expected = expected_scores(WEIGHTS if fitted else None, WEIGHTS if scored else None)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    search = GridSearchCV(model, {"C": [1.0]}, **given)
    search.fit(FEATURES, WORDS, sample_weight=WEIGHTS)
    assert search.best_score_ == pytest.approx(np.mean(expected), rel=1e-12)


@pytest.mark.usefixtures("routing")
def test_weights_may_be_routed_under_another_name():
    scorer = sigmoid_cross_entropy_scorer().set_score_request(sample_weight="importance")
    found = cross_val_score(
        LogisticRegression(),
        FEATURES,
        WORDS,
        scoring=scorer,
        cv=KFold(3),
        params={"importance": WEIGHTS},
    )
    np.testing.assert_allclose(found, expected_scores(None, WEIGHTS), rtol=1e-12)


@pytest.mark.usefixtures("routing")
def test_weights_that_nobody_requested_are_refused():
    with pytest.raises(sklearn.exceptions.UnsetMetadataPassedError):
        cross_val_score(
            LogisticRegression().set_fit_request(sample_weight=True),
            FEATURES,
            WORDS,
            scoring=sigmoid_cross_entropy_scorer(),
            params={"sample_weight": WEIGHTS},
        )


# ---- What is refused ------------------------------------------------------------------------


def test_an_estimator_without_log_odds_is_refused():
    model = LinearRegression().fit(FEATURES, LABELS)
    with pytest.raises(TypeError, match="LinearRegression has neither `decision_function`"):
        SCORER(model, FEATURES, LABELS)


def test_classes_that_are_not_two_are_refused():
    three = np.arange(len(FEATURES)) % 3
    model = LogisticRegression().fit(FEATURES, three)
    with pytest.raises(ValueError, match=r"two classes .* got \[0, 1, 2\].*OneVsRestClassifier"):
        SCORER(model, FEATURES, three)


def test_a_class_that_the_estimator_does_not_know_is_refused():
    model = LogisticRegression().fit(FEATURES, WORDS)
    with pytest.raises(ValueError, match=r"`y` has a class .*, 0\. .*\['ill', 'well'\]"):
        SCORER(model, FEATURES, LABELS)


@pytest.mark.parametrize(
    ("weights", "kind"), [(WEIGHTS[1:], ValueError), (2.0, ValueError), (WORDS, TypeError)]
)
def test_weights_are_refused_by_the_name_that_they_have_here(weights, kind):
    model = LogisticRegression().fit(FEATURES, LABELS)
    with pytest.raises(kind, match="Argument `sample_weight` must"):
        SCORER(model, FEATURES, LABELS, sample_weight=weights)


def test_masked_weights_are_told_what_leaves_out_what_is_masked():
    model = LogisticRegression().fit(FEATURES, LABELS)
    masked = np.ma.masked_array(WEIGHTS, LABELS == 0)
    with pytest.raises(TypeError, match=r"Pass `sample_weight.filled\(0\)`"):
        SCORER(model, FEATURES, LABELS, sample_weight=masked)
    weighted = SCORER(model, FEATURES, LABELS, sample_weight=masked.filled(0))
    kept = LABELS == 1
    alone = SCORER(model, FEATURES[kept], LABELS[kept], sample_weight=WEIGHTS[kept])
    assert weighted == pytest.approx(alone)


def test_other_masks_are_refused_rather_than_ignored():
    model = LogisticRegression().fit(FEATURES, LABELS)
    with pytest.raises(TypeError, match=r"Pass `y.filled\(0\)`, and a sample weight of 0"):
        SCORER(model, FEATURES, np.ma.masked_array(LABELS, LABELS == 0))
    with pytest.raises(TypeError, match=r"Pass `pos_weight.filled\(1\)`"):
        sigmoid_cross_entropy_scorer(pos_weight=np.ma.masked_array([1.0, 2.0], [True, False]))


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (INDICATOR[1:], ValueError),
        (INDICATOR[:, 1:], ValueError),
        (INDICATOR.astype(str), TypeError),
    ],
)
def test_labels_are_refused_by_the_name_that_they_have_here(labels, kind):
    model = OneVsRestClassifier(LogisticRegression()).fit(MANY_FEATURES, INDICATOR)
    with pytest.raises(kind, match="Argument `y` "):
        SCORER(model, MANY_FEATURES, labels)


def test_bad_parameters_are_refused_when_they_are_given():
    with pytest.raises(ValueError, match="`label_smoothing`"):
        sigmoid_cross_entropy_scorer(label_smoothing=-1)
    with pytest.raises(TypeError, match="`pos_weight`"):
        sigmoid_cross_entropy_scorer(pos_weight="two")
