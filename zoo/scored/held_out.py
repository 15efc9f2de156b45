"""Trained models of one text, and the sentences of it that none of them has learnt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from zoo.models import trained
from zoo.models.predictors import Predictor
from zoo.scored.authors import counted
from zoo.scored.scoring import SPECIAL
from zoo.texts.tokens import Tokens

WORDS = range(4, 101)  # of the sentences that are tried


@dataclass(frozen=True)
class Study:
    """Models of one text, and what none of them has learnt."""

    name: str
    digest: str
    models: dict[str, Predictor]  # unigrams first
    lines: list[str]  # of the held-out part
    sentences: list[str]  # those of them that are tried

    @property
    def known(self) -> set[str]:
        """The words that all models know which know words."""
        words = (m.tokens.names for m in self.models.values() if m.tokens.unit == "word")
        return set.intersection(*map(set, words)) - SPECIAL


def study(folders: Sequence[Path], data: str | None) -> Study:
    """The models in these folders, beside unigrams of their text."""
    found = {folder: trained.load(folder, data) for folder in folders}
    texts = [trained.learnt(each, data) for each in found.values()]
    first = next(iter(found.values()))
    for folder, each in found.items():
        if each.digest != first.digest:
            raise ValueError(
                f"{folder}: expected a model of the same text as the first, {first.data}, got one "
                f"of {each.data} with another sha256; judge it by itself"
            )
    names = [each.about for each in found.values()]
    models = {
        each.about + f" ({folder.name})" * (names.count(each.about) > 1): each.model
        for folder, each in found.items()
    }
    tokens = [m.tokens for m in models.values() if m.tokens.unit == "word"]
    train = texts[0].train
    unigrams = counted(train, [*tokens, Tokens.words(train, least=2)][0], 1)
    held = min((list(text.parts.values())[-1] for text in texts), key=len)
    lines = [" ".join(line.split()) for line in held.split("\n")]
    lines = lines[len(tokens) < len(models) :]  # cut at a character, the first may have lost some
    seen = {" ".join(line.split()) for line in train.split("\n")}
    good = (s for s in dict.fromkeys(lines) if len(s.split()) in WORDS and s not in seen)
    sentences = [s for s in good if len(set(s.split())) > 1]
    return Study(first.data, first.digest, {"unigrams": unigrams} | models, lines, sentences)


def again(sentences: Sequence[str], count: int) -> list[str]:
    """So many sentences, from the first on again if they are too few.

    >>> again(["a", "b"], 3)
    ['a', 'b', 'a']
    """
    return list(islice(cycle(sentences), count))
