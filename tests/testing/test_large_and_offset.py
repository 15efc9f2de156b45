"""Large arrays, data far from zero, constants by construction, and what is hard to see."""

import subprocess
import sys
import time

import numpy as np
import pytest

import tinygrad_rnn as tg
from tests.testing.judging import SIN, SQUARE, judge, normal, scaled, verdicts


def drawn(*shape, offset=0.0, scale=1.0):
    return lambda rng: offset + scale * rng.standard_normal(shape)


LARGE = {
    "square, sign": (scaled(SQUARE, -1.0), (100, 100)),
    "square, slightly": (scaled(SQUARE, 1.001), (100, 100)),
    "sin, zero": (scaled(SIN, 0.0), (5000,)),
    "sin, sign": (scaled(SIN, -1.0), (50_000,)),
}


@pytest.mark.parametrize("name", LARGE)
def test_wrong_everywhere_in_a_large_elementwise_function(name):
    wrong, shape = LARGE[name]
    for seed in range(3):
        start = time.monotonic()
        report = judge(wrong, normal(*shape, seed=seed), rng=seed)
        assert report.verdict == "fail", report
        assert report.elements
        assert report.evaluations < 2500
        assert time.monotonic() - start < 20


START = 1.7e9
SINCE = (lambda x: ((x - START) ** 2).sum(), lambda x, g: 2 * g * (x - START))
VARIANCE = (np.var, lambda x, g: 2 * g * (x - x.mean()) / x.size)


def test_time_stamps():
    def stamps(rng):
        return START + rng.uniform(0, 10, 4)

    assert verdicts(SINCE, stamps, 40)["fail"] == 0
    for factor in (-1.0, 1.01):
        assert verdicts(scaled(SINCE, factor), stamps, 40)["fail"] == 40


@pytest.mark.parametrize("mean", [1e2, 1e4, 1e5, 1e6, 1e8])
def test_variance_far_from_zero(mean):
    draw = drawn(10, offset=mean)
    assert verdicts(VARIANCE, draw, 40)["fail"] == 0
    assert verdicts(tg.var, draw, 40)["fail"] == 0
    assert verdicts(scaled(VARIANCE, 1.01), draw, 20)["fail"] == 20


def without_mean(x):
    y = tg.sum(x) + tg.zeros((3,), dtype=np.float64)
    return y - tg.mean(y)


def of_equal_numbers(x):
    y = x * tg.ones((1, 4), dtype=np.float64)
    away = y - tg.mean(y, -1, keepdims=True)
    return away / tg.sqrt(tg.mean(away * away, -1, keepdims=True) + 1e-5)


CONSTANT = {
    "without mean": (without_mean, (4,)),
    "normalised": (of_equal_numbers, (3, 1)),
    "thirds": (lambda x: x * 3.0 / 3.0 - x, (4,)),
}


@pytest.mark.parametrize("name", CONSTANT)
def test_what_is_constant_but_for_rounding_is_not_accused(name):
    fn, shape = CONSTANT[name]
    assert verdicts(fn, drawn(*shape), 100)["fail"] == 0


def test_rounding_is_not_accused_of_being_nonlinear_in_the_cotangent():
    def f(x):
        y = x.sum() + np.zeros(3)
        return y - y.mean()

    pair = (f, lambda x, g: np.full_like(x, (g - g.mean()).sum()))
    assert verdicts(pair, drawn(3), 1200)["fail"] == 0


def test_a_constant_with_a_gradient_fails():
    pair = (lambda x: x * 3 / 3 - x, lambda x, g: 0.01 * g)
    assert verdicts(pair, drawn(4), 20)["fail"] == 20


CURVED = {
    "exp(100 x)": (lambda x: np.exp(100 * x), lambda x: 100 * np.exp(100 * x), [1.0, 2.0, 3.0]),
    "pole": (lambda x: 1 / (x - 1), lambda x: -1 / (x - 1) ** 2, [1.0001]),
    "tail": (lambda x: np.exp(-x * x), lambda x: -2 * x * np.exp(-x * x), [10.0]),
}


@pytest.mark.parametrize("name", CURVED)
def test_strong_curvature_does_not_excuse_an_error(name):
    f, slope, x = CURVED[name]
    pair = (f, lambda x, g: g * slope(x))
    for seed in range(10):
        assert judge(pair, np.array(x), rng=seed).verdict == "pass"
        assert judge(scaled(pair, 1.01), np.array(x), rng=seed).verdict == "fail"


def test_zeros_beside_huge_numbers():
    x = np.array([0.0, 1e12])

    def softplus(at_zero):
        slope = lambda x: np.where(x == 0, at_zero, 1 / (1 + np.exp(-x)))  # noqa: E731
        return lambda x: np.logaddexp(0, x), lambda x, g: g * slope(x)

    for seed in range(10):
        assert judge(softplus(0.5), x, rng=seed).verdict != "fail"
        assert judge(softplus(0.9), x, rng=seed).verdict == "fail"

    def vjp(x, g):
        return g * np.exp(x - f(x))

    def f(x):
        return x.max() + np.log(np.exp(x - x.max()).sum())

    masked = np.array([-1e30, 0.0, 1.0])
    for seed in range(10):
        assert judge((f, vjp), masked, rng=seed).verdict == "pass"
        assert judge(scaled((f, vjp), 1.01), masked, rng=seed).verdict == "fail"


def test_gradients_that_underflow_are_unsure():
    for factor in (1.0, 1.5):
        pair = scaled(SQUARE, factor)
        assert judge(pair, np.array([1e-170, 1e-180])).verdict == "unsure"


def test_numbers_near_the_largest():
    pair = (lambda x: 3 * x, lambda x, g: 3 * g)
    assert verdicts(pair, drawn(4, scale=1e200), 10)["pass"] == 10
    assert verdicts(scaled(pair, 1.01), drawn(4, scale=1e200), 10)["fail"] == 10


def test_another_output_that_overflows_nearby_excuses_nothing():
    def f(x):
        return np.array([np.exp(x[0]), x[1] * x[1]])

    def vjp(x, g):
        return np.array([g[0] * np.exp(x[0]), 2 * g[1] * x[1]])

    x = np.array([700.0, 1.0])
    for seed in range(10):
        assert judge((f, vjp), x, rng=seed).verdict == "pass"
        assert judge(scaled((f, vjp), 1.01), x, rng=seed).verdict == "fail"


def test_float32_that_is_too_coarse_is_unsure():
    x = normal(4).astype(np.float32)
    for sign in (1, -1):
        pair = (
            lambda x: x + np.float32(1e6),
            lambda x, g, sign=sign: g * sign if x.dtype == np.float32 else g,
        )
        found = {judge(pair, x, rng=seed).verdict for seed in range(10)}
        assert "pass" not in found
        assert "fail" not in found or sign == -1


def test_a_loss_that_is_a_number_of_python():
    def pair(factor):
        return lambda x: float((x * x).sum()), lambda x, g: factor * x * g

    x = normal(4).astype(np.float32)
    for seed in range(10):
        assert judge(pair(np.float32(2)), x, rng=seed).verdict == "pass"
        assert judge(pair(np.float32(3)), x, rng=seed).verdict == "fail"


@pytest.mark.parametrize("order", ["C", "F"])
def test_values_that_change_with_the_strides(order):
    def f(x):
        return x * x if x.flags.c_contiguous else 2 * x * x

    for seed in range(5):
        x = np.array(normal(3, 4, seed=seed), order=order)
        report = judge((f, SQUARE[1]), x, rng=seed)
        assert report.verdict == "fail"
        assert any("strides" in cause for cause in report.causes), report
        assert judge(SQUARE, x, rng=seed)


def test_kinks_of_many_elements_are_cheap():
    relu = (lambda x: np.maximum(x, 0), lambda x, g: g * (x > 0))
    for share, shape in ((0.01, (100, 100)), (0.5, (20, 20))):
        for seed in range(5):
            rng = np.random.default_rng(seed)
            x = rng.standard_normal(shape) * (rng.random(shape) >= share)
            report = judge(relu, x, rng=seed)
            assert report.verdict == "pass", report
            assert report.evaluations < 700
            assert judge(scaled(relu, -1.0), x, rng=seed).verdict == "fail"


def test_a_random_backward_is_called_that():
    rng = np.random.default_rng(0)
    shaken = (np.square, lambda x, g: 2 * g * x * (1 + 0.1 * rng.random()))
    for seed in range(5):
        report = judge(shaken, normal(4), rng=seed)
        assert report.verdict == "fail"
        assert any("deterministic" in cause for cause in report.causes), report
        assert not any("last call" in cause for cause in report.causes), report


def test_inputs_of_another_byte_order():
    x = normal(4)
    assert judge(SIN, x.astype(">f8"))
    assert judge(scaled(SIN, 1.01), x.astype(">f8")).verdict == "fail"


SCRIPT = """
import sys
sys.modules["__mp_main__"] = sys.modules["__main__"]
from tinygrad_rnn.testing import assert_gradients
from tinygrad_rnn.testing.strategies import reals
def square(x):
    return x * x
def vjp(x, g):
    return 3 * g * x
try:
    assert_gradients((square, vjp), reals("a"), max_examples=5)
except AssertionError as error:
    print(error)
"""


def test_code_to_paste_knows_scripts_of_two_names(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    command = [sys.executable, str(path)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    assert "def square" in found
    assert "__mp_main__" not in found
