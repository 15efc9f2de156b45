"""`scan` is a plain loop: with masks, lengths, resets, directions, and empty of anything."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tg

T, B, N, H = 5, 3, 2, 4


def leaf(*shape, seed=0):
    values = np.random.default_rng((seed, *shape)).standard_normal(shape)
    return tg.Tensor(values, requires_grad=True)


def same(got, expected):
    got, expected = (np.asarray(v) for v in (got, expected))
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


def elman(x, h, w, u, b):
    h = tg.tanh(x @ w + h @ u + b)
    return h, h


def pair(x, state, w, u, b):
    """A step with a state of two widths and an output of a third."""
    x, mask = x
    h, c = state
    new = tg.tanh(x @ w + h @ u + b) * mask
    c = 0.5 * c + new[:, :2]
    return tg.concatenate([new, c], axis=1), (new, c)


def parameters():
    return [leaf(N, H), leaf(H, H), leaf(H)]


def loop(step, xs, state, params, each=(), reverse=False):
    outputs = [None] * len(xs)
    for t in range(len(xs))[:: -1 if reverse else 1]:
        outputs[t], state = step(xs[t], state, *each, *params)
    return tg.stack(outputs), state


def gradients(outputs, state, inputs):
    weights = np.random.default_rng(1).standard_normal(outputs.shape)
    loss = (outputs * weights).sum() + (state * state).sum()
    return tg.grad(loss, inputs, create_graph=True, allow_unused=True)


@pytest.mark.parametrize("reverse", [False, True])
def test_scan_is_a_loop_to_second_order(reverse):
    xs, h, params = leaf(T, B, N), leaf(B, H), parameters()
    inputs = [xs, h, *params]
    results = []
    for run in (tg.scan, loop):
        outputs, state = run(elman, xs, h, params, reverse=reverse)
        first = gradients(outputs, state, inputs)
        second = tg.grad(sum((g * g).sum() for g in first), inputs)
        results.append([outputs, state, *first, *second])
    for got, expected in zip(*results, strict=True):
        assert expected.numpy().any()
        same(got, expected)


def test_scan_of_tuples():
    xs, mask = leaf(T, B, N), tg.Tensor((leaf(T, B, 1).numpy() > 0.0).astype(np.float64))
    state, params = (leaf(B, H), leaf(B, 2)), parameters()
    outputs, last = tg.scan(pair, (xs, mask), state, params)
    assert outputs.shape == (T, B, H + 2) and isinstance(last, tuple)
    expected, after = loop(
        pair, list(zip(tg.unstack(xs), tg.unstack(mask), strict=True)), state, params
    )
    same(outputs, expected)
    for got, want in zip(last, after, strict=True):
        same(got, want)
    inputs = [xs, *state, *params]
    for got, want in zip(
        tg.grad(outputs.sum(), inputs), tg.grad(expected.sum(), inputs), strict=True
    ):
        assert want.numpy().any()
        same(got, want)


def test_each_is_given_to_every_step():
    xs, h, row, params = leaf(T, B, N), leaf(B, H), leaf(B, H), parameters()

    def step(x, h, row, w, u, b):
        return elman(x, h * row, w, u, b)

    outputs, last = tg.scan(step, xs, h, params, each=(row,))
    expected, after = loop(step, xs, h, params, each=(row,))
    same(outputs, expected)
    same(last, after)
    same(tg.grad(outputs.sum(), row)[0], tg.grad(expected.sum(), row)[0])


def test_one_tuple_is_given_as_a_tuple():
    outputs, _ = tg.scan(lambda x, h: (x[0] + h, h), (tg.ones(T, B, 1),), tg.zeros(B, 1))
    same(outputs, np.ones((T, B, 1)))


def test_scan_follows_arrays_too():
    xs, h, params = leaf(T, B, N).numpy(), leaf(B, H).numpy(), [p.numpy() for p in parameters()]

    def plain(x, h, w, u, b):
        h = np.tanh(x @ w + h @ u + b)
        return h, h

    outputs, last = tg.scan(plain, xs, h, params)
    expected, after = tg.scan(elman, tg.Tensor(xs), tg.Tensor(h), params)
    same(outputs, expected)
    same(last, after)


def test_initial_state_and_its_gradient():
    h = leaf(B, H)
    outputs, last = tg.scan(lambda x, h: (h * x, h * x), tg.Tensor(np.full((3, B, 1), 2.0)), h)
    same(last, 8.0 * h.numpy())
    same(tg.grad(outputs.sum(), h)[0], np.full((B, H), 14.0))


@given(data=st.data())
def test_streaming(data):
    xs, h, params = leaf(T, B, N), leaf(B, H), parameters()
    cut = data.draw(st.integers(0, T))
    reverse = data.draw(st.booleans())
    whole, end = tg.scan(elman, xs, h, params, reverse=reverse)
    early, late = xs[:cut], xs[cut:]
    parts = (late, early) if reverse else (early, late)
    outputs, state = [], h
    for part in parts:
        some, state = tg.scan(elman, part, state, params, reverse=reverse)
        outputs.append(some)
    joined = tg.concatenate(outputs[::-1] if reverse else outputs)
    assert joined.numpy().tobytes() == whole.numpy().tobytes()
    assert state.numpy().tobytes() == end.numpy().tobytes()


@pytest.mark.parametrize("reverse", [False, True])
def test_causality(reverse):
    xs, h, params = leaf(T, B, N), leaf(B, H), parameters()
    outputs, _ = tg.scan(elman, xs, h, params, reverse=reverse)
    for t in range(T):
        (g,) = tg.grad(outputs[t].sum(), xs, retain_graph=True)
        seen = g.numpy().any(axis=(1, 2))
        assert seen.tolist() == [(s >= t if reverse else s <= t) for s in range(T)]


def test_batch_items_are_independent():
    xs, h, params = leaf(T, B, N), leaf(B, H), parameters()
    outputs, _ = tg.scan(elman, xs, h, params)
    gx, gh = tg.grad(outputs[:, 1].sum(), [xs, h])
    for g in (gx.numpy().any(axis=(0, 2)), gh.numpy().any(axis=1)):
        assert g.tolist() == [False, True, False]


# Lengths


@given(
    lengths=st.lists(st.integers(0, T), min_size=B, max_size=B),
    reverse=st.booleans(),
    poison=st.sampled_from([100.0, np.inf, np.nan]),
)
def test_beyond_its_length_a_sequence_ends(lengths, reverse, poison):
    params, h, clean = parameters(), leaf(B, H), leaf(T, B, N)
    inside = np.arange(T)[:, None] < np.array(lengths)
    xs = tg.Tensor(np.where(inside[..., None], clean.numpy(), poison), requires_grad=True)
    outputs, last = tg.scan(elman, xs, h, params, lengths=lengths, reverse=reverse)
    expected, after, cotangents = np.zeros((T, B, H)), h.numpy().copy(), []
    loss = 0.0
    for b, n in enumerate(lengths):
        if n:
            some, state = loop(elman, clean[:n, b : b + 1], h[b : b + 1], params, reverse=reverse)
            expected[:n, b : b + 1], after[b : b + 1] = some.numpy(), state.numpy()
            loss = loss + some.sum() + (state * state).sum()
        else:
            loss = loss + (h[b] * h[b]).sum()
    same(outputs, expected)
    same(last, after)
    got = tg.grad(outputs.sum() + (last * last).sum(), [xs, h, *params], allow_unused=True)
    cotangents = tg.grad(loss, [clean, h, *params], allow_unused=True)
    for g, e in zip(got, cotangents, strict=True):
        if e is not None:
            same(g, e)
        else:
            assert g is None or not g.numpy().any()


def test_lengths_may_be_a_tensor_and_change_nothing_when_full():
    xs, h, params = leaf(T, B, N), leaf(B, H), parameters()
    outputs, last = tg.scan(elman, xs, h, params)
    for lengths in ([T] * B, np.full(B, T, np.uint8), tg.Tensor([T] * B)):
        again, end = tg.scan(elman, xs, h, params, lengths=lengths)
        assert outputs.numpy().tobytes() == again.numpy().tobytes()
        assert last.numpy().tobytes() == end.numpy().tobytes()


def test_lengths_with_states_of_two_parts():
    xs, mask = leaf(T, B, N), tg.Tensor(np.ones((T, B, 1)))
    state, params = (leaf(B, H), leaf(B, 2)), parameters()
    outputs, last = tg.scan(pair, (xs, mask), state, params, lengths=[0, 2, T])
    for got, start in zip(last, state, strict=True):
        same(got.numpy()[0], start.numpy()[0])
    assert not outputs.numpy()[:, 0].any() and not outputs.numpy()[2:, 1].any()
    assert outputs.numpy()[:2, 1].all()


# Resets


@pytest.mark.parametrize("reverse", [False, True])
def test_reset_starts_from_zero(reverse):
    xs, h, params = leaf(T, B, N), leaf(B, H), parameters()
    reset = np.zeros((T, B), bool)
    reset[2, 1] = reset[3, 2] = True
    outputs, last = tg.scan(elman, xs, h, params, reset=reset, reverse=reverse)
    start = h
    expected = [None] * T
    for t in range(T)[:: -1 if reverse else 1]:
        kept = tg.where(reset[t][:, None], 0.0, start)
        expected[t], start = elman(xs[t], kept, *params)
    same(outputs, tg.stack(expected))
    same(last, start)
    (g,) = tg.grad(last.sum(), h)
    assert g.numpy().any(axis=1).tolist() == [True, False, False]


def test_reset_at_the_first_step_ignores_the_state():
    xs, params, reset = leaf(T, B, N), parameters(), np.zeros((T, B), int)
    reset[0] = 1
    outputs, _ = tg.scan(elman, xs, leaf(B, H), params, reset=tg.Tensor(reset))
    expected, _ = tg.scan(elman, xs, tg.Tensor(np.zeros((B, H))), params)
    same(outputs, expected)


def test_reset_of_states_of_two_parts():
    xs, mask = leaf(T, B, N), tg.Tensor(np.ones((T, B, 1)))
    state, params, reset = (leaf(B, H), leaf(B, 2)), parameters(), np.ones((T, B), bool)
    outputs, _ = tg.scan(pair, (xs, mask), state, params, reset=reset)
    zero = (np.zeros((B, H)), np.zeros((B, 2)))
    for t in range(T):
        same(outputs.numpy()[t], pair((xs[t], mask[t]), zero, *params)[0])


# Nothing at all


def test_no_steps_give_the_state_back():
    h, params = leaf(B, H), parameters()
    outputs, last = tg.scan(elman, tg.zeros(0, B, N, dtype=np.float64), h, params)
    assert outputs.shape == (0, B, H) and outputs.dtype == np.float64
    same(last, h)
    same(tg.grad((last * last).sum(), h)[0], 2.0 * h.numpy())
    outputs, last = tg.scan(
        pair, (tg.zeros(0, B, N), tg.zeros(0, B, 1)), (h, leaf(B, 2)), params, lengths=[0] * B
    )
    assert outputs.shape == (0, B, H + 2) and len(last) == 2


def test_no_sequences():
    xs, h, params = leaf(T, 0, N), leaf(0, H), parameters()
    outputs, last = tg.scan(elman, xs, h, params, lengths=np.zeros(0, int))
    assert outputs.shape == (T, 0, H) and last.shape == (0, H)
    gx, gw = tg.grad(outputs.sum(), [xs, params[0]])
    assert gx.shape == xs.shape and not gw.numpy().any()


def test_scan_under_no_grad_and_checkpoint():
    xs, h, params = leaf(T, B, N), leaf(B, H), parameters()
    outputs, _ = tg.scan(elman, xs, h, params)
    with tg.no_grad():
        silent, _ = tg.scan(elman, xs, h, params)
    assert not silent.requires_grad and silent.numpy().tobytes() == outputs.numpy().tobytes()

    def saving(x, h, *params):
        return tg.checkpoint(elman, x, h, *params)

    again, _ = tg.scan(saving, xs, h, params)
    for got, expected in zip(
        tg.grad(again.sum(), [xs, *params]), tg.grad(outputs.sum(), [xs, *params]), strict=True
    ):
        same(got, expected)


def test_step_must_give_output_and_state():
    for steps in (T, 0):
        with pytest.raises(TypeError, match=r"^scan: expected .*\(output, new state\), got Tensor"):
            tg.scan(lambda x, h: h, tg.ones(steps, B, 1), tg.zeros(B, 1))
