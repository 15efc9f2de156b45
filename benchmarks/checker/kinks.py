"""Functions with kinks, near the point and at it."""

from __future__ import annotations

import numpy as np

from benchmarks.checker.problem import Problem, between, count, kind, power, relative, signs, slopes
from benchmarks.checker.problem import some as normal
from benchmarks.checker.scaled import pointwise


def beside(rng, n):
    """Places, and points 1e-14 to 1 from them: one at its own distance, or all."""
    places = normal(rng, n)
    away = np.abs(normal(rng, n)) + 0.1
    if rng.integers(2):
        away[rng.integers(n)] = power(rng, -14, 0)
    else:
        away = power(rng, -14, 0, n)
    x = places + signs(rng, n) * away
    return places, np.where(x == places, places + 1.0, x)


# Near a kink


@kind("near")
def distance_from_places(rng):
    c, x = beside(rng, count(rng))
    return pointwise(lambda x: np.abs(x - c), lambda x: np.sign(x - c), x)


@kind("near")
def waves_with_corners(rng):
    c, x = beside(rng, count(rng))
    return pointwise(lambda x: np.sin(x) + np.abs(x - c), lambda x: np.cos(x) + np.sign(x - c), x)


@kind("near")
def rectified_layer(rng):
    n, m = count(rng, 1, 8), count(rng, 1, 8)
    w, x = normal(rng, m, n), normal(rng, n)
    b = normal(rng, m)
    b[0] = rng.choice([-1, 1]) * power(rng, -14, 0) - w[0] @ x

    def vjp(x, w, b, g):
        d = g * (w @ x + b > 0)
        return w.T @ d, np.outer(d, x), d

    return Problem(lambda x, w, b: np.maximum(w @ x + b, 0), vjp, [x, w, b])


@kind("near")
def largest_of_a_row(rng):
    x = normal(rng, count(rng, 1, 6), count(rng, 2, 8))
    top = np.sort(x, 1)[:, -2:]
    rows = np.arange(len(x))
    x[rows, x.argmax(1)] = top[:, 0] + np.maximum(power(rng, -14, 0, len(x)), 1e-15)

    def vjp(x, g):
        d = np.zeros_like(x)
        d[rows, x.argmax(1)] = g
        return d

    return Problem(lambda x: x.max(1), vjp, [x])


@kind("near")
def smaller_of_two(rng):
    y, x = beside(rng, count(rng))
    return Problem(np.minimum, lambda x, y, g: (g * (x < y), g * (x >= y)), [x, y])


@kind("near")
def clipped_waves(rng):
    c, x = beside(rng, count(rng))
    return pointwise(
        lambda x: np.sin(np.minimum(x, c)), lambda x: np.where(x < c, np.cos(x), 0.0), x
    )


@kind("near")
def hinge_loss(rng):
    n, d = count(rng, 2, 10), count(rng, 1, 5)
    x, w, y = normal(rng, n, d), normal(rng, d), signs(rng, n)
    k = rng.integers(n)
    margin = y[k] * (x[k] @ w)
    x[k] *= (1 + rng.choice([-1, 1]) * power(rng, -14, -1)) / margin

    def vjp(w, g):
        return -g * ((y * (x @ w) < 1) * y) @ x

    return Problem(lambda w: np.sum(np.maximum(0, 1 - y * (x @ w))), vjp, [w])


@kind("near")
def table_of_straight_pieces(rng):
    knots = np.linspace(-4, 4, 33)
    values = np.sin(2 * knots)
    cells = np.diff(values) / np.diff(knots)
    n = count(rng)
    x = knots[rng.integers(8, 24, n)] + signs(rng, n) * power(rng, -13, -1, n)
    return pointwise(
        lambda x: np.interp(x, knots, values),
        lambda x: cells[np.clip(np.searchsorted(knots, x, "right") - 1, 0, 31)],
        np.where(np.isin(x, knots), x + 0.01, x),
    )


@kind("near")
def power_of_one_and_a_half(rng):
    """Once differentiable; the curvature has a pole."""
    c, x = beside(rng, count(rng))
    return pointwise(
        lambda x: np.abs(x - c) ** 1.5,
        lambda x: 1.5 * np.sign(x - c) * np.sqrt(np.abs(x - c)),
        x,
    )


@kind("near")
def huber_loss(rng):
    """Once differentiable; the curvature jumps."""
    c, x = beside(rng, count(rng))
    return pointwise(
        lambda x: np.where(np.abs(x) < np.abs(c), 0.5 * x * x, np.abs(c * x) - 0.5 * c * c),
        lambda x: np.where(np.abs(x) < np.abs(c), x, np.abs(c) * np.sign(x)),
        x,
    )


@kind("near")
def order_of_near_ties(rng):
    x = normal(rng, count(rng, 2))
    k = rng.permutation(x.size)[:2]
    x[k[1]] = x[k[0]] + power(rng, -13, -1)
    weights = rng.uniform(0.5, 2, x.size)

    def vjp(x, g):
        d = np.empty_like(x)
        d[np.argsort(x, kind="stable")] = g * weights
        return d

    return Problem(lambda x: np.sort(x) * weights, vjp, [x])


# On a kink


def with_zeros(rng, n):
    """Numbers of which some, at least one, are zero."""
    x = normal(rng, n) + 0.2 * signs(rng, n)
    x[rng.permutation(n)[: count(rng, 1, n)]] = 0.0
    return x


@kind("on")
def absolute_value_at_zero(rng):
    x = with_zeros(rng, count(rng))
    low, high = np.where(x == 0, -1.0, np.sign(x)), np.where(x == 0, 1.0, np.sign(x))
    return Problem(np.abs, *_ordered(slopes(low, high, rng.choice([0, 0.3, 0.5, 1])), [x]))


def _ordered(pair, arrays):
    vjp, excess = pair
    return vjp, arrays, excess


@kind("on")
def rectifier_at_zero(rng):
    x = with_zeros(rng, count(rng))
    pair = slopes((x > 0) * 1.0, (x >= 0) * 1.0, rng.choice([0, 0.5, 1]))
    return Problem(lambda x: np.maximum(x, 0), *_ordered(pair, [x]))


@kind("on")
def rectified_waves_at_zero(rng):
    x = with_zeros(rng, count(rng))
    smooth = np.cos(x)
    pair = slopes(smooth + 0.3 * (x > 0), smooth + 0.3 * (x >= 0), rng.choice([0, 0.5, 1]))
    return Problem(lambda x: np.sin(x) + 0.3 * np.maximum(x, 0), *_ordered(pair, [x]))


@kind("on")
def clip_at_its_bounds(rng):
    x = rng.choice([-1.0, 1.0, 0.3, -2.0, 1.7], count(rng))
    x[0] = 1.0
    inside = np.abs(x) < 1
    pair = slopes(inside * 1.0, (np.abs(x) <= 1) * 1.0, rng.choice([0, 0.5, 1]))
    return Problem(lambda x: np.clip(x, -1, 1), *_ordered(pair, [x]))


@kind("on")
def tie_of_the_largest(rng):
    """The gradient is shared out among those that tie, in any way."""
    n = count(rng, 2, 12)
    x = normal(rng, n)
    tied = rng.permutation(n)[: count(rng, 2, n)]
    x[tied] = x.max() + 0.5
    share = np.zeros(n)
    share[tied] = 1 / tied.size if rng.integers(2) else np.eye(tied.size)[rng.integers(tied.size)]

    def excess(found, g):
        d = found[0] / g
        outside = np.where(share_allowed, np.maximum(-d, d - 1), np.abs(d))
        return float(max(outside.max(), abs(d.sum() - 1), 0.0))

    share_allowed = np.isin(np.arange(n), tied)
    return Problem(lambda x: np.max(x), lambda x, g: g * share, [x], excess)


@kind("on")
def smaller_of_two_equals(rng):
    n, s = count(rng), rng.choice([0, 0.5, 1])
    x = normal(rng, n)
    y = np.where(rng.integers(2, size=n) == 0, x, normal(rng, n))
    y[0] = x[0]

    def vjp(x, y, g):
        share = np.where(x < y, 1.0, np.where(x == y, s, 0.0))
        return g * share, g * (1 - share)

    def excess(found, g):
        low, high = (x < y) * 1.0, (x <= y) * 1.0
        first = between(low, high)([found[0]], g)
        return max(first, relative([found[0] + found[1]], [g]))

    return Problem(np.minimum, vjp, [x, y], excess)


@kind("on")
def norm_at_zero(rng):
    n = count(rng)
    s = normal(rng, n)
    s *= rng.choice([0.0, 0.5, 1.0]) / np.linalg.norm(s)

    def excess(found, g):
        return max(0.0, float(np.linalg.norm(found[0]) / abs(g)) - 1)

    return Problem(lambda x: np.sqrt(np.sum(x * x)), lambda x, g: g * s, [np.zeros(n)], excess)
