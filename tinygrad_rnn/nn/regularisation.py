"""Regularisation outside the recurrence: what is dropped for a whole sequence, and penalties."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_rnn.autograd.generator import default_rng
from tinygrad_rnn.autograd.graph import Array, unwrap
from tinygrad_rnn.autograd.ops.elementwise import square
from tinygrad_rnn.autograd.ops.index import whole
from tinygrad_rnn.autograd.ops.reduce import sum
from tinygrad_rnn.nn.layers import Embedding, check_share, dropout
from tinygrad_rnn.nn.module import Module
from tinygrad_rnn.nn.sequences import sequence_mask, within

Rng = np.random.Generator | None


class LockedDropout(Module):
    """Dropout that drops the same features at every step of a sequence.

    Args:
        p: the share of features that are dropped, in [0, 1), anew for each sequence.
        batch_first: whether x is (B, T, n).
        rng: draws what is dropped, in training; None for the default generator.

    Shapes:
        x (T, B, n)  ->  (T, B, n)

    Raises:
        ValueError: if p is outside [0, 1), or x has other axes.

    Gal & Ghahramani (2016), A Theoretically Grounded Application of Dropout in Recurrent Neural
    Networks, §4.1.

    >>> import tinygrad_rnn as tg
    >>> y = LockedDropout(0.5)(tg.ones(7, 2, 3)).numpy()
    >>> bool((y == y[0]).all())
    True
    """

    def __init__(self, p: float = 0.5, *, batch_first: bool = False, rng: Rng = None) -> None:
        self.p, self.batch_first, self.rng = check_share("LockedDropout", "p", p), batch_first, rng

    def __call__(self, x: Array) -> Any:
        if x.ndim != 3:
            raise ValueError(
                f"LockedDropout: expected x of shape (T, B, n), got {x.shape}; "
                "for one step use nn.Dropout"
            )
        if not (self.training and self.p):
            return x
        shape = (x.shape[0], 1, x.shape[2]) if self.batch_first else (1, *x.shape[1:])
        return x * dropout(np.ones(shape, x.dtype), self.p, rng=self.rng)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class EmbeddingDropout(Module):
    """Drops words: their whole rows of the embedding, wherever they occur in the batch.

    Args:
        embedding: whose rows are dropped; its parameters are this module's.
        p: the share of the V words that are dropped in a call, in [0, 1); the others are scaled
            by 1 / (1 - p).
        rng: draws what is dropped, in training; None for the default generator.

    Shapes:
        ids (...) integers in 0..V-1  ->  (..., E)

    Raises:
        ValueError: if p is outside [0, 1).
        IndexError, TypeError: as `Embedding`.

    Gal & Ghahramani (2016), A Theoretically Grounded Application of Dropout in Recurrent Neural
    Networks, §4.2; Merity, Keskar & Socher (2018), Regularizing and Optimizing LSTM Language
    Models, §4.3.

    >>> import tinygrad_rnn as tg
    >>> layer = EmbeddingDropout(tg.nn.Embedding(10, 4), 0.1)
    >>> layer([[1, 2, 3]]).shape
    (1, 3, 4)
    """

    def __init__(self, embedding: Embedding, p: float = 0.1, *, rng: Rng = None) -> None:
        self.embedding, self.p = embedding, check_share("EmbeddingDropout", "p", p)
        self.rng = rng

    def __call__(self, ids: Any) -> Any:
        rows = self.embedding(ids)
        if not (self.training and self.p):
            return rows
        words = np.ones(self.embedding.weight.shape[0], rows.dtype)
        return rows * dropout(words, self.p, rng=self.rng)[np.asarray(unwrap(ids))][..., None]

    def extra_repr(self) -> str:
        return f"p={self.p}"


class WordDropout(Module):
    """Replaces ids, each by itself, with the id of an unknown word.

    Args:
        p: the share of places that are replaced, in [0, 1).
        unknown: the id that they get.
        rng: draws which, in training; None for the default generator.

    Shapes:
        ids (...) integers  ->  the same

    Raises:
        ValueError: if p is outside [0, 1).
        TypeError: if the ids are no integers.

    Iyyer, Manjunatha, Boyd-Graber & Daumé (2015), Deep Unordered Composition Rivals Syntactic
    Methods for Text Classification, §3.1, which leaves the words out.

    >>> WordDropout(0.5, unknown=0).eval()([3, 4]).tolist()
    [3, 4]
    """

    def __init__(self, p: float, unknown: int, *, rng: Rng = None) -> None:
        self.p, self.unknown, self.rng = check_share("WordDropout", "p", p), unknown, rng

    def __call__(self, ids: Any) -> np.ndarray:
        words = whole(ids, "WordDropout")
        if not (self.training and self.p):
            return words
        return np.where(default_rng(self.rng).random(words.shape) < self.p, self.unknown, words)

    def extra_repr(self) -> str:
        return f"p={self.p}, unknown={self.unknown}"


def _mean_square(x: Array, alpha: float, lengths: Any) -> Any:
    """alpha·mean x² over the steps within the lengths; 0 if there are none."""
    count = x.size
    if lengths is not None:
        x = within(x, lengths)
        count = int(sequence_mask(lengths, len(x)).sum()) * x.shape[-1]
    return sum(square(x)) * (alpha / max(count, 1))


def activation_penalty(output: Array, alpha: float = 2.0, lengths: Any = None) -> Any:
    """alpha·mean h², added to the loss, keeps activations small (AR).

    Args:
        output: a recurrent layer's, after its dropout.
        lengths: (B,) integers in 0..T: later steps do not count.

    Shapes:
        output (T, B, H)  ->  ()

    Merity, Keskar & Socher (2018), Regularizing and Optimizing LSTM Language Models, §4.6, with the
    mean of squares for the norm.

    >>> import tinygrad_rnn as tg
    >>> activation_penalty(tg.full((5, 2, 3), 2.0), alpha=0.5).item()
    2.0
    """
    return _mean_square(output, alpha, lengths)


def temporal_activation_penalty(output: Array, beta: float = 1.0, lengths: Any = None) -> Any:
    """beta·mean (h_{t+1} - h_t)², added to the loss, keeps changes small (TAR).

    Args:
        output: a recurrent layer's, before its dropout.
        lengths: as of `activation_penalty`.

    Shapes:
        output (T, B, H)  ->  ()

    Merity, Keskar & Socher (2018), Regularizing and Optimizing LSTM Language Models, §4.6, with the
    mean of squares for the norm.

    >>> import tinygrad_rnn as tg
    >>> temporal_activation_penalty(tg.ones(5, 2, 3)).item()
    0.0
    """
    fewer = None if lengths is None else np.maximum(np.asarray(lengths) - 1, 0)
    return _mean_square(output[1:] - output[:-1], beta, fewer)
