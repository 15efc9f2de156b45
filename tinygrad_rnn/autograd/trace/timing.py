"""When each atom of a program can be computed: phases and stages.

Within a step, a product waits for its operand to be in memory, and pointwise code for the products
it reads: this orders a step into stages. Products that do not depend on the carried state are done
before the loop over time, and those that the carried state does not depend on after it, for many
steps at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from tinygrad_rnn.autograd.trace.atoms import Atom
from tinygrad_rnn.autograd.trace.chains import Chains

BEFORE, LOOP, AFTER = range(3)
Time = tuple[int, int]  # phase and stage


class Timing:
    """Asks of each atom when it can be computed. `given` are in memory from the start."""

    def __init__(
        self, chains: Chains, given: Collection[Atom], kind: str, carried: Sequence[Atom]
    ) -> None:
        self.chains, self.given, self.kind = chains, frozenset(given), kind
        self._depends: dict[Atom, bool] = {}
        self._times: dict[Atom, Time] = {}
        self._carried = set(self.behind(carried))

    def is_open(self, atom: Atom) -> bool:
        """Whether an atom is a chain that this program has to compute."""
        return atom.op == "leaf" and atom.extra[0] == "chain" and atom not in self.given

    def is_sum(self, atom: Atom) -> bool:
        """Whether an atom is a sum that this program has to compute, for later stages to read."""
        return atom.op == "sum" and atom not in self.given

    def sources(self, atom: Atom) -> list[Atom]:
        """What an atom is computed from here."""
        if self.is_open(atom):
            return [operand for operand, _ in self.chains.of(atom).products]
        return [] if atom in self.given else list(atom.args)

    def behind(self, roots: Sequence[Atom]) -> list[Atom]:
        """All atoms that the roots are computed from, sources first."""
        found: set[Atom] = set()
        order: list[Atom] = []
        stack = [(r, False) for r in reversed(roots)]
        while stack:
            atom, entered = stack.pop()
            if entered:
                order.append(atom)
            elif atom not in found:
                found.add(atom)
                stack.append((atom, True))
                stack.extend((s, False) for s in self.sources(atom))
        return order

    def depends(self, atom: Atom) -> bool:
        """Whether an atom depends on the state that the loop carries on."""
        for a in self.behind([atom]) if atom not in self._depends else ():
            leaf = a.op == "leaf" and a.extra[0] == self.kind
            self._depends[a] = leaf or any(self._depends[s] for s in self.sources(a))
        return self._depends[atom]

    def time(self, atom: Atom) -> Time:
        """When an atom can be computed; pointwise code alone never leaves the loop."""
        for a in self.behind([atom]) if atom not in self._times else ():
            sources = self.sources(a)
            times = [self.moment(a, s) if self.is_open(a) else self._times[s] for s in sources]
            first = LOOP if not sources and self.depends(a) else BEFORE
            phase, stage = max(times, default=(first, 0))
            self._times[a] = phase, stage + self.is_sum(a)
        return self._times[atom]

    def moment(self, chain: Atom, operand: Atom) -> Time:
        """When a product of a chain can run: once its operand is in memory."""
        phase, stage = self._times[operand] if operand in self._times else self.time(operand)
        there = operand in self.given or (operand.op == "leaf" and not self.is_open(operand))
        ready = stage if there else stage + 1
        if not self.depends(operand):
            return BEFORE, ready
        if chain not in self._carried:
            return AFTER, ready if phase == AFTER else 0
        return LOOP, ready if phase == LOOP else 0


def used(timing: Timing, roots: Sequence[Atom]) -> dict[Atom, int]:
    """How often each atom is read."""
    return Counter([*roots, *(s for a in timing.behind(roots) for s in timing.sources(a))])
