"""The forms that arguments may take are NumPy's, and so are the results."""

import numpy as np
import pytest

import tinygrad_rnn as tg

A = np.arange(24.0).reshape(2, 3, 4) - 7.0
SQUARE = np.arange(9.0).reshape(3, 3)
REDUCTIONS = ["sum", "mean", "prod", "max", "min", "var", "std"]


def assert_equal(found, expected):
    """The values, shape and dtype of NumPy's result, or of each of several."""
    if isinstance(expected, (list, tuple)):
        assert isinstance(found, tuple) and len(found) == len(expected)
    else:
        found, expected = [found], [expected]
    for f, e in zip(found, expected, strict=True):
        assert isinstance(f, tg.Tensor)
        np.testing.assert_allclose(f.numpy(), np.asarray(e), rtol=1e-14, strict=True)


def gradient(fn, *arrays):
    """The gradients of the sum of fn, weighted by 1, 2, 3, ..."""
    xs = [tg.Tensor(a, requires_grad=True) for a in arrays]
    out = fn(*xs)
    weights = np.arange(1.0, out.size + 1).reshape(out.shape)
    return [g.numpy() for g in tg.grad(out, xs, weights)]


@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [None, 0, 2, -1, -3, (0, 1), (-1, 0), (2, 0, 1), ()])
def test_reductions_take_every_form_of_axis(name, keepdims, axis):
    expected = getattr(np, name)(A, axis=axis, keepdims=keepdims)
    assert_equal(getattr(tg, name)(tg.Tensor(A), axis=axis, keepdims=keepdims), expected)
    assert_equal(getattr(tg.Tensor(A), name)(axis=axis, keepdims=keepdims), expected)


@pytest.mark.parametrize("name", [*REDUCTIONS, "norm", "logsumexp"])
def test_reductions_take_a_list_of_axes_and_0d_inputs(name):
    op = getattr(tg, name)
    assert_equal(op(tg.Tensor(A), axis=[0, -1]), op(tg.Tensor(A), axis=(0, 2)).numpy())
    assert op(tg.Tensor(3.0)).shape == ()


@pytest.mark.parametrize("name", ["sum", "prod", "max", "min", "norm", "mean"])
@pytest.mark.parametrize("axis", [5, -4, (0, 3)])
def test_reductions_refuse_an_axis_that_is_not_there(name, axis):
    with pytest.raises(ValueError, match=r"axis|axes"):
        getattr(tg, name)(tg.Tensor(A), axis=axis)


@pytest.mark.parametrize("name", ["sum", "prod", "max", "min", "mean"])
def test_reductions_refuse_an_axis_given_twice(name):
    with pytest.raises(ValueError, match=r"(?i)duplicate|each once"):
        getattr(tg, name)(tg.Tensor(A), axis=(1, 1))


@pytest.mark.parametrize("name", ["argmax", "argmin"])
@pytest.mark.parametrize("axis", [None, 0, -1])
def test_argmax_takes_axis_and_keepdims(name, axis):
    tied = np.round(A % 5)
    assert_equal(getattr(tg, name)(tg.Tensor(tied), axis), getattr(np, name)(tied, axis))
    assert_equal(
        getattr(tg, name)(tg.Tensor(tied), axis=axis, keepdims=True),
        getattr(np, name)(tied, axis=axis, keepdims=True),
    )


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_cumsum_takes_axis(axis):
    assert_equal(tg.cumsum(tg.Tensor(A), axis), np.cumsum(A, axis))


@pytest.mark.parametrize(
    "sections, axis",
    [(3, 1), (2, 0), ([1], 1), ([1, 2], -1), ([2, 2, 9], 2), ((1, -1), 2), ([], 0)],
)
def test_split_takes_a_number_or_indices(sections, axis):
    assert_equal(tg.split(tg.Tensor(A), sections, axis), np.split(A, sections, axis))


def test_split_refuses_unequal_parts():
    with pytest.raises(ValueError, match="split"):
        tg.split(tg.Tensor(A), 5, axis=2)


@pytest.mark.parametrize(
    "width", [1, (2,), (1, 2), [(0, 1), (2, 0), (1, 1)], [(1, 2)], np.array([[0, 1]] * 3), 0]
)
def test_pad_takes_a_number_a_pair_or_pairs(width):
    assert_equal(tg.pad(tg.Tensor(A), width), np.pad(A, width))
    assert_equal(
        tg.pad(tg.Tensor(A), width, constant_values=-2.5), np.pad(A, width, constant_values=-2.5)
    )


@pytest.mark.parametrize("reps", [2, (2,), (1, 2), (2, 1, 3), (2, 1, 1, 2), (), 0, [3, 1]])
def test_tile_takes_a_number_or_several(reps):
    assert_equal(tg.tile(tg.Tensor(A), reps), np.tile(A, reps))
    assert_equal(tg.tile(tg.Tensor(2.0, dtype=np.float64), reps), np.tile(np.float64(2.0), reps))


@pytest.mark.parametrize(
    "repeats, axis", [(2, None), (3, 1), ([1, 0, 2], 1), ([2], -1), (0, 0), (np.array([1, 2]), 0)]
)
def test_repeat_takes_a_number_or_one_for_each(repeats, axis):
    assert_equal(tg.repeat(tg.Tensor(A), repeats, axis), np.repeat(A, repeats, axis))


@pytest.mark.parametrize("shape", [(4, 6), (-1,), -1, (2, -1, 2), 24, [3, 8], (1, 24, 1)])
def test_reshape_takes_a_number_or_several(shape):
    assert_equal(tg.reshape(tg.Tensor(A), shape), A.reshape(shape))
    assert_equal(tg.Tensor(A).reshape(shape), A.reshape(shape))
    if isinstance(shape, (tuple, list)):
        assert_equal(tg.Tensor(A).reshape(*shape), A.reshape(shape))


@pytest.mark.parametrize("axes", [None, (2, 0, 1), [1, 2, 0], (-1, 0, -2)])
def test_transpose_takes_axes(axes):
    assert_equal(tg.transpose(tg.Tensor(A), axes), np.transpose(A, axes))
    if axes:
        assert_equal(tg.Tensor(A).transpose(*axes), np.transpose(A, axes))


@pytest.mark.parametrize("axis", [None, 0, -1, (0, 2), [1]])
def test_flip_takes_axes(axis):
    expected = np.flip(A, axis if axis is None or isinstance(axis, int) else tuple(axis))
    assert_equal(tg.flip(tg.Tensor(A), axis), expected)


@pytest.mark.parametrize(
    "shift, axis", [(2, None), (-1, 0), ((1, -2), (0, 2)), (1, (1, 2)), (9, 1)]
)
def test_roll_takes_shifts_and_axes(shift, axis):
    assert_equal(tg.roll(tg.Tensor(A), shift, axis), np.roll(A, shift, axis))


@pytest.mark.parametrize("axis", [0, 3, -1, -4, (0, 2), (-1, 0), [1]])
def test_expand_dims_takes_axes(axis):
    expected = np.expand_dims(A, axis if isinstance(axis, int) else tuple(axis))
    assert_equal(tg.expand_dims(tg.Tensor(A), axis), expected)


@pytest.mark.parametrize("axis", [None, 0, -1, (0, 2), [0]])
def test_squeeze_takes_axes(axis):
    wide = A[:1, :, :1]
    expected = np.squeeze(wide, axis if axis is None or isinstance(axis, int) else tuple(axis))
    assert_equal(tg.squeeze(tg.Tensor(wide), axis), expected)


def test_moveaxis_and_swapaxes_take_numbers_from_either_end():
    assert_equal(tg.moveaxis(tg.Tensor(A), -1, 0), np.moveaxis(A, -1, 0))
    assert_equal(tg.moveaxis(tg.Tensor(A), [0, 1], [-1, 0]), np.moveaxis(A, [0, 1], [-1, 0]))
    assert_equal(tg.swapaxes(tg.Tensor(A), 0, -1), np.swapaxes(A, 0, -1))


def test_joining_takes_tuples_lists_and_plain_arrays():
    x = tg.Tensor(A)
    for sequence in ([x, A], (x, x, x), [A, x]):
        plain = [np.asarray(a) for a in sequence]
        assert_equal(tg.concatenate(sequence, -1), np.concatenate(plain, -1))
        assert_equal(tg.concatenate(sequence, axis=None), np.concatenate(plain, axis=None))
        assert_equal(tg.stack(sequence, -2), np.stack(plain, -2))
    rows = [np.float64(1.0), tg.Tensor(np.float64(2.0))]
    assert_equal(tg.stack(rows), np.array([1.0, 2.0]))
    assert_equal(tg.stack(x), A)


EINSUMS = [
    *[("ij,jk->ik", 2), ("ij,jk", 2), ("ij,kj->ki", 2), ("ba", 1), ("ij->", 1), ("ij", 1)],
    *[("ii->i", 1), ("ii", 1), ("i i -> i", 1), ("ij,kl->ik", 2), ("ij,kl->", 2)],
    *[("ij,jk,kl->il", 3), ("ij,jk,kl,lm", 4), ("ii,ij->ij", 2), ("ii,jj->ij", 2)],
    *[("...", 1), ("...j->...", 1), ("...ij->...ji", 1), ("...ij,...jk->...ik", 2)],
    *[("i...->...", 1), ("...i,...", 2), ("...,...->...", 2), ("i...i->...", 1)],
]


@pytest.mark.parametrize("subscripts, count", EINSUMS)
def test_einsum_takes_numpys_subscripts(subscripts, count):
    operands = [SQUARE + k for k in range(count)]
    found = tg.einsum(subscripts, *map(tg.Tensor, operands))
    assert_equal(found, np.einsum(subscripts, *operands))


def test_einsum_broadcasts_ellipses_and_axes_of_size_1():
    x, y = A[:, :1], A[0]  # (2, 1, 4), (3, 4)
    for subscripts in ("...i,...i->...", "...i,...i", "...i,...j->...ij"):
        assert_equal(tg.einsum(subscripts, tg.Tensor(x), tg.Tensor(y)), np.einsum(subscripts, x, y))
        for g, a in zip(gradient(lambda *v: tg.einsum(subscripts, *v), x, y), (x, y), strict=True):  # noqa: B023
            assert g.shape == a.shape
    column = SQUARE[:, :1]
    expected = np.einsum("ij,jk->ik", column, SQUARE)
    assert_equal(tg.einsum("ij,jk->ik", tg.Tensor(column), tg.Tensor(SQUARE)), expected)
    found = gradient(lambda *v: tg.einsum("ij,jk->ik", *v), column, SQUARE)
    plain = gradient(lambda x, y: (x * tg.ones(3, 3)) @ y, column, SQUARE)
    for f, p in zip(found, plain, strict=True):
        np.testing.assert_array_equal(f, p, strict=True)


@pytest.mark.parametrize("subscripts", ["ijk", "ij->ik", "ij,jk", "i"])
def test_einsum_refuses_subscripts_that_do_not_fit(subscripts):
    with pytest.raises(ValueError, match="einsum"):
        tg.einsum(subscripts, tg.Tensor(SQUARE))


KEYS = [
    *[0, -1, (0, 1), (-1, 2, 3), slice(None), slice(1, None), slice(None, None, -1), ()],
    *[(slice(None), slice(None, None, 2)), (slice(None), slice(-1, 0, -2)), slice(5, 9)],
    *[None, (None, 0), (slice(None), None, 1), Ellipsis, (Ellipsis, 0), (0, Ellipsis, None, -1)],
    *[[0, 1, 0], [1], np.array([1, 1, 0]), np.array([[0, 1], [1, 1]]), np.array(1), []],
    *[([0, 1], [2, 2]), ([0, 1], slice(None), [3, -1]), (slice(None), [0, 0, 2], 1)],
    *[(0, [1, 1], slice(1, 3)), ([[0], [1]], [0, 2]), (Ellipsis, [0, 0]), (None, [1, 0], None)],
    *[A > 3, A > 99, (A > 3)[0], np.array([True, False]), (slice(None), [True, False, True])],
    *[([True, False], [0]), (0, np.array([True, True, False]), slice(None, None, -1)), True, False],
    *[np.int64(1), (np.int32(0), np.array(2)), (np.array([True, True]), 0, [1, 3])],
]


@pytest.mark.parametrize("key", KEYS, ids=range(len(KEYS)))
def test_indexing_is_numpys_and_repeated_indices_add_up(key):
    if isinstance(key, np.ndarray) and key.shape == A.shape[1:]:
        key = (slice(None), key)
    assert_equal(tg.Tensor(A)[key], A[key])
    expected = np.zeros_like(A)
    np.add.at(expected, key, np.arange(1.0, np.size(A[key]) + 1).reshape(np.shape(A[key])))
    (found,) = gradient(lambda x: x[key], A)
    np.testing.assert_array_equal(found, expected, strict=True)


def test_indexing_takes_tensors():
    rows, mask = tg.Tensor([1, 1, 0]), tg.Tensor(A) > 3.0
    assert_equal(tg.Tensor(A)[rows], A[[1, 1, 0]])
    assert_equal(tg.Tensor(A)[rows, 0], A[[1, 1, 0], 0])
    assert_equal(tg.Tensor(A)[mask], A[A > 3])
    assert_equal(tg.Tensor(A)[tg.Tensor(1)], A[1])


@pytest.mark.parametrize("key", [5, (0, 3), (slice(None), [0, 7]), (0, 0, 0, 0), 1.5])
def test_indexing_refuses_what_is_outside(key):
    with pytest.raises((IndexError, TypeError)):
        tg.Tensor(A)[key]


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize(
    "indices", [0, -1, [1, 0, 1, 1], [[0, 1], [-1, 0]], [], np.array([1], "u1")]
)
def test_take_takes_numbers_of_any_shape_and_adds_repeats_up(axis, indices):
    whole = np.array(indices, dtype=np.intp)
    assert_equal(tg.take(tg.Tensor(A), indices, axis), np.take(A, whole, axis))
    key = np.unravel_index(whole % 24, A.shape)
    if axis is not None:
        key = (slice(None),) * (axis % 3) + (whole,)
    expected = np.zeros_like(A)
    shape = np.take(A, whole, axis).shape
    np.add.at(expected, key, np.arange(1.0, np.prod(shape, dtype=int) + 1).reshape(shape))
    (found,) = gradient(lambda x: tg.take(x, indices, axis), A)
    np.testing.assert_array_equal(found, expected, strict=True)


@pytest.mark.parametrize("indices, axis", [([2], 0), ([-4], 1), ([24], None)])
def test_take_refuses_numbers_outside(indices, axis):
    with pytest.raises(IndexError):
        tg.take(tg.Tensor(A), indices, axis)


def test_take_along_axis_broadcasts_and_adds_repeats_up():
    for axis, indices in ((0, [[[1]]]), (-1, np.argsort(-A)), (1, np.zeros((2, 5, 4), int))):
        indices = np.asarray(indices)
        expected = np.take_along_axis(A, indices, axis)
        assert_equal(tg.take_along_axis(tg.Tensor(A), indices, axis), expected)
        (g,) = gradient(lambda x: tg.take_along_axis(x, indices, axis), A)  # noqa: B023
        total = expected.size * (expected.size + 1) / 2
        assert g.shape == A.shape and g.sum() == total
    (g,) = gradient(lambda x: tg.take_along_axis(x, [3, 3, 0], axis=None), A)
    assert g.flat[3] == 1 + 2 and g.flat[0] == 3


def test_embedding_adds_repeated_ids_up():
    weight = np.arange(6.0).reshape(3, 2)
    ids = np.array([[2, 0, 2], [2, 2, 2]], np.uint8)
    assert_equal(tg.embedding(ids, tg.Tensor(weight)), weight[ids])
    (g,) = gradient(lambda w: tg.embedding(ids, w), weight)
    assert g.tolist() == [[3.0, 4.0], [0.0, 0.0], [33.0, 38.0]]
    assert tg.embedding(np.zeros((0, 4), int), tg.Tensor(weight)).shape == (0, 4, 2)


@pytest.mark.parametrize("ids", [[3], [-1], [[0, 1], [99, 0]]])
def test_embedding_refuses_ids_outside(ids):
    with pytest.raises(IndexError, match=r"embedding: expected ids in 0\.\.2"):
        tg.embedding(ids, tg.ones(3, 2))


def test_embedding_refuses_ids_that_are_no_integers():
    with pytest.raises(TypeError, match="embedding"):
        tg.embedding([0.0], tg.ones(3, 2))


TIED = np.array([[2.0, 1.0, 2.0, 1.0, 0.0], [0.0, 0.0, 0.0, -1.0, 5.0]])


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_sorting_keeps_the_order_of_equal_elements(axis):
    order = np.argsort(TIED, axis=axis, kind="stable")
    assert_equal(tg.argsort(tg.Tensor(TIED), axis), order)
    assert_equal(tg.sort(tg.Tensor(TIED), axis), np.sort(TIED, axis=axis))


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("k", [0, 1, 3, 5])
def test_topk_takes_the_first_of_equal_elements(largest, k):
    values, indices = tg.topk(tg.Tensor(TIED), k, largest=largest)
    order = np.argsort(-TIED if largest else TIED, axis=-1, kind="stable")[:, :k]
    assert_equal(indices, order)
    assert_equal(values, np.take_along_axis(TIED, order, -1))
    by_column = tg.topk(tg.Tensor(TIED.T), k, axis=0, largest=largest)[0]
    assert_equal(by_column, values.numpy().T)


@pytest.mark.parametrize("k", [-1, 6])
def test_topk_refuses_more_than_there_are(k):
    with pytest.raises(ValueError, match="topk"):
        tg.topk(tg.Tensor(TIED), k)


@pytest.mark.parametrize("k", [-4, -1, 0, 2, 5])
def test_triangles_take_a_diagonal(k):
    for name in ("tril", "triu"):
        assert_equal(getattr(tg, name)(tg.Tensor(A), k), getattr(np, name)(A, k))


@pytest.mark.parametrize(
    "axes", [0, 1, 2, ([0, 1], [0, 1]), ([1], [0]), (-1, 0), ((1, 0), (0, 1)), ([], [])]
)
def test_tensordot_takes_a_number_or_axes(axes):
    found = tg.tensordot(tg.Tensor(SQUARE), tg.Tensor(SQUARE + 1), axes)
    assert_equal(found, np.tensordot(SQUARE, SQUARE + 1, axes))


@pytest.mark.parametrize(
    "left, right",
    [
        *[((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)), ((4, 2, 3), (3,)), ((3,), (4, 3, 2))],
        *[((4, 1, 2, 3), (5, 3, 2)), ((1, 2, 3), (4, 3, 2)), ((2, 3), (4, 3, 2))],
        *[((0, 3), (3, 2)), ((2, 0), (0, 2)), ((0,), (0,))],
    ],
)
def test_matmul_takes_vectors_matrices_and_batches(left, right):
    x, y = np.arange(1.0, 1 + np.prod(left)), np.arange(2.0, 2 + np.prod(right))
    x, y = x.reshape(left), y.reshape(right)
    assert_equal(tg.Tensor(x) @ tg.Tensor(y), x @ y)
    assert [g.shape for g in gradient(tg.matmul, x, y)] == [left, right]


def test_ops_take_lists_and_numbers():
    x = tg.Tensor([1.0, 2.0])
    assert_equal(tg.add(x, [1.0, 2.0]), np.float32([2.0, 4.0]))
    assert_equal(x * 2, np.float32([2.0, 4.0]))
    assert_equal(2 / x, np.float32([2.0, 1.0]))
    assert_equal(tg.maximum(x, 1.5), np.float32([1.5, 2.0]))
    assert_equal(tg.where([True, False], x, 0), np.float32([1.0, 0.0]))
    assert_equal(tg.concatenate([x, [3.0]]), np.float32([1.0, 2.0, 3.0]))
    assert_equal(tg.matmul([[1.0, 2.0]], x), np.float32([5.0]))
    assert_equal(tg.dot(x, [1.0, 1.0]), np.float32(3.0))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("other", [2, 2.5, True])
def test_python_numbers_are_weak(dtype, other):
    x = tg.Tensor(np.ones(2, dtype), requires_grad=True)
    for y in (x + other, other * x, x / other, x**other, tg.maximum(x, other), x - other):
        assert y.dtype == dtype
        assert tg.grad(y, x, np.ones(2, dtype))[0].dtype == dtype


@pytest.mark.parametrize("name", ["add", "multiply", "divide", "power", "maximum", "matmul"])
def test_mixed_precision_promotes_as_numpy(name):
    dtypes = ["f4", "f8", "i8", "i4", "u1"]
    for left in dtypes:
        for right in dtypes:
            x, y = np.ones((2, 2), left), np.ones((2, 2), right)
            expected = getattr(np, name)(x, y)
            assert_equal(getattr(tg, name)(tg.Tensor(x), tg.Tensor(y)), expected)
            assert_equal(getattr(tg, name)(tg.Tensor(x), y), expected)


def test_integers_come_out_as_numpys():
    whole = np.arange(6).reshape(2, 3)
    for name in (
        "sum",
        "mean",
        "prod",
        "max",
        "exp",
        "sqrt",
        "abs",
        "negative",
        "square",
        "cumsum",
    ):
        assert_equal(getattr(tg, name)(tg.Tensor(whole)), getattr(np, name)(whole))
    assert_equal(tg.sum(tg.Tensor(whole > 2)), np.sum(whole > 2))
