"""What holds for every right gradient, beside its value."""

import itertools

import numpy as np
import pytest

import tinygrad_rnn as tg
from tests.testing.judging import PRODUCT, SIN, SQUARE, judge, normal

A, B = normal(4, 4), normal(4, 4, seed=1)


def always(pair, word, *inputs, seeds=10):
    """The pair fails with any seed, and a cause says the word."""
    for seed in range(seeds):
        report = judge(pair, *(inputs or (A,)), rng=seed)
        assert report.verdict == "fail", report
        assert any(word in c for c in report.causes), report


def written_after(x, g):
    found = 2 * g * x
    x += 1.0
    return found


def cotangent_after(x, g):
    found = 2 * g * x
    g *= 2.0
    return found


def test_the_input_is_modified():
    def forward(x):
        x += 1.0
        return x * x

    always((forward, lambda x, g: 2 * g * x), "x0: the input is modified")
    always((np.square, written_after), "x0: the input is modified")
    second = (np.multiply, lambda x, y, g: (g * y, g * np.multiply(x, 1, out=y)))
    always(second, "x1: the input is modified", A, B)


def test_the_input_of_an_op_is_modified():
    kept = tg.fused(lambda x: (x * x, x), lambda x, g: (written_after(x, g),))
    always(kept(lambda x: x * x), "modified", seeds=3)
    always(tg.primitive(np.square, written_after), "modified", seeds=3)


def test_the_cotangent_is_modified():
    always((np.square, cotangent_after), "cotangent")

    def before(x, g):
        g *= 2.0
        return g * x

    always((np.square, before), "cotangent")


def test_values_that_change_from_call_to_call():
    rng = np.random.default_rng(0)
    value = (lambda x: x * x + 1e-3 * rng.standard_normal(x.shape), SQUARE[1])
    always(value, "deterministic")
    calls = []

    def counted(x):
        calls.append(x)
        return x * x + 1e-6 * len(calls)

    always((counted, SQUARE[1]), "deterministic")


def test_sums_that_cancel_near_a_kink_may_be_rounded_otherwise_with_other_strides():
    def f(x, w, b):
        return np.maximum(w @ x + b, 0)

    def vjp(x, w, b, g):
        d = g * (w @ x + b > 0)
        return w.T @ d, np.outer(d, x), d

    for seed in range(100):
        x, w = normal(8, seed=seed), normal(1, 8, seed=seed + 1000)
        b = 10.0 ** -(13 + seed % 2) - w @ x
        assert judge((f, vjp), x, w, b, rng=seed).verdict != "fail"


def test_shapes_that_change_from_call_to_call():
    sizes = itertools.cycle([1, 2])
    always((lambda x: np.zeros(next(sizes)), lambda x, g: 0 * x), "shape", seeds=3)


def test_gradients_that_change_from_call_to_call():
    rng = np.random.default_rng(0)

    def shaken(x, g):
        return 2 * g * x * (1 + 1e-3 * rng.standard_normal(x.shape))

    for seed in range(8):
        assert judge((np.square, shaken), A, rng=seed).verdict == "fail"
    op = tg.primitive(x=lambda g, x: 2.0 * g * x * (1 + 1e-3 * float(rng.standard_normal())))
    for seed in range(8):
        assert judge(op(lambda x: x * x), A, rng=seed).verdict == "fail"


@pytest.mark.parametrize(
    "vjp",
    [
        lambda x, g: 2 * np.abs(g) * x,
        lambda x, g: 2 * np.maximum(g, 0) * x,
        lambda x, g: 2 * x * g / np.abs(g).max(initial=1e-300),
        lambda x, g: 2 * x * g * np.abs(g),
    ],
)
def test_not_linear_in_the_cotangent(vjp):
    always((np.square, vjp), "linear", seeds=8)


def test_a_cotangent_of_zero_must_give_zero():
    always((np.square, lambda x, g: 2 * x * np.where(g == 0, 1e-2, g)), "zero")
    right = (np.square, lambda x, g: 2 * x * np.where(g == 0, 0.0, g))
    assert judge(right, A)


def test_dtype_and_shape():
    always((np.square, lambda x, g: (2 * g * x).astype(np.float32)), "dtype float32")
    always((np.sum, lambda x, g: np.ones(x.shape, int)), "dtype int64")
    always((np.square, lambda x, g: 2j * g * x), "dtype complex128")
    always((np.square, lambda x, g: (2 * g * x)[None]), "shape (1, 4, 4)")
    always((np.square, lambda x, g: (2 * g * x).ravel()), "shape (16,)")
    transposed = (np.matmul, lambda a, b, g: (b @ g.T, a.T @ g))
    always(transposed, "transposed", A[:2], B[:, :3])
    column = (np.multiply, lambda x, y, g: (g * y, g * x))
    always(column, "sum over a broadcast axis", A, B[:, :1])


def test_strides():
    def flipped(x, g):
        return 2 * g * (x if x.flags.c_contiguous else np.ascontiguousarray(x)[::-1])

    always((np.square, flipped), "strides")

    def buffer(x, g):  # as kernels read memory
        memory = x if x.base is None else x.base
        return 2 * g * np.asarray(memory).reshape(x.shape)

    for seed in range(5):
        assert judge((np.square, buffer), A, rng=seed).verdict == "fail"


def test_an_input_computed_from_another():
    def blind(x, y):
        """Cuts off what it is computed from."""
        node = getattr(y, "_node", None)
        return x * (y.detach() if node is not None and node.edges else y)

    def leaf_only(x, y):
        return x * y if y.is_leaf else x * y.detach()

    fn = leaf_only if hasattr(tg.Tensor, "is_leaf") else blind
    assert judge(tg.multiply, A, B)
    assert judge(tg.matmul, A, B)
    assert judge(fn, A, B).verdict in ("pass", "fail")  # not always the one that is cut off


def test_the_same_tensor_twice():
    def by_identity(x, y):
        return x.detach() * y if x is y else x * y

    always(by_identity, "same tensor", A, B)
    assert judge(tg.multiply, A, A)
    assert judge(lambda x, y: x @ y, A, A.copy())


def test_same_tensor_where_the_first_has_no_place():
    """log(y) where x, which is negative, would take the place of y."""
    assert judge(lambda x, y: x * tg.log(y), -np.abs(A) - 1.0, np.abs(B) + 1.0)


def test_nan_and_infinity_where_a_value_is_known():
    for bad in (np.nan, np.inf, -np.inf):
        where_trick = (np.square, lambda x, g, bad=bad: 2 * g * np.where(x > 0, x, bad))
        for seed in range(3):
            assert judge(where_trick, np.array([1.0, -1.0]), rng=seed).verdict == "fail"
        always_bad = (np.square, lambda x, g, bad=bad: g * np.full_like(x, bad))
        assert judge(always_bad, A).verdict == "fail"


def test_right_gradients_keep_every_law():
    for pair, inputs in [(SIN, (A,)), (SQUARE, (A[::-1],)), (PRODUCT, (A, B.T))]:
        for seed in range(20):
            assert judge(pair, *inputs, rng=seed), seed
    for seed in range(20):
        assert judge(lambda x, y: tg.tanh(x @ y) * tg.exp(x), A, B, rng=seed)
