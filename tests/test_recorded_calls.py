"""Every bit of three hundred recorded calls stays what it was, here and on AVX2.

Other tests ask whether a result is near enough to what is right.  These tell whether it changed at
all, as it must not by a change that is about speed or order of code alone.  Where one is meant to
change results, ``python -m tests.recorded_calls`` records them anew, and the commit says why.
"""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import recorded_calls
from llvmlite import binding

RECORDED = json.loads(recorded_calls.PATH.read_text())
HASWELL = ("avx2", "fma", "bmi2")
PROGRAM = "import json, recorded_calls; print(json.dumps(recorded_calls.digests()))"


def lacks_avx2() -> bool:
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return True
    features = binding.get_host_cpu_features()
    return not all(features.get(name) for name in HASWELL)


def changed(found: list[list[str]]) -> list[str]:
    """Return the calls whose digests are not as recorded, in words."""
    assert [call for call, _ in found] == [call for call, _ in RECORDED]
    pairs = zip(found, RECORDED, strict=True)
    return [f"{call}: {digest}, was {was}" for (call, digest), (_, was) in pairs if digest != was]


def test_every_bit_is_as_recorded():
    assert changed(recorded_calls.digests()) == []


@pytest.mark.thorough
@pytest.mark.skipif(lacks_avx2(), reason="this is no x86-64 processor with AVX2")
@pytest.mark.parametrize("cpu", ["haswell"])
def test_every_bit_is_as_recorded_on_another_processor(cpu, tmp_path):
    environment = {
        **os.environ,
        "NUMBA_CACHE_DIR": str(tmp_path),
        "NUMBA_CPU_NAME": cpu,
        # None but those that the name stands for: the processor at hand may have more.
        "NUMBA_CPU_FEATURES": "",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
    }
    program = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment
    )
    assert program.returncode == 0, program.stderr
    assert changed(json.loads(program.stdout)) == []
