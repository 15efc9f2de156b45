"""ModuleList, ModuleDict, Sequential and the summary: as lists and dictionaries, in the tree."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn import nn

MODULES = [nn.Linear(1, 1) for _ in range(5)]
COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda m: pickle.loads(pickle.dumps(m))}


def module(k):
    return MODULES[k]


# ModuleList

STEPS = st.lists(
    st.tuples(
        st.sampled_from(("append", "insert", "pop", "set", "delete", "extend", "slice", "cut")),
        st.integers(-6, 6),
        st.integers(0, 4),
    ),
    max_size=12,
)


def step(items, kind, k, m):
    """One operation on a list, or the error that it raises."""
    try:
        if kind == "append":
            items.append(m)
        elif kind == "insert":
            items.insert(k, m)
        elif kind == "pop":
            return items.pop(k)
        elif kind == "set":
            items[k] = m
        elif kind == "delete":
            del items[k]
        elif kind == "extend":
            items += [m, MODULES[0]]
        elif kind == "slice":
            items[k:] = [m]
        else:
            del items[k:2]
    except IndexError:
        return IndexError


@given(STEPS)
def test_module_list_is_a_list(steps):
    found, expected = nn.ModuleList(MODULES[:2]), MODULES[:2]
    for kind, k, m in steps:
        assert step(found, kind, k, MODULES[m]) is step(expected, kind, k, MODULES[m])
        assert len(found) == len(expected) and list(found) == expected
        assert all(found[i] is v for i, v in enumerate(expected)) and found[1:] == expected[1:]
        names = [f"{i}.weight" for i in range(len(expected))]
        assert [n for n in found.state_dict() if n.endswith("weight")] == names
        assert len(list(found.parameters())) == 2 * len(set(map(id, expected)))


KEYS = st.sampled_from(("a", "b", "items", "training"))


@given(st.lists(st.tuples(KEYS, st.integers(0, 4) | st.none()), max_size=10))
def test_module_dict_is_a_dict(steps):
    found, expected = nn.ModuleDict({"first": MODULES[0]}), {"first": MODULES[0]}
    for key, k in steps:
        if k is None:
            assert found.pop(key, None) is expected.pop(key, None)
        else:
            found[key] = expected[key] = MODULES[k]
        assert list(found.items()) == list(expected.items()) and len(found) == len(expected)
        names = [f"{n}.{p}" for n in expected for p in ("weight", "bias")]
        assert list(found.state_dict()) == names
    assert {found: 1}[found] == 1 and found != nn.ModuleDict(found)
    with pytest.raises(KeyError):
        found["missing"]


def test_what_is_no_module_or_no_key_is_refused_and_nothing_is_changed():
    items, named = nn.ModuleList(MODULES[:2]), nn.ModuleDict({"a": MODULES[0]})
    calls = [
        lambda: items.append(tg.relu),
        lambda: items.insert(0, None),
        lambda: items.__setitem__(0, [1]),
        lambda: items.__setitem__(slice(0, 1), [MODULES[2], 1]),
        lambda: named.update(b=2),
    ]
    for call in calls:
        with pytest.raises(TypeError, match=r"^Module(List|Dict): expected a Module, got .*;"):
            call()
    for key in ("", "a.b", 3):
        with pytest.raises(ValueError, match=r"^ModuleDict: expected keys of text without dots"):
            named[key] = MODULES[0]
    assert list(items) == MODULES[:2] and list(named) == ["a"]


class Model(nn.Module):
    def __init__(self):
        self.layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(2))
        self.heads = nn.ModuleDict({"x": nn.Linear(2, 3), "y": nn.Dropout(0.5)})
        self.body = nn.Sequential(nn.Linear(2, 2), tg.tanh, self.layers[1])

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.heads["y"](self.heads["x"](self.body(x)))


def test_containers_are_part_of_the_tree():
    model = Model()
    pairs = ["layers.0", "layers.1", "heads.x", "body.0"]
    assert [n for n, _ in model.named_parameters()] == [
        f"{n}.{p}" for n in pairs for p in ("weight", "bias")
    ]
    assert not model.eval().heads["y"].training and model.train().heads["y"].training
    model(tg.ones(4, 2)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    model.zero_grad()
    assert all(p.grad is None for p in model.parameters())


def test_lists_may_have_attributes_of_their_own():
    class Stack(nn.ModuleList):
        def __init__(self):
            super().__init__([nn.Linear(1, 1)])
            self.scale = nn.Parameter([1.0])

    assert list(Stack().state_dict()) == ["scale", "0.weight", "0.bias"]


def test_an_item_and_an_attribute_of_one_name_are_not_saved_as_one():
    heads = nn.ModuleDict({"tag": nn.Linear(1, 1)})
    heads.tag = nn.Linear(2, 2)
    for use in (heads.state_dict, lambda: heads.load_state_dict({})):
        with pytest.raises(ValueError, match=r"^state_dict: expected one tag\.weight, got two; re"):
            use()
    del heads.tag
    assert heads.state_dict()["tag.weight"].shape == (1, 1)


@pytest.mark.parametrize("way", COPIES)
def test_copies_keep_what_is_shared(way):
    model = Model()
    other = COPIES[way](model)
    assert other.body[2] is other.layers[1] and other.body[2] is not model.layers[1]
    x = tg.ones(4, 2)
    np.testing.assert_array_equal(other.eval()(x).numpy(), model.eval()(x).numpy())
    assert repr(other) == repr(model)


def test_containers_are_shown_as_a_tree():
    assert repr(nn.ModuleList()) == "ModuleList()"
    assert repr(Model()) == (
        "Model(\n"
        "  (layers): ModuleList(\n"
        "    (0): Linear(in_features=2, out_features=2, bias=True)\n"
        "    (1): Linear(in_features=2, out_features=2, bias=True)\n"
        "  )\n"
        "  (heads): ModuleDict(\n"
        "    (x): Linear(in_features=2, out_features=3, bias=True)\n"
        "    (y): Dropout(p=0.5)\n"
        "  )\n"
        "  (body): Sequential(\n"
        "    (0): Linear(in_features=2, out_features=2, bias=True)\n"
        "    (1): tanh\n"
        "    (2): Linear(in_features=2, out_features=2, bias=True)\n"
        "  )\n"
        ")"
    )


# Sequential


def test_sequential_is_one_after_another():
    first, second = nn.Linear(3, 4), nn.Linear(4, 2)
    model, x = nn.Sequential(first, tg.tanh, second), tg.randn(5, 3)
    np.testing.assert_array_equal(model(x).numpy(), second(tg.tanh(first(x))).numpy())
    assert list(model.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert nn.Sequential()(x) is x
    model.append(lambda y: y * 0.0)
    assert not model(x).numpy().any()


@pytest.mark.parametrize("kind", (nn.Sequential, nn.Dense, nn.Skip))
def test_a_part_of_a_sequence_is_one_and_shares_its_modules(kind):
    model = kind(nn.Linear(2, 2), nn.Linear(4, 2), nn.Linear(6, 2))
    part = model[:2]
    assert type(part) is kind and len(part) == 2 and part[1] is model[1]
    if kind is not nn.Sequential:
        assert part(tg.ones(3, 2)).shape[0] == 3
    assert model[-1] is model[2] and repr(model[3:]) == f"{kind.__name__}()"


def test_sequential_carries_the_state_of_each_recurrent_layer():
    lstm, gru, linear = nn.LSTM(3, 4), nn.GRU(4, 5), nn.Linear(5, 2)
    model, x = nn.Sequential(lstm, tg.tanh, gru, linear), tg.randn(6, 2, 3)
    output, (a, b) = model(x, lengths=[6, 3])
    h, end = lstm(x, None, [6, 3])
    h, last = gru(tg.tanh(h), None, [6, 3])
    for found, expected in [(output, linear(h)), (a[0], end[0]), (a[1], end[1]), (b, last)]:
        np.testing.assert_array_equal(found.numpy(), expected.numpy())
        assert expected.numpy().any()
    again, _ = model(x, [a, b])  # a list does as well
    np.testing.assert_array_equal(
        again.numpy(), linear(gru(tg.tanh(lstm(x, end)[0]), last)[0]).numpy()
    )


def test_sequential_refuses_classes_and_other_things():
    for item in (nn.Linear, 3, None):
        with pytest.raises(TypeError, match=r"^Sequential: expected a Module, got"):
            nn.Sequential(item)


# summary


def test_summary_counts_each_parameter_once():
    model = nn.Sequential(nn.Embedding(1000, 8), nn.LSTM(8, 8), nn.Linear(8, 1000, bias=False))
    model[2].weight = model[0].weight
    model[1].bias_hh_l0.requires_grad = False
    lines = nn.summary(model).splitlines()
    assert lines[0].split() == ["layer", "kind", "parameters", "count"]
    assert [line.split()[:2] for line in lines[1:4]] == [
        ["0", "Embedding"],
        ["1", "LSTM"],
        ["2", "Linear"],
    ]
    assert [line.split()[-1] for line in lines[1:4]] == ["8,000", "576", "0"]
    assert "weight_hh_l0 (32, 8), bias_ih_l0 (32,)" in lines[2]
    assert "weight (1000, 8) tied" in lines[3]
    assert lines[4] == "8,576 parameters, 8,544 of them trained, 34,304 bytes"
    assert len({len(line) for line in lines[:4]}) == 1


def test_summary_of_the_model_itself_and_of_nothing():
    assert nn.summary(nn.Linear(2, 2)).splitlines()[1].split()[0] == "-"
    assert nn.summary(nn.Module()).splitlines()[1] == "0 parameters, 0 of them trained, 0 bytes"
