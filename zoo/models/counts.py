"""How often each n-gram of a text occurs, in sorted arrays of integers.

An n-gram is its first n-1 tokens, a row of the table before, and its last token: one integer,
row · V + token. So each table is one sorted array, an n-gram of any length is found by n binary
searches, and all of a text's are looked up at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoo.texts.datasets import Ids
from zoo.texts.tokens import depths

UNSEEN, BEYOND = -1, -2  # rows of what was never counted, and of what would begin before `<s>`


@dataclass(frozen=True)
class Order:
    """The k-grams of a text: M of them, each once."""

    keys: Ids  # (M,) sorted: row of the first k-1 tokens · V + the last token
    counts: NDArray[np.int32]  # (M,)
    suffixes: NDArray[np.int32]  # (M,) row of the last k-1 tokens

    def contexts(self, size: int) -> Ids:
        """(M,) row of the first k-1 tokens."""
        rows: Ids = self.keys // size
        return rows


def count(ids: Ids, size: int, n: int) -> list[Order]:
    """The 1- to n-grams that lie within the sentences of a text.

    Args:
        ids: (N,) numbers of tokens, 0 before each sentence.
        size: V, tokens with that 0.
        n: length of the longest.

    The 1-grams are all V tokens, seen or not; 0 has the count 0, since nothing predicts it.

    >>> two = count(np.array([0, 1, 2, 1, 2]), 3, 2)[1]
    >>> two.keys.tolist(), two.counts.tolist()
    ([1, 5, 7], [1, 2, 1])
    """
    depth, rows = depths(ids), ids
    ones = np.bincount(ids, minlength=size)
    ones[0] = 0
    orders = [Order(np.arange(size), ones.astype(np.int32), np.zeros(size, np.int32))]
    for k in range(2, n + 1):
        at = np.flatnonzero(depth >= k - 1)
        keys, inverse, counts = np.unique(
            rows[at - 1] * size + ids[at], return_inverse=True, return_counts=True
        )
        suffixes = np.zeros(len(keys), np.int32)
        suffixes[inverse] = rows[at]
        rows = np.full(len(ids), UNSEEN)
        rows[at] = inverse
        orders.append(Order(keys, counts.astype(np.int32), suffixes))
    return orders


def find(keys: Ids, rows: Ids, words: Ids, size: int) -> Ids:
    """(N,) rows of the k-grams that go on from (N,) rows of (k-1)-grams with (N,) tokens."""
    wanted = rows * size + words
    at = np.minimum(np.searchsorted(keys, wanted), max(0, len(keys) - 1))
    found = (rows >= 0) & (keys[at] == wanted) if len(keys) else np.zeros(len(rows), bool)
    return np.where(found, at, UNSEEN)


def before(keys: Sequence[Ids], ids: Ids, size: int) -> list[Ids]:
    """For k = 0..n-1 the (M,) rows of the k tokens before each of a text's M tokens that are not
    `<s>`, or UNSEEN or BEYOND; `keys` are those of the 1- to n-grams."""
    at = np.flatnonzero(ids)
    depth, rows = depths(ids), ids
    contexts = [np.zeros(len(at), np.int64)]
    for k in range(1, len(keys)):
        if k > 1:
            last = np.concatenate([[UNSEEN], rows[:-1]])
            rows = find(keys[k - 1], np.where(depth >= k - 1, last, UNSEEN), ids, size)
        contexts.append(np.where(depth[at] >= k, rows[at - 1], BEYOND))
    return contexts
