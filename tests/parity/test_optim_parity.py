"""Optimisers and schedules walk torch's trajectories, and clipping is torch's."""

import inspect
import math
import warnings

import numpy as np
import pytest

import tinygrad_rnn as tg

torch = pytest.importorskip("torch")

from tests.parity.compare import array, same  # noqa: E402

pytestmark = pytest.mark.parity

NAMES = ("SGD", "RMSprop", "Adagrad", "Adam", "AdamW")
OPTIONS = {
    "SGD": (
        {},
        {"lr": 0.3},
        {"lr": 0.1, "weight_decay": 0.1},
        {"lr": 0.1, "momentum": 0.9},
        {"lr": 0.1, "momentum": 0.9, "dampening": 0.4, "weight_decay": 0.1},
        {"lr": 0.1, "momentum": 0.9, "nesterov": True},
        {"lr": 0.1, "momentum": 0.5, "nesterov": True, "weight_decay": 0.2, "maximize": True},
        {"lr": 0.1, "momentum": 0.5, "dampening": 1.0},
    ),
    "RMSprop": (
        {},
        {"lr": 0.1, "alpha": 0.5, "eps": 0.1},
        {"centered": True},
        {"momentum": 0.9},
        {"momentum": 0.9, "centered": True, "weight_decay": 0.1, "maximize": True},
        {"alpha": 0.0, "weight_decay": 0.1},
    ),
    "Adagrad": (
        {},
        {"lr": 0.1, "lr_decay": 0.1},
        {"initial_accumulator_value": 0.5, "eps": 0.1, "weight_decay": 0.1},
        {"lr": 0.1, "lr_decay": 0.01, "weight_decay": 0.1, "maximize": True},
    ),
    "Adam": (
        {},
        {"lr": 0.1, "betas": (0.5, 0.7)},
        {"lr": 0.1, "betas": (0.0, 0.0)},
        {"lr": 1.0, "eps": 0.5, "weight_decay": 0.1},
        {"lr": 0.1, "amsgrad": True, "betas": (0.9, 0.5)},
        {"lr": 0.1, "amsgrad": True, "weight_decay": 0.1, "maximize": True},
    ),
    "AdamW": (
        {},
        {"lr": 0.1, "weight_decay": 0.0},
        {"lr": 0.5, "weight_decay": 0.5, "betas": (0.5, 0.7)},
        {"lr": 0.1, "amsgrad": True, "weight_decay": 0.3, "maximize": True, "eps": 0.1},
    ),
}
CASES = [(name, k) for name in NAMES for k in range(len(OPTIONS[name]))]
SHAPES = ((), (3,), (2, 4), (31, 7))


def pairs(rng, dtype):
    arrays = [np.asarray(rng.standard_normal(s), dtype) for s in SHAPES]
    return (
        [tg.Tensor(a, requires_grad=True) for a in arrays],
        [torch.tensor(a, requires_grad=True) for a in arrays],
    )


def gradients(rng, params, reference, scale=1.0):
    for p, q in zip(params, reference, strict=True):
        g = np.asarray(rng.standard_normal(p.shape) * scale, p.dtype)
        p.grad, q.grad = tg.Tensor(g), torch.tensor(g)


@pytest.mark.parametrize("name", NAMES)
def test_arguments_have_torchs_names_order_and_defaults(name):
    own, other = (
        list(inspect.signature(getattr(m, name).__init__).parameters.values())[1:]
        for m in (tg.optim, torch.optim)
    )
    theirs = {p.name: p.default for p in other}
    for p in own:
        assert p.default == theirs[p.name] and type(p.default) is not int
    positional = [p.name for p in own if p.kind is p.POSITIONAL_OR_KEYWORD]
    shared = [p.name for p in other if p.kind is p.POSITIONAL_OR_KEYWORD and p.name in positional]
    assert positional == shared


@pytest.mark.parametrize(("name", "k"), CASES)
def test_optimizer_walks_torchs_way(name, k):
    rng, options = np.random.default_rng(k), OPTIONS[name][k]
    params, reference = pairs(rng, "float64")
    start = [p.numpy().copy() for p in params]
    own = getattr(tg.optim, name)(params, **options)
    other = getattr(torch.optim, name)(reference, **options)
    for _ in range(20):
        gradients(rng, params, reference)
        own.step(), other.step()
        for p, q in zip(params, reference, strict=True):
            same(p, q, rtol=1e-12, atol=1e-14)
    assert all((p.numpy() != a).all() for p, a in zip(params, start, strict=True))


@pytest.mark.parametrize("dtype", ("float64", "float32"))
@pytest.mark.parametrize("name", NAMES)
def test_waiting_parameters_and_changing_rates_are_torchs(name, dtype):
    rng, options = np.random.default_rng(0), OPTIONS[name][-1]
    params, reference = pairs(rng, dtype)
    own = getattr(tg.optim, name)(params, **options)
    other = getattr(torch.optim, name)(reference, **options)
    for t in range(60):
        gradients(rng, params, reference, scale=10.0 ** (t % 5 - 2))
        if t % 3:
            params[1].grad = reference[1].grad = None
        own.lr = options.get("lr", 0.01) / (1 + t % 7)
        other.param_groups[0]["lr"] = own.lr
        own.step(), other.step()
        near = (1e-10, 1e-12) if dtype == "float64" else (1e-4, 1e-4)
        for p, q in zip(params, reference, strict=True):
            same(p, q, rtol=near[0], atol=near[1])


@pytest.mark.parametrize("name", NAMES)
def test_groups_are_torchs(name):
    rng = np.random.default_rng(0)
    params, reference = pairs(rng, "float64")
    made = []
    for module, ps in ((tg.optim, params), (torch.optim, reference)):
        groups = [{"params": ps[:2]}, {"params": ps[2], "lr": 0.03, "weight_decay": 0.2}]
        made.append(getattr(module, name)(groups, lr=0.1))
    for t in range(12):
        if t == 5:
            for optimizer, ps in zip(made, (params, reference), strict=True):
                optimizer.add_param_group({"params": [ps[3]], "lr": 0.07})
        gradients(rng, params, reference)
        for optimizer in made:
            optimizer.step()
    for p, q in zip(params, reference, strict=True):
        same(p, q, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", NAMES)
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
@pytest.mark.parametrize("kind", (2.0, math.inf))
@pytest.mark.parametrize("limit", (1e-3, 2.0, 1e9, math.inf))
def test_clipping_is_torchs(dtype, limit, kind):
    rng = np.random.default_rng(1)
    params, reference = pairs(rng, dtype)
    gradients(rng, params, reference, scale=5.0)
    norm = tg.optim.clip_grad_norm_(params, limit, kind)
    wanted = torch.nn.utils.clip_grad_norm_(reference, limit, kind)
    assert norm == pytest.approx(wanted.item(), rel=1e-12 if dtype == "float64" else 1e-6)
    for p, q in zip(params, reference, strict=True):
        same(p.grad, q.grad, rtol=1e-6, atol=1e-9)


def test_clipping_values_is_torchs():
    rng = np.random.default_rng(1)
    params, reference = pairs(rng, "float32")
    gradients(rng, params, reference, scale=5.0)
    tg.optim.clip_grad_value_(params, 2.0)
    torch.nn.utils.clip_grad_value_(reference, 2.0)
    for p, q in zip(params, reference, strict=True):
        same(p.grad, q.grad, rtol=0)


# Schedules

SCHEDULES = {
    "LambdaLR": [{"lr_lambda": lambda t: 0.95**t + 0.1}],
    "StepLR": [{"step_size": 3}, {"step_size": 4, "gamma": 0.7}],
    "MultiStepLR": [{"milestones": [3, 7, 7]}, {"milestones": [2, 5], "gamma": 0.3}],
    "ExponentialLR": [{"gamma": 0.9}],
    "LinearLR": [{}, {"start_factor": 0.1, "end_factor": 0.6, "total_iters": 9}],
    "CosineAnnealingLR": [{"T_max": 10}, {"T_max": 7, "eta_min": 0.01}],
}
FORMS = [(name, k) for name, forms in SCHEDULES.items() for k in range(len(forms))]


def both(base=0.3):
    """An optimiser and torch's, of two groups, with the schedules' modules."""
    made = []
    for make, module in ((tg.ones, tg.optim), (torch.ones, torch.optim)):
        groups = [{"params": [make(1, requires_grad=True)], "lr": r} for r in (base, 0.05)]
        made.append((module.SGD(groups, lr=1.0), module.lr_scheduler))
    return made


def walk(schedules, steps, *metrics):
    own, other = schedules
    for t in range(steps):
        np.testing.assert_allclose(own.get_last_lr(), other.get_last_lr(), rtol=1e-12, atol=1e-17)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch wants optimiser steps in between
            for s in schedules:
                s.step(*(m[t] for m in metrics))


@pytest.mark.parametrize(("name", "k"), FORMS)
def test_schedule_is_torchs(name, k):
    options = SCHEDULES[name][k]
    walk([getattr(m, name)(o, **options) for o, m in both()], 25)


@pytest.mark.parametrize("milestones", ([4], [2, 9]))
def test_sequences_are_torchs(milestones):
    made = []
    for o, m in both():
        parts = [m.LinearLR(o, 0.1, total_iters=4), m.CosineAnnealingLR(o, 20), m.StepLR(o, 2)]
        made.append(m.SequentialLR(o, parts[: len(milestones) + 1], milestones))
    walk(made, 20)


def test_chains_are_torchs():
    made = []
    for o, m in both():
        parts = [m.LinearLR(o, 0.1, total_iters=4), m.ExponentialLR(o, 0.9), m.StepLR(o, 5)]
        made.append((o, parts))
    for _ in range(20):
        rates = [[g["lr"] for g in o.param_groups] for o, _ in made]
        np.testing.assert_allclose(*rates, rtol=1e-12)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for _, parts in made:
                for schedule in parts:
                    schedule.step()


@pytest.mark.parametrize(
    "options",
    [
        {"patience": 2},
        {"mode": "max", "factor": 0.5, "patience": 1},
        {"threshold": 0.2, "patience": 1, "cooldown": 3},
        {"threshold": 0.2, "threshold_mode": "abs", "patience": 0, "min_lr": 0.02},
        {"mode": "max", "threshold": 0.1, "threshold_mode": "abs", "patience": 1, "factor": 0.3},
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_plateaus_are_torchs(options, seed):
    metrics = 1 + np.random.default_rng(seed).random(40)
    walk([m.ReduceLROnPlateau(o, **options, **eps) for (o, m), eps in zip(both(), ({}, {"eps": 0}),
          strict=True)], 40, metrics.tolist())  # fmt: skip
