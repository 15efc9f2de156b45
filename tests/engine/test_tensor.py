"""What a tensor is to Python and to NumPy: ownership, dtypes, printing, copies, operators."""

import copy
import operator
import pickle
import re

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.autograd.writes import assign


def leaf(values, dtype=np.float64):
    return tg.Tensor(np.asarray(values, dtype), requires_grad=True)


def same(tensor, expected):
    assert isinstance(tensor, tg.Tensor)
    np.testing.assert_allclose(tensor.numpy(), expected, rtol=1e-12)


# Ownership


def test_tensor_copies():
    a = np.zeros(3)
    t = tg.Tensor(a)
    a[0] = 1.0
    same(t, [0.0, 0.0, 0.0])
    u = tg.Tensor(t)
    assign(t, np.ones(3))
    same(u, [0.0, 0.0, 0.0])
    assert not np.shares_memory(copy.copy(t).numpy(), t.numpy())


def test_from_numpy_shares_and_never_writes():
    a = np.zeros(3)
    t = tg.from_numpy(a)
    a[0] = 1.0
    same(t, [1.0, 0.0, 0.0])
    assert a.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        assign(t, np.ones(3))
    with pytest.raises(TypeError, match=r"^from_numpy: expected an array, got list; use Tensor"):
        tg.from_numpy([1.0])
    with pytest.raises(TypeError, match=r"expected float32.*got complex128"):
        tg.from_numpy(np.ones(2, complex))


def test_numpy_is_a_read_only_view():
    t = tg.Tensor([1.0, 2.0])
    view = t.numpy()
    assert np.shares_memory(view, t.numpy())
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 5.0
    with pytest.raises(ValueError, match="read-only"):
        np.asarray(t)[0] = 5.0
    assign(t, np.float32([3.0, 4.0]))
    np.testing.assert_array_equal(view, [3.0, 4.0])


def test_assign_checks_shape_and_keeps_dtype():
    t = tg.Tensor([1.0, 2.0])
    assign(t, np.float64([3.0, 4.0]))
    assert t.dtype == np.float32
    same(t, [3.0, 4.0])
    with pytest.raises(ValueError, match=r"^assign: expected .*shape \(2,\), got \(3,\)"):
        assign(t, np.ones(3))


# dtypes


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (1.5, np.float32),
        (2, np.int64),
        (True, np.bool_),
        ([1.0, 2], np.float32),
        ([1, 2], np.int64),
        ([[True], [False]], np.bool_),
        ([], np.float32),
        ((1.0, 2.0), np.float32),
        (np.float64(1.0), np.float64),
        ([np.float64(1.0)], np.float64),
        ([np.zeros(2), np.ones(2)], np.float64),
        (np.zeros(2), np.float64),
        (np.zeros(2, np.float32), np.float32),
        (np.zeros(2, np.int8), np.int8),
        (np.zeros(2, np.uint64), np.uint64),
        (np.zeros(2, bool), np.bool_),
        (range(3), np.int64),
        (np.zeros(2, ">f8"), np.float64),
        (np.zeros(2, ">i4"), np.int32),
    ],
)
def test_tensor_dtypes(values, dtype):
    t = tg.Tensor(values)
    assert t.dtype == np.dtype(dtype) and t.dtype.isnative
    np.testing.assert_array_equal(t.numpy(), np.asarray(values))


def test_dtype_argument_is_exact():
    assert tg.Tensor(0.1, dtype="float64").item() == 0.1
    assert tg.Tensor([0.1], dtype=np.float64).item() == 0.1
    assert tg.full((2,), 0.1, dtype=np.float64).tolist() == [0.1, 0.1]
    assert tg.Tensor([1.9], dtype=np.int32).dtype == np.int32
    assert tg.Tensor(np.ones(2), dtype=np.float32).dtype == np.float32


@pytest.mark.parametrize(
    "values",
    [
        np.zeros(2, complex),
        np.zeros(2, np.float16),
        np.array([None, 1]),
        np.array(["a"]),
        np.array(["2020-01-01"], "datetime64[D]"),
        1j,
        "text",
        None,
        {"a": 1},
        2**70,
    ],
)
def test_unsupported_dtypes_raise(values):
    dtype = re.escape(str(np.asarray(values).dtype))
    expected = "expected float32, float64, an integer type or bool"
    with pytest.raises(TypeError, match=rf"^Tensor: {expected}, got {dtype}; convert") as caught:
        tg.Tensor(values)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("values", [None, "1.0", 1j, np.ones(2, complex), np.ones(2, object)])
def test_a_dtype_does_not_make_numbers_of_anything(values):
    with pytest.raises(TypeError, match=r"^Tensor: expected float32.*, got .*; convert"):
        tg.Tensor(values, dtype="float32")


@pytest.mark.parametrize("dtype", ["float16", complex, object, "text"])
def test_unsupported_dtype_arguments_raise(dtype):
    with pytest.raises(TypeError, match=r"^Tensor: expected float32.*, got .*; convert"):
        tg.Tensor(1.0, dtype=dtype)


@pytest.mark.parametrize("dtype", [np.complex64, np.float16, object])
def test_unsupported_dtypes_are_no_operands(dtype):
    a = np.ones(3).astype(dtype)
    for call in (lambda t: t * a, lambda t: a * t, lambda t: tg.where(t > 0.0, t, a)):
        with pytest.raises(TypeError, match=rf"expected .*got {np.dtype(dtype)}"):
            call(tg.Tensor([1.0, 2.0, 3.0]))


def test_ragged_lists_raise():
    with pytest.raises(ValueError, match=r"^Tensor: expected rows of equal length, got ragged"):
        tg.Tensor([[1.0, 2.0], [3.0]])


def test_lists_of_tensors_are_never_detached_in_silence():
    x = leaf([1.0, 2.0])
    with pytest.raises(TypeError, match=r"add: expected .*list .*tg\.stack"):
        tg.add(x, [x[0], x[1]])


@pytest.mark.parametrize("op", ["add", "subtract", "multiply", "divide", "power", "maximum"])
@pytest.mark.parametrize("first", [np.float32, np.float64, np.int32, np.int64, np.bool_])
@pytest.mark.parametrize(
    "second",
    [2, 2.0, True, np.float64(2.0), np.float32(2.0)]
    + [np.full(2, 2, d) for d in (np.float32, np.float64, np.int8, np.int64, bool)],
    ids=repr,
)
def test_promotion_is_numpys(op, first, second):
    a = np.ones(2, first)
    ufunc = getattr(np, op)
    try:
        expected = ufunc(a, second)
    except TypeError:  # of bool, no difference
        with pytest.raises(TypeError, match=rf"^{op}: expected "):
            getattr(tg, op)(tg.Tensor(a), second)
        return
    got = getattr(tg, op)(tg.Tensor(a), second)
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got.numpy(), expected)


def test_lists_are_float32_operands():
    assert (tg.Tensor([1.0]) * [2.0]).dtype == np.float32
    assert (tg.Tensor([1.0], dtype=np.float64) * [2.0]).dtype == np.float64
    assert tg.Tensor([1.0]).mean().dtype == tg.Tensor([1.0]).std().dtype == np.float32


def test_integers_require_no_grad():
    for make in (
        lambda: tg.Tensor([1, 2], requires_grad=True),
        lambda: tg.Tensor([True], requires_grad=True),
        lambda: tg.arange(3, requires_grad=True),
        lambda: setattr(tg.Tensor([1]), "requires_grad", True),
    ):
        with pytest.raises(
            TypeError, match=r"^requires_grad: expected a floating.*got .*; convert"
        ):
            make()


def test_requires_grad_is_switched_on_leaves_only():
    x = tg.Tensor([1.0])
    x.requires_grad = True
    assert x.requires_grad and x.is_leaf
    y = x * 2.0
    with pytest.raises(RuntimeError, match=r"^requires_grad: expected a leaf.*detach"):
        y.requires_grad = False
    x.requires_grad = False
    assert not x.requires_grad and not y.is_leaf


def test_grad_takes_a_tensor_of_its_kind():
    x = leaf([1.0, 2.0], np.float32)
    x.grad = tg.zeros(2)
    x.grad = None
    for bad in (np.zeros(2), tg.zeros(3), tg.zeros(2, dtype=np.float64)):
        with pytest.raises(ValueError, match=r"^grad: expected .*\(2,\).*got"):
            x.grad = bad
    with pytest.raises(RuntimeError, match=r"^grad: expected .*requires_grad=True"):
        tg.zeros(2).grad = tg.zeros(2)


# Printing


@pytest.mark.parametrize(
    "values",
    [
        np.array(1.5, np.float32),
        np.array(-2.0),
        np.arange(3.0),
        np.arange(30, dtype=np.float32),
        np.arange(40.0) * 1.1,
        np.arange(2000.0),
        np.ones((2, 2), np.float32),
        np.ones((2, 3, 2)),
        np.zeros((200, 200)),
        np.array([True, False]),
        np.zeros((0, 3), np.float32),
        np.arange(4, dtype=np.int32),
        np.array([np.nan, np.inf, -0.0]),
        np.linspace(0, 1e-9, 30).reshape(3, 10).astype(np.float32),
    ],
    ids=lambda a: f"{a.dtype}{np.shape(a)}",
)
def test_repr_is_numpys(values):
    first, *rest = np.array_repr(values).split("\n")  # "Tensor(" is one wider than "array("
    lines = [first.replace("array", "Tensor"), *(f" {line}" if line else "" for line in rest)]
    assert repr(tg.Tensor(values)) == "\n".join(lines)


def test_repr_of_a_result_is_of_its_values():
    assert repr(leaf([1.0, 2.0], np.float32) * 2.0) == "Tensor([2., 4.], dtype=float32)"
    assert str(tg.Tensor([1, 2])) == f"{tg.Tensor([1, 2])}" == "Tensor([1, 2])"


def test_format_is_of_single_elements():
    assert f"{tg.Tensor(1.25):.1f} {tg.Tensor([[7]]):03d}" == "1.2 007"
    assert f"{tg.Tensor([1.0, 2.0])}" == repr(tg.Tensor([1.0, 2.0]))


# NumPy reads


def test_asarray_and_array():
    t = tg.Tensor([1.0, 2.0])
    assert np.shares_memory(np.asarray(t), t.numpy())
    assert np.asarray(t).dtype == np.float32
    converted = np.asarray(t, dtype=np.float64)
    assert converted.dtype == np.float64 and converted.flags.writeable
    copied = np.array(t)
    assert copied.flags.writeable and not np.shares_memory(copied, t.numpy())
    assert np.shares_memory(np.array(t, copy=False), t.numpy())
    with pytest.raises(ValueError, match=r"^asarray: expected dtype float32 without a copy, got"):
        np.array(t, dtype=np.float64, copy=False)


def test_readers_of_numpy_work():
    t = leaf([[1.0, 2.0], [3.0, 4.0]])
    a = t.numpy()
    assert (np.shape(t), np.ndim(t), np.size(t)) == ((2, 2), 2, 4)
    assert np.allclose(t, a) and np.array_equal(a, t) and np.isclose(t, t).all()
    np.testing.assert_allclose(t, a)
    np.testing.assert_array_equal(t, t)
    assert np.zeros_like(a).shape == t.shape


@pytest.mark.parametrize(
    ("call", "name", "ours"),
    [
        (lambda t: np.exp(t), "exp", "exp"),
        (lambda t: np.negative(t), "negative", "negative"),
        (lambda t: np.concatenate([t]), "concatenate", "concatenate"),
        (lambda t: np.stack([t, t]), "stack", "stack"),
        (lambda t: np.sum(t), "sum", "sum"),
        (lambda t: np.mean(t, axis=0), "mean", "mean"),
        (lambda t: np.where(t.numpy() > 0.0, t, 0.0), "where", "where"),
        (lambda t: np.einsum("i->", t), "einsum", "einsum"),
        (lambda t: np.add.reduce(t), "add.reduce", "sum"),
        (lambda t: np.multiply.outer(t, t), "multiply.outer", "outer"),
        (lambda t: np.absolute(t), "absolute", "abs"),
        (lambda t: np.add(t, t, out=np.zeros(2)), "add", "add"),
        (lambda t: np.linalg.norm(t), r"linalg\.norm", "norm"),
    ],
)
def test_functions_of_numpy_refuse_and_name_ours(call, name, ours):
    expected = rf"^np\.{name}: expected arrays, got a Tensor; use tg\.{ours}\b.*\.numpy\(\)"
    with pytest.raises(TypeError, match=expected):
        call(leaf([1.0, 2.0]))


@pytest.mark.parametrize(
    "call",
    [lambda t: np.median(t), lambda t: np.ones(2) // t, lambda t: np.arctan2(t, 1.0)],
)
def test_refusals_name_only_what_there_is(call):
    with pytest.raises(
        TypeError, match=r"^np\.\w+: expected arrays, got a Tensor; use .*numpy\(\)"
    ):
        try:
            call(tg.Tensor([1.0, 2.0]))
        except TypeError as error:
            assert "tg." not in str(error)
            raise


def test_in_place_operators_of_arrays_refuse():
    t = leaf([1.0, 2.0])
    for name in ("iadd", "isub", "imul", "itruediv"):
        a = np.ones(2)
        with pytest.raises(TypeError, match="expected arrays, got a Tensor"):
            getattr(operator, name)(a, t)
        np.testing.assert_array_equal(a, [1.0, 1.0])


def test_tensors_are_not_changed_in_place():
    t = leaf([1.0, 2.0])
    with pytest.raises(TypeError, match=r"^setitem: .*not changed in place.*tg\.where"):
        t[0] = 1.0
    before = t
    t += 1.0
    assert t is not before and t.requires_grad  # a new tensor under the old name
    same(before, [1.0, 2.0])


# Operators


ARITHMETIC = [
    operator.add,
    operator.sub,
    operator.mul,
    operator.truediv,
    operator.pow,
    operator.matmul,
]
COMPARISONS = [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge]


@pytest.mark.parametrize("op", ARITHMETIC)
@pytest.mark.parametrize("side", ["left", "right"])
def test_operators_with_arrays_give_tensors_with_gradients(op, side):
    a, x = np.array([2.0, 3.0]), leaf([0.5, 1.5])
    pair = (lambda v: (a, v)) if side == "left" else (lambda v: (v, a))
    y = op(*pair(x))
    same(y, op(*pair(x.numpy())))
    (g,) = tg.grad(y.sum(), x)
    assert g.numpy().any()
    h = 1e-6
    for k, e in enumerate(np.eye(2) * h):
        slope = np.sum(op(*pair(x.numpy() + e)) - op(*pair(x.numpy() - e))) / (2.0 * h)
        np.testing.assert_allclose(g.numpy()[k], slope, rtol=1e-7)


@pytest.mark.parametrize("op", COMPARISONS)
def test_comparisons_with_arrays_and_numbers(op):
    x = leaf([1.0, 2.0, 3.0])
    for other in (np.array([3.0, 2.0, 1.0]), 2.0, 2, [3.0, 2.0, 1.0]):
        for pair in ((x, other), (other, x)):
            y = op(*pair)
            plain = [p.numpy() if p is x else np.asarray(p) for p in pair]
            same(y, op(*plain))
            assert y.dtype == bool and not y.requires_grad


@pytest.mark.parametrize("op", ARITHMETIC[:5])
@pytest.mark.parametrize("number", [3, 2.5, np.float32(2.5), np.float64(2.5), np.array(2.5)])
def test_scalars_on_either_side(op, number):
    x = leaf([0.5, 1.5], np.float32)
    for pair in ((x, number), (number, x)):
        y = op(*pair)
        expected = op(*(p.numpy() if p is x else p for p in pair))
        assert isinstance(y, tg.Tensor) and y.requires_grad and y.dtype == expected.dtype
        np.testing.assert_allclose(y.numpy(), expected, rtol=1e-6)
        (g,) = tg.grad(y.sum(), x)
        assert g.dtype == np.float32 and g.numpy().any()


def test_unary_operators():
    x = leaf([-1.0, 2.0])
    same(-x, [1.0, -2.0])
    same(abs(x), [1.0, 2.0])
    same(tg.grad(abs(x).sum(), x)[0], [-1.0, 1.0])


def test_equality_is_elementwise_and_hash_is_identity():
    x, y = tg.Tensor([1.0, 2.0]), tg.Tensor([1.0, 3.0])
    assert (x == y).tolist() == [True, False] and (x != y).tolist() == [False, True]
    named = {x: "x", y: "y"}
    assert named[x] == "x" and named[y] == "y" and len({x, y, x}) == 2
    with pytest.raises(ValueError, match=r"^item: expected one element, got shape \(2,\)"):
        bool(x == y)


# Python's protocols


def test_len_and_iteration():
    x = leaf([[1.0, 2.0], [3.0, 4.0]])
    assert len(x) == 2
    first, second = x
    same(tg.grad((first * second * second).sum(), x)[0], [[9.0, 16.0], [6.0, 16.0]])
    assert [v.item() for v in tg.Tensor([1.0, 2.0])] == [1.0, 2.0]
    assert [v.item() for v in reversed(tg.Tensor([1.0, 2.0]))] == [2.0, 1.0]
    for call, where in ((len, "len"), (list, "iter")):
        with pytest.raises(
            TypeError, match=rf"^{where}: expected a tensor with an axis, got a 0-d"
        ):
            call(tg.Tensor(1.0))


def test_single_elements_are_numbers():
    t = tg.Tensor([[2.5]])
    assert float(t) == 2.5 and int(t) == 2 and bool(t) and t.item() == 2.5
    assert not tg.Tensor(0.0) and type(tg.Tensor(3).item()) is int
    assert [10, 20, 30][tg.Tensor(1)] == 20 and list(range(tg.Tensor(2))) == [0, 1]
    assert tg.Tensor([[1, 2]]).tolist() == [[1, 2]]
    for call in (float, int, bool, lambda v: v.item()):
        with pytest.raises(ValueError, match=r"^item: expected one element, got shape \(2,\); use"):
            call(tg.Tensor([1.0, 2.0]))
    for bad in (tg.Tensor(1.0), tg.Tensor([1, 2])):
        with pytest.raises(TypeError, match=r"^index: expected .*integer.*got"):
            [10, 20][bad]


COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda v: pickle.loads(pickle.dumps(v))}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_copies_of_leaves(copied):
    x = leaf([1.0, 2.0])
    (x * x).sum().backward()
    y = copied(x)
    assert y is not x and y.requires_grad and y.is_leaf and type(y) is tg.Tensor
    same(y, x.numpy())
    same(y.grad, x.grad.numpy())
    assert not np.shares_memory(y.numpy(), x.numpy())
    assert not np.shares_memory(y.grad.numpy(), x.grad.numpy())
    y.grad = None
    (3.0 * y).sum().backward()
    same(y.grad, [3.0, 3.0])
    same(x.grad, [2.0, 4.0])
    plain = copied(tg.from_numpy(np.arange(3)))
    assert not plain.requires_grad and plain.grad is None and plain.dtype == np.int64


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_copies_of_results_raise(copied):
    with pytest.raises(RuntimeError, match=r"^copy: expected a leaf, got a result.*detach"):
        copied(leaf([1.0]) * 2.0)
    same(copied((leaf([1.0]) * 2.0).detach()), [2.0])


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_tied_tensors_stay_tied(copied):
    x = leaf([1.0, 2.0])
    y = copied({"input": x, "output": [x], "other": leaf([1.0, 2.0])})
    assert y["input"] is y["output"][0] is not y["other"]
    (y["input"] * y["output"][0]).sum().backward()
    same(y["output"][0].grad, [2.0, 4.0])


# NumPy's methods


METHODS = [
    ("sum", ()),
    ("sum", (0,)),
    ("sum", ((0, 2),)),
    ("mean", (1,)),
    ("prod", (1,)),
    ("max", (2,)),
    ("min", ()),
    ("var", (0,)),
    ("std", (0,)),
    ("cumsum", (1,)),
    ("argmax", (1,)),
    ("argmin", (1,)),
    ("argsort", (1,)),
    ("reshape", (3, 8)),
    ("reshape", ((3, 8),)),
    ("reshape", ([4, -1],)),
    ("reshape", (-1,)),
    ("transpose", ()),
    ("transpose", (1, 0, 2)),
    ("transpose", ((2, 0, 1),)),
    ("transpose", (None,)),
    ("swapaxes", (0, -1)),
    ("squeeze", ()),
    ("ravel", ()),
    ("flatten", ()),
    ("repeat", (2, 1)),
    ("clip", (5.0, 9.0)),
    ("take", ([0, 1, 0],)),
    ("take", ([0, 1, 0], 1)),
    ("astype", ("float32",)),
    ("tolist", ()),
]


@pytest.mark.parametrize(("method", "arguments"), METHODS, ids=lambda v: str(v))
def test_methods_are_numpys(method, arguments):
    a = np.random.default_rng(0).standard_normal((2, 3, 4)) * 6.0
    got = getattr(tg.Tensor(a), method)(*arguments)
    expected = getattr(a, method)(*arguments)
    if method == "tolist":
        assert got == expected
    else:
        assert got.dtype == expected.dtype and got.shape == expected.shape
        np.testing.assert_allclose(got.numpy(), expected, rtol=1e-12)


def test_methods_keep_dims_and_names():
    a = np.arange(6.0).reshape(2, 3)
    t = tg.Tensor(a)
    for name in ("sum", "mean", "prod", "max", "min", "var", "std"):
        got = getattr(t, name)(axis=1, keepdims=True)
        np.testing.assert_allclose(got.numpy(), getattr(a, name)(axis=1, keepdims=True))
    same(t.var(axis=0, ddof=1), a.var(axis=0, ddof=1))
    same(t.T, a.T)
    same(tg.Tensor(a[None]).mT, a[None].mT)
    same(t.dot(a.T), a.dot(a.T))
    assert (t.shape, t.ndim, t.size, t.dtype) == (a.shape, a.ndim, a.size, a.dtype)
    for name in ("abs", "exp", "sqrt", "tanh"):
        same(getattr(t, name)(), getattr(np, name)(a))
    same((t + 1.0).log(), np.log(a + 1.0))
    same(t.relu(), a)
    same(t.sigmoid(), 1.0 / (1.0 + np.exp(-a)))


KEYS = [
    *(0, -1, slice(1, None), (0, 1), (slice(None), None, -1), ..., (..., 0), None),
    *([1, 0, 1], (np.array([0, 1]), [2, 0]), np.eye(2, 3) > 0, (slice(None), [0, 0, 2])),
    *(tg.Tensor([1, 0]), (0, tg.Tensor([True, False, True])), np.int64(1)),
]


def plain(key):
    if isinstance(key, tuple):
        return tuple(map(plain, key))
    return key.numpy() if isinstance(key, tg.Tensor) else key


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_getitem_reads_as_numpy_and_adds_up(key):
    a = np.arange(6.0).reshape(2, 3)
    x = leaf(a)
    same(x[key], a[plain(key)])
    expected = np.zeros((2, 3))
    np.add.at(expected, plain(key), 1.0)
    same(tg.grad(x[key].sum(), x)[0], expected)


# New tensors


def test_creation_is_numpys():
    same(tg.zeros(2, 3), np.zeros((2, 3)))
    same(tg.ones((2, 3)), np.ones((2, 3)))
    assert tg.zeros().shape == () and tg.zeros(3).dtype == np.float32
    assert tg.full((2,), 7).dtype == np.int64 and tg.full((2,), 0.5).dtype == np.float32
    assert tg.arange(3).tolist() == [0, 1, 2] and tg.arange(1, 2, 0.5).tolist() == [1.0, 1.5]
    assert tg.arange(3).dtype == np.int64 and tg.arange(0.0, 1.0).dtype == np.float32
    same(tg.eye(2, 3), np.eye(2, 3))
    x = leaf([[1.0, 2.0]])
    assert tg.zeros_like(x).dtype == np.float64 and not tg.zeros_like(x).requires_grad
    assert tg.ones_like(x, np.int64).tolist() == [[1, 1]]
    for make in (tg.zeros, tg.ones, tg.rand, tg.randn, lambda n, **k: tg.full((n,), 0.5, **k)):
        assert not make(2).requires_grad and make(2, requires_grad=True).requires_grad
    assert tg.arange(0.0, 2.0, requires_grad=True).requires_grad


def test_random_tensors_follow_their_generator():
    for draw in (tg.randn, tg.rand):
        a, b = (draw(2, 3, rng=np.random.default_rng(1)) for _ in range(2))
        assert a.shape == (2, 3) and a.dtype == np.float32 and (a == b).numpy().all()
        tg.manual_seed(3)
        state = tg.get_rng_state()
        first = draw((4,), dtype=np.float64)
        assert first.dtype == np.float64 and not (first == draw((4,))).numpy().any()
        tg.set_rng_state(state)
        assert (first == draw((4,), dtype=np.float64)).numpy().all()
        tg.manual_seed(3)
        assert (first == draw((4,), dtype=np.float64)).numpy().all()


def test_rng_state_is_whole_and_plain():
    import json

    generator = np.random.default_rng(0)
    generator.integers(0, 9, dtype=np.uint32)  # leaves half a word behind
    tg.set_rng_state(generator.bit_generator.state)
    state = json.loads(json.dumps(tg.get_rng_state()))
    assert state["has_uint32"] == 1 and state == generator.bit_generator.state
