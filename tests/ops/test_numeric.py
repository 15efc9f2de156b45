"""The gradient check is checked: each kind of wrong rule is caught, right ones pass."""

import numpy as np
import pytest

import tinygrad_rnn as tg
from tests.numeric import check

SEEDS = range(50)


def plain(x, y):
    return x * x * y


def good():
    return tg.primitive(x=lambda g, x, y: g * (2.0 * x * y), y=lambda g, x: g * x * x)(plain)


def off_by_a_thousandth():
    return tg.primitive(x=lambda g, x, y: g * (2.002 * x * y), y=lambda g, x: g * x * x)(plain)


def one_entry_off():
    def rule(g, x, y):
        wrong = np.ones(np.shape(x))
        wrong.flat[-1] = 1.001
        return g * (2.0 * x * y) * wrong

    return tg.primitive(x=rule, y=lambda g, x: g * x * x)(plain)


def sign_flipped():
    return tg.primitive(x=lambda g, x, y: g * (2.0 * x * y), y=lambda g, x: -g * x * x)(plain)


def input_dropped():
    return tg.primitive(x=lambda g, x, y: g * (2.0 * x * y))(
        lambda x, y: plain(x, y._data if isinstance(y, tg.Tensor) else y)
    )


def wrong_at_second_order():
    def rule(g, x, y):
        constant = tg.Tensor(x) if isinstance(x, tg.Tensor) else x
        return g * (2.0 * constant * y)

    return tg.primitive(x=rule, y=lambda g, x: g * x * x)(plain)


def mutating():
    def forward(x, y):
        out = plain(x, y)
        x.flags.writeable = True
        x += 1.0
        return out

    return tg.primitive(x=lambda g, x, y: g * (2.0 * (x - 1.0) * y), y=lambda g: g)(forward)


def inputs(rng):
    return [rng.standard_normal((3, 2)) * 10.0 ** rng.integers(-3, 4) for _ in range(2)]


def test_check_passes_a_right_rule():
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        report = check(good(), inputs(rng), rng, order=2)
        assert report.verdict == "pass", report
        assert not report.zero


@pytest.mark.parametrize(
    "wrong", [off_by_a_thousandth, one_entry_off, sign_flipped, input_dropped, mutating]
)
def test_check_catches_a_wrong_rule(wrong):
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        assert check(wrong(), inputs(rng), rng).verdict == "fail"


def test_check_catches_a_rule_that_is_wrong_at_second_order_only():
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        arrays = inputs(rng)
        assert check(wrong_at_second_order(), arrays, rng).verdict == "pass"
        report = check(wrong_at_second_order(), arrays, rng, order=2)
        assert report.verdict == "fail"
        assert "order 2" in report.why


@pytest.mark.parametrize("distance", [0.0, 1e-14, 1e-9, 1e-7])
def test_check_is_never_wrong_about_a_kink(distance):
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        x = rng.standard_normal(4)
        report = check(lambda v, x=x: tg.abs(v - (x + distance)), [x], rng)
        assert report.verdict != "fail", report


def test_check_is_unsure_where_noise_hides_the_derivative():
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        x = rng.standard_normal(3)
        assert check(lambda v: v * v + 1e15, [x], rng).verdict == "unsure"


def test_check_tells_a_zero_derivative(rng):
    assert check(tg.sign, [rng.standard_normal(3)], rng).zero
    assert not check(tg.exp, [rng.standard_normal(3)], rng).zero
