"""Functions whose values are noisy, with the vjps of what lies under the noise."""

from __future__ import annotations

import math

import numpy as np

from benchmarks.checker.problem import Problem, count, kind, power, signs, some
from benchmarks.checker.scaled import pointwise

MIX = (np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53))
HALF = np.uint64(33)
SERIES = range(1, 9)


def hashed(x, low=0):
    """-1 to 1 by the bits of x, but for its `low` last ones: the same wherever x is."""
    bits = np.ascontiguousarray(x, np.float64).view(np.uint64) >> np.uint64(low)
    for factor in MIX:
        bits = (bits ^ (bits >> HALF)) * factor
    bits = bits ^ (bits >> HALF)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1.0


@kind("noisy")
def relative_noise(rng):
    e = power(rng, -12, -6)
    return pointwise(
        lambda x: np.exp(np.sin(x)) * (1 + e * hashed(x)),
        lambda x: np.exp(np.sin(x)) * np.cos(x),
        some(rng, count(rng)),
    )


@kind("noisy")
def noise_on_a_sum(rng):
    e, n = power(rng, -12, -6), count(rng)
    return Problem(
        lambda x: np.sum(x * x) + e * hashed(np.sum(x)), lambda x, g: 2 * g * x, [some(rng, n)]
    )


@kind("noisy")
def noise_in_blocks(rng):
    """The same for some hundred to a billion neighbours: nothing is seen a few ulps apart."""
    e, low = power(rng, -12, -6), int(rng.integers(8, 30))
    return pointwise(lambda x: np.tanh(x) + e * hashed(x, low), lambda x: 1 / np.cosh(x) ** 2,
                     some(rng, count(rng)))  # fmt: skip


@kind("noisy")
def cancelled_offset(rng):
    c = power(rng, 3, 9)
    return pointwise(lambda x: (np.sin(x) + c) - c, np.cos, some(rng, count(rng)))


@kind("noisy")
def cancelled_cosine(rng):
    def slope(x):
        y = 0.5 * x
        fall = sum((-1) ** k * y ** (2 * k) * 2 * k / math.factorial(2 * k + 1) for k in SERIES)
        return np.sin(y) / y * fall / x  # fall: cos(y) - sin(y)/y

    x = signs(rng, 8) * power(rng, -4, 0)
    return pointwise(lambda x: (1 - np.cos(x)) / (x * x), slope, x * rng.uniform(0.5, 1, 8))


@kind("noisy")
def computed_in_single(rng):
    return pointwise(
        lambda x: np.sin(np.float32(1.5) * x.astype(np.float32)).astype(np.float64),
        lambda x: 1.5 * np.cos(1.5 * x),
        some(rng, count(rng)),
    )


@kind("noisy")
def unfinished_iteration(rng):
    """x = cos(x)/2 + a, by steps until two are close; their number jumps, and x a little."""
    tolerance = power(rng, -11, -6)

    def iterated(a):
        x, slope = np.ones_like(a), np.zeros_like(a)
        for _ in range(200):
            slope = 1 - 0.5 * np.sin(x) * slope
            x, before = 0.5 * np.cos(x) + a, x
            if np.abs(x - before).max(initial=0) < tolerance:
                break
        return x, slope

    return pointwise(lambda a: iterated(a)[0], lambda a: iterated(a)[1], some(rng, count(rng)))


@kind("noisy")
def bisection(rng):
    """The root of x³ + x = a, by halving an interval: a staircase with steps of its last width."""
    halvings = int(rng.integers(24, 45))

    def solved(a):
        low, high = -4 * np.ones_like(a), 4 * np.ones_like(a)
        for _ in range(halvings):
            middle = 0.5 * (low + high)
            above = middle**3 + middle > a
            low, high = np.where(above, low, middle), np.where(above, middle, high)
        return 0.5 * (low + high)

    def slope(a):
        x = solved(a)
        for _ in range(4):
            x = x - (x**3 + x - a) / (3 * x * x + 1)
        return 1 / (3 * x * x + 1)

    return pointwise(solved, slope, some(rng, count(rng)))


@kind("noisy")
def adaptive_quadrature(rng):
    """The integral of exp(-x t²) over 0..1 by Simpson's rule, refined until it seems right."""
    tolerance = power(rng, -9, -6)

    def simpson(x, pieces, power_of_t):
        t = np.linspace(0, 1, 2 * pieces + 1)
        weights = np.ones(t.size)
        weights[1:-1:2], weights[2:-1:2] = 4, 2
        return (np.exp(-x[:, None] * t * t) * t**power_of_t) @ weights / (6 * pieces)

    def pieces_for(x):
        last, pieces = simpson(x, 1, 0), 2
        while pieces < 1024:
            now = simpson(x, pieces, 0)
            if np.abs(now - last).max(initial=0) < tolerance:
                break
            last, pieces = now, 2 * pieces
        return pieces

    return pointwise(
        lambda x: simpson(x, pieces_for(x), 0),
        lambda x: -simpson(x, pieces_for(x), 2),
        rng.uniform(0.5, 5, count(rng, 1, 8)),
    )


@kind("noisy")
def long_alternating_sum(rng):
    """exp(-x) by its series: terms of up to 1e5 that cancel."""

    def f(x):
        term, total = np.ones_like(x), np.ones_like(x)
        for k in range(1, 90):
            term = -term * x / k
            total = total + term
        return total

    return pointwise(f, lambda x: -np.exp(-x), rng.uniform(5, 13, count(rng)))
