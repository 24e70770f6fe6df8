"""The loss of this package in PyTorch, on the CPU: tensors in, a tensor with its gradient out.

``pip install 'sce_numba[torch]'``.  In a training loop one line changes::

    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
    loss = sce_numba.torch.sigmoid_cross_entropy(labels, logits)

Loss and gradient come from one pass over memory, in the forward pass, and nothing is copied.  The
backward pass multiplies that gradient in place by the one that comes in, which is no work at all if
it is 1, as it is where the loss is what ``backward()`` is called of.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch

from . import losses
from .array_libraries import tensor_as_array
from .kernels.parallel import one_thread
from .loss_sums import denominator_of_part
from .recycled_memory import memory_like
from .reduction import Reduction

__all__ = ["sigmoid_cross_entropy"]

# PyTorch has threads of its own, which go on spinning for a while after each of its operations, and
# so do Numba's.  Smaller losses than this are over before either give up the CPUs to the others.
_ENOUGH = 1 << 22


def sigmoid_cross_entropy(
    multi_class_labels: Any,
    logits: torch.Tensor,
    weights: Any = 1.0,
    label_smoothing: float = 0,
    reduction: Reduction | str = Reduction.SUM_BY_NONZERO_WEIGHTS,
    *,
    pos_weight: Any = None,
    where: Any = None,
) -> torch.Tensor:
    r"""Return the weighted, reduced sigmoid cross entropy as a tensor that can be differentiated.

    The formula is that of ``sce_numba.sigmoid_cross_entropy``.

    Parameters
    ----------
    multi_class_labels : Tensor or array_like, the shape of logits
        Labels, usually 0, 1 or in between: bool, integer or float, of any dtype beside that of
        logits.
    logits : Tensor
        Log-odds on the CPU: float16, bfloat16 (with ``ml_dtypes``), float32 or float64, of any
        shape and strides.
    weights : number, Tensor or array_like
        A number, or an array with the rank of logits whose every dimension is 1 or that of logits.
    label_smoothing : float
        From 0 to 1: moves labels towards 1/2.
    reduction : Reduction or str
        What becomes of the weighted losses.  The default is the mean over all elements whose
        weight is not 0.
    pos_weight : number, Tensor or array_like, optional
        The weight of positives, broadcast to logits by NumPy's rule.
    where : Tensor or array_like of bool, optional
        Elements to include, broadcast to logits by NumPy's rule.

    Returns
    -------
    Tensor
        Of the dtype of logits; without dimensions, or with ``Reduction.NONE`` in their shape.

    Raises
    ------
    TypeError
        If logits are no tensor, a tensor is not on the CPU or not strided, or a dtype is not among
        the above.
    ValueError
        If another tensor than logits requires a gradient; and as that of arrays does.
    RuntimeError
        Of PyTorch, if the graph is used after it was freed; and for a third derivative.

    Notes
    -----
    Weights are taken as constants, as are labels.  With ``retain_graph=True`` the gradient is
    computed once more for every further backward pass.  The memory of the last large gradient is
    kept, and used again once nobody holds it.  No loss is recorded by ``collect_losses``.
    ``torch.compile`` runs the call as it is, between the parts of the graph that it compiles.

    Examples
    --------
    >>> import torch
    >>> from sce_numba.torch import sigmoid_cross_entropy
    >>> logits = torch.tensor([[2.0, -1.0], [0.5, 3.0]], requires_grad=True)
    >>> loss = sigmoid_cross_entropy(torch.tensor([[1, 0], [0, 1]]), logits)
    >>> loss.backward()
    >>> round(loss.item(), 5), logits.grad[0]
    (0.36571, tensor([-0.0298,  0.0672]))
    """
    if torch.compiler.is_compiling():
        # NumPy and Numba are no part of a graph.  (To decorate would import the compiler.)
        return torch.compiler.disable(_evaluate)(
            multi_class_labels, logits, weights, label_smoothing, reduction, pos_weight, where
        )
    return _evaluate(
        multi_class_labels, logits, weights, label_smoothing, reduction, pos_weight, where
    )


def _evaluate(
    multi_class_labels: Any,
    logits: torch.Tensor,
    weights: Any,
    label_smoothing: float,
    reduction: Reduction | str,
    pos_weight: Any,
    where: Any,
) -> torch.Tensor:
    if not isinstance(logits, torch.Tensor):
        raise TypeError(
            f"Argument `logits` must be a PyTorch tensor, got {type(logits).__name__}. Use "
            "`sce_numba.sigmoid_cross_entropy` for arrays."
        )
    operands = {
        "multi_class_labels": multi_class_labels,
        "weights": weights,
        "pos_weight": pos_weight,
        "where": where,
    }
    for name, operand in ("logits", logits), *operands.items():
        if isinstance(operand, torch.Tensor):
            _check(operand, name)
    tensors = {k: v for k, v in operands.items() if isinstance(v, torch.Tensor)}
    rest = {k: v for k, v in operands.items() if k not in tensors}
    rest |= {"label_smoothing": label_smoothing, "reduction": reduction}
    if logits.requires_grad and torch.is_grad_enabled():
        loss: torch.Tensor = _Loss.apply(logits, tuple(tensors), rest, *tensors.values())
        return loss
    given = _arrays(tensors, logits) | rest
    with _threads_for(logits):
        loss = losses.sigmoid_cross_entropy(**given, loss_collection=None)
    return _as_tensor(loss, logits)


def _threads_for(logits: torch.Tensor) -> AbstractContextManager[None]:
    return one_thread() if logits.numel() < _ENOUGH else nullcontext()


def _check(tensor: torch.Tensor, name: str) -> None:
    if tensor.device.type != "cpu" or tensor.layout != torch.strided:
        raise TypeError(
            f"Argument `{name}` must be a strided tensor on the CPU, got one on {tensor.device}, "
            f"{tensor.layout}."
        )
    if name != "logits" and tensor.requires_grad:
        raise ValueError(
            f"Argument `{name}` requires a gradient, but only logits get one. Pass "
            f"`{name}.detach()`."
        )


class _Loss(torch.autograd.Function):
    """The loss, which leaves the gradient of the logits for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: torch.Tensor,
        names: tuple[str, ...],
        rest: dict[str, Any],
        *tensors: torch.Tensor,
    ) -> torch.Tensor:
        ctx.names, ctx.rest = names, rest
        ctx.save_for_backward(logits, *tensors)
        loss, ctx.gradient = _differentiate(names, rest, logits, *tensors)
        return loss

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        constants = None, None, *[None] * len(ctx.names)
        if torch.is_grad_enabled():  # to be differentiated once more
            logits, *tensors = ctx.saved_tensors
            again = _Gradient.apply(logits, grad_output, ctx.names, ctx.rest, *tensors)
            return again, *constants
        # Whoever gets a gradient may keep and change it: each is given away once.
        gradient, ctx.gradient = ctx.gradient, None
        if gradient is None:
            _, gradient = _differentiate(ctx.names, ctx.rest, *ctx.saved_tensors)
        return _scaled(gradient, grad_output), *constants


class _Gradient(torch.autograd.Function):
    """The gradient of the logits, to be differentiated."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: torch.Tensor,
        grad_output: torch.Tensor,
        names: tuple[str, ...],
        rest: dict[str, Any],
        *tensors: torch.Tensor,
    ) -> torch.Tensor:
        ctx.names, ctx.rest = names, rest
        ctx.save_for_backward(logits, grad_output, *tensors)
        return _scaled(_differentiate(names, rest, logits, *tensors)[1], grad_output)

    @staticmethod
    def backward(ctx: Any, direction: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("`sigmoid_cross_entropy` has no third derivative.")
        logits, grad_output, *tensors = ctx.saved_tensors
        given = _arrays(dict(zip(ctx.names, tensors, strict=True)), logits) | ctx.rest
        reduction = given.pop("reduction")
        found = losses.sigmoid_cross_entropy_gradient_hessian(**given)
        gradient, hessian = (_as_tensor(result, logits) for result in found)
        if reduction != Reduction.NONE:
            divisor = denominator_of_part(
                given["logits"], given["weights"], reduction, where=given["where"]
            )
            direction = direction / divisor if divisor else torch.zeros_like(direction)
        along = direction * gradient
        if along.dim() > grad_output.dim():
            along = along.sum()
        constants = [None] * (2 + len(ctx.names))
        return direction * grad_output * hessian, along, *constants


def _scaled(gradient: torch.Tensor, grad_output: torch.Tensor) -> torch.Tensor:
    if grad_output.dim() or grad_output.item() != 1:
        gradient.mul_(grad_output)
    return gradient


def _differentiate(
    names: tuple[str, ...], rest: dict[str, Any], logits: torch.Tensor, *tensors: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss, and its gradient in memory of its own."""
    given = _arrays(dict(zip(names, tensors, strict=True)), logits) | rest
    with _threads_for(logits):
        loss, gradient = losses.sigmoid_cross_entropy_value_and_grad(
            **given, loss_collection=None, grad_out=memory_like(given["logits"])
        )
    return _as_tensor(loss, logits), _as_tensor(gradient, logits)


def _arrays(tensors: dict[str, torch.Tensor], logits: torch.Tensor) -> dict[str, Any]:
    """Return the memory of tensors as arrays, by the names of the arguments."""
    tensors = tensors | {"logits": logits.detach()}
    return {name: tensor_as_array(tensor) for name, tensor in tensors.items()}


def _as_tensor(result: Any, logits: torch.Tensor) -> torch.Tensor:
    """Return the memory of a result as a tensor."""
    if logits.dtype is torch.bfloat16:
        return torch.from_numpy(np.asarray(result).view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(np.asarray(result))
