"""Cells with drawn inputs, and what a call of them gives."""

import functools
from typing import Any, NamedTuple

import numpy as np

import tinygrad_rnn as tg
from tests.cells.table import CELLS, Sizes
from tinygrad_rnn.kernels.machine import float_lanes


def widths(given):
    return given if isinstance(given, tuple) else (given,)


class Run(NamedTuple):
    """A cell and what it is given, as arrays; call it to scan."""

    cell: Any
    sizes: Sizes
    leaves: tuple[np.ndarray, ...]  # xs, states, each and params
    needs: tuple[bool, ...]  # which of them get a gradient
    cotangents: tuple[np.ndarray, ...]
    smooth: bool = True

    def scan(self, *leaves, cell=None, **options):
        """(outputs, *last states) of the leaves."""
        s = self.sizes
        groups, start = [], 0
        for n in (len(widths(s.xs)), len(widths(s.states)), len(s.each), len(s.params)):
            groups.append(tuple(leaves[start : start + n]))
            start += n
        xs, states, each, params = groups
        xs = xs if isinstance(s.xs, tuple) else xs[0]
        states = states if isinstance(s.states, tuple) else states[0]
        outputs, last = tg.scan(cell or self.cell, xs, states, params, each=each, **options)
        return outputs, *(last if isinstance(last, tuple) else (last,))

    def tensors(self, needs=None):
        needs = self.needs if needs is None else needs
        return [tg.Tensor(a, requires_grad=n) for a, n in zip(self.leaves, needs, strict=True)]

    def results(self, **options):
        """The values, then the gradients, as arrays."""
        leaves = self.tensors()
        values = self.scan(*leaves, **options)
        return arrays([*values, *self.gradients(values, leaves)])

    def gradients(self, values, leaves, **options):
        found = [(v, g) for v, g in zip(values, self.cotangents, strict=True) if v.requires_grad]
        wanted = [v for v in leaves if v.requires_grad]
        return tg.grad([v for v, _ in found], wanted, [g for _, g in found], **options)

    def with_leaves(self, leaves):
        return self._replace(leaves=tuple(leaves))


def arrays(values):
    return [np.array(v) for v in values]


@functools.cache
def cell_of(name, lanes):
    """One cell for each row of the table and each width of vectors."""
    return tg.cell(CELLS[name].step)


def made(name, i=3, h=5, steps=4, batch=3, dtype="float64", seed=0):
    """A cell of the table with drawn inputs."""
    run = drawn_run(CELLS[name], i, h, steps, batch, dtype, seed)
    return run._replace(cell=cell_of(name, float_lanes()))


def drawn_run(row, i, h, steps, batch, dtype, seed):
    """A new cell with drawn inputs; matrices are scaled so that errors do not grow over time."""
    rng, s = np.random.default_rng(seed), row.sizes(i, h)
    shapes = [(steps, batch, n) for n in widths(s.xs)]
    shapes += [(batch, n) for n in (*widths(s.states), *s.each)]
    leaves = [rng.standard_normal(shape) for shape in shapes]
    leaves += [rng.standard_normal(p) * 0.5 / np.sqrt(p[-1]) ** (len(p) > 1) for p in s.params]
    for k in s.masks:
        leaves[k] = (leaves[k] > 0).astype(float)
    needs = tuple(k not in s.masks for k in range(len(leaves)))
    leaves = tuple(a.astype(dtype) for a in leaves)
    run = Run(tg.cell(row.step), s, leaves, needs, (), row.smooth)
    with tg.definitions(), tg.no_grad():
        values = run.scan(*map(tg.Tensor, leaves))
    drawn = (rng.standard_normal(v.shape).astype(dtype) for v in values)
    return run._replace(cotangents=tuple(drawn))


def bound(run):
    """What a result may be off, relative to its largest entry: one rounding for each operation on
    the longest way through the equations, there and back."""
    x = run.leaves[0]
    k = sum(a.shape[-1] for a in run.leaves if a.ndim == 2)
    return np.finfo(x.dtype).eps * (2 * len(x) * (x.shape[-1] + k + 20) + x[..., 0].size)


def spread(run):
    """How far the results by the definition move if each input is off by a few roundings: an error
    that none can avoid, and that is large where terms cancel."""
    rng = np.random.default_rng(0)
    eps = np.finfo(run.leaves[0].dtype).eps
    nearby = [a + (8 * eps * a * rng.standard_normal(a.shape)).astype(a.dtype) for a in run.leaves]
    with tg.definitions():
        pairs = zip(run.results(), run.with_leaves(nearby).results(), strict=True)
        return [np.abs(a - b).max() for a, b in pairs]


def close(run, found, expected, spreads=None):
    """Equal but for rounding, and not all zero."""
    for f, e, s in zip(found, expected, spreads or [0.0] * len(found), strict=True):
        assert f.shape == e.shape and f.dtype == e.dtype
        size = np.abs(e).max()
        assert size or not run.smooth
        assert np.abs(f - e).max() <= bound(run) * size + 10 * s


def identical(found, expected):
    for f, e in zip(found, expected, strict=True):
        np.testing.assert_array_equal(f, e, strict=True)


def informative(values):
    assert all(np.any(v) for v in values)
