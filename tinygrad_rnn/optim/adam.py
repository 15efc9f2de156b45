"""Adam."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.optim.optimizer import Optimizer


class Adam(Optimizer):
    """Steps scaled by running moments of the gradient.

        m ← β₁ m + (1 - β₁) g;  v ← β₂ v + (1 - β₂) g²
        p ← p - lr · (m / (1 - β₁ᵗ)) / (√(v / (1 - β₂ᵗ)) + ε)

    Args:
        params: tensors with requires_grad.
        lr: learning rate.
        betas: decay of the two moments, each in [0, 1).
        eps: ε, added to the denominator, at least 0.

    t counts the steps of each parameter: those in which it had a gradient.

    Kingma & Ba (2015), Adam: A Method for Stochastic Optimization, Algorithm 1.

    >>> import tinygrad_rnn as tg
    >>> x = tg.Tensor([1.0], requires_grad=True)
    >>> optimizer = tg.optim.Adam([x], lr=0.1)
    >>> (x * x).sum().backward(); optimizer.step()
    >>> round(x.item(), 4)
    0.9
    """

    slots = ("exp_avg", "exp_avg_sq")

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(params, lr)
        if len(betas) != 2 or not all(0 <= b < 1 for b in betas):
            raise ValueError(f"Adam: expected two betas in [0, 1), got {betas}")
        if not eps >= 0:
            raise ValueError(f"Adam: expected eps of at least 0, got {eps}")
        self.betas, self.eps = betas, eps

    def update(self, p: np.ndarray, g: np.ndarray, state: dict[str, np.ndarray], t: int) -> None:
        (b1, b2), m, v = self.betas, state["exp_avg"], state["exp_avg_sq"]
        m *= b1
        m += (1 - b1) * g
        v *= b2
        v += (1 - b2) * (g * g)
        size = self.lr / (1 - b1**t)
        p -= size * m / (np.sqrt(v) / math.sqrt(1 - b2**t) + self.eps)
