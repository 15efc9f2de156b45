"""Why a gradient is wrong, as far as it shows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tinygrad_rnn.autograd.graph import Array
from tinygrad_rnn.testing.differences import central, one
from tinygrad_rnn.testing.point import Point

SMALL = 64  # elements of an input whose whole gradient is worth computing by differences


def causes(point: Point, u: Array, w: Array) -> Iterator[str]:
    """What is wrong with the gradient of each input that is wrong, where it can be told."""
    analytic = point.inputs.split(point.pull(w))
    for k, numbers in enumerate(point.inputs.split(np.arange(u.size))):
        if not 0 < numbers.size <= SMALL:
            continue
        g, expected = analytic[k], np.zeros(numbers.shape)
        for place, i in np.ndenumerate(numbers):
            line = point.line(u[i] * one(u.size, i))
            expected[place] = central(line, w, line.rounding(w)).value / u[i]
        if np.isfinite(expected).all() and not _close(g, expected, expected):
            yield f"{point.names[k]}: {_cause(point, k, w, g, expected)}"


def _close(a: Array, b: Array, scale: Array) -> bool:
    return bool((np.abs(a - b) <= 1e-5 * np.abs(scale).max(initial=0.0)).all())


def _cause(point: Point, k: int, w: Array, g: Array, expected: Array) -> str:
    if not g.any():
        return "no gradient arrives"
    if _close(g, -expected, expected):
        return "the sign is wrong"
    lost = _lost_axis(point, k, w, g)
    if lost is not None:
        return f"a sum over the broadcast axis {lost} of the output is missing"
    if expected.any():
        factor = float((g * expected).sum() / (expected * expected).sum())
        if _close(g, factor * expected, expected):
            return f"a constant factor, {factor:.6g}"
    if g.ndim > 1 and g.shape[-1] == g.shape[-2] and _close(g.swapaxes(-1, -2), expected, expected):
        return "it is transposed"
    right = np.abs(g - expected) <= 1e-5 * np.abs(expected).max()
    if right.mean() >= 0.5:
        return f"wrong at {(~right).sum()} of {right.size} elements only"
    return "a term is missing or wrong"


def _lost_axis(point: Point, k: int, w: Array, g: Array) -> int | None:
    """The output's axis along which input k was broadcast and only one slice has a say."""
    shape = point.arrays[k].shape
    for which, out in enumerate(point.outputs.shapes):
        full = (1,) * (len(out) - len(shape)) + shape
        if len(full) != len(out) or any(n not in (1, m) for n, m in zip(full, out, strict=True)):
            continue
        for axis in (a for a, n in enumerate(out) if n > 1 == full[a]):
            for end in (0, -1):
                parts = [np.array(p) for p in point.outputs.split(w)]
                kept = np.zeros_like(parts[which])
                slot = (slice(None),) * axis + (end,)
                kept[slot] = parts[which][slot]
                parts[which] = kept
                if _close(point.inputs.split(point.pull(point.outputs.join(parts)))[k], g, g):
                    return axis
    return None
