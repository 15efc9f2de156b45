"""float32 against float64, with a tolerance from the arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinygrad_rnn.autograd.graph import Array
from tinygrad_rnn.testing.check import Options
from tinygrad_rnn.testing.point import ERRORS, Point, signed
from tinygrad_rnn.testing.report import Report
from tinygrad_rnn.testing.subjects import Subject

EPS = float(np.finfo(np.float32).eps)
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
    wanted = np.result_type(*arrays)
    report.causes += [
        f"the result of {wanted} inputs has dtype {v.dtype}"
        for v in rough.run.outputs
        if v.dtype != wanted
    ]
    w = signed(options.rng, exact.y.size)
    found = rough.run.pull(rough.cotangents(w))
    for name, d, a in zip(options.names, found, arrays, strict=True):
        if d is not None and (d.dtype, d.shape) != (a.dtype, a.shape):
            report.causes.append(
                f"{name}: the gradient of {a.dtype} {a.shape} has dtype {d.dtype}, shape {d.shape}"
            )
    if not report.causes and np.isfinite(expected := exact.pull(w)).all() and exact.x.size:
        u = signed(options.rng, exact.x.size) * exact.scale()
        _distance(report, exact, rough, (w, u), expected, rough.inputs.join(found))
    report.verdict = "fail" if report.causes else report.verdict


def _distance(
    report: Report,
    exact: Point,
    rough: Point,
    directions: tuple[Array, Array],
    expected: Array,
    gradient: Array,
) -> None:
    w, u = directions
    nudged = exact.inputs.split(exact.x * (1 + EPS * np.sign(u)))
    beside = Point(exact.subject, nudged, exact.names)
    units = EPS * np.abs(exact.y) + np.abs(beside.y - exact.y)
    off = np.abs(rough.y - exact.y)
    lost = max(1.0, float(np.linalg.norm(off) / (np.linalg.norm(units) or 1.0)))
    if lost > LOST:
        report.verdict = "unsure"
        report.notes.append(f"values in float32 are off by {lost:.1g} units: too coarse to check")
        return
    size = float(np.abs(expected * u).sum())
    terms = EPS * np.linalg.norm(expected * u) + np.linalg.norm((beside.pull(w) - expected) * u)
    bound = ERRORS * (lost * float(terms) + EPS * (size + float(np.abs(w * exact.y).sum())))
    distance = abs(float(((gradient - expected) * u).sum()))
    if not distance <= bound:
        report.causes.append(
            f"the gradient in float32 is off by {distance / size:.1g} of that in float64; "
            f"rounding explains {bound / size:.1g}"
        )
