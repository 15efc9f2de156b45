"""Elementwise programs, as plain data, and their vector code.

`run(table, bases, start, stop)` does some units of the work: a unit is one row of the broadcast
inputs, or `CHUNK` columns of a long one. Both tables hold 64-bit integers. `bases` are addresses:
of the numbers, of the operands, of the results. `table` is the same for all calls of one shape:
columns, units of a row, sizes of the outer axes, strides of each operand and result along them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tinygrad_rnn.kernels.emit import Emitter, Module, Word
from tinygrad_rnn.kernels.pointwise.lanes import Lane
from tinygrad_rnn.kernels.pointwise.running import Running, first_lane
from tinygrad_rnn.kernels.pointwise.table import POINTWISE

CHUNK = 4096  # columns of a unit


class Program(NamedTuple):
    """What is computed for one element.

    An instruction is ("load", operand), ("number", which), ("power", value, hexadecimal exponent)
    or (name of an op, value, ...); values are indices of instructions.
    """

    code: tuple[tuple[Any, ...], ...]
    results: tuple[int, ...]  # values
    numbers: tuple[float, ...]


class Form(NamedTuple):
    """What is emitted: code, and how operands and results lie along the axes.

    A result is ("each", value): stored; ("rows", value): added to the row that is there; or
    ("sum", value): its sum over the columns of a unit is stored.
    """

    code: tuple[tuple[Any, ...], ...]
    results: tuple[tuple[str, int], ...]
    spread: tuple[bool, ...]  # the operands of which a row has one element for all columns
    axes: int  # outer ones


def kernel_code(form: Form, dtype: Any) -> bytes:
    """Object code of a form's `run`."""
    module = Module(dtype)
    with module.function("run", ["table", "bases", "start", "stop"]) as (e, arguments):
        table, bases, start, stop = arguments
        kernel = _Kernel(e, form, table, bases)
        with e.loop(start, stop) as unit:
            kernel.unit(unit)
    return module.compiled(quick=True)


class _Kernel:
    def __init__(self, e: Emitter, form: Form, table: Word, bases: Word) -> None:
        self.e, self.form, sites = e, form, len(form.spread) + len(form.results)
        words = iter(range(2 + form.axes * (1 + sites)))

        def word() -> Word:
            return e.read(table + 8 * next(words))

        self.columns, self.parts = word(), word()
        self.sizes = [word() for _ in range(form.axes)]
        self.strides = [[word() for _ in range(form.axes)] for _ in range(sites)]
        numbers = e.read(bases)
        count = sum(name == "number" for name, *_ in form.code)
        self.numbers = [Lane(e, e.splat(numbers + e.size * k)) for k in range(count)]
        self.bases = [e.read(bases + 8 * (1 + k)) for k in range(sites)]

    def unit(self, unit: Word) -> None:
        """One unit."""
        e = self.e
        first = unit % self.parts * CHUNK
        n = (self.columns - first).minimum(CHUNK)
        at = self._rows(unit // self.parts, first * e.size)
        operands = [
            Lane(e, e.splat(row)) if spread else row
            for spread, row in zip(self.form.spread, at, strict=False)
        ]
        summed = (k for k, (kind, _) in enumerate(self.form.results) if kind == "sum")
        totals = {k: Running(e, 0.0) for k in summed}
        results = at[len(operands) :]
        for offset, mask in e.vectors(0, n):
            self.vector(operands, results, totals, offset, mask)
        for k, total in totals.items():
            first_lane(e, self.bases[len(operands) + k] + unit * e.size, total.total())

    def _rows(self, row: Word, offset: Word) -> list[Word]:
        """Where a unit's columns begin in each operand and result."""
        at = list(self.bases)
        for axis in reversed(range(self.form.axes)):
            index, row = row % self.sizes[axis], row // self.sizes[axis]
            at = [a + index * by[axis] for a, by in zip(at, self.strides, strict=True)]
        still = (*self.form.spread, *(kind == "sum" for kind, _ in self.form.results))
        return [a if stays else a + offset for a, stays in zip(at, still, strict=True)]

    def vector(
        self,
        operands: list[Any],
        results: list[Word],
        totals: dict[int, Running],
        offset: Word,
        mask: Any,
    ) -> None:
        """The code for one vector of elements."""
        e = self.e
        values: list[Any] = []
        for name, *arguments in self.form.code:
            if name == "load":
                found = operands[arguments[0]]
                at = isinstance(found, Word)
                value = Lane(e, e.load(found + offset, mask)) if at else found
            elif name == "number":
                value = self.numbers[arguments[0]]
            elif name == "power":
                value = POINTWISE[name](values[arguments[0]], float.fromhex(arguments[1]))
            else:
                value = POINTWISE[name](*(values[k] for k in arguments))
            values.append(value)
        for k, (kind, which) in enumerate(self.form.results):
            lane = values[which]
            if kind == "sum":
                totals[k].add(lane, mask)
                continue
            place = results[k] + offset
            if kind == "rows":
                lane = Lane(e, e.load(place, mask)) + lane
            e.store(place, lane.value, mask)
