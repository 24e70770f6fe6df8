"""The loops of the kernels keep few vectors on the stack, and what counts them counts right."""

import numpy as np
import pytest

from asv_bench import ports, spills
from asv_bench.spills import Spills
from sce_numba.kernels.jobs import Job

# The most instructions that write vectors to the stack, or read them, with a quarter to spare for
# other releases of LLVM: of float32 and float64.
BOUNDS = {
    "znver4": {
        "mean": (12, 30),
        "mean and gradient": (24, 40),
        "`NONE`": (60, 105),
        "a weight for each element": (45, 135),
    },
    "haswell": {
        "mean": (110, 220),
        "mean and gradient": (250, 315),
        "`NONE`": (365, 520),
        "a weight for each element": (375, 665),
    },
    "nehalem": {
        "mean": (1335, 1980),
        "mean and gradient": (2280, 2865),
    },
    "neoverse-n1": {
        "mean": (240, 370),
        "mean and gradient": (345, 445),
        "`NONE`": (750, 1000),
        "a weight for each element": (820, 1260),
    },
}
QUICK = {("znver4", "mean"), ("haswell", "mean")}
CASES = [
    pytest.param(cpu, loop, marks=() if (cpu, loop) in QUICK else pytest.mark.thorough)
    for cpu, loops in BOUNDS.items()
    for loop in loops
]


@pytest.mark.parametrize(("cpu", "loop"), CASES)
def test_loops_keep_few_vectors_on_the_stack(cpu, loop):
    found = spills.all_spills([cpu], [loop])
    counts = [sum(by[cpu]) for by in found.values()]
    assert all(count <= bound for count, bound in zip(counts, BOUNDS[cpu][loop], strict=True)), (
        counts
    )


X86 = """
sce_numba.f:
	vmovaps	%ymm0, 32(%rsp)
.LBB0_1:
	vmovaps	%ymm1, 64(%rsp)
	vaddps	32(%rsp), %ymm1, %ymm2
	movq	%rax, 8(%rsp)
	vmulps	(%rdi), %ymm2, %ymm2
	jmpq	*(%rax,%rdx,8)
.LBB0_2:
	vmovups	96(%rsp), %ymm3
	vmovups	%ymm3, (%rdi)
.LBB0_3:
	decq	%rcx
	jne	.LBB0_1
	retq
.Lfunc_end0:
.LJTI0_0:
	.quad	.LBB0_2
	.quad	.LBB0_3
"""
ARM = """
sce_numba.f:
	stp	q0, q1, [sp, #32]
.LBB0_1:
	fmul	v0.4s, v1.4s, v2.4s
	str	q0, [sp, #16]
	ldp	q1, q2, [sp, #32]
	ldr	x0, [sp]
	cbnz	x0, .LBB0_1
	ret
.Lfunc_end0:
"""


@pytest.mark.parametrize(
    ("assembly", "expected"), [(X86, Spills(1, 2)), (ARM, Spills(1, 2))], ids=["x86", "AArch64"]
)
def test_vectors_on_the_stack_are_counted_within_the_loop(assembly, expected):
    function = spills.functions(assembly)["f"]
    assert spills.spills(spills.step_loop(function)) == expected


DETOUR = """
	xorl	%eax, %eax
.LBB0_1:
	vmulps	%ymm0, %ymm1, %ymm2
	je	.LBB0_3
	vaddps	%ymm0, %ymm2, %ymm2
	jmp	.LBB0_3
	nop
.LBB0_3:
	decq	%rcx
	jne	.LBB0_1
	retq
"""


def test_the_shortest_way_round_a_loop_leaves_out_detours_and_jumps():
    names = [line.split()[0] for line in ports.shortest_way(DETOUR)]
    assert names == ["vmulps", "decq"]


@pytest.mark.parametrize(
    ("cpu", "asks_always"),
    [("skylake", True), ("icelake-server", True), ("znver3", True), ("znver4", False)],
)
def test_long_runs_are_asked_for_early_where_the_processor_is_late(cpu, asks_always):
    with spills.processor(cpu, spills.X86_64) as machine:
        assembly = spills.assembly_of(Job("totals", np.float32, spills.USUAL), machine)
    text, following = spills.blocks(spills.functions(assembly)["total_merged"])
    loops = spills.loops_of(following)
    blocks = [text[name] for name in loops[spills.busiest(text, loops)]]
    (asking,) = (block for block in blocks if any("prefetch" in line for line in block))
    # Elsewhere a branch leads to a block that does nothing but ask.
    assert (spills.multiplications(asking) > 0) == asks_always
