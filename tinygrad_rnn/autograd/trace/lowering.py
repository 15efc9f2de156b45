"""A traced step as a compiled cell: its forward and its backward program, and their memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from tinygrad_rnn.autograd.trace.atoms import Atom
from tinygrad_rnn.autograd.trace.chains import Chains
from tinygrad_rnn.autograd.trace.meaning import Outer, Row, rows_of
from tinygrad_rnn.autograd.trace.refining import refined
from tinygrad_rnn.autograd.trace.staging import Staging
from tinygrad_rnn.autograd.trace.watch import Traced
from tinygrad_rnn.autograd.trace.writing import Output, at_leaf
from tinygrad_rnn.kernels.sequence.program import (
    Buffer,
    Cell,
    Gradient,
    Group,
    Matrix,
    Place,
    Program,
    Stage,
    Store,
)

MADE = ("chain", "row", "state", "next", "out")  # by the forward pass


def lowered(traced: Traced, sizes: Sequence[int]) -> Cell:
    """The programs of a cell, whose parameters have so many elements."""
    traced = _refined(traced)
    chains = Chains(traced.atoms)
    forward = _Forward(traced, chains)
    backward = _Backward(traced, chains, forward)
    ahead, behind = forward.staging.writer, backward.staging.writer
    read = {a.place.buffer for a in behind.reads}
    read |= {p.buffer for g in backward.matrices for p in (g.left, g.right)}
    states = range(len(traced.states))
    safe = {("next", i) for i in states if ahead.in_place(("state", i), ("next", i))}
    for kind, n in backward.staging.widths:
        outer = any(("chain", n) in (g.left.buffer, g.right.buffer) for g in backward.matrices)
        if kind == "d" and not outer and behind.in_place(("chain", n), ("d", n)):
            safe.add(("d", n))
    areas: Counter[int] = Counter()
    for g in backward.matrices:
        areas[g.param] += g.rows * g.columns
    return Cell(
        forward.program,
        backward.program,
        forward.staging.widths | backward.staging.widths,
        forward.output,
        frozenset(b for b in read if b[0] in MADE),
        frozenset(ahead.spanned() | behind.spanned()),
        frozenset(safe),
        tuple(backward.matrices),
        frozenset(p for p, size in enumerate(sizes) if areas[p] == size),
        backward.vectors,
        frozenset(traced.gradients),
    )


def _refined(traced: Traced) -> Traced:
    """The same, with sums over units cut as products are."""
    behind = [row for m in traced.gradients.values() for row in rows_of(m)]
    rows = [traced.output, *traced.states, *behind]
    found = refined(traced.atoms, [p for row in rows for p in row.pieces])

    def of(row: Row) -> Row:
        return row._replace(pieces=tuple(found[p] for p in row.pieces))

    gradients: dict[tuple[str, int], Row | Outer] = {}
    for key, m in traced.gradients.items():
        if isinstance(m, Row):
            gradients[key] = of(m)
        else:
            gradients[key] = Outer(tuple((of(x), of(y), i, j) for x, y, i, j in m.terms))
    return Traced(of(traced.output), tuple(map(of, traced.states)), gradients, traced.atoms)


def spread(row: Row, buffer: Buffer, adds: bool = False) -> Iterator[Output]:
    """A row's pieces, side by side in a buffer."""
    column = 0
    for piece in row.pieces:
        yield Output(piece, Place(buffer, column), adds)
        column += piece.width


class _Forward:
    def __init__(self, traced: Traced, chains: Chains) -> None:
        rows = [traced.output, *traced.states]
        values = iter(chains.rewrite([p for r in rows for p in r.pieces]))
        output, *news = (r._replace(pieces=tuple(next(values) for _ in r.pieces)) for r in rows)
        held: dict[Atom, Place] = {}
        self.staging = Staging(chains, held, "state", [p for r in news for p in r.pieces])
        same = [i for i, row in enumerate(news) if row == output]
        self.output = ("next", same[0]) if same else ("out", 0)
        outputs = [o for i, row in enumerate(news) for o in spread(row, ("next", i))]
        if not same:
            outputs += spread(output, self.output)
        self.staging.widths |= {("next", i): row.width for i, row in enumerate(news)}
        self.staging.widths[self.output] = output.width
        self.program = self.staging.program(outputs, "row", "chain")


class _Backward:
    def __init__(self, traced: Traced, chains: Chains, forward: _Forward) -> None:
        self.chains = chains
        found = traced.gradients
        atoms = [p for m in found.values() for row in rows_of(m) for p in row.pieces]
        chains.rewrite(atoms)
        rows = {key: self._valued(m) for key, m in found.items() if isinstance(m, Row)}
        outers = {key[1]: m for key, m in found.items() if isinstance(m, Outer)}
        self.vectors: dict[int, Buffer] = {}
        self.widths: dict[Buffer, int] = {}
        outputs = list(self._outputs(traced, rows))
        carried = [o.atom for o in outputs if o.place.buffer[0] == "d_next"]
        self.staging = Staging(chains, dict(forward.staging.held), "d_state", carried)
        self.staging.widths |= self.widths
        preferred = self._mirrored(outers, forward)
        lasting = [p for m in outers.values() for row in rows_of(m) for p in row.pieces]
        lasting = [a for a in map(chains.value, lasting) if self.staging.timing.is_open(a)]
        self.program = self.staging.program(outputs, "d_row", "d_chain", preferred, lasting)
        self._keep_carried(len(traced.states))
        self.matrices = [g for p, m in outers.items() for g in self._gradients(p, m)]

    def _valued(self, row: Row) -> Row:
        return row._replace(pieces=tuple(map(self.chains.value, row.pieces)))

    def _outputs(self, traced: Traced, rows: dict[tuple[str, int], Row]) -> Iterator[Output]:
        """What the backward pass leaves for one step, and adds up over all."""
        for i, state in enumerate(traced.states):
            nothing = Row((self.chains.atoms.constant(0.0, state.width),))
            self.widths["d_next", i] = state.width
            yield from spread(rows.get(("state", i), nothing), ("d_next", i))
        totals: dict[Row, Buffer] = {}
        for (kind, k), row in rows.items():
            if kind == "param":
                if row not in totals:
                    totals[row] = ("total", len(totals))
                    yield from spread(row, totals[row], adds=True)
                self.vectors[k] = totals[row]
            elif kind != "state":
                yield from spread(row, (f"d_{kind}", k), adds=kind == "each")
                self.widths[f"d_{kind}", k] = row.width
        self.widths |= {buffer: row.width for row, buffer in totals.items()}

    def _mirrored(self, outers: dict[int, Outer], forward: _Forward) -> dict[Atom, Place]:
        """Places for the rows that gradients of matrices need: the cotangent of a chain goes where
        the chain is in the forward pass's buffer, or a buffer laid out alike."""
        chain_of = {
            (operand, m): self.chains.of(leaf)
            for leaf in forward.staging.held
            if leaf.op == "leaf" and leaf.extra[0] == "chain"
            for operand, m in self.chains.of(leaf).products
        }
        preferred: dict[Atom, Place] = {}
        widths = forward.staging.widths
        for param, outer in outers.items():
            for left, right, block in _blocks(param, outer):
                left, right = self.chains.value(left), self.chains.value(right)
                for d, operand, turned in ((left, right, False), (right, left, True)):
                    n, k = (block[1], block[0]) if turned else block
                    chain = chain_of.get((operand, Matrix(param, *k, *n, turned)))
                    if chain is not None and d.width == chain.leaf.width and d not in preferred:
                        place = forward.staging.held[chain.leaf]
                        if place.buffer[0] == "chain" and d.op != "leaf":
                            mirror = place._replace(buffer=("d", place.buffer[1]))
                            if mirror not in preferred.values():
                                preferred[d] = mirror
                                self.staging.widths[mirror.buffer] = widths[place.buffer]
        for param, outer in outers.items():
            for left, right, _ in _blocks(param, outer):
                for piece in map(self.chains.value, (left, right)):
                    held = piece in self.staging.held or piece in preferred
                    if piece.op != "leaf" and not held:
                        place = preferred[piece] = Place(("d_row", len(self.staging.widths)))
                        self.staging.widths[place.buffer] = piece.width
        return preferred

    def _keep_carried(self, states: int) -> None:
        """A state's cotangent is replaced in place; where something still reads the old one, only
        when the step is over."""
        for i in range(states):
            if not self.staging.writer.in_place(("d_state", i), ("d_next", i)):
                self.program = postponed(self.program, ("d_next", i), self.staging.widths)

    def _gradients(self, param: int, outer: Outer) -> list[Gradient]:
        """The blocks of a matrix's gradient, with what lies side by side as one."""
        found: list[Gradient] = []
        for left, right, ((row, row_end), (column, column_end)) in _blocks(param, outer):
            places = [self._place(self.chains.value(piece)) for piece in (left, right)]
            g = Gradient(param, row, column, row_end - row, column_end - column, *places)
            last = found[-1] if found else None
            if last and g == last._replace(
                row=last.row + last.rows,
                rows=g.rows,
                left=last.left._replace(column=last.left.column + last.rows),
            ):
                found[-1] = last._replace(rows=last.rows + g.rows)
            else:
                found.append(g)
        return found

    def _place(self, atom: Atom) -> Place:
        return self.staging.held[atom] if atom in self.staging.held else at_leaf(atom)


def _blocks(
    param: int, outer: Outer
) -> Iterator[tuple[Atom, Atom, tuple[tuple[int, int], tuple[int, int]]]]:
    """Pairs of pieces, and the rows and columns of the gradient that they make."""
    for left, right, row, start in outer.terms:
        column = start
        for y in right.pieces:
            i = row
            for x in left.pieces:
                yield x, y, ((i, i + x.width), (column, column + y.width))
                i += x.width
            column += y.width


def postponed(program: Program, buffer: Buffer, widths: dict[Buffer, int]) -> Program:
    """The program with what it stores in a buffer stored elsewhere, and moved at the step's end."""
    spare = ("d_spare", buffer[1])
    widths[spare] = widths[buffer]
    places = [p._replace(buffer=spare) if p.buffer == buffer else p for p in program.places]
    places += [Place(spare), Place(buffer)]
    load, store = ("load", len(places) - 2), Store(0, len(places) - 1, False)
    move = Group(len(program.sizes), (load,), (store,))
    code, loop = program.code, (*program.code.loop, Stage((), (move,)))
    code = code._replace(loop=loop, places=len(places), sizes=code.sizes + 1)
    return Program(code, tuple(places), program.matrices, (*program.sizes, widths[buffer]))
