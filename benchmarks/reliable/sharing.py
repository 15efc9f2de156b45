"""Two Python threads in every op and cell at once, and children forked meanwhile.

A process of its own does it for some seconds, so that a crash or a hang is only a failure:
python -m benchmarks.reliable.sharing SEED SECONDS
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import tinygrad_rnn as tg
from benchmarks.reliable.outcome import Outcome, drawn
from tests.cells.runs import made
from tests.cells.table import CELLS
from tests.ops.table import ROWS
from tinygrad_rnn.kernels.sequence import runner

SECONDS, PATIENCE = 10, 60
Job = Callable[[], list[np.ndarray]]


def of_op(case: Any) -> Job:
    def job() -> list[np.ndarray]:
        leaves = [tg.Tensor(a, requires_grad=True) for a in case.arrays]
        outputs = [v for v in case(*leaves) if v.requires_grad]
        gs = [np.ones(v.shape) for v in outputs]
        found = tg.grad(outputs, leaves, gs, allow_unused=True) if outputs else []
        return [v.numpy() for v in (*outputs, *found) if v is not None]

    return job


def jobs(rng: np.random.Generator) -> list[tuple[str, Job, list[np.ndarray]]]:
    """Every op and every cell, with what each gives alone."""
    found: list[tuple[str, Job]] = []
    for row in ROWS:
        found += [(str(row), of_op(case)) for case in drawn(row, 2, rng)]
    found += [(name, made(name, batch=5, dtype="float32").results) for name in CELLS]
    with np.errstate(all="ignore"):
        return [(name, job, job()) for name, job in found]


def wrong(name: str, job: Job, expected: list[np.ndarray]) -> str | None:
    """Cells give the same bits; ops may differ by the roundings of BLAS, which depend on places."""
    try:
        with np.errstate(all="ignore"):
            got = job()
        for g, e in zip(got, expected, strict=True):
            if name in CELLS:
                np.testing.assert_array_equal(g, e)
            else:
                size = np.abs(e[np.isfinite(e)]).max(initial=0.0)
                np.testing.assert_allclose(g, e, rtol=1e-13, atol=1e-13 * size)
    except BaseException as error:
        return f"{name}: {error!r}"[:200]
    return None


def child_ended(pid: int) -> str | None:
    """What is wrong with a forked child, which is given some time."""
    deadline = time.monotonic() + PATIENCE
    while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            return "a child hangs"
        time.sleep(0.005)
    return None if ended[1] == 0 else f"a child's status is {ended[1]}"


def worked(seed: int, seconds: float) -> tuple[int, int, list[str]]:
    """Calls, forks, and what went wrong."""
    rng = np.random.default_rng(seed)
    runner.WORTH = 0  # threads even for small work
    tg.set_num_threads(2)
    every = jobs(rng)
    failures: list[str] = []
    calls, end = [0, 0], time.monotonic() + seconds

    def work(k: int) -> None:
        mine = np.random.default_rng((seed, k))
        while time.monotonic() < end:
            for at in mine.permutation(len(every)):
                calls[k] += 1
                failures.extend(filter(None, [wrong(*every[at])]))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    forks = 0
    while time.monotonic() < end:
        time.sleep(0.3)
        pid = os.fork()
        if not pid:
            some = rng.choice(len(every), 5)
            cells = rng.choice([k for k, job in enumerate(every) if job[0] in CELLS], 3)
            os._exit(any(wrong(*every[k]) for k in (*some, *cells)))
        forks += 1
        failures.extend(filter(None, [child_ended(pid)]))
    for thread in threads:
        thread.join()
    return sum(calls), forks, failures


def round(rng: np.random.Generator) -> Iterator[Outcome]:
    seed = int(rng.integers(2**32))
    command = [sys.executable, "-m", "benchmarks.reliable.sharing", str(seed), str(SECONDS)]
    calls, forks = Outcome("calls from two threads at once"), Outcome("forks meanwhile")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20 * SECONDS)
        first, *failures = done.stdout.splitlines()
        counts = [int(n) for n in first.split()]
    except (subprocess.TimeoutExpired, ValueError):
        calls.trial(f"seed {seed}: crashed or hung")
    else:
        children = [f for f in failures if f.startswith("a child")]
        calls.many(counts[0], [f for f in failures if f not in children])
        forks.many(counts[1], children)
        if done.returncode:
            calls.trial(f"seed {seed}: status {done.returncode}, {done.stderr[-300:]!r}")
    yield calls
    yield forks


if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)  # of fork with threads
    n_calls, n_forks, wrongs = worked(int(sys.argv[1]), float(sys.argv[2]))
    print(n_calls, n_forks)
    for text in wrongs:
        print(" ".join(text.split()))
