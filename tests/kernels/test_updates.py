"""One pass over many arrays, and their common norm: kernel = definition, at all vector widths."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn.kernels.updates import loop, norm
from tinygrad_rnn.kernels.updates.arithmetic import maximum, minimum, sqrt
from tinygrad_rnn.testing import strategies as ts

SIZES = [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 65, 100, 1_023]


@pytest.fixture(params=[4, 8, 16])
def width(request, monkeypatch):
    monkeypatch.setenv("TINYGRAD_RNN_VECTOR", str(request.param))
    return request.param


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    return request.param


@pytest.fixture
def threads():
    usual = tg.get_num_threads()
    yield tg.set_num_threads
    tg.set_num_threads(usual)


def mixture(x, y, z, *, a, b, off, on):
    """Every operation that an equation may use, and numbers of each kind."""
    x = x - a * y if on else x + 1e9
    z = sqrt(maximum(z, b) * minimum(y, -a)) if off else maximum(z, a) / (sqrt(y * y) + b)
    return -x, z + 2.0 * x


ALONE = loop.Use(1, 1, (0,))
NUMBERS = {"a": 0.3, "b": 1e-3, "off": False, "on": True}


def guarded(values, gap=19):
    """An array inside a larger one that is full of NaN, and the larger one."""
    memory = np.full(values.size + 2 * gap, np.nan, values.dtype)
    inside = memory[gap : gap + values.size]
    inside[...] = values
    return inside, memory


def same(found, expected):
    assert found.tobytes() == expected.tobytes()


def items_of(arrays):
    return arrays, loop.Use(3, 3, (0, 2))


def drawn(rng, sizes, dtype):
    return [[guarded(rng.standard_normal(n).astype(dtype)) for _ in range(3)] for n in sizes]


def test_kernel_is_the_definition_bit_for_bit_and_writes_nothing_else(width, dtype, rng):
    kernel = drawn(rng, SIZES, dtype)
    definition = [[guarded(a) for a, _ in row] for row in kernel]
    before = [[m.copy() for _, m in row] for row in kernel]
    loop.update(mixture, *items_of([[a for a, _ in row] for row in kernel]), NUMBERS, False)
    loop.update(mixture, *items_of([[a for a, _ in row] for row in definition]), NUMBERS, True)
    for found, expected, old in zip(kernel, definition, before, strict=True):
        for k in range(3):
            same(found[k][1], expected[k][1])
        same(found[1][1], old[1])  # y is read only
        assert found[0][0].size == 0 or (found[0][1] != old[0]).sum() > 2 * 19


@pytest.mark.parametrize("count", (2, 3, 5))
def test_threads_change_no_bit(width, dtype, count, threads, rng):
    sizes = (40_001, 0, 17, 90_000, 3)
    results = []
    for n in (1, count):
        threads(n)
        arrays = [[a for a, _ in row] for row in drawn(np.random.default_rng(0), sizes, dtype)]
        loop.update(mixture, *items_of(arrays), NUMBERS, False)
        results.append(np.concatenate([a for row in arrays for a in row]))
    same(*results)
    assert np.isfinite(results[0]).all() and results[0].any()


def test_other_arrays_may_be_written_than_read(width, dtype, rng):
    x = rng.standard_normal(37).astype(dtype)
    out, memory = guarded(np.zeros(37, dtype))
    loop.update(lambda x, *, by: (x * by,), [[x, out]], loop.Use(2, 1, (1,)), {"by": 3}, False)
    same(out, x * np.asarray(3, dtype))
    assert np.isnan(memory).sum() == 2 * 19


def test_a_number_that_changes_needs_no_new_code(dtype, monkeypatch, rng):
    made = []
    usual = loop.update_module
    monkeypatch.setattr(loop, "update_module", lambda *a: made.append(a) or usual(*a))

    def scaled(x, *, by):
        return (x * by if by else x - x,)

    x = rng.standard_normal(9).astype(dtype)
    for by in (0.5, 2.0, -1e-3, 7):
        y = x.copy()
        loop.update(scaled, [[y]], ALONE, {"by": by}, False)
        same(y, x * np.asarray(by, dtype))
    assert len(made) == 1
    loop.update(scaled, [[x]], ALONE, {"by": 0.0}, False)
    assert len(made) == 2 and not x.any()


def test_strided_arrays_and_other_orders_are_taken(width, dtype, rng):
    def halves(values):
        spread = np.full((values.shape[0] * 2, values.shape[1] * 3), np.nan, dtype)
        spread[::2, ::3] = values
        return spread[::2, ::3]

    values = [rng.standard_normal((5, 7)).astype(dtype) for _ in range(3)]
    expected = [a.copy() for a in values]
    loop.update(mixture, *items_of([expected]), NUMBERS, True)
    for forms in ([halves] * 3, [np.asfortranarray] * 3, [np.copy, np.asfortranarray, halves]):
        arrays = [form(a.copy()) for form, a in zip(forms, values, strict=True)]
        loop.update(mixture, *items_of([arrays]), NUMBERS, False)
        for found, wanted in zip(arrays, expected, strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_what_cannot_be_compiled_runs_by_its_definition_with_a_warning(monkeypatch):
    def odd(x):
        return (np.tanh(x),)

    x = np.array([0.5, -2.0])
    with pytest.raises(TypeError):
        loop.update(odd, [[x]], ALONE, {}, False)
    monkeypatch.setenv("TINYGRAD_RNN_STRICT", "0")
    with pytest.warns(RuntimeWarning, match=r"^odd runs by its definition, without a compiled"):
        loop.update(odd, [[x]], ALONE, {}, False)
    loop.update(odd, [[x]], ALONE, {}, False)  # it is said once
    np.testing.assert_array_equal(x, np.tanh(np.tanh([0.5, -2.0])))


def test_without_compiling_definitions_run():
    code = (
        "import sys, numpy as np, tinygrad_rnn as tg; x = tg.ones(3, requires_grad=True); "
        "x.grad = tg.ones(3); tg.optim.Adam([x], lr=0.5).step(); "
        "n = tg.optim.clip_grad_norm_([x], 1.0); "
        "print('llvmlite' in sys.modules, x.tolist(), round(n, 6))"
    )
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    run = [sys.executable, "-c", code]
    result = subprocess.run(run, env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "[0.5,", "0.5,", "0.5]", "1.732051"]


# Norms


@given(
    st.lists(ts.reals(), max_size=4),
    st.booleans(),
    st.sampled_from(("float32", "float64")),
    st.sampled_from((4, 8, 16)),
)
def test_norm_is_its_definition(arrays, largest, dtype, lanes):
    arrays = [a.astype(dtype) for a in arrays]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINYGRAD_RNN_VECTOR", str(lanes))
        found = norm.norm(arrays, largest, False)
    expected = norm.norm(arrays, largest, True)
    joined = np.concatenate([np.zeros(0), *(a.ravel().astype(np.float64) for a in arrays)])
    plain = np.abs(joined).max(initial=0) if largest else math.sqrt(math.fsum(joined**2))
    assert found == pytest.approx(expected, rel=0 if largest else 1e-14, abs=0)
    assert found == pytest.approx(plain, rel=0 if largest else 1e-14, abs=0)


@pytest.mark.parametrize("largest", (False, True))
@pytest.mark.parametrize("n", [*SIZES[1:], norm.BLOCK - 1, norm.BLOCK + 1])
def test_norm_reads_every_element_once_and_no_other(width, dtype, n, largest):
    inside, _ = guarded(np.zeros(n, dtype))
    for k in sorted({0, n // 2, n - 1}):
        inside[k] = -3.0
        assert norm.norm([inside], largest, False) == 3.0
        inside[k] = 0.0
    inside[...] = 2.0
    assert norm.norm([inside], largest, False) == (2.0 if largest else 2 * math.sqrt(n))


@pytest.mark.parametrize("largest", (False, True))
@pytest.mark.parametrize("bad", (math.nan, math.inf, -math.inf))
def test_norm_shows_nan_and_inf_wherever_they_are(width, dtype, bad, largest):
    for n in (1, 5, 33, 100):
        for k in range(0, n, 3):
            x = np.ones(n, dtype)
            x[k] = bad
            found = norm.norm([np.ones(3, dtype), x, np.ones(40, dtype)], largest, False)
            assert math.isnan(found) if math.isnan(bad) else found == math.inf


def test_nan_is_not_hidden_by_an_infinity(width, dtype):
    for values in ([math.nan, math.inf], [math.inf, math.nan], [math.inf] * 40 + [math.nan]):
        for largest in (False, True):
            assert math.isnan(norm.norm([np.array(values, dtype)], largest, False))


@pytest.mark.parametrize("largest", (False, True))
def test_norm_has_the_same_bits_on_all_threads(width, dtype, largest, threads, rng):
    arrays = [rng.standard_normal(n).astype(dtype) for n in (400_001, 3, 50_000, norm.BLOCK)]
    found = set()
    for n in (1, 2, 3, 8):
        threads(n)
        found.add(norm.norm(arrays, largest, False))
    assert len(found) == 1 and found.pop() > 1


@pytest.mark.parametrize("size", (1e-300, 1e-170, 1e-150, 1.0, 1e150, 1e200, 5e307))
def test_squares_of_float64_neither_overflow_nor_vanish(size):
    for defined in (False, True):
        x = [np.full(3, size), np.array([size])]
        assert norm.norm(x, False, defined) == pytest.approx(2 * size, rel=1e-14)


def test_norm_of_strided_arrays_and_mixed_dtypes(width, rng):
    x, y = rng.standard_normal((6, 8)), rng.standard_normal(7).astype(np.float32)
    for view in (x.T, x[::2, ::3], np.broadcast_to(x[:1], (4, 8))):
        expected = math.sqrt((view**2).sum() + (y.astype(np.float64) ** 2).sum())
        assert norm.norm([view, y], False, False) == pytest.approx(expected, rel=1e-14)
