"""Packed weights: made when a sequence first needs them, and again when weights have changed."""

from __future__ import annotations

import functools
import sys
import threading
import weakref
from collections.abc import Sequence

import numpy as np

from tinygrad_rnn.kernels import threads
from tinygrad_rnn.kernels.gemm import product as gemm
from tinygrad_rnn.kernels.gemm.pack import packed_size
from tinygrad_rnn.kernels.gemm.tile import PANEL
from tinygrad_rnn.kernels.machine import lanes_of
from tinygrad_rnn.kernels.sequence.program import Matrix
from tinygrad_rnn.kernels.sequence.runner import address, ways_for

DEAR = 16  # multiplications that packing one element is worth


def _references(arrays: Sequence[np.ndarray | None], index: int) -> int:
    array = arrays[index]
    return sys.getrefcount(array)


FREE = _references([np.empty(1)], 0)  # what an array has that no call reads


class _Packed:
    """What was made of one weight."""

    def __init__(self, weight: np.ndarray, parts: int) -> None:
        self.weight, self.version = weakref.ref(weight), -1
        self.arrays: list[np.ndarray | None] = [None] * parts
        self.fresh = [False] * parts


class Packing:
    """The packed parts of weights that one program reads, by the array they are in."""

    def __init__(self, parts: Sequence[Matrix], dtype: np.dtype) -> None:
        self.parts, self.dtype = parts, dtype
        self._known: dict[int, _Packed] = {}
        self._lock = threading.Lock()
        self._panel = PANEL * lanes_of(dtype)
        self._sizes = [packed_size(m.n_end - m.n, m.k_end - m.k, dtype) for m in parts]
        self._call = gemm.library(dtype).function("pack", gemm.EXPORTS["pack"])

    def packed(self, weights: Sequence[np.ndarray], versions: Sequence[int]) -> list[np.ndarray]:
        """The parts, packed. A weight of version -1 may have changed unseen; others are packed
        again only when their version has changed."""
        with self._lock:
            return [
                self._part(k, weights[m.param], versions[m.param]) for k, m in enumerate(self.parts)
            ]

    def _part(self, index: int, weight: np.ndarray, version: int) -> np.ndarray:
        entry = self._known.get(id(weight))
        if entry is None or entry.weight() is not weight:
            self._known = {k: e for k, e in self._known.items() if e.weight() is not None}
            entry = self._known[id(weight)] = _Packed(weight, len(self.parts))
        if version < 0 or version != entry.version:
            entry.version, entry.fresh = version, [False] * len(self.parts)
        out = entry.arrays[index]
        if out is None or not entry.fresh[index]:
            read = _references(entry.arrays, index) > FREE + 1  # by another thread
            if out is None or read:
                out = entry.arrays[index] = np.empty(self._sizes[index], np.uint8)
            self._pack(self.parts[index], weight, out)
            entry.fresh[index] = True
        return out

    def _pack(self, part: Matrix, weight: np.ndarray, out: np.ndarray) -> None:
        """Pack a part of a weight; its panels are dealt to threads."""
        stride_k, stride_n = weight.strides if part.turned else weight.strides[::-1]
        k, n, width = part.k_end - part.k, part.n_end - part.n, self._panel
        source = address(weight) + part.k * stride_k + part.n * stride_n
        target, column = address(out), k * self.dtype.itemsize
        ways = ways_for(DEAR * k * n)
        if ways == 1:
            self._call(source, stride_n, stride_k, n, k, target)
            return
        tasks = []
        for start, stop in threads.shares(-(-n // width), ways):
            first, last = start * width, min(stop * width, n)
            given = source + first * stride_n, stride_n, stride_k, last - first, k
            tasks.append(functools.partial(self._call, *given, target + first * column))
        threads.run(tasks)
