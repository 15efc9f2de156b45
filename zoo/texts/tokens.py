"""Words or characters as numbers, with a start before each sentence."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from zoo.texts.corpora import Parts
from zoo.texts.datasets import DataError, Ids, Vocabulary

START, EOS, UNKNOWN = "<s>", "<eos>", "<unk>"
UNITS = ("word", "character")


class Tokens:
    """What a model can predict, and `<s>`, which it cannot: that is number 0.

    Words are parted by white space and sentences by line ends. Before each sentence stands `<s>`
    and after it `<eos>`, number 1; words without a number are `<unk>`, number 2. Characters are one
    long sentence: one `<s>` before the first, nothing after the last, line ends as they come.

    Args:
        unit: "word" or "character".
        names: every token, `<s>` first.

    >>> tokens = Tokens.words("the cat sat\\nthe dog\\n", least=2)
    >>> tokens.names
    ['<s>', '<eos>', '<unk>', 'the']
    >>> tokens.encode("the cat\\n")
    array([0, 3, 2, 1])
    >>> Tokens.characters("abba").encode("ab")
    array([0, 1, 2])
    """

    def __init__(self, unit: str, names: Sequence[str]) -> None:
        self.unit, self.names = unit, list(names)
        if unit == "character":
            self._characters = Vocabulary("".join(names[1:]))
        else:
            self._numbers = {n: k for k, n in enumerate(self.names) if n not in (START, EOS)}

    @classmethod
    def words(cls, text: str, limit: int | None = None, least: int = 1) -> Tokens:
        """The words that a text has at least `least` times, of those the `limit` most frequent.

        The two ends of a sentence and `<unk>` are always there and do not count. Words of equal
        frequency come in the order of their code points.
        """
        counts = Counter(text.split())
        if not counts:
            raise DataError("Tokens.words: expected a text with words, got none; choose another")
        for special in (START, EOS, UNKNOWN):
            counts.pop(special, None)
        known = [word for word, count in counts.items() if count >= least]
        known.sort(key=lambda word: (-counts[word], word))
        return cls("word", [START, EOS, UNKNOWN, *known[:limit]])

    @classmethod
    def characters(cls, text: str) -> Tokens:
        """The distinct characters of a text, in the order of their code points."""
        return cls("character", [START, *Vocabulary(text).characters])

    @classmethod
    def of(cls, text: Parts, unit: str, limit: int, least: int) -> Tokens:
        """The words of the part that is learnt from, or the characters of all parts."""
        if unit == "character":
            return cls.characters("".join(text.parts.values()))
        return cls.words(text.train, limit, least)

    def __len__(self) -> int:
        return len(self.names)

    def encode(self, text: str) -> Ids:
        """(N,) numbers, with `<s>` before each sentence; lines without words are passed over."""
        if self.unit == "character":
            return np.concatenate([[0], self._characters.encode(text) + 1])
        numbers, ids = self._numbers, []
        for line in text.split("\n"):
            if words := line.split():
                ids.append(0)
                ids.extend([numbers.get(word, 2) for word in words])
                ids.append(1)
        return np.array(ids, np.int64)

    def beginning(self, text: str) -> Ids | None:
        """The numbers of a sentence's beginning with `<s>`, or None if it has a token without."""
        if self.unit == "character":
            known = set(text) <= set(self.names)
            return self.encode(text) if known else None
        words = text.split()
        known = all(word in self._numbers for word in words)
        return np.array([0, *map(self._numbers.__getitem__, words)]) if known else None

    def decode(self, ids: ArrayLike) -> str:
        """The text of (N,) numbers: `<eos>` ends its line, `<s>` shows nothing."""
        names = [self.names[k] for k in np.asarray(ids).tolist() if k]
        if self.unit == "character":
            return "".join(names)
        return "".join("\n" if name == EOS else f"{name} " for name in names).replace(" \n", "\n")


def depths(ids: Ids) -> Ids:
    """(N,) how many tokens of its sentence stand before each token, `<s>` among them.

    >>> depths(np.array([0, 3, 2, 1, 0, 3, 1]))
    array([0, 1, 2, 3, 0, 1, 2])
    """
    at = np.arange(len(ids))
    found: Ids = at - np.maximum.accumulate(np.where(ids == 0, at, 0))
    return found


def streams(ids: Ids, count: int) -> tuple[Ids, Ids]:
    """(steps, count) tokens, a text as that many streams side by side, and those that follow them;
    the last streams are filled up with targets -100, which do not count.

    >>> inputs, targets = streams(np.array([5, 6, 7, 8]), 2)
    >>> inputs.T.tolist(), targets.T.tolist()
    ([[5, 6], [7, 0]], [[6, 7], [8, -100]])
    """
    steps = math.ceil((len(ids) - 1) / count)
    inputs, targets = np.zeros(steps * count, np.int64), np.full(steps * count, -100)
    inputs[: len(ids) - 1], targets[: len(ids) - 1] = ids[:-1], ids[1:]
    return inputs.reshape(count, steps).T, targets.reshape(count, steps).T
