"""The laws of recurrent layers: one row per layer, each law for every row."""

import copy
import inspect
import pickle

import numpy as np
import pytest
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tests.nn.sequences import (
    LAYERS,
    flat,
    identical,
    law,
    made,
    packed,
    parts,
    rowwise,
    stacked,
    unrolled,
)

BOTH = pytest.mark.parametrize("bidirectional", (False, True), ids=("one way", "both ways"))
ALL = pytest.mark.parametrize("name", LAYERS)
ONE_WAY = {"bidirectional": st.just(False)}


def test_every_recurrent_layer_has_a_row():
    kinds = {v for v in vars(tg.nn).values() if inspect.isclass(v)}
    layers = {v for v in kinds if issubclass(v, tg.nn.Recurrent)}
    assert layers == {type(made(name).layer) for name in LAYERS}
    one_step = {v for v in kinds if v.__name__.endswith("Cell")}
    assert one_step == {type(row.one_step(1, 1)) for row in LAYERS.values() if row.one_step}


# What it computes


def one_step_of(run, k, reverse):
    """One step of a layer and direction, by the class for it, with the same weights."""
    cell, layer = run.row.one_step, run.layer
    if cell is None:
        return lambda x, state: run.row.cell(x, state, *layer.weights(k, reverse))
    suffix = f"_l{k}{'_reverse' * reverse}"
    weights = {n.removesuffix(suffix): a for n, a in layer.state_dict().items() if suffix in n}
    weights = {n: a for n, a in weights.items() if "_l" not in n}
    columns = weights["weight_ih"].shape[1]
    one = cell(columns, layer.hidden_size, bias=layer.bias, dtype=run.x.dtype)
    one.load_state_dict(weights)

    def step(x, state):
        state = one(x, state)
        return (state[0] if isinstance(state, tuple) else state), state

    return step


@law(0.6, steps=(0, 6), batch=(0, 3))
def test_layer_is_the_loop_of_its_cell(run):
    output, state = run()
    starts = rowwise(list(map(tg.Tensor, run.state)))
    outputs, ends = unrolled(
        run,
        lambda x, state, step: step(x, state),
        map(tg.Tensor, run.x),
        starts,
        lambda k, reverse: [one_step_of(run, k, reverse)],
        tg.concatenate,
    )
    others, moved = run.nudged()()
    run.same(list(output.numpy()), outputs, list(others.numpy()))
    run.same(state, stacked(ends, tg.stack), moved)


@law(0.6)
def test_layer_computes_its_equations(run):
    def weights(k, reverse):
        return [w.numpy() for w in run.layer.weights(k, reverse)]

    outputs, ends = unrolled(
        run, run.row.equations, run.x, rowwise(run.state), weights, np.concatenate
    )
    output, state = run()
    others, moved = run.nudged()()
    run.same(output, np.stack(outputs), others)
    run.same(state, stacked(ends, np.stack), moved)
    run.informative(output)


@law(0.3)
def test_gradients_are_those_of_the_loop(run):
    def gradients(call):
        x = tg.Tensor(run.x, requires_grad=True)
        states = [tg.Tensor(s, requires_grad=True) for s in run.state]
        output, last = call(x, states)
        leaves = [x, *states, *run.layer.parameters()]
        return tg.grad([output, *last], leaves, factors)

    def by_hand(x, states):
        outputs, ends = unrolled(
            run, run.row.cell, x, rowwise(states), run.layer.weights, tg.concatenate
        )
        return tg.stack(outputs), stacked(ends, tg.stack)

    output, last = run()
    factors = run.factors([output, *last])
    found, expected = gradients(run), gradients(by_hand)
    run.same(found, expected, rtol=1e-3 if run.x.dtype == np.float32 else 1e-10, atol=1e-5)
    run.informative(*found)


@law()
def test_outputs_and_states_keep_the_dtype_and_shape(run):
    output, state = run()
    (steps, batch, _), layer = run.x.shape, run.layer
    directions = 1 + layer.bidirectional
    assert output.shape == (steps, batch, directions * layer.output_size)
    assert isinstance(output, tg.Tensor) and output.dtype == run.x.dtype
    for s, start in zip(state, run.state, strict=True):
        assert isinstance(s, tg.Tensor) and s.dtype == run.x.dtype and s.shape == start.shape
    if run.row.shown:
        identical(output.numpy()[-1, :, : layer.hidden_size], state[0].numpy()[-directions])
        identical(output.numpy()[0, :, -layer.hidden_size :] if directions == 2
                  else output.numpy()[-1], state[0].numpy()[-1])  # fmt: skip


@law(**ONE_WAY)
def test_streaming_is_one_long_run(run):
    k = run.rng.integers(len(run.x) + 1)
    first, state = run(run.x[:k])
    second, state = run(run.x[k:], state)
    output, last = run()
    identical(np.concatenate([first.numpy(), second.numpy()]), output)
    identical(state, last)


@law(**ONE_WAY)
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
def test_sequence_without_a_batch_axis_is_a_batch_of_one(run):
    x, state = run.x[:, 0], [s[:, 0] for s in run.state]
    output, last = run.layer(tg.Tensor(x), packed(list(map(tg.Tensor, state))))
    expected = run(x[:, None], [s[:, None] for s in state])
    identical([output, *parts(last)], [a[:, 0] for a in flat(expected)])
    silent, _ = run.layer(tg.Tensor(x))
    identical(silent, run(x[:, None], [0 * s[:, None] for s in state])[0].numpy()[:, 0])


@law()
def test_gradients_of_one_sequence_stay_in_it(run):
    b = run.rng.integers(run.x.shape[1])
    leaves = [tg.Tensor(a, requires_grad=True) for a in (run.x, *run.state)]
    output, _ = run(leaves[0], leaves[1:])
    for d in tg.grad(output[:, b].sum(), leaves):
        assert not np.delete(d.numpy(), b, 1).any()
        run.informative(d.numpy()[:, b])


@law()
def test_no_state_is_the_zero_state(run):
    zeros = tuple(np.zeros_like(s) for s in run.state)
    x = run.x.swapaxes(0, 1) if run.layer.batch_first else run.x
    output, state = run.layer(tg.Tensor(x))
    expected, last = run(state=zeros)
    if run.layer.batch_first:
        output = tg.swapaxes(output, 0, 1)
    identical([output, *parts(state)], [expected, *last])
    parameters = list(run.layer.parameters())
    gradients = [tg.grad((v * v).sum(), parameters) for v in (output, expected)]
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
    x = tg.swapaxes(tg.Tensor(np.ascontiguousarray(run.x.swapaxes(0, 1))), 0, 1)
    state = tuple(tg.Tensor(np.asfortranarray(s)) for s in run.state)
    found = run(x, state)
    run.same(found, run())
    identical(x, run.x)
    identical(state, run.state)


@law(0.2)
def test_batch_first_is_transposed(run):
    other = run.with_options(batch_first=not run.layer.batch_first)
    other.layer.load_state_dict(run.layer.state_dict())
    identical(other(), run())


@law(0.2, bidirectional=st.just(True), layers=st.just(1))
def test_reverse_direction_is_the_mirror(run):
    one_way = run.with_options(bidirectional=False, batch_first=False)
    output, state = run()
    columns = np.split(output.numpy(), 2, axis=-1)
    for k, x in enumerate((run.x, run.x[::-1])):
        end = "_reverse" * k
        weights = {
            n.removesuffix(end): a
            for n, a in run.layer.state_dict().items()
            if n.endswith("_reverse") == bool(k)
        }
        one_way.layer.load_state_dict(weights)
        found, last = one_way(x.copy(), [s[k : k + 1] for s in run.state])
        run.same(found.numpy()[:: -1 if k else 1], columns[k])
        run.same(last, [s.numpy()[k : k + 1] for s in state])


@law(0.1)
def test_state_dict_carries_the_whole_layer(run):
    other = run.with_options()
    other.layer.load_state_dict(run.layer.state_dict())
    identical(other(), run())


@ALL
@pytest.mark.parametrize("way", (copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v))))
def test_copies_compute_the_same(name, way):
    run = made(name, bidirectional=True)
    identical(run._replace(layer=way(run.layer))(), run())


# Lengths


def lengths_of(run):
    """Any lengths, one of them 0 and one T now and then."""
    steps, batch = run.x.shape[:2]
    return run.rng.choice([0, steps, *range(steps + 1)], batch)


@law(0.6, batch=(0, 4))
def test_beyond_a_length_nothing_matters(run):
    lengths, x = lengths_of(run), run.x.copy()
    for b, n in enumerate(lengths):
        x[n:, b] = run.rng.choice([np.nan, np.inf, 1e30])
    output, state = run(x, lengths=lengths)
    identical((output, state), run(lengths=lengths))
    for b, n in enumerate(lengths):
        starts = [s[:, [b]] for s in run.state]
        expected, last = run(run.x[:n, [b]], starts)
        run.same(output.numpy()[:n, [b]], expected)
        assert not output.numpy()[n:, b].any()
        run.same([s.numpy()[:, [b]] for s in state], last)
        if n == 0:
            identical([s.numpy()[:, [b]] for s in state], starts)


@law(0.3)
def test_gradients_beyond_a_length_are_zero(run):
    lengths, x = lengths_of(run), run.x.copy()
    for b, n in enumerate(lengths):
        x[n:, b] = np.nan
    leaves = [tg.Tensor(a, requires_grad=True) for a in (x, *run.state)]
    parameters = list(run.layer.parameters())
    results = run(leaves[0], leaves[1:], lengths)
    factors = run.factors([results[0], *results[1]])
    found = tg.grad([results[0], *results[1]], [*leaves, *parameters], factors)
    sums = [np.zeros_like(v.numpy()) for v in (*leaves, *parameters)]
    for b, n in enumerate(lengths):
        one = [tg.Tensor(run.x[:n, [b]], requires_grad=True)]
        one += [tg.Tensor(s[:, [b]], requires_grad=True) for s in run.state]
        output, last = run(one[0], one[1:])
        gs = [factors[0][:n, [b]], *(f[:, [b]] for f in factors[1:])]
        if n == 0:  # an output without steps has no gradient
            output, gs = last[0], [0 * gs[1], *gs[1:]]
        ds = tg.grad([output, *last], [*one, *parameters], gs, allow_unused=True)
        for k, d in enumerate(ds):
            place = (slice(n if k == 0 else None), [b]) if k < len(leaves) else ...
            sums[k][place] += 0 if d is None else d.numpy()
    run.same(found, sums, rtol=1e-3 if run.x.dtype == np.float32 else 1e-10, atol=2e-5)


@law(0.1)
def test_full_lengths_change_nothing(run):
    full = [run.x.shape[0]] * run.x.shape[1]
    for lengths in (full, np.array(full, np.uint8), tg.Tensor(full)):
        identical(run(lengths=lengths), run())


@ALL
@pytest.mark.parametrize("lengths", ([1, 6], [-1, 2], [1], [1, 2, 3], [1.0, 2.0], 3))
def test_wrong_lengths_are_refused(name, lengths):
    with pytest.raises(ValueError, match=r"^scan: expected lengths .*got"):
        made(name)(lengths=lengths)


# Dropout between layers


@law(0.3, layers=st.just(2))
def test_dropout_acts_between_layers_in_training(run):
    seed, p = run.rng.integers(2**32), 0.4
    other = run.with_options(dropout=p, rng=np.random.default_rng(1))
    other.layer.load_state_dict(run.layer.state_dict())
    identical(other.layer.eval() and other(), run())
    other.layer.train().rng = np.random.default_rng(seed)
    output, state = other()
    lower, upper = (
        run.row.make(
            inputs, run.layer.hidden_size, 1, dtype=run.x.dtype,
            bias=run.layer.bias, bidirectional=run.layer.bidirectional,
        )
        for inputs in (run.layer.input_size, output.shape[2])
    )  # fmt: skip
    for k, layer in enumerate((lower, upper)):
        weights = run.layer.state_dict().items()
        layer.load_state_dict({n.replace("_l1", "_l0"): a for n, a in weights if f"_l{k}" in n})
    n = len(run.state[0]) // 2
    y, first = run._replace(layer=lower)(state=[s[:n] for s in run.state])
    y = tg.nn.dropout(y, p, rng=np.random.default_rng(seed))
    expected, second = run._replace(layer=upper)(y, [s[n:] for s in run.state])
    identical(output, expected)
    identical(state, [np.concatenate(both) for both in zip(flat(first), flat(second), strict=True)])


@ALL
def test_dropout_has_gradients_and_draws_anew_in_each_call(name, rng):
    run = made(name, dropout=0.5)
    once, again = run()[0], run()[0]
    assert (once.numpy() != again.numpy()).any()

    def call(x, *state):
        run.layer.rng = np.random.default_rng(3)
        output, last = run(x, state)
        return output, *last

    assert tg.testing.gradcheck(call, [run.x, *run.state], rng=rng)


@ALL
@pytest.mark.parametrize("p", (1.0, 1.5, -0.1, float("nan")))
def test_share_outside_its_range_is_refused(name, p):
    with pytest.raises(ValueError, match=rf"^{LAYERS[name].called}: expected dropout in \[0, 1\),"):
        made(name, dropout=p)


@ALL
def test_dropout_of_one_layer_is_warned_about(name):
    message = rf"^{LAYERS[name].called}: dropout=0.5 acts between layers, and there is one; use nn"
    with pytest.warns(UserWarning, match=message):
        run = made(name, (3, 4, 1), dropout=0.5)
    identical(run(), run())


# Derivatives


@ALL
@pytest.mark.parametrize("layers, bidirectional", [(1, False), (2, True)])
def test_second_derivatives_agree_with_differences(name, layers, bidirectional, rng):
    run = made(name, (2, 2, layers), steps=3, bidirectional=bidirectional)
    names = [n for n, _ in run.layer.named_parameters()]
    weights = [v.numpy() for v in run.layer.parameters()]

    def call(x, *rest):
        count = len(run.state)
        for n, w in zip(names, rest[count:], strict=True):
            setattr(run.layer, n, w)
        output, state = run(x, rest[:count], lengths=[1, 3] if layers == 2 else None)
        return output, *state

    report = tg.testing.gradcheck(call, [run.x, *run.state, *weights], rng=rng, order=2)
    assert report and report.analytic != 0


@ALL
@BOTH
def test_gradient_penalty_reaches_every_weight(name, bidirectional):
    run = made(name, steps=3, bidirectional=bidirectional, batch=4)
    x = tg.Tensor(run.x, requires_grad=True)
    output, _ = run(x)
    (d,) = tg.grad((output**2).sum(), x, create_graph=True)
    (d**2).sum().backward()
    for n, p in run.layer.named_parameters():
        assert p.grad is not None and p.grad.numpy().any(), n


@ALL
def test_gradients_reach_through_a_long_sequence(name):
    run = made(name, (1, 1, 1), steps=2000, batch=1)
    x = tg.Tensor(run.x, requires_grad=True)
    output, _ = run(x)
    (d,) = tg.grad(output.sum(), x)
    assert np.isfinite(d.numpy()).all()
    run.informative(d.numpy()[0])


@ALL
def test_detached_state_cuts_the_gradient(name):
    run = made(name)
    x, later = (tg.Tensor(run.x, requires_grad=True) for _ in range(2))
    _, state = run(x)
    cut, _ = run(later, [s.detach() for s in state])
    whole, _ = run(later, state)
    identical(cut, whole)
    none, some = tg.grad(cut.sum(), [x, later], allow_unused=True)
    assert none is None and some.numpy().any()
    through, same = tg.grad(whole.sum(), [x, later])
    assert through.numpy().any()
    identical(same, some)


# Nothing to do


@ALL
@BOTH
@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("layers", (1, 2, 3))
def test_no_steps_give_no_outputs_and_the_initial_state(name, bidirectional, dtype, layers):
    run = made(name, (3, 4, layers), steps=0, dtype=dtype, bidirectional=bidirectional)
    state = tuple(tg.Tensor(s, requires_grad=True) for s in run.state)
    output, last = run(state=state)
    width = (1 + bidirectional) * run.layer.output_size
    assert output.shape == (0, 2, width) and output.dtype == np.dtype(dtype)
    identical(last, run.state)
    for s, end in zip(state, last, strict=True):
        identical(tg.grad(end.sum(), s)[0], np.ones_like(s.numpy()))


@ALL
@BOTH
def test_empty_batch_gives_empty_results_and_zero_gradients(name, bidirectional):
    run = made(name, batch=0, bidirectional=bidirectional)
    output, state = run()
    assert output.shape == (5, 0, (1 + bidirectional) * run.layer.output_size)
    assert [s.shape for s in state] == [s.shape for s in run.state]
    parameters = list(run.layer.parameters())
    for p, d in zip(parameters, tg.grad(output.sum(), parameters), strict=True):
        assert d.shape == p.shape and not d.numpy().any()
