"""How compiled code calls a public function: by its signature in Python, which is the only one."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from numba import TypingError, njit, types
from numba.extending import lower_builtin

from .kernels.frame import CALLED
from .kernels.numba_internals import AbstractTemplate, infer_global
from .reduction import Reduction

# One name for what is called otherwise in some functions.
_NAMES = {"multi_class_labels": "labels", "losses": "logits"}
# What holds in functions that have no such arguments.
_ABSENT = {
    "labels": None,
    "weights": 1.0,
    "label_smoothing": 0.0,
    "reduction": Reduction.NONE,
    "pos_weight": None,
    "where": None,
    "parameters": None,
    "axis": None,
    "keepdims": False,
}


def is_given(value: Any) -> bool:
    """Tell whether there is a value, from its type, or from itself where it is a default."""
    return not (value is None or isinstance(value, types.NoneType))


def compiled(function: Callable[..., Any], **options: Any) -> Any:
    """Return a function for compiled code to call, which has options of its own."""
    return njit(**CALLED | options)(function)


def public(function: Callable[..., Any], *known: str) -> Callable[..., Any]:
    """Let compiled code call a public function; what is decorated chooses what that runs.

    It is told the types of what is given, and the values of what is not, and returns a function
    from ``compiled``, which takes the arguments that its parameters are called after.  Arguments
    that are ``known`` are needed to choose it; others that it doesn't take can't be given.
    """
    signature = inspect.signature(function)
    parameters = signature.parameters.values()
    names = [_NAMES.get(name, name) for name in signature.parameters]
    defaults = _ABSENT | {n: p.default for n, p in zip(names, parameters, strict=True)}
    omitted = {name: types.Omitted(default) for name, default in defaults.items()}
    labels_name = "labels" if "labels" in signature.parameters else "multi_class_labels"
    # Numba takes the last arguments of any call for those that are keyword-only.
    by_position = [each.replace(kind=each.POSITIONAL_OR_KEYWORD) for each in parameters]
    lowered = signature.replace(parameters=by_position)
    choices: dict[tuple[Any, ...], tuple[Any, Any, list[str]]] = {}

    def decorate(choose: Callable[[Any], Any]) -> Callable[[Any], Any]:
        @infer_global(function)
        class Template(AbstractTemplate):
            prefer_literal = True

            def generic(self, args: Any, kws: Any) -> Any:
                try:
                    bound = signature.bind(*args, **kws).arguments
                except TypeError as error:
                    raise TypingError(str(error)) from None
                given = {
                    _NAMES.get(name, name): kind if name in known else types.unliteral(kind)
                    for name, kind in bound.items()
                }
                call = SimpleNamespace(**defaults | given, labels_name=labels_name)
                chosen = choose(call)
                taken = list(inspect.signature(chosen.py_func).parameters)
                for name, kind in given.items():
                    if is_given(kind) and name not in taken and name not in known:
                        arrays = isinstance(call.logits, types.Array)
                        where = "inside compiled code" if arrays else "beside numbers"
                        raise TypingError(f"Argument `{name}` can't be given {where}.")
                kinds = omitted | given
                operands = [kinds[name] for name in taken]
                inner = types.Dispatcher(chosen).get_call_type(self.context, operands, {})
                outer = inner.return_type(*(kinds[name] for name in names))
                choices[outer.args] = chosen, inner, taken
                return outer.replace(pysig=lowered)

            generic.__qualname__ = function.__name__  # what Numba's messages call it

        @lower_builtin(function, types.VarArg(types.Any))
        def lower(context: Any, builder: Any, outer: Any, values: Any) -> Any:
            chosen, inner, taken = choices[outer.args]
            given = dict(zip(names, values, strict=True))
            operands = [given.get(name, context.get_dummy_value()) for name in taken]
            return context.get_function(types.Dispatcher(chosen), inner)(builder, operands)

        return choose

    return decorate
