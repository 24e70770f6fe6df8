"""The loss as a function of JAX, on the CPU, for ``jit``, ``grad`` and ``vmap``.

``pip install 'sce_numba[jax]'``.  In a training step one line changes::

    loss = optax.sigmoid_binary_cross_entropy(logits, labels).mean()
    loss = sce_numba.jax.sigmoid_cross_entropy(labels, logits)

Where the loss is differentiated, it and its gradient come from one pass over memory.  XLA calls the
kernels by its foreign function interface, without a copy (see ``xla``).
"""

from __future__ import annotations

import functools
import json
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from . import arguments, losses, xla
from .operands import add_weights, elements
from .reduction import Reduction
from .type_hints import AnyReduction

__all__ = ["sigmoid_cross_entropy"]

_NUMBERS = bool, int, float, np.bool_, np.number


def sigmoid_cross_entropy(
    multi_class_labels: Any,
    logits: Any,
    weights: Any = 1.0,
    label_smoothing: float = 0,
    reduction: AnyReduction = Reduction.SUM_BY_NONZERO_WEIGHTS,
    *,
    pos_weight: Any = None,
    where: Any = None,
) -> jax.Array:
    r"""Return the weighted, reduced sigmoid cross entropy as an array of JAX.

    The formula is that of ``sce_numba.sigmoid_cross_entropy``.

    Parameters
    ----------
    multi_class_labels : Array or array_like, the shape of logits
        Labels, usually 0, 1 or in between: bool, integer or float, of any dtype beside that of
        logits.
    logits : Array or array_like
        Log-odds on the CPU: a float of 8 to 64 bits (of 64 if JAX has them enabled), of any shape.
    weights : number, Array or array_like
        A number, or an array with the rank of logits whose every dimension is 1 or that of logits.
    label_smoothing : float
        From 0 to 1: moves labels towards 1/2.  A number, none that is traced.
    reduction : Reduction or str
        What becomes of the weighted losses.  The default is the mean over all elements whose
        weight is not 0.
    pos_weight : number, Array or array_like, optional
        The weight of positives, broadcast to logits by NumPy's rule.
    where : Array or array_like of bool, optional
        Elements to include, broadcast to logits by NumPy's rule.

    Returns
    -------
    Array
        Of the dtype of logits; without dimensions, or with ``Reduction.NONE`` in their shape.

    Raises
    ------
    TypeError
        If a dtype is not among the above, or label_smoothing is no number.
    ValueError
        If weights, pos_weight or where are differentiated; and as that of arrays does, when the
        call is traced.

    Notes
    -----
    Weights are taken as constants; logits and labels have derivatives of any order, forward and
    reverse.  Gradients of fewer than 32 bits are rounded once, after what comes in is multiplied
    in, so that loss scaling keeps small ones.  Under ``vmap`` every element of the batch is reduced
    by itself.  No loss is recorded by ``collect_losses``.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from sce_numba.jax import sigmoid_cross_entropy
    >>> labels = jnp.array([[1, 0], [0, 1]])
    >>> logits = jnp.array([[2.0, -1.0], [0.5, 3.0]])
    >>> step = jax.jit(jax.value_and_grad(sigmoid_cross_entropy, argnums=1))
    >>> loss, gradient = step(labels, logits)
    >>> print(round(float(loss), 5), gradient[0].round(4))
    0.36571 [-0.0298  0.0672]
    """
    operands = {
        "logits": logits,
        "multi_class_labels": multi_class_labels,
        "weights": weights,
        "pos_weight": pos_weight,
        "where": where,
    }
    numbers = {
        name: operands.pop(name)
        for name in ("weights", "pos_weight")
        if isinstance(operands[name], _NUMBERS)
    }
    arrays = {
        name: _as_jax(value, name)
        for name, value in operands.items()
        if value is not None or name not in ("pos_weight", "where")
    }
    _check(arrays, numbers, label_smoothing, reduction)
    rank = arrays["logits"].ndim
    call = _Call(
        names=tuple(arrays),
        reduction=Reduction(reduction).value,
        label_smoothing=float(label_smoothing),
        **{name: float(number) for name, number in numbers.items()},
    )
    # With equal ranks, they broadcast in the same way when `vmap` adds axes.
    full = (
        array if array.ndim == rank else array.reshape((1,) * (rank - array.ndim) + array.shape)
        for array in arrays.values()
    )
    return _evaluate(call, *full)


class _Call(NamedTuple):
    """The arguments of a call that are not arrays, and the names of the arrays."""

    names: tuple[str, ...]  # of the arrays, logits first, labels second
    reduction: str
    label_smoothing: float
    weights: float = 1.0
    pos_weight: float | None = None

    def given(self, *arrays: Any) -> dict[str, Any]:
        """Return all arguments by name, as the functions for arrays take them."""
        numbers = self._asdict()
        del numbers["names"]
        return numbers | {"where": None} | dict(zip(self.names, arrays, strict=True))


def _as_jax(value: Any, name: str) -> jax.Array:
    """Return an operand as an array of JAX, with the errors of the function for NumPy arrays."""
    return value if isinstance(value, jax.Array) else jnp.asarray(arguments.as_array(value, name))


def _check(
    arrays: dict[str, jax.Array], numbers: dict[str, Any], label_smoothing: Any, reduction: Any
) -> None:
    """Raise the errors of the function for NumPy arrays that depend on shapes and dtypes alone."""
    given = numbers | {
        name: np.broadcast_to(np.zeros((), array.dtype), array.shape)
        for name, array in arrays.items()
    }
    labels, logits = given.pop("multi_class_labels"), given.pop("logits")
    checked, _ = elements(labels, logits, label_smoothing)
    add_weights(checked, reduction=reduction, **given)


# ---- What XLA calls -------------------------------------------------------------------------


@functools.lru_cache(1024)
def _call_of(text: str) -> _Call:
    return _Call(*json.loads(text))


def _compute(text: str, operands: list[np.ndarray], results: list[np.ndarray]) -> None:
    """Write the loss, and the gradient if it is a result too, of each element of a batch."""
    call = _call_of(text)
    loss, *gradients = results
    if call.reduction == Reduction.NONE:  # nothing is reduced, and the batch is as good as one
        operands[:2] = (np.broadcast_to(array, loss.shape) for array in operands[:2])
        _write(call, operands, gradients, out=loss)
        return
    for index in np.ndindex(*loss.shape):
        operands_of_it = [_part(array, index) for array in operands]
        gradient_of_it = [_part(array, index) for array in gradients]
        loss[index] = _write(call, operands_of_it, gradient_of_it)


def _write(
    call: _Call,
    operands: list[np.ndarray],
    gradients: list[np.ndarray],
    out: np.ndarray | None = None,
) -> Any:
    given = call.given(*operands)
    if not gradients:
        return losses.sigmoid_cross_entropy(**given, loss_collection=None, out=out)
    loss, _ = losses.sigmoid_cross_entropy_value_and_grad(
        **given, loss_collection=None, out=out, grad_out=gradients[0]
    )
    return loss


def _part(array: np.ndarray, index: tuple[int, ...]) -> np.ndarray:
    """Return the part of an array for one element of a batch; axes of length 1 are shared."""
    indices = (k if size > 1 else 0 for k, size in zip(index, array.shape, strict=False))
    part: tuple[Any, ...] = (*indices, ...)  # with dots a view, whatever is left
    return array[part]


xla.register("sce_numba_loss", _compute)


def _call_xla(call: _Call, arrays: tuple[jax.Array, ...], *, differentiated: bool) -> Any:
    logits = arrays[0]
    shape = logits.shape if call.reduction == Reduction.NONE else ()
    results = [jax.ShapeDtypeStruct(shape, logits.dtype)]
    if differentiated:
        results.append(jax.ShapeDtypeStruct(logits.shape, logits.dtype))
    compute = jax.ffi.ffi_call("sce_numba_loss", results, vmap_method="expand_dims")
    return compute(*arrays, text=json.dumps(call))


# ---- Derivatives ----------------------------------------------------------------------------


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _loss(call: _Call, *arrays: jax.Array) -> jax.Array:
    loss: jax.Array = _call_xla(call, arrays, differentiated=False)[0]
    return loss


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _loss_and_gradient(call: _Call, *arrays: jax.Array) -> tuple[jax.Array, jax.Array]:
    loss, gradient = _call_xla(call, arrays, differentiated=True)
    return loss, gradient


_evaluate = jax.jit(_loss, static_argnums=0)


@functools.partial(_loss.defjvp, symbolic_zeros=True)
def _loss_jvp(call: _Call, arrays: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    _refuse_constants(call, tangents)
    logits, *rest = arrays
    if logits.dtype.itemsize < 4:
        # Losses are scaled to keep gradients that are too small for float16.
        loss = _loss(call, *arrays)
        _, gradient = _loss_and_gradient(call, logits.astype(jnp.float32), *rest)
    else:
        loss, gradient = _loss_and_gradient(call, *arrays)
    return loss, _change(call, arrays, tangents, gradient).astype(loss.dtype)


@functools.partial(_loss_and_gradient.defjvp, symbolic_zeros=True)
def _loss_and_gradient_jvp(call: _Call, arrays: Any, tangents: Any) -> Any:
    _refuse_constants(call, tangents)
    loss, gradient = _loss_and_gradient(call, *arrays)
    loss_tangent = _change(call, arrays, tangents, gradient).astype(loss.dtype)
    moving = [i for i in (0, 1) if _moves(tangents[i])]

    def slopes(*moved: jax.Array) -> jax.Array:
        operands = list(arrays)
        for i, array in zip(moving, moved, strict=True):
            operands[i] = array
        return _slopes(call, *operands)

    _, slope_tangent = jax.jvp(slopes, [arrays[i] for i in moving], [tangents[i] for i in moving])
    return (loss, gradient), (loss_tangent, slope_tangent.astype(gradient.dtype))


def _moves(tangent: Any) -> bool:
    return not isinstance(tangent, SymbolicZero)


def _refuse_constants(call: _Call, tangents: Any) -> None:
    for name, tangent in zip(call.names[2:], tangents[2:], strict=True):
        if _moves(tangent):
            raise ValueError(
                f"Argument `{name}` is differentiated, but only logits and labels have a "
                f"derivative. Pass `jax.lax.stop_gradient({name})`."
            )


def _change(call: _Call, arrays: Any, tangents: Any, gradient: jax.Array) -> jax.Array:
    """Return the tangent of the loss, or losses, from those of logits and labels."""
    of_logits, of_labels, *_ = tangents
    total = jnp.zeros_like(gradient)
    if _moves(of_logits):
        total = gradient * of_logits.astype(gradient.dtype)
    if _moves(of_labels):
        total = total + _label_slopes(call, *arrays) * of_labels.astype(gradient.dtype)
    return total if call.reduction == Reduction.NONE else total.sum()


def _slopes(call: _Call, *arrays: jax.Array) -> jax.Array:
    """Return the gradient as operations of JAX, which it can differentiate, unlike the kernels."""
    x, z, positives, share = _formula(call, *arrays)
    slopes: jax.Array = (1 - z) * jax.nn.sigmoid(x) - positives * z * jax.nn.sigmoid(-x)
    return slopes * share


def _label_slopes(call: _Call, *arrays: jax.Array) -> jax.Array:
    """Return the derivative of each weighted loss by its label."""
    x, _, positives, share = _formula(call, *arrays)
    slopes: jax.Array = (positives - 1) * jax.nn.softplus(-x) - x
    return slopes * share * (1 - call.label_smoothing)


def _formula(call: _Call, *arrays: jax.Array) -> tuple[Any, Any, Any, Any]:
    """Return logits, smoothed labels, weights of positives, and weights over the denominator."""
    given = call.given(*arrays)
    x, where = given["logits"], given["where"]
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    x, z = x.astype(dtype), given["multi_class_labels"].astype(dtype)
    weights = jnp.broadcast_to(jnp.asarray(given["weights"], dtype), x.shape)
    included = jnp.ones(x.shape, bool) if where is None else jnp.broadcast_to(where, x.shape)
    # Excluded elements may be NaN.
    x, z, weights = (jnp.where(included, part, 0) for part in (x, z, weights))
    z = z * (1 - call.label_smoothing) + call.label_smoothing / 2
    positives = 1 if given["pos_weight"] is None else jnp.asarray(given["pos_weight"], dtype)
    divisor = {
        Reduction.NONE: jnp.ones(()),
        Reduction.SUM: jnp.ones(()),
        Reduction.MEAN: weights.sum(),
        Reduction.SUM_BY_NONZERO_WEIGHTS: (weights != 0).sum(),
        Reduction.SUM_OVER_BATCH_SIZE: included.sum(),
    }[Reduction(call.reduction)]
    share = jnp.where(divisor == 0, 0, weights / jnp.where(divisor == 0, 1, divisor).astype(dtype))
    return x, z, positives, share
