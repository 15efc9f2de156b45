"""Turns of libraries within one process."""

from __future__ import annotations

import time
from collections.abc import Callable

REST = 0.02  # seconds: threads of OpenMP keep a core busy for some time after their work is done


def turn(run: Callable[[], object], calls: int) -> float:
    """Milliseconds per call, when the others' threads have gone to sleep and its own are awake."""
    time.sleep(REST)
    run()
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / calls * 1e3
