"""Data far from zero, large arrays, and what is constant by construction."""

from __future__ import annotations

import numpy as np

from benchmarks.checker.problem import Problem, count, kind, power, some
from benchmarks.checker.scaled import pointwise


def far(rng, n):
    """Numbers of size 1 around a mean of 100 to 1e9."""
    return power(rng, 2, 9) + some(rng, n)


@kind("scaled")
def variance_of_far_data(rng):
    return Problem(np.var, lambda x, g: 2 * g * (x - x.mean()) / x.size, [far(rng, count(rng, 3))])


@kind("scaled")
def time_stamps(rng):
    x = 1.7e9 + rng.uniform(0, 10, count(rng, 2, 8))
    return Problem(lambda x: ((x - 1.7e9) ** 2).sum(), lambda x, g: 2 * g * (x - 1.7e9), [x])


@kind("scaled")
def zeros_beside_huge_numbers(rng):
    x = np.append(some(rng, count(rng, 1, 5)), [0.0, power(rng, 6, 15)])
    return pointwise(lambda x: np.logaddexp(0, x), lambda x: 0.5 + 0.5 * np.tanh(x / 2), x)


@kind("smooth")
def large_and_elementwise(rng):
    x = some(rng, count(rng, 1000, 20_000))
    f, slope = [(np.square, lambda x: 2 * x), (np.tanh, lambda x: 1 / np.cosh(x) ** 2)][
        int(rng.integers(2))
    ]
    return pointwise(f, slope, x)


@kind("noisy")
def constant_by_construction(rng):
    """Equal numbers without their mean; rounding is all that is left, of the gradient too."""
    n = count(rng, 2, 6)

    def f(x):
        y = x.sum() + np.zeros(n)
        return y - y.mean()

    def vjp(x, g):
        return np.full_like(x, (g - g.mean()).sum())

    return Problem(f, vjp, [some(rng, count(rng, 2, 6))])._replace(judged=False)
