"""What the functions accept, what they refuse, and the words they refuse it with.

Checks run before anything is computed or changed, in TensorFlow's order: labels, logits, their
shapes, label smoothing, reduction, weights.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .array_libraries import conversion, readable, reshaped
from .kernels import dtypes
from .kernels.view import LOGITS, RESULT
from .messages import shown
from .reduction import CODES, Reduction

# NumPy's own among the dtypes, of which two may be of one kind and size.
NATIVE: tuple[np.dtype[Any], ...] = tuple(map(np.dtype, "?bhilqBHILQefd"))
_CODES = {
    dtype.num: dtypes.CODES[np.dtype(f"{dtype.kind}{dtype.itemsize}").name] for dtype in NATIVE
}


def dtype_code(dtype: np.dtype[Any]) -> int | None:
    """Return the kernels' code of a dtype, in whatever byte order, or None."""
    code = _CODES.get(dtype.num)
    # NumPy takes its time to make up a name.
    return dtypes.CODES.get(dtype.name) if code is None else code


def as_array(value: ArrayLike | None, name: str) -> np.ndarray:
    """Return any argument as an array, without a copy where that can be; refuse None and masks."""
    if value is None:
        raise ValueError(f"Argument `{name}` must not be None.")
    try:
        array = np.asanyarray(value if type(value) is np.ndarray else readable(value))
    except MemoryError:
        raise
    except Exception as error:
        # An object that describes itself as an array may raise anything.
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"Argument `{name}` can't be read as an array: {error}") from error
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(
            f"Argument `{name}` is a masked array, whose mask would be ignored. Pass "
            f"`{name}.data`, and the elements to include as `where=~mask`."
        )
    return np.asarray(array)


def refuse_mask(value: Any, name: str, instead: str) -> None:
    """Refuse a masked array where there is no ``where``, and say what to pass instead."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(
            f"Argument `{name}` is a masked array, whose mask would be ignored. Pass {instead}."
        )


def refuse_mask_of_examples(value: Any, name: str) -> None:
    """Refuse a masked array where weights of examples are what leaves elements out."""
    instead = f"`{name}.filled(0)`, and a sample weight of 0 for each example to leave out"
    refuse_mask(value, name, instead)


def as_floats(value: ArrayLike, name: str, labels: np.ndarray | None = None) -> np.ndarray:
    """Return logits (or losses) as an array, without a copy; refuse all but floats.

    ``labels`` that are floats, beside logits that are none, may have been taken for them.
    """
    array = as_array(value, name)
    if dtype_code(array.dtype) not in dtypes.FLOATS:
        exchanged = ""
        if (
            labels is not None
            and array.dtype.kind in "biu"
            and dtype_code(labels.dtype) in dtypes.FLOATS
        ):
            exchanged = " Or are labels and logits exchanged?"
        raise TypeError(
            f"Argument `{name}` must be {dtypes.FLOAT_NAMES}, got {array.dtype.name}. "
            f"{conversion(value)}{_about_none(array)}{exchanged}"
        )
    return array


def as_losses(value: ArrayLike) -> tuple[np.ndarray, np.dtype[Any]]:
    """Return losses as floats, and the dtype of what they come to: integers stay integers."""
    array = as_array(value, "losses")
    if array.dtype.kind in "iu":
        return array.astype(np.float64), array.dtype
    floats = as_floats(array if dtype_code(array.dtype) in dtypes.FLOATS else value, "losses")
    return floats, floats.dtype


def as_integers(loss: Any, dtype: np.dtype[Any]) -> Any:
    """Return the integer part of a loss or losses, as TensorFlow does; refuse what doesn't fit."""
    range_ = np.iinfo(dtype)
    fits = (loss > range_.min - 1.0) & (loss < range_.max + 1.0)
    if not np.all(fits):
        wrong = np.asarray(loss)[~np.asarray(fits)].flat[0]
        raise ValueError(
            f"Argument `losses` is of dtype {dtype.name}, and so is the loss, which would be "
            f"{wrong}. Pass `losses.astype(np.float32)`."
        )
    return loss.astype(dtype)


def as_numbers(value: ArrayLike, name: str) -> np.ndarray:
    """Return weights as an array, without a copy; refuse what is no real number."""
    array = as_array(value, name)
    if dtype_code(array.dtype) is None:
        raise TypeError(
            f"Argument `{name}` must be bool, integer or float (of at most 64 bits), got "
            f"{array.dtype.name}."
        )
    return array


def as_labels(value: ArrayLike, name: str) -> np.ndarray:
    """Return labels as an array, without a copy; refuse what is no real number."""
    array = as_array(value, name)
    if dtype_code(array.dtype) is None:
        text = array.dtype.kind in "US" or any(isinstance(one, str) for one in array.flat)
        raise TypeError(
            f"Argument `{name}` must be bool, integer or float (of at most 64 bits), got "
            f"{array.dtype.name}. {conversion(value, name if text else '')}"
            f"{'' if text else _about_none(array)}"
        )
    return array


def _about_none(array: np.ndarray) -> str:
    """Tell what the advice to convert it makes of an array that None is in."""
    has_none = array.dtype.kind == "O" and any(one is None for one in array.flat)
    return " None becomes NaN, which `where=` leaves out." if has_none else ""


def as_labels_and_logits(
    labels_given: ArrayLike | None,
    labels_name: str,
    logits_given: ArrayLike | None,
    logits_name: str = "logits",
) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and logits as arrays of one shape, without a copy."""
    if labels_given is None or logits_given is None:
        missing = labels_name if labels_given is None else logits_name
        raise ValueError(f"Argument `{missing}` must not be None.")
    labels = as_labels(labels_given, labels_name)
    logits = as_floats(logits_given, logits_name, labels)
    if labels.shape != logits.shape:
        mend = "Labels are not broadcast."
        if labels.size == logits.size:
            mended = reshaped(labels_given, labels_name, logits.shape)
            mend = f"Reshape one of them, for example `{mended}`."
            if labels.ndim > 1 and labels.shape == logits.shape[::-1] and 1 not in labels.shape:
                mend = "Transpose one of them: to reshape it would mix up its elements."
        raise ValueError(
            f"Arguments `{labels_name}` and `{logits_name}` must have the same shape, got "
            f"{labels.shape} and {logits.shape}. {mend}"
        )
    return labels, logits


def as_label_smoothing(value: Any) -> float:
    """Return label smoothing as a float in [0, 1]."""
    return as_number(value, "label_smoothing", "from 0 to 1", 1.0)


def as_number(value: Any, name: str, allowed: str, greatest: float) -> float:
    """Return an argument as a float from 0 to the greatest."""
    said = f"Argument `{name}` must be a number {allowed}, got"
    if isinstance(value, (str, bytes, bytearray)):
        raise TypeError(f"{said} {shown(value)}.")
    try:
        number = float(value)
    except OverflowError:
        raise ValueError(f"{said} {shown(value)}.") from None
    except Exception:
        raise TypeError(f"{said} {shown(value)}.") from None
    if not 0.0 <= number <= greatest:
        raise ValueError(f"{said} {number}.")
    return number


def as_reduction(value: Any) -> int | None:
    """Return the kernels' code of a reduction, or None for ``Reduction.NONE``."""
    if isinstance(value, str):
        code = CODES.get(str.__str__(value))
        if code is not None:
            return code
    Reduction.validate(value)
    return None


def as_weights(value: ArrayLike, values: np.ndarray) -> tuple[float, np.ndarray | None]:
    """Return (scalar weight, None), or (1.0, array) for weights to be applied element by element.

    One finite weight, whatever its rank, can be applied to the sum; the product of an infinite
    one with a loss of 0 is NaN.
    """
    if isinstance(value, (float, int)):
        try:
            weight = float(value)
        except OverflowError:
            raise ValueError("Argument `weights` must be less than 1.8e308.") from None
    else:
        array = as_numbers(value, "weights")
        if array.ndim:
            _check_broadcastable(value, array.shape, values.shape)
        if array.size != 1:
            return 1.0, array
        weight = float(array.reshape(())[()])
    if math.isfinite(weight):
        return weight, None
    return 1.0, np.full((1,) * values.ndim, weight)


def as_sample_weight(value: Any, logits: np.ndarray) -> np.ndarray:
    """Return a weight for each example so that it goes along the first axis of the logits."""
    refuse_mask(
        value, "sample_weight", "`sample_weight.filled(0)`, which leaves out what is masked"
    )
    array = as_numbers(value, "sample_weight")
    rows = len(logits)
    if array.shape not in ((rows,), (rows, 1)):
        raise ValueError(
            f"Argument `sample_weight` must have a number for each example, the shape ({rows},), "
            f"got {array.shape}."
        )
    return array.reshape(-1, *[1] * (logits.ndim - 1))


def _check_broadcastable(
    given: ArrayLike, weights: tuple[int, ...], values: tuple[int, ...]
) -> None:
    """Refuse weights unless each dimension is 1 or that of the values: TensorFlow's rule."""
    said = f"weights can not be broadcast to values. values.shape={values}, weights.shape={weights}"
    if len(weights) != len(values):
        mend = (
            "Weights must be a scalar, or have as many dimensions as the values, each 1 or equal."
        )
        if len(weights) == 1 and values and weights == values[:1]:
            shape = ", ".join(["batch"] + ["1"] * (len(values) - 1))
            mended = reshaped(given, "weights", (-1,) + (1,) * (len(values) - 1))
            mend = f"One weight a batch entry must have the shape [{shape}]: {mended}."
        elif len(weights) < len(values) and weights == values[len(values) - len(weights) :]:
            one_each = (1,) * (len(values) - len(weights)) + weights
            mended = reshaped(given, "weights", one_each)
            mend = f"One weight a class must have the shape {list(one_each)}: {mended}."
        raise ValueError(f"{said}. {mend}")
    for axis, (weight, value) in enumerate(zip(weights, values, strict=True)):
        if weight not in (1, value):
            raise ValueError(
                f"{said}. Dimension {axis} of the weights must be 1 or {value}, not {weight}."
            )


def as_where(value: ArrayLike, values: np.ndarray) -> np.ndarray:
    """Return ``where``, which can be broadcast to the shape of the values, without a copy."""
    array = as_array(value, "where")
    if array.dtype != np.bool_:
        raise TypeError(
            f"Argument `where` must be bool, got {array.dtype.name}. Pass a comparison, for "
            "example `where != 0`."
        )
    return _broadcastable(value, array, "where", values)


def as_pos_weight(value: ArrayLike, values: np.ndarray) -> np.ndarray:
    """Return ``pos_weight``, which can be broadcast to the shape of the values, without a copy."""
    array = as_numbers(value, "pos_weight")
    return _broadcastable(value, array, "pos_weight", values)


def as_lasting_pos_weight(value: ArrayLike | None) -> np.ndarray | None:
    """Return a copy of ``pos_weight``, or None, for logits that are still to come."""
    if value is None:
        return None
    refuse_mask(value, "pos_weight", "`pos_weight.filled(1)`, which weighs as usual what is masked")
    pos_weight = np.array(as_array(value, "pos_weight"))
    return as_pos_weight(pos_weight, pos_weight)


def _broadcastable(
    given: ArrayLike, array: np.ndarray, name: str, values: np.ndarray
) -> np.ndarray:
    last = values.shape[values.ndim - array.ndim :] if array.ndim <= values.ndim else None
    if last is None or any(
        size not in (1, own) for size, own in zip(array.shape, last, strict=True)
    ):
        mend = "Its dimensions must be the last ones of the logits, or 1."
        if array.shape == values.shape[:1]:
            mended = reshaped(given, name, (-1,) + (1,) * (values.ndim - 1))
            mend = f"One value a batch entry goes along the first axis by {mended}."
        raise ValueError(
            f"Argument `{name}` of shape {array.shape} can not be broadcast to logits of shape "
            f"{values.shape}. {mend}"
        )
    return array


def as_out(
    given: Any,
    inputs: dict[int, np.ndarray],
    name: str = "out",
    shape: tuple[int, ...] | None = None,
) -> np.ndarray:
    """Return ``given`` as a plain array; refuse what can't hold results or is used otherwise.

    It may be the very array that holds the logits (or losses), unless the results are reduced and
    have a ``shape`` of their own.
    """
    values = inputs[LOGITS]
    if not isinstance(given, np.ndarray):
        raise TypeError(f"Argument `{name}` must be a NumPy array, got {type(given).__name__}.")
    if isinstance(given, np.ma.MaskedArray):
        raise TypeError(
            f"Argument `{name}` is a masked array, whose mask would be ignored. Pass `{name}.data`."
        )
    # A subclass may see its memory in ways of its own; a matrix has two dimensions whatever it is.
    out: np.ndarray = np.asarray(given)
    if out.shape != (values.shape if shape is None else shape):
        whose = "the shape of the logits" if shape is None else "the shape that `axis` leaves"
        raise ValueError(
            f"Argument `{name}` must have {whose}, got {out.shape} and "
            f"{values.shape if shape is None else shape}."
        )
    if out.dtype != values.dtype and out.dtype.newbyteorder("=") != values.dtype.newbyteorder("="):
        raise TypeError(
            f"Argument `{name}` must have the dtype of the logits, got {out.dtype} and "
            f"{values.dtype}."
        )
    if not out.flags.writeable:
        raise ValueError(f"Argument `{name}` must be writeable, got a read-only array.")
    if not out.flags.c_contiguous and _repeats_memory(out):
        raise ValueError(
            f"Argument `{name}` must not be a broadcast view or a like one: its elements share "
            "memory."
        )
    own = out.flags.owndata
    for row, other in inputs.items():
        # Neither do two that own their memory share it, nor others whose bounds don't overlap.
        if own and other is not out and other.flags.owndata:
            continue
        if not np.may_share_memory(out, other):
            continue
        apart = row == RESULT or shape is not None or not _same_memory(out, other)
        if apart and _overlap(out, other):
            mend = "the logits themselves or memory of its own" if shape is None else "other memory"
            raise ValueError(f"Argument `{name}` overlaps another argument. Pass {mend}.")
    return out


def _repeats_memory(array: np.ndarray) -> bool:
    """Tell whether an axis steps into what those with smaller steps span."""
    span = array.itemsize
    axes = zip(array.strides, array.shape, strict=True)
    for step, size in sorted((abs(step), size) for step, size in axes if size > 1):
        if step < span:
            return array.size > 0
        span += step * (size - 1)
    return False


def _same_memory(one: np.ndarray, two: np.ndarray) -> bool:
    return (
        one.__array_interface__["data"][0] == two.__array_interface__["data"][0]
        and one.strides == two.strides
        and one.shape == two.shape
        and one.itemsize == two.itemsize
    )


def _overlap(one: np.ndarray, two: np.ndarray) -> bool:
    try:
        return np.shares_memory(one, two, max_work=10_000)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True
