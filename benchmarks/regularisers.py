"""A training step with each regulariser beside the plain one: python -m benchmarks.regularisers

    layer      forward and gradients of x and all weights, which count as changed before each call,
               of two layers; what acts inside recurrent layers
    words      a whole step of a word model: embedding, two LSTM layers, output layer and loss in
               chunks, gradients clipped by their norm, SGD; what acts around them as well

Float32. Every one takes turns with the plain step, which is beside it in each round. A ratio is the
time of the step with the regulariser over that of the plain one: median and quartiles of the
rounds. The goal is a median of at most 1.15.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import tinygrad_rnn as tg
from benchmarks.cells import Size, drawn, ratios, rounds
from benchmarks.peers import report
from benchmarks.peers.machine import machine, versions
from tinygrad_rnn import nn
from tinygrad_rnn.autograd.writes import touch

GOAL = 1.15
SIZES: list[Size] = [(35, 20, 200, 200), (100, 50, 128, 512)]  # T, B, I, H
LAYERS = {"RNN": nn.RNN, "GRU": nn.GRU, "LSTM": nn.LSTM}
INSIDE: dict[str, dict[str, Any]] = {
    "dropout": {"dropout": 0.3},
    "locked dropout": {"dropout": 0.3, "locked_dropout": True},
    "recurrent dropout": {"recurrent_dropout": 0.3},
    "zoneout": {"zoneout": 0.1},
    "weight drop": {"weight_drop": 0.5},
    "learned state": {"learned_state": True},
}
AROUND = ("locked input", "embedding dropout", "word dropout", "activation penalty",
          "temporal penalty")  # fmt: skip
VOCABULARY, CLIP, RATE = 10_000, 5.0, 1.0


def layer_step(kind: Any, size: Size, options: dict[str, Any]) -> Callable[[], Any]:
    """Forward and backward of two layers."""
    x, g = drawn(size)
    layer = kind(size[2], size[3], 2, **options)
    leaf, cotangent, weights = tg.Tensor(x, requires_grad=True), tg.Tensor(g), [*layer.parameters()]

    def run() -> Any:
        for w in weights:
            touch(w)
        output, _ = layer(leaf)
        return tg.grad(output, [leaf, *weights], cotangent)

    return run


class Words(nn.Module):
    """A word model with what is named around its recurrent layers."""

    def __init__(self, size: Size, around: Sequence[str], options: dict[str, Any]) -> None:
        self.embedding = nn.Embedding(VOCABULARY, size[2])
        self.lstm, self.around = nn.LSTM(size[2], size[3], 2, **options), around
        self.output = nn.Linear(size[3], VOCABULARY)
        self.word = nn.WordDropout(0.1, 0)
        self.rows = nn.EmbeddingDropout(self.embedding, 0.1)
        self.locked = nn.LockedDropout(0.3)

    def __call__(self, words: np.ndarray, targets: np.ndarray) -> Any:
        around = self.around
        words = self.word(words) if "word dropout" in around else words
        x = self.rows(words) if "embedding dropout" in around else self.embedding(words)
        x = self.locked(x) if "locked input" in around else x
        h, _ = self.lstm(x)
        loss = nn.linear_cross_entropy(h, self.output.weight, targets, self.output.bias)
        if "activation penalty" in around:
            loss = loss + nn.activation_penalty(h)
        return loss + nn.temporal_activation_penalty(h) if "temporal penalty" in around else loss


def word_step(size: Size, around: Sequence[str], options: dict[str, Any]) -> Callable[[], Any]:
    """A whole update."""
    rng = np.random.default_rng(0)
    words, targets = (rng.integers(VOCABULARY, size=size[:2]) for _ in range(2))
    model = Words(size, around, options)
    optimizer = tg.optim.SGD(model.parameters(), lr=RATE)

    def run() -> None:
        loss = model(words, targets)
        model.zero_grad()
        loss.backward()
        tg.optim.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()

    return run


def compared(
    what: str, plain: Callable[[], Any], steps: dict[str, Callable[[], Any]], count: int, say: Any
) -> list[str]:
    """Each step beside the plain one; those that miss the goal."""
    missed = []
    for name, step in steps.items():
        with_it, without = rounds([step, plain], count)
        ratio = statistics.median(a / b for a, b in zip(with_it, without, strict=True))
        ms = statistics.median(with_it) * 1e3
        say(f"{what:26}{name:20}{ms:9.2f} ms{ratios(with_it, without)}")
        if ratio > GOAL:
            missed.append(f"{what}, {name}: {ratio:.2f}")
    return missed


def measured(options: argparse.Namespace, say: report.Log) -> list[str]:
    """Both tables."""
    missed = []
    for size in options.sizes:
        for name, kind in LAYERS.items():
            steps = {n: layer_step(kind, size, o) for n, o in INSIDE.items()}
            label = f"{name} {','.join(map(str, size))}"
            missed += compared(label, layer_step(kind, size, {}), steps, options.rounds, say)
    for size in options.sizes:
        steps = {n: word_step(size, (), o) for n, o in INSIDE.items()}
        steps |= {n: word_step(size, (n,), {}) for n in AROUND}
        every = {n: v for o in INSIDE.values() for n, v in o.items() if n != "recurrent_dropout"}
        steps["all but recurrent dropout"] = word_step(size, AROUND, every)
        label = f"words {','.join(map(str, size))}"
        missed += compared(label, word_step(size, (), {}), steps, options.rounds, say)
    return missed


def sized(text: str) -> Size:
    """T,B,I,H as it is written on the command line."""
    try:
        steps, batch, inputs, hidden = (int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected T,B,I,H, got {text!r}") from None
    return steps, batch, inputs, hidden


def main() -> int:
    """Returns 1 if a goal is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--sizes", nargs="+", type=sized, default=SIZES, metavar="T,B,I,H", help="(default: two)")
    add("--rounds", type=int, default=15, metavar="N", help="of each pair (default: 15)")
    add("--threads", type=int, default=2, metavar="N", help="(default: 2)")
    add("--log", type=Path, metavar="FILE", help="also write what is printed to this file")
    options = parser.parse_args()
    say = report.Log(options.log)
    tg.set_num_threads(options.threads)
    say(f"{versions(())}\n{machine()}; {options.threads} threads, {options.rounds} rounds\n")
    missed = measured(options, say)
    say(f"\nabove {GOAL}: {len(missed) or 'none'}")
    for line in missed:
        say(line)
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
