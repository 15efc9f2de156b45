"""Laws of the kernels on rows, at all vector widths and numbers of threads."""

import itertools
import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn.kernels import scatter
from tinygrad_rnn.kernels.rows import chunks, code, entropy, normal

WIDTHS = (4, 8, 16)
SIZES = [(1, 1, 1), (3, 5, 2), (9, 4, 7), (70, 33, 129), (130, 17, 1500)]  # N, H, V
UNIT = {"float32": 2.0**-24, "float64": 2.0**-53}


@pytest.fixture(params=WIDTHS)
def width(request, monkeypatch):
    monkeypatch.setenv("TINYGRAD_RNN_VECTOR", str(request.param))
    return request.param


@pytest.fixture(params=("float32", "float64"))
def dtype(request):
    return request.param


@pytest.fixture
def threads(monkeypatch):
    """Sets a number of threads, for the smallest amount of work."""
    monkeypatch.setattr(code, "WORTH", 0)
    before = tg.get_num_threads()
    yield tg.set_num_threads
    tg.set_num_threads(before)


class Fenced:
    """NumPy for a kernel's module: the arrays it makes lie between NaNs, which must stay."""

    def __init__(self):
        self.made = []

    def __getattr__(self, name):
        return getattr(np, name)

    def _inside(self, shape, dtype, value):
        shape = (shape,) if np.ndim(shape) == 0 else tuple(shape)
        dtype, gap = np.dtype(dtype), 64
        size = int(np.prod(shape)) * dtype.itemsize
        memory = np.full(size + 2 * gap, 255, np.uint8)  # NaN as floats, -1 as integers
        self.made.append((memory, gap, size))
        inside = memory[gap : gap + size].view(dtype).reshape(shape)
        if value is not None:
            inside[...] = value
        return inside

    def empty(self, shape, dtype):
        return self._inside(shape, dtype, None)

    def zeros(self, shape, dtype):
        return self._inside(shape, dtype, 0)

    def check(self):
        assert self.made
        for memory, gap, size in self.made:
            assert (memory[:gap] == 255).all() and (memory[gap + size :] == 255).all()


def fenced(values):
    """The same values between NaNs on all sides: rows do not follow one another."""
    values = np.asarray(values)
    memory = np.full([n + 4 for n in values.shape], np.nan, values.dtype)
    inside = memory[tuple(slice(2, -2) for _ in values.shape)]
    inside[...] = values
    return inside


def drawn(dtype, sizes, seed=0):
    """x (N, H), w (V, H), b (V,), logits and cotangents; targets, some of them left out."""
    n, h, v = sizes
    rng = np.random.default_rng(seed)
    x, w, b, g = (rng.standard_normal(s).astype(dtype) for s in ((n, h), (v, h), (v,), (n,)))
    targets = rng.integers(0, v, n)
    targets[n // 2 : n // 2 + (n > 1)] = -1
    return types.SimpleNamespace(
        x=x, w=w, b=b, g=g, targets=targets, logits=(x @ w.T + b), recipe=entropy.Recipe(0.1, v)
    )


def head(p, chunk=None, bias=True, wanted=(True,) * 3):
    given = p.x, p.w, p.b if bias else None, p.targets, p.recipe, p.g
    return list(chunks.losses(*given, wanted=wanted, chunk=chunk))


def logits(p):
    states = entropy.survey(p.logits, p.targets, p.recipe)
    rates = p.recipe.rates(states, p.targets, p.g)
    d = entropy.differentiate(p.logits, p.targets, p.recipe, rates)
    return [p.recipe.losses(states, p.targets), d]


def norm(p):
    y, states = normal.normalise(p.x, p.w[0], p.w[-1], 1e-5)
    return [y, *normal.differentiate(p.x, p.w[0], states, p.x[::-1] * p.g[:, None])]


def scattered(p):
    return [scatter.scatter_rows(p.x, np.maximum(p.targets, 0), len(p.w))]


KERNELS = {"head": head, "logits": logits, "norm": norm, "scatter": scattered}
MODULES = {"head": chunks, "logits": entropy, "norm": normal, "scatter": scatter}


def by_hand(p):
    """The losses of the logits, and the gradients of logits, x, w and b, in float64."""
    x, w, b, g = (a.astype(np.float64) for a in (p.x, p.w, p.b, p.g))
    s, v = p.recipe.smoothing, p.recipe.classes
    scores = x @ w.T + b
    scores -= scores.max(1, keepdims=True)
    scores -= np.log(np.exp(scores).sum(1, keepdims=True))
    hot = np.zeros_like(scores)
    hot[np.arange(len(x)), p.targets] = 1
    goal = (1 - s) * hot + s / v
    counts = (p.targets >= 0)[:, None]
    d = np.where(counts, (np.exp(scores) - goal) * g[:, None], 0)
    losses = -(goal * scores * counts).sum(1)
    return losses, d, d @ w, d.T @ x, d.sum(0)


def near(found, expected, dtype, work):
    """Within some hundred roundings of what was added up."""
    assert found.dtype == np.dtype(dtype) and found.shape == expected.shape
    scale = max(1.0, np.abs(expected).max(initial=0.0)) * np.sqrt(work)
    np.testing.assert_allclose(found, expected, rtol=0, atol=100 * UNIT[dtype] * scale)


def same(found, expected):
    assert all(a.tobytes() == b.tobytes() for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("sizes", SIZES)
def test_losses_and_gradients_are_those_by_hand(width, dtype, sizes):
    p = drawn(dtype, sizes)
    losses, d, *others = by_hand(p)
    work = max(sizes)
    assert sizes[0] < 2 or sizes[2] < 2 or (losses.any() and d.any())
    for found, expected in zip(logits(p), (losses, d), strict=True):
        near(found, expected, dtype, work)
    for found, expected in zip(head(p), (losses, *others), strict=True):
        near(found, expected, dtype, work)


@pytest.mark.parametrize("name", KERNELS)
def test_threads_change_no_bit(name, width, dtype, threads):
    for sizes in SIZES:
        p, found = drawn(dtype, sizes), []
        for n in (1, 2, 4):
            threads(n)
            found.append(KERNELS[name](p))
        same(found[0], found[1])
        same(found[0], found[2])
        assert sizes[0] == 1 or any(a.any() for a in found[0])


def test_chunks_change_no_bit(width, dtype):
    for sizes in SIZES:
        p = drawn(dtype, sizes)
        whole = head(p, chunk=10_000)
        for chunk in (1, 64, 65, 128):
            same(whole, head(p, chunk=chunk))


def test_rows_do_not_know_of_each_other(width, dtype):
    p = drawn(dtype, (70, 33, 129))
    losses, d_x, *_ = head(p)
    order = np.random.default_rng(1).permutation(70)
    q = types.SimpleNamespace(**vars(p))
    q.x, q.g, q.targets, q.logits = p.x[order], p.g[order], p.targets[order], p.logits[order]
    same([losses[order], d_x[order]], head(q)[:2])
    same([a[order] for a in logits(p)], logits(q))
    same([a[order] for a in norm(p)[:1]], norm(q)[:1])


@pytest.mark.parametrize("name", KERNELS)
def test_nothing_outside_is_read_or_written(name, width, dtype, monkeypatch):
    monkeypatch.setattr(scatter, "WORTH", 0)
    for sizes in SIZES:
        p = drawn(dtype, sizes)
        expected = KERNELS[name](p)
        q = types.SimpleNamespace(**vars(p))
        q.x, q.w, q.b, q.g, q.logits = (fenced(a) for a in (p.x, p.w, p.b, p.g, p.logits))
        fence = Fenced()
        with monkeypatch.context() as patch:
            patch.setattr(MODULES[name], "np", fence)
            same(KERNELS[name](q), expected)
        fence.check()


def test_only_what_is_wanted_is_computed_and_is_the_same(width, dtype):
    for sizes in SIZES:
        p = drawn(dtype, sizes)
        whole = head(p)
        for k in range(8):
            wanted = tuple(bool(k >> i & 1) for i in range(3))
            found = head(p, wanted=wanted)
            for a, b, wants in zip(found[1:], whole[1:], wanted, strict=True):
                assert (a is not None) == wants
                assert a is None or a.tobytes() == b.tobytes()
            same(found[:1], whole[:1])


def test_without_a_bias_it_is_zero(width, dtype):
    p = drawn(dtype, (9, 4, 7))
    found = head(p, bias=False, wanted=(True, True, False))
    p.b[...] = 0
    same(found[:3], head(p)[:3])


@pytest.mark.parametrize("bad", (np.nan, np.inf, -np.inf))
def test_what_is_not_finite_stays_in_its_row(width, dtype, bad):
    for column in (0, 20, 128):
        p = drawn(dtype, (70, 33, 129))
        plain = logits(p)
        p.logits[7, column] = bad
        with np.errstate(invalid="ignore"):
            losses, d = logits(p)
        others = np.arange(70) != 7
        same([losses[others], d[others]], [a[others] for a in plain])
        if bad == -np.inf:  # that class is impossible
            assert losses[7] == np.inf and np.isfinite(d[7]).all()
        else:
            assert np.isnan(losses[7]) and np.isnan(d[7]).all()
    p.recipe = entropy.Recipe(0.0, 129)
    losses, d = logits(p)
    assert np.isfinite(losses[7]) == (bad == -np.inf)


@pytest.mark.parametrize("bad", (np.nan, np.inf, -np.inf))
def test_an_input_that_is_not_finite_spoils_its_row_of_the_output_layer(width, dtype, bad):
    p = drawn(dtype, (70, 33, 1500))
    plain = head(p)
    p.x[7, 3] = bad
    losses, d_x, d_w, d_b = head(p)
    others = np.arange(70) != 7
    assert np.isnan(losses[7]) and np.isnan(d_x[7]).all()
    same([losses[others], d_x[others]], [a[others] for a in plain[:2]])
    assert np.isnan(d_w).all() and np.isnan(d_b).all()
    p.targets[7] = -1  # left out: no loss, nothing for b
    losses, d_x, d_w, d_b = head(p)
    assert losses[7] == 0 and not d_x[7].any() and np.isfinite(d_b).all()


def test_an_impossible_class_of_the_output_layer_is_infinitely_wrong(width, dtype):
    p = drawn(dtype, (9, 4, 700))
    p.recipe, p.b[600] = entropy.Recipe(0.0, 700), -np.inf
    p.targets[:] = 5
    p.targets[3] = 600
    losses, d_x, _, d_b = head(p)
    assert losses[3] == np.inf and np.isfinite(np.delete(losses, 3)).all()
    assert d_b[600] == -p.g[3] and np.isfinite(d_x).all()


def test_a_common_shift_is_not_seen(width, dtype):
    p = drawn(dtype, (20, 8, 700))
    p.x, p.w = np.round(p.x * 8) / 8, np.round(p.w * 8) / 8
    p.b = np.round(p.b * 8) / 8
    before = head(p)
    p.b = (p.b + np.array(1024, dtype)).astype(dtype)
    for a, b in zip(before, head(p), strict=True):
        near(a, b, dtype, 700)


def test_no_rows_have_no_losses_and_no_gradients(width, dtype):
    p = drawn(dtype, (5, 4, 7))
    p.x, p.g, p.targets, p.logits = p.x[:0], p.g[:0], p.targets[:0], p.logits[:0]
    losses, d_x, d_w, d_b = head(p)
    assert losses.shape == (0,) and d_x.shape == (0, 4)
    assert d_w.shape == (7, 4) and not d_w.any() and not d_b.any()
    assert [a.shape for a in logits(p)] == [(0,), (0, 7)]
    y, d_x, d_w, d_b = norm(p)
    assert y.shape == d_x.shape == (0, 4) and not d_w.any() and not d_b.any()
    assert not scattered(p)[0].any()


@pytest.mark.parametrize("n, h", [(1, 1), (2, 16), (70, 33), (200, 130)])
def test_rows_are_normalised(width, dtype, n, h):
    rng = np.random.default_rng(0)
    x, g, w, b = (rng.standard_normal(s).astype(dtype) for s in ((n, h), (n, h), h, h))
    y, states = normal.normalise(x, w, b, 1e-5)
    wide = x.astype(np.float64)
    scale = 1 / np.sqrt(wide.var(1, keepdims=True) + 1e-5)
    hat, wg = (wide - wide.mean(1, keepdims=True)) * scale, g.astype(np.float64) * w
    near(y, hat * w + b, dtype, h)
    d_x, d_w, d_b = normal.differentiate(x, w, states, g)
    expected = wg - wg.mean(1, keepdims=True) - hat * (wg * hat).mean(1, keepdims=True)
    near(d_x, expected * scale, dtype, h)
    near(d_w, (g * hat).sum(0), dtype, n)
    near(d_b, g.astype(np.float64).sum(0), dtype, n)


@given(st.integers(0, 40), st.integers(1, 150), st.integers(1, 9), st.integers(0, 99))
def test_scattered_rows_add_up_in_order(n, h, v, seed):
    rng = np.random.default_rng(seed)
    for dtype in ("float32", "float64"):
        rows, ids = rng.standard_normal((n, h)).astype(dtype), rng.integers(0, v, n)
        expected = np.zeros((v, h), dtype)
        np.add.at(expected, ids, rows)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(scatter, "WORTH", 0)
            for lanes, source in itertools.product(WIDTHS, (rows, fenced(rows))):
                patch.setenv("TINYGRAD_RNN_VECTOR", str(lanes))
                assert scatter.scatter_rows(source, ids, v).tobytes() == expected.tobytes()


def test_integers_are_scattered_too():
    rows = np.arange(30_000).reshape(10_000, 3)
    out = scatter.scatter_rows(rows, np.arange(10_000) % 7, 7)
    assert out.dtype == rows.dtype and out.sum() == rows.sum()


def test_without_a_compiler_definitions_run(monkeypatch, rng):
    x = rng.standard_normal((3, 5))
    targets, weight = [1, 2, 0], tg.Tensor(rng.standard_normal((4, 5)))

    def results():
        a = tg.Tensor(x, requires_grad=True)
        y = tg.nn.linear_cross_entropy(tg.nn.layer_norm(a), weight, targets)
        return y.item(), tg.grad(y, a)[0].numpy()

    with_kernels = results()
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    for kernels in (chunks.KERNELS, entropy.KERNELS, normal.KERNELS, scatter.KERNELS):
        assert not kernels.ready(np.dtype("float32"))
    for a, b in zip(with_kernels, results(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_what_cannot_be_compiled_runs_by_its_definition_and_says_so_once(monkeypatch):
    def broken(module):
        raise NotImplementedError("no such instruction")

    monkeypatch.setenv("TINYGRAD_RNN_CACHE", "/nowhere")
    kernels = code.Kernels("a broken kernel", {"run": "a b"}, broken)
    with pytest.raises(NotImplementedError, match="no such instruction"):
        kernels.ready(np.dtype("float32"))
    monkeypatch.delenv("TINYGRAD_RNN_STRICT")
    kernels = code.Kernels("a broken kernel", {"run": "a b"}, broken)
    with pytest.warns(RuntimeWarning, match="a broken kernel: runs by its definition.* no such"):
        assert not kernels.ready(np.dtype("float32"))
    assert not kernels.ready(np.dtype("float32"))
