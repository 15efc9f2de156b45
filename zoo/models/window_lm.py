"""Bengio's model of a fixed window, and what it sees of a text.

Bengio, Ducharme, Vincent & Janvin (2003), A Neural Probabilistic Language Model, §2.
"""

from __future__ import annotations

import math

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from zoo.texts.datasets import Ids
from zoo.texts.tokens import depths

SMALL = 0.05  # deviation of the first embeddings: words that are rarely read stay alike


class WindowLM(nn.Module):
    """Embeddings side by side, a hidden layer, a score for every token but `<s>`.

    Args:
        tokens: V, with `<s>`.
        window: tokens that are seen, m.
        embedding, hidden: features of a token and units, E and H.
        direct: whether the embeddings are connected to the output too.
        rng: draws the weights.

    Shapes:
        seen (B, m) in 0..V-1  ->  scores (B, V - 1)
    """

    def __init__(
        self,
        tokens: int,
        window: int,
        embedding: int,
        hidden: int,
        direct: bool,
        rng: np.random.Generator,
    ) -> None:
        width = window * embedding
        self.embedding = nn.Embedding(tokens, embedding, rng=rng)
        self.embedding.weight = nn.init.normal(tokens, embedding, rng=rng, std=SMALL)
        self.hidden = nn.Linear(width, hidden, rng=rng)
        self.output = nn.Linear(hidden, tokens - 1, rng=rng)
        if direct:
            self.direct = nn.Linear(width, tokens - 1, bias=False, rng=rng)

    def __call__(
        self, seen: Ids, dropout: float = 0.0, rng: np.random.Generator | None = None
    ) -> tg.Tensor:
        e = self.embedding(seen).reshape(len(seen), -1)  # seen (B, m), e (B, m·E)
        h = nn.dropout(tg.tanh(self.hidden(e)), dropout, rng=rng)
        scores: tg.Tensor = self.output(h)
        return scores + self.direct(e) if hasattr(self, "direct") else scores  # (B, V)

    @property
    def size(self) -> int:
        return sum(math.prod(p.shape) for p in self.parameters())


def windows(ids: Ids, m: int) -> tuple[Ids, Ids]:
    """(N, m) the tokens before each token that is predicted, `<s>` beyond its sentence's start, and
    (N,) its class: its number less 1.

    >>> windows(np.array([0, 3, 2, 0, 4]), 2)[0].tolist()
    [[0, 0], [0, 3], [0, 0]]
    """
    at = np.flatnonzero(ids)
    depth = depths(ids)[at]
    seen = [np.where(depth >= j, ids[np.maximum(at - j, 0)], 0) for j in range(m, 0, -1)]
    return np.stack(seen, axis=1), ids[at] - 1
