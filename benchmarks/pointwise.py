"""Chains of elementwise ops beside torch's: python -m benchmarks.pointwise

Each chain runs forward and backward on float32 arrays of 1,000,000 elements, compiled by
`tg.pointwise`, as plain ops, and by torch's ops; the three take turns within each round. The times
are medians over the rounds, the ratios medians of the rounds' own ratios. With several threads,
NumPy's ops still use one.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import statistics
from collections.abc import Callable
from typing import Any

for variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np
import torch

import tinygrad_rnn as tg
from benchmarks.peers.turns import turn

Chain = Callable[..., Any]  # of the library's namespace, then of its arrays


def gelu(np_: Any, x: Any) -> Any:
    return 0.5 * x * (1.0 + np_.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


def silu(np_: Any, x: Any) -> Any:
    return x * np_.sigmoid(x)


def gate(np_: Any, f: Any, c: Any, i: Any, g: Any) -> Any:
    return np_.sigmoid(f) * c + np_.sigmoid(i) * np_.tanh(g)


def affine(np_: Any, x: Any, a: Any, b: Any) -> Any:
    return np_.tanh(a * x + b)


def mish(np_: Any, x: Any) -> Any:
    return x * np_.tanh(np_.log1p(np_.exp(x)))


def mixture(np_: Any, x: Any, y: Any) -> Any:
    return np_.where(x > y, np_.exp(-x * x) * y, np_.sqrt(1.0 + y * y) / (1.0 + np_.exp(-x)))


# Name: the chain, and the shapes of its arrays
CALLS = 4  # in a turn
CHAINS: dict[str, tuple[Chain, tuple[tuple[int, ...], ...]]] = {
    "gelu": (gelu, ((1_000_000,),)),
    "silu": (silu, ((1_000_000,),)),
    "lstm gate": (gate, ((1_000_000,),) * 4),
    "tanh(ax + b)": (affine, ((1_000_000,),) * 3),
    "the same, rows": (affine, ((1000, 1000), (1000,), (1000,))),
    "the same, numbers": (affine, ((1_000_000,), (), ())),
    "mish": (mish, ((1_000_000,),)),
    "mixture": (mixture, ((1_000_000,),) * 2),
}


def runner(library: Any, fn: Callable[..., Any], arrays: list[np.ndarray]) -> Callable[[], None]:
    """Forward and backward, from ones."""
    if library is torch:
        leaves: list[Any] = [torch.tensor(a, requires_grad=True) for a in arrays]
        ones: Any = torch.ones(arrays[0].shape)
    else:
        leaves = [tg.Tensor(a, requires_grad=True) for a in arrays]
        ones = tg.ones(*arrays[0].shape)

    def run() -> None:
        for leaf in leaves:
            leaf.grad = None
        fn(*leaves).backward(ones)

    return run


def runners(name: str) -> dict[str, Callable[[], None]]:
    chain, shapes = CHAINS[name]
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s).astype(np.float32) for s in shapes]

    def ours(*leaves: Any) -> Any:
        return chain(tg, *leaves)

    return {
        "pointwise": runner(tg, tg.pointwise(ours), arrays),
        "plain ops": runner(tg, ours, arrays),
        "torch": runner(torch, lambda *leaves: chain(torch, *leaves), arrays),
    }


def measure(name: str, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each library, round by round."""
    runs = runners(name)
    times: dict[str, list[float]] = {n: [] for n in runs}
    for _ in range(rounds):
        for n, run in runs.items():
            times[n].append(turn(run, CALLS))
    return times


def table(threads: int, rounds: int, names: list[str]) -> None:
    tg.set_num_threads(threads)
    torch.set_num_threads(threads)
    print(f"\n{threads} thread{'s' * (threads > 1)}, ms forward and backward")
    columns = "".join(f"{c:>14}" for c in ("pointwise", "plain ops", "torch"))
    print(f"{'chain':19}{columns}{'pointwise/torch':>18}{'plain/torch':>14}")
    shares: list[list[float]] = []
    for name in names:
        times = measure(name, rounds)
        shares.append([
            statistics.median(a / b for a, b in zip(times[n], times["torch"], strict=True))
            for n in ("pointwise", "plain ops")
        ])  # fmt: skip
        cells = "".join(f"{statistics.median(t):14.2f}" for t in times.values())
        print(f"{name:19}{cells}{shares[-1][0]:17.2f}x{shares[-1][1]:13.2f}x", flush=True)
    means = [statistics.geometric_mean(s) for s in zip(*shares, strict=True)]
    print(f"{'geometric mean':61}{means[0]:17.2f}x{means[1]:13.2f}x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=25, help="interleaved rounds (default: 25)")
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2], metavar="N")
    parser.add_argument("--chains", nargs="*", default=list(CHAINS), choices=list(CHAINS))
    options = parser.parse_args()
    versions = {"python": platform.python_version(), "numpy": np.__version__,
                "torch": torch.__version__, "tinygrad_rnn": tg.__version__}  # fmt: skip
    print(", ".join(f"{name} {version}" for name, version in versions.items()))
    for n in options.threads:
        table(n, options.rounds, options.chains)


if __name__ == "__main__":
    main()
