"""Elementary functions: at most 4 ULP from the exact value in float32 and float64, tails included.

The exact values come from `decimal`. Subnormal results count too, so they are not flushed to zero.
"""

import functools
import math
from decimal import Decimal, getcontext, localcontext

import numpy as np
import pytest

import tinygrad_rnn as tg

ULPS = 4
DTYPES = [np.float32, np.float64]
ZERO, ONE, TWO = Decimal(0), Decimal(1), Decimal(2)


# Exact values, with as many digits as cancellation can cost


def digits(x):
    """As many as e⁻ˣ and exp(-x²) are small, or as x is, and some more."""
    return 50 + int(0.45 * max(min(x * x, 1600.0), min(abs(x), 800.0)) - math.log10(min(abs(x), 1)))


@functools.cache
def pi(precision):
    """Machin's formula."""

    def arctan_of_inverse(n):
        term, total, k = ONE / n, ZERO, 0
        while total != total + term:
            total += term / (2 * k + 1) if k % 2 == 0 else -term / (2 * k + 1)
            term, k = term / (n * n), k + 1
        return total

    return 16 * arctan_of_inverse(5) - 4 * arctan_of_inverse(239)


def erf(x):
    """2/√π exp(-x²) Σ 2ⁿ x²ⁿ⁺¹ / (2n+1)!!, where nothing cancels."""
    if x < 0:
        return -erf(-x)
    term, total, n = x, ZERO, 0
    while total != total + term:
        total, n = total + term, n + 1
        term = term * 2 * x * x / (2 * n + 1)
    return total * 2 * (-x * x).exp() / pi(getcontext().prec).sqrt()


def erfc(x):
    return ONE - erf(x)


def sin(x):
    term, total, n = x, ZERO, 1
    while total != total + term:
        total, n = total + term, n + 2
        term = -term * x * x / (n * (n - 1))
    return total


def cos(x):
    return ONE - TWO * sin(x / 2) ** 2


def sigmoid(x):
    return ONE / (ONE + (-x).exp())


def log1p(x):
    return (ONE + x).ln()


def tanh(x):
    return ONE - TWO / ((2 * x).exp() + ONE)


def gelu(x):
    return x * erfc(-x / TWO.sqrt()) / 2


EXACT = {  # the largest error measured in float32 and float64, x86-64 with AVX-512
    "exp": (Decimal.exp, -700, 700),  # 1.9, 0.7
    "expm1": (lambda x: x.exp() - ONE, -700, 700),  # 2.2, 0.6
    "log": (Decimal.ln, 0, 1e30),  # 1.8, 0.6
    "log1p": (log1p, -0.99, 1e30),  # 1.5, 0.6
    "sqrt": (Decimal.sqrt, 0, 1e30),  # 0.5, 0.5
    "rsqrt": (lambda x: ONE / x.sqrt(), 0, 1e30),  # 1.4, 1.4
    "sin": (sin, -50, 50),  # 1.3, 0.6
    "cos": (cos, -50, 50),  # 1.2, 0.6
    "tanh": (tanh, -50, 50),  # 1.4, 0.9
    "erf": (erf, -10, 10),  # 0.5, 1.0
    "erfc": (erfc, -10, 27.2),  # 0.5, 1.8
    "sigmoid": (sigmoid, -745, 745),  # 2.5, 1.7
    "softplus": (lambda x: log1p(x.exp()), -745, 745),  # 2.2, 1.2
    "log_sigmoid": (lambda x: -log1p((-x).exp()), -745, 745),  # 2.0, 1.2
    "silu": (lambda x: x * sigmoid(x), -750, 700),  # 3.0, 2.3
    "elu": (lambda x: x if x > 0 else x.exp() - ONE, -745, 700),  # 2.0, 0.6
    "gelu": (gelu, -37.5, 40),  # 2.5, 3.4; further out Φ(x) is subnormal
}
FLOAT32_ENDS = {"exp": (-104, 88), "expm1": (-104, 88), "gelu": (-12.9, 40), "erfc": (-10, 10.1)}


def points(low, high, dtype):
    """Both tails, powers of ten down to the smallest, and everything between."""
    rng = np.random.default_rng(0)
    tiny = np.log10(np.finfo(dtype).tiny)
    sizes = np.concatenate(
        [
            10 ** rng.uniform(-8, math.log10(max(high, -low)), 30),
            10 ** rng.uniform(tiny + 1, 0, 6),
            rng.uniform(0, 6, 30),
        ]
    )
    ends = np.concatenate([rng.uniform(0.9, 1.0, 10) * low, rng.uniform(0.9, 1.0, 10) * high])
    x = np.concatenate([sizes, -sizes, ends]).astype(dtype)
    return x[(x > low) & (x < high)]


def ulps_off(found, x, exact):
    """The error of each element in units of the last place of the exact value."""
    off = np.zeros(len(x))
    for k, (value, at) in enumerate(zip(found.tolist(), x.tolist(), strict=True)):
        with localcontext() as context:
            context.prec = digits(at)
            true = exact(Decimal(at))
            unit = Decimal(float(np.spacing(np.abs(found.dtype.type(float(true))))))
            off[k] = abs(Decimal(value) - true) / unit
    return off


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", EXACT)
def test_elementary_functions_are_exact_to_4_ulps(name, dtype):
    exact, low, high = EXACT[name]
    if dtype is np.float32:
        low, high = FLOAT32_ENDS.get(name, (max(low, -104), high))
    x = points(low, high, dtype)
    off = ulps_off(getattr(tg, name)(tg.Tensor(x)).numpy(), x, exact)
    assert off.max() <= ULPS, (x[off.argmax()], off.max())


def slopes(name, x):
    t = tg.Tensor(x, requires_grad=True)
    getattr(tg, name)(t).sum().backward()
    return t.grad.numpy()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name, sign", [("softplus", 1), ("log_sigmoid", -1)])
def test_gradients_made_from_the_input_are_exact_to_4_ulps(name, sign, dtype):
    x = points(-100, 100, dtype)
    assert ulps_off(slopes(name, x), x, lambda v: sigmoid(sign * v)).max() <= ULPS


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
def test_gradients_made_from_the_output_are_exact_to_4_eps(name, dtype):
    x = points(-50, 50, dtype)
    wide = x.astype(np.float64)
    if name == "tanh":
        exact = 1 / np.cosh(wide) ** 2
    else:
        exact = np.exp(-np.abs(wide)) / (1 + np.exp(-np.abs(wide))) ** 2
    assert np.abs(slopes(name, x) - exact).max() <= 4 * np.finfo(dtype).eps


LOG2 = math.log(2)
SPECIALS = {  # at 0, -0, inf, -inf, 1e30, -1e30; None: outside, or an overflow
    "exp": (1, 1, math.inf, 0, None, 0),
    "expm1": (0.0, -0.0, math.inf, -1, None, -1),
    "log1p": (0.0, -0.0, math.inf, None, None, None),
    "sqrt": (0.0, -0.0, math.inf, None, 1e15, None),
    "sin": (0.0, -0.0, None, None, None, None),
    "cos": (1, 1, None, None, None, None),
    "tanh": (0.0, -0.0, 1, -1, 1, -1),
    "erf": (0.0, -0.0, 1, -1, 1, -1),
    "erfc": (1, 1, 0, 2, 0, 2),
    "sigmoid": (0.5, 0.5, 1, 0, 1, 0),
    "softplus": (LOG2, LOG2, math.inf, 0, 1e30, 0),
    "log_sigmoid": (-LOG2, -LOG2, 0, -math.inf, 0, -1e30),
    "relu": (0, 0, math.inf, 0, 1e30, 0),
    "leaky_relu": (0, 0, math.inf, -math.inf, 1e30, -1e28),
    "elu": (0.0, -0.0, math.inf, -1, 1e30, -1),
    "silu": (0.0, -0.0, math.inf, -0.0, 1e30, -0.0),
    "gelu": (0.0, -0.0, math.inf, -0.0, 1e30, -0.0),
    "abs": (0.0, 0.0, math.inf, math.inf, 1e30, 1e30),
    "sign": (0, 0, 1, -1, 1, -1),
    "rsqrt": (None, None, 0, None, 1e-15, None),
    "log": (None, None, math.inf, None, math.log(1e30), None),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SPECIALS)
def test_specials(name, dtype):
    for x, expected in zip(
        (0.0, -0.0, math.inf, -math.inf, 1e30, -1e30), SPECIALS[name], strict=True
    ):
        if expected is not None:
            found = getattr(tg, name)(tg.Tensor(x, dtype=dtype)).item()
            assert found == pytest.approx(expected, rel=4 * float(np.finfo(dtype).eps), abs=0), x
            if isinstance(expected, float) and expected == 0:
                assert math.copysign(1, found) == math.copysign(1, expected), x
    assert math.isnan(getattr(tg, name)(tg.Tensor(math.nan, dtype=dtype)).item())


@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_family_takes_any_finite_or_infinite_logits(dtype):
    large = np.array([1e4, -1e4, 0.0], dtype)
    assert tg.softmax(tg.Tensor(large)).tolist() == [1.0, 0.0, 0.0]
    assert tg.log_softmax(tg.Tensor(large)).tolist() == [0.0, -2e4, -1e4]
    assert tg.logsumexp(tg.Tensor(large)).item() == 1e4
    masked = tg.Tensor(np.array([-np.inf, 1.0, 1.0], dtype))
    assert tg.softmax(masked).tolist() == [0.0, 0.5, 0.5]
    assert tg.log_softmax(masked).tolist()[0] == -math.inf
    assert tg.logsumexp(masked).item() == pytest.approx(1 + LOG2)
    assert tg.logsumexp(tg.Tensor(np.array([np.inf, 1.0], dtype))).item() == math.inf


@pytest.mark.parametrize("dtype", DTYPES)
def test_var_and_norm_keep_their_digits_far_from_zero(dtype):
    near = np.array([1.0, 2.0, 3.0], dtype) + dtype(4096.0)
    assert tg.var(tg.Tensor(near)).item() == pytest.approx(
        2 / 3, rel=8 * float(np.finfo(dtype).eps)
    )
