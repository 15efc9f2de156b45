"""Running a program: its code, and tables of where everything is."""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.kernels import cache, threads
from tinygrad_rnn.kernels.gemm import product as gemm
from tinygrad_rnn.kernels.machine import Library, float_lanes
from tinygrad_rnn.kernels.memory import address
from tinygrad_rnn.kernels.sequence.driver import BASES, program_code
from tinygrad_rnn.kernels.sequence.program import Buffer, Code, Program

WORTH = 1 << 22  # multiplications below which one thread does all


class Site(NamedTuple):
    """Where the rows of a buffer are: in which array of a call, how far, in bytes, it is to the
    first, from position to position, from item to item, and from stretch to stretch; and how many
    steps later its positions are."""

    array: int
    first: int
    step: int
    row: int
    stretch: int
    shift: int = 0

    def backwards(self, steps: int) -> Site:
        """The same rows, from the last step to the first."""
        first = self.first + (steps - 1) * self.step
        return self._replace(first=first, step=-self.step, stretch=-self.stretch)


def ways_for(work: int) -> int:
    """Threads for so many multiplications."""
    return threads.get_num_threads() if work > WORTH else 1


class Template(NamedTuple):
    """What a program reads in every call of one shape, and what a row costs."""

    table: bytes
    work: int


class Walk(NamedTuple):
    """The steps of a call: where they begin, how many items they have; the batch items that each
    share of some threads has, and all rows."""

    starts: np.ndarray
    counts: np.ndarray
    shares: Callable[[int], Sequence[tuple[int, int]]]
    rows: int


def even(steps: int, batch: int) -> Walk:
    """All steps for the whole batch."""
    starts, counts = np.arange(steps + 1), np.full(steps, batch)
    return Walk(starts, counts, functools.partial(threads.shares, batch), steps * batch)


class Runner:
    """A program, compiled and loaded."""

    def __init__(self, program: Program, what: str, dtype: np.dtype) -> None:
        self.program, self.matrices, self.dtype = program, program.matrices, dtype
        self.call = _loaded(program.code, what, dtype, float_lanes())
        self.buffers = list(dict.fromkeys(p.buffer for p in program.places))
        code, sizes, size = program.code, program.sizes, dtype.itemsize
        self._zeros = np.zeros(max(sizes, default=1), dtype)
        self._columns = [p.column * size for p in program.places]
        stages = (*code.before, *code.loop, *code.after)
        products = sum(sizes[p.k] * sizes[p.n] for s in stages for p in s.products)
        self._work = products + sum(16 * sizes[g.width] for s in stages for g in s.groups)

    def template(
        self, sites: Mapping[Buffer, Site], steps: int, stretch: int, ordinary: int
    ) -> Template:
        """What is the same in all calls of a shape."""
        table = [steps, stretch, address(self._zeros), ordinary]
        for place, column in zip(self.program.places, self._columns, strict=True):
            array, first, *strides = sites[place.buffer]
            base = len(BASES) + len(self.matrices) + array
            table += [8 * base, first + column, *strides]
        table += self.program.sizes
        return Template(_words(table), self._work)

    def run(
        self, template: Template, walk: Walk, addresses: Sequence[int], packed: Sequence[int]
    ) -> None:
        """All steps for all items of the batch, dealt to threads. The addresses are those of the
        call's arrays (0 where no place is in one), and of the packed matrices."""
        ends = address(walk.starts), address(walk.counts)
        tables = template.table, _words((*ends, *packed, *addresses))
        shares = walk.shares(ways_for(template.work * walk.rows))
        if len(shares) == 1:
            self.call(*tables, *shares[0])
        else:
            threads.run([functools.partial(self.call, *tables, *share) for share in shares])


def _words(numbers: Sequence[int]) -> bytes:
    """64-bit integers, as a program reads them."""
    return struct.pack(f"{len(numbers)}q", *numbers)


@functools.cache
def _loaded(code: Code, what: str, dtype: np.dtype, lanes: int) -> Any:
    made = cache.object_code(what, f"{dtype}{code}", lambda: program_code(code, dtype))
    return Library(made, ["run"], gemm.library(dtype).addresses).function("run", 4)
