"""Losses, normalisation and padding are torch's."""

import itertools

import numpy as np
import pytest

import tinygrad_rnn as tg

torch = pytest.importorskip("torch")

from tests.parity.compare import agree  # noqa: E402

pytestmark = pytest.mark.parity
F = torch.nn.functional
REDUCTIONS = ("mean", "sum", "none")
DTYPES = ("float64", "float32")


def targets(rng, n, classes):
    found = rng.integers(0, classes, n)
    found[n // 3] = -100
    return found


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", (0.0, 0.1, 1.0))
@pytest.mark.parametrize("weighted", (False, True))
def test_cross_entropy(dtype, reduction, smoothing, weighted):
    rng = np.random.default_rng(0)
    for n, classes in ((1, 1), (4, 3), (50, 700)):
        t = targets(rng, n, classes) if n > 1 else np.zeros(1, int)
        w = rng.uniform(0.5, 2, classes).astype(dtype) if weighted else None
        options = {"reduction": reduction, "label_smoothing": smoothing}
        agree(
            lambda x, t=t, w=w, o=options: tg.nn.cross_entropy(x, t, weight=w, **o),
            lambda x, t=t, w=w, o=options: F.cross_entropy(
                x, torch.tensor(t), None if w is None else torch.tensor(w), **o
            ),
            [rng.standard_normal((n, classes)).astype(dtype)],
        )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("bias", (False, True))
def test_linear_cross_entropy(dtype, reduction, bias):
    rng = np.random.default_rng(0)
    for n, h, classes in ((1, 1, 1), (4, 3, 5), (70, 20, 1500)):
        t = targets(rng, n, classes) if n > 1 else np.zeros(1, int)
        shapes = [(n, h), (classes, h), (classes,)][: 3 if bias else 2]
        agree(
            lambda x, w, b=None, t=t: tg.nn.linear_cross_entropy(x, w, t, b, reduction=reduction),
            lambda x, w, b=None, t=t: F.cross_entropy(
                F.linear(x, w, b), torch.tensor(t), reduction=reduction
            ),
            [rng.standard_normal(s).astype(dtype) for s in shapes],
        )


def test_all_targets_ignored():
    x, t = np.ones((3, 4)), np.full(3, -100)
    for reduction in REDUCTIONS:
        agree(
            lambda x, r=reduction: tg.nn.cross_entropy(x, t, reduction=r),
            lambda x, r=reduction: F.cross_entropy(x, torch.tensor(t), reduction=r),
            [x],
        )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", ("mse_loss", "l1_loss", "binary_cross_entropy_with_logits"))
def test_losses_of_numbers(dtype, reduction, name):
    rng = np.random.default_rng(0)
    for shape in ((), (5,), (4, 3)):
        agree(
            lambda x, y: getattr(tg.nn, name)(x, y, reduction=reduction),
            lambda x, y: getattr(F, name)(x, y, reduction=reduction),
            [rng.standard_normal(shape).astype(dtype), rng.random(shape).astype(dtype)],
        )


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_weights_of_binary_cross_entropy(reduction):
    rng = np.random.default_rng(0)
    y, w, v = rng.random((4, 3)), rng.random((4, 1)), rng.uniform(1, 3, 3)
    agree(
        lambda x: tg.nn.binary_cross_entropy_with_logits(x, y, w, reduction, v),
        lambda x: F.binary_cross_entropy_with_logits(
            x, torch.tensor(y), torch.tensor(w), reduction=reduction, pos_weight=torch.tensor(v)
        ),
        [rng.standard_normal((4, 3)) * 5],
    )


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", (False, True))
def test_nll_and_margins(reduction, weighted):
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((6, 5)), targets(rng, 6, 5)
    w = rng.uniform(0.5, 2, 5) if weighted else None
    theirs = None if w is None else torch.tensor(w)
    agree(
        lambda x: tg.nn.nll_loss(x, t, w, reduction=reduction),
        lambda x: F.nll_loss(x, torch.tensor(t), theirs, reduction=reduction),
        [x],
    )
    t = np.abs(t) % 5
    for p, margin in itertools.product((1, 2), (0.5, 1.0)):
        agree(
            lambda x, p=p, m=margin: tg.nn.multi_margin_loss(x, t, p, m, w, reduction),
            lambda x, p=p, m=margin: F.multi_margin_loss(
                x, torch.tensor(t), p, m, theirs, reduction=reduction
            ),
            [x],
        )
    y = np.where(rng.random((6, 5)) < 0.5, -1.0, 1.0)
    agree(
        lambda x: tg.nn.hinge_embedding_loss(x, y, 0.7, reduction),
        lambda x: F.hinge_embedding_loss(x, torch.tensor(y), 0.7, reduction=reduction),
        [x],
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_layer_norm(dtype):
    rng = np.random.default_rng(0)
    for lead, width in (((3,), 1), ((2, 5), 7), ((70,), 130)):
        arrays = [rng.standard_normal(s).astype(dtype) for s in ((*lead, width), width, width)]
        for count in (1, 2, 3):
            agree(
                lambda x, *more: tg.nn.layer_norm(x, *more),
                lambda x, *more, w=width: F.layer_norm(x, (w,), *more),
                arrays[:count],
            )


def test_embedding_with_padding():
    ids = np.array([[1, 2, 2], [0, 4, 1]])
    ours, theirs = tg.nn.Embedding(5, 3, 2), torch.nn.Embedding(5, 3, 2)
    ours.load_state_dict(theirs.state_dict())
    ours(ids).sum().backward()
    theirs(torch.tensor(ids)).sum().backward()
    np.testing.assert_array_equal(ours.weight.grad.numpy(), theirs.weight.grad.numpy())
    assert not ours.weight.grad.numpy()[2].any()
