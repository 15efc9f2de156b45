"""Laws of `pointwise`: compiled functions of single elements are their definitions."""

import copy
import functools
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes

import tinygrad_rnn as tg
from tests.cells.test_bits import Zoned
from tinygrad_rnn.autograd import writes
from tinygrad_rnn.autograd.trace.atoms import Untraceable
from tinygrad_rnn.kernels.elementwise import kernel
from tinygrad_rnn.kernels.pointwise.table import POINTWISE


def gelu(x):
    return 0.5 * x * (1.0 + tg.tanh(0.7978845608 * (x + 0.044715 * x**3)))


def gate(f, c, i, g):
    return tg.sigmoid(f) * c + tg.sigmoid(i) * tg.tanh(g)


def affine(x, a, b):
    return tg.tanh(a * x + b)


def branches(x, y):
    return tg.where(x > y, x * tg.exp(-y), tg.clip(x / (1.0 + y * y), -0.5, 0.5))


def several(x, y):
    s = tg.softplus(x + y)
    return s, tg.maximum(x, y) * s, tg.sqrt(1.0 + x * x) - 2.0 / (3.0 + tg.abs(y))


def powers(x, y):
    z = 1.5 + tg.sin(x) * tg.cos(y)
    return z**-1 + z**0.5 * y**2 - z**2.5


def errors(x, y):
    return tg.erf(x) * tg.gelu(y) + tg.log1p(tg.square(x)) - tg.silu(y) * tg.expm1(-tg.relu(x))


def copied(x, y):
    """Gradients that are the cotangent, or constants."""
    return x - y, y + 0.0 * x


FUNCTIONS = {f: f.__code__.co_argcount for f in (gelu, gate, affine, branches, several, powers,
                                                 errors, copied)}  # fmt: skip
ALL = pytest.mark.parametrize("fn", FUNCTIONS, ids=lambda f: f.__name__)
DTYPES = pytest.mark.parametrize("dtype", ("float64", "float32"))
SHAPES = [  # of up to four inputs
    ((5,), (5,), (5,), (5,)),
    ((), (), (), ()),
    ((0, 3), (3,), (1, 1), ()),
    ((37, 19), (19,), (37, 1), ()),
    ((1,), (300, 40), (40,), (300, 1)),
    ((9001,), (1,), (), (9001,)),
    ((70, 3, 16), (70, 1, 16), (3, 1), (16,)),
    ((2, 5000), (5000,), (2, 1), (1, 1)),
    ((3, 1, 2), (1, 4, 2), (3, 4, 1), (3, 4, 2)),
]


def drawn(shapes, dtype, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(s).astype(dtype) for s in shapes]


def results(fn, arrays, needs=None, passes=1, make=tg.Tensor):
    """Values, then the gradients for drawn cotangents, as arrays; None for no gradient."""
    leaves = [make(a) for a in arrays]
    for k, leaf in enumerate(leaves):
        leaf.requires_grad = needs is None or needs[k]
    values = fn(*leaves)
    values = values if isinstance(values, tuple) else (values,)
    dtype = values[0].dtype
    cotangents = [tg.Tensor(c) for c in drawn([v.shape for v in values], dtype, 1)]
    pairs = [(v, c) for v, c in zip(values, cotangents, strict=True) if v.requires_grad]
    wanted = [v for v in leaves if v.requires_grad]
    found = []
    for k in range(passes):
        found += tg.grad(
            [v for v, _ in pairs], wanted, [c for _, c in pairs],
            retain_graph=k < passes - 1, allow_unused=True,
        )  # fmt: skip
    return [None if v is None else np.array(v) for v in (*values, *found)]


def close(found, expected, room=1.0):
    """Equal but for rounding, relative to the largest, and NaN and inf at the same places."""
    for f, e in zip(found, expected, strict=True):
        assert (f is None) == (e is None)
        if f is None:
            continue
        assert f.shape == e.shape and f.dtype == e.dtype
        finite = np.isfinite(e)
        np.testing.assert_array_equal(f[~finite], e[~finite])
        size = np.abs(e[finite]).max(initial=1.0)
        summed = 1 + 0.05 * np.sqrt(found[0].size / max(f.size, 1))
        bound = 200 * room * np.finfo(f.dtype).eps * size * summed
        assert np.abs(f[finite] - e[finite]).max(initial=0.0) <= bound


def identical(found, expected):
    for f, e in zip(found, expected, strict=True):
        np.testing.assert_array_equal(f, e, strict=True)


def compiled(fn):
    """Of its own, so that nothing is remembered of other settings; it must not fall back."""
    return tg.pointwise(fn)


@pytest.fixture
def threads(monkeypatch):
    """Set the number of threads, for works of any size."""
    monkeypatch.setattr(kernel, "WORTH", -1)
    before = tg.get_num_threads()
    yield tg.set_num_threads
    tg.set_num_threads(before)


# What it computes


@ALL
@DTYPES
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_values_and_gradients(fn, dtype, shapes):
    arrays = drawn(shapes[: FUNCTIONS[fn]], dtype)
    expected = results(fn, arrays)
    close(results(compiled(fn), arrays), expected)
    if arrays[0].size:
        assert all(np.any(e) for e in expected)


@ALL
def test_one_kernel_runs_each_way(fn, monkeypatch):
    calls, call = [], kernel.Kernel.__call__
    monkeypatch.setattr(kernel.Kernel, "__call__", lambda *a: calls.append(a) or call(*a))
    arrays = drawn([(5, 3)] * FUNCTIONS[fn], "float64")
    results(p := compiled(fn), arrays)
    calls.clear()
    results(p, arrays)
    assert len(calls) == 2


@ALL
def test_gradients_of_gradients(fn):
    arrays = drawn(SHAPES[3][: FUNCTIONS[fn]], "float64")

    def second(f):
        leaves = [tg.Tensor(a, requires_grad=True) for a in arrays]
        values = f(*leaves)
        total = sum((v * v).sum() for v in (values if isinstance(values, tuple) else (values,)))
        first = tg.grad(total, leaves, create_graph=True)
        again = tg.grad(sum(tg.sin(d).sum() for d in first), leaves)
        return [np.array(v) for v in (*first, *again)]

    expected = second(fn)
    close(second(compiled(fn)), expected, room=100.0)
    assert all(np.any(e) for e in expected)


@ALL
def test_forward_derivatives(fn):
    arrays = drawn([(4, 3)] * FUNCTIONS[fn], "float64")
    given = tuple(map(tg.Tensor, arrays))
    tangents = tuple(map(tg.Tensor, drawn([(4, 3)] * len(arrays), "float64", 2)))
    found, expected = ([np.array(tg.func.jvp(f, given, tangents)[1])] for f in (compiled(fn), fn))
    close(found, expected)
    assert np.any(expected)


@ALL
def test_any_inputs_may_want_a_gradient(fn):
    n, p = FUNCTIONS[fn], compiled(fn)
    arrays = drawn(SHAPES[3][:n], "float64")
    for bits in range(1, 2**n):
        needs = [bool(bits >> k & 1) for k in range(n)]
        close(results(p, arrays, needs), results(fn, arrays, needs))


@ALL
@DTYPES
def test_nan_and_infinity(fn, dtype):
    special = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -2.5, 30.0]
    grid = np.meshgrid(*[special] * min(FUNCTIONS[fn], 2))
    arrays = [np.resize(g.ravel(), 64).astype(dtype) for g in [*grid, *grid][: FUNCTIONS[fn]]]
    with np.errstate(all="ignore"):
        close(results(compiled(fn), arrays), results(fn, arrays))


@pytest.mark.parametrize("name", sorted(POINTWISE))
@DTYPES
def test_every_op_with_vector_code(name, dtype):
    comparisons = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
    op = getattr(tg, name, None) or tg.gelu  # which is what normal_cdf is for

    def fn(x, y):
        if name == "where":
            return op(x > y, x, y)
        if name == "power":
            return op(x, 3)
        if name in comparisons:
            return tg.where(op(x, y), x, 2.0 * y)
        binary = name in ("add", "subtract", "multiply", "divide", "maximum", "minimum")
        return op(x, y) if binary else op(x) * y

    arrays = [np.abs(a) + 0.1 for a in drawn([(40, 30), (30,)], dtype)]
    close(results(compiled(fn), arrays), results(fn, arrays))


# What does not matter


@ALL
@DTYPES
@pytest.mark.parametrize("lanes", ("4", "8", "16"))
def test_threads_and_widths(fn, dtype, lanes, threads, monkeypatch):
    monkeypatch.setenv("TINYGRAD_RNN_VECTOR", lanes)
    for shapes in SHAPES[4:6]:
        arrays, p = drawn(shapes[: FUNCTIONS[fn]], dtype), compiled(fn)
        threads(1)
        alone = results(p, arrays)
        close(alone, results(fn, arrays))
        for n in (2, 4, 8):
            threads(n)
            identical(results(p, arrays), alone)


@ALL
def test_two_backward_passes(fn):
    arrays, n = drawn(SHAPES[3][: FUNCTIONS[fn]], "float32"), FUNCTIONS[fn]
    found = results(compiled(fn), arrays, passes=3)
    identical(found[-n:], found[-2 * n : -n])
    identical(found[-n:], found[-3 * n : -2 * n])


@ALL
@DTYPES
def test_red_zones(fn, dtype, threads, monkeypatch):
    """Kernels write nothing beside their arrays, and read nothing that nobody wrote."""
    for shapes in (*SHAPES[3:], *[((n,),) * 4 for n in range(1, 35, 3)]):
        arrays, p = drawn(shapes[: FUNCTIONS[fn]], dtype), compiled(fn)
        expected = results(p, arrays)
        for n in (1, 3):
            threads(n)
            with monkeypatch.context() as patch:
                patch.setattr(kernel, "np", zoned := Zoned())
                found = results(p, arrays)
            zoned.check()
            identical(found, expected)


LAYOUTS = {
    "transposed": lambda a: np.asfortranarray(a),
    "every other": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "backwards": lambda a: np.ascontiguousarray(a[::-1, ::-1])[::-1, ::-1],
    "rows backwards": lambda a: np.ascontiguousarray(a[::-1])[::-1],
    "part": lambda a: np.pad(a, ((1, 2), (3, 1)))[1:-2, 3:-1],
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@DTYPES
def test_inputs_of_any_layout(layout, dtype):
    arrays = drawn([(21, 13)] * 3, dtype)
    expected = results(compiled(affine), arrays)
    identical(results(compiled(affine), map(LAYOUTS[layout], arrays), make=tg.from_numpy), expected)
    first = [LAYOUTS[layout](arrays[0]), *arrays[1:]]
    identical(results(compiled(affine), first, make=tg.from_numpy), expected)


def test_inputs_that_are_repeated_in_memory():
    x, row, column = drawn([(21, 13), (13,), (21, 1)], "float64")
    spread = [x, *(np.broadcast_to(a, x.shape) for a in (row, column))]
    expected = results(compiled(affine), [np.array(a) for a in spread])
    close(results(compiled(affine), spread, make=tg.from_numpy), expected, room=0.01)


@ALL
def test_cotangents_that_are_repeated_in_memory(fn):
    arrays = drawn([(6, 5)] * FUNCTIONS[fn], "float64")

    def gradients(f):
        leaves = [tg.Tensor(a, requires_grad=True) for a in arrays]
        values = f(*leaves)
        last = values[-1] if isinstance(values, tuple) else values
        return [np.array(g) for g in tg.grad(last.sum(), leaves, allow_unused=True)]

    close(gradients(compiled(fn)), gradients(fn))


def test_an_input_given_twice():
    x = drawn([(50,)], "float64")
    p = compiled(branches)
    close(results(lambda x: p(x, x * 0.5), x), results(lambda x: branches(x, x * 0.5), x))
    close(results(lambda x: p(x, x), x), results(lambda x: branches(x, x), x))


# Drawn expressions


UNARY = "negative abs exp tanh sigmoid softplus silu sin cos square erf relu sign expm1".split()
BINARY = ("add", "subtract", "multiply", "maximum", "minimum")
COMPARED = ("less", "greater_equal", "equal")


@st.composite
def expressions(draw, inputs, size=7):
    """A function of so many inputs, all of which it reads."""
    lines = []
    for k in range(draw(st.integers(1, size))):
        values = st.integers(0, inputs + k - 1)
        kind = draw(st.sampled_from(("unary", "binary", "number", "where")))
        if kind == "unary":
            lines.append((draw(st.sampled_from(UNARY)), draw(values)))
        elif kind == "binary":
            lines.append((draw(st.sampled_from(BINARY)), draw(values), draw(values)))
        elif kind == "number":
            number = draw(st.sampled_from((-1.5, 0.0, 0.3, 2)))
            lines.append((draw(st.sampled_from(BINARY)), draw(values), number * 1.0 or 0.0, None))
        else:
            compare = draw(st.sampled_from(COMPARED))
            lines.append(("where", compare, *(draw(values) for _ in range(4))))

    def fn(*given):
        values = [0.1 * v for v in given]
        for name, *rest in lines:
            if name == "where":
                a, b, x, y = (values[i] for i in rest[1:])
                value = tg.where(getattr(tg, rest[0])(a, b), x, y)
            elif rest[-1] is None:
                value = getattr(tg, name)(values[rest[0]], rest[1])
            else:
                value = getattr(tg, name)(*(values[i] for i in rest))
            values.append(tg.tanh(value))  # so that nothing grows
        return functools.reduce(tg.add, values)

    fn.__doc__ = repr(lines)
    return fn


@given(st.data(), st.integers(1, 3), st.sampled_from(("float32", "float64")), st.integers(0, 99))
def test_drawn_expressions(data, inputs, dtype, seed):
    shapes = data.draw(mutually_broadcastable_shapes(num_shapes=inputs, min_side=0, max_dims=4))
    fn = data.draw(expressions(inputs))
    needs = [data.draw(st.booleans()) for _ in range(inputs - 1)] + [True]
    arrays = drawn(shapes.input_shapes, dtype, seed)
    close(results(compiled(fn), arrays, needs), results(fn, arrays, needs))


# Arguments and results


def test_numbers_among_the_arguments():
    def fn(x, scale, power, *, shift=0.0):
        return (scale * x + shift) ** power if power > 0 else tg.exp(x)

    p, x = compiled(fn), drawn([(40,)], "float32")
    for scale, power, shift in ((2.0, 2, 0.0), (3.0, 2, 1.5), (3, 3, 1.5), (1.0, -1, 0.0)):
        call = functools.partial(fn, scale=scale, power=power, shift=shift)
        found = results(lambda x: p(x, scale, power, shift=shift), x)  # noqa: B023
        close(found, results(call, x))
    many = [p(tg.Tensor(x[0]), 0.01 * k, 1).numpy() for k in range(200)]
    for k, value in enumerate(many):
        np.testing.assert_array_equal(value, np.float32(0.01 * k) * x[0])


def test_numbers_that_are_equal_and_differ():
    p, x = compiled(lambda x, n: x * n), tg.ones(3)
    signs = [np.signbit(p(x, n).numpy()).all() for n in (0.0, -0.0, 0.0)]
    assert signs == [False, True, False]
    assert p(x, 1).dtype == p(x, True).dtype == p(x, 1.0).dtype == np.float32


@tg.pointwise
def doubled(x):
    return x + x


def test_copied_by_name():
    assert copy.deepcopy(doubled) is doubled and pickle.loads(pickle.dumps(doubled)) is doubled


def test_booleans_choose():
    mask = np.arange(60).reshape(6, 10) % 3 == 0
    x, y = drawn([(6, 10), (10,)], "float32")

    def fn(m, x, y):
        return tg.where(m, x * y, tg.exp(y)) + m * x

    for m in (mask, mask[:1], mask[:, :1], np.bool_(True)):
        held = tg.Tensor(m)
        close(*(results(functools.partial(f, held), [x, y]) for f in (compiled(fn), fn)))


@pytest.mark.parametrize(
    "given",
    [
        (np.ones(3, "f"), np.ones(3, "d")),
        (np.ones(3, "d"), np.arange(3)),
        (np.ones(3, "d"), [1.0, 2.0, 3.0]),
    ],
    ids=("dtypes", "integers", "list"),
)
def test_other_arguments_run_by_the_definition(given):
    def fn(x, y):
        return tg.maximum(x, y) * 0.3

    x, other = given
    found, expected = (f(tg.Tensor(x), other) for f in (compiled(fn), fn))
    np.testing.assert_array_equal(found.numpy(), expected.numpy(), strict=True)


def test_results_of_several_shapes():
    def fn(x, y):
        return tg.exp(x), x * y

    arrays = drawn([(4,), (3, 4)], "float64")
    identical(results(compiled(fn), arrays), results(fn, arrays))


def test_an_input_that_is_not_read():
    def fn(x, y):
        return tg.tanh(x)

    arrays = drawn([(4,), (3, 4)], "float64")
    found = results(compiled(fn), arrays)
    assert found[0].shape == (4,) and found[2] is None
    close(found, results(fn, arrays))


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match="expected shapes that broadcast") as found:
        compiled(affine)(tg.ones(3), tg.ones(4), tg.ones(3))
    with pytest.raises(ValueError) as expected:
        affine(tg.ones(3), tg.ones(4), tg.ones(3))
    assert str(found.value) == str(expected.value)


def test_arrays_give_arrays_and_definitions_compile_nothing():
    p = compiled(lambda x: x.cumsum())  # would raise
    with tg.definitions():
        assert p(tg.ones(3)).numpy().tolist() == [1.0, 2.0, 3.0]
    assert isinstance(p(np.ones(3)), np.ndarray)
    assert tg.pointwise(p) is p and not p._compiled


def test_inside_a_cell():
    act = tg.pointwise(lambda x, b: tg.tanh(x + b) * tg.sigmoid(x))

    @tg.cell
    def step(x, h, w, b):
        h = act(x + tg.linear(h, w), b)
        return h, h

    x, h, w, b = map(tg.Tensor, drawn([(5, 2, 3), (2, 3), (3, 3), (3,)], "float64"))
    found, _ = tg.scan(step, x, h, (w, b))
    with tg.definitions():
        expected, _ = tg.scan(step, x, h, (w, b))
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-12)


def test_what_was_saved_is_watched():
    x = tg.Tensor(np.ones(4), requires_grad=True)
    y = compiled(gelu)(x).sum()
    writes.assign(x, np.zeros(4))
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


def test_what_is_detached_gets_no_gradient():
    def fn(x, y):
        return x * y.detach() + y * tg.tanh(x).detach()

    arrays = drawn(SHAPES[3][:2], "float64")
    close(results(compiled(fn), arrays), results(fn, arrays))


def test_a_result_that_is_not_used_has_no_part_in_the_gradient():
    """Its derivative is not finite, and 0 times that is no number."""

    def fn(x, y):
        s = tg.sqrt(x)
        return x * y, tg.log(x) - s, tg.where(x > 0.0, y - x, s) / x

    x, p = np.array([0.0, 1.0, 4.0]), compiled(fn)
    for unused in ((1, 2), (0, 2), (0, 1), (0,), (1,), (2,)):
        found = []
        for f in (p, fn):
            leaves = [tg.Tensor(a, requires_grad=True) for a in (x, np.full(3, 0.5))]
            with np.errstate(all="ignore"):
                values = [v * v for k, v in enumerate(f(*leaves)) if k not in unused]
                first = tg.grad(sum(values).sum(), leaves, allow_unused=True, create_graph=True)
                again = tg.grad(sum((d * d).sum() for d in first if d is not None), leaves,
                                allow_unused=True)  # fmt: skip
            found.append([None if d is None else d.numpy() for d in (*first, *again)])
        close(*found)
        assert found[1][0][1:].any()


def test_numbers_from_outside_may_change(monkeypatch):
    share = 0.5

    def inner(x):
        return share * x

    p = compiled(lambda x: inner(x) + SHIFT)
    x, seen = tg.Tensor(np.arange(3.0)), []
    for share, shift in ((0.5, 1.0), (3.0, 1.0), (3.0, -0.0), (3.0, 0.0)):  # noqa: B007
        monkeypatch.setitem(globals(), "SHIFT", shift)
        seen.append(p(x).numpy().tolist())
        assert seen[-1] == p.fn(x).numpy().tolist()
    assert len(p._compiled) == 4 and all(p._compiled.values())
    assert len({*map(str, seen)}) == 3


SHIFT = 1.0


def test_numbers_that_changed_before_the_definition_runs_again():
    scale = 2.0
    p = compiled(lambda x: tg.exp(scale * x))
    x = tg.Tensor(np.arange(3.0), requires_grad=True)
    y = p(x).sum()
    scale = 3.0
    (d,) = tg.grad(y, x, retain_graph=True)
    np.testing.assert_allclose(d.numpy(), 2.0 * np.exp(2.0 * np.arange(3.0)))
    with pytest.raises(RuntimeError, match=r"<lambda>: expected the numbers .* got \('3.0',\)"):
        tg.grad(y, x, create_graph=True)


def test_tensors_by_keyword():
    def fn(x, y, scale=1.0, *, shift):
        return scale * tg.tanh(x) * y + shift

    p, arrays = compiled(fn), drawn(SHAPES[3][:3], "float32")
    for scale in (0.5, 2.0):
        for f in (p, fn):
            f.found = results(lambda x, y, z: f(x, shift=z, y=y, scale=scale), arrays)  # noqa: B023
        close(p.found, fn.found)
    assert len(p._compiled) == 2 and all(p._compiled.values())


def test_a_list_stays_a_list():
    p = compiled(lambda x: [x * 2.0, tg.exp(x)])
    assert type(p(tg.ones(3))) is list and all(p._compiled.values())


def test_a_mistake_has_its_own_error_and_no_warning(monkeypatch):
    monkeypatch.delenv("TINYGRAD_RNN_STRICT", raising=False)
    p = compiled(lambda x, y: later(x) * y)  # noqa: F821
    x = tg.ones(3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(TypeError, match="missing 1 required positional argument: 'y'"):
            p(x)
        with pytest.raises(NameError, match="later"):
            p(x, x)
        monkeypatch.setitem(globals(), "later", tg.tanh)
        np.testing.assert_allclose(p(x, x).numpy(), np.tanh(np.ones(3)), rtol=1e-6)
    assert all(p._compiled.values())


# What cannot be compiled

OUTSIDE = tg.Tensor(np.full(4, 0.5), requires_grad=True)
DRAWN = np.random.default_rng(0)


def truth(x):
    return tg.exp(x) if x.sum() > 0 else x  # here


def looked(x):
    return x * x.numpy().max()  # here


def closure(x):
    return tg.exp(x) * OUTSIDE  # here


def op(x):
    return tg.cumsum(tg.exp(x))  # here


def summed(x):
    return x - tg.sum(x, axis=-1, keepdims=True)  # here


def booleans(x):
    return x * (x > 0.0)  # here


def another_power(x):
    return tg.abs(x) ** 0.3  # here


def shape(x):
    return x / float(x.shape[-1])  # here


def axes(x):
    return x * x.ndim  # here


def length(x):
    return x * 2.0 if len(x) > 100 else x  # here


def size(x):
    return x / x.size  # here


def wanted(x):
    return x * (2.0 if x.requires_grad else 1.0)  # here


def randomness(x):
    return x * DRAWN.random()


def compared(x):
    return x > 0.0


def constant(x):
    return tg.ones(4, dtype=x.dtype)


STUCK = (truth, looked, closure, op, summed, booleans, another_power, shape, axes, length, size,
         wanted, randomness, compared, constant)  # fmt: skip
EACH = pytest.mark.parametrize("fn", STUCK, ids=lambda f: f.__name__)


@EACH
def test_one_warning_that_names_the_line(fn, monkeypatch):
    monkeypatch.delenv("TINYGRAD_RNN_STRICT", raising=False)
    x, p = tg.Tensor(np.arange(4.0), requires_grad=True), tg.pointwise(fn)
    with pytest.warns(RuntimeWarning, match=f"^{fn.__name__} runs by its definition") as seen:
        p(x)
        DRAWN.bit_generator.state = np.random.default_rng(0).bit_generator.state
        found = p(x)
    DRAWN.bit_generator.state = np.random.default_rng(0).bit_generator.state
    np.testing.assert_array_equal(found.numpy(), fn(x).numpy())
    assert len(seen) == 1 and seen[0].filename == __file__
    message, source = str(seen[0].message), Path(__file__).read_text().splitlines()
    line = fn.__code__.co_firstlineno + 1
    if source[line - 1].endswith("# here"):
        assert f"{__file__}:{line}: " in message, message


@EACH
def test_strictly_it_raises(fn):
    assert os.environ["TINYGRAD_RNN_STRICT"] == "1"
    for _ in range(2):
        with pytest.raises((Untraceable, RuntimeError)):
            tg.pointwise(fn)(tg.Tensor(np.arange(4.0), requires_grad=True))


PLAIN = """
import numpy as np, sys, tinygrad_rnn as tg
x = tg.Tensor(np.linspace(-1, 1, 100_000), requires_grad=True)
y = tg.pointwise(lambda x: x * tg.sigmoid(x))(x) + tg.tanh(x)
y.sum().backward()
print("llvmlite" in sys.modules, y.numpy().sum(), x.grad.numpy().sum())
"""


def test_without_jit_everything_runs_by_definition():
    printed = []
    for off in ("1", "0"):
        environment = {**os.environ, "NUMBA_DISABLE_JIT": off}
        command = [sys.executable, "-W", "error", "-c", PLAIN]
        done = subprocess.run(command, env=environment, capture_output=True)
        assert not done.returncode, done.stderr
        printed.append(done.stdout.split())
    assert [p[0] for p in printed] == [b"False", b"True"]
    np.testing.assert_allclose(*(np.array(p[1:], float) for p in printed), rtol=1e-9)


def test_nothing_is_said_of_what_is_compiled():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compiled(gelu)(tg.ones(3))
