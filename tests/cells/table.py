"""The table of cells: those of the library, and cells as a user would write them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import tinygrad_rnn as tg
from tinygrad_rnn import concatenate, linear, relu, sigmoid, split, tanh
from tinygrad_rnn.nn import cells


def peephole(x, state, w, u, b, p_i, p_f, p_o):
    """An LSTM whose gates see the cell, by vectors (Gers & Schmidhuber 2000)."""
    h, c = state
    i, f, g, o = split(linear(x, w, b) + linear(h, u), 4, axis=-1)
    c = sigmoid(f + p_f * c) * c + sigmoid(i + p_i * c) * tanh(g)
    h = sigmoid(o + p_o * c) * tanh(c)
    return h, (h, c)


def coupled(x, state, w, u, b):
    """An LSTM that writes as much as it forgets (Greff et al. 2017)."""
    h, c = state
    f, g, o = split(linear(x, w, b) + linear(h, u), 3, axis=-1)
    f = sigmoid(f)
    c = f * c + (1.0 - f) * tanh(g)
    h = sigmoid(o) * tanh(c)
    return h, (h, c)


def reset_before(x, h, w, u, b):
    """A GRU that resets before the product: two products a step; `u` is split by rows."""
    x_rz, x_n = split(linear(x, w, b), [2 * h.shape[-1]], axis=-1)
    u_rz, u_n = split(u, [2 * h.shape[-1]], axis=0)
    r, z = split(sigmoid(x_rz + linear(h, u_rz)), 2, axis=-1)
    n = tanh(x_n + linear(r * h, u_n))
    h = (1.0 - z) * n + z * h
    return h, h


def minimal(x, h, w_f, u_f, b_f, w_n, u_n, b_n):
    """Minimal gated unit (Zhou et al. 2016)."""
    f = sigmoid(linear(x, w_f, b_f) + linear(h, u_f))
    n = tanh(linear(x, w_n, b_n) + linear(f * h, u_n))
    h = (1.0 - f) * h + f * n
    return h, h


def highway(x, h, w, *layers):
    """Recurrent highway (Zilly et al. 2017): several layers within a step."""
    carried = linear(x, w)
    for u, b in zip(layers[::2], layers[1::2], strict=True):
        a, t = split(carried + linear(h, u, b), 2, axis=-1)
        carried, h = 0.0, sigmoid(t) * tanh(a) + (1.0 - sigmoid(t)) * h
    return h, h


def independent(x, h, w, b, u):
    """IndRNN (Li et al. 2018): no product with the state."""
    h = tanh(linear(x, w, b) + u * h)
    return h, h


def multiplicative(x, state, w_m, u_m, w, u, b):
    """Multiplicative LSTM (Krause et al. 2016)."""
    h, c = state
    m = linear(x, w_m) * linear(h, u_m)
    i, f, o, g = split(linear(x, w, b) + linear(m, u), 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    h = sigmoid(o) * tanh(c)
    return h, (h, c)


def projected(x, state, w, u, b, p):
    """An LSTM with a projection (Sak et al. 2014): h is narrower than c."""
    h, c = state
    i, f, g, o = split(linear(x, w, b) + linear(h, u), 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    h = linear(sigmoid(o) * tanh(c), p)
    return h, (h, c)


def simple(x, c, w, v, b):
    """Simple recurrent unit (Lei et al. 2018): all products are of the input."""
    new, skip, f, r = split(linear(x, w), 4, axis=-1)
    v_f, v_r, b_f, b_r = (*split(v, 2), *split(b, 2))
    f, r = sigmoid(f + v_f * c + b_f), sigmoid(r + v_r * c + b_r)
    c = f * c + (1.0 - f) * new
    return r * tanh(c) + (1.0 - r) * skip, c


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


def normal(a, gain, shift):
    """Layer normalisation (Ba et al. 2016); the epsilon keeps its gradient from vanishing."""
    a = a - tg.mean(a, -1, keepdims=True)
    return a / tg.sqrt(tg.mean(tg.square(a), -1, keepdims=True) + 0.1) * gain + shift


def normalised(x, state, w, u, b, g_x, g_h, g_c, s_c):
    """An LSTM with layer normalisation (Ba et al. 2016, equations 20-22)."""
    h, c = state
    a = normal(linear(x, w), g_x, b) + normal(linear(h, u), g_h, 0.0)
    i, f, g, o = split(a, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    h = sigmoid(o) * tanh(normal(c, g_c, s_c))
    return h, (h, c)


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


def biased(gates):
    return lambda i, h: Sizes(i, h, (*gated(gates, i, h), (gates * h,)))


def pair(gates, vectors):
    return lambda i, h: Sizes(i, (h, h), (*gated(gates, i, h), *[(h,)] * vectors))


CELLS = {
    "rnn_tanh": Row(cells.rnn_tanh.step, biased(1)),
    "rnn_relu": Row(cells.rnn_relu.step, biased(1), False),
    "lstm": Row(cells.lstm.step, lambda i, h: biased(4)(i, h)._replace(states=(h, h))),
    "gru": Row(cells.gru.step, biased(3)),
    "peephole": Row(peephole, pair(4, 3)),
    "coupled": Row(coupled, pair(3, 0)),
    "reset_before": Row(reset_before, lambda i, h: Sizes(i, h, gated(3, i, h))),
    "minimal": Row(minimal, lambda i, h: Sizes(i, h, gated(1, i, h) * 2)),
    "highway": Row(highway, lambda i, h: Sizes(i, h, ((2 * h, i), *gated(2, h, h)[1:] * 3))),
    "independent": Row(independent, lambda i, h: Sizes(i, h, ((h, i), (h,), (h,)))),
    "multiplicative": Row(
        multiplicative, lambda i, h: Sizes(i, (h, h), ((h, i), (h, h), *gated(4, i, h)))
    ),
    "projected": Row(
        projected,
        lambda i, h: Sizes(
            i, (h // 2 + 1, h), ((4 * h, i), (4 * h, h // 2 + 1), (4 * h,), (h // 2 + 1, h))
        ),
    ),
    "simple": Row(simple, lambda i, h: Sizes(i, h, ((4 * h, i), (2 * h,), (2 * h,)))),
    "readout": Row(readout, lambda i, h: Sizes(i, h, ((h, i), (h, h), (i + 2, h), (i + 2,)))),
    "joined": Row(joined, lambda i, h: Sizes(i, h, ((h, i + h), (h,)))),
    "matrices": Row(matrices, lambda i, h: Sizes(i, h, ((i, h), (h, h), (h,)))),
    "masked": Row(masked, lambda i, h: Sizes((i, 1), h, gated(1, i, h), masks=(1,))),
    "given": Row(given, lambda i, h: Sizes(i, h, ((h, i), (h, h)), each=(h, h))),
    "swap": Row(swap, lambda i, h: Sizes(i, (h, h), ((h, i), (h, h)))),
    "unchanged": Row(unchanged, lambda i, h: Sizes(i, (h, h), ((h, i), (h, h)))),
    "twice": Row(twice, lambda i, h: Sizes(i, h, ((h, i), (h, h)))),
    "partial": Row(partial, lambda i, h: Sizes(i, h, gated(3, i, h)[:2])),
    "added": Row(added, lambda i, h: Sizes(h, h, ((h, h),))),
    "residual": Row(residual, lambda i, h: Sizes(i, h, ((h, i),))),
    "nested": Row(nested, lambda i, h: Sizes(i, (h, h), ((h, i), (h, h)))),
    "plain": Row(plain, lambda i, h: Sizes(h, (h, 2 * h), ((h, h), (2 * h, h), (h, 2 * h)))),
    "normalised": Row(
        normalised,
        lambda i, h: Sizes(i, (h, h), (*gated(4, i, h), *[(4 * h,)] * 2, *[(h,)] * 2)),
    ),
    "centred": Row(centred, lambda i, h: Sizes(i, h, ((h, i), (h, h)))),
    "scored": Row(scored, lambda i, h: Sizes(i, h, ((h + 1, i), (h, h), (1,)))),
    "functions": Row(functions, lambda i, h: Sizes(i, h, gated(2, i, h)), False),
}
