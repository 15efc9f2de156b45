"""Models that count: P of a token, given the n-1 before it, from how often they met.

Every model is P_k = share_k + rest_k · P_{k-1}: each token that was seen after a context of k-1
tokens has a share of it, and the rest is dealt out by the shorter context; P_0 = 1/V. A context
that was never seen has no shares: P_k = P_{k-1}. The methods below differ in shares and rests.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.models.counts import BEYOND, Order, before, find
from zoo.texts.datasets import Ids

Floats = NDArray[np.float64]
Ints = NDArray[np.integer[Any]]
FALLBACK = (0.5, 1.0, 1.5)  # discounts for a text too small or too odd to estimate them from
STUPID = 0.4  # Brants et al. (2007), §4


@dataclass
class Level:
    """The part of the k-grams."""

    keys: Ids  # (M,) as in counts.Order
    shares: NDArray[np.float32]  # (M,)
    rests: NDArray[np.float32]  # of each (k-1)-gram, 1 where nothing was seen after it


@dataclass
class NGrams:
    """A model of n-grams.

    `lower` says what is added to a share: rest · P_{k-1} ("interpolated"), the same but only where
    the share is 0 ("back-off"), or rest · P_0 ("uniform").
    """

    levels: list[Level]
    size: int  # V, with `<s>`
    lower: str = "interpolated"

    @property
    def bytes(self) -> int:
        """What its arrays take."""
        arrays = (a for level in self.levels for a in (level.keys, level.shares, level.rests))
        return sum(a.nbytes for a in arrays)

    def contexts(self, ids: Ids) -> list[Ids]:
        return before([level.keys for level in self.levels], ids, self.size)

    def probabilities(self, contexts: Sequence[Ids], words: Ids) -> Floats:
        """(M,) P of each of M tokens after its context, given for k = 0..n-1 as (M,) rows."""
        base: Floats = np.full(len(words), 1 / (self.size - 1))
        p: Floats = base
        for level, rows in zip(self.levels, contexts, strict=True):
            at = find(level.keys, rows, words, self.size)
            share, rest = _taken(level.shares, at, 0.0), _taken(level.rests, rows, 1.0)
            if self.lower == "uniform":
                p = np.where(rows == BEYOND, p, share + rest * base)
            elif self.lower == "back-off":
                p = np.where(share > 0, share, rest * p)
            else:
                p = share + rest * p
        return p

    def losses(self, ids: Ids) -> Floats:
        """(M,) -log P of each token of a text that is not `<s>`, in nats."""
        with np.errstate(divide="ignore"):
            losses: Floats = -np.log(self.probabilities(self.contexts(ids), ids[ids > 0]))
        return losses

    def distribution(self, history: Ids) -> Floats:
        """(V,) P of every token after a sentence's beginning, `<s>` first; that of `<s>` is 0."""
        words = np.arange(1, self.size)
        last = [rows[-1:] for rows in self.contexts(np.append(history, 1))]
        p = self.probabilities([np.repeat(rows, len(words)) for rows in last], words)
        return np.concatenate([[0.0], p])


def _taken(values: NDArray[np.float32], rows: Ids, otherwise: float) -> Floats:
    """(M,) values at rows, and another where a row is none."""
    found: Floats = np.append(values, otherwise)[np.maximum(rows, -1)]
    return found


def _level(order: Order, shares: Floats, rests: Floats) -> Level:
    return Level(order.keys, shares.astype(np.float32), rests.astype(np.float32))


def _sums(orders: Sequence[Order], k: int, values: Any) -> Floats:
    """For each (k-1)-gram the sum of a value of the k-grams that begin with it."""
    size = len(orders[0].keys)
    contexts = len(orders[k - 2].keys) if k > 1 else 1
    sums = np.bincount(orders[k - 1].contexts(size), values, contexts)
    return sums.astype(np.float64)


def _divided(a: Floats | Ints, b: Floats | Ints, otherwise: float) -> Floats:
    found: Floats = np.divide(a, b, out=np.full(np.shape(b), otherwise), where=np.asarray(b) > 0)
    return found


def maximum_likelihood(orders: Sequence[Order]) -> NGrams:
    """P(w | c) = n(cw) / n(c·): 0 for whatever was not seen.

    After a context that was never seen, where this is 0/0, the shorter context's P.
    """
    size, levels = len(orders[0].keys), []
    for k, order in enumerate(orders, 1):
        total = _sums(orders, k, order.counts)
        shares = _divided(order.counts, total[order.contexts(size)], 0.0)
        levels.append(_level(order, shares, (total == 0).astype(float)))
    return NGrams(levels, size)


def add_k(orders: Sequence[Order], k: float) -> NGrams:
    """P(w | c) = (n(cw) + k) / (n(c·) + k V)."""
    size, levels = len(orders[0].keys), []
    for length, order in enumerate(orders, 1):
        total = _sums(orders, length, order.counts) + k * (size - 1)
        shares = order.counts / total[order.contexts(size)]
        levels.append(_level(order, shares, k * (size - 1) / total))
    return NGrams(levels, size, "uniform")


def stupid_backoff(orders: Sequence[Order]) -> NGrams:
    """S(w | c) = n(cw) / n(c·) if that is not 0, else 0.4 S(w | c'), c' one token shorter.

    Scores, no probabilities: they sum to 1 or more. Words without a count get 0.4/V.

    Brants, Popat, Xu, Och & Dean (2007), Large Language Models in Machine Translation, §4.
    """
    model = maximum_likelihood(orders)
    for level in model.levels:
        level.rests[level.rests == 0] = STUPID
    model.lower = "back-off"
    return model


def interpolation(orders: Sequence[Order], rounds: int = 30) -> NGrams:
    """P_k = μ n(cw) / n(c·) + (1 - μ) P_{k-1}, with a weight μ for each k and each size of n(c·).

    Contexts with equal ⌊log₂ n(c·)⌋ have one μ. Each is found by expectation maximisation on the
    text that was counted, with every token left out of the counts while it is predicted.

    Jelinek & Mercer (1980), Interpolated estimation of Markov source parameters from sparse data;
    the buckets as in Chen & Goodman (1999), §2.3.
    """
    size, levels = len(orders[0].keys), []
    shorter = np.full(1, 1 / (size - 1))  # P_{k-1} of each (k-1)-gram, left out itself
    for k, order in enumerate(orders, 1):
        n, total, rows = order.counts, _sums(orders, k, order.counts), order.contexts(size)
        left = total[rows] - 1
        alone, below = _divided(n - 1, left, 0.0), shorter[order.suffixes]
        used = np.flatnonzero((n > 0) & (left > 0))
        buckets = _buckets(left[used])
        weights = _weights(alone[used], below[used], n[used], buckets, rounds)
        shorter = below.copy()
        mu = weights[buckets]
        shorter[used] = mu * alone[used] + (1 - mu) * below[used]
        of_context = np.where(total > 0, weights[_buckets(np.maximum(total, 1))], 0.0)
        shares = of_context[rows] * _divided(n, total[rows], 0.0)
        levels.append(_level(order, shares, 1 - of_context))
    return NGrams(levels, size)


def _buckets(totals: Floats) -> Ids:
    found: Ids = np.log2(totals).astype(np.int64)
    return found


def _weights(alone: Floats, below: Floats, n: Ints, buckets: Ids, rounds: int) -> Floats:
    """(64,) the μ of each bucket that makes μ alone + (1 - μ) below likeliest; where a bucket has
    no examples, that of the bucket before, or 0 if there is none."""
    mu: Floats = np.full(64, 0.5)
    total = np.bincount(buckets, n, 64)
    for _ in range(rounds):
        mine = mu[buckets] * alone
        expected = n * mine / (mine + (1 - mu[buckets]) * below)
        mu = _divided(np.bincount(buckets, expected, 64), total, 0.0)
    last = np.maximum.accumulate(np.where(total > 0, np.arange(64), 0))
    found: Floats = np.minimum(mu[last], 1 - 1e-6)  # what was not seen stays possible
    return found


def kneser_ney(orders: Sequence[Order], cutoffs: Sequence[int] = (1,)) -> NGrams:
    """P_k = max(a - D(a), 0) / Σ a + rest · P_{k-1}, with three discounts for each k.

    a is n(cw) for the longest n-grams and for those that begin with `<s>`, and for the others the
    number of different tokens that were seen before them. D(a) is D₁, D₂ or, from 3 on, D₃, found
    from how many k-grams have a = 1, 2, 3, 4; the rest is what was discounted.

    Args:
        orders: counts of the 1- to n-grams.
        cutoffs: k-grams with an `a` below the kth are dropped; the last holds for longer ones too.

    Chen & Goodman (1999), An empirical study of smoothing techniques for language modeling, §3.
    """
    size, levels = len(orders[0].keys), []
    for k, order in enumerate(orders, 1):
        a = adjusted(orders, k)
        taken = np.array([0, *discounts(a)])[np.minimum(a, 3)]
        taken = np.where(a < cutoffs[min(k, len(cutoffs)) - 1], a, taken)
        total = _sums(orders, k, a)
        shares = _divided(a - taken, total[order.contexts(size)], 0.0)
        levels.append(_level(order, shares, _divided(_sums(orders, k, taken), total, 1.0)))
    return pruned(NGrams(levels, size))


def adjusted(orders: Sequence[Order], k: int) -> Ints:
    """(M,) the `a` of the k-grams: see `kneser_ney`."""
    order = orders[k - 1]
    if k == len(orders):
        return order.counts
    kinds = np.bincount(orders[k].suffixes, minlength=len(order.keys))
    return np.where(kinds > 0, kinds, order.counts)  # nothing stands before `<s>`


def discounts(a: Ints) -> tuple[float, float, float]:
    """D₁, D₂, D₃ of Chen & Goodman (1999), §3; FALLBACK where that is no discount.

    >>> discounts(np.array([1, 1, 1, 1, 2, 2, 3, 4]))
    (0.5, 1.25, 1.0)
    """
    ones, twos, threes, fours = (int((a == k).sum()) for k in (1, 2, 3, 4))
    if not (ones and twos and threes):
        return FALLBACK
    y = ones / (ones + 2 * twos)
    found = 1 - 2 * y * twos / ones, 2 - 3 * y * threes / twos, 3 - 4 * y * fours / threes
    return found if all(0 <= d <= k for k, d in enumerate(found, 1)) else FALLBACK


def pruned(model: NGrams) -> NGrams:
    """The same model without the rows that have no share and begin no longer n-gram."""
    size, levels = model.size, model.levels
    keep: NDArray[np.bool_] | None = None  # of the level above
    for k in range(len(levels) - 1, 0, -1):
        level, needed = levels[k], levels[k].shares > 0
        if keep is not None:
            longer = levels[k + 1]
            needed[longer.keys // size] = True
            place = np.cumsum(needed) - 1
            longer.keys = place[longer.keys // size] * size + longer.keys % size
            longer.rests = longer.rests[needed]
        keep = needed
        level.keys, level.shares = level.keys[keep], level.shares[keep]
    return model


def perplexity(losses: Floats) -> float:
    """exp of the mean loss; infinite if something impossible happened.

    >>> perplexity(np.log([4.0, 4.0]))
    4.0
    """
    mean = float(losses.mean())
    return math.exp(mean) if mean < 700 else math.inf


METHODS: dict[str, Callable[..., NGrams]] = {
    "maximum-likelihood": maximum_likelihood,
    "add-k": add_k,
    "stupid-back-off": stupid_backoff,
    "interpolation": interpolation,
    "kneser-ney": kneser_ney,
}
