"""Elementary functions on lanes beside NumPy and torch: python -m benchmarks.elementary

The time is that of one element in a loop over 2,048 of them, which stay in the first cache; one
thread, each library's best round, in turns. The error is the worst one over random bit patterns
and numbers where the functions bend, in units of the last place, where the result is normal;
float64's erf, erfc and normal_cdf are compared with math.erfc, which is off by up to 2 itself.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from typing import Any

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np

from tests.kernels.test_elementary import POINTWISE, UNARY, programs, run, samples, units, wide
from tinygrad_rnn.kernels.machine import float_lanes

try:
    import torch

    torch.set_num_threads(1)
except ImportError:
    torch = None

SIZE, REPEATS = 2048, 100
DTYPES = {"float32": np.float32, "float64": np.float64}
TORCH = {"normal_cdf": "special.ndtr", "log_sigmoid": "nn.functional.logsigmoid",
         "silu": "nn.functional.silu", "softplus": "nn.functional.softplus"}  # fmt: skip


def of_torch(name: str) -> Callable[[Any], Any] | None:
    found = torch
    for part in TORCH.get(name, name).split("."):
        found = getattr(found, part, None)
    return found


def aligned(dtype: type) -> np.ndarray:
    """SIZE elements that begin with a cache line."""
    memory = np.empty(SIZE * np.dtype(dtype).itemsize + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start:][: memory.size - 64].view(dtype)


def runners(name: str, dtype: type) -> dict[str, Callable[[], Any]]:
    """Each applies the function REPEATS times to the same numbers."""
    x, out = aligned(dtype), aligned(dtype)
    x[:] = np.random.default_rng(0).normal(0, 3, SIZE).astype(dtype)
    if name in ("log", "sqrt", "rsqrt", "log1p"):
        x[:] = np.abs(x)
    ours = programs(np.dtype(dtype), float_lanes())[name]

    def lanes() -> None:
        ours(out.ctypes.data, x.ctypes.data, SIZE, REPEATS)

    found: dict[str, Callable[[], Any]] = {"lanes": lanes}
    ufunc = UNARY[name]
    if isinstance(ufunc, np.ufunc):
        found["numpy"] = lambda: [ufunc(x, out=out) for _ in range(REPEATS)]
    if torch is not None and (theirs := of_torch(name)):
        t = torch.from_numpy(x)
        found["torch"] = lambda: [theirs(t) for _ in range(REPEATS)]
    return found


def nanoseconds(name: str, dtype: type, rounds: int) -> dict[str, float]:
    found, best = runners(name, dtype), {}
    for _ in range(rounds):
        for library, call in found.items():
            start = time.perf_counter()
            call()
            taken = (time.perf_counter() - start) / REPEATS / SIZE * 1e9
            best[library] = min(best.get(library, taken), taken)
    return best


def errors(name: str, dtype: type, count: int) -> dict[str, float]:
    x = samples(dtype, count, seed=1)
    ufunc = UNARY[name]
    found = {"lanes": run(name, float_lanes(), x)}
    with np.errstate(all="ignore"):
        want = ufunc(wide(x))
        if isinstance(ufunc, np.ufunc):
            found["numpy"] = ufunc(x)
    if torch is not None and (theirs := of_torch(name)):
        found["torch"] = theirs(torch.from_numpy(x)).numpy()
    with np.errstate(invalid="ignore"):
        normal = np.abs(want) >= np.finfo(dtype).tiny
    return {library: units(got, want)[normal].max() for library, got in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=100, help="rounds of timing (default: 100)")
    parser.add_argument("--samples", type=int, default=200_000, help="numbers (default: 200,000)")
    names = [name for name in UNARY if name in POINTWISE]
    parser.add_argument("--functions", nargs="*", default=names, choices=names, metavar="NAME")
    options = parser.parse_args()
    libraries = ["lanes", "numpy"] + ["torch"] * (torch is not None)
    print(f"python {platform.python_version()}, numpy {np.__version__}, {float_lanes()} lanes")
    print(" " * 13 + "".join(f"{d + ', ns, worst ULP':^{18 * len(libraries)}}" for d in DTYPES))
    print(" " * 13 + "".join(f"{library:>18}" for library in libraries) * len(DTYPES))
    for name in options.functions:
        line = f"{name:13}"
        for dtype in DTYPES.values():
            times = nanoseconds(name, dtype, options.rounds)
            worst = errors(name, dtype, options.samples)
            cells = (
                f"{times[k]:8.3f} {worst[k]:9.3g}" if k in times else " " * 17 + "-"
                for k in libraries
            )
            line += "".join(f"{cell:>18}" for cell in cells)
        print(line, flush=True)


if __name__ == "__main__":
    main()
