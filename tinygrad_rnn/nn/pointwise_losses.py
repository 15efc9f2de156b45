"""Losses made of a few ops: of numbers, of log-probabilities, of margins."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_rnn.autograd.graph import Array, unwrap
from tinygrad_rnn.autograd.ops.activation import relu, softplus
from tinygrad_rnn.autograd.ops.elementwise import abs, where
from tinygrad_rnn.autograd.ops.index import take_along_axis
from tinygrad_rnn.autograd.ops.reduce import mean, sum
from tinygrad_rnn.autograd.ops.shape import expand_dims, squeeze
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.nn.losses import check_floats, check_reduction, classes_of


def _reduced(losses: Array, reduction: str) -> Tensor:
    reduced: Tensor = losses
    if reduction != "none":
        reduced = (sum if reduction == "sum" else mean)(losses)
    return reduced


def _pair(where: str, input: Any, target: Any, reduction: str) -> Array:
    """The target as an array or Tensor of the input's dtype; both checked."""
    check_reduction(where, reduction)
    if not isinstance(input, Tensor) or input.dtype.kind != "f":
        raise TypeError(f"{where}: expected input as a floating-point Tensor, got {input!r}")
    if not isinstance(target, Tensor):
        target = np.asarray(target)
    if target.shape != input.shape:
        raise ValueError(
            f"{where}: expected a target of the input's shape {input.shape}, got {target.shape}"
        )
    return target if target.dtype == input.dtype else target.astype(input.dtype)


def mse_loss(input: Tensor, target: Any, reduction: str = "mean") -> Tensor:
    """(input - target)², the squared error.

    Args:
        reduction: "mean", "sum", or "none".

    Shapes:
        input and target (...)  ->  () or, for "none", (...)

    Raises:
        TypeError: if the input is no floating-point Tensor.
        ValueError: if the shapes differ or the reduction is unknown.

    >>> import tinygrad_rnn as tg
    >>> tg.nn.mse_loss(tg.Tensor([1.0, 4.0]), [1.0, 2.0]).item()
    2.0
    """
    difference = input - _pair("mse_loss", input, target, reduction)
    return _reduced(difference * difference, reduction)


def l1_loss(input: Tensor, target: Any, reduction: str = "mean") -> Tensor:
    """|input - target|, the absolute error; its sub-gradient at 0 is 0.

    Args, shapes and errors as `mse_loss`.

    >>> import tinygrad_rnn as tg
    >>> tg.nn.l1_loss(tg.Tensor([1.0, 4.0]), [1.0, 2.0]).item()
    1.0
    """
    return _reduced(abs(input - _pair("l1_loss", input, target, reduction)), reduction)


def _factors(name: str, value: Any, input: Tensor) -> np.ndarray:
    """What multiplies each entry of the input, in its dtype; or raise."""
    try:
        return np.broadcast_to(np.asarray(unwrap(value), input.dtype), input.shape)
    except ValueError:
        raise ValueError(
            f"binary_cross_entropy_with_logits: expected {name} to fit an input of shape "
            f"{input.shape}, got {np.shape(value)}"
        ) from None


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Any,
    weight: Any = None,
    reduction: str = "mean",
    pos_weight: Any = None,
) -> Tensor:
    """-w (v y log σ(x) + (1 - y) log(1 - σ(x))), in nats.

    Args:
        input: x.
        target: y, in [0, 1].
        weight: w, broadcast to the input; by default 1.
        pos_weight: v, broadcast to the input; by default 1.

    Reduction, shapes and errors as `mse_loss`.

    >>> import tinygrad_rnn as tg
    >>> loss = tg.nn.binary_cross_entropy_with_logits(tg.zeros(2), [0.0, 1.0])
    >>> round(loss.item(), 4)
    0.6931
    """
    y = _pair("binary_cross_entropy_with_logits", input, target, reduction)
    near = y if pos_weight is None else y * _factors("pos_weight", pos_weight, input)
    losses = near * softplus(-input) + (1.0 - y) * softplus(input)
    losses = losses if weight is None else losses * _factors("weight", weight, input)
    return _reduced(losses, reduction)


def nll_loss(
    input: Tensor,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """-w_t input_t, the loss of the right classes t, of log-probabilities.

    Args:
        input: log-probabilities of V classes along the last axis.
        target, weight, ignore_index, reduction: as `cross_entropy`.

    Shapes:
        input (..., V), target (...) integers  ->  () or, for "none", (...)

    Raises:
        IndexError, TypeError, ValueError: as `cross_entropy`.

    >>> import tinygrad_rnn as tg
    >>> tg.nn.nll_loss(tg.Tensor([[-1.0, -2.0]]), [1]).item()
    2.0
    """
    check_floats("nll_loss", "input", input, "(..., V)")
    classes = classes_of(
        "nll_loss", target, input.shape, ignore_index=ignore_index, reduction=reduction,
        weight=weight, dtype=input.dtype,
    )  # fmt: skip
    places, weights = np.maximum(classes.labels, 0), classes.recipe.weight
    losses = -squeeze(take_along_axis(input, expand_dims(places, -1), -1), -1)
    losses = losses if weights is None else weights[places] * losses
    reduced: Tensor = classes.reduced(where(classes.counts, losses, 0.0))
    return reduced


def multi_margin_loss(
    input: Tensor,
    target: Any,
    p: int = 1,
    margin: float = 1.0,
    weight: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """Σ_v≠t w_t max(0, margin - input_t + input_v)ᵖ / V, the hinge loss of several classes.

    Args:
        input: scores of V classes along the last axis.
        target: the right class t, 0..V-1.
        p: 1 or 2.
        weight: w of each class, (V,); by default all are 1.
        reduction: "mean" over the places, "sum", or "none".

    Shapes:
        input (..., V), target (...) integers  ->  () or, for "none", (...)

    Raises:
        IndexError, TypeError, ValueError: as `cross_entropy`, and if p is neither 1 nor 2.

    Crammer & Singer (2001), On the Algorithmic Implementation of Multiclass Kernel-based Vector
    Machines, §3, has the maximum where this has the sum.

    >>> import tinygrad_rnn as tg
    >>> tg.nn.multi_margin_loss(tg.Tensor([[1.0, 0.5]]), [0]).item()
    0.25
    """
    check_floats("multi_margin_loss", "input", input, "(..., V)")
    if p not in (1, 2):
        raise ValueError(f"multi_margin_loss: expected p = 1 or 2, got {p}")
    labels, recipe, _ = classes_of(
        "multi_margin_loss", target, input.shape, ignore_index=None,
        reduction=reduction, weight=weight, dtype=input.dtype,
    )  # fmt: skip
    places = expand_dims(labels, -1)
    others = np.arange(recipe.classes) != places
    hinge = relu(margin - take_along_axis(input, places, -1) + input)
    losses = sum(where(others, hinge if p == 1 else hinge * hinge, 0.0), -1) / recipe.classes
    return _reduced(losses if weight is None else losses * recipe.of_targets(labels), reduction)


def hinge_embedding_loss(
    input: Tensor, target: Any, margin: float = 1.0, reduction: str = "mean"
) -> Tensor:
    """input where the target is 1, max(0, margin - input) where it is -1.

    Args:
        input: distances.
        target: 1 for what belongs together, -1 for what does not.

    Reduction, shapes and errors as `mse_loss`, and a ValueError for another target.

    >>> import tinygrad_rnn as tg
    >>> tg.nn.hinge_embedding_loss(tg.Tensor([0.5, 0.25]), [1, -1], reduction="none")
    Tensor([0.5 , 0.75], dtype=float32)
    """
    y = np.asarray(_pair("hinge_embedding_loss", input, target, reduction))
    if not np.isin(y, (-1, 1)).all():
        raise ValueError("hinge_embedding_loss: expected targets of 1 or -1")
    return _reduced(where(y > 0, input, relu(margin - input)), reduction)
