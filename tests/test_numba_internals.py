"""What is used of Numba beyond its promises is there, does what it is used for, and in one file.

Each test is of one part, so that those which fail tell what a release of Numba has changed.
"""

import ast
import ctypes
import importlib
from pathlib import Path

import llvmlite.binding
import numba
import numpy as np
import pytest
from numba import types
from numba.extending import intrinsic

import sce_numba

ONE_FILE = "numba_internals.py"
# Modules of Numba that its documentation has for everyone, and the start of those that it has not.
PROMISED = {"numba", "numba.extending"}
PARTS = [
    "numba.core.caching CompileResultCacheImpl._locator_classes",
    "numba.core.caching CompileResultCacheImpl.locator",
    "numba.core.cgutils get_or_insert_function",
    "numba.core.compiler_lock global_compiler_lock.acquire",
    "numba.core.compiler_lock global_compiler_lock.release",
    "numba.core.compiler_lock global_compiler_lock.is_locked",
    "numba.core.registry cpu_target.target_context.codegen",
    "numba.core.registry cpu_target.target_context.declare_env_global",
    "numba.core.registry cpu_target.target_context.environment",
    "numba.core.registry cpu_target.target_context.fndesc",
    "numba.core.registry cpu_target.target_context.get_env_name",
    "numba.core.registry cpu_target.target_context.get_function",
    "numba.core.registry cpu_target.target_context.refresh",
    "numba.core.registry cpu_target.typing_context.refresh",
    "numba.core.types Dispatcher.get_call_type",
    "numba.core.types Omitted",
    "numba.core.typing.templates AbstractTemplate",
    "numba.core.typing.templates AttributeTemplate",
    "numba.core.typing.templates infer_global",
    "numba.np.numpy_support as_dtype",
    "numba.np.ufunc.parallel _get_num_threads",
    "numba.np.ufunc.parallel _set_num_threads",
]


@pytest.fixture(scope="module")
def internals():
    return importlib.import_module("sce_numba.kernels.numba_internals")


@pytest.mark.parametrize("part", PARTS)
def test_it_is_there(part):
    numba.get_num_threads()  # before the threads have started, some parts are missing
    module, names = part.split()
    found = importlib.import_module(module)
    for name in names.split("."):
        assert hasattr(found, name), f"Numba {numba.__version__} has no {part.replace(' ', '.')}"
        found = getattr(found, name)


def test_the_processor_is_the_one_that_numba_compiles_for(internals):
    triple, name, features = internals.target()
    assert name == (numba.config.CPU_NAME or llvmlite.binding.get_host_cpu_name())
    machine = llvmlite.binding.Target.from_triple(triple).create_target_machine(name, features)
    assert machine.triple == triple


def test_every_way_to_find_a_folder_can_be_altered(internals, monkeypatch, tmp_path):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    altered = []

    def alter(way):
        altered.append(way)
        return type(f"Altered{way.__name__}", (way,), {"mark": 1})

    locator = internals.cache_search(alter)(internals.target).locator
    assert len(altered) > 2
    assert locator.mark == 1
    locator.ensure_cache_path()
    assert Path(locator.get_cache_path()).is_relative_to(tmp_path)
    assert Path(locator.get_cache_path()).is_dir()


def test_the_lock_of_the_compiler_is_held_by_whoever_acquired_it(internals):
    lock = internals.global_compiler_lock
    assert not lock.is_locked()
    lock.acquire()
    try:
        assert lock.is_locked()
    finally:
        lock.release()
    assert not lock.is_locked()


def test_the_number_of_threads_is_the_public_one(internals):
    usual = numba.get_num_threads()
    assert internals.number_of_threads() == usual
    try:
        internals.set_number_of_threads(1)
        assert numba.get_num_threads() == 1
    finally:
        internals.set_number_of_threads(usual)
    assert numba.get_num_threads() == usual


def test_compiled_code_is_called_by_its_address(internals):
    from sce_numba.kernels import machine_code

    def divided(a, b):
        return a // b

    name, code = internals.object_code(divided, (types.int64, types.int64), nogil=True)
    (address,) = machine_code.load([name], code)
    call = internals.function_type(ctypes.c_int64, ctypes.c_int64)(address)
    result, exception = ctypes.c_int64(), ctypes.c_void_p()
    places = ctypes.byref(result), ctypes.byref(exception)
    assert (call(*places, 42, 5), result.value) == (0, 8)
    assert call(*places, 42, 0) != 0


def test_a_value_is_pickled_with_the_code_of_whoever_calls_what_it_belongs_to(internals):
    @intrinsic
    def marked(_typing):
        def codegen(context, builder, _signature, _arguments):
            internals.keep_with_code(context, builder, "kept")
            return context.get_dummy_value()

        return types.void(), codegen

    @numba.njit
    def inner():
        marked()

    @numba.njit
    def outer():
        inner()

    outer()
    *_, environments = outer.overloads[()]._reduce()
    assert any("kept" in environment.consts for environment in environments)


def test_types_of_arrays_are_dtypes_of_numpy(internals):
    assert internals.as_dtype(types.float32) == np.dtype(np.float32)
    assert internals.as_dtype(types.boolean) == np.dtype(bool)


def imported(tree):
    """Return the modules of Numba that are named in a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("numba"))
        elif (
            isinstance(node, ast.ImportFrom) and node.level == 0 and node.module.startswith("numba")
        ):
            yield node.module
        elif isinstance(node, ast.Constant) and str(node.value).startswith("numba."):
            yield node.value


def test_no_other_file_goes_beyond_what_numba_promises():
    folder = Path(sce_numba.__file__).parent
    beyond = {
        f"{path.relative_to(folder)}: {module}"
        for path in folder.rglob("*.py")
        if path.name != ONE_FILE
        for module in imported(ast.parse(path.read_text(encoding="utf-8")))
        if module not in PROMISED
    }
    assert beyond == set()
