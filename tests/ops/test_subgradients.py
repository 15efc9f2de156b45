"""The documented sub-gradients at ties and kinks."""

import math

import numpy as np
import pytest

import tinygrad_rnn as tg


def slopes(fn, *values):
    xs = [tg.Tensor(v, requires_grad=True, dtype=np.float64) for v in values]
    fn(*xs).sum().backward()
    return [x.grad.tolist() for x in xs]


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_abs_relu_and_norm_have_0_at_0(zero):
    assert slopes(tg.abs, zero) == [0.0]
    assert slopes(tg.relu, zero) == [0.0]
    assert slopes(tg.norm, [zero, zero]) == [[0.0, 0.0]]
    (rows,) = slopes(lambda x: tg.norm(x, axis=-1), [[zero, zero], [0.0, 4.0]])
    assert rows == [[0.0, 0.0], [0.0, 1.0]]


def test_norm_has_0_at_0_to_second_order():
    x = tg.Tensor([0.0, 0.0], requires_grad=True)
    (g,) = tg.grad(tg.norm(x), x, create_graph=True)
    (second,) = tg.grad(g.sum(), x)
    assert np.isfinite(second.numpy()).all()


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_leaky_relu_and_elu_take_the_left_side_at_0(zero):
    assert slopes(lambda x: tg.leaky_relu(x, 0.25), zero) == [0.25]
    assert slopes(lambda x: tg.elu(x, 0.5), zero) == [0.5]


@pytest.mark.parametrize("op", [tg.maximum, tg.minimum])
def test_maximum_and_minimum_share_a_tie_equally(op):
    assert slopes(op, [1.0, 2.0, 0.0], [1.0, 2.0, -0.0]) == [[0.5] * 3, [0.5] * 3]


@pytest.mark.parametrize("op", [tg.maximum, tg.minimum])
def test_an_extreme_of_a_tensor_with_itself_is_the_tensor(op):
    assert slopes(lambda x: op(x, x), [1.0, -2.0]) == [[1.0, 1.0]]


@pytest.mark.parametrize("op", [tg.max, tg.min])
def test_max_and_min_share_a_tie_equally(op):
    assert slopes(op, [7.0, 7.0, 7.0, 7.0]) == [[0.25] * 4]
    tied = [[1.0, 1.0], [1.0, 1.0]]
    assert slopes(lambda x: op(x, axis=0), tied) == [[[0.5, 0.5], [0.5, 0.5]]]
    assert slopes(lambda x: op(x, axis=(0, 1), keepdims=True), tied) == [[[0.25] * 2] * 2]


def test_clip_passes_the_gradient_at_its_bounds():
    assert slopes(lambda x: tg.clip(x, -1.0, 2.0), [-2.0, -1.0, 0.0, 2.0, 3.0]) == [
        [0.0, 1.0, 1.0, 1.0, 0.0]
    ]
    assert slopes(lambda x, low, high: tg.clip(x, low, high), [1.0], [1.0], [1.0]) == [
        [1.0],
        [0.0],
        [0.0],
    ]


def test_where_gives_the_gradient_to_the_chosen_side_only():
    assert slopes(lambda x, y: tg.where([True, False], x, y), [1.0, 2.0], [1.0, 2.0]) == [
        [1.0, 0.0],
        [0.0, 1.0],
    ]


def test_where_hides_an_infinite_slope_of_the_side_not_chosen():
    (found,) = slopes(lambda x: tg.where(x > 0.0, tg.sqrt(tg.where(x > 0.0, x, 1.0)), 0.0), [0.0])
    assert found == [0.0]


def test_sort_gives_each_of_equal_elements_its_own_gradient():
    weights = np.array([1.0, 2.0, 3.0])
    assert slopes(lambda x: tg.sort(x) * weights, [5.0, 5.0, 1.0]) == [[2.0, 3.0, 1.0]]
    assert slopes(lambda x: tg.topk(x, 2)[0] * weights[:2], [5.0, 5.0, 5.0]) == [[1.0, 2.0, 0.0]]


@pytest.mark.parametrize("zeros", [1, 2])
def test_prod_is_differentiated_rightly_at_zeros(zeros):
    x = [2.0, 3.0, 5.0]
    for k in range(zeros):
        x[k] = 0.0
    assert slopes(tg.prod, x) == [[15.0, 0.0, 0.0] if zeros == 1 else [0.0, 0.0, 0.0]]


def test_power_at_zero():
    assert slopes(lambda x: x**2, [0.0]) == [[0.0]]
    assert slopes(lambda x: x**1, [0.0]) == [[1.0]]
    assert slopes(lambda x, y: x**y, [0.0, 0.0, 0.0], [0.0, 1.0, 2.0]) == [
        [0.0, 1.0, 0.0],
        [0.0, 0.0, 0.0],
    ]


def test_logsumexp_of_minus_infinity_only():
    low = [-math.inf, -math.inf]
    assert tg.logsumexp(low).item() == -math.inf
    assert slopes(tg.logsumexp, [-math.inf, 0.0]) == [[0.0, 1.0]]
