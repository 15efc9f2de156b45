"""RNN, GRU and LSTM beside torch, JAX and onnxruntime: python -m benchmarks.recurrent

One table from one run, float32. Training is the forward pass and the gradients of x and of all
weights, fresh in each call, for given gradients of the outputs of all steps; the weights count as
changed by an optimiser before each call, so that nothing packed is used twice. Inference is the
forward pass under no_grad. Initial states are zero.

Each library lives in a process of its own (its threads are fixed there: 1 and 2) and takes turns
with the others, beginning with another one in each pair; calls under 20 ms are repeated to that
length. The machine's peak, a loop of independent fused multiply-adds, takes turns as well. Before
they are timed, all are given the same weights and must agree in outputs and gradients to 1e-4.

    torch         torch.nn on the CPU
    jax           lax.scan under jit, the input's products hoisted, the better of unroll 1 and 5
    onnxruntime   inference of one ONNX operator

A row falls short of its goal (benchmarks/peers/goals.py) if the upper quartile is below it.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path

from benchmarks.peers import plot, report
from benchmarks.peers.contest import Result, contest, players, quartiles
from benchmarks.peers.goals import OURS, SHARE
from benchmarks.peers.machine import Others, machine, versions
from benchmarks.peers.process import Player
from benchmarks.peers.rows import GATES, MODES, QUICK, SIZES, Row, Size

PEERS = ("torch", "jax", "onnxruntime")
PAIRS, QUICK_PAIRS = 11, 3


def size(text: str) -> Size:
    """T,B,I,H as it is written on the command line."""
    try:
        T, B, inputs, H = (int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected T,B,I,H, got {text!r}") from None
    if min(T, B, inputs, H) < 1:
        raise argparse.ArgumentTypeError(f"expected sizes of at least 1, got {text!r}")
    return T, B, inputs, H


def arguments() -> argparse.Namespace:
    """What to run."""
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=shape)
    add = parser.add_argument
    add("--rows", nargs="+", type=size, metavar="T,B,I,H", help="sizes (default: the eight)")
    add("--cells", nargs="+", choices=list(GATES), default=list(GATES), metavar="CELL",
        help=f"of {', '.join(GATES)} (default: all)")  # fmt: skip
    add("--threads", nargs="+", type=int, default=[1, 2], metavar="N",
        help="numbers of threads, each in processes of its own (default: 1 2)")  # fmt: skip
    add("--modes", nargs="+", choices=list(MODES), default=list(MODES), metavar="MODE",
        help="of train (forward and backward) and infer (default: both)")  # fmt: skip
    add("--peers", nargs="*", choices=PEERS, default=list(PEERS), metavar="PEER",
        help=f"of {', '.join(PEERS)}; those not installed are left out (default: all)")  # fmt: skip
    add("--pairs", type=int, metavar="N", help=f"interleaved pairs of a row (default: {PAIRS})")
    add("--quick", action="store_true",
        help=f"three small sizes, {QUICK_PAIRS} pairs: a glance, no judgement")  # fmt: skip
    add("--log", type=Path, metavar="FILE", help="also write what is printed to this file")
    add("--plot", type=Path, metavar="FILE",
        help="instead of the table: draw the time of a training step against T, B, H and layers, "
        "ours and torch (matplotlib), for the first of --cells, or LSTM, "
        "and the first of --threads")  # fmt: skip
    options = parser.parse_args()
    options.rows = options.rows or (QUICK if options.quick else SIZES)
    options.pairs = options.pairs or (QUICK_PAIRS if options.quick else PAIRS)
    if options.pairs < 2 or min(options.threads) < 1:
        parser.error("expected at least 2 pairs and 1 thread")
    return options


def checked(playing: dict[str, Player]) -> list[str]:
    """Libraries that were busy on more cores than they were given."""
    return [
        f"{name} was given {p.threads} and used {p.most:.1f} cores"
        for name, p in playing.items()
        if p.most > p.threads + 0.3
    ]


def table(options: argparse.Namespace, say: report.Log) -> tuple[list[Result], list[str]]:
    """Measure and print every row."""
    results, remarks = [], []
    for threads in options.threads:
        with players([OURS, *options.peers, SHARE], threads) as playing:
            others = Others([p.pid for p in playing.values()])
            for mode, cell, at in itertools.product(options.modes, options.cells, options.rows):
                result = contest(Row(mode, cell, at), threads, playing, options.pairs)
                results.append(result)
                say(report.line(result, options.peers))
            remarks += [others.told(threads), *checked(playing)]
    return results, remarks


def compare(options: argparse.Namespace, say: report.Log) -> int:
    """The table, then the means, what falls short and what could not be measured."""
    for line in report.heading(options.peers):
        say(line)
    results, remarks = table(options, say)
    speeds = {n: [r.peak / t for r in results if r.threads == n for t in r.times.get(SHARE, [])]
              for n in options.threads}  # fmt: skip
    say()
    for threads, found in speeds.items():
        if found:
            low, middle, high = (s / 1e9 for s in quartiles(found))
            say(f"peak, {threads} thr: {middle:.0f} GFLOP/s [{low:.0f}-{high:.0f}]")
    for line in report.means(results, options.peers):
        say(line)
    short = report.shortfalls(results, options.peers)
    goals = report.judged(results, options.peers)
    say(f"\nbelow their goals: {len(short) or 'none'} of the {goals} that were measured")
    for line in (*short, "", *remarks, *report.unmeasured(results)):
        say(line)
    return int(any(r.wrong for r in results))


def picture(options: argparse.Namespace, say: report.Log) -> int:
    """The four panels."""
    cell = "LSTM" if options.cells == list(GATES) else options.cells[0]
    threads = options.threads[0]
    found = plot.measure(cell, threads, options.pairs, options.quick, say)
    for line in plot.draw(found, cell, threads, options.plot):
        say(line)
    if mean := plot.speedup(found):
        say(f"torch / ours, geometric mean of all points: {mean:.2f}")
    say(f"wrote {options.plot}")
    return 0


def main() -> int:
    """Returns 1 if libraries disagreed or failed."""
    options = arguments()
    say = report.Log(options.log)
    say(f"{versions(options.peers)}\n{machine()}; {options.pairs} pairs")
    return (picture if options.plot else compare)(options, say)


if __name__ == "__main__":
    sys.exit(main())
