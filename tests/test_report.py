"""The report of an evaluation shows everybody what was found, whatever names are in the data."""

import re
import sys
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import matplotlib
import numpy as np
import pytest
from page_reader import Reader, check_that_nothing_is_loaded

from sce_numba.evaluator.html import ROWS, fragment, page
from sce_numba.evaluator.pictures import BARS, COLORS, number, pictures
from sce_numba.evaluator.result import (
    Baseline,
    Calibration,
    Course,
    Evaluation,
    Groups,
    LogitHistogram,
    WorstRow,
)
from sce_numba.evaluator.svg import DARK, LIGHT, svg
from tools.gallery import FOLDER as GALLERY
from tools.gallery import evaluation as gallery

RNG = np.random.default_rng(24)


def groups(names):
    count = len(names)
    loss, labels = RNG.gamma(2, 0.2, count), RNG.random(count)
    return Groups(names, loss, labels, RNG.integers(1, 10**6, count))


def compared(difference, interval):
    """Return a comparison with another model."""
    edges = np.array([-np.inf, -0.2, -0.1, 0, 0.1, 0.2, np.inf])
    rows = np.array([1_000, 150_001, 450_000, 200_000, 99_999, 2])
    return Baseline("old.npy", 0.36, difference, interval, 0.95, edges, rows, 98_998)


def bare(**found):
    """An evaluation of which nothing is known but what must be."""
    settings = {"labels": "labels.npy", "logits": "logits.npy", "reduction": "weighted_mean"}
    given = {"loss": 0.25, "settings": settings, "denominator": 6.0, "shape": (2, 3)}
    given |= {"labels_dtype": "bool", "logits_dtype": "float32", "seconds": 0.5, "bytes_read": 30}
    return Evaluation(**given | found)


@pytest.fixture(scope="module")
def evaluation():
    """An evaluation with everything that there can be."""
    edges = np.linspace(0, 1, 11)
    cells = np.concatenate([[-np.inf], np.arange(-16, 16.5, 0.5), [np.inf]])
    middles = edges[:-1] + 0.04
    return bare(
        loss=0.3544833767774587,
        denominator=19_990_000.0,
        shape=(1_000_000, 20),
        elements_ignored=10_000,
        classes=groups([f"class {number}" for number in range(20)]),
        slices={"country": groups(["DE", "FR", "null"]), "age": groups(["18 to 29", "above 29"])},
        calibration=Calibration(
            edges, middles, RNG.random(10), RNG.integers(1, 10**6, 10), 0.0314159
        ),
        logits=LogitHistogram(cells, *RNG.integers(0, 10**6, (2, cells.size - 1)).astype(float)),
        course=Course(np.linspace(0, 1_000_000, 101).astype(np.int64), RNG.normal(0.35, 0.02, 100)),
        worst=[WorstRow(123_456, "part-3.npy", 3456, 9.8125), WorstRow(7, "part-0.npy", 7, 8.1)],
        baseline=compared(-0.0055, (-0.0061, -0.0049)),
        partial="interrupted after 1,000,000 of 2,000,000 rows",
        rows_skipped=30,
        skipped=[{"file": "part-9.npy", "rows": (10, 40), "reason": "30 bytes are missing"}],
        warnings=["labels are from 0 to 2, but mean 0 to 1"],
    )


@pytest.fixture(scope="module")
def document(evaluation):
    return page(evaluation)


@pytest.fixture(scope="module")
def read(document):
    return Reader(document)


def words_of(drawn):
    """The words in a picture."""
    return re.findall(r"<text [^>]*>([^<]*)</text>", drawn)


def numbers_of(evaluation):
    """Every number that a page of an evaluation has to show."""
    found = [*evaluation.losses.values(), evaluation.elements, evaluation.denominator]
    found.append(evaluation.elements_ignored)
    found.append(evaluation.calibration.expected_error)
    baseline = evaluation.baseline
    found += [baseline.loss, baseline.difference, *baseline.interval]
    for group in (evaluation.classes, *evaluation.slices.values()):
        found += [*group.loss.tolist(), *group.mean_label.tolist(), *group.elements.tolist()]
    for row in evaluation.worst:
        found += [row.row, row.row_in_file, row.loss]
    for picture in pictures(evaluation):
        for column in picture.numbers.values():
            found += column.tolist()
    return found


def test_every_number_is_that_of_the_result(evaluation, read):
    assert Counter(float(exact) for exact, _ in read.numbers) == Counter(
        map(float, numbers_of(evaluation))
    )


def test_numbers_are_rounded_for_reading(read):
    for exact, said in read.numbers:
        assert float(said.replace(",", "").replace("∞", "inf")) == pytest.approx(
            float(exact), rel=1e-3
        )


def test_numbers_of_pictures_are_those_of_the_result(evaluation):
    calibration = evaluation.calibration
    shown = {picture.name: list(picture.numbers.values()) for picture in pictures(evaluation)}
    for column, expected in zip(
        shown["reliability curve"],
        [
            calibration.edges[1:],
            calibration.mean_prediction,
            calibration.mean_label,
            calibration.elements,
        ],
        strict=True,
    ):
        assert np.array_equal(column, expected)
    assert np.array_equal(shown["histogram of logits"][1], evaluation.logits.negatives)
    assert np.array_equal(shown["histogram of logits"][2], evaluation.logits.positives)
    assert np.array_equal(shown["loss along the rows"][1], evaluation.course.loss)


def test_bars_say_their_losses(evaluation):
    (drawn,) = (svg(picture) for picture in pictures(evaluation) if picture.name == "by class")
    words = set(words_of(drawn))
    assert {number(loss) for loss in evaluation.classes.loss} <= words
    assert set(evaluation.classes.names) <= words


def test_words_are_shown(evaluation, read):
    words = read.words["body"]
    for said in (evaluation.partial, *evaluation.warnings, "30 rows were skipped", "10 to 39"):
        assert said in words
    assert "this loss is lower" in words
    for key, value in evaluation.settings.items():
        assert key in words
        assert value in words


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [((-2.0, -1.0), "is lower"), ((1.0, 2.0), "is greater"), ((-1.0, 1.0), "no difference")],
)
def test_an_interval_is_put_into_words(interval, verdict):
    found = bare(baseline=compared(sum(interval) / 2, interval))
    assert Reader(page(found)).words["p"].count(verdict) == 1
    (picture,) = pictures(found)
    assert verdict in picture.words
    (title,) = (words for words in words_of(svg(picture)) if words.startswith("Baseline: "))
    assert verdict in title


def test_the_rows_of_either_sign_have_their_share(evaluation):
    picture, *_ = pictures(evaluation)
    assert picture.name == "difference from the baseline"
    assert "lower in 60.1 %, greater in 30 %, equal in 9.9 %" in picture.words
    words = words_of(svg(picture))
    assert {"lower: 60.1 %", "greater: 30 %"} <= set(words)
    assert any("equal: 9.9 %" in said for said in words)
    assert picture.numbers["rows"].sum() + evaluation.baseline.equal == evaluation.shape[0]


def test_nothing_is_loaded_from_elsewhere(document):
    check_that_nothing_is_loaded(document)


def test_names_within_a_page_are_there_once(document, read):
    ids = Counter(attributes["id"] for _, attributes in read.tags if "id" in attributes)
    assert set(ids.values()) == {1}
    assert set(re.findall(r'(?:href="|url\()#([\w-]+)', document)) <= set(ids)


def test_pictures_have_words_and_headed_tables_captions(evaluation, read):
    drawn = read.all("svg")
    assert len(drawn) == len(pictures(evaluation)) == 7
    for attributes in drawn:
        assert attributes["role"] == "img"
        assert len(read.words[attributes["aria-labelledby"]]) > 20
    regions = [attributes for attributes in read.all("div") if attributes.get("role") == "region"]
    assert len(regions) == len(read.all("table"))
    assert all(attributes["aria-label"] for attributes in regions)
    assert all(attributes["scope"] in ("row", "col") for attributes in read.all("th"))


def test_pictures_have_the_colours_of_the_page(document):
    body = document[document.index("<body>") :]
    assert not re.search(r"<[^>]*#[0-9a-f]{6}[^>]*>", body)
    assert set(re.findall(r"var\(--(\w+)\)", body)) == set(COLORS)


@pytest.mark.parametrize("side", [0, 1], ids=["light", "dark"])
def test_colours_stand_out_from_the_page(side):
    def luminance(name):
        parts = bytes.fromhex(COLORS[name][side][1:])
        linear = [
            x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4
            for x in (part / 255 for part in parts)
        ]
        return np.dot(linear, (0.2126, 0.7152, 0.0722)) + 0.05

    for name, least in {"text": 7, "faint": 4.5, "blue": 3, "orange": 3}.items():
        pair = sorted((luminance("page"), luminance(name)))
        assert pair[1] / pair[0] >= least, name


def test_a_picture_is_drawn_for_light_and_dark_pages(evaluation):
    for picture in pictures(evaluation):
        light, dark = svg(picture, LIGHT), svg(picture, DARK)
        assert light != dark
        assert "var(" not in light + dark
        assert not any(color in dark for color in DARK)


NAMES = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "R&amp;D",
    "$x_2$ and $",
    "\N{CJK UNIFIED IDEOGRAPH-5B57}",
    "tab\tand\x00",
    "half \udc80",
    "}</style>{",
    "#0072b2",
    "",
    "x" * 10_000,
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_names_stay_text(name):
    settings = bare().settings | {"logits": name, "by": [name]}
    found = bare(
        settings=settings,
        classes=groups([name, "b"]),
        slices={name: groups([name])},
        worst=[WorstRow(1, name, 1, 2.0)],
        skipped=[{"file": name, "rows": None, "reason": name}],
        warnings=[name],
    )
    read = Reader(page(found))
    assert len(read.all("script")) == 1
    assert not read.all("img")
    said = re.sub("[\t\x00\udc80]", "\N{REPLACEMENT CHARACTER}", name)[:150] or "(empty)"
    assert said in read.words["th"]
    assert said in read.words["li"]
    assert said[:30] in read.words["title"]
    assert said[:8] in read.words["text"]
    assert Reader(fragment(found)).words["th"].count(said) > 1


def test_of_many_classes_the_greatest_losses_are_shown():
    names = [f"class {number:04}" for number in range(10_000)]
    many = groups(names)
    read = Reader(page(bare(classes=many)))
    greatest = np.argsort(-many.loss)
    losses = [float(exact) for exact, _ in read.numbers if float(exact) in set(many.loss)]
    assert losses == many.loss[greatest[:ROWS]].tolist()
    assert f"the {ROWS} of 10,000 classes" in read.words["caption"]
    assert f"the {BARS} of 10,000 classes" in read.words["figcaption"]
    assert names[greatest[BARS - 1]] in read.words["text"]
    assert names[greatest[BARS]] not in read.words["text"]
    few = page(bare(classes=groups(names[:ROWS])))
    assert len(page(bare(classes=many))) < 1.1 * len(few)


def test_long_names_keep_both_ends():
    names = [f"the very same beginning {place}" for place in range(3)]
    words = Reader(page(bare(classes=groups(names)))).words["text"]
    assert all(f"the very s…ginning {place}" in words for place in range(3))


def test_values_of_a_column_keep_their_order():
    found = bare(slices={"age": groups(["to 18", "18 to 29", "above 29"])})
    words = Reader(page(found)).words["th"]
    places = [words.index(name) for name in found.slices["age"].names]
    assert all(first < second for first, second in pairwise(places))


def test_numbers_that_are_not_finite_are_told():
    bad = np.array([np.nan, np.inf, -np.inf])
    found = bare(
        loss=np.nan,
        denominator=0.0,
        classes=Groups(["third", "second", "first"], bad[::-1], bad[::-1], np.array([0, 1, 2])),
        calibration=Calibration(np.linspace(0, 1, 4), bad, bad, np.zeros(3, int), np.nan),
        logits=LogitHistogram(np.array([-np.inf, -1, 1, np.inf]), np.zeros(3), np.zeros(3)),
        course=Course(np.arange(4), bad),
        baseline=replace(compared(np.nan, (-np.inf, np.nan)), loss=np.nan),
    )
    read = Reader(page(found))
    exact = Counter(exact for exact, _ in read.numbers)
    assert (exact["NaN"], exact["Infinity"], exact["-Infinity"]) == (10, 7, 6)
    # The greatest loss comes first: NaN, which may be any, before infinity.
    assert "firstsecondthird" in read.words["th"]
    assert Reader(fragment(found)).numbers[0] == ("NaN", "NaN")


def test_labels_that_can_not_be_meant_stay_within_their_picture():
    means = np.array([-30.0, np.inf, np.nan, 40.0])
    counts = np.full(4, 10)
    found = bare(
        calibration=Calibration(np.linspace(0, 1, 5), np.arange(4) / 4, means, counts, 9.0)
    )
    words = words_of(svg(pictures(found)[0]))
    assert {"0", "20", "40"} <= set(words)


def test_what_was_not_found_is_not_drawn():
    for found in (bare(), bare(shape=()), bare(shape=(0, 3), loss=0.0)):
        read = Reader(page(found))
        assert not read.all("svg")
        assert read.numbers[0][0] == str(found.loss)


def test_a_page_is_always_the_same(evaluation, document):
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "path"}):
        assert page(replace(evaluation, seconds=99.0)) == document


def test_a_figure_has_all_pictures(evaluation):
    matplotlib.use("Agg")
    figure = evaluation.plot()
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    expected = "Baseline", "Calibration", "Logits by label", "Loss along", "By class", "By age"
    for title in expected:
        assert any(title in drawn for drawn in titles)
    figure.canvas.draw()
    bare().plot().canvas.draw()
    matplotlib.pyplot.close("all")


def test_the_gallery_shows_what_the_package_finds():
    drawn = {picture.name.replace(" ", "_"): svg(picture) for picture in pictures(gallery())}
    for name, picture in drawn.items():
        for suffix in ("", "-dark"):
            shown = (GALLERY / f"{name}{suffix}.svg").read_text(encoding="utf-8")
            assert words_of(shown) == words_of(picture)
    assert len(list(GALLERY.iterdir())) == 2 * len(drawn)


def test_notebooks_show_a_part(evaluation):
    read = Reader(evaluation._repr_html_())
    exact = {float(exact) for exact, _ in read.numbers}
    assert {evaluation.loss, *evaluation.slices["age"].loss.tolist()} <= exact
    assert f"the 10 of {len(evaluation.classes)} classes" in read.words["caption"]
    # Nothing of it depends on styles, which would be those of the notebook or leak into it.
    assert not read.all("script") + read.all("style") + read.all("dl")
    assert not any("style" in attributes or "id" in attributes for _, attributes in read.tags)


def test_without_matplotlib_it_is_named(evaluation, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for draw in (evaluation.to_html, evaluation.plot):
        with pytest.raises(ImportError, match=re.escape("pip install 'sce_numba[report]'")):
            draw()
    assert Reader(evaluation._repr_html_()).numbers
