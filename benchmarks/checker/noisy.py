"""Functions whose values are noisy, with the vjps of what lies under the noise."""

from __future__ import annotations

import math

import numba
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


@numba.njit
def iterated(a, tolerance):
    x, slope = np.ones_like(a), np.zeros_like(a)
    for _ in range(200):
        slope = 1 - 0.5 * np.sin(x) * slope
        before, x = x, 0.5 * np.cos(x) + a
        if np.all(np.abs(x - before) < tolerance):
            break
    return x, slope


@kind("noisy")
def unfinished_iteration(rng):
    """x = cos(x)/2 + a, by steps until two are close; their number jumps, and x a little."""
    tolerance, a = power(rng, -11, -6), some(rng, count(rng))
    return pointwise(lambda a: iterated(a, tolerance)[0], lambda a: iterated(a, tolerance)[1], a)


@numba.njit
def halved(a, halvings):
    low, high = np.full_like(a, -4.0), np.full_like(a, 4.0)
    for _ in range(halvings):
        middle = 0.5 * (low + high)
        above = middle * middle * middle + middle > a
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return 0.5 * (low + high)


@kind("noisy")
def bisection(rng):
    """The root of x³ + x = a, by halving an interval: a staircase with steps of its last width."""
    halvings = int(rng.integers(24, 45))

    def slope(a):
        x = halved(a, halvings)
        for _ in range(4):
            x = x - (x**3 + x - a) / (3 * x * x + 1)
        return 1 / (3 * x * x + 1)

    return pointwise(lambda a: halved(a, halvings), slope, some(rng, count(rng)))


@numba.njit
def simpson(x, pieces, power_of_t):
    total, step = np.zeros_like(x), 0.5 / pieces
    for k in range(2 * pieces + 1):
        t = k * step
        weight = 1 if k in (0, 2 * pieces) else 4 if k % 2 else 2
        total += weight * t**power_of_t * np.exp(-x * t * t)
    return total / (6 * pieces)


@numba.njit
def refined(x, tolerance):
    """The integral, and the number of pieces at which two in a row were close."""
    last, pieces = simpson(x, 1, 0), 2
    while pieces < 1024:
        now = simpson(x, pieces, 0)
        if np.all(np.abs(now - last) < tolerance):
            return now, pieces
        last, pieces = now, 2 * pieces
    return simpson(x, pieces, 0), pieces


@kind("noisy")
def adaptive_quadrature(rng):
    """The integral of exp(-x t²) over 0..1 by Simpson's rule, refined until it seems right."""
    tolerance = power(rng, -9, -6)
    return pointwise(
        lambda x: refined(x, tolerance)[0],
        lambda x: -simpson(x, refined(x, tolerance)[1], 2),
        rng.uniform(0.5, 5, count(rng, 1, 8)),
    )


@numba.njit
def series(x):
    term, total = np.ones_like(x), np.ones_like(x)
    for k in range(1, 90):
        term = -term * x / k
        total = total + term
    return total


@kind("noisy")
def long_alternating_sum(rng):
    """exp(-x) by its series: terms of up to 1e5 that cancel."""
    return pointwise(series, lambda x: -np.exp(-x), rng.uniform(5, 13, count(rng)))
