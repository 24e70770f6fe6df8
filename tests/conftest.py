"""What tests of several subjects are given."""

import json

import pytest

from sce_numba.__main__ import main


@pytest.fixture
def evaluate(capsys):
    """Run ``evaluate --json`` in this process, and return its report and what else it says."""

    def run(*arguments, status=0):
        assert main(["evaluate", *arguments, "--json"]) == status
        output = capsys.readouterr()
        return json.loads(output.out), output.err

    return run
