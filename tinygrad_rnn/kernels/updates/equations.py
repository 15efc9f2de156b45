"""The optimisers' equations, each once: p parameter, g gradient, what is kept, and named numbers.

A rule is an equation, which gives the new p and the new state; the numbers it reads, computed in
float64 from a group's options and t, the number of the update from 1; and what is kept for each
parameter, with the number that fills it at first. `loop` says what an equation may use.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from tinygrad_rnn.kernels.updates.arithmetic import maximum, minimum, sqrt

Options = Mapping[str, Any]
Values = tuple[Any, ...]


def in_range(where: str, options: Options) -> None:
    """Raise unless these options are in their ranges."""
    for name, value in options.items():
        two, least = name == "betas", -math.inf if name == "dampening" else 0
        with contextlib.suppress(TypeError):
            if (len(value) == 2 and all(0 <= b < 1 for b in value)) if two else value >= least:
                continue
        expected = "two betas in [0, 1)" if two else f"{name} of at least {least}"
        raise ValueError(f"{where}: expected {expected}, got {value!r}")


class Rule(NamedTuple):
    """How a kind of optimiser updates a parameter."""

    equation: Callable[..., Values]
    numbers: Callable[[Options, int], dict[str, float | bool]]
    slots: Callable[[Options], dict[str, float]]
    check: Callable[[str, Options], None] = in_range


def descent(p: Any, g: Any, weight_decay: Any, maximize: Any) -> Any:
    """The gradient of what is minimised: of ± the objective plus ½ weight_decay p²."""
    g = -g if maximize else g
    return g + weight_decay * p if weight_decay else g


def sgd(
    p: Any, g: Any, *kept: Any, lr: Any, momentum: Any, new: Any, nesterov: Any, **rest: Any
) -> Values:
    g = descent(p, g, **rest)
    if not kept:
        return (p - lr * g,)
    b = momentum * kept[0] + new * g
    return p - lr * (g + momentum * b if nesterov else b), b


def sgd_numbers(o: Options, t: int) -> dict[str, float | bool]:
    new = 1.0 if t == 1 else 1 - o["dampening"]
    return {"new": new, **_only(o, "lr", "momentum", "nesterov", "weight_decay", "maximize")}


def sgd_slots(o: Options) -> dict[str, float]:
    return {"momentum_buffer": 0.0} if o["momentum"] else {}


def sgd_check(where: str, o: Options) -> None:
    in_range(where, o)
    if o["nesterov"] and (o["momentum"] == 0 or o["dampening"] != 0):
        got = f"momentum {o['momentum']}, dampening {o['dampening']}"
        raise ValueError(f"{where}: expected a momentum, no dampening with nesterov, got {got}")


SGD = Rule(sgd, sgd_numbers, sgd_slots, sgd_check)


def rmsprop(
    p: Any, g: Any, v: Any, *kept: Any,
    lr: Any, alpha: Any, new: Any, eps: Any, momentum: Any, centered: Any, **rest: Any,
) -> Values:  # fmt: skip
    g = descent(p, g, **rest)
    v = alpha * v + new * (g * g)
    after = [v]
    if centered:
        mean = alpha * kept[0] + new * g
        after.append(mean)
        v = v - mean * mean
    step = g / (sqrt(v) + eps)
    if momentum:
        step = momentum * kept[-1] + step
        after.append(step)
    return p - lr * step, *after


def rmsprop_slots(o: Options) -> dict[str, float]:
    wanted = {"square_avg": True, "grad_avg": o["centered"], "momentum_buffer": o["momentum"]}
    return {name: 0.0 for name, wants in wanted.items() if wants}


RMSPROP = Rule(rmsprop, lambda o, t: {**o, "new": 1 - o["alpha"]}, rmsprop_slots)


def adagrad(p: Any, g: Any, total: Any, *, lr: Any, eps: Any, **rest: Any) -> Values:
    g = descent(p, g, **rest)
    total = total + g * g
    return p - lr * g / (sqrt(total) + eps), total


def adagrad_numbers(o: Options, t: int) -> dict[str, float | bool]:
    lr = o["lr"] / (1 + (t - 1) * o["lr_decay"])
    return {"lr": lr, **_only(o, "eps", "weight_decay", "maximize")}


ADAGRAD = Rule(adagrad, adagrad_numbers, lambda o: {"sum": o["initial_accumulator_value"]})


def adam(
    p: Any, g: Any, m: Any, v: Any, *kept: Any, b1: Any, new1: Any, b2: Any, new2: Any,
    size: Any, root: Any, eps: Any, shrink: Any, **rest: Any,
) -> Values:  # fmt: skip
    g = descent(p, g, **rest)
    m = b1 * m + new1 * g
    v = b2 * v + new2 * (g * g)
    after = [m, v]
    if kept:
        v = maximum(kept[0], v)
        after.append(v)
    p = p - shrink * p if shrink else p
    return p - size * m / (sqrt(v) * root + eps), *after


def adam_numbers(o: Options, t: int) -> dict[str, float | bool]:
    b1, b2 = o["betas"]
    size, root = o["lr"] / (1 - b1**t), 1 / math.sqrt(1 - b2**t)
    found = {"b1": b1, "new1": 1 - b1, "b2": b2, "new2": 1 - b2, "size": size, "root": root}
    return {**found, "shrink": 0.0, **_only(o, "eps", "weight_decay", "maximize")}


def adamw_numbers(o: Options, t: int) -> dict[str, float | bool]:
    return adam_numbers(o, t) | {"weight_decay": 0.0, "shrink": o["lr"] * o["weight_decay"]}


def adam_slots(o: Options) -> dict[str, float]:
    names = "exp_avg", "exp_avg_sq", "max_exp_avg_sq"
    return dict.fromkeys(names if o["amsgrad"] else names[:2], 0.0)


ADAM, ADAMW = (Rule(adam, numbers, adam_slots) for numbers in (adam_numbers, adamw_numbers))


def _only(options: Options, *names: str) -> dict[str, Any]:
    return {n: options[n] for n in names}


# Clipping


def scaled(g: Any, *, factor: Any) -> Values:
    return (g * factor,)


def clamped(g: Any, *, limit: Any) -> Values:
    return (minimum(maximum(g, -limit), limit),)
