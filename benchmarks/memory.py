"""Peak memory of one forward and backward pass beside torch: python -m benchmarks.memory

Graphs of ops, and training steps of recurrent layers (the gradients of x and of all weights).

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
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

CELLS = ("RNN", "GRU", "LSTM")
SIZES = ("35,20,200,200", "50,32,128,128", "100,50,128,512", "35,20,650,650", "20,20,1500,1500")

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
        theirs = [torch.from_numpy(a).requires_grad_() for a in arrays]
        fn(torch, *theirs).sum().backward()
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


def resident(name: str) -> int:
    """Bytes of this process now (VmRSS), or at most so far (VmHWM)."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(x.split()[1]) * 1024 for x in text.splitlines() if x.startswith(name))


def layer_child(library: str, cell: str, size: str) -> None:
    """The growth in one training step, with x, the weights and the outputs' gradient there."""
    import numpy as np

    from benchmarks.peers.layers import prepare
    from benchmarks.peers.rows import Row

    prepare(library, Row("train", cell, (3, 2, 8, 8)), 1).run()  # the warm-up
    T, B, inputs, H = map(int, size.split(","))
    task = prepare(library, Row("train", cell, (T, B, inputs, H)), 1)
    held = np.ones(max(0, resident("VmHWM") - resident("VmRSS")), np.uint8)  # up to the mark
    before = resident("VmHWM")
    kept = task.run()
    print((resident("VmHWM") - before) / 2**20)
    del held, kept


def measure(library: str, graph: str, size: int | str) -> float:
    command = [sys.executable, "-m", "benchmarks.memory", "--child", library, graph, str(size)]
    env = os.environ | {"MALLOC_MMAP_THRESHOLD_": "131072"}
    return float(
        subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout
    )


def pairs(name: str, size: int | str, rounds: int) -> tuple[float, float]:
    """Medians of ours and torch, MB."""
    libraries = ("tinygrad_rnn", "torch")
    found = [[measure(library, name, size) for library in libraries] for _ in range(rounds)]
    ours, theirs = (statistics.median(pair[k] for pair in found) for k in (0, 1))
    return ours, theirs


def table(names: list[tuple[str, int | str]], title: str, rounds: int) -> None:
    """A line for every graph or layer."""
    print(f"{title:24}{'tinygrad_rnn':>14}{'torch':>10}{'ratio':>8}")
    for name, size in names:
        ours, theirs = pairs(name, size, rounds)
        label = f"{name:4} {size}" if name in CELLS else name
        print(f"{label:24}{ours:14.1f}{theirs:10.1f}{ours / theirs:8.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="interleaved pairs (default: 3)")
    parser.add_argument("--size", type=int, default=2_000_000, help="elements (default: 2000000)")
    parser.add_argument("--cells", nargs="*", default=list(CELLS), choices=CELLS, metavar="CELL",
                        help="layers to measure, of RNN, GRU, LSTM (default: all)")  # fmt: skip
    parser.add_argument("--rows", nargs="*", default=list(SIZES), metavar="T,B,I,H",
                        help="their sizes (default: those with H from 128)")  # fmt: skip
    parser.add_argument("--no-graphs", action="store_true", help="the layers only")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        library, name, size = options.child
        if name in CELLS:
            layer_child(library, name, size)
        else:
            child(library, name, int(size))
        return
    if not options.no_graphs:
        print(f"peak memory beyond the inputs, MB, {options.size:,} elements, float32")
        table([(graph, options.size) for graph in GRAPHS], "graph", options.rounds)
        print()
    print("peak memory of a training step beyond x and the weights, MB, float32, one thread")
    layers = [(cell, size) for cell in options.cells for size in options.rows]
    table(layers, "layer T,B,I,H", options.rounds)


if __name__ == "__main__":
    main()
