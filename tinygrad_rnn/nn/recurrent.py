"""Recurrent layers: everything that is not the recurrence."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_rnn.autograd.graph import shape_of
from tinygrad_rnn.autograd.ops.shape import stack, unstack
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.nn import cells, init
from tinygrad_rnn.nn.module import Module, check_dtype
from tinygrad_rnn.scan import scan


class LSTM(Module):
    """Long short-term memory layer, run over a whole sequence.

        i, f, g, o = split(x_t W_ihᵀ + b_ih + h_{t-1} W_hhᵀ + b_hh)
        c_t = σ(f)·c_{t-1} + σ(i)·tanh(g)
        h_t = σ(o)·tanh(c_t)

    Args:
        input_size: features per step, I.
        hidden_size: units, H.
        num_layers: layers, L; each reads the outputs of the one below.

    Shapes:
        x (T, B, I); h_0, c_0 (L, B, H)  ->  output (T, B, H); h_n, c_n (L, B, H)
        weight_ih_l{k} (4H, I), or (4H, H) for k > 0; weight_hh_l{k} (4H, H); biases (4H,)

    Raises:
        ValueError: if x or a state has another shape.
        TypeError: if x or a state has another dtype than the weights, or the state is no pair.

    Gers, Schmidhuber & Cummins (2000), Learning to Forget, §3. Gate order, names and
    initialisation as in PyTorch.

    >>> import tinygrad_rnn as tg
    >>> output, (h_n, c_n) = tg.nn.LSTM(3, 5)(tg.zeros(7, 2, 3))
    >>> output.shape, h_n.shape
    ((7, 2, 5), (1, 2, 5))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        dtype: Any = np.float32,
        rng: np.random.Generator | None = None,
    ) -> None:
        if min(input_size, hidden_size, num_layers) < 1:
            raise ValueError(
                "LSTM: expected sizes of at least 1, got "
                f"input_size={input_size}, hidden_size={hidden_size}, num_layers={num_layers}"
            )
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        rows, fan = 4 * hidden_size, {"fan": hidden_size, "rng": rng, "dtype": dtype}
        for k in range(num_layers):
            columns = input_size if k == 0 else hidden_size
            setattr(self, f"weight_ih_l{k}", init.uniform(rows, columns, **fan))
            setattr(self, f"weight_hh_l{k}", init.uniform(rows, hidden_size, **fan))
            setattr(self, f"bias_ih_l{k}", init.uniform(rows, **fan))
            setattr(self, f"bias_hh_l{k}", init.uniform(rows, **fan))

    def weights(self, layer: int) -> list[Tensor]:
        """The four parameters of a layer."""
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        return [getattr(self, f"{name}_l{layer}") for name in names]

    def __call__(
        self, x: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        dtype = self.weights(0)[0].dtype
        self._check_input(x, dtype)
        shape = (self.num_layers, x.shape[1], self.hidden_size)
        if state is None:
            state = (Tensor(np.zeros(shape, dtype)), Tensor(np.zeros(shape, dtype)))
        self._check_state(state, shape, dtype)
        last = []
        for k, start in enumerate(zip(*map(unstack, state), strict=True)):
            x, end = scan(cells.lstm, x, start, self.weights(k))
            last.append(end)
        h_n, c_n = (stack(s) for s in zip(*last, strict=True))
        return x, (h_n, c_n)

    def _check_input(self, x: Tensor, dtype: np.dtype) -> None:
        shape = shape_of(x)
        if len(shape) != 3 or shape[2] != self.input_size:
            raise ValueError(
                f"LSTM: expected x of shape (T, B, {self.input_size}), got {shape}; "
                "the layer is time-major: for batch-major input pass tg.swapaxes(x, 0, 1)"
            )
        check_dtype("LSTM", "x", x, dtype)

    def _check_state(self, state: Any, shape: tuple[int, ...], dtype: np.dtype) -> None:
        if not isinstance(state, (tuple, list)) or len(state) != 2:
            raise TypeError(
                f"LSTM: expected the state as a pair (h_0, c_0), got {type(state).__name__}"
                f"{f' of {len(state)}' if isinstance(state, (tuple, list)) else ''}"
            )
        for name, s in zip(("h_0", "c_0"), state, strict=True):
            if shape_of(s) != shape:
                raise ValueError(
                    f"LSTM: expected {name} of shape {shape}, got {shape_of(s)}; "
                    "a state is (L, B, H): one row per layer and sequence"
                )
            check_dtype("LSTM", name, s, dtype)
