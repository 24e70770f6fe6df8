"""``evaluate``: the loss of arrays or files, and all else that one pass over them can tell."""

from __future__ import annotations

import importlib
import math
import operator
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sce_numba import arguments
from sce_numba.array_libraries import are_plain, check_order, columns_of, has_names, with_mask
from sce_numba.arrow_columns import missing_in
from sce_numba.messages import shown
from sce_numba.reduction import Reduction

from .blocks import problem_lines
from .result import Evaluation
from .run import Run, Settings


def evaluate(
    labels: ArrayLike | str | os.PathLike[str],
    logits: ArrayLike | str | os.PathLike[str],
    weights: ArrayLike | str | os.PathLike[str] = 1.0,
    label_smoothing: float = 0,
    reduction: Reduction | str = Reduction.SUM_BY_NONZERO_WEIGHTS,
    *,
    pos_weight: ArrayLike | str | os.PathLike[str] | None = None,
    where: ArrayLike | str | os.PathLike[str] | None = None,
    ignore_label: Any = (),
    positive: Any = None,
    by: Mapping[str, Any] | Sequence[str] | str | None = None,
    by_class: bool | None = None,
    class_names: Sequence[str] | None = None,
    baseline: ArrayLike | str | os.PathLike[str] | None = None,
    worst: int = 0,
    per_row: str | os.PathLike[str] | None = None,
    on_error: str = "stop",
) -> Evaluation:
    """Evaluate a model: its loss, by class and by group, its calibration, its worst rows.

    It does what ``python -m sce_numba evaluate`` does: reads arrays, or files that are larger than
    memory, once and block by block.

    Parameters
    ----------
    labels : array_like or path
        Labels in [0, 1], or the name of files, as ``"data.parquet:label"``.
    logits : array_like or path
        Log-odds, of the shape of the labels; the first axis is that of the rows, the last one that
        of the classes.
    weights : array_like, number or path
        As in ``sigmoid_cross_entropy``.
    label_smoothing : float
        From 0 to 1.
    reduction : Reduction or str
        As in ``sigmoid_cross_entropy``; without one, the range of the losses is told.
    pos_weight : array_like or path, optional
        The weight of positives: a number, or one for each class.
    where : array_like of bool or path, optional
        Elements to include.
    ignore_label : number or sequence of numbers
        Labels to leave out; None stands for nulls in files.
    positive : number or str, optional
        Take labels that are this as 1, and the one other value as 0.
    by : mapping of str to array_like or path, or sequence of str, optional
        Columns whose values are groups of rows, to tell the loss of each, by the names to tell them
        under; of files, the names of columns suffice.
    by_class : bool, optional
        Whether to tell the loss of each class, by default wherever there is an axis of them.
    class_names : sequence of str, optional
        The names of the classes; by default those of columns, or numbers.
    baseline : array_like or path, optional
        Other logits, to be compared with.
    worst : int
        How many rows of greatest loss to tell.
    per_row : path, optional
        A .npy or Parquet file to write the loss of each row to.
    on_error : str
        What to do about rows of files that can't be read: "stop", with an error, or "skip" them.

    Returns
    -------
    Evaluation
        The loss, and all that was asked for.

    Raises
    ------
    ValueError, TypeError
        If an operand or an option can't be used, or a file can't be read.

    Examples
    --------
    >>> import numpy as np
    >>> import sce_numba as sce
    >>> rng = np.random.default_rng(0)
    >>> logits = rng.normal(0, 2, (1000, 3))
    >>> labels = rng.random(logits.shape) < 1 / (1 + np.exp(-logits))
    >>> result = sce.evaluate(labels, logits, by={"half": np.arange(1000) // 500}, worst=1)
    >>> result
    Evaluation(loss=0.46488..., reduction='weighted_sum_by_nonzero_weights', shape=(1000, 3))
    >>> print(result.classes.loss.round(3), result.slices["half"].names)
    [0.484 0.459 0.451] ['0', '1']
    >>> print(round(result.calibration.expected_error, 3), result.worst[0].row)
    0.013 632
    """
    if on_error not in ("stop", "skip"):
        raise ValueError(f"Argument `on_error` must be 'stop' or 'skip', got {shown(on_error)}.")
    if arguments.as_reduction(reduction) is None:
        reduction = Reduction.NONE
    operands = {
        "labels": labels,
        "logits": logits,
        "weights": weights,
        "where": where,
        "pos_weight": pos_weight,
        "baseline": baseline,
    }
    checked = _operands(operands, positive is not None)
    settings = Settings(
        **checked,
        label_smoothing=arguments.as_label_smoothing(label_smoothing),
        reduction=Reduction(reduction),
        ignore_label=[_label_text(value) for value in _as_list(ignore_label)],
        positive=None if positive is None else _label_text(positive),
        by=_group_columns(by, logits, checked["logits"]),
        by_class=by_class,
        class_names=class_names if class_names is not None else columns_of(logits) or None,
        worst=_row_count(worst),
        per_row=None if per_row is None else os.fspath(per_row),
        on_error=on_error,
        distributions=True,
    )
    try:
        run = Run(settings)
        run.until(lambda: False)
    except (ValueError, TypeError) as error:
        raise type(error)(_with_argument_names(str(error))) from error
    if run.has_failed or (run.problems and on_error == "stop"):
        raise ValueError(_with_argument_names("; ".join(problem_lines(run.problems))))
    result = run.result()
    return replace(result, warnings=[_with_argument_names(line) for line in result.warnings])


def _is_path(value: Any) -> bool:
    return isinstance(value, str | os.PathLike)


def _operands(given: dict[str, Any], takes_text: bool) -> dict[str, Any]:
    """Return operands for the settings: paths, and arrays that are checked against each other."""
    paths = {name: os.fspath(value) for name, value in given.items() if _is_path(value)}
    arrays = {name: value for name, value in given.items() if name not in paths}
    if not are_plain(arrays):
        check_order(arrays)
        if any(map(has_names, arrays.values())):
            arrays = importlib.import_module("sce_numba.xarray").by_position(arrays)
    checked: dict[str, Any] = {}
    for name in ("labels", "logits"):
        if name in arrays:
            is_text = takes_text and name == "labels"
            convert = arguments.as_floats if name == "logits" else arguments.as_labels
            checked[name] = (_as_text if is_text else convert)(arrays[name], name)
    if len(checked) == 2 and not takes_text:
        arguments.as_labels_and_logits(checked["labels"], "labels", checked["logits"])
    logits = checked.get("logits")
    for name in arrays.keys() - checked.keys():
        if arrays[name] is not None or name == "weights":
            checked[name] = _checked_operand(name, arrays[name], logits)
    return paths | checked


def _as_text(value: Any, name: str) -> np.ndarray:
    """Return labels with a positive value among them; objects that are strings become text."""
    array = arguments.as_array(value, name)
    if array.dtype.kind != "O":
        return array
    missing = missing_in(array)
    if not all(isinstance(text, str) for text in array[~missing]):
        return array
    texts: np.ndarray = np.where(missing, "", array).astype(np.str_)
    return np.ma.masked_array(texts, missing) if missing.any() else texts


def _checked_operand(name: str, value: Any, logits: np.ndarray | None) -> Any:
    """Return an operand that is checked against the logits, if these are in memory."""
    array = arguments.as_floats(value, name) if name == "baseline" else None
    if array is None:
        array = arguments.as_array(value, name)
    if name == "pos_weight":
        if array.size != math.prod(array.shape[-1:]):
            raise ValueError(
                f"Argument `pos_weight` must be a number, or one for each class, got the shape "
                f"{array.shape}."
            )
        return array.reshape(() if array.size == 1 else -1)
    if logits is None:
        return array
    if name == "weights":
        weight, several_weights = arguments.as_weights(array, logits)
        return weight if several_weights is None else several_weights
    if name == "where":
        return np.broadcast_to(arguments.as_where(array, logits), logits.shape)
    if array.shape != logits.shape:
        raise ValueError(
            f"Argument `baseline` must have the shape of logits, got {array.shape} and "
            f"{logits.shape}."
        )
    return array


def _as_list(values: Any) -> Sequence[Any]:
    return [values] if isinstance(values, str) or not np.iterable(values) else list(values)


def _label_text(value: Any) -> str:
    """Return a label as it is spelled on the command line."""
    if value is None:
        return "null"
    return str(int(value) if isinstance(value, bool | np.bool_) else value)


def _group_columns(by: Any, given_logits: Any, logits: Any) -> Sequence[str] | dict[str, Any]:
    """Return columns that name groups: values by name, or names alone of columns in files."""
    if by is None or isinstance(by, str):
        return [by] if by else []
    if isinstance(by, list | tuple) and all(isinstance(name, str) for name in by):
        return list(by)
    names = columns_of(by)
    if not names and not isinstance(by, Mapping):
        raise TypeError(
            "Argument `by` must be a mapping of names to values, a frame, or names of columns in "
            f"files, got {type(by).__name__}. Pass for example `by={{'group': values}}`."
        )
    columns: dict[str, Any] = {}
    for name in names or by:
        values = by[name]
        if _is_path(values):
            columns[str(name)] = os.fspath(values)
            continue
        if isinstance(logits, np.ndarray):
            check_order({"logits": given_logits, f"by[{name!r}]": values})
        columns[str(name)] = _group_column(name, values, logits)
    return columns


def _group_column(name: Any, values: Any, logits: Any) -> np.ndarray:
    """Return a column that names groups as an array, with its mask if it has one."""
    try:
        array = with_mask(values)
    except ValueError as error:
        raise ValueError(f"Argument `by` can't be read as an array: {name!r}: {error}") from error
    if not isinstance(array, np.ma.MaskedArray):
        array = np.asarray(array)
    shape = np.shape(logits)[:1] if isinstance(logits, np.ndarray) else array.shape[:1]
    if array.shape != shape:
        raise ValueError(
            f"Argument `by` must have one value for each row, of the shape {shape}, got "
            f"{name!r} of the shape {array.shape}."
        )
    if array.dtype.kind == "c" or array.dtype.names:
        raise TypeError(
            f"Argument `by` must have text, numbers, bool or dates, got {name!r} of "
            f"{array.dtype.name}."
        )
    return array


def _row_count(worst: Any) -> int:
    try:
        count = operator.index(worst)
    except TypeError:
        count = -1
    if count < 0:
        raise ValueError(f"Argument `worst` must be a number of rows, got {shown(worst)}.")
    return count


def _with_argument_names(message: str) -> str:
    """Return a message of the command line with arguments of Python in place of its options."""
    # Names of files may contain dashes, too.
    option = r"(?<!\S)--([a-z]+(?:-[a-z]+)*)(?=[\s:]|$)"
    return re.sub(option, lambda match: f"`{match[1].replace('-', '_')}`", message)
