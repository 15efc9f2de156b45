"""A word model's training step beside the same in torch: python -m benchmarks.word_model

Embedding, dropout, two LSTM layers with dropout between them, dropout, an output layer over the
vocabulary, cross-entropy, gradients clipped by their norm, SGD, the state carried on; float32, ids
drawn from Zipf's law. Ours takes the loss of the output layer in chunks, `linear_cross_entropy`.
Each library lives in a process of its own and takes turns with the other, some updates at a time,
beginning with another one in each pair. Before they are timed, the losses of the first updates,
without dropout and from the same weights, must agree to 1e-4. The goals are 1.5 times torch's rate
and 0.6 of its memory.

Then, in fresh processes, how far the high-water mark of the resident memory rises in one step, with
the model there; and where the time of our step goes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from benchmarks.char_lm import Meanwhile, line
from benchmarks.memory import resident
from benchmarks.peers.machine import Others, machine, versions
from benchmarks.peers.process import PAUSE, environment, started
from benchmarks.peers.report import Log

LIBRARIES = ("tinygrad_rnn", "torch")
SPEED, MEMORY = 1.5, 0.6  # torch's time / ours, our memory / torch's
FIRST, TOLERANCE = 6, 1e-4  # updates compared, nats per word
CLIP, RATE, DROPOUT = 5.0, 1.0, 0.5
Step = Callable[[np.ndarray, np.ndarray, bool], float]
Marks = dict[str, float]  # processor seconds by part


@dataclass
class Size:
    """A model and its batches."""

    vocabulary: int
    hidden: int
    steps: int
    batch: int
    layers: int = 2

    @property
    def words(self) -> int:
        return self.steps * self.batch


SIZES = {
    "small": Size(10_000, 200, 20, 20),
    "medium": Size(10_000, 650, 35, 20),
    "large vocabulary": Size(50_000, 200, 20, 20),
}


def weights(size: Size) -> dict[str, np.ndarray]:
    """The first weights, by torch's names."""
    V, H, rng = size.vocabulary, size.hidden, np.random.default_rng(0)
    shapes = {"embedding.weight": (V, H), "output.weight": (V, H), "output.bias": (V,)}
    for k in range(size.layers):
        shapes |= {f"lstm.weight_ih_l{k}": (4 * H, H), f"lstm.weight_hh_l{k}": (4 * H, H)}
        shapes |= {f"lstm.bias_ih_l{k}": (4 * H,), f"lstm.bias_hh_l{k}": (4 * H,)}
    return {n: rng.uniform(-0.05, 0.05, s).astype(np.float32) for n, s in shapes.items()}


def ours(size: Size, threads: int, marks: Marks | None = None) -> Step:
    """A step of ours; the processor seconds of its parts are added to `marks`."""
    import tinygrad_rnn as tg
    from tinygrad_rnn import nn

    tg.set_num_threads(threads)
    V, H = size.vocabulary, size.hidden

    class Words(nn.Module):
        def __init__(self) -> None:
            self.embedding = nn.Embedding(V, H)
            self.lstm = nn.LSTM(H, H, size.layers, dropout=DROPOUT)
            self.output = nn.Linear(H, V)
            self.dropout = nn.Dropout(DROPOUT)

    model, state, last = Words(), None, 0.0
    model.load_state_dict(weights(size))
    optimizer = tg.optim.SGD(model.parameters(), lr=RATE)

    def mark(part: str) -> None:
        nonlocal last
        now = time.process_time()
        if marks is not None and part:
            marks[part] = marks.get(part, 0.0) + now - last
        last = now

    def step(inputs: np.ndarray, targets: np.ndarray, dropout: bool) -> float:
        nonlocal state
        model.train(dropout)
        mark("")
        x = model.dropout(model.embedding(inputs))
        mark("embedding, dropout")
        x, state = model.lstm(x, state)
        mark("LSTM forward")
        x, (h, c) = model.dropout(x), state
        mark("embedding, dropout")
        output = model.output
        loss = nn.linear_cross_entropy(x, output.weight, targets, output.bias)
        mark("output layer, loss, their gradients")
        model.zero_grad()
        loss.backward()
        mark("backward pass of the rest")
        tg.optim.clip_grad_norm_(model.parameters(), CLIP)
        mark("clipping")
        optimizer.step()
        mark("SGD")
        state = h.detach(), c.detach()
        return float(loss.item())

    return step


def theirs(size: Size, threads: int) -> Step:
    """The same lines in torch."""
    import torch
    from torch import nn

    torch.set_num_threads(threads)
    V, H = size.vocabulary, size.hidden

    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(V, H)
            self.lstm = nn.LSTM(H, H, size.layers, dropout=DROPOUT)
            self.output = nn.Linear(H, V)
            self.dropout = nn.Dropout(DROPOUT)

    model, state = Words(), None
    model.load_state_dict({n: torch.from_numpy(a.copy()) for n, a in weights(size).items()})
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)

    def step(inputs: np.ndarray, targets: np.ndarray, dropout: bool) -> float:
        nonlocal state
        model.train(dropout)
        x = model.dropout(model.embedding(torch.from_numpy(inputs)))
        x, (h, c) = model.lstm(x, state)
        logits = model.output(model.dropout(x))
        loss = nn.functional.cross_entropy(logits.view(-1, V), torch.from_numpy(targets).view(-1))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        state = h.detach(), c.detach()
        return loss.item()

    return step


def batch(size: Size, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets of the k-th update."""
    rng = np.random.default_rng(k)
    ids = (rng.zipf(1.2, (size.steps + 1, size.batch)) - 1) % size.vocabulary
    return ids[:-1].copy(), ids[1:].copy()


def serve(pipe: Connection, library: str, size: Size, threads: int) -> None:
    """The child's loop: a number of updates, and whether with dropout, is a turn; 0 is the end."""
    try:
        step, k = (ours if library == LIBRARIES[0] else theirs)(size, threads), 0
        while (message := pipe.recv())[0]:
            count, dropout = message
            turns = [batch(size, k + i) for i in range(count)]
            k += count
            start, busy = time.perf_counter(), time.process_time()
            losses = [step(*turn, dropout) for turn in turns]
            pipe.send((losses, time.perf_counter() - start, time.process_time() - busy))
    except Exception:
        traceback.print_exc()


class Player:
    """The parent's end of a library's process."""

    def __init__(self, library: str, size: Size, threads: int) -> None:
        self.library = library
        self._pipe, self._process = started(serve, (library, size, threads), threads)
        self.pid = self._process.pid or 0

    def turn(self, updates: int, dropout: bool = True) -> tuple[list[float], float, float]:
        """Losses of the next updates, the seconds they took, and those of all cores together."""
        time.sleep(PAUSE)
        self._pipe.send((updates, dropout))
        try:
            answer: tuple[list[float], float, float] = self._pipe.recv()
        except EOFError:
            raise RuntimeError(f"the process of {self.library} died; see its error") from None
        return answer

    def close(self) -> None:
        if self._process.is_alive():
            self._pipe.send((0, False))
            self._process.join(10)
            self._process.terminate()


def compare(name: str, threads: int, options: argparse.Namespace, say: Log) -> None:
    """Print both libraries' words per second, and their ratio."""
    size, rates, busy = SIZES[name], [], []
    with ExitStack() as stack:
        playing = [Player(library, size, threads) for library in LIBRARIES]
        for player in playing:
            stack.callback(player.close)
        first = [np.array(player.turn(FIRST, dropout=False)[0]) for player in playing]
        apart = float(np.abs(first[0] - first[1]).max())
        if not apart <= TOLERANCE:
            raise RuntimeError(f"expected losses that differ by at most {TOLERANCE}, got {first}")
        for player in playing:
            player.turn(2)
        others = Others([p.pid for p in playing])
        say(f"\n{name} {size}, {threads} thr: first losses differ by {apart:.1e}")
        say(f"{'pair':>10}{'ours words/s':>14}{'torch words/s':>15}{'ratio':>8}{'others':>8}")
        for k in range(options.pairs):
            meanwhile = Meanwhile([p.pid for p in playing])
            turns = {p.library: p.turn(options.updates) for p in playing[:: 1 if k % 2 else -1]}
            mine, other = (turns[library] for library in LIBRARIES)
            words = size.words * options.updates
            rates.append((words / mine[1], words / other[1]))
            busy.append((words / mine[2], words / other[2]))
            fast, slow = rates[-1]
            cores = meanwhile.cores()
            say(f"{k + 1:>10}{fast:14,.0f}{slow:15,.0f}{fast / slow:8.2f}{cores:8.2f}")
        told = others.told(threads)
    say(line("median", rates, SPEED))
    say(line("per CPU s", busy, SPEED))
    say(told)


def growth(library: str, name: str) -> None:
    """Print the growth of the high-water mark in one step, MB."""
    small = Size(50, 8, 3, 2)
    (ours if library == LIBRARIES[0] else theirs)(small, 1)(*batch(small, 0), True)  # the warm-up
    size = SIZES[name]
    step = (ours if library == LIBRARIES[0] else theirs)(size, 1)
    turn = batch(size, 0)
    held = np.ones(max(0, resident("VmHWM") - resident("VmRSS")), np.uint8)  # up to the mark
    before = resident("VmHWM")
    step(*turn, True)
    print((resident("VmHWM") - before) / 2**20)
    del held


def memory(name: str, rounds: int, say: Log) -> None:
    """Medians of interleaved runs."""
    found: dict[str, list[float]] = {library: [] for library in LIBRARIES}
    env = os.environ | environment(1) | {"MALLOC_MMAP_THRESHOLD_": "131072"}
    for _ in range(rounds):
        for library in LIBRARIES:
            command = [sys.executable, "-m", "benchmarks.word_model", "--child", library, name]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=env)
            found[library].append(float(done.stdout))
    mine, other = (statistics.median(found[library]) for library in LIBRARIES)
    mark = "" if mine <= MEMORY * other else f"  above {MEMORY}"
    say(f"{name:20}{mine:10.1f}{other:10.1f}{mine / other:8.2f}{mark}")


def parts(name: str, updates: int, say: Log) -> None:
    """Where the time of our step goes, on one thread."""
    size, marks = SIZES[name], Marks()
    step = ours(size, 1, marks)
    for k in range(updates + 1):
        step(*batch(size, k), True)
        if not k:
            marks.clear()
    total = sum(marks.values())
    say(f"\n{name}, 1 thr: {1e3 * total / updates:.1f} ms a step")
    for part, seconds in marks.items():
        say(f"{part:>40}{1e3 * seconds / updates:10.2f} ms{seconds / total:8.1%}")


def main() -> int:
    """Returns 1 if the libraries disagree."""
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=shape)
    add = parser.add_argument
    add("--sizes", nargs="+", default=list(SIZES), choices=SIZES, metavar="SIZE",
        help=f"of {', '.join(map(repr, SIZES))} (default: all)")  # fmt: skip
    add("--threads", nargs="+", type=int, default=[1, 2], metavar="N",
        help="numbers of threads, each in processes of its own (default: 1 2)")  # fmt: skip
    add("--pairs", type=int, default=11, metavar="N", help="interleaved pairs (default: 11)")
    add("--updates", type=int, default=5, metavar="N", help="in a turn (default: 5)")
    add("--rounds", type=int, default=3, metavar="N", help="of memory (default: 3)")
    add("--log", type=Path, metavar="FILE", help="also write what is printed to this file")
    add("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        growth(*options.child)
        return 0
    say = Log(options.log)
    say(f"{versions(['torch'])}\n{machine()}; {options.pairs} pairs of {options.updates} updates")
    try:
        for threads in options.threads:
            for name in options.sizes:
                compare(name, threads, options, say)
    except RuntimeError as error:
        say(f"word_model: {error}")
        return 1
    say(f"\n{'peak memory, MB':20}{'ours':>10}{'torch':>10}{'ratio':>8}")
    for name in options.sizes:
        memory(name, options.rounds, say)
    for name in options.sizes:
        parts(name, options.updates, say)
    return 0


if __name__ == "__main__":
    sys.exit(main())
