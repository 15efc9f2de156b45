"""The driver of a staged program: its loops over time and batch, written once for every cell.

`run(table, bases, start, stop)` does all steps for the batch items start:stop. Both tables hold
64-bit integers. `bases` are the addresses of a call: of the packed matrices, then of the arrays.
`table` is the same for all calls of one shape: `HEAD`, the words of each place, the sizes.
"""

from __future__ import annotations

from typing import Any

from tinygrad_rnn.kernels.emit import Count, Emitter, Module, Total, Word
from tinygrad_rnn.kernels.gemm.tile import PANEL
from tinygrad_rnn.kernels.pointwise.lanes import Lane
from tinygrad_rnn.kernels.pointwise.table import POINTWISE
from tinygrad_rnn.kernels.sequence.program import Code, Group, Product, Stage, Store

HEAD = ("steps", "stretch", "zeros")  # steps, steps of a stretch, address of a row of zeros
# Of a place: which of the bases it counts from, in bytes; how far from there its first row is; how
# far, in bytes, it is from step to step, item to item, and stretch to stretch.
PLACE = ("base", "first", "step", "row", "stretch")


def program_code(code: Code, dtype: Any) -> bytes:
    """Object code of a program's `run`."""
    module = Module(dtype)
    with module.function("run", ["table", "bases", "start", "stop"]) as (e, arguments):
        _Driver(e, code, *arguments).write()
    return module.compiled()


class _Site:
    """A place: where its row is, at a moment."""

    def __init__(self, e: Emitter, table: Word, bases: Word, index: int) -> None:
        at = table + 8 * (len(HEAD) + len(PLACE) * index)
        base, first, self.step, self.row, self.stretch = (
            e.read(at + 8 * k) for k in range(len(PLACE))
        )
        self.address = e.read(bases + base) + first

    def at(self, first: Count, step: Count, item: Count) -> Word:
        """The address, `step` steps into the stretch that begins at step `first`."""
        begin: Word = self.address + self.stretch * first
        return begin + self.step * step + self.row * item  # type: ignore[no-any-return]


class _Driver:
    def __init__(
        self, e: Emitter, code: Code, table: Word, bases: Word, start: Word, stop: Word
    ) -> None:
        self.e, self.code, self.start, self.stop = e, code, start, stop
        self.steps, self.longest, self.zeros = (e.read(table + 8 * k) for k in range(len(HEAD)))
        self.sites = [_Site(e, table, bases, k) for k in range(code.places)]
        self.matrices = [e.read(bases + 8 * k) for k in range(code.matrices)]
        rest = table + 8 * (len(HEAD) + len(PLACE) * code.places)
        self.sizes = [e.read(rest + 8 * k) for k in range(code.sizes)]

    def write(self) -> None:
        """Stretch by stretch: what comes before, the steps, what comes after."""
        with self.e.loop(0, self.steps, self.longest) as first:
            steps = self.longest.minimum(self.steps - first)
            for stage in self.code.before:
                self.stretch(stage, first, steps)
            with self.e.loop(0, steps) as step:
                for stage in self.code.loop:
                    self.step(stage, first, step)
            for stage in self.code.after:
                self.stretch(stage, first, steps)

    def step(self, stage: Stage, first: Word, step: Word) -> None:
        """A stage of one step."""
        for product in stage.products:
            operand, target = self.sites[product.operand], self.sites[product.target]
            a, c = (s.at(first, step, self.start) for s in (operand, target))
            self.product(product, self.stop - self.start, a, c)
        for group in stage.groups:
            self.group(group, first, step)

    def stretch(self, stage: Stage, first: Word, steps: Word) -> None:
        """A stage of many steps."""
        for product in stage.products:
            with self.e.when(self.sites[product.target].step.differs(0)):  # else nobody wants it
                self.products(product, first, steps)
        for group in stage.groups:
            with self.e.loop(0, steps) as step:
                self.group(group, first, step)

    def products(self, product: Product, first: Word, steps: Word) -> None:
        """A product for many steps: as one, where the rows of all steps follow one another."""
        e, (operand, target) = self.e, (self.sites[k] for k in (product.operand, product.target))
        rows = self.stop - self.start
        forth, back = (
            e.builder.and_(*((s.row * rows).equals(s.step * sign) for s in (operand, target)))
            for sign in (1, -1)
        )
        for follow, at in ((forth, e.word(0)), (back, steps - 1)):
            with e.when(follow):
                a, c = (s.at(first, at, self.start) for s in (operand, target))
                self.product(product, rows * steps, a, c)
        with e.when(e.builder.not_(e.builder.or_(forth, back))):
            width = PANEL * e.lanes
            with e.loop(0, self.sizes[product.n], width) as column, e.loop(0, steps) as step:
                a, c = (s.at(first, step, self.start) for s in (operand, target))
                self.product(product, rows, a, c + column * e.size, column)

    def product(
        self, product: Product, rows: Count, a: Word, c: Word, column: Word | None = None
    ) -> None:
        """All columns, or the panel that begins at one."""
        e, size = self.e, self.e.size
        n, k, packed = self.sizes[product.n], self.sizes[product.k], self.matrices[product.matrix]
        if column is not None:
            n, packed = (n - column).minimum(PANEL * e.lanes), packed + column * k * size
        operand, target = self.sites[product.operand], self.sites[product.target]
        start = (c, target.row) if product.adds else (self.zeros, 0)
        e.call("product", rows, n, k, a, operand.row, size, packed, *start, c, target.row)

    def group(self, group: Group, first: Word, step: Word) -> None:
        """Pointwise code for all rows of a step, vector by vector."""
        e, width = self.e, self.sizes[group.width]
        used = {i[1] for i in group.code if i[0] in ("load", "spread")}
        used |= {s.place for s in group.stores}
        with e.loop(self.start, self.stop) as item:
            rows = {k: self.sites[k].at(first, step, item) for k in sorted(used)}
            sums = {s: e.total() for s in group.stores if s.sums}
            whole = width // e.lanes * e.lanes
            with e.loop(0, whole, e.lanes) as column:
                self.vector(group, rows, column * e.size, None, sums)
            with e.when(whole < width):
                self.vector(group, rows, whole * e.size, e.mask(width - whole), sums)
            for store, total in sums.items():
                total.store(rows[store.place])

    def vector(
        self,
        group: Group,
        rows: dict[int, Word],
        offset: Word,
        mask: Any,
        sums: dict[Store, Total],
    ) -> None:
        """The code of a group for one vector of units."""
        e = self.e
        values: list[Any] = []
        for name, *arguments in group.code:
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
            values.append(value)
        for store in group.stores:
            at, lane = rows[store.place] + offset, values[store.value]
            if store.sums:
                sums[store].add(lane.value, mask)
                continue
            if store.adds:
                lane = Lane(e, e.load(at, mask)) + lane
            e.store(at, lane.value, mask)
