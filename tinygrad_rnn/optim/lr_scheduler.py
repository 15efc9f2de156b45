"""Schedules of the learning rate: factors that multiply the rates an optimiser was made with."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tinygrad_rnn.optim.optimizer import Optimizer

Rate = Callable[[int, float], float]


class LRScheduler:
    """Sets the rate of every group, at once and at each `step`.

    Several schedules of one optimiser are chained: what one makes of the base, the next one takes
    as its base. A rate set by hand lasts until the next step; group["initial_lr"], the base, lasts.

    Args:
        optimizer: whose rates are set.
        rate: of t, which counts the steps from 0, and of the base.
        kept: what else changes from step to step.

    >>> import tinygrad_rnn as tg
    >>> optimizer = tg.optim.SGD([tg.zeros(1, requires_grad=True)], lr=0.5)
    >>> warming = tg.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=2)
    >>> halving = tg.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    >>> for _ in range(2):
    ...     warming.step(); halving.step()
    >>> optimizer.lr
    0.125
    """

    def __init__(self, optimizer: Optimizer, rate: Rate, **kept: float) -> None:
        self.optimizer, self.rate = optimizer, rate
        self.kept: dict[str, Any] = {"last_epoch": 0, **kept}  # what changes from step to step
        optimizer.schedules.append(self)
        self.set()

    def set(self) -> None:
        """Set the rates of this moment."""
        for group in self.optimizer.param_groups:
            rate = group.setdefault("initial_lr", group["lr"])
            for schedule in self.optimizer.schedules:
                rate = schedule.rate(schedule.kept["last_epoch"], rate)
            group["lr"] = rate

    def step(self) -> None:
        """Go on by one."""
        self.kept["last_epoch"] += 1
        self.set()

    def get_last_lr(self) -> list[float]:
        """The rate of each group."""
        return [g["lr"] for g in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """What changes from step to step, and the bases, as plain numbers: a resume is exact."""
        return self.kept | {"base_lrs": [g["initial_lr"] for g in self.optimizer.param_groups]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set what `state_dict` returned, and the rates.

        Raises:
            ValueError: for the state of another schedule, or of other groups.
        """
        own, groups = self.state_dict(), self.optimizer.param_groups
        if state.keys() != own.keys() or len(state["base_lrs"]) != len(groups):
            what = f"the state of this {type(self).__name__}, such as {own}"
            raise ValueError(f"load_state_dict: expected {what}, got {dict(state)}")
        self.kept = {n: state[n] for n in self.kept}
        for group, base in zip(groups, state["base_lrs"], strict=True):
            group["initial_lr"] = base
        self.set()


class LambdaLR(LRScheduler):
    """lr = base · lr_lambda(t); the function is not part of the state."""

    def __init__(self, optimizer: Optimizer, lr_lambda: Callable[[int], float]) -> None:
        super().__init__(optimizer, lambda t, base: base * lr_lambda(t))


class StepLR(LRScheduler):
    """lr = base · gamma^⌊t / step_size⌋."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        super().__init__(optimizer, lambda t, base: base * gamma ** (t // step_size))


class MultiStepLR(LRScheduler):
    """lr = base · gammaⁿ, n of the milestones being passed: at most t."""

    def __init__(self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1) -> None:
        rising = sorted(milestones)
        super().__init__(optimizer, lambda t, base: base * gamma ** bisect_right(rising, t))


class ExponentialLR(LRScheduler):
    """lr = base · gammaᵗ."""

    def __init__(self, optimizer: Optimizer, gamma: float) -> None:
        super().__init__(optimizer, lambda t, base: base * gamma**t)


class LinearLR(LRScheduler):
    """From base · start_factor to base · end_factor in total_iters steps: a warm-up.

    Goyal et al. (2017), Accurate, Large Minibatch SGD, §2.2.
    """

    def __init__(self, optimizer: Optimizer, start_factor: float = 1 / 3, end_factor: float = 1.0,
                 total_iters: int = 5) -> None:  # fmt: skip
        slope = (end_factor - start_factor) / total_iters
        super().__init__(optimizer, lambda t, b: b * (start_factor + slope * min(t, total_iters)))


class CosineAnnealingLR(LRScheduler):
    """lr = eta_min + ½ (base - eta_min) (1 + cos(π t / T_max)).

    Loshchilov & Hutter (2017), SGDR: Stochastic Gradient Descent with Warm Restarts, equation 5,
    without the restarts.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:
        def rate(t: int, base: float) -> float:
            return eta_min + (base - eta_min) * (1 + math.cos(math.pi * t / T_max)) / 2

        super().__init__(optimizer, rate)


class InverseSqrtLR(LRScheduler):
    """Rises evenly to the base in warmup_steps steps, then falls as one over the root of t.

        lr = base · min((t + 1) / warmup_steps, √(warmup_steps / (t + 1)))

    Vaswani et al. (2017), Attention Is All You Need, §5.3, whose base is
    1 / √(d_model · warmup_steps).
    """

    def __init__(self, optimizer: Optimizer, warmup_steps: int = 4000) -> None:
        n = warmup_steps
        super().__init__(optimizer, lambda t, base: base * min((t + 1) / n, (n / (t + 1)) ** 0.5))


class SequentialLR(LRScheduler):
    """One schedule after another: at each of the milestones the next one begins, at its 0.

    Args:
        schedulers: of this optimiser; only this one is to be stepped.
        milestones: rising, and one fewer.
    """

    def __init__(self, optimizer: Optimizer, schedulers: Sequence[LRScheduler],
                 milestones: Sequence[int]) -> None:  # fmt: skip
        starts = [0, *milestones]
        if len(schedulers) != len(starts) or starts != sorted(starts):
            got = f"{len(schedulers)} schedulers, {milestones}"
            raise ValueError(f"SequentialLR: expected rising milestones, one fewer, got {got}")
        optimizer.schedules = [s for s in optimizer.schedules if s not in schedulers]

        def rate(t: int, base: float) -> float:
            k = bisect_right(starts, t) - 1
            return schedulers[k].rate(t - starts[k], base)

        super().__init__(optimizer, rate)


class ReduceLROnPlateau(LRScheduler):
    """Multiplies the rates by `factor` when a metric has not improved for `patience` steps.

    Args:
        mode: "min" or "max", what improving is.
        factor: in [0, 1).
        patience: steps without improvement that are let pass.
        threshold: what makes an improvement: a share of the best so far, or with threshold_mode
            "abs" a difference.
        cooldown: steps after a reduction in which nothing counts.
        min_lr: below which no rate is reduced.

    >>> import tinygrad_rnn as tg
    >>> optimizer = tg.optim.SGD([tg.zeros(1, requires_grad=True)], lr=0.5)
    >>> schedule = tg.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1)
    >>> for loss in (3.0, 3.0, 3.0):
    ...     schedule.step(loss)
    >>> optimizer.lr
    0.25
    """

    def __init__(self, optimizer: Optimizer, mode: str = "min", factor: float = 0.1,
                 patience: int = 10, threshold: float = 1e-4, threshold_mode: str = "rel",
                 cooldown: int = 0, min_lr: float = 0.0) -> None:  # fmt: skip
        known = mode in ("min", "max") and threshold_mode in ("rel", "abs")
        if not known or not 0 <= factor < 1:
            got = f"{mode}, {threshold_mode}, {factor}"
            raise ValueError(f"ReduceLROnPlateau: expected min/max, rel/abs, [0, 1), got {got}")
        self.sign, self.relative = (1 if mode == "min" else -1), threshold_mode == "rel"
        self.patience, self.threshold, self.cooldown = patience, threshold, cooldown

        def rate(t: int, base: float) -> float:
            return max(base * factor ** int(self.kept["reductions"]), min(base, min_lr))

        zeros = dict.fromkeys(("reductions", "num_bad_epochs", "cooldown_counter"), 0)
        super().__init__(optimizer, rate, best=self.sign * math.inf, **zeros)

    def step(self, metrics: float) -> None:  # type: ignore[override]
        """Go on by one, with the metric of this moment."""
        value, now, margin = float(metrics), self.kept, self.sign * self.threshold
        bar = now["best"] * (1 - margin) if self.relative else now["best"] - margin
        better = self.sign * value < self.sign * bar
        now["best"] = value if better else now["best"]
        quiet = better or now["cooldown_counter"] > 0
        now["num_bad_epochs"] = 0 if quiet else now["num_bad_epochs"] + 1
        now["cooldown_counter"] = max(0, now["cooldown_counter"] - 1)
        if now["num_bad_epochs"] > self.patience:
            now["reductions"] += 1
            now["cooldown_counter"], now["num_bad_epochs"] = self.cooldown, 0
        super().step()
