"""Derivatives along a line, from values alone, each with an estimate of its own error.

Central differences are extrapolated to step 0 (Ridders 1982, Accurate Computation of F'(x) and
F'(x) F''(x)); an entry of the table is off by no more than it differs from its neighbours, plus
noise / step. The noise of a function shows in a difference table of points a few ulps apart
(Moré & Wild 2011, Estimating Computational Noise).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from tinygrad_rnn.autograd.graph import Array

STEPS = tuple(0.1 * 4.0**-k for k in range(14))  # in units of the direction, so relative ones
TINY = 5e-324  # the smallest number
NEAR = (2.0**-32, 2.0**-24)  # between points at which noise is measured, beside 16 roundings
WIDER, WIDEST = 16, 2.0**-7  # apart, where stairs are looked for
GAMMA = {3: 36 / 720, 4: 576 / 40320, 5: 14400 / 3628800}  # (k!)² / (2k)!: noise to level k


def norm(v: Array) -> float:
    """The Euclidean norm, without overflow."""
    found = math.sqrt(v @ v)
    if 0 < found < np.inf or not v.size:
        return found
    largest = float(np.abs(v).max())
    return largest * float(np.linalg.norm(v / largest)) if 0 < largest < np.inf else largest


def largest_move(changes: Array | float) -> float:
    """The size of the largest change; those where f is not finite count as none."""
    return float(np.nan_to_num(np.abs(changes), posinf=0.0).max(initial=0.0))


def one(size: int, k: int) -> Array:
    """A vector of zeros with a one at k."""
    found: Array = np.zeros(size)
    found[k] = 1.0
    return found


class Line:
    """f along a direction u: the changes f(x + t u) - f(x), each computed once."""

    u: Array

    def __init__(
        self, value: Callable[[float], Array], base: Array, units: Array, near: float
    ) -> None:
        self.value, self.base = value, base
        self.units, self.near = units, near  # of rounding: of each element, and of x
        self.steps = [h for h in STEPS if h >= 16 * near]
        if near > 1e-10:
            self.steps.insert(0, 4 * STEPS[0])  # float32 needs large ones
        self.apart = [16 * near, *(d for d in NEAR if d > 16 * near)]  # of near points
        self.changes: dict[float, Array] = {}

    def change(self, t: float) -> Array:
        """f(x + t u) - f(x), (n,); NaN where f is not finite."""
        if t not in self.changes:
            self.changes[t] = self.value(t) - self.base
        return self.changes[t]

    def slope(self, t: float, weight: Array) -> float:
        """The slope of weight · f from 0 to t."""
        return float(weight @ self.change(t)) / t

    def middle(self, t: float, weight: Array) -> float:
        """The slope of weight · f from -t to t."""
        return (self.slope(t, weight) + self.slope(-t, weight)) / 2

    def rounding(self, weight: Array) -> float:
        """The noise of weight · f if each element of f were correctly rounded."""
        return norm(weight * self.units)

    def noise(self, weight: Array) -> float:
        """The noise of weight · f, measured at near points, seven at a time, and at all steps.

        Where f moves in stairs it may be still for small steps: a stair is noise as well.
        """
        found = [self.rounding(weight)]
        for apart in self.apart:
            found += self.levels(weight, apart)
        stairs = [np.linalg.norm(weight * self.stair(side)) for side in (1, -1)]
        return float(np.nanmax([*found, *stairs]))

    def levels(self, weight: Array, apart: float) -> list[float]:
        """The noise of weight · f by third, fourth and fifth differences of points so far apart."""
        table = np.array([weight @ self.change(k * apart) for k in range(7)])
        found = []
        for level in range(1, 6):
            table = np.diff(table)
            if level in GAMMA:
                found.append(norm(table) * math.sqrt(GAMMA[level] / table.size))
        return found

    def climbs(self, weight: Array, analytic: float, off: float) -> bool:
        """Whether f has stairs, among smooth terms, that smaller steps miss, and that may be why a
        slope is `off`: its fifth differences do not shrink with the distance as smooth ones do, and
        slopes across the stairs are as `analytic` has it."""
        apart, stairs = self.apart[-1], False
        before = self.levels(weight, apart)[-1]
        while (apart := WIDER * apart) < WIDEST:
            found = self.levels(weight, apart)[-1]
            stairs = stairs or max(2 * WIDER**5 * before, 1e-2 * off * 6 * apart) < found
            if stairs and abs(self.slope(6 * apart, weight) - analytic) < 0.5 * off:
                return True
            before = found
        return False

    def deceives(self, weight: Array, analytic: float, value: float) -> bool:
        """Whether the slopes at near points agree with `analytic` rather than with the `value` of
        larger steps: f oscillates faster than these can follow."""
        for apart in self.apart:
            t = 6 * apart
            slope, blur = self.slope(t, weight), self.rounding(weight) / t
            if abs(analytic - slope) + 10 * blur < 0.1 * abs(analytic) < abs(slope - value):
                return True
        return False

    def rests(self, weight: Array, analytic: float) -> bool:
        """Whether f stands still because a move of `analytic` would be less than a stair.

        The stair is the least move on the way from steps that do nothing to one that does.
        """
        if any((weight @ c) != 0 for c in self.changes.values()):
            return False
        for side in (1, -1):
            still = self.steps[0]
            moving = next(
                (h for k in range(1, 8) if self.moves(side * (h := still * 4**k), weight)), 0
            )
            least = self.moves(side * moving, weight)
            for _ in range(12 * (moving > 0)):
                middle = (still + moving) / 2
                move = self.moves(side * middle, weight)
                still, moving = (still, middle) if move else (middle, moving)
                least = min(least, move or least)
            if abs(analytic) * self.steps[0] < least:
                return True
        return False

    def moves(self, t: float, weight: Array) -> float:
        """The size of a move; 0 where f is not finite."""
        return largest_move(weight @ self.change(t))

    def stair(self, side: int) -> Array:
        """The least move of each element of f that stands still for smaller steps, else 0."""
        moves = np.abs([self.change(side * h) for h in self.steps])
        moving = np.isfinite(moves) & (moves > 0)
        least = np.where(moving, moves, np.inf).min(axis=0)
        return np.where((moves[-1] == 0) & np.isfinite(least), least, 0.0)


class Table:
    """An extrapolation table of slopes at steps that shrink four-fold."""

    def __init__(self, ratio: float, noise: float, near: float) -> None:
        self.ratio = ratio  # what an order of the error shrinks by per step
        self.values, self.near = noise, near  # the noise of the values, and of the steps
        self.slopes: list[tuple[float, float]] = []  # step, slope
        self.row: list[float] = []
        self.entries: list[tuple[float, float, float, float]] = []  # error, value, step, drift
        self.least = 2  # steps in a row that an entry needs
        self.value, self.error, self.step = np.nan, np.inf, np.nan
        self.rough = False  # whether slopes from right and left do not come together

    def noise(self, step: float, slope: float) -> float:
        return (self.values + self.near * abs(slope)) / step

    def add(self, step: float, slope: float) -> None:
        if not np.isfinite(slope):  # outside of the domain: begin anew with smaller steps
            self.row = []
            return
        row, value, noise = [slope], slope, self.noise(step, slope)
        trusted = len(self.row) + 1 >= self.least
        for j, older in enumerate(self.row, 1):
            finer = value + (value - older) / (self.ratio**j - 1)
            beside = self.row[min(j, len(self.row) - 1)]
            error = max(abs(finer - value), abs(finer - older), abs(finer - beside)) + noise
            if trusted:
                self.entries.append((error, finer, step, abs(slope - finer)))
                self.error = min(error, self.error)
            row.append(finer)
            value = finer
        self.slopes.append((step, slope))
        self.row = row

    def settle(self) -> Table:
        """Take the entry of least error that the slopes at smaller steps do not go away from.

        If an entry of larger steps, just as trustworthy, contradicts it, neither is right.
        """
        self.error = np.inf
        for error, value, step, drift in sorted(self.entries):
            room = 2 * max(drift, 12 * error)
            later = [(h, s) for h, s in self.slopes if h < step]
            if all(abs(s - value) <= room + 12 * self.noise(h, s) for h, s in later):
                self.error, self.value, self.step = error, value, step
                break
        for error, value, step, _ in self.entries:
            apart = abs(value - self.value)
            clear = 10 * max(error, self.error) < apart > 0.01 * max(abs(value), abs(self.value))
            if step > self.step and clear:
                self.error = max(self.error, apart)
        return self


def central(line: Line, weight: Array, noise: float, goal: float | None = None) -> Table:
    """The derivative of weight · f from all steps, or from as many as an error of `goal` takes.

    Only steps are trusted at which the slopes from both sides come together as they do where f is
    smooth: four times nearer at a step four times smaller. Elsewhere there is a kink, or a jump, or
    something narrow, between the steps or at x itself; then the table is `rough`.
    """
    smooth, rough = Table(16.0, noise, line.near), Table(16.0, noise, line.near)
    before, steady = np.inf, 0
    for h in line.steps:
        right, left = line.slope(h, weight), line.slope(-h, weight)
        slope, gap = (right + left) / 2, abs(right - left)
        floor = 100 * noise / h + 1e-9 * abs(slope)
        rough.add(h, slope)
        if gap > 0.4 * before and gap > floor:
            smooth.row, smooth.least = [], 3
        smooth.add(h, slope)
        steady = steady + 1 if floor < gap and abs(gap - before) <= 1e-9 * gap else 0
        before = gap
        if goal is not None and (smooth.error <= max(goal, noise / h) or steady == 2):
            break  # fine enough, or a plain kink at x
    rough.rough = True
    return smooth if np.isfinite(smooth.settle().error) else rough.settle()


def sides(line: Line, weight: Array, noise: float, quick: bool = False) -> list[Table]:
    """The derivatives of weight · f from the left and from the right."""
    tables = [Table(4.0, noise, line.near) for _ in range(2)]
    for side, table in zip((-1, 1), tables, strict=True):
        for h in line.steps:
            table.add(h, line.slope(side * h, weight))
            if quick and table.error <= noise / h:
                break
        table.settle()
    return tables


def kinked(line: Line) -> Array:
    """Which elements of f may have a kink at x: slopes from right and left that stay apart."""
    small, large = sorted(h for h in line.changes if h > 0 and -h in line.changes)[:2]
    gap, before = (np.abs(line.change(h) + line.change(-h)) for h in (small, large))
    before *= 0.6 * small / large
    places = np.flatnonzero(gap > before)
    if not places.size:
        return places
    move = np.maximum(*(np.abs(line.change(side * small)[places]) for side in (1, -1)))
    floor = 100 * line.units[places] + 1e-4 * move
    return places[gap[places] > floor]


def bends(line: Line, j: int, errors: float) -> bool:
    """Whether element j of f has a kink at x: two slopes, apart by more than their errors."""
    w = one(line.base.size, j)
    left, right = sides(line, w, line.noise(w))
    return bool(abs(right.value - left.value) > errors * (right.error + left.error))
