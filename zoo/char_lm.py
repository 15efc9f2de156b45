"""Character language model: the distribution of the next character, given all before it.

    python -m zoo.char_lm                                  # on Python's own standard library
    python -m zoo.char_lm --data tiny-shakespeare          # a named set; any other text by path
    python -m zoo.char_lm --resume                         # go on where Ctrl-C stopped it
    python -m zoo.char_lm --sample 500 --temperature 0.7   # write from the checkpoint

    e_t = E[x_t];  h_t, c_t = LSTM(e_t, h_{t-1}, c_{t-1});  ŷ_t = softmax(U h_t + b)
    J = (1/T) Σ_t -log ŷ_t[x_{t+1}]                        in nats per character

Trained by truncated backpropagation through time: the text is cut into B streams, each update
reads T characters of every stream, and the state is carried to the next update without its
gradient. Adam, clipped gradients, a learning rate that falls along a cosine.

Expect at most 1.70 nats/char on the standard library (bigrams get 2.4) in 4 minutes on two cores.

Mikolov, Karafiát, Burget, Černocký & Khudanpur (2010), Recurrent neural network based language
model, §2; with the LSTM of Gers, Schmidhuber & Cummins (2000), Learning to Forget.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import math
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

import tinygrad_rnn as tg
from tinygrad_rnn import nn, optim, saving
from zoo import datasets
from zoo.interrupt import Interrupt

State = tuple[tg.Tensor, tg.Tensor]
GLANCE = 50_000  # characters of the validation split that the curve looks at
SAVE_SECONDS = 30.0


@dataclass(frozen=True)
class Recipe:
    """What decides the result, with the seed and the text."""

    hidden: int = 160  # units of each layer, H
    layers: int = 1
    embedding: int = 48  # features of a character, E
    batch: int = 32  # streams read side by side, B
    length: int = 64  # characters of each stream in an update, T
    updates: int = 2500
    lr: float = 4e-3  # learning rate at its highest
    clip: float = 1.0  # largest norm of the gradient
    seed: int = 0


RECIPES = {
    "stdlib": Recipe(),
    "tiny-shakespeare": Recipe(updates=2400, lr=3e-3),
}


class CharLM(nn.Module):
    """Embedding, LSTM, linear."""

    def __init__(self, vocabulary: int, recipe: Recipe, rng: np.random.Generator) -> None:
        self.embedding = nn.Embedding(vocabulary, recipe.embedding, rng=rng)
        self.lstm = nn.LSTM(recipe.embedding, recipe.hidden, recipe.layers, rng=rng)
        self.output = nn.Linear(recipe.hidden, vocabulary, rng=rng)

    def __call__(self, ids: np.ndarray, state: State | None) -> tuple[tg.Tensor, State]:
        hidden, state = self.lstm(self.embedding(ids), state)  # ids (T, B)
        return self.output(hidden), state  # (T, B, V)


# Data


def streams(ids: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The text as `count` streams side by side, inputs and the characters that follow; the last
    stream is filled up with targets that do not count."""
    steps = math.ceil((len(ids) - 1) / count)
    inputs, targets = np.zeros(steps * count, np.int64), np.full(steps * count, -100)
    inputs[: len(ids) - 1], targets[: len(ids) - 1] = ids[:-1], ids[1:]
    return inputs.reshape(count, steps).T, targets.reshape(count, steps).T  # (steps, B) each


def learning_rate(recipe: Recipe, update: int) -> float:
    """Rises over the first 50 updates, then falls along a cosine to 2 %."""
    fall = 0.5 * (1 + math.cos(math.pi * update / recipe.updates))
    return recipe.lr * min(1.0, (update + 1) / 50) * (0.02 + 0.98 * fall)


# Training


@dataclass
class Run:
    """Everything that a resumed training needs."""

    recipe: Recipe
    data: str  # the text's name
    digest: str  # of the text
    vocabulary: datasets.Vocabulary
    model: CharLM
    optimizer: optim.Adam
    state: State | None = None  # carried to the next update, (L, B, H) each
    update: int = 0
    seconds: float = 0.0  # spent training
    recent: list[float] = field(default_factory=list)  # losses since the last point of the curve
    curve: list[list[float]] = field(default_factory=list)  # update, nats/char, validation

    @property
    def glance_is_due(self) -> bool:
        every = max(1, self.recipe.updates // 20)
        return bool(self.recent) and (
            self.update % every == 0 or self.update == self.recipe.updates
        )


class Stopped(Exception):
    """Somebody asked to stop."""


def new_run(recipe: Recipe, data: str, digest: str, vocabulary: datasets.Vocabulary) -> Run:
    model = CharLM(len(vocabulary), recipe, np.random.default_rng(recipe.seed))
    optimizer = optim.Adam(model.parameters(), lr=recipe.lr)
    return Run(recipe, data, digest, vocabulary, model, optimizer)


def train_step(run: Run, inputs: np.ndarray, targets: np.ndarray) -> float:
    """One update on (T, B) characters; the mean loss before it, in nats."""
    logits, state = run.model(inputs, run.state)
    loss = nn.cross_entropy(logits, targets)
    run.model.zero_grad()
    loss.backward()
    optim.clip_grad_norm_(run.model.parameters(), run.recipe.clip)
    run.optimizer.lr = learning_rate(run.recipe, run.update)
    run.optimizer.step()
    run.state = (state[0].detach(), state[1].detach())
    run.update += 1
    return float(loss.item())


def evaluate(model: CharLM, ids: np.ndarray, interrupt: Interrupt, count: int = 64) -> float:
    """Mean loss over all of `ids`, in nats per character, the state carried along each stream."""
    inputs, targets = streams(ids, min(count, len(ids) - 1))
    total, state = 0.0, None
    with tg.no_grad():
        for t in range(0, len(inputs), 128):
            if interrupt.requested:
                raise Stopped
            logits, state = model(inputs[t : t + 128], state)
            total += nn.cross_entropy(logits, targets[t : t + 128], reduction="sum").item()
    return total / (len(ids) - 1)


def train(
    run: Run, train_ids: np.ndarray, valid_ids: np.ndarray, path: Path, interrupt: Interrupt
) -> None:
    """Update until the recipe is done; save now and then."""
    recipe, saved = run.recipe, time.monotonic()
    inputs, targets = streams(train_ids, recipe.batch)
    pieces = max(1, len(inputs) // recipe.length)
    with tqdm(total=recipe.updates, initial=run.update, unit="update", dynamic_ncols=True) as bar:
        bar.mininterval = 0.1 if sys.stderr.isatty() else 10.0
        while True:
            if run.glance_is_due:
                glance = evaluate(run.model, valid_ids[:GLANCE], interrupt)
                run.curve.append([run.update, float(np.mean(run.recent)), glance])
                run.recent.clear()
            if run.update == recipe.updates:
                return
            start, piece = time.monotonic(), run.update % pieces
            if piece == 0:
                run.state = None  # the streams begin again
            here = slice(piece * recipe.length, (piece + 1) * recipe.length)
            run.recent.append(train_step(run, inputs[here], targets[here]))
            run.seconds += time.monotonic() - start
            bar.set_postfix_str(progress(run, inputs[here].size), refresh=False)
            bar.update()
            if interrupt.requested:
                raise Stopped
            if time.monotonic() - saved > SAVE_SECONDS:
                save(run, path)
                saved = time.monotonic()


def progress(run: Run, size: int) -> str:
    rate = run.update * size / run.seconds
    mean = float(np.mean(run.recent))
    return f"loss {run.recent[-1]:.3f}, {mean:.3f} nats/char, {rate:,.0f} chars/s"


# Checkpoints


def save(run: Run, path: Path) -> None:
    arrays = {f"model.{n}": a for n, a in run.model.state_dict().items()}
    arrays |= {f"optimizer.{n}": a for n, a in run.optimizer.state_dict().items()}
    if run.state is not None:
        arrays |= {"carried.h": run.state[0].numpy(), "carried.c": run.state[1].numpy()}
    arrays |= {"curve": np.reshape(run.curve, (-1, 3)), "recent": np.array(run.recent)}
    path.parent.mkdir(parents=True, exist_ok=True)
    saving.save(path, arrays, {
        "script": "char_lm", "recipe": asdict(run.recipe), "data": run.data, "digest": run.digest,
        "characters": run.vocabulary.characters, "update": run.update, "seconds": run.seconds,
    })  # fmt: skip


def restore(path: Path) -> Run:
    arrays, state = saving.load(path)
    if state.get("script") != "char_lm":
        raise saving.CheckpointError(f"{path}: expected a checkpoint of char_lm, got another's")
    vocabulary = datasets.Vocabulary(state["characters"])
    run = new_run(Recipe(**state["recipe"]), state["data"], state["digest"], vocabulary)

    def group(name: str) -> dict[str, np.ndarray]:
        return {n.removeprefix(name): a for n, a in arrays.items() if n.startswith(name)}

    run.model.load_state_dict(group("model."))
    run.optimizer.load_state_dict(group("optimizer."))
    carried = group("carried.")
    run.state = (tg.Tensor(carried["h"]), tg.Tensor(carried["c"])) if carried else None
    run.update, run.seconds = state["update"], state["seconds"]
    run.curve, run.recent = arrays["curve"].tolist(), arrays["recent"].tolist()
    return run


# Results


def sample(run: Run, count: int, temperature: float, prompt: str, seed: int) -> str:
    """The prompt and `count` characters more, each drawn from the model's distribution sharpened
    by 1/temperature, and read as the next input."""
    rng, state, text = np.random.default_rng(seed), None, prompt
    ids = run.vocabulary.encode(prompt)
    with tg.no_grad():
        for _ in range(count):
            logits, state = run.model(ids[:, None], state)
            p = tg.softmax(logits[-1, 0].astype("float64") / temperature).numpy()
            ids = rng.choice(len(p), size=1, p=p)
            text += run.vocabulary.decode(ids)
    return text


def draw_curve(run: Run, path: str) -> None:
    """The loss against the updates, as a picture."""
    from matplotlib.figure import Figure

    update, nats, valid = np.array(run.curve).T
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(update, nats, label="training (mean since the last point)")
    axes.plot(update, valid, label=f"validation (first {GLANCE:,} characters)")
    axes.set(xlabel="update", ylabel="nats per character", title=f"char_lm on {run.data}")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def result(run: Run, losses: dict[str, float]) -> dict[str, Any]:
    """What a table of results needs to know of a run."""
    versions = {"python": platform.python_version(), "numpy": np.__version__}
    return {
        "command": f"python -m zoo.char_lm --data {run.data}",
        "recipe": asdict(run.recipe),
        "text": {"name": run.data, "sha256": run.digest, "vocabulary": len(run.vocabulary)},
        "nats per character": losses,
        "minutes of training": run.seconds / 60,
        "characters per second": run.update * run.recipe.batch * run.recipe.length / run.seconds,
        "versions": versions | {"tinygrad_rnn": tg.__version__},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


# Command line


def at_least(least: float, kind: type = int) -> Any:
    def number(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not least <= value < math.inf:
            raise argparse.ArgumentTypeError(
                f"expected a {'whole ' * (kind is int)}number of at least {least}, got {text}"
            )
        return value

    return number


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m zoo.char_lm", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--data", default="stdlib", help="stdlib, tiny-shakespeare, or a text file's path")
    add(
        "--out",
        type=Path,
        help="folder for checkpoint and result (default: runs/char_lm-DATA, then -2 ...)",
    )
    add("--resume", action="store_true", help="go on from the checkpoint in --out")
    add("--sample", type=at_least(1), metavar="N", help="write N characters from the checkpoint")
    add("--temperature", type=at_least(1e-3, float), default=0.7, help="of --sample (default: 0.7)")
    add("--prompt", default="\n", help="what --sample goes on from (default: a new line)")
    add("--curve", metavar="PNG", help="draw the loss against the updates")
    recipe = parser.add_argument_group("recipe", "by default what suits the data")
    for f in fields(Recipe):
        whole = f.type == "int"
        least = 0 if f.name == "seed" else 1 if whole else 1e-9
        recipe.add_argument(f"--{f.name}", type=at_least(least, int if whole else float))
    return parser.parse_args(argv)


def place(options: argparse.Namespace) -> Path:
    """Where the checkpoint is, or will be: never where another run's stands."""
    name = "checkpoint.safetensors"
    if options.out:
        if (options.out / name).exists() and not (options.resume or options.sample):
            raise ValueError(
                f"--out: expected a folder without a checkpoint, got {options.out}; "
                "pass --resume to go on with it, or name another folder"
            )
        return Path(options.out / name)
    first = Path("runs") / f"char_lm-{Path(options.data).stem}"
    numbered = (first.with_name(f"{first.name}-{k}") for k in itertools.count(2))
    folder = first
    for following in numbered:
        if not (folder / name).exists():
            break
        newest, folder = folder, following
    resumes = (options.resume or options.sample) and folder != first
    return (newest if resumes else folder) / name


def prepare(options: argparse.Namespace, path: Path, text: datasets.Text) -> Run:
    """A new run, or the one in the checkpoint, told in one line."""
    asked = {f.name: v for f in fields(Recipe) if (v := getattr(options, f.name)) is not None}
    digest = hashlib.sha256(text.text.encode("utf-8", "surrogatepass")).hexdigest()
    if not options.resume:
        recipe = replace(RECIPES.get(text.name, Recipe()), **asked)
        return new_run(recipe, text.name, digest, datasets.Vocabulary(text.text))
    run = restore(path)
    if run.digest != digest:
        raise ValueError(
            f"--resume: expected the text that {path} was trained on ({run.data}), got another "
            f"under the name {text.name}; give the same --data, or start anew with another --out"
        )
    for name, value in asked.items():
        if getattr(run.recipe, name) != value:
            raise ValueError(
                f"--resume: expected --{name} {getattr(run.recipe, name)} as in {path}, "
                f"got {value}; drop --{name}, or start anew with another --out"
            )
    return run


def run_training(options: argparse.Namespace, path: Path) -> dict[str, Any]:
    text = datasets.load_text(options.data)
    train_text, valid_text = datasets.split(text.text)
    run = prepare(options, path, text)
    train_ids, valid_ids = (run.vocabulary.encode(t) for t in (train_text, valid_text))
    size = len(run.vocabulary)
    print(
        f"text: {text.source}; {len(train_ids):,} + {len(valid_ids):,} characters, {size} distinct"
    )
    print("recipe:", " ".join(f"--{n} {v}" for n, v in asdict(run.recipe).items()))
    with Interrupt() as interrupt:
        try:
            train(run, train_ids, valid_ids, path, interrupt)
            save(run, path)
            losses = {
                "unigrams": datasets.unigram_loss(train_ids, valid_ids, size),
                "bigrams": datasets.bigram_loss(train_ids, valid_ids, size),
                "validation": evaluate(run.model, valid_ids, interrupt),
            }
        except Stopped:
            save(run, path)
            print(f"stopped after update {run.update}; --resume goes on from {path}")
            raise SystemExit(interrupt.exit_code) from None
    found = result(run, losses)
    path.with_name("result.json").write_text(json.dumps(found, indent=1) + "\n")
    if options.curve:
        draw_curve(run, options.curve)
    print(sample(run, 600, options.temperature, options.prompt, run.recipe.seed))
    print(f"\ncheckpoint {path}; {run.seconds / 60:.1f} minutes of training")
    for name in ("unigrams", "bigrams"):
        print(f"{name:10} {losses[name]:.4f} nats/char")
    print(f"validation {losses['validation']:.4f} nats/char")
    return found


def main(argv: Sequence[str] | None = None) -> Any:
    options = parse(argv)
    try:
        path = place(options)
        if options.sample:
            run = restore(path)
            text = sample(run, options.sample, options.temperature, options.prompt, run.recipe.seed)
            print(text)
            return text
        return run_training(options, path)
    except (ValueError, OSError, ImportError) as error:
        print(f"char_lm: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
