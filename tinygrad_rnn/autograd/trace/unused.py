"""Gradients where nobody uses some of the results: their cotangents are not 0, which would make
NaN of infinities, but are not there. Gradients are linear in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tinygrad_rnn.autograd.trace.atoms import Atom, Atoms, is_zero, reversed_order
from tinygrad_rnn.autograd.trace.meaning import Outer, Row, rows_of
from tinygrad_rnn.autograd.trace.watch import Traced

Remains = dict[Atom, Atom | None]


def without(atoms: Atoms, roots: Sequence[Atom], absent: Callable[[Atom], bool]) -> Remains:
    """What is left of all atoms behind the roots without some leaves; None where nothing is."""
    found: Remains = {}
    for atom in reversed_order(roots):
        args = [found[a] for a in atom.args]
        there = tuple(a for a in args if a is not None)
        if atom.op == "leaf" and absent(atom):
            found[atom] = None
        elif len(there) == len(args):
            found[atom] = atoms.rebuilt(atom, there) if args else atom
        else:
            found[atom] = _partial(atoms, atom, args)
    return found


def _partial(atoms: Atoms, atom: Atom, args: Sequence[Atom | None]) -> Atom | None:
    """What is left of an op some of whose arguments are not there."""
    if atom.op == "where" and args[0] is not None:
        filled = [atoms.constant(0.0) if a is None else a for a in args]
        return None if all(map(is_zero, filled[1:])) else atoms.pointwise("where", *filled)
    rest = next((a for a in args if a is not None), None)
    if rest is None or atom.op not in ("add", "subtract"):
        return None
    rest = rest if rest.width == atom.width else atoms.widened(rest, atom.width)
    return rest if atom.op == "add" or args[0] else atoms.pointwise("negative", rest)


def narrowed(traced: Traced, given: Sequence[bool]) -> Traced:
    """A step of whose output and new states, in this order, only some have a cotangent: those of
    the states only if no step hands one on."""
    idle = {i for i in range(len(traced.states)) if not given[1 + i]}
    while True:
        found = _without(traced, not given[0], idle)
        reached = {i for i in idle if ("state", i) in found.gradients}
        if not reached:
            return found
        idle -= reached


def _without(traced: Traced, output: bool, states: set[int]) -> Traced:
    def absent(leaf: Atom) -> bool:
        kind, index, _ = leaf.extra
        return bool(kind == "d_state" and index in states) or (kind == "d_out" and output)

    rows = [r for m in traced.gradients.values() for r in rows_of(m)]
    left = without(traced.atoms, [p for r in rows for p in r.pieces], absent)

    def of(row: Row) -> Row | None:
        zeros = (traced.atoms.constant(0.0, p.width) for p in row.pieces)
        pieces = tuple(left[p] or zero for p, zero in zip(row.pieces, zeros, strict=True))
        return row._replace(pieces=pieces) if any(left[p] for p in row.pieces) else None

    gradients: dict[tuple[str, int], Row | Outer] = {}
    for key, m in traced.gradients.items():
        if isinstance(m, Row):
            if (row := of(m)) is not None:
                gradients[key] = row
            continue
        terms = tuple((x, y, i, j) for a, b, i, j in m.terms if (x := of(a)) and (y := of(b)))
        if terms:
            gradients[key] = Outer(terms)
    return traced._replace(gradients=gradients)
