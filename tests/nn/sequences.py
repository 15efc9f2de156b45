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
    names of its state's parts; what messages call it; and whether every gradient is there."""

    make: Callable[..., Any]
    cell: Any
    one_step: Any
    equations: Any
    states: tuple[str, ...]
    called: str
    smooth: bool = True


def relu_cell(*sizes, **options):
    return tg.nn.RNNCell(*sizes, nonlinearity="relu", **options)


H, HC = ("h_0",), ("h_0", "c_0")
LAYERS = {
    "RNN": Row(tg.nn.RNN, cells.rnn_tanh, tg.nn.RNNCell, tanh_step, H, "RNN"),
    "RNN relu": Row(make_relu, cells.rnn_relu, relu_cell, relu_step, H, "RNN", False),
    "LSTM": Row(tg.nn.LSTM, cells.lstm, tg.nn.LSTMCell, lstm_step, HC, "LSTM"),
    "GRU": Row(tg.nn.GRU, cells.gru, tg.nn.GRUCell, gru_step, H, "GRU"),
    "own": Row(make_own, own, None, own_step, HC, r"Recurrent\(own\)"),
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

    def same(self, found, expected, **tolerance):
        tolerance = tolerance or TOLERANCE[self.x.dtype.name]
        for f, e in zip(flat(found), flat(expected), strict=True):
            assert f.shape == e.shape and f.dtype == e.dtype
            np.testing.assert_allclose(f, e, **tolerance)

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
