"""Time of optimiser steps and of clipping beside torch's: python -m benchmarks.optim

One float32 tensor of 10,000,000 elements, 50 of 200,000 and 50 of 1,000, each with 1 and 2 threads.
Both libraries have parameters, gradients and state of their own, and take turns within each round;
the table gives the medians over the rounds, and their ratio, also as the median of each round's.
torch runs with foreach=True, its way over all parameters at once. Clipping always shortens: the
limit falls by 1 % each time. Small groups measure the work in Python.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import statistics
from collections.abc import Callable, Iterator
from typing import Any

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "2")

import numpy as np
import torch

import tinygrad_rnn as tg
from benchmarks.peers.turns import turn

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "SGD": {"lr": 1e-3, "momentum": 0.9},
    "RMSprop": {"lr": 1e-3},
    "Adagrad": {"lr": 1e-3},
    "Adam": {"lr": 1e-3},
    "AdamW": {"lr": 1e-3},
}
CLIPS = {"clip_grad_norm_": 2.0, "clip_grad_norm_, inf": math.inf}
SIZES = {"1 x 10,000,000": (1, 10_000_000), "50 x 200,000": (50, 200_000), "50 x 1,000": (50, 1000)}

Run = Callable[[], Any]


def parameters(count: int, size: int) -> tuple[list[Any], list[Any]]:
    """The same parameters and gradients for both libraries."""
    rng = np.random.default_rng(0)
    ours, theirs = [], []
    for _ in range(count):
        a, g = (rng.standard_normal(size, dtype=np.float32) for _ in range(2))
        ours.append(tg.Tensor(a, requires_grad=True))
        theirs.append(torch.tensor(a, requires_grad=True))
        ours[-1].grad, theirs[-1].grad = tg.Tensor(g), torch.tensor(g)
    return ours, theirs


def clipping(clip: Callable[..., Any], params: list[Any], kind: float, **options: Any) -> Run:
    """Calls that shorten the gradients each time."""
    limits: Iterator[float] = iter(0.99**k for k in range(10_000))
    return lambda: clip(params, next(limits), kind, **options)


def runs(what: str, count: int, size: int) -> tuple[Run, Run]:
    """One step, or one clipping: ours, and torch's."""
    ours, theirs = parameters(count, size)
    if what in CLIPS:
        kind, clip = CLIPS[what], torch.nn.utils.clip_grad_norm_
        return (
            clipping(tg.optim.clip_grad_norm_, ours, kind),
            clipping(clip, theirs, kind, foreach=True),
        )
    options = OPTIMIZERS[what]
    own = getattr(tg.optim, what)(ours, **options)
    other = getattr(torch.optim, what)(theirs, **options, foreach=True)
    return own.step, other.step


def measure(what: str, count: int, size: int, rounds: int) -> tuple[float, float, float]:
    """Median milliseconds of both, and the median of torch's time over ours."""
    pair = runs(what, count, size)
    calls = 3 if count * size > 1_000_000 else 10
    times: list[list[float]] = []
    for k in range(rounds):
        found = [turn(run, calls) for run in (pair if k % 2 else pair[::-1])]
        times.append(found if k % 2 else found[::-1])
    own, other = zip(*times, strict=True)
    ratio = statistics.median(b / a for a, b in times)
    return statistics.median(own), statistics.median(other), ratio


def table(form: str, threads: int, rounds: int, names: list[str]) -> None:
    tg.set_num_threads(threads)
    torch.set_num_threads(threads)
    print(f"\n{form} float32, {threads} thread{'s' * (threads > 1)}, ms")
    print(f"{'':22}{'tinygrad_rnn':>14}{'torch':>10}{'torch / ours':>15}{'by rounds':>12}")
    for what in names:
        own, other, ratio = measure(what, *SIZES[form], rounds)
        print(f"{what:22}{own:14.3f}{other:10.3f}{other / own:14.2f}x{ratio:11.2f}x", flush=True)


def main() -> None:
    known = [*OPTIMIZERS, *CLIPS]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=15, help="interleaved rounds (default: 15)")
    parser.add_argument("--only", nargs="*", default=known, choices=known, metavar="NAME")
    parser.add_argument("--threads", nargs="*", type=int, default=[1, 2], metavar="N")
    options = parser.parse_args()
    versions = {"python": platform.python_version(), "numpy": np.__version__,
                "torch": torch.__version__, "tinygrad_rnn": tg.__version__}  # fmt: skip
    print(", ".join(f"{name} {version}" for name, version in versions.items()))
    for form in SIZES:
        for threads in options.threads:
            table(form, threads, options.rounds, options.only)


if __name__ == "__main__":
    main()
