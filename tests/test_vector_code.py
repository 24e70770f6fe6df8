"""The kernels become vector code on every processor: fused multiply-adds, and no call to libm."""

import re

import llvmlite.binding as llvm
import numpy as np
import pytest
from llvmlite import ir

from sce_numba.kernels import lanes, machine_code, numba_internals, streaming
from sce_numba.kernels.jobs import Job
from sce_numba.kernels.tiles import Form

LIBM = r"(?<![\w.])(exp|exp2|expm1|log|log2|log1p|fma|ldexp|pow|tanh)f?(?![\w.])"
KINDS = ["totals", "losses", "slopes"]
FORMS = [Form(staged=False, by_element=False), Form(staged=True, by_element=True)]
AVX2 = "+sse2,+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+avx,+avx2,+fma,+f16c,+bmi,+bmi2"
AVX512 = AVX2 + ",+avx512f,+avx512dq,+avx512bw,+avx512vl,+avx512cd"
PROCESSORS = {
    "AVX-512": ("x86_64-unknown-linux-gnu", "skylake-avx512", AVX512, r"vfn?m(?:add|sub).*%[yz]mm"),
    "AVX2": ("x86_64-unknown-linux-gnu", "haswell", AVX2, r"vfn?m(?:add|sub).*%ymm"),
    "NEON": ("aarch64-unknown-linux-gnu", "neoverse-n1", "", r"fml[as]\s+v\d+\.[24][sd]"),
}


THOROUGH = pytest.mark.thorough


@pytest.fixture
def machine(request, monkeypatch):
    """Return a machine of LLVM for another processor."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    triple, cpu, features, _ = PROCESSORS[request.param]
    monkeypatch.setattr(numba_internals, "target", lambda: (triple, cpu, features))
    target = llvm.Target.from_triple(triple)
    return target.create_target_machine(cpu=cpu, features=features, opt=3)


@pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=THOROUGH)])
@pytest.mark.parametrize("form", [FORMS[0], pytest.param(FORMS[1], marks=THOROUGH)])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("machine", "processor"), [(name, name) for name in PROCESSORS], indirect=["machine"]
)
def test_every_processor_runs_vectors(machine, processor, kind, form, dtype):
    assembly = machine.emit_assembly(machine_code.optimized(Job(kind, dtype, form), machine))
    assert len(re.findall(PROCESSORS[processor][3], assembly)) >= 10
    assert not re.search(LIBM, assembly)
    if processor == "AVX2":
        assert "%zmm" not in assembly


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("machine", ["AVX2"], indirect=True)
def test_no_arithmetic_may_be_reordered_or_fused_but_where_a_formula_says_so(machine, kind):
    code = str(machine_code.optimized(Job(kind, np.float64, FORMS[1]), machine))
    assert len(re.findall(r"= f(add|sub|mul) ", code)) > 20
    assert not re.search(r"= f(neg|add|sub|mul|div) (fast|contract|reassoc|nnan|ninf|nsz)", code)


@pytest.mark.parametrize("count", [32, 64])
@pytest.mark.parametrize("itemsize", [0, 1, 2, 4, 8])
def test_every_line_of_memory_is_asked_for_once(itemsize, count):
    module = ir.Module()
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [ir.IntType(64)]), "fetch")
    builder = ir.IRBuilder(function.append_basic_block())
    streaming.prefetch(lanes.Lanes(builder, function.args[0]), itemsize, count)
    builder.ret_void()
    llvm.parse_assembly(str(module)).verify()
    asked = [int(offset) for offset in re.findall(r"add i64 .*, (\d+)", str(module))]
    lines = -(-count * itemsize // streaming.LINE)
    assert asked == [streaming.AHEAD + k * streaming.LINE for k in range(lines)]
    assert len(re.findall("call void .*prefetch", str(module))) == lines
