"""The cells' equations on arrays and Tensors, and the classes that take one step."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tests.nn.sequences import LAYERS, flat, identical, packed, parts

CELLS = [name for name, row in LAYERS.items() if row.one_step]
GATES = {"RNN": 1, "RNN relu": 1, "LSTM": 4, "GRU": 3}
ALL = pytest.mark.parametrize("name", CELLS)


def close(found, expected):
    for f, e in zip(flat(found), flat(expected), strict=True):
        assert f.shape == e.shape and f.dtype == e.dtype
        np.testing.assert_allclose(f, e, rtol=1e-12, atol=1e-13)


def drawn(name, batch=(2,), bias=True, seed=0):
    row, rng = LAYERS[name], np.random.default_rng(seed)
    cell = row.one_step(3, 4, bias=bias, dtype="float64", rng=rng)
    state = [rng.standard_normal((*batch, 4)) for _ in row.states]
    return row, cell, rng.standard_normal((*batch, 3)), state


@given(st.sampled_from(CELLS), st.integers(0, 3), st.booleans(), st.integers(0, 2**32 - 1))
def test_cell_computes_its_equations(name, batch, bias, seed):
    row, cell, x, state = drawn(name, (batch,), bias, seed)
    weights = [p.numpy() for p in cell.parameters()]
    output, expected = row.equations(x, packed(state), *weights)
    found = cell(tg.Tensor(x), packed(list(map(tg.Tensor, state))))
    close(found, expected)
    identical(parts(found)[0], parts(row.cell(x, packed(state), *weights)[1])[0])  # on arrays
    close(parts(found)[0], output)


@ALL
def test_cell_of_one_sequence_needs_no_batch_axis(name):
    _, cell, x, state = drawn(name)
    batch = cell(tg.Tensor(x), packed(list(map(tg.Tensor, state))))
    alone = cell(tg.Tensor(x[1]), packed([tg.Tensor(s[1]) for s in state]))
    close(alone, [s.numpy()[1] for s in parts(batch)])
    assert [s.shape for s in parts(cell(tg.Tensor(x[0])))] == [(4,)] * len(state)


@ALL
def test_no_state_is_zero(name):
    _, cell, x, state = drawn(name)
    identical(cell(tg.Tensor(x)), cell(tg.Tensor(x), packed([tg.Tensor(0 * s) for s in state])))


@ALL
def test_gradients_agree_with_differences(name, rng):
    row, cell, x, state = drawn(name)
    weights = [p.numpy() for p in cell.parameters()]

    def step(x, *rest):
        return tuple(parts(row.cell(x, packed(rest[: len(state)]), *rest[len(state) :])[1]))

    assert tg.testing.gradcheck(step, [x, *state, *weights], rng=rng, order=2)


@ALL
@pytest.mark.parametrize("bias", (True, False))
def test_parameters_have_torchs_names_and_shapes(name, bias):
    rows = 4 * GATES[name]
    shapes = {"weight_ih": (rows, 3), "weight_hh": (rows, 4), "bias_ih": (rows,)}
    shapes |= {"bias_hh": (rows,)}
    cell = LAYERS[name].one_step(3, 4, bias=bias)
    found = {n: p.shape for n, p in cell.named_parameters()}
    assert list(found.items()) == list(shapes.items())[: 4 if bias else 2]
    assert all(0.2 < np.abs(p.numpy()).max() <= 0.5 for p in cell.parameters())


@ALL
@pytest.mark.parametrize("shape", [(2, 4), (5, 2, 3), ()])
def test_input_of_another_shape_is_refused(name, shape):
    cell = LAYERS[name].one_step(3, 4)
    got = re.escape(str(shape))
    message = rf"^{name[:4].strip()}Cell: expected x of shape \(B, 3\), got {got}; a cell takes one"
    with pytest.raises(ValueError, match=message):
        cell(tg.zeros(shape))


@ALL
def test_state_that_does_not_fit_is_refused(name):
    row, cell, x, state = drawn(name)
    for k, which in enumerate(row.states):
        wrong = list(map(tg.Tensor, state))
        wrong[k] = tg.zeros(1, 2, 4, dtype="float64")
        message = rf"Cell: expected {which} of shape \(2, 4\), got \(1, 2, 4\); a state is \(B, H\)"
        with pytest.raises(ValueError, match=message):
            cell(tg.Tensor(x), packed(wrong))
        wrong[k] = tg.zeros(2, 4)
        with pytest.raises(TypeError, match=rf"Cell: expected {which} of .* got float32"):
            cell(tg.Tensor(x), packed(wrong))
    with pytest.raises(TypeError, match=r"Cell: expected x of .* float64, got float32"):
        cell(tg.zeros(2, 3))


@ALL
@pytest.mark.parametrize("sizes", [(0, 4), (3, 0)])
def test_sizes_below_one_are_refused(name, sizes):
    got = "input_size={}, hidden_size={}".format(*sizes)
    with pytest.raises(ValueError, match=f"Cell: expected sizes of at least 1, got {got}$"):
        LAYERS[name].one_step(*sizes)
