"""The table of cells: those of the library, and cells as a user would write them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import tinygrad_rnn as tg
from tinygrad_rnn import concatenate, linear, relu, sigmoid, split, tanh
from tinygrad_rnn.nn import cells


def readout(x, h, w, u, w_out, b):
    """An output that is no state: a product after the loop."""
    h = tanh(linear(x, w) + linear(h, u))
    return linear(h, w_out, b), h


def joined(x, h, w, b):
    """One matrix for input and state."""
    h = tanh(linear(concatenate([x, h], axis=-1), w, b))
    return h, h


def matrices(x, h, w, u, b):
    """Products written with @."""
    h = tanh(x @ w + h @ u + b)
    return h, h


def masked(xs, h, w, u, b):
    """Two inputs; one is a mask, of width 1."""
    x, keep = xs
    h = keep * tanh(linear(x, w, b) + linear(h, u)) + (1.0 - keep) * h
    return h, h


def given(x, h, rate, context, w, u):
    """Rows that are the same at every step."""
    rate = sigmoid(rate)
    h = rate * h + (1.0 - rate) * tanh(linear(x, w) + linear(h, u) + context)
    return h, h


def swap(x, state, w, u):
    """States that change places."""
    a, b = state
    new = tanh(linear(x, w) + linear(a, u) + a * b)
    return new - a, (b, new)


def unchanged(x, state, w, u):
    """A state that is handed on as it is."""
    h, bias = state
    h = tanh(linear(x, w) + linear(h, u) + bias)
    return h, (h, bias)


def twice(x, h, w, u):
    """A weight that is used twice in a step, and the other way round."""
    h = tanh(linear(x, w) + linear(tanh(h @ u), u))
    return h, h


def partial(x, h, w, u):
    """Only a part of a product is used."""
    a, _, b = split(linear(x, w) + linear(h, u), 3, axis=-1)
    h = tanh(a) + 0.5 * sigmoid(b)
    return h, h


def functions(x, h, w, u, b):
    """Elementary functions, comparisons, powers and numbers."""
    a, c = split(linear(x, w, b) + linear(h, u), 2, axis=-1)
    a = tg.softplus(a) - tg.log1p(tg.exp(-(c**2))) / 3.0
    bound = tg.where(a > c, tg.abs(c), 0.25)
    h = tg.maximum(tanh(a), bound * h) - 0.125 * relu(c) + tg.sqrt(1.0 + tg.square(h)) - 1.0
    return h, 0.5 * h


def added(x, h, u):
    """One cotangent for the input, and for the product with the state."""
    h = tanh(x + linear(h, u))
    return h, h


def residual(x, h, w):
    """One cotangent for the state, and for the product with the input."""
    h = tanh(h + linear(x, w))
    return h, h


def nested(x, state, w, u):
    """A product of a sum of a product and a state."""
    h, s = state
    h = tanh(linear(linear(x, w) + s, u)) + 0.5 * h
    return h, (h, 0.25 * s - h)


def plain(x, state, w, u, v):
    """States that are sums of products and nothing else; an output of the state before."""
    a, b = state
    return linear(b, v) + a, (linear(x, w) + linear(a, w), linear(x, u))


def centred(x, h, w, u):
    """Sums over the units: of a sum of products, of a state, of the input."""
    a = linear(x, w) + linear(h, u)
    a = tanh(a - tg.mean(a, axis=-1, keepdims=True))
    h = a + 0.25 * tg.sum(x, axis=1, keepdims=True) - tg.sum(h * a, -1).reshape(-1, 1) / 8.0
    return h, 0.5 * h


def scored(x, h, w, u, scale):
    """Units that one number of the input, and one parameter, weigh."""
    a, weight = split(linear(x, w), [h.shape[-1]], axis=-1)
    h = tanh(a + linear(h, u) * sigmoid(weight) * scale)
    return h, h


def blocks(x, h, w, u):
    """Some rows of a matrix are not used."""
    first, _, last = split(u, 3, axis=0)
    a = linear(x, split(w, 2, axis=0)[1]) + linear(h, last)
    h = tanh(a + linear(tanh(a), first))
    return h, h - tg.mean(h * a, -1).reshape(-1, 1) * 0.5


Widths = int | tuple[int, ...]


class Sizes(NamedTuple):
    """What a cell takes; a tuple of widths is a tuple of rows."""

    xs: Widths
    states: Widths
    params: tuple[tuple[int, ...], ...]
    each: tuple[int, ...] = ()
    masks: tuple[int, ...] = ()  # which of xs are 0 or 1 and need no gradient


class Row(NamedTuple):
    step: Any
    sizes: Callable[[int, int], Sizes]  # of an input's width and a number of units
    smooth: bool = True


def gated(gates, i, h):
    return (gates * h, i), (gates * h, h), (gates * h,)


LIBRARY = {name: v for name, v in vars(cells).items() if getattr(v, "shapes", None)}
KINKED = {"rnn_relu", "independent"}


def library(step, shapes=None):
    """The sizes of a cell that brings its shapes."""

    def sizes(i, h):
        params = tuple((shapes or step.shapes)(i, h).values())
        return Sizes(i, (h,) * step.states if step.states > 1 else h, params)

    return sizes


CELLS = {
    **{name: Row(step.step, library(step), name not in KINKED) for name, step in LIBRARY.items()},
    "projected": Row(
        cells.lstm_projected.step,
        lambda i, h: library(cells.lstm_projected, cells.projected_shapes(h // 2 + 1))(
            i, h
        )._replace(states=(h // 2 + 1, h)),
    ),
    "zoneout": Row(
        cells.lstm_zoneout.step,
        lambda i, h: library(cells.lstm)(i, h)._replace(xs=(i, h, 1), masks=(1, 2)),
    ),
    **{
        f"highway_{n}": Row(
            cells.recurrent_highway.step, library(cells.recurrent_highway, cells.highway_shapes(n))
        )
        for n in (1, 2, 4, 5)
    },
    "readout": Row(readout, lambda i, h: Sizes(i, h, ((h, i), (h, h), (i + 2, h), (i + 2,)))),
    "joined": Row(joined, lambda i, h: Sizes(i, h, ((h, i + h), (h,)))),
    "matrices": Row(matrices, lambda i, h: Sizes(i, h, ((i, h), (h, h), (h,)))),
    "masked": Row(masked, lambda i, h: Sizes((i, 1), h, gated(1, i, h), masks=(1,))),
    "blocks": Row(blocks, lambda i, h: Sizes(i, h, ((2 * h, i), (3 * h, h)))),
    "given": Row(given, lambda i, h: Sizes(i, h, ((h, i), (h, h)), each=(h, h))),
    "swap": Row(swap, lambda i, h: Sizes(i, (h, h), ((h, i), (h, h)))),
    "unchanged": Row(unchanged, lambda i, h: Sizes(i, (h, h), ((h, i), (h, h)))),
    "twice": Row(twice, lambda i, h: Sizes(i, h, ((h, i), (h, h)))),
    "partial": Row(partial, lambda i, h: Sizes(i, h, gated(3, i, h)[:2])),
    "added": Row(added, lambda i, h: Sizes(h, h, ((h, h),))),
    "residual": Row(residual, lambda i, h: Sizes(i, h, ((h, i),))),
    "nested": Row(nested, lambda i, h: Sizes(i, (h, h), ((h, i), (h, h)))),
    "plain": Row(plain, lambda i, h: Sizes(h, (h, 2 * h), ((h, h), (2 * h, h), (h, 2 * h)))),
    "centred": Row(centred, lambda i, h: Sizes(i, h, ((h, i), (h, h)))),
    "scored": Row(scored, lambda i, h: Sizes(i, h, ((h + 1, i), (h, h), (1,)))),
    "functions": Row(functions, lambda i, h: Sizes(i, h, gated(2, i, h)), False),
}
