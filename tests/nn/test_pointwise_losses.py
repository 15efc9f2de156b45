"""Losses made of a few ops: values by hand, gradients, reductions, errors."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.testing import gradcheck
from tinygrad_rnn.testing import strategies as ts

NUMBERS = (nn.mse_loss, nn.l1_loss, nn.binary_cross_entropy_with_logits)
CLASSES = (nn.nll_loss, nn.multi_margin_loss)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


BY_HAND = {
    nn.mse_loss: lambda x, y: (x - y) ** 2,
    nn.l1_loss: lambda x, y: np.abs(x - y),
    nn.binary_cross_entropy_with_logits: lambda x, y: (
        -y * np.log(sigmoid(x)) - (1 - y) * np.log(sigmoid(-x))
    ),
}


@given(st.data(), ts.shapes(min_side=1, max_side=4), st.sampled_from(NUMBERS))
def test_losses_of_numbers_are_those_by_hand(data, shape, loss):
    dtype = data.draw(st.sampled_from(("float32", "float64")))
    x = data.draw(ts.reals(shape, scales=(1.0, 3.0), dtype=dtype))
    y = np.clip(data.draw(ts.reals(shape, dtype=dtype)), 0, 1)
    expected = BY_HAND[loss](x.astype(np.float64), y.astype(np.float64))
    for target in (y, tg.Tensor(y), y.tolist()):
        each = loss(tg.Tensor(x), target, reduction="none")
        assert each.dtype == x.dtype and each.shape == shape
        np.testing.assert_allclose(each.numpy(), expected, rtol=1e-5, atol=1e-6)
        total, mean = (loss(tg.Tensor(x), target, reduction=r) for r in ("sum", "mean"))
        np.testing.assert_allclose(total.item(), expected.sum(), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(mean.item(), expected.mean(), rtol=1e-5, atol=1e-6)


def test_binary_cross_entropy_is_exact_far_out_and_counts_by_weight():
    x = tg.Tensor(np.array([-800.0, 800.0, -40.0, 40.0]), requires_grad=True)
    loss = nn.binary_cross_entropy_with_logits(x, [0, 1, 0, 1], reduction="none")
    tail = math.log1p(math.exp(-40))
    np.testing.assert_allclose(loss.numpy(), [0, 0, tail, tail], rtol=1e-14)
    wrong = nn.binary_cross_entropy_with_logits(x, [1, 0, 1, 0], reduction="none")
    np.testing.assert_allclose(wrong.numpy(), [800, 800, 40, 40], rtol=1e-14)
    y = np.array([1.0, 0.0, 1.0, 0.5])
    one = nn.binary_cross_entropy_with_logits(x, y, reduction="none").numpy()
    more = nn.binary_cross_entropy_with_logits(
        x, y, weight=[1.0, 2.0, 3.0, 4.0], reduction="none", pos_weight=np.array(3.0)
    )
    np.testing.assert_allclose(more.numpy()[:3], one[:3] * [3, 2, 9])


@pytest.mark.parametrize("reduction", ("mean", "sum", "none"))
@pytest.mark.parametrize("loss", [*NUMBERS, nn.hinge_embedding_loss])
def test_losses_of_numbers_agree_with_differences_twice(loss, reduction, rng):
    x, y = rng.standard_normal((2, 3)), np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
    target = 2 * y - 1 if loss is nn.hinge_embedding_loss else y
    assert gradcheck(lambda x: loss(x, target, reduction=reduction), x, order=2)


@pytest.mark.parametrize("loss", (nn.mse_loss, nn.binary_cross_entropy_with_logits))
def test_targets_get_gradients_too(loss, rng):
    x, y = rng.standard_normal((2, 3)), rng.random((2, 3))
    assert gradcheck(loss, (x, y), order=2)


def test_nll_loss_is_cross_entropy_of_logarithms(rng):
    x = tg.Tensor(rng.standard_normal((2, 3, 4)), requires_grad=True)
    targets = np.array([[2, 7, 0], [1, 1, 3]])
    for options in ({}, {"weight": [0.5, 1.0, 2.0, 0.25]}):
        for reduction in ("mean", "sum", "none"):
            more = options | {"ignore_index": 7, "reduction": reduction}
            a = nn.nll_loss(tg.log_softmax(x), targets, **more)
            b = nn.cross_entropy(x, targets, **more)
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12)
            g = np.ones(a.shape)
            d, e = (tg.grad(v, x, g)[0].numpy() for v in (a, b))
            np.testing.assert_allclose(d, e, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("p", (1, 2))
@pytest.mark.parametrize("weight", (None, [0.5, 1.0, 2.0]))
def test_multi_margin_loss_is_the_sum_of_hinges(p, weight, rng):
    x, targets = rng.standard_normal((5, 3)), np.array([0, 2, 1, 1, 0])
    expected = [
        sum(max(0, 0.7 - row[t] + row[v]) ** p for v in range(3) if v != t)
        * (weight or [1] * 3)[t]
        / 3
        for row, t in zip(x, targets, strict=True)
    ]
    options = {"p": p, "margin": 0.7, "weight": weight}
    each = nn.multi_margin_loss(tg.Tensor(x), targets, reduction="none", **options)
    np.testing.assert_allclose(each.numpy(), expected)
    mean = nn.multi_margin_loss(tg.Tensor(x), targets, **options)
    assert mean.item() == pytest.approx(np.mean(expected))
    assert gradcheck(lambda x: nn.multi_margin_loss(x, targets, **options), x)


def test_hinge_embedding_loss_takes_either_side():
    x = tg.Tensor([0.5, 0.25, 3.0, -1.0], requires_grad=True)
    each = nn.hinge_embedding_loss(x, [1, -1, -1, 1], margin=2.0, reduction="none")
    np.testing.assert_array_equal(each.numpy(), [0.5, 1.75, 0.0, -1.0])
    np.testing.assert_array_equal(tg.grad(each.sum(), x)[0].numpy(), [1, -1, 0, 1])


X = tg.zeros(2, 3)


@pytest.mark.parametrize("loss", [*NUMBERS, nn.hinge_embedding_loss])
def test_losses_of_numbers_refuse_what_does_not_fit(loss):
    name = loss.__name__
    with pytest.raises(ValueError, match=rf"^{name}: expected a target of .*\(2, 3\), got \(3,\)"):
        loss(X, np.ones(3))
    with pytest.raises(TypeError, match=rf"^{name}: expected input as a floating-point Tensor"):
        loss(np.zeros(3), np.ones(3))
    with pytest.raises(ValueError, match=rf"^{name}: expected reduction .* got 'max'"):
        loss(X, np.ones((2, 3)), reduction="max")


@pytest.mark.parametrize("loss", CLASSES)
def test_losses_of_classes_refuse_what_does_not_fit(loss):
    name = loss.__name__
    with pytest.raises(IndexError, match=rf"^{name}: expected targets in 0\.\.2.*, got 3"):
        loss(X, [0, 3])
    with pytest.raises(IndexError, match=rf"^{name}: expected targets in 0\.\.2.*, got -1"):
        loss(X, [0, -1])
    with pytest.raises(TypeError, match=rf"^{name}: expected integer indices, got float64"):
        loss(X, [0.0, 1.0])
    with pytest.raises(ValueError, match=rf"^{name}: expected targets of shape \(2,\)"):
        loss(X, [0])
    with pytest.raises(TypeError, match=rf"^{name}: expected input as a floating-point"):
        loss([[0.0]], [0])


@pytest.mark.parametrize("target", (-1, -3, -4, -100, 3))
def test_a_margin_has_no_place_that_is_left_out(target):
    message = rf"^multi_margin_loss: expected targets in 0\.\.2, got {target}"
    with pytest.raises(IndexError, match=message):
        nn.multi_margin_loss(X, [0, target])


@pytest.mark.parametrize("name", ("weight", "pos_weight"))
def test_weights_of_binary_losses_have_the_inputs_dtype_and_do_not_widen_it(name):
    def loss(weight, **options):
        return nn.binary_cross_entropy_with_logits(X, np.ones((2, 3)), **{name: weight}, **options)

    expected = loss(tg.full((3,), 2.0), reduction="none")
    assert expected.numpy().all() and expected.dtype == np.float32
    for weight in ([2.0] * 3, np.full(3, 2.0), np.full((1, 3), 2), 2):
        found = loss(weight, reduction="none")
        np.testing.assert_array_equal(found.numpy(), expected.numpy(), strict=True)
    for weight in (np.ones((4, 2, 3)), np.ones(2), [[1.0], [1.0], [1.0]]):
        with pytest.raises(ValueError, match=rf"^binary.*: expected {name} to fit .* \(2, 3\)"):
            loss(weight)


def test_other_mistakes_are_refused():
    with pytest.raises(ValueError, match=r"^multi_margin_loss: expected p = 1 or 2, got 3"):
        nn.multi_margin_loss(X, [0, 1], p=3)
    with pytest.raises(ValueError, match=r"^hinge_embedding_loss: expected targets of 1 or -1"):
        nn.hinge_embedding_loss(X, np.zeros((2, 3)))
