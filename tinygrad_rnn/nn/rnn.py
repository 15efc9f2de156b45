"""RNN, LSTM and GRU: `Recurrent` layers with PyTorch's signatures, names and layouts."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_rnn.cell import Cell
from tinygrad_rnn.nn import cells
from tinygrad_rnn.nn.recurrent import USUAL, Recurrent

Rng = np.random.Generator | None


def elman(where: str, nonlinearity: str) -> Cell:
    """The cell of an RNN."""
    steps = {"tanh": cells.rnn_tanh, "relu": cells.rnn_relu}
    if nonlinearity not in steps:
        raise ValueError(
            f"{where}: expected nonlinearity 'tanh' or 'relu', got {nonlinearity!r}; "
            "write another one as a cell of your own, for nn.Recurrent"
        )
    return steps[nonlinearity]


def activation(nonlinearity: str) -> str:
    """How `repr` shows it."""
    return "" if nonlinearity == "tanh" else f", nonlinearity={nonlinearity!r}"


def named(where: str, flags: tuple[Any, ...], **options: Any) -> dict[str, Any]:
    """What `Recurrent` takes by name; torch takes some of it by position."""
    if unknown := options.keys() - {*USUAL, "dtype", "rng"}:
        known = f"options {', '.join(USUAL)}, dtype and rng"
        raise TypeError(f"{where}: expected {known}, got {', '.join(sorted(unknown))}")
    return {**dict(zip(USUAL, flags, strict=False)), **options}


class RNN(Recurrent):
    """Elman layer, run over a whole sequence.

        h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)

    Args:
        input_size: features per step, I.
        hidden_size: units, H.
        num_layers: layers, L; each reads the outputs of the one below.
        nonlinearity: "tanh", or "relu" in its place.
        bias, batch_first, dropout, bidirectional, rng, options: as of `Recurrent`.

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

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1,
                 nonlinearity: str = "tanh", bias: bool = True, batch_first: bool = False,
                 dropout: float = 0.0, bidirectional: bool = False, *, dtype: Any = np.float32,
                 rng: Rng = None, **options: Any) -> None:  # fmt: skip
        cell, self.nonlinearity = elman("RNN", nonlinearity), nonlinearity
        flags = (num_layers, bias, batch_first, dropout, bidirectional)
        options = named("RNN", flags, dtype=dtype, rng=rng, **options)
        super().__init__(cell, input_size, hidden_size, **options)

    def extra_repr(self) -> str:
        return super().extra_repr() + activation(self.nonlinearity)


class LSTM(Recurrent):
    """Long short-term memory layer, run over a whole sequence.

        i, f, g, o = split(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)
        c_t = σ(f)·c_{t-1} + σ(i)·tanh(g)
        h_t = σ(o)·tanh(c_t)

    Args:
        input_size: features per step, I.
        hidden_size: units, H.
        num_layers: layers, L; each reads the outputs of the one below.
        bias, batch_first, dropout, bidirectional, rng, options: as of `Recurrent`.
        proj_size: the width P of h_t = W_hr (σ(o)·tanh(c_t)), if not 0; less than H.

    Shapes:
        x (T, B, I); h_0, c_0 (L·D, B, H)  ->  output (T, B, D·H); h_n, c_n (L·D, B, H)
        weight_ih_l{k} (4H, I), or (4H, D·H) for k > 0; weight_hh_l{k} (4H, H); biases (4H,);
        those of the other direction end in _reverse. With proj_size P is in the place of H of the
        output, h_0, h_n and the columns of weight_hh, and there is a weight_hr_l{k} (P, H)

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

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
                 batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False,
                 proj_size: int = 0, *, dtype: Any = np.float32, rng: Rng = None,
                 **options: Any) -> None:  # fmt: skip
        self.proj_size, cell = proj_size, cells.lstm
        flags = (num_layers, bias, batch_first, dropout, bidirectional)
        options = named("LSTM", flags, dtype=dtype, rng=rng, **options)
        if proj_size:
            if not 0 < proj_size < hidden_size:
                raise ValueError(
                    f"LSTM: expected a proj_size in 0..{hidden_size - 1}, less than hidden_size, "
                    f"got {proj_size}; 0 is for no projection"
                )
            cell, options["states"] = cells.lstm_projected, (proj_size, hidden_size)
            options["shapes"] = cells.projected_shapes(proj_size)
        super().__init__(cell, input_size, hidden_size, **options)

    def extra_repr(self) -> str:
        return super().extra_repr() + (f", proj_size={self.proj_size}" if self.proj_size else "")


class GRU(Recurrent):
    """Gated recurrent unit layer, run over a whole sequence.

        r = σ(W_ir x_t + b_ir + W_hr h_{t-1} + b_hr)
        z = σ(W_iz x_t + b_iz + W_hz h_{t-1} + b_hz)
        n = tanh(W_in x_t + b_in + r·(W_hn h_{t-1} + b_hn))
        h_t = (1 - z)·n + z·h_{t-1}

    Args:
        input_size: features per step, I.
        hidden_size: units, H.
        num_layers: layers, L; each reads the outputs of the one below.
        bias, batch_first, dropout, bidirectional, rng, options: as of `Recurrent`.
        reset_after: if false, r is applied before the product, W_hn (r·h_{t-1}), as by Cho et al.

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

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
                 batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False,
                 reset_after: bool = True, *, dtype: Any = np.float32, rng: Rng = None,
                 **options: Any) -> None:  # fmt: skip
        self.reset_after = reset_after
        cell = cells.gru if reset_after else cells.gru_reset_before
        flags = (num_layers, bias, batch_first, dropout, bidirectional)
        options = named("GRU", flags, dtype=dtype, rng=rng, **options)
        super().__init__(cell, input_size, hidden_size, **options)

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self.reset_after else ", reset_after=False")
