"""Losses over classes: the softmax cross-entropy of logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.autograd.fused import fused
from tinygrad_rnn.autograd.graph import Array, unwrap
from tinygrad_rnn.autograd.ops.elementwise import where
from tinygrad_rnn.autograd.ops.index import take_along_axis, whole
from tinygrad_rnn.autograd.ops.reduce import log_softmax, sum
from tinygrad_rnn.autograd.ops.shape import expand_dims, squeeze
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.kernels.rows import entropy
from tinygrad_rnn.kernels.rows.code import Kernels
from tinygrad_rnn.kernels.rows.entropy import Recipe

REDUCTIONS = ("mean", "sum", "none")


def check_reduction(where: str, reduction: str) -> None:
    """Raise unless a reduction is known."""
    if reduction not in REDUCTIONS:
        raise ValueError(f"{where}: expected reduction 'mean', 'sum' or 'none', got {reduction!r}")


def check_floats(where: str, name: str, value: Any, shape: str) -> None:
    """Raise unless a value is a floating-point Tensor of one axis at least."""
    if not isinstance(value, Tensor) or value.dtype.kind != "f" or not value.ndim:
        raise TypeError(
            f"{where}: expected {name} as a floating-point Tensor {shape}, got {value!r}; "
            f"convert with tg.Tensor({name}, dtype='float32')"
        )


class Classes(NamedTuple):
    """The targets of a loss over classes, and which loss it is."""

    labels: np.ndarray  # of 64 bits, -1 where a place is left out
    recipe: Recipe
    reduction: str

    @property
    def counts(self) -> np.ndarray:
        """Whether a place is not left out."""
        found: np.ndarray = self.labels >= 0
        return found

    @property
    def size(self) -> Any:
        """What a mean divides by: the weights of the targets that count."""
        counts = self.counts
        if self.recipe.weight is None:
            return int(counts.sum())
        return np.sum(self.recipe.weight[self.labels[counts]])

    def reduced(self, losses: Array) -> Array:
        """The losses of all places, reduced as asked."""
        if self.reduction == "none":
            return losses
        total = sum(losses)
        return total if self.reduction == "sum" else total / self.size

    def worth(self, g: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """The cotangents of the places' losses, (N,), from that of what they were reduced to."""
        with np.errstate(all="ignore"):
            each = g / self.size if self.reduction == "mean" else g
        return np.broadcast_to(each, self.labels.shape).reshape(-1).astype(dtype)

    def finished(self, losses: np.ndarray) -> np.ndarray:
        """`reduced`, of the places' losses in a row."""
        with np.errstate(invalid="ignore"):
            return np.asarray(self.reduced(losses.reshape(self.labels.shape)), losses.dtype)


def classes_of(
    name: str,
    targets: Any,
    shape: tuple[int, ...],
    *,
    ignore_index: int | None,
    reduction: str,
    smoothing: float = 0.0,
    weight: Any = None,
    dtype: Any = None,
) -> Classes:
    """The targets of logits of a shape (..., V), checked."""
    labels, count = whole(targets, name), shape[-1]
    if labels.shape != shape[:-1]:
        raise ValueError(
            f"{name}: expected targets of shape {shape[:-1]} for logits of shape "
            f"{shape}, got {labels.shape}; the classes are the last axis of the logits"
        )
    check_reduction(name, reduction)
    if not 0 <= smoothing <= 1:
        raise ValueError(f"{name}: expected label_smoothing in [0, 1], got {smoothing}")
    counts = labels != ignore_index
    wrong = counts & ((labels < 0) | (labels >= count))
    if wrong.any():
        raise IndexError(
            f"{name}: expected targets in 0..{count - 1}"
            f"{'' if ignore_index is None else f' or {ignore_index}'}, got {labels[wrong].flat[0]}"
        )
    weights = None if weight is None else np.array(unwrap(weight), dtype)
    if weights is not None and weights.shape != (count,):
        raise ValueError(
            f"{name}: expected a weight for each of {count} classes, got shape {weights.shape}"
        )
    labels = np.where(counts, labels, -1).astype(np.int64, copy=False)
    return Classes(labels, Recipe(float(smoothing), count, weights), reduction)


def compiled(op: Callable[..., Any], kernels: Kernels, inputs: Sequence[Any]) -> Callable[..., Any]:
    """A fused op, or its definition where its kernels do not apply: they take arrays of one
    floating-point dtype, and no symbols of a trace."""
    arrays = [unwrap(v) for v in inputs if v is not None]
    plain = all(type(a) is np.ndarray and a.dtype is arrays[0].dtype for a in arrays)
    usable = plain and kernels.ready(arrays[0].dtype)
    return op if usable else op.definition  # type: ignore[attr-defined]


def _forward(logits: np.ndarray, *, classes: Classes) -> tuple[np.ndarray, Any]:
    rows, labels = logits.reshape(-1, logits.shape[-1]), classes.labels.reshape(-1)
    states = entropy.survey(rows, labels, classes.recipe)
    return classes.finished(classes.recipe.losses(states, labels)), (classes, logits, states)


def _backward(saved: Any, g: np.ndarray) -> list[np.ndarray]:
    classes, logits, states = saved
    rows, labels = logits.reshape(-1, logits.shape[-1]), classes.labels.reshape(-1)
    with np.errstate(invalid="ignore"):
        rates = classes.recipe.rates(states, labels, classes.worth(g, logits.dtype))
    return [entropy.differentiate(rows, labels, classes.recipe, rates).reshape(logits.shape)]


@fused(_forward, _backward)
def softmax_loss(logits: Array, *, classes: Classes) -> Array:
    """The cross-entropy, reduced."""
    labels, (smoothing, count, weight), _ = classes
    counts = classes.counts
    if not counts.all():
        logits = where(counts[..., None], logits, 0.0)
    places = np.maximum(labels, 0)
    scores = log_softmax(logits)
    losses = -squeeze(take_along_axis(scores, expand_dims(places, -1), -1), -1)
    if weight is not None:
        losses = weight[places] * losses
        scores = weight * scores
    if smoothing:
        losses = (1 - smoothing) * losses - smoothing / count * sum(scores, -1)
    if not counts.all():
        losses = where(counts, losses, 0.0)
    return classes.reduced(losses)


def cross_entropy(
    logits: Tensor,
    targets: Any,
    ignore_index: int = -100,
    reduction: str = "mean",
    *,
    weight: Any = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """-log softmax(logits)[target], in nats.

        loss = (1 - s) w_t (-log p_t) + s / V Σ_v w_v (-log p_v),  p = softmax(logits)

    Args:
        logits: scores of V classes along the last axis.
        targets: the right class t, 0..V-1, or `ignore_index` to leave a place out.
        reduction: "mean" over the places that count (by their w_t; NaN if none does), "sum", or
            "none".
        weight: w of each class, (V,); by default all are 1.
        label_smoothing: s, the share of a target that is spread over all classes, in [0, 1].

    Shapes:
        logits (..., V), targets (...) integers  ->  () or, for "none", (...)

    Raises:
        IndexError: if a target is no class.
        TypeError: if the logits are no floating-point Tensor or the targets no integers.
        ValueError: if the shapes, the smoothing or the reduction do not fit.

    Szegedy et al. (2016), Rethinking the Inception Architecture for Computer Vision, §7, for s.

    >>> import tinygrad_rnn as tg
    >>> round(tg.nn.cross_entropy(tg.zeros(2, 4), [1, 3]).item(), 4)
    1.3863
    """
    check_floats("cross_entropy", "logits", logits, "(..., V)")
    classes = classes_of(
        "cross_entropy", targets, logits.shape, ignore_index=ignore_index, reduction=reduction,
        smoothing=label_smoothing, weight=weight, dtype=logits.dtype,
    )  # fmt: skip
    usable = classes.recipe.classes > 0
    op = compiled(softmax_loss, entropy.KERNELS, [logits]) if usable else softmax_loss.definition
    loss: Tensor = op(logits, classes=classes)
    return loss
