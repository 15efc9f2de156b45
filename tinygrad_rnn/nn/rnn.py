"""RNN, LSTM and GRU: `Recurrent` layers with PyTorch's signatures, names and layouts."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_rnn.nn import cells
from tinygrad_rnn.nn.recurrent import Recurrent, Shape, Shapes
from tinygrad_rnn.scan import Step


def gated(gates: int) -> Shapes:
    """The parameters of a cell with `gates` gates, G, one below another in its matrices."""

    def shapes(input_size: int, hidden_size: int) -> dict[str, Shape]:
        rows = gates * hidden_size
        matrices = {"weight_ih": (rows, input_size), "weight_hh": (rows, hidden_size)}
        return {**matrices, "bias_ih": (rows,), "bias_hh": (rows,)}

    return shapes


def elman(where: str, nonlinearity: str) -> tuple[Step, int, int]:
    """The cell of an RNN, as `CELL`."""
    steps = {"tanh": cells.rnn_tanh, "relu": cells.rnn_relu}
    if nonlinearity not in steps:
        raise ValueError(
            f"{where}: expected nonlinearity 'tanh' or 'relu', got {nonlinearity!r}; "
            "write another one as a cell of your own, for nn.Recurrent"
        )
    return steps[nonlinearity], 1, 1


def activation(nonlinearity: str) -> str:
    """How `repr` shows it."""
    return "" if nonlinearity == "tanh" else f", nonlinearity={nonlinearity!r}"


class _Gated(Recurrent):
    """A `Recurrent` layer with torch's signature."""

    CELL: tuple[Step, int, int]  # its step, gates, and parts of the state

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        dtype: Any = np.float32,
        rng: np.random.Generator | None = None,
    ) -> None:
        step, gates, states = self.CELL
        super().__init__(
            step,
            input_size,
            hidden_size,
            gated(gates),
            states=states,
            num_layers=num_layers,
            bias=bias,
            batch_first=batch_first,
            dropout=dropout,
            bidirectional=bidirectional,
            dtype=dtype,
            rng=rng,
        )


class RNN(_Gated):
    """Elman layer, run over a whole sequence.

        h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)

    Args:
        input_size: features per step, I.
        hidden_size: units, H.
        num_layers: layers, L; each reads the outputs of the one below.
        nonlinearity: "tanh", or "relu" in its place.
        bias, batch_first, dropout, bidirectional, rng: as of `Recurrent`.

    Shapes:
        x (T, B, I); h_0 (L·D, B, H)  ->  output (T, B, D·H); h_n (L·D, B, H)
        weight_ih_l{k} (H, I), or (H, D·H) for k > 0; weight_hh_l{k} (H, H); biases (H,);
        those of the other direction end in _reverse

    Raises:
        ValueError: if a size, x, the state or the lengths do not fit.
        TypeError: if x or the state has another dtype than the weights, or the state is a tuple.

    Elman (1990), Finding Structure in Time. Names, layouts and initialisation as in PyTorch.

    >>> import tinygrad_rnn as tg
    >>> output, h_n = tg.nn.RNN(3, 5)(tg.zeros(7, 2, 3))
    >>> output.shape, h_n.shape
    ((7, 2, 5), (1, 2, 5))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        dtype: Any = np.float32,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.CELL, self.nonlinearity = elman("RNN", nonlinearity), nonlinearity
        options = (num_layers, bias, batch_first, dropout, bidirectional)
        super().__init__(input_size, hidden_size, *options, dtype=dtype, rng=rng)

    def extra_repr(self) -> str:
        return super().extra_repr() + activation(self.nonlinearity)


class LSTM(_Gated):
    """Long short-term memory layer, run over a whole sequence.

        i, f, g, o = split(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)
        c_t = σ(f)·c_{t-1} + σ(i)·tanh(g)
        h_t = σ(o)·tanh(c_t)

    Args:
        input_size: features per step, I.
        hidden_size: units, H.
        num_layers: layers, L; each reads the outputs of the one below.
        bias, batch_first, dropout, bidirectional, rng: as of `Recurrent`.

    Shapes:
        x (T, B, I); h_0, c_0 (L·D, B, H)  ->  output (T, B, D·H); h_n, c_n (L·D, B, H)
        weight_ih_l{k} (4H, I), or (4H, D·H) for k > 0; weight_hh_l{k} (4H, H); biases (4H,);
        those of the other direction end in _reverse

    Raises:
        ValueError: if a size, x, a state or the lengths do not fit.
        TypeError: if x or a state has another dtype than the weights, or the state is no pair.

    Gers, Schmidhuber & Cummins (2000), Learning to Forget, §3. Gate order, names, layouts and
    initialisation as in PyTorch.

    >>> import tinygrad_rnn as tg
    >>> output, (h_n, c_n) = tg.nn.LSTM(3, 5)(tg.zeros(7, 2, 3))
    >>> output.shape, h_n.shape
    ((7, 2, 5), (1, 2, 5))
    """

    CELL = (cells.lstm, 4, 2)


class GRU(_Gated):
    """Gated recurrent unit layer, run over a whole sequence.

        r = σ(W_ir x_t + b_ir + W_hr h_{t-1} + b_hr)
        z = σ(W_iz x_t + b_iz + W_hz h_{t-1} + b_hz)
        n = tanh(W_in x_t + b_in + r·(W_hn h_{t-1} + b_hn))
        h_t = (1 - z)·n + z·h_{t-1}

    Args:
        input_size: features per step, I.
        hidden_size: units, H.
        num_layers: layers, L; each reads the outputs of the one below.
        bias, batch_first, dropout, bidirectional, rng: as of `Recurrent`.

    Shapes:
        x (T, B, I); h_0 (L·D, B, H)  ->  output (T, B, D·H); h_n (L·D, B, H)
        weight_ih_l{k} (3H, I), or (3H, D·H) for k > 0; weight_hh_l{k} (3H, H); biases (3H,);
        those of the other direction end in _reverse

    Raises:
        ValueError: if a size, x, the state or the lengths do not fit.
        TypeError: if x or the state has another dtype than the weights, or the state is a tuple.

    Cho et al. (2014), Learning Phrase Representations using RNN Encoder-Decoder, §2.3, with the
    reset after the product. Gate order, names, layouts and initialisation as in PyTorch.

    >>> import tinygrad_rnn as tg
    >>> output, h_n = tg.nn.GRU(3, 5, bidirectional=True)(tg.zeros(7, 2, 3))
    >>> output.shape, h_n.shape
    ((7, 2, 10), (2, 2, 5))
    """

    CELL = (cells.gru, 3, 1)
