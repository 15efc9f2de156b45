"""Character language model: the distribution of the next character, given all before it.

    python -m zoo.char_lm                                  # on Python's own standard library
    python -m zoo.char_lm --data tiny-shakespeare          # a named set; any other text by path
    python -m zoo.char_lm --cell gru --layers 4 --connection residual
    python -m zoo.char_lm --data tiny-shakespeare --recipe ensemble  # the mean of five networks
    python -m zoo.char_lm --resume                         # go on where Ctrl-C stopped it
    python -m zoo.char_lm --sample 500 --temperature 0.7   # write from the checkpoint

    e_t = E[x_t];  h_t, s_t = cell(e_t, s_{t-1}), layer over layer;  ŷ_t = softmax(U h_t + b)
    J = (1/T) Σ_t -log ŷ_t[x_{t+1}]       in nats per character; J / log 2 in bits

Trained by truncated backpropagation through time: the text is cut into B streams, each update
reads T characters of every stream, and the state is carried to the next update without its
gradient. AdamW, clipped gradients, a learning rate that falls along a cosine. Dropout hides some
units of each layer from the one above, the same at all T steps.

Expect about 1.40 nats/char on the standard library and 1.47 on tiny-shakespeare (bigrams get 2.44
and 2.48), in three to five minutes; the mean of five networks gets 1.41 there, in half an hour.

Mikolov, Karafiát, Burget, Černocký & Khudanpur (2010), Recurrent neural network based language
model, §2; with the LSTM of Gers, Schmidhuber & Cummins (2000), Learning to Forget.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import nn, optim, saving
from zoo.models.ensemble import Ensemble
from zoo.models.predictors import Carrying, opening, written
from zoo.models.recurrent_stack import CELLS, CONNECTIONS, stack
from zoo.running import runs, training
from zoo.running.arguments import between, training_parser, typed
from zoo.running.curves import draw_losses
from zoo.running.interrupt import Interrupt
from zoo.running.recipes import add_options, given, refuse_change, shown
from zoo.running.runs import CHECKPOINT, Stopped, log
from zoo.texts import datasets
from zoo.texts.corpora import load_parts
from zoo.texts.datasets import Ids
from zoo.texts.tokens import START, Tokens, streams

NAME, DATA = "char_lm", "stdlib (default), tiny-shakespeare, pydoc, or a text file's path"
GLANCE = 50_000  # characters of the validation part that the curve looks at
STREAMS = 8  # that the whole validation part is read as


@dataclass(frozen=True)
class Recipe:
    """What decides the result, with the text."""

    cell: Annotated[str, "what the layers are made of"] = "lstm"
    hidden: Annotated[int, "units of each layer, H"] = 256
    layers: Annotated[int, "recurrent layers, L"] = 1
    connection: Annotated[str, "past each layer but the first"] = "none"
    embedding: Annotated[int, "features of a character, E"] = 48
    batch: Annotated[int, "streams read side by side, B"] = 32
    length: Annotated[int, "characters of each stream in an update, T"] = 64
    updates: Annotated[int, "steps of AdamW"] = 6000
    lr: Annotated[float, "learning rate at its highest"] = 4e-3
    decay: Annotated[float, "weight decay"] = 0.0
    clip: Annotated[float, "largest norm of the gradient"] = 1.0
    dropout: Annotated[float, "share of a layer's units that are hidden in training"] = 0.0
    weight_drop: Annotated[float, "share of the recurrent matrices that is dropped in it"] = 0.0
    ensemble: Annotated[int, "networks whose probabilities are averaged, K"] = 1
    seed: Annotated[int, "of the first weights and of what is drawn"] = 0


DEEP = {"layers": 2, "connection": "residual", "dropout": 0.4, "updates": 4700}
OWN = {"tiny-shakespeare": DEEP}  # of a data set; others: as above
RECIPES = OWN | {"ensemble": DEEP | {"ensemble": 5}}
KINDS = dict.fromkeys(("dropout", "weight_drop"), between(float, 0, 0.99))
KINDS |= {"decay": between(float, 0, 100), "ensemble": between(int, 1, 100)}
CHOICES = {"cell": CELLS, "connection": CONNECTIONS}


@dataclass
class Run(training.Begun):
    """Everything that a resumed training needs: numbers and names here, arrays below."""

    recipe: Recipe
    characters: str  # its vocabulary
    update: int = 0
    read: int = 0  # characters
    seconds: float = 0.0  # spent training

    def __post_init__(self) -> None:
        r, self.rng = self.recipe, np.random.default_rng(self.recipe.seed)
        self.tokens = Tokens("character", [START, *self.characters])
        self.size = len(self.characters)
        self.networks = [self.network() for _ in range(r.ensemble)]
        self.model = Ensemble(*self.networks) if r.ensemble > 1 else self.networks[0]
        self.optimizer = optim.AdamW(self.model.parameters(), lr=r.lr, weight_decay=r.decay)
        self.state: Any = None  # of each network, carried to the next update
        self.recent: list[float] = []  # losses since the last point of the curve
        self.curve: list[list[float]] = []  # update, nats/char, validation

    def network(self) -> nn.Sequential:
        """(T, B) characters and a state -> (T, B, V) logits and a state."""
        r, rng = self.recipe, self.rng
        embedding = nn.Embedding(self.size, r.embedding, rng=rng)
        sizes, drop = (r.embedding, r.hidden, r.layers, r.dropout), r.weight_drop
        layers, width = stack(r.cell, r.connection, *sizes, rng, weight_drop=drop)
        output = nn.Linear(width, self.size, rng=rng)
        return nn.Sequential(embedding, layers, nn.LockedDropout(r.dropout, rng=rng), output)


# Training


def train_step(run: Run, inputs: Ids, targets: Ids) -> float:
    """One update of each network on (T, B) characters; the mean loss before it, in nats."""
    start, recipe, losses, states = time.monotonic(), run.recipe, list[float](), list[Any]()
    run.model.zero_grad()
    for network, before in zip(run.networks, run.state or [None] * recipe.ensemble, strict=True):
        logits, state = network(inputs, before)
        loss = nn.cross_entropy(logits, targets)
        loss.backward()
        norm = optim.clip_grad_norm_(network.parameters(), recipe.clip)
        losses.append(float(loss.item()))
        states.append(nn.detached(state))
        runs.refuse_divergence(f"update {run.update + 1}", "char", losses[-1], norm)
    run.optimizer.lr = training.learning_rate(recipe.lr, run.update, recipe.updates)
    run.optimizer.step()
    run.state = tuple(states)
    run.update += 1
    run.read += int((targets >= 0).sum())
    run.seconds += time.monotonic() - start
    return float(np.mean(losses))


def evaluate(
    model: nn.Sequential | Ensemble, ids: Ids, interrupt: Interrupt, count: int = 64
) -> float:
    """Mean loss over all of `ids`, in nats per character, the state carried along each stream."""
    inputs, targets = streams(ids, min(count, len(ids) - 1))
    total, state = 0.0, None
    model.eval()
    with tg.no_grad():
        for t in range(0, len(inputs), 128):
            if interrupt.requested:
                raise Stopped
            logits, state = model(inputs[t : t + 128], state)
            total += nn.cross_entropy(logits, targets[t : t + 128], reduction="sum").item()
    model.train()
    return total / (len(ids) - 1)


def train(run: Run, parts: dict[str, Ids], folder: Path, interrupt: Interrupt) -> None:
    """Update until the recipe is done; look at the validation part and save now and then."""
    recipe, every = run.recipe, max(1, run.recipe.updates // 20)
    inputs, targets = streams(parts["train"], recipe.batch)
    steps, pieces = len(inputs), math.ceil(len(inputs) / recipe.length)
    for _ in training.updating(run, recipe.updates, "char", interrupt, lambda: save(run, folder)):
        if run.recent and (run.update % every == 0 or run.update == recipe.updates):
            look(run, evaluate(run.model, parts["validation"][:GLANCE], interrupt), folder)
        if run.update < recipe.updates:
            piece = run.update % pieces
            if piece == 0:
                run.state = None  # the streams begin again
            here = slice(steps * piece // pieces, steps * (piece + 1) // pieces)
            run.recent.append(train_step(run, inputs[here], targets[here]))


def look(run: Run, glance: float, folder: Path) -> None:
    runs.refuse_divergence(f"update {run.update}", "char", glance)
    nats = float(np.mean(run.recent))
    log(folder, update=run.update, training=nats, validation=glance)
    run.curve.append([run.update, nats, glance])
    run.recent.clear()


def save(run: Run, folder: Path) -> None:
    training.save(run, folder / CHECKPOINT, NAME)


def restore(folder: Path) -> Run:
    arrays, state = saving.load(folder / CHECKPOINT)
    with runs.reading(folder / CHECKPOINT, NAME, state):
        run = Run(**training.fields(state, Recipe))
        one = np.zeros((1, 1), np.int64)
        shape = tuple(network(one)[1] for network in run.networks)
        training.fill(run, arrays, state["rng"], shape)
    return run


def predictor(run: Run) -> Carrying:
    """The model for those who ask what comes next; a text begins after a new line."""
    return Carrying(run.model.eval(), run.tokens, max(0, run.characters.find("\n")))


def judge(run: Run, parts: dict[str, Ids], interrupt: Interrupt) -> dict[str, float]:
    known = parts["train"], parts["validation"], run.size
    losses = {"unigrams": datasets.unigram_loss(*known), "bigrams": datasets.bigram_loss(*known)}
    for part in list(parts)[1:]:
        losses[part] = evaluate(run.model, parts[part], interrupt, STREAMS)
    return losses


def report(run: Run, losses: dict[str, float], folder: Path) -> dict[str, Any]:
    """Writes down what a table of results needs to know of a run."""
    named = {"name": Path(run.data).name, "sha256": run.digest, "vocabulary": run.size}
    found: dict[str, Any] = {"command": run.command, "recipe": asdict(run.recipe), "text": named}
    found |= {"parameters": sum(p.size for p in run.model.parameters())}
    found |= {"nats per character": losses, "minutes of training": run.seconds / 60}
    return runs.write_result(folder, **found, **{"characters per second": run.read / run.seconds})


# Command line


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = training_parser(NAME, __doc__, DATA, "characters", 0.7)
    about = "other defaults than below (default: those of the data's own name)"
    parser.add_argument("--recipe", choices=RECIPES, help=about)
    add_options(parser, Recipe, RECIPES, KINDS, CHOICES, "--recipe")
    options = parser.parse_args(argv)
    options.command = typed(f"zoo.{NAME}", argv)
    options.recipe = RECIPES.get(options.recipe, {}) | given(options, Recipe())
    return options


def prepare(options: argparse.Namespace, folder: Path) -> tuple[Run, dict[str, Ids]]:
    """A new run, or the one in the checkpoint, and the text's parts in numbers."""
    run = restore(folder) if options.resume else None
    text = load_parts(options.data or (run.data if run else "stdlib"), "character")
    if min(map(len, text.parts.values())) < 2:
        wrong = "expected two characters or more in its last tenth, for validation, got one"
        raise ValueError(f"{text.name}: {wrong}; choose a longer text")
    if run is None:
        characters = "".join(Tokens.of(text, "character", 0, 0).names[1:])
        recipe = Recipe(**OWN.get(text.name, {}) | options.recipe)
        run = Run(recipe, options.command, text.name, text.digest, characters)
    same = "" if run.digest == text.digest else f"the same text as before in --data {run.data}"
    refuse_change(run.recipe, options.recipe, same, folder / CHECKPOINT)
    sizes = " + ".join(f"{len(words):,}" for words in text.parts.values())
    print(f"text: {text.source}; {sizes} characters, {run.size} distinct")
    print("recipe:", shown(run.recipe), flush=True)
    return run, {part: run.tokens.encode(words)[1:] - 1 for part, words in text.parts.items()}


def run_training(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    run, parts = prepare(options, folder)
    prompt = opening(run.tokens, options.prompt)
    if not options.resume:
        folder = training.folder_of(options, NAME, "stdlib", make=True)
        save(run, folder)
    log(folder, command=options.command, recipe=asdict(run.recipe), update=run.update)
    with training.stopping(run, folder, lambda: save(run, folder)) as interrupt:
        train(run, parts, folder, interrupt)
        save(run, folder)
        losses = judge(run, parts, interrupt)
    found = report(run, losses, folder)
    print(written(predictor(run), prompt, 600, run.recipe.seed, options.temperature))
    print(f"\ncheckpoint {folder / CHECKPOINT}; {run.seconds / 60:.1f} minutes of training")
    for name, nats in losses.items():
        print(f"{name:10} {nats:z.4f} nats/char, {nats / math.log(2):z.4f} bits", flush=True)
    if options.curve:
        title = f"{NAME} on {Path(run.data).name}: {losses['validation']:z.4f} nats/char"
        draw_losses(run.curve, {"bigrams": losses["bigrams"]}, title, "character", options.curve)
    return found


def run_script(options: argparse.Namespace) -> Any:
    folder = training.folder_of(options, NAME, "stdlib")
    if not options.sample:
        return run_training(options, folder)
    run = restore(folder)
    seed, prompt = options.recipe.get("seed", run.recipe.seed), opening(run.tokens, options.prompt)
    text = written(predictor(run), prompt, options.sample, seed, options.temperature)
    at = f"update {run.update} of {run.recipe.updates}"
    print(f"from {folder / CHECKPOINT}, {at}", file=sys.stderr)
    print(text)
    return text


def main(argv: Sequence[str] | None = None) -> Any:
    options = parse(argv)
    return runs.ending_well(NAME, lambda: run_script(options))


if __name__ == "__main__":
    main()
