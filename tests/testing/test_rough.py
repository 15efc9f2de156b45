"""Functions that are noisy, badly scaled, or at the edge of what numbers can hold.

A right gradient is never called wrong, whatever the function; a smooth function of moderate scale
passes; and a pass sees the errors that its resolution promises.
"""

import numpy as np
import pytest

import tinygrad_rnn as tg
from tests.testing.judging import SIN, SQUARE, judge, noisy, normal, scaled, verdicts


def bell(size, low=-1.0, high=1.0):
    return lambda rng: rng.uniform(low, high, size)


def powers(low, high, size=4):
    return lambda rng: 10.0 ** rng.uniform(low, high, size)


def gaussian(scale=1.0, offset=0.0, size=4):
    return lambda rng: offset + scale * rng.standard_normal(size)


LOG = (np.log, lambda x, g: g / x)
SQRT = (np.sqrt, lambda x, g: g * 0.5 / np.sqrt(x))
INVERSE = (lambda x: 1 / x, lambda x, g: -g / x**2)
EXP = (np.exp, lambda x, g: g * np.exp(x))
DOUBLE = (lambda x: 2 * x, lambda x, g: 2 * g)
SOFTMAX = (
    lambda x: np.exp(x) / np.exp(x).sum(),
    lambda x, g: np.exp(x) / np.exp(x).sum() * (g - (g * np.exp(x)).sum() / np.exp(x).sum()),
)
DET = (np.linalg.det, lambda x, g: g * np.linalg.det(x) * np.linalg.inv(x).T)
FLAT = (lambda x: np.exp(-1 / x**2), lambda x, g: 2 * g / x**3 * np.exp(-1 / x**2))


def wave(k, shift=0.0):
    return (
        lambda x: np.sin(k * (x - shift)),
        lambda x, g: g * k * np.cos(k * (x - shift)),
    )


SMOOTH = {  # of moderate scale: these pass, always
    "sin": (SIN, gaussian()),
    "square": (SQUARE, gaussian()),
    "exp": (EXP, gaussian(3.0)),
    "log": (LOG, powers(-3, 3)),
    "log near 0": (LOG, powers(-300, -1)),
    "sqrt": (SQRT, powers(-300, 3)),
    "inverse": (INVERSE, powers(-3, 3)),
    "softmax": (SOFTMAX, gaussian(3.0)),
    "det": (DET, gaussian(size=(5, 5))),
    "flat": (FLAT, bell(3, 0.2, 1.0)),
    "sin(10 x)": (wave(10.0), gaussian()),
    "sin(1000 x)": (wave(1000.0), gaussian()),
    "1e-200 x": (DOUBLE, gaussian(1e-200)),
    "1e100 x": (DOUBLE, gaussian(1e100)),
    "1e200 x": (DOUBLE, gaussian(1e200)),
    "arcsin": ((np.arcsin, lambda x, g: g / np.sqrt(1 - x * x)), bell(4, -0.9, 0.9)),
    "large exp": (EXP, bell(3, 399.0, 401.0)),
    "offset of 1000": ((lambda x: 1000 + np.sin(x), SIN[1]), gaussian()),
    "tanh, order 2": (tg.tanh, gaussian()),
    "erf": (tg.erf, gaussian()),
    "gelu": (tg.gelu, gaussian(3.0)),
    "logsumexp": (tg.logsumexp, gaussian(30.0)),
    "std": (tg.std, gaussian()),
    "prod": (tg.prod, gaussian()),
    "stationary": (SQUARE, lambda rng: np.zeros(3)),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_functions_pass(name):
    pair, draw = SMOOTH[name]
    order = 2 if name.endswith("order 2") else 1
    assert verdicts(pair, draw, 25, order=order)["pass"] == 25


ROUGH = {  # not all of these can be judged, but none is wrong
    "overflow nearby": (EXP, bell(2, 709.0, 709.7)),
    "overflow": (EXP, bell(2, 715.0, 720.0)),
    "underflow": (EXP, bell(2, -744.0, -700.0)),
    "at the pole": (INVERSE, lambda rng: np.zeros(2)),
    "infinite slope": (SQRT, lambda rng: np.zeros(2)),
    "no number": (LOG, lambda rng: -np.ones(2)),
    "near the pole of arcsin": (
        (np.arcsin, lambda x, g: g / np.sqrt(1 - x * x)),
        lambda rng: 1 - 10.0 ** rng.uniform(-14, -1, 3),
    ),
    "arctanh": (
        (np.arctanh, lambda x, g: g / (1 - x * x)),
        lambda rng: 1 - 10.0 ** rng.uniform(-12, -1, 3),
    ),
    "NaN beside": (
        (
            lambda x: np.where(x > 0, np.log(np.abs(x)), 0),
            lambda x, g: g * np.where(x > 0, 1 / x, 0),
        ),
        gaussian(),
    ),
    "many scales": (SQUARE, powers(-100, 100)),
    "cubes of many scales": ((lambda x: x**3, lambda x, g: 3 * g * x * x), powers(-50, 50)),
    "inverse of 1e200": (INVERSE, gaussian(1e200)),
    "offset of 1e8": ((lambda x: 1e8 + np.sin(x), SIN[1]), gaussian()),
    "offset of 1e12": ((lambda x: 1e12 + np.sin(x), SIN[1]), gaussian()),
    "inputs at 1e8": (wave(1.0, 1e8), gaussian(1.0, 1e8)),
    "inputs at 1e4": (wave(1.0, 1e4), gaussian(1.0, 1e4)),
    "sin(1e6 x)": (wave(1e6), gaussian()),
    "sin(1e10 x)": (wave(1e10), gaussian()),
    "cosh near 0": ((np.cosh, lambda x, g: g * np.sinh(x)), gaussian(1e-9)),
    "essential": (FLAT, bell(3, 0.03, 0.1)),
    "cube root": ((np.cbrt, lambda x, g: g / (3 * np.cbrt(x) ** 2)), powers(-12, 0)),
    "computed in float32": (
        (lambda x: np.sin(x.astype(np.float32)).astype(float), SIN[1]),
        gaussian(),
    ),
    "computed in float16": (
        (lambda x: np.sin(x.astype(np.float16)).astype(float), SIN[1]),
        gaussian(),
    ),
    "cancelling": ((lambda x: (x + 1e3) - 1e3, lambda x, g: g), gaussian()),
    "sigmoid, saturated": (tg.sigmoid, gaussian(30.0)),
    "tanh, saturated": (tg.tanh, gaussian(30.0)),
    "sigmoid, saturated, order 2": (tg.sigmoid, gaussian(30.0, size=5)),
    "tanh, saturated, order 2": (tg.tanh, gaussian(30.0)),
}


@pytest.mark.parametrize("name", ROUGH)
def test_right_gradients_never_fail(name):
    pair, draw = ROUGH[name]
    found = verdicts(pair, draw, 25, order=2 if name.endswith("order 2") else 1)
    assert found["fail"] == 0, found


@pytest.mark.parametrize("level", [1e-14, 1e-12, 1e-10, 1e-8, 1e-6, 1e-4])
def test_noise(level):
    found = verdicts(noisy(level), gaussian(size=6), 20)
    assert found["fail"] == 0, found
    if level < 1e-9:
        assert found["pass"] == 20, found
        assert verdicts(scaled(noisy(level), 1.01), gaussian(size=6), 12)["fail"] == 12
    if level > 1e-5:
        assert found["pass"] == 0, found
    assert verdicts(scaled(noisy(level), -1.0), gaussian(size=6), 12)["pass"] == 0


def test_noise_is_no_kink():
    for seed in range(20):
        report = judge(noisy(1e-10), normal(6, seed=seed), rng=seed, kinks="fail")
        assert report.verdict == "pass", report
        assert not report.kinks


# A pass sees what it says it sees

HONEST = {
    "sin": (SIN, gaussian(size=1)),
    "exp": (EXP, gaussian(size=1)),
    "sin(1000 x)": (wave(1000.0), gaussian(size=1)),
    "noise": (noisy(1e-10), gaussian(size=1)),
    "more noise": (noisy(1e-8), gaussian(size=1)),
    "offset": ((lambda x: 1e5 + np.sin(x), SIN[1]), gaussian(size=1)),
}


@pytest.mark.parametrize("name", HONEST)
def test_an_error_of_three_times_the_resolution_is_found(name):
    pair, draw = HONEST[name]
    passed, caught, missed = 0, 0, 0
    for seed in range(40):
        x = draw(np.random.default_rng(seed))
        report = judge(pair, x, rng=seed)
        if report.verdict == "pass":
            passed += 1
            wrong = judge(scaled(pair, 1 + 3 * report.resolution), x, rng=seed)
            caught += wrong.verdict == "fail"
            missed += wrong.verdict == "pass"
    assert passed >= 30
    assert caught >= 0.5 * passed, (passed, caught, missed)
    assert missed <= 0.1 * passed, (passed, caught, missed)


def test_errors_of_a_thousandth_in_one_of_many_elements():
    caught = 0
    for seed in range(20):
        factor = np.ones(50)
        factor[seed % 50] = 1.001
        caught += judge(scaled(SIN, factor), normal(50, seed=seed), rng=seed).verdict == "fail"
    assert caught == 20


def test_a_finer_resolution_may_be_asked_for():
    level = noisy(1e-10)
    assert judge(level, normal(6)).verdict == "pass"
    assert judge(level, normal(6), resolution=1e-12).verdict == "unsure"
    assert judge(noisy(1e-6), normal(6), resolution=0.1).verdict == "pass"
