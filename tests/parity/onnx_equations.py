"""ONNX's RNN, GRU and LSTM in NumPy: the equations of the operators, one sequence after another."""

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


FUNCTIONS = {
    "Relu": lambda x: np.maximum(x, 0),
    "Tanh": np.tanh,
    "Sigmoid": sigmoid,
    "Affine": lambda x, alpha, beta: alpha * x + beta,
    "LeakyRelu": lambda x, alpha=0.01: np.where(x >= 0, x, alpha * x),
    "ThresholdedRelu": lambda x, alpha=1.0: np.where(x >= alpha, x, 0),
    "ScaledTanh": lambda x, alpha, beta: alpha * np.tanh(beta * x),
    "HardSigmoid": lambda x, alpha=0.2, beta=0.5: np.clip(alpha * x + beta, 0, 1),
    "Elu": lambda x, alpha=1.0: np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0))),
    "Softsign": lambda x: x / (1 + np.abs(x)),
    "Softplus": lambda x: np.log(1 + np.exp(x)),
}
USUAL = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}


TAKES = {"Affine": "ab", "LeakyRelu": "a", "ThresholdedRelu": "a", "ScaledTanh": "ab"}
TAKES |= {"HardSigmoid": "ab", "Elu": "a"}


def functions(kind, attributes):
    """f, g and h of each direction; alphas and betas go to those that take them, in turn."""
    alphas = list(attributes.get("activation_alpha", []))
    betas = list(attributes.get("activation_beta", []))
    clip, found = attributes.get("clip", np.inf), []
    for name in attributes.get("activations", USUAL[kind] * 2):
        options = {}
        if alphas and "a" in TAKES.get(name, ""):
            options["alpha"] = alphas.pop(0)
        if betas and "b" in TAKES.get(name, ""):
            options["beta"] = betas.pop(0)
        found.append(
            lambda x, name=name, options=options: FUNCTIONS[name](
                np.clip(x, -clip, clip), **options
            )
        )
    count = len(USUAL[kind])
    return [found[:count], found[count:]]


def rnn(x, h, _, w, r, b, p, attributes, f):
    wb, rb = np.split(b, 2)
    h = f(w @ x + r @ h + wb + rb)
    return h, h


def gru(x, h, _, w, r, b, p, attributes, f, g):
    (w_z, w_r, w_h), (r_z, r_r, r_h) = np.split(w, 3), np.split(r, 3)
    wb_z, wb_r, wb_h, rb_z, rb_r, rb_h = np.split(b, 6)
    z = f(w_z @ x + r_z @ h + wb_z + rb_z)
    reset = f(w_r @ x + r_r @ h + wb_r + rb_r)
    if attributes.get("linear_before_reset", 0):
        n = g(w_h @ x + reset * (r_h @ h + rb_h) + wb_h)
    else:
        n = g(w_h @ x + r_h @ (reset * h) + rb_h + wb_h)
    h = (1 - z) * n + z * h
    return h, h


def lstm(x, h, c, w, r, b, p, attributes, f, g, out):
    i, o, keep, new = np.split(w @ x + r @ h + np.add(*np.split(b, 2)), 4)
    p_i, p_o, p_f = np.split(p, 3)
    i = f(i + p_i * c)
    keep = 1 - i if attributes.get("input_forget", 0) else f(keep + p_f * c)
    c = keep * c + i * g(new)
    return f(o + p_o * c) * out(c), c


STEPS = {"RNN": rnn, "GRU": gru, "LSTM": lstm}


def equations(kind, inputs, attributes):
    """Y (T, D, B, H), Y_h (D, B, H) and, of an LSTM, Y_c, from inputs by ONNX's names."""
    x, w, r = (inputs[n] for n in "XWR")
    (steps, batch, _), (both, rows, units) = x.shape, r.shape
    b, p = (inputs.get(n, np.zeros((both, k))) for n, k in (("B", 2 * rows), ("P", 3 * units)))
    zeros = np.zeros((both, batch, units))
    h, c = (np.array(inputs.get(f"initial_{n}", zeros)) for n in "hc")
    lengths, y = inputs.get("sequence_lens", [steps] * batch), np.zeros((steps, both, batch, units))
    chosen = functions(kind, attributes)
    for d in range(both):
        backward = attributes["direction"] == "reverse" or d == 1
        for k in range(batch):
            for t in sorted(range(lengths[k]), reverse=backward):
                weights = w[d], r[d], b[d], p[d], attributes, *chosen[d]
                h[d, k], c[d, k] = STEPS[kind](x[t, k], h[d, k], c[d, k], *weights)
                y[t, d, k] = h[d, k]
    return [y, h, c] if kind == "LSTM" else [y, h]
