"""What tests of several subjects are given."""

import json

import pytest

from sce_numba.__main__ import main


def pytest_addoption(parser):
    parser.addoption("--all", action="store_true", help="run the tests that take long as well")


def pytest_collection_modifyitems(config, items):
    """Leave out what is marked as thorough, of which a part is tested by others all the same."""
    if config.getoption("--all"):
        return
    left_out = [item for item in items if item.get_closest_marker("thorough")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if not item.get_closest_marker("thorough")]


@pytest.fixture
def evaluate(capsys):
    """Run ``evaluate --json`` in this process, and return its report and what else it says."""

    def run(*arguments, status=0):
        assert main(["evaluate", *arguments, "--json"]) == status
        output = capsys.readouterr()
        return json.loads(output.out), output.err

    return run
