"""Documents ranked by the probability that they give a query.

    P(q | d) = Π_i (n(q_i; d) + μ P(q_i | d, q_1 ... q_{i-1})) / (|d| + μ)

n counts words in the document, |d| of them; P is a language model, which stands where the original
has the frequencies in the collection. A recurrent one has read the document before the query; all
others forget what stood before a sentence, so theirs is P(q_i | q_1 ... q_{i-1}).

Ponte & Croft (1998), A language modeling approach to information retrieval; Zhai & Lafferty (2004),
A study of smoothing methods for language models applied to information retrieval (the Dirichlet
prior μ).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from zoo.models.ngrams import Floats
from zoo.models.predictors import Carrying, Predictor
from zoo.scored.scoring import SPECIAL, Sums, Task, word_losses

Document = list[str]  # lines


def passages(lines: Sequence[str], length: int) -> list[Document]:
    """Lines in order, in documents of `length` words or a few more; a short last one is dropped.

    >>> passages(["a b", "c", "d e f", "g"], 3)
    [['a b', 'c'], ['d e f']]
    """
    documents: list[Document] = [[]]
    for line in lines:
        documents[-1].append(line)
        if len(" ".join(documents[-1]).split()) >= length:
            documents.append([])
    return documents[:-1]


def queries(
    documents: Sequence[Document], sentences: Collection[str], rng: np.random.Generator
) -> tuple[list[Document], list[tuple[str, int]]]:
    """A sentence of each document that has one of these, with the document's number, and the
    documents without them."""
    rest, asked = [], []
    for k, document in enumerate(documents):
        if found := [line for line in document if line in sentences]:
            asked.append((str(rng.choice(found)), k))
            document = [line for line in document if line != asked[-1][0]]
        rest.append(document)
    return rest, asked


def states(model: Predictor, documents: Sequence[Document]) -> list[Any]:
    """The state behind each document, or one for all if the model forgets."""
    if not isinstance(model, Carrying):
        return [None]
    texts = ("".join(f"{line}\n" for line in document) for document in documents)
    return [model.read(model.tokens.encode(text))[1] if text else None for text in texts]


def retrieval(documents: Sequence[Document], cases: Sequence[tuple[str, int]], mu: float) -> Task:
    """1 / the rank of the document that a sentence was taken from, by P(q | d) and, as μ goes to
    infinity, by the language model alone."""
    texts = [" ".join(document).split() for document in documents]
    counts = [Counter(word for word in text if word not in SPECIAL) for text in texts]

    def judge(model: Predictor) -> Callable[[tuple[str, int]], Sums]:
        behind = states(model, documents)

        def judged(case: tuple[str, int]) -> Sums:
            alone = np.stack([-word_losses(model, case[0], state) for state in behind])
            n = np.array([[count[word] for word in case[0].split()] for count in counts])
            size = np.array([[count.total()] for count in counts])
            with np.errstate(divide="ignore"):
                mixed = np.log((n + mu * np.exp(alone)) / (size + mu)).sum(1)
            both = mixed, alone.sum(1) + np.zeros(len(counts))
            return [(1 / rank(scores, case[1]), 1) for scores in both]

        return judged

    return Task(("reciprocal rank", "by the model alone"), cases, judge)


def rank(scores: Floats, k: int) -> float:
    """The place of number k among scores, the highest first; of equal ones the mean place.

    >>> rank(np.array([0.5, 2.0, 0.5]), 0)
    2.5
    """
    return float((scores > scores[k]).sum() + ((scores == scores[k]).sum() + 1) / 2)
