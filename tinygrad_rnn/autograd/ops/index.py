"""Indexing and its adjoint, scatter-add: repeated indices add up."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.errors import axes_of
from tinygrad_rnn.autograd.graph import Array, shape_of, unwrap
from tinygrad_rnn.autograd.op import primitive
from tinygrad_rnn.kernels.scatter import scatter_rows


def readable(key: Any) -> Any:
    """An index as NumPy reads it, with a copy of every array or list, which may change later."""
    if type(key) in (slice, int):
        return key
    return tuple(map(_frozen, key)) if isinstance(key, tuple) else _frozen(key)


def _frozen(part: Any) -> Any:
    part = unwrap(part)
    if part is None or part is Ellipsis or isinstance(part, (slice, bool, int, np.generic)):
        return part
    if isinstance(part, (list, tuple)) and not len(part):
        return np.zeros(0, np.intp)
    return np.array(part) if np.ndim(part) else part


@primitive(a=lambda g, key, shape: scatter(g, key, shape))
def getitem(a: Array, key: Any) -> Array:
    """a[key]: basic slices, integer and boolean arrays, and mixtures, as NumPy."""
    return a[key]


@primitive(a=lambda g, key: getitem(g, key))
def scatter(a: Array, key: Any, shape: tuple[int, ...]) -> Array:
    """Zeros of `shape` with a added at [key]."""
    parts = key if isinstance(key, tuple) else (key,)
    repeats = any(isinstance(k, np.ndarray) and k.dtype != bool for k in parts)
    if repeats and parts[0] is key:
        return added_rows(a, key, 0, shape)
    out = np.zeros(shape, a.dtype)
    if repeats:
        np.add.at(out, key, a)
    else:
        out[key] = a
    return out


@primitive(a=lambda g, indices, axis, shape: untake(g, indices, axis, shape))
def take_(a: Array, indices: np.ndarray, axis: int) -> Array:
    """Slices along an axis, by number."""
    return np.take(a, indices, axis)


def added_rows(a: np.ndarray, indices: np.ndarray, axis: int, shape: tuple[int, ...]) -> np.ndarray:
    """Zeros of `shape` with slices added along an axis, by number."""
    axis %= len(shape)
    lead = np.moveaxis(a, range(axis, axis + indices.ndim), range(indices.ndim))
    rest = lead.shape[indices.ndim :]
    flat = lead.reshape(indices.size, math.prod(rest))
    rows = scatter_rows(flat, indices.ravel() % shape[axis], shape[axis])
    return np.moveaxis(rows.reshape(shape[axis], *rest), 0, axis)


@primitive(a=lambda g, indices, axis: take_(g, indices, axis))
def untake(a: Array, indices: np.ndarray, axis: int, shape: tuple[int, ...]) -> Array:
    """`added_rows`, as an op."""
    return added_rows(a, indices, axis, shape)


def whole(indices: Any, where: str) -> np.ndarray:
    """Indices as an integer array."""
    array = np.array(unwrap(indices))
    if array.size and array.dtype.kind not in "iu":
        raise TypeError(
            f"{where}: expected integer indices, got {array.dtype}; convert with .astype('int64')"
        )
    return array.astype(np.intp, copy=False)


def take(a: Array, indices: Any, axis: int | None = None) -> Array:
    """Slices along an axis, or elements of the flattened input, by number."""
    numbers = whole(indices, "take")
    if axis is None:
        return take_((a if hasattr(a, "reshape") else np.asarray(a)).reshape(-1), numbers, axis=0)
    return take_(a, numbers, axis)


def embedding(input: Any, weight: Array) -> Array:
    """Row `input[...]` of a table, for each id.

    Shapes:
        input (...) integers in 0..V-1; weight (V, E)  ->  (..., E)

    Raises:
        IndexError: if an id is outside 0..V-1.
        TypeError: if the ids are no integers.

    >>> import tinygrad_rnn as tg
    >>> tg.embedding([2, 0, 2], tg.eye(3)).shape
    (3, 3)
    """
    ids, rows = whole(input, "embedding"), shape_of(weight)[0]
    if ids.size and (ids.min() < 0 or ids.max() >= rows):
        first = ids[(ids < 0) | (ids >= rows)].flat[0]
        raise IndexError(
            f"embedding: expected ids in 0..{rows - 1}, got {first}; "
            "check the vocabulary, or map unknown symbols to an id of their own"
        )
    return take_(weight, ids, axis=0)


@primitive(arr=lambda g, indices, axis, shape: put_along_axis(g, indices, axis, shape))
def take_along_axis_(arr: Array, indices: np.ndarray, axis: int) -> Array:
    """One element for each index, along an axis."""
    return np.take_along_axis(arr, indices, axis)


@primitive(a=lambda g, indices, axis: take_along_axis_(g, indices, axis))
def put_along_axis(a: Array, indices: np.ndarray, axis: int, shape: tuple[int, ...]) -> Array:
    """Zeros of `shape` with elements added at the indices along an axis."""
    out = np.zeros(shape, a.dtype)
    place = list(np.ogrid[tuple(slice(n) for n in shape)])
    place[axis] = indices
    np.add.at(out, tuple(place), a)
    return out


def take_along_axis(arr: Array, indices: Any, axis: int | None = -1) -> Array:
    """One element for each index, along an axis; of the flattened input if it is None."""
    numbers = whole(indices, "take_along_axis")
    if axis is None:
        return take(arr, numbers)
    return take_along_axis_(arr, numbers, axis)


@primitive()
def argsort(a: Array, axis: int = -1) -> Array:
    """The indices that sort along an axis; equal elements keep their order; no gradient."""
    return np.argsort(a, axis=axis, kind="stable")


def sort(a: Array, axis: int = -1) -> Array:
    """Sorted along an axis; equal elements keep their order, and their gradients."""
    return take_along_axis(a, argsort(a, axis), axis)


@primitive()
def ranking(a: Array, axis: int) -> Array:
    """The indices that sort along an axis from the largest down, NaN first; ties in order."""
    last = a.shape[axis] - 1
    return np.flip(last - np.argsort(np.flip(a, axis), axis=axis, kind="stable"), axis)


def topk(input: Array, k: int, axis: int = -1, largest: bool = True) -> tuple[Array, Array]:
    """The k largest (or smallest) elements along an axis, in order, and their indices.

    Equal elements keep their order; NaN counts as large.

    >>> import tinygrad_rnn as tg
    >>> values, indices = tg.topk(tg.Tensor([3.0, 1.0, 2.0]), 2)
    >>> values, indices
    (Tensor([3., 2.], dtype=float32), Tensor([0, 2]))
    """
    (along,) = axes_of(axis, len(shape_of(input)), "topk")
    size = shape_of(input)[along]
    if not 0 <= k <= size:
        raise ValueError(f"topk: expected k in 0..{size}, got {k}; axis {axis} has no more")
    order = (ranking if largest else argsort)(input, along)
    indices = take_(order, np.arange(k), axis)
    return take_along_axis(input, indices, axis), indices


@primitive(m=lambda g, k: tril(g, k))
def tril(m: Array, k: int = 0) -> Array:
    """Zero above the k-th diagonal of the last two axes."""
    return np.tril(m, k)


@primitive(m=lambda g, k: triu(g, k))
def triu(m: Array, k: int = 0) -> Array:
    """Zero below the k-th diagonal of the last two axes."""
    return np.triu(m, k)
