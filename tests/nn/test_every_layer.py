"""Laws of every layer: both dtypes, any number of threads, with and without lengths, nothing to
read."""

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn

T, B, W, V = 6, 8, 48, 50
MANY = 40, 64  # steps and sequences, enough work for two threads
X, ROWS, IDS = (T, B, W), (B, W), None  # shapes of inputs; None for ids (T, B)

LAYERS = {  # how it is made, its inputs, and whether it takes lengths
    "Linear": (lambda o: nn.Linear(W, W, **o), [X], False),
    "LayerNorm": (lambda o: nn.LayerNorm(W, dtype=o["dtype"]), [X], False),
    "Dropout": (lambda o: nn.Dropout(0.3, rng=o["rng"]), [X], False),
    "LockedDropout": (lambda o: nn.LockedDropout(0.3, rng=o["rng"]), [X], False),
    "Embedding": (lambda o: nn.Embedding(V, W, 0, **o), [IDS], False),
    "EmbeddingDropout": (
        lambda o: nn.EmbeddingDropout(nn.Embedding(V, W, **o), 0.3, rng=o["rng"]),
        *([IDS], False),
    ),
    "WordDropout": (
        lambda o: nn.Sequential(nn.WordDropout(0.3, 1, rng=o["rng"]), nn.Embedding(V, W, **o)),
        *([IDS], False),
    ),
    "DotAttention": (lambda o: nn.DotAttention(scale=0.1), [X, X], True),
    "GeneralAttention": (lambda o: nn.GeneralAttention(W, W, **o), [X, X], True),
    "AdditiveAttention": (lambda o: nn.AdditiveAttention(W, W, 8, **o), [X, X], True),
    "RNNCell": (lambda o: nn.RNNCell(W, W, **o), [ROWS, ROWS], False),
    "GRUCell": (lambda o: nn.GRUCell(W, W, **o), [ROWS, ROWS], False),
    "LSTMCell": (lambda o: nn.LSTMCell(W, W, **o), [ROWS, ROWS, ROWS], False),
    "RNN": (lambda o: nn.RNN(W, W, **o), [X], True),
    "GRU": (lambda o: nn.GRU(W, 24, 2, bidirectional=True, **o), [X], True),
    "LSTM": (lambda o: nn.LSTM(W, W, weight_drop=0.3, zoneout=0.1, **o), [X], True),
    "Recurrent": (lambda o: nn.Recurrent(nn.cells.minimal_gated, W, W, **o), [X], True),
    "Residual": (lambda o: nn.Residual(nn.GRU(W, W, **o)), [X], True),
    "Highway": (lambda o: nn.Highway(W, nn.GRU(W, W, **o), **o), [X], True),
    "Sequential": (lambda o: nn.Sequential(nn.RNN(W, W, **o), nn.Linear(W, 5, **o)), [X], True),
    "Dense": (lambda o: nn.Dense(nn.RNN(W, 32, **o), nn.RNN(W + 32, 8, **o)), [X], True),
    "Skip": (lambda o: nn.Skip(nn.RNN(W, 32, **o), nn.RNN(32 + W, 8, **o)), [X], True),
}
CALLS = [(name, on) for name, (*_, takes) in LAYERS.items() for on in (False, True)[: 1 + takes]]
ALL = pytest.mark.parametrize(("name", "lengths"), CALLS)


def tensors(result):
    """An output and its state, one after another."""
    if isinstance(result, tuple):
        return [t for part in result for t in tensors(part)]
    return [result]


def run(name, dtype, lengths, sizes=(T, B)):
    """Outputs, states and gradients of the inputs and of all parameters."""
    make, shapes, _ = LAYERS[name]
    rng, (steps, batch) = np.random.default_rng(0), sizes
    layer = make({"dtype": dtype, "rng": rng})
    inputs = []
    for shape in shapes:
        lead = (steps, batch) if shape is IDS else (*sizes, W) if shape is X else (batch, W)
        array = rng.integers(V, size=lead) if shape is IDS else rng.standard_normal(lead)
        inputs.append(array if shape is IDS else tg.Tensor(array, requires_grad=True, dtype=dtype))
    more = {"lengths": rng.integers(0, steps + 1, batch)} if lengths else {}
    given = [inputs[0], tuple(inputs[1:])] if len(inputs) == 3 else inputs  # h and c
    found = tensors(layer(*given, **more))
    leaves = [*(v for v in inputs if isinstance(v, tg.Tensor)), *layer.parameters()]
    loss = sum((v * v).sum() for v in found)
    if loss.requires_grad:  # no step is no function of anything
        found += [d for d in tg.grad(loss, leaves, allow_unused=True) if d is not None]
    return [t.numpy() for t in found]


def test_every_layer_has_a_row():
    found = {n for n in nn.__all__ if isinstance(getattr(nn, n), type)}
    layers = {n for n in found if issubclass(getattr(nn, n), nn.Module) and n != "Module"}
    assert {*LAYERS} == layers - {"ModuleDict", "ModuleList"}


@ALL
def test_single_precision_is_double_precision_rounded(name, lengths):
    wide, narrow = (run(name, dtype, lengths) for dtype in ("float64", "float32"))
    for a, b in zip(wide, narrow, strict=True):
        assert a.dtype == np.float64 and b.dtype == np.float32 and a.shape == b.shape
        np.testing.assert_allclose(b, a, rtol=1e-3, atol=1e-4 * max(1.0, np.abs(a).max()))
    assert all(a.any() for a in wide)


@ALL
@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_threads_change_no_bit(name, lengths, dtype):
    before, found = tg.get_num_threads(), []
    for threads in (1, 2):
        try:
            tg.set_num_threads(threads)
            found.append(run(name, dtype, lengths, MANY))
        finally:
            tg.set_num_threads(before)
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b, strict=True)


@ALL
@pytest.mark.parametrize("sizes", ((0, 3), (2, 0), (0, 0)))
def test_nothing_to_read_gives_nothing(name, lengths, sizes):
    output, *_ = run(name, "float64", lengths, sizes)
    alone = LAYERS[name][1][0] is ROWS
    assert output.shape[: 1 if alone else 2] == (sizes[1:] if alone else sizes)


@pytest.mark.parametrize("threads", (2, 3))
@pytest.mark.parametrize("kind", (nn.RNN, nn.GRU, nn.LSTM))
@pytest.mark.parametrize("recorded", (False, True))
def test_threads_do_not_meet_where_they_are_at_other_steps(kind, recorded, threads):
    """Sequences of several lengths, read in stretches, again and again: the same bits."""
    rng, (steps, batch), before = np.random.default_rng(0), MANY, tg.get_num_threads()
    layer, lengths = kind(W, W, rng=rng), rng.integers(0, steps + 1, batch)
    x = tg.randn(*MANY, W, rng=rng, requires_grad=recorded)

    def read(threads):
        tg.set_num_threads(threads)
        return tensors(
            layer(x, lengths=lengths) if recorded else tg.no_grad(layer)(x, None, lengths)
        )

    try:
        expected = [t.numpy() for t in read(1)]
        for _ in range(25):
            for a, b in zip(read(threads), expected, strict=True):
                np.testing.assert_array_equal(a.numpy(), b)
    finally:
        tg.set_num_threads(before)
