"""Clipping: the norm that is returned, the direction that is kept, and when nothing changes."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn.optim import clip_grad_norm_, clip_grad_value_
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


@pytest.mark.parametrize("kind", (0, 1, 3, -2, -math.inf, math.nan))
def test_other_norms_are_refused(kind):
    with pytest.raises(ValueError, match=r"^clip_grad_norm_: expected norm_type 2 or inf, got"):
        clip_grad_norm_(having([1.0]), 1.0, norm_type=kind)


@given(st.lists(ts.reals(), min_size=1, max_size=4), st.floats(1e-3, 1e3))
def test_largest_element_is_a_norm_too(gradients, limit):
    params = having(*gradients)
    before = joined(params)
    norm = clip_grad_norm_(params, limit, norm_type=math.inf)
    assert norm == np.abs(before).max(initial=0.0)
    if norm <= limit:
        np.testing.assert_array_equal(joined(params), before)
    else:
        np.testing.assert_allclose(joined(params), before * (limit / norm), rtol=1e-15, atol=0)


@pytest.mark.parametrize("kind", (2.0, math.inf))
@pytest.mark.parametrize("bad", (math.nan, math.inf, -math.inf))
def test_gradients_that_are_not_finite_can_raise_and_are_left(bad, kind):
    params = having([3.0], [1.0, bad], None, [bad])
    message = (
        rf"^clip_grad_norm_: expected finite gradients, got a norm of {abs(bad)}, from gradients "
        r"\[1, 2\] of 3; see detect_anomaly$"
    )
    with pytest.raises(RuntimeError, match=message):
        clip_grad_norm_(params, 1.0, kind, error_if_nonfinite=True)
    np.testing.assert_array_equal(joined(params), [3.0, 1.0, bad, bad])
    assert clip_grad_norm_(having([3.0]), 1.0, kind, error_if_nonfinite=True) == 3.0


@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_clipping_does_not_depend_on_threads_and_is_the_definition(dtype, rng):
    gradients = [rng.standard_normal(n) for n in (150_001, 3, 70_000)]
    usual, results = tg.get_num_threads(), []
    for threads in (1, 2, 3, "definition"):
        params = having(*gradients, dtype=dtype)
        tg.set_num_threads(1 if threads == "definition" else threads)
        try:
            if threads == "definition":
                with tg.definitions():
                    norm = clip_grad_norm_(params, 1.0)
                    clip_grad_value_(params, 1e-3)
            else:
                norm = clip_grad_norm_(params, 1.0)
                clip_grad_value_(params, 1e-3)
        finally:
            tg.set_num_threads(usual)
        results.append((norm, joined(params)))
    for norm, after in results[1:3]:
        assert norm == results[0][0]
        np.testing.assert_array_equal(after, results[0][1])
    assert results[3][0] == pytest.approx(results[0][0], rel=1e-14)
    np.testing.assert_allclose(
        results[3][1], results[0][1], rtol=1e-6 if dtype[-2:] == "32" else 1e-14
    )
    assert np.abs(results[0][1]).max() == np.asarray(1e-3, dtype)


def test_a_gradient_that_nobody_else_has_is_scaled_where_it_is():
    x = tg.Tensor(np.array([3.0, 4.0]), requires_grad=True)
    (x * x * 0.5).sum().backward()
    place = x.grad.numpy().__array_interface__["data"]
    clip_grad_norm_([x], 1.0)
    assert x.grad.numpy().__array_interface__["data"][0] == place[0]
    np.testing.assert_allclose(x.grad.numpy(), [0.6, 0.8])


@pytest.mark.parametrize(
    "clip", (lambda p: clip_grad_norm_(p, 2.5), lambda p: clip_grad_value_(p, 2.0))
)
def test_a_parameter_that_is_given_twice_is_clipped_once(clip):
    (x,), (y,) = having([3.0, 4.0]), having([3.0, 4.0])
    clip([x, x]), clip([y])
    np.testing.assert_array_equal(x.grad.numpy(), y.grad.numpy())
    assert (x.grad.numpy() < [3.0, 4.0]).all()


@given(st.lists(ts.reals(), min_size=1, max_size=4), st.floats(0, 1e3),
       st.sampled_from(("float32", "float64")))  # fmt: skip
def test_values_are_clipped_at_both_ends(gradients, limit, dtype):
    params = having(*gradients, None, dtype=dtype)
    before = joined(params)
    held = [p.grad.numpy() for p in params[:-1]]
    clip_grad_value_(params, limit)
    limit = np.asarray(limit, dtype)
    np.testing.assert_array_equal(joined(params), np.clip(before, -limit, limit))
    np.testing.assert_array_equal(np.concatenate([h.ravel() for h in held]), before)
    assert params[-1].grad is None
    assert all(p.grad.dtype == p.dtype and p.grad.shape == p.shape for p in params[:-1])


def test_clipped_values_keep_nan():
    params = having([math.nan, math.inf, -math.inf, 0.5])
    clip_grad_value_(params, 2.0)
    np.testing.assert_array_equal(joined(params), [math.nan, 2.0, -2.0, 0.5])


@pytest.mark.parametrize("limit", (-1.0, math.nan))
def test_limits_of_values_below_zero_are_refused(limit):
    message = r"^clip_grad_value_: expected clip_value of at least 0, got"
    with pytest.raises(ValueError, match=message):
        clip_grad_value_(having([1.0]), limit)
