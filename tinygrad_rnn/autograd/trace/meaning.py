"""What the values of a watched step stand for, and what each op makes of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.autograd.trace.atoms import Atom, Atoms, Untraceable, cuts
from tinygrad_rnn.kernels.pointwise.table import takes_power
from tinygrad_rnn.kernels.sequence.program import Matrix as Block

COMPARISONS = {"equal", "not_equal", "less", "less_equal", "greater", "greater_equal"}
KEEPING = {"split", "reshape", "transpose"}  # ops that take booleans too


class Row(NamedTuple):
    """A value for each item of the batch, (B, n): pieces side by side.

    `total` marks its sum over batch and time, (n,), which is the gradient of a vector; `unit` a
    vector of parameters, (n,), itself.
    """

    pieces: tuple[Atom, ...]
    total: bool = False
    unit: bool = False

    @property
    def width(self) -> int:
        return sum(p.width for p in self.pieces)


class Turned(NamedTuple):
    """A row, transposed: (n, B)."""

    row: Row


class Scalars(NamedTuple):
    """A row of width 1, as (B,)."""

    row: Row


class Matrix(NamedTuple):
    """A block of a parameter: (rows, columns), or transposed."""

    param: int
    rows: tuple[int, int]
    columns: tuple[int, int]
    turned: bool = False  # transposed


class Outer(NamedTuple):
    """The gradient of a matrix: left and right are rows, multiplied over batch and time; each
    term stands at a row and column of the whole."""

    terms: tuple[tuple[Row, Row, int, int], ...]


Meaning = Row | Turned | Scalars | Matrix | Outer


def rows_of(gradient: Row | Outer) -> list[Row]:
    """All rows that a gradient is made of."""
    if isinstance(gradient, Row):
        return [gradient]
    return [row for left, right, _, _ in gradient.terms for row in (left, right)]


class Meanings:
    """The algebra: op by op, what a result stands for."""

    def __init__(self, pointwise: Callable[[str], bool]) -> None:
        self.atoms, self.is_pointwise = Atoms(), pointwise

    def result(self, name: str, inputs: Sequence[Any]) -> Any:
        """What the result of an op on meanings, numbers and other arguments stands for; a tuple
        for several results."""
        numbers = [v for v in inputs[name == "where" :] if isinstance(v, Row)]
        if name not in KEEPING and any(p.op in COMPARISONS for v in numbers for p in v.pieces):
            raise Untraceable(f"{name} of booleans cannot be compiled; use where")
        if handler := getattr(self, f"_{name}", None):
            return handler(*inputs)
        if not self.is_pointwise(name):
            raise Untraceable(f"{name} is not among the ops that can be compiled")
        if all(isinstance(v, Outer) for v in inputs) and name == "add":
            return Outer(inputs[0].terms + inputs[1].terms)
        if any(isinstance(v, Scalars) for v in inputs):
            if all(isinstance(v, (Scalars, Row)) for v in inputs) and all(map(is_number, numbers)):
                return Scalars(self._pointwise(name, [getattr(v, "row", v) for v in inputs]))
        if not all(isinstance(v, Row) for v in inputs):
            raise Untraceable(f"{name} of matrices cannot be compiled")
        if name == "power" and not (is_number(inputs[1]) and takes_power(value(inputs[1]))):
            raise Untraceable("power can be compiled for small multiples of 1/2 as exponents")
        return self._pointwise(name, inputs)

    def number(self, value: float) -> Row:
        """A number of the program."""
        return Row((self.atoms.constant(value),), unit=True)

    def copied(self, kind: str, index: int, width: int) -> Row:
        """A row that does not stay in memory: a product cannot read it there afterwards."""
        leaf = self.atoms.leaf(kind, index, width)
        return Row((self.atoms.pointwise("multiply", leaf, self.atoms.constant(1.0)),))

    def _pointwise(self, name: str, rows: Sequence[Row]) -> Row:
        width = max(r.width for r in rows)
        if any(r.width not in (0, 1, width) for r in rows):
            raise Untraceable(f"{name} of rows of different widths cannot be compiled")
        ends = sorted({e for r in rows if r.width == width for e in cuts(r.pieces)})
        aligned = [
            self._cut(r, ends) if r.width == width else [r.pieces[0]] * len(ends) for r in rows
        ]
        pieces = tuple(self.atoms.pointwise(name, *args) for args in zip(*aligned, strict=True))
        total = any(r.total for r in rows)
        return Row(pieces, total, not total and all(r.unit for r in rows))

    def _cut(self, row: Row, ends: Sequence[int]) -> list[Atom]:
        """The row's pieces, cut at `ends` too."""
        found, end = [], 0
        for piece in row.pieces:
            start, end = end, end + piece.width
            inner = [e for e in ends if start < e < end]
            for a, b in zip([start, *inner], [*inner, end], strict=True):
                found.append(self.atoms.part(piece, a - start, b - start))
        return found

    # Products

    def _linear(self, x: Any, weight: Any) -> Row:
        return self._product(x, weight, turned=False)

    def _matmul(self, x: Any, y: Any) -> Any:
        if isinstance(x, Turned) and isinstance(y, Row):
            return Outer(((x.row, y, 0, 0),))
        return self._product(x, y, turned=True)

    def _product(self, x: Any, matrix: Any, turned: bool) -> Row:
        """x W, or x Wᵀ: a sum of products of the pieces of x."""
        if not isinstance(x, Row) or not isinstance(matrix, Matrix) or x.unit or x.total:
            raise Untraceable("a product of a row with something else than a parameter matrix")
        turned = turned != matrix.turned
        (k, _), (n, n_end) = (
            (matrix.rows, matrix.columns) if turned else (matrix.columns, matrix.rows)
        )
        terms = []
        for piece in x.pieces:
            block = Block(matrix.param, k, k + piece.width, n, n_end, turned)
            terms.append(Row((self.atoms.product(piece, block),)))
            k += piece.width
        total = terms[0]
        for term in terms[1:]:
            total = self._pointwise("add", [total, term])
        return total

    def _transpose(self, a: Any, axes: Any = None) -> Meaning:
        if axes is not None and [x % 2 for x in axes] != [1, 0]:
            raise Untraceable("transpose of more than two axes cannot be compiled")
        if isinstance(a, Matrix):
            return a._replace(turned=not a.turned)
        if isinstance(a, Outer):
            return Outer(tuple((y, x, j, i) for x, y, i, j in a.terms))
        if isinstance(a, Turned):
            return a.row
        return Turned(a)

    # Shapes

    def _split(self, ary: Any, indices_or_sections: Any, axis: int = 0) -> tuple[Meaning, ...]:
        if isinstance(ary, Matrix) and axis == 0 and not ary.turned:
            start, stop = ary.rows
            ends = _ends(indices_or_sections, stop - start)
            pairs = zip([0, *ends[:-1]], ends, strict=True)
            return tuple(ary._replace(rows=(start + a, start + b)) for a, b in pairs)
        if not isinstance(ary, Row) or axis not in (-1, 0 if ary.unit else 1):
            raise Untraceable("split can be compiled on the last axis, of a matrix on axis 0")
        ends, parts, end = _ends(indices_or_sections, ary.width), [], 0
        pieces = self._cut(ary, ends)
        for stop in ends:
            part = []
            while end < stop:
                part.append(pieces.pop(0))
                end += part[-1].width
            parts.append(ary._replace(pieces=tuple(part)))
        return tuple(parts)

    def _concatenate(self, arrays: Sequence[Any], axis: int, cuts: Sequence[int]) -> Meaning:
        first = arrays[0]
        if any(isinstance(a, Outer) for a in arrays) and axis in (0, -2):
            return Outer(tuple(_shifted(arrays, [0, *cuts])))
        if not all(isinstance(a, Row) for a in arrays) or axis not in (-1, 0 if flat(first) else 1):
            raise Untraceable("concatenate can be compiled on the last axis of rows")
        kinds = {(a.total, a.unit) for a in arrays if not is_number(a)}
        if len(kinds) > 1:
            raise Untraceable("concatenate of rows with parameters cannot be compiled")
        return Row(tuple(p for a in arrays for p in a.pieces), *(kinds or {(False, False)}).pop())

    def _reshape(self, a: Any, shape: Any) -> Any:
        axes = len(shape) if isinstance(shape, (tuple, list)) else 1
        if isinstance(a, Scalars) and axes == 2:
            return a.row
        if isinstance(a, Row) and not flat(a) and a.width == 1 and axes == 1:
            return Scalars(a)
        return a  # `result` has no other shape: the watcher compares them

    def _sum(self, a: Any, axis: Any = None, keepdims: bool = False) -> Row | Scalars:
        if not isinstance(a, Row) or flat(a) or axis is None:
            raise Untraceable("sums can be compiled over the units of a row")
        axes = {k % 2 for k in (axis if isinstance(axis, tuple) else (axis,))}
        if 1 in axes:
            terms = [p if p.width == 1 else self.atoms.total(p) for p in a.pieces]
            a = Row((functools.reduce(functools.partial(self.atoms.pointwise, "add"), terms),))
        if 0 in axes:
            return Row(a.pieces, total=True)
        return a if keepdims else Scalars(a)

    def _spanned(self, a: Any, shape: tuple[int, ...], axis: Any, keepdims: bool) -> Row:
        row = a.row if isinstance(a, Scalars) else a
        if not isinstance(row, Row) or row.width != 1 or axis not in (1, -1, (1,), (-1,)):
            raise Untraceable("sums can be compiled over the units of a row")
        return Row((self.atoms.widened(row.pieces[0], shape[-1]),))


def flat(row: Row) -> bool:
    """Whether its shape is (n,)."""
    return row.total or row.unit


def is_number(row: Row) -> bool:
    return all(p.op == "number" for p in row.pieces)


def value(row: Row) -> float:
    """The number that a row of a program is."""
    return float.fromhex(row.pieces[0].extra[0])


def _ends(sections: Any, width: int) -> list[int]:
    """Where the parts of a split end."""
    if isinstance(sections, (int, np.integer)):
        return [width * (k + 1) // int(sections) for k in range(int(sections))]
    return [*(int(s) for s in sections), width]


def _shifted(arrays: Sequence[Any], starts: Sequence[int]) -> Any:
    """The terms of gradients of blocks of rows, one below another; those of some may be 0."""
    for a, start in zip(arrays, starts, strict=True):
        if isinstance(a, Outer):
            yield from ((left, right, start + i, j) for left, right, i, j in a.terms)
        elif not (isinstance(a, Row) and is_number(a) and value(a) == 0.0):
            raise Untraceable("a matrix of which parts are used in other ways")
