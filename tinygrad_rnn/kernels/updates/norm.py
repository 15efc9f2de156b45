"""The common norm of many arrays, in one pass: blocks of one size, each summed in one order.

Threads take whole blocks, so the norm does not depend on how many there are.
"""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.kernels import cache, threads
from tinygrad_rnn.kernels.choice import attempted, disabled
from tinygrad_rnn.kernels.emit import Emitter, Module
from tinygrad_rnn.kernels.gemm.tile import prefetch
from tinygrad_rnn.kernels.machine import Library, float_lanes, lanes_of
from tinygrad_rnn.kernels.memory import address
from tinygrad_rnn.kernels.pointwise.lanes import Lane

BLOCK = 1 << 15  # elements
AHEAD = 4096  # bytes that are fetched meanwhile
WORTH = 4  # blocks up to which one thread does all
TINY = 1e-280  # a sum of squares below this has lost digits


def norm(arrays: Sequence[np.ndarray], largest: bool, defined: bool) -> float:
    """√Σ x² over all elements of all arrays, summed in float64; or the largest |x|.

    NaN if one is NaN, infinite if one is. Squares neither overflow nor vanish.
    """
    with np.errstate(all="ignore"):
        if largest:
            return float(_folded(arrays, "largest", defined).max(initial=0.0))
        total = float(_folded(arrays, "squares", defined).sum())
        if TINY < total < math.inf or not 0 < (most := norm(arrays, True, defined)) < math.inf:
            return math.sqrt(total)
        scaled = [float(np.square(a / most, dtype=np.float64).sum()) for a in arrays]
    return most * math.sqrt(sum(scaled))


def _folded(arrays: Sequence[np.ndarray], name: str, defined: bool) -> np.ndarray:
    """Sums of squares, or largest elements, of parts of the arrays."""
    parts = [np.zeros(0)]
    arrays = [a for a in arrays if a.size]
    for dtype in dict.fromkeys(a.dtype for a in arrays):
        given = [a for a in arrays if a.dtype == dtype]
        call = None if defined or disabled() else _loaded(name, dtype, float_lanes())
        parts.append((_run(call, given) if call else _define(name, given)).astype(np.float64))
    return np.concatenate(parts)


def _define(name: str, arrays: Sequence[np.ndarray]) -> np.ndarray:
    if name == "largest":
        return np.array([np.abs(a).max() for a in arrays])
    return np.array([np.square(a, dtype=np.float64).sum() for a in arrays])


def _run(call: Any, arrays: Sequence[np.ndarray]) -> np.ndarray:
    dense = [a if a.flags.forc else np.ascontiguousarray(a) for a in arrays]
    rows: list[int] = []
    for a in dense:
        at, size = address(a), a.size
        for first in range(0, size, BLOCK):
            rows += at + first * a.itemsize, min(size - first, BLOCK)
    table, blocks = struct.pack(f"{len(rows)}q", *rows), len(rows) // 2
    out = np.empty(blocks * lanes_of(dense[0].dtype))
    shares = threads.shares(blocks, threads.get_num_threads() if blocks > WORTH else 1)
    threads.run([functools.partial(call, table, address(out), *share) for share in shares])
    return out


@functools.cache
def _loaded(name: str, dtype: np.dtype, lanes: int) -> Any:
    def load() -> Any:
        key = f"norm {name} {dtype}"
        code = cache.object_code(f"norms of {dtype}", key, lambda: norm_code(name, dtype))
        return Library(code, ["run"]).function("run", 4)

    return attempted(f"the norm of {dtype}", load)


def norm_code(name: str, dtype: Any) -> bytes:
    """Object code of `run(blocks, out, start, stop)`: for each block, which is an address and a
    number of elements, the lanes of a vector of float64, to be folded further."""
    module = Module(dtype)
    with module.function("run", "blocks out start stop".split()) as (e, (blocks, out, start, stop)):
        folds = [_Fold(e, name) for _ in range(2)]  # one waits for its last result
        with e.loop(start, stop) as block:
            at, size = (e.read(blocks + block * 16 + k) for k in (0, 8))
            pairs = size // (2 * e.lanes) * (2 * e.lanes)
            for fold in folds:
                fold.clear()
            with e.loop(0, pairs, 2 * e.lanes) as k:
                for part, fold in enumerate(folds):
                    place = at + (k + part * e.lanes) * e.size
                    prefetch(e, place + AHEAD)
                    fold.take(e.load(place))
            with e.loop(pairs, size, e.lanes) as k:
                folds[0].take(e.load(at + k * e.size, e.mask(size - k)))
            folds[0].join(folds[1].value)
            place = e.pointer(out + block * (8 * e.lanes))
            e.builder.store(folds[0].value, place, align=8)
    return module.compiled()


class _Fold:
    """What has been folded so far, lane by lane, in float64."""

    def __init__(self, e: Emitter, name: str) -> None:
        from llvmlite import ir

        self.e, self.name = e, name
        self.kind = ir.VectorType(ir.DoubleType(), e.lanes)
        with e.builder.goto_entry_block():
            self.place = e.builder.alloca(self.kind)

    @property
    def value(self) -> Any:
        return self.e.builder.load(self.place, typ=self.kind)

    def clear(self) -> None:
        """Begin anew."""
        self.e.builder.store(self.kind([0.0] * self.e.lanes), self.place)

    def take(self, vector: Any) -> None:
        """Fold numbers in."""
        b = self.e.builder
        wide = Lane(self.e, vector).abs().value
        wide = wide if wide.type == self.kind else b.fpext(wide, self.kind)
        self.join(b.fmul(wide, wide) if self.name == "squares" else wide)

    def join(self, new: Any) -> None:
        """Add squares, or keep the larger; NaN stays."""
        b, old = self.e.builder, self.value
        if self.name == "squares":
            b.store(b.fadd(old, new), self.place)
            return
        larger = b.select(b.fcmp_unordered(">", new, old), new, old)
        b.store(b.select(b.fcmp_unordered("uno", old, old), old, larger), self.place)
