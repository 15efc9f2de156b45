"""Function transforms are torch.func's."""

import numpy as np
import pytest

import tinygrad_rnn as tg

torch = pytest.importorskip("torch")

from tests.parity.compare import same, several  # noqa: E402

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning"),  # torch's own
]

RNG = np.random.default_rng(0)
W = RNG.standard_normal((3, 3))
X, Y = RNG.standard_normal(3), RNG.standard_normal((2, 3))

# ours, torch's: functions of (x (3,), y (2, 3)) with one element
SCALARS = {
    "polynomial": lambda x, y: (x**3 * y[0] - 2.0 * x * y[1]).sum(),
    "exponentials": lambda x, y: (x * y).exp().sum() + (x * y[0]).tanh().sum(),
    "quotient": lambda x, y: ((x * y) / (1.0 + x * x)).sum(),
    "products": lambda x, y: ((y @ x) ** 2).sum() * x[1],
}
SCALARS = {name: (fn, fn) for name, fn in SCALARS.items()} | {
    "logsumexp": (
        lambda x, y: tg.logsumexp(x * y[0]) + tg.logsumexp(y[1]),
        lambda x, y: torch.logsumexp(x * y[0], 0) + torch.logsumexp(y[1], 0),
    ),
    "network": (
        lambda x, y: (tg.softmax(tg.tanh(y @ W) @ W.T) * x).sum(),
        lambda x, y: (
            torch.softmax(torch.tanh(y @ torch.tensor(W)) @ torch.tensor(W).T, -1) * x
        ).sum(),
    ),
}
# functions with more elements
ARRAYS = {
    "outer": (lambda x, y: tg.outer(x, y[0]) * y[1], lambda x, y: torch.outer(x, y[0]) * y[1]),
    "sines": (lambda x, y: tg.sin(x) * y, lambda x, y: torch.sin(x) * y),
    "softmax": (lambda x, y: tg.softmax(x * y), lambda x, y: torch.softmax(x * y, -1)),
}


def tensors(*arrays):
    return [torch.tensor(a) for a in arrays]


def compare(found, expected):
    found, expected = several(found), several(expected)
    assert len(found) == len(expected)
    for f, e in zip(found, expected, strict=True):
        if isinstance(f, (tuple, list)):
            compare(f, e)
        else:
            same(f, e)


@pytest.mark.parametrize("argnums", (0, 1, (0, 1)), ids=str)
@pytest.mark.parametrize("name", SCALARS)
def test_grad_is_torchs(name, argnums):
    fn, reference = SCALARS[name]
    compare(
        tg.func.grad(fn, argnums)(X, Y),
        torch.func.grad(reference, argnums)(*tensors(X, Y)),
    )
    value, _ = tg.func.value_and_grad(fn, argnums)(X, Y)
    same(value, reference(*tensors(X, Y)))


@pytest.mark.parametrize("name", SCALARS)
def test_hessian_is_torchs(name):
    fn, reference = SCALARS[name]
    for k in (0, 1):
        found, expected = (
            tg.func.hessian(fn, k)(X, Y),
            torch.func.hessian(reference, k)(*tensors(X, Y)),
        )
        same(found, expected)


@pytest.mark.parametrize("name", SCALARS)
def test_third_derivatives_are_torchs(name):
    fn, reference = SCALARS[name]

    def nested(func, fn):
        inner = func.grad(lambda x, y: (func.grad(fn)(x, y) ** 2).sum())
        return func.grad(lambda x, y: (inner(x, y) ** 2).sum(), argnums=(0, 1))

    found = nested(tg.func, fn)(X, Y)
    for f, e in zip(found, nested(torch.func, reference)(*tensors(X, Y)), strict=True):
        same(f, e, rtol=1e-9, atol=1e-9 * float(e.abs().max()))


@pytest.mark.parametrize("name", SCALARS)
def test_hvp_is_torchs(name):
    fn, reference = SCALARS[name]
    t = RNG.standard_normal(3)
    value, product = tg.func.hvp(lambda x: fn(x, tg.Tensor(Y)), (X,), (t,))
    y = torch.tensor(Y)
    _, expected = torch.func.jvp(
        torch.func.grad(lambda x: reference(x, y)), tuple(tensors(X)), tuple(tensors(t))
    )
    same(value, reference(*tensors(X, Y)))
    same(product, expected)


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("argnums", (0, 1))
def test_jacobian_is_torchs(name, argnums):
    fn, reference = ARRAYS[name]
    compare(
        tg.func.jacobian(fn, argnums)(X, Y),
        torch.func.jacrev(reference, argnums)(*tensors(X, Y)),
    )


@pytest.mark.parametrize("name", [*ARRAYS, *SCALARS])
def test_jvp_and_vjp_are_torchs(name):
    fn, reference = (ARRAYS | SCALARS)[name]
    u, v = RNG.standard_normal(3), RNG.standard_normal((2, 3))
    compare(
        tg.func.jvp(fn, (X, Y), (u, v)),
        torch.func.jvp(reference, tuple(tensors(X, Y)), tuple(tensors(u, v))),
    )
    value, pull = tg.func.vjp(fn, X, Y)
    expected, torchs = torch.func.vjp(reference, *tensors(X, Y))
    same(value, expected)
    g = RNG.standard_normal(value.shape)
    compare(pull(g), torchs(torch.tensor(g)))
