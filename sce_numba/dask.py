"""The functions of this package on Dask arrays: results are lazy, as Dask's own are.

The public functions come here by themselves when logits, labels, weights, ``where`` or
``pos_weight`` are Dask arrays; there is nothing to call.  ``pip install 'sce_numba[dask]'``, on
worker processes as well.

=====================  ===========================================================================
element by element     blocks in, blocks out: the function itself, block by block
a reduced loss         a pair of sums for each block (``LossSums``), merged in a tree without
                       rounding, divided at its root: within 1 ULP of the loss in memory, and
                       the same bits in every run, whatever the scheduler
its gradient as well   the denominator first, from weights and ``where`` alone; then sum and
                       gradient of each block in one pass
a loss along axes      the same for each column of blocks: its sums are merged along these axes
a loss by group        the same for each group, with sums of all groups for each block
=====================  ===========================================================================

A graph has a few tasks for each block.  Operands are rechunked as the logits are; a weight that is
broadcast stays as small as it is.  Arguments are checked when the graph is built, with the errors
of the functions on NumPy arrays.  Chunks of unknown sizes (NaN) are taken as they are, if all
operands have as many of them, and their shapes are checked when they are computed: a block that
happens to have one row is not broadcast.

Examples
--------
>>> import dask.array as da
>>> import sce_numba as sce
>>> logits = da.linspace(-2.0, 2.0, 1000, chunks=100)
>>> loss = sce.sigmoid_cross_entropy(logits > 0.5, logits)
>>> loss
dask.array<..., shape=(), dtype=float64, ...>
>>> print(round(float(loss.compute()), 6))
0.37679
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable
from operator import itemgetter
from typing import Any

import dask.array as da
import numpy as np
from dask.utils import funcname

from . import arguments, nn
from .array_libraries import readable
from .axes import Axes, are_given, differentiate, given_axes
from .evaluation import as_scalar, result_like
from .focal import formula_of, sigmoid_focal_cross_entropy_value_and_grad
from .groups import as_codes, as_number, sums_of_grouped_losses, sums_of_groups
from .groups import differentiate as differentiate_groups
from .kernels import view
from .loss_collections import is_recorded, record
from .loss_sums import (
    LossSums,
    denominator_of_part,
    gradient_of_part,
    sums_of_losses,
    sums_of_part,
)
from .losses import (
    compute_weighted_loss,
    sigmoid_cross_entropy_gradient_hessian,
    sigmoid_cross_entropy_value_and_grad,
)
from .operands import add_weights, checked, elements
from .reduction import Reduction
from .sums_along import SumsAlong, sums_along, sums_of_losses_along

# The operands of all functions: the others are aligned with the first that is given.
_OPERANDS = "logits", "losses", "labels", "multi_class_labels", "weights", "where", "pos_weight"
# The operands that may be broadcast; the functions themselves compare the shapes of the others.
_BROADCAST = "weights", "where", "pos_weight", "groups"
# A size that stands for unknown ones while arguments are checked.
_UNKNOWN = 2
# The functions that return two arrays.
_PAIRS = (
    sigmoid_cross_entropy_value_and_grad,
    sigmoid_cross_entropy_gradient_hessian,
    sigmoid_focal_cross_entropy_value_and_grad,
)
Operands = dict[str, Any]


def call(
    function: Callable[..., Any],
    *,
    scope: str | None = None,
    loss_collection: str | None = None,
    **given: Any,
) -> Any:
    """Return the lazy result of a public function.

    Parameters
    ----------
    function : callable
        A public function of this package.
    scope, loss_collection
        As in ``sigmoid_cross_entropy``: the lazy loss is recorded.
    **given
        Its other arguments, by name; at least one operand is a Dask array.

    Returns
    -------
    dask.array.Array, or two of them
        Of the dtypes and shapes that the function returns for NumPy arrays.

    Raises
    ------
    ValueError, TypeError
        As the function does; ValueError also if chunks of unknown sizes can't be aligned, and
        TypeError if ``out``, ``grad_out`` or ``hess_out`` is given.
    """
    for name in ("out", "grad_out", "hess_out"):
        if given.pop(name, None) is not None:
            raise TypeError(
                f"Argument `{name}` can't be given with Dask arrays, whose results are lazy."
            )
    operands = {name: given.pop(name) for name in _OPERANDS if name in given}
    groups, num_groups = given.pop("groups", None), given.pop("num_groups", None)
    axes = _check(function, operands, **given)
    if groups is not None:
        operands["groups"], num_groups = _codes(groups, num_groups, next(iter(operands.values())))
    by_axis = "axis" in given
    for name in ("axis", "keepdims"):
        given.pop(name, None)
    operands = _aligned(operands)
    if groups is not None:
        result = _by_group(function, operands, num_groups, **given)
    elif by_axis:
        result = _along(function, operands, axes, **given)
    elif axes is None:
        result = _elements(function, operands, given)
    elif function is compute_weighted_loss:
        result = _loss(sums_of_losses, operands, **given)
    else:
        if "multi_class_labels" in operands:
            operands["labels"] = operands.pop("multi_class_labels")
        if "gamma" in given:
            given["formula"] = formula_of(given.pop("alpha"), given.pop("gamma"))
        if function in _PAIRS:
            result = _loss_and_gradient(operands, **given)
        else:
            result = _loss(sums_of_part, operands, **given)
    loss = result[0] if isinstance(result, tuple) else result
    several = (by_axis or groups is not None) and loss.ndim > 0
    record(loss, scope, loss_collection, given.get("reduction"), several=several)
    return result


# ---- Arguments ------------------------------------------------------------------------------


def _check(
    function: Callable[..., Any],
    operands: Operands,
    label_smoothing: float = 0,
    reduction: Reduction | str = Reduction.NONE,
    axis: Any = None,
    keepdims: bool = False,
    dim: Any = None,
    **_parameters: Any,
) -> Axes | None:
    """Check all arguments as for NumPy arrays; return the axes to reduce, None for no reduction."""
    _check_unknown_sizes(operands)
    stand_ins = {name: _stand_in(operand, name) for name, operand in operands.items()}
    if "losses" in stand_ins:
        arrays = {view.LOGITS: arguments.as_floats(stand_ins["losses"], "losses")}
    else:
        name = "labels" if "labels" in stand_ins else "multi_class_labels"
        arrays, _ = elements(stand_ins[name], stand_ins["logits"], label_smoothing, name)
    pos_weight, where = stand_ins.get("pos_weight"), stand_ins.get("where")
    code, _ = add_weights(arrays, stand_ins.get("weights", 1.0), reduction, pos_weight, where)
    if function is nn.weighted_cross_entropy_with_logits:
        arguments.as_array(pos_weight, "pos_weight")
    if code is None and not are_given(axis, keepdims):
        return None
    return given_axes(arrays, code, axis, keepdims, dim)[0]


def _codes(groups: Any, num_groups: Any, values: Any) -> tuple[Any, int]:
    """Return groups with as many axes as the values, and the number of groups."""
    if not isinstance(groups, da.Array):
        return as_codes(groups, num_groups, values.shape)
    if groups.dtype.kind not in "iu":
        raise TypeError(f"Argument `groups` must be integer, got {groups.dtype.name}.")
    if num_groups is None:
        raise ValueError("Argument `num_groups` must be given with groups that are a Dask array.")
    num_groups, shape = as_number(num_groups), groups.shape
    if groups.ndim == 1 and values.ndim and shape == values.shape[:1]:
        return groups.reshape(shape + (1,) * (values.ndim - 1)), num_groups
    return groups.reshape((1,) * (values.ndim - groups.ndim) + shape), num_groups


def _stand_in(operand: Any, name: str) -> Any:
    """Return an array that takes no memory, with the shape and dtype of a Dask array."""
    if not isinstance(operand, da.Array):
        return operand
    if not isinstance(operand._meta, np.ndarray):
        raise TypeError(
            f"Argument `{name}` must have blocks that are NumPy arrays, got "
            f"{type(operand._meta).__name__}."
        )
    # Unknown sizes stand for each other.
    shape = [_UNKNOWN if math.isnan(size) else size for size in operand.shape]
    array = np.broadcast_to(np.zeros((), operand.dtype), shape)
    return np.ma.masked_array(array) if isinstance(operand._meta, np.ma.MaskedArray) else array


def _check_unknown_sizes(operands: Operands) -> None:
    """Refuse operands that can't be aligned, block by block, with chunks of unknown sizes."""
    counts: dict[int, int] = {}
    for operand in operands.values():
        if isinstance(operand, da.Array):
            for axis, chunks in enumerate(reversed(operand.chunks)):
                if math.isnan(sum(chunks)):
                    counts.setdefault(axis, len(chunks))
    if not counts:
        return
    for name, operand in operands.items():
        shape = () if operand is None else np.shape(operand)
        for axis, size in enumerate(reversed(shape)):
            fits = size == 1 or (
                math.isnan(size) and len(operand.chunks[len(shape) - 1 - axis]) == counts[axis]
            )
            if axis in counts and not fits:
                raise ValueError(
                    f"Argument `{name}` can't be aligned with chunks of unknown sizes. Call "
                    "`compute_chunk_sizes()` of the arrays that have them."
                )


def _aligned(operands: Operands) -> Operands:
    """Return numbers as NumPy arrays, and arrays as Dask arrays with matching chunks; drop None."""
    given = {name: _array(operand) for name, operand in operands.items() if operand is not None}
    shape = next(iter(given.values())).shape
    chunks = [_chunks(given, axis, size) for axis, size in enumerate(reversed(shape), 1)][::-1]
    aligned = {
        name: _rechunked(operand, chunks[len(shape) - operand.ndim :]) if operand.ndim else operand
        for name, operand in given.items()
    }
    first = next(iter(aligned))
    return aligned | {first: da.asarray(aligned[first])}


def _array(operand: Any) -> Any:
    if isinstance(operand, da.Array):
        return operand
    return np.asarray(float(operand) if isinstance(operand, (int, float)) else readable(operand))


def _chunks(operands: Operands, axis: int, size: float) -> tuple[float, ...]:
    """Return the chunks of the first operand of that size along an axis, counted from the last."""
    for operand in operands.values():
        if isinstance(operand, da.Array) and operand.ndim >= axis:
            chunks: tuple[float, ...] = operand.chunks[-axis]
            if operand.shape[-axis] == size or math.isnan(size):
                return chunks
    return (size,)


def _rechunked(operand: Any, chunks: list[tuple[float, ...]]) -> da.Array:
    """Return an operand with these chunks; an axis that is broadcast stays in one chunk."""
    target = [(1,) if size == 1 else cut for size, cut in zip(operand.shape, chunks, strict=True)]
    if not isinstance(operand, da.Array):
        return da.from_array(operand, chunks=tuple(target))
    different = {
        axis: cut
        for axis, cut in enumerate(target)
        if operand.chunks[axis] != cut and not math.isnan(operand.shape[axis])
    }
    return operand.rechunk(different) if different else operand


# ---- Graphs ---------------------------------------------------------------------------------


def _blockwise(
    function: Callable[..., Any], operands: Operands, dtype: Any, one: bool = False, **fixed: Any
) -> da.Array:
    """Return the lazy results of a function for each block of the operands, passed by name.

    With ``one``, each block of the result has one element.
    """
    values = next(iter(operands.values()))
    axes = tuple(range(values.ndim))
    lazy = {name: operand for name, operand in operands.items() if isinstance(operand, da.Array)}
    fixed |= {name: operand for name, operand in operands.items() if name not in lazy}
    indices = [axes[len(axes) - operand.ndim :] for operand in lazy.values()]
    broadcast = {
        name: _broadcast_axes(operand, values)
        for name, operand in lazy.items()
        if name in _BROADCAST
    }
    return da.blockwise(
        functools.partial(_call_by_name, function, tuple(lazy), fixed, broadcast),
        axes,
        *itertools.chain(*zip(lazy.values(), indices, strict=True)),
        dtype=dtype,
        meta=np.empty((0,) * len(axes), dtype),
        adjust_chunks=dict.fromkeys(axes, 1) if one else None,
        align_arrays=False,
        token=funcname(function).strip("_"),  # what the tasks are called
    )


def _broadcast_axes(operand: da.Array, values: da.Array) -> tuple[int, ...]:
    """Return the axes, counted from the last, along which the whole operand is broadcast.

    An unknown size is not 1, though a block may turn out to have one row.
    """
    return tuple(
        axis
        for axis in range(-operand.ndim, 0)
        if operand.shape[axis] == 1 and values.shape[axis] != 1
    )


def _call_by_name(
    function: Callable[..., Any],
    names: tuple[str, ...],
    fixed: dict[str, Any],
    broadcast: dict[str, tuple[int, ...]],
    *blocks: Any,
) -> Any:
    given = dict(zip(names, blocks, strict=True))
    shape = np.shape(blocks[0])
    for name, axes in broadcast.items():
        sizes = np.shape(given[name])
        fitting = tuple(1 if axis in axes else shape[axis] for axis in range(-len(sizes), 0))
        if sizes != fitting:
            raise ValueError(
                f"Argument `{name}` has a block of shape {sizes} beside one of `{names[0]}` of "
                f"shape {shape}, where it must have the shape {fitting}: only an axis whose whole "
                f"length is 1 is broadcast. Filter `{name}` by the mask that filters "
                f"`{names[0]}`, and have its chunks hold as many rows as they declare."
            )
    return function(**given, **fixed)


def _elements(function: Callable[..., Any], operands: Operands, options: dict[str, Any]) -> Any:
    """Return the lazy result of a function that works element by element."""
    dtype = _dtype(operands)
    if is_recorded(function):
        # Blocks may be computed inside `collect_losses`, which must not record them.
        options = options | {"loss_collection": None}
    if function not in _PAIRS:
        return _blockwise(function, operands, dtype, **options)
    pairs = _blockwise(function, operands, object, **options)
    return _item(pairs, 0, dtype), _item(pairs, 1, dtype)


def _item(pairs: da.Array, index: int, dtype: Any) -> da.Array:
    """Return one of the arrays that each block of ``pairs`` holds."""
    meta = np.empty((0,) * pairs.ndim, dtype)
    return pairs.map_blocks(itemgetter(index), dtype=dtype, meta=meta)


def _dtype(operands: Operands) -> np.dtype[Any]:
    dtype: np.dtype[Any] = next(iter(operands.values())).dtype
    return dtype if dtype.isnative else dtype.newbyteorder("=")


def _loss(sums: Callable[..., LossSums], operands: Operands, **options: Any) -> da.Array:
    """Return the lazy loss; the function ``sums`` returns the sums of a block."""
    parts = _blockwise(
        functools.partial(_block_of_sums, sums), operands, object, one=True, **options
    )
    return _divided(parts, options["reduction"], _dtype(operands))


def _loss_and_gradient(
    operands: Operands, reduction: Reduction | str, **options: Any
) -> tuple[da.Array, da.Array]:
    """Return the lazy loss and gradient: each block of logits is read once."""
    logits, dtype = operands["logits"], _dtype(operands)
    counted = {name: operands[name] for name in operands if name in ("logits", "weights", "where")}
    # Only the shape of the logits matters, if it is known.
    if not math.isnan(logits.size):
        counted["logits"] = da.zeros(logits.shape, chunks=logits.chunks, dtype=logits.dtype)
    parts = _blockwise(_block_of_denominator, counted, object, one=True, reduction=reduction)
    divisor = _tree(parts, _identity, object)
    pairs = _blockwise(
        _block_of_gradient,
        {**operands, "divisor": divisor},
        object,
        reduction=reduction,
        **options,
    )
    numerators = pairs.map_blocks(
        itemgetter(1),
        dtype=object,
        chunks=tuple((1,) * count for count in pairs.numblocks),
        meta=np.empty((0,) * pairs.ndim, object),
    )
    # The numerators come without the denominator.
    loss = _divided(numerators, reduction, dtype, divisor)
    return loss, _item(pairs, 0, dtype)


def _along(
    function: Callable[..., Any],
    operands: Operands,
    axes: Any,
    reduction: Reduction | str,
    label_smoothing: float = 0,
) -> Any:
    """Return the lazy losses along axes, with their gradient if the function returns one."""
    if "multi_class_labels" in operands:
        operands = {**operands, "labels": operands["multi_class_labels"]}
        del operands["multi_class_labels"]
    values, dtype = next(iter(operands.values())), _dtype(operands)
    options: dict[str, Any] = {"reduction": reduction}
    sums: Callable[..., SumsAlong] = sums_of_losses_along
    if function is not compute_weighted_loss:
        sums, options = sums_along, options | {"label_smoothing": label_smoothing}
    block = functools.partial(_block_of_sums, functools.partial(sums, axes.reduced, True))
    parts = _blockwise(block, operands, object, one=True, **options)
    total = da.reduction(
        parts,
        chunk=_unchanged,
        combine=_merge_blocks_along,
        aggregate=_merge_blocks_along,
        axis=axes.reduced,
        keepdims=True,
        dtype=object,
        meta=np.empty((0,) * parts.ndim, object),
    )
    chunks = tuple((1,) if axis in axes.reduced else cut for axis, cut in enumerate(values.chunks))
    losses = total.map_blocks(
        _quotients,
        reduction,
        dtype,
        dtype=dtype,
        chunks=chunks,
        meta=np.empty((0,) * parts.ndim, dtype),
    )
    if not axes.keepdims:
        losses = losses.squeeze(axes.reduced)
    if function is not sigmoid_cross_entropy_value_and_grad:
        return losses
    gradient = _blockwise(
        functools.partial(_gradient_of_sums, None),
        {**operands, "divisor": total},
        dtype,
        **options,
    )
    return losses, gradient


def _by_group(
    function: Callable[..., Any],
    operands: Operands,
    num_groups: int,
    reduction: Reduction | str,
    label_smoothing: float = 0,
) -> Any:
    """Return the lazy loss of each group, with their gradient if the function returns one."""
    options: dict[str, Any] = {"reduction": reduction}
    sums: Callable[..., SumsAlong] = sums_of_grouped_losses
    if function is not compute_weighted_loss:
        sums, options = sums_of_groups, options | {"label_smoothing": label_smoothing}
        names = {"multi_class_labels": "labels"}
        operands = {names.get(name, name): operand for name, operand in operands.items()}
    block = functools.partial(_block_of_sums, functools.partial(sums, num_groups))
    parts = _blockwise(block, operands, object, one=True, **options)
    dtype = _dtype(operands)
    total = da.reduction(
        parts,
        chunk=_unchanged,
        combine=_merge_blocks_along,
        aggregate=_merge_all,
        dtype=object,
        meta=np.empty((), object),
    )
    losses = da.blockwise(
        functools.partial(_quotients, reduction=reduction, dtype=dtype),
        (0,),
        total,
        (),
        new_axes={0: num_groups},
        dtype=dtype,
        meta=np.empty((0,), dtype),
    )
    if function is not sigmoid_cross_entropy_value_and_grad:
        return losses
    gradient = _blockwise(
        functools.partial(_gradient_of_sums, num_groups),
        {**operands, "divisor": total},
        dtype,
        **options,
    )
    return losses, gradient


def _divided(
    parts: da.Array, reduction: Reduction | str, dtype: Any, divisor: da.Array | None = None
) -> da.Array:
    """Return the lazy loss from the sums of all blocks and, if given, of ``divisor``."""
    finish = functools.partial(_quotient, reduction=reduction, dtype=dtype)
    if divisor is None:
        return _tree(parts, finish, dtype)
    total = _tree(parts, _identity, object)
    return da.blockwise(finish, (), total, (), divisor, (), dtype=dtype, meta=np.empty((), dtype))


def _tree(parts: da.Array, finish: Callable[[LossSums], Any], dtype: Any) -> da.Array:
    """Merge the sums of all blocks in a tree; return what ``finish`` makes of the result."""
    return da.reduction(
        parts,
        chunk=_unchanged,
        combine=_merge_blocks,
        aggregate=functools.partial(_finish, finish),
        dtype=dtype,
        meta=np.empty((), dtype),
    )


# ---- Blocks ---------------------------------------------------------------------------------


def _block(sums: Any, dimensions: int) -> np.ndarray:
    """Return an array that holds sums as its only element."""
    block = np.empty((1,) * dimensions, object)
    block[...] = sums
    return block


def _block_of_sums(function: Callable[..., Any], **given: Any) -> np.ndarray:
    return _block(function(**given), _first(given).ndim)


def _block_of_denominator(logits: np.ndarray, **given: Any) -> np.ndarray:
    return _block(LossSums(0.0, denominator_of_part(logits, **given)), logits.ndim)


def _block_of_gradient(
    logits: np.ndarray, divisor: LossSums, reduction: Reduction | str, **given: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Return the gradient of a block, and the sum of its losses."""
    denominator = 1.0 if reduction == Reduction.SUM else float(divisor.denominator)
    gradient, (numerator, lost) = gradient_of_part(logits=logits, denominator=denominator, **given)
    return gradient, _block(LossSums(numerator, lost=lost), logits.ndim)


def _merge_blocks_along(blocks: np.ndarray, **_: Any) -> np.ndarray:
    return _block(_merge_all(blocks), blocks.ndim)


def _merge_all(blocks: np.ndarray, **_: Any) -> SumsAlong:
    result = SumsAlong()
    for part in blocks.flat:
        result.merge(part)
    return result


def _quotients(block: Any, reduction: str, dtype: np.dtype[Any]) -> np.ndarray:
    losses: np.ndarray = _only(block).loss(reduction)
    rounded = [as_scalar(value, dtype) for value in losses.ravel().tolist()]
    return np.array(rounded, dtype).reshape(losses.shape)


def _gradient_of_sums(
    num_groups: int | None,
    labels: np.ndarray,
    logits: np.ndarray,
    divisor: Any,
    reduction: Reduction | str,
    label_smoothing: float,
    weights: Any = 1.0,
    groups: Any = None,
    **given: Any,
) -> np.ndarray:
    """Return the gradient of a block, given the sums of all losses that it contributes to.

    These are the losses along axes or, with ``num_groups``, those of all groups.
    """
    operands = checked(labels, logits, weights, label_smoothing, reduction, **given)
    denominators = _only(divisor).denominators(reduction)
    gradient = result_like(operands[0][view.LOGITS])
    if num_groups is None:
        differentiate(operands, denominators, gradient)
    else:
        codes, _ = as_codes(groups, num_groups, np.shape(logits))
        differentiate_groups(operands, codes, denominators, gradient)
    return gradient


def _only(block: Any) -> Any:
    """Return the sums in a block, which Dask may have unpacked already."""
    return block.item() if isinstance(block, np.ndarray) else block


def _first(given: dict[str, Any]) -> Any:
    return given["losses"] if "losses" in given else given["logits"]


def _merged(parts: Iterable[LossSums]) -> LossSums:
    result = LossSums()
    for part in parts:
        result.merge(part)
    return result


def _unchanged(block: np.ndarray, **_: Any) -> np.ndarray:
    return block


def _merge_blocks(blocks: np.ndarray, **_: Any) -> np.ndarray:
    return _block(_merged(blocks.flat), blocks.ndim)


def _finish(finish: Callable[[LossSums], Any], blocks: np.ndarray, **_: Any) -> Any:
    return finish(_merged(blocks.flat))


def _identity(sums: LossSums) -> LossSums:
    return sums


def _quotient(*sums: LossSums, reduction: Reduction | str, dtype: np.dtype[Any]) -> Any:
    return as_scalar(_merged(sums).loss(reduction), dtype)
