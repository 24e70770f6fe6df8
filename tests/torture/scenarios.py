"""Ways in which other people's processes call the library, each in a process of its own.

    python tests/torture/scenarios.py NAME SCALE REFERENCE

A scenario returns (right answers, calls).  The reference holds the digests of all answers as one
thread gives them; ``python tests/torture/scenarios.py reference 1 -`` prints it.  Only ``run.py``
is meant to be called by hand.
"""

import asyncio
import concurrent.futures
import ctypes
import hashlib
import itertools
import json
import multiprocessing
import os
import platform
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np

SCALE = 1.0
SMALL, MEDIUM, LARGE = (4, 5), (33, 70), (70, 1000)  # the last is beyond the crossover
THREADS = 16
EXPECTED = {}
INPUTS = {}


def scaled(count):
    return max(1, round(count * SCALE))


# The calls and their answers.


def inputs(shape, dtype):
    if (shape, dtype) not in INPUTS:
        rng = np.random.default_rng(shape[0])
        logits = rng.normal(0, 4, shape).astype(dtype)
        rows = rng.random((shape[0], 1)).astype(dtype)
        INPUTS[shape, dtype] = rng.random(shape) < 0.4, logits, rows
    return INPUTS[shape, dtype]


def calls(sce):
    """Return every kind of call by name; each takes labels, logits and a weight for each row."""
    return {
        "mean": lambda z, x, w: sce.sigmoid_cross_entropy(z, x, w, 0.1, reduction="weighted_mean"),
        "default": lambda z, x, w: sce.sigmoid_cross_entropy(z, x),
        "full weights": lambda z, x, w: sce.sigmoid_cross_entropy(z, x, np.abs(x)),
        "columns": lambda z, x, w: sce.sigmoid_cross_entropy(z, x, np.abs(x[:1])),
        "transposed": lambda z, x, w: sce.sigmoid_cross_entropy(z, np.asfortranarray(x), w),
        "where": lambda z, x, w: sce.sigmoid_cross_entropy(z, x, w, where=~z),
        "none": lambda z, x, w: sce.sigmoid_cross_entropy(z, x, w, reduction="none"),
        "none, strided": lambda z, x, w: sce.sigmoid_cross_entropy(
            z[:, ::-1], x[:, ::-1], w, reduction="none"
        ),
        "nn": lambda z, x, w: sce.sigmoid_cross_entropy_with_logits(labels=z, logits=x),
        "nn, pos_weight": lambda z, x, w: sce.weighted_cross_entropy_with_logits(z, x, 2.5),
        "losses": lambda z, x, w: sce.compute_weighted_loss(np.abs(x), w),
        "gradient": lambda z, x, w: sce.sigmoid_cross_entropy_value_and_grad(z, x, w)[1],
        "hessian": lambda z, x, w: sce.sigmoid_cross_entropy_gradient_hessian(z, x, w)[1],
        "collection": lambda z, x, w: collected(sce, z, x, w),
    }


def collected(sce, labels, logits, weights):
    with sce.collect_losses() as losses:
        sce.sigmoid_cross_entropy(labels, logits, weights)
    return losses[0]


CASES = [
    f"{name}|{'x'.join(map(str, shape))}|{dtype}"
    for name in calls(None)
    for shape in (SMALL, MEDIUM, LARGE)
    for dtype in ("f2", "f4", "f8")
]


def answer(case):
    import sce_numba as sce

    name, shape, dtype = case.split("|")
    result = calls(sce)[name](*inputs(tuple(map(int, shape.split("x"))), dtype))
    return hashlib.sha256(np.ascontiguousarray(result).tobytes()).hexdigest()


def check(cases):
    """Return (right answers, calls)."""
    cases = list(cases)
    return sum(answer(case) == EXPECTED[case] for case in cases), len(cases)


def mixed(count, seed=0):
    """Return cases at random, a third of them large."""
    return random.Random(seed).choices(CASES, k=count)


def large(count, seed=0):
    return random.Random(seed).choices([case for case in CASES if "70x1000" in case], k=count)


def total(results):
    results = list(results)
    return sum(right for right, _ in results), sum(count for _, count in results)


# What scenarios are made of.


def enter_parallel():
    """Make sure that parallel code has run in this process, where it ever does."""
    return check(large(10))


def in_child(function, *arguments, fork=None):
    """Return what a function returns in a forked child."""
    source, target = os.pipe()
    child = (fork or os.fork)()
    if child == 0:
        status = 1
        try:
            os.close(source)
            os.write(target, json.dumps(function(*arguments)).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(target)
    with os.fdopen(source) as pipe:
        answered = pipe.read()
    _, status = os.waitpid(child, 0)
    if status:
        raise RuntimeError(f"a child ended with status {status}")
    return tuple(json.loads(answered))


def on_threads(function, count=THREADS):
    """Return what a function of a number returns on so many threads at once."""
    start = threading.Barrier(count)

    def work(number):
        start.wait()
        return function(number)

    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return total(pool.map(work, range(count)))


def prepare_worker(expected):
    EXPECTED.update(expected)


def in_pool(method):
    first = enter_parallel()
    context = multiprocessing.get_context(method)
    with context.Pool(3, prepare_worker, (EXPECTED,)) as pool:
        return total([first, *pool.map(check, [mixed(40, k) for k in range(scaled(6))])])


def own_kernels():
    """Return a user's parallel function, and one that calls Python from inside its region."""
    import numba

    @numba.njit(parallel=True)
    def own(values):
        result = np.zeros_like(values)
        for index in numba.prange(values.size):
            result[index] = np.sqrt(values[index]) + 1.0
        return result

    @numba.njit(parallel=True)
    def calling(count):
        right = np.zeros(count)
        for index in numba.prange(count):
            with numba.objmode(found="float64"):
                found = float(check(large(1, index))[0])
            right[index] = found
        return right

    return own, calling


# The scenarios.


def many_threads_call_at_once():
    return on_threads(lambda number: check(mixed(scaled(1000), number)))


def sixty_four_threads_leave_few_threads_behind():
    from sce_numba.kernels import parallel

    release = threading.Event()
    alive = []

    def work(number):
        found = check(large(scaled(16), number))
        alive.append(number)
        release.wait(60)
        return found

    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        futures = [pool.submit(work, number) for number in range(64)]
        while len(alive) < 64:
            time.sleep(0.01)
        tasks = len(os.listdir("/proc/self/task"))
        release.set()
        found = total(future.result() for future in futures)
    # Callers, main, Numba's pool, and what each team adds to its own thread.
    allowed = 65 + 4 + parallel.TEAMS * 4
    assert tasks <= allowed, f"{tasks} threads, {allowed} allowed"
    return found


def fork_after_a_parallel_call():
    first = enter_parallel()
    return total([first, *(in_child(check, mixed(40, k)) for k in range(scaled(10)))])


def fork_of_a_fork():
    first = enter_parallel()
    return total([first, in_child(in_child, check, mixed(scaled(100)))])


def fork_by_c_code():
    import ctypes

    first = enter_parallel()
    libc = ctypes.PyDLL(None)
    return total([first, in_child(check, mixed(scaled(100)), fork=libc.fork)])


def fork_of_a_process_that_ran_parallel_code_of_its_own():
    from numba.core import entrypoints

    # As where the package is on the path without being installed: Numba doesn't import it.
    entrypoints._already_initialized = True
    own, _ = own_kernels()
    own(np.ones(1000))
    assert "sce_numba" not in sys.modules
    return in_child(check, mixed(scaled(100)))


def fork_of_a_process_where_another_library_used_openmp():
    import ctypes

    try:
        openmp = ctypes.CDLL("libgomp.so.1")
    except OSError:
        return skip("no libgomp.so.1")
    work = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda data: None)
    openmp.GOMP_parallel(work, None, 2, 0)
    assert "sce_numba" not in sys.modules
    return in_child(check, mixed(scaled(100)))


def fork_while_other_threads_call():
    enter_parallel()  # a fork while a thread imports a module is beyond any library's help
    stop = threading.Event()

    def call_on(number):
        found = []
        while not stop.is_set():
            found.append(check(mixed(20, number)))
        return total(found)

    def fork_now(number):
        return in_child(check, mixed(20, number))

    with concurrent.futures.ThreadPoolExecutor(6) as callers:
        futures = [callers.submit(call_on, number) for number in range(4)]
        children = [callers.submit(fork_now, number) for number in range(scaled(20))]
        found = [fork_now(number) for number in range(scaled(20))]
        found += [child.result() for child in children]
        stop.set()
        return total([*found, *(future.result() for future in futures)])


def fork_while_another_thread_compiles():
    import numba

    numba.config.CACHE_DIR = "/dev/null/no-folder"
    numba.config.CACHE_LOCATOR_CLASSES = "UserProvidedCacheLocator"
    cases = [f"{name}|4x5|f4" for name in ("default", "transposed", "hessian")]
    import sce_numba  # noqa: F401  # as above

    thread = threading.Thread(target=check, args=(cases,))
    thread.start()
    found = []
    for _ in range(scaled(4)):
        time.sleep(0.3)
        found.append(in_child(check, cases[:1]))
    thread.join()
    return total(found)


def multiprocessing_fork():
    return in_pool("fork")


def multiprocessing_spawn():
    return in_pool("spawn")


def multiprocessing_forkserver():
    return in_pool("forkserver")


def concurrent_thread_pool():
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        return total(pool.map(check, [mixed(20, k) for k in range(scaled(50))]))


def concurrent_process_pool():
    first = enter_parallel()
    with concurrent.futures.ProcessPoolExecutor(
        2, initializer=prepare_worker, initargs=(EXPECTED,)
    ) as pool:
        return total([first, *pool.map(check, [mixed(40, k) for k in range(scaled(6))])])


def inside_a_parallel_region_of_the_users():
    _, calling = own_kernels()
    count = scaled(200)
    return int(calling(count).sum()), count


def beside_a_parallel_region_of_the_users():
    own, _ = own_kernels()
    values = np.ones(200_000)
    expected = own(values)
    stop = threading.Event()

    def work():
        # One thread, as the user's own code may not be entered by two under workqueue.
        right = count = 0
        while not stop.is_set():
            right += np.array_equal(own(values), expected)
            count += 1
        return right, count

    enter_parallel()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        theirs = pool.submit(work)
        try:
            found = on_threads(lambda number: check(mixed(scaled(100), number)), 8)
            main = check(large(scaled(500)))
        finally:
            stop.set()
        return total([found, main, theirs.result()])


def joblib_loky():
    joblib = optional("joblib")
    if joblib is None:
        return skip("joblib is not installed")
    enter_parallel()
    work = joblib.delayed(check_elsewhere)
    return total(joblib.Parallel(2)(work(mixed(40, k), EXPECTED, SCALE) for k in range(scaled(6))))


def joblib_threads():
    joblib = optional("joblib")
    if joblib is None:
        return skip("joblib is not installed")
    work = joblib.delayed(check)
    return total(
        joblib.Parallel(4, backend="threading")(work(mixed(40, k)) for k in range(scaled(20)))
    )


def check_elsewhere(cases, expected, scale):
    prepare_worker(expected)
    return check(cases)


class Batches:
    def __len__(self):
        return scaled(12)

    def __getitem__(self, index):
        return check(mixed(20, index))


def torch_data_loader():
    torch = optional("torch")
    if torch is None:
        return skip("torch is not installed")
    from torch.utils.data import DataLoader

    first = enter_parallel()
    torch.ones(300_000).sum()  # on torch's own threads
    loader = DataLoader(Batches(), batch_size=None, num_workers=2)
    return total([first, *(tuple(map(int, found)) for found in loader)])


def asyncio_to_thread():
    async def work():
        return await asyncio.gather(
            *(asyncio.to_thread(check, mixed(20, k)) for k in range(scaled(50)))
        )

    return total(asyncio.run(work()))


def a_server_that_forks_its_workers():
    """Serve requests as gunicorn with preload does: warm up, fork, answer until told to stop."""
    first = enter_parallel()
    workers = []
    for _ in range(2):
        ours, theirs = multiprocessing.Pipe()
        child = os.fork()
        if child == 0:
            while (cases := theirs.recv()) is not None:
                theirs.send(check(cases))
            os._exit(0)
        workers.append((child, ours))
    found = [first]
    for request in range(scaled(10)):
        for _, pipe in workers:
            pipe.send(mixed(20, request))
        found += [pipe.recv() for _, pipe in workers]
        found.append(check(mixed(20, request)))
    for child, pipe in workers:
        pipe.send(None)
        assert os.waitpid(child, 0)[1] == 0
    return total(found)


def application(environ, start_response):
    """Answer with (right answers, calls) of some calls: what gunicorn serves."""
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(check(mixed(20, int(environ["PATH_INFO"].strip("/"))))).encode()]


def preloaded():
    """Return the application after a parallel call in the server's own process."""
    prepare_worker(json.loads(Path(os.environ["SCE_REFERENCE"]).read_text()))
    enter_parallel()
    return application


def gunicorn_preloaded():
    if optional("gunicorn") is None:
        return skip("gunicorn is not installed")
    command = [sys.executable, "-m", "gunicorn", "--preload", "--workers=2", "--threads=2"]
    command += ["--bind=127.0.0.1:0", f"--chdir={Path(__file__).parent}", "scenarios:preloaded()"]
    environment = {**os.environ, "SCE_REFERENCE": sys.argv[3]}
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        for line in server.stderr:
            if "Listening at: " in line:
                address = line.split("Listening at: ")[1].split()[0]
                break
        else:
            raise RuntimeError("gunicorn did not start")

        def ask(number):
            with urllib.request.urlopen(f"{address}/{number}", timeout=600) as response:
                return tuple(json.load(response))

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            return total(pool.map(ask, range(scaled(20))))
    finally:
        server.terminate()
        server.communicate()


def set_num_threads_from_threads():
    import numba

    numba.get_num_threads()

    def work(number):
        found = []
        for k in range(scaled(50)):
            count = 1 + (number + k) % numba.config.NUMBA_NUM_THREADS
            numba.set_num_threads(count)
            found.append(check(mixed(10, k)))
            assert numba.get_num_threads() == count
        return total(found)

    return total([on_threads(work, 8), work(0)])


def interrupted(function, after):
    """Call a function and press Ctrl-C meanwhile; return whether that was noticed."""
    timer = threading.Timer(after, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        function()
        timer.join()
        time.sleep(0.01)
    except KeyboardInterrupt:
        return True
    return False


def ctrl_c_during_a_long_call():
    import sce_numba as sce

    enter_parallel()
    logits = np.broadcast_to(np.float32(0.5), (1 << 14, 1 << 14))
    labels = np.broadcast_to(np.True_, logits.shape)
    found = []
    for k in range(scaled(10)):
        assert interrupted(lambda: sce.sigmoid_cross_entropy(labels, logits), 0.02)
        found.append(check(mixed(40, k)))
    return total(found)


def ctrl_c_during_compilation():
    import numba

    numba.config.CACHE_DIR = "/dev/null/no-folder"
    numba.config.CACHE_LOCATOR_CLASSES = "UserProvidedCacheLocator"
    cases = [f"{name}|70x1000|f4" for name in ("default", "transposed")]
    noticed = [interrupted(lambda k=k: check(cases), 0.2 + 0.25 * k) for k in range(scaled(6))]
    assert any(noticed)
    return check(cases)


def accumulators_under_forks_and_signals():
    """Count updates by threads, forked children and handlers: each whole or not at all."""
    import sce_numba as sce

    enter_parallel()
    loss = sce.LossAccumulator()
    labels, logits, _ = inputs(MEDIUM, "f8")
    one = sce.LossAccumulator()
    one.update(labels, logits)
    noticed = []

    def update(*signal_and_frame):
        loss.update(labels, logits)
        noticed.append(1)

    signal.signal(signal.SIGALRM, update)
    stop = threading.Event()
    done = []

    def update_on():
        while not stop.is_set():
            update()

    def whole():
        """Tell whether all updates so far are whole: their mean is that of any one of them."""
        loss.update(labels, logits)
        return [int(loss.count % logits.size == 0 and loss.result() == one.result()), 1]

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(update_on) for _ in range(2)]
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
        try:
            for _ in range(scaled(100)):
                done += [in_child(whole), whole()]
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            stop.set()
        for future in futures:
            future.result()
    # All that were counted, and no other, are in it.
    own = len(noticed) + len(done) // 2
    return total([*done, (int(loss.count == own * logits.size), 1)])


def memory_that_runs_out():
    """Every call under a limit of its own: right, or a MemoryError."""
    if not sys.platform.startswith("linux"):
        skip("sets a limit on the address space as Linux counts it")
    import resource

    done = [check(CASES)]  # compiles them all: LLVM would end the process
    refused = 0
    for case, more in zip(mixed(scaled(2000), 4), itertools.cycle(range(0, 1 << 21, 1 << 16))):
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + more, resource.RLIM_INFINITY))
        try:
            done.append(check([case]))
        except MemoryError:
            refused += 1
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
    return total([*done, (refused, refused), check(CASES)])


def subnormal_numbers_flushed_to_zero():
    """As ``torch.set_flush_denormal(True)`` has it: on this thread, those it starts, a child."""
    if not sys.platform.startswith("linux") or platform.machine() != "x86_64":
        skip("sets the register MXCSR where glibc keeps it")
    libm = ctypes.CDLL("libm.so.6")
    environment = (ctypes.c_uint32 * 8)()

    def flushes():
        libm.fegetenv(environment)
        return environment[7] & 0x8040 == 0x8040

    libm.fegetenv(environment)
    environment[7] |= 0x8040
    libm.fesetenv(environment)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        threads = [pool.submit(check, mixed(scaled(500), seed)) for seed in range(4)]
        done = [check(CASES), in_child(check, CASES), *(thread.result() for thread in threads)]
        kept = [flushes(), *pool.map(lambda _: flushes(), range(8))]
    return total([*done, (sum(kept), len(kept))])


def optional(name):
    try:
        return __import__(name)
    except ImportError:
        return None


def skip(reason):
    print(json.dumps({"skipped": reason}))
    sys.exit()


SCENARIOS = [
    many_threads_call_at_once,
    sixty_four_threads_leave_few_threads_behind,
    fork_after_a_parallel_call,
    fork_of_a_fork,
    fork_by_c_code,
    fork_of_a_process_that_ran_parallel_code_of_its_own,
    fork_of_a_process_where_another_library_used_openmp,
    fork_while_other_threads_call,
    fork_while_another_thread_compiles,
    multiprocessing_fork,
    multiprocessing_spawn,
    multiprocessing_forkserver,
    concurrent_thread_pool,
    concurrent_process_pool,
    inside_a_parallel_region_of_the_users,
    beside_a_parallel_region_of_the_users,
    joblib_loky,
    joblib_threads,
    torch_data_loader,
    asyncio_to_thread,
    a_server_that_forks_its_workers,
    gunicorn_preloaded,
    set_num_threads_from_threads,
    ctrl_c_during_a_long_call,
    ctrl_c_during_compilation,
    accumulators_under_forks_and_signals,
    memory_that_runs_out,
    subnormal_numbers_flushed_to_zero,
]


def main(name, scale, reference):
    if name == "reference":
        print(json.dumps({case: answer(case) for case in CASES}))
        return
    # A shell lets the jobs that it starts in the background ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    global SCALE
    SCALE = float(scale)
    EXPECTED.update(json.loads(Path(reference).read_text()))
    scenario = {function.__name__: function for function in SCENARIOS}[name]
    right, count = scenario()
    print(json.dumps({"right": right, "calls": count}))


if __name__ == "__main__":
    main(*sys.argv[1:])
