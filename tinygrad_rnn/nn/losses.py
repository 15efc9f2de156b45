"""Losses."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_rnn.autograd.ops.elementwise import where
from tinygrad_rnn.autograd.ops.index import take_along_axis, whole
from tinygrad_rnn.autograd.ops.reduce import log_softmax, sum
from tinygrad_rnn.autograd.ops.shape import expand_dims, squeeze
from tinygrad_rnn.autograd.tensor import Tensor


def cross_entropy(
    logits: Tensor, targets: Any, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """-log softmax(logits)[target], in nats.

    Args:
        logits: scores of V classes along the last axis.
        targets: the right class, 0..V-1, or `ignore_index` to leave a place out.
        reduction: "mean" over the places that count (NaN if none does), "sum", or "none".

    Shapes:
        logits (..., V), targets (...) integers  ->  () or, for "none", (...)

    Raises:
        IndexError: if a target is no class.
        TypeError: if the logits are no floating-point Tensor or the targets no integers.
        ValueError: if the shapes or the reduction do not fit.

    >>> import tinygrad_rnn as tg
    >>> round(tg.nn.cross_entropy(tg.zeros(2, 4), [1, 3]).item(), 4)
    1.3863
    """
    if not isinstance(logits, Tensor) or logits.dtype.kind != "f" or not logits.ndim:
        raise TypeError(
            f"cross_entropy: expected logits as a floating-point Tensor (..., V), got {logits!r}; "
            "convert with tg.Tensor(logits, dtype='float32')"
        )
    labels = whole(targets, "cross_entropy")
    classes = logits.shape[-1]
    if labels.shape != logits.shape[:-1]:
        raise ValueError(
            f"cross_entropy: expected targets of shape {logits.shape[:-1]} for logits of shape "
            f"{logits.shape}, got {labels.shape}; the classes are the last axis of the logits"
        )
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(
            f"cross_entropy: expected reduction 'mean', 'sum' or 'none', got {reduction!r}"
        )
    counts = labels != ignore_index
    wrong = counts & ((labels < 0) | (labels >= classes))
    if wrong.any():
        raise IndexError(
            f"cross_entropy: expected targets in 0..{classes - 1} or {ignore_index}, "
            f"got {labels[wrong].flat[0]}"
        )
    places = expand_dims(np.where(counts, labels, 0), -1)
    losses: Tensor = -squeeze(take_along_axis(log_softmax(logits), places, -1), -1)
    if not counts.all():
        losses = where(counts, losses, 0.0)
    if reduction == "none":
        return losses
    total: Tensor = sum(losses) if reduction == "sum" else sum(losses) / int(counts.sum())
    return total
