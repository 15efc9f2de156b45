"""float32: in float64 where the function allows it, and with the tolerance of the arithmetic."""

import numpy as np
import pytest

import tinygrad_rnn as tg
from tests.testing.judging import judge


def single(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


X, Y = single(4, 4), single(4, 4, seed=1)
RIGHT = {
    "sin": (tg.sin, X),
    "matmul": (tg.matmul, X, Y),
    "logsumexp": (tg.logsumexp, 30 * X),
    "log_softmax": (tg.log_softmax, 10 * X),
    "sum": (tg.sum, single(1000)),
    "mean": (lambda x: tg.mean(tg.exp(x)), single(100, 100)),
    "large": (tg.exp, np.array([80.0, 1.0], np.float32)),
    "larger": (lambda x: x * x, np.array([1e15, 1.0], np.float32)),
    "small": (lambda x: x * x, np.array([1e-15, 1.0], np.float32)),
    "cancelling": (lambda x: (x + 1e3) - 1e3, X),
    "relu at 0": (tg.relu, np.zeros(3, np.float32)),
    "zeros": (tg.sin, np.zeros(3, np.float32)),
    "mixed": (tg.matmul, X, Y.astype(np.float64)),
    "norm": (tg.norm, X),
    "std": (tg.std, X),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_ops_pass(name):
    fn, *inputs = RIGHT[name]
    for seed in range(10):
        report = judge(fn, *inputs, rng=seed)
        assert report.verdict == "pass", report


def test_second_order():
    assert judge(tg.tanh, X, order=2)
    assert judge(tg.matmul, X, Y, order=2)


def in_single(wrong, right=lambda x, g: g * np.cos(x)):
    return np.sin, lambda x, g: wrong(x, g) if x.dtype == np.float32 else right(x, g)


def halved(v):
    return v.astype(np.float16).astype(v.dtype)


ONE = np.ones((4, 4), np.float32)
ONE[1, 2] = 1.01
BUGS = {
    "scaled": lambda x, g: 1.01 * g * np.cos(x),
    "slightly": lambda x, g: np.float32(1.001) * g * np.cos(x),
    "one element": lambda x, g: ONE * g * np.cos(x),
    "sign": lambda x, g: -g * np.cos(x),
    "dtype": lambda x, g: (g * np.cos(x)).astype(np.float64),
    "shape": lambda x, g: (g * np.cos(x)).ravel(),
    "NaN": lambda x, g: g * np.float32(np.nan),
    "through float16": lambda x, g: halved(g * np.cos(x)),
}


@pytest.mark.parametrize("name", BUGS)
def test_wrong_in_float32_only(name):
    for seed in range(10):
        report = judge(in_single(BUGS[name]), X, rng=seed)
        assert report.verdict == "fail", report
        assert any("float32" in c for c in report.causes), report


def test_values_through_float16():
    """A function that loses half of its digits in float32 does not excuse its gradient."""

    def f(x):
        return halved(np.sin(x)) if x.dtype == np.float32 else np.sin(x)

    def vjp(x, g):
        return halved(g * np.cos(x)) if x.dtype == np.float32 else g * np.cos(x)

    for seed in range(10):
        assert judge((f, vjp), X, rng=seed).verdict != "pass"


def test_a_result_of_another_dtype():
    double = (
        lambda x: np.sin(x).astype(np.float64),
        lambda x, g: (g * np.cos(x)).astype(x.dtype),
    )
    report = judge(double, X)
    assert report.verdict == "fail"
    assert any("dtype float64" in c for c in report.causes)


@pytest.mark.parametrize("error", [TypeError, ValueError, RuntimeError, AssertionError])
def test_functions_that_take_float32_only(error):
    def only(x):
        if x.dtype != np.float32:
            raise error("expected float32")
        return x * x

    for seed in range(10):
        report = judge((only, lambda x, g: 2 * g * x), X, rng=seed)
        assert report.verdict == "pass", report
        assert report.resolution > 1e-5
        assert any("float32 only" in n for n in report.notes)

    def caught(factor):
        wrong = (only, lambda x, g: np.float32(factor) * g * x)
        return sum(judge(wrong, X, rng=seed).verdict == "fail" for seed in range(20))

    assert caught(-2.0) == 20
    assert caught(2.2) >= 18
    assert caught(2.1) >= 15


def test_functions_that_compute_in_float32_whatever_they_are_given():
    def f(x):
        return np.sin(x.astype(np.float32))

    def vjp(x, g):
        return (g * np.cos(x)).astype(x.dtype)

    wrong = (f, lambda x, g: vjp(x, g) * x.dtype.type(1.2))
    assert all(judge((f, vjp), X, rng=seed).verdict == "pass" for seed in range(20))
    assert sum(judge(wrong, X, rng=seed).verdict == "fail" for seed in range(20)) >= 17


def test_float32_inside_of_float64_is_noise_not_a_wrong_gradient():
    f = (lambda x: np.sin(x.astype(np.float32)).astype(float), lambda x, g: g * np.cos(x))
    for seed in range(40):
        x = np.random.default_rng(seed).standard_normal(3)
        assert judge(f, x, rng=seed).verdict != "fail"


def test_no_elements():
    assert judge(tg.sin, np.zeros(0, np.float32)).verdict == "unsure"


def test_what_is_modified_in_float32_only():
    def f(x):
        value = x * x
        if x.dtype == np.float32:
            x += 1
        return value

    report = judge((f, lambda x, g: 2 * g * x), X)
    assert report.verdict == "fail"
    assert any("in float32: x0: the input is modified" in c for c in report.causes), report


def test_values_that_overflow_in_float32_are_unsure():
    report = judge(tg.exp, np.array([100.0, 1.0], np.float32))
    assert report.verdict == "unsure"
    assert any("finite" in n for n in report.notes), report
