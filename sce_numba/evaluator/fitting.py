"""The dtype and shape that each operand must have, with errors in terms of files."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sce_numba.arguments import dtype_code
from sce_numba.arrow_columns import with_lengths
from sce_numba.kernels.dtypes import FLOAT_NAMES
from sce_numba.messages import values_are

from .operands import other_row_shape


class UnfitError(ValueError):
    """The error that one operand is wrong, and why."""

    def __init__(self, role: str, reason: str) -> None:
        super().__init__(reason)
        self.role = role


def check_dtype(role: str, dtype: np.dtype[Any], takes_text: bool = False) -> None:
    """Refuse a dtype that an operand can't have; labels may be text on demand."""
    is_text = dtype.kind in "SU"
    name = "text" if is_text else dtype.name
    is_known = dtype_code(dtype) is not None
    if role == "where":
        if dtype != np.bool_:
            raise UnfitError(role, f"a mask is bool, true for what counts, but this is {name}")
    elif role in ("logits", "baseline"):
        if not is_known or dtype.kind in "biu":
            exchanged = "; labels are named before logits" if dtype.kind in "biu" else ""
            raise UnfitError(
                role,
                f"logits are {FLOAT_NAMES}, but these are {name}{exchanged}",
            )
    elif not (is_known or (is_text and takes_text)):
        two_valued = ""
        if is_text and role == "labels":
            two_valued = "; of text with two values, --positive yes takes 'yes' as 1"
        raise UnfitError(
            role,
            f"{role} are bool, integers or floats of at most 64 bits, but these are {name}"
            f"{two_valued}",
        )


class Labels:
    """The meaning of labels: which are ignored, and which one of two values is 1."""

    def __init__(self, ignored: list[str], positive: str | None) -> None:
        self._null = "null" in ignored
        self._ignored = [text for text in ignored if text != "null"]
        self.positive = positive
        self._negative: Any = None

    @property
    def ignores(self) -> bool:
        """Whether some labels are to be ignored."""
        return self._null or bool(self._ignored)

    def included(self, labels: np.ndarray) -> np.ndarray | None:
        """Return a mask of the labels that are not to be ignored, or None for all."""
        included = None
        if self._null and isinstance(labels, np.ma.MaskedArray):
            included = ~np.ma.getmaskarray(labels)
        for text in self._ignored:
            others = ~_equal(np.ma.getdata(labels), text, "--ignore-label")
            included = others if included is None else included & others
        return included

    def numbers(self, labels: np.ndarray, where: np.ndarray | None) -> np.ndarray:
        """Return labels as they are or, with a positive value, whether they equal it."""
        if self.positive is None:
            return labels
        positive = _equal(labels, self.positive, "--positive")
        others = labels[~positive if where is None else ~positive & where]
        if others.size:
            if self._negative is None:
                self._negative = others[0]
            third = others[others != self._negative]
            if third.size:
                raise UnfitError(
                    "labels",
                    f"beside --positive {self.positive} there are {self._negative} and "
                    f"{third[0]}; one of them may be missing labels: --ignore-label {third[0]}",
                )
        return positive


def _equal(labels: np.ndarray, text: str, option: str) -> np.ndarray:
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels, "utf-8", "replace")
    if labels.dtype.kind == "U":
        return np.asarray(labels == text)
    value = _number(text)
    if value is None and labels.dtype == np.bool_:
        value = {"false": 0, "true": 1}.get(text.lower())
    if value is None:
        raise UnfitError("labels", f"{option} {text} is text, but labels are {labels.dtype.name}")
    return np.asarray(labels != labels if value != value else labels == value)


def _number(text: str) -> float | None:
    # An integer keeps all its digits.
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return None


class Fitted(NamedTuple):
    """The operands of some rows, as the functions take them."""

    labels: np.ndarray
    logits: np.ndarray
    weights: Any
    where: np.ndarray | None
    baseline: np.ndarray | None


def fit(arrays: dict[str, np.ndarray], files: dict[str, str], label_reader: Labels) -> Fitted:
    """Return operands with matching shapes and without nulls.

    Raises
    ------
    UnfitError
        If one of them is not what it must be.
    """
    labels, logits = with_lengths(arrays["labels"], arrays["logits"])
    if labels.shape != logits.shape:
        # Axes of length 1 in a row make no difference.
        if [n for n in labels.shape[1:] if n != 1] != [n for n in logits.shape[1:] if n != 1]:
            reason = other_row_shape(labels.shape[1:], logits.shape[1:], files["logits"])
            raise UnfitError("labels", f"{reason}; labels are not broadcast")
        labels = labels.reshape(logits.shape)
    weights = _with_logits_rank("weights", arrays["weights"], logits)
    where = _with_logits_rank("where", arrays["where"], logits) if "where" in arrays else None
    if where is not None:
        where = _without_nulls("where", where, None)
    included = label_reader.included(labels)
    if included is not None:
        where = included if where is None else where & included
    baseline = arrays.get("baseline")
    if baseline is not None:
        if baseline.shape != logits.shape:
            reason = other_row_shape(baseline.shape[1:], logits.shape[1:], files["logits"])
            raise UnfitError("baseline", reason)
        baseline = _without_nulls("baseline", baseline, where)
    labels = _without_nulls("labels", labels, where)
    logits = _without_nulls("logits", logits, where)
    weights = _without_nulls("weights", weights, where)
    if where is not None:
        where = np.broadcast_to(where, logits.shape)
    pos_weight = arrays.get("pos_weight")
    if pos_weight is not None and pos_weight.ndim:
        classes = logits.shape[-1] if logits.ndim > 1 else 1
        if len(pos_weight) != classes:
            raise UnfitError(
                "pos_weight",
                f"{len(pos_weight)} numbers, but logits have {classes} classes; give one number, "
                "or one for each class",
            )
    return Fitted(label_reader.numbers(labels, where), logits, weights, where, baseline)


def _with_logits_rank(role: str, array: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Return weights or a mask, reshaped to the rank of the logits."""
    if array.size == 1:
        return array.reshape(())
    if array.ndim == 1:
        # One value for each row.
        array = array.reshape(-1, *[1] * (logits.ndim - 1))
    shape, expected = array.shape[1:], logits.shape[1:]
    fits = len(shape) == len(expected) and all(
        n in (1, m) for n, m in zip(shape, expected, strict=True)
    )
    if not fits:
        raise UnfitError(
            role,
            f"its rows have the shape {shape}, those of logits {expected}: it must have as many "
            "lengths, each that of logits or 1",
        )
    return array


def _without_nulls(role: str, array: np.ndarray, where: np.ndarray | None) -> np.ndarray:
    """Return values without a mask; only elements that are left out may be null."""
    if not isinstance(array, np.ma.MaskedArray):
        return array
    null = np.ma.getmaskarray(array)
    if (null if where is None else null & where).any():
        option = {"labels": "--ignore-label null", "where": ""}.get(role, "a mask for --where")
        hint = option and f"; {option} leaves them out"
        raise UnfitError(role, f"{values_are(np.count_nonzero(null))} null{hint}")
    return np.ma.getdata(array)
