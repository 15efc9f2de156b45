"""Laws of packed products and of the weight gradient, at all vector widths."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_rnn.kernels.gemm import product as gemm
from tinygrad_rnn.kernels.gemm.tile import PANEL
from tinygrad_rnn.kernels.machine import lanes_of

DTYPES = [np.float32, np.float64]
SIZES = st.integers(0, 13) | st.sampled_from([15, 16, 17, 31, 33, 47, 63, 64, 65, 100, 129, 150])
EDGES = [1, 2, 3, 5, 8, 16, 17, 31, 48, 63, 64, 65, 129, 200]  # columns


@pytest.fixture(params=[4, 8, 16])
def width(request, monkeypatch):
    monkeypatch.setenv("TINYGRAD_RNN_VECTOR", str(request.param))
    return request.param


@pytest.fixture(params=DTYPES)
def dtype(request):
    return request.param


class Guarded:
    """An array inside a larger one that is full of NaN, and stays so."""

    def __init__(self, values, gap=3):
        values = np.asarray(values)
        rows, columns = values.shape
        self.memory = np.full((rows + 2 * gap, columns + 2 * gap), np.nan, values.dtype)
        self.inside = np.zeros(self.memory.shape, bool)
        self.inside[gap : gap + rows, gap : gap + columns] = True
        self.array = self.memory[gap : gap + rows, gap : gap + columns]
        self.array[...] = values

    def check(self):
        assert np.isnan(self.memory[~self.inside]).all()


def call(name, *arguments, dtype):
    count = gemm.EXPORTS[name]
    gemm.library(dtype).function(name, count)(*arguments)


def address(array):
    return array.__array_interface__["data"][0]


def pack(b):
    """B (K, N) packed, in a guarded row."""
    k, n = b.shape
    size = gemm.packed_size(n, k, b.dtype)
    packed = Guarded(np.full((1, size // b.itemsize), np.nan, b.dtype))
    call("pack", address(b), b.strides[1], b.strides[0], n, k, address(packed.array), dtype=b.dtype)
    packed.check()
    return packed.array[0]


def product(a, b, start=None, out=None):
    """start + A B, where start is a row, a matrix, or what is in `out`."""
    (m, k), n = a.shape, b.shape[1]
    c = Guarded(np.full((m, n), np.nan, a.dtype) if out is None else out)
    first = Guarded(np.atleast_2d(np.zeros(n, a.dtype) if start is None else start))
    row = first.array.strides[0] if first.array.shape[0] == m and m != 1 else 0
    begin = (address(first.array), row)
    if out is not None:
        begin = (address(c.array), c.array.strides[0])
    packed = pack(b)
    given = address(a), *a.strides, address(packed), *begin, address(c.array), c.array.strides[0]
    call("product", m, n, k, *given, dtype=a.dtype)
    c.check()
    first.check()
    return c.array


def gradient(d, x, bounds=None):
    """Sum over the first two axes of d (T, B, M) times x (T, B, N), by rows between the bounds."""
    (steps, batch, m), n = d.shape, x.shape[2]
    c = Guarded(np.full((m, n), np.nan, d.dtype))
    bounds = bounds or [0, m]
    for m0, m1 in itertools.pairwise(bounds):
        size = gemm.workspace_size(steps * batch, m1 - m0, n, d.dtype)
        work = Guarded(np.full((1, size // d.itemsize), np.nan, d.dtype))
        sources = address(d), *d.strides[:2], address(x), *x.strides[:2], steps, batch
        out = address(c.array), c.array.strides[0], m0, m1, n, address(work.array)
        call("gradient", *sources, *out, dtype=d.dtype)
        work.check()
    c.check()
    assert np.isnan(c.array[: bounds[0]]).all() and np.isnan(c.array[bounds[-1] :]).all()
    return c.array


def integers(rng, *shape, dtype):
    """Small whole numbers, whose products are exact."""
    return rng.integers(-8, 9, shape).astype(dtype)


def layouts(values):
    """The same matrix in memory orders that packing treats differently."""
    k, n = values.shape
    spread = np.full((2 * k + 1, 3 * n + 1), np.nan, values.dtype)[: 2 * k : 2, : 3 * n : 3]
    spread[...] = values
    plain, turned = Guarded(values).array, Guarded(values.T).array.T
    return plain, turned, spread, Guarded(values[::-1, ::-1]).array[::-1, ::-1]


def same(x, y):
    return x.shape == y.shape and x.tobytes() == y.tobytes()


def test_packed_layout(width, dtype, rng):
    lanes = lanes_of(np.dtype(dtype))
    for n, k in itertools.product([0, *EDGES], [0, 1, 7, 16, 35]):
        values = rng.standard_normal((k, n)).astype(dtype)
        columns = PANEL * lanes
        panels = [values[:, p : p + columns] for p in range(0, n, columns)]
        padded = [np.pad(p, ((0, 0), (0, -p.shape[1] % lanes))).ravel() for p in panels]
        expected = np.concatenate([np.zeros(0, dtype), *padded])
        for b in layouts(values):
            assert same(pack(b), expected), (n, k, b.strides)


def test_every_small_size_is_exact(width, dtype, rng):
    for m, n, k in itertools.product(range(14), range(14), [0, 1, 2, 3, 13]):
        a, b = integers(rng, m, k, dtype=dtype), integers(rng, k, n, dtype=dtype)
        start = integers(rng, n, dtype=dtype)
        c = product(a, b, start)
        assert np.array_equal(c, start + a @ b), (m, n, k)
        assert c.any() or not (m and n) or k < 3 or n < 3


@given(m=SIZES, n=SIZES, k=SIZES, seed=st.integers(0, 99), dtype=st.sampled_from(DTYPES))
def test_product_is_within_the_bound(m, n, k, seed, dtype):
    rng = np.random.default_rng(seed)
    a, b, start = (rng.standard_normal(s).astype(dtype) for s in ((m, k), (k, n), (m, n)))
    wide = np.longdouble
    exact = start.astype(wide) + a.astype(wide) @ b.astype(wide)
    size = np.abs(start).astype(wide) + np.abs(a).astype(wide) @ np.abs(b).astype(wide)
    unit = np.finfo(dtype).eps / 2
    error = np.abs(product(a, b, start, out=start).astype(wide) - exact)
    assert (error <= k * unit / (1 - k * unit) * size).all()


def chain(dtype, start, xs, ys):
    """Fused multiply-adds one after another, each rounded once."""
    total = dtype(start)
    for x, y in zip(xs.tolist(), ys.tolist(), strict=True):
        if dtype is np.float32:  # x y is exact in float64
            total = np.float32(np.float64(x) * np.float64(y) + np.float64(total))
        else:
            total = np.float64(float(Fraction(x) * Fraction(y) + Fraction(float(total))))
    return total


@pytest.mark.parametrize("k", [45, gemm.PART, gemm.PART + 1, 3 * gemm.PART - 1])
def test_an_element_is_one_chain_in_order(width, dtype, rng, k):
    m, n = 21, 79
    a, b = (rng.standard_normal(s).astype(dtype) for s in ((m, k), (k, n)))
    start = rng.standard_normal(n).astype(dtype)
    c = product(a, b, start)
    places = [(0, 0), (20, 78), (5, 64), (13, 31), (19, 40), (7, 70)]
    for i, j in places:
        assert c[i, j] == chain(dtype, start[j], a[i], b[:, j])
    backwards = [chain(dtype, start[j], a[i, ::-1], b[::-1, j]) for i, j in places]
    assert any(c[p] != other for p, other in zip(places, backwards, strict=True))


def test_rows_may_be_split_anywhere(width, dtype, rng):
    for m, n in itertools.product(range(1, 27), [9, 70, 150]):
        a, b = (rng.standard_normal(s).astype(dtype) for s in ((m, 19), (19, n)))
        start = rng.standard_normal((m, n)).astype(dtype)
        whole = product(a, b, out=start)
        for cut in {1, m // 2, m - 1}:
            parts = product(a[:cut], b, out=start[:cut]), product(a[cut:], b, out=start[cut:])
            assert same(whole, np.concatenate(parts)), (m, n, cut)


def test_widths_give_the_same_bits(dtype, rng, monkeypatch):
    a, b = (rng.standard_normal(s).astype(dtype) for s in ((23, 61), (61, 171)))
    d, x = (rng.standard_normal(s).astype(dtype) for s in ((50, 17, 75), (50, 17, 83)))
    found = []
    for width in (4, 8, 16):
        monkeypatch.setenv("TINYGRAD_RNN_VECTOR", str(width))
        found.append((product(a, b).copy(), product(a[:1], b), product(a[:2], b), gradient(d, x)))
    for c, other, third in zip(*found, strict=True):
        assert c.any() and same(c, other) and same(c, third)


def test_start_and_strides(width, dtype, rng):
    for m, n in itertools.product([1, 2, 3, 4, 7, 12, 20], EDGES):
        a, b = integers(rng, m, 6, dtype=dtype), integers(rng, 6, n, dtype=dtype)
        row, matrix = integers(rng, n, dtype=dtype), integers(rng, m, n, dtype=dtype)
        for left, right in zip(layouts(a), layouts(b), strict=True):
            assert np.array_equal(product(left, right, row), row + a @ b)
        assert np.array_equal(product(a, b, matrix), matrix + a @ b)
        assert np.array_equal(product(a, b, out=matrix), matrix + a @ b)
        assert np.array_equal(product(a[:, :0], b[:0], matrix), matrix)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_where_it_belongs(width, dtype, rng, bad):
    for m, n in itertools.product([1, 2, 5, 13], [3, 64, 70, 130]):
        a, b = integers(rng, m, 5, dtype=dtype), integers(rng, 5, n, dtype=dtype)
        a[m // 2, 1] = bad
        b[3, n // 2] = bad
        with np.errstate(invalid="ignore"):
            expected = np.zeros(n, dtype) + np.einsum("mk,kn->mn", a, b)
        assert np.array_equal(product(a, b), expected, equal_nan=True)
        got = gradient(np.ascontiguousarray(a.T)[:, None], b[:, None])
        assert np.array_equal(got, expected, equal_nan=True)
        assert not np.isfinite(got).all() and (m == 1 or np.isfinite(got).any())


def test_gradient_is_exact(width, dtype, rng):
    shapes = [(0, 3), (3, 0), (1, 1), (2, 3), (40, 20), (1, 500), (900, 1), (130, 3)]
    for (steps, batch), m, n in itertools.product(shapes, [0, 1, 7, 70], [0, 1, 9, 65, 130]):
        d = integers(rng, steps, batch, m, dtype=dtype)
        x = integers(rng, steps, batch, n, dtype=dtype)
        expected = np.einsum("tbm,tbn->mn", d, x)
        assert np.array_equal(gradient(d, x), expected), (steps, batch, m, n)
        around = np.full((steps, batch + 2, n + 1), np.nan, dtype)
        around[::-1, 1:-1, 1:] = x
        assert np.array_equal(gradient(d, around[::-1, 1:-1, 1:]), expected)


def test_gradient_is_the_chain_of_the_product_for_any_rows(width, dtype, rng):
    steps, batch, m, n = 43, 19, 133, 77  # k crosses blocks
    d = rng.standard_normal((steps, batch, m)).astype(dtype)
    x = rng.standard_normal((steps, batch, n)).astype(dtype)
    flat = d.reshape(-1, m), x.reshape(-1, n)
    assert steps * batch > 2 * gemm.BLOCK
    expected = product(flat[0].T, flat[1])
    assert expected.any() and same(gradient(d, x), expected)
    for bounds in ([0, 1, 133], [0, 50, 64, 65, 133], [0, 0, 66, 133]):
        assert same(gradient(d, x, bounds), expected)
    assert same(gradient(d, x, [30, 40])[30:40], expected[30:40])


def test_a_library_is_made_once(dtype, monkeypatch):
    assert gemm.library(dtype) is gemm.library(np.dtype(dtype).name)
    assert set(gemm.library(dtype).addresses) == set(gemm.EXPORTS)
    monkeypatch.setenv("TINYGRAD_RNN_VECTOR", "5")
    with pytest.raises(ValueError, match="TINYGRAD_RNN_VECTOR: expected 4, 8 or 16, got '5'"):
        gemm.library(dtype)
