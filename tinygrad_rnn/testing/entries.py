"""Single entries of a Jacobian, and of several at once where they have a kink together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from tinygrad_rnn.autograd.graph import Array
from tinygrad_rnn.testing.differences import STEPS, TINY, Line, central, largest_move, one, sides
from tinygrad_rnn.testing.point import ERRORS, ROUNDING, SHARP, Point, signed
from tinygrad_rnn.testing.report import Element

NEAR, STEP = 1e-8, 1e-9  # how far near points are, and the step there, relative to the inputs


def judge(point: Point, i: int, j: int, u_i: float, closer: bool = False) -> Element:
    """What moving input i alone, by multiples of u_i, says of output j."""
    w, names = one(point.y.size, j), (point.label(i), point.output_label(j))
    line, analytic = point.line(u_i * one(point.x.size, i)), float(point.pull(w)[i])
    floor = ERRORS * ROUNDING * (point.rounding(w) * abs(analytic) + TINY)
    for goal in (0.0, None):  # a plain kink shows at once
        noise = line.rounding(w) if goal is not None else line.noise(w)
        middle = central(line, w, noise, goal)
        left, right = sides(line, w, noise, goal is not None)
        low, high = sorted(side.value / u_i + 0.0 for side in (left, right))
        spread = ERRORS * max(left.error, right.error) / abs(u_i) + floor
        kink = middle.rough and SHARP * spread < high - low
        inside = kink and low - spread <= analytic <= high + spread
        if inside:
            break
    value, error = middle.value / u_i + 0.0, middle.error / abs(u_i)
    off, slopes, verdict = abs(analytic - value), None, "unsure"
    convex: bool | None = bool(left.value < right.value)
    if closer and not middle.rough and off <= ERRORS * error + floor < abs(value) / SHARP:
        verdict = "pass"
    elif kink:
        slopes, verdict = (low, high), "kink" if inside else "fail"
    elif not middle.rough and SHARP * ERRORS * error < off and off > floor:
        # slopes of larger steps that agree: smaller ones may see a single stair of an inner result
        room, expected = 0.3 * min(off, abs(analytic)), analytic * u_i
        agree = sum(abs(s / u_i - analytic) < room for h, s in middle.slopes if h > middle.step)
        lies = (
            line.deceives(w, expected, middle.value)
            or line.rests(w, expected)
            or line.climbs(w, expected, off * abs(u_i))
        )
        if agree < 2 and not lies:
            verdict, slopes = _verdict(point, line, i, j, u_i, analytic, off, noise)
            convex = None if slopes else convex
    if kink and point.x[i] == 0 and abs(u_i) > 1:  # its own scale may be smaller
        return judge(point, i, j, math.copysign(1.0, u_i), True)
    step = middle.step * abs(u_i)
    return Element(*names, analytic, value, error, step, slopes, verdict, convex)


def _verdict(
    point: Point, line: Line, i: int, j: int, u_i: float, analytic: float, off: float, noise: float
) -> tuple[str, tuple[float, float] | None]:
    """A wrong entry, unless it is one of a function that is not differentiable at x.

    Then the same entry differs at near points, no less if they are nearer, and a gradient may be
    any value between theirs (Clarke 1983, Optimization and Nonsmooth Analysis, section 2.5), even
    if there is one slope along this input, as there is of the median of a tie. Of a function that
    is differentiable, what rounding does to the gradient must not explain what it is off: all that
    an input moves may have been computed from terms as large as the largest of it.
    """
    w = one(point.y.size, j)
    largest = largest_move(line.change(STEPS[1])) / abs(STEPS[1] * u_i)
    if off < SHARP * ROUNDING * point.rounding(w) * largest:
        return "unsure", None
    rng, size = np.random.default_rng(int(u_i > 0)), point.x.size
    scale = np.minimum(point.scale(), np.where(point.x == 0, 1.0, np.inf))
    shifts = [NEAR * signed(rng, size) * scale for _ in range(24)]
    ends: tuple[float, float] = (0.0, 0.0)
    for nearer in (1.0, 1 / 16):
        step = nearer * STEP * u_i
        slopes = slopes_beside(point, i, step, [nearer * s for s in shifts])[:, j]
        low, high = np.nanmin([np.inf, *slopes]), np.nanmax([-np.inf, *slopes])
        spread = high - low if SHARP * noise / abs(step) < off else 0.0
        if not max(off, ends[1] - ends[0]) < 2 * spread:
            unsteady = np.abs(point.unsteady(w)[:, i]).max(initial=0.0)
            return ("fail" if SHARP * ERRORS * unsteady < off else "unsure"), None
        ends = (low, high) if nearer == 1.0 else ends
    inside = ends[0] - 0.1 * off <= analytic <= ends[1] + 0.1 * off
    return ("kink", ends) if inside else ("fail", None)


def slopes_beside(point: Point, i: int, step: float, shifts: Sequence[Array]) -> Array:
    """The slopes of all outputs by input i at points beside x, (shifts, outputs)."""
    split, near = point.inputs.split, step * one(point.x.size, i)
    ends = [[point.at(split(point.x + s + e)) for e in (near, -near)] for s in shifts]
    return np.array([(above - below) / (2 * step) for above, below in ends])


def between(point: Point, j: int, kinks: Mapping[int, bool | None], u: Array) -> Iterator[Element]:
    """What is wrong with the gradient of output j along moves of all its kinked inputs.

    Of a function whose kinks are all convex, or all concave, a sub-gradient lies between the slopes
    of both sides in every direction. Tried are equal moves, which keep a tie, so that its gradients
    must add up, and moves along the gradient, which show one that is too long.
    """
    if len(kinks) < 2 or len({*kinks.values()}) > 1 or None in kinks.values():
        return
    kinked, w = np.array([*kinks]), one(point.y.size, j)
    g, size = point.pull(w)[kinked], float(np.abs(u[kinked]).mean())
    for move in np.unique([np.ones_like(g), g / (np.abs(g).max() or 1.0)], axis=0):
        along = np.zeros_like(u)
        along[kinked] = size * move
        line = point.line(along)
        both, analytic = sides(line, w, line.noise(w)), float(g @ move)
        low, high = sorted(side.value / size for side in both)
        error = max(side.error for side in both) / size
        off = max(low - analytic, analytic - high)
        rounding = ROUNDING * point.rounding(w) * float(np.abs(g) @ np.abs(move))
        if off > SHARP * ERRORS * (error + rounding):
            label = " and ".join(point.label(int(i)) for i in kinked[:3]) + " together"
            values, ends = (analytic, (low + high) / 2, error, size), (low, high)
            yield Element(label, point.output_label(j), *values, ends)
