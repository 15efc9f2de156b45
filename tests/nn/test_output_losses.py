"""Fused losses and layers are their definitions: values, gradients, and gradients of gradients."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.testing import gradcheck

TARGETS = np.array([[2, -100, 0], [1, 1, 3]])  # of 4 classes
NOWHERE = np.full((2, 3), -100)
WEIGHT = np.array([0.5, 1.0, 2.0, 0.25])
REDUCTIONS = ("mean", "sum", "none")


def cross(options):
    return lambda x: nn.cross_entropy(x, TARGETS, **options)


def head(options, targets=TARGETS):
    return lambda x, w, b=None: nn.linear_cross_entropy(x, w, targets, b, **options)


def dropped(x):
    return nn.dropout(x, 0.4, rng=np.random.default_rng(3))


# Name: the function, and the shapes of its inputs
FUSED = {
    "layer_norm": (nn.layer_norm, [(2, 3, 5), (5,), (5,)]),
    "layer_norm without a bias": (nn.layer_norm, [(2, 3, 5), (5,)]),
    "layer_norm of rows": (nn.layer_norm, [(2, 3, 5)]),
    "layer_norm of a row": (nn.layer_norm, [(5,), (5,), (5,)]),
    "dropout": (dropped, [(3, 7)]),
    "head of no targets": (head({"reduction": "sum"}, NOWHERE), [(2, 3, 5), (4, 5), (4,)]),
    "head of one row": (head({}, np.array(1)), [(5,), (4, 5), (4,)]),
    "head of one class": (head({}, np.zeros((2, 3), int)), [(2, 3, 5), (1, 5), (1,)]),
    "head without a bias": (head({"label_smoothing": 0.2}), [(2, 3, 5), (4, 5)]),
    "head in chunks": (head({"chunk": 1}), [(2, 3, 5), (4, 5), (4,)]),
}
for reduction, smoothing in itertools.product(REDUCTIONS, (0.0, 0.1, 1.0)):
    options = {"reduction": reduction, "label_smoothing": smoothing}
    FUSED[f"cross_entropy {options}"] = cross(options), [(2, 3, 4)]
    FUSED[f"head {options}"] = head(options), [(2, 3, 5), (4, 5), (4,)]
    FUSED[f"cross_entropy by weight {options}"] = cross(options | {"weight": WEIGHT}), [(2, 3, 4)]
FLAT = ("head of no targets", "head of one class")  # their gradients are zero


def drawn(name, dtype, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(s).astype(dtype) for s in FUSED[name][1]]


def cotangent(y):
    g = np.cos(np.arange(y.size) + 1.0).reshape(y.shape)
    return np.asarray(g, y.dtype)


def derivatives(name, arrays, subset):
    """The value; the gradients along a cotangent; those of a function of the gradients."""
    inputs = [tg.Tensor(a, requires_grad=k in subset) for k, a in enumerate(arrays)]
    wanted = [v for k, v in enumerate(inputs) if k in subset]
    y = FUSED[name][0](*inputs)
    g = tg.Tensor(cotangent(y), requires_grad=True)
    first = tg.grad(y, wanted, g, create_graph=True)
    total = sum((d * d).sum() for d in first)
    second = tg.grad(total, [*wanted, g], allow_unused=True)
    plain = tg.grad(FUSED[name][0](*inputs), wanted, g.detach())
    return [y, *first, *plain, *(d for d in second if d is not None)]


@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("name", FUSED)
def test_fused_is_its_definition_for_any_inputs_that_want_gradients(name, dtype):
    arrays = drawn(name, dtype)
    every = range(len(arrays))
    seen = False
    for count in range(1, len(arrays) + 1):
        for subset in itertools.combinations(every, count):
            found = derivatives(name, arrays, subset)
            with tg.definitions():
                expected = derivatives(name, arrays, subset)
            assert len(found) == len(expected)
            for a, b in zip(found, expected, strict=True):
                assert a.shape == b.shape and a.dtype == b.dtype
                tolerance = 2e-5 if dtype == "float32" else 1e-12
                scale = max(1.0, np.abs(b.numpy()).max(initial=0.0))
                np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=0, atol=tolerance * scale)
            seen = seen or any(d.numpy().any() for d in found[1:])
    assert seen or name in FLAT


@pytest.mark.parametrize("name", [n for n in FUSED if n not in FLAT])
def test_fused_agrees_with_differences_twice(name):
    report = gradcheck(FUSED[name][0], tuple(drawn(name, "float64")), order=2)
    assert report and report.analytic != 0


@pytest.mark.parametrize("name", FUSED)
def test_two_backward_passes_of_one_forward_pass_are_the_same(name):
    inputs = [tg.Tensor(a, requires_grad=True) for a in drawn(name, "float32")]
    y = FUSED[name][0](*inputs)
    g = cotangent(y)
    found = [tg.grad(y, inputs, g, retain_graph=keep) for keep in (True, True, False)]
    for a, b, c in zip(*found, strict=True):
        assert a.numpy().tobytes() == b.numpy().tobytes() == c.numpy().tobytes()
    for a in found[0]:  # and each is an array of its own
        assert not any(np.shares_memory(a.numpy(), b.numpy()) for b in [*found[1], *found[2]])


@pytest.mark.parametrize("name", FUSED)
def test_inputs_stay_and_nothing_is_kept_without_recording(name):
    arrays = drawn(name, "float32")
    inputs = [tg.Tensor(a, requires_grad=True) for a in arrays]
    y = FUSED[name][0](*inputs)
    tg.grad(y, inputs, cotangent(y))
    for a, v in zip(arrays, inputs, strict=True):
        np.testing.assert_array_equal(a, v.numpy())
    with tg.no_grad():
        z = FUSED[name][0](*inputs)
    assert not z.requires_grad
    np.testing.assert_array_equal(z.numpy(), y.numpy())


def test_inputs_computed_from_each_other_are_counted_once():
    x = tg.Tensor(np.linspace(-1, 1, 30).reshape(6, 5), requires_grad=True)
    w = tg.exp(x[:4])
    both = tg.grad(nn.linear_cross_entropy(x, w, TARGETS.ravel()), [x, w], create_graph=True)
    with tg.definitions():
        expected = tg.grad(
            nn.linear_cross_entropy(x, w, TARGETS.ravel()), [x, w], create_graph=True
        )
    for a, b in zip(both, expected, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12, atol=1e-15)


@given(
    st.integers(1, 40), st.integers(1, 9), st.integers(1, 700), st.sampled_from(REDUCTIONS),
    st.integers(0, 99),
)  # fmt: skip
def test_the_output_layers_loss_is_that_of_its_logits(n, h, v, reduction, seed):
    rng = np.random.default_rng(seed)
    inputs = [tg.Tensor(rng.standard_normal(s), requires_grad=True) for s in ((n, h), (v, h), (v,))]
    targets = np.where(rng.random(n) < 0.2, 7_000, rng.integers(0, v, n))
    targets[0] = 0
    options = {"ignore_index": 7_000, "reduction": reduction, "label_smoothing": 0.1}
    found = nn.linear_cross_entropy(inputs[0], inputs[1], targets, inputs[2], **options)
    expected = nn.cross_entropy(tg.linear(*inputs), targets, **options)
    g = cotangent(found)
    ds, es = (tg.grad(y, inputs, g) for y in (found, expected))
    for a, b in zip([found, *ds], [expected, *es], strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-10, atol=1e-12)


def test_no_targets_at_all_give_nan_and_no_gradient():
    inputs = [tg.Tensor(np.ones(s), requires_grad=True) for s in ((2, 3, 5), (4, 5), (4,))]
    loss = nn.linear_cross_entropy(*inputs[:2], NOWHERE, inputs[2])
    assert math.isnan(loss.item())
    for d in tg.grad(loss, inputs):
        assert not d.numpy().any()


def test_no_places_at_all():
    for reduction, value in (("sum", 0.0), ("none", np.zeros((0, 3)))):
        x, w = tg.zeros(0, 3, 5, requires_grad=True), tg.ones(4, 5, requires_grad=True)
        loss = nn.linear_cross_entropy(x, w, np.zeros((0, 3), int), reduction=reduction)
        np.testing.assert_array_equal(loss.numpy(), value)
        d_x, d_w = tg.grad(loss.sum(), [x, w])
        assert d_x.shape == (0, 3, 5) and d_w.shape == (4, 5) and not d_w.numpy().any()


def test_a_later_change_of_a_weight_is_detected():
    x, w = tg.ones(2, 5, requires_grad=True), tg.ones(4, 5, requires_grad=True)
    loss = nn.linear_cross_entropy(x, w, [0, 1], reduction="none")
    loss.sum().backward(retain_graph=True)
    tg.optim.SGD([w], lr=1.0).step()
    with pytest.raises(RuntimeError, match="changed in place"):
        loss.sum().backward()


def test_weights_of_other_layouts_and_dtypes():
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((6, 5)), rng.standard_normal((4, 5))
    targets = TARGETS.ravel()
    expected = nn.linear_cross_entropy(tg.Tensor(x), tg.Tensor(w), targets).item()
    turned = tg.Tensor(w.T.copy()).T
    assert nn.linear_cross_entropy(tg.Tensor(x), turned, targets).item() == expected
    mixed = nn.linear_cross_entropy(tg.Tensor(x, dtype="float32"), tg.Tensor(w), targets)
    assert mixed.dtype == np.float64 and mixed.item() == pytest.approx(expected, rel=1e-6)


# What a user reads after a mistake

X, W = tg.zeros(2, 3), tg.zeros(4, 3)
BAD = {
    "class too large": ((X, W, [0, 4]), {}, IndexError, r"targets in 0\.\.3 or -100, got 4"),
    "real targets": ((X, W, [0.0, 1.0]), {}, TypeError, "integer indices, got float64; convert"),
    "one target": ((X, W, [0]), {}, ValueError, r"targets of shape \(2,\) for .* \(2, 4\)"),
    "other width": ((X, tg.zeros(4, 5), [0, 1]), {}, ValueError, r"x .* got \(2, 3\), \(4, 5\)"),
    "bias": ((X, W, [0, 1], tg.zeros(3)), {}, ValueError, r"bias \(V,\), got .* and \(3,\)"),
    "array": ((np.zeros((2, 3)), W, [0, 1]), {}, TypeError, "x as a floating-point Tensor"),
    "list": ((X, [[0.0]], [0, 1]), {}, TypeError, "weight as a floating-point Tensor"),
    "reduction": ((X, W, [0, 1]), {"reduction": "max"}, ValueError, "'none', got 'max'"),
    "smoothing": ((X, W, [0, 1]), {"label_smoothing": 1.5}, ValueError, r"\[0, 1\], got 1.5"),
    "chunk": ((X, W, [0, 1]), {"chunk": 0}, ValueError, "a chunk of 1 place at least, got 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_arguments_are_refused(case):
    arguments, options, error, message = BAD[case]
    with pytest.raises(error, match=f"^linear_cross_entropy: expected .*{message}"):
        nn.linear_cross_entropy(*arguments, **options)
