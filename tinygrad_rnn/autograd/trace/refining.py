"""Sums over units are cut where the products behind them are cut elsewhere, by a split of gates:
otherwise the same product would be computed once as a whole and once in parts."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any

from tinygrad_rnn.autograd.trace.atoms import Atom, Atoms, reversed_order


def refined(atoms: Atoms, roots: Sequence[Atom]) -> dict[Atom, Atom]:
    """What each atom behind the roots becomes."""
    order = reversed_order(roots)
    columns: dict[Any, set[int]] = {}
    for atom in order:
        if atom.op == "product":
            columns.setdefault(_whole(atom), set()).update((atom.extra.n, atom.extra.n_end))
    found: dict[Atom, Atom] = {}
    for atom in order:
        args = tuple(found[a] for a in atom.args)
        if atom.op == "sum" and (cuts := _cuts(atom.args[0], columns)):
            ends = [0, *sorted(cuts), args[0].width]
            parts = [atoms.part(args[0], a, b) for a, b in itertools.pairwise(ends)]
            terms = [p if p.width == 1 else atoms.total(p) for p in parts]
            found[atom] = functools.reduce(functools.partial(atoms.pointwise, "add"), terms)
        else:
            found[atom] = atom if args == atom.args else atoms.rebuilt(atom, args)
    return found


def _whole(product: Atom) -> Any:
    """What the parts of a product have in common."""
    return product.args[0], product.extra._replace(n=0, n_end=0)


def _cuts(atom: Atom, columns: dict[Any, set[int]]) -> set[int]:
    """Where the products are cut that an atom is computed from, unit by unit."""
    found: set[int] = set()
    seen, stack = {atom}, [atom]
    while stack:
        a = stack.pop()
        if a.op == "product":
            found |= {c - a.extra.n for c in columns[_whole(a)] if a.extra.n < c < a.extra.n_end}
            continue
        for arg in a.args:
            if arg.width == atom.width and arg not in seen:
                seen.add(arg)
                stack.append(arg)
    return found
