"""Writing a program down: stages of products and of pointwise code, with numbered places.

Pointwise code is computed again wherever it is wanted, unless its row is in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from tinygrad_rnn.autograd.trace.atoms import Atom
from tinygrad_rnn.autograd.trace.timing import LOOP, Time
from tinygrad_rnn.kernels.sequence.program import (
    Buffer,
    Code,
    Group,
    Matrix,
    Place,
    Product,
    Program,
    Stage,
    Store,
)

Moment = tuple[int, int, int]  # phase, stage, and group (-1: the products before them)


class Output(NamedTuple):
    """An atom that the program leaves at a place, or adds to it."""

    atom: Atom
    place: Place
    adds: bool = False


class Link(NamedTuple):
    """A product of a chain, with its operand in memory."""

    time: Time
    operand: Place
    matrix: Matrix
    target: Place
    adds: bool  # to what is at the target already


class Access(NamedTuple):
    """Columns of a buffer that are read or written at a moment."""

    place: Place
    width: int
    moment: Moment


class Writer:
    """Writes one program. `held` says where atoms are in memory, `given` which of them from the
    start; `storing` when an output is stored."""

    def __init__(
        self,
        held: Mapping[Atom, Place],
        given: Collection[Atom],
        storing: Callable[[Atom, Place], Time],
    ) -> None:
        self.held, self.given, self.storing = held, given, storing
        self.reads: list[Access] = []
        self.writes: list[Access] = []
        self._places: dict[Place, int] = {}
        self._matrices: dict[Matrix, int] = {}
        self._sizes: list[int] = []

    def program(self, links: Sequence[Link], stored: Sequence[Output]) -> Program:
        """The program of some products, and of some outputs to be stored."""
        before, loop, after = self._stages(links, stored)
        sizes = len(self._places), len(self._matrices), len(self._sizes)
        code = Code(before, loop, after, *sizes)
        return Program(code, tuple(self._places), tuple(self._matrices), tuple(self._sizes))

    def spanned(self) -> set[Buffer]:
        """The buffers that are filled, or read, for many steps at once."""
        return {a.place.buffer for a in (*self.reads, *self.writes) if a.moment[0] != LOOP}

    def in_place(self, before: Buffer, after: Buffer) -> bool:
        """Whether a buffer may be the memory of another one, which it replaces: nothing is read
        after it was overwritten."""
        for write in (w for w in self.writes if w.place.buffer == after):
            for read in (r for r in self.reads if r.place.buffer == before):
                start, stop = write.place.column, write.place.column + write.width
                apart = read.place.column >= stop or read.place.column + read.width <= start
                pointwise = read.moment == write.moment and write.moment[2] >= 0
                same = pointwise and read.place.column == start
                if not apart and not same and read.moment >= write.moment:
                    return False
        return True

    def _stages(self, links: Sequence[Link], stored: Sequence[Output]) -> list[tuple[Stage, ...]]:
        parts: list[tuple[Stage, ...]] = []
        times = [self.storing(o.atom, o.place) for o in stored]
        for phase in range(3):
            here = [t[1] for t in [*times, *(k.time for k in links)] if t[0] == phase]
            stages = []
            for stage in range(max(here, default=-1) + 1):
                time = phase, stage
                products = [self._product(k) for k in links if k.time == time]
                group = [o for o, t in zip(stored, times, strict=True) if t == time]
                stages.append(Stage(tuple(products), tuple(self._groups(group, time))))
            parts.append(tuple(stages))
        return parts

    def _size(self, n: int) -> int:
        self._sizes.append(n)
        return len(self._sizes) - 1

    def _place(self, place: Place) -> int:
        return self._places.setdefault(place, len(self._places))

    def _product(self, link: Link) -> Product:
        m, moment = link.matrix, (*link.time, -1)
        k, n = m.k_end - m.k, m.n_end - m.n
        self.reads.append(Access(link.operand, k, moment))
        self.writes.append(Access(link.target, n, moment))
        if link.adds:
            self.reads.append(Access(link.target, n, moment))
        matrix = self._matrices.setdefault(m, len(self._matrices))
        operand, target = self._place(link.operand), self._place(link.target)
        return Product(operand, matrix, target, link.adds, self._size(k), self._size(n))

    def _groups(self, outputs: Sequence[Output], time: Time) -> Iterable[Group]:
        groups: dict[int, list[Output]] = {}
        for o in outputs:
            width = o.atom.args[0].width if self._sums(o) else o.atom.width
            groups.setdefault(max(width, 1), []).append(o)
        for index, (width, here) in enumerate(groups.items()):
            yield self._group(here, width, (*time, index))

    def _sums(self, output: Output) -> bool:
        """Whether an output is a sum, which is added up right where it is kept."""
        here = self.held.get(output.atom) == output.place
        return output.atom.op == "sum" and here and output.atom not in self.given

    def _group(self, outputs: Sequence[Output], width: int, moment: Moment) -> Group:
        roots = [o.atom.args[0] if self._sums(o) else o.atom for o in outputs]
        code: dict[tuple[object, ...], int] = {}
        values: dict[Atom, int] = {}
        for atom in self._evaluated(roots, moment):
            if atom.op == "widen":  # lanes hold one unit or all of them alike
                values[atom] = values[atom.args[0]]
            else:
                values[atom] = code.setdefault(self._instruction(atom, values, moment), len(code))
        stores = []
        for o, root in zip(outputs, roots, strict=True):
            sums = self._sums(o)
            stores.append(Store(values[root], self._place(o.place), o.adds, sums))
            self.writes.append(Access(o.place, 1 if sums else width, moment))
        return Group(self._size(width), tuple(code), tuple(stores))

    def _evaluated(self, roots: Sequence[Atom], moment: Moment) -> list[Atom]:
        """Atoms that a group computes or loads, sources first."""
        found: dict[Atom, None] = {}
        stack = [(r, False) for r in reversed(roots)]
        while stack:
            atom, entered = stack.pop()
            if entered:
                found[atom] = None
            elif atom not in found:
                stack.append((atom, True))
                if not self._in_memory(atom, moment):
                    stack.extend((a, False) for a in reversed(atom.args))
        return list(found)

    def _in_memory(self, atom: Atom, moment: Moment) -> bool:
        if not atom.args or atom not in self.held:
            return atom.op == "leaf"
        return atom in self.given or self.storing(atom, self.held[atom]) < moment[:2]

    def _instruction(
        self, atom: Atom, values: dict[Atom, int], moment: Moment
    ) -> tuple[object, ...]:
        if self._in_memory(atom, moment):
            place = self.held[atom] if atom in self.held else at_leaf(atom)
            self.reads.append(Access(place, atom.width, moment))
            return ("spread" if atom.width == 1 else "load", self._place(place))
        if atom.op == "number":
            return ("number", *atom.extra)
        return (atom.op, *(values[a] for a in atom.args))


def at_leaf(atom: Atom) -> Place:
    """Where a leaf is: its buffer has its name."""
    kind, index, column = atom.extra
    return Place((kind, index), column)
