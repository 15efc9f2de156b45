"""Optimisers against loops written here in NumPy, and the laws that hold for each of them."""

import math
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tg


def descent(p, g, weight_decay=0.0, maximize=False):
    return (-1 if maximize else 1) * g + weight_decay * p


def sgd(p, gradients, lr=1e-3, momentum=0.0, dampening=0.0, nesterov=False, **rest):
    b = None
    for g in gradients:
        g = descent(p, g, **rest)
        b = g if b is None else momentum * b + (1 - dampening) * g
        p = p - lr * (g + momentum * b if nesterov else b if momentum else g)
    return p


def rmsprop(p, gradients, lr=1e-2, alpha=0.99, eps=1e-8, momentum=0.0, centered=False, **rest):
    v = m = b = 0.0
    for g in gradients:
        g = descent(p, g, **rest)
        v, m = alpha * v + (1 - alpha) * g**2, alpha * m + (1 - alpha) * g
        b = momentum * b + g / (np.sqrt(v - m**2 if centered else v) + eps)
        p = p - lr * b
    return p


def adagrad(p, gradients, lr=1e-2, lr_decay=0.0, initial_accumulator_value=0.0, eps=1e-10, **rest):
    s = initial_accumulator_value
    for t, g in enumerate(gradients):
        g = descent(p, g, **rest)
        s = s + g**2
        p = p - lr / (1 + t * lr_decay) * g / (np.sqrt(s) + eps)
    return p


def adam(p, gradients, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, amsgrad=False, apart=0.0, **rest):
    m, v, largest = np.zeros_like(p), np.zeros_like(p), np.zeros_like(p)
    for t, g in enumerate(gradients, 1):
        g = descent(p, g, **rest)
        p = p * (1 - lr * apart)
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        largest = np.maximum(largest, v)
        spread = (largest if amsgrad else v) / (1 - betas[1] ** t)
        p = p - lr * (m / (1 - betas[0] ** t)) / (np.sqrt(spread) + eps)
    return p


def adamw(p, gradients, weight_decay=1e-2, **rest):
    return adam(p, gradients, apart=weight_decay, **rest)


class Row(NamedTuple):
    make: Callable[..., Any]
    loop: Callable[..., np.ndarray]
    options: tuple[dict[str, Any], ...]


OPTIMIZERS = {
    "SGD": Row(
        tg.optim.SGD,
        sgd,
        (
            {"lr": 0.1},
            {"lr": 3.0, "weight_decay": 0.1},
            {"lr": 0.1, "momentum": 0.9},
            {"lr": 0.1, "momentum": 0.5, "dampening": 0.3, "weight_decay": 0.2},
            {"lr": 0.1, "momentum": 0.8, "nesterov": True, "maximize": True},
        ),
    ),
    "RMSprop": Row(
        tg.optim.RMSprop,
        rmsprop,
        (
            {"lr": 0.1},
            {"lr": 0.02, "alpha": 0.5, "momentum": 0.9},
            {"lr": 0.02, "centered": True, "eps": 0.01},
            {"lr": 0.1, "centered": True, "momentum": 0.7, "weight_decay": 0.1, "eps": 0.1},
            {"lr": 0.1, "maximize": True},
        ),
    ),
    "Adagrad": Row(
        tg.optim.Adagrad,
        adagrad,
        (
            {"lr": 0.1},
            {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.3},
            {"lr": 0.5, "initial_accumulator_value": 2.0, "eps": 0.1, "maximize": True},
        ),
    ),
    "Adam": Row(
        tg.optim.Adam,
        adam,
        (
            {"lr": 0.1},
            {"lr": 0.02, "betas": (0.0, 0.5)},
            {"lr": 1e-3, "eps": 0.1, "weight_decay": 0.5},
            {"lr": 0.1, "amsgrad": True, "betas": (0.9, 0.5), "maximize": True},
        ),
    ),
    "AdamW": Row(
        tg.optim.AdamW,
        adamw,
        (
            {"lr": 0.1},
            {"lr": 0.1, "weight_decay": 0.0},
            {"lr": 0.5, "weight_decay": 2.0},
            {"lr": 0.1, "weight_decay": 0.3, "amsgrad": True, "betas": (0.7, 0.4)},
        ),
    ),
}
CASES = [(name, k) for name, row in OPTIMIZERS.items() for k in range(len(row.options))]
SHAPES = ((), (3,), (2, 4), (0,), (5, 7))


def leaves(rng, dtype="float64", shapes=SHAPES):
    return [tg.Tensor(rng.standard_normal(s).astype(dtype), requires_grad=True) for s in shapes]


def give(params, gradients):
    for p, g in zip(params, gradients, strict=True):
        p.grad = None if g is None else tg.Tensor(np.asarray(g, p.dtype))


def drawn(rng, params, steps):
    return [[rng.standard_normal(p.shape) for p in params] for _ in range(steps)]


def arrays(params):
    return [p.numpy().copy() for p in params]


def identical(found, expected):
    for f, e in zip(found, expected, strict=True):
        np.testing.assert_array_equal(f, e, strict=True)


# What a step does


@given(
    st.sampled_from(CASES),
    st.integers(0, 20),
    st.sampled_from(("float32", "float64")),
    st.integers(0, 2**32 - 1),
)
def test_steps_follow_the_equations(case, steps, dtype, seed):
    row, rng = OPTIMIZERS[case[0]], np.random.default_rng(seed)
    options = row.options[case[1]]
    params = leaves(rng, dtype)
    start = [p.astype(np.float64) for p in arrays(params)]
    optimizer, history = row.make(params, **options), drawn(rng, params, steps)
    for gradients in history:
        give(params, gradients)
        optimizer.step()
    tolerance = (
        {"rtol": 1e-11, "atol": 1e-12} if dtype == "float64" else {"rtol": 1e-4, "atol": 1e-4}
    )
    for k, (p, a) in enumerate(zip(params, start, strict=True)):
        assert p.dtype == np.dtype(dtype) and p.shape == a.shape
        expected = row.loop(a, [g[k] for g in history], **options)
        np.testing.assert_allclose(p.numpy(), expected, **tolerance)


def test_sgd_on_a_parabola_shrinks_by_one_factor():
    x = tg.Tensor(np.array([3.0, -1.0]), requires_grad=True)
    optimizer = tg.optim.SGD([x], lr=0.1)
    for _ in range(30):
        optimizer.zero_grad()
        (x * x).sum().backward()
        optimizer.step()
    np.testing.assert_allclose(x.numpy(), np.array([3.0, -1.0]) * 0.8**30, rtol=1e-12)


@pytest.mark.parametrize("size", (1e-3, 1.0, 1e6))
def test_first_step_of_adam_is_the_rate_along_the_sign(size):
    x = tg.Tensor(np.zeros(3), requires_grad=True)
    optimizer = tg.optim.Adam([x], lr=0.25, eps=0.0)
    give([x], [[size, -2 * size, 3 * size]])
    optimizer.step()
    np.testing.assert_allclose(x.numpy(), [-0.25, 0.25, -0.25], rtol=1e-12)


def test_adam_under_a_constant_gradient_moves_evenly():
    x = tg.Tensor(np.zeros(1), requires_grad=True)
    optimizer = tg.optim.Adam([x], lr=0.5, eps=0.0)
    for t in range(1, 40):
        give([x], [[-7.0]])
        optimizer.step()
        assert x.item() == pytest.approx(0.5 * t, rel=1e-11)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_finds_the_least_squares_solution(name, rng):
    a, b = rng.standard_normal((20, 3)), rng.standard_normal(20)
    x = tg.Tensor(np.zeros(3), requires_grad=True)
    rate, falling = {"RMSprop": (0.05, 0.985), "Adagrad": (0.5, 1.0)}.get(name, (0.02, 1.0))
    optimizer = OPTIMIZERS[name].make([x], lr=rate)
    for _ in range(600):
        optimizer.lr *= falling
        optimizer.zero_grad()
        ((tg.matmul(a, x) - b) ** 2).mean().backward()
        optimizer.step()
    np.testing.assert_allclose(x.numpy(), np.linalg.lstsq(a, b)[0], atol=1e-3)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_zero_rate_changes_nothing(name, rng):
    params = leaves(rng)
    before, optimizer = arrays(params), OPTIMIZERS[name].make(params, lr=0)
    for gradients in drawn(rng, params, 3):
        give(params, gradients)
        optimizer.step()
    identical(arrays(params), before)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_rate_may_change_between_steps(name, rng):
    params = leaves(rng)
    others = [tg.Tensor(p.numpy(), requires_grad=True) for p in params]
    make = OPTIMIZERS[name].make
    changing, fixed = make(params, lr=0.5), make(others, lr=0.1)
    changing.lr = 0.1
    (gradients,) = drawn(rng, params, 1)
    give(params, gradients), give(others, gradients)
    changing.step(), fixed.step()
    identical(arrays(params), arrays(others))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_gradients_are_read_and_not_changed(name, rng):
    params = leaves(rng)
    (gradients,) = drawn(rng, params, 1)
    give(params, gradients)
    OPTIMIZERS[name].make(params).step()
    identical([p.grad.numpy() for p in params], [np.asarray(g) for g in gradients])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_huge_gradients_do_not_stop_a_step_halfway(name):
    x, y = (tg.Tensor(np.zeros(2, np.float32), requires_grad=True) for _ in range(2))
    optimizer = OPTIMIZERS[name].make([x, y], lr=10.0)
    give([x, y], [[3e38, 3e38], [1.0, 1.0]])
    optimizer.step()
    assert y.numpy().all()


# Parameters without a gradient


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_parameters_without_gradient_stay(name, rng):
    params = leaves(rng, shapes=((3,), (3,)))
    before, optimizer = arrays(params), OPTIMIZERS[name].make(params, lr=0.1)
    give(params, [None, np.ones(3)])
    optimizer.step()
    identical([params[0].numpy()], [before[0]])
    assert (params[1].numpy() != before[1]).all()


@pytest.mark.parametrize(("name", "k"), CASES)
def test_parameter_that_waits_starts_afresh(name, k, rng):
    row, options = OPTIMIZERS[name], OPTIMIZERS[name].options[k]
    params = leaves(rng, shapes=((3,), (3,)))
    start, optimizer = arrays(params), row.make(params, **options)
    history = drawn(rng, params, 9)
    for t, (first, second) in enumerate(history):
        give(params, [first, second if t % 3 == 2 else None])
        optimizer.step()
    seen = [[g[0] for g in history], [g[1] for g in history[2::3]]]
    for p, a, gradients in zip(params, start, seen, strict=True):
        np.testing.assert_allclose(p.numpy(), row.loop(a, gradients, **options), rtol=1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_step_without_any_gradient_does_nothing(name, rng):
    params = leaves(rng)
    before, optimizer = arrays(params), OPTIMIZERS[name].make(params)
    state = optimizer.state_dict()
    optimizer.step()
    identical(arrays(params), before)
    identical(optimizer.state_dict().values(), state.values())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_zero_grad_forgets_and_passes_over_frozen_parameters(name, rng):
    params = leaves(rng)
    optimizer = OPTIMIZERS[name].make(iter(params))
    give(params, drawn(rng, params, 1)[0])
    params[0].requires_grad = False
    optimizer.step()
    optimizer.zero_grad()
    assert all(p.grad is None for p in params)


# State


@pytest.mark.parametrize(("name", "k"), CASES)
@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("copied", (dict, lambda s: pickle.loads(pickle.dumps(s))))
def test_resumed_run_is_bit_equal(name, k, dtype, copied, rng):
    row, options = OPTIMIZERS[name], OPTIMIZERS[name].options[k]
    params = leaves(rng, dtype)
    optimizer, history = row.make(params, **options), drawn(rng, params, 12)
    history[3][1] = None

    def run(optimizer, params, gradients):
        for g in gradients:
            give(params, g)
            optimizer.step()

    run(optimizer, params, history[:5])
    others = [tg.Tensor(p.numpy(), requires_grad=True) for p in params]
    resumed = row.make(others, **options | {"lr": 9.0})
    resumed.load_state_dict(copied(optimizer.state_dict()))
    run(optimizer, params, history[5:])
    run(resumed, others, history[5:])
    identical(arrays(others), arrays(params))
    assert resumed.state_dict().keys() == optimizer.state_dict().keys()
    identical(resumed.state_dict().values(), optimizer.state_dict().values())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_is_a_copy_both_ways(name, rng):
    params = leaves(rng)
    optimizer = OPTIMIZERS[name].make(params, lr=0.1)
    give(params, drawn(rng, params, 1)[0])
    optimizer.step()
    kept = optimizer.state_dict()
    spoiled = optimizer.state_dict()
    optimizer.load_state_dict(spoiled)
    for a in spoiled.values():
        a[...] = 77
    identical(optimizer.state_dict().values(), kept.values())
    assert all(type(a) is np.ndarray for a in kept.values())


WRONG = {
    "missing": (lambda s: s.pop("lr"), "lr"),
    "unexpected": (lambda s: s.update(speed=np.zeros(3)), "speed"),
    "shape": (lambda s: s.update(lr=np.zeros(2)), "lr"),
    "steps": (lambda s: s.update(steps=np.zeros(3, int)), "steps"),
    "fractions of steps": (lambda s: s.update(steps=np.full(5, 0.5)), "steps"),
    "steps below 0": (lambda s: s["steps"].__setitem__(2, -1), "steps"),
    "other groups": (lambda s: s.update(params=np.array([4])), "params"),
    "more groups": (lambda s: s.update(params=np.array([4, 1])), "params"),
    "text": (lambda s: s.update(lr=np.array("a")), "lr"),
    "complex": (lambda s: s.update(lr=np.array(1j)), "lr"),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("case", WRONG)
def test_wrong_state_is_refused_and_nothing_is_changed(name, case, rng):
    spoil, at = WRONG[case]
    params = leaves(rng)
    optimizer = OPTIMIZERS[name].make(params)
    fixed = ("params", *optimizer.defaults)
    state = {n: a if n in fixed else a + 1 for n, a in optimizer.state_dict().items()}
    before = optimizer.state_dict()
    spoil(state)
    with pytest.raises(ValueError, match=rf"^load_state_dict: expected .* {name}, got .*'{at}'"):
        optimizer.load_state_dict(state)
    identical(optimizer.state_dict().values(), before.values())


@pytest.mark.parametrize("state", (None, 3, [("lr", 0.1)]))
def test_what_is_no_state_is_refused(state, rng):
    with pytest.raises(ValueError, match=r"^load_state_dict: expected the state of this SGD, got"):
        tg.optim.SGD(leaves(rng)).load_state_dict(state)


def test_a_state_too_large_for_the_dtype_is_not_taken_by_half():
    """NumPy's warning is an error here: nothing is written before all fits."""
    params = [tg.ones(2, requires_grad=True), tg.ones(3, requires_grad=True)]
    optimizer = tg.optim.Adam(params)
    before = optimizer.state_dict()
    state = {n: a + 1 if a.dtype == np.float32 else a for n, a in before.items()}
    state["exp_avg_sq.1"] = np.full(3, 1e300)
    with pytest.raises(RuntimeWarning, match="overflow encountered in cast"):
        optimizer.load_state_dict(state)
    identical(optimizer.state_dict().values(), before.values())


def test_state_of_another_optimizer_is_refused(rng):
    params = leaves(rng)
    with pytest.raises(ValueError, match=r"this SGD, got another at \['amsgrad', "):
        tg.optim.SGD(params).load_state_dict(tg.optim.Adam(params).state_dict())


# Writes


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_step_before_backward_is_noticed(name):
    x = tg.Tensor([1.0, 2.0], requires_grad=True)
    optimizer = OPTIMIZERS[name].make([x])
    older = (x * x).sum()
    (x**3).sum().backward()
    optimizer.step()
    with pytest.raises(RuntimeError, match=r"that 'multiply' saved was changed in place"):
        older.backward()
    (x * x).sum().backward()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_step_of_a_layer_makes_its_older_graphs_stale(name):
    layer = tg.nn.LSTM(2, 3)
    optimizer = OPTIMIZERS[name].make(layer.parameters())
    x = tg.ones(4, 1, 2)
    older = layer(x, None)[0].sum()
    layer(x)[0].sum().backward()
    optimizer.step()
    with pytest.raises(RuntimeError, match=r"^backward: an array that '\w+' saved was changed"):
        older.backward()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_step_leaves_graphs_of_other_parameters_alone(name):
    x, y = (tg.Tensor([1.0, 2.0], requires_grad=True) for _ in range(2))
    older = (y * y).sum()
    give([x], [[1.0, 1.0]])
    OPTIMIZERS[name].make([x]).step()
    older.backward()
    identical([y.grad.numpy()], [np.float32([2, 4])])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_step_writes_in_place_and_reads_no_shared_gradient(name):
    x, y = (tg.Tensor([1.0, 2.0], requires_grad=True) for _ in range(2))
    seen = x.numpy()
    (x + y).sum().backward()
    OPTIMIZERS[name].make([x, y], lr=0.5).step()
    assert np.shares_memory(seen, x.numpy()) and (seen != [1, 2]).all()
    identical([x.grad.numpy()] * 2, [np.ones(2, np.float32), y.grad.numpy()])


# What a user reads after a mistake

X = tg.Tensor([1.0], requires_grad=True)
READ_ONLY = tg.from_numpy(np.ones(2))
READ_ONLY.requires_grad = True
BAD = {
    "none": ([], {}, ValueError, r"expected parameters, got none in \[\]"),
    "a module": (tg.nn.Linear(2, 3), {}, ValueError, r"parameters, got none in Linear\("),
    "a result": ([X, X * 2], {}, TypeError, r"leaves with requires_grad, got Tensor.* at 1"),
    "frozen": ([tg.zeros(1)], {}, TypeError, r"leaves with requires_grad, got Tensor.* at 0"),
    "an array": ([np.ones(2)], {}, TypeError, r"leaves with requires_grad, got array.* at 0"),
    "one tensor": (X, {}, TypeError, r"leaves with requires_grad"),
    "twice": ([X, tg.ones(1, requires_grad=True), X], {}, ValueError, r"once, got one again at 2"),
    "shared memory": (
        [READ_ONLY],
        {},
        TypeError,
        r"own leaves .*, got one of from_numpy at 0; use",
    ),
    "negative rate": ([X], {"lr": -0.1}, ValueError, r"expected lr of at least 0, got -0\.1"),
    "rate NaN": ([X], {"lr": math.nan}, ValueError, r"expected lr of at least 0, got nan"),
    "rate no number": ([X], {"lr": "fast"}, ValueError, r"expected lr of at least 0, got 'fast'"),
    "rate None": ([X], {"lr": None}, ValueError, r"expected lr of at least 0, got None"),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("case", BAD)
def test_wrong_arguments_are_refused(name, case):
    params, options, error, message = BAD[case]
    with pytest.raises(error, match=f"^{name}: .*{message}"):
        OPTIMIZERS[name].make(params, **options)


BETAS = [(1.0, 0.9), (0.9, 1.0), (-0.1, 0.9), (0.9, math.nan), (0.9,), 0.9, (0.9, "b")]


@pytest.mark.parametrize("betas", BETAS)
def test_adam_refuses_betas_outside_their_range(betas):
    with pytest.raises(ValueError, match=r"^Adam: expected two betas in \[0, 1\), got "):
        tg.optim.Adam([X], betas=betas)


def test_sgd_refuses_a_dampening_that_is_no_number():
    with pytest.raises(ValueError, match=r"^SGD: expected dampening of at least -inf, got 'a'"):
        tg.optim.SGD([X], dampening="a")


NUMBERS = [
    (name, option)
    for name in OPTIMIZERS
    for option, value in OPTIMIZERS[name].make([X]).defaults.items()
    if isinstance(value, float) and option != "dampening"
]


@pytest.mark.parametrize(("name", "option"), NUMBERS)
@pytest.mark.parametrize("value", (-1e-8, math.nan))
def test_options_below_zero_are_refused(name, option, value):
    with pytest.raises(ValueError, match=rf"^{name}: expected {option} of at least 0, got"):
        OPTIMIZERS[name].make([X], **{option: value})


@pytest.mark.parametrize("options", ({}, {"momentum": 0.9, "dampening": 0.1}))
def test_nesterov_needs_a_momentum_and_no_dampening(options):
    message = r"^SGD: expected a momentum, no dampening with nesterov, got momentum"
    with pytest.raises(ValueError, match=message):
        tg.optim.SGD([X], nesterov=True, **options)


# Groups


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_groups_are_updated_by_their_own_options(name, rng):
    make, loop, (first, second, *_) = OPTIMIZERS[name]
    params = leaves(rng, shapes=((3,), (4,), (2, 2)))
    start, history = arrays(params), drawn(rng, params, 6)
    optimizer = make([{"params": params[:2]}, {"params": params[2], **second}], **first)
    for gradients in history:
        give(params, gradients)
        optimizer.step()
    for k, (p, a) in enumerate(zip(params, start, strict=True)):
        options = first if k < 2 else {**first, **second}
        expected = loop(a, [g[k] for g in history], **options)
        np.testing.assert_allclose(p.numpy(), expected, rtol=1e-11)
        assert (p.numpy() != a).all()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_group_added_later_starts_afresh(name, rng):
    make, loop, (options, *_) = OPTIMIZERS[name]
    params = leaves(rng, shapes=((3,), (4,)))
    start, history = arrays(params), drawn(rng, params, 7)
    optimizer = make(params[:1], **options)
    for t, gradients in enumerate(history):
        if t == 3:
            optimizer.add_param_group({"params": iter(params[1:]), "lr": 0.25})
        give(params, gradients)
        optimizer.step()
    later = loop(start[1], [g[1] for g in history[3:]], **{**options, "lr": 0.25})
    np.testing.assert_allclose(params[1].numpy(), later, rtol=1e-11)
    first = loop(start[0], [g[0] for g in history], **options)
    np.testing.assert_allclose(params[0].numpy(), first, rtol=1e-11)
    assert [len(g["params"]) for g in optimizer.param_groups] == [1, 1]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_options_of_groups_are_part_of_the_state(name, rng):
    make, _, options = OPTIMIZERS[name]
    params = leaves(rng, shapes=((3,), (4,)))
    groups = [{"params": [p]} for p in params]
    optimizer = make(groups, **options[-1])
    optimizer.param_groups[1]["lr"] = 1 / 3
    others = [{"params": [tg.Tensor(p.numpy(), requires_grad=True)]} for p in params]
    resumed = make(others, **options[-1])
    resumed.load_state_dict(optimizer.state_dict())
    assert [g["lr"] for g in resumed.param_groups] == [options[-1]["lr"], 1 / 3]
    identical(resumed.state_dict().values(), optimizer.state_dict().values())


def test_lr_is_the_first_groups_and_sets_all(rng):
    x, y = leaves(rng, shapes=((1,), (1,)))
    optimizer = tg.optim.SGD([{"params": [x], "lr": 0.5}, {"params": [y]}], lr=0.1)
    assert optimizer.lr == 0.5
    optimizer.lr = 0.25
    assert [g["lr"] for g in optimizer.param_groups] == [0.25, 0.25]


Y = tg.Tensor([2.0], requires_grad=True)
BAD_GROUPS = {
    "no dict": ([Y], TypeError, r"a dict with 'params', got \["),
    "no params": ({"lr": 1.0}, TypeError, r"a dict with 'params', got \{'lr': 1\.0\}"),
    "unknown": ({"params": [Y], "rate": 1}, ValueError, r"options \['lr', .*, got \['rate'\]"),
    "bad": ({"params": [Y], "lr": -1}, ValueError, r"lr of at least 0, got -1"),
    "again": ({"params": [X]}, ValueError, r"each parameter once, got one again at 0"),
    "same memory": (
        {"params": [Y, "alias"]},
        ValueError,
        r"each parameter once, got one again at 1",
    ),
    "a result": ({"params": Y * 2}, TypeError, r"own leaves with requires_grad, got Tensor"),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("case", BAD_GROUPS)
def test_wrong_groups_are_refused_and_nothing_is_changed(name, case):
    group, error, message = BAD_GROUPS[case]
    if case == "same memory":
        alias = Y.detach()
        alias.requires_grad = True
        group = {"params": [Y, alias]}
    optimizer = OPTIMIZERS[name].make([X])
    with pytest.raises(error, match=f"^{name}: expected {message}"):
        optimizer.add_param_group(group)
    assert len(optimizer.param_groups) == 1 and len(optimizer.state_dict()["steps"]) == 1


# Kernels


def trained(name, k, threads=1, definition=False, order="C", dtype="float32", steps=4):
    """Parameters and state after some steps on arrays that are worth two threads."""
    rng = np.random.default_rng(0)
    params = [
        tg.Tensor(np.asarray(rng.standard_normal(s), dtype, order=order), requires_grad=True)
        for s in ((211, 307), (), (1,), (16, 1), (37,), (0, 3), (2, 30_001))
    ]
    optimizer = OPTIMIZERS[name].make(params, **OPTIMIZERS[name].options[k])
    usual = tg.get_num_threads()
    tg.set_num_threads(threads)
    try:
        for gradients in drawn(rng, params, steps):
            give(params, gradients)
            if definition:
                with tg.definitions():
                    optimizer.step()
            else:
                optimizer.step()
    finally:
        tg.set_num_threads(usual)
    return [*arrays(params), *optimizer.state_dict().values()]


@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize(("name", "k"), CASES)
def test_kernel_and_definition_give_the_same_bits(name, k, dtype):
    identical(trained(name, k, dtype=dtype), trained(name, k, definition=True, dtype=dtype))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_threads_give_the_same_bits(name):
    expected = trained(name, -1)
    for threads in (2, 3, 8):
        identical(trained(name, -1, threads), expected)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_order_of_parameters_in_memory_does_not_matter(name):
    identical(trained(name, -1, order="F"), trained(name, -1))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_parameters_that_are_views_are_updated_in_place(name, rng):
    whole = tg.Tensor(rng.standard_normal((6, 5)))
    view, copy = whole[::2, 1:4].detach(), tg.Tensor(whole.numpy()[::2, 1:4])
    before, (gradients,) = whole.numpy().copy(), drawn(rng, [view], 1)
    for p in (view, copy):
        p.requires_grad = True
        give([p], gradients)
        OPTIMIZERS[name].make([p], lr=0.1).step()
    identical([view.numpy()], [copy.numpy()])
    changed = whole.numpy() != before
    assert changed[::2, 1:4].all() and changed.sum() == view.size


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_nan_and_inf_stay_where_they_are(name):
    x = tg.Tensor(np.ones(40, np.float32), requires_grad=True)
    optimizer = OPTIMIZERS[name].make([x], lr=0.1)
    g = np.ones(40)
    g[3], g[17] = math.nan, math.inf
    for _ in range(2):
        give([x], [g])
        optimizer.step()
    bad = ~np.isfinite(x.numpy())
    assert bad[3] and np.isnan(x.numpy()[3]) and bad.sum() == (1 + bad[17])
    assert (x.numpy()[np.arange(40) % 14 != 3] < 1).all()
