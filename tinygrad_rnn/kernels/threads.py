"""Threads for kernels, which release the interpreter's lock: a pool that outlives `fork`.

Whoever runs tasks helps with them, so they are done even if no thread can be started or all are
busy; and waits for those that are begun, whatever is raised, for they write to the caller's arrays.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections import deque
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


def _no_core() -> int:
    return -1


_system = ctypes.CDLL(None) if hasattr(os, "sched_setaffinity") else None
_core: Callable[[], int] = getattr(_system, "sched_getcpu", _no_core)  # this thread runs on


def _leave(core: int) -> None:
    """Go to another core than this, if there is one: Linux may wake a thread on its waker's core
    and leave it there, to wait, with others idle."""
    if _core() == core != -1 and len(cores := os.sched_getaffinity(0)) > 1:
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, cores - {core})
            os.sched_setaffinity(0, cores)


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
                try:
                    threading.Thread(target=_work, args=(self.tasks,), daemon=True).start()
                except RuntimeError:  # the system has no more, or Python is about to end
                    return
                self.workers += 1


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


class _Job:
    """Tasks that threads take from one end; what they raise; and who has come and gone."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.waiting, self.errors = deque(tasks), deque[BaseException]()
        self.came, self.left = deque[None](), deque[None]()
        self.leaving: SimpleQueue[None] = SimpleQueue()
        self.core = _core()

    def work(self) -> None:
        while self.waiting:
            try:
                task = self.waiting.popleft()
            except IndexError:  # another thread was faster
                return
            task()

    def help(self) -> None:
        """What a thread of the pool does; nothing, if it comes late."""
        self.came.append(None)
        try:
            _leave(self.core)
            self.work()
        except BaseException as error:
            self.errors.append(error)
        self.left.append(None)
        self.leaving.put(None)

    def finish(self) -> None:
        """Begin no more tasks, and wait for the others; an interrupt is raised afterwards."""
        interrupt = None
        self.waiting.clear()
        while len(self.left) < len(self.came):
            try:
                self.leaving.get()
            except KeyboardInterrupt as error:
                interrupt = error
        if interrupt:
            raise interrupt


def run(tasks: Sequence[Task]) -> None:
    """Run tasks, the first of them in this thread, and wait for all; errors are raised here."""
    if len(tasks) == 1:
        tasks[0]()
        return
    job = _Job(tasks[1:])
    _POOL.grow(len(tasks) - 1)
    try:
        for _ in range(min(len(tasks) - 1, _POOL.workers)):
            _POOL.tasks.put(job.help)
        tasks[0]()
        job.work()
    finally:
        job.finish()
    if job.errors:
        raise job.errors[0]


def shares(n: int, parts: int) -> list[tuple[int, int]]:
    """Nearly equal ranges of 0..n, at most `parts` and none empty."""
    parts = max(1, min(parts, n))
    return [(n * k // parts, n * (k + 1) // parts) for k in range(parts)]
