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


def sgd(p, gradients, lr):
    for g in gradients:
        p = p - lr * g
    return p


def adam(p, gradients, lr, betas=(0.9, 0.999), eps=1e-8):
    m, v = np.zeros_like(p), np.zeros_like(p)
    for t, g in enumerate(gradients, 1):
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        p = p - lr * (m / (1 - betas[0] ** t)) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)
    return p


class Row(NamedTuple):
    make: Callable[..., Any]
    loop: Callable[..., np.ndarray]
    options: tuple[dict[str, Any], ...]


OPTIMIZERS = {
    "SGD": Row(tg.optim.SGD, sgd, ({"lr": 0.1}, {"lr": 3.0})),
    "Adam": Row(
        tg.optim.Adam,
        adam,
        ({"lr": 0.1}, {"lr": 0.02, "betas": (0.0, 0.5)}, {"lr": 1e-3, "eps": 0.1}),
    ),
}
CASES = [(name, k) for name, row in OPTIMIZERS.items() for k in range(len(row.options))]
SHAPES = ((), (3,), (2, 4), (0,))


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
    optimizer = OPTIMIZERS[name].make([x], lr=0.02)
    for _ in range(600):
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
    "unexpected": (lambda s: s.update(momentum=np.zeros(3)), "momentum"),
    "shape": (lambda s: s.update(lr=np.zeros(2)), "lr"),
    "steps": (lambda s: s.update(steps=np.zeros(3, int)), "steps"),
    "fractions of steps": (lambda s: s.update(steps=np.full(4, 0.5)), "steps"),
    "text": (lambda s: s.update(lr=np.array("a")), "lr"),
    "complex": (lambda s: s.update(lr=np.array(1j)), "lr"),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("case", WRONG)
def test_wrong_state_is_refused_and_nothing_is_changed(name, case, rng):
    spoil, at = WRONG[case]
    params = leaves(rng)
    optimizer = OPTIMIZERS[name].make(params)
    state = {n: a + 1 for n, a in optimizer.state_dict().items()}
    before = optimizer.state_dict()
    spoil(state)
    with pytest.raises(ValueError, match=rf"^load_state_dict: expected .* {name}, got .*'{at}'"):
        optimizer.load_state_dict(state)
    identical(optimizer.state_dict().values(), before.values())


def test_state_of_another_optimizer_is_refused(rng):
    params = leaves(rng)
    with pytest.raises(ValueError, match=r"this SGD, got another at \['exp_avg\.0', "):
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
    "none": ([], {}, ValueError, r"expected parameters, got none"),
    "a result": ([X, X * 2], {}, TypeError, r"leaves with requires_grad, got Tensor.* at 1"),
    "frozen": ([tg.zeros(1)], {}, TypeError, r"leaves with requires_grad, got Tensor.* at 0"),
    "an array": ([np.ones(2)], {}, TypeError, r"leaves with requires_grad, got array.* at 0"),
    "one tensor": (X, {}, TypeError, r"leaves with requires_grad"),
    "twice": ([X, tg.ones(1, requires_grad=True), X], {}, ValueError, r"once, got one again at 2"),
    "shared memory": ([READ_ONLY], {}, TypeError, r"own memory, got one of from_numpy at 0; use"),
    "negative rate": ([X], {"lr": -0.1}, ValueError, r"expected lr of at least 0, got -0\.1"),
    "rate NaN": ([X], {"lr": math.nan}, ValueError, r"expected lr of at least 0, got nan"),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("case", BAD)
def test_wrong_arguments_are_refused(name, case):
    params, options, error, message = BAD[case]
    with pytest.raises(error, match=f"^{name}: .*{message}"):
        OPTIMIZERS[name].make(params, **options)


@pytest.mark.parametrize("betas", [(1.0, 0.9), (0.9, 1.0), (-0.1, 0.9), (0.9, math.nan), (0.9,)])
def test_adam_refuses_betas_outside_their_range(betas):
    with pytest.raises(ValueError, match=r"^Adam: expected two betas in \[0, 1\), got \("):
        tg.optim.Adam([X], betas=betas)


@pytest.mark.parametrize("eps", (-1e-8, math.nan))
def test_adam_refuses_a_negative_eps(eps):
    with pytest.raises(ValueError, match=r"^Adam: expected eps of at least 0, got"):
        tg.optim.Adam([X], eps=eps)
