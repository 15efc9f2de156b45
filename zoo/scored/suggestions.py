"""Words suggested while somebody types, and the keystrokes that they save."""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from zoo.models.ngrams import Floats
from zoo.models.predictors import Predictor
from zoo.scored.scoring import SPECIAL, Sums, Task, numbers, unknown

SEARCHED = 200  # beginnings of words that a model of characters looks at for its suggestions


class Suggestions:
    """The likeliest words after a sentence's beginning that go on from the letters typed so far."""

    def __init__(self, model: Predictor) -> None:
        self.model = model
        self.whole = model.tokens.unit == "character"
        known = sorted((n, k) for k, n in enumerate(model.tokens.names) if n not in SPECIAL)
        self.words, self.places = [n for n, _ in known], np.array([k for _, k in known])

    def spots(self, sentence: str) -> list[tuple[Floats, Any]]:
        """What is expected at each token of a sentence and at its end, and the state there."""
        ids, start = numbers(self.model, sentence)
        state, found = None, []
        for token in ids[:-1]:
            rows, state = self.model.read(np.array([token]), state)
            found.append((rows[-1], state))
        return found[start - 1 :]

    def best(self, row: Floats, state: Any, typed: str, count: int) -> list[str]:
        """`count` words at most, the likeliest first, of equal ones the first of the alphabet.

        Args:
            row, state: of the word's beginning; of characters, of the place behind the typed ones.
            typed: the first letters.
        """
        if self.whole:
            return [typed + end for end in islice(self._ends(row, state, typed), count)]
        low, high = (bisect_left(self.words, typed + end) for end in ("", "\U0010ffff"))
        likeliest = np.argsort(-row[self.places[low:high]], kind="stable")[:count]
        return [self.words[low + k] for k in likeliest]

    def _ends(self, row: Floats, state: Any, typed: str) -> Iterator[str]:
        """How a word may end, the likeliest first: no beginning is gone on from before those that
        are likelier. Gives up when it has looked at SEARCHED."""
        names, heap = self.model.tokens.names, [(0.0, "", state)]
        for _ in range(SEARCHED):
            cost, end, state = heapq.heappop(heap)
            if end.endswith(" "):
                yield end[:-1]
                continue
            if end:
                (*_, row), state = self.model.read(np.array([names.index(end[-1])]), state)
            for name, log in zip(names[1:], row[1:].tolist(), strict=True):
                if not name.isspace() or (name == " " and typed + end):
                    heapq.heappush(heap, (cost - log, end + name, state))

    def after(self, prompt: str, count: int) -> list[str]:
        """What is suggested to who has typed the prompt; a blank at its end begins a new word."""
        before, _, typed = prompt.rpartition(" ")
        text = f"{' '.join(before.split())} {typed}".lstrip(" ")
        spots = self.spots(text if self.whole else f"{text} .")
        return self.best(*spots[len(text if self.whole else before.split())], typed, count)


def typing(sentences: Sequence[str], count: int) -> Task:
    """Keystrokes that suggestions save, and how often a word is there before its first letter.

    At every letter of a word, the first among them, `count` words are shown that go on from those
    typed so far; one keystroke takes one of them, with the blank behind it.
    """

    def judge(model: Predictor) -> Callable[[str], Sums]:
        suggestions = Suggestions(model)

        def judged(sentence: str) -> Sums:
            spots, at, saved, hits = suggestions.spots(sentence), 0, 0, 0
            whole, strange = suggestions.whole, set(unknown(model.tokens, sentence))
            for word in sentence.split():
                for k in range(0 if word in strange else len(word)):
                    if word in suggestions.best(*spots[at + k * whole], word[:k], count):
                        saved, hits = saved + len(word) - k, hits + (k == 0)
                        break
                at += len(word) + 1 if whole else 1
            return [(saved, len(sentence) + 1), (hits, len(sentence.split()))]

        return judged

    return Task(("keystrokes saved", f"hits at {count}"), sentences, judge)
