"""Reshaping, reordering, joining and splitting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.errors import axes_of
from tinygrad_rnn.autograd.graph import Array, Arrays, shape_of
from tinygrad_rnn.autograd.op import primitive
from tinygrad_rnn.autograd.ops.index import getitem, take

Axes = int | Sequence[int]


@primitive(a=lambda g, shape: reshape(g, shape))
def reshape(a: Array, shape: Axes) -> Array:
    """The same elements in another shape; one size may be -1."""
    return a.reshape(shape)


@primitive(
    a=lambda g, axes: transpose(
        g, None if axes is None else tuple(np.argsort(axes_of(axes, g.ndim, "transpose")))
    )
)
def transpose(a: Array, axes: Sequence[int] | None = None) -> Array:
    """Axes in the order `axes`, reversed by default."""
    return a.transpose(axes)


@primitive(array=lambda g: g)
def broadcast_to(array: Array, shape: Axes) -> Array:
    """Repeated to `shape` without a copy."""
    return np.broadcast_to(array, shape)


def moveaxis(a: Array, source: Axes, destination: Axes) -> Array:
    """Axes `source` at the places `destination`, the others in their order."""
    ndim = len(shape_of(a))
    sources, destinations = (list(axes_of(x, ndim, "moveaxis")) for x in (source, destination))
    if len(sources) != len(destinations):
        raise ValueError(
            f"moveaxis: expected a destination for each source, got {source} to {destination}; "
            "give two lists of one length"
        )
    order = [k for k in range(ndim) if k not in sources]
    for to, k in sorted(zip(destinations, sources, strict=True)):
        order.insert(to, k)
    return transpose(a, order)


def swapaxes(a: Array, axis1: int, axis2: int) -> Array:
    """Two axes exchanged."""
    order = list(range(len(shape_of(a))))
    i, j = axes_of((axis1, axis2), len(order), "swapaxes", repeated=True)
    order[i], order[j] = order[j], order[i]
    return transpose(a, order)


def squeeze(a: Array, axis: Axes | None = None) -> Array:
    """Without its axes of size 1, or without those given."""
    shape = shape_of(a)
    if axis is None:
        return reshape(a, [n for n in shape if n != 1])
    axes = axes_of(axis, len(shape), "squeeze")
    if any(shape[k] != 1 for k in axes):
        raise ValueError(
            f"squeeze: expected axes of size 1, got axis {axis} of {shape}; use reshape"
        )
    return reshape(a, [n for k, n in enumerate(shape) if k not in axes])


def expand_dims(a: Array, axis: Axes) -> Array:
    """With new axes of size 1 at the given places."""
    shape = shape_of(a)
    ndim = len(shape) + (1 if isinstance(axis, (int, np.integer)) else len(axis))
    places, sizes = axes_of(axis, ndim, "expand_dims"), iter(shape)
    return reshape(a, [1 if k in places else next(sizes) for k in range(ndim)])


def ravel(a: Array) -> Array:
    """One axis, in row-major order."""
    return reshape(a, (-1,))


@primitive(m=lambda g, axis: flip(g, axis))
def flip(m: Array, axis: Axes | None = None) -> Array:
    """Reversed along the given axes, or all."""
    return np.flip(m, axes_of(axis, m.ndim, "flip"))


@primitive(a=lambda g, shift, axis: roll(g, np.negative(shift), axis))
def roll(a: Array, shift: Any, axis: Any = None) -> Array:
    """Rotated along the given axes, or flattened and back."""
    return np.roll(a, shift, axis)


def _inside(g: Array, before: Sequence[int], shape: tuple[int, ...]) -> Array:
    return getitem(g, tuple(slice(b, b + n) for b, n in zip(before, shape, strict=True)))


@primitive(a=_inside)
def pad_(a: Array, before: Sequence[int], after: Sequence[int], value: float) -> Array:
    """With `value` around it."""
    return np.pad(a, list(zip(before, after, strict=True)), constant_values=value)


def pad(array: Array, pad_width: Any, mode: str = "constant", constant_values: float = 0) -> Array:
    """With a constant around it: pad_width is n, (before, after), or a pair for each axis."""
    if mode != "constant":
        raise ValueError(
            f"pad: expected mode 'constant', got {mode!r}; for others, index: x[..., indices]"
        )
    try:
        widths = np.broadcast_to(np.asarray(pad_width), (len(shape_of(array)), 2)).tolist()
    except ValueError:
        raise ValueError(
            f"pad: expected pad_width n, (before, after) or {len(shape_of(array))} such pairs, "
            f"got {pad_width!r}"
        ) from None
    return pad_(array, [w[0] for w in widths], [w[1] for w in widths], constant_values)


@primitive(arrays=lambda g, axis, cuts: split(g, cuts, axis))
def concatenate_(arrays: Arrays, axis: int, cuts: Sequence[int]) -> Array:
    """End to end along an axis; each begins where `cuts` says."""
    return np.concatenate(arrays, axis)


def concatenate(arrays: Sequence[Array], axis: int | None = 0) -> Array:
    """Arrays end to end along an axis; flattened first if it is None."""
    if axis is None:
        arrays, axis = [ravel(a) for a in arrays], 0
    sizes = [(*shape_of(a)[axis:], 0)[0] for a in arrays]
    return concatenate_(arrays, axis, np.cumsum(sizes)[:-1].tolist())


@primitive(arrays=lambda g, axis: unstack(g, axis))
def stack(arrays: Arrays, axis: int = 0) -> Array:
    """Arrays of one shape, side by side along a new axis."""
    return np.stack(arrays, axis)


@primitive(x=lambda g, axis: stack(g, axis))
def unstack(x: Array, axis: int = 0) -> tuple[Array, ...]:
    """The slices along an axis, which disappears."""
    return tuple(np.moveaxis(x, axis, 0))


@primitive(ary=lambda g, axis: concatenate(g, axis))
def split(ary: Array, indices_or_sections: Any, axis: int = 0) -> tuple[Array, ...]:
    """Equal parts (a number), or the parts between indices, along an axis.

    >>> import tinygrad_rnn as tg
    >>> [part.shape for part in tg.split(tg.zeros(2, 6), 3, axis=-1)]
    [(2, 2), (2, 2), (2, 2)]
    """
    return tuple(np.split(ary, indices_or_sections, *axes_of(axis, ary.ndim, "split")))


def tile(A: Array, reps: Axes) -> Array:
    """Repeated as a whole along each axis."""
    reps = [reps] if isinstance(reps, int) else list(reps)
    shape = list(shape_of(A))
    shape = [1] * (len(reps) - len(shape)) + shape
    reps = [1] * (len(shape) - len(reps)) + reps
    lifted = reshape(A, [n for size in shape for n in (1, size)])
    pairs = zip(reps, shape, strict=True)
    repeated = broadcast_to(lifted, tuple(n for pair in pairs for n in pair))
    return reshape(repeated, [r * n for r, n in zip(reps, shape, strict=True)])


def repeat(a: Array, repeats: Any, axis: int | None = None) -> Array:
    """Each element, or slice along an axis, repeated; flattened first if the axis is None."""
    if axis is None:
        a, axis = ravel(a), 0
    (along,) = axes_of(axis, len(shape_of(a)), "repeat")
    return take(a, np.repeat(np.arange(shape_of(a)[along]), repeats), axis=along)
