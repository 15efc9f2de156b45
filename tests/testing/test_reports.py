"""What a user reads: reports, errors about inputs, counts, the same every time."""

import numpy as np
import pytest

import tinygrad_rnn as tg
from tests.testing.judging import MATMUL, PRODUCT, SIN, SQUARE, judge, normal, scaled
from tinygrad_rnn.testing import Element, GradientError, Report, gradcheck, gradgradcheck

A, B = normal(4, 4), normal(4, 4, seed=1)


def test_a_failing_report_says_what_where_and_why():
    mask = np.ones((4, 4))
    mask[2, 1] = 2.0
    with pytest.raises(GradientError) as caught:
        gradcheck(scaled(SQUARE, mask), A, names=["weight"])
    assert isinstance(caught.value, AssertionError)
    report, text = caught.value.report, str(caught.value)
    assert isinstance(report, Report)
    assert isinstance(report.elements[0], Element)
    assert text.startswith("gradcheck: fail")
    for part in ("weight[2, 1]", "out[2, 1]", "analytic", "numeric", "±", "step", "1 of 16"):
        assert part in text
    assert f"{4 * A[2, 1]:.5f}"[:7] in text
    assert f"{2 * A[2, 1]:.5f}"[:7] in text
    assert str(report) in text
    assert max(map(len, text.splitlines())) < 250


def test_a_passing_report():
    report = gradcheck(tg.sin, A)
    assert report
    assert bool(report) is True
    text = str(report)
    assert text.startswith("pass")
    assert f"{report.evaluations} evaluations" in text
    assert "\n  fail" not in text
    assert abs(report.analytic - report.numeric) <= 12 * report.error
    assert 0 < report.error < 1e-8
    assert 0 < report.resolution < 1e-8


@pytest.mark.parametrize("order", [1, 2])
def test_an_unsure_report_says_why(order):
    report = judge((lambda x: x + (x > 0), lambda x, g: g), np.array([0.0, 1.0]))
    assert not report
    assert report.verdict == "unsure"
    assert report.notes or report.elements
    assert "nan" not in str(judge(tg.log, -np.ones(2), order=order)).split("\n", 1)[1]
    assert "finite" in str(judge(tg.log, -np.ones(2), order=order))


def test_an_unsure_check_does_not_raise():
    with np.errstate(all="ignore"):
        assert gradcheck(tg.log, -np.ones(2)).verdict == "unsure"


def test_opaque_ops_in_forward_mode_say_what_is_missing():
    report = judge(tg.primitive(*SIN), A, modes=("jvp",))
    assert report.verdict == "unsure"
    assert any("jvp" in n for n in report.notes)
    assert not any("noisy" in n for n in report.notes)


def test_names_are_those_of_the_inputs():
    wrong = (np.multiply, lambda x, y, g: (g * y, 1.01 * g * x))
    report = judge(wrong, A, B, names=["left", "right"])
    assert all(e.input.startswith("right[") for e in report.elements)
    assert all(c.startswith("right:") for c in report.causes)
    report = judge(lambda x: x**3 * 1.0, A, names=("x",), order=2)
    assert report.verdict == "pass"


# The number of evaluations, counted here


@pytest.mark.parametrize("shape", [(), (1,), (7,), (30, 30)])
def test_a_passing_check_takes_25_evaluations_at_most(shape):
    x = normal(*shape) + 0.1
    for f, vjp in (SIN, SQUARE, (np.exp, lambda x, g: g * np.exp(x))):
        for seed in range(10):
            calls = []
            pair = (lambda x, f=f: calls.append(0) or f(x)), vjp  # noqa: B023
            report = judge(pair, x, rng=seed)
            assert report.verdict == "pass"
            assert report.evaluations == len(calls) <= 25
    for fn in (tg.sin, tg.tanh, tg.logsumexp, lambda x: tg.sum(x * x)):
        for seed in range(10):
            calls = []
            report = judge(lambda x, fn=fn: calls.append(0) or fn(x), x, rng=seed)  # noqa: B023
            assert report.verdict == "pass"
            assert report.evaluations == len(calls) <= 25


def test_evaluations_are_counted_in_every_other_case_too():
    cases = [
        (scaled(SIN, 1.01), (A,), {}),
        (SIN, (A.astype(np.float32),), {}),
        (scaled(PRODUCT, -1), (A, B), {}),
    ]
    for (f, vjp), inputs, options in cases:
        calls = []
        report = judge((lambda *xs, f=f: calls.append(0) or f(*xs), vjp), *inputs, **options)  # noqa: B023
        assert report.evaluations == len(calls)
    for order in (1, 2, 3):
        calls = []
        report = judge(lambda x: calls.append(0) or tg.tanh(x), A, order=order)  # noqa: B023
        assert report.verdict == "pass"
        assert len(calls) <= 25 * 2**order
        assert report.evaluations == len(calls)


# The same every time


def test_the_same_call_gives_the_same_report():
    for fn in (MATMUL, scaled(MATMUL, 1.01), tg.matmul):
        assert str(judge(fn, A, B)) == str(judge(fn, A.copy(), B.copy()))
        assert str(judge(fn, A, B, rng=3)) == str(judge(fn, A, B, rng=3))
        seeded = [str(judge(fn, A, B, rng=np.random.default_rng(5))) for _ in range(2)]
        assert seeded[0] == seeded[1]
    assert judge(tg.matmul, A, B).analytic != judge(tg.matmul, B, A).analytic
    assert judge(tg.matmul, A, B, rng=1).analytic != judge(tg.matmul, A, B, rng=2).analytic
    generator = np.random.default_rng(0)
    first, second = (judge(tg.sin, A, rng=generator).analytic for _ in range(2))
    assert first != second


def test_the_global_generators_are_left_alone():
    np.random.seed(0)
    before = np.random.get_state()[1].copy(), str(tg.get_rng_state())
    judge(tg.sin, A, order=2)
    assert np.array_equal(before[0], np.random.get_state()[1])
    assert before[1] == str(tg.get_rng_state())


# Errors


@pytest.mark.parametrize("check", [gradcheck, gradgradcheck, tg.testing.exact_gradcheck])
@pytest.mark.parametrize(
    ("bad", "got"),
    [
        (np.array([1, 2]), "int64"),
        (3, "int"),
        (np.array([True]), "bool"),
        (np.array([1j]), "complex128"),
        (np.float16(1.0), "float16"),
        ("abc", ""),
        (None, ""),
        (object(), ""),
        ([A, None], "input 1"),
        ({"a": A}, ""),
        (tg.Tensor([1, 2]), "int"),
    ],
)
def test_inputs_of_other_kinds(check, bad, got):
    with pytest.raises(TypeError, match=rf"gradcheck: expected .* got .*{got}"):
        check(tg.sin, bad)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_inputs_that_are_not_finite(bad):
    x = A.copy()
    x[1, 2] = bad
    with pytest.raises(ValueError, match=r"gradcheck: expected finite.* got .*\(1, 2\).*input 1"):
        gradcheck(tg.matmul, [A, x])


@pytest.mark.parametrize("nothing", [[], ()])
def test_no_inputs(nothing):
    with pytest.raises(ValueError, match="gradcheck: expected at least one input"):
        gradcheck(tg.sin, nothing)


@pytest.mark.parametrize("fn", [None, 3, "sin", (np.sin,), (np.sin, 3), (np.sin,) * 3, {}])
def test_what_is_no_function(fn):
    with pytest.raises(TypeError, match=r"gradcheck: expected a function of Tensors, or a pair"):
        gradcheck(fn, A)


@pytest.mark.parametrize(
    "options",
    [
        {"names": ["a", "b"]},
        {"names": 3},
        {"modes": ()},
        {"modes": ("hvp",)},
        {"modes": None},
        {"modes": 3},
        {"kinks": "ignore"},
        {"kinks": None},
        {"order": 0},
        {"order": -1},
        {"order": "2"},
        {"order": None},
        {"resolution": "fine"},
        {"resolution": -1.0},
        {"resolution": float("nan")},
        {"rng": "seed"},
        {"rng": -1},
    ],
    ids=str,
)
def test_wrong_options(options):
    with pytest.raises((TypeError, ValueError), match=r"gradcheck: expected .*got"):
        gradcheck(tg.sin, A, **options)


@pytest.mark.parametrize(
    ("fn", "error", "text"),
    [
        (lambda x: x.numpy(), TypeError, "ndarray.*pair"),
        (lambda x: None, TypeError, "NoneType"),
        (lambda x: [], ValueError, "floating-point"),
        (lambda x: {"a": x}, TypeError, "dict"),
        (lambda x: (x, (x, x)), TypeError, "tuple"),
        (tg.argmax, ValueError, "floating-point"),
        ((lambda x: None, SIN[1]), TypeError, "NoneType"),
        ((lambda x: "a", SIN[1]), TypeError, "str"),
        ((lambda x: (x, x), SIN[1]), TypeError, "tuple"),
        ((lambda x: x * 1j, SIN[1]), TypeError, "real"),
        ((lambda x: x.astype(int), SIN[1]), ValueError, "floating-point"),
        ((np.sin, lambda x, g: (g, g)), ValueError, r"one gradient per input \(1\), got 2"),
    ],
)
def test_results_that_have_no_derivative(fn, error, text):
    with pytest.raises(error, match=rf"gradcheck: expected .*{text}"):
        gradcheck(fn, A)


def test_a_pair_has_its_vjp_and_first_order_only():
    with pytest.raises(ValueError, match=r"gradcheck: .*pair.*order 2"):
        gradcheck(SIN, A, order=2)
    with pytest.raises(ValueError, match=r"gradcheck: .*pair.*jvp"):
        gradcheck(SIN, A, modes=("jvp",))
    assert gradcheck(SIN, A, modes=("vjp",))


def test_errors_of_the_function_come_through():
    def broken(*arguments):
        raise ZeroDivisionError("from the function")

    for fn in (broken, (broken, SIN[1]), (np.sin, broken)):
        with pytest.raises(ZeroDivisionError, match="from the function"):
            gradcheck(fn, A)
