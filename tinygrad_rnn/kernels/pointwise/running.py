"""Vectors that loops change, joined over their lanes at the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tinygrad_rnn.kernels.emit import Emitter, Word
from tinygrad_rnn.kernels.pointwise.lanes import Lane


class Running:
    """A vector that loops change."""

    def __init__(self, e: Emitter, number: float) -> None:
        self.e = e
        with e.builder.goto_entry_block():
            self.place = e.builder.alloca(e.module.vector)
        self.set(Lane.filled(e, number))

    def get(self) -> Lane:
        return Lane(self.e, self.e.builder.load(self.place, typ=self.e.module.vector))

    def set(self, lane: Lane) -> None:
        self.e.builder.store(lane.value, self.place)

    def add(self, lane: Lane, mask: Any = None) -> None:
        """Add the lanes within the mask."""
        kept = lane if mask is None else Lane(self.e, mask).select(lane, 0.0)
        self.set(self.get() + kept)

    def total(self) -> Lane:
        """The sum of all lanes, in every lane."""
        return folded(self.get(), Lane.__add__)


def folded(lane: Lane, join: Callable[[Lane, Lane], Lane]) -> Lane:
    """All lanes joined, in halves, in every lane."""
    from llvmlite import ir

    e, half = lane.emitter, lane.emitter.lanes // 2
    while half:
        order = [(k + half) % e.lanes for k in range(e.lanes)]
        places = ir.Constant(ir.VectorType(ir.IntType(32), e.lanes), order)
        turned = e.builder.shuffle_vector(lane.value, lane.value, places)
        lane, half = join(lane, Lane(e, turned)), half // 2
    return lane


def splat(e: Emitter, address: Word) -> Lane:
    """One element from memory, in every lane."""
    return Lane(e, e.splat(address))


def first_lane(e: Emitter, address: Word, lane: Lane) -> None:
    """Write lane 0 to memory."""
    from llvmlite import ir

    value = e.builder.extract_element(lane.value, ir.IntType(32)(0))
    e.builder.store(value, e.pointer(address), align=e.size)
