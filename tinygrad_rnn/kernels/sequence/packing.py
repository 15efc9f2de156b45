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
from tinygrad_rnn.kernels.sequence.program import Matrix
from tinygrad_rnn.kernels.sequence.runner import address, ways_for

DEAR = 16  # multiplications that packing one element is worth
Key = tuple[int, int]  # of a weight, and a part


class Packed:
    """A packed part of a weight."""

    __slots__ = ("address", "memory", "version", "weight")

    def __init__(self, weight: np.ndarray, size: int) -> None:
        self.weight = weakref.ref(weight)
        self.version: int | None = None  # of the weight, when it was packed
        self.memory = np.empty(size, np.uint8)
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
        with LOCK:
            return [
                self._part(k, weights[m.param], versions[m.param]) for k, m in enumerate(self.parts)
            ]

    def _part(self, index: int, weight: np.ndarray, version: int) -> Packed:
        key = id(weight), index
        found = self._known.get(key)
        if found is not None and found.version == version >= 0 and found.weight() is weight:
            return found
        known = found is not None and found.weight() is weight
        del found  # or it would count as a reader
        if not known or _references(self._known, key) > FREE:
            self._known = {k: p for k, p in self._known.items() if p.weight() is not None}
            self._known[key] = Packed(weight, self._sizes[index])
        found = self._known[key]
        self._pack(self.parts[index], weight, found.address)
        found.version = version
        return found

    def _pack(self, part: Matrix, weight: np.ndarray, target: int) -> None:
        """Pack a part of a weight; its panels are dealt to threads."""
        stride_k, stride_n = weight.strides if part.turned else weight.strides[::-1]
        k, n, width = part.k_end - part.k, part.n_end - part.n, self._panel
        source = address(weight) + part.k * stride_k + part.n * stride_n
        ways = ways_for(DEAR * k * n)
        if ways == 1:
            self._call(source, stride_n, stride_k, n, k, target)
            return
        tasks, column = [], k * self.dtype.itemsize
        for start, stop in threads.shares(-(-n // width), ways):
            first, last = start * width, min(stop * width, n)
            given = source + first * stride_n, stride_n, stride_k, last - first, k
            tasks.append(functools.partial(self._call, *given, target + first * column))
        threads.run(tasks)
