"""The kernels become vector code on every processor: fused multiply-adds, and no call to libm."""

import os
import platform
import re
import subprocess
import sys

import llvmlite.binding as llvm
import numpy as np
import pytest
from llvmlite import ir

from sce_numba.kernels import block, lanes, operand, streaming
from sce_numba.kernels.elements import Element, loss
from sce_numba.kernels.softplus import exp_minus_abs

on_x86 = pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64"), reason="this is no x86 processor"
)

LIBM = r"(?<![\w.])(exp|exp2|expm1|log|log2|log1p|fma|ldexp|pow|tanh)f?(?![\w.])"
LOOPS = ["reduce_rows", "reduce_elements", "write_contiguous"]
AVX2 = "+sse2,+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+avx,+avx2,+fma,+f16c,+bmi,+bmi2"
AVX512 = AVX2 + ",+avx512f,+avx512dq,+avx512bw,+avx512vl,+avx512cd"


def compiled(loop, dtype, cpu, features, kind="asm"):
    """Return the assembly, or the code of LLVM, of a loop compiled for another processor."""
    # Compiled anew, as a cache keeps no assembly.
    code = (
        "from numba import njit\n"
        "from sce_numba.evaluation import _SINGLE, _DOUBLE\n"
        "from sce_numba.kernels.softplus import OPTIONS\n"
        f"loop = {'_SINGLE' if dtype == 'float32' else '_DOUBLE'}.{loop}\n"
        "dispatcher = njit(**OPTIONS)(loop._function)\n"
        "dispatcher.compile(loop._signature)\n"
        f"print(*dispatcher.inspect_{kind}().values())"
    )
    environment = {**os.environ, "NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": features}
    program = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert program.returncode == 0, program.stderr
    return program.stdout


def fused(assembly, suffix, register):
    return re.findall(rf"\bvfn?m(?:add|sub)\d+{suffix}\b.*%{register}\d", assembly)


@on_x86
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    ("cpu", "features", "register"),
    [("skylake-avx512", AVX512, "[yz]mm"), ("haswell", AVX2, "ymm")],
    ids=["AVX-512", "AVX2"],
)
def test_x86_runs_vectors(cpu, features, register, loop, dtype):
    assembly = compiled(loop, dtype, cpu, features)
    assert len(fused(assembly, "ps" if dtype == "float32" else "pd", register)) >= 10
    assert not re.search(LIBM, assembly)
    if cpu == "haswell":
        assert "%zmm" not in assembly


@on_x86
@pytest.mark.parametrize("loop", LOOPS)
def test_no_arithmetic_may_be_reordered_or_fused_but_where_a_formula_says_so(loop):
    code = compiled(loop, "float64", "haswell", AVX2, "llvm")
    assert len(re.findall(r"= f(add|sub|mul) ", code)) > 20
    assert not re.search(r"= f(neg|add|sub|mul|div) (fast|contract|reassoc|nnan|ninf|nsz)", code)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_neon_runs_vectors(dtype):
    itemsize = np.dtype(dtype).itemsize
    code = operand.FLOAT32 if dtype is np.float32 else operand.FLOAT64
    width = block.STEP_BYTES // itemsize
    integer, number = ir.IntType(64), ir.DoubleType()
    module = ir.Module()
    signature = ir.FunctionType(ir.VoidType(), [integer] * 4 + [number] * 2)
    function = ir.Function(module, signature, "element_losses")
    builder = ir.IRBuilder(function.append_basic_block())
    logits, labels, out, steps, a, b = (lanes.Lanes(builder, value) for value in function.args)

    def step(k):
        offset = k * (width * itemsize)
        x = operand.load(dtype, logits + offset, code, width)
        z = operand.load(dtype, labels + offset, code, width)
        smoothing = (lanes.spread(number, dtype, width) for number in (a, b))
        element = Element(dtype, x, z, *smoothing, b != 0.0, b != 0.0, lambda: z)
        operand.store(loss(element, exp_minus_abs(dtype, x)), out + offset)
        return ()

    lanes.loop(steps, (), step)
    builder.ret_void()
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    target = llvm.Target.from_triple("aarch64-unknown-linux-gnu")
    machine = target.create_target_machine(cpu="neoverse-n1", opt=3)
    assembly = machine.emit_assembly(llvm.parse_assembly(str(module)))
    arrangement = "4s" if dtype is np.float32 else "2d"
    assert len(re.findall(rf"\bfml[as]\s+v\d+\.{arrangement}", assembly)) >= 10
    assert not re.search(LIBM, assembly)


@pytest.mark.parametrize("count", [32, 64])
@pytest.mark.parametrize("itemsize", [0, 1, 2, 4, 8])
def test_every_line_of_memory_is_asked_for_once(itemsize, count):
    module = ir.Module()
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [ir.IntType(64)]), "fetch")
    builder = ir.IRBuilder(function.append_basic_block())
    streaming.fetch_ahead(lanes.Lanes(builder, function.args[0]), itemsize, count)
    builder.ret_void()
    llvm.parse_assembly(str(module)).verify()
    asked = [int(offset) for offset in re.findall(r"add i64 .*, (\d+)", str(module))]
    lines = -(-count * itemsize // streaming.LINE)
    assert asked == [streaming.AHEAD + k * streaming.LINE for k in range(lines)]
    assert len(re.findall("call void .*prefetch", str(module))) == lines
