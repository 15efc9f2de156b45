"""Attention: its equations, what may be seen, its layouts, gradients and errors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.nn.attention import masked_softmax
from tinygrad_rnn.testing import assert_gradients, gradcheck
from tinygrad_rnn.testing import strategies as ts

Q, K, V, A = 3, 4, 2, 5
FEW = settings(max_examples=max(10, settings().max_examples // 3))


def dot(layer, q, k):
    return layer.scale * (q @ k)


def general(layer, q, k):
    return (layer.query.weight.numpy() @ q) @ k


def additive(layer, q, k):
    units = np.tanh(layer.query.weight.numpy() @ q + layer.key.weight.numpy() @ k)
    return (layer.score.weight.numpy() @ units)[0]


def make_dot(rng, **options):
    return nn.DotAttention(scale=0.7, **options)


def make_general(**options):
    return nn.GeneralAttention(Q, K, dtype="float64", **options)


def make_additive(**options):
    return nn.AdditiveAttention(Q, K, A, dtype="float64", **options)


ROWS = {  # how a layer is made, the width of its keys, and the score of one query and one key
    "DotAttention": (make_dot, Q, dot),
    "GeneralAttention": (make_general, K, general),
    "AdditiveAttention": (make_additive, K, additive),
}
ALL = pytest.mark.parametrize("name", ROWS)


def made(name, seed=0, **options):
    make, width, score = ROWS[name]
    return make(rng=np.random.default_rng(seed), **options), width, score


def drawn(rng, width, queries=3, keys=4, batch=2):
    shapes = (queries, batch, Q), (keys, batch, width), (keys, batch, V)
    return [rng.standard_normal(shape) for shape in shapes]


def by_hand(layer, score, query, keys, values, seen):
    """Loops over queries and sequences; seen (T, B, S)."""
    context = np.zeros((*query.shape[:2], values.shape[-1]))
    weights = np.zeros((*query.shape[:2], len(keys)))
    for t, b in np.ndindex(*query.shape[:2]):
        rows = np.flatnonzero(seen[t, b])
        if rows.size:
            e = np.array([score(layer, query[t, b], keys[s, b]) for s in rows])
            e = np.exp(e - e.max())
            weights[t, b, rows] = e / e.sum()
            context[t, b] = weights[t, b, rows] @ values[rows, b]
    return context, weights


def test_every_attention_has_a_row():
    assert {n for n in nn.__all__ if n.endswith("Attention")} == set(ROWS)


@given(
    st.sampled_from(sorted(ROWS)),
    st.integers(1, 4),
    st.integers(0, 5),
    st.integers(1, 3),
    st.sampled_from(("none", "lengths", "mask", "both", "flat mask")),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
@FEW
def test_equation_masks_and_layouts(name, queries, keys, batch, kind, batch_first, seed):
    rng = np.random.default_rng(seed)
    layer, width, score = made(name, seed, batch_first=batch_first)
    q, k, v = drawn(rng, width, queries, keys, batch)
    seen, options = np.ones((queries, batch, keys), bool), {}
    if kind in ("lengths", "both"):
        options["lengths"] = rng.integers(0, keys + 1, batch)
        seen &= (np.arange(keys) < options["lengths"][:, None])[None]
    if kind in ("mask", "both"):
        mask = rng.random(seen.shape) < 0.6
        seen &= mask
        options["mask"] = mask.swapaxes(0, 1) if batch_first else mask
    if kind == "flat mask":
        options["mask"] = rng.random((batch, keys)) < 0.6
        seen &= options["mask"]
    context, weights = by_hand(layer, score, q, k, v, seen)
    unseen = ~seen.any(0).T  # (S, B): padding, which may be NaN
    k[unseen], v[unseen] = np.nan, np.nan
    turned = [tg.Tensor(a.swapaxes(0, 1) if batch_first else a) for a in (q, k, v)]
    found = layer(*turned, return_weights=True, **options)
    np.testing.assert_array_equal(layer(*turned, **options).numpy(), found[0].numpy())
    found = [a.numpy().swapaxes(0, 1) if batch_first else a.numpy() for a in found]
    np.testing.assert_allclose(found[0], context, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(found[1], weights, rtol=1e-12, atol=1e-13)
    assert not found[1][~seen].any()


@ALL
@pytest.mark.parametrize("batch_first", (False, True))
def test_one_query_is_one_of_many_and_values_are_the_keys(name, batch_first):
    layer, width, _ = made(name, batch_first=batch_first)
    q, k, _ = map(tg.Tensor, drawn(np.random.default_rng(0), width))
    k = tg.swapaxes(k, 0, 1) if batch_first else k
    mask = np.array([[True, False, True, True], [False] * 4])
    one = layer(q[0], k, mask=mask, return_weights=True)
    many = tg.expand_dims(q[0], 1 if batch_first else 0)
    several = layer(many, k, k, mask=mask, return_weights=True)
    assert [a.shape for a in one] == [(2, width), (2, 4)]
    for a, b in zip(one, several, strict=True):
        np.testing.assert_array_equal(a.numpy(), np.squeeze(b.numpy(), 1 if batch_first else 0))
    np.testing.assert_allclose(one[1].numpy().sum(-1), [1, 0], atol=1e-15)


@ALL
def test_order_of_keys_does_not_matter(name):
    layer, width, _ = made(name)
    q, k, v = drawn(np.random.default_rng(0), width)
    order = np.array([2, 0, 3, 1])
    a = layer(*map(tg.Tensor, (q, k, v))).numpy()
    b = layer(*map(tg.Tensor, (q, k[order], v[order]))).numpy()
    np.testing.assert_allclose(a, b, rtol=1e-13)
    assert a.any()


# Gradients


@ALL
@pytest.mark.parametrize("lengths", (None, [4, 2]))
def test_gradients_of_the_inputs(name, lengths):
    layer, width, _ = made(name)
    arrays = drawn(np.random.default_rng(1), width, queries=2)
    gradcheck(lambda q, k, v: layer(q, k, v, lengths, return_weights=True), arrays, rng=0, order=2)


@ALL
def test_padding_of_any_value_leaves_no_trace_in_gradients(name):
    layer, width, _ = made(name)
    rng = np.random.default_rng(0)
    q, k, v = drawn(rng, width)
    g, found = rng.standard_normal((3, 2, V)), []
    for filler in (0.0, np.nan):
        k[2:, 0] = v[2:, 0] = k[:, 1] = v[:, 1] = filler  # the second sequence is all padding
        leaves = [tg.Tensor(a, requires_grad=True) for a in (q, k, v)]
        context = layer(*leaves, lengths=[2, 0])
        leaves += layer.parameters()
        found.append([context.numpy(), *(d.numpy() for d in tg.grad(context, leaves, g))])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.any() and np.isfinite(b).all()
    context, d_query, d_keys, d_values = found[1][:4]
    assert not context[:, 1].any() and not d_query[:, 1].any()
    assert not d_keys[2:, 0].any() and not d_values[:, 1].any()


def test_masked_softmax_has_the_gradients_of_what_it_shows():
    rng = np.random.default_rng(0)

    def masked(x):
        mask = np.random.default_rng(3).random(x.shape) < 0.5
        return masked_softmax(x, mask)

    assert_gradients(masked, ts.reals("a b"), max_examples=20, rng=rng)


@given(
    st.integers(0, 4),
    st.integers(0, 5),
    st.sampled_from(("float32", "float64")),
    st.integers(0, 99),
)
def test_masked_softmax_is_softmax_of_the_rest(rows, columns, dtype, seed):
    rng = np.random.default_rng(seed)
    x, mask = 50 * rng.standard_normal((rows, columns)), rng.random((rows, columns)) < 0.5
    found = masked_softmax(tg.Tensor(x.astype(dtype)), mask).numpy()
    assert found.dtype == np.dtype(dtype) and not found[~mask].any()
    for row, kept, e in zip(x.astype(dtype), mask, found, strict=True):
        if kept.any():
            rest = tg.softmax(tg.Tensor(row[kept])).numpy()
            np.testing.assert_allclose(e[kept], rest, rtol=1e-6, atol=0)


def test_masked_softmax_keeps_a_nan_that_is_seen_and_refuses_other_masks():
    x = tg.Tensor([[1.0, np.nan], [1.0, np.nan]])
    found = masked_softmax(x, [[True, True], [True, False]]).numpy()
    assert np.isnan(found[0]).all() and found[1].tolist() == [1, 0]
    with pytest.raises(TypeError, match=r"^masked_softmax: expected a mask of bool, .* got int64"):
        masked_softmax(x, [[1, 1], [1, 0]])


# Errors


@ALL
@pytest.mark.parametrize("batch_first", (False, True))
@pytest.mark.parametrize(
    "shapes",
    [
        ((5, 2, Q), (4, 3, 0), (4, 3, V)),  # two batches
        ((5, 2, Q), (4, 2, 0), (3, 2, V)),  # two numbers of keys
        ((3, Q), (4, 2, 0), (4, 2, V)),
        ((Q,), (4, 2, 0), (4, 2, V)),
        ((5, 2, Q), (4, 0), (4, V)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(name, batch_first, shapes):
    layer, width, _ = made(name, batch_first=batch_first)
    sizes = [tuple(width if n == 0 else n for n in s) for s in shapes]
    if batch_first:
        sizes = [(s[1], s[0], s[2]) if len(s) == 3 else s for s in sizes]
    axes = r"\(B, T, Q\), keys \(B, S, K\)" if batch_first else r"\(T, B, Q\), keys \(S, B, K\)"
    message = rf"^{name}: expected a query \(B, Q\) or {axes} .* batch_first={not batch_first}"
    with pytest.raises(ValueError, match=message):
        layer(*(tg.zeros(*s, dtype="float64") for s in sizes))


@ALL
@pytest.mark.parametrize(
    "mask", (np.ones((2, 4)), np.ones((4, 2), bool), np.ones((3, 4, 2), bool), np.ones(4, bool))
)
def test_masks_that_do_not_fit_are_refused(name, mask):
    layer, width, _ = made(name)
    arrays = map(tg.Tensor, drawn(np.random.default_rng(0), width))
    message = rf"^{name}: expected a mask of bool, .* \(B, S\) or \(3, 2, 4\), got {mask.dtype} of"
    with pytest.raises(ValueError, match=message):
        layer(*arrays, mask=mask)


def test_lengths_and_widths_that_do_not_fit_are_refused():
    q, k, v = map(tg.Tensor, drawn(np.random.default_rng(0), Q))
    with pytest.raises(ValueError, match=r"expected lengths as integers \(B,\) in 0\.\.T=4"):
        nn.DotAttention()(q, k, v, lengths=[5, 1])
    message = r"^DotAttention: expected a query and keys of one width, got 3 and 2; use General"
    with pytest.raises(ValueError, match=message):
        nn.DotAttention()(q, v)
    with pytest.raises(ValueError, match=r"^linear: expected x"):
        nn.GeneralAttention(5, 3, dtype="float64")(q, k)
    assert repr(nn.DotAttention(batch_first=True)) == "DotAttention(batch_first=True)"
