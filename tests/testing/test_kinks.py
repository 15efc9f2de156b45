"""At kinks a value between the slopes is right; near them nothing is accused falsely."""

import numpy as np
import pytest
from hypothesis import HealthCheck, find, given, settings
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tests.testing.judging import judge, scaled, verdicts
from tinygrad_rnn.testing import gradcheck

RELU = (lambda x: np.maximum(x, 0), lambda x, g: g * (x > 0))
ABS = (np.abs, lambda x, g: g * np.sign(x))
CLIP = (lambda x: np.clip(x, -1, 1), lambda x, g: g * (np.abs(x) <= 1))
BENT = (lambda x: np.abs(x) ** 3, lambda x, g: 3 * g * x * np.abs(x))
AT = np.array([0.0, 1.0, -1.0, 0.5])


def relu_with(value, at=0.0):
    return RELU[0], lambda x, g: g * np.where(x == at, value, x > 0)


OPS = {
    "relu": tg.relu,
    "abs": tg.abs,
    "max": tg.max,
    "min": tg.min,
    "sort": tg.sort,
    "norm": tg.norm,
    "1-norm": lambda x: tg.norm(x, ord=1, axis=0),
    "clip": lambda x: tg.clip(x, -1, 1),
    "leaky_relu": tg.leaky_relu,
    "elu": tg.elu,
    "topk": lambda x: tg.topk(x, 2)[0],
    "span": lambda x: tg.max(x) - tg.min(x),
    "product": lambda x: tg.relu(x) * tg.abs(tg.flip(x, 0)),
    "inner product": lambda x: tg.relu(x) @ tg.abs(x),
    "square": lambda x: tg.relu(x) * tg.relu(x),
    "cumsum": lambda x: tg.cumsum(tg.relu(x)),
    "nested": lambda x: tg.relu(tg.relu(x) - 1.0),
    "maximum": lambda x: tg.maximum(x, tg.flip(x, 0)),
}


@pytest.mark.parametrize("name", OPS)
def test_a_right_subgradient_never_fails(name):
    found = verdicts(OPS[name], lambda rng: rng.integers(-1, 2, 4).astype(float), 25)
    assert found["fail"] == 0, found
    assert found["pass"] >= 19, found


def test_many_ties():
    assert verdicts(tg.sort, lambda rng: rng.integers(-1, 2, 5).astype(float), 100)["fail"] == 0


@pytest.mark.parametrize("value", [0.0, 0.25, 0.5, 1.0])
def test_values_between_the_slopes_pass_and_the_kink_is_reported(value):
    for seed in range(5):
        report = judge(relu_with(value), AT, rng=seed)
        assert report.verdict == "pass", report
        assert any("out[0]" in k for k in report.kinks), report
        assert not any("out[1]" in k for k in report.kinks), report


@pytest.mark.parametrize("value", [-1.0, -0.05, 1.05, 1.5, 10.0])
def test_values_outside_fail(value):
    for seed in range(5):
        report = judge(relu_with(value), AT, rng=seed)
        assert report.verdict == "fail", report
        assert [e.input for e in report.elements] == ["x0[0]"]
        assert report.elements[0].slopes == pytest.approx((0, 1), abs=1e-6)


def test_a_wrong_gradient_beside_a_kink_fails():
    wrong = (RELU[0], lambda x, g: g * np.where(x == 1.0, 1.01, x > 0))
    report = judge(wrong, AT)
    assert report.verdict == "fail"
    assert [e.input for e in report.elements] == ["x0[1]"]


def test_kinks_may_be_rejected_or_failed():
    assert judge(tg.relu, AT, kinks="subgradient").verdict == "pass"
    failed = judge(tg.relu, AT, kinks="fail")
    assert failed.verdict == "fail"
    assert failed.kinks
    assert any("differentiable" in c for c in failed.causes), failed
    assert judge(relu_with(0.5), AT, kinks="fail").verdict == "fail"
    with pytest.raises(AssertionError):
        gradcheck(tg.relu, AT, kinks="fail")
    assert judge(tg.relu, AT, kinks="reject").verdict != "fail"
    for kinks in ("fail", "reject"):
        assert judge(tg.relu, AT[1:], kinks=kinks).verdict == "pass"


def test_hypothesis_draws_another_example_where_kinks_are_rejected():
    kept = []

    @settings(max_examples=50, suppress_health_check=list(HealthCheck), database=None)
    @given(st.sampled_from([0.0, 1.0, -2.0]))
    def test(value):
        assert gradcheck(tg.relu, np.array([value]), kinks="reject")
        kept.append(value)

    test()
    assert set(kept) == {1.0, -2.0}


def test_kinks_that_cancel():
    assert judge(lambda x: tg.relu(x) - tg.relu(x), AT).verdict == "pass"
    both = (lambda x: np.stack([np.abs(x), -np.abs(x)]), lambda x, g: np.sign(x) * (g[0] - g[1]))
    for seed in range(10):
        assert judge(both, AT, rng=seed).verdict == "pass"
        assert judge(both, np.zeros(2), rng=seed, kinks="fail").verdict == "fail"
    for seed in range(10):
        report = judge(lambda x: tg.relu(x) - tg.relu(-x), AT, rng=seed)
        assert report.verdict == "fail"  # it is x, and the gradient 0 at 0


@pytest.mark.parametrize("pair", [RELU, ABS, CLIP, BENT], ids=["relu", "abs", "clip", "bent"])
def test_near_kinks(pair):
    def near(rng):
        small = 10 ** rng.uniform(-14, -1, 2) * rng.choice([-1, 1], 2)
        return np.concatenate([rng.standard_normal(3), small, 1 + small, small - 1])

    assert verdicts(pair, near, 60)["fail"] == 0
    found = verdicts(scaled(pair, 1.01), near, 25)
    assert found["pass"] == 0, found


@pytest.mark.parametrize("pair", [RELU, ABS, BENT], ids=["relu", "abs", "bent"])
def test_near_kinks_at_zero_steps_are_small_enough(pair):
    def near(rng):
        return 10 ** rng.uniform(-14, -1, 5) * rng.choice([-1, 1], 5)

    assert verdicts(pair, near, 40)["pass"] == 40
    assert verdicts(scaled(pair, 1.01), near, 20)["fail"] == 20


@pytest.mark.parametrize(
    ("fn", "x"),
    [
        ((np.floor, lambda x, g: 0 * g), np.array([1.0, 2.0, 2.5])),
        (tg.sign, np.array([0.0, 2.0])),
        ((lambda x: x + (x > 0), lambda x, g: g), np.array([0.0, 1.0])),
        ((np.floor, lambda x, g: g), np.array([1.0, 2.0])),
    ],
)
def test_at_jumps_nothing_is_sure(fn, x):
    for seed in range(10):
        assert judge(fn, x, rng=seed).verdict == "unsure"


def test_the_search_finds_a_kink_of_one_example():
    """The kinks are those of the point, whatever the size of the numbers."""
    x = find(st.floats(-1e6, 1e6), lambda x: bool(judge(tg.abs, np.array([x])).kinks))
    assert x == 0.0
