"""Compare the speed of sce_numba with what else is installed, and with reading the memory alone.

``python -m asv_bench.compare`` runs every job by every peer in turns, and prints how many times as
long as sce_numba each of them took.  The roofline of a job is a kernel that reads the same arrays
(and writes the results), and does nothing else.  ``pip install '.[peers]'`` brings the peers; those
that are not installed are left out.  For one thread, set NUMBA_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from .jobs import jobs
from .peers import OURS, Peer, keep_to_equal_threads, ours, peers
from .report import (
    add_outputs,
    as_json,
    facts,
    facts_in_words,
    saved,
    spread_in_words,
    tables,
    write,
)
from .roofline import roofline
from .timing import Call, Timing, measure


def run(others: list[Peer], only: str, rounds: int) -> dict[str, dict[str, Timing]]:
    """Return the timings of every job, by peer."""
    found = {}
    for job in jobs():
        if only not in job.name:
            continue
        calls: dict[str, Call | None] = {OURS: ours(job), "roofline": roofline(job)}
        calls.update({name: make(job) for name, make in others})
        found[job.name] = measure({name: call for name, call in calls.items() if call}, rounds)
        print(f"measured: {job.name}", file=sys.stderr, flush=True)
    return found


def in_words(found: dict[str, dict[str, Timing]], said: dict[str, Any], rounds: int) -> str:
    """Return the tables, and what they mean."""
    timings = [timing for timings in found.values() for timing in timings.values()]
    return "\n\n".join(
        [
            tables(found),
            f"{OURS}: median of {rounds} timings. Others: how many times as long they took; empty "
            "where a package has no way to do the job. Arrays are 8192 x 2048 and float32 where "
            f"nothing else is said. {spread_in_words(timings)}",
            facts_in_words(said),
        ]
    )


def main() -> None:
    """Run everything and print a table, or JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m asv_bench.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=15, help="timings of each call (15)")
    parser.add_argument("--only", default="", metavar="TEXT", help="jobs whose name contains this")
    add_outputs(parser)
    parser.add_argument("--chart", type=Path, metavar="FOLDER", help="write speed.svg and its like")
    options = parser.parse_args()
    if options.saved:
        said, found = saved(options.saved)
    else:
        keep_to_equal_threads()
        others = peers()
        command = " ".join(["python -m asv_bench.compare", *sys.argv[1:]])
        said = facts(command, [name for name, _ in others]) | {"rounds": options.rounds}
        found = run(others, options.only, options.rounds)
    words = in_words(found, said, said["rounds"])
    print(as_json(said, found) if options.json else words)
    write(words, options.page, "asv_bench.compare")
    if options.chart:
        from .chart import draw_comparison

        draw_comparison(found, options.chart)


if __name__ == "__main__":
    main()
