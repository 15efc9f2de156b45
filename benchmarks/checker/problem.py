"""A function of arrays with its exact vjp, and the register of kinds of such functions."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Gradients = list[np.ndarray]


class Problem(NamedTuple):
    """`f(*arrays) -> array` and `vjp(*arrays, cotangent) -> array or tuple` at some arrays.

    Where more than one gradient is right, `excess(gradients, cotangent)` says how far, relatively,
    some are from the nearest right ones. `judged`: whether there is a derivative to be wrong about.
    """

    f: Callable[..., np.ndarray]
    vjp: Callable[..., Any]
    arrays: list[np.ndarray]
    excess: Callable[[Gradients, np.ndarray], float] | None = None
    judged: bool = True

    def gradients(self, arrays: list[np.ndarray], g: np.ndarray) -> Gradients:
        found = self.vjp(*arrays, g)
        return list(found) if isinstance(found, tuple) else [found]


class Kind(NamedTuple):
    """A kind of function: how one is drawn."""

    name: str
    category: str
    make: Callable[[np.random.Generator], Problem]

    def problem(self, seed: int, index: int) -> Problem:
        rng = np.random.default_rng([seed, zlib.crc32(self.name.encode()), index])
        problem = self.make(rng)
        return problem._replace(arrays=[np.asarray(a, np.float64) for a in problem.arrays])


KINDS: dict[str, Kind] = {}
CATEGORIES = {
    "smooth": "smooth and well scaled",
    "scaled": "badly scaled in value or argument",
    "curved": "strongly curved or oscillating",
    "near": "1e-14 to 1 from a kink",
    "on": "on a kink or tie",
    "jump": "a jump near or at the point",
    "noisy": "noisy",
}


def kind(category: str) -> Callable[[Any], Any]:
    """Register a function rng -> Problem as a kind."""

    def decorate(make: Any) -> Any:
        name = make.__name__.replace("_", " ")
        KINDS[name] = Kind(name, category, make)
        return make

    return decorate


# What the kinds are drawn with


def count(rng: np.random.Generator, least: int = 1, most: int = 30) -> int:
    return int(rng.integers(least, most + 1))


def some(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape)


def signs(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.choice([-1.0, 1.0], shape)


def power(rng: np.random.Generator, least: float, most: float, *shape: int) -> Any:
    """10 to a uniformly drawn power."""
    return 10.0 ** rng.uniform(least, most, shape or None)


# Where several gradients are right


def relative(found: Gradients, right: Gradients) -> float:
    """The largest error of an entry, relative to that entry."""
    worst = 0.0
    for f, r in zip(found, right, strict=True):
        off = np.abs(f - r)
        with np.errstate(all="ignore"):
            errors = np.where(off > 0, off / np.abs(r), 0.0)
        worst = max(worst, np.nanmax(errors, initial=0.0))
    return float(worst)


def between(low: Any, high: Any) -> Callable[[Gradients, np.ndarray], float]:
    """The excess of a pointwise function whose slope is anything from `low` to `high`."""

    def excess(found: Gradients, g: np.ndarray) -> float:
        ends = np.sort([g * low, g * high], axis=0)
        off = np.maximum(np.maximum(ends[0] - found[0], found[0] - ends[1]), 0.0)
        size = np.abs(ends).max(0)
        with np.errstate(all="ignore"):
            return float(np.max(np.where(off > 0, off / size, 0.0), initial=0.0))

    return excess


def slopes(low: Any, high: Any, chosen: Any) -> tuple[Callable[..., Any], Any]:
    """The vjp with a `chosen` share of the way between two slopes, and its excess."""
    slope = low + chosen * (np.asarray(high) - low)
    return (lambda x, g: g * slope), between(low, high)
