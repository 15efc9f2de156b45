"""The table of recurrent layers, and drawn layers with an input and initial states."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn.nn import cells

EXAMPLES = settings().max_examples
TOLERANCE = {"float32": {"rtol": 3e-5, "atol": 3e-6}, "float64": {"rtol": 1e-12, "atol": 1e-13}}

# The equations once more, on arrays, gate by gate


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def gates(count, x, h, w_ih, w_hh, b_ih=None, b_hh=None):
    """The parts of x and of h, for each gate."""
    n, zero = w_hh.shape[1], np.zeros(len(w_hh), w_hh.dtype)
    b_ih, b_hh = (zero if b is None else b for b in (b_ih, b_hh))
    rows = [slice(k * n, (k + 1) * n) for k in range(count)]
    return [(x @ w_ih[r].T + b_ih[r], h @ w_hh[r].T + b_hh[r]) for r in rows]


def tanh_step(x, h, *params):
    ((a, b),) = gates(1, x, h, *params)
    return (np.tanh(a + b),) * 2


def relu_step(x, h, *params):
    ((a, b),) = gates(1, x, h, *params)
    return (np.where(a + b > 0, a + b, 0),) * 2


def lstm_step(x, state, *params):
    h, c = state
    i, f, g, o = (a + b for a, b in gates(4, x, h, *params))
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(c)
    return h, (h, c)


def gru_step(x, h, *params):
    (a, b), (c, d), (e, f) = gates(3, x, h, *params)
    r, z = sigmoid(a + b), sigmoid(c + d)
    return ((1 - z) * np.tanh(e + r * f) + z * h,) * 2


def cut(n, *arrays):
    """The parts, n wide, of arrays on their last axis, of matrices on their first."""
    return [[a[..., k : k + n] for k in range(0, a.shape[-1], n)] for a in arrays]


def blocks(n, w):
    return [w[k : k + n] for k in range(0, len(w), n)]


def reset_before_step(x, h, w_ih, w_hh, b_ih=0.0, b_hh=0.0):
    n = w_hh.shape[1]
    ((a_r, a_z, a_n),) = cut(n, x @ w_ih.T + b_ih)
    ((c_r, c_z, c_n),) = cut(n, np.zeros(3 * n, x.dtype) + b_hh)
    u_r, u_z, u_n = blocks(n, w_hh)
    r, z = sigmoid(a_r + h @ u_r.T + c_r), sigmoid(a_z + h @ u_z.T + c_z)
    return ((1 - z) * np.tanh(a_n + (r * h) @ u_n.T + c_n) + z * h,) * 2


def update_step(x, c, w_ih, w_hh, b=0.0):
    n = w_hh.shape[1]
    ((a_r, a_u, a_c),) = cut(n, x @ w_ih.T + b)
    u_r, u_u, u_c = blocks(n, w_hh)
    r, u = sigmoid(a_r + c @ u_r.T), sigmoid(a_u + c @ u_u.T)
    return (u * np.tanh(a_c + (r * c) @ u_c.T) + (1 - u) * c,) * 2


def simple_step(x, c, w_ih, w_hh, b=0.0):
    ((u, a),) = cut(w_hh.shape[1], x @ w_ih.T + c @ w_hh.T + b)
    return (sigmoid(u) * np.tanh(a) + (1 - sigmoid(u)) * c,) * 2


def minimal_step(x, h, w_ih, w_hh, b=0.0):
    n = w_hh.shape[1]
    ((a_f, a_n),) = cut(n, x @ w_ih.T + b)
    f = sigmoid(a_f + h @ w_hh[:n].T)
    return ((1 - f) * h + f * np.tanh(a_n + (f * h) @ w_hh[n:].T),) * 2


def linear_output_step(x, state, *params):
    _, (_, c) = lstm_step(x, state, *params)
    *_, (a, b) = gates(4, x, state[0], *params)
    return sigmoid(a + b) * c, (sigmoid(a + b) * c, c)


def peephole_step(x, state, w_ih, w_hh, p_i, p_f, p_o, b=0.0):
    h, c = state
    ((i, f, g, o),) = cut(c.shape[-1], x @ w_ih.T + h @ w_hh.T + b)
    c = sigmoid(f + p_f * c) * c + sigmoid(i + p_i * c) * np.tanh(g)
    h = sigmoid(o + p_o * c) * np.tanh(c)
    return h, (h, c)


def coupled_step(x, state, w_ih, w_hh, b=0.0):
    h, c = state
    ((f, g, o),) = cut(c.shape[-1], x @ w_ih.T + h @ w_hh.T + b)
    c = sigmoid(f) * c + sigmoid(-f) * np.tanh(g)
    h = sigmoid(o) * np.tanh(c)
    return h, (h, c)


def layer_norm(a, gain):
    return gain * (a - a.mean(-1, keepdims=True)) / np.sqrt(a.var(-1, keepdims=True) + 1e-5)


def lstm_normalised_step(x, state, w_ih, w_hh, g_ih, g_hh, g_c, s_c, b=0.0):
    h, c = state
    a = layer_norm(x @ w_ih.T, g_ih) + layer_norm(h @ w_hh.T, g_hh) + b
    ((i, f, g, o),) = cut(c.shape[-1], a)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(layer_norm(c, g_c) + s_c)
    return h, (h, c)


def gru_normalised_step(x, h, w_ih, w_hh, g_ih, g_hh, b_ih=0.0, b_hh=0.0):
    a, u = layer_norm(x @ w_ih.T, g_ih) + b_ih, layer_norm(h @ w_hh.T, g_hh) + b_hh
    (a_r, a_z, a_n), (u_r, u_z, u_n) = cut(h.shape[-1], a, u)
    r, z = sigmoid(a_r + u_r), sigmoid(a_z + u_z)
    return ((1 - z) * np.tanh(a_n + r * u_n) + z * h,) * 2


def multiplicative_step(x, state, w_mx, w_mh, w_ih, w_mg, b=None):
    h, c = state
    m = (x @ w_mx.T) * (h @ w_mh.T)
    return lstm_step(x, (m, c), w_ih, w_mg, b)


def independent_step(x, h, w, u, b=0.0):
    return (np.maximum(x @ w.T + u * h + b, 0),) * 2


def highway_step(x, s, w, *layers):
    for k in range(0, len(layers), 2):
        a = s @ layers[k].T + layers[k + 1] + (x @ w.T if k == 0 else 0)
        ((a, t),) = cut(s.shape[-1], a)
        s = sigmoid(t) * np.tanh(a) + sigmoid(-t) * s
    return s, s


def simple_unit_step(x, c, w, v, b=0.0):
    n = c.shape[-1]
    ((new, f, r, skip),) = cut(n, x @ w.T)
    (b_f, b_r), (v_f, v_r) = cut(n, np.zeros(2 * n, x.dtype) + b, v)
    f, r = sigmoid(f + v_f * c + b_f), sigmoid(r + v_r * c + b_r)
    c = f * c + (1 - f) * new
    return r * c + (1 - r) * skip, c


# A cell of a user's own: a state of two parts of different widths, and an output of a third


def own(x, state, weight, bias=None):
    h, level = state
    h = tg.tanh(tg.linear(tg.concatenate([x, h], axis=-1), weight, bias) + level)
    level = 0.5 * level + tg.mean(h * h, axis=-1, keepdims=True)
    return tg.concatenate([level, h], axis=-1), (h, level)


def own_step(x, state, weight, bias=None):
    h, level = state
    h = np.tanh(np.concatenate([x, h], -1) @ weight.T + (0 if bias is None else bias) + level)
    level = level / 2 + (h * h).mean(-1, keepdims=True)
    return np.concatenate([level, h], -1), (h, level)


def make_own(input_size, hidden_size, num_layers, **options):
    def shapes(i, h):
        return {"weight": (h, i + h), "bias": (h,)}

    options |= {"num_layers": num_layers, "states": (hidden_size, 1)}
    return tg.nn.Recurrent(own, input_size, hidden_size, shapes, **options)


def make_relu(*sizes, **options):
    return tg.nn.RNN(*sizes, nonlinearity="relu", **options)


class Row(NamedTuple):
    """A layer: how it is made, its cell, one step as a class, the cell's equations on arrays, the
    names of its state's parts; what messages call it; whether every gradient is there; and whether
    the output is the first part of the state."""

    make: Callable[..., Any]
    cell: Any
    one_step: Any
    equations: Any
    states: tuple[str, ...]
    called: str
    smooth: bool = True
    shown: bool = True


def relu_cell(*sizes, **options):
    return tg.nn.RNNCell(*sizes, nonlinearity="relu", **options)


H, HC = ("h_0",), ("h_0", "c_0")


def of_cell(name, equations, smooth=True):
    """A layer of a cell of the library that has no class of its own."""
    cell = getattr(cells, name)

    def make(input_size, hidden_size, num_layers=1, **options):
        return tg.nn.Recurrent(cell, input_size, hidden_size, num_layers=num_layers, **options)

    states = HC if cell.states == 2 else H
    return Row(make, cell, None, equations, states, rf"Recurrent\({name}\)", smooth)


LAYERS = {
    "RNN": Row(tg.nn.RNN, cells.rnn_tanh, tg.nn.RNNCell, tanh_step, H, "RNN"),
    "RNN relu": Row(make_relu, cells.rnn_relu, relu_cell, relu_step, H, "RNN", False),
    "LSTM": Row(tg.nn.LSTM, cells.lstm, tg.nn.LSTMCell, lstm_step, HC, "LSTM"),
    "GRU": Row(tg.nn.GRU, cells.gru, tg.nn.GRUCell, gru_step, H, "GRU"),
    "reset before": Row(
        lambda *sizes, **options: tg.nn.GRU(*sizes, reset_after=False, **options),
        *(cells.gru_reset_before, None, reset_before_step, H, "GRU"),
    ),
    "gru_update": of_cell("gru_update", update_step),
    "gru_simple": of_cell("gru_simple", simple_step),
    "minimal_gated": of_cell("minimal_gated", minimal_step),
    "lstm_linear_output": of_cell("lstm_linear_output", linear_output_step),
    "lstm_peephole": of_cell("lstm_peephole", peephole_step),
    "lstm_coupled": of_cell("lstm_coupled", coupled_step),
    "lstm_normalised": of_cell("lstm_normalised", lstm_normalised_step, False),
    "gru_normalised": of_cell("gru_normalised", gru_normalised_step, False),
    "lstm_multiplicative": of_cell("lstm_multiplicative", multiplicative_step),
    "independent": of_cell("independent", independent_step, False),
    "recurrent_highway": of_cell("recurrent_highway", highway_step),
    "simple_recurrent_unit": of_cell("simple_recurrent_unit", simple_unit_step)._replace(
        shown=False
    ),
    "own": Row(make_own, own, None, own_step, HC, r"Recurrent\(own\)", shown=False),
}


def packed(state):
    """A state's parts as the layer takes them."""
    return tuple(state) if len(state) > 1 else state[0]


def parts(state):
    return list(state) if isinstance(state, tuple) else [state]


class Run(NamedTuple):
    """A layer with drawn weights, an input and initial states, as arrays."""

    row: Row
    layer: Any
    x: np.ndarray  # (T, B, I)
    state: tuple[np.ndarray, ...]  # (L·D, B, H) each
    rng: np.random.Generator

    def __call__(self, x=None, state=None, lengths=None):
        """Time-major arrays or tensors to the output (T, B, D·O) and the list of last states."""
        x = self.x if x is None else x
        state = self.state if state is None else state
        x = x if isinstance(x, tg.Tensor) else tg.Tensor(x)
        state = [s if isinstance(s, tg.Tensor) else tg.Tensor(s) for s in state]
        if self.layer.batch_first:
            x = tg.swapaxes(x, 0, 1)
        output, last = self.layer(x, packed(state), lengths)
        if self.layer.batch_first:
            output = tg.swapaxes(output, 0, 1)
        return output, parts(last)

    def same(self, found, expected, nudged=None, **tolerance):
        """Equal but for rounding; of `nudged`, the results of `self.nudged()`, also but for some
        times what that made of them: much, where LayerNorm divides by next to nothing."""
        tolerance = TOLERANCE[self.x.dtype.name] | tolerance
        found, expected = flat(found), flat(expected)
        others = expected if nudged is None else flat(nudged)
        for f, e, n in zip(found, expected, others, strict=True):
            assert f.shape == e.shape and f.dtype == e.dtype
            moved = 8 * np.abs(n - e).max(initial=0.0)
            np.testing.assert_allclose(f, e, rtol=tolerance["rtol"], atol=tolerance["atol"] + moved)

    def nudged(self):
        """The same, the input and the states moved by their last digit."""
        signs, eps = np.random.default_rng(3), np.finfo(self.x.dtype).eps
        x, *state = (
            (a * (1 + eps * signs.choice((-1, 1), a.shape))).astype(a.dtype)
            for a in (self.x, *self.state)
        )
        return self._replace(x=x, state=tuple(state))

    def informative(self, *arrays):
        """What is compared is not all zero; a relu's may be, in a single run."""
        assert not self.row.smooth or all(np.asarray(a).any() for a in arrays)

    def with_options(self, num_layers=None, **options):
        """A layer of the same kind and sizes, with other options and other weights."""
        layer = self.layer
        given = {n: getattr(layer, n) for n in ("bias", "batch_first", "bidirectional")}
        given |= {"dtype": self.x.dtype, **options}
        sizes = layer.input_size, layer.hidden_size, num_layers or layer.num_layers
        return self._replace(layer=self.row.make(*sizes, **given))

    def factors(self, results):
        """A cotangent for each result."""
        return [self.rng.standard_normal(v.shape).astype(v.dtype) for v in results]


def flat(result):
    """An output and its state, or any tensors, as a list of arrays."""
    if isinstance(result, (tuple, list)):
        return [a for part in result for a in flat(part)]
    return [np.asarray(result)]


def identical(found, expected):
    for f, e in zip(flat(found), flat(expected), strict=True):
        np.testing.assert_array_equal(f, e, strict=True)


def made(name, sizes=(3, 4, 2), steps=5, batch=2, dtype="float64", seed=0, **options):
    row, rng = LAYERS[name], np.random.default_rng(seed)
    layer = row.make(*sizes, dtype=dtype, rng=rng, **options)
    x = rng.standard_normal((steps, batch, sizes[0])).astype(dtype)
    rows = sizes[2] * (1 + layer.bidirectional)
    state = [rng.standard_normal((rows, batch, n)).astype(dtype) for n in layer.state_sizes]
    return Run(row, layer, x, tuple(state), rng)


@st.composite
def runs(draw, steps=(1, 6), batch=(1, 4), **fixed):
    sizes = draw(st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 3)))
    flags = {n: fixed.get(n, st.booleans()) for n in ("bias", "batch_first", "bidirectional")}
    return made(
        draw(st.sampled_from(sorted(LAYERS))),
        (*sizes[:2], draw(fixed.get("layers", st.just(sizes[2])))),
        draw(st.integers(*steps)),
        draw(st.integers(*batch)),
        draw(st.sampled_from(("float32", "float64"))),
        draw(st.integers(0, 2**32 - 1)),
        **draw(st.fixed_dictionaries(flags)),
    )


def law(share=0.3, **options):
    """Check a body on drawn runs, at `share` of the profile's examples."""
    return lambda body: settings(max_examples=max(10, int(EXAMPLES * share)))(
        given(runs(**options))(body)
    )


def unrolled(run, step, x, starts, weights, join):
    """Layer after layer, direction after direction, step after step: the outputs of all steps,
    and the last states of all layers and directions."""
    rows, ends = list(x), []
    for k in range(run.layer.num_layers):
        columns = []
        for reverse in (False, True)[: 1 + run.layer.bidirectional]:
            state, outputs, times = starts[len(ends)], list(rows), range(len(rows))
            for t in reversed(times) if reverse else times:
                outputs[t], state = step(rows[t], state, *weights(k, reverse))
            columns.append(outputs)
            ends.append(state)
        rows = [join(both, -1) for both in zip(*columns, strict=True)]
    return rows, ends


def rowwise(state):
    """States (L·D, B, H) as a list of what the step takes."""
    return [packed([s[k] for s in state]) for k in range(len(state[0]))]


def stacked(ends, join):
    """The other way."""
    return [join(rows) for rows in zip(*map(parts, ends), strict=True)]
