"""Rows brought to mean 0 and variance 1, scaled and shifted; and the gradients.

x̂ = (x - μ) / √(σ² + ε),  y = w x̂ + b
d_x = (w g - mean(w g) - x̂ mean(w g x̂)) / √(σ² + ε),  d_w = Σ g x̂,  d_b = Σ g
"""

from __future__ import annotations

import numpy as np

from tinygrad_rnn.kernels.emit import Module
from tinygrad_rnn.kernels.memory import address
from tinygrad_rnn.kernels.pointwise.lanes import Lane
from tinygrad_rnn.kernels.pointwise.running import Running, first_lane, splat
from tinygrad_rnn.kernels.rows.code import Kernels, dealt, lines

BLOCK = 64  # rows whose d_w and d_b are summed by themselves: the same for any number of threads
FIELDS = {
    "normalise": "x row width weight bias numbers states y",
    "differentiate": "x row width weight numbers states g g_row count d_x sums",
}


def write(module: Module) -> None:
    """Rows of x; blocks of rows."""
    write_normalise(module)
    write_differentiate(module)


def write_normalise(module: Module) -> None:
    with KERNELS.written(module, "normalise") as (e, f, start, stop), e.loop(start, stop) as i:
        count, epsilon = splat(e, f.numbers), splat(e, f.numbers + e.size)
        row, out = f.x + i * f.row, f.y + i * f.width * e.size
        total, square = Running(e, 0.0), Running(e, 0.0)
        for place, mask in e.vectors(0, f.width):
            total.add(Lane(e, e.load(row + place, mask)))
        mean = total.total() / count
        for place, mask in e.vectors(0, f.width):
            x = Lane(e, e.load(row + place, mask)) - mean
            square.add(x * x, mask)
        variance = square.total() / count
        scale = 1.0 / (variance + epsilon).intrinsic("sqrt")
        for place, mask in e.vectors(0, f.width):
            x, w, b = (Lane(e, e.load(p + place, mask)) for p in (row, f.weight, f.bias))
            e.store(out + place, ((x - mean) * scale * w + b).value, mask)
        for k, lane in enumerate((mean, scale)):
            first_lane(e, f.states + (i * 2 + k) * e.size, lane)


def write_differentiate(module: Module) -> None:
    with (
        KERNELS.written(module, "differentiate") as (e, f, start, stop),
        e.loop(start, stop) as block,
    ):
        count, step = splat(e, f.numbers), f.width * e.size
        d_w = f.sums + step * block * 2
        first_row = block * BLOCK
        with e.loop(first_row, (first_row + BLOCK).minimum(f.count)) as i:
            row, cotangents, out = f.x + i * f.row, f.g + i * f.g_row, f.d_x + i * step
            mean, scale = (splat(e, f.states + (i * 2 + n) * e.size) for n in range(2))
            plain, turned = Running(e, 0.0), Running(e, 0.0)
            for place, mask in e.vectors(0, f.width):
                x, w, g = (Lane(e, e.load(p + place, mask)) for p in (row, f.weight, cotangents))
                x = (x - mean) * scale
                plain.add(g * w)
                turned.add(g * w * x, mask)
                for p, more in ((d_w + place, g * x), (d_w + step + place, g)):
                    e.store(p, (Lane(e, e.load(p, mask)) + more).value, mask)
            first, second = (r.total() / count for r in (plain, turned))
            for place, mask in e.vectors(0, f.width):
                x, w, g = (Lane(e, e.load(p + place, mask)) for p in (row, f.weight, cotangents))
                x = (x - mean) * scale
                e.store(out + place, ((g * w - first - x * second) * scale).value, mask)


KERNELS = Kernels("layer_norm", FIELDS, write)


def _numbers(x: np.ndarray, eps: float) -> np.ndarray:
    return np.array([x.shape[1], eps], x.dtype)


def normalise(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float
) -> tuple[np.ndarray, np.ndarray]:
    """y, and the mean and 1 / √(σ² + ε) of each of the rows (N, H)."""
    x, weight, bias = lines(x), np.ascontiguousarray(weight), np.ascontiguousarray(bias)
    y, states = np.empty(x.shape, x.dtype), np.empty((len(x), 2), x.dtype)
    numbers = _numbers(x, eps)
    arrays = {"weight": weight, "bias": bias, "numbers": numbers, "states": states, "y": y, "x": x}
    places = {name: address(a) for name, a in arrays.items()}
    call = KERNELS.call("normalise", x.dtype, row=x.strides[0], width=x.shape[1], **places)
    dealt(call, len(x), x.size)
    return y, states


def differentiate(
    x: np.ndarray, weight: np.ndarray, states: np.ndarray, g: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The gradients of x, weight and bias."""
    (count, width), x, g = x.shape, lines(x), lines(g)
    weight, numbers = np.ascontiguousarray(weight), _numbers(x, 0.0)
    d_x = np.empty(x.shape, x.dtype)
    blocks = -(-count // BLOCK)
    sums = np.zeros((blocks, 2, width), x.dtype)
    arrays = {"weight": weight, "numbers": numbers, "states": states, "g": g, "d_x": d_x}
    places = {name: address(a) for name, a in arrays.items()}
    call = KERNELS.call(
        "differentiate", x.dtype, x=address(x), row=x.strides[0], width=width, g_row=g.strides[0],
        count=count, sums=address(sums), **places,
    )  # fmt: skip
    dealt(call, blocks, x.size)
    d_w, d_b = np.add.reduce(sums, axis=0)
    return d_x, d_w.copy(), d_b.copy()
