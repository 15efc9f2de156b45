"""What layers do, drawn from what they return."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import tinygrad_rnn as tg
from tinygrad_rnn import nn

from .panels import image, panels, rng, titled


def reached(layer: Callable[[Any], Any], steps: int) -> np.ndarray:
    """How much each output (row) changes with each input (column)."""
    found = np.zeros((steps, steps))
    for t in range(steps):
        x = tg.randn(steps, 1, 3, rng=rng(1), dtype="float64", requires_grad=True)
        (slope,) = tg.grad(layer(x)[t].sum(), [x], allow_unused=True)
        found[t] = 0.0 if slope is None else np.abs(slope.numpy()).sum((1, 2))
    return found


def dependence() -> Figure:
    """Which inputs an output has seen, by its gradient."""
    figure, axes = panels(4, 2.4, 2.5)
    steps, plain = 12, {"dtype": "float64", "rng": rng()}
    one, both = nn.GRU(3, 8, **plain), nn.GRU(3, 8, bidirectional=True, **plain)

    def pieces(x: Any) -> Any:
        outputs, stream = [], nn.TBPTT(x, x, 4)
        for part, _, state in stream:
            output, stream.state = one(part, state)
            outputs.append(output)
        return tg.concatenate(outputs)

    cases: dict[str, Callable[[Any], Any]] = {
        "one direction": lambda x: one(x)[0],
        "both directions": lambda x: both(x)[0],
        "both, lengths=[8]": lambda x: both(x, lengths=[8])[0],
        "truncated, 4 steps": pieces,
    }
    with tg.definitions():
        for place, (name, layer) in zip(axes, cases.items(), strict=True):
            seen = reached(layer, steps)
            image(place, np.where(seen > 0, np.maximum(4 + np.log10(seen + 1e-30), 0.4), 0.0), 5)
            titled(place, name, "input at step", "output at step" if place is axes[0] else "")
    return figure


def depth() -> Figure:
    """How large the loss's gradient is at each layer of a deep stack."""
    figure, (axes,) = panels(1, 5.0, 2.8)
    width, count, dtype = 32, 16, "float64"

    def plain(k: int) -> Any:
        return nn.Sequential(nn.Linear(width, width, rng=rng(k), dtype=dtype), tg.tanh)

    kinds: dict[str, Callable[[int], Any]] = {
        "plain": plain,
        "nn.Residual": lambda k: nn.Residual(plain(k)),
        "nn.Highway": lambda k: nn.Highway(width, plain(k), rng=rng(k + 99), dtype=dtype),
    }
    with tg.definitions():
        for name, layer in kinds.items():
            values = [tg.randn(64, width, rng=rng(), dtype=dtype, requires_grad=True)]
            for k in range(count):
                values.append(layer(k)(values[-1]))
            slopes = tg.grad((values[-1] ** 2).mean(), values)
            norms = [float(np.linalg.norm(g.numpy())) for g in slopes]
            axes.semilogy(range(count + 1), np.array(norms) / norms[-1], "o-", ms=3, label=name)
    titled(axes, "16 layers, 32 wide", "layer", "gradient, over the last layer's")
    axes.legend(fontsize=8)
    return figure


def attention() -> Figure:
    """Weights that attention gives to keys, without and with lengths and a mask."""
    figure, axes = panels(3, 2.6, 2.5)
    keys = tg.randn(8, 1, 6, rng=rng(), dtype="float64")
    later = np.tril(np.ones((8, 8), bool))[:, None]
    cases = {"all keys": {}, "lengths=[5]": {"lengths": [5]}, "mask: none later": {"mask": later}}
    for place, (name, given) in zip(axes, cases.items(), strict=True):
        _, weights = nn.DotAttention()(keys, keys, return_weights=True, **given)
        image(place, weights.numpy()[:, 0], 1)
        titled(place, name, "key", "query" if place is axes[0] else "")
    return figure


def dropped() -> Figure:
    """What is left of ones: steps upwards, features to the right."""
    figure, axes = panels(4, 2.3, 2.5)
    ones, table = tg.ones(12, 1, 16), nn.Embedding(6, 16)
    table.load_state_dict({"weight": np.ones((6, 16))})
    words = np.array([0, 1, 2, 3, 1, 4, 2, 0, 5, 1, 3, 4])[:, None]
    unknown = nn.WordDropout(0.3, unknown=0, rng=rng(3))(words + 1)
    cases = {
        "nn.Dropout": nn.Dropout(0.3, rng=rng())(ones),
        "nn.LockedDropout": nn.LockedDropout(0.3, rng=rng())(ones),
        "nn.EmbeddingDropout": nn.EmbeddingDropout(table, 0.3, rng=rng(2))(words),
        "nn.WordDropout": np.broadcast_to(unknown[..., None] > 0, (12, 1, 16)),
    }
    for place, (name, left) in zip(axes, cases.items(), strict=True):
        image(place, np.asarray(left)[:, 0] > 0, 1.6)
        titled(place, name, "feature", "step" if place is axes[0] else "")
    place.set_yticks(range(12), [str(int(word)) for word in words[:, 0]])
    axes[2].set_yticks(range(12), [str(int(word)) for word in words[:, 0]])
    return figure


def embedding() -> Figure:
    """A table, and the rows of five ids."""
    figure, (left, right) = panels(2, 2.6, 2.4)
    table, ids = nn.Embedding(8, 12, rng=rng()), [3, 1, 4, 1, 5]
    for place, rows in ((left, table.weight), (right, table(ids))):
        place.imshow(rows.numpy(), cmap="PuOr", vmin=-2.5, vmax=2.5, aspect="auto", origin="lower")
        place.spines[:].set_visible(False)
    right.set_yticks(range(5), [str(k) for k in ids])
    titled(left, "weight, (V, E)", "feature", "id")
    titled(right, "of ids 3 1 4 1 5, (5, E)", "feature")
    return figure


def batches() -> Figure:
    """What padding wastes: batches of neighbours in a file, and of `nn.Batches`."""
    figure, axes = panels(3, 2.8, 2.5)
    lengths = np.minimum(rng().geometric(0.06, 512), 60)
    free = [np.arange(k, k + 16) for k in range(0, 512, 16)]
    near = list(nn.Batches(lengths, 16, pool=8, rng=rng()))
    for place, (name, rows) in zip(
        axes, {"in file order": free, "nn.Batches": near}.items(), strict=False
    ):
        steps = [int(lengths[r].max()) for r in rows]
        waste = 1 - lengths.sum() / sum(16 * n for n in steps)
        grid = np.full((96, 60), np.nan)
        for k, r in enumerate(rows[:6]):
            grid[16 * k : 16 * k + 16, : steps[k]] = nn.sequence_mask(lengths[r], steps[k]).T
        image(place, grid, 1.6)
        titled(place, f"{name}: {waste:.0%} padding", "step", "sequences of 6 batches")
    pools = (1, 2, 4, 8, 16, 32)
    wastes = []
    for pool in pools:
        most = [16 * int(lengths[r].max()) for r in nn.Batches(lengths, 16, pool=pool, rng=rng())]
        wastes.append(100 * (1 - lengths.sum() / sum(most)))
    axes[2].semilogx(pools, wastes, "o-", ms=4)
    axes[2].set_xticks(pools, [str(n) for n in pools], minor=False)
    axes[2].minorticks_off()
    axes[2].set_ylim(0)
    titled(axes[2], "512 sequences, 16 a batch", "pool, in batches", "padding, %")
    return figure


PICTURES: dict[str, Callable[[], Figure]] = {
    plot.__name__: plot for plot in (dependence, depth, attention, dropped, embedding, batches)
}
