"""Reductions and scans along axes. `max` and `min` share the gradient equally among ties."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.errors import axes_of
from tinygrad_rnn.autograd.graph import Array, shape_of
from tinygrad_rnn.autograd.op import primitive
from tinygrad_rnn.autograd.ops.activation import floats
from tinygrad_rnn.autograd.ops.elementwise import abs, astype, equal, exp, sqrt, square, where
from tinygrad_rnn.autograd.ops.shape import concatenate, flip, moveaxis, reshape

Axis = int | Sequence[int] | None
add_reduce: Any = np.add.reduce  # what a.sum() calls, without a detour
SMALL = 4096  # elements that are copied rather than viewed


@primitive(a=lambda g, shape, axis, keepdims: spanned(g, shape, axis, keepdims))
def sum(a: Array, axis: Axis = None, keepdims: bool = False) -> Array:
    """Sum over the given axes, or all."""
    along = tuple(axis) if type(axis) is list else axis
    return add_reduce(a, along, None, None, keepdims)


@primitive(a=lambda g, axis, keepdims: sum(g, axis, keepdims))
def spanned(a: Array, shape: tuple[int, ...], axis: Axis, keepdims: bool) -> Array:
    """What a reduction of `shape` gave, laid out along the reduced axes again."""
    if not keepdims and axis is not None:
        axes = axes_of(axis, len(shape), "reduce")
        a = a.reshape([1 if k in axes else n for k, n in enumerate(shape)])
    elif keepdims and axis is None:
        a = a.reshape(())
    if math.prod(shape) > SMALL:
        return np.broadcast_to(a, shape)
    out = np.empty(shape, a.dtype)  # a view costs more than so few elements
    out[...] = a
    return out


def count(shape: tuple[int, ...], axis: Axis) -> int:
    return math.prod(shape[k] for k in axes_of(axis, len(shape), "reduce"))


def mean(a: Array, axis: Axis = None, keepdims: bool = False) -> Array:
    """Mean over the given axes, or all."""
    return sum(a, axis=axis, keepdims=keepdims) / count(shape_of(a), axis)


def var(a: Array, axis: Axis = None, ddof: float = 0, keepdims: bool = False) -> Array:
    """Mean squared distance from the mean, over n - ddof."""
    total = sum(square(a - mean(a, axis, True)), axis=axis, keepdims=keepdims)
    return total / (count(shape_of(a), axis) - ddof)


def std(a: Array, axis: Axis = None, ddof: float = 0, keepdims: bool = False) -> Array:
    """Square root of `var`; its gradient is not finite where all elements are equal."""
    return sqrt(var(a, axis, ddof, keepdims))


def prod(a: Array, axis: Axis = None, keepdims: bool = False) -> Array:
    """Product over the given axes, or all; its gradient is right at zeros too.

    Pairs are multiplied in log₂ n rounds, so the rule of multiplication is the only one needed.
    """
    shape = shape_of(a)
    axes = axes_of(axis, len(shape), "prod")
    rest = [n for k, n in enumerate(shape) if k not in axes]
    if (dtype := np.asarray(a).dtype).kind in "biu":
        a = astype(a, np.result_type(dtype, np.uint64 if dtype.kind == "u" else np.int64))
    a = reshape(moveaxis(a, axes, range(len(axes))), (count(shape, axis), *rest))
    if a.shape[0] == 0:
        a = concatenate([a, np.ones((1, *rest), a.dtype)])
    while (n := a.shape[0]) > 1:
        pairs = a[: n - n % 2 : 2] * a[1::2]
        a = pairs if n % 2 == 0 else concatenate([pairs, a[n - 1 :]])
    kept = [1 if k in axes else n for k, n in enumerate(shape)]
    return reshape(a, kept if keepdims else rest)


def _shared(g: Array, a: Array, out: Array, axis: Axis, keepdims: bool) -> Array:
    """The rule of max and min: ties get equal shares; a NaN spoils all."""
    end = spanned(out, a.shape, axis, keepdims)
    ties = equal(a, end)
    shares = g / sum(astype(ties, g.dtype), axis=axis, keepdims=keepdims)
    shares = spanned(shares, a.shape, axis, keepdims)
    return where(ties, shares, where(equal(end, end), 0.0, shares))


@primitive(a=_shared)
def max(a: Array, axis: Axis = None, keepdims: bool = False) -> Array:
    """Largest element along the given axes; NaN wins."""
    return np.max(a, axis=tuple(axis) if type(axis) is list else axis, keepdims=keepdims)


@primitive(a=_shared)
def min(a: Array, axis: Axis = None, keepdims: bool = False) -> Array:
    """Smallest element along the given axes; NaN wins."""
    return np.min(a, axis=tuple(axis) if type(axis) is list else axis, keepdims=keepdims)


@primitive()
def argmax(a: Array, axis: int | None = None, keepdims: bool = False) -> Array:
    """Index of the first largest element; no gradient."""
    return np.argmax(a, axis=axis, keepdims=keepdims)


@primitive()
def argmin(a: Array, axis: int | None = None, keepdims: bool = False) -> Array:
    """Index of the first smallest element; no gradient."""
    return np.argmin(a, axis=axis, keepdims=keepdims)


@primitive(
    x=lambda g, x, out, axis, keepdims: (
        spanned(g / where(out == 0.0, 1.0, out), x.shape, axis, keepdims) * x
    )
)
def norm_(x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
    """√Σx²."""
    axes = axes_of(axis, np.ndim(x), "norm")
    return np.sqrt(np.sum(np.square(x), axis=axes, keepdims=keepdims))


def norm(
    x: Array, ord: float | str | None = None, axis: Axis = None, keepdims: bool = False
) -> Array:
    """Vector norm (Σ|x|^ord)^(1/ord) along an axis; by default √Σx² over all given axes.

    Args:
        ord: None or "fro" for √Σx², else a number other than 0, or ±inf; needs one axis then.

    The sub-gradient of √Σx² at 0 is 0.

    >>> import tinygrad_rnn as tg
    >>> tg.norm(tg.Tensor([3.0, 4.0])).item()
    5.0
    """
    axes = axes_of(axis, len(shape_of(x)), "norm")
    if ord is None or ord == "fro" or (ord == 2 and len(axes) == 1):
        return norm_(x, axis=axis, keepdims=keepdims)
    if len(axes) != 1 or isinstance(ord, str) or ord == 0:
        raise ValueError(
            f"norm: expected ord None, 'fro', or a number but 0 and one axis, got {ord!r} over "
            f"{len(axes)} axes; use reshape(-1) for a vector, np.linalg for other matrix norms"
        )
    size = abs(x)
    if ord in (math.inf, -math.inf):
        return (max if ord > 0 else min)(size, axis=axis, keepdims=keepdims)
    return sum(size if ord == 1 else size**ord, axis=axis, keepdims=keepdims) ** (1 / ord)


@primitive(
    a=lambda g, a, out, axis, keepdims: (
        spanned(g, a.shape, axis, keepdims)
        * exp(a - spanned(where(out == -math.inf, 0.0, out), a.shape, axis, keepdims))
    )
)
def logsumexp(a: Array, axis: Axis = None, keepdims: bool = False) -> Array:
    """log Σ eᵃ, without overflow."""
    axes = axes_of(axis, np.ndim(a), "logsumexp")
    a = floats(a)
    top = np.max(a, axis=axes, keepdims=True, initial=-math.inf)
    top = np.where(np.isfinite(top), top, 0)
    total = np.sum(np.exp(a - top), axis=axes, keepdims=keepdims)
    with np.errstate(divide="ignore"):
        return np.log(total) + top.reshape(np.shape(total))


@primitive(x=lambda g, out, axis: out * (g - sum(g * out, axis=axis, keepdims=True)))
def softmax(x: Array, axis: int = -1) -> Array:
    """eˣ / Σ eˣ along one axis."""
    x = floats(x)
    e = np.exp(x - np.max(x, axis=axis, keepdims=True, initial=-math.inf))
    e /= np.sum(e, axis=axis, keepdims=True)
    return e


@primitive(x=lambda g, out, axis: g - exp(out) * sum(g, axis=axis, keepdims=True))
def log_softmax(x: Array, axis: int = -1) -> Array:
    """x - log Σ eˣ along one axis."""
    x = floats(x)
    x = x - np.max(x, axis=axis, keepdims=True, initial=-math.inf)
    x -= np.log(np.maximum(np.sum(np.exp(x), axis=axis, keepdims=True), 1))
    return x


@primitive(a=lambda g, axis: flip(cumsum_(flip(g, axis), axis), axis))
def cumsum_(a: Array, axis: int) -> Array:
    """Sums of the first 1, 2, ... elements along one axis."""
    return np.add.accumulate(a, axis=axis)


def cumsum(a: Array, axis: int | None = None) -> Array:
    """Sums of the first 1, 2, ... elements along one axis, or of the flattened input."""
    return cumsum_(reshape(a, (-1,)), 0) if axis is None else cumsum_(a, axis)
