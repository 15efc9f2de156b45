"""Single entries of a Jacobian, and of several at once where they have a kink together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from tinygrad_rnn.autograd.graph import Array
from tinygrad_rnn.testing.differences import TINY, central, one, sides
from tinygrad_rnn.testing.point import ERRORS, ROUNDING, SHARP, Point, signed
from tinygrad_rnn.testing.report import Element

NEAR, STEP = 1e-8, 1e-9  # how far near points are, and the step there, relative to the inputs


def judge(point: Point, i: int, j: int, u_i: float) -> Element:
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
    if kink:
        slopes, verdict = (low, high), "kink" if inside else "fail"
    elif not middle.rough and SHARP * ERRORS * error < off and off > floor:
        # slopes of larger steps that agree: smaller ones may see a single stair of an inner result
        agree = sum(
            abs(s / u_i - analytic) < 0.3 * off for h, s in middle.slopes if h > middle.step
        )
        expected = analytic * u_i
        lies = (
            line.deceives(w, expected, middle.value)
            or line.rests(w, expected)
            or line.climbs(w, off * abs(u_i))
        )
        if agree < 2 and not lies:
            verdict, slopes = _among_near(point, i, j, u_i, analytic, off, noise)
            convex = None if slopes else convex
    step = middle.step * abs(u_i)
    return Element(*names, analytic, value, error, step, slopes, verdict, convex)


def _among_near(
    point: Point, i: int, j: int, u_i: float, analytic: float, off: float, noise: float
) -> tuple[str, tuple[float, float] | None]:
    """A wrong entry, unless it is one of a function that is not differentiable at x.

    Then the same entry differs at near points, and a gradient may be any value between theirs
    (Clarke 1983, Optimization and Nonsmooth Analysis, section 2.5), even if there is one slope
    along this input, as there is of the median of a tie.
    """
    rng, size = np.random.default_rng(int(u_i > 0)), point.x.size
    shifts = [NEAR * signed(rng, size) * point.scale() for _ in range(24)]
    slopes = slopes_beside(point, i, STEP * u_i, shifts)[:, j]
    low, high = np.nanmin([np.inf, *slopes]), np.nanmax([-np.inf, *slopes])
    clear = SHARP * noise / abs(STEP * u_i) < off < 2 * (high - low)
    if clear and low - 0.1 * off <= analytic <= high + 0.1 * off:
        return "kink", (low, high)
    return "fail", None


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
