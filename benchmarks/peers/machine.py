"""What a run is made on: the processor, the versions, and who else was busy on it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from pathlib import Path

BUSY = 0.1  # cores in use by others from which a run says so loudly


def machine() -> str:
    """The processor's name, its cores and its load."""
    lines = []
    if Path("/proc/cpuinfo").exists():
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        lines = [x.split(":")[1].strip() for x in text.splitlines() if x.startswith("model name")]
    name = lines[0] if lines else platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"


def versions(peers: list[str]) -> str:
    """Of Python and of the packages that take part."""
    found = [f"python {platform.python_version()}"]
    for package in ("tinygrad_rnn", "numpy", "llvmlite", *peers):
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{package}: not installed")
    return ", ".join(found)


def _ticks(path: str, skip: int) -> list[int]:
    """The numbers of a line of /proc, after its name."""
    line = Path(path).read_text(encoding="ascii").splitlines()[0]
    return [int(part) for part in line.rpartition(")")[2].split()[skip:] if part.isdigit()]


class Others:
    """Cores in use by all but some processes and this one, or taken by the host, since it began."""

    def __init__(self, pids: list[int]) -> None:
        self._pids, self._start = [*pids, os.getpid()], time.perf_counter()
        self._first = self._seconds()

    def _seconds(self) -> float | None:
        try:
            user, nice, system, _, _, interrupts, soft, steal = _ticks("/proc/stat", 1)[:8]
            mine = sum(sum(_ticks(f"/proc/{pid}/stat", 11)[:2]) for pid in self._pids)
        except OSError:
            return None
        ticks = user + nice + system + interrupts + soft + steal - mine
        return ticks / os.sysconf("SC_CLK_TCK")

    def told(self, threads: int) -> str:
        """A line on it."""
        last, seconds = self._seconds(), time.perf_counter() - self._start
        if self._first is None or last is None:
            return f"{threads} thr: who else was busy is not known on this system"
        cores = (last - self._first) / seconds
        text = f"{threads} thr: other processes used {cores:.2f} cores meanwhile"
        warning = ": THE MACHINE WAS NOT FREE, judge nothing by this run"
        return text + (warning if cores > BUSY else "")
