"""How a recurrent language model is judged: the perplexity of a text that is read once, in order.

    perplexity = exp(-1/N Σ_t log p(x_t | x_1 ... x_{t-1})),  every word and every <eos> counted

The text is one stream, and the state is carried from its first word to its last. Two ways to learn
while reading leave the trained weights as they are; both see a word only after its prediction:

    dynamic   θ ← θ - η ∇J of the last words, after they were predicted
    cache     p(w) = (1 - λ) ŷ_t[w] + λ Σ_i [x_{i+1} = w] softmax_i(φ h_t·h_i),  the last n words i

Mikolov et al. (2010), Recurrent neural network based language model, §2, and Krause et al. (2018),
Dynamic Evaluation of Neural Sequence Models, §4 (dynamic, with plain gradients); Grave, Joulin &
Usunier (2017), Improving Neural Language Models with a Continuous Cache, §3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import nn, optim
from zoo.models.language_models import WordLM
from zoo.running.interrupt import Interrupt
from zoo.running.runs import Stopped
from zoo.texts.datasets import Ids

STEPS = 256  # words that are read at once; changes no result
FLATNESS = (0.05, 0.1, 0.2, 0.3, 0.5)  # φ among which a cache is chosen
SHARES = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3)  # λ


def _read(
    model: WordLM, ids: Ids, interrupt: Interrupt, steps: int = STEPS
) -> Iterator[tuple[tg.Tensor, Ids]]:
    """h (T, 1, n) and targets (T, 1) of a text (N + 1,), piece by piece, nothing dropped."""
    pieces, was = nn.TBPTT(ids[:-1, None], ids[1:, None], steps), model.training
    model.eval()
    try:
        for inputs, targets, state in pieces:
            if interrupt.requested:
                raise Stopped
            h, pieces.state = model(inputs, state)
            yield h, targets
    finally:
        model.train(was)


def losses(model: WordLM, ids: Ids, interrupt: Interrupt) -> np.ndarray:
    """(N,) -log p of each word of a text (N + 1,), in nats."""
    with tg.no_grad():
        read = _read(model, ids, interrupt)
        return np.concatenate([model.loss(h, y, "none").numpy()[:, 0] for h, y in read])


def perplexity(losses: np.ndarray) -> float:
    """exp of their mean; inf if that is too large."""
    with np.errstate(over="ignore"):
        return float(np.exp(losses.mean(dtype=np.float64)))


def dynamic_losses(
    model: WordLM, ids: Ids, interrupt: Interrupt, lr: float, clip: float, steps: int = 20
) -> np.ndarray:
    """(N,) as `losses`, of a model that learns from every `steps` words when they are predicted.

    Args:
        lr: η, of the mean loss of the steps.
        clip: largest norm of the gradient.
    """
    found, before = [], model.state_dict()
    optimizer = optim.SGD(model.parameters(), lr=lr)
    try:
        for h, targets in _read(model, ids, interrupt, steps):
            each = model.loss(h, targets, "none")
            model.zero_grad()
            each.mean().backward()
            optim.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            found.append(each.numpy()[:, 0])
    finally:
        model.load_state_dict(before)
    return np.concatenate(found)


# A cache


class Cache(NamedTuple):
    """The last words and the states that they followed."""

    size: int  # words, n
    flatness: float  # φ: 0 counts the words alone
    share: float  # λ


def cached_losses(
    model: WordLM, ids: Ids, interrupt: Interrupt, size: int, *flatness: float
) -> tuple[np.ndarray, np.ndarray]:
    """(N,) `losses`, and for each φ (N,) what the cache alone gives the words."""
    plain, found = [], []
    keys, words = np.zeros((0, model.weight.shape[1]), np.float32), np.zeros(0, np.int64)
    with tg.no_grad():
        for h, targets in _read(model, ids, interrupt):
            plain.append(model.loss(h, targets, "none").numpy()[:, 0])
            new = h.numpy()[:, 0]
            keys, words = np.concatenate([keys, new]), np.concatenate([words, targets[:, 0]])
            found.append([looked_up(keys, words, len(new), size, phi) for phi in flatness])
            keys, words = keys[-size:], words[-size:]
    return np.concatenate(plain), np.concatenate(found, axis=1)


def looked_up(keys: np.ndarray, words: Ids, last: int, size: int, flatness: float) -> np.ndarray:
    """(last,) probabilities that a cache gives the last words: the share of the `size` places
    before each where the same word followed, places with a state like the present one counting
    more; 0 if there is none.

    >>> looked_up(np.ones((4, 1)), np.array([7, 8, 7, 7]), 4, 2, 1.0).tolist()
    [0.0, 0.0, 0.5, 0.5]
    """
    at, old = np.arange(len(words))[-last:, None], np.arange(len(words))
    seen = (old < at) & (old >= at - size)  # (last, all)
    scores = np.where(seen, flatness * (keys[-last:] @ keys.T).astype(np.float64), -np.inf)
    top = scores.max(axis=1, keepdims=True)
    weights = np.where(seen, np.exp(scores - np.where(np.isfinite(top), top, 0.0)), 0.0)
    hits = (weights * (words == words[-last:, None])).sum(axis=1)
    found: np.ndarray = hits / np.maximum(weights.sum(axis=1), np.finfo(float).tiny)
    return found


def mixed(plain: np.ndarray, cached: np.ndarray, share: float) -> np.ndarray:
    """(N,) losses of the mixture of a model with these losses and a cache of these probabilities;
    the first word, before which the cache is empty, is left to the model."""
    shares = np.full(len(plain), share)
    shares[:1] = 0.0
    found: np.ndarray = -np.log((1 - shares) * np.exp(-plain.astype(float)) + shares * cached)
    return found


def best_cache(model: WordLM, ids: Ids, interrupt: Interrupt, size: int) -> Cache:
    """The φ and λ that suit a text best: that of the validation part."""
    plain, found = cached_losses(model, ids, interrupt, size, *FLATNESS)
    options = [(mixed(plain, p, share).mean(), phi, share)
               for phi, p in zip(FLATNESS, found, strict=True) for share in SHARES]  # fmt: skip
    return Cache(size, *min(options)[1:])


def judged(
    model: WordLM, parts: Mapping[str, Ids], interrupt: Interrupt, cache: int, *rates: float
) -> dict[str, float]:
    """Perplexities of all parts but the first, by name.

    Args:
        parts: the numbers (N + 1,) of each; the second one is for validation.
        cache: words of a cache, besides; 0 for none.
        rates: η and the largest norm, of a model that learns while reading, besides.
    """
    held, found = dict(list(parts.items())[1:]), dict[str, float]()
    for part, ids in held.items():
        found[part] = perplexity(losses(model, ids, interrupt))
    if cache:
        best = best_cache(model, held["validation"], interrupt, cache)
        for part, ids in held.items():
            plain, alone = cached_losses(model, ids, interrupt, cache, best.flatness)
            found[f"cache {part}"] = perplexity(mixed(plain, alone[0], best.share))
        found |= {"cache flatness": best.flatness, "cache share": best.share}
    for part, ids in held.items() if rates else ():
        rate, largest = rates
        found[f"dynamic {part}"] = perplexity(dynamic_losses(model, ids, interrupt, rate, largest))
    return found
