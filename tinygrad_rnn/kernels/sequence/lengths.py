"""Sequences of several lengths, as rows that follow one another.

The longest sequence comes first. The rows are those of all first steps, then those of the second
steps, and so on: at step t there are as many as sequences are longer than t. Nothing is computed
beyond a length.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from tinygrad_rnn.kernels.sequence.runner import Walk


class Lengths:
    """Where the rows of (T, B, n) arrays go, if not all sequences are T long."""

    def __init__(self, lengths: np.ndarray, reverse: bool) -> None:
        batch, longest = len(lengths), int(lengths.max())
        order = np.argsort(-lengths, kind="stable")
        self.items = order[: np.count_nonzero(lengths)]  # those that have a step
        self.lengths = lengths[self.items]
        step, self.item = np.nonzero(np.arange(longest)[:, None] < self.lengths)
        counts = np.bincount(step, minlength=longest)
        first = len(self.items)  # rows before the first step
        starts = np.concatenate([[0], first + np.cumsum(counts) - counts])
        time = self.lengths[self.item] - 1 - step if reverse else step
        self.rows = time * batch + self.items[self.item]
        self.before = starts[step] + self.item  # of an array that begins before the first step
        self.last = starts[self.lengths] + np.arange(first)
        n = len(step)
        self.ahead = Walk(starts, counts, self.shares, n)
        self.behind = Walk(starts[::-1].copy(), counts[::-1].copy(), self.shares, n)

    @property
    def steps(self) -> int:
        return len(self.ahead.counts)

    def shares(self, parts: int) -> Sequence[tuple[int, int]]:
        """The items, dealt so that all shares have nearly as many rows."""
        done = np.cumsum(self.lengths)
        ends = [int(np.searchsorted(done, done[-1] * k / parts)) + 1 for k in range(1, parts)]
        edges = sorted({0, *(min(e, len(done)) for e in ends), len(done)})
        return list(itertools.pairwise(edges))

    def gathered(self, array: np.ndarray) -> np.ndarray:
        """(T, B, n) to rows (N, n)."""
        return np.take(array.reshape(-1, array.shape[-1]), self.rows, axis=0)

    def read(self, which: str, array: np.ndarray) -> np.ndarray:
        """For each row, that "before" its step or that of its "item"."""
        found: np.ndarray = np.take(array, getattr(self, which), axis=0)
        return found

    def scattered(self, rows: np.ndarray, steps: int, batch: int) -> np.ndarray:
        """Rows (N, n) to (T, B, n), 0 where there are none."""
        found = np.zeros((steps, batch, rows.shape[-1]), rows.dtype)
        found.reshape(-1, rows.shape[-1])[self.rows] = rows
        return found

    def replaced(self, array: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """(B, n), with other rows for the sequences that have a step."""
        found = array.copy()
        found[self.items] = rows
        return found
