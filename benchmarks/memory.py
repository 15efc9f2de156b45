"""Peak memory of one forward and backward pass beside torch: python -m benchmarks.memory

Each run is a process of its own that first makes the inputs and runs a tiny pass as a warm-up; what
is reported is how far the high-water mark of its resident memory then rises. Large arrays are
mapped and unmapped one by one in both (MALLOC_MMAP_THRESHOLD_), so that no freed memory is counted.
Medians of interleaved pairs.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
from typing import Any

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

# Each graph is a function of the library's namespace and its leaves.
GRAPHS: dict[str, tuple[Any, Any]] = {
    "chain of 30 adds": (lambda L, x: chain(lambda h: h + 1.0, x), lambda n: [(n,)]),
    "chain of 30 tanh": (lambda L, x: chain(L.tanh, x), lambda n: [(n,)]),
    "chain of 30 products": (lambda L, x, y: chain(lambda h: h * y, x), lambda n: [(n,), (n,)]),
    "softmax of a product": (
        lambda L, x, w: L.log_softmax(x @ w, -1),
        lambda n: [(n // 1000, 500), (500, 1000)],
    ),
    "sum of 30 uses": (lambda L, x: sum((x * float(k) for k in range(30)), x), lambda n: [(n,)]),
    "concatenate and slice": (
        lambda L, x, y: L.concatenate([x, y])[1:-1] * 2.0,
        lambda n: [(n,), (n,)],
    ),
}


def chain(f: Any, h: Any) -> Any:
    for _ in range(30):
        h = f(h)
    return h


def run(library: str, graph: str, size: int) -> None:
    """Forward and backward of one graph on float32 leaves."""
    import numpy as np

    fn, shapes = GRAPHS[graph]
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s, dtype=np.float32) for s in shapes(size)]
    if library == "torch":
        import torch

        torch.set_num_threads(1)
        leaves = [torch.from_numpy(a).requires_grad_() for a in arrays]
        fn(torch, *leaves).sum().backward()
    else:
        import tinygrad_rnn as tg

        leaves = [tg.from_numpy(a) for a in arrays]
        for leaf in leaves:
            leaf.requires_grad = True
        fn(tg, *leaves).sum().backward()


def child(library: str, graph: str, size: int) -> None:
    run(library, graph, 4000)
    import numpy as np

    held = [np.ones(s, np.float32) for s in GRAPHS[graph][1](size)]  # as much as the inputs
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    del held
    run(library, graph, size)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print((after - before) / 1024)


def measure(library: str, graph: str, size: int) -> float:
    command = [sys.executable, "-m", "benchmarks.memory", "--child", library, graph, str(size)]
    env = os.environ | {"MALLOC_MMAP_THRESHOLD_": "131072"}
    return float(
        subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="interleaved pairs (default: 3)")
    parser.add_argument("--size", type=int, default=2_000_000, help="elements (default: 2000000)")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child[0], options.child[1], int(options.child[2]))
        return
    print(f"peak memory beyond the inputs, MB, {options.size:,} elements, float32")
    print(f"{'graph':24}{'tinygrad_rnn':>14}{'torch':>10}{'ratio':>8}")
    rows = []
    for graph in GRAPHS:
        pairs = [[measure(lib, graph, options.size) for lib in ("tinygrad_rnn", "torch")]
                 for _ in range(options.rounds)]  # fmt: skip
        ours, theirs = (statistics.median(p[k] for p in pairs) for k in (0, 1))
        rows.append({"graph": graph, "tinygrad_rnn MB": ours, "torch MB": theirs})
        print(f"{graph:24}{ours:14.1f}{theirs:10.1f}{ours / theirs:8.2f}", flush=True)


if __name__ == "__main__":
    main()
