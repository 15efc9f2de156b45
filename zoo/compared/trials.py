"""The models of a comparison: one text, one number of parameters, one way to train and to judge.

    parameters(H) ≤ the budget < parameters(H + 1)
    bits per character = -Σ_t log₂ p(x_t | ...) / characters of the text

The text is the same whatever the unit: words that are rarer than they must be are <unk> in it, and
a model of characters reads that spelled out. So a model of words and one of characters predict
the same string, and their bits per character can be compared.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from tinygrad_rnn import nn
from zoo import word_lm
from zoo.models import ngrams, word_runs
from zoo.models.counts import count
from zoo.models.language_models import WordLM, word_ids
from zoo.models.word_runs import Run
from zoo.running import evaluation
from zoo.running.interrupt import Interrupt
from zoo.running.runs import CHECKPOINT
from zoo.running.training import parts_of
from zoo.texts.corpora import load_parts
from zoo.texts.datasets import Ids
from zoo.texts.tokens import Tokens, streams

ORDER = 5  # n of the n-grams
CELLS = {n: n for n in ("window", "rnn", "gru", "lstm")} | {"rhn": "recurrent_highway"}
COUNTING = f"{ORDER}-gram"
MODELS = (COUNTING, *CELLS)
GLANCE = 20_000  # tokens of the validation part by which the best epoch is known
TIMED = 100  # updates of which the quickest tells how fast a network is

Row = dict[str, Any]
Job = tuple[str, int | None, float | None]  # model, seed, rate: None is the best


@dataclass(frozen=True)
class Recipe:
    """What decides the result, with the text."""

    unit: Annotated[str, "what a token is"] = "word"
    models: Annotated[tuple[str, ...], "what is compared"] = MODELS
    parameters: Annotated[int, "of each network, at most"] = 300_000
    seeds: Annotated[int, "how often each network is trained"] = 3
    embedding: Annotated[int, "features of a token, E"] = 64
    epochs: Annotated[int, "times that the text is read"] = 6
    minutes: Annotated[float, "or as often as each network can in so many minutes"] = 0.0
    batch: Annotated[int, "streams read side by side, B"] = 20
    length: Annotated[int, "tokens of each stream in an update, T"] = 20
    lr: Annotated[
        tuple[float, ...],
        "learning rates at their highest; the first seed\ntries all, and the best is kept",
    ] = (2e-3, 8e-3)
    clip: Annotated[float, "largest norm of the gradient"] = 1.0
    dropout: Annotated[float, "share of features that is dropped, of e and of h"] = 0.4
    vocabulary: Annotated[int, "words at most, the most frequent"] = 10**6
    least: Annotated[int, "times that a word must occur"] = 2
    seed: Annotated[int, "the first of the seeds"] = 0

    def jobs(self) -> list[Job]:
        """Counting; each network with the first seed at every rate, then with each other seed."""
        networks = [name for name in self.models if name != COUNTING]
        jobs: list[Job] = [(COUNTING, None, None)] * (COUNTING in self.models)
        jobs += [(name, self.seed, rate) for name in networks for rate in self.lr]
        others = range(self.seed + 1, self.seed + self.seeds)
        return jobs + [(name, seed, None) for seed in others for name in networks]

    def of(self, name: str, hidden: int, **fields: Any) -> word_runs.Recipe:
        """One network's recipe."""
        same = ("embedding", "batch", "length", "clip", "vocabulary", "least")
        fields = {field: getattr(self, field) for field in same} | fields
        return word_runs.Recipe(CELLS[name], hidden=hidden, dropout=(self.dropout,), **fields)


# The text


@dataclass(frozen=True)
class Study:
    """A text in numbers."""

    recipe: Recipe
    name: str
    digest: str
    source: str
    tokens: Tokens
    ids: dict[str, Ids]  # of each part, <s> among them
    characters: dict[str, int]

    @property
    def networks_ids(self) -> dict[str, Ids]:
        """The same for networks: what `word_ids` makes of it."""
        return {part: word_ids(ids) for part, ids in self.ids.items()}

    @property
    def updates(self) -> int:
        """In an epoch."""
        steps = math.ceil(int(self.text["tokens"]["train"]) / self.recipe.batch)
        return math.ceil(steps / self.recipe.length)

    @property
    def text(self) -> Row:
        sizes = {part: int((ids > 0).sum()) for part, ids in self.ids.items()}
        found = {"name": Path(self.name).name, "sha256": self.digest, "tokens": sizes}
        return found | {"characters": self.characters, "vocabulary": len(self.tokens) - 1}


def study(data: str, recipe: Recipe) -> Study:
    """The text of that name, its words or the characters of these words."""
    text = load_parts(data)
    tokens = Tokens.words(text.train, recipe.vocabulary, recipe.least)
    parts = {part: tokens.decode(tokens.encode(words)) for part, words in text.parts.items()}
    if recipe.unit == "character":
        tokens = Tokens.characters("".join(parts.values()))
    ids = {part: tokens.encode(words) for part, words in parts.items()}
    sizes = {part: len(words) for part, words in parts.items()}
    return Study(recipe, text.name, text.digest, text.source, tokens, ids, sizes)


# The size


def size(study: Study, name: str, hidden: int) -> int:
    """Parameters of a network."""
    return WordLM(
        len(study.tokens) - 1, study.recipe.of(name, hidden), np.random.default_rng(0)
    ).size


def fitted(study: Study, name: str) -> int:
    """The most units with which a network keeps to the budget."""
    budget, least = study.recipe.parameters, size(study, name, 1)
    if least > budget:
        raise ValueError(
            f"--parameters: expected {least:,} or more, which {name} takes with one unit for "
            f"{len(study.tokens) - 1:,} tokens of --embedding {study.recipe.embedding}, got "
            f"{budget:,}; raise it, or lower --embedding"
        )
    low, high = 1, 2
    while size(study, name, high) <= budget:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(study, name, middle) <= budget else (low, middle)
    return low


# The models


def judged(study: Study, losses: dict[str, np.ndarray]) -> Row:
    """What the losses (N,) of each part say, in nats, perplexities and bits per character."""
    found: Row = {}
    for part, each in losses.items():
        total = float(each.sum(dtype=np.float64))
        bits = total / math.log(2) / study.characters[part]
        nats = total / len(each)
        found[part] = {"nats": nats, "perplexity": math.exp(nats), "bits per character": bits}
    return found


def counted(study: Study) -> Row:
    """The row of the n-grams, by Kneser-Ney."""
    start = time.process_time()
    model = ngrams.kneser_ney(count(study.ids["train"], len(study.tokens), ORDER))
    seconds = max(time.process_time() - start, 1e-9)
    held = {part: model.losses(ids) for part, ids in list(study.ids.items())[1:]}
    numbers = sum(level.shares.size + level.rests.size for level in model.levels)
    row: Row = {"model": COUNTING, "seed": None, "hidden": None, "parameters": numbers}
    row |= {"lr": None, "bytes": model.bytes, "seconds": seconds, "epochs": 1, "curve": []}
    return row | spent(study, seconds) | judged(study, held)


def pace(study: Study, fields: word_runs.Recipe) -> tuple[float, float]:
    """Seconds of an update, and those that processors spend on it: the least of the first ones."""
    recipe, times, run = study.recipe, list[tuple[float, float]](), begun(study, fields)
    inputs, targets = streams(study.networks_ids["train"], recipe.batch)
    pieces, whole = nn.TBPTT(inputs, targets, recipe.length), max(1, len(inputs) // recipe.length)
    for x, y, state in islice(pieces, min(whole, TIMED)):
        before, start = run.seconds, time.process_time()
        pieces.state = word_lm.train_step(run, x, y, state, 1)
        times.append((run.seconds - before, time.process_time() - start))
    seconds, spent = (min(column) for column in zip(*times, strict=True))
    return seconds, max(spent, 1e-9)


def begun(study: Study, recipe: word_runs.Recipe, command: str = "") -> Run:
    run = Run(recipe, command, study.name, study.digest)
    run.begin(study.tokens)
    return run


def network(study: Study, name: str, seed: int, rate: float, command: str, place: Path) -> Run:
    """The run that `place` has, to be gone on with, or a new one there."""
    if (place / CHECKPOINT).exists():
        return word_runs.restore(place)
    whole = study.recipe
    recipe = whole.of(name, fitted(study, name), seed=seed, lr=rate, epochs=whole.epochs)
    if whole.minutes:
        each = pace(study, recipe)[0] * study.updates
        recipe = replace(recipe, epochs=max(1, int(60 * whole.minutes / each)))
    run = begun(study, recipe, command)
    place.mkdir(parents=True, exist_ok=True)
    word_runs.save(run, place)
    return run


def trained(study: Study, name: str, run: Run, place: Path, interrupt: Interrupt) -> Row:
    """The row of a network that is trained to its end."""
    parts = study.networks_ids
    glance = {"train": parts["train"], "validation": parts["validation"][:GLANCE]}
    word_lm.train(run, glance, place, interrupt)
    word_runs.save(run, place)
    model, recipe = word_runs.best_model(run), run.recipe
    held = {part: evaluation.losses(model, ids, interrupt) for part, ids in list(parts.items())[1:]}
    row: Row = {"model": name, "seed": recipe.seed, "hidden": recipe.hidden}
    row |= {"lr": recipe.lr, "parameters": model.size}
    row |= {"bytes": sum(p.numpy().nbytes for p in model.parameters())}
    row |= {"state bytes": state_bytes(model, parts["validation"]), "seconds": run.seconds}
    row |= {"epochs": recipe.epochs, "updates": run.update, "curve": run.curve}
    return row | spent(study, study.updates * pace(study, recipe)[1]) | judged(study, held)


def spent(study: Study, seconds: float) -> Row:
    """How fast the text is read once in so many seconds of the processors' time."""
    rate = study.text["tokens"]["train"] / seconds
    return {"CPU seconds per epoch": seconds, "tokens per CPU second": rate}


def best_rate(rows: Sequence[Row], name: str) -> float | None:
    """The rate with which a network's first seed came to the lowest validation loss; a row without
    one has diverged."""
    mine = [row for row in rows if row["model"] == name and "validation" in row]
    first = [row for row in mine if row["seed"] == mine[0]["seed"]]
    found: float | None = min(first, key=lambda row: float(row["validation"]["nats"]))["lr"]
    return found


def last_hope(rows: Sequence[Row], name: str, rate: float, recipe: Recipe) -> bool:
    """Whether this is the last rate that is tried, and the network has diverged at all others."""
    learnt = any(row["model"] == name and "validation" in row for row in rows)
    return rate == recipe.lr[-1] and not learnt


def state_bytes(model: WordLM, ids: Ids) -> list[int]:
    """What is carried from a text's first token to the next, and from its last of 1,000."""
    states = (model(ids[:steps, None])[1] for steps in (1, 1000))
    return [sum(part.nbytes for part in parts_of(state)) for state in states]
