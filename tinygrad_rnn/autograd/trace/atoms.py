"""Atoms: what a step computes for one row, as a graph of named ops on pieces of rows.

An atom is a leaf (a piece of an input, a state, a vector of parameters, a cotangent), a number, a
product of an atom with a block of a matrix, the sum of an atom's units, or a pointwise op, of which
"widen" repeats the one unit of an atom. Equal atoms are one object, so
what a backward pass computes again is known to be the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinygrad_rnn.kernels.sequence.program import Matrix


class Untraceable(Exception):
    """What a step does cannot be compiled; it runs by its definition."""


class Atom:
    """One piece of a row; `extra` says which leaf, number or block."""

    __slots__ = ("args", "extra", "number", "op", "width")

    def __init__(
        self, op: str, args: tuple[Atom, ...], extra: Any, width: int, number: int
    ) -> None:
        self.op, self.args, self.extra, self.width, self.number = op, args, extra, width, number

    def __repr__(self) -> str:
        return f"#{self.number}"


class Atoms:
    """All atoms of one trace."""

    def __init__(self) -> None:
        self._known: dict[Any, Atom] = {}
        self._parts: dict[Any, Atom] = {}

    def _one(self, op: str, args: tuple[Atom, ...], extra: Any, width: int) -> Atom:
        key = (op, args, extra, width)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = Atom(op, args, extra, width, len(self._known))
        return found

    def leaf(self, kind: str, index: int, width: int, column: int = 0) -> Atom:
        """Columns of a piece of memory that is there at every step."""
        return self._one("leaf", (), (kind, index, column), width)

    def constant(self, value: float, width: int = 0) -> Atom:
        """A number; of width 0 it fits any row."""
        return self._one("number", (), (float(value).hex(),), width)

    def product(self, operand: Atom, block: Matrix) -> Atom:
        """operand · block."""
        return self._one("product", (operand,), block, block.n_end - block.n)

    def pointwise(self, op: str, *args: Atom) -> Atom:
        """An op on each unit by itself."""
        width = max(a.width for a in args)
        for a, other in (args, args[::-1]) if op == "add" else ():
            if is_zero(a) and other.width == width:
                return other
        return self._one(op, args, (), width)

    def total(self, atom: Atom) -> Atom:
        """The sum of an atom's units, of width 1."""
        return self._one("sum", (atom,), (), 1)

    def widened(self, atom: Atom, width: int) -> Atom:
        """An atom of width 1, repeated."""
        return self._one("widen", (atom,), (), width) if width != 1 else atom

    def part(self, atom: Atom, start: int, stop: int) -> Atom:
        """Columns start:stop of an atom."""
        if (start, stop) == (0, atom.width) or atom.width <= 1:
            return atom
        if (atom, start, stop) not in self._parts:
            self._parts[atom, start, stop] = self._part(atom, start, stop)
        return self._parts[atom, start, stop]

    def _part(self, atom: Atom, start: int, stop: int) -> Atom:
        if atom.op == "leaf":
            kind, index, column = atom.extra
            return self.leaf(kind, index, stop - start, column + start)
        if atom.op == "number":
            return self._one("number", (), atom.extra, stop - start)
        if atom.op == "product":
            n = atom.extra.n
            return self.product(atom.args[0], atom.extra._replace(n=n + start, n_end=n + stop))
        if atom.op == "widen":
            return self.widened(atom.args[0], stop - start)
        return self.pointwise(atom.op, *(self.part(a, start, stop) for a in atom.args))

    def listing(self) -> list[str]:
        """Every atom, as text."""
        return [f"{a!r} = {a.op} {a.args} {a.extra} {a.width}" for a in self._known.values()]

    def rebuilt(self, atom: Atom, args: tuple[Atom, ...]) -> Atom:
        """The same op on other atoms."""
        return self._one(atom.op, args, atom.extra, atom.width)


def is_zero(atom: Atom) -> bool:
    return atom.op == "number" and float.fromhex(atom.extra[0]) == 0.0


def cuts(pieces: Sequence[Atom]) -> list[int]:
    """Where pieces end."""
    ends, end = [], 0
    for p in pieces:
        ends.append(end := end + p.width)
    return ends


def reversed_order(roots: Sequence[Atom]) -> list[Atom]:
    """All atoms that `roots` need, arguments first."""
    seen: set[Atom] = set()
    stack = list(roots)
    while stack:
        atom = stack.pop()
        if atom not in seen:
            seen.add(atom)
            stack.extend(atom.args)
    return sorted(seen, key=lambda a: a.number)
