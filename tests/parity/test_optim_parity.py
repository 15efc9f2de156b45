"""Optimisers walk torch's trajectories, and clipping is torch's."""

import math

import numpy as np
import pytest

import tinygrad_rnn as tg

torch = pytest.importorskip("torch")

from tests.parity.compare import array, same  # noqa: E402

pytestmark = pytest.mark.parity

OPTIMIZERS = {
    "SGD": ("SGD", {"lr": 0.3}),
    "Adam": ("Adam", {"lr": 0.02}),
    "Adam, other betas": ("Adam", {"lr": 0.1, "betas": (0.5, 0.7)}),
    "Adam, no memory": ("Adam", {"lr": 0.1, "betas": (0.0, 0.0)}),
    "Adam, large eps": ("Adam", {"lr": 1.0, "eps": 0.5}),
}
SHAPES = ((), (3,), (2, 4))


def pairs(rng, dtype):
    arrays = [np.asarray(rng.standard_normal(s), dtype) for s in SHAPES]
    return (
        [tg.Tensor(a, requires_grad=True) for a in arrays],
        [torch.tensor(a, requires_grad=True) for a in arrays],
    )


@pytest.mark.parametrize("dtype", ("float64", "float32"))
@pytest.mark.parametrize("case", OPTIMIZERS)
def test_optimizer_walks_torchs_way(case, dtype):
    name, options = OPTIMIZERS[case]
    rng = np.random.default_rng(0)
    params, reference = pairs(rng, dtype)
    own = getattr(tg.optim, name)(params, **options)
    other = getattr(torch.optim, name)(reference, **options)
    for t in range(100):
        for k, (p, q) in enumerate(zip(params, reference, strict=True)):
            g = np.asarray(rng.standard_normal(p.shape) * 10.0 ** (t % 5 - 2), dtype)
            if k == 1 and t % 3:  # sometimes it has no gradient
                p.grad = q.grad = None
            else:
                p.grad, q.grad = tg.Tensor(g), torch.tensor(g)
        own.lr = options["lr"] / (1 + t % 7)
        other.param_groups[0]["lr"] = own.lr
        own.step(), other.step()
        near = (1e-10, 1e-12) if dtype == "float64" else (1e-4, 1e-4)
        for p, q in zip(params, reference, strict=True):
            same(p, q, rtol=near[0], atol=near[1])


@pytest.mark.parametrize("name", ("SGD", "Adam"))
def test_training_a_layer_follows_torchs(name):
    reference = torch.nn.LSTM(3, 4, 2, dtype=torch.float64)
    layer = tg.nn.LSTM(3, 4, 2, dtype="float64")
    layer.load_state_dict(reference.state_dict())
    own = getattr(tg.optim, name)(layer.parameters(), lr=0.05)
    other = getattr(torch.optim, name)(reference.parameters(), lr=0.05)
    x = np.random.default_rng(0).standard_normal((5, 2, 3))
    for _ in range(15):
        layer.zero_grad(), reference.zero_grad()
        loss, expected = (
            ((output - 0.5) ** 2).sum()
            for output in (layer(tg.Tensor(x))[0], reference(torch.from_numpy(x))[0])
        )
        same(loss, expected, rtol=1e-9)
        loss.backward(), expected.backward()
        norm = tg.optim.clip_grad_norm_(layer.parameters(), 0.1)
        wanted = torch.nn.utils.clip_grad_norm_(reference.parameters(), 0.1)
        assert norm == pytest.approx(wanted.item(), rel=1e-9) and norm > 0.1
        for p, q in zip(layer.parameters(), reference.parameters(), strict=True):
            same(p.grad, q.grad, rtol=3e-5, atol=1e-12)  # torch divides by the norm plus 1e-6
            p.grad = tg.Tensor(array(q.grad))
        own.step(), other.step()
    for p, q in zip(layer.parameters(), reference.parameters(), strict=True):
        same(p, q, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("dtype", ("float64", "float32"))
@pytest.mark.parametrize("limit", (1e-3, 2.0, 1e9, math.inf))
def test_clipping_is_torchs(dtype, limit):
    rng = np.random.default_rng(1)
    params, reference = pairs(rng, dtype)
    for p, q in zip(params, reference, strict=True):
        g = np.asarray(5 * rng.standard_normal(p.shape), dtype)
        p.grad, q.grad = tg.Tensor(g), torch.tensor(g)
    norm = tg.optim.clip_grad_norm_(params, limit)
    wanted = torch.nn.utils.clip_grad_norm_(reference, limit)
    assert norm == pytest.approx(wanted.item(), rel=1e-12 if dtype == "float64" else 1e-6)
    for p, q in zip(params, reference, strict=True):
        same(p.grad, q.grad, rtol=1e-6, atol=1e-9)
