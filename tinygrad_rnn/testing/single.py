"""float32 against float64, with a tolerance from the arithmetic."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from tinygrad_rnn.autograd.graph import Array
from tinygrad_rnn.testing.check import Options, formed
from tinygrad_rnn.testing.differences import norm
from tinygrad_rnn.testing.point import ERRORS, Point, signed
from tinygrad_rnn.testing.report import Report
from tinygrad_rnn.testing.subjects import Subject

EPS = float(np.finfo(np.float32).eps)
COARSEST = 0.1  # of a gradient that rounding may explain
LOST = 100  # units of rounding that values may be off before they say nothing of gradients


def compare(report: Report, subject: Subject, arrays: Sequence[Array], options: Options) -> None:
    """Add to a report what is wrong in float32, at inputs that both precisions have.

    Rounding has three sources. Each input may be off by a unit: what that does shows in float64,
    at inputs that far off. Each result is rounded, and a gradient may be made of the result, as
    those of tanh and exp are. Steps in between round too: how much they do shows in the values, and
    what they did to those they may do to the gradient.
    """
    doubles = [a.astype(np.float64) for a in arrays]
    exact, rough = (Point(subject, inputs, options.names) for inputs in (doubles, arrays))
    wanted, w = np.result_type(*arrays), signed(options.rng, exact.y.size)
    gradient = formed(found := Report(), rough, w)
    problems = [f"in float32: {cause}" for cause in found.causes]
    for v in rough.run.outputs:
        if v.dtype != wanted:
            problems.append(f"the result of {wanted} inputs has dtype {v.dtype}")
    if gradient is not None and not problems and np.isfinite(expected := exact.pull(w)).all():
        u = signed(options.rng, exact.x.size) * exact.scale()
        problems += distance(report, (exact, rough), (w, u), (expected, gradient))
        if report.resolution > (options.resolution or COARSEST):
            report.verdict = "unsure"
            report.notes.append("rounding in float32 is too coarse to check the gradient")
    if gradient is None and not problems:
        report.verdict, report.notes = "unsure", [*dict.fromkeys(report.notes + found.notes)]
    report.verdict, report.causes = "fail" if problems else report.verdict, problems


Pair = tuple[Array, Array]


def distance(
    report: Report, points: tuple[Point, Point], directions: Pair, gradients: Pair
) -> Iterator[str]:
    """What is wrong with a gradient in float32, along a direction."""
    (exact, rough), (w, u), (expected, gradient) = points, directions, gradients
    nudged = exact.inputs.split(exact.x * (1 + EPS * np.sign(u)))
    beside = Point(exact.subject, nudged, exact.names)
    units = EPS * np.abs(exact.y) + np.abs(beside.y - exact.y)
    lost = max(1.0, norm(rough.y - exact.y) / (norm(units) or 1.0))
    if lost > LOST:
        report.verdict = "unsure"
        report.notes.append(f"values in float32 are off by {lost:.1g} units: too coarse to check")
        return
    size = np.abs(expected * u).sum()
    terms = EPS * norm(expected * u) + norm((beside.pull(w) - expected) * u)
    bound = ERRORS * (lost * terms + EPS * (size + float(np.abs(w * exact.y).sum())))
    off = abs(float((gradient - expected) @ u))
    resolution = bound / size if bound else 0.0
    report.resolution = max(report.resolution, resolution)
    if not off <= bound:
        yield (
            f"the gradient in float32 is off by {off / size:.1g} of that in float64; "
            f"rounding explains {resolution:.1g}"
        )
