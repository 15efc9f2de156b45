"""Packed weights: made when a sequence first needs them, and again when weights have changed."""

from __future__ import annotations

import functools
import sys
import weakref
from collections.abc import Sequence

import numpy as np

from tinygrad_rnn.kernels import threads
from tinygrad_rnn.kernels.gemm import product as gemm
from tinygrad_rnn.kernels.gemm.pack import packed_size
from tinygrad_rnn.kernels.gemm.tile import PANEL
from tinygrad_rnn.kernels.machine import LOCK, lanes_of
from tinygrad_rnn.kernels.memory import address, aligned
from tinygrad_rnn.kernels.sequence.program import Matrix
from tinygrad_rnn.kernels.sequence.runner import ways_for

DEAR = 16  # multiplications that packing one element is worth
Key = tuple[int, int]  # of a weight, and a part


class Packed:
    """A packed part of a weight."""

    __slots__ = ("address", "memory", "version", "weight")

    def __init__(self, weight: np.ndarray, size: int) -> None:
        self.weight = weakref.ref(weight)
        self.version: int | None = None  # of the weight, when it was packed
        self.memory = aligned([size], np.uint8)
        self.address = address(self.memory)


def _references(known: dict[Key, Packed], key: Key) -> int:
    return sys.getrefcount(known[key])


FREE = _references({(0, 0): Packed(np.empty(1), 1)}, (0, 0))  # of what no call reads


class Packing:
    """The packed parts of weights that one program reads."""

    def __init__(self, parts: Sequence[Matrix], dtype: np.dtype) -> None:
        self.parts, self.dtype = parts, dtype
        self._known: dict[Key, Packed] = {}
        self._panel = PANEL * lanes_of(dtype)
        self._sizes = [packed_size(m.n_end - m.n, m.k_end - m.k, dtype) for m in parts]
        self._call = gemm.library(dtype).function("pack", gemm.EXPORTS["pack"])

    def packed(self, weights: Sequence[np.ndarray], versions: Sequence[int]) -> list[Packed]:
        """The parts, which stay as they are while they are referred to. A weight of version -1 may
        have changed unseen; others are packed again only when their version has changed."""
        found: list[Packed] = []
        stale: list[tuple[Matrix, np.ndarray, Packed]] = []
        with LOCK:
            for k, part in enumerate(self.parts):
                weight, version = weights[part.param], versions[part.param]
                found.append(self._place(k, weight, version))
                if not found[-1].version == version >= 0:
                    stale.append((part, weight, found[-1]))
            self._pack(stale)
            for part, _, packed in stale:
                packed.version = versions[part.param]
        return found

    def _place(self, index: int, weight: np.ndarray, version: int) -> Packed:
        """A part as it is packed, or memory for it that no call reads."""
        key = id(weight), index
        found = self._known.get(key)
        known = found is not None and found.weight() is weight
        if found is not None and known and found.version == version >= 0:
            return found
        del found  # or it would count as a reader
        if not known or _references(self._known, key) > FREE:
            self._known = {k: p for k, p in self._known.items() if p.weight() is not None}
            self._known[key] = Packed(weight, self._sizes[index])
        return self._known[key]

    def _pack(self, parts: Sequence[tuple[Matrix, np.ndarray, Packed]]) -> None:
        """Pack parts of weights; their panels are dealt to threads."""
        work = sum((part.k_end - part.k) * (part.n_end - part.n) for part, _, _ in parts)
        calls: list[list[tuple[int, ...]]] = [[] for _ in range(ways_for(DEAR * work))]
        for part, weight, packed in parts:
            stride_k, stride_n = weight.strides if part.turned else weight.strides[::-1]
            k, n, width = part.k_end - part.k, part.n_end - part.n, self._panel
            source = address(weight) + part.k * stride_k + part.n * stride_n
            shares = threads.shares(-(-n // width), len(calls))
            for share, (start, stop) in zip(calls, shares, strict=False):
                first, last = start * width, min(stop * width, n)
                target = packed.address + first * k * self.dtype.itemsize
                given = source + first * stride_n, stride_n, stride_k, last - first, k, target
                share.append(given)
        threads.run([functools.partial(self._in_turn, share) for share in calls])

    def _in_turn(self, calls: Sequence[tuple[int, ...]]) -> None:
        for given in calls:
            self._call(*given)
