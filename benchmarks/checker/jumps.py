"""Functions that jump, near the point and at it."""

from __future__ import annotations

import numpy as np

from benchmarks.checker.kinks import beside
from benchmarks.checker.problem import Problem, count, kind, power, signs, some
from benchmarks.checker.scaled import pointwise


def beside_steps(rng, n):
    """Points 1e-13 to 0.5 from an integer."""
    steps = rng.integers(-3, 4, n) * 1.0
    return steps + signs(rng, n) * power(rng, -13, -0.31, n)


@kind("jump")
def staircase_with_waves(rng):
    return pointwise(lambda x: np.floor(x) + np.sin(x), np.cos, beside_steps(rng, count(rng)))


@kind("jump")
def flat_staircase(rng):
    return pointwise(np.floor, np.zeros_like, beside_steps(rng, count(rng)))


@kind("jump")
def remainder(rng):
    return pointwise(lambda x: np.mod(x, 1.0), np.ones_like, beside_steps(rng, count(rng)))


@kind("jump")
def switched_branches(rng):
    c, x = beside(rng, count(rng))
    return pointwise(
        lambda x: np.where(x > c, np.exp(-x * x), 2 + np.sin(x)),
        lambda x: np.where(x > c, -2 * x * np.exp(-x * x), np.cos(x)),
        x,
    )


@kind("jump")
def small_step(rng):
    """A jump of a hundred-thousandth of the value, or less."""
    (c, x), h = beside(rng, count(rng)), power(rng, -12, -5)
    return pointwise(lambda x: np.sin(x) + h * (x > c), np.cos, x)


@kind("jump")
def branch_cut(rng):
    n = count(rng)
    y = signs(rng, n) * power(rng, -13, 0, n)

    def vjp(y, x, g):
        q = x * x + y * y
        return g * x / q, -g * y / q

    return Problem(np.arctan2, vjp, [y, -rng.uniform(0.5, 2, n)])


@kind("jump")
def choice_by_the_largest(rng):
    n = count(rng, 2)
    x = some(rng, n)
    x[np.argmin(x)] = x.max() + power(rng, -13, 0)
    values = some(rng, n)

    def vjp(x, g):
        d = np.zeros_like(x)
        d[x.argmax()] = g
        return d

    return Problem(lambda x: values[x.argmax()] + x.max(), vjp, [x])


@kind("jump")
def on_the_step(rng):
    """No derivative exists: zero, the usual choice, must not be called wrong."""
    x = rng.integers(-3, 4, count(rng)) * 1.0
    return pointwise(np.floor, np.zeros_like, x)._replace(judged=False)
