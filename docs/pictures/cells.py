"""Where the parts of each cell stand in its picture. What they are, its traced equation says.

A sketch is the parts' names in the order in which the equation needs them, and a grid of names.
x, the states and, with ', the new states have names already; y is the output, & the joint of the
lines that lead to all gates. Names that begin with _ are not shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
from matplotlib.figure import Figure

import tinygrad_rnn as tg
from tinygrad_rnn.nn import cells

from .drawing import sketch
from .reading import Reading, box

RNN = """_a
    .  .  .   y  .
    h  .  _a  .  h'
    .  .  .   .  .
    .  .  x   .  .
"""
LSTM = """f fc i g ig c+ tc o oc
    .  .  .   .   .   .   .   y   .
    c  .  fc  .   c+  .   .   .   c'
    .  .  .   .   ig  .   tc  .   .
    .  .  f   i   g   o   oc  .   h'
    h  &  .   .   .   .   .   .   .
    .  x  .   .   .   .   .   .   .
"""
SKETCHES = {
    "rnn_tanh": RNN,
    "rnn_relu": RNN,
    "independent": RNN,
    "lstm": LSTM,
    "lstm_linear_output": """f fc i g ig c+ o oc
        .  .  .   .   .   .   .   y   .
        c  .  fc  .   c+  .   .   .   c'
        .  .  .   .   ig  .   .   .   .
        .  .  f   i   g   o   oc  .   h'
        h  &  .   .   .   .   .   .   .
        .  x  .   .   .   .   .   .   .
    """,
    "lstm_peephole": """f fc i g ig c+ tc o oc
        .  .  .   .   .   .   .   .   .   .   .   y   .
        c  .  .   fc  .   .   .   c+  .   .   .   .   c'
        .  .  .   .   .   .   .   ig  .   .   tc  .   .
        .  .  .   f   .   i   .   g   .   o   oc  .   h'
        h  &  .   .   .   .   .   .   .   .   .   .   .
        .  x  .   .   .   .   .   .   .   .   .   .   .
    """,
    "lstm_coupled": """f fc 1- g fg c+ tc o oc
        .  .  .   .   .   .   .   y   .
        c  .  fc  .   c+  .   .   .   c'
        .  .  .   1-  fg  .   tc  .   .
        .  .  f   .   g   o   oc  .   h'
        h  &  .   .   .   .   .   .   .
        .  x  .   .   .   .   .   .   .
    """,
    "lstm_projected": """f fc i g ig c+ tc o oc _w
        .  .  .   .   .   .   .   .   y   .
        c  .  fc  .   c+  .   .   .   .   c'
        .  .  .   .   ig  .   tc  .   .   .
        .  .  f   i   g   o   oc  _w  .   h'
        h  &  .   .   .   .   .   .   .   .
        .  x  .   .   .   .   .   .   .   .
    """,
    "lstm_normalised": """_x _h f fc i g ig c+ _c o _t oc
        .  .  .   .  .   .   .   .   .   .   y   .
        c  .  .   .  fc  .   c+  .   .   .   .   c'
        .  .  .   .  .   .   ig  .   .   _c  .   .
        .  .  .   .  .   .   .   .   .   _t  .   .
        .  .  .   .  f   i   g   .   o   oc  .   h'
        h  .  _h  &  .   .   .   .   .   .   .   .
        .  .  .   _x .   .   .   .   .   .   .   .
        .  .  .   .  .   .   .   .   .   .   .   .
        .  .  .   x  .   .   .   .   .   .   .   .
    """,
    "lstm_multiplicative": """_x _h m f fc i g ig c+ tc o oc
        .  .  .   .   .   .  .   .   .   .   .   y   .
        c  .  .   .   .   .  fc  .   c+  .   .   .   c'
        .  .  .   .   .   .  .   .   ig  .   tc  .   .
        .  .  .   .   .   .  f   i   g   o   oc  .   h'
        h  .  _h  m   .   &  .   .   .   .   .   .   .
        .  .  .   _x  .   .  .   .   .   .   .   .   .
        .  .  .   .   .   x  .   .   .   .   .   .   .
    """,
    "lstm_zoneout": """_h _c kc 1c nc c+ kh 1h nh h+
        .  .   .  .    .   .   .   .   .
        c  .   .  kc   .   c+  .   .   c'
        .  .   .  k_c  1c  nc  .   .   .
        .  .   .  .    .   _c  .   y   .
        .  &   .  .    .   .   .   .   .
        .  .   .  .    .   _h  .   .   .
        .  .   .  k_h  1h  nh  .   .   .
        h  .   .  kh   .   h+  .   .   h'
        .  .   .  .    .   .   .   .   .
        .  x   .  .    .   .   .   .   .
    """,
    "gru": """r _w rw z 1- n zn zh h+
        .  .  .   .   .   .   .   .   y   .
        h  .  .   .   .   zh  .   h+  .   h'
        .  .  .   .   .   .   1-  zn  .   .
        .  .  _w  rw  .   .   .   .   .   .
        .  .  .   r   .   z   .   n   .   .
        .  &  .   .   .   .   .   .   .   .
        .  x  .   .   .   .   .   .   .   .
    """,
    "gru_reset_before": """r rh z 1- n zn zh h+
        .  .  .   .   .   .   .   y   .
        h  .  .   .   zh  .   h+  .   h'
        .  .  .   .   .   1-  zn  .   .
        .  .  rh  .   .   .   .   .   .
        .  .  r   .   z   .   n   .   .
        .  &  .   .   .   .   .   .   .
        .  x  .   .   .   .   .   .   .
    """,
    "gru_update": """Γ_r rc Γ_u c~ un 1- uc c+
        .  .   .   .   .    .   .   y   .
        c  .   .   .   uc   .   c+  .   c'
        .  .   .   .   1-   .   .   .   .
        .  .   .   .   .    .   un  .   .
        .  .   rc  .   .    .   .   .   .
        .  .   Γ_r .   Γ_u  .   c~  .   .
        .  &   .   .   .    .   .   .   .
        .  x   .   .   .    .   .   .   .
    """,
    "gru_simple": """Γ_u c~ un 1- uc c+
        .  .  .    .   .   .   y   .
        c  .  uc   .   c+  .   .   c'
        .  .  1-   .   .   .   .   .
        .  .  .    .   un  .   .   .
        .  .  Γ_u  .   c~  .   .   .
        .  &  .    .   .   .   .   .
        .  x  .    .   .   .   .   .
    """,
    "minimal_gated": """f 1- fh fn n nn h+
        .  .   .   .   .   .   .   y  .
        h  .   fh  .   .   .   h+  .  h'
        .  .   1-  .   .   .   nn  .  .
        .  .   .   .   fn  .   .   .  .
        .  .   f   .   .   .   n   .  .
        .  .   .   .   .   .   .   .  .
        .  x   .   .   .   .   .   .  .
    """,
    "gru_normalised": """_x _h r _b rw z 1- n zn zh h+
        .  .   .   .  .   .   .   .   .   .   y   .
        h  .   .   .  .   .   zh  .   .   h+  .   h'
        .  .   .   .  .   .   .   .   1-  zn  .   .
        .  _h  .   _b rw  .   .   .   .   .   .   .
        .  .   .   .  r   .   z   .   .   n   .   .
        .  .   &   .  .   .   .   .   .   .   .   .
        .  _x  .   .  .   .   .   .   .   .   .   .
        .  .   .   .  .   .   .   .   .   .   .   .
        .  x   .   .  .   .   .   .   .   .   .   .
    """,
    "recurrent_highway": """t_1 a_1 ta 1- ts s+ t_2 a_2 tb 2- tt sb
        .  .   .    .   .    .   .   .    .   .    .   y  .
        s  .   ts   .   s+   .   .   tt   .   sb   .   .  s'
        .  .   .    1-  .    .   .   .    2-  .    .   .  .
        .  .   .    .   ta   .   .   .    .   tb   .   .  .
        .  .   t_1  .   a_1  .   .   t_2  .   a_2  .   .  .
        .  &   .    .   .    .   .   .    .   .    .   .  .
        .  x   .    .   .    .   .   .    .   .    .   .  .
    """,
    "simple_recurrent_unit": """f fc 1f x~ fx c+ r rc 1r s rs y+
        .  .  .   .   .   .   .   .   .   y   .
        .  .  .   .   .   .   .   rc  .   y+  .
        c  .  .   fc  .   c+  .   .   .   .   c'
        .  .  .   .   1f  fx  .   .   1r  rs  .
        .  .  .   f   .   x~  .   r   .   s   .
        .  .  .   .   .   .   .   .   .   .   .
        .  .  x   .   .   .   .   .   .   .   .
    """,
}
STATES = {
    "simple_recurrent_unit": "c",
    "recurrent_highway": "s",
    "gru_update": "c",
    "gru_simple": "c",
}
INPUTS, H, P = 3, 5, 4
SHAPES = {"lstm_projected": cells.projected_shapes(P), "recurrent_highway": cells.highway_shapes(2)}


@contextmanager
def boxed() -> Iterator[None]:
    """Layer normalisation as one box, and the new states of an LSTM that others use."""
    normalise, lstm = cells.normalised, cells.lstm

    def states(x: Any, state: Any, *params: Any) -> Any:
        def part(k: int) -> Any:
            return lambda h, c, x: lstm(x, (h, c), *params)[1][k]

        return None, tuple(box(f"{s}'", part(k), *state, x) for k, s in enumerate("hc"))

    def normalised(a: Any, gain: Any) -> Any:
        return box("LN", lambda a: normalise(a, gain), a, summed=True)

    with mock.patch.multiple(cells, normalised=normalised, lstm=states):
        yield


def reading(name: str, rows: int = 2) -> Reading:
    """A cell's step on random rows, as its picture shows it."""
    draw = np.random.default_rng(0).standard_normal
    cell = getattr(cells, name)
    shapes = SHAPES.get(name, cell.shapes or cells.lstm.shapes)(INPUTS, H)
    params = [tg.Tensor(draw(s)) for s in shapes.values()]
    states = STATES.get(name, "hc" if name.startswith("lstm") else "h")
    widths = {"x": INPUTS} | dict.fromkeys(states, H)
    widths |= {"k_h": H, "k_c": H} if name == "lstm_zoneout" else {}
    widths |= {"h": P} if name == "lstm_projected" else {}

    def step(x: Any, *given: Any) -> list[Any]:
        parts, masks = given[: len(states)], given[len(states) :]
        with boxed():
            state = parts if len(parts) > 1 else parts[0]
            output, after = cell.step((x, *masks) if masks else x, state, *params)
        return [output, *(after if len(parts) > 1 else [after])]

    inputs = {s: tg.Tensor(draw((rows, n))) for s, n in widths.items()}
    names = SKETCHES[name].split("\n", 1)[0].split()
    return Reading(step, inputs, names, ["y", *(s + "'" for s in states)])


def picture(name: str) -> Figure:
    return sketch(reading(name).read(), SKETCHES[name].split("\n", 1)[1])


PICTURES: dict[str, Callable[[], Figure]] = {
    name: (lambda name=name: picture(name)) for name in SKETCHES
}
