"""A training of 50,000 steps, ended again and again and resumed: the same losses, bit for bit."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.reliable.outcome import Outcome
from tests.resuming import CALLS, ROOT, losses, run
from tinygrad_rnn import saving

STEPS, EVERY, GAP = 50_000, 500, 4_000  # at most GAP steps until a training is ended
KINDS = ("stop", "kill", *map(str, range(len(CALLS))), "moment")


def reached(folder: Path) -> int:
    """The step of the checkpoint."""
    path = folder / "a.safetensors"
    return int(saving.load(path)[1]["step"]) if path.exists() else 0


def killed(folder: Path, seconds: float) -> int:
    """A training that is killed after so many seconds, wherever it is; how it ended."""
    command = [sys.executable, "-m", "tests.resuming", str(folder), str(STEPS), str(EVERY)]
    with subprocess.Popen([*command, "-1", "0"], cwd=ROOT) as process:
        time.sleep(seconds)
        process.kill()
    return process.returncode


def ended(folder: Path, rng: np.random.Generator, found: Outcome) -> None:
    """One process of the training, which is ended on its way."""
    kind, begun = str(rng.choice(KINDS)), reached(folder)
    if kind == "moment":
        found.trial(None if killed(folder, rng.uniform(0.2, 3.0)) in (0, -9) else "a crash")
        return
    at = begun + int(rng.integers(GAP))
    process = run(folder, STEPS, EVERY, at, kind)
    expected = 0 if kind == "stop" or at >= STEPS else -9
    wrong = f"{kind} at step {at}: status {process.returncode}, {process.stderr[-300:]}"
    found.trial(None if process.returncode == expected else wrong)


def differences(plain: Path, broken: Path) -> Outcome:
    """All losses of all processes beside those of the training that nobody ended."""
    found = Outcome(f"losses of a training of {STEPS:,} steps that is resumed")
    expected, got = losses(plain), losses(broken)
    wrong = [
        f"step {step}: {loss}, not {expected['loss'][step]}"
        for step, loss in got
        if loss != expected["loss"][step]
    ]
    found.many(len(got), wrong)
    missing = set(range(STEPS)) - set(got["step"].tolist())
    found.trial(f"{len(missing)} steps missing" if missing or len(expected) != STEPS else None)
    return found


def same_end(plain: Path, broken: Path) -> Outcome:
    found = Outcome("arrays of its checkpoint in the end")
    (arrays, state), (expected, wanted) = (
        saving.load(f / "a.safetensors") for f in (broken, plain)
    )
    found.trial(None if state == wanted and arrays.keys() == expected.keys() else "another state")
    for name, array in expected.items():
        found.trial(None if arrays[name].tobytes() == array.tobytes() else name)
    return found


def round(rng: np.random.Generator) -> Iterator[Outcome]:
    with tempfile.TemporaryDirectory() as name:
        plain, broken = Path(name) / "plain", Path(name) / "broken"
        plain.mkdir()
        broken.mkdir()
        ends = Outcome("trainings stopped or killed, also in the midst of a save")
        while reached(broken) < STEPS:
            ended(broken, rng, ends)
        run(plain, STEPS, EVERY)
        yield ends
        yield differences(plain, broken)
        yield same_end(plain, broken)
