"""Connections across depth: one row each, around feed-forward and recurrent modules."""

import copy
import inspect
import pickle
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn import nn, optim
from tinygrad_rnn.nn import connections, containers
from tinygrad_rnn.testing import gradcheck

INPUTS, H = 3, 4  # features of the input, and of each layer's output
FEW = settings(max_examples=max(10, settings().max_examples // 5))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def affine(layer, x):
    bias = 0 if layer.bias is None else layer.bias.numpy()
    return x @ layer.weight.numpy().T + bias


class Row(NamedTuple):
    """How a connection is made of `layer(inputs, outputs)`, features of its input and output, and
    its equation on arrays, given each module as a function."""

    make: Any
    inputs: int
    outputs: int
    equation: Any


def residual(layer):
    return nn.Residual(layer(INPUTS, H), nn.Linear(INPUTS, H, dtype="float64"))


def highway(layer):
    return nn.Highway(H, layer(H, H), dtype="float64")


def sequential_equation(wiring, f, x):
    return f(1, f(0, x))


def residual_equation(wiring, f, x):
    return f(0, x) + affine(wiring.projection, x)


def highway_equation(wiring, f, x):
    t = sigmoid(affine(wiring.gate, x))
    return t * f(0, x) + (1 - t) * x


def dense_equation(wiring, f, x):
    one = f(0, x)
    two = f(1, np.concatenate([x, one], -1))
    return np.concatenate([x, one, two], -1)


def skip_equation(wiring, f, x):
    one = f(0, x)
    two = f(1, np.concatenate([one, x], -1))
    return np.concatenate([one, two], -1)


ROWS = {
    "Sequential": Row(
        lambda f: nn.Sequential(f(INPUTS, H), f(H, H)), INPUTS, H, sequential_equation
    ),
    "Residual": Row(residual, INPUTS, H, residual_equation),
    "Highway": Row(highway, H, H, highway_equation),
    "Dense": Row(
        lambda f: nn.Dense(f(INPUTS, H), f(INPUTS + H, H)), INPUTS, INPUTS + 2 * H, dense_equation
    ),
    "Skip": Row(lambda f: nn.Skip(f(INPUTS, H), f(H + INPUTS, H)), INPUTS, 2 * H, skip_equation),
}
ALL = pytest.mark.parametrize("name", ROWS)
LAYERS = {"RNN": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}
RUNS = given(
    st.sampled_from(sorted(ROWS)),
    st.sampled_from(sorted(LAYERS)),
    st.booleans(),
    st.integers(1, 5),
    st.integers(1, 3),
    st.integers(0, 2**32 - 1),
)


def made(name, kind, seed=0, **options):
    """A connection around recurrent layers, and its input's width."""
    rng = np.random.default_rng(seed)
    options = {"dtype": "float64", "rng": rng, **options}
    row = ROWS[name]
    return row.make(lambda i, o: LAYERS[kind](i, o, **options)), row


def flat(value):
    """The arrays in an output and its state, in order."""
    if isinstance(value, (tuple, list)):
        return [a for part in value for a in flat(part)]
    return [np.asarray(value)]


def same(found, expected, **tolerance):
    found, expected = flat(found), flat(expected)
    assert len(found) == len(expected)
    for f, e in zip(found, expected, strict=True):
        np.testing.assert_allclose(f, e, **tolerance or {"rtol": 1e-12, "atol": 1e-13})
        assert f.shape == e.shape and e.any()


def test_every_connection_has_a_row():
    public = {
        n
        for room in (connections, containers)
        for n, v in vars(room).items()
        if inspect.isclass(v) and issubclass(v, containers.Wiring) and hasattr(nn, n)
    }
    assert public == set(ROWS)


# What they compute


@ALL
@pytest.mark.parametrize("shape", ((), (2,), (5, 2), (0, 2)))
def test_equation_of_feed_forward_modules(name, shape):
    rng, row = np.random.default_rng(0), ROWS[name]
    wiring = row.make(lambda i, o: nn.Linear(i, o, dtype="float64", rng=rng))
    x = rng.standard_normal((*shape, row.inputs))
    modules = list(wiring.runs())
    y = wiring(tg.Tensor(x))
    assert y.shape == (*shape, row.outputs)
    expected = row.equation(wiring, lambda k, x: affine(modules[k], x), x)
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-13, atol=1e-13)


@RUNS
@FEW
def test_equation_of_recurrent_modules(name, kind, batch_first, steps, batch, seed):
    wiring, row = made(name, kind, seed, batch_first=batch_first)
    x = np.random.default_rng(seed).standard_normal(
        (*(steps, batch)[:: 1 - 2 * batch_first], row.inputs)
    )
    modules, states = list(wiring.runs()), []

    def call(k, x):
        y, state = modules[k](tg.Tensor(x))
        states.append(state)
        return y.numpy()

    output, state = wiring(tg.Tensor(x))
    same(output, row.equation(wiring, call, x))
    same(state, states)


@ALL
def test_gradients_of_feed_forward_modules(name):
    rng, row = np.random.default_rng(1), ROWS[name]
    wiring = row.make(
        lambda i, o: nn.Sequential(nn.Linear(i, o, dtype="float64", rng=rng), tg.tanh)
    )
    gradcheck(wiring, [rng.standard_normal((3, row.inputs))], rng=0)
    x = tg.Tensor(rng.standard_normal((3, row.inputs)))
    wiring(x).sum().backward()
    assert all(p.grad.numpy().any() for p in wiring.parameters())


@ALL
@pytest.mark.parametrize("lengths", (None, [2, 4]))
def test_gradients_of_recurrent_modules(name, lengths):
    wiring, row = made(name, "LSTM")
    rng = np.random.default_rng(2)
    x = rng.standard_normal((4, 2, row.inputs))
    _, start = wiring(tg.Tensor(x))

    def outputs(x, *parts):
        given, rest = rebuilt(start, list(parts))
        assert not rest
        output, state = wiring(x, given, lengths)
        return (output, *tensors(state))

    gradcheck(outputs, [x, *(rng.standard_normal(s.shape) for s in flat(start))], rng=0)


def tensors(state):
    return [t for part in state for t in tensors(part)] if isinstance(state, tuple) else [state]


def rebuilt(state, parts):
    """The parts in a state's structure, and those left over."""
    if not isinstance(state, tuple):
        return parts[0], parts[1:]
    items = []
    for part in state:
        item, parts = rebuilt(part, parts)
        items.append(item)
    return tuple(items), parts


# The laws of recurrent layers


@RUNS
@FEW
def test_a_sequence_may_come_in_pieces(name, kind, batch_first, steps, batch, seed):
    wiring, row = made(name, kind, seed, batch_first=batch_first)
    rng = np.random.default_rng(seed)
    axis, cut = int(batch_first), int(rng.integers(0, steps + 1))
    x = rng.standard_normal((*(steps, batch)[:: 1 - 2 * batch_first], row.inputs))
    whole, end = wiring(tg.Tensor(x))
    parts, state = [], None
    for piece in np.split(x, [cut], axis):
        output, state = wiring(tg.Tensor(piece), state)
        parts.append(output.numpy())
    same(np.concatenate(parts, axis), whole)
    same(state, end)


@RUNS
@FEW
def test_nothing_beyond_a_length_matters(name, kind, batch_first, steps, batch, seed):
    wiring, row = made(name, kind, seed, batch_first=batch_first)
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, steps + 1, batch)
    lengths[0] = steps
    beyond = np.arange(steps)[:, None] >= lengths
    x = rng.standard_normal((steps, batch, row.inputs))
    found = []
    for filler in (0.0, np.nan):
        given = np.where(beyond[..., None], filler, x)
        given = tg.Tensor(np.swapaxes(given, 0, 1) if batch_first else given, requires_grad=True)
        output, state = wiring(given, None, lengths.tolist())
        total = sum((part**2).sum() for part in (output, *tensors(state)))
        leaves = [given, *wiring.parameters()]
        found.append(flat([output, state, *tg.grad(total, leaves)]))
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)
    output = np.swapaxes(found[1][0], 0, 1) if batch_first else found[1][0]
    assert not output[beyond].any() and output[~beyond].any()
    for b, n in enumerate(lengths):  # each sequence alone
        alone = x[:n, b : b + 1]
        alone, _ = wiring(tg.Tensor(np.swapaxes(alone, 0, 1) if batch_first else alone))
        np.testing.assert_allclose(
            output[:n, b], alone.numpy().reshape(n, row.outputs), rtol=1e-12, atol=1e-13
        )


@ALL
def test_batch_first_is_transposed_and_a_state_of_none_is_zero(name):
    wiring, row = made(name, "GRU")
    turned, _ = made(name, "GRU", batch_first=True)
    turned.load_state_dict(wiring.state_dict())
    x = np.random.default_rng(0).standard_normal((5, 2, row.inputs))
    output, state = wiring(tg.Tensor(x))
    other, end = turned(tg.Tensor(np.swapaxes(x, 0, 1)))
    same(np.swapaxes(other.numpy(), 0, 1), output)
    same(end, state)
    zero = nn.restarted(state, [True, True])
    same(wiring(tg.Tensor(x), zero)[0], output)
    assert not any(part.any() for part in flat(zero))


@ALL
def test_one_sequence_needs_no_batch_axis(name):
    wiring, row = made(name, "LSTM")
    x = np.random.default_rng(0).standard_normal((5, 1, row.inputs))
    output, _ = wiring(tg.Tensor(x), None, [3])
    alone, _ = wiring(tg.Tensor(x[:, 0]), None, [3])
    same(alone, output.numpy()[:, 0])
    assert not alone.numpy()[3:].any()


@ALL
@pytest.mark.parametrize("way", (copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))))
def test_copies_and_states_compute_the_same(name, way):
    wiring, row = made(name, "LSTM", 1)
    fresh, _ = made(name, "LSTM", 2)
    x = tg.Tensor(np.random.default_rng(0).standard_normal((5, 2, row.inputs)))
    expected = wiring(x)
    same(way(wiring)(x), expected)
    assert (fresh(x)[0].numpy() != expected[0].numpy()).any()
    fresh.load_state_dict(wiring.state_dict())
    same(fresh(x), expected)


# Single ones


def test_highway_is_feed_forward_by_default_and_lets_its_input_pass_at_first():
    layer = nn.Highway(64, rng=np.random.default_rng(0))
    assert [n for n, _ in layer.named_parameters()] == [
        *("module.0.weight", "module.0.bias", "gate.weight", "gate.bias")
    ]
    np.testing.assert_array_equal(layer.gate.bias.numpy(), np.full(64, -1, np.float32))
    x = np.random.default_rng(1).standard_normal((200, 64)).astype(np.float32)
    f = np.maximum(affine(layer.module[0], x), 0)
    t = sigmoid(affine(layer.gate, x))
    np.testing.assert_allclose(layer(tg.Tensor(x)).numpy(), t * f + (1 - t) * x, atol=1e-6)
    assert t.mean() < 0.35
    shut = nn.Highway(64, gate_bias=-100.0)
    np.testing.assert_array_equal(shut(tg.Tensor(x)).numpy(), x)


def test_residual_without_projection_and_both_ways():
    x = tg.Tensor(np.random.default_rng(0).standard_normal((5, 2, 4)).astype(np.float32))
    layer = nn.LSTM(4, 2, bidirectional=True)
    output, state = nn.Residual(layer)(x)
    same(output, layer(x)[0].numpy() + x.numpy())
    same(state, layer(x)[1])


def test_connections_nest_and_a_user_module_may_be_recurrent():
    class Block(nn.Module):
        def __init__(self):
            self.lstm, self.norm = nn.LSTM(4, 4), nn.Linear(4, 4)

        def __call__(self, x, state=None, lengths=None):
            output, state = self.lstm(x, state, lengths)
            return self.norm(output), state

    inner = nn.Sequential(Block(), tg.tanh, nn.GRU(4, 4))
    model = nn.Sequential(nn.Embedding(9, 4), nn.Residual(inner), nn.Highway(4), nn.Linear(4, 2))
    output, state = model([[1, 2], [3, 4], [5, 6]])
    assert output.shape == (3, 2, 2)
    (((h, c), gru),) = state
    assert h.shape == c.shape == gru.shape == (1, 2, 4)
    again, _ = model([[1, 2], [3, 4]])
    rest, end = model([[5, 6]], model([[1, 2], [3, 4]])[1])
    same(np.concatenate([again.numpy(), rest.numpy()]), output, rtol=1e-6, atol=1e-7)
    same(end, state)


@pytest.mark.parametrize("make", (nn.Dense, nn.Skip))
def test_feed_forward_modules_among_recurrent_ones_see_no_padding(make):
    linear = nn.Linear(3, 3, dtype="float64")
    model = make(linear, nn.GRU(6, 3, dtype="float64"))
    x = np.random.default_rng(0).standard_normal((4, 2, 3))
    x[2:, 1] = np.nan
    output, _ = model(tg.Tensor(x), None, [4, 2])
    (d,) = tg.grad(output.sum(), linear.weight)
    assert np.isfinite(d.numpy()).all() and d.numpy().any()
    assert np.isfinite(output.numpy()).all() and not output.numpy()[2:, 1].any()


def test_a_cell_of_one_step_is_not_recurrent_here():
    assert not containers.layouts(nn.GRUCell(3, 4)) and not containers.layouts(nn.Module())
    assert containers.layouts(nn.Residual(nn.GRU(3, 3, batch_first=True))) == {True}


# Deep stacks learn


def deep(kind, width, rng, layers=8):
    def lstm(inputs):
        return nn.LSTM(inputs, width, rng=rng)

    if kind == "Dense":
        return nn.Dense(*(lstm(width * (k + 1)) for k in range(layers))), width * (layers + 1)
    if kind == "Skip":
        return nn.Skip(*(lstm(width * (1 + (k > 0))) for k in range(layers))), width * layers
    around = {
        "plain": lambda layer: layer,
        "Residual": nn.Residual,
        "Highway": lambda layer: nn.Highway(width, layer, rng=rng),
    }[kind]
    return nn.Sequential(*(around(lstm(width)) for _ in range(layers))), width


def trained(kind, updates=120, width=8, symbols=4):
    """The loss of 8 LSTM layers that are to say what they read two steps ago."""
    rng = np.random.default_rng(0)
    body, outputs = deep(kind, width, rng)
    embedding = nn.Embedding(symbols, width, rng=rng)
    model = nn.Sequential(embedding, body, nn.Linear(outputs, symbols, rng=rng))
    optimizer, losses = optim.Adam(model.parameters(), lr=2e-2), []
    for _ in range(updates):
        ids = rng.integers(0, symbols, (10, 16))
        targets = np.concatenate([np.full((2, 16), -100), ids[:-2]])
        optimizer.zero_grad()
        loss = nn.cross_entropy(model(ids)[0], targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return np.mean(losses[-10:])


def test_eight_layers_learn_with_connections_and_not_without():
    plain = trained("plain")
    assert plain > 0.4  # of log 4 = 1.39
    for kind in ("Residual", "Highway", "Dense", "Skip"):
        assert trained(kind) < 0.5 * plain, kind


# Errors


def refused(error, message, call):
    with pytest.raises(error, match=message):
        call()


def test_a_width_that_changes_needs_a_projection():
    x = tg.zeros(5, 2, 3)
    message = r"^Residual: expected an output of the input's shape \(5, 2, 3\), got \(5, 2, 4\);"
    message += " pass projection="
    refused(ValueError, message, lambda: nn.Residual(nn.LSTM(3, 4))(x))
    message = r"^Highway: expected an output of the input's shape .*; a highway keeps its width"
    refused(ValueError, message, lambda: nn.Highway(3, nn.LSTM(3, 4))(x))


@ALL
def test_states_of_other_parts_are_refused(name):
    wiring, row = made(name, "LSTM")
    x, count = tg.zeros(5, 2, row.inputs, dtype="float64"), len(list(wiring.runs()))
    if name in ("Residual", "Highway"):  # the layer itself says so
        refused(TypeError, r"^LSTM: expected the state as a tuple", lambda: wiring(x, x))
        return
    message = rf"^{name}: expected the state as a tuple of {count}, one part for each recurrent "
    refused(TypeError, message + "module, got Tensor;", lambda: wiring(x, x))
    refused(TypeError, message + "module, got tuple of 3;", lambda: wiring(x, (None,) * 3))


@ALL
def test_states_and_lengths_need_something_recurrent(name):
    row = ROWS[name]
    wiring, x = row.make(nn.Linear), tg.zeros(5, 2, row.inputs)
    message = rf"^{name}: expected x alone, got a state or lengths, and no module here is recurrent"
    refused(TypeError, message, lambda: wiring(x, None, np.array([1, 2])))
    refused(TypeError, message, lambda: wiring(x, x))


def test_layouts_must_agree():
    mixed = nn.Sequential(nn.GRU(3, 3), nn.GRU(3, 3, batch_first=True))
    message = r"^Sequential: expected recurrent layers of one layout, got some with batch_first"
    refused(ValueError, message, lambda: mixed(tg.zeros(5, 2, 3)))


@pytest.mark.parametrize("lengths", ([6, 1], [-1, 1], [1.0, 2.0], [[1], [2]]))
@ALL
def test_lengths_must_fit(name, lengths):
    wiring, row = made(name, "RNN")
    x = tg.zeros(5, 2, row.inputs, dtype="float64")
    refused(ValueError, r"expected lengths", lambda: wiring(x, None, lengths))


@pytest.mark.parametrize("make", (nn.Residual, nn.Dense, nn.Skip, lambda v: nn.Highway(3, v)))
def test_what_is_no_module_is_refused(make):
    refused(TypeError, r"^\w+: expected a Module, got 64; .* fully connected", lambda: make(64))
