"""Kernels write nothing beside their arrays, and ids that are no rows raise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np

import tinygrad_rnn as tg
from benchmarks.reliable.outcome import Outcome
from tests.cells.runs import made
from tests.cells.table import CELLS
from tests.cells.test_bits import Zoned
from tinygrad_rnn.kernels.sequence import recurrence, runner

RUNS, IDS = 12, 300  # a round


def red_zones(rng: np.random.Generator) -> Outcome:
    """A cell of any size between zones of NaN: the zones stay, and nothing of them is read."""
    found = Outcome("runs of cells between red zones")
    before = tg.get_num_threads()
    for _ in range(RUNS):
        name = str(rng.choice(list(CELLS)))
        sizes = {k: int(rng.integers(1, n)) for k, n in
                 {"i": 40, "h": 40, "steps": 8, "batch": 12}.items()}  # fmt: skip
        run = made(name, dtype=str(rng.choice(["float32", "float64"])), **sizes)
        expected = run.results()
        tg.set_num_threads(int(rng.integers(1, 5)))
        zoned = Zoned()
        with mock.patch.object(runner, "WORTH", 0), mock.patch.object(recurrence, "np", zoned):
            got = run.results()
        try:
            zoned.check()
            for g, e in zip(got, expected, strict=True):
                np.testing.assert_array_equal(g, e)
        except AssertionError as error:
            found.trial(f"{name} {sizes}: {str(error)[:100]}")
        else:
            found.trial()
    tg.set_num_threads(before)
    return found


def bad_ids(rng: np.random.Generator, rows: int, low: int) -> np.ndarray:
    """Ids, of which one at least is below `low` or beyond the rows."""
    kind = str(rng.choice(["int8", "int16", "int32", "int64", "uint8", "uint64"]))
    limits, largest = np.iinfo(kind), np.iinfo("int64").max  # NumPy reads larger ones as negative
    beyond = [rows, rows + 1, min(limits.max, largest)]
    beyond += [v for v in (low - 1, limits.min) if v < low]
    beyond = [v for v in beyond if limits.min <= v <= limits.max and not low <= v < rows]
    ids = rng.integers(0, rows, tuple(rng.integers(1, 4, rng.integers(1, 3)))).astype(kind)
    ids.flat[rng.integers(ids.size)] = beyond[int(rng.integers(len(beyond)))]
    return ids


def out_of_range(rng: np.random.Generator) -> Outcome:
    found = Outcome("ids out of range")
    for _ in range(IDS):
        rows = int(rng.integers(1, 100))
        table = tg.Tensor(rng.standard_normal((rows, 3)), requires_grad=True)
        calls: dict[str, tuple[int, Callable[[np.ndarray], Any]]] = {
            "embedding": (0, lambda ids, t=table: tg.embedding(ids, t)),
            "take": (-rows, lambda ids, t=table: tg.take(t, ids, axis=0)),
            "index": (-rows, lambda ids, t=table: t[ids]),
            "cross_entropy": (0, lambda ids, n=rows: tg.nn.cross_entropy(
                tg.zeros(*ids.shape, n), ids, ignore_index=-(2**40))),
        }  # fmt: skip
        for name, (low, call) in calls.items():
            ids = bad_ids(rng, rows, low)
            try:
                call(ids)
                found.trial(f"{name}: {ids.tolist()} of {rows} rows, nothing was said")
            except (IndexError, OverflowError):
                found.trial()
            except Exception as error:
                found.trial(f"{name}: {ids.tolist()}: {error!r}")
    return found


def round(rng: np.random.Generator) -> Iterator[Outcome]:
    yield red_zones(rng)
    yield out_of_range(rng)
