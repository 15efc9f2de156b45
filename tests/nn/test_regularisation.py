"""What is dropped for a whole sequence, and penalties on activations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.testing import gradcheck

SEEDS = st.integers(0, 2**32 - 1)
SHARES = st.sampled_from((0.1, 0.5, 0.9))


def generator(seed=0):
    return np.random.default_rng(seed)


# Locked dropout


@given(SHARES, st.booleans(), st.sampled_from(("float32", "float64")), SEEDS)
def test_locked_dropout_drops_the_same_at_every_step(p, batch_first, dtype, seed):
    layer = nn.LockedDropout(p, batch_first=batch_first, rng=generator(seed))
    x = tg.Tensor(generator(seed).standard_normal((5, 3, 4)).astype(dtype), requires_grad=True)
    y = layer(x)
    (d,) = tg.grad(y.sum(), x)
    mask = d.numpy()
    assert set(np.unique(mask)) <= {0, np.dtype(dtype).type(1 / (1 - p))}
    np.testing.assert_array_equal(y.numpy(), x.numpy() * mask, strict=True)
    along = 1 if batch_first else 0
    np.testing.assert_array_equal(mask, np.broadcast_to(mask.take([0], along), mask.shape))


def test_locked_dropout_drops_its_share_anew_for_each_sequence_and_call():
    layer = nn.LockedDropout(0.3, rng=generator())
    first, second = (layer(tg.ones(2, 100, 200)).numpy() for _ in range(2))
    assert abs((first == 0).mean() - 0.3) < 0.01 and abs(first.mean() - 1) < 0.02
    assert (first != second).any() and (first[0, 0] != first[0, 1]).any()


# Embedding and word dropout


@given(SHARES, SEEDS)
def test_embedding_dropout_drops_words_wherever_they_occur(p, seed):
    table = nn.Embedding(6, 3, dtype="float64", rng=generator(seed))
    layer = nn.EmbeddingDropout(table, p, rng=generator(seed))
    ids = generator(seed).integers(0, 6, (7, 4))
    y = layer(tg.Tensor(ids)).numpy()
    ratio = y / table.weight.numpy()[ids]
    assert ((ratio == 0) | (abs(ratio - 1 / (1 - p)) < 1e-12)).all()
    for word in range(6):
        assert len(np.unique(np.round(ratio[ids == word], 9))) <= 1
    assert [n for n, _ in layer.named_parameters()] == ["embedding.weight"]


def test_embedding_dropout_drops_its_share_of_the_words():
    layer = nn.EmbeddingDropout(nn.Embedding(20_000, 2), 0.2, rng=generator())
    y = layer(np.arange(20_000)).numpy()
    assert abs((y == 0).all(-1).mean() - 0.2) < 0.01
    (d,) = tg.grad(layer([0, 1, 1]).sum(), layer.embedding.weight)
    assert d.shape == (20_000, 2) and not d.numpy()[2:].any()


@given(SHARES, SEEDS)
def test_word_dropout_replaces_ids_by_themselves(p, seed):
    ids = generator(seed).integers(1, 6, (3, 50))
    y = nn.WordDropout(p, unknown=0, rng=generator(seed))(ids)
    assert y.shape == ids.shape and y.dtype.kind == "i"
    assert ((y == ids) | (y == 0)).all() and ids.min() > 0


def test_word_dropout_replaces_its_share():
    y = nn.WordDropout(0.25, unknown=7, rng=generator())(np.zeros((200, 500), int))
    assert abs((y == 7).mean() - 0.25) < 0.005


# In common

MODULES = {
    "LockedDropout": (lambda **o: nn.LockedDropout(0.5, **o), tg.ones(3, 2, 50)),
    "EmbeddingDropout": (
        lambda **o: nn.EmbeddingDropout(nn.Embedding(50, 3, rng=generator()), 0.5, **o),
        np.arange(50),
    ),
    "WordDropout": (lambda **o: nn.WordDropout(0.5, 99, **o), np.arange(50)),
}
ALL = pytest.mark.parametrize("name", MODULES)


@ALL
def test_nothing_is_dropped_in_evaluation(name):
    make, x = MODULES[name]
    rng = generator(5)
    before = rng.bit_generator.state
    layer = make(rng=rng).eval()
    expected = layer.embedding(x) if name == "EmbeddingDropout" else x
    np.testing.assert_array_equal(np.asarray(layer(x)), np.asarray(expected))
    assert rng.bit_generator.state == before
    assert (np.asarray(layer.train()(x)) != np.asarray(expected)).any()


@ALL
def test_draws_are_the_generators(name):
    make, x = MODULES[name]
    a, b, c = (np.asarray(make(rng=generator(s))(x)) for s in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()
    assert "p=0.5" in repr(make())
    tg.manual_seed(0)
    first = np.asarray(make()(x))
    tg.manual_seed(0)
    np.testing.assert_array_equal(np.asarray(make()(x)), first)


@pytest.mark.parametrize("p", (-0.1, 1.0, float("nan")))
def test_shares_out_of_range_are_refused(p):
    makes = {
        "LockedDropout": nn.LockedDropout,
        "WordDropout": lambda p: nn.WordDropout(p, 0),
        "EmbeddingDropout": lambda p: nn.EmbeddingDropout(nn.Embedding(2, 2), p),
    }
    for name, make in makes.items():
        with pytest.raises(ValueError, match=rf"^{name}: expected p in \[0, 1\), got {p};"):
            make(p)


def test_inputs_of_another_kind_are_refused():
    with pytest.raises(ValueError, match=r"^LockedDropout: expected x of shape \(T, B, n\), got"):
        nn.LockedDropout(0.5)(tg.ones(3, 2))
    with pytest.raises(TypeError, match=r"^WordDropout: expected integer indices, got float64"):
        nn.WordDropout(0.5, 0)([0.5])


# Penalties


@given(st.integers(1, 5), st.integers(1, 3), st.booleans(), SEEDS)
def test_penalties_are_means_of_squares_within_the_lengths(steps, batch, given_lengths, seed):
    rng = generator(seed)
    h, lengths = rng.standard_normal((steps, batch, 4)), np.full(batch, steps)
    if given_lengths:
        lengths = rng.integers(0, steps + 1, batch)
        h[np.arange(steps)[:, None] >= lengths] = np.nan
    rows = [h[: lengths[b], b] for b in range(batch)]
    squares = np.concatenate([r**2 for r in rows])
    changes = np.concatenate([np.diff(r, axis=0) ** 2 for r in rows])
    given_lengths = lengths if given_lengths else None
    for penalty, expected in [
        (nn.activation_penalty(tg.Tensor(h), 0.5, given_lengths), squares),
        (nn.temporal_activation_penalty(tg.Tensor(h), 0.5, given_lengths), changes),
    ]:
        mean = expected.mean() if expected.size else 0.0
        np.testing.assert_allclose(penalty.item(), 0.5 * mean, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("lengths", (None, [4, 0, 2]))
def test_penalties_have_their_gradients(lengths):
    h = generator().standard_normal((4, 3, 2))
    for penalty in (nn.activation_penalty, nn.temporal_activation_penalty):
        gradcheck(lambda h, f=penalty: f(h, 2.0, lengths), [h], rng=0, order=2)
