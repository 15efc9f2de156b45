"""clip_grad_norm_: the norm it returns, the direction it keeps, and when it changes nothing."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn.optim import clip_grad_norm_
from tinygrad_rnn.testing import strategies as ts


def having(*gradients, dtype="float64"):
    """Parameters with these gradients."""
    params = []
    for g in gradients:
        g = None if g is None else np.asarray(g, dtype)
        p = tg.Tensor(np.zeros(1 if g is None else g.shape, dtype), requires_grad=True)
        if g is not None:
            p.grad = tg.Tensor(g)
        params.append(p)
    return params


def joined(params):
    return np.concatenate([p.grad.numpy().ravel() for p in params if p.grad is not None])


@given(
    st.lists(ts.reals(), min_size=1, max_size=4),
    st.floats(1e-3, 1e3),
    st.sampled_from(("float32", "float64")),
)
def test_clipping_shortens_to_the_limit_and_keeps_the_direction(gradients, limit, dtype):
    params = having(*gradients, None, dtype=dtype)
    before = joined(params).astype(np.float64)
    expected = np.linalg.norm(before)
    norm = clip_grad_norm_(params, limit)
    after = joined(params)
    eps = float(np.finfo(dtype).eps)
    assert type(norm) is float and norm == pytest.approx(expected, rel=1e-14)
    assert params[-1].grad is None
    assert all(p.grad.dtype == p.dtype and p.grad.shape == p.shape for p in params[:-1])
    if norm <= limit:
        np.testing.assert_array_equal(after, before)
    else:
        assert np.linalg.norm(after.astype(np.float64)) == pytest.approx(limit, rel=8 * eps)
        np.testing.assert_allclose(after, before * (limit / expected), rtol=8 * eps, atol=0)


def test_norm_at_the_limit_changes_nothing():
    params = having([3.0, 0.0], [[4.0]])
    held = [p.grad for p in params]
    assert clip_grad_norm_(params, 5.0) == 5.0
    assert all(p.grad is g for p, g in zip(params, held, strict=True))


def test_one_tensor_and_generators_are_taken():
    (x,) = having([3.0, 4.0])
    assert clip_grad_norm_(x, 1.0) == 5.0
    np.testing.assert_allclose(x.grad.numpy(), [0.6, 0.8])
    assert clip_grad_norm_((p for p in [x]), 0.5) == pytest.approx(1.0)
    np.testing.assert_allclose(x.grad.numpy(), [0.3, 0.4])


@pytest.mark.parametrize("params", [[], having(None, None), having([0.0, 0.0])])
def test_nothing_to_clip_has_norm_zero(params):
    assert clip_grad_norm_(params, 1.0) == 0.0


@pytest.mark.parametrize("bad", (math.nan, math.inf, -math.inf))
def test_gradients_that_are_not_finite_are_told_and_left(bad):
    params = having([3.0, bad], [4.0])
    norm = clip_grad_norm_(params, 1.0)
    assert not math.isfinite(norm) and math.isnan(norm) == math.isnan(bad)
    np.testing.assert_array_equal(joined(params), [3.0, bad, 4.0])


@pytest.mark.parametrize("size", (1e30, 1e-30))
def test_norm_of_float32_gradients_neither_overflows_nor_vanishes(size):
    params = having([3 * size, 4 * size], dtype="float32")
    norm = clip_grad_norm_(params, size)
    assert norm == pytest.approx(5 * size, rel=1e-6)
    np.testing.assert_allclose(joined(params), np.float32([0.6 * size, 0.8 * size]), rtol=1e-6)


def test_norm_of_many_float32_gradients_is_summed_in_double():
    g = np.full(3_000_000, 0.1, np.float32)
    g[0] = 3e3
    params = having(g, dtype="float32")
    expected = math.sqrt(math.fsum((9e6, (g.size - 1) * float(g[1]) ** 2)))
    assert clip_grad_norm_(params, 1.0) == pytest.approx(expected, rel=1e-12)


def test_no_limit_is_infinity():
    params = having([3.0, 4.0])
    assert clip_grad_norm_(params, math.inf) == 5.0
    np.testing.assert_array_equal(joined(params), [3, 4])


def test_clipping_leaves_arrays_that_others_hold():
    x, y = (tg.Tensor(np.array([3.0, 4.0]), requires_grad=True) for _ in range(2))
    ((x + y) * np.array([3.0, 4.0])).sum().backward()
    held, seen = x.grad, x.grad.numpy()
    norm = clip_grad_norm_([x, y], 1.0)
    assert norm == pytest.approx(math.sqrt(50))
    np.testing.assert_array_equal(held.numpy(), [3, 4])
    np.testing.assert_array_equal(seen, [3, 4])
    for p in (x, y):
        np.testing.assert_allclose(p.grad.numpy(), np.array([3, 4]) / math.sqrt(50))


def test_clipping_a_gradient_that_the_user_gave_leaves_the_users():
    g = tg.Tensor(np.array([3.0, 4.0]))
    x = tg.Tensor(np.zeros(2), requires_grad=True)
    (x * 1.0).backward(g)
    clip_grad_norm_([x], 1.0)
    np.testing.assert_array_equal(g.numpy(), [3, 4])


def test_clipped_gradients_add_up_with_later_ones():
    x = tg.Tensor(np.array([3.0, 4.0]), requires_grad=True)
    (x * x * 0.5).sum().backward()
    clip_grad_norm_([x], 1.0)
    x.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [1.6, 1.8])


@pytest.mark.parametrize("limit", (0.0, -1.0, math.nan))
def test_limits_that_are_not_above_zero_are_refused(limit):
    with pytest.raises(ValueError, match=r"^clip_grad_norm_: expected max_norm above 0, got"):
        clip_grad_norm_(having([1.0]), limit)
