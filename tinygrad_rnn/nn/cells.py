"""Every recurrent cell, once, as its equations: `step(x, state, *params) -> (output, state)`.

The same lines give a step on arrays, on Tensors (recorded) and, traced, the compiled sequence;
`nn.Recurrent(cells.NAME, I, H)` is a layer. x is (B, I), each state (B, H), and W_a·, w_a stand for
a block of rows of a matrix, as they follow one another. Biases may be left out. `seen(h)` is h, but
in training with a `recurrent_dropout`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tinygrad_rnn.autograd.graph import Array
from tinygrad_rnn.autograd.ops.activation import relu, sigmoid
from tinygrad_rnn.autograd.ops.elementwise import sqrt, square, tanh
from tinygrad_rnn.autograd.ops.linalg import linear
from tinygrad_rnn.autograd.ops.reduce import mean
from tinygrad_rnn.autograd.ops.shape import split
from tinygrad_rnn.cell import Cell, cell
from tinygrad_rnn.nn.around import seen

State = tuple[Array, ...]
Bias = Array | None
Shapes = Callable[[int, int], dict[str, tuple[int, ...]]]


def layered(shapes: Shapes, states: int = 1) -> Callable[[Any], Cell]:
    """Make a step a cell that `nn.Recurrent` knows the parameters of: their names and shapes, by I
    and H, and the number of states."""

    def decorate(step: Any) -> Cell:
        made = cell(step)
        made.shapes, made.states = shapes, states
        return made

    return decorate


def gated(gates: int, both: bool = True, **vectors: int) -> Shapes:
    """W_ih and W_hh of so many gates; vectors, of so many times H; one bias or two."""

    def shapes(inputs: int, units: int) -> dict[str, tuple[int, ...]]:
        rows = gates * units
        found: dict[str, tuple[int, ...]] = {}
        found |= {"weight_ih": (rows, inputs), "weight_hh": (rows, units)}
        found |= {name: (n * units,) for name, n in vectors.items()}
        return found | ({"bias_ih": (rows,), "bias_hh": (rows,)} if both else {"bias": (rows,)})

    return shapes


@layered(gated(1))
def rnn_tanh(
    x: Array, h: Array, w_ih: Array, w_hh: Array, b_ih: Bias = None, b_hh: Bias = None
) -> tuple[Array, Array]:
    """h' = tanh(W_ih x + b_ih + W_hh h + b_hh).

    Elman (1990), Finding Structure in Time, p. 183: the context units. With tanh as in PyTorch.

    Shapes:
        x (B, I), h (B, H), w_ih (H, I), w_hh (H, H), b_ih and b_hh (H,)
    """
    h = tanh(linear(x, w_ih, b_ih) + linear(seen(h), w_hh, b_hh))
    return h, h


@layered(gated(1))
def rnn_relu(
    x: Array, h: Array, w_ih: Array, w_hh: Array, b_ih: Bias = None, b_hh: Bias = None
) -> tuple[Array, Array]:
    """h' = max(W_ih x + b_ih + W_hh h + b_hh, 0).

    Le, Jaitly & Hinton (2015), A Simple Way to Initialize Recurrent Networks of Rectified Linear
    Units, §2.

    Shapes:
        x (B, I), h (B, H), w_ih (H, I), w_hh (H, H), b_ih and b_hh (H,)
    """
    h = relu(linear(x, w_ih, b_ih) + linear(seen(h), w_hh, b_hh))
    return h, h


@layered(gated(4), states=2)
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
    i, f, g, o = split(linear(x, w_ih, b_ih) + linear(seen(h), w_hh, b_hh), 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    h = sigmoid(o) * tanh(c)
    return h, (h, c)


@layered(gated(3))
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
    h_r, h_z, h_n = split(linear(seen(h), w_hh, b_hh), 3, axis=-1)
    r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
    n = tanh(x_n + r * h_n)
    h = (1.0 - z) * n + z * h
    return h, h


@layered(gated(3))
def gru_reset_before(
    x: Array, h: Array, w_ih: Array, w_hh: Array, b_ih: Bias = None, b_hh: Bias = None
) -> tuple[Array, Array]:
    """r, z = σ(W_i x + b_i + W_h h + b_h); n = tanh(W_in x + b_in + W_hn (r·h) + b_hn);
    h' = (1 - z)·n + z·h.

    Cho et al. (2014), Learning Phrase Representations using RNN Encoder-Decoder, §2.3: the reset
    before the product, as of Keras' GRU(reset_after=False).

    Shapes:
        x (B, I), h (B, H), w_ih (3H, I), w_hh (3H, H), b_ih and b_hh (3H,)
    """
    cut = [2 * h.shape[-1]]
    w_g, w_n = split(w_hh, cut, axis=0)
    b_g, b_n = (None, None) if b_hh is None else split(b_hh, cut)
    x_g, x_n = split(linear(x, w_ih, b_ih), cut, axis=-1)
    r, z = split(sigmoid(x_g + linear(seen(h), w_g, b_g)), 2, axis=-1)
    n = tanh(x_n + linear(r * seen(h), w_n, b_n))
    h = (1.0 - z) * n + z * h
    return h, h


@layered(gated(3, both=False))
def gru_update(x: Array, c: Array, w_ih: Array, w_hh: Array, b: Bias = None) -> tuple[Array, Array]:
    """Γ_r, Γ_u = σ(W_i x + W_h c + b); c̃ = tanh(W_ic x + W_hc (Γ_r·c) + b_c);
    c' = Γ_u·c̃ + (1 - Γ_u)·c.

    The GRU as it is often taught: Γ_u, which is 1 - z elsewhere, multiplies what is new. Chung et
    al. (2014), Empirical Evaluation of Gated Recurrent Neural Networks, §3.2.

    Shapes:
        x (B, I), c (B, H), w_ih (3H, I), w_hh (3H, H), b (3H,)
    """
    cut = [2 * c.shape[-1]]
    w_g, w_c = split(w_hh, cut, axis=0)
    x_g, x_c = split(linear(x, w_ih, b), cut, axis=-1)
    r, u = split(sigmoid(x_g + linear(seen(c), w_g)), 2, axis=-1)
    c = u * tanh(x_c + linear(r * seen(c), w_c)) + (1.0 - u) * c
    return c, c


@layered(gated(2, both=False))
def gru_simple(x: Array, c: Array, w_ih: Array, w_hh: Array, b: Bias = None) -> tuple[Array, Array]:
    """Γ_u = σ(W_iu x + W_hu c + b_u); c̃ = tanh(W_ic x + W_hc c + b_c);
    c' = Γ_u·c̃ + (1 - Γ_u)·c.

    `gru_update` without the reset: an update gate alone.

    Shapes:
        x (B, I), c (B, H), w_ih (2H, I), w_hh (2H, H), b (2H,)
    """
    u, new = split(linear(x, w_ih, b) + linear(seen(c), w_hh), 2, axis=-1)
    u = sigmoid(u)
    c = u * tanh(new) + (1.0 - u) * c
    return c, c


@layered(gated(2, both=False))
def minimal_gated(
    x: Array, h: Array, w_ih: Array, w_hh: Array, b: Bias = None
) -> tuple[Array, Array]:
    """f = σ(W_if x + W_hf h + b_f); n = tanh(W_in x + W_hn (f·h) + b_n); h' = (1 - f)·h + f·n.

    Zhou, Wu, Zhang & Zhou (2016), Minimal Gated Unit for Recurrent Neural Networks, §3.

    Shapes:
        x (B, I), h (B, H), w_ih (2H, I), w_hh (2H, H), b (2H,)
    """
    w_f, w_n = split(w_hh, 2, axis=0)
    x_f, x_n = split(linear(x, w_ih, b), 2, axis=-1)
    f = sigmoid(x_f + linear(seen(h), w_f))
    h = (1.0 - f) * h + f * tanh(x_n + linear(f * seen(h), w_n))
    return h, h


@layered(gated(4), states=2)
def lstm_linear_output(
    x: Array, state: State, w_ih: Array, w_hh: Array, b_ih: Bias = None, b_hh: Bias = None
) -> tuple[Array, State]:
    """`lstm` with h' = σ(o)·c', which is not squashed on its way out.

    Greff et al. (2017), LSTM: A Search Space Odyssey, §3: no output activation function (NOAF).

    Shapes:
        as of `lstm`
    """
    h, c = state
    i, f, g, o = split(linear(x, w_ih, b_ih) + linear(seen(h), w_hh, b_hh), 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    h = sigmoid(o) * c
    return h, (h, c)


@layered(gated(4, both=False, weight_ci=1, weight_cf=1, weight_co=1), states=2)
def lstm_peephole(
    x: Array,
    state: State,
    w_ih: Array,
    w_hh: Array,
    p_i: Array,
    p_f: Array,
    p_o: Array,
    b: Bias = None,
) -> tuple[Array, State]:
    """i, f, g, o = split(W_ih x + W_hh h + b); c' = σ(f + p_f·c)·c + σ(i + p_i·c)·tanh(g);
    h' = σ(o + p_o·c')·tanh(c').

    Gers & Schmidhuber (2000), Recurrent Nets that Time and Count, §3: gates that see the cell.

    Shapes:
        as of `lstm`; p_i, p_f and p_o (H,), b (4H,)
    """
    h, c = state
    i, f, g, o = split(linear(x, w_ih, b) + linear(seen(h), w_hh), 4, axis=-1)
    c = sigmoid(f + p_f * c) * c + sigmoid(i + p_i * c) * tanh(g)
    h = sigmoid(o + p_o * c) * tanh(c)
    return h, (h, c)


@layered(gated(3, both=False), states=2)
def lstm_coupled(
    x: Array, state: State, w_ih: Array, w_hh: Array, b: Bias = None
) -> tuple[Array, State]:
    """f, g, o = split(W_ih x + W_hh h + b); c' = σ(f)·c + (1 - σ(f))·tanh(g); h' = σ(o)·tanh(c').

    Greff et al. (2017), LSTM: A Search Space Odyssey, §3: coupled input and forget gate (CIFG).

    Shapes:
        x (B, I), h and c (B, H), w_ih (3H, I), w_hh (3H, H), b (3H,)
    """
    h, c = state
    f, g, o = split(linear(x, w_ih, b) + linear(seen(h), w_hh), 3, axis=-1)
    f = sigmoid(f)
    c = f * c + (1.0 - f) * tanh(g)
    h = sigmoid(o) * tanh(c)
    return h, (h, c)


def projected_shapes(width: int) -> Shapes:
    """The parameters of `lstm_projected`, whose h is so wide."""

    def shapes(inputs: int, units: int) -> dict[str, tuple[int, ...]]:
        rows = 4 * units
        found = {"weight_ih": (rows, inputs), "weight_hh": (rows, width)}
        return found | {"weight_hr": (width, units), "bias_ih": (rows,), "bias_hh": (rows,)}

    return shapes


@cell
def lstm_projected(
    x: Array,
    state: State,
    w_ih: Array,
    w_hh: Array,
    w_hr: Array,
    b_ih: Bias = None,
    b_hh: Bias = None,
) -> tuple[Array, State]:
    """`lstm` with h' = W_hr (σ(o)·tanh(c')), narrower than c'.

    Sak, Senior & Beaufays (2014), Long Short-Term Memory Based Recurrent Neural Network
    Architectures for Large Vocabulary Speech Recognition, §2; PyTorch's proj_size, P.

    Shapes:
        x (B, I), h (B, P), c (B, H), w_ih (4H, I), w_hh (4H, P), w_hr (P, H), b_ih and b_hh (4H,)
    """
    h, c = state
    i, f, g, o = split(linear(x, w_ih, b_ih) + linear(seen(h), w_hh, b_hh), 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    h = linear(sigmoid(o) * tanh(c), w_hr)
    return h, (h, c)


def normalised(a: Array, gain: Array) -> Array:
    """gain·(a - mean(a)) / √(var(a) + 1e-5), over the last axis.

    Ba, Kiros & Hinton (2016), Layer Normalization, equation 4.
    """
    a = a - mean(a, -1, keepdims=True)
    return a * (1.0 / sqrt(mean(square(a), -1, keepdims=True) + 1e-5)) * gain


@layered(gated(4, both=False, gain_ih=4, gain_hh=4, gain_c=1, shift_c=1), states=2)
def lstm_normalised(
    x: Array,
    state: State,
    w_ih: Array,
    w_hh: Array,
    g_ih: Array,
    g_hh: Array,
    g_c: Array,
    s_c: Array,
    b: Bias = None,
) -> tuple[Array, State]:
    """i, f, g, o = split(LN(W_ih x) + LN(W_hh h) + b); c' = σ(f)·c + σ(i)·tanh(g);
    h' = σ(o)·tanh(LN(c') + s_c).

    Ba, Kiros & Hinton (2016), Layer Normalization, supplementary material, equations 20-22.

    Shapes:
        x (B, I), h and c (B, H), w_ih (4H, I), w_hh (4H, H), g_ih, g_hh and b (4H,), g_c, s_c (H,)
    """
    h, c = state
    a = normalised(linear(x, w_ih), g_ih) + normalised(linear(seen(h), w_hh), g_hh)
    i, f, g, o = split(a if b is None else a + b, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    h = sigmoid(o) * tanh(normalised(c, g_c) + s_c)
    return h, (h, c)


@layered(gated(3, gain_ih=3, gain_hh=3))
def gru_normalised(
    x: Array,
    h: Array,
    w_ih: Array,
    w_hh: Array,
    g_ih: Array,
    g_hh: Array,
    b_ih: Bias = None,
    b_hh: Bias = None,
) -> tuple[Array, Array]:
    """`gru` of LN(W_ih x) + b_ih and LN(W_hh h) + b_hh.

    Ba, Kiros & Hinton (2016), Layer Normalization, supplementary material, equations 23-26, with
    the reset after the product.

    Shapes:
        x (B, I), h (B, H), w_ih (3H, I), w_hh (3H, H), all vectors (3H,)
    """
    a, u = normalised(linear(x, w_ih), g_ih), normalised(linear(seen(h), w_hh), g_hh)
    x_r, x_z, x_n = split(a if b_ih is None else a + b_ih, 3, axis=-1)
    h_r, h_z, h_n = split(u if b_hh is None else u + b_hh, 3, axis=-1)
    r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
    n = tanh(x_n + r * h_n)
    h = (1.0 - z) * n + z * h
    return h, h


@cell
def lstm_zoneout(
    xs: tuple[Array, Array, Array],
    state: State,
    w_ih: Array,
    w_hh: Array,
    b_ih: Bias = None,
    b_hh: Bias = None,
) -> tuple[Array, State]:
    """`lstm` with c'' = k_c·c + (1 - k_c)·c' and h'' = k_h·h + (1 - k_h)·h', where k is 1 in units
    that keep their state.

    Krueger et al. (2017), Zoneout: Regularizing RNNs by Randomly Preserving Hidden Activations,
    §3. For prediction k is the share that was kept.

    Shapes:
        xs: x (B, I), k_h and k_c (B, H) or (B, 1); the others as of `lstm`
    """
    x, k_h, k_c = xs
    h, c = state
    _, (h_new, c_new) = lstm(x, state, w_ih, w_hh, b_ih, b_hh)
    c = k_c * c + (1.0 - k_c) * c_new
    h = k_h * h + (1.0 - k_h) * h_new
    return h, (h, c)


@layered(
    lambda i, h: {
        "weight_mx": (h, i),
        "weight_mh": (h, h),
        "weight_ih": (4 * h, i),
        "weight_mg": (4 * h, h),
        "bias": (4 * h,),
    },
    states=2,
)
def lstm_multiplicative(
    x: Array, state: State, w_mx: Array, w_mh: Array, w_ih: Array, w_mg: Array, b: Bias = None
) -> tuple[Array, State]:
    """m = (W_mx x)·(W_mh h); `lstm` with m in the place of h.

    Krause, Lu, Murray & Renals (2016), Multiplicative LSTM for Sequence Modelling, §3.

    Shapes:
        x (B, I), h and c (B, H), w_mx (H, I), w_mh (H, H), w_ih (4H, I), w_mg (4H, H), b (4H,)
    """
    h, c = state
    m = linear(x, w_mx) * linear(seen(h), w_mh)
    i, f, g, o = split(linear(x, w_ih, b) + linear(m, w_mg), 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    h = sigmoid(o) * tanh(c)
    return h, (h, c)


@layered(lambda i, h: {"weight_ih": (h, i), "weight_hh": (h,), "bias": (h,)})
def independent(x: Array, h: Array, w: Array, u: Array, b: Bias = None) -> tuple[Array, Array]:
    """h' = max(W x + u·h + b, 0): each unit sees itself alone.

    Li, Li, Cook, Zhu & Gao (2018), Independently Recurrent Neural Network (IndRNN), §3.

    Shapes:
        x (B, I), h (B, H), w (H, I), u and b (H,)
    """
    h = relu(linear(x, w, b) + u * seen(h))
    return h, h


def highway_shapes(depth: int) -> Shapes:
    """The parameters of `recurrent_highway`, so many layers deep."""

    def shapes(inputs: int, units: int) -> dict[str, tuple[int, ...]]:
        found: dict[str, tuple[int, ...]] = {"weight_ih": (2 * units, inputs)}
        for k in range(depth):
            found |= {f"weight_hh{k}": (2 * units, units), f"shift_h{k}": (2 * units,)}
        return found

    return shapes


@layered(highway_shapes(3))
def recurrent_highway(x: Array, s: Array, w: Array, *layers: Array) -> tuple[Array, Array]:
    """a, t = split(W x + R_k s + b_k), W x in the first layer alone; s' = σ(t)·tanh(a) +
    (1 - σ(t))·s, layer after layer.

    Zilly, Srivastava, Koutník & Schmidhuber (2017), Recurrent Highway Networks, §4, with the carry
    gate coupled. `highway_shapes` is for other depths than 3.

    Shapes:
        x (B, I), s (B, H), w (2H, I); for each layer R_k (2H, H) and b_k (2H,)
    """
    given: Any = linear(x, w)
    for r, b in zip(layers[::2], layers[1::2], strict=True):
        a, t = split(given + linear(seen(s), r, b), 2, axis=-1)
        t, given = sigmoid(t), 0.0
        s = t * tanh(a) + (1.0 - t) * s
    return s, s


@layered(lambda i, h: {"weight": (4 * h, i), "vector": (2 * h,), "bias": (2 * h,)})
def simple_recurrent_unit(
    x: Array, c: Array, w: Array, v: Array, b: Bias = None
) -> tuple[Array, Array]:
    """x̃, f, r, s = split(W x); f = σ(f + v_f·c + b_f); r = σ(r + v_r·c + b_r);
    c' = f·c + (1 - f)·x̃; output r·c' + (1 - r)·s.

    Lei, Zhang, Wang, Dai & Artzi (2018), Simple Recurrent Units for Highly Parallelizable
    Recurrence, §3, with a projection s of the input, so that it need not be H wide.

    Shapes:
        x (B, I), c (B, H), w (4H, I), v and b (2H,)
    """
    new, gates, skip = split(linear(x, w), [c.shape[-1], 3 * c.shape[-1]], axis=-1)
    f, r = split(gates if b is None else gates + b, 2, axis=-1)
    v_f, v_r = split(v, 2)
    f, r = sigmoid(f + v_f * seen(c)), sigmoid(r + v_r * seen(c))
    c = f * c + (1.0 - f) * new
    return r * c + (1.0 - r) * skip, c
