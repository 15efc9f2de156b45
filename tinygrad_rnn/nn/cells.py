"""Every recurrent cell, once, as its equations: `step(x, state, *params) -> (output, state)`.

The same lines give a step on arrays, on Tensors (recorded) and, traced, the compiled sequence.
Biases may be left out.
"""

from __future__ import annotations

from tinygrad_rnn.autograd.graph import Array
from tinygrad_rnn.autograd.ops.activation import relu, sigmoid
from tinygrad_rnn.autograd.ops.elementwise import tanh
from tinygrad_rnn.autograd.ops.linalg import linear
from tinygrad_rnn.autograd.ops.shape import split
from tinygrad_rnn.cell import cell

State = tuple[Array, ...]
Bias = Array | None


@cell
def rnn_tanh(
    x: Array, h: Array, w_ih: Array, w_hh: Array, b_ih: Bias = None, b_hh: Bias = None
) -> tuple[Array, Array]:
    """h' = tanh(W_ih x + b_ih + W_hh h + b_hh).

    Elman (1990), Finding Structure in Time, p. 183: the context units. With tanh as in PyTorch.

    Shapes:
        x (B, I), h (B, H), w_ih (H, I), w_hh (H, H), b_ih and b_hh (H,)
    """
    h = tanh(linear(x, w_ih, b_ih) + linear(h, w_hh, b_hh))
    return h, h


@cell
def rnn_relu(
    x: Array, h: Array, w_ih: Array, w_hh: Array, b_ih: Bias = None, b_hh: Bias = None
) -> tuple[Array, Array]:
    """h' = max(W_ih x + b_ih + W_hh h + b_hh, 0).

    Le, Jaitly & Hinton (2015), A Simple Way to Initialize Recurrent Networks of Rectified Linear
    Units, §2.

    Shapes:
        x (B, I), h (B, H), w_ih (H, I), w_hh (H, H), b_ih and b_hh (H,)
    """
    h = relu(linear(x, w_ih, b_ih) + linear(h, w_hh, b_hh))
    return h, h


@cell
def lstm(
    x: Array, state: State, w_ih: Array, w_hh: Array, b_ih: Bias = None, b_hh: Bias = None
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


@cell
def gru(
    x: Array, h: Array, w_ih: Array, w_hh: Array, b_ih: Bias = None, b_hh: Bias = None
) -> tuple[Array, Array]:
    """r = σ(W_ir x + b_ir + W_hr h + b_hr); z = σ(W_iz x + b_iz + W_hz h + b_hz);
    n = tanh(W_in x + b_in + r·(W_hn h + b_hn)); h' = (1 - z)·n + z·h.

    Cho et al. (2014), Learning Phrase Representations using RNN Encoder-Decoder, §2.3, with r
    applied after the product with W_hn. Gate order as in PyTorch.

    Shapes:
        x (B, I), h (B, H), w_ih (3H, I), w_hh (3H, H), b_ih and b_hh (3H,)
    """
    x_r, x_z, x_n = split(linear(x, w_ih, b_ih), 3, axis=-1)
    h_r, h_z, h_n = split(linear(h, w_hh, b_hh), 3, axis=-1)
    r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
    n = tanh(x_n + r * h_n)
    h = (1.0 - z) * n + z * h
    return h, h
