"""zoo.char_lm beside the same model in torch: python -m benchmarks.char_lm

A training step of zoo.char_lm (embedding, LSTM, dropout, output layer, cross-entropy, clipped
gradients, AdamW, the state carried on) and the same in torch (its AdamW fused), on the same batches
from the same weights with the same masks, float32. Each library lives in a process of its own and
takes turns with the other, some updates at a time, beginning with another one in each pair. Before
they are timed, the losses of the first updates must agree to 1e-4. The goal is 1.2 times torch.

With --train SECONDS, zoo.char_lm then trains for about that long (as many updates as fit at the
rate just measured, the learning rate falling over them) and its validation loss is the last line.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np

from benchmarks.peers.contest import quartiles
from benchmarks.peers.machine import BUSY, Others, machine, versions
from benchmarks.peers.process import PAUSE, environment, started
from benchmarks.peers.report import Log

LIBRARIES = ("tinygrad_rnn", "torch")
GOAL = 1.2  # torch / ours
FIRST, TOLERANCE = 8, 1e-4  # updates compared, nats per character
Step = Callable[[np.ndarray, np.ndarray], float]


@dataclass
class Task:
    """What both libraries are told."""

    recipe: dict[str, Any]
    characters: str
    train_ids: np.ndarray


def ours(task: Task, threads: int) -> Step:
    """The script's own step."""
    from threadpoolctl import threadpool_limits

    import tinygrad_rnn as tg
    from zoo import char_lm

    tg.set_num_threads(threads)
    threadpool_limits(1, "blas")  # as char_lm does
    run = char_lm.Run(char_lm.Recipe(**task.recipe), "", "", "", task.characters)
    return lambda inputs, targets: char_lm.train_step(run, inputs, targets)


def theirs(task: Task, threads: int) -> Step:
    """The same lines in torch."""
    import torch
    from torch import nn

    from tinygrad_rnn.nn import dropout
    from zoo import char_lm
    from zoo.running.training import learning_rate

    torch.set_num_threads(threads)
    recipe = char_lm.Recipe(**task.recipe)
    run = char_lm.Run(recipe, "", "", "", task.characters)  # first weights and what is dropped
    V, E, H, L = len(task.characters), recipe.embedding, recipe.hidden, recipe.layers

    class CharLM(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(V, E)
            self.layers = nn.ModuleList(nn.LSTM(H if k else E, H) for k in range(L))
            self.output = nn.Linear(H, V)

        def forward(self, ids: Any, states: Any, masks: Any) -> Any:
            h, ends = self.embedding(ids), []
            for k, (layer, state) in enumerate(zip(self.layers, states, strict=True)):
                x = h if k == 0 else kept(h, masks[k - 1])
                found, end = layer(x, state)
                h = h + found if k and recipe.connection == "residual" else found
                ends.append(end)
            return self.output(kept(h, masks[-1])), ends

    def kept(h: Any, mask: Any) -> Any:
        return h if mask is None else h * mask

    def masks(columns: int) -> list[Any]:
        if not recipe.dropout:
            return [None] * L
        ones = np.ones((1, columns, H), np.float32)
        return [torch.from_numpy(dropout(ones, recipe.dropout, rng=run.rng)) for _ in range(L)]

    model, updates, states = CharLM(), 0, [None] * L
    first = map(torch.tensor, run.model.state_dict().values())
    model.load_state_dict(dict(zip(model.state_dict(), first, strict=True)))
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.lr, weight_decay=recipe.decay, fused=True
    )

    def step(inputs: np.ndarray, targets: np.ndarray) -> float:
        nonlocal states, updates
        x, y = torch.from_numpy(inputs), torch.from_numpy(targets)
        logits, states = model(x, states, masks(inputs.shape[1]))
        loss = nn.functional.cross_entropy(logits.view(-1, V), y.reshape(-1))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.param_groups[0]["lr"] = learning_rate(recipe.lr, updates, recipe.updates)
        optimizer.step()
        states, updates = [tuple(s.detach() for s in state) for state in states], updates + 1
        return loss.item()

    return step


def batches(task: Task) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pieces of the text, as training reads them."""
    from zoo.texts.tokens import streams

    inputs, targets = streams(task.train_ids, task.recipe["batch"])
    length = task.recipe["length"]
    while True:
        for t in range(0, len(inputs) - length + 1, length):
            yield inputs[t : t + length], targets[t : t + length]


def serve(pipe: Connection, library: str, task: Task, threads: int) -> None:
    """The child's loop: a number of updates is a turn, 0 the end."""
    try:
        step = (ours if library == LIBRARIES[0] else theirs)(task, threads)
        turns = batches(task)
        while count := pipe.recv():
            losses, start, busy = [], time.perf_counter(), time.process_time()
            for _ in range(count):
                losses.append(step(*next(turns)))
            pipe.send((losses, time.perf_counter() - start, time.process_time() - busy))
    except Exception:
        traceback.print_exc()


class Player:
    """The parent's end of a library's process."""

    def __init__(self, library: str, task: Task, threads: int) -> None:
        self.library = library
        self._pipe, self._process = started(serve, (library, task, threads), threads)

    @property
    def pid(self) -> int:
        return self._process.pid or 0

    def turn(self, updates: int) -> tuple[list[float], float, float]:
        """Losses of the next updates, the seconds they took, and those of all cores together."""
        time.sleep(PAUSE)
        self._pipe.send(updates)
        try:
            answer: tuple[list[float], float, float] = self._pipe.recv()
        except EOFError:
            raise RuntimeError(f"the process of {self.library} died; see its error") from None
        return answer

    def close(self) -> None:
        if self._process.is_alive():
            self._pipe.send(0)
            self._process.join(10)
            self._process.terminate()


class Meanwhile(Others):
    """How many cores others used in a pair."""

    def cores(self) -> float:
        last = self._seconds()
        if self._first is None or last is None:
            return 0.0
        return max(0.0, last - self._first) / (time.perf_counter() - self._start)


@contextmanager
def players(task: Task, threads: int) -> Iterator[list[Player]]:
    found: list[Player] = []
    try:
        for library in LIBRARIES:
            found.append(Player(library, task, threads))
        yield found
    finally:
        for player in found:
            player.close()


Rates = list[tuple[float, float]]  # ours and torch's, pair by pair


def line(name: str, rates: Rates, goal: float = 0.0) -> str:
    """Medians and the ratio's quartiles, and whether even the upper one is below a goal."""
    mine, other = (statistics.median(r) for r in zip(*rates, strict=True))
    low, middle, high = quartiles([a / b for a, b in rates])
    mark = f"  below {goal}" if high < goal else ""
    return f"{name:>10}{mine:14,.0f}{other:15,.0f}{middle:8.2f} [{low:.2f}-{high:.2f}]{mark}"


def agree(playing: list[Player], threads: int, say: Log) -> None:
    """Raise unless the first losses are the same."""
    first = [player.turn(FIRST)[0] for player in playing]
    apart = float(np.abs(np.array(first[0]) - np.array(first[1])).max())
    if not apart <= TOLERANCE:
        raise RuntimeError(f"expected losses that differ by at most {TOLERANCE}, got {first}")
    say(f"\n{threads} thr: losses of the first {FIRST} updates differ by {apart:.1e} nats/char")


def compare(options: argparse.Namespace, task: Task, threads: int, say: Log) -> float:
    """Print both libraries' rates and their ratio; ours, in characters per second."""
    characters = options.updates * task.recipe["batch"] * task.recipe["length"]
    rates: Rates = []
    quiet: Rates = []
    busy: Rates = []
    with players(task, threads) as playing:
        agree(playing, threads, say)
        others = Others([p.pid for p in playing])
        say(f"{'pair':>10}{'ours chars/s':>14}{'torch chars/s':>15}{'ratio':>8}{'others':>8}")
        for k in range(options.pairs):
            meanwhile = Meanwhile([p.pid for p in playing])
            turns = {p.library: p.turn(options.updates) for p in playing[:: 1 if k % 2 else -1]}
            cores, (mine, other) = meanwhile.cores(), (turns[library] for library in LIBRARIES)
            rates.append((characters / mine[1], characters / other[1]))
            quiet += rates[-1:] if cores < BUSY else []
            busy.append((characters / mine[2], characters / other[2]))
            fast, slow = rates[-1]
            say(f"{k + 1:>10}{fast:14,.0f}{slow:15,.0f}{fast / slow:8.2f}{cores:8.2f}")
        told = others.told(threads)
    say(line("median", rates, GOAL))
    if 2 <= len(quiet) < len(rates):
        say(line(f"{len(quiet)} quiet", quiet, GOAL))  # others used less than a tenth of a core
    if threads == 1:  # of several, those that wait spin
        say(line("per CPU s", busy))
    say(told)
    return statistics.median(mine for mine, _ in rates)


def full(options: argparse.Namespace, recipe: dict[str, Any], rate: float, say: Log) -> None:
    """A whole run of the script in a process of its own, and its result."""
    updates = max(1, round(options.train * rate / (recipe["batch"] * recipe["length"])))
    threads, words = options.threads[-1], []
    for name, value in (recipe | {"updates": updates}).items():
        words += [f"--{name}", str(value)]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "zoo.char_lm", "--data", options.data, *words]
        path = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        done = subprocess.run(
            [*command, "--out", folder], check=True, stdout=subprocess.PIPE, encoding="utf-8",
            env=os.environ | environment(threads) | path,
        )  # fmt: skip
    *_, where, _, _, last = done.stdout.splitlines()
    say(f"\n{updates} updates, {threads} thr: {where.partition('; ')[2]}\n{last}")


def arguments() -> tuple[argparse.Namespace, dict[str, Any]]:
    """What to run, and what is not the data's own recipe."""
    from zoo.char_lm import Recipe

    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=shape)
    add = parser.add_argument
    add("--data", default="tiny-shakespeare", metavar="NAME", help="as char_lm's")
    add("--threads", nargs="+", type=int, default=[2], metavar="N",
        help="numbers of threads, each in processes of its own (default: 2)")  # fmt: skip
    add("--pairs", type=int, default=15, metavar="N", help="interleaved pairs (default: 15)")
    add("--updates", type=int, default=20, metavar="N", help="in a turn (default: 20)")
    add("--train", type=float, metavar="SECONDS", help="then train ours for about this long")
    add("--log", type=Path, metavar="FILE", help="also write what is printed to this file")
    asked = parser.add_argument_group("recipe", "instead of the data's own")
    fixed = ("updates", "cell", "connection", "weight_drop", "ensemble")  # torch has an LSTM
    hints = {n: h for n, h in get_type_hints(Recipe).items() if n not in fixed}
    for name, kind in hints.items():
        asked.add_argument(f"--{name}", type=(get_args(kind) or (kind,))[0], metavar="X")
    options = parser.parse_args()
    if options.pairs < 2 or min(*options.threads, options.updates) < 1:
        parser.error("expected at least 2 pairs, 1 update and 1 thread")
    return options, {n: v for n in hints if (v := getattr(options, n)) is not None}


def main() -> int:
    """Returns 1 if the libraries disagree."""
    options, asked = arguments()
    from zoo import char_lm
    from zoo.texts import datasets

    say, text = Log(options.log), datasets.load_text(options.data)
    recipe = asdict(char_lm.Recipe(**char_lm.OWN.get(text.name, {}) | asked))
    vocabulary = datasets.Vocabulary(text.text)
    ids = vocabulary.encode(datasets.split(text.text)[0])
    say(f"{versions(['torch'])}\n{machine()}; {options.pairs} pairs of {options.updates} updates")
    say(f"{text.name}: " + " ".join(f"--{n} {v}" for n, v in recipe.items()))
    task, rate = Task(recipe, vocabulary.characters, ids), 0.0
    try:
        for threads in options.threads:
            rate = compare(options, task, threads, say)
    except RuntimeError as error:
        say(f"char_lm: {error}")
        return 1
    if options.train:
        full(options, recipe, rate, say)
    return 0


if __name__ == "__main__":
    sys.exit(main())
