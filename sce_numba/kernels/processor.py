"""What the processor that Numba compiles for can do, told by its name, or LLVM's code for it."""

from __future__ import annotations

import re
from functools import cache

import llvmlite.binding as llvm

from . import numba_internals

_FUSED = """
declare float @llvm.fmuladd.f32(float, float, float)
define float @fused(float %a, float %b, float %c) {
  %result = call float @llvm.fmuladd.f32(float %a, float %b, float %c)
  ret float %result
}
"""
# LLVM 15, that of Numba 0.61, knows pointers by what they point to.
_POINTER = "ptr" if llvm.llvm_version_info[0] > 15 else "<16 x float>*"
_SUM = f"""
define void @sum({_POINTER} %a, {_POINTER} %b) {{
  %x = load <16 x float>, {_POINTER} %a
  %y = load <16 x float>, {_POINTER} %b
  %result = fadd <16 x float> %x, %y
  store <16 x float> %result, {_POINTER} %a
  ret void
}}
"""


@cache
def _assembly(code: str, triple: str, cpu: str, features: str) -> str:
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, features=features)
    return str(machine.emit_assembly(llvm.parse_assembly(code)))


def fuses() -> bool:
    """Tell whether there is one instruction that multiplies and adds."""
    assembly = _assembly(_FUSED, *numba_internals.target())
    return re.search(r"^\s+\w*mul", assembly, re.MULTILINE) is None


def uses_ymm() -> bool:
    """Tell whether vectors are in AVX registers, of 32 bytes."""
    assembly = _assembly(_SUM, *numba_internals.target())
    return "%ymm" in assembly and "%zmm" not in assembly


def is_intel() -> bool:
    """Tell whether it is one of Intel, or of no maker in particular."""
    triple, name, _ = numba_internals.target()
    return triple.startswith("x86_64") and not name.startswith("znver")


def reads_ahead() -> bool:
    """Tell whether the processor fetches long runs before loops that sum them need the memory.

    Those of AMD since Zen 4 do, and to ask them to makes sums slower by a tenth.  Those of Intel
    (Ice Lake) are late: asked early, they take 0.77 to 0.87 of the time for sums of arrays from
    memory, and 0.71 for element losses.  So are AMD's before Zen 4: a Zen 1 takes 0.82 to 0.86 of
    the time for sums, a Zen 3 0.75 for sums and element losses, and 0.45 beside int64 labels; Zen 2
    is between them.  Others are not asked, as none was measured.
    """
    return not (is_intel() or numba_internals.target()[1] in ("znver1", "znver2", "znver3"))
