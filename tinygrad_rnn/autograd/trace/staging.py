"""From atoms to a program: what is stored where, and which products run when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tinygrad_rnn.autograd.trace.atoms import Atom
from tinygrad_rnn.autograd.trace.chains import Chains
from tinygrad_rnn.autograd.trace.timing import AFTER, BEFORE, LOOP, Time, Timing, used
from tinygrad_rnn.autograd.trace.writing import Link, Output, Writer, at_leaf
from tinygrad_rnn.kernels.sequence.program import Buffer, Place, Program

LONG = 160  # pointwise ops that are computed again rather than kept


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
        self.writer = Writer(held, self.timing.given, self.storing)

    def program(
        self,
        outputs: Sequence[Output],
        rows: str,
        chained: str,
        preferred: Mapping[Atom, Place] | None = None,
        lasting: Sequence[Atom] = (),
    ) -> Program:
        """The program that computes `outputs`. Operands go to their preferred place, or one in a
        buffer named `rows`; chains, and those that are to be kept, to one named `chained`."""
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
                place = (preferred or {}).get(operand) or Place((rows, len(self.widths)))
                stored.append(self._stored(operand, place))
        sums = [a for a in self.timing.behind(roots) if self.timing.is_sum(a)]
        self._keep(sums, stored, rows)
        self._keep(self._fading(stored), stored, rows)
        self._keep(self._long(roots), stored, rows)
        self._place_chains([c for c in chains if c not in targets], chained)
        links = self._links(chains, targets)
        return self.writer.program(links, stored)

    def _keep(self, atoms: Sequence[Atom], stored: list[Output], rows: str) -> None:
        """Store rows that are not in memory anyway."""
        for atom in atoms:
            if atom not in self.held:
                stored.append(self._stored(atom, Place((rows, len(self.widths)))))

    def _stored(self, atom: Atom, place: Place) -> Output:
        """Keep a row in memory."""
        self.held[atom] = place
        self.widths.setdefault(place.buffer, atom.width)
        if self.timing.time(atom)[0] == BEFORE:
            self.hoisted.add(place.buffer)
        return Output(atom, place)

    def _fading(self, stored: Sequence[Output]) -> list[Atom]:
        """What code after the loop reads of the carried cotangents, which are gone by then."""
        late = [o.atom for o in stored if self.storing(o.atom, o.place)[0] == AFTER]
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

    def _long(self, roots: Sequence[Atom]) -> list[Atom]:
        """What later stages read and what it takes too many ops to compute again."""
        time, order = self.timing.time, self.timing.behind(roots)
        last: dict[Atom, Time] = {}
        for a in reversed(order):
            moment = time(a) if a in self.held else max(time(a), last.get(a, time(a)))
            for s in self.timing.sources(a):
                last[s] = max(moment, last.get(s, moment))
        found: list[Atom] = []
        ops: dict[Atom, frozenset[Atom]] = {}
        for a in order:
            ops[a] = frozenset()
            if a.args and a not in self.held and not self.timing.is_sum(a):
                ops[a] = frozenset({a}).union(*(ops[s] for s in a.args))
                if len(ops[a]) > LONG and last.get(a, time(a)) > time(a):
                    found.append(a)
                    ops[a] = frozenset()
        return found

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
                rest is not None and (early or self.storing(rest, o.place) >= first)
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

    def storing(self, atom: Atom, place: Place) -> Time:
        """When an output is stored: in the loop, unless products before it want the row."""
        if self.timing.is_sum(atom) and self.held.get(atom) == place:
            return self.timing.time(atom.args[0])  # where it is added up
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


def deeper(a: Link, b: Link) -> Link | None:
    """Two products that add up at one place, whose operands follow one another, as one."""
    m, n = a.matrix, b.matrix
    follows = b.operand == a.operand._replace(column=a.operand.column + m.k_end - m.k)
    if (a.time, a.target) != (b.time, b.target) or not follows or not b.adds:
        return None
    beyond = n == n._replace(param=m.param, k=m.k_end, n=m.n, n_end=m.n_end, turned=m.turned)
    return a._replace(matrix=m._replace(k_end=n.k_end)) if beyond else None


def wider(a: Link, b: Link) -> Link | None:
    """Two products of one operand, whose targets follow one another, as one."""
    m, n = a.matrix, b.matrix
    follows = b.target == a.target._replace(column=a.target.column + m.n_end - m.n)
    if (a.time, a.operand, a.adds) != (b.time, b.operand, b.adds) or not follows:
        return None
    beside = n == n._replace(param=m.param, k=m.k, k_end=m.k_end, n=m.n_end, turned=m.turned)
    return a._replace(matrix=m._replace(n_end=n.n_end)) if beside else None
