"""One face for all language models of the zoo: read a text, say how likely each next token is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from zoo.models.ngrams import Floats, NGrams
from zoo.models.window_lm import WindowLM
from zoo.texts.datasets import Ids
from zoo.texts.tokens import Tokens, depths

PIECE = 128  # tokens of a text that are read at once


class Predictor(ABC):
    """P(x_t | x_1 ... x_{t-1}), of tokens as `Tokens.encode` gives them: `<s>`, number 0, begins a
    sentence and is never predicted."""

    tokens: Tokens

    @abstractmethod
    def read(self, ids: Ids, state: Any = None) -> tuple[Floats, Any]:
        """What follows each of N tokens, and the state after them.

        Args:
            ids: (N,) tokens, N at least 1.
            state: what the last call returned; None before a text, which begins with `<s>`.

        Shapes:
            ids (N,)  ->  (N, V) log P of every token, -inf of `<s>`
        """

    def losses(self, ids: Ids) -> Floats:
        """(M,) -log P of each token of a text that is not `<s>`, in nats."""
        state, found = None, [np.zeros(0)]
        for k in range(0, len(ids) - 1, PIECE):
            answers = ids[k + 1 : k + 1 + PIECE]
            rows, state = self.read(ids[k : k + len(answers)], state)
            found.append(-rows[np.arange(len(answers)), answers][answers > 0])
        return np.concatenate(found)


class Counting(Predictor):
    """A model of n-grams; the state is the last n-1 tokens."""

    def __init__(self, model: NGrams, tokens: Tokens) -> None:
        self.model, self.tokens = model, tokens

    def read(self, ids: Ids, state: Any = None) -> tuple[Floats, Any]:
        rows, last = [], np.zeros(0, np.int64) if state is None else state
        for token in ids:
            last = np.append(last, token)[-max(1, len(self.model.levels) - 1) :]
            rows.append(self.model.distribution(last))
        with np.errstate(divide="ignore"):
            return np.log(rows), last

    def losses(self, ids: Ids) -> Floats:
        return self.model.losses(ids)


class Windowed(Predictor):
    """A neural model of a fixed window; the state is the last m tokens."""

    def __init__(self, model: WindowLM, tokens: Tokens, window: int) -> None:
        self.model, self.tokens, self.window = model, tokens, window

    def read(self, ids: Ids, state: Any = None) -> tuple[Floats, Any]:
        text = ids if state is None else np.concatenate([state, ids])
        at = np.arange(len(text) - len(ids), len(text))
        depth = depths(text)[at]
        back = range(self.window - 1, -1, -1)
        seen = [np.where(depth >= j, text[np.maximum(at - j, 0)], 0) for j in back]
        with tg.no_grad():
            scores = self.model(np.stack(seen, axis=1)).numpy()
        return log_probabilities(scores), text[-self.window :]


class Carrying(Predictor):
    """A recurrent model, which carries its state; number k of the tokens is its k - 1.

    Args:
        model: (T, 1) numbers and a state -> (T, 1, V - 1) logits and a state.
        tokens: what it predicts.
        start: what it reads for the `<s>` before a text; later ones it passes over.
    """

    def __init__(self, model: Callable[..., Any], tokens: Tokens, start: int) -> None:
        self.model, self.tokens, self.start = model, tokens, start

    def read(self, ids: Ids, state: Any = None) -> tuple[Floats, Any]:
        carried, rows = (None, np.zeros((0, len(self.tokens)))) if state is None else state
        new = ids > 0
        new[0] |= state is None
        if new.any():
            numbers = np.where(ids > 0, ids - 1, self.start)[new]
            with tg.no_grad():
                logits, carried = self.model(numbers[:, None], carried)
            rows = np.concatenate([rows, log_probabilities(logits.numpy()[:, 0])])
        found = rows[np.cumsum(new) - (state is None)]
        return found, (carried, found[-1:])


def log_probabilities(scores: np.ndarray) -> Floats:
    """(N, V) log P from (N, V - 1) logits, with that of `<s>` before them."""
    logs = tg.log_softmax(tg.Tensor(scores.astype("float64"))).numpy()
    return np.concatenate([np.full((len(logs), 1), -np.inf), logs], axis=1)


def opening(tokens: Tokens, prompt: str) -> Ids:
    """The numbers of what a text is to go on from."""
    ids = tokens.beginning(prompt)
    if ids is None:
        known = set(tokens.names)
        parts = prompt.split() if tokens.unit == "word" else prompt
        strange = sorted(set(parts) - known)
        raise ValueError(f"--prompt: expected {tokens.unit}s of the text, got {strange}; drop them")
    return ids


def drawn(
    model: Predictor, prompt: Ids, length: int, rng: np.random.Generator, **cut: Any
) -> Iterator[int]:
    """`length` tokens, each drawn from what the model expects after those before it; after <eos>
    it reads the <s> of the next sentence.

    Args:
        prompt: (N,) tokens before the first, `<s>` first.
        cut: temperature, top_k and top_p of `nn.sample`.
    """
    (*_, scores), state = model.read(prompt)
    for _ in range(length):
        token = int(nn.sample(scores, **cut, rng=rng))
        yield token
        ended = model.tokens.unit == "word" and token == 1
        (*_, scores), state = model.read(np.array([token, 0][: 1 + ended]), state)


def written(model: Predictor, prompt: Ids, length: int, seed: int, temperature: float) -> str:
    """The prompt, and as many tokens more."""
    rng = np.random.default_rng(seed)
    more = [*drawn(model, prompt, length, rng, temperature=temperature)]
    return model.tokens.decode([*prompt, *more])
