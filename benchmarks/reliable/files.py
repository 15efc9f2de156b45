"""Damaged, forged and wrong files: a declared error or the very same data, and nothing changed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.reliable.outcome import Outcome
from tests import test_damaged as law
from tests.test_saving import damage

CHECKPOINTS, FILES = 5, 400  # a round; files made of each
KINDS: dict[str, Callable[[Path, np.random.Generator], Iterator[str | None]]] = {
    "checkpoints with damaged bytes": lambda p, rng: law.damaged_faults(p, rng, damage, FILES),
    "checkpoints with another header": (
        lambda p, rng: law.damaged_faults(p, rng, law.new_header, FILES)
    ),
    "forged checkpoints, with right checksums": lambda p, rng: law.forged_faults(p, rng, FILES),
    "other tools' files, damaged, for a model": lambda p, rng: law.foreign_faults(p, rng, FILES),
    "wrong states, for a model and an optimiser": (
        lambda _, rng: law.wrong_state_faults(rng, FILES)
    ),
}


def round(rng: np.random.Generator) -> Iterator[Outcome]:
    with tempfile.TemporaryDirectory() as name:
        for kind, faults in KINDS.items():
            found = Outcome(kind)
            for _ in range(CHECKPOINTS):
                for wrong in faults(Path(name) / "a.safetensors", rng):
                    found.trial(wrong)
            yield found
