"""What there is to do with the arrays of a call, as functions of machine code.

==============  ===================================================================
``totals``      the loss, reduced
``losses``      the loss of every element
``slopes``      gradients, and the loss, the losses or hessians beside them
``weights``     what a reduction divides by, alone
``along``       losses reduced along some axes, which lie together (see ``axis_view``)
``across``      the same, where the others lie together
``groups``      sums of rows, added to those of their groups
``bins``        elements, counted by their logits and probabilities
``margins``     sums of rows of elements and, at once, those of columns
``slices``      such sums of rows, added to those of their slices
==============  ===================================================================

Of each there are three functions, of addresses only (see ``view``)::

    whole(call)                              all of it, on the calling thread
    group(call, group, partials, scratch)    one group of tiles, for a loop over groups
    finish(call, partials)                   the result, once all groups are done; how many of
                                             them were stands in the place of the first one's mark
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir

from . import bins, gradient, group_sums, loss, margins, slices
from .across import totals_across
from .along import totals_along
from .axis_sums import write_all
from .divisor import divisor
from .elements import SIGMOID
from .environment import in_default_environment
from .fused import two_product, two_sum
from .lanes import Lanes, absolute, apart, integer, loop, real, select, when
from .memory import get, put
from .tiles import Form, Sums, add
from .view import LOST_TO, REDUCTION, SCRATCH_AT, WEIGHT, Call, opened

KINDS: dict[str, Callable[..., Sums]] = {
    "totals": loss.totals,
    "losses": loss.losses,
    "slopes": gradient.slopes,
    "weights": loss.weights,
    "along": totals_along,
    "across": totals_across,
    "groups": group_sums.add_rows,
    "bins": bins.count_elements,
    "margins": margins.add_margins,
    "slices": slices.add_to_slices,
}
# Those that leave a result for each of the elements that are kept.
BY_AXIS = {"along", "across"}
# Those that are one whether arrays lie as they are read or not, and how ``Form`` has it.
ONE_FORM = {"weights": True, "across": False}
# Those of which there is no other form.
FORMS = {
    "groups": Form(False, False),
    "bins": Form(True, True),
    "margins": Form(True, True),
    "slices": Form(False, False),
}
# Those of which there is code for each formula of a loss.
OF_FORMULAS = {"totals", "losses", "slopes"}
_INTEGER, _REAL = ir.IntType(64), ir.DoubleType()


class Job(NamedTuple):
    """One of them, for one dtype that is computed in, and for one way in which arrays lie."""

    kind: str
    dtype: type[np.floating[Any]]
    form: Form

    @property
    def needs_scratch(self) -> bool:
        """Whether threads need memory of their own."""
        form = self.form
        return self.kind in BY_AXIS | {"slopes"} or form.staged or form.by_element

    @property
    def symbols(self) -> list[str]:
        """The names of its functions in an object file."""
        return [f"sce_numba.{self.name}.{name}" for name in NAMES]

    @property
    def name(self) -> str:
        """A name for files and messages."""
        form, kind = self.form, self.kind
        kind = kind if form.formula == SIGMOID else f"{form.formula.name}_{kind}"
        lies = [name for name in ("staged", "by_element") if getattr(form, name)]
        return "_".join([kind, np.dtype(self.dtype).name, *lies])


@apart("fffff")
def _sums(job: Job, call: Call, group: Any, scratch: Any) -> Sums:
    return KINDS[job.kind](job.dtype, job.form, call, group, scratch)


@apart("f")
def _reduced(job: Job, call: Call, sums: Sums) -> tuple[Any]:
    """Return sum over divisor, 0 for a divisor of 0; all weights are multiplied by one of them."""
    weight, reduction = call.number(WEIGHT), call.number(REDUCTION)
    total, rest = two_sum(sums.numerator, sums.lost)
    numerator = weight * total
    place = call.number(LOST_TO)

    def put_lost() -> None:
        lost = two_product(weight, total)[1] + weight * rest
        put(place, 0, select(absolute(lost) < np.inf, lost, 0.0))

    when(place != 0, put_lost)
    by = divisor(reduction, weight, sums.weight, sums.present, sums.count)
    if job.kind == "weights":
        return (by,)
    return (select(by != 0.0, numerator / select(by != 0.0, by, 1.0), 0.0),)


def _results(job: Job, call: Call, sums: Sums) -> tuple[Any]:
    """Return the result, once all groups are done, or write those of a reduction along axes."""
    if job.kind not in BY_AXIS:
        reduced: tuple[Any] = _reduced(job, call, sums)
        return reduced
    alike = job.kind == "across" and not job.form.by_element
    write_all(job.dtype, alike, call)
    return (real(call.address, 0.0),)


def _added_up(call: Call, sums: Callable[[Any], Sums]) -> Sums:
    """Add the groups in order, given the sums of one."""

    def following(k: Any, *found: Any) -> tuple[Any, ...]:
        return tuple(add(Sums(*found), sums(k + 1)))

    first = tuple(sums(integer(call.address, 0)))
    return Sums(*loop(call.groups - 1, first, following))


@apart("f")
def _whole(job: Job, address: Any) -> Any:
    call = opened(address)
    scratch = call.number(SCRATCH_AT)
    sums = _added_up(call, lambda group: Sums(*_sums(job, call, group, scratch)))
    return _results(job, call, sums)


@apart("")
def _group(job: Job, address: Any, group: Any, partials: Any, scratch: Any) -> tuple[Any, ...]:
    place = partials + group * (8 * PARTIAL)
    for k, value in enumerate(_sums(job, opened(address), group, scratch)):
        put(place, k, value)
    put(place, PARTIAL - 1, real(group, 1.0))
    return ()


@apart("f")
def _finish(job: Job, address: Any, partials: Any) -> Any:
    call = opened(address)

    def sums(group: Any) -> Sums:
        place = partials + group * (8 * PARTIAL)
        return Sums(*(get(place, k, np.float64) for k in range(PARTIAL - 1)))

    def count(group: Any, done: Any) -> tuple[Any]:
        return (done + get(partials + group * (8 * PARTIAL), PARTIAL - 1, np.float64),)

    found = _added_up(call, sums)
    (done,) = loop(call.groups, (real(address, 0.0),), count)
    put(partials, PARTIAL - 1, done)
    return _results(job, call, found)


# What a group leaves: its sums, and a mark that it was done.
PARTIAL = len(Sums._fields) + 1

_FUNCTIONS: dict[str, tuple[Callable[..., Any], int, ir.Type]] = {
    "whole": (_whole, 1, _REAL),
    "group": (_group, 4, ir.VoidType()),
    "finish": (_finish, 2, _REAL),
}


NAMES = tuple(_FUNCTIONS)


def type_of_function(name: str) -> ir.FunctionType:
    """Return the type of one of the functions of all jobs, for LLVM."""
    _, count, result = _FUNCTIONS[name]
    return ir.FunctionType(result, [_INTEGER] * count)


def write_function(job: Job, name: str, module: ir.Module) -> None:
    """Write one of the functions of a job into a module, in the default environment."""
    formula, *_ = _FUNCTIONS[name]
    kind = type_of_function(name)
    function = ir.Function(module, kind, f"sce_numba.{job.name}.{name}")
    builder = ir.IRBuilder(function.append_basic_block())
    given = [Lanes(builder, value) for value in function.args]
    found = in_default_environment(given[0], lambda: formula(job, *given))
    if found:
        builder.ret(found[0].value)
    else:
        builder.ret_void()


def interpreted(job: Job, name: str) -> Callable[..., Any]:
    """Return one of the functions of a job, for Python's interpreter."""
    formula = _FUNCTIONS[name][0]

    def run(*addresses: int) -> Any:
        with np.errstate(all="ignore"):
            found = formula(job, *addresses)
        return float(found[0]) if found else None

    return run
