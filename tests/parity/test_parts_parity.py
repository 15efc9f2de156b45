"""Initialisers, padding, attention and containers are torch's, where torch has them."""

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.nn import init

torch = pytest.importorskip("torch")

from tests.parity.compare import agree, ours, same, theirs  # noqa: E402

pytestmark = pytest.mark.parity

INITIALISERS = {
    "xavier_uniform": ({"gain": 1.5}, {"gain": 1.5}),
    "xavier_normal": ({}, {}),
    "kaiming_uniform": ({}, {"nonlinearity": "relu"}),
    "kaiming_normal": (
        {"gain": 1.0, "mode": "fan_out"},
        {"nonlinearity": "linear", "mode": "fan_out"},
    ),
    "orthogonal": ({"gain": 2.0}, {"gain": 2.0}),
}


@pytest.mark.parametrize("name", INITIALISERS)
@pytest.mark.parametrize("shape", ((150, 80), (80, 150), (40, 20, 9)))
def test_initialisers_have_torchs_distribution(name, shape):
    options, more = INITIALISERS[name]
    torch.manual_seed(0)
    e = getattr(torch.nn.init, name + "_")(torch.empty(shape, dtype=torch.float64), **more).numpy()
    f = getattr(init, name)(*shape, rng=np.random.default_rng(0), dtype="float64", **options)
    f, points = f.numpy(), np.linspace(0.02, 0.98, 25)
    np.testing.assert_allclose(
        np.quantile(f, points), np.quantile(e, points), rtol=0, atol=e.std() * 6 / np.sqrt(e.size)
    )
    assert np.abs(f.var() / e.var() - 1) < 0.06
    if name.endswith("uniform"):
        np.testing.assert_allclose(np.abs(f).max(), np.abs(e).max(), rtol=1e-3)


def test_fixed_initialisers_are_torchs():
    empty = torch.empty(3, 5)
    for found, expected in [
        (init.identity(3, 5), torch.nn.init.eye_(empty.clone())),
        (init.zeros(3, 5), torch.nn.init.zeros_(empty.clone())),
        (init.ones(3, 5), torch.nn.init.ones_(empty.clone())),
        (init.constant(3, 5, value=0.3), torch.nn.init.constant_(empty.clone(), 0.3)),
    ]:
        same(found, expected)


@pytest.mark.parametrize("batch_first", (False, True))
@pytest.mark.parametrize("rest", ((), (3,), (2, 3)))
def test_pad_sequence_is_torchs(batch_first, rest):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((n, *rest)) for n in (4, 1, 3)]
    agree(
        lambda *items: tg.nn.pad_sequence(items, batch_first, 0.5),
        lambda *items: torch.nn.utils.rnn.pad_sequence(items, batch_first, 0.5),
        arrays,
    )


@pytest.mark.parametrize("dtype", ("float64", "float32"))
@pytest.mark.parametrize("masked", (False, True))
@pytest.mark.parametrize("scale", (1.0, 0.5))
def test_dot_attention_is_torchs(dtype, masked, scale):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((2, n, d)).astype(dtype) for n, d in ((3, 4), (5, 4), (5, 6))]
    mask = rng.random((2, 3, 5)) < 0.6 if masked else None
    if masked:
        mask[..., 0] = True  # torch gives NaN where nothing may be seen
    layer = tg.nn.DotAttention(scale=scale, batch_first=True)
    reference = torch.nn.functional.scaled_dot_product_attention
    agree(
        lambda q, k, v: layer(q, k, v, mask=mask),
        lambda q, k, v: reference(
            q, k, v, attn_mask=None if mask is None else torch.from_numpy(mask), scale=scale
        ),
        arrays,
    )


def test_containers_have_torchs_names_and_load_its_weights():
    def build(nn, tanh, kinds):
        body = nn.Sequential(nn.Linear(3, 4), tanh, nn.Linear(4, 3))
        heads = nn.ModuleDict({"a": nn.Linear(3, 2), "b": nn.Linear(3, 1)})
        return nn.ModuleList([body, heads, *kinds])

    found = build(tg.nn, tg.tanh, [tg.nn.LSTM(3, 4)])
    expected = build(torch.nn, torch.nn.Tanh(), [torch.nn.LSTM(3, 4)])
    assert list(found.state_dict()) == list(expected.state_dict())
    found.load_state_dict(expected.state_dict())
    x = np.random.default_rng(0).standard_normal((5, 3)).astype("float32")
    same(found[1]["a"](found[0](ours(x))), expected[1]["a"](expected[0](theirs(x))))


def test_buffers_are_in_torchs_state():
    def build(Module, array):
        module = Module()
        module.register_buffer("kept", array)
        module.register_buffer("left", array + 1, persistent=False)
        return module

    found = build(tg.nn.Module, np.arange(3.0))
    expected = build(torch.nn.Module, torch.arange(3.0, dtype=torch.float64))
    assert list(found.state_dict()) == list(expected.state_dict()) == ["kept"]
    assert [n for n, _ in found.named_buffers()] == [n for n, _ in expected.named_buffers()]
