"""Neural language model of a fixed window: the next token from the m tokens before it.

    python -m zoo.fixed_window_lm                          # words, on Python's own help topics
    python -m zoo.fixed_window_lm --data ptb --windows 4   # a named set; any other text by path
    python -m zoo.fixed_window_lm --resume                 # go on where Ctrl-C stopped it
    python -m zoo.fixed_window_lm --sample 100             # write, with the last window's model

    e = [E[x_{t-m}]; ...; E[x_{t-1}]];  h = tanh(W e + b_1);  ŷ_t = softmax(U h + b_2 [+ D e])
    J = (1/T) Σ_t -log ŷ_t[x_t];  perplexity = exp J

No counts are stored and none is missing: what is alike in E is predicted alike. But W grows with
the window, each place in the window has weights of its own, and what lies before it is lost. One
model for each of --windows; with --direct the embeddings are connected to the output too (D).
Adam, clipped gradients, a learning rate that falls along a cosine, dropout on h.

Tokens, sentences and parts of the text are those of zoo.ngram_lm: the window does not reach beyond
<s>, every word and <eos> counts. Beside each model stands the Kneser-Ney model of the same context.

Expect the perplexity on the help topics to fall from 127 with m = 1 to 98 with 2, and to 94 with 5;
words by their frequency alone get 327. With so little text the Kneser-Ney models stay ahead.

Bengio, Ducharme, Vincent & Janvin (2003), A Neural Probabilistic Language Model, §2.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import nn, optim, saving
from zoo.models import ngrams
from zoo.models.counts import count
from zoo.models.predictors import Windowed, opening, written
from zoo.models.window_lm import WindowLM, windows
from zoo.running import training
from zoo.running.arguments import between, training_parser, typed
from zoo.running.interrupt import Interrupt
from zoo.running.recipes import add_options, given, once, refuse_change, shown
from zoo.running.runs import (
    CHECKPOINT,
    Stopped,
    ending_well,
    log,
    plain,
    reading,
    refuse_divergence,
    write_result,
)
from zoo.texts.corpora import ABOUT_DATA, load_parts
from zoo.texts.datasets import Ids
from zoo.texts.tokens import UNITS, Tokens

NAME = "fixed_window_lm"
GLANCE = 10_000  # tokens of the validation part that the curve looks at


@dataclass(frozen=True)
class Recipe:
    """What decides the result, with the text."""

    unit: Annotated[str, "what a token is"] = "word"
    windows: Annotated[tuple[int, ...], "tokens that are seen, m, a model each"] = (1, 2, 3, 4, 5)
    embedding: Annotated[int, "features of a token, E"] = 64
    hidden: Annotated[int, "units, H"] = 128
    direct: Annotated[bool, "connect the embeddings to the output too"] = False
    batch: Annotated[int, "examples in an update, B"] = 256
    epochs: Annotated[int, "times that the text is read"] = 4
    lr: Annotated[float, "learning rate at its highest"] = 4e-3
    clip: Annotated[float, "largest norm of the gradient"] = 1.0
    dropout: Annotated[float, "share of h that is dropped in training"] = 0.3
    vocabulary: Annotated[int, "words at most, the most frequent"] = 10**6
    least: Annotated[int, "times that a word must occur"] = 2
    seed: Annotated[int, "of the first weights, the order and what is drawn"] = 0


RECIPES = {
    "ptb": {"least": 1, "batch": 512, "epochs": 2, "lr": 3e-3, "dropout": 0.1}
}  # others: as above


# Training


@dataclass
class Run(training.Begun):
    """Everything that a resumed training needs: numbers and names here, arrays below."""

    recipe: Recipe
    results: list[dict[str, Any]] = field(default_factory=list)  # of the windows that are done
    update: int = 0  # of the present window
    read: int = 0  # tokens
    seconds: float = 0.0  # spent training

    def begin(self, tokens: Tokens) -> None:
        """A new model, of the next window."""
        self.tokens, recipe = tokens, self.recipe
        rng = np.random.default_rng((recipe.seed, self.window))
        sizes = recipe.embedding, recipe.hidden, recipe.direct
        self.model = WindowLM(len(tokens), self.window, *sizes, rng)
        self.optimizer = optim.Adam(self.model.parameters(), lr=recipe.lr)
        self.update, self.read, self.seconds = 0, 0, 0.0
        self.recent: list[float] = []  # losses since the last point of the curve
        if not self.results:
            self.curve: list[list[float]] = []  # window, update, nats/token, validation

    @property
    def done(self) -> bool:
        return len(self.results) == len(self.recipe.windows)

    @property
    def place(self) -> str:
        return f"update {self.update} of window {self.window}"

    @property
    def window(self) -> int:
        return self.recipe.windows[min(len(self.results), len(self.recipe.windows) - 1)]


def train_step(run: Run, seen: Ids, targets: Ids, updates: int) -> float:
    """One update on B examples; the mean loss before it, in nats."""
    start, recipe = time.monotonic(), run.recipe
    rng = np.random.default_rng((recipe.seed, run.window, run.update))
    loss = nn.cross_entropy(run.model(seen, recipe.dropout, rng), targets)
    run.model.zero_grad()
    loss.backward()
    norm = optim.clip_grad_norm_(run.model.parameters(), recipe.clip)
    refuse_divergence(step_of(run), "token", float(loss.item()), norm)
    run.optimizer.lr = training.learning_rate(recipe.lr, run.update, updates)
    run.optimizer.step()
    run.update += 1
    run.read += len(targets)
    run.seconds += time.monotonic() - start
    return float(loss.item())


def step_of(run: Run) -> str:
    return f"window {run.window}, update {run.update + 1}"


def evaluate(model: WindowLM, examples: tuple[Ids, Ids], interrupt: Interrupt) -> float:
    """Mean loss, in nats per token."""
    (seen, targets), total = examples, 0.0
    with tg.no_grad():
        for k in range(0, len(targets), 1024):
            if interrupt.requested:
                raise Stopped
            here = slice(k, k + 1024)
            total += nn.cross_entropy(model(seen[here]), targets[here], reduction="sum").item()
    return total / len(targets)


def order(recipe: Recipe, epoch: int, examples: int) -> Ids:
    """The examples as they are read in an epoch: the same for every window, and after a stop."""
    return np.random.default_rng((recipe.seed, epoch)).permutation(examples)


def train(run: Run, parts: dict[str, Ids], folder: Path, interrupt: Interrupt) -> None:
    """Update until the present window's model is done; look at it and save now and then."""
    recipe = run.recipe
    seen, targets = windows(parts["train"], run.window)
    asked, answers = windows(parts["validation"], run.window)
    glance = asked[:GLANCE], answers[:GLANCE]
    pieces = math.ceil(len(targets) / recipe.batch)  # updates in an epoch
    updates = recipe.epochs * pieces
    every, now = math.ceil(updates / 10), order(recipe, run.update // pieces, len(targets))
    print(f"window {run.window}", file=sys.stderr)
    for _ in training.updating(run, updates, "token", interrupt, lambda: save(run, folder)):
        if run.recent and (run.update % every == 0 or run.update == updates):
            point(run, evaluate(run.model, glance, interrupt), folder)
        if run.update < updates:
            epoch, piece = divmod(run.update, pieces)
            if piece == 0:
                now = order(recipe, epoch, len(targets))
            here = now[piece * recipe.batch : (piece + 1) * recipe.batch]
            run.recent.append(train_step(run, seen[here], targets[here], updates))


def point(run: Run, validation: float, folder: Path) -> None:
    """One more point of the curve."""
    refuse_divergence(step_of(run), "token", validation)
    nats = float(np.mean(run.recent))
    log(folder, window=run.window, update=run.update, training=nats, validation=validation)
    run.curve.append([run.window, run.update, nats, validation])
    run.recent.clear()


def sweep(run: Run, parts: dict[str, Ids], folder: Path, interrupt: Interrupt) -> None:
    """A model for every window that is not done yet."""
    tables = count(parts["train"], len(run.tokens), max(run.recipe.windows) + 1)
    while not run.done:
        train(run, parts, folder, interrupt)
        m = run.window
        found: dict[str, Any] = {"window": m, "parameters": run.model.size}
        counting = ngrams.kneser_ney(tables[: m + 1])
        for part in list(parts)[1:]:
            nats = evaluate(run.model, windows(parts[part], m), interrupt)
            found[part] = math.exp(nats)
            found[f"kneser-ney {part}"] = ngrams.perplexity(counting.losses(parts[part]))
        found |= {"training": math.exp(run.curve[-1][2]), "minutes": run.seconds / 60}
        run.results.append(found | {"tokens per second": run.read / run.seconds})
        log(folder, **run.results[-1])
        if not run.done:
            run.begin(run.tokens)
        save(run, folder)


# Checkpoints


def save(run: Run, folder: Path) -> None:
    arrays = training.arrays_of(run)
    arrays["tokens"] = np.frombuffer("\0".join(run.tokens.names).encode(), np.uint8)
    saving.save(folder / CHECKPOINT, arrays, plain({"script": NAME, **asdict(run)}))


def restore(folder: Path) -> Run:
    arrays, state = saving.load(folder / CHECKPOINT)

    with reading(folder / CHECKPOINT, NAME, state):
        del state["script"]
        recipe = Recipe(**state["recipe"] | {"windows": tuple(state["recipe"]["windows"])})
        run = Run(**state | {"recipe": recipe})
        run.begin(Tokens(recipe.unit, arrays["tokens"].tobytes().decode().split("\0")))
        run.update, run.read, run.seconds = (state[n] for n in ("update", "read", "seconds"))
        training.fill_arrays(run, arrays)
    return run


# Results


def sample(run: Run, length: int, temperature: float, prompt: Ids, seed: int) -> str:
    """The prompt, and `length` tokens more that the present window's model expects after it."""
    model = Windowed(run.model, run.tokens, run.window)
    return written(model, prompt, length, seed, temperature)


def draw_curve(run: Run, part: str, path: Path) -> None:
    """Perplexities against the updates and against the window, as a picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for m in run.recipe.windows:
        update, training, valid = np.array([line[1:] for line in run.curve if line[0] == m]).T
        (line,) = left.plot(update, np.exp(valid), ".-", label=f"m = {m}")
        left.plot(update, np.exp(training), ":", color=line.get_color())
    rows = sorted(run.results, key=lambda row: int(row["window"]))
    seen = [row["window"] for row in rows]
    right.plot(seen, [row[part] for row in rows], "o-", label="fixed window")
    right.plot(seen, [row[f"kneser-ney {part}"] for row in rows], "s--", label="Kneser-Ney")
    left.set(xlabel="update", ylabel="validation perplexity (dotted: training)", yscale="log")
    right.set(xlabel="tokens seen, m", ylabel=f"{part} perplexity")
    figure.suptitle(f"fixed_window_lm on {Path(run.data).name}")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)


def table(run: Run, parts: Sequence[str]) -> str:
    """A line for each window."""
    heads = ["training", *parts, *(f"kneser-ney {part}" for part in parts)]
    lines = [f"window  parameters{''.join(f'{head:>23}' for head in heads)}"]
    for row in run.results:
        cells = "".join(f"{row[head]:23.2f}" for head in heads)
        lines.append(f"{row['window']:6}{row['parameters']:12,}{cells}")
    return "\n".join([*lines, "perplexities; of Kneser-Ney models that see as many tokens"])


def report(run: Run, parts: dict[str, Ids], folder: Path) -> dict[str, Any]:
    """Writes down what a table of results needs to know of a run."""
    text: dict[str, Any] = {"name": Path(run.data).name, "sha256": run.digest}
    text["tokens"] = {part: int((ids > 0).sum()) for part, ids in parts.items()}
    return write_result(
        folder,
        command=run.command,
        recipe=asdict(run.recipe),
        text=text | {"vocabulary": len(run.tokens) - 1},
        perplexities=run.results,
        minutes=sum(row["minutes"] for row in run.results),
    )


# Command line


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = training_parser(NAME, __doc__, ABOUT_DATA, "tokens", 1.0)
    kinds = {"dropout": between(float, 0, 0.99), "windows": between(int, 1, 64)}
    add_options(parser, Recipe, RECIPES, kinds, {"unit": UNITS})
    options = parser.parse_args(argv)
    options.command = typed(f"zoo.{NAME}", argv)
    options.windows = options.windows and once(options.windows)
    options.recipe = given(options, Recipe())
    return options


def prepare(options: argparse.Namespace, folder: Path) -> tuple[Run, dict[str, Ids]]:
    """A new run, or the one in the checkpoint, and the text's parts in numbers."""
    run = restore(folder) if options.resume else None
    name = options.data or (run.data if run else "pydoc")
    recipe = run.recipe if run else Recipe(**RECIPES.get(name, {}) | options.recipe)
    text = load_parts(name, recipe.unit)
    if run is None:
        run = Run(recipe, options.command, text.name, text.digest)
        run.begin(Tokens.of(text, recipe.unit, recipe.vocabulary, recipe.least))
    same = "" if run.digest == text.digest else f"the same text as before in --data {run.data}"
    refuse_change(recipe, options.recipe, same, folder / CHECKPOINT)
    parts = {part: run.tokens.encode(words) for part, words in text.parts.items()}
    sizes = " + ".join(f"{int((ids > 0).sum()):,}" for ids in parts.values())
    print(f"text: {text.source}; {sizes} {recipe.unit}s, {len(run.tokens) - 1:,} to predict")
    print("recipe:", shown(recipe), flush=True)
    return run, parts


def run_training(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    run, parts = prepare(options, folder)
    prompt = opening(run.tokens, options.prompt)
    if not options.resume:
        folder = training.folder_of(options, NAME, "pydoc", make=True)
        save(run, folder)
    done = {"window": run.window, "update": run.update}
    log(folder, command=options.command, recipe=asdict(run.recipe), **done)
    with training.stopping(run, folder, lambda: save(run, folder)) as interrupt:
        sweep(run, parts, folder, interrupt)
    found = report(run, parts, folder)
    print(sample(run, 60, options.temperature, prompt, run.recipe.seed))
    print(f"\n{folder / CHECKPOINT}; {found['minutes']:.1f} minutes of training")
    print(table(run, list(parts)[1:]), flush=True)
    if options.curve:
        draw_curve(run, list(parts)[-1], options.curve)
    return found


def run_script(options: argparse.Namespace) -> Any:
    folder = training.folder_of(options, NAME, "pydoc")
    if not options.sample:
        return run_training(options, folder)
    run = restore(folder)
    seed = options.recipe.get("seed", run.recipe.seed)
    text = sample(
        run, options.sample, options.temperature, opening(run.tokens, options.prompt), seed
    )
    print(f"from {folder / CHECKPOINT}, window {run.window}", file=sys.stderr)
    print(text)
    return text


def main(argv: Sequence[str] | None = None) -> Any:
    options = parse(argv)
    return ending_well(NAME, lambda: run_script(options))


if __name__ == "__main__":
    main()
