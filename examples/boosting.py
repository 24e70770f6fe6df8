"""Gradient boosting by this package's objective and by the libraries' own, side by side.

On scikit-learn's breast cancer data, or as many made-up rows as asked for, XGBoost, LightGBM and
CatBoost train by either objective in turns.  The two come to the same validation loss; a library
that is not installed is left out.
"""

import argparse
import importlib
import statistics
import time

import numpy as np
from sklearn.datasets import load_breast_cancer, make_classification
from sklearn.model_selection import train_test_split

import sce_numba as sce
from sce_numba import boosting

ROUNDS = 60


def data(rows):
    """Return features of training and validation, then labels of both."""
    if rows:
        features, labels = make_classification(rows, 20, n_informative=10, random_state=0)
    else:
        features, labels = load_breast_cancer(return_X_y=True)
    return train_test_split(features, labels, test_size=0.3, random_state=0, stratify=labels)


def xgboost_scores(train_x, train_y, valid_x, custom):
    """Return XGBoost's raw scores of the validation data."""
    import xgboost as xgb

    parameters = {"eta": 0.1, "max_depth": 3, "nthread": 1, "seed": 0}
    # Both start from a raw score of 0, which the built-in objective calls a probability of 1/2.
    parameters |= (
        {"base_score": 0.0} if custom else {"objective": "binary:logistic", "base_score": 0.5}
    )
    objective = boosting.xgboost_objective() if custom else None
    model = xgb.train(parameters, xgb.DMatrix(train_x, train_y), ROUNDS, obj=objective)
    return model.predict(xgb.DMatrix(valid_x), output_margin=True)


def lightgbm_scores(train_x, train_y, valid_x, custom):
    """Return LightGBM's raw scores of the validation data."""
    import lightgbm as lgb

    parameters = {
        "objective": boosting.lightgbm_objective() if custom else "binary",
        "boost_from_average": False,
        "learning_rate": 0.1,
        "num_leaves": 8,
        "deterministic": True,
        "num_threads": 1,
        "verbosity": -1,
    }
    model = lgb.train(parameters, lgb.Dataset(train_x, train_y), ROUNDS)
    return model.predict(valid_x, raw_score=True)


def catboost_scores(train_x, train_y, valid_x, custom):
    """Return CatBoost's raw scores of the validation data."""
    import catboost as cb

    parameters = {
        "loss_function": boosting.catboost_objective() if custom else "Logloss",
        "eval_metric": "Logloss",
        "iterations": ROUNDS,
        "learning_rate": 0.1,
        "depth": 4,
        "bootstrap_type": "No",
        "leaf_estimation_method": "Newton",
        "leaf_estimation_iterations": 1,
        "boost_from_average": False,
        "thread_count": 1,
        "verbose": False,
        "allow_writing_files": False,
    }
    model = cb.CatBoost(parameters).fit(train_x, train_y)
    return model.predict(valid_x, prediction_type="RawFormulaVal")


LIBRARIES = {
    "XGBoost": xgboost_scores,
    "LightGBM": lightgbm_scores,
    "CatBoost": catboost_scores,
}


def main():
    """Print validation losses, and times of training, by either objective."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=0, help="of made-up data")
    parser.add_argument(
        "--repeats", type=int, default=1, help="trainings to take the median of (1)"
    )
    options = parser.parse_args()
    train_x, valid_x, train_y, valid_y = data(options.rows)
    print(f"{ROUNDS} rounds on {len(train_y)} rows, validated on {len(valid_y)}")
    print(f"{'':<10}{'sce_numba':>12}{'built in':>12}{'difference':>13}{'time':>8}")
    for name, scores_of in LIBRARIES.items():
        try:
            importlib.import_module(name.lower())
        except ImportError:
            print(f"{name:<10}not installed")
            continue
        losses, seconds = {}, {True: [], False: []}
        for _ in range(options.repeats):
            for custom in True, False:
                start = time.perf_counter()
                scores = scores_of(train_x, train_y, valid_x, custom)
                seconds[custom].append(time.perf_counter() - start)
                losses[custom] = sce.sigmoid_cross_entropy(valid_y, np.float64(scores))
        ours, theirs = losses[True], losses[False]
        ratio = statistics.median(seconds[True]) / statistics.median(seconds[False])
        print(f"{name:<10}{ours:>12.8f}{theirs:>12.8f}{ours - theirs:>13.1e}{ratio:>6.2f} x")


if __name__ == "__main__":
    main()
