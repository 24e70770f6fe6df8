"""``python -m sce_numba`` prints what it promises, and one line when it cannot."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import sce_numba as sce
from sce_numba.__main__ import main

LABELS = np.array([[True, False, True], [False, False, True]])
LOGITS = np.array([[0.5, -1.0, 30.0], [2.0, -0.25, 0.0]], np.float32)
WEIGHTS = np.array([[1.0], [0.0]], np.float32)
# The program shall be the package under test, also where another one is installed.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(sce.__file__).parents[1])}
LOSSES = np.logaddexp(0, np.where(LABELS, -1, 1) * LOGITS.astype(np.float64))


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Work in a folder with operands, good and bad."""
    monkeypatch.chdir(tmp_path)
    np.save("labels.npy", LABELS)
    np.save("logits.npy", LOGITS)
    np.save("weights.npy", WEIGHTS)
    np.save("integers.npy", LOGITS.astype(np.int64))
    np.save("scalar.npy", np.float32(0))
    np.save("empty.npy", np.empty((0, 3), np.float32))
    np.save("objects.npy", np.array([None]), allow_pickle=True)
    np.save("transposed.npy", np.ascontiguousarray(LOGITS.T))
    np.savez("both.npz", y=LABELS, x=LOGITS, pickled=np.array([None]))
    np.savez_compressed("small.npz", y=LABELS)
    (tmp_path / "text.npy").write_text("0.5, 1.5\n")
    (tmp_path / "short.npy").write_bytes((tmp_path / "logits.npy").read_bytes()[:-4])
    (tmp_path / "broken.npz").write_bytes((tmp_path / "both.npz").read_bytes()[:100])
    return tmp_path


@pytest.fixture
def evaluate(files, capsys):
    """Run ``evaluate --json`` in this process and return the object that it prints."""

    def run(*arguments):
        assert main(["evaluate", *arguments, "--json"]) == 0
        output = capsys.readouterr()
        assert output.err == ""
        return json.loads(output.out, parse_constant=pytest.fail)

    return run


def run_program(*arguments, **options):
    command = [sys.executable, "-m", "sce_numba", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, **options)


def test_evaluate_reports_loss_shape_and_speed(evaluate):
    report = evaluate("labels.npy", "logits.npy")
    assert report["loss"] == pytest.approx(LOSSES.mean(), rel=1e-6)
    assert report["reduction"] == "weighted_sum_by_nonzero_weights"
    assert report["shape"] == [2, 3]
    assert report["labels_dtype"] == "bool"
    assert report["logits_dtype"] == "float32"
    assert report["elements_per_second"] == pytest.approx(6 / report["seconds"])


@pytest.mark.parametrize("archive", ["both.npz", "small.npz"])
def test_evaluate_reads_members_of_archives(evaluate, archive):
    report = evaluate(f"{archive}:y", "both.npz:x")
    assert report["loss"] == pytest.approx(LOSSES.mean(), rel=1e-6)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [("weights.npy", LOSSES[0].sum()), ("2.5", 2.5 * LOSSES.sum()), ("-1", -LOSSES.sum())],
)
def test_weights_are_a_number_or_a_file(evaluate, weights, expected):
    report = evaluate("labels.npy", "logits.npy", "--weights", weights, "--reduction", "sum")
    assert report["loss"] == pytest.approx(expected, rel=1e-6)


def test_label_smoothing_is_passed_on(evaluate):
    report = evaluate("labels.npy", "logits.npy", "--label-smoothing", "0.2")
    smooth = LABELS * 0.8 + 0.1
    expected = np.mean(np.logaddexp(0, LOGITS.astype(np.float64)) - LOGITS * smooth)
    assert report["loss"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", ["SUM", "MEAN", "SUM_OVER_BATCH_SIZE", "SUM_OVER_NONZERO_WEIGHTS"])
def test_reductions_have_three_spellings(evaluate, name):
    reduction = sce.Reduction[name]
    expected = sce.sigmoid_cross_entropy(LABELS, LOGITS, WEIGHTS, reduction=reduction)
    for spelling in [name, name.lower(), reduction.value]:
        weighting = ["--weights", "weights.npy", "--reduction", spelling]
        report = evaluate("labels.npy", "logits.npy", *weighting)
        assert report["reduction"] == reduction.value
        assert report["loss"] == expected


def test_none_is_summarised(evaluate):
    report = evaluate("labels.npy", "logits.npy", "--reduction", "none")
    assert "loss" not in report
    assert report["loss_min"] == pytest.approx(LOSSES.min(), rel=1e-6)
    assert report["loss_mean"] == pytest.approx(LOSSES.mean(), rel=1e-6)
    assert report["loss_max"] == pytest.approx(LOSSES.max(), rel=1e-6)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity"])
def test_json_spells_what_is_not_finite(files, capsys, text):
    options = f"--weights={text}", "--reduction", "sum", "--json"
    assert main(["evaluate", "labels.npy", "logits.npy", *options]) == 0
    output = capsys.readouterr()
    assert json.loads(output.out, parse_constant=pytest.fail)["loss"] == text
    assert ("the loss is NaN" in output.err) == (text == "NaN")


def test_empty_and_scalar_arrays(evaluate, capsys):
    for reduction, key, expected in (("sum", "loss", 0), ("none", "loss_max", "NaN")):
        assert main(["evaluate", "empty.npy", "empty.npy", "--json", "--reduction", reduction]) == 0
        assert json.loads(capsys.readouterr().out)[key] == expected
    assert evaluate("scalar.npy", "scalar.npy")["loss"] == pytest.approx(np.log(2))


def test_no_rows_have_neither_time_nor_speed(files, capsys):
    assert main(["evaluate", "empty.npy", "empty.npy"]) == 0
    names = [line[:21].rstrip() for line in capsys.readouterr().out.splitlines()]
    assert names == ["loss", "reduction", "shape", "divided by"]


def test_few_elements_a_second_have_one_blank_before_their_name(files, capsys, monkeypatch):
    monkeypatch.setattr("sce_numba.evaluator.result.Evaluation.elements", 1e-9)
    assert main(["evaluate", "labels.npy", "logits.npy"]) == 0
    speed = capsys.readouterr().out.splitlines()[-1][21:]
    assert "  " not in speed


def test_the_loss_of_half_precision_is_printed_in_double(evaluate):
    np.save("half.npy", np.ones(100_000, np.float16))
    np.save("zeros.npy", np.zeros(100_000, np.float16))
    report = evaluate("zeros.npy", "half.npy", "--reduction", "weighted_sum")
    assert report["loss"] == pytest.approx(1e5 * np.log1p(np.e), rel=1e-7)


def test_lines_are_aligned(files, capsys):
    assert main(["evaluate", "labels.npy", "logits.npy"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {len(line[:21].rstrip()) < 21 and line[21] != " " for line in lines} == {True}
    # With the digits of float64, though the logits are float32.
    loss = sce.LossAccumulator()
    loss.update(LABELS, LOGITS)
    assert lines[0].split() == ["loss", str(loss.result())]
    assert float(lines[0].split()[1]) == pytest.approx(LOSSES.mean(), rel=1e-7)
    assert loss.result() != float(np.float32(loss.result()))
    assert lines[2].split(maxsplit=1) == ["shape", "2 x 3"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone.npy", "logits.npy"], "gone.npy (No such file"),
        (["gone.npz:y", "logits.npy"], "gone.npz:y (No such file"),
        (["labels.npy", "."], "cannot read ."),
        (["labels.npy", "text.npy"], "text.npy (the magic string is not correct"),
        (["labels.npy", "short.npy"], "cannot read short.npy"),
        (["labels.npy", "objects.npy"], "Python objects"),
        (["labels.npy", "both.npz"], "an archive of y, x, pickled"),
        (["labels.npy", "both.npz:z"], "its members are y, x, pickled"),
        (["labels.npy", "both.npz:pickled"], "Python objects"),
        (["labels.npy", "broken.npz:x"], "cannot read broken.npz:x"),
        (["labels.npy", "transposed.npy"], "(2, 3)"),
        (["labels.npy", "integers.npy"], "int64"),
        (["labels.npy", "logits.npy", "--weights", "gone.npy"], "gone.npy (No such file"),
        (["labels.npy", "logits.npy", "--weights", "transposed.npy"], "weights"),
        (["labels.npy", "logits.npy", "--label-smoothing", "2"], "label_smoothing"),
        (["labels.npy", "logits.npy", "--label-smoothing", "x"], "--label-smoothing"),
        (["labels.npy", "logits.npy", "--reduction", "average"], "'average' is none of NONE,"),
        (["labels.npy"], "LOGITS"),
        (["labels.npy", "logits.npy", "more.npy"], "more.npy"),
    ],
)
def test_errors_are_one_line(files, capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", *arguments])
    output = capsys.readouterr()
    assert stopped.value.code == 2
    assert output.out == ""
    assert output.err.startswith("python -m sce_numba")
    assert output.err.endswith("\n")
    assert output.err.count("\n") == 1
    assert message in output.err


def test_unknown_command(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["measure"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_versions(capsys):
    assert main(["versions"]) == 0
    printed = capsys.readouterr().out
    sce.show_versions()
    assert printed == capsys.readouterr().out


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"sce_numba {sce.__version__}\n"


def test_interruption(monkeypatch, capsys):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(sce, "show_versions", interrupt)
    assert main(["versions"]) == 130
    assert capsys.readouterr().err == ""


def test_program_alone_compares_with_numpy():
    program = run_program()
    assert (program.returncode, program.stderr) == (0, "")
    for shape in ["450 x 16 float32", "90,000 x 16 float32"]:
        table = program.stdout.partition(shape)[2].partition("\n\n")[0]
        rows = {line.split()[0]: line.split()[1:] for line in table.splitlines()[2:]}
        assert list(rows) == [reduction.name for reduction in sce.Reduction]
        for ours, plain, *_ in rows.values():
            assert float(ours) == pytest.approx(float(plain), rel=1e-5)


def test_program_fails_in_one_line(files):
    program = run_program("evaluate", "gone.npy", "logits.npy", cwd=files)
    assert (program.returncode, program.stdout) == (2, "")
    assert program.stderr.count("\n") == 1


def test_program_survives_a_reader_that_leaves():
    with subprocess.Popen(
        [sys.executable, "-m", "sce_numba", "versions"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    ) as program:
        program.stdout.close()
        assert program.stderr.read() == b""
    assert program.returncode == 141
