"""A library in a process of its own, with its own number of threads, driven over a pipe.

So libraries take turns within one run although each fixes its threads when it is loaded, and no
thread pool of one stands in the way of another.
"""

from __future__ import annotations

import importlib
import math
import multiprocessing as mp
import os
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.peers.rows import Arrays, Row

SAMPLE = 0.02  # seconds; shorter calls are repeated to this length
PAUSE = 0.01  # before a turn, for the threads of the one before, which spin a while


class Missing(Exception):
    """The library cannot do a row; the message says why."""


@dataclass
class Task:
    """A row as a library does it."""

    run: Callable[[], Any]
    results: Callable[[], Arrays]
    flops: float
    note: str = ""


@dataclass
class Opened:
    """What a library says of a row: its results and notes, or why it cannot do it."""

    results: Arrays | None = None
    flops: float = 0.0
    note: str = ""
    missing: str = ""
    failed: bool = False


MODULES = {
    "tinygrad_rnn": "benchmarks.peers.layers",
    "torch": "benchmarks.peers.layers",
    "jax": "benchmarks.peers.jax_scan",
    "onnxruntime": "benchmarks.peers.onnx_models",
    "peak": "benchmarks.peers.fma",
}


def environment(threads: int) -> dict[str, str]:
    """Fixes the threads of everything that reads them when it is loaded."""
    names = ("OMP", "OPENBLAS", "MKL", "TINYGRAD_RNN")
    count = {f"{name}_NUM_THREADS": str(threads) for name in names}
    flags = os.environ.get("XLA_FLAGS", "")
    if threads == 1:
        flags += " --xla_cpu_multi_thread_eigen=false"
    jax = {"NPROC": str(threads), "PJRT_NPROC": str(threads), "JAX_PLATFORMS": "cpu"}
    return count | jax | {"XLA_FLAGS": flags.strip()}


def _opened(library: str, row: Row, threads: int) -> tuple[Task | None, int, Opened]:
    """Prepare a row and find how often it is to be repeated within a sample."""
    try:
        task: Task = importlib.import_module(MODULES[library]).prepare(library, row, threads)
        answer = Opened(task.results(), task.flops, task.note)
    except (Missing, ModuleNotFoundError) as error:
        return None, 0, Opened(missing=f"{library}: {error}")
    except Exception as error:  # a row that fails does not end a long run
        traceback.print_exc()
        text = f"{library} failed with {type(error).__name__}: {error}"
        return None, 0, Opened(missing=text, failed=True)
    start = time.perf_counter()
    task.run()
    return task, math.ceil(SAMPLE / (time.perf_counter() - start)), answer


def _sample(run: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Seconds per call, and cores in use meanwhile."""
    if repeats > 1:
        run()  # wake the threads and fill the caches: it is a new turn
    start, busy = time.perf_counter(), time.process_time()
    for _ in range(repeats):
        run()
    seconds = time.perf_counter() - start
    return seconds / repeats, (time.process_time() - busy) / seconds


def serve(pipe: Connection, library: str, threads: int) -> None:
    """The child's loop: a Row is prepared, a True is a turn, None is the end."""
    task, repeats = None, 0
    while (message := pipe.recv()) is not None:
        if isinstance(message, Row):
            task = None  # frees the last one
            task, repeats, answer = _opened(library, message, threads)
            pipe.send(answer)
        elif task is not None:
            pipe.send(_sample(task.run, repeats))


def started(target: Callable[..., None], args: tuple[Any, ...], threads: int) -> tuple[Any, Any]:
    """Our end of a pipe and the process that has the other, with an environment for so many
    threads."""
    context, before = mp.get_context("spawn"), dict(os.environ)
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs, *args), daemon=True)
    os.environ.update(environment(threads))
    try:
        process.start()
    finally:
        os.environ.clear()
        os.environ.update(before)
    theirs.close()
    return ours, process


class Player:
    """The parent's end of a library's process."""

    def __init__(self, library: str, threads: int) -> None:
        self.library, self.threads, self.most = library, threads, 0.0
        self._pipe, self._process = started(serve, (library, threads), threads)

    def _answer(self) -> Any:
        try:
            return self._pipe.recv()
        except EOFError:
            raise RuntimeError(f"the process of {self.library} died; see its error above") from None

    def open(self, row: Row) -> Opened:
        """Prepare a row."""
        self._pipe.send(row)
        answer: Opened = self._answer()
        return answer

    def turn(self) -> float:
        """Seconds per call of the row."""
        time.sleep(PAUSE)
        self._pipe.send(True)
        seconds, cores = self._answer()
        self.most = max(self.most, cores)
        return float(seconds)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid or 0

    def close(self) -> None:
        """End the process."""
        self._pipe.send(None)
        self._process.join(10)
        if self._process.is_alive():
            self._process.terminate()
