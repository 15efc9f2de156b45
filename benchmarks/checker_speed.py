"""Time of gradcheck beside torch's fast gradcheck: python -m benchmarks.checker_speed

The same function in both libraries, at the same float64 numbers: a product of matrices, and an LSTM
layer as a function of its input and all its weights. The two checkers take turns within each round;
medians, and the median of the ratios of the rounds. One thread each. Torch's check is
`torch.autograd.gradcheck(fast_mode=True)` with its other defaults, ours `gradcheck` with all of its
own: vjp, jvp, and the laws. Evaluations are calls of the function, by either checker.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np
import torch

import tinygrad_rnn as tg
from tinygrad_rnn.testing import gradcheck

Function = Callable[..., Any]
STEPS, BATCH, SIZES = 10, 4, (16, 32, 2)  # inputs, units, layers


def product(size: int, rng: np.random.Generator) -> tuple[Function, Function, list[np.ndarray]]:
    arrays = [rng.standard_normal((size, size)) for _ in range(2)]
    return tg.matmul, torch.matmul, arrays


def lstm(rng: np.random.Generator) -> tuple[Function, Function, list[np.ndarray]]:
    """The layer of each library as a function (x, *weights) -> (output, h_n, c_n)."""
    ours, theirs = tg.nn.LSTM(*SIZES, dtype=np.float64, rng=rng), torch.nn.LSTM(*SIZES).double()
    names = [name for name, _ in ours.named_parameters()]
    assert sorted(names) == sorted(name for name, _ in theirs.named_parameters())

    def function(x: Any, *weights: Any) -> Any:
        for name, w in zip(names, weights, strict=True):
            setattr(ours, name, w)
        output, state = ours(x)
        return output, *state

    def functional(x: Any, *weights: Any) -> Any:
        named = dict(zip(names, weights, strict=True))
        output, state = torch.func.functional_call(theirs, named, (x,))
        return output, *state

    x = rng.standard_normal((STEPS, BATCH, SIZES[0]))
    return function, functional, [x, *(p.numpy().copy() for p in ours.parameters())]


def counted(fn: Function) -> tuple[Function, list[int]]:
    calls = [0]

    def call(*args: Any) -> Any:
        calls[0] += 1
        return fn(*args)

    return call, calls


def leaves(arrays: list[np.ndarray]) -> list[Any]:
    return [torch.tensor(a, requires_grad=True) for a in arrays]


def measure(task: tuple[Function, Function, list[np.ndarray]], rounds: int) -> dict[str, Any]:
    """Milliseconds of each checker in each round, and the evaluations of a passing check."""
    ours, theirs, arrays = task
    tensors = leaves(arrays)
    same = [
        np.asarray(v.detach() if hasattr(v, "detach") else v) for v in several(theirs(*tensors))
    ]
    for a, b in zip(several(ours(*map(tg.Tensor, arrays))), same, strict=True):
        np.testing.assert_allclose(a.numpy(), b, rtol=1e-10, atol=1e-12)
    own, own_calls = counted(ours)
    other, other_calls = counted(theirs)
    assert gradcheck(own, arrays).verdict == "pass"
    assert torch.autograd.gradcheck(other, tensors, fast_mode=True)
    runs: dict[str, Callable[[], Any]] = {
        "checker": lambda: gradcheck(ours, arrays),
        "torch": lambda: torch.autograd.gradcheck(theirs, tensors, fast_mode=True),
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append((time.perf_counter() - start) * 1e3)
    return {"times": {n: t[1:] for n, t in times.items()}, "calls": (own_calls[0], other_calls[0])}


def several(result: Any) -> tuple[Any, ...]:
    return tuple(result) if isinstance(result, (tuple, list)) else (result,)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=25, help="interleaved rounds (default: 25)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    versions = {"python": platform.python_version(), "numpy": np.__version__,
                "torch": torch.__version__, "tinygrad_rnn": tg.__version__}  # fmt: skip
    print(", ".join(f"{name} {version}" for name, version in versions.items()))
    print(f"\nms per passing check, medians of {options.rounds} interleaved rounds; evaluations")
    print(f"{'function':34}{'tinygrad_rnn':>14}{'torch':>10}{'ratio':>8}{'evaluations':>20}")
    rng = np.random.default_rng(0)
    sizes = "LSTM {2} layers, {3} steps, {4} x {0} -> {1}".format(*SIZES, STEPS, BATCH)
    tasks = {"matmul 200 x 200": product(200, rng), "matmul 20 x 20": product(20, rng),
             sizes: lstm(rng)}  # fmt: skip
    for name, task in tasks.items():
        found = measure(task, options.rounds)
        own, other = (found["times"][n] for n in ("checker", "torch"))
        ratio = statistics.median(a / b for a, b in zip(own, other, strict=True))
        calls = "{} | {}".format(*found["calls"])
        print(
            f"{name:34}{statistics.median(own):14.2f}{statistics.median(other):10.2f}"
            f"{ratio:8.2f}{calls:>20}"
        )


if __name__ == "__main__":
    main()
