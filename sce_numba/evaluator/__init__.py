"""Evaluation of a model on arrays of any size, in memory or in files, in one pass."""

from .arrays import evaluate as evaluate
from .result import Evaluation as Evaluation
