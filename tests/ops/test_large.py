"""Laws of primitives on large arrays, where vector code takes NumPy's place: the same results."""

import warnings

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import large
from tinygrad_rnn.autograd.op import PRIMITIVES
from tinygrad_rnn.kernels.elementwise import kernel
from tinygrad_rnn.kernels.elementwise.slow import AHEAD, BACK, LARGE

DTYPES = pytest.mark.parametrize("dtype", ("float64", "float32"))
BINARY = ("divide", "maximum", "minimum")
POWERS = {f"power {k}": k for k in (2, 3, 0.5, -1, -1.5)}
UNARY = {n: PRIMITIVES[n] for n in sorted(AHEAD | BACK - {*BINARY}) if n != "power"}
UNARY |= {name: lambda x, k=k: x**k for name, k in POWERS.items()}
EACH = pytest.mark.parametrize("name", UNARY)
POSITIVE = {"log", "log1p", "sqrt", "rsqrt", *POWERS}


def drawn(name, dtype, size, seed=0):
    x = 2.0 * np.random.default_rng(seed).standard_normal(size)
    return (np.abs(x) + 0.01 if name in POSITIVE else x).astype(dtype)


def results(fn, arrays, g):
    leaves = [tg.Tensor(a, requires_grad=True) for a in arrays]
    value = fn(*leaves)
    return [np.array(v) for v in (value, *tg.grad(value, leaves, tg.Tensor(g)))]


def in_parts(fn, arrays, g):
    """The same on small arrays: by NumPy."""
    step = LARGE // 2
    parts = range(0, len(g), step)
    found = [results(fn, [a[k : k + step] for a in arrays], g[k : k + step]) for k in parts]
    return [np.concatenate(f) for f in zip(*found, strict=True)]


def close(found, expected, g):
    """As rules that read a rounded result let them be: 8 roundings of it, or of the cotangent."""
    for f, e in zip(found, expected, strict=True):
        assert f.shape == e.shape and f.dtype == e.dtype
        odd = ~np.isfinite(e)
        np.testing.assert_array_equal(f[odd], e[odd])
        scale = np.maximum(np.abs(e), np.abs(np.nan_to_num(g)))[~odd]
        assert (np.abs(f - e)[~odd] <= 8 * np.finfo(e.dtype).eps * scale).all()
        assert np.any(e)


@pytest.fixture
def calls(monkeypatch):
    """The calls of kernels."""
    found, call = [], kernel.Kernel.__call__
    monkeypatch.setattr(kernel.Kernel, "__call__", lambda *a: found.append(a) or call(*a))
    return found


@EACH
@DTYPES
def test_values_and_gradients(name, dtype, calls):
    x, g = drawn(name, dtype, LARGE + 77), drawn("", dtype, LARGE + 77, 1)
    expected = in_parts(UNARY[name], [x], g)
    assert not calls
    close(results(UNARY[name], [x], g), expected, g)
    calls.clear()
    results(UNARY[name], [x], g)
    op = name.split()[0]
    assert len(calls) == (op in AHEAD) + (op in BACK)


@EACH
@DTYPES
def test_special_values(name, dtype):
    special = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, 1e30, -1e30, 1e-30]
    x = np.resize(np.array(special, dtype), LARGE + 3)
    g = np.ones(len(x), dtype)
    with np.errstate(all="ignore"):
        found, expected = results(UNARY[name], [x], g), in_parts(UNARY[name], [x], g)
    for f, e in zip(found, expected, strict=True):
        np.testing.assert_allclose(f, e, rtol=16 * np.finfo(dtype).eps)


@pytest.mark.parametrize("name", BINARY)
@DTYPES
@pytest.mark.parametrize("shape", [(300, 200), (200,), (300, 1), (), (1, 1)], ids=str)
def test_gradients_of_two_inputs(name, dtype, shape, calls):
    x, g = drawn("", dtype, (300, 200)), drawn("", dtype, (300, 200), 1)
    y = drawn("sqrt", dtype, shape, 2)
    op = getattr(tg, name)
    found = results(op, [x, y], g)
    assert calls
    wide = np.broadcast_to(y, x.shape)
    expected = in_parts(op, [a.ravel() for a in (x, wide)], g.ravel())
    value, d_x, d_y = (e.reshape(x.shape) for e in expected)
    axes = tuple(k for k, n in enumerate((1, 1, *shape)[-2:]) if n != x.shape[k])
    np.testing.assert_array_equal(found[0], value)
    close([found[1]], [d_x], g)
    summed = d_y.astype(np.float64).sum(axes, keepdims=True).reshape(shape)
    bound = np.finfo(dtype).eps * 20 * np.abs(d_y).sum() / summed.size
    np.testing.assert_allclose(found[2], summed, rtol=1e-5, atol=bound)


def test_numbers_beside_arrays():
    x, g = drawn("", "float32", LARGE), drawn("", "float32", LARGE, 1)
    for fn in (lambda x: x / 3.0, lambda x: 3.0 / x, lambda x: tg.maximum(x, 0.3),
               lambda x: tg.clip(x, -1, 1)):  # fmt: skip
        close(results(fn, [x], g), in_parts(fn, [x], g), g)


@EACH
def test_gradients_of_gradients(name):
    def second(x):
        x = tg.Tensor(x, requires_grad=True)
        (d,) = tg.grad(UNARY[name](x).sum(), [x], create_graph=True)
        if not d.requires_grad:
            return np.zeros(1)
        (dd,) = tg.grad((d * d).sum(), [x], allow_unused=True)
        return np.zeros(1) if dd is None else dd.numpy()

    x = np.clip(drawn(name, "float64", LARGE), -3, 3)
    whole = second(x)
    parts = [second(x[k : k + LARGE // 4]) for k in range(0, LARGE, LARGE // 4)]
    np.testing.assert_allclose(whole, np.resize(np.concatenate(parts), whole.shape), atol=1e-9)


@pytest.mark.parametrize("name", ("tanh", "silu", "sin", "divide"))
@DTYPES
def test_number_of_threads(name, dtype):
    fn = UNARY.get(name) or (lambda x: x / (x * x + 1.0))
    x, g = drawn(name, dtype, 300_001), drawn("", dtype, 300_001, 1)
    before, found = tg.get_num_threads(), []
    for n in (1, 2, 4, 8):
        tg.set_num_threads(n)
        found.append(results(fn, [x], g))
    tg.set_num_threads(before)
    for f in found[1:]:
        for a, b in zip(f, found[0], strict=True):
            np.testing.assert_array_equal(a, b, strict=True)


def test_layouts_and_other_dtypes():
    x = drawn("", "float32", (300, 400))
    expected = np.tanh(x)
    for view in (np.asfortranarray(x), np.repeat(x, 2, 1)[:, ::2], x[::-1].copy()[::-1]):
        np.testing.assert_allclose(tg.tanh(tg.from_numpy(view)).numpy(), expected, rtol=1e-6)
    whole = np.arange(LARGE) % 7
    assert tg.tanh(tg.Tensor(whole)).dtype == np.float64
    np.testing.assert_array_equal(tg.tanh(tg.Tensor(whole)).numpy(), np.tanh(whole))
    row = tg.Tensor(np.full(400, 2.0), requires_grad=True)
    mixed = tg.Tensor(x) / row
    (d,) = tg.grad(mixed.sum(), [row])
    assert mixed.dtype == d.dtype == np.float64
    np.testing.assert_allclose(d.numpy(), -x.astype(np.float64).sum(0) / 4)


def test_definitions_are_numpys(calls):
    x = drawn("", "float32", LARGE)
    with tg.definitions():
        found = results(tg.tanh, [x], x)
    assert not calls
    for f, e in zip(found, in_parts(tg.tanh, [x], x), strict=True):
        np.testing.assert_array_equal(f, e, strict=True)


def test_without_vector_code_numpy_goes_on(monkeypatch):
    def fails(*arguments):
        raise OSError("no processor")

    x = np.linspace(-1, 1, LARGE)
    monkeypatch.setattr(large, "Kernel", fails)
    op = PRIMITIVES["tanh"].op
    monkeypatch.setattr(op, "large", large.Large(op))
    with pytest.warns(RuntimeWarning, match="tanh of large arrays.*no processor") as seen:
        results(tg.tanh, [x], x)
    assert len(seen) == 2  # each way
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = results(tg.tanh, [x], x)
    np.testing.assert_array_equal(found[0], np.tanh(x))
