"""Vectors of 16 numbers, for formulas that are written once and become vector code anywhere.

A formula is a Python function over *lanes*, with the operators of Python and the functions below.
While a loop is compiled the formula runs once, over values of class ``Lanes``, and each operation
emits one vector instruction of LLVM.  With compilation disabled it runs over NumPy arrays.

The vectors have 16 lanes whatever the registers of the processor hold.  Which elements meet in a
lane, and in which order, is thus part of the formula and not of the machine.  No instruction
carries a fast-math flag: a product and a sum are rounded once where the formula says ``fma`` (see
``fused``), and nowhere else.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir

LANES = 16

_FLOATS = {ir.FloatType(): 32, ir.DoubleType(): 64}


def _element(kind: ir.Type) -> ir.Type:
    return kind.element if isinstance(kind, ir.VectorType) else kind


def _like(kind: ir.Type, element: ir.Type) -> ir.Type:
    return ir.VectorType(element, kind.count) if isinstance(kind, ir.VectorType) else element


def _constant(kind: ir.Type, number: Any) -> ir.Constant:
    if isinstance(kind, ir.VectorType):
        return ir.Constant(kind, [ir.Constant(kind.element, number)] * kind.count)
    return ir.Constant(kind, number)


@dataclass(frozen=True, eq=False)
class Lanes:
    """A vector, or a single number, while the code that computes it is written."""

    builder: ir.IRBuilder
    value: ir.Value

    @property
    def is_float(self) -> bool:
        """Whether the elements are floating-point numbers."""
        return _element(self.value.type) in _FLOATS

    def constant(self, number: Any) -> Lanes:
        """Return a number in the type of this vector."""
        return Lanes(self.builder, _constant(self.value.type, number))

    def _with(self, operation: str, other: Any, swap: bool = False) -> Lanes:
        other = other if isinstance(other, Lanes) else self.constant(other)
        one, two = (other, self) if swap else (self, other)
        return Lanes(self.builder, getattr(self.builder, operation)(one.value, two.value))

    def __add__(self, other: Any) -> Lanes:
        return self._with("fadd" if self.is_float else "add", other)

    def __radd__(self, other: Any) -> Lanes:
        return self.__add__(other)

    def __sub__(self, other: Any) -> Lanes:
        return self._with("fsub" if self.is_float else "sub", other)

    def __rsub__(self, other: Any) -> Lanes:
        return self._with("fsub" if self.is_float else "sub", other, swap=True)

    def __mul__(self, other: Any) -> Lanes:
        return self._with("fmul" if self.is_float else "mul", other)

    def __rmul__(self, other: Any) -> Lanes:
        return self.__mul__(other)

    def __truediv__(self, other: Any) -> Lanes:
        return self._with("fdiv", other)

    def __rtruediv__(self, other: Any) -> Lanes:
        return self._with("fdiv", other, swap=True)

    def __neg__(self) -> Lanes:
        return Lanes(
            self.builder, (self.builder.fneg if self.is_float else self.builder.neg)(self.value)
        )

    def __floordiv__(self, other: Any) -> Lanes:
        return self._with("sdiv", other)  # of numbers that are not negative

    def __mod__(self, other: Any) -> Lanes:
        return self._with("srem", other)

    def __lshift__(self, other: Any) -> Lanes:
        return self._with("shl", other)

    def __rshift__(self, other: Any) -> Lanes:
        return self._with("ashr", other)

    def __and__(self, other: Any) -> Lanes:
        return self._with("and_", other)

    def __or__(self, other: Any) -> Lanes:
        return self._with("or_", other)

    def __xor__(self, other: Any) -> Lanes:
        return self._with("xor", other)

    def _shuffled(self, other: Lanes, places: Iterable[int]) -> Lanes:
        """Return the lanes of these numbers, where those of the other follow its own."""
        index = ir.IntType(32)
        lanes = [ir.Constant(index, place) for place in places]
        mask = ir.Constant(ir.VectorType(index, len(lanes)), lanes)
        return Lanes(self.builder, self.builder.shuffle_vector(self.value, other.value, mask))

    def _compare(self, operator: str, other: Any) -> Lanes:
        other = other if isinstance(other, Lanes) else self.constant(other)
        compare = self.builder.icmp_signed
        if self.is_float:
            compare = self.builder.fcmp_unordered if operator == "!=" else self.builder.fcmp_ordered
        return Lanes(self.builder, compare(operator, self.value, other.value))

    def __lt__(self, other: Any) -> Lanes:
        return self._compare("<", other)

    def __gt__(self, other: Any) -> Lanes:
        return self._compare(">", other)

    def __ge__(self, other: Any) -> Lanes:
        return self._compare(">=", other)

    def __eq__(self, other: Any) -> Lanes:  # type: ignore[override]
        return self._compare("==", other)

    def __ne__(self, other: Any) -> Lanes:  # type: ignore[override]
        return self._compare("!=", other)


def llvm_function(name: str, first: Lanes, *others: Lanes) -> Lanes:
    """Call one of LLVM's own functions of floating-point numbers."""
    kind, builder = first.value.type, first.builder
    element = f"f{_FLOATS[_element(kind)]}"
    suffix = f"v{kind.count}{element}" if isinstance(kind, ir.VectorType) else element
    values = [value.value for value in (first, *others)]
    return Lanes(builder, call_llvm(builder, f"llvm.{name}.{suffix}", kind, values))


def call_llvm(builder: ir.IRBuilder, name: str, result: ir.Type, values: list[ir.Value]) -> Any:
    """Call one of the functions that LLVM knows by name."""
    function = builder.module.globals.get(name)
    if function is None:
        kind = ir.FunctionType(result, [value.type for value in values])
        function = ir.Function(builder.module, kind, name)
    return builder.call(function, values)


def is_single(x: Lanes) -> bool:
    """Tell whether the elements are float32."""
    return bool(_element(x.value.type) == ir.FloatType())


def absolute(x: Any) -> Any:
    """Return |x|."""
    return llvm_function("fabs", x) if isinstance(x, Lanes) else np.abs(x)


def square_root(x: Any) -> Any:
    """Return the square root, NaN of a negative number."""
    return llvm_function("sqrt", x) if isinstance(x, Lanes) else np.sqrt(x)


def select(condition: Any, yes: Any, no: Any) -> Any:
    """Return ``yes`` where the condition holds, else ``no``; one of them may be a number."""
    if type(condition) is bool:
        return yes if condition else no
    if not isinstance(condition, Lanes):
        if np.ndim(condition) == 0:
            return yes if condition else no
        kind = yes.dtype if isinstance(yes, np.ndarray) else no.dtype
        return np.where(condition, yes, no).astype(kind)
    yes = yes if isinstance(yes, Lanes) else no.constant(yes)
    no = no if isinstance(no, Lanes) else yes.constant(no)
    builder = condition.builder
    return Lanes(builder, builder.select(condition.value, yes.value, no.value))


def bits(x: Any) -> Any:
    """Return the bits of floating-point numbers as signed integers."""
    if not isinstance(x, Lanes):
        return x.view(np.int32 if x.dtype == np.float32 else np.int64)
    integer = ir.IntType(_FLOATS[_element(x.value.type)])
    return Lanes(x.builder, x.builder.bitcast(x.value, _like(x.value.type, integer)))


def from_bits(x: Any) -> Any:
    """Return the floating-point numbers that have the bits."""
    if not isinstance(x, Lanes):
        return x.view(np.float32 if x.dtype == np.int32 else np.float64)
    single = _element(x.value.type).width == 32
    kind = _like(x.value.type, ir.FloatType() if single else ir.DoubleType())
    return Lanes(x.builder, x.builder.bitcast(x.value, kind))


def to_float64(x: Any) -> Any:
    """Convert integers, or float32, to float64."""
    if not isinstance(x, Lanes):
        return x.astype(np.float64) if isinstance(x, np.ndarray) else float(x)
    kind = _like(x.value.type, ir.DoubleType())
    if x.value.type == kind:
        return x
    convert = x.builder.fpext if x.is_float else x.builder.sitofp
    return Lanes(x.builder, convert(x.value, kind))


def to_int64(x: Any) -> Any:
    """Convert 32-bit integers to 64 bits."""
    if not isinstance(x, Lanes):
        return x.astype(np.int64)
    return Lanes(x.builder, x.builder.sext(x.value, _like(x.value.type, ir.IntType(64))))


def to_dtype(x: Any, dtype: Any) -> Any:
    """Return lanes of ``dtype``, which is theirs already or float64."""
    return to_float64(x) if dtype is np.float64 else x


def rounded(x: Any, dtype: Any) -> Any:
    """Return float64 numbers rounded to ``dtype``, which may be theirs already."""
    if not isinstance(x, Lanes):
        return np.asarray(x).astype(dtype)
    kind = _like(x.value.type, _llvm_type(dtype))
    return x if x.value.type == kind else Lanes(x.builder, x.builder.fptrunc(x.value, kind))


def differ(one: Any, two: Any) -> Any:
    """Tell whether any lane of two vectors of numbers differs; NaN differs from nothing."""
    if not isinstance(one, Lanes):
        return np.any((one < two) | (one > two))
    builder = one.builder
    mask = builder.fcmp_ordered("!=", one.value, two.value)
    flags = Lanes(builder, builder.bitcast(mask, ir.IntType(one.value.type.count)))
    return flags != 0


def split(x: Any, parts: int) -> list[Any]:
    """Return the equal parts that a vector consists of, first lanes first."""
    if not isinstance(x, Lanes):
        return list(np.split(x, parts))
    size = x.value.type.count // parts
    return [x._shuffled(x, range(k * size, (k + 1) * size)) for k in range(parts)]


def joined(parts: list[Any]) -> Any:
    """Return the vector that consists of equal parts, a power of two of them."""
    if not isinstance(parts[0], Lanes):
        return np.concatenate(parts)
    while len(parts) > 1:
        pairs = zip(parts[::2], parts[1::2], strict=True)
        parts = [one._shuffled(two, range(2 * one.value.type.count)) for one, two in pairs]
    return parts[0]


def interleaved(a: Any, b: Any, c: Any, d: Any) -> Any:
    """Return the first lanes of four vectors, then their second lanes, and so on."""
    if not isinstance(a, Lanes):
        return np.stack([a, b, c, d], axis=1).ravel()
    one, two, size = joined([a, b]), joined([c, d]), a.value.type.count
    return one._shuffled(two, [lane + vector * size for lane in range(size) for vector in range(4)])


def only(x: Any) -> Any:
    """Return the one element of a vector of one lane."""
    if not isinstance(x, Lanes):
        return x[0]
    zero = ir.Constant(ir.IntType(32), 0)
    return Lanes(x.builder, x.builder.extract_element(x.value, zero))


def loop_while(
    state: tuple[Any, ...], condition: Callable[..., Any], body: Callable[..., tuple[Any, ...]]
) -> tuple[Any, ...]:
    """Return what is left of ``state = body(*state)`` once ``condition(*state)`` fails."""
    if not isinstance(state[0], Lanes):
        while condition(*state):
            state = body(*state)
        return state
    builder = state[0].builder
    before = builder.block
    head, inside, after = (
        builder.append_basic_block(f"lanes.{name}") for name in ("head", "inside", "after")
    )
    builder.branch(head)
    builder.position_at_end(head)
    phis = [builder.phi(value.value.type) for value in state]
    current = [Lanes(builder, phi) for phi in phis]
    builder.cbranch(condition(*current).value, inside, after)
    builder.position_at_end(inside)
    following = body(*current)
    for phi, first, value in zip(phis, state, following, strict=True):
        phi.add_incoming(first.value, before)
        phi.add_incoming(value.value, builder.block)
    builder.branch(head)
    builder.position_at_end(after)
    return tuple(current)


def loop(
    count: Any, state: tuple[Any, ...], body: Callable[..., tuple[Any, ...]]
) -> tuple[Any, ...]:
    """Return what ``state = body(k, *state)`` leaves after k = 0, ..., count - 1."""
    zero = count.constant(0) if isinstance(count, Lanes) else 0
    _, *left = loop_while(
        (zero, *state), lambda k, *_: k < count, lambda k, *current: (k + 1, *body(k, *current))
    )
    return tuple(left)


def branch(
    condition: Any, yes: Callable[[], tuple[Any, ...]], no: Callable[[], tuple[Any, ...]]
) -> tuple[Any, ...]:
    """Return ``yes()`` or ``no()``, computing only that; the condition is one for all lanes."""
    if not isinstance(condition, Lanes):
        return yes() if condition else no()
    builder = condition.builder
    ways, after = [], builder.append_basic_block("lanes.joined")
    starts = [builder.append_basic_block(f"lanes.{name}") for name in ("yes", "no")]
    builder.cbranch(condition.value, *starts)
    for start, way in zip(starts, (yes, no), strict=True):
        builder.position_at_end(start)
        ways.append((way(), builder.block))
        builder.branch(after)
    builder.position_at_end(after)
    joined = []
    for values in zip(*(found for found, _ in ways), strict=True):
        phi = builder.phi(values[0].value.type)
        for value, (_, block) in zip(values, ways, strict=True):
            phi.add_incoming(value.value, block)
        joined.append(Lanes(builder, phi))
    return tuple(joined)


def constant(example: Any, number: float, dtype: Any, lanes: int = LANES) -> Any:
    """Return lanes of one number; ``example`` is any value that the formula was given."""
    if not isinstance(example, Lanes):
        return np.full(lanes, number, dtype)
    return Lanes(example.builder, _constant(ir.VectorType(_llvm_type(dtype), lanes), number))


def _fill(builder: ir.IRBuilder, value: ir.Value, lanes: int) -> ir.Value:
    integer = ir.IntType(32)
    zero = ir.Constant(integer, 0)
    one = ir.Constant(ir.VectorType(value.type, 1), ir.Undefined)
    mask = ir.Constant(ir.VectorType(integer, lanes), [zero] * lanes)
    return builder.shuffle_vector(builder.insert_element(one, value, zero), one, mask)


def spread(x: Any, dtype: Any, lanes: int = LANES) -> Any:
    """Return lanes that all hold a float64 number, converted to ``dtype``."""
    if not isinstance(x, Lanes):
        return np.full(lanes, x, dtype)
    value = x.value if dtype is np.float64 else x.builder.fptrunc(x.value, _llvm_type(dtype))
    return Lanes(x.builder, _fill(x.builder, value, lanes))


def spread_like(x: Any, dtype: Any, example: Any) -> Any:
    """Return lanes as ``spread`` does, as many as there are in the example."""
    return spread(x, dtype, lanes_of(example))


def lanes_of(x: Any) -> int:
    """Return how many lanes there are in a vector."""
    return int(x.value.type.count if isinstance(x, Lanes) else x.size)


def before(count: Any, lanes: int) -> Any:
    """Return which lanes have a number, from 0, less than ``count``."""
    if not isinstance(count, Lanes):
        return np.arange(lanes) < count
    builder, integer = count.builder, ir.IntType(32)
    numbers = [ir.Constant(integer, k) for k in range(lanes)]
    limit = _fill(builder, builder.trunc(count.value, integer), lanes)
    vector = ir.Constant(ir.VectorType(integer, lanes), numbers)
    return Lanes(builder, builder.icmp_signed("<", vector, limit))


def _llvm_type(dtype: Any) -> ir.Type:
    if dtype in (np.int32, np.int64):
        return ir.IntType(32 if dtype is np.int32 else 64)
    return ir.FloatType() if dtype is np.float32 else ir.DoubleType()


def integer(example: Any, number: int) -> Any:
    """Return a whole number of 64 bits; ``example`` is any value that the formula was given."""
    if not isinstance(example, Lanes):
        return number
    return Lanes(example.builder, ir.Constant(ir.IntType(64), number))


def real(example: Any, number: float) -> Any:
    """Return a float64; ``example`` is any value that the formula was given."""
    if not isinstance(example, Lanes):
        return number
    return Lanes(example.builder, ir.Constant(ir.DoubleType(), number))


def least(a: Any, b: Any) -> Any:
    """Return the smaller of two numbers."""
    return select(a < b, a, b)


def when(condition: Any, work: Callable[[], Any]) -> None:
    """Do something where a condition holds."""

    def do() -> tuple[Any, ...]:
        work()
        return ()

    branch(condition, do, lambda: ())


def for_each(count: Any, work: Callable[[Any], Any]) -> None:
    """Do something for 0, ..., count - 1."""

    def do(k: Any) -> tuple[Any, ...]:
        work(k)
        return ()

    loop(count, (), do)


def _replace(value: Any, leaf: Callable[[Lanes], Any]) -> Any:
    """Return a value, a tuple perhaps, with something else in the place of lanes."""
    if isinstance(value, tuple):
        items = [_replace(item, leaf) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    return leaf(value) if isinstance(value, Lanes) else value


_RESULTS = {"i": ir.IntType(64), "f": ir.DoubleType()}


def apart(results: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a formula a function that is compiled once and called, not compiled in each of its uses.

    ``results`` has a letter for each number that it returns in a tuple: ``i`` for a whole number,
    ``f`` for a float64, ``v`` for lanes like the first that it is given.  What is not lanes among
    the arguments is known while code is made, and there is a function for each such choice.
    """

    def decorate(formula: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(formula)
        def call(*arguments: Any) -> Any:
            given: list[Lanes] = []

            def note(lane: Lanes) -> str:
                given.append(lane)
                return str(lane.value.type)

            key = _replace(arguments, note)
            if not given:
                return formula(*arguments)
            builder = given[0].builder
            functions = builder.module.__dict__.setdefault("sce_numba", {})
            function = functions.get((formula, key))
            if function is None:
                own = given[0].value.type
                kinds = [own if letter == "v" else _RESULTS[letter] for letter in results]
                function = functions[formula, key] = _function(
                    builder.module, formula, arguments, [lane.value.type for lane in given], kinds
                )
            found = builder.call(function, [lane.value for lane in given])
            return tuple(
                Lanes(builder, builder.extract_value(found, k)) for k in range(len(results))
            )

        return call

    return decorate


def _function(
    module: ir.Module,
    formula: Callable[..., Any],
    arguments: tuple[Any, ...],
    given: list[ir.Type],
    results: list[ir.Type],
) -> ir.Function:
    """Write a formula as a function of its own."""
    returned = ir.LiteralStructType(results)
    name = module.get_unique_name(f"sce_numba.{formula.__name__}")
    function = ir.Function(module, ir.FunctionType(returned, given), name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    # Vectors that are kept on the stack lie within lines of the caches.
    function.attributes.alignstack = 64
    builder = ir.IRBuilder(function.append_basic_block())
    lanes = iter(function.args)
    found = formula(*_replace(arguments, lambda _: Lanes(builder, next(lanes))))
    result: ir.Value = ir.Constant(returned, ir.Undefined)
    for k in range(len(results)):
        result = builder.insert_value(result, found[k].value, k)
    builder.ret(result)
    return function
