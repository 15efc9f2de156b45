"""Linear and Embedding: what they compute, their gradients, their weights and their errors."""

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn.testing import strategies as ts

DTYPES = st.sampled_from(("float32", "float64"))
SEEDS = st.integers(0, 2**32 - 1)


def close(found, expected, dtype):
    found = np.asarray(found)
    assert found.dtype == np.dtype(dtype) and found.shape == expected.shape
    scale = max(1.0, np.abs(expected).max(initial=0.0))
    tolerance = scale * (1e-5 if dtype == "float32" else 1e-13)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


# Linear


@given(ts.shapes(max_side=3), st.integers(1, 4), st.integers(1, 4), DTYPES, SEEDS)
def test_linear_is_a_product_with_closed_gradients(lead, inputs, outputs, dtype, seed):
    rng = np.random.default_rng(seed)
    layer = tg.nn.Linear(inputs, outputs, dtype=dtype, rng=rng)
    x = tg.Tensor(rng.standard_normal((*lead, inputs)).astype(dtype), requires_grad=True)
    g = rng.standard_normal((*lead, outputs)).astype(dtype)
    w, b = layer.weight.numpy(), layer.bias.numpy()
    y = layer(x)
    close(y, x.numpy() @ w.T + b, dtype)
    y.backward(tg.Tensor(g))
    rows, gs = x.numpy().reshape(-1, inputs), g.reshape(-1, outputs)
    close(x.grad, g @ w, dtype)
    close(layer.weight.grad, gs.T @ rows, dtype)
    close(layer.bias.grad, gs.sum(0), dtype)


@pytest.mark.parametrize("size", (-1, 2.0, "2", None, True, (2,)))
@pytest.mark.parametrize("name", ("Linear", "Embedding", "LayerNorm"))
def test_sizes_that_are_none_are_refused(name, size):
    for sizes in ((size, 3), (3, size)) if name != "LayerNorm" else ((size,),):
        with pytest.raises(ValueError, match=rf"^{name}: expected sizes of at least 0, got .*="):
            getattr(tg.nn, name)(*sizes)


def test_linear_without_bias_has_one_parameter():
    layer = tg.nn.Linear(3, 2, bias=False)
    assert layer.bias is None and [n for n, _ in layer.named_parameters()] == ["weight"]
    np.testing.assert_array_equal(layer(tg.zeros(4, 3)).numpy(), np.zeros((4, 2)))


def test_linear_of_no_features_is_its_bias():
    layer = tg.nn.Linear(0, 2)
    np.testing.assert_array_equal(layer(tg.zeros(3, 0)).numpy(), np.zeros((3, 2)))


@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_linear_weights_are_drawn_within_their_bound(dtype):
    layer = tg.nn.Linear(64, 100, dtype=dtype, rng=np.random.default_rng(0))
    for p in layer.parameters():
        assert p.dtype == np.dtype(dtype)
        assert 0.9 / 8 < np.abs(p.numpy()).max() <= np.float32(1 / 8)
    weight = layer.weight.numpy()
    assert abs(weight.mean()) < 0.01 and abs(weight.std() * 8 - 1 / np.sqrt(3)) < 0.02


def test_linear_refuses_another_number_of_features():
    with pytest.raises(ValueError, match=r"^linear: expected x .* got \(2, 4\) and \(5, 3\);"):
        tg.nn.Linear(3, 5)(tg.zeros(2, 4))


@pytest.mark.parametrize(
    "x, got",
    [
        (tg.zeros(2, 3, dtype="float64"), "float64"),
        (tg.Tensor([[1, 2, 3]]), "int64"),
        ([[1.0, 2.0, 3.0]], "list"),
    ],
    ids=("float64", "integers", "list"),
)
def test_linear_refuses_another_dtype(x, got):
    with pytest.raises(TypeError, match=rf"^Linear: expected x of .* float32, got {got}; .*astype"):
        tg.nn.Linear(3, 5)(x)


# Embedding


@given(ts.shapes(1, max_side=3), st.integers(1, 4), DTYPES, SEEDS)
def test_embedding_takes_rows_and_repeated_ids_add_up(shape, width, dtype, seed):
    rng = np.random.default_rng(seed)
    layer = tg.nn.Embedding(5, width, dtype=dtype, rng=rng)
    ids = rng.integers(0, 5, shape)
    y = layer(ids)
    np.testing.assert_array_equal(y.numpy(), layer.weight.numpy()[ids], strict=True)
    g = rng.integers(-3, 4, y.shape).astype(dtype)
    y.backward(tg.Tensor(g))
    expected = np.zeros((5, width), dtype)
    for k in np.ndindex(*shape):
        expected[ids[k]] += g[k]
    np.testing.assert_array_equal(layer.weight.grad.numpy(), expected, strict=True)


def test_embedding_gradient_counts_an_id_and_leaves_others_zero():
    layer = tg.nn.Embedding(4, 2)
    layer([[1, 3, 1], [1, 1, 3]]).sum().backward()
    np.testing.assert_array_equal(layer.weight.grad.numpy(), [[0, 0], [4, 4], [0, 0], [2, 2]])


@pytest.mark.parametrize("dtype", ("int8", "uint8", "int32", "int64", "uint64"))
def test_embedding_reads_every_integer_type(dtype):
    layer, ids = tg.nn.Embedding(4, 2), np.array([3, 0, 3], dtype)
    expected = layer.weight.numpy()[[3, 0, 3]]
    for given_ids in (ids, tg.Tensor(ids), ids.tolist()):
        np.testing.assert_array_equal(layer(given_ids).numpy(), expected)


def test_embedding_of_one_id_is_a_row_and_of_none_is_empty():
    layer = tg.nn.Embedding(4, 2)
    assert layer(2).shape == (2,)
    y = layer([])
    assert y.shape == (0, 2)
    assert not tg.grad(y.sum(), layer.weight)[0].numpy().any()


@pytest.mark.parametrize("ids, first", [([4], 4), ([0, -1], -1), ([[1], [99]], 99)])
def test_embedding_refuses_ids_outside_the_table(ids, first):
    with pytest.raises(IndexError, match=rf"^embedding: expected ids in 0\.\.3, got {first};"):
        tg.nn.Embedding(4, 2)(ids)


@pytest.mark.parametrize("ids", ([0.0], [True], np.ones(2)))
def test_embedding_refuses_ids_that_are_no_integers(ids):
    with pytest.raises(TypeError, match=r"^embedding: expected integer indices, got .*; convert"):
        tg.nn.Embedding(4, 2)(ids)


@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_embedding_rows_are_drawn_from_the_normal_distribution(dtype):
    weight = tg.nn.Embedding(400, 50, dtype=dtype, rng=np.random.default_rng(0)).weight.numpy()
    assert weight.dtype == np.dtype(dtype)
    assert abs(weight.mean()) < 0.03 and abs(weight.std() - 1) < 0.03
    assert 3.2 < np.abs(weight).max() < 6


@pytest.mark.parametrize("padding_idx", (2, -3))
def test_embedding_of_padding_is_zero_and_is_not_learnt(padding_idx):
    layer = tg.nn.Embedding(5, 3, padding_idx)
    assert layer.padding_idx == 2 and not layer.weight.numpy()[2].any()
    assert layer.weight.numpy()[[0, 1, 3, 4]].all()
    y = layer([[2, 1], [2, 0]])
    assert not y.numpy()[:, 0].any()
    y.backward(tg.ones(2, 2, 3))
    np.testing.assert_array_equal(layer.weight.grad.numpy().any(-1), [1, 1, 0, 0, 0])
    layer.load_state_dict({"weight": np.ones((5, 3), np.float32)})
    assert layer([2]).numpy().all()  # whatever the row is
    assert repr(layer) == "Embedding(5, 3, padding_idx=2)"


@pytest.mark.parametrize("padding_idx", (5, -6))
def test_embedding_refuses_padding_outside_the_table(padding_idx):
    message = rf"^Embedding: expected padding_idx in -5\.\.4, got {padding_idx}"
    with pytest.raises(ValueError, match=message):
        tg.nn.Embedding(5, 3, padding_idx)


def test_embedding_gradient_of_many_ids_has_the_same_bits_for_any_threads(rng):
    ids, g = rng.integers(0, 50, (40, 30)), rng.standard_normal((40, 30, 70)).astype("float32")
    before, found = tg.get_num_threads(), []
    weight = tg.zeros(50, 70, requires_grad=True)
    try:
        for threads in (1, 2, 4):
            tg.set_num_threads(threads)
            found.append(tg.grad(tg.embedding(ids, weight), weight, g)[0].numpy())
    finally:
        tg.set_num_threads(before)
    expected = np.zeros((50, 70), np.float32)
    np.add.at(expected, ids, g)
    for d in found:
        assert d.tobytes() == expected.tobytes()


# LayerNorm


@given(ts.shapes(max_side=3), st.integers(1, 9), DTYPES, SEEDS)
def test_layer_norm_gives_mean_0_and_variance_1(lead, width, dtype, seed):
    x = np.random.default_rng(seed).normal(3, 2, (*lead, width)).astype(dtype)
    y = tg.nn.LayerNorm(width, eps=0.01, dtype=dtype)(tg.Tensor(x)).numpy()
    wide = x.astype(np.float64)
    variance = wide.var(-1, keepdims=True)
    close(y, (wide - wide.mean(-1, keepdims=True)) / np.sqrt(variance + 0.01), dtype)
    close(y.mean(-1), np.zeros(lead), dtype)


def test_layer_norm_has_the_parameters_that_are_asked_for():
    names = [
        [n for n, _ in layer.named_parameters()]
        for layer in (
            tg.nn.LayerNorm(4),
            tg.nn.LayerNorm(4, bias=False),
            tg.nn.LayerNorm(4, elementwise_affine=False),
        )
    ]
    assert names == [["weight", "bias"], ["weight"], []]
    assert repr(tg.nn.LayerNorm(4)) == "LayerNorm(4, eps=1e-05, bias=True)"


@pytest.mark.parametrize("bad", (np.nan, np.inf))
def test_layer_norm_of_what_is_not_finite_spoils_its_own_row(bad):
    x = np.arange(12.0).reshape(3, 4)
    plain = tg.nn.layer_norm(tg.Tensor(x)).numpy()
    x[1, 2] = bad
    y = tg.nn.layer_norm(tg.Tensor(x)).numpy()
    assert np.isnan(y[1]).all()
    np.testing.assert_array_equal(y[[0, 2]], plain[[0, 2]])


def test_layer_norm_of_equal_numbers_is_its_bias():
    layer = tg.nn.LayerNorm(5)
    layer.bias._data[...] = [1, 2, 3, 4, 5]
    np.testing.assert_array_equal(layer(tg.full((2, 5), 7.0)).numpy(), [[1, 2, 3, 4, 5]] * 2)


def test_layer_norm_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match=r"^LayerNorm: expected x of shape \(\.\.\., 4\), got"):
        tg.nn.LayerNorm(4)(tg.zeros(2, 3))
    with pytest.raises(TypeError, match=r"^LayerNorm: expected x of .* float32, got float64"):
        tg.nn.LayerNorm(4)(tg.zeros(2, 4, dtype="float64"))
    with pytest.raises(ValueError, match=r"^layer_norm: expected bias of shape \(3,\) for x"):
        tg.nn.layer_norm(tg.zeros(2, 3), tg.zeros(3), tg.zeros(1))


# Draws


@pytest.mark.parametrize("layer", (tg.nn.Linear, tg.nn.Embedding))
def test_draws_are_the_generators(layer):
    make = functools.partial(layer, 3, 5)
    layers = [make(rng=np.random.default_rng(s)).state_dict() for s in (1, 1, 2)]
    for a, b, c in zip(*(d.values() for d in layers), strict=True):
        np.testing.assert_array_equal(a, b)
        assert (a != c).any()
    before = tg.get_rng_state()
    make(rng=np.random.default_rng(0))
    assert tg.get_rng_state() == before
    tg.manual_seed(3)
    first = make().state_dict()
    tg.manual_seed(3)
    for a, b in zip(first.values(), make().state_dict().values(), strict=True):
        np.testing.assert_array_equal(a, b)
    tg.set_rng_state(before)


# Dropout


@given(ts.shapes(max_side=5), st.floats(0, 0.95), DTYPES, SEEDS)
def test_dropout_keeps_or_drops_every_entry(shape, p, dtype, seed):
    rng = np.random.default_rng(seed)
    x = tg.Tensor(rng.standard_normal(shape).astype(dtype), requires_grad=True)
    y = tg.nn.dropout(x, p, rng=np.random.default_rng(seed))
    g = rng.standard_normal(shape).astype(dtype)
    (d,) = tg.grad(y, x, g)
    mask = np.where(y.numpy() == 0, 0, 1 / (1 - p)).astype(dtype)
    np.testing.assert_array_equal(y.numpy(), x.numpy() * mask, strict=True)
    np.testing.assert_array_equal(d.numpy(), g * mask, strict=True)


def test_dropout_is_its_definition_bit_for_bit_also_where_it_is_not_finite():
    values = np.array([1.5, -2.0, 0.0, -0.0, np.nan, np.inf, -np.inf, 1e38] * 9, np.float32)

    def both():
        x = tg.Tensor(values, requires_grad=True)
        y = tg.nn.dropout(x, 0.3, rng=np.random.default_rng(1))
        return y.numpy(), tg.grad(y, x, values[::-1].copy())[0].numpy()

    with np.errstate(invalid="ignore", over="ignore"):
        found = both()
        with tg.definitions():
            expected = both()
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(np.signbit(a), np.signbit(b))


@pytest.mark.parametrize("p", (0.1, 0.5, 0.9))
def test_dropout_keeps_the_mean_and_drops_its_share(p):
    y = tg.nn.dropout(tg.ones(400, 500), p, rng=np.random.default_rng(0)).numpy()
    assert abs((y == 0).mean() - p) < 0.005 and abs(y.mean() - 1) < 0.02


def test_dropout_draws_the_same_in_either_dtype_and_anew_in_each_call():
    make = functools.partial(np.random.default_rng, 5)
    wide = tg.nn.dropout(tg.ones(50, dtype="float64"), rng=make())
    narrow = tg.nn.dropout(tg.ones(50), rng=make())
    np.testing.assert_array_equal(wide.numpy(), narrow.numpy())
    layer = tg.nn.Dropout(rng=make())
    first, second = layer(tg.ones(50)).numpy(), layer(tg.ones(50)).numpy()
    np.testing.assert_array_equal(first, narrow.numpy())
    assert (first != second).any()


def test_dropout_is_the_default_generators_and_the_same_again_in_a_checkpoint():
    before = tg.get_rng_state()
    tg.manual_seed(3)
    layer, x = tg.nn.Dropout(), tg.ones(50, requires_grad=True)
    y = tg.checkpoint(layer, x)
    np.testing.assert_array_equal(tg.grad(y.sum(), x)[0].numpy(), y.numpy())
    tg.manual_seed(3)
    np.testing.assert_array_equal(layer(x).numpy(), y.numpy())
    tg.set_rng_state(before)


def test_dropout_does_nothing_in_evaluation_or_for_a_share_of_0():
    x, rng = tg.ones(50), np.random.default_rng(0)
    before = rng.bit_generator.state
    assert tg.nn.Dropout(0.5, rng=rng).eval()(x) is x
    assert tg.nn.dropout(x, 0.5, training=False, rng=rng) is x
    assert tg.nn.Dropout(0.0, rng=rng)(x) is x
    assert rng.bit_generator.state == before


@pytest.mark.parametrize("p", (1.0, 1, -0.5, float("nan")))
def test_dropout_refuses_a_share_outside_its_range(p):
    for name, call in {"dropout": lambda: tg.nn.dropout(tg.ones(2), p),
                       "Dropout": lambda: tg.nn.Dropout(p)}.items():  # fmt: skip
        message = rf"^{name}: expected p in \[0, 1\), got {p}; it is the share that is dropped"
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize("x", (tg.Tensor([1, 2]), [1.0, 2.0]), ids=("integers", "list"))
def test_dropout_refuses_what_is_no_floating_point_tensor(x):
    with pytest.raises(TypeError, match=r"^dropout: expected a floating-point Tensor, got .*;"):
        tg.nn.dropout(x)


# print


def test_layers_say_what_they_are():
    nn = tg.nn
    shown = ["Linear(in_features=3, out_features=5, bias=True)", "Embedding(10, 4)"]
    assert [repr(v) for v in (nn.Linear(3, 5), nn.Embedding(10, 4))] == shown
    assert repr(nn.Linear(3, 5, bias=False)).endswith("bias=False)")
    assert repr(nn.Dropout(0.25)) == "Dropout(p=0.25)"
