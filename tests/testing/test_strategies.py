"""What the strategies draw, how fast, and what it shrinks to."""

from random import Random
from time import perf_counter

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn.testing import strategies as ts

QUICK = settings(database=None, max_examples=5_000, phases=[Phase.generate])
SHRUNK = settings(database=None, max_examples=1_000)


def some(strategy, holds):
    """Any value for which something holds; fails if none is drawn."""
    return find(strategy, holds, settings=QUICK, random=Random(0))


def short(a):
    return all(len(repr(float(v))) <= 12 for v in a.ravel())


# Domains


@given(ts.reals("a b"), ts.reals("a b", scales=(1.0,)))
def test_reals(a, b):
    assert a.dtype == b.dtype == np.float64 and np.isfinite(a).all()
    assert (np.abs(a) <= 4000).all() and (np.abs(b) <= 4).all()
    assert short(a) and short(b)


@given(ts.positive())
def test_positive(a):
    assert (a >= 0.0125).all() and (a <= 40).all() and short(a)


@given(ts.unit_interval(), ts.unit_interval(margin=0))
def test_unit_interval(a, b):
    assert (a >= 1 / 64).all() and (a <= 63 / 64).all()
    assert (b >= 0).all() and (b <= 1).all()


@given(ts.away_from(0.5), ts.away_from((1 / 3, -1), (5, 4), margin=0.3, low=-2, high=2))
def test_away_from(a, b):
    assert (np.abs(a - 0.5) >= 0.125).all()
    assert all((np.abs(b - p) >= 0.3 * (1 - 1e-12)).all() for p in (1 / 3, -1))
    assert (np.abs(b) <= 2).all()


@given(ts.small_integers("a b"), ts.small_integers("a", 0, 2, dtype=np.intp))
def test_small_integers(a, k):
    assert a.dtype == np.float64 and (a == np.round(a)).all() and (np.abs(a) <= 4).all()
    assert k.dtype == np.intp and (k >= 0).all() and (k <= 2).all()


@given(ts.distinct("a b", gap=2.0), ts.distinct("a b", gap=2.0, offset=1.0), ts.distinct((4, 30)))
def test_distinct(a, b, many):
    both = np.concatenate([a.ravel(), b.ravel()])
    assert len(np.unique(both)) == both.size
    assert np.ptp(many) == many.size - 1 and len(np.unique(many)) == many.size


@given(ts.reals("a", dtype=np.float32), ts.tensors(ts.reals("a"), requires_grad=True))
def test_float32_and_tensors(a, t):
    assert a.dtype == np.float32
    assert isinstance(t, tg.Tensor) and t.requires_grad and t.dtype == np.float64
    assert t.shape == a.shape


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, 0.5])
def test_points_of_interest_are_drawn(value):
    some(ts.reals("a"), lambda a: value in a)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_scales_are_drawn(scale):
    some(ts.reals("a b"), lambda a: a.any() and scale / 2 <= np.abs(a).max() <= 4 * scale)


def test_ties_are_drawn_and_untied_arrays_too():
    some(ts.reals((8,)), lambda a: len(np.unique(a)) < 8)
    some(ts.reals((30,)), lambda a: len(np.unique(a)) == 30)


# Shapes


@given(ts.reals("rows cols"), ts.reals("cols 3"), ts.reals("rows? 1"), ts.positive(""))
def test_names_share_sizes(a, b, c, d):
    assert a.shape[1] == b.shape[0] and b.shape[1] == 3
    assert c.shape in ((1, 1), (a.shape[0], 1)) and d.shape == ()
    assert max(a.shape) <= 5


@given(ts.reals(3), ts.reals((2, 0)), ts.reals([4]), ts.reals(()), ts.reals(st.just((1, 2))))
def test_forms_of_shapes(a, b, c, d, e):
    assert [v.shape for v in (a, b, c, d, e)] == [(3,), (2, 0), (4,), (), (1, 2)]


@pytest.mark.parametrize("dims, sides", [((0, 3), (0, 5)), ((2, 2), (1, 1)), ((1, 4), (0, 0))])
def test_shapes(dims, sides):
    @given(ts.shapes(*dims, *sides))
    def holds(shape):
        assert isinstance(shape, tuple) and dims[0] <= len(shape) <= dims[1]
        assert all(sides[0] <= n <= sides[1] for n in shape)

    holds()


@pytest.mark.parametrize("shape", [(), (0,), (1,), (5,), (3, 0), (1, 4), (2, 3, 1)])
def test_every_kind_of_shape_is_drawn(shape):
    assert some(ts.shapes(), lambda drawn: drawn == shape) == shape


@given(ts.broadcastable_shapes(3, max_dims=4))
def test_broadcastable_shapes(shapes):
    assert len(shapes) == 3 and len(np.broadcast_shapes(*shapes)) <= 4


@pytest.mark.parametrize(
    "kind",
    [
        lambda a, b: a == () and b != (),
        lambda a, b: len(a) == len(b) == 2 and a[0] == b[1] == 1 < a[1] and b[0] > 1,
        lambda a, b: 0 < len(a) < len(b) and a[-1] == 1 < b[-1],
        lambda a, b: a == b and len(a) == 3,
        lambda a, b: 0 in a and 0 not in b,
    ],
)
def test_every_kind_of_broadcasting_is_drawn(kind):
    some(ts.broadcastable_shapes(2), lambda pair: kind(*pair))


@given(ts.matmul_operands())
def test_matmul_operands(pair):
    a, b = pair
    assert np.matmul(a, b).ndim <= 4


@pytest.mark.parametrize(
    "kind",
    [
        lambda a, b: a.ndim == b.ndim == 1,
        lambda a, b: a.ndim == 1 and b.ndim == 3,
        lambda a, b: a.ndim == 2 and b.ndim == 1,
        lambda a, b: a.ndim == 4 and b.ndim == 2,
        lambda a, b: a.ndim == b.ndim == 3 and a.shape[0] == 1 < b.shape[0],
        lambda a, b: a.ndim == 2 and a.shape[1] == 0 < a.shape[0] and b.size == 0,
    ],
)
def test_every_kind_of_operands_is_drawn(kind):
    some(ts.matmul_operands(), lambda pair: kind(*pair))


# Memory


@pytest.mark.parametrize(
    "kind",
    [
        lambda a: a.flags.c_contiguous,
        lambda a: a.flags.f_contiguous and not a.flags.c_contiguous,
        lambda a: a.strides[0] < 0,
        lambda a: a.strides[0] == 0,
        lambda a: a.strides[-1] == 16,
    ],
)
def test_layouts(kind):
    some(ts.reals((2, 3)), kind)


@given(ts.reals((2, 3), layouts=False))
def test_layouts_can_be_left_out(a):
    assert a.flags.c_contiguous and a.flags.writeable


# Sequences and layers


@given(ts.sequences(3, batch=(2, 6)), ts.sequences(1, 7, 2, lengths=True))
def test_sequences(some, fixed):
    T, B, I = some.x.shape  # noqa: E741
    assert 1 <= T <= 5 and 2 <= B <= 6 and I == 3
    if some.lengths is not None:
        assert some.lengths.dtype == np.intp and some.lengths.shape == (B,)
        assert (some.lengths >= 0).all() and (some.lengths <= T).all()
    assert fixed.x.shape == (7, 2, 1) and fixed.lengths is not None


def test_lengths_come_in_any_order_and_may_be_missing():
    some(ts.sequences(), lambda s: s.lengths is None)
    some(ts.sequences(lengths=True), lambda s: 0 in s.lengths)
    some(ts.sequences(lengths=True), lambda s: list(s.lengths) != sorted(s.lengths))
    some(ts.sequences(lengths=True), lambda s: (s.lengths == len(s.x)).all())


@given(ts.recurrent_configs().flatmap(lambda c: st.tuples(st.just(c), c.inputs(scales=(1.0,)))))
def test_recurrent_configs(drawn):
    config, (x, state, lengths) = drawn
    assert config.dropout == 0.0 and config.options["num_layers"] == config.num_layers
    outer = (config.batch, config.steps) if config.batch_first else (config.steps, config.batch)
    assert x.shape == (*outer, config.input_size)
    assert (state is None) == (not config.state) and (lengths is None) == (not config.lengths)
    directions = 2 if config.bidirectional else 1
    if state is not None:
        h_0, c_0 = state
        expected = (config.num_layers * directions, config.batch, config.hidden_size)
        assert h_0.shape == c_0.shape == expected
    if lengths is not None:
        assert lengths.shape == (config.batch,) and (lengths <= config.steps).all()


def test_configs_can_be_fixed():
    @given(ts.recurrent_configs(num_layers=2, bias=False, steps=st.integers(6, 7), state=True))
    def holds(config):
        assert config.num_layers == 2 and not config.bias and config.steps in (6, 7)
        assert set(config.options) == {
            *("input_size", "hidden_size", "num_layers", "bias", "batch_first"),
            *("bidirectional", "dropout"),
        }

    holds()
    assert find(ts.recurrent_configs(state=True).flatmap(lambda c: c.inputs(1)), bool)[1].ndim == 3
    with pytest.raises(TypeError, match="layers"):
        find(ts.recurrent_configs(layers=2), bool)


# Speed, and what examples shrink to


def test_large_arrays_are_drawn_fast():
    times = []

    @settings(max_examples=20, database=None)
    @given(st.data())
    def draws(data):
        start = perf_counter()
        a = data.draw(ts.reals((1000, 1000)))
        times.append(perf_counter() - start)
        assert a.size == 1_000_000

    draws()
    assert np.median(times) < 0.1


@pytest.mark.parametrize(
    "strategy, wanted, simplest",
    [
        (ts.reals("a b"), lambda a: a.size, [[1.0]]),
        (ts.reals("a", scales=(1.0,)), lambda a: (a > 3.2).any(), [3.5]),
        (ts.positive("a"), lambda a: a.size > 1, [1.0, 1.0]),
        (ts.unit_interval("a"), lambda a: a.size, [63 / 64]),
        (ts.small_integers("a b"), lambda a: (a < 0).any(), [[-4.0]]),
        (ts.distinct((3,)), lambda a: a[0] > a[1], [0.0, -1.0, 1.0]),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_examples_shrink_to_small_ones(strategy, wanted, simplest, seed):
    found = find(strategy, wanted, settings=SHRUNK, random=Random(seed))
    assert found.shape == np.shape(simplest) and short(found)
    assert np.abs(found - simplest).max() <= 1


# Errors


@pytest.mark.parametrize("shape", ["a, b", "a-1", "2x", "?", "a ??", "a b*"])
def test_malformed_shapes(shape):
    with pytest.raises(ValueError, match=r'shape: expected names or sizes.* such as "a b"'):
        ts.reals(shape)


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda: ts.reals((2, -1)), "shape: expected whole numbers of at least 0, got"),
        (lambda: ts.reals((2.0,)), "shape: expected whole numbers of at least 0, got"),
        (lambda: ts.reals(2.0), "shape: expected whole numbers of at least 0, got 2.0"),
        (lambda: ts.arrays(scales=()), r"positive, finite scales, got .*scales=\(\)"),
        (lambda: ts.arrays(scales=(1.0, -2.0)), "positive, finite scales"),
        (lambda: ts.arrays(high=np.inf), "arrays: expected finite bounds .* high=inf"),
        (lambda: ts.arrays(low=np.nan), "arrays: expected finite bounds .* low=nan"),
        (lambda: ts.small_integers("5", 0.2, 0.8), "arrays: expected low <= high"),
        (lambda: ts.distinct(gap=0.5, dtype=int), "distinct: .* whole numbers, got gap=0.5"),
        (lambda: ts.distinct(gap=-1), "distinct: expected a positive gap, got gap=-1"),
        (lambda: ts.shapes(3, 2), "shapes: expected 0 <= least <= most, got min_dims=3"),
        (lambda: ts.shapes(0, 2, -1), "shapes: expected 0 <= least <= most"),
        (lambda: ts.arrays((), 2, 1), "arrays: expected low <= high, .* got low=2, high=1"),
        (lambda: ts.away_from((0, 0.1)), "room by 0.125 on both sides .* a smaller margin"),
        (lambda: ts.away_from(3.9), "room by 0.125 on both sides .* a smaller margin"),
    ],
)
def test_errors(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()


@given(ts.arrays("a", scales=2.0))
def test_a_single_scale(a):
    assert (np.abs(a) <= 8).all()


def test_numbers_alone_are_no_inputs():
    with pytest.raises(TypeError, match=r'got \(.*\); reals\(""\) draws a single number'):
        tg.testing.assert_gradients(tg.tanh, st.floats(-1, 1))


@given(ts.distinct(()))
def test_a_single_distinct_number_is_an_array(a):
    assert isinstance(a, np.ndarray)


@given(ts.small_integers("a b", away=[0]))
def test_whole_numbers_stay_whole_away_from_a_point(a):
    assert (a == np.round(a)).all() and a.all()
