"""Weights of torch, as they are, and of Keras, converted, in our layers: the same outputs."""

import importlib
import os

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn, saving

pytestmark = pytest.mark.parity

X = np.random.default_rng(0).standard_normal((5, 3, 4))  # (T, B, I)
IDS = np.random.default_rng(1).integers(0, 9, (5, 3))


def agree(found, expected, atol=1e-12):
    for f, e in zip(found, expected, strict=True):
        assert f.shape == tuple(e.shape) and np.abs(np.asarray(e)).max() > 0
        np.testing.assert_allclose(np.asarray(f), np.asarray(e), rtol=0, atol=atol)


def flat(result):
    """Outputs and states, one after another."""
    if not isinstance(result, (tuple, list)):
        return [result]
    return [part for value in result for part in flat(value)]


# torch


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


LAYERS = {  # arguments of a layer, and what it is called with
    "RNN": ((4, 6, 2), {"bidirectional": True}, X),
    "RNN ": ((4, 6), {"nonlinearity": "relu", "bias": False}, X),
    "LSTM": ((4, 6, 3), {"bidirectional": True}, X),
    "LSTM ": ((4, 6, 2), {"bidirectional": True, "proj_size": 5, "batch_first": True}, X),
    "GRU": ((4, 6, 2), {"bidirectional": True, "bias": False}, X),
    "RNNCell": ((4, 6), {}, X[0]),
    "LSTMCell": ((4, 6), {}, X[0]),
    "GRUCell": ((4, 6), {"bias": False}, X[0]),
    "Linear": ((4, 6), {}, X),
    "Embedding": ((9, 4), {"padding_idx": 2}, IDS),
    "LayerNorm": ((4,), {}, X),
}


def in_memory(reference, _):
    return reference.state_dict()


def in_arrays(reference, _):
    return {name: value.numpy() for name, value in reference.state_dict().items()}


def in_a_file(reference, path):
    """Tied weights have one name there."""
    importlib.import_module("safetensors.torch").save_model(reference, path)
    return saving.load_arrays(path)


WAYS = [in_memory, in_arrays, in_a_file]


def drawn(torch, reference):
    """A module of torch with other weights than those it begins with."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in reference.parameters():
            p.copy_(torch.empty(p.shape).normal_(0, 0.5, generator=generator))
    return reference.eval()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", LAYERS)
def test_layers_take_torchs_weights(name, way, torch, tmp_path):
    sizes, options, x = LAYERS[name]
    kind = name.strip()
    reference = getattr(torch.nn, kind)(*sizes, **options, dtype=torch.float64)
    layer = getattr(nn, kind)(*sizes, **options, dtype="float64")
    layer.load_state_dict(way(drawn(torch, reference), tmp_path / "torch.safetensors"))
    with torch.no_grad():
        expected = flat(reference(torch.tensor(x)))
    agree(flat(layer(x if kind == "Embedding" else tg.Tensor(x))), expected)


def tagger(nn, act, base):
    """The same model of either library, with every kind of container and a tied weight."""
    f64 = {"dtype": base}

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            layers = nn.Linear(4, 6, **f64), act, nn.LayerNorm(6, **f64), nn.Linear(6, 4, **f64)
            self.inner = nn.Sequential(*layers)

    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(9, 4, **f64)
            self.blocks = nn.ModuleList([Block(), Block()])
            self.lstm = nn.LSTM(4, 6, 2, bidirectional=True, proj_size=2, **f64)
            self.heads = nn.ModuleDict({"tag": nn.Linear(4, 3, **f64)})
            self.words = nn.Linear(4, 9, **f64)
            self.words.weight = self.embedding.weight

        def run(self, ids):
            x = self.embedding(ids)
            for block in self.blocks:
                x = x + block.inner(x)
            x, state = self.lstm(x)
            return self.heads["tag"](x), self.words(x), state

    return Tagger()


@pytest.mark.parametrize("way", WAYS)
def test_a_nested_model_takes_torchs_weights(way, torch, tmp_path):
    reference = drawn(torch, tagger(torch.nn, torch.nn.Tanh(), torch.float64))
    model = tagger(nn, tg.tanh, "float64")
    state = way(reference, tmp_path / "torch.safetensors")
    model.load_state_dict(state)
    assert {*state} | {"words.weight"} | {"embedding.weight"} == {*reference.state_dict()}
    with torch.no_grad():
        expected = flat(reference.run(torch.tensor(IDS)))
    agree(flat(model.run(IDS)), expected)
    assert model.words.weight is model.embedding.weight
    np.testing.assert_array_equal(model.words.weight.numpy(), reference.words.weight.detach())


def test_what_numpy_lacks_is_named(torch, tmp_path):
    path = tmp_path / "half.safetensors"
    reference = torch.nn.Linear(2, 2, dtype=torch.bfloat16)
    importlib.import_module("safetensors.torch").save_model(reference, path)
    message = r"expected a safetensors file of NumPy's types, got .*BF16.*; .*bfloat16 as float32"
    with pytest.raises(saving.CheckpointError, match=message):
        saving.load_arrays(path)


def test_torchs_own_format_is_no_safetensors_file(torch, tmp_path):
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "a.pt")
    with pytest.raises(saving.CheckpointError, match=r"^load_arrays: .* expected a safetensors"):
        saving.load_arrays(tmp_path / "a.pt")


def test_pre_trained_rows_are_torchs(torch):
    rows = np.random.default_rng(3).standard_normal((9, 4))
    for options in ({}, {"freeze": False}, {"freeze": False, "padding_idx": 2}):
        reference = torch.nn.Embedding.from_pretrained(torch.tensor(rows), **options)
        layer = nn.Embedding.from_pretrained(rows, **options)
        agree([layer(IDS)], [reference(torch.tensor(IDS)).detach()])
        assert layer.weight.requires_grad == reference.weight.requires_grad
        if reference.weight.requires_grad:
            (layer(IDS) ** 2).sum().backward()
            (reference(torch.tensor(IDS)) ** 2).sum().backward()
            agree([layer.weight.grad], [reference.weight.grad])


@pytest.mark.parametrize("padding_idx", (None, 2))
def test_tied_weights_have_torchs_gradient(padding_idx, torch):
    rows, g = (np.random.default_rng(k).standard_normal((9, 4)) for k in (3, 4))
    made = []
    for library, tensor in ((nn, tg.Tensor), (torch.nn, torch.tensor)):
        table = library.Embedding.from_pretrained(
            tensor(rows), freeze=False, padding_idx=padding_idx
        )
        output = library.Linear(4, 9, bias=False)
        output.weight = table.weight
        ids = IDS if library is nn else torch.tensor(IDS)
        logits = output(table(ids) * tensor(g[IDS]))
        (logits**2).sum().backward()
        made.append(table.weight.grad)
    agree(made[:1], made[1:])


# Keras


@pytest.fixture
def keras():
    os.environ.setdefault("KERAS_BACKEND", "torch")
    return pytest.importorskip("keras")


KERAS = {  # Keras' layer, its options, our layer, its options
    "SimpleRNN": ("SimpleRNN", {}, nn.RNN, {}),
    "SimpleRNN relu": ("SimpleRNN", {"activation": "relu"}, nn.RNN, {"nonlinearity": "relu"}),
    "GRU": ("GRU", {}, nn.GRU, {}),
    "GRU before": ("GRU", {"reset_after": False}, nn.GRU, {"reset_after": False}),
    "LSTM": ("LSTM", {}, nn.LSTM, {}),
}
FUSED = ("GRU", "LSTM")  # what Keras hands over whole; its own products round float64 to float32


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't:DeprecationWarning")  # Keras'
@pytest.mark.parametrize("name", KERAS)
@pytest.mark.parametrize("depth", (1, 2))
@pytest.mark.parametrize("both", (False, True))
@pytest.mark.parametrize("bias", (True, False))
def test_layers_take_keras_weights(name, depth, both, bias, keras):
    kind, more, make, options = KERAS[name]
    rng, x, references = np.random.default_rng(5), X, []
    result = x
    for _ in range(depth):
        reference = getattr(keras.layers, kind)(
            6, return_sequences=True, return_state=True, use_bias=bias, dtype="float64", **more
        )
        reference = keras.layers.Bidirectional(reference, dtype="float64") if both else reference
        reference(result)  # which builds it
        reference.set_weights([rng.normal(0, 0.5, w.shape) for w in reference.get_weights()])
        result, *ends = (keras.ops.convert_to_numpy(v) for v in reference(result))
        references.append((reference, ends))
    options = options | {"bias": bias, "bidirectional": both, "batch_first": True}
    layer = make(4, 6, depth, **options, dtype="float64")
    layer.load_state_dict(nn.from_keras(*(r.get_weights() for r, _ in references)))
    output, *states = flat(layer(tg.Tensor(x)))
    parts = len(states)  # h and, of an LSTM, c
    wanted = [[e for _, ends in references for e in ends[k::parts]] for k in range(parts)]
    precision = 1e-12 if name in FUSED else 1e-5
    agree([output, *states], [result, *map(np.stack, wanted)], precision)
