"""Layers and losses are torch's: torch's weights load as they are."""

import numpy as np
import pytest

import tinygrad_rnn as tg

torch = pytest.importorskip("torch")

from tests.parity.compare import F32, F64, agree, gradients, ours, same, theirs, weights  # noqa: E402

pytestmark = pytest.mark.parity

SEQUENCES = {  # ours and torch's, how many states, and more options of both
    "RNN": (tg.nn.RNN, torch.nn.RNN, 1, {}),
    "RNN relu": (tg.nn.RNN, torch.nn.RNN, 1, {"nonlinearity": "relu"}),
    "LSTM": (tg.nn.LSTM, torch.nn.LSTM, 2, {}),
    "GRU": (tg.nn.GRU, torch.nn.GRU, 1, {}),
}
CELLS = {
    "RNN": (tg.nn.RNNCell, torch.nn.RNNCell),
    "RNN relu": (tg.nn.RNNCell, torch.nn.RNNCell),
    "LSTM": (tg.nn.LSTMCell, torch.nn.LSTMCell),
    "GRU": (tg.nn.GRUCell, torch.nn.GRUCell),
}


def configurations(count=40):
    """Sizes (I, H, L), steps, batch (None for a sequence without that axis), whether initial states
    are given, and options."""
    rng = np.random.default_rng(0)
    corners = [
        ((1, 1, 1), 1, 1, True),
        ((1, 1, 3), 1, 1, False),
        ((5, 1, 2), 30, 1, True),
        ((1, 32, 1), 3, 7, True),
        ((64, 2, 3), 2, 2, False),
        ((3, 5, 2), 60, 3, True),
    ]
    drawn = [(*corner, {}) for corner in corners]
    for k in range(count - len(corners)):
        sizes = (int(rng.integers(1, 20)), int(rng.integers(1, 20)), k % 3 + 1)
        batch = None if k % 7 == 6 else int(rng.integers(1, 6))
        flags = dict(
            zip(("bias", "batch_first", "bidirectional"), rng.random(3) < 0.5, strict=True)
        )
        options = {n: bool(v) for n, v in flags.items()}
        drawn.append((sizes, int(rng.integers(1, 12)), batch, k % 4 != 0, options))
    return drawn


def both(name, sizes, dtype, seed, **options):
    """Our layer and torch's with the same weights."""
    make, reference, _, more = SEQUENCES[name]
    return loaded(make, reference, sizes, dtype, seed, **more, **options)


def loaded(make, reference, sizes, dtype, seed, **options):
    rng = np.random.default_rng(seed)
    theirs = reference(*sizes, **options, dtype=getattr(torch, dtype))
    state = {
        n: torch.tensor(rng.normal(0, 0.5, tuple(p.shape)).astype(dtype))
        for n, p in theirs.state_dict().items()
    }
    theirs.load_state_dict(state)
    layer = make(*sizes, **options, dtype=dtype)
    layer.load_state_dict(theirs.state_dict())
    return layer, theirs, rng


def flat(output, state):
    return [output, *(state if isinstance(state, tuple) else (state,))]


def packed(state):
    return tuple(state) if len(state) > 1 else state[0] if state else None


@pytest.mark.parametrize("dtype", ("float64", "float32"))
@pytest.mark.parametrize("k", range(40))
@pytest.mark.parametrize("name", SEQUENCES)
def test_sequence_layer_has_torchs_outputs_states_and_gradients(name, k, dtype):
    sizes, steps, batch, given, options = configurations()[k]
    layer, reference, rng = both(name, sizes, dtype, k, **options)
    tolerance = F64 if dtype == "float64" else F32
    lead = (steps, batch)[:: -1 if options.get("batch_first") else 1] if batch else (steps,)
    x = rng.standard_normal((*lead, sizes[0])).astype(dtype)
    rows = sizes[2] * (1 + options.get("bidirectional", False))
    shape = (rows, batch, sizes[1]) if batch else (rows, sizes[1])
    count = SEQUENCES[name][2] if given else 0
    arrays = [x, *(rng.standard_normal(shape).astype(dtype) for _ in range(count))]
    xs, ts = list(map(ours, arrays)), list(map(theirs, arrays))
    found = flat(*layer(xs[0], packed(xs[1:])))
    expected = flat(*reference(ts[0], packed(ts[1:])))
    for f, e in zip(found, expected, strict=True):
        scale = max(1.0, np.abs(e.detach().numpy()).max())  # a relu's may be large
        same(f.numpy() / scale, e.detach().numpy() / scale, **tolerance)
    names = [n for n, _ in layer.named_parameters()]
    assert names == [n for n, _ in reference.named_parameters()]
    gs = weights(rng, found)
    ds = gradients(found, [*xs, *layer.parameters()], gs)
    es = gradients(expected, [*ts, *reference.parameters()], gs)
    for d, e in zip(ds, es, strict=True):
        scale = max(1.0, np.abs(e).max())
        same(d / scale, e / scale, **tolerance)
        assert e.any() or name == "RNN relu" or not (given or steps > 1)


@pytest.mark.parametrize("k", range(40))
def test_projected_layer_is_torchs(k):
    (i, h, layers), steps, batch, given, options = configurations()[k]
    h, options = h + 1, options | {"proj_size": k % h + 1}
    layer, reference, rng = loaded(
        tg.nn.LSTM, torch.nn.LSTM, (i, h, layers), "float64", k, **options
    )
    lead = (steps, batch)[:: -1 if options.get("batch_first") else 1] if batch else (steps,)
    rows = (layers * (1 + options.get("bidirectional", False)), *((batch,) if batch else ()))
    arrays = [rng.standard_normal((*lead, i))]
    if given:
        arrays += [rng.standard_normal((*rows, n)) for n in (options["proj_size"], h)]
    xs, ts = list(map(ours, arrays)), list(map(theirs, arrays))
    found = flat(*layer(xs[0], packed(xs[1:])))
    expected = flat(*reference(ts[0], packed(ts[1:])))
    for f, e in zip(found, expected, strict=True):
        same(f.numpy(), e.detach().numpy(), **F64)
    names = [n for n, _ in layer.named_parameters()]
    parameters = dict(reference.named_parameters())
    assert set(names) == set(parameters)
    gs = weights(rng, found)
    ds = gradients(found, [*xs, *layer.parameters()], gs)
    es = gradients(expected, [*ts, *(parameters[n] for n in names)], gs)
    for d, e in zip(ds, es, strict=True):
        same(d, e, **F64)


@pytest.mark.parametrize("name", SEQUENCES)
@pytest.mark.parametrize("layers", (1, 2))
@pytest.mark.parametrize("bidirectional", (False, True))
@pytest.mark.parametrize("batch_first", (False, True))
def test_lengths_are_torchs_packed_sequences(name, layers, bidirectional, batch_first):
    options = {"bidirectional": bidirectional, "batch_first": batch_first}
    layer, reference, rng = both(name, (3, 4, layers), "float64", 1, **options)
    steps, batch = 6, 5
    lengths = rng.integers(1, steps + 1, batch)  # torch refuses 0
    lengths[2] = steps
    shape, order = (layers * (1 + bidirectional), batch, 4), -1 if batch_first else 1
    arrays = [rng.standard_normal((*(steps, batch)[::order], 3))]
    arrays += [rng.standard_normal(shape) for _ in range(SEQUENCES[name][2])]
    xs, ts = list(map(ours, arrays)), list(map(theirs, arrays))
    found = flat(*layer(xs[0], packed(xs[1:]), lengths))
    options = {"batch_first": batch_first, "enforce_sorted": False}
    pack = torch.nn.utils.rnn.pack_padded_sequence(ts[0], torch.from_numpy(lengths), **options)
    output, state = reference(pack, packed(ts[1:]))
    output, _ = torch.nn.utils.rnn.pad_packed_sequence(output, batch_first=batch_first)
    expected = flat(output, state)
    for f, e in zip(found, expected, strict=True):
        same(f, e)
    gs = weights(rng, found)
    ds = gradients(found, [*xs, *layer.parameters()], gs)
    es = gradients(expected, [*ts, *reference.parameters()], gs)
    for d, e in zip(ds, es, strict=True):
        same(d, e)
        assert e.any()


@pytest.mark.parametrize("name", SEQUENCES)
@pytest.mark.parametrize("options", ({}, {"bidirectional": True, "bias": False}))
def test_state_dicts_go_both_ways(name, options):
    layer, reference, _ = both(name, (3, 5, 2), "float32", 0, **options)
    assert list(layer.state_dict()) == list(reference.state_dict())
    for p, q in zip(layer.state_dict().values(), reference.state_dict().values(), strict=True):
        np.testing.assert_array_equal(p, q.numpy(), strict=True)
    fresh = SEQUENCES[name][0](3, 5, 2, **options)
    reference.load_state_dict({n: torch.from_numpy(a) for n, a in fresh.state_dict().items()})
    for p, q in zip(fresh.parameters(), reference.parameters(), strict=True):
        np.testing.assert_array_equal(p.numpy(), q.detach().numpy(), strict=True)


@pytest.mark.parametrize("name", SEQUENCES)
@pytest.mark.parametrize("layers", (1, 2))
def test_sequence_layer_has_torchs_second_derivatives(name, layers):
    options = {"bidirectional": layers == 2}
    layer, reference, rng = both(name, (3, 4, layers), "float64", 5, **options)
    x = rng.standard_normal((4, 2, 3))

    def penalty(layer, x, slope):
        (d,) = slope((layer(x)[0] ** 2).sum(), x, create_graph=True)
        return (d**2).sum()

    a, b = ours(x), theirs(x)
    found, expected = penalty(layer, a, tg.grad), penalty(reference, b, torch.autograd.grad)
    same(found, expected)
    leaves = [b, *reference.parameters()]
    wanted = torch.autograd.grad(expected, leaves, allow_unused=True, materialize_grads=True)
    given = tg.grad(found, [a, *layer.parameters()], allow_unused=True)
    for d, e, leaf in zip(given, wanted, leaves, strict=True):
        same(np.zeros(leaf.shape) if d is None else d, e, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("bias", (True, False))
@pytest.mark.parametrize("batch", (None, 1, 3))
@pytest.mark.parametrize("given", (True, False))
def test_one_step_is_torchs(name, bias, batch, given):
    *makes, (_, _, count, more) = *CELLS[name], SEQUENCES[name]
    layer, reference, rng = loaded(*makes, (3, 4), "float64", 2, bias=bias, **more)
    lead = (batch,) if batch else ()
    arrays = [rng.standard_normal((*lead, n)) for n in (3, *[4] * count * given)]
    xs, ts = list(map(ours, arrays)), list(map(theirs, arrays))
    found, expected = (f(v[0], packed(v[1:])) for f, v in ((layer, xs), (reference, ts)))
    found, expected = (v if isinstance(v, tuple) else (v,) for v in (found, expected))
    for f, e in zip(found, expected, strict=True):
        same(f, e)
    assert [n for n, _ in layer.named_parameters()] == list(reference.state_dict())
    gs = weights(rng, found)
    ds = gradients(found, [*xs, *layer.parameters()], gs)
    es = gradients(expected, [*ts, *reference.parameters()], gs)
    for d, e in zip(ds, es, strict=True):
        same(d, e)


def test_layers_are_shown_as_torch_shows_them():
    for name, options in [
        ("LSTM", {}),
        ("GRU", {"num_layers": 2, "bias": False, "batch_first": True, "dropout": 0.5}),
        ("RNN", {"bidirectional": True}),
        ("LSTMCell", {}),
        ("GRUCell", {"bias": False}),
        ("Linear", {}),
        ("Embedding", {}),
    ]:
        ours, theirs = (getattr(v, name)(3, 5, **options) for v in (tg.nn, torch.nn))
        assert repr(ours) == repr(theirs)


def test_dropout_is_torchs_in_distribution():
    ours = tg.nn.dropout(tg.ones(10**5), 0.3, rng=np.random.default_rng(0)).numpy()
    theirs = torch.nn.functional.dropout(torch.ones(10**5), 0.3).numpy()
    np.testing.assert_array_equal(np.unique(ours), np.unique(theirs))
    assert abs((ours == 0).mean() - (theirs == 0).mean()) < 0.01


def test_linear_layer_is_torchs():
    reference = torch.nn.Linear(3, 5, dtype=torch.float64)
    layer = tg.nn.Linear(3, 5, dtype="float64")
    layer.load_state_dict({n: p.numpy() for n, p in reference.state_dict().items()})
    x, rng = np.random.default_rng(0).standard_normal((4, 2, 3)), np.random.default_rng(1)
    found, expected = layer(ours(x)), reference(theirs(x))
    same(found, expected)
    gs = weights(rng, [found])
    ds = gradients([found], list(layer.parameters()), gs)
    es = gradients([expected], list(reference.parameters()), gs)
    for d, e in zip(ds, es, strict=True):
        same(d, e)


@pytest.mark.parametrize("dtype", ("float64", "float32"))
def test_embedding_layer_is_torchs(dtype):
    reference = torch.nn.Embedding(7, 3, dtype=getattr(torch, dtype))
    layer = tg.nn.Embedding(7, 3, dtype=dtype)
    layer.load_state_dict(reference.state_dict())
    ids = np.random.default_rng(0).integers(0, 6, (5, 4))
    found, expected = layer(ids), reference(torch.from_numpy(ids))
    same(found, expected)
    gs = weights(np.random.default_rng(1), [found])
    (d,) = gradients([found], [layer.weight], gs)
    (e,) = gradients([expected], [reference.weight], gs)
    same(d, e)
    assert not e[6].any() and e[:6].any()


@pytest.mark.parametrize("layer", ("Linear", "Embedding", "LSTM", "GRU", "RNN", "GRUCell"))
def test_weights_are_drawn_from_torchs_distribution(layer):
    torch.manual_seed(0)
    reference = getattr(torch.nn, layer)(100, 150)
    own = getattr(tg.nn, layer)(100, 150, rng=np.random.default_rng(0))
    for (n, p), (m, q) in zip(own.named_parameters(), reference.named_parameters(), strict=True):
        assert n == m
        a, b = p.numpy(), q.detach().numpy()
        assert a.shape == b.shape and a.dtype == b.dtype
        points = np.linspace(0.02, 0.98, 25)
        spread = b.std() * 6 / np.sqrt(min(a.size, 10_000))
        np.testing.assert_allclose(
            np.quantile(a, points), np.quantile(b, points), rtol=0, atol=spread
        )


# cross_entropy


@pytest.mark.parametrize("reduction", ("mean", "sum", "none"))
@pytest.mark.parametrize("ignore_index", (-100, 1))
@pytest.mark.parametrize("scale", (1.0, 100.0, 1e4))
def test_cross_entropy_is_torchs(reduction, ignore_index, scale):
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 4, 12)
    targets[::5] = ignore_index

    def loss(logits):
        return tg.nn.cross_entropy(logits, targets, ignore_index, reduction)

    def reference(logits):
        return torch.nn.functional.cross_entropy(
            logits, torch.from_numpy(targets), ignore_index=ignore_index, reduction=reduction
        )

    agree(loss, reference, [scale * rng.standard_normal((12, 4))])
    agree(loss, reference, [(scale * rng.standard_normal((12, 4))).astype("float32")])


def test_cross_entropy_of_sequences_is_torchs_with_the_classes_moved():
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 5, (6, 3))
    agree(
        lambda logits: tg.nn.cross_entropy(logits, targets),
        lambda logits: torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), torch.from_numpy(targets).flatten()
        ),
        [rng.standard_normal((6, 3, 5))],
    )


def test_cross_entropy_with_all_places_left_out_is_torchs():
    targets = np.full(3, -100)
    with np.errstate(invalid="ignore"):
        agree(
            lambda logits: tg.nn.cross_entropy(logits, targets),
            lambda logits: torch.nn.functional.cross_entropy(logits, torch.from_numpy(targets)),
            [np.random.default_rng(0).standard_normal((3, 5))],
        )
