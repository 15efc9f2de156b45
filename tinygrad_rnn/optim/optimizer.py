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
        params: tensors with requires_grad, each once; each step writes them in place.
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
            if not p._data.flags.writeable:
                raise TypeError(
                    f"{where}: expected tensors of their own memory, got one of from_numpy at {k}; "
                    "use tg.Tensor(array)"
                )
            if any(p is earlier for earlier in self.params[:k]):
                raise ValueError(f"{where}: expected each parameter once, got one again at {k}")
        if not lr >= 0:
            raise ValueError(f"{where}: expected lr of at least 0, got {lr}")
        self.lr, self.steps = lr, [0] * len(self.params)  # a parameter without gradient waits
        self.state = [{s: np.zeros_like(p._data) for s in self.slots} for p in self.params]

    def update(self, p: np.ndarray, g: np.ndarray, state: dict[str, np.ndarray], t: int) -> None:
        """Change one parameter in place, for the t-th time."""
        raise NotImplementedError

    def step(self) -> None:
        """Update every parameter that has a gradient."""
        with np.errstate(all="ignore"):
            for k, (p, state) in enumerate(zip(self.params, self.state, strict=True)):
                if p.grad is not None:
                    self.steps[k] += 1
                    self.update(p._data, p.grad._data, state, self.steps[k])
                    touch(p)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for p in self.params:
            if p.requires_grad:
                p.grad = None

    def state_dict(self) -> dict[str, np.ndarray]:
        """All that changes from step to step, as arrays: a resume with them is exact."""
        arrays = {f"{s}.{k}": a.copy() for k, d in enumerate(self.state) for s, a in d.items()}
        return arrays | {"steps": np.array(self.steps), "lr": np.array(self.lr, np.float64)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set what `state_dict` returned; names, shapes and kinds must agree, or nothing is
        changed."""
        own, given = self.state_dict(), {n: np.asarray(a) for n, a in state.items()}
        wrong = sorted(own.keys() ^ given.keys()) or [
            n
            for n, a in own.items()
            if given[n].shape != a.shape or not np.can_cast(given[n].dtype, a.dtype, "same_kind")
        ]
        if wrong:
            raise ValueError(
                f"load_state_dict: expected the state of this {type(self).__name__}, "
                f"got another at {wrong[:3]}"
            )
        arrays = {n: given[n].astype(a.dtype) for n, a in own.items()}
        self.state = [{s: arrays[f"{s}.{k}"] for s in d} for k, d in enumerate(self.state)]
        self.steps, self.lr = arrays["steps"].tolist(), float(arrays["lr"])
