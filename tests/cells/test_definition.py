"""Compiled cells are their definitions: values, gradients, their gradients, NaN and infinity."""

import numpy as np
import pytest

import tinygrad_rnn as tg
from tests.cells.runs import arrays, close, informative, made, spread, widths
from tests.cells.table import CELLS
from tinygrad_rnn.cell import Cell
from tinygrad_rnn.nn import cells
from tinygrad_rnn.testing import gradcheck

ALL = pytest.mark.parametrize("name", CELLS)
DTYPES = pytest.mark.parametrize("dtype", ("float64", "float32"))


def both(run, call=None):
    """What a run gives compiled, and by its definition."""
    call = call or type(run).results
    found = call(run)
    with tg.definitions():
        return found, call(run)


def test_every_cell_of_the_library_has_a_row():
    known = {row.step for row in CELLS.values()}
    assert {v.step for v in vars(cells).values() if isinstance(v, Cell)} <= known


@ALL
@DTYPES
def test_values_and_gradients(name, dtype):
    run = made(name, dtype=dtype)
    close(run, *both(run))
    assert all(v is not None for v in run.cell._compiled.values())


def zeroed(output, inputs):
    """The gradients, zero where there is none."""
    found = tg.grad(output, inputs, allow_unused=True)
    return arrays(np.zeros(v.shape) if g is None else g for g, v in zip(found, inputs, strict=True))


SIZES = [
    {"steps": 1},
    {"batch": 1},
    {"i": 1},
    {"h": 1},
    {"i": 1, "h": 1, "steps": 1, "batch": 1},
    {"h": 17, "i": 16},
    {"h": 33, "i": 9, "batch": 7},
]


@ALL
def test_sizes(name):
    for k, sizes in enumerate(SIZES):
        run = made(name, **sizes, seed=k)._replace(smooth=False)
        close(run, *both(run), spread(run))


@pytest.mark.slow
@ALL
@DTYPES
def test_all_tails(name, dtype):
    for h in range(1, 36):
        run = made(name, i=h % 7 + 1, h=h, batch=h % 5 + 1, dtype=dtype, seed=h)
        close(run._replace(smooth=False), *both(run), spread(run))


@ALL
def test_several_blocks_of_rows(name):
    run = made(name, steps=130, batch=5)
    close(run, *both(run))


@ALL
def test_gradients_of_gradients(name):
    run = made(name, steps=3, batch=2)

    def second(run):
        leaves = run.tensors()
        values = run.scan(*leaves)
        first = run.gradients(values, leaves, create_graph=True)
        total = sum((g * g).sum() for g in first)
        return zeroed(total, [v for v in leaves if v.requires_grad])

    found, expected = both(run, second)
    close(run._replace(smooth=False), found, expected)
    assert name == "plain" or any(g.any() for g in found)


@ALL
def test_forward_derivatives(name):
    run = made(name, steps=3, batch=2)
    rng = np.random.default_rng(1)
    tangents = [rng.standard_normal(a.shape) for a in run.leaves]

    def pushed(run):
        values, moved = tg.func.jvp(run.scan, run.leaves, tangents)
        return arrays([*values, *moved])

    close(run, *both(run, pushed))


@ALL
def test_any_inputs_may_want_gradients(name):
    run, rng = made(name, steps=3), np.random.default_rng(2)
    whole = run.results()
    values = len(run.cotangents)
    gradients = iter(whole[values:])
    of = [next(gradients) if n else None for n in run.needs]
    everyone = np.eye(len(of), dtype=bool)
    for needs in (*everyone, *~everyone, rng.random(len(of)) < 0.5):
        needs = tuple(bool(n) and m for n, m in zip(needs, run.needs, strict=True))
        if any(needs):
            some = run._replace(needs=needs).results()
            close(run, some, whole[:values] + [g for g, n in zip(of, needs, strict=True) if n])


@ALL
def test_gradcheck(name):
    run = made(name, i=2, h=3, steps=2, batch=2)
    live = [k for k, n in enumerate(run.needs) if n]

    def function(*given):
        leaves = list(map(tg.Tensor, run.leaves))
        for k, v in zip(live, given, strict=True):
            leaves[k] = v
        return run.scan(*leaves)

    assert gradcheck(function, [run.leaves[k] for k in live], modes="vjp", rng=0)


@ALL
@DTYPES
def test_nan_and_infinity_go_where_they_go_in_the_definition(name, dtype):
    run = made(name, dtype=dtype)
    with np.errstate(all="ignore"):
        for k, leaf in enumerate(run.leaves):
            for poison in (np.nan, np.inf):
                leaves = list(run.leaves)
                leaves[k] = leaf.copy()
                leaves[k].flat[leaf.size // 2] = poison
                found, expected = both(run.with_leaves(leaves))
                for n, (f, e) in enumerate(zip(found, expected, strict=True)):
                    assert np.array_equal(np.isnan(f), np.isnan(e)), (k, poison, n)
                    infinite = (np.where(np.isinf(v), v, 0.0) for v in (f, e))
                    assert np.array_equal(*infinite), (k, poison, n)


@ALL
def test_input_computed_from_another_is_counted_once(name):
    """The trap: a state that is computed from x."""
    run = made(name)
    first = len(widths(run.sizes.xs))

    def trap(run):
        leaves = run.tensors()
        x, state = leaves[0], leaves[first]
        derived = leaves[first] = state * (1.0 + x.sum())
        values = run.scan(*leaves)
        found = tg.grad(values, [x, derived], list(run.cotangents), create_graph=True)
        return arrays(found) + zeroed((found[0] * found[0]).sum(), [x, state])

    found, expected = both(run, trap)
    close(run._replace(smooth=False), found, expected)
    informative(found[:2])
