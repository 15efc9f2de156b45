"""A compiled cell over a whole sequence: the calls of its two programs."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.kernels import gemm, threads
from tinygrad_rnn.kernels.layout import Call, Layout, Return, ahead, behind
from tinygrad_rnn.kernels.packing import Packing
from tinygrad_rnn.kernels.program import Cell, Gradient
from tinygrad_rnn.kernels.runner import Runner, address, ways_for

_local = threading.local()


class Saved(NamedTuple):
    """What a forward pass leaves for the backward pass."""

    call: Call
    layout: Layout
    arrays: list[np.ndarray | None]  # those that the backward pass does not need are gone
    params: tuple[np.ndarray, ...]
    versions: tuple[int, ...]


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
        self,
        xs: Sequence[np.ndarray],
        states: Sequence[np.ndarray],
        each: Sequence[np.ndarray],
        params: Sequence[np.ndarray],
        versions: Sequence[int],
        keep: bool,
        reverse: bool,
    ) -> tuple[tuple[np.ndarray, ...], Saved]:
        """(outputs (T, B, m), *last states (B, n)), and what the backward pass needs.

        xs (T, B, n), states and each (B, n); the version of a parameter changes when its memory
        does, and is -1 where nobody can know.
        """
        given = [*map(rows, xs), *map(rows, each), *(rows(params[p]) for p in self.cell.units)]
        steps, batch, _ = xs[0].shape
        call = Call(steps, batch, tuple(x.strides for x in given[: len(xs)]), keep, reverse)
        layout = self._layouts.get(call)
        if layout is None:
            layout = self._remember(self._layouts, call, self._laid_out(call, each))
        arrays = [*given, *(np.empty(shape, self.dtype) for shape in layout.shapes)]
        first, last = (-1, 0) if reverse else (0, -1)
        for k, state in zip(layout.states, states, strict=True):
            arrays[k][first] = state
        packed = self._packing.packed(params, versions)
        self.ahead.run(layout.template, [*map(address, arrays)], [*map(address, packed)])
        site = layout.sites[self.cell.output]
        output = arrays[site.array]
        if self.cell.output[0] == "next":
            output = output[:-1] if reverse else output[1:]
        ends = [np.array(arrays[k][last]) for k in layout.states]
        known = {*range(len(given)), *layout.kept}
        left = [a if k in known else None for k, a in enumerate(arrays)]
        return (output, *ends), Saved(call, layout, left, tuple(params), tuple(versions))

    def _remember(self, store: dict[Any, Any], key: Any, value: Any) -> Any:
        if len(store) >= 256:  # shapes that keep changing
            store.clear()
        store[key] = value
        return value

    def _laid_out(self, call: Call, each: Sequence[np.ndarray]) -> Layout:
        widths = [a.shape[-1] for a in each]
        return ahead(self.cell, self.ahead, call, widths, len(self.cell.units))

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
        cell, call = self.cell, saved.call
        xs = len(call.strides)
        given = [*saved.arrays, rows(d_output)]
        key = call, given[-1].strides, tuple(wanted[:xs]), overwrite
        layout = self._returns.get(key)
        if layout is None:
            made = behind(
                cell, self.back, call, saved.layout, len(given), key[1], key[2], overwrite
            )
            layout = self._remember(self._returns, key, made)
        arrays = [*given, *(np.empty(shape, self.dtype) for shape in layout.shapes)]
        for k in layout.summed:
            arrays[len(given) + k].fill(0.0)
        sites = layout.sites
        for i, d in enumerate(d_states):
            arrays[sites["d_next", i].array][...] = d
        addresses = [0 if a is None else address(a) for a in arrays]
        packed = self._back_packing.packed(saved.params, saved.versions)
        self.back.run(layout.template, addresses, [*map(address, packed)])

        def of(name: str, k: int) -> np.ndarray | None:
            return arrays[sites[name, k].array] if (name, k) in sites else None

        rest = len(wanted) - len(saved.params)
        found = [of("d_x", k) if wanted[k] else None for k in range(xs)]
        found += [of("d_next", i) for i in range(len(d_states))]
        found += [of("d_each", k) for k in range(rest - xs - len(d_states))]
        vectors = {b: arrays[sites[b].array].sum(axis=0) for b in set(cell.vectors.values())}
        for p, array in enumerate(saved.params):
            if not wanted[rest + p]:
                found.append(None)
            elif p in cell.vectors:
                found.append(vectors[cell.vectors[p]])
            else:
                covered = cell.covered(p, array.size)
                found.append(
                    np.empty(array.shape, self.dtype)
                    if covered
                    else np.zeros(array.shape, self.dtype)
                )
        self._products(
            [g for g in cell.matrices if wanted[rest + g.param]],
            saved,
            layout,
            addresses,
            found[rest:],
        )
        return found

    def _products(
        self,
        gradients: Sequence[Gradient],
        saved: Saved,
        layout: Return,
        addresses: Sequence[int],
        outs: Sequence[np.ndarray | None],
    ) -> None:
        """Sums over time and batch of left ⊗ right, into the parameters' gradients; rows are dealt
        to threads."""
        steps, batch, size = saved.call.steps, saved.call.batch, self.dtype.itemsize
        ways = ways_for(sum(g.rows * g.columns for g in gradients) * steps * batch)
        calls: list[list[tuple[int, ...]]] = [[] for _ in range(ways)]
        later: list[tuple[np.ndarray, np.ndarray]] = []
        for k, g in enumerate(gradients):
            out: Any = outs[g.param]
            part = out[g.row : g.row + g.rows, g.column : g.column + g.columns]
            if any(g.overlaps(other) for other in gradients[:k]):
                later.append((part, np.empty(part.shape, self.dtype)))
                part = later[-1][1]
            operands: list[int] = []
            for place in (g.left, g.right):
                site = layout.sites[place.buffer]
                at = addresses[site.array] + site.first + place.column * size
                operands += at, site.step, site.row
            target = part.ctypes.data, part.strides[0]
            for share, (start, stop) in zip(calls, threads.shares(g.rows, ways), strict=False):
                share.append((*operands, steps, batch, *target, start, stop, g.columns))
        tasks = [functools.partial(_in_turn, self._gradient, c, layout.workspace) for c in calls]
        threads.run(tasks)
        for part, more in later:
            part += more


def _in_turn(call: Callable[..., None], arguments: Sequence[tuple[int, ...]], bytes_: int) -> None:
    """Make calls that share a workspace, which each thread keeps."""
    memory = getattr(_local, "memory", None)
    if memory is None or len(memory) < bytes_ + 64:
        memory = _local.memory = np.empty(bytes_ + 64, np.uint8)
    aligned = -(-address(memory) // 64) * 64
    for given in arguments:
        call(*given, aligned)


def rows(array: np.ndarray) -> np.ndarray:
    """The array, with its last axis contiguous and, of (B, n), its rows one after another."""
    if array.flags.c_contiguous or (array.ndim == 3 and array.strides[-1] == array.itemsize):
        return array
    return np.ascontiguousarray(array)
