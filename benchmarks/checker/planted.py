"""Errors planted into the vjp of a problem, each of a thousandth or more of some entry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.checker.problem import Problem, relative, signs

LEAST = 0.999e-3  # what counts as an error of a thousandth


def _each(change: Callable[[np.ndarray], np.ndarray]) -> Any:
    return lambda rng, problem: lambda found: [change(d) for d in found]


def _entry(factor: float) -> Any:
    """One entry, drawn at random, times a factor."""

    def make(rng: np.random.Generator, problem: Problem) -> Any:
        k = int(rng.integers(len(problem.arrays)))
        place = int(rng.integers(problem.arrays[k].size))
        mask = np.ones(problem.arrays[k].size)
        mask[place] = factor

        def change(found: list[np.ndarray]) -> list[np.ndarray]:
            return [d * mask.reshape(d.shape) if i == k else d for i, d in enumerate(found)]

        return change

    return make


def _missing(rng: np.random.Generator, problem: Problem) -> Any:
    k = int(rng.integers(len(problem.arrays)))
    if len(problem.arrays) == 1:
        return None
    return lambda found: [np.zeros_like(d) if i == k else d for i, d in enumerate(found)]


def _square(d: np.ndarray) -> bool:
    return d.ndim == 2 and d.shape[0] == d.shape[1] > 1


def _transposed(rng: np.random.Generator, problem: Problem) -> Any:
    if not any(map(_square, problem.arrays)):
        return None
    return lambda found: [d.T if _square(d) else d for d in found]


def _uneven(rng: np.random.Generator, problem: Problem) -> Any:
    """Each entry off by 1 to 3 thousandths of itself, up or down."""
    masks = [1 + signs(rng, *a.shape) * rng.uniform(1e-3, 3e-3, a.shape) for a in problem.arrays]
    return lambda found: [d * m for d, m in zip(found, masks, strict=True)]


ERRORS: dict[str, Any] = {
    "x 1.001": _each(lambda d: d * 1.001),
    "x 1.01": _each(lambda d: d * 1.01),
    "x 1.1": _each(lambda d: d * 1.1),
    "sign": _each(lambda d: -d),
    "zero": _each(np.zeros_like),
    "1-3e-3, random signs": _uneven,
    "one entry x 1.1": _entry(1.1),
    "one entry x -1": _entry(-1.0),
    "one input missing": _missing,
    "in reverse order": _each(lambda d: np.ascontiguousarray(d.ravel()[::-1]).reshape(d.shape)),
    "transposed": _transposed,
}


def weight(found: Any, right: Any, arrays: Any) -> float:
    """How large the error is beside the whole gradient, each entry times its input's own size."""
    triples = list(zip(found, right, [np.abs(a) for a in arrays], strict=True))
    whole = max(np.max(np.abs(r) * a, initial=0.0) for _, r, a in triples)
    off = max(np.max(np.abs(f - r) * a, initial=0.0) for f, r, a in triples)
    return float(off / whole) if whole else 1.0


def planted(
    name: str, problem: Problem, rng: np.random.Generator
) -> tuple[Problem, float] | tuple[None, float]:
    """The problem with an error, and its weight.

    None where the error changes nothing, or what it gives is right as well.
    """
    change = ERRORS[name](rng, problem)
    if change is None or not problem.judged:
        return None, 0.0

    def vjp(*args: Any) -> tuple[np.ndarray, ...]:
        *arrays, g = args
        return tuple(change(problem.gradients(arrays, g)))

    wrong = problem._replace(vjp=vjp)
    with np.errstate(all="ignore"):
        shape = np.shape(problem.f(*problem.arrays))
        g = signs(rng, *shape) * rng.uniform(0.5, 1, shape)
        right, found = (p.gradients(problem.arrays, g) for p in (problem, wrong))
        excess = problem.excess
        size = relative(found, right) if excess is None else excess(found, g)
    return (wrong, weight(found, right, problem.arrays)) if size >= LEAST else (None, 0.0)
