"""What is released: the contents of wheel and sdist, and what the package index is told."""

import email
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import sce_numba as sce

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "sce_numba"
RECIPE = ROOT / "recipe" / "recipe.yaml"

pytest.importorskip("hatchling")
pytest.importorskip("hatch_fancy_pypi_readme")
pytestmark = pytest.mark.skipif(not SOURCES.exists(), reason="these are not the sources")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Return the folder with a wheel and an sdist, built without a network."""
    folder = tmp_path_factory.mktemp("dist")
    code = (
        "from hatchling.build import build_sdist, build_wheel\n"
        f"build_wheel({str(folder)!r}); build_sdist({str(folder)!r})"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def wheel(built):
    """Return the contents of the files in the wheel, by name."""
    (path,) = built.glob("*.whl")
    assert path.name == f"sce_numba-{sce.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist() if kept(name)}


def kept(name):
    return not name.endswith(("/", ".npy"))


@pytest.fixture(scope="module")
def metadata(wheel):
    return email.message_from_string(wheel[f"{info()}/METADATA"])


def info():
    return f"sce_numba-{sce.__version__}.dist-info"


def test_the_wheel_holds_the_package_and_nothing_else(built, wheel):
    (path,) = built.glob("*.whl")
    own = {
        f"sce_numba/{path.relative_to(SOURCES).as_posix()}"
        for path in SOURCES.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(path) as archive:
        found = set(archive.namelist())
    assert {name for name in found if not name.startswith(info())} == own
    assert own >= {"sce_numba/py.typed", "sce_numba/example_data/labels.npy"}
    others = {f"{info()}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt")}
    assert found - own == {*others, f"{info()}/licenses/LICENSE"}


def test_numba_finds_the_functions_by_an_entry_point(wheel):
    assert (
        "[numba_extensions]\ninit = sce_numba.numba_extension:register"
        in (wheel[f"{info()}/entry_points.txt"])
    )


def test_the_sdist_can_be_built_tested_and_read_about(built):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        top = {name.split("/")[1] for name in archive.getnames()}
    assert top >= {"sce_numba", "tests", "docs", "examples", "asv_bench", "tools", "recipe"}
    assert top >= {"pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "CONTRIBUTING.md"}
    assert "build" not in top


def test_what_is_needed_beyond_extras_is_numba_and_numpy(metadata):
    needed = [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    assert [re.match(r"[\w-]+", line).group() for line in needed] == ["numba", "numpy"]
    # Without a bound, a release of Numba could break installations that are there.
    assert "<" in needed[0]
    assert metadata["Requires-Python"] == ">=3.10"


def test_the_package_index_is_told_who_what_and_for_whom(metadata):
    assert metadata["Author"] == "sce_numba developers"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Summary"].startswith("Sigmoid cross entropy on NumPy arrays")
    classifiers = metadata.get_all("Classifier")
    versions = {line.rpartition(" ")[2] for line in classifiers if ":: Python :: 3." in line}
    assert versions >= {"3.10", "3.14"}


def test_the_readme_on_the_package_index_has_no_link_that_leads_nowhere(metadata):
    page = metadata.get_payload()
    assert page.startswith("# sce_numba")
    targets = re.findall(r"\]\(([^)]*)\)", page)
    targets += re.findall(r'(?:src|srcset|href)="(.*?)"', page)
    assert [target for target in targets if not target.startswith(("https://", "#"))] == []


def test_whoever_cites_names_the_version_and_the_licence():
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {sce.__version__}\n" in citation
    assert "\nlicense: Apache-2.0\n" in citation
    assert f"\n  version: {sce.__version__}\n" in RECIPE.read_text()


def test_the_recipe_for_conda_needs_what_the_wheel_needs(metadata):
    def words(lines):
        return [set(re.findall(r"[a-z]+|[<>]=?[\d.]+", line)) for line in lines]

    recipe = RECIPE.read_text()
    needed = [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    assert words(re.findall(r"- ((?:numba|numpy) \S+)", recipe)) == words(needed)


def test_the_recipe_for_conda_has_what_conda_knows():
    rattler_build = pytest.importorskip("rattler_build")
    recipe = rattler_build.Stage0Recipe.from_file(str(RECIPE))
    (variant,) = recipe.render(rattler_build.VariantConfig())
    assert variant.recipe.package.name == "sce_numba"
    assert variant.recipe.package.version == sce.__version__
