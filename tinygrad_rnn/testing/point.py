"""A subject at a point, and how its derivative there compares with differences."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Sequence

import numpy as np

from tinygrad_rnn.autograd.graph import Array
from tinygrad_rnn.testing.differences import (
    STEPS,
    TINY,
    Line,
    Table,
    central,
    largest_move,
    norm,
    sides,
)
from tinygrad_rnn.testing.subjects import Run, Space, Subject

ERRORS = 12  # estimated errors that a right derivative may be off
SHARP = 10  # times that, from where it is called wrong
ROUNDING = 256  # units of rounding that the terms of a backward pass may be off
NUDGES = 6  # points a unit of rounding away, where the gradient is looked at before it is accused


class Point:
    """Where a subject is examined: its inputs and outputs as vectors."""

    def __init__(self, subject: Subject, arrays: Sequence[Array], names: Sequence[str]) -> None:
        self.subject, self.arrays, self.names = subject, list(arrays), names
        self.run, self.trouble, self.misfit = subject.run(self.arrays), "", False
        if not self.run.outputs:
            raise ValueError(
                "gradcheck: expected fn to return floating-point numbers, which alone have a "
                "derivative, got none"
            )
        self.inputs, self.outputs = Space(self.arrays), Space(self.run.outputs)
        self.y = self.outputs.join(self.run.outputs)
        self.near = max(float(np.finfo(a.dtype).eps) for a in self.arrays)  # rounding of the inputs
        eps = [float(np.finfo(v.dtype).eps) for v in self.run.outputs]  # and of the outputs
        self.coarse = max(self.near, *eps)
        sizes = [v.size for v in self.run.outputs]
        self.eps = eps[0] if len({*eps}) == 1 else np.repeat(eps, sizes)
        self.units = np.abs(self.y)
        self.units *= self.eps
        self.units += TINY

    @functools.cached_property
    def x(self) -> Array:
        return self.inputs.join(self.arrays)

    def line(self, u: Array) -> Line:
        parts = list(zip(self.inputs.split(u), self.arrays, strict=True))

        def value(t: float) -> Array:
            moved = [t * d for d, _ in parts]
            for k, (_, a) in enumerate(parts):
                moved[k] += a
            return self.at(moved)

        line = Line(value, self.y, self.units, self.near)
        line.u = u
        return line

    def at(self, inputs: list[Array]) -> Array:
        """f at other inputs, (outputs,); NaN where it raises: that is outside of its domain."""
        arrays = [np.asarray(v, a.dtype) for v, a in zip(inputs, self.arrays, strict=True)]
        try:
            found = self.subject.values(arrays)
        except Exception as error:
            self.trouble = f"fn raises {type(error).__name__} nearby: {error}"
            return np.full(self.y.shape, np.nan)
        if [v.shape for v in found] != self.outputs.shapes:
            self.misfit = True
            return np.full(self.y.shape, np.nan)
        return self.outputs.join(found)

    def rounding(self, w: Array, line: Line | None = None) -> float:
        """The unit of rounding of w · f, of its moves along a line."""
        if isinstance(self.eps, float):
            return max(self.near, self.eps)
        moves = w * line.change(STEPS[1]) if line else w
        weights = np.abs(moves if np.isfinite(moves.sum()) and moves.any() else w)
        return max(self.near, float(weights @ self.eps / (weights.sum() or 1.0)))

    def cotangents(self, w: Array) -> list[Array]:
        pairs = zip(self.outputs.split(w), self.run.outputs, strict=True)
        return [np.array(g, v.dtype) for g, v in pairs]

    def pull(self, w: Array, run: Run | None = None, free: bool = False) -> Array:
        """The gradient of w · f, (inputs,)."""
        return self.inputs.join((run or self.run).pull(self.cotangents(w), free))

    @functools.cached_property
    def beside(self) -> list[Run]:
        """f at inputs up to two units of rounding away, which lie alike in memory; zeros stay."""
        rng, found = np.random.default_rng(0), []
        for _ in range(NUDGES):
            moved = self.x * (1 + 2 * self.near * signed(rng, self.x.size))
            near = [np.empty_like(a) for a in self.arrays]
            for a, v in zip(near, self.inputs.split(moved), strict=True):
                a[...] = v
            with contextlib.suppress(Exception):  # outside of the domain of f
                run = self.subject.run(near)
                found += [run] * ([v.shape for v in run.outputs] == self.outputs.shapes)
        return found

    @functools.cached_property
    def blur(self) -> float:
        """How far inputs that are up to two units of rounding away move any output."""
        values = [self.outputs.join(run.outputs) for run in self.beside]
        return max((largest_move(v - self.y) for v in values), default=0.0)

    def unsteady(self, w: Array, u: Array | float = 1.0) -> Array:
        """How far the gradient of w · f, times u, moves with the inputs by a unit of rounding, and
        with the last digits of w: cancellation in a backward pass shows there, (points, inputs)."""
        rng, pulled = np.random.default_rng(1), []
        for run in self.beside:
            c, units = 1 + self.near**0.5 * rng.random(), 2 * self.near * signed(rng, w.size)
            pulled.append(self.pull(c * (w + units * w), run) / c)
        found = np.reshape(pulled, (-1, self.x.size))
        return np.nan_to_num(u * (found - found.sum(axis=0) / max(1, len(found))))

    def label(self, k: int) -> str:
        """Element k of the inputs, as Python writes it."""
        which, index = self.inputs.place(k)
        return self.names[which] + (str(list(index)) if index else "")

    def output_label(self, k: int) -> str:
        which, index = self.outputs.place(k)
        name = "out" if len(self.outputs.shapes) == 1 else f"out[{which}]"
        return name + (str(list(index)) if index else "")

    def scale(self) -> Array:
        """How far inputs may move: |x|, and its median in the same array where x is zero."""
        sizes = np.abs(self.inputs.join(self.arrays))
        if not sizes.all():
            for part in self.inputs.split(sizes):
                moving = part[part != 0]
                middle = (moving.size - 1) // 2
                part[part == 0] = np.partition(moving, middle)[middle] if moving.size else 1.0
        return sizes


_BYTE = (np.arange(256) - 127.5) / 256
SIGNED = _BYTE + np.copysign(0.5, _BYTE)


def signed(rng: np.random.Generator, size: int) -> Array:
    """Numbers in ±[0.5, 1]: nothing hides, and nothing but chance cancels."""
    return SIGNED.take(np.frombuffer(rng.bytes(size), np.uint8))


class Direction:
    """A random direction and a cotangent w, every entry at its own scale."""

    def __init__(self, point: Point, rng: np.random.Generator) -> None:
        self.line = point.line(signed(rng, point.inputs.size) * point.scale())
        self.signs = signed(rng, point.outputs.size)
        self.w = self.weights(point.coarse**0.5)

    def weights(self, least: float) -> Array:
        """A cotangent that gives each output a voice: the inverse of its response, which counts
        as `least` of the largest at least, if it is not far above rounding."""
        response = np.abs(self.line.change(STEPS[1]))
        largest = response.max(initial=0.0)
        if not 0 < largest < np.inf:
            return self.signs
        low = np.flatnonzero(response < 1e-3 * largest)
        small = response[low]
        floor = np.where(small > 1e4 * self.line.units[low], least, 1e-3)
        response /= largest
        response[low] = np.where(small == 0, 1.0, np.maximum(small / largest, floor))
        return np.divide(self.signs, response, out=response)


class Comparison:
    """The derivative of w · f along a line, by differences, and what others say of it."""

    def __init__(self, point: Point, line: Line, w: Array, gradient: Array) -> None:
        self.point, self.line, self.w, self.gradient = point, line, w, gradient
        self.u = u = line.u
        self.eps = point.rounding(w, line)
        terms = gradient * u
        self.finite = bool(np.isfinite(terms.sum()))
        if not self.finite:
            terms = np.nan_to_num(terms)
        self.analytic, self.scale = float(terms.sum()), norm(terms)
        self.total = float(np.abs(terms, out=terms).sum())
        self.rounding = ROUNDING * (self.eps * self.total + TINY * math.sqrt(u.size) * norm(u))
        self.noise, self.measured, self.nudged = line.rounding(w), False, False
        self.table: Table = central(line, w, self.noise, 1e-12 * self.scale)

    def measure(self) -> None:
        """Take the function's own noise into account, and all the steps that it allows."""
        if not self.measured:
            self.noise, self.measured = self.line.noise(self.w), True
            self.table = central(self.line, self.w, self.noise)

    def nudge(self) -> None:
        """Take the rounding within the backward pass into account, where there is a derivative."""
        if not (self.nudged or self.table.rough):
            moves = self.point.unsteady(self.w, self.u).sum(axis=1)
            self.rounding = max(self.rounding, float(np.abs(moves).max(initial=0.0)))
            self.nudged = True

    @property
    def kink(self) -> bool:
        """Whether f has a slope from the right and one from the left."""
        both = sides(self.line, self.w, self.noise, quick=not self.measured)
        return all(ERRORS * t.error <= 1e-2 * abs(t.value) or t.error <= self.noise for t in both)

    @property
    def error(self) -> float:
        return self.table.error + self.rounding

    @property
    def off(self) -> float:
        return abs(self.analytic - self.table.value)

    def within(self, off: Callable[[], float], size: float = 0.0) -> bool:
        """Whether a difference is within the error, measured before anything is accused.

        `size` is that of terms that the difference has beside the gradient's own.
        """
        for look in (None, self.measure, self.nudge):
            if look:
                look()
            if abs(off()) <= ERRORS * (self.error + ROUNDING * self.eps * size):
                return True
        return False

    def agrees(self, analytic: float | None = None) -> bool:
        value = self.analytic if analytic is None else analytic
        return self.within(lambda: value - self.table.value)

    @property
    def resolution(self) -> float:
        """The smallest relative error that is found to be one, not just a reason to be unsure.

        Where the derivative is zero, as far as can be told, it is relative to how f moves at all.
        """
        scale = max(abs(self.table.value), 0.3 * self.scale)  # less where the terms cancel
        bound = SHARP * ERRORS * self.error
        if bound >= scale:
            moves = [c / h for h, c in self.line.changes.items() if abs(h) >= self.table.step]
            if not (self.gradient.any() or any(c.any() for c in moves)):
                return SHARP * ERRORS * self.eps  # a constant
            scale = max((norm(self.w * c) for c in moves), default=0.0)
        return bound / scale if scale > 0 else np.inf
