"""NaN and infinity are passed on, named and heeded; writes to saved arrays are noticed."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import tinygrad_rnn as tg
from benchmarks.reliable.outcome import Outcome, drawn
from tests.cells.runs import made
from tests.cells.table import CELLS
from tests.ops.table import ROWS
from tests.ops.test_laws import reading

ROW_COUNT, CASES, CELL_COUNT = 12, 4, 6  # a round
HERE = re.escape(Path(__file__).name)


def some(rng: np.random.Generator, values: Sequence[Any], count: int) -> list[Any]:
    return [values[k] for k in rng.choice(len(values), min(count, len(values)), replace=False)]


# NaN


def unread(case: Any, k: int, place: Any, dtype: type) -> str | None:
    """Which results read a NaN and are none."""
    given = [a.astype(dtype) for a in case.arrays]
    given[k][place] = np.nan
    exact = [a.copy() for a in case.arrays]
    exact[k][place] = np.nan
    results = [v.numpy() for v in case(*map(tg.Tensor, given))]
    for result, reads in zip(results, reading(case, exact, k, place), strict=True):
        if not np.isnan(result)[reads].all():
            return f"{case.row} {case.meta}: input {k} at {place}, {np.dtype(dtype)}"
    return None


def nan_in_ops(rng: np.random.Generator) -> Outcome:
    found = Outcome("NaN at a position of an op's input")
    rows = [r for r in ROWS if r.order and r.nan]
    for row in some(rng, rows, ROW_COUNT):
        for case in drawn(row, CASES, rng):
            for k, a in enumerate(case.arrays):
                for place in np.ndindex(a.shape):
                    with np.errstate(all="ignore"):
                        found.trial(unread(case, k, place, rng.choice([np.float32, np.float64])))
    return found


def nan_in_cells(rng: np.random.Generator) -> Outcome:
    """Values and gradients of compiled cells are NaN where the definition's are."""
    found = Outcome("NaN or infinity at a position of a cell's input")
    for name in some(rng, list(CELLS), CELL_COUNT):
        run = made(name, dtype=str(rng.choice(["float32", "float64"])), seed=int(rng.integers(99)))
        for k, leaf in enumerate(run.leaves):
            for at in rng.choice(leaf.size, min(4, leaf.size), replace=False):
                bad = rng.choice([np.nan, np.inf, -np.inf], p=(0.6, 0.2, 0.2))
                changed = [a.copy() for a in run.leaves]
                changed[k].flat[at] = bad
                poisoned = run.with_leaves(changed)
                with np.errstate(all="ignore"):
                    got = poisoned.results()
                    with tg.definitions():
                        want = poisoned.results()
                same = all(
                    np.array_equal(np.isnan(g), np.isnan(w)) for g, w in zip(got, want, strict=True)
                )
                found.trial(None if same else f"{name}: leaf {k} at {at} is {bad}")
    return found


def guards(rng: np.random.Generator) -> Iterator[Outcome]:
    """The norm of gradients is not finite, and anomaly mode names op, place and line."""
    norm, anomaly = Outcome("NaN or infinity in a gradient that is clipped"), Outcome("anomalies")
    for _ in range(50):
        shape = tuple(int(n) for n in rng.integers(1, 5, rng.integers(1, 4)))
        bad = rng.choice([np.nan, np.inf, -np.inf])
        parameter = tg.Tensor(rng.standard_normal(shape), requires_grad=True)
        gradient = rng.standard_normal(shape)
        at = tuple(int(rng.integers(n)) for n in shape)
        gradient[at] = bad
        parameter.grad = tg.Tensor(gradient)
        size = tg.optim.clip_grad_norm_([parameter], 1.0)
        norm.trial(None if not np.isfinite(size) else f"{shape} at {at}: {bad}, norm {size}")
        x = tg.Tensor(np.where(np.isnan(gradient) | np.isinf(gradient), -2.0, 1.0))
        try:
            with tg.detect_anomaly():
                tg.tanh(tg.log(x * 1.0))
            anomaly.trial("nothing was said")
        except FloatingPointError as error:
            said = rf"log: nan at index {re.escape(str(at))} .*{HERE}:\d+: tg.tanh"
            anomaly.trial(None if re.match(said, str(error)) else str(error))
    yield norm
    yield anomaly


def numbers(rng: np.random.Generator) -> Iterator[Outcome]:
    yield nan_in_ops(rng)
    yield nan_in_cells(rng)
    yield from guards(rng)


# Writes


def alias(a: np.ndarray) -> np.ndarray:
    """The elements of an array that lie side by side, writable, by another way than NumPy's."""
    memory = (ctypes.c_byte * a.nbytes).from_address(a.ctypes.data)
    return np.frombuffer(memory, a.dtype)


def noticed(
    outputs: Sequence[Any], leaves: list[Any], target: np.ndarray, at: int
) -> tuple[bool, str | None]:
    """Whether a change of an element before the backward pass raises, and what is wrong.

    A first backward pass gives the right gradients; the second must raise, or give them again.
    """
    outputs = [v for v in outputs if v.requires_grad]
    gs = [np.ones(v.shape, v.dtype) for v in outputs]
    wanted = [t for t in leaves if t.requires_grad]
    how = {"retain_graph": True, "allow_unused": True}
    before = [None if g is None else g.numpy().copy() for g in tg.grad(outputs, wanted, gs, **how)]
    flat = alias(target)
    kept = flat[at]
    flat[at] = kept + 1 if np.isfinite(kept) else 1
    try:
        after = [None if g is None else g.numpy() for g in tg.grad(outputs, wanted, gs, **how)]
    except RuntimeError as error:
        return True, None if "changed in place" in str(error) else repr(error)
    finally:
        flat[at] = kept
    same = all(
        a is b is None or np.array_equal(a, b, equal_nan=True)
        for a, b in zip(after, before, strict=True)
    )
    return False, None if same else "the gradient changed and nothing was said"


def writes_to(
    name: str, call: Any, leaves: list[Any], rng: np.random.Generator
) -> Iterator[Outcome]:
    """Single elements of inputs and results, between forward and backward."""
    raised, harmless = Outcome("writes that raise"), Outcome("writes that change no gradient")
    with tg.detect_mutation(), np.errstate(all="ignore"):
        outputs = call(*leaves)
        if not any(v.requires_grad for v in outputs):
            return
        memory = [t.numpy() for t in (*leaves, *outputs)]
        for k, target in enumerate(memory):
            if target.size and target.flags.c_contiguous and target.dtype.kind == "f":
                for at in rng.choice(target.size, min(3, target.size), replace=False):
                    said, wrong = noticed(outputs, leaves, target, int(at))
                    found = raised if said else harmless
                    found.trial(f"{name}: array {k} at {at}: {wrong}" if wrong else None)
    yield raised
    yield harmless


def mutations(rng: np.random.Generator) -> Iterator[Outcome]:
    for row in some(rng, [r for r in ROWS if r.order], ROW_COUNT):
        for case in drawn(row, CASES, rng):
            leaves = [tg.Tensor(a, requires_grad=True) for a in case.arrays]
            yield from writes_to(str(row), case, leaves, rng)
    for name in some(rng, list(CELLS), CELL_COUNT // 2):
        run = made(name, seed=int(rng.integers(99)))
        yield from writes_to(name, run.scan, run.tensors(), rng)
