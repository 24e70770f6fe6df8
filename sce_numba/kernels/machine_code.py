"""Compile the code of a job by LLVM to an object file, and load object files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import config

from . import numba_internals
from .jobs import NAMES, Job, write_function

# Machine code is valid only as long as its engine lives.
_engines: list[Any] = []


def _machine() -> Any:
    """Return LLVM's target machine for the processor that Numba compiles for."""
    triple, cpu, features = numba_internals.target()
    return llvm.Target.from_triple(triple).create_target_machine(
        cpu=cpu, features=features, opt=3, reloc="default", codemodel="jitdefault"
    )


def optimized(job: Job, machine: Any) -> Any:
    """Return the code of a job, optimised for a target machine, as a module of LLVM."""
    written = ir.Module(job.name)
    written.triple, written.data_layout = machine.triple, str(machine.target_data)
    for name in NAMES:
        write_function(job, name, written)
    module = llvm.parse_assembly(str(written))
    # The code is vectorised already.
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = options.slp_vectorization = False
    passes = llvm.create_pass_builder(machine, options)
    passes.getModulePassManager().run(module, passes)
    return module


def compiled(job: Job) -> bytes:
    """Return the object file of a job."""
    machine = _machine()
    code: bytes = machine.emit_object(optimized(job, machine))
    return code


def load(names: Sequence[str], code: bytes) -> list[int]:
    """Return the addresses of functions, given the object file that holds them."""
    machine = _machine()
    nothing = llvm.parse_assembly(
        f'target datalayout = "{machine.target_data}"\ntarget triple = "{machine.triple}"'
    )
    manager = getattr(config, "USE_LLVMLITE_MEMORY_MANAGER", None)
    options = {} if manager is None else {"use_lmm": manager}
    engine = llvm.create_mcjit_compiler(nothing, machine, **options)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    addresses = [engine.get_function_address(name) for name in names]
    if not all(addresses):
        raise ValueError("functions are missing")
    _engines.append(engine)
    return addresses
