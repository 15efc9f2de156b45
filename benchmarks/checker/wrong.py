"""Wrong rules, made systematically for any op: its call with another way back.

A rule is `rule(case, xs, gs) -> gradients`, on arrays or, for derivatives of any order, on Tensors.
A kind of mutant is a function `case -> rule, or None where it does not apply`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import tinygrad_rnn as tg

Rule = Callable[[Any, list[Any], Any], list[Any]]


def right(case: Any, xs: list[Any], gs: Any) -> list[Any]:
    """The right gradients: arrays from arrays, else Tensors."""
    found = tg.func.vjp(case, *xs)[1](tuple(gs))
    return list(found) if _recorded(xs, gs) else [d.numpy() for d in found]


def _recorded(xs: list[Any], gs: Any) -> bool:
    return any(isinstance(v, tg.Tensor) for v in (*xs, *gs))


@tg.primitive(inputs=lambda g, inputs, case, rule: rule(case, list(inputs), g))
def mutated(inputs: tg.Arrays, case: Any, rule: Rule) -> Any:
    return case(*inputs)


@tg.primitive(x=lambda g, factor: g * factor)
def lens(x: tg.Array, factor: float) -> Any:
    """What it is given, with another derivative."""
    return np.array(x)


def outputs(case: Any) -> list[tuple[int, ...]]:
    return [np.shape(v) for v in case(*case.arrays)]


# First order


def scaled(factor: float, only: int | None = None) -> Any:
    def rule(case: Any, xs: list[Any], gs: Any) -> list[Any]:
        found = right(case, xs, gs)
        return [d * factor if only in (None, k) else d for k, d in enumerate(found)]

    return lambda case: rule if only is None or only < len(case.arrays) > 1 else None


def one_element(factor: float, last: bool) -> Any:
    """The first or last element of the first or last input."""

    def rule(case: Any, xs: list[Any], gs: Any) -> list[Any]:
        found, k = right(case, xs, gs), -1 if last else 0
        mask = np.ones(case.arrays[k].shape)
        mask.flat[k] = factor
        found[k] = found[k] * mask
        return found

    return lambda case: rule if case.arrays[-1 if last else 0].size > 1 else None


def transposed(case: Any) -> Rule | None:
    def square(a: Any) -> bool:
        return len(a.shape) > 1 and a.shape[-1] == a.shape[-2] > 1

    def rule(case: Any, xs: list[Any], gs: Any) -> list[Any]:
        found = right(case, xs, gs)
        return [tg.swapaxes(d, -1, -2) if square(d) else d for d in found]

    return rule if any(map(square, case.arrays)) else None


def sizes_of_one(factor: float) -> Any:
    """Wrong for the inputs that have an axis of size 1."""

    def rule(case: Any, xs: list[Any], gs: Any) -> list[Any]:
        found = right(case, xs, gs)
        pairs = zip(found, case.arrays, strict=True)
        return [d * factor if 1 in a.shape else d for d, a in pairs]

    return lambda case: rule if any(1 in a.shape for a in case.arrays) else None


PRODUCTS = {"matmul", "linear", "dot", "outer", "tensordot", "einsum"}


def broadcasts(case: Any) -> Iterator[tuple[int, tuple[int, ...]]]:
    """(input, axes of the result along which its gradient is a sum)."""
    name, full = case.row.name.split()[0], outputs(case)[0]
    if name in PRODUCTS:
        axes = [a for a, n in enumerate(full) if n > 1]
        yield from [(0, (axes[-1],)), (len(case.arrays) - 1, (axes[0],))] if axes else []
    elif name == "spanned":
        yield 0, _reduced(case, full)
    elif case.row.pointwise or name == "broadcast_to":
        for k, a in enumerate(case.arrays):
            padded = (1,) * (len(full) - a.ndim) + a.shape
            yield k, tuple(i for i, n in enumerate(full) if n > 1 and padded[i] == 1)


def _reduced(case: Any, full: tuple[int, ...]) -> tuple[int, ...]:
    axis = case.meta["axis"]
    chosen = range(len(full)) if axis is None else np.atleast_1d(np.array(axis, int))
    return tuple(int(a) % len(full) for a in chosen if full[a] > 1)


def missing_sum(mean: bool) -> Any:
    """Of a sum over an axis, one slice is kept, or the mean taken."""

    def build(case: Any) -> Rule | None:
        found = [(k, axes) for k, axes in broadcasts(case) if axes]
        if not found:
            return None
        k, axes = found[-1]
        full = outputs(case)[0]
        mask = np.zeros(full)
        mask[tuple(0 if a in axes else slice(None) for a in range(len(full)))] = 1.0
        share = 1.0 / math.prod(full[a] for a in axes)

        def rule(case: Any, xs: list[Any], gs: Any) -> list[Any]:
            found = right(case, xs, gs)
            found[k] = found[k] * share if mean else right(case, xs, (gs[0] * mask,))[k]
            return found

        return rule

    return build


def dropped_part(case: Any) -> Rule | None:
    """What comes back from the last slice of the result, or the last of several, is left out."""
    shapes = outputs(case)
    masks = [np.ones(s) for s in shapes]
    if len(shapes) > 1:
        masks[-1][...] = 0.0
    else:
        axes = [a for a, n in enumerate(shapes[0]) if n > 1]
        if not axes:
            return None
        masks[0][(slice(None),) * axes[0] + (-1,)] = 0.0

    def rule(case: Any, xs: list[Any], gs: Any) -> list[Any]:
        return right(case, xs, tuple(g * m for g, m in zip(gs, masks, strict=True)))

    return rule


def dropped_mixing(case: Any) -> Rule | None:
    """Of the Jacobian only the diagonal is kept: the terms that mix elements are left out."""
    shapes, a = outputs(case), case.arrays[0]
    if case.row.pointwise or len(case.arrays) > 1 or shapes != [a.shape] or not 1 < a.size <= 12:
        return None
    basis = np.eye(a.size).reshape(a.size, *a.shape)

    def rule(case: Any, xs: list[Any], gs: Any) -> list[Any]:
        parts = [right(case, xs, (gs[0] * e,))[0] * e for e in basis]
        return [sum(parts[1:], parts[0])]

    return rule


# Second order: right gradients whose own derivative is wrong


def refracted(factor: float) -> Any:
    def rule(case: Any, xs: list[Any], gs: Any) -> list[Any]:
        found = right(case, xs, gs)
        return [lens(d, factor) for d in found] if _recorded(xs, gs) else found

    return lambda case: rule


def _cut(value: Any) -> Any:
    return value.detach() if isinstance(value, tg.Tensor) else value


def detached(inputs: bool, only: int | None = None) -> Any:
    """The rule takes what it saved, or its cotangent, for a constant."""

    def rule(case: Any, xs: list[Any], gs: Any) -> list[Any]:
        if inputs:
            cut = [_cut(x) if only in (None, k) else x for k, x in enumerate(xs)]
            return right(case, cut, gs)
        return right(case, xs, tuple(map(_cut, gs)))

    return lambda case: rule if only is None or only < len(case.arrays) > 1 else None


# Writing to what belongs to others


def scribble(a: np.ndarray, little: bool) -> None:
    if not a.flags.writeable:
        a.flags.writeable = True
    if little:
        a.flat[-1] += 1e-3 * (abs(a.flat[-1]) or 1.0)
    else:
        a *= 1.5
        a += 1.25


@tg.primitive(inputs=lambda g, inputs, case, when, little: _written(g, inputs, case, when, little))
def writing(inputs: tg.Arrays, case: Any, when: str, little: bool) -> Any:
    found = tuple(np.array(v) for v in case(*inputs))
    if when == "forward" and inputs[-1].size:
        scribble(inputs[-1], little)
    return found


def _written(g: Any, inputs: Any, case: Any, when: str, little: bool) -> list[Any]:
    found = right(case, [_copied(x) for x in inputs], g)
    if when == "backward" and isinstance(inputs[-1], np.ndarray) and inputs[-1].size:
        scribble(inputs[-1], little)
    return found


def _copied(x: Any) -> Any:
    return x.copy() if isinstance(x, np.ndarray) else x
