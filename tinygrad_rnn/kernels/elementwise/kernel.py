"""Running elementwise programs: arrays of any shapes that broadcast, on several threads."""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.kernels import cache, threads
from tinygrad_rnn.kernels.elementwise.program import CHUNK, Form, Program, kernel_code
from tinygrad_rnn.kernels.machine import Library, float_lanes
from tinygrad_rnn.kernels.memory import address

WORTH = 1 << 18  # instructions, over all elements, below which one thread does all
GROUPS = 16  # of units: each adds to rows of its own
REMEMBERED = 256  # shapes of calls

Shape = tuple[int, ...]
Layout = tuple[Shape, Shape]  # of an array: its shape and strides


class Result(NamedTuple):
    """What a call allocates for one result, and how the result comes of it."""

    kind: str  # as in a Form
    shape: Shape
    axes: Shape = ()  # to be summed
    final: Shape = ()  # then


class Plan(NamedTuple):
    """What is the same in all calls of one shape."""

    call: Callable[..., None]
    table: bytes
    pack: Callable[..., bytes]  # the addresses of a call
    units: int
    results: list[Result]
    loose: list[int]  # operands that are copied first
    steps: list[int]  # of each address from one group of units to the next
    work: int  # instructions, over all elements


class Kernel:
    """A program, compiled for the shapes it meets.

    The results of `kernel(arrays, shape, targets)` have the shapes `targets`, or `shape`, to which
    all arrays broadcast, where the sum over the axes that a target lacks is not worth fusing.
    """

    def __init__(self, program: Program, what: str, dtype: np.dtype) -> None:
        self.program, self.what, self.dtype = program, what, np.dtype(dtype)
        self._numbers = np.array([*program.numbers, 0.0], self.dtype)
        self._start = address(self._numbers)
        self._plans: dict[Any, Plan] = {}

    def __call__(
        self, arrays: Sequence[np.ndarray], shape: Shape, targets: tuple[Shape, ...]
    ) -> list[np.ndarray]:
        """The results, each an array of its own."""
        if 0 in shape:
            return [np.zeros(t, self.dtype) for t in targets]
        layouts = tuple([(a.shape, a.strides) for a in arrays])
        plan = self._plans.get((shape, targets, layouts))
        if plan is None:
            if len(self._plans) >= REMEMBERED:
                self._plans.clear()
            plan = self._planned(shape, targets, layouts)
            self._plans[shape, targets, layouts] = plan
        if plan.loose:
            given = enumerate(arrays)
            arrays = [np.ascontiguousarray(a) if k in plan.loose else a for k, a in given]
        made = [np.empty(r.shape, self.dtype) for r in plan.results]
        addresses = [self._start, *map(address, arrays), *map(address, made)]
        if plan.steps or plan.work > WORTH:
            self._deal(plan, addresses, made)
        else:
            plan.call(plan.table, plan.pack(*addresses), 0, plan.units)
        pairs = zip(made, plan.results, strict=True)
        return [np.add.reduce(a, r.axes).reshape(r.final) if r.axes else a for a, r in pairs]

    def _deal(self, plan: Plan, addresses: Sequence[int], made: Sequence[np.ndarray]) -> None:
        """Units to threads, in a way that does not change what is added to what."""
        ways = threads.get_num_threads() if plan.work > WORTH else 1
        groups = threads.shares(plan.units, GROUPS if plan.steps else ways)
        steps = plan.steps or [0] * len(addresses)
        for array, result in zip(made, plan.results, strict=True):
            if result.kind == "rows":
                array.fill(0.0)

        def work(begin: int, end: int) -> None:
            for k in range(begin, end):
                bases = plan.pack(*(a + k * by for a, by in zip(addresses, steps, strict=True)))
                plan.call(plan.table, bases, *groups[k])

        threads.run([functools.partial(work, *s) for s in threads.shares(len(groups), ways)])

    def _planned(self, shape: Shape, targets: Sequence[Shape], layouts: Sequence[Layout]) -> Plan:
        size, count = self.dtype.itemsize, len(layouts)
        sites = [along(shape, *layout) for layout in layouts]
        loose = [k for k, by in enumerate(sites) if inner(shape, by) not in (0, size, None)]
        for k in loose:
            sites[k] = along(shape, layouts[k][0], packed(layouts[k][0], size))
        stores = [placed(own, shape, size) for own in targets]
        axes = merged(shape, [*sites, *(by for _, by in stores)], size)
        *outer, (columns, last) = axes
        sizes, parts = [n for n, _ in outer], -(-columns // CHUNK)
        units = math.prod(sizes) * parts
        results = []
        for k, ((kind, _), own) in enumerate(zip(stores, targets, strict=True), count):
            summed = [axis for axis, (_, by) in enumerate(outer) if by[k] == 0]
            results.append({
                "sum": Result(kind, (*sizes, parts), (*summed, len(sizes)), own),
                "rows": Result(kind, (min(GROUPS, units), *own), (0,), own),
                "each": Result(kind, own if math.prod(own) == math.prod(shape) else shape),
            }[kind])  # fmt: skip
        steps = [size * math.prod(r.final) if r.kind == "rows" else 0 for r in results]
        kinds = tuple((kind, v) for (kind, _), v in zip(stores, self.program.results, strict=True))
        spread = tuple(by == 0 for by in last[:count])
        form = Form(self.program.code, kinds, spread, len(outer))
        strides = [by[k] for k in range(len(last)) for _, by in outer]
        table = packer(2 + len(sizes) + len(strides))(columns, parts, *sizes, *strides)
        return Plan(
            _loaded(form, self.what, self.dtype, float_lanes()), table, packer(1 + len(last)),
            units, results, loose, [0] * (1 + count) + steps if any(steps) else [],
            math.prod(shape) * len(form.code),
        )  # fmt: skip


def placed(own: Shape, shape: Shape, size: int) -> tuple[str, Shape]:
    """How a result of shape `own` is made, and its strides as it is."""
    by = along(shape, own, packed(own, size))
    if inner(shape, by) == 0:
        return "sum", by
    if math.prod(own) == math.prod(shape):
        return "each", by
    fits = math.prod(own) * GROUPS * 2 <= math.prod(shape)
    return ("rows", by) if fits else ("each", packed(shape, size))


def packed(shape: Shape, size: int) -> Shape:
    """The strides of an array without gaps."""
    strides = [size]
    for n in shape[:0:-1]:
        strides.append(strides[-1] * n)
    return tuple(reversed(strides[: len(shape)]))


def along(shape: Shape, own: Shape, strides: Shape) -> Shape:
    """The strides of an array of shape `own` that is broadcast to `shape`."""
    found = [0 if n == 1 else by for n, by in zip(own, strides, strict=True)]
    return (*[0] * (len(shape) - len(own)), *found)


def inner(shape: Shape, strides: Shape) -> int | None:
    """The stride of the last axis that has more than one element."""
    return next((by for n, by in zip(shape[::-1], strides[::-1], strict=True) if n != 1), None)


def merged(shape: Shape, sites: Sequence[Shape], size: int) -> list[tuple[int, tuple[int, ...]]]:
    """(size, stride of each site) of the axes, those joined over which every site walks evenly."""
    axes: list[tuple[int, tuple[int, ...]]] = []
    for n, *by in zip(shape, *sites, strict=True):
        if n == 1:
            continue
        if axes and all(outer == n * step for outer, step in zip(axes[-1][1], by, strict=True)):
            axes[-1] = axes[-1][0] * n, tuple(by)
        else:
            axes.append((n, tuple(by)))
    return axes or [(1, (size,) * len(sites))]


def packer(count: int) -> Callable[..., bytes]:
    """Makes 64-bit integers what a kernel reads."""
    return struct.Struct(f"{count}q").pack


@functools.cache
def _loaded(form: Form, what: str, dtype: np.dtype, lanes: int) -> Callable[..., None]:
    made = cache.object_code(what, f"{dtype}{form}", lambda: kernel_code(form, dtype))
    return Library(made, ["run"]).function("run", 4)
