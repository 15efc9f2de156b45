"""Laws of the vector code of primitives: accuracy, special values, NaN, widths and tails."""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
import pytest

from tinygrad_rnn.autograd.op import PRIMITIVES
from tinygrad_rnn.kernels.emit import Module
from tinygrad_rnn.kernels.machine import Library
from tinygrad_rnn.kernels.pointwise.lanes import Lane
from tinygrad_rnn.kernels.pointwise.table import POINTWISE

WIDTHS = (4, 8, 16)
DTYPES = (np.float32, np.float64)
DOUBLE = np.finfo(np.longdouble).nmant == 52  # then NumPy's own errors count
BINARY = {
    "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.divide,
    "maximum": np.maximum, "minimum": np.minimum, "equal": np.equal, "not_equal": np.not_equal,
    "less": np.less, "less_equal": np.less_equal, "greater": np.greater,
    "greater_equal": np.greater_equal,
}  # fmt: skip
EXPONENTS = {f"power {k / 2}": k / 2 for k in range(-6, 11)}


def _erfc(x, rest=0):
    """erfc(x + rest); math.erfc is off by up to 2 units itself."""
    wide, x = np.longdouble, x.astype(np.float64)
    slope = -2 / np.sqrt(wide(np.pi)) * np.exp(-(x.astype(wide) ** 2))
    return np.vectorize(math.erfc)(x).astype(wide) + slope * rest


def _normal_cdf(x):
    z = -np.clip(x, -100, 100).astype(np.longdouble) * np.sqrt(np.longdouble(0.5))
    return _erfc(z, z - z.astype(np.float64)) / 2


def _sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def _log1p_decay(x):
    return np.log1p(np.exp(-np.abs(x)))


# In NumPy, for a wider dtype than the one that is tested.
UNARY = {
    "negative": np.negative,
    "abs": np.abs,
    "sign": np.sign,
    "square": np.square,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "relu": lambda x: np.where(x <= 0, 0, x),
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "tanh": np.tanh,
    "sin": np.sin,
    "cos": np.cos,
    "sigmoid": _sigmoid,
    "silu": lambda x: np.maximum(x, -10000) * _sigmoid(np.maximum(x, -10000)),
    "softplus": lambda x: np.maximum(x, 0) + _log1p_decay(x),
    "log_sigmoid": lambda x: np.minimum(x, 0) - _log1p_decay(x),
    "erf": lambda x: np.vectorize(math.erf)(x.astype(np.float64)),
    "erfc": _erfc,
    "normal_cdf": _normal_cdf,
}
MASKS = {"equal", "not_equal", "less", "less_equal", "greater", "greater_equal"}
ARGUMENTS = {name: 1 for name in UNARY} | {name: 2 for name in BINARY} | {"where": 3}
PROGRAMS = {name: (POINTWISE[name], n) for name, n in ARGUMENTS.items() if name in POINTWISE} | {
    name: (functools.partial(POINTWISE["power"], exponent=k), 1) for name, k in EXPONENTS.items()
}


@functools.cache
def programs(dtype, width):
    """Every program of this dtype and vector width, which the environment has been told."""
    module = Module(dtype)
    for name, (write, n) in PROGRAMS.items():
        arguments = ["out", *(f"x{k}" for k in range(n)), "count", "times"]
        with module.function(f"of {name}", arguments) as (e, (out, *xs, count, times)):
            whole = count - count % e.lanes

            def at(i, mask=None, e=e, out=out, xs=xs, write=write, name=name):
                lanes = [Lane(e, e.load(x + i * e.size, mask)) for x in xs]
                result = write(*lanes)
                if name in MASKS:
                    result = result.select(lanes[0].constant(1.0), 0.0)
                e.store(out + i * e.size, result.value, mask)

            with e.loop(0, times):
                with e.loop(0, whole, e.lanes) as i:
                    at(i)
                with e.when(whole < count):
                    at(whole, e.mask(count - whole))
    library = Library(module.compiled(), [f"of {name}" for name in PROGRAMS])
    return {name: library.function(f"of {name}", n + 3) for name, (_, n) in PROGRAMS.items()}


def run(name, width, *xs, times=1):
    out = np.empty_like(xs[0])
    addresses = [a.ctypes.data for a in (out, *xs)]
    programs(out.dtype, width)[name](*addresses, out.size, times)
    return out


def wide(x):
    return x.astype(np.float64 if x.dtype == np.float32 else np.longdouble)


def units(got, want):
    """Distance in units of the last place, or in the smallest steps below the normal numbers."""
    kind, exact = np.finfo(got.dtype), want.astype(np.longdouble)
    finite = np.where(np.isinf(got), np.copysign(np.ldexp(np.longdouble(1), kind.maxexp), got), got)
    step = np.maximum(np.frexp(exact)[1] - kind.nmant - 1, kind.minexp - kind.nmant)
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.abs(finite - exact) / np.ldexp(np.longdouble(1), step)
        same = (np.isnan(got) & np.isnan(exact)) | (got == exact.astype(got.dtype))
    return np.where(same, 0, np.where(np.isnan(apart), np.inf, apart)).astype(np.float64)


def specials(dtype):
    kind = np.finfo(dtype)
    sizes = [0, kind.smallest_subnormal, 3 * kind.smallest_subnormal, kind.tiny, kind.eps, 0.5, 1]
    sizes += [2, 30, 88.5, 100, 104, 709.5, 744, 1e4, kind.max, np.inf]
    below = np.nextafter(kind.tiny, dtype(0))
    return np.array([s * size for size in [*sizes, below] for s in (1, -1)], dtype)


def samples(dtype, count, seed=0):
    """Special values, bit patterns drawn uniformly, and numbers where the functions bend."""
    rng = np.random.default_rng(seed)
    integer = np.dtype(f"u{np.dtype(dtype).itemsize}")
    patterns = rng.integers(0, np.iinfo(integer).max, count // 2, integer, True).view(dtype)
    bends = rng.choice([-1, 1], count // 2) * np.exp(rng.uniform(-18, 7, count // 2))
    x = np.concatenate([specials(dtype), patterns, bends.astype(dtype)])
    return x[~np.isnan(x)]


@pytest.fixture(params=WIDTHS)
def width(request, monkeypatch):
    monkeypatch.setenv("TINYGRAD_RNN_VECTOR", str(request.param))
    return request.param


@functools.cache
def expected(name, dtype, count):
    x = samples(dtype, count)
    with np.errstate(all="ignore"):
        if name.startswith("power"):
            return x, np.sqrt(wide(x)) if name == "power 0.5" else np.power(
                wide(x), EXPONENTS[name]
            )
        return x, UNARY[name](wide(x))


dtypes = pytest.mark.parametrize("dtype", DTYPES)


def test_names():
    names = {primitive.rstrip("_") for primitive in PRIMITIVES}
    assert set(POINTWISE) <= names
    assert set(POINTWISE) - {"power"} <= set(ARGUMENTS), "a row is missing here"


@dtypes
@pytest.mark.parametrize("name", [n for n, (_, k) in PROGRAMS.items() if k == 1])
def test_accuracy(name, dtype, width):
    x, want = expected(name, dtype, 10_000)
    got = run(name, width, x)
    slack = 2 * (dtype == np.float64 and (DOUBLE or name in ("erf", "erfc", "normal_cdf")))
    apart, bound = units(got, want), np.where(np.abs(want) < np.finfo(dtype).tiny, 2, 4)
    bad = ~(apart <= bound + slack)
    assert not bad.any(), (x[bad][:5], got[bad][:5], want[bad][:5], apart.max())
    signed = (got != 0) | (want == 0)
    wrong = signed & ~np.isnan(want) & (np.signbit(got) != np.signbit(want))
    assert not wrong.any(), (x[wrong][:5], got[wrong][:5], want[wrong][:5])
    assert np.isfinite(got).mean() > 0.1 and np.any(got != 0)


@dtypes
@pytest.mark.parametrize("name", ["sin", "cos"])
def test_near_zeros_of_sin_and_cos(name, dtype, width):
    x = (np.append(np.arange(0.0, 63000, 9), 2.0 ** np.arange(40)) * (np.pi / 2)).astype(dtype)
    got, want = run(name, width, x), UNARY[name](wide(x))
    assert units(got, want).max() <= 4 + 2 * (DOUBLE and dtype == np.float64)
    assert (np.abs(want) < 1e-3).sum() > 2000


@dtypes
@pytest.mark.parametrize("name", BINARY)
def test_arithmetic_is_numpys(name, dtype, width):
    corner = np.append(specials(dtype), dtype(np.nan))
    pairs = np.array(list(itertools.product(corner, corner)), dtype).T
    x, y = (np.append(a, samples(dtype, 4000, seed)[:4000]) for seed, a in enumerate(pairs))
    with np.errstate(all="ignore"):
        want = BINARY[name](x, y).astype(dtype)
    got = run(name, width, x, y)
    np.testing.assert_array_equal(got, want)
    zero = (want == 0) & ~((x == 0) & (y == 0) & (name in ("maximum", "minimum")))
    assert np.array_equal(np.signbit(got[zero]), np.signbit(want[zero]))
    assert np.any(got != 0)


@dtypes
def test_where(dtype, width):
    condition = np.array([0, -0.0, 1, np.nan, -2, np.inf] * 7, dtype)
    x, y = samples(dtype, 2000)[:84].reshape(2, 42)
    x[4:8], y[:2] = np.nan, np.inf
    got = run("where", width, condition, np.array(x), np.array(y))
    np.testing.assert_array_equal(got, np.where(condition, x, y))


@dtypes
@pytest.mark.parametrize("name", [n for n in PROGRAMS if n not in MASKS | {"where", "power 0.0"}])
def test_nan_stays(name, dtype, width):
    n = PROGRAMS[name][1]
    for k in range(n):
        xs = [np.array([0, 1, -1, np.inf, -np.inf, 1e-40, 50], dtype) for _ in range(n)]
        xs[k] = np.array([np.nan, -np.nan] * 3 + [np.nan], dtype)
        assert np.isnan(run(name, width, *xs)).all()


@dtypes
@pytest.mark.parametrize("name", ["exp", "tanh", "sigmoid", "log1p", "normal_cdf", "add"])
def test_tails_and_positions(name, dtype, width):
    lanes, n = width * 4 // np.dtype(dtype).itemsize, PROGRAMS[name][1]
    whole = np.linspace(-3, 3, 2 * lanes, dtype=dtype)
    want = run(name, width, *[whole] * n)
    for count in range(2 * lanes):
        memory = np.full(2 * lanes + 2, np.nan, dtype)
        call = programs(np.dtype(dtype), width)[name]
        call(memory[1:].ctypes.data, *[whole.ctypes.data] * n, count, 1)
        np.testing.assert_array_equal(memory[1 : count + 1], want[:count])
        assert np.isnan(memory[0]) and np.isnan(memory[count + 1 :]).all()
        one = [np.array(whole[count : count + 1])] * n
        np.testing.assert_array_equal(run(name, width, *one), want[count : count + 1])


@dtypes
def test_nothing_is_reordered(dtype, width, monkeypatch):
    module, big = Module(dtype), 4 / np.finfo(dtype).eps
    with module.function("sums", ["out", "x"]) as (e, (out, x)):
        lane = Lane(e, e.load(x))
        rows = (lane + big) - big, lane * lane - lane * lane, lane.fma(lane, -(lane * lane))
        for k, row in enumerate(rows):
            e.store(out + k * e.lanes * e.size, row.value)
    library = Library(module.compiled(), ["sums"])
    x = np.full(module.lanes, 1 + 3 * np.finfo(dtype).eps, dtype)
    out = np.empty((3, module.lanes), dtype)
    library.function("sums", 2)(out.ctypes.data, x.ctypes.data)
    assert (out[0] != x).all() and (out[1] == 0).all() and (out[2] != 0).all()


@dtypes
def test_booleans_and_constants(dtype, width):
    module = Module(dtype)
    with module.function("f", ["out", "x"]) as (e, (out, at)):
        x = Lane(e, e.load(at))
        inside = ((x > 0.0) & ~(x > 2.0)) | (x == -1.0) | (x != x)
        e.store(out, POINTWISE["where"](inside, 3.0, 4.0 - Lane.filled(e, 1e-3)).value)
    x = np.resize(np.array([1, 3, -1, 0, np.nan, -2, 2, np.inf], dtype), module.lanes)
    out = np.empty_like(x)
    Library(module.compiled(), ["f"]).function("f", 2)(out.ctypes.data, x.ctypes.data)
    inside = ((x > 0) & (x <= 2)) | (x == -1) | np.isnan(x)
    np.testing.assert_array_equal(out, np.where(inside, dtype(3), dtype(4) - dtype(1e-3)))


@pytest.mark.parametrize("exponent", [6, -3.5, 0.3, math.nan, math.inf, None])
def test_other_exponents_are_refused(exponent):
    module = Module(np.float32)
    with module.function("f", ["x"]) as (e, (x,)):
        message = r"power: expected a half or whole number in \[-3, 5\], got "
        with pytest.raises(NotImplementedError, match=message):
            POINTWISE["power"](Lane(e, e.load(x)), exponent)


@pytest.mark.slow
@pytest.mark.parametrize("width", (8, 16), indirect=True)  # 4 is written as 8
@pytest.mark.parametrize("name", ["exp", "tanh", "sigmoid"])
def test_every_float32(name, width):
    worst = 0.0
    for first in range(0, 2**32, 2**20):
        x = np.arange(first, first + 2**20, dtype=np.int64).astype(np.uint32).view(np.float32)
        got = run(name, width, x)
        with np.errstate(all="ignore"):
            want = UNARY[name](x.astype(np.float64))
            rounded = want.astype(np.float32)
            step = np.spacing(np.minimum(np.abs(rounded), np.finfo(np.float32).max))
            apart = np.abs(np.where(np.isinf(got), np.copysign(2.0**128, got), got) - want) / step
        apart[(got == rounded) | np.isnan(x)] = 0
        worst = max(worst, apart.max())
        assert np.array_equal(np.isnan(got), np.isnan(x))
        assert np.array_equal(np.signbit(got[got == got]), np.signbit(want[got == got]))
    assert 0 < worst <= 4, worst
