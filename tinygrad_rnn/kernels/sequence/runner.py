"""Running a program: its code, and a table of where everything is.

All of a table but the arrays' addresses depends on the shape of a call alone, and is made once.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.kernels import cache, threads
from tinygrad_rnn.kernels.gemm import product as gemm
from tinygrad_rnn.kernels.machine import Library, float_lanes
from tinygrad_rnn.kernels.sequence.driver import HEAD, STRIDES, program_code
from tinygrad_rnn.kernels.sequence.program import Buffer, Code, Program

WORTH = 1 << 22  # multiplications below which one thread does all


class Site(NamedTuple):
    """Where the rows of a buffer are: in which array of a call, and how far, in bytes, it is to the
    first, from step to step, from item to item, and from stretch to stretch."""

    array: int
    first: int
    step: int
    row: int
    stretch: int

    def backwards(self, steps: int) -> Site:
        """The same rows, from the last step to the first."""
        first = self.first + (steps - 1) * self.step
        return self._replace(first=first, step=-self.step, stretch=-self.stretch)


def address(array: Any) -> int:
    """Where an array's memory begins."""
    try:
        return ctypes.addressof(ctypes.c_char.from_buffer(array))
    except (TypeError, ValueError):  # read-only, empty or strided
        return int(array.ctypes.data)


def ways_for(work: int) -> int:
    """Threads for so many multiplications."""
    return threads.get_num_threads() if work > WORTH else 1


class Template(NamedTuple):
    """A table without addresses, for one shape of call."""

    table: np.ndarray
    arrays: np.ndarray  # for each place, its array in the call
    batch: int
    work: int


class Runner:
    """A program, compiled and loaded."""

    def __init__(self, program: Program, what: str, dtype: np.dtype) -> None:
        self.program, self.matrices, self.dtype = program, program.matrices, dtype
        self.call = _loaded(program.code, what, dtype, float_lanes())
        self.buffers = list(dict.fromkeys(p.buffer for p in program.places))
        code, sizes = program.code, program.sizes
        self._zeros = np.zeros(max(sizes, default=1), dtype)
        self._columns = [p.column * dtype.itemsize for p in program.places]
        self._packed = len(HEAD) + (1 + STRIDES) * code.places  # where their addresses begin
        stages = (*code.before, *code.loop, *code.after)
        products = sum(sizes[p.k] * sizes[p.n] for s in stages for p in s.products)
        self._work = products + sum(16 * sizes[g.width] for s in stages for g in s.groups)

    def template(
        self, sites: Mapping[Buffer, Site], steps: int, batch: int, stretch: int
    ) -> Template:
        """The table of a call, but for addresses."""
        found = [sites[p.buffer] for p in self.program.places]
        table = [steps, stretch, address(self._zeros)]
        table += [s.first + c for s, c in zip(found, self._columns, strict=True)]
        for site in found:
            table += site[2:]
        table += [0] * len(self.matrices)
        table += self.program.sizes
        arrays = np.array([s.array for s in found], np.intp)
        return Template(np.array(table, np.int64), arrays, batch, self._work * steps * batch)

    def run(
        self, template: Template, arrays: Sequence[np.ndarray | None], packed: Sequence[np.ndarray]
    ) -> None:
        """All steps for all items of the batch, dealt to threads. `arrays` are the call's, None
        where no place is in one."""
        table = template.table.copy()
        addresses = [0 if a is None else address(a) for a in arrays]
        table[len(HEAD) : len(HEAD) + len(template.arrays)] += np.array(addresses)[template.arrays]
        table[self._packed : self._packed + len(packed)] = [address(a) for a in packed]
        at = address(table)
        shares = threads.shares(template.batch, ways_for(template.work))
        if len(shares) == 1:
            self.call(at, 0, template.batch)
        else:
            threads.run([functools.partial(self.call, at, *share) for share in shares])


@functools.cache
def _loaded(code: Code, what: str, dtype: np.dtype, lanes: int) -> Any:
    made = cache.object_code(what, f"{dtype}{code}", lambda: program_code(code, dtype))
    return Library(made, ["run"], gemm.library(dtype).addresses).function("run", 3)
