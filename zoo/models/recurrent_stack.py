"""Recurrent layers of any cell, one above the other, with connections past them or without.

none      x_k = f_k(x_{k-1})
residual  x_k = x_{k-1} + f_k(x_{k-1})
highway   x_k = t f_k(x_{k-1}) + (1 - t) x_{k-1},  t = σ(W x_{k-1} + b)
dense     x_k = f_k([x_0, ..., x_{k-1}]);  the output is [x_0, ..., x_L]
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_rnn import nn
from tinygrad_rnn.cell import Cell
from tinygrad_rnn.nn import cells

CONNECTIONS = ("none", "residual", "highway", "dense")
KEPT = 0.1  # the share of units whose state a zoneout keeps
STEPS = {name: step for name, step in vars(cells).items() if isinstance(step, Cell)}
CELLS = ("rnn", *sorted(STEPS))  # rnn is rnn_tanh


def recurrent(
    cell: str, inputs: int, units: int, rng: np.random.Generator, **options: Any
) -> nn.Recurrent:
    """One layer, with options of `nn.Recurrent`. In that of `lstm_zoneout` a tenth of the units,
    others at every step, keep their state in training; the output of `lstm_projected` is half as
    wide as its cell.

    >>> recurrent("gru", 3, 5, np.random.default_rng(0))
    Recurrent(gru, 3, 5)
    """
    if cell == "lstm_zoneout":
        return nn.Recurrent(cells.lstm, inputs, units, zoneout=KEPT, rng=rng, **options)
    if cell == "lstm_projected":
        return nn.LSTM(inputs, units, proj_size=max(1, units // 2), rng=rng, **options)
    step = STEPS["rnn_tanh" if cell == "rnn" else cell]
    return nn.Recurrent(step, inputs, units, rng=rng, **options)


def stack(
    cell: str,
    connection: str,
    inputs: int,
    units: int,
    layers: int,
    dropout: float,
    rng: np.random.Generator,
    **options: Any,
) -> tuple[nn.Sequential, int]:
    """The layers as one module, (x, state) -> (output, state), and the width of its output.

    Args:
        cell: one of CELLS.
        connection: one of CONNECTIONS, around every layer but the first.
        inputs, units: widths of x and of each layer, I and H.
        layers: their number, L.
        dropout: the share of features that each layer but the first misses in training, the same
            at all steps.
        rng: draws the first weights, and what is dropped.
        options: of each layer as `nn.Recurrent` has them.

    >>> import tinygrad_rnn as tg
    >>> deep, width = stack("gru", "dense", 3, 5, 2, 0.0, np.random.default_rng(0))
    >>> deep(tg.zeros(7, 2, 3))[0].shape, width
    ((7, 2, 13), 13)
    """
    first = recurrent(cell, inputs, units, rng, **options)
    blocks: list[Any] = [first]
    width = first.output_size
    for _ in range(1, layers):
        below = inputs + len(blocks) * width if connection == "dense" else width
        block: Any = nn.Sequential(
            nn.LockedDropout(dropout, rng=rng), recurrent(cell, below, units, rng, **options)
        )
        if connection == "residual":
            block = nn.Residual(block)
        elif connection == "highway":
            block = nn.Highway(width, block, rng=rng)
        blocks.append(block)
    if connection == "dense":
        return nn.Dense(*blocks), inputs + layers * width
    return nn.Sequential(*blocks), width
