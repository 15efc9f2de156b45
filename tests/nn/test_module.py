"""Module: names, ties, state, modes and copies."""

import copy
import math
import pickle
import re

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.nn import Embedding, Linear, Module, Parameter
from tinygrad_rnn.saving import load, save


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


@pytest.mark.parametrize("way", (copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))))
def test_a_module_may_refer_to_one_above(way):
    model = Model()
    names, shown = [n for n, _ in model.named_parameters()], repr(model)
    model.first.owner = model.first.inner.owner = model  # one step up, and two
    model.output.owner = model.output
    for found in (model, way(model)):
        assert [n for n, _ in found.named_parameters()] == names
        assert found.first.owner is found and list(found.state_dict()) == list(model.state_dict())
        found.load_state_dict(model.state_dict())
        assert not found.eval().first.training
        assert repr(found).replace("\n", "").count("(first)") == shown.count("(first)") == 1


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
    "names of other kinds": (lambda s: s.update({7: 0, "z": 0}), r"unexpected \[7, 'z'\], wrong"),
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


@pytest.mark.parametrize("state", (None, 3, "bias", [("bias", np.ones(5))]))
def test_what_is_no_state_is_refused_and_nothing_is_changed(state):
    model = Model()
    before = model.state_dict()
    with pytest.raises(ValueError, match=r"^load_state_dict: expected arrays by their names, got"):
        model.load_state_dict(state)
    arrays_equal(model.state_dict(), before)


def untied(model):
    state = model.state_dict()
    state["output.weight"] = state["output.weight"] + 1
    return state


def test_tied_arrays_that_differ_are_refused_and_nothing_is_changed():
    model = Model()
    before = model.state_dict()
    message = r"wrong \['output\.weight: expected what embedding\.weight holds, to which it is tied"
    with pytest.raises(ValueError, match=message):
        model.load_state_dict(untied(Model()))
    arrays_equal(model.state_dict(), before)


@pytest.mark.parametrize("dropped", ("embedding.weight", "output.weight"))
def test_one_name_of_a_tied_parameter_is_enough(dropped):
    model, other = Model(), Model()
    state = model.state_dict()
    del state[dropped]
    other.load_state_dict(state)
    arrays_equal(other.state_dict(), model.state_dict())
    assert tied(other)
    del state["output.weight" if dropped == "embedding.weight" else "embedding.weight"]
    message = r"missing \['embedding\.weight', 'output\.weight'\]"
    with pytest.raises(ValueError, match=message):
        other.load_state_dict(state)


def test_a_nan_does_not_untie():
    model = Model()
    state = model.state_dict()
    for name in ("embedding.weight", "output.weight"):
        state[name][0, 0] = math.nan
    model.load_state_dict(state)
    assert math.isnan(model.output.weight.numpy()[0, 0])


def test_a_part_is_loaded_by_completing_it():
    model = Model()
    before = model.state_dict()
    model.load_state_dict(before | {"bias": np.ones(5)})
    arrays_equal(model.state_dict(), before | {"bias": np.ones(5)})


def test_checkpoints_keep_ties(tmp_path):
    pytest.importorskip("safetensors")
    model, other = Model(), Model()
    save(tmp_path / "model.safetensors", model.state_dict(), {"step": 3})
    arrays, state = load(tmp_path / "model.safetensors")
    other.load_state_dict(arrays)
    arrays_equal(other.state_dict(), model.state_dict())
    assert tied(other) and state == {"step": 3}
    (other(IDS) ** 2).sum().backward()
    assert sum(p is other.output.weight for p in other.parameters()) == 1


# Buffers


class Counting(Module):
    """A buffer that is saved, and one that is not."""

    def __init__(self):
        self.register_buffer("mean", np.zeros(3))
        self.weight = Parameter(np.ones(3))
        self.register_buffer("calls", 0, persistent=False)
        self.inner = Module()
        self.inner.register_buffer("table", tg.eye(2))

    def __call__(self, x):
        self.mean = 0.5 * self.mean + 0.5 * x.detach()
        self.calls = self.calls + 1
        return x * self.weight - self.mean


def test_buffers_are_state_and_no_parameters():
    model = Counting()
    assert list(model.state_dict()) == ["mean", "weight", "inner.table"]
    assert [n for n, _ in model.named_parameters()] == ["weight"]
    assert [n for n, _ in model.named_buffers()] == ["mean", "calls", "inner.table"]
    assert all(type(b) is tg.Tensor and not b.requires_grad for _, b in model.named_buffers())


def test_buffers_change_by_assignment_and_are_saved_as_they_are():
    model, other = Counting(), Counting()
    model(tg.ones(3, dtype="float64"))
    np.testing.assert_array_equal(model.state_dict()["mean"], [0.5] * 3)
    before = other.mean
    other.load_state_dict(model.state_dict())
    arrays_equal(other.state_dict(), model.state_dict())
    assert other.mean is not before and not before.numpy().any() and other.calls.item() == 0
    again = copy.deepcopy(model)
    again(tg.ones(3, dtype="float64"))
    assert again.calls.item() == 2 and model.calls.item() == 1
    assert model.mean.numpy()[0] == 0.5 and list(again.state_dict()) == list(model.state_dict())


def test_buffers_are_copies_and_another_module_has_none():
    array = np.zeros(2)
    module = Module()
    module.register_buffer("mask", array)
    array += 1
    assert not module.mask.numpy().any() and Module().state_dict() == {}
    module.register_buffer("mask", [True])  # anew
    assert module.state_dict()["mask"].dtype == bool
    state = module.state_dict()
    state["mask"][...] = False
    assert module.mask.item()


@pytest.mark.parametrize("value", (2.0, np.float32(2.0), np.full((), 2.0, np.float32)))
def test_buffers_may_be_assigned_numbers_and_arrays(value):
    module, other = Module(), Module()
    for m in (module, other):
        m.register_buffer("scale", 1.0)
    module.scale = other.scale = value
    arrays_equal(module.state_dict(), {"scale": np.array(2.0, np.float32)})
    other.load_state_dict({"scale": 3.0})
    assert other.scale.item() == 3.0 and float(module.scale) == 2.0


def test_wrong_buffers_are_refused_and_nothing_is_changed():
    model = Counting()
    state = model.state_dict() | {"weight": np.zeros(3), "inner.table": np.zeros(2)}
    message = r"wrong \['inner\.table: expected \(2, 2\) float32, got \(2,\) float64'\]"
    with pytest.raises(ValueError, match=message):
        model.load_state_dict(state)
    assert model.weight.numpy().all()
    with pytest.raises(ValueError, match=r"missing \['mean'\], unexpected \['calls'\]"):
        model.load_state_dict({"calls": 0, "weight": np.ones(3), "inner.table": np.eye(2)})


@pytest.mark.parametrize("name", ("weight", "training", "state_dict", "a.b", ""))
def test_names_of_buffers_are_new_attributes(name):
    model = Counting()
    message = rf"^register_buffer: expected a new attribute's name, got '{name}';"
    with pytest.raises(ValueError, match=message):
        model.register_buffer(name, 0)
    assert model.weight.requires_grad and callable(model.state_dict)


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


def test_modules_are_named_and_come_once():
    model = Model()
    model.again = model.first
    named = dict(model.named_modules())
    assert list(named) == ["", "first", "first.inner", "embedding", "output"]
    assert named[""] is model and named["first.inner"] is model.first.inner


def test_apply_reaches_every_module_those_below_first():
    model, order = Model(), []
    assert model.apply(order.append) is model
    assert order[-1] is model and order.index(model.first.inner) < order.index(model.first)
    assert len(order) == 5
    model.apply(lambda m: setattr(m, "bias", None) if type(m) is Linear else None)
    assert "first.inner.bias" not in model.state_dict()


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
