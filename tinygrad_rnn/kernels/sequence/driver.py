"""The driver of a staged program: its loops over time and batch, written once for every cell.

`run(table, bases, start, stop)` does all steps for the batch items start:stop. Both tables hold
64-bit integers. `bases` are the addresses of a call: of `starts` and `counts`, the packed matrices,
the arrays. `table` is the same for all calls of one shape: `HEAD`, the words of each place, sizes.

At step t there are rows for the first `counts[t]` items of the batch, from position `starts[t]` on.
Where all sequences are of one length, positions are steps; else rows are, and those of all steps
follow one another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinygrad_rnn.kernels.emit import Count, Emitter, Module, Word
from tinygrad_rnn.kernels.gemm.tile import PANEL
from tinygrad_rnn.kernels.pointwise.lanes import Lane
from tinygrad_rnn.kernels.pointwise.running import Running, first_lane
from tinygrad_rnn.kernels.pointwise.table import POINTWISE
from tinygrad_rnn.kernels.sequence.program import Code, Group, Product, Stage, Store

# Steps, steps of a stretch, address of a row of zeros; the shift of places whose rows follow one
# another though the counts differ, if there are such.
HEAD = ("steps", "stretch", "zeros", "ordinary")
# Of a place: which of the bases it counts from, in bytes; how far from there its first row is; how
# far, in bytes, it is from position to position, item to item, and from a stretch's first position
# to the next one's; how many steps later its position is.
PLACE = ("base", "first", "step", "row", "stretch", "shift")
BASES = ("starts", "counts")


def program_code(code: Code, dtype: Any) -> bytes:
    """Object code of a program's `run`."""
    module = Module(dtype)
    with module.function("run", ["table", "bases", "start", "stop"]) as (e, arguments):
        _Driver(e, code, *arguments).write()
    return module.compiled(quick=True)


Row = tuple[Word, Word]  # its address; how far, in bytes, it is to the next item's


class _Place:
    """A place as the table has it: where its rows are, at any moment."""

    def __init__(self, e: Emitter, table: Word, bases: Word, index: Count) -> None:
        at = table + 8 * len(HEAD) + index * (8 * len(PLACE))
        base, first, self.step, self.row, self.stretch, self.shift = (
            e.read(at + 8 * k) for k in range(len(PLACE))
        )
        self.address = e.read(bases + base) + first
        self.e, self.starts = e, e.read(bases) + self.shift * 8

    def position(self, step: Word) -> Word:
        """Of its rows at a step."""
        return self.e.read(self.starts + step * 8)

    def origin(self, first: Word, item: Count) -> Word:
        """An item's row, as if at position 0, in the stretch that begins at step `first`."""
        begin: Word = (self.stretch - self.step) * self.position(first)
        return begin + self.address + self.row * item  # type: ignore[no-any-return]

    def at(self, first: Word, t: Word, item: Count) -> Row:
        """An item's row at step t, in the stretch that begins at step `first`."""
        return self.origin(first, item) + self.step * self.position(t), self.row


class _Driver:
    def __init__(
        self, e: Emitter, code: Code, table: Word, bases: Word, start: Word, stop: Word
    ) -> None:
        self.e, self.code, self.start, self.stop = e, code, start, stop
        self.table, self.bases = table, bases
        self.steps, self.longest, self.zeros, self.ordinary = (
            e.read(table + 8 * k) for k in range(len(HEAD))
        )
        self.counts = e.read(bases + 8)
        self.origins, self.here = (e.words(code.places) for _ in range(2))
        self.matrices = [e.read(bases + 8 * (len(BASES) + k)) for k in range(code.matrices)]
        rest = table + 8 * (len(HEAD) + len(PLACE) * code.places)
        self.sizes = [e.read(rest + 8 * k) for k in range(code.sizes)]

    def write(self) -> None:
        """Stretch by stretch: what comes before, the steps, what comes after.

        A step without rows, which those after it have not either, is left out.
        """
        with self.e.loop(0, self.steps, self.longest) as first:
            steps = self.longest.minimum(self.steps - first)
            self.begin(first)
            for stage in self.code.before:
                self.stretch(stage, first, steps)
            with self.e.loop(0, steps) as step:
                with self.e.when(self.end(first + step) > self.start):
                    self.locate(first + step)
                    for stage in self.code.loop:
                        self.step(stage, self.rows(first + step))
            for stage in self.code.after:
                self.stretch(stage, first, steps)

    def place(self, index: Count) -> _Place:
        return _Place(self.e, self.table, self.bases, index)

    def begin(self, first: Word) -> None:
        """Find all places, as if at position 0, in the stretch that begins at step `first`."""
        with self.e.loop(0, self.code.places) as k:
            self.e.write(self.origins + k * 8, self.place(k).origin(first, self.start))

    def locate(self, t: Word) -> None:
        """Find all places at step t of this stretch."""
        with self.e.loop(0, self.code.places) as k:
            p = self.place(k)
            here = self.e.read(self.origins + k * 8) + p.step * p.position(t)
            self.e.write(self.here + k * 8, here)

    def row(self, place: int) -> Row:
        """The first row of a place at this step."""
        at = 8 * (len(HEAD) + len(PLACE) * place + PLACE.index("row"))
        return self.e.read(self.here + 8 * place), self.e.read(self.table + at)

    def end(self, step: Word) -> Word:
        """The end of the batch items that have rows at a step."""
        return self.stop.minimum(self.count(step))

    def count(self, step: Word) -> Word:
        """How many batch items have rows at a step."""
        return self.e.read(self.counts + step * 8)

    def rows(self, step: Word) -> Word:
        """How many of them are this call's."""
        return (self.end(step) - self.start).maximum(0)

    def step(self, stage: Stage, rows: Word) -> None:
        """A stage of one step."""
        for product in stage.products:
            self.product(product, rows, self.row(product.operand), self.row(product.target))
        for group in stage.groups:
            self.group(group, rows)

    def stretch(self, stage: Stage, first: Word, steps: Word) -> None:
        """A stage of many steps."""
        for product in stage.products:
            operand, target = self.place(product.operand), self.place(product.target)
            with self.e.when(target.step.differs(0)):  # else nobody wants it
                self.products(product, [operand, target], first, steps)
        if stage.groups:
            with self.e.loop(0, steps) as step:
                self.locate(first + step)
                for group in stage.groups:
                    self.group(group, self.rows(first + step))

    def products(self, product: Product, sites: Sequence[_Place], first: Word, steps: Word) -> None:
        """A product for many steps: as one, where the rows of all steps follow one another."""
        e, b = self.e, self.e.builder
        last = first + (steps - 1)
        rows, fewer = self.rows(first), self.rows(last)
        ways = [s.step * (s.position(last) - s.position(first)) for s in sites]
        even, whole = rows.equals(fewer), self.start.equals(0)
        for t in (first, last):
            whole = b.and_(whole, self.end(t).equals(self.count(t)))
        for s in sites:
            whole = b.and_(whole, s.shift.equals(self.ordinary))
        apart = b.not_(whole)
        for sign, begin, far in ((1, first, fewer), (-1, last, rows)):
            follow = b.and_(whole, ways[0] * sign >= (sign < 0))
            steady = even
            for s, way in zip(sites, ways, strict=True):
                steady = b.and_(steady, (s.row * rows * (steps - 1)).equals(way * sign))
            if sign < 0:
                steady = b.and_(steady, steps > 1)
            apart = b.and_(apart, b.not_(steady))
            with e.when(b.or_(follow, steady)):
                a, c = (s.at(first, begin, self.start) for s in sites)
                still = sites[0].row.equals(0)  # of width 0, or the same row again and again
                row, way = (e.select(still, *pair) for pair in ((1, sites[0].row), (0, ways[0])))
                before = e.select(b.or_(steady, still), rows * (steps - 1), way * sign // row)
                self.product(product, before + far, a, c)
        with e.when(apart):
            width = PANEL * e.lanes
            with e.loop(0, self.sizes[product.n], width) as column, e.loop(0, steps) as step:
                a, c = (s.at(first, first + step, self.start) for s in sites)
                self.product(product, self.rows(first + step), a, c, column)

    def product(
        self,
        product: Product,
        rows: Count,
        operand: Row,
        target: Row,
        column: Word | None = None,
    ) -> None:
        """All columns, or the panel that begins at one."""
        e, size = self.e, self.e.size
        n, k, packed = self.sizes[product.n], self.sizes[product.k], self.matrices[product.matrix]
        c, c_row = target
        if column is not None:
            n, packed = (n - column).minimum(PANEL * e.lanes), packed + column * k * size
            c = c + column * size
        start = (c, c_row) if product.adds else (self.zeros, 0)
        e.call("product", rows, n, k, *operand, size, packed, *start, c, c_row)

    def group(self, group: Group, count: Word) -> None:
        """Pointwise code for all rows of a step, vector by vector. What is the same for all units
        of a row is computed once."""
        e, width = self.e, self.sizes[group.width]
        used = {i[1] for i in group.code if i[0] in ("load", "spread")}
        used |= {s.place for s in group.stores}
        alike, places = _alike(group), {k: self.row(k) for k in sorted(used)}
        with e.loop(0, count) as item:
            rows = {k: at + by * item for k, (at, by) in places.items()}
            sums = {s: Running(e, 0.0) for s in group.stores if s.sums}
            row: list[Any] = [None] * len(group.code)
            self.values(group, alike, rows, row)
            for offset, mask in e.vectors(0, width):
                self.vector(group, rows, [*row], sums, offset, mask)
            for store, total in sums.items():
                first_lane(e, rows[store.place], total.total())

    def vector(
        self,
        group: Group,
        rows: dict[int, Word],
        values: list[Any],
        sums: dict[Store, Running],
        offset: Word,
        mask: Any,
    ) -> None:
        """The code of a group for one vector of units; `values` are known where not None."""
        e = self.e
        rest = [k for k, value in enumerate(values) if value is None]
        self.values(group, rest, rows, values, offset, mask)
        for store in group.stores:
            at, lane = rows[store.place] + offset, values[store.value]
            if store.sums:
                sums[store].add(lane, mask)
                continue
            if store.adds:
                lane = Lane(e, e.load(at, mask)) + lane
            e.store(at, lane.value, mask)

    def values(
        self,
        group: Group,
        which: Sequence[int],
        rows: dict[int, Word],
        values: list[Any],
        offset: Count = 0,
        mask: Any = None,
    ) -> None:
        """Some of the values of a group's code."""
        e = self.e
        for index in which:
            name, *arguments = group.code[index]
            value: Any
            if name == "load":
                value = Lane(e, e.load(rows[arguments[0]] + offset, mask))
            elif name == "spread":
                value = Lane(e, e.splat(rows[arguments[0]]))
            elif name == "number":
                value = Lane.filled(e, float.fromhex(arguments[0]))
            elif name == "power":
                exponent = float.fromhex(group.code[arguments[1]][1])
                value = POINTWISE[name](values[arguments[0]], exponent)
            else:
                value = POINTWISE[name](*(values[k] for k in arguments))
            values[index] = value


def _alike(group: Group) -> list[int]:
    """The instructions whose values are the same for all units of a row."""
    found: set[int] = set()
    for index, (name, *arguments) in enumerate(group.code):
        if name in ("spread", "number") or (name != "load" and found.issuperset(arguments)):
            found.add(index)
    return sorted(found)
