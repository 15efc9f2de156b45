"""Layouts: what a call of a compiled cell allocates, and where its buffers are, for one shape.

A layout is made once for each shape of call; what is left to do per call is to allocate, and to
fill in addresses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tinygrad_rnn.kernels.gemm import product as gemm
from tinygrad_rnn.kernels.sequence.program import Buffer, Cell, Gradient
from tinygrad_rnn.kernels.sequence.runner import Runner, Site, Template, Walk, even

STRETCH = 512  # rows that products before the loop take at once, so that they stay in the cache


class Call(NamedTuple):
    """The shape of a call: steps, batch, strides of xs; whether a backward pass may follow, and
    whether it runs from the last step to the first; whether there are only the rows of sequences of
    several lengths, (N, n) instead of (T, B, n)."""

    steps: int
    batch: int
    strides: tuple[tuple[int, ...], ...]
    keep: bool
    reverse: bool
    uneven: bool


class Shape(NamedTuple):
    """Of an array of a call: an item's rows besides those of all steps; whether it has these."""

    more: int
    over_time: bool
    width: int

    def of(self, call: Call, rows: int) -> tuple[int, ...]:
        """In numbers, if all sequences together have so many rows."""
        if not self.over_time:
            return (self.more * call.batch, self.width)
        if call.uneven:
            return (self.more * call.batch + rows, self.width)
        return (self.more + call.steps, call.batch, self.width)


class Layout(NamedTuple):
    """Arrays of a forward pass: those given (xs, each, vectors), then those of `shapes`."""

    template: Template
    walk: Walk
    shapes: tuple[Shape, ...]
    sites: dict[Buffer, Site]  # forwards in time
    arrays: int  # how many there are
    output: int  # the one that holds the outputs
    states: tuple[int, ...]  # those that hold the states
    dropped: tuple[int, ...]  # those that the backward pass does not need


class Builder:
    """Collects the arrays and sites of a call."""

    def __init__(self, given: int, call: Call, size: int) -> None:
        self.given, self.call, self.size = given, call, size
        self.shapes: list[Shape] = []
        self.sites: dict[Buffer, Site] = {}

    def new(self, width: int, more: int = 0, over_time: bool = False) -> int:
        """The number of a new array."""
        self.shapes.append(Shape(more, over_time, width))
        return self.given + len(self.shapes) - 1

    def over_time(self, buffer: Buffer, array: int, width: int) -> None:
        """A buffer in an array of the rows of all steps."""
        row = width * self.size
        self.strided(buffer, array, (row if self.call.uneven else row * self.call.batch, row))

    def around(self, before: Buffer, after: Buffer, array: int, width: int) -> None:
        """Buffers in an array of one more step."""
        row = width * self.size
        step = row * self.call.batch
        for k, buffer in enumerate((before, after)):
            if self.call.uneven:
                self.sites[buffer] = Site(array, 0, row, row, row, k)
            else:
                first = step * (k != self.call.reverse)
                self.sites[buffer] = Site(array, first, step, self._row(row, step), step)

    def strided(self, buffer: Buffer, array: int, strides: Sequence[int]) -> None:
        """A buffer in an array (T, B, n) of any layout, or of rows alone, (N, n), whose positions
        are counted from before the first step."""
        step, row = strides[:2]
        if self.call.uneven:
            self.sites[buffer] = Site(array, -self.call.batch * step, step, step, step, 1)
        else:
            self.sites[buffer] = Site(array, 0, step, self._row(row, step), step)

    def _row(self, row: int, step: int) -> int:
        return step if self.call.batch == 1 else row  # rows then follow one another in time

    def still(self, buffer: Buffer, array: int, width: int) -> None:
        """A buffer whose rows (B, width), or one row for all, are the same at every step."""
        self.sites[buffer] = Site(array, 0, 0, width * self.size, 0)

    def walked(self, backwards: bool, rings: dict[Buffer, int]) -> dict[Buffer, Site]:
        """The sites as a program goes through them; rings begin again at each stretch."""
        found = {}
        for buffer, site in self.sites.items():
            if backwards and site.step:
                if self.call.uneven:
                    site = site._replace(shift=1 - site.shift)
                else:
                    site = site.backwards(rings.get(buffer, self.call.steps))
            if buffer in rings:
                site = site._replace(stretch=0)
            found[buffer] = site
        return found


def ahead(cell: Cell, runner: Runner, call: Call, widths: Sequence[int], vectors: int) -> Layout:
    """The layout of a forward pass. Given are xs, each (of these widths), and vectors."""
    steps, batch, strides, keep, reverse, uneven = call
    build = Builder(len(strides) + len(widths) + vectors, call, runner.dtype.itemsize)
    for k, by in enumerate(strides):
        build.strided(("x", k), k, by)
    _fixed(build, cell, len(strides), widths)
    kept = cell.kept if keep else frozenset()
    passing = {b for b in cell.hoisted - kept if b[0] in ("chain", "row")}
    rings = set() if uneven else passing  # other threads are in stretches of other sizes
    stretch = min(steps, max(1, STRETCH // batch))
    states = []
    for b, width in sorted(i for i in cell.widths.items() if i[0][0] == "next"):
        before = "state", b[1]
        whole = {before, b} & (kept | cell.hoisted) or b == cell.output or b not in cell.in_place
        states.append(array := build.new(width, 1, bool(whole)))
        if whole:
            build.around(before, b, array, width)
        else:
            build.still(before, array, width)
            build.still(b, array, width)
    for b in runner.buffers:
        if b not in build.sites:
            width = cell.widths[b]
            if b in rings:
                build.over_time(b, build.new(width, stretch), width)
            elif b in kept or b in passing or b == cell.output:
                build.over_time(b, build.new(width, 0, True), width)
            else:
                build.still(b, build.new(width, 1), width)
    walked = build.walked(reverse, dict.fromkeys(rings, stretch))
    template = runner.template(walked, steps, stretch, 1 if uneven else -1)
    needed = {build.sites[b].array for b in kept if b in build.sites}
    made = range(build.given, build.given + len(build.shapes))
    dropped = tuple(k for k in made if k not in needed)
    output = build.sites[cell.output].array
    shapes, walk = tuple(build.shapes), even(steps, batch)
    return Layout(template, walk, shapes, build.sites, made.stop, output, tuple(states), dropped)


def _fixed(build: Builder, cell: Cell, first: int, widths: Sequence[int]) -> None:
    """Sites of what is the same at every step: each, and vectors of parameters."""
    for k, width in enumerate(widths):
        build.still(("each", k), first + k, width)
    for k, p in enumerate(cell.units):
        build.sites["unit", p] = Site(first + len(widths) + k, 0, 0, 0, 0)


class Factor(NamedTuple):
    """One side of a gradient's product: an array of the call, and where in it, in bytes. Of an
    array that has other rows than those of all steps, these are gathered first."""

    array: int
    first: int
    step: int
    row: int
    gather: str = ""  # "before" each step, or those of the "item"


class Block(NamedTuple):
    """A part of a matrix's gradient, and the two rows whose products it sums."""

    gradient: Gradient
    left: Factor
    right: Factor
    repeats: bool  # an earlier block is of the same elements


class Return(NamedTuple):
    """Arrays of a backward pass: those of the forward pass, the outputs' cotangent, then those of
    `shapes`."""

    template: Template
    shapes: tuple[Shape, ...]
    arrays: dict[Buffer, int]  # where the results are
    summed: tuple[int, ...]  # arrays that start at zero
    blocks: tuple[Block, ...]
    workspace: int  # bytes that the blocks need
    work: int  # multiplications of the blocks, per row


class Ask(NamedTuple):
    """What is asked of a backward pass: strides of the outputs' cotangent, which of xs want a
    gradient, whether what the forward pass left may be lost."""

    strides: tuple[int, ...]
    wanted: tuple[bool, ...]
    overwrite: bool


def behind(cell: Cell, runner: Runner, call: Call, forward: Layout, ask: Ask) -> Return:
    """The layout of a backward pass. Given are the forward pass's arrays and the outputs'
    cotangent."""
    given, (strides, wanted, overwrite) = forward.arrays + 1, ask
    steps, batch = call.steps, call.batch
    build = Builder(given, call, runner.dtype.itemsize)
    build.sites |= {
        b: s for b, s in forward.sites.items() if b[0] in ("x", "each", "unit") or b in cell.kept
    }
    build.strided(("d_out", 0), given - 1, strides)
    summed = []
    for b in (*runner.buffers, *cell.summed):
        width, name = cell.widths.get(b, 0), b[0]
        if b in build.sites:
            continue
        if name in ("d_state", "d_next"):
            array = build.new(cell.widths["d_next", b[1]], 1)
            for which in ("d_state", "d_next"):
                build.still((which, b[1]), array, cell.widths["d_next", b[1]])
        elif name == "d" and overwrite and b in cell.in_place and ("chain", b[1]) in cell.kept:
            build.sites[b] = build.sites["chain", b[1]]
        elif b in cell.summed:
            summed.append(build.new(width, 1))
            build.still(b, summed[-1], width)
        elif name == "d_spare" or (name == "d_x" and not wanted[b[1]]):
            build.still(b, build.new(width, 1), width)
        else:
            build.over_time(b, build.new(width, 0, True), width)
    walked = build.walked(not call.reverse, {})
    template = runner.template(walked, steps, steps, 0 if call.uneven else -1)
    arrays = {b: site.array for b, site in build.sites.items()}
    in_order = build.walked(call.reverse, {})  # of the steps, so that mirrored runs sum alike
    blocks = _blocks(cell, in_order, runner.dtype.itemsize, call)
    sizes = [
        gemm.workspace_size(steps * batch, g.rows, g.columns, runner.dtype) for g in cell.matrices
    ]
    work = sum(g.rows * g.columns for g in cell.matrices)
    shapes, space = tuple(build.shapes), max(sizes, default=0)
    return Return(template, shapes, arrays, tuple(summed), blocks, space, work)


def _blocks(cell: Cell, sites: dict[Buffer, Site], size: int, call: Call) -> tuple[Block, ...]:
    """The products that make the gradients of matrices."""
    found: list[Block] = []
    for g in cell.matrices:
        left, right = (_factor(sites[p.buffer], p.column * size, call) for p in (g.left, g.right))
        repeats = any(g.overlaps(other.gradient) for other in found)
        found.append(Block(g, left, right, repeats))
    return tuple(found)


def _factor(site: Site, column: int, call: Call) -> Factor:
    if not call.uneven:
        return Factor(site.array, site.first + column, site.step, site.row)
    gather = "item" if not site.step else "" if site.shift else "before"
    first = 0 if gather else site.first + call.batch * site.row
    return Factor(site.array, first + column, site.row, site.row, gather)
