"""The command line: ``python -m sce_numba``.

Alone it compares the package with plain NumPy on real data. ``evaluate`` computes the loss of
arrays in files, ``versions`` prints what a bug report needs.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from functools import partial
from importlib import resources
from statistics import median
from typing import Any, NoReturn, TypeAlias

import numpy as np
import numpy.typing as npt

import sce_numba as sce

Array: TypeAlias = npt.NDArray[Any]

# Unlike numpy.load it does not advise to unpickle a text file; older NumPy gives it no types.
NPY: Any = np.lib.format
PROGRAM = "python -m sce_numba"
REDUCTIONS = ", ".join(reduction.name for reduction in sce.Reduction)
REPEATS = 15
LARGER = 200
USAGE_ERROR = 2
INTERRUPTED = 130
READER_GONE = 141


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, without the usage text before it."""

    def error(self, message: str) -> NoReturn:
        """Print the message and leave with the status of a usage error."""
        line = " ".join(message.split())
        self.exit(USAGE_ERROR, f"{self.prog}: error: {line}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv
        The words after the program's name; those of the process when None.

    Returns
    -------
    int
        The exit status: 0; 130 when interrupted; 141 when the reader of the output has gone.

    Raises
    ------
    SystemExit
        With status 2, after one line on standard error, when an argument or a file cannot be
        used; with status 0 after ``--help``.
    """
    try:
        arguments = command_parser().parse_args(argv)
        arguments.run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more on its way out: give it somewhere to write.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_GONE
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def command_parser() -> Parser:
    """Build the parser of the whole command line."""
    parser = Parser(
        prog=PROGRAM,
        description="Sigmoid cross entropy of NumPy arrays. Without a command: compare every "
        "reduction with plain NumPy on a data set that comes with the package.",
    )
    parser.set_defaults(run=compare)
    commands = parser.add_subparsers(title="commands", metavar="{evaluate,versions}")
    add_evaluate(commands)
    versions = commands.add_parser("versions", help="print what a bug report needs")
    versions.set_defaults(run=print_versions)
    return parser


def add_evaluate(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the ``evaluate`` command."""
    parser = commands.add_parser(
        "evaluate",
        help="compute the loss of arrays in files",
        description="Compute the loss of arrays in files. An ARRAY is a .npy file, which is "
        "mapped into memory and not read whole, or FILE.npz:MEMBER, one array of an archive.",
        epilog="The loss is computed twice and the second time is shown: the first one may "
        "include compilation and reading from disk. In JSON a number that is not finite is one "
        'of the strings "NaN", "Infinity" and "-Infinity".',
    )
    parser.add_argument("labels", metavar="LABELS", help="an ARRAY of labels in [0, 1]")
    parser.add_argument("logits", metavar="LOGITS", help="an ARRAY of logits, of the same shape")
    parser.add_argument(
        "--weights",
        default="1",
        metavar="W",
        help="a number, or an ARRAY that broadcasts to the logits (default: 1)",
    )
    parser.add_argument(
        "--label-smoothing", type=float, default=0.0, metavar="S", help="in [0, 1] (default: 0)"
    )
    parser.add_argument(
        "--reduction",
        type=parse_reduction,
        default="SUM_BY_NONZERO_WEIGHTS",
        metavar="R",
        help=f"{REDUCTIONS} in any case, or TensorFlow's string for one of them "
        "(default: SUM_BY_NONZERO_WEIGHTS). NONE shows the least, mean and greatest element",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=evaluate, fail=parser.error)


def parse_reduction(text: str) -> sce.Reduction:
    """Accept the name of a reduction in any case, or TensorFlow's string."""
    if text.upper() in sce.Reduction.__members__:
        return sce.Reduction[text.upper()]
    try:
        return sce.Reduction(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {REDUCTIONS}") from None


def print_versions(arguments: argparse.Namespace) -> None:
    """Run ``versions``."""
    sce.show_versions()


def evaluate(arguments: argparse.Namespace) -> None:
    """Run ``evaluate``."""
    try:
        labels, logits = read_array(arguments.labels), read_array(arguments.logits)
        loss = partial(
            sce.sigmoid_cross_entropy,
            labels,
            logits,
            read_weights(arguments.weights),
            label_smoothing=arguments.label_smoothing,
            reduction=arguments.reduction,
        )
        loss()
    except (ValueError, TypeError, MemoryError) as error:
        arguments.fail(str(error))
    value, seconds = timed(loss)
    report = {
        **summary(value),
        "reduction": arguments.reduction.value,
        "shape": list(logits.shape),
        "labels_dtype": str(labels.dtype),
        "logits_dtype": str(logits.dtype),
        "seconds": seconds,
        "elements_per_second": logits.size / seconds,
    }
    print(as_json(report) if arguments.json else as_lines(report))


def read_weights(text: str) -> float | Array:
    """Return the number that ``text`` spells, else the array that it names."""
    try:
        return float(text)
    except ValueError:
        return read_array(text)


def read_array(name: str) -> Array:
    """Map a ``.npy`` file into memory, or read one member of an ``.npz`` archive."""
    archive, _, member = name.rpartition(":")
    try:
        if archive.endswith(".npz"):
            return read_member(archive, member)
        if zipfile.is_zipfile(name):
            raise ValueError(f"an archive of {', '.join(member_names(name))}")
        return np.asanyarray(NPY.open_memmap(name, mode="r"))
    # A damaged file can fail in any layer: archive, compression, header, array.
    except Exception as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(
            f"cannot read {name} ({reason}): give a .npy file of numbers or FILE.npz:MEMBER"
        ) from error


def read_member(archive: str, member: str) -> Array:
    """Read one array of an ``.npz`` archive."""
    members = member_names(archive)
    if member not in members:
        raise ValueError(f"its members are {', '.join(members)}")
    with zipfile.ZipFile(archive) as opened, opened.open(f"{member}.npy") as file:
        return np.asarray(NPY.read_array(file, allow_pickle=False))


def member_names(archive: str) -> list[str]:
    """List the arrays of an ``.npz`` archive."""
    with zipfile.ZipFile(archive) as opened:
        return [name[:-4] for name in opened.namelist() if name.endswith(".npy")]


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """Return what ``call`` returns and the seconds that it took, never 0."""
    start = time.perf_counter()
    value = call()
    return value, max(time.perf_counter() - start, 1e-9)


def summary(loss: Any) -> dict[str, Any]:
    """Return the loss, or the least, mean and greatest of the losses that NONE leaves."""
    if np.ndim(loss) == 0:
        return {"loss": loss}
    if loss.size == 0:
        return {"loss_min": math.nan, "loss_mean": math.nan, "loss_max": math.nan}
    with np.errstate(all="ignore"):
        return {
            "loss_min": loss.min(),
            "loss_mean": loss.mean(dtype=np.float64),
            "loss_max": loss.max(),
        }


def as_json(report: dict[str, Any]) -> str:
    """Write a report as one JSON object."""
    return json.dumps({key: json_value(value) for key, value in report.items()}, allow_nan=False)


def json_value(value: Any) -> Any:
    """Spell a number that JSON cannot hold as Python and JavaScript both read it back."""
    if not isinstance(value, float | np.floating):
        return value
    if np.isnan(value):
        return "NaN"
    if np.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return float(value)


def as_lines(report: dict[str, Any]) -> str:
    """Write a report as aligned lines."""
    return "\n".join(
        f"{key.replace('_', ' '):<21}{line_value(value)}" for key, value in report.items()
    )


def line_value(value: Any) -> str:
    """Give a loss all its digits and a measured time four."""
    if isinstance(value, list):
        return " x ".join(map(str, value)) or "scalar"
    return f"{value:.4g}" if type(value) is float else str(value)


def compare(arguments: argparse.Namespace) -> None:
    """Run the comparison with plain NumPy: what happens without a command."""
    labels, logits = read_example("labels.npy"), read_example("logits.npy")
    print("Sigmoid cross entropy of 16 labels of handwritten digits: sce_numba beside plain NumPy")
    print("Row weights are 0, 1, 2, 0, ...; NONE shows its mean and the greatest difference.")
    print(f"Times are medians of {REPEATS} calls, in microseconds.")
    print_comparison(labels, logits)
    print_comparison(np.tile(labels, (LARGER, 1)), np.tile(logits, (LARGER, 1)))


def read_example(name: str) -> Array:
    """Read one array of the data set that comes with the package."""
    with (resources.files("sce_numba") / "example_data" / name).open("rb") as file:
        return np.asarray(NPY.read_array(file, allow_pickle=False))


def print_comparison(labels: Array, logits: Array) -> None:
    """Print a table: one line per reduction, values and times side by side."""
    rows, columns = logits.shape
    weights = (np.arange(rows, dtype=logits.dtype) % 3)[:, None]
    print(f"\n{rows:,} x {columns} {logits.dtype}, labels {labels.dtype}")
    print(f"{'reduction':<25}{'sce_numba':>14}{'NumPy':>14}{'difference':>12}", end="")
    print(f"{'sce_numba':>13}{'NumPy':>11}{'ratio':>8}", flush=True)
    for reduction in sce.Reduction:

        def ours(reduction: sce.Reduction = reduction) -> Any:
            return sce.sigmoid_cross_entropy(labels, logits, weights, reduction=reduction)

        def plain(reduction: sce.Reduction = reduction) -> Any:
            return numpy_sigmoid_cross_entropy(labels, logits, weights, reduction)

        value, numpy_value = ours(), plain()
        seconds, numpy_seconds = interleaved_medians(ours, plain)
        difference = np.max(np.abs(value - numpy_value))
        print(f"{reduction.name:<25}{np.mean(value):>14.8g}{np.mean(numpy_value):>14.8g}", end="")
        print(f"{difference:>12.1e}{seconds * 1e6:>13,.1f}{numpy_seconds * 1e6:>11,.1f}", end="")
        print(f"{numpy_seconds / seconds:>8.1f}", flush=True)


def numpy_sigmoid_cross_entropy(
    labels: Array, logits: Array, weights: Array, reduction: sce.Reduction
) -> Any:
    """Compute the loss as one usually writes it in NumPy."""
    losses = np.maximum(logits, 0) - logits * labels + np.log1p(np.exp(-np.abs(logits)))
    weighted = losses * weights
    if reduction == sce.Reduction.NONE:
        return weighted
    if reduction == sce.Reduction.SUM:
        return weighted.sum()
    if reduction == sce.Reduction.SUM_OVER_BATCH_SIZE:
        return weighted.mean()
    uses_of_a_weight = losses.size // weights.size
    if reduction == sce.Reduction.MEAN:
        return weighted.sum() / (weights.sum() * uses_of_a_weight)
    return weighted.sum() / (np.count_nonzero(weights) * uses_of_a_weight)


def interleaved_medians(*calls: Callable[[], Any]) -> list[float]:
    """Time the calls in turns, so that a busy moment of the machine meets them all."""
    turns = [[timed(call)[1] for call in calls] for _ in range(REPEATS)]
    return [median(seconds) for seconds in zip(*turns, strict=True)]


if __name__ == "__main__":
    sys.exit(main())
