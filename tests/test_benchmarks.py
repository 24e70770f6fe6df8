"""What the tools in ``asv_bench`` report follows from the times that they took."""

import doctest
import importlib
import inspect
import json
import random
import re

import numpy as np
import pytest

import sce_numba as sce
from asv_bench import compare, cost_model, gate, latency, peers, report, timing
from asv_bench.benchmarks import call_overhead
from asv_bench.jobs import Job


def of(seconds):
    return timing.Timing(seconds, 0.9 * seconds, 1.2 * seconds)


JOBS = {
    "large": {"sce_numba": of(0.01), "roofline": of(0.008), "NumPy 2.4": of(0.1)},
    "small": {"sce_numba": of(2e-6), "JAX 0.10.2 with optax 0.2.8": of(7e-6)},
}


def job(**arguments):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (20, 7)).astype(np.float32)
    labels = (rng.random((20, 7)) < 0.5).astype(arguments.pop("label_dtype", np.float32))
    return Job("job", labels, logits, **arguments)


def computing():
    """Return the public functions that compute losses or gradients, by name."""
    functions = {name: getattr(sce, name) for name in sce.__all__}
    functions["LossAccumulator.update"] = sce.LossAccumulator.update
    found = {}
    for name, function in functions.items():
        if inspect.isroutine(function):
            parameters = set(inspect.signature(function).parameters)
            if parameters & {"logits", "losses"}:
                found[name] = parameters
    return found


def test_every_public_function_is_timed_with_and_without_weights():
    assert set(call_overhead.NEEDED) == set(computing())
    for name, parameters in computing().items():
        assert ("weights" in call_overhead.NEEDED[name]) == ("weights" in parameters), name


@pytest.mark.parametrize("given", ["default", "weighted"])
@pytest.mark.parametrize("function", call_overhead.NEEDED)
def test_what_is_timed_can_be_called(function, given):
    timed = call_overhead.PublicFunction()
    if given == "weighted" and "weights" not in call_overhead.NEEDED[function]:
        with pytest.raises(NotImplementedError):
            timed.setup(function, given)
    else:
        timed.setup(function, given)
        timed.call(**timed.arguments)


def test_examples_in_the_report_hold():
    result = doctest.testmod(report)
    assert result.attempted > 3
    assert result.failed == 0


def cells(table):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_tables_have_times_of_ours_and_ratios_of_others():
    first, second = map(cells, report.tables(JOBS).split("\n\n"))
    assert first[0] == ["job", "sce_numba", "of the roofline", "NumPy"]
    assert first[2] == ["large", "10.0 ms", "80%", "10"]
    assert first[3] == ["small", "2.00 µs", "", ""]
    assert second[0] == ["job", "JAX with optax"]
    assert second[3] == ["small", "3.5"]


def test_every_peer_is_in_one_table():
    names = ["NumPy 2", "numexpr 2", "PyTorch 2 eager", "JAX 0 with optax 0", "OpenVINO 1", "new 3"]
    jobs = {"large": {"sce_numba": of(1.0)} | {name: of(2.0) for name in names}}
    heads = [cells(table)[0][1:] for table in report.tables(jobs).split("\n\n")]
    found = [name for head in heads for name in head]
    assert sorted(found[2:]) == sorted(map(report.without_version, names))
    assert max(map(len, heads)) <= 5


def test_columns_of_a_table_are_aligned():
    for table in report.tables(JOBS).split("\n\n"):
        assert len({len(line) for line in table.splitlines()}) == 1


def test_what_a_run_printed_as_json_is_shown_again(tmp_path):
    said = {**report.facts("command", list(JOBS["small"])), "rounds": 15}
    file = tmp_path / "run.json"
    file.write_text(report.as_json(said, JOBS))
    assert report.saved(file) == (said, JOBS)


def test_a_page_is_written_from_a_run_without_measuring(tmp_path, monkeypatch, capsys):
    said = {**report.facts("command", list(JOBS["small"])), "rounds": 15}
    (tmp_path / "run.json").write_text(report.as_json(said, JOBS))
    page = tmp_path / "page.md"
    page.write_text("<!-- asv_bench.compare: begin -->\n<!-- asv_bench.compare: end -->\n")
    monkeypatch.setattr(compare, "run", None)
    words = ["compare", "--from", str(tmp_path / "run.json"), "--page", str(page)]
    monkeypatch.setattr("sys.argv", words)
    compare.main()
    assert compare.in_words(JOBS, said, 15) in page.read_text()
    assert report.tables(JOBS) in capsys.readouterr().out


def latencies(scale):
    return latency.latency_of([scale * number for number in range(1, 102)])


LATENCIES = {
    "idle: loss of 2^18, back to back": {
        latency.ALONE: latencies(2e-6),
        "sce_numba": latencies(1e-6),
        "PyTorch 2.13.0 eager": latencies(9e-6),
    },
    "four processes: loss of 2^18, back to back": {
        latency.ALONE: latencies(1e-6),
        "sce_numba": latencies(2e-6),
    },
}


def test_latencies_are_percentiles_of_single_calls():
    found = latency.latency_of([float(number) for number in range(101)])
    assert found == (50.0, 90.0, 99.0, 100.0, 50.0)


def test_latencies_stand_beside_those_of_one_thread_by_setting():
    first, second = map(cells, latency.tables(LATENCIES).split("\n\n"))
    assert first[0] == ["idle", "p50", "p90", "p99", "longest", "p50, ratio"]
    assert first[2] == ["**loss of 2^18, back to back**", *[""] * 5]
    assert first[4] == ["sce_numba", "51.0 µs", "91.0 µs", "100 µs", "101 µs", "0.50"]
    assert first[5][0] == "PyTorch eager"
    assert second[0][0] == "four processes"
    assert second[0][-1] == "throughput"
    assert second[4][-1] == "0.50"


def test_a_run_of_latencies_is_kept_shown_again_and_written_to_a_page(
    tmp_path, monkeypatch, capsys
):
    command = "latency --settings idle --sizes 10 --gaps 0 --calls 3 --processes 2 --json --peers"
    monkeypatch.setattr("sys.argv", [*command.split(), "one thread"])
    latency.main()
    (tmp_path / "run.json").write_text(capsys.readouterr().out)
    said, found = report.saved(tmp_path / "run.json", latency.Latency)
    (taken,) = found["idle: loss of 2^10, back to back"].values()
    assert 0 < taken.p50 <= taken.p90 <= taken.p99 <= taken.longest
    page = tmp_path / "page.md"
    page.write_text("<!-- asv_bench.latency: begin -->\n<!-- asv_bench.latency: end -->\n")
    monkeypatch.setattr(latency, "run", None)
    words = ["latency", "--from", str(tmp_path / "run.json"), "--page", str(page)]
    monkeypatch.setattr("sys.argv", words)
    latency.main()
    for text in (page.read_text(encoding="utf-8"), capsys.readouterr().out):
        assert latency.in_words(found, said) in text
    assert "2 x 3 calls" in text
    assert f"`python -m asv_bench.{command} 'one thread'`" in text


TIMINGS = {"a": of(1e-3), "b": of(2e-3)}
SHARED = {"unit": 1.0, "beside": 1.0, "compile": 20.0, "kept": 9_000, "files": 3}
MEMORY = {"memory": {"1": 4e10, "2": 8e10}, "cache": 1 << 22}
CURVE = {f"{k}": {"1": of(2e-6 + 2**k * 1e-10), "2": of(4e-6 + 2**k * 6e-11)} for k in range(6, 28)}


@pytest.mark.parametrize(
    ("tool", "library", "found", "more"),
    [
        ("compose", "numba", {"1 thread": {"sums": (2.0, 1.0)}}, {}),
        ("engines", "pyarrow", {"1,024 x 64: Ray": {"ours": of(1.0), "theirs": of(2.0)}}, {}),
        ("first_call", "resource", {"calls": {"default": (2.0, 1.0, 4000)}}, SHARED),
        ("jax_training_step", "jax", {"value, 32 x 10": TIMINGS}, {}),
        ("keras_fit", "numba", None, {}),
        ("scaling", "numba", CURVE, MEMORY),
        ("torch_training_step", "torch", {"32 x 10": TIMINGS}, {}),
    ],
)
def test_every_tool_shows_again_what_it_printed_as_json(
    tool, library, found, more, tmp_path, monkeypatch, capsys
):
    pytest.importorskip(library)
    module = importlib.import_module(f"asv_bench.{tool}")
    found = found or {f"JAX: {shape}": TIMINGS for shape in module.SHAPES}
    row = {"compose": "Medians", "first_call": "FirstCall"}.get(tool)
    if row:
        found = {
            title: {name: getattr(module, row)(*values) for name, values in by.items()}
            for title, by in found.items()
        }
    page = tmp_path / "page.md"
    page.write_text(f"<!-- asv_bench.{tool}: begin -->\n<!-- asv_bench.{tool}: end -->\n")
    said = report.facts(f"python -m asv_bench.{tool}", []) | more
    (tmp_path / "run.json").write_text(report.as_json(said, found))
    words = [tool, "--from", str(tmp_path / "run.json"), "--page", str(page), "--json"]
    monkeypatch.setattr("sys.argv", words)
    module.main()
    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "run.json").read_text())
    table = cells(page.read_text(encoding="utf-8").split("\n\n")[0])
    assert len({len(row) for row in table[1:-1]}) == 1
    assert report.facts_in_words(said) in page.read_text(encoding="utf-8")


def test_a_quota_is_told_to_be_missing_where_there_are_no_control_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(latency, "CONTROL_GROUPS", tmp_path)
    _, failed = latency.in_turns(["one thread"], 1, "loss", 1 << 10, 0, 3, setting="quota")
    assert failed == {"one thread": "no control group: none are mounted"}
    assert not list(tmp_path.iterdir())


def test_what_could_not_be_measured_is_told():
    said = report.facts("command", []) | {"calls": 3, "processes": 2, "failed": ["xla: why (idle)"]}
    assert "Not measured: xla: why (idle)." in latency.in_words(LATENCIES, said)
    assert "Not measured" not in latency.in_words(LATENCIES, said | {"failed": []})


def test_facts_name_date_processor_threads_versions_and_command():
    found = report.facts("python -m asv_bench.compare", list(JOBS["small"]))
    words = report.facts_in_words(found)
    for fact in (found["date"], found["processor"], "threads", sce.__version__):
        assert fact in words
    assert "`python -m asv_bench.compare`" in words
    assert "JAX 0.10.2, optax 0.2.8" in words
    json.dumps(found)


def test_a_table_on_a_page_is_replaced_and_the_rest_of_the_page_kept():
    page = "before\n<!-- speed: begin -->\nold\n<!-- speed: end -->\nafter\n"
    once = report.insert(page, "speed", "new")
    assert once == page.replace("old", "new")
    assert report.insert(once, "speed", "new") == once


def test_a_page_without_marks_is_refused():
    with pytest.raises(ValueError, match="speed: begin"):
        report.insert("before", "speed", "new")


def test_words_beside_the_table_tell_the_spread():
    words = compare.in_words(JOBS, report.facts("command", []), rounds=15)
    assert "median of 15 timings" in words
    assert "±15.0%" in words


def test_timings_are_summed_up_by_median_and_quartiles():
    assert timing.timing_of([5.0, 1.0, 2.0, 4.0, 3.0]) == (3.0, 2.0, 4.0)
    assert timing.Timing(3.0, 2.0, 4.0).spread == pytest.approx(1 / 3)


def test_every_call_is_made_in_every_round():
    made = []
    found = timing.measure({"a": lambda: made.append("a"), "b": lambda: made.append("b")}, 3)
    assert set(found) == {"a", "b"}
    order = "".join(made).lstrip("a").lstrip("b")  # what was called to find the repeats
    assert [part for part in order.split("b") if part] == [order.split("b")[0]] * 3


@pytest.mark.parametrize("make", [peers.numpy_peer, peers.numexpr_peer, peers.scikit_learn_peer])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"label_dtype": bool},
        {"weights": np.linspace(0, 1, 20, dtype=np.float32).reshape(20, 1), "smoothing": 0.1},
        {"weights": np.ones((20, 7), np.float32), "reduction": "weighted_mean"},
        {"reduction": "none"},
        {"axis": 0},
        {"axis": -1},
    ],
)
def test_peers_compute_the_same_loss(make, arguments):
    try:
        ((_, peer),) = make()
    except ImportError:
        pytest.skip("not installed")
    theirs = peer(job(**arguments))
    if theirs is None:
        pytest.skip("no way to do it")
    np.testing.assert_allclose(theirs(), peers.ours(job(**arguments))(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", [peers.numexpr_peer, peers.scikit_learn_peer])
def test_peers_write_the_same_derivatives(make):
    try:
        ((_, peer),) = make()
    except ImportError:
        pytest.skip("not installed")
    ours, theirs = job(derivatives=2), job(derivatives=2)
    peers.ours(ours)()
    peer(theirs)()
    for own, their in zip(ours.out, theirs.out, strict=True):
        np.testing.assert_allclose(their, own, rtol=1e-4, atol=1e-6)


def launches(change, *, noise=0.02, count=8, seed=0):
    rng = random.Random(seed)
    times = {"old": 1.0, "old again": 1.0, "new": change}
    return [
        {version: seconds * rng.lognormvariate(0, noise) for version, seconds in times.items()}
        for _ in range(count)
    ]


@pytest.mark.parametrize("change", [1.3, 1 / 1.3])
def test_the_gate_flags_a_change_of_30_percent(change):
    found = gate.verdict(launches(change))
    assert found.moved
    assert found.low < change < found.high


def test_the_gate_flags_the_same_code_in_no_run_of_a_thousand():
    assert not any(gate.verdict(launches(1.0, seed=seed)).moved for seed in range(1000))


def test_the_gate_flags_nothing_within_its_noise():
    assert not gate.verdict(launches(1.3, noise=0.3)).moved


def test_one_disturbed_launch_neither_makes_nor_hides_a_change():
    same, slower = launches(1.0), launches(1.3)
    same[3]["new"] *= 10
    slower[3]["old again"] *= 10
    assert not gate.verdict(same).moved
    assert gate.verdict(slower).moved


def test_the_gate_tells_what_became_slower_and_what_faster():
    found = {"a": gate.verdict(launches(1.3)), "b": gate.verdict(launches(0.7))}
    found["c"] = gate.verdict(launches(1.0))
    lines = gate.report(found).splitlines()
    assert [word for line in lines for word in ("SLOWER", "faster") if line.endswith(word)] == [
        "SLOWER",
        "faster",
    ]
    assert lines[-1] == "gate: 1 slower, 1 faster, of 3"


def test_the_gate_tells_meanwhile_what_changed_most():
    found = [{"a": {"old": 1.0, "old again": 1.0, "new": 1.1}, "b": launches(1.3)[0]}] * 3
    assert re.fullmatch(r"farthest from 1: 1\.[23]\d, b", gate.farthest(found))


def test_the_gate_tells_what_it_has_after_ctrl_c(capsys):
    done = [{"a": one} for one in launches(1.3, count=5)]
    left = iter(done)

    def run():
        for one in left:
            return one
        raise KeyboardInterrupt

    assert gate.repeated(run, 8) == done
    told = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        r"launch 1 of 8, 0\.\d minutes to go; farthest from 1: 1\.[23]\d, a", told[0]
    )
    assert told[-1] == "interrupted after 5 of 8 launches"


def test_the_gate_watches_benchmarks_that_exist():
    for name in gate.WATCHED:
        path, _, rest = name.partition("(")
        module, group, method = path.split(".")
        benchmark = getattr(importlib.import_module(f"asv_bench.benchmarks.{module}"), group)
        assert callable(getattr(benchmark, method))
        values = rest.removesuffix(")").split(", ") if rest else []
        for value, allowed in zip(values, getattr(benchmark, "params", ()), strict=True):
            assert value in allowed


def test_a_cost_model_finds_where_a_curve_bends():
    curve = {2**k: of(2e-6 + 2**k * (1e-10 if k < 22 else 5e-10)) for k in range(6, 28)}
    found = cost_model.landmarks(curve)
    assert found.overhead == pytest.approx(2e-6, rel=0.01)
    assert found.half == 2**15
    assert found.in_cache == pytest.approx(1e-10, rel=0.02)
    assert found.in_memory == pytest.approx(5e-10, rel=0.02)
    assert "2^15" in cost_model.in_words({"sce_numba, 1 thread": curve})


def test_pictures_name_every_line_and_bar_and_their_units(tmp_path):
    pytest.importorskip("matplotlib")
    from asv_bench import chart

    chart.draw_comparison({"default, float32 labels": JOBS["large"], **JOBS}, tmp_path)
    curve = {2**k: of(2e-6 + 2**k * 1e-9) for k in range(6, 28)}
    curves = {"sce_numba, 1 thread": curve, "NumPy 2.4": curve, "roofline": curve}
    chart.draw_cost_model(curves, {"L2": 2**17}, tmp_path)
    assert (tmp_path / "speed.png").stat().st_size > 0
    assert (tmp_path / "cost_model.png").stat().st_size > 0
    chart.draw_latency(LATENCIES, tmp_path)
    for suffix in ("", "-dark"):
        panels = (tmp_path / f"latency{suffix}.svg").read_text(encoding="utf-8")
        for words in (*LATENCIES, latency.ALONE, "PyTorch eager", "p50", "p99", "51.0 µs"):
            assert f">{words}<" in panels
        bars = (tmp_path / f"speed{suffix}.svg").read_text(encoding="utf-8")
        lines = (tmp_path / f"cost_model{suffix}.svg").read_text(encoding="utf-8")
        for words in ("loss of 8192 x 2048 logits: 10.0 ms", "roofline: 0.80", "NumPy", "10"):
            assert f">{words}<" in bars
        for words in ("sce_numba, 1 thread", "NumPy", "reading the arrays", "10 µs", " L2 full"):
            assert f">{words}<" in lines
