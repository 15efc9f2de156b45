"""A compiled cell over a whole sequence: the calls of its two programs."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.kernels import threads
from tinygrad_rnn.kernels.gemm import product as gemm
from tinygrad_rnn.kernels.memory import address, aligned
from tinygrad_rnn.kernels.sequence.layout import Ask, Call, Layout, Return, ahead, behind
from tinygrad_rnn.kernels.sequence.lengths import Lengths
from tinygrad_rnn.kernels.sequence.packing import Packing
from tinygrad_rnn.kernels.sequence.program import Buffer, Cell
from tinygrad_rnn.kernels.sequence.runner import Runner, ways_for

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
        lengths = None if given.lengths is None else Lengths(given.lengths, reverse)
        inner = given if lengths is None else _within(given, lengths)
        arrays, call, layout = self._prepared(inner, keep, reverse, lengths)
        walk = layout.walk if lengths is None else lengths.ahead
        arrays += [np.empty(s.of(call, walk.rows), self.dtype) for s in layout.shapes]
        first, last = (-1, 0) if call.reverse else (0, -1)
        for k, state in zip(layout.states, inner.states, strict=True):
            arrays[k][first if arrays[k].ndim == 3 else slice(call.batch)] = state
        packed = self._packing.packed(given.params, given.versions)
        self.ahead.run(layout.template, walk, [*map(address, arrays)], [p.address for p in packed])
        output, ends = arrays[layout.output], [arrays[k] for k in layout.states]
        if self.cell.output[0] == "next":
            output = output[call.batch :] if lengths else output[:-1] if last == 0 else output[1:]
        if lengths is None:
            ends = [a[last].copy() if a.ndim == 3 else a for a in ends]
        else:
            ends = [a[lengths.last] if len(a) > call.batch else a for a in ends]
            ends = list(map(lengths.replaced, given.states, ends))
            output = lengths.scattered(output, *given.xs[0].shape[:2])
        for k in layout.dropped:
            arrays[k] = None
        return (output, *ends), Saved(call, layout, arrays, given, lengths)

    def _prepared(
        self, given: Given, keep: bool, reverse: bool, lengths: Lengths | None
    ) -> tuple[list[Any], Call, Layout]:
        """The arrays that a forward pass is given, its shape and its layout."""
        xs, each = given.xs, given.each
        arrays = [rows(a) for a in (*xs, *each, *(given.params[p] for p in self.cell.units))]
        strides = tuple(a.strides for a in arrays[: len(xs)])
        if lengths is None:
            steps, batch, _ = xs[0].shape
            call = Call(steps, batch, strides, keep, reverse, False)
        else:
            call = Call(lengths.steps, len(lengths.items), strides, keep, False, True)
        layout = self._layouts.get(call)
        if layout is None:
            widths = [a.shape[-1] for a in each]
            layout = ahead(self.cell, self.ahead, call, widths, len(self.cell.units))
            remember(self._layouts, call, layout)
        return arrays, call, layout

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
        lengths, params, xs = saved.lengths, saved.given.params, len(saved.given.xs)
        d_output = rows(d_output if lengths is None else lengths.gathered(d_output))
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
        places = [*map(address, arrays)]
        self.back.run(layout.template, walk, places, [p.address for p in packed])

        found = self._inputs(saved, layout, arrays, d_states, wanted)
        totals = {b: np.add.reduce(arrays[where[b]]) for b in self.cell.totals}
        gradients = self._parameters(params, totals, wanted[len(found) :])
        self._products(saved, layout, arrays, places, gradients)
        return found + gradients

    def _inputs(
        self,
        saved: Saved,
        layout: Return,
        arrays: Sequence[Any],
        d_states: Sequence[np.ndarray],
        wanted: Sequence[bool],
    ) -> list[Any]:
        """The gradients of xs, states and each."""
        where, given, lengths, live = layout.arrays, saved.given, saved.lengths, self.cell.live

        def results(kind: str, name: str, count: int) -> list[Any]:
            return [arrays[where[name, k]] if (kind, k) in live else None for k in range(count)]

        d_xs = [d if wanted[k] else None for k, d in enumerate(results("x", "d_x", len(given.xs)))]
        rest = results("state", "d_next", len(d_states))
        rest += results("each", "d_each", len(given.each))
        if lengths is None:
            return d_xs + rest
        size = given.xs[0].shape[:2]
        fixed = [*d_states, *map(np.zeros_like, given.each)]
        if len(lengths.items) < size[1]:  # who has no step hands on a state that no step reads
            rest = [0.0 if d is None else d for d in rest]
        return [
            *(None if d is None else lengths.scattered(d, *size) for d in d_xs),
            *(
                None if d is None else lengths.replaced(f, d)
                for f, d in zip(fixed, rest, strict=True)
            ),
        ]

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
            if not wanted[p] or ("param", p) not in cell.live:
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
        """Sums over time and batch of left ⊗ right, into the gradients; rows go to threads."""
        lengths = saved.lengths
        steps, batch = saved.call[:2] if lengths is None else (lengths.ahead.rows, 1)
        ways = ways_for(layout.work * steps * batch)
        calls: list[list[tuple[int, ...]]] = [[] for _ in range(ways)]
        gathered, later = list[Any](), list[Any]()  # kept until all is done
        for g, left, right, repeats in layout.blocks:
            out = outs[g.param]
            if out is None:
                continue
            part = out[g.row : g.row + g.rows, g.column : g.column + g.columns]
            if repeats:
                later.append((part, np.empty(part.shape, self.dtype)))
                part = later[-1][1]
            sides: list[int] = []
            for side in (left, right):
                place = places[side.array]
                if side.gather and lengths is not None:
                    gathered.append(lengths.read(side.gather, arrays[side.array]))
                    place = address(gathered[-1])
                sides += (place + side.first, side.step, side.row)
            given = (*sides, steps, batch, address(part), part.strides[0])
            for share, (start, stop) in zip(calls, threads.shares(g.rows, ways), strict=False):
                share.append((*given, start, stop, g.columns))
        if ways == 1:
            _in_turn(self._gradient, calls[0], layout.workspace)
        else:
            shared = functools.partial(_in_turn, self._gradient, size=layout.workspace)
            threads.run([functools.partial(shared, share) for share in calls])
        for part, more in later:
            part += more


def _within(given: Given, lengths: Lengths) -> Given:
    """Only the rows of what is given that are within the lengths."""
    states, each = ([a[lengths.items] for a in group] for group in (given.states, given.each))
    return given._replace(xs=list(map(lengths.gathered, given.xs)), states=states, each=each)


def _in_turn(call: Callable[..., None], arguments: Sequence[tuple[int, ...]], size: int) -> None:
    """Make calls that share a workspace of some bytes, which each thread keeps."""
    memory = getattr(_local, "memory", None)
    if memory is None or len(memory) < size:
        memory = _local.memory = aligned([size], np.uint8)
    place = address(memory)
    for given in arguments:
        call(*given, place)


def remember(store: dict[Any, Any], key: Any, value: Any) -> None:
    """Keep a value, among not too many."""
    if len(store) >= REMEMBERED:
        store.clear()
    store[key] = value


def rows(array: np.ndarray) -> np.ndarray:
    """The array, with its last axis contiguous and, of (B, n), its rows one after another."""
    if array.flags.c_contiguous or (array.ndim == 3 and array.strides[-1] == array.itemsize):
        return array
    return np.ascontiguousarray(array)
