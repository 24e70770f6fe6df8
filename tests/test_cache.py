"""Compiled code on disk: used again where that is right, and never in the way.

    python tests/test_cache.py 50

lets eight processes compile at once on a cold cache, so many times.
"""

import concurrent.futures
import math
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numba
import numpy as np
import pytest

import sce_numba
from sce_numba.kernels import machine_code
from sce_numba.kernels.cache import Cache, cache_folder, header, why_not
from sce_numba.kernels.compile import Kernel
from sce_numba.kernels.jobs import Job
from sce_numba.kernels.tiles import Form

PACKAGE = Path(sce_numba.__file__).parent
# A path below a regular file can't be made or written to, not even by root.
NOWHERE = str(Path(__file__) / "nowhere")
POSIX = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="files have no owner here")
VALUE = "print(round(float(sce.sigmoid_cross_entropy([1.0, 0.0], [0.5, -2.0])), 12))"
CALL = f"import sce_numba as sce; {VALUE}"
EXPECTED = str(round((math.log1p(math.exp(-0.5)) + math.log1p(math.exp(-2.0))) / 2, 12))
COMPILED = """
from sce_numba.kernels import cache
count = []
save = cache.Cache.save
cache.Cache.save = lambda *given: (count.append(1), save(*given))
import sce_numba as sce
"""
COUNT = f"{COMPILED}{VALUE}; print(len(count))"


def environment(**settings):
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("NUMBA_", "PYTHON", "XDG_"))
    }
    return inherited | {"PYTHONDONTWRITEBYTECODE": "1"} | settings


def run(code, *options, cwd="/", **settings):
    """Run code, which must print nothing but what it is told to, and return that."""
    done = subprocess.run(
        [sys.executable, *options, "-c", code],
        capture_output=True,
        text=True,
        env=environment(**settings),
        cwd=cwd,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.split()


def copy_of_the_package(folder):
    """Return a folder to import a copy from; the interpreter's own is not looked at first."""
    shutil.copytree(
        PACKAGE, folder / "sce_numba", ignore=shutil.ignore_patterns("__pycache__", "*.nbc")
    )
    return str(folder)


def files(folder):
    return sorted(Path(folder).rglob("*.nbc"))


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    """Return a folder that holds the code of one call."""
    folder = tmp_path_factory.mktemp("warm")
    assert run(COUNT, NUMBA_CACHE_DIR=str(folder)) == [EXPECTED, "1"]
    return folder


@pytest.fixture
def cache(warm, tmp_path):
    """Return a copy of that folder, to be spoilt."""
    return shutil.copytree(warm, tmp_path / "cache")


def test_the_second_process_compiles_nothing(cache):
    assert run(COUNT, NUMBA_CACHE_DIR=str(cache)) == [EXPECTED, "0"]


def test_one_cache_serves_any_number_of_threads(cache):
    code = (
        "import numpy as np, sce_numba as sce\n"
        "x = np.linspace(-5, 5, 100_000)\n"
        "print(repr(float(sce.sigmoid_cross_entropy(x > 0, x))))"
    )
    found = {
        tuple(run(code, NUMBA_CACHE_DIR=str(cache), NUMBA_NUM_THREADS=count))
        for count in ("2", "1", "8")
    }
    assert len(found) == 1


def read_only_package(tmp_path):
    """Return settings under which the package's own folder refuses a cache.

    Permissions don't stop root.  A regular file where `__pycache__` would be stops everyone.
    """
    folder = copy_of_the_package(tmp_path / "site")
    (tmp_path / "site" / "sce_numba" / "kernels" / "__pycache__").write_text("")
    return {"PYTHONPATH": folder}


def test_a_read_only_package_is_cached_at_home(tmp_path):
    settings = read_only_package(tmp_path) | {"HOME": str(tmp_path)}
    assert run(COUNT, **settings) == [EXPECTED, "1"]
    assert len(files(tmp_path / ".cache")) == 1
    assert run(COUNT, **settings) == [EXPECTED, "0"]


def test_a_home_that_is_missing_or_cannot_be_written_to_is_no_error(tmp_path):
    for home in (NOWHERE, str(tmp_path / "missing" / "home")):
        assert run(CALL, **read_only_package(tmp_path / home[-4:]), HOME=home) == [EXPECTED]


def test_without_the_variable_home_there_is_no_error(tmp_path):
    # The home of the user database may be writable: nothing is compiled there.
    code = f"import os; os.environ.pop('HOME', None); os.environ['NUMBA_CACHE_DIR'] = {NOWHERE!r}\n"
    assert run(f"{code}import sce_numba; print(1)", **read_only_package(tmp_path)) == ["1"]


def test_nowhere_to_write_is_said_once_and_quietly(tmp_path):
    code = (
        "import logging\n"
        "records = []\n"
        "handler = logging.Handler()\n"
        "handler.emit = records.append\n"
        "logging.getLogger().addHandler(handler)\n"
        "logging.getLogger('sce_numba').setLevel('DEBUG')\n"
        f"{CALL}\n"
        "sce.sigmoid_cross_entropy_with_logits(labels=[1.0], logits=[0.0])\n"
        "[record] = [r for r in records if 'NUMBA_CACHE_DIR' in r.getMessage()]\n"
        "print(record.levelname)\n"
    )
    settings = read_only_package(tmp_path)
    assert run(code, **settings, HOME=NOWHERE) == [EXPECTED, "INFO"]
    assert run(
        "from sce_numba.kernels.cache import cache_folder as f; print(f())",
        **settings,
        HOME=NOWHERE,
    ) == ["None"]


def test_a_locator_that_does_not_exist_is_no_error(tmp_path):
    assert run(CALL, NUMBA_CACHE_LOCATOR_CLASSES="NoSuchLocator") == [EXPECTED]


def zipped(path):
    with zipfile.ZipFile(path, "w") as archive:
        for source in sorted(PACKAGE.rglob("*.py")):
            archive.write(source, Path("sce_numba") / source.relative_to(PACKAGE))
    return str(path)


@pytest.mark.parametrize(
    ("name", "home"),
    [
        ("app.zip", "writable"),
        *(
            pytest.param(name, home, marks=pytest.mark.thorough)
            for name in ("app.zip", "app.pyz", "app.zip.old")
            for home in ("writable", "not writable")
            if (name, home) != ("app.zip", "writable")
        ),
    ],
)
def test_the_package_works_from_a_zip_file(tmp_path, name, home):
    path = zipped(tmp_path / name)
    settings = {"PYTHONPATH": path, "HOME": NOWHERE if home == "not writable" else str(tmp_path)}
    code = f"{COUNT}; assert {name!r} in sce.__file__"
    compiled = run(code, **settings)
    assert compiled[0] == EXPECTED
    if name == "app.zip" and home == "writable":
        assert run(code, **settings) == [EXPECTED, "0"]


@pytest.mark.thorough
def test_a_zip_file_that_was_replaced_leaves_no_stale_code(tmp_path):
    path = tmp_path / "app.zip"
    settings = {"PYTHONPATH": zipped(path), "HOME": str(tmp_path)}
    assert run(COUNT, **settings) == [EXPECTED, "1"]
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("sce_numba/kernels/zzz.py", "")
    assert run(COUNT, **settings) == [EXPECTED, "1"]


def test_without_sources_nothing_is_kept(tmp_path):
    # As in a frozen application: there would be nothing to tell stale code by.
    code = (
        "from sce_numba.kernels import cache\n"
        "cache.sources = lambda: b''\n"
        "assert cache.cache_folder() is None\n"
        f"{CALL}"
    )
    assert run(code, NUMBA_CACHE_DIR=str(tmp_path)) == [EXPECTED]
    assert files(tmp_path) == []


def cut(content, part):
    return content[: int(len(content) * part)]


def flipped(content, part):
    position = min(int(len(content) * part), len(content) - 1)
    return content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


SPOILT = {
    "empty": lambda content: b"",
    "a few bytes": lambda content: cut(content, 0.0001),
    "half": lambda content: cut(content, 0.5),
    "all but the end": lambda content: content[:-1],
    "too long": lambda content: content + b"\0",
    "a bit of the checksum": lambda content: flipped(content, 0),
    "a bit of the code": lambda content: flipped(content, 0.5),
    "the last bit": lambda content: flipped(content, 1),
    "zeros": lambda content: bytes(len(content)),
    "text": lambda content: b"no such thing\n" * 100,
}


JOB = Job("losses", np.float64, Form(staged=False, by_element=False))


@pytest.fixture
def compiled(tmp_path, monkeypatch):
    """Compile a small job, and return how often it was compiled in all, and its file."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    count = []
    save = Cache.save
    monkeypatch.setattr(Cache, "save", lambda *given: (count.append(1), save(*given)))

    def call():
        assert Kernel(JOB).group
        [file] = files(tmp_path)
        return len(count), file

    return call


@pytest.mark.parametrize("how", SPOILT)
def test_a_damaged_file_is_compiled_anew(compiled, how):
    count, file = compiled()
    assert (count, file) == compiled() == (1, file)
    file.write_bytes(SPOILT[how](file.read_bytes()))
    assert compiled() == compiled() == (2, file)


def test_a_file_with_a_sound_checksum_that_holds_other_code_is_compiled_anew(compiled):
    code = machine_code.compiled(JOB._replace(kind="weights"))
    count, file = compiled()
    file.write_bytes(header(code) + code)
    assert compiled() == (count + 1, file)


def test_a_folder_in_the_place_of_a_file_is_no_error(cache):
    [file] = files(cache)
    file.unlink()
    file.mkdir()
    assert run(COUNT, NUMBA_CACHE_DIR=str(cache)) == [EXPECTED, "1"]


def test_a_folder_that_vanishes_is_no_error(tmp_path):
    code = f"{COMPILED}import shutil; cache.cache_folder(); real = cache.Cache.__init__\n"
    code += (
        "def vanish(self, *given):\n"
        "    real(self, *given)\n"
        "    shutil.rmtree(self.folder)\n"
        "cache.Cache.__init__ = vanish\n"
    )
    assert run(code + VALUE, NUMBA_CACHE_DIR=str(tmp_path / "cache")) == [EXPECTED]


@pytest.mark.parametrize("file", ["softplus.py", "loss.py"])
def test_a_change_in_any_file_that_is_compiled_leaves_no_stale_code(tmp_path, file):
    settings = {"PYTHONPATH": copy_of_the_package(tmp_path), "HOME": NOWHERE}
    assert run(COUNT, **settings) == [EXPECTED, "1"]
    path = tmp_path / "sce_numba" / "kernels" / file
    before = path.stat()
    text = path.read_text()
    path.write_text(text.replace("The", "the", 1) if "The" in text else text.replace("e", "E", 1))
    # Not even where size and time of the file are as they were.
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert run(COUNT, **settings) == [EXPECTED, "1"]
    assert len(files(tmp_path)) == 1, "stale code is replaced, not kept"


def test_a_change_in_a_callee_changes_the_result(tmp_path):
    settings = {"PYTHONPATH": copy_of_the_package(tmp_path), "HOME": NOWHERE}
    assert run(CALL, **settings) == [EXPECTED]
    path = tmp_path / "sce_numba" / "kernels" / "jobs.py"
    text = path.read_text()
    old = "select(by != 0.0, numerator / select(by != 0.0, by, 1.0), 0.0)"
    assert old in text
    path.write_text(text.replace(old, "real(total, 42.0)"))
    assert run(CALL, **settings) == ["42.0"]


def test_machines_that_share_a_home_do_not_share_code(cache):
    settings = {"NUMBA_CACHE_DIR": str(cache), "NUMBA_CPU_FEATURES": ""}
    for cpu in ("generic", "nehalem") if "x86" in os.uname().machine else ("generic",):
        assert run(COUNT, **settings, NUMBA_CPU_NAME=cpu) == [EXPECTED, "1"]
        assert run(COUNT, **settings, NUMBA_CPU_NAME=cpu) == [EXPECTED, "0"]
    assert run(COUNT, NUMBA_CACHE_DIR=str(cache)) == [EXPECTED, "0"]


def test_a_relative_folder_is_not_used(tmp_path):
    # An empty XDG_CACHE_HOME makes Numba's folder a relative one.
    code = (
        "import logging\n"
        "logging.basicConfig(stream=__import__('sys').stdout, format='%(message)s')\n"
        f"logging.getLogger('sce_numba').setLevel('INFO')\n{CALL}"
    )
    here = tmp_path / "here"
    here.mkdir()
    settings = read_only_package(tmp_path) | {"HOME": str(tmp_path)}
    for setting in ({"XDG_CACHE_HOME": ""}, {"NUMBA_CACHE_DIR": "mine", "XDG_CACHE_HOME": "x"}):
        *said, answer = run(code, cwd=here, **settings, **setting)
        assert answer == EXPECTED
        assert " ".join(said).startswith("compiling in memory, in every process anew, as '")
        assert "is a relative path" in " ".join(said)
        assert list(here.iterdir()) == []


@POSIX
def test_a_folder_that_others_may_write_to_is_passed_over(tmp_path, monkeypatch, caplog, compiled):
    caplog.set_level("INFO", "sce_numba")
    tmp_path.chmod(0o777)
    assert cache_folder() != str(tmp_path)
    assert f"{tmp_path} may be written to by others" in why_not()
    assert files(tmp_path) == []
    monkeypatch.setattr(numba.config, "CACHE_LOCATOR_CLASSES", "UserProvidedCacheLocator")
    assert Kernel(JOB).group
    assert f"compiling in memory, in every process anew, as {tmp_path} may be" in caplog.text
    assert cache_folder() is None
    assert list(tmp_path.rglob("*.nbc")) == []
    tmp_path.chmod(0o755)
    assert cache_folder() is not None


@POSIX
def test_folders_and_files_are_made_for_this_user_alone(tmp_path, monkeypatch, compiled):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "a" / "b"))
    before = os.umask(0)
    try:
        _, file = compiled()
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    made = [folder for folder in file.parents if tmp_path in folder.parents]
    assert len(made) == 3
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in made} == {0o700}


@POSIX
@pytest.mark.parametrize("how", ["pipe", "link", "writable by others"])
def test_a_file_that_is_not_this_users_alone_is_compiled_anew(tmp_path, compiled, how):
    count, file = compiled()
    if how == "writable by others":
        file.chmod(0o666)
    else:
        file.rename(tmp_path / "moved")
        file.symlink_to(tmp_path / "moved") if how == "link" else os.mkfifo(file)
    assert compiled() == compiled() == (count + 1, file)
    assert stat.S_ISREG(file.lstat().st_mode)


def test_code_of_other_releases_is_removed_by_the_next_that_is_kept(compiled):
    _, file = compiled()
    old, other = (file.with_name(f"{name}.nbc") for name in ("sce_numba.old.0", "of another"))
    for path in (old, other):
        path.write_bytes(bytes(32) + file.read_bytes()[32:])
    Kernel(JOB).group  # noqa: B018
    assert old.exists()
    file.unlink()
    Kernel(JOB).group  # noqa: B018
    assert not old.exists()
    assert other.exists()


def test_what_a_killed_writer_left_is_removed(tmp_path, compiled):
    count, file = compiled()
    left, fresh = (file.with_name(f"{file.name}.{name}.tmp") for name in ("left", "fresh"))
    other = file.with_name("of another.tmp")
    for path in (left, fresh, other):
        path.write_bytes(b"")
    for path in (left, other):
        os.utime(path, (1e9, 1e9))
    file.unlink()
    assert compiled() == (count + 1, file)
    assert [path.exists() for path in (left, fresh, other)] == [False, True, True]


def eight_processes_compile_at_once(folder):
    """Let processes of two kinds write the same files at once; return all answers."""
    codes = [
        CALL,
        "import numpy as np, sce_numba as sce\n"
        "x = np.array([0.5, -2.0], np.float32)\n"
        f"assert abs(sce.sigmoid_cross_entropy([1, 0], x) - {EXPECTED}) < 1e-6\n"
        f"print({EXPECTED})",
    ]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        work = [pool.submit(run, codes[k % 2], NUMBA_CACHE_DIR=folder) for k in range(8)]
        answers = [future.result() for future in work]
    answers += [run(code, NUMBA_CACHE_DIR=folder) for code in codes]
    return answers


@pytest.mark.thorough
def test_eight_processes_may_compile_at_once(tmp_path):
    assert eight_processes_compile_at_once(str(tmp_path)) == [[EXPECTED]] * 10
    assert not list(tmp_path.rglob("*.tmp"))
    assert len(files(tmp_path)) == 2


def main(rounds):
    good = 0
    for number in range(1, rounds + 1):
        with tempfile.TemporaryDirectory() as folder:
            good += eight_processes_compile_at_once(folder) == [[EXPECTED]] * 10
        print(f"{good} of {number} rounds right", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
