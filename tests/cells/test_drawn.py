"""The laws of compiled cells for cells drawn at random."""

import itertools

import numpy as np
import pytest

import tinygrad_rnn as tg
from tests.cells.drawing import drawn
from tests.cells.runs import arrays, drawn_run, identical

FAILED = [
    (68, 1),
    (7, 2),
    (43, 2),
    (38, 2),
    (61, 2),
    (77, 2),
    (103, 2),
    (85, 3),
    (128, 3),
    (422, 8),
]


def results(run):
    """Values and gradients; 0 where nothing depends on an input."""
    leaves = run.tensors()
    values = run.scan(*leaves)
    wanted = [v for v in leaves if v.requires_grad]
    if not any(v.requires_grad for v in values):
        return arrays([*values, *(np.zeros(v.shape) for v in wanted)])
    found = run.gradients(values, leaves, allow_unused=True)
    pairs = zip(found, wanted, strict=True)
    return arrays([*values, *(np.zeros(v.shape) if g is None else g for g, v in pairs)])


def by_definition(run):
    with tg.definitions(), np.errstate(all="ignore"):
        return results(run)


def tame(values):
    return all(np.isfinite(v).all() and np.abs(v).max() < 1e6 for v in values)


def check(seed, length, h, steps, *kinds):
    run = drawn_run(drawn(seed, length, *kinds), 3, h, steps, 2, "float64", seed)
    rng, expected = np.random.default_rng(seed), by_definition(run)
    if not tame(expected):
        return
    nearby = [a * (1 + 1e-13 * rng.standard_normal(a.shape)) for a in run.leaves]
    others = by_definition(run.with_leaves(nearby))
    spread = [np.abs(n - e).max() for n, e in zip(others, expected, strict=True)]

    def agree(found, expected, spread):
        for f, e, s in zip(found, expected, spread, strict=True):
            assert np.abs(f - e).max() <= 1e-12 * np.abs(e).max() + 10 * s

    found = results(run)
    agree(found, expected, spread)
    with tg.no_grad():
        identical(arrays(run.scan(*run.tensors())), found[: len(run.cotangents)])
    needs = tuple(bool(n) for n in rng.random(len(run.leaves)) < 0.5)
    kept = [True] * len(run.cotangents) + list(needs)
    expected, spread = (list(itertools.compress(v, kept)) for v in (expected, spread))
    agree(results(run._replace(needs=needs)), expected, spread)


@pytest.mark.parametrize("seed, length", FAILED)
def test_cells_that_failed_once(seed, length):
    for h, steps in ((3, 3), (2, 140)):
        check(seed, length, h, steps, 6)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(0, 150, 25))
def test_many_drawn_cells(seed, tmp_path, monkeypatch):
    monkeypatch.setenv("TINYGRAD_RNN_CACHE", str(tmp_path))  # they are not wanted again
    for k in range(seed, seed + 25):
        for h, steps in ((1, 4), (9, 3), (2, 140)):
            check(k, 12, h, steps)
