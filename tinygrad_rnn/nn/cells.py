"""Every recurrent cell, once, as its equations: `step(x, state, *params) -> (output, state)`.

The same lines give a step on arrays, on Tensors (recorded) and, traced, the compiled sequence.
"""

from __future__ import annotations

from tinygrad_rnn.autograd.graph import Array
from tinygrad_rnn.autograd.ops.activation import sigmoid
from tinygrad_rnn.autograd.ops.elementwise import tanh
from tinygrad_rnn.autograd.ops.linalg import linear
from tinygrad_rnn.autograd.ops.shape import split

State = tuple[Array, ...]


def lstm(
    x: Array, state: State, w_ih: Array, w_hh: Array, b_ih: Array, b_hh: Array
) -> tuple[Array, State]:
    """i, f, g, o = split(W_ih x + b_ih + W_hh h + b_hh); c' = σ(f)·c + σ(i)·tanh(g);
    h' = σ(o)·tanh(c').

    Hochreiter & Schmidhuber (1997), Long Short-Term Memory, §4, with the forget gate of Gers,
    Schmidhuber & Cummins (2000), Learning to Forget, §3. Gate order as in PyTorch.

    Shapes:
        x (B, I), h and c (B, H), w_ih (4H, I), w_hh (4H, H), b_ih and b_hh (4H,)
    """
    h, c = state
    i, f, g, o = split(linear(x, w_ih, b_ih) + linear(h, w_hh, b_hh), 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    h = sigmoid(o) * tanh(c)
    return h, (h, c)
