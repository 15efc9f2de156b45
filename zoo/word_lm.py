"""Recurrent language model over words: the distribution of the next word, given all before it.

    python -m zoo.word_lm                              # on Python's own help topics
    python -m zoo.word_lm --data ptb --recipe best     # a named set; any other text by path
    python -m zoo.word_lm --resume                     # go on where Ctrl-C stopped it
    python -m zoo.word_lm --resume --cache 500         # judge a finished model in another way too
    python -m zoo.word_lm --sample 100                 # write from the checkpoint

    e_t = E[x_t];  h_t = cell(e_t, h_{t-1}), a layer over the other;  ŷ_t = softmax(U h_t + b)
    J = (1/T) Σ_t -log ŷ_t[x_{t+1}];  perplexity = exp J

Any length, and no weight for any position: what is learnt at one place is known at all. Trained by
truncated backpropagation through time: the text is cut into B streams, each update reads T words
of every stream, and the state is carried to the next update without its gradient. J is the mean;
with the sum over T steps, as some write it, the gradient is T times as large: a rate of 1 and a
norm of 5 there are a rate of 20 and a norm of 0.25 here, for T = 20.

Judged as in the literature: all words of a part are predicted once, in order, <eos> at each line
end and <unk> among them, with the state carried from the first to the last (evaluation.py).
Of the epochs the one with the lowest validation perplexity counts.

On the test part of ptb another program reached 115.9 with what --recipe small is; words by their
frequency alone get 639.3, Kneser-Ney 5-grams 141.2. docs/zoo/word_lm.md has what this one reaches.

Mikolov, Karafiát, Burget, Černocký & Khudanpur (2010), Recurrent neural network based language
model, §2; Zaremba, Sutskever & Vinyals (2014), Recurrent Neural Network Regularization, §4.1
(small, without dropout); Merity, Keskar & Socher (2018), Regularizing and Optimizing LSTM Language
Models, §4 (what best takes its dropout from).
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_rnn import nn, optim
from zoo.models import word_runs
from zoo.models.language_models import State, word_ids
from zoo.models.predictors import opening, written
from zoo.models.word_runs import NAME, Recipe, Run, best_model, predictor, restore, save
from zoo.running import evaluation, runs, training
from zoo.running.arguments import between, training_parser, typed
from zoo.running.curves import draw_losses
from zoo.running.interrupt import Interrupt
from zoo.running.recipes import add_options, given, refuse_change, shown
from zoo.running.runs import CHECKPOINT
from zoo.texts.corpora import ABOUT_DATA, load_parts
from zoo.texts.datasets import Ids
from zoo.texts.tokens import Tokens, streams

# Training


def learning_rate(run: Run, updates: int) -> float:
    """Of the next of all updates.

    cosine: rises over the first 50, then falls along a cosine to 2 %; step: times decay after each
    epoch from the last flat one on; plateau: times decay after an epoch that was not the best.
    """
    recipe = run.recipe
    if recipe.schedule == "cosine":
        return training.learning_rate(recipe.lr, run.update, updates)
    falls = {"step": max(0, run.epoch + 1 - recipe.flat), "plateau": run.worse}
    return recipe.lr * recipe.decay ** falls.get(recipe.schedule, 0)


def train_step(run: Run, inputs: Ids, targets: Ids, state: State, updates: int) -> State:
    """One update on (T, B) words; the state behind them."""
    start, model = time.monotonic(), run.model
    h, state = model(inputs, state)
    loss = model.loss(h, targets)
    model.zero_grad()
    loss.backward()
    norm = optim.clip_grad_norm_(model.parameters(), run.recipe.clip)
    nats = float(loss.item())
    runs.refuse_divergence(f"update {run.update + 1}", "word", nats, norm)
    run.optimizer.lr = learning_rate(run, updates)
    run.optimizer.step()
    run.update += 1
    run.read += int((targets >= 0).sum())
    run.recent.append(nats)
    run.seconds += time.monotonic() - start
    return nn.detached(state)


def train(run: Run, parts: dict[str, Ids], folder: Path, interrupt: Interrupt) -> None:
    """Read the text epoch by epoch, look at the validation part after each, save now and then."""
    recipe = run.recipe
    inputs, targets = streams(parts["train"], recipe.batch)
    updates = recipe.epochs * math.ceil(len(inputs) / recipe.length)
    pieces = nn.TBPTT(inputs, targets, recipe.length, run.state, run.position)
    reading = iter(pieces)
    for _ in training.updating(run, updates, "word", interrupt, lambda: save(run, folder)):
        if run.position == len(inputs):
            end_epoch(run, parts["validation"], folder, interrupt)
            pieces = nn.TBPTT(inputs, targets, recipe.length)
            reading = iter(pieces)
        if run.update < updates:
            x, y, state = next(reading)
            run.state = pieces.state = train_step(run, x, y, state, updates)
            run.position = pieces.position


def end_epoch(run: Run, ids: Ids, folder: Path, interrupt: Interrupt) -> None:
    """One more point of the curve; the next epoch begins with a state of zeros."""
    validation = float(evaluation.losses(run.model, ids, interrupt).mean())
    runs.refuse_divergence(f"update {run.update}", "word", validation)
    if validation < run.lowest:
        run.lowest, run.best = validation, run.model.state_dict()
    else:
        run.worse += 1
    nats = float(np.mean(run.recent))
    runs.log(folder, update=run.update, training=nats, validation=validation)
    run.curve.append([run.update, nats, validation])
    run.epoch, run.position, run.state = run.epoch + 1, 0, None
    run.recent.clear()


# Results


def report(run: Run, parts: dict[str, Ids], folder: Path, found: dict[str, float]) -> Any:
    """Writes down what a table of results needs to know of a run."""
    text: dict[str, Any] = {"name": Path(run.data).name, "sha256": run.digest}
    text["tokens"] = {part: len(ids) - 1 for part, ids in parts.items()}
    text["vocabulary"] = len(run.tokens) - 1
    text["unknown"] = {part: float((ids[1:] == 1).mean()) for part, ids in parts.items()}
    whole: dict[str, Any] = {"command": run.command, "recipe": asdict(run.recipe), "text": text}
    whole |= {"parameters": run.model.size, "perplexities": found, "updates": run.update}
    rate = run.read / max(run.seconds, 1e-9)
    return runs.write_result(folder, **whole, minutes=run.seconds / 60, words_per_second=rate)


# Command line


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = training_parser(NAME, __doc__, ABOUT_DATA, "words", 1.0)
    add, real = parser.add_argument, between(float, 1e-9, 1e9)
    own = "a set of options, see below (default: small for ptb)"
    add("--recipe", choices=word_runs.RECIPES, dest="named", help=own)
    about = "words of a cache with which the model is judged too"
    add("--cache", type=between(int, 1, 10**6), metavar="N", default=0, help=about)
    add("--dynamic", type=real, metavar="X", help="rate of learning while it is judged, too")
    share = between(float, 0, 0.99)
    kinds = {n: share for n in asdict(Recipe()) if "drop" in n or n == "zoneout"}
    add_options(parser, Recipe, word_runs.RECIPES, kinds, word_runs.CHOICES, "--recipe")
    options = parser.parse_args(argv)
    if len(options.dropout or [0]) not in (1, 3):
        parser.error(f"--dropout: expected one share or three, got {len(options.dropout)}")
    options.command = typed(f"zoo.{NAME}", argv)
    options.recipe = given(options, Recipe())
    if options.resume:
        options.recipe = word_runs.RECIPES.get(options.named, {}) | options.recipe
    return options


def prepare(options: argparse.Namespace, folder: Path) -> tuple[Run, dict[str, Ids]]:
    """A new run, or the one in the checkpoint, and the text's parts in numbers."""
    run = restore(folder) if options.resume else None
    name = options.data or (run.data if run else "pydoc")
    text = load_parts(name)
    if run is None:
        recipe = word_runs.chosen(options.named, name, options.recipe)
        run = Run(recipe, options.command, text.name, text.digest)
        run.begin(Tokens.words(text.train, recipe.vocabulary, recipe.least))
    same = "" if run.digest == text.digest else f"the same text as before in --data {run.data}"
    refuse_change(run.recipe, options.recipe, same, folder / CHECKPOINT)
    parts = {part: word_ids(run.tokens.encode(words)) for part, words in text.parts.items()}
    sizes = " + ".join(f"{len(ids) - 1:,}" for ids in parts.values())
    print(f"text: {text.source}; {sizes} words, {len(run.tokens) - 1:,} to predict")
    print("recipe:", shown(run.recipe), flush=True)
    return run, parts


def run_training(options: argparse.Namespace, folder: Path) -> Any:
    run, parts = prepare(options, folder)
    prompt = opening(run.tokens, options.prompt)
    if not options.resume:
        folder = training.folder_of(options, NAME, "pydoc", make=True)
        save(run, folder)
    runs.log(folder, command=options.command, recipe=asdict(run.recipe), update=run.update)
    rates = (options.dynamic, run.recipe.clip) if options.dynamic else ()
    with training.stopping(run, folder, lambda: save(run, folder)) as interrupt:
        train(run, parts, folder, interrupt)
        save(run, folder)
        found = {"training": math.exp(run.curve[-1][1])}
        found |= evaluation.judged(best_model(run), parts, interrupt, options.cache, *rates)
    result = report(run, parts, folder, found)
    print(written(predictor(run), prompt, 60, run.recipe.seed, options.temperature))
    minutes = f"{result['minutes']:.1f} minutes of training"
    print(f"\n{folder / CHECKPOINT}; {run.model.size:,} parameters, {minutes}")
    for name, value in found.items():
        print(f"{name:20}{value:10.2f}", flush=True)
    if options.curve:
        title = f"{NAME} on {Path(run.data).name}: perplexity {found['validation']:.2f}"
        draw_losses(run.curve, {}, title, "word", options.curve)
    return result


def run_script(options: argparse.Namespace) -> Any:
    folder = training.folder_of(options, NAME, "pydoc")
    if not options.sample:
        return run_training(options, folder)
    run = restore(folder)
    seed, prompt = options.recipe.get("seed", run.recipe.seed), opening(run.tokens, options.prompt)
    text = written(predictor(run), prompt, options.sample, seed, options.temperature)
    print(f"from {folder / CHECKPOINT}, epoch {run.epoch} of {run.recipe.epochs}", file=sys.stderr)
    print(text)
    return text


def main(argv: Sequence[str] | None = None) -> Any:
    options = parse(argv)
    return runs.ending_well(NAME, lambda: run_script(options))


if __name__ == "__main__":
    main()
