"""From atoms to a program: what is stored where, and the stages' products and pointwise code.

Pointwise code is computed again wherever it is wanted, unless its row is in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tinygrad_rnn.autograd.trace.atoms import Atom
from tinygrad_rnn.autograd.trace.chains import Chains
from tinygrad_rnn.autograd.trace.timing import AFTER, BEFORE, LOOP, Time, Timing, used
from tinygrad_rnn.kernels.program import (
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


class Staging:
    """Lays out one program. `held` says where atoms are in memory from the start; what the program
    puts there itself is added to it."""

    def __init__(
        self, chains: Chains, held: dict[Atom, Place], kind: str, carried: Sequence[Atom]
    ) -> None:
        self.chains, self.held = chains, held
        self.timing = Timing(chains, held, kind, carried)
        self.widths: dict[Buffer, int] = {}
        self.hoisted: set[Buffer] = set()
        self.reads: list[Access] = []
        self.writes: list[Access] = []
        self._places: dict[Place, int] = {}
        self._matrices: dict[Matrix, int] = {}
        self._sizes: list[int] = []

    def program(
        self,
        outputs: Sequence[Output],
        rows: str,
        sums: str,
        preferred: Mapping[Atom, Place] | None = None,
        lasting: Sequence[Atom] = (),
    ) -> Program:
        """The program that computes `outputs`. Operands go to their preferred place, or one in a
        buffer named `rows`; chains, and those that are to be kept, to one named `sums`."""
        wanted = [*(o.atom for o in outputs), *(preferred or ()), *lasting]
        stored, targets = self._direct(outputs, wanted)
        added = {self.held[chain] for chain in targets}
        for o in stored:
            lasts = o.place.buffer[0] in ("next", "out") and o.place not in added and o.atom.args
            if lasts and self.timing.time(o.atom)[0] != BEFORE:
                self.held.setdefault(o.atom, o.place)
        roots = [*wanted, *targets]
        chains = [a for a in self.timing.behind(roots) if self.timing.is_open(a)]
        operands = [*(preferred or ()), *(s for c in chains for s in self.timing.sources(c))]
        for operand in dict.fromkeys(operands):
            if operand not in self.held and operand.op != "leaf":
                place = (preferred or {}).get(operand, Place((rows, len(self.widths))))
                stored.append(Output(operand, place))
                self.held[operand] = place
                self.widths.setdefault(place.buffer, operand.width)
                if self.timing.time(operand)[0] == BEFORE:
                    self.hoisted.add(place.buffer)
        for atom in self._fading(stored):
            self.held[atom] = Place((rows, len(self.widths)))
            stored.append(Output(atom, self.held[atom]))
            self.widths[self.held[atom].buffer] = atom.width
        self._place_chains([c for c in chains if c not in targets], sums)
        links = self._links(chains, targets)
        before, loop, after = self._stages(links, stored)
        sizes = len(self._places), len(self._matrices), len(self._sizes)
        code = Code(before, loop, after, *sizes)
        return Program(code, tuple(self._places), tuple(self._matrices), tuple(self._sizes))

    def _fading(self, stored: Sequence[Output]) -> list[Atom]:
        """What code after the loop reads of the carried cotangents, which are gone by then."""
        late = [o.atom for o in stored if self._storing(o.atom, o.place)[0] == AFTER]
        found: dict[Atom, None] = {}
        seen, stack = set(late), late
        while stack:
            for a in stack.pop().args:
                if a not in seen and a not in self.held:
                    seen.add(a)
                    stack.append(a)
                    if any(b.op == "leaf" and b.extra[0] == "d_state" for b in a.args):
                        found[a] = None
        return list(found)

    def _direct(
        self, outputs: Sequence[Output], wanted: Sequence[Atom]
    ) -> tuple[list[Output], dict[Atom, bool]]:
        """Chains may add up right where an output belongs. What remains to be stored, and those
        chains, with whether something else of the sum is there before them."""
        counts = used(self.timing, wanted)
        stored, targets = [], {}
        for o in outputs:
            chain, rest = self._as_sum(o.atom, counts)
            if o.adds or chain is None or chain in self.held:
                stored.append(o)
                continue
            first = min(self.timing.moment(chain, s) for s in self.timing.sources(chain))
            early = first[0] == BEFORE  # for many steps at once: a state has no room for them
            if (early and o.place.buffer[0] in ("next", "d_next")) or (
                rest is not None and (early or self._storing(rest, o.place) >= first)
            ):
                stored.append(o)
                continue
            targets[chain], self.held[chain] = rest is not None, o.place
            if rest is not None:
                stored.append(Output(rest, o.place))
        return stored, targets

    def _as_sum(self, atom: Atom, counts: dict[Atom, int]) -> tuple[Atom | None, Atom | None]:
        """A sum of a chain and a rest that nobody else reads, taken apart."""
        rest = None
        while atom.op == "add" and counts[atom] == 1:
            atom, term = atom.args if not self.timing.is_open(atom.args[1]) else atom.args[::-1]
            rest = term if rest is None else self.chains.atoms.pointwise("add", term, rest)
        if not self.timing.is_open(atom) or counts[atom] > 1:
            return None, None
        return (atom, rest) if rest is None or rest.width == atom.width else (None, None)

    def _storing(self, atom: Atom, place: Place) -> Time:
        """When an output is stored: in the loop, unless products before it want the row."""
        time = self.timing.time(atom)
        return time if time[0] != BEFORE or place.buffer in self.hoisted else (LOOP, 0)

    def _place_chains(self, chains: Sequence[Atom], name: str) -> None:
        """Places for chains, side by side where their first products are parts of one."""

        def origin(chain: Atom) -> tuple[int, ...]:
            products = self.chains.of(chain).products
            operand, m = min(products, key=lambda p: (self.timing.moment(chain, p[0]), p[1]))
            phase, stage = self.timing.moment(chain, operand)
            return phase, stage, operand.number, m.param, m.turned, m.k, m.k_end, m.n

        last, buffer = None, (name, 0)
        for chain in sorted(chains, key=origin):
            if origin(chain)[:-1] != last:
                last, buffer = origin(chain)[:-1], (name, len(self.widths))
                self.widths[buffer] = 0
                if last[0] == BEFORE:
                    self.hoisted.add(buffer)
            self.held[chain] = Place(buffer, self.widths[buffer])
            self.widths[buffer] += chain.width

    def _links(self, chains: Sequence[Atom], targets: dict[Atom, bool]) -> list[Link]:
        """The products of all chains, those that follow one another in memory as one."""
        ranked: list[tuple[Time, int, Place, Link]] = []  # with the rank in its chain at that time
        for chain in chains:
            found = sorted(
                (self.timing.moment(chain, x), self.held.get(x) or at_leaf(x), m)
                for x, m in self.chains.of(chain).products
            )
            run: list[Link] = []
            for time, operand, m in found:
                adds = bool(run) or targets.get(chain, False)
                link = Link(time, operand, m, self.held[chain], adds)
                joined = deeper(run[-1], link) if run else None
                run[-1:] = [joined] if joined else [*run[-1:], link]
            for k, link in enumerate(run):
                rank = sum(other.time == link.time for other in run[:k])
                ranked.append((link.time, rank, link.target, link))
        merged: list[Link] = []
        for *_, link in sorted(ranked):
            joined = wider(merged[-1], link) if merged else None
            merged[-1:] = [joined] if joined else [*merged[-1:], link]
        return merged

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

    # Code

    def _stages(self, links: Sequence[Link], stored: Sequence[Output]) -> list[tuple[Stage, ...]]:
        parts: list[tuple[Stage, ...]] = []
        times = [self._storing(o.atom, o.place) for o in stored]
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
        widths = dict.fromkeys(max(o.atom.width, 1) for o in outputs)
        for index, width in enumerate(widths):
            here = [o for o in outputs if max(o.atom.width, 1) == width]
            yield self._group(here, width, (*time, index))

    def _group(self, outputs: Sequence[Output], width: int, moment: Moment) -> Group:
        code: dict[tuple[object, ...], int] = {}
        values: dict[Atom, int] = {}
        for atom in self._evaluated([o.atom for o in outputs], moment):
            values[atom] = code.setdefault(self._instruction(atom, values, moment), len(code))
        stores = []
        for o in outputs:
            stores.append(Store(values[o.atom], self._place(o.place), o.adds))
            self.writes.append(Access(o.place, width, moment))
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
        return atom in self.timing.given or self._storing(atom, self.held[atom]) < moment[:2]

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


def deeper(a: Link, b: Link) -> Link | None:
    """Two products that add up at one place, whose operands follow one another, as one."""
    m, n = a.matrix, b.matrix
    follows = b.operand == a.operand._replace(column=a.operand.column + m.k_end - m.k)
    if (a.time, a.target) != (b.time, b.target) or not follows or not b.adds:
        return None
    return (
        a._replace(matrix=m._replace(k_end=n.k_end))
        if n == n._replace(param=m.param, k=m.k_end, n=m.n, n_end=m.n_end, turned=m.turned)
        else None
    )


def wider(a: Link, b: Link) -> Link | None:
    """Two products of one operand, whose targets follow one another, as one."""
    m, n = a.matrix, b.matrix
    follows = b.target == a.target._replace(column=a.target.column + m.n_end - m.n)
    if (a.time, a.operand, a.adds) != (b.time, b.operand, b.adds) or not follows:
        return None
    return (
        a._replace(matrix=m._replace(n_end=n.n_end))
        if n == n._replace(param=m.param, k=m.k, k_end=m.k_end, n=m.n_end, turned=m.turned)
        else None
    )
