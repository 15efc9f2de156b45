"""Activations: torch's names, stable forms."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from tinygrad_rnn.autograd.graph import Array
from tinygrad_rnn.autograd.op import primitive
from tinygrad_rnn.autograd.ops.elementwise import exp, expm1, maximum, where
from tinygrad_rnn.kernels import special


def floats(x: np.ndarray) -> np.ndarray:
    """x itself, or integers as float64."""
    x = np.asarray(x)
    return x if x.dtype.kind == "f" else x.astype(np.float64)


@primitive(x=lambda g, out: g * out * (1.0 - out))
def sigmoid(x: Array) -> Array:
    """σ(x) = 1 / (1 + e⁻ˣ), computed from e^-|x| so that neither tail overflows or is lost."""
    x = floats(x)
    e = np.exp(-np.abs(x))
    return np.where(np.greater_equal(x, 0), 1, e) / (1 + e)


@primitive(x=lambda g, x: g * sigmoid(x))
def softplus(x: Array) -> Array:
    """log(1 + eˣ) = max(x, 0) + log(1 + e^-|x|)."""
    x = floats(x)
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


@primitive(x=lambda g, x: g * sigmoid(-x))
def log_sigmoid(x: Array) -> Array:
    """log σ(x) = -softplus(-x)."""
    x = floats(x)
    return np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x)))


@primitive(x=lambda g, x: where(x > 0.0, g, 0.0))
def relu(x: Array) -> Array:
    """max(x, 0); the sub-gradient at 0 is 0 (as torch)."""
    return np.maximum(x, 0)


def leaky_relu(x: Array, negative_slope: float = 0.01) -> Array:
    """x where x > 0, else negative_slope · x, which is also the side taken at 0."""
    return where(x > 0.0, x, negative_slope * x)


def elu(x: Array, alpha: float = 1.0) -> Array:
    """x where x > 0, else α (eˣ - 1), which is also the side taken at 0.

    Clevert, Unterthiner & Hochreiter (2016), Fast and Accurate Deep Network Learning by ELUs, §3.
    """
    return where(x > 0.0, x, alpha * expm1(where(x > 0.0, 0.0, x)))


@primitive(x=lambda g, x, out: g * (sigmoid(x) + out * sigmoid(-x)))
def silu(x: Array) -> Array:
    """x σ(x) (Hendrycks & Gimpel 2016, Gaussian Error Linear Units, §2)."""
    x = np.maximum(floats(x), -2000)
    near, far = np.exp(np.clip(x, -50, 0)), np.exp(np.minimum(x + 50, 0))  # their product is tiny
    return x * near * far / (1 + np.exp(-np.abs(x)))


@primitive(x=lambda g, x: g * math.sqrt(0.5 / math.pi) * exp(-0.5 * x * x))
def normal_cdf(x: Array) -> Array:
    """Φ(x), the standard normal distribution function."""
    return special.normal_cdf(x)


def gelu(x: Array, approximate: Literal["none", "tanh"] = "none") -> Array:
    """x Φ(x), Φ the standard normal distribution function; "tanh" is its tanh approximation.

    Right to 4 units in the last place, but where Φ(x) is below the normal numbers: to 8 for
    x < -12.9 in float32, to 60 for x < -37.5 in float64.

    Hendrycks & Gimpel (2016), Gaussian Error Linear Units, §2.

    >>> import tinygrad_rnn as tg
    >>> tg.gelu(tg.Tensor([-1.0, 0.0, 1.0]))
    Tensor([-0.15865526,  0.        ,  0.8413448 ], dtype=float32)
    """
    if approximate == "none":
        return maximum(x, -40.0) * normal_cdf(x)  # Φ(-40) is 0
    if approximate == "tanh":
        return x * sigmoid(math.sqrt(8.0 / math.pi) * (x + 0.044715 * x * x * x))
    raise ValueError(f"gelu: expected approximate 'none' or 'tanh', got {approximate!r}; use one")
