"""The loss as a scorer of scikit-learn, for cross-validation, searches and the like.

``pip install 'sce_numba[sklearn]'``, or any scikit-learn that is there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.utils.metadata_routing import MetadataRequest

from . import arguments, losses
from .messages import shown
from .reduction import Reduction

__all__ = ["sigmoid_cross_entropy_scorer"]


def sigmoid_cross_entropy_scorer(label_smoothing: float = 0, pos_weight: Any = None) -> Any:
    r"""Return a scorer, which is the negative weighted mean sigmoid cross entropy.

    Logits are what the estimator's ``decision_function`` returns, or if it has none the log-odds
    :math:`\log p - \log(1 - p)` of its ``predict_proba``.

    Parameters
    ----------
    label_smoothing : float
        From 0 to 1: moves labels towards 1/2.
    pos_weight : array_like, optional
        The weight of positives: a number, or one for each label of an example.

    Returns
    -------
    callable
        ``scorer(estimator, X, y, sample_weight=None)``, a float of which more is better; with
        ``set_score_request(sample_weight=True)`` for metadata routing.  It can be pickled.

    Raises
    ------
    ValueError, TypeError
        If label_smoothing or pos_weight are refused by ``sigmoid_cross_entropy``.  When it scores:
        TypeError if an estimator has neither method; ValueError if it knows other than two
        classes of a label, or ``y`` has one that it doesn't know.

    Notes
    -----
    ``y`` has two classes, the second one of the estimator's ``classes_`` is the positive one; or is
    an indicator of several labels, [examples, labels], dense or sparse.  Weights are those of the
    examples.

    The ``decision_function`` of models of the logistic loss is log-odds, that of others, as of
    support vector machines, is not: calibrate these.  Probabilities are kept away from 0 and 1 by
    the distance of 1 from the next float, as ``sklearn.metrics.log_loss`` does, which of the same
    probabilities makes the same loss.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sce_numba.sklearn import sigmoid_cross_entropy_scorer
    >>> model = LogisticRegression().fit([[0.0], [1.0], [2.0], [3.0]], ["no", "yes", "no", "yes"])
    >>> scorer = sigmoid_cross_entropy_scorer()
    >>> round(scorer(model, [[0.0], [3.0]], ["no", "yes"], sample_weight=[1, 3]), 4)
    -0.4101
    """
    smoothing = arguments.as_label_smoothing(label_smoothing)
    return SigmoidCrossEntropyScorer(smoothing, arguments.as_lasting_pos_weight(pos_weight))


@dataclass
class SigmoidCrossEntropyScorer:
    """A scorer, as scikit-learn calls it."""

    label_smoothing: float
    pos_weight: Any
    _requested: Any = field(default=None, repr=False)

    def __call__(
        self,
        estimator: Any,
        X: Any,  # noqa: N803
        y: Any,
        sample_weight: Any = None,
    ) -> float:
        arguments.refuse_mask_of_examples(y, "y")
        truth = np.asarray(y.toarray() if hasattr(y, "toarray") else y)
        if truth.ndim == 2 and truth.shape[1] == 1:
            truth = truth[:, 0]
        labels = arguments.as_labels(_indicators(estimator, truth), "y")
        logits = _logits(estimator, X, several=truth.ndim == 2)
        if labels.shape != logits.shape:
            raise ValueError(
                f"Argument `y` must have the shape of what the estimator predicts, {logits.shape}, "
                f"got {labels.shape}. Pass the labels of the rows of `X`, all that it knows."
            )
        weights: Any = 1.0
        if sample_weight is not None:
            weights = arguments.as_sample_weight(sample_weight, logits)
        loss = losses.sigmoid_cross_entropy(
            labels,
            logits,
            weights,
            self.label_smoothing,
            reduction=Reduction.MEAN,
            loss_collection=None,
            pos_weight=self.pos_weight,
        )
        return -float(loss)

    def set_score_request(self, *, sample_weight: bool | str | None) -> SigmoidCrossEntropyScorer:
        """Set whether weights are routed here, or under what name, as scikit-learn's scorers do."""
        self._requested = sample_weight
        return self

    def get_metadata_routing(self) -> MetadataRequest:
        """Return the metadata that scikit-learn should route here."""
        request = MetadataRequest(owner=type(self).__name__)
        request.score.add_request(param="sample_weight", alias=self._requested)
        return request

    def _accept_sample_weight(self) -> bool:
        """Return True for searches by several scorers, which ask if metadata routing is off."""
        return True


def _indicators(estimator: Any, truth: np.ndarray) -> np.ndarray:
    """Return whether each example has the positive class: [examples], or [examples, labels]."""
    classes = getattr(estimator, "classes_", None)
    if truth.ndim == 2:
        # Estimators with several outputs have a list of classes; others were fit to indicators.
        if not isinstance(classes, list):
            return truth
        columns = zip(classes, truth.T, strict=True)
        return np.column_stack([_indicator(known, column) for known, column in columns])
    return truth if classes is None else _indicator(classes, truth)


def _indicator(classes: Any, truth: np.ndarray) -> np.ndarray:
    """Return whether each example has the second one of two classes."""
    classes = np.asarray(classes)
    if classes.shape != (2,):
        raise ValueError(
            f"The estimator must know two classes of each label, got {shown(classes.tolist())}. "
            "For more classes pass `y` as an indicator of each (`sklearn.preprocessing."
            "LabelBinarizer`), and fit `sklearn.multiclass.OneVsRestClassifier` to it."
        )
    positive: np.ndarray = truth == classes[1]
    unknown = truth[~(positive | (truth == classes[0]))]
    if unknown.size:
        first = shown(unknown.tolist()[0])
        raise ValueError(
            f"Argument `y` has a class that the estimator doesn't know, {first}. It knows "
            f"{shown(classes.tolist())}."
        )
    return positive


def _logits(estimator: Any, features: Any, several: bool) -> np.ndarray:
    """Return log-odds: [examples], or [examples, labels]."""
    if hasattr(estimator, "decision_function"):
        logits = np.asarray(estimator.decision_function(features), np.float64)
        return logits[:, 0] if logits.ndim == 2 and not several else logits
    if not hasattr(estimator, "predict_proba"):
        raise TypeError(
            f"The estimator {type(estimator).__name__} has neither `decision_function` nor "
            "`predict_proba`, of which log-odds could be made. Use one that has."
        )
    p = estimator.predict_proba(features)
    if isinstance(p, list):  # two columns for each label
        return np.column_stack([_log_odds(part[:, 1], part[:, 0]) for part in p])
    p = np.asarray(p)
    return _log_odds(p, 1 - p) if several else _log_odds(p[:, 1], p[:, 0])


def _log_odds(probabilities: np.ndarray, complements: np.ndarray) -> np.ndarray:
    """Return log-odds of probabilities that are clipped to a machine epsilon from 0 and 1."""
    nearest = np.finfo(probabilities.dtype).eps
    logs = (np.log(np.clip(part, nearest, 1 - nearest)) for part in (probabilities, complements))
    log_odds: np.ndarray = np.subtract(*logs)
    return log_odds
