"""RNNCell, LSTMCell and GRUCell: one step of a layer, for loops of your own."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_rnn.autograd.graph import Array, shape_of, wrap
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.cell import Cell
from tinygrad_rnn.nn import cells
from tinygrad_rnn.nn.module import Module, check_dtype, check_sizes
from tinygrad_rnn.nn.recurrent_parts import checked_state, drawn
from tinygrad_rnn.nn.rnn import activation, elman


class _Cell(Module):
    """One step of a cell whose output is its state, or the first part of it."""

    CELL: Cell

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        dtype: Any = np.float32,
        rng: np.random.Generator | None = None,
    ) -> None:
        check_sizes(type(self).__name__, input_size=input_size, hidden_size=hidden_size)
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        self.step, self.states = self.CELL, self.CELL.states
        shapes = self.CELL.shapes(input_size, hidden_size)  # type: ignore[misc]
        self._names = drawn(self, shapes, "", bias, fan=hidden_size, rng=rng, dtype=dtype)

    def weights(self) -> list[Tensor]:
        """What the step is given."""
        return [getattr(self, name) for name in self._names]

    def __call__(self, x: Array, state: Any = None) -> Any:
        where, shape, weights = type(self).__name__, shape_of(x), self.weights()
        if len(shape) not in (1, 2) or shape[-1] != self.input_size:
            raise ValueError(
                f"{where}: expected x of shape (B, {self.input_size}), got {shape}; "
                f"a cell takes one step, nn.{where.removesuffix('Cell')} a sequence (T, B, I)"
            )
        dtype, expected = weights[0].dtype, (*shape[:-1], self.hidden_size)
        check_dtype(where, "x", x, dtype)
        if state is None:
            parts = [wrap(np.zeros(expected, dtype))] * self.states
        else:
            layout = "a state is (B, H), or (H,) beside x (I,)"
            parts = checked_state(where, state, [expected] * self.states, dtype, layout)
        return self.step(x, tuple(parts) if self.states > 1 else parts[0], *weights)[1]

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}{'' if self.bias else ', bias=False'}"


class RNNCell(_Cell):
    """One step of `RNN`.

        h' = tanh(W_ih x + b_ih + W_hh h + b_hh)

    Args:
        input_size: features, I.
        hidden_size: units, H.
        bias: whether b_ih and b_hh are there.
        nonlinearity: "tanh", or "relu" in its place.

    Shapes:
        x (B, I) or (I,); h (B, H) or (H,), None for zeros  ->  h', as h
        weight_ih (H, I), weight_hh (H, H), bias_ih and bias_hh (H,)

    Raises:
        ValueError, TypeError: as `RNN`.

    >>> import tinygrad_rnn as tg
    >>> tg.nn.RNNCell(3, 5)(tg.zeros(2, 3)).shape
    (2, 5)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        *,
        dtype: Any = np.float32,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.CELL, self.nonlinearity = elman("RNNCell", nonlinearity), nonlinearity
        super().__init__(input_size, hidden_size, bias, dtype=dtype, rng=rng)

    def extra_repr(self) -> str:
        return super().extra_repr() + activation(self.nonlinearity)


class LSTMCell(_Cell):
    """One step of `LSTM`.

        i, f, g, o = split(W_ih x + b_ih + W_hh h + b_hh)
        c' = σ(f)·c + σ(i)·tanh(g)
        h' = σ(o)·tanh(c')

    Args:
        input_size: features, I.
        hidden_size: units, H.
        bias: whether b_ih and b_hh are there.

    Shapes:
        x (B, I) or (I,); (h, c) (B, H) or (H,) each, None for zeros  ->  (h', c'), as they
        weight_ih (4H, I), weight_hh (4H, H), bias_ih and bias_hh (4H,)

    Raises:
        ValueError, TypeError: as `LSTM`.

    >>> import tinygrad_rnn as tg
    >>> h, c = tg.nn.LSTMCell(3, 5)(tg.zeros(2, 3))
    >>> h.shape, c.shape
    ((2, 5), (2, 5))
    """

    CELL = cells.lstm


class GRUCell(_Cell):
    """One step of `GRU`.

        r = σ(W_ir x + b_ir + W_hr h + b_hr)
        z = σ(W_iz x + b_iz + W_hz h + b_hz)
        n = tanh(W_in x + b_in + r·(W_hn h + b_hn))
        h' = (1 - z)·n + z·h

    Args:
        input_size: features, I.
        hidden_size: units, H.
        bias: whether b_ih and b_hh are there.

    Shapes:
        x (B, I) or (I,); h (B, H) or (H,), None for zeros  ->  h', as h
        weight_ih (3H, I), weight_hh (3H, H), bias_ih and bias_hh (3H,)

    Raises:
        ValueError, TypeError: as `GRU`.

    >>> import tinygrad_rnn as tg
    >>> tg.nn.GRUCell(3, 5)(tg.zeros(2, 3)).shape
    (2, 5)
    """

    CELL = cells.gru
