"""Gradient boosting with sigmoid cross entropy as a custom objective.

XGBoost and LightGBM ask an objective for gradient and hessian of every raw score.  Trained on
scikit-learn's breast cancer data, both come to the validation loss of their built-in logistic
objective; a library that is not installed is left out.
"""

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

import sce_numba as sce

ROUNDS = 60


def data():
    """Return features and labels: of training, then of validation."""
    features, labels = load_breast_cancer(return_X_y=True)
    train_x, valid_x, train_y, valid_y = train_test_split(
        features, labels, test_size=0.3, random_state=0, stratify=labels
    )
    return train_x, train_y, valid_x, valid_y


def xgboost_scores(train_x, train_y, valid_x, custom):
    """Return XGBoost's raw scores of the validation data."""
    import xgboost as xgb

    def objective(scores, matrix):
        return sce.sigmoid_cross_entropy_gradient_hessian(matrix.get_label(), scores)

    parameters = {"eta": 0.1, "max_depth": 3, "nthread": 1, "seed": 0}
    # Both start from a raw score of 0, which the built-in objective calls a probability of 1/2.
    parameters |= (
        {"base_score": 0.0} if custom else {"objective": "binary:logistic", "base_score": 0.5}
    )
    matrix = xgb.DMatrix(train_x, train_y)
    model = xgb.train(parameters, matrix, ROUNDS, obj=objective if custom else None)
    return model.predict(xgb.DMatrix(valid_x), output_margin=True)


def lightgbm_scores(train_x, train_y, valid_x, custom):
    """Return LightGBM's raw scores of the validation data."""
    import lightgbm as lgb

    def objective(scores, dataset):
        return sce.sigmoid_cross_entropy_gradient_hessian(dataset.get_label(), scores)

    parameters = {
        "objective": objective if custom else "binary",
        "boost_from_average": False,
        "learning_rate": 0.1,
        "num_leaves": 8,
        "deterministic": True,
        "num_threads": 1,
        "verbosity": -1,
    }
    model = lgb.train(parameters, lgb.Dataset(train_x, train_y), ROUNDS)
    return model.predict(valid_x, raw_score=True)


def main():
    """Print the validation losses by either objective."""
    train_x, train_y, valid_x, valid_y = data()
    print(f"{ROUNDS} rounds on {len(train_y)} patients, validated on {len(valid_y)}")
    print(f"{'':<10}{'sce_numba':>12}{'built in':>12}{'difference':>13}")
    for name, scores in (("XGBoost", xgboost_scores), ("LightGBM", lightgbm_scores)):
        try:
            losses = [
                sce.sigmoid_cross_entropy(valid_y, scores(train_x, train_y, valid_x, custom))
                for custom in (True, False)
            ]
        except ImportError:
            print(f"{name:<10}not installed")
            continue
        ours, theirs = np.float64(losses)
        print(f"{name:<10}{ours:>12.8f}{theirs:>12.8f}{ours - theirs:>13.1e}")


if __name__ == "__main__":
    main()
