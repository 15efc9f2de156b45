"""Wrong rules are found, where and why; their right twins pass."""

import numpy as np
import pytest

import tinygrad_rnn as tg
from tests.testing.judging import BIAS, MATMUL, PRODUCT, SIN, SQUARE, judge, normal, scaled
from tinygrad_rnn.testing import GradientError, gradcheck, gradgradcheck

A, B, V = normal(4, 4), normal(4, 4, seed=1), normal(4, seed=2)
ONE = np.ones((4, 4))
ONE[2, 1] = 1.001


def as_pair(f, vjp):
    return f, vjp


def as_opaque(f, vjp):
    return tg.primitive(f, vjp)


def as_fused(f, vjp):
    """Kernels with this backward; the definition is never differentiated in vjp mode."""

    def backward(saved, g):
        found = vjp(*saved, g)
        return found if isinstance(found, tuple) else (found,)

    def forward(*xs):
        return f(*xs), xs

    tensors = {np.sin: tg.sin, np.square: tg.square, np.multiply: tg.multiply, np.add: tg.add}
    return tg.fused(forward, backward)({**tensors, np.matmul: tg.matmul}[f])


FORMS = pytest.mark.parametrize("form", [as_pair, as_opaque, as_fused])

WRONG = {  # name: pair, inputs, the input at fault, part of the cause
    "scaled": (scaled(SIN, 1.001), (A,), "x0", "factor, 1.001"),
    "slightly": (scaled(SIN, 1 + 1e-6), (A,), "x0", ""),
    "sign": ((np.matmul, lambda a, b, g: (-g @ b.T, a.T @ g)), (A, B), "x0", "sign"),
    "zero": (scaled(SIN, 0.0), (A,), "x0", "no gradient"),
    "one element": (scaled(SQUARE, ONE), (A,), "x0[2, 1]", "1 of 16"),
    "only the second": (
        (np.multiply, lambda x, y, g: (g * y, 1.01 * g * x)),
        (A, B),
        "x1",
        "factor, 1.01",
    ),
    "transposed": ((np.matmul, lambda a, b, g: (b @ g.T, a.T @ g)), (A, B), "x0", "transposed"),
    "transposed second": (
        (np.matmul, lambda a, b, g: (g @ b.T, g.T @ a)),
        (A, B),
        "x1",
        "transposed",
    ),
    "term is missing": (
        (np.matmul, lambda a, b, g: (g @ b.T - g[:, :1] @ b.T[:1], a.T @ g)),
        (A, B),
        "x0",
        "",
    ),
    "first slice": ((np.add, lambda a, b, g: (g, g[0])), (A, V), "x1", "sum"),
    "last slice": ((np.add, lambda a, b, g: (g, g[-1])), (A, V), "x1", "sum"),
    "mean": ((np.add, lambda a, b, g: (g, g.mean(0))), (A, V), "x1", "0.25"),
    "not square": (
        (np.matmul, lambda a, b, g: (1.01 * g @ b.T, a.T @ g)),
        (A[:2], B[:, :3]),
        "x0",
        "factor, 1.01",
    ),
    "size 1": (
        (np.multiply, lambda x, y, g: (g * y, (g * x).sum(0, keepdims=True) * 1.01)),
        (A, B[:1]),
        "x1",
        "factor, 1.01",
    ),
}


@FORMS
@pytest.mark.parametrize("kind", WRONG)
def test_wrong_gradients_fail_with_the_element_and_the_cause(kind, form):
    pair, inputs, fault, cause = WRONG[kind]
    report = judge(form(*pair), *inputs, modes=("vjp",))
    assert report.verdict == "fail", report
    assert report.elements, report
    assert all(e.input.startswith(fault) for e in report.elements), report
    assert not cause or any(cause in c for c in report.causes), report
    worst = report.elements[0]
    assert abs(worst.analytic - worst.numeric) > 12 * worst.error


@FORMS
@pytest.mark.parametrize(
    ("pair", "inputs"),
    [(SIN, (A,)), (SQUARE, (A,)), (PRODUCT, (A, B)), (MATMUL, (A[:2], B[:, :3])), (BIAS, (A, V))],
)
def test_right_twins_pass(pair, inputs, form):
    for seed in range(5):
        report = judge(form(*pair), *inputs, rng=seed)
        assert report.verdict == "pass", report
        assert report.resolution < 1e-8
        assert not report.causes
        assert not report.elements


def test_a_gradient_of_the_shape_of_the_output_fails():
    report = judge((np.add, lambda a, b, g: (g, g)), A, V)
    assert report.verdict == "fail"
    assert "x1" in report.causes[0]
    assert "sum over a broadcast axis" in report.causes[0]


def test_the_elements_have_the_values_that_both_ways_give():
    report = judge(scaled(SQUARE, ONE), A)
    (element,) = report.elements
    assert element.output == "out[2, 1]"
    assert element.analytic == pytest.approx(2 * A[2, 1] * 1.001)
    assert element.numeric == pytest.approx(2 * A[2, 1])
    assert element.step > 0


def test_wrong_only_at_one_element_of_many():
    x, factor = normal(300, 300), np.ones((300, 300))
    factor[117, 5] = -1.0
    total = (lambda x: np.sum(x * x), lambda x, g: 2 * g * x * factor)
    report = judge(total, x)
    assert report.verdict == "fail"
    assert [e.input for e in report.elements] == ["x0[117, 5]"]


# Rules of ops, and derivatives of gradients


@tg.primitive(x=lambda g, factor: factor * g)
def lens(x: tg.Array, factor: float):
    return np.array(x)


@tg.primitive(x=lambda g, x, factor: g * (2.0 * lens(x, factor)))
def squared(x: tg.Array, factor: float):
    return x * x


def test_wrong_only_at_second_order():
    assert judge(lambda x: squared(x, 1.01), A).verdict == "pass"
    report = judge(lambda x: squared(x, 1.01), A, order=2)
    assert (report.verdict, report.order) == ("fail", 2)
    assert any("x0" in c and "1.01" in c for c in report.causes), report
    assert gradgradcheck(lambda x: squared(x, 1.0), A)
    with pytest.raises(GradientError, match="order 2"):
        gradgradcheck(lambda x: squared(x, 1.01), A)


def test_wrong_only_where_the_gradient_is_recorded():
    @tg.primitive(x=lambda g, x: g * x * (2.02 if isinstance(x, tg.Tensor) else 2.0))
    def square(x: tg.Array):
        return x * x

    report = judge(square, A)
    assert report.verdict == "fail"
    assert any("jvp" in c or "recorded" in c for c in report.causes)
    assert judge(square, A, modes=("jvp",)).verdict == "fail"


def test_a_definition_that_differs_from_its_kernels():
    def kernel(factor):
        fuse = tg.fused(lambda x: (x * x, x), lambda x, g: (2.0 * x * g,))
        return fuse(lambda x: factor * x * x)

    assert judge(kernel(1.01), A, order=2).verdict == "fail"
    assert judge(kernel(1.0), A, order=2).verdict == "pass"


@pytest.mark.parametrize("fn", [tg.tanh, tg.sigmoid, tg.exp, tg.silu, tg.log_softmax, tg.erf])
def test_right_ops_pass_up_to_the_third_order(fn):
    for order in (1, 2, 3):
        report = judge(fn, A, order=order)
        assert (report.verdict, report.order) == ("pass", order), report


# Forms of fn


def test_several_outputs_some_of_them_whole_numbers():
    def several(x, y):
        return x * y, tg.argmax(x), tg.sum(y), tg.full((2,), 3.0, dtype=np.float64)

    assert judge(several, A, B, order=2)
    assert judge(lambda x, y: [x @ y, x], A, B)
    for wrong in range(2):
        factors = [1.0, 1.0]
        factors[wrong] = 1.01

        def fn(x, factors=factors):
            return squared(x, 1.0), tg.argmax(x), lens(x, factors[0]), lens(x, factors[1])

        report = judge(fn, A)
        assert report.verdict == "fail"
        assert {e.output.split("]")[0] for e in report.elements} == {f"out[{wrong + 1}"}


def test_an_output_of_float32_does_not_blunt_the_check_of_the_others():
    def fn(x):
        return lens(x, 1.001), tg.ones((3,))

    assert judge(fn, A).verdict == "fail"


def test_outputs_that_depend_on_some_inputs_or_none():
    assert judge(lambda x, y: 2.0 * x, A, B)
    assert judge((lambda x, y: 2 * x, lambda x, y, g: (2 * g, None)), A, B)
    assert judge((lambda x: np.ones(3), lambda x, g: None), A)
    assert judge((lambda x: np.ones(3), lambda x, g: np.full_like(x, 0.1)), A).verdict == "fail"
    report = judge(lambda x: tg.Tensor(x.numpy()) + 0.0 * x, A)
    assert report.verdict == "fail"
    assert any("no gradient" in c for c in report.causes)


def test_sizes_from_none_to_many():
    assert judge(tg.sin, np.array(0.5))
    assert judge(tg.sin, np.ones((1, 1, 1)))
    assert judge(lambda x, y: tg.sum(x) + y, np.zeros((0, 3)), V)
    for fn, x in [(tg.sin, np.zeros((0, 3))), (tg.sum, np.zeros(0)), (lambda x: x[:0], A)]:
        report = judge(fn, x)
        assert report.verdict == "unsure"
        assert "no elements" in report.notes[0]
    large = normal(1000, 1000)
    assert judge(tg.sin, large)
    assert judge(lambda x: tg.sum(x * x), large)
    nothing = (np.sin, lambda x, g: np.zeros((1, 3)))
    assert judge(nothing, np.zeros((0, 3))).verdict == "fail"


def test_inputs_may_be_tensors_views_or_read_only():
    assert judge(tg.sin, tg.Tensor(A))
    assert judge(tg.matmul, tg.Tensor(A), B)
    assert judge(tg.sin, A[::2, ::-1].T)
    assert judge(tg.sin, np.broadcast_to(V, (4, 4)))
    assert gradcheck(tg.sin, 0.5)


def test_the_inputs_of_the_caller_stay_as_they_are():
    before = A.copy()
    judge((lambda x: np.negative(x, out=x), lambda x, g: -g), A)
    judge(tg.sin, A)
    assert np.array_equal(before, A)
