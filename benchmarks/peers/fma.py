"""The machine's own peak: independent chains of fused multiply-adds in registers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from benchmarks.peers.process import Task
from benchmarks.peers.rows import Row
from tinygrad_rnn.kernels.emit import Module
from tinygrad_rnn.kernels.machine import Library, float_lanes

COUNT = 2_000_000  # iterations of a call: about 10 ms
Kernel = Callable[[int, int], None]


@functools.cache
def kernel() -> tuple[Kernel, int, int]:
    """x = x a + b for every chain, over and over; how many chains, and lanes of each."""
    module, lanes = Module(np.float32), float_lanes()
    chains = 12 if lanes == 8 else 24  # of 16 and 32 registers; two are taken
    vector = module.vector
    with module.function("fma", ["count", "address"]) as (e, (count, address)):
        b, places = e.builder, [address + 4 * lanes * (k + 1) for k in range(chains)]
        fma = module.intrinsic(f"llvm.fma.{e.suffix}", vector, vector, vector, vector)
        factor, term = e.splat(address), e.splat(address + 4)
        registers = [b.alloca(vector) for _ in places]
        for register, place in zip(registers, places, strict=True):
            b.store(e.load(place), register)
        with e.loop(0, count):
            for register in registers:
                b.store(b.call(fma, [b.load(register, typ=vector), factor, term]), register)
        for register, place in zip(registers, places, strict=True):
            e.store(place, b.load(register, typ=vector))
    return Library(module.compiled(), ["fma"]).function("fma", 2), chains, lanes


def prepare(library: str, row: Row, threads: int) -> Task:
    """The same loop on every thread; the row does not matter."""
    call, chains, lanes = kernel()
    memory = np.full((threads, (chains + 1) * lanes + 4096), 0.5, np.float32)
    memory[:, 0] = 0.999  # every x goes to 500
    pool: Any = ThreadPoolExecutor(threads)

    def work(k: int) -> None:
        call(COUNT, memory[k].ctypes.data)

    def run() -> None:
        list(pool.map(work, range(threads)))

    return Task(run, dict, 2.0 * lanes * chains * COUNT * threads)
