"""What a recurrent language model over words is: any cell, tied or untied, all kinds of dropout.

    e_t = E[x_t];  h_t = cell(e_t, h_{t-1}), a layer over the other;  ŷ_t = softmax(U h_t + b)

Tied, U = E: a word is the same vector where it is read and where it is predicted, and the two
largest matrices are one (Inan, Khosravi & Socher 2017, Tying Word Vectors and Word Classifiers, §3;
Press & Wolf 2017, Using the Output Embedding to Improve Language Models, §3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from zoo.models.recurrent_stack import STEPS
from zoo.models.window_layer import Window
from zoo.texts.datasets import Ids

State = Any  # a part for each layer, a tensor (1, B, H) or a tuple of them; None stands for zeros
EOS, UNKNOWN = 0, 1  # of `word_ids`
CELLS = {"rnn": STEPS["rnn_tanh"]} | {n: step for n, step in STEPS.items() if step.shapes}


@dataclass(frozen=True)
class ModelRecipe:
    """What decides the model, with the vocabulary."""

    cell: Annotated[str, "what the layers are made of, from nn.cells"] = "lstm"
    layers: Annotated[int, "recurrent layers, L"] = 1
    hidden: Annotated[int, "units of a layer, H"] = 200
    embedding: Annotated[int, "features of a word, E"] = 200
    tied: Annotated[bool, "U = E; from other widths than E through a projection"] = True
    init: Annotated[float, "the first weights are drawn from ± this"] = 0.1
    dropout: Annotated[
        tuple[float, ...],
        "share of features that is dropped: of e, between layers,\nof the last h; or one for all",
    ] = (0.5,)
    locked: Annotated[bool, "drop the same ones at all steps of an update"] = True
    embedding_dropout: Annotated[float, "share of the vocabulary whose e is dropped"] = 0.0
    word_dropout: Annotated[float, "share of the words read that become <unk>"] = 0.0
    recurrent_dropout: Annotated[float, "share of h_{t-1} that products do not see"] = 0.0
    weight_drop: Annotated[float, "share of the recurrent matrices that is dropped"] = 0.0
    zoneout: Annotated[float, "share of the states that keep their value"] = 0.0


class WordLM(nn.Module):
    """The distribution of the next word, given all words before it.

    Args:
        words: in the vocabulary, V.
        recipe: the sizes and what is dropped.
        rng: draws the weights and, in training, what is dropped.

    Called with ids and a state, it gives h and the new state; `loss` and `scores` take h.

    Shapes:
        ids (T, B) in 0..V-1  ->  h (T, B, n);  scores (T, B, V)

    >>> model = WordLM(10, ModelRecipe(hidden=4, embedding=3), np.random.default_rng(0))
    >>> h, state = model(np.zeros((7, 2), int))
    >>> h.shape, model.scores(h).shape
    ((7, 2, 3), (7, 2, 10))
    """

    def __init__(self, words: int, recipe: ModelRecipe, rng: np.random.Generator) -> None:
        r, width = recipe, recipe.embedding
        kind = nn.LockedDropout if r.locked else nn.Dropout
        below, between, above = r.dropout * (3 // len(r.dropout))
        names = ("recurrent_dropout", "weight_drop", "zoneout")
        options: dict[str, Any] = {n: share for n in names if (share := getattr(r, n))}
        self.masked = nn.WordDropout(r.word_dropout, UNKNOWN, rng=rng)
        table = nn.Embedding(words, width, rng=rng)
        self.embedding = nn.EmbeddingDropout(table, r.embedding_dropout, rng=rng)
        stack: list[Any] = []
        for k in range(r.layers):
            stack.append(kind(between if k else below, rng=rng))
            layer: Any = Window if r.cell == "window" else partial(nn.Recurrent, CELLS[r.cell])
            stack.append(layer(width, r.hidden, rng=rng, **options))
            width = stack[-1].output_size
        if r.tied and width != r.embedding:
            stack.append(nn.Linear(width, r.embedding, bias=False, rng=rng))
        self.stack = nn.Sequential(*stack, kind(above, rng=rng))
        self.bias = nn.init.zeros(words)
        self.output = None if r.tied else nn.init.uniform(words, width, fan=width, rng=rng)
        self._draw(r.init, rng)

    def _draw(self, init: float, rng: np.random.Generator) -> None:
        """All weights but the gains and shifts of normalised cells."""
        first = {}
        for name, weight in self.named_parameters():
            fixed = name.rpartition(".")[2].startswith(("gain", "shift"))
            first[name] = np.array(weight) if fixed else rng.uniform(-init, init, weight.shape)
        self.load_state_dict(first)

    def __call__(self, ids: Ids, state: State = None) -> tuple[tg.Tensor, State]:
        h, state = self.stack(self.embedding(self.masked(ids)), state)
        return h, state

    def predict(self, ids: Ids, state: State = None) -> tuple[tg.Tensor, State]:
        """The scores of what follows each word, and the new state."""
        h, state = self(ids, state)
        return self.scores(h), state

    @property
    def weight(self) -> tg.Tensor:
        """U (V, n)."""
        return self.embedding.embedding.weight if self.output is None else self.output

    def scores(self, h: tg.Tensor) -> tg.Tensor:
        """U h + b, of which the softmax is the distribution."""
        scores: tg.Tensor = tg.linear(h, self.weight, self.bias)
        return scores

    def loss(self, h: tg.Tensor, targets: Ids, reduction: str = "mean") -> tg.Tensor:
        """-log ŷ[target], the mean, the sum or each; -100 does not count."""
        return nn.linear_cross_entropy(h, self.weight, targets, self.bias, reduction=reduction)

    @property
    def size(self) -> int:
        return sum(math.prod(p.shape) for p in self.parameters())


def word_ids(ids: Ids) -> Ids:
    """(N + 1,) a text for such a model, of its numbers by `Tokens`: <eos>, which every text stands
    after, is 0, and <s> is nowhere.

    >>> word_ids(np.array([0, 3, 2, 1, 0, 4, 1]))
    array([0, 2, 1, 0, 3, 0])
    """
    return np.concatenate([[EOS], ids[ids > 0] - 1])
