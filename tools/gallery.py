"""Draw the pictures of docs/gallery.md: those of an evaluation of the data in the package."""

import argparse
from pathlib import Path

import sce_numba as sce
from sce_numba.__main__ import read_example
from sce_numba.evaluator.pictures import pictures
from sce_numba.evaluator.svg import DARK, LIGHT, svg

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "gallery"
# What examples/digits_multilabel.py learned to tell.
PROPERTIES = "even", "prime", "at least five", "multiple of three", "closed loop", "straight stroke"


def evaluation():
    """Evaluate the model, also by the digit that an image shows, and beside a bolder one."""
    labels, logits = read_example("labels.npy"), read_example("logits.npy")
    names = [*(f"digit {digit}" for digit in range(10)), *PROPERTIES]
    digits = labels[:, :10].argmax(axis=1)
    given = {"by": {"digit": digits}, "class_names": names, "baseline": 1.3 * logits}
    return sce.evaluate(labels, logits, **given)


def main():
    """Write each picture for light and for dark pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=FOLDER, metavar="FOLDER")
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    for picture in pictures(evaluation()):
        for suffix, colors in (("", LIGHT), ("-dark", DARK)):
            name = f"{picture.name.replace(' ', '_')}{suffix}.svg"
            (folder / name).write_text(svg(picture, colors), encoding="utf-8")


if __name__ == "__main__":
    main()
