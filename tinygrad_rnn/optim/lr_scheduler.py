"""Schedules of the learning rate: factors that multiply the rates an optimiser was made with."""

from __future__ import annotations

import math
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
        instead: schedules of the optimiser that this one takes the place of.
        kept: what else changes from step to step.

    Raises:
        ValueError: if a rate is below 0 or not finite; nothing is changed then.

    >>> import tinygrad_rnn as tg
    >>> optimizer = tg.optim.SGD([tg.zeros(1, requires_grad=True)], lr=0.5)
    >>> warming = tg.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=2)
    >>> halving = tg.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    >>> for _ in range(2):
    ...     warming.step(); halving.step()
    >>> optimizer.lr
    0.125
    """

    CLOCK = "last_epoch"  # which of the counts that are kept is t

    def __init__(self, optimizer: Optimizer, rate: Rate, instead: Any = (), **kept: float) -> None:
        self.optimizer, self.rate = optimizer, rate
        others = [s for s in optimizer.schedules if s not in instead]
        self._stand({"last_epoch": 0, **kept}, schedules=[*others, self])

    def _stand(self, kept: dict[str, Any], bases: Any = None, schedules: Any = None) -> None:
        """Set the rates of a moment, or raise and change nothing."""
        groups, schedules = self.optimizer.param_groups, schedules or self.optimizer.schedules
        rates = bases = bases or [g.get("initial_lr", g["lr"]) for g in groups]
        try:
            for s in schedules:
                rates = [s.rate((kept if s is self else s.kept)[s.CLOCK], r) for r in rates]
            if not all(0 <= rate < math.inf for rate in rates):
                raise ArithmeticError(rates)
        except ArithmeticError as error:
            got = f"{type(self).__name__}: expected finite rates of at least 0, got {error}"
            raise ValueError(f"{got} at {kept}") from error
        self.kept, self.optimizer.schedules = kept, schedules  # kept changes from step to step
        for group, base, rate in zip(groups, bases, rates, strict=True):
            group |= {"initial_lr": base, "lr": rate}

    def step(self) -> None:
        """Go on by one."""
        self._stand(self.kept | {"last_epoch": self.kept["last_epoch"] + 1})

    def get_last_lr(self) -> list[float]:
        """The rate of each group."""
        return [g["lr"] for g in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """What changes from step to step, and the bases, as plain numbers: a resume is exact."""
        bases = [float(g.get("initial_lr", g["lr"])) for g in self.optimizer.param_groups]
        return self.kept | {"base_lrs": bases}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set what `state_dict` returned, and the rates.

        Raises:
            ValueError: for the state of another schedule, of other groups, or a damaged one;
                nothing is changed then.
        """
        if _kinds(own := self.state_dict()) != _kinds(state):
            what = f"the state of this {type(self).__name__}, such as {own}"
            raise ValueError(f"load_state_dict: expected {what}, got {state}")
        self._stand({n: state[n] for n in self.kept}, list(state["base_lrs"]))


def _kinds(value: Any) -> Any:
    """Of each number of a state, whether it is a count, and whether a fraction, which is no NaN."""
    if isinstance(value, (dict, list)):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return type(value), {n: _kinds(v) for n, v in items}
    return type(value) is int and value >= 0, type(value) is float and value == value


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
        super().__init__(optimizer, lambda t, b: b * gamma ** sum(m <= t for m in milestones))


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
        gap = end_factor - start_factor
        super().__init__(optimizer, lambda t, b: b * (start_factor + gap * min(t / total_iters, 1)))


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
        super().__init__(optimizer, lambda t, b: b * min(x := (t + 1) / warmup_steps, x**-0.5))


class SequentialLR(LRScheduler):
    """One schedule after another: at each of the milestones the next one begins, at its 0.

    Args:
        schedulers: of this optimiser, and functions of t; only this one is to be stepped.
        milestones: rising, and one fewer.
    """

    def __init__(self, optimizer: Optimizer, schedulers: Sequence[LRScheduler],
                 milestones: Sequence[int]) -> None:  # fmt: skip
        starts = [0, *milestones]
        own = [s for s in optimizer.schedules if s in schedulers and s.CLOCK == self.CLOCK]
        if not len(own) == len(schedulers) == len(starts) or starts != sorted(starts):
            what = "rising milestones, one fewer than schedules of t of this optimiser"
            raise ValueError(f"SequentialLR: expected {what}, got {milestones} and {schedulers}")

        def rate(t: int, base: float) -> float:
            k = sum(start <= t for start in starts) - 1
            return schedulers[k].rate(t - starts[k], base)

        super().__init__(optimizer, rate, schedulers)


class ReduceLROnPlateau(LRScheduler):
    """Multiplies the rates by `factor` when a metric has not improved for `patience` steps.

    Args:
        mode: "min" or "max", what improving is.
        factor: in [0, 1).
        patience: steps without improvement that are let pass.
        threshold: what makes an improvement: a share of the size of the best so far, or with
            threshold_mode "abs" a difference.
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

    CLOCK = "reductions"

    def __init__(self, optimizer: Optimizer, mode: str = "min", factor: float = 0.1,
                 patience: int = 10, threshold: float = 1e-4, threshold_mode: str = "rel",
                 cooldown: int = 0, min_lr: float = 0.0) -> None:  # fmt: skip
        known = mode in ("min", "max") and threshold_mode in ("rel", "abs")
        if not known or not 0 <= factor < 1:
            got = f"{mode}, {threshold_mode}, {factor}"
            raise ValueError(f"ReduceLROnPlateau: expected min/max, rel/abs, [0, 1), got {got}")
        self.sign, self.relative = (1 if mode == "min" else -1), threshold_mode == "rel"
        self.patience, self.threshold, self.cooldown = patience, threshold, cooldown

        super().__init__(optimizer, lambda n, b: max(b * factor**n, min(b, min_lr)), reductions=0,
            num_bad_epochs=0, cooldown_counter=0, best=self.sign * math.inf)  # fmt: skip

    def step(self, metrics: float) -> None:  # type: ignore[override]
        """Go on by one, with the metric of this moment."""
        value, k = float(metrics), self.kept
        scale = abs(k["best"]) if self.relative and math.isfinite(k["best"]) else 1.0
        better = self.sign * (k["best"] - value) > self.threshold * scale
        k["best"] = value if better else k["best"]
        k["num_bad_epochs"] = 0 if better or k["cooldown_counter"] else k["num_bad_epochs"] + 1
        k["cooldown_counter"] = max(0, k["cooldown_counter"] - 1)
        if k["num_bad_epochs"] > self.patience:
            k["reductions"] += 1
            k["cooldown_counter"], k["num_bad_epochs"] = self.cooldown, 0
        super().step()
