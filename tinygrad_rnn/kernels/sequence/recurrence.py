"""A compiled cell over a whole sequence: the calls of its two programs."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.kernels import threads
from tinygrad_rnn.kernels.gemm import product as gemm
from tinygrad_rnn.kernels.sequence.layout import Ask, Call, Layout, Return, ahead, behind
from tinygrad_rnn.kernels.sequence.lengths import Lengths
from tinygrad_rnn.kernels.sequence.packing import Packing
from tinygrad_rnn.kernels.sequence.program import Buffer, Cell
from tinygrad_rnn.kernels.sequence.runner import Runner, address, ways_for

REMEMBERED = 256  # shapes of calls
_local = threading.local()


class Given(NamedTuple):
    """What a sequence is computed from: xs (T, B, n), states and each (B, n), and parameters.

    The version of a parameter changes when its memory does; it is -1 where nobody can know. Not all
    sequences need to be of T steps.
    """

    xs: Sequence[np.ndarray]
    states: Sequence[np.ndarray]
    each: Sequence[np.ndarray]
    params: Sequence[np.ndarray]
    versions: Sequence[int]
    lengths: np.ndarray | None = None


class Saved(NamedTuple):
    """What a forward pass leaves for the backward pass."""

    call: Call
    layout: Layout
    arrays: list[Any]  # None for those that the backward pass does not need
    given: Given
    lengths: Lengths | None


class Recurrence:
    """The fused forward and backward of a cell."""

    def __init__(self, cell: Cell, name: str, dtype: Any) -> None:
        self.cell, self.name, self.dtype = cell, name, np.dtype(dtype)
        self.ahead = Runner(cell.forward, f"{name}, forward", self.dtype)
        self._packing = Packing(self.ahead.matrices, self.dtype)
        self._layouts: dict[Any, Layout] = {}
        self._returns: dict[Any, Return] = {}

    @functools.cached_property
    def back(self) -> Runner:
        """The backward program, compiled when it is first wanted."""
        return Runner(self.cell.backward, f"{self.name}, backward", self.dtype)

    @functools.cached_property
    def _back_packing(self) -> Packing:
        return Packing(self.back.matrices, self.dtype)

    @functools.cached_property
    def _gradient(self) -> Callable[..., None]:
        return gemm.library(self.dtype).function("gradient", gemm.EXPORTS["gradient"])

    def forward(
        self, given: Given, keep: bool, reverse: bool
    ) -> tuple[tuple[np.ndarray, ...], Saved]:
        """(outputs (T, B, m), *last states (B, n)), and what the backward pass needs if `keep`."""
        xs, states, each, params, versions, several = given
        shape = xs[0].shape
        lengths = None if several is None else Lengths(several, reverse)
        steps, batch = shape[:2]
        starts = states
        if lengths is not None:
            steps, batch, reverse = lengths.steps, len(lengths.items), False
            xs = [lengths.gathered(x) for x in xs]
            starts, each = ([a[lengths.items] for a in group] for group in (states, each))
        fixed = [*each, *(params[p] for p in self.cell.units)]
        arrays: list[Any] = [rows(a) for a in (*xs, *fixed)]
        strides = tuple(a.strides for a in arrays[: len(xs)])
        call = Call(steps, batch, strides, keep, reverse, lengths is not None)
        layout = self._layouts.get(call)
        if layout is None:
            widths = [a.shape[-1] for a in each]
            layout = ahead(self.cell, self.ahead, call, widths, len(self.cell.units))
            remember(self._layouts, call, layout)
        walk = layout.walk if lengths is None else lengths.ahead
        arrays += [np.empty(s.of(call, walk.rows), self.dtype) for s in layout.shapes]
        first, last = (-1, 0) if reverse else (0, -1)
        for k, state in zip(layout.states, starts, strict=True):
            arrays[k][first if arrays[k].ndim == 3 else slice(batch)] = state
        packed = self._packing.packed(params, versions)
        self.ahead.run(layout.template, walk, addresses(arrays), [p.address for p in packed])
        output = arrays[layout.output]
        if self.cell.output[0] == "next":
            output = output[batch:] if lengths else output[:-1] if reverse else output[1:]
        ends = [arrays[k] for k in layout.states]
        if lengths is None:
            ends = [a[last].copy() if a.ndim == 3 else a for a in ends]
        else:
            ends = [a[lengths.last] if len(a) > batch else a for a in ends]
            ends = list(map(lengths.replaced, states, ends))
            output = lengths.scattered(output, *shape[:2])
        for k in layout.dropped:
            arrays[k] = None
        return (output, *ends), Saved(call, layout, arrays, given, lengths)

    def backward(
        self,
        saved: Saved,
        d_output: np.ndarray,
        d_states: Sequence[np.ndarray],
        wanted: Sequence[bool],
        overwrite: bool,
    ) -> list[np.ndarray | None]:
        """The gradients of (*xs, *states, *each, *params), those that are wanted.

        `overwrite` allows it to lose what the forward pass has left.
        """
        lengths, params = saved.lengths, saved.given.params
        xs, shape = len(saved.given.xs), d_output.shape
        if lengths is not None:
            d_output = lengths.gathered(d_output)
        d_output = rows(d_output)
        key = saved.call, Ask(d_output.strides, tuple(wanted[:xs]), overwrite)
        layout = self._returns.get(key)
        if layout is None:
            layout = behind(self.cell, self.back, saved.call, saved.layout, key[1])
            remember(self._returns, key, layout)
        walk = saved.layout.walk if lengths is None else lengths.behind
        arrays = [*saved.arrays, d_output]
        arrays += [np.empty(s.of(saved.call, walk.rows), self.dtype) for s in layout.shapes]
        for k in layout.summed:
            arrays[k].fill(0.0)
        where = layout.arrays
        for i, d in enumerate(d_states):
            arrays[where["d_next", i]][...] = d if lengths is None else d[lengths.items]
        packed = self._back_packing.packed(params, saved.given.versions)
        places = addresses(arrays)
        self.back.run(layout.template, walk, places, [p.address for p in packed])

        def result(name: str, k: int) -> Any:
            return arrays[where[name, k]] if (name, k) in where else None

        found = [result("d_x", k) if wanted[k] else None for k in range(xs)]
        found += [result("d_next", i) for i in range(len(d_states))]
        found += [result("d_each", k) for k in range(len(saved.given.each))]
        if lengths is not None:
            fixed = [*d_states, *(np.zeros_like(e) for e in saved.given.each)]
            found = [
                None if d is None else lengths.scattered(d, *shape[:2]) for d in found[:xs]
            ] + [
                None if d is None else lengths.replaced(f, d)
                for f, d in zip(fixed, found[xs:], strict=True)
            ]
        totals = {b: np.add.reduce(arrays[where[b]]) for b in self.cell.totals}
        gradients = self._parameters(params, totals, wanted[len(found) :])
        self._products(saved, layout, arrays, places, gradients)
        return found + gradients

    def _parameters(
        self,
        params: Sequence[np.ndarray],
        totals: dict[Buffer, np.ndarray],
        wanted: Sequence[bool],
    ) -> list[np.ndarray | None]:
        """The gradients of vectors, and arrays for those of matrices."""
        cell = self.cell
        found: list[Any] = []
        for p, weight in enumerate(params):
            if not wanted[p]:
                found.append(None)
            elif p in cell.vectors:
                total = totals[cell.vectors[p]]
                found.append(total.copy() if any(total is d for d in found) else total)
            elif p in cell.covered:
                found.append(np.empty(weight.shape, self.dtype))
            else:
                found.append(np.zeros(weight.shape, self.dtype))
        return found

    def _products(
        self,
        saved: Saved,
        layout: Return,
        arrays: Sequence[Any],
        places: Sequence[int],
        outs: Sequence[Any],
    ) -> None:
        """Sums over time and batch of left ⊗ right, into the parameters' gradients; rows are dealt
        to threads."""
        lengths, (steps, batch, *_) = saved.lengths, saved.call
        if lengths is not None:
            steps, batch = lengths.ahead.rows, 1
        ways = ways_for(layout.work * steps * batch)
        gathered: list[np.ndarray] = []  # kept while they are read
        calls: list[list[tuple[int, ...]]] = [[] for _ in range(ways)]
        later: list[tuple[np.ndarray, np.ndarray]] = []
        for g, left, right, repeats in layout.blocks:
            out = outs[g.param]
            if out is None:
                continue
            stride = out.strides[0]
            target = address(out) + g.row * stride + g.column * self.dtype.itemsize
            if repeats:
                more = np.empty((g.rows, g.columns), self.dtype)
                later.append((out[g.row : g.row + g.rows, g.column : g.column + g.columns], more))
                target, stride = address(more), more.strides[0]
            sides: list[int] = []
            for side in (left, right):
                place = places[side.array]
                if side.gather:
                    array = arrays[side.array]
                    gathered.append(np.take(array, getattr(lengths, side.gather), axis=0))
                    place = address(gathered[-1])
                sides += (place + side.first, side.step, side.row)
            given = (*sides, steps, batch, target, stride)
            for share, (start, stop) in zip(calls, threads.shares(g.rows, ways), strict=False):
                share.append((*given, start, stop, g.columns))
        if ways == 1:
            _in_turn(self._gradient, calls[0], layout.workspace)
        else:
            shared = functools.partial(_in_turn, self._gradient, size=layout.workspace)
            threads.run([functools.partial(shared, share) for share in calls])
        for part, more in later:
            part += more


def _in_turn(call: Callable[..., None], arguments: Sequence[tuple[int, ...]], size: int) -> None:
    """Make calls that share a workspace of some bytes, which each thread keeps."""
    memory = getattr(_local, "memory", None)
    if memory is None or len(memory) < size + 64:
        memory = _local.memory = np.empty(size + 64, np.uint8)
    aligned = -(-address(memory) // 64) * 64
    for given in arguments:
        call(*given, aligned)


def remember(store: dict[Any, Any], key: Any, value: Any) -> None:
    """Keep a value, among not too many."""
    if len(store) >= REMEMBERED:
        store.clear()
    store[key] = value


def addresses(arrays: Sequence[Any]) -> list[int]:
    return [0 if a is None else address(a) for a in arrays]


def rows(array: np.ndarray) -> np.ndarray:
    """The array, with its last axis contiguous and, of (B, n), its rows one after another."""
    if array.flags.c_contiguous or (array.ndim == 3 and array.strides[-1] == array.itemsize):
        return array
    return np.ascontiguousarray(array)
