"""Ctrl-C and SIGTERM end a training at a step, with its checkpoint; a second Ctrl-C at once."""

import doctest
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from zoo.running import interrupt
from zoo.running.interrupt import Interrupt

ROOT = Path(__file__).resolve().parents[2]
LINE = "saving at the next step; press Ctrl-C again to stop at once\n"

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")

TRAIN = """
    import sys, time
    from zoo.running.interrupt import Interrupt

    with Interrupt() as interrupt:
        for step in range(int(sys.argv[1])):
            print("step", step, flush=True)
            time.sleep(float(sys.argv[2]))
            if interrupt.requested:
                print("saved after step", step, flush=True)
                sys.exit(interrupt.exit_code)
    print("done")
"""


def line_of(pipe):
    """Its next line, and nothing that `communicate` would miss, as `readline` reads ahead."""
    found = b""
    while not found.endswith(b"\n") and (byte := os.read(pipe.fileno(), 1)):
        found += byte
    return found.decode()


class Training:
    """A process that takes steps and can be sent signals; always ended by the test's end."""

    def __init__(self, steps, seconds, launcher=()):
        self.process = subprocess.Popen(
            [*launcher, sys.executable, "-c", textwrap.dedent(TRAIN), str(steps), str(seconds)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def __enter__(self):
        assert line_of(self.process.stdout) == "step 0\n"
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def send(self, number):
        self.process.send_signal(number)

    def end(self):
        out, err = self.process.communicate(timeout=20)
        return self.process.returncode, out, err


@pytest.mark.parametrize(
    ("number", "code", "line"),
    [(signal.SIGINT, 130, LINE), (signal.SIGTERM, 143, LINE.replace("again ", ""))],
)
def test_the_first_signal_ends_the_training_after_the_step(number, code, line):
    with Training(1000, 0.2) as training:
        start = time.monotonic()
        training.send(number)
        returned, out, err = training.end()
    assert (returned, err) == (code, line)
    assert "saved after step" in out
    assert time.monotonic() - start < 2.2


def test_without_a_signal_the_training_runs_to_its_end():
    with Training(2, 0.0) as training:
        assert training.end() == (0, "step 1\ndone\n", "")


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_after_the_line_stops_in_the_middle_of_a_step(first):
    with Training(1000, 60) as training:
        training.send(first)
        assert line_of(training.process.stderr).startswith("saving at the next step")
        training.send(signal.SIGINT)
        code, out, err = training.end()
    assert code == -signal.SIGINT  # which a shell shows as 130
    assert "KeyboardInterrupt" in err
    assert "saved" not in out


def test_a_repeated_sigterm_still_saves():
    with Training(1000, 0.5) as training:
        training.send(signal.SIGTERM)
        line_of(training.process.stderr)
        training.send(signal.SIGTERM)
        code, out, err = training.end()
    assert (code, err) == (143, "")
    assert "saved" in out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_process_and_its_group_is_one_request(number):
    """As `timeout` and launchers that pass Ctrl-C on send it."""
    with Training(1000, 0.5) as training:
        training.send(number)
        time.sleep(0.02)
        os.killpg(training.process.pid, number)
        code, out, _ = training.end()
    assert code == 128 + number
    assert "saved" in out


def test_a_background_job_that_ignores_sigint_can_be_told_all_the_same():
    ignoring = 'trap \'\' INT; exec "$0" "$@"'
    with Training(1000, 0.1, ["/bin/sh", "-c", ignoring]) as training:
        training.send(signal.SIGINT)
        assert training.end()[0] == 130


def test_closed_stderr_does_not_prevent_saving():
    with Training(1000, 0.2) as training:
        training.process.stderr.close()
        training.send(signal.SIGINT)
        out = training.process.stdout.read()
        assert training.process.wait(20) == 130
    assert "saved" in out


@pytest.mark.parametrize("number", interrupt.SIGNALS)
def test_old_handlers_come_back(number):
    def own(*_):
        raise AssertionError("not while the block runs")

    old = signal.signal(number, own)
    try:
        with Interrupt() as inner:
            signal.raise_signal(number)
            assert inner.signal is number
        assert signal.getsignal(number) is own
        with pytest.raises(ZeroDivisionError), Interrupt():
            1 / 0  # noqa: B018
        assert signal.getsignal(number) is own
    finally:
        signal.signal(number, old)
    assert inner.requested
    assert inner.exit_code == 128 + number


def test_the_second_ctrl_c_puts_the_old_handlers_back():
    old = signal.getsignal(signal.SIGINT)
    with Interrupt():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is old


def test_off_the_main_thread_nothing_happens():
    before, seen = signal.getsignal(signal.SIGINT), []

    def train():
        with Interrupt() as inner:
            seen.append((signal.getsignal(signal.SIGINT), inner.requested, inner.exit_code))

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert seen == [(before, False, 0)]
    assert signal.getsignal(signal.SIGINT) is before


def test_the_example_runs():
    assert doctest.testmod(interrupt) == (0, 1)
