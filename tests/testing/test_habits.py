"""What users' functions do: reuse memory, keep state, raise, run under no_grad, have many kinks."""

import time

import numpy as np
import pytest

import tinygrad_rnn as tg
from tests.testing.judging import exactly, judge, normal
from tinygrad_rnn.testing import assert_gradients
from tinygrad_rnn.testing.strategies import reals, small_integers

X = normal(4)


def reusing(memory):
    return lambda x: np.multiply(x, x, out=memory)


def test_values_in_memory_that_is_used_again():
    right, zero = (lambda x, g: 2 * x * g), (lambda x, g: 0.0 * g)
    assert judge((reusing(np.empty(4)), right), X)
    assert judge((reusing(np.empty(4)), zero), X).verdict == "fail"
    whole = np.array([1.0, 2.0, 3.0, 4.0])
    assert exactly((reusing(np.empty(4)), right), whole)
    assert exactly((reusing(np.empty(4)), zero), whole).verdict == "fail"


def test_gradients_in_memory_that_is_used_again():
    memory = np.empty(4)
    assert judge((np.square, lambda x, g: np.multiply(2 * x, g, out=memory)), X)


def test_a_vjp_that_reads_what_the_last_call_left_is_told():
    class Layer:
        def forward(self, x):
            self.x = x
            return x**2

        def backward(self, g):
            return 2 * self.x * g

    layer = Layer()
    report = judge((layer.forward, lambda x, g: layer.backward(g)), X)
    assert report.verdict == "fail"
    assert any("last call of f" in cause for cause in report.causes)


@pytest.mark.parametrize("error", [AssertionError, RuntimeError, ValueError, ArithmeticError])
def test_what_is_raised_nearby_is_outside_of_the_domain(error):
    def f(x):
        if (x > 1).any():
            raise error("too large")
        return np.arcsin(x)

    def vjp(x, g):
        return g / np.sqrt(1 - x * x)

    assert judge((f, vjp), np.array([0.99, 0.5]))
    report = judge((f, vjp), np.array([1 - 1e-13, 0.5]))
    assert report.verdict == "unsure"
    assert any("too large" in note for note in report.notes)
    with pytest.raises(error, match="too large"):
        judge((f, vjp), np.array([1.5, 0.5]))


def test_under_no_grad():
    with tg.no_grad():
        assert judge(tg.tanh, X, order=2)


def test_many_kinks_do_not_hide_a_wrong_entry():
    factor = np.ones(1000)
    x = np.concatenate([np.zeros(500), np.ones(500)])
    relu = (lambda x: np.maximum(x, 0), lambda x, g: g * factor * (x > 0))
    report = judge(relu, x)
    assert report.verdict == "pass"
    assert len(report.kinks) <= 6
    factor[700] = 1.001
    report = judge(relu, x)
    assert report.verdict == "fail"
    assert report.elements[0].input == "x0[700]"


def test_ties_at_small_integers():
    assert_gradients(lambda x: tg.sort(x)[2], small_integers("5"), exact=True)
    assert_gradients(lambda x: tg.sort(x)[1:3] ** 2, small_integers("5"), exact=True)
    both = (lambda x: x.max(), lambda x, g: g * (x == x.max()))
    assert exactly(both, np.array([2.0, 2.0, 1.0])).verdict == "fail"
    assert exactly(both, np.array([2.0, 3.0, 1.0]))


def test_a_layer_in_float32_with_large_inputs():
    layer = tg.nn.LSTM(3, 4, rng=np.random.default_rng(0))
    assert_gradients(lambda x: layer(x)[0], reals("4 2 3", dtype=np.float32), max_examples=20)


def test_a_wrong_entry_of_many_is_found_in_time():
    start = time.monotonic()
    x = normal(300, 300)
    report = judge((np.sin, lambda x, g: 1.001 * g * np.cos(x)), x)
    assert report.verdict == "fail"
    assert report.elements
    assert time.monotonic() - start < 30
