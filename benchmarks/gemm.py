"""Matrix products beside NumPy's BLAS on one thread: `tasks.py bench gemm`.

The peak is that of a loop of independent fused multiply-adds, measured between the rows. With
--linear, the products x Wᵀ of a Linear layer: NumPy's time over ours (medians and quartiles of
pairs), with W packed before and at each call.
"""

import os

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import argparse
import itertools
import statistics
import time
from collections.abc import Callable

import numpy as np

from tinygrad_rnn.kernels.emit import Module
from tinygrad_rnn.kernels.gemm import product as gemm
from tinygrad_rnn.kernels.gemm.tile import carried, fma, many_registers
from tinygrad_rnn.kernels.machine import Library
from tinygrad_rnn.kernels.sequence.runner import address

PRODUCTS = [  # M, N, K
    (1, 256, 64),
    (1, 800, 200),
    (2, 800, 200),
    (3, 800, 200),
    (4, 800, 200),
    (7, 800, 200),
    (10, 800, 200),
    (20, 800, 200),
    (50, 2048, 512),
    (20, 6000, 1500),
]
GRADIENTS = [(700, 800, 200), (5000, 2048, 512), (400, 6000, 1500)]  # T * B, M, N
PACKS = [(800, 200), (2048, 512), (6000, 1500)]  # N, K

ROWS, SIZES = (1, 20, 128, 700), (64, 200, 650, 1500)  # of Linear: M, N and K

Run = Callable[[], object]


def peak(dtype: str) -> tuple[Run, float]:
    """A loop of independent fused multiply-adds, and its operations."""
    module, chains, count = Module(dtype), 24 if many_registers() else 12, 20_000
    with module.function("peak", ["n", "source"]) as (e, (n, source)):
        x = e.load(source)
        step = module.lanes * e.size
        firsts = [e.load(source + i * step) for i in range(chains)]
        with carried(e, n, firsts) as (_, totals, after):
            after += [fma(e, x, x, total) for total in totals]
        for i, total in enumerate(totals):
            e.store(source + i * step, total)
    call = Library(module.compiled(), ["peak"]).function("peak", 2)
    data = np.zeros(module.lanes * chains, dtype)
    return lambda: call(count, data.ctypes.data), 2.0 * count * chains * module.lanes


def repeated(name: str, dtype: str, given: tuple[int, ...], times: int) -> Run:
    """Call a function of the library `times` times, from machine code."""
    module, library = Module(dtype), gemm.library(dtype)
    with module.function("repeat", [f"x{i}" for i in range(len(given))]) as (e, arguments):
        with e.loop(0, times):
            e.call(name, *arguments)
    symbols = {name: library.addresses[name]}
    call = Library(module.compiled(), ["repeat"], symbols).function("repeat", len(given))
    return lambda: (call(*given), library)


def product(m: int, n: int, k: int, dtype: str) -> tuple[Run, Run, float]:
    """Ours, NumPy's, and the operations of C = bias + A W^T."""
    rng = np.random.default_rng(0)
    a, w = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((n, k)).astype(dtype)
    bias, c = np.zeros(n, dtype), np.empty((m, n), dtype)
    packed = np.empty(gemm.packed_size(n, k, dtype) + 64, np.uint8)
    at = -packed.ctypes.data % 64 + packed.ctypes.data
    gemm.library(dtype).function("pack", 6)(w.ctypes.data, *w.strides, n, k, at)
    given = m, n, k, a.ctypes.data, *a.strides, at, bias.ctypes.data, 0, c.ctypes.data, c.strides[0]
    work, b = 2.0 * m * n * k, w.T.copy()
    times = 1 + int(1e7 / work)
    ours = repeated("product", dtype, given, times)

    def numpys() -> None:
        for _ in range(times):
            np.matmul(a, b, out=c)

    return lambda: (ours(), bias, packed), numpys, work * times


def gradient(k: int, m: int, n: int, dtype: str) -> tuple[Run, Run, float]:
    """Ours, NumPy's, and the operations of C = D^T X."""
    rng = np.random.default_rng(0)
    d, x = rng.standard_normal((k, m)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    c = np.empty((m, n), dtype)
    work = np.empty(gemm.workspace_size(k, m, n, dtype) + 64, np.uint8)
    at = -work.ctypes.data % 64 + work.ctypes.data
    call = gemm.library(dtype).function("gradient", 14)
    d_b, x_b = d.strides[0], x.strides[0]
    rows = d.ctypes.data, k * d_b, d_b, x.ctypes.data, k * x_b, x_b, 1, k
    given = *rows, c.ctypes.data, c.strides[0], 0, m, n, at
    keep = work
    return lambda: (call(*given), keep)[0], lambda: np.matmul(d.T, x, out=c), 2.0 * k * m * n


def pack(n: int, k: int, dtype: str) -> tuple[Run, Run, float]:
    """Ours, NumPy's copy, and the bytes of a weight (N, K)."""
    w = np.ones((n, k), dtype)
    packed, other = np.empty(gemm.packed_size(n, k, dtype), np.uint8), np.empty_like(w)
    call = gemm.library(dtype).function("pack", 6)
    given = w.ctypes.data, w.strides[0], w.strides[1], n, k, packed.ctypes.data
    keep = packed
    return lambda: (call(*given), keep)[0], lambda: np.copyto(other, w), float(w.nbytes)


def best(runs: list[Run], seconds: float) -> list[float]:
    """The best time of each, interleaved, each with its own data in the caches."""
    times = [float("inf")] * len(runs)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for i, run in enumerate(runs):
            for _ in range(4):
                start = time.perf_counter()
                run()
                times[i] = min(times[i], time.perf_counter() - start)
    return times


def ratios(ours: Run, numpys: Run, seconds: float) -> list[float]:
    """NumPy's time over ours, of calls that take turns."""
    found: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(found) < 5:
        times = []
        for run in (ours, numpys):
            run()  # its own data in the caches
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        found.append(times[1] / times[0])
    return found


def as_an_op(m: int, n: int, k: int, dtype: str) -> tuple[Run, Run, Run]:
    """Calls of x Wᵀ from Python, each with a new result: ours with W packed, the same and W being
    packed, NumPy's."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((n, k)).astype(dtype)
    packed = np.empty(gemm.packed_size(n, k, dtype) + 64, np.uint8)
    at, zeros = -packed.ctypes.data % 64 + packed.ctypes.data, np.zeros(n, dtype)
    multiply, turn = (gemm.library(dtype).function(f, gemm.EXPORTS[f]) for f in ("product", "pack"))
    start = address(zeros)

    def ours() -> np.ndarray:
        c = np.empty((m, n), x.dtype)
        multiply(m, n, k, address(x), *x.strides, at, start, 0, address(c), c.strides[0])
        return c

    def both() -> np.ndarray:
        turn(address(w), *w.strides, n, k, at)
        return ours()

    np.testing.assert_allclose(both(), x @ w.T, rtol=1e-3, atol=1e-3)
    return ours, both, lambda: (np.matmul(x, w.T), packed, zeros)


def linear(dtype: str, seconds: float) -> None:
    """The table of Linear's products: NumPy's time over ours, medians and quartiles."""
    print(f"{dtype:16} {'packed before':>22} {'packed at each call':>22}")
    for m, n, k in itertools.product(ROWS, SIZES, SIZES):
        *runs, numpys = as_an_op(m, n, k, dtype)
        cells = []
        for run in runs:
            low, middle, high = statistics.quantiles(ratios(run, numpys, seconds), n=4)
            cells.append(f"{middle:8.2f} [{low:5.2f} {high:5.2f}]")
        print(f"{m:4} {n:5} {k:5} {cells[0]:>22} {cells[1]:>22}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", default="float32", choices=("float32", "float64"))
    parser.add_argument("--seconds", type=float, default=1.0, help="for each row")
    parser.add_argument("--only", default="", help="rows that start so")
    parser.add_argument("--linear", action="store_true", help="the products of Linear")
    options = parser.parse_args()
    if options.linear:
        return linear(options.dtype, options.seconds)
    loop, loop_work = peak(options.dtype)
    print(f"{'':30} {'GFLOP/s':>8} {'NumPy':>8} {'peak':>8} {'share':>6}")
    for make, table in ((product, PRODUCTS), (gradient, GRADIENTS), (pack, PACKS)):
        for row in table:
            label = f"{make.__name__} {' x '.join(map(str, row))}"
            if not label.startswith(options.only):
                continue
            ours, numpys, work = make(*row, options.dtype)  # type: ignore[operator]
            ours(), numpys()
            times = best([ours, numpys, loop], options.seconds)
            mine, other, top = work / times[0], work / times[1], loop_work / times[2]
            unit = "GB/s" if make is pack else f"{mine / top:6.1%}"
            print(f"{label:30} {mine / 1e9:8.1f} {other / 1e9:8.1f} {top / 1e9:8.1f} {unit:>6}")


if __name__ == "__main__":
    main()
