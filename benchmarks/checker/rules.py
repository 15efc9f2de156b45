"""The checkers that are compared, each as a rule that judges a subject.

The rule of `torch.autograd.gradcheck` is stated once more on arrays, with its defaults: the whole
Jacobian by central differences ("slow"), or one product with random vectors that have no negative
entry ("fast"), against an absolute tolerance of 1e-5 and a relative one of 1e-3. Given the same
vectors, both agreed with torch 2.13 itself on all of 1,388 right and wrong gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import tinygrad_rnn as tg
from benchmarks.checker.problem import Problem
from tinygrad_rnn.testing import gradcheck

Arrays = list[np.ndarray]
STEP, ABSOLUTE, RELATIVE = 1e-6, 1e-5, 1e-3


class Verdict(NamedTuple):
    word: str  # 'pass', 'fail', 'unsure', or 'error' for an exception
    text: str = ""
    kinks: bool = False
    resolution: float = np.nan


def checker(fn: Any, arrays: Arrays, seed: int, order: int = 1) -> Verdict:
    """What `gradcheck` says of a function of Tensors, or of a pair."""
    arrays = [a.copy() for a in arrays]
    try:
        with np.errstate(all="ignore"):
            report = gradcheck(fn, arrays, order=order, rng=seed, raise_exception=False)
    except Exception as error:
        return Verdict("error", f"{type(error).__name__}: {error}")
    return Verdict(report.verdict, str(report), bool(report.kinks), float(report.resolution))


# Subjects: what the other rules need


class Subject(NamedTuple):
    values: Callable[[Arrays], Arrays]
    pull: Callable[[Arrays, Arrays], Arrays]


def of_pair(problem: Problem) -> Subject:
    return Subject(
        lambda arrays: [np.asarray(problem.f(*arrays))],
        lambda arrays, gs: problem.gradients(arrays, gs[0]),
    )


def _arrays(tensors: Any) -> Arrays:
    return [t.numpy() if isinstance(t, tg.Tensor) else np.asarray(t) for t in tensors]


def of_tensors(fn: Callable[..., Any], order: int, arrays: Arrays, rng: Any) -> tuple[Any, Arrays]:
    """A function of Tensors, or at order 2 its pullback, and where to check that."""

    def several(*xs: Any) -> tuple[Any, ...]:
        found = fn(*xs)
        return tuple(found) if isinstance(found, (tuple, list)) else (found,)

    count = len(arrays)

    def pulled(*args: Any) -> tuple[Any, ...]:
        return tuple(tg.func.vjp(several, *args[:count])[1](args[count:]))

    subject = several if order == 1 else pulled

    def values(xs: Arrays) -> Arrays:
        return _arrays(subject(*map(tg.Tensor, xs)))

    def pull(xs: Arrays, gs: Arrays) -> Arrays:
        return _arrays(tg.func.vjp(subject, *xs)[1](tuple(map(tg.Tensor, gs))))

    arrays = [a.copy() for a in arrays]
    if order == 2:
        shapes = [v.shape for v in _arrays(several(*map(tg.Tensor, arrays)))]
        arrays += [rng.standard_normal(s) for s in shapes]
    return Subject(values, pull), arrays


# The rule of torch


def _close(analytic: Any, numeric: Any, absolute: float = ABSOLUTE) -> bool:
    with np.errstate(all="ignore"):
        return bool(np.all(np.abs(analytic - numeric) <= absolute + RELATIVE * np.abs(numeric)))


def _difference(subject: Subject, arrays: Arrays, k: int, step: np.ndarray) -> Arrays:
    up, down = (
        subject.values([a + s * step if i == k else a for i, a in enumerate(arrays)])
        for s in (1, -1)
    )
    return [(u - d) / (2 * STEP) for u, d in zip(up, down, strict=True)]


def _rows(subject: Subject, arrays: Arrays, shapes: list[Any], j: int) -> list[np.ndarray]:
    """The Jacobian of output j with respect to each input, by one pull per element."""
    rows = []
    for place in np.ndindex(shapes[j]):
        gs = [np.zeros(s) for s in shapes]
        gs[j][place] = 1.0
        first, again = subject.pull(arrays, gs), subject.pull(arrays, gs)
        if not all(map(np.array_equal, first, again)):
            return []
        rows.append([d.ravel() for d in first])
    return [np.array([r[k] for r in rows]) for k in range(len(arrays))]


def torch_slow(subject: Subject, arrays: Arrays) -> bool:
    """Whether the whole Jacobian is close to its central differences."""
    shapes = [v.shape for v in subject.values(arrays)]
    numeric: list[list[Arrays]] = []
    for k, a in enumerate(arrays):
        columns = []
        for place in np.ndindex(a.shape):
            step = np.zeros(a.shape)
            step[place] = STEP
            columns.append([d.ravel() for d in _difference(subject, arrays, k, step)])
        numeric.append(columns)
    for j, shape in enumerate(shapes):
        if not np.prod(shape, dtype=int):
            continue
        rows = _rows(subject, arrays, shapes, j)
        if not rows:
            return False
        for k, columns in enumerate(numeric):
            if columns and not _close(rows[k], np.stack([c[j] for c in columns], 1)):
                return False
    return True


def _unit(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """A vector of length 1 without negative entries."""
    found = rng.random(shape)
    return found / (np.linalg.norm(found) or 1.0)


def torch_fast(subject: Subject, arrays: Arrays, rng: np.random.Generator) -> bool:
    """Whether vᵀJu is close to its central difference, for each input and output."""
    shapes = [v.shape for v in subject.values(arrays)]
    us, vs = ([_unit(rng, s) for s in group] for group in ([a.shape for a in arrays], shapes))
    numeric = [_difference(subject, arrays, k, STEP * u) for k, u in enumerate(us)]
    for j, v in enumerate(vs):
        gs = [v if i == j else np.zeros(s) for i, s in enumerate(shapes)]
        for k, d in enumerate(subject.pull(arrays, gs)):
            tolerance = ABSOLUTE * float(us[k].sum()) * float(v.sum())
            if not _close(np.sum(d * us[k]), np.sum(v * numeric[k][j]), tolerance):
                return False
    return True


def judged(rule: Callable[..., bool], *args: Any) -> str:
    """'pass' or 'fail': an exception fails as well."""
    try:
        with np.errstate(all="ignore"):
            return "pass" if rule(*args) else "fail"
    except Exception:
        return "fail"
