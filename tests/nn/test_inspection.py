"""What is seen inside recurrent layers is what their definition says, whatever the layer."""

import numpy as np
import pytest
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tests.nn.sequences import LAYERS, identical, law, made, packed, parts, rowwise
from tinygrad_rnn import nn
from tinygrad_rnn.nn import inspection
from tinygrad_rnn.nn.inspection import (
    contributions,
    gate_statistics,
    state_gradients,
    state_jacobians,
)

ALL = pytest.mark.parametrize("name", LAYERS)
BOTH = pytest.mark.parametrize("bidirectional", (False, True), ids=("one way", "both ways"))


def by_hand(run, x):
    """The loop over layers, directions and steps: the output of all steps, the states after each
    step of each scan, and, of each scan and step, the weights it is given."""
    layer, states, weights = run.layer, [], []
    rows, starts = list(x), rowwise(list(map(tg.Tensor, run.state)))
    for k in range(layer.num_layers):
        columns = []
        for reverse in (False, True)[: 1 + layer.bidirectional]:
            state, outputs, after = starts[len(states)], list(rows), list(rows)
            given = [copied(layer.weights(k, reverse)) for _ in rows]
            for t in reversed(range(len(rows))) if reverse else range(len(rows)):
                y, state = run.row.cell(rows[t], state, *given[t])
                after[t] = [1.0 * s for s in parts(state)]  # apart: no way from c_t through h_t
                state = packed(after[t])
                outputs[t] = after[t][0] if run.row.shown else y
            columns.append(outputs)
            states.append(after)
            weights.append(given)
        rows = [tg.concatenate(both, -1) for both in zip(*columns, strict=True)]
    return tg.stack(rows), states, weights


def copied(tensors):
    return [tg.Tensor(v, requires_grad=True) for v in tensors]


def loss_of(run, output):
    rng = np.random.default_rng(5)
    weights = rng.standard_normal((len(run.x), output.shape[-1])).astype(run.x.dtype)
    return (output * weights[:, None] * output).sum()


def near(run, found, expected):
    single = run.x.dtype == np.float32
    np.testing.assert_allclose(
        found, expected, rtol=1e-3 if single else 1e-9, atol=1e-4 if single else 1e-10
    )


@law(0.4)
def test_state_gradients_are_those_of_the_loops_states(run):
    found = state_gradients(lambda: loss_of(run, run()[0]))
    output, states, _ = by_hand(run, tg.Tensor(run.x))
    flat = [s for after in states for rows in after for s in rows]
    live = tg.grad(loss_of(run, output), flat, allow_unused=True)
    pairs = zip(flat, live, strict=True)
    expected = iter([np.zeros(s.shape) if d is None else d.numpy() for s, d in pairs])
    assert len(found) == len(states)
    for each, after in zip(found, states, strict=True):
        each = each if isinstance(each, tuple) else (each,)
        rows = [[next(expected) for _ in row] for row in after]
        for d, e in zip(each, zip(*rows, strict=True), strict=True):
            assert d.shape == (*run.x.shape[:2], e[0].shape[1]) and d.dtype == run.x.dtype
            near(run, d, np.stack(e))
    if len(run.x) > 1 or run.row.shown:  # else nobody reads the only state
        run.informative(found[0] if not isinstance(found[0], tuple) else found[0][0])


@law(0.4)
def test_contributions_are_the_gradients_of_copies_and_their_sum_is_the_gradient(run):
    layer = run.layer
    weights = list(layer.parameters())
    found = contributions(lambda: loss_of(run, run()[0]), weights)
    output, _, given = by_hand(run, tg.Tensor(run.x))
    flat = [w for steps in given for row in steps for w in row]
    live = tg.grad(loss_of(run, output), flat, allow_unused=True)
    pairs = zip(flat, live, strict=True)
    expected = iter([np.zeros(w.shape) if d is None else d.numpy() for w, d in pairs])
    by_copy = {}
    for names, steps in zip(layer._names, given, strict=True):
        for row in steps:
            for n, _ in zip(names, row, strict=True):
                by_copy.setdefault(n, []).append(next(expected))
    whole = tg.grad(loss_of(run, run()[0]), weights)
    for (n, w), parts_, d in zip(layer.named_parameters(), found, whole, strict=True):
        assert parts_.shape == (len(run.x), *w.shape) and parts_.dtype == w.dtype
        near(run, parts_, np.stack(by_copy[n]))
        near(run, parts_.sum(0), d.numpy())
    run.informative(*found[:2])


def one_jacobian(run, t, first):
    """∂s_t/∂s_{first} of one layer and direction, by the gradients of its definition."""
    start = [tg.Tensor(s[0], requires_grad=True) for s in run.state]
    state = packed(start)
    for k in range(t + 1):
        if k == first:
            start = [tg.Tensor(s.numpy(), requires_grad=True) for s in parts(state)]
            state = packed(start)
        _, state = run.row.cell(tg.Tensor(run.x[k]), state, *run.layer.weights(0))
    whole = tg.concatenate(parts(state), -1)
    rows = []
    for i in range(whole.shape[1]):
        found = tg.grad(whole[:, i].sum(), start, retain_graph=True, allow_unused=True)
        pairs = zip(found, start, strict=True)
        parts_ = [np.zeros(s.shape) if d is None else d.numpy() for d, s in pairs]
        rows.append(np.concatenate(parts_, -1))
    return np.stack(rows, 1)


@law(0.2, layers=st.just(1), bidirectional=st.just(False))
def test_jacobians_are_those_of_the_definition(run):
    (found,) = state_jacobians(lambda: run())
    (local,) = state_jacobians(lambda: run(), from_start=False)
    n = sum(run.layer.state_sizes)
    assert found.shape == local.shape == (*run.x.shape[:2], n, n) and found.dtype == run.x.dtype
    t = run.rng.integers(len(run.x))
    near(run, found[t], one_jacobian(run, t, 0))
    near(run, local[t], one_jacobian(run, t, t))
    run.informative(local)


@law(0.2)
def test_jacobians_multiply_along_the_way_of_reading(run):
    found = state_jacobians(lambda: run())
    local = state_jacobians(lambda: run(), from_start=False)
    assert len(found) == run.layer.num_layers * (1 + run.layer.bidirectional)
    for j, (whole, each) in enumerate(zip(found, local, strict=True)):
        reverse = run.layer.bidirectional and j % 2
        product = np.eye(whole.shape[-1])
        for t in reversed(range(len(each))) if reverse else range(len(each)):
            product = each[t] @ product
            near(run, whole[t], product)


@ALL
def test_a_small_step_of_the_state_is_what_the_jacobian_says(name):
    run = made(name, (3, 4, 1), steps=6)
    (found,) = state_jacobians(lambda: run())
    step, sizes = 1e-6, run.layer.state_sizes
    moved = [run.rng.standard_normal(s.shape) for s in run.state]
    after = []
    for sign in (1, -1):
        state = [s + sign * step * d for s, d in zip(run.state, moved, strict=True)]
        after.append(np.concatenate([s.numpy()[0] for s in run(state=state)[1]], -1))
    slope = (after[0] - after[1]) / (2 * step)
    along = np.einsum("bij,bj->bi", found[-1], np.concatenate([m[0] for m in moved], -1))
    assert sum(sizes) == along.shape[1]
    np.testing.assert_allclose(along, slope, rtol=1e-6, atol=1e-8)


@BOTH
def test_lengths_and_resets_end_what_a_state_reaches(bidirectional):
    run = made("GRU", (3, 4, 1), steps=5, bidirectional=bidirectional)
    reset = np.zeros((5, 2), bool)
    reset[3, 1] = True
    layer, x = run.layer, tg.Tensor(run.x)

    def loss():
        return layer(x, lengths=[3, 5], reset=reset)[0].sum()

    found, local = state_jacobians(loss), state_jacobians(loss, from_start=False)
    assert not found[0][3:, 1].any() and found[0][:3, 1].any()
    identical(local[0][3:, 0], np.stack([np.eye(4)] * 2))  # beyond a length the state stays
    if bidirectional:
        assert not found[1][:3, 1].any() and found[1][3:, 1].any()
        identical(local[1][3:, 0], np.stack([np.eye(4)] * 2))
    gradients = state_gradients(loss)
    assert not any(d[3:, 0].any() for d in gradients)
    assert all(d[:3, 0].any() for d in gradients)
    (ds,) = contributions(loss, [layer.weight_hh_l0])
    (whole,) = tg.grad(loss(), [layer.weight_hh_l0])
    np.testing.assert_allclose(ds.sum(0), whole.numpy(), rtol=1e-12)


def test_a_whole_model_is_seen_scan_by_scan():
    rng = np.random.default_rng(0)
    options = {"dtype": "float64", "rng": rng}
    model = nn.Sequential(
        nn.Linear(3, 4, **options),
        nn.LSTM(4, 5, 2, **options),
        nn.GRU(5, 6, bidirectional=True, **options),
    )
    x = tg.Tensor(rng.standard_normal((7, 2, 3)))
    found = state_gradients(lambda: model(x)[0].sum())
    shapes = [[v.shape[-1] for v in (d if isinstance(d, tuple) else (d,))] for d in found]
    assert shapes == [[5, 5], [5, 5], [6], [6]]
    weights = [model[2].weight_ih_l0_reverse, model[1].weight_hh_l1]
    ds = contributions(lambda: model(x)[0].sum(), weights)
    for d, whole in zip(ds, tg.grad(model(x)[0].sum(), weights), strict=True):
        np.testing.assert_allclose(d.sum(0), whole.numpy(), rtol=1e-12)
    assert [len(j) for j in state_jacobians(lambda: model(x))] == [7] * 4


def test_a_layer_that_runs_twice_appears_twice():
    run = made("RNN", (3, 4, 1))
    x, weight = tg.Tensor(run.x), run.layer.weight_hh_l0

    def loss():
        _, state = run.layer(x[:2])
        return (run.layer(x[2:], state)[0] ** 2).sum()

    (found,) = contributions(loss, [weight])
    (whole,) = contributions(lambda: (run.layer(x)[0][2:] ** 2).sum(), [weight])
    np.testing.assert_allclose(found, whole, rtol=1e-12)
    assert len(state_gradients(loss)) == 2


@pytest.mark.parametrize("options", [{"zoneout": 0.4}, {"recurrent_dropout": 0.4}])
def test_training_is_seen_as_it_is(options):
    run = made("LSTM", (3, 4, 1), **options)

    def loss():
        run.layer.rng = np.random.default_rng(1)
        return (run()[0] ** 2).sum()

    ((d_h, d_c),) = state_gradients(loss)
    state = [tg.Tensor(s, requires_grad=True) for s in run.state]
    run.layer.rng = np.random.default_rng(1)
    (expected, _) = tg.grad((run(state=state)[0] ** 2).sum(), state)
    (jacobian,) = state_jacobians(loss, from_start=False)
    joined = np.concatenate([d_h[0], d_c[0]], -1)
    np.testing.assert_allclose(
        np.einsum("bi,bij->bj", joined, jacobian[0])[:, :4], expected.numpy()[0], rtol=1e-9
    )
    weights = [run.layer.weight_hh_l0]
    (parts_,) = contributions(loss, weights)
    np.testing.assert_allclose(
        parts_.sum(0), tg.grad(loss(), weights)[0].numpy(), rtol=1e-9, atol=1e-12
    )


def test_weights_that_no_scan_is_given_are_refused():
    run = made("LSTM", weight_drop=0.5)
    message = r"^contributions: expected weights that a scan is given, got none at 1; name param"
    with pytest.raises(ValueError, match=message):
        contributions(lambda: run()[0].sum(), [run.layer.weight_ih_l0, run.layer.weight_hh_l0])
    run.layer.eval()
    contributions(lambda: run()[0].sum(), [run.layer.weight_hh_l0])


def test_a_weight_that_is_asked_for_twice_is_told_twice():
    run = made("GRU")
    weights = [run.layer.weight_hh_l0, run.layer.weight_ih_l0, run.layer.weight_hh_l0]
    once, other, twice = contributions(lambda: run()[0].sum(), weights)
    identical(once, twice)
    assert once.any() and once.shape != other.shape


@pytest.mark.parametrize("name", ("GRU", "LSTM"))
def test_no_steps_have_no_jacobians(name):
    run = made(name, steps=0)
    width = sum(run.layer.state_sizes)
    found = state_jacobians(run)
    assert [j.shape for j in found] == [(0, 2, width, width)] * 2


def test_after_a_look_layers_run_as_before():
    run = made("GRU")
    expected = run()
    with pytest.raises(ZeroDivisionError):
        state_gradients(lambda: 1 / 0)
    assert inspection.SCAN.get() is tg.scan
    identical(run(), expected)


def test_gate_statistics_count_what_is_open_and_closed():
    gate = np.full((4, 1, 2, 3), 0.5)
    gate[0, 0, 0] = 0.05, 0.95, 0.5
    gate[3, 0, 1] = 0.99, 0.01, 0.1
    mean, closed, open_ = gate_statistics(tg.Tensor(gate))
    np.testing.assert_allclose(closed, [[1 / 8, 1 / 8, 0]])
    np.testing.assert_allclose(open_, [[1 / 8, 1 / 8, 0]])
    np.testing.assert_allclose(mean, gate.mean((0, 2)))
    mean, closed, open_ = gate_statistics(gate, lengths=[4, 3])
    np.testing.assert_allclose(closed, [[1 / 7, 0, 0]])
    np.testing.assert_allclose(open_, [[0, 1 / 7, 0]])


def test_gates_of_an_lstm_that_never_forgets_are_open():
    run = made("LSTM", (3, 4, 1))
    run.layer.load_state_dict(
        run.layer.state_dict() | {"bias_ih_l0": np.repeat([0.0, 50.0, 0.0, 0.0], 4)}
    )
    *_, (forget, _, _) = run.layer(tg.Tensor(run.x), return_gates=True)
    assert (gate_statistics(forget).open == 1).all() and (gate_statistics(forget).mean > 0.99).all()
    (jacobian,) = state_jacobians(lambda: run())
    assert (np.linalg.norm(jacobian, 2, (-2, -1)) > 0.9).all()
