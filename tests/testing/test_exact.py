"""`exact_gradcheck`: to the last bit, or not at all."""

import numpy as np
import pytest

import tinygrad_rnn as tg
from tests.testing.judging import MATMUL, SQUARE, exactly, scaled
from tinygrad_rnn.testing import GradientError, exact_gradcheck

RNG = np.random.default_rng(0)


def whole(*shape):
    return RNG.integers(-3, 4, shape).astype(float)


MASK = np.array([True, False, True])
EXACT = {
    "add": (tg.add, whole(3), whole(2, 3)),
    "multiply": (tg.multiply, whole(3), whole(2, 3)),
    "matmul": (tg.matmul, whole(2, 3), whole(3, 4)),
    "einsum": (lambda a, b: tg.einsum("ij,kj->ik", a, b), whole(2, 3), whole(4, 3)),
    "outer": (tg.outer, whole(2), whole(3)),
    "sum": (tg.sum, whole(2, 3)),
    "mean of 4": (tg.mean, whole(2, 2)),
    "var of 4": (tg.var, whole(4)),
    "cumsum": (lambda a: tg.cumsum(a, 0), whole(3, 2)),
    "take": (lambda a: tg.take(a, np.array([0, 0, 2]), 0), whole(3, 2)),
    "concatenate": (lambda a, b: tg.concatenate([a, b]), whole(3), whole(2)),
    "stack": (lambda a, b: tg.stack([a, b]), whole(3), whole(3)),
    "transpose": (tg.transpose, whole(3, 2)),
    "pad": (lambda a: tg.pad(a, 1), whole(3)),
    "tril": (tg.tril, whole(3, 3)),
    "repeat": (lambda a: tg.repeat(a, 3), whole(3)),
    "sort": (tg.sort, np.array([3.0, 1.0, 2.0, -4.0])),
    "maximum": (tg.maximum, whole(3, 3), whole(3, 3)),
    "max": (tg.max, whole(4)),
    "relu": (tg.relu, whole(5)),
    "abs": (tg.abs, whole(5)),
    "clip": (lambda x: tg.clip(x, -1, 1), whole(5)),
    "where": (lambda a, b: tg.where(MASK, a, b), whole(3), whole(3)),
    "square": (tg.square, whole(3)),
    "cube": (lambda x: x**3, whole(3)),
    "prod": (tg.prod, whole(3)),
    "quarter": (lambda x: x / 4, whole(3)),
    "linear recurrence": (lambda w, x: w @ (w @ (w @ x)), whole(2, 2), whole(2)),
    "constant": (lambda x: tg.ones((2,)), whole(2)),
    "one number": (tg.square, np.array(3.0)),
}


@pytest.mark.parametrize("name", EXACT)
def test_piecewise_polynomials_pass(name):
    fn, *inputs = EXACT[name]
    for seed in range(3):
        report = exactly(fn, *inputs, rng=seed)
        assert report.verdict == "pass", report
        assert report.resolution == 0.0


@pytest.mark.parametrize("factor", [1 + 2**-52, 1 - 2**-53, 1.001, -1.0])
def test_one_unit_in_the_last_place_is_seen(factor):
    mask = np.ones(5)
    mask[3] = factor
    report = exactly(scaled(SQUARE, mask), np.arange(1.0, 6.0))
    assert report.verdict == "fail"
    assert [(e.input, e.output) for e in report.elements] == [("x0[3]", "out[3]")]
    assert exactly(scaled(MATMUL, factor), whole(2, 2) + 5, whole(2, 2) + 5).verdict == "fail"
    with pytest.raises(GradientError, match=r"(?s)exact_gradcheck: .*x0\[3\]") as caught:
        exact_gradcheck(scaled(SQUARE, mask), np.arange(1.0, 6.0))
    assert caught.value.report.verdict == "fail"


def test_a_difference_of_one_unit_can_be_read_in_the_report():
    report = exactly(scaled(SQUARE, 1 + 2**-52), np.array([4.0]))
    assert "8.000000000000002" in str(report)


@pytest.mark.parametrize("fn", [tg.exp, tg.tanh, tg.sigmoid, tg.sin, lambda x: x / 3, tg.mean])
def test_other_functions_are_unsure(fn):
    for x in (np.array([1.0, -2.0, 0.0]), np.zeros(3)):
        report = exactly(fn, x)
        if not (fn is tg.mean and not x.any()):
            assert report.verdict == "unsure", report
            assert report.notes


@pytest.mark.parametrize("power", [4, 5, 7])
def test_powers_that_seven_points_do_not_determine(power):
    x = np.array([2.0, -1.0])
    right = (lambda x: x**power, lambda x, g: g * power * x ** (power - 1))
    assert exactly(right, x).verdict != "fail"
    for factor in (1 + 1e-12, 1 + 1e-9, 1 + 1e-6):
        report = exactly(scaled(right, factor), x)
        assert report.verdict != "pass", report  # none that says it sees each bit
        assert not exactly(right, x).kinks


@pytest.mark.parametrize("fn", [tg.exp, lambda x: x**30])
def test_large_values_are_not_exact(fn):
    for x in (64.0, 60.0):
        report = exactly(fn, np.array([x]))
        assert report.verdict == "unsure", report


def relu_with(value):
    return (lambda x: np.maximum(x, 0)), lambda x, g: g * np.where(x == 0, value, x > 0)


def test_ties():
    x = np.array([0.0, 1.0, -1.0])
    for value in (0.0, 0.5, 1.0):
        report = exactly(relu_with(value), x)
        assert report.verdict == "pass"
        assert len(report.kinks) == 1
        assert "out[0]" in report.kinks[0]
    for value in (-1e-15, 1 + 2**-52, 2.0):
        report = exactly(relu_with(value), x)
        assert report.verdict == "fail"
        assert report.elements[0].slopes == (0.0, 1.0)
    for fn in (tg.sort, tg.max, lambda x: tg.topk(x, 2)[0]):
        for tie in ([1.0, 1.0, 0.0], [2.0, 2.0, 2.0], [0.0, 0.0, 1.0]):
            assert exactly(fn, np.array(tie)).verdict == "pass", tie
    assert exactly(tg.norm, np.zeros(2)).verdict != "fail"


def test_jumps_are_unsure():
    assert exactly((np.floor, lambda x, g: 0 * g), whole(3)).verdict == "unsure"
    assert exactly(tg.sign, np.array([0.0, 1.0])).verdict == "unsure"


def test_values_that_are_not_finite():
    with np.errstate(all="ignore"):
        for fn in (tg.log, lambda x: 1.0 / x, lambda x: tg.sqrt(x - 1.0)):
            assert exactly(fn, np.zeros(2)).verdict == "unsure"


def test_what_else_is_checked():
    def modified(x):
        x += 1.0
        return x

    assert exactly((modified, lambda x, g: g), whole(3)).verdict == "fail"
    assert exactly((np.add, lambda a, b, g: (g, g)), whole(2, 3), whole(3)).verdict == "fail"
    assert exactly((np.sum, lambda a, g: np.full(a.shape, g, "f4")), whole(3)).verdict == "fail"
    assert exactly((np.square, lambda x, g: g * np.nan), whole(3)).verdict == "fail"


def test_inputs_that_have_no_exact_differences():
    for bad, text in [([0.5], "0.5"), ([1.0, 1025.0], "1025"), ([-1e300], "1e"), ([np.nan], "nan")]:
        with pytest.raises(ValueError, match=f"gradcheck: expected .*got.*{text}"):
            exact_gradcheck(tg.square, np.array(bad))
    for bad in (np.array([1, 2]), "ab", None, [np.array([1.0]), None]):
        with pytest.raises(TypeError, match="gradcheck: expected"):
            exact_gradcheck(tg.square, bad)
    with pytest.raises(ValueError, match="gradcheck: expected 1 names"):
        exact_gradcheck(tg.square, whole(2), names=["a", "b"])
    with pytest.raises(ValueError, match="gradcheck: expected"):
        exact_gradcheck(tg.square, [])
    with pytest.raises(ValueError, match="gradcheck: expected fn to return floating-point"):
        exact_gradcheck(tg.argmax, whole(3))


def test_single_precision_is_taken_in_double():
    assert exactly(tg.square, whole(3).astype(np.float32))


def test_no_elements():
    report = exactly(tg.sum, np.zeros(0))
    assert report.verdict == "unsure"
    assert "no elements" in str(report)


def test_of_many_kinks_some_are_listed():
    report = exactly(tg.relu, np.zeros(20))
    assert report.verdict == "pass"
    assert len(report.kinks) == 6
    assert report.kinks[-1] == "and 15 more"


def test_under_no_grad():
    with tg.no_grad():
        assert exactly(tg.square, whole(3))
