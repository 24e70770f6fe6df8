"""Objectives and metrics of boosting libraries: models come out as by the libraries' own.

Each library trains twice on the same data, by its own objective and by that of this package, and
the weighted log losses of the two models are compared.
"""

import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest

import sce_numba as sce
from sce_numba import boosting

datasets = pytest.importorskip("sklearn.datasets")

ROUNDS = 30
RNG = np.random.default_rng(5)


@pytest.fixture(scope="module")
def patients():
    """Return features, labels and weights."""
    features, labels = datasets.load_breast_cancer(return_X_y=True)
    return features, labels, RNG.random(len(labels)) + 0.5


@pytest.fixture(scope="module")
def topics():
    """Return features, labels of the shape [examples, labels], and weights of the examples."""
    features, labels = datasets.make_multilabel_classification(
        n_samples=400, n_features=12, n_classes=4, random_state=0
    )
    return features, labels, RNG.random(len(labels)) + 0.5


def loss_of(labels, scores, weights):
    scores = np.asarray(scores, np.float64).reshape(labels.shape)
    weights = np.reshape(weights, (-1,) + (1,) * (labels.ndim - 1))
    return sce.sigmoid_cross_entropy(labels, scores, weights, reduction="weighted_mean")


def alike(labels, weights, ours, theirs):
    """Tell whether two models' losses differ by no more than 1e-8; both have learnt something."""
    found, expected = loss_of(labels, ours, weights), loss_of(labels, theirs, weights)
    assert found < 0.6
    return found == pytest.approx(expected, abs=1e-8)


# ---- XGBoost --------------------------------------------------------------------------------


def by_xgboost(data, parameters, **given):
    """Return the raw scores of the training data, and the last values of metrics by name."""
    xgb = pytest.importorskip("xgboost")
    features, labels, weights = data
    matrix = xgb.DMatrix(features, labels, weight=weights)
    parameters = {"max_depth": 3, "nthread": 1, "tree_method": "hist", **parameters}
    seen = {}
    model = xgb.train(
        parameters,
        matrix,
        ROUNDS,
        evals=[(matrix, "train")],
        evals_result=seen,
        verbose_eval=False,
        **given,
    )
    last = {name: values[-1] for name, values in seen["train"].items()}
    return model.predict(matrix, output_margin=True), last


LOGISTIC = {"objective": "binary:logistic", "base_score": 0.5, "eval_metric": "logloss"}


@pytest.mark.parametrize("pos_weight", [None, 3.0])
def test_xgboost_comes_to_the_loss_of_its_own_objective(patients, pos_weight):
    objective = boosting.xgboost_objective(pos_weight=pos_weight)
    metric = boosting.xgboost_metric()
    ours, values = by_xgboost(patients, {"base_score": 0.0}, obj=objective, custom_metric=metric)
    own = LOGISTIC | {"scale_pos_weight": pos_weight or 1}
    theirs, _ = by_xgboost(patients, own)
    _, labels, weights = patients
    assert alike(labels, weights, ours, theirs)
    expected = loss_of(labels, ours, weights)
    assert values["sigmoid_cross_entropy"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("strategy", ["one_output_per_tree", "multi_output_tree"])
def test_xgboost_takes_several_labels(topics, strategy):
    _, labels, weights = topics
    shared = {"multi_strategy": strategy}
    ours, values = by_xgboost(
        topics,
        shared | {"base_score": 0.0, "num_target": 4},
        obj=boosting.xgboost_objective(),
        custom_metric=boosting.xgboost_metric(),
    )
    theirs, own_values = by_xgboost(topics, shared | LOGISTIC)
    assert alike(labels, weights, ours, theirs)
    assert values["sigmoid_cross_entropy"] == pytest.approx(own_values["logloss"], abs=1e-6)


def test_xgboost_takes_a_weight_of_positives_for_each_label(topics):
    weights_of_positives = [1.0, 2.0, 3.0, 4.0]
    objective = boosting.xgboost_objective(pos_weight=weights_of_positives)
    together, _ = by_xgboost(topics, {"base_score": 0.0, "num_target": 4}, obj=objective)
    features, labels, weights = topics
    for column, weight in enumerate(weights_of_positives):
        objective = boosting.xgboost_objective(pos_weight=weight)
        alone = features, labels[:, column], weights
        scores, _ = by_xgboost(alone, {"base_score": 0.0}, obj=objective)
        np.testing.assert_allclose(together[:, column], scores, rtol=1e-4, atol=1e-5)


def test_an_estimator_of_xgboost_takes_objective_and_metric(patients):
    xgb = pytest.importorskip("xgboost")
    from sklearn.base import clone

    features, labels, weights = patients
    shared = {"n_estimators": ROUNDS, "max_depth": 3, "n_jobs": 1, "base_score": 0.5}
    models = [
        clone(
            xgb.XGBClassifier(
                objective=boosting.xgboost_objective(),
                eval_metric=boosting.xgboost_metric(),
                **shared,
            )
        ),
        xgb.XGBClassifier(**shared),
    ]
    for model in models:
        model.fit(
            features,
            labels,
            sample_weight=weights,
            eval_set=[(features, labels)],
            sample_weight_eval_set=[weights],
            verbose=False,
        )
    scores = [model.predict(features, output_margin=True) for model in models]
    assert alike(labels, weights, *scores)
    values = models[0].evals_result()["validation_0"]["sigmoid_cross_entropy"]
    assert values[-1] == pytest.approx(loss_of(labels, scores[0], weights), abs=1e-6)


# ---- LightGBM -------------------------------------------------------------------------------


def by_lightgbm(data, parameters, **given):
    lgb = pytest.importorskip("lightgbm")
    features, labels, weights = data
    matrix = lgb.Dataset(features, labels, weight=weights)
    shared = {
        "boost_from_average": False,
        "num_leaves": 8,
        "deterministic": True,
        "num_threads": 1,
        "verbosity": -1,
    }
    seen = {}
    model = lgb.train(
        shared | parameters,
        matrix,
        ROUNDS,
        valid_sets=[matrix],
        callbacks=[lgb.record_evaluation(seen)],
        **given,
    )
    last = {name: values[-1] for name, values in seen["training"].items()}
    return model.predict(features, raw_score=True), last


@pytest.mark.parametrize("pos_weight", [None, 3.0])
def test_lightgbm_comes_to_the_loss_of_its_own_objective(patients, pos_weight):
    objective = boosting.lightgbm_objective(pos_weight=pos_weight)
    metric = boosting.lightgbm_metric()
    ours, values = by_lightgbm(patients, {"objective": objective}, feval=metric)
    theirs, own_values = by_lightgbm(
        patients, {"objective": "binary", "scale_pos_weight": pos_weight or 1}
    )
    _, labels, weights = patients
    assert alike(labels, weights, ours, theirs)
    assert values["sigmoid_cross_entropy"] == pytest.approx(loss_of(labels, ours, weights))
    if pos_weight is None:
        assert values["sigmoid_cross_entropy"] == pytest.approx(own_values["binary_logloss"])


@pytest.mark.filterwarnings("ignore:.*eval_set")
def test_an_estimator_of_lightgbm_takes_objective_and_metric(patients):
    lgb = pytest.importorskip("lightgbm")
    from sklearn.base import clone

    features, labels, weights = patients
    shared = {"boost_from_average": False, "n_jobs": 1, "verbosity": -1, "num_leaves": 8}
    models = [
        clone(lgb.LGBMClassifier(objective=boosting.lightgbm_objective(), **shared)),
        lgb.LGBMClassifier(**shared),
    ]
    for model in models:
        model.fit(
            features,
            labels,
            sample_weight=weights,
            eval_set=[(features, labels)],
            eval_sample_weight=[weights],
            eval_metric=boosting.lightgbm_metric(),
        )
    scores = [model.predict(features, raw_score=True) for model in models]
    assert alike(labels, weights, *scores)
    (values,) = models[0].evals_result_.values()
    expected = loss_of(labels, scores[0], weights)
    assert values["sigmoid_cross_entropy"][-1] == pytest.approx(expected)


# ---- CatBoost -------------------------------------------------------------------------------


def by_catboost(data, **given):
    cb = pytest.importorskip("catboost")
    features, labels, weights = data
    pool = cb.Pool(features, labels, weight=weights)
    model = cb.CatBoost(
        {
            "iterations": ROUNDS,
            "depth": 4,
            "learning_rate": 0.1,
            "bootstrap_type": "No",
            "leaf_estimation_method": "Newton",
            "leaf_estimation_iterations": 1,
            "thread_count": 1,
            "verbose": False,
            "allow_writing_files": False,
            **given,
        }
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # as for methods that Numba can't compile
        model.fit(pool)
    scores = model.predict(pool, prediction_type="RawFormulaVal")
    return scores, model.get_best_score()["learn"]


def test_catboost_comes_to_the_loss_of_its_own_objective(patients):
    ours, values = by_catboost(
        patients,
        loss_function=boosting.catboost_objective(),
        eval_metric=boosting.catboost_metric(),
    )
    theirs, _ = by_catboost(patients, loss_function="Logloss", boost_from_average=False)
    _, labels, weights = patients
    assert alike(labels, weights, ours, theirs)
    expected = loss_of(labels, ours, weights)
    assert values["SigmoidCrossEntropy"] == pytest.approx(expected, abs=1e-6)


def test_catboost_learns_what_weights_of_positives_ask_for(patients):
    def loss(objective_weight):
        _, values = by_catboost(
            patients,
            loss_function=boosting.catboost_objective(pos_weight=objective_weight),
            eval_metric=boosting.catboost_metric(pos_weight=9.0),
        )
        return values["SigmoidCrossEntropy"]

    assert loss(9.0) < 0.9 * loss(1.0)


def test_catboost_takes_several_labels(topics):
    pytest.importorskip("catboost")
    ours, values = by_catboost(
        topics,
        loss_function=boosting.catboost_objective(multi_label=True),
        eval_metric=boosting.catboost_metric(multi_label=True),
    )
    theirs, _ = by_catboost(topics, loss_function="MultiLogloss", boost_from_average=False)
    _, labels, weights = topics
    assert alike(labels, weights, ours, theirs)
    expected = loss_of(labels, ours, weights)
    assert values["SigmoidCrossEntropy"] == pytest.approx(expected, abs=1e-6)


def test_a_classifier_of_catboost_predicts_classes_if_it_is_told_them(patients):
    cb = pytest.importorskip("catboost")
    features, labels, _ = patients
    model = cb.CatBoostClassifier(
        iterations=2,
        loss_function=boosting.catboost_objective(),
        eval_metric=boosting.catboost_metric(),
        class_names=[0, 1],
        thread_count=1,
        verbose=False,
        allow_writing_files=False,
    )
    assert set(model.fit(features, labels).predict(features)) == {0, 1}


# ---- Objectives by themselves ---------------------------------------------------------------


def made_by(kind):
    """Return what makes objectives, or metrics, without a library."""
    names = [f"{library}_{kind}" for library in ("xgboost", "lightgbm", "catboost")]
    return [getattr(boosting, name) for name in names]


@pytest.mark.parametrize("make", made_by("objective")[:2])
def test_an_objective_gives_the_derivatives_of_the_smoothed_weighted_loss(make):
    labels, scores, weights = RNG.random(20) < 0.5, RNG.normal(size=20), RNG.random(20)
    found = make(label_smoothing=0.1, pos_weight=2.0)(labels, scores, weights)
    expected = sce.sigmoid_cross_entropy_gradient_hessian(
        labels, scores, weights, 0.1, pos_weight=2.0
    )
    np.testing.assert_array_equal(found, expected)


def test_metrics_are_the_smoothed_weighted_mean():
    labels, scores, weights = RNG.random(20) < 0.5, RNG.normal(size=20), RNG.random(20)
    expected = sce.sigmoid_cross_entropy(
        labels, scores, weights, 0.1, reduction="weighted_mean", pos_weight=2.0
    )
    of_xgboost, of_lightgbm, of_catboost = (
        make(label_smoothing=0.1, pos_weight=2.0) for make in made_by("metric")
    )
    assert of_xgboost(labels, scores, weights) == expected
    assert of_lightgbm(labels, scores, weights) == ("sigmoid_cross_entropy", expected, False)
    sums = of_catboost.evaluate([scores], labels, weights)
    assert of_catboost.get_final_error(*sums) == pytest.approx(expected)


@pytest.mark.parametrize("make", made_by("objective") + made_by("metric"))
def test_bad_parameters_are_refused_when_they_are_given(make):
    for given, kind in (
        ({"label_smoothing": 2}, ValueError),
        ({"label_smoothing": "no"}, TypeError),
        ({"pos_weight": "two"}, TypeError),
    ):
        with pytest.raises(kind, match=f"`{next(iter(given))}`"):
            make(**given)


@pytest.mark.parametrize("make", made_by("objective")[:2] + made_by("metric")[:2])
def test_operands_are_refused_by_the_names_that_they_have_here(make):
    for name, given in (
        ("sample_weight", ([1, 0], [0.0, 0.0], [1.0, 2.0, 3.0])),
        ("sample_weight", ([1, 0], [0.0, 0.0], ["a", "b"])),
        ("sample_weight", ([1, 0], [0.0, 0.0], 2.0)),
        ("labels", (["a", "b"], [0.0, 0.0])),
        ("scores", ([1, 0], ["a", "b"])),
        ("scores", ([1, 0], [0.0])),
    ):
        with pytest.raises((ValueError, TypeError), match=f"`{name}` must"):
            make()(*given)


@pytest.mark.parametrize("make", made_by("objective") + made_by("metric"))
def test_a_masked_weight_of_positives_is_told_what_goes_without_a_mask(make):
    masked = np.ma.masked_array([3.0, np.nan], [False, True])
    with pytest.raises(TypeError, match=r"Pass `pos_weight.filled\(1\)`"):
        make(pos_weight=masked)
    assert make(pos_weight=masked.filled(1)).pos_weight.tolist() == [3.0, 1.0]


@pytest.mark.parametrize("make", made_by("metric")[:1])
def test_masked_examples_are_told_what_leaves_them_out(make):
    labels, scores = np.array([1, 0, 1]), np.array([0.5, -1.0, np.nan])
    mask = [False, False, True]
    for name, given in (
        ("labels", (np.ma.masked_array(labels, mask), scores)),
        ("scores", (labels, np.ma.masked_array(scores, mask))),
    ):
        with pytest.raises(TypeError, match=rf"Pass `{name}.filled\(0\)`, and a sample weight"):
            make()(*given)
    filled = np.ma.masked_array(scores, mask).filled(0)
    assert make()(labels, filled, [1.0, 1.0, 0.0]) == make()(labels[:2], scores[:2])


@pytest.mark.parametrize("make", made_by("objective") + made_by("metric"))
def test_they_can_be_pickled(make):
    made = make(label_smoothing=0.1, pos_weight=[1.0, 2.0])
    copy = pickle.loads(pickle.dumps(made))
    assert copy.label_smoothing == 0.1
    assert copy.pos_weight.tolist() == [1.0, 2.0]


def test_the_module_imports_no_library():
    libraries = "xgboost", "lightgbm", "catboost", "sklearn"
    program = (
        "import sys, numpy as np, sce_numba.boosting as boosting\n"
        "boosting.xgboost_objective()([1, 0], np.zeros(2))\n"
        f"print([name for name in {libraries} if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert found.stdout == "[]\n", found.stderr
