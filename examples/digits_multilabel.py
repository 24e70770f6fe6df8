"""Multi-label classification of handwritten digits, scored three ways.

Every image carries 16 yes-or-no labels: which of the ten digits it shows, and six properties
of that digit. One logistic regression per label is trained on three quarters of scikit-learn's
digits; the rest are scored with sce_numba, scikit-learn and, where installed, TensorFlow.

The labels and logits of the test images are saved: ``python -m sce_numba`` runs on them.
"""

import argparse
import os
from pathlib import Path

import numpy as np
from scipy.special import expit
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.multiclass import OneVsRestClassifier

import sce_numba as sce

PACKAGED = Path(__file__).resolve().parents[1] / "sce_numba" / "example_data"
PROPERTIES = {
    "even": [0, 2, 4, 6, 8],
    "prime": [2, 3, 5, 7],
    "at least five": [5, 6, 7, 8, 9],
    "multiple of three": [0, 3, 6, 9],
    "closed loop": [0, 6, 8, 9],
    "straight stroke": [1, 2, 4, 5, 7],
}


def label_digits(digits):
    """One row per image: ten columns for the digit itself, then one per property."""
    is_digit = digits[:, None] == np.arange(10)
    has_property = [np.isin(digits, members) for members in PROPERTIES.values()]
    return np.column_stack([is_digit, *has_property])


def predict_test_set():
    """Train on three quarters of the images; return labels and logits of the others."""
    images, digits = load_digits(return_X_y=True)
    train_images, test_images, train_digits, test_digits = train_test_split(
        images / 16, digits, test_size=0.25, random_state=0, stratify=digits
    )
    # The regularised problem has one solution. A tight tolerance makes every machine and
    # every release of scikit-learn arrive at it.
    model = OneVsRestClassifier(LogisticRegression(tol=1e-8, max_iter=10_000))
    model.fit(train_images, label_digits(train_digits).astype(np.uint8))
    logits = model.decision_function(test_images)
    return label_digits(test_digits), logits.astype(np.float32, order="C")


def sklearn_loss(labels, logits):
    """Log loss of each label, averaged over the labels, in float64."""
    probabilities = expit(logits.astype(np.float64))
    return np.mean([log_loss(y, p) for y, p in zip(labels.T, probabilities.T, strict=True)])


def tensorflow_loss(labels, logits):
    """TensorFlow's value, or None where TensorFlow is not installed."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        import tensorflow as tf
    except ImportError:
        return None
    return float(tf.compat.v1.losses.sigmoid_cross_entropy(labels, logits))


def print_losses(labels, logits):
    """Print the three losses and how far the other two are from ours."""
    ours = sce.sigmoid_cross_entropy(labels, logits)
    correct = np.mean((logits > 0) == labels)
    print(
        f"{len(labels)} test images, {labels.shape[1]} labels each, {correct:.1%} of them predicted"
    )
    print(f"{'':<14}{'loss':>12}{'difference':>14}")
    print(f"{'sce_numba':<14}{ours:>12.9f}")
    others = {
        "scikit-learn": sklearn_loss(labels, logits),
        "TensorFlow": tensorflow_loss(labels, logits),
    }
    for name, loss in others.items():
        if loss is None:
            print(f"{name:<14}{'not installed':>26}")
        else:
            print(f"{name:<14}{loss:>12.9f}{loss - ours:>14.1e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--output",
        type=Path,
        default=PACKAGED,
        metavar="FOLDER",
        help="where labels.npy and logits.npy are written (default: the package's own data)",
    )
    folder = parser.parse_args().output
    labels, logits = predict_test_set()
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "labels.npy", labels)
    np.save(folder / "logits.npy", logits)
    print_losses(labels, logits)


if __name__ == "__main__":
    main()
