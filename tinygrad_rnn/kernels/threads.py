"""Threads for kernels, which release the interpreter's lock: a pool that outlives `fork`."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue

Task = Callable[[], None]


def _available() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _default() -> int:
    """TINYGRAD_RNN_NUM_THREADS, or the cores that this process may use."""
    text = os.environ.get("TINYGRAD_RNN_NUM_THREADS", "")
    if not text:
        return _available()
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"TINYGRAD_RNN_NUM_THREADS: expected a number from 1, got {text!r}")
    return int(text)


class _Pool:
    """Worker threads, started when they are first needed."""

    def __init__(self) -> None:
        self.limit: int | None = None
        self.lock = threading.Lock()
        self.forget()

    def forget(self) -> None:
        """Have no workers: after `fork` a child has none of its parent's threads."""
        self.workers = 0
        self.tasks: SimpleQueue[Task] = SimpleQueue()
        self.lock = threading.Lock()

    def grow(self, workers: int) -> None:
        with self.lock:
            while self.workers < workers:
                self.workers += 1
                threading.Thread(target=_work, args=(self.tasks,), daemon=True).start()


def _work(tasks: SimpleQueue[Task]) -> None:
    while True:
        tasks.get()()


_POOL = _Pool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_POOL.forget)


def set_num_threads(n: int) -> None:
    """How many threads kernels may use; results do not depend on it.

    The environment variable TINYGRAD_RNN_NUM_THREADS sets it from outside; by default it is the
    number of cores that the process may use.

    Raises:
        ValueError: if n is not a whole number from 1.

    >>> import tinygrad_rnn as tg
    >>> tg.set_num_threads(1)
    >>> tg.get_num_threads()
    1
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ValueError(f"set_num_threads: expected a whole number from 1, got {n!r}")
    _POOL.limit = n


def get_num_threads() -> int:
    """How many threads kernels may use."""
    if _POOL.limit is None:
        _POOL.limit = _default()
    return _POOL.limit


def run(tasks: Sequence[Task]) -> None:
    """Run tasks, the first of them in this thread, and wait for all; errors are raised here."""
    if len(tasks) == 1:
        tasks[0]()
        return
    _POOL.grow(len(tasks) - 1)
    done: SimpleQueue[BaseException | None] = SimpleQueue()

    def reporting(task: Task) -> Task:
        def call() -> None:
            try:
                task()
            except BaseException as error:
                done.put(error)
            else:
                done.put(None)

        return call

    for task in tasks[1:]:
        _POOL.tasks.put(reporting(task))
    try:
        tasks[0]()
    finally:
        errors = [done.get() for _ in tasks[1:]]
    for error in errors:
        if error is not None:
            raise error


def shares(n: int, parts: int) -> list[tuple[int, int]]:
    """Nearly equal ranges of 0..n, at most `parts` and none empty."""
    parts = max(1, min(parts, n))
    return [(n * k // parts, n * (k + 1) // parts) for k in range(parts)]
