"""Results that nobody uses have no part in the gradient."""

import numpy as np
import pytest

import tinygrad_rnn as tg
from tests.cells.runs import arrays, close, informative, made, spread
from tests.cells.table import CELLS
from tinygrad_rnn.cell import Cell


def gradients(run, used, **options):
    """Those of the leaves, of the results that are used."""
    leaves = run.tensors()
    values = run.scan(*leaves, **options)
    pairs = [(v, g) for v, g, use in zip(values, run.cotangents, used, strict=True) if use]
    wanted = [v for v in leaves if v.requires_grad]
    return tg.grad([v for v, _ in pairs], wanted, [g for _, g in pairs], allow_unused=True)


@pytest.mark.parametrize("name", ("lstm", "lstm_normalised", "readout", "unchanged", "blocks"))
def test_the_last_state_alone(name):
    run = made(name)._replace(cell=tg.cell(CELLS[name].step))
    used = [False, *[True] * (len(run.cotangents) - 1)]
    for lengths in (None, [4, 0, 2]):
        found = gradients(run, used, lengths=lengths)
        with tg.definitions():
            expected = gradients(run, used, lengths=lengths)
        assert [d is None for d in found] == [d is None for d in expected]
        there = [(f, e) for f, e in zip(found, expected, strict=True) if f is not None]
        found, expected = (arrays(group) for group in zip(*there, strict=True))
        close(run, found, expected, [max(spread(run))] * len(found))
        informative(expected)
    (made_of,) = run.cell._compiled.values()
    assert run.cell.back(made_of, tuple(used)) is not made_of
    assert run.cell.back(made_of, (True, *[False] * (len(used) - 1))) is made_of


def scored(x, state, w, u):
    """An output and a sum over time whose derivatives are not finite at 0."""
    h, total = state
    h = tg.tanh(tg.linear(h, w) + tg.linear(x, u))
    return tg.log(x) + h, (h, total + tg.sqrt(x))


@pytest.mark.parametrize(
    "used", [(0, 1, 0), (1, 1, 0), (0, 1, 1)], ids=("h alone", "no sum", "no output")
)
def test_what_nobody_uses_is_not_multiplied_by_zero(used):
    cell, rng = tg.cell(scored), np.random.default_rng(0)
    x = np.abs(rng.standard_normal((4, 2, 3)))
    x[1, 0, 2] = 0.0
    given = [x, *(rng.standard_normal(s) for s in ((2, 3), (2, 3), (3, 3), (3, 3)))]

    def both(fn):
        leaves = [tg.Tensor(a, requires_grad=True) for a in given]
        outputs, (h, total) = tg.scan(fn, leaves[0], tuple(leaves[1:3]), leaves[3:])
        values = [v for v, use in zip((outputs, h, total), used, strict=True) if use]
        found = tg.grad(values, leaves, [tg.ones_like(v) for v in values], allow_unused=True)
        return [None if d is None else d.numpy() for d in found]

    with np.errstate(divide="ignore"):
        found, expected = both(cell), both(scored)
    assert isinstance(cell, Cell) and all(cell._compiled.values())
    for f, e in zip(found, expected, strict=True):
        assert (f is None) == (e is None)
        if f is not None:
            np.testing.assert_allclose(f, e, rtol=1e-10, atol=1e-12)
    assert np.isfinite(found[3]).all() and found[3].any()
