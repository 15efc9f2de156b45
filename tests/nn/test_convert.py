"""Weights of Keras and ONNX: our layers compute with them what their definitions say."""

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.nn import cells

T, B, X, H = 5, 3, 4, 6


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# Keras: a step of x and the state with kernel (I, G·H), recurrent kernel (H, G·H) and bias (2, G·H)


def keras_simple(x, state, w, u, b):
    (h,) = state
    return (np.tanh(x @ w + b[0] + h @ u + b[1]),)


def keras_gru(x, state, w, u, b):
    (h,) = state
    x_z, x_r, x_n = np.split(x @ w + b[0], 3, -1)
    h_z, h_r, h_n = np.split(h @ u + b[1], 3, -1)
    z, r = sigmoid(x_z + h_z), sigmoid(x_r + h_r)
    return (z * h + (1 - z) * np.tanh(x_n + r * h_n),)


def keras_gru_before(x, state, w, u, b):
    (h,) = state
    x_z, x_r, x_n = np.split(x @ w + b[0] + b[1], 3, -1)
    u_z, u_r, u_n = np.split(u, 3, -1)
    z, r = sigmoid(x_z + h @ u_z), sigmoid(x_r + h @ u_r)
    return (z * h + (1 - z) * np.tanh(x_n + (r * h) @ u_n),)


def keras_lstm(x, state, w, u, b):
    h, c = state
    i, f, g, o = np.split(x @ w + h @ u + b[0] + b[1], 4, -1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


KERAS = {  # the step, our layer, its options, gates, whether there are two biases
    "SimpleRNN": (keras_simple, nn.RNN, {}, 1, False),
    "GRU": (keras_gru, nn.GRU, {}, 3, True),
    "GRU before": (keras_gru_before, nn.GRU, {"reset_after": False}, 3, False),
    "LSTM": (keras_lstm, nn.LSTM, {}, 4, False),
}

# ONNX: a step with W (G·H, I), R (G·H, H), B = Wb, Rb and P, by the equations of the operators


def onnx_rnn(x, state, w, r, b, _):
    (h,) = state
    return (np.tanh(x @ w.T + h @ r.T + sum(np.split(b, 2))),)


def onnx_gru(x, state, w, r, b, _, after=True):
    (h,) = state
    (w_z, w_r, w_h), (r_z, r_r, r_h) = np.split(w, 3), np.split(r, 3)
    wb_z, wb_r, wb_h, rb_z, rb_r, rb_h = np.split(b, 6)
    z = sigmoid(x @ w_z.T + h @ r_z.T + wb_z + rb_z)
    reset = sigmoid(x @ w_r.T + h @ r_r.T + wb_r + rb_r)
    inner = reset * (h @ r_h.T + rb_h) if after else (reset * h) @ r_h.T + rb_h
    return ((1 - z) * np.tanh(x @ w_h.T + inner + wb_h) + z * h,)


def onnx_gru_before(*args):
    return onnx_gru(*args, after=False)


def onnx_lstm(x, state, w, r, b, p):
    h, c = state
    i, o, f, g = np.split(x @ w.T + h @ r.T + sum(np.split(b, 2)), 4, -1)
    p_i, p_o, p_f = np.split(p, 3)
    new = sigmoid(f + p_f * c) * c + sigmoid(i + p_i * c) * np.tanh(g)
    return sigmoid(o + p_o * new) * np.tanh(new), new


def peephole(inputs, units, layers, **options):
    return nn.Recurrent(cells.lstm_peephole, inputs, units, num_layers=layers, **options)


ONNX = {  # the step, our layer, its options, gates, whether there are peepholes
    "RNN": (onnx_rnn, nn.RNN, {}, 1, False),
    "GRU, linear before reset": (onnx_gru, nn.GRU, {}, 3, False),
    "GRU": (onnx_gru_before, nn.GRU, {"reset_after": False}, 3, False),
    "LSTM": (onnx_lstm, nn.LSTM, {}, 4, False),
    "LSTM with peepholes": (onnx_lstm, peephole, {}, 4, True),
}


def stacked(step, x, layers, states):
    """The outputs of layers of directions of arrays, and the last states in torch's order."""
    ends = []
    for directions in layers:
        outputs = []
        for d, arrays in enumerate(directions):
            state, rows = (np.zeros((B, H)),) * states, []
            for row in x[:: -1 if d else 1]:
                state = step(row, state, *arrays)
                rows.append(state[0])
            outputs.append(np.stack(rows[:: -1 if d else 1]))
            ends.append(state)
        x = np.concatenate(outputs, -1)
    return [x, *(np.stack(part) for part in zip(*ends, strict=True))]


def compared(layer, state, step, x, layers):
    """Our layer with a converted state computes what the definition does."""
    layer.load_state_dict(state)
    output, last = layer(tg.Tensor(x))
    found = [output, *(last if isinstance(last, tuple) else (last,))]
    expected = stacked(step, x, layers, len(found) - 1)
    for f, e in zip(found, expected, strict=True):
        assert np.abs(e).max() > 0.01
        np.testing.assert_allclose(f.numpy(), e, rtol=0, atol=1e-12)


def drawn(rng, *shapes):
    return [rng.normal(0, 0.5, shape) for shape in shapes]


@pytest.mark.parametrize("name", KERAS)
@pytest.mark.parametrize("depth", (1, 2))
@pytest.mark.parametrize("directions", (1, 2))
@pytest.mark.parametrize("bias", (True, False))
def test_weights_of_keras_compute_the_same(name, depth, directions, bias, rng):
    step, make, options, gates, both = KERAS[name]
    weights, layers = [], []
    for k in range(depth):
        inputs = directions * H if k else X
        pairs = [drawn(rng, (inputs, gates * H), (H, gates * H)) for _ in range(directions)]
        biases = [bias * drawn(rng, (2, gates * H))[0] for _ in pairs]
        if not both:
            biases = [b * [[1], [0]] for b in biases]
        layers.append([(*pair, b) for pair, b in zip(pairs, biases, strict=True)])
        given = [b if both else b[0] for b in biases]
        weights.append(
            [a for p, b in zip(pairs, given, strict=True) for a in (*p, *([b] if bias else []))]
        )
    options = {**options, "bias": bias, "bidirectional": directions == 2, "dtype": "float64"}
    layer = make(X, H, depth, **options)
    x = rng.standard_normal((T, B, X))
    compared(layer, nn.from_keras(*weights), step, x, layers)


@pytest.mark.parametrize("name", ONNX)
@pytest.mark.parametrize("depth", (1, 2))
@pytest.mark.parametrize("directions", (1, 2))
@pytest.mark.parametrize("bias", (True, False))
def test_inputs_of_onnx_operators_compute_the_same(name, depth, directions, bias, rng):
    step, make, options, gates, peepholes = ONNX[name]
    inputs, layers = [], []
    for k in range(depth):
        rows, width = gates * H, directions * H if k else X
        shapes = [(rows, width), (rows, H), (2 * rows,), (3 * H,)]
        w, r, b, p = drawn(rng, *((directions, *shape) for shape in shapes))
        b, p = bias * b, peepholes * p
        layers.append(list(zip(w, r, b, p, strict=True)))
        inputs.append((w, r, b if bias else None, *([p] if peepholes else [])))
    options = {**options, "bias": bias, "bidirectional": directions == 2, "dtype": "float64"}
    layer = make(X, H, depth, **options)
    x = rng.standard_normal((T, B, X))
    compared(layer, nn.from_onnx(*inputs), step, x, layers)


def test_arrays_are_copied_and_keep_their_dtype():
    kernel = np.ones((X, 4 * H), np.float32)
    state = nn.from_keras([kernel, np.ones((H, 4 * H), np.float32)])
    assert list(state) == ["weight_ih_l0", "weight_hh_l0"]
    assert all(a.dtype == np.float32 for a in state.values())
    kernel += 1
    assert (state["weight_ih_l0"] == 1).all()
    lists = nn.from_onnx((np.ones((1, H, X)).tolist(), np.ones((1, H, H)).tolist()))
    assert lists["weight_ih_l0"].shape == (H, X)


KERNEL, RECURRENT, BIAS = np.ones((X, 4 * H)), np.ones((H, 4 * H)), np.ones(4 * H)
WRONG = {
    "nothing": [],
    "one array": [KERNEL],
    "a bias too long": [KERNEL, RECURRENT, np.ones(4 * H + 1)],
    "five arrays": [KERNEL, RECURRENT, BIAS, KERNEL, RECURRENT],
    "a third bias": [KERNEL, RECURRENT, np.ones((3, 4 * H)), *[KERNEL] * 5],
    "two gates": [np.ones((X, 2 * H)), np.ones((H, 2 * H)), np.ones(2 * H)],
    "gates that differ": [np.ones((X, 3 * H)), RECURRENT, BIAS],
    "a part of a gate": [np.ones((X, 4 * H + 1)), np.ones((H, 4 * H + 1))],
    "transposed": [KERNEL.T, RECURRENT.T, BIAS],
    "three axes": [np.ones((2, X, H)), np.ones((2, H, H))],
    "numbers": [1.0, 2.0],
    "text": ["kernel", "recurrent"],
}


@pytest.mark.parametrize("case", WRONG)
def test_weights_of_something_else_are_refused(case):
    arrays = [np.asarray(a) for a in WRONG[case]]
    message = (
        r"^from_keras: expected get_weights\(\) of each layer as one argument: kernel \(I, G·H"
    )
    with pytest.raises(ValueError, match=message) as caught:
        nn.from_keras([KERNEL, RECURRENT, BIAS], arrays)
    assert str(caught.value).endswith(f"got {[a.shape for a in arrays]} as layer 1")
    if case != "three axes":  # which may be those of an operator
        with pytest.raises(
            ValueError, match=r"^from_onnx: expected W \(D, G·H, I\), R \(D, G·H, H"
        ):
            nn.from_onnx(arrays)


def test_weights_of_one_layer_are_one_argument():
    with pytest.raises(ValueError, match=r"got \[\(24,\), \(24,\), \(24,\), \(24,\)\] as layer 0"):
        nn.from_keras(KERNEL, RECURRENT, BIAS)


W, R, P = np.ones((1, 4 * H, X)), np.ones((1, 4 * H, H)), np.ones((1, 3 * H))


@pytest.mark.parametrize(
    "inputs",
    [
        (W,),
        (W, R, np.ones((1, 4 * H))),
        (W, np.ones((2, 4 * H, H))),
        (np.ones((3, H, X)), np.ones((3, H, H))),
        (W, None),
        (W, R, None, np.ones((1, 4 * H))),
        (W, R, None, P, P),
    ],
)
def test_inputs_of_another_operator_are_refused(inputs):
    with pytest.raises(
        ValueError, match=r"^from_onnx: expected W .* None for what is left out, got"
    ):
        layer = nn.Recurrent(cells.lstm_peephole, X, H, bias=False)
        layer.load_state_dict(nn.from_onnx(inputs))
