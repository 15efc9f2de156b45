"""Fused ops for the study of mutants, as rows of the table of ops, and wrong kernels of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import tinygrad_rnn as tg
from tests.ops.drawing import MODERATE, NONZERO, integer
from tests.ops.table import Row


class Fusion(NamedTuple):
    definition: Callable[..., Any]
    forward: Callable[..., Any]
    backward: Callable[..., Any]
    draw: Callable[..., Any]
    domain: Any = MODERATE


def sigma(x):
    return 1.0 / (1.0 + np.exp(-x))


# A gate


def gate_forward(x, y):
    s = sigma(x)
    return s * y, (s, y)


def gate_backward(saved, g):
    s, y = saved
    return g * y * s * (1.0 - s), g * s


def _pair(draw):
    sizes = tuple(integer(draw, 0, 4) for _ in range(integer(draw, 0, 3)))
    return [sizes, sizes], {}


# A layer, its bias broadcast


def layer_forward(x, w, b):
    y = np.tanh(x @ w.T + b)
    return y, (x, w, y)


def layer_backward(saved, g):
    x, w, y = saved
    d = g * (1.0 - y) * (1.0 + y)
    return d @ w, d.T @ x, d.sum(0)


def _layer(draw):
    n, i, o = (integer(draw, 0, 4) for _ in range(3))
    return [(n, i), (o, i), (o,)], {}


# Cross-entropy


def entropy_forward(logits, targets):
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    rows = np.arange(len(targets))
    return -np.log(p[rows, targets]), (p, rows, targets)


def entropy_backward(saved, g):
    p, rows, targets = saved
    d = p * g[:, None]
    d[rows, targets] -= g
    return (d,)


def entropy(logits, targets):
    return -tg.squeeze(tg.take_along_axis(tg.log_softmax(logits, -1), targets[:, None], -1), -1)


def _entropy(draw):
    n, v = integer(draw, 0, 4), integer(draw, 1, 5)
    return [(n, v)], {"targets": np.array([integer(draw, 0, v - 1) for _ in range(n)], np.intp)}


# One step of an LSTM from its gates' sums: two results


def step_forward(z, c):
    i, f, g, o = np.split(z, 4, 1)
    i, f, g, o = sigma(i), sigma(f), np.tanh(g), sigma(o)
    new = f * c + i * g
    t = np.tanh(new)
    return (o * t, new), (i, f, g, o, c, t)


def step_backward(saved, d_h, d_c):
    i, f, g, o, c, t = saved
    d = d_c + d_h * o * (1.0 - t * t)
    parts = d * g * i * (1 - i), d * c * f * (1 - f), d * i * (1 - g * g), d_h * t * o * (1 - o)
    return np.concatenate(parts, 1), d * f


def step(z, c):
    i, f, g, o = tg.split(z, 4, 1)
    new = tg.sigmoid(f) * c + tg.sigmoid(i) * tg.tanh(g)
    return tg.sigmoid(o) * tg.tanh(new), new


def _step(draw):
    b, h = integer(draw, 0, 4), integer(draw, 1, 3)
    return [(b, 4 * h), (b, h)], {}


# A norm: a sum that is not linear


def length_forward(x):
    size = np.sqrt(np.sum(x * x, -1))
    return size, (x, size)


def length_backward(saved, g):
    x, size = saved
    return (x * (g / size)[..., None],)


def _length(draw):
    return [(*(integer(draw, 0, 3) for _ in range(integer(draw, 0, 2))), integer(draw, 1, 4))], {}


FUSIONS = {
    "fused gate": Fusion(lambda x, y: tg.sigmoid(x) * y, gate_forward, gate_backward, _pair),
    "fused layer": Fusion(
        lambda x, w, b: tg.tanh(tg.linear(x, w, b)), layer_forward, layer_backward, _layer
    ),
    "fused cross-entropy": Fusion(entropy, entropy_forward, entropy_backward, _entropy),
    "fused LSTM step": Fusion(step, step_forward, step_backward, _step),
    "fused norm": Fusion(
        lambda x: tg.sqrt(tg.sum(x * x, -1)), length_forward, length_backward, _length, NONZERO
    ),
}


def fused(name: str, backward: Any = None, definition: Any = None) -> Callable[..., Any]:
    """A fused op, maybe with another kernel or another definition."""
    own = FUSIONS[name]
    chosen = definition or own.definition
    return tg.fused(own.forward, backward or own.backward)(chosen)


ROWS = [
    Row(name, fused(name), f.draw, None, f.domain)  # type: ignore[arg-type]
    for name, f in FUSIONS.items()
]


# Wrong kernels and definitions, which disagree with one another


def wrong_kernel(name: str, factor: float) -> Callable[..., Any]:
    """Its first-order gradients are wrong, those of its definition are right."""

    def backward(saved, *gs):
        return tuple(d * factor for d in FUSIONS[name].backward(saved, *gs))

    return fused(name, backward=backward)


def wrong_definition(name: str) -> Callable[..., Any]:
    """Its first-order gradients are right; derivatives of these come from a scaled definition."""

    def definition(*inputs, **meta):
        found = FUSIONS[name].definition(*inputs, **meta)
        return tuple(v * 1.001 for v in found) if isinstance(found, tuple) else found * 1.001

    return fused(name, definition=definition)
