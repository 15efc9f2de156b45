"""What a round of a measurement has found."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable

from tests.ops.drawing import cases

SHOWN = 3  # failures that are told of each line


@dataclass
class Outcome:
    """So many trials, what was wrong in each that failed, and the worst error where it counts."""

    what: str
    trials: int = 0
    failures: int = 0
    shown: list[str] = field(default_factory=list)
    worst: float | None = None

    def trial(self, wrong: str | None = None) -> None:
        self.many(1, [wrong] if wrong else [])

    def many(self, trials: int, wrong: list[str]) -> None:
        self.trials += trials
        self.failures += len(wrong)
        self.shown += wrong[: SHOWN - len(self.shown)]

    def join(self, other: Outcome) -> None:
        self.trials += other.trials
        self.failures += other.failures
        self.shown = (self.shown + other.shown)[:SHOWN]
        if other.worst is not None:
            self.worst = max(other.worst, self.worst or 0.0)


Round = Callable[[np.random.Generator], Iterator[Outcome]]


def drawn(row: Any, count: int, rng: np.random.Generator) -> list[Any]:
    """Cases of a row of the table of ops, drawn as its property tests draw them."""
    found: list[Any] = []

    @seed(int(rng.integers(2**32)))
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases(row))
    def keep(case: Any) -> None:
        found.append(case)

    with contextlib.suppress(Unsatisfiable):
        keep()
    return found
