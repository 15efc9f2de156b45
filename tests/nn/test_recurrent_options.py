"""Options of recurrent layers, compiled: what is dropped, where sequences begin, what is shown."""

import copy
import pickle
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tests.nn.sequences import (
    EXAMPLES,
    LAYERS,
    flat,
    identical,
    made,
    make_own,
    packed,
    parts,
    rowwise,
    runs,
    sigmoid,
)
from tinygrad_rnn import nn
from tinygrad_rnn.nn import cells
from tinygrad_rnn.nn.one_layer import SCAN
from tinygrad_rnn.scan import scan

OPTIONS = {
    "none": {},
    "recurrent dropout": {"recurrent_dropout": 0.4},
    "zoneout": {"zoneout": 0.3},
    "weight drop": {"weight_drop": 0.5},
    "learned state": {"learned_state": True},
    "all": {"recurrent_dropout": 0.2, "zoneout": 0.5, "weight_drop": 0.3, "learned_state": True},
}
UNFIT = {  # no names of recurrent weights, or no `seen`
    "own": ("recurrent dropout", "weight drop", "all"),
    "simple_recurrent_unit": ("weight drop", "all"),
}
ALL = pytest.mark.parametrize("name", LAYERS)
EACH = pytest.mark.parametrize("option", OPTIONS)
BOTH = pytest.mark.parametrize("bidirectional", (False, True), ids=("one way", "both ways"))
GATED = {"LSTM": 3, "GRU": 2, "reset before": 2, "minimal_gated": 1, "lstm_coupled": 2}


def fits(name, option):
    return option not in UNFIT.get(name, ())


def pairs(of=lambda name, option: True):
    """Every layer with every option that fits it, or those of them that are asked for."""
    found = [(n, o) for n in LAYERS for o in OPTIONS if fits(n, o) and of(n, o)]
    return pytest.mark.parametrize(("name", "option"), found)


def dressed(run, option):
    """The layer with an option, in training, and something learned in its first state."""
    other = run.with_options(**OPTIONS[option])
    learned = {
        n: run.rng.standard_normal(p.shape)
        for n, p in other.layer.named_parameters()
        if n in ("h_0", "c_0")
    }
    other.layer.load_state_dict(run.layer.state_dict() | learned)
    return other


def law(share=0.3, **fixed):
    """Check a body on drawn layers, each with one of the options."""

    @st.composite
    def drawn(draw):
        run = draw(runs(**fixed))
        name = next(n for n, row in LAYERS.items() if row is run.row)
        return dressed(run, draw(st.sampled_from([o for o in OPTIONS if fits(name, o)])))

    return lambda body: settings(max_examples=max(10, int(EXAMPLES * share)))(given(drawn())(body))


def call(run, x=None, state=None, lengths=None, reset=None, seed=7, **shown):
    """As `run(...)`, time-major, with the same draws in every call; the states that are shown are
    a list."""
    run.layer.rng = np.random.default_rng(seed)
    turned = run.layer.batch_first
    x = run.x if x is None else x
    x = x if isinstance(x, tg.Tensor) else tg.Tensor(x)
    state = None if state is None else packed([s if isinstance(s, tg.Tensor) else tg.Tensor(s)
                                               for s in state])  # fmt: skip
    reset = reset.T if turned and reset is not None else reset
    output, last, *more = run.layer(
        tg.swapaxes(x, 0, 1) if turned else x, state, lengths, reset=reset, **shown
    )
    output = tg.swapaxes(output, 0, 1) if turned else output
    return output, parts(last), *(parts(m) if isinstance(m, tuple) else [m] for m in more)


def scans_of(run, **options):
    """What each layer and direction is given: its inputs' masks, rows and weights, as arrays."""
    found = []

    def recorded(step, xs, state, params, **given):
        masks = xs[1:] if isinstance(xs, tuple) else ()
        found.append([[np.asarray(v) for v in group] for group in (masks, given["each"], params)])
        return scan(step, xs, state, params, **given)

    before = SCAN.set(recorded)
    try:
        call(run, **options)
    finally:
        SCAN.reset(before)
    return found


def hidden(layer, params, m):
    """The weights of one sequence, whose products see m·h: their columns times m."""
    names = layer._names[0]
    return [
        w * np.resize(m, w.shape[-1]) if n.startswith(("weight_hh", "weight_mh", "vector")) else w
        for n, w in zip(names, params, strict=True)
    ]


def defined(run, scans, state, lengths, reset):
    """The definition, one sequence, step and layer at a time: the output, last and all states."""
    (steps, batch, _), layer = run.x.shape, run.layer
    lengths = [steps] * batch if lengths is None else lengths
    reset = np.zeros((steps, batch), bool) if reset is None else reset
    learned = [np.asarray(getattr(layer, n)) for n in run.row.states] if layer.learned_state else []
    inputs, ends, shown = run.x, [], []
    for _ in range(layer.num_layers):
        columns = []
        for reverse in (False, True)[: 1 + layer.bidirectional]:
            kept, each, params = scans[len(ends)]
            j, n = len(ends), sum(layer.state_sizes)
            output = np.zeros((steps, batch, layer.output_size), run.x.dtype)
            states = np.zeros((steps, batch, n), run.x.dtype)
            last = [s[j].copy() for s in state]
            for b, length in enumerate(lengths):
                # where a sequence begins, in the order in which it is read
                times = list(range(length))
                begins = {t for t in times if reset[t, b]}
                if reverse:
                    times = times[::-1]
                    begins = {t - 1 for t in begins if t}
                fresh = [v[j][None] for v in learned] or [0 * s[:1] for s in last]
                now = [s[b : b + 1] for s in last]
                weights = hidden(layer, params, each[-1][b]) if each else params
                for t in times:
                    now = fresh if t in begins else now
                    y, new = run.row.equations(inputs[t, b : b + 1], packed(now), *weights)
                    new = parts(new)
                    if kept:
                        pairs = zip(kept, now, new, strict=False)
                        new = [a[t, b] * s + (1 - a[t, b]) * v for a, s, v in pairs]
                        y = new[0] if run.row.shown else y
                    now = new
                    output[t, b], states[t, b] = y[0], np.concatenate(now, -1)[0]
                for whole, part in zip(last, now, strict=True):
                    whole[b] = part[0]
            columns.append(output)
            ends.append(last)
            shown.append(np.split(states, np.cumsum(layer.state_sizes)[:-1], -1))
        inputs = np.concatenate(columns, -1)
    ends, shown = (zip(*group, strict=True) for group in (ends, shown))
    return inputs, [np.stack(r) for r in ends], [np.stack(r, 1) for r in shown]


def drawn_resets(run, share=0.4):
    return run.rng.random(run.x.shape[:2]) < share


def drawn_lengths(run):
    steps, batch = run.x.shape[:2]
    return run.rng.choice([0, steps, *range(steps + 1)], batch)


# What it computes


@law(1.0)
def test_layer_computes_its_equations_with_every_option(run):
    given = {"lengths": drawn_lengths(run), "reset": drawn_resets(run)}
    given = {n: v for n, v in given.items() if run.rng.random() < 0.6}
    run.layer.train(run.rng.random() < 0.7)
    if run.rng.random() < 0.5:
        given["state"] = run.state
    output, last, states = call(run, return_states=True, **given)
    zeros = [np.zeros_like(s) for s in run.state]
    if run.layer.learned_state:
        zeros = [
            np.broadcast_to(np.asarray(getattr(run.layer, n))[:, None], s.shape).copy()
            for n, s in zip(run.row.states, run.state, strict=True)
        ]
    rest = given.get("lengths"), given.get("reset")
    expected = defined(run, scans_of(run, **given), given.get("state", zeros), *rest)
    run.same([output, last, states], expected)
    if "lengths" not in given:
        run.informative(output)


@law(0.5)
def test_gradients_are_those_of_the_definition(run):
    given = {"lengths": drawn_lengths(run), "reset": drawn_resets(run)}
    shown = {"return_states": True, "return_gates": True}

    def gradients(run, factors=None):
        leaves = [tg.Tensor(a, requires_grad=True) for a in (run.x, *run.state)]
        groups = call(run, leaves[0], leaves[1:], **given, **shown)
        results = [groups[0], *(v for g in groups[1:] for v in g)]
        factors = run.factors(results) if factors is None else factors
        leaves += [p for n, p in run.layer.named_parameters() if n not in ("h_0", "c_0")]
        return factors, results, tg.grad(results, leaves, factors)

    factors, results, found = gradients(run)
    with tg.definitions():
        _, expected, others = gradients(run, factors)
        _, nudged, moved = gradients(run.nudged(), factors)
    run.same(results, expected, nudged)
    run.same(found, others, moved, rtol=1e-3 if run.x.dtype == np.float32 else 1e-10, atol=2e-5)


@pairs(lambda name, option: option in ("none", "all") or name in ("LSTM", "GRU", *UNFIT))
def test_derivatives_agree_with_differences(name, option, rng):
    run = dressed(made(name, (2, 3, 1), steps=4, batch=2, bidirectional=True), option)
    names = [n for n, _ in run.layer.named_parameters()]
    reset = np.array([[0, 0], [0, 1], [0, 0], [1, 0]], bool)

    def results(x, *weights):
        for n, w in zip(names, weights, strict=True):
            setattr(run.layer, n, w)
        groups = call(run, x, lengths=[4, 3], reset=reset, return_states=True, return_gates=True)
        return groups[0], *(v for g in groups[1:] for v in g)

    weights = [v.numpy() for v in run.layer.parameters()]
    order = 2 if option == "all" or name == "own" else 1
    report = tg.testing.gradcheck(results, [run.x, *weights], rng=rng, order=order)
    assert report and report.analytic != 0


@law(bidirectional=st.just(False))
def test_streaming_in_evaluation_is_one_long_run(run):
    run.layer.eval()
    k, reset = run.rng.integers(len(run.x) + 1), drawn_resets(run)
    first, state = call(run, run.x[:k], run.state, reset=reset[:k])
    second, state = call(run, run.x[k:], state, reset=reset[k:])
    output, last = call(run, state=run.state, reset=reset)
    identical(np.concatenate([first.numpy(), second.numpy()]), output)
    identical(state, last)


@law()
def test_sequences_of_a_batch_do_not_touch_each_other(run):
    b, reset = run.rng.integers(run.x.shape[1]), drawn_resets(run, 0.2)
    reset[:, b] = False
    x, state = run.x.copy(), [s.copy() for s in run.state]
    for a in (x, *state):
        a[:, b] = np.nan
    results = zip(flat(call(run, state=run.state, reset=reset)),
                  flat(call(run, x, state, reset=reset)), strict=True)  # fmt: skip
    for kept, poisoned in results:
        identical(np.delete(kept, b, 1), np.delete(poisoned, b, 1))
        assert np.isnan(poisoned[:, b]).all()


@law()
def test_beyond_a_length_nothing_matters(run):
    lengths, reset, x = drawn_lengths(run), drawn_resets(run), run.x.copy()
    other = reset.copy()
    for b, n in enumerate(lengths):
        x[n:, b] = run.rng.choice([np.nan, np.inf, 1e30])
        other[n:, b] = ~reset[n:, b]
    shown = {"lengths": lengths, "return_states": True, "return_gates": True}
    found = call(run, x, reset=other, **shown)
    identical(found, call(run, reset=reset, **shown))
    for b, n in enumerate(lengths):
        assert not any(v.numpy()[n:, ..., b, :].any() for v in (found[0], *found[2], *found[3]))


@law(0.2)
def test_batch_first_is_transposed(run):
    options = ("recurrent_dropout", "zoneout", "weight_drop", "learned_state")
    same = {n: getattr(run.layer, n) for n in options}
    other = run.with_options(batch_first=not run.layer.batch_first, **same)
    other.layer.load_state_dict(run.layer.state_dict())
    given = {"reset": drawn_resets(run), "return_states": True, "return_gates": True}
    identical(call(other, **given), call(run, **given))


@law(0.2)
def test_sequence_without_a_batch_axis_is_a_batch_of_one(run):
    run.layer.eval()
    reset, layer = drawn_resets(run)[:, :1], run.layer
    shown = {"return_states": True, "return_gates": True}
    found = layer(tg.Tensor(run.x[:, 0]), reset=reset[:, 0], **shown)
    expected = flat(call(run, run.x[:, :1], reset=reset, **shown))
    for f, e in zip(flat(found), expected, strict=True):
        identical(f, e.squeeze(-2))


@pairs()
@pytest.mark.parametrize("way", (copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v))))
def test_copies_and_loaded_layers_compute_the_same(name, option, way):
    run = dressed(made(name, bidirectional=True), option)
    expected = call(run)
    identical(call(run._replace(layer=way(run.layer))), expected)
    other = run.with_options(bidirectional=True, **OPTIONS[option])
    other.layer.load_state_dict(run.layer.state_dict())
    identical(call(other), expected)


# What is dropped


@ALL
def test_recurrent_dropout_hides_the_same_units_at_all_steps_of_a_sequence(name):
    if name == "own":
        return
    run = made(name, (2, 50, 2), batch=40, bidirectional=True, recurrent_dropout=0.3)
    first, again = scans_of(run), scans_of(run, seed=8)
    masks = [each[0] for _, each, _ in first]
    for m in masks:
        assert m.shape == (40, 50) and set(np.unique(m)) == {0, 1 / 0.7}
        assert abs((m == 0).mean() - 0.3) < 0.04 and len(np.unique(m, axis=0)) == 40
    assert len({m.tobytes() for m in masks}) == 4
    assert not any(np.array_equal(m, e[0]) for m, (_, e, _) in zip(masks, again, strict=True))
    run.layer.eval()
    assert not any(each or kept for kept, each, _ in scans_of(run))


@pytest.mark.parametrize("share", (0.1, 0.25, (0.0, 0.5)))
def test_zoneout_keeps_its_share_of_units_anew_at_every_step(share):
    run = made("LSTM", (2, 40, 2), steps=30, batch=20, zoneout=share)
    shares = share if isinstance(share, tuple) else (share, share)
    for kept, _, _ in scans_of(run):
        for p, k in zip(shares, kept, strict=True):
            assert k.shape == (30, 20, 40 if p else 1)
            assert set(np.unique(k)) == ({0, 1} if p else {0})
            assert abs(k.mean() - p) < 0.02
            assert not p or (k[0] != k[1]).any()
    run.layer.eval()
    for kept, _, _ in scans_of(run):
        assert all((k == p).all() for p, k in zip(shares, kept, strict=True))


def test_zoneout_leaves_units_exactly_as_they_were():
    run = made("GRU", (2, 30, 1), steps=9, dtype="float32", zoneout=0.5)
    *_, (states,) = call(run, return_states=True)
    ((kept,), _, _) = scans_of(run)[0]
    before = np.concatenate([np.zeros_like(states.numpy()[:1, 0]), states.numpy()[:-1, 0]])
    identical(states.numpy()[:, 0][kept == 1], before[kept == 1])
    assert (states.numpy()[:, 0][kept == 0] != before[kept == 0]).all()


@ALL
def test_weight_drop_drops_parts_of_recurrent_weights_in_training(name):
    if name in ("own", "simple_recurrent_unit"):
        return
    run = made(name, (30, 30, 2), weight_drop=0.4)
    dropped = 0
    for k, (_, _, params) in enumerate(scans_of(run)):
        pairs = zip(run.layer._names[k], run.layer.weights(k), params, strict=True)
        for n, whole, part in pairs:
            if not n.startswith(("weight_hh", "weight_mh", "weight_mg")):
                identical(part, whole)
                continue
            dropped += 1
            zero = part == 0
            np.testing.assert_allclose(part, np.where(zero, 0, whole.numpy() / 0.6), rtol=1e-15)
            assert abs(zero.mean() - 0.4) < (0.3 if whole.ndim == 1 else 0.06)
    assert dropped >= 2
    run.layer.eval()
    for k, (_, _, params) in enumerate(scans_of(run)):
        identical(params, run.layer.weights(k))


def test_weight_drop_is_the_layer_of_its_dropped_weights_and_its_gradient_is_masked():
    run = made("LSTM", (3, 5, 1), weight_drop=0.5)
    ((_, _, params),) = scans_of(run)
    plain = run.with_options()
    plain.layer.load_state_dict(dict(zip(run.layer._names[0], params, strict=True)))
    identical(call(run), call(plain))
    (d,) = tg.grad(call(run)[0].sum(), run.layer.weight_hh_l0)
    (whole,) = tg.grad(call(plain)[0].sum(), plain.layer.weight_hh_l0)
    np.testing.assert_allclose(d.numpy(), 2 * whole.numpy() * (params[1] != 0), rtol=1e-12)
    assert d.numpy().any()


@BOTH
def test_locked_dropout_drops_the_same_features_at_every_step_between_layers(bidirectional):
    run = made("GRU", (3, 20, 2), steps=6, bidirectional=bidirectional, dropout=0.5,
               locked_dropout=True)  # fmt: skip
    seen = []

    def recorded(step, xs, *rest, **given):
        seen.append(np.asarray(xs))
        return scan(step, xs, *rest, **given)

    before = SCAN.set(recorded)
    try:
        output, _ = call(run, state=run.state)
    finally:
        SCAN.reset(before)
    count = 1 + bidirectional
    first = run.with_options(num_layers=1)
    first.layer.load_state_dict({n: a for n, a in run.layer.state_dict().items() if "l0" in n})
    below, _ = call(first, state=[s[:count] for s in run.state])
    expected = nn.LockedDropout(0.5, rng=np.random.default_rng(7))(below)
    identical(seen[count], expected)
    gone = (seen[count] == 0).all(0)
    assert 0.2 < gone.mean() < 0.8 and ((seen[count] == 0) == gone).all()
    identical(call(run, state=run.state)[0], output)


def test_one_generator_draws_the_same_in_either_dtype():
    masks = []
    for dtype in ("float32", "float64"):
        run = made("LSTM", dtype=dtype, zoneout=0.3, recurrent_dropout=0.5)
        masks.append([a for kept, each, _ in scans_of(run) for a in (*kept, each[0] > 0)])
    identical([m.astype("float32") for m in masks[0]], [m.astype("float32") for m in masks[1]])


# A learned first state


@ALL
@BOTH
def test_learned_state_is_a_parameter_that_all_sequences_begin_with(name, bidirectional):
    run = dressed(made(name, (3, 4, 2), batch=3, bidirectional=bidirectional), "learned state")
    layer, names = run.layer, run.row.states
    rows = 2 * (1 + bidirectional)
    assert [layer.state_dict()[n].shape for n in names] == [(rows, n) for n in layer.state_sizes]
    learned = [getattr(layer, n) for n in names]
    output, _ = call(run)
    states = [
        tg.Tensor(np.broadcast_to(p.numpy()[:, None], s.shape), requires_grad=True)
        for p, s in zip(learned, run.state, strict=True)
    ]
    same, _ = call(run, state=states)
    identical(output, same)
    found = tg.grad((output**2).sum(), learned)
    expected = tg.grad((same**2).sum(), states)
    run.same(found, [d.numpy().sum(1) for d in expected], rtol=1e-10, atol=1e-12)
    run.informative(*found)
    assert tg.grad(call(run, state=run.state)[0].sum(), learned, allow_unused=True) == (
        (None,) * len(names)
    )
    identical(call(run, run.x[:0])[1], [np.asarray(s) for s in states])
    assert all((p.numpy() == 0).all() for n, p in run.with_options(learned_state=True)
               .layer.named_parameters() if n in names)  # fmt: skip


def test_learned_states_of_many_parts_have_names():
    def step(x, state):
        a, b, c = state
        return a + b * c + x, (b + x, c, tg.tanh(a))

    layer = nn.Recurrent(step, 2, 2, lambda i, h: {}, states=3, learned_state=True)
    assert list(layer.state_dict()) == ["h_0", "c_0", "state_2"]


# Where sequences begin


@law(0.5)
def test_packed_documents_are_documents_alone(run):
    """Both ways, and with every option: a reset begins anew, whatever comes before or after."""
    run.layer.eval()
    steps = len(run.x)
    cut = int(run.rng.integers(1, steps)) if steps > 1 else 1
    reset = np.zeros(run.x.shape[:2], bool)
    reset[0], reset[cut:][:1] = True, True
    output, _ = call(run, reset=reset)
    alone = [call(run, x)[0].numpy() for x in (run.x[:cut], run.x[cut:])]
    run.same(output, np.concatenate(alone))


@ALL
def test_a_reset_cuts_gradients_both_ways(name):
    run = made(name, (3, 4, 2), steps=6, bidirectional=True)
    reset = np.zeros((6, 2), bool)
    reset[3] = True
    x = tg.Tensor(run.x, requires_grad=True)
    output, _ = call(run, x, reset=reset)
    (d,) = tg.grad(output[2].sum(), x, retain_graph=True)
    assert not d.numpy()[3:].any()
    run.informative(d.numpy()[:3])
    (d,) = tg.grad(output[3].sum(), x)
    assert not d.numpy()[:3].any()
    run.informative(d.numpy()[3:])


def test_given_state_begins_both_directions_where_nothing_is_reset():
    run = made("LSTM", (3, 4, 1), steps=5, bidirectional=True)
    reset = np.zeros((5, 2), bool)
    reset[3, 1] = True
    found = call(run, state=run.state, lengths=[5, 3], reset=reset)
    identical(found, call(run, state=run.state, lengths=[5, 3]))
    reset[0, 0] = True  # the given state of the forward direction is not used
    other = [s.copy() for s in run.state]
    for s in other:
        s[0, 0] = 9.0
    identical(call(run, state=run.state, reset=reset)[0], call(run, state=other, reset=reset)[0])


@ALL
@pytest.mark.parametrize("batch_first", (False, True))
def test_reset_of_another_shape_is_refused(name, batch_first):
    layer = made(name, batch_first=batch_first).layer
    x = tg.zeros(5, 2, 3, dtype="float64")
    axes = r"\(B, T\)" if batch_first else r"\(T, B\)"
    for shape in ((2, 5), (5,), (5, 2, 1)):
        message = rf"^{LAYERS[name].called}: expected reset of shape {axes}, \(5, 2\), got "
        with pytest.raises(ValueError, match=message + re.escape(str(shape)) + "; it is true at"):
            layer(x, reset=np.zeros(shape, bool))
    with pytest.raises(ValueError, match=r"expected reset of shape \(T,\), \(5,\), got \(2,\);"):
        layer(x[:, 0], reset=[True, False])


# What is shown


@law(bidirectional=st.just(False))
def test_states_are_what_a_run_goes_on_from(run):
    run.layer.eval()
    t = run.rng.integers(len(run.x))
    output, last, states = call(run, state=run.state, return_states=True)
    identical([s[-1] for s in states], last)
    rest, end = call(run, run.x[t + 1 :], [s[t] for s in states])
    identical(rest, output[t + 1 :])
    identical(end, last)


@law()
def test_showing_changes_nothing(run):
    expected = call(run, state=run.state)
    for shown in ({"return_states": True}, {"return_gates": True}):
        identical(call(run, state=run.state, **shown)[:2], expected)
    both = call(run, state=run.state, return_states=True, return_gates=True)
    states, gates = (
        call(run, state=run.state, **{n: True})[2] for n in ("return_states", "return_gates")
    )
    identical(both, [*expected, states, gates])


@pytest.mark.parametrize("name", GATED)
@BOTH
def test_gates_are_those_of_the_equations(name, bidirectional):
    run = made(name, (3, 4, 2), bidirectional=bidirectional)
    rows = 2 * (1 + bidirectional)
    *_, gates = call(run, state=run.state, return_gates=True)
    assert [g.shape for g in gates] == [(5, rows, 2, 4)] * GATED[name]
    h, *_ = rowwise(run.state)
    h = h[0] if isinstance(h, tuple) else h
    w_ih, w_hh, *biases = (w.numpy() for w in run.layer.weights(0))
    a = run.x[0] @ w_ih.T + h @ w_hh.T + sum(biases)
    names = {"LSTM": (1, 0, 3), "lstm_coupled": (0, 2)}.get(name, range(GATED[name]))
    for gate, k in zip(gates, names, strict=True):
        run.same(gate[0, 0], sigmoid(a[:, 4 * k : 4 * k + 4]))


def test_the_cell_state_is_gated_by_what_is_shown():
    run = made("LSTM", (3, 4, 1), steps=9)
    output, _, states, gates = call(run, return_states=True, return_gates=True)
    (h, c), (f, i, o) = ([v.numpy()[:, 0] for v in group] for group in (states, gates))
    run.same(h, o * np.tanh(c))
    run.same(output, h)
    new = (c[1:] - f[1:] * c[:-1]) / i[1:]  # tanh(g)
    assert (abs(new) < 1).all() and new.any()


def test_layer_without_gates_shows_none():
    run = made("RNN")
    assert call(run, return_gates=True)[2] == []
    assert [g.shape for g in call(made("RNN"), return_states=True)[2]] == [(5, 2, 2, 4)]


def test_gates_of_other_widths_than_units_come_as_one():
    def step(x, h, w):
        h = tg.sigmoid(tg.sum(x, -1, keepdims=True)) * tg.tanh(tg.linear(x, w) + h)
        return h, h

    layer = nn.Recurrent(tg.cell(step), 3, 4, lambda i, h: {"w": (h, i)})
    output, _, gates = layer(tg.ones(5, 2, 3), return_gates=True)
    assert output.shape == (5, 2, 4) and [g.shape for g in gates] == [(5, 1, 2, 1)]


@EACH
def test_no_steps_show_no_states(option):
    run = dressed(made("LSTM", steps=0), option)
    shown = {"return_states": True, "return_gates": True, "reset": np.zeros((0, 2), bool)}
    output, last, states, gates = call(run, state=run.state, **shown)
    identical(last, run.state)
    assert output.shape == (0, 2, 4) and {v.shape for v in (*states, *gates)} == {(0, 2, 2, 4)}


# Wrong options


@ALL
@pytest.mark.parametrize("share", ("recurrent_dropout", "zoneout", "weight_drop"))
@pytest.mark.parametrize("p", (1.0, -0.1, float("nan")))
def test_share_outside_its_range_is_refused(name, share, p):
    message = rf"^{LAYERS[name].called}: expected {share} in \[0, 1\), got {p};"
    with pytest.raises(ValueError, match=message):
        made(name, **{share: p})


@pytest.mark.parametrize("share", ((0.1,), (0.1, 0.2, 0.3)))
def test_zoneout_of_another_number_of_parts_is_refused(share):
    message = r"^LSTM: expected zoneout as one share, or one for each part of the state, 2, got \("
    with pytest.raises(ValueError, match=message):
        nn.LSTM(3, 4, zoneout=share)


def test_options_that_would_do_nothing_are_refused():
    with pytest.raises(ValueError, match=r"^Recurrent\(own\): expected a step that asks what"):
        make_own(3, 4, 1, recurrent_dropout=0.5)
    got = r"whose names begin with weight_hh, weight_mh, weight_mg, got weight_l0, bias_l0; leave "
    with pytest.raises(ValueError, match=r"^Recurrent\(own\): expected parameters .*" + got):
        make_own(3, 4, 1, weight_drop=0.5)


@pytest.mark.parametrize("name", ("RNN", "LSTM", "GRU"))
@pytest.mark.parametrize("option", ("zonout", "states", "shapes", "step"))
def test_unknown_options_are_named(name, option):
    message = rf"^{name}: expected options num_layers, .* dtype and rng, got {option}"
    with pytest.raises(TypeError, match=message):
        getattr(nn, name)(3, 4, **{option: 0.5})


@pytest.mark.parametrize("name", ("GRU", "LSTM"))
def test_shares_may_be_changed_later(name):
    for option, share in (("zoneout", 0.5), ("recurrent_dropout", 0.5), ("weight_drop", 0.5)):
        at_once, later = made(name, **{option: share}), made(name)
        setattr(later.layer, option, share)
        before = at_once()
        at_once.layer.rng, later.layer.rng = (np.random.default_rng(7) for _ in range(2))
        identical(at_once(), later())
        assert (at_once()[0].numpy() != before[0].numpy()).any()
        assert repr(at_once.layer) == repr(later.layer)


def test_cell_of_ones_own_asks_what_it_may_see():
    @tg.cell
    def leaky(x, h, w, u):
        h = 0.9 * h + 0.1 * tg.tanh(tg.linear(x, w) + tg.linear(cells.seen(h), u))
        return h, h

    shapes = {"w": (4, 3), "u": (4, 4)}
    layer = nn.Recurrent(leaky, 3, 4, lambda i, h: shapes, recurrent_dropout=0.5, dtype="float64")
    layer.rng = np.random.default_rng(1)
    x, (w, u) = np.random.default_rng(0).standard_normal((5, 2, 3)), layer.weights(0)
    output, _ = layer(tg.Tensor(x))
    m = nn.dropout(np.ones((2, 4)), 0.5, rng=np.random.default_rng(1))
    h = np.zeros((2, 4))
    for t in range(5):
        h = 0.9 * h + 0.1 * np.tanh(x[t] @ w.numpy().T + (np.asarray(m) * h) @ u.numpy().T)
        np.testing.assert_allclose(output.numpy()[t], h, rtol=1e-12)


def test_options_are_shown():
    layer = nn.LSTM(3, 5, 2, dropout=0.5, locked_dropout=True, zoneout=(0.1, 0.5),
                    learned_state=True)  # fmt: skip
    assert repr(layer) == (
        "LSTM(3, 5, num_layers=2, dropout=0.5, locked_dropout=True, zoneout=(0.1, 0.5), "
        "learned_state=True)"
    )
    layer = nn.GRU(3, 5, recurrent_dropout=0.25, weight_drop=0.5)
    assert repr(layer) == "GRU(3, 5, recurrent_dropout=0.25, weight_drop=0.5)"
