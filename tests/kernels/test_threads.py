"""The pool of threads: all tasks are done, errors arrive, nobody writes on after an interrupt."""

import os
import signal
import threading
import time

import pytest

from tinygrad_rnn.kernels import threads


@pytest.fixture
def pool(monkeypatch):
    """A pool without threads yet."""
    monkeypatch.setattr(threads, "_POOL", pool := threads._Pool())
    return pool


def test_every_task_is_done_once_and_the_first_one_here(pool):
    done = []
    for n in (1, 2, 5, 40):
        tasks = [lambda k=k: done.append((k, threading.get_ident())) for k in range(n)]
        threads.run(tasks)
        assert sorted(k for k, _ in done) == list(range(n))
        assert dict(done)[0] == threading.get_ident()
        done.clear()


def test_tasks_run_at_the_same_time(pool):
    barrier = threading.Barrier(4, timeout=20)
    threads.run([barrier.wait] * 4)
    assert pool.workers == 3


def test_without_more_threads_the_caller_does_it_all(pool, monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    done = []
    for _ in range(3):
        threads.run([lambda k=k: done.append(k) for k in range(4)])
    assert done == [0, 1, 2, 3] * 3
    monkeypatch.undo()


def test_tasks_may_have_tasks(pool):
    done = []

    def outer():
        threads.run([lambda: done.append(time.sleep(0.01))] * 3)

    for _ in range(3):
        threads.run([outer] * 3)
    assert len(done) == 27


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_errors_arrive_when_all_have_ended(pool, bad):
    running = []

    def task(k):
        running.append(k)
        time.sleep(0.02)
        running.remove(k)
        if k == bad:
            raise ZeroDivisionError(k)

    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            threads.run([lambda k=k: task(k) for k in range(3)])
        assert not running
    threads.run([lambda: None] * 3)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer here")
@pytest.mark.parametrize("seconds", [0, 1])  # interrupted while it waits, or while it works itself
def test_an_interrupt_waits_for_what_is_begun(pool, seconds):
    """Tasks write to arrays that the caller drops when it is interrupted."""
    begun, ended = threading.Event(), []

    def here():
        begun.wait(20)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        time.sleep(seconds)

    def there():
        begun.set()
        time.sleep(0.4)
        ended.append(0)

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            threads.run([here, there, *[lambda: None] * 3])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert ended


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="says nothing of cores here")
def test_threads_may_use_every_core_afterwards(pool):
    """A thread that leaves its waker's core is not bound to another one."""
    found = []
    for _ in range(50):
        threads.run([lambda: time.sleep(0.001), lambda: found.append(os.sched_getaffinity(0))])
        threads.run([lambda: sum(range(20_000))] * 2)
    assert found and all(cores == os.sched_getaffinity(0) for cores in found)
