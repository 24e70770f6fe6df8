# PYTHON_ARGCOMPLETE_OK
"""The command line: ``sce-numba``, or ``python -m sce_numba``.

Alone it compares the package with plain NumPy on real data. ``evaluate`` computes the loss of
arrays in files, ``compile`` fills the cache of compiled code, ``versions`` prints what a bug report
needs.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from importlib import resources
from statistics import median
from typing import Any, NoReturn, TypeAlias

import numpy as np
import numpy.typing as npt

import sce_numba as sce

from .command_line import evaluate, prepare, streams
from .command_line.evaluate import INTERRUPTED
from .command_line.report import json_text
from .evaluator.npy import NPY

Array: TypeAlias = npt.NDArray[Any]

SCRIPT = "sce-numba"
PROGRAM = SCRIPT if os.path.basename(sys.argv[0]) == SCRIPT else "python -m sce_numba"
REPEATS = 15
LARGER = 200
USAGE_ERROR = 2
UNWRITABLE = 3
READER_GONE = 141


class Parser(argparse.ArgumentParser):
    """A parser whose errors are a single line without usage text, also as JSON on demand."""

    _json, _odd = False, ""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Remember ``--json``, and a file that looks like an option, for the error message."""
        words = sys.argv[1:] if args is None else args
        self._json = any(len(word) > 2 and "--json".startswith(word) for word in words)
        odd = (word for word in words if word.startswith("-") and os.path.exists(word))
        self._odd = next(odd, "")
        return super().parse_known_args(args, namespace)

    def _parse_optional(self, arg_string: str) -> Any:
        """Take ``-:COLUMN``, which is standard input, as an argument, not as an option."""
        return None if arg_string.startswith("-:") else super()._parse_optional(arg_string)

    def error(self, message: str) -> NoReturn:
        """Print the message, and exit with the status of a usage error."""
        if self._odd:
            message += f"; a file whose name begins with - is given as ./{self._odd}"
        line = " ".join(message.split())
        streams.say(f"{self.prog}: error: {line}")
        if self._json:
            print(json_text({"error": line}), flush=True)
        self.exit(USAGE_ERROR)

    def print_help(self, file: Any = None) -> None:
        """Print the help; raise an error if it can't be printed."""
        print(self.format_help(), end="", file=file, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv
        The words after the program's name; those of the process when None.

    Returns
    -------
    int
        The exit status: 0; 1 when rows could not be read; 3 when the output could not be
        written; 130 when interrupted; 141 when the reader of the output has gone.

    Raises
    ------
    SystemExit
        With status 2, after one line on standard error, when an argument or a file cannot be
        used; with status 0 after ``--help``.
    """
    streams.replace_closed()
    streams.write_what_can_be()
    streams.tell_of_compilation()
    try:
        if sys.stdout is None:
            return unwritable("it is closed")
        try:
            parser = command_parser()
            complete(parser)
            arguments = parser.parse_args(argv)
            return arguments.run(arguments) or 0
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        return READER_GONE
    except OSError as error:
        if error.filename is not None:
            raise
        return unwritable(str(error.strerror))
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        streams.drop_unwritten()


def unwritable(reason: str) -> int:
    """Report that output can't be written, and return the exit status for it."""
    streams.say(f"{PROGRAM}: error: cannot write to standard output ({reason})")
    return UNWRITABLE


def command_parser() -> Parser:
    """Build the parser of the whole command line."""
    parser = Parser(
        prog=PROGRAM,
        description="Sigmoid cross entropy of NumPy arrays. Without a command: compare every "
        "reduction with plain NumPy on a data set that comes with the package.",
        epilog=f"Example: {PROGRAM} evaluate labels.npy logits.npy",
    )
    parser.set_defaults(run=compare)
    parser.add_argument(
        "--version",
        action="store_const",
        dest="run",
        const=print_version,
        help="print the version of the package and leave",
    )
    commands = parser.add_subparsers(title="commands", metavar="{evaluate,compile,versions}")
    evaluate.add_to(commands)
    prepare.add_to(commands)
    versions = commands.add_parser(
        "versions", help="print what a bug report needs", epilog=f"Example: {PROGRAM} versions"
    )
    versions.set_defaults(run=print_versions)
    return parser


def complete(parser: Parser) -> None:
    """Answer a shell that asks for completions, and exit."""
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser)


def print_version(arguments: argparse.Namespace) -> None:
    """Print the version of the package alone."""
    print(f"sce_numba {sce.__version__}")


def print_versions(arguments: argparse.Namespace) -> None:
    """Run ``versions``."""
    sce.show_versions()


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """Return the result of ``call`` and the seconds that it took, never 0."""
    start = time.perf_counter()
    value = call()
    return value, max(time.perf_counter() - start, 1e-9)


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
    """Compute the loss as it is usually written in NumPy."""
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
    """Return median times of calls in turns, so that a busy moment of the machine affects all."""
    turns = [[timed(call)[1] for call in calls] for _ in range(REPEATS)]
    return [median(seconds) for seconds in zip(*turns, strict=True)]


if __name__ == "__main__":
    sys.exit(main())
