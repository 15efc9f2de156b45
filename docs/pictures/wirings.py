"""Where the parts of connections, attention and unrolled layers stand in their pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
from matplotlib.figure import Figure

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.nn import around, normalization

from .drawing import sketch
from .reading import Reading, box

B, H, S, T = 40, 4, 5, 3


class Inside(nn.Module):
    """Any module, as a box."""

    def __init__(self, sign: str) -> None:
        self.sign = sign

    def __call__(self, x: Any) -> Any:
        return box(self.sign, tg.tanh, x)


class Wiring(NamedTuple):
    """A call, its inputs' shapes, the results' names, and the sketch, as of a cell."""

    call: Callable[..., Any]
    inputs: dict[str, tuple[int, ...]]
    results: str
    sketch: str


def inside(count: int) -> list[nn.Module]:
    return [Inside(f"f{'₁₂₃'[k]}") for k in range(count)]


def normalised(x: Any) -> Any:
    """Layer normalisation by its definition, with each mean as one node."""

    def mean(a: Any, **options: Any) -> Any:
        return box("mean", lambda a: tg.mean(a, **options), a, learned=False)

    with mock.patch.object(normalization, "mean", mean):
        return nn.LayerNorm(H)(x)


def unrolled(**options: Any) -> Callable[[Any], Any]:
    """The outputs of a recurrent layer of any cell, step by step."""

    def step(x: Any, h: Any) -> Any:
        h = box("cell", tg.add, x, h)
        return h, h

    def call(x: Any) -> Any:
        layer = nn.Recurrent(step, H, H, lambda i, h: {}, **options)
        return tg.unstack(layer(x)[0])

    return call


def masked(x: Any, h: Any, m: Any, k: Any) -> Any:
    """A step of any cell with recurrent dropout and zoneout."""

    def step(x: Any, h: Any) -> Any:
        h = box("cell", tg.add, x, around.seen(h))
        return h, h

    return around.changing(around.dropping(step), around.zoneout)((x, k), h, m)


X, QUERY = {"x": (B, H)}, {"q": (B, H), "k": (S, B, H), "v": (S, B, H)}
SEQUENCE = {"x": (T, B, H)}
WIRINGS = {
    "residual": Wiring(
        lambda x: [nn.Residual(Inside("f"))(x)],
        X,
        "y",
        """_f +
        x  .  _f  .  +  .  y
        """,
    ),
    "highway": Wiring(
        lambda x: [nn.Highway(H, Inside("f"))(x)],
        X,
        "y",
        """_f t ty 1- tx +
        x  .  tx  .   +   .  y
        .  .  .   1-  ty  .  .
        .  .  t   .   _f  .  .
        .  .  .   .   .   .  .
        """,
    ),
    "dense": Wiring(
        lambda x: [nn.Dense(*inside(3))(x)],
        X,
        "y",
        """_1 c1 _2 c2 _3 c3
        .  .  _1  .   .  _2  .   .  _3  .   .
        x  .  .   c1  .  .   c2  .  .   c3  y
        """,
    ),
    "skip": Wiring(
        lambda x: [nn.Skip(*inside(3))(x)],
        X,
        "y",
        """_1 c2 _2 c3 _3 c4
        .  .   .  .   .   .  .   .   .  c4  y
        .  _1  .  c2  _2  .  c3  _3  .  .   .
        x  .   .  .   .   .  .   .   .  .   .
        """,
    ),
    "linear": Wiring(
        lambda x: [nn.Linear(H, H)(x)],
        X,
        "y",
        """_w
        x  .  _w  .  y
        """,
    ),
    "dot_attention": Wiring(
        lambda q, k, v: [nn.DotAttention()(q, k, v)],
        QUERY,
        "y",
        """qk p pv
        q  .  qk  .  p  .  pv  .  y
        .  .  k   .  .  .  v   .  .
        """,
    ),
    "general_attention": Wiring(
        lambda q, k, v: [nn.GeneralAttention(H, H)(q, k, v)],
        QUERY,
        "y",
        """_w qk p pv
        q  .  _w  .  qk  .  p  .  pv  .  y
        .  .  .   .  k   .  .  .  v   .  .
        """,
    ),
    "additive_attention": Wiring(
        lambda q, k, v: [nn.AdditiveAttention(H, H, H)(q, k, v)],
        QUERY,
        "y",
        """_a _v p pv
        q  .  _a  .  _v  .  p  .  pv  .  y
        .  .  .   .  .   .  .  .  v   .  .
        .  .  k   .  .   .  .  .  .   .  .
        """,
    ),
    "layer_norm": Wiring(
        lambda x: [normalised(x)],
        X,
        "y",
        """m - sq v +ε rs × _w
        x  .  .  -  .   .  .   .   ×  .  _w  .  y
        .  .  m  .  sq  v  +ε  rs  .  .  .   .  .
        """,
    ),
    "masks": Wiring(
        masked,
        {name: (B, H) for name in "xhmk"},
        "y h'",
        """hm _c kh 1- nh +
        .  .  .  .   .   .   .   y  .
        h  .  .  .   kh  .   +   .  h'
        .  .  .  .   k   1-  nh  .  .
        .  .  .  .   .   .   .   .  .
        .  m  hm .   .   .   _c  .  .
        .  .  .  .   .   .   .   .  .
        .  .  .  .   .   .   x   .  .
        """,
    ),
    "layers": Wiring(
        unrolled(num_layers=2),
        SEQUENCE,
        "y1 y2 y3",
        """_a1 _a2 _a3 _b1 _b2 _b3
        y1   .  y2   .  y3
        _b1  .  _b2  .  _b3
        .    .  .    .  .
        _a1  .  _a2  .  _a3
        x1   .  x2   .  x3
        """,
    ),
    "directions": Wiring(
        unrolled(bidirectional=True),
        SEQUENCE,
        "y1 y2 y3",
        """_f1 _f2 _f3 _r3 _r2 _r1 c1 c2 c3
        y1   .    .  y2   .    .  y3   .
        c1   .    .  c2   .    .  c3   .
        .    _r1  .  .    _r2  .  .    _r3
        _f1  .    .  _f2  .    .  _f3  .
        .    .    .  .    .    .  .    .
        x1   .    .  x2   .    .  x3   .
        """,
    ),
}


def reading(name: str) -> Reading:
    """A wiring's call on random rows, as its picture shows it."""
    wiring, draw = WIRINGS[name], np.random.default_rng(0).standard_normal
    inputs = {n: tg.Tensor(draw(shape), dtype="float32") for n, shape in wiring.inputs.items()}
    names = wiring.sketch.split("\n", 1)[0].split()
    return Reading(wiring.call, inputs, names, wiring.results.split())


def picture(name: str) -> Figure:
    return sketch(
        reading(name).read(), WIRINGS[name].sketch.split("\n", 1)[1], timed=name == "masks"
    )


PICTURES: dict[str, Callable[[], Figure]] = {
    name: (lambda name=name: picture(name)) for name in WIRINGS
}
