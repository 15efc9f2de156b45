"""The laws that hold for every op: each body runs for every row of the table that it fits."""

from types import FunctionType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tests.ops.drawing import cases
from tests.ops.table import ROWS
from tinygrad_rnn.autograd.op import PRIMITIVES
from tinygrad_rnn.testing import exact_gradcheck, gradcheck
from tinygrad_rnn.testing import strategies as ts

EXAMPLES = settings().max_examples
NOT_OPS = {
    *("Array", "Arrays", "Tensor", "cell", "checkpoint", "definitions", "detect_anomaly"),
    *("detect_mutation", "fused", "grad", "no_grad", "pointwise", "primitive", "scan", "to_dot"),
    *("from_numpy", "zeros", "zeros_like", "ones", "ones_like", "full", "eye", "arange", "rand"),
    *("randn", "manual_seed", "get_rng_state", "set_rng_state", "set_num_threads"),
    *("get_num_threads",),
}


def differentiable(row):
    return row.order > 0


def law(applies=lambda row: True, lattice=False, share=0.25, shapes=lambda row: None):
    """Run a body for every row that it applies to, at `share` of the profile's examples.

    The body returns whether what it compared was something other than zeros and empty arrays; a
    law of which no example says so proves nothing, and fails.
    """

    def decorate(body):
        @pytest.mark.parametrize("row", [r for r in ROWS if applies(r)], ids=str)
        def holds(row):
            proofs = []

            @settings(max_examples=max(10, int(EXAMPLES * share)))
            @given(cases(row, lattice, shapes(row)))
            def example(case):
                proofs.append(body(case))

            example.hypothesis.inner_test.__qualname__ = f"{body.__name__}[{row}]"
            for _ in range(10):  # few random examples may all be empty
                example()
                if any(proofs):
                    return
            pytest.fail(f"{row}: nothing but zeros was compared")

        holds.__name__, holds.__doc__ = body.__name__, body.__doc__
        return holds

    return decorate


# What the laws compare


def leaves(arrays, wanted=None):
    """Tensors that share the arrays, and their strides."""
    tensors = [tg.from_numpy(a) for a in arrays]
    for k, t in enumerate(tensors):
        t.requires_grad = wanted is None or wanted[k]
    return tensors


def cotangents(case, outputs):
    """Small integers, none zero."""
    rng = case.rng()
    return [
        (rng.choice([-1.0, 1.0], v.shape) * rng.integers(1, 4, v.shape)).astype(v.dtype)
        for v in outputs
    ]


def gradients(case, arrays, wanted=None, gs=None):
    """The outputs, and the gradient of each input (None where none is wanted)."""
    xs = leaves(arrays, wanted)
    outputs = case(*xs)
    gs = cotangents(case, outputs) if gs is None else gs
    found = iter(tg.grad(outputs, [x for x in xs if x.requires_grad], gs, allow_unused=True))
    return outputs, [next(found) if x.requires_grad else None for x in xs]


def telling(*arrays):
    return any(a is not None and np.asarray(a).any() for a in arrays)


def largest(*arrays):
    return max(np.abs(a).max(initial=0.0) for a in arrays)


PRODUCTS = {"matmul", "linear", "dot", "tensordot", "einsum", "outer"}


def assert_same(found, expected):
    """Bit-equal, NaN included, but for the sign of zero."""
    for f, e in zip(found, expected, strict=True):
        if f is None or e is None:
            assert f is None and e is None
        else:
            np.testing.assert_array_equal(np.asarray(f), np.asarray(e), strict=True)


def assert_close(found, expected, tolerance=1e-13):
    """Within `tolerance` of each element, or of the largest."""
    for f, e in zip(found, expected, strict=True):
        f, e = np.asarray(f), np.asarray(e)
        size = np.abs(e[np.isfinite(e)]).max(initial=0.0)
        np.testing.assert_allclose(f, e, rtol=tolerance, atol=tolerance * size)


# Completeness


def test_every_primitive_has_a_row():
    covered = {row.name.split()[0] for row in ROWS}
    assert {name.rstrip("_") for name in PRIMITIVES} <= covered  # sum_ is what sum is made of
    assert {n for n in tg.__all__ if type(getattr(tg, n)) is FunctionType} - NOT_OPS <= covered


# Values


@law()
def test_values_are_numpys(case):
    expected = case.reference(*case.arrays)
    found = case(*map(tg.Tensor, case.arrays))
    assert [v.shape for v in found] == [np.shape(e) for e in expected]
    assert_close(found, expected)
    return telling(*found)


@law()
def test_values_on_arrays_are_those_on_tensors(case):
    plain = case(*case.arrays)
    assert not any(isinstance(v, tg.Tensor) for v in plain)
    found = case(*leaves(case.arrays))
    if case.row.polynomial and case.row.name.split()[0] not in PRODUCTS:
        assert_same(found, plain)
    else:  # BLAS depends on addresses; NumPy's scalars have another pow than its arrays
        assert_close(found, plain, 2e-15)
    return telling(*plain)


@law(lambda row: not row.polynomial and row.order > 0)
def test_float32_is_close_to_float64(case):
    single = [a.astype(np.float32) for a in case.arrays]
    for f, e in zip(
        case(*map(tg.Tensor, single)),
        case(*[tg.Tensor(a, dtype=np.float64) for a in single]),
        strict=True,
    ):
        f, e = f.numpy(), e.numpy()
        size = np.abs(e) if case.row.pointwise else np.full(e.shape, largest(e))
        if case.row.shifts:
            size = size + largest(*single)
        off = np.abs(f.astype(np.float64) - e)
        assert (off <= case.row.ulps * np.spacing(size.astype(np.float32))).all()
    return telling(f)


@law(lambda row: row.polynomial, lattice=True)
def test_float32_is_float64_at_small_integers(case):
    single = case(*[tg.Tensor(a, dtype=np.float32) for a in case.arrays])
    double = case(*map(tg.Tensor, case.arrays))
    assert_same([v.numpy().astype(np.float64) for v in single], double)
    return telling(*single)


@law(lambda row: row.name != "astype to integers")
def test_nan_reaches_every_result_that_reads_it(case):
    arrays = [a.copy() for a in case.arrays]
    rng = case.rng()
    dtype = rng.choice([np.float32, np.float64])
    filled = [k for k, a in enumerate(arrays) if a.size]
    if not filled:
        return False
    k = rng.choice(filled)
    place = np.unravel_index(rng.integers(arrays[k].size), arrays[k].shape)
    arrays[k][place] = np.nan
    found = [v.numpy() for v in case(*leaves([a.astype(dtype) for a in arrays]))]
    if not case.row.order:
        assert_same(found, case.reference(*arrays))
        return True
    for f, reads in zip(found, reading(case, arrays, k, place), strict=True):
        assert np.isnan(f)[reads].all()
        if all(a.size for a in arrays):  # an empty sum, 0, times NaN may be NaN
            assert not np.isnan(f)[~reads].any()
    return any(np.isnan(f).any() for f in found)


def reading(case, arrays, k, place):
    """Which elements of the results read element `place` of input `k`, which is NaN."""
    if case.row.pointwise and case.row.nan:
        return (np.logical_or.reduce([np.isnan(a) for a in np.broadcast_arrays(*arrays)]),)
    if not case.row.multilinear:
        return [np.asarray(np.isnan(e)) for e in case.reference(*arrays)]
    ones, changed = ([np.ones_like(a) for a in arrays] for _ in range(2))
    changed[k][place] = 2.0
    ends = zip(case.reference(*ones), case.reference(*changed), strict=True)
    return [np.asarray(before != after) for before, after in ends]


# Gradients


@law(differentiable, share=1)
def test_gradients_to_second_order(case):
    report = gradcheck(case, case.arrays, order=case.row.order, rng=case.rng())
    return bool(report) and (report.analytic == 0) == case.row.flat


@law(lambda row: row.polynomial, lattice=True)
def test_gradients_at_small_integers_are_exact(case):
    """No difference has an error here, nor has any sum of integers."""
    return bool(exact_gradcheck(case, case.arrays, rng=case.rng()))


@law(differentiable)
def test_jvp_is_vjp_transposed(case):
    rng = case.rng()
    tangents = [rng.standard_normal(a.shape) for a in case.arrays]
    _, moved = tg.func.jvp(case, tuple(case.arrays), tuple(tangents))
    outputs, found = gradients(case, case.arrays)
    gs = cotangents(case, outputs)
    ends = [g * np.asarray(m) for g, m in zip(gs, moved, strict=True)]
    starts = [d.numpy() * t for d, t in zip(found, tangents, strict=True) if d is not None]
    size = sum(np.abs(p).sum() for p in (*ends, *starts))
    assert abs(sum(p.sum() for p in ends) - sum(p.sum() for p in starts)) <= 1e-13 * size
    return size > 0 or case.row.flat


@law(differentiable)
def test_gradients_have_their_inputs_dtype_and_shape(case):
    rng = case.rng()
    arrays = [a.astype(rng.choice([np.float32, np.float64])) for a in case.arrays]
    outputs, found = gradients(case, arrays)
    promoted = (
        np.result_type(*arrays) if case.row.name != "astype to float64" else np.dtype(np.float64)
    )
    assert {v.dtype for v in outputs} == {promoted}
    assert {np.asarray(v).dtype for v in case(*arrays)} == {promoted}
    for d, a in zip(found, arrays, strict=True):
        assert d is None or (d.dtype, d.shape) == (a.dtype, a.shape)
    return telling(*found) or case.row.flat


@law(differentiable)
def test_any_subset_of_inputs_may_want_gradients(case):
    outputs, full = gradients(case, case.arrays)
    rng = case.rng()
    wanted = [bool(w) for w in rng.integers(0, 2, len(full))]
    wanted[rng.integers(len(full))] = True
    some, part = gradients(case, case.arrays, wanted)
    assert_same(some, outputs)
    assert_same(part, [d if w else None for d, w in zip(full, wanted, strict=True)])
    return telling(*part) or case.row.flat


@law(differentiable)
def test_two_backwards_are_equal_and_nothing_is_changed(case):
    arrays = [a.copy() for a in case.arrays]
    xs = [tg.Tensor(a, requires_grad=True) for a in arrays]
    outputs = case(*xs)
    values, gs = [v.numpy().copy() for v in outputs], cotangents(case, outputs)
    kept = [g.copy() for g in gs]
    runs = [tg.grad(outputs, xs, gs, retain_graph=True, allow_unused=True) for _ in range(2)]
    recorded = tg.grad(outputs, xs, gs, create_graph=True, allow_unused=True)
    assert_same(*runs)
    assert_same(recorded, runs[0])
    assert_same([*xs, *outputs, *gs], [*case.arrays, *values, *kept])
    zeros = [np.zeros_like(g) for g in gs]
    for d in tg.grad(outputs, xs, zeros, allow_unused=True):
        assert d is None or not d.numpy().any()
    return telling(*runs[0]) or case.row.flat


@law(differentiable)
def test_a_nan_cotangent_reaches_every_gradient_it_enters(case):
    outputs, _ = gradients(case, case.arrays)
    rng = case.rng()
    k = rng.integers(len(outputs))
    if not outputs[k].size:
        return False
    gs = [np.zeros(v.shape) for v in outputs]
    place = rng.integers(outputs[k].size)
    gs[k].flat[place] = 1.0
    _, entered = gradients(case, case.arrays, gs=gs)
    gs[k].flat[place] = np.nan
    _, found = gradients(case, case.arrays, gs=gs)
    pairs = [(d.numpy(), e.numpy()) for d, e in zip(found, entered, strict=True) if d is not None]
    assert all(np.isnan(d[e != 0]).all() for d, e in pairs)
    return any(e.any() for _, e in pairs) or case.row.flat


def _twice(case):
    """The case with its first input at every place of the same shape."""
    return [k for k, a in enumerate(case.arrays) if a.shape == case.arrays[0].shape]


@law(lambda row: row.order > 0 and not isinstance(row.domain, tuple))
def test_the_same_tensor_may_be_given_twice(case):
    same = _twice(case)
    arrays = [case.arrays[0] if k in same else a for k, a in enumerate(case.arrays)]
    outputs, each = gradients(case, arrays)
    x, *others = leaves([arrays[0], *(a for k, a in enumerate(arrays) if k not in same)])
    rest = iter(others)
    again = case(*[x if k in same else next(rest) for k in range(len(arrays))])
    assert_same(again, outputs)
    (found,) = tg.grad(again, x, cotangents(case, outputs), allow_unused=True)
    summed = [each[k].numpy() for k in same if each[k] is not None]
    assert_close([0.0 if found is None else found], [sum(summed)])
    return telling(*each) or case.row.flat


# Layouts


def _laid_out(a, kind):
    """The same values with other strides."""
    if not a.ndim:
        return a
    if kind == "reversed":
        return a[(slice(None, None, -1),) * a.ndim].copy()[(slice(None, None, -1),) * a.ndim]
    if kind == "transposed":
        return a.T.copy().T
    if kind == "every other":
        wide = np.full([2 * n for n in a.shape], np.nan)
        part = wide[(slice(None, None, 2),) * a.ndim]
        part[...] = a
        return part
    return np.broadcast_to(a[..., :1], a.shape) if a.shape[-1] else a


@law(differentiable, lattice=True)
def test_layouts_give_bit_equal_results_at_small_integers(case):
    kinds = ("reversed", "transposed", "every other", "broadcast")
    kinds = case.rng().choice(kinds, len(case.arrays))
    arrays = [_laid_out(a, kind) for a, kind in zip(case.arrays, kinds, strict=True)]
    copies = [np.ascontiguousarray(a).reshape(a.shape) for a in arrays]
    outputs, found = gradients(case, arrays)
    expected, contiguous = gradients(case, copies)
    if case.row.polynomial:
        assert_same(outputs, expected)
        assert_same(found, contiguous)
    else:  # NumPy's vector loops want unit strides, and sums follow the strides: 4 ulps
        assert_close(outputs, expected, 1e-15)
        assert_close(found, contiguous, 1e-15)
    assert_same(arrays, copies)
    return any(not a.flags.c_contiguous for a in arrays)


# Shapes


def broadcasting(row):
    return ts.broadcastable_shapes(row.arity, max_dims=4)


def small(row):
    return st.sampled_from([((),), ((0,),), ((2, 0, 3),), ((1, 1),)]).map(lambda s: s * row.arity)


def _fits_any_shape(row):
    return row.pointwise and row.name != "where"


@law(lambda row: _fits_any_shape(row) and row.arity > 1, shapes=broadcasting)
def test_every_mutually_broadcastable_shape(case):
    return _values_and_gradients_fit(case)


@law(_fits_any_shape, shapes=small)
def test_empty_and_0d_inputs(case):
    return _values_and_gradients_fit(case)


def _values_and_gradients_fit(case):
    found = case(*leaves(case.arrays, [False] * len(case.arrays)))
    assert found[0].shape == np.broadcast_shapes(*(a.shape for a in case.arrays))
    assert_close(found, case.reference(*case.arrays))
    if not case.row.order:
        assert not case(*leaves(case.arrays))[0].requires_grad
        return found[0].size > 0
    _, each = gradients(case, case.arrays)
    assert [d.shape for d in each] == [a.shape for a in case.arrays]
    return telling(*found)
