"""Stop a training at the next step, with its checkpoint written, when someone asks it to stop."""

import os
import signal
import threading
import time
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
ECHO_SECONDS = 0.1


class Interrupt:
    """Turns Ctrl-C and SIGTERM into a flag while its block runs.

        with Interrupt() as interrupt:
            for step in ...:
                ...
                if interrupt.requested:
                    save(...)
                    sys.exit(interrupt.exit_code)

    The first signal sets `signal` and prints one line to stderr; nothing else happens inside the
    handler, so a checkpoint is never written from the middle of a step. Ask between steps, and
    inside long evaluations too. A SIGINT after that line raises KeyboardInterrupt on the spot,
    with the old handlers back in place, so a third one finds Python as it was. A second SIGTERM
    changes nothing: supervisors repeat it.

    On leaving the block the old handlers come back. Off the main thread, where Python allows no
    handlers, the block does nothing and `requested` stays False. SIGINT is taken over even where
    it was ignored, as it is for the background jobs of a shell script.

    >>> with Interrupt() as interrupt:
    ...     interrupt.requested, interrupt.exit_code
    (False, 0)
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._announced = False
        self._previous: dict[signal.Signals, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether a signal has come: finish this step, save, leave."""
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """What a shell reports for the signal: 130 for SIGINT, 143 for SIGTERM; 0 without one."""
        return 0 if self.signal is None else 128 + self.signal

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                previous = signal.getsignal(number)
                if previous is not None:  # one set by C code could not be put back
                    self._previous[number] = previous
                    signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()

    def _restore(self) -> None:
        while self._previous:
            signal.signal(*self._previous.popitem())

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal = signal.Signals(number)
            time.sleep(ECHO_SECONDS)  # launchers signal the process and its group: one request
            self._announce()
        elif number == signal.SIGINT and self._announced:
            self._restore()
            raise KeyboardInterrupt

    def _announce(self) -> None:
        again = "again " if self.signal == signal.SIGINT else ""
        line = f"saving at the next step; press Ctrl-C {again}to stop at once\n"
        self._announced = True
        with suppress(OSError):  # nobody may be listening any more
            os.write(2, line.encode())  # print could find itself half-way through another print
