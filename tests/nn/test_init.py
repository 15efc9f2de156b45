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


def test_generators_must_be_numpys():
    with pytest.raises(TypeError, match=r"^rng: expected a numpy\.random\.Generator, got int;"):
        tg.nn.LSTM(2, 3, rng=0)
