"""``evaluate`` reads what is in a bucket, and says in one line what it can't read there.

The bucket is one of moto, a server on this machine that answers as S3 does.
"""

import io
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest

import sce_numba as sce
from sce_numba.__main__ import main
from sce_numba.evaluator import blocks

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
s3fs = pytest.importorskip("s3fs")
server = pytest.importorskip("moto.server")

ROWS, CLASSES = 1000, 3
rng = np.random.default_rng(3)
LOGITS = rng.normal(0, 3, (ROWS, CLASSES)).astype(np.float32)
LABELS = rng.random(LOGITS.shape) < 0.3
COUNTRY = np.array(["DE", "FR"])[rng.integers(0, 2, ROWS)]
LOSS = np.logaddexp(0, np.where(LABELS, -1, 1) * LOGITS.astype(np.float64)).mean()
URL = "s3://bucket"


@pytest.fixture(scope="module")
def endpoint():
    running = server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture(autouse=True)
def store(endpoint, monkeypatch, tmp_path):
    """Return the bucket, which has nothing in it, and small blocks, in an empty folder."""
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 2000)
    monkeypatch.chdir(tmp_path)
    np.save("labels.npy", LABELS)
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "name")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    forget()
    reset(endpoint, "reset")
    store = s3fs.S3FileSystem()
    store.mkdir("bucket")
    yield store
    forget()


def forget():
    """Have the next call know of no store, as a new process does."""
    sce.evaluator.places._store.cache_clear()
    s3fs.S3FileSystem.clear_instance_cache()


def reset(endpoint, what, value=""):
    request = urllib.request.Request(f"{endpoint}/moto-api/{what}", value.encode(), method="POST")
    request.add_header("Content-Type", "text/plain")
    urllib.request.urlopen(request).close()


def saved(array):
    """Return an array as a file has it."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def lists(array):
    return pa.FixedSizeListArray.from_arrays(pa.array(array.ravel()), array.shape[1])


def table(rows=slice(None)):
    columns = {"y": lists(LABELS[rows]), "x": lists(LOGITS[rows]), "country": COUNTRY[rows]}
    return pa.table(columns)


def written(rows=slice(None)):
    """Return a table as a file of Parquet has it."""
    file = io.BytesIO()
    parquet.write_table(table(rows), file, row_group_size=300)
    return file.getvalue()


def refusal(capsys, *arguments):
    """Return the one line in which ``evaluate`` refuses."""
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", "labels.npy", *arguments])
    output = capsys.readouterr()
    assert (stopped.value.code, output.out, output.err.count("\n")) == (2, "", 1)
    return output.err


def test_arrays_and_tables_are_read(evaluate, store):
    store.pipe("bucket/in/x.npy", saved(LOGITS))
    store.pipe("bucket/in/all.parquet", written())
    file = io.BytesIO()
    np.savez(file, x=LOGITS)
    store.pipe("bucket/in/all.npz", file.getvalue())
    for logits in (f"{URL}/in/x.npy", f"{URL}/in/all.parquet:x", f"{URL}/in/all.npz:x"):
        found, said = evaluate("labels.npy", logits, "--baseline", f"{URL}/in/x.npy")
        assert found["loss"] == pytest.approx(LOSS, rel=1e-6)
        assert (found["baseline"]["difference"], said) == (0, "")
    found = sce.evaluate(f"{URL}/in/all.parquet:y", f"{URL}/in/all.parquet:x", by="country")
    for name, loss in zip(found.slices["country"].names, found.slices["country"].loss, strict=True):
        rows = name == COUNTRY
        expected = sce.sigmoid_cross_entropy(LABELS[rows], LOGITS[rows])
        assert loss == pytest.approx(float(expected), rel=1e-6)


def test_folders_and_patterns_are_read_in_order_and_paired(evaluate, store):
    for number in range(12):
        rows = slice(number * ROWS // 12, (number + 1) * ROWS // 12)
        store.pipe(f"bucket/logits/part-{number}.npy", saved(LOGITS[rows]))
        store.pipe(f"bucket/labels/{number:02}.npy", saved(LABELS[rows]))
    for labels, logits in (
        ("labels.npy", f"{URL}/logits"),
        (f"{URL}/labels/", f"{URL}/logits/part-*.npy"),
    ):
        assert evaluate(labels, logits)[0]["loss"] == pytest.approx(LOSS, rel=1e-6)


def test_folders_of_a_partitioned_table_are_groups(evaluate, store):
    for name in ("DE", "FR"):
        store.pipe(f"bucket/parts/country={name}/0.parquet", written(name == COUNTRY))
    found, _ = evaluate(f"{URL}/parts:y", f"{URL}/parts:x", "--by", "country")
    assert found["loss"] == pytest.approx(LOSS, rel=1e-6)
    counts = {group["name"]: group["elements"] for group in found["by"]["country"]}
    assert counts == {name: CLASSES * np.count_nonzero(name == COUNTRY) for name in ("DE", "FR")}


def test_what_has_changed_between_two_calls_is_read_as_it_is(store):
    store.pipe("bucket/x/a.npy", saved(LOGITS))
    assert sce.evaluate(LABELS, f"{URL}/x").shape == (ROWS, CLASSES)
    client = s3fs.S3FileSystem(skip_instance_cache=True)
    client.pipe("bucket/x/a.npy", saved(LOGITS[:500]))
    assert sce.evaluate(LABELS[:500], f"{URL}/x").shape == (500, CLASSES)
    client.pipe("bucket/x/b.npy", saved(LOGITS[500:]))
    assert sce.evaluate(LABELS, f"{URL}/x").loss == pytest.approx(LOSS, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("bucket/gone.npy", " (No such file): give a .npy file"),
        ("bucket/gone.parquet:x", " (No such file): give a .npy file"),
        ("elsewhere/x.npy", " (No such file): give a .npy file"),
        ("elsewhere/*.npy", " (No such file): give a .npy file"),
        ("bucket/notes:x", " (no data files in this folder or below it): names that end"),
        ("bucket/notes/a.txt", " (neither an array nor an archive of arrays; what can be read"),
        ("bucket/all.parquet", " (which column? Add :COLUMN, one of y, x, country)"),
        ("bucket/all.parquet:z", " (no column 'z'; its columns are y, x, country)"),
        ("bucket/short.npy", ", rows 999 to 999 (4 bytes are missing at its end)"),
        ("bucket/short.parquet:x", " (Parquet magic bytes not found in footer."),
        ("bucket/empty.npy", " ("),
        ("bucket/empty.npz:x", " (not an archive of arrays, or one that is cut short)"),
        ("bucket/empty.arrow:x", " ("),
    ],
)
def test_what_can_not_be_read_is_named_in_one_line(capsys, store, name, words):
    store.pipe("bucket/notes/a.txt", b"hello")
    store.pipe("bucket/all.parquet", written())
    store.pipe("bucket/short.npy", saved(LOGITS)[:-4])
    store.pipe("bucket/short.parquet", written()[:-4])
    for suffix in ("npy", "npz", "arrow"):
        store.pipe(f"bucket/empty.{suffix}", b"")
    said = refusal(capsys, f"s3://{name}")
    assert f"error: cannot read s3://{name}{words}" in said


@pytest.mark.parametrize("name", ["x.npy", "all.parquet:x", "*.npy", ""])
def test_who_may_not_read_is_told_why(capsys, monkeypatch, endpoint, store, name):
    store.pipe("bucket/x.npy", saved(LOGITS))
    store.pipe("bucket/all.parquet", written())
    reset(endpoint, "reset-auth", "0")
    try:
        said = refusal(capsys, f"{URL}/{name}")
    finally:
        reset(endpoint, "reset-auth", "1000000")
    assert f"cannot read {URL}/{name} (The AWS Access Key Id you provided does not exist" in said
    forget()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    said = refusal(capsys, f"{URL}/{name}")
    assert f"cannot read {URL}/{name} (Unable to locate credentials)" in said


def test_without_s3fs_it_is_named():
    code = "import sys; sys.modules['s3fs'] = None; from sce_numba.__main__ import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(Path(sce.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", code, "evaluate", "labels.npy", f"{URL}/x.npy"],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "s3:// can't be read: Install s3fs to access S3" in done.stderr


def test_the_port_of_a_url_is_no_column(capsys, endpoint):
    said = refusal(capsys, f"{endpoint}/bucket/gone.npy")
    assert f"cannot read {endpoint}/bucket/gone.npy (No such file)" in said
    said = refusal(capsys, f"{endpoint}/bucket/gone.parquet:x")
    assert f"cannot read {endpoint}/bucket/gone.parquet:x (No such file)" in said


def test_a_report_and_rows_come_of_a_bucket_too(evaluate, store):
    pytest.importorskip("matplotlib")
    store.pipe("bucket/x.npy", saved(LOGITS))
    evaluate("labels.npy", f"{URL}/x.npy", "--report", "page.html", "--per-row", "rows.npy")
    assert f"Sigmoid cross entropy of {URL}/x.npy" in Path("page.html").read_text()
    assert np.load("rows.npy").shape == (ROWS,)
