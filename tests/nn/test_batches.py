"""Padding, masks, batches by length, states and truncated backpropagation through time."""

import itertools
import json
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.testing import gradcheck

SEEDS = st.integers(0, 2**32 - 1)

# pad_sequence and sequence_mask


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=5),
    st.sampled_from(((), (2,), (0,), (2, 3))),
    st.sampled_from(("int64", "float32", "bool")),
    st.booleans(),
    st.booleans(),
    SEEDS,
)
def test_padding_keeps_every_item_and_fills_the_rest(
    lengths, rest, dtype, batch_first, tensors, seed
):
    rng = np.random.default_rng(seed)
    items = [rng.integers(0, 9, (n, *rest)).astype(dtype) for n in lengths]
    given_items = [tg.Tensor(a) for a in items] if tensors else items
    padded = nn.pad_sequence(given_items, batch_first, padding_value=1)
    assert isinstance(padded, tg.Tensor if tensors else np.ndarray)
    padded = np.asarray(padded)
    assert padded.dtype == np.dtype(dtype)
    rows = padded if batch_first else np.swapaxes(padded, 0, 1)
    assert rows.shape == (len(items), max(lengths), *rest)
    for row, item in zip(rows, items, strict=True):
        np.testing.assert_array_equal(row[: len(item)], item)
        assert (row[len(item) :] == 1).all()
    mask = nn.sequence_mask(lengths, max(lengths))
    assert mask.shape == (max(lengths), len(items)) and mask.sum(0).tolist() == lengths


def test_padding_has_gradients_and_takes_lists():
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((n, 2)) for n in (3, 1, 0)]
    gradcheck(lambda *items: nn.pad_sequence(items), arrays, rng=0)
    assert nn.pad_sequence([[1, 2], [3]], True, -1).tolist() == [[1, 2], [3, -1]]


@pytest.mark.parametrize("items", ([], [np.zeros((2, 3)), np.zeros((2, 4))], [np.float64(1.0)]))
def test_sequences_that_do_not_fit_are_refused(items):
    with pytest.raises(ValueError, match=r"^pad_sequence: expected sequences \(T_b, \.\.\.\) of"):
        nn.pad_sequence(items)


@pytest.mark.parametrize("lengths", ([4], [-1], [1.0], 2, [[1]], [True]))
def test_lengths_that_do_not_fit_are_refused(lengths):
    with pytest.raises(ValueError, match=r"^sequence_mask: expected lengths as integers \(B,\) in"):
        nn.sequence_mask(lengths, 3)


# Batches


@given(st.lists(st.integers(0, 30), max_size=60), st.integers(1, 9), st.integers(1, 4), SEEDS)
def test_an_epoch_has_every_sequence_once(lengths, size, pool, seed):
    lengths = np.array(lengths, int)
    batches = nn.Batches(lengths, size, pool=pool, rng=np.random.default_rng(seed))
    for _ in range(2):
        epoch = list(batches)
        assert len(epoch) == len(batches)
        assert sorted(itertools.chain(*epoch)) == list(range(len(lengths)))
        assert all(1 <= len(rows) <= size for rows in epoch)
        assert sum(len(rows) < size for rows in epoch) <= 1


def test_batches_hold_similar_lengths_and_differ_from_epoch_to_epoch():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 101, 2000)

    def padding(pool):
        """The share of places that hold no item."""
        epoch = list(nn.Batches(lengths, 20, pool=pool, rng=np.random.default_rng(1)))
        return 1 - lengths.sum() / sum(len(rows) * lengths[rows].max() for rows in epoch)

    assert padding(100) < 0.02 < padding(10) < 0.10 < padding(1)
    batches = nn.Batches(lengths, 20, rng=rng)
    one, two = list(batches), list(batches)
    assert not any((a.tolist() == b.tolist()) for a, b in zip(one, two, strict=True))
    means = [lengths[rows].mean() for rows in one]
    assert abs(np.corrcoef(means, range(len(means)))[0, 1]) < 0.3  # in no order


def test_order_is_the_generators_and_takes_one_draw():
    lengths = np.arange(50)

    def epochs(seed):
        return [rows.tolist() for _ in range(2) for rows in batches_of(seed)]

    def batches_of(seed):
        return nn.Batches(lengths, 7, rng=np.random.default_rng(seed))

    assert epochs(1) == epochs(1) != epochs(2)
    rng, other = np.random.default_rng(3), np.random.default_rng(3)
    list(nn.Batches(lengths, 7, rng=rng))
    other.integers(2**63)
    assert rng.bit_generator.state == other.bit_generator.state


@given(st.integers(1, 40), st.integers(1, 6), st.integers(1, 3), st.integers(0, 40), SEEDS)
def test_resuming_gives_exactly_what_was_left(count, size, pool, taken, seed):
    lengths = np.random.default_rng(seed).integers(0, 9, count)
    rng = np.random.default_rng(seed)
    batches = nn.Batches(lengths, size, pool=pool, rng=rng)

    def stream(batches):
        while True:
            yield from batches

    for _ in itertools.islice(stream(batches), taken):
        state = json.loads(json.dumps(batches.state_dict()))
        generator = rng.bit_generator.state
    if not taken:
        state, generator = batches.state_dict(), rng.bit_generator.state
    left = list(itertools.islice(stream(batches), 30))  # goes on in the midst of an epoch
    whole = stream(nn.Batches(lengths, size, pool=pool, rng=np.random.default_rng(seed)))
    whole = list(itertools.islice(whole, taken + 30))[taken:]
    other = np.random.default_rng()
    other.bit_generator.state = generator
    fresh = nn.Batches(lengths, size, pool=pool, rng=other)
    fresh.load_state_dict(state)
    for a, b, c in zip(whole, left, itertools.islice(stream(fresh), 30), strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)


def test_states_of_other_batches_are_refused_and_nothing_is_changed():
    batches = nn.Batches([1, 2, 3], 2)
    next(iter(batches))
    before = batches.state_dict()
    others = [nn.Batches([1, 2], 2), nn.Batches([1, 2, 3], 1), nn.Batches([1, 2, 3], 2, pool=5)]
    for state in [*(b.state_dict() for b in others), {}, {**before, "more": 1}]:
        with pytest.raises(ValueError, match=r"^Batches: expected a state of .*'sequences': 3"):
            batches.load_state_dict(state)
    assert batches.state_dict() == before


NUMBERS = st.integers(-3, 9) | st.sampled_from((2**62, 2**63, 10**400, 1.0, 1.5, np.nan))
VALUES = NUMBERS | st.sampled_from((None, "x", "", [], [1], {}, np.ones(2, int)))


@given(st.integers(0, 4), st.dictionaries(st.sampled_from(("seed", "done", "size")), VALUES))
def test_a_damaged_state_is_refused_whole_or_is_one_to_go_on_from(taken, damage):
    """Nothing is changed, or what is left of an epoch has no sequence twice, and the next all."""
    batches = nn.Batches([3, 1, 4, 1, 5], 2, rng=np.random.default_rng(0))
    for _ in itertools.islice(batches, taken):
        pass
    before = batches.state_dict()
    try:
        batches.load_state_dict(before | damage)
    except ValueError as error:
        assert str(error).startswith("Batches: expected a state of {'sequences': 5")
        assert batches.state_dict() == before
    left = [k for rows in batches for k in rows]
    assert len({*left}) == len(left) <= 5
    assert sorted(k for rows in batches for k in rows) == list(range(5))


@pytest.mark.parametrize("state", (None, [], "x", 3))
def test_what_is_no_state_is_refused(state):
    with pytest.raises(ValueError, match=r"^Batches: expected a state of .*'sequences': 3"):
        nn.Batches([1, 2, 3], 2).load_state_dict(state)


@pytest.mark.parametrize(
    "lengths, size, pool", [([1.0], 2, 1), ([[1]], 2, 1), ([1], 0, 1), ([1], 1, 0), (3, 1, 1)]
)
def test_batches_of_no_sense_are_refused(lengths, size, pool):
    with pytest.raises(
        ValueError, match=r"^Batches: expected lengths as integers \(N,\), and size"
    ):
        nn.Batches(lengths, size, pool=pool)


# States


def test_detached_states_keep_their_structure_and_values():
    h, c = nn.LSTM(3, 4)(tg.randn(5, 2, 3))[1]
    state = [(h, c), h, None]
    found = nn.detached(state)
    assert type(found) is list and type(found[0]) is tuple and found[2] is None
    for a, b in zip(found[0], (h, c), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
        assert b.requires_grad and not a.requires_grad
    assert nn.detached(None) is None


class Pair(NamedTuple):
    h: Any
    c: Any


@pytest.mark.parametrize("change", (nn.detached, lambda s: nn.restarted(s, [True, False])))
def test_states_of_named_tuples_stay_so_and_others_are_refused(change):
    state = Pair(*nn.LSTM(3, 4)(tg.randn(5, 2, 3))[1])
    found = change(state)
    assert type(found) is Pair and found.c.shape == (1, 2, 4)
    for wrong in ({"h": state.h}, "h", 3.0, [state, {1}]):
        with pytest.raises(TypeError, match="expected a state of tensors, tuples and lists, got"):
            change(wrong)


def test_restarted_rows_are_zero_and_others_keep_their_gradient():
    x = tg.Tensor(np.full((1, 3, 2), np.nan), requires_grad=True)
    y = tg.ones(1, 3, 2, dtype="float64", requires_grad=True)
    a, (b,) = nn.restarted((x, (y,)), [True, False, True])
    assert not a.numpy()[:, [0, 2]].any() and np.isnan(a.numpy()[:, 1]).all()
    (d,) = tg.grad(b.sum(), y)
    np.testing.assert_array_equal(d.numpy()[0], [[0, 0], [1, 1], [0, 0]])
    assert nn.restarted(None, [True]) is None


# Truncated backpropagation through time


def test_pieces_are_one_long_forward_and_gradients_stop_between_them():
    rng = np.random.default_rng(0)
    layer, x = nn.GRU(3, 4, dtype="float64", rng=rng), rng.standard_normal((10, 2, 3))
    stream = tg.Tensor(x, requires_grad=True)
    pieces = nn.TBPTT(stream, x, 4)
    outputs, sizes = [], []
    for inputs, targets, state in pieces:
        assert state is None or not state.requires_grad
        np.testing.assert_array_equal(inputs.numpy(), targets)
        output, pieces.state = layer(inputs, state)
        outputs.append(output)
        sizes.append((len(inputs), pieces.position))
    assert sizes == [(4, 4), (4, 8), (2, 10)]
    whole, _ = layer(stream)
    np.testing.assert_array_equal(np.concatenate([o.numpy() for o in outputs]), whole.numpy())
    (d,) = tg.grad(outputs[1].sum(), stream)
    assert not d.numpy()[:4].any() and d.numpy()[4:8].all() and not d.numpy()[8:].any()


def test_pieces_resume_from_a_position_and_a_state():
    rng = np.random.default_rng(0)
    layer, x = nn.LSTM(3, 4, rng=rng), rng.standard_normal((9, 2, 3)).astype(np.float32)

    def read(pieces, most):
        found = []
        for inputs, _, state in itertools.islice(pieces, most):
            output, pieces.state = layer(tg.Tensor(inputs), state)
            found.append(output.numpy())
        return found

    whole, first = read(nn.TBPTT(x, x, 2), 9), nn.TBPTT(x, x, 2)
    read(first, 2)
    rest = read(nn.TBPTT(x, x, 2, nn.detached(first.state), first.position), 9)
    assert len(whole) == 5 and len(rest) == 3
    for a, b in zip(whole[2:], rest, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_state_that_is_not_carried_is_noticed_and_none_starts_afresh():
    x = tg.zeros(6, 2, 3)
    with pytest.raises(RuntimeError, match=r"^TBPTT: expected the loop to set \.state to what the"):
        for _, _, _ in nn.TBPTT(x, x, 2):
            pass
    pieces = nn.TBPTT(x, x, 2, state=tg.ones(1, 2, 4))
    states = []
    for _, _, state in pieces:
        states.append(state)
        pieces.state = None
    assert states[0] is not None and states[1:] == [None, None]


@pytest.mark.parametrize(
    "inputs, targets, steps, position", [(5, 4, 2, 0), (5, 5, 0, 0), (5, 5, 2, 6), (5, 5, 2, -1)]
)
def test_streams_that_do_not_fit_are_refused(inputs, targets, steps, position):
    with pytest.raises(ValueError, match=r"^TBPTT: expected as many inputs as targets, steps of"):
        nn.TBPTT(np.zeros(inputs), np.zeros(targets), steps, None, position)
    assert list(nn.TBPTT(np.zeros(5), np.zeros(5), 2, None, 5)) == []
