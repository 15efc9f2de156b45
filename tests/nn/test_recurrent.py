"""The laws of recurrent layers: one row per layer, each law for every row."""

from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn.nn import cells


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def lstm_step(x, state, w_ih, w_hh, b_ih, b_hh):
    """The equations once more, on arrays, gate by gate."""
    (h, c), n = state, w_hh.shape[1]
    rows = [slice(k * n, (k + 1) * n) for k in range(4)]
    i, f, g, o = (x @ w_ih[r].T + b_ih[r] + h @ w_hh[r].T + b_hh[r] for r in rows)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(c)
    return h, (h, c)


class Row(NamedTuple):
    """A layer: its class, its cell, the cell's equations on arrays, and its states' names."""

    make: Any
    cell: Any
    equations: Any
    states: tuple[str, ...]


EXAMPLES = settings().max_examples
LAYERS = {"LSTM": Row(tg.nn.LSTM, cells.lstm, lstm_step, ("h_0", "c_0"))}
TOLERANCE = {"float32": {"rtol": 2e-5, "atol": 2e-6}, "float64": {"rtol": 1e-12, "atol": 1e-13}}


class Run(NamedTuple):
    """A layer with drawn weights, an input and initial states, as arrays."""

    row: Row
    layer: Any
    x: np.ndarray  # (T, B, I)
    state: tuple[np.ndarray, ...]  # (L, B, H) each
    rng: np.random.Generator

    def __call__(self, x=None, state=None):
        x = self.x if x is None else x
        state = self.state if state is None else state
        return self.layer(tg.Tensor(x), tuple(map(tg.Tensor, state)))

    def same(self, found, expected, **tolerance):
        tolerance = tolerance or TOLERANCE[self.x.dtype.name]
        for f, e in zip(flat(found), flat(expected), strict=True):
            assert f.shape == e.shape and f.dtype == e.dtype
            np.testing.assert_allclose(f, e, **tolerance)


def flat(result):
    """An output and its state, or any tensors, as a list of arrays."""
    if isinstance(result, (tuple, list)):
        return [a for part in result for a in flat(part)]
    return [np.asarray(result)]


def identical(found, expected):
    for f, e in zip(flat(found), flat(expected), strict=True):
        np.testing.assert_array_equal(f, e, strict=True)


def made(name, sizes=(3, 4, 2), steps=5, batch=2, dtype="float64", seed=0):
    row, rng = LAYERS[name], np.random.default_rng(seed)
    layer = row.make(*sizes, dtype=dtype, rng=rng)
    x = rng.standard_normal((steps, batch, sizes[0])).astype(dtype)
    shape = (sizes[2], batch, sizes[1])
    state = tuple(rng.standard_normal(shape).astype(dtype) for _ in row.states)
    return Run(row, layer, x, state, rng)


@st.composite
def runs(draw, steps=(1, 6), batch=(1, 4)):
    sizes = draw(st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 3)))
    return made(
        draw(st.sampled_from(sorted(LAYERS))),
        sizes,
        draw(st.integers(*steps)),
        draw(st.integers(*batch)),
        draw(st.sampled_from(("float32", "float64"))),
        draw(st.integers(0, 2**32 - 1)),
    )


def law(share=0.3, **sizes):
    """Check a body on drawn runs, at `share` of the profile's examples."""
    return lambda body: settings(max_examples=max(10, int(EXAMPLES * share)))(
        given(runs(**sizes))(body)
    )


def loop(run, step, x, states, weights):
    """Layer after layer, step after step."""
    outputs, last = list(x), []
    for k, state in enumerate(zip(*states, strict=True)):
        for t, x_t in enumerate(outputs):
            outputs[t], state = step(x_t, state, *weights(k))
        last.append(state)
    return outputs, tuple(zip(*last, strict=True))


# What it computes


@law(0.6, steps=(0, 6), batch=(0, 3))
def test_layer_is_the_loop_of_its_cell(run):
    output, state = run()
    states = [list(map(tg.Tensor, s)) for s in run.state]
    xs = [tg.Tensor(x) for x in run.x]
    outputs, last = loop(run, run.row.cell, xs, states, run.layer.weights)
    identical(list(output.numpy()), outputs)
    identical(state, [np.stack([v.numpy() for v in s]) for s in last])


@law(0.6)
def test_layer_computes_its_equations(run):
    def weights(k):
        return [w.numpy() for w in run.layer.weights(k)]

    outputs, last = loop(run, run.row.equations, run.x, run.state, weights)
    output, state = run()
    run.same(output, np.stack(outputs))
    run.same(state, [np.stack(s) for s in last])
    assert output.numpy().any()


@law(0.2)
def test_gradients_are_those_of_the_loop(run):
    def gradients(call):
        x = tg.Tensor(run.x, requires_grad=True)
        states = [tg.Tensor(s, requires_grad=True) for s in run.state]
        output, last = call(x, states)
        leaves = [x, *states, *run.layer.parameters()]
        weighted = [(v * w).sum() for v, w in zip([output, *last], factors, strict=True)]
        return tg.grad(weighted, leaves)

    def by_hand(x, states):
        rows = [[s[k] for k in range(len(s))] for s in states]
        xs = [x[t] for t in range(len(run.x))]
        outputs, last = loop(run, run.row.cell, xs, rows, run.layer.weights)
        return tg.stack(outputs), [tg.stack(s) for s in last]

    output, last = run()
    factors = [run.rng.standard_normal(v.shape).astype(v.dtype) for v in (output, *last)]
    found, expected = gradients(lambda x, s: run.layer(x, tuple(s))), gradients(by_hand)
    run.same(found, expected, rtol=1e-3 if run.x.dtype == np.float32 else 1e-10, atol=1e-5)
    assert all(d.numpy().any() for d in found)


@law()
def test_outputs_and_states_keep_the_dtype_and_shape(run):
    output, state = run()
    (steps, batch, _), layer = run.x.shape, run.layer
    assert output.shape == (steps, batch, layer.hidden_size) and output.dtype == run.x.dtype
    for s in state:
        assert s.shape == (layer.num_layers, batch, layer.hidden_size) and s.dtype == run.x.dtype
    identical(output[-1], state[0][-1])


@law()
def test_streaming_is_one_long_run(run):
    k = run.rng.integers(len(run.x) + 1)
    first, state = run(run.x[:k])
    second, state = run.layer(tg.Tensor(run.x[k:]), state)
    output, last = run()
    identical(np.concatenate([first.numpy(), second.numpy()]), output)
    identical(state, last)


@law()
def test_outputs_do_not_depend_on_later_steps(run):
    k = run.rng.integers(len(run.x))
    changed = run.x.copy()
    changed[k:] = np.nan
    output, other = run()[0].numpy(), run(changed)[0].numpy()
    identical(output[:k], other[:k])
    assert np.isnan(other[k:]).all()


@law()
def test_sequences_of_a_batch_do_not_touch_each_other(run):
    b = run.rng.integers(run.x.shape[1])
    x, state = run.x.copy(), [s.copy() for s in run.state]
    for a in (x, *state):
        a[:, b] = np.nan
    results = zip(flat(run()), flat(run(x, state)), strict=True)
    for kept, poisoned in results:
        identical(np.delete(kept, b, 1), np.delete(poisoned, b, 1))
        assert np.isnan(poisoned[:, b]).all()


@law()
def test_sequence_alone_gives_what_it_gives_in_a_batch(run):
    b = run.rng.integers(run.x.shape[1])
    alone = run(run.x[:, [b]], [s[:, [b]] for s in run.state])
    run.same(alone, [a[:, [b]] for a in flat(run())])


@law()
def test_gradients_of_one_sequence_stay_in_it(run):
    b = run.rng.integers(run.x.shape[1])
    leaves = [tg.Tensor(a, requires_grad=True) for a in (run.x, *run.state)]
    output, _ = run.layer(leaves[0], tuple(leaves[1:]))
    for d in tg.grad(output[:, b].sum(), leaves):
        assert not np.delete(d.numpy(), b, 1).any() and d.numpy()[:, b].any()


@law()
def test_no_state_is_the_zero_state(run):
    zeros = tuple(np.zeros_like(s) for s in run.state)
    found, expected = run.layer(tg.Tensor(run.x)), run(state=zeros)
    identical(found, expected)
    parameters = list(run.layer.parameters())
    gradients = [tg.grad((v[0] * v[0]).sum(), parameters) for v in (found, expected)]
    identical(*gradients)


@law(0.1)
def test_no_grad_gives_the_values_without_a_graph(run):
    with tg.no_grad():
        output, state = run()
    identical((output, state), run())
    assert not output.requires_grad and not any(s.requires_grad for s in state)


@law(0.1)
def test_two_backward_passes_are_bit_equal(run):
    loss = (run()[0] ** 2).sum()
    passes = [tg.grad(loss, list(run.layer.parameters()), retain_graph=True) for _ in range(2)]
    identical(*passes)


@law(0.1)
def test_inputs_are_unchanged_and_any_strides_do(run):
    batch_major = np.ascontiguousarray(run.x.swapaxes(0, 1))
    x = tg.swapaxes(tg.Tensor(batch_major), 0, 1)
    state = tuple(tg.Tensor(np.asfortranarray(s)) for s in run.state)
    found = run.layer(x, state)
    run.same(found, run())
    identical(x, run.x)
    identical(state, run.state)


@law(0.1)
def test_state_dict_carries_the_whole_layer(run):
    layer, other = run.layer, run.row.make(
        run.layer.input_size, run.layer.hidden_size, run.layer.num_layers, dtype=run.x.dtype
    )  # fmt: skip
    other.load_state_dict(layer.state_dict())
    identical(run._replace(layer=other)(), run())


# Derivatives


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("layers", (1, 2))
def test_second_derivatives_agree_with_differences(name, layers, rng):
    run = made(name, (2, 2, layers), steps=3)
    names = [n for n, _ in run.layer.named_parameters()]
    weights = [v.numpy() for v in run.layer.parameters()]

    def call(x, *rest):
        count = len(run.state)
        for n, w in zip(names, rest[count:], strict=True):
            setattr(run.layer, n, w)
        output, state = run.layer(x, rest[:count])
        return output, *state

    report = tg.testing.gradcheck(call, [run.x, *run.state, *weights], rng=rng, order=2)
    assert report and report.analytic != 0


@pytest.mark.parametrize("name", LAYERS)
def test_gradient_penalty_reaches_every_weight(name):
    run = made(name, steps=3)
    x = tg.Tensor(run.x, requires_grad=True)
    output, _ = run.layer(x, tuple(map(tg.Tensor, run.state)))
    (d,) = tg.grad((output**2).sum(), x, create_graph=True)
    (d**2).sum().backward()
    for n, p in run.layer.named_parameters():
        assert p.grad is not None and p.grad.numpy().any(), n


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_reach_through_a_long_sequence(name):
    run = made(name, (1, 1, 1), steps=2000, batch=1)
    x = tg.Tensor(run.x, requires_grad=True)
    (d,) = tg.grad(run.layer(x)[0].sum(), x)
    assert np.isfinite(d.numpy()).all() and d.numpy()[0].any()


@pytest.mark.parametrize("name", LAYERS)
def test_detached_state_cuts_the_gradient(name):
    run = made(name)
    x, later = (tg.Tensor(run.x, requires_grad=True) for _ in range(2))
    _, state = run.layer(x)
    cut, _ = run.layer(later, tuple(s.detach() for s in state))
    whole, _ = run.layer(later, state)
    identical(cut, whole)
    none, some = tg.grad(cut.sum(), [x, later], allow_unused=True)
    assert none is None and some.numpy().any()
    through, same = tg.grad(whole.sum(), [x, later])
    assert through.numpy().any()
    identical(same, some)


# Nothing to do


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("layers", (1, 2, 3))
def test_no_steps_give_no_outputs_and_the_initial_state(name, dtype, layers):
    run = made(name, (3, 4, layers), steps=0, dtype=dtype)
    state = tuple(tg.Tensor(s, requires_grad=True) for s in run.state)
    output, last = run.layer(tg.Tensor(run.x), state)
    assert output.shape == (0, 2, 4) and output.dtype == np.dtype(dtype)
    identical(last, run.state)
    for s, end in zip(state, last, strict=True):
        identical(tg.grad(end.sum(), s)[0], np.ones_like(s.numpy()))


@pytest.mark.parametrize("name", LAYERS)
def test_empty_batch_gives_empty_results_and_zero_gradients(name):
    run = made(name, batch=0)
    output, state = run()
    assert output.shape == (5, 0, 4) and all(s.shape == (2, 0, 4) for s in state)
    for p, d in zip(
        run.layer.parameters(),
        tg.grad(output.sum(), list(run.layer.parameters())),
        strict=True,
    ):
        assert d.shape == p.shape and not d.numpy().any()


# What a user reads after a mistake

BAD_INPUTS = {
    "two axes": (np.zeros((7, 3)), ValueError, r"expected x of shape \(T, B, 3\), got \(7, 3\)"),
    "four axes": (np.zeros((7, 2, 3, 1)), ValueError, r"got \(7, 2, 3, 1\); the layer is time"),
    "features": (np.zeros((7, 2, 4)), ValueError, r"got \(7, 2, 4\); .* tg\.swapaxes\(x, 0, 1\)"),
    "float32": (np.zeros((7, 2, 3), "f4"), TypeError, r"expected x of .* float64, got float32"),
    "integers": (np.zeros((7, 2, 3), int), TypeError, r"got int64; convert with \.astype"),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("case", BAD_INPUTS)
def test_wrong_input_is_refused(name, case):
    x, error, message = BAD_INPUTS[case]
    with pytest.raises(error, match=f"^{name}: .*{message}"):
        made(name).layer(tg.Tensor(x))


@pytest.mark.parametrize("name", LAYERS)
def test_nested_lists_are_no_input(name):
    with pytest.raises(TypeError, match=rf"^{name}: expected x .* got list; .*tg\.Tensor\(x, "):
        made(name).layer([[[1.0, 2.0, 3.0]]])


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("shape", [(1, 2, 4), (2, 4), (2, 3, 4), (2, 2, 5), (2, 1, 4), ()])
def test_state_of_another_shape_is_refused(name, shape):
    run = made(name)
    for k, which in enumerate(run.row.states):
        state = [tg.Tensor(s) for s in run.state]
        state[k] = tg.zeros(shape, dtype="float64")
        with pytest.raises(
            ValueError, match=rf"^{name}: expected {which} of shape \(2, 2, 4\), got .*;"
        ):
            run.layer(tg.Tensor(run.x), tuple(state))


@pytest.mark.parametrize("name", LAYERS)
def test_state_of_another_dtype_is_refused(name):
    run = made(name)
    for k, which in enumerate(run.row.states):
        state = [tg.Tensor(s) for s in run.state]
        state[k] = state[k].astype("float32")
        with pytest.raises(TypeError, match=rf"^{name}: expected {which} of .* got float32"):
            run.layer(tg.Tensor(run.x), tuple(state))


BAD_STATES = {
    "one tensor": (lambda h, c: h, r"got Tensor"),
    "one of two": (lambda h, c: (h,), r"got tuple of 1"),
    "three": (lambda h, c: [h, c, c], r"got list of 3"),
    "a dict": (lambda h, c: {"h_0": h, "c_0": c}, r"got dict"),
}


@pytest.mark.parametrize("case", BAD_STATES)
def test_lstm_state_that_is_no_pair_is_refused(case):
    run = made("LSTM")
    build, message = BAD_STATES[case]
    with pytest.raises(TypeError, match=rf"^LSTM: expected the state as a pair .* {message}"):
        run.layer(tg.Tensor(run.x), build(*map(tg.Tensor, run.state)))


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("sizes", [(0, 4, 1), (3, 0, 1), (3, 4, 0), (3, -1, 1)])
def test_sizes_below_one_are_refused(name, sizes):
    with pytest.raises(ValueError, match=rf"^{name}: expected sizes of at least 1, got .*size="):
        LAYERS[name].make(*sizes)


# Its weights


@pytest.mark.parametrize("name", LAYERS)
def test_parameters_have_their_names_and_shapes_in_order(name):
    gates = {"LSTM": 4}[name]
    shapes = {}
    for k, columns in enumerate((3, 5, 5)):
        shapes |= {f"weight_ih_l{k}": (gates * 5, columns), f"weight_hh_l{k}": (gates * 5, 5)}
        shapes |= {f"bias_ih_l{k}": (gates * 5,), f"bias_hh_l{k}": (gates * 5,)}
    layer = LAYERS[name].make(3, 5, 3)
    assert {n: p.shape for n, p in layer.named_parameters()} == shapes
    assert [n for n, _ in layer.named_parameters()] == list(shapes)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_weights_are_drawn_within_their_bound(name, dtype):
    layer = LAYERS[name].make(7, 64, 2, dtype=dtype, rng=np.random.default_rng(0))
    for n, p in layer.named_parameters():
        values = p.numpy()
        assert values.dtype == np.dtype(dtype)
        assert np.abs(values).max() <= np.float32(1 / 8), n
        assert np.abs(values).max() > 0.95 / 8 and abs(values.mean()) < 0.02, n
        assert len(np.unique(values)) > 0.99 * values.size, n


@pytest.mark.parametrize("name", LAYERS)
def test_one_generator_gives_one_layer_in_either_dtype(name):
    layers = [
        LAYERS[name].make(2, 3, dtype=dtype, rng=np.random.default_rng(4)).state_dict()
        for dtype in ("float64", "float32", "float64")
    ]
    for wide, narrow, again in zip(*(d.values() for d in layers), strict=True):
        identical(wide, again)
        identical(wide.astype("float32"), narrow)
