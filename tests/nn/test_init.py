"""Initial weights: their bounds, their spread, and whose draws they are."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn.nn import init

SEEDS = st.integers(0, 2**32 - 1)


@given(st.integers(1, 10_000), st.sampled_from(("float32", "float64")), SEEDS)
def test_uniform_draws_stay_within_one_over_the_root_of_the_fan(fan, dtype, seed):
    p = init.uniform(50, 4, fan=fan, rng=np.random.default_rng(seed), dtype=dtype)
    bound = np.dtype(dtype).type(1 / math.sqrt(fan))
    assert p.shape == (50, 4) and p.dtype == np.dtype(dtype) and p.requires_grad
    assert isinstance(p, tg.nn.Parameter)
    assert bound / 2 < np.abs(p.numpy()).max() <= bound


def test_uniform_draws_fill_their_interval_evenly():
    values = init.uniform(100_000, fan=1, rng=np.random.default_rng(0)).numpy()
    counts, _ = np.histogram(values, 10, (-1, 1))
    assert np.abs(counts - 10_000).max() < 500


def test_uniform_without_fan_is_zero():
    assert not init.uniform(5, fan=0, rng=None).numpy().any()


@pytest.mark.parametrize("std", (1.0, 0.02))
def test_normal_draws_have_their_spread(std):
    p = init.normal(300, 300, rng=np.random.default_rng(0), std=std)
    assert p.dtype == np.float32 and abs(p.numpy().std() / std - 1) < 0.01
    assert abs(p.numpy().mean()) < 0.01 * std


# By the fans

FANS = [((300, 200), 200, 300), ((200, 300), 300, 200), ((40, 30, 7), 210, 280)]
LAWS = {  # the variance that each promises
    "xavier_uniform": lambda i, o: 2 / (i + o),
    "xavier_normal": lambda i, o: 2 / (i + o),
    "kaiming_uniform": lambda i, o: 2 / i,
    "kaiming_normal": lambda i, o: 2 / i,
}


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("shape, fan_in, fan_out", FANS)
def test_variance_is_the_one_promised(name, shape, fan_in, fan_out):
    make, promised = getattr(init, name), LAWS[name](fan_in, fan_out)
    w = make(*shape, rng=np.random.default_rng(0), dtype="float64").numpy()
    bound = 8 * math.sqrt(2 / w.size)  # 8 standard errors of a normal sample's variance
    assert w.shape == shape and abs(w.var() / promised - 1) < bound
    assert abs(w.mean()) < 8 * math.sqrt(promised / w.size)
    if name.endswith("uniform"):
        limit = math.sqrt(3 * promised)
        assert 0.99 * limit < np.abs(w).max() <= limit
        counts, _ = np.histogram(w, 10, (-limit, limit))
        assert np.abs(counts * 10 / w.size - 1).max() < 0.15
    else:
        inside = (np.abs(w) < math.sqrt(promised)).mean()
        assert abs(inside - 0.6827) < 0.02 and np.abs(w).max() > 3 * math.sqrt(promised)


@pytest.mark.parametrize("kind", ("uniform", "normal"))
def test_gain_and_mode_scale_the_draws(kind):
    def draw(name, **options):
        make = getattr(init, f"{name}_{kind}")
        return make(30, 20, rng=np.random.default_rng(0), dtype="float64", **options).numpy()

    near = {"rtol": 1e-13, "atol": 1e-15}
    np.testing.assert_allclose(draw("xavier", gain=3.0), 3 * draw("xavier"), **near)
    in_, out = draw("kaiming", gain=1.0), draw("kaiming", gain=1.0, mode="fan_out")
    np.testing.assert_allclose(out, in_ * math.sqrt(20 / 30), **near)
    np.testing.assert_allclose(draw("kaiming"), in_ * math.sqrt(2), **near)
    assert in_.any()


def test_kaiming_keeps_the_variance_through_relus():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((500, 256))
    for _ in range(20):
        w = init.kaiming_normal(256, 256, rng=rng, dtype="float64").numpy()
        x = np.maximum(x, 0) @ w.T
    assert 0.3 < x.var() < 3


# Orthogonal and the rest


@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 4), st.sampled_from((1.0, 0.5)), SEEDS)
def test_orthogonal_blocks_are_orthonormal(rows, columns, blocks, gain, seed):
    rng = np.random.default_rng(seed)
    w = init.orthogonal(blocks * rows, columns, gain=gain, blocks=blocks, rng=rng, dtype="float64")
    for q in np.split(w.numpy() / gain, blocks):
        product = q @ q.T if rows <= columns else q.T @ q
        np.testing.assert_allclose(product, np.eye(min(rows, columns)), atol=1e-13)


def test_orthogonal_matrices_prefer_no_direction():
    rng = np.random.default_rng(0)
    draws = np.stack([init.orthogonal(3, 3, rng=rng, dtype="float64").numpy() for _ in range(4000)])
    mean, spread = draws.mean(0), (draws**2).mean(0)  # Haar: 0 and 1/n
    assert np.abs(mean).max() < 0.05 and np.abs(spread - 1 / 3).max() < 0.03
    assert abs((np.linalg.det(draws) > 0).mean() - 0.5) < 0.04
    w = init.orthogonal(4, 3, 2, rng=rng).numpy()
    assert w.shape == (4, 3, 2) and w.dtype == np.float32
    np.testing.assert_allclose(w.reshape(4, 6) @ w.reshape(4, 6).T, np.eye(4), atol=1e-6)


def test_fixed_values():
    np.testing.assert_array_equal(init.identity(3, 2, gain=0.5).numpy(), 0.5 * np.eye(3, 2))
    for p, value in [
        (init.zeros(2, 3), 0),
        (init.ones(2, 3), 1),
        (init.constant(2, 3, value=-2), -2),
    ]:
        np.testing.assert_array_equal(p.numpy(), np.full((2, 3), value, np.float32), strict=True)
        assert isinstance(p, tg.nn.Parameter)
    assert init.ones(2, dtype="float64").dtype == np.float64


RANDOM = [*LAWS, "orthogonal", "normal"]


@pytest.mark.parametrize("name", RANDOM)
def test_draws_are_the_generators_in_either_dtype(name):
    make = getattr(init, name)
    a, b, c, wide = (
        make(5, 4, rng=np.random.default_rng(s), dtype=d)
        for s, d in ((1, "float32"), (1, "float32"), (2, "float32"), (1, "float64"))
    )
    assert a.dtype == np.float32 and a.requires_grad
    np.testing.assert_array_equal(a.numpy(), b.numpy())
    np.testing.assert_array_equal(a.numpy(), wide.numpy().astype("float32"))
    assert (a.numpy() != c.numpy()).any()


@pytest.mark.parametrize("name", [*LAWS, "orthogonal"])
def test_vectors_have_no_fans(name):
    message = rf"^{name}: expected the shape of a matrix \(outputs, inputs, \.\.\.\), got \(3,\);"
    with pytest.raises(ValueError, match=message):
        getattr(init, name)(3, rng=None)


def test_other_arguments_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"^kaiming_normal: expected mode 'fan_in' or 'fan_out'"):
        init.kaiming_normal(2, 2, mode="in", rng=None)
    with pytest.raises(ValueError, match=r"^orthogonal: expected rows that 4 blocks share equally"):
        init.orthogonal(6, 2, blocks=4, rng=None)
    with pytest.raises(
        ValueError, match=r"^identity: expected a matrix's shape \(m, n\), got \(2,"
    ):
        init.identity(2)


def test_a_weight_may_be_replaced():
    layer = tg.nn.LSTM(3, 5)
    layer.weight_hh_l0 = init.orthogonal(20, 5, blocks=4, rng=np.random.default_rng(0))
    output, _ = layer(tg.ones(4, 2, 3))
    output.sum().backward()
    assert layer.weight_hh_l0.grad.numpy().any() and len(list(layer.parameters())) == 4


def test_generators_must_be_numpys():
    with pytest.raises(TypeError, match=r"^rng: expected a numpy\.random\.Generator, got int;"):
        tg.nn.LSTM(2, 3, rng=0)
