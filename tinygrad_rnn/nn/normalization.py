"""Normalisation of features."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_rnn.autograd.fused import fused
from tinygrad_rnn.autograd.graph import Array
from tinygrad_rnn.autograd.ops.elementwise import rsqrt
from tinygrad_rnn.autograd.ops.reduce import mean
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.kernels.rows import normal
from tinygrad_rnn.nn.losses import compiled
from tinygrad_rnn.nn.module import Module, Parameter, check_dtype, check_sizes


def _forward(x: np.ndarray, weight: Any, bias: Any, *, eps: float) -> tuple[np.ndarray, Any]:
    width = x.shape[-1]
    w = np.ones(width, x.dtype) if weight is None else weight
    b = np.zeros(width, x.dtype) if bias is None else bias
    y, states = normal.normalise(x.reshape(-1, width), w, b, eps)
    return y.reshape(x.shape), (x, w, states)


def _backward(saved: Any, g: np.ndarray) -> tuple[np.ndarray, ...]:
    x, w, states = saved
    d_x, *others = normal.differentiate(x.reshape(-1, len(w)), w, states, g.reshape(-1, len(w)))
    return d_x.reshape(x.shape), *others


@fused(_forward, _backward)
def normalised(x: Array, weight: Array | None, bias: Array | None, *, eps: float) -> Array:
    """`layer_norm`."""
    x = x - mean(x, axis=-1, keepdims=True)
    y = x * rsqrt(mean(x * x, axis=-1, keepdims=True) + eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def layer_norm(
    x: Array, weight: Array | None = None, bias: Array | None = None, eps: float = 1e-5
) -> Any:
    """w (x - μ) / √(σ² + ε) + b with the mean μ and the variance σ² of each row.

    Shapes:
        x (..., H), weight and bias (H,)  ->  (..., H)

    Raises:
        ValueError: if the weight or the bias does not fit x.

    Ba, Kiros & Hinton (2016), Layer Normalization, §3.

    >>> import tinygrad_rnn as tg
    >>> tg.nn.layer_norm(tg.Tensor([[1.0, 3.0]]), eps=0.0)
    Tensor([[-1.,  1.]], dtype=float32)
    """
    for name, p in {"weight": weight, "bias": bias}.items():
        if p is not None and p.shape != x.shape[-1:]:
            raise ValueError(
                f"layer_norm: expected {name} of shape {x.shape[-1:]} for x of shape {x.shape}, "
                f"got {p.shape}; rows are normalised along the last axis"
            )
    op = compiled(normalised, normal.KERNELS, (x, weight, bias))
    return (op if x.shape[-1] else normalised.definition)(x, weight, bias, eps=eps)


class LayerNorm(Module):
    """`layer_norm` with a weight and a bias that are learnt.

    Args:
        normalized_shape: features of a row, H.
        eps: ε, added to the variance.
        elementwise_affine: whether weight and bias are there.
        bias: whether the bias is there.

    Shapes:
        x (..., H)  ->  (..., H);  weight, bias (H,), ones and zeros at first

    Raises:
        ValueError: if the last axis of x is not H.
        TypeError: if x has another dtype than the weights.

    >>> import tinygrad_rnn as tg
    >>> tg.nn.LayerNorm(4)(tg.randn(2, 3, 4)).shape
    (2, 3, 4)
    """

    def __init__(
        self,
        normalized_shape: int,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        dtype: Any = np.float32,
    ) -> None:
        check_sizes("LayerNorm", 0, normalized_shape=normalized_shape)
        self.normalized_shape, self.eps = normalized_shape, eps
        self.weight: Parameter | None = None
        self.bias: Parameter | None = None
        if elementwise_affine:
            self.weight = Parameter(np.ones(normalized_shape, dtype))
            self.bias = Parameter(np.zeros(normalized_shape, dtype)) if bias else None

    def __call__(self, x: Tensor) -> Tensor:
        if self.weight is not None:
            check_dtype("LayerNorm", "x", x, self.weight.dtype)
        if x.shape[-1:] != (self.normalized_shape,):
            raise ValueError(
                f"LayerNorm: expected x of shape (..., {self.normalized_shape}), got {x.shape}"
            )
        output: Tensor = layer_norm(x, self.weight, self.bias, self.eps)
        return output

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, bias={self.bias is not None}"
