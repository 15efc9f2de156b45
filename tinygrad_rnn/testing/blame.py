"""Where a gradient is wrong."""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from tinygrad_rnn.autograd.graph import Array
from tinygrad_rnn.testing.differences import STEPS, Line, one
from tinygrad_rnn.testing.entries import between, judge
from tinygrad_rnn.testing.point import Comparison, Point
from tinygrad_rnn.testing.report import WORST, Element

BUDGET = 3000  # evaluations after which no further entry is looked for
PATIENCE = 1.0  # seconds after which one wrong entry is enough
TIES = 20  # outputs at a tie that are looked at


class Search:
    """Follows a disagreement along (u, w) down to entries of the Jacobian, the worst first.

    A rectangle of the Jacobian that disagrees is halved, its inputs first, and the worse half
    followed to its end; other halves that disagree have their turn then, the worst first. `found`
    are the entries; `diffuse` says that some could not be followed.
    """

    def __init__(self, point: Point, known: Comparison, w: Array) -> None:
        self.point, self.u, self.w = point, known.u, w
        self.found: list[Element] = []
        self.ties: dict[int, dict[int, bool | None]] = {}  # output: kinked inputs, whether convex
        self.diffuse = False
        self.lines: dict[bytes, Line] = {}
        self.pulls: dict[bytes, Array] = {}
        table, analytic = known.table, float(point.pull(w) @ known.u)
        self.step = min(table.step, STEPS[5]) if table.rough else table.step
        near, far = (abs(analytic - known.line.middle(h * self.step, w)) for h in (1, 4))
        self.whole, noise = near, known.line.noise(w) / self.step
        self.blur = abs(near - far) + noise
        self.plain, self.least = near > 100 * self.blur, 0.0 if table.rough else 0.1
        self.follow(point.subject.evaluations + BUDGET)
        self.found.sort(key=lambda e: -abs(e.analytic - e.numeric))

    def off(self, columns: Array, rows: Array, whole: float) -> float:
        """How far apart both ways are on a part of the Jacobian; 0 if they agree.

        Of a plain disagreement, one difference at the step that showed it tells a guilty part, of
        `whole` apart.
        """
        w, places, key = np.zeros_like(self.w), columns.tobytes(), rows.tobytes()
        w[rows] = self.w[rows]
        if places not in self.lines:
            u = np.zeros_like(self.u)
            u[columns] = self.u[columns]
            self.lines[places] = self.point.line(u)
        if key not in self.pulls:
            self.pulls[key] = self.point.pull(w)
        line, gradient = self.lines[places], self.pulls[key]
        if self.plain:
            off = abs(float(gradient @ line.u) - line.middle(self.step, w))
            return off if off > max(self.least * whole, 10 * self.blur) else 0.0
        comparison = Comparison(self.point, line, w, gradient)
        if comparison.off > comparison.error:
            comparison.measure()
        if comparison.agrees():
            return 0.0
        return comparison.off if np.isfinite(comparison.off) else 1e-300

    def follow(self, end: int) -> None:
        queue = [(-self.whole, 0, np.arange(self.u.size), np.arange(self.w.size))]
        seen, late = 0, time.monotonic() + PATIENCE
        while queue and self.point.subject.evaluations <= end:
            whole, _, columns, rows = heapq.heappop(queue)
            while columns.size > 1 or rows.size > 1:
                worse = []
                for part in self.halves(columns, rows):
                    seen += 1
                    if off := self.off(*part, -whole):
                        worse.append((-off, seen, *part))
                if not worse or self.point.subject.evaluations > end:
                    self.diffuse = True
                    break
                (whole, _, columns, rows), *others = sorted(worse, key=lambda item: item[:2])
                for item in others:
                    heapq.heappush(queue, item)
            else:
                self.found.append(self.entry(int(columns[0]), int(rows[0])))
                wrong = sum(e.verdict == "fail" for e in self.found)
                if wrong == WORST or (wrong and time.monotonic() > late):
                    return
        self.diffuse = self.diffuse or bool(queue)

    def halves(self, columns: Array, rows: Array) -> list[tuple[Array, Array]]:
        if columns.size > 1:
            return [(c, rows) for c in _parts(columns, self.point.inputs.ends)]
        return [(columns, r) for r in _parts(rows, self.point.outputs.ends)]

    def entry(self, i: int, j: int) -> Element:
        """The verdict on one entry of the Jacobian, from two lines of its own."""
        first, second = (judge(self.point, i, j, t * self.u[i]) for t in (1.0, -0.7))
        if first.verdict == second.verdict == "kink":
            self.ties.setdefault(j, {})[i] = first.convex
        return first if first.verdict == second.verdict else replace(first, verdict="unsure")

    def together(self) -> Iterator[Element]:
        """What gradients at kinks add up to, where inputs of one output have kinks together."""
        for j, ties in list(self.ties.items())[:TIES]:
            gradient = self.point.pull(one(self.w.size, j))
            for i in map(int, np.flatnonzero(gradient)[:TIES]):
                if i not in ties:
                    self.entry(i, j)  # one that the differences happen to agree with
            yield from between(self.point, j, ties, self.u)


def _parts(numbers: Array, ends: Array) -> list[Array]:
    """The numbers of each array if they are of several, else two halves."""
    arrays = np.split(numbers, np.searchsorted(numbers, ends[:-1]))
    several = [a for a in arrays if a.size]
    return several if len(several) > 1 else np.array_split(numbers, 2)
