"""What every optimiser has: groups of parameters, arrays of state, and one step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from tinygrad_rnn.autograd.graph import MODE
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.autograd.writes import touch
from tinygrad_rnn.kernels.memory import address
from tinygrad_rnn.kernels.updates.equations import Rule
from tinygrad_rnn.kernels.updates.loop import Use, update
from tinygrad_rnn.kernels.updates.state import Arrays, filled, mismatches

Params = Iterable[Tensor] | Iterable[Mapping[str, Any]]


class Optimizer:
    """Base of the optimisers: a `rule`, whose equation is compiled to one pass over memory.

    Args:
        params: tensors with requires_grad, each once, which a step writes in place; or dicts of
            "params" and options of their own, as for `add_param_group`.
        options: what groups have where they say nothing else.

    `param_groups[k][option] = value` counts from the next step on.
    """

    rule: ClassVar[Rule]

    def __init__(self, params: Params, **options: Any) -> None:
        self.defaults = options
        self.param_groups: list[dict[str, Any]] = []
        self.params: list[Tensor] = []  # of all groups
        self.owners: list[dict[str, Any]] = []  # the group of each parameter
        self.steps: list[int] = []  # of each parameter: without a gradient it waits
        self.state: list[Arrays] = []
        self.schedules: list[Any] = []  # of the learning rate
        given: list[Any] = [*params] if isinstance(params, Iterable) else []
        if not given:
            raise ValueError(f"{type(self).__name__}: expected parameters, got none in {params!r}")
        for group in given if isinstance(given[0], Mapping) else [{"params": given}]:
            self.add_param_group(group)

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Train more parameters: {"params": tensors, option: value, ...}."""
        where = type(self).__name__
        if not isinstance(group, Mapping) or "params" not in group:
            raise TypeError(f"{where}: expected a dict with 'params', got {group!r}")
        if unknown := sorted(group.keys() - {"params", *self.defaults}):
            raise ValueError(f"{where}: expected options {list(self.defaults)}, got {unknown}")
        given, new = group["params"], {**self.defaults, **group}
        self.rule.check(where, {n: new[n] for n in self.defaults})
        new["params"] = params = (given,) if isinstance(given, Tensor) else tuple(given)
        seen = dict.fromkeys(map(_memory, self.params), -1)
        for k, p in enumerate(params):
            leaf = isinstance(p, Tensor) and p.requires_grad and p.is_leaf
            if not leaf or not p._data.flags.writeable:
                got = f"one of from_numpy at {k}; use tg.Tensor(array)" if leaf else f"{p!r} at {k}"
                raise TypeError(f"{where}: expected own leaves with requires_grad, got {got}")
            if seen.setdefault(_memory(p), k) != k:
                raise ValueError(f"{where}: expected each parameter once, got one again at {k}")
        self.param_groups.append(new)
        self.params += params
        self.owners += [new] * len(params)
        self.steps += [0] * len(params)
        self.state += [{} for _ in params]

    @property
    def lr(self) -> float:
        """The learning rate of the first group; when set, of all."""
        return float(self.param_groups[0]["lr"])

    @lr.setter
    def lr(self, rate: float) -> None:
        for group in self.param_groups:
            group["lr"] = rate

    def step(self) -> None:
        """Update every parameter that has a gradient."""
        alike: dict[Any, list[tuple[int, np.ndarray, np.ndarray]]] = {}
        for k, (p, group) in enumerate(zip(self.params, self.owners, strict=True)):
            if (grad := p.grad) is not None:
                a, g = p._data, grad._data
                alike.setdefault((id(group), a.dtype, self.steps[k]), []).append((k, a, g))
        for (_, _, t), several in alike.items():
            options = {n: self.owners[several[0][0]][n] for n in self.defaults}
            slots, items = self.rule.slots(options), []
            for k, a, g in several:
                self.state[k] = kept = filled(self.state[k], a, slots)
                g = np.asarray(g, order="C" if a.flags.c_contiguous else "F")  # as a lies in memory
                items.append([a, g, *kept.values()])
            use = Use(n := len(items[0]), n, (0, *range(2, n)))
            numbers = self.rule.numbers(options, t + 1)
            update(self.rule.equation, items, use, numbers, MODE.get().definitions)
            for k, _, _ in several:
                self.steps[k] = t + 1
                touch(self.params[k])

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for p in self.params:
            if p.requires_grad:
                p.grad = None

    def state_dict(self) -> Arrays:
        """All that changes from step to step, and the options, as arrays: a resume is exact.

        "exp_avg.3" is kept for parameter 3, counted over all groups; "steps" has an entry for each
        parameter; "params", which is how many it has, and each option have one for each group.
        """
        for k, (p, group) in enumerate(zip(self.params, self.owners, strict=True)):
            self.state[k] = filled(self.state[k], p._data, self.rule.slots(group))
        slots = {f"{s}.{k}": a.copy() for k, d in enumerate(self.state) for s, a in d.items()}
        sizes = [len(group["params"]) for group in self.param_groups]
        return slots | {"steps": np.array(self.steps), "params": np.array(sizes)} | self._options()

    def _options(self) -> Arrays:
        kinds = {n: bool if isinstance(v, bool) else np.float64 for n, v in self.defaults.items()}
        return {n: np.array([g[n] for g in self.param_groups], k) for n, k in kinds.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set what `state_dict` returned; names, shapes and kinds must agree, or nothing is
        changed.

        Raises:
            ValueError: naming arrays that are missing, unexpected or of another kind.
        """
        given = {n: np.asarray(a) for n, a in (state.items() if isinstance(state, Mapping) else ())}
        where, wrong = type(self).__name__, mismatches(given, own := self.state_dict(), "params")
        if wrong or (given["steps"] < 0).any():
            got = f"another at {wrong[:3] or ['steps']}"
            raise ValueError(f"load_state_dict: expected the state of this {where}, got {got}")
        given = {n: given[n].astype(a.dtype) for n, a in own.items()}
        rows = [{n: given[n][k].tolist() for n in self.defaults} for k in range(len(own["params"]))]
        for options in rows:
            self.rule.check(where, options)
        for group, options in zip(self.param_groups, rows, strict=True):
            group.update(options)
        self.steps = given["steps"].tolist()
        for k, kept in enumerate(self.state):
            for s, a in kept.items():
                a[...] = given[f"{s}.{k}"]


def _memory(p: Tensor) -> int:
    """What two parameters must not share."""
    return address(p._data) if p.size else id(p)
