"""ONNX's operators RNN, GRU and LSTM as `nn.Recurrent` layers, with a cell for their attributes."""

import functools

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import linear, nn, sigmoid, split, tanh
from tinygrad_rnn.nn import cells

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
USUAL = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}
ACTIVATIONS = {  # of x and alpha and beta
    "Relu": lambda x, a, b: tg.relu(x),
    "Tanh": lambda x, a, b: tanh(x),
    "Sigmoid": lambda x, a, b: sigmoid(x),
    "Affine": lambda x, a, b: a * x + b,
    "LeakyRelu": lambda x, a, b: tg.where(x >= 0.0, x, a * x),
    "ThresholdedRelu": lambda x, a, b: tg.where(x >= a, x, 0.0),
    "ScaledTanh": lambda x, a, b: a * tanh(b * x),
    "HardSigmoid": lambda x, a, b: tg.minimum(tg.maximum(a * x + b, 0.0), 1.0),
    "Elu": lambda x, a, b: tg.where(x >= 0.0, x, a * tg.expm1(tg.minimum(x, 0.0))),
    "Softsign": lambda x, a, b: x / (1.0 + tg.abs(x)),
    "Softplus": lambda x, a, b: tg.softplus(x),
}
ALPHA = {"LeakyRelu": 0.01, "ThresholdedRelu": 1.0, "HardSigmoid": 0.2, "Elu": 1.0}
ALPHA |= dict.fromkeys(("Affine", "ScaledTanh"))  # None: there is no default
BETA = {"HardSigmoid": 0.5, "Affine": None, "ScaledTanh": None}


def activations(kind, attributes, direction):
    """The functions f, g and h of a direction; alphas and betas go to those that take them."""
    names = attributes.get("activations", USUAL[kind] * 2)
    alphas, betas = (iter(attributes.get(f"activation_{n}", [])) for n in ("alpha", "beta"))
    found = []
    for name in names:
        a = next(alphas, ALPHA[name]) if name in ALPHA else None
        b = next(betas, BETA[name]) if name in BETA else None
        found.append(functools.partial(ACTIVATIONS[name], a=a, b=b))
    count, clip = len(USUAL[kind]), attributes.get("clip")
    found = found[direction * count :][:count]
    if clip is not None:  # what an activation is given is bounded
        free = attributes.get("unbounded", "")
        pairs = zip("fgh", found, strict=False)
        found = [
            fn if n in free else functools.partial(bounded, fn=fn, clip=clip) for n, fn in pairs
        ]
    return found


def bounded(x, fn, clip):
    return fn(tg.minimum(tg.maximum(x, -clip), clip))


def rnn(f):
    def step(x, h, w, r, wb=None, rb=None):
        h = f(linear(x, w, wb) + linear(h, r, rb))
        return h, h

    return step


def gru(f, g, after):
    def step(x, h, w, r, wb=None, rb=None):
        units = h.shape[-1]
        x_g, x_n = split(linear(x, w, wb), [2 * units], axis=-1)
        if after:
            h_g, h_n = split(linear(h, r, rb), [2 * units], axis=-1)
            reset, z = split(f(x_g + h_g), 2, axis=-1)
            n = g(x_n + reset * h_n)
        else:
            r_g, r_n = split(r, [2 * units], axis=0)
            b_g, b_n = (None, None) if rb is None else split(rb, [2 * units])
            reset, z = split(f(x_g + linear(h, r_g, b_g)), 2, axis=-1)
            n = g(x_n + linear(reset * h, r_n, b_n))
        h = (1.0 - z) * n + z * h
        return h, h

    return step


def lstm(f, g, out, coupled, peepholes):
    def step(x, state, w, r, *rest):
        h, c = state
        p_i, p_f, p_o = rest[:3] if peepholes else (0.0, 0.0, 0.0)
        wb, rb = (*rest[3 * peepholes :], None, None)[:2]
        a_i, a_f, a_g, a_o = split(linear(x, w, wb) + linear(h, r, rb), 4, axis=-1)
        i = f(a_i + p_i * c)
        keep = 1.0 - i if coupled else f(a_f + p_f * c)
        c = keep * c + i * g(a_g)
        h = f(a_o + p_o * c) * out(c)
        return h, (h, c)

    return step


def cell(kind, attributes, direction, peepholes):
    """The step of a direction: one of `nn.cells` where the attributes are the usual ones."""
    usual = attributes.keys().isdisjoint({"activations", "clip", "input_forget"})
    after, coupled = (attributes.get(n, 0) for n in ("linear_before_reset", "input_forget"))
    functions = activations(kind, attributes, direction)
    if kind == "RNN":
        return cells.rnn_tanh if usual else tg.cell(rnn(*functions))
    if kind == "GRU":
        known = cells.gru if after else cells.gru_reset_before
        return known if usual else tg.cell(gru(*functions, after))
    known = cells.lstm_peephole if peepholes else cells.lstm
    return known if usual else tg.cell(lstm(*functions, coupled, peepholes))


ORDER = "weight_ih weight_hh weight_ci weight_cf weight_co bias bias_ih bias_hh".split()


def direction_layer(kind, inputs, attributes, direction, reverse):
    """A layer that runs one direction; if it is the reverse one, beside a forward one like it."""
    parts = [None if (a := inputs.get(n)) is None else a[direction : direction + 1] for n in "WRBP"]
    state = nn.from_onnx(parts)
    shapes = {n: state[f"{n}_l0"].shape for n in ORDER if f"{n}_l0" in state}
    step = cell(kind, attributes, direction, inputs.get("P") is not None)
    width, units = inputs["W"].shape[2], inputs["R"].shape[2]
    layer = nn.Recurrent(
        step,
        width,
        units,
        lambda *_: shapes,
        states=1 + (kind == "LSTM"),
        batch_first=bool(attributes.get("layout", 0)),
        bidirectional=reverse,
        dtype=inputs["X"].dtype,
    )
    layer.load_state_dict(state | {f"{n}_reverse": a for n, a in state.items() if reverse})
    return layer


def layers(kind, inputs, attributes):
    """A layer for each direction, and whether it is the reverse one."""
    directions = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}
    found = directions[attributes.get("direction", "forward")]
    return [(direction_layer(kind, inputs, attributes, d, r), r) for d, r in enumerate(found)]


def start(kind, inputs, batchwise, direction, reverse):
    """The first state of a direction, as its layer wants it; None for zeros."""
    given = [inputs.get(n) for n in ("initial_h", "initial_c")[: 1 + (kind == "LSTM")]]
    like = next((a for a in given if a is not None), None)
    if like is None:
        return None
    parts = []
    for a in given:
        a = np.zeros_like(like) if a is None else a
        part = (a.swapaxes(0, 1) if batchwise else a)[direction : direction + 1]
        parts.append(tg.Tensor(np.concatenate([part] * (1 + reverse))))
    return tuple(parts) if len(parts) > 1 else parts[0]


def run(kind, made, inputs, attributes, x):
    """Y, Y_h and, of an LSTM, Y_c, of the operator's layers."""
    batchwise, outputs, ends = bool(attributes.get("layout", 0)), [], []
    for d, (layer, reverse) in enumerate(made):
        state = start(kind, inputs, batchwise, d, reverse)
        y, end = layer(x, state, inputs.get("sequence_lens"))
        outputs.append(y[..., y.shape[-1] // 2 :] if reverse else y)
        ends.append([part[int(reverse) :] for part in (end if kind == "LSTM" else (end,))])
    last = [tg.concatenate(parts) for parts in zip(*ends, strict=True)]  # (D, B, H)
    last = [tg.swapaxes(part, 0, 1) if batchwise else part for part in last]
    y = tg.stack(outputs, axis=2 if batchwise else 1)  # (T, D, B, H), or (B, T, D, H)
    return dict(zip(("Y", "Y_h", "Y_c"), (y, *last), strict=False))


def operator(kind, inputs, attributes):
    """The outputs of the operator, as arrays by name: inputs and attributes as ONNX calls them.

    One more attribute, "unbounded", names those of f, g and h whose argument `clip` leaves alone.
    """
    made = layers(kind, inputs, attributes)
    found = run(kind, made, inputs, attributes, tg.Tensor(inputs["X"]))
    return {name: value.numpy() for name, value in found.items()}
