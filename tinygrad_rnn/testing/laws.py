"""What else holds for every right gradient: each law gives what is wrong, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tinygrad_rnn.autograd.graph import Array
from tinygrad_rnn.autograd.op import primitive
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.testing.differences import norm
from tinygrad_rnn.testing.point import ERRORS, ROUNDING, Comparison, Point
from tinygrad_rnn.testing.subjects import TensorFunction, leaves

Laws = Iterator[str]

LARGE = 4096  # elements of the inputs; what does not depend on the size is checked up to here
LET_OFF = (
    "inputs this large are let off: other strides, given twice, computed from each other, "
    "linearity in the cotangent"
)


def form(point: Point, found: Sequence[Array | None], given: Sequence[Array], w: Array) -> Laws:
    """Values are those of a plain call, nothing is written, a gradient is like its input."""
    plain = point.subject.values([a.copy() for a in point.arrays])
    if [(v.shape, v.dtype) for v in plain] != [(v.shape, v.dtype) for v in point.run.outputs]:
        yield "two evaluations at the same inputs give results of different shapes or dtypes"
        return
    if not _same_values(point, plain, strictly=True):
        again = point.subject.values([a.copy("K") for a in point.arrays])
        if not _same_values(point, again, strictly=True):
            yield "two evaluations give different values: fn is not deterministic"
        elif not _same_values(point, plain):
            yield "the values change with the strides of the inputs"
    pairs = zip(given, point.outputs.split(w), strict=True)
    if not all(np.array_equal(g, k.astype(g.dtype, copy=False)) for g, k in pairs):
        yield "the backward modifies its cotangent"
    rows = zip(point.names, found, point.arrays, point.run.inputs, strict=True)
    for name, d, a, memory in rows:
        if not np.array_equal(memory, a):
            yield f"{name}: the input is modified"
        if d is not None and d.shape != a.shape:
            yield f"{name}: the gradient has shape {d.shape}, the input {a.shape}{_hint(d, a)}"
        elif d is not None and d.dtype != a.dtype:
            yield f"{name}: the gradient has dtype {d.dtype}, the input {a.dtype}"


def _same_values(point: Point, outputs: Sequence[Array], strictly: bool = False) -> bool:
    """Whether results are those of the point, but for how sums were rounded: by some units of the
    largest or, where terms cancel, as far as some units of the inputs move them."""
    values, units = point.outputs.join(outputs), 64 * point.eps * np.abs(point.y).max(initial=0.0)
    if np.array_equal(values, point.y):
        return True
    moves = np.abs(values - point.y)
    near = moves <= units
    return bool(near.all() or (not strictly and (near | (moves <= 64 * point.blur)).all()))


def _hint(d: Array, a: Array) -> str:
    if d.shape == a.shape[::-1]:
        return ": it is transposed"
    try:
        broadcast = np.broadcast_shapes(d.shape, a.shape) == d.shape
    except ValueError:
        return ""
    return ": a sum over a broadcast axis is missing" if broadcast else ""


class Seen(NamedTuple):
    """What is known of a right gradient."""

    point: Point
    known: Comparison  # of the gradient of w · f along its u
    v: Array  # another cotangent, zero in places
    crossed: Array  # the gradient of (v - 2 w) · f, maybe recorded
    rng: np.random.Generator

    def same(self, found: Array, expected: float, size: float = 0.0) -> bool:
        """Whether a derivative along u is what it should be, within the error of the check. Where f
        stands still, terms of size 1 may cancel in each slope, and nothing else tells of them."""
        known = self.known
        if not any(c.any() for c in known.line.changes.values()):
            size += norm(known.w) * norm(known.u)
        return known.within(lambda: float(found @ known.u) - expected, size)


def stateful(point: Point, known: Comparison) -> Laws:
    """A vjp that depends on chance, or on which point f was last evaluated at."""
    point.subject.values(point.arrays)
    first, again = point.pull(known.w), point.pull(known.w)
    point.at(point.inputs.split(1.5 * point.x))
    if abs(float((first - again) @ known.u)) > ROUNDING * known.eps * known.total:
        yield "another gradient is given each time: the backward is not deterministic"
    elif not np.array_equal(point.pull(known.w), again):
        yield "vjp uses what the last call of f left behind; compute it from its arguments"


def recorded(seen: Seen) -> Laws:
    """The gradient is the same where it is recorded, to be differentiated again."""
    expected = float(seen.point.pull(seen.v) @ seen.known.u) if seen.v.any() else 0.0
    if not seen.same(seen.crossed, expected - 2 * seen.known.analytic):
        yield "the gradient is another one where it is recorded, to be differentiated again"


def linear(seen: Seen) -> Laws:
    """The gradient is linear in the cotangent (so zero for zero), and depends neither on strides
    nor on whether an input was computed from another.

    One more evaluation tells, at inputs with gaps in memory, one of them computed from another,
    whose graph is freed as it is walked; what is wrong is looked for only if something is.
    """
    point, v = seen.point, seen.v
    i, j = _two(point, seen.rng)
    mixed = seen.crossed + 2 * seen.known.gradient
    if seen.same(_related(point, v, i, j, True), *_both_paths(seen, mixed, i, j)):
        return
    if point.pull(np.zeros_like(v)).any():
        yield "a cotangent of zero gives a gradient that is not zero"
    here = point.pull(v)
    there = float(here @ seen.known.u)
    if not seen.same(point.pull(v - 2 * seen.known.w) + 2 * seen.known.gradient, there):
        yield "the gradient is not linear in the cotangent"
    else:
        yield from recorded(seen)
    if not seen.same(_related(point, v, i, i, True), there):
        yield "values or gradient change with the strides of the inputs, or from run to run"
    if not seen.same(_related(point, v, i, j, False), *_both_paths(seen, here, i, j)):
        names = point.names[j], point.names[i]
        yield "the gradient is wrong where {} is computed from {}".format(*names)


def _two(point: Point, rng: np.random.Generator) -> tuple[int, int]:
    """Two inputs, if there are as many; equal numbers mean that none is computed from another."""
    filled = [k for k, a in enumerate(point.arrays) if a.size]
    if len(filled) < 2 or not isinstance(point.subject, TensorFunction):
        return 0, 0
    i, j = rng.permutation(filled)[:2]
    return int(i), int(j)


# y, whose elements move with each element of x
carried = primitive(lambda y, x: np.array(y), lambda y, x, g: (g, np.full_like(x, g.sum())))


def _related(point: Point, v: Array, i: int, j: int, gaps: bool) -> Array:
    """The gradient of v · f, input j being computed from input i, with the same values."""
    arrays = [_with_gaps(a) for a in point.arrays] if gaps else point.arrays
    try:
        if i == j or not isinstance(point.subject, TensorFunction):
            run = point.subject.run(arrays, copy=False)
        else:
            xs = leaves(arrays, copy=False)
            xs[j] = carried(xs[j], xs[i])
            run = point.subject.traced(xs, xs)
        if _same_values(point, run.outputs):
            return point.pull(v, run, free=True)
    except (ArithmeticError, LookupError, ValueError):
        pass
    return np.full_like(point.x, np.nan)


def _both_paths(seen: Seen, gradient: Array, i: int, j: int) -> tuple[float, float]:
    """What that gives along u, as input i moves each element of input j as much as its own, and
    the size of what is added."""
    along = float(gradient @ seen.known.u)
    if i == j:
        return along, 0.0
    slices = seen.point.inputs.slices
    u, g = seen.known.u[slices[i]], gradient[slices[j]]
    return along + float(u.sum() * g.sum()), (u.size * g.size) ** 0.5 * norm(u) * norm(g)


def _with_gaps(a: Array) -> Array:
    """The same values, every other element of a wider array."""
    if not a.ndim:
        return a
    wide = np.full((*a.shape[:-1], 2 * a.shape[-1]), np.nan, a.dtype)
    wide[..., ::2] = a
    return wide[..., ::2]


def twice(seen: Seen) -> Laws:
    """The same tensor in two places gets the gradients of both."""
    point, inputs, count = seen.point, seen.point.inputs, len(seen.point.arrays)
    shapes = list(enumerate(inputs.shapes))
    pairs = [(i, j) for j, b in shapes for i, a in shapes[:j] if a == b]
    subject = point.subject
    if not pairs or not isinstance(subject, TensorFunction):
        return
    i, j = pairs[seen.rng.integers(len(pairs))]

    def both(*xs: Tensor) -> list[Tensor]:
        same = list(xs[:count])
        same[j] = same[i]
        return [*subject.outputs(same), *subject.outputs(xs[count:])]

    apart = list(point.arrays)
    apart[j] = apart[i]
    try:
        run = TensorFunction(both).run([*point.arrays, *apart])
    except (ArithmeticError, ValueError):  # no place for input i: another domain
        return
    found = run.pull(2 * point.cotangents(seen.v), free=True)
    alike, parts = inputs.join(found[:count]), inputs.join(found[count:])
    first, second = parts[inputs.slices[i]], parts[inputs.slices[j]]
    size = norm(first) + norm(second)
    bound = ERRORS * ROUNDING * seen.known.eps * size
    if np.isfinite(size) and not norm(alike[inputs.slices[i]] - (first + second)) <= bound:
        names = point.names[i], point.names[j]
        yield "the gradient is wrong where {} and {} are the same tensor".format(*names)


# What is checked of small and of large inputs
LAWS: tuple[tuple[Callable[[Seen], Laws], ...], ...] = ((linear, twice), (recorded,))
