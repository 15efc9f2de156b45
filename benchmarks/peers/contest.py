"""Interleaved pairs: every library opens a row, they are compared, then they take turns."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from benchmarks.peers.goals import OURS, SHARE, goal
from benchmarks.peers.process import Opened, Player
from benchmarks.peers.rows import Arrays, Row

TOLERANCE = 1e-4  # of the largest entry of an array
Quartiles = tuple[float, float, float]


@dataclass
class Result:
    """The times of a row, one of each library per pair."""

    row: Row
    threads: int
    times: dict[str, list[float]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)
    peak: float = 0.0  # flops of a turn of the peak's loop

    def median(self, library: str) -> float:
        """Seconds."""
        return statistics.median(self.times[library])

    def ratios(self, beside: str) -> list[float]:
        """How often faster ours is than a library, or its share of the peak, pair by pair."""
        if OURS not in self.times or beside not in self.times:
            return []
        scale = self.row.flops / self.peak if beside == SHARE else 1.0
        pairs = zip(self.times[beside], self.times[OURS], strict=True)
        return [scale * theirs / ours for theirs, ours in pairs]

    def short(self, beside: str) -> bool:
        """Whether even the upper quartile is below the goal."""
        least, ratios = goal(self.row, self.threads, beside), self.ratios(beside)
        return bool(least and ratios) and quartiles(ratios)[2] < (least or 0.0)


def quartiles(values: list[float]) -> Quartiles:
    """Lower, median, upper."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def difference(ours: Arrays, theirs: Arrays) -> str:
    """Where two results are not the same, or nothing."""
    if ours.keys() != theirs.keys():
        return f"has {sorted(theirs)}, expected {sorted(ours)}"
    for name, a in ours.items():
        b = theirs[name]
        if a.shape != b.shape:
            return f"{name} has shape {b.shape}, expected {a.shape}"
        error, largest = float(np.abs(a - b).max()), float(np.abs(a).max())
        if not 0 < largest < np.inf or not error <= TOLERANCE * largest:
            return f"{name} differs by {error:.1e}, its largest entry is {largest:.1e}"
    return ""


@contextmanager
def players(libraries: list[str], threads: int) -> Iterator[dict[str, Player]]:
    """A process for each library."""
    found: dict[str, Player] = {}
    try:
        for library in libraries:
            found[library] = Player(library, threads)
        yield found
    finally:
        for player in found.values():
            player.close()


def _agreed(result: Result, opened: dict[str, Opened]) -> list[str]:
    """The libraries that compute the same as the first one that can do the row."""
    able: dict[str, Arrays] = {}
    for library, answer in opened.items():
        if answer.results is None:
            (result.wrong if answer.failed else result.missing)[library] = answer.missing
            continue
        able[library] = answer.results
        if answer.note:
            result.notes[library] = answer.note
        if library == SHARE:
            result.peak = answer.flops
        elif bad := difference(next(iter(able.values())), answer.results):
            result.wrong[library] = f"{library}: {bad}; it is not timed"
    return [library for library in able if library not in result.wrong]


def contest(row: Row, threads: int, playing: dict[str, Player], pairs: int) -> Result:
    """Time a row: the libraries take turns, each pair beginning with another one."""
    result = Result(row, threads)
    timed = _agreed(result, {library: player.open(row) for library, player in playing.items()})
    if not set(timed) - {SHARE}:
        return result
    result.times = {library: [] for library in timed}
    for k in range(pairs):
        first = k % len(timed)
        for library in timed[first:] + timed[:first]:
            result.times[library].append(playing[library].turn())
    return result
