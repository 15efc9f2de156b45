"""Pre-trained rows of an embedding, and output layers that share its weight."""

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn

ROWS = np.arange(12.0).reshape(4, 3) - 5
IDS = np.array([[0, 3, 3], [1, 2, 0]])


@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("kind", (np.array, tg.Tensor, np.asfortranarray))
def test_rows_are_copied_and_keep_their_dtype(dtype, kind):
    rows = kind(ROWS.astype(dtype))
    layer = nn.Embedding.from_pretrained(rows)
    assert layer.weight.dtype == np.dtype(dtype) and type(layer.weight) is nn.Parameter
    np.testing.assert_array_equal(layer(IDS).numpy(), ROWS[IDS])
    if isinstance(rows, np.ndarray):
        rows += 1
        np.testing.assert_array_equal(layer.weight.numpy(), ROWS)
    assert repr(layer) == "Embedding(4, 3)" and list(layer.state_dict()) == ["weight"]


def test_frozen_rows_stay_and_the_rest_is_trained():
    frozen, output = nn.Embedding.from_pretrained(ROWS.tolist()), nn.Linear(3, 2)
    output(frozen(IDS)).sum().backward()
    assert frozen.weight.grad is None and output.weight.grad.numpy().any()
    assert [p.requires_grad for p in frozen.parameters()] == [False]


def test_rows_that_are_not_frozen_are_trained():
    layer = nn.Embedding.from_pretrained(ROWS, freeze=False)
    layer(IDS).sum().backward()
    np.testing.assert_array_equal(layer.weight.grad.numpy()[:, 0], [2, 1, 1, 2])
    tg.optim.SGD(layer.parameters(), lr=0.5).step()
    np.testing.assert_array_equal(layer.weight.numpy()[:, 0], ROWS[:, 0] - [1, 0.5, 0.5, 1])


@pytest.mark.parametrize("padding_idx", (3, -1))
def test_the_padding_row_stays_as_given_and_gets_no_gradient(padding_idx):
    layer = nn.Embedding.from_pretrained(ROWS, freeze=False, padding_idx=padding_idx)
    assert layer.padding_idx == 3
    output = layer(IDS)
    np.testing.assert_array_equal(output.numpy(), ROWS[IDS])
    output.sum().backward()
    np.testing.assert_array_equal(layer.weight.grad.numpy()[:, 0], [2, 1, 1, 0])


def test_nothing_is_drawn_for_rows_that_are_given():
    before = tg.get_rng_state()
    nn.Embedding.from_pretrained(ROWS)
    assert tg.get_rng_state() == before


def test_subclasses_are_kept():
    class Words(nn.Embedding):
        pass

    assert type(Words.from_pretrained(ROWS)) is Words


@pytest.mark.parametrize(
    "rows, got",
    [
        (ROWS[0], r"float64 of shape \(3,\)"),
        (ROWS[None], r"float64 of shape \(1, 4, 3\)"),
        (ROWS.astype(int), r"int64 of shape \(4, 3\)"),
        (3.0, r"float32 of shape \(\)"),
    ],
)
def test_what_are_no_rows_is_refused(rows, got):
    message = rf"^Embedding\.from_pretrained: expected rows of .* \(V, E\), got {got}; convert"
    with pytest.raises(ValueError, match=message):
        nn.Embedding.from_pretrained(rows)


def test_padding_outside_the_rows_is_refused():
    with pytest.raises(ValueError, match=r"^Embedding: expected padding_idx in -4\.\.3, got 4"):
        nn.Embedding.from_pretrained(ROWS, padding_idx=4)


# Output layers with the embedding's weight


class Model(nn.Module):
    """Reads and writes symbols; the weight of the output is tied to the embedding's, or a copy."""

    def __init__(self, tied, padding_idx=None):
        rng = np.random.default_rng(0)
        self.table = nn.Embedding(5, 4, padding_idx, dtype="float64", rng=rng)
        self.layer = nn.GRU(4, 4, dtype="float64", rng=rng)
        self.output = nn.Linear(4, 5, dtype="float64", rng=rng)
        weight = self.table.weight
        self.output.weight = weight if tied else nn.Parameter(weight.numpy())

    def loss(self, ids):
        output, _ = self.layer(self.table(ids[:-1]))
        return nn.cross_entropy(self.output(output), ids[1:])

    def fused_loss(self, ids):
        output, _ = self.layer(self.table(ids[:-1]))
        return nn.linear_cross_entropy(output, self.output.weight, ids[1:], self.output.bias)


SYMBOLS = np.random.default_rng(1).integers(0, 5, (6, 3))


@pytest.mark.parametrize("loss", (Model.loss, Model.fused_loss))
@pytest.mark.parametrize("padding_idx", (None, 2))
def test_a_tied_weight_gets_the_gradient_of_both_uses(loss, padding_idx):
    """That of its use as an output reaches the padding row too, as in PyTorch."""
    tied, loose = Model(True, padding_idx), Model(False, padding_idx)
    for model in (tied, loose):
        loss(model, SYMBOLS).backward()
    first, second = loose.table.weight.grad.numpy(), loose.output.weight.grad.numpy()
    assert first.any() and second.all() and (padding_idx is None or not first[2].any())
    np.testing.assert_allclose(tied.table.weight.grad.numpy(), first + second, rtol=1e-12)


def test_a_tied_weight_is_trained_and_counted_once():
    model = Model(True)
    assert len(list(model.parameters())) == len(list(Model(False).parameters())) - 1
    optimizer = tg.optim.Adam(model.parameters(), lr=0.05)
    losses = []
    for _ in range(30):
        model.zero_grad()
        loss = model.loss(SYMBOLS)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0] and model.output.weight is model.table.weight
    np.testing.assert_array_equal(model.output.weight.numpy(), model.table.weight.numpy())


def test_pre_trained_rows_may_be_tied():
    table, output = nn.Embedding.from_pretrained(ROWS, freeze=False), nn.Linear(3, 4, bias=False)
    output.weight = table.weight
    np.testing.assert_array_equal(output(table(IDS)).numpy(), ROWS[IDS] @ ROWS.T)
