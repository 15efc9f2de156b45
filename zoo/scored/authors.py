"""Who wrote it? One language model for each author, and the one that is least surprised.

    author = argmax_a P_a(chunk),  P_a a model of what a has written, all with the same vocabulary

The authors are modules or packages of Python's standard library, which everybody has, or texts.

Peng, Schuurmans, Keselj & Wang (2003), Language independent authorship attribution using character
level language models.
"""

from __future__ import annotations

import math
import re
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tinygrad_rnn import nn
from zoo import word_lm
from zoo.models.counts import count
from zoo.models.language_models import EOS, word_ids
from zoo.models.ngrams import kneser_ney
from zoo.models.predictors import Carrying, Counting, Predictor
from zoo.models.word_runs import Recipe, Run
from zoo.scored.retrieval import passages
from zoo.scored.scoring import Sums, Task
from zoo.texts.corpora import cut
from zoo.texts.datasets import STDLIB_WITHOUT, DataError, load_text
from zoo.texts.tokens import Tokens, streams

DEFAULT = ("argparse", "doctest", "email", "logging", "tarfile")
ORDERS = {"unigrams": 1, "3-grams": 3}
RECIPE = Recipe(hidden=64, embedding=64, epochs=8, batch=8, dropout=(0.2,), lr=8e-3)
NETWORK = f"{RECIPE.cell}, {RECIPE.hidden} units"

Part = tuple[str, str]  # what a model learns from, what is held out


def text_of(author: str) -> str:
    """A module or package of the standard library, words and signs set apart, or a text."""
    place = Path(sysconfig.get_path("stdlib"), author)
    if not author.isidentifier() or not (place.is_dir() or place.with_suffix(".py").is_file()):
        return load_text(author, ["a module of the standard library"]).text
    files = [p for p in (place.with_suffix(".py"), *sorted(place.rglob("*.py"))) if p.is_file()]
    inside = (p for p in files if not any(map(STDLIB_WITHOUT.fullmatch, p.parts[-2:])))
    lines = "".join(p.read_text("utf-8", "ignore") for p in inside).split("\n")
    words = (re.findall(r"\w+|[^\w\s]+", line) for line in lines)
    return "".join(f"{' '.join(line)}\n" for line in words if line)


def parts_of(authors: Sequence[str]) -> dict[str, Part]:
    """The first 90 % and the rest of what each has written, as much of all as of the shortest."""
    texts = {author: text_of(author).split("\n") for author in authors}
    if len(texts) < max(2, len(authors)):
        got = " ".join(authors)
        raise DataError(f"--authors: expected two or more, each once, got {got}; name others")
    shortest = min(sum(len(line.split()) for line in lines) for lines in texts.values())
    if shortest < 2:
        raise DataError("--authors: expected texts of two words or more; choose longer ones")
    return {author: cut("\n".join(first(lines, shortest))) for author, lines in texts.items()}


def first(lines: Sequence[str], words: int) -> Iterator[str]:
    """The first lines, until they have so many words."""
    for line in lines:
        if words <= 0:
            return
        words -= len(line.split())
        yield line


# The models


def counted(text: str, tokens: Tokens, n: int) -> Predictor:
    """Kneser-Ney n-grams of a text."""
    return Counting(kneser_ney(count(tokens.encode(text), len(tokens), n)), tokens)


def network(text: str, tokens: Tokens, seed: int, tick: Callable[[], object]) -> Predictor:
    """A small recurrent network that has read a text `RECIPE.epochs` times."""
    run = Run(replace(RECIPE, seed=seed), "", "", "")
    run.begin(tokens)
    inputs, targets = streams(word_ids(tokens.encode(text)), RECIPE.batch)
    updates = RECIPE.epochs * math.ceil(len(inputs) / RECIPE.length)
    for _ in range(RECIPE.epochs):
        pieces = nn.TBPTT(inputs, targets, RECIPE.length)
        for x, y, state in pieces:
            pieces.state = word_lm.train_step(run, x, y, state, updates)
        tick()
    return Carrying(run.model.eval().predict, tokens, EOS)


def models(
    parts: Mapping[str, Part], seed: int, tick: Callable[[], object]
) -> dict[str, list[Predictor]]:
    """Of each kind a model for each author; `tick` is called after every epoch."""
    texts = [text for text, _ in parts.values()]
    tokens = Tokens.words("\n".join(texts), least=2)
    found = {kind: [counted(text, tokens, n) for text in texts] for kind, n in ORDERS.items()}
    return found | {NETWORK: [network(text, tokens, seed, tick) for text in texts]}


def authorship(parts: Mapping[str, Part], length: int) -> Task:
    """How often the author of `length` held-out words is the one whose model gives them most."""
    held = enumerate(passages(text.split("\n"), length) for _, text in parts.values())
    cases = [("\n".join(chunk), k) for k, chunks in held for chunk in chunks]

    def judge(models: Sequence[Predictor]) -> Callable[[tuple[str, int]], Sums]:
        def judged(case: tuple[str, int]) -> Sums:
            costs = [model.losses(model.tokens.encode(case[0])).sum() for model in models]
            return [(int(np.argmin(costs)) == case[1], 1)]

        return judged

    return Task(("author found",), cases, judge)
