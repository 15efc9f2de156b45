"""Badly scaled, and strongly curved, functions with their vjps by formula."""

from __future__ import annotations

import numpy as np

from benchmarks.checker.problem import Problem, count, kind, power, signs, some


def pointwise(f, slope, *arrays):
    return Problem(f, lambda x, g: g * slope(x), list(arrays))


# Badly scaled


@kind("scaled")
def tiny_or_huge_argument(rng):
    s = power(rng, -12, 12)
    return pointwise(
        lambda x: np.sin(x / s), lambda x: np.cos(x / s) / s, s * some(rng, count(rng))
    )


@kind("scaled")
def tiny_or_huge_value(rng):
    s = power(rng, -14, 14)
    return pointwise(lambda x: s * np.tanh(x), lambda x: s / np.cosh(x) ** 2, some(rng, count(rng)))


@kind("scaled")
def arguments_of_many_sizes(rng):
    s = power(rng, -8, 8, count(rng, 2))
    return pointwise(
        lambda x: np.arctan(x / s), lambda x: s / (s * s + x * x), s * some(rng, s.size)
    )


@kind("scaled")
def values_of_many_sizes(rng):
    n, m = count(rng, 1, 12), count(rng, 2, 12)
    a, s = some(rng, m, n) / np.sqrt(n), power(rng, -8, 8, m)
    return Problem(
        lambda x: s * np.sin(a @ x), lambda x, g: a.T @ (g * s * np.cos(a @ x)), [some(rng, n)]
    )


@kind("scaled")
def large_offset(rng):
    offset = power(rng, 2, 7) * rng.choice([-1, 1])
    return pointwise(lambda x: offset + np.sin(x), np.cos, some(rng, count(rng)))


@kind("scaled")
def inputs_of_two_sizes(rng):
    n, s = count(rng), power(rng, 2, 8)

    def vjp(x, y, g):
        return g * (y + s * np.cos(s * x)), g * x

    arrays = [some(rng, n) / s, some(rng, n) * s]
    return Problem(lambda x, y: x * y + np.sin(s * x), vjp, arrays)


@kind("scaled")
def wide_exponentials(rng):
    return pointwise(np.exp, np.exp, rng.uniform(-30, 30, count(rng)))


@kind("scaled")
def logarithms_of_tiny_numbers(rng):
    return pointwise(np.log, lambda x: 1 / x, power(rng, -200, -100, count(rng)))


@kind("scaled")
def product_of_probabilities(rng):
    return Problem(np.prod, lambda x, g: g * np.prod(x) / x, [power(rng, -6, 0, count(rng, 2, 20))])


@kind("scaled")
def monomials(rng):
    k = count(rng, 2, 7)
    x = signs(rng, count(rng)) * power(rng, -3, 3)
    return pointwise(lambda x: x**k, lambda x: k * x ** (k - 1), x * rng.uniform(0.5, 2, x.size))


@kind("scaled")
def narrow_bell(rng):
    """As wide as a thousandth or less of the argument's own size."""
    n, w = count(rng), power(rng, -5, -3)
    c = signs(rng, n) * rng.uniform(0.5, 2, n)

    def f(x):
        return np.exp(-0.5 * ((x - c) / w) ** 2)

    return pointwise(f, lambda x: -f(x) * (x - c) / w**2, c + w * some(rng, n))


# Strongly curved


@kind("curved")
def fast_waves(rng):
    k = power(rng, 1, 4)
    return pointwise(lambda x: np.sin(k * x), lambda x: k * np.cos(k * x), some(rng, count(rng)))


@kind("curved")
def steep_steps(rng):
    n, w = count(rng), power(rng, -4, -1)
    c = some(rng, n)

    def f(x):
        return 0.5 + 0.5 * np.tanh(0.5 * (x - c) / w)

    return pointwise(f, lambda x: f(x) * (1 - f(x)) / w, c + 3 * w * some(rng, n))


@kind("curved")
def iterated_logistic_map(rng):
    k, r = count(rng, 3, 10), rng.uniform(3.6, 3.99)

    def f(x):
        for _ in range(k):
            x = r * x * (1 - x)
        return x

    def slope(x):
        s = np.ones_like(x)
        for _ in range(k):
            x, s = r * x * (1 - x), s * r * (1 - 2 * x)
        return s

    return pointwise(f, slope, rng.uniform(0.05, 0.95, count(rng)))


@kind("curved")
def near_a_pole(rng):
    n = count(rng)
    c = some(rng, n)
    x = c + signs(rng, n) * power(rng, -3, 0, n)
    return pointwise(lambda x: 1 / (x - c), lambda x: -1 / (x - c) ** 2, x)


@kind("curved")
def high_powers(rng):
    k = count(rng, 20, 60)
    return pointwise(
        lambda x: x**k, lambda x: k * x ** (k - 1), signs(rng, 9) * rng.uniform(0.7, 1.3, 9)
    )


@kind("curved")
def peaks_far_from_zero(rng):
    n, k = count(rng), power(rng, 1, 3)
    c = 5 + some(rng, n)
    return pointwise(
        lambda x: 1 / (1 + (k * (x - c)) ** 2),
        lambda x: -2 * k * k * (x - c) / (1 + (k * (x - c)) ** 2) ** 2,
        c + some(rng, n) / k,
    )


@kind("curved")
def edge_of_the_domain(rng):
    """A root whose argument is a small step away from where it is not real."""
    n = count(rng)
    c = some(rng, n)
    return pointwise(
        lambda x: np.sqrt(x - c), lambda x: 0.5 / np.sqrt(x - c), c + power(rng, -6, 0, n)
    )


@kind("curved")
def chirp(rng):
    x = signs(rng, 7) * power(rng, -2, 0, 7)
    return pointwise(lambda x: np.sin(1 / x), lambda x: -np.cos(1 / x) / x**2, x)


@kind("curved")
def doubly_exponential(rng):
    return pointwise(
        lambda x: np.exp(np.exp(x)),
        lambda x: np.exp(x + np.exp(x)),
        rng.uniform(-3, 3.5, count(rng)),
    )
