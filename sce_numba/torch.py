"""The loss as a function of PyTorch, on the CPU: of tensors, and with a gradient.

``pip install 'sce_numba[torch]'``.  In a training loop one line changes::

    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
    loss = sce_numba.torch.sigmoid_cross_entropy(labels, logits)

Loss and gradient come from one pass over memory, in the forward pass, without a copy.  The backward
pass multiplies that gradient in place by the incoming one, which costs nothing if that is 1, as it
is where ``backward()`` is called on the loss itself.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.autograd import forward_ad

from . import arguments, evaluation, losses
from .array_libraries import tensor_as_array
from .loss_sums import denominator_of_part, gradient_of_part
from .recycled_memory import memory_like
from .reduction import Reduction
from .type_hints import AnyReduction

__all__ = ["sigmoid_cross_entropy"]

_HALVES = torch.float16, torch.bfloat16
# PyTorch can't add up gradients of 8 bits.
_DTYPES = *_HALVES, torch.float32, torch.float64

# The scales of the last two gradients in 16 bits.  Loss scaling keeps a scale for many steps: if
# these two are equal, the next is expected to be, too, and is applied in the forward pass.
_scales = deque([1.0, 1.0], 2)


def sigmoid_cross_entropy(
    multi_class_labels: Any,
    logits: torch.Tensor,
    weights: Any = 1.0,
    label_smoothing: float = 0,
    reduction: AnyReduction = Reduction.SUM_BY_NONZERO_WEIGHTS,
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
        A number, or an array with the rank of logits whose every dimension is 1 or that of logits;
        or one dimension, which is that of the last axis of logits, as in PyTorch.
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
        If weights, pos_weight or where require a gradient; and as that of arrays does.
    RuntimeError
        Of PyTorch, if the graph is used after it was freed.

    Notes
    -----
    Weights are taken as constants; labels that require a gradient get theirs.  Forward mode and
    the transforms of ``torch.func`` work as they do for PyTorch's own loss.  With
    ``retain_graph=True`` the gradient is computed once more for every further backward pass.  The
    memory of the last large gradient is kept, and used again once nobody holds it.  No loss is
    recorded by ``collect_losses``.  ``torch.compile`` runs the call as it is, between the parts of
    the graph that it compiles.

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
        # NumPy and Numba can't be part of a graph.  (A decorator would import the compiler.)
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
    _refuse_exchanged(multi_class_labels, logits)
    if logits.dtype not in _DTYPES:
        raise TypeError(
            "Argument `logits` must be float16, bfloat16, float32 or float64, got "
            f"{logits.dtype}. Pass `logits.float()`."
        )
    operands["weights"] = _weights_of_classes(weights, logits)
    if logits.dtype in _HALVES and _autocasts():
        logits = logits.float()  # which is what PyTorch's own losses do there
    tensors = {k: v for k, v in operands.items() if isinstance(v, torch.Tensor)}
    rest = {k: v for k, v in operands.items() if k not in tensors}
    rest |= {"label_smoothing": label_smoothing, "reduction": reduction}
    return _apply(_Call(tuple(tensors), rest), logits, *tensors.values())


@dataclass
class _Call:
    """The arguments of a call that are not tensors, and the names of the tensors."""

    names: tuple[str, ...]  # of the tensors
    rest: dict[str, Any]
    plain: bool = True  # no tensor has a tangent or belongs to a transform

    def given(self, logits: torch.Tensor, *tensors: torch.Tensor) -> dict[str, Any]:
        """Return all arguments by name, as the functions for arrays take them."""
        by_name = {"logits": logits} | dict(zip(self.names, tensors, strict=True))
        part = _detached if self.plain else _primal
        arrays = {name: tensor_as_array(part(tensor)) for name, tensor in by_name.items()}
        return arrays | self.rest

    def tensors(self, *tensors: torch.Tensor) -> dict[str, Any]:
        """Return all arguments but the logits by name, with arrays as tensors."""
        given = self.rest | dict(zip(self.names, tensors, strict=True))
        for name in "multi_class_labels", "weights", "pos_weight", "where":
            value = given[name]
            if value is not None and not isinstance(value, torch.Tensor):
                array = arguments.as_array(value, name)
                dtype = np.bool_ if name == "where" else np.float64
                given[name] = torch.from_numpy(np.array(array, dtype))
        return given


def _autocasts() -> bool:
    try:
        return bool(torch.is_autocast_enabled("cpu"))
    except TypeError:  # before PyTorch 2.4
        return bool(torch.is_autocast_cpu_enabled())


def _detached(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach() if tensor.requires_grad else tensor


def _primal(tensor: torch.Tensor) -> torch.Tensor:
    return forward_ad.unpack_dual(tensor).primal.detach()


def _has_tangent(tensor: torch.Tensor) -> bool:
    return forward_ad.unpack_dual(tensor).tangent is not None


def _is_batch(tensor: torch.Tensor) -> bool:
    """Tell whether a tensor is batched by ``vmap``, and so has values that can't be read."""
    try:
        (tensor[..., :1].sum() if tensor.dim() else tensor).item()
    except RuntimeError:
        return True
    return False


def _check(tensor: torch.Tensor, name: str) -> None:
    if tensor.device.type != "cpu" or tensor.layout != torch.strided:
        raise TypeError(
            f"Argument `{name}` must be a strided tensor on the CPU, got one on {tensor.device}, "
            f"{tensor.layout}."
        )
    if name in ("weights", "pos_weight", "where") and tensor.requires_grad:
        raise ValueError(
            f"Argument `{name}` requires a gradient, but only logits and labels get one. Pass "
            f"`{name}.detach()`."
        )


def _refuse_exchanged(labels: Any, logits: torch.Tensor) -> None:
    """Refuse labels and logits in the order of PyTorch's own function: logits first."""
    if logits.requires_grad or not getattr(labels, "requires_grad", False):
        return
    try:
        exchanged = not logits.is_floating_point() or bool(
            ((logits >= 0) & (logits <= 1)).all() and ((labels < 0) | (labels > 1)).any()
        )
    except RuntimeError:  # of `vmap`: the values of a batch can't be looked at
        return
    if exchanged:
        raise ValueError(
            "Arguments `multi_class_labels` and `logits` seem to be exchanged: labels come first. "
            "The first argument requires a gradient and has values outside [0, 1], the second "
            "one looks like labels."
        )


def _weights_of_classes(weights: Any, logits: torch.Tensor) -> Any:
    """Return weights of the shape [classes] as [1, ..., 1, classes], and others as they are."""
    if isinstance(weights, (float, int)) or weights is None or logits.dim() < 2:
        return weights
    if not isinstance(weights, torch.Tensor):
        weights = arguments.as_array(weights, "weights")
    if weights.ndim == 1 and weights.shape[0] == logits.shape[-1]:
        return weights.reshape((1,) * (logits.dim() - 1) + (-1,))
    return weights


def _apply(call: _Call, logits: torch.Tensor, *tensors: torch.Tensor) -> torch.Tensor:
    """Return the loss, recorded in the graph of PyTorch if it may be differentiated."""
    function: type[_Function] = _Loss
    if torch._C._are_functorch_transforms_active():
        function, call = _TransformedLoss, replace(call, plain=False)
    elif any(map(_has_tangent, (logits, *tensors))):
        call = replace(call, plain=False)
    elif not torch.is_grad_enabled() or not (
        logits.requires_grad or any(tensor.requires_grad for tensor in tensors)
    ):
        return _value(call, logits, *tensors)
    loss: torch.Tensor = function.apply(logits, call, *tensors)
    return loss


class _Function(torch.autograd.Function):
    """The derivatives of the loss; two subclasses compute the loss itself."""

    @staticmethod
    def keep(ctx: Any, logits: torch.Tensor, call: _Call, *tensors: torch.Tensor) -> None:
        """Save what the derivatives are computed from."""
        ctx.call, ctx.kept = call, None
        ctx.save_for_backward(logits, *tensors)
        if not call.plain:
            ctx.save_for_forward(logits, *tensors)
        ctx.set_materialize_grads(False)  # a tangent of zeros is told from none

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        call = ctx.call
        of_logits = None
        of_tensors: list[torch.Tensor | None] = [None] * len(call.names)
        if grad_output is None:
            return None, None, *of_tensors
        if ctx.needs_input_grad[0]:
            of_logits = _gradient_of_logits(ctx, grad_output)
        if any(ctx.needs_input_grad[2:]):  # labels: all others are refused
            index = call.names.index("multi_class_labels")
            of_tensors[index] = _slopes(
                call, *ctx.saved_tensors, of="multi_class_labels", by=grad_output
            )
        return of_logits, None, *of_tensors

    @staticmethod
    def jvp(ctx: Any, of_logits: Any, _: None, *of_tensors: Any) -> torch.Tensor:
        call = ctx.call
        total: Any = 0
        for name, tangent in ("logits", of_logits), *zip(call.names, of_tensors, strict=True):
            if tangent is None:
                continue
            if name not in ("logits", "multi_class_labels"):
                raise ValueError(
                    f"Argument `{name}` has a tangent, but only logits and labels have a "
                    f"derivative. Pass `{name}` without one."
                )
            total = total + _slopes(call, *ctx.saved_tensors, of=name, by=tangent, wide=True)
        if call.rest["reduction"] != Reduction.NONE:
            total = total.sum()
        tangent_of_loss: torch.Tensor = total.to(ctx.saved_tensors[0].dtype)
        return tangent_of_loss


class _Loss(_Function):
    """The loss, with the gradient of the logits kept for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, logits: torch.Tensor, call: _Call, *tensors: torch.Tensor
    ) -> torch.Tensor:
        _Function.keep(ctx, logits, call, *tensors)
        scale = _expected_scale(call, logits)
        if scale is None or not (call.plain and ctx.needs_input_grad[0]):
            return _value(call, logits, *tensors)
        loss, gradient = _differentiate(call, scale, logits, *tensors)
        ctx.kept = scale, gradient
        return loss


class _TransformedLoss(_Function):
    """The loss in the form that the transforms of ``torch.func`` require.

    PyTorch inspects its signature at every call, which takes longer than a small loss.
    """

    @staticmethod
    def forward(logits: torch.Tensor, call: _Call, *tensors: torch.Tensor) -> torch.Tensor:
        return _value(call, logits, *tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        _Function.keep(ctx, *inputs)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], logits: torch.Tensor, call: _Call, *tensors: Any
    ) -> tuple[torch.Tensor, int]:
        dims = in_dims[0], *in_dims[2:]

        def one(index: int) -> torch.Tensor:
            parts = [
                part if dim is None else part.select(dim, index)
                for part, dim in zip((logits, *tensors), dims, strict=True)
            ]
            return _apply(replace(call, plain=True), *parts)

        return torch.stack([one(index) for index in range(info.batch_size)]), 0


def _expected_scale(call: _Call, logits: torch.Tensor) -> float | None:
    """Return the expected scale of the gradient, or None if it can't be foreseen."""
    if logits.dtype not in _HALVES:
        return 1.0
    if call.rest["reduction"] == Reduction.NONE or _scales[0] != _scales[1]:
        return None
    return _scales[1]


def _gradient_of_logits(ctx: Any, grad_output: torch.Tensor) -> torch.Tensor:
    call = ctx.call
    # The receiver may keep and change a gradient: each array is returned only once.
    kept, ctx.kept = ctx.kept, None
    further = torch.is_grad_enabled() or _has_tangent(grad_output)
    if further or not call.plain or _is_batch(grad_output):
        return _slopes(call, *ctx.saved_tensors, of="logits", by=grad_output)
    scale = None if grad_output.dim() else grad_output.item()
    folded = 1.0
    # Losses are scaled to keep gradients that are too small for float16.
    if grad_output.dtype in _HALVES:
        if scale is None:
            return _differentiate(call, grad_output, *ctx.saved_tensors)[1]
        if scale and math.isfinite(scale):
            folded = scale
        _scales.append(folded)
    if kept is None or kept[0] != folded:
        kept = folded, _differentiate(call, folded, *ctx.saved_tensors)[1]
    gradient: torch.Tensor = kept[1]
    return gradient if folded == scale else gradient.mul_(grad_output)


def _slopes(
    call: _Call,
    logits: torch.Tensor,
    *tensors: torch.Tensor,
    of: str,
    by: torch.Tensor,
    wide: bool = False,
) -> torch.Tensor:
    """Return the derivative of each weighted loss by its logit or label, times ``by``.

    It consists of operations of PyTorch, which can be differentiated and batched.  The result is
    rounded once, at the end, to the dtype of the logits or labels; never if ``wide``.
    """
    given = call.tensors(*tensors)
    labels, where = given["multi_class_labels"], given["where"]
    dtype = torch.float64 if logits.dtype is torch.float64 else torch.float32
    x, z = logits.to(dtype), labels.to(dtype)
    weights = torch.broadcast_to(given["weights"], logits.shape).double()
    if where is not None:  # what is excluded may be NaN
        x, z = torch.where(where, x, 0), torch.where(where, z, 0)
        weights = torch.where(where, weights, 0)
    smoothing = float(call.rest["label_smoothing"])
    z = z * (1 - smoothing) + smoothing / 2
    positives = 1 if given["pos_weight"] is None else given["pos_weight"].to(dtype)
    if of == "logits":
        # Free of cancellation for labels 0 and 1.
        slope = (1 - z) * torch.sigmoid(x) - positives * z * torch.sigmoid(-x)
        result = logits.dtype
    else:
        slope = (positives - 1) * torch.nn.functional.softplus(-x) - x
        slope = (1 - smoothing) * slope
        result = labels.dtype
    divisor = _denominator(weights, where, call.rest["reduction"])
    share = torch.where(divisor == 0, 0.0, weights / torch.where(divisor == 0, 1.0, divisor))
    slope = slope * (share * by.double()).to(dtype)
    if where is not None:
        slope = torch.where(where, slope, 0)
    return slope if wide else slope.to(result)


def _denominator(weights: torch.Tensor, where: Any, reduction: str) -> torch.Tensor:
    if reduction == Reduction.MEAN:
        return weights.sum()
    if reduction == Reduction.SUM_BY_NONZERO_WEIGHTS:
        return (weights != 0).sum().double()
    if reduction == Reduction.SUM_OVER_BATCH_SIZE:
        counted = torch.ones_like(weights) if where is None else torch.where(where, 1.0, 0.0)
        return torch.broadcast_to(counted, weights.shape).double().sum()
    if reduction not in (Reduction.SUM, Reduction.NONE):
        raise ValueError(f"There is no divisor for {reduction!r}.")
    return torch.ones((), dtype=torch.float64)


def _value(call: _Call, logits: torch.Tensor, *tensors: torch.Tensor) -> torch.Tensor:
    given = call.given(logits, *tensors)
    loss = losses.sigmoid_cross_entropy(**given, loss_collection=None)
    return _as_tensor(loss, logits)


def _differentiate(
    call: _Call, scale: float | torch.Tensor, logits: torch.Tensor, *tensors: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss, and its gradient times ``scale``, rounded once, in new memory.

    A scale for each loss is only for ``Reduction.NONE``, whose loss is then not valid.
    """
    given = call.given(logits, *tensors)
    if isinstance(scale, float) and scale == 1:
        loss, gradient = losses.sigmoid_cross_entropy_value_and_grad(
            **given, loss_collection=None, grad_out=memory_like(given["logits"])
        )
    else:
        loss, gradient = _scaled(scale, **given)
    return _as_tensor(loss, logits), _as_tensor(gradient, logits)


def _scaled(
    scale: float | torch.Tensor,
    multi_class_labels: Any,
    logits: np.ndarray,
    weights: Any,
    label_smoothing: float,
    reduction: Reduction | str,
    pos_weight: Any,
    where: Any,
) -> tuple[Any, np.ndarray]:
    divisor = 1.0
    if reduction == Reduction.NONE:
        weights = np.asarray(arguments.as_array(weights, "weights"), np.float64)
        weights = weights * (scale if isinstance(scale, float) else scale.double().numpy())
        scale = 1.0
    else:
        divisor = denominator_of_part(logits, weights, reduction, where=where)
    gradient, (total, _) = gradient_of_part(
        multi_class_labels,
        logits,
        weights,
        label_smoothing,
        divisor / scale,
        pos_weight=pos_weight,
        where=where,
    )
    return evaluation.as_scalar(total / divisor if divisor else 0.0, logits.dtype), gradient


def _as_tensor(result: Any, logits: torch.Tensor) -> torch.Tensor:
    """Return the memory of a result as a tensor."""
    if logits.dtype is torch.bfloat16:
        return torch.from_numpy(np.asarray(result).view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(np.asarray(result))
