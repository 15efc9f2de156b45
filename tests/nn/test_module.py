"""Module: names, ties, state, modes and copies."""

import copy
import math
import pickle
import re

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.nn import Embedding, Linear, Module, Parameter


class Block(Module):
    def __init__(self, width):
        self.scale = Parameter(np.full(width, 2.0))
        self.inner = Linear(width, width, dtype="float64")
        self.name = "block"
        self.shift = Parameter(np.zeros(width))


class Model(Module):
    """Embedding and output share one matrix."""

    def __init__(self):
        self.first = Block(3)
        self.embedding = Embedding(5, 3, dtype="float64")
        self.bias = Parameter(np.zeros(5))
        self.output = Linear(3, 5, bias=False, dtype="float64")
        self.output.weight = self.embedding.weight
        self.plain = tg.zeros(2)  # no parameter

    def __call__(self, ids):
        x = self.first.inner(self.embedding(ids) * self.first.scale) + self.first.shift
        return self.output(x) + self.bias


NAMES = [
    "first.scale",
    "first.inner.weight",
    "first.inner.bias",
    "first.shift",
    "embedding.weight",
    "bias",
]
TIED = [*NAMES, "output.weight"]
IDS = np.array([[0, 4, 4], [2, 1, 0]])


def arrays_equal(found, expected):
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], strict=True, err_msg=name)


def tied(model):
    return model.output.weight is model.embedding.weight


# Parameters


def test_names_are_dotted_and_in_the_order_of_assignment():
    assert [n for n, _ in Model().named_parameters()] == NAMES


def test_tied_parameters_come_once_and_in_the_state_under_each_name():
    model = Model()
    parameters = list(model.parameters())
    assert len({id(p) for p in parameters}) == len(parameters) == len(NAMES)
    assert sum(p is model.embedding.weight for p in parameters) == 1
    assert list(model.state_dict()) == ["first.scale", *NAMES[1:], "output.weight"]


def test_names_and_parameters_agree():
    model = Model()
    for (_, named), p in zip(model.named_parameters(), model.parameters(), strict=True):
        assert named is p


def test_plain_tensors_are_no_parameters_and_deleted_ones_are_gone():
    model = Model()
    del model.bias, model.first.inner
    names = [n for n, _ in model.named_parameters()]
    assert names == ["first.scale", "first.shift", "embedding.weight"]


def test_module_without_parameters_is_empty():
    module = Module()
    assert list(module.parameters()) == [] and module.state_dict() == {}
    module.load_state_dict({})
    module.zero_grad()


def test_module_twice_in_the_tree_gives_its_parameters_once():
    model = Module()
    model.a = model.b = Linear(2, 2)
    assert [n for n, _ in model.named_parameters()] == ["a.weight", "a.bias"]


def test_parameters_require_gradients_unless_frozen():
    assert (
        Parameter([1.0]).requires_grad and not Parameter([1.0], requires_grad=False).requires_grad
    )
    with pytest.raises(TypeError, match="requires_grad: expected a floating-point tensor"):
        Parameter([1, 2])


# State


def test_state_is_a_copy():
    model = Model()
    state = model.state_dict()
    for a in state.values():
        a += 1
    for name, p in model.named_parameters():
        np.testing.assert_array_equal(p.numpy() + 1, state[name])


def test_state_round_trip_is_exact():
    model, other = Model(), Model()
    other.load_state_dict(model.state_dict())
    arrays_equal(other.state_dict(), model.state_dict())
    np.testing.assert_array_equal(other(IDS).numpy(), model(IDS).numpy())
    assert tied(other)


def test_loading_copies_and_keeps_the_parameters_themselves():
    model = Model()
    before, state = list(model.parameters()), Model().state_dict()
    model.load_state_dict(state)
    for a in state.values():
        a[...] = math.nan
    assert all(p is q for p, q in zip(before, model.parameters(), strict=True))
    assert not any(np.isnan(p.numpy()).any() for p in model.parameters())


def test_loading_converts_to_the_parameters_dtype():
    layer = Linear(2, 2)
    layer.load_state_dict({"weight": [[1, 2], [3, 4]], "bias": np.array([0.1, 0.2])})
    assert layer.weight.dtype == layer.bias.dtype == np.float32
    np.testing.assert_array_equal(layer.weight.numpy(), [[1, 2], [3, 4]])
    np.testing.assert_array_equal(layer.bias.numpy(), np.float32([0.1, 0.2]))


WRONG = {
    "missing": (lambda s: s.pop("bias"), r"missing \['bias'\], unexpected \[\], wrong \[\]"),
    "unexpected": (lambda s: s.update(extra=np.zeros(1)), r"unexpected \['extra'\]"),
    "shape": (
        lambda s: s.update(bias=np.zeros(6)),
        r"wrong \['bias: expected \(5,\) float64, got \(6,\) float64'\]",
    ),
    "a shape that would broadcast": (lambda s: s.update(bias=np.zeros(1)), r"got \(1,\)"),
    "complex": (lambda s: s.update(bias=np.zeros(5, complex)), r"got \(5,\) complex128"),
    "text": (lambda s: s.update(bias=np.array(["a"] * 5)), r"got \(5,\) <U1"),
    "several": (
        lambda s: (s.pop("bias"), s.update({"b": np.zeros(1), "first.shift": np.zeros(4)})),
        r"missing \['bias'\], unexpected \['b'\], wrong \['first.shift: expected \(3,\)",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_state_is_refused_and_nothing_is_changed(case):
    spoil, message = WRONG[case]
    model = Model()
    before, state = model.state_dict(), Model().state_dict()
    spoil(state)
    message = f"^load_state_dict: expected the parameters of Model, got .*{message}"
    with pytest.raises(ValueError, match=message):
        model.load_state_dict(state)
    arrays_equal(model.state_dict(), before)


def test_loading_between_forward_and_backward_is_noticed():
    layer = Linear(2, 2)
    loss = layer(tg.ones(1, 2, requires_grad=True)).sum()
    layer.load_state_dict(layer.state_dict())
    with pytest.raises(RuntimeError, match=r"^backward: an array that 'linear' saved was changed"):
        loss.backward()


# Modes and gradients


def test_modes_reach_every_module_below():
    model = Model()
    modules = (model, model.first, model.first.inner, model.embedding, model.output)
    assert all(m.training for m in modules)
    assert model.eval() is model and not any(m.training for m in modules)
    assert model.train() is model and all(m.training for m in modules)
    model.first.eval()
    assert [m.training for m in modules] == [True, False, False, True, True]
    assert Model().training


def test_zero_grad_forgets_every_gradient():
    model = Model()
    model(IDS).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    model.zero_grad()
    assert all(p.grad is None for p in model.parameters())


def test_zero_grad_passes_over_frozen_parameters():
    layer = Linear(2, 2)
    layer.weight.requires_grad = False
    layer(tg.ones(1, 2)).sum().backward()
    layer.zero_grad()
    assert layer.bias.grad is None


def test_tied_parameter_gets_the_gradient_of_both_uses():
    model, loose = Model(), Model()
    loose.output.weight = Parameter(np.zeros((5, 3)))
    loose.load_state_dict(model.state_dict())
    for m in (model, loose):
        (m(IDS) ** 2).sum().backward()
    both = loose.embedding.weight.grad.numpy() + loose.output.weight.grad.numpy()
    np.testing.assert_allclose(model.embedding.weight.grad.numpy(), both, rtol=1e-13)


# Copies

COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda m: pickle.loads(pickle.dumps(m))}


@pytest.mark.parametrize("way", COPIES)
def test_copies_keep_ties_values_gradients_and_modes(way):
    model = Model()
    (model(IDS) ** 2).sum().backward()
    model.first.eval()
    model.bias.requires_grad = False
    other = COPIES[way](model)
    assert tied(other) and type(other) is Model and type(other.bias) is Parameter
    arrays_equal(other.state_dict(), model.state_dict())
    assert [n for n, _ in other.named_parameters()] == NAMES
    assert other.training and not other.first.inner.training
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        assert p is not q and p.requires_grad == q.requires_grad
        if p.requires_grad:
            np.testing.assert_array_equal(p.grad.numpy(), q.grad.numpy(), strict=True)


@pytest.mark.parametrize("way", COPIES)
def test_copies_are_independent(way):
    model = Model()
    before = model.state_dict()
    other = COPIES[way](model)
    assert not any(
        np.shares_memory(p.numpy(), q.numpy())
        for p in model.parameters()
        for q in other.parameters()
    )
    (other(IDS) ** 2).sum().backward()
    tg.optim.SGD(other.parameters(), lr=1.0).step()
    arrays_equal(model.state_dict(), before)
    assert all(p.grad is None for p in model.parameters())
    assert (other.embedding.weight.numpy() != before["embedding.weight"]).any() and tied(other)


def test_every_parameter_of_a_used_model_gets_a_gradient():
    model = Model()
    (model(IDS) ** 2).sum().backward()
    for name, p in model.named_parameters():
        assert p.grad is not None and p.grad.numpy().any(), name
    assert not any(re.search("plain|name", n) for n in model.state_dict())


# print


def test_modules_are_shown_as_a_tree():
    assert repr(Module()) == "Module()"
    model = Module()
    model.block, model.number = Block(2), 3
    model.block.extra_repr = lambda: "width=2"
    assert repr(model) == (
        "Module(\n"
        "  (block): Block(\n"
        "    width=2\n"
        "    (inner): Linear(in_features=2, out_features=2, bias=True)\n"
        "  )\n"
        ")"
    )
