"""What losses, sampling, optimisers and initialisers do, drawn from what they return."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import tinygrad_rnn as tg
from tinygrad_rnn import nn, optim
from tinygrad_rnn.nn import inspection
from tinygrad_rnn.optim import lr_scheduler

from .panels import COLOURS, panels, rng, titled


def losses() -> Figure:
    """Losses of one place, against what the model says."""
    figure, (left, right) = panels(2, 4.0, 2.8)
    x = np.linspace(-4, 4, 161)
    logits, zeros = tg.Tensor(np.stack([x, 0 * x], -1)), np.zeros(x.size, int)
    for s in (0.0, 0.1):
        loss = nn.cross_entropy(logits, zeros, reduction="none", label_smoothing=s)
        left.plot(x, loss.numpy(), label=f"cross_entropy, label_smoothing={s}")
    margin = nn.multi_margin_loss(logits, zeros, reduction="none")
    left.plot(x, margin.numpy(), label="multi_margin_loss")
    titled(left, "two classes", "logit of the right class - the other's", "loss")
    given, y = tg.Tensor(x), np.ones(x.size)
    named = {
        "mse_loss to 1": nn.mse_loss(given, y, "none"),
        "l1_loss to 1": nn.l1_loss(given, y, "none"),
        "binary_cross_entropy_with_logits, 1": nn.binary_cross_entropy_with_logits(
            given, y, reduction="none"
        ),
        "hinge_embedding_loss, -1": nn.hinge_embedding_loss(given, -y, reduction="none"),
    }
    for name, loss in named.items():
        right.plot(x, loss.numpy(), label=name)
    titled(right, "one number", "input", "")
    for place in (left, right):
        place.set_ylim(0, 5.5)
        place.legend(fontsize=7)
    return figure


def sampling() -> Figure:
    """What `sample` draws from."""
    figure, axes = panels(5, 1.9, 2.2)
    logits = np.log([0.4, 0.25, 0.15, 0.1, 0.06, 0.04])
    cases: dict[str, dict[str, Any]] = {
        "as it is": {},
        "temperature=0.5": {"temperature": 0.5},
        "temperature=2": {"temperature": 2.0},
        "top_k=3": {"top_k": 3},
        "top_p=0.6": {"top_p": 0.6},
    }
    for place, (name, given) in zip(axes, cases.items(), strict=True):
        place.bar(range(6), nn.probabilities(logits, **given), color=COLOURS[2])
        place.set_ylim(0, 0.75)
        titled(place, name, "class", "probability" if place is axes[0] else "")
    return figure


def descent() -> Figure:
    """Ways down a narrow valley, and what clipping does to gradients."""
    figure, (left, right) = panels(2, 4.0, 3.0)
    methods: dict[str, Callable[[Any], Any]] = {
        "SGD": lambda p: optim.SGD(p, lr=0.035),
        "SGD, momentum=0.9": lambda p: optim.SGD(p, lr=0.01, momentum=0.9),
        "Adagrad": lambda p: optim.Adagrad(p, lr=0.5),
        "RMSprop": lambda p: optim.RMSprop(p, lr=0.08, alpha=0.9),
        "Adam": lambda p: optim.Adam(p, lr=0.15),
    }
    x, y = np.meshgrid(np.linspace(-4.5, 1.5, 80), np.linspace(-2, 2, 60))
    left.contour(x, y, np.sqrt(x**2 + 25 * y**2), 9, colors="0.85", linewidths=0.8)
    with tg.definitions():
        for name, make in methods.items():
            left.plot(*way(make), ".-", ms=3, lw=1, label=name)
    left.plot([0], [0], "k+", ms=8)
    titled(left, "40 steps down ½ (x² + 25 y²)", "x", "y")
    left.legend(fontsize=7)
    for g in ((2.5, 0.5), (1.5, 2.2), (-0.5, 0.6)):
        for k, (name, clip) in enumerate(CLIPS.items()):
            end = clipped(g, clip)
            arrow = {"arrowstyle": "->", "color": COLOURS[k], "lw": 1.4}
            right.annotate("", end, (0, 0), arrowprops=arrow)
            right.plot(*end, ".", color=COLOURS[k], ms=4, label=name if g[0] == 2.5 else None)
    titled(right, "gradients, clipped to 1", "of one weight", "of another")
    right.set(xlim=(-1, 2.8), ylim=(-0.3, 2.6), aspect="equal")
    right.legend(fontsize=7)
    return figure


CLIPS: dict[str, Callable[[Any], Any]] = {
    "as they are": lambda p: None,
    "clip_grad_norm_": lambda p: optim.clip_grad_norm_(p, 1.0),
    "clip_grad_value_": lambda p: optim.clip_grad_value_(p, 1.0),
}


def way(make: Callable[[Any], Any]) -> np.ndarray:
    """Where 40 steps of a method lead: (2, 41)."""
    p = tg.Tensor([-4.0, 1.5], requires_grad=True, dtype="float64")
    optimizer, points = make([p]), [p.numpy().copy()]
    for _ in range(40):
        optimizer.zero_grad()
        (p * p * [0.5, 12.5]).sum().backward()
        optimizer.step()
        points.append(p.numpy().copy())
    return np.array(points).T


def clipped(gradient: Any, clip: Callable[[Any], Any]) -> tuple[float, ...]:
    p = tg.zeros(2, requires_grad=True, dtype="float64")
    (p * gradient).sum().backward()
    with tg.definitions():
        clip([p])
    assert p.grad is not None
    return tuple(p.grad.tolist())


def schedules() -> Figure:
    """Learning rates over 100 steps, of base 1."""
    figure, axes = panels(3, 3.0, 2.4)
    kinds: list[dict[str, Callable[[Any], Any]]] = [
        {
            "StepLR(30, 0.5)": lambda o: lr_scheduler.StepLR(o, 30, 0.5),
            "MultiStepLR([40, 80])": lambda o: lr_scheduler.MultiStepLR(o, [40, 80]),
            "ExponentialLR(0.97)": lambda o: lr_scheduler.ExponentialLR(o, 0.97),
            "LambdaLR(1 / (1 + t / 10))": lambda o: lr_scheduler.LambdaLR(
                o, lambda t: 1 / (1 + t / 10)
            ),
        },
        {
            "LinearLR(0.1, 1, 20)": lambda o: lr_scheduler.LinearLR(o, 0.1, 1.0, 20),
            "CosineAnnealingLR(100)": lambda o: lr_scheduler.CosineAnnealingLR(o, 100),
            "InverseSqrtLR(20)": lambda o: lr_scheduler.InverseSqrtLR(o, 20),
        },
        {
            "SequentialLR: linear, cosine": warmed,
            "ReduceLROnPlateau(patience=9)": lambda o: lr_scheduler.ReduceLROnPlateau(
                o, factor=0.5, patience=9
            ),
        },
    ]
    for place, group in zip(axes, kinds, strict=True):
        for name, make in group.items():
            place.plot(rates(make), label=name, lw=1.4)
        place.set_ylim(0, 1.55 if place is not axes[0] else 1.7)
        place.legend(fontsize=7, loc="upper center")
        titled(place, "", "step t", "rate / base" if place is axes[0] else "")
    return figure


def warmed(optimizer: Any) -> Any:
    rise = lr_scheduler.LinearLR(optimizer, 0.1, 1.0, 20)
    fall = lr_scheduler.CosineAnnealingLR(optimizer, 80)
    return lr_scheduler.SequentialLR(optimizer, [rise, fall], [20])


def rates(make: Callable[[Any], Any]) -> list[float]:
    optimizer = optim.SGD([tg.zeros(1, requires_grad=True)], lr=1.0)
    schedule, found = make(optimizer), []
    for _ in range(100):
        found.append(optimizer.lr)
        schedule.step(*([1.0] if isinstance(schedule, lr_scheduler.ReduceLROnPlateau) else []))
    return found


def initialisers() -> Figure:
    """What initial matrices do to a vector, again and again."""
    figure, (left, right) = panels(2, 4.0, 2.8)
    size, init = 64, nn.init
    plain: dict[str, Any] = {"rng": rng(), "dtype": "float64"}
    matrices = {
        "uniform, fan=64": init.uniform(size, size, fan=size, **plain),
        "xavier_uniform": init.xavier_uniform(size, size, **plain),
        "kaiming_normal": init.kaiming_normal(size, size, **plain),
        "orthogonal": init.orthogonal(size, size, **plain),
        "0.9 identity": init.identity(size, size, gain=0.9, dtype="float64"),
    }
    start = rng(1).standard_normal(size)
    for name, weight in matrices.items():
        w, v, norms = weight.numpy(), start / np.linalg.norm(start), []
        for _ in range(51):
            norms.append(np.linalg.norm(v))
            v = w @ v
        left.semilogy(norms, label=name)
        right.plot(np.linalg.svd(w, compute_uv=False), label=name)
    titled(left, "length of Wᵗ v, H = 64", "t", "")
    titled(right, "singular values of W", "number", "")
    left.set_ylim(1e-16, 1e10)
    left.legend(fontsize=7, loc="lower left")
    right.legend(fontsize=7)
    return figure


def vanishing() -> Figure:
    """How the gradient of states fades, and what a forget gate's bias does."""
    figure, (left, right) = panels(2, 4.0, 2.8)
    plain: dict[str, Any] = {"dtype": "float64", "rng": rng()}
    x = tg.randn(40, 8, 8, **plain)
    layers = {"RNN": nn.RNN(8, 32, **plain), "GRU": nn.GRU(8, 32, **plain)}
    layers |= {f"LSTM, forget bias {bias}": remembering(bias) for bias in (0, 2)}
    with tg.definitions():
        for name, layer in layers.items():
            (found,) = inspection.state_gradients(lambda layer=layer: layer(x)[0][-1].sum())
            parts = found if isinstance(found, tuple) else (found,)
            norms = np.linalg.norm(np.concatenate(parts, -1), axis=-1).mean(1)
            left.semilogy(norms[::-1] / norms[-1], label=name)
        biases = np.linspace(-4, 4, 9)
        gates = [remembering(bias)(x, return_gates=True)[2] for bias in biases]  # f, i, o
    found = [inspection.gate_statistics(forget) for forget, _, _ in gates]
    right.plot(biases, [s.open.mean() for s in found], "o-", ms=3, label="open: above 0.9")
    right.plot(biases, [s.closed.mean() for s in found], "o-", ms=3, label="closed: below 0.1")
    titled(left, "‖∂L/∂s‖, over the last state's", "steps before the last")
    titled(right, "forget gates of an LSTM", "bias of the forget gate", "share")
    for place in (left, right):
        place.legend(fontsize=7)
    return figure


def remembering(bias: float) -> nn.LSTM:
    """An LSTM whose forget gates have this bias."""
    layer = nn.LSTM(8, 32, dtype="float64", rng=rng())
    state = layer.state_dict()
    state["bias_ih_l0"][32:64], state["bias_hh_l0"][32:64] = bias, 0.0
    layer.load_state_dict(state)
    return layer


PICTURES: dict[str, Callable[[], Figure]] = {
    plot.__name__: plot for plot in (losses, sampling, descent, schedules, initialisers, vanishing)
}
