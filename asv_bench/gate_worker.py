"""Time benchmarks on request: one name of ``gate.WATCHED`` a line in, seconds a line out.

``gate`` starts it as a script, beside ``benchmarks``, with one version of the package on the path.
The answer is -1 where that version lacks what a benchmark calls.
"""

import importlib
import signal
import sys
import time

# Threads of a process that was asked before go on spinning for some milliseconds.
PAUSE = 0.01


def prepare(name):
    """Return a benchmark that is set up and compiled, as a function that times it."""
    path, _, rest = name.partition("(")
    module, group, method = path.split(".")
    parameters = tuple(rest.removesuffix(")").split(", ")) if rest else ()
    benchmark = getattr(importlib.import_module(f"benchmarks.{module}"), group)()
    try:
        benchmark.setup(*parameters)
    except NotImplementedError:
        return lambda: -1.0
    call = getattr(benchmark, method)

    def run():
        time.sleep(PAUSE)
        call(*parameters)
        start = time.perf_counter()
        call(*parameters)
        return time.perf_counter() - start

    return run


def main():
    """Answer until there are no more questions; Ctrl-C is for whoever asks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ready = {}
    for line in sys.stdin:
        name = line.strip()
        if name not in ready:
            ready[name] = prepare(name)
        print(ready[name](), flush=True)


if __name__ == "__main__":
    main()
