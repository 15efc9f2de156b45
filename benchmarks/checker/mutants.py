"""The mutants that are made of every op, and where each of them is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import tinygrad_rnn as tg
from benchmarks.checker.wrong import (
    Rule,
    detached,
    dropped_mixing,
    dropped_part,
    missing_sum,
    mutated,
    one_element,
    outputs,
    refracted,
    right,
    scaled,
    sizes_of_one,
    transposed,
    writing,
)


class Mutant(NamedTuple):
    kind: str
    which: str
    build: Callable[[Any], Rule | None]
    order: int = 1
    everywhere: bool = False  # each element is wrong by a thousandth or more
    writes: dict[str, Any] | None = None  # no wrong rule: writes to an input


MUTANTS = (
    Mutant("scaled by 1.001", "all inputs", scaled(1.001), everywhere=True),
    Mutant("scaled by 1.001", "first input", scaled(1.001, 0)),
    Mutant("scaled by 1.001", "second input", scaled(1.001, 1)),
    Mutant("sign", "all inputs", scaled(-1.0), everywhere=True),
    Mutant("sign", "first input", scaled(-1.0, 0)),
    Mutant("sign", "second input", scaled(-1.0, 1)),
    Mutant("missing broadcast sum", "one slice", missing_sum(mean=False)),
    Mutant("missing broadcast sum", "mean", missing_sum(mean=True)),
    Mutant("dropped term", "whole gradient", scaled(0.0), everywhere=True),
    Mutant("dropped term", "first input", scaled(0.0, 0)),
    Mutant("dropped term", "second input", scaled(0.0, 1)),
    Mutant("dropped term", "part of the result", dropped_part),
    Mutant("dropped term", "all that mixes elements", dropped_mixing),
    Mutant("transposed", "", transposed),
    Mutant("one element", "10 %, the first", one_element(1.1, last=False)),
    Mutant("one element", "10 %, the last", one_element(1.1, last=True)),
    Mutant("one element", "0.1 %, the last", one_element(1.001, last=True)),
    Mutant("axes of size 1", "doubled", sizes_of_one(2.0)),
    Mutant("axes of size 1", "0.1 %", sizes_of_one(1.001)),
    Mutant("second order", "scaled by 1.001", refracted(1.001), 2, everywhere=True),
    Mutant("second order", "sign", refracted(-1.0), 2, everywhere=True),
    Mutant("second order", "inputs constant", detached(inputs=True), 2),
    Mutant("second order", "first input constant", detached(inputs=True, only=0), 2),
    Mutant("second order", "cotangent constant", detached(inputs=False), 2),
    Mutant("writes to its input", "forward", right, writes={"when": "forward", "little": False}),
    Mutant("writes to its input", "forward, 0.1 % of one element", right,
           writes={"when": "forward", "little": True}),
    Mutant("writes to its input", "backward", right, writes={"when": "backward", "little": False}),
)  # fmt: skip


def applied(mutant: Mutant, case: Any) -> tuple[Callable[..., Any], Rule] | None:
    """The case's function with a mutant's rule, and that rule; None where it does not apply."""
    if mutant.writes:
        if not case.arrays[-1].size:
            return None
        return (lambda *xs: writing(list(xs), case, **mutant.writes)), right
    rule = mutant.build(case)
    return None if rule is None else ((lambda *xs: mutated(list(xs), case, rule)), rule)


def is_wrong(case: Any, rule: Rule, order: int) -> bool:
    """Whether the derivative is wrong here: some element by more than rounding."""
    rng, arrays = case.rng(), [a.copy() for a in case.arrays]
    gs = [rng.choice([-1.0, 1.0], s) * rng.uniform(0.5, 1.0, s) for s in outputs(case)]
    found, expected = (_derivative(case, r, order, arrays, gs) for r in (rule, right))
    least = 1e-13 * max((np.abs(e).max(initial=0.0) for e in expected), default=0.0)
    return any(
        np.any(np.abs(f - e) > np.maximum(1e-6 * np.abs(e), least))
        for f, e in zip(found, expected, strict=True)
    )


def _derivative(case: Any, rule: Rule, order: int, arrays: list[Any], gs: list[Any]) -> list[Any]:
    if order == 1:
        return [np.asarray(d) for d in rule(case, arrays, gs)]
    count = len(arrays)

    def pulled(*args: Any) -> Any:
        return tuple(rule(case, list(args[:count]), args[count:]))

    ws = tuple(np.random.default_rng(0).uniform(0.5, 1.0, a.shape) for a in arrays)
    return [d.numpy() for d in tg.func.vjp(pulled, *arrays, *gs)[1](tuple(map(tg.Tensor, ws)))]
