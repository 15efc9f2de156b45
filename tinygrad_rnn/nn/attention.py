"""Attention: a weighted mean of values, by how well their keys fit a query."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_rnn.autograd.graph import Array, shape_of
from tinygrad_rnn.autograd.ops.elementwise import tanh, where
from tinygrad_rnn.autograd.ops.reduce import softmax
from tinygrad_rnn.autograd.ops.shape import expand_dims, squeeze, swapaxes
from tinygrad_rnn.nn.layers import Linear
from tinygrad_rnn.nn.module import Module
from tinygrad_rnn.nn.sequences import sequence_mask

Shape = tuple[int, ...]


def masked_softmax(scores: Array, mask: Any) -> Any:
    """softmax along the last axis over what the mask marks, 0 elsewhere; a row with nothing marked
    is 0.

    Shapes:
        scores (..., S), mask bool that broadcasts to them  ->  (..., S)

    >>> import tinygrad_rnn as tg
    >>> masked_softmax(tg.zeros(2, 3), [[True, True, False], [False, False, False]]).tolist()
    [[0.5, 0.5, 0.0], [0.0, 0.0, 0.0]]
    """
    mask = np.asarray(mask)
    if mask.dtype != bool:
        raise TypeError(
            f"masked_softmax: expected a mask of bool, true where it counts, got {mask.dtype}; "
            "compare, for example mask > 0"
        )
    low = float(np.finfo(scores.dtype).min) / 2  # finite, so that no row is without a maximum
    return where(mask, softmax(where(mask, scores, low)), 0.0)


class _Attention(Module):
    """What the three have in common: everything but the scores."""

    def __init__(self, batch_first: bool = False) -> None:
        self.batch_first = batch_first

    def _scores(self, query: Array, keys: Array) -> Any:
        """query (B, T, Q), keys (B, S, K)  ->  (B, T, S)"""
        raise NotImplementedError

    def __call__(
        self,
        query: Array,
        keys: Array,
        values: Array | None = None,
        lengths: Any = None,
        mask: Any = None,
        return_weights: bool = False,
    ) -> Any:
        values, time = keys if values is None else values, int(self.batch_first)
        one = self._is_one(shape_of(query), shape_of(keys), shape_of(values))
        q, k, v = map(self._turned, (expand_dims(query, time) if one else query, keys, values))
        seen = self._seen(lengths, mask, (*q.shape[:2], k.shape[1]))
        if seen is not None:  # what nobody may see may be NaN
            used = seen.any(1)[..., None]
            k, v = where(used, k, 0.0), where(used, v, 0.0)
        scores = self._scores(q, k)
        weights = softmax(scores) if seen is None else masked_softmax(scores, seen)
        found = [self._turned(weights @ v), self._turned(weights)]
        found = [squeeze(a, time) for a in found] if one else found
        return tuple(found) if return_weights else found[0]

    def _turned(self, x: Any) -> Any:
        """From this attention's layout to (B, T, ...), or back."""
        return x if self.batch_first else swapaxes(x, 0, 1)

    def _seen(self, lengths: Any, mask: Any, shape: tuple[int, int, int]) -> Any:
        """Which keys each query may see, (B, T, S); None for all."""
        if lengths is None and mask is None:
            return None
        seen = np.ones(shape, bool)
        if lengths is not None:
            seen &= sequence_mask(lengths, shape[2]).T[:, None]
        if mask is not None:
            array, full = np.asarray(mask), self._turned(seen)
            if array.dtype != bool or array.shape not in (full.shape, (shape[0], shape[2])):
                raise ValueError(
                    f"{type(self).__name__}: expected a mask of bool, true where a key may be seen,"
                    f" (B, S) or {full.shape}, got {array.dtype} of shape {array.shape}"
                )
            seen &= array[:, None] if array.ndim == 2 else self._turned(array)
        return seen

    def _is_one(self, query: Shape, keys: Shape, values: Shape) -> bool:
        """Whether there is one query for each sequence, (B, Q); raise unless the shapes fit."""
        one, batch = len(query) == 2, int(not self.batch_first)
        fits = len(query) in (2, 3) and len(keys) == len(values) == 3 and keys[:2] == values[:2]
        if not fits or keys[batch] != query[0 if one else batch]:
            time, axes = ("B, T", "B, S") if self.batch_first else ("T, B", "S, B")
            raise ValueError(
                f"{type(self).__name__}: expected a query (B, Q) or ({time}, Q), keys ({axes}, K) "
                f"and values ({axes}, V), got {query}, {keys} and {values}; for the other layout "
                f"pass batch_first={not self.batch_first}"
            )
        return one

    def extra_repr(self) -> str:
        return "batch_first=True" if self.batch_first else ""


class DotAttention(_Attention):
    """Attention by the product of query and key.

        a_s = softmax_s(scale·qᵀ k_s);  context = Σ_s a_s v_s

    Args:
        scale: a factor of the scores; 1/√Q keeps their variance.
        batch_first: whether the batch is the first axis of all inputs and outputs.

    Called with the query, keys, values (None: the keys), lengths (B,) of the keys, a mask (true
    where a key may be seen) and return_weights. A query that may see no key gets 0.

    Shapes:
        query (B, Q) or (T, B, Q); keys (S, B, Q); values (S, B, V)
        mask (B, S) or (T, B, S)  ->  context (B, V) or (T, B, V)
        and, with return_weights, the weights (B, S) or (T, B, S)
        if batch_first: (B, T, Q), (B, S, Q), (B, S, V), (B, T, S)  ->  (B, T, V), (B, T, S)

    Raises:
        ValueError: if shapes, lengths or mask do not fit.

    Luong, Pham & Manning (2015), Effective Approaches to Attention-based Neural Machine
    Translation, §3.1, eq. 7 and 8.

    >>> import tinygrad_rnn as tg
    >>> context, weights = tg.nn.DotAttention()(
    ...     tg.zeros(2, 4), tg.zeros(5, 2, 4), lengths=[4, 0], return_weights=True)
    >>> context.shape, weights.tolist()
    ((2, 4), [[0.25, 0.25, 0.25, 0.25, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0]])
    """

    def __init__(self, *, scale: float = 1.0, batch_first: bool = False) -> None:
        super().__init__(batch_first)
        self.scale = scale

    def _scores(self, query: Array, keys: Array) -> Any:
        widths = query.shape[-1], keys.shape[-1]
        if widths[0] != widths[1]:
            text = "DotAttention: expected a query and keys of one width, got"
            raise ValueError(f"{text} {widths[0]} and {widths[1]}; use GeneralAttention")
        return query * self.scale @ swapaxes(keys, 1, 2)


class GeneralAttention(_Attention):
    """Attention by a bilinear form of query and key.

        a_s = softmax_s((W q)ᵀ k_s);  context = Σ_s a_s v_s

    Args:
        query_size, key_size: features of a query, Q, and of a key, K.
        batch_first, and the call: as of `DotAttention`.
        options: dtype and rng, as of `Linear`.

    Shapes:
        as of `DotAttention`, but keys (S, B, K);  query.weight (K, Q)

    Raises:
        ValueError, TypeError: as `DotAttention` and `Linear`.

    Luong, Pham & Manning (2015), Effective Approaches to Attention-based Neural Machine
    Translation, §3.1, eq. 8.

    >>> import tinygrad_rnn as tg
    >>> tg.nn.GeneralAttention(3, 4)(tg.zeros(6, 2, 3), tg.zeros(5, 2, 4)).shape
    (6, 2, 4)
    """

    def __init__(
        self, query_size: int, key_size: int, *, batch_first: bool = False, **options: Any
    ) -> None:
        super().__init__(batch_first)
        self.query = Linear(query_size, key_size, bias=False, **options)

    def _scores(self, query: Array, keys: Array) -> Any:
        return self.query(query) @ swapaxes(keys, 1, 2)


class AdditiveAttention(_Attention):
    """Attention by a layer that reads query and key.

        a_s = softmax_s(vᵀ tanh(W q + U k_s));  context = Σ_s a_s v_s

    Args:
        query_size, key_size: features of a query, Q, and of a key, K.
        hidden_size: units of the layer, A.
        batch_first, and the call: as of `DotAttention`.
        options: dtype and rng, as of `Linear`.

    Shapes:
        as of `DotAttention`, but keys (S, B, K)
        query.weight (A, Q), key.weight (A, K), score.weight (1, A)

    Raises:
        ValueError, TypeError: as `DotAttention` and `Linear`.

    Bahdanau, Cho & Bengio (2015), Neural Machine Translation by Jointly Learning to Align and
    Translate, §3.1 and appendix A.1.2.

    >>> import tinygrad_rnn as tg
    >>> tg.nn.AdditiveAttention(3, 4, 8)(tg.zeros(2, 3), tg.zeros(5, 2, 4)).shape
    (2, 4)
    """

    def __init__(
        self,
        query_size: int,
        key_size: int,
        hidden_size: int,
        *,
        batch_first: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(batch_first)
        self.query = Linear(query_size, hidden_size, bias=False, **options)
        self.key = Linear(key_size, hidden_size, bias=False, **options)
        self.score = Linear(hidden_size, 1, bias=False, **options)

    def _scores(self, query: Array, keys: Array) -> Any:
        units = tanh(expand_dims(self.query(query), 2) + expand_dims(self.key(keys), 1))
        return squeeze(self.score(units), -1)  # of (B, T, S, 1)
