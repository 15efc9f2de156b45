"""Time per op beside torch and HIPS autograd: python -m benchmarks.overhead

A chain of one op, applied 50 times to a float32 tensor, is run forward, and forward and backward;
the three libraries take turns within each round, and the median over the rounds is divided by 50.
One thread each; autograd records while it computes, so its forward includes making the vjp.
16 elements measure the engine, 1,000,000 the arithmetic.
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

import autograd
import autograd.numpy as anp
import numpy as np
import torch

import tinygrad_rnn as tg

LENGTH = 50

# An op as a function of the library's namespace, the running value h and a constant-sized leaf w.
OPS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "add": lambda np_, h, w: h + w,
    "multiply": lambda np_, h, w: h * w,
    "scale": lambda np_, h, w: h * 0.999,
    "divide": lambda np_, h, w: h / w,
    "log1p": lambda np_, h, w: np_.log1p(h),
    "tanh": lambda np_, h, w: np_.tanh(h),
    "sin": lambda np_, h, w: np_.sin(h),
    "sum (and multiply)": lambda np_, h, w: np_.sum(h) * w,
    "reshape": lambda np_, h, w: np_.reshape(h, (-1,)),
    "slice": lambda np_, h, w: h[:],
    "matmul": lambda np_, h, w: h @ w,
}


def operands(op: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    if op == "matmul":
        n = round(size**0.5)
        return rng.normal(size=(n, n)).astype("f"), np.linalg.qr(rng.normal(size=(n, n)))[0].astype(
            "f"
        )
    h, w = rng.uniform(0, 1, size).astype("f"), rng.uniform(0.99, 1.01, size).astype("f")
    return h, w / w.sum() if op.startswith("sum") else w


Runs = tuple[Callable[[], Any], Callable[[], Any]]


def tensor_runs(np_: Any, leaf: Callable[[np.ndarray], Any]) -> Callable[[str, int], Runs]:
    """Forward, and forward and backward, for a library whose tensors have `backward`."""

    def make(op: str, size: int) -> Runs:
        apply, (a, b) = OPS[op], operands(op, size)
        x, w, ones = leaf(a), leaf(b), np_.ones(a.shape)

        def forward() -> Any:
            h = x
            for _ in range(LENGTH):
                h = apply(np_, h, w)
            return h

        def both() -> None:
            x.grad = w.grad = None
            forward().backward(ones)

        return forward, both

    return make


def autograd_runs(op: str, size: int) -> Runs:
    apply, (a, b) = OPS[op], operands(op, size)
    ones = np.ones_like(a)

    def chain(x: Any, w: Any) -> Any:
        for _ in range(LENGTH):
            x = apply(anp, x, w)
        return x

    def both() -> None:
        pull, _ = autograd.make_vjp(lambda xw: chain(*xw))((a, b))
        pull(ones)

    return lambda: autograd.make_vjp(lambda xw: chain(*xw))((a, b)), both


LIBRARIES = {
    "tinygrad_rnn": tensor_runs(tg, lambda a: tg.Tensor(a, requires_grad=True)),
    "torch": tensor_runs(torch, lambda a: torch.tensor(a, requires_grad=True)),
    "autograd": autograd_runs,
}


def measure(op: str, size: int, rounds: int) -> dict[str, tuple[float, float]]:
    """Median microseconds per op, forward and both ways, of each library; interleaved."""
    runs = {name: make(op, size) for name, make in LIBRARIES.items()}
    inner = 10 if size < 1000 else 1
    times: dict[tuple[str, int], list[float]] = {(n, k): [] for n in runs for k in (0, 1)}
    for _ in range(rounds + 1):
        for name, pair in runs.items():
            for k, run in enumerate(pair):
                start = time.perf_counter()
                for _ in range(inner):
                    run()
                times[name, k].append((time.perf_counter() - start) / inner / LENGTH * 1e6)
    medians = {key: statistics.median(values[1:]) for key, values in times.items()}
    return {name: (medians[name, 0], medians[name, 1]) for name in runs}


def table(size: int, rounds: int, ops: list[str]) -> None:
    print(f"\n{size:,} elements, float32, µs per op (forward | forward and backward)")
    print(
        f"{'op':19}{'tinygrad_rnn':>20}{'torch':>20}{'autograd':>20}{'x torch':>16}"
        f"{'x autograd':>16}"
    )
    rows = []
    for op in ops:
        found = measure(op, size, rounds)
        ours, theirs, hips = (found[n] for n in LIBRARIES)
        ratios = [[a / b for a, b in zip(ours, other, strict=True)] for other in (theirs, hips)]
        cells = [f"{f:9.2f} |{b:8.2f}" for f, b in (ours, theirs, hips)]
        shares = [f"{f:6.2f} |{b:6.2f}" for f, b in ratios]
        print(f"{op:19}" + "".join(f"{c:>20}" for c in cells) + "".join(f"{s:>16}" for s in shares))
        rows.append(ratios)
    for k, way in enumerate(("forward", "forward and backward")):
        means = [statistics.geometric_mean(r[of][k] for r in rows) for of in (0, 1)]
        print(f"geometric mean, {way}: {means[0]:.2f}x torch, {means[1]:.2f}x autograd")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=15, help="interleaved rounds (default: 15)")
    parser.add_argument("--ops", nargs="*", default=list(OPS), choices=list(OPS), metavar="OP")
    options = parser.parse_args()
    torch.set_num_threads(1)
    versions = {"python": platform.python_version(), "numpy": np.__version__,
                "torch": torch.__version__, "tinygrad_rnn": tg.__version__}  # fmt: skip
    print(", ".join(f"{name} {version}" for name, version in versions.items()))
    table(16, options.rounds, options.ops)
    table(1_000_000, max(3, options.rounds // 4), [op for op in options.ops if op != "matmul"])


if __name__ == "__main__":
    main()
