"""What models of language are asked and how they are judged: the order of words, and spelling.

A task asks `Predictor`s, of words or of characters, for P of sentences or of what comes next. A
sentence is words with one blank between them; it is judged by itself, with its end.
"""

from __future__ import annotations

import math
import re
import string
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo.models.ngrams import Floats
from zoo.models.predictors import Carrying, Predictor
from zoo.texts.datasets import Ids
from zoo.texts.tokens import EOS, START, UNKNOWN, Tokens

SPECIAL = {START, EOS, UNKNOWN}

Sums = Sequence[tuple[float, float]]  # of each figure what was reached in a case, of what could be


@dataclass(frozen=True)
class Task:
    """What models are asked, and how what they answer is judged.

    A figure of merit is what was reached in all cases over what could be.
    """

    figures: tuple[str, ...]
    cases: Sequence[Any]
    judge: Callable[[Any], Callable[[Any], Sums]]  # model -> case -> what is added to the figures


def figures(names: Sequence[str], sums: Sequence[Sums]) -> dict[str, list[float]]:
    """Each figure of merit over all cases, and its standard error.

    >>> figures(["hits"], [[(1, 1)], [(0, 1)], [(1, 1)], [(0, 1)]])
    {'hits': [0.5, 0.25]}
    """
    reached, possible = np.moveaxis(np.array(sums, float), 2, 0)  # (cases, figures)
    share = reached.sum(0) / possible.sum(0)
    error = np.sqrt(((reached - share * possible) ** 2).sum(0)) / possible.sum(0)
    return dict(zip(names, np.stack([share, error], 1).tolist(), strict=True))


# Sentences


def numbers(model: Predictor, sentence: str) -> tuple[Ids, int]:
    """A sentence with its end, and how many of its tokens stand before what is predicted.

    A sentence of characters begins after a new line, as in the text; a `Carrying` model reads one
    for the `<s>` that it is given.
    """
    tokens = model.tokens
    if tokens.unit == "word":
        return tokens.encode(sentence), 1
    before = "" if isinstance(model, Carrying) else "\n"
    return tokens.encode(f"{before}{sentence}\n"), 1 + len(before)


def losses(model: Predictor, sentence: str, state: Any = None) -> Floats:
    """(M,) -log P of each token of a sentence, its end among them, in nats."""
    ids, start = numbers(model, sentence)
    if state is None:
        return model.losses(ids)[start - 1 :]
    rows, _ = model.read(ids[:-1], state)
    found: Floats = -rows[np.arange(len(ids) - 1), ids[1:]][start - 1 :]
    return found


def loss(model: Predictor, sentence: str) -> float:
    """-log P of a sentence: to the last bit the same for the same losses in another order."""
    return math.fsum(losses(model, sentence))


def word_losses(model: Predictor, sentence: str, state: Any = None) -> Floats:
    """(M,) -log P of each word; of characters, with the blank or the line's end behind it."""
    found = losses(model, sentence, state)
    if model.tokens.unit == "word":
        return found[:-1]
    blanks = np.array([character == " " for character in f" {sentence}"])
    return np.bincount(np.cumsum(blanks) - 1, found).astype(np.float64)


def unknown(tokens: Tokens, sentence: str) -> list[str]:
    """What a model has no number for: words, which it reads as <unk>, or characters, which it
    cannot read."""
    known = set(tokens.names) - SPECIAL
    parts = sentence.split() if tokens.unit == "word" else sentence
    return [part for part in dict.fromkeys(parts) if part not in known]


# The order of words


def shuffled(sentence: str, rng: np.random.Generator) -> tuple[str, str, str]:
    """A sentence, not all of the same word; its words in another order; two neighbours swapped."""
    words, mixed = sentence.split(), sentence.split()
    while mixed == words:
        mixed = [words[k] for k in rng.permutation(len(words))]
    k = rng.choice([k for k in range(len(words) - 1) if words[k] != words[k + 1]])
    swapped = [*words[:k], words[k + 1], words[k], *words[k + 2 :]]
    return sentence, " ".join(mixed), " ".join(swapped)


def order(cases: Sequence[tuple[str, str, str]]) -> Task:
    """Whether the true order of words is likelier than others; a tie is half a success."""

    def judge(model: Predictor) -> Callable[[tuple[str, str, str]], Sums]:
        def judged(case: tuple[str, str, str]) -> Sums:
            true, *others = (loss(model, sentence) for sentence in case)
            return [(0.5 * (true < other) + 0.5 * (true <= other), 1) for other in others]

        return judged

    return Task(("true before random order", "true before swapped words"), cases, judge)


# Spelling


def edits(word: str) -> set[str]:
    """What one slip makes of a word: a letter left out, put in or replaced, or two swapped.

    >>> len(edits("cat")), "act" in edits("cat"), "cat" in edits("cat")
    (181, True, False)
    """
    halves = [(word[:k], word[k:]) for k in range(len(word) + 1)]
    found = {a + b[1:] for a, b in halves} | {a + b[1::-1] + b[2:] for a, b in halves}
    for letter in string.ascii_lowercase:
        found |= {a + letter + b[skip:] for a, b in halves for skip in (0, 1)}
    return found - {word, ""}


def lower(words: Collection[str]) -> set[str]:
    """The words of letters from a to z, which may be misspelt."""
    return {word for word in words if re.fullmatch("[a-z]+", word)}


def misspelt(sentence: str, lexicon: set[str], rng: np.random.Generator) -> tuple[str, str]:
    """A sentence, and the same after one slip in one of its words of the lexicon."""
    words = sentence.split()
    k = rng.choice([k for k, word in enumerate(words) if word in lexicon])
    slip = str(rng.choice(sorted(edits(words[k]))))
    return sentence, " ".join([*words[:k], slip, *words[k + 1 :]])


def corrections(
    observed: str, known: Collection[str], lexicon: set[str]
) -> Iterator[tuple[str, float]]:
    """The sentences that one slip may have made this one of, and the log P of the slip.

    A word that is not known is the misspelt one; if all are known, each may be.
    """
    words = observed.split()
    strange = [k for k, word in enumerate(words) if word not in known]
    for k in strange or range(len(words)):
        for word in sorted(edits(words[k]) & lexicon):
            if words[k] in (slips := edits(word)):  # no slip makes a sign of a word
                yield " ".join([*words[:k], word, *words[k + 1 :]]), -math.log(len(slips))


def corrected(model: Predictor, observed: str, known: Collection[str], lexicon: set[str]) -> str:
    """The sentence with the highest P(sentence) P(observed | sentence); the observed one if no
    slip leads to it."""
    found = {s: slip - loss(model, s) for s, slip in corrections(observed, known, lexicon)}
    return max(found, key=found.__getitem__, default=observed)


def spelling(cases: Sequence[tuple[str, str]], known: Collection[str]) -> Task:
    """How often the sentence that was meant is found."""
    lexicon = lower(known)

    def judge(model: Predictor) -> Callable[[tuple[str, str]], Sums]:
        return lambda case: [(corrected(model, case[1], known, lexicon) == case[0], 1)]

    return Task(("corrected",), cases, judge)
