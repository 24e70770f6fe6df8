r"""The loss as an objective and as a metric of XGBoost, LightGBM and CatBoost.

An objective gives the libraries the first and second derivative of every weighted loss by its raw
score (see ``sigmoid_cross_entropy_gradient_hessian``), a metric the weighted mean loss.  None of
the libraries is imported here, but CatBoost where examples have several labels.
"""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import arguments, losses
from .reduction import Reduction

__all__ = [
    "catboost_metric",
    "catboost_objective",
    "lightgbm_metric",
    "lightgbm_objective",
    "xgboost_metric",
    "xgboost_objective",
]

NAME = "sigmoid_cross_entropy"


def xgboost_objective(label_smoothing: float = 0, pos_weight: Any = None) -> Any:
    r"""Return an objective for XGBoost: ``obj=`` of ``train``, or ``objective=`` of an estimator.

    With raw scores :math:`x`, smoothed labels :math:`z'`, the weights :math:`w` of the examples and
    :math:`l = 1 + (q - 1) z'` for the weight :math:`q` of positives, XGBoost is given

    .. math:: w \left((1 - z') - l \, \sigma(-x)\right), \qquad w \, l \, \sigma(x) \, \sigma(-x).

    Parameters
    ----------
    label_smoothing : float
        From 0 to 1: moves labels towards 1/2.
    pos_weight : array_like, optional
        The weight of positives: a number, or one for each label of an example.

    Returns
    -------
    callable
        Of scores and a ``DMatrix``; or of labels, scores and perhaps weights, as scikit-learn has
        it.  Labels of the shape [examples, labels] are as many outputs, in trees of one output or
        of all.  It can be pickled.

    Raises
    ------
    ValueError, TypeError
        If label_smoothing or pos_weight are refused by ``sigmoid_cross_entropy``.

    Examples
    --------
    >>> from sce_numba.boosting import xgboost_objective
    >>> objective = xgboost_objective(pos_weight=3.0)
    >>> gradient, hessian = objective([1.0, 0.0], [0.0, 0.0])  # labels, scores
    >>> print(gradient, hessian)
    [-1.5  0.5] [0.75 0.25]
    """
    return _Objective(*_checked(label_smoothing, pos_weight))


def xgboost_metric(label_smoothing: float = 0, pos_weight: Any = None) -> Any:
    """Return a metric for XGBoost: ``custom_metric=``, or ``eval_metric=`` of an estimator.

    It is the weighted mean loss, and takes raw scores, which XGBoost passes on if the objective is
    custom, too.

    Parameters
    ----------
    label_smoothing, pos_weight
        As those of ``xgboost_objective``.

    Returns
    -------
    callable
        Of scores and a ``DMatrix``, with name and value; or of labels, scores and perhaps weights,
        with the value.

    Raises
    ------
    ValueError, TypeError
        As ``xgboost_objective`` does.

    Examples
    --------
    >>> from sce_numba.boosting import xgboost_metric
    >>> round(xgboost_metric()([1.0, 0.0], [0.0, 0.0]), 4)
    0.6931
    """
    return _XGBoostMetric(*_checked(label_smoothing, pos_weight))


def lightgbm_objective(label_smoothing: float = 0, pos_weight: Any = None) -> Any:
    """Return an objective for LightGBM: the parameter ``objective``, also of an estimator.

    Parameters
    ----------
    label_smoothing, pos_weight
        As those of ``xgboost_objective``.

    Returns
    -------
    callable
        Of scores and a ``Dataset``; or of labels, scores and perhaps weights, as scikit-learn has
        it.  It can be pickled.  LightGBM has one label for each example.

    Raises
    ------
    ValueError, TypeError
        As ``xgboost_objective`` does.

    Examples
    --------
    >>> from sce_numba.boosting import lightgbm_objective
    >>> gradient, hessian = lightgbm_objective(label_smoothing=0.2)([1, 0], [0.0, 0.0])
    >>> print(gradient, hessian)
    [-0.4  0.4] [0.25 0.25]
    """
    return _Objective(*_checked(label_smoothing, pos_weight))


def lightgbm_metric(label_smoothing: float = 0, pos_weight: Any = None) -> Any:
    """Return a metric for LightGBM: ``feval=`` of ``train``, or ``eval_metric=`` of ``fit``.

    It is the weighted mean loss, and takes raw scores, which LightGBM passes on if the objective is
    custom, too.

    Parameters
    ----------
    label_smoothing, pos_weight
        As those of ``xgboost_objective``.

    Returns
    -------
    callable
        Of scores and a ``Dataset``, or of labels, scores and perhaps weights; with name, value, and
        False for that more is not better.

    Raises
    ------
    ValueError, TypeError
        As ``xgboost_objective`` does.

    Examples
    --------
    >>> from sce_numba.boosting import lightgbm_metric
    >>> lightgbm_metric()([1, 0], [0.0, 0.0])
    ('sigmoid_cross_entropy', 0.6931..., False)
    """
    return _LightGBMMetric(*_checked(label_smoothing, pos_weight))


def catboost_objective(
    label_smoothing: float = 0, pos_weight: Any = None, *, multi_label: bool = False
) -> Any:
    """Return an objective for CatBoost: ``loss_function=``, beside ``catboost_metric``.

    Parameters
    ----------
    label_smoothing, pos_weight
        As those of ``xgboost_objective``.
    multi_label : bool
        Whether an example has several labels.  CatBoost then asks for the derivatives of each
        example by itself, which takes longer.

    Returns
    -------
    object
        With ``calc_ders_range``, or ``calc_ders_multi`` if multi_label.

    Raises
    ------
    ValueError, TypeError
        As ``xgboost_objective`` does.
    ImportError
        If multi_label, and CatBoost is not installed.

    Examples
    --------
    >>> from sce_numba.boosting import catboost_objective
    >>> print(catboost_objective().calc_ders_range([0.0, 0.0], [1, 0], None))
    [[ 0.5  -0.25]
     [-0.5  -0.25]]
    """
    cls = _multi_target_classes()[0] if multi_label else SigmoidCrossEntropyObjective
    return cls(*_checked(label_smoothing, pos_weight))


def catboost_metric(
    label_smoothing: float = 0, pos_weight: Any = None, *, multi_label: bool = False
) -> Any:
    """Return a metric for CatBoost: ``eval_metric=``, or ``custom_metric=``.

    It is the weighted mean loss.  CatBoost's own ``Logloss`` is one that it approximates.

    Parameters
    ----------
    label_smoothing, pos_weight, multi_label
        As those of ``catboost_objective``.

    Returns
    -------
    object
        With ``evaluate``, ``get_final_error`` and ``is_max_optimal``.

    Raises
    ------
    ValueError, TypeError, ImportError
        As ``catboost_objective`` does.

    Examples
    --------
    >>> from sce_numba.boosting import catboost_metric
    >>> metric = catboost_metric()
    >>> error, weight = metric.evaluate([[0.0, 0.0]], [1, 0], None)
    >>> round(metric.get_final_error(error, weight), 4)
    0.6931
    """
    cls = _multi_target_classes()[1] if multi_label else SigmoidCrossEntropy
    return cls(*_checked(label_smoothing, pos_weight))


def _checked(label_smoothing: float, pos_weight: Any) -> tuple[float, Any]:
    smoothing = arguments.as_label_smoothing(label_smoothing)
    return smoothing, arguments.as_lasting_pos_weight(pos_weight)


@dataclass(frozen=True, eq=False)
class _Parameters:
    label_smoothing: float
    pos_weight: Any

    def derivatives(self, labels: Any, scores: Any, weights: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return gradient and hessian; there is a weight for each example, or None."""
        labels, scores, weights = _aligned(labels, scores, weights)
        return losses.sigmoid_cross_entropy_gradient_hessian(
            labels, scores, weights, self.label_smoothing, pos_weight=self.pos_weight
        )

    def loss(
        self, labels: Any, scores: Any, weights: Any, reduction: Reduction = Reduction.MEAN
    ) -> float:
        """Return the weighted mean of the losses, or their sum."""
        labels, scores, weights = _aligned(labels, scores, weights)
        # In float64, so that the mean is not rounded to float32.
        loss = losses.sigmoid_cross_entropy(
            labels,
            scores.astype(np.float64),
            weights,
            self.label_smoothing,
            reduction=reduction,
            loss_collection=None,
            pos_weight=self.pos_weight,
        )
        return float(loss)


def _aligned(labels: Any, scores: Any, weights: Any) -> tuple[Any, np.ndarray, Any]:
    arguments.refuse_mask_of_examples(labels, "labels")
    arguments.refuse_mask_of_examples(scores, "scores")
    labels, scores = arguments.as_labels_and_logits(labels, "labels", scores, "scores")
    # Without weights, LightGBM passes None; the others may pass an empty array.
    if weights is None or (hasattr(weights, "__len__") and len(weights) == 0):
        return labels, scores, 1.0
    return labels, scores, arguments.as_sample_weight(weights, scores)


def _unpacked(first: Any, second: Any, weights: Any) -> tuple[Any, Any, Any]:
    """Return labels, scores and weights, given scores and a data set, or labels and scores."""
    if hasattr(second, "get_label"):
        return second.get_label(), first, second.get_weight()
    return first, second, weights


class _Objective(_Parameters):
    """The objective of XGBoost and LightGBM, which inspect the signature of its call."""

    def __call__(self, first: Any, second: Any, sample_weight: Any = None) -> Any:
        return self.derivatives(*_unpacked(first, second, sample_weight))


class _XGBoostMetric(_Parameters):
    __name__ = NAME

    def __call__(self, first: Any, second: Any, sample_weight: Any = None) -> Any:
        value = self.loss(*_unpacked(first, second, sample_weight))
        return (NAME, value) if hasattr(second, "get_label") else value


class _LightGBMMetric(_Parameters):
    __name__ = NAME

    def __call__(self, first: Any, second: Any, sample_weight: Any = None) -> Any:
        return NAME, self.loss(*_unpacked(first, second, sample_weight)), False


class SigmoidCrossEntropyObjective(_Parameters):
    """The objective of CatBoost, which would compile its methods by Numba without ``no_jit``."""

    no_jit = True

    def calc_ders_range(self, approxes: Any, targets: Any, weights: Any) -> np.ndarray:
        """Return the derivatives of the negative losses, whose sum CatBoost maximises."""
        gradient, hessian = self.derivatives(targets, approxes, weights)
        return -np.column_stack([gradient, hessian])


class SigmoidCrossEntropy(_Parameters):
    """The metric of CatBoost, which shows the name of its class."""

    no_jit = True

    def is_max_optimal(self) -> bool:
        """Return False: less is better."""
        return False

    def get_final_error(self, error: float, weight: float) -> float:
        """Return the mean loss, given the sums of losses and weights."""
        return error / weight if weight else 0.0

    def evaluate(self, approxes: Any, target: Any, weight: Any) -> tuple[float, float]:
        """Return the sums of losses and of weights; scores have a row for each label."""
        scores = np.transpose(approxes)
        labels = np.reshape(np.transpose(target), scores.shape)
        total = self.loss(labels, scores, weight, Reduction.SUM)
        examples = len(scores) if weight is None or len(weight) == 0 else float(np.sum(weight))
        return total, float(examples * scores.shape[1])


@functools.cache
def _multi_target_classes() -> tuple[type, type]:
    """Return the classes of objective and metric for several labels, which inherit CatBoost's."""
    catboost = importlib.import_module("catboost")

    class Objective(_Parameters, catboost.MultiTargetCustomObjective):  # type: ignore
        no_jit = True

        def calc_ders_multi(self, approxes: Any, targets: Any, weight: float) -> tuple[Any, Any]:
            scores, labels = np.asarray(approxes), np.asarray(targets)
            gradient, hessian = self.derivatives(labels, scores, None)
            return -weight * gradient, -weight * np.diag(hessian)

    bases = SigmoidCrossEntropy, catboost.MultiTargetCustomMetric
    return Objective, type(SigmoidCrossEntropy.__name__, bases, {})
