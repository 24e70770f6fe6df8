"""The examples reach what they claim, and the data that the package carries is what they make."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import sce_numba as sce

ROOT = Path(__file__).resolve().parents[1]
PACKAGED = Path(sce.__file__).with_name("example_data")

log_loss = pytest.importorskip("sklearn.metrics").log_loss


@pytest.fixture(scope="module")
def packaged():
    return np.load(PACKAGED / "labels.npy"), np.load(PACKAGED / "logits.npy")


def printed_by(example, *arguments):
    """Return the lines that an example prints."""
    program = subprocess.run(
        [sys.executable, ROOT / "examples" / example, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PACKAGED.parents[1])},
    )
    assert program.returncode == 0, program.stderr
    return program.stdout.splitlines()


def test_example_makes_the_packaged_data(packaged, tmp_path):
    title, _, ours, sklearn, tensorflow = printed_by("digits_multilabel.py", "--output", tmp_path)
    labels, logits = packaged
    np.testing.assert_array_equal(np.load(tmp_path / "labels.npy"), labels)
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), logits, atol=1e-3)
    assert title.startswith("450 test images, 16 labels each")
    assert abs(float(sklearn.split()[-1])) < 1e-6
    assert tensorflow.endswith("not installed") or abs(float(tensorflow.split()[-1])) < 1e-6
    assert float(ours.split()[-1]) == pytest.approx(sce.sigmoid_cross_entropy(labels, logits), 1e-4)


def test_packaged_data_is_small_and_plain(packaged):
    labels, logits = packaged
    assert labels.dtype == bool
    assert logits.dtype == np.float32
    assert labels.shape == logits.shape == (450, 16)
    assert logits.flags.c_contiguous
    assert sorted(path.name for path in PACKAGED.iterdir()) == ["labels.npy", "logits.npy"]
    assert sum(path.stat().st_size for path in PACKAGED.iterdir()) < 100_000


def test_loss_is_scikit_learns_log_loss(packaged):
    labels, logits = packaged
    probabilities = 1 / (1 + np.exp(-logits.astype(np.float64)))
    expected = [log_loss(y, p) for y, p in zip(labels.T, probabilities.T, strict=True)]
    of_each_label = sce.sigmoid_cross_entropy(labels, logits, reduction="none").mean(axis=0)
    np.testing.assert_allclose(of_each_label, expected, rtol=0, atol=1e-6)
    assert sce.sigmoid_cross_entropy(labels, logits) == pytest.approx(np.mean(expected), abs=1e-6)


def test_training_reaches_what_scikit_learn_reaches_and_draws_its_curve(tmp_path):
    pytest.importorskip("scipy", "1.11")
    pytest.importorskip("matplotlib")
    *_, difference, validation = printed_by(
        "multilabel_training.py", "--plot", tmp_path / "curve.svg"
    )
    assert abs(float(difference.split()[-1])) < 1e-6
    assert float(validation.split()[-1]) == pytest.approx(0.1036, abs=1e-3)
    assert "</svg>" in (tmp_path / "curve.svg").read_text()


@pytest.mark.parametrize("library", ["xgboost", "lightgbm", "catboost"])
def test_boosting_reaches_the_built_in_objective(library):
    pytest.importorskip(library)
    lines = {line.split()[0].lower(): line.split() for line in printed_by("boosting.py")[2:]}
    ours, built_in = map(float, lines[library][1:3])
    assert ours == pytest.approx(built_in, abs=1e-8)
    assert ours < 0.2


@pytest.mark.thorough
def test_dask_reaches_the_loss_in_memory_though_a_worker_is_killed(tmp_path):
    pytest.importorskip("distributed")
    lines = printed_by("dask_evaluation.py", tmp_path, "--gigabytes", "0.16", "--kill")
    found = {line[:14].strip(): line[14:] for line in lines}
    assert found["data"].startswith("0.17 GB, 2 shards")
    assert found["killed"].startswith("worker process")
    assert found["difference"] in ("0 ULP", "1 ULP")


def test_training_by_pytorch_takes_the_same_way_with_either_loss():
    pytest.importorskip("torch")
    pytest.importorskip("PIL")
    lines = [line.split() for line in printed_by("torch_training.py", "--epochs", "1")]
    apart = [float(line[-1]) for line in lines if line[:2] == ["curves", "differ"]]
    assert len(apart) == 2
    assert max(apart) < 1e-6
