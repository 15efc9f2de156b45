"""Recurrent layers as a user meets them: weights, names, messages, cells of one's own."""

import itertools
import re
from functools import partial

import numpy as np
import pytest

import tinygrad_rnn as tg
from tests.nn.sequences import LAYERS, identical, made, make_own, own, packed

ALL = pytest.mark.parametrize("name", LAYERS)


def refused(error, name, message):
    return pytest.raises(error, match=f"^{LAYERS[name].called}: {message}")


# Wrong inputs

BAD_SHAPES = [(7,), (7, 2, 3, 1), (2, 7, 5), (7, 5), ()]


@ALL
@pytest.mark.parametrize("shape", BAD_SHAPES)
@pytest.mark.parametrize("batch_first", (False, True))
def test_input_of_another_shape_is_refused(name, shape, batch_first):
    layer = made(name, batch_first=batch_first).layer
    axes, other = (r"\(B, T, 3\)", "time") if batch_first else (r"\(T, B, 3\)", "batch")
    remedy = f"for {other}-major input pass batch_first={not batch_first}"
    message = rf"expected x of shape {axes}, got {re.escape(str(shape))}; {remedy}$"
    with refused(ValueError, name, message):
        layer(tg.zeros(shape, dtype="float64"))


def test_message_of_the_design():
    with pytest.raises(ValueError) as error:
        tg.nn.LSTM(3, 4)(tg.zeros(2, 7, 5))
    assert str(error.value) == (
        "LSTM: expected x of shape (T, B, 3), got (2, 7, 5); "
        "for batch-major input pass batch_first=True"
    )


@ALL
@pytest.mark.parametrize("x", (np.zeros((7, 2, 3), "f4"), np.zeros((7, 2, 3), int)))
def test_input_of_another_dtype_is_refused(name, x):
    message = rf"expected x of the weights' dtype float64, got {x.dtype}; convert with \.astype"
    with refused(TypeError, name, message):
        made(name).layer(tg.Tensor(x))


@ALL
def test_nested_lists_are_no_input(name):
    with refused(TypeError, name, r"expected x .* got list; .*tg\.Tensor\(x, "):
        made(name).layer([[[1.0, 2.0, 3.0]]])


# Wrong states


@ALL
@pytest.mark.parametrize("wrong", [lambda s: s[:1], lambda s: s[0], lambda s: s[:, :1],
                                   lambda s: tg.swapaxes(s, 0, 1)[:1], lambda s: s[..., :0],
                                   lambda s: s.sum()])  # fmt: skip
def test_state_of_another_shape_is_refused(name, wrong):
    run = made(name, batch=3)
    for k, which in enumerate(run.row.states):
        state = [tg.Tensor(s) for s in run.state]
        expected = re.escape(str(state[k].shape))
        state[k] = wrong(state[k])
        got = re.escape(str(state[k].shape))
        message = rf"expected {which} of shape {expected}, got {got}; a state is \(L·D, B, H\),"
        with refused(ValueError, name, message):
            run.layer(tg.Tensor(run.x), packed(state))


@ALL
def test_state_of_one_sequence_is_one_too(name):
    run = made(name, batch=1)
    with refused(ValueError, name, r"expected h_0 of shape \(2, 4\), got \(2, 1, 4\);"):
        run.layer(tg.Tensor(run.x[:, 0]), packed(list(map(tg.Tensor, run.state))))


@ALL
def test_state_of_another_dtype_is_refused(name):
    run = made(name)
    for k, which in enumerate(run.row.states):
        state = [tg.Tensor(s) for s in run.state]
        state[k] = state[k].astype("float32")
        with refused(TypeError, name, rf"expected {which} of .* got float32; convert with \.ast"):
            run.layer(tg.Tensor(run.x), packed(state))


BAD_STATES = {
    "one tensor": (lambda h, c: h, "got Tensor;"),
    "one of two": (lambda h, c: (h,), "got tuple of 1;"),
    "three": (lambda h, c: [h, c, c], "got list of 3;"),
    "a dict": (lambda h, c: {"h_0": h, "c_0": c}, "got dict;"),
}


@pytest.mark.parametrize("case", BAD_STATES)
def test_state_that_is_no_pair_is_refused(case):
    run = made("LSTM")
    build, message = BAD_STATES[case]
    with refused(TypeError, "LSTM", rf"expected the state as a tuple \(h_0, c_0\), {message}"):
        run.layer(tg.Tensor(run.x), build(*map(tg.Tensor, run.state)))


@pytest.mark.parametrize("name", ("GRU", "RNN"))
def test_state_that_is_a_pair_is_refused(name):
    run = made(name)
    message = r"expected the state as one tensor \(h_0\), got tuple of 2; pass what the layer"
    with refused(TypeError, name, message):
        run.layer(tg.Tensor(run.x), (tg.Tensor(run.state[0]),) * 2)


def test_state_may_be_a_list_and_arrays_do():
    run = made("LSTM")
    output, state = run.layer(run.x, list(run.state))
    assert isinstance(output, tg.Tensor) and type(state) is tuple
    identical([output, *state], [*run()])


# Wrong options


@ALL
@pytest.mark.parametrize("sizes", [(0, 4, 1), (3, 0, 1), (3, 4, 0), (3, -1, 1), (3, 2.5, 1)])
def test_sizes_below_one_are_refused(name, sizes):
    got = "input_size={}, hidden_size={}, num_layers={}".format(*sizes)
    if name == "own" and sizes[1] == 2.5:
        got = ""
    with refused(ValueError, name, f"expected sizes of at least 1, got {got}"):
        LAYERS[name].make(*sizes)


@pytest.mark.parametrize("name", ("RNN", "RNNCell"))
def test_unknown_nonlinearity_is_refused(name):
    message = rf"^{name}: expected nonlinearity 'tanh' or 'relu', got 'sigmoid'; write .*Recurrent"
    with pytest.raises(ValueError, match=message):
        getattr(tg.nn, name)(3, 4, nonlinearity="sigmoid")


# Its weights

ROWS = {"RNN": 1, "RNN relu": 1, "LSTM": 4, "GRU": 3}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("bias", (True, False))
@pytest.mark.parametrize("directions", (1, 2))
def test_parameters_have_torchs_names_and_shapes_in_order(name, bias, directions):
    rows, shapes = ROWS[name] * 5, {}
    for k, columns in enumerate((3, 5 * directions, 5 * directions)):
        for end in ("", "_reverse")[:directions]:
            shapes[f"weight_ih_l{k}{end}"] = (rows, columns)
            shapes[f"weight_hh_l{k}{end}"] = (rows, 5)
            if bias:
                shapes |= {f"bias_ih_l{k}{end}": (rows,), f"bias_hh_l{k}{end}": (rows,)}
    layer = LAYERS[name].make(3, 5, 3, bias=bias, bidirectional=directions == 2)
    found = {n: p.shape for n, p in layer.named_parameters()}
    assert found == shapes and list(found) == list(shapes) == list(layer.state_dict())


@ALL
@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_weights_are_drawn_within_their_bound(name, dtype):
    rng = np.random.default_rng(0)
    layer = LAYERS[name].make(7, 64, 2, dtype=dtype, rng=rng, bidirectional=True)
    for n, p in layer.named_parameters():
        values = p.numpy()
        assert values.dtype == np.dtype(dtype)
        if n.startswith(("gain", "shift")):
            continue  # these are not drawn
        assert np.abs(values).max() <= np.float32(1 / 8), n
        assert np.abs(values).max() > 0.9 / 8 and abs(values.mean()) < 0.04, n
        assert len(np.unique(values)) > 0.99 * values.size, n


@ALL
def test_one_generator_gives_one_layer_in_either_dtype(name):
    layers = [
        LAYERS[name].make(2, 3, 2, dtype=dtype, rng=np.random.default_rng(4)).state_dict()
        for dtype in ("float64", "float32", "float64")
    ]
    for wide, narrow, again in zip(*(d.values() for d in layers), strict=True):
        identical(wide, again)
        identical(wide.astype("float32"), narrow)


@ALL
def test_layer_without_biases_is_one_with_zero_biases(name):
    run = made(name, bias=False, bidirectional=True)
    other = run.with_options(bias=True)
    zeros = {n: np.zeros(p.shape) for n, p in other.layer.named_parameters()}
    other.layer.load_state_dict(zeros | run.layer.state_dict())
    run.same(other(), run())


@ALL
def test_a_replaced_weight_is_the_one_that_is_used(name):
    run = made(name)
    first, *_ = (n for n, _ in run.layer.named_parameters())
    before = run()[0].numpy()
    setattr(run.layer, first, tg.nn.Parameter(2 * run.layer.state_dict()[first]))
    assert (run()[0].numpy() != before).any()


# A cell of one's own


def test_own_cell_has_its_parameters_names():
    layer = make_own(3, 5, 2, bidirectional=True)
    shapes = {n: p.shape for n, p in layer.named_parameters()}
    below = {"weight_l0": (5, 8), "bias_l0": (5,)}
    below |= {f"{n}_reverse": s for n, s in below.items()}
    above = {n.replace("l0", "l1"): (5, 2 * 6 + 5) if s[1:] else s for n, s in below.items()}
    assert shapes == below | above and layer.output_size == 6


def accumulate(x, s):
    s = s + x
    return s, s


def test_cell_without_parameters_needs_a_dtype():
    layer = tg.nn.Recurrent(accumulate, 3, 3, lambda i, h: {}, dtype="float64")
    output, last = layer(tg.ones(4, 2, 3, dtype="float64"))
    identical(output, np.cumsum(np.ones((4, 2, 3)), 0))
    identical(last, 4 * np.ones((1, 2, 3)))
    with pytest.raises(TypeError, match=r"^Recurrent\(accumulate\): expected x of .* float64"):
        layer(tg.ones(4, 2, 3))


@pytest.mark.parametrize("states", (1, 3, (5, 2), (1, 5)))
def test_state_that_the_step_does_not_keep_is_refused(states):
    def wrong(x, state, *params):
        rows = 0 * x[:, :1]
        return rows, (tg.concatenate([rows] * 5, -1), rows)

    message = r"^Recurrent\(wrong\): expected a step that keeps .* got .*; states= gives the number"
    with pytest.raises(ValueError, match=message):
        tg.nn.Recurrent(wrong, 3, 5, lambda i, h: {}, states=states)


def test_step_that_returns_no_pair_is_refused():
    with pytest.raises(TypeError, match=r"^scan: expected a step that returns \(output, new state"):
        tg.nn.Recurrent(lambda x, s: s, 3, 5, lambda i, h: {})


def test_no_states_are_refused():
    with pytest.raises(ValueError, match=r"^Recurrent\(own\): expected sizes .* states=0$"):
        tg.nn.Recurrent(own, 3, 5, lambda i, h: {}, states=())


def test_cell_may_be_any_callable_and_divide_by_its_variance():
    def normed(scale, x, h):
        h = tg.tanh(x + h)
        h = scale * (h - h.mean(-1, keepdims=True)) / h.std(-1, keepdims=True)
        return h, h

    layer = tg.nn.Recurrent(partial(normed, 2.0), 3, 3, lambda i, h: {})
    assert repr(layer) == "Recurrent(partial, 3, 3)"
    output, _ = layer(tg.randn(4, 2, 3, rng=np.random.default_rng(0)))
    np.testing.assert_allclose(output.numpy().std(-1), 2.0, rtol=1e-5)


# print


def test_layers_say_what_they_are():
    nn = tg.nn
    assert repr(nn.LSTM(3, 5)) == "LSTM(3, 5)"
    assert repr(nn.GRU(3, 5, 2, False, True, 0.5, True)) == (
        "GRU(3, 5, num_layers=2, bias=False, batch_first=True, dropout=0.5, bidirectional=True)"
    )
    assert repr(nn.RNN(3, 5, 2, "relu")) == "RNN(3, 5, num_layers=2, nonlinearity='relu')"
    assert repr(make_own(3, 5, 2)) == "Recurrent(own, 3, 5, num_layers=2)"
    assert repr(nn.LSTMCell(3, 5)) == "LSTMCell(3, 5)"
    assert repr(nn.RNNCell(3, 5, False, "relu")) == "RNNCell(3, 5, bias=False, nonlinearity='relu')"


@ALL
def test_every_parameter_of_the_cell_is_one_of_the_layer(name):
    """Drawn, but for gains, which are 1 at first, and shifts, which are 0."""
    layer = made(name, bidirectional=True).layer
    parameters = dict(layer.named_parameters())
    assert len(parameters) == 4 * len(layer.weights(0))
    for k, reverse in itertools.product(range(2), (False, True)):
        weights = layer.weights(k, reverse)
        assert all(any(w is p for p in parameters.values()) for w in weights)
    for key, p in parameters.items():
        known = {"gain": 1.0, "shift": 0.0}.get(key.partition("_")[0])
        assert (
            (p.numpy() == known).all() if known is not None else len(np.unique(p.numpy())) == p.size
        )
