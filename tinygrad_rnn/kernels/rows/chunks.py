"""Softmax cross-entropy of x Wᵀ + b, in chunks of rows: the logits of all rows are never there.

Threads share the classes, in slabs whose number depends on V alone. The gradient of x is the sum
of the slabs' in order; that of W is one chain over the rows in order, whatever the chunks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.kernels import threads
from tinygrad_rnn.kernels.gemm import product as gemm
from tinygrad_rnn.kernels.gemm.pack import packed_size
from tinygrad_rnn.kernels.gemm.tile import PANEL
from tinygrad_rnn.kernels.machine import lanes_of
from tinygrad_rnn.kernels.memory import address, aligned
from tinygrad_rnn.kernels.rows.code import dealt, lines
from tinygrad_rnn.kernels.rows.entropy import STATE, Recipe, States
from tinygrad_rnn.kernels.rows.vocabulary import BLOCK, KERNELS

SLAB = 512, 8  # classes of a slab at least, and slabs at most
BYTES = 1 << 24  # of a chunk's logits; more, if that is needed for
ROWS = 256  # as many rows as x has columns, but at most so many


class Losses(NamedTuple):
    """What a call gives: the rows' losses, and the gradients that are wanted."""

    losses: np.ndarray
    d_x: np.ndarray | None = None
    d_w: np.ndarray | None = None
    d_b: np.ndarray | None = None


def slabs(classes: int) -> list[tuple[int, int]]:
    """Ranges of classes that threads share."""
    least, most = SLAB
    return threads.shares(classes, min(most, max(1, classes // least)))


def chunk_rows(n: int, h: int, classes: int, dtype: np.dtype, asked: int | None = None) -> int:
    """Rows of a chunk: equal ones, in whole panels. Their logits are not many, or about as many as
    W has elements, which is read again for each chunk."""
    panel = PANEL * lanes_of(dtype)
    most = asked or max(BYTES // (classes * dtype.itemsize), min(h, ROWS), panel)
    chunks = max(1, -(-n // most))
    return max(1, -(-n // chunks // panel)) * panel


class Call:
    """One call: its arrays, and what its chunks share."""

    def __init__(
        self,
        x: np.ndarray,
        w: np.ndarray,
        bias: np.ndarray | None,
        targets: np.ndarray,
        recipe: Recipe,
        worth: np.ndarray | None = None,
        wanted: Sequence[bool] = (False, False, False),
    ) -> None:
        """x (N, H), w (V, H), bias (V,) and targets (N,), negative where a row is left out; the
        cotangents of the rows' losses, if the gradients of x, w and bias that are wanted are."""
        self.x, self.w, self.targets = lines(x), lines(w), targets
        self.recipe, self.worth = recipe, worth
        (self.n, self.h), self.v, self.dtype = x.shape, len(w), x.dtype
        self.lanes, self.size = lanes_of(self.dtype), self.dtype.itemsize
        self.panel = PANEL * self.lanes
        self.bias = np.zeros(1, self.dtype) if bias is None else np.ascontiguousarray(bias)
        self.bias_step = 0 if bias is None else self.size
        self.zeros = np.zeros(max(self.h, self.panel), self.dtype)
        self.slabs = slabs(self.v)
        self.pack = gemm.library(self.dtype).function("pack", gemm.EXPORTS["pack"])
        self.losses = np.empty(self.n, self.dtype)
        shapes = x.shape, w.shape, (self.v,)
        made = np.empty if self.n else np.zeros
        self.d_x, self.d_w, self.d_b = (
            made(shape, self.dtype) if wants else None
            for shape, wants in zip(shapes, wanted, strict=True)
        )

    def run(self, size: int) -> Losses:
        """Chunk by chunk of `size` rows, a whole number of panels."""
        columns = min(size, -(-self.n // self.lanes) * self.lanes)
        self.logits = aligned([columns * self.v], self.dtype)
        parts = len(self.slabs) if self.d_x is not None else 0
        self.packed_w = aligned([parts, packed_size(self.h, BLOCK, self.dtype)], np.uint8)
        self.parts = np.empty((parts if parts > 1 else 0, columns, self.h), self.dtype)
        for first in range(0, self.n, size):
            self.chunk(slice(first, min(first + size, self.n)))
        return Losses(self.losses, self.d_x, self.d_w, self.d_b)

    def chunk(self, here: slice) -> None:
        """The losses of some rows, and what they add to the gradients."""
        x = self.x[here]
        columns = -(-len(x) // self.lanes) * self.lanes
        targets = np.full(columns, -1, f"i{self.size}")
        targets[: len(x)] = self.targets[here]
        turned = aligned([packed_size(len(x), self.h, self.dtype)], np.uint8)
        self.pack(address(x), x.strides[0], self.size, len(x), self.h, address(turned))
        common = {
            "w": address(self.w), "w_row": self.w.strides[0], "classes": self.v, "h": self.h,
            "zeros": address(self.zeros), "columns": columns, "logits": address(self.logits),
            "targets": address(targets),
        }  # fmt: skip
        states = np.zeros((len(self.slabs), len(STATE), columns), self.dtype)
        states[:, 0] = -np.inf
        more = {"turned": address(turned), "bias": address(self.bias), "bias_step": self.bias_step}
        places = map(address, states)
        calls = [KERNELS.call("scores", self.dtype, **common, **more, states=p) for p in places]
        self.deal(calls, columns)
        whole = self.joined(states)
        self.losses[here] = self.recipe.losses(whole, targets)[: len(x)]
        if self.worth is not None:
            worth = np.zeros(columns, self.dtype)
            worth[: len(x)] = self.worth[here]
            self.gradients(here, common, self.recipe.rates(whole, targets, worth))

    def deal(self, calls: list[Any], columns: int) -> None:
        """Do all slabs, dealt to threads."""

        def some(first: int, last: int) -> None:
            for call, (start, stop) in zip(calls[first:last], self.slabs[first:last], strict=True):
                call(start, stop)

        dealt(some, len(calls), columns * self.v)

    def joined(self, slabs: np.ndarray) -> States:
        """The states of the rows from those of the slabs, (slabs, 4, columns)."""
        top, total, depth, hit = slabs.swapaxes(0, 1)
        sizes = np.array([[stop - start] for start, stop in self.slabs], self.dtype)
        with np.errstate(all="ignore"):
            shift, own = (np.where(t == -np.inf, 0, t) for t in (np.max(top, axis=0), top))
            log_total = np.log(np.sum(total * np.exp(top - shift), axis=0))
            depth = np.sum(depth + sizes * (own - shift), axis=0)
        return States(shift, log_total, depth, np.sum(hit, axis=0))

    def gradients(self, here: slice, common: dict[str, int], rates: np.ndarray) -> None:
        """Add what a chunk gives to the gradients."""
        x, size, count = self.x[here], self.size, here.stop - here.start
        width = packed_size(self.h, 1, self.dtype)
        packed = aligned([width * count], np.uint8)
        source, place, row = address(x), address(packed), x.strides[0]
        for first in range(0, count, self.panel):
            given = source + first * row, size, row, self.h, min(self.panel, count - first)
            self.pack(*given, place + first * width)
        more = {
            "rates": address(rates), "rows": count, "packed": place, "first": int(here.start == 0),
            "d_w": address(self.d_w), "d_b": address(self.d_b), "d_x_row": self.h * size,
        }  # fmt: skip
        d_x = None if self.d_x is None else self.d_x[here]
        targets = [d_x] * len(self.slabs) if not len(self.parts) else list(self.parts)
        calls = []
        for k, target in enumerate(targets):
            packed_w = None if d_x is None else self.packed_w[k]
            own = {"d_x": address(target), "packed_w": address(packed_w)}
            calls.append(KERNELS.call("slopes", self.dtype, **common, **more, **own))
        self.deal(calls, common["columns"])
        if len(self.parts):
            np.add.reduce(self.parts[:, :count], axis=0, out=d_x)


def losses(*given: Any, chunk: int | None = None, **more: Any) -> Losses:
    """`Call`, in chunks of about so many rows."""
    call = Call(*given, **more)
    size = chunk_rows(call.n, call.h, call.v, call.dtype, chunk)
    return call.run(size)
