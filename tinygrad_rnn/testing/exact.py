"""`exact_gradcheck`: no step, no tolerance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.graph import Array, switched
from tinygrad_rnn.testing.check import formed
from tinygrad_rnn.testing.differences import one
from tinygrad_rnn.testing.entries import between, slopes_beside
from tinygrad_rnn.testing.gradcheck import Fn, checked, finished, generator, named, subject_of
from tinygrad_rnn.testing.point import Point
from tinygrad_rnn.testing.report import Element, Report

STEP = 2.0**-8
FINE, MOST = 2.0**24, 2.0**28  # values are multiples of 1 / FINE, or differences are not exact
LARGEST = 1024


def exact_gradcheck(
    fn: Fn,
    inputs: Any,
    *,
    rng: np.random.Generator | int | None = None,
    raise_exception: bool = True,
    names: Sequence[str] | None = None,
) -> Report:
    """Check first derivatives of a piecewise-polynomial `fn` at small integers, bit for bit.

    At multiples of 1/256 that are no larger than 1024, sums and products of a few float64 numbers
    have no rounding error, and differences at seven points, 1/256 apart, give the derivative of a
    polynomial of degree 3 or less in each input, exactly. So the gradient must be equal to the
    last bit: for sums, products, matrix products, indexing, sorting, maxima, relu, cumsum, einsum,
    a linear RNN. At a kink it must lie between the slopes of both sides. Where `fn` is something
    else (exp, division by 3, higher powers), the verdict is "unsure".

    Args:
        fn: as for `gradcheck`: a function of Tensors, or a pair (f, vjp).
        inputs: arrays of whole numbers, at most 1024 in size; they are taken in float64.
        rng: for the cotangent, of small integers; by default from the inputs.
        raise_exception: raise if the verdict is "fail".
        names: of the inputs, for the report.

    Raises:
        GradientError: if a derivative is wrong.
        ValueError: if an input is no whole number.

    >>> import numpy as np, tinygrad_rnn as tg
    >>> x, w = np.array([[1.0, -2.0]]), np.array([[3.0], [4.0]])
    >>> bool(tg.testing.exact_gradcheck(tg.matmul, (x, w)))
    True
    """
    arrays = [a.astype(np.float64) for a in checked(inputs, "exact_gradcheck")]
    for k, a in enumerate(arrays):
        bad = a[(a != np.round(a)) | (np.abs(a) > LARGEST)]
        if bad.size:
            raise ValueError(
                f"exact_gradcheck: expected whole numbers up to {LARGEST} in size, got {bad[0]} in "
                f"input {k}; draw them with testing.strategies.small_integers, or use gradcheck"
            )
    subject, rng = subject_of(fn), generator(rng, arrays)
    with np.errstate(all="ignore"), switched(recording=True):  # even if called under no_grad
        point = Point(subject, arrays, named(names, arrays))
        report, size = Report(step=STEP), point.y.size
        w = (rng.choice([-1.0, 1.0], size) * rng.integers(1, 4, size)).astype(float)
        gradient = formed(report, point, w)
        if gradient is not None:
            compare(report, point, w, gradient)
    report.verdict = "fail" if report.elements else report.verdict
    return finished(report, subject, raise_exception, "exact_gradcheck")


def compare(report: Report, point: Point, w: Array, gradient: Array) -> None:
    ties: dict[int, dict[int, bool | None]] = {}  # output: inputs with a kink, convex?
    exact, kinks = True, []
    for i in range(point.x.size):
        ends = slopes(point, one(point.x.size, i))
        if ends is None:
            exact = False
            continue
        kinked = np.flatnonzero(ends[0] != ends[1])
        for j in map(int, kinked):
            ties.setdefault(j, {})[i] = bool(ends[0][j] < ends[1][j])
            kinks.append(f"{point.output_label(j)} by {point.label(i)}")
        if kinked.size or gradient[i] != float(w @ ends[0]):
            report.elements += column(point, i, ends, float(gradient[i]), w)
    for j, inputs in ties.items():
        report.elements += between(point, j, inputs, point.scale())
    report.list_kinks(kinks)
    if exact:
        report.verdict, report.resolution = "pass", 0.0
    else:
        report.notes.append("not piecewise polynomial of degree 3 or less here, or not exact")
    if ties:
        report.notes.append("at kinks the gradient lies between the slopes of both sides")


def slopes(point: Point, move: Array) -> tuple[Array, Array] | None:
    """The derivatives of all outputs along a move, from left and right; None if not exact."""
    line = point.line(STEP * move)
    f = np.array([line.change(float(k)) for k in range(-3, 4)])
    if not (np.abs(f) <= MOST).all() or (np.round(f * FINE) != f * FINE).any():
        return None
    smooth = (np.diff(f, 4, axis=0) == 0).all(axis=0)  # of degree 3 or less
    bent = (np.diff(f[:4], 3, axis=0) == 0) & (np.diff(f[3:], 3, axis=0) == 0)  # 2 on either side
    if not (smooth | bent).all():
        return None
    left, right = (_slope(side * f[3 + side * np.arange(4)]) / STEP for side in (-1, 1))
    return left, right


def _slope(f: Array) -> Array:
    """The first derivative at the first of four points 1 apart, of a polynomial of degree 3."""
    slope: Array = f[1] - f[0] - (f[2] - 2 * f[1] + f[0]) / 2
    return slope + (f[3] - 3 * f[2] + 3 * f[1] - f[0]) / 3


def column(
    point: Point, i: int, ends: tuple[Array, Array], gradient: float, w: Array
) -> Iterator[Element]:
    """The entries of column i of the Jacobian that are not what, or not where, they should be."""
    found = np.array([point.pull(one(w.size, j))[i] for j in range(w.size)])
    low, high = np.minimum(*ends), np.maximum(*ends)
    wrong = np.flatnonzero(~((low <= found) & (found <= high)))
    around = _around(point, i) if wrong.size else []
    for j in map(int, wrong):
        if not min([low[j], *around[j]]) <= found[j] <= max([high[j], *around[j]]):
            slopes = None if low[j] == high[j] else (float(low[j]), float(high[j]))
            values = float(found[j]), float(low[j] + high[j]) / 2, 0.0, STEP
            yield Element(point.label(i), point.output_label(j), *values, slopes)
    expected = float(w @ found)
    if abs(gradient - expected) > _slack(found):  # each row is right, and their sum is not
        yield Element(point.label(i), "w · out", gradient, expected, 0.0, STEP)


def _slack(values: Any) -> float:
    """What a sum may be off: nothing, but for thirds and the like, as equal shares of a tie are."""
    v = np.asarray(values)
    return 0.0 if (np.round(v * FINE) == v * FINE).all() else 1e-12 * float(np.abs(v).sum())


def _around(point: Point, i: int) -> list[list[float]]:
    """The slopes of each output by input i next to x, where they jump: a tie of many has none
    along a single input, and yet a gradient may be theirs."""
    rng, size = np.random.default_rng(0), point.x.size
    (base,) = slopes_beside(point, i, STEP / 64, [np.zeros(size)])
    found: list[list[float]] = [[] for _ in base]
    for _ in range(32):
        shift = STEP * rng.permutation(np.arange(1, size + 1)) * rng.choice([-1, 1])
        shifts = [shift, shift / 2, shift / 4]
        far, middle, near = slopes_beside(point, i, STEP / 64, shifts)
        here = np.round((8 * near - 6 * middle + far) / 3 * 2**20) / 2**20  # at no distance
        for j in np.flatnonzero(np.abs(here - base) > 1e-6 * (1 + np.abs(base))):
            found[j].append(float(here[j]))
    return found
