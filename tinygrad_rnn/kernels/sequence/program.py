"""Staged programs: what a compiled sequence does at each step, as plain data.

A program works on places (columns of buffers, one row for each time and batch item). It has three
parts: `before` and `after` do all steps of a stretch of time at once, `loop` goes step by step.
Each is a list of stages: first matrix products, then groups of pointwise code.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

Buffer = tuple[str, int]  # its name and index


class Place(NamedTuple):
    """Where a row is: columns of a buffer, from `column` on."""

    buffer: Buffer
    column: int = 0


class Product(NamedTuple):
    """target = (start or 0) + operand · matrix; all but `adds` are indices, of places, matrices
    and sizes."""

    operand: int
    matrix: int
    target: int
    adds: bool  # to what is at the target
    k: int
    n: int


class Store(NamedTuple):
    """Write, or add, a value of a group's code to a place; or write the sum of its units."""

    value: int
    place: int
    adds: bool
    sums: bool = False


class Group(NamedTuple):
    """Pointwise code for rows of one width.

    An instruction is ("load", place), ("spread", place) for one element per row,
    ("number", hexadecimal) or (name of an op, index of a value, ...).
    """

    width: int
    code: tuple[tuple[Any, ...], ...]
    stores: tuple[Store, ...]


class Stage(NamedTuple):
    products: tuple[Product, ...]
    groups: tuple[Group, ...]


class Matrix(NamedTuple):
    """B[k, n] of a product: a part of parameter `param`, with k along its rows if `turned`."""

    param: int
    k: int
    k_end: int
    n: int
    n_end: int
    turned: bool


class Code(NamedTuple):
    """What is emitted: it names places, matrices and sizes by number, so that it serves all
    sizes."""

    before: tuple[Stage, ...]
    loop: tuple[Stage, ...]
    after: tuple[Stage, ...]
    places: int
    matrices: int
    sizes: int


class Program(NamedTuple):
    """Code, and what its numbers stand for."""

    code: Code
    places: tuple[Place, ...]
    matrices: tuple[Matrix, ...]
    sizes: tuple[int, ...]


class Gradient(NamedTuple):
    """Part of a matrix's gradient: the sum over time and batch of left ⊗ right."""

    param: int
    row: int
    column: int
    rows: int
    columns: int
    left: Place
    right: Place

    def overlaps(self, other: Gradient) -> bool:
        """Whether both are parts of one gradient that share elements."""
        apart = (
            self.row >= other.row + other.rows
            or other.row >= self.row + self.rows
            or self.column >= other.column + other.columns
            or other.column >= self.column + self.columns
        )
        return self.param == other.param and not apart


@dataclass(frozen=True)
class Cell:
    """A compiled cell's programs, and the buffers that they need.

    Buffers, by name and index: "x", "state" (before a step), "next" (after it), "each", "unit";
    "chain" and "row" are made by the forward pass; "d_out", "d_state", "d_next" (the same memory),
    "d_x", "d_each", "d" (laid out as "chain"), "d_row" and "total" by the backward pass.
    """

    forward: Program
    backward: Program
    widths: dict[Buffer, int]
    output: Buffer  # the buffer that holds the outputs
    kept: frozenset[Buffer]  # forward buffers that the backward pass reads
    hoisted: frozenset[Buffer]  # buffers filled or read for a stretch of time at once
    in_place: frozenset[Buffer]  # "next", "d": may be the memory they follow from
    matrices: tuple[Gradient, ...]
    covered: frozenset[int]  # parameters whose gradients these make up entirely
    vectors: dict[int, Buffer]  # parameter -> buffer of its gradient
    live: frozenset[Buffer]  # ("x", k), ("state", i), ("each", j), ("param", p) with a gradient

    @functools.cached_property
    def units(self) -> tuple[int, ...]:
        """The parameters that are vectors, as the programs read them."""
        places = (*self.forward.places, *self.backward.places)
        return tuple(sorted({p.buffer[1] for p in places if p.buffer[0] == "unit"}))

    @functools.cached_property
    def summed(self) -> tuple[Buffer, ...]:
        """The buffers in which the backward pass adds up over time."""
        return tuple(b for b in self.widths if b[0] in ("total", "d_each"))

    @functools.cached_property
    def totals(self) -> frozenset[Buffer]:
        """The buffers whose sum over the batch is the gradient of a vector."""
        return frozenset(self.vectors.values())
