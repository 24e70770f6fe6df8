"""Multi-label logistic regression trained by SciPy, with no framework.

The images and the 16 labels are those of ``digits_multilabel.py``.  L-BFGS gets loss and gradient
from ``sigmoid_cross_entropy_value_and_grad`` and one matrix product on either side of it, and
reaches the objective that scikit-learn's solver reaches; gradient descent is on its way there.

``--plot FILE`` draws the loss curves, for a light page and, as ``FILE`` with ``-dark``, a dark one.
"""

import argparse
from pathlib import Path

import numpy as np
from digits_multilabel import label_digits
from scipy.optimize import minimize
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

import sce_numba as sce

DESCENT_STEPS = 500


def data():
    """Return images with a column of ones, and labels: of training, then of validation."""
    images, digits = load_digits(return_X_y=True)
    images = np.column_stack([images / 16, np.ones(len(images))])
    train_x, valid_x, train_y, valid_y = train_test_split(
        images, digits, test_size=0.25, random_state=0, stratify=digits
    )
    return train_x, label_digits(train_y), valid_x, label_digits(valid_y)


class Objective:
    """The sum of the losses plus half the squared coefficients, which leaves out the intercepts."""

    def __init__(self, features, labels):
        self.features, self.labels = features, labels
        self.shape = features.shape[1], labels.shape[1]
        self.logits = np.empty(labels.shape)

    def __call__(self, flat):
        """Return the objective and its gradient."""
        coefficients = flat.reshape(self.shape)
        np.matmul(self.features, coefficients, out=self.logits)
        # The gradient takes the place of the logits.
        loss, slopes = sce.sigmoid_cross_entropy_value_and_grad(
            self.labels, self.logits, reduction="weighted_sum", grad_out=self.logits
        )
        penalised = coefficients.copy()
        penalised[-1] = 0
        gradient = self.features.T @ slopes + penalised
        return loss + 0.5 * np.sum(penalised**2), gradient.ravel()


def train(objective):
    """Minimise by L-BFGS; return the coefficients after each iteration."""
    path = [np.zeros(np.prod(objective.shape))]
    minimize(
        objective,
        path[0],
        jac=True,
        method="L-BFGS-B",
        callback=lambda flat: path.append(flat.copy()),
        options={"maxiter": 5000, "maxfun": 10_000, "gtol": 1e-6, "ftol": 1e-15},
    )
    return path


def descend(objective):
    """Minimise by gradient descent with the longest step that is sure to go down."""
    path = [np.zeros(np.prod(objective.shape))]
    # The second derivative of the loss is at most 1/4.
    step = 1 / (0.25 * np.linalg.norm(objective.features, 2) ** 2 + 1)
    for _ in range(DESCENT_STEPS):
        path.append(path[-1] - step * objective(path[-1])[1])
    return path


def scikit_learn(features, labels):
    """Return the coefficients that scikit-learn finds, one label at a time."""
    columns = []
    for label in labels.T:
        model = LogisticRegression(tol=1e-10, max_iter=100_000).fit(features[:, :-1], label)
        columns.append(np.append(model.coef_, model.intercept_))
    return np.column_stack(columns).ravel()


def losses(path, features, labels):
    """Return the mean loss at each point of a path."""
    return [
        sce.sigmoid_cross_entropy(labels, features @ flat.reshape(features.shape[1], -1))
        for flat in path
    ]


def plot(curves, file, style):
    """Draw mean losses against iterations, in a style of matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    plt.style.use(style)
    plt.rcParams.update({"svg.hashsalt": "sce_numba", "svg.fonttype": "path"})
    figure, axes = plt.subplots(figsize=(5, 3.6), layout="constrained")
    for (name, kind), values in curves.items():
        color = "#0a9ee0" if name == "L-BFGS" else "#d55e00"
        style = "-" if kind == "training" else "--"
        axes.plot(range(1, len(values) + 1), values, style, color=color, label=f"{name}, {kind}")
    axes.set(xscale="log", yscale="log", xlabel="iteration", ylabel="mean sigmoid cross entropy")
    axes.set_yticks([0.05, 0.1, 0.2, 0.4, 0.7], ["0.05", "0.1", "0.2", "0.4", "0.7"])
    axes.set_xticks([1, 10, 100], ["1", "10", "100"])
    axes.minorticks_off()
    axes.grid(alpha=0.3, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    dated = {"Date": None} if file.suffix == ".svg" else None
    figure.savefig(file, metadata=dated, transparent=True)
    plt.close(figure)


def main():
    """Train, print what was reached, and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw the loss curves (needs matplotlib)"
    )
    options = parser.parse_args()
    train_x, train_y, valid_x, valid_y = data()
    objective = Objective(train_x, train_y)
    path, slow = train(objective), descend(objective)
    ours, theirs = objective(path[-1])[0], objective(scikit_learn(train_x, train_y))[0]
    print(f"{len(train_y)} images, {train_y.shape[1]} labels, {path[0].size} coefficients")
    print(f"objective by L-BFGS        {ours:.6f} after {len(path) - 1} iterations")
    print(f"objective by scikit-learn  {theirs:.6f}")
    print(f"relative difference        {ours / theirs - 1:.1e}")
    print(f"validation loss            {losses(path[-1:], valid_x, valid_y)[0]:.6f}")
    if options.plot:
        curves = {
            (name, kind): losses(steps, *arrays)
            for name, steps in (("L-BFGS", path), ("gradient descent", slow))
            for kind, arrays in (
                ("training", (train_x, train_y)),
                ("validation", (valid_x, valid_y)),
            )
        }
        plot(curves, options.plot, "default")
        plot(curves, options.plot.with_stem(f"{options.plot.stem}-dark"), "dark_background")


if __name__ == "__main__":
    main()
