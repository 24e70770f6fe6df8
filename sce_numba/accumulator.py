"""``LossAccumulator``: the loss of data that arrive batch by batch."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from . import arguments
from .array_libraries import are_plain, check_order, has_labels, has_names
from .axes import Axis, are_given, as_axes, as_flag, numbers_of
from .evaluation import as_scalar
from .groups import as_number, sums_of_groups
from .kernels.dtypes import FLOAT_NAMES, FLOATS
from .loss_sums import LossSums, sums_of_part
from .messages import shown
from .reduction import Reduction
from .sums_along import SumsAlong, sums_along
from .type_hints import AnyReduction


class _Version:
    """The state of an accumulator at one time.  It never changes, except that it gets a successor.

    The newest version is the one without a successor.  A change makes a new version from it, and
    sets it as the successor by one atomic call, unless another change was faster; then it is made
    again, from that one's version.  So no change is lost or half made, and there is no lock, which
    a forked child could inherit from a thread that it lacks, or a signal handler wait for while it
    interrupts the holder.
    """

    __slots__ = ("count", "successor", "sums")

    def __init__(self, sums: LossSums | SumsAlong, count: int) -> None:
        self.sums = sums
        self.count = count
        self.successor: dict[str, _Version] = {}


class LossAccumulator:
    r"""Accumulate the loss of batches: the result is the loss of all their elements.

    It holds two sums, the numerator :math:`\sum w l` and the denominator of the reduction.  Those
    of a batch are float64; they are added without rounding, so neither the order of updates nor
    that of merging changes the result.

    Parameters
    ----------
    reduction : Reduction or str
        As in ``sigmoid_cross_entropy``, but not ``NONE``.
    label_smoothing : float
        From 0 to 1.
    pos_weight : array_like, optional
        The weight of positives: a number, or an array that broadcasts to the logits of every batch
        by NumPy's rule; a DataArray of xarray goes by the names of its axes.
    axis : int or tuple of int, optional
        Axes to reduce, all by default; axis 0, that of the batch, must be among them.  The others
        must be alike in all batches: ``axis=0`` gives the loss of each class.
    keepdims : bool
        Whether reduced axes stay, with a length of 1.
    num_groups : int, optional
        Instead of ``axis``: of how many groups to hold a loss each.  Every update then has to tell
        which of them its rows belong to.

    Raises
    ------
    ValueError
        If the reduction is unknown or ``NONE``, label_smoothing is outside [0, 1], num_groups is
        negative, or given beside axis.
    TypeError
        If label_smoothing or pos_weight are no numbers, axis or num_groups anything but integers,
        or keepdims is neither True nor False.

    Notes
    -----
    Updates may come from several threads at once, and from signal handlers; a child may be forked
    at any time.  An accumulator can be pickled, sent to another process and merged there.  A call
    that raises leaves it as it was; one that is interrupted, by Ctrl-C say, counts whole or not at
    all.  ``one + other`` and ``sum(parts)`` are new accumulators, of all updates of theirs.

    Examples
    --------
    >>> import numpy as np
    >>> import sce_numba as sce
    >>> labels, logits = np.array([1, 0, 1, 1]), np.array([2.0, -1.0, 0.5, -3.0])
    >>> loss = sce.LossAccumulator()
    >>> loss.update(labels[:3], logits[:3])
    >>> loss.update(labels[3:], logits[3:])
    >>> print(round(float(loss.result()), 6))
    0.990714
    >>> loss
    LossAccumulator(reduction='weighted_sum_by_nonzero_weights', count=4, value=0.99071...)
    >>> by_class = sce.LossAccumulator(axis=0)
    >>> for label, logit in zip(labels.reshape(2, 1, 2), logits.reshape(2, 1, 2)):
    ...     by_class.update(label, logit)
    >>> print(by_class.result().round(4))
    [0.3005 1.6809]
    """

    def __init__(
        self,
        reduction: AnyReduction = Reduction.SUM_BY_NONZERO_WEIGHTS,
        label_smoothing: float = 0,
        pos_weight: ArrayLike | None = None,
        *,
        axis: Axis = None,
        keepdims: bool = False,
        num_groups: int | None = None,
    ) -> None:
        if arguments.as_reduction(reduction) is None:
            raise ValueError("`Reduction.NONE` leaves no sum: choose another reduction.")
        self._reduction = Reduction(reduction)
        self._label_smoothing = arguments.as_label_smoothing(label_smoothing)
        self._pos_weight: Any = None
        if pos_weight is not None:
            given: Any = pos_weight
            values = arguments.as_labels(given, "pos_weight").copy()
            # Names are kept: each batch may have another order of axes, rows and columns.
            if has_names(given):
                values = given.copy(data=values)
            self._pos_weight = copy.deepcopy(given) if has_labels(given) else values
        self._axis, self._keepdims = numbers_of(axis), as_flag(keepdims)
        self._num_groups = None if num_groups is None else as_number(num_groups)
        if num_groups is not None and are_given(axis, keepdims):
            raise ValueError("Arguments `num_groups` and `axis` can't both be given.")
        # The newest version, or one whose successors lead to it.
        self._version = _Version(self._no_sums(), 0)

    @property
    def _is_scalar(self) -> bool:
        return self._num_groups is None and not are_given(self._axis, self._keepdims)

    def _no_sums(self) -> LossSums | SumsAlong:
        return LossSums() if self._is_scalar else SumsAlong()

    def reset(self) -> None:
        """Forget all updates.

        Examples
        --------
        >>> import sce_numba as sce
        >>> loss = sce.LossAccumulator("weighted_sum")
        >>> loss.update([1.0], [0.0])
        >>> loss.reset()
        >>> loss
        LossAccumulator(reduction='weighted_sum', count=0, value=0.0)
        """
        self._publish(lambda version: _Version(self._no_sums(), 0))

    def update(
        self,
        labels: ArrayLike,
        logits: ArrayLike,
        weights: ArrayLike = 1.0,
        where: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> None:
        """Add the loss of a batch.

        Parameters
        ----------
        labels : array_like, the shape of logits
            Labels: bool, integer or float.
        logits : array_like
            Log-odds: a float of 8 to 64 bits, of any shape.
        weights : array_like
            A number, or an array with the rank of logits whose every dimension is 1 or that of
            logits.
        where : array_like of bool, optional
            Elements to include, broadcast to logits by NumPy's rule.
        groups : array_like of int, optional
            With ``num_groups``: the group of each row, as in ``sigmoid_cross_entropy``.

        Raises
        ------
        ValueError, TypeError
            As ``sigmoid_cross_entropy`` does; ValueError also if there is no axis 0 among those
            that are reduced, results would have another shape than those of other batches, or
            groups are given without ``num_groups``, or not given with it.

        Notes
        -----
        DataArrays of xarray go by the names of their axes, as in ``sigmoid_cross_entropy``.  Dask
        arrays are computed at once.

        Examples
        --------
        >>> import sce_numba as sce
        >>> loss = sce.LossAccumulator("weighted_mean")
        >>> for weight in (1.0, 3.0):
        ...     loss.update([1.0, 0.0], [0.0, 0.0], weights=weight)
        >>> print(round(float(loss.result()), 6))
        0.693147
        """
        operands: dict[str, Any] = {
            "labels": labels,
            "logits": logits,
            "weights": weights,
            "where": where,
            "pos_weight": self._pos_weight,
        }
        if (groups is None) != (self._num_groups is None):
            hint = "Make the accumulator with `num_groups`" if groups is not None else "Give them"
            raise ValueError(f"Argument `groups` goes together with `num_groups`. {hint}.")
        if groups is not None:
            operands["groups"] = groups
        if not are_plain(operands):
            check_order(operands)
            if any(map(has_names, operands.values())):
                operands = importlib.import_module(".xarray", __package__).by_position(operands)
        values = operands["logits"] = arguments.as_floats(operands["logits"], "logits")
        operands |= {"label_smoothing": self._label_smoothing, "reduction": self._reduction}
        if self._is_scalar:
            self._add(sums_of_part(**operands), values.size)
            return
        if self._num_groups is not None:
            self._add(sums_of_groups(self._num_groups, **operands), values.size)
            return
        axes = as_axes(self._axis, self._keepdims, values.ndim)
        if 0 not in axes.reduced and values.ndim:
            raise ValueError(
                f"Argument `axis` is {self._axis}, which leaves axis 0 of logits of shape "
                f"{values.shape}, the axis of the batch. Make an accumulator whose `axis` has it."
            )
        self._add(sums_along(axes.reduced, self._keepdims, **operands), values.size)

    def update_arrow(
        self,
        batch: Any,
        labels: str | Sequence[str],
        logits: str | Sequence[str],
        weights: str | Sequence[str] | float = 1.0,
        where: str | Sequence[str] | None = None,
    ) -> None:
        """Add the loss of rows of an Arrow table, given the names of its columns.

        Several columns stand side by side, as classes; so do the values of a column of lists, all
        of one length.

        Parameters
        ----------
        batch : RecordBatch, Table or RecordBatchReader of Arrow, or a frame
            What has an ``__arrow_c_stream__``: frames of polars and pandas, relations of DuckDB.
        labels : str or sequence of str
            Columns of bool, integers or floats; as many values in a row as logits have.
        logits : str or sequence of str
            Columns of floats.
        weights : str, sequence of str or float
            A number, or columns: one for the whole row, or as many as there are logits.
        where : str or sequence of str, optional
            Columns of bool, like those of weights: true for what counts.  What does not may be
            null.

        Raises
        ------
        TypeError
            If ``batch`` is none of these, or a column is not of such a type.
        ValueError
            If there is no such column, values that count are null, lists differ in length, or
            shapes don't fit, or if ``pos_weight`` has the names of the columns in another order.
        ImportError
            If pyarrow is not installed.

        Notes
        -----
        Columns of numbers without nulls are read where they lie.  Batches without rows add nothing.

        Examples
        --------
        >>> import pyarrow as pa
        >>> import sce_numba as sce
        >>> batch = pa.table({"bought": [True, False, None], "score": [2.0, -1.0, 0.5]})
        >>> loss = sce.LossAccumulator()
        >>> loss.update_arrow(batch.slice(0, 2), labels="bought", logits="score")
        >>> print(round(float(loss.result()), 6))
        0.220095
        >>> known = batch.append_column("known", batch["bought"].is_valid())
        >>> loss.update_arrow(known, labels="bought", logits="score", where="known")
        >>> print(round(float(loss.result()), 6), loss.count)
        0.220095 5
        """
        columns: dict[str, Any] = {"labels": labels, "logits": logits}
        if not isinstance(weights, Real):
            columns["weights"] = weights
        if where is not None:
            columns["where"] = where
        # Add all batches or none: a later one may fail.
        part = LossAccumulator(self._reduction, self._label_smoothing, self._pos_weight)
        batches = importlib.import_module(".arrow_batches", __package__)
        for operands in batches.operands(batch, columns, self._pos_weight):
            part.update(**{"weights": weights, **operands})
        self.merge(part)

    def merge(self, other: LossAccumulator) -> LossAccumulator:
        """Add all updates of another accumulator, which stays as it is.

        Parameters
        ----------
        other : LossAccumulator
            One of the same reduction, label smoothing, pos_weight, axis, keepdims and num_groups.

        Returns
        -------
        LossAccumulator
            This one.

        Raises
        ------
        TypeError
            If it is no accumulator.
        ValueError
            If one of these differs, or results have another shape.

        Examples
        --------
        >>> import sce_numba as sce
        >>> first, second = sce.LossAccumulator(), sce.LossAccumulator()
        >>> first.update([1.0], [0.0])
        >>> second.update([0.0], [3.0])
        >>> print(round(float(first.merge(second).result()), 6))
        1.870867
        >>> first.count
        2
        """
        if not isinstance(other, LossAccumulator):
            raise TypeError(
                f"Argument `other` must be a LossAccumulator, got {type(other).__name__}."
            )
        for name in (
            "reduction",
            "label_smoothing",
            "pos_weight",
            "axis",
            "keepdims",
            "num_groups",
        ):
            expected, got = getattr(self, f"_{name}"), getattr(other, f"_{name}")
            if not _equal(expected, got):
                raise ValueError(
                    f"Argument `other` must have the same {name}, got {got} instead of {expected}."
                )
        newest = other._newest()
        self._add(newest.sums, newest.count)
        return self

    def __add__(self, other: LossAccumulator) -> LossAccumulator:
        """Return a new accumulator of the updates of both.

        Parameters
        ----------
        other : LossAccumulator
            As in ``merge``, with the same errors.

        Returns
        -------
        LossAccumulator
            A new one; both stay as they are.

        Examples
        --------
        >>> import sce_numba as sce
        >>> parts = [sce.LossAccumulator() for _ in range(3)]
        >>> for part in parts:
        ...     part.update([1.0, 0.0], [0.0, 0.0])
        >>> (parts[0] + parts[1]).count
        4
        >>> sum(parts).count
        6
        """
        if not isinstance(other, LossAccumulator):
            return NotImplemented
        return copy.copy(self).merge(other)

    def __radd__(self, other: int) -> LossAccumulator:
        # `sum` starts from 0, and must not return one of its parts itself.
        if not isinstance(other, int) or other != 0:
            return NotImplemented
        return copy.copy(self)

    def _add(self, sums: Any, count: int) -> None:
        def plus(version: _Version) -> _Version:
            total: Any = version.sums.copy()
            total.merge(sums)
            return _Version(total, version.count + count)

        self._publish(plus)

    def _publish(self, change: Callable[[_Version], _Version]) -> None:
        """Make the changed version the successor of the newest one."""
        while True:
            newest = self._newest()
            changed = change(newest)
            # Atomic, as a call of C code; all before it has no effect yet.
            if newest.successor.setdefault("next", changed) is changed:
                self._version = changed
                return

    def _newest(self) -> _Version:
        version = self._version
        while (successor := version.successor.get("next")) is not None:
            version = successor
        # Another thread may set an older one at the same time, which leads to this one as well.
        self._version = version
        return version

    @property
    def count(self) -> int:
        """The number of elements in all updates, those that ``where`` excludes among them."""
        return self._newest().count

    def result(self, dtype: DTypeLike | None = None) -> Any:
        """Return the loss of all updates so far.

        Parameters
        ----------
        dtype : dtype, optional
            That of the result: a float of 8 to 64 bits; float64 is the default whatever the
            logits are.  A sum of float16 losses soon is more than float16 holds.

        Returns
        -------
        scalar or ndarray
            A NumPy scalar, with ``axis`` an array: the float64 loss, rounded to the dtype.  A
            denominator of exactly 0 gives 0.

        Raises
        ------
        TypeError
            If the dtype is none of these.
        ValueError
            With ``axis``, if there was no update, from which the shape of the results is known.

        Examples
        --------
        >>> import numpy as np
        >>> import sce_numba as sce
        >>> loss = sce.LossAccumulator("weighted_sum")
        >>> loss.update(np.zeros(100_000), np.full(100_000, 1.0, np.float16))
        >>> print(loss.result())
        131326.16...
        >>> print(loss.result(np.float32), loss.result(np.float16))
        131326.17 inf
        """
        loss = self._loss(self._newest())
        if dtype is None:
            return loss
        result_dtype = _as_dtype(dtype)
        if self._is_scalar:
            return as_scalar(float(loss), result_dtype)
        rounded = [as_scalar(value, result_dtype) for value in loss.ravel().tolist()]
        return np.array(rounded, result_dtype).reshape(loss.shape)

    def _loss(self, version: _Version) -> Any:
        loss = version.sums.loss(self._reduction)
        return np.float64(loss) if self._is_scalar else loss

    def __repr__(self) -> str:
        version = self._newest()
        detail = f"axis={self._axis}"
        if self._num_groups is not None:
            detail = f"num_groups={self._num_groups}"
        elif self._is_scalar:
            detail = f"value={self._loss(version)!s}"
        return (
            f"{type(self).__name__}(reduction={self._reduction.value!r}, count={version.count}, "
            f"{detail})"
        )

    def __getstate__(self) -> dict[str, Any]:
        version = self._newest()
        state = self.__dict__ | {"_sums": version.sums, "_count": version.count}
        del state["_version"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        # Older pickles also have the dtype of the logits; the oldest have separate sums.
        state.pop("_dtype", None)
        state.setdefault("_axis", None)
        state.setdefault("_keepdims", False)
        state.setdefault("_num_groups", None)
        if "_numerator" in state and "_denominator" in state:
            sums = state["_sums"] = LossSums()
            sums.numerator, sums.denominator = state.pop("_numerator"), state.pop("_denominator")
        needed = {"_reduction", "_label_smoothing", "_pos_weight", "_sums", "_count"}
        if not needed <= state.keys():
            raise ValueError(
                "This accumulator was pickled by a version of sce_numba that this one can't read: "
                f"it lacks {', '.join(sorted(needed - state.keys()))}."
            )
        self._version = _Version(state.pop("_sums"), state.pop("_count"))
        self.__dict__.update(state)


def _as_dtype(given: DTypeLike) -> np.dtype[Any]:
    message = f"Argument `dtype` must be {FLOAT_NAMES}, got"
    try:
        dtype = np.dtype(given)
    except Exception:
        raise TypeError(f"{message} {shown(given)}.") from None
    if arguments.dtype_code(dtype) not in FLOATS:
        raise TypeError(f"{message} {dtype.name}.")
    return dtype


def _equal(one: Any, two: Any) -> bool:
    """Tell whether two settings are equal, with NaN equal to itself and names compared."""
    if any(has_names(setting) or has_labels(setting) for setting in (one, two)):
        return type(one) is type(two) and bool(one.equals(two))
    nan_is_equal = isinstance(one, np.ndarray) and isinstance(two, np.ndarray)
    return np.array_equal(one, two, equal_nan=nan_is_equal)
