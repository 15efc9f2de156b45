"""Sums of products become chains: products that add up in one place.

A chain's value replaces the sum among the atoms; what else was in the sum is added to it. Chains
are shared by a cell's forward and backward program: the latter reads what the former left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from tinygrad_rnn.autograd.trace.atoms import Atom, Atoms, reversed_order
from tinygrad_rnn.kernels.sequence.program import Matrix


class Chain:
    """Products of operands with blocks of matrices, added up."""

    __slots__ = ("leaf", "products")

    def __init__(self, leaf: Atom, products: list[tuple[Atom, Matrix]]) -> None:
        self.leaf, self.products = leaf, products


class Chains:
    """Rewrites atoms so that products appear only as chains."""

    def __init__(self, atoms: Atoms) -> None:
        self.atoms = atoms
        self.all: list[Chain] = []
        self._done: dict[Atom, Atom] = {}
        self._uses: Counter[Atom] = Counter()

    def rewrite(self, roots: Sequence[Atom]) -> list[Atom]:
        """The roots, with chains for sums of products."""
        self._uses = Counter(roots)
        for atom in reversed_order(roots):
            self._uses.update(atom.args)
        return [self.value(r) for r in roots]

    def value(self, atom: Atom) -> Atom:
        """What an atom has become."""
        if atom not in self._done:
            self._done[atom] = self._rewritten(atom)
        return self._done[atom]

    def _rewritten(self, atom: Atom) -> Atom:
        if atom.op == "product":
            return self._chain([atom])
        if not atom.args:
            return atom
        terms = list(self._terms(atom)) if atom.op == "add" else []
        summed = [t for t in terms if self._joins(t, atom.width)]
        if not summed:
            return self.atoms.rebuilt(atom, tuple(map(self.value, atom.args)))
        total = self._chain(summed)
        for t in terms:
            if t not in summed:
                total = self.atoms.pointwise("add", total, self.value(t))
        return total

    def _terms(self, atom: Atom) -> Iterable[Atom]:
        """What a sum adds up: sums that nothing else uses are part of it."""
        for a in atom.args:
            if a.op == "add" and self._uses[a] == 1 and a not in self._done:
                yield from self._terms(a)
            else:
                yield a

    def _joins(self, term: Atom, width: int) -> bool:
        alone = self._uses[term] == 1 and term not in self._done
        return term.op == "product" and alone and term.width == width

    def _chain(self, products: Sequence[Atom]) -> Atom:
        leaf = self.atoms.leaf("chain", len(self.all), products[0].width)
        chain = Chain(leaf, [])
        self.all.append(chain)  # before the chains of its operands
        chain.products = [(self.value(p.args[0]), p.extra) for p in products]
        return leaf

    def of(self, leaf: Atom) -> Chain:
        """The chain behind a leaf."""
        index: int = leaf.extra[1]
        return self.all[index]
