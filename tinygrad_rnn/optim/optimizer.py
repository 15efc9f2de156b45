"""What every optimiser has: parameters, arrays of state, and one step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.autograd.writes import touch


class Optimizer:
    """Base of the optimisers.

    Args:
        params: tensors with requires_grad; each step writes them in place.
        lr: learning rate, at least 0; `optimizer.lr = ...` changes it.
    """

    slots: tuple[str, ...] = ()  # names of the arrays kept for each parameter

    def __init__(self, params: Iterable[Tensor], lr: float) -> None:
        self.params = list(params)
        where = type(self).__name__
        if not self.params:
            raise ValueError(f"{where}: expected parameters, got none")
        for k, p in enumerate(self.params):
            if not isinstance(p, Tensor) or not p.requires_grad or not p.is_leaf:
                raise TypeError(f"{where}: expected leaves with requires_grad, got {p!r} at {k}")
        if not lr >= 0:
            raise ValueError(f"{where}: expected lr of at least 0, got {lr}")
        self.lr, self.steps = lr, 0
        self.state = [{s: np.zeros_like(p._data) for s in self.slots} for p in self.params]

    def update(self, p: np.ndarray, g: np.ndarray, state: dict[str, np.ndarray]) -> None:
        """Change one parameter in place."""
        raise NotImplementedError

    def step(self) -> None:
        """Update every parameter that has a gradient."""
        self.steps += 1
        for p, state in zip(self.params, self.state, strict=True):
            if p.grad is not None:
                self.update(p._data, p.grad._data, state)
                touch(p)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for p in self.params:
            p.grad = None

    def state_dict(self) -> dict[str, np.ndarray]:
        """Everything a later step depends on, as arrays: an exact resume needs no more."""
        arrays = {f"{s}.{k}": a.copy() for k, d in enumerate(self.state) for s, a in d.items()}
        return arrays | {"steps": np.array(self.steps), "lr": np.array(self.lr, np.float64)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set what `state_dict` returned; names and shapes must agree, or nothing is changed."""
        own = self.state_dict()
        wrong = sorted(own.keys() ^ state.keys()) or [
            n for n in own if np.shape(state[n]) != own[n].shape
        ]
        if wrong:
            raise ValueError(
                f"load_state_dict: expected the state of this {type(self).__name__}, "
                f"got another at {wrong[:3]}"
            )
        for k, d in enumerate(self.state):
            for s in d:
                d[s] = np.array(state[f"{s}.{k}"], dtype=d[s].dtype)
        self.steps, self.lr = int(state["steps"]), float(state["lr"])
