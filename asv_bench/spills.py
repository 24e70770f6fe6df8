"""Count how often the loops of the kernels keep vectors on the stack, for want of registers.

``python -m asv_bench.spills`` compiles the kernels for several processors, on any of them.  In the
loop over the steps of a block it counts the instructions that write vectors to the stack, and those
that read them from there; constants that do not fit into registers are among those.  The loops for
other than the usual operands hold the code of all dtypes, of which a call runs one.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple
from unittest import mock

import llvmlite.binding as llvm
import numpy as np

from sce_numba.kernels import machine_code, numba_internals
from sce_numba.kernels.block import STEP_BYTES
from sce_numba.kernels.jobs import Job
from sce_numba.kernels.tiles import Form

from .report import add_page, in_columns, write

AARCH64, X86_64 = "aarch64-unknown-linux-gnu", "x86_64-unknown-linux-gnu"
# By the name that LLVM has for the processor: the system, and the vector registers.
PROCESSORS = {
    "znver4": (X86_64, "AVX-512, 32 of 64 bytes"),
    "haswell": (X86_64, "AVX2, 16 of 32 bytes"),
    "nehalem": (X86_64, "SSE, 16 of 16 bytes"),
    "neoverse-n1": (AARCH64, "NEON, 32 of 16 bytes"),
}
USUAL, BY_ELEMENT = Form(staged=False, by_element=False), Form(staged=False, by_element=True)
# Jobs, and the functions whose loops count, as code for the usual dtypes comes first.
LOOPS = {
    "mean": ("totals", USUAL, "total_merged"),
    "mean, other dtypes": ("totals", USUAL, "total_merged.2"),
    "mean and gradient": ("slopes", USUAL, "_differentiate_merged"),
    "the same, other dtypes": ("slopes", USUAL, "_differentiate_merged.2"),
    "`NONE`": ("losses", USUAL, "_write_part"),
    "`NONE`, other dtypes": ("losses", USUAL, "_write_part.2"),
    "a weight for each element": ("totals", BY_ELEMENT, "_sums.1"),
    "a weight for each element, other dtypes": ("totals", BY_ELEMENT, "_sums.3"),
    "the same, and gradient": ("slopes", BY_ELEMENT, "_differentiate"),
}
DTYPES = np.float32, np.float64

LABEL = re.compile(r"^(\.LBB\w+):")
# To a block, or by a table of them.
JUMP = re.compile(r"^\s+(?:j\w+|b|b\.\w+|cbn?z|tbn?z|br)\s(.*)$")
ALWAYS = re.compile(r"^\s+(?:jmp\w*|b|br|ret\w*)(?:\s|$)")
TABLE = re.compile(r"^\.LJTI\w+:\n((?:\s+\.\w+\s+.*\n)+)", re.MULTILINE)
MULTIPLIES = re.compile(r"^\s+(?:vf?n?m(?:ul|add|sub)\w*p[sd]|mulp[sd]|fml[as]|fmul)\s.*(?:mm|v)\d")
INSTRUCTION = re.compile(r"^\s+([a-z][\w.]*)(?:\s+(.*))?$")
ON_STACK = re.compile(r"\(%rsp|\(%rbp|\[sp|\[x29")
VECTOR = re.compile(r"%[xyz]mm\d|\b[qv]\d+\b")


class Spills(NamedTuple):
    """How many instructions of a loop write vectors to the stack, and read them."""

    stores: int
    loads: int


@contextlib.contextmanager
def processor(cpu: str, triple: str = "", features: str = "") -> Iterator[Any]:
    """Have kernels compiled for a processor, by a machine of LLVM for it."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    target = triple or PROCESSORS[cpu][0], cpu, features
    with mock.patch.object(numba_internals, "target", return_value=target):
        yield llvm.Target.from_triple(target[0]).create_target_machine(
            cpu=cpu, features=features, opt=3
        )


def functions(assembly: str) -> dict[str, str]:
    """Return the text of each function, with the tables that it jumps by."""
    starts = re.split(r"^\"?sce_numba\.([\w.]+)\"?:", assembly, flags=re.MULTILINE)
    return dict(zip(starts[1::2], starts[2::2], strict=True))


def blocks(function: str) -> tuple[dict[str, list[str]], dict[str, set[str]]]:
    """Return the instructions of each block of a function, and the blocks that follow it."""
    tables = {place for table in TABLE.findall(function) for place in places(table)}
    text: dict[str, list[str]] = {}
    following: dict[str, set[str]] = {}
    name, goes_on, ended = "", False, True
    for line in function.split(".Lfunc_end")[0].splitlines():
        label, is_instruction = LABEL.match(line), INSTRUCTION.match(line)
        # What follows a jump is a block of its own.
        if label or (is_instruction and ended):
            before, name = name, label.group(1) if label else f"{name}+"
            text[name], following[name] = [], set()
            if goes_on:
                following[before].add(name)
            goes_on, ended = True, False
        if is_instruction:
            text[name].append(line)
            goes_on = not ALWAYS.match(line)
            if jump := JUMP.match(line):
                following[name] |= set(places(jump.group(1))) or tables
            ended = bool(jump) or not goes_on
    return text, {name: found & set(text) for name, found in following.items()}


def places(text: str) -> list[str]:
    """Return the blocks that are named."""
    return re.findall(r"\.LBB\d+_\d+", text)


def loops_of(following: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return the blocks of each loop by its first."""
    before: dict[str, set[str]] = {name: set() for name in following}
    for name, others in following.items():
        for other in others:
            before[other].add(name)
    every = set(following)
    above = dict.fromkeys(following, every)
    entry = next(iter(following))
    above[entry] = {entry}
    changed = True
    while changed:
        changed = False
        for name in following:
            if name != entry and before[name]:
                now = {name} | set.intersection(*(above[other] for other in before[name]))
                changed |= now != above[name]
                above[name] = now
    loops: dict[str, set[str]] = {}
    for name, others in following.items():
        for head in others & above[name]:
            body, waiting = loops.setdefault(head, {head}), [name]
            while waiting:
                block = waiting.pop()
                if block not in body:
                    body.add(block)
                    waiting += before[block]
    return loops


def spills(lines: list[str]) -> Spills:
    """Count the vectors that instructions write to the stack, and read from there."""
    stores = loads = 0
    for line in lines:
        name, operands = INSTRUCTION.match(line).groups("")  # type: ignore[union-attr]
        if not (ON_STACK.search(operands) and VECTOR.search(operands)):
            continue
        # The target comes last on x86; on AArch64 the instruction tells.
        stored = name.startswith("st") or bool(re.search(r"%[xyz]mm\d+, -?\d*\(%r[sb]p", operands))
        count = 2 if name in ("stp", "ldp") else 1
        stores += stored * count
        loads += (not stored) * count
    return Spills(stores, loads)


def assembly_of(job: Job, machine: Any) -> str:
    """Return the assembly of a job."""
    return str(machine.emit_assembly(machine_code.optimized(job, machine)))


def multiplications(lines: Iterable[str]) -> int:
    """Return how many instructions multiply vectors."""
    return sum(map(bool, map(MULTIPLIES.match, lines)))


def busiest(text: dict[str, list[str]], loops: dict[str, set[str]]) -> str:
    """Return the first block of the loop that multiplies most."""
    return max(loops, key=lambda head: sum(multiplications(text[name]) for name in loops[head]))


def step_loop(function: str) -> list[str]:
    """Return the instructions of the loop of a function that multiplies most."""
    text, following = blocks(function)
    loops = loops_of(following)
    return [line for name in loops[busiest(text, loops)] for line in text[name]]


def all_spills(
    cpus: Iterable[str] = PROCESSORS, loops: Iterable[str] = LOOPS
) -> dict[tuple[str, str], dict[str, Spills]]:
    """Return the spills by loop and dtype, for each processor."""
    found: dict[tuple[str, str], dict[str, Spills]] = {}
    assembly = functools.cache(assembly_of)
    for cpu in cpus:
        with processor(cpu) as machine:
            for dtype, loop in itertools.product(DTYPES, loops):
                kind, form, function = LOOPS[loop]
                code = functions(assembly(Job(kind, dtype, form), machine))
                key = loop, np.dtype(dtype).name
                found.setdefault(key, {})[cpu] = spills(step_loop(code[function]))
    return found


def table(found: dict[tuple[str, str], dict[str, Spills]]) -> str:
    """Return the counts in Markdown."""
    rows = [["loop", "dtype", *PROCESSORS]]
    rows += [
        [loop, dtype, *(f"{spilled.stores} + {spilled.loads}" for spilled in by.values())]
        for (loop, dtype), by in found.items()
    ]
    return in_columns(rows)


def main() -> None:
    """Count, and print what was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_page(parser)
    options = parser.parse_args()
    registers = "; ".join(f"{cpu}: {held}" for cpu, (_, held) in PROCESSORS.items())
    major, *_ = llvm.llvm_version_info
    words = (
        f"{table(all_spills())}\n\n"
        f"Writes + reads, of a step of {STEP_BYTES} bytes of logits. Registers of {registers}. "
        f"Counted by `python -m asv_bench.spills` in the code of LLVM {major}."
    )
    print(words)
    write(words, options.page, "asv_bench.spills")


if __name__ == "__main__":
    main()
